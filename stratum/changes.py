"""How a stale place differs from what a note was written about, in one line; pure."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Sequence

from stratum.freshness import last_name
from stratum.models import Anchor, Outline, Symbol, Verdict
from stratum.outline import body_hash

_MAX_HEAD = 120  # characters of a definition's head that are shown


def described(
    anchor: Anchor,
    verdict: Verdict,
    old: tuple[str, Outline] | None,
    new: tuple[str, Outline] | None,
) -> str:
    """Return what became of a stale place, such as which head or how many lines changed.

    `old` and `new` are text and outline of its file, None where they are not to be had.
    """
    if anchor.symbol:
        before = _definition(anchor, anchor.start_line, old)
        if verdict.freshness == "gone":
            return _removed(anchor, before, old, new)
        after = _definition(anchor, verdict.start_line, new)
        return f"{_called(anchor, new)}: {_edited(anchor, before, after, old, new)}"
    if new is None:
        return f"{anchor.path} was removed"
    place = f"{anchor.path}:{anchor.start_line}-{anchor.end_line}" if anchor.start_line else ""
    if old is None:
        return f"{place or anchor.path} was edited"
    if not place:
        return f"{anchor.path}: {_counted(old[0].splitlines(), new[0].splitlines())}"
    lines = old[0].split("\n")[(anchor.start_line or 1) - 1 : anchor.end_line]
    present = set(new[0].split("\n"))
    left = sum(line not in present for line in lines)
    return f"{place}: {left or 'some'} of {len(lines)} lines are not there any more as they were"


def _called(anchor: Anchor, new: tuple[str, Outline] | None) -> str:
    """Return a definition's name, with its head where the name alone could mean another one."""
    namesakes = [s for s in new[1].symbols if s.name == anchor.symbol] if new else []
    head = f" (`{_short(anchor.signature)}`)" if len(namesakes) > 1 and anchor.signature else ""
    return f"{anchor.symbol}{head}"


def _definition(
    anchor: Anchor, line: int | None, file: tuple[str, Outline] | None
) -> Symbol | None:
    named = [s for s in file[1].symbols if s.name == anchor.symbol] if file else []
    return min(named, key=lambda symbol: abs(symbol.start_line - (line or 0)), default=None)


def _edited(
    anchor: Anchor,
    before: Symbol | None,
    after: Symbol | None,
    old: tuple[str, Outline] | None,
    new: tuple[str, Outline] | None,
) -> str:
    head = before.signature if before else anchor.signature
    parts = []
    if head and after and head != after.signature:
        parts.append(f"`{_short(head)}` is now `{_short(after.signature)}`")
    if before and after and old and new:
        parts.append(_counted(_lines(old[0], before), _lines(new[0], after)))
    return "; ".join(parts) or "its body was edited"


def _removed(
    anchor: Anchor,
    before: Symbol | None,
    old: tuple[str, Outline] | None,
    new: tuple[str, Outline] | None,
) -> str:
    if new is None:
        return f"{anchor.symbol} went with {anchor.path}"
    if before and old:
        renamed = _renamed(before, old, new[1])
        if renamed:
            return f"{anchor.symbol} is now called {renamed}; its body is the same"
    return f"{anchor.symbol} was removed from {anchor.path}"


def _renamed(before: Symbol, old: tuple[str, Outline], new: Outline) -> str:
    """Return the new name of a definition of which only the name differs, "" if there is none."""
    known = {symbol.name for symbol in old[1].symbols}
    source = textwrap.dedent("\n".join(_lines(old[0], before)))
    word = re.compile(rf"(?<!\w){re.escape(last_name(before.name))}(?!\w)")
    for symbol in new.symbols:
        if symbol.name in known or symbol.kind != before.kind:
            continue
        other = word.sub(last_name(symbol.name).replace("\\", r"\\"), source)
        if body_hash(other, new.language) == symbol.body_hash:
            return symbol.name
    return ""


def _lines(text: str, symbol: Symbol) -> list[str]:
    return text.split("\n")[symbol.start_line - 1 : symbol.end_line]


def _counted(old: Sequence[str], new: Sequence[str]) -> str:
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=len(old) + len(new) > 4_000)
    kept = sum(block.size for block in matcher.get_matching_blocks())
    return f"+{len(new) - kept} -{len(old) - kept} of {len(old)} lines"


def _short(head: str) -> str:
    return head if len(head) <= _MAX_HEAD else head[: _MAX_HEAD - 1] + "…"
