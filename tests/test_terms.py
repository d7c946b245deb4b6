from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratum.terms import capped, query_terms, similarity, split_identifiers, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("get_queryset", ["get_queryset", "get", "queryset"]),
        ("QuerySetMixin", ["querysetmixin", "query", "set", "mixin"]),
        ("django.db.models", ["django.db.models", "django", "db", "models"]),
        ("HTTPResponse", ["httpresponse", "http", "response"]),
        ("__init__", ["__init__", "init"]),
        ("self.assertEqual", ["assertequal", "assert", "equal"]),
        ("utf8", ["utf8", "utf", "8"]),
        ("plain words, here.", ["plain", "words", "here"]),
        ("Größe", ["größe"]),
        ("日本語", ["日", "本", "語", "日本", "本語"]),
        ("foo名前", ["foo", "名", "前", "名前"]),
        ("", []),
        ("+-*/ ()", []),
    ],
)
def test_identifiers_are_split_and_kept_whole(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_a_run_too_long_to_be_a_word_is_cut() -> None:
    assert terms("a" * 500) == ["a" * 64]


def test_stop_words_are_dropped_from_queries() -> None:
    assert query_terms("where is the QuerySet deleted") == [
        "queryset", "query", "set", "deleted",
    ]  # fmt: skip


def test_a_query_of_stop_words_alone_keeps_them() -> None:
    assert query_terms("to be or not to be") == ["to", "be", "or", "not"]


def test_repetitions_in_a_body_are_capped() -> None:
    assert list(capped("x x x x y", most=2)) == ["x", "x", "y"]


def test_identifiers_are_written_in_words_for_a_model() -> None:
    assert split_identifiers("SessionStore.delete_expired: a plain Word") == (
        "Session Store delete expired a plain Word"
    )


def test_similarity_is_the_share_of_common_terms() -> None:
    assert similarity(["a", "b", "c"], ["b", "c", "d"]) == 0.5
    assert similarity([], []) == 0.0


@given(st.text())
def test_terms_contain_no_white_space_and_are_lower_case(text: str) -> None:
    for term in terms(text):
        assert term == "".join(term.split())
        assert term
        assert not any(character.isascii() and character.isupper() for character in term)


@given(st.text(), st.text())
def test_a_term_of_a_part_is_a_term_of_the_whole(left: str, right: str) -> None:
    assert set(terms(left)) <= set(terms(f"{left} {right}"))
