"""Processes that are killed at random moments of their work, and what the next one finds."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from stratum.config import Settings
from stratum.memory import Memory
from stratum.migrations import MIGRATIONS, SCHEMA_VERSION
from stratum.store import open_store
from tests import make_database_fixture as fixture
from tests.conftest import make_repository

START_WITHIN = 60.0  # seconds: only how long a hung test takes to fail
FILES, NOTES = 250, 2_000

# The child says "ready", does its work over and over or once, and says "done".
PRELUDE = """
import json, sys
from pathlib import Path
from stratum.config import load
from stratum.memory import Memory

home, root = sys.argv[1:3]
environ = {"STRATUM_HOME": home, "STRATUM_EMBED_MODEL": "hashing", "STRATUM_AUTHOR": "Ada"}
memory = Memory(load(environ), Path(root))

def say(word):
    print(word, flush=True)
"""
INDEX = PRELUDE + 'memory.status(); say("ready"); memory.index(); say("done")'
IMPORT = (
    PRELUDE
    + """
lines = Path(sys.argv[3]).read_text().splitlines()
memory.status()
say("ready")
memory.import_(lines)
say("done")
"""
)
REEMBED = (
    PRELUDE
    + """
from stratum import embedder

class Changed(embedder.HashingEmbedder):
    @property
    def fingerprint(self):
        return "another-model"

memory._embedder, memory._embedder_opened = Changed(), True
memory.status()
say("ready")
memory.reembed()
say("done")
"""
)
CHECKPOINT = (
    PRELUDE
    + """
import threading
import apsw

def fold():
    db = apsw.Connection(str(memory.settings.database))
    db.set_busy_timeout(1000)
    while True:
        try:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except apsw.BusyError:
            pass

memory.status()
threading.Thread(target=fold, daemon=True).start()
say("ready")
number = 0
while True:
    number += 1
    say(memory.write(f"note {sys.argv[3]} {number} " + "of many words " * 300).note.id)
"""
)
MIGRATE = """
import sys
from pathlib import Path
from stratum.migrations import MIGRATIONS
from stratum.store import open_store
from tests.test_crash import count_to_many

print("ready", flush=True)
open_store(Path(sys.argv[1]), migrations=(*MIGRATIONS, count_to_many)).close()
print("done", flush=True)
"""


def count_to_many(db: apsw.Connection) -> None:
    """Migrate slowly enough to be hit."""
    db.execute("CREATE TABLE many (number INTEGER, text TEXT)")
    db.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
        " INSERT INTO many SELECT i, hex(randomblob(30)) FROM n"
    )


def killed(code: str, *words: str, after: float | None) -> tuple[list[str], float]:
    """Run `code` and kill it `after` seconds from "ready"; return its whole lines and its time."""
    command = [sys.executable, "-c", code, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"ready\n"
            begun = time.monotonic()
            # the end of the process or the moment of the kill, whichever comes first
            try:
                child.wait(START_WITHIN if after is None else after)
            except subprocess.TimeoutExpired:
                assert after is not None, "the work never ended"
            seconds = time.monotonic() - begun
        finally:
            child.kill()
        said = child.stdout.read().decode().split("\n")[:-1]  # an unfinished line was not said
    return said, seconds


def moments(count: int, within: float) -> list[float]:
    """Return when to kill: spread over the whole work, each at a random place of its part."""
    rng = random.Random(7)
    return [within * (part + rng.random()) / count for part in range(count)]


def problems(settings: Settings) -> list[str]:
    store = open_store(settings.database)
    try:
        return store.check()
    finally:
        store.close()


@pytest.fixture
def words(settings: Settings, tmp_path: Path) -> list[str]:
    """Home and root of a repository of many small files, as the children take them."""
    root = tmp_path / "shop"
    root.mkdir()
    make_repository(
        root,
        {
            f"m{i}.py": "".join(f"def step{i}_{j}(order):\n    return {j}\n" for j in range(8))
            for i in range(FILES)
        },
    )
    return [str(settings.database.parent), str(root)]


def test_an_index_run_that_is_killed_is_finished_by_the_next(
    settings: Settings, words: list[str], tmp_path: Path
) -> None:
    root = Path(words[1])
    with Memory(settings, root) as memory:
        note = memory.write("Step three is slow.", anchors=["m3.py::step3_3"]).note
    _, whole = killed(INDEX, str(tmp_path / "measured"), words[1], after=None)
    for moment in moments(6, whole):
        killed(INDEX, *words, after=moment)
        assert problems(settings) == []
    with Memory(settings, root) as memory:
        report = memory.index()
        assert (report.files, report.interrupted, report.vectors_pending) == (FILES, False, 0)
        status = memory.status()
        assert (status.counts["symbols"], status.counts["notes"]) == (8 * FILES, 1)
        assert status.embedder.vectors == 9 * FILES + 1
        for name in ("step0_0", f"step{FILES - 1}_7"):
            assert memory.search(name).hits[0].title == name
        assert memory.get(note.id).freshness == "fresh"


def test_reembedding_that_is_killed_is_finished_by_the_next(
    settings: Settings, words: list[str], tmp_path: Path
) -> None:
    with Memory(settings, Path(words[1])) as memory:
        memory.index()
        vectors = memory.status().embedder.vectors
    measured = tmp_path / "measured"
    shutil.copytree(words[0], measured)
    said, whole = killed(REEMBED, str(measured), words[1], after=None)
    assert said == ["done"]
    for moment in moments(5, whole):
        killed(REEMBED, *words, after=moment)
        assert problems(settings) == []
    killed(REEMBED, *words, after=None)
    store = open_store(settings.database)
    assert [(space.fingerprint, store.count_vectors(space.id, None)) for space in store.spaces()] \
        == [("another-model", vectors)]  # fmt: skip
    assert store.check() == []
    store.close()


def test_an_import_that_is_killed_has_stored_all_or_nothing(
    settings: Settings, words: list[str], tmp_path: Path
) -> None:
    with Memory(settings, Path(words[1])) as memory:
        kept = memory.write("This one was here before.").note
        header, line = memory.export()
    plain = json.loads(line)
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    lines = [header]
    for number in range(NOTES):
        id_ = "".join(letters[number >> shift & 31] for shift in (10, 5, 0)) + "a" * 9
        lines.append(json.dumps({**plain, "id": id_, "text": f"Note number {number}."}))
    export = tmp_path / "export.jsonl"
    export.write_text("\n".join(lines))
    _, whole = killed(IMPORT, str(tmp_path / "measured"), words[1], str(export), after=None)
    for moment in moments(6, whole):
        said, _ = killed(IMPORT, *words, str(export), after=moment)
        with Memory(settings, Path(words[1])) as memory:
            count = memory.status().counts["notes"]
            assert count in ((1 + NOTES,) if "done" in said else (1, 1 + NOTES))
            assert memory.get(kept.id).text == kept.text
        assert problems(settings) == []
        if count > 1:  # the next kill is to meet an import that has something to store
            for file in settings.database.parent.glob("stratum.db*"):
                file.unlink()
            with Memory(settings, Path(words[1])) as memory:
                memory.import_([header, line])
    with Memory(settings, Path(words[1])) as memory:
        assert memory.import_(lines).created == NOTES


def test_notes_survive_a_kill_while_the_log_is_folded_into_the_file(
    settings: Settings, words: list[str]
) -> None:
    acknowledged: list[str] = []
    for number, moment in enumerate(moments(6, 0.6)):
        said, _ = killed(CHECKPOINT, *words, str(number), after=moment)
        acknowledged += said
        assert problems(settings) == []
    with Memory(settings, Path(words[1])) as memory:
        stored = {json.loads(line)["id"] for line in list(memory.export())[1:]}
        assert acknowledged
        assert set(acknowledged) <= stored


def test_a_migration_that_is_killed_is_made_by_the_next(tmp_path: Path) -> None:
    old = fixture.FOLDER / f"v{SCHEMA_VERSION}.db"
    migrations = (*MIGRATIONS, count_to_many)
    measured = tmp_path / "measured.db"
    shutil.copy(old, measured)
    _, whole = killed(MIGRATE, str(measured), after=None)
    for number, moment in enumerate(moments(6, whole)):
        path = tmp_path / str(number) / "stratum.db"
        path.parent.mkdir()
        shutil.copy(old, path)
        killed(MIGRATE, str(path), after=moment)
        store = open_store(path, migrations=migrations)
        assert store.schema_version() == SCHEMA_VERSION + 1
        assert store.note(fixture.NOTE.id) == fixture.NOTE
        assert store.check() == []
        store.close()
        backup = open_store(path.with_name(f"stratum.db.v{SCHEMA_VERSION}.backup"))
        assert backup.schema_version() == SCHEMA_VERSION
        assert backup.note(fixture.NOTE.id) == fixture.NOTE
        backup.close()
