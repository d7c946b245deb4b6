"""Machines of a team for tests: each a home, a clone and a process of its own, behind a proxy.

`Machine` drives a process (`python -m tests.team_driver`) with commands as JSON lines, so that a
kill hits a real process in real work on a real database. `Proxy` stands between a machine and Redis
and can refuse, hang, or cut a connection after so many bytes. `Server` can lose its data or come
back with old ones. `Versions` reads the databases with SQL of its own and remembers every version
of every note that was ever seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import apsw

from tests.conftest import git, make_repository
from tests.redis_server import RedisServer

ORIGIN = "https://github.com/acme/shop.git"
PROJECT = "github.com/acme/shop"
ANSWER_WITHIN = 120.0  # seconds: only how long a hung test takes to fail
ROOT = Path(__file__).parents[1]


# the team's server, and what stands between it and a machine


class Server(RedisServer):
    """A real Redis with search that keeps each change on the disk.

    It has another port after each start, since somebody may have taken the last one: machines come
    through their proxies, see `serve`.
    """

    def __init__(self) -> None:
        self._proxies: list[Proxy] = []
        super().__init__(persistent=True)

    def serve(self, machines: list[Machine]) -> None:
        """Keep the proxies of these machines pointed at it."""
        self._proxies += [machine.proxy for machine in machines]

    def start(self) -> None:
        """Start it on the data there are."""
        self.nodes[0].port = 0
        super().start()
        for proxy in self._proxies:
            proxy.target = self.port

    def restart(self) -> None:
        """Kill it and start it on the same data."""
        self.kill()
        self.start()

    def snapshot(self) -> Path:
        """Return a copy of the data as they are now."""
        copy = self.folder / f"snapshot-{time.monotonic_ns()}"
        self.kill()  # the files of a process that is gone are whole
        shutil.copytree(self._data, copy)
        self.start()
        return copy

    def restore(self, snapshot: Path | None) -> None:
        """Start it on the data of a snapshot instead of those there are; None: on none."""
        self.kill()
        shutil.rmtree(self._data)
        if snapshot is None:
            self._data.mkdir()
        else:
            shutil.copytree(snapshot, self._data)
        self.start()

    def freeze(self) -> None:
        """Let it hang: the system takes connections for it, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        process = self.nodes[0].process
        assert process is not None
        process.send_signal(number)

    @property
    def _data(self) -> Path:
        return self.nodes[0].folder


class Proxy:
    """A TCP proxy to `target` (a port on loopback) that can be cut.

    `open` forwards, `refuse` does not listen, `hang` accepts and says nothing. Every change of the
    state cuts the connections there are.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._state: Literal["open", "refuse", "hang"] = "open"
        self._cut_after: int | None = None
        self._on_cut: Callable[[], None] = _nothing
        self.heard: list[bytes] = []  # all that the machine has ever said
        self._pairs: set[tuple[socket.socket, ...]] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.port = 0
        self._listen()

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def open(self, cut_after: int | None = None, on_cut: Callable[[], None] | None = None) -> None:
        """Forward; with `cut_after`, end each connection after so many bytes of answers.

        `on_cut` is called first: with `Machine.strike` the process dies before it knows.
        """
        self._set("open", cut_after, on_cut or _nothing)

    def refuse(self) -> None:
        """Let nobody connect."""
        self._set("refuse")

    def hang(self) -> None:
        """Accept connections and never answer."""
        self._set("hang")

    def _set(
        self,
        state: Literal["open", "refuse", "hang"],
        cut_after: int | None = None,
        on_cut: Callable[[], None] | None = None,
    ) -> None:
        with self._lock:
            self._state, self._cut_after = state, cut_after
            self._on_cut = on_cut or _nothing
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            _end(*pair)
        if state == "refuse" and self._listener is not None:
            _end(self._listener)
            self._listener = None
        elif state != "refuse" and self._listener is None:
            self._listen()

    def close(self) -> None:
        """End everything."""
        self.refuse()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            state, left, on_cut = self._state, self._cut_after, self._on_cut
            if state == "hang":
                self._pairs.add((client,))
                return
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            _end(client)
            return
        pair = (client, server)
        with self._lock:
            if self._state != "open":
                _end(*pair)
                return
            self._pairs.add(pair)
        with contextlib.suppress(OSError, ValueError):  # cut by somebody else
            _forward(client, server, left, on_cut, self.heard)
        with self._lock:
            self._pairs.discard(pair)
        _end(*pair)


def _nothing() -> None:
    pass


def _forward(
    client: socket.socket,
    server: socket.socket,
    left: int | None,
    on_cut: Callable[[], None],
    heard: list[bytes],
) -> None:
    while True:
        for ready in select.select([client, server], [], [])[0]:
            data = ready.recv(1 << 16)
            if not data:
                return
            if ready is client:
                heard.append(data)
                server.sendall(data)
                continue
            if left is not None:
                data, left = data[:left], left - len(data[:left])
                if left == 0:
                    on_cut()
                    client.sendall(data)
                    return
            client.sendall(data)


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


# a machine


class Bug(AssertionError):
    """The process of a machine raised what users must never see."""


class Refused(Exception):
    """Stratum refused with an error of its own; `name` is its class."""

    def __init__(self, name: str, message: str, hint: str) -> None:
        super().__init__(f"{name}: {message} {hint}")
        self.name, self.message, self.hint = name, message, hint


class Killed(Exception):
    """The process ended before it answered."""


class Machine:
    """One member of the team: a home, a clone, a proxy to Redis and, while it runs, a process.

    Args:
        folder: Where home and clone are made.
        name: How it signs.
        port: Where Redis listens.
        ahead: By how many seconds its clock is wrong.
        settings: More environment variables.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        port: int,
        *,
        ahead: float = 0.0,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.ahead = name, ahead
        self.home, self.clone = folder / name / "home", folder / name / "shop"
        self.proxy = Proxy(port)
        upstream = folder / "upstream"
        if not upstream.exists():
            upstream.mkdir(parents=True)
            make_repository(upstream)
        self.home.mkdir(parents=True)
        git(folder, "clone", "-q", str(upstream), str(self.clone))
        git(self.clone, "remote", "set-url", "origin", ORIGIN)
        git(self.clone, "config", "user.name", name)
        git(self.clone, "config", "user.email", f"{name}@example.org")
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("STRATUM_")},
            "STRATUM_HOME": str(self.home),
            "STRATUM_EMBED_MODEL": "hashing",
            "STRATUM_AUTHOR": name.capitalize(),
            "STRATUM_MACHINE": name,
            "STRATUM_REDIS_URL": f"redis://127.0.0.1:{self.proxy.port}/0",
            **(settings or {}),
        }
        self._process: subprocess.Popen[str] | None = None

    @property
    def database(self) -> Path:
        """The file of its database."""
        return self.home / "stratum.db"

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start its process."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.team_driver", str(self.clone), str(self.ahead)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None,
            text=True,
            bufsize=1,
            cwd=ROOT,
            env=self.environment,
        )

    def strike(self) -> None:
        """Kill its process from whatever thread; `kill` or the next `begin` clears up."""
        process = self._process
        if process is not None:
            process.send_signal(signal.SIGKILL)

    def kill(self) -> None:
        """Kill its process, as a loss of power would end it, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            with process:  # closes the pipes and waits
                pass

    def close(self) -> None:
        """End process and proxy."""
        self.kill()
        self.proxy.close()

    def begin(self, do: str, *words: Any, **options: Any) -> None:
        """Tell it to do something, without waiting."""
        if not self.running:
            self.kill()
            self.start()
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(
                json.dumps({"do": do, "words": words, "options": options}) + "\n"
            )

    def end(self, within: float = ANSWER_WITHIN) -> Any:
        """Return the answer to what was begun.

        Raises:
            Refused: Stratum said no.
            Bug: It raised something else.
            Killed: The process is gone.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], within)[0]:
            raise Bug(f"{self.name} did not answer within {within} s")
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise Killed(self.name)
        answer = json.loads(line)
        if "bug" in answer:
            raise Bug(f"{self.name}: {answer['bug']}")
        if "error" in answer:
            raise Refused(answer["error"], answer["message"], answer["hint"])
        return answer["ok"]

    def ask(self, do: str, *words: Any, **options: Any) -> Any:
        """Tell it to do something and return the answer; see `end`."""
        self.begin(do, *words, **options)
        return self.end()

    def command(
        self, *words: str, check: bool = True, timeout: float = ANSWER_WITHIN
    ) -> subprocess.CompletedProcess[str]:
        """Run `stratum WORDS` in its clone, in a process of its own with the right clock."""
        done = subprocess.run(
            [sys.executable, "-m", "stratum", *words],
            cwd=self.clone,
            env={**self.environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check:
            assert done.returncode == 0, done
        return done


@contextlib.contextmanager
def team(
    folder: Path,
    port: int,
    skews: Mapping[str, float] | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[list[Machine]]:
    """Give machines by name and clock, by default two whose clocks are right; none runs yet."""
    named = skews or {"anna": 0.0, "ben": 0.0}
    made: list[Machine] = []
    try:
        for name, ahead in named.items():
            made.append(Machine(folder, name, port, ahead=ahead, settings=settings))
        yield made
    finally:
        for machine in made:
            machine.close()


def settle(machines: list[Machine], rounds: int = 6) -> int:
    """Sync all machines in turn until nothing moves; return how many rounds it took.

    The last round, in which nothing moved, proves that there is no echo.
    """
    moved: list[dict[str, Any]] = []
    for number in range(1, rounds + 1):
        reports = [machine.ask("sync") for machine in machines]
        moved = [report for report in reports if report["sent"] or report["received"]]
        if not moved:
            return number
    raise AssertionError(f"still moving after {rounds} rounds: {moved}")


# what a machine holds, read without Stratum


class Version(NamedTuple):
    """One version of a note, as a database holds it; trust and machine are each home's own.

    Of a forgotten note its words and places are not told: they need not be the same everywhere.
    """

    deleted_at: str | None
    updated_at: str
    created_at: str
    scope: str
    text: str
    kind: str
    tags: tuple[str, ...]
    anchors: tuple[tuple[Any, ...], ...]
    author: str
    agent: str
    commit: str | None
    branch: str | None
    supersedes: str | None


def held(database: Path, after: int = -1) -> dict[str, tuple[str, Version, int]]:
    """Return (stamp, version, clock) of the notes stored after a clock, by id."""
    db = apsw.Connection(str(database))
    try:
        db.set_busy_timeout(10_000)
        db.execute("BEGIN")
        if not db.execute(
            "SELECT 1 FROM pragma_table_info('note') WHERE name = 'stamp'"
        ).fetchall():
            return {}  # its process was killed before the tables were made
        rows = db.execute(
            "SELECT r.id, r.uid, n.stamp, n.clock, n.deleted_at, n.updated_at, r.created_at,"
            " n.scope, n.text, r.kind, n.author, n.agent, n.commit_id, n.branch, n.supersedes"
            " FROM note n JOIN record r ON r.id = n.record_id WHERE n.clock > ?",
            (after,),
        ).fetchall()
        found = {}
        for row in rows:
            record, uid, stamp, clock, deleted, updated, created, scope, text, kind, *who = row
            tags = db.execute(
                "SELECT tag FROM note_tag WHERE record_id = ? ORDER BY tag", (record,)
            )
            anchors = db.execute("SELECT * FROM anchor WHERE record_id = ? ORDER BY ord", (record,))
            dead = deleted is not None
            found[uid] = (
                stamp,
                Version(
                    deleted,
                    updated,
                    created,
                    scope,
                    "" if dead else text,
                    "" if dead else kind,
                    () if dead else tuple(tag for (tag,) in tags),
                    () if dead else tuple(tuple(anchor[1:]) for anchor in anchors),
                    *(("", "", None, None) if dead else who[:-1]),
                    who[-1],
                ),
                clock,
            )
        return found
    finally:
        db.close()


@dataclass
class Versions:
    """All versions of team notes that were ever seen on any machine.

    One stamp is one content: `look` fails where two machines disagree about it.
    """

    by_id: dict[str, dict[str, Version]] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def look(self, machine: Machine) -> dict[str, tuple[Version, bool]]:
        """Take in what a machine has stored since the last look.

        Return the notes of the team among it, each with whether its version was never seen before.
        """
        if not machine.database.exists():
            return {}
        new = {}
        rows = held(machine.database, self.seen.get(machine.name, -1))
        for uid, (stamp, version, clock) in rows.items():
            self.seen[machine.name] = max(clock, self.seen.get(machine.name, -1))
            if version.scope == "team":
                stamps = self.by_id.setdefault(uid, {})
                new[uid] = (version, stamp not in stamps)
                known = stamps.setdefault(stamp, version)
                assert known == version, (
                    f"{uid} at {stamp} differs on {machine.name}:\n{known}\n{version}"
                )
        return new

    def last(self, uid: str) -> tuple[str, Version]:
        """Return the greatest stamp of a note and its version."""
        stamp = max(self.by_id[uid])
        return stamp, self.by_id[uid][stamp]
