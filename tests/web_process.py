"""A real `stratum web` in a process of its own, and requests to it as anybody can send them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratum.config import Settings

_URL = re.compile(r"http://[^/]+:(\d+)/#token=(\S+)")
_START = """
import sys
import stratum.web_security, stratum.web_server
stratum.web_server.SLOW_SECONDS = stratum.web_security.BODY_SECONDS = {patience}
from stratum.cli import main
main()
"""


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the headers by lower-case name, the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error."""
        return str(self.json["error"]["code"])


class WebProcess:
    """The server, with the address and the token that it has printed."""

    def __init__(
        self, settings: Settings, root: Path, *words: str, patience: float | None = None
    ) -> None:
        command = (
            ["-m", "stratum"] if patience is None else ["-c", _START.format(patience=patience)]
        )
        self._log = settings.database.parent / "web.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command, "web", "--no-open", *words], cwd=root,
                env=environment(settings), stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        found = _URL.search(self.line)
        assert found, f"no address: {self.line!r}; {self.log()}"
        self.port, self.token = int(found[1]), found[2]

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        token: bool = True,
        host: str | None = None,
    ) -> Answer:
        """Send one request; with the token unless told otherwise."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = dict(headers or {})
        if token:
            sent["Authorization"] = f"Bearer {self.token}"
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        sent["Host"] = host if host is not None else f"127.0.0.1:{self.port}"
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        ) as connection:
            connection.request(method, path, None if body is None else raw, sent)
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, answer.read())

    def get(self, path: str) -> Any:
        """Return the JSON of a GET that must go well."""
        answer = self.ask("GET", path)
        assert answer.status == 200, answer
        return answer.json

    def post(self, path: str, body: Any = None) -> Any:
        """Return the JSON of a POST that must go well."""
        answer = self.ask("POST", path, {} if body is None else body)
        assert answer.status == 200, answer
        return answer.json

    def raw(self, data: bytes, *, seconds: float = 10) -> bytes:
        """Send bytes as they are; return all that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(data)
            received = b""
            with contextlib.suppress(OSError):
                while chunk := connection.recv(65536):
                    received += chunk
            return received

    @contextlib.contextmanager
    def events(self, path: str = "/api/events", **headers: str) -> Iterator[Iterator[Event]]:
        """Listen to a stream of events."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"} | headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        try:
            yield _events(answer)
        finally:
            answer.close()
            connection.close()

    def stop(self, number: int = signal.SIGINT) -> int:
        """End the server; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    name: str
    id: str
    data: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


def _events(answer: http.client.HTTPResponse) -> Iterator[Event]:
    fields: dict[str, str] = {}
    while line := answer.readline():
        name, _, value = line.decode().rstrip("\r\n").partition(": ")
        if name in ("event", "id", "data"):
            fields[name] = value
        elif not name and fields:
            yield Event(fields.get("event", ""), fields.get("id", ""), fields.get("data", ""))
            fields = {}


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which a command uses these settings."""
    return os.environ | {
        "STRATUM_HOME": str(settings.database.parent),
        "STRATUM_EMBED_MODEL": "hashing",
        "STRATUM_AUTHOR": "Ada",
        "BROWSER": "true",
    }


@contextlib.contextmanager
def web(
    settings: Settings, root: Path, *words: str, patience: float | None = None
) -> Iterator[WebProcess]:
    """Run the server on a free port as long as the body runs."""
    port = () if "--port" in words else ("--port", "0")
    server = WebProcess(settings, root, *port, *words, patience=patience)
    try:
        yield server
    finally:
        server.stop()


def until(wanted: Any, seconds: float = 20.0) -> Any:
    """Call until something true comes back, which is returned."""
    deadline = time.monotonic() + seconds
    while True:
        found = wanted()
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)
