"""Figures: percentiles, recall, what machine they were taken on, and how they are printed.

Owns no measurement of its own and knows nothing of servers, searches or databases.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, TypeVar

import apsw

Row = Mapping[str, str | int | float]
_T = TypeVar("_T")
_PACKAGES = ("stratum-memory", "mcp", "numpy", "sqlite-vec", "apsw")


@dataclass(frozen=True, slots=True)
class Result:
    """What one command measured. All durations in rows and facts are in milliseconds."""

    command: str
    seed: int
    parameters: dict[str, Any]
    environment: dict[str, str | int | float]
    rows: list[Row]
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data for JSON."""
        return dataclasses.asdict(self)


@dataclass(slots=True)
class Clock:
    """Wall and CPU milliseconds of repeated calls; CPU counts all threads of this process."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def time(self, call: Callable[[], _T]) -> _T:
        """Call, keep what it took, return what it returned."""
        cpu, wall = time.process_time(), time.perf_counter()
        answer = call()
        self.wall.append((time.perf_counter() - wall) * 1000)
        self.cpu.append((time.process_time() - cpu) * 1000)
        return answer


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of the values lie, between two linearly.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("no values, no percentile")
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return min, p50, p95 and max."""
    return {
        "min": min(values),
        "p50": percentile(values, 0.5),
        "p95": percentile(values, 0.95),
        "max": max(values),
    }


def recall(found: Sequence[float], exact: Sequence[float], *, k: int, tolerance: float) -> float:
    """Return the share of the `k` best that an approximate search found; 1.0 if none exists.

    Both are scores given by the exact method, `exact` best first. A found score counts when it is
    no worse than the k-th best less `tolerance`, so that it does not matter which one of several
    equal records was taken.
    """
    wanted = min(k, len(exact))
    if not wanted:
        return 1.0
    least = exact[wanted - 1] - tolerance
    return min(wanted, sum(score >= least for score in found[:k])) / wanted


def environment() -> dict[str, str | int | float]:
    """Return what a reader needs to judge the figures: versions, processors and present load."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count() or 0,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else -1.0,
        "sqlite": apsw.sqlite_lib_version(),
        **{package: version(package) for package in _PACKAGES},
    }


def progress(text: str, *, passing: bool = False) -> None:
    """Say on stderr how far the measurement is; stdout carries only results.

    What is `passing` gives its line on a terminal to what is said next.
    """
    if not sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)
        return
    width = shutil.get_terminal_size().columns - 1
    shown, end = (text[:width], "") if passing else (text, "\n")
    print(f"\r\x1b[K{shown}", end=end, file=sys.stderr, flush=True)


def as_text(result: Result) -> str:
    """Return a result as header, table and facts."""
    lines = [f"{result.command}, seed {result.seed}, {_pairs(result.parameters)}"]
    lines += [_pairs(result.environment), "", *table(result.rows)]
    lines += ["", *(f"{name}: {_shown(value)}" for name, value in result.facts.items())]
    return "\n".join(lines)


def table(rows: Sequence[Row]) -> list[str]:
    """Return rows as lines with aligned columns; all rows have the keys of the first."""
    if not rows:
        return []
    columns = list(rows[0])
    cells = [columns, *([_shown(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    numeric = [not isinstance(rows[0][column], str) for column in columns]
    return ["  ".join(_aligned(line, widths, numeric)).rstrip() for line in cells]


def _aligned(line: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> Iterable[str]:
    for text, width, right in zip(line, widths, numeric, strict=True):
        yield text.rjust(width) if right else text.ljust(width)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in values.items())


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    if isinstance(value, dict):
        return _pairs(value)
    return str(value)
