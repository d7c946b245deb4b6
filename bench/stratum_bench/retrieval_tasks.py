"""The tasks of `retrieval`: issues with the files that were edited, read from JSON lines.

Owns what a task is, which instances are reserved and which lines were edited. Knows no search.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stratum import InvalidInput, NotFound
from stratum.models import Symbol

# The strongest of these that applies is a task's class: what its text gives away of the answer.
LEAKS = ("path", "module", "symbol")
_NAMES_OF_FILES = ("path", "basename", "module")
_SALT = "stratum-bench-v1:"
_RESERVED_FROM = 0.60
_INSTANCE = re.compile(r"[A-Za-z0-9][\w.-]*__[\w.-]+-\d+")  # as SWE-bench names its tasks
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NEVER_SHOWN = ("hints_text", "patch", "test_patch")
_TELLING = 40  # characters from which a hint or patch found in a question is no accident


@dataclass(frozen=True, slots=True)
class Edit:
    """Lines that the solution replaced: 1-based, both ends in, as they stood before it."""

    path: str
    start_line: int
    end_line: int


@dataclass(frozen=True, slots=True)
class Task:
    """A question about a repository at a commit, and which of its files the solution edited.

    `created_at` is ISO 8601 in UTC; `leaks` names what the text gives away ("path", "basename",
    "module", "symbol"). Nothing of the solution is in `text`.
    """

    id: str
    repo: str
    base_commit: str
    text: str
    gold_files: tuple[str, ...]
    created_at: str
    leaks: frozenset[str] = frozenset()
    edits: tuple[Edit, ...] = ()

    @property
    def leak(self) -> str:
        """The class of the task: "path", "module", "symbol" or "nothing"."""
        return next((leak for leak in LEAKS if leak in self.leaks), "nothing")

    @property
    def unnamed(self) -> bool:
        """Whether the text names neither path, file name nor module of an edited file."""
        return self.leaks.isdisjoint(_NAMES_OF_FILES)


def is_reserved(instance_id: str) -> bool:
    """Tell whether an instance of SWE-bench is kept for the final scoring: 40 % of them are."""
    if not _INSTANCE.fullmatch(instance_id):
        return False
    digest = hashlib.sha256(f"{_SALT}{instance_id}".encode()).hexdigest()
    return int(digest[:8], 16) / 2**32 >= _RESERVED_FROM


def load_tasks(
    files: Sequence[Path],
    gold_lines: Path | None = None,
    skip: Callable[[str], None] | None = None,
) -> list[Task]:
    """Read tasks in the order of repository and date; one that several files hold counts once.

    Args:
        files: With one task a line.
        gold_lines: With the lines that were edited.
        skip: Told what is wrong with a line that is no task, which is then left out.

    Raises:
        NotFound: A file cannot be read.
        InvalidInput: A line is no task and there is no `skip`, or a task is reserved, gives its
            solution away or stands there twice with different contents.
    """
    edits = _edits(gold_lines) if gold_lines else {}
    found: dict[str, Task] = {}
    for file in files:
        for where, line in _lines(file):
            try:
                task = _task(_row(line, where), where, edits)
            except _NoTask as error:
                if skip is None:
                    raise
                skip(f"{error.message} {error.hint}")
                continue
            if is_reserved(task.id):
                raise InvalidInput(
                    f"{where}: {task.id} is reserved for the final scoring.",
                    hint="Take it out of the file: reserved tasks may not be looked at before.",
                )
            if found.setdefault(task.id, task) != task:
                raise InvalidInput(
                    f"{where}: {task.id} was already given with other contents.",
                    hint="Give only one of the two files.",
                )
    if not found:
        raise InvalidInput("There is no task in these files.", hint="Give a file with some.")
    return in_order(found.values())


def in_order(tasks: Collection[Task]) -> list[Task]:
    """Return tasks by repository and date, so that each tree is much like the one before."""
    return sorted(tasks, key=lambda task: (task.repo.lower(), task.created_at, task.id))


def hash_of(content: bytes) -> str:
    """Return the SHA-256 of what tasks were read from."""
    return hashlib.sha256(content).hexdigest()


def hash_of_tasks(tasks: Sequence[Task]) -> str:
    """Return the SHA-256 of tasks that were made; it is the same in every process."""
    told = [dataclasses.asdict(task) | {"leaks": sorted(task.leaks)} for task in tasks]
    return hash_of(json.dumps(told).encode())


def innermost(symbols: Sequence[Symbol], edits: Sequence[Edit]) -> dict[str, set[int]]:
    """Return the smallest definitions of a file that hold edited lines, by name, with these lines.

    Lines outside of all definitions have none.
    """
    found: dict[str, set[int]] = {}
    for edit in edits:
        for line in range(edit.start_line, edit.end_line + 1):
            around = [s for s in symbols if s.start_line <= line <= s.end_line]
            if around:
                inner = min(around, key=lambda s: (s.end_line - s.start_line, -s.start_line))
                found.setdefault(inner.name, set()).add(line)
    return found


class _NoTask(InvalidInput):
    """A line that is no task."""


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Yield each line that is not empty, after what it is called."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise NotFound(f"{file} cannot be read: {reason}.", hint="Look at the name.") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{file.name}, line {number}", line


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise _NoTask(
            f"{where} is no JSON object.", hint="Give a file with one JSON object a line."
        )
    return row


def _task(row: Mapping[str, Any], where: str, edits: Mapping[str, tuple[Edit, ...]]) -> Task:
    try:
        id_, text, gold = row["instance_id"], row["problem_statement"], row["gold_files"]
        leak = row.get("leak") or {}
        task = Task(
            id=_text(id_),
            repo=_text(row["repo"]),
            base_commit=_commit(row["base_commit"]),
            text=_text(text),
            gold_files=_gold(gold),
            created_at=_date(_text(row["created_at"])),
            leaks=frozenset(name for name, true in leak.items() if true),
            edits=edits.get(id_, ()),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _NoTask(
            f"{where} is no task.",
            hint="Needed are instance_id, repo, base_commit (40 digits), problem_statement, "
            "gold_files (one at least) and created_at.",
        ) from None
    for name in _NEVER_SHOWN:
        told = str(row.get(name) or "").strip()
        if len(told) >= _TELLING and told in task.text:
            raise InvalidInput(
                f"{where}: the problem statement of {task.id} holds its {name}.",
                hint="Take it out: a question may not give its answer away.",
            )
    return task


def _edits(file: Path) -> dict[str, tuple[Edit, ...]]:
    found: dict[str, tuple[Edit, ...]] = {}
    for where, line in _lines(file):
        row = _row(line, where)
        try:
            found[_text(row["instance_id"])] = tuple(
                Edit(_text(one["file"]), int(one["start_line"]), int(one["end_line"]))
                for one in row["edits"]
            )
        except (KeyError, TypeError, ValueError):
            raise InvalidInput(
                f"{where} does not say which lines were edited.",
                hint="Needed are instance_id and edits with file, start_line and end_line.",
            ) from None
    return found


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(value)
    return value


def _commit(value: object) -> str:
    if not _COMMIT.fullmatch(_text(value)):
        raise ValueError(value)
    return str(value)


def _gold(values: Sequence[object]) -> tuple[str, ...]:
    if isinstance(values, str) or not values:
        raise ValueError(values)
    return tuple(dict.fromkeys(map(_text, values)))


def _date(text: str) -> str:
    """Return a time as ISO 8601 in UTC; without a zone it is UTC already."""
    at = datetime.fromisoformat(text.strip())
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return at.isoformat(timespec="seconds")
