"""What a process that works on tasks gives to each arm, and that nothing of the answers leaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stratum_bench.agent_memory import notes_of
from stratum_bench.agent_worker import AgentSpec, Part, is_write, work
from stratum_bench.retrieval_tasks import Task, load_tasks
from stratum_bench.retrieval_worker import environ_for
from stratum_bench.trace import Called, Ended, Event, Started

from stratum import Filters, Memory, load
from tests.conftest import git
from tests.test_agent_run import (
    BUDGET,
    EARLIER,
    GOOD,
    LATER,
    Depot,
    calls,
    course,
    ends,
    environ,
    make_depot,
    writes,
)

PAST = Filters(stratum="history")


@pytest.fixture(scope="module")
def depot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Depot]:
    folder = tmp_path_factory.mktemp("depot")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ(folder).items():
            patch.setenv(name, value)
        yield make_depot(folder)


@pytest.fixture
def tasks(depot: Depot) -> tuple[Task, ...]:
    return tuple(load_tasks([depot.folder / "good.jsonl"], depot.folder / "gold.jsonl"))


def part_of(depot: Depot, folder: Path, tasks: tuple[Task, ...], *arms: str, **more: Any) -> Part:
    spec = AgentSpec(profile="unfamiliar", budget=BUDGET)
    return Part(depot.repository, folder, tasks, arms, spec, "none", **more)


def store_of(folder: Path, project: str = "clone") -> Memory:
    """Open the memory of a part as another process would."""
    return Memory(load(environ_for(folder / "home", "none")), folder / project)


def worked(part: Part, also: Callable[[Event], None] = lambda event: None) -> list[Event]:
    """Do a part here and return the events; `also` is called with each as it comes."""
    heard: list[Event] = []

    def say(event: Event | str) -> None:
        if not isinstance(event, str):
            heard.append(event)
            also(event)

    work(part, say)
    return heard


def test_a_store_holds_what_agents_wrote_and_no_commit_of_the_future(
    depot: Depot, tmp_path: Path, tasks: tuple[Task, ...]
) -> None:
    written: list[str] = []
    looked_at: list[int] = []

    def look(event: Event) -> None:
        if is_write(event):
            written.append(str(event.arguments["text"]))
        if isinstance(event, Ended) and event.arm == "stratum":
            with store_of(tmp_path) as store:
                assert sorted(note["text"] for note in notes_of(store)) == sorted(written)
            looked_at.append(len(written))

    events = worked(part_of(depot, tmp_path, tasks, "stratum", "file"), look)
    assert len(looked_at) == len(tasks)
    assert looked_at[-1] == len(writes(events)) >= 2
    read: dict[str, set[str]] = {}
    for event in events:
        if isinstance(event, Called) and event.tool == "read_file":
            read.setdefault(event.task, set()).add(str(event.arguments["path"]))
    for note in writes(events):  # an agent can only write of what it has looked at
        assert {anchor.partition(":")[0] for anchor in note.arguments["anchors"]} <= read[note.task]
    with store_of(tmp_path) as store:
        found = {word: store.search(word, filters=PAST, limit=10).hits for word in (EARLIER, LATER)}
        assert any(EARLIER in str(hit) for hit in found[EARLIER])
        assert not any(depot.later[:10] in hit.origin for hit in found[LATER])
        assert not any(f"about the {LATER}" in str(hit) for hit in found[LATER])
        assert not any(hit.path.endswith(f"{LATER}.py") for hit in store.search(LATER).hits)
    # the commit is there, in the clone's own objects: it is the memory that does not tell of it
    assert git(tmp_path / "clone", "cat-file", "-t", depot.later) == "commit"


def test_a_note_that_no_agent_wrote_stops_the_task(
    depot: Depot, tmp_path: Path, tasks: tuple[Task, ...]
) -> None:
    def plant(event: Event) -> None:
        if isinstance(event, Ended) and (event.task, event.arm) == (GOOD[1], "stratum"):
            with store_of(tmp_path) as store:
                store.write("Look at depot/courier.py.", anchors=["depot/courier.py"])

    events = worked(part_of(depot, tmp_path, tasks, "stratum", "file"), plant)
    for (task, arm), end in ends(events).items():
        if task in GOOD[:2]:
            assert end.outcome != "ERROR", (task, arm)
        else:
            assert end.outcome == "ERROR"
            assert end.reason == (
                "error: A note is in the memory that no agent wrote in an earlier task."
                " Give another --work folder."
            )


def test_notes_of_a_run_before_are_not_there(
    depot: Depot, tmp_path: Path, tasks: tuple[Task, ...]
) -> None:
    part = part_of(depot, tmp_path, tasks[:2], "stratum", "file")
    first = worked(part)
    assert writes(first)
    with store_of(tmp_path) as store:
        store.write("Planted between two runs.", anchors=["depot/courier.py"])
    assert course(worked(part)) == course(first)


@pytest.mark.parametrize("arms", [("stratum", "file"), ("oracle", "wrong")], ids=" ".join)
def test_a_part_that_goes_on_says_the_same(
    depot: Depot, tmp_path: Path, tasks: tuple[Task, ...], arms: tuple[str, ...]
) -> None:
    two = (tasks[0], tasks[2])  # both learn something
    whole = worked(part_of(depot, tmp_path / "whole", two, *arms))
    notes = [note.arguments for note in writes(whole) if note.task == two[0].id]
    later = worked(
        part_of(
            depot, tmp_path / "later", two, *arms,
            done=frozenset((two[0].id, arm) for arm in arms), written={two[0].id: notes},
        )
    )  # fmt: skip
    assert {task for task, _ in course(later)} == {two[1].id}
    for arm in arms:
        assert course(later)[two[1].id, arm] == course(whole)[two[1].id, arm]
    # and when only the second arm of a task is left, its first one is not asked again
    half = worked(
        part_of(
            depot, tmp_path / "half", two, *arms,
            done=frozenset({(two[0].id, arms[0])}), written={two[0].id: notes},
        )
    )  # fmt: skip
    assert course(half)[two[0].id, arms[1]] == course(whole)[two[0].id, arms[1]]
    assert (two[0].id, arms[0]) not in course(half)


def test_what_oracle_and_wrong_are_told_is_gone_after_each(
    depot: Depot, tmp_path: Path, tasks: tuple[Task, ...]
) -> None:
    during: list[set[str]] = []

    def look(event: Event) -> None:
        if isinstance(event, Called) and event.tool == "memory_pack":
            with store_of(tmp_path) as store:
                during.append(
                    {note["text"].rpartition(" is decided in ")[2] for note in notes_of(store)}
                )

    events = worked(part_of(depot, tmp_path, tasks[:2], "oracle", "wrong"), look)
    assert [event.outcome for event in events if isinstance(event, Ended)].count("ERROR") == 0
    assert [len(notes) for notes in during] == [1, 1, 1, 1]
    for (oracle, wrong), task in zip(
        zip(during[::2], during[1::2], strict=True), tasks[:2], strict=True
    ):
        [right], [other] = oracle, wrong
        assert right.startswith(task.gold_files[0])
        assert "::" in right  # the edited lines are known, so the definition is named
        assert not other.startswith(task.gold_files[0])
    with store_of(tmp_path) as store:
        assert notes_of(store) == []


def test_an_off_topic_memory_tells_of_its_own_project_alone(
    depot: Depot, tmp_path: Path, tasks: tuple[Task, ...]
) -> None:
    events = worked(part_of(depot, tmp_path, tasks[:2], "bare", "off-topic"))
    for task in tasks[:2]:
        told = course(events)
        pack = next(e for e in told[task.id, "off-topic"] if isinstance(e, Called))
        assert pack.tool == "memory_pack"
        assert "depot/" not in pack.result
        assert "was part of" not in pack.result  # each task meets it as if it were the first
        assert "memory_pack" not in [name for name, _, _ in calls(told[task.id, "bare"])]
        start = told[task.id, "off-topic"][0]
        assert isinstance(start, Started)
        assert start.tools > 0


def test_a_clone_that_cannot_be_made_is_said_for_each_task(
    tmp_path: Path, depot: Depot, tasks: tuple[Task, ...]
) -> None:
    part = part_of(
        depot, tmp_path, tasks[:2], "bare", "off-topic", done=frozenset({(GOOD[0], "bare")})
    )
    nothing = replace(part, source=tmp_path / "nothing")
    found = ends(worked(nothing))
    assert set(found) == {(GOOD[0], "off-topic"), (GOOD[1], "bare"), (GOOD[1], "off-topic")}
    assert {end.outcome for end in found.values()} == {"ERROR"}
    assert all(end.reason.startswith("error: git clone failed: ") for end in found.values())


def test_an_agent_that_cannot_be_made_spares_the_next_task(
    depot: Depot, tmp_path: Path, tasks: tuple[Task, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STRATUM_BENCH_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    spec = AgentSpec(kind="chat", model="m", base_url="https://api.example.org/v1")
    part = replace(part_of(depot, tmp_path, tasks[:2], "oracle", "wrong"), spec=spec)
    for end in ends(worked(part)).values():
        assert end.reason.startswith("error: There is no key for api.example.org. Set ")
    with store_of(tmp_path) as store:
        assert notes_of(store) == []  # what was planted for them did not stay


def test_a_folder_that_cannot_be_made_is_said_for_each_task(
    depot: Depot, tmp_path: Path, tasks: tuple[Task, ...]
) -> None:
    (tmp_path / "0").write_text("no folder", encoding="utf-8")
    found = ends(worked(part_of(depot, tmp_path / "0", tasks[:2], "bare", "off-topic")))
    assert len(found) == 4
    for end in found.values():
        assert end.outcome == "ERROR"
        assert end.reason.startswith(f"error: {tmp_path / '0'} cannot be used: ")


def test_the_server_gives_what_the_memory_in_this_process_gives(
    depot: Depot, tmp_path: Path, tasks: tuple[Task, ...]
) -> None:
    part = part_of(depot, tmp_path / "here", (tasks[0], tasks[2]), "stratum")
    here = course(worked(part))
    through = replace(part, folder=tmp_path / "there", spec=replace(part.spec, mcp=True))
    there = course(worked(through))
    assert list(here) == list(there)
    first = (GOOD[0], "stratum")
    assert calls(there[first]) == calls(here[first])
    assert there[first][-1] == here[first][-1]
    # The second server ranks with what it has read so far, so its agent may go another way. It has
    # the same tools and instructions, and the note of the first task.
    later = (GOOD[2], "stratum")
    assert there[later][0] == here[later][0]
    assert calls(there[later])[0] == calls(here[later])[0]
    [note] = [one.arguments["text"] for one in writes(here[first])]
    for events in (here[later], there[later]):
        pack = next(event for event in events if isinstance(event, Called))
        assert note[:60] in pack.result
