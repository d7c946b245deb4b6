"""A run: tasks, arms and an agent; in which processes, and what is kept of it in a trace.

Owns the plan of a run and its folder. A run that was broken off goes on where it was; a task whose
process dies is marked and spares the others.
"""

from __future__ import annotations

import contextlib
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from stratum import InvalidInput, __version__
from stratum.embedder import open_embedder
from stratum_bench.agent_memory import FILE_BUDGET
from stratum_bench.agent_tools import MOST_LINES, MOST_MATCHES, MOST_SUBMITTED
from stratum_bench.agent_worker import ARMS, GROUPS, AgentSpec, Part, failed, is_write, work
from stratum_bench.conversation import ENCODING
from stratum_bench.measure import progress
from stratum_bench.processes import Hand, side_by_side
from stratum_bench.retrieval import alone_in, code_hash
from stratum_bench.retrieval_checkout import find_clone
from stratum_bench.retrieval_tasks import Task
from stratum_bench.retrieval_worker import settings_for
from stratum_bench.scaffold import MOST_STEPS
from stratum_bench.trace import Called, Ended, Event, Started, TaskGiven, TraceFile

_SILENCE = {"scripted": 900.0, "chat": 3600.0}  # seconds after which a process is given up
_TITLE = 120  # characters
_PARTS = "parts"  # a folder of our own in that of the work: what is in it is made anew


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: `files` names where the tasks come from, with a hash of each source.

    `skipped` says what could not be read of it.
    """

    suite: str
    tasks: tuple[Task, ...]
    arms: tuple[str, ...]
    spec: AgentSpec
    embedder: str
    jobs: int
    files: dict[str, str]
    skipped: tuple[str, ...] = ()


def chosen_arms(names: Sequence[str]) -> tuple[str, ...]:
    """Return the arms that are asked for in the order of the report, all of them for none.

    Raises:
        InvalidInput: There is no such arm, or what it is compared with or made of is left out.
    """
    for name in names:
        if name not in ARMS:
            raise InvalidInput(f"There is no arm {name!r}.", hint=f"Arms: {', '.join(ARMS)}.")
    if names and "bare" not in names:
        raise InvalidInput("Every arm is compared with bare.", hint="Add it to --arms.")
    if "file" in names and "stratum" not in names:
        raise InvalidInput(
            "The arm file holds the notes of the arm stratum.", hint="Add stratum to --arms."
        )
    return tuple(arm for arm in ARMS if not names or arm in names)


def run(plan: Plan, repos: Path, out: Path, *, work_folder: Path | None = None) -> list[Event]:
    """Ask all tasks in all arms and return the events, in the order of tasks and arms.

    Args:
        plan: What is run.
        repos: A folder of clones with their histories, or one of them; never changed.
        out: The folder of the trace; one that holds a part of an equal run is completed.
        work_folder: Where clones and memories are made and left; else they are dropped.

    Raises:
        NotFound: There is no clone of a repository.
        Unavailable: Another run works in one of the folders.
    """
    sources = {repo: find_clone(repos, repo) for repo in {task.repo for task in plan.tasks}}
    given = [_given(task, order) for order, task in enumerate(plan.tasks)]
    with contextlib.ExitStack() as stack:
        if work_folder is None:
            made = tempfile.TemporaryDirectory(prefix="stratum-bench-", ignore_cleanup_errors=True)
            work_folder = Path(stack.enter_context(made))
        for folder in sorted({out.resolve(), work_folder.resolve()}):
            stack.enter_context(alone_in(folder))
        trace = stack.enter_context(TraceFile(out, header(plan), given))
        if trace.put_aside:
            progress(f"the trace of another run is put aside in {trace.put_aside.name}")
        if trace.kept:
            progress(f"{len(trace.kept)} answers are there already")
        _Course(plan, sources, work_folder.resolve(), trace).go()
        progress(f"{len(given) * len(plan.arms)} answers are there")
        return trace.finish(plan.arms)


def header(plan: Plan) -> dict[str, Any]:
    """Return all that the result of a run depends on."""
    settings = settings_for(Path(), plan.embedder, 1)
    embedder = open_embedder(plan.embedder, cache=settings.cache_dir, offline=True, threads=1)
    spec = plan.spec
    model = {"model": spec.model, "endpoint": _shown(spec.base_url)} if spec.kind == "chat" else {}
    return {
        "stratum": __version__,
        "code": code_hash(),
        "python": platform.python_version(),
        "suite": plan.suite,
        "tasks": len(plan.tasks),
        "files": plan.files,
        **({"skipped": list(plan.skipped)} if plan.skipped else {}),
        "arms": list(plan.arms),
        "agent": spec.kind,
        **({"profile": spec.profile} if spec.kind == "scripted" else {}),
        **model,
        "memory": "stdio" if spec.mcp else "in process",
        "seed": spec.seed,
        "tokenizer": f"{ENCODING} (toktok-rs {version('toktok-rs')})",
        "embedder": embedder.fingerprint if embedder else plan.embedder,
        "limits": {
            "steps": MOST_STEPS,
            "matches": MOST_MATCHES,
            "lines": MOST_LINES,
            "submitted": MOST_SUBMITTED,
            "pack": spec.budget,
            "file": FILE_BUDGET,
        },
    }


class _Course:
    """The course of a run: which parts are left, what they say, what of it is over."""

    def __init__(
        self, plan: Plan, sources: Mapping[str, Path], folder: Path, trace: TraceFile
    ) -> None:
        self._plan, self._sources, self._folder, self._trace = plan, sources, folder, trace
        self._written: dict[str, list[dict[str, Any]]] = {}
        self._done = set(trace.kept)
        self._all = len(plan.tasks) * len(plan.arms)
        for (task, arm), episode in trace.kept.items():
            if arm == "stratum":
                self._written[task] = [e.arguments for e in episode.events if is_write(e)]

    def go(self) -> None:
        silence = _SILENCE[self._plan.spec.kind]
        while parts := self._parts():
            words = side_by_side(parts, lambda part: Hand(work, part, silence), self._plan.jobs)
            with contextlib.closing(words):  # whatever happens here, no process is left behind
                for part, said in words:
                    if isinstance(said, str):
                        progress(said, passing=True)
                    elif isinstance(said, int):
                        self._bury(part, said)
                    else:
                        self._hear(said)

    def _hear(self, event: Started | Called | Ended) -> None:
        self._trace.add(event)
        if event.arm == "stratum" and isinstance(event, Started):
            self._written[event.task] = []
        if event.arm == "stratum" and is_write(event):
            self._written[event.task].append(event.arguments)
        if isinstance(event, Ended):
            self._done.add((event.task, event.arm))
            wrong = event.outcome == "ERROR"
            told = f"{event.outcome} {event.reason if wrong else ''}".strip()
            said = f"{len(self._done)} of {self._all}  {event.task} {event.arm}: {told}"
            progress(said, passing=not wrong)

    def _bury(self, part: Part, status: int) -> None:
        """Mark the first (task, arm) that a process owes as failed; the rest is tried again."""
        for task in part.tasks:
            for arm in part.arms:
                if (task.id, arm) not in self._done:
                    reason = f"the process ended before with status {status}"
                    for event in failed(task.id, arm, reason):
                        self._hear(event)
                    return

    def _parts(self) -> list[Part]:
        """Return what is left, the longest first: the arms of a group, tasks of a repository."""
        parts = []
        for repo, source in self._sources.items():
            tasks = tuple(task for task in self._plan.tasks if task.repo == repo)
            for number, group in enumerate(GROUPS):
                arms = tuple(arm for arm in group if arm in self._plan.arms)
                own = {(task.id, arm) for task in tasks for arm in arms}
                if own <= self._done:
                    continue
                folder = self._folder / _PARTS / repo.replace("/", "__") / str(number)
                parts.append(
                    Part(
                        source, folder, tasks, arms, self._plan.spec, self._plan.embedder,
                        frozenset(own & self._done),
                        {task.id: self._written.get(task.id, []) for task in tasks},
                    )
                )  # fmt: skip
        return sorted(parts, key=lambda part: -len(part.tasks) * len(part.arms))


def _given(task: Task, order: int) -> TaskGiven:
    title = task.text.partition("\n")[0].strip()[:_TITLE]
    return TaskGiven(
        task.id, order, task.repo, task.base_commit, task.created_at, title, task.gold_files,
        task.leak,
    )  # fmt: skip


def _shown(address: str) -> str:
    """Return an address without what may be secret in it: user, password and query."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
