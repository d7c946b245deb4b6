"""The SQL of looking through the notes: pages of them, their journal, who was shown them, places.

Knows nothing of freshness. What finds notes by words is in `store`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stratum.database import Database
from stratum.models import NoteRow

# What a page can be limited to. Those that the team forgot before they came here have no text.
_STATES = {
    "all": "n.text != ''",
    "living": "n.deleted_at IS NULL AND n.superseded_by IS NULL AND n.trust != 'rejected'",
    "proposed": "n.deleted_at IS NULL AND n.superseded_by IS NULL AND n.trust = 'proposed'",
    "accepted": "n.deleted_at IS NULL AND n.superseded_by IS NULL AND n.trust = 'accepted'",
    "rejected": "n.trust = 'rejected' AND n.deleted_at IS NULL AND n.superseded_by IS NULL",
    "forgotten": "n.deleted_at IS NOT NULL AND n.text != ''",
    "superseded": "n.superseded_by IS NOT NULL AND n.deleted_at IS NULL AND n.text != ''",
}
_ORDERS = {
    "newest": "r.created_at DESC, r.id DESC",
    "oldest": "r.created_at, r.id",
    "most_used": "coalesce((SELECT sum(count) FROM note_use u WHERE u.record_id = r.id), 0) DESC,"
    " r.created_at DESC, r.id DESC",
}
STATES, ORDERS = tuple(_STATES), tuple(_ORDERS)
_NOTES = (
    "FROM note n JOIN record r ON r.id = n.record_id WHERE r.project_id = ? AND r.stratum = 'notes'"
)


class NotebookStore(Database):
    """The part of the store by which people look through the notes."""

    def note_page(
        self, project_id: int, state: str, order: str, offset: int, limit: int
    ) -> tuple[int, list[NoteRow]]:
        """Return how many notes of a project are in one of `STATES`, and a page of them."""
        where = f"{_NOTES} AND {_STATES[state]}"
        with self._lock:
            total = int(self._value(f"SELECT count(*) {where}", (project_id,)))
            # ids alone are sorted, and only the texts of the page are read
            rows = self._rows(
                "SELECT r.id, r.uid, n.text, r.kind, n.scope, n.trust, n.author, n.agent,"
                " n.machine, r.created_at, n.updated_at, n.deleted_at,"
                " n.superseded_by IS NOT NULL"
                f" FROM (SELECT r.id AS shown {where} ORDER BY {_ORDERS[order]} LIMIT ? OFFSET ?)"
                " CROSS JOIN record r ON r.id = shown JOIN note n ON n.record_id = r.id"
                f" ORDER BY {_ORDERS[order]}",
                (project_id, limit, offset),
            )
            wanted = json.dumps([row[0] for row in rows])
            tags = self._grouped("SELECT record_id, tag FROM note_tag", wanted, "ORDER BY tag")
            uses = self._grouped("SELECT record_id, sum(count) FROM note_use", wanted,
                                 "GROUP BY record_id")  # fmt: skip
            places = {
                row[0]: (row[1], row[2])
                for row in self._rows(
                    "SELECT record_id, path, symbol FROM anchor WHERE ord = 0"
                    " AND record_id IN (SELECT value FROM json_each(?))",
                    (wanted,),
                )
            }
        found = []
        for id_, uid, text, kind, *rest, superseded in rows:
            path, symbol = places.get(id_, (None, None))
            scope, trust, author, agent, machine, created_at, updated_at, deleted_at = rest
            found.append(
                NoteRow(
                    uid, text, kind, tuple(tags.get(id_, ())), path, symbol, scope, trust, author,
                    agent, machine, created_at, updated_at, deleted_at, bool(superseded),
                    sum(uses.get(id_, ())),
                )
            )  # fmt: skip
        return total, found

    def _grouped(self, select: str, wanted: str, end: str) -> dict[int, list[Any]]:
        found: dict[int, list[Any]] = {}
        for record_id, value in self._rows(
            f"{select} WHERE record_id IN (SELECT value FROM json_each(?)) {end}", (wanted,)
        ):
            found.setdefault(record_id, []).append(value)
        return found

    def note_records(self, project_id: int, uids: Sequence[str]) -> list[int]:
        """Return the record ids of the notes of a project among these ids."""
        rows = self._rows(
            "SELECT id FROM record WHERE project_id = ? AND stratum = 'notes'"
            " AND uid IN (SELECT value FROM json_each(?))",
            (project_id, json.dumps(list(uids))),
        )
        return [row[0] for row in rows]

    def journal(self, uid: str, limit: int) -> list[tuple[str, str, str, str, dict[str, Any]]]:
        """Return (at, author, agent, verb, detail) of what was done to a note, newest first."""
        rows = self._rows(
            "SELECT at, author, agent, verb, detail FROM journal WHERE record_uid = ?"
            " ORDER BY seq DESC LIMIT ?",
            (uid, limit),
        )
        return [(*row[:4], json.loads(row[4])) for row in rows]

    def uses(self, uid: str, limit: int) -> list[tuple[str, str, int]]:
        """Return (agent, day, count) of who was shown a note, newest first."""
        return [
            (row[0], row[1], row[2])
            for row in self._rows(
                "SELECT u.agent, u.day, u.count FROM note_use u JOIN record r"
                " ON r.id = u.record_id WHERE r.uid = ? ORDER BY u.day DESC, u.agent LIMIT ?",
                (uid, limit),
            )
        ]

    def add_uses(self, counts: Mapping[tuple[str, str, str], int]) -> None:
        """Add to how often notes were shown, by (id, agent, day); in a transaction of its own."""
        rows = json.dumps([[*key, count] for key, count in counts.items()])
        with self.transaction():
            self._run(
                "INSERT INTO note_use SELECT r.id, j.value ->> 1, j.value ->> 2, j.value ->> 3"
                " FROM json_each(?) j JOIN record r ON r.uid = j.value ->> 0"
                " WHERE r.stratum = 'notes' ON CONFLICT (record_id, agent, day)"
                " DO UPDATE SET count = count + excluded.count",
                (rows,),
            )

    def files_below(self, worktree_id: int, folder: str) -> list[tuple[str, int, int]]:
        """Return (path, bytes, symbols) of the indexed files below a folder ("" for all)."""
        low = f"{folder}/" if folder else ""
        return [
            (row[0], row[1], row[2])
            for row in self._rows(
                "SELECT t.path, t.size, (SELECT count(*) FROM symbol s"
                " WHERE s.blob_id = t.blob_id) FROM tree_entry t"
                " WHERE t.worktree_id = ? AND t.path >= ? AND t.path < ? ORDER BY t.path",
                (worktree_id, low, low + "\U0010ffff"),
            )
        ]

    def notes_below(self, project_id: int, folder: str) -> list[tuple[str, str, int]]:
        """Return (id, path, uses) of the living notes' anchors below a folder ("" for all)."""
        low = f"{folder}/" if folder else ""
        return [
            (row[0], row[1], row[2])
            for row in self._rows(
                "SELECT DISTINCT r.uid, a.path, coalesce((SELECT sum(u.count) FROM note_use u"
                " WHERE u.record_id = r.id), 0) FROM anchor a"
                " JOIN note n ON n.record_id = a.record_id JOIN record r ON r.id = n.record_id"
                f" WHERE r.project_id = ? AND {_STATES['living']} AND a.path >= ? AND a.path < ?",
                (project_id, low, low + "\U0010ffff"),
            )
        ]

    def count_unanchored(self, project_id: int) -> int:
        """Return how many living notes speak of no place."""
        return int(
            self._value(
                f"SELECT count(*) {_NOTES} AND {_STATES['living']} AND NOT EXISTS"
                " (SELECT 1 FROM anchor a WHERE a.record_id = r.id)",
                (project_id,),
            )
        )
