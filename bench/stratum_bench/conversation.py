"""A conversation as chat endpoints are sent it, and what it costs in tokens of one encoding.

Owns the counting, for all agents and arms alike. Knows no agent, no tool and no memory.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from functools import lru_cache

import toktok  # type: ignore[import-untyped]  # it comes without types

from stratum_bench.agent import Message, Reply, Tool, ToolCall, Usage

ENCODING = "o200k_base"
# What marks the beginning, the role and the end of a message in the formats of chat models.
_PER_MESSAGE = 4


@lru_cache(maxsize=4096)
def count(text: str) -> int:
    """Return the tokens of a text; what looks like a control token counts as plain text.

    Half a pair of surrogates, as a model may write in JSON, counts as what is sent in its place.
    """
    return int(toktok.batch_count([text.encode("utf-8", "replace").decode()], ENCODING)[0])


def definition(tool: Tool) -> str:
    """Return a tool as it is sent to a model."""
    return json.dumps(
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        separators=(",", ":"),
    )


def call_text(call: ToolCall) -> str:
    """Return a call as a model writes it."""
    told = {"name": call.name, "arguments": call.arguments}
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False, default=str)


class Conversation:
    """The messages of one task, all of which are sent again with each request.

    Args:
        tools: What the agent may call; sent with each request, too.
        memory_tools: Names of those that would not be there without memory.
    """

    def __init__(self, tools: Sequence[Tool], memory_tools: Collection[str]) -> None:
        self.tools = tuple(tools)
        self.messages: list[Message] = []
        self._memory_tools = frozenset(memory_tools)
        sizes = {tool.name: count(definition(tool)) for tool in tools}
        self.memory_definitions = sum(sizes[name] for name in self._memory_tools)
        self._prompt = sum(sizes.values())
        self._memory = self.memory_definitions
        self._sent = 0
        self._answers_memory: set[str] = set()

    def add(self, message: Message, *, of_memory: int = 0) -> int:
        """Append a message that is no reply, and return its tokens.

        Args:
            message: A prompt or the answer of a tool.
            of_memory: How many of its tokens would not be there without memory; those of the
                answer to a memory tool are known.
        """
        size = count(message.text) + _PER_MESSAGE
        self.messages.append(message)
        self._prompt += size
        self._memory += size if message.call_id in self._answers_memory else of_memory
        return size

    def add_reply(self, reply: Reply) -> tuple[Usage, int]:
        """Append what an agent said, and return what the request took and memory's part of it.

        What the endpoint says of its tokens goes before our own count.
        """
        calls = [count(call_text(call)) for call in reply.calls]
        output = (count(reply.text) if reply.text else 0) + sum(calls)
        usage = reply.usage or Usage(self._prompt, self._sent, output)
        of_memory = sum(
            size
            for size, call in zip(calls, reply.calls, strict=True)
            if call.name in self._memory_tools
        )
        spent = self._memory + of_memory
        # of this reply alone: some endpoints begin the ids anew with each one
        self._answers_memory = {c.id for c in reply.calls if c.name in self._memory_tools}
        self.messages.append(Message("assistant", reply.text, reply.calls))
        self._sent = self._prompt + output  # an endpoint has read the prompt and written the rest
        self._prompt += output + _PER_MESSAGE
        self._memory += of_memory
        return usage, spent
