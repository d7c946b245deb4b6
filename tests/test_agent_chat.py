"""The agent `chat`: the real client against a real local server that answers well, badly or not."""

from __future__ import annotations

import email.utils
import json
import logging
import math
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from stratum_bench import agent_chat
from stratum_bench.agent import Agent, ContextOverflow, Message, Reply, Tool, ToolCall, Usage
from stratum_bench.agent_chat import CUT, NUDGE, TRIES, ChatAgent, is_loopback, key_from

from stratum import InvalidInput, StratumError, Unavailable
from tests.chat_endpoint import (
    USAGE,
    Answer,
    Call,
    ChatEndpoint,
    Drop,
    Raw,
    Request,
    Response,
    Script,
    Silence,
    error,
    in_turn,
)

KEY = "sk-test-Zq81mPxe77TrQ0"
TOOLS = (
    Tool(
        "read_file",
        "Read a file.",
        {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    ),
    Tool("submit", "Submit files.", {"type": "object", "properties": {}}),
)
ASKED = (Message("system", "You find files."), Message("user", "Where do carts expire?"))
FOUND = Answer("I look.", [Call("read_file", {"path": "shop/cart.py"})])
BOTH_WAYS = pytest.mark.parametrize("stream", [False, True], ids=["at once", "streamed"])


class Sleeps(list[float]):
    """Keeps how long the agent would have waited, and waits for nothing."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@contextmanager
def asked(
    script: Script | Response, **options: Any
) -> Iterator[tuple[ChatAgent, ChatEndpoint, Sleeps]]:
    """Yield an agent, its endpoint and its sleeps."""
    sleeps = Sleeps()
    with ChatEndpoint(script if callable(script) else in_turn(script)) as endpoint:
        given_options: dict[str, Any] = {"key": KEY, "seed": 7, "sleep": sleeps} | options
        agent = ChatAgent("model-1", base_url=endpoint.base_url, **given_options)
        try:
            yield agent, endpoint, sleeps
        finally:
            agent.close()


def reply_to(script: Script | Response, **options: Any) -> Reply:
    with asked(script, **options) as (agent, _, _):
        return agent.reply(ASKED, TOOLS)


def failure_of(script: Script | Response, **options: Any) -> StratumError:
    with asked(script, **options) as (agent, endpoint, _):
        with pytest.raises(StratumError) as raised:
            agent.reply(ASKED, TOOLS)
        assert endpoint.base_url.split("/")[2] in raised.value.message  # host and port
    return raised.value


# what is sent


def test_it_is_an_agent() -> None:
    with asked(FOUND) as (agent, _, _):
        told: Agent = agent
        assert told.reply(ASKED, TOOLS).calls[0].name == "read_file"


@BOTH_WAYS
def test_a_request_holds_model_options_tools_and_conversation(stream: bool) -> None:
    options = {"max_output": 512, "extra": {"top_k": 1}, "temperature": 0.0}
    with asked(FOUND, stream=stream, **options) as (agent, endpoint, _):
        agent.reply(ASKED, TOOLS)
    (request,) = endpoint.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    body = dict(request.body)
    assert body.pop("messages") == [
        {"role": "system", "content": "You find files."},
        {"role": "user", "content": "Where do carts expire?"},
    ]
    assert [one["function"]["name"] for one in body["tools"]] == ["read_file", "submit"]
    assert body.pop("tools")[0] == {
        "type": "function",
        "function": {
            "name": "read_file",
            "description": "Read a file.",
            "parameters": dict(TOOLS[0].parameters),
        },
    }
    streaming = {"stream_options": {"include_usage": True}} if stream else {}
    assert body == {
        "model": "model-1",
        "temperature": 0.0,
        "seed": 7,
        "max_tokens": 512,
        "top_k": 1,
        "stream": stream,
        **streaming,
    }


def test_a_conversation_is_sent_with_each_call_and_its_answer() -> None:
    conversation = (
        *ASKED,
        Message(
            "assistant",
            "",
            calls=(
                ToolCall("a", "read_file", {"path": "schön.py"}),
                ToolCall("b", "functions.read file", {}, problem="The arguments are not JSON."),
            ),
        ),
        Message("tool", "text \udce4", call_id="a"),
        Message("tool", "", call_id="b"),
        Message("assistant", ""),
        Message("user", "Go on."),
    )
    with asked(FOUND) as (agent, endpoint, _):
        agent.reply(conversation, TOOLS)
    sent = endpoint.bodies[0]["messages"][2:]
    told = sent[0].pop("tool_calls")
    assert sent[0] == {"role": "assistant", "content": ""}
    assert [one["id"] for one in told] == ["a", "b"]
    assert json.loads(told[0]["function"]["arguments"]) == {"path": "schön.py"}
    assert told[1]["function"] == {"name": "functions_read_file", "arguments": "{}"}
    assert sent[1:] == [
        {"role": "tool", "tool_call_id": "a", "content": "text ?"},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "assistant", "content": "(no answer)"},
        {"role": "user", "content": "Go on."},
    ]


def test_nothing_of_the_environment_goes_to_another_endpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-secret")
    monkeypatch.setenv("OPENAI_API_KEY", "another-key")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer another-key")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with asked(FOUND) as (agent, endpoint, _):
        agent.reply(ASKED, TOOLS)
    headers = endpoint.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert "secret" not in str(headers)
    assert "another" not in str(headers)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"])
def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    assert reply_to(FOUND, tries=1).text == "I look."


# what comes back

ANSWERS = {
    "text": Answer("Grüße, 世界 🙂: done"),
    "call": FOUND,
    "call without text": Answer(None, [Call("submit", {"files": ["a.py", "ü/b.py"]})]),
    "two calls": Answer(
        "Both.",
        [
            Call("read_file", {"path": "é🙂.py", "lines": [1, 20]}, id="x"),
            Call("read_file", {"path": "b.py"}, id="y"),
        ],
    ),
    "no ids": Answer(None, [Call("read_file", {"path": p}, id=None) for p in ("a", "b")]),
    "no indexes": Answer(
        None, [Call("read_file", {"path": p}, id=p, numbered=False) for p in ("a", "b")]
    ),
    "neither ids nor indexes": Answer(
        None, [Call("read_file", {"path": p}, id=None, numbered=False) for p in ("a", "b")]
    ),
    "malformed": Answer(None, [Call("read_file", '{"path": "a.py"')]),
    "no object": Answer(None, [Call("read_file", "[1, 2]")]),
    "no arguments": Answer(None, [Call("submit", "")]),
    "in the text": Answer('Now.\n<tool_call>{"name": "submit", "arguments": {}}</tool_call>'),
    "thought first": Answer("Let me see.", reasoning="It could be the cart… ü"),
    "no usage": Answer("Yes.", usage=None),
    "cut": Answer("", finish="length"),
    "cut in a call": Answer(None, [Call("read_file", '{"pa')], finish="length"),
    "usage in full": Answer(
        "Yes.",
        usage={
            "prompt_tokens": 900,
            "completion_tokens": 70,
            "total_tokens": 970,
            "prompt_tokens_details": {"cached_tokens": 512},
            "completion_tokens_details": {"reasoning_tokens": 64},
            "cost": 0.00123,
        },
    ),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=list(ANSWERS))
def test_streamed_and_at_once_give_equal_replies(answer: Answer) -> None:
    at_once = reply_to(answer)
    assert at_once.text or at_once.calls
    assert reply_to(answer, stream=True) == at_once


def test_each_border_in_a_stream_gives_the_same_reply() -> None:
    answer = ANSWERS["two calls"]
    expected = reply_to(answer)
    for size in (1, 2, 3, 5, 64, 10_000):
        cut = Answer(answer.text, answer.calls, bytes_at_once=size, characters_at_once=size)
        assert reply_to(cut, stream=True) == expected


@BOTH_WAYS
def test_texts_calls_and_ids(stream: bool) -> None:
    assert reply_to(ANSWERS["text"], stream=stream).text == "Grüße, 世界 🙂: done"
    assert reply_to(ANSWERS["two calls"], stream=stream).calls == (
        ToolCall("x", "read_file", {"path": "é🙂.py", "lines": [1, 20]}),
        ToolCall("y", "read_file", {"path": "b.py"}),
    )
    for name in ("no ids", "neither ids nor indexes"):
        assert reply_to(ANSWERS[name], stream=stream).calls == (
            ToolCall("call00200", "read_file", {"path": "a"}),
            ToolCall("call00201", "read_file", {"path": "b"}),
        )


def test_an_id_is_never_used_twice_in_a_conversation() -> None:
    answer = Answer(None, [Call("submit", {}, id="same"), Call("submit", {}, id="same")])
    with asked(answer) as (agent, _, _):
        first = agent.reply(ASKED, TOOLS)
        results = (Message("tool", "ok", call_id=call.id) for call in first.calls)
        more = (*ASKED, Message("assistant", "", first.calls), *results)
        second = agent.reply(more, TOOLS)
    ids = [call.id for call in (*first.calls, *second.calls)]
    assert ids == ["same", "call00201", "call00500", "call00501"]


MALFORMED: dict[str, tuple[Any, str]] = {
    "cut short": ('{"path": "a.py"', "not JSON"),
    "a word": ("a.py", "not JSON"),
    "a list": ('["a.py"]', "not a JSON object"),
    "a text": ('"a.py"', "not a JSON object"),
    "a number": ("3", "not a JSON object"),
    "null": ("null", "not a JSON object"),
    "too deep": ("[" * 100_000, "not JSON that can be read"),
    "a number of 5000 digits": ("1" * 5000, "not JSON that can be read"),
}


@pytest.mark.parametrize(("raw", "problem"), MALFORMED.values(), ids=list(MALFORMED))
def test_malformed_arguments_are_a_problem_of_the_call(raw: str, problem: str) -> None:
    (call,) = reply_to(Answer("x", [Call("read_file", raw)])).calls
    assert (call.id, call.name, call.arguments) == ("call-1", "read_file", {})
    assert problem in call.problem


@pytest.mark.parametrize(
    "told",
    [
        [None],
        ["read_file"],
        [{}],
        [{"id": 3, "function": None}],
        [{"function": {"name": None, "arguments": "{}"}}],
        [{"function": {"name": ["read_file"], "arguments": "{}"}}],
    ],
)
def test_a_call_that_names_no_tool_is_a_problem_too(told: list[Any]) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": told}
    (call,) = reply_to(Raw(body={"choices": [{"message": message}]})).calls
    assert call.name == ""
    assert call.id
    assert call.problem == "The call names no tool."


def test_arguments_that_are_an_object_already_are_taken() -> None:
    call = {"id": "z", "function": {"name": "read_file", "arguments": {"path": "a"}}}
    message = {"content": "", "tool_calls": [call]}
    (got,) = reply_to(Raw(body={"choices": [{"message": message}]})).calls
    assert got == ToolCall("z", "read_file", {"path": "a"})


def test_half_a_surrogate_can_be_kept_and_sent_back() -> None:
    body = r'{"choices": [{"message": {"content": "a\ud83d", "tool_calls": [{"id": "i", "function":'
    body += r' {"name": "read_file", "arguments": "{\"path\": \"b\\ud83d\"}"}}]}}]}'
    with asked(Raw(body=body)) as (agent, endpoint, _):
        reply = agent.reply(ASKED, TOOLS)
        assert reply.text == "a?"
        assert reply.calls[0].arguments == {"path": "b?"}
        answer = Message("tool", "none", call_id="i")
        agent.reply((*ASKED, Message("assistant", reply.text, reply.calls), answer), TOOLS)
    assert len(endpoint.requests) == 2


TAGGED = {
    "one": (
        'I read.\n<tool_call>\n{"name": "read_file", "arguments": {"path": "a"}}\n</tool_call>',
        "I read.",
        [("read_file", {"path": "a"}, False)],
    ),
    "two, the last not closed": (
        (
            '<tool_call>{"name": "submit", "arguments": "{}"}</tool_call>'
            '<tool_call>{"name": "read_file", "parameters": {"path": "b"}}'
        ),
        "",
        [("submit", {}, False), ("read_file", {"path": "b"}, False)],
    ),
    "malformed": (
        '<tool_call>{"name": "read_file", "arguments": {"path": }</tool_call>',
        "",
        [("read_file", {}, True)],
    ),
    "without a name": ('<tool_call>{"path": "a"}</tool_call>', "", [("", {}, True)]),
    "no object inside": ("<tool_call>[1]</tool_call>", "<tool_call>[1]</tool_call>", []),
    "spoken of": ("Write <tool_call> around it.", "Write <tool_call> around it.", []),
    "only thought of": (
        '<think>\n<tool_call>{"name": "submit"}</tool_call></think>Done.',
        "Done.",
        [],
    ),
    "thought without a beginning": ("Hmm.</think>\n\nDone.", "Done.", []),
}


@BOTH_WAYS
@pytest.mark.parametrize(("text", "rest", "calls"), TAGGED.values(), ids=list(TAGGED))
def test_calls_in_the_text(text: str, rest: str, calls: list[Any], stream: bool) -> None:
    reply = reply_to(Answer(text), stream=stream)
    assert reply.text == rest
    assert [(call.name, call.arguments, bool(call.problem)) for call in reply.calls] == calls
    assert all(call.id for call in reply.calls)


def test_text_with_tags_is_left_alone_beside_a_real_call() -> None:
    reply = reply_to(Answer('<tool_call>{"name": "a"}</tool_call>', [Call("submit")]))
    assert [call.name for call in reply.calls] == ["submit"]


def test_a_content_in_parts_and_a_refusal_are_text() -> None:
    parts = [{"type": "text", "text": "Not "}, {"type": "image"}, {"type": "text", "text": "here."}]
    assert reply_to(Raw(body={"choices": [{"message": {"content": parts}}]})).text == "Not here."
    refused = {"content": None, "refusal": "I cannot."}
    assert reply_to(Raw(body={"choices": [{"message": refused}]})).text == "I cannot."


# what a request took


@BOTH_WAYS
def test_usage_in_full(stream: bool) -> None:
    expected = Usage(prompt=900, cached=512, output=70, reasoning=64, cost=0.00123)
    assert reply_to(ANSWERS["usage in full"], stream=stream).usage == expected
    assert reply_to(ANSWERS["no usage"], stream=stream).usage is None


USAGES: dict[str, tuple[Any, Usage | None]] = {
    "plain": (USAGE, Usage(100, 0, 20)),
    "deepseek": (USAGE | {"prompt_cache_hit_tokens": 64}, Usage(100, 64, 20)),
    "details that are null": (USAGE | {"prompt_tokens_details": None}, Usage(100, 0, 20)),
    "more cached than sent": (USAGE | {"prompt_cache_hit_tokens": 999}, Usage(100, 100, 20)),
    "thought beside the output": (
        USAGE | {"total_tokens": 150, "completion_tokens_details": {"reasoning_tokens": 30}},
        Usage(100, 0, 50, reasoning=30),
    ),
    "thought in the total only": (USAGE | {"total_tokens": 150}, Usage(100, 0, 50, reasoning=30)),
    "no total": ({"prompt_tokens": 5, "completion_tokens": 0}, Usage(5, 0, 0)),
    "a cost of nothing": (USAGE | {"cost": 0}, Usage(100, 0, 20, cost=0.0)),
    "a cost in words": (USAGE | {"cost": "much"}, Usage(100, 0, 20)),
    "zeros": ({"prompt_tokens": 0, "completion_tokens": 0}, None),
    "half": ({"prompt_tokens": 5}, None),
    "words": ({"prompt_tokens": "5", "completion_tokens": "1"}, None),
    "negative": ({"prompt_tokens": -5, "completion_tokens": 1}, None),
    "no number of tokens": ({"prompt_tokens": 10**400, "completion_tokens": 1}, None),
    "a list": ([1, 2], None),
}


@pytest.mark.parametrize(("told", "expected"), USAGES.values(), ids=list(USAGES))
def test_usage_as_endpoints_tell_it(told: Any, expected: Usage | None) -> None:
    assert reply_to(Answer("x", usage=told)).usage == expected


def test_a_server_that_ignores_stream_options_is_counted_by_the_scaffold() -> None:
    def script(body: dict[str, Any], _: int) -> Response:
        assert body["stream_options"] == {"include_usage": True}
        return Answer("x", usage=None)

    assert reply_to(script, stream=True) == Reply("x")


# a model that only thinks


@BOTH_WAYS
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("reasoning_content", None),
        ("reasoning_content", ""),
        ("reasoning", "  \n"),
        ("reasoning", "<think>hm"),
    ],
)
def test_a_model_that_only_thought_is_asked_once_more(
    stream: bool, name: str, text: str | None
) -> None:
    usage = USAGE | {"cost": 0.5, "completion_tokens_details": {"reasoning_tokens": 9}}
    thought = Answer(text, reasoning="Hm.", reasoning_name=name, usage=usage)
    with asked(in_turn(thought, FOUND), stream=stream) as (agent, endpoint, sleeps):
        reply = agent.reply(ASKED, TOOLS)
    assert reply.text == "I look."
    assert reply.usage == Usage(200, 0, 40, reasoning=9, cost=0.5)
    first, second = (body["messages"] for body in endpoint.bodies)
    assert second[:-1] == first[:-1]
    assert second[-1] == {"role": "user", "content": f"{ASKED[1].text}\n\n{NUDGE}"}
    assert sleeps == []


def test_the_wish_for_an_answer_follows_the_result_of_a_tool() -> None:
    conversation = (
        *ASKED,
        Message("assistant", "", (ToolCall("a", "submit", {}),)),
        Message("tool", "no", call_id="a"),
    )
    with asked(in_turn(Answer(None, reasoning="Hm."), FOUND)) as (agent, endpoint, _):
        agent.reply(conversation, TOOLS)
    assert endpoint.bodies[1]["messages"][-2:] == [
        {"role": "tool", "tool_call_id": "a", "content": "no"},
        {"role": "user", "content": NUDGE},
    ]


@BOTH_WAYS
def test_a_model_that_says_nothing_twice_gives_an_empty_reply(stream: bool) -> None:
    with asked(Answer(None, reasoning="Hm."), stream=stream) as (agent, endpoint, _):
        assert agent.reply(ASKED, TOOLS) == Reply("", (), Usage(200, 0, 40))
    assert len(endpoint.requests) == 2


def test_usage_of_two_requests_is_known_only_if_both_are() -> None:
    script = in_turn(Answer(None, reasoning="Hm.", usage=None), FOUND)
    assert reply_to(script).usage is None


@BOTH_WAYS
def test_an_answer_cut_off_is_said_and_not_asked_for_again(stream: bool) -> None:
    answer = Answer(None, reasoning="I think of", finish="length")
    with asked(answer, stream=stream) as (agent, endpoint, _):
        assert agent.reply(ASKED, TOOLS).text == CUT
    assert len(endpoint.requests) == 1
    (call,) = reply_to(ANSWERS["cut in a call"], stream=stream).calls
    assert "not JSON" in call.problem
    assert "cut off" in call.problem


# waiting and asking again


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_what_passes_is_asked_again(status: int) -> None:
    busy = error("Slow down.", status=status)
    with asked(in_turn(busy, busy, FOUND), stream=status % 2 == 0) as (agent, endpoint, sleeps):
        assert agent.reply(ASKED, TOOLS).text == "I look."
    assert len(endpoint.requests) == 3
    assert len(sleeps) == 2
    assert endpoint.bodies[0] == endpoint.bodies[2]


def test_waits_grow_with_full_jitter_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[float] = []

    def uniform(low: float, high: float) -> float:
        assert low == 0
        bounds.append(high)
        return high / 2

    monkeypatch.setattr(agent_chat.random, "uniform", uniform)
    with (
        asked(error("No.", status=503), tries=8) as (agent, endpoint, sleeps),
        pytest.raises(Unavailable, match="8 tries"),
    ):
        agent.reply(ASKED, TOOLS)
    assert bounds == [1, 2, 4, 8, 16, 30, 30]
    assert sleeps == [bound / 2 for bound in bounds]
    assert len(endpoint.requests) == 8


def test_the_bound_of_tries_holds() -> None:
    with (
        asked(error("No.", status=429)) as (agent, endpoint, sleeps),
        pytest.raises(Unavailable, match=f"HTTP 429.*{TRIES} tries"),
    ):
        agent.reply(ASKED, TOOLS)
    assert (len(endpoint.requests), len(sleeps)) == (TRIES, TRIES - 1)


@pytest.mark.parametrize(
    ("told", "low", "high"),
    [
        (lambda: "7", 7, 7),
        (lambda: "0.5", 0.5, 1),
        (lambda: "86400", 120, 120),
        (lambda: email.utils.formatdate(time.time() + 40, usegmt=True), 37, 41),
        (lambda: email.utils.formatdate(time.time() - 40, usegmt=True), 0, 1),
        (lambda: "Fri, 31 Dec 999999999 23:59:59 GMT", 0, 120),
        (lambda: "soon", 0, 1),
        (lambda: "-3", 0, 1),
        (lambda: "inf", 0, 1),
        (lambda: "nan", 0, 1),
    ],
)
def test_what_an_endpoint_asks_to_wait_is_waited(
    told: Callable[[], str], low: float, high: float
) -> None:
    busy = error("Slow down.", status=429, headers={"Retry-After": told()})
    with asked(in_turn(busy, FOUND)) as (agent, _, sleeps):
        agent.reply(ASKED, TOOLS)
    (slept,) = sleeps
    assert low <= slept <= high
    assert math.isfinite(slept)


def test_a_quota_that_is_spent_is_not_waited_for() -> None:
    spent = error("You exceeded your current quota.", status=429, code="insufficient_quota")
    with asked(spent) as (agent, endpoint, sleeps), pytest.raises(Unavailable, match="quota"):
        agent.reply(ASKED, TOOLS)
    assert (len(endpoint.requests), sleeps) == (1, [])


@BOTH_WAYS
def test_a_silent_endpoint_is_asked_again_and_then_given_up(stream: bool) -> None:
    with asked(in_turn(Silence(), FOUND), timeout=0.4, stream=stream) as (agent, _, sleeps):
        assert agent.reply(ASKED, TOOLS).text == "I look."
        assert len(sleeps) == 1
    failure = failure_of(Silence(), timeout=0.2, tries=2, stream=stream)
    assert "silent for 0.2 s (2 tries)" in failure.message


@BOTH_WAYS
@pytest.mark.parametrize("clean", [False, True], ids=["reset", "closed"])
@pytest.mark.parametrize("after", [0, 60, 500])
def test_a_connection_that_breaks_off_is_asked_again(stream: bool, clean: bool, after: int) -> None:
    long = Answer("A long text. " * 80, [Call("submit")])
    drop = Drop(long, after, clean=clean)
    with asked(in_turn(drop, drop, long), stream=stream) as (agent, endpoint, sleeps):
        assert [call.name for call in agent.reply(ASKED, TOOLS).calls] == ["submit"]
    assert (len(endpoint.requests), len(sleeps)) == (3, 2)
    failure = failure_of(drop, stream=stream, tries=2)
    assert isinstance(failure, Unavailable)
    assert not isinstance(failure, ContextOverflow)


@BOTH_WAYS
@pytest.mark.parametrize("status", [200, 400])
def test_a_body_that_breaks_off_is_asked_for_again(stream: bool, status: int) -> None:
    broken = Drop(Raw(status, FOUND.body()), 40, clean=True)
    with asked(in_turn(broken, FOUND), stream=stream) as (agent, _, sleeps):
        assert agent.reply(ASKED, TOOLS).text == "I look."
    assert len(sleeps) == 1


def test_an_endpoint_that_takes_no_call() -> None:
    with socket.socket() as listening, ExitStack() as callers:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):  # fill the queue of those who wait to be taken
            caller = callers.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listening.getsockname())
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        agent = ChatAgent("m", base_url=address, key=KEY, seed=1, timeout=0.3, tries=1)
        with pytest.raises(Unavailable, match="nobody took the call in time"):
            agent.reply(ASKED, TOOLS)
        agent.close()


def test_an_endpoint_that_is_not_there() -> None:
    with ChatEndpoint(in_turn(FOUND)) as endpoint:
        gone = endpoint.base_url
    sleeps = Sleeps()
    agent = ChatAgent("m", base_url=gone, key=KEY, seed=1, tries=3, sleep=sleeps)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:\d+ cannot be reached.*3 tries") as raised:
        agent.reply(ASKED, TOOLS)
    assert len(sleeps) == 2
    assert "Start the server" in raised.value.hint


# a conversation that is too long

OVERFLOWS = {
    "openai": error(
        "This model's maximum context length is 128000 tokens. However, your messages resulted in"
        " 130000 tokens.",
        code="context_length_exceeded",
        param="messages",
    ),
    "openai, code alone": error("Too much.", code="context_length_exceeded"),
    "openai, newer": error("Your input exceeds the context window of this model."),
    "openrouter": error(
        "This endpoint's maximum context length is 65536 tokens. However, you requested about"
        " 70000 tokens (60000 of text input, 10000 in the output).",
        code=400,
    ),
    "openrouter, from behind": error(
        "Provider returned error",
        code=400,
        metadata={"raw": '{"error":{"message":"prompt is too long: 9 tokens > 8 maximum"}}'},
    ),
    "vllm": Raw(
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens. However, you requested"
            " 5000 tokens in the messages, Please reduce the length of the messages.",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
    ),
    "vllm, with max_tokens": error(
        "'max_tokens' or 'max_completion_tokens' is too large: 1000. This model's maximum context"
        " length is 1024 tokens and your request has 25 input tokens."
    ),
    "vllm, newer": error(
        "You passed 1015 input tokens and requested 10 output tokens. However, the model's context"
        " length is only 1024 tokens."
    ),
    "vllm, of the prompt": error(
        "The decoder prompt (length 9000) is longer than the maximum model length of 8192."
    ),
    "llama.cpp": Raw(
        400,
        {
            "error": {
                "code": 400,
                "message": "request (9000 tokens) exceeds the available context size (8192 tokens)",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9000,
                "n_ctx": 8192,
            }
        },
    ),
    "llama.cpp, older": error("the request exceeds the available context size.", status=500),
    "ollama": error("prompt too long; exceeded max context length by 12 tokens"),
    "sglang": error("The input (9000 tokens) is longer than the model's context length (8192)."),
    "lm studio": error(
        "Trying to keep the first 9000 tokens when context the overflows. However, the model is"
        " loaded with context length of only 4096 tokens."
    ),
    "anthropic": error("prompt is too long: 213462 tokens > 200000 maximum"),
    "anthropic, with output": error(
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"
    ),
    "anthropic, in bytes": error("Request exceeds the maximum size", status=413),
    "google": error("The input token count (1196265) exceeds the maximum number of tokens allowed"),
    "xai": error("This model's maximum prompt length is 131072 but the request contains 537812."),
    "groq": error("Please reduce the length of the messages or completion."),
    "text-generation-inference": error("`inputs` tokens + `max_new_tokens` must be <= 4096."),
    "moonshot": error("Your request exceeded model token limit: 131072"),
    "dashscope": error("Range of input length should be [1, 129024]"),
    "fastapi": Raw(422, {"detail": "Input is too long for requested model."}),
}


@pytest.mark.parametrize("response", OVERFLOWS.values(), ids=list(OVERFLOWS))
def test_a_conversation_that_is_too_long(response: Raw) -> None:
    with (
        asked(response, max_output=64) as (agent, endpoint, sleeps),
        pytest.raises(ContextOverflow),
    ):
        agent.reply(ASKED, TOOLS)
    assert (len(endpoint.requests), sleeps) == (1, [])


def test_a_conversation_that_is_too_long_while_it_streams() -> None:
    event = 'data: {"error": {"code": 400, "message": "maximum context length is 9"}}\n\n'
    with pytest.raises(ContextOverflow):
        reply_to(Raw(200, event, content_type="text/event-stream"), stream=True)
    with pytest.raises(ContextOverflow):
        reply_to(Raw(200, {"error": {"code": 400, "message": "prompt is too long"}}))
    inside = {"index": 0, "delta": {}, "error": {"code": 400, "message": "prompt is too long"}}
    event = f"data: {json.dumps({'choices': [inside]})}\n\n"
    with pytest.raises(ContextOverflow):
        reply_to(Raw(200, event, content_type="text/event-stream"), stream=True)


@pytest.mark.parametrize(
    "response",
    [
        error("Request too large on tokens per minute", status=413, code="rate_limit_exceeded"),
        error("The model `long-context-length` does not exist", status=404),
        error("Invalid value for messages[1].", status=400),
    ],
)
def test_what_is_no_overflow(response: Raw) -> None:
    assert not isinstance(failure_of(response), ContextOverflow)


# options that a model refuses

REFUSALS: dict[str, tuple[Raw, str]] = {
    "openai, temperature": (
        error(
            "Unsupported value: 'temperature' does not support 0 with this model.",
            param="temperature",
            code="unsupported_value",
        ),
        "temperature",
    ),
    "mistral, seed": (
        Raw(
            422,
            {
                "detail": [
                    {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Not permitted"}
                ]
            },
        ),
        "seed",
    ),
    "stream_options": (error("Unrecognized request argument: stream_options"), "stream_options"),
}


@pytest.mark.parametrize(("response", "option"), REFUSALS.values(), ids=list(REFUSALS))
def test_a_refused_option_is_left_out_from_then_on(response: Raw, option: str) -> None:
    def script(body: dict[str, Any], _: int) -> Response:
        return response if option in body else FOUND

    with asked(script, stream=True, max_output=9) as (agent, endpoint, sleeps):
        assert agent.reply(ASKED, TOOLS).text == "I look."
        assert agent.reply(ASKED, TOOLS).text == "I look."
        assert agent.left_out == [option]
    assert [option in body for body in endpoint.bodies] == [True, False, False]
    others = {"temperature", "seed", "stream_options", "max_tokens"} - {option}
    assert all(others <= set(body) for body in endpoint.bodies)
    assert sleeps == []


def test_several_options_are_refused_one_after_the_other() -> None:
    def script(body: dict[str, Any], _: int) -> Response:
        for option in ("temperature", "seed"):
            if option in body:
                return error(f"{option} is not supported")
        return FOUND

    with asked(script) as (agent, endpoint, _):
        agent.reply(ASKED, TOOLS)
        assert agent.left_out == ["temperature", "seed"]
    assert len(endpoint.requests) == 3


def test_the_limit_of_output_goes_by_its_other_name_where_it_must() -> None:
    def script(body: dict[str, Any], _: int) -> Response:
        if "max_tokens" in body:
            return error("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.")
        assert body["max_completion_tokens"] == 300
        return FOUND

    with asked(script, max_output=300) as (agent, endpoint, _):
        agent.reply(ASKED, TOOLS)
        assert agent.left_out == []
    assert len(endpoint.requests) == 2


def test_a_refusal_that_never_ends_ends() -> None:
    always = error("temperature, seed, stream_options and max_completion_tokens are refused")
    with (
        asked(always, stream=True, max_output=5) as (agent, endpoint, _),
        pytest.raises(Unavailable, match="HTTP 400"),
    ):
        agent.reply(ASKED, TOOLS)
    assert len(endpoint.requests) == 5


def test_an_option_in_the_text_of_the_request_is_not_taken_for_a_refusal() -> None:
    detail = [{"loc": ["body"], "msg": "Field required", "input": {"text": "a temperature"}}]
    with (
        asked(Raw(422, {"detail": detail})) as (agent, endpoint, _),
        pytest.raises(Unavailable, match="Field required"),
    ):
        agent.reply(ASKED, TOOLS)
    assert len(endpoint.requests) == 1


# malformed calls that the server itself gives up on


def test_a_call_that_the_server_could_not_take_apart_is_the_models_fault() -> None:
    groq = error(
        "Failed to call a function.",
        code="tool_use_failed",
        failed_generation=TAGGED["one"][0],
    )
    assert reply_to(groq).calls[0].arguments == {"path": "a"}
    ollama = error("error parsing tool call: raw='{\"path\": a', err=invalid", status=500)
    with asked(ollama) as (agent, endpoint, _):
        reply = agent.reply(ASKED, TOOLS)
    assert "malformed" in reply.text
    assert (reply.calls, reply.usage, len(endpoint.requests)) == ((), None, 1)


# what is no answer

PAGE = Raw(200, "<!DOCTYPE html><html><body>It works!</body></html>", content_type="text/html; x=y")
GARBAGE: dict[str, tuple[Raw, str]] = {
    "a web page": (PAGE, "no JSON"),
    "nothing": (Raw(200, ""), "no JSON"),
    "cut JSON": (Raw(200, '{"choices": [{'), "no JSON"),
    "no text at all": (Raw(200, b"\xff\xfe\x00\x9f"), "no JSON"),
    "deep JSON": (Raw(200, "[" * 200_000), "no JSON"),
    "a list": (Raw(200, []), "without a choice"),
    "null": (Raw(200, "null"), "without a choice"),
    "a text": (Raw(200, '"hello"'), "without a choice"),
    "no choices": (Raw(200, {"id": "x"}), "without a choice"),
    "empty choices": (Raw(200, {"choices": []}), "without a choice"),
    "choices that are none": (Raw(200, {"choices": "none"}), "without a choice"),
    "a choice that is none": (Raw(200, {"choices": [None]}), "without a choice"),
    "no message": (Raw(200, {"choices": [{}]}), "without a message"),
    "a message that is none": (Raw(200, {"choices": [{"message": "hi"}]}), "without a message"),
    "401": (error("Incorrect API key provided", status=401), "HTTP 401"),
    "402": (error("Insufficient credits", status=402), "HTTP 402"),
    "403": (Raw(403, "<html>Forbidden</html>", content_type="text/html"), "HTTP 403: a web page"),
    "404": (error("The model `x` does not exist", status=404), "HTTP 404: The model `x` does"),
    "404, empty": (Raw(404, ""), "HTTP 404: it does not say why"),
    "400": (error("Something else"), "HTTP 400: Something else"),
    "400, odd": (Raw(400, {"error": ["odd", 3, None]}), "HTTP 400: odd 3"),
    "400, deep": (Raw(400, '{"error": ' + "[" * 700 + "]" * 700 + "}"), "it does not say why"),
    "500": (error("Oops", status=500), "HTTP 500: Oops"),
    "502 from behind": (
        error("Provider returned error", status=502, metadata={"raw": "The model fell over."}),
        "HTTP 502: Provider returned error: The model fell over",
    ),
    "an error with HTTP 200": (
        Raw(200, {"error": {"message": "No provider", "code": 404}}),
        "HTTP 404: No provider",
    ),
    "no tools": (
        error('"model-1" does not support tools'),
        "does not support tools",
    ),
}


@BOTH_WAYS
@pytest.mark.parametrize(("response", "said"), GARBAGE.values(), ids=list(GARBAGE))
def test_what_is_no_answer(response: Raw, said: str, stream: bool) -> None:
    failure = failure_of(response, stream=stream, tries=2)
    assert type(failure) is Unavailable
    assert said in failure.message
    assert "\n" not in failure.message
    assert len(failure.message) < 700
    assert failure.hint.endswith(".")


def test_a_hint_fits_what_went_wrong() -> None:
    assert "STRATUM_BENCH_KEY" in failure_of(GARBAGE["401"][0]).hint
    assert "/v1" in failure_of(GARBAGE["404"][0]).hint
    assert "/v1" in failure_of(PAGE).hint
    assert "call tools" in failure_of(GARBAGE["no tools"][0]).hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "broke off"),
        ("data: {oops\n\n", "no JSON"),
        ('data: "x"\n\ndata: null\n\ndata: [1]\n\ndata: [DONE]\n\n', "broke off"),
        ('data: {"choices": []}\n\ndata: [DONE]\n\n', "broke off"),
        ('data: {"choices": [{"delta": null}]}\n\n', "broke off"),
        ('data: {"error": {"message": "overloaded", "code": 502}}\n\n', "HTTP 502: overloaded"),
        ('data: {"error": "sorry"}\n\n', "sorry"),
    ],
)
def test_a_stream_that_is_no_answer(text: str, said: str) -> None:
    response = Raw(200, text, content_type="text/event-stream")
    assert said in failure_of(response, stream=True, tries=2).message


def test_an_answer_at_once_where_a_stream_was_asked_for_is_taken() -> None:
    assert reply_to(Raw(body=FOUND.body()), stream=True) == reply_to(FOUND)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                "choices message delta content tool_calls function name arguments id index usage"
                " prompt_tokens completion_tokens finish_reason error code metadata raw refusal"
                " cost".split()
            ),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=12,
)


def test_no_body_at_all_leads_to_another_error() -> None:
    told: dict[str, Any] = {}

    def script(body: dict[str, Any], _: int) -> Response:
        if body["stream"]:
            event = f"data: {json.dumps(told['body'])}\n\n"
            return Raw(told["status"], event, content_type="text/event-stream")
        return Raw(told["status"], told["body"])

    with ChatEndpoint(script) as endpoint:
        agents = [
            ChatAgent(
                "m", base_url=endpoint.base_url, key=KEY, seed=1, stream=s, tries=1, sleep=Sleeps()
            )
            for s in (False, True)
        ]

        @given(
            JSON,
            st.sampled_from(["body", "message", "calls", "usage"]),
            st.sampled_from([200, 400]),
        )
        @hypothesis_settings(
            max_examples=80, deadline=None, suppress_health_check=list(HealthCheck)
        )
        def check(value: Any, place: str, status: int) -> None:
            message = {"content": "x", "tool_calls": value} if place == "calls" else value
            choice = {"message": message, "delta": message, "finish_reason": "stop"}
            whole = {"choices": [choice], "usage": value if place == "usage" else None}
            told.update(body=value if place == "body" else whole, status=status)
            for agent in agents:
                try:
                    reply = agent.reply(ASKED, TOOLS)
                except Unavailable:
                    continue
                assert all(call.id and (call.name or call.problem) for call in reply.calls)

        check()
        for agent in agents:
            agent.close()


# the key


def secrets_in(thrown: BaseException) -> str:
    """Return all that anybody could read of an error, and of what it came from."""
    told, seen = [], set()
    waiting: list[BaseException | None] = [thrown]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        told += [repr(one), str(one), "".join(traceback.format_exception(one)), str(vars(one))]
        waiting += [one.__cause__, one.__context__]
    return "\n".join(told)


@BOTH_WAYS
@pytest.mark.parametrize(
    "response",
    [
        error(f"Incorrect API key provided: {KEY}.", status=401),
        error(f"Incorrect API key provided: {KEY[:15]}…", status=401),
        error("no", status=403, metadata={"raw": f"Bearer {KEY}"}),
        Raw(400, f"plain text with {KEY}"),
        Raw(200, f"<html>{KEY}</html>"),
        Raw(200, {"error": {"message": f"key={KEY}", "code": 500}}),
        Raw(200, f'data: {{"error": "for {KEY}"}}\n\n', {}, "text/event-stream"),
        error("maximum context length " + KEY),
        Drop(Answer(KEY * 9), 30),
    ],
)  # fmt: skip
def test_the_key_is_in_no_error(
    response: Response, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    failure = failure_of(response, stream=stream, tries=2)
    assert KEY[8:] not in secrets_in(failure)
    assert KEY[:15] not in secrets_in(failure)
    assert KEY not in str(failure.to_dict())
    assert KEY not in caplog.text


@BOTH_WAYS
def test_the_key_is_in_no_reply(stream: bool) -> None:
    answer = Answer(f"It is {KEY}.", [Call("read_file", {"path": KEY})])
    reply = reply_to(answer, stream=stream)
    assert reply.text == "It is [key]."
    assert reply.calls[0].arguments == {"path": "[key]"}
    failed = error("no", code="tool_use_failed", failed_generation=f"It is {KEY}.")
    assert reply_to(failed, stream=stream).text == "It is [key]."


def test_a_short_key_spoils_no_word_of_the_model() -> None:
    assert reply_to(Answer("tests/test.py"), key="test").text == "tests/test.py"
    failure = failure_of(error("The latest key is test."), key="test")
    assert "The latest key is [key]" in failure.message


def test_the_key_is_the_first_that_is_set() -> None:
    both = {"STRATUM_BENCH_KEY": " first\n", "OPENAI_API_KEY": "second"}
    away, here = "https://models.example/v1", "http://127.0.0.1:8080/v1"
    assert key_from(both, away) == "first"
    assert key_from({"STRATUM_BENCH_KEY": "", "OPENAI_API_KEY": "second"}, away) == "second"
    assert key_from({}, here) == "none"
    with pytest.raises(InvalidInput, match=r"models\.example") as raised:
        key_from({}, away)
    assert "STRATUM_BENCH_KEY" in raised.value.hint


@pytest.mark.parametrize("key", ["", "two\nlines", "kéy-0123456789"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        ChatAgent("m", base_url="http://127.0.0.1:1/v1", key=key, seed=1)
    assert not key or key not in secrets_in(raised.value)


# the address and the client


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("http://127.0.0.1:8080/v1", True),
        ("http://127.9.9.9/v1", True),
        ("http://localhost:1/v1", True),
        ("http://LOCALHOST/v1", True),
        ("http://api.localhost/v1", True),
        ("http://[::1]:8080/v1", True),
        ("https://api.openai.com/v1", False),
        ("http://127.0.0.1.example.org/v1", False),
        ("http://localhost.example.org/v1", False),
        ("http://10.0.0.1/v1", False),
    ],
)
def test_what_is_on_this_machine(address: str, here: bool) -> None:
    assert is_loopback(address) is here


@pytest.mark.parametrize("address", ["", "localhost:8080/v1", "ftp://x/v1", "http://", "http://[x"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(InvalidInput, match="no web address"):
        ChatAgent("m", base_url=address, key=KEY, seed=1)
    with pytest.raises(InvalidInput, match="no web address"):
        key_from({}, address)


def test_an_address_is_shown_without_what_is_secret_in_it() -> None:
    with ChatEndpoint(in_turn(error("no", status=401))) as endpoint:
        address = endpoint.base_url.replace("//", "//ada:hunter2@") + "?token=hunter3"
        agent = ChatAgent("m", base_url=address, key=KEY, seed=1, sleep=Sleeps())
        with pytest.raises(Unavailable) as raised:
            agent.reply(ASKED, TOOLS)
        agent.close()
    assert "hunter" not in secrets_in(raised.value)


def test_without_the_client_library_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(Unavailable, match="not installed") as raised:
        ChatAgent("m", base_url="http://127.0.0.1:1/v1", key=KEY, seed=1)
    assert 'pip install "stratum-memory[chat]"' in raised.value.hint


def test_the_client_library_is_imported_when_an_agent_is_made() -> None:
    program = (
        "import sys; from stratum_bench import agent_chat as c; assert 'openai' not in sys.modules;"
        " c.ChatAgent('m', base_url='http://127.0.0.1:1/v1', key='none', seed=1);"
        " assert 'openai' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_scripted_model_can_do_a_whole_task() -> None:
    def script(body: dict[str, Any], number: int) -> Response:
        last = body["messages"][-1]
        if number == 0:
            return Answer(None, [Call("read_file", {"path": "shop/cart.py"}, id="one")])
        assert last["role"] == "tool"
        assert last["tool_call_id"] == "one"
        return Answer(None, [Call("submit", {"files": [last["content"]]}, id="two")])

    with asked(script, stream=True) as (agent, endpoint, _):
        first = agent.reply(ASKED, TOOLS)
        grown = (
            *ASKED,
            Message("assistant", first.text, first.calls),
            Message("tool", "shop/cart.py", call_id=first.calls[0].id),
        )
        assert agent.reply(grown, TOOLS).calls == (
            ToolCall("two", "submit", {"files": ["shop/cart.py"]}),
        )
    assert all(isinstance(request, Request) for request in endpoint.requests)


def test_what_a_script_raises_fails_the_test() -> None:
    def script(body: dict[str, Any], number: int) -> Response:
        raise AssertionError("the script saw something wrong")

    with (
        pytest.raises(AssertionError, match="saw something wrong"),
        asked(script) as (agent, _, _),
        pytest.raises(Unavailable),
    ):
        agent.reply(ASKED, TOOLS)
