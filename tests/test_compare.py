"""`bench` reports: every figure against one worked out by hand; text, page and replay of a run."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from stratum_bench import compare_report as report
from stratum_bench.compare import (
    Comparison,
    Totals,
    Versus,
    compare,
    compare_runs,
    merged,
    ratio_difference,
    recurrent,
    sign_test,
)
from stratum_bench.compare_html import ALL_TRACES, SOME_TRACES, as_html
from stratum_bench.compare_report import as_json, as_markdown, as_text, number, p_value, plain
from stratum_bench.replay import replay
from stratum_bench.trace import (
    Asked,
    Called,
    Ended,
    Event,
    RunStarted,
    Started,
    TaskGiven,
    as_line,
    read_events,
)

from stratum import InvalidInput, NotFound


def task(order: int, gold: Sequence[str] = ("a.py",), **others: str) -> TaskGiven:
    told = {"repo": "o/r", "base_commit": "c" * 40, "created_at": "", "title": "", "leak": "none"}
    return TaskGiven(task=f"t{order}", order=order, gold=tuple(gold), **(told | others))


def episode(
    name: str, arm: str, tokens: int, outcome: str = "PASS", *, calls: int = 1
) -> list[Event]:
    """One request of `tokens` tokens, a tenth of them output, and some calls."""
    output = tokens // 10
    found: list[Event] = [Started(name, arm), Asked(name, arm, 1, tokens - output, 0, output)]
    found += [Called(name, arm, 1, "grep", {}, False, 10, 3) for _ in range(calls)]
    submitted = ("a.py",) if outcome == "PASS" else ("z.py",)
    return [*found, Ended(name, arm, submitted, outcome, "submitted")]


def run(
    bare: Sequence[tuple[int, str]],
    other: Sequence[tuple[int, str]],
    *,
    arm: str = "stratum",
    header: dict[str, object] | None = None,
    gold: Sequence[Sequence[str]] | None = None,
) -> list[Event]:
    """A run of two arms: tokens and outcome of each task in each."""
    golds = gold or [("a.py",)] * len(bare)
    events: list[Event] = [RunStarted(header or {"agent": "chat"})]
    events += [task(i, golds[i]) for i in range(len(bare))]
    for i, (ours, theirs) in enumerate(zip(bare, other, strict=True)):
        events += episode(f"t{i}", "bare", *ours) + episode(f"t{i}", arm, *theirs)
    return events


def only(comparison: Comparison) -> Versus:
    (found,) = comparison.versus
    return found


def totals(comparison: Comparison, arm: str) -> Totals:
    (found,) = (one for one in comparison.totals if one.arm == arm)
    return found


# Four tasks: bare 10,000 tokens in all, stratum 7,000; one lost, two won, one at a loss.
FOUR = run(
    [(1000, "PASS"), (2000, "MISS"), (3000, "MISS"), (4000, "PASS")],
    [(500, "PASS"), (1000, "PASS"), (3500, "PASS"), (2000, "MISS")],
)


# one episode


def worked() -> list[Event]:
    arm = "stratum"
    return [
        RunStarted({}),
        task(0, ("a.py", "b.py")),
        Started("t0", arm, tools=100, instructions=20, file=3),
        Asked("t0", arm, 1, prompt=1000, cached=0, output=50, reasoning=30, memory=123, cost=0.5,
              ms=100.0),
        Called("t0", arm, 1, "memory_pack", {}, True, chars=400, tokens=90, ms=5.0),
        Asked("t0", arm, 2, prompt=1140, cached=1050, output=60, reasoning=7, memory=213, cost=0.25,
              ms=200.0),
        Called("t0", arm, 2, "grep", {}, False, chars=70, tokens=20),
        Called("t0", arm, 2, "read_file", {}, False, chars=800, tokens=200),
        Called("t0", arm, 2, "read_file", {}, False, chars=30, tokens=10, failed=True),
        Called("t0", arm, 2, "list_dir", {}, False, chars=9, tokens=4),
        Asked("t0", arm, 3, prompt=1500, cached=1200, output=10, memory=213, cost=0.125),
        Ended("t0", arm, ("b.py", "x.py", "y.py"), "MISS", "submitted",
              recalled=("x.py", "y.py", "b.py"), learned=True),
    ]  # fmt: skip


def test_a_tally_of_a_worked_example() -> None:
    comparison = compare(worked())
    (tally,) = comparison.tallies
    assert tally.tokens == 1000 + 50 + 1140 + 60 + 1500 + 10
    assert tally.output == 120
    assert tally.cached == 2250
    assert tally.uncached == tally.tokens - 2250
    assert tally.reasoning == 37
    assert tally.memory == 123 + 213 + 213
    assert tally.memory_once == 100 + 20 + 3 + 90
    assert (tally.requests, tally.calls, tally.memory_calls) == (3, 5, 1)
    assert (tally.reads, tally.searches, tally.lists) == (2, 1, 1)
    assert tally.chars == 400 + 70 + 800 + 30 + 9
    assert tally.cost == pytest.approx(0.875)
    assert tally.ms == pytest.approx(305.0)
    assert (tally.outcome, tally.reason, tally.learned) == ("MISS", "submitted", True)
    assert tally.precision == pytest.approx(1 / 3)
    assert tally.recall == pytest.approx(1 / 2)
    assert tally.f1 == pytest.approx(2 / 5)  # 2 * 1 / (3 + 2)
    assert tally.first_right
    assert (tally.hit_1, tally.hit_3, tally.hit_5) == (False, True, True)
    one = totals(comparison, "stratum")
    assert one.memory_share == pytest.approx(549 / 3760)
    assert one.adoption == 1.0
    assert (one.hit_1, one.hit_3, one.hit_5, one.recalled) == (0.0, 1.0, 1.0, 1)
    assert one.cost == pytest.approx(0.875)
    assert (one.precision, one.recall) == (tally.precision, tally.recall)
    assert (one.f1, one.first_right, one.learned) == (tally.f1, 1.0, 1)
    assert one.tokens_per_solved is None
    assert comparison.times[0].sum == pytest.approx(305.0)


def test_a_cost_that_a_request_did_not_tell_is_unknown() -> None:
    events = [
        replace(e, cost=None) if isinstance(e, Asked) and e.step == 2 else e for e in worked()
    ]
    assert compare(events).tallies[0].cost is None
    assert totals(compare(events), "stratum").cost is None


def test_nothing_submitted_and_nothing_recalled() -> None:
    events = worked()
    assert isinstance(events[-1], Ended)
    events[-1] = replace(events[-1], submitted=(), recalled=())
    (tally,) = compare(events).tallies
    assert (tally.precision, tally.recall, tally.f1, tally.first_right) == (0.0, 0.0, 0.0, False)
    assert (tally.hit_1, tally.hit_3, tally.hit_5) == (None, None, None)
    assert totals(compare(events), "stratum").hit_1 is None


@pytest.mark.parametrize(
    ("place", "hits"),
    [
        (1, (1, 1, 1)),
        (2, (0, 1, 1)),
        (3, (0, 1, 1)),
        (4, (0, 0, 1)),
        (5, (0, 0, 1)),
        (6, (0, 0, 0)),
    ],
)
def test_hits_by_the_place_of_the_first_gold_file(place: int, hits: tuple[int, ...]) -> None:
    events = worked()
    assert isinstance(events[-1], Ended)
    named = tuple("a.py" if i == place else f"{i}.py" for i in range(1, 8))
    events[-1] = replace(events[-1], recalled=named)
    (tally,) = compare(events).tallies
    assert (tally.hit_1, tally.hit_3, tally.hit_5) == hits


def test_a_file_named_twice_counts_once() -> None:
    events = worked()
    assert isinstance(events[-1], Ended)
    events[-1] = replace(events[-1], submitted=("x.py", "a.py", "a.py"), recalled=("x.py",) * 5)
    (tally,) = compare(events).tallies
    assert (tally.precision, tally.first_right, tally.hit_5) == (0.5, False, False)


def test_adoption_counts_tasks_and_is_unknown_without_tools() -> None:
    events: list[Event] = [RunStarted({}), task(0), task(1)]
    for name, uses in (("t0", 3), ("t1", 0)):
        events += [Started(name, "stratum", tools=50), Asked(name, "stratum", 1, 10, 0, 1)]
        events += [Called(name, "stratum", 1, "memory_pack", {}, True, 5, 2)] * uses
        events.append(Ended(name, "stratum", (), "MISS", "limit"))
        events += episode(name, "bare", 100)
    comparison = compare(events)
    assert totals(comparison, "stratum").adoption == 0.5
    assert totals(comparison, "bare").adoption is None


def test_an_episode_begun_again_counts_once() -> None:
    broken: list[Event] = [Started("t0", "bare"), Asked("t0", "bare", 1, 900, 0, 99)]
    events = [RunStarted({}), task(0), *broken, *episode("t0", "bare", 100)]
    assert totals(compare(events), "bare").columns["tokens"].sum == 100


# arms and pairs


def test_totals_of_four_tasks() -> None:
    comparison = compare(FOUR)
    bare, own = totals(comparison, "bare"), totals(comparison, "stratum")
    assert (bare.columns["tokens"].sum, own.columns["tokens"].sum) == (10_000, 7_000)
    assert own.columns["tokens"].mean == 1750
    assert own.columns["tokens"].median == 1500  # of 500, 1000, 2000, 3500
    assert own.columns["output"].sum == 700
    assert (bare.solved, own.solved) == (2, 3)
    assert bare.tokens_per_solved == 5000
    assert own.tokens_per_solved == pytest.approx(7000 / 3)
    assert own.outcomes == {"PASS": 3, "MISS": 1, "STALE": 0, "INVENTED": 0, "ERROR": 0}
    assert own.tokens_low is not None
    assert own.tokens_high is not None
    assert 500 <= own.tokens_low < 1750 < own.tokens_high <= 3500


def test_a_comparison_of_four_tasks() -> None:
    one = only(compare(FOUR))
    assert (one.arm, one.baseline, one.n) == ("stratum", "bare", 4)
    assert one.tokens.value == pytest.approx(-30.0)  # 7,000 / 10,000 - 1
    assert one.uncached.value == pytest.approx(-30.0)
    assert one.calls.value == pytest.approx(0.0)
    assert one.median_difference == -750  # of -2000, -1000, -500, +500
    assert one.median_percent == pytest.approx(-50.0)  # of -50, -50, +16.7, -50
    assert (one.fewer, one.more, one.equal) == (3, 1, 0)
    assert one.sign_p == pytest.approx(2 * (1 + 4) / 16)
    assert (one.solved, one.baseline_solved) == (3, 2)
    assert one.points.value == pytest.approx(25.0)
    assert one.gains == ("t1", "t2")
    assert one.negative_transfers == ("t3",)
    assert one.mcnemar_p == 1.0  # 2 against 1
    assert [(gap.task, gap.difference) for gap in one.below_break_even] == [("t2", 500)]
    # t2 took more but solved what bare did not: only the lost task is a losing row
    assert [pair.task for pair in one.losing] == ["t3"]
    assert [pair.difference for pair in one.pairs] == [-500, -1000, 500, -2000]


def test_calls_and_uncached_have_differences_of_their_own() -> None:
    events: list[Event] = [RunStarted({}), task(0), task(1)]
    for name in ("t0", "t1"):
        events += episode(name, "bare", 100, calls=4) + episode(name, "stratum", 100, calls=5)
    events = [
        replace(e, cached=50) if isinstance(e, Asked) and e.arm == "stratum" else e for e in events
    ]
    one = only(compare(events))
    assert one.tokens.value == pytest.approx(0.0)
    assert one.calls.value == pytest.approx(25.0)
    assert one.uncached.value == pytest.approx(-50.0)
    assert (one.fewer, one.more, one.equal, one.sign_p) == (0, 0, 2, 1.0)


def test_losing_rows_have_lost_tasks_first_then_by_tokens() -> None:
    one = only(
        compare(
            run(
                [(100, "MISS"), (100, "PASS"), (100, "PASS"), (100, "MISS"), (100, "MISS")],
                [(150, "MISS"), (190, "PASS"), (50, "MISS"), (100, "MISS"), (999, "STALE")],
            )
        )
    )
    assert [pair.task for pair in one.losing] == ["t2", "t1", "t0"]
    assert [gap.task for gap in one.below_break_even] == ["t4", "t1", "t0"]


def test_an_error_is_in_no_pair_and_no_sum_and_is_shown() -> None:
    events = run(
        [(1000, "PASS"), (2000, "PASS"), (4000, "ERROR")],
        [(500, "PASS"), (7000, "ERROR"), (100, "PASS")],
    )
    comparison = compare(events)
    one, own = only(comparison), totals(comparison, "stratum")
    assert (one.n, one.errors) == (1, ("t1", "t2"))
    assert one.tokens.value == pytest.approx(-50.0)
    assert (one.tokens.low, one.points.low) == (None, None)  # one task allows no interval
    assert (own.n, own.complete, own.solved, own.outcomes["ERROR"]) == (3, 2, 2, 1)
    assert (own.columns["tokens"].sum, own.error_tokens) == (600, 7000)
    assert own.tokens_per_solved == 300
    assert not one.negative_transfers
    for text in (as_text(comparison), as_markdown(comparison), as_html(comparison, events)):
        assert "2 tasks left out for an ERROR" in text
        assert "7,000" in text


def test_a_task_that_did_not_end_counts_nowhere_and_is_said() -> None:
    events = [event for event in FOUR if not (isinstance(event, Ended) and event.task == "t3")]
    comparison = compare(events)
    assert only(comparison).n == 3
    assert totals(comparison, "bare").n == 3
    assert "2 episodes have not ended" in as_text(comparison)
    one_arm = [
        e for e in FOUR if not (isinstance(e, Ended) and (e.task, e.arm) == ("t3", "stratum"))
    ]
    assert only(compare(one_arm)).missing == ("t3",)
    assert "ended in one only" in as_text(compare(one_arm))


def test_the_order_of_arms_is_that_of_the_header() -> None:
    events = run([(1, "PASS")] * 2, [(1, "PASS")] * 2, header={"arms": ["stratum", "bare"]})
    assert [one.arm for one in compare(events).totals] == ["stratum", "bare"]


def test_another_baseline_turns_the_sign() -> None:
    one = only(compare(FOUR, baseline="stratum"))
    assert one.arm == "bare"
    assert one.tokens.value == pytest.approx(100 * (10 / 7 - 1))
    assert one.negative_transfers == ("t1", "t2")


def test_a_task_that_the_run_does_not_name_is_refused() -> None:
    with pytest.raises(InvalidInput, match="names no task t9"):
        compare([RunStarted({}), *episode("t9", "bare", 10)])


# statistics


@pytest.mark.parametrize(
    ("fewer", "more", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 32),
        (0, 5, 2 / 32),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (3, 3, 1.0),
        (10, 0, 2 / 1024),
    ],
)
def test_the_sign_test_by_hand(fewer: int, more: int, p: float) -> None:
    assert sign_test(fewer, more) == pytest.approx(p)


def test_the_bootstrap_is_deterministic_and_holds_the_truth() -> None:
    rng = random.Random(5)
    held = 0
    for _ in range(40):
        theirs = [round(rng.lognormvariate(9, 0.6)) for _ in range(60)]
        ours = [round(0.7 * value * rng.lognormvariate(0, 0.3) / 1.046) for value in theirs]
        found = ratio_difference(ours, theirs, 1)
        assert found == ratio_difference(ours, theirs, 1)
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.value < found.high < 0
        held += found.low <= -30.0 <= found.high
    assert held >= 34  # of 40; E[lognormal(0, .3)] is 1.046
    assert ratio_difference(ours, theirs, 1).low != ratio_difference(ours, theirs, 2).low


def test_a_pairing_that_is_exact_has_no_spread() -> None:
    found = ratio_difference([50, 100, 1500], [100, 200, 3000], 1)
    assert (found.value, found.low, found.high) == pytest.approx((-50.0, -50.0, -50.0))


def test_the_interval_holds_95_percent() -> None:
    # the standard error of the ratio is 10 % / sqrt(400), the interval 1.96 of it to either side
    found = ratio_difference([900, 1100] * 200, [1000] * 400, 1)
    assert found.value == pytest.approx(0.0)
    assert (found.low, found.high) == pytest.approx((-0.98, 0.98), abs=0.05)


def test_a_baseline_of_nothing_has_no_ratio() -> None:
    assert ratio_difference([5, 5], [0, 0], 1).value is None
    found = ratio_difference([5, 5], [0, 10], 1)  # a quarter of the resamples are 0 below
    assert found.value == 0.0
    assert found.high == pytest.approx(0.0)


# order of the tasks


def test_recurrent_tasks_share_a_gold_file_with_an_earlier_one_of_the_repo() -> None:
    tasks = [
        task(3, ["b.py", "n.py"]),
        task(0, ["a.py"]),
        task(1, ["b.py"]),
        task(2, ["a.py"], repo="o/other"),
        task(4, ["c.py"]),
    ]
    assert recurrent(tasks) == {"t3"}


def test_groups_and_the_curve_by_hand() -> None:
    gold = [("a.py",), ("b.py",), ("a.py",), ("b.py", "c.py")]
    one = only(
        compare(
            run(
                [(1000, "PASS"), (1000, "MISS"), (2000, "PASS"), (4000, "MISS")],
                [(1200, "PASS"), (800, "MISS"), (1000, "MISS"), (1000, "PASS")],
                gold=gold,
            )
        )
    )
    comparison = compare(run([(1, "PASS")] * 4, [(1, "PASS")] * 4, gold=gold), baseline="stratum")
    assert comparison.recurrent == ("t2", "t3")
    assert [pair.recurrent for pair in only(comparison).pairs] == [False, False, True, True]
    assert [row["recurrent"] for row in report.task_rows(comparison)] == ["", "", "yes", "yes"]
    first, again = one.groups
    assert (first.name, first.n, first.tokens, first.baseline_tokens) == (
        "first-time",
        2,
        2000,
        2000,
    )
    assert first.difference.value == pytest.approx(0.0)
    assert (again.name, again.n, again.tokens, again.baseline_tokens) == (
        "recurrent",
        2,
        2000,
        6000,
    )
    assert again.difference.value == pytest.approx(-200 / 3)
    assert (again.solved, again.baseline_solved) == (1, 1)
    assert [b.percent for b in one.curve] == pytest.approx([20.0, -20.0, -50.0, -75.0])
    assert [b.cumulative for b in one.curve] == pytest.approx([20.0, 0.0, -25.0, -50.0])


def test_the_curve_has_ten_even_stretches() -> None:
    one = only(compare(run([(100, "PASS")] * 25, [(90, "PASS")] * 25)))
    assert len(one.curve) == 10
    assert sum(bucket.n for bucket in one.curve) == 25
    assert {bucket.n for bucket in one.curve} == {2, 3}
    assert (one.curve[0].first, one.curve[-1].last) == (0, 24)
    assert [b.first for b in one.curve[1:]] == [b.last + 1 for b in one.curve[:-1]]


# two runs


def test_two_runs_side_by_side() -> None:
    first = run([(100, "PASS")] * 3, [(50, "PASS")] * 3, header={"agent": "chat", "model": "m"})
    second = run(
        [(100, "PASS")] * 2, [(75, "MISS")] * 2, header={"agent": "scripted", "model": "m"}
    )
    comparison = compare_runs(first, second, names=("old", "new"))
    assert [one.arm for one in comparison.totals] == [
        "old/bare", "old/stratum", "new/bare", "new/stratum",
    ]  # fmt: skip
    assert [(one.arm, one.baseline, one.n) for one in comparison.versus] == [
        ("new/bare", "old/bare", 2),
        ("new/stratum", "old/stratum", 2),
    ]
    assert comparison.versus[1].tokens.value == pytest.approx(50.0)
    assert comparison.versus[1].negative_transfers == ("t0", "t1")
    assert comparison.header["model"] == "m"
    assert "new/stratum: 50.0 % more tokens than old/stratum" in as_text(comparison)
    assert report.SIMULATION.split(":")[0] in as_text(comparison)
    page = as_html(comparison, merged(first, second, names=("old", "new")))
    assert "new/stratum" in page


def test_runs_that_cannot_be_compared_are_refused() -> None:
    other = [RunStarted({}), replace(task(0), task="else")]
    with pytest.raises(InvalidInput, match="share no task"):
        merged(FOUR, other)
    changed = [replace(e, gold=("b.py",)) if isinstance(e, TaskGiven) else e for e in FOUR]
    with pytest.raises(InvalidInput, match="task t0 has other gold"):
        merged(FOUR, changed)
    with pytest.raises(InvalidInput, match="two names"):
        merged(FOUR, FOUR, names=("a", "a"))


# what is missing


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], "no task that has ended"),
        ([RunStarted({}), task(0)], "no task that has ended"),
        ([RunStarted({}), task(0), Started("t0", "bare")], "no task that has ended"),
        ([RunStarted({}), task(0), *episode("t0", "bare", 10)], "bare is the only arm"),
        ([RunStarted({}), task(0), *episode("t0", "stratum", 10)], "the baseline is bare"),
        ([RunStarted({}), task(0), *episode("t0", "bare", 10, "ERROR")], "bare is the only arm"),
        (run([(10, "ERROR")], [(10, "ERROR")]), "0 tasks compared"),
        (run([(0, "PASS")], [(0, "PASS")]), "tokens cannot be compared with bare"),
    ],
)
def test_a_run_with_little_in_it_gives_a_sentence(events: list[Event], said: str) -> None:
    comparison = compare(events)
    for text in (as_text(comparison), as_markdown(comparison), as_html(comparison, events)):
        assert said in text
    json.loads(as_json(comparison))
    assert list(replay(events))


# text


def test_the_headline_of_a_gain() -> None:
    comparison = compare(run([(1000, "PASS")] * 20, [(600, "PASS")] * 20))
    first, second = as_text(comparison).splitlines()[:2]
    assert first == (
        "stratum: 40.0 % fewer tokens than bare [-40.0, -40.0], solved 20 of 20 against 20 (p = 1)"
    )
    assert second.startswith("Tokens were saved. Fewer in 20 tasks, more in 0. The same tasks were")


def test_the_headline_of_a_loss_says_so() -> None:
    comparison = compare(run([(1000, "PASS")] * 20, [(1300, "PASS")] * 14 + [(1300, "STALE")] * 6))
    text = as_text(comparison)
    assert text.startswith("stratum: 30.0 % more tokens than bare [+30.0, +30.0], solved 14 of 20")
    assert "against 20 (p = .031)" in text
    assert "More tokens were taken, not fewer." in text
    flat = " ".join(text.split())
    assert "0 tasks solved that bare did not; 6 tasks lost that bare solved (-50.0" in flat
    assert "Negative transfers, solved by bare and not by stratum: 6: t14, t15" in text
    assert "The worst of 20 losing rows" in text
    assert len(re.findall(r"^t\d+ .*PASS +STALE +1,300 +1,000 +\+300", text, re.MULTILINE)) == 5
    assert "LOSS" in as_markdown(comparison)
    assert as_markdown(comparison).count("1,300 LOSS") == 20


def test_a_sum_that_one_task_makes_is_not_left_alone() -> None:
    bare, other = [(100, "PASS")] * 11 + [(9000, "PASS")], [(200, "PASS")] * 12
    events = [
        replace(e, cached=e.prompt) if isinstance(e, Asked) and e.arm == "bare" else e
        for e in run(bare, other)
    ]
    flat = " ".join(as_text(compare(events)).split())
    assert flat.startswith("stratum: 76.2 % fewer tokens than bare")
    assert "Fewer in 1 task, more in 11." in flat
    # uncached: 2,400 against 11 x 10 + 900
    assert "Tokens that were not cached: +137.6 %" in flat
    assert "not cached" not in as_text(compare(run(bare, other)))


def test_no_difference_is_not_called_one() -> None:
    rng = random.Random(2)
    bare = [(rng.randint(500, 5000), "PASS") for _ in range(20)]
    other = [(rng.randint(500, 5000), "PASS") for _ in range(20)]
    told = only(compare(run(bare, other))).tokens
    assert told.low is not None
    assert told.high is not None
    assert told.low < 0 < told.high
    assert "No difference in tokens was shown" in as_text(compare(run(bare, other)))


def test_few_tasks_are_said_to_be_few() -> None:
    text = as_text(compare(FOUR))
    flat = " ".join(text.split())
    assert text.startswith("stratum: 30.0 % fewer tokens than bare [")
    assert "4 tasks compared: too few to tell" in text
    assert "stratum against bare: 4 tasks compared, too few to conclude much" in flat


def test_a_scripted_agent_is_called_a_simulation() -> None:
    events = run([(100, "PASS")] * 12, [(50, "PASS")] * 12, header={"agent": "scripted"})
    comparison = compare(events)
    flat = " ".join(as_text(comparison).split())
    assert report.SIMULATION in flat
    assert "In a simulation, tokens were saved." in flat
    assert report.SIMULATION in as_markdown(comparison)
    assert report.SIMULATION in as_html(comparison, events)
    assert "simulation" in "\n".join(replay(events))
    for text in (as_text(compare(FOUR)), as_html(compare(FOUR), FOUR), "\n".join(replay(FOUR))):
        assert "simulation" not in text.lower()


def test_the_summary_names_what_the_header_has() -> None:
    told = {"agent": "chat", "model": "m-1", "limits": {"requests": 30}, "tasks": ["t0", "t1"]}
    assert report.summary(told) == "Run: agent chat, model m-1, limits requests 30, tasks 2"
    assert "says nothing" in report.summary({"agent": None})


def test_the_calibration_stands_beside_the_live_figures() -> None:
    events = run([(100, "PASS"), (300, "PASS"), (200, "PASS")], [(9, "PASS")] * 3)
    comparison = compare(events)
    assert report.calibration(comparison, {}) == []
    assert report.calibration(comparison, {"profile": "else"}) == []
    familiar = report.calibration(comparison, {"profile": "familiar"})
    assert "knows" in familiar[0]
    rows = {re.split(r"  +", line)[0]: re.split(r"  +", line)[1:] for line in familiar[2:]}
    assert rows == {
        "tool calls": ["1 (1 to 1)", "4.5 (3 to 19)"],
        "characters of tool output": ["10 (10 to 10)", "15,600 (4,200 to 44,400)"],
        "cumulative tokens": ["200 (100 to 300)", "19,000 (8,900 to 135,000)"],
        "grep:read": ["3:0", "22:26 (0.85)"],
    }
    unfamiliar = "\n".join(report.calibration(comparison, {"profile": "unfamiliar"}))
    assert "does not know" in unfamiliar
    assert "389,000 (138,000 to 1,332,000)" in unfamiliar
    assert "80:100 (0.80)" in unfamiliar
    with_profile = [replace(e, header={"profile": "familiar"}) if isinstance(e, RunStarted) else e
                    for e in events]  # fmt: skip
    for text in (as_text(compare(with_profile)), as_markdown(compare(with_profile)),
                 as_html(compare(with_profile), with_profile)):  # fmt: skip
        assert "1,332,000" not in text
        assert "15,600 (4,200 to 44,400)" in text


def test_the_text_is_at_most_100_columns_wide() -> None:
    events = long_run(30)
    assert max(map(len, as_text(compare(events)).splitlines())) <= 100


def test_times_stand_in_one_place_and_can_be_left_out() -> None:
    slow = [replace(e, ms=12_345.0) if isinstance(e, Asked | Called) else e for e in FOUR]
    one, other = compare(FOUR), compare(slow)
    assert as_text(one) != as_text(other)
    assert as_text(one).split(report.TIMES)[0] == as_text(other).split(report.TIMES)[0]
    assert as_text(one, times=False) == as_text(other, times=False)
    assert report.TIMES not in as_text(one, times=False)
    assert as_markdown(one, times=False) == as_markdown(other, times=False)
    assert as_json(one) != as_json(other)
    assert as_json(one, times=False) == as_json(other, times=False)
    assert as_html(one, FOUR) == as_html(other, slow)
    assert list(replay(FOUR)) == list(replay(slow))
    assert list(replay(FOUR, times=True)) != list(replay(slow, times=True))
    assert list(replay(slow)) != list(replay(slow, times=True))


def test_json_holds_the_figures() -> None:
    told = json.loads(as_json(compare(FOUR)))
    assert told["versus"][0]["tokens"]["value"] == pytest.approx(-30.0)
    assert told["totals"][0]["columns"]["tokens"]["sum"] == 10_000
    assert told["tallies"][0]["task"] == "t0"
    assert told == compare(FOUR).to_dict()


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "-"), (0, "0"), (4.5, "4.5"), (812.4, "812"), (9_400, "9,400"), (18_900, "18.9k"),
     (999_960, "1.00M"), (1_332_000, "1.33M")],
)  # fmt: skip
def test_numbers_are_short(value: float | None, said: str) -> None:
    assert number(value) == said


@pytest.mark.parametrize(
    ("p", "said"), [(1.0, "1"), (0.27, ".27"), (0.0312, ".031"), (0.0009, "< .001"), (0.1, ".10")]
)
def test_p_values_are_written_as_usual(p: float, said: str) -> None:
    assert p_value(p) == said


def test_markdown_has_a_row_for_each_task_and_no_broken_table() -> None:
    comparison = compare(long_run(12))
    lines = as_markdown(comparison).splitlines()
    start, end = lines.index("## Tasks"), lines.index(f"## {report.TIMES}")
    rest = lines[start:end]
    table = [line for line in rest[: rest.index("", 2)] if line.startswith("|")]
    assert len(table) == 2 + 12
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1


# hostile words

EVIL = (
    "<script>alert('x')</script> | \x1b[31mred\x07 \u202egpj.exe \u2066 \ud800 \x00\x85 & <b>\n# h"
)
ARABIC = "خطأ في الاستعلام"


def long_run(count: int) -> list[Event]:
    """Tasks with hostile words wherever a run has words, in three arms."""
    rng = random.Random(count)
    arms = ("bare", "stratum", "<i>wrong\x1b")
    header = {"agent": "scripted", "model": EVIL, "profile": "familiar", "arms": list(arms)}
    events: list[Event] = [RunStarted(header)]
    tasks = [
        replace(
            task(i, (f"{EVIL}{i % 5}.py",), title=f"{EVIL} {ARABIC}", repo=EVIL, base_commit=EVIL),
            task=f"{EVIL}-{i}-of-a-very-long-name-that-never-ends-{i}",
        )
        for i in range(count)
    ]
    events += tasks
    for given in tasks:
        for arm in arms:
            name = given.task
            size = rng.randint(800, 900_000)
            outcome = rng.choice(["PASS", "MISS", "STALE", "INVENTED"])
            events += [
                Started(name, arm, tools=40 if arm != "bare" else 0),
                Asked(name, arm, 1, size, 0, 60, memory=5, ms=rng.random(), text=EVIL),
                Called(name, arm, 1, EVIL, {"q": EVIL, "p": ARABIC}, True, 900, 300,
                       result=EVIL * 90),
                Asked(name, arm, 2, size + 360, size + 60, 60),
                Ended(name, arm, given.gold, outcome, EVIL, recalled=("a", EVIL)),
            ]  # fmt: skip
    return events


class Page(HTMLParser):
    """All tags in their order, what is not closed as it was opened, and all text."""

    VOID = ("meta", "br", "line", "circle", "path", "rect", "polygon", "polyline")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def without_controls(text: str) -> bool:
    return not [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"]


@pytest.mark.parametrize("events", [FOUR, long_run(3), long_run(30), worked(), []])
def test_the_page_is_well_formed_and_asks_for_nothing(events: list[Event]) -> None:
    page = as_html(compare(events), events)
    read = Page(page)
    assert (read.open, read.wrong) == ([], [])
    names = {name for name, _ in read.attributes}
    assert not names & {"src", "href", "srcset", "data", "action", "xlink:href"}
    assert not [name for name in names if name.startswith("on")]
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(read.tags)
    assert "url(" not in page
    assert "@import" not in page
    assert "://" not in page


def test_hostile_words_are_escaped_everywhere() -> None:
    events = long_run(12)
    comparison = compare(events)
    page = as_html(comparison, events)
    read = Page(page)
    assert "<script" not in page
    assert "<i>wrong" not in page
    assert "alert('x')" in read.text  # shown, not run
    assert "\\x1b[31m" in read.text
    assert "\\u202e" in read.text
    assert ARABIC in read.text
    told = "\n".join(replay(events))
    for text in (page, as_text(comparison), as_markdown(comparison), told):
        assert without_controls(text)
        text.encode("utf-8")
    assert "<script" not in as_markdown(comparison)


def test_every_line_of_a_replay_is_one_line() -> None:
    assert all(line.splitlines() in ([line], []) for line in replay(long_run(2)))


def test_plain_leaves_words_alone() -> None:
    assert plain(f"é 漢字 {ARABIC} ok") == f"é 漢字 {ARABIC} ok"
    assert plain("a\nb\tc\x1b\u200b\ud800") == "a b c\\x1b\\u200b\\ud800"


# page


def test_the_page_shows_charts_tables_and_both_traces() -> None:
    events = [*FOUR]
    page = as_html(compare(events), events)
    read = Page(page)
    assert read.tags.count("svg") == 4
    assert read.tags.count("circle") == 3  # a point for each task that was not lost
    assert page.count('class="ring"') == 2
    assert page.count('class="cross"') == 1
    assert "-30.0 %" in read.text
    assert "PASS → MISS, -2,000 tokens" in read.text
    assert page.count("<mark>LOSS</mark>") == 1 + 1 + 1  # the legend, the table, the trace
    assert "All 4 tasks that are complete in both" in read.text
    assert read.text.count("1. 900 in, 100 out, 1,000 so far") == 2  # t0 of bare, t1 of stratum


def test_points_below_the_line_took_fewer_tokens() -> None:
    events = run([(1000, "PASS"), (2000, "PASS")], [(500, "PASS"), (4000, "PASS")])
    page = as_html(compare(events), events)
    points = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', page)
    (x1, y1), (x2, y2) = [(float(x), float(y)) for x, y in points]
    assert x1 < x2  # bare to the right
    assert y1 > y2  # stratum upwards
    left, bottom = map(float, re.findall(r'class="tint"[^>]*points="([\d.]+),([\d.]+)', page)[0])
    assert bottom - y1 < x1 - left  # fewer: below the diagonal
    assert bottom - y2 > x2 - left


def test_of_many_tasks_only_the_most_different_are_traced() -> None:
    count = ALL_TRACES + 5
    bare = [(1000, "PASS")] * count
    other = [(1000 + 10 * i, "PASS") for i in range(count)]
    events = run(bare, other)
    page = as_html(compare(events), events)
    assert page.count('<div class="pair">') == SOME_TRACES
    assert f"The {SOME_TRACES} tasks of {count} that differ most" in page
    assert f"<summary>t{count - 1} " in page
    assert "<summary>t44 " not in page
    fewer = run(bare[:ALL_TRACES], other[:ALL_TRACES])
    assert as_html(compare(fewer), fewer).count('<div class="pair">') == ALL_TRACES


# replay


def test_a_replay_tells_each_step() -> None:
    lines = [line.replace(", cost 0.25,", ",") for line in replay(worked())]
    assert lines == [
        "Run: its header says nothing.",
        "",
        "Task 1 of 1: t0",
        "  ",
        "  o/r at cccccccccccc, gold: a.py, b.py",
        "  Arm stratum",
        "    memory adds to each prompt: tools 100, instructions 20, file 3 tokens",
        "     1. prompt 1,000, output 50, reasoning 30, memory 123, cost 0.5, so far 1,050",
        "        memory memory_pack {} -> 400 chars, 90 tokens",
        "     2. prompt 1,140, cached 1,050, output 60, reasoning 7, memory 213, so far 2,250",
        "        grep {} -> 70 chars, 20 tokens",
        "        read_file {} -> 800 chars, 200 tokens",
        "        read_file {} -> FAILED 30 chars, 10 tokens",
        "        list_dir {} -> 9 chars, 4 tokens",
        "     3. prompt 1,500, cached 1,200, output 10, memory 213, cost 0.125, so far 3,760",
        "    memory named: x.py, y.py, b.py*",
        "    submitted: b.py*, x.py, y.py",
        "    MISS (submitted) after 3 requests, 3,760 tokens, 549 of memory, a note learned",
    ]


def test_a_replay_is_the_same_each_time_and_from_a_file(tmp_path: Path) -> None:
    events = long_run(4)
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(map(as_line, events)), encoding="utf-8")
    first = "\n".join(replay(events)).encode()
    assert first == "\n".join(replay(events)).encode()
    assert first == "\n".join(replay(read_events(path))).encode()
    assert as_html(compare(events), events) == as_html(
        compare(read_events(path)), read_events(path)
    )


def test_a_replay_of_one_task_or_arm() -> None:
    lines = list(replay(FOUR, task="t2", arm="stratum"))
    assert [line for line in lines if line.startswith("Task")] == ["Task 3 of 4: t2"]
    assert [line for line in lines if line.startswith("  Arm")] == ["  Arm stratum"]
    with pytest.raises(NotFound, match="no task t22"):
        replay(FOUR, task="t22")
    with pytest.raises(NotFound, match="no arm strata") as caught:
        replay(FOUR, arm="strata")
    assert "stratum" in caught.value.similar


def test_a_replay_tells_what_did_not_end() -> None:
    events: list[Event] = [RunStarted({}), task(0), *episode("t0", "bare", 100)[:-1]]
    assert "    NOT ENDED after 1 request, 100 tokens" in list(replay(events))
