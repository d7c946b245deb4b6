"""What a conversation costs: every figure against one counted by hand with the same tokenizer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stratum_bench.agent import Message, Reply, Tool, ToolCall, Usage
from stratum_bench.conversation import Conversation, call_text, count, definition

GREP = Tool("grep", "Search.", {"type": "object", "properties": {"pattern": {"type": "string"}}})
PACK = Tool("memory_pack", "What to know.", {"type": "object", "properties": {}})
MARK = 4  # tokens that mark a message
SYSTEM = "You look for files. Memory says: ask me first."
OF_MEMORY = 6


def test_known_texts_have_their_known_tokens() -> None:
    assert count("") == 0
    assert count("hello world") == 2
    assert count("<|endoftext|>") > 1  # a text about a control token is no control token
    assert definition(GREP) == (
        '{"name":"grep","description":"Search.","parameters":{"type":"object","properties":'
        '{"pattern":{"type":"string"}}}}'
    )
    call = ToolCall("c1", "grep", {"pattern": "ü"})
    assert call_text(call) == '{"name":"grep","arguments":{"pattern":"ü"}}'


@given(st.text(st.characters(), max_size=40))
def test_whatever_a_model_writes_is_counted(text: str) -> None:
    assert 0 <= count(text) <= 4 * len(text)
    assert count(call_text(ToolCall("c", "grep", {"pattern": text}))) > 0


def test_half_a_pair_of_surrogates_counts_as_what_is_sent() -> None:
    broken = json.loads(r'"see \ud83d here"')
    assert count(broken) == count("see ? here")


def test_a_dialogue_is_counted_as_by_hand() -> None:
    talk = Conversation((GREP, PACK), {"memory_pack"})
    grep, pack = count(definition(GREP)), count(definition(PACK))
    assert talk.memory_definitions == pack

    system, user = count(SYSTEM) + MARK, count("Carts stay for ever.") + MARK
    assert talk.add(Message("system", SYSTEM), of_memory=OF_MEMORY) == system
    assert talk.add(Message("user", "Carts stay for ever.")) == user

    # step 1: memory is asked; its call is memory's, too
    first = ToolCall("c1", "memory_pack", {"task": "carts"})
    out1 = count(call_text(first))
    prompt1 = grep + pack + system + user
    usage, memory = talk.add_reply(Reply("", (first,)))
    assert usage == Usage(prompt1, 0, out1)
    assert memory == pack + OF_MEMORY + out1
    answer1 = count("shop/cart.py:20") + MARK
    assert talk.add(Message("tool", "shop/cart.py:20", call_id="c1")) == answer1

    # step 2: two calls in one message, one of each kind, with a word
    calls = (ToolCall("c2", "grep", {"pattern": "cart"}), ToolCall("c3", "memory_pack", {}))
    of_grep, of_pack = (count(call_text(call)) for call in calls)
    out2 = count("Let me see.") + of_grep + of_pack
    prompt2 = prompt1 + out1 + MARK + answer1
    memory2 = pack + OF_MEMORY + out1 + answer1
    usage, memory = talk.add_reply(Reply("Let me see.", calls))
    assert usage == Usage(prompt2, prompt1 + out1, out2)
    assert memory == memory2 + of_pack
    found = talk.add(Message("tool", "shop/cart.py:7: class Cart:", call_id="c2"))
    packed = talk.add(Message("tool", "Nothing more is known.", call_id="c3"))

    # step 3: what memory said is sent again, what grep said is not memory's
    prompt3 = prompt2 + out2 + MARK + found + packed
    usage, memory = talk.add_reply(Reply("Done."))
    assert usage == Usage(prompt3, prompt2 + out2, count("Done."))
    assert memory == memory2 + of_pack + packed

    assert [m.role for m in talk.messages] == [
        "system", "user", "assistant", "tool", "assistant", "tool", "tool", "assistant",
    ]  # fmt: skip
    assert talk.messages[4].calls == calls


def test_a_nudge_is_nobodys() -> None:
    talk = Conversation((GREP, PACK), {"memory_pack"})
    talk.add_reply(Reply("Hm."))
    size = talk.add(Message("user", "Go on."))
    usage, memory = talk.add_reply(Reply("Hm."))
    both = count(definition(GREP)) + count(definition(PACK))
    assert usage.prompt == both + count("Hm.") + MARK + size
    assert usage.cached == both + count("Hm.")
    assert memory == count(definition(PACK))


def test_without_memory_nothing_is_memorys() -> None:
    talk = Conversation((GREP,), ())
    talk.add(Message("system", SYSTEM))
    for number in range(3):
        call = ToolCall(f"c{number}", "grep", {"pattern": "x"})
        assert talk.add_reply(Reply("", (call,)))[1] == 0
        talk.add(Message("tool", "No matches.", call_id=call.id))


def test_what_the_endpoint_says_goes_before_our_own_count() -> None:
    talk = Conversation((GREP,), ())
    ours, _ = talk.add_reply(Reply("One."))
    told = Usage(9_000, 8_000, 70, reasoning=50, cost=0.25)
    assert talk.add_reply(Reply("Two.", usage=told))[0] == told
    # and our own count goes on as if nothing had been said
    usage, _ = talk.add_reply(Reply("Three."))
    prompt = ours.prompt + count("One.") + count("Two.") + 2 * MARK
    assert usage == Usage(prompt, prompt - MARK, count("Three."))


@pytest.mark.parametrize("again", ["", "call_0"])
def test_ids_that_begin_anew_with_each_reply_are_not_mixed_up(again: str) -> None:
    talk = Conversation((GREP, PACK), {"memory_pack"})
    _, before = talk.add_reply(Reply("", (ToolCall(again, "memory_pack", {}),)))
    packed = talk.add(Message("tool", "shop/cart.py", call_id=again))
    talk.add_reply(Reply("", (ToolCall(again, "grep", {"pattern": "x"}),)))
    talk.add(Message("tool", "a.py:1: x " * 50, call_id=again))
    assert talk.add_reply(Reply("Done."))[1] == before + packed


@given(st.lists(st.tuples(st.text(max_size=20), st.booleans()), max_size=8))
def test_what_was_sent_before_is_never_more_than_what_is_sent(
    said: list[tuple[str, bool]],
) -> None:
    talk = Conversation((GREP, PACK), {"memory_pack"})
    sent = 0
    for number, (text, ask) in enumerate(said):
        calls = (ToolCall(f"c{number}", "memory_pack", {"task": text}),) if ask else ()
        usage, memory = talk.add_reply(Reply(text, calls))
        assert sent == usage.cached <= usage.prompt
        assert 0 <= memory <= usage.prompt + usage.output
        sent = usage.prompt + usage.output
        for call in calls:
            talk.add(Message("tool", text, call_id=call.id))
