"""What an arm took beside its baseline in single figures, each with its interval.

Pure: a comparison in, dataclasses out. What `compare` has worked out is taken from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stratum_bench.compare import Comparison, Difference, Tally, Versus, percent, ratio_difference
from stratum_bench.retrieval_scores import RESAMPLES

_SMALL = 1e9  # costs are compared as whole billionths
_AT_ONCE = 1_000  # resamples drawn at once: some megabytes


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of an arm and of its baseline, over the `n` tasks that are complete in both.

    `baseline` and `value` are sums over these tasks in `unit` ("tokens", "calls" or "cost"; of
    tokens_per_solved the sum over the number solved), or with the unit "share" the share solved,
    0 to 1. `difference`, `low` and `high` are the arm less its baseline with a 95 % interval, in
    `difference_unit`: "%" or "points". None where it cannot be told.
    """

    name: str
    unit: str
    n: int
    baseline: float | None
    value: float | None
    difference: float | None
    low: float | None
    high: float | None
    difference_unit: str = "%"


def measures(comparison: Comparison) -> dict[str, list[Measure]]:
    """Return the figures of each arm that has a baseline, by arm, the most telling first."""
    by_arm: dict[str, dict[str, Tally]] = {}
    for tally in comparison.tallies:
        by_arm.setdefault(tally.arm, {})[tally.task] = tally
    return {
        one.arm: _measures(one, by_arm[one.arm], by_arm[one.baseline], comparison.seed)
        for one in comparison.versus
    }


def _measures(
    one: Versus, own: Mapping[str, Tally], base: Mapping[str, Tally], seed: int
) -> list[Measure]:
    ours, theirs = ([side[pair.task] for pair in one.pairs] for side in (own, base))

    def counted(name: str, unit: str, known: Difference | None = None) -> Measure:
        mine, others = ([int(getattr(tally, name)) for tally in side] for side in (ours, theirs))
        told = known or ratio_difference(mine, others, seed)
        return _measure(name, unit, one.n, sum(others), sum(mine), told)

    return [
        counted("tokens", "tokens", one.tokens),
        _measure(
            "tokens_per_solved", "tokens", one.n, _per_solved(theirs), _per_solved(ours),
            _solved_ratio(ours, theirs, seed),
        ),
        counted("uncached", "tokens", one.uncached),
        counted("reads", "calls"),
        counted("searches", "calls"),
        counted("calls", "calls", one.calls),
        _cost(one.n, ours, theirs, seed),
        _measure(
            "accuracy", "share", one.n, _share(one.baseline_solved, one.n),
            _share(one.solved, one.n), one.points, "points",
        ),
    ]  # fmt: skip


def _measure(
    name: str,
    unit: str,
    n: int,
    baseline: float | None,
    value: float | None,
    told: Difference,
    difference_unit: str = "%",
) -> Measure:
    return Measure(
        name, unit, n, baseline, value, told.value, told.low, told.high, difference_unit
    )  # fmt: skip


def _cost(n: int, ours: Sequence[Tally], theirs: Sequence[Tally], seed: int) -> Measure:
    mine, others = ([tally.cost for tally in side] for side in (ours, theirs))
    paid = [cost for cost in mine if cost is not None], [c for c in others if c is not None]
    if not n or any(len(side) < n for side in paid):
        return Measure("cost", "cost", n, None, None, None, None, None)
    whole = [[round(cost * _SMALL) for cost in side] for side in paid]
    told = ratio_difference(whole[0], whole[1], seed)
    return _measure("cost", "cost", n, math.fsum(paid[1]), math.fsum(paid[0]), told)


def _per_solved(side: Sequence[Tally]) -> float | None:
    return _share(sum(tally.tokens for tally in side), sum(tally.solved for tally in side))


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _solved_ratio(ours: Sequence[Tally], theirs: Sequence[Tally], seed: int) -> Difference:
    """Return tokens per solved task against the baseline, with a paired bootstrap over tasks.

    Resamples in which one of the two solves nothing are left out: there it has no value.
    """
    mine, others = _per_solved(ours), _per_solved(theirs)
    value = None if mine is None or not others else percent(mine, others)
    if value is None or len(ours) < 2:
        return Difference(value, None, None)
    rng = np.random.default_rng(seed)
    arrays = [
        np.array([get(tally) for tally in side], dtype=np.float64)
        for side in (ours, theirs)
        for get in _TOKENS_AND_SOLVED
    ]
    ratios = []
    for start in range(0, RESAMPLES, _AT_ONCE):
        drawn = rng.integers(0, len(ours), size=(min(_AT_ONCE, RESAMPLES - start), len(ours)))
        tokens, solved, their_tokens, their_solved = (one[drawn].sum(axis=1) for one in arrays)
        bottom = solved * their_tokens
        there = (bottom > 0) & (their_solved > 0)
        ratios.append(tokens[there] * their_solved[there] / bottom[there])
    low, high = (np.percentile(np.concatenate(ratios), [2.5, 97.5]) - 1.0) * 100.0
    return Difference(value, float(low), float(high))


_TOKENS_AND_SOLVED: tuple[Callable[[Tally], float], ...] = (
    lambda tally: tally.tokens,
    lambda tally: tally.solved,
)
