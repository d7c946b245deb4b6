"""What happened in a run, one JSON object a line: the same from a saved file as from a live run.

Owns the events and the file that they are kept in. Knows nothing of agents, memory or scores.

Events of one task in one arm come in order: `Started`, then for each step one `Asked` and the
`Called` of its tool calls, then `Ended`. Tasks and arms may be mixed while a run goes on; in a
finished file they stand in the order of the tasks and of the arms.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

from stratum import InvalidInput, NotFound

TRACE = "trace.jsonl"


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The first line: all that a run depends on, so that it can be repeated."""

    event: ClassVar[str] = "run"
    header: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TaskGiven:
    """A task; `order` counts from 0 within the run. `gold` was never shown to an agent."""

    event: ClassVar[str] = "task"
    task: str
    order: int
    repo: str
    base_commit: str
    created_at: str
    title: str
    gold: tuple[str, ...]
    leak: str


@dataclass(frozen=True, slots=True)
class Started:
    """An agent begins a task in an arm.

    `tools`, `instructions` and `file` are the tokens that memory adds to each prompt.
    """

    event: ClassVar[str] = "start"
    task: str
    arm: str
    tools: int = 0
    instructions: int = 0
    file: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """One request to the agent: the whole conversation so far goes in, one message comes out.

    All counts are tokens. `cached` is the part of `prompt` that the request before had already
    sent or received; `reasoning` is a part of `output`; `memory` is the part of prompt and output
    that would not be there without memory. `cost` is what the endpoint says, in its currency.
    """

    event: ClassVar[str] = "ask"
    task: str
    arm: str
    step: int
    prompt: int
    cached: int
    output: int
    reasoning: int = 0
    memory: int = 0
    cost: float | None = None
    ms: float = 0.0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Called:
    """One tool call of a step; `result` is the beginning of `chars` characters, `tokens` tokens."""

    event: ClassVar[str] = "call"
    task: str
    arm: str
    step: int
    tool: str
    arguments: dict[str, Any]
    memory: bool
    chars: int
    tokens: int
    ms: float = 0.0
    result: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """An agent is done with a task in an arm.

    `outcome` is PASS, MISS, STALE, INVENTED or ERROR. `reason` is how it ended: "submitted",
    "limit", "context", or what went wrong. `recalled` are the files that memory named, in order;
    `learned` says whether a note was written back.
    """

    event: ClassVar[str] = "end"
    task: str
    arm: str
    submitted: tuple[str, ...]
    outcome: str
    reason: str
    recalled: tuple[str, ...] = ()
    learned: bool = False


Event = RunStarted | TaskGiven | Started | Asked | Called | Ended
OUTCOMES = ("PASS", "MISS", "STALE", "INVENTED", "ERROR")
_KINDS: dict[str, type[Event]] = {
    kind.event: kind for kind in (RunStarted, TaskGiven, Started, Asked, Called, Ended)
}


def as_line(event: Event) -> str:
    """Return an event as a line of JSON with its end."""
    return json.dumps({"event": event.event} | dataclasses.asdict(event)) + "\n"


def from_line(line: str) -> Event:
    """Return the event of a line.

    Raises:
        ValueError: The line is no event.
    """
    try:
        told = json.loads(line)
    except RecursionError:
        raise ValueError("no event") from None
    kind: Any = _KINDS.get(str(told.pop("event", ""))) if isinstance(told, dict) else None
    if kind is None:
        raise ValueError("no event")
    known = {one.name for one in dataclasses.fields(kind)}
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in told.items()
        if name in known  # what a later version adds
    }
    try:
        event: Event = kind(**values)
    except TypeError as error:
        raise ValueError(str(error)) from None
    return event


def complete_events(path: Path) -> Iterator[Event]:
    """Yield the events of a file up to the first line that is none, as a kill may leave."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    for line in text.split("\n")[:-1]:
        try:
            yield from_line(line)
        except ValueError:
            return


def read_events(where: Path) -> list[Event]:
    """Return the events of a run.

    Args:
        where: The folder of a run, or its trace.

    Raises:
        NotFound: There is no trace.
        InvalidInput: A line is no event, or the first one is not the header.
    """
    path = where / TRACE if where.is_dir() else where
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError):
        raise NotFound(
            f"There is no trace at {path}.", hint="Give the folder of a run, or its trace.jsonl."
        ) from None
    events = []
    for number, line in enumerate(lines, start=1):
        try:
            events.append(from_line(line))
        except ValueError:
            raise InvalidInput(
                f"{path.name}, line {number} is no event of a run.",
                hint="Run it again with the same --out: what is complete is kept.",
            ) from None
    if not events or not isinstance(events[0], RunStarted):
        raise InvalidInput(
            f"{path.name} does not begin with the header of a run.", hint="Give the whole file."
        )
    return events


@dataclass(slots=True)
class Episode:
    """All events of one task in one arm, in order."""

    task: str
    arm: str
    events: list[Started | Asked | Called | Ended] = field(default_factory=list)

    @property
    def end(self) -> Ended | None:
        """The last event, when there is one."""
        last = self.events[-1] if self.events else None
        return last if isinstance(last, Ended) else None


def episodes(events: Iterable[Event]) -> dict[tuple[str, str], Episode]:
    """Return the events by (task, arm), in the order in which these first come."""
    found: dict[tuple[str, str], Episode] = {}
    for event in events:
        if isinstance(event, RunStarted | TaskGiven):
            continue
        key = (event.task, event.arm)
        if isinstance(event, Started) or key not in found:
            found[key] = Episode(*key)  # begun again: what a killed run left does not count
        found[key].events.append(event)
    return found


class TraceFile:
    """The trace of a run that is being made, in the folder of the run.

    Complete episodes of an equal run are `kept`, the rest of the file is dropped. A trace of
    another run is put aside, not overwritten.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], tasks: Iterable[TaskGiven]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / TRACE
        self.header = RunStarted(json.loads(json.dumps(dict(header))))
        self.tasks = list(tasks)
        self.put_aside: Path | None = None
        found = list(complete_events(self.path))
        same = bool(found) and found[0] == self.header
        self.kept = {
            key: episode
            for key, episode in episodes(found if same else ()).items()
            if episode.end is not None and episode.end.outcome != "ERROR"
        }
        if self.path.exists() and not same:
            self.put_aside = self._free_name(folder)
            self.path.rename(self.put_aside)
        self._write(self.kept)
        self._file: IO[str] = self.path.open("a", encoding="utf-8")

    def __enter__(self) -> TraceFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, event: Event) -> None:
        """Append an event; it is in the file when this returns."""
        self._file.write(as_line(event))
        self._file.flush()

    def finish(self, arms: Iterable[str]) -> list[Event]:
        """Put all episodes into the order of the tasks and of the arms, and return the events."""
        self._file.close()
        there = episodes(complete_events(self.path))
        order = [(task.task, arm) for task in self.tasks for arm in arms]
        self._write({key: there[key] for key in order if key in there})
        return list(complete_events(self.path))

    def _write(self, parts: Mapping[tuple[str, str], Episode]) -> None:
        """Replace the file at once by the header, the tasks and some episodes."""
        fresh = self.path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            file.write(as_line(self.header))
            file.writelines(map(as_line, self.tasks))
            for episode in parts.values():
                file.writelines(map(as_line, episode.events))
        fresh.replace(self.path)

    @staticmethod
    def _free_name(folder: Path) -> Path:
        number = 1
        while (name := folder / f"trace-{number}.jsonl").exists():
            number += 1
        return name
