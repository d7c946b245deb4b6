from __future__ import annotations

import os
import socket
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stratum.errors import InvalidInput, Unavailable
from stratum.git import run_git
from stratum.models import Skipped
from stratum.tree import Stamp, inside, is_generated, read_text, scan

both_modes = pytest.mark.parametrize("by_git", [True, False], ids=["git", "walk"])


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text(
        "[user]\nname = Ada\nemail = ada@example.org\n"
        '[init]\ndefaultBranch = main\n[protocol "file"]\nallow = always\n'
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = (tmp_path / "work").resolve()
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", folder, *arguments], capture_output=True, check=True)


def write(root: Path, *paths: str, text: str = "x\n") -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def listed(root: Path, *, by_git: bool, under: str = "") -> list[str]:
    return [file.path for file in scan(root, git=by_git, under=under).files]


def left_out(root: Path, *, by_git: bool, max_bytes: int = 1000) -> dict[str, str]:
    found = scan(root, git=by_git, max_bytes=max_bytes)
    return {skipped.path: skipped.reason for skipped in found.skipped}


@both_modes
def test_files_are_listed_with_what_tells_an_edit_sorted_by_path(root: Path, by_git: bool) -> None:
    write(root, "b/c.py", "a.py", "b.py", "b/a/z.py")
    git(root, "add", "a.py", "b.py")
    found = scan(root, git=by_git)
    assert [file.path for file in found.files] == ["a.py", "b.py", "b/a/z.py", "b/c.py"]
    stat = (root / "b/c.py").stat()
    last = found.files[-1]
    assert last.stamp == (2, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    assert found.skipped == ()


@both_modes
def test_only_files_under_a_path_are_listed(root: Path, by_git: bool) -> None:
    write(root, "src/a.py", "src/deep/b.py", "srcs/c.py", "d.py", "[x]/e.py", "x/f.py")
    write(root, "src/.gitignore", text="*.log\n")
    write(root, "src/deep/no.log")
    assert listed(root, by_git=by_git, under="src/deep") == ["src/deep/b.py"]
    assert listed(root, by_git=by_git, under="src/a.py") == ["src/a.py"]
    assert listed(root, by_git=by_git, under="[x]") == ["[x]/e.py"]
    assert listed(root, by_git=by_git, under="d.py/x") == []
    assert listed(root, by_git=by_git, under="missing") == []


def test_git_adds_tracked_files_that_are_ignored_and_drops_deleted_ones(root: Path) -> None:
    write(root, "kept.log", "gone.py", "folder/gone.py", "new.py", "new.log")
    git(root, "add", "kept.log", "gone.py", "folder/gone.py")
    write(root, ".gitignore", text="*.log\n")
    (root / "gone.py").unlink()
    (root / "folder/gone.py").unlink()
    (root / "folder").rmdir()
    found = scan(root, git=True)
    assert [file.path for file in found.files] == [".gitignore", "kept.log", "new.py"]
    assert found.skipped == ()


def test_a_file_in_a_merge_conflict_is_listed_once(root: Path) -> None:
    write(root, "a.py", text="one\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "one")
    git(root, "checkout", "-q", "-b", "other")
    write(root, "a.py", text="two\n")
    git(root, "commit", "-q", "-a", "-m", "two")
    git(root, "checkout", "-q", "main")
    write(root, "a.py", text="three\n")
    git(root, "commit", "-q", "-a", "-m", "three")
    subprocess.run(["git", "-C", root, "merge", "other"], capture_output=True, check=False)
    assert run_git(root, "ls-files", "-z").count(b"a.py\0") == 3
    assert listed(root, by_git=True) == ["a.py"]


def test_files_outside_a_sparse_checkout_are_not_listed(root: Path) -> None:
    write(root, "in/a.py", "out/b.py")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "all")
    git(root, "sparse-checkout", "set", "in")
    assert listed(root, by_git=True) == ["in/a.py"]


@pytest.mark.parametrize(
    "rules",
    [
        {".gitignore": "*\n!*/\n!*.py\n"},
        {".gitignore": "/*\n!/src\n/src/*\n!/src/lib\n"},
        {".gitignore": "lib/\n!lib/a.py\n"},
        {".gitignore": "lib/*\n!lib/a.py\n"},
        {".gitignore": "*.py\n", "src/.gitignore": "!*.py\n", "src/lib/.gitignore": "/a.py\n"},
        {".gitignore": "src/**/a.py\n**/b.txt\nlib/**\n"},
        {".gitignore": "\ufeffa.py\r\n*.txt  \r\n"},
        {".gitignore": "# a.py\n\\#x\n\\!y\n!\n/\n\n[ab].py\n"},
        {".gitignore": "s[!x]c/li?/\n[[:alpha:]].txt\n"},
        {".gitignore": "sp ace\\ \nü*\n*.p\\y\n"},
    ],
)
def test_the_walk_ignores_what_git_ignores(root: Path, rules: dict[str, str]) -> None:
    write(root, "a.py", "b.txt", "lib/a.py", "lib/b.txt", "src/a.py", "src/lib/a.py", "src/lib/b.c")
    write(root, "src/deep/er/a.py", "src/deep/er/b.txt", "#x", "!y", "sp ace ", "sp ace", "üb.c")
    for path, text in rules.items():
        write(root, path, text=text)
    by_git = listed(root, by_git=True)
    assert listed(root, by_git=False) == by_git
    assert len(by_git) < 17  # some rule had an effect


_PLACES = ("", "a/", "a/b/", "a/b/a/", "b/", "b/ba/")
_ATOMS = st.sampled_from(
    [
        *("a", "b", "ab", "c.x", "*", "**", "?", "*.x", "a*", "[ab]", "[!a]", "[a-b]", "[b-a]"),
        *(
            "[]a]",
            "[^[:alpha:]]",
            "[",
            "\\a",
            "a\\",
            "*b*",
            "**a",
            "é",
            " ",
            "\\ ",
            "[/a]",
            "a\\/b",
        ),
    ]
)
_SEGMENTS = st.lists(_ATOMS, min_size=1, max_size=2).map("".join)
_LINES = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "/"]),
    st.lists(_SEGMENTS, min_size=1, max_size=3).map("/".join),
    st.sampled_from(["", "/", "  ", "\r"]),
)
_RULES = st.dictionaries(
    st.sampled_from(["", "a/", "b/", "a/b/"]),
    st.lists(_LINES, min_size=1, max_size=4).map("\n".join),
    min_size=1,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_RULES)
def test_the_walk_and_git_agree_on_any_rules(root: Path, rules: dict[str, str]) -> None:
    write(root, *(f"{folder}{name}" for folder in _PLACES for name in ("ab", "c.x", "é", "]", " ")))
    for old in root.rglob(".gitignore"):
        old.unlink()
    for folder, text in rules.items():
        write(root, f"{folder}.gitignore", text=text)
    assert listed(root, by_git=False) == listed(root, by_git=True)


def test_a_hostile_rule_is_decided_without_delay(root: Path) -> None:
    # each star or "**" tried at each place would take longer than the universe is old
    rules = "*a" * 40 + "b\n" + "**/a/" * 40 + "b\n"
    write(root, ".stratumignore", text=rules)
    write(root, "a" * 200, "a/" * 200 + "c")
    assert len(listed(root, by_git=False)) == 3


@both_modes
def test_stratumignore_leaves_out_more_in_any_folder_tracked_or_not(
    root: Path, by_git: bool
) -> None:
    write(root, "a.py", "big.sql", "docs/a.md", "docs/b.md", "docs/sub/c.md", "gen/x/y.py")
    git(root, "add", ".")
    write(root, "docs/.stratumignore", text="*.md\n!b.md\n")
    write(root, ".stratumignore", text="*.sql\n/gen/\n")
    assert listed(root, by_git=by_git) == [
        ".stratumignore",
        "a.py",
        "docs/.stratumignore",
        "docs/b.md",
    ]
    assert left_out(root, by_git=by_git) == {}


@both_modes
def test_stratumignore_takes_a_folder_back_that_counts_as_vendored(
    root: Path, by_git: bool
) -> None:
    write(root, "src/vendor/model.py", "vendor/lib.py", ".stratumignore")
    write(root, ".stratumignore", text="!/src/vendor/\n")
    assert listed(root, by_git=by_git) == [".stratumignore", "src/vendor/model.py"]
    assert left_out(root, by_git=by_git) == {"vendor/": "vendored folder"}


@both_modes
def test_rules_that_are_not_applied_are_told(root: Path, by_git: bool) -> None:
    write(root, "a.py", "rules")
    write(root, "big/.stratumignore", text="a.py\n" * 50_000)
    (root / ".stratumignore").symlink_to("rules")
    reasons = left_out(root, by_git=by_git, max_bytes=10**6)
    assert reasons["big/.stratumignore"].startswith("its rules are not applied: too large")
    assert "a.py" in listed(root, by_git=by_git)


@both_modes
def test_vendored_folders_are_one_entry_each(root: Path, by_git: bool) -> None:
    write(root, "a.py", "node_modules/a/b.js", "node_modules/c.js", "x/vendor/y/z.go")
    write(root, ".venv/lib/site-packages/q.py", "p/__pycache__/a.txt", "build/b.py", "dist/c.py")
    git(root, "add", "x")
    assert listed(root, by_git=by_git) == ["a.py", "build/b.py", "dist/c.py"]
    assert left_out(root, by_git=by_git) == {
        ".venv/": "vendored folder",
        "node_modules/": "vendored folder",
        "p/__pycache__/": "folder of a tool",
        "x/vendor/": "vendored folder",
    }


@both_modes
def test_folders_that_are_ignored_are_not_mentioned(root: Path, by_git: bool) -> None:
    write(root, "node_modules/a/b.js", "build/b.py", "dist/c.py", "a.py")
    write(root, ".gitignore", text="node_modules\nbuild/\ndist\n")
    assert listed(root, by_git=by_git) == [".gitignore", "a.py"]
    assert left_out(root, by_git=by_git) == {}


@both_modes
def test_repositories_inside_are_not_entered(root: Path, by_git: bool, tmp_path: Path) -> None:
    for folder in (tmp_path / "part", root / "nested"):
        folder.mkdir()
        git(folder, "init", "-q")
        write(folder, "inner.py")
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", "x")
    git(root, "submodule", "--quiet", "add", str(tmp_path / "part"), "lib/part")
    write(root, "lib/a.py")
    assert listed(root, by_git=by_git) == [".gitmodules", "lib/a.py"]
    assert left_out(root, by_git=by_git) == {
        "lib/part/": "a repository of its own",
        "nested/": "a repository of its own",
    }


@both_modes
def test_symbolic_links_are_never_followed(root: Path, by_git: bool, tmp_path: Path) -> None:
    write(tmp_path, "outside/secret.py")
    write(root, "a.py", "sub/b.py")
    (root / "loop").symlink_to(".")
    (root / "sub" / "up").symlink_to("..")
    (root / "self").symlink_to("self")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "file.py").symlink_to("a.py")
    assert listed(root, by_git=by_git) == ["a.py", "sub/b.py"]
    links = dict.fromkeys(("file.py", "loop", "out", "self", "sub/up"), "symbolic link")
    assert left_out(root, by_git=by_git) == links


def test_a_tracked_folder_that_became_a_link_is_not_read_through(
    root: Path, tmp_path: Path
) -> None:
    write(root, "sub/a.py")
    git(root, "add", ".")
    (root / "sub").rename(tmp_path / "moved")
    (root / "sub").symlink_to(tmp_path / "moved")
    assert listed(root, by_git=True) == []
    assert left_out(root, by_git=True) == {"sub": "symbolic link"}
    assert read_text(root, "sub/a.py") == Skipped("sub/a.py", "symbolic link")


def test_pipes_and_sockets_are_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(root / "pipe")
    monkeypatch.chdir(root)  # a socket's path has to be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert left_out(root, by_git=False) == {
            "pipe": "not a regular file",
            "socket": "not a regular file",
        }
        assert left_out(root, by_git=True) == {}  # git does not list them
        for name in ("pipe", "socket", "."):
            assert read_text(root, name) == Skipped(name, "not a regular file")


@both_modes
def test_files_over_the_limit_are_listed_with_their_size_and_not_read(
    root: Path, by_git: bool
) -> None:
    write(root, "exact.txt", text="x" * 1000)
    with (root / "huge.log").open("wb") as file:
        file.truncate(100 << 20)
    reason = "too large: 104,857,600 bytes, the limit is 1,000"
    assert left_out(root, by_git=by_git) == {"huge.log": reason}
    assert listed(root, by_git=by_git) == ["exact.txt"]
    assert read_text(root, "huge.log", max_bytes=1000) == Skipped("huge.log", reason)


@both_modes
def test_binary_files_are_known_by_their_names(root: Path, by_git: bool) -> None:
    write(root, "a.PNG", "b.tar.gz", "png", "c.mo", "d.svg", ".gz")
    assert listed(root, by_git=by_git) == ["d.svg", "png"]
    assert set(left_out(root, by_git=by_git).values()) == {"binary file"}


@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".env.local", ".env.production", "prod.env", ".ENV", ".envrc", "server.pem"),
        *("tls.key", "id_rsa", "id_ed25519", "id_rsa.old", "store.p12", "a.keystore", ".netrc"),
        *(".pgpass", ".npmrc", ".git-credentials", "credentials.json", "service-account-a.json"),
    ],
)
def test_files_that_may_hold_secrets_are_neither_listed_nor_read(root: Path, name: str) -> None:
    write(root, f"conf/{name}", text="PASSWORD=x")
    path = f"conf/{name}"
    assert left_out(root, by_git=True) == {path: "may hold secrets"}
    assert left_out(root, by_git=False) == {path: "may hold secrets"}
    assert read_text(root, path) == Skipped(path, "may hold secrets")


def test_templates_of_secrets_and_code_about_them_are_listed(root: Path) -> None:
    names = [".env.example", ".env.local.sample", ".env.template", "env.py", "environment.ts"]
    names += ["example.env", "keys.py", "secrets.py"]
    write(root, *names)
    assert listed(root, by_git=True) == names


@both_modes
def test_names_of_all_kinds_are_listed(root: Path, by_git: bool) -> None:
    names = sorted(["with space", 'quo"te', "it's", "new\nline", "tab\t", "日本語.py", "\\", "*?"])
    write(root, *names, *(f"-dir {number}/{name}" for number, name in enumerate(names)))
    assert set(names) < set(listed(root, by_git=by_git))
    assert len(listed(root, by_git=by_git)) == 2 * len(names)
    for path in listed(root, by_git=by_git):
        assert read_text(root, path) == ("x\n", b"x\n")


@both_modes
def test_a_name_that_is_not_utf8_goes_no_further(root: Path, by_git: bool) -> None:
    write(root, os.fsdecode(b"caf\xe9.py"), os.fsdecode(b"d\xff/ok.py"), "ok.py")
    assert listed(root, by_git=by_git) == ["ok.py"]
    assert left_out(root, by_git=by_git) == {
        "caf\\xe9.py": "name is not valid UTF-8",
        "d\\xff/ok.py": "name is not valid UTF-8",
    }


def test_without_a_git_program_the_tree_is_walked(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "a.py", "b.log")
    write(root, ".gitignore", text="*.log\n")
    monkeypatch.setenv("PATH", "")
    assert listed(root, by_git=True) == [".gitignore", "a.py"]


def test_a_root_that_is_gone_is_an_error_and_not_an_empty_tree(root: Path) -> None:
    with pytest.raises(Unavailable, match="no longer there"):
        scan(root / "missing", git=False)
    with pytest.raises(Unavailable):
        scan(root / "missing", git=True)


def test_scanning_runs_nothing_that_the_repository_names(root: Path, tmp_path: Path) -> None:
    marker, script = tmp_path / "was-run", tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch '{marker}'\n")
    script.chmod(0o755)
    write(root, "a.py")
    git(root, "add", ".")
    git(root, "config", "core.fsmonitor", str(script))
    assert listed(root, by_git=True) == ["a.py"]
    assert not marker.exists()


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        ("naïve 日本\r\n".encode(), "naïve 日本\r\n"),
        (b"\xef\xbb\xbfx = 1\n", "x = 1\n"),
        ("x = 'ü'\n".encode("utf-16"), "x = 'ü'\n"),
        (b"\xfe\xff" + "x\n".encode("utf-16-be"), "x\n"),
        ("x\n".encode("utf-32"), "x\n"),
        (b"caf\xe9 \x80\n", "café €\n"),
        (b"\xe9 \x81\n", "é \x81\n"),
        (b"x" * 8192 + b"\0", "x" * 8192 + "\0"),
    ],
)
def test_text_is_decoded_and_its_bytes_are_kept(root: Path, raw: bytes, text: str) -> None:
    (root / "a.txt").write_bytes(raw)
    assert read_text(root, "a.txt") == (text, raw)


@pytest.mark.parametrize("raw", [b"\0", b"x" * 8000 + b"\0", b"\xff\xfe\0\xd8", b"\xff\xfea"])
def test_binary_content_is_told_whatever_the_name(root: Path, raw: bytes) -> None:
    (root / "a.txt").write_bytes(raw)
    assert read_text(root, "a.txt") == Skipped("a.txt", "binary content")


@given(st.binary(max_size=200))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_text_with_the_same_lines_or_are_skipped(root: Path, raw: bytes) -> None:
    (root / "any.txt").write_bytes(raw)
    found = read_text(root, "any.txt")
    if isinstance(found, tuple):
        assert found[1] == raw
        assert found[0].count("\n") == raw.count(b"\n") or raw[:2] in (b"\xff\xfe", b"\xfe\xff")


def test_a_file_that_vanished_is_skipped(root: Path) -> None:
    write(root, "a.py", "sub/b.py")
    paths = listed(root, by_git=True)
    (root / "a.py").unlink()
    (root / "sub/b.py").unlink()
    (root / "sub").rmdir()
    write(root, "sub")
    reason = "cannot be read: it is no longer there"
    assert [read_text(root, path) for path in paths] == [
        Skipped("a.py", reason),
        Skipped("sub/b.py", reason),
    ]


def test_a_file_that_cannot_be_read_is_skipped() -> None:
    # permissions do not stop root; the first page of a process's memory stops everyone
    found = read_text(Path("/proc/self"), "mem")
    assert isinstance(found, Skipped)
    assert found.reason.startswith("cannot be read: ")


def test_a_link_is_not_read(root: Path) -> None:
    write(root, "a.py")
    (root / "link.py").symlink_to("a.py")
    assert read_text(root, "link.py") == Skipped("link.py", "symbolic link")


@pytest.mark.parametrize(
    "path", ["../work/a.py", "/etc/hostname", ".git/config", "sub/.git/config", "a\0b", "\ud800"]
)
def test_nothing_outside_the_working_tree_is_read(root: Path, path: str) -> None:
    write(root, "a.py", "sub/.git/config")
    assert isinstance(read_text(root, path), Skipped)


@pytest.mark.parametrize(
    ("path", "head", "reason"),
    [
        ("web/package-lock.json", "{}", "generated: lock file"),
        ("Cargo.lock", "", "generated: lock file"),
        ("static/app.min.js", "a", "generated: minified"),
        ("app.css.map", "{}", "generated: minified"),
        ("a.js", "/* licence */\n" + "x=1;" * 1000, "generated: very long lines"),
        ("x.ts", "// @generated by tool\n", "generated: marked '@generated'"),
        (
            "x.go",
            "// Code generated by protoc. DO NOT EDIT.\npackage x\n",
            "generated: marked 'Code generated by protoc. DO NOT EDIT'",
        ),
        (
            "x_pb2.py",
            "# -*- coding: utf-8 -*-\n# Generated by the compiler.  DO NOT EDIT!\n",
            "generated: marked 'Generated by the compiler. DO NOT EDIT'",
        ),
        ("x.h", "/* This file was autogenerated by x */", "generated: marked 'autogenerated by'"),
    ],
)
def test_generated_files_are_told(path: str, head: str, reason: str) -> None:
    assert is_generated(path, head) == reason


@pytest.mark.parametrize(
    ("path", "head"),
    [
        ("0001_initial.py", "# Generated by Django 5.0 on 2024-01-01\n"),
        ("tool.py", 'MARK = "@generated"\nNOTE = "Code generated by x. DO NOT EDIT"\n'),
        ("late.py", "x = 1\n" * 500 + "# @generated\n"),
        ("README.md", "A long paragraph. " * 300),
        ("short.js", "x" * 1000),
        ("wide.py", ("x" * 120 + "\n") * 30),
        ("locks.py", ""),
        ("plain.py", "# do not edit the cache while generated files exist\n"),
    ],
)
def test_handwritten_files_are_not_called_generated(path: str, head: str) -> None:
    assert is_generated(path, head) == ""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("src/a.py", "src/a.py"),
        ("./src//a.py", "src/a.py"),
        ("src/../a.py", "a.py"),
        ("src/", "src"),
        (".", ""),
        ("", ""),
        ("missing/new.py", "missing/new.py"),
        ("link/a.py", "src/a.py"),
        ("back\\slash.py", "back\\slash.py"),
        ("..dots/a", "..dots/a"),
        ("日本/a b\n.py", "日本/a b\n.py"),
    ],
)
def test_a_users_path_is_made_relative_to_the_root(root: Path, path: str, expected: str) -> None:
    write(root, "src/a.py", "back\\slash.py")
    (root / "link").symlink_to("src")
    assert inside(root, path) == expected


def test_an_absolute_path_inside_is_made_relative(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert inside(root, str(root / "src/a.py")) == "src/a.py"
    assert inside(root, str(tmp_path / "alias" / "src/a.py")) == "src/a.py"
    assert inside(root, str(root)) == ""


@pytest.mark.parametrize(
    "path",
    [
        *("..", "../x", "src/../../x", "/etc/passwd", "/", "out/a", "broken", "a\0b", "\udcff"),
        *("\ud800", "src\\a.py", "..\\x", "C:\\x", "C:/x", "../work-too/a"),
    ],
)
def test_a_path_outside_the_repository_is_invalid_input(
    root: Path, tmp_path: Path, path: str
) -> None:
    write(tmp_path, "work-too/a")
    (root / "out").symlink_to(tmp_path)
    (root / "broken").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InvalidInput) as raised:
        inside(root, path)
    assert "src/app.py" in raised.value.hint


@given(st.text())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_path_inside_or_invalid_input(root: Path, path: str) -> None:
    try:
        relative = inside(root, path)
    except InvalidInput:
        return
    assert ".." not in relative.split("/")
    assert not relative.startswith("/")
    assert inside(root, relative) == relative


def test_one_file_has_one_name_where_case_and_accents_may_be_written_freely(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = root / "Straße"
    folder.mkdir()
    (folder / "Café.py").write_text("x = 1\n")
    typed = unicodedata.normalize("NFD", "STRASSE/café.PY")
    assert inside(root, typed) == typed
    # what such a file system answers; none can be had on every machine that runs this
    monkeypatch.setattr(os.path, "lexists", lambda _: True)
    assert inside(root, typed) == "Straße/Café.py"
    assert inside(root, "Straße/new.py") == "Straße/new.py"


def test_a_time_in_the_future_does_not_keep_a_file_from_being_trusted() -> None:
    second = 1_000_000_000
    stamp = Stamp(1, 500 * second, 100 * second, 7)
    assert stamp.settled(103 * second)
    assert not stamp.settled(101 * second)
    assert not Stamp(1, 100 * second, 50 * second, 7).settled(101 * second)
