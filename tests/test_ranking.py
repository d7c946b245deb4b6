from __future__ import annotations

import pytest

from stratum.ranking import fuse, interleaved, with_file_share, with_tests_lowered, without_handicap


def test_fusion_is_the_sum_of_reciprocal_ranks() -> None:
    scores = fuse([[1, 2], [2, 3]], k=60)
    assert scores[1] == pytest.approx(1 / 61)
    assert scores[2] == pytest.approx(1 / 62 + 1 / 61)
    assert scores[3] == pytest.approx(1 / 62)


def test_a_symbol_inherits_half_of_its_files_score_and_a_note_half_of_its_own() -> None:
    lifted = with_file_share({1: 0.2, 2: 0.1, 3: 0.1, 4: 0.1}, {2: 1, 3: 99, 4: 4})
    assert lifted == pytest.approx({1: 0.2, 2: 0.2, 3: 0.1, 4: 0.15})


def test_a_record_that_waits_for_its_vector_has_a_full_vote() -> None:
    assert without_handicap({1: 0.2, 2: 0.1}, {2}, 2) == {1: 0.2, 2: 0.2}


def test_code_of_tests_counts_half() -> None:
    assert with_tests_lowered({1: 0.2, 2: 0.2}, {2}) == {1: 0.2, 2: 0.1}


def test_past_commits_take_every_so_manieth_place() -> None:
    assert interleaved("abcdefgh", "123", 3) == list("ab1cd2ef3gh")
    assert interleaved("ab", "123", 3) == list("ab123")
    assert interleaved("", "12", 3) == ["1", "2"]
    assert interleaved("abc", "", 3) == ["a", "b", "c"]
