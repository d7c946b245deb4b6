"""The page as its users meet it: `stratum web` in a process of its own, and a real Chromium.

`Site` starts, kills and starts again the command on a project, and asks its API as a script would.
`Visit` is one tab, in which nothing but loopback can be reached; it keeps what goes wrong there:
errors of the console and of scripts, and requests to any other host.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from stratum_bench.trace import (
    TRACE,
    Asked,
    Called,
    Ended,
    RunStarted,
    Started,
    TaskGiven,
    as_line,
)

from tests.chat_endpoint import Answer, Call, ChatEndpoint
from tests.conftest import git, make_repository

CHROMIUM = "/usr/bin/chromium"
_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/#token=([\w-]+)")
_START = 60.0  # seconds until the command has said where it listens
_IGNORED = (
    # what a browser says by itself when a server is gone, or says no: the tests make both happen
    "Failed to load resource",
)


@dataclass
class Reply:
    """What a request brought."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Site:
    """A running `stratum web`; `address` is what it has printed."""

    root: Path
    home: Path
    arguments: Sequence[str] = ()
    port: int = 0
    token: str = ""
    process: subprocess.Popen[str] | None = None
    said: list[str] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"{self.origin}/#token={self.token}"

    def start(self) -> Site:
        """Start the command and wait until it has said where it listens."""
        self.port = self.port or free_port()
        words = [sys.executable, "-m", "stratum", "web", "-C", str(self.root), "--no-open"]
        self.process = subprocess.Popen(
            [*words, "--port", str(self.port), *self.arguments],
            env=environ(self.home),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._hear, args=(self.process, lines), daemon=True).start()
        until = time.monotonic() + _START
        while (line := lines.get(timeout=max(0.1, until - time.monotonic()))) is not None:
            if found := _ADDRESS.search(line):
                self.port, self.token = int(found[1]), found[2]
                self._until_it_answers(until)
                return self
        raise AssertionError("stratum web ended: " + "".join(self.said))

    def stop(self, sign: int = signal.SIGINT) -> int:
        """End the command and return its status."""
        assert self.process is not None
        self.process.send_signal(sign)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def kill(self) -> None:
        """End the command as a crash would."""
        self.stop(signal.SIGKILL)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> Reply:
        """Ask the API with the token."""
        sent = {"Authorization": f"Bearer {self.token}"} | dict(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/json"
        with contextlib.closing(self._connection()) as connection:
            asked = f"{path}?{urlencode(params)}" if params else path
            connection.request(method, asked, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, told, answer.read())

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON of a page that is there."""
        answer = self.request("GET", path, **params)
        assert answer.status == 200, answer.body
        return answer.json()

    @contextlib.contextmanager
    def events(
        self, path: str, last_id: str = "", timeout: float = 60.0
    ) -> Iterator[Iterator[Event]]:
        """Open a stream of server-sent events; it ends with the connection."""
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        with contextlib.closing(self._connection(timeout)) as connection:
            connection.request("GET", path, None, headers)
            with contextlib.closing(connection.getresponse()) as answer:
                assert answer.status == 200, answer.read()
                yield _events_of(answer)

    def _connection(self, timeout: float = 60.0) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def _hear(self, process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                self.said.append(line)
                lines.put(line)
        lines.put(None)

    def _until_it_answers(self, until: float) -> None:
        while time.monotonic() < until:
            with contextlib.suppress(OSError), contextlib.closing(self._connection(2.0)) as probe:
                probe.connect()
                return
            time.sleep(0.05)
        raise AssertionError("stratum web does not listen: " + "".join(self.said))


@dataclass(frozen=True)
class Event:
    """A server-sent event; `id` is the last one that the stream has told."""

    name: str
    data: str
    id: str

    def json(self) -> Any:
        return json.loads(self.data)


def _events_of(answer: http.client.HTTPResponse) -> Iterator[Event]:
    """Yield events as a browser would hear them."""
    name, data, id_ = "message", [], ""
    for raw in answer:
        line = raw.decode("utf-8").rstrip("\r\n")
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Event(name, "\n".join(data), id_)
            name, data = "message", []
        elif key == "id":
            id_ = value
        elif key == "event":
            name = value
        elif key == "data":
            data.append(value)


def environ(home: Path) -> dict[str, str]:
    """Return the environment of a user with a home of his own and no settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STRATUM_")}
    own = {"STRATUM_HOME": str(home), "STRATUM_EMBED_MODEL": "none", "STRATUM_AUTHOR": "Ada"}
    return kept | own | {"PYTHONUNBUFFERED": "1"}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def site(root: Path, home: Path, *arguments: str) -> Iterator[Site]:
    """Serve the page of a project until the block ends."""
    one = Site(root, home, arguments).start()
    try:
        yield one
    finally:
        if one.process is not None and one.process.poll() is None:
            one.stop()


def require_chromium() -> str:
    """Return the browser; without it skip, but fail on a machine of CI."""
    found = CHROMIUM if Path(CHROMIUM).exists() else shutil.which("chromium")
    if found:
        return found
    reason = "no browser for tests: Chromium is not installed"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Run a browser that reaches loopback and nothing else."""
    path = require_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=[
                "--no-sandbox",  # a container's root may have none
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                "--disable-background-networking",
            ],
        )
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One tab in a context of its own: cookies, theme and size are those of this visit."""

    def __init__(self, browser: Any, origin: str, **options: Any) -> None:
        self.context = browser.new_context(**({"reduced_motion": "reduce"} | options))
        self.page = self.context.new_page()
        self.origin = origin
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("response", self._answered)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", self._asked)
        self.page.set_default_timeout(15_000)

    def open(self, site: Site, route: str = "#/") -> Any:
        """Come in by the printed address, then go to a route; return the tab."""
        if not self.page.url.startswith(site.origin):
            self.page.goto(site.address)
            self.page.wait_for_function("() => !location.hash.includes('token')")
        self.go(route)
        return self.page

    def go(self, route: str) -> None:
        """Go to a route and wait until nothing there is being loaded."""
        self.page.evaluate("route => { location.hash = route; }", route)
        self.settle()

    def settle(self) -> None:
        """Wait until no part of the page says that it is being loaded."""
        self.page.wait_for_timeout(50)
        self.page.wait_for_function(
            "() => document.readyState === 'complete' && document.querySelector('main')"
            " && document.querySelector('main').childElementCount > 0"
            " && !document.querySelector('[data-state=loading]')"
        )

    @property
    def strangers(self) -> list[str]:
        """The requests that went elsewhere than to the server of the page."""
        own = urlsplit(self.origin).netloc
        return [
            url
            for url in self.requests
            if urlsplit(url).scheme not in ("data", "blob", "about") and urlsplit(url).netloc != own
        ]

    def close(self) -> None:
        """Leave, and make sure that nothing went wrong meanwhile."""
        self.context.close()
        assert self.errors == []
        assert self.strangers == []

    def _answered(self, response: Any) -> None:
        # files of the page; what the API refuses is its business
        if response.status >= 400 and not urlsplit(response.url).path.startswith("/api/"):
            self.errors.append(f"{response.status} for {response.url}")

    def _said(self, message: Any) -> None:
        if message.type == "error" and not message.text.startswith(_IGNORED):
            self.errors.append(message.text)

    def _asked(self, dialog: Any) -> None:
        self.errors.append(f"a dialog: {dialog.message}")
        dialog.dismiss()


@contextlib.contextmanager
def visit(browser: Any, site: Site, **options: Any) -> Iterator[Visit]:
    """Visit a site, and make sure at the end that nothing went wrong."""
    one = Visit(browser, site.origin, **options)
    try:
        yield one
    except BaseException:
        one.context.close()
        raise
    one.close()


def until(true: Callable[[], Any], seconds: float = 90.0) -> Any:
    """Return what a function returns as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError("it has not happened")


@contextlib.contextmanager
def slow_model(seconds: float) -> Iterator[dict[str, Any]]:
    """Serve a model that takes its time, looks around and submits; yields the order of a run."""

    def script(body: dict[str, Any], number: int) -> Answer:
        time.sleep(seconds)
        tools = [tool["function"]["name"] for tool in body.get("tools", ())]
        if len(body["messages"]) < 6 and "list_dir" in tools:
            return Answer(calls=[Call("list_dir", {"path": "."})])
        return Answer(calls=[Call("submit", {"files": ["depot/courier.py"]})])

    with ChatEndpoint(script) as endpoint:
        yield {
            "suite": "own", "arms": ["bare", "stratum"], "agent": "chat", "model": "slow",
            "base_url": endpoint.base_url,
        }  # fmt: skip


MODULES = ("audit", "courier", "invoice", "label", "ledger", "parcel", "refund", "stock")
FIXES = (
    ("courier", "Fix the courier that never hears of a parcel without a label in the stock"),
    ("stock", "Fix the stock of an audit that falls short of the ledger after a refund"),
    ("label", "Fix labels that crash the printing of an invoice with an empty parcel"),
    ("courier", "Fix the courier that hears twice of a parcel that has left the stock"),
    ("ledger", "Fix the ledger that forgets an invoice after the audit of a refund"),
    ("refund", "Fix refunds that are booked twice when the courier brings a parcel back"),
)


def make_depot(root: Path) -> Path:
    """Make a repository with a history of fixes, of which a benchmark can be made."""
    root.mkdir(parents=True)
    make_repository(root, {f"depot/{name}.py": _module(name) for name in MODULES})
    for number, (name, message) in enumerate(FIXES, start=1):
        path = root / "depot" / f"{name}.py"
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"factor = \d+", f"factor = {number}", text), encoding="utf-8")
        git(root, "commit", "-q", "-a", "-m", message)
    return root


def _module(name: str) -> str:
    """Return a file with definitions that speak of its neighbours."""
    parts = [f'"""The {name} of the depot."""\n']
    for number, other in enumerate(one for one in MODULES if one != name):
        body = "\n".join(f"    step_{line} = {other}.weight * {line}" for line in range(20))
        parts.append(
            f"def {name}_of_{other}({other}, weight):\n"
            f'    """Book the {name} of a {other} by its rounded weight."""\n'
            f"    scale = {number}\n{body}\n    return step_1 * scale + weight\n"
        )
    parts.append("def settle():\n    factor = 0\n    return factor\n")
    return "\n\n".join(parts)


def events_of_run(tasks: int, arms: Sequence[str], steps: int = 4) -> list[Any]:
    """Return the events of a run as agents would make it: later steps cost more, memory saves."""
    header = {
        "stratum": "0.1.0", "suite": "own", "tasks": tasks, "arms": list(arms),
        "agent": "scripted", "profile": "unfamiliar", "seed": 1,
    }  # fmt: skip
    given = [
        TaskGiven(
            f"depot-{number:03}", number, "depot", "f" * 40, "2024-01-01T00:00:00+00:00",
            f"Task {number} of the depot", (f"depot/{MODULES[number % 8]}.py",), "nothing",
        )
        for number in range(tasks)
    ]  # fmt: skip
    episodes = [episode(task, arm, steps) for task in given for arm in arms]
    return [RunStarted(header), *given, *(event for one in episodes for event in one)]


_ASKED: dict[str, dict[str, Any]] = {
    "memory_pack": {"task": "parcels without a label", "budget": 1200},
    "grep": {"pattern": "parcel"},
    "read_file": {"path": "depot/courier.py", "start_line": 1, "end_line": 40},
}


def episode(task: TaskGiven, arm: str, steps: int) -> list[Any]:
    """Return what one agent did in one arm; each seventh task is missed."""
    has_memory = arm not in ("bare", "file")
    taken = max(1, steps - task.order % 3 - has_memory)
    events: list[Any] = [Started(task.task, arm, tools=300 if has_memory else 0)]
    prompt = 500 + (300 if has_memory else 0)
    for step in range(1, taken + 1):
        tool = "memory_pack" if has_memory and step == 1 else ("grep", "read_file")[step % 2]
        events.append(
            Asked(task.task, arm, step, prompt, prompt - 100, 40, memory=300 * has_memory, ms=7.5)
        )
        events.append(
            Called(
                task.task, arm, step, tool, _ASKED[tool], tool == "memory_pack", 900, 220,
                ms=1.5, result="depot/courier.py:12: parcel",
            )
        )  # fmt: skip
        prompt += 260
    outcome = "MISS" if task.order % 7 == (3 if has_memory else 5) else "PASS"
    submitted = task.gold if outcome == "PASS" else ("depot/audit.py",)
    return [*events, Ended(task.task, arm, submitted, outcome, "submitted", task.gold)]


def write_run(folder: Path, events: Sequence[Any]) -> Path:
    """Write a run as a benchmark leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRACE).write_text("".join(map(as_line, events)), encoding="utf-8")
    return folder
