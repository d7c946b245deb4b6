"""The tools with which every agent looks at a tree: list, grep, read, submit.

Owns what they answer and the most that an answer holds, equal in all arms. Reads the tree of a git
repository as it stands; nothing is written, and nothing outside of it is read.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from stratum.grammars import has_grammar, language_of
from stratum.paths import is_test
from stratum_bench.agent import Tool, ToolCall
from stratum_bench.retrieval_checkout import git

MOST_MATCHES = 100  # lines of one grep
MOST_LINES = 400  # of one read
MOST_ENTRIES = 200  # of one folder
MOST_SUBMITTED = 3  # files
_LONGEST_LINE = 200  # characters that a grep shows
_LONGEST_READ = 500  # and a read: no code that people write has longer lines
_LONGEST_PATTERN = 300
_LONGEST_GREP = 10.0  # seconds of computing; a repository takes well below one
_LONGEST_ERROR = 500  # characters; what was given may be of any length
_LARGEST_FILE = 1 << 20  # bytes; larger ones are no code that people write

SUBMIT = "submit"
_PATH = {"type": "string", "description": "Path from the root of the repository."}
TOOLS = (
    Tool(
        "list_dir",
        f"List a folder of the repository, {MOST_ENTRIES} entries at most.",
        {"type": "object", "properties": {"path": _PATH}},
    ),
    Tool(
        "grep",
        "Search the source files for a regular expression (Python syntax, case matters). Gives "
        f"path:line: text, {MOST_MATCHES} lines at most.",
        {
            "type": "object",
            "properties": {
                "pattern": {"type": "string"},
                "path": {"type": "string", "description": "Only this file or folder."},
            },
            "required": ["pattern"],
        },
    ),
    Tool(
        "read_file",
        f"Read a file, {MOST_LINES} lines at most at once.",
        {
            "type": "object",
            "properties": {
                "path": _PATH,
                "start_line": {"type": "integer", "minimum": 1},
                "end_line": {"type": "integer", "minimum": 1},
            },
            "required": ["path"],
        },
    ),
    Tool(
        SUBMIT,
        "Submit the files that have to be edited, the likeliest first, and end.",
        {
            "type": "object",
            "properties": {
                "files": {"type": "array", "items": {"type": "string"}, "maxItems": MOST_SUBMITTED}
            },
            "required": ["files"],
        },
    ),
)


class Tree:
    """The source files of a repository as it stands, read when they are first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._inside: dict[Path, bool] = {}
        listed = git(self.root, "ls-files", "-z").split("\0")
        self.files = tuple(
            sorted(p for p in listed if has_grammar(language_of(p)) and self._is_text(p))
        )
        self._texts: dict[str, str] = {}
        self._lowered: dict[str, str] = {}
        self._lines: dict[str, tuple[str, ...]] = {}
        self._spread: dict[str, int] = {}

    def _is_text(self, path: str) -> bool:
        file = self.root / path
        if not path.isprintable() or not self._is_inside(file.parent):
            return False
        return file.is_file() and not file.is_symlink() and file.stat().st_size <= _LARGEST_FILE

    def _is_inside(self, folder: Path) -> bool:
        """Tell whether no link leads to a folder: the files of git do not lie behind one."""
        if folder not in self._inside:
            self._inside[folder] = folder.resolve() == folder
        return self._inside[folder]

    def text(self, path: str) -> str:
        """Return a file's text; what is not UTF-8 is replaced."""
        if path not in self._texts:
            self._texts[path] = (self.root / path).read_bytes().decode("utf-8", "replace")
        return self._texts[path]

    def matches(self, pattern: re.Pattern[str], path: str = "") -> dict[str, list[int]]:
        """Return the numbers of the lines with a match, by file; none spans two, as in grep."""
        below = path.strip("/")
        found: dict[str, list[int]] = {}
        for file in self.files:
            if not below or file == below or file.startswith(f"{below}/"):
                numbers = list(self._matching(pattern, file))
                if numbers:
                    found[file] = numbers
        return found

    def _matching(self, pattern: re.Pattern[str], path: str) -> Iterator[int]:
        literal = required(pattern.pattern)
        lines = self._holding(path, literal) if literal else enumerate(self.lines(path), 1)
        return (number for number, line in lines if pattern.search(line))

    def _holding(self, path: str, literal: str) -> Iterator[tuple[int, str]]:
        """Yield the lines of a file that hold a text in small print, with their numbers."""
        if path not in self._lowered:
            self._lowered[path] = self.text(path).lower()
        text = self._lowered[path]
        number, start, at = 1, 0, text.find(literal)
        while at >= 0:
            number += text.count("\n", start, at)
            yield number, self.lines(path)[number - 1]
            start = at
            end = text.find("\n", at)
            at = text.find(literal, end) if end >= 0 else -1

    def spread(self, pattern: str) -> int:
        """Return how many files match a pattern, tests left out; kept, as many agents may ask."""
        if pattern not in self._spread:
            compiled = re.compile(pattern)
            self._spread[pattern] = sum(
                any(True for _ in self._matching(compiled, path))
                for path in self.files
                if not is_test(path)
            )
        return self._spread[pattern]

    def lines(self, path: str) -> tuple[str, ...]:
        """Return a file's lines without their ends; they end where editors and git say."""
        if path not in self._lines:
            lines = self.text(path).split("\n")
            lines = lines if lines[-1] else lines[:-1]
            self._lines[path] = tuple(line.removesuffix("\r") for line in lines)
        return self._lines[path]

    def tidy(self, path: str) -> str:
        """Return a path as the repository names it: slashes, no dots in front."""
        return re.sub(r"^(\./)+|/+$", "", path.strip().replace("\\", "/")).lstrip("/")


@lru_cache(maxsize=256)
def required(pattern: str) -> str:
    """Return letters in small print that every match of a pattern holds, "" if none are certain.

    Lines without them need not be searched: many times faster where case does not matter.
    """
    plain = re.sub(r"\\[^xuUN0-9]", " ", pattern)
    if re.search(r"\\|\[\^?\]|\(\?[a-zA-Z]*x", plain):
        return ""
    bare, groups = re.sub(r"\[[^\]]*\]", " ", plain), 1
    while groups:  # what stands in brackets may be left out or be one of several
        bare, groups = re.subn(r"\([^()]*\)", " ", bare)
    bare = re.sub(r"\{[^}]*\}", "{", bare)
    if "|" in bare:
        return ""
    runs = re.findall(r"[A-Za-z0-9_]+(?![A-Za-z0-9_?*{])", bare)
    return max((run.lower() for run in runs), key=len, default="")


class Toolbox:
    """The tools over one tree; an answer that says what went wrong begins with "Error: "."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._answer: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
            "list_dir": self._list_dir,
            "grep": self._grep,
            "read_file": self._read_file,
            SUBMIT: self._submit,
        }

    def call(self, call: ToolCall) -> str:
        """Return what a tool answers."""
        if call.problem:
            return f"Error: {call.problem}"
        if call.name not in self._answer:
            return f"Error: there is no tool {call.name!r}."
        try:
            return self._answer[call.name](call.arguments)
        except _Wrong as error:
            said = str(error)[:_LONGEST_ERROR]
            return f"Error: {said.encode('utf-8', 'replace').decode('utf-8')}"

    def submitted(self, call: ToolCall) -> tuple[str, ...]:
        """Return the files of a call of `submit`, as the repository names them."""
        files = call.arguments.get("files")
        if isinstance(files, str):
            files = [files]
        if not isinstance(files, list | tuple):
            return ()
        named = [self._tree.tidy(path) for path in files if isinstance(path, str)]
        return tuple(dict.fromkeys(filter(None, named)))[:MOST_SUBMITTED]

    def _list_dir(self, given: Mapping[str, Any]) -> str:
        path = self._tree.tidy(_text(given, "path", ""))
        path = "" if path == "." else path
        prefix = f"{path}/" if path else ""
        entries = sorted(
            {
                head + ("/" if rest else "")
                for file in self._tree.files
                if file.startswith(prefix)
                for head, rest, _ in [file.removeprefix(prefix).partition("/")]
            }
        )
        if not entries:
            raise _Wrong(f"there is no folder {path} with source files.")
        left = len(entries) - MOST_ENTRIES
        return "\n".join(entries[:MOST_ENTRIES]) + (f"\n({left} more)" if left > 0 else "")

    def _grep(self, given: Mapping[str, Any]) -> str:
        written = _text(given, "pattern")
        try:
            if len(written) > _LONGEST_PATTERN:
                raise _Wrong(f"the pattern is longer than {_LONGEST_PATTERN} characters.")
            with warnings.catch_warnings(action="ignore"):
                pattern = re.compile(written)
        except (re.error, OverflowError, RecursionError) as error:
            raise _Wrong(f"this is no regular expression: {error}.") from None
        path = self._tree.tidy(_text(given, "path", ""))
        path = "" if path == "." else path
        if path and not any(f == path or f.startswith(f"{path}/") for f in self._tree.files):
            raise _Wrong(f"there is no file or folder {path} with source files.")
        with _in_time():
            found = self._tree.matches(pattern, path)
        if not found:
            return "No matches."
        shown = [
            f"{file}:{number}: {self._tree.lines(file)[number - 1].strip()[:_LONGEST_LINE]}"
            for file, numbers in found.items()
            for number in numbers
        ]
        said = f"{len(shown)} lines in {len(found)} files"
        if len(shown) > MOST_MATCHES:
            said += f", the first {MOST_MATCHES} shown"
        return "\n".join([*shown[:MOST_MATCHES], f"({said})"])

    def _read_file(self, given: Mapping[str, Any]) -> str:
        path = self._tree.tidy(_text(given, "path"))
        if path not in self._tree.files:
            raise _Wrong(f"there is no source file {path}.")
        lines = self._tree.lines(path)
        first = max(1, _number(given, "start_line", 1))
        last = min(_number(given, "end_line", len(lines)), first + MOST_LINES - 1, len(lines))
        if first > len(lines):
            raise _Wrong(f"{path} has {len(lines)} lines.")
        if last < first:
            raise _Wrong("end_line is before start_line.")
        shown = [
            f"{number}\t{lines[number - 1][:_LONGEST_READ]}" for number in range(first, last + 1)
        ]
        return "\n".join([*shown, f"(lines {first}-{last} of {len(lines)} of {path})"])

    def _submit(self, given: Mapping[str, Any]) -> str:
        if not self.submitted(ToolCall("", SUBMIT, given)):
            raise _Wrong("name at least one file.")
        return "Submitted."


class _Wrong(Exception):
    """A call that cannot be answered; says why."""


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    """Stop a search that would not end, as (a+)+$ may.

    The processor's time is counted, not the clock's: the answer is the same on a busy machine. No
    other way stops them all: which patterns take for ever cannot be seen by their looks alone.
    Outside of the main thread and on Windows there is no such clock, and no limit.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> None:
        raise _Wrong(
            "the pattern takes too long. Leave out repeats inside of repeats, as in (a+)+, and "
            "repeats that go over lines."
        )

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, _LONGEST_GREP)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)


def _text(given: Mapping[str, Any], name: str, otherwise: str | None = None) -> str:
    value = given.get(name, otherwise)
    if not isinstance(value, str) or (otherwise is None and not value):
        raise _Wrong(f"{name} must be a text.")
    return value


def _number(given: Mapping[str, Any], name: str, otherwise: int) -> int:
    value = given.get(name)
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _Wrong(f"{name} must be a number.")
    try:
        return int(value)
    except (ValueError, OverflowError):
        raise _Wrong(f"{name} must be a number.") from None
