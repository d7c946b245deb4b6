"""The loop around an agent: outcomes, limits, what it is told, and what is told of it.

The agent says what the test lists; the tools, the memory and its server are real.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from stratum_bench.agent import ContextOverflow, Message, Reply, Tool, ToolCall, Usage
from stratum_bench.agent_memory import MemoryTools
from stratum_bench.agent_tools import TOOLS, Tree
from stratum_bench.conversation import count, definition
from stratum_bench.scaffold import MOST_STEPS, PROMPT, Given, Question, outcome_of, run_episode
from stratum_bench.trace import Asked, Called, Ended, Started, as_line, from_line

from stratum import Memory, Unavailable
from tests.corpora.secrets import MIXED

Event = Started | Asked | Called | Ended
TOKEN = "gh" + f"p_{MIXED[:36]}"  # looks like a secret, and is none
QUESTION = Question("t1", "Expired carts stay\n\nThey are never dropped.", ("shop/cart.py",))
BARE = Given("bare")


@dataclass
class Listed:
    """An agent that says what is listed, and keeps what it was asked with."""

    replies: Sequence[Reply | Exception]
    asked: list[list[Message]] = field(default_factory=list)
    tools: list[list[str]] = field(default_factory=list)

    def reply(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Reply:
        self.asked.append(list(messages))
        self.tools.append([tool.name for tool in tools])
        said = self.replies[min(len(self.asked), len(self.replies)) - 1]
        if isinstance(said, Exception):
            raise said
        return said


def calls(*made: tuple[str, Mapping[str, Any]], text: str = "") -> Reply:
    return Reply(text, tuple(ToolCall(f"c{n}", *one) for n, one in enumerate(made)))


def submit(*files: str) -> Reply:
    return calls(("submit", {"files": list(files)}))


Run = Callable[..., tuple[Ended, list[Event]]]


@pytest.fixture
def run(repository: Path) -> Run:
    tree = Tree(repository)

    def run_it(
        agent: Listed, given: Given = BARE, question: Question = QUESTION
    ) -> tuple[Ended, list[Event]]:
        events: list[Event] = []
        end = run_episode(agent, question, given, tree, events.append)
        assert events[-1] is end
        assert all(event.task == question.id and event.arm == given.arm for event in events)
        assert [from_line(as_line(event)) for event in events] == events
        return end, events

    return run_it


@pytest.fixture
def tools(memory: Memory) -> Iterator[MemoryTools]:
    with MemoryTools(memory) as opened:
        yield opened


def of_kind(events: Sequence[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


# outcomes


def test_all_files_of_the_solution_are_a_pass(run: Run) -> None:
    end, events = run(Listed([submit("web/render.js", "./shop/cart.py")]))
    assert (end.outcome, end.reason) == ("PASS", "submitted")
    assert end.submitted == ("web/render.js", "shop/cart.py")
    assert [type(event).__name__ for event in events] == ["Started", "Asked", "Called", "Ended"]


def test_a_part_of_the_solution_is_a_miss(run: Run) -> None:
    both = Question("t2", "x", ("shop/cart.py", "shop/session.py"))
    assert run(Listed([submit("shop/cart.py")]), question=both)[0].outcome == "MISS"
    whole = submit("shop/session.py", "shop/cart.py")
    assert run(Listed([whole]), question=both)[0].outcome == "PASS"


def test_a_file_that_is_not_there_is_invented(run: Run) -> None:
    assert run(Listed([submit("shop/carts.py")]))[0].outcome == "INVENTED"
    # the solution beside it still counts
    assert run(Listed([submit("shop/carts.py", "shop/cart.py")]))[0].outcome == "PASS"


def test_a_wrong_file_that_a_note_named_is_stale(
    run: Run, tools: MemoryTools, memory: Memory
) -> None:
    memory.write("Expired carts are dropped in shop/session.py.", anchors=["shop/session.py"])
    ask = calls(("memory_pack", {"task": "expired carts are never dropped"}))
    end, events = run(Listed([ask, submit("shop/session.py")]), Given("wrong", tools))
    assert "## Notes" in of_kind(events, Called)[0].result
    assert end.outcome == "STALE"
    assert "shop/session.py" in end.recalled
    # who did not read the note was not led by it
    assert run(Listed([submit("shop/session.py")]), Given("wrong", tools))[0].outcome == "MISS"


def test_a_wrong_file_that_only_the_index_named_is_a_miss(run: Run, tools: MemoryTools) -> None:
    ask = calls(("memory_pack", {"task": "delete expired sessions"}))
    end, _ = run(Listed([ask, submit("shop/session.py")]), Given("stratum", tools))
    assert "shop/session.py" in end.recalled
    assert end.outcome == "MISS"
    assert "tests/test_cart.py" not in end.recalled


@pytest.mark.parametrize(
    ("submitted", "noted", "reason", "outcome"),
    [
        (("a", "b"), (), "submitted", "PASS"),
        (("b", "c"), (), "submitted", "MISS"),
        (("c", "z"), ("c",), "submitted", "INVENTED"),
        (("c",), ("c",), "submitted", "STALE"),
        (("a", "c"), ("c",), "submitted", "MISS"),
        ((), ("c",), "limit", "MISS"),
        ((), (), "silent", "MISS"),
        ((), (), "context", "MISS"),
        (("a", "b"), (), "error: gone", "ERROR"),
    ],
)
def test_the_outcome_of_each_end(
    submitted: tuple[str, ...], noted: tuple[str, ...], reason: str, outcome: str
) -> None:
    assert outcome_of(("a", "b"), submitted, ("a", "b", "c"), noted, reason) == outcome


# ends without an answer


def test_an_agent_that_cannot_be_asked_is_an_error(run: Run) -> None:
    gone = Unavailable("The endpoint is gone.", hint="Start it.")
    end, events = run(Listed([calls(("list_dir", {})), gone]))
    assert (end.outcome, end.reason) == ("ERROR", "error: The endpoint is gone. Start it.")
    assert len(of_kind(events, Asked)) == 1


def test_a_conversation_that_is_too_long_is_a_miss(run: Run) -> None:
    end, _ = run(Listed([ContextOverflow("Too long.")]))
    assert (end.outcome, end.reason, end.submitted) == ("MISS", "context", ())


def test_the_steps_are_limited_and_the_last_one_is_announced(run: Run) -> None:
    agent = Listed([calls(("list_dir", {}))])
    end, events = run(agent)
    assert (end.outcome, end.reason) == ("MISS", "limit")
    assert len(agent.asked) == len(of_kind(events, Asked)) == MOST_STEPS
    assert [event.step for event in of_kind(events, Asked)] == list(range(1, MOST_STEPS + 1))
    warned = [n for n, asked in enumerate(agent.asked, 1) if "last look" in asked[-1].text]
    assert warned == [MOST_STEPS]
    # who heeds it is in time
    heeding = Listed([calls(("list_dir", {}))] * (MOST_STEPS - 1) + [submit("shop/cart.py")])
    assert run(heeding)[0].outcome == "PASS"


def test_a_silent_agent_is_nudged_twice_and_left(run: Run) -> None:
    agent = Listed([Reply("Hm."), Reply(""), Reply("Well.")])
    end, events = run(agent)
    assert (end.outcome, end.reason) == ("MISS", "silent")
    assert [event.text for event in of_kind(events, Asked)] == ["Hm.", "", "Well."]
    assert [asked[-1].text[:5] for asked in agent.asked[1:]] == ["Go on", "Go on"]
    assert run(Listed([Reply("Hm."), Reply(""), submit("shop/cart.py")]))[0].outcome == "PASS"


def test_a_refused_submission_is_no_end(run: Run) -> None:
    end, events = run(Listed([submit(), submit("shop/cart.py")]))
    assert end.outcome == "PASS"
    assert [event.failed for event in of_kind(events, Called)] == [True, False]


# what an agent is told


def test_every_call_is_answered_by_one_message(run: Run) -> None:
    first = calls(
        ("grep", {"pattern": "expire"}),
        ("read_file", {"path": "gone.py"}),
        ("no_such_tool", {}),
        text="I look.",
    )
    agent = Listed([first, submit("shop/cart.py")])
    _, events = run(agent)
    system, user, said, *answers = agent.asked[1]
    assert (system.role, system.text) == ("system", PROMPT)
    assert (user.role, user.text) == ("user", QUESTION.text)
    assert said == Message("assistant", "I look.", first.calls)
    assert [(m.role, m.call_id) for m in answers] == [("tool", f"c{n}") for n in range(3)]
    assert answers[0].text.startswith("shop/cart.py:19: ")
    made = of_kind(events, Called)[:3]
    assert [(event.tool, event.failed) for event in made] == [
        ("grep", False), ("read_file", True), ("no_such_tool", True),
    ]  # fmt: skip
    for event, answer in zip(made, answers, strict=True):
        assert event.result == answer.text  # none of them is long
        assert event.chars == len(answer.text)
        assert event.tokens == count(answer.text) + 4
        assert event.arguments == dict(first.calls[made.index(event)].arguments)


def test_a_call_that_cannot_be_made_is_answered_with_its_problem(
    run: Run, tools: MemoryTools
) -> None:
    broken = (
        ToolCall("x", "grep", {}, "The arguments are no JSON."),
        ToolCall("y", "memory_write", {}, "The arguments are no JSON."),
        ToolCall("z", "submit", {"files": ["shop/cart.py"]}, "It was cut off."),
    )
    agent = Listed([Reply("", broken), submit("shop/cart.py")])
    end, events = run(agent, Given("stratum", tools))
    assert [m.text for m in agent.asked[1][-3:]] == [
        "Error: The arguments are no JSON.",
        "Error: The arguments are no JSON.",
        "Error: It was cut off.",
    ]
    assert [event.failed for event in of_kind(events, Called)] == [True, True, True, False]
    assert not end.learned


def test_memory_is_told_of_in_the_prompt_and_among_the_tools(run: Run, tools: MemoryTools) -> None:
    agent = Listed([submit("shop/cart.py")])
    _, events = run(agent, Given("stratum", tools, file="Carts live in shop/cart.py."))
    own = [tool.name for tool in TOOLS]
    assert agent.tools[0] == own + [tool.name for tool in tools.tools]
    assert agent.asked[0][0].text == (
        f"{PROMPT}\n\n{tools.instructions}\n\nCarts live in shop/cart.py."
    )
    started = of_kind(events, Started)[0]
    assert started.tools == sum(count(definition(tool)) for tool in tools.tools)
    assert started.instructions == count(tools.instructions) + 1
    assert started.file == count("Carts live in shop/cart.py.") + 1
    asked = of_kind(events, Asked)[0]
    assert asked.memory == started.tools + started.instructions + started.file
    bare = of_kind(run(agent)[1], Asked)[0]
    assert asked.prompt - bare.prompt == pytest.approx(asked.memory, abs=3)
    assert bare.memory == 0


# what is told of it


def test_a_note_can_be_written_and_the_files_submitted_at_once(
    run: Run, tools: MemoryTools, memory: Memory
) -> None:
    note = {"text": "Carts expire in shop/cart.py.", "anchors": ["shop/cart.py"]}
    both = calls(("memory_write", note), ("submit", {"files": ["shop/cart.py"]}))
    end, events = run(Listed([both]), Given("stratum", tools))
    assert (end.outcome, end.learned) == ("PASS", True)
    wrote, sent = of_kind(events, Called)
    assert (wrote.tool, wrote.memory, wrote.failed, wrote.arguments) == (
        "memory_write", True, False, note,
    )  # fmt: skip
    assert (sent.tool, sent.memory) == ("submit", False)
    kept = [json.loads(line) for line in memory.export()]
    assert [line["text"] for line in kept if "text" in line] == [note["text"]]


def test_calls_after_the_submission_are_answered_too(run: Run) -> None:
    late = calls(("submit", {"files": ["shop/cart.py"]}), ("list_dir", {}))
    end, events = run(Listed([late]))
    assert end.outcome == "PASS"
    assert [event.tool for event in of_kind(events, Called)] == ["submit", "list_dir"]


def test_a_refused_note_is_not_learned(run: Run, tools: MemoryTools) -> None:
    bad = calls(("memory_write", {"text": ""}), ("memory_pack", {"task": 5}))
    end, events = run(Listed([bad, submit("shop/cart.py")]), Given("stratum", tools))
    assert [event.failed for event in of_kind(events, Called)] == [True, True, False]
    assert (end.learned, end.recalled) == (False, ())


def test_what_an_endpoint_says_of_its_tokens_is_told(run: Run) -> None:
    said = Usage(9_000, 8_000, 70, reasoning=50, cost=0.25)
    told = Reply("", submit("shop/cart.py").calls, said)
    asked = of_kind(run(Listed([told]))[1], Asked)[0]
    assert (asked.prompt, asked.cached, asked.output) == (9_000, 8_000, 70)
    assert (asked.reasoning, asked.cost) == (50, 0.25)


def test_long_texts_are_cut_and_their_length_is_told(run: Run, repository: Path) -> None:
    (repository / "shop" / "cart.py").write_text("x = 1  # word\n" * 300)
    reply = calls(("read_file", {"path": "shop/cart.py"}), text="word " * 500)
    _, events = run(Listed([reply, submit("shop/cart.py")]))
    asked, called = of_kind(events, Asked)[0], of_kind(events, Called)[0]
    assert asked.text == ("word " * 500)[:600]
    assert len(called.result) == 600
    assert called.chars > 4000


def test_secrets_are_masked_wherever_they_come_from(run: Run, repository: Path) -> None:
    (repository / "shop" / "cart.py").write_text(f"API = '{TOKEN}'\n")
    made = calls(
        ("grep", {"pattern": TOKEN}),
        ("read_file", {"path": "shop/cart.py", "note": [TOKEN, {"deep": TOKEN}], TOKEN: 1}),
        (TOKEN, {}),
        text=f"I found {TOKEN} here.",
    )
    end, events = run(Listed([made, submit(f"shop/{TOKEN}", "shop/cart.py")]))
    assert end.outcome == "PASS"
    told = "".join(as_line(event) for event in events)
    assert TOKEN not in told
    assert TOKEN[:20] not in told
    assert "I found " in told
    assert end.submitted[1] == "shop/cart.py"


@pytest.mark.parametrize("before", range(560, 640, 8))
def test_no_half_of_a_secret_stays_where_a_text_is_cut(run: Run, before: int) -> None:
    text = ("x " * before)[:before] + TOKEN
    _, events = run(Listed([Reply(text), submit("shop/cart.py")]))
    shown = of_kind(events, Asked)[0].text
    assert len(shown) <= 600
    assert TOKEN[:8] not in shown


def test_an_agent_that_writes_half_a_character_is_no_reason_to_fail(
    run: Run, tools: MemoryTools
) -> None:
    half = "\ud83d"
    odd = calls(
        ("grep", {"pattern": half}),
        ("memory_search", {"query": half}),
        ("read_file", {"path": half}),
        ("submit", {"files": [half]}),
        text=half,
    )
    end, events = run(Listed([odd]), Given("stratum", tools))
    assert end.outcome == "INVENTED"
    assert len(of_kind(events, Called)) == 4
