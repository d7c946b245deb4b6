"""Search hits -> one text for an agent under a hard token budget, with a receipt; pure.

Owns what a hit is worth and how it is written. The whole text, headings included, is at most
`budget` tokens long by `tokens.count_tokens`. Lines are chosen by worth per token: what an agent
opens next comes before what it may want to know.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from stratum.models import Hit, Near, Pack, PackedPlace, Receipt
from stratum.paths import is_catalogue, is_prose, is_test
from stratum.tokens import count_tokens, cut_to_tokens

# Worth is the chance that an agent needs what a line says. Of 184 real issues with known fixes the
# first file was one to change in 67 %, the first five held one in 88 %, the first ten in 93 %.
FIRST_FILE = 0.67
LATER_FILE, FILE_DECAY = 0.4, 1.9  # the n-th file: LATER_FILE / n ** FILE_DECAY
# A file's first place, its second, third and any other one, as shares of its file's chance: where
# the file was one to change, so was its first place in 57 %, its second in 19 %, its third in 11 %.
PLACE_SHARES = (1.0, 0.3, 0.2, 0.005)
# Tests and prose are hardly ever what a fix changes, but tell what is expected: a few are enough.
TEST_SHARE, PROSE_SHARE = 0.1, 0.03
# What calls a place or is called by it saves a search where the place is the right one.
NEAR_SHARE = 0.06
# A note that holds is what somebody paid for; the n-th one is less to the point.
NOTE = 1.0
# The likest past fixes show how it was done: two are worth their tokens, more are a list.
PAST_SHARES = (0.1, 0.05, 0.001)

_LONG = 400  # characters of the task that are looked at for the heading
_MAX_TASK = 12  # tokens of the task in the heading: enough to tell two packs apart
_MAX_NOTE = 120  # tokens of a note's text; `get` has all of it
_MAX_PAST = 24  # tokens of a commit's subject
_MAX_NAME = 40  # tokens of a definition's name
_MAX_HEAD = 20  # tokens of a definition's parameters
_MAX_DOC = 16  # tokens of what a definition says of itself
_DESCRIBED = 8  # files whose places are described and explained: most fixes are in one of these
_PAST_PATHS = 3
_MOST_NAMED = 2  # more definitions of a place that are named
_UNDOUBLED = 10  # files whose places are not told again as neighbours: they are shown anyway
_NARROWED = 40  # lines of a definition beyond which a hit inside of it is told instead
_GAP = 2  # lines between definitions that are read in one go
_JOINED = 60  # lines of what is read in one go

# The reasons that an agent cannot see from the task, by the feature that counted most.
_REASONS = {
    "frame": "in the traceback",
    "past": "changed by like fixes",
    "past of title": "changed by like fixes",
    "notes": "a note is about it",
}
_KIND_SHARES = {"code": 1.0, "test": TEST_SHARE, "prose": PROSE_SHARE}
_SPECIALISED = re.compile(r"\s*(?:<[^()]*>|\[[^()]*\])?\s*\(")
_HEADINGS = ("\n## Notes", "\n## Places", "\n## Past changes")
_NOTES, _PLACES, _PAST = range(3)
_NOTHING_NEAR: Mapping[tuple[str, int], Sequence[Near]] = MappingProxyType({})
_NOTE_ID = re.compile(r"(?<=; id )[a-z2-7]{12}(?=\))")
_DEAREST_ID = "4o4a2w2d5w4e"  # digits and letters in turn: each is a piece of its own


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that may be told: `tells` are the hits in it, by position; it needs line `parent`."""

    section: int
    text: str
    worth: float
    tells: tuple[int, ...] = ()
    parent: int | None = None
    place: PackedPlace | None = None


@dataclass(frozen=True, slots=True)
class _Span:
    """Lines of a file to be read in one go; `hit` gives the name, `names` are of others in it."""

    start: int
    end: int
    hit: Hit
    tells: tuple[int, ...]
    names: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """Lines."""
        return self.end - self.start + 1

    def holds(self, other: _Span) -> bool:
        """Tell whether all lines of another one are in it."""
        return self.start <= other.start and other.end <= self.end


def pack(
    task: str,
    hits: Sequence[Hit],
    budget: int,
    *,
    near: Mapping[tuple[str, int], Sequence[Near]] = _NOTHING_NEAR,
    withheld_stale: int = 0,
) -> Pack:
    """Choose and cut so that the text fits `budget` tokens; 0 gives an empty text.

    Notes come first, then places by file, then past commits, each in the order given, but tests and
    prose after the code that is worth as much. What a hit
    holds stays on its line, whatever files, symbols and commits are called. A line that does not
    fit is left out as a whole. Hits whose lines touch are told in one line.

    Args:
        task: What the agent is about to do; its beginning is repeated.
        hits: All candidates, best first.
        budget: Tokens that the text may have.
        near: What a code hit calls and what calls it, by the hit's path and first line.
        withheld_stale: Notes that do not hold, for the receipt.
    """
    lines: list[_Line] = []
    _add_notes(lines, hits)
    _add_places(lines, hits, near)
    _add_past(lines, hits)
    chosen, text = _choose(_heading(task), lines, budget)
    told = {number for index in chosen for number in lines[index].tells}
    places = (lines[index].place for index in sorted(chosen))
    receipt = Receipt(
        budget=budget,
        tokens_used=count_tokens(text),
        places=len(told),
        omitted=len(hits) - len(told),
        withheld_stale=withheld_stale,
    )
    return Pack(
        text,
        receipt,
        places=tuple(place for place in places if place is not None),
        notes=tuple(hits[number].id for number in sorted(told) if hits[number].stratum == "notes"),
    )


def price(text: str) -> int:
    """Return the tokens of a text, with the ids of its notes at the price of the dearest one.

    Ids are drawn by chance: what fits a budget must not depend on them.
    """
    dearest = _NOTE_ID.sub(_DEAREST_ID, text)
    return max(count_tokens(text), count_tokens(dearest) if dearest != text else 0)


# choosing


def _choose(heading: str, lines: Sequence[_Line], budget: int) -> tuple[set[int], str]:
    """Return the lines that are worth most for their tokens, by index, and the text of them."""
    # a joined text has at most one token more than its parts
    costs = [price(line.text + "\n") + 1 for line in lines]
    order = _by_worth(lines, costs)
    chosen: set[int] = set()
    text = ""
    spent = price(heading + "\n") + 1
    while added := _fitting(lines, costs, order, chosen, budget - spent):
        chosen |= added
        text = _render(heading, lines, chosen)
        spent = price(text)  # less than the sum, so that there may be room for more
    for index in reversed(order):  # parents stand before what needs them
        if spent <= budget:
            break
        if index in chosen:
            chosen.remove(index)
            text = _render(heading, lines, chosen)
            spent = price(text)
    return chosen, text


def _by_worth(lines: Sequence[_Line], costs: Sequence[int]) -> list[int]:
    """Return all indices by worth per token, best first, none before its parent."""
    ratios: list[float] = []
    for line, cost in zip(lines, costs, strict=True):
        ratio = line.worth / cost
        ratios.append(ratio if line.parent is None else min(ratio, ratios[line.parent]))
    return sorted(range(len(lines)), key=lambda index: (-ratios[index], index))


def _fitting(
    lines: Sequence[_Line],
    costs: Sequence[int],
    order: Sequence[int],
    chosen: Collection[int],
    room: int,
) -> set[int]:
    """Return which more lines fit into `room` tokens, with the headings that they need."""
    added: set[int] = set()
    sections = {lines[index].section for index in chosen}
    for index in order:
        line = lines[index]
        known = index in chosen or index in added
        if known or not (line.parent is None or line.parent in chosen or line.parent in added):
            continue
        cost = costs[index]
        if line.section not in sections:
            cost += price(_HEADINGS[line.section] + "\n") + 1
        if cost <= room:
            room -= cost
            added.add(index)
            sections.add(line.section)
    return added


def _render(heading: str, lines: Sequence[_Line], chosen: Collection[int]) -> str:
    if not chosen:
        return ""
    told = [heading]
    section = None
    for index in sorted(chosen):
        if lines[index].section != section:
            section = lines[index].section
            told.append(_HEADINGS[section])
        told.append(lines[index].text)
    return "\n".join(told) + "\n"


# writing


def _heading(task: str) -> str:
    title = cut_to_tokens(_flat(" ".join(task[:_LONG].split())), _MAX_TASK)
    return f"# Where to look: {title}" if title else "# Where to look"


def _add_notes(lines: list[_Line], hits: Sequence[Hit]) -> None:
    notes = [(number, hit) for number, hit in enumerate(hits) if hit.stratum == "notes"]
    for rank, (number, hit) in enumerate(notes, start=1):
        place = f" [{_flat(hit.path)}{_lines(hit)}]" if hit.path else ""
        marks = f"({_flat(hit.kind)}, {hit.freshness}, {_flat(hit.origin)}; id {hit.id})"
        text = f"- {_cut(hit.text, _MAX_NOTE)}{place} {marks}"
        lines.append(_Line(_NOTES, text, NOTE / rank, (number,)))


def _lines(hit: Hit) -> str:
    return f":{hit.start_line}-{hit.end_line}" if hit.start_line else ""


def _add_past(lines: list[_Line], hits: Sequence[Hit]) -> None:
    past = [(number, hit) for number, hit in enumerate(hits) if hit.stratum == "history"]
    for rank, (number, hit) in enumerate(past):
        more = ", …" if len(hit.paths) > _PAST_PATHS else ""
        paths = ", ".join(map(_flat, hit.paths[:_PAST_PATHS])) + more
        touched = f": {paths}" if paths else ""
        text = f"- {_cut(hit.title, _MAX_PAST)} ({_flat(hit.origin)}){touched}"
        worth = PAST_SHARES[min(rank, len(PAST_SHARES) - 1)]
        lines.append(_Line(_PAST, text, worth, (number,)))


def _add_places(
    lines: list[_Line], hits: Sequence[Hit], near: Mapping[tuple[str, int], Sequence[Near]]
) -> None:
    files = _by_worth_of_file(_by_file(hits))
    shown = {
        (path, span.start, span.end) for path, _, spans in files[:_UNDOUBLED] for span in spans
    }
    for number, (path, worth, spans) in enumerate(files):
        described = number < _DESCRIBED
        first = len(lines)
        for rank, span in enumerate(spans):
            share = worth * PLACE_SHARES[min(rank, len(PLACE_SHARES) - 1)]
            here = len(lines)
            lines.append(_place(path, span, share, described, first if rank else None))
            for one in _neighbours(hits, span, near):
                key = (one.path, one.start_line, one.end_line)
                if key not in shown:
                    shown.add(key)
                    lines.append(_near(path, one, share * NEAR_SHARE, here))


def _by_worth_of_file(
    files: Mapping[str, Sequence[_Span]],
) -> list[tuple[str, float, Sequence[_Span]]]:
    """Return (path, worth, spans) of files given best first, what a fix may change before tests."""
    ranks: Counter[str] = Counter()
    found: list[tuple[str, float, Sequence[_Span]]] = []
    for path, spans in files.items():
        kind = _kind(path)
        ranks[kind] += 1
        found.append((path, chance(ranks[kind]) * _KIND_SHARES[kind], spans))
    return sorted(found, key=lambda file: -file[1])


def chance(rank: int) -> float:
    """Return how likely the file of this rank, from 1, is one to change."""
    return FIRST_FILE if rank == 1 else LATER_FILE / rank**FILE_DECAY


def _kind(path: str) -> str:
    if is_test(path):
        return "test"
    return "prose" if is_prose(path) or is_catalogue(path) else "code"


def _place(path: str, span: _Span, worth: float, described: bool, parent: int | None) -> _Line:
    address = f"{span.start}-{span.end}"
    name = _name(span.hit)
    head = f"{name}{_parameters(span.hit)}" if name else ""
    others = [*span.names[:_MOST_NAMED], *(["…"] if len(span.names) > _MOST_NAMED else [])]
    told = ", ".join([head, *others] if head else others)
    parts = [f"{_flat(path)}:{address}" if parent is None else f"  {address}", told]
    if described or not told:
        about = _cut(_about(span.hit), _MAX_DOC)
        parts += [f"- {about}" if about else ""]
    if described:
        parts.append(_reason(span.hit))
    text = " ".join(part for part in parts if part)
    place = PackedPlace(_flat(path), name, span.start, span.end)
    return _Line(_PLACES, text, worth, span.tells, parent, place)


def _near(path: str, near: Near, worth: float, parent: int) -> _Line:
    where = "" if near.path == path else f"{_flat(near.path)}:"
    symbol = _cut(near.symbol, _MAX_NAME)
    text = f"    {near.relation} {where}{near.start_line}-{near.end_line} {symbol}"
    place = PackedPlace(_flat(near.path), symbol, near.start_line, near.end_line)
    return _Line(_PLACES, text, worth, (), parent, place)


def _neighbours(
    hits: Sequence[Hit], span: _Span, near: Mapping[tuple[str, int], Sequence[Near]]
) -> Iterable[Near]:
    for number in span.tells:
        yield from near.get((hits[number].path or "", hits[number].start_line or 0), ())


def _name(hit: Hit) -> str:
    """Return the name of a definition or a section, "" for a whole file."""
    return "" if hit.kind == "file" else _cut(hit.title, _MAX_NAME)


def _parameters(hit: Hit) -> str:
    """Return what stands in round brackets behind the name in a signature, brackets included."""
    begin, end = _brackets(hit)
    inside = " ".join(hit.text[begin:end].split())
    inside = inside.replace("( ", "(").replace(" )", ")").replace(",)", ")")
    return _cut(inside, _MAX_HEAD)


def _about(hit: Hit) -> str:
    """Return what a definition says of itself, or what a file does."""
    if hit.kind == "file":
        return hit.text
    return hit.text[_brackets(hit)[1] :].partition(" - ")[2]


def _brackets(hit: Hit) -> tuple[int, int]:
    """Return where the parameters begin and end in the text of a hit; nothing where it has none."""
    last = hit.title.rpartition(".")[2]
    at, found = hit.text.find(last) if last else -1, None
    while at >= 0 and not found:
        if not (hit.text[at - 1 : at].isalnum() or hit.text[at - 1 : at] == "_"):
            found = _SPECIALISED.match(hit.text, at + len(last))
        at = hit.text.find(last, at + 1)
    if not found:
        return 0, 0
    depth = 0
    for end in range(found.end() - 1, len(hit.text)):
        depth += {"(": 1, ")": -1}.get(hit.text[end], 0)
        if not depth:
            return found.end() - 1, end + 1
    return found.end() - 1, len(hit.text)


def _reason(hit: Hit) -> str:
    """Return why a place is named where its best feature says what the task does not."""
    best = hit.why[0][0] if hit.why else ""
    return f"({_REASONS[best]})" if best in _REASONS else ""


def _cut(text: str, most: int) -> str:
    return cut_to_tokens(_flat(text), most)


def _flat(text: str) -> str:
    """Return a text with a space for each character that is none to be seen, such as line ends."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else " " for c in text)


# spans


def _by_file(hits: Sequence[Hit]) -> dict[str, list[_Span]]:
    """Return what to read of each file, files and places in the order of their first hit."""
    files: dict[str, list[_Span]] = {}
    for number, hit in enumerate(hits):
        if hit.stratum == "code" and hit.path and hit.start_line:
            end = max(hit.start_line, hit.end_line or 0)
            _insert(files.setdefault(hit.path, []), _Span(hit.start_line, end, hit, (number,)))
    return files


def _insert(spans: list[_Span], new: _Span) -> None:
    """Add a span to those of its file; with one that it touches it becomes one, at its place."""
    for index, known in enumerate(spans):
        merged = _merged(known, new)
        if merged is not None:
            after = spans[index + 1 :]
            del spans[index:]
            for span in (merged, *after):  # it may touch others now
                _insert(spans, span)
            return
    spans.append(new)


def _merged(better: _Span, other: _Span) -> _Span | None:
    """Return two spans that touch as one, None if they are to be told apart."""
    tells = (*better.tells, *other.tells)
    if better.holds(other):
        longer = better.length > max(other.length, _NARROWED)
        return replace(other if longer and not better.names else better, tells=tells)
    if other.holds(better):
        return replace(better, tells=tells)
    start, end = min(better.start, other.start), max(better.end, other.end)
    between = max(better.start, other.start) - min(better.end, other.end) - 1
    if between < 0 or (between <= _GAP and end - start < _JOINED):
        last = _name(other.hit).rpartition(".")[2]
        told = (*better.names, *([last] if last else []), *other.names)
        return replace(better, start=start, end=end, tells=tells, names=told)
    return None
