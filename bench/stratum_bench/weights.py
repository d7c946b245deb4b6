"""Learn how much each feature of a file counts, and show what each of them brings.

Reads results of `retrieval`, whose lines hold for each file that was found the shares that its
score is made of. The weights are those of a softmax regression: the sum of weight times feature is
to give the files that the fix changed the largest share of the whole (the listwise loss of ListNet,
Cao et al., ICML 2007). Judged by cross-validation over repositories: a repository's tasks are
ranked by weights that were learned on others.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratum import InvalidInput
from stratum.ranking import FILE_WEIGHTS
from stratum_bench.measure import Result, Row, environment, progress

Floats = NDArray[np.float64]

_FOLDS = 5
_STEPS, _RATE, _L2 = 200, 0.1, 3e-3
_MOMENTUM, _SPREAD = 0.9, 0.999  # Adam (Kingma and Ba, ICLR 2015) with its textbook constants
_BEST = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Task:
    """The files that were found for a task, with features of shape (files, features).

    `right` says which of them the fix changed; `gold` counts the right ones, found or not.
    """

    repo: str
    features: Floats
    right: NDArray[np.bool_]
    gold: int


def run(results: Sequence[Path], seed: int) -> Result:
    """Fit the weights and judge them, all of them and without each.

    Args:
        results: Files that `retrieval --out` wrote.
        seed: Only noted: nothing here is random.

    Raises:
        InvalidInput: A file holds no features, or there are too few repositories to learn from.
    """
    names = list(FILE_WEIGHTS)
    tasks = [task for path in results for task in _read(path, names)]
    folds = _folds([task.repo for task in tasks])
    if len(set(folds)) < 2:
        raise InvalidInput(
            "All tasks are of one repository: weights learned and judged on it say nothing.",
            hint="Give results of several repositories.",
        )
    rows = [_row("all features", _validated(tasks, folds, np.arange(len(names))))]
    for dropped, name in enumerate(names):
        progress(f"without {name}")
        kept = np.delete(np.arange(len(names)), dropped)
        rows.append(_row(f"without {name}", _validated(tasks, folds, kept)))
    rows.append(
        _row("as shipped", _scores(tasks, [np.array(list(FILE_WEIGHTS.values()))] * len(tasks)))
    )
    fitted = _fit(tasks)
    return Result(
        command="weights",
        seed=seed,
        parameters={"tasks": len(tasks), "repositories": len({task.repo for task in tasks})},
        environment=environment(),
        rows=rows,
        facts={
            "weights": {name: round(float(w), 2) for name, w in zip(names, fitted, strict=True)}
        },
    )


def _read(path: Path, names: Sequence[str]) -> list[Task]:
    tasks = []
    for line in path.read_text(encoding="utf-8").splitlines():
        told: dict[str, Any] = json.loads(line)
        found: Mapping[str, Mapping[str, float]] = told.get("features", {})
        if found:
            # a share is the weight of the day times the feature
            rows = [
                [shares.get(n, 0.0) / FILE_WEIGHTS[n] for n in names] for shares in found.values()
            ]
            right = np.array([one in told["gold"] for one in found])
            tasks.append(Task(told["repo"], np.array(rows), right, len(told["gold"])))
    if not tasks:
        raise InvalidInput(
            f"{path} holds no features.", hint="Make it with `stratum bench retrieval --out DIR`."
        )
    return tasks


def _folds(repos: Sequence[str]) -> list[int]:
    """Return a fold for each task: whole repositories, the largest ones apart."""
    load, of = [0] * _FOLDS, {}
    for repo, count in sorted(Counter(repos).items(), key=lambda pair: (-pair[1], pair[0])):
        of[repo] = load.index(min(load))
        load[of[repo]] += count
    return [of[repo] for repo in repos]


def _validated(tasks: Sequence[Task], folds: Sequence[int], kept: NDArray[np.int64]) -> Floats:
    """Return the metrics of each task by weights that were learned on other repositories."""
    learned = {}
    for fold in sorted(set(folds)):
        others = [task for task, own in zip(tasks, folds, strict=True) if own != fold]
        weights = np.zeros(tasks[0].features.shape[1])
        weights[kept] = _fit(others, kept)
        learned[fold] = weights
    return _scores(tasks, [learned[fold] for fold in folds])


def _fit(tasks: Sequence[Task], kept: NDArray[np.int64] | None = None) -> Floats:
    usable = [task for task in tasks if task.right.any()]
    columns = np.arange(tasks[0].features.shape[1]) if kept is None else kept
    features = np.concatenate([task.features[:, columns] for task in usable])
    wanted = np.concatenate([task.right / task.right.sum() for task in usable])
    sizes = np.array([len(task.right) for task in usable])
    starts, owner = np.cumsum(sizes) - sizes, np.repeat(np.arange(len(sizes)), sizes)
    weights, mean, spread = (np.zeros(len(columns)) for _ in range(3))
    for step in range(1, _STEPS + 1):
        scores = features @ weights
        grown = np.exp(scores - np.maximum.reduceat(scores, starts)[owner])
        share = grown / np.add.reduceat(grown, starts)[owner]
        slope = features.T @ (share - wanted) / len(usable) + _L2 * weights
        mean = _MOMENTUM * mean + (1 - _MOMENTUM) * slope
        spread = _SPREAD * spread + (1 - _SPREAD) * slope**2
        change = mean / (1 - _MOMENTUM**step)
        weights = weights - _RATE * change / (np.sqrt(spread / (1 - _SPREAD**step)) + 1e-8)
    return weights


def _scores(tasks: Sequence[Task], weights: Sequence[Floats]) -> Floats:
    """Return recall at 1, 5 and 10 and the reciprocal rank, of shape (tasks, 4)."""
    rows = []
    for task, own in zip(tasks, weights, strict=True):
        order = np.argsort(-(task.features @ own), kind="stable")
        right = task.right[order]
        first = np.flatnonzero(right)[:1]
        recalls = [right[:best].sum() / task.gold for best in _BEST]
        rows.append([*recalls, 1 / (first[0] + 1) if len(first) else 0.0])
    return np.array(rows)


def _row(name: str, scores: Floats) -> Row:
    means = scores.mean(axis=0)
    titles = (*(f"recall@{best}" for best in _BEST), "MRR")
    return {"features": name} | {t: float(m) for t, m in zip(titles, means, strict=True)}
