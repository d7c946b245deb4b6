from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from stratum import watch
from stratum.tree import Stamp
from stratum.watch import Seen, Watch


@pytest.fixture
def watched(tmp_path: Path) -> Watch:
    for name in ("a.py", "src/b.py", "src/deep/c.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    opened = Watch(tmp_path)
    opened.after(stamps(tmp_path, "a.py", "src/b.py", "src/deep/c.py"), {})
    return opened


def stamps(root: Path, *names: str) -> dict[str, tuple[int, int, int, int]]:
    return {name: Stamp.of((root / name).lstat()) for name in names}


def test_nothing_changed(watched: Watch) -> None:
    assert watched.look() == Seen()
    assert not watched.overdue


def test_an_edit_in_place_names_the_file(watched: Watch, tmp_path: Path) -> None:
    (tmp_path / "src/b.py").write_text("x = 22\n")
    assert watched.look() == Seen(("src/b.py",))


def test_a_file_that_was_replaced_counts_as_edited(watched: Watch, tmp_path: Path) -> None:
    (tmp_path / "src/new").write_text("x = 22\n")
    (tmp_path / "src/new").replace(tmp_path / "src/b.py")
    assert watched.look() == Seen(("src/b.py",))


@pytest.mark.parametrize("name", ["d.py", "src/d.py", "src/deep/er/d.py"])
def test_a_new_file_anywhere_calls_for_the_whole_tree(
    watched: Watch, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x = 1\n")
    assert watched.look() == Seen((), whole=True)


def test_a_file_that_is_gone_calls_for_the_whole_tree(watched: Watch, tmp_path: Path) -> None:
    (tmp_path / "src/deep/c.py").unlink()
    assert watched.look() == Seen(("src/deep/c.py",), whole=True)


def test_the_first_file_of_an_empty_folder_calls_for_the_whole_tree(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    for name in ("empty", "node_modules"):
        (tmp_path / name).mkdir()
    watched = Watch(tmp_path)
    watched.after(stamps(tmp_path, "a.py"), {})
    (tmp_path / "node_modules/b.js").write_text("x = 1\n")
    assert watched.look() == Seen()
    (tmp_path / "empty/b.py").write_text("x = 1\n")
    assert watched.look() == Seen((), whole=True)


def test_other_rules_on_what_is_ignored_call_for_the_whole_tree(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("a\n")
    watched = Watch(tmp_path)
    watched.after(stamps(tmp_path, ".gitignore"), {})
    (tmp_path / ".gitignore").write_text("bb\n")
    assert watched.look() == Seen((".gitignore",), whole=True)


def test_what_came_while_the_index_ran_is_found(watched: Watch, tmp_path: Path) -> None:
    before = watched.before()
    (tmp_path / "src/d.py").write_text("x = 1\n")
    watched.after(stamps(tmp_path, "a.py", "src/b.py", "src/deep/c.py"), before)
    assert watched.look() == Seen((), whole=True)


def test_a_folder_that_came_while_the_index_ran_is_watched_from_the_next_run_on(
    watched: Watch, tmp_path: Path
) -> None:
    files = stamps(tmp_path, "a.py", "src/b.py", "src/deep/c.py")
    before = watched.before()
    (tmp_path / "src/later").mkdir()
    watched.after(files, before)
    assert watched.look() == Seen((), whole=True)
    watched.after(files, watched.before())
    assert watched.look() == Seen()
    (tmp_path / "src/later/d.py").write_text("x = 1\n")
    assert watched.look() == Seen((), whole=True)


def test_no_folder_is_listed_twice_for_one_run(
    watched: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "src/empty").mkdir()
    files = stamps(tmp_path, "a.py", "src/b.py", "src/deep/c.py")
    listed: Counter[str] = Counter()
    scan = os.scandir

    def counted(path: str) -> object:
        listed[os.path.relpath(path, tmp_path)] += 1
        return scan(path)

    monkeypatch.setattr(os, "scandir", counted)
    watched.after(files, watched.before())
    assert listed == {".": 1, "src": 1, "src/deep": 1, "src/empty": 1}


def test_a_file_too_young_to_be_trusted_is_named_until_it_is_read_again(
    watched: Watch, tmp_path: Path
) -> None:
    young = {"src/deep/c.py": (0, 0, 0, 0)}
    watched.after({**stamps(tmp_path, "a.py", "src/b.py"), **young}, watched.before())
    assert watched.look() == Seen(("src/deep/c.py",))


def test_looks_are_rationed(
    watched: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_SHARE", 0.0)
    (tmp_path / "a.py").write_text("x = 22\n")
    looks = 0
    while watched.look() != Seen():
        looks += 1
    assert looks > 1


def test_before_the_first_index_there_is_nothing_to_compare(tmp_path: Path) -> None:
    assert Watch(tmp_path).look() == Seen()
