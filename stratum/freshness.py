"""What has become of the place a note speaks of: anchor + file as it stands -> verdict; pure.

A verdict is reached at read time. Same content: fresh. Otherwise the symbol's tokens decide, or the
text of the lines, so that a moved or reformatted definition stays fresh and an edited one does not.
A note is as fresh as its worst anchor; without an anchor it is "unanchored", never "fresh".

What cannot be told apart is never called fresh. Definitions of one name are told apart by their
heads and by their order; lines are followed through a diff, in the definition they stand in.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from stratum.models import Anchor, Freshness, Symbol, Verdict

# Fewer lines than these (blank ones not counted) stand in many places by accident.
_TELLING_LINES = 3
_HEAD = re.compile(r"[\w*&<>\[\]]+")
# What formatters keep of a line: words and operators, one by one, since they space them anew.
_WORD = re.compile(r"\w+|[-<>!=+%&|^~]")
_REPEATED = "="  # ends the hash of lines that stood in several places
# From best to worst; a note takes the worst of its anchors.
_ORDER: tuple[Freshness, ...] = ("fresh", "moved", "other-branch", "changed", "gone")


class Content(Protocol):
    """A file as it stands, or stood in some commit. What costs time is done when asked for."""

    @property
    def blob(self) -> str:
        """The git blob id of the content."""

    def text(self) -> str:
        """Return the text."""

    @property
    def redefines(self) -> bool:
        """Whether a later definition of a name takes the place of an earlier one."""

    @property
    def in_conflict(self) -> bool:
        """Whether a merge left its marks."""

    def definitions(self, name: str) -> Sequence[Symbol]:
        """Return the definitions of a qualified name, in order."""

    def symbols(self) -> Sequence[Symbol]:
        """Return all definitions, in order."""

    def token_hash(self) -> str:
        """Return the hash of the whole content in which formatting does not count."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The freshness of a note, a verdict for each of its anchors, and why it is not of this branch.

    `elsewhere` is "" unless the freshness is "other-branch".
    """

    freshness: Freshness
    verdicts: tuple[Verdict, ...]
    elsewhere: str = ""


def last_name(name: str) -> str:
    """Return the last part of a qualified name: what moves with the body to another class.

    A heading keeps its whole path: the same words in another chapter say something else.
    """
    return name if " > " in name else name.rsplit(".", 1)[-1]


def symbol_anchor(path: str, blob: str, found: Symbol, symbols: Sequence[Symbol]) -> Anchor:
    """Return an anchor on one of the definitions of a file."""
    named = [symbol for symbol in symbols if symbol.name == found.name]
    peers = [symbol for symbol in named if _head(symbol.signature) == _head(found.signature)]
    return Anchor(
        path,
        found.name,
        found.start_line,
        found.end_line,
        blob,
        found.body_hash,
        signature=found.signature,
        namesakes=len(named),
        peers=len(peers),
        ordinal=peers.index(found) + 1,
    )


def _head(signature: str | None) -> str:
    """Return what tells overloads apart, whatever a formatter made of it."""
    return "".join(_HEAD.findall(signature or ""))


def lines_anchor(
    path: str, start: int, end: int, blob: str, text: str, symbols: Sequence[Symbol]
) -> Anchor:
    """Return an anchor on lines of a file that defines `symbols`, as they are found again."""
    lines = text.split("\n")
    length = end - start + 1
    block = lines_hash(lines[start - 1 : end])
    places = _places(lines, length, block)
    around = _around(lines, start, end)
    alike = [first for first in places if _around(lines, first, first + length - 1) == around]
    return Anchor(
        path,
        None,
        start,
        end,
        blob,
        block + _REPEATED * (len(places) > 1),
        context=around + _REPEATED * (len(alike) > 1),
        within=_within(symbols, lines, start, end),
    )


def _within(symbols: Sequence[Symbol], lines: Sequence[str], start: int, end: int) -> str | None:
    """Return "name@body hash@number of words@hash of words" of the definition around lines.

    The words are those of the lines: formatters leave them as they are.
    """
    found = _innermost(symbols, start, end)
    if found is None:
        return None
    words = [word for line in lines[start - 1 : end] for word in _WORD.findall(line)]
    return f"{found.name}@{found.body_hash}@{len(words)}@{_digest(' '.join(words))}"


def _innermost(symbols: Sequence[Symbol], start: int, end: int) -> Symbol | None:
    around = [s for s in symbols if s.start_line <= start and end <= s.end_line]
    return min(around, key=lambda symbol: symbol.end_line - symbol.start_line, default=None)


def _places(lines: Sequence[str], length: int, wanted: str) -> list[int]:
    """Return the first lines of all ranges with a hash."""
    return [
        first + 1
        for first in range(len(lines) - length + 1)
        if lines_hash(lines[first : first + length]) == wanted
    ]


def lines_hash(lines: Sequence[str]) -> str:
    """Hash lines without the white space at their ends and the indentation they have in common.

    Behind a backslash the white space at the end means something.
    """
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    bare = (line.rstrip() for line in lines)
    ends = (
        line if short.endswith("\\") else short for line, short in zip(lines, bare, strict=True)
    )
    return _digest("\n".join(line[indent:] for line in ends))


def _around(lines: Sequence[str], start: int, end: int) -> str:
    """Hash the nearest lines above and below a range that are not blank."""
    above = next((line.strip() for line in reversed(lines[: start - 1]) if line.strip()), "\0")
    below = next((line.strip() for line in lines[end:] if line.strip()), "\0")
    return _digest(f"{above}\n{below}")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


def _nothing() -> str | None:
    return None


def judge(
    anchor: Anchor, content: Content | None, old_text: Callable[[], str | None] = _nothing
) -> Verdict:
    """Return the verdict on one anchor.

    Args:
        anchor: The place as it was.
        content: The file as it stands; None when it does not exist.
        old_text: Gives the file's text as it was, None where it is not to be had; asked for lines
            of a file that changed.
    """
    if content is None:
        return Verdict("gone", anchor.path, reason=f"{anchor.path} no longer exists")
    if anchor.blob == content.blob:
        return Verdict(
            "fresh", anchor.path, anchor.start_line, anchor.end_line, symbol=anchor.symbol
        )
    if content.in_conflict:
        return Verdict("changed", anchor.path, reason=f"{anchor.path} has conflicts of a merge")
    if anchor.symbol:
        return _judge_symbol(anchor, content)
    if anchor.start_line and anchor.end_line:
        return _judge_lines(anchor, content, old_text)
    if anchor.body_hash and anchor.body_hash == content.token_hash():
        return Verdict("fresh", anchor.path)
    return Verdict("changed", anchor.path, reason=f"{anchor.path} was edited")


def worst(verdicts: Sequence[Verdict]) -> Freshness:
    """Return the freshness of a note with these verdicts on its anchors."""
    if not verdicts:
        return "unanchored"
    return max((verdict.freshness for verdict in verdicts), key=_ORDER.index)


def _judge_symbol(anchor: Anchor, content: Content) -> Verdict:
    assert anchor.symbol is not None  # noqa: S101 - the caller has looked
    named = content.definitions(anchor.symbol)
    if not named:
        return Verdict("gone", anchor.path, reason=f"{anchor.symbol} is no longer in {anchor.path}")
    found, reason = _told_apart(anchor, named, content.redefines)
    freshness: Freshness = "fresh" if found.start_line == anchor.start_line else "moved"
    return Verdict(
        "changed" if reason else freshness,
        anchor.path,
        found.start_line,
        found.end_line,
        reason,
        symbol=anchor.symbol,
    )


def _told_apart(anchor: Anchor, named: Sequence[Symbol], redefines: bool) -> tuple[Symbol, str]:
    """Return the definition that is meant, or most likely was, and why it does not hold."""

    def distance(symbol: Symbol) -> tuple[bool, int]:
        other_head = _head(symbol.signature) != _head(anchor.signature)
        return other_head, abs(symbol.start_line - (anchor.start_line or 0))

    same = [symbol for symbol in named if symbol.body_hash == anchor.body_hash]
    nearest = min(same or named, key=distance)
    edited = f"{anchor.symbol} was edited"
    if anchor.namesakes <= 1 == len(named) or not anchor.namesakes:
        # none to be told apart, or of a version before they were counted
        return nearest, "" if len(same) == len(named) else edited
    if len(named) > anchor.namesakes and redefines:
        return nearest, f"{anchor.symbol} is defined once more"
    peers = [symbol for symbol in named if not distance(symbol)[0]]
    if len(peers) == anchor.peers:
        in_order = peers[anchor.ordinal - 1]
        return in_order, "" if in_order in same else edited
    if len(peers) > anchor.peers > 0 and same:
        return nearest, ""  # another one was added; a change of order would be edits
    return nearest, edited


def _judge_lines(anchor: Anchor, content: Content, old_text: Callable[[], str | None]) -> Verdict:
    start, end = anchor.start_line or 1, anchor.end_line or 1
    lines = content.text().replace("\r\n", "\n").split("\n")
    before = old_text()
    if before is not None:
        old = before.replace("\r\n", "\n").split("\n")
        first = _mapped(old, lines, start, end, alone=not anchor.within)
    else:
        first = _found_again(anchor, lines, end - start + 1)
    if first is not None and _in_its_place(anchor, content, first, first + end - start):
        freshness: Freshness = "fresh" if first == start else "moved"
        return Verdict(freshness, anchor.path, first, first + end - start)
    found = _reformatted(anchor, content, lines)
    if found is not None:
        return Verdict("moved", anchor.path, *found)
    return Verdict(
        "changed", anchor.path, reason=f"lines {start}-{end} of {anchor.path} were edited"
    )


def _in_its_place(anchor: Anchor, content: Content, start: int, end: int) -> bool:
    """Tell whether lines stand in a definition of the name they stood in."""
    if anchor.outline_version is None:
        return True  # of a version before that was kept
    name = (anchor.within or "").rsplit("@", 3)[0]
    around = _innermost(content.symbols(), start, end)
    return last_name(name) == last_name(around.name if around else "")


def _found_again(anchor: Anchor, lines: Sequence[str], length: int) -> int | None:
    """Return the only place where an anchor's lines stand, if it cannot be another one."""
    wanted = anchor.body_hash or ""
    places = _places(lines, length, wanted.removesuffix(_REPEATED))
    alike = [
        first for first in places if _around(lines, first, first + length - 1) == anchor.context
    ]
    telling = bool(places) and _telling(lines[places[0] - 1 : places[0] - 1 + length])
    if len(alike) == 1 and (telling or alike[0] == anchor.start_line):
        return alike[0]
    if len(places) == 1 and telling and not wanted.endswith(_REPEATED):
        return places[0]
    return None


def _reformatted(anchor: Anchor, content: Content, lines: Sequence[str]) -> tuple[int, int] | None:
    """Return the only lines with the same words in a definition that has the same tokens."""
    parts = (anchor.within or "").rsplit("@", 3)
    if len(parts) != 4 or not parts[2].isdecimal() or not int(parts[2]):
        return None
    name, body_hash, count, wanted = parts
    same = [symbol for symbol in content.definitions(name) if symbol.body_hash == body_hash]
    if len(same) != 1:
        return None
    words = [
        (word, number)
        for number in range(same[0].start_line, same[0].end_line + 1)
        for word in _WORD.findall(lines[number - 1])
    ]
    size = int(count)
    found = [
        (words[first][1], words[first + size - 1][1])
        for first in range(len(words) - size + 1)
        if _digest(" ".join(word for word, _ in words[first : first + size])) == wanted
    ]
    return found[0] if len(found) == 1 else None


def _mapped(before: list[str], now: list[str], start: int, end: int, *, alone: bool) -> int | None:
    """Return where a range of lines stands now by a diff, None when any of them was touched.

    A diff pairs any two equal lines: few lines, and those that stand `alone`, in no definition,
    need a neighbour that stayed with them.
    """
    if end > len(before):
        return None
    few = alone or not _telling(before[start - 1 : end])
    wide = _widened(before, start, end) if few else (start, end)
    for old, new, size in _unchanged(before, now):
        above, below = (wide[0], end), (start, wide[1])
        if any(old < first and last <= old + size for first, last in (above, below)):
            return start - old + new
    return None


def _widened(lines: Sequence[str], start: int, end: int) -> tuple[int, int]:
    """Return the nearest lines above and below that are not blank; 0 or one past the end: none."""
    above = next((n for n in range(start - 1, 0, -1) if lines[n - 1].strip()), 0)
    below = next((n for n in range(end + 1, len(lines) + 1) if lines[n - 1].strip()), 0)
    return above, below or len(lines) + 1


def _unchanged(before: list[str], now: list[str]) -> list[tuple[int, int, int]]:
    """Return (old start, new start, length) of what two texts have in common, 0-based.

    Equal beginnings and ends are taken off first: the matcher takes quadratic time.
    """
    most = min(len(before), len(now))
    head = next((n for n in range(most) if before[n] != now[n]), most)
    most -= head
    tail = next((n for n in range(most) if before[-1 - n] != now[-1 - n]), most)
    old, new = before[head : len(before) - tail], now[head : len(now) - tail]
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    middle = [(m.a + head, m.b + head, m.size) for m in matcher.get_matching_blocks()]
    blocks = [(0, 0, head), *middle, (len(before) - tail, len(now) - tail, tail)]
    joined: list[tuple[int, int, int]] = []
    for a, b, size in blocks:
        if joined and joined[-1][0] + joined[-1][2] == a and joined[-1][1] + joined[-1][2] == b:
            joined[-1] = (*joined[-1][:2], joined[-1][2] + size)
        elif size:
            joined.append((a, b, size))
    return joined


def _telling(lines: Sequence[str]) -> bool:
    return sum(bool(line.strip()) for line in lines) >= _TELLING_LINES
