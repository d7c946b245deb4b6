"""What a note may be, how it is shown, searched and exported; pure.

Owns limits and checks, the syntax of anchors, a note's record and its JSON line.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from stratum.errors import InvalidInput
from stratum.models import EMBED_NOTE, NOTE_KINDS, SCOPES, Anchor, NewRecord, Note, to_plain
from stratum.redact import HIDDEN, redact
from stratum.terms import terms

MAX_NOTE = 8_000  # characters: a note is a few lines, not a document
MAX_TAGS, MAX_TAG, MAX_ANCHORS = 16, 64, 16
MAX_LINE = 200  # characters of a text shown on one line
EXPORT_VERSION = 1
DEFAULT_KIND = "fact"

_ANCHOR_LINES = re.compile(r"^(?P<path>.+?):(?P<start>\d{1,7})(?:-(?P<end>\d{1,7}))?$", re.DOTALL)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_FULL_ID = re.compile(r"[a-z2-7]{12}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
# The fields of an anchor that are whole numbers, with the least value of each.
_NUMBERS = {
    "start_line": 1, "end_line": 1, "namesakes": 0, "peers": 0, "ordinal": 0, "copies": 0,
    "outline_version": 1,
}  # fmt: skip
_HIDDEN = re.compile(f"\r|{HIDDEN}")  # bare carriage returns let a terminal overwrite a line


def shown(text: str) -> str:
    """Return recalled text as it may reach a reader: control and zero-width characters dropped."""
    return _HIDDEN.sub("", text)


def one_line(text: str) -> str:
    """Return recalled text on one line of at most `MAX_LINE` characters."""
    line = " ".join(shown(text).split())
    return line if len(line) <= MAX_LINE else line[: MAX_LINE - 1].rstrip() + "…"


def writer(note: Note) -> str:
    """Return who wrote a note, with which agent, and on which machine if not on this one."""
    who = f"{note.author} via {note.agent}" if note.agent else note.author
    return f"{who} on {note.machine}" if note.machine else who


def origin(note: Note) -> str:
    """Return who wrote a note and where if not here, when, and how far it is trusted."""
    return shown(f"{writer(note)}, {note.created_at[:10]}, {note.trust}")


def checked_text(text: str) -> str:
    """Return the text of a note as it will be kept, or raise InvalidInput."""
    if "\0" in text:
        raise InvalidInput("The note contains a NUL byte.", hint="Write plain text.")
    text = text.encode("utf-8", "replace").decode().strip()
    if not text:
        raise InvalidInput("The note is empty.", hint="Say what a later session should know.")
    if len(text) > MAX_NOTE:
        raise InvalidInput(
            f"The note has {len(text):,} characters; at most {MAX_NOTE:,} are kept.",
            hint="Split it, or point to a file with an anchor.",
        )
    return text


def checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Return tags in lower case, sorted and redacted, or raise InvalidInput."""
    clean = sorted({redact(tag.strip()).text.lower() for tag in tags if tag.strip()})
    if len(clean) > MAX_TAGS:
        raise InvalidInput(f"A note has at most {MAX_TAGS} tags, not {len(clean)}.")
    for tag in clean:
        if len(tag) > MAX_TAG or _HIDDEN.search(tag) or "\n" in tag:
            raise InvalidInput(f"A tag is at most {MAX_TAG} plain characters: {tag[:40]!r}.")
    return tuple(clean)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise InvalidInput unless `value` is one of `choices`."""
    if value not in choices:
        raise InvalidInput(
            f"{name} cannot be {value!r}.",
            hint=f"Choose one of {', '.join(choices)}.",
            similar=tuple(difflib.get_close_matches(value, choices, n=2)),
        )


def split_anchor(wanted: str) -> tuple[str, str, int, int]:
    """Return path, symbol, first and last line of "path", "path::Symbol" or "path:10-20"."""
    path, separator, symbol = wanted.partition("::")
    if separator:
        if not path or not symbol:
            raise InvalidInput(
                f"{wanted!r} is not a place.", hint="Write path, path::Symbol or path:10-20."
            )
        return path, symbol, 0, 0
    lines = _ANCHOR_LINES.match(wanted)
    if lines:
        start = int(lines["start"])
        if not start:
            raise InvalidInput(f"{wanted!r} is not a place.", hint="The first line is line 1.")
        return lines["path"], "", start, int(lines["end"] or start)
    return wanted, "", 0, 0


def near_names(wanted: str, names: Sequence[str]) -> list[str]:
    """Return the symbols that someone who wrote `wanted` may have meant, best first."""
    last = {name: name.rsplit(".", 1)[-1] for name in names}
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    tail = wanted.rsplit(".", 1)[-1]
    close = difflib.get_close_matches(tail, list(last.values()), n=3, cutoff=0.6)
    return list(dict.fromkeys(near + [name for name in names if last[name] in close]))


def merged(known: Note, again: Note, stale: Collection[Anchor], *, elsewhere: bool = False) -> Note:
    """Return a note that was written again with the same words.

    What the new writing says is taken over: its tags and anchors are added, a kind other than the
    default and the scope "team" win. Anchors that come with it replace `stale` ones, and those
    of the same place unless they say the same: whoever writes a note again has just looked. The
    note then is of the commit at which it was written again, and so is one without anchors that
    was known from another branch (`elsewhere`).
    """
    anchors, commit, branch = known.anchors, known.commit, known.branch
    if again.anchors:
        given = {_place(anchor): anchor for anchor in again.anchors}
        kept = [a for a in known.anchors if a not in stale and _says(a, given.get(_place(a)))]
        places = {_place(anchor) for anchor in kept}
        new = [anchor for anchor in again.anchors if _place(anchor) not in places]
        if new or len(kept) < len(known.anchors):
            anchors, commit, branch = (*kept, *new), again.commit, again.branch
            check_anchor_count(len(anchors))
    elif elsewhere and not known.anchors:
        commit, branch = again.commit, again.branch
    return dataclasses.replace(
        known,
        kind=again.kind if again.kind != DEFAULT_KIND else known.kind,
        scope="team" if "team" in (known.scope, again.scope) else "personal",
        tags=checked_tags([*known.tags, *again.tags]),
        anchors=anchors,
        commit=commit,
        branch=branch,
    )


def _says(anchor: Anchor, other: Anchor | None) -> bool:
    """Tell whether an anchor need not make room for another one of the same place."""
    if other is None:
        return True
    if anchor.symbol:
        return anchor.body_hash == other.body_hash
    if anchor.body_hash is None:
        return anchor.blob == other.blob
    return (anchor.body_hash, anchor.context, anchor.within) == (
        other.body_hash,
        other.context,
        other.within,
    )


def _place(anchor: Anchor) -> tuple[object, ...]:
    if anchor.symbol:
        return anchor.path, anchor.symbol, anchor.signature, anchor.ordinal
    return anchor.path, anchor.start_line, anchor.end_line


def check_anchor_count(count: int) -> None:
    """Raise InvalidInput when a note cannot have so many anchors."""
    if count > MAX_ANCHORS:
        raise InvalidInput(f"A note has at most {MAX_ANCHORS} anchors, not {count}.")


def note_record(note: Note) -> NewRecord:
    """Return the record by which searches find a note."""
    places = " ".join(f"{a.path} {a.symbol or ''}" for a in note.anchors)
    return NewRecord(
        uid=note.id,
        stratum="notes",
        label="notes",
        kind=note.kind,
        title=", ".join(a.symbol or a.path for a in note.anchors),
        text=note.text,
        name_terms=" ".join(terms(places)),
        text_terms=" ".join(terms(f"{note.text} {' '.join(note.tags)}")),
        body_terms="",
        embed=EMBED_NOTE,
    )


def text_hash(text: str) -> str:
    """Return the hash by which the same text is recognised; case and indentation count."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def from_line(line: str) -> tuple[str, str, Note] | None:
    """Return (project identity, name, note) of one exported line, None for the header."""
    plain = json.loads(line)
    if not isinstance(plain, dict):
        raise TypeError("not an object")
    if "stratum_export" in plain:
        if plain["stratum_export"] != EXPORT_VERSION:
            raise ValueError(f"export version {plain['stratum_export']} is not known here")
        return None
    json.dumps(plain, ensure_ascii=False).encode()  # half a surrogate pair cannot be stored
    identity, name = plain.pop("project"), plain.pop("project_name")
    _check(isinstance(identity, str) and isinstance(name, str), "project")
    return redact(identity).text, redact(name).text, plain_note(plain)


def plain_note(plain: dict[str, Any]) -> Note:
    """Return the note that a decoded object describes, redacted.

    Raises:
        ValueError, TypeError, AttributeError, KeyError, StratumError: It is none, see the message.
    """
    fields = {f.name for f in dataclasses.fields(Note)}
    missing = {"id", "text", "created_at", "updated_at"} - plain.keys()
    unknown = plain.keys() - fields
    if missing or unknown:
        raise ValueError(f"fields missing: {sorted(missing)}, not known: {sorted(unknown)}")
    _check_types(plain)
    plain["text"] = redact(checked_text(plain["text"])).text
    plain["tags"] = checked_tags(plain["tags"])
    plain["anchors"] = tuple(Anchor(**anchor) for anchor in plain["anchors"])
    check_anchor_count(len(plain["anchors"]))
    check_choice("kind", plain["kind"], NOTE_KINDS)
    check_choice("scope", plain["scope"], SCOPES)
    if not _FULL_ID.fullmatch(plain["id"]):
        raise ValueError(f"{plain['id']!r} is not an id")
    for field in ("author", "agent", "branch", "machine"):
        if plain.get(field):
            plain[field] = redact(plain[field]).text
    return Note(**plain)


def header_line() -> str:
    """Return the first line of an export."""
    return _json({"stratum_export": EXPORT_VERSION})


def to_line(identity: str, name: str, note: Note) -> str:
    """Return a note of a project as one line of an export; redacted once more on its way out."""
    clean = dataclasses.replace(note, text=redact(note.text).text)
    return _json({"project": identity, "project_name": name, **to_plain(clean)})


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _check_types(plain: dict[str, Any]) -> None:
    """Raise ValueError unless every field of an imported note has its type."""
    for field in ("id", "text", "kind", "scope", "trust", "author", "agent"):
        _check(isinstance(plain.get(field), str), field)
    _check(isinstance(plain.get("branch"), str | None), "branch")
    _check(isinstance(plain.get("machine", ""), str), "machine")
    for field, shape in (("commit", _COMMIT), ("supersedes", _FULL_ID)):
        value = plain.get(field)
        _check(value is None or (isinstance(value, str) and bool(shape.fullmatch(value))), field)
    for field in ("created_at", "updated_at", "deleted_at"):
        value = plain.get(field)
        optional = field == "deleted_at" and value is None
        _check(optional or (isinstance(value, str) and _is_time(value)), field)
    _check(plain["trust"] in ("proposed", "accepted", "rejected"), "trust")
    _check(isinstance(plain.get("tags"), list) and _all_text(plain["tags"]), "tags")
    _check(isinstance(plain.get("anchors"), list), "anchors")
    for anchor in plain["anchors"]:
        path = anchor.get("path")
        _check(not any(redact(v).kinds for v in anchor.values() if isinstance(v, str)), "anchors")
        _check(isinstance(path, str) and not path.startswith("/"), "anchors")
        _check(".." not in path.split("/"), "anchors")
        _check(_all_text(v for k, v in anchor.items() if k not in _NUMBERS and v), "anchors")
        for name, least in _NUMBERS.items():
            value = anchor.get(name)
            _check(value is None or (type(value) is int and least <= value < 1 << 31), "anchors")
        counts = [anchor.get(name, 0) for name in ("namesakes", "peers", "ordinal", "copies")]
        _check(None not in counts and counts[2] <= counts[1] <= counts[0], "anchors")
        first, last = anchor.get("start_line"), anchor.get("end_line")
        _check((first is None) == (last is None) and (first or 0) <= (last or 0), "anchors")


def _check(good: bool, field: str) -> None:
    if not good:
        raise ValueError(f"the field {field!r} has no value that a note can have")


def _is_time(value: str) -> bool:
    # the last year leaves no room for the millisecond by which the next change is later
    try:
        return bool(_TIME.fullmatch(value)) and datetime.fromisoformat(value).year < 9999
    except ValueError:  # a thirteenth month
        return False


def _all_text(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)
