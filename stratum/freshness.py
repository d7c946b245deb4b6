"""What has become of the place a note speaks of: anchor + file as it stands -> verdict; pure.

A verdict is reached at read time. Same content: fresh. Otherwise the symbol's tokens decide, then
the text of the lines, so that a moved or reformatted definition stays fresh and an edited one does
not. A note is as fresh as its worst anchor; without an anchor it is "unanchored", never "fresh".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from stratum.models import Anchor, Freshness, Outline, Verdict

# Fewer lines than these (blank ones not counted) stand in many places by accident.
_TELLING_LINES = 3
_REPEATED = "="  # ends the hash of lines that stood in several places
# From best to worst; a note takes the worst of its anchors.
_ORDER: tuple[Freshness, ...] = ("fresh", "moved", "other-branch", "changed", "gone")


@dataclass(frozen=True, slots=True)
class CurrentFile:
    """A file as it stands: its blob id, its text and its outline."""

    blob: str
    text: str
    outline: Outline


def lines_hash(text: str, start_line: int, end_line: int, *, mark: bool = False) -> str:
    """Return the hash by which a range of lines is found again.

    White space at the ends of lines and the indentation they have in common do not count. With
    `mark` it says whether the same lines stand elsewhere too: then they are never called moved.
    """
    lines = text.split("\n")
    found = _hash(lines[start_line - 1 : end_line])
    if mark and len(_places(lines, end_line - start_line + 1, found)) > 1:
        return found + _REPEATED
    return found


def _places(lines: Sequence[str], length: int, wanted: str) -> list[int]:
    """Return the first lines of all ranges with a hash."""
    return [
        first + 1
        for first in range(len(lines) - length + 1)
        if _hash(lines[first : first + length]) == wanted
    ]


def _hash(lines: Sequence[str]) -> str:
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    plain = "\n".join(line[indent:].rstrip() for line in lines)
    return hashlib.blake2b(plain.encode("utf-8", "replace"), digest_size=8).hexdigest()


def judge(anchor: Anchor, current: CurrentFile | None) -> Verdict:
    """Return the verdict on one anchor; `current` is None when its file does not exist."""
    if current is None:
        return Verdict("gone", anchor.path, reason=f"{anchor.path} no longer exists")
    if anchor.blob == current.blob:
        return Verdict("fresh", anchor.path, anchor.start_line, anchor.end_line)
    if anchor.symbol:
        return _judge_symbol(anchor, current.outline)
    if anchor.start_line and anchor.end_line:
        return _judge_lines(anchor, current.text)
    return Verdict("changed", anchor.path, reason=f"{anchor.path} was edited")


def worst(verdicts: Sequence[Verdict]) -> Freshness:
    """Return the freshness of a note with these verdicts on its anchors."""
    if not verdicts:
        return "unanchored"
    return max((verdict.freshness for verdict in verdicts), key=_ORDER.index)


def _judge_symbol(anchor: Anchor, outline: Outline) -> Verdict:
    named = [symbol for symbol in outline.symbols if symbol.name == anchor.symbol]
    same = [symbol for symbol in named if symbol.body_hash == anchor.body_hash]
    if same:
        # duplicates of one name and one body: the nearest to the old place is the one meant
        found = min(same, key=lambda symbol: abs(symbol.start_line - (anchor.start_line or 0)))
        stayed = found.start_line == anchor.start_line
        freshness: Freshness = "fresh" if stayed else "moved"
        return Verdict(freshness, anchor.path, found.start_line, found.end_line)
    if named:
        found = named[0]
        return Verdict(
            "changed",
            anchor.path,
            found.start_line,
            found.end_line,
            reason=f"{anchor.symbol} was edited",
        )
    return Verdict("gone", anchor.path, reason=f"{anchor.symbol} is no longer in {anchor.path}")


def _judge_lines(anchor: Anchor, text: str) -> Verdict:
    start, end = anchor.start_line or 1, anchor.end_line or 1
    wanted = anchor.body_hash or ""
    lines = text.split("\n")
    if _hash(lines[start - 1 : end]) == wanted.removesuffix(_REPEATED):
        return Verdict("fresh", anchor.path, start, end)
    length = end - start + 1
    places = _places(lines, length, wanted)
    if len(places) == 1:  # more than one: nobody can say which was meant
        first = places[0]
        telling = sum(bool(line.strip()) for line in lines[first - 1 : first - 1 + length])
        if telling >= _TELLING_LINES:
            return Verdict("moved", anchor.path, first, first + length - 1)
    return Verdict(
        "changed", anchor.path, reason=f"lines {start}-{end} of {anchor.path} were edited"
    )
