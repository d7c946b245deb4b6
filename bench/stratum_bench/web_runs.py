"""The runs over HTTP: lists, figures, traces, events as they come, starting and stopping.

Owns the routes below /api/runs and what they answer. Who may ask is settled before it is reached.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from stratum import InvalidInput, NotFound
from stratum.web_security import Refused
from stratum_bench.compare_report import plain
from stratum_bench.run_feed import Feed, Tape, read_on
from stratum_bench.runs import Order, RunFolders, stamp_of
from stratum_bench.trace import (
    TRACE,
    Asked,
    Called,
    Episode,
    Event,
    TaskGiven,
    as_line,
    complete_events,
    episodes,
    from_line,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

_KEPT = 24  # answers, some of them of a megabyte
_LISTENERS = 64
_SEND = 30.0  # seconds after which a listener that takes nothing is let go
_KINDS = {"read_file": "read", "grep": "search", "list_dir": "list", "submit": "submit"}


class Runs:
    """All runs below some folders, as routes of an application.

    Args:
        folders: Where runs are; new ones go into the first.
        project: The root of the project that the suite "own" is made of.
    """

    def __init__(self, folders: Sequence[Path], project: Path) -> None:
        self._runs = RunFolders(folders[0], project, folders[1:])
        self._feeds: dict[str, Feed] = {}
        self._listeners = 0
        self._answers = _Answers()

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """The routes, with their full paths."""
        return [
            Route("/api/runs", self._list, methods=["GET"]),
            Route("/api/runs", self._start, methods=["POST"]),
            Route("/api/runs/{id}", self._one, methods=["GET"]),
            Route("/api/runs/{id}", self._stop, methods=["DELETE"]),
            Route("/api/runs/{id}/comparison", self._comparison, methods=["GET"]),
            Route("/api/runs/{id}/headline", self._headline, methods=["GET"]),
            Route("/api/runs/{id}/wall", self._wall, methods=["GET"]),
            Route("/api/runs/{id}/trace", self._trace, methods=["GET"]),
            Route("/api/runs/{id}/events", self._events, methods=["GET"]),
        ]

    def live(self) -> int:
        """Return how many runs are going on."""
        return sum(run.state == "running" for run in self._runs.all())

    def close(self) -> None:
        """Let go of all listeners; runs that were started go on."""
        self._feeds.clear()

    async def _list(self, request: Request) -> Response:
        runs = await asyncio.to_thread(self._runs.all)
        return _json([dataclasses.asdict(run) for run in runs])

    async def _one(self, request: Request) -> Response:
        run = await asyncio.to_thread(self._runs.one, request.path_params["id"])
        return _json(dataclasses.asdict(run))

    async def _start(self, request: Request) -> Response:
        order = Order.of(_object(await request.body()))
        run = await asyncio.to_thread(self._runs.start, order)
        return _json(dataclasses.asdict(run), 202)

    async def _stop(self, request: Request) -> Response:
        run = await asyncio.to_thread(self._runs.stop, request.path_params["id"])
        return _json(dataclasses.asdict(run))

    async def _comparison(self, request: Request) -> Response:
        return await self._answered(request, _compared)

    async def _headline(self, request: Request) -> Response:
        return await self._answered(request, _headed)

    async def _wall(self, request: Request) -> Response:
        return await self._answered(request, lambda events: list(wall(events)))

    async def _answered(self, request: Request, work: Callable[[list[Event]], Any]) -> Response:
        """Answer with what is made of all events of a run; made once for one state of its file."""
        trace = self._runs.folder(request.path_params["id"]) / TRACE
        kind = request.url.path.rpartition("/")[2]

        def made() -> bytes:
            return _dumped(_tried(work, list(complete_events(trace))))

        body = await asyncio.to_thread(self._answers.get, (kind, trace), made)
        return Response(body, media_type="application/json")

    async def _trace(self, request: Request) -> Response:
        trace = self._runs.folder(request.path_params["id"]) / TRACE
        task, arm = (request.query_params.get(name, "") for name in ("task", "arm"))
        return _json(await asyncio.to_thread(_traced, trace, task, arm))

    async def _events(self, request: Request) -> Response:
        from sse_starlette import EventSourceResponse

        id_ = request.path_params["id"]
        folder = await asyncio.to_thread(self._runs.folder, id_)
        if self._listeners >= _LISTENERS:
            raise Refused(
                429, "too_many", "Too many pages listen to runs.", hint="Close some of them."
            )
        feed = self._feeds.setdefault(
            id_, Feed(folder / TRACE, lambda: dataclasses.asdict(self._runs.one(id_)))
        )
        # a browser that comes back says it in the header; the address is still that of its start
        asked = request.query_params
        after = request.headers.get("last-event-id") or asked.get("after", "")
        task, arm = asked.get("task", ""), asked.get("arm", "")
        no_lines = asked.get("lines") == "none"  # a page that only shows how far the run is
        heard = feed.listen(after, lambda line: not no_lines and line.is_of(task, arm))
        return EventSourceResponse(self._counted(heard), send_timeout=_SEND, sep="\n")

    async def _counted(self, heard: AsyncGenerator[str]) -> AsyncGenerator[bytes]:
        self._listeners += 1
        try:
            async with aclosing(heard):
                async for text in heard:
                    yield text.encode()
        finally:
            self._listeners -= 1


class _Answers:
    """The last answers that took long to make, each for one state of a file."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, Path], tuple[tuple[int, ...], bytes]] = OrderedDict()
        self._making: dict[tuple[str, Path], threading.Lock] = {}

    def get(self, key: tuple[str, Path], make: Callable[[], bytes]) -> bytes:
        """Return the answer of a kind about a file; made by one thread while others wait."""
        with self._making.setdefault(key, threading.Lock()):
            stamp = stamp_of(key[1])
            known = self._kept.get(key)
            if known is None or known[0] != stamp:
                known = (stamp, make())
            self._kept[key] = known
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return known[1]


def wall(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Return each task in each arm with its steps, in the order in which they came.

    A step is [seconds from the start, tokens so far, kind]: the kind of its first call, "memory",
    "read", "search", "list", "submit" or "other". `solved` and `outcome` are None while it goes on.
    """
    return [_tile(episode) for episode in episodes(events).values()]


def _tile(episode: Episode) -> dict[str, Any]:
    steps: list[list[Any]] = []
    ms, tokens, calls = 0.0, 0, 0
    for event in episode.events:
        if isinstance(event, Asked):
            ms += event.ms
            tokens += event.prompt + event.output
            steps.append([0.0, tokens, "other"])
        elif isinstance(event, Called):
            ms += event.ms
            calls += 1
            if steps and steps[-1][2] == "other":
                steps[-1][2] = "memory" if event.memory else _KINDS.get(event.tool, "other")
        if steps:
            steps[-1][0] = round(ms / 1000, 4)
    end = episode.end
    return {
        "task": episode.task,
        "arm": episode.arm,
        "steps": steps,
        "solved": None if end is None else end.outcome == "PASS",
        "outcome": None if end is None else end.outcome,
        "tokens": tokens,
        "calls": calls,
    }


def _compared(events: list[Event]) -> dict[str, Any]:
    """Return all figures of a run, with the words of its reports."""
    from stratum_bench import compare_report as report
    from stratum_bench.compare import compare
    from stratum_bench.measures import measures

    comparison = compare(events)
    lead = report.leading(comparison)
    figures = measures(comparison)
    return comparison.to_dict() | {
        "headline": report.headline(comparison),
        "verdict": report.verdict(comparison),
        "summary": report.summary(comparison.header),
        "simulation": report.SIMULATION if report.is_simulation(comparison.header) else None,
        "leading": lead.arm if lead else None,
        "measures": {arm: list(map(dataclasses.asdict, own)) for arm, own in figures.items()},
    }


def _headed(events: list[Event]) -> dict[str, Any]:
    """Return the result of a run in a line and a few figures, None where nothing is told yet."""
    from stratum_bench import compare_report as report
    from stratum_bench.compare import compare

    comparison = compare(events)
    lead = report.leading(comparison)
    return {
        "headline": report.headline(comparison),
        "leading": lead.arm if lead else None,
        "baseline": lead.baseline if lead else None,
        "n": lead.n if lead else 0,
        "tokens": dataclasses.asdict(lead.tokens) if lead else None,
        "solved": lead.solved if lead else None,
        "baseline_solved": lead.baseline_solved if lead else None,
        "lost": len(lead.negative_transfers) if lead else None,
    }


def _traced(trace: Path, task: str, arm: str) -> dict[str, Any]:
    """Return the events of one task, and from where its listener goes on.

    Raises:
        NotFound: The run has no such task, or none has begun in that arm.
    """
    tape, _ = read_on(trace, Tape())
    lines = [line for line in tape.lines if line.task == task and line.is_of(task, arm)]
    told = [json.loads(line.text) for line in lines]
    given = [one for one in told if one["event"] == TaskGiven.event]
    if not task or not given:
        raise NotFound(
            f"The run has no task {plain(task)[:80]!r}.", hint="Ask for a task of its list."
        )
    # an episode that was begun again counts from there, as in every figure
    there = episodes(_tried(_events_of, [line.text for line in lines]))
    events = [json.loads(as_line(event)) for one in there.values() for event in one.events]
    if arm and not there:
        raise NotFound(
            f"The task has not begun in the arm {plain(arm)[:80]!r}.",
            hint="Wait for it, or leave the arm out to see all.",
        )
    return {
        "task": given[-1],
        "arms": list(dict.fromkeys(name for _, name in there)),
        "events": events,
        "last_id": tape.id_at(len(tape.lines)),
    }


def _events_of(lines: list[str]) -> list[Event]:
    return [from_line(line) for line in lines]


def _tried(work: Callable[[Any], Any], given: Any) -> Any:
    """Return what is made of events; those of a damaged file make no sense.

    Raises:
        InvalidInput: They do not.
    """
    try:
        return work(given)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        raise InvalidInput(
            "The trace of this run makes no sense.", hint="Make the run again."
        ) from None


def _object(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise InvalidInput("The body is no JSON object.", hint='Send {"suite": "stdlib"}.')
    return told


def _json(told: Any, status: int = 200) -> Response:
    return Response(_dumped(told), status, media_type="application/json")


def _dumped(told: Any) -> bytes:
    return json.dumps(told, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
