from __future__ import annotations

import contextlib
import shutil
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from stratum import database
from stratum.errors import NewerStore, StoreUnavailable
from stratum.migrations import MIGRATIONS, SCHEMA_VERSION
from stratum.models import Filters, NewRecord, NewSymbol
from stratum.store import Store, Worktree, derived_id, open_store
from stratum.sync_store import random_id
from tests import make_database_fixture as fixture

OLD_DATABASES = sorted(fixture.FOLDER.glob("v*.db"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "home" / "stratum.db")
    yield opened
    opened.close()


@pytest.fixture
def place(store: Store) -> Worktree:
    return store.add_worktree("example.org/ada/shop", "shop", "/shop")


def add_file(store: Store, place: Worktree, path: str, *names: str) -> None:
    """Index a made-up file whose symbols are called `names`."""
    symbols = [
        NewSymbol(
            NewRecord(
                derived_id(path, name), "code", "code", "function", name, f"def {name}()",
                name.lower(), "def", f"body of {name}", 3,
            ),
            i * 10 + 1, i * 10 + 9, "0" * 16, f"def {name}()", "",
        )
        for i, name in enumerate(names)
    ]  # fmt: skip
    with store.transaction():
        blob = store.add_blob(
            place.project_id, derived_id(path, *names) * 3, "python", 1,
            lines=99, complete=True, symbols=symbols,
        )  # fmt: skip
        file = NewRecord(
            derived_id("file", path, *names), "code", "file", "file", path, "", path, "", "", 2
        )
        store.put_entry(
            place.id, path, blob, store.add_record(place.project_id, file), (1, 2, 3, 4)
        )
        store.raise_generation(place.id)


def found(store: Store, place: Worktree, *terms: str, **filters: str) -> list[str]:
    asked, limits = dict.fromkeys(terms, 1.0), Filters(**filters)
    ids = [id_ for s in ("parts", "files") for id_, _ in store.lexical(place, asked, limits, 10, s)]
    records = store.records(place, ids)
    return [records[id_].title for id_ in ids]


def test_a_new_database_has_the_current_schema(store: Store) -> None:
    assert store.schema_version() == SCHEMA_VERSION == len(MIGRATIONS)


def test_a_transaction_stores_all_or_nothing(store: Store, place: Worktree) -> None:
    record = NewRecord(random_id(), "code", "file", "file", "a.py", "", "a", "", "", 0)
    with pytest.raises(RuntimeError, match="power"), store.transaction():
        store.add_record(place.project_id, record)
        raise RuntimeError("power cut")
    assert store.record_id(record.uid) is None
    assert store.check() == []


def test_an_error_inside_sqlite_rolls_back_and_is_not_hidden(store: Store, place: Worktree) -> None:
    with pytest.raises(apsw.ConstraintError), store.transaction():
        store.put_entry(place.id, "a.py", 4711, 4711, None)
    with store.transaction():
        store.raise_generation(place.id)


def test_ids_are_twelve_characters_that_are_safe_to_type() -> None:
    for id_ in (random_id(), derived_id("a", "b")):
        assert len(id_) == 12
        assert set(id_) <= set("abcdefghijklmnopqrstuvwxyz234567")
    assert derived_id("a", "b") == derived_id("a", "b") != derived_id("ab", "")


def test_words_find_what_stands_in_the_tree_now(store: Store, place: Worktree) -> None:
    add_file(store, place, "a.py", "expire", "load")
    assert found(store, place, "expire") == ["expire"]
    add_file(store, place, "a.py", "load")
    assert found(store, place, "expire") == []
    assert found(store, place, "load") == ["load"]


def test_a_content_that_comes_back_is_not_parsed_again(store: Store, place: Worktree) -> None:
    add_file(store, place, "a.py", "expire")
    first = store.blob(place.project_id, derived_id("a.py", "expire") * 3, "python", 1)
    add_file(store, place, "a.py", "load")
    assert store.blob(place.project_id, derived_id("a.py", "expire") * 3, "python", 1) == first
    assert store.blob(place.project_id, derived_id("a.py", "expire") * 3, "python", 2) is None


def test_another_project_is_never_found(store: Store, place: Worktree) -> None:
    other = store.add_worktree("example.org/ada/other", "other", "/other")
    add_file(store, other, "b.py", "expire")
    assert found(store, place, "expire") == []
    assert found(store, other, "expire") == ["expire"]


def test_two_worktrees_of_a_project_see_their_own_trees(store: Store, place: Worktree) -> None:
    second = store.add_worktree(place.identity, "shop", "/shop-feature")
    add_file(store, place, "a.py", "expire")
    add_file(store, second, "c.py", "refund")
    assert (found(store, place, "expire"), found(store, place, "refund")) == (["expire"], [])
    assert (found(store, second, "expire"), found(store, second, "refund")) == ([], ["refund"])


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"path": "shop"}, ["Cart.load"]),
        ({"path": "shop/a.py"}, ["Cart.load"]),
        ({"path": "sho"}, []),
        ({"symbol": "load"}, ["Cart.load", "load"]),
        ({"symbol": "Cart.load"}, ["Cart.load"]),
        ({"symbol": "art.load"}, []),
        ({"kind": "class"}, []),
        ({"stratum": "notes"}, []),
        ({"since": "2999-01-01"}, []),
    ],
)
def test_filters_limit_what_is_found(
    store: Store, place: Worktree, filters: dict[str, str], expected: list[str]
) -> None:
    add_file(store, place, "shop/a.py", "Cart.load")
    add_file(store, place, "shopping.py", "load")
    assert sorted(found(store, place, "body", "load", **filters)) == expected


def test_quotes_and_operators_in_terms_are_only_text(store: Store, place: Worktree) -> None:
    add_file(store, place, "a.py", "expire")
    for term in ('"', '" OR "', "NEAR(", "*", "expire*", "name:expire", "-", "^"):
        assert found(store, place, term, "expire") == ["expire"]


def test_a_long_query_is_cut_to_its_rarest_terms(store: Store, place: Worktree) -> None:
    common = [f"common{i}" for i in range(40)]
    for i in range(3):
        add_file(store, place, f"f{i}.py", *common)
    add_file(store, place, "g.py", "needle")
    assert found(store, place, *common, "absent", "needle")[0] == "needle"


def test_vectors_are_found_by_nearness_and_only_in_their_project(
    store: Store, place: Worktree
) -> None:
    add_file(store, place, "a.py", "east", "north")
    other = store.add_worktree("example.org/ada/other", "other", "/other")
    add_file(store, other, "b.py", "west")
    space = store.add_space("f" * 16, "test", 8)
    vectors = {"east": 0, "north": 1, "west": 0}
    rows = []
    for id_, title, text in store.pending(space.id, None, 50):
        vector = [0.0] * 8
        vector[vectors.get(title, 2)] = 1.0
        rows.append((id_, title, text, struct.pack("<8f", *vector)))
    assert store.put_vectors(space, rows) == 5
    assert store.put_vectors(space, rows) == 0
    query = struct.pack("<8f", 1, 0.1, 0, 0, 0, 0, 0, 0)
    near = store.nearest(space, place, query, Filters(), 2)
    records = store.records(place, [id_ for id_, _ in near])
    assert [records[id_].title for id_, _ in near] == ["east", "north"]
    assert near[0][1] == pytest.approx(0.995, abs=1e-3)
    only = store.nearest(space, place, query, Filters(symbol="north"), 2)
    assert [id_ for id_, _ in only] == [near[1][0]]
    assert store.count_pending(space.id, None) == 0


def test_the_journal_and_the_outbox_share_the_notes_transaction(
    store: Store, place: Worktree
) -> None:
    words = fixture.record(fixture.NOTE.id, "notes", "gotcha", "", "x")
    with pytest.raises(RuntimeError), store.transaction():
        store.add_note(place.project_id, fixture.NOTE, words, "h")
        raise RuntimeError
    assert store.counts(place)["outbox"] == 0
    assert store.note(fixture.NOTE.id) is None
    with store.transaction():
        store.add_note(place.project_id, fixture.NOTE, words, "h")
    assert store.counts(place)["outbox"] == 1
    assert store.note(fixture.NOTE.id) == fixture.NOTE


def test_a_personal_note_never_enters_the_outbox(store: Store, place: Worktree) -> None:
    words = fixture.record(fixture.FORGOTTEN.id, "notes", "todo", "", "x")
    with store.transaction():
        store.add_note(place.project_id, fixture.FORGOTTEN, words, "h")
    assert store.counts(place)["outbox"] == 0


# opening


def test_a_database_of_a_later_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "stratum.db"
    open_store(path).close()
    db = apsw.Connection(str(path))
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(NewerStore, match="schema is 99") as caught:
        open_store(path)
    assert "upgrade" in caught.value.hint.lower()
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_one_sentence_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "stratum.db"
    path.write_bytes(b"not a database, but longer than a header " * 50)
    with pytest.raises(StoreUnavailable, match="damaged or is not a database"):
        open_store(path)
    assert path.read_bytes().startswith(b"not a database")


def test_a_damaged_page_is_found_by_the_check(tmp_path: Path) -> None:
    path = tmp_path / "stratum.db"
    store = open_store(path)
    place = store.add_worktree("x", "x", "/x")
    for i in range(40):
        add_file(store, place, f"f{i}.py", f"name{i}")
    store.close()
    raw = bytearray(path.read_bytes())
    for offset in range(4096 * 20, len(raw), 4096 * 3):
        raw[offset : offset + 200] = b"\xff" * 200
    path.write_bytes(raw)
    try:
        store = open_store(path)
        problems = store.check()
        store.close()
    except StoreUnavailable as error:
        problems = [error.message]
    assert problems


def test_the_check_sees_what_another_process_wrote(store: Store, place: Worktree) -> None:
    add_file(store, place, "a.py", "first")
    assert found(store, place, "first") == ["first"]
    other = open_store(store.path)
    for i in range(3):
        add_file(other, place, f"b{i}.py", f"name{i}")
    other.close()
    assert store.check() == []


def test_the_check_finds_words_that_the_index_has_lost(store: Store, place: Worktree) -> None:
    add_file(store, place, "a.py", "kept")
    store._db.execute("UPDATE record_fts_content SET c1 = 'other words'")
    assert any("record_fts" in problem for problem in store.check())


def test_a_home_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable, match="cannot be used") as caught:
        open_store(tmp_path / "file" / "below" / "stratum.db")
    assert "STRATUM_HOME" in caught.value.hint


def test_a_locked_database_is_a_retryable_sentence_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 50)
    path = tmp_path / "stratum.db"
    store = open_store(path)
    place = store.add_worktree("x", "x", "/x")
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked by another process") as caught:
        add_file(store, place, "a.py", "f")
    assert caught.value.retryable
    other.execute("ROLLBACK")
    other.close()
    add_file(store, place, "a.py", "f")
    assert found(store, place, "f") == ["f"]
    store.close()


def test_a_full_disk_is_one_sentence_and_loses_nothing(store: Store, place: Worktree) -> None:
    add_file(store, place, "a.py", "kept")
    db = store._db  # the page limit is how SQLite itself tests a full disk
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(StoreUnavailable, match="disk that holds .* is full") as caught:
        for i in range(1000):
            add_file(store, place, f"b{i}.py", *(f"name{i}x{j}" for j in range(50)))
    assert caught.value.retryable
    db.execute("PRAGMA max_page_count = 1000000")
    assert found(store, place, "kept") == ["kept"]
    assert store.check() == []


def test_closing_twice_and_reopening_leaks_no_descriptor(tmp_path: Path) -> None:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        folder = Path("/dev/fd")
    open_store(tmp_path / "stratum.db").close()
    before = len(list(folder.iterdir()))
    for _ in range(20):
        store = open_store(tmp_path / "stratum.db")
        store.close()
        store.close()
    assert len(list(folder.iterdir())) == before


# migrations


@pytest.mark.parametrize("old", OLD_DATABASES, ids=lambda path: path.stem)
def test_every_old_database_opens_with_all_it_held(old: Path, tmp_path: Path) -> None:
    path = tmp_path / "stratum.db"
    shutil.copy(old, path)
    store = open_store(path)
    place = store.worktree(fixture.ROOT)
    assert place is not None
    assert store.schema_version() == SCHEMA_VERSION
    assert store.note(fixture.NOTE.id) == fixture.NOTE
    assert store.note(fixture.FORGOTTEN.id) == fixture.FORGOTTEN
    assert found(store, place, "tax") == [""]
    assert found(store, place, "fire") == []
    outline = store.outline(place.project_id, "b" * 40, "python", 1)
    space = store.space("f" * 16)
    assert space is not None
    near = store.nearest(space, place, fixture.VECTOR, Filters(), 5)
    if old.stem in ("v1", "v2", "v3"):  # the fourth step leaves the code to the next index
        assert (outline, place.indexed_at, len(near)) == (None, None, 1)
    else:
        assert outline is not None
        assert [symbol.name for symbol in outline.symbols] == ["Cart.total"]
        assert len(near) == 3
    assert store.check() == []
    store.close()


def test_there_is_a_fixture_of_every_released_schema() -> None:
    assert [path.stem for path in OLD_DATABASES] == [
        f"v{number}" for number in range(1, SCHEMA_VERSION + 1)
    ]


def add_column(db: apsw.Connection) -> None:
    db.execute("ALTER TABLE note ADD COLUMN mood TEXT")


def test_an_old_database_is_backed_up_before_it_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "stratum.db"
    shutil.copy(OLD_DATABASES[-1], path)
    store = open_store(path, migrations=(*MIGRATIONS, add_column))
    assert store.schema_version() == SCHEMA_VERSION + 1
    store.close()
    backup = path.with_name(f"stratum.db.v{SCHEMA_VERSION}.backup")
    restored = open_store(backup)
    assert restored.note(fixture.NOTE.id) == fixture.NOTE
    assert restored.schema_version() == SCHEMA_VERSION
    restored.close()


def test_openers_at_once_back_up_the_old_database_and_not_a_migrated_one(tmp_path: Path) -> None:
    path = tmp_path / "stratum.db"
    shutil.copy(OLD_DATABASES[-1], path)
    path.with_name(f"stratum.db.v{SCHEMA_VERSION}.backup.part").write_bytes(b"left by a kill")
    start = threading.Barrier(4)

    def opened() -> int:
        start.wait()
        with contextlib.closing(open_store(path, migrations=(*MIGRATIONS, add_column))) as store:
            return store.schema_version()

    with ThreadPoolExecutor(4) as pool:
        versions = [future.result() for future in [pool.submit(opened) for _ in range(4)]]
    assert versions == [SCHEMA_VERSION + 1] * 4
    backups = [found.name for found in tmp_path.iterdir() if "backup" in found.name]
    assert backups == [f"stratum.db.v{SCHEMA_VERSION}.backup"]
    with contextlib.closing(open_store(tmp_path / backups[0])) as backup:
        assert backup.schema_version() == SCHEMA_VERSION


def test_a_backup_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "stratum.db"
    shutil.copy(OLD_DATABASES[-1], path)
    (tmp_path / f"stratum.db.v{SCHEMA_VERSION}.backup").mkdir()
    with pytest.raises(StoreUnavailable):
        open_store(path, migrations=(*MIGRATIONS, add_column))
    assert not [found for found in tmp_path.iterdir() if ".part" in found.name]
    with contextlib.closing(open_store(path)) as store:
        assert store.note(fixture.NOTE.id) == fixture.NOTE


def test_what_is_stored_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "home" / "stratum.db"
    open_store(path).close()
    with contextlib.closing(open_store(path, migrations=(*MIGRATIONS, add_column))):
        modes = {stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_closing_during_a_call_is_one_sentence(store: Store, place: Worktree) -> None:
    store.close()
    with pytest.raises(StoreUnavailable, match="was closed"):
        store.lexical(place, {"cart": 1.0}, Filters(), 10, "parts")


def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "stratum.db"
    shutil.copy(OLD_DATABASES[-1], path)

    def breaks(db: apsw.Connection) -> None:
        add_column(db)
        db.execute("SELECT * FROM nowhere")

    with pytest.raises(apsw.SQLError):
        open_store(path, migrations=(*MIGRATIONS, breaks))
    store = open_store(path)
    assert store.note(fixture.NOTE.id) == fixture.NOTE
    store.close()


def test_many_processes_that_open_at_once_migrate_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "stratum.db"
    code = (
        "import pathlib, stratum.store;"
        f"stratum.store.open_store(pathlib.Path({str(path)!r})).close()"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(8)
    ]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0] * 8, errors
    store = open_store(path)
    assert store.check() == []
    store.close()


def test_threads_share_one_store(store: Store, place: Worktree) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(10):
                add_file(store, place, f"t{number}-{i}.py", f"thread{number}call{i}")
                assert found(store, place, f"thread{number}call{i}")
        except BaseException as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(store.paths(place.id)) == 40
