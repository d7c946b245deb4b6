"""A run told again as text from its events: no key, no network, the same bytes each time.

Pure: events in, lines out. Figures over several tasks are made elsewhere.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from stratum import NotFound
from stratum_bench.compare_report import is_simulation, plain, summary
from stratum_bench.trace import (
    Asked,
    Called,
    Ended,
    Episode,
    Event,
    RunStarted,
    Started,
    TaskGiven,
    episodes,
)

SHORT = 72  # characters of the arguments of a call, and of what an agent said


def replay(
    events: Sequence[Event],
    *,
    task: str | None = None,
    arm: str | None = None,
    times: bool = False,
) -> Iterator[str]:
    """Return a run as lines of text without line ends.

    Args:
        events: Of one run.
        task: The only task to be told, all unless given.
        arm: The only arm to be told, all unless given.
        times: Whether to tell milliseconds, which differ between two equal runs.

    Raises:
        NotFound: The run has no such task or arm.
    """
    tasks = sorted(
        (event for event in events if isinstance(event, TaskGiven)), key=lambda one: one.order
    )
    there = episodes(events)
    _require("task", task, [one.task for one in tasks])
    _require("arm", arm, dict.fromkeys(name for _, name in there))
    return _told(events, tasks, there, task, arm, times)


def short(arguments: Any, length: int = SHORT) -> str:
    """Return arguments as JSON on one line, cut to a length."""
    told = plain(json.dumps(arguments, ensure_ascii=False))
    return told if len(told) <= length else told[: length - 2] + ".."


def _require(kind: str, wanted: str | None, names: Iterable[str]) -> None:
    if wanted is not None and wanted not in (known := list(names)):
        close = tuple(difflib.get_close_matches(wanted, known, n=3))
        raise NotFound(
            f"The run has no {kind} {plain(wanted)}.",
            hint=f"Leave --{kind} out to see all.",
            similar=close,
        )


def _told(
    events: Sequence[Event],
    tasks: Sequence[TaskGiven],
    there: dict[tuple[str, str], Episode],
    task: str | None,
    arm: str | None,
    times: bool,
) -> Iterator[str]:
    header = next((event.header for event in events if isinstance(event, RunStarted)), {})
    yield summary(header)
    if is_simulation(header):
        yield "The agent is scripted: a simulation."
    told = False
    for number, one in enumerate(tasks, start=1):
        own = [e for (name, of), e in there.items() if name == one.task and arm in (None, of)]
        if task not in (None, one.task) or not own:
            continue
        told = True
        yield ""
        yield f"Task {number} of {len(tasks)}: {plain(one.task)}"
        yield f"  {plain(one.title)}"
        yield f"  {plain(one.repo)} at {plain(one.base_commit[:12])}, gold: {_files(one.gold)}"
        for episode in own:
            yield from _episode(episode, set(one.gold), times)
    if not told:
        yield "Nothing to tell: no task has been begun."


def _episode(episode: Episode, gold: set[str], times: bool) -> Iterator[str]:
    total, memory, requests = 0, 0, 0
    yield f"  Arm {plain(episode.arm)}"
    for event in episode.events:
        if isinstance(event, Started):
            if event.tools or event.instructions or event.file:
                yield (
                    f"    memory adds to each prompt: tools {event.tools:,}, instructions"
                    f" {event.instructions:,}, file {event.file:,} tokens"
                )
        elif isinstance(event, Asked):
            total += event.prompt + event.output
            memory += event.memory
            requests += 1
            yield _asked(event, total, times)
            if event.text.strip():
                yield f"        says {short(event.text.strip())}"
        elif isinstance(event, Called):
            yield _called(event, times)
    end = episode.end
    took = f"{requests} request{'s' * (requests != 1)}, {total:,} tokens"
    if end is None:
        yield f"    NOT ENDED after {took}"
    else:
        yield from _ended(end, gold, f"{took}, {memory:,} of memory")


def _asked(event: Asked, total: int, times: bool) -> str:
    parts = [f"prompt {event.prompt:,}"]
    parts += [f"cached {event.cached:,}"] if event.cached else []
    parts += [f"output {event.output:,}"]
    parts += [f"reasoning {event.reasoning:,}"] if event.reasoning else []
    parts += [f"memory {event.memory:,}"] if event.memory else []
    parts += [f"cost {event.cost:g}"] if event.cost is not None else []
    parts += [f"so far {total:,}", *_ms(event.ms, times)]
    return f"    {event.step:>2}. {', '.join(parts)}"


def _called(event: Called, times: bool) -> str:
    parts = [f"{event.chars:,} chars", f"{event.tokens:,} tokens", *_ms(event.ms, times)]
    kind = "memory " if event.memory else ""
    failed = " FAILED" if event.failed else ""
    named = f"{kind}{plain(event.tool)} {short(event.arguments)}"
    return f"        {named} ->{failed} {', '.join(parts)}"


def _ended(end: Ended, gold: set[str], took: str) -> Iterator[str]:
    if end.recalled:
        yield f"    memory named: {_files(end.recalled, gold)}"
    yield f"    submitted: {_files(end.submitted, gold)}"
    learned = ", a note learned" if end.learned else ""
    yield f"    {plain(end.outcome)} ({plain(end.reason)}) after {took}{learned}"


def _files(files: Sequence[str], gold: Iterable[str] = ()) -> str:
    """Return files in their order, those that are gold with a star."""
    return ", ".join(plain(file) + "*" * (file in gold) for file in files) or "nothing"


def _ms(ms: float, times: bool) -> list[str]:
    return [f"{ms:.0f} ms"] if times else []
