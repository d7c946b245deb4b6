"""The stdio server: answers at once what never changes, while the SDK loads behind it.

Importing the MCP SDK takes about a second, and some agents give up on a server after that time.
So a front made of the standard library reads the lines, answers the handshake and the lists from
a manifest (which the SDK itself produced) and passes everything else on; when the SDK is there
it gets all lines, the opening request included, whose second answer is dropped.

Owns the descriptors, signals and the end of the process. Knows nothing of what the tools do.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from stratum._version import __version__
from stratum.keeper import Keeper

if TYPE_CHECKING:
    from stratum.config import Settings
    from stratum.mcp_server import StratumServer

MANIFESTS = {
    "solo": Path(__file__).with_name("manifest.json"),
    "team": Path(__file__).with_name("manifest_team.json"),
}

_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
_CLIENT_KEY = "io.modelcontextprotocol/clientInfo"
_CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
_LAST_ANSWERS = 5.0  # seconds that running calls have when the client closes stdin, or at a signal
_LAST_BATCH = 2.0  # seconds that background work has to stop: the database survives without it
_CHUNK = 1 << 16
_DEEPEST = 100  # levels of a message: the SDK loses those of about 200
_INVALID_REQUEST = -32600
_TOO_DEEP = f"The message nests deeper than {_DEEPEST} levels."
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]')

log = logging.getLogger(__name__)


def serve(settings: Settings, path: Path) -> NoReturn:
    """Serve the memory of the project at `path` on stdin and stdout until stdin closes.

    Takes over the process: descriptors 0 and 1, SIGTERM, SIGINT, logging and the exit.
    """
    source, wire = _claim_descriptors()
    front = Front(source, wire, settings.profile)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: front.end())
    logging.basicConfig(
        stream=sys.stderr,
        level=settings.log_level.upper(),
        format="%(asctime)s %(name)s %(levelname)s %(message)s",
    )
    threading.Thread(target=front.read, name="stratum-stdin", daemon=True).start()
    threading.Thread(target=_leave_at_last, args=(front,), daemon=True).start()
    project = Keeper(settings, path)
    _run_sdk(front, project, settings.profile)
    threading.Timer(_LAST_BATCH, _leave).start()
    project.close()
    _leave()


def _claim_descriptors() -> tuple[int, int]:
    """Move the protocol to private descriptors: prints and children see stderr and no input."""
    source, wire = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # a client may start us without stderr
        os.dup2(nothing, 1)
    os.close(nothing)
    return source, wire


def _leave() -> NoReturn:
    """End the process now: threads inside the model or blocked on stdin cannot be waited for."""
    logging.shutdown()
    os._exit(0)


def _leave_at_last(front: Front) -> NoReturn:
    """End the process although a call still runs: no client waits for its answer any more."""
    front.ended.get()
    time.sleep(_LAST_ANSWERS)
    log.warning("a call was still running at the end")
    _leave()


def _run_sdk(front: Front, project: Keeper, profile: str) -> None:
    """Load the SDK and let it serve what the front passes on, until there is no more."""
    import anyio

    from stratum.mcp_server import build_server

    server = build_server(project.open, project.coordination if profile == "team" else None)
    front.pass_all()
    threading.Thread(target=project.warm_up, name="stratum-warm-up", daemon=True).start()
    anyio.run(run_session, front, server)


async def run_session(front: Front, server: StratumServer) -> None:
    """Let the SDK answer what the front passes on, until the front has no more."""
    from mcp.server.stdio import stdio_server

    lines, answers = _Lines(front), _Answers(front)
    async with stdio_server(lines, answers) as (read, write):  # type: ignore[arg-type]  # of its file type the SDK uses two methods
        await server.run_over(read, write)


class _Lines:
    """The lines that the front passes on, as the SDK reads a file."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def __aiter__(self) -> _Lines:
        return self

    async def __anext__(self) -> str:
        from anyio import to_thread

        line = await to_thread.run_sync(self._front.lines.get, abandon_on_cancel=True)
        if line is None:
            raise StopAsyncIteration
        return line


class _Answers:
    """The SDK's output, as the SDK writes a file."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def write(self, text: str) -> None:
        from anyio import to_thread

        await to_thread.run_sync(self._front.settle, text)

    async def flush(self) -> None:
        """Do nothing: every line was written through."""


class Front:
    """Reads the client's lines, answers what the manifest covers and passes on the rest.

    Only messages that are certainly well-formed are answered here, so that every error is the
    SDK's own; but those that nest too deep for it, which it would never answer, are refused.
    `lines` holds what the SDK has to see; None marks the end.
    """

    def __init__(self, source: int, wire: int, profile: str = "solo") -> None:
        text = MANIFESTS[profile].read_text(encoding="utf-8").replace("@version@", __version__)
        self._manifest: dict[str, Any] = json.loads(text)
        self._source = source
        self._wire = wire
        self._writing = threading.Lock()
        self._changed = threading.Condition()
        self._unanswered: set[str] = set()
        self._version = ""
        self._opening = ""  # the id whose answer by the SDK is dropped
        self._passing = False
        self._sdk_runs = False
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[None] = queue.SimpleQueue()  # no Event: set by signals

    def read(self) -> None:
        """Read lines until stdin closes; runs in a thread of its own."""
        rest = b""
        while chunk := self._read_chunk():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self.receive(line.decode("utf-8", "replace"))
        if rest:
            self.receive(rest.decode("utf-8", "replace"))
        with self._changed:
            self._changed.wait_for(lambda: not self._unanswered, _LAST_ANSWERS)
        self.end()

    def _read_chunk(self) -> bytes:
        try:
            return os.read(self._source, _CHUNK)
        except OSError:
            return b""

    def receive(self, line: str) -> None:
        """Answer one line, or queue it for the SDK."""
        message = _parsed(line)
        if _is_deep(line):
            if _is_request(message) or not message:
                error = {"code": _INVALID_REQUEST, "message": _TOO_DEEP}
                answer = {"jsonrpc": "2.0", "id": message.get("id"), "error": error}
                self._send(json.dumps(answer) + "\n")
            return
        if message and "\\ud" in line.lower():
            # half a character, as from a text cut by its UTF-16 length: the SDK never answers it
            line = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace").decode()
            message = _parsed(line)
        opens = not self._version
        result = None if self._passing else self._covered(message)
        if result is None:
            # whatever opens a session in a way unknown here is for the SDK, with all that follows
            self._passing = self._passing or opens
            self._pass_on(line, message)
            return
        id_ = json.dumps(message["id"])
        if opens:
            self._opening = id_
            self.lines.put(line)
        self._send(f'{{"jsonrpc":"2.0","id":{id_},"result":{result}}}\n')

    def _pass_on(self, line: str, message: dict[str, Any]) -> None:
        with self._changed:
            if _is_request(message):
                self._unanswered.add(json.dumps(message["id"]))
            elif message.get("method") == "notifications/cancelled":
                params = message.get("params")
                cancelled = params.get("requestId") if isinstance(params, dict) else None
                self._unanswered.discard(json.dumps(cancelled))
        self.lines.put(line)

    def _covered(self, message: dict[str, Any]) -> str | None:
        """Return the result that the manifest has for a request, as JSON, or None."""
        params = message.get("params", {})
        if not _is_request(message) or message.keys() - {"jsonrpc", "id", "method", "params"}:
            return None
        version = self._era(message["method"], params)
        number = self._manifest["answers"].get(version, {}).get(message["method"])
        if number is None:
            return None
        self._version = version
        result = self._manifest["results"][number]
        return json.dumps(result, ensure_ascii=False, separators=(",", ":"))

    def _era(self, method: str, params: dict[str, Any]) -> str:
        """Return the protocol version a request is to be answered in, "" where unsure."""
        if method == "initialize":
            if self._version or not _is_hello(params):
                return ""
            asked: str = params["protocolVersion"]
            return asked if asked in self._manifest["handshake"] else self._manifest["fallback"]
        meta = params.get("_meta", {})
        if params.keys() - {"_meta"} or not isinstance(meta, dict):
            return ""
        if _is_id(meta.get("progressToken")):  # Codex sends one with every request
            meta = {key: value for key, value in meta.items() if key != "progressToken"}
        if not meta:
            return self._version if self._version in self._manifest["handshake"] else ""
        asked = str(meta.get(_VERSION_KEY))
        if asked not in self._manifest["modern"] or self._version not in ("", asked):
            return ""
        return asked if _is_envelope(meta) else ""

    def settle(self, text: str) -> None:
        """Write a line of the SDK, unless it answers what was answered here already."""
        message = _parsed(text)
        if "method" not in message and "id" in message:
            id_ = json.dumps(message["id"])
            if id_ == self._opening:
                self._opening = ""
                return
            self._send(text)
            with self._changed:
                self._unanswered.discard(id_)
                self._changed.notify_all()
            return
        self._send(text)

    def _send(self, text: str) -> None:
        data = memoryview(text.encode("utf-8", "replace"))
        with self._writing:
            try:
                while data:
                    data = data[os.write(self._wire, data) :]
            except OSError:  # the client is gone
                self.end()

    def pass_all(self) -> None:
        """Leave everything from now on to the SDK."""
        with self._changed:
            self._passing = self._sdk_runs = True

    def end(self) -> None:
        """Let the SDK finish, or leave at once when it has not begun."""
        if not self._sdk_runs:
            _leave()
        self.lines.put(None)
        self.ended.put(None)


def _parsed(line: str) -> dict[str, Any]:
    """Return a JSON object, {} for anything else."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _is_deep(line: str) -> bool:
    """Tell whether brackets nest deeper than the SDK can read; strings do not count."""
    if line.count("[") + line.count("{") <= _DEEPEST:  # nearly always: the look is cheap
        return False
    depth = 0
    for match in _BRACKETS.finditer(line):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match.group(), 0)
        if depth > _DEEPEST:
            return True
    return False


def _is_request(message: dict[str, Any]) -> bool:
    return (
        message.get("jsonrpc") == "2.0"
        and isinstance(message.get("method"), str)
        and _is_id(message.get("id"))
        and isinstance(message.get("params", {}), dict)
    )


def _is_id(value: object) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_hello(params: dict[str, Any]) -> bool:
    return (
        params.keys() == {"protocolVersion", "capabilities", "clientInfo"}
        and isinstance(params["protocolVersion"], str)
        and _is_capabilities(params["capabilities"])
        and _is_client(params["clientInfo"])
    )


def _is_envelope(meta: dict[str, Any]) -> bool:
    return (
        {_VERSION_KEY, _CAPABILITIES_KEY}
        <= meta.keys()
        <= {_VERSION_KEY, _CAPABILITIES_KEY, _CLIENT_KEY}
        and _is_capabilities(meta[_CAPABILITIES_KEY])
        and (_CLIENT_KEY not in meta or _is_client(meta[_CLIENT_KEY]))
    )


def _is_capabilities(value: object) -> bool:
    """Tell whether capabilities have the one shape that all revisions share."""
    if not isinstance(value, dict):
        return False
    for name, options in value.items():
        if not isinstance(options, dict):
            return False
        kind = bool if name == "roots" else dict
        if not all(isinstance(option, kind) for option in options.values()):
            return False
    return True


def _is_client(value: object) -> bool:
    if not isinstance(value, dict) or not {"name", "version"} <= value.keys():
        return False
    return all(
        _are_icons(part) if key == "icons" else isinstance(part, str) for key, part in value.items()
    )


def _are_icons(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(icon, dict)
        and isinstance(icon.get("src"), str)
        and all(
            isinstance(part, list) and all(isinstance(size, str) for size in part)
            if key == "sizes"
            else isinstance(part, str) and (key != "theme" or part in ("light", "dark"))
            for key, part in icon.items()
        )
        for icon in value
    )


def manifest_text(profile: str) -> str:
    """Return what the manifest of a profile has to hold, asked of the SDK anew."""
    import anyio

    from stratum.mcp_server import describe

    text = json.dumps(anyio.run(describe, profile), ensure_ascii=False, indent=1, sort_keys=True)
    return text.replace(f'"version": "{__version__}"', '"version": "@version@"') + "\n"


if __name__ == "__main__":  # for maintainers: after a change of a tool or of the SDK
    for name, manifest in MANIFESTS.items():
        manifest.write_text(manifest_text(name), encoding="utf-8")
