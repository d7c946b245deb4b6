"""A note <-> the fields of its hash in the team's Redis, and the checks of what comes in; pure.

Whatever a server holds was written by somebody: every field is checked as if by an enemy, and texts
are redacted once more in both directions. Trust does not travel: it is each machine's own decision.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stratum.errors import StratumError
from stratum.models import Anchor, Note, to_plain
from stratum.notes import note_record, plain_note, shown
from stratum.redact import redact
from stratum.stamps import HOME, STAMP, home_of, stamp_of

FORMAT = "1"
WORDS_FIELD = "words"
# The fields of a note that are single texts, and how many characters each may have.
_TEXTS = {
    "id": 12, "project": 1_000, "name": 200, "text": 0, "kind": 20, "author": 200, "agent": 200,
    "machine": 200, "home": 12, "commit": 64, "branch": 500, "created_at": 24, "updated_at": 24,
    "supersedes": 12, "deleted_at": 24, "stamp": 34, "parent": 34,
}  # fmt: skip
# Bytes beyond which a hash is not even read: several times what the largest note takes.
MAX_BYTES = 256_000
_MAX_LIST = 100_000  # characters of the JSON of tags or anchors
_TAG_DIGITS = 32
_SHORT = ("project", "name", "author", "agent", "machine", "branch")
_MAY_BE_NONE = ("commit", "branch", "supersedes", "deleted_at")
_SKEW_HOURS = 24  # a clock that is further ahead would win over everybody for ever
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Remote:
    """A version of a note as the server has it, checked.

    Of a forgotten note only the id and the times are told: `note.text` is "" then. `parent` is the
    stamp of the version it was made from, `home` the database that made it.
    """

    identity: str
    name: str
    note: Note
    stamp: str
    parent: str
    home: str


def hashed_tag(text: str) -> str:
    """Return a text as a tag of the search index: hex, since any other character needs escapes."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:_TAG_DIGITS]


def short_fingerprint(fingerprint: str) -> str:
    """Return the 8 hex digits that stand for an embedding fingerprint in names."""
    return hashlib.sha256(fingerprint.encode()).hexdigest()[:8]


def vector_field(fingerprint: str) -> str:
    """Return the field that holds the vectors of one embedding fingerprint."""
    return f"v_{short_fingerprint(fingerprint)}"


def fields_of(
    identity: str,
    name: str,
    note: Note,
    *,
    stamp: str,
    parent: str,
    machine: str,
    superseded: bool = False,
    vectors: Mapping[str, bytes] | None = None,
) -> dict[str, str | bytes]:
    """Return what the server gets to know of a note of the team, secrets masked once more.

    Args:
        identity: The project.
        name: Its name for people.
        note: The version; must be of scope "team".
        stamp: The version's stamp.
        parent: That of the version it was made from, "" for none.
        machine: The name of this machine, for notes that were first written here.
        superseded: Whether another note of the team took its place.
        vectors: Its vectors (float32 bytes), by fingerprint.

    Raises:
        ValueError: The note is personal; nothing of it is told.
    """
    if note.scope != "team":
        raise ValueError("a personal note never leaves")
    gone = note.deleted_at is not None
    texts: dict[str, str | bytes] = {
        "v": FORMAT,
        "id": note.id,
        "project": _clean(identity),
        "name": _clean(name),
        "kind": note.kind,
        "author": _clean(note.author),
        "agent": _clean(note.agent),
        "machine": _clean(note.machine or machine),
        "home": home_of(stamp),
        "commit": note.commit or "",
        "branch": _clean(note.branch or ""),
        "created_at": note.created_at,
        "updated_at": note.updated_at,
        "supersedes": note.supersedes or "",
        "deleted_at": note.deleted_at or "",
        "stamp": stamp,
        "parent": parent,
        "project_t": hashed_tag(identity),
        "kind_t": hashed_tag(note.kind),
        "author_t": hashed_tag(_clean(note.author)),
        "living": "0" if gone or superseded else "1",
        "ts": str(int(stamp[:15])),
    }
    if gone:
        return texts
    anchors = [_masked(anchor) for anchor in note.anchors]
    tags = [redact(tag).text for tag in note.tags]
    text = _mended(redact(note.text).text)
    words = note_record(
        dataclasses.replace(note, text=text, tags=tuple(tags), anchors=tuple(anchors))
    )
    return texts | {
        "text": text,
        "tags": json.dumps(tags, ensure_ascii=False),
        "anchors": json.dumps(to_plain(anchors), ensure_ascii=False),
        "tags_t": _hashed(tags),
        "paths_t": _hashed(part for anchor in anchors for part in _folders(anchor.path)),
        "symbols_t": _hashed(part for anchor in anchors for part in _tails(anchor.symbol or "")),
        WORDS_FIELD: f"{words.name_terms} {words.text_terms}",
        **{vector_field(fingerprint): v for fingerprint, v in (vectors or {}).items()},
    }


def from_fields(fields: Mapping[str, bytes], now: str | None = None) -> Remote:
    """Return the version that a hash holds.

    Args:
        fields: The hash; fields of the index are not looked at.
        now: The present time; with it, a version from too far in the future is refused.

    Raises:
        ValueError: With the reason, in words without anything of the content.
    """
    if fields.get("v") != FORMAT.encode():
        raise ValueError("its format is not known here; a later Stratum may have made it")
    plain: dict[str, Any] = {key: _text(fields, key, most) for key, most in _TEXTS.items()}
    for key in _SHORT:
        if plain[key] != shown(plain[key]) or "\n" in plain[key]:
            raise ValueError(f"its field {key!r} has control characters")
    home, stamp, parent = plain.pop("home"), plain.pop("stamp"), plain.pop("parent")
    if not HOME.fullmatch(home) or not STAMP.fullmatch(stamp):
        raise ValueError("its stamp or its home is none")
    if parent and not STAMP.fullmatch(parent):
        raise ValueError("its parent is no stamp")
    if not plain["author"] or not plain["machine"] or not plain["project"]:
        raise ValueError("it lacks its author, its machine or its project")
    identity, name = redact(plain.pop("project")).text, redact(plain.pop("name")).text
    plain |= {key: plain[key] or None for key in _MAY_BE_NONE}
    gone = plain["deleted_at"] is not None
    plain["tags"] = [] if gone else _list(fields, "tags")
    plain["anchors"] = [] if gone else _list(fields, "anchors")
    plain["text"] = "-" if gone else plain["text"]
    try:
        note = plain_note(plain | {"scope": "team", "trust": "proposed"})
    except (StratumError, TypeError, AttributeError, KeyError, RecursionError) as error:
        said = error.message if isinstance(error, StratumError) else "a value has the wrong type"
        raise ValueError(redact(shown(said)).text[:200]) from error
    if stamp != stamp_of(note.updated_at, home):
        raise ValueError("its stamp is not that of its time and its home")
    if now is not None:
        _check_clock(note, now)
    if gone:
        note = dataclasses.replace(note, text="")
    return Remote(identity, name, note, stamp, parent, home)


def good_vector(raw: bytes, dimension: int) -> bool:
    """Tell whether bytes are a vector of unit length as all our embedders make them."""
    if len(raw) != 4 * dimension:
        return False
    numbers = struct.unpack(f"<{dimension}f", raw)
    return all(map(math.isfinite, numbers)) and abs(sum(x * x for x in numbers) - 1) < 0.01


def _check_clock(note: Note, now: str) -> None:
    ahead = int(stamp_of(note.updated_at, "")[:15]) - int(stamp_of(now, "")[:15])
    hours = ahead // 3_600_000
    if hours >= _SKEW_HOURS:
        raise ValueError(f"its clock is {hours:,} hours ahead of ours")


def _text(fields: Mapping[str, bytes], key: str, most: int) -> str:
    raw = fields.get(key, b"")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"its field {key!r} is no text") from None
    if most and len(text) > most:
        raise ValueError(f"its field {key!r} has {len(text):,} characters")
    return text


def _list(fields: Mapping[str, bytes], key: str) -> list[Any]:
    text = _text(fields, key, _MAX_LIST)
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair cannot be stored
    except (ValueError, RecursionError):
        raise ValueError(f"its field {key!r} is not JSON") from None
    if not isinstance(value, list):
        raise ValueError(f"its field {key!r} is no list")  # noqa: TRY004 - one kind of refusal
    return value


@functools.lru_cache(maxsize=4096)  # the same few names come with every note
def _clean(text: str) -> str:
    return " ".join(shown(_mended(redact(text).text)).split())


def _mended(text: str) -> str:
    return _SURROGATES.sub("\ufffd", text)


def _masked(anchor: Anchor) -> Anchor:
    return dataclasses.replace(
        anchor,
        path=redact(anchor.path).text,
        symbol=anchor.symbol and redact(anchor.symbol).text,
        signature=anchor.signature and redact(anchor.signature).text,
    )


def _hashed(parts: Iterable[str]) -> str:
    return ",".join(dict.fromkeys(hashed_tag(part) for part in parts))


def _folders(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _tails(symbol: str) -> list[str]:
    parts = symbol.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))] if symbol else []
