"""Search hits -> one text for an agent under a hard token budget, with a receipt; pure.

The whole text, marker lines included, is at most `budget` tokens long by `tokens.count_tokens`.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Sequence

from stratum.models import Hit, Pack, Receipt
from stratum.tokens import count_tokens, cut_to_tokens

_MAX_TASK = 60  # tokens of the task repeated in the heading
_MORE = "({} more left out: raise the budget or search.)"


def pack(task: str, hits: Sequence[Hit], budget: int, *, withheld_stale: int = 0) -> Pack:
    """Choose and cut so that the text fits `budget` tokens; 0 gives an empty text.

    What a hit holds stays on its line, whatever files, symbols and commits are called.

    Notes come first, then places to open, then past commits, each in the order given; places are
    grouped by file. An entry that does not fit is left out and the next one is tried.
    """
    hits = [_flat_hit(hit) for hit in hits]
    chosen: list[Hit] = []
    text = ""
    for hit in hits:
        attempt = _render(task, [*chosen, hit], len(hits) - len(chosen) - 1)
        if count_tokens(attempt) <= budget:
            chosen.append(hit)
            text = attempt
    if chosen:
        text = _render(task, chosen, len(hits) - len(chosen))
        if count_tokens(text) > budget:  # the remark on what is left out made it too long
            text = _render(task, chosen, 0)
    receipt = Receipt(
        budget=budget,
        tokens_used=count_tokens(text),
        places=len(chosen),
        omitted=len(hits) - len(chosen),
        withheld_stale=withheld_stale,
    )
    return Pack(text, receipt)


def _flat_hit(hit: Hit) -> Hit:
    return dataclasses.replace(
        hit,
        kind=_flat(hit.kind),
        title=_flat(hit.title),
        text=_flat(hit.text),
        path=None if hit.path is None else _flat(hit.path),
        origin=_flat(hit.origin),
        paths=tuple(map(_flat, hit.paths)),
    )


def _flat(text: str) -> str:
    """Return a text with a space for each character that is none to be seen, such as line ends."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else " " for c in text)


def _render(task: str, hits: Sequence[Hit], omitted: int) -> str:
    lines = [f"# Where to look: {cut_to_tokens(_flat(' '.join(task.split())), _MAX_TASK)}"]
    notes = [hit for hit in hits if hit.stratum == "notes"]
    if notes:
        lines.append("\n## Notes")
        lines += [_note_line(hit) for hit in notes]
    by_file: dict[str, list[Hit]] = {}
    for hit in hits:
        if hit.stratum == "code" and hit.path:
            by_file.setdefault(hit.path, []).append(hit)
    if by_file:
        lines.append("\n## Places")
    for path, found in by_file.items():
        lines.append(f"{path}{_summary(found)}")
        lines += [_place_line(hit) for hit in found if hit.kind != "file"]
    past = [hit for hit in hits if hit.stratum == "history"]
    if past:
        lines.append("\n## Past changes")
        lines += [_past_line(hit) for hit in past]
    if omitted:
        lines.append("\n" + _MORE.format(omitted))
    return "\n".join(lines) + "\n"


def _note_line(hit: Hit) -> str:
    place = f" [{hit.path}{_lines(hit)}]" if hit.path else ""
    return f"- {hit.text}{place} ({hit.kind}, {hit.freshness}, {hit.origin}; id {hit.id})"


def _past_line(hit: Hit) -> str:
    touched = f": {', '.join(hit.paths)}" if hit.paths else ""
    return f"- {hit.title} ({hit.origin}; id {hit.id}){touched}"


def _place_line(hit: Hit) -> str:
    return f"  {hit.start_line}-{hit.end_line} {hit.title}: {hit.text}"


def _summary(found: Sequence[Hit]) -> str:
    for hit in found:
        if hit.kind == "file" and hit.text:
            return f" - {hit.text}"
    return ""


def _lines(hit: Hit) -> str:
    return f":{hit.start_line}-{hit.end_line}" if hit.start_line else ""
