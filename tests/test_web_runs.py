"""The runs over HTTP: real traces, a real `stratum web`, real runs that are killed and go on."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stratum_bench.compare import compare
from stratum_bench.compare_report import headline
from stratum_bench.measures import measures
from stratum_bench.run_feed import Feed, Tape, read_on
from stratum_bench.runs import Order, RunFolders, is_held
from stratum_bench.trace import (
    TRACE,
    Asked,
    Ended,
    RunStarted,
    TaskGiven,
    TraceFile,
    as_line,
    read_events,
)
from stratum_bench.web_runs import wall

from stratum import InvalidInput, NotFound
from stratum.errors import Claimed
from tests.web_browser import (
    Event,
    Site,
    events_of_run,
    make_depot,
    site,
    slow_model,
    until,
    write_run,
)

ARMS = ("bare", "stratum", "off-topic")


def lines_of(folder: Path) -> list[str]:
    return (folder / TRACE).read_text(encoding="utf-8").splitlines()


# --- figures


def test_measures_are_the_sums_of_the_tasks_that_both_arms_have() -> None:
    comparison = compare(events_of_run(20, ARMS))
    own = {one.name: one for one in measures(comparison)["stratum"]}
    mine = [tally for tally in comparison.tallies if tally.arm == "stratum"]
    bare = [tally for tally in comparison.tallies if tally.arm == "bare"]
    assert own["tokens"].value == sum(tally.tokens for tally in mine)
    assert own["tokens"].baseline == sum(tally.tokens for tally in bare)
    assert own["reads"].value == sum(tally.reads for tally in mine)
    assert own["searches"].baseline == sum(tally.searches for tally in bare)
    assert own["accuracy"].value == sum(tally.solved for tally in mine) / 20
    each = [sum(t.tokens for t in side) / sum(t.solved for t in side) for side in (mine, bare)]
    per_solved = own["tokens_per_solved"]
    assert (per_solved.value, per_solved.baseline) == pytest.approx(each)
    assert per_solved.difference == pytest.approx((each[0] / each[1] - 1) * 100)
    for one in own.values():
        if one.difference is not None:
            assert one.low is not None
            assert one.high is not None
            assert one.low <= one.difference <= one.high
    assert own["cost"].value is None


def test_a_measure_without_anything_solved_is_not_told() -> None:
    events = [
        dataclasses.replace(event, outcome="MISS") if isinstance(event, Ended) else event
        for event in events_of_run(5, ARMS)
    ]
    own = {one.name: one for one in measures(compare(events))["stratum"]}
    assert own["tokens_per_solved"].value is None
    assert own["tokens_per_solved"].difference is None
    assert own["accuracy"].value == 0.0


def test_the_wall_tells_each_step_with_the_tokens_so_far() -> None:
    events = events_of_run(3, ARMS)
    tiles = wall(events[:-1])
    assert len(tiles) == 9
    first = next(tile for tile in tiles if tile["arm"] == "stratum")
    assert [kind for _, _, kind in first["steps"]] == ["memory", "search", "read"]
    seconds, tokens, _ = zip(*first["steps"], strict=True)
    assert list(seconds) == sorted(seconds)
    assert seconds[-1] == pytest.approx(3 * 9.0 / 1000)
    assert tokens[-1] == first["tokens"] == (800 + 40) + (1060 + 40) + (1320 + 40)
    assert first["solved"] is True
    assert tiles[-1]["solved"] is None  # its end has not come


# --- following a trace


async def heard(
    feed: Feed, count: int, after: str = "", task: str = "", arm: str = ""
) -> list[Event]:
    """Return so many events of a stream; fails when they do not come."""
    found: list[Event] = []
    id_ = after
    async with contextlib.aclosing(
        feed.listen(after, lambda line: line.is_of(task, arm))
    ) as stream:
        async with asyncio.timeout(20):
            async for text in stream:
                for block in text.split("\n\n")[:-1]:
                    told = dict(line.split(": ", 1) for line in block.split("\n"))
                    id_ = told.get("id", id_)
                    if "event" in told:
                        found.append(Event(told["event"], told["data"], id_))
                if len(found) >= count:
                    return found
    raise AssertionError(found)


def feed_of(folder: Path) -> Feed:
    return Feed(folder / TRACE, lambda: {"state": "running"})


def test_a_listener_goes_on_behind_the_last_line_it_has_heard(tmp_path: Path) -> None:
    folder = write_run(tmp_path, events_of_run(3, ARMS))
    lines = lines_of(folder)
    first = asyncio.run(heard(feed_of(folder), len(lines) + 1))
    assert [event.data for event in first if event.name == "trace"] == lines
    assert first[-1].name == "run"
    for at in (0, 1, 17, len(lines) - 1):
        rest = asyncio.run(heard(feed_of(folder), len(lines) - at, first[at].id))
        assert [event.data for event in rest if event.name == "trace"] == lines[at + 1 :]
        assert "reset" not in [event.name for event in rest]


@pytest.mark.parametrize(
    "after", ["7-000000000000", "999999-abcdef", "-1", "x", "3", "1e3-", "٣-a"]
)
def test_a_listener_with_lines_of_another_file_begins_anew(tmp_path: Path, after: str) -> None:
    folder = write_run(tmp_path, events_of_run(2, ARMS))
    lines = lines_of(folder)
    told = asyncio.run(heard(feed_of(folder), len(lines) + 2, after))
    assert told[0].name == "reset"
    assert [event.data for event in told if event.name == "trace"] == lines


def test_lines_that_come_later_are_heard_by_all_and_only_once(tmp_path: Path) -> None:
    events = events_of_run(2, ARMS)
    folder = write_run(tmp_path, events[:5])
    feed = feed_of(folder)

    async def go() -> list[list[Event]]:
        listeners = [asyncio.create_task(heard(feed, len(events) + 1)) for _ in range(3)]
        with (folder / TRACE).open("a", encoding="utf-8") as file:
            for event in events[5:]:
                text = as_line(event)
                file.write(text[:9])  # a line that is not whole is not heard
                file.flush()
                await asyncio.sleep(0.02)
                file.write(text[9:])
                file.flush()
        return await asyncio.gather(*listeners)

    for told in asyncio.run(go()):
        assert [event.data for event in told if event.name == "trace"] == lines_of(folder)


def test_a_run_that_puts_its_lines_in_order_repeats_nothing(tmp_path: Path) -> None:
    events = events_of_run(2, ("bare", "stratum"))
    header, tasks = events[0], [event for event in events if isinstance(event, TaskGiven)]
    later = [event for event in events if getattr(event, "arm", "") == "stratum"]
    sooner = [event for event in events if getattr(event, "arm", "") == "bare"]

    async def go() -> list[Event]:
        with TraceFile(tmp_path, header.header, tasks) as trace:
            for event in [*later, *sooner[:-1]]:
                trace.add(event)
            feed = feed_of(tmp_path)
            listener = asyncio.create_task(heard(feed, len(events) + 1))
            await asyncio.sleep(0.6)
            trace.add(sooner[-1])  # the file is replaced before anybody can have read it
            trace.finish(("bare", "stratum"))
            return await listener

    told = asyncio.run(go())
    assert "reset" not in [event.name for event in told]
    said = [event.data for event in told if event.name == "trace"]
    assert len(said) == len(set(said))
    assert set(said) == set(lines_of(tmp_path))


def test_a_run_that_goes_on_says_that_lines_are_gone(tmp_path: Path) -> None:
    events = events_of_run(2, ("bare", "stratum"))
    header, tasks = events[0], [event for event in events if isinstance(event, TaskGiven)]
    write_run(tmp_path, events[:-3])  # killed in the last task

    async def go() -> list[Event]:
        feed = feed_of(tmp_path)
        listener = asyncio.create_task(heard(feed, 2 * len(events) - 1))
        await asyncio.sleep(0.6)
        with TraceFile(tmp_path, header.header, tasks) as trace:
            kept = len(lines_of(tmp_path))
            for event in events[kept:]:
                again = {"ms": 3.25} if isinstance(event, Asked) else {}  # never twice the same
                trace.add(dataclasses.replace(event, **again))
            return await listener

    told = asyncio.run(go())
    names = [event.name for event in told]
    assert names.count("reset") == 1
    after = told[names.index("reset") + 1 :]
    assert [event.data for event in after if event.name == "trace"] == lines_of(tmp_path)


def test_a_listener_may_ask_for_one_task_alone(tmp_path: Path) -> None:
    folder = write_run(tmp_path, events_of_run(4, ARMS))
    wanted = {"task": "depot-002", "arm": "stratum"}
    own = [
        line
        for line in map(json.loads, lines_of(folder))
        if line["event"] == "run"
        or (line["task"] == "depot-002" and line.get("arm", "stratum") == "stratum")
    ]
    told = asyncio.run(heard(feed_of(folder), len(own) + 1, **wanted))
    assert [event.json() for event in told if event.name == "trace"] == own
    rest = asyncio.run(heard(feed_of(folder), len(own) - 1, told[1].id, **wanted))
    assert [event.json() for event in rest if event.name == "trace"] == own[2:]


def test_a_line_that_is_no_event_ends_what_is_read(tmp_path: Path) -> None:
    events = events_of_run(1, ARMS)
    text = "".join(map(as_line, events[:4])) + "no event\n" + as_line(events[4])
    (tmp_path / TRACE).write_text(text, encoding="utf-8")
    tape, grown = read_on(tmp_path / TRACE, Tape())
    assert grown
    assert len(tape.lines) == 4
    assert read_on(tmp_path / TRACE, tape) == (tape, False)


def test_a_line_cannot_forge_an_event_of_the_stream(tmp_path: Path) -> None:
    events = events_of_run(1, ARMS)
    forged = as_line(events[1]).replace('{"event"', '{\r\r"event"')  # white space to JSON
    (tmp_path / TRACE).write_bytes((as_line(events[0]) + forged).encode())
    told = asyncio.run(heard(feed_of(tmp_path), 2))
    assert all("\r" not in event.data for event in told)
    assert told[1].json() == json.loads(as_line(events[1]))


# --- which runs there are


def test_runs_are_listed_with_what_is_done(tmp_path: Path) -> None:
    events = events_of_run(3, ARMS)
    write_run(tmp_path / "home" / "own-1", events)
    write_run(tmp_path / "home" / "own-2", events[:-1])
    write_run(tmp_path / "more" / "a b<c>", events[:1])
    (tmp_path / "home" / "empty").mkdir()
    write_run(tmp_path / "other" / "own-1", events)
    runs = RunFolders(tmp_path / "home", tmp_path, [tmp_path / "more", tmp_path / "other"])
    found = {run.id: run for run in runs.all()}
    assert len(found) == 4
    assert (found["own-1"].state, found["own-1"].done, found["own-1"].total) == ("finished", 9, 9)
    assert (found["own-2"].state, found["own-2"].done) == ("stopped", 8)
    assert found["own-1"].simulation
    strange = next(run for run in found.values() if run.name == "a b<c>")
    assert strange.id.startswith("run-")
    assert runs.one(strange.id) == strange
    twin = next(id_ for id_ in found if id_.startswith("own-1-"))
    assert runs.folder(twin) == tmp_path / "other" / "own-1"


@pytest.mark.parametrize("id_", ["..", "../own-1", "", "own-1/..", "%2e%2e", "own-9"])
def test_an_id_is_never_a_path(tmp_path: Path, id_: str) -> None:
    write_run(tmp_path / "home" / "own-1", events_of_run(1, ARMS))
    write_run(tmp_path / "secret", events_of_run(1, ARMS))
    with pytest.raises(NotFound):
        RunFolders(tmp_path / "home", tmp_path).folder(id_)


def test_a_run_whose_process_lives_is_running(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "own-1", events_of_run(3, ARMS)[:-1])
    runs = RunFolders(tmp_path, tmp_path)
    code = (
        "import pathlib, sys, time\n"
        "from stratum_bench.retrieval import alone_in\n"
        "with alone_in(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert runs.one("own-1").state == "running"
        with pytest.raises(Claimed, match="elsewhere"):
            runs.stop("own-1")
        holder.kill()
        holder.wait()
    assert runs.one("own-1").state == "stopped"
    assert not is_held(folder / "lock")


@pytest.mark.parametrize(
    "given",
    [
        {"suite": "swebench"},
        {"suite": 3},
        {"arms": "bare"},
        {"arms": ["bare", 1]},
        {"arms": ["stratum"]},
        {"arms": ["bare", "nosuch"]},
        {"limit": -1},
        {"limit": "12"},
        {"limit": True},
        {"limit": 10**9},
        {"agent": "shell"},
        {"agent": "chat"},
        {"agent": "chat", "model": "m", "base_url": "file:///etc/passwd"},
        {"agent": "chat", "model": "m\n--out=x", "base_url": "http://localhost/v1"},
        {"agent": "chat", "model": "m" * 999, "base_url": "http://localhost/v1"},
        {"out": "/etc"},
    ],
)
def test_an_order_that_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Order.of(given)


def test_what_is_ordered_cannot_become_another_option(tmp_path: Path) -> None:
    order = Order.of(
        {"agent": "chat", "model": "--repo=/", "base_url": "http://localhost:1/v1", "limit": 3}
    )
    words = order.words(tmp_path / "out", tmp_path)
    assert "--model=--repo=/" in words
    assert not [word for word in words if word.startswith("--repo")]


# --- over HTTP, with runs in processes of their own


@pytest.fixture(scope="module")
def depot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        return make_depot(tmp_path_factory.mktemp("depot") / "depot")


@pytest.fixture(scope="module")
def saved(depot: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server that only reads; the folder of its runs is `runs` beside its home."""
    folder = tmp_path_factory.mktemp("saved")
    write_run(folder / "runs" / "old", events_of_run(30, ARMS))
    with site(depot, folder / "stratum", "--runs", str(folder / "runs")) as one:
        yield one


@pytest.fixture
def served(depot: Path, tmp_path: Path) -> Iterator[Site]:
    write_run(tmp_path / "runs" / "old", events_of_run(30, ARMS))
    with site(depot, tmp_path / "stratum", "--runs", str(tmp_path / "runs")) as one:
        yield one


def state_of(served: Site, id_: str) -> str:
    return str(served.get(f"/api/runs/{id_}")["state"])


def test_a_run_is_started_watched_and_told(served: Site, depot: Path) -> None:
    assert [run["id"] for run in served.get("/api/runs")] == ["old"]
    wanted = {"suite": "own", "arms": ["bare", "stratum"], "limit": 3}
    answer = served.request("POST", "/api/runs", wanted)
    assert answer.status == 202, answer.body
    run = answer.json()
    assert (run["state"], run["ours"], run["id"]) == ("running", True, "own-1")
    again = served.request("POST", "/api/runs", wanted)
    assert again.status == 409
    assert again.json()["error"]["message"].startswith("The run own-1 is going on")
    with served.events(f"/api/runs/{run['id']}/events") as stream:
        told = []
        for event in stream:
            told.append(event)
            if event.name == "run" and event.json()["state"] != "running":
                break
    end = told[-1].json()
    assert (end["state"], end["done"], end["total"]) == ("finished", 6, 6), end
    shown: list[str] = []
    for event in told:
        if event.name == "reset":
            shown.clear()
        elif event.name == "trace":
            shown.append(event.data)
    folder = next(served.home.rglob("own-1"))
    assert sorted(shown) == sorted(lines_of(folder))
    figures = served.get(f"/api/runs/{run['id']}/comparison")
    comparison = compare(read_events(folder))
    assert figures["headline"] == headline(comparison)
    assert figures["versus"] == comparison.to_dict()["versus"]
    assert figures["simulation"].startswith("The agent is scripted")
    tiles = served.get(f"/api/runs/{run['id']}/wall")
    assert [tile["tokens"] for tile in tiles] == [
        tally.tokens
        for task in comparison.tasks
        for tally in comparison.tallies
        if tally.task == task.task
    ]
    task = comparison.tasks[0].task
    trace = served.get(f"/api/runs/{run['id']}/trace", task=task, arm="stratum")
    assert trace["arms"] == ["stratum"]
    assert trace["events"][0]["event"] == "start"
    assert trace["events"][-1]["event"] == "end"
    assert trace["task"]["gold"]


def test_figures_of_a_saved_run(saved: Site) -> None:
    figures = saved.get("/api/runs/old/comparison")
    assert figures["leading"] == "stratum"
    assert figures["tasks"][29]["task"] == "depot-029"
    assert {one["name"] for one in figures["measures"]["stratum"]} >= {"tokens", "accuracy"}
    assert len(saved.get("/api/runs/old/wall")) == 90
    told = saved.get("/api/runs/old/headline")
    lead = next(one for one in figures["versus"] if one["arm"] == "stratum")
    assert told["headline"] == figures["headline"]
    assert told["tokens"] == lead["tokens"]
    assert (told["solved"], told["lost"]) == (lead["solved"], len(lead["negative_transfers"]))
    both = saved.get("/api/runs/old/trace", task="depot-004")
    assert both["arms"] == list(ARMS)
    with saved.events(f"/api/runs/old/events?after={both['last_id']}") as stream:
        assert next(stream).name == "run"  # nothing is left to be told


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/runs/nosuch", 404),
        ("/api/runs/nosuch/comparison", 404),
        ("/api/runs/nosuch/wall", 404),
        ("/api/runs/nosuch/trace?task=x", 404),
        ("/api/runs/nosuch/events", 404),
        ("/api/runs/..%2fold/comparison", 404),
        ("/api/runs/old/trace", 404),
        ("/api/runs/old/trace?task=nosuch", 404),
        ("/api/runs/old/trace?task=depot-001&arm=nosuch", 404),
    ],
)
def test_what_is_not_there_is_said(saved: Site, path: str, status: int) -> None:
    answer = saved.request("GET", path)
    assert answer.status == status, answer.body
    assert answer.json()["error"]["message"]


def test_more_pages_than_can_listen_are_told_so(saved: Site) -> None:
    with contextlib.ExitStack() as pages:
        streams = [pages.enter_context(saved.events("/api/runs/old/events")) for _ in range(64)]
        assert saved.request("GET", "/api/runs/old/events").status == 429
        assert next(streams[-1]).name == "trace"
    until(lambda: _first(saved) == "trace", 10)  # and let in again when others have gone


def _first(saved: Site) -> str:
    with contextlib.suppress(AssertionError), saved.events("/api/runs/old/events") as stream:
        return next(stream).name
    return ""


@pytest.mark.parametrize("body", [[], "x", 3, {"suite": "nosuch"}, {"limit": 0.5}])
def test_a_bad_order_is_refused_in_words(saved: Site, body: Any) -> None:
    answer = saved.request("POST", "/api/runs", body)
    assert answer.status == 400
    assert answer.json()["error"]["code"] == "invalid_input"
    assert not any(run["ours"] for run in saved.get("/api/runs"))


def test_a_run_that_begins_is_no_error(saved: Site) -> None:
    write_run(saved.home.parent / "runs" / "young", events_of_run(3, ARMS)[:1])
    (saved.home.parent / "runs" / "odd").mkdir()
    (saved.home.parent / "runs" / "odd" / TRACE).write_text('{"event": "run"', encoding="utf-8")
    assert saved.get("/api/runs/young/comparison")["notes"]
    assert saved.get("/api/runs/odd/comparison")["notes"]
    assert saved.get("/api/runs/odd/wall") == []
    assert saved.get("/api/runs/young/headline")["tokens"] is None


def test_a_trace_that_makes_no_sense_is_said(saved: Site) -> None:
    events = events_of_run(2, ARMS)
    strange = [
        dataclasses.replace(event, prompt="many") if type(event).__name__ == "Asked" else event
        for event in events
    ]
    write_run(saved.home.parent / "runs" / "strange", strange)
    answer = saved.request("GET", "/api/runs/strange/comparison")
    assert answer.status == 400
    assert "makes no sense" in answer.json()["error"]["message"]
    write_run(saved.home.parent / "runs" / "headless", [RunStarted({"tasks": "x", "arms": 3})])
    assert saved.get("/api/runs/headless")["total"] == 0


def test_a_run_goes_on_when_the_server_is_killed_and_its_page_misses_nothing(served: Site) -> None:
    with slow_model(0.15) as order:
        run = served.request("POST", "/api/runs", order).json()
        path = f"/api/runs/{run['id']}/events"
        shown: list[str] = []
        last = ""
        broken = contextlib.suppress(OSError, http.client.HTTPException)
        with broken, served.events(path) as stream:
            for event in stream:
                last = event.id
                if event.name == "trace":
                    shown.append(event.data)
                if len(shown) == 15:
                    served.kill()
        assert len(shown) >= 15
        served.start()
        assert state_of(served, run["id"]) == "running"
        before = len(shown)
        with served.events(path, last) as stream:
            for event in stream:
                if event.name == "reset":
                    shown.clear()
                if event.name == "trace":
                    shown.append(event.data)
                if event.name == "run" and event.json()["state"] != "running":
                    break
        assert event.json()["state"] == "finished", event
        assert len(shown) > before
        assert len(shown) == len(set(shown))
        assert sorted(shown) == sorted(lines_of(next(served.home.rglob(run["id"]))))


def test_a_run_is_stopped_also_by_a_server_that_has_not_started_it(served: Site) -> None:
    with slow_model(0.3) as order:
        run = served.request("POST", "/api/runs", order).json()
        until(lambda: served.get(f"/api/runs/{run['id']}")["done"] > 0)
        served.kill()
        served.start()
        answer = served.request("DELETE", f"/api/runs/{run['id']}")
        assert answer.status == 200, answer.body
        assert answer.json()["state"] == "stopped"
        assert answer.json()["message"] == "stopped: what is done is kept"
        folder = next(served.home.rglob(run["id"]))
        assert not is_held(folder / "page.json")
    assert served.get(f"/api/runs/{run['id']}")["done"] > 0


def test_a_run_that_is_killed_is_said_to_be_stopped(served: Site) -> None:
    with slow_model(0.3) as order:
        run = served.request("POST", "/api/runs", order).json()
        until(lambda: served.get(f"/api/runs/{run['id']}")["tasks"])
        folder = next(served.home.rglob(run["id"]))
        os.killpg(int((folder / "page.pid").read_text(encoding="ascii")), signal.SIGKILL)
        assert until(lambda: state_of(served, run["id"]) == "stopped")
    # and it does not stand in the way of the next one
    again = served.request("POST", "/api/runs", {"suite": "own", "limit": 1, "arms": ["bare"]})
    assert again.status == 202
    assert until(lambda: state_of(served, again.json()["id"]) == "finished")


def test_a_run_that_cannot_begin_says_why(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "a.py").write_text("def a():\n    return 1\n", encoding="utf-8")
    with site(bare, tmp_path / "stratum") as one:
        run = one.request("POST", "/api/runs", {"suite": "own"}).json()
        until(lambda: state_of(one, run["id"]) == "stopped")
        assert "is no git repository" in one.get(f"/api/runs/{run['id']}")["message"]
