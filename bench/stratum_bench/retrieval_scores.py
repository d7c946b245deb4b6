"""Textbook measures of a ranked list, and intervals by bootstrap; pure: ranks in, numbers out.

A list is told by the ranks (from 1) that it gives to the right answers, None where one is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

Ranks = Sequence[int | None]

CUTS = (1, 5, 10)
NDCG_CUT = 10
METRICS = (*(f"R@{k}" for k in CUTS), *(f"acc@{k}" for k in CUTS), "MRR", f"nDCG@{NDCG_CUT}")
RESAMPLES = 10_000
_AT_ONCE = 1_000  # resamples drawn at once: some megabytes


def ranks_of(answers: Sequence[object], ranked: Sequence[object]) -> list[int | None]:
    """Return the rank of each answer in a list of distinct items, None where it is not in it."""
    places = {item: rank for rank, item in enumerate(ranked, start=1)}
    return [places.get(answer) for answer in answers]


def recall(ranks: Ranks, k: int) -> float:
    """Return the share of the answers among the first `k`."""
    return sum(rank is not None and rank <= k for rank in ranks) / len(ranks)


def accuracy(ranks: Ranks, k: int) -> float:
    """Return 1 when all answers are among the first `k`, else 0."""
    return float(all(rank is not None and rank <= k for rank in ranks))


def reciprocal_rank(ranks: Ranks) -> float:
    """Return 1 / the rank of the first answer, 0 when none was found."""
    return max((1.0 / rank for rank in ranks if rank is not None), default=0.0)


def ndcg(ranks: Ranks, k: int) -> float:
    """Return the discounted gain among the first `k` over that of the best order possible."""
    gain = sum(1.0 / math.log2(rank + 1) for rank in ranks if rank is not None and rank <= k)
    ideal = sum(1.0 / math.log2(rank + 1) for rank in range(1, min(k, len(ranks)) + 1))
    return gain / ideal


def measures(ranks: Ranks) -> dict[str, float]:
    """Return all of METRICS for one task, each from 0 to 1.

    Raises:
        ValueError: There is no answer to be found.
    """
    if not ranks:
        raise ValueError("without an answer there is nothing to measure")
    return {
        **{f"R@{k}": recall(ranks, k) for k in CUTS},
        **{f"acc@{k}": accuracy(ranks, k) for k in CUTS},
        "MRR": reciprocal_rank(ranks),
        f"nDCG@{NDCG_CUT}": ndcg(ranks, NDCG_CUT),
    }


def fused(lists: Sequence[Sequence[str]], k: int = 60) -> list[str]:
    """Return ranked lists as one by reciprocal rank fusion; of equals, the first name first."""
    scores: dict[str, float] = {}
    for ranked in lists:
        for rank, item in enumerate(ranked, start=1):
            scores[item] = scores.get(item, 0.0) + 1.0 / (k + rank)
    return sorted(scores, key=lambda item: (-scores[item], item))


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("no values, no mean")
    return math.fsum(values) / len(values)


def intervals(
    columns: Mapping[str, Sequence[float]], seed: int, resamples: int = RESAMPLES
) -> dict[str, tuple[float, float]]:
    """Return for each column the 95 % interval of its mean: percentiles of a bootstrap over tasks.

    All columns hold one value for each of the same tasks and are resampled together, so that the
    column of a difference is a paired comparison.

    Raises:
        ValueError: Columns are empty or of different lengths.
    """
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError("columns must hold one value for each of the same tasks")
    table = np.array(list(columns.values()), dtype=np.float64)  # columns x tasks
    count = table.shape[1]
    rng = np.random.default_rng(seed)
    means = []
    for start in range(0, resamples, _AT_ONCE):
        drawn = rng.integers(0, count, size=(min(_AT_ONCE, resamples - start), count))
        times = np.stack([np.bincount(row, minlength=count) for row in drawn])
        means.append(times @ table.T / count)
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(columns)}
