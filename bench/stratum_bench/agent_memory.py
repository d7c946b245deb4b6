"""Memory as an agent meets it: the tools of the MCP server, and the same notes as a static file.

Owns the connection to the server, in this process or over stdio, and stable names for notes, whose
ids are random: two equal runs must be equal to the byte. Knows no agent and no task.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
import time
from base64 import b32encode
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal
from mcp import Client, MCPError, StdioServerParameters
from mcp.types import TextContent

from stratum import Memory, Unavailable
from stratum.mcp_server import build_server
from stratum_bench.agent import Tool
from stratum_bench.conversation import count

WRITE = "memory_write"
FILE_BUDGET = 2_000  # tokens of the static file: about what people put into one
_WRITTEN = re.compile(r"^[a-z]+ ([a-z2-7]{12})\b")  # how a write is answered
_NOTES = re.compile(r"^## Notes\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BUSY = "Notice: Indexing is under way"
_READY = 120.0  # seconds after which an index that is not ready is no longer waited for
_FILE_HEAD = "# What earlier sessions learned about this repository, newest first\n"


class MemoryTools(contextlib.AbstractContextManager["MemoryTools"]):
    """The server's tools and instructions, as a client that has connected to it sees them.

    Args:
        memory: An open memory, whose server then runs in this process; without it one is started
            and spoken to over its standard input and output.
        environ: The environment of a server that is started.
        cwd: The folder that it is started in.
        names: The stable names of ids so far, where a server is not the first one.
    """

    def __init__(
        self,
        memory: Memory | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        names: dict[str, str] | None = None,
    ) -> None:
        self._server: Any = (
            build_server(lambda: memory)
            if memory is not None
            else StdioServerParameters(
                command=sys.executable,
                args=["-P", "-m", "stratum", "serve"],
                env=dict(environ or {}),
                cwd=cwd,
            )
        )
        self._stack = contextlib.ExitStack()
        self._names: dict[str, str] = {} if names is None else names
        self.tools: tuple[Tool, ...] = ()
        self.instructions = ""

    def __enter__(self) -> MemoryTools:
        """Connect to the server.

        Raises:
            Unavailable: It did not start.
        """
        try:
            self._connect()
            if isinstance(self._server, StdioServerParameters):
                self._settle()
        except (MCPError, OSError, ExceptionGroup) as error:
            raise Unavailable(
                f"The memory server did not start: {_said(error)}.",
                hint="`stratum doctor` tells what is wrong.",
            ) from error
        return self

    def _connect(self) -> None:
        with contextlib.ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            client = stack.enter_context(
                portal.wrap_async_context_manager(Client(self._server, read_timeout_seconds=120))
            )
            listed = portal.call(client.list_tools)
            self.tools = tuple(
                Tool(tool.name, tool.description or "", tool.input_schema) for tool in listed.tools
            )
            self.instructions = client.instructions or ""
            self._portal, self._client = portal, client
            self._stack = stack.pop_all()

    def _settle(self) -> None:
        """Wait until the index is ready: what is measured may not depend on how fast that is."""
        end = time.monotonic() + _READY
        while _BUSY in self.call("memory_outline", {})[0] and time.monotonic() < end:
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def call(self, name: str, arguments: Mapping[str, Any]) -> tuple[str, bool]:
        """Return what a tool answers, and whether that is a failure.

        Raises:
            Unavailable: The server did not answer.
        """
        given = self._real(dict(arguments))
        try:
            result = self._portal.call(self._client.call_tool, name, given)
        except MCPError as error:
            raise Unavailable(
                f"The memory server did not answer: {error}.", hint="Run it again."
            ) from None
        texts = [block.text for block in result.content if isinstance(block, TextContent)]
        answer = "\n".join(texts)
        if name == WRITE and not result.is_error:
            self._learn(answer)
        return self._stable(answer), bool(result.is_error)

    def _stable(self, text: str) -> str:
        """Return a text with each known id replaced by one made of how many there were before."""
        for id_, name in self._names.items():
            text = text.replace(id_, name)
        return text

    def _learn(self, answer: str) -> None:
        written = _WRITTEN.match(answer)
        if written and written[1] not in self._names:
            told = hashlib.sha256(f"note {len(self._names)}".encode()).digest()
            self._names[written[1]] = b32encode(told)[:12].decode().lower()

    def _real(self, given: Any) -> Any:
        known = {stable: id_ for id_, stable in self._names.items()}
        if isinstance(given, str):
            return known.get(given, given)
        if isinstance(given, dict):
            return {name: self._real(value) for name, value in given.items()}
        if isinstance(given, list):
            return [self._real(value) for value in given]
        return given


def _said(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


def notes_in(text: str) -> str:
    """Return the part of a pack that is notes of people and agents, not code or history."""
    return "\n".join(_NOTES.findall(text))


def notes_of(memory: Memory) -> list[dict[str, Any]]:
    """Return the living notes of a project, oldest first, as they are exported."""
    lines = [json.loads(line) for line in memory.export()]
    notes = [line for line in lines if "text" in line and not line.get("deleted_at")]
    return sorted(notes, key=lambda note: (note["created_at"], note["text"]))


def forget_all(memory: Memory) -> None:
    """Forget every note of a project."""
    for note in notes_of(memory):
        memory.forget(note["id"])


def static_file(texts: Iterable[str], budget: int = FILE_BUDGET) -> str:
    """Return notes as a Markdown file, the newest first, within `budget` tokens; "" for none.

    Args:
        texts: The notes, oldest first.
    """
    kept, used = [], count(_FILE_HEAD)
    for text in reversed(list(texts)):
        line = f"- {' '.join(text.split())}\n"
        used += count(line) + 1  # joined texts may cost one more
        if used > budget:
            break
        kept.append(line)
    return _FILE_HEAD + "".join(kept) if kept else ""
