from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from stratum.freshness import judge, last_name, lines_anchor, worst
from stratum.models import Anchor, Symbol, Verdict

TEXT = "one\ntwo\nthree\nfour\nfive\n"


def symbol(name: str, start: int, body: str, signature: str = "") -> Symbol:
    return Symbol(name, "function", start, start + 2, signature or f"def {name}()", "", body)


@dataclass
class Current:
    """A file as it stands, without a file."""

    found: tuple[Symbol, ...] = ()
    blob: str = "new"
    source: str = TEXT
    tokens: str = "tokens"
    redefines: bool = False
    in_conflict: bool = False

    def text(self) -> str:
        return self.source

    def symbols(self) -> Sequence[Symbol]:
        return self.found

    def definitions(self, name: str) -> Sequence[Symbol]:
        return [symbol for symbol in self.found if symbol.name == name]

    def token_hash(self) -> str:
        return self.tokens


def current(*symbols: Symbol, blob: str = "new", text: str = TEXT) -> Current:
    return Current(symbols, blob, text)


def lines(start: int, end: int, text: str = TEXT, symbols: Sequence[Symbol] = ()) -> Anchor:
    return replace(lines_anchor("a.py", start, end, "old", text, symbols), outline_version=4)


ANCHOR = Anchor("a.py", "run", 10, 12, "old", "body")


def test_the_same_content_is_fresh_without_an_outline() -> None:
    assert judge(ANCHOR, current(blob="old")).freshness == "fresh"


def test_the_same_symbol_at_the_same_line_is_fresh_in_an_edited_file() -> None:
    assert judge(ANCHOR, current(symbol("run", 10, "body"))).freshness == "fresh"


def test_a_moved_symbol_carries_its_new_lines() -> None:
    assert judge(ANCHOR, current(symbol("run", 40, "body"))) == Verdict(
        "moved", "a.py", 40, 42, symbol="run"
    )


def test_an_edited_symbol_is_changed_and_says_which() -> None:
    found = judge(ANCHOR, current(symbol("run", 10, "other")))
    assert (found.freshness, found.reason) == ("changed", "run was edited")


def test_a_symbol_that_left_the_file_is_gone() -> None:
    assert judge(ANCHOR, current(symbol("walk", 10, "body"))).freshness == "gone"


def test_a_missing_file_is_gone() -> None:
    assert judge(ANCHOR, None) == Verdict("gone", "a.py", reason="a.py no longer exists")


def test_among_definitions_that_were_not_counted_none_may_be_another() -> None:
    both = current(symbol("run", 10, "body"), symbol("run", 20, "body"))
    assert judge(ANCHOR, both).freshness == "fresh"
    one = current(symbol("run", 10, "body"), symbol("run", 20, "other"))
    assert judge(ANCHOR, one).freshness == "changed"


def test_an_edited_overload_is_found_by_its_head() -> None:
    anchor = replace(ANCHOR, signature="run(int)")
    found = judge(
        anchor, current(symbol("run", 10, "x", "run(str)"), symbol("run", 80, "y", "run(int)"))
    )
    assert (found.freshness, found.start_line) == ("changed", 80)


SECOND = replace(ANCHOR, signature="run()", namesakes=2, peers=2, ordinal=2)


@pytest.mark.parametrize(
    ("now", "freshness"),
    [
        ([("x", "run()"), ("body", "run()")], "moved"),
        ([("body", "run()"), ("x", "run()")], "changed"),  # nobody knows who changed places
        ([("body", "run()"), ("body", "run( )")], "moved"),
        ([("body", "run()")], "changed"),  # it may have been the other one
        ([("x", "run()"), ("y", "run(int)"), ("body", "run()")], "moved"),
        ([("x", "run()"), ("y", "run()"), ("body", "run()")], "moved"),
        ([("x", "run()"), ("y", "run()"), ("z", "run()")], "changed"),
    ],
)
def test_definitions_of_one_name_are_told_apart_by_heads_and_order(
    now: list[tuple[str, str]], freshness: str
) -> None:
    symbols = [symbol("run", 20 * n, *each) for n, each in enumerate(now, start=1)]
    assert judge(SECOND, current(*symbols)).freshness == freshness


def test_overloads_are_told_apart_by_their_heads_in_any_order() -> None:
    of_text = replace(ANCHOR, signature="run(str)", namesakes=2, peers=1, ordinal=1)
    other = symbol("run", 50, "x", "run(int *)")
    assert judge(of_text, current(other, symbol("run", 80, "body", "run( str )"))).start_line == 80
    assert judge(of_text, current(symbol("run", 80, "body", "run(str)"))).freshness == "moved"
    assert judge(of_text, current(other, symbol("run", 80, "y", "run(str)"))).freshness == "changed"


def test_a_definition_that_is_hidden_by_a_later_one_is_changed() -> None:
    once = replace(ANCHOR, namesakes=1, peers=1, ordinal=1, signature="def run()")
    later = current(symbol("run", 10, "body"), symbol("run", 30, "x"))
    assert judge(once, later).freshness == "fresh"
    found = judge(once, replace(later, redefines=True))
    assert (found.freshness, found.reason) == ("changed", "run is defined once more")


def test_nothing_in_a_file_with_conflicts_is_believed() -> None:
    torn = replace(current(symbol("run", 10, "body")), in_conflict=True)
    assert judge(ANCHOR, torn).freshness == "changed"
    assert judge(replace(ANCHOR, blob="new"), torn).freshness == "fresh"


def test_an_anchor_on_the_whole_file_goes_by_its_tokens() -> None:
    assert judge(Anchor("a.py", blob="old"), current()).freshness == "changed"
    assert judge(Anchor("a.py", blob="old", body_hash="tokens"), current()).freshness == "fresh"
    assert judge(Anchor("a.py", blob="old", body_hash="other"), current()).freshness == "changed"


def test_lines_are_found_again_where_they_moved_to() -> None:
    assert judge(lines(2, 4), current(text=TEXT + "six\n")).freshness == "fresh"
    moved = judge(lines(2, 4), current(text="zero\nhalf\n" + TEXT))
    assert moved == Verdict("moved", "a.py", 4, 6)


BLOCK = "a\nb\nc\n"


def test_lines_that_stood_in_two_places_need_their_neighbours_or_a_diff() -> None:
    old = BLOCK + "x\n" + BLOCK + "y\n"
    anchor = lines(1, 3, old)
    assert judge(anchor, current(text=old + "z\n")).freshness == "fresh"
    assert judge(anchor, current(text="0\n" + old)).freshness == "changed"
    assert judge(anchor, current(text="0\n" + old), lambda: old).start_line == 2
    assert judge(anchor, current(text="a\nB\nc\nx\n" + BLOCK), lambda: old).freshness == "changed"
    repeated = (BLOCK + "x\n") * 3
    anchor = lines(5, 7, repeated)
    assert anchor.context is not None
    edited = repeated.replace("x\na\nb", "x\na\nB", 1)
    assert judge(anchor, current(text=edited), lambda: repeated).freshness == "changed"


@pytest.mark.parametrize("last", [2, 3])
def test_few_lines_are_followed_by_their_neighbours(last: int) -> None:
    anchor = lines(2, last)
    pushed = current(text="zero\nhalf\n" + TEXT)
    assert judge(anchor, pushed).freshness == "changed"  # without the old text nobody knows
    assert judge(anchor, pushed, lambda: TEXT).start_line == 4
    assert judge(anchor, current(text=TEXT + "six\n")).freshness == "fresh"
    lonely = TEXT.replace("one", "1").replace("four", "4") if last == 3 else "1\ntwo\n3\nfour\n"
    assert judge(anchor, current(text=lonely)).freshness == "changed"
    assert judge(anchor, current(text=lonely), lambda: TEXT).freshness == "changed"
    one_side = TEXT.replace("one", "1")
    assert judge(anchor, current(text=one_side)).freshness == "changed"
    assert judge(anchor, current(text=one_side), lambda: TEXT).freshness == "fresh"


def test_the_first_and_the_last_line_have_one_neighbour() -> None:
    assert judge(lines(1, 1), current(text=TEXT + "six\n"), lambda: TEXT).freshness == "fresh"
    assert judge(lines(5, 5), current(text="0\n" + TEXT), lambda: TEXT).start_line == 6


def test_lines_at_the_very_end_are_found() -> None:
    assert judge(lines(3, 5), current(text="0\n" + TEXT.rstrip("\n"))).start_line == 4


def test_lines_of_a_version_that_kept_no_surroundings_are_followed_by_their_text() -> None:
    old = replace(lines(2, 4), context=None, within=None, outline_version=None)
    around = replace(symbol("run", 1, "body"), end_line=9)
    assert judge(old, current(around, text="zero\n" + TEXT)).start_line == 3
    assert judge(
        replace(old, outline_version=4), current(around, text="zero\n" + TEXT)
    ).freshness == ("changed")


def test_indenting_all_lines_does_not_change_them() -> None:
    found = judge(lines(2, 3), current(text="one\n    two  \n    three\nfour\nfive\n"))
    assert found.freshness == "fresh"


def test_a_line_that_left_its_block_changes_the_lines() -> None:
    text = "if a:\n    x()\n    y()\n"
    edited = current(text="if a:\n    x()\ny()\n")
    assert judge(lines(1, 3, text), edited, lambda: text).freshness == "changed"


def test_edited_lines_are_changed() -> None:
    edited = current(text="one\ntwo\n3\nfour\nfive\n")
    assert judge(lines(2, 3), edited, lambda: TEXT).freshness == "changed"


def test_lines_that_stand_in_two_new_places_are_not_guessed_at() -> None:
    anchor = lines(1, 3, BLOCK)
    assert judge(anchor, current(text="y\na\nb\nc\n")).freshness == "moved"
    assert judge(anchor, current(text="y\na\nb\nc\nz\na\nb\nc\n")).freshness == "changed"


def test_lines_that_were_reformatted_inside_the_same_tokens_stand_there() -> None:
    around = symbol("run", 1, "body")
    anchor = lines(2, 2, "one\nf(two, three)  # why\nfour\n", [around])
    laid_out = "0\none\nf(\n  two,\n  three,\n)  # why\nfour\n"
    moved = replace(around, start_line=2, end_line=7)
    assert judge(anchor, current(moved, text=laid_out)) == Verdict("moved", "a.py", 3, 6)
    for text in (laid_out.replace("why", "how"), laid_out.replace("four", "f two three why")):
        assert judge(anchor, current(moved, text=text)).freshness == "changed"
    other = replace(moved, body_hash="other")
    assert judge(anchor, current(other, text=laid_out)).freshness == "changed"
    assert judge(anchor, current(moved, moved, text=laid_out)).freshness == "changed"
    brackets = lines(2, 2, "one\n})\nfour\n", [around])
    assert judge(brackets, current(moved, text="0\n0\n0\n0\n0\n0\n})\n")).freshness == "changed"


def test_lines_are_not_followed_into_another_definition() -> None:
    block = "  a = 1\n  b = 2\n  c = 3\n"
    old = f"f:\n{block}g:\n  x\n"
    anchor = lines(2, 4, old, [symbol("f", 2, "b")])
    new = f"f:\n  x\ng:\n{block}"
    spans = [replace(symbol("f", 1, "x"), end_line=2), replace(symbol("g", 3, "y"), end_line=6)]
    assert judge(anchor, current(*spans, text=new)).freshness == "changed"
    assert judge(anchor, current(*spans, text=new), lambda: old).freshness == "changed"
    renamed = [spans[0], replace(spans[1], name="Other.f")]
    assert judge(anchor, current(*renamed, text=new)).freshness == "moved"


def test_a_name_moves_with_its_last_part() -> None:
    assert [last_name(n) for n in ("run", "A.B.run", "Shop > 1.2 Tax")] == [
        "run",
        "run",
        "Shop > 1.2 Tax",
    ]


def test_a_note_is_as_fresh_as_its_worst_anchor() -> None:
    assert worst([Verdict("moved"), Verdict("gone"), Verdict("fresh")]) == "gone"
    assert worst([Verdict("fresh"), Verdict("moved")]) == "moved"


def test_a_note_without_anchor_is_never_fresh() -> None:
    assert worst([]) == "unanchored"
