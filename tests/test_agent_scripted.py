"""The scripted policy: what it asks first, what it believes, when it ends, and what it can bear.

It works on real repositories with the real tools, and once with the real memory.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from stratum_bench.agent import Message, Reply, Tool, ToolCall
from stratum_bench.agent_memory import MemoryTools
from stratum_bench.agent_scripted import PROFILES, ScriptedAgent, queries_of, terms_of
from stratum_bench.agent_tools import SUBMIT, TOOLS, Toolbox, Tree
from stratum_bench.scaffold import Given, Question, run_episode
from stratum_bench.trace import Asked, Called, Ended, Started

from stratum import Memory
from stratum.paths import is_test
from tests.conftest import make_repository

ISSUE = """Expired carts are kept

Calling `expire_old_carts` keeps the carts that nobody touched and drops the others.
"""
BUDGET = 700
BOTH = pytest.mark.parametrize("profile", sorted(PROFILES))
PACK = Tool("memory_pack", "Look up.", {"type": "object", "properties": {}})
KEEP = Tool("memory_write", "Keep.", {"type": "object", "properties": {}})


@dataclass
class Watched:
    """The policy over a tree, and what it said."""

    tree: Tree
    issue: str
    profile: str = "unfamiliar"
    said: list[Reply] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.agent = ScriptedAgent(self.issue, PROFILES[self.profile], self._common, BUDGET)

    def _common(self, pattern: str) -> int:
        return sum(not is_test(path) for path in self.tree.matches(re.compile(pattern)))

    def reply(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Reply:
        self.said.append(self.agent.reply(messages, tools))
        return self.said[-1]

    def calls(self) -> list[tuple[str, dict[str, object]]]:
        return [(call.name, dict(call.arguments)) for said in self.said for call in said.calls]

    def names(self) -> list[str]:
        return [name for name, _ in self.calls()]


def worked(
    root: Path, issue: str = ISSUE, profile: str = "unfamiliar", given: Given | None = None
) -> tuple[Watched, Ended, list[Started | Asked | Called | Ended]]:
    """Let the policy work on an issue whose answer is `shop/cart.py`."""
    tree = Tree(root)
    agent = Watched(tree, issue, profile)
    events: list[Started | Asked | Called | Ended] = []
    question = Question("t", issue, ("shop/cart.py",))
    end = run_episode(agent, question, given or Given("bare"), tree, events.append)
    return agent, end, events


def told(agent: ScriptedAgent, answers: Sequence[str], tools: Sequence[Tool]) -> list[ToolCall]:
    """Answer the policy's calls in turn with some texts, and return all its calls."""
    messages = [Message("system", "Look."), Message("user", ISSUE)]
    made: list[ToolCall] = []
    for answer in (*answers, ""):
        reply = agent.reply(messages, tools)
        made += reply.calls
        messages.append(Message("assistant", reply.text, reply.calls))
        messages += [Message("tool", answer, call_id=call.id) for call in reply.calls]
    return made


def policy(issue: str = ISSUE, profile: str = "unfamiliar") -> ScriptedAgent:
    return ScriptedAgent(issue, PROFILES[profile], lambda _: 1, BUDGET)


# what it does


@BOTH
def test_it_finds_the_file_of_a_plain_issue_alone(repository: Path, profile: str) -> None:
    agent, end, _ = worked(repository, profile=profile)
    assert end.outcome == "PASS"
    assert end.submitted[0] == "shop/cart.py"
    assert set(agent.names()) == {"grep", "read_file", SUBMIT}
    assert agent.names()[-1] == SUBMIT


@BOTH
def test_the_same_conversation_makes_it_do_the_same(repository: Path, profile: str) -> None:
    one, first, _ = worked(repository, profile=profile)
    other, second, _ = worked(repository, profile=profile)
    assert one.said == other.said
    assert first == second


@BOTH
def test_it_asks_memory_first_exactly_where_there_is_one(memory: Memory, profile: str) -> None:
    alone = policy(profile=profile).reply([], TOOLS)
    assert alone.calls[0].name == "grep"
    with MemoryTools(memory) as tools:
        asked = policy(profile=profile).reply([], (*TOOLS, *tools.tools))
    (call,) = asked.calls
    assert (call.name, call.arguments) == ("memory_pack", {"task": ISSUE, "budget": BUDGET})


def test_memory_is_asked_once_and_leads_it(repository: Path, memory: Memory) -> None:
    memory.write("Expired carts are dropped by expire_old_carts.", anchors=["shop/cart.py:19-21"])
    with MemoryTools(memory) as tools:
        agent, end, _ = worked(repository, given=Given("stratum", tools))
    assert end.outcome == "PASS"
    assert agent.names()[0] == "memory_pack"
    assert agent.names().count("memory_pack") == 1
    assert agent.calls()[1][1]["path"] == "shop/cart.py"


def test_it_reads_the_lines_that_a_pack_names() -> None:
    pack = "# Where to look\n\n## Places\nshop/basket.py:120-137 Basket.expire(self) - Expire.\n"
    calls = told(policy(), [pack], (*TOOLS, PACK))
    assert (calls[1].name, calls[1].arguments) == (
        "read_file", {"path": "shop/basket.py", "start_line": 120, "end_line": 137},
    )  # fmt: skip


def test_it_reads_the_lines_that_a_note_in_a_pack_names() -> None:
    pack = (
        "## Notes\n- Expired carts are kept: look at shop/basket.py:120-137 first. (fact, fresh)\n"
    )
    calls = told(policy(), [pack], (*TOOLS, PACK))
    assert calls[1].arguments == {"path": "shop/basket.py", "start_line": 120, "end_line": 137}
    # a note of something else leads nowhere
    other = "## Notes\n- Taxes: look at shop/basket.py:120-137 first. (fact, fresh)\n"
    assert told(policy(), [other], (*TOOLS, PACK))[1].name == "grep"


def test_it_reads_the_lines_that_a_static_file_names(repository: Path) -> None:
    file = "# What is known\n- Expired carts are kept: the place is shop/session.py:5-9 (carts).\n"
    agent, _, _ = worked(repository, given=Given("file", file=file))
    assert agent.calls()[0] == (
        "read_file", {"path": "shop/session.py", "start_line": 5, "end_line": 9},
    )  # fmt: skip
    unrelated = "# What is known\n- Taxes are in shop/session.py:5-9 (rate).\n"
    agent, _, _ = worked(repository, given=Given("file", file=unrelated))
    assert agent.names()[0] == "grep"


@BOTH
def test_memory_is_not_taken_at_its_word(repository: Path, memory: Memory, profile: str) -> None:
    memory.write("Expired carts are kept: see shop/session.py:5-10.", anchors=["shop/session.py"])
    with MemoryTools(memory) as tools:
        agent, _, _ = worked(repository, profile=profile, given=Given("wrong", tools))
    before = agent.names()[: agent.names().index(SUBMIT)]
    assert "grep" in before
    assert "read_file" in before
    # nor is an issue that names its file
    agent, _, _ = worked(repository, "Expired carts\n\nSee shop/session.py.", profile)
    assert {"grep", "read_file"} <= set(agent.names())


def test_a_file_that_is_not_there_is_dropped(repository: Path) -> None:
    issue = "Expired carts are kept\n\nSee shop/gone/carts.py and shop/gone/more.py about carts.\n"
    agent, end, _ = worked(repository, issue)
    read = [arguments["path"] for name, arguments in agent.calls() if name == "read_file"]
    assert "shop/gone/carts.py" in read
    assert read.count("shop/gone/carts.py") == 1
    assert end.outcome == "PASS"
    assert not any("gone" in path for path in end.submitted)


def test_it_never_submits_a_test(tmp_path: Path) -> None:
    text = "def expire_old_carts(carts):\n    return carts  # expired carts are kept\n"
    root = make_repository(
        tmp_path, {"tests/test_cart.py": text * 5, "test_shop.py": text, "shop/cart.py": text}
    )
    for issue in (ISSUE, ISSUE + "\ntests/test_cart.py and test_shop.py fail\n"):
        agent, end, _ = worked(root, issue)
        assert end.submitted == ("shop/cart.py",)
        read = [arguments["path"] for name, arguments in agent.calls() if name == "read_file"]
        assert set(read) == {"shop/cart.py"}


def many_files(root: Path) -> Path:
    """A repository in which the words of the issue are everywhere."""
    text = "def shop_{0}(carts):\n    return expired_{0}(carts)  # stay: expired carts, old\n"
    files = {f"shop/m{n}.py": "\n" * n + text.format(n) for n in range(40)}
    return make_repository(root, files)


def test_it_writes_a_note_only_after_much_reading(tmp_path: Path) -> None:
    easy, hard = tmp_path / "easy", tmp_path / "hard"
    easy.mkdir()
    hard.mkdir()
    make_repository(easy, {"shop/cart.py": "def expire_old_carts(carts):\n    return carts\n"})
    for root, writes in ((easy, False), (many_files(hard), True)):
        agent = Watched(Tree(root), ISSUE)
        names = drive(agent, (*TOOLS, KEEP))
        assert (names.count("read_file") > 2) is writes
        assert ("memory_write" in names) is writes
        if writes:
            (note,) = [arguments for name, arguments in agent.calls() if name == "memory_write"]
            path = agent.calls()[-1][1]["files"][0]
            (anchor,) = note["anchors"]
            assert re.fullmatch(rf"{re.escape(path)}(:\d+-\d+)?", anchor)
            assert re.search(rf"Expired carts are kept.* {re.escape(path)}:\d+-\d+ ", note["text"])
            assert names[-2:] == ["memory_write", SUBMIT]
    # and never where there is nothing to write it to
    agent = Watched(Tree(hard), ISSUE)
    assert "memory_write" not in drive(agent, TOOLS)


def drive(agent: Watched, tools: Sequence[Tool]) -> list[str]:
    """Let the policy work with the tools over its tree until it submits, and return its calls."""
    toolbox = Toolbox(agent.tree)
    messages = [Message("system", "Look."), Message("user", agent.issue)]
    while SUBMIT not in agent.names() and len(agent.said) < 60:
        reply = agent.reply(messages, tools)
        messages.append(Message("assistant", reply.text, reply.calls))
        messages += [Message("tool", toolbox.call(c), call_id=c.id) for c in reply.calls]
    return agent.names()


@BOTH
def test_it_gives_up_at_its_limit(profile: str) -> None:
    steps = PROFILES[profile].steps
    issue = "\n".join(f"some_name_{n} and other_name_{n}" for n in range(60))
    agent = policy(issue, profile)
    rival = "\n".join(f"a/m{n}.py:1: def some_name_1" for n in range(90))
    calls = told(agent, [f"{rival}\n(90 lines in 90 files)"] * (steps + 5), TOOLS)
    first = next(n for n, call in enumerate(calls, 1) if call.name == SUBMIT)
    assert first <= steps
    assert len(calls[first - 1].arguments["files"]) <= 3


# what it can bear

N = 20_000
HOSTILE = {
    "empty": "",
    "blank": " \n\t \r\n",
    "one letter": "x",
    "punctuation": "!?;,.(){}[]<>|&%$#@~^" * (N // 20),
    "regular expressions": r"(a+)+$ [x-\d]{3,}? foo_bar(.*)(?P<n>\b) *** \\ " * (N // 40),
    "NUL": "a\0b foo_bar\0 \0.py cart\0s/x.py " * (N // 30),
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd expire_old_carts \u2066\u0639\u0631\u0628 "
    * (N // 40),
    "surrogates": "\ud83d cart_\udc80s " * (N // 10),
    "one word": "a" * N,
    "one name": "a_" * (N // 2),
    "humps": "aB" * (N // 2),
    "dots": "a." * (N // 2),
    "slashes": "a/" * (N // 2),
    "points": "." * N,
    "dashes": "a-" * (N // 2),
    "signs": "+-" * (N // 2),
    "capitals": "A" * N,
    "ticks": "`" * N,
    "fences": "```" * (N // 3) + "x",
    "quotes": 'File "' * (N // 6),
    "frames": 'File "/x/shop/cart.py", line 3, in total\n' * (N // 40),
    "names": " ".join(f"some_name{n}" for n in range(N // 12)),
    "paths": " ".join(f"p{n}/m{n}.py" for n in range(N // 12)),
    "outside": "../../etc/passwd.py /etc/shadow.py ~/x.py C:\\a\\b.py",
    "line 0": 'File "shop/cart.py", line 0, in x and shop/cart.py:0-0',
    "line 10**30": f'File "shop/cart.py", line {10**30}, in x',
}


@BOTH
@pytest.mark.parametrize("issue", HOSTILE.values(), ids=HOSTILE)
def test_any_issue_ends_soon(repository: Path, issue: str, profile: str) -> None:
    agent, end, events = worked(repository, issue, profile)
    assert (end.reason == "submitted") == (SUBMIT in agent.names())
    assert end.reason in ("submitted", "silent")  # the latter where there is nothing to look for
    assert sum(isinstance(event, Asked) for event in events) <= PROFILES[profile].steps + 2
    assert len(end.submitted) <= 3


def seconds(issue: str) -> float:
    began = time.process_time()
    policy(issue).reply([], TOOLS)
    return time.process_time() - began


@pytest.mark.parametrize("name", [name for name, text in HOSTILE.items() if len(text) > N // 2])
def test_the_time_grows_with_the_text_and_not_with_its_square(name: str) -> None:
    text = HOSTILE[name]
    # ten times as much for eight times the text: half a second is for the noise of a busy machine
    assert seconds(text * 8) < 10 * min(seconds(text) for _ in range(3)) + 0.5


def test_a_line_number_without_end_is_no_failure() -> None:
    policy(f'Carts\n\nFile "shop/cart.py", line {"9" * 5000}, in x').reply([], TOOLS)


def test_terms_are_ordered_by_how_much_they_tell() -> None:
    terms = terms_of("Carts stay\n\nSee `expire_old` and TotalPrice about prices, self.items.rows.")
    kinds = {term.text: term for term in terms}
    assert kinds["expire_old"].weight > kinds["TotalPrice"].weight > kinds["prices"].weight
    assert kinds["Carts"].weight > kinds["prices"].weight
    assert kinds["expire_old"].is_name
    assert not kinds["prices"].is_name
    assert {"items", "rows"} <= set(kinds)
    assert "about" not in kinds
    weights = [query.weight for query in queries_of("Carts stay", terms)]
    assert weights == sorted(weights, reverse=True)


@pytest.mark.parametrize("issue", HOSTILE.values(), ids=HOSTILE)
def test_what_it_looks_up_is_always_a_regular_expression(issue: str) -> None:
    for query in queries_of(issue, terms_of(issue)):
        assert re.compile(query.pattern)
        assert len(query.pattern) < N * 2
