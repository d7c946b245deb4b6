"""Features of files, definitions and notes -> one order; pure: numbers in, numbers out.

A file's score is a weighted sum of a few features. The weights were learned on real issues and the
files that their fixes changed: `python -m stratum_bench weights` makes this table, cross-validated
over repositories, and docs/decisions.md says what each feature brings and which brought nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Hit = TypeVar("Hit")
Key = TypeVar("Key")
# A feature's values by what they are about: a path, or the id of a record.
Features = Mapping[str, Mapping[Key, float]]

# Reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009) with its textbook constant.
RRF_K = 60

# Relative features are divided by their largest value, so that they say "as good as the best one".
FILE_WEIGHTS = {
    "words": 2.2,  # BM25 over whole files: path, heads and docs of definitions, content
    "title words": 2.9,  # the same for the first line: it says most with the fewest words
    "definitions": 2.5,  # BM25 of the best definitions in it, each next one counting less
    "path words": 1.7,  # words of the path
    "past": 1.9,  # past commits like the first line that touched it
    "meaning": 1.0,  # nearness of the first line's vector, of the file or a definition in it
    "named": 1.0,  # its path or module is said
    "names": 0.3,  # it defines what is named
    "frame": 0.7,  # a traceback runs through it, best in the last frame
    "notes": 2.5,  # notes like the text that are anchored in it and hold: as good as definitions
}
PLACE_WEIGHTS = {
    "words": 4.5,  # BM25 of the definition
    "title words": 2.1,  # the same for the first line
    "meaning": 1.0,  # nearness of the first line's vector
    "named": 0.8,  # its name is said, or a traceback runs through it
    "function": 0.6,  # rather than a class, whose methods are told by themselves, or a constant
}
# A note has no path, content or past to be scored by: what it has is as good as all of these.
NOTE_WEIGHTS = {"words": 1.0, "title words": 1.0, "meaning": 1.0}
RELATIVE = frozenset(["words", "title words", "definitions", "path words", "past"])

# How much the next best definition of the same file counts, and how many do.
DEFINITION_DECAY, DEFINITIONS_COUNTED = 0.6, 5
# A past commit counts by this power of its likeness, so that a few alike outweigh many others.
PAST_POWER = 3
# A commit that touched more files than this says nothing about any of them.
PAST_FILES = 20
# Each further place of a file compared with the one before: other files come first.
NEXT_PLACE = 0.5
# The best test beside the best of the code: where nobody asks for tests, and where somebody does.
TEST_SHARE, ASKED_TEST_SHARE = 0.5, 1.25
# A note that is as like the query as the best definition: somebody found it worth writing down.
NOTE_SHARE = 1.1
# A note that came from another machine and that nobody here has accepted, beside one's own.
UNACCEPTED_SHARE = 0.7
# Every so many hits one is a past commit: it shows where the like was fixed, the others what is
# there. Scores cannot decide it, since commits are ranked by themselves.
HISTORY_EVERY = 5


@dataclass(frozen=True, slots=True)
class Scored:
    """A score and the shares that it is made of, as (feature, share) before `factor`."""

    score: float
    shares: Sequence[tuple[str, float]] = ()
    factor: float = 1.0

    @property
    def why(self) -> tuple[tuple[str, float], ...]:
        """The shares, the largest first."""
        ordered = sorted(self.shares, key=lambda pair: (-abs(pair[1]), pair[0]))
        return tuple((name, share * self.factor) for name, share in ordered)

    def scaled(self, factor: float) -> Scored:
        """Return the same with everything multiplied."""
        return Scored(self.score * factor, self.shares, self.factor * factor)


def scored(
    features: Features[Key], weights: Mapping[str, float], *, relative: bool = True
) -> dict[Key, Scored]:
    """Return the weighted sum of the features for everything that has one of them.

    Relative features are divided by their largest value first, unless they are already; what has
    no value counts 0.
    """
    shares: dict[Key, list[tuple[str, float]]] = {}
    for name, values in features.items():
        largest = max(values.values(), default=0.0) if relative and name in RELATIVE else 1.0
        if largest <= 0:
            continue
        for key, value in values.items():
            if value:
                shares.setdefault(key, []).append((name, weights[name] * value / largest))
    return {key: Scored(sum([share for _, share in own]), own) for key, own in shares.items()}


def summed(best: Sequence[float]) -> float:
    """Return one score for a file of those of its definitions, in any order."""
    ordered = sorted(best, reverse=True)[:DEFINITIONS_COUNTED]
    return sum(score * DEFINITION_DECAY**rank for rank, score in enumerate(ordered))


def from_past(
    likeness: Sequence[tuple[float, float, Collection[str]]],
) -> dict[str, float]:
    """Return scores of files from past commits, best first, as (likeness, weight, files)."""
    found: dict[str, float] = {}
    if not likeness:
        return found
    most = likeness[0][0]
    for like, weight, files in likeness:
        if 0 < len(files) <= PAST_FILES:
            share = weight * (like / most) ** PAST_POWER / len(files) ** 0.5
            for path in files:
                found[path] = found.get(path, 0.0) + share
    return found


def stretched(ranked: Sequence[tuple[Key, float]]) -> dict[Key, float]:
    """Return scores, best first, as 1 for the best down to a tenth for the last.

    Cosines of the best hundred lie close together, and where depends on the model.
    """
    if not ranked:
        return {}
    most, least = ranked[0][1], ranked[-1][1]
    return {
        key: 0.1 + 0.9 * ((score - least) / (most - least) if most > least else 1.0)
        for key, score in ranked
    }


def fuse(lists: Sequence[Sequence[int]], k: int = RRF_K) -> dict[int, float]:
    """Return the reciprocal rank fusion of ranked ids: the sum of 1 / (k + rank), rank from 1."""
    scores: dict[int, float] = {}
    for ranked in lists:
        for rank, id_ in enumerate(ranked, start=1):
            scores[id_] = scores.get(id_, 0.0) + 1.0 / (k + rank)
    return scores


def interleaved(present: Sequence[Hit], past: Sequence[Hit], every: int) -> list[Hit]:
    """Return two ranked lists as one in which each `every`-th is of `past` while there are any."""
    found: list[Hit] = []
    left, later = list(reversed(present)), list(reversed(past))
    while left or later:
        take_past = later and (not left or (len(found) + 1) % every == 0)
        found.append(later.pop() if take_past else left.pop())
    return found
