from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratum.errors import InvalidInput, NotInProject, Unavailable
from stratum.git import blob_id, find_worktree, head, installed, normalise_remote, run_git


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\nname = Ada\nemail = ada@example.org\n"
        '[init]\ndefaultBranch = main\n[protocol "file"]\nallow = always\n'
        "[advice]\ndetachedHead = false\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", folder, *arguments], capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


def repository(folder: Path, *, remote: str = "") -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    if remote:
        git(folder, "remote", "add", "origin", remote)
    commit(folder, "a.txt", "first")
    return folder.resolve()


def commit(folder: Path, path: str, text: str) -> str:
    (folder / path).write_text(text)
    git(folder, "add", path)
    git(folder, "commit", "-q", "-m", f"write {path}")
    return git(folder, "rev-parse", "HEAD")


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/django/django",
        "https://github.com/django/django.git",
        "https://github.com/django/django.git/",
        "https://GitHub.com:443//django//django",
        "https://user:to%40ken@github.com/django/django.git",
        "https://user:p@ss@github.com/django/django.git?x=1#y",
        "http://github.com:80/django/django",
        "git@github.com:django/django.git",
        "GITHUB.com:/django/django.git",
        "ssh://git@github.com/django/django.git",
        "ssh://git@github.com:22/django/django.git",
        "git+ssh://git@github.com/django/django",
        "git://github.com:9418/django/django",
        "  https://github.com/django/django\n",
    ],
)
def test_every_way_to_reach_a_remote_gives_one_identity(url: str) -> None:
    assert normalise_remote(url) == "github.com/django/django"


@pytest.mark.parametrize(
    ("url", "identity"),
    [
        ("ssh://git@example.org:2222/team/app.git", "example.org:2222/team/app"),
        ("https://gitlab.com/group/sub/group/app.git", "gitlab.com/group/sub/group/app"),
        ("https://dev.azure.com/org/My%20App/_git/app", "dev.azure.com/org/My App/_git/app"),
        ("https://example.org/Django/django", "example.org/Django/django"),
        ("git@[fe80::2]:team/app.git", "[fe80::2]/team/app"),
        ("https://github.com/team/dot.git.git", "github.com/team/dot.git"),
    ],
)
def test_what_tells_two_projects_apart_is_kept(url: str, identity: str) -> None:
    assert normalise_remote(url) == identity


def test_the_case_of_a_path_does_not_count_where_the_host_ignores_it() -> None:
    assert normalise_remote("git@GitHub.com:Ada/Shop.git") == "github.com/ada/shop"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/srv/git/app.git",
        "../app",
        "C:/work/app",
        "C:\\work\\app",
        "file:///srv/git/app.git",
        "https://localhost:3000/team/app",
        "http://user@127.0.0.1:41234/git/team/app",
        "ssh://git@[::1]/team/app",
        "https://example.org",
        "https://example.org/.git",
        "https://example.org:secret/team/app",
        "https:///team/app",
        "ext::sh -c date",
        "codecommit::us-east-1://app",
    ],
)
def test_an_address_that_others_cannot_share_is_no_identity(url: str) -> None:
    assert normalise_remote(url) is None


@given(st.text(st.characters(exclude_characters="@/:[]?#\\", exclude_categories=["Cs"])))
def test_a_password_never_shows_in_an_identity(password: str) -> None:
    assert normalise_remote(f"https://ada:{password}@h.org/o/n") == "h.org/o/n"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_may_be_given_as_a_remote(url: str) -> None:
    identity = normalise_remote(url)
    assert identity is None or "/" in identity


def test_a_blob_id_is_the_one_git_computes(tmp_path: Path) -> None:
    for data in (b"", b"text\n", b"\0\xff" * 5000):
        (tmp_path / "file").write_bytes(data)
        assert blob_id(data) == git(tmp_path, "hash-object", "--no-filters", "file")


def test_a_repository_is_known_by_its_remote_from_any_place_in_it(tmp_path: Path) -> None:
    root = repository(tmp_path / "work", remote="git@example.org:team/app.git")
    (root / "src" / "deep").mkdir(parents=True)

    found = find_worktree(root)

    assert (found.root, found.identity, found.name) == (root, "example.org/team/app", "app")
    assert (found.git, found.commit, found.branch) == (True, git(root, "rev-parse", "HEAD"), "main")
    assert find_worktree(root / "src" / "deep") == found
    assert find_worktree(root / "a.txt") == found


def test_without_origin_the_first_remote_by_name_that_can_be_shared_counts(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    git(root, "remote", "add", "zeta", "https://example.org/team/zeta")
    git(root, "remote", "add", "beta", "https://example.org/team/beta")
    git(root, "remote", "add", "alpha", "/srv/git/alpha")
    assert find_worktree(root).identity == "example.org/team/beta"
    git(root, "remote", "add", "origin", "https://example.org/team/app")
    assert find_worktree(root).identity == "example.org/team/app"


def test_a_remote_is_read_as_git_reads_it_however_the_config_is_written(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    for text in (
        '[remote "origin"] url = https://example.org/team/app ; ours',
        '[Remote "origin"]\n\tURL="https://example.org/team/app"#x\n\turl = second',
        (
            '# [remote "origin"]\n[core]\n\tbare\n\tbare = no\n'
            "[remote.origin]\nurl=https://example.org/team/app"
        ),
        (
            '[url "https://example.org/"]\ninsteadOf = ex:\ninsteadOf = e\n'
            '[remote "origin"]\nurl = ex:team/app'
        ),
    ):
        (root / ".git" / "config").write_text(text)
        assert git(root, "remote", "get-url", "origin") == "https://example.org/team/app"
        assert find_worktree(root).identity == "example.org/team/app"


def test_a_shorthand_of_the_users_own_config_is_spelled_out(tmp_path: Path) -> None:
    root = repository(tmp_path / "work", remote="ex:team/app")
    git(root, "config", "--global", "url.git@example.org:.insteadOf", "ex:")
    assert find_worktree(root).identity == "example.org/team/app"


def test_without_a_remote_the_first_commit_names_the_project(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    first = git(root, "rev-parse", "HEAD")
    commit(root, "a.txt", "second")
    found = find_worktree(root)
    assert (found.identity, found.name) == (f"root:{first}", "work")
    git(tmp_path, "clone", "-q", str(root), "copy")
    assert find_worktree(tmp_path / "copy").identity == f"root:{first}"


def test_of_several_first_commits_the_oldest_names_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2020-01-01T00:00:00Z")
    root = repository(tmp_path / "work")
    oldest = git(root, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2021-01-01T00:00:00Z")
    git(root, "checkout", "-q", "--orphan", "other")
    commit(root, "b.txt", "other beginning")
    git(root, "merge", "-q", "--allow-unrelated-histories", "-m", "join", "main")
    assert find_worktree(root).identity == f"root:{oldest}"


def test_before_the_first_commit_the_place_names_the_project(tmp_path: Path) -> None:
    root = tmp_path / "new"
    git(tmp_path, "init", "-q", str(root))
    found = find_worktree(root)
    assert found.identity == f"path:{root.resolve() / '.git'}"
    assert (found.git, found.commit, found.branch) == (True, None, "main")


def test_the_cut_off_history_of_a_shallow_clone_names_nothing(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    commit(root, "a.txt", "second")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{root}", "shallow")
    found = find_worktree(tmp_path / "shallow")
    assert found.identity == f"path:{tmp_path.resolve() / 'shallow' / '.git'}"
    assert found.commit == git(root, "rev-parse", "HEAD")


def test_linked_worktrees_share_the_identity_and_have_their_own_root(tmp_path: Path) -> None:
    main = repository(tmp_path / "work")
    git(main, "worktree", "add", "-q", "-b", "feature/x", "../linked")
    changed = commit(tmp_path / "linked", "b.txt", "other")
    linked = find_worktree(tmp_path / "linked")
    assert linked.identity == find_worktree(main).identity
    assert (linked.root, linked.name) == (tmp_path.resolve() / "linked", "work")
    assert (linked.commit, linked.branch) == (changed, "feature/x")


def test_worktrees_of_a_bare_repository_are_projects_and_its_own_folder_is_none(
    tmp_path: Path,
) -> None:
    repository(tmp_path / "work")
    layout = tmp_path / "layout"
    layout.mkdir()
    git(layout, "clone", "-q", "--bare", str(tmp_path / "work"), ".bare")
    (layout / ".git").write_text("gitdir: ./.bare\n")
    git(layout, "worktree", "add", "-q", "main")
    found = find_worktree(layout / "main")
    assert (found.name, found.branch) == ("layout", "main")
    assert found.identity == find_worktree(tmp_path / "work").identity
    for bare in (layout, layout / ".bare", layout / ".bare" / "objects"):
        with pytest.raises(NotInProject) as raised:
            find_worktree(bare)
        assert "--project" in raised.value.hint


def test_the_inside_of_a_git_folder_is_no_project(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    with pytest.raises(NotInProject):
        find_worktree(root / ".git" / "refs")


def test_a_submodule_is_a_project_of_its_own(tmp_path: Path) -> None:
    part = repository(tmp_path / "part")
    whole = repository(tmp_path / "whole", remote="https://example.org/team/whole")
    git(whole, "submodule", "--quiet", "add", str(part), "lib/part")
    found = find_worktree(whole / "lib" / "part")
    assert found.root == whole / "lib" / "part"
    assert found.identity == find_worktree(part).identity != find_worktree(whole).identity


def test_a_folder_without_git_is_a_project_by_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    found = find_worktree(folder)
    assert (found.root, found.name, found.git) == (folder.resolve(), "plain", False)
    assert (found.identity, found.commit) == (f"path:{folder.resolve()}", None)
    assert head(folder) == (None, None)


def test_head_follows_the_work_without_asking_for_the_project_again(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    first = git(root, "rev-parse", "HEAD")
    assert head(root) == (first, "main")
    second = commit(root, "a.txt", "second")
    assert head(root) == (second, "main")
    git(root, "checkout", "-q", first)
    assert head(root) == (first, None)
    git(root, "checkout", "-q", "-b", "a/b/ü")
    assert head(root) == (first, "a/b/ü")


def test_packed_refs_are_read(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    for name in ("before", "zz/main", "main2"):
        git(root, "branch", name)
    last = commit(root, "a.txt", "second")
    git(root, "pack-refs", "--all")
    assert not (root / ".git" / "refs" / "heads" / "main").exists()
    assert head(root) == (last, "main")
    git(root, "checkout", "-q", "--orphan", "unborn")
    assert head(root) == (None, "unborn")


def test_a_ref_that_names_another_ref_is_followed(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    git(root, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    git(root, "symbolic-ref", "HEAD", "refs/heads/alias")
    assert head(root) == (git(root, "rev-parse", "HEAD"), "alias")


def test_a_head_that_plain_files_do_not_explain_is_asked_of_git(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    commit_id = git(root, "rev-parse", "HEAD")
    git(root, "config", "core.preferSymlinkRefs", "true")
    git(root, "checkout", "-q", "-b", "feature")
    assert (root / ".git" / "HEAD").is_symlink()
    assert head(root) == (commit_id, "feature")


@pytest.mark.parametrize("text", ["", "\0" * 41, "ref: refs/../../x", "garbage"])
def test_a_damaged_ref_is_told_in_a_sentence(tmp_path: Path, text: str) -> None:
    root = repository(tmp_path / "work")
    (root / ".git" / "refs" / "heads" / "main").write_text(text)
    with pytest.raises(Unavailable) as raised:
        head(root)
    assert raised.value.message.startswith(f"git could not read {root}: ")


def test_a_git_folder_without_head_is_told_in_a_sentence(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    (root / ".git" / "HEAD").unlink()
    with pytest.raises(Unavailable, match="cannot be read") as raised:
        find_worktree(root)
    assert "git worktree repair" in raised.value.hint


@pytest.mark.parametrize("text", ["", "nonsense", "gitdir: ../gone/.git", "gitdir: a\0b"])
def test_a_git_file_that_leads_nowhere_is_told_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / ".git").write_text(text)
    with pytest.raises(Unavailable, match="cannot be read"):
        find_worktree(tmp_path / "linked")


def test_an_empty_git_folder_is_passed_over_as_git_does(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    (root / "sub" / ".git").mkdir(parents=True)
    assert find_worktree(root / "sub").root == root


def test_a_repository_of_another_user_is_refused_with_the_cure_git_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = repository(tmp_path / "work")
    # git's own switch for its tests: every repository is taken as someone else's
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(Unavailable, match="does not trust") as raised:
        find_worktree(root)
    assert f"git config --global --add safe.directory '{root}'" in raised.value.hint


@pytest.mark.parametrize("path", ["missing", "a\0b", "x" * 5000])
def test_a_path_that_is_not_there_is_invalid_input(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        find_worktree(tmp_path / path)
    assert not isinstance(raised.value, NotInProject)


@pytest.mark.parametrize(
    "name",
    [b"with space", b"quo\"te's", b"new\nline", b"\xff\xfe latin", "日本語".encode(), b"a:b"],
)
def test_any_folder_name_works_and_gives_an_identity_that_can_be_stored(
    tmp_path: Path, name: bytes
) -> None:
    root = repository(tmp_path / os.fsdecode(name))
    first = git(root, "rev-parse", "HEAD")
    found = find_worktree(root)
    assert (found.root, found.identity) == (root, f"root:{first}")
    assert found.name == name.decode("utf-8", "backslashreplace")
    (root / ".git").rename(tmp_path / "elsewhere")
    assert find_worktree(root).identity.encode("utf-8").endswith(found.name.encode("utf-8"))


def test_the_home_folder_is_never_a_project(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(NotInProject) as raised:
        find_worktree(home)
    assert str(home.resolve()) in raised.value.message
    assert "--project PATH" in raised.value.hint
    assert "git init" in raised.value.hint


def test_the_root_of_the_drive_is_never_a_project() -> None:
    with pytest.raises(NotInProject):
        find_worktree(Path("/"))


def test_dotfiles_under_git_do_not_swallow_the_folders_below_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    git(home, "init", "-q")
    commit(home, ".profile", "x")
    (home / "plain").mkdir()
    own = repository(home / "own")
    assert find_worktree(home / "plain").git is False
    assert find_worktree(home / "plain").root == (home / "plain").resolve()
    assert find_worktree(own).git is True
    with pytest.raises(NotInProject):
        find_worktree(home)
    with pytest.raises(NotInProject):
        find_worktree(home / ".profile")


def test_without_a_git_program_a_repository_is_still_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = repository(tmp_path / "work", remote="https://example.org/team/app")
    local = repository(tmp_path / "local")
    expected = find_worktree(root)
    local_head = head(local)
    monkeypatch.setenv("PATH", str(tmp_path / "home"))
    assert not installed()
    assert find_worktree(root) == expected
    found = find_worktree(local)
    assert found.identity == f"path:{local / '.git'}"
    assert (found.commit, found.branch) == local_head
    with pytest.raises(Unavailable, match="not found on PATH"):
        run_git(root, "rev-parse", "HEAD")


def test_a_git_beside_the_files_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = repository(tmp_path / "work")
    planted = root / "git"
    planted.write_text("#!/bin/sh\ntouch planted-was-run\n")
    planted.chmod(0o755)
    monkeypatch.chdir(root)
    monkeypatch.setenv("PATH", f".{os.pathsep}")
    assert not installed()
    assert find_worktree(root).identity.startswith("path:")
    assert not (root / "planted-was-run").exists()


def test_the_variables_git_sets_for_its_hooks_lead_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, other = repository(tmp_path / "work"), repository(tmp_path / "other")
    commit(other, "only-here.txt", "x")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert run_git(root, "ls-files", "-z") == b"a.txt\0"


def test_a_broken_repository_is_not_replaced_by_the_one_around_it(tmp_path: Path) -> None:
    around = repository(tmp_path / "around")
    (around / "inner" / ".git").mkdir(parents=True)
    with pytest.raises(Unavailable, match="HEAD, refs or objects"):
        run_git(around / "inner", "ls-files")


def test_a_failure_of_git_is_told_in_its_words(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    with pytest.raises(Unavailable, match="ambiguous argument 'no-such-thing'"):
        run_git(root, "rev-parse", "no-such-thing")


def test_a_git_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    with pytest.raises(Unavailable, match="took longer than"):
        run_git(root, "log", timeout=0.000_001)


@pytest.mark.parametrize("subcommand", ["status", "diff", "add", "gc", "config"])
def test_subcommands_that_write_or_filter_are_refused(tmp_path: Path, subcommand: str) -> None:
    with pytest.raises(ValueError, match=subcommand):
        run_git(tmp_path, subcommand)


def test_nothing_that_a_repository_names_is_run(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    marker = tmp_path / "was-run"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{marker}'\nexit 1\n")
    script.chmod(0o755)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for hook in ("post-index-change", "fsmonitor-watchman", "reference-transaction"):
        (hooks / hook).write_text(script.read_text())
        (hooks / hook).chmod(0o755)
    (root / ".gitattributes").write_text("* diff=evil filter=evil\n")
    git(root, "add", ".gitattributes")
    git(root, "commit", "-q", "-m", "attributes")
    signed = git(root, "cat-file", "-p", "HEAD").replace(
        "\n\n", "\ngpgsig -----BEGIN PGP SIGNATURE-----\n x\n -----END PGP SIGNATURE-----\n\n", 1
    )
    (tmp_path / "commit").write_text(signed + "\n")
    made = git(root, "hash-object", "-t", "commit", "-w", str(tmp_path / "commit"))
    git(root, "update-ref", "HEAD", made)
    (root / "a.txt").write_text("edited")
    (root / ".git" / "index").touch()
    for key, value in {
        "core.fsmonitor": str(script),
        "core.hooksPath": str(hooks),
        "core.pager": str(script),
        "core.sshCommand": str(script),
        "core.alternateRefsCommand": str(script),
        "diff.external": str(script),
        "diff.evil.command": str(script),
        "diff.evil.textconv": str(script),
        "filter.evil.clean": str(script),
        "filter.evil.smudge": str(script),
        "filter.evil.required": "true",
        "gpg.program": str(script),
        "log.showSignature": "true",
        "pager.log": str(script),
        "alias.log": f"!{script}",
        "credential.helper": str(script),
    }.items():
        git(root, "config", key, value)

    find_worktree(root)
    assert b"a.txt" in run_git(root, "ls-files", "--cached", "--others", "--exclude-standard")
    assert b"+first" in run_git(root, "log", "-p", "--root")
    assert b"* diff=evil" in run_git(root, "show", "HEAD")
    assert b"* diff=evil" in run_git(root, "diff-tree", "-p", "HEAD")
    run_git(root, "cat-file", "-p", "HEAD:a.txt")

    assert not marker.exists(), marker.read_text()
    # the bait is real: git without our settings does take it
    git(root, "ls-files", "--others")
    assert marker.exists()


def test_a_missing_object_is_not_fetched_through_a_command_of_the_repository(
    tmp_path: Path,
) -> None:
    root = repository(tmp_path / "work")
    marker = tmp_path / "was-run"
    git(root, "config", "core.repositoryFormatVersion", "1")
    git(root, "config", "extensions.partialClone", "evil")
    git(root, "config", "remote.evil.promisor", "true")
    git(root, "config", "remote.evil.url", f"ext::touch {marker}")
    git(root, "config", "protocol.ext.allow", "always")
    missing = "cat-file", "-p", "1" * 40
    with pytest.raises(Unavailable):
        run_git(root, *missing)
    assert not marker.exists()
    subprocess.run(["git", "-C", root, *missing], capture_output=True, check=False)
    assert marker.exists()  # the bait is real


def test_paths_given_to_git_are_no_patterns(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    commit(root, "[a].txt", "x")
    assert run_git(root, "ls-files", "-z", "--", "[a].txt") == b"[a].txt\0"


def test_names_beyond_ascii_are_printed_as_they_are(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    commit(root, "日本.txt", "x")
    assert run_git(root, "log", "-1", "--format=", "--name-only") == "日本.txt\n".encode()


@pytest.mark.parametrize("place", ["/proc", "/dev", "/sys"])
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has /proc")
def test_what_the_system_makes_up_is_no_project(place: str) -> None:
    with pytest.raises(NotInProject, match="makes them up"):
        find_worktree(Path(place))


def test_the_folder_of_all_homes_is_no_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "homes" / "kim").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "homes" / "kim"))
    with pytest.raises(NotInProject, match="everything you own"):
        find_worktree(tmp_path / "homes")


def test_damaged_packed_refs_do_not_look_like_a_project_without_commits(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    commit(root, "a.txt", "a")
    git(root, "pack-refs", "--all")
    (root / ".git" / "packed-refs").write_text("zzzz\n")
    with pytest.raises(Unavailable, match="packed-refs"):
        find_worktree(root)


def test_a_damaged_index_is_told_with_its_cure(tmp_path: Path) -> None:
    root = repository(tmp_path / "work")
    commit(root, "a.txt", "a")
    (root / ".git" / "index").write_bytes(b"DIRC")
    with pytest.raises(Unavailable, match="index file") as told:
        run_git(root, "ls-files")
    assert "reset" in told.value.hint
