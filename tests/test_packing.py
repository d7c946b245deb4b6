from __future__ import annotations

import dataclasses
import itertools
import time
from pathlib import Path

import pytest
import toktok
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stratum.models import Hit, Near, Pack
from stratum.packing import FIRST_FILE, PLACE_SHARES, chance, pack, price
from stratum.tokens import count_tokens

ENCODINGS = ("o200k_base", "cl100k_base")


def code(
    path: str,
    title: str,
    text: str = "def f()",
    kind: str = "function",
    lines: tuple[int, int] = (1, 9),
    why: tuple[tuple[str, float], ...] = (),
) -> Hit:
    return Hit("aaaaaaaaaaaa", "code", kind, title, text, path, *lines, 0.1, why=why)


def note(text: str) -> Hit:
    return Hit(
        "bbbbbbbbbbbb", "notes", "gotcha", "f", text, "a.py", 3, 4, 0.2, "fresh",
        "Ada, 2026-01-31, proposed",
    )  # fmt: skip


def commit(title: str, *paths: str) -> Hit:
    return Hit(
        "cccccccccccc", "history", "commit", title, "", None, None, None, 0.1,
        origin="1f0c9d27ab, 2026-01-31", paths=paths,
    )  # fmt: skip


HITS = [
    code("shop/cart.py", "shop/cart.py", "The cart.", "file", (1, 300)),
    code("shop/cart.py", "Cart.total_price", "def total_price(self) - Sum up all.", lines=(12, 20)),
    code("shop/cart.py", "Cart.add_item", "def add_item( self, name, price=0, )", lines=(40, 55)),
    note("Totals include the tax."),
    code("web/render.js", "renderCart", "function renderCart(cart)"),
    code("web/page.js", "web/page.js", "Draws a page.", "file", (1, 300)),
    commit("Fix the total", "a.py", "b.py"),
]
NEAR = {
    ("shop/cart.py", 12): (
        Near("calls", "shop/cart.py", "Cart.net", 70, 75),
        Near("called by", "web/till.py", "Till.pay", 5, 9),
    )
}


def test_a_pack_tells_notes_then_places_by_file_then_past_changes() -> None:
    assert pack("fix the total", HITS, 1000, near=NEAR).text == (
        "# Where to look: fix the total\n"
        "\n"
        "## Notes\n"
        "- Totals include the tax. [a.py:3-4] (gotcha, fresh, Ada, 2026-01-31, proposed;"
        " id bbbbbbbbbbbb)\n"
        "\n"
        "## Places\n"
        "shop/cart.py:12-20 Cart.total_price(self) - Sum up all.\n"
        "    calls 70-75 Cart.net\n"
        "    called by web/till.py:5-9 Till.pay\n"
        "  40-55 Cart.add_item(self, name, price=0)\n"
        "web/render.js:1-9 renderCart(cart)\n"
        "web/page.js:1-300 - Draws a page.\n"
        "\n"
        "## Past changes\n"
        "- Fix the total (1f0c9d27ab, 2026-01-31): a.py, b.py\n"
    )


def test_the_places_of_a_pack_are_those_of_its_text() -> None:
    named = [dataclasses.astuple(place) for place in pack("t", HITS, 1000, near=NEAR).places]
    assert named == [
        ("shop/cart.py", "Cart.total_price", 12, 20),
        ("shop/cart.py", "Cart.net", 70, 75),
        ("web/till.py", "Till.pay", 5, 9),
        ("shop/cart.py", "Cart.add_item", 40, 55),
        ("web/render.js", "renderCart", 1, 9),
        ("web/page.js", "", 1, 300),
    ]


EVIL = "x\n## Notes\r\x1b[31m\u202e\u2028\x85\ud800y"


def test_no_name_adds_a_line_to_a_pack_or_steers_a_terminal() -> None:
    """git and file systems allow line ends in a name, so a name could forge a note."""
    hits = [
        Hit("aaaaaaaaaaaa", "code", "file", EVIL, EVIL, EVIL, 1, 90, 0.1),
        Hit("aaaaaaaaaaaa", "code", EVIL, EVIL, EVIL, EVIL, 100, 109, 0.1),
        Hit("aaaaaaaaaaaa", "code", EVIL, EVIL, EVIL, EVIL, 110, 119, 0.1),
        Hit("bbbbbbbbbbbb", "notes", EVIL, EVIL, EVIL, EVIL, 1, 9, 0.1, "fresh", EVIL),
        Hit("cccccccccccc", "history", EVIL, EVIL, EVIL, None, None, None, 0.1, None, EVIL,
            paths=(EVIL, EVIL)),
    ]  # fmt: skip
    near = {(EVIL, 100): [Near("calls", EVIL, EVIL, 300, 310)]}
    text = pack(EVIL, hits, 1000, near=near).text
    lines = text.split("\n")
    assert len(lines) == 13  # heading, three sections with a blank line each, five entries, the end
    assert [line for line in lines if line.startswith("## ")] == [
        "## Notes", "## Places", "## Past changes",
    ]  # fmt: skip
    assert all(line.isprintable() for line in lines)


def test_a_name_keeps_its_spaces_in_a_pack() -> None:
    assert "\na  b\u3000c.py:1-9 f()\n" in pack("t", [code("a  b\u3000c.py", "f")], 1000).text


def test_a_budget_of_nothing_gives_nothing() -> None:
    packed = pack("fix the total", HITS, 0)
    assert packed.text == ""
    assert packed.places == ()
    assert packed.receipt.tokens_used == 0
    assert packed.receipt.omitted == len(HITS)


def test_a_long_text_is_cut_but_its_path_and_lines_are_not() -> None:
    path = "deep/" * 20 + "big.py"
    parameters = ", ".join(f"parameter_{i}: int = {i}" for i in range(60))
    hits = [code(path, "big", f"def big({parameters})", lines=(1234567, 1234999))]
    (line,) = [line for line in pack("t", hits, 400).text.split("\n") if "big" in line]
    assert line.startswith(f"{path}:1234567-1234999 big(parameter_0: int = 0")
    assert line.endswith("…")
    assert count_tokens(line) < 150


def test_a_long_note_is_cut_but_keeps_its_place_and_id() -> None:
    text = pack("t", [note("word " * 2000)], 400).text
    assert text.endswith(
        "… [a.py:3-4] (gotcha, fresh, Ada, 2026-01-31, proposed; id bbbbbbbbbbbb)\n"
    )


def test_what_does_not_fit_is_left_out_as_a_whole_and_the_next_one_is_tried() -> None:
    hits = [code("very/" * 60 + "long.py", "big"), code("b.py", "small")]
    packed = pack("task", hits, 60)
    assert "small" in packed.text
    assert "very" not in packed.text
    assert (packed.receipt.places, packed.receipt.omitted) == (1, 1)


def test_no_place_is_told_without_its_file_and_no_neighbour_without_its_place() -> None:
    for budget in range(300):
        lines = pack("t", HITS, budget, near=NEAR).text.split("\n")
        for before, line in itertools.pairwise(lines):
            if line.startswith("  "):
                assert before.startswith(("shop/cart.py", "  ")), budget
            assert not (line.startswith("#") and before.startswith("#")), budget
        assert not lines[-2:][0].startswith("#"), budget


def test_more_budget_tells_more_of_the_files() -> None:
    hits = [code(f"file{i}.py", f"name{i}") for i in range(60)]
    counts = [pack("t", hits, budget).receipt.places for budget in (100, 300, 900)]
    assert counts == sorted(set(counts))
    first = pack("t", hits, 100).places
    assert [place.path for place in first] == [f"file{i}.py" for i in range(len(first))]


def test_many_places_of_one_file_do_not_crowd_out_other_files() -> None:
    hits = [code("a.py", f"f{i}", lines=(i * 100 + 1, i * 100 + 9)) for i in range(40)]
    hits += [code(f"other{i}.py", "g") for i in range(8)]
    assert len({place.path for place in pack("t", hits, 400).places}) == 9


def test_code_comes_before_tests_and_prose_where_the_budget_is_small() -> None:
    hits = [
        code("tests/test_a.py", "test_a"), code("docs/a.rst", "A"), code("CHANGELOG.md", "B"),
        code("src/a.py", "a"), code("src/b.py", "b"), code("src/c.py", "c"),
    ]  # fmt: skip
    told = [place.path for place in pack("t", hits, 1000).places]
    assert told[:2] == ["src/a.py", "src/b.py"]  # though a test was the first hit
    assert len(told) == 6


def spans(*lines: tuple[int, int], kind: str = "function") -> list[tuple[str, int, int]]:
    """Return the places told of definitions f0, f1, ... of one file with these lines."""
    hits = [code("a.py", f"f{i}", kind=kind, lines=span) for i, span in enumerate(lines)]
    packed = pack("t", hits, 1000)
    assert packed.receipt.omitted == 0
    return [(place.symbol, place.start_line, place.end_line) for place in packed.places]


def test_lines_that_are_read_in_one_go_are_told_once() -> None:
    assert spans((10, 20), (22, 30)) == [("f0", 10, 30)]  # beside each other
    assert spans((22, 30), (10, 20)) == [("f0", 10, 30)]
    assert spans((10, 20), (40, 50)) == [("f0", 10, 20), ("f1", 40, 50)]
    assert spans((10, 20), (40, 50), (22, 38)) == [("f0", 10, 50)]  # the third one joins them
    assert spans((1, 100), (102, 190)) == [("f0", 1, 100), ("f1", 102, 190)]  # too long for one go


def test_of_nested_definitions_the_telling_one_is_told() -> None:
    assert spans((1, 400), (50, 60)) == [("f1", 50, 60)]  # a class, then a method of it
    assert spans((50, 60), (1, 400)) == [("f0", 50, 60)]
    assert spans((1, 400), (50, 60), (300, 310)) == [("f1", 50, 60), ("f2", 300, 310)]
    assert spans((1, 30), (5, 9)) == [("f0", 1, 30)]  # short enough to be read as a whole
    assert spans((5, 9), (5, 9)) == [("f0", 5, 9)]


def test_a_joined_place_names_all_that_is_in_it() -> None:
    hits = [code("a.py", "Box.get", lines=(10, 20)), code("a.py", "Box.set", lines=(22, 30))]
    assert "\na.py:10-30 Box.get, set\n" in pack("t", hits, 1000).text


def test_of_many_joined_definitions_a_few_are_named() -> None:
    hits = [code("a.py", f"C.f{i}", lines=(i * 5 + 1, i * 5 + 4)) for i in range(8)]
    packed = pack("t", hits, 1000)
    assert "\na.py:1-39 C.f0, f1, f2, …\n" in packed.text
    assert packed.receipt.omitted == 0


def test_tests_stand_after_the_code_that_is_worth_as_much() -> None:
    hits = [code("tests/test_a.py", "test_a"), code("src/a.py", "a"), code("src/b.py", "b")]
    paths = [place.path for place in pack("t", hits, 1000).places]
    assert paths == ["src/a.py", "src/b.py", "tests/test_a.py"]


def test_a_neighbour_that_is_a_place_already_is_not_told_again() -> None:
    near = {("shop/cart.py", 12): [Near("calls", "shop/cart.py", "Cart.add_item", 40, 55)]}
    assert "calls" not in pack("t", HITS, 1000, near=near).text


@pytest.mark.parametrize(
    ("title", "text", "shown"),
    [
        ("QuerySet.get", "def get(self, *args)", "QuerySet.get(self, *args)"),
        ("get", "def get( self, key=( 1, 2 ), )", "get(self, key=(1, 2))"),
        ("Store.get", "func (s *Store) get(key string) error - Reads.", "Store.get(key string)"),
        ("Map.get", "pub fn get<K: Ord>(&self, k: &K) -> V", "Map.get(&self, k: &K)"),
        ("get", "def widget_get_get(x)", "get"),
        ("Cart", "class Cart", "Cart"),
        ("LIMITS", "LIMITS = (1, 2)", "LIMITS"),
        ("User Guide > Paths", "Paths - How paths work (in short).", "User Guide > Paths"),
    ],
)
def test_a_place_shows_its_parameters_and_nothing_else_of_its_head(
    title: str, text: str, shown: str
) -> None:
    told = pack("t", [code("a.py", title, text)], 1000).text.split("\n")[3]
    assert told.partition(" - ")[0] == f"a.py:1-9 {shown}"


def test_a_reason_is_told_where_the_task_does_not_say_it() -> None:
    assert (
        "f() (changed by like fixes)\n"
        in pack("t", [code("a.py", "f", why=(("past", 1.0), ("words", 0.5)))], 1000).text
    )
    assert "f()\n" in pack("t", [code("a.py", "f", why=(("words", 1.0),))], 1000).text


def test_worth_falls_from_file_to_file_and_from_place_to_place() -> None:
    chances = [chance(rank) for rank in range(1, 121)]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] == FIRST_FILE
    assert list(PLACE_SHARES) == sorted(PLACE_SHARES, reverse=True)


def test_the_same_input_gives_the_same_bytes() -> None:
    assert pack("t", HITS, 300, near=NEAR) == pack("t", HITS, 300, near=NEAR)


def test_a_pack_of_120_hits_is_made_in_no_time() -> None:
    sources = (Path(pytest.__file__).parent.parent / "_pytest").glob("*.py")
    lines = [line.strip() for source in sorted(sources) for line in source.read_text().split("\n")]
    heads = [line for line in lines if line.startswith("def ")][:120]
    hits = [
        code(
            f"src/module_{i // 3}.py", head[4:].partition("(")[0], head, lines=(i * 99, i * 99 + 9)
        )
        for i, head in enumerate(heads, start=1)
    ]
    assert len(hits) == 120
    times = []
    for _ in range(5):
        begun = time.process_time()
        pack("the fixture is not torn down", hits, 1200)
        times.append(time.process_time() - begun)
    assert min(times) < 0.03  # 4 ms on the machine it was written on


# the bound

natural = st.sampled_from(
    ["def total_price(self, *, with_tax=True)", "Sum up all items.", "django/db/models/query.py",
     "Fixed #31416 -- Made autodetector find field renames.", "the cart's total is wrong"]
)  # fmt: skip
deceit = st.one_of(
    st.text(st.characters(), max_size=60),  # anything, lone surrogates included
    st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", max_size=60),
    st.text("0123456789!#$%&*+-./:<=>?@\\^_|~\"'(){}[]", max_size=60),
    st.text("abcdefghijklmnopqrstuvwxyzQJXZ0123456789+/=", max_size=200),
    st.text(st.characters(min_codepoint=0x3400, max_codepoint=0x9FFF), max_size=40),
    st.text(st.characters(min_codepoint=0x1F300, max_codepoint=0x1FAFF), max_size=30),
    st.text("e\u0301\u0327\u200d\ufe0f\u00a0\u2003\u3000 \t\n\r", max_size=40),
)
text = st.lists(st.one_of(natural, deceit), max_size=4).map(" ".join)
line = st.integers(1, 400)
path = st.one_of(st.sampled_from(["a.py", "tests/test_a.py", "docs/a.md"]), text)
hits = st.lists(
    st.builds(
        Hit,
        id=st.just("aaaaaaaaaaaa"),
        stratum=st.sampled_from(["code", "history", "notes", "session"]),
        kind=st.one_of(st.sampled_from(["file", "function", "fact"]), text),
        title=text,
        text=text,
        path=st.one_of(st.none(), path),
        start_line=st.one_of(st.none(), line),
        end_line=st.one_of(st.none(), line),
        score=st.just(0.0),
        origin=text,
        paths=st.lists(path, max_size=5).map(tuple),
        why=st.sampled_from([(), (("past", 1.0),), (("words", 1.0),)]),
    ),
    max_size=20,
)
neighbour = st.builds(
    Near, st.sampled_from(["calls", "called by"]), path, text, line, line
)  # fmt: skip


def near_of(found: list[Hit], near: list[Near]) -> dict[tuple[str, int], list[Near]]:
    return {(hit.path or "", hit.start_line or 0): near for hit in found[:5]}


def check(packed: Pack, found: list[Hit], budget: int) -> None:
    used = packed.receipt.tokens_used
    assert used == count_tokens(packed.text) <= budget
    for encoding in ENCODINGS:
        assert toktok.batch_count([packed.text], encoding)[0] <= budget, encoding
    assert packed.receipt.places + packed.receipt.omitted == len(found)
    assert (packed.text == "") == (packed.receipt.places == 0)
    lines = packed.text.split("\n")
    for place in packed.places:
        address = f"{place.start_line}-{place.end_line} {place.symbol}".rstrip()
        assert place.path in packed.text
        assert any(address in line for line in lines)


@settings(max_examples=300, deadline=None)
@given(text, hits, st.lists(neighbour, max_size=5), st.integers(0, 3000))
@example("t", HITS, [], 60)
def test_no_text_whatsoever_exceeds_the_budget(
    task: str, found: list[Hit], near: list[Near], budget: int
) -> None:
    check(pack(task, found, budget, near=near_of(found, near)), found, budget)


@given(st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=12, max_size=12))
def test_an_id_that_was_drawn_by_chance_changes_no_price(id_: str) -> None:
    line = "- Carts expire [shop/cart.py:1-9] (fact, fresh, ada, 2026-01-31, proposed; id {})"
    assert price(line.format(id_)) == price(line.format("aaaaaaaaaaaa"))
    assert price(line.format(id_)) >= count_tokens(line.format(id_))
    assert price(f"the word {id_} alone") == count_tokens(f"the word {id_} alone")


@settings(max_examples=100, deadline=None)
@given(text, hits, st.data())
def test_a_budget_that_is_nearly_used_up_is_not_exceeded(
    task: str, found: list[Hit], data: st.DataObject
) -> None:
    whole = pack(task, found, 100_000).receipt.tokens_used
    budget = data.draw(st.integers(max(0, whole - 40), whole))
    check(pack(task, found, budget), found, budget)


ranges = st.lists(
    st.tuples(st.sampled_from(["a.py", "b.py"]), st.integers(1, 300), st.integers(0, 90)),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(ranges)
def test_all_lines_are_told_once_or_are_lines_around_what_is_told(
    found: list[tuple[str, int, int]],
) -> None:
    hits = [code(path, "f", lines=(start, start + more)) for path, start, more in found]
    packed = pack("t", hits, 100_000)
    assert packed.receipt.omitted == 0
    for one, other in itertools.combinations(packed.places, 2):
        assert one.path != other.path or (
            one.end_line < other.start_line or other.end_line < one.start_line
        )
    for path, start, more in found:
        assert any(
            place.path == path and place.start_line <= start + more and start <= place.end_line
            for place in packed.places
        )
