"""Make `fixtures/databases/vN.db`, a database of the current schema, for later versions to open.

Run once before a release that changes the schema and commit the file; never make an old one anew:

    python -m tests.make_database_fixture
"""

from __future__ import annotations

import struct
from pathlib import Path

from stratum.migrations import SCHEMA_VERSION
from stratum.models import Anchor, NewRecord, NewSymbol, Note
from stratum.store import open_store
from stratum.terms import terms

FOLDER = Path(__file__).parent / "fixtures" / "databases"
IDENTITY, ROOT = "example.org/ada/shop", "/home/ada/shop"
AT = "2026-01-31T09:30:00.000Z"
VECTOR = struct.pack("<4f", 0.5, 0.5, 0.5, 0.5)
NOTE = Note(
    id="aaaaaaaaaaaa", text="Totals include the tax.", kind="gotcha", tags=("money",),
    anchors=(Anchor("shop/cart.py", "Cart.total", 3, 9, "b" * 40, "c" * 16),), scope="team",
    trust="accepted", author="Ada", agent="claude-code", commit="d" * 40, branch="main",
    created_at=AT, updated_at=AT,
)  # fmt: skip
FORGOTTEN = Note(
    id="bbbbbbbbbbbb", text="The till is on fire.", kind="todo", tags=(), anchors=(),
    scope="personal", trust="proposed", author="Ada", agent="", commit=None, branch=None,
    created_at=AT, updated_at=AT, deleted_at=AT,
)  # fmt: skip


def record(uid: str, stratum: str, kind: str, title: str, text: str) -> NewRecord:
    """Return a record whose words are those of its text."""
    name_terms, text_terms = " ".join(terms(title)), " ".join(terms(text))
    label = "file" if kind == "file" else stratum
    return NewRecord(uid, stratum, label, kind, title, text, name_terms, text_terms, "", 1)


def main() -> None:
    """Write the fixture of the current schema version."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"v{SCHEMA_VERSION}.db"
    if path.exists():
        raise SystemExit(f"{path} is there already: a fixture is never made anew.")
    store = open_store(path)
    worktree = store.add_worktree(IDENTITY, "shop", ROOT)
    symbol = NewSymbol(
        record("cccccccccccc", "code", "method", "Cart.total", "def total(self)"),
        3, 9, "c" * 16, "def total(self)", "Sum up.",
    )  # fmt: skip
    with store.transaction():
        blob = store.add_blob(
            worktree.project_id, "b" * 40, "python", 1, lines=12, complete=True, symbols=[symbol]
        )
        file = store.add_record(
            worktree.project_id, record("dddddddddddd", "code", "file", "shop/cart.py", "The cart.")
        )
        store.put_entry(worktree.id, "shop/cart.py", blob, file, (100, 200, 300, 400))
        store.mark_indexed(worktree.id, "d" * 40, "main")
        for note in (NOTE, FORGOTTEN):
            words = record(note.id, "notes", note.kind, "", note.text)
            store.add_note(worktree.project_id, note, words, note.id * 2)
        store.add_journal(worktree.project_id, "Ada", "", "write", NOTE.id, {"kind": "gotcha"})
    space = store.add_space("f" * 16, "fixture", 4)
    waiting = store.pending(space.id, None, 10)
    store.put_vectors(space, [(*row, VECTOR) for row in waiting])
    store.close()  # closing folds the write-ahead log into the file


if __name__ == "__main__":
    main()
