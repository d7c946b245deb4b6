from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stratum import resident as resident_module
from stratum.models import Filters
from stratum.resident import ResidentIndex
from stratum.store import SECTIONS, Space, Store, Worktree, open_store
from tests import make_database_fixture as fixture
from tests.test_store import add_file

WORDS = [f"word{i}" for i in range(200)]
NO_FILTERS = Filters()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "stratum.db")
    yield opened
    opened.close()


@pytest.fixture
def place(store: Store) -> Worktree:
    place = store.add_worktree("example.org/ada/shop", "shop", "/shop")
    rng = random.Random(7)
    for i in range(60):
        add_file(store, place, f"f{i}.py", *rng.sample(WORDS, 5))
    return store.worktree("/shop") or place


@pytest.fixture
def index(store: Store, place: Worktree) -> ResidentIndex:
    built = ResidentIndex(store, place.project_id)
    built.build()
    return built


def scores(ranked: list[tuple[int, float]] | None) -> dict[int, float]:
    assert ranked is not None
    return dict(ranked)


def weights(terms: list[str]) -> dict[str, float]:
    return dict.fromkeys(terms, 1.0)


def test_words_are_scored_by_the_textbook_among_what_can_be_seen(
    store: Store, place: Worktree, index: ResidentIndex
) -> None:
    add_file(store, place, "f0.py", "word1", "word2")  # what stood there before does not count
    place = store.worktree("/shop") or place
    seen = set(store.visible_ids(place))
    rows = [row for row in store.fts_rows(place.project_id, 0) if row[1] == "parts"]
    all_words = {row[0]: [field.split() for field in row[2:]] for row in rows}
    lengths = {id_: 1 + sum(map(len, fields)) for id_, fields in all_words.items()}
    built = [id_ for id_ in lengths if id_ <= max(lengths) - 2]
    mean = sum(lengths[id_] for id_ in built) / len(built)
    words = {id_: fields for id_, fields in all_words.items() if id_ in seen}
    rng = random.Random(3)
    for _ in range(30):
        asked = {word: rng.choice([1.0, 1.7]) for word in rng.sample(WORDS, rng.randint(1, 12))}
        asked |= {"body": 1.0}
        expected: dict[int, float] = {}
        for word, weight in asked.items():
            counts = {
                id_: sum(w * field.count(stem) for w, field in zip((4, 2, 1), fields, strict=True))
                for id_, fields in words.items()
                for stem in [word]
            }
            holding = [id_ for id_, count in counts.items() if count]
            idf = math.log(1 + (len(words) - len(holding) + 0.5) / (len(holding) + 0.5))
            for id_ in holding:
                norm = 1.2 * (0.25 + 0.75 * lengths[id_] / mean)
                share = weight * idf * counts[id_] * 2.2 / (counts[id_] + norm)
                expected[id_] = expected.get(id_, 0.0) + share
        found = scores(index.lexical(place, asked, NO_FILTERS, 1000, "parts"))
        assert found == pytest.approx(expected, rel=1e-3)


def test_the_store_and_the_index_agree_on_what_is_best(
    store: Store, place: Worktree, index: ResidentIndex
) -> None:
    rng = random.Random(3)
    for _ in range(30):
        terms = weights(rng.sample(WORDS, rng.randint(1, 12)))
        for section in SECTIONS:
            expected = scores(store.lexical(place, terms, NO_FILTERS, 1000, section))
            found = scores(index.lexical(place, terms, NO_FILTERS, 1000, section))
            assert found.keys() == expected.keys()


def test_a_word_that_nothing_holds_finds_nothing(place: Worktree, index: ResidentIndex) -> None:
    assert index.lexical(place, weights(["nowhere"]), NO_FILTERS, 10, "parts") == []


def test_what_was_added_after_the_build_is_found(
    store: Store, place: Worktree, index: ResidentIndex
) -> None:
    add_file(store, place, "new.py", "latecomer")
    place = store.worktree("/shop") or place
    assert scores(index.lexical(place, weights(["latecomer"]), NO_FILTERS, 10, "parts"))
    both = weights(["latecomer", "body"])
    expected = scores(store.lexical(place, both, NO_FILTERS, 500, "parts"))
    assert scores(index.lexical(place, both, NO_FILTERS, 500, "parts")).keys() == expected.keys()


def test_what_left_the_tree_is_not_found(
    store: Store, place: Worktree, index: ResidentIndex
) -> None:
    add_file(store, place, "new.py", "latecomer")
    add_file(store, place, "new.py", "successor")
    place = store.worktree("/shop") or place
    assert index.lexical(place, weights(["latecomer"]), NO_FILTERS, 10, "parts") == []
    assert scores(index.lexical(place, weights(["successor"]), NO_FILTERS, 10, "parts"))


def test_a_change_by_another_connection_is_noticed(
    store: Store, place: Worktree, index: ResidentIndex
) -> None:
    other = open_store(store.path)
    add_file(other, place, "new.py", "latecomer")
    other.close()
    place = store.worktree("/shop") or place
    assert scores(index.lexical(place, weights(["latecomer"]), NO_FILTERS, 10, "parts"))


@pytest.mark.parametrize("built_between", [False, True])
def test_a_note_that_was_changed_is_found_by_its_new_words_only(
    store: Store, place: Worktree, index: ResidentIndex, built_between: bool
) -> None:
    note = fixture.NOTE
    with store.transaction():
        words = fixture.record(note.id, "notes", "gotcha", "", "alpha")
        store.add_note(place.project_id, note, words, "1")
    assert scores(index.lexical(place, weights(["alpha"]), NO_FILTERS, 10, "parts"))
    if built_between:
        index.build()
    with store.transaction():
        words = fixture.record(note.id, "notes", "gotcha", "", "omega")
        store.replace_note(note, words, "2")
    assert index.lexical(place, weights(["alpha"]), NO_FILTERS, 10, "parts") == []
    assert scores(index.lexical(place, weights(["omega"]), NO_FILTERS, 10, "parts"))


def test_filters_give_what_the_store_gives(
    store: Store, place: Worktree, index: ResidentIndex
) -> None:
    filters = Filters(path="f7.py")
    expected = scores(store.lexical(place, weights(["body"]), filters, 10, "parts"))
    assert len(expected) == 5
    found = scores(index.lexical(place, weights(["body"]), filters, 10, "parts"))
    assert found.keys() == expected.keys()


def test_a_filter_that_needs_more_than_the_margin_is_left_to_the_store(
    place: Worktree, index: ResidentIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident_module, "_FILTER_MARGIN", 5)
    assert index.lexical(place, weights(["body"]), Filters(path="f59.py"), 5, "parts") is None


def test_a_tail_that_grew_too_long_asks_for_a_new_build(
    store: Store, place: Worktree, index: ResidentIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident_module, "_TAIL_RECORDS", 3)
    monkeypatch.setattr(resident_module, "_TAIL_SHARE", 0.0)
    add_file(store, place, "new.py", "one", "two", "three", "four")
    place = store.worktree("/shop") or place
    assert index.lexical(place, weights(["one"]), NO_FILTERS, 10, "parts") is None
    assert not index.ready
    index.build()
    assert scores(index.lexical(place, weights(["one"]), NO_FILTERS, 10, "parts"))


def embed_all(store: Store, space: Space, centres: np.ndarray, rng: np.random.Generator) -> None:
    rows = store.pending(space.id, None, 100_000)
    vectors = centres[rng.integers(0, len(centres), len(rows))]
    vectors = vectors + 0.35 * rng.normal(size=vectors.shape) / np.sqrt(vectors.shape[1])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    packed = np.ascontiguousarray(vectors, np.float32)
    store.put_vectors(space, ((*row, packed[i].tobytes()) for i, row in enumerate(rows)))


def clustered(dimension: int, rng: np.random.Generator) -> np.ndarray:
    """Return unit vectors in a narrow cone, as sentence encoders give them."""
    centres = rng.normal(size=(200, dimension)) + 0.7 * rng.normal(size=dimension)
    return np.asarray(centres / np.linalg.norm(centres, axis=1, keepdims=True))


def test_vectors_are_ranked_as_the_store_ranks_them(
    store: Store, place: Worktree, index: ResidentIndex
) -> None:
    rng = np.random.default_rng(5)
    space = store.add_space("f" * 16, "test", 128)
    centres = clustered(128, rng)
    embed_all(store, space, centres, rng)
    for query in centres[:20].astype(np.float32):
        expected = store.nearest(space, place, query.tobytes(), NO_FILTERS, 10)
        found = index.nearest(space, place, query, NO_FILTERS, 10)
        assert scores(found) == pytest.approx(scores(expected), abs=1e-4)


def test_new_and_replaced_vectors_are_taken_in(
    store: Store, place: Worktree, index: ResidentIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident_module, "_VECTOR_PAUSE", 0.0)
    rng = np.random.default_rng(5)
    space = store.add_space("f" * 16, "test", 64)
    embed_all(store, space, clustered(64, rng), rng)
    query = np.zeros(64, np.float32)
    query[3] = 1.0
    assert len(scores(index.nearest(space, place, query, NO_FILTERS, 5))) == 5
    add_file(store, place, "new.py", "exact")
    for id_, title, text in store.pending(space.id, None, 10):
        vector = query if title == "exact" else -query
        store.put_vectors(space, [(id_, title, text, vector.tobytes())])
    place = store.worktree("/shop") or place
    best = index.nearest(space, place, query, NO_FILTERS, 1)
    assert best is not None
    assert store.records(place, [best[0][0]])[best[0][0]].title == "exact"


def test_recall_of_the_sign_bits_is_at_least_99_in_100(
    store: Store, place: Worktree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident_module, "_BITS_FROM", 100)
    monkeypatch.setattr(resident_module, "_BLOCK", 1024)
    monkeypatch.setattr(resident_module, "_RESCORED", 100)
    for i in range(40):
        add_file(store, place, f"many{i}.py", *(f"n{i}x{j}" for j in range(100)))
    place = store.worktree("/shop") or place
    rng = np.random.default_rng(11)
    space = store.add_space("f" * 16, "test", 384)
    centres = clustered(384, rng)
    embed_all(store, space, centres, rng)
    index = ResidentIndex(store, place.project_id)
    index.build()
    hits = 0
    queries = centres[:50] + 0.3 * rng.normal(size=(50, 384)) / np.sqrt(384)
    for query in (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32):
        exact = store.nearest(space, place, query.tobytes(), NO_FILTERS, 10)
        found = index.nearest(space, place, query, NO_FILTERS, 10)
        hits += len(scores(exact).keys() & scores(found).keys())
    assert hits / 500 >= 0.99


def test_an_empty_project_finds_nothing(store: Store) -> None:
    place = store.add_worktree("example.org/ada/empty", "empty", "/empty")
    index = ResidentIndex(store, place.project_id)
    index.build()
    space = store.add_space("e" * 16, "test", 64)
    assert index.lexical(place, weights(["word1"]), NO_FILTERS, 10, "parts") == []
    assert index.nearest(space, place, np.ones(64, np.float32), NO_FILTERS, 10) == []
