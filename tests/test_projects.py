"""Which project a repository belongs to while its names come and go; no note is left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stratum import Memory, Settings
from stratum.embedder import HashingEmbedder
from stratum.indexer import embedded_text
from stratum.models import Filters, Progress
from tests.conftest import SAMPLE, git, make_repository

NOTES = Filters(stratum="notes")
SHOP, FORK = "https://example.org/ada/shop.git", "https://example.org/bob/shop.git"


def told(
    memory: Memory, query: str = "tax", mode: str = "lexical", *, include_stale: bool = False
) -> set[str]:
    found = memory.search(query, filters=NOTES, mode=mode, include_stale=include_stale)
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
        assert told(memory) == set()  # it was written on another branch
        assert told(memory, include_stale=True) == {note.id}


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
        assert (told(memory), told(other)) == ({mine.id}, {theirs.id})
        git(repository, "remote", "add", "origin", SHOP)
        memory.index()
        assert told(other) == {mine.id, theirs.id}
        with Memory(settings, named) as cold:
            assert told(cold) == {mine.id, theirs.id}
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
    with (
        Memory(settings, repository) as memory,
        Memory(settings, second) as other,
        Memory(settings, second) as older,
    ):
        note = memory.write("Totals include tax.").note
        assert told(other) == told(older) == {note.id}
        git(second, "remote", "set-url", "origin", FORK)
        other.index()
        assert told(older) == set()
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
        assert told(memory) == set()  # nobody can tell whether it holds
        assert told(memory, include_stale=True) == {note.id}


def test_a_repository_without_commits_keeps_its_notes_when_its_remote_is_corrected(
    settings: Settings, tmp_path: Path
) -> None:
    for name, change in (("a", ["set-url", "origin", FORK]), ("b", ["remove", "origin"])):
        root = tmp_path / name
        root.mkdir()
        git(root, "init", "-q")
        git(root, "remote", "add", "origin", f"{SHOP}-{name}")
        with Memory(settings, root) as memory:
            note = memory.write("Totals include tax.").note
            git(root, "remote", *change)
            memory.index()
            assert told(memory) == {note.id}


def test_a_new_repository_in_a_folder_that_was_known_by_its_place_is_told_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    root = tmp_path / "work"
    notes = []
    for turn in ("first", "second"):
        root.mkdir()
        git(root, "init", "-q")
        with Memory(settings, root) as memory:
            notes.append(memory.write(f"Tax is due in the {turn} month.").note.id)
            assert told(memory) == {notes[-1]}
        make_repository(root, {f"{turn}.py": f"{turn} = 1\n", "both.py": "both = 1\n"})
        with Memory(settings, root) as memory:
            memory.index()
            assert told(memory) == {notes[-1]}
            for name in (turn, "both"):
                found = memory.search(name, filters=Filters(stratum="code"), mode="lexical")
                assert found.hits[0].path == f"{name}.py"
        shutil.rmtree(root)


def test_leaving_notes_behind_is_said(settings: Settings, repository: Path) -> None:
    git(repository, "remote", "add", "origin", SHOP)
    with Memory(settings, repository) as memory:
        memory.index()
        memory.write("Totals include tax.")
    shutil.rmtree(repository)
    repository.mkdir()
    make_repository(repository, {"zoo.py": "def zebra(): pass\n"})
    with Memory(settings, repository) as memory:
        notices = memory.search("zebra").notices
        assert "was part of example.org/ada/shop with 1 notes" in notices[0]


def test_nothing_is_parted_while_git_cannot_tell(
    settings: Settings, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(repository, "remote", "add", "origin", SHOP)
    with Memory(settings, repository) as memory:
        memory.index()
        note = memory.write("Totals include tax.").note
    git(repository, "remote", "set-url", "origin", FORK)
    broken = tmp_path / "bin" / "git"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'fatal: no' >&2\nexit 128\n")
    broken.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(broken.parent), prepend=":")
        with Memory(settings, repository) as memory:
            assert told(memory) == {note.id}
    with Memory(settings, repository) as memory:
        assert told(memory) == {note.id}
        assert memory.project == "example.org/bob/shop"


def test_a_library_merged_into_a_repository_stays_a_project_of_its_own(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = {}
    for name, year in (("library", "2001"), ("app", "2020")):
        monkeypatch.setenv("GIT_COMMITTER_DATE", f"{year}-01-01T00:00:00Z")
        roots[name] = tmp_path / name
        roots[name].mkdir()
        make_repository(roots[name], {f"{name}.py": f"{name} = 1\n"})
    with Memory(settings, roots["library"]) as library, Memory(settings, roots["app"]) as app:
        theirs, mine = library.write("The library's tax.").note, app.write("The app's tax.").note
        git(roots["app"], "fetch", "-q", str(roots["library"]), "main")
        git(roots["app"], "merge", "-q", "--allow-unrelated-histories", "-m", "M", "FETCH_HEAD")
        app.index()
        library.index()
        assert (told(app), told(library)) == ({mine.id}, {theirs.id})


def test_the_shown_name_returns_with_the_remote(settings: Settings, repository: Path) -> None:
    with Memory(settings, repository) as memory:
        for address, name in ((SHOP, "ada"), (FORK, "bob"), (SHOP, "ada")):
            git(repository, "config", "remote.origin.url", address)
            memory.index()
            assert memory.project == f"example.org/{name}/shop"


def test_a_note_gets_its_vector_although_its_project_changed_while_the_model_ran(
    settings: Settings, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Memory(settings, clone(repository, "named", SHOP)) as named:
        named.index()
    embed, joined = HashingEmbedder.embed_documents, []

    def joins(self: HashingEmbedder, texts: list[str]) -> object:
        vectors = embed(self, texts)
        if not joined:
            git(repository, "remote", "add", "origin", SHOP)
            with Memory(settings, repository) as other:
                joined.append(other.project)
        return vectors

    with Memory(settings, repository) as memory:
        note = memory.write("Totals include tax.").note
        monkeypatch.setattr(HashingEmbedder, "embed_documents", joins)
        memory.index()
        memory.index()
        assert joined == ["example.org/ada/shop"]
        assert told(memory, mode="vector") == {note.id}


def test_a_note_changed_while_the_model_ran_is_embedded_anew(
    settings: Settings, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed, merged = HashingEmbedder.embed_documents, []

    def merges(self: HashingEmbedder, texts: list[str]) -> object:
        vectors = embed(self, texts)
        if not merged:
            merged.append(memory.write("Totals include tax.", anchors=["shop/cart.py::Cart"]))
        return vectors

    with Memory(settings, repository) as memory:
        memory.write("Totals include tax.")
        monkeypatch.setattr(HashingEmbedder, "embed_documents", merges)
        report = memory.index()
        assert merged[0].action == "merged"
        assert report.vectors_pending == 0
        store = memory._store()
        record_id, _ = store.record_id(merged[0].note.id) or (0, 0)
        ((_, vector),) = store.vector_rows(store.spaces()[0], [record_id])
        (wanted,) = HashingEmbedder().embed_documents(
            [embedded_text("Cart", "Totals include tax.")]
        )
        assert vector == wanted.tobytes()


def test_processes_that_see_two_names_end_in_one_project(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "work"
    root.mkdir()
    git(root, "init", "-q")
    git(root, "remote", "add", "origin", "hub:ada/shop")
    (root / "a.py").write_text("def alpha(): pass\n")
    expanding = tmp_path / "expanding"
    expanding.write_text('[url "https://example.org/"]\n\tinsteadOf = hub:\n')
    for config in (tmp_path / "none", expanding, tmp_path / "none", expanding):
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
        with Memory(settings, root) as memory:
            memory.index()
            memory.write(f"Tax note by {config.name}.")
            assert memory.search("alpha").hits[0].path == "a.py"
            assert len(told(memory)) == 1 + (expanding.name in repr(list(memory.export())))
