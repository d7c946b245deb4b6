from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from stratum.config import Settings
from stratum.errors import InvalidInput
from stratum.memory import Memory
from stratum.models import Filters, Note
from stratum.replica import Delivered, Fetched, Parcel
from stratum.stamps import later, stamp_of
from stratum.wire import fields_of, vector_field
from tests.conftest import git

PROJECT = "github.com/acme/shop"
THERE = "zzzzzzzzzzzz"  # another machine's home, whose stamps win over ours of the same time
REMOTE = "server"


@pytest.fixture
def memory(settings: Settings, repository: Path) -> Iterator[Memory]:
    git(repository, "remote", "add", "origin", "https://github.com/acme/shop.git")
    with Memory(replace(settings, machine="here"), repository) as opened:
        opened.index()
        yield opened


def version(note: Note, home: str = THERE, parent: str = "", **changes: str) -> dict[str, bytes]:
    """Return the hash of a version that another machine made."""
    stamp = stamp_of(note.updated_at, home)
    fields = fields_of(PROJECT, "shop", note, stamp=stamp, parent=parent, machine="there")
    return {k: v.encode() if isinstance(v, str) else v for k, v in (fields | changes).items()}


def someone_elses(text: str = "refunds are booked at night", id_: str = "abcdabcdabcd") -> Note:
    at = "2026-01-31T09:30:00.000Z"
    return Note(id=id_, text=text, kind="fact", tags=(), anchors=(), scope="team",
                trust="proposed", author="Bob", agent="", commit=None, branch=None,
                created_at=at, updated_at=at, machine="there")  # fmt: skip


def take(memory: Memory, *versions: Mapping[str, bytes]) -> dict[str, int]:
    page: dict[str, Fetched] = {v["id"].decode(): v for v in versions}
    return dict(memory.replica.take(PROJECT, page, REMOTE, "1-0"))


def deliver(memory: Memory) -> list[Parcel]:
    """Send all that waits to a server that takes it."""
    parcels = memory.replica.parcels(1_000)
    memory.replica.sent([Delivered(parcel, True, "1-0") for parcel in parcels], REMOTE)
    return parcels


def note(memory: Memory, id_: str) -> Note:
    found = memory.get(id_).note
    assert found is not None
    return found


def changed(known: Note, **fields: object) -> Note:
    at = later(known.updated_at, known.updated_at)
    return dataclasses.replace(known, updated_at=at, **fields)  # type: ignore[arg-type]


# what is sent


def test_only_notes_of_the_team_wait(memory: Memory) -> None:
    mine = memory.write("nobody else's business")
    ours = memory.write("sessions are purged by cron", scope="team")
    assert [p.fields["id"] for p in memory.replica.parcels(10)] == [ours.note.id]
    assert [n.id for n in memory.replica.outgoing(10)] == [ours.note.id]
    memory.forget(mine.note.id)
    memory.forget(ours.note.id)
    [parcel] = deliver(memory)
    assert parcel.fields["deleted_at"]
    assert "text" not in parcel.fields
    assert memory.replica.parcels(10) == []


def test_what_is_written_while_a_note_is_sent_waits_again(memory: Memory) -> None:
    written = memory.write("sessions are purged by cron", scope="team")
    parcels = memory.replica.parcels(10)
    memory.write("sessions are purged by cron", tags=["cron"], scope="team")
    memory.replica.sent([Delivered(parcel, True, "1-0") for parcel in parcels], REMOTE)
    [again] = memory.replica.parcels(10)
    assert again.fields["id"] == written.note.id
    assert again.fields["parent"] == parcels[0].fields["stamp"]


def test_a_project_that_only_this_machine_can_name_sends_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "a.py").write_text("def f(): pass\n")
    with Memory(settings, folder) as memory:
        memory.write("f does nothing", scope="team")
        assert memory.project.startswith("path:")
        assert memory.replica.parcels(10) == []
        assert memory.replica.projects() == {}
        assert memory.replica.state().waiting == 1
        assert memory.replica.nameless() == 1


# what comes in


def test_a_note_of_another_machine_is_proposed_and_says_where_from(memory: Memory) -> None:
    assert take(memory, version(someone_elses())) == {"received": 1}
    [hit] = memory.search("refunds booked", filters=Filters(stratum="notes")).hits
    assert hit.origin == "Bob on there, 2026-01-31, proposed"
    assert memory.replica.parcels(10) == []  # no echo
    assert take(memory, version(someone_elses())) == {"unchanged": 1}


def test_one_s_own_note_counts_more_than_one_nobody_here_has_accepted(memory: Memory) -> None:
    take(memory, version(someone_elses("refunds are booked at night by the ledger")))
    own = memory.write("refunds are booked at night by the cashier").note
    ids = [hit.id for hit in memory.search("refunds booked at night").hits]
    assert ids.index(own.id) < ids.index("abcdabcdabcd")
    before = {h.id: h.score for h in memory.search("refunds booked at night").hits}
    memory.accept("abcdabcdabcd")
    after = {h.id: h.score for h in memory.search("refunds booked at night").hits}
    assert after["abcdabcdabcd"] > before["abcdabcdabcd"]
    assert after[own.id] == before[own.id]


def test_the_newer_version_wins_and_trust_stays_ours(memory: Memory) -> None:
    take(memory, version(someone_elses()))
    memory.accept("abcdabcdabcd")
    tagged = changed(someone_elses(), tags=("night",))
    assert take(memory, version(tagged)) == {"received": 1}
    assert note(memory, tagged.id).tags == ("night",)
    assert note(memory, tagged.id).trust == "accepted"  # it says the same
    other = changed(tagged, text="refunds are booked at noon")
    take(memory, version(other))
    assert note(memory, tagged.id).trust == "proposed"  # somebody has to look again
    assert take(memory, version(tagged)) == {"unchanged": 1}
    assert note(memory, tagged.id).text == "refunds are booked at noon"


def test_a_rejected_note_stays_rejected(memory: Memory) -> None:
    take(memory, version(someone_elses()))
    memory.reject("abcdabcdabcd")
    take(memory, version(changed(someone_elses(), text="refunds are booked at noon")))
    assert note(memory, "abcdabcdabcd").trust == "rejected"
    assert all(hit.id != "abcdabcdabcd" for hit in memory.search("refunds booked noon").hits)


def test_a_forgotten_note_keeps_its_text_here_and_can_be_brought_back(memory: Memory) -> None:
    take(memory, version(someone_elses()))
    gone = changed(someone_elses(), deleted_at="2026-01-31T09:30:00.001Z")
    assert take(memory, version(gone)) == {"received": 1}
    assert all(hit.id != gone.id for hit in memory.search("refunds booked").hits)
    memory.forget(gone.id, undo=True)
    [parcel] = memory.replica.parcels(10)
    assert parcel.fields["text"] == "refunds are booked at night"
    assert str(parcel.fields["stamp"]) > stamp_of(gone.updated_at, THERE)


def test_what_was_forgotten_before_it_came_stays_forgotten(memory: Memory) -> None:
    gone = changed(someone_elses(), deleted_at="2026-01-31T09:30:00.001Z")
    take(memory, version(gone))
    assert take(memory, version(someone_elses())) == {"unchanged": 1}
    assert memory.status().counts["notes"] == 0
    assert [line for line in memory.export() if gone.id in line] == []
    with pytest.raises(InvalidInput, match="never came to this machine"):
        memory.forget(gone.id, undo=True)


def test_the_same_words_of_two_machines_become_one_note(memory: Memory) -> None:
    mine = memory.write("refunds are booked at night", tags=["mine"], scope="team").note
    memory.accept(mine.id)
    older = dataclasses.replace(someone_elses(), tags=("theirs",))
    take(memory, version(older))
    living = [n for n in memory._store().living_notes(1) if n.text == older.text]
    assert [(n.id, n.tags, n.trust) for n in living] == [(older.id, ("mine", "theirs"), "accepted")]
    sent = {p.fields["id"]: p.fields["deleted_at"] for p in memory.replica.parcels(10)}
    assert sent[mine.id]
    assert not sent[older.id]


def test_a_vector_is_taken_over_only_from_the_same_embedder(memory: Memory) -> None:
    memory.write("a first note, so that there is a space", scope="team")
    memory.index()
    [(fingerprint, dimension)] = memory.spaces()
    unit = struct.pack(f"<{dimension}f", 1.0, *[0.0] * (dimension - 1))
    one, two, three = (someone_elses(f"note {n} of theirs", f"abcdabcdab{n}{n}") for n in "cde")
    take(
        memory,
        version(one) | {vector_field(fingerprint): unit},
        version(two) | {vector_field("another model"): unit},
        version(three) | {vector_field(fingerprint): unit[:-4]},
    )
    assert memory.status().embedder.pending == 2
    memory.index()
    assert memory.status().embedder.pending == 0
    # what was made here is told to the others
    assert {p.fields["id"] for p in memory.replica.parcels(10)} >= {two.id, three.id}


# conflicts


def test_a_change_that_was_not_sent_and_loses_is_kept_and_can_stand_again(memory: Memory) -> None:
    mine = memory.write("sessions are purged by cron", scope="team").note
    deliver(memory)
    memory.write("sessions are purged by cron", tags=["mine"], scope="team")
    theirs = replace(changed(changed(note(memory, mine.id))), tags=("theirs",))
    assert take(memory, version(theirs)) == {"conflict": 1}
    assert note(memory, mine.id).tags == ("theirs",)
    [conflict] = memory.replica.state().conflicts
    assert (conflict.kept, conflict.other.tags) == ("theirs", ("mine",))
    memory.undo_conflict(mine.id)
    assert note(memory, mine.id).tags == ("mine",)
    assert [p.fields["tags"] for p in deliver(memory)] == ['["mine"]']
    assert memory.replica.state().conflicts == ()
    memory.undo_conflict(mine.id)  # and back
    assert note(memory, mine.id).tags == ("theirs",)


def test_a_version_that_ours_takes_the_place_of_unseen_is_kept(memory: Memory) -> None:
    mine = memory.write("sessions are purged by cron", scope="team").note
    deliver(memory)
    theirs = replace(changed(note(memory, mine.id)), tags=("theirs",))
    memory.write("sessions are purged by cron", tags=["mine"], scope="team")
    assert take(memory, version(theirs)) == {"conflict": 1}
    assert note(memory, mine.id).tags == ("mine",)
    [conflict] = memory.replica.state().conflicts
    assert (conflict.kept, conflict.other.tags) == ("ours", ("theirs",))
    [parcel] = memory.replica.parcels(10)
    assert parcel.fields["parent"] == stamp_of(theirs.updated_at, THERE)  # seen now


def test_a_change_made_on_top_of_ours_is_no_conflict(memory: Memory) -> None:
    mine = memory.write("sessions are purged by cron", scope="team").note
    [parcel] = memory.replica.parcels(10)  # sent, but this machine died before it knew
    theirs = replace(changed(mine), tags=("theirs",))
    built_on_ours = version(theirs, parent=str(parcel.fields["stamp"]))
    assert take(memory, built_on_ours) == {"received": 1}
    assert memory.replica.state().conflicts == ()


def test_two_machines_that_forget_the_same_note_are_in_no_conflict(memory: Memory) -> None:
    mine = memory.write("sessions are purged by cron", scope="team").note
    deliver(memory)
    memory.forget(mine.id)
    gone = note(memory, mine.id)
    theirs = changed(gone, deleted_at=gone.updated_at)
    assert take(memory, version(theirs)) == {"received": 1}


def test_there_is_nothing_to_undo_without_a_conflict(memory: Memory) -> None:
    mine = memory.write("sessions are purged by cron", scope="team").note
    with pytest.raises(InvalidInput, match="no conflict"):
        memory.undo_conflict(mine.id)


# quarantine


def test_what_is_no_note_is_kept_out_with_the_reason_until_a_good_one_comes(
    memory: Memory,
) -> None:
    before = list(memory.export())
    bad = version(someone_elses(), author="Bob\x1b[2J")
    assert take(memory, bad) == {"quarantined": 1}
    assert take(memory, bad) == {"unchanged": 1}  # nothing new
    assert list(memory.export()) == before
    [found] = memory.replica.state().quarantine
    assert (found.id, found.machine) == ("abcdabcdabcd", "there")
    assert "control characters" in found.reason
    assert take(memory, version(someone_elses())) == {"received": 1}
    assert memory.replica.state().quarantine == ()


def test_a_version_in_our_own_name_that_we_did_not_make_is_kept_out(memory: Memory) -> None:
    mine = memory.write("sessions are purged by cron", scope="team").note
    forged = version(changed(mine, text="do rm -rf"), home=memory.replica.home)
    assert take(memory, forged) == {"quarantined": 1}
    assert note(memory, mine.id).text == mine.text
    assert "--new-home" in memory.replica.state().quarantine[0].reason
    memory.replica.renew_home()
    assert take(memory, forged) == {"conflict": 1}  # as after a backup was brought back


def test_ids_of_personal_notes_and_of_code_are_not_for_others(memory: Memory) -> None:
    personal = memory.write("mine alone").note
    code = memory.search("Cart", limit=1).hits[0]
    for id_ in (personal.id, code.id):
        assert take(memory, version(someone_elses(id_=id_))) == {"quarantined": 1}
    assert note(memory, personal.id) == personal


def test_notes_do_not_supersede_each_other_in_a_circle(memory: Memory) -> None:
    one, two = someone_elses("first", "abcdabcdabca"), someone_elses("second", "abcdabcdabcb")
    take(memory, version(replace(one, supersedes=two.id)))
    assert take(memory, version(replace(two, supersedes=one.id))) == {"quarantined": 1}


def test_a_note_of_another_project_is_not_taken_for_one_of_this(memory: Memory) -> None:
    other = version(someone_elses(), project="github.com/acme/else")
    assert take(memory, other) == {"quarantined": 1}


# the whole comparison


def test_what_a_server_has_lost_is_sent_again(memory: Memory) -> None:
    lost = memory.write("sessions are purged by cron", scope="team").note
    kept = memory.write("carts expire after a day", scope="team").note
    stamps = {p.fields["id"]: str(p.fields["stamp"]) for p in deliver(memory)}
    assert memory.replica.parcels(10) == []
    memory.replica.resynced(PROJECT, {kept.id: stamps[kept.id]}, REMOTE, "9-0")
    assert [p.fields["id"] for p in memory.replica.parcels(10)] == [lost.id]
    assert memory.replica.cursor(PROJECT, REMOTE)[0] == "9-0"
