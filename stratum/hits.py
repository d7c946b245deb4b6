"""Records, notes and commits as the lines of a search result; pure.

Whatever a file, a commit or a writer named is on one line and cannot steer a terminal, but for
`path` and the title of a file: these are addresses, and stay as they are.
"""

from __future__ import annotations

from stratum.freshness import Judgement
from stratum.history_store import Commit
from stratum.models import STALE, Hit, Note, Verdict
from stratum.notes import one_line, origin, shown
from stratum.store import Place, Record

Why = tuple[tuple[str, float], ...]

_PATHS_PER_COMMIT = 5  # shown of one commit in a list
_SHORT_COMMIT = 10  # characters of its id


def note_hit(note: Note, judgement: Judgement, score: float = 0.0, why: Why = ()) -> Hit:
    """Return a note as judged; its place is where its first anchor is now."""
    first = judgement.verdicts[0] if judgement.verdicts else Verdict("unanchored")
    elsewhere = (judgement.elsewhere,) if judgement.elsewhere else ()
    worst_first = [v.change or (v.reason,) for v in judgement.verdicts if v.freshness in STALE]
    return Hit(
        id=note.id,
        stratum="notes",
        kind=note.kind,
        title=_flat(first.symbol or (note.anchors[0].symbol or "" if note.anchors else "")),
        text=one_line(note.text),
        path=first.path,
        start_line=first.start_line,
        end_line=first.end_line,
        score=round(score, 6),
        freshness=judgement.freshness,
        origin=_flat(origin(note)),
        tags=note.tags,
        change=tuple(map(one_line, elsewhere or (worst_first[0] if worst_first else ()))),
        why=_rounded(why),
    )


def commit_hit(record: Record, commit: Commit, score: float, why: Why = ()) -> Hit:
    """Return a past commit with the first files that it touched."""
    marks = ["taken back later"] if commit.reverted else []
    if not commit.reachable:
        marks.append("not part of HEAD")
    return Hit(
        id=record.uid,
        stratum="history",
        kind=record.kind,
        title=one_line(record.title),
        text=one_line(record.text),
        path=None,
        start_line=None,
        end_line=None,
        score=round(score, 6),
        origin=", ".join([commit.id[:_SHORT_COMMIT], commit.created_at[:10], *marks]),
        paths=tuple(_flat(path) for path, _ in commit.touched[:_PATHS_PER_COMMIT]),
        why=_rounded(why),
    )


def touched_lines(commit: Commit) -> str:
    """Return the files that a commit touched, a line each, with the symbols that it changed."""
    lines = [
        _flat(f"{path}: {', '.join(names)}" if names else path) for path, names in commit.touched
    ]
    left = (commit.files or 0) - len(commit.touched)
    return "\n".join([*lines, f"... {left:,} more files"] if left > 0 and lines else lines)


def code_hit(record: Record, place: Place, score: float, why: Why = ()) -> Hit:
    """Return a piece of code at one of the places where it stands."""
    return Hit(
        id=record.uid,
        stratum="code",
        kind=record.kind,
        title=record.title if record.title == place.path else _flat(record.title),
        text=one_line(record.text),
        path=place.path,
        start_line=place.start_line,
        end_line=place.end_line,
        score=round(score, 6),
        why=_rounded(why),
    )


def _rounded(why: Why) -> Why:
    return tuple((name, round(share, 4)) for name, share in why)


def _flat(name: str) -> str:
    """Return a name on one line, its spaces as they are: git and file systems allow any other."""
    return shown(name).replace("\n", " ").replace("\t", " ")
