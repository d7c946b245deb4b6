"""What the answers of `retrieval` add up to: means, intervals, strata; and how they are printed.

Pure: lines in, rows and facts out.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stratum.paths import is_test
from stratum_bench.measure import Result, Row, as_text, percentile, spread, table
from stratum_bench.retrieval_scores import METRICS, intervals, mean, measures

Line = Mapping[str, Any]
Columns = dict[str, dict[str, list[float]]]  # arm -> metric -> a value for each task

FIRST = "stratum"  # the arm that all others are compared with
_OUT = "gold files that are no candidates"
_SHOWN = ("R@1", "R@5", "R@10", "MRR")


def rows(judged: Sequence[Line], arms: Sequence[str], ranks: str = "ranks") -> list[Row]:
    """Return a row of means for each arm; `ranks` names what is ranked."""
    found: list[Row] = []
    for arm, own in _columns(judged, _ranked(judged, arms), ranks).items():
        found.append({"arm": arm, "n": len(judged), **{name: mean(v) for name, v in own.items()}})
    return found


def facts(lines: Sequence[Line], arms: Sequence[str], seed: int) -> dict[str, Any]:
    """Return everything else: intervals, strata, symbols, packs, times, what was not judged."""
    judged = [line for line in lines if "arms" in line]
    arms = _ranked(judged, arms)
    symbols = [line for line in judged if line["gold_symbols"]]
    with_symbols = [arm for arm in arms if symbols and "symbol_ranks" in symbols[0]["arms"][arm]]
    found: dict[str, Any] = {
        "judged": len(judged),
        "skipped": _by_reason(lines, "skipped"),
        "failed": _by_reason(lines, "error"),
        _OUT: {
            kind: [
                f"{line['task']}: {path}"
                for line in judged
                for path in line["not_candidates"]
                if is_test(path) == (kind == "tests")
            ]
            for kind in ("tests", "no source")
        },
        "pooled": _scored(judged, arms, "ranks", seed),
        "symbols": _scored(symbols, with_symbols, "symbol_ranks", seed),
        "packs": _packs([line for line in judged if "pack" in line], seed),
        "what packs cost": _pack_costs([line for line in judged if "pack" in line]),
        "strata": {},
        "milliseconds": _times(judged, arms),
    }
    for kind, key in _STRATA.items():
        groups: dict[str, list[Line]] = {}
        for line in judged:
            groups.setdefault(key(line), []).append(line)
        found["strata"][kind] = {
            name: _scored(group, arms, "ranks", seed) for name, group in sorted(groups.items())
        }
    return found


def report(result: Result) -> str:
    """Return a result as text for a terminal."""
    told = result.facts
    plain = {key: told[key] for key in ("judged", "skipped", "failed") if told[key]}
    plain[_OUT] = {kind: len(files) for kind, files in told[_OUT].items()}
    parts = [as_text(dataclasses.replace(result, rows=_means(told["pooled"]), facts=plain))]
    parts += _section("Files: 95 % intervals", _spans(told["pooled"]))
    parts += _section(f"Files: {FIRST} less the other, 95 % intervals", _gaps(told["pooled"]))
    parts += _section("Symbols: means", _means(told["symbols"]))
    parts += _section(f"Symbols: {FIRST} less the other", _gaps(told["symbols"]))
    parts += _section(
        f"Files by kind of task: R@1, R@5, R@10 of {FIRST}, R@5 of the others",
        _strata(told["strata"]),
    )
    parts += [*_section("Packs", told["packs"]), *table(told["what packs cost"])]
    parts += _section("Milliseconds of a question", told["milliseconds"])
    return "\n".join(parts)


_STRATA: dict[str, Callable[[Line], str]] = {
    "leak": lambda line: str(line["leak"]),
    "named": lambda line: "unnamed" if line["unnamed"] else "named",
    "repository": lambda line: str(line["repo"]),
    "language": lambda line: str(line["language"]),
}


def _ranked(judged: Sequence[Line], arms: Sequence[str]) -> list[str]:
    """Return the arms that give an order: a pack gives a text."""
    return [arm for arm in arms if judged and arm in judged[0]["arms"]]


def _columns(judged: Sequence[Line], arms: Sequence[str], ranks: str) -> Columns:
    found: Columns = {}
    for arm in arms:
        each = [measures(line["arms"][arm][ranks]) for line in judged]
        found[arm] = {metric: [one[metric] for one in each] for metric in METRICS}
    return found


def _scored(judged: Sequence[Line], arms: Sequence[str], ranks: str, seed: int) -> dict[str, Any]:
    """Return means with intervals of each arm, and of what the first arm has over it."""
    if not judged or not arms:
        return {"n": 0, "arms": {}}
    columns = _columns(judged, arms, ranks)
    flat = {f"{arm} {metric}": v for arm, own in columns.items() for metric, v in own.items()}
    for arm in arms:
        if FIRST in columns and arm != FIRST:
            for metric in METRICS:
                pairs = zip(columns[FIRST][metric], columns[arm][metric], strict=True)
                flat[f"less {arm} {metric}"] = [one - other for one, other in pairs]
    spans = intervals(flat, seed)
    shown: dict[str, Any] = {}
    for arm in arms:
        shown[arm] = {"means": {}, "lead": {}}
        for metric in METRICS:
            for part, name in (("means", f"{arm} {metric}"), ("lead", f"less {arm} {metric}")):
                if name in flat:
                    low, high = spans[name]
                    told = {"mean": mean(flat[name]), "low": low, "high": high}
                    shown[arm][part][metric] = {key: round(v, 4) for key, v in told.items()}
    return {"n": len(judged), "arms": shown}


def _packs(packs: Sequence[Line], seed: int) -> list[Row]:
    """Return how often a pack names what was edited, with intervals, and what it costs."""
    files = [line["pack"]["files"] for line in packs]
    symbols = [line["pack"]["symbols"] for line in packs if line["pack"]["symbols"]]
    shares = {
        "an edited file": [float(any(one)) for one in files],
        "all edited files": [float(all(one)) for one in files],
        "an edited symbol's lines": [float(any(one)) for one in symbols],
        "all edited symbols' lines": [float(all(one)) for one in symbols],
    }
    found: list[Row] = []
    for what, values in shares.items():
        if values:
            low, high = intervals({what: values}, seed)[what]
            found.append({"packs with": what, "n": len(values), "share": round(mean(values), 4),
                          "low": round(low, 4), "high": round(high, 4)})  # fmt: skip
    return found


def _pack_costs(packs: Sequence[Line]) -> list[Row]:
    found: list[Row] = []
    for what in ("tokens", "lines", "ms"):
        values = [float(line["pack"][what]) for line in packs]
        if values:
            found.append({"a pack's": what, **spread(values)})
    return found


def _times(judged: Sequence[Line], arms: Sequence[str]) -> list[Row]:
    found: list[Row] = []
    for arm in arms:
        times = [line["arms"][arm]["ms"] for line in judged if "ms" in line["arms"][arm]]
        if times:
            found.append(
                {"arm": arm, "p50": percentile(times, 0.5), "p95": percentile(times, 0.95)}
            )
    return found


def _by_reason(lines: Sequence[Line], key: str) -> dict[str, int]:
    return dict(Counter(line[key] for line in lines if key in line))


def _section(title: str, shown: Sequence[Row]) -> list[str]:
    return ["", title, *table(shown)] if shown else []


def _means(scored: Mapping[str, Any]) -> list[Row]:
    return [
        {"arm": arm, "n": scored["n"]}
        | {metric: f"{own['means'][metric]['mean']:.3f}" for metric in METRICS}
        for arm, own in scored["arms"].items()
    ]


def _spans(scored: Mapping[str, Any]) -> list[Row]:
    return [
        {"arm": arm} | {metric: _span(own["means"][metric], ".2f") for metric in METRICS}
        for arm, own in scored["arms"].items()
    ]


def _gaps(scored: Mapping[str, Any]) -> list[Row]:
    return [
        {"less": arm}
        | {
            metric: f"{own['lead'][metric]['mean']:+.3f} {_span(own['lead'][metric], '+.2f')}"
            for metric in _SHOWN
        }
        for arm, own in scored["arms"].items()
        if own["lead"]
    ]


def _span(told: Mapping[str, float], form: str) -> str:
    return f"[{told['low']:{form}},{told['high']:{form}}]"


def _strata(strata: Mapping[str, Any]) -> list[Row]:
    found: list[Row] = []
    for kind, groups in strata.items():
        for name, scored in groups.items():
            row: dict[str, str | int | float] = {"by": kind, "which": name, "n": scored["n"]}
            for arm, own in scored["arms"].items():
                shown = _SHOWN[:3] if arm == FIRST else ("R@5",)
                row[arm] = " ".join(f"{own['means'][metric]['mean']:.2f}" for metric in shown)
            found.append(row)
    return found
