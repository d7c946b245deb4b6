"""The figures of the truth benchmark: verdicts beside the truth, counted.

Owns what counts as a stale note that was served, a fresh one that was withheld and a wrong place.
Pure: made-up verdicts are judged like real ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stratum_bench.measure import Row
from stratum_bench.truth_tree import Place, Truth

SERVED = ("fresh", "moved")
_LINES = re.compile(r"^\d+ lines?\b")
# Shares of fresh notes that may be withheld, by what was done to the tree.
BARS = {"move": 0.02, "format": 0.02, "edit": 0.01, "history": 0.01}


@dataclass(frozen=True, slots=True)
class Seen:
    """What Stratum said of a note: the verdict and where it shows the place."""

    freshness: str
    path: str | None = None
    start_line: int | None = None
    end_line: int | None = None
    symbol: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """One note after one change: what was done, what Stratum said, what is true.

    `group` is history, move, format or edit; `change` says which.
    """

    repository: str
    language: str
    group: str
    change: str
    place: Place
    seen: Seen
    truth: Truth

    @property
    def fault(self) -> str:
        """Say what is wrong with the verdict, "" when nothing is or nobody can tell."""
        state, served = self.truth.state, self.seen.freshness in SERVED
        if state in ("edited", "deleted"):
            return "stale served" if served else ""
        if state == "renamed":
            last = (self.seen.symbol or "").rsplit(".", 1)[-1]
            named = self.seen.freshness == "moved" and last.rstrip("?!=") == self.truth.name
            return "stale served" if served and not named else ""
        if state == "unjudged":
            return ""
        if not served:
            return "fresh withheld"
        return "wrong place" if self.truth.places and not self._at_place else ""

    @property
    def _at_place(self) -> bool:
        seen = self.seen
        first, last = seen.start_line or 0, seen.end_line or 0
        return any(
            path == seen.path
            # lines may be shown as the whole definition that they stand in
            and (first <= line <= last if self.place.kind == "lines" else line == first)
            for path, line in self.truth.places
        )


def rows(judged: Sequence[Judged]) -> list[Row]:
    """Return one row for each repository, language, kind of place and change."""
    groups: dict[tuple[str, str, str, str], list[Judged]] = {}
    for one in judged:
        key = (one.repository, one.language, f"{one.group}: {one.change}", one.place.kind)
        groups.setdefault(key, []).append(one)
    return [_row(key, found) for key, found in groups.items()]


def _row(key: tuple[str, str, str, str], found: Sequence[Judged]) -> Row:
    repository, language, change, kind = key
    return {"repository": repository, "language": language, "change": change, "kind": kind} | {
        name.replace("_", " "): value for name, value in counts(found).items()
    }


def counts(judged: Iterable[Judged]) -> dict[str, int | float]:
    """Count notes, judged ones and faults; `withheld_percent` is of those that are fresh."""
    found = list(judged)
    told = [one for one in found if one.truth.state != "unjudged"]
    fresh = sum(one.truth.state in ("same", "moved") for one in told)
    faults = Counter(one.fault for one in told)
    return {
        "notes": len(found),
        "judged": len(told),
        "fresh": fresh,
        "stale_served": faults["stale served"],
        "fresh_withheld": faults["fresh withheld"],
        "withheld_percent": 100 * faults["fresh withheld"] / fresh if fresh else 0.0,
        "wrong_place": faults["wrong place"],
    }


def facts(judged: Sequence[Judged]) -> dict[str, Any]:
    """Return the pooled figures: by group, by truth and verdict, faults by cause, not judged."""
    groups = {group: [one for one in judged if one.group == group] for group in BARS}
    groups = {group: found for group, found in groups.items() if found}
    pooled = {group: counts(found) for group, found in groups.items()}
    # an unchanged file is easily judged: a bar holds where something happened
    held = {
        group: _holds(group, counts(in_changed_files(found))) for group, found in groups.items()
    }
    kinds = {
        f"{group}, {kind}": counts(one for one in found if one.place.kind == kind)
        for group, found in groups.items()
        for kind in ("symbol", "lines", "file")
    }
    return {
        "pooled": counts(judged),
        "pooled, files that changed": counts(in_changed_files(judged)),
        **pooled,
        **kinds,
        "bars": held,
        "verdicts": _tally(f"{one.truth.state} -> {one.seen.freshness}" for one in judged),
        "faults": _tally(
            f"{one.fault}: {one.group}, {one.place.kind}, {one.truth.state} ({one.truth.cause}) -> "
            f"{one.seen.freshness}"
            for one in judged
            if one.fault
        ),
        "causes": _tally(
            f"{one.place.kind}, {one.truth.state} ({_LINES.sub('lines', one.truth.cause)})"
            for one in in_changed_files(judged)
            if one.truth.state != "unjudged"
        ),
        "not judged": _tally(one.truth.cause for one in judged if one.truth.state == "unjudged"),
    }


def in_changed_files(judged: Iterable[Judged]) -> list[Judged]:
    """Return the notes on files that did not stay as they were."""
    return [one for one in judged if one.truth.cause != "file unchanged"]


def _holds(group: str, figures: dict[str, int | float]) -> str:
    stale, share = figures["stale_served"], figures["withheld_percent"]
    good = stale == 0 and share <= 100 * BARS[group]
    word = "held" if good else "broken"
    return (
        f"{word}: {stale} stale served, {share:.2f} % withheld of at most {100 * BARS[group]:.0f}"
    )


def _tally(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())
