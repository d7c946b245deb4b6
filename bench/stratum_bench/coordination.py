"""How long agents wait for each other: claims, contexts, findings, events, notes of a team.

Owns the server it starts and the loads. Beside each operation stands the bare command of Redis that
it rests on, sent by the same client library, and a bare PING: what is above them is ours.
Throughput is that of several processes, each with a connection of its own, on one machine: the
server and all clients share its processors.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import multiprocessing
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratum import Memory, Settings, load
from stratum.coordination import Coordination
from stratum.redis_client import Client, Keys, capabilities, connect, run_script
from stratum.team import Team
from stratum.wire import from_fields
from stratum_bench.measure import (
    Clock,
    Result,
    Row,
    environment,
    percentile,
    progress,
)
from stratum_bench.project import temporary_project
from stratum_bench.redis_process import redis_to_measure

_WARM_UPS = 20
_BATCH = 100  # commands in one trip
_SESSION, _TASK = "bench session", "bench task"
_CONTEXT = {"plan": ["read the tests", "reproduce", "fix", "run the tests"], "step": 2}
_NOTE = "Sessions are purged by cron every night, not when they are read: see the job's lock."
_NOTHING = "return 1"
# Each operation of ours behind the bare commands below it; a batch is one trip.
_OPERATIONS = (
    "PING",
    "GET",
    "context read",
    f"GET, {_BATCH} a trip",
    "HGETALL of a note",
    "note read and checked",
    f"HGETALL of a note, {_BATCH} a trip",
    f"notes read and checked, {_BATCH} a trip",
    "EVALSHA of a script that does nothing",
    "claim renewed",
    "claim and release",
    "XADD",
    "finding shared",
    f"XADD, {_BATCH} a trip",
)
_LOCAL = ("context read", "claim renewed", "claim and release", "finding shared")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a load goes; picklable. `note` is the key of a note's HASH, "" without a Redis."""

    settings: Settings
    root: Path
    note: str = ""
    bare: str = ""  # prefix of keys for bare commands


def run(
    size: str,
    seed: int,
    *,
    calls: int,
    seconds: float,
    connections: Sequence[int],
    redis_url: str = "",
) -> Result:
    """Measure on one connection call by call, then on several at full speed; then the same locally.

    Args:
        size: Name of the size, for the record.
        seed: For the record: nothing is drawn by lot.
        calls: Timed calls of each operation.
        seconds: How long each load runs at full speed.
        connections: How many processes at a time.
        redis_url: A server to use; "" starts one.
    """
    rows: list[Row] = []
    with redis_to_measure(redis_url) as url, temporary_project("hashing") as project:
        settings = dataclasses.replace(load(project.environ), profile="team")
        shared = _prepared(dataclasses.replace(settings, redis_url=url), project.root)
        with _open(shared) as side:
            version = capabilities(side.client).version
            rows += _measured("redis", side, _OPERATIONS, calls)
            rows += _receipts("redis", side, calls)
        rows += _loads("redis", shared, _OPERATIONS, seconds, connections)
        local = _Place(dataclasses.replace(settings, redis_url=""), project.root)
        with _open(local) as side:
            side.coordination.put_context(_SESSION, _CONTEXT)
            rows += _measured("sqlite", side, _LOCAL, calls)
            rows += _receipts("sqlite", side, min(calls, 200))
        rows += _loads("sqlite", local, _LOCAL, seconds, connections)
    return Result(
        command="coordination",
        seed=seed,
        parameters={"size": size, "calls": calls, "seconds": seconds},
        environment=environment(),
        rows=rows,
        facts={"redis": version, "note bytes": len(_NOTE)},
    )


def _prepared(settings: Settings, root: Path) -> _Place:
    """Put a note and a context there, the way users do; only a project with a remote is shared."""
    remote = ["remote", "add", "origin", "https://example.org/acme/bench.git"]
    subprocess.run(["git", "-C", str(root), *remote], check=True)
    with Memory(settings, root) as memory:
        written = memory.write(_NOTE, kind="gotcha", scope="team", tags=("sessions",))
        with Team(memory) as team:
            team.sync()
        note = Keys.of(settings, memory.project).note(written.note.id)
        bare = Keys.of(settings, memory.project).named("bench")
    with Coordination(settings, root) as coordination:
        coordination.put_context(_SESSION, _CONTEXT)
    return _Place(settings, root, note, bare)


class _Side:
    """One agent: what it does with others and, where there is a Redis, a bare connection."""

    def __init__(self, place: _Place, name: str) -> None:
        self.place = place
        self.coordination = Coordination(place.settings, place.root, holder=name)
        self._client = connect(place.settings) if place.note else None
        self._numbers = itertools.count()
        self._name = name

    @property
    def client(self) -> Client:
        """The bare connection."""
        assert self._client is not None
        return self._client

    def close(self) -> None:
        """Close both."""
        self.coordination.close()
        if self._client is not None:
            self._client.close()

    def call(self, what: str) -> tuple[Callable[[], object], int]:
        """Return an operation and how many it does in one call."""
        name = what.removesuffix(f", {_BATCH} a trip")
        batch = 1 if name == what else _BATCH
        bare, note = self.place.bare, self.place.note
        value = json.dumps(_CONTEXT)
        calls: dict[str, Callable[[], object]] = {
            "PING": lambda: self.client.ping(),
            "GET": lambda: self._sent(batch, "GET", f"{bare}:text"),
            "context read": lambda: self.coordination.context(_SESSION),
            "HGETALL of a note": lambda: self._sent(batch, "HGETALL", note),
            "note read and checked": lambda: from_fields(self._fields(1)[0]),
            "notes read and checked": lambda: list(map(from_fields, self._fields(batch))),
            "EVALSHA of a script that does nothing": lambda: run_script(
                self.client, _NOTHING, [bare], []
            ),
            "claim renewed": lambda: self.coordination.claim([f"{_TASK} of {self._name}"]),
            "claim and release": self._claim_and_release,
            "XADD": lambda: self._sent(
                batch, "XADD", f"{bare}:stream", "MAXLEN", "1000", "*", "entry", value
            ),
            "finding shared": lambda: self.coordination.share(f"{_TASK} {self._name}", _NOTE),
        }
        if name == "GET":
            self.client.set(f"{bare}:text", value)
        return calls[name], batch

    def _claim_and_release(self) -> None:
        claim = self.coordination.claim([f"{self._name} {next(self._numbers)}"], purpose="bench")
        self.coordination.release(claim.lease)

    def _sent(self, batch: int, *command: str) -> object:
        if batch == 1:
            return self.client.execute_command(*command)  # type: ignore[no-untyped-call]
        trip = self.client.pipeline(transaction=False)
        for _ in range(batch):
            trip.execute_command(*command)  # type: ignore[no-untyped-call]
        return trip.execute()

    def _fields(self, batch: int) -> list[dict[str, bytes]]:
        trip = self.client.pipeline(transaction=False)
        for _ in range(batch):
            trip.hgetall(self.place.note)
        return [{name.decode(): value for name, value in one.items()} for one in trip.execute()]


@contextmanager
def _open(place: _Place, name: str = "bench") -> Iterator[_Side]:
    side = _Side(place, name)
    try:
        yield side
    finally:
        side.close()


def _measured(store: str, side: _Side, operations: Sequence[str], calls: int) -> Iterator[Row]:
    """Time each operation, in turns so that a busy moment of the machine strikes all alike.

    Batches have turns of their own: whoever comes after one pays for its rubbish.
    """
    turns = [(what, *side.call(what)) for what in operations]
    clocks = {what: Clock() for what in operations}
    for group in ([turn for turn in turns if turn[2] == 1], [t for t in turns if t[2] > 1]):
        for number in range(_WARM_UPS + calls):
            for what, call, _ in group:
                if number < _WARM_UPS:
                    call()
                else:
                    clocks[what].time(call)
    progress(f"{store}: {calls} calls of each operation")
    for what, _, batch in turns:
        wall = clocks[what].wall
        yield _row(store, what, 1, wall, len(wall) * batch / (sum(wall) / 1000))


def _receipts(store: str, side: _Side, calls: int) -> Iterator[Row]:
    """Time from before an event is sent until somebody who waits for it has it."""
    ways: dict[str, Callable[[_Listener], None]] = {"event to receipt": _hear_events}
    sends: dict[str, Callable[[], object]] = {
        "event to receipt": lambda: side.coordination.share(_TASK, "news")
    }
    if store == "redis":
        key = f"{side.place.bare}:news"
        ways |= {"XADD to XREAD BLOCK": _hear_stream, "PUBLISH to pub/sub": _hear_channel}
        sends |= {
            "XADD to XREAD BLOCK": lambda: side.client.xadd(key, {"a": "news"}, maxlen=1000),
            "PUBLISH to pub/sub": lambda: side.client.publish(key, "news"),
        }
    for what, hear in ways.items():
        listener = _Listener(side.place, calls + _WARM_UPS)
        thread = threading.Thread(target=hear, args=(listener,), daemon=True)
        thread.start()
        listener.ready.wait(10)
        wall = []
        for _ in range(calls + _WARM_UPS):
            time.sleep(0.001)  # until it waits again
            listener.heard.clear()
            begun = time.perf_counter()
            sends[what]()
            if not listener.heard.wait(10):
                raise TimeoutError(what)
            wall.append((listener.at - begun) * 1000)
        thread.join(10)
        wall = wall[_WARM_UPS:]
        yield _row(store, what, 1, wall, 1000 * len(wall) / sum(wall))
    progress(f"{store}: {calls} events received")


class _Listener:
    """Somebody who waits for `count` pieces of news; `at` is when the last one was there."""

    def __init__(self, place: _Place, count: int) -> None:
        self.place = place
        self.count = count
        self.at = 0.0
        self.ready = threading.Event()
        self.heard = threading.Event()

    def hears(self) -> None:
        """Note the time."""
        self.at = time.perf_counter()
        self.heard.set()


def _hear_events(listener: _Listener) -> None:
    with Coordination(listener.place.settings, listener.place.root, holder="listener") as one:
        cursor = one.events(limit=1).cursor
        listener.ready.set()
        for _ in range(listener.count):
            page = one.events(after=cursor, wait=10)
            listener.hears()
            cursor = page.cursor


def _hear_stream(listener: _Listener) -> None:
    client = connect(listener.place.settings)
    cursor: Any = "$"
    listener.ready.set()
    for _ in range(listener.count):
        told: Any = client.xread({f"{listener.place.bare}:news": cursor}, block=4000)
        listener.hears()
        cursor = told[0][1][-1][0]
    client.close()


def _hear_channel(listener: _Listener) -> None:
    client = connect(listener.place.settings, blocking=True)
    heard = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    heard.subscribe(f"{listener.place.bare}:news")
    heard.get_message(timeout=2)
    listener.ready.set()
    for _ in range(listener.count):
        while heard.get_message(timeout=4) is None:
            pass
        listener.hears()
    client.close()


def _loads(
    store: str,
    place: _Place,
    operations: Sequence[str],
    seconds: float,
    connections: Sequence[int],
) -> Iterator[Row]:
    """Run each operation at full speed in several processes at a time."""
    spawn = multiprocessing.get_context("spawn")
    most = max(connections)
    with ExitStack() as stack:
        pipes = []
        for number in range(most):
            here, there = spawn.Pipe()
            worker = spawn.Process(target=_work, args=(place, f"agent-{number}", there))
            worker.start()
            stack.callback(worker.join)
            stack.callback(here.send, None)
            pipes.append(here)
        for count in connections:
            if count == 1:
                continue  # measured call by call already
            for what in operations:
                for pipe in pipes[:count]:
                    pipe.send((what, seconds))
                for pipe in pipes[:count]:
                    pipe.recv()  # connected and warm
                for pipe in pipes[:count]:
                    pipe.send("go")
                done = [pipe.recv() for pipe in pipes[:count]]
                wall = [one for walls, _ in done for one in walls]
                yield _row(store, what, count, wall, sum(rate for _, rate in done))
            progress(f"{store}: {count} connections at full speed")


def _work(place: _Place, name: str, pipe: Any) -> None:
    with _open(place, name) as side:
        while (asked := pipe.recv()) is not None:
            what, seconds = asked
            call, batch = side.call(what)
            for _ in range(_WARM_UPS):
                call()
            pipe.send("ready")
            pipe.recv()
            wall = []
            begun = last = time.perf_counter()
            while last - begun < seconds:
                call()
                now = time.perf_counter()
                wall.append((now - last) * 1000)
                last = now
            pipe.send((wall, len(wall) * batch / (last - begun)))


def _row(store: str, what: str, connections: int, wall: Sequence[float], per_second: float) -> Row:
    return {
        "store": store,
        "what": what,
        "connections": connections,
        "n": len(wall),
        "p50": percentile(wall, 0.5),
        "p95": percentile(wall, 0.95),
        "per second": per_second,
    }
