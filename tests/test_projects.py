"""Which project a repository belongs to while its names come and go; no note is left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stratum import Memory, Settings
from stratum.models import Filters, Progress
from tests.conftest import SAMPLE, git, make_repository

NOTES = Filters(stratum="notes")
SHOP, FORK = "https://example.org/ada/shop.git", "https://example.org/bob/shop.git"


def told(memory: Memory, query: str = "tax", mode: str = "lexical") -> set[str]:
    found = memory.search(query, filters=NOTES, mode=mode)
    return {hit.id for hit in found.hits}


def clone(repository: Path, name: str, remote: str = "") -> Path:
    target = repository.parent / name
    git(repository.parent, "clone", "-q", str(repository), name)
    git(target, "remote", "remove", "origin")
    if remote:
        git(target, "remote", "add", "origin", remote)
    return target


def test_notes_and_code_stay_when_a_remote_comes_changes_and_goes(
    settings: Settings, repository: Path
) -> None:
    with Memory(settings, repository) as memory:
        memory.index()
        note = memory.write("Totals include tax.").note
        for change in (["add", "origin", SHOP], ["set-url", "origin", FORK], ["remove", "origin"]):
            git(repository, "remote", *change)
            report = memory.index()
            assert (report.files, report.parsed) == (len(SAMPLE), 0)
            assert told(memory) == {note.id}
            assert memory.search("cart total").hits[0].path == "shop/cart.py"
        assert memory.project == "example.org/bob/shop"


def test_an_orphan_branch_keeps_the_notes(settings: Settings, repository: Path) -> None:
    with Memory(settings, repository) as memory:
        memory.index()
        note = memory.write("Totals include tax.").note
        git(repository, "checkout", "-q", "--orphan", "pages")
        git(repository, "commit", "-q", "-m", "Pages")
        memory.index()
        assert told(memory) == {note.id}


def test_a_folder_that_becomes_a_repository_keeps_its_notes(
    settings: Settings, tmp_path: Path
) -> None:
    root = tmp_path / "plain"
    root.mkdir()
    (root / "a.py").write_text("def a(): pass\n")
    with Memory(settings, root) as memory:
        memory.index()
        note = memory.write("Totals include tax.").note
    make_repository(root, {})
    with Memory(settings, root) as memory:
        assert told(memory) == {note.id}


def test_a_repository_joins_the_project_that_has_its_remote(
    settings: Settings, repository: Path
) -> None:
    named = clone(repository, "named", SHOP)
    with (
        Memory(settings, repository, resident=True) as memory,
        Memory(settings, named, resident=True) as other,
    ):
        for opened in (memory, other):
            opened.index()
            opened.warm_up()
        mine = memory.write("Totals include tax.").note
        theirs = other.write("Zebras pay no tax.").note
        assert told(memory) == {mine.id}
        git(repository, "remote", "add", "origin", SHOP)
        memory.index()
        for opened in (memory, other):
            opened.index()
            opened.warm_up()
            for mode in ("lexical", "vector"):
                assert told(opened, mode=mode) == {mine.id, theirs.id}
            assert opened.search("cart total").hits[0].path == "shop/cart.py"
            assert opened.status().counts["files"] == len(SAMPLE)


def test_a_clone_without_remote_shares_the_project_before_and_after(
    settings: Settings, repository: Path
) -> None:
    with Memory(settings, repository) as memory:
        memory.index()
        note = memory.write("Totals include tax.").note
        with Memory(settings, clone(repository, "early")) as early:
            assert told(early) == {note.id}
            git(repository, "remote", "add", "origin", SHOP)
            memory.index()
            assert told(memory) == told(early) == {note.id}
            assert early.project == "example.org/ada/shop"
        shutil.rmtree(repository.parent / "early")
        assert told(memory) == {note.id}
        with Memory(settings, clone(repository, "late")) as late:
            late.index()
            assert told(late) == {note.id}
            assert late.search("cart total").hits[0].path == "shop/cart.py"


def test_a_fork_leaves_the_notes_with_the_clone_of_the_origin(
    settings: Settings, repository: Path
) -> None:
    git(repository, "remote", "add", "origin", SHOP)
    second = clone(repository, "second", SHOP)
    with Memory(settings, repository) as memory, Memory(settings, second) as other:
        note = memory.write("Totals include tax.").note
        assert told(other) == {note.id}
        git(second, "remote", "set-url", "origin", FORK)
        other.index()
        assert (told(memory), told(other)) == ({note.id}, set())
        assert (memory.project, other.project) == ("example.org/ada/shop", "example.org/bob/shop")


@pytest.mark.parametrize("remote", ["", FORK])
def test_another_repository_in_the_same_folder_is_told_nothing(
    settings: Settings, repository: Path, remote: str
) -> None:
    git(repository, "remote", "add", "origin", SHOP)
    kept = clone(repository, "kept", SHOP)
    with Memory(settings, repository) as memory:
        memory.index()
        note = memory.write("Totals include tax.").note
    shutil.rmtree(repository)
    repository.mkdir()
    make_repository(repository, {"zoo.py": "def zebra(): pass\n"})
    if remote:
        git(repository, "remote", "add", "origin", remote)
    with Memory(settings, repository) as memory:
        memory.index()
        assert told(memory) == set()
        assert memory.search("zebra").hits[0].path == "zoo.py"
    with Memory(settings, kept) as memory:
        assert told(memory) == {note.id}


def test_a_process_that_knows_the_old_name_only_writes_into_the_same_project(
    settings: Settings, repository: Path
) -> None:
    with Memory(settings, repository) as old:
        old.index()
        git(repository, "remote", "add", "origin", SHOP)
        with Memory(settings, repository) as new:
            new.index()
            ids = {old.write("Tax is 19 %.").note.id, new.write("Tax is due in May.").note.id}
            assert told(old) == told(new) == ids
            assert old.project == new.project == "example.org/ada/shop"


def test_an_index_run_starts_again_when_the_project_changes_meanwhile(
    settings: Settings, repository: Path
) -> None:
    with Memory(settings, clone(repository, "named", SHOP)) as named:
        named.index()
    done = []

    def joins(progress: Progress) -> None:
        if progress.phase == "scan" and not done:
            done.append(progress)
            git(repository, "remote", "add", "origin", SHOP)
            with Memory(settings, repository) as other:
                assert other.project == "example.org/ada/shop"

    with Memory(settings, repository) as memory:
        report = memory.index(report=joins)
        assert (report.project, report.files) == ("example.org/ada/shop", len(SAMPLE))
        assert memory.search("cart total").hits[0].path == "shop/cart.py"


def test_a_folder_that_is_gone_answers_as_it_was_known(
    settings: Settings, repository: Path
) -> None:
    with Memory(settings, repository) as memory:
        memory.index()
        note = memory.write("Totals include tax.").note
        git(repository, "remote", "add", "origin", SHOP)
        with Memory(settings, repository) as other:
            other.index()
        shutil.rmtree(repository)
        assert told(memory) == {note.id}
