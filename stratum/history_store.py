"""The SQL on past commits: what each touched, what it takes back, from where it can be reached.

A commit is stored once for each project, however many worktrees and branches it is on; `reachable`
says for each worktree which commits its HEAD is built on. Knows nothing of git: `history` reads the
log and decides how much a commit weighs. Methods that write belong inside a transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stratum.database import Database
from stratum.models import EMBED_COMMIT, EMBED_NEVER, NewRecord

FILES_UNKNOWN = -1  # the commit's parent, or a part of its content, was not at hand
# What a commit that was taken back later still weighs: its words describe code that is gone.
REVERTED = 0.3
IGNORED = 0.2  # and one that the repository itself says blame should look past: at most so much
_MAX_REVERTS = 10  # of reverts of reverts: nobody goes on for longer


@dataclass(frozen=True, slots=True)
class NewCommit:
    """A commit to be stored. `reverts` may be an abbreviated id until `resolve_reverts` has run.

    `files` counts all that it touched, `touched` are the paths worth naming.
    """

    record: NewRecord
    id: str
    created_at: str
    author: str
    weight: float
    reverts: str | None
    files: int
    touched: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """A stored commit as seen from a worktree.

    `reachable` says whether HEAD is built on it, as far as that is known; another worktree may have
    brought it. `author` is a hash of the address. `weight` is from 0 to 1 and counts in that the
    commit was `reverted` by one that can be reached, or that blame is to ignore it here. `files`
    counts all that it touched (None: not known); `touched` are those worth naming, each with the
    symbols that changed in it.
    """

    id: str
    created_at: str
    author: str
    weight: float
    reverts: str | None
    reachable: bool
    reverted: bool
    files: int | None
    touched: tuple[tuple[str, tuple[str, ...]], ...]


class HistoryStore(Database):
    """The part of the store that holds past commits."""

    # what a worktree reaches

    def history_state(self, worktree_id: int) -> tuple[str | None, str]:
        """Return the commit whose ancestors are all stored, and the bounds that held for them.

        The commit is None while a worktree's history is incomplete; the bounds then are a token of
        the run that is making it complete, or was.
        """
        row = self._row(
            "SELECT history_head, history_bounds FROM worktree WHERE id = ?", (worktree_id,)
        )
        return (row[0], row[1].partition(" ")[0]) if row else (None, "")

    def set_history_state(
        self, worktree_id: int, head: str | None, bounds: str, ignored: Iterable[str] = ()
    ) -> None:
        """Say what `history_state` is to return from now on, and what blame is to ignore.

        `bounds` is a word without spaces, `ignored` are ids of commits. They weigh less in this
        worktree only, and no longer than its list names them.
        """
        self._run(
            "UPDATE worktree SET history_head = ?, history_bounds = ? WHERE id = ?",
            (head, " ".join((bounds, *ignored)), worktree_id),
        )

    def _ignored(self, worktree_id: int) -> list[str]:
        """Return the commits that blame is to ignore: the words that follow the bounds."""
        text = self._value("SELECT history_bounds FROM worktree WHERE id = ?", (worktree_id,))
        return (text or "").split(" ")[1:]

    def count_reachable(self, worktree_id: int) -> int:
        """Return how many commits can be searched from a worktree."""
        return int(
            self._value("SELECT count(*) FROM reachable WHERE worktree_id = ?", (worktree_id,))
        )

    def reachable(self, worktree_id: int) -> set[str]:
        """Return the commits that can be searched from a worktree."""
        rows = self._rows(
            "SELECT h.commit_id FROM reachable x JOIN history h ON h.record_id = x.record_id"
            " WHERE x.worktree_id = ?",
            (worktree_id,),
        )
        return {row[0] for row in rows}

    def reachable_among(self, worktree_id: int, commits: Iterable[str]) -> set[str]:
        """Return which of these commits can be searched from a worktree.

        Those are all ancestors of HEAD, and only they, when `history_state` names HEAD and no
        limit of commits is in force.
        """
        rows = self._rows(
            "SELECT h.commit_id FROM json_each(?1) wanted CROSS JOIN worktree w"
            " CROSS JOIN history h ON h.project_id = w.project_id AND h.commit_id = wanted.value"
            " CROSS JOIN reachable x ON x.worktree_id = w.id AND x.record_id = h.record_id"
            " WHERE w.id = ?2",
            (json.dumps(list(commits)), worktree_id),
        )
        return {row[0] for row in rows}

    def reach(self, worktree_id: int, record_ids: Iterable[int]) -> None:
        """Make commits searchable from a worktree."""
        self._run(
            "INSERT OR IGNORE INTO reachable SELECT ?, value FROM json_each(?)",
            (worktree_id, json.dumps(list(record_ids))),
        )

    def leave(self, worktree_id: int, commits: Iterable[str]) -> None:
        """Make commits not searchable from a worktree any more; they stay stored."""
        self._run(
            "DELETE FROM reachable WHERE worktree_id = ?1 AND record_id IN (SELECT h.record_id"
            " FROM json_each(?2) gone CROSS JOIN worktree w CROSS JOIN history h"
            " ON h.project_id = w.project_id AND h.commit_id = gone.value WHERE w.id = ?1)",
            (worktree_id, json.dumps(list(commits))),
        )

    def leave_all(self, worktree_id: int) -> None:
        """Make no commit searchable from a worktree."""
        self._run("DELETE FROM reachable WHERE worktree_id = ?", (worktree_id,))
        self.set_history_state(worktree_id, None, "")

    # the commits

    def commit_records(self, project_id: int, commits: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Return (record id, number of files or `FILES_UNKNOWN`) of those that are stored."""
        rows = self._rows(
            "SELECT commit_id, record_id, files FROM history WHERE project_id = ?"
            " AND commit_id IN (SELECT value FROM json_each(?))",
            (project_id, json.dumps(list(commits))),
        )
        return {row[0]: (row[1], row[2]) for row in rows}

    def put_commit(self, project_id: int, record_id: int, commit: NewCommit) -> None:
        """Store the commit behind a record; one that is stored must be without files so far."""
        if self._value("SELECT 1 FROM history WHERE record_id = ?", (record_id,)):
            self._run(
                "UPDATE record_fts SET body = ? WHERE rowid = ?",
                (commit.record.body_terms, record_id),
            )
        self._run("UPDATE record SET created_at = ? WHERE id = ?", (commit.created_at, record_id))
        self._run(
            "INSERT INTO history (record_id, project_id, commit_id, author, weight, reverts, files)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (record_id) DO UPDATE SET"
            " weight = excluded.weight, files = excluded.files",
            (record_id, project_id, commit.id, commit.author, commit.weight, commit.reverts,
             commit.files),
        )  # fmt: skip
        for path in commit.touched:
            self._run("INSERT INTO touched (record_id, path) VALUES (?, ?)", (record_id, path))

    def resolve_reverts(self, project_id: int) -> None:
        """Complete the abbreviated ids of commits that others take back, where they are stored."""
        self._run(
            "UPDATE history SET reverts = (SELECT max(h.commit_id) FROM history h"
            " WHERE h.project_id = ?1 AND h.commit_id >= history.reverts"
            " AND h.commit_id < history.reverts || 'g')"
            " WHERE project_id = ?1 AND length(reverts) < 40 AND 1 = (SELECT count(*)"
            " FROM history h WHERE h.project_id = ?1 AND h.commit_id >= history.reverts"
            " AND h.commit_id < history.reverts || 'g')",
            (project_id,),
        )

    def choose_for_vectors(self, worktree_id: int, most: int, least_weight: float) -> None:
        """Let the `most` newest commits of a worktree have a vector if they weigh enough.

        Vectors that are there already stay.
        """
        rows = self._rows(
            "SELECT x.record_id FROM reachable x JOIN record r ON r.id = x.record_id"
            " WHERE x.worktree_id = ? ORDER BY r.created_at DESC, r.id LIMIT ?",
            (worktree_id, most),
        )
        newest = json.dumps([row[0] for row in rows])
        self._run(
            "UPDATE record SET embed = ? WHERE embed = ? AND id IN (SELECT h.record_id"
            " FROM json_each(?) newest JOIN history h ON h.record_id = newest.value"
            " WHERE iif(h.commit_id IN (SELECT value FROM json_each(?)), min(h.weight, ?), h.weight"
            ") >= ?)",
            (EMBED_COMMIT, EMBED_NEVER, newest, json.dumps(self._ignored(worktree_id)), IGNORED,
             least_weight),
        )  # fmt: skip
        self._run(
            "UPDATE record SET embed = ? WHERE embed = ? AND space_id IS NULL"
            " AND id IN (SELECT record_id FROM reachable WHERE worktree_id = ?)"
            " AND id NOT IN (SELECT value FROM json_each(?))",
            (EMBED_NEVER, EMBED_COMMIT, worktree_id, newest),
        )

    def commits_without_files(self, project_id: int) -> set[str]:
        """Return the commits of which it is not known what they touched."""
        rows = self._rows(
            "SELECT commit_id FROM history WHERE project_id = ? AND files = ?",
            (project_id, FILES_UNKNOWN),
        )
        return {row[0] for row in rows}

    def unmapped(self, worktree_id: int, newest: int, most_files: int) -> list[tuple[int, str]]:
        """Return (record id, commit) of those whose symbols were not looked for, newest first.

        Only the `newest` commits that can be reached count, and of them those that are no merges
        and touched from one to `most_files` files.
        """
        rows = self._rows(
            "SELECT record_id, commit_id FROM (SELECT h.record_id, h.commit_id, h.mapped, h.files,"
            " r.kind FROM reachable x JOIN history h ON h.record_id = x.record_id"
            " JOIN record r ON r.id = h.record_id WHERE x.worktree_id = ?"
            " ORDER BY r.created_at DESC, r.id LIMIT ?)"
            " WHERE NOT mapped AND kind != 'merge' AND files BETWEEN 1 AND ?",
            (worktree_id, newest, most_files),
        )
        return [(row[0], row[1]) for row in rows]

    def put_symbols(self, record_id: int, symbols: dict[str, Sequence[str]], terms: str) -> None:
        """Store the symbols that a commit changed, by path, and let their terms find it.

        Does nothing when another process has done it meanwhile.
        """
        if self._value("SELECT mapped FROM history WHERE record_id = ?", (record_id,)):
            return
        for path, names in symbols.items():
            self._run(
                "UPDATE touched SET symbols = ? WHERE record_id = ? AND path = ?",
                ("\n".join(names), record_id, path),
            )
        self._run("UPDATE history SET mapped = 1 WHERE record_id = ?", (record_id,))
        if terms:
            self._run(
                "UPDATE record_fts SET body = body || ' ' || ? WHERE rowid = ?", (terms, record_id)
            )

    def commits_touching(self, worktree_id: int, path: str, limit: int = -1) -> list[int]:
        """Return the records of commits that touched a file or a folder, the newest first."""
        folder = path.rstrip("/") + "/"
        rows = self._rows(
            "SELECT DISTINCT r.id FROM touched d CROSS JOIN reachable x"
            " ON x.worktree_id = ? AND x.record_id = d.record_id"
            " JOIN record r ON r.id = d.record_id WHERE d.path = ? OR d.path >= ? AND d.path < ?"
            " ORDER BY r.created_at DESC, r.id LIMIT ?",
            (worktree_id, path, folder, folder + "\U0010ffff", limit),
        )
        return [row[0] for row in rows]

    def commits(self, worktree_id: int, record_ids: Iterable[int]) -> dict[int, Commit]:
        """Return the commits behind records, as seen from a worktree; other records are passed."""
        wanted = json.dumps(list(record_ids))
        with self._lock:
            rows = self._rows(
                "SELECT h.record_id, h.commit_id, r.created_at, h.author, h.weight, h.reverts,"
                " h.files, x.record_id IS NOT NULL"
                " FROM history h JOIN record r ON r.id = h.record_id"
                " LEFT JOIN reachable x ON x.worktree_id = ? AND x.record_id = h.record_id"
                " WHERE h.record_id IN (SELECT value FROM json_each(?))",
                (worktree_id, wanted),
            )
            touched: dict[int, list[tuple[str, tuple[str, ...]]]] = {}
            for record_id, path, symbols in self._rows(
                "SELECT record_id, path, symbols FROM touched"
                " WHERE record_id IN (SELECT value FROM json_each(?)) ORDER BY record_id, path",
                (wanted,),
            ):
                names = tuple(symbols.split("\n")) if symbols else ()
                touched.setdefault(record_id, []).append((path, names))
            reverted = self._reverted(worktree_id, {row[1] for row in rows})
            ignored = set(self._ignored(worktree_id))
        return {
            record_id: Commit(
                id=commit,
                created_at=created_at,
                author=author,
                weight=(min(weight, IGNORED) if commit in ignored else weight)
                * (REVERTED if commit in reverted else 1),
                reverts=reverts,
                reachable=bool(reachable),
                reverted=commit in reverted,
                files=None if files == FILES_UNKNOWN else files,
                touched=tuple(touched.get(record_id, ())),
            )
            for record_id, commit, created_at, author, weight, reverts, files, reachable in rows
        }

    def _reverted(self, worktree_id: int, commits: set[str]) -> set[str]:
        """Return which commits are taken back: by a revert that was not taken back itself."""
        by: dict[str, list[str]] = {}
        asked = commits
        for _ in range(_MAX_REVERTS):
            rows = self._rows(
                "SELECT h.reverts, h.commit_id FROM json_each(?1) wanted CROSS JOIN worktree w"
                " CROSS JOIN history h ON h.project_id = w.project_id AND h.reverts = wanted.value"
                " CROSS JOIN reachable x ON x.worktree_id = w.id AND x.record_id = h.record_id"
                " WHERE w.id = ?2",
                (json.dumps(sorted(asked)), worktree_id),
            )
            for reverts, commit in rows:
                by.setdefault(reverts, []).append(commit)
            asked = {commit for _, commit in rows}
            if not asked:
                break

        def taken_back(commit: str, depth: int) -> bool:
            later = by.get(commit, ()) if depth else ()
            return any(not taken_back(revert, depth - 1) for revert in later)

        return {commit for commit in commits if taken_back(commit, _MAX_REVERTS)}
