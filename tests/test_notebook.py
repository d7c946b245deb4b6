"""Looking through notes, and who was shown them: real databases, a real MCP client."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import anyio
import pytest
from mcp import Client

from stratum.config import Settings
from stratum.errors import InvalidInput, StoreUnavailable
from stratum.mcp_server import build_server
from stratum.memory import Memory
from stratum.models import NoteUse
from stratum.store import open_store
from tests.web_process import until


def uses(memory: Memory, id_: str) -> dict[str, int]:
    """Return how often a note was shown, by agent."""
    return {use.agent: use.count for use in memory.detail(id_).uses}


def test_states_part_the_notes(memory: Memory) -> None:
    kept = memory.write("Kept").note.id
    old = memory.write("Old").note.id
    new = memory.write("New", supersedes=old).note.id
    gone = memory.write("Gone").note.id
    memory.forget(gone)
    wrong = memory.write("Wrong").note.id
    memory.reject(wrong)
    right = memory.write("Right").note.id
    memory.accept(right)
    listed = {
        state: {row.id for row in memory.notebook.page(state=state).notes}
        for state in (
            "all",
            "living",
            "proposed",
            "accepted",
            "rejected",
            "forgotten",
            "superseded",
        )
    }
    assert listed["all"] == {kept, old, new, gone, wrong, right}
    assert listed["living"] == {kept, new, right}
    assert listed["proposed"] == {kept, new}
    assert listed["accepted"] == {right}
    assert listed["rejected"] == {wrong}
    assert listed["forgotten"] == {gone}
    assert listed["superseded"] == {old}
    for state, ids in listed.items():
        assert memory.notebook.page(state=state, limit=1).total == len(ids)


def test_notes_of_another_project_are_neither_listed_nor_judged(
    memory: Memory, settings: Settings, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.py").write_text("A = 1\n", encoding="utf-8")
    with Memory(settings, other) as foreign:
        foreign.index(vectors=False)
        id_ = foreign.write("Theirs").note.id
    assert memory.notebook.page(state="all").total == 0
    assert memory.notebook.freshness([id_]) == {}
    with pytest.raises(InvalidInput, match="another project"):
        memory.detail(id_)


@pytest.mark.parametrize(
    "wrong", [{"state": "x"}, {"order": "x"}, {"limit": 0}, {"limit": 501}, {"offset": -1}]
)
def test_a_page_that_makes_no_sense_is_refused(memory: Memory, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        memory.notebook.page(**wrong)  # type: ignore[arg-type]


def test_a_place_that_is_gone_stays_on_the_map(memory: Memory, repository: Path) -> None:
    memory.write("About the page", anchors=["web/render.js"])
    (repository / "web" / "render.js").unlink()
    memory.index(vectors=False)
    judged = memory.check().freshness
    [node] = memory.map("web", judged).nodes
    assert (node.name, node.files, node.notes, node.stale) == ("render.js", 0, 1, 1)
    [folder] = [node for node in memory.map("", judged).nodes if node.name == "web"]
    assert (folder.kind, folder.files, folder.stale) == ("folder", 0, 1)


def test_shown_notes_are_counted_a_moment_later_and_change_no_order(memory: Memory) -> None:
    first = memory.write("Carts are blue", anchors=["shop/cart.py"]).note.id
    second = memory.write("Carts are green", anchors=["shop/cart.py"]).note.id
    before = memory.search("carts", explain=True)
    for _ in range(30):
        memory.uses.add([second], "tester")
    assert until(lambda: uses(memory, second) == {"tester": 30}, 10)
    assert uses(memory, first) == {}
    assert memory.search("carts", explain=True) == before
    assert [row.id for row in memory.notebook.page(order="most_used").notes] == [second, first]


def test_what_waits_is_written_when_the_memory_is_closed(
    settings: Settings, repository: Path
) -> None:
    with Memory(settings, repository) as memory:
        memory.index(vectors=False)
        id_ = memory.write("Carts are blue").note.id
        memory.showed(memory.search("carts blue"), "one")
        memory.showed(memory.pack("carts blue"), "one")
        memory.showed(memory.get(id_), "two")
    with Memory(settings, repository) as memory:
        assert uses(memory, id_) == {"one": 2, "two": 1}
        [day] = {use.day for use in memory.detail(id_).uses}
        assert memory.detail(id_).uses[0] == NoteUse("one", day, 2)


def test_counting_waits_for_nobody_and_fails_in_silence(
    settings: Settings, repository: Path
) -> None:
    memory = Memory(settings, repository)
    memory.index(vectors=False)
    id_ = memory.write("Carts are blue").note.id
    found = memory.search("carts blue")
    with contextlib.closing(open_store(settings.database)) as busy, busy.transaction():
        begun = time.monotonic()
        memory.showed(found, "one")
        assert time.monotonic() - begun < 0.1
        memory.close()  # gives up: the write lock is held
        assert time.monotonic() - begun < 5
    with Memory(settings, repository) as again:
        assert uses(again, id_) == {}


def test_what_could_not_be_counted_is_counted_with_the_next(
    settings: Settings, repository: Path
) -> None:
    with Memory(settings, repository) as memory:
        memory.index(vectors=False)
        id_ = memory.write("Carts are blue").note.id
        with contextlib.closing(open_store(settings.database)) as busy, busy.transaction():
            memory.uses.add([id_], "one")
            time.sleep(3)
        memory.uses.add([id_], "one")
        assert until(lambda: uses(memory, id_) == {"one": 2}, 10)


def test_counting_brings_no_removed_database_back(settings: Settings, repository: Path) -> None:
    with Memory(settings, repository) as memory:
        memory.index(vectors=False)
        id_ = memory.write("Carts are blue").note.id
        for found in settings.database.parent.glob("stratum.db*"):
            found.unlink()
        memory.uses.add([id_], "one")
        time.sleep(3)
        assert not settings.database.exists()
        with pytest.raises(StoreUnavailable):
            memory._another_store()


def test_an_agent_is_counted_by_its_clients_name(memory: Memory) -> None:
    id_ = memory.write("Carts are blue", anchors=["shop/cart.py"]).note.id

    async def ask() -> None:
        async with Client(build_server(lambda: memory)) as client:
            await client.call_tool("memory_search", {"query": "carts blue"})
            await client.call_tool("memory_pack", {"task": "carts blue"})
            await client.call_tool("memory_get", {"id": id_})
            await client.call_tool("memory_outline", {"path": "shop/cart.py"})

    anyio.run(ask)
    assert until(lambda: sum(uses(memory, id_).values()) == 4, 10)
    [agent] = uses(memory, id_)
    assert agent not in ("", "unknown", "page")


def test_ids_that_are_no_notes_are_not_counted(memory: Memory) -> None:
    code = memory.search("expire old carts").hits[0].id
    memory.uses.add([code, "aaaaaaaaaaaa"], "one")
    time.sleep(3)
    assert memory._store()._rows("SELECT * FROM note_use") == []


def test_the_journal_says_what_was_done(memory: Memory, repository: Path) -> None:
    id_ = memory.write("Totals", kind="gotcha", anchors=["shop/cart.py::Cart.total_price"]).note.id
    file = repository / "shop" / "cart.py"
    file.write_text(
        file.read_text(encoding="utf-8").replace("net *", "2 * net *"), encoding="utf-8"
    )
    memory.verify(id_)
    memory.verify(id_, undo=True)
    assert [(event.verb, event.text) for event in memory.detail(id_).history] == [
        ("unverify", ""), ("verify", "at 1 place"), ("write", "gotcha, personal"),
    ]  # fmt: skip
