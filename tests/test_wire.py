from __future__ import annotations

import dataclasses
import json
import struct

import pytest

from stratum.models import Anchor, Note
from stratum.stamps import stamp_of
from stratum.wire import (
    WORDS_FIELD,
    fields_of,
    from_fields,
    good_vector,
    hashed_tag,
    vector_field,
)

HOME = "abcdefghijkl"
AT = "2026-01-31T09:30:00.000Z"
STAMP = stamp_of(AT, HOME)
SECRET = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
NOTE = Note(
    id="k3l2mnop4qrs", text="Sessions are purged by cron, see SessionStore.delete_expired",
    kind="gotcha", tags=("auth", "cron"),
    anchors=(Anchor("shop/web/session.py", "SessionStore.delete_expired", 3, 9, "a" * 40),),
    scope="team", trust="accepted", author="Ada", agent="claude", commit="c" * 40, branch="main",
    created_at=AT, updated_at=AT,
)  # fmt: skip


def raw(note: Note = NOTE, **changes: str | bytes) -> dict[str, bytes]:
    """Return the hash of a note as Redis gives it back, with some fields changed."""
    vectors = {"model-1": struct.pack("<2f", 0.6, 0.8)}
    fields = fields_of(
        "github.com/acme/shop", "shop", note, stamp=STAMP, parent="", machine="ada-laptop",
        vectors=vectors,
    )  # fmt: skip
    fields |= changes
    return {key: v.encode() if isinstance(v, str) else v for key, v in fields.items()}


def test_a_note_comes_back_as_it_went_but_for_trust_and_machine() -> None:
    remote = from_fields(raw(), AT)
    assert remote.note == dataclasses.replace(NOTE, trust="proposed", machine="ada-laptop")
    assert (remote.identity, remote.name) == ("github.com/acme/shop", "shop")
    assert (remote.stamp, remote.parent, remote.home) == (STAMP, "", HOME)


def test_a_note_keeps_the_machine_it_was_written_on() -> None:
    note = dataclasses.replace(NOTE, machine="bob-box")
    assert from_fields(raw(note)).note.machine == "bob-box"


def test_a_personal_note_is_never_put_into_words() -> None:
    with pytest.raises(ValueError, match="personal"):
        raw(dataclasses.replace(NOTE, scope="personal"))


def test_of_a_forgotten_note_nothing_is_told_but_that() -> None:
    gone = dataclasses.replace(NOTE, deleted_at=AT)
    fields = raw(gone)
    told = b" ".join(fields.values())
    assert not {"text", "anchors", "tags", WORDS_FIELD, "paths_t", "tags_t"} & fields.keys()
    assert not any(key.startswith("v_") for key in fields)
    assert b"Sessions" not in told
    assert b"session.py" not in told
    assert fields["living"] == b"0"
    remote = from_fields(fields)
    assert (remote.note.text, remote.note.deleted_at) == ("", AT)


def test_a_superseded_note_is_not_found_in_the_shared_index() -> None:
    fields = fields_of("p", "p", NOTE, stamp=STAMP, parent="", machine="m", superseded=True)
    assert fields["living"] == "0"


def test_secrets_that_are_in_the_store_do_not_leave_it() -> None:
    leaky = dataclasses.replace(
        NOTE, text=f"the token is {SECRET}", tags=(SECRET.lower(),), author=f"Ada {SECRET}",
        branch=f"fix/{SECRET}", agent=SECRET,
        anchors=(Anchor(f"keys/{SECRET}.txt", f"f_{SECRET}"),),
    )  # fmt: skip
    told = b" ".join(raw(leaky).values())
    assert SECRET.encode() not in told
    assert SECRET[4:20].lower().encode() not in told.lower()


def test_secrets_that_come_in_are_masked() -> None:
    assert SECRET not in from_fields(raw(text=f"the token is {SECRET}")).note.text


def test_tags_are_hex_and_paths_are_found_by_each_folder() -> None:
    fields = raw()
    paths = fields["paths_t"].decode().split(",")
    assert paths == [hashed_tag(p) for p in ("shop", "shop/web", "shop/web/session.py")]
    symbols = fields["symbols_t"].decode().split(",")
    assert symbols == [hashed_tag(s) for s in ("SessionStore.delete_expired", "delete_expired")]
    assert set(hashed_tag("a, {b} C")) <= set("0123456789abcdef")
    assert hashed_tag("A") != hashed_tag("a")


def test_words_hold_the_parts_of_identifiers() -> None:
    words = raw()[WORDS_FIELD].decode().split()
    assert {"session", "store", "delete", "expired", "cron"} <= set(words)


def test_vectors_stand_under_their_fingerprint() -> None:
    assert raw()[vector_field("model-1")] == struct.pack("<2f", 0.6, 0.8)
    assert vector_field("model-1") != vector_field("model-2")


REFUSED = {
    "another format": ({"v": "2"}, "format"),
    "no format": ({"v": ""}, "format"),
    "no UTF-8": ({"text": b"\xff\xfe"}, "no text"),
    "too long": ({"text": "x" * 9_000}, "9,000 characters"),
    "empty": ({"text": "  "}, "empty"),
    "a NUL": ({"text": "a\0b"}, "NUL"),
    "control characters": ({"author": "Ada\x1b[2J"}, "control characters"),
    "two lines": ({"machine": "a\nb"}, "control characters"),
    "no author": ({"author": ""}, "author"),
    "no machine": ({"machine": ""}, "machine"),
    "a long author": ({"author": "x" * 201}, "201 characters"),
    "a wrong kind": ({"kind": "poem"}, "kind"),
    "no id": ({"id": "../../etc"}, "id"),
    "tags of another type": ({"tags": '{"a": 1}'}, "no list"),
    "tags that are numbers": ({"tags": "[1]"}, "tags"),
    "deep JSON": ({"anchors": "[" * 90_000}, "JSON"),
    "NaN": ({"anchors": '[{"path": "a", "start_line": NaN, "end_line": NaN}]'}, "anchors"),
    "a huge number": ({"anchors": f'[{{"path": "a", "ordinal": {"9" * 5_000}}}]'}, "JSON"),
    "an unknown field": ({"anchors": '[{"path": "a", "surprise": "x"}]'}, "wrong type"),
    "a path above": ({"anchors": '[{"path": "../../etc/passwd"}]'}, "anchors"),
    "an absolute path": ({"anchors": '[{"path": "/etc/passwd"}]'}, "anchors"),
    "an anchor that is none": ({"anchors": "[null]"}, "wrong type"),
    "a stamp that is none": ({"stamp": "later"}, "stamp"),
    "a stamp of another time": ({"stamp": stamp_of("2027-01-01T00:00:00.000Z", HOME)}, "stamp"),
    "a stamp of another home": ({"stamp": stamp_of(AT, "b" * 12)}, "stamp"),
    "a home that is none": ({"home": "me"}, "home"),
    "a parent that is none": ({"parent": "nobody"}, "parent"),
    "a time that is none": ({"created_at": "yesterday"}, "created_at"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_note_is_refused_with_the_reason(case: str) -> None:
    changes, reason = REFUSED[case]
    with pytest.raises(ValueError, match=reason):
        from_fields(raw(**changes))


def test_a_reason_holds_nothing_of_the_content() -> None:
    with pytest.raises(ValueError, match=".") as refused:
        from_fields(raw(tags=json.dumps([SECRET + "\n" + SECRET])))
    assert SECRET not in str(refused.value)


def test_a_clock_a_day_ahead_is_refused_and_one_of_an_hour_is_not() -> None:
    assert from_fields(raw(), "2026-01-31T08:30:00.000Z").note.id == NOTE.id
    with pytest.raises(ValueError, match="25 hours ahead"):
        from_fields(raw(), "2026-01-30T08:00:00.000Z")


@pytest.mark.parametrize("missing", sorted(raw().keys() - {"v"}))
def test_a_missing_field_is_no_crash(missing: str) -> None:
    fields = raw()
    del fields[missing]
    try:
        remote = from_fields(fields)
    except ValueError:
        return
    assert remote.note.id == NOTE.id


def test_vectors_must_have_the_dimension_and_unit_length() -> None:
    assert good_vector(struct.pack("<2f", 0.6, 0.8), 2)
    assert not good_vector(struct.pack("<2f", 0.6, 0.8), 3)
    assert not good_vector(struct.pack("<2f", 6.0, 8.0), 2)
    assert not good_vector(struct.pack("<2f", float("nan"), 0.8), 2)
    assert not good_vector(struct.pack("<2f", float("inf"), 0.8), 2)
    assert not good_vector(b"", 2)
