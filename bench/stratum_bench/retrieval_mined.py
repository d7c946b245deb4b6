"""Tasks made from a repository's own history: its fixes, asked in the words of their messages.

A message tells of the solution and an issue of the symptom, so these tasks are easier than issues.
They are what any repository has, and newer than what a model was trained on.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stratum import InvalidInput, NotFound
from stratum.grammars import language_of
from stratum.outline import outline
from stratum.paths import is_test
from stratum_bench.retrieval_checkout import git, is_candidate, is_repository
from stratum_bench.retrieval_tasks import Edit, Task, in_order, innermost

_LOOKED_AT = 20_000  # of the newest commits
_MOST_FILES = 3
_LEAST_WORDS = 4
_TELLING_WORDS = 15  # from here on a message says more than a title
_MARK = "\x1e"
_FIX = re.compile(r"(?i)\b(fix(e[sd]|ing)?|bug(s|fix(es)?)?|regressions?|crash(e[sd])?)\b")
_NO_FIX = re.compile(
    r"(?i)\b(typos?|spelling|grammar|lint\w*|docs?|docstrings?|comments?|whitespace|format\w*"
    r"|changelog|ci|builds?|flaky|imports?|warnings?|bump\w*|revert\w*|merge[sd]?)\b"
)
# From here on a message speaks of the work and no longer of the fault.
_REST = re.compile(r"(?im)^\W*(solution|test plan|testing|change-?log|release notes?)\W*$")
_TRAILER = re.compile(
    r"(?i)\W*([a-z]+(-[a-z]+)*-by|change-id|cc|bug|issue|link|see|refs?|closes?|resolves?|part of"
    r"|[a-z]+-(id|url|on|requests?|numbers?))\s*:.*|\(cherry picked from commit [0-9a-f]+\).*"
)
# "fix(core): ", as conventional commits begin; the part in brackets would give the place away.
_KIND = re.compile(r"(?i)^\W*(?:bug|hot)?fix(?:\([^)\n]*\))?!?:\s*")
_ADDRESS = re.compile(r"<?https?://\S+>?|\S+@\S+\.\w+")
_NUMBER = re.compile(r"(?i)(?:\b[\w.-]+/[\w.-]+)?#\d+|\bgh-\d+|\b[A-Z]{2,10}-\d+\b")
_LEFT_OVER = re.compile(
    r"(?i)\(\s*\)|\[\s*\]|\b(closes?|closed|resolves?|resolved|fix(e[sd])?|refs?|see|backport of)"
    r"(?=\s*([.,;)]|--|$))|^\s*(fix(e[sd])?|refs?)?\s*--\s*",
    re.MULTILINE,
)
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? ")


@dataclass(frozen=True, slots=True)
class _Commit:
    id: str
    parent: str
    date: str
    message: str
    files: Mapping[str, str]  # path -> how it was touched, as git names it


def mined_tasks(repo: Path, wanted: int) -> list[Task]:
    """Return the newest fixes of a repository as tasks.

    Those that say more than a title come before others, then those that touch tests.

    Raises:
        NotFound: It is no repository.
        Unavailable: git cannot read it.
        InvalidInput: There is no fix in it.
    """
    if not is_repository(repo):
        raise NotFound(f"{repo} is no git repository.", hint="Give the folder of a clone.")
    name = repo.absolute().name.removesuffix(".git")
    kinds: dict[tuple[bool, bool], list[Task]] = {
        (tells, tested): [] for tells in (True, False) for tested in (True, False)
    }
    for commit in _commits(repo):
        if len(kinds[True, True]) == wanted:
            break
        tells = len(question_of(commit.message).split()) >= _TELLING_WORDS
        kind = kinds[tells, any(map(is_test, commit.files))]
        if len(kind) < wanted and _is_fix(commit):
            task = _task(repo, name, commit)
            kind += [task] if task else []
    found = list(itertools.chain(*kinds.values()))[:wanted]
    if not found:
        raise InvalidInput(
            f"No commit of {name} reads like a fix of one to {_MOST_FILES} source files.",
            hint="Give a repository with its history.",
        )
    return in_order(found)


def question_of(message: str) -> str:
    """Return what a message says without its kind, trailers, numbers of issues and addresses."""
    message = _KIND.sub("", message)
    rest = _REST.search(message)
    lines = (message[: rest.start()] if rest else message).split("\n")
    kept = "\n".join(line for line in lines if not _TRAILER.fullmatch(line))
    text = _LEFT_OVER.sub("", _NUMBER.sub("", _ADDRESS.sub("", kept)))
    lines = [" ".join(line.split()) for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(" \n.,:;-")


def leaks_of(text: str, paths: Sequence[str], symbols: Sequence[str]) -> frozenset[str]:
    """Return what a text gives away: "path", "basename", "module" or "symbol" of an answer."""
    found = set()
    for path in paths:
        pure = PurePosixPath(path)
        parts = pure.with_suffix("").parts
        if path in text:
            found.add("path")
        if _has_word(text, pure.name):
            found.add("basename")
        modules = [joint.join(parts[-2:]) for joint in (".", "/", "::")]
        if len(parts) > 1 and any(_has_word(text, module) for module in modules):
            found.add("module")
    if any(_has_word(text, re.split(r"[.:#]", symbol)[-1]) for symbol in symbols):
        found.add("symbol")
    return frozenset(found)


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def _commits(repo: Path) -> Iterator[_Commit]:
    """Yield the newest commits that are no merges, newest first."""
    said = git(
        repo, "log", f"-n{_LOOKED_AT}", "--no-merges", "--name-status", "--no-renames", "-z",
        f"--format={_MARK}%H%x1f%P%x1f%cI%x1f%B{_MARK}", "HEAD",
    )  # fmt: skip
    fields = said.split(_MARK)[1:]
    for about, touched in zip(fields[::2], fields[1::2], strict=True):
        id_, parents, date, message = about.split("\x1f", 3)
        words = [word for word in touched.replace("\n", "\0").split("\0") if word]
        files = dict(zip(words[1::2], words[::2], strict=True))
        yield _Commit(id_, parents.partition(" ")[0], date, message, files)


def _is_fix(commit: _Commit) -> bool:
    subject = commit.message.partition("\n")[0]
    ways = [way for path, way in commit.files.items() if is_candidate(path)]
    return (
        bool(commit.parent)
        and bool(_FIX.search(subject))
        and not _NO_FIX.search(subject)
        and 1 <= len(ways) <= _MOST_FILES
        and set(ways) == {"M"}
    )


def _task(repo: Path, name: str, commit: _Commit) -> Task | None:
    text = question_of(commit.message)
    if len(text.split()) < _LEAST_WORDS:
        return None
    gold = tuple(sorted(path for path in commit.files if is_candidate(path)))
    edits = tuple(edit for path in gold for edit in _edits(repo, commit, path))
    symbols = [name for path in gold for name in _edited_symbols(repo, commit, path, edits)]
    return Task(
        id=f"{name}@{commit.id[:12]}",
        repo=name,
        base_commit=commit.parent,
        text=text,
        gold_files=gold,
        created_at=commit.date,
        leaks=leaks_of(text, gold, symbols),
        edits=edits,
    )


def _edits(repo: Path, commit: _Commit, path: str) -> Iterator[Edit]:
    """Yield the old lines that a commit replaced; where it only added, the line above."""
    said = git(repo, "diff", "-U0", commit.parent, commit.id, "--", path)
    for start, count in _HUNK.findall(said):
        first = max(1, int(start))
        yield Edit(path, first, first + max(0, int(count or 1) - 1))


def _edited_symbols(repo: Path, commit: _Commit, path: str, edits: Sequence[Edit]) -> list[str]:
    text = git(repo, "show", f"{commit.parent}:{path}")
    found = outline(text, language_of(path, text))
    return list(innermost(found.symbols, [edit for edit in edits if edit.path == path]))
