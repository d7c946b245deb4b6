"""One task with one agent: the prompt, the loop, the limits, and what is told of each step.

Owns what is equal in all arms. Memory is given to it ready: tools, instructions and a text.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stratum import StratumError
from stratum.paths import is_test
from stratum.redact import redact
from stratum_bench.agent import Agent, ContextOverflow, Message, ToolCall
from stratum_bench.agent_memory import WRITE, MemoryTools, notes_in
from stratum_bench.agent_tools import SUBMIT, TOOLS, Toolbox, Tree
from stratum_bench.conversation import Conversation, count
from stratum_bench.trace import Asked, Called, Ended, Started

MOST_STEPS = 60
_MOST_NUDGES = 2
_KEPT = 600  # characters of each text that a trace keeps
_SCANNED = 8_000  # characters that are scrubbed for it: a secret may begin in what is kept
_RECALLED = re.compile(r"(?:[\w.+@-]+/)*[\w.+@-]+\.[A-Za-z]{1,5}\b")

PROMPT = """\
You look for the source files that have to be edited to resolve an issue of the repository in
front of you. Look around with the tools until you are sure, read the code that you would change,
then call submit with the files to edit, the likeliest first. Tests and documentation do not count,
new files neither. Do not edit anything."""
_NUDGE = "Go on with a tool call, or call submit."
_LAST = "This was the last look. Call submit now."

Emit = Callable[[Started | Asked | Called | Ended], None]


@dataclass(frozen=True, slots=True)
class Given:
    """What an arm gives to an agent beside the tools that all have."""

    arm: str
    memory: MemoryTools | None = None
    file: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A task as the scaffold needs it; `gold` is compared with what is submitted, nothing else."""

    id: str
    text: str
    gold: tuple[str, ...]


def run_episode(agent: Agent, question: Question, given: Given, tree: Tree, emit: Emit) -> Ended:
    """Let an agent work on a task until it submits or may not go on.

    Args:
        agent: A new one.
        question: The task.
        given: What memory it has.
        tree: The repository at the commit of the task.
        emit: Called with each event as it happens; texts have been scrubbed.

    Returns:
        The last event. Whatever the agent does, there is one.
    """
    episode = _Episode(question, given, tree, emit)
    try:
        reason = episode.run(agent)
    except ContextOverflow:
        reason = "context"
    except StratumError as error:
        reason = f"error: {error.message} {error.hint}".strip()
    named = tuple(p if p in tree.files else redact(p).text for p in episode.submitted)
    end = Ended(
        question.id, given.arm, named,
        outcome_of(question.gold, episode.submitted, tree.files, episode.noted, reason),
        reason, tuple(episode.recalled), episode.learned,
    )  # fmt: skip
    emit(end)
    return end


def outcome_of(
    gold: Sequence[str],
    submitted: Sequence[str],
    files: Sequence[str],
    noted: Sequence[str],
    reason: str,
) -> str:
    """Return how it went.

    PASS: all files of the solution are among those submitted. INVENTED: one of these is no file of
    the repository. STALE: the first one is wrong, and a note that memory served spoke of it. ERROR:
    the agent could not be asked. MISS: all else.
    """
    if reason.startswith("error"):
        return "ERROR"
    if submitted and set(gold) <= set(submitted):
        return "PASS"
    if any(path not in files for path in submitted):
        return "INVENTED"
    if submitted and submitted[0] not in gold and submitted[0] in noted:
        return "STALE"
    return "MISS"


class _Episode:
    def __init__(self, question: Question, given: Given, tree: Tree, emit: Emit) -> None:
        self._question, self._given, self._tree, self._emit = question, given, tree, emit
        self._toolbox = Toolbox(tree)
        memory = given.memory.tools if given.memory else ()
        self._memory_tools = {tool.name for tool in memory}
        self._conversation = Conversation((*TOOLS, *memory), self._memory_tools)
        self._step = 0
        self.submitted: tuple[str, ...] = ()
        self.recalled: dict[str, None] = {}
        self.noted: list[str] = []
        self.learned = False

    def run(self, agent: Agent) -> str:
        """Return how it ended."""
        self._begin()
        nudges = 0
        while self._step < MOST_STEPS:
            calls = self._ask(agent)
            for call in calls:
                self._answer(call)
            if self.submitted:
                return "submitted"
            if not calls:
                nudges += 1
                if nudges > _MOST_NUDGES:
                    return "silent"
                self._conversation.add(Message("user", _NUDGE))
            if self._step == MOST_STEPS - 1:
                self._conversation.add(Message("user", _LAST))
        return "limit"

    def _begin(self) -> None:
        instructions = self._given.memory.instructions if self._given.memory else ""
        parts = {
            name: text for name, text in (("i", instructions), ("f", self._given.file)) if text
        }
        sizes = {name: count(text) + 1 for name, text in parts.items()}
        system = "\n\n".join([PROMPT, *parts.values()])
        self._conversation.add(Message("system", system), of_memory=sum(sizes.values()))
        self._conversation.add(Message("user", self._question.text))
        self._emit(
            Started(
                self._question.id, self._given.arm, self._conversation.memory_definitions,
                sizes.get("i", 0), sizes.get("f", 0),
            )
        )  # fmt: skip

    def _ask(self, agent: Agent) -> tuple[ToolCall, ...]:
        began = time.perf_counter()
        reply = agent.reply(self._conversation.messages, self._conversation.tools)
        ms = _ms_since(began)
        self._step += 1
        usage, of_memory = self._conversation.add_reply(reply)
        self._emit(
            Asked(
                self._question.id, self._given.arm, self._step, usage.prompt, usage.cached,
                usage.output, usage.reasoning, of_memory, usage.cost, ms, _shown(reply.text),
            )
        )  # fmt: skip
        return reply.calls

    def _answer(self, call: ToolCall) -> None:
        began = time.perf_counter()
        of_memory = call.name in self._memory_tools and not call.problem
        if of_memory and self._given.memory:
            text, failed = self._given.memory.call(call.name, call.arguments)
            self._remember(call, text, failed=failed)
        else:
            text = self._toolbox.call(call)
            failed = text.startswith("Error: ")
            if call.name == SUBMIT and not failed:
                self.submitted = self._toolbox.submitted(call)
        ms = _ms_since(began)
        size = self._conversation.add(Message("tool", text, call_id=call.id))
        self._emit(
            Called(
                self._question.id, self._given.arm, self._step, _shown(call.name), _scrubbed(call),
                of_memory, len(text), size, ms, _shown(text), failed,
            )
        )  # fmt: skip

    def _remember(self, call: ToolCall, text: str, *, failed: bool) -> None:
        if failed:
            return
        if call.name == WRITE:
            self.learned = True
            return
        files = set(self._tree.files)
        for path in _RECALLED.findall(text):
            if path in files and not is_test(path):
                self.recalled[path] = None
        self.noted += _RECALLED.findall(notes_in(text))


def _scrubbed(call: ToolCall) -> dict[str, Any]:
    """Return the arguments as a trace may keep them: whole, to write notes anew from them."""
    return {redact(name).text: _masked(value) for name, value in call.arguments.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value).text
    if isinstance(value, list | tuple):
        return [_masked(one) for one in value]
    if isinstance(value, dict):
        return {redact(str(name)).text: _masked(one) for name, one in value.items()}
    return value


def _shown(text: str) -> str:
    return redact(text[:_SCANNED]).text[:_KEPT]


def _ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 1)
