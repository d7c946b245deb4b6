"""Looking through the notes: pages of them, one with all that is known of it, sums for a map.

What a person wants to see; agents ask `Memory.search` and `Memory.pack`. Knows no SQL text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stratum.errors import InvalidInput
from stratum.files import Files
from stratum.grammars import language_of
from stratum.models import (
    STALE,
    Entry,
    FolderMap,
    Freshness,
    MapNode,
    MapTotals,
    NoteDetail,
    NoteEvent,
    NotePage,
    NoteUse,
    SourceLines,
    Verdict,
)
from stratum.notebook_store import ORDERS, STATES
from stratum.notes import check_choice, one_line, shown
from stratum.redact import redact
from stratum.store import Store, Worktree
from stratum.verdicts import Verdicts

MAX_PAGE = 500  # notes on one page
MAX_JUDGED = 200  # notes whose freshness is asked for at once
_MOST_LINES = 60  # lines of source that are shown of one place
_MAX_COLUMNS = 400  # characters of such a line
_MOST_EVENTS, _MOST_USES = 200, 400


@dataclass(slots=True)
class _Sums:
    """What gathers below one child of a folder."""

    files: int = 0
    symbols: int = 0
    bytes: int = 0
    notes: dict[str, int] = field(default_factory=dict)  # id -> uses

    def take_in(self, other: _Sums) -> None:
        """Add what gathered elsewhere; a note that is in both counts once."""
        self.files += other.files
        self.symbols += other.symbols
        self.bytes += other.bytes
        self.notes |= other.notes

    def told(self, judged: Mapping[str, Freshness]) -> dict[str, int]:
        """Return the figures of a `MapNode`."""
        verdicts = [judged.get(id_) for id_ in self.notes]
        stale = sum(verdict in STALE for verdict in verdicts)
        unknown = verdicts.count(None)
        return {
            "files": self.files,
            "symbols": self.symbols,
            "bytes": self.bytes,
            "notes": len(verdicts),
            "fresh": len(verdicts) - stale - unknown,
            "stale": stale,
            "unknown": unknown,
            "uses": sum(self.notes.values()),
        }


class Notebook:
    """The notes of one project as a person looks through them."""

    def __init__(
        self,
        files: Files,
        store: Callable[[], Store],
        place: Callable[[], Worktree],
        verdicts: Verdicts,
    ) -> None:
        self._files = files
        self._store = store
        self._place = place
        self._verdicts = verdicts

    def page(
        self, *, state: str = "living", order: str = "newest", offset: int = 0, limit: int = 100
    ) -> NotePage:
        """Return a page of the notes in one of `STATES`, in one of `ORDERS`.

        Raises:
            InvalidInput: There is no such state or order, or a number is out of range.
        """
        check_choice("state", state, STATES)
        check_choice("order", order, ORDERS)
        if not 1 <= limit <= MAX_PAGE or not 0 <= offset < 1 << 31:
            raise InvalidInput(
                f"limit must be from 1 to {MAX_PAGE}, and offset 0 or more.",
                hint="Ask for smaller pages, one after the other.",
            )
        total, rows = self._store().note_page(self._place().project_id, state, order, offset, limit)
        return NotePage(total, offset, tuple(replace(row, text=one_line(row.text)) for row in rows))

    def freshness(self, ids: Sequence[str]) -> dict[str, Freshness]:
        """Judge up to `MAX_JUDGED` notes of the project by their ids; unknown ids are left out."""
        if len(ids) > MAX_JUDGED:
            raise InvalidInput(
                f"{len(ids)} notes are more than the {MAX_JUDGED} that are judged at once.",
                hint="Ask for those that can be seen.",
            )
        store, project = self._store(), self._place().project_id
        known = store.note_records(project, ids)
        notes = list(store.notes_by_record(known).values())
        judged = zip(notes, self._verdicts.of(notes), strict=True)
        return {note.id: judgement.freshness for note, judgement in judged}

    def detail(self, entry: Entry) -> NoteDetail:
        """Return all that is known of a note, with the lines that stand now at its places.

        Raises:
            InvalidInput: The entry is no note.
        """
        if entry.note is None:
            raise InvalidInput(f"{entry.id} is no note.", hint="Open it in the outline or search.")
        store = self._store()
        return NoteDetail(
            entry=entry,
            sources=self._sources(entry.verdicts),
            history=tuple(
                NoteEvent(at, shown(author), shown(agent), verb, _told(verb, detail))
                for at, author, agent, verb, detail in store.journal(entry.id, _MOST_EVENTS)
            ),
            uses=tuple(
                NoteUse(shown(agent), day, count)
                for agent, day, count in store.uses(entry.id, _MOST_USES)
            ),
            successors=tuple(note.id for note in store.successors(entry.id)),
            supersedes=entry.note.supersedes,
        )

    def _sources(self, verdicts: Sequence[Verdict]) -> tuple[SourceLines, ...]:
        """Return the lines at places in files of the index: none of any other file is shown."""
        places = [verdict for verdict in verdicts if verdict.path]
        known = self._store().entries_at(
            self._place().id, [verdict.path for verdict in places if verdict.path]
        )
        found = []
        for verdict in places:
            content = self._files.content(verdict.path or "") if verdict.path in known else None
            if content is not None and verdict.path:
                found.append(_excerpt(verdict.path, content[0], verdict))
        return tuple(dict.fromkeys(found))

    def folder(self, path: str, judged: Mapping[str, Freshness]) -> FolderMap:
        """Return the children of a folder ("" is the root), with sums of all below each.

        Args:
            path: Relative to the root, with "/".
            judged: What is known of notes by their ids; those that are not in it count as unknown.
        """
        store, place = self._store(), self._place()
        start = len(path) + 1 if path else 0
        sums: dict[tuple[str, bool], _Sums] = {}

        def below(full: str) -> _Sums:
            name, slash, _ = full[start:].partition("/")
            return sums.setdefault((name, bool(slash)), _Sums())

        for full, size, symbols in store.files_below(place.id, path):
            child = below(full)
            child.files += 1
            child.symbols += symbols
            child.bytes += size or self._files.size(full)
        for id_, full, uses in store.notes_below(place.project_id, path):
            below(full).notes[id_] = uses
        whole = _Sums()
        for child in sums.values():
            whole.take_in(child)
        return FolderMap(
            path=redact(path).text,
            nodes=tuple(
                MapNode(
                    path=shown(f"{path}/{name}" if path else name),
                    name=shown(name),
                    kind="folder" if is_folder else "file",
                    **child.told(judged),
                )
                for (name, is_folder), child in sorted(sums.items())
            ),
            totals=MapTotals(
                unanchored=0 if path else store.count_unanchored(place.project_id),
                **whole.told(judged),
            ),
        )


def _excerpt(path: str, text: str, verdict: Verdict) -> SourceLines:
    lines = redact(text).text.split("\n")
    first = min(verdict.start_line or 1, len(lines))
    last = min(verdict.end_line or len(lines), len(lines))
    wanted = lines[first - 1 : last]
    kept = wanted[:_MOST_LINES]
    return SourceLines(
        path=path,
        start_line=first,
        end_line=first + len(kept) - 1,
        language=language_of(path, text),
        lines=tuple(shown(line)[:_MAX_COLUMNS] for line in kept),
        truncated=len(kept) < len(wanted) or any(len(line) > _MAX_COLUMNS for line in kept),
    )


def _told(verb: str, detail: Mapping[str, Any]) -> str:
    """Say of an entry of the journal what its verb leaves open."""
    if verb in ("conflict", "undo-conflict"):
        kept = "the other machine's" if detail.get("kept") == "theirs" else "this machine's"
        return f"two machines changed it; {kept} version stands"
    if verb in ("verify", "unverify"):
        count = len(detail.get("anchors") or ())
        return f"at {count} place{'' if count == 1 else 's'}" if count else ""
    return ", ".join(str(detail[name]) for name in ("kind", "scope") if detail.get(name))
