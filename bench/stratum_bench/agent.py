"""What an agent is: it gets the conversation so far and the tools, and gives one message back.

Owns the shapes that all agents and the scaffold share. Knows no agent, no tool and no memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from stratum import Unavailable

Role = Literal["system", "user", "assistant", "tool"]


class ContextOverflow(Unavailable):
    """The conversation is longer than the model can read."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as a model is told of it; `parameters` is a JSON schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that an agent wants made; `problem` says why it cannot be, if so."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `call_id` says which call the text of a tool answers."""

    role: Role
    text: str
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an endpoint says that a request took, in tokens, and what it cost if it says so."""

    prompt: int
    cached: int
    output: int
    reasoning: int = 0
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What an agent says: a text, calls or both. Without `usage` the scaffold counts itself."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = None


class Agent(Protocol):
    """Asked again and again with a conversation that grows; one instance serves one task."""

    def reply(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Reply:
        """Return the next message.

        Args:
            messages: The prompt, then what was said, called and answered, oldest first.
            tools: What may be called.

        Raises:
            ContextOverflow: The conversation is too long for the model.
            Unavailable: No answer could be had; says why.
        """
        ...
