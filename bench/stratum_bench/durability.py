"""What survives kill -9, and what many writers at once do to each other.

Owns the kills, the bookkeeping of what was acknowledged, and the comparison with a bare fsync.
Counts losses and errors; whether a count is acceptable is decided by the tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

from stratum import NotFound
from stratum_bench.corpus import note_text
from stratum_bench.measure import Clock, Result, Row, environment, percentile, progress, spread
from stratum_bench.project import Project, python, temporary_project
from stratum_bench.raw import problems

_KILL_WITHIN = 0.3  # seconds after the writer is ready: a few hundred writes
_EARLY_EVERY = 5  # every so many kills fall into start and opening of the database instead
_EARLY_WITHIN = 1.0
_PAGE = b"\0" * 4096
_PAIRS = {"smoke": 50, "full": 500}  # writes and fsyncs in turn by one process


@dataclass(slots=True)
class Acknowledged:
    """What one writer reported before it ended."""

    writer: int
    ids: dict[int, str] = field(default_factory=dict)
    milliseconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def take(self, line: bytes) -> None:
        """Take in one line of the writer; a line cut short by the kill was not acknowledged."""
        if not line.endswith(b"\n"):
            return
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            self.errors.append(said["error"])
        elif "id" in said:
            self.ids[said["number"]] = said["id"]
            self.milliseconds.append(said["ms"])


@dataclass(frozen=True, slots=True)
class Killed:
    """The outcome of killing writers. `extra` notes were stored but not yet acknowledged."""

    kills: int
    acknowledged: int
    lost: int
    altered: int
    extra: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Together:
    """The outcome of writing at once; milliseconds per write, of all processes."""

    processes: int
    acknowledged: int
    lost: int
    altered: int
    errors: tuple[str, ...]
    problems: tuple[str, ...]
    milliseconds: tuple[float, ...]


def run(size: str, seed: int, *, kills: int, processes: int, writes: int) -> Result:
    """Run both experiments and the comparison with fsync."""
    with temporary_project("hashing") as project:
        killed = kill_writers(project, kills=kills, seed=seed)
    with temporary_project("hashing") as project:
        alone, bare = write_alone(project, pairs=_PAIRS[size], seed=seed)
    with temporary_project("hashing") as project:
        together = write_together(project, processes=processes, writes=writes, seed=seed)
    bare_p50 = percentile(bare.wall, 0.5)
    rows: list[Row] = [
        _row("fsync of 4 KB appended", 1, bare.wall, bare_p50),
        _row("write, alone", 1, alone.wall, bare_p50),
        _row("write, all at once", processes, together.milliseconds, bare_p50),
    ]
    return Result(
        command="durability",
        seed=seed,
        parameters={"size": size, "kills": kills, "processes": processes, "writes": writes},
        environment=environment(),
        rows=rows,
        facts={
            "killed": {
                "kills": killed.kills,
                "acknowledged": killed.acknowledged,
                "lost": killed.lost,
                "altered": killed.altered,
                "stored_unacknowledged": killed.extra,
                "problems": list(killed.problems),
            },
            "together": {
                "acknowledged": together.acknowledged,
                "lost": together.lost,
                "altered": together.altered,
                "errors": list(together.errors),
                "problems": list(together.problems),
            },
            "write_alone_cpu_p50": percentile(alone.cpu, 0.5),
        },
    )


def kill_writers(project: Project, *, kills: int, seed: int) -> Killed:
    """Kill a writing process again and again, each time with all it acknowledged so far intact.

    Every second writer also indexes and embeds in the background when it is killed.
    """
    rng = random.Random(seed)
    project.add("module.py", "def first():\n    return 1\n")
    writers: list[Acknowledged] = []
    found: list[str] = []
    lost = altered = 0
    for number in range(kills):
        early = number % _EARLY_EVERY == _EARLY_EVERY - 1
        delay = rng.uniform(0, _EARLY_WITHIN if early else _KILL_WITHIN)
        background = number % 2 == 1
        writers.append(_killed_writer(project, number, seed, delay, early, background))
        missing, different = _verify(project, seed, writers[-1:])
        lost, altered = lost + missing, altered + different
        found += problems(project.settings.database)
        progress(f"kill {number + 1} of {kills}: {len(writers[-1].ids)} acknowledged")
    missing, different = _verify(project, seed, writers)
    acknowledged = sum(len(writer.ids) for writer in writers)
    counts = _counts(project)
    if counts["outbox"] != counts["notes"]:
        found.append(f"{counts['notes']} notes for the team, {counts['outbox']} outbox rows")
    return Killed(
        kills=kills,
        acknowledged=acknowledged,
        lost=max(lost, missing),
        altered=max(altered, different),
        extra=counts["notes"] - (acknowledged - missing),
        problems=tuple(found),
    )


def write_together(project: Project, *, processes: int, writes: int, seed: int) -> Together:
    """Let many processes write to one database at once, all starting at the same moment."""
    writers = [Acknowledged(number) for number in range(processes)]
    with ExitStack() as stack:
        running = []
        for writer in writers:
            arguments = ["--seed", str(seed), "--writer", str(writer.writer)]
            command = python("stratum_bench.writer", *arguments, "--count", str(writes))
            running.append(stack.enter_context(project.start(command)))
            stack.callback(running[-1].kill)
        for process in running:
            if not _output(process).readline():
                raise project.failure("a writer ended before it was ready")
        progress(f"{processes} processes are ready")
        readers = [
            threading.Thread(target=_read_all, args=(process, writer))
            for process, writer in zip(running, writers, strict=True)
        ]
        for thread in readers:
            thread.start()
        for process in running:
            _release(process)
        for thread in readers:
            thread.join()
    missing, different = _verify(project, seed, writers)
    return Together(
        processes=processes,
        acknowledged=sum(len(writer.ids) for writer in writers),
        lost=missing + processes * writes - sum(len(w.ids) + len(w.errors) for w in writers),
        altered=different,
        errors=tuple(error for writer in writers for error in writer.errors),
        problems=tuple(problems(project.settings.database)),
        milliseconds=tuple(ms for writer in writers for ms in writer.milliseconds),
    )


def write_alone(project: Project, *, pairs: int, seed: int) -> tuple[Clock, Clock]:
    """Write notes and fsync a plain file in turn, in one process on the same disk."""
    notes, bare = Clock(), Clock()
    with (
        (project.folder / "plain.log").open("ab", buffering=0) as plain,
        project.memory() as memory,
    ):

        def append() -> None:
            plain.write(_PAGE)
            os.fsync(plain.fileno())

        memory.write(note_text(seed, -1, 0))  # opens the database
        for number in range(pairs):
            text = note_text(seed, 0, number)
            notes.time(partial(memory.write, text))
            bare.time(append)
    return notes, bare


def _killed_writer(
    project: Project, number: int, seed: int, delay: float, early: bool, background: bool
) -> Acknowledged:
    writer = Acknowledged(number)
    arguments = ["--seed", str(seed), "--writer", str(number)]
    command = python("stratum_bench.writer", *arguments, *(["--background"] if background else []))
    with project.start(command) as process:
        try:
            if not early and not _output(process).readline():
                raise project.failure("the writer ended before it was ready")
            _release(process)
            # waiting for the end of a process that never ends by itself: the moment of the kill
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(delay)
                raise project.failure("the writer ended before it was killed")
        finally:
            process.kill()
        _read_all(process, writer)
    return writer


def _release(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    process.stdin.flush()


def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def _read_all(process: subprocess.Popen[bytes], writer: Acknowledged) -> None:
    for line in _output(process):
        writer.take(line)


def _verify(project: Project, seed: int, writers: Sequence[Acknowledged]) -> tuple[int, int]:
    """Return how many acknowledged notes are missing and how many have another text."""
    missing = different = 0
    with project.memory() as memory:
        for writer in writers:
            for number, id_ in writer.ids.items():
                try:
                    note = memory.get(id_).note
                except NotFound:
                    missing += 1
                    continue
                expected = note_text(seed, writer.writer, number)
                different += note is None or note.text != expected
    return missing, different


def _counts(project: Project) -> dict[str, int]:
    with project.memory() as memory:
        return memory.status().counts


def _row(what: str, processes: int, milliseconds: Sequence[float], bare_p50: float) -> Row:
    figures = spread(milliseconds)
    return {
        "what": what,
        "processes": processes,
        "n": len(milliseconds),
        **figures,
        "p50 / fsync": figures["p50"] / bare_p50,
    }
