"""A clone of a repository that goes from commit to commit, and what git tells of each.

Owns every call of git in `retrieval`. The repository that is given is read and never changed; large
contents may be missing in it, as in a partial clone: such files are left out of the tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stratum import NotFound, Unavailable
from stratum.grammars import has_grammar, language_of
from stratum.paths import is_test

_REGULAR = ("100644", "100755")
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.autocrlf=false",
    "gc.auto=0",
    "advice.detachedHead=0",
)
_MARK = "\x1e"  # stands before each commit in a log
_SHOWN = 200  # characters of what git says


@dataclass(frozen=True, slots=True)
class Past:
    """A commit as a text to be found and the files that it touched."""

    id: str
    message: str
    files: tuple[str, ...]


def find_clone(folder: Path, repo: str) -> Path:
    """Return where the repository `owner/name` stands below a folder, or the folder itself.

    It may be called owner__name, owner+name, owner/name or name, in capitals or not.

    Raises:
        NotFound: None of these is there.
    """
    if is_repository(folder):
        return folder
    owner, _, name = repo.rpartition("/")
    wanted = [f"{owner}{joint}{name}".lower() for joint in ("__", "+")] if owner else []
    try:
        there = {entry.name.lower(): entry for entry in sorted(folder.iterdir())}
    except OSError as error:
        raise NotFound(
            f"{folder} cannot be read: {error.strerror}.", hint="Give the folder of your clones."
        ) from None
    tried = [there[key] for key in (*wanted, name.lower()) if key in there]
    tried += [there[owner.lower()] / name] if owner.lower() in there else []
    for clone in tried:
        if is_repository(clone):
            return clone
    raise NotFound(
        f"There is no clone of {repo} in {folder}.",
        hint=f"Clone it with its history to {folder / repo.replace('/', '__')}.",
    )


def is_repository(folder: Path) -> bool:
    """Tell whether a folder is a repository of git, with a working tree or bare."""
    return (folder / ".git").exists() or (
        (folder / "HEAD").is_file() and (folder / "objects").is_dir()
    )


def is_candidate(path: str) -> bool:
    """Tell whether a file may be an answer: source that is no test."""
    return has_grammar(language_of(path)) and not is_test(path)


def git(root: Path, *words: str, stdin: str = "", failing: bool = False) -> str:
    """Run git and return what it prints; bytes that are not UTF-8 come as surrogates.

    With `failing`, a failure gives what was printed before it.

    Raises:
        Unavailable: git failed, or there is none.
    """
    return raw_git(root, *words, stdin=stdin, failing=failing).decode("utf-8", "surrogateescape")


def raw_git(root: Path, *words: str, stdin: str = "", failing: bool = False) -> bytes:
    """Run git as `git` does and return the bytes that it prints."""
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    # a hook's variables would lead git to another repository
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *settings, *words],
            env=environ | {"GIT_LFS_SKIP_SMUDGE": "1", "GIT_NO_LAZY_FETCH": "1"},
            input=stdin.encode("utf-8", "surrogateescape"),
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise Unavailable("git was not found.", hint="Install git.") from None
    if done.returncode and not failing:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        raise Unavailable(
            f"git {words[0]} failed: {said[-1][:_SHOWN]}", hint="Look at that repository."
        )
    return done.stdout


class Checkout:
    """A clone in a folder of its own that shares the objects of `source`.

    Made anew each time, since a run that was killed may have left half a tree.
    """

    def __init__(self, source: Path, root: Path) -> None:
        shutil.rmtree(root, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        self.root = root
        git(root.parent, "clone", "--quiet", "--shared", "--no-checkout", str(source.resolve()),
            str(root))  # fmt: skip
        self._there: dict[str, bool] = {}

    def go(self, commit: str) -> None:
        """Make the working tree that of a commit; contents that the clone lacks are left out.

        Raises:
            Unavailable: The commit is not there, or git could not go to it.
        """
        if not git(self.root, "cat-file", "-t", commit, failing=True).startswith("commit"):
            raise Unavailable(
                f"The clone has no commit {commit[:10]}.", hint="Clone the whole history."
            )
        git(self.root, "checkout", "--quiet", "--force", "--detach", commit, failing=True)
        head = self.head()
        if head != commit:
            raise Unavailable(
                f"git stands at {head[:10]} instead of {commit[:10]}.",
                hint="Look whether there is room on the disk.",
            )

    def head(self) -> str:
        """Return the commit that the clone stands at; empty when there is none."""
        return git(self.root, "rev-parse", "--verify", "--quiet", "HEAD", failing=True).strip()

    def ancestors(self, commit: str) -> set[str]:
        """Return all commits that a commit is built on, itself with them."""
        return set(git(self.root, "rev-list", commit).split())

    def order(self, commit: str) -> list[str]:
        """Return the commits that are no merges up to one, newest first."""
        return git(self.root, "rev-list", "--no-merges", commit).split()

    def tree(self, commit: str) -> dict[str, str]:
        """Return the regular files of a commit with the ids of their contents."""
        files: dict[str, str] = {}
        for entry in git(self.root, "ls-tree", "-r", "-z", "--full-tree", commit).split("\0")[:-1]:
            about, _, path = entry.partition("\t")
            mode, _, blob = about.split(" ")
            if mode in _REGULAR:
                files[path] = blob
        return files

    def without_missing(self, files: Mapping[str, str]) -> dict[str, str]:
        """Return those of the files whose contents are in the clone."""
        unknown = sorted({blob for blob in files.values() if blob not in self._there})
        asked = "".join(f"{blob}\n" for blob in unknown)
        said = git(self.root, "cat-file", "--batch-check", stdin=asked).splitlines()
        for blob, line in zip(unknown, said, strict=True):
            self._there[blob] = not line.endswith("missing")
        return {path: blob for path, blob in files.items() if self._there[blob]}

    def contents(self, blobs: Iterable[str]) -> dict[str, str]:
        """Return contents by id; what is not UTF-8 is replaced."""
        asked = sorted(set(blobs))
        stdin = "".join(f"{blob}\n" for blob in asked)
        said = raw_git(self.root, "cat-file", "--batch", stdin=stdin) if asked else b""
        found, start = {}, 0
        for blob in asked:
            end = said.index(b"\n", start)
            size = int(said[start:end].split(b" ")[2])
            found[blob] = said[end + 1 : end + 1 + size].decode("utf-8", "replace")
            start = end + 1 + size + 1
        return found

    def past(self, commit: str, known: Sequence[str] = ()) -> list[Past]:
        """Return the commits up to one, newest first, less those that `known` ones are built on.

        Merges are left out: what they brought stands in the commits that they joined.
        """
        said = git(
            self.root, "log", "--no-merges", "--name-only", "--no-renames", "--root",
            f"--format={_MARK}%H%n%B{_MARK}", "-z", commit, *(f"^{one}" for one in known),
        )  # fmt: skip
        fields = said.split(_MARK)[1:]
        return [
            Past(
                about.partition("\n")[0],
                about.partition("\n")[2].strip(),
                tuple(path for path in files.replace("\n", "\0").split("\0") if path),
            )
            for about, files in zip(fields[::2], fields[1::2], strict=True)
        ]
