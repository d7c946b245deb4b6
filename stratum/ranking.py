"""Fusion of ranked lists into one order; pure: numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

Hit = TypeVar("Hit")

# Reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009) with its textbook constant.
RRF_K = 60
# What a symbol inherits of its file's score: the path and the module's purpose are said there only.
FILE_SHARE = 0.5


# Every so many hits one is a past commit: it shows where the like was fixed, the others what is
# there. Scores cannot decide it, since commits are ranked by themselves.
HISTORY_EVERY = 5
# What a hit in the tests counts: they repeat the words of the code they test.
TEST_SHARE = 0.5


def fuse(lists: Sequence[Sequence[int]], k: int = RRF_K) -> dict[int, float]:
    """Return the reciprocal rank fusion of ranked ids: the sum of 1 / (k + rank), rank from 1."""
    scores: dict[int, float] = {}
    for ranked in lists:
        for rank, id_ in enumerate(ranked, start=1):
            scores[id_] = scores.get(id_, 0.0) + 1.0 / (k + rank)
    return scores


def without_handicap(
    scores: Mapping[int, float], waiting: Collection[int], lists: int
) -> dict[int, float]:
    """Return the scores with those of records that have no vector yet raised to a full vote.

    They stand in one of `lists` lists only because their vectors are still to be made; without
    this a note could not be found among code in the seconds after it was written.
    """
    return {id_: score * lists if id_ in waiting else score for id_, score in scores.items()}


def with_file_share(scores: Mapping[int, float], files: Mapping[int, int]) -> dict[int, float]:
    """Return the scores with each record lifted by its file; `files` maps record to file id.

    A file has no entry, so that a symbol with its exact lines goes before it. A note is its own
    file, or any symbol would pass it.
    """
    return {
        id_: score + FILE_SHARE * scores.get(files[id_], 0.0) if id_ in files else score
        for id_, score in scores.items()
    }


def with_tests_lowered(scores: Mapping[int, float], tests: Collection[int]) -> dict[int, float]:
    """Return the scores with those of test code lowered."""
    return {id_: score * TEST_SHARE if id_ in tests else score for id_, score in scores.items()}


def interleaved(present: Sequence[Hit], past: Sequence[Hit], every: int) -> list[Hit]:
    """Return two ranked lists as one in which each `every`-th is of `past` while there are any."""
    found: list[Hit] = []
    left, later = list(reversed(present)), list(reversed(past))
    while left or later:
        take_past = later and (not left or (len(found) + 1) % every == 0)
        found.append(later.pop() if take_past else left.pop())
    return found
