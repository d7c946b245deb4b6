"""The SQL on what a team shares: the home's id, the outbox, cursors, quarantine, conflicts.

Knows nothing of Redis and nothing of what is right to send or to take in: `replica` decides. Rows
of the outbox are written with the note itself (`store`). Methods that write belong inside a
transaction.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from stratum.database import Database
from stratum.models import Quarantined

# A note in the outbox is one of the team, whatever the outbox says.
_WAITING = (
    "FROM outbox o JOIN note n ON n.record_id = o.record_id AND n.scope = 'team'"
    " JOIN record r ON r.id = o.record_id"
)


def random_id() -> str:
    """Return a fresh id: 12 lower-case base32 characters, 60 bits."""
    return base64.b32encode(secrets.token_bytes(8)).decode()[:12].lower()


@dataclass(frozen=True, slots=True)
class Version:
    """What is known here of one id: `note` is False for a record of the code or the history.

    `synced` is the stamp of the version that the team had when it was last written or read.
    """

    record_id: int
    project_id: int
    note: bool
    scope: str
    stamp: str
    synced: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A note that waits to be sent; `seq` is the newest of its rows in the outbox."""

    record_id: int
    seq: int
    uid: str
    project_id: int
    stamp: str
    synced: str


class SyncStore(Database):
    """The part of the store that keeps what is to be the same on several machines."""

    def home(self) -> str:
        """Return the id of this database among those of the team, made when first needed."""
        found = self._value("SELECT id FROM home")
        if found is None:
            # two processes may come here at once: the first row is the one that counts
            self._run("INSERT INTO home SELECT ? WHERE NOT EXISTS (SELECT 1 FROM home)",
                      (random_id(),))  # fmt: skip
            found = self._value("SELECT id FROM home")
        return str(found)

    def renew_home(self) -> str:
        """Give this database another id and forget how far it has read; return the id."""
        self._run("DELETE FROM home")
        self._run("DELETE FROM sync_cursor")
        self._run("DELETE FROM quarantine")
        return self.home()

    def version(self, uid: str) -> Version | None:
        """Return what is known here of an id."""
        row = self._row(
            "SELECT r.id, r.project_id, r.stratum = 'notes', coalesce(n.scope, ''),"
            " coalesce(n.stamp, ''), coalesce(n.synced, '') FROM record r"
            " LEFT JOIN note n ON n.record_id = r.id WHERE r.uid = ?",
            (uid,),
        )
        return Version(row[0], row[1], bool(row[2]), *row[3:]) if row else None

    def team_stamps(self, project_id: int, uids: Collection[str] | None = None) -> dict[str, str]:
        """Return the stamps of the notes that a project shares, or of these of them, by id."""
        among = "" if uids is None else "AND r.uid IN (SELECT value FROM json_each(?2))"
        rows = self._rows(
            "SELECT r.uid, n.stamp FROM note n JOIN record r ON r.id = n.record_id"
            f" WHERE r.project_id = ?1 AND n.scope = 'team' {among}",
            (project_id,) if uids is None else (project_id, json.dumps(list(uids))),
        )
        return dict(rows)

    def unaccepted(self, record_ids: Iterable[int]) -> list[int]:
        """Return which of these notes came from another machine and were not accepted here."""
        rows = self._rows(
            "SELECT record_id FROM note WHERE machine != '' AND trust != 'accepted'"
            " AND record_id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(record_ids)),),
        )
        return [row[0] for row in rows]

    def set_trust(self, uid: str, trust: str) -> None:
        """Decide how far a note is trusted on this machine; its version stays the same."""
        self._run(
            "UPDATE note SET trust = ?, clock = (SELECT max(clock) + 1 FROM note)"
            " WHERE record_id = (SELECT id FROM record WHERE uid = ?)",
            (trust, uid),
        )

    # the outbox

    def waiting(self, limit: int, after: int, projects: Collection[int]) -> list[Waiting]:
        """Return at most `limit` notes of these projects that wait, by their newest rows.

        `after` is the `seq` of the last one before them.
        """
        rows = self._rows(
            f"SELECT o.record_id, o.seq, r.uid, r.project_id, n.stamp, n.synced {_WAITING}"
            " WHERE o.seq > ? AND r.project_id IN (SELECT value FROM json_each(?))"
            " AND NOT EXISTS (SELECT 1 FROM outbox p WHERE p.record_id = o.record_id"
            " AND p.seq > o.seq) ORDER BY o.seq LIMIT ?",
            (after, json.dumps(list(projects)), limit),
        )
        return [Waiting(*row) for row in rows]

    def count_waiting(self) -> int:
        """Return how many notes wait to be sent, without those whose vector alone waits."""
        return int(
            self._value(f"SELECT count(DISTINCT o.record_id) {_WAITING} WHERE n.stamp != n.synced")
        )

    def newest_waiting(self) -> int:
        """Return the number of the newest row of the outbox, 0 for none; cheap."""
        return int(self._value("SELECT max(seq) FROM outbox") or 0)

    def wait(self, record_ids: Iterable[int]) -> None:
        """Put team notes into the outbox (again)."""
        self._run(
            "INSERT INTO outbox (record_id, clock) SELECT record_id, clock FROM note"
            " WHERE scope = 'team' AND record_id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(record_ids)),),
        )

    def mark_sent(self, waiting: Waiting, synced: str) -> None:
        """Take a note out of the outbox; what was written to it meanwhile stays in.

        `synced` is the stamp that the team now has, "" where that is not known.
        """
        self._run("DELETE FROM outbox WHERE record_id = ? AND seq <= ?",
                  (waiting.record_id, waiting.seq))  # fmt: skip
        if synced:
            self.mark_synced(waiting.record_id, synced)

    def mark_synced(self, record_id: int, stamp: str) -> None:
        """Keep the stamp of the version that the team has."""
        self._run("UPDATE note SET synced = ? WHERE record_id = ?", (stamp, record_id))

    # cursors

    def cursor(self, project_id: int, remote: str) -> tuple[str, str]:
        """Return the last change of a project that was read, and the last one that was made here.

        Both are "" where there was none.
        """
        row = self._row("SELECT cursor, pushed FROM sync_cursor WHERE project_id = ?"
                        " AND remote = ?", (project_id, remote))  # fmt: skip
        return (row[0], row[1]) if row else ("", "")

    def last_synced(self) -> str:
        """Return when changes of the team were last read, "" for never."""
        return str(self._value("SELECT max(synced_at) FROM sync_cursor") or "")

    def set_cursor(self, project_id: int, remote: str, cursor: str, at: str) -> None:
        """Keep how far a project's changes were read."""
        self._run(
            "INSERT INTO sync_cursor (project_id, remote, cursor, synced_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET cursor = excluded.cursor, synced_at = excluded.synced_at",
            (project_id, remote, cursor, at),
        )

    def set_pushed(self, project_id: int, remote: str, pushed: str) -> None:
        """Keep the last change of a project that this machine has made on a server."""
        self._run("UPDATE sync_cursor SET pushed = ? WHERE project_id = ? AND remote = ?",
                  (pushed, project_id, remote))  # fmt: skip

    # quarantine and conflicts

    def set_quarantine(self, project_id: int, found: Quarantined) -> None:
        """Keep why a version was not taken in."""
        self._run(
            "INSERT OR REPLACE INTO quarantine (project_id, uid, stamp, machine, reason, at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (project_id, found.id, found.stamp, found.machine, found.reason, found.at),
        )

    def clear_quarantine(self, project_id: int, uid: str) -> None:
        """Forget that a version was not taken in: a good one came."""
        self._run("DELETE FROM quarantine WHERE project_id = ? AND uid = ?", (project_id, uid))

    def quarantined(self, project_id: int) -> dict[str, tuple[str, str]]:
        """Return stamp and reason of a project's versions that were not taken in, by note."""
        rows = self._rows(
            "SELECT uid, stamp, reason FROM quarantine WHERE project_id = ?", (project_id,)
        )
        return {uid: (stamp, reason) for uid, stamp, reason in rows}

    def quarantine(self) -> list[Quarantined]:
        """Return what was not taken in, the newest first."""
        rows = self._rows(
            "SELECT q.uid, p.identity, q.stamp, q.machine, q.reason, q.at FROM quarantine q"
            " JOIN project p ON p.id = q.project_id ORDER BY q.at DESC, q.uid"
        )
        return [Quarantined(*row) for row in rows]

    def conflicts(self, limit: int) -> list[tuple[str, str, dict[str, Any]]]:
        """Return (time, note id, detail) of the last conflicts that nobody has undone."""
        rows = self._rows(
            "SELECT at, record_uid, detail FROM journal j WHERE verb = 'conflict' AND NOT EXISTS"
            " (SELECT 1 FROM journal k WHERE k.record_uid = j.record_uid"
            " AND k.verb = 'undo-conflict' AND k.seq > j.seq) ORDER BY seq DESC LIMIT ?",
            (limit,),
        )
        return [(at, uid, json.loads(detail)) for at, uid, detail in rows]
