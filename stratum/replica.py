"""The local half of a team's memory: what is to be sent, and how what comes in is taken in.

Owns the rules of convergence: the newer stamp wins; what a machine had not sent yet when a newer
version came, or had not seen when it wrote over it, is a conflict, and the version that lost is
kept in the journal; the same words written on two machines become one note. A page of changes and
the cursor behind it are stored in one transaction. Knows no Redis: `team` carries the versions.
"""

from __future__ import annotations

import dataclasses
import re
import socket
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stratum.errors import InvalidInput
from stratum.models import Anchor, Conflict, Note, Outgoing, Quarantined, SyncState, to_plain
from stratum.notes import merged, note_record, one_line, shown, text_hash
from stratum.redact import redact
from stratum.stamps import later
from stratum.store import Space, Store, now
from stratum.sync_store import Version, Waiting
from stratum.wire import Remote, fields_of, from_fields, good_vector, vector_field

MAX_CONFLICTS = 100  # that are told of; the journal has all
_MAX_NAMELESS = 1_000  # notes that are counted
_FULL_ID = re.compile(r"[a-z2-7]{12}")
_LONGEST_CHAIN = 1_000  # of notes of which each supersedes the next
_MAX_QUARANTINE = 1_000  # of one project: a peer gone wild may not fill the disk
_TRIED_AGAIN = 100  # versions in quarantine, at each exchange: a clock may have been set
_MAX_REASON = 300  # characters

Outcome = Literal["received", "unchanged", "conflict", "quarantined"]
# A hash of the server by its fields, or a sentence that says why it could not be read.
Fetched = Mapping[str, bytes] | str


class Refused(Exception):
    """A version may not be taken in; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A note ready to be sent: its project and its hash; `sent` wants `waiting` back."""

    waiting: Waiting
    identity: str
    fields: dict[str, str | bytes]


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of a parcel.

    `stands` says whether the server now has our version; `change` is the id of the change in its
    stream, "" if it had the version before. `overwritten` is the version that ours took the place
    of although this machine had not seen it.
    """

    parcel: Parcel
    stands: bool
    change: str = ""
    overwritten: Mapping[str, bytes] | None = None


class Replica:
    """This database as one of the team's.

    Args:
        store: Returns the open store.
        machine: The name by which this machine signs; "" for the host's.
    """

    def __init__(self, store: Callable[[], Store], machine: str) -> None:
        self._store = store
        self.machine = shown(redact(machine or socket.gethostname()).text)[:200] or "unknown"

    @property
    def home(self) -> str:
        """The id of this database among those of the team."""
        return self._store().home()

    def renew_home(self) -> str:
        """Take another id, as a copy of another machine's database has to; return it."""
        store = self._store()
        with store.transaction():
            return store.renew_home()

    # what is to be sent

    def projects(self) -> dict[str, int]:
        """Return the projects that have a checkout here and a name that other machines know."""
        store = self._store()
        return {
            identity: id_
            for id_, identity, _ in store.projects()
            if store.has_worktree(id_) and shareable(identity)
        }

    def nameless(self) -> int:
        """Return how many notes wait in projects that no other machine can know."""
        store = self._store()
        alone = [id_ for id_, identity, _ in store.projects() if not shareable(identity)]
        return len(store.waiting(_MAX_NAMELESS, 0, alone)) if alone else 0

    def newest_waiting(self) -> int:
        """Return a number that grows whenever something more waits to be sent; cheap."""
        return self._store().newest_waiting()

    def outgoing(self, limit: int) -> list[Outgoing]:
        """Return what would be sent, and as what text, without sending it."""
        return [
            Outgoing(
                id=str(parcel.fields["id"]),
                project=parcel.identity,
                text=one_line(str(parcel.fields.get("text", ""))),
                forgotten=bool(parcel.fields["deleted_at"]),
                known=parcel.waiting.stamp == parcel.waiting.synced,
                fields={
                    name: value if isinstance(value, str) else f"(a vector of {len(value)} bytes)"
                    for name, value in parcel.fields.items()
                },
            )
            for parcel in self.parcels(limit)
        ]

    def parcels(self, limit: int, after: int = 0) -> list[Parcel]:
        """Return at most `limit` notes that wait; `after` is the last one's `waiting.seq`.

        Those of projects without a name that other machines know stay where they are.
        """
        store = self._store()
        names = {id_: (identity, name) for id_, identity, name in store.projects()
                 if shareable(identity)}  # fmt: skip
        spaces, parcels = store.spaces(), []
        for waiting in store.waiting(limit, after, names):
            note = store.note(waiting.uid)
            assert note is not None  # noqa: S101 - notes are never removed
            identity, name = names[waiting.project_id]
            vectors = {
                space.fingerprint: raw
                for space in spaces
                if (raw := store.vector_of(space, waiting.record_id)) is not None
            }
            fields = fields_of(
                identity, name, note, stamp=waiting.stamp, parent=waiting.synced,
                machine=self.machine, vectors=vectors,
                superseded=any(other.scope == "team" for other in store.successors(note.id)),
            )  # fmt: skip
            parcels.append(Parcel(waiting, identity, fields))
        return parcels

    def sent(self, parcels: Sequence[Delivered], remote: str) -> int:
        """Take what was sent out of the outbox; return how many conflicts that told of."""
        store, conflicts = self._store(), 0
        with store.transaction():
            for delivered in parcels:
                parcel, lost_fields = delivered.parcel, delivered.overwritten
                store.mark_sent(parcel.waiting, parcel.waiting.stamp if delivered.stands else "")
                if delivered.change:
                    store.set_pushed(parcel.waiting.project_id, remote, delivered.change)
                if lost_fields is None:
                    continue
                try:
                    lost = from_fields(lost_fields).note
                except ValueError:
                    continue  # nothing that anybody could want back
                mine = store.note(parcel.waiting.uid)
                if mine is not None and _differ(mine, lost):
                    lost = _whole(lost, mine)
                    self._note_conflict(parcel.waiting.project_id, "ours", lost)
                    conflicts += 1
        return conflicts

    # what comes in

    def cursor(self, identity: str, remote: str) -> tuple[str, str]:
        """Return the last change of a project that was read from a server, and the last one that
        this machine made there; "" for none."""
        return self._store().cursor(self._project(identity), remote)

    def in_quarantine(self, identity: str) -> list[str]:
        """Return the notes of a project of which a version was not taken in, at most 100."""
        return [
            uid for uid in self._store().quarantined(self._project(identity))
            if _FULL_ID.fullmatch(uid)
        ][:_TRIED_AGAIN]  # fmt: skip

    def stamps(self, identity: str, uids: Collection[str]) -> dict[str, str]:
        """Return the stamps of those notes of a project that this machine shares, by id."""
        return self._store().team_stamps(self._project(identity), uids)

    def take(
        self, identity: str, page: Mapping[str, Fetched], remote: str, cursor: str | None
    ) -> Counter[Outcome]:
        """Take in versions of notes of a project, and keep the cursor, in one transaction.

        Args:
            identity: The project.
            page: The hash of each note, by its id.
            remote: The server that they come from.
            cursor: How far its changes were read with them; None while all notes are compared.
        """
        store, done, time = self._store(), Counter[Outcome](), now()
        project_id = self._project(identity)
        spaces = {vector_field(space.fingerprint): space for space in store.spaces()}
        with store.transaction():
            for uid, fetched in page.items():
                try:
                    version = self._checked(identity, uid, fetched, time)
                    outcome = self._take(store, project_id, version)
                    if outcome in ("received", "conflict") and not isinstance(fetched, str):
                        self._take_vector(store, version.note, fetched, spaces)
                    store.clear_quarantine(project_id, uid)
                except Refused as refused:
                    outcome = self._quarantine(store, project_id, uid, fetched, str(refused), time)
                done[outcome] += 1
            if cursor is not None:
                store.set_cursor(project_id, remote, cursor, time)
        return done

    def resynced(self, identity: str, there: Mapping[str, str], remote: str, cursor: str) -> None:
        """Finish the comparison of all notes of a project: what the server lacks is sent again.

        Args:
            identity: The project.
            there: The stamps of all notes that the server has, by id.
            remote: The server.
            cursor: From where its changes are read from now on.
        """
        store, project_id = self._store(), self._project(identity)
        with store.transaction():
            for uid, stamp in store.team_stamps(project_id).items():
                if there.get(uid, "") < stamp and (version := store.version(uid)):
                    store.mark_synced(version.record_id, there.get(uid, ""))
                    store.wait([version.record_id])
            store.set_cursor(project_id, remote, cursor, now())

    def _project(self, identity: str) -> int:
        return self._store().add_project(identity, identity.rsplit("/", 1)[-1])

    def _checked(self, identity: str, uid: str, fetched: Fetched, time: str) -> Remote:
        if isinstance(fetched, str):
            raise Refused(fetched)
        try:
            version = from_fields(fetched, time)
        except ValueError as error:
            raise Refused(str(error)) from error
        if version.note.id != uid:
            raise Refused("it is kept under the id of another note")
        if version.identity != identity:
            raise Refused("it says that it is of another project")
        return version

    def _take(self, store: Store, project_id: int, remote: Remote) -> Outcome:
        known = store.version(remote.note.id)
        self._check_known(project_id, remote, known)
        if known is None:
            # a forgotten one that never was here is kept, too: without its text, but it may
            # supersede others, and no old export can bring it back
            self._check_chain(store, remote.note)
            self._put(store, project_id, None, remote)
            return "received" if remote.note.deleted_at is None else "unchanged"
        if remote.stamp == known.stamp:
            store.mark_synced(known.record_id, remote.stamp)
            return "unchanged"
        local = store.note(remote.note.id)
        assert local is not None  # noqa: S101 - notes are never removed
        unsent = known.stamp != known.synced and remote.parent != known.stamp
        if remote.stamp < known.stamp:
            store.wait([known.record_id])
            store.mark_synced(known.record_id, remote.stamp)
            if not unsent or remote.stamp == known.synced or not _differ(remote.note, local):
                return "unchanged"
            self._note_conflict(project_id, "ours", _whole(remote.note, local))
            return "conflict"
        self._check_chain(store, remote.note)
        conflict = unsent and _differ(remote.note, local)
        if conflict:
            self._note_conflict(project_id, "theirs", local)
        self._put(store, project_id, local, remote)
        return "conflict" if conflict else "received"

    def _check_known(self, project_id: int, remote: Remote, known: Version | None) -> None:
        if known is not None and (not known.note or known.project_id != project_id):
            raise Refused("its id is that of something else here")
        if known is not None and known.scope != "team":
            raise Refused("a personal note has its id here")
        if remote.home == self.home and (known is None or known.stamp < remote.stamp):
            raise Refused(
                "it says that this machine wrote it, which it did not; if its database was copied "
                "or brought back from a backup, `stratum sync --new-home`"
            )

    def _check_chain(self, store: Store, note: Note) -> None:
        older = note.supersedes
        for _ in range(_LONGEST_CHAIN):
            if older == note.id:
                break
            found = store.note(older) if older else None
            if found is None:
                return
            older = found.supersedes
        raise Refused("it supersedes itself by way of other notes")

    def _put(self, store: Store, project_id: int, local: Note | None, remote: Remote) -> None:
        if local is None:
            note = remote.note
            store.add_note(project_id, note, note_record(note), text_hash(note.text), remote.stamp)
        else:
            note = _whole(remote.note, local)
            store.replace_note(note, note_record(note), text_hash(note.text), remote.stamp)
        detail = {"updated_at": note.updated_at, "kind": note.kind, "scope": note.scope}
        store.add_journal(project_id, note.author, note.agent, "receive", note.id, detail)
        if note.deleted_at is None:
            self._merge_twin(store, project_id, note)

    def _merge_twin(self, store: Store, project_id: int, note: Note) -> None:
        """Let the older of two team notes of the same words live on with what both of them say."""
        twin = store.team_twin(project_id, text_hash(note.text), note.id)
        if twin is None or note.id in (twin.supersedes, twin.id):
            return
        kept, lost = sorted((note, twin), key=lambda one: (one.created_at, one.id))
        time = now()
        try:
            richer = merged(kept, lost, ())
        except InvalidInput:  # more tags or anchors than one note can have
            richer = kept
        if richer != kept:
            richer = dataclasses.replace(richer, updated_at=later(kept.updated_at, time))
            self._change(store, project_id, "merge", richer)
        at = later(lost.updated_at, time)
        gone = dataclasses.replace(lost, deleted_at=at, updated_at=at)
        self._change(store, project_id, "forget", gone)
        if lost.trust == "accepted" and kept.trust == "proposed":
            store.set_trust(kept.id, "accepted")  # it says what was accepted

    def _change(self, store: Store, project_id: int, verb: str, note: Note) -> None:
        store.replace_note(note, note_record(note), text_hash(note.text))
        detail = {"updated_at": note.updated_at, "kind": note.kind, "scope": note.scope}
        store.add_journal(project_id, note.author, note.agent, verb, note.id, detail)

    def _take_vector(
        self, store: Store, note: Note, fields: Mapping[str, bytes], spaces: Mapping[str, Space]
    ) -> None:
        if note.deleted_at is not None:
            return
        for field, space in spaces.items():
            raw = fields.get(field)
            if raw is not None and good_vector(raw, space.dimension):
                store.give_vector(space, note.id, raw)
                return  # a record has one vector; the other space's is made when it is active

    def _quarantine(
        self, store: Store, project_id: int, uid: str, fetched: Fetched, reason: str, time: str
    ) -> Outcome:
        known = store.quarantined(project_id)
        fields = {} if isinstance(fetched, str) else fetched
        stamp, machine = (
            shown(redact(fields.get(key, b"")[:200].decode("utf-8", "replace")).text)
            for key in ("stamp", "machine")
        )
        uid, reason = uid if _FULL_ID.fullmatch(uid) else _stand_in(uid), reason[:_MAX_REASON]
        if known.get(uid) == (stamp, reason):
            return "unchanged"
        if uid in known or len(known) < _MAX_QUARANTINE:
            found = Quarantined(uid, "", stamp, machine, reason, time)
            store.set_quarantine(project_id, found)
        return "quarantined"

    # conflicts and the state of it all

    def _note_conflict(self, project_id: int, kept: Literal["theirs", "ours"], lost: Note) -> None:
        detail: dict[str, Any] = {"kept": kept, "other": to_plain(lost)}
        self._store().add_journal(project_id, lost.author, lost.agent, "conflict", lost.id, detail)

    def conflicts(self) -> tuple[Conflict, ...]:
        """Return the last conflicts that nobody has undone, the newest first."""
        return tuple(
            Conflict(uid, at, detail["kept"], note_of(detail["other"]))
            for at, uid, detail in self._store().conflicts(MAX_CONFLICTS)
        )

    def state(self) -> SyncState:
        """Return how this machine stands to its team, as far as it knows by itself."""
        store = self._store()
        return SyncState(
            home=self.home,
            machine=self.machine,
            waiting=store.count_waiting(),
            synced_at=store.last_synced(),
            quarantine=tuple(store.quarantine()),
            conflicts=self.conflicts(),
        )


def _stand_in(uid: str) -> str:
    """Return what stands for something that is no id."""
    return f"?{text_hash(uid)[:11]}"


def shareable(identity: str) -> bool:
    """Tell whether other machines know a project by this name; a folder's path means nothing."""
    return not identity.startswith(("path:", "joined:", "left:"))


def note_of(plain: Mapping[str, Any]) -> Note:
    """Return the note that a journal keeps as plain data."""
    anchors = tuple(Anchor(**anchor) for anchor in plain["anchors"])
    return Note(**{**plain, "tags": tuple(plain["tags"]), "anchors": anchors})


def _differ(one: Note, other: Note) -> bool:
    """Tell whether two versions say different things; two that were forgotten do not."""
    if one.deleted_at is not None or other.deleted_at is not None:
        return (one.deleted_at is None) != (other.deleted_at is None)
    return any(
        getattr(one, name) != getattr(other, name)
        for name in ("text", "kind", "tags", "anchors", "supersedes", "commit", "branch")
    )


def _whole(remote: Note, local: Note) -> Note:
    """Return a version from the team as it is to stand here.

    A forgotten one comes without its text, which stays. Whom to trust is decided here: what was
    rejected stays rejected, what was accepted stays so while it says the same of the same place.
    """
    if remote.deleted_at is not None:
        told = ("kind", "author", "agent", "created_at", "updated_at", "deleted_at", "supersedes",
                "commit", "branch")  # fmt: skip
        return dataclasses.replace(local, **{name: getattr(remote, name) for name in told})
    same = (remote.text, remote.anchors) == (local.text, local.anchors)
    trust = local.trust if local.trust == "rejected" or same else "proposed"
    return dataclasses.replace(remote, trust=trust, machine=local.machine)
