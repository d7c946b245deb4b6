"""What has really become of the place a note speaks of, told from two states of a tree.

Owns the states, the lines that git's diff leaves alone, and the rules by which a place is called
the same, moved, renamed, edited or deleted. Asks `truth_source` about code and never Stratum. What
cannot be told for certain is "unjudged", with the reason: it counts for neither side.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from stratum import Unavailable
from stratum_bench import truth_layout
from stratum_bench.truth_layout import LAID_OUT
from stratum_bench.truth_source import (
    Definition,
    Source,
    Token,
    Wanted,
    counterpart,
    language_of,
    loosened,
    read,
    tokens,
)

State = Literal["same", "moved", "renamed", "edited", "deleted", "unjudged"]
Kind = Literal["symbol", "lines", "file"]

_TELLING_TOKENS = 40  # smaller bodies stand in many places by accident
_TELLING_LINES = 3
_TELLING_WORDS = 5
_NOT_FOUND = "not found by the second opinion"
_STALE = ("edited", "deleted", "renamed")
_READ = 1_000  # files kept parsed
_LINES_AROUND = 3  # that tell where a line went together with its neighbours
_SETTINGS = (
    "core.quotepath=off",
    "core.autocrlf=false",
    "core.hooksPath=/dev/null",
    "user.name=bench",
    "user.email=bench@localhost",
    "commit.gpgsign=false",
)
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def git(root: Path, *words: str) -> str:
    """Run git in a repository and return what it prints.

    Raises:
        Unavailable: git failed.
    """
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    done = subprocess.run(
        ["git", "-C", str(root), *settings, *words],
        # a hook's variables would lead git to another repository
        env={key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise Unavailable(f"git {words[0]} failed: {last[0]}", hint="Look at that repository.")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Place:
    """What a note was tied to. Lines are those of the old state.

    `wanted` is the symbol; of lines it is the smallest one around them, if there is one.
    """

    kind: Kind
    path: str
    start_line: int = 0
    end_line: int = 0
    wanted: Wanted | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """What has become of a place. `places` are (path, first line) where it may be shown now.

    Empty places are not known, and then not compared. `name` is the new one of a renamed symbol.
    """

    state: State
    cause: str
    places: frozenset[tuple[str, int]] = frozenset()
    name: str = ""


class Tree:
    """The judged files of a tree as they stood at one moment: path -> text."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts

    @classmethod
    def at(cls, root: Path, before: Tree | None = None) -> Tree:
        """Read the working tree: what git lists and what it does not know yet."""
        listed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        texts = {}
        for path in sorted(set(listed.split("\0"))):
            found = root / path
            if language_of(path) and found.is_file() and not found.is_symlink():
                texts[path] = found.read_bytes().decode("utf-8", "replace")
        if before is not None:  # equal texts are kept once
            texts = {
                p: before.texts[p] if before.texts.get(p) == t else t for p, t in texts.items()
            }
        return cls(texts)

    def source(self, path: str) -> Source | None:
        """Return a file as the second opinion reads it, None when it does not exist."""
        text = self.texts.get(path)
        return None if text is None else _read(text, language_of(path))

    def prepare(self, paths: Iterable[str]) -> None:
        """Make ready for questions about many files, where that is cheaper than one by one."""

    def changed(self, other: Tree) -> list[str]:
        """Return the paths of this tree that do not exist or have another text in another one."""
        return [path for path, text in self.texts.items() if other.texts.get(path) != text]


class _LaidOut(Tree):
    """The same tree as formatters lay it out; `texts` are still those that it was made from."""

    def source(self, path: str) -> Source | None:
        """Return a file laid out anew; ValueError if no formatter takes it."""
        text = self.texts.get(path)
        if text is None:
            return None
        return _read(truth_layout.laid_out(path, text), language_of(path))

    def prepare(self, paths: Iterable[str]) -> None:
        truth_layout.prepare((path, self.texts[path]) for path in paths if path in self.texts)


@lru_cache(maxsize=_READ)
def _read(text: str, language: str) -> Source:
    return read(text, language)


@lru_cache(maxsize=_READ // 10)
def _tokens(text: str, language: str) -> list[Token]:
    return tokens(text.replace("\r\n", "\n"), language)


def forget() -> None:
    """Drop what was parsed: it is kept for as long as states of one repository are compared."""
    truth_layout.forget()
    _read.cache_clear()
    _tokens.cache_clear()


@dataclass(frozen=True, slots=True)
class Diff:
    """Where the old lines of one file went: `path` now, None when it is gone; hunks in order."""

    path: str | None
    hunks: tuple[tuple[int, int, int, int], ...] = ()

    def lines(self, start: int, end: int) -> int | None:
        """Return the line where a range of old lines begins now, None when it was touched."""
        shift = 0
        for old, removed, _, added in self.hunks:
            if removed and old <= end and old + removed - 1 >= start:
                return None
            if not removed and start <= old < end:
                return None
            if (old + removed - 1 if removed else old) < start:
                shift += added - removed
        return start + shift


def diffs(root: Path, old: str, new: str | None, *, blank: bool = False) -> dict[str, Diff]:
    """Ask git how files differ between a commit and another one, or the index without `new`.

    Files that are not named are equal. With `blank` white space does not count.
    """
    words = [
        "diff",
        *(["-w"] if blank else []),
        "--no-ext-diff",
        "--no-color",
        "-U0",
        "--minimal",
        "-M",
        "-l0",
        "--text",
    ]
    words += ["--src-prefix=a/", "--dst-prefix=b/"]
    text = git(root, *words, *([old, new] if new else ["--cached", old]), "--")
    found: dict[str, Diff] = {}
    for piece in re.split(r"^diff --git ", text, flags=re.MULTILINE)[1:]:
        head, _, _ = piece.partition("\n@@ ")
        before = re.search(r"^(?:--- a/|rename from )(.+?)\t?$", head, re.MULTILINE)
        after = re.search(r"^(?:\+\+\+ b/|rename to )(.+?)\t?$", head, re.MULTILINE)
        if before is None:
            continue
        hunks = tuple(
            (int(m[1]), int(m[2] or 1), int(m[3]), int(m[4] or 1))
            for m in (_HUNK.match(line) for line in piece.split("\n"))
            if m
        )
        found[before[1]] = Diff(after[1] if after else None, hunks)
    return found


class Comparison:
    """Two states of a tree and what git says of the lines between them.

    `lines` and `blank` are what `diffs` gives with and without white space. In a `pure` one
    nothing was written anew: what is like a definition that went away is that definition, however
    small it is.
    """

    def __init__(
        self,
        old: Tree,
        new: Tree,
        lines: Mapping[str, Diff],
        blank: Mapping[str, Diff],
        *,
        pure: bool = False,
    ) -> None:
        self.old, self.new = old, new
        self._diffs, self._blank = lines, blank
        self._pure = pure
        self._appeared = new.changed(old)
        self._anew: dict[str, Comparison] = {}

    def truth(self, place: Place) -> Truth:
        """Tell what has become of a place."""
        try:
            if place.kind == "symbol":
                return self._symbol(place)
            return self._file(place) if place.kind == "file" else self._lines(place)
        except ValueError as error:
            return Truth("unjudged", str(error))

    def _unchanged(self, path: str) -> bool:
        return self.old.texts[path] == self.new.texts.get(path)

    # symbols

    def definition(self, place: Place) -> Definition | None:
        """Return the definition that a note was tied to, None if the second opinion finds none."""
        source = self.old.source(place.path)
        return source.find(place.wanted) if source and place.wanted else None

    def _symbol(self, place: Place) -> Truth:
        assert place.wanted is not None
        was = self.definition(place)
        if was is None:
            return Truth("unjudged", _NOT_FOUND)
        if self._unchanged(place.path):
            return Truth("same", "file unchanged", frozenset({(place.path, place.start_line)}))
        found = self._traced(place, was)
        if found.state not in _STALE:
            return found
        try:
            anew = self._traced_anew(place, was)
            if anew is not None and anew.state != found.state:
                found = anew
        except ValueError:  # no formatter takes it
            if self._alike(place, was, "loose"):
                return Truth("unjudged", "layout may differ")
        if found.state in _STALE and self._alike(place, was, "headless"):
            return Truth("unjudged", "a macro stands above it")
        return found

    def _traced(self, place: Place, was: Definition) -> Truth:
        """Tell what has become of a definition by its tokens as they stand."""
        before, now = self.old.source(place.path), self.new.source(place.path)
        assert before is not None
        if now is not None:
            found = self._in_file(place, was, before, now)
            if found is not None:
                return found
        return self._elsewhere(place, was, now)

    def _traced_anew(self, place: Place, was: Definition) -> Truth | None:
        """Tell the same when both states are laid out anew, None when it is stale there too.

        Raises:
            ValueError: A file on the way is one that no formatter takes.
        """
        anew = self._laid_out(language_of(place.path))
        before, laid = self.old.source(place.path), anew.old.source(place.path)
        assert before is not None
        assert laid is not None
        found = anew._traced(place, counterpart(was, before, laid))
        if found.state in ("edited", "deleted"):
            return None
        if found.state == "unjudged":
            return found
        name = found.name or was.name
        return Truth(
            found.state, LAID_OUT, self._as_they_stand(found.places, name, anew), found.name
        )

    def _as_they_stand(
        self, places: Iterable[tuple[str, int]], name: str, anew: Comparison
    ) -> frozenset[tuple[str, int]]:
        """Return the places of definitions in the new state, which are known as laid out anew."""
        found = set()
        for path, line in places:
            laid, now = anew.new.source(path), self.new.source(path)
            assert laid is not None
            assert now is not None
            for definition in laid.named(name):
                if definition.start_line == line:
                    try:
                        found.add((path, counterpart(definition, laid, now).start_line))
                    except ValueError:
                        return frozenset()
        return frozenset(found)

    def _laid_out(self, language: str) -> Comparison:
        """Return the comparison of both states as the formatter of a language lays them out."""
        if language not in self._anew:
            old, new = _LaidOut(self.old.texts), _LaidOut(self.new.texts)
            for tree, other in ((old, new), (new, old)):
                tree.prepare(p for p in tree.changed(other) if language_of(p) == language)
            self._anew[language] = Comparison(old, new, self._diffs, self._blank, pure=self._pure)
        return self._anew[language]

    def _alike(self, place: Place, was: Definition, way: Literal["loose", "headless"]) -> bool:
        """Tell whether one with another body that may mean the same stands there or appeared.

        A copy with the same body was found already, and is known for a copy.
        """
        return any(
            definition.body != was.body
            for path in {place.path, *self._appeared}
            for definition in self._equal(self.new, path, was, way)
        )

    def _in_file(self, place: Place, was: Definition, before: Source, now: Source) -> Truth | None:
        """Tell what stands in the same file, None when the body does not."""
        scope = _scope(place)

        def here(source: Source) -> list[Definition]:
            return [
                d for d in source.named(was.name) if source.inside(d, scope) or d.scope == was.scope
            ]

        old, new = here(before), here(now)
        twins = [d for d in old if d.body == was.body]
        equal = [d for d in new if d.body == was.body]
        if len(twins) > 1 and len(equal) != len(twins):
            if not equal:
                return None
            return Truth("unjudged", "one of several equal definitions went away")
        if equal:
            places = frozenset((place.path, d.start_line) for d in equal)
            return Truth("same", "file changed", places)
        other = [d for d in now.named(was.name) if d.body == was.body]
        known = [d for d in before.named(was.name) if d.body == was.body]
        if other and len(known) > 1:
            return Truth("edited", "a copy stands in the same file")
        if len(other) == 1 and was.size < _TELLING_TOKENS and not self._pure:
            return Truth("unjudged", "too small to tell where it went")
        if len(other) == 1:
            cause = "into another class" if not new else "into another class, name taken"
            return Truth("moved", cause, frozenset({(place.path, other[0].start_line)}))
        if other:
            return Truth("unjudged", "several equal definitions")
        return None

    def _elsewhere(self, place: Place, was: Definition, now: Source | None) -> Truth:
        found = [
            (path, definition)
            for path in self._appeared
            if path != place.path
            for definition in self._equal(self.new, path, was)
            if not self._equal(self.old, path, was)
        ]
        taken = now is not None and self._stands(place, was, now)
        state: State = "edited" if taken else "deleted"
        if not found:
            return self._renamed(place, was, now, state)
        if len(found) > 1:
            return Truth("unjudged", "moved to several places")
        small = was.size < _TELLING_TOKENS and not self._pure
        renamed_to = self._diffs.get(place.path, Diff(place.path)).path
        if small and found[0][0] != renamed_to:
            return Truth("unjudged", "too small to tell where it went")
        asked = [p for p, text in self.old.texts.items() if p != place.path and was.name in text]
        self.old.prepare(asked)
        if any(self._equal(self.old, path, was) for path in asked):
            return Truth("unjudged", "copies stood in other files before")
        path, definition = found[0]
        cause = "to another file, name still used" if taken else "to another file"
        return Truth("moved", cause, frozenset({(path, definition.start_line)}))

    def _stands(self, place: Place, was: Definition, now: Source) -> bool:
        scope = _scope(place)
        return any(now.inside(d, scope) or d.scope == was.scope for d in now.named(was.name))

    def _equal(self, tree: Tree, path: str, was: Definition, way: str = "body") -> list[Definition]:
        if was.name not in tree.texts.get(path, ""):
            return []
        try:
            source = tree.source(path)
            named = source.named(was.name) if source else ()
        except ValueError:
            return []
        return [d for d in named if getattr(d, way) == getattr(was, way)]

    def _renamed(self, place: Place, was: Definition, now: Source | None, state: State) -> Truth:
        if now is None:
            return Truth(state, "file gone")
        before = self.old.source(place.path)
        if state == "deleted" and before is not None:
            known = {d.name for d in before.like(was)}
            like = [d for d in now.like(was) if d.name not in known]
            if len(like) == 1:
                at = frozenset({(place.path, like[0].start_line)})
                return Truth("renamed", "body equal but for its name", at, like[0].name)
        return Truth(state, "body differs" if state == "edited" else "name gone")

    # whole files and lines

    def _file(self, place: Place) -> Truth:
        before, now = self.old.source(place.path), self.new.source(place.path)
        assert before is not None
        if self._unchanged(place.path):
            return Truth("same", "file unchanged", frozenset({(place.path, 0)}))
        if now is not None:
            if before.whole == now.whole:
                return Truth("same", "only comments and layout", frozenset({(place.path, 0)}))
            return self._file_anew(place.path, place.path) or Truth("edited", "tokens differ")
        appeared = [path for path in self._appeared if path not in self.old.texts]
        found = [path for path in appeared if self._same_file(before, path)]
        if len(found) == 1:
            return Truth("moved", "file moved", frozenset({(found[0], 0)}))
        if found:
            return Truth("unjudged", "several equal files")
        to = self._diffs.get(place.path, Diff(None)).path
        anew = self._file_anew(place.path, to) if to and to in appeared else None
        return anew or Truth("deleted", "file gone")

    def _same_file(self, before: Source, path: str) -> bool:
        source = self.new.source(path)
        try:
            return source is not None and source.whole == before.whole
        except ValueError:
            return False

    def _file_anew(self, path: str, to: str) -> Truth | None:
        """Compare two files of other tokens when they are laid out anew; None when they differ."""
        anew = self._laid_out(language_of(path))
        try:
            before, now = anew.old.source(path), anew.new.source(to)
            same = before is not None and now is not None and before.whole == now.whole
        except ValueError:
            before, now = self.old.source(path), self.new.source(to)
            loose = before is not None and now is not None and before.loose == now.loose
            return Truth("unjudged", "layout may differ") if loose else None
        state: State = "same" if path == to else "moved"
        return Truth(state, LAID_OUT, frozenset({(to, 0)})) if same else None

    def _lines(self, place: Place) -> Truth:
        if self._unchanged(place.path):
            return Truth("same", "file unchanged", frozenset({(place.path, place.start_line)}))
        diff = self._diffs.get(place.path)
        if diff is None:
            return Truth("unjudged", "git does not name the file")
        if diff.path is None:
            return self._touched(place, "deleted", "file gone")
        length = place.end_line - place.start_line + 1
        size = f"{length} lines" if length > 1 else "1 line"
        first = diff.lines(place.start_line, place.end_line)
        if first is None:
            return self._touched(place, "edited", f"{size} touched")
        at = frozenset({(diff.path, first)})
        if diff.path != place.path:
            return Truth("moved", f"{size}, file moved", at)
        if first != place.start_line:
            return Truth("moved", f"{size} pushed along", at)
        return Truth("same", f"{size} untouched", at)

    def _touched(self, place: Place, state: State, cause: str) -> Truth:
        """Look for touched lines, as they were but for indentation, where they may stand now."""
        blank = self._blank.get(place.path, Diff(place.path))
        if state == "edited" and blank.lines(place.start_line, place.end_line) is not None:
            return Truth("unjudged", "only white space differs")
        to = self._diffs.get(place.path, Diff(None)).path or place.path
        if state == "edited" and self._only_layout(place, to):
            return Truth("unjudged", "only layout or comments differ")
        text, here = self.old.texts[place.path], self.new.texts.get(to, "")
        for around in (0, _LINES_AROUND):
            first = max(1, place.start_line - around)
            block = plain_lines(text, first, place.end_line + around)
            if sum(bool(line) for line in block) < _TELLING_LINES:
                continue
            found = _found(block, here)
            if len(found) == len(_found(block, text)) == 1:
                at = found[0] + place.start_line - first
                return Truth("moved", f"{cause}, block found", frozenset({(to, at)}))
            others = (self.new.texts[path] for path in self._appeared if path != to)
            if found or any(_found(block, other) for other in others):
                return Truth("unjudged", "the lines stand elsewhere too")
        if self._may_stand_around(place):
            return Truth("unjudged", "the definition around may be the same")
        return Truth(state, cause)

    def _may_stand_around(self, place: Place) -> bool:
        """Tell whether the smallest definition around lines is known and not known to be stale."""
        around = place.wanted
        if around is None:
            return False
        symbol = Place("symbol", place.path, around.start_line, around.end_line, around)
        truth = self.truth(symbol)
        return truth.state not in _STALE and truth.cause != _NOT_FOUND

    def _only_layout(self, place: Place, to: str) -> bool:
        """Tell whether the tokens of touched lines still stand one behind the other in the file.

        Commas and semicolons come and go at line ends. Where no formatter can tell what else is
        layout, brackets and quotes do not count either.
        """
        language = language_of(place.path)
        lines = range(place.start_line, place.end_line + 1)
        before = [t.value for t in _tokens(self.old.texts[place.path], language) if t.line in lines]
        after = [t.value for t in _tokens(self.new.texts.get(to, ""), language)]
        if truth_layout.can_tell(language):
            before, after = ([v for v in some if v not in (",", ";")] for some in (before, after))
        else:
            before, after = loosened(before), loosened(after)
        return len(before) >= _TELLING_WORDS and _joined(before) in _joined(after)


def _joined(values: Iterable[str]) -> str:
    return "\0" + "\0".join(values) + "\0"


def _scope(place: Place) -> list[str]:
    return place.wanted.name.split(".")[:-1] if place.wanted else []


def plain_lines(text: str, start: int, end: int) -> list[str]:
    """Return lines without the indentation they have in common and white space at their ends."""
    return _plain(_split(text)[start - 1 : end])


def _split(text: str) -> list[str]:
    return text.split("\n")


def _plain(lines: Sequence[str]) -> list[str]:
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return [line[indent:].rstrip() for line in lines]


def _found(block: Sequence[str], text: str) -> list[int]:
    """Return the lines at which a block of plain lines begins in a text."""
    if max(block, key=len).strip() not in text:
        return []
    lines, count = _split(text), len(block)
    return [
        at + 1
        for at in range(len(lines) - count + 1)
        if lines[at].strip() == block[0].strip() and _plain(lines[at : at + count]) == list(block)
    ]


def touched(places: Iterable[Place], lines: Mapping[str, set[int]]) -> set[Place]:
    """Return the places that hold one of the given lines of the old state (path -> lines)."""
    return {
        place
        for place in places
        if (at := lines.get(place.path))
        and (place.kind == "file" or any(place.start_line <= line <= place.end_line for line in at))
    }
