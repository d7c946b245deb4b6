from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stratum import Memory, Settings, load
from stratum.models import MODES, Filters, Hit
from tests.conftest import SAMPLE, git, make_repository

Open = Callable[..., Memory]

# Two files with the same words, in the first of them more often.
DECOY, RIGHT = "aa/early.py", "zz/late.py"
TWINS = {
    DECOY: '''"""Totals of rows."""


def total_rows(rows):
    """Return the totals of all rows, calling reckon where rows have totals."""
    return sum(rows.totals)
''',
    RIGHT: '''"""Totals of rows."""


def reckon(rows):
    """Return the totals."""
    return sum(rows.totals)
''',
    "other.py": "def unlike():\n    return 1\n",
}
PLAIN = "Wrong totals of rows"


@pytest.fixture
def opened(settings: Settings, tmp_path: Path):
    """Opens memories over new repositories and closes them at the end."""
    memories: list[Memory] = []

    def open_one(files: dict[str, str], *, resident: bool = False, name: str = "r") -> Memory:
        root = tmp_path / name
        if not root.exists():
            root.mkdir()
            make_repository(root, files)
        memory = Memory(settings, root, resident=resident)
        memories.append(memory)
        memory.index()
        if resident:
            memory.warm_up()
        return memory

    yield open_one
    for memory in memories:
        memory.close()


def lexical(memory: Memory, query: str) -> list[Hit]:
    return list(memory.search(query, mode="lexical", explain=True).hits)


def files(hits: list[Hit]) -> list[str]:
    return list(dict.fromkeys(h.path for h in hits if h.stratum == "code" and h.path))


def features(hits: list[Hit], path: str) -> dict[str, float]:
    return dict(next(h.why for h in hits if h.stratum == "code" and h.path == path))


def assert_lifts(memory: Memory, query: str, feature: str) -> None:
    """Assert that `query` brings up the file that the plain one does not, and by what."""
    assert files(lexical(memory, PLAIN))[0] == DECOY
    hits = lexical(memory, query)
    assert files(hits)[:2] == [RIGHT, DECOY]
    assert features(hits, RIGHT)[feature] > features(hits, DECOY).get(feature, 0.0)


# what a question says besides words


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    """A memory of the two files with the same words, for tests that change nothing."""
    root = tmp_path_factory.mktemp("twins")
    settings = load({"STRATUM_HOME": str(root / "home"), "STRATUM_EMBED_MODEL": "none"})
    (root / "r").mkdir()
    with Memory(settings, make_repository(root / "r", TWINS)) as memory:
        memory.index()
        yield memory


@pytest.mark.parametrize(
    ("said", "feature"),
    [
        ("See zz/late.py", "named"),
        ("See C:\\work\\zz\\late.py", "named"),
        ("`zz.late.reckon(rows)` gives 3", "named"),
        ("It happens in `reckon`", "names"),
        (
            '  File "/srv/aa/early.py", line 6, in f\n  File "/srv/zz/late.py", line 6, in g',
            "frame",
        ),
        ("    at g (/srv/zz/late.py:6:1)\n    at f (/srv/aa/early.py:6:1)", "frame"),
    ],
)
def test_what_is_named_comes_before_what_has_the_words(
    twins: Memory, said: str, feature: str
) -> None:
    assert_lifts(twins, f"{PLAIN}\n\n{said}", feature)


def test_a_function_in_a_traceback_is_the_place_in_its_file(opened: Open) -> None:
    body = "def quiet():\n    return 0\n"
    memory = opened({**TWINS, RIGHT: TWINS[RIGHT] + "\n\n" + body})
    hit = lexical(memory, f'{PLAIN}\n\n  File "/srv/zz/late.py", line 11, in quiet')[0]
    assert (hit.path, hit.title) == (RIGHT, "quiet")
    assert "here: named" in dict(hit.why)


def test_a_past_fix_like_the_question_brings_up_the_file_that_it_changed(
    opened: Open, tmp_path: Path
) -> None:
    memory = opened(TWINS)
    assert files(lexical(memory, PLAIN))[0] == DECOY
    (tmp_path / "r" / RIGHT).write_text(TWINS[RIGHT].replace("sum(", "0 + sum("))
    git(tmp_path / "r", "commit", "-aqm", "Repair wrong totals of rows")
    memory.index()
    assert_lifts_now(memory, "past")


def test_a_note_that_holds_brings_up_its_file_and_a_stale_one_does_not(
    opened: Open, tmp_path: Path
) -> None:
    memory = opened(TWINS)
    assert files(lexical(memory, PLAIN))[0] == DECOY
    note = memory.write(
        "Wrong totals of rows come from a header", anchors=[f"{RIGHT}::reckon"]
    ).note
    assert_lifts_now(memory, "notes")
    (tmp_path / "r" / RIGHT).write_text(TWINS[RIGHT].replace("sum(", "max("))
    memory.index()
    result = memory.search(PLAIN, mode="lexical", explain=True)
    assert result.withheld_stale == 1
    assert note.id not in {hit.id for hit in result.hits}
    assert files(list(result.hits))[0] == DECOY
    assert all("notes" not in dict(hit.why) for hit in result.hits if hit.stratum == "code")


def assert_lifts_now(memory: Memory, feature: str) -> None:
    hits = lexical(memory, PLAIN)
    assert files(hits)[:2] == [RIGHT, DECOY]
    # a commit that only touched it without a word of the question is worth next to nothing
    assert features(hits, RIGHT)[feature] > 0.5
    assert features(hits, DECOY).get(feature, 0.0) < 0.01


def test_a_score_is_explained_only_where_that_is_asked_for(memory: Memory) -> None:
    memory.write("Totals of the cart are gross.", anchors=["shop/cart.py"])
    assert all(hit.why == () for hit in memory.search("total of the cart").hits)
    explained = memory.search("total of the cart", explain=True).hits
    for hit in explained:
        if hit.stratum != "history":
            of_file = [share for name, share in hit.why if not name.startswith("here: ")]
            assert sum(of_file) == pytest.approx(hit.score, abs=1e-3)
    assert {hit.stratum for hit in explained} == {"code", "notes", "history"} or len(explained) < 5


# order


def test_no_file_takes_the_first_places_while_others_match(opened: Open) -> None:
    many = "".join(
        f'def total_{n}(rows):\n    """Totals of rows."""\n    return rows\n\n\n' for n in range(30)
    )
    others = {f"b{n}.py": f"def other_{n}(rows):\n    return rows.totals\n" for n in range(6)}
    memory = opened({"a.py": many, **others})
    first = [hit.path for hit in lexical(memory, "totals of rows") if hit.stratum == "code"]
    assert first[0] == "a.py"
    assert first.count("a.py") <= 3
    assert len(set(first)) >= 6


def test_a_file_that_was_copied_is_found_at_both_places(opened: Open) -> None:
    memory = opened({"a/cart.py": SAMPLE["shop/cart.py"], "b/cart.py": SAMPLE["shop/cart.py"]})
    assert set(files(lexical(memory, "expire old carts"))) == {"a/cart.py", "b/cart.py"}
    (only,) = {
        hit.path
        for hit in memory.search("expire old carts", filters=Filters(path="b")).hits
        if hit.stratum == "code"
    }
    assert only == "b/cart.py"


TOPICS = (
    "invoice refund parcel voucher ledger courier discount warranty shelf supplier banner pallet"
    " customs barcode receipt coupon forecast stocktake returns loyalty freight tariff escrow lease"
).split()
VERBS = "cancel open scan weigh split renew audit sort".split()
QUERIES = [
    "cancel refund",
    "voucher",
    "courier of a parcel",
    "audit the ledger of an invoice",
    "where is a warranty renewed",
    "barcode scan fails",
]


def trade() -> dict[str, str]:
    """Return two dozen files of two functions; no word of a query stands in most of them."""
    found = {}
    for number, topic in enumerate(TOPICS):
        first, second = VERBS[number % 8], VERBS[(number + 3) % 8]
        found[f"trade/{topic}.py"] = (
            f'"""Each {topic} of the house, with its {TOPICS[number - 1]}."""\n\n\n'
            f'def {first}_{topic}(rows):\n    """The {topic} of today."""\n    return rows[0]\n\n\n'
            f"def {second}_{topic}(rows):\n    return [row for row in rows if row.{topic}]\n"
        )
    return found


def test_a_long_lived_process_finds_what_a_cold_command_finds(opened: Open) -> None:
    cold, resident = opened(trade()), opened(trade(), resident=True)
    for query in QUERIES:
        best = [
            [(hit.path, hit.title) for hit in memory.search(query, mode="lexical").hits[:3]]
            for memory in (cold, resident)
        ]
        assert best[0] == best[1], query
        assert len(best[0]) == 3


def test_the_same_question_has_the_same_answer_in_another_process_and_home(
    opened: Open, tmp_path: Path
) -> None:
    memory = opened(SAMPLE)
    query = "total price of a cart\n\nSee shop/cart.py and `delete_expired`."
    shown = [[hit.id, hit.path, hit.score] for hit in memory.search(query).hits]
    assert shown == [[hit.id, hit.path, hit.score] for hit in memory.search(query).hits]
    command = [sys.executable, "-m", "stratum"]
    environment = {
        **os.environ,
        "STRATUM_HOME": str(tmp_path / "another-home"),
        "STRATUM_EMBED_MODEL": "hashing",
        "PYTHONHASHSEED": "7",
    }

    def run(*words: str) -> str:
        root = tmp_path / "r"
        return subprocess.run(
            [*command, *words],
            cwd=root,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    run("index")
    hits = json.loads(run("search", "--json", query))["hits"]
    assert [[hit["id"], hit["path"], hit["score"]] for hit in hits] == shown


# filters


@pytest.fixture(scope="module", params=[False, True], ids=["cold", "resident"])
def either(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Memory]:
    """A memory of the sample with two notes, for tests that change nothing."""
    root = tmp_path_factory.mktemp("sample")
    settings = load({"STRATUM_HOME": str(root / "home"), "STRATUM_EMBED_MODEL": "hashing"})
    (root / "shop").mkdir()
    with Memory(settings, make_repository(root / "shop"), resident=request.param) as memory:
        memory.write("Totals of carts are gross.", tags=["money"], anchors=["shop/cart.py::Cart"])
        memory.write(
            "Session rows of carts are purged.", kind="gotcha", anchors=["shop/session.py"]
        )
        memory.index()
        memory.warm_up()
        yield memory


def found(memory: Memory, query: str, **limits: str) -> list[Hit]:
    return list(memory.search(query, filters=Filters(**limits), limit=30).hits)


def test_a_path_limits_what_is_found(either: Memory) -> None:
    query = "cart session rows total, see web/render.js and `renderCart`"
    for path in ("shop", "shop/cart.py"):
        hits = [hit for hit in found(either, query, path=path) if hit.stratum != "history"]
        assert hits
        assert all(hit.path and f"{hit.path}/".startswith(f"{path}/") for hit in hits)
        assert {hit.stratum for hit in hits} == {"code", "notes"}


def test_a_kind_limits_what_is_found(either: Memory) -> None:
    query = "cart total `expire_old_carts` in shop/cart.py"
    assert {hit.kind for hit in found(either, query, kind="class")} == {"class"}
    assert {hit.kind for hit in found(either, query, kind="gotcha")} == {"gotcha"}


def test_a_symbol_limits_what_is_found(either: Memory) -> None:
    hits = found(either, "total cart `renderCart`", symbol="total_price")
    assert hits
    assert {hit.title for hit in hits if hit.stratum == "code"} == {"Cart.total_price"}


@pytest.mark.parametrize("stratum", ["code", "notes", "history"])
def test_a_stratum_limits_what_is_found(either: Memory, stratum: str) -> None:
    hits = found(either, "start the shop with carts", stratum=stratum)
    assert {hit.stratum for hit in hits} == {stratum}


def test_a_tag_limits_what_is_found(either: Memory) -> None:
    hits = found(either, "carts and `expire_old_carts`", tag="money")
    assert [hit.text for hit in hits] == ["Totals of carts are gross."]


def test_a_time_limits_what_is_found(either: Memory) -> None:
    assert any(hit.stratum == "notes" for hit in found(either, "carts", since="1d"))
    assert found(either, "carts and `expire_old_carts`", since="2999-01-01") == []


# ways of asking


def test_meaning_alone_needs_no_word_of_the_question(either: Memory) -> None:
    result = either.search("expire old carts", mode="vector", explain=True)
    assert result.mode == "vector"
    assert result.hits
    of_files = {name for hit in result.hits for name, _ in hit.why if not name.startswith("here")}
    assert {hit.stratum for hit in result.hits} >= {"code", "notes"}
    assert of_files == {"meaning"}


def test_a_question_as_long_as_may_be_is_answered(either: Memory) -> None:
    for filler in ("\nword", "shop/__init__.py ", "a.b.", "名", "`cartTotal` ", "at x.js:1 ", '"'):
        query = ("Total price of the cart with tax\n" + filler * 32_000)[:32_000]
        result = either.search(query)
        assert "shop/cart.py" in [hit.path for hit in result.hits[:3]], filler
        assert not result.notices


@pytest.mark.parametrize("resident", [False, True])
def test_an_empty_repository_has_nothing_to_find(
    settings: Settings, tmp_path: Path, resident: bool
) -> None:
    root = tmp_path / "empty"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    settings = load(
        {"STRATUM_HOME": str(settings.database.parent), "STRATUM_EMBED_MODEL": "hashing"}
    )
    with Memory(settings, root, resident=resident) as memory:
        memory.index()
        asked = 'carts\n\nSee `a_b`, a/b.py, a.b.c and\n  File "/a/b.py", line 1, in f'
        for mode in MODES:
            assert memory.search(asked, mode=mode, explain=True).hits == ()
        note = memory.write("Carts are kept elsewhere.").note
        for mode in MODES:
            assert [hit.id for hit in memory.search("carts", mode=mode).hits] == [note.id], mode


def test_of_notes_that_tell_as_much_the_newest_comes_first(memory: Memory) -> None:
    """Their ids are drawn by chance: equal memories must answer alike."""
    for number in range(6):
        memory.write(f"Parcels leave at noon, says wing {number}.")
    found = memory.search("parcels leave at noon", filters=Filters(stratum="notes")).hits
    assert [hit.text for hit in found] == [
        f"Parcels leave at noon, says wing {number}." for number in (5, 4, 3, 2, 1, 0)
    ]
