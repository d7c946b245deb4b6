"""The lines of a trace as they come, read once for all who listen.

Owns following a file that grows, or is replaced, and where in it a listener goes on. Knows nothing
of what the lines mean but the task and the arm that they are of.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stratum import StratumError
from stratum_bench.trace import RunStarted, from_line

PAUSE = 0.2  # seconds between two looks at a file
_STATE = 1.0  # seconds between two looks at the state of a run
_CHUNK = 64 * 1024  # characters sent at once


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a trace without its end; `task` and `arm` are empty where it has none."""

    text: str
    task: str
    arm: str

    def is_of(self, task: str, arm: str) -> bool:
        """Tell whether a listener wants it who asks for a task and an arm, or "" for all."""
        return task in ("", self.task or task) and arm in ("", self.arm or arm)


@dataclass(slots=True)
class Tape:
    """The lines of one version of a file; `marks[i]` is a digest of all lines up to `i`."""

    lines: list[Line] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    size: int = 0  # bytes of these lines
    inode: int = 0
    broken: bool = False
    digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=6))

    def id_at(self, count: int) -> str:
        """Return what a listener that has the first `count` lines goes on from: line and mark."""
        return f"{count}-{self.marks[count - 1]}" if count else "0"

    def place_of(self, id_: str) -> int | None:
        """Return how many lines a listener has, None where these are not the ones it has."""
        number = id_.partition("-")[0]
        count = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else -1
        return count if 0 <= count <= len(self.lines) and self.id_at(count) == id_ else None

    def add(self, data: bytes) -> bool:
        """Take in what follows, and tell whether there was a whole line."""
        count = len(self.lines)
        for raw in data.split(b"\n")[:-1]:
            try:
                text = raw.decode("utf-8").replace("\r", " ")  # to a browser it ends a line
                event = from_line(text)
            except ValueError:
                self.broken = True  # the file ends here, until it is replaced
                break
            self.size += len(raw) + 1
            self.digest.update(raw + b"\n")
            header = isinstance(event, RunStarted)
            task = "" if header else getattr(event, "task", "")
            self.marks.append(self.digest.hexdigest())  # first: others read while this goes on
            self.lines.append(Line(text, str(task), str(getattr(event, "arm", ""))))
        return len(self.lines) > count


class Feed:
    """One trace and those who listen to it.

    Args:
        path: The trace; it may not be there yet.
        state: Returns the run as plain data; called beside the event loop.
    """

    def __init__(self, path: Path, state: Callable[[], dict[str, Any]]) -> None:
        self._path, self._state_of = path, state
        self._tape = Tape()
        self._state = ""
        self._news = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._grown = False
        self._listeners = 0

    async def listen(self, after: str, wants: Callable[[Line], bool]) -> AsyncGenerator[str]:
        """Yield server-sent events: `trace` for a line, `run` for the state, `reset`.

        Every `trace` and `run` has an id to go on from. A listener whose lines are no longer
        those of the file hears `reset` and then all of it: a run that is finished puts its lines
        in order, one that goes on drops what it had not ended.

        Args:
            after: The last id that the listener has heard, "" for none.
            wants: Tells the lines that are to be heard from those that are passed over.
        """
        self._listeners += 1
        try:
            async with self._starting:
                if self._reader is None or self._reader.done():
                    await self._look(fresh=True)
                    self._reader = asyncio.create_task(self._follow())
            async with contextlib.aclosing(self._told(after, wants)) as told:
                async for text in told:
                    yield text
        finally:
            self._listeners -= 1

    async def _told(self, after: str, wants: Callable[[Line], bool]) -> AsyncGenerator[str]:
        tape, state = self._tape, ""
        place = tape.place_of(after) if after else 0
        yield "retry: 1000\n\n" + (_event("reset", "{}") if place is None else "")
        count = place or 0
        while True:
            news = self._news
            if tape is not self._tape:
                again, count = _caught_up(tape.lines[:count], self._tape)
                tape = self._tape
                yield "".join(
                    _event("reset", "{}") if line is None else _event("trace", line.text)
                    for line in again
                    if line is None or wants(line)
                )
            while count < len(tape.lines):
                size, told = 0, []
                while count < len(tape.lines) and size < _CHUNK:
                    line = tape.lines[count]
                    count += 1
                    if wants(line):
                        told.append(_event("trace", line.text, tape.id_at(count)))
                        size += len(line.text)
                if told:
                    yield "".join(told)
            if state != self._state and tape is self._tape:
                state = self._state
                yield _event("run", state, tape.id_at(count))
            await news.wait()

    async def _follow(self) -> None:
        """Read as long as anybody listens; ends by itself, so that there is never a second one."""
        looked = 0.0
        while self._listeners:
            await asyncio.sleep(PAUSE)
            looked += PAUSE
            if await self._look(fresh=self._grown or looked >= _STATE):
                news, self._news = self._news, asyncio.Event()
                news.set()
            looked = 0.0 if looked >= _STATE else looked
        self._tape = Tape()  # megabytes that nobody needs

    async def _look(self, *, fresh: bool) -> bool:
        """Read what is new, and tell whether there was anything; `fresh` asks for the state."""
        # The state comes first: whoever hears of the end has all lines that were written before.
        state = await asyncio.to_thread(self._told_state) if fresh else self._state
        tape, self._grown = await asyncio.to_thread(read_on, self._path, self._tape)
        found = self._grown or tape is not self._tape or state != self._state
        self._tape, self._state = tape, state
        return found

    def _told_state(self) -> str:
        try:
            return json.dumps(self._state_of())
        except StratumError:  # its folder was removed: it stays as it was
            return self._state


def read_on(path: Path, tape: Tape) -> tuple[Tape, bool]:
    """Return a tape with what has come to a file since, and whether a line has.

    It is a new tape when the file is another one, or shorter than it was.
    """
    with contextlib.suppress(OSError), path.open("rb") as file:
        told = os.fstat(file.fileno())
        if tape.inode and (told.st_ino != tape.inode or told.st_size < tape.size):
            tape = Tape()
        tape.inode = told.st_ino
        if tape.broken or told.st_size == tape.size:
            return tape, False
        file.seek(tape.size)
        return tape, tape.add(file.read())
    return tape, False


def _caught_up(had: list[Line], tape: Tape) -> tuple[list[Line | None], int]:
    """Return what a listener lacks of a file that was replaced, and how many lines it has then.

    None stands for a reset: what it had is no longer true.
    """
    left, lacking = Counter(had), []
    for line in tape.lines:
        if left[line]:
            left[line] -= 1
        else:
            lacking.append(line)
    return ([None], 0) if left.total() else ([*lacking], len(tape.lines))


def _event(name: str, data: str, id_: str = "") -> str:
    head = f"id: {id_}\n" if id_ else ""
    return f"{head}event: {name}\ndata: {data}\n\n"
