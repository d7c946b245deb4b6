"""The suite that comes with the benchmark: issues about Python's own library, and its repository.

The issues were written for this suite; none is taken from a tracker. Each names the files of the
library where a fix would be made and the definitions in them, which are the same from Python 3.11
to 3.14. The dates are invented, a day apart: they only give the order. About a quarter
of the tasks are about a file that an earlier one was about, never the one just before, so that
what was learned has to be kept.

Answers are known to whoever knows the library by heart, as large models do: compare arms, not
suites.
"""

from __future__ import annotations

import json
import os
import re
import sysconfig
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath

from stratum import Unavailable
from stratum_bench.retrieval_checkout import git
from stratum_bench.retrieval_mined import leaks_of
from stratum_bench.retrieval_tasks import Task

REPO = "stdlib"
_SKIPPED = frozenset("site-packages dist-packages __pycache__ test tests idle_test lib2to3".split())
_BY = "Stratum <bench@stratum.invalid> 1704067200 +0000"  # 1 January 2024
_MESSAGE = "The standard library"


def stdlib_tasks(commit: str = "") -> list[Task]:
    """Return the tasks of the suite, oldest first.

    Args:
        commit: What `make_repository` returned: the commit that the questions are about.
    """
    suite = resources.files("stratum_bench").joinpath("suites", "stdlib.jsonl")
    rows = [json.loads(line) for line in suite.read_text(encoding="utf-8").split("\n") if line]
    return [
        Task(
            id=row["id"],
            repo=REPO,
            base_commit=commit,
            text=row["text"],
            gold_files=tuple(row["gold_files"]),
            created_at=row["created_at"],
            leaks=_leaks(row["text"], row["gold_files"], row["symbols"]),
        )
        for row in rows
    ]


def make_repository(root: Path) -> str:
    """Copy the running Python's library into a new repository with one commit; return its id.

    Tests and installed packages stay out, and so do files that cannot be read. The same library
    gives the same commit.

    Args:
        root: A folder that does not exist yet or is empty.

    Raises:
        Unavailable: The library has no source, the folder is in use or full, or git failed.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    if not (library / "os.py").is_file():
        raise Unavailable(
            f"The library of this Python has no source in {library}.",
            hint="Use a Python that has its library as files, not in an archive.",
        )
    _make_empty(root)
    try:
        for path, content in _sources(library):
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    except OSError as error:
        raise Unavailable(
            f"The library could not be copied to {root}: {error.strerror}.",
            hint="Look whether there is room on the disk.",
        ) from None
    return _commit_all(root)


def _sources(library: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield the files of a library that belong into the repository, as they are, sorted by path."""
    for path in sorted(library.rglob("*.py")):
        relative = path.relative_to(library)
        if _SKIPPED.isdisjoint(relative.parts):
            try:
                yield PurePosixPath(relative.as_posix()), path.read_bytes()
            except OSError:  # a broken link, a folder of that name, no permission
                continue


def _make_empty(root: Path) -> None:
    """Make a folder that holds nothing."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        used = any(root.iterdir())
    except OSError as error:
        raise Unavailable(
            f"{root} cannot be made: {error.strerror}.", hint="Give another folder."
        ) from None
    if used:
        raise Unavailable(f"{root} is not empty.", hint="Give the name of a new folder.")


def _commit_all(root: Path) -> str:
    """Commit all files of a folder into a new repository in it; return the commit's id."""
    git(root, "init", "--quiet", "--initial-branch=main", "--object-format=sha1", "--template=")
    git(root, "config", "core.attributesFile", os.devnull)  # a user's own could change line ends
    git(root, "config", "core.looseCompression", "1")
    git(root, "add", "--all", "--force")
    tree = git(root, "write-tree").strip()
    # `git commit` takes the committer's date only from the environment, which is cleared for it
    about = f"tree {tree}\nauthor {_BY}\ncommitter {_BY}\n\n{_MESSAGE}\n"
    commit = git(root, "hash-object", "-t", "commit", "-w", "--stdin", stdin=about).strip()
    git(root, "update-ref", "HEAD", commit)
    return commit


def _leaks(text: str, paths: Sequence[str], symbols: Sequence[str]) -> frozenset[str]:
    """Return what a text gives away, more strictly than for other repositories.

    The classes around a definition count as symbols, and the bare name of a module at the top of
    the library counts as naming it: that is how its users say it.
    """
    names = [name for symbol in symbols for name in symbol.partition("::")[2].split(".")]
    found = leaks_of(text, paths, names)
    modules = "|".join(re.escape(_module_of(path)) for path in paths)
    if re.search(rf"(?<!\w)({modules})(?!\w)", text):
        found |= {"module"}
    return found


def _module_of(path: str) -> str:
    """Return the name by which a file is imported."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
