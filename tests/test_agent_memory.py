"""Memory as an agent meets it: the real server in process and over stdio, and a static file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stratum_bench import off_topic
from stratum_bench.agent_memory import (
    FILE_BUDGET,
    WRITE,
    MemoryTools,
    forget_all,
    notes_in,
    notes_of,
    static_file,
)
from stratum_bench.conversation import count
from stratum_bench.off_topic import make_project
from stratum_bench.retrieval_worker import environ_for

from stratum import Memory, Unavailable, load
from stratum.mcp_server import build_server
from stratum.tokens import count_tokens
from tests.conftest import git

ID = re.compile(r"\b[a-z2-7]{12}\b")
NOTES = (
    {"text": "Expired carts are dropped by a nightly job.", "anchors": ["shop/cart.py"]},
    {"text": "Sessions are never deleted on read.", "anchors": ["shop/session.py"]},
)


@pytest.fixture
def tools(memory: Memory) -> Iterator[MemoryTools]:
    with MemoryTools(memory) as opened:
        yield opened


def written(tools: MemoryTools) -> list[str]:
    """Write the notes and return their ids as an agent sees them."""
    answers = [tools.call(WRITE, note) for note in NOTES]
    assert not any(failed for _, failed in answers)
    return [ID.findall(answer)[0] for answer, _ in answers]


# what a client sees


def test_tools_and_instructions_are_those_of_the_server(tools: MemoryTools) -> None:
    server = build_server(lambda: None)
    manifest = json.loads(
        (Path(__file__).parent.parent / "stratum" / "manifest.json").read_text(encoding="utf-8")
    )
    listed = manifest["results"][manifest["answers"][manifest["fallback"]]["tools/list"]]["tools"]
    assert [(t.name, t.description, dict(t.parameters)) for t in tools.tools] == [
        (tool["name"], tool["description"], tool["inputSchema"]) for tool in listed
    ]
    assert tools.instructions == server.instructions
    assert tools.instructions


def test_a_failure_is_told_from_an_answer(tools: MemoryTools) -> None:
    text, failed = tools.call("memory_pack", {"task": "expired carts"})
    assert not failed
    assert "shop/cart.py" in text
    for name, arguments in (
        ("memory_pack", {}),
        ("memory_pack", {"task": 5}),
        ("memory_pack", {"task": "carts", "budget": -1}),
        ("memory_get", {"id": "aaaaaaaaaaaa"}),
        (WRITE, {"text": "x", "anchors": ["../../etc/passwd"]}),
        (WRITE, {"text": "x", "anchors": [5, None, {"a": []}]}),
        ("memory_forget", {"id": ["x"]}),
        ("no_such_tool", {}),
    ):
        text, failed = tools.call(name, arguments)
        assert failed
        assert text
        assert "Traceback" not in text


# names of notes


def told(root: Path, home: Path) -> list[str]:
    """Return all that memory answers to a fixed dialogue on a fresh home."""
    environ = environ_for(home, "hashing")
    with Memory(load(environ), root) as memory:
        memory.index()
        with MemoryTools(memory) as tools:
            first, second = written(tools)
            asked = [
                ("memory_pack", {"task": "expired carts and sessions"}),
                ("memory_get", {"id": first}),
                ("memory_search", {"query": "sessions", "stratum": "notes"}),
                (WRITE, {"text": "Sessions are deleted on read now.", "supersedes": second}),
                ("memory_forget", {"id": first}),
                ("memory_pack", {"task": "expired carts and sessions"}),
            ]
            answers = [tools.call(name, arguments) for name, arguments in asked]
        assert not any(failed for _, failed in answers)
        living = [note["text"] for note in notes_of(memory)]
        assert living == [NOTES[1]["text"], "Sessions are deleted on read now."]
    return [first, second, *(text for text, _ in answers)]


def test_two_equal_runs_are_equal_to_the_byte(repository: Path, tmp_path: Path) -> None:
    one = told(repository, tmp_path / "home-1")
    other = told(repository, tmp_path / "home-2")
    assert one == other
    assert one[0] in one[2]
    assert one[1] in one[2]


def test_names_look_like_ids_and_hide_the_real_ones(tools: MemoryTools, memory: Memory) -> None:
    names = written(tools)
    assert len(set(names)) == 2
    assert all(ID.fullmatch(name) for name in names)
    real = {note["id"] for note in notes_of(memory)}
    assert not real & set(names)
    pack, _ = tools.call("memory_pack", {"task": "expired carts and sessions"})
    assert not any(id_ in pack for id_ in real)
    assert all(name in pack for name in names)
    # a note that is written twice is the same note
    assert ID.findall(tools.call(WRITE, NOTES[0])[0])[0] == names[0]


def test_a_server_that_comes_later_knows_the_names(memory: Memory) -> None:
    names: dict[str, str] = {}
    with MemoryTools(memory, names=names) as tools:
        first, second = written(tools)
    with MemoryTools(memory, names=names) as tools:
        assert NOTES[0]["text"] in tools.call("memory_get", {"id": first})[0]
        assert not tools.call("memory_verify", {"id": second})[1]
        third = ID.findall(tools.call(WRITE, {"text": "Taxes are a constant."})[0])[0]
    assert len({first, second, third}) == 3
    assert set(names.values()) == {first, second, third}


def test_what_a_pack_says_that_it_costs_is_no_less_than_it_does(
    tools: MemoryTools, memory: Memory
) -> None:
    def told_and_counted(text: str) -> tuple[int, int]:
        told = int(re.findall(r"^(\d+) of 1200 tokens: ", text, re.MULTILINE)[0])
        same = re.sub(r"(?m)^\d+ of 1200 tokens", "1200 of 1200 tokens", text)
        sent = json.dumps({"text": same}, ensure_ascii=False)
        return told, max(count_tokens(same), count_tokens(sent))

    told, counted = told_and_counted(tools.call("memory_pack", {"task": "expired carts"})[0])
    assert told == counted
    ids = written(tools)  # each at the price of the dearest, whatever it is
    told, counted = told_and_counted(tools.call("memory_pack", {"task": "expired carts"})[0])
    assert counted <= told <= counted + 20 * len(ids)


# over stdio


def test_over_stdio_memory_says_what_it_says_in_process(repository: Path, tmp_path: Path) -> None:
    environ = environ_for(tmp_path / "home", "hashing")
    task = {"task": "expired carts are never dropped", "budget": 900}
    names: dict[str, str] = {}
    with Memory(load(environ), repository) as memory:
        memory.index()
        with MemoryTools(memory, names=names) as tools:
            here = (tools.tools, tools.instructions, tools.call("memory_pack", task))
            first, _ = written(tools)
            note = tools.call("memory_get", {"id": first})
            forget_all(memory)
            noted = tools.call("memory_forget", {"id": first, "undo": True})
    assert not noted[1]
    with MemoryTools(environ=environ, cwd=repository, names=names) as tools:
        assert tools.call("memory_get", {"id": first}) == note
        assert first in note[0]
        assert not tools.call("memory_forget", {"id": first})[1]
        assert (tools.tools, tools.instructions, tools.call("memory_pack", task)) == here
        assert tools.call("memory_pack", {})[1]
        # a server that dies is an outage, not an empty answer
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="did not answer"):
            tools.call("memory_pack", task)


def test_a_server_that_does_not_start_is_an_outage(repository: Path, tmp_path: Path) -> None:
    environ = environ_for(tmp_path / "home", "hashing") | {"PYTHONHOME": str(tmp_path)}
    with pytest.raises(Unavailable), MemoryTools(environ=environ, cwd=repository):
        pass


def children() -> list[int]:
    """Return the servers that this process has started."""
    listed = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "pid=,args="], capture_output=True, text=True
    ).stdout
    found = [int(line.split()[0]) for line in listed.splitlines() if "stratum serve" in line]
    assert found
    return found


def test_the_environment_of_a_server_has_nothing_of_its_users_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STRATUM_AUTHOR", "Ada")
    monkeypatch.setenv("STRATUM_TEAM", "x")
    monkeypatch.setenv("SOME_API_KEY", "x")
    environ = environ_for(tmp_path, "hashing")
    assert set(environ) <= {
        "PATH", "HOME", "LANG", "STRATUM_HOME", "STRATUM_EMBED_MODEL", "STRATUM_AUTHOR",
        "STRATUM_OFFLINE",
    }  # fmt: skip
    assert environ["STRATUM_AUTHOR"] == "bench"


# notes as texts


def test_notes_are_told_apart_from_code_and_history(tools: MemoryTools) -> None:
    empty, _ = tools.call("memory_pack", {"task": "expired carts"})
    assert notes_in(empty) == ""
    written(tools)
    pack, _ = tools.call("memory_pack", {"task": "expired carts"})
    assert NOTES[0]["text"] in notes_in(pack)
    assert "## " not in notes_in(pack)
    assert "expire_old_carts(" in pack
    assert "expire_old_carts(" not in notes_in(pack)
    assert notes_in("## Notes\n- a\n## Places\nb.py\n## Notes\n- c\n") == "- a\n\n- c\n"
    assert notes_in("") == ""


def test_notes_come_oldest_first_and_all_are_forgotten(tools: MemoryTools, memory: Memory) -> None:
    texts = [f"Note number {n} about {word}." for n, word in enumerate(("tax", "rows", "html"))]
    for text in texts:
        tools.call(WRITE, {"text": text})
        time.sleep(0.01)
    assert [note["text"] for note in notes_of(memory)] == texts
    forget_all(memory)
    assert notes_of(memory) == []
    pack, _ = tools.call("memory_pack", {"task": "tax rows html"})
    assert not any(text in pack for text in texts)
    forget_all(memory)
    # what was forgotten can be learned anew
    assert not tools.call(WRITE, {"text": texts[0]})[1]
    assert [note["text"] for note in notes_of(memory)] == texts[:1]


def test_the_static_file_holds_the_newest_notes_that_fit() -> None:
    texts = [f"Note {n} says that\n  carts of kind {n * 7919} expire late." for n in range(300)]
    file = static_file(texts)
    head, *lines = file.splitlines()
    assert head.startswith("# ")
    assert lines == [
        f"- Note {n} says that carts of kind {n * 7919} expire late."
        for n in range(299, 299 - len(lines), -1)
    ]
    assert count(file) <= FILE_BUDGET
    # and one more would not have fitted by much
    longer = file + f"- {' '.join(texts[299 - len(lines)].split())}\n"
    assert count(longer) > FILE_BUDGET * 0.9
    assert 0 < len(lines) < 300
    assert static_file(texts[:3], budget=10_000).count("\n- ") == 3
    assert static_file([]) == static_file(texts, budget=5) == ""


@settings(max_examples=50)
@given(st.lists(st.text(max_size=60), max_size=12), st.integers(0, 200))
def test_the_static_file_never_exceeds_its_budget(texts: list[str], budget: int) -> None:
    assert count(static_file(texts, budget)) <= budget


# the memory that knows nothing of a task


def test_the_other_project_is_the_same_each_time(tmp_path: Path) -> None:
    packs, commits = [], []
    for number in range(2):
        root = tmp_path / "off-topic"
        make_project(root)
        assert git(root, "status", "--porcelain") == ""
        commits.append(git(root, "log", "--format=%H %an %ae %cI %s"))
        environ = environ_for(tmp_path / f"home-{number}", "hashing")
        with Memory(load(environ), root) as memory:
            memory.index()
            names: dict[str, str] = {}
            with MemoryTools(memory, names=names) as tools:
                for text, anchor in off_topic.NOTES:
                    assert not tools.call(WRITE, {"text": text, "anchors": [anchor]})[1]
                packs.append(tools.call("memory_pack", {"task": "when are dry beds watered"}))
        time.sleep(1.1)  # another second of the clock, by which commits are named
    assert packs[0] == packs[1]
    assert commits[0] == commits[1]
    assert "herbarium/watering.py" in packs[0][0]
    assert "A garden" in packs[0][0]
