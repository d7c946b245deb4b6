from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratum.ranking import (
    FILE_WEIGHTS,
    NOTE_WEIGHTS,
    PAST_FILES,
    PLACE_WEIGHTS,
    RELATIVE,
    from_past,
    fuse,
    interleaved,
    scored,
    stretched,
    summed,
)

FEATURES = st.dictionaries(
    st.sampled_from(sorted(FILE_WEIGHTS)),
    st.dictionaries(st.sampled_from("abcdef"), st.just(0.0) | st.floats(1e-3, 1e6), max_size=6),
)


def test_a_score_is_the_weighted_sum_and_relative_features_count_by_their_best() -> None:
    found = scored(
        {"words": {"a": 10.0, "b": 5.0}, "named": {"b": 1.0}}, {"words": 2.0, "named": 3.0}
    )
    assert found["a"].score == pytest.approx(2.0)
    assert found["b"].score == pytest.approx(2.0 * 0.5 + 3.0)
    assert found["b"].why == (("named", 3.0), ("words", 1.0))


@given(FEATURES)
def test_the_shares_of_an_explanation_add_up_to_the_score(
    features: dict[str, dict[str, float]],
) -> None:
    for found in scored(features, FILE_WEIGHTS).values():
        assert math.isclose(sum(share for _, share in found.why), found.score, abs_tol=1e-9)
        half = found.scaled(0.5)
        assert math.isclose(sum(share for _, share in half.why), half.score, abs_tol=1e-9)


@given(FEATURES, st.floats(1e-3, 1e3))
def test_the_scale_of_a_relative_feature_does_not_matter(
    features: dict[str, dict[str, float]], factor: float
) -> None:
    bigger = {
        name: {key: value * factor for key, value in values.items()} if name in RELATIVE else values
        for name, values in features.items()
    }
    one, other = scored(features, FILE_WEIGHTS), scored(bigger, FILE_WEIGHTS)
    for key in one.keys() & other.keys():
        assert math.isclose(one[key].score, other[key].score, rel_tol=1e-6, abs_tol=1e-6)


def test_every_relative_feature_has_a_weight() -> None:
    assert {*FILE_WEIGHTS, *PLACE_WEIGHTS, *NOTE_WEIGHTS} >= RELATIVE


def test_each_further_definition_of_a_file_counts_less() -> None:
    assert summed([1.0, 2.0]) == pytest.approx(2.0 + 0.6)
    assert summed([2.0]) < summed([2.0, 1.0]) < 2 * summed([2.0])
    assert summed([1.0] * 5) == summed([1.0] * 50)


def test_past_commits_speak_for_their_files_and_large_ones_for_none() -> None:
    found = from_past([(10.0, 1.0, ["a", "b"]), (5.0, 1.0, ["b"]), (9.0, 1.0, map_of(99))])
    assert found == pytest.approx({"a": 2**-0.5, "b": 2**-0.5 + 1 / 8})
    assert from_past([]) == {}
    assert from_past([(10.0, 0.5, ["a"])]) == {"a": 0.5}


def map_of(count: int) -> list[str]:
    assert count > PAST_FILES
    return [f"f{number}" for number in range(count)]


def test_near_ones_are_stretched_and_the_last_still_counts() -> None:
    assert stretched([("a", 0.8), ("b", 0.7), ("c", 0.6)]) == pytest.approx(
        {"a": 1.0, "b": 0.55, "c": 0.1}
    )
    assert stretched([("a", 0.3)]) == {"a": 1.0}
    assert stretched([]) == {}


def test_fusion_is_the_sum_of_reciprocal_ranks() -> None:
    scores = fuse([[1, 2], [2, 3]], k=60)
    assert scores[1] == pytest.approx(1 / 61)
    assert scores[2] == pytest.approx(1 / 62 + 1 / 61)
    assert scores[3] == pytest.approx(1 / 62)


def test_past_commits_take_every_so_manieth_place() -> None:
    assert interleaved("abcdefgh", "123", 3) == list("ab1cd2ef3gh")
    assert interleaved("ab", "123", 3) == list("ab123")
