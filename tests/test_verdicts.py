"""Notes against real repositories: what still holds, what moved, what is of another branch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from stratum import git as git_module
from stratum.config import Settings
from stratum.errors import InvalidInput, NotFound
from stratum.memory import Memory
from stratum.models import Entry, Filters, Note
from tests.conftest import git, make_repository

TOTAL = "shop/cart.py::Cart.total_price"


def commit(root: Path, message: str = "Change") -> str:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", message)
    return git(root, "rev-parse", "HEAD")


def note_at(memory: Memory, *anchors: str) -> Note:
    return memory.write(f"Note at {' and '.join(anchors)}.", anchors=anchors).note


def fate(memory: Memory, note: Note) -> str:
    return str(memory.get(note.id).freshness)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def cut(path: Path, start: str, end: str = "") -> str:
    """Take a piece out of a file and return it."""
    text = path.read_text(encoding="utf-8")
    first = text.index(start)
    last = text.index(end, first) if end else len(text)
    path.write_text(text[:first] + text[last:], encoding="utf-8")
    return text[first:last]


# moves


@pytest.mark.parametrize("how", ["committed", "staged", "untracked"])
def test_a_function_is_followed_into_another_file(
    memory: Memory, repository: Path, how: str
) -> None:
    note = note_at(memory, "shop/cart.py::expire_old_carts")
    piece = cut(repository / "shop/cart.py", "def expire_old_carts")
    (repository / "shop/expiry.py").write_text(f"import os\n\n\n{piece}")
    if how != "untracked":
        git(repository, "add", "-A")
    if how == "committed":
        commit(repository)
    entry = memory.get(note.id)
    assert (entry.freshness, entry.path, entry.start_line) == ("moved", "shop/expiry.py", 4)
    [hit] = memory.search("note at").hits[:1]
    assert (hit.id, hit.path) == (note.id, "shop/expiry.py")


def test_a_function_that_was_edited_on_its_way_is_not_followed(
    memory: Memory, repository: Path
) -> None:
    note = note_at(memory, "shop/cart.py::expire_old_carts")
    piece = cut(repository / "shop/cart.py", "def expire_old_carts")
    (repository / "shop/expiry.py").write_text(piece.replace("86400", "3600"))
    assert fate(memory, note) == "gone"


def test_a_method_is_followed_when_its_class_gets_another_name(
    memory: Memory, repository: Path
) -> None:
    note = note_at(memory, TOTAL)
    edit(repository / "shop/cart.py", "class Cart:", "class Basket:")
    entry = memory.get(note.id)
    assert (entry.freshness, entry.verdicts[0].symbol) == ("moved", "Basket.total_price")


RUST = """struct Till {
    open: bool,
}

impl Till {
    fn close(&mut self) { self.open = false; }
}
"""


@pytest.mark.parametrize("kept_by_git", [True, False])
def test_one_of_several_definitions_of_a_name_is_followed_away_from_the_others(
    settings: Settings, repository: Path, kept_by_git: bool
) -> None:
    path = repository / "till.rs"
    path.write_text(RUST)
    if kept_by_git:
        commit(repository)
    with Memory(settings, repository) as memory:
        memory.index()
        struct, methods = (note_at(memory, f"till.rs::Till#{number}") for number in (1, 2))
        piece = cut(path, "impl Till")
        (repository / "methods.rs").write_text(piece)
        assert [fate(memory, n) for n in (struct, methods)] == ["fresh", "moved"]
        assert memory.get(methods.id).path == "methods.rs"
        edit(path, "open: bool", "open: u8")  # what is left may be what was meant, edited
        assert [fate(memory, n) for n in (struct, methods)] == ["changed", "changed"]


def test_a_copy_that_was_there_before_is_not_taken_for_the_one_that_went(
    settings: Settings, repository: Path
) -> None:
    body = "def close(self):\n    self.open = False\n"
    for name in ("a.py", "b.py"):
        (repository / name).write_text(body)
    with Memory(settings, repository) as memory:
        memory.index()
        note = note_at(memory, "a.py::close")
        (repository / "a.py").write_text("x = 1\n")
        assert fate(memory, note) == "gone"


def test_a_copy_that_the_index_did_not_know_is_not_taken_for_the_one_that_went(
    memory: Memory, repository: Path
) -> None:
    path = repository / "shop/cart.py"
    (repository / "legacy.py").write_text(path.read_text())  # not indexed yet
    symbol, whole = (
        note_at(memory, "shop/cart.py::expire_old_carts"),
        note_at(memory, "shop/cart.py"),
    )
    path.unlink()
    assert [fate(memory, n) for n in (symbol, whole)] == ["gone", "gone"]


def test_of_two_files_with_the_old_content_none_is_chosen(memory: Memory, repository: Path) -> None:
    note = note_at(memory, "shop/cart.py::expire_old_carts")
    text = (repository / "shop/cart.py").read_text()
    git(repository, "rm", "-q", "shop/cart.py")
    for name in ("one.py", "two.py"):
        (repository / name).write_text(text)
    commit(repository)
    assert fate(memory, note) == "gone"


def test_a_few_lines_under_the_same_name_in_another_class_are_a_coincidence(
    settings: Settings, repository: Path
) -> None:
    body = "    def __str__(self):\n        return self.name\n"
    (repository / "a.py").write_text(f"class Order:\n{body}")
    with Memory(settings, repository) as memory:
        memory.index()
        note = note_at(memory, "a.py::Order.__str__")
        (repository / "a.py").write_text("x = 1\n")
        (repository / "zoo.py").write_text(f"class Animal:\n    legs = 4\n{body}")
        assert fate(memory, note) == "gone"


def test_an_outline_shows_the_notes_that_moved_into_the_file(
    memory: Memory, repository: Path
) -> None:
    note = note_at(memory, "shop/cart.py::expire_old_carts")
    piece = cut(repository / "shop/cart.py", "def expire_old_carts")
    (repository / "shop/expiry.py").write_text(piece)
    assert [hit.id for hit in memory.outline("shop/expiry.py").notes] == [note.id]


def test_two_new_copies_are_not_chosen_between(memory: Memory, repository: Path) -> None:
    note = note_at(memory, "shop/cart.py::expire_old_carts")
    piece = cut(repository / "shop/cart.py", "def expire_old_carts")
    for name in ("one.py", "two.py"):
        (repository / name).write_text(piece)
    assert fate(memory, note) == "gone"


@pytest.mark.parametrize("how", ["git mv", "mv", "committed"])
@pytest.mark.parametrize("anchor", [TOTAL, "shop/cart.py", "shop/cart.py:16-17", "shop/cart.py:17"])
def test_a_file_that_got_another_name_is_followed(
    memory: Memory, repository: Path, how: str, anchor: str
) -> None:
    note = note_at(memory, anchor)
    (repository / "till").mkdir()
    if how == "mv":
        (repository / "shop/cart.py").rename(repository / "till/basket.py")
    else:
        git(repository, "mv", "shop/cart.py", "till/basket.py")
    if how == "committed":
        commit(repository)
    entry = memory.get(note.id)
    assert (entry.freshness, entry.path) == ("moved", "till/basket.py")


def test_a_renamed_file_that_was_edited_elsewhere_is_followed_by_git(
    memory: Memory, repository: Path
) -> None:
    symbol, lines, whole = (
        note_at(memory, anchor) for anchor in (TOTAL, "shop/cart.py:15-16", "shop/cart.py")
    )
    git(repository, "mv", "shop/cart.py", "shop/basket.py")
    edit(repository / "shop/basket.py", "TAX_RATE = 0.19\n", "TAX_RATE = 0.19\nLIMIT = 9\n")
    commit(repository)
    assert [fate(memory, n) for n in (symbol, lines, whole)] == ["moved", "moved", "changed"]


# what is edited, reformatted, told apart


def test_formatting_and_comments_do_not_count_but_an_operator_does(
    memory: Memory, repository: Path
) -> None:
    symbol, lines, whole = (
        note_at(memory, anchor) for anchor in (TOTAL, "shop/cart.py:15-16", "shop/cart.py")
    )
    path = repository / "shop/cart.py"
    edit(path, "        net = sum", "        # the net first\n        net = sum")
    edit(path, "return net * (1 + TAX_RATE)", "return net * (\n1 + TAX_RATE)")
    assert [fate(memory, n) for n in (symbol, lines, whole)] == ["fresh", "moved", "fresh"]
    edit(path, "1 + TAX_RATE", "1 - TAX_RATE")
    assert [fate(memory, n) for n in (symbol, lines, whole)] == ["changed"] * 3


NAMESAKES = """class Cart:
    @property
    def rate(self):
        return self._rate

    @rate.setter
    def rate(self, value):
        self._rate = value
"""


def test_definitions_of_one_name_are_told_apart_by_number(
    settings: Settings, repository: Path
) -> None:
    path = repository / "rate.py"
    path.write_text(NAMESAKES)
    with Memory(settings, repository) as memory:
        memory.index()
        getter = note_at(memory, "rate.py::Cart.rate#1")
        setter = note_at(memory, "rate.py::rate#2")
        both = note_at(memory, "rate.py::Cart.rate")
        assert [a.start_line for a in both.anchors] == [2, 6]
        edit(path, "self._rate = value", "self._rate = float(value)")
        assert [fate(memory, n) for n in (getter, setter, both)] == ["fresh", "changed", "changed"]
        assert memory.get(setter.id).start_line == 6
        with pytest.raises(NotFound, match="defines Cart.rate 2 times, so there is no #3"):
            note_at(memory, "rate.py::Cart.rate#3")


def test_one_of_two_equal_definitions_may_not_change_unseen(
    settings: Settings, repository: Path
) -> None:
    twin = "    def reset(self):\n        self.n = 0\n"
    path = repository / "twins.py"
    path.write_text(f"if DEBUG:\n{twin}else:\n{twin}")
    with Memory(settings, repository) as memory:
        memory.index()
        note = note_at(memory, "twins.py::reset#2")
        path.write_text("import os\n" + path.read_text())
        assert fate(memory, note) == "moved"
        head, _, tail = path.read_text().rpartition("self.n = 0")
        path.write_text(f"{head}self.n = 1{tail}")
        assert fate(memory, note) == "changed"


JAVA = """class Till {
  int pay(int cents) { return cents; }
  int pay(String text) { return Integer.parseInt(text); }
}
"""


def test_overloads_are_told_apart_in_other_languages(settings: Settings, repository: Path) -> None:
    path = repository / "Till.java"
    path.write_text(JAVA)
    commit(repository)
    with Memory(settings, repository) as memory:
        memory.index()
        first, second = (note_at(memory, f"Till.java::Till.pay#{n}") for n in (1, 2))
        edit(path, "Integer.parseInt(text)", "Integer.parseInt(text, 10)")
        path.write_text(path.read_text().replace("{ return cents; }", "{\n    return cents;\n  }"))
        assert [fate(memory, n) for n in (first, second)] == ["fresh", "changed"]
        assert "pay(String text)" in memory.get(second.id).verdicts[0].change[0]


def test_one_line_is_followed_through_the_diff(settings: Settings, repository: Path) -> None:
    path = repository / "setup.py"
    path.write_text("first()\n\nsecond()\n\nthird()\n")
    commit(repository)
    with Memory(settings, repository) as memory:
        memory.index()
        note = note_at(memory, "setup.py:3")
        path.write_text("other()\n\nsecond()\n\nanother()\n")
        assert fate(memory, note) == "changed"  # the same line, but nothing around it stayed
        path.write_text("first()\nnew()\n\nsecond()\n\nthird()\n")
        entry = memory.get(note.id)
        assert (entry.freshness, entry.start_line) == ("moved", 4)  # what follows stayed with it
        path.write_text("first()\nnew()\n\nsecond(1)\n\nthird()\n")
        assert fate(memory, note) == "changed"


def test_lines_that_stand_twice_are_followed_through_the_diff_alone(
    settings: Settings, repository: Path
) -> None:
    block = "    a = 1\n    b = 2\n    c = 3\n"
    path = repository / "twice.py"
    path.write_text(f"def f():\n{block}\n\ndef g():\n{block}")
    commit(repository)
    with Memory(settings, repository) as memory:
        memory.index()
        note = note_at(memory, "twice.py:8-10")
        edit(path, "def f", "import os\n\n\ndef f")
        entry = memory.get(note.id)
        assert (entry.freshness, entry.start_line) == ("moved", 11)
        head, _, tail = path.read_text().rpartition("b = 2")
        path.write_text(f"{head}b = 3{tail}")
        assert fate(memory, note) == "changed"


def test_an_anchor_by_an_earlier_outline_is_compared_by_what_git_kept(
    memory: Memory, repository: Path
) -> None:
    note = note_at(memory, TOTAL)
    line = next(line for line in memory.export() if note.id in line)
    memory.forget(note.id)
    plain = json.loads(line) | {"id": "b" * 12}
    plain["anchors"][0] |= {"body_hash": "0" * 16, "outline_version": None}
    memory.import_([json.dumps(plain)])
    note = memory.get("b" * 12).note or note
    path = repository / "shop/cart.py"
    edit(path, "TAX_RATE = 0.19", "TAX_RATE = 0.21")
    assert fate(memory, note) == "fresh"
    edit(path, "1 + TAX_RATE", "1 - TAX_RATE")
    assert fate(memory, note) == "changed"


SWAPPED = """def a(fast):
    if fast:
        timeout = 1
    return timeout


def b(fast):
    if fast:
        timeout = 2
    return timeout
"""
LIMITS = """api:
  limits:
    cpu: 100m
    memory: 1Gi
worker:
  limits:
    cpu: 200m
    memory: 1Gi
"""


@pytest.mark.parametrize("kept_by_git", [True, False])
@pytest.mark.parametrize(
    ("name", "text", "first", "second"),
    [("t.py", SWAPPED, "= 1", "= 2"), ("t.yaml", LIMITS, "100m", "200m")],
)
def test_values_that_changed_places_are_not_followed(
    settings: Settings, repository: Path, kept_by_git: bool, name: str, text: str,
    first: str, second: str,
) -> None:  # fmt: skip
    path = repository / name
    path.write_text(text)
    if kept_by_git:
        commit(repository)
    with Memory(settings, repository) as memory:
        memory.index()
        note = note_at(memory, f"{name}:3")
        swapped = text.replace(first, "?").replace(second, first).replace("?", second)
        path.write_text(swapped)
        assert fate(memory, note) == "changed"
        path.write_text(f"# new\n{text}")
        # without the old text only the definition around the line tells, and YAML has none
        known = kept_by_git or name == "t.py"
        assert fate(memory, note) == ("moved" if known else "changed")


CONDITIONAL = """import sys
if sys.platform == "win32":
    def newline():
        return CRLF
else:
    def newline():
        return LF
"""


def test_definitions_that_exchanged_their_bodies_are_edited(
    settings: Settings, repository: Path
) -> None:
    path = repository / "t.py"
    path.write_text(CONDITIONAL)
    with Memory(settings, repository) as memory:
        memory.index()
        windows, other = (note_at(memory, f"t.py::newline#{number}") for number in (1, 2))
        path.write_text(CONDITIONAL.replace("CRLF", "?").replace("LF", "CRLF").replace("?", "LF"))
        assert [fate(memory, n) for n in (windows, other)] == ["changed", "changed"]
        path.write_text(
            CONDITIONAL.replace("        return CRLF", "        x = 1\n        return x")
        )
        assert [fate(memory, n) for n in (windows, other)] == ["changed", "moved"]


CASES = """it("adds", () => {
  const App = () => <p>one</p>;
});
it("removes", () => {
  const App = () => <p>two</p>;
});
it("keeps", () => {
  const App = () => <p>three</p>;
});
"""


def test_definitions_of_one_name_that_come_and_go_beside_it_change_nothing(
    settings: Settings, repository: Path
) -> None:
    path = repository / "app.test.jsx"
    path.write_text(CASES)
    commit(repository)
    with Memory(settings, repository) as memory:
        memory.index()
        note = note_at(memory, "app.test.jsx::App#2")
        added = CASES.replace(
            'it("keeps"', 'it("more", () => {\n  const App = () => 1;\n});\nit("keeps"'
        )
        for text in (
            added,
            CASES.replace('it("adds", () => {\n  const App = () => <p>one</p>;\n});\n', ""),
        ):
            path.write_text(text)
            entry = memory.get(note.id)
            assert entry.freshness in ("fresh", "moved")
            assert "two" in path.read_text().split("\n")[(entry.start_line or 0) - 1]
        path.write_text(path.read_text().replace("two", "four"))
        assert fate(memory, note) == "changed"


def test_a_definition_that_a_later_one_hides_is_changed(memory: Memory, repository: Path) -> None:
    note = note_at(memory, "shop/cart.py::expire_old_carts")
    with (repository / "shop/cart.py").open("a") as file:
        file.write("\n\ndef expire_old_carts(carts, now):\n    return carts\n")
    entry = memory.get(note.id)
    assert (entry.freshness, entry.verdicts[0].reason) == (
        "changed",
        "expire_old_carts is defined once more",
    )


def test_an_edited_comment_changes_the_lines_it_stands_on(memory: Memory, repository: Path) -> None:
    path = repository / "shop/cart.py"
    edit(path, "        net = sum", "        # callers hold the lock\n        net = sum")
    note = note_at(memory, "shop/cart.py:15")
    edit(path, "callers hold the lock", "no lock is held here")
    assert fate(memory, note) == "changed"
    edit(path, "no lock is held here", "always x > 5")
    note = memory.write("Above five.", anchors=["shop/cart.py:15"]).note
    edit(path, "x > 5", "x < 5")
    assert fate(memory, note) == "changed"


def test_nothing_in_a_file_with_conflicts_is_served(memory: Memory, repository: Path) -> None:
    note = note_at(memory, TOTAL)
    path = repository / "shop/cart.py"
    path.write_text(f"<<<<<<< HEAD\nA = 1\n=======\nA = 2\n>>>>>>> x\n{path.read_text()}")
    entry = memory.get(note.id)
    assert (entry.freshness, entry.verdicts[0].reason) == (
        "changed",
        "shop/cart.py has conflicts of a merge",
    )


def test_other_line_ends_change_nothing(memory: Memory, repository: Path) -> None:
    notes = [note_at(memory, anchor) for anchor in (TOTAL, "shop/cart.py:3", "shop/cart.py:15-16")]
    path = repository / "shop/cart.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert [fate(memory, n) for n in notes] == ["fresh"] * 3


# branches


def test_a_note_of_another_branch_is_withheld_until_it_is_merged(
    memory: Memory, repository: Path
) -> None:
    git(repository, "checkout", "-q", "-b", "feature")
    (repository / "gift.py").write_text("def wrap():\n    return 1\n")
    commit(repository)
    memory.index()
    notes = [note_at(memory, "gift.py::wrap"), memory.write("Gifts are wrapped twice.").note]
    assert [fate(memory, n) for n in notes] == ["fresh", "unanchored"]
    git(repository, "checkout", "-q", "main")
    assert [fate(memory, n) for n in notes] == ["other-branch"] * 2
    found = memory.search("gifts wrapped", filters=Filters(stratum="notes"))
    assert (len(found.hits), found.withheld_stale) == (0, 2)
    of_notes = Filters(stratum="notes")
    shown = memory.search("gifts wrapped", filters=of_notes, include_stale=True).hits
    assert len(shown) == 2
    assert all(hit.freshness == "other-branch" for hit in shown)
    assert "written on feature at" in shown[0].change[0]
    git(repository, "merge", "-q", "--no-ff", "--no-edit", "feature")
    assert [fate(memory, n) for n in notes] == ["fresh", "unanchored"]


def test_a_note_of_another_branch_is_withheld_though_the_code_is_the_same(
    memory: Memory, repository: Path
) -> None:
    git(repository, "checkout", "-q", "-b", "feature")
    git(repository, "commit", "-q", "--allow-empty", "-m", "Idea")
    note = note_at(memory, TOTAL)
    git(repository, "checkout", "-q", "--detach", "main")
    entry = memory.get(note.id)
    assert (entry.freshness, entry.verdicts[0].reason) == ("other-branch", "here it is the same")


def test_a_note_that_is_written_again_on_this_branch_is_of_this_branch(
    memory: Memory, repository: Path
) -> None:
    git(repository, "checkout", "-q", "-b", "feature")
    git(repository, "commit", "-q", "--allow-empty", "-m", "Idea")
    loose, placed = memory.write("Gifts are wrapped twice.").note, note_at(memory, TOTAL)
    git(repository, "checkout", "-q", "main")
    again = memory.write(placed.text)
    assert "written on feature at" in again.notices[0]
    assert "stratum verify" in again.notices[0]
    memory.write(loose.text)
    memory.write(placed.text, anchors=[TOTAL])
    assert [fate(memory, n) for n in (loose, placed)] == ["unanchored", "fresh"]


def test_a_note_that_holds_is_not_taken_away_from_its_branch_by_writing_it_again(
    memory: Memory, repository: Path
) -> None:
    note = note_at(memory, TOTAL)
    git(repository, "checkout", "-q", "-b", "feature")
    edit(repository / "shop/cart.py", "TAX_RATE = 0.19", "TAX_RATE = 0.21")
    commit(repository)
    assert memory.write(note.text, anchors=[TOTAL]).note == note
    git(repository, "checkout", "-q", "main")
    assert fate(memory, note) == "fresh"


def test_an_amended_branch_is_not_another_branch(memory: Memory, repository: Path) -> None:
    (repository / "a.py").write_text("a = 1\n")
    commit(repository)
    note = note_at(memory, TOTAL)
    git(repository, "commit", "-q", "--amend", "-m", "Better said")
    assert note.commit != git(repository, "rev-parse", "HEAD")
    assert fate(memory, note) == "fresh"
    git(repository, "checkout", "-q", "-b", "other")
    assert fate(memory, note) == "other-branch"


def test_a_commit_that_was_collected_is_not_believed(memory: Memory, repository: Path) -> None:
    git(repository, "checkout", "-q", "-b", "feature")
    git(repository, "commit", "-q", "--allow-empty", "-m", "Idea")
    note = note_at(memory, TOTAL)
    git(repository, "checkout", "-q", "main")
    git(repository, "branch", "-q", "-D", "feature")
    git(repository, "reflog", "expire", "--expire=now", "--all")
    git(repository, "gc", "-q", "--prune=now")
    entry = memory.get(note.id)
    assert entry.freshness == "other-branch"
    assert "a commit that this clone does not have" in entry.elsewhere


def test_in_a_cut_off_history_the_contents_decide(
    settings: Settings, repository: Path, tmp_path: Path
) -> None:
    git(repository, "remote", "add", "origin", "https://example.org/ada/shop")
    with Memory(settings, repository) as memory:
        memory.index()
        note = note_at(memory, TOTAL)
        other = note_at(memory, "shop/session.py::SessionStore.load")
    edit(repository / "shop/session.py", "self.rows[key]", "self.rows.get(key)")
    commit(repository)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", str(clone))
    git(clone, "remote", "set-url", "origin", "https://example.org/ada/shop")
    with Memory(settings, clone) as memory:
        memory.index()
        assert git_module.shallow_boundary(clone)
        assert [fate(memory, n) for n in (note, other)] == ["fresh", "changed"]


def test_worktrees_share_notes_and_judge_by_their_own_files(
    settings: Settings, repository: Path, tmp_path: Path
) -> None:
    linked = tmp_path / "linked"
    git(repository, "worktree", "add", "-q", "-b", "side", str(linked))
    with Memory(settings, repository) as here, Memory(settings, linked) as there:
        here.index()
        there.index()
        note = note_at(here, TOTAL)
        assert [fate(m, note) for m in (here, there)] == ["fresh", "fresh"]
        edit(linked / "shop/cart.py", "1 + TAX_RATE", "1 - TAX_RATE")
        assert [fate(m, note) for m in (here, there)] == ["fresh", "changed"]
        git(linked, "commit", "-q", "-a", "-m", "Cheaper")
        aside = there.write("It is cheaper.", anchors=[TOTAL]).note
        assert [fate(m, aside) for m in (here, there)] == ["other-branch", "fresh"]


def test_a_sparse_checkout_does_not_make_notes_stale(memory: Memory, repository: Path) -> None:
    kept, edited = note_at(memory, TOTAL), note_at(memory, "shop/session.py::SessionStore.load")
    edit(repository / "shop/session.py", "self.rows[key]", "self.rows.get(key)")
    commit(repository)
    git(repository, "sparse-checkout", "set", "--no-cone", "/web/", "/README.md")
    assert not (repository / "shop").exists()
    assert [fate(memory, n) for n in (kept, edited)] == ["fresh", "changed"]


def test_a_submodule_is_a_project_of_its_own(
    settings: Settings, repository: Path, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    make_repository(library, {"lib.py": "def run():\n    return 1\n"})
    git(
        repository,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "-q",
        "add",
        str(library),
        "lib",
    )
    commit(repository)
    with Memory(settings, repository / "lib") as inner, Memory(settings, repository) as outer:
        inner.index()
        outer.index()
        note = note_at(inner, "lib.py::run")
        assert inner.project != outer.project
        git(repository, "commit", "-q", "--allow-empty", "-m", "Outside")
        assert fate(inner, note) == "fresh"
        git(repository / "lib", "checkout", "-q", "--detach", "HEAD")
        assert fate(inner, note) == "fresh"
        assert "lib/lib.py" not in outer.outline(".").files


def test_without_git_the_contents_decide(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "a.py").write_text("def run():\n    return 1\n")
    with Memory(settings, folder) as memory:
        memory.index()
        note = note_at(memory, "a.py::run")
        (folder / "a.py").rename(folder / "b.py")
        assert memory.get(note.id).path == "b.py"
        edit(folder / "b.py", "1", "2")
        assert fate(memory, note) == "gone"


def test_where_git_cannot_be_asked_a_note_is_withheld_and_the_answer_says_so(
    memory: Memory, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = note_at(memory, TOTAL)
    git(repository, "commit", "-q", "--allow-empty", "-m", "Later")
    new = note_at(memory, "shop/cart.py::Cart.add_item")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [fate(memory, n) for n in (old, new)] == ["other-branch", "fresh"]
    found = memory.search("note at", mode="lexical")
    assert found.withheld_stale == 1
    assert any("git was not found on PATH" in notice for notice in found.notices)


# what changed


def explained(entry: Entry) -> tuple[str, ...]:
    return entry.verdicts[0].change


def test_a_stale_note_says_what_changed_and_in_which_commit(
    memory: Memory, repository: Path
) -> None:
    note = note_at(memory, TOTAL)
    path = repository / "shop/cart.py"
    edit(path, "class Cart", "# one\nclass Cart")
    commit(repository, "Say one")
    edit(path, "*, with_tax=True", "*, with_tax=True, rebate=0")
    edit(path, "return net * (1", "return (net - rebate) * (1")
    first, second = explained(memory.get(note.id))
    assert first == (
        "Cart.total_price: `def total_price(self, *, with_tax=True)` is now "
        "`def total_price(self, *, with_tax=True, rebate=0)`; +2 -2 of 4 lines"
    )
    assert second == "not committed yet"
    id_ = commit(repository, "Grant rebates")
    edit(path, "# one", "# two")
    commit(repository, "Say two")
    date = git(repository, "log", "-1", "--format=%cs", id_)
    assert explained(memory.get(note.id))[1] == f"since {id_[:10]} of {date}: Grant rebates"
    [hit] = memory.search("note at total", include_stale=True).hits[:1]
    assert hit.change == explained(memory.get(note.id))


def test_without_git_no_commit_is_named(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    path = folder / "a.py"
    path.write_text("def run():\n    return 1\n")
    with Memory(settings, folder) as memory:
        note = note_at(memory, "a.py::run")
        line = next(line for line in memory.export() if note.id in line)
        plain = json.loads(line) | {"id": "b" * 12, "text": "From a clone.", "commit": "c" * 40}
        memory.import_([json.dumps(plain)])
        edit(path, "1", "2")
        assert explained(memory.get("b" * 12)) == ("run: its body was edited",)


def test_a_changed_definition_without_namesakes_costs_no_call_of_git(
    memory: Memory, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note_at(memory, TOTAL)
    edit(repository / "shop/cart.py", "1 + TAX_RATE", "1 - TAX_RATE")
    monkeypatch.setattr(git_module, "run_git", None)  # a call would fail
    [judgement] = memory._verdicts.of(memory._store().living_notes(memory._place().project_id))
    assert judgement.freshness == "changed"


def test_a_definition_that_got_another_name_is_named(memory: Memory, repository: Path) -> None:
    note = note_at(memory, "shop/cart.py::expire_old_carts")
    edit(repository / "shop/cart.py", "expire_old_carts", "drop_old_carts")
    entry = memory.get(note.id)
    assert entry.freshness == "gone"
    assert explained(entry)[0] == (
        "expire_old_carts is now called drop_old_carts; its body is the same"
    )


def test_removed_places_are_said_to_be(memory: Memory, repository: Path) -> None:
    function, whole, lines = (
        note_at(memory, anchor)
        for anchor in ("shop/cart.py::expire_old_carts", "shop/session.py", "shop/session.py:5-6")
    )
    cut(repository / "shop/cart.py", "def expire_old_carts")
    (repository / "shop/session.py").unlink()
    id_ = commit(repository, "Clean up")
    said = [explained(memory.get(n.id)) for n in (function, whole, lines)]
    assert [first for first, _ in said] == [
        "expire_old_carts was removed from shop/cart.py",
        "shop/session.py was removed",
        "shop/session.py was removed",
    ]
    assert all(id_[:10] in second for _, second in said)


def test_a_secret_in_a_subject_is_not_repeated(memory: Memory, repository: Path) -> None:
    note = note_at(memory, TOTAL)
    edit(repository / "shop/cart.py", "1 + TAX_RATE", "1 - TAX_RATE")
    secret = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    commit(repository, f"Use {secret}")
    assert secret not in "".join(explained(memory.get(note.id)))


# check and verify


def test_check_lists_what_no_longer_holds(memory: Memory, repository: Path) -> None:
    stale, fresh = note_at(memory, TOTAL), note_at(memory, "shop/cart.py::Cart.add_item")
    loose = memory.write("Nothing in particular.").note
    forgotten = note_at(memory, "shop/cart.py")
    memory.forget(forgotten.id)
    edit(repository / "shop/cart.py", "1 + TAX_RATE", "1 - TAX_RATE")
    report = memory.check()
    assert report.freshness == {stale.id: "changed", fresh.id: "fresh", loose.id: "unanchored"}
    assert report.counts == {"changed": 1, "fresh": 1, "unanchored": 1}
    assert [hit.id for hit in report.stale] == [stale.id]


def test_check_of_a_branch_names_what_the_branch_breaks(memory: Memory, repository: Path) -> None:
    path = repository / "shop/cart.py"
    before = note_at(memory, "shop/session.py::SessionStore.load")
    broken, kept = note_at(memory, TOTAL), note_at(memory, "shop/cart.py::Cart.add_item")
    edit(repository / "shop/session.py", "self.rows[key]", "self.rows.get(key)")
    commit(repository)
    git(repository, "checkout", "-q", "-b", "feature")
    edit(path, "1 + TAX_RATE", "1 - TAX_RATE")
    assert [hit.id for hit in memory.check(base="main").stale] == [broken.id]
    commit(repository)
    report = memory.check(base="main")
    assert [hit.id for hit in report.stale] == [broken.id]
    assert report.freshness[before.id] == "changed"
    assert report.freshness[kept.id] == "fresh"
    git(repository, "checkout", "-q", "main")
    assert memory.check(base="feature").stale == ()


def test_check_of_a_branch_sees_what_had_moved_before(memory: Memory, repository: Path) -> None:
    note = note_at(memory, "shop/cart.py::expire_old_carts")
    piece = cut(repository / "shop/cart.py", "def expire_old_carts")
    (repository / "shop/expiry.py").write_text(piece)
    commit(repository)
    assert fate(memory, note) == "moved"
    git(repository, "checkout", "-q", "-b", "feature")
    edit(repository / "shop/expiry.py", "86400", "3600")
    commit(repository)
    assert fate(memory, note) == "gone"
    assert [hit.id for hit in memory.check(base="main").stale] == [note.id]


@pytest.mark.parametrize("base", ["nowhere", "--all", "HEAD~99", ""])
def test_check_of_a_base_that_is_not_there_says_so(memory: Memory, base: str) -> None:
    with pytest.raises(InvalidInput, match="git knows no commit"):
        memory.check(base=base)


def test_check_of_a_branch_without_git_says_so(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    with Memory(settings, folder) as memory, pytest.raises(InvalidInput, match="not kept by git"):
        memory.check(base="main")


def test_verify_anchors_a_note_anew_and_can_be_undone(memory: Memory, repository: Path) -> None:
    note = note_at(memory, TOTAL)
    edit(repository / "shop/cart.py", "1 + TAX_RATE", "1 - TAX_RATE")
    commit(repository)
    assert fate(memory, note) == "changed"
    written = memory.verify(note.id)
    assert (written.action, fate(memory, note)) == ("verified", "fresh")
    assert written.note.commit == git(repository, "rev-parse", "HEAD")
    assert memory.verify(note.id, undo=True).note.anchors == note.anchors
    assert fate(memory, note) == "changed"
    with pytest.raises(InvalidInput, match="nothing to undo"):
        memory.verify(note.id, undo=True)


def test_verify_takes_what_moved_where_it_is_and_asks_for_what_is_gone(
    memory: Memory, repository: Path
) -> None:
    moved = note_at(memory, "shop/cart.py::expire_old_carts")
    gone = note_at(memory, TOTAL)
    lines = note_at(memory, "shop/cart.py:16-17")
    piece = cut(repository / "shop/cart.py", "def expire_old_carts")
    (repository / "shop/expiry.py").write_text(piece)
    cut(repository / "shop/cart.py", "    def total_price")
    anchor = memory.verify(moved.id).note.anchors[0]
    assert (anchor.path, anchor.symbol) == ("shop/expiry.py", "expire_old_carts")
    for note in (gone, lines):
        with pytest.raises(InvalidInput, match="Nobody can tell where"):
            memory.verify(note.id)
    memory.verify(gone.id, anchors=["shop/cart.py::Cart"])
    assert fate(memory, gone) == "fresh"


def test_verify_takes_a_note_of_another_branch_over(memory: Memory, repository: Path) -> None:
    git(repository, "checkout", "-q", "-b", "feature")
    git(repository, "commit", "-q", "--allow-empty", "-m", "Idea")
    note = note_at(memory, TOTAL)
    git(repository, "checkout", "-q", "main")
    assert fate(memory, note) == "other-branch"
    memory.verify(note.id)
    assert fate(memory, note) == "fresh"


def test_verify_asks_which_of_several_is_meant(settings: Settings, repository: Path) -> None:
    path = repository / "Till.java"
    path.write_text(JAVA)
    with Memory(settings, repository) as memory:
        memory.index()
        note = note_at(memory, "Till.java::Till.pay#2")
        edit(path, "  int pay(String text) { return Integer.parseInt(text); }\n", "")
        with pytest.raises(InvalidInput, match="Nobody can tell where"):
            memory.verify(note.id)


def test_verify_forget_and_get_stay_in_their_project(
    memory: Memory, settings: Settings, tmp_path: Path
) -> None:
    note = note_at(memory, TOTAL)
    other = tmp_path / "other"
    other.mkdir()
    make_repository(other, {"shop/cart.py": "x = 1\n"})
    with Memory(settings, other) as elsewhere:
        for act in (elsewhere.verify, elsewhere.forget, elsewhere.get):
            with pytest.raises(InvalidInput, match="is a note of another project"):
                act(note.id)
    memory.forget(note.id)
    with pytest.raises(InvalidInput, match="was forgotten"):
        memory.verify(note.id)


def test_undo_of_verify_loses_no_anchor_that_came_later(memory: Memory, repository: Path) -> None:
    note = note_at(memory, TOTAL)
    memory.verify(note.id)
    memory.write(note.text, anchors=["shop/session.py::SessionStore.load"])
    with pytest.raises(InvalidInput, match="got other anchors since"):
        memory.verify(note.id, undo=True)
    assert len((memory.get(note.id).note or note).anchors) == 2


def test_reading_never_makes_a_note_fresher(memory: Memory, repository: Path) -> None:
    note = note_at(memory, TOTAL)
    edit(repository / "shop/cart.py", "1 + TAX_RATE", "1 - TAX_RATE")
    for _ in range(2):
        memory.search("note at", include_stale=True)
        memory.outline("shop/cart.py")
        memory.check()
        memory.pack("note at the total price")
    entry = memory.get(note.id)
    assert (entry.freshness, entry.note) == ("changed", note)


# odd places

ODD = ["with space.py", 'quo"te.py', "new\nline.py", "täg.py", "dir with 'q'/ä b.py", "-dash.py"]


@pytest.mark.parametrize("name", ODD)
def test_odd_paths_are_judged_and_followed(settings: Settings, repository: Path, name: str) -> None:
    path = repository / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("def run():\n    return 1\n")
    commit(repository)
    with Memory(settings, repository) as memory:
        memory.index()
        note = note_at(memory, f"{name}::run")
        assert fate(memory, note) == "fresh"
        edit(path, "1", "2")
        assert fate(memory, note) == "changed"
        assert len(explained(memory.get(note.id))) == 2
        assert [hit.id for hit in memory.check(base="HEAD").stale] == [note.id]
        git(repository, "checkout", "-q", "--", name)
        git(repository, "mv", "--", name, "plain.py")
        assert memory.get(note.id).path == "plain.py"


def test_a_file_that_is_replaced_by_a_folder_or_a_link_is_gone(
    memory: Memory, repository: Path
) -> None:
    note = note_at(memory, TOTAL)
    path = repository / "shop/cart.py"
    text = path.read_text()
    path.unlink()
    (repository / "elsewhere.txt").write_text(text)
    path.symlink_to(repository / "elsewhere.txt")
    assert fate(memory, note) == "gone"
    path.unlink()
    path.mkdir()
    assert fate(memory, note) == "gone"


def test_a_damaged_repository_never_gives_a_wrong_verdict(memory: Memory, repository: Path) -> None:
    note = note_at(memory, TOTAL)
    git(repository, "commit", "-q", "--allow-empty", "-m", "Later")
    for objects in (repository / ".git/objects").iterdir():
        shutil.rmtree(objects)
    assert fate(memory, note) == "other-branch"
    edit(repository / "shop/cart.py", "1 + TAX_RATE", "1 - TAX_RATE")
    assert fate(memory, note) == "other-branch"
    assert memory.search("note at", mode="lexical").withheld_stale == 1


def script(folder: Path, body: str) -> Path:
    """Put a program in the place of git."""
    folder.mkdir()
    program = folder / "git"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize("answer", ["printf 'a\\0b'", "printf '\\377\\376\\n'", "true", "exit 3"])
def test_an_answer_of_git_without_sense_is_no_verdict(
    memory: Memory, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    note = note_at(memory, TOTAL)
    git(repository, "commit", "-q", "--allow-empty", "-m", "Later")
    monkeypatch.setenv("PATH", f"{script(tmp_path / 'bin', answer)}:/usr/bin:/bin")
    assert fate(memory, note) == "other-branch"
    assert memory.search("note at", mode="lexical").withheld_stale == 1
    memory.check()


def test_a_git_that_hangs_is_waited_for_once(
    memory: Memory, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = note_at(memory, TOTAL)
    git(repository, "commit", "-q", "--allow-empty", "-m", "Later")
    calls = tmp_path / "calls"
    program = script(tmp_path / "bin", f"echo x >> '{calls}'; exec sleep 60")
    monkeypatch.setenv("PATH", f"{program}:/usr/bin:/bin")
    monkeypatch.setattr(git_module.run_git, "__kwdefaults__", {"stdin": b"", "timeout": 0.3})
    assert fate(memory, note) == "other-branch"
    found = memory.search("note at", mode="lexical")
    assert any("took longer than 0.3 s" in notice for notice in found.notices)
    assert calls.read_text() == "x\n"
