from __future__ import annotations

from stratum.freshness import CurrentFile, judge, lines_hash, worst
from stratum.models import Anchor, Outline, Symbol, Verdict

TEXT = "one\ntwo\nthree\nfour\nfive\n"


def symbol(name: str, start: int, body: str) -> Symbol:
    return Symbol(name, "function", start, start + 2, f"def {name}()", "", body)


def current(*symbols: Symbol, blob: str = "new", text: str = TEXT) -> CurrentFile:
    return CurrentFile(blob, text, Outline("python", 4, "", symbols))


ANCHOR = Anchor("a.py", "run", 10, 12, "old", "body")


def test_the_same_content_is_fresh_without_an_outline() -> None:
    assert judge(ANCHOR, current(blob="old")).freshness == "fresh"


def test_the_same_symbol_at_the_same_line_is_fresh_in_an_edited_file() -> None:
    assert judge(ANCHOR, current(symbol("run", 10, "body"))).freshness == "fresh"


def test_a_moved_symbol_carries_its_new_lines() -> None:
    assert judge(ANCHOR, current(symbol("run", 40, "body"))) == Verdict("moved", "a.py", 40, 42)


def test_the_nearest_of_equal_duplicates_is_taken() -> None:
    found = judge(ANCHOR, current(symbol("run", 90, "body"), symbol("run", 14, "body")))
    assert (found.freshness, found.start_line) == ("moved", 14)


def test_an_edited_symbol_is_changed_and_says_which() -> None:
    found = judge(ANCHOR, current(symbol("run", 10, "other")))
    assert (found.freshness, found.reason) == ("changed", "run was edited")


def test_a_symbol_that_left_the_file_is_gone() -> None:
    assert judge(ANCHOR, current(symbol("walk", 10, "body"))).freshness == "gone"


def test_a_missing_file_is_gone() -> None:
    assert judge(ANCHOR, None) == Verdict("gone", "a.py", reason="a.py no longer exists")


def test_an_anchor_on_the_whole_file_is_changed_by_any_edit() -> None:
    assert judge(Anchor("a.py", blob="old"), current()).freshness == "changed"


def test_lines_are_found_again_where_they_moved_to() -> None:
    anchor = Anchor("a.py", None, 2, 4, "old", lines_hash(TEXT, 2, 4))
    assert judge(anchor, current()).freshness == "fresh"
    moved = judge(anchor, current(text="zero\nhalf\n" + TEXT))
    assert moved == Verdict("moved", "a.py", 4, 6)


def test_lines_that_stood_in_two_places_are_never_called_moved() -> None:
    block = "a\nb\nc\n"
    marked = lines_hash(block + "x\n" + block, 1, 3, mark=True)
    anchor = Anchor("a.py", None, 1, 3, "old", marked)
    assert judge(anchor, current(text=block + "y\n" + block)).freshness == "fresh"
    assert judge(anchor, current(text="a\nB\nc\nx\n" + block)).freshness == "changed"
    assert lines_hash(TEXT, 1, 3, mark=True) == lines_hash(TEXT, 1, 3)


def test_fewer_than_three_lines_elsewhere_may_be_others() -> None:
    for last in (2, 3):
        anchor = Anchor("a.py", None, 2, last, "old", lines_hash(TEXT, 2, last))
        assert judge(anchor, current(text="zero\nhalf\n" + TEXT)).freshness == "changed"
    blank = Anchor("a.py", None, 1, 3, "old", lines_hash("one\n\n\n", 1, 3))
    assert judge(blank, current(text="zero\none\n\n\n")).freshness == "changed"


def test_indenting_all_lines_does_not_change_them() -> None:
    anchor = Anchor("a.py", None, 2, 3, "old", lines_hash(TEXT, 2, 3))
    assert judge(anchor, current(text="one\n    two  \n    three\n")).freshness == "fresh"


def test_a_line_that_left_its_block_changes_the_lines() -> None:
    text = "if a:\n    x()\n    y()\n"
    anchor = Anchor("a.py", None, 1, 3, "old", lines_hash(text, 1, 3))
    assert judge(anchor, current(text="if a:\n    x()\ny()\n")).freshness == "changed"


def test_edited_lines_are_changed() -> None:
    anchor = Anchor("a.py", None, 2, 3, "old", lines_hash(TEXT, 2, 3))
    assert judge(anchor, current(text="one\ntwo\n3\nfour\n")).freshness == "changed"


def test_lines_that_stand_in_two_new_places_are_not_guessed_at() -> None:
    anchor = Anchor("a.py", None, 1, 3, "old", lines_hash("a\nb\nc\n", 1, 3))
    assert judge(anchor, current(text="y\na\nb\nc\n")).freshness == "moved"
    assert judge(anchor, current(text="y\na\nb\nc\nz\na\nb\nc\n")).freshness == "changed"


def test_a_note_is_as_fresh_as_its_worst_anchor() -> None:
    assert worst([Verdict("moved"), Verdict("gone"), Verdict("fresh")]) == "gone"
    assert worst([Verdict("fresh"), Verdict("moved")]) == "moved"


def test_a_note_without_anchor_is_never_fresh() -> None:
    assert worst([]) == "unanchored"
