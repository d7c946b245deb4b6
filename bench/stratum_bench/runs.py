"""The runs on this machine: which there are and how far, starting one, stopping one.

Owns the folders of runs and the processes that the page has started. A run is a process of its
own: it goes on when whoever started it ends, and is found again by the folder that it works in.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from stratum import InvalidInput, NotFound, Unavailable
from stratum.errors import Claimed
from stratum.redact import redact
from stratum_bench.agent_run import chosen_arms
from stratum_bench.compare_report import is_simulation, plain
from stratum_bench.trace import TRACE

SUITES = ("stdlib", "own")
AGENTS = ("scripted", "chat")
MOST_TASKS = 1_000
_ORDER = "page.json"  # what was asked for; locked by the process of the run as long as it lives
_PID = "page.pid"
_LOG = "page.log"
_LOCK = "lock"  # held by every run, however it was started
_SIMPLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_SILENCE = 7_200.0  # seconds: no run that lives writes nothing for so long
_GRACE = 8.0  # seconds that a run has to end by itself
_TAIL = 4_096  # bytes of the log in which the last line is looked for
_LONGEST = 300  # characters of a model, an address, or that line
_END = b'{"event": "end"'


@dataclass(frozen=True, slots=True)
class Order:
    """A run that is asked for.

    `limit` is a number of tasks, 0 for all; `arms` empty for all; `model` and `base_url` are those
    of the agent chat.
    """

    suite: str = "stdlib"
    arms: tuple[str, ...] = ()
    limit: int = 0
    agent: str = "scripted"
    model: str = ""
    base_url: str = ""

    @staticmethod
    def of(given: Mapping[str, Any]) -> Order:
        """Return an order from what a caller has sent.

        Raises:
            InvalidInput: Something is unknown, missing or of the wrong kind.
        """
        known = ("suite", "arms", "limit", "agent", "model", "base_url")
        for name in given:
            if name not in known:
                raise InvalidInput(f"A run has no {plain(name)[:80]!r}.", hint=_listed(known))
        arms, limit = given.get("arms") or [], given.get("limit") or 0
        if not isinstance(arms, list) or not all(isinstance(arm, str) for arm in arms):
            raise InvalidInput("Arms are a list of names.", hint='Send ["bare", "stratum"].')
        if type(limit) is not int or not 0 <= limit <= MOST_TASKS:
            raise InvalidInput(
                "The limit is no number of tasks.", hint=f"Send one from 1 to {MOST_TASKS}."
            )
        order = Order(
            suite=_one_of("suite", given.get("suite", "stdlib"), SUITES),
            arms=chosen_arms(arms) if arms else (),
            limit=limit,
            agent=_one_of("agent", given.get("agent", "scripted"), AGENTS),
            model=_text("model", given.get("model")),
            base_url=_text("base_url", given.get("base_url")),
        )
        order.require()
        return order

    def require(self) -> None:
        """Make sure that what the agent needs is there.

        Raises:
            InvalidInput: A model or an address is missing, or the address is none.
        """
        if self.agent != "chat":
            return
        if not (self.model and self.base_url):
            raise InvalidInput(
                "The agent chat needs a model and an endpoint.",
                hint="Give both, as http://localhost:8000/v1.",
            )
        if urlsplit(self.base_url).scheme not in ("http", "https"):
            raise InvalidInput(
                "The endpoint is no web address.", hint="Give one as http://localhost:8000/v1."
            )

    def words(self, out: Path, root: Path) -> list[str]:
        """Return the command that runs it, with its trace in `out`."""
        # -P: modules of the folder that the server was started in are not ours
        words = [sys.executable, "-P", "-m", "stratum", "bench", "run", f"--out={out}"]
        words += [f"--repo={root}"] if self.suite == "own" else []
        words += [f"--arms={','.join(self.arms)}"] if self.arms else []
        words += [f"--limit={self.limit}"] if self.limit else []
        words += [f"--agent={self.agent}"]
        if self.agent == "chat":
            words += [f"--model={self.model}", f"--base-url={self.base_url}"]
        return words


@dataclass(frozen=True, slots=True)
class Run:
    """A run as a list shows it.

    `tasks` counts tasks, `total` tasks times arms and `done` those of them that have ended; both
    are 0 until the run knows its tasks. `started_at` is UTC. `state` is "running", "finished" or
    "stopped"; `message` is the last that a stopped run of the page has said. `ours` says whether
    the page can stop it.
    """

    id: str
    name: str
    suite: str
    agent: str
    model: str
    simulation: bool
    arms: tuple[str, ...]
    tasks: int
    total: int
    done: int
    started_at: str
    state: str
    message: str
    ours: bool


class RunFolders:
    """All runs below some folders, newest first.

    Args:
        home: Where new runs go.
        root: The project that the suite "own" is made of.
        others: More folders of runs, or runs themselves.
    """

    def __init__(self, home: Path, root: Path, others: Sequence[Path] = ()) -> None:
        self._home, self._root = home, root
        self._others = tuple(other.absolute() for other in others)
        self._ours: dict[str, subprocess.Popen[bytes]] = {}
        self._known: dict[Path, tuple[tuple[int, ...], dict[str, Any], int]] = {}
        self._starting = threading.Lock()

    def all(self) -> list[Run]:
        """Return all runs."""
        found = [self._run(id_, folder) for id_, folder in self._folders().items()]
        return sorted(found, key=lambda run: (run.started_at, run.id), reverse=True)

    def one(self, id_: str) -> Run:
        """Return a run.

        Raises:
            NotFound: There is none.
        """
        return self._run(id_, self.folder(id_))

    def folder(self, id_: str) -> Path:
        """Return the folder of a run.

        Raises:
            NotFound: There is no such run.
        """
        # by its name among those that there are: an id never becomes a path
        folder = self._folders().get(id_)
        if folder is None:
            raise NotFound(
                f"There is no run {plain(id_)[:80]}.", hint="Ask for the list of the runs."
            )
        return folder

    def start(self, order: Order) -> Run:
        """Start a run in a process of its own, and return it.

        Raises:
            Claimed: One that the page has started goes on.
            Unavailable: It cannot be started.
        """
        with self._starting:
            for run in self.all():
                if run.ours and run.state == "running":
                    raise Claimed(
                        f"The run {run.id} is going on.", hint="Wait for its end, or stop it."
                    )
            try:
                folder = self._new_folder(order.suite)
                self._ours[folder.name] = _started(order, folder, self._root)
            except OSError as error:
                raise Unavailable(
                    f"The run cannot be started: {error.strerror}.",
                    hint="Make sure that its folder can be written to.",
                ) from None
        return self.one(folder.name)

    def stop(self, id_: str) -> Run:
        """End a run that the page has started, and return it; what is done is kept.

        Raises:
            NotFound: There is no such run.
            Claimed: It was started elsewhere.
        """
        folder = self.folder(id_)
        run = self._run(id_, folder)
        if run.state != "running":
            return run
        pid = _pid(folder) if run.ours else None
        if pid is None:
            raise Claimed(
                f"The run {run.id} was started elsewhere.", hint="Stop it there, with Ctrl-C."
            )
        for sign in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
            if self._ended(id_, folder, pid, sign):
                break
        return self._run(id_, folder)

    def _ended(self, id_: str, folder: Path, pid: int, sign: int) -> bool:
        """Send a signal to the process of a run and tell whether it is gone in time."""
        until = time.monotonic() + _GRACE
        if self._lives(id_, folder):
            _send(pid, sign)
        while time.monotonic() < until:
            if not self._lives(id_, folder):
                return True
            time.sleep(0.05)
        return False

    def _lives(self, id_: str, folder: Path) -> bool:
        """Tell whether the process lives that the page has started for a run."""
        process = self._ours.get(id_)
        if process is not None:
            return process.poll() is None
        return is_held(folder / _ORDER)

    def _folders(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for place in (self._home, *self._others):
            for folder in _runs_in(place):
                name = folder.name if _SIMPLE.fullmatch(folder.name) else ""
                if not name or found.get(name, folder) != folder:
                    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
                    name = f"{name or 'run'}-{digest}"
                found[name] = folder
        return found

    def _run(self, id_: str, folder: Path) -> Run:
        header, done = self._told(folder / TRACE)
        order = _order(folder)
        ours = bool(order) and self._lives(id_, folder)
        arms = _names(header.get("arms")) or _names(order.get("arms"))
        tasks = header.get("tasks")
        tasks = tasks if type(tasks) is int and tasks > 0 else 0
        total = tasks * len(arms)
        running = ours or (_may_go_on(folder) and is_held(folder / _LOCK))
        state = "running" if running else "finished" if done >= total > 0 else "stopped"
        return Run(
            id=id_,
            name=plain(folder.name),
            suite=str(header.get("suite") or order.get("suite") or ""),
            agent=str(header.get("agent") or order.get("agent") or ""),
            model=str(header.get("model") or order.get("model") or ""),
            simulation=is_simulation({"agent": header.get("agent") or order.get("agent")}),
            arms=arms,
            tasks=tasks,
            total=total,
            done=done,
            started_at=_begun(folder),
            state=state,
            message=_last_line(folder / _LOG) if order and state == "stopped" else "",
            ours=ours,
        )

    def _told(self, trace: Path) -> tuple[dict[str, Any], int]:
        """Return the header of a trace and how many episodes have ended, from its lines."""
        stamp = stamp_of(trace)
        known = self._known.get(trace)
        if known is None or known[0] != stamp:
            try:
                with trace.open("rb") as file:
                    known = (stamp, *_counted(file))
            except OSError:
                known = (stamp, {}, 0)
            self._known[trace] = known
        return known[1], known[2]

    def _new_folder(self, suite: str) -> Path:
        self._home.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            with contextlib.suppress(FileExistsError):
                folder = self._home / f"{suite}-{number}"
                folder.mkdir()
                return folder
            number += 1


def stamp_of(path: Path) -> tuple[int, ...]:
    """Return what differs when a file has changed; empty where there is none."""
    try:
        told = path.stat()
    except OSError:
        return ()
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns


def is_held(path: Path) -> bool:
    """Tell whether a living process holds the lock on a file, where the system has such locks."""
    try:
        import fcntl
    except ImportError:  # Windows: only runs of this process are known to be running
        return False
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _started(order: Order, folder: Path, root: Path) -> subprocess.Popen[bytes]:
    """Start the process of a run; it inherits the lock on the order and holds it till its end."""
    words = order.words(folder, root)
    told = {"suite": order.suite, "arms": order.arms, "agent": order.agent, "model": order.model}
    with (folder / _ORDER).open("w+", encoding="utf-8") as file, (folder / _LOG).open("wb") as log:
        json.dump(told, file)
        file.flush()
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder,
            **_apart(file),
        )  # fmt: skip
    (folder / _PID).write_text(str(process.pid), encoding="ascii")
    return process


def _apart(file: IO[str]) -> dict[str, Any]:
    """Return how a process is started so that it outlives this one and holds a file's lock."""
    try:
        import fcntl
    except ImportError:
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    fcntl.flock(file, fcntl.LOCK_EX)
    return {"start_new_session": True, "pass_fds": (file.fileno(),)}


def _send(pid: int, sign: int) -> None:
    """Send a signal to a process and all that it has started; it leads a group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(pid, sign)
        else:
            os.kill(pid, sign)


def _runs_in(place: Path) -> Iterator[Path]:
    """Yield the folders of runs at a place, which may be one itself."""
    try:
        folders = [place, *sorted(place.iterdir())]
    except OSError:
        return
    for folder in folders:
        if (folder / TRACE).is_file() or (folder / _ORDER).is_file():
            yield folder


def _counted(lines: IO[bytes]) -> tuple[dict[str, Any], int]:
    header: dict[str, Any] = {}
    ended = set()
    for number, line in enumerate(lines):
        if (number and not line.startswith(_END)) or not line.endswith(b"\n"):
            continue
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(told, dict):
            break
        if not number:
            header = told["header"] if isinstance(told.get("header"), dict) else {}
        else:
            ended.add((str(told.get("task")), str(told.get("arm"))))
    return header, len(ended)


def _may_go_on(folder: Path) -> bool:
    """Tell whether a run can be alive: it has no report yet, and its trace is not old.

    The lock of others is looked at, by taking it for a moment, only where there is a reason to.
    """
    try:
        written = (folder / TRACE).stat().st_mtime
        return time.time() - written < _SILENCE and not _is_newer(folder / "report.html", written)
    except OSError:
        return False


def _is_newer(path: Path, than: float) -> bool:
    try:
        return path.stat().st_mtime >= than
    except OSError:
        return False


def _begun(folder: Path) -> str:
    """Return when a run was first started: its lock is made then and never written to."""
    for name in (_ORDER, _LOCK, TRACE):
        with contextlib.suppress(OSError):
            seconds = (folder / name).stat().st_mtime
            return datetime.fromtimestamp(int(seconds), UTC).isoformat()
    return ""


def _order(folder: Path) -> dict[str, Any]:
    try:
        told = json.loads((folder / _ORDER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _pid(folder: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / _PID).read_text(encoding="ascii"))
        return pid if pid > 1 else None
    return None


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return redact(plain(said[-1])).text[:_LONGEST] if said else ""


def _names(told: object) -> tuple[str, ...]:
    return tuple(map(str, told)) if isinstance(told, list) else ()


def _one_of(name: str, value: object, known: Collection[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise InvalidInput(f"There is no such {name}.", hint=_listed(known))
    return value


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable():
        raise InvalidInput(f"The {name} is no line of text.", hint="Send it as plain text.")
    return value.strip()


def _listed(known: Collection[str]) -> str:
    return f"Known: {', '.join(known)}."
