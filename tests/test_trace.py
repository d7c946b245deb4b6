"""The trace of a run: what is written is read again, and what a kill left is gone on from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stratum_bench.trace import (
    TRACE,
    Asked,
    Called,
    Ended,
    Event,
    RunStarted,
    Started,
    TaskGiven,
    TraceFile,
    as_line,
    complete_events,
    episodes,
    from_line,
    read_events,
)

from stratum import InvalidInput, NotFound

HEADER = {"seed": 1, "arms": ["bare", "stratum"], "limits": {"steps": 60}}
TASKS = [
    TaskGiven(f"t{n}", n, "o/r", "c" * 40, "2020-01-01", "Title", ("a.py", "b.py"), "none")
    for n in range(3)
]
ODD = 'a\u2028b\x0cc\x85d\x1ce\r\nf\ud83dg"h\\i\0'
KINDS: list[Event] = [
    RunStarted(HEADER | {"odd": ODD}),
    TASKS[0],
    Started("t0", "stratum", 10, 20, 30),
    Asked("t0", "stratum", 1, 100, 50, 9, 3, 60, 0.25, 1.5, ODD),
    Called("t0", "stratum", 1, "grep", {"pattern": ODD, "l": [1, [2]], "n": None}, True, 9, 3, 0.1,
           ODD, True),
    Ended("t0", "stratum", ("a.py",), "PASS", "submitted", ("a.py", ODD), True),
]  # fmt: skip


def episode(task: str, arm: str, outcome: str = "PASS", *, words: str = "") -> list[Event]:
    return [
        Started(task, arm),
        Asked(task, arm, 1, 100, 0, 9, text=words),
        Called(task, arm, 1, "submit", {"files": ["a.py"]}, False, 10, 3),
        Ended(task, arm, ("a.py",), outcome, "submitted"),
    ]


def made(folder: Path, *parts: list[Event], header: dict[str, Any] = HEADER) -> Path:
    """Return the trace of a run that was killed after some events."""
    with TraceFile(folder, header, TASKS) as trace:
        for event in (event for part in parts for event in part):
            trace.add(event)
    return folder / TRACE


# lines


@pytest.mark.parametrize("event", KINDS, ids=lambda event: event.event)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    line = as_line(event)
    assert line.endswith("}\n")
    assert line.isascii()
    assert len(line.splitlines()) == 1  # whoever reads it by lines sees one
    assert from_line(line) == event


@settings(max_examples=100)
@given(
    st.text(st.characters()),
    st.dictionaries(st.text(), st.none() | st.integers() | st.text(st.characters())),
    st.lists(st.text(st.characters())).map(tuple),
)
def test_whatever_is_said_comes_back(
    text: str, arguments: dict[str, Any], names: tuple[str, ...]
) -> None:
    called = Called(text, text, 1, text, arguments, True, 1, 2, 0.5, text)
    ended = Ended(text, text, names, "MISS", text, names)
    assert from_line(as_line(called)) == called
    assert from_line(as_line(ended)) == ended


@pytest.mark.parametrize("event", KINDS, ids=lambda event: event.event)
def test_what_a_later_version_adds_is_passed_over(event: Event) -> None:
    told = json.loads(as_line(event)) | {"later": [1, {"x": 2}], "more": "yes"}
    assert from_line(json.dumps(told)) == event


@pytest.mark.parametrize("event", KINDS[2:], ids=lambda event: event.event)
def test_what_an_earlier_version_did_not_tell_has_its_default(event: Event) -> None:
    told = json.loads(as_line(event))
    optional = [f.name for f in dataclasses.fields(event) if f.default is not dataclasses.MISSING]
    for name in optional:
        del told[name]
    read = from_line(json.dumps(told))
    for one in dataclasses.fields(event):
        expected = one.default if one.name in optional else getattr(event, one.name)
        assert getattr(read, one.name) == expected


@pytest.mark.parametrize(
    "line",
    ["", "{", "[]", "1", "null", '"start"', "{}", '{"event":"later"}', '{"event":["start"]}',
     '{"event":{}}', '{"event":null}', '{"event":"start"}', '{"event":"start","task":"t"}'],
)  # fmt: skip
def test_a_line_that_is_no_event_is_told(line: str) -> None:
    with pytest.raises(ValueError, match="."):
        from_line(line)


# a file


def test_a_run_is_read_from_its_folder_or_its_file(tmp_path: Path) -> None:
    path = made(tmp_path / "run", KINDS[2:])
    expected = [RunStarted(HEADER), *TASKS, *KINDS[2:]]
    assert read_events(tmp_path / "run") == read_events(path) == expected
    assert list(complete_events(path)) == expected


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no trace"):
        read_events(tmp_path)
    (tmp_path / TRACE).write_text(as_line(TASKS[0]))
    with pytest.raises(InvalidInput, match="does not begin"):
        read_events(tmp_path)
    (tmp_path / TRACE).write_text("")
    with pytest.raises(InvalidInput, match="does not begin"):
        read_events(tmp_path)
    (tmp_path / TRACE).write_text(as_line(RunStarted(HEADER)) + '{"event":["start"]}\n')
    with pytest.raises(InvalidInput, match=r"trace.jsonl, line 2 is no event"):
        read_events(tmp_path)
    assert list(complete_events(tmp_path / "gone.jsonl")) == []


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_wherever_a_file_is_cut_what_is_whole_is_kept(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / TRACE
    path.unlink(missing_ok=True)
    made(tmp_path, episode("t0", "bare"), episode("t0", "stratum"))
    whole = path.read_bytes()
    events = list(complete_events(path))
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    assert list(complete_events(path)) == events[: whole[:cut].count(b"\n")]


def test_what_comes_after_a_broken_line_is_not_believed(tmp_path: Path) -> None:
    path = made(tmp_path, episode("t0", "bare"))
    events = list(complete_events(path))
    for broken in (b"\0\0\0\n", b"\xff\xfe\n", b'{"event": []}\n', b"[" * 100_000 + b"\n"):
        path.write_bytes(path.read_bytes() + broken + as_line(Started("t9", "bare")).encode())
        assert list(complete_events(path)) == events
        made(tmp_path)  # an equal run goes on from it
        assert list(complete_events(path)) == events


# going on


def test_only_whole_answers_are_kept(tmp_path: Path) -> None:
    whole, failed = episode("t0", "bare"), episode("t1", "bare", "ERROR")
    begun = episode("t0", "stratum")[:2]
    path = made(tmp_path, whole, failed, begun)
    with path.open("a") as file:
        file.write(as_line(Ended("t0", "stratum", (), "PASS", "submitted"))[:-10])
    with TraceFile(tmp_path, HEADER, TASKS) as trace:
        assert list(trace.kept) == [("t0", "bare")]
        assert trace.kept["t0", "bare"].events == whole
        assert trace.put_aside is None
        # what is asked again stands in the file once
        for event in (*episode("t1", "bare", words="again"), *episode("t0", "stratum")):
            trace.add(event)
    events = read_events(tmp_path)
    assert events == [
        RunStarted(HEADER), *TASKS, *whole, *episode("t1", "bare", words="again"),
        *episode("t0", "stratum"),
    ]  # fmt: skip


@pytest.mark.parametrize("outcome", ["PASS", "MISS", "STALE", "INVENTED"])
def test_every_outcome_but_an_error_is_an_answer(tmp_path: Path, outcome: str) -> None:
    made(tmp_path, episode("t0", "bare", outcome))
    with TraceFile(tmp_path, HEADER, TASKS) as trace:
        assert list(trace.kept) == [("t0", "bare")]


def test_an_answer_that_was_begun_anew_counts_from_there(tmp_path: Path) -> None:
    first, second = episode("t0", "bare", words="one"), episode("t0", "bare", words="two")
    made(tmp_path, first[:3], second)
    with TraceFile(tmp_path, HEADER, TASKS) as trace:
        assert trace.kept["t0", "bare"].events == second


def test_a_trace_of_another_run_is_put_aside(tmp_path: Path) -> None:
    old = made(tmp_path, episode("t0", "bare")).read_bytes()
    other = HEADER | {"seed": 2}
    with TraceFile(tmp_path, other, TASKS) as trace:
        assert trace.put_aside == tmp_path / "trace-1.jsonl"
        assert trace.kept == {}
    assert (tmp_path / "trace-1.jsonl").read_bytes() == old
    assert read_events(tmp_path) == [RunStarted(other), *TASKS]
    # nothing is ever overwritten
    (tmp_path / TRACE).write_text("no trace at all")
    with TraceFile(tmp_path, HEADER, TASKS) as trace:
        assert trace.put_aside == tmp_path / "trace-2.jsonl"
    assert (tmp_path / "trace-1.jsonl").read_bytes() == old
    assert (tmp_path / "trace-2.jsonl").read_text() == "no trace at all"


def test_a_header_is_compared_as_it_is_written(tmp_path: Path) -> None:
    made(tmp_path, episode("t0", "bare"))
    tuples = HEADER | {"arms": ("bare", "stratum")}
    with TraceFile(tmp_path, tuples, TASKS) as trace:
        assert trace.put_aside is None
        assert trace.kept


def test_a_finished_run_stands_in_the_order_of_tasks_and_arms(tmp_path: Path) -> None:
    parts = [(task, arm) for arm in ("stratum", "bare") for task in ("t2", "t0", "t1")]
    mixed = zip(*(episode(*part) for part in parts), strict=True)  # as processes side by side
    with TraceFile(tmp_path, HEADER, TASKS) as trace:
        for events in mixed:
            for event in events:
                trace.add(event)
        finished = trace.finish(("bare", "stratum"))
    assert finished == read_events(tmp_path)
    ordered = [(task, arm) for task in ("t0", "t1", "t2") for arm in ("bare", "stratum")]
    assert finished == [
        RunStarted(HEADER), *TASKS, *(event for part in ordered for event in episode(*part)),
    ]  # fmt: skip
    assert list(episodes(finished)) == ordered
    # to finish what is finished changes nothing
    before = (tmp_path / TRACE).read_bytes()
    with TraceFile(tmp_path, HEADER, TASKS) as trace:
        trace.finish(("bare", "stratum"))
    assert (tmp_path / TRACE).read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [TRACE]


def test_an_event_is_in_the_file_at_once(tmp_path: Path) -> None:
    with TraceFile(tmp_path, HEADER, TASKS) as trace:
        trace.add(Started("t0", "bare"))
        assert list(complete_events(trace.path))[-1] == Started("t0", "bare")
