"""The tasks of one repository in the order of their dates, asked in some arms by one process.

Owns the clone, the memory over it and what each arm is given. Notes that an agent writes in the
arm `stratum` stay for the tasks after it, and for them alone; the answers of the other arms never
get there, since their memory is in another folder and another process.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from stratum import Memory, StratumError, load
from stratum.paths import is_test
from stratum_bench.agent import Agent
from stratum_bench.agent_memory import (
    WRITE,
    MemoryTools,
    forget_all,
    notes_of,
    static_file,
)
from stratum_bench.agent_scripted import PROFILES, ScriptedAgent
from stratum_bench.agent_tools import Tree
from stratum_bench.off_topic import NOTES, make_project
from stratum_bench.retrieval_checkout import Checkout
from stratum_bench.retrieval_tasks import Task
from stratum_bench.retrieval_worker import Leak, check, environ_for, gold_of, teller
from stratum_bench.scaffold import Given, Question, run_episode
from stratum_bench.trace import Asked, Called, Ended, Event, Started

if TYPE_CHECKING:
    from stratum_bench.agent_chat import ChatAgent

# Each group is asked by a process of its own: the arms of one share a memory, one after the other.
GROUPS = (("stratum", "file"), ("bare", "off-topic"), ("oracle", "wrong"))
ARMS = ("bare", "file", "stratum", "oracle", "wrong", "off-topic")

Say = Callable[[Event | str], None]
Written = Mapping[str, Any]  # the arguments of a call that wrote a note
Planted = tuple[str, list[str]]  # a note that is made for a task: its text and its anchors


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """Which agent, as a process can be told of it.

    `kind` is "scripted" (with a `profile`) or "chat" (a `model` at `base_url`; the key is in the
    environment). `budget` is what the scripted agent lets a pack cost, in tokens; `mcp` whether the
    memory is reached through a server of its own.
    """

    kind: str = "scripted"
    profile: str = "unfamiliar"
    budget: int = 1_200
    mcp: bool = False
    model: str = ""
    base_url: str = ""
    stream: bool = False
    seed: int = 1

    def agent(self, text: str, tree: Tree) -> Agent:
        """Return a new agent for a task."""
        if self.kind == "chat":
            return self._chat()

        return ScriptedAgent(text, PROFILES[self.profile], tree.spread, self.budget)

    def require(self) -> None:
        """Make sure that agents can be made.

        Raises:
            InvalidInput: The address is none, or there is no key for it.
            Unavailable: The client library is not installed.
        """
        if self.kind == "chat":
            self._chat().close()

    def _chat(self) -> ChatAgent:
        from stratum_bench.agent_chat import ChatAgent, key_from

        return ChatAgent(
            self.model,
            base_url=self.base_url,
            key=key_from(os.environ, self.base_url),
            seed=self.seed,
            stream=self.stream,
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Tasks of one repository in order, and the arms of one group that are asked.

    `done` are the (task, arm) that have an answer; `written` are the notes that agents wrote then.
    """

    source: Path
    folder: Path
    tasks: tuple[Task, ...]
    arms: tuple[str, ...]
    spec: AgentSpec
    embedder: str
    done: frozenset[tuple[str, str]] = frozenset()
    written: Mapping[str, Sequence[Written]] = field(default_factory=dict)


def work(part: Part, say: Say) -> None:
    """Do a part in a process of its own; each (task, arm) that is left gets an end."""
    try:
        worker = _Worker(part, say)
    except (StratumError, OSError) as error:
        for task, arm in itertools.product(part.tasks, part.arms):
            if (task.id, arm) not in part.done:
                _tell_failed(task, arm, error, say)
        return
    owed = [
        number
        for number, task in enumerate(part.tasks, start=1)
        if any((task.id, arm) not in part.done for arm in part.arms)
    ]
    with worker:
        for task in part.tasks[: max(owed, default=0)]:
            worker.ask(task)


def is_write(event: Event) -> TypeGuard[Called]:
    """Tell whether an event is a note that was written."""
    return isinstance(event, Called) and event.tool == WRITE and not event.failed


def failed(task: str, arm: str, reason: str) -> tuple[Started, Ended]:
    """Return the events of a task that could not be asked."""
    return Started(task, arm), Ended(task, arm, (), "ERROR", f"error: {reason}")


def _plant(memory: Memory, notes: Iterable[Planted], names: dict[str, str]) -> None:
    """Write notes as an agent would, so that their ids get stable names, too."""
    with MemoryTools(memory, names=names) as tools:
        for text, anchors in notes:
            answer, refused = tools.call(WRITE, {"text": text, "anchors": anchors})
            if refused:
                raise _Unfit(f"A note for the arm was refused: {answer}")


def _tell_failed(task: Task, arm: str, error: StratumError | OSError, say: Say) -> None:
    if isinstance(error, StratumError):
        reason = f"{error.message} {error.hint}".strip()
    else:
        reason = f"{error.filename} cannot be used: {error.strerror}. Give another --work folder."
    for event in failed(task.id, arm, reason):
        say(event)


class _Worker(contextlib.AbstractContextManager["_Worker"]):
    def __init__(self, part: Part, say: Say) -> None:
        self._part, self._say = part, say
        # made anew: a memory that has seen other trees and notes may order equals otherwise
        shutil.rmtree(part.folder, ignore_errors=True)
        self._checkout = Checkout(part.source, part.folder / "clone")
        self._environ = environ_for(part.folder / "home", part.embedder)
        self._memory: Memory | None = None
        self._learned_in: list[str] = []  # texts of the notes of earlier tasks, oldest first
        self._names: dict[str, str] = {}
        self._tree: tuple[str, Tree] | None = None
        self._elsewhere: Memory | None = None
        self._stack = contextlib.ExitStack()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self, task: Task) -> None:
        left = [arm for arm in self._part.arms if (task.id, arm) not in self._part.done]
        again = self._part.written.get(task.id, ()) if "stratum" in self._part.arms else ()
        has_index = bool(set(self._part.arms) - {"bare", "off-topic"})
        if not left and not has_index:
            return  # else its tree is indexed all the same: what is found later depends on it
        try:
            self._checkout.go(task.base_commit)
            tree = self._tree_at(task.base_commit)
            missing = [path for path in task.gold_files if path not in tree.files]
            if missing:
                raise _Unfit(f"{missing[0]} is not in the tree, or its contents are missing")
            if has_index:
                self._index(task)
        except StratumError as error:
            for arm in left:
                _tell_failed(task, arm, error, self._say)
            return
        before = list(self._learned_in)
        for arm in self._part.arms:
            if arm in left:
                try:
                    with self._given(arm, task, tree, before) as given:
                        self._run(given, task, tree)
                except StratumError as error:
                    _tell_failed(task, arm, error, self._say)
            elif arm == "stratum":
                self._write_again(again)

    def _tree_at(self, commit: str) -> Tree:
        """Return the tree that stands there, the same one for tasks of the same commit."""
        if self._tree is None or self._tree[0] != commit:
            self._tree = commit, Tree(self._checkout.root)
        return self._tree[1]

    def _run(self, given: Given, task: Task, tree: Tree) -> None:
        question = Question(task.id, task.text, task.gold_files)

        def emit(event: Started | Asked | Called | Ended) -> None:
            if is_write(event) and given.arm == "stratum":
                self._learned_in.append(str(event.arguments.get("text", "")))
            self._say(event)

        agent = self._part.spec.agent(task.text, tree)
        run_episode(agent, question, given, tree, emit)

    # the memory

    def _index(self, task: Task) -> None:
        """Let the memory know the tree of a task, and nothing that is later than it."""
        if self._memory is None:
            memory = Memory(load(self._environ), self._checkout.root, resident=True)
            self._memory = self._stack.enter_context(memory)
        report = self._memory.index(
            vectors=self._part.embedder != "none", report=teller(self._say, task)
        )
        self._memory.warm_up()  # cold answers are ordered otherwise: all are to be warm
        check(self._checkout, self._memory, task, report.commits)
        self._check_notes(self._memory)

    def _check_notes(self, memory: Memory) -> None:
        """Make sure that every note in the memory was written by an agent in an earlier task."""
        own = {_squeezed(text) for text in self._learned_in}
        for note in notes_of(memory):
            if _squeezed(note["text"]) not in own:
                raise Leak(
                    "A note is in the memory that no agent wrote in an earlier task.",
                    hint="Give another --work folder.",
                )

    @contextlib.contextmanager
    def _given(self, arm: str, task: Task, tree: Tree, before: Sequence[str]) -> Iterator[Given]:
        """Give what an arm has, and take away afterwards what may not stay."""
        if arm == "bare":
            yield Given(arm)
        elif arm == "file":
            yield Given(arm, file=static_file(before))
        elif arm == "off-topic":
            with self._off_topic() as tools:
                yield Given(arm, tools)
        elif arm == "stratum":
            with self._tools(self._names) as tools:
                yield Given(arm, tools)
        else:
            names: dict[str, str] = {}  # those of the task alone: nothing of it stays
            try:
                _plant(self._indexed, self._planted(arm, task, tree), names)
                with self._tools(names) as tools:
                    yield Given(arm, tools)
            finally:
                forget_all(self._indexed)

    @property
    def _indexed(self) -> Memory:
        assert self._memory is not None
        return self._memory

    def _tools(self, names: dict[str, str]) -> MemoryTools:
        if self._part.spec.mcp:
            return MemoryTools(environ=self._environ, cwd=self._checkout.root, names=names)
        return MemoryTools(self._indexed, names=names)

    @contextlib.contextmanager
    def _off_topic(self) -> Iterator[MemoryTools]:
        """Give a memory of a project that has nothing to do with the task."""
        root = self._part.folder / "off-topic"
        environ = environ_for(self._part.folder / "off-topic-home", self._part.embedder)
        if self._elsewhere is None:
            make_project(root)
            memory = Memory(load(environ), root, resident=True)
            self._elsewhere = self._stack.enter_context(memory)
            memory.index(vectors=self._part.embedder != "none")
        self._elsewhere.warm_up()
        names: dict[str, str] = {}
        forget_all(self._elsewhere)
        _plant(self._elsewhere, [(text, [anchor]) for text, anchor in NOTES], names)
        given: dict[str, Any] = {"memory": self._elsewhere}
        if self._part.spec.mcp:
            given = {"environ": environ, "cwd": root}
        with MemoryTools(**given, names=names) as tools:
            yield tools

    def _write_again(self, written: Sequence[Written]) -> None:
        """Write the notes of a task that was answered in an earlier part of the run."""
        with MemoryTools(self._indexed, names=self._names) as tools:
            for arguments in written:
                tools.call(WRITE, arguments)
                self._learned_in.append(str(arguments.get("text", "")))

    def _planted(self, arm: str, task: Task, tree: Tree) -> list[Planted]:
        """Return the notes of an arm whose memory is made for the task: text and anchors."""
        title = task.text.partition("\n")[0].strip()[:200]
        if arm == "oracle":
            symbols = gold_of(self._indexed, task.edits)
            places = list(dict.fromkeys(f"{path}::{name}" for path, name in symbols))
            named = {place.partition("::")[0] for place in places}
            places += [path for path in task.gold_files if path not in named]
            return [(f"{title}: this is decided in {' and '.join(places[:8])}.", places[:8])]
        wrong = self._wrong_file(task, tree)
        return [(f"{title}: this is decided in {wrong}, start there.", [wrong])] if wrong else []

    def _wrong_file(self, task: Task, tree: Tree) -> str:
        """Return a file that is no answer: of another task where there is one, else any source."""
        others = sorted({path for other in self._part.tasks for path in other.gold_files})
        own = set(task.gold_files)
        there = [path for path in others if path in tree.files and path not in own]
        there = there or [p for p in tree.files if p not in own and not is_test(p)]
        return random.Random(f"{self._part.spec.seed} {task.id}").choice(there) if there else ""


class _Unfit(StratumError):
    """A task that cannot be asked; says why."""

    code = "unfit"


def _squeezed(text: str) -> str:
    return " ".join(text.split())
