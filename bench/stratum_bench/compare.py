"""What the arms of a run took and reached, beside one of them; pure: events in, dataclasses out.

Owns every figure that a report of a run shows. Knows nothing of agents, terminals or pages.

All counts of tokens are those of the events; differences are the arm less its baseline, so that
a saving is negative. A task that ended with ERROR, or did not end, tells nothing about memory: it
is counted and named, and left out of all sums, means and comparisons.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stratum import InvalidInput
from stratum_bench.measure import percentile
from stratum_bench.retrieval_scores import RESAMPLES, intervals, mean
from stratum_bench.trace import (
    OUTCOMES,
    Asked,
    Called,
    Ended,
    Episode,
    Event,
    RunStarted,
    Started,
    TaskGiven,
    episodes,
)

BUCKETS = 10
FEW = 10  # below so many tasks an interval says little
COUNTS = (
    "tokens",
    "uncached",
    "output",
    "cached",
    "reasoning",
    "memory",
    "memory_once",
    "requests",
    "calls",
    "reads",
    "searches",
    "lists",
    "memory_calls",
    "chars",
)
_AT_ONCE = 1_000  # resamples drawn at once: some megabytes


@dataclass(frozen=True, slots=True)
class Tally:
    """What one task took in one arm, and what came of it.

    Tokens over all requests: `tokens` is prompt and output, `uncached` the prompt less what was
    cached, and output; `cached`, `output`, `reasoning` and `memory` as in `Asked`. `memory_once`
    counts each token that memory put into the conversation once: its tools, instructions and
    file, and the results of its calls.

    Calls: `calls` are all, of these `reads` are read_file, `searches` grep, `lists` list_dir,
    `memory_calls` those of memory; `chars` are the characters of all results.

    `precision`, `recall` and `f1` (0 to 1) compare the distinct files submitted with the gold.
    `hit_k` says whether one of the first k files that memory named is gold, None where it named
    none. `cost` is None unless each request told one. `offered` says whether memory had tools.
    """

    task: str
    arm: str
    order: int
    outcome: str
    reason: str
    tokens: int
    uncached: int
    output: int
    cached: int
    reasoning: int
    memory: int
    memory_once: int
    requests: int
    calls: int
    reads: int
    searches: int
    lists: int
    memory_calls: int
    chars: int
    cost: float | None
    submitted: tuple[str, ...]
    precision: float
    recall: float
    f1: float
    first_right: bool
    hit_1: bool | None
    hit_3: bool | None
    hit_5: bool | None
    learned: bool
    offered: bool
    ms: float

    @property
    def solved(self) -> bool:
        """Whether the outcome is PASS."""
        return self.outcome == "PASS"


@dataclass(frozen=True, slots=True)
class Column:
    """A count over tasks; mean and median are None where there is no task."""

    sum: int
    mean: float | None
    median: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """An arm over its complete tasks, those that ended with another outcome than ERROR.

    `n` tasks ended, `complete` of them without ERROR; the ERROR ones took `error_tokens`, which
    no other figure holds. `columns` has a `Column` for each of COUNTS. `tokens_low` and
    `tokens_high` are the 95 % interval of the mean of tokens. `tokens_per_solved` is the sum of
    tokens over the number solved. Shares from 0 to 1: `memory_share` of all tokens,
    `adoption` of tasks in which memory was called (None: it had no tools), `hit_k` of the
    `recalled` tasks in which memory named files. `precision`, `recall`, `f1`, `first_right` are
    means. What cannot be told is None.
    """

    arm: str
    n: int
    complete: int
    solved: int
    outcomes: dict[str, int]
    columns: dict[str, Column]
    tokens_low: float | None
    tokens_high: float | None
    tokens_per_solved: float | None
    error_tokens: int
    cost: float | None
    memory_share: float | None
    adoption: float | None
    recalled: int
    hit_1: float | None
    hit_3: float | None
    hit_5: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    first_right: float | None
    learned: int


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of an arm's complete tasks, waiting for the agent and for tools included."""

    arm: str
    sum: float
    median: float


@dataclass(frozen=True, slots=True)
class Difference:
    """An arm less its baseline with a 95 % interval; in percent of the baseline, or in points.

    None where the baseline is 0, or where one task or none allows no interval.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Pair:
    """A task in an arm and in the baseline; tokens, and `difference` in tokens.

    `losing`: the baseline solved it and the arm did not, or the outcome is the same and the arm
    took more tokens.
    """

    task: str
    order: int
    recurrent: bool
    baseline_outcome: str
    outcome: str
    baseline_tokens: int
    tokens: int
    difference: int
    losing: bool


@dataclass(frozen=True, slots=True)
class Bucket:
    """Consecutive tasks, `first` to `last` by order: tokens in percent against the baseline.

    `cumulative` is over all tasks up to `last`.
    """

    first: int
    last: int
    n: int
    baseline_tokens: int
    tokens: int
    percent: float | None
    cumulative: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks of one kind: sums of tokens, number solved, difference of tokens in percent."""

    name: str
    n: int
    baseline_tokens: int
    tokens: int
    baseline_solved: int
    solved: int
    difference: Difference


@dataclass(frozen=True, slots=True)
class Excess:
    """A task below break-even: the arm took `difference` tokens more than the baseline."""

    task: str
    difference: int


@dataclass(frozen=True, slots=True)
class Versus:
    """An arm against its baseline, over the `n` tasks that are complete in both.

    `tokens`, `uncached` and `calls` are ratios of sums less 1, in percent. `median_difference` is
    in tokens, `median_percent` the median of the differences of each task in percent. `fewer`,
    `more`, `equal` count tasks by tokens; `sign_p` is the exact two-sided sign test without ties.
    `points` is the difference of the share solved in percentage points; `mcnemar_p` the exact
    test over `gains` (solved by the arm alone) and `negative_transfers` (by the baseline alone).
    `losing` has the worst first: lost tasks, then by tokens. `errors` ended with ERROR in one of
    the two, `missing` did not end in one of them.
    """

    arm: str
    baseline: str
    n: int
    errors: tuple[str, ...]
    missing: tuple[str, ...]
    tokens: Difference
    uncached: Difference
    calls: Difference
    median_difference: float | None
    median_percent: float | None
    fewer: int
    more: int
    equal: int
    sign_p: float
    baseline_solved: int
    solved: int
    points: Difference
    mcnemar_p: float
    gains: tuple[str, ...]
    negative_transfers: tuple[str, ...]
    below_break_even: tuple[Excess, ...]
    losing: tuple[Pair, ...]
    pairs: tuple[Pair, ...]
    curve: tuple[Bucket, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """All figures of a run. `recurrent` are ids of tasks that share a gold file with an earlier
    task of the same repository; `notes` are sentences about what is missing; `times` and the
    `ms` of the tallies are all that differs between two equal runs.
    """

    header: dict[str, Any]
    baseline: str
    seed: int
    tasks: tuple[TaskGiven, ...]
    recurrent: tuple[str, ...]
    totals: tuple[Totals, ...]
    versus: tuple[Versus, ...]
    tallies: tuple[Tally, ...]
    notes: tuple[str, ...]
    times: tuple[Times, ...]

    def to_dict(self, *, times: bool = True) -> dict[str, Any]:
        """Return plain data for JSON; without `times` it is the same for two equal runs."""
        told: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))
        if not times:
            del told["times"]
            for tally in told["tallies"]:
                del tally["ms"]
        return told


def compare(events: Sequence[Event], *, baseline: str = "bare", seed: int = 1) -> Comparison:
    """Return all figures of a run.

    Args:
        events: Of one run, or of two that were `merged`.
        baseline: The arm that all others are compared with; "A/" compares each arm of another
            run with the same arm of run A.
        seed: Of the intervals.

    Raises:
        InvalidInput: There is an episode of a task that the run does not name.
    """
    header = next((dict(event.header) for event in events if isinstance(event, RunStarted)), {})
    tasks = {task.task: task for task in _tasks(events)}
    there = episodes(events)
    for task, _ in there:
        if task not in tasks:
            raise InvalidInput(
                f"The run names no task {task}.", hint="Give the whole trace of the run."
            )
    done = {
        (task, arm): _tally(episode, episode.end, tasks[task])
        for (task, arm), episode in there.items()
        if episode.end is not None
    }
    arms = _arms(header, there)
    by_arm = {arm: {t: one for t in tasks if (one := done.get((t, arm)))} for arm in arms}
    again = recurrent(list(tasks.values()))
    versus = tuple(
        _versus(by_arm[against], own, again, seed)
        for arm, own in by_arm.items()
        if (against := _baseline_of(arm, baseline)) in by_arm and against != arm
        if own and by_arm[against]
    )
    unfinished = sum(episode.end is None for episode in there.values())
    return Comparison(
        header=header,
        baseline=baseline,
        seed=seed,
        tasks=tuple(tasks.values()),
        recurrent=tuple(task for task in tasks if task in again),
        totals=tuple(_totals(arm, list(own.values()), seed) for arm, own in by_arm.items()),
        versus=versus,
        tallies=tuple(tally for own in by_arm.values() for tally in own.values()),
        notes=tuple(_notes(by_arm, versus, baseline, unfinished)),
        times=tuple(
            Times(arm, math.fsum(taken), percentile(taken, 0.5))
            for arm, own in by_arm.items()
            if (taken := [tally.ms for tally in own.values() if tally.outcome != "ERROR"])
        ),
    )


def compare_runs(
    first: Sequence[Event],
    second: Sequence[Event],
    *,
    names: tuple[str, str] = ("A", "B"),
    seed: int = 1,
) -> Comparison:
    """Return the arms of a second run against the same arms of a first one.

    Raises:
        InvalidInput: As `merged`.
    """
    return compare(merged(first, second, names=names), baseline=f"{names[0]}/", seed=seed)


def merged(
    first: Sequence[Event], second: Sequence[Event], *, names: tuple[str, str] = ("A", "B")
) -> list[Event]:
    """Return the tasks that two runs share as one run, with arms named "run/arm".

    The order of the tasks is that of the first run.

    Raises:
        InvalidInput: No task is shared, a task has other gold files in each run, or the names
            are no two names.
    """
    if names[0] == names[1] or not all(name and "/" not in name for name in names):
        raise InvalidInput("Two runs need two names.", hint="Give two names without a slash.")
    ours = {task.task: task for task in _tasks(first)}
    theirs = {task.task: task for task in _tasks(second)}
    shared = [task for task in ours if task in theirs]
    if not shared:
        raise InvalidInput(
            "The two runs share no task.", hint="Compare runs of the same suite of tasks."
        )
    for task in shared:
        if set(ours[task].gold) != set(theirs[task].gold):
            raise InvalidInput(
                f"The task {task} has other gold files in each of the two runs.",
                hint="Compare runs of the same suite of tasks.",
            )
    found: list[Event] = [RunStarted(_joint_header(first, second, names))]
    found += [ours[task] for task in shared]
    for name, events in zip(names, (first, second), strict=True):
        for (task, arm), episode in episodes(events).items():
            if task in ours and task in theirs:
                found += [dataclasses.replace(e, arm=f"{name}/{arm}") for e in episode.events]
    return found


def recurrent(tasks: Iterable[TaskGiven]) -> set[str]:
    """Return the ids of tasks with a gold file that an earlier task of the same repo had too."""
    seen: dict[str, set[str]] = {}
    found = set()
    for task in sorted(tasks, key=lambda task: task.order):
        known = seen.setdefault(task.repo, set())
        if known & set(task.gold):
            found.add(task.task)
        known |= set(task.gold)
    return found


def sign_test(fewer: int, more: int) -> float:
    """Return the exact two-sided p of so many signs of each kind, were both equally likely."""
    n = fewer + more
    tail = sum(math.comb(n, i) for i in range(min(fewer, more) + 1))
    return float(min(1.0, 2 * tail / 2**n))


def ratio_difference(ours: Sequence[int], theirs: Sequence[int], seed: int) -> Difference:
    """Return the ratio of the sums less 1 in percent, with a paired bootstrap over tasks.

    Args:
        ours: A value for each task.
        theirs: A value for each of the same tasks; the baseline.
        seed: Of the resamples; those in which the baseline is 0 are left out.
    """
    if not sum(theirs):
        return Difference(None, None, None)
    value = percent(sum(ours), sum(theirs))
    if len(ours) < 2:
        return Difference(value, None, None)
    top, bottom = np.array(ours, dtype=np.int64), np.array(theirs, dtype=np.int64)
    rng = np.random.default_rng(seed)
    ratios = []
    for start in range(0, RESAMPLES, _AT_ONCE):
        drawn = rng.integers(0, len(ours), size=(min(_AT_ONCE, RESAMPLES - start), len(ours)))
        above, below = top[drawn].sum(axis=1), bottom[drawn].sum(axis=1)
        there = below > 0
        ratios.append(above[there] / below[there])
    low, high = (np.percentile(np.concatenate(ratios), [2.5, 97.5]) - 1.0) * 100.0
    return Difference(value, float(low), float(high))


def percent(ours: float, theirs: float) -> float | None:
    """Return how much more `ours` is than `theirs`, in percent; None of nothing."""
    return (ours / theirs - 1.0) * 100.0 if theirs else None


def _tasks(events: Iterable[Event]) -> list[TaskGiven]:
    found = {event.task: event for event in events if isinstance(event, TaskGiven)}
    return sorted(found.values(), key=lambda task: task.order)


def _arms(header: Mapping[str, Any], there: Iterable[tuple[str, str]]) -> list[str]:
    """Return the arms that have episodes, in the order of the header, then as they come."""
    come = list(dict.fromkeys(arm for _, arm in there))
    named = header.get("arms")
    named = [arm for arm in named if arm in come] if isinstance(named, list) else []
    return list(dict.fromkeys([*named, *come]))


def _baseline_of(arm: str, baseline: str) -> str:
    return baseline + arm.partition("/")[2] if baseline.endswith("/") else baseline


def _joint_header(
    first: Sequence[Event], second: Sequence[Event], names: tuple[str, str]
) -> dict[str, Any]:
    """Return what two headers say alike as it is, and what they do not as both, by name."""
    one, other = (
        next((event.header for event in events if isinstance(event, RunStarted)), {})
        for events in (first, second)
    )
    found: dict[str, Any] = {}
    for key in dict.fromkeys([*one, *other]):
        if key in ("arms", "tasks"):
            continue  # they are no longer those of either run
        same = one.get(key) == other.get(key)
        found[key] = one[key] if same else {names[0]: one.get(key), names[1]: other.get(key)}
    return found


def _tally(episode: Episode, end: Ended, task: TaskGiven) -> Tally:
    asked = [event for event in episode.events if isinstance(event, Asked)]
    called = [event for event in episode.events if isinstance(event, Called)]
    begun = next((e for e in episode.events if isinstance(e, Started)), Started(*_key(episode)))
    tools = [call.tool for call in called]
    costs = [one.cost for one in asked if one.cost is not None]
    gold, submitted = set(task.gold), list(dict.fromkeys(end.submitted))
    right = len(gold & set(submitted))
    prompt, output = sum(one.prompt for one in asked), sum(one.output for one in asked)
    cached = sum(one.cached for one in asked)
    return Tally(
        task=task.task,
        arm=episode.arm,
        order=task.order,
        outcome=end.outcome,
        reason=end.reason,
        tokens=prompt + output,
        uncached=prompt - cached + output,
        output=output,
        cached=cached,
        reasoning=sum(one.reasoning for one in asked),
        memory=sum(one.memory for one in asked),
        memory_once=begun.tools
        + begun.instructions
        + begun.file
        + sum(call.tokens for call in called if call.memory),
        requests=len(asked),
        calls=len(called),
        reads=tools.count("read_file"),
        searches=tools.count("grep"),
        lists=tools.count("list_dir"),
        memory_calls=sum(call.memory for call in called),
        chars=sum(call.chars for call in called),
        cost=math.fsum(costs) if costs and len(costs) == len(asked) else None,
        submitted=end.submitted,
        precision=right / len(submitted) if submitted else 0.0,
        recall=right / len(gold) if gold else 0.0,
        f1=2 * right / (len(submitted) + len(gold)) if right else 0.0,
        first_right=bool(submitted) and submitted[0] in gold,
        hit_1=_hit(end.recalled, gold, 1),
        hit_3=_hit(end.recalled, gold, 3),
        hit_5=_hit(end.recalled, gold, 5),
        learned=end.learned,
        offered=begun.tools > 0,
        ms=math.fsum([*(one.ms for one in asked), *(call.ms for call in called)]),
    )


def _key(episode: Episode) -> tuple[str, str]:
    return episode.task, episode.arm


def _hit(recalled: Sequence[str], gold: set[str], k: int) -> bool | None:
    named = list(dict.fromkeys(recalled))
    return not gold.isdisjoint(named[:k]) if named else None


def _totals(arm: str, ended: Sequence[Tally], seed: int) -> Totals:
    own = [tally for tally in ended if tally.outcome != "ERROR"]
    columns = {name: _column([getattr(tally, name) for tally in own]) for name in COUNTS}
    tokens, solved = columns["tokens"].sum, sum(tally.solved for tally in own)
    low, high = _mean_interval([float(tally.tokens) for tally in own], seed)
    costs = [tally.cost for tally in own if tally.cost is not None]
    has_tools = any(tally.offered or tally.memory_calls for tally in own)
    return Totals(
        arm=arm,
        n=len(ended),
        complete=len(own),
        solved=solved,
        outcomes={name: sum(one.outcome == name for one in ended) for name in OUTCOMES},
        columns=columns,
        tokens_low=low,
        tokens_high=high,
        tokens_per_solved=tokens / solved if solved else None,
        error_tokens=sum(tally.tokens for tally in ended) - tokens,
        cost=math.fsum(costs) if costs and len(costs) == len(own) else None,
        memory_share=columns["memory"].sum / tokens if tokens else None,
        adoption=_share(own, lambda one: one.memory_calls > 0) if has_tools else None,
        recalled=sum(tally.hit_1 is not None for tally in own),
        hit_1=_share(own, lambda one: one.hit_1),
        hit_3=_share(own, lambda one: one.hit_3),
        hit_5=_share(own, lambda one: one.hit_5),
        precision=mean([tally.precision for tally in own]) if own else None,
        recall=mean([tally.recall for tally in own]) if own else None,
        f1=mean([tally.f1 for tally in own]) if own else None,
        first_right=_share(own, lambda one: one.first_right),
        learned=sum(tally.learned for tally in own),
    )


def _column(values: Sequence[int]) -> Column:
    if not values:
        return Column(0, None, None)
    return Column(sum(values), sum(values) / len(values), percentile(values, 0.5))


def _mean_interval(values: Sequence[float], seed: int) -> tuple[float | None, float | None]:
    return intervals({"": values}, seed)[""] if len(values) > 1 else (None, None)


def _share(own: Iterable[Tally], told: Callable[[Tally], bool | None]) -> float | None:
    """Return the share of yes among those that are told, None where none is."""
    answers = [answer for tally in own if (answer := told(tally)) is not None]
    return sum(answers) / len(answers) if answers else None


def _versus(
    base: Mapping[str, Tally], own: Mapping[str, Tally], again: set[str], seed: int
) -> Versus:
    both = [task for task in own if task in base]
    errors = [task for task in both if "ERROR" in (base[task].outcome, own[task].outcome)]
    tasks = [task for task in both if task not in errors]
    ours, theirs = [own[task] for task in tasks], [base[task] for task in tasks]
    pairs = tuple(_pair(base[task], own[task], task in again) for task in tasks)
    gains = [pair.task for pair in pairs if _solved(pair) == (False, True)]
    losses = [pair.task for pair in pairs if _solved(pair) == (True, False)]
    gaps = [pair.difference for pair in pairs]
    shares = [percent(pair.tokens, pair.baseline_tokens) for pair in pairs]
    known = [share for share in shares if share is not None]
    excess = [pair for pair in pairs if pair.difference > 0]
    fewer, more = sum(gap < 0 for gap in gaps), len(excess)

    def relative(name: str) -> Difference:
        told = [[getattr(tally, name) for tally in side] for side in (ours, theirs)]
        return ratio_difference(told[0], told[1], seed)

    return Versus(
        arm=next(iter(own.values())).arm,
        baseline=next(iter(base.values())).arm,
        n=len(pairs),
        errors=tuple(errors),
        missing=tuple(sorted(base.keys() ^ own.keys())),
        tokens=relative("tokens"),
        uncached=relative("uncached"),
        calls=relative("calls"),
        median_difference=percentile(gaps, 0.5) if gaps else None,
        median_percent=percentile(known, 0.5) if known else None,
        fewer=fewer,
        more=more,
        equal=len(gaps) - fewer - more,
        sign_p=sign_test(fewer, more),
        baseline_solved=sum(tally.solved for tally in theirs),
        solved=sum(tally.solved for tally in ours),
        points=_points(ours, theirs, seed),
        mcnemar_p=sign_test(len(gains), len(losses)),
        gains=tuple(gains),
        negative_transfers=tuple(losses),
        below_break_even=tuple(
            Excess(pair.task, pair.difference)
            for pair in sorted(excess, key=lambda pair: (-pair.difference, pair.order))
        ),
        losing=tuple(sorted((pair for pair in pairs if pair.losing), key=_worst_first)),
        pairs=pairs,
        curve=_curve(pairs),
        groups=(
            _group("first-time", [pair for pair in pairs if not pair.recurrent], seed),
            _group("recurrent", [pair for pair in pairs if pair.recurrent], seed),
        ),
    )


def _pair(base: Tally, own: Tally, again: bool) -> Pair:
    difference = own.tokens - base.tokens
    lost = base.solved and not own.solved
    return Pair(
        task=own.task,
        order=own.order,
        recurrent=again,
        baseline_outcome=base.outcome,
        outcome=own.outcome,
        baseline_tokens=base.tokens,
        tokens=own.tokens,
        difference=difference,
        losing=lost or (base.outcome == own.outcome and difference > 0),
    )


def _solved(pair: Pair) -> tuple[bool, bool]:
    """Return whether the baseline and whether the arm solved it."""
    return pair.baseline_outcome == "PASS", pair.outcome == "PASS"


def _worst_first(pair: Pair) -> tuple[bool, int, int]:
    return _solved(pair) != (True, False), -pair.difference, pair.order


def _points(ours: Sequence[Tally], theirs: Sequence[Tally], seed: int) -> Difference:
    """Return the difference of the shares solved, in percentage points."""
    if not ours:
        return Difference(None, None, None)
    gaps = [100.0 * (a.solved - b.solved) for a, b in zip(ours, theirs, strict=True)]
    return Difference(mean(gaps), *_mean_interval(gaps, seed))


def _curve(pairs: Sequence[Pair]) -> tuple[Bucket, ...]:
    """Return about BUCKETS buckets of pairs in their order, equal in size as far as it goes."""
    count = min(BUCKETS, len(pairs))
    found = []
    for i in range(count):
        begin, end = len(pairs) * i // count, len(pairs) * (i + 1) // count
        part, upto = pairs[begin:end], pairs[:end]
        tokens, theirs = sum(p.tokens for p in part), sum(p.baseline_tokens for p in part)
        found.append(
            Bucket(
                first=part[0].order,
                last=part[-1].order,
                n=len(part),
                baseline_tokens=theirs,
                tokens=tokens,
                percent=percent(tokens, theirs),
                cumulative=percent(
                    sum(p.tokens for p in upto), sum(p.baseline_tokens for p in upto)
                ),
            )
        )
    return tuple(found)


def _group(name: str, pairs: Sequence[Pair], seed: int) -> Group:
    ours, theirs = [p.tokens for p in pairs], [p.baseline_tokens for p in pairs]
    return Group(
        name=name,
        n=len(pairs),
        baseline_tokens=sum(theirs),
        tokens=sum(ours),
        baseline_solved=sum(_solved(pair)[0] for pair in pairs),
        solved=sum(_solved(pair)[1] for pair in pairs),
        difference=ratio_difference(ours, theirs, seed),
    )


def _notes(
    by_arm: Mapping[str, Mapping[str, Tally]],
    versus: Sequence[Versus],
    baseline: str,
    unfinished: int,
) -> list[str]:
    """Return a sentence for each thing that a reader has to know before the figures."""
    found = []
    done = sum(map(len, by_arm.values()))
    if not done:
        found.append("This run has no task that has ended: there is nothing to compare yet.")
    elif not versus:
        named = ", ".join(by_arm)
        alone = "is the only arm" if len(by_arm) == 1 else "are the arms"
        found.append(
            f"There is nothing to compare: {named} {alone} of this run, and the baseline is"
            f" {baseline.rstrip('/')}."
        )
    if unfinished:
        many = "1 episode has" if unfinished == 1 else f"{unfinished} episodes have"
        found.append(f"{many} not ended and count nowhere: run it again to go on.")
    for one in versus:
        pair = f"{one.arm} against {one.baseline}"
        if one.errors:
            found.append(f"{pair}: {_tasks_said(len(one.errors))} left out for an ERROR in an arm.")
        if one.missing:
            found.append(f"{pair}: {_tasks_said(len(one.missing))} left out, ended in one only.")
        if one.n < FEW:
            found.append(f"{pair}: {_tasks_said(one.n)} compared, too few to conclude much.")
    return found


def _tasks_said(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"
