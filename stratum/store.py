"""The only SQL of Stratum: one SQLite file per user holds all projects.

Owns records with their FTS5 rows and vectors, notes, outbox and journal. Knows nothing of HTTP,
MCP, Redis or ranking: callers hand in terms and vectors and get ids with raw scores back.

Every write goes through `Store.transaction`: a note, its FTS row, its tags, its anchors and its
outbox row share one.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import apsw

from stratum.coordination_store import CoordinationStore
from stratum.database import open_database, translated
from stratum.history_store import HistoryStore
from stratum.migrations import IS_DEFINITION, LAST_NAME, MIGRATIONS
from stratum.models import Anchor, Filters, NewRecord, NewSymbol, Note, Outline, Symbol
from stratum.notebook_store import NotebookStore
from stratum.stamps import stamp_of
from stratum.sync_store import SyncStore

if TYPE_CHECKING:
    from stratum.migrations import Migration

# Records that are ranked by themselves: whole files; definitions and notes; tests, which repeat the
# words of the code they test; past commits, of which there are as many as there is code.
Section = Literal["files", "parts", "tests", "commits"]
SECTIONS: tuple[Section, ...] = ("files", "parts", "tests", "commits")
# (record id, section, name, text, body): a record with the terms of its three fields.
FtsRow = tuple[int, Section, str, str, str]
# How much a term counts by where it stands: in the name, in the summary, in the body of a record.
FIELD_WEIGHTS = (4.0, 2.0, 1.0)
# FTS5 ranks every row that has any of the terms: beyond this many the most telling ones decide. Of
# files there are few, so that more can be asked for.
COLD_QUERY_TERMS: dict[Section, int] = {"files": 64, "parts": 32, "tests": 16, "commits": 32}
# Candidate ids handed to sqlite-vec for an exact filtered scan; above it, over-fetch and filter.
EXACT_FILTER_IDS = 20_000
# The section of each label, which a record gets when it is stored.
_SECTIONS: dict[str, Section] = {
    "file": "files",
    "code": "parts",
    "notes": "parts",
    "session": "parts",
    "test": "tests",
    "history": "commits",
}
_MOST_NAMED = 30  # definitions of one name beyond which it tells nothing
_VECTOR_CHUNK = 256  # rows per storage chunk; a partition (project) allocates whole chunks


def now() -> str:
    """Return the present time as the models write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def derived_id(*parts: str) -> str:
    """Return the id of something that is rebuilt from content: equal parts give equal ids."""
    digest = hashlib.blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=8).digest()
    return base64.b32encode(digest).decode()[:12].lower()


@dataclass(frozen=True, slots=True)
class Worktree:
    """One row of `worktree`, with its project.

    `identity` is the name that the project is shown by, `found_as` the one its repository had when
    it was seen last, `seed` what the ids of its code are derived from. `history_head` is the HEAD
    from which all commits are known.
    """

    id: int
    project_id: int
    identity: str
    name: str
    seed: str
    found_as: str
    root: str
    commit: str | None
    branch: str | None
    indexed_at: str | None
    generation: int
    history_head: str | None


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """A file as the index last saw it: its blob id, and the version of the outline that parsed it.

    `complete` says that it could be parsed without an error. `stamp` is size, mtime_ns, ctime_ns,
    inode; zeros when the file was too young to be trusted.
    """

    blob: str
    outline_version: int
    complete: bool
    stamp: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a code record stands in a worktree."""

    path: str
    start_line: int
    end_line: int
    file_record: int


@dataclass(frozen=True, slots=True)
class Record:
    """A record as searches see it; `places` is empty for notes.

    `awaits_vector` says that it is to have a vector and has none yet.
    """

    id: int
    uid: str
    stratum: str
    kind: str
    title: str
    text: str
    awaits_vector: bool
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Space:
    """An embedding space."""

    id: int
    fingerprint: str
    name: str
    dimension: int


def open_store(path: Path, *, migrations: Sequence[Migration] = MIGRATIONS) -> Store:
    """Open the store at `path`, created or migrated when needed; see `open_database`."""
    return Store(open_database(path, migrations), path)


class ProjectChanged(Exception):
    """Another process made the worktree part of another project meanwhile: start again."""


class Store(HistoryStore, SyncStore, CoordinationStore, NotebookStore):
    """The open store. Safe to share between threads; one call at a time runs."""

    # projects and worktrees

    def worktree(self, root: str) -> Worktree | None:
        """Return the worktree at `root`, if it is known."""
        row = self._row(_SELECT_WORKTREE + " WHERE w.root = ?", (root,))
        return Worktree(*row) if row else None

    def worktrees(self) -> list[Worktree]:
        """Return all worktrees of all projects, the last indexed first."""
        rows = self._rows(_SELECT_WORKTREE + " ORDER BY w.indexed_at DESC, w.id")
        return [Worktree(*row) for row in rows]

    def check_project(self, worktree: Worktree) -> None:
        """Raise ProjectChanged unless a worktree still is of the same project; under the lock."""
        found = self.worktree(worktree.root)
        if found is None or found.project_id != worktree.project_id:
            raise ProjectChanged

    def siblings(self, worktree: Worktree) -> list[Worktree]:
        """Return the other worktrees of its project."""
        rows = self._rows(
            _SELECT_WORKTREE + " WHERE w.project_id = ? AND w.id != ?",
            (worktree.project_id, worktree.id),
        )
        return [Worktree(*row) for row in rows]

    def add_worktree(
        self, identity: str, name: str, root: str, *, same_repository: bool = False
    ) -> Worktree:
        """Return the worktree at `root`, created if need be, as part of project `identity`.

        `same_repository` says that the one seen at `root` before has only got another name (a
        remote was added): then both names mean one project from now on, and no note is left behind.
        """
        with self.transaction():
            project = self._project_named(identity)
            known = self._row("SELECT id, project_id FROM worktree WHERE root = ?", (root,))
            if known and same_repository:
                project = self._join(known[1], project, identity, name)
            elif known and project == known[1] and identity.startswith("path:"):
                # another repository in the place by which this one was known at first
                self._run("DELETE FROM project_name WHERE identity = ?", (identity,))
                self._run("UPDATE project SET identity = 'left:' || id WHERE id = ?"
                          " AND identity = ?", (project, identity))  # fmt: skip
                project = None
            if project is None:
                project = self.add_project(identity, name)
            if not known:
                self._run("INSERT INTO worktree (project_id, root, found_as) VALUES (?, ?, ?)",
                          (project, root, identity))  # fmt: skip
            else:
                if known[1] != project:
                    self._move_worktree(known[0], project)
                self._run(
                    "UPDATE worktree SET found_as = ?, commit_id = iif(?, commit_id, NULL)"
                    " WHERE id = ?",
                    (identity, same_repository, known[0]),  # another repository, other commits
                )
        found = self.worktree(root)
        assert found is not None  # noqa: S101 - it was inserted above
        return found

    def _project_named(self, identity: str) -> int | None:
        found: int | None = self._value(
            "SELECT project_id FROM project_name WHERE identity = ?", (identity,)
        )
        return found

    def _join(self, old: int, new: int | None, identity: str, name: str) -> int:
        """Make `identity`, the name of project `new` if there is one, a name of project `old` too.

        A remote's address is the better name to show; the project that has it goes on.
        """
        if new is None or new == old:
            self._run("INSERT OR IGNORE INTO project_name VALUES (?, ?)", (identity, old))
            shown = self._value("SELECT identity FROM project WHERE id = ?", (old,))
            if is_makeshift(shown) or not is_makeshift(identity):
                self._run("UPDATE project SET identity = ?, name = ? WHERE id = ?",
                          (identity, name, old))  # fmt: skip
            return old
        kept = self._value("SELECT identity FROM project WHERE id = ?", (new,))
        source, target = (new, old) if is_makeshift(kept) else (old, new)
        self._move_notes(source, target)
        self._run("UPDATE project SET identity = 'joined:' || id WHERE id = ?", (source,))
        self._run("UPDATE project_name SET project_id = ? WHERE project_id = ?", (target, source))
        for (worktree,) in self._rows("SELECT id FROM worktree WHERE project_id = ?", (source,)):
            self._move_worktree(worktree, target)
        return target

    def _move_worktree(self, worktree_id: int, project_id: int) -> None:
        self._run("DELETE FROM tree_entry WHERE worktree_id = ?", (worktree_id,))
        self.leave_all(worktree_id)
        self._run(
            "UPDATE worktree SET project_id = ?, indexed_at = NULL, generation = generation + 1"
            " WHERE id = ?",
            (project_id, worktree_id),
        )

    def _move_notes(self, old: int, new: int) -> None:
        """Give the notes of one project, with all that is known of them, to another."""
        notes = "SELECT id FROM record WHERE project_id = ? AND stratum = 'notes'"
        for space in self.spaces():  # vectors are kept by project: made anew
            self._run(f"DELETE FROM embedding_{space.id} WHERE record_id IN ({notes})", (old,))
        self._run(f"UPDATE record_fts SET label = ? WHERE rowid IN ({notes})",
                  (_label(new, "notes"), old))  # fmt: skip
        clock = int(self._value("SELECT max(clock) FROM note") or 0)
        self._run(f"UPDATE note SET clock = ? + record_id WHERE record_id IN ({notes})",
                  (clock, old))  # fmt: skip
        self._run("UPDATE journal SET project_id = ? WHERE project_id = ?", (new, old))
        self.move_coordination(old, new)
        self.wait(row[0] for row in self._rows(notes, (old,)))  # the team knows them otherwise
        self._run("UPDATE record SET project_id = ?, space_id = NULL"
                  " WHERE project_id = ? AND stratum = 'notes'", (new, old))  # fmt: skip

    def add_project(self, identity: str, name: str) -> int:
        """Return the id of the project with this name, created if need be; in a transaction."""
        found = self._project_named(identity)
        if found is not None:
            return found
        project = self._insert(
            "INSERT INTO project (identity, name, created_at, seed) VALUES (?, ?, ?, ?)",
            (identity, name, now(), identity),
        )
        self._run("INSERT INTO project_name VALUES (?, ?)", (identity, project))
        return project

    def commits_seen(self, worktree: Worktree) -> list[str]:
        """Return commits that the repository at a worktree's root had, the newest first.

        Its last index and the notes of its project tell; empty when none of them knew a commit.
        """
        rows = self._rows(
            "SELECT n.commit_id FROM note n JOIN record r ON r.id = n.record_id"
            " WHERE r.project_id = ? AND n.commit_id IS NOT NULL ORDER BY n.clock DESC LIMIT 20",
            (worktree.project_id,),
        )
        found = [worktree.commit, *(row[0] for row in rows)]
        return list(dict.fromkeys(commit for commit in found if commit))

    def projects(self) -> list[tuple[int, str, str]]:
        """Return (id, identity, name) of all projects."""
        rows = self._rows("SELECT id, identity, name FROM project ORDER BY id")
        return [(row[0], row[1], row[2]) for row in rows]

    def has_worktree(self, project_id: int) -> bool:
        """Tell whether any worktree on this machine is of a project."""
        return bool(
            self._value(
                "SELECT EXISTS (SELECT 1 FROM worktree WHERE project_id = ?)", (project_id,)
            )
        )

    def mark_indexed(self, worktree_id: int, commit: str | None, branch: str | None) -> None:
        """Note that the whole tree has been seen."""
        self._run(
            "UPDATE worktree SET indexed_at = ?, commit_id = ?, branch = ? WHERE id = ?",
            (now(), commit, branch, worktree_id),
        )

    # the code stratum

    def tree(self, worktree_id: int) -> dict[str, TreeEntry]:
        """Return what the index knows of a worktree, by path."""
        return _entries(self._rows(f"{_SELECT_ENTRY} WHERE t.worktree_id = ?", (worktree_id,)))

    def stamps(self, worktree_id: int) -> dict[str, tuple[int, int, int, int]]:
        """Return the stamps of a worktree's files as in `TreeEntry`, by path."""
        return {path: entry.stamp for path, entry in self.tree(worktree_id).items()}

    def entries_at(self, worktree_id: int, paths: Iterable[str]) -> dict[str, TreeEntry]:
        """Return what the index knows of these paths."""
        rows = self._rows(
            f"{_SELECT_ENTRY} WHERE t.worktree_id = ?"
            " AND t.path IN (SELECT value FROM json_each(?))",
            (worktree_id, json.dumps(list(paths))),
        )
        return _entries(rows)

    def definitions_at(
        self, worktree_id: int, wanted: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], list[Symbol]]:
        """Return what (path, qualified name) define, in order; nothing found gives an empty list.

        As the index last saw the files. Kinds and docs are left out.
        """
        asked = set(wanted)
        found: dict[tuple[str, str], list[Symbol]] = {key: [] for key in asked}
        rows = self._rows(
            "SELECT t.path, r.title, s.start_line, s.end_line, s.signature, s.body_hash"
            " FROM json_each(?2) j CROSS JOIN tree_entry t ON t.path = j.value"
            " AND t.worktree_id = ?1 CROSS JOIN symbol s ON s.blob_id = t.blob_id"
            " CROSS JOIN record r ON r.id = s.record_id ORDER BY t.path, s.ord",
            (worktree_id, json.dumps(sorted({path for path, _ in asked}))),
        )
        for path, name, start, end, signature, body_hash in rows:
            if (path, name) in asked:
                symbol = Symbol(name, "", start, end, signature, "", body_hash)
                found[path, name].append(symbol)
        return found

    def places_of_body(self, worktree_id: int, body_hash: str, limit: int) -> list[tuple[str, str]]:
        """Return (path, qualified name) of the definitions with a body, as the index saw them."""
        rows = self._rows(
            "SELECT t.path, r.title FROM symbol s CROSS JOIN tree_entry t"
            " ON t.blob_id = s.blob_id AND +t.worktree_id = ? JOIN record r ON r.id = s.record_id"
            " WHERE s.body_hash = ? ORDER BY t.path, s.ord LIMIT ?",
            (worktree_id, body_hash, limit),
        )
        return [(row[0], row[1]) for row in rows]

    def paths_of_blob(self, worktree_id: int, blob: str) -> list[str]:
        """Return the paths at which a content stands, as the index saw them."""
        rows = self._rows(
            "SELECT DISTINCT t.path FROM blob b JOIN tree_entry t ON t.blob_id = b.id"
            " WHERE b.hash = ? AND t.worktree_id = ? ORDER BY t.path",
            (blob, worktree_id),
        )
        return [row[0] for row in rows]

    def blob(self, project_id: int, blob_hash: str, language: str, version: int) -> int | None:
        """Return the id of a content that was parsed by this version of the outline."""
        found: int | None = self._value(
            "SELECT id FROM blob WHERE project_id = ? AND hash = ? AND language = ?"
            " AND outline_version = ?",
            (project_id, blob_hash, language, version),
        )
        return found

    def add_blob(
        self,
        project_id: int,
        blob_hash: str,
        language: str,
        version: int,
        *,
        lines: int,
        complete: bool,
        symbols: Iterable[NewSymbol],
    ) -> int:
        """Store a parsed content with its symbols; inside a transaction."""
        self._run(
            "DELETE FROM symbol WHERE blob_id IN"
            " (SELECT id FROM blob WHERE project_id = ? AND hash = ? AND language = ?)",
            (project_id, blob_hash, language),
        )
        self._run(
            "INSERT INTO blob (project_id, hash, language, outline_version, lines, complete)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (project_id, hash, language) DO UPDATE SET"
            " outline_version = excluded.outline_version, lines = excluded.lines,"
            " complete = excluded.complete",
            (project_id, blob_hash, language, version, lines, complete),
        )
        blob_id = self.blob(project_id, blob_hash, language, version)
        assert blob_id is not None  # noqa: S101 - it was stored above
        for ord_, symbol in enumerate(symbols):
            record_id = self.add_record(project_id, symbol.record)
            self._run(
                "INSERT INTO symbol VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (blob_id, ord_, record_id, symbol.start_line, symbol.end_line, symbol.body_hash,
                 symbol.signature, symbol.doc),
            )  # fmt: skip
        return blob_id

    def add_record(self, project_id: int, record: NewRecord) -> int:
        """Store a record with its FTS row unless its uid is there; inside a transaction."""
        found = self._row("SELECT id, project_id FROM record WHERE uid = ?", (record.uid,))
        if found is not None and found[1] != project_id and record.stratum != "notes":
            # a name that two projects have had in turn
            own = dataclasses.replace(record, uid=derived_id(record.uid, str(project_id)))
            return self.add_record(project_id, own)
        if found is not None:
            return int(found[0])
        record_id = self._insert(
            "INSERT INTO record (uid, project_id, stratum, kind, title, text, created_at, embed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (record.uid, project_id, record.stratum, record.kind, record.title, record.text, now(),
             record.embed),
        )  # fmt: skip
        self._run(
            "INSERT INTO record_fts (rowid, label, name, text, body) VALUES (?, ?, ?, ?, ?)",
            (
                record_id,
                _label(project_id, record.label),
                record.name_terms,
                record.text_terms,
                record.body_terms,
            ),
        )
        return record_id

    def put_entry(
        self,
        worktree_id: int,
        path: str,
        blob_id: int,
        record_id: int,
        stamp: tuple[int, int, int, int] | None,
    ) -> None:
        """Say what stands at `path` now, with its stamp as in `TreeEntry`; in a transaction.

        Best after all records of the transaction: it makes FTS5 write out what it has buffered.
        """
        self._run(
            "INSERT OR REPLACE INTO tree_entry (worktree_id, path, blob_id, record_id,"
            " size, mtime_ns, ctime_ns, inode) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (worktree_id, path, blob_id, record_id, *(stamp or (0, 0, 0, 0))),
        )

    def remove_entries(self, worktree_id: int, paths: Iterable[str]) -> None:
        """Forget that these files stand in the tree; inside a transaction."""
        for path in paths:
            self._run(
                "DELETE FROM tree_entry WHERE worktree_id = ? AND path = ?", (worktree_id, path)
            )

    def raise_generation(self, worktree_id: int) -> None:
        """Tell long-lived readers that the tree has changed; inside a transaction."""
        self._run("UPDATE worktree SET generation = generation + 1 WHERE id = ?", (worktree_id,))

    def outline(
        self, project_id: int, blob_hash: str, language: str, version: int
    ) -> Outline | None:
        """Return the outline of a content that was parsed by this version, without its doc."""
        row = self._row(
            "SELECT id, lines, complete FROM blob WHERE project_id = ? AND hash = ?"
            " AND language = ? AND outline_version = ?",
            (project_id, blob_hash, language, version),
        )
        if row is None:
            return None
        symbols = self._rows(
            "SELECT r.title, r.kind, s.start_line, s.end_line, s.signature, s.doc, s.body_hash"
            " FROM symbol s JOIN record r ON r.id = s.record_id WHERE s.blob_id = ? ORDER BY s.ord",
            (row[0],),
        )
        return Outline(language, row[1], "", tuple(Symbol(*s) for s in symbols), bool(row[2]))

    def kinds(self, project_id: int) -> list[str]:
        """Return the kinds of records that a project has."""
        rows = self._rows("SELECT DISTINCT kind FROM record WHERE project_id = ?", (project_id,))
        return [row[0] for row in rows]

    def paths(self, worktree_id: int, prefix: str = "") -> list[str]:
        """Return the indexed paths below a folder, or all."""
        low, high = _prefix_range(prefix)
        rows = self._rows(
            "SELECT path FROM tree_entry WHERE worktree_id = ? AND path >= ? AND path < ?"
            " ORDER BY path",
            (worktree_id, low, high),
        )
        return [row[0] for row in rows]

    def paths_of_symbol(self, worktree_id: int, name: str) -> list[tuple[str, str]]:
        """Return (path, qualified name) wherever a symbol of this name, or ending in it, stands."""
        rows = self._rows(
            "SELECT DISTINCT t.path, r.title FROM record r JOIN symbol s ON s.record_id = r.id"
            " JOIN tree_entry t ON t.blob_id = s.blob_id"
            " WHERE t.worktree_id = ? AND (r.title = ? OR substr(r.title, -?) = ?)"
            " ORDER BY t.path LIMIT 20",
            (worktree_id, name, len(name) + 1, "." + name),
        )
        return [(row[0], row[1]) for row in rows]

    # search

    def lexical(
        self,
        worktree: Worktree,
        terms: Mapping[str, float],
        filters: Filters,
        limit: int,
        section: Section,
    ) -> list[tuple[int, float]]:
        """Return (record id, BM25 score) of what can be seen from a worktree, best first.

        `terms` have weights, of which FTS5 sees whole numbers. Long queries are cut to their most
        telling terms: ranking every row that has any of 100 words takes a quarter of a second at
        50,000 records. Long-lived processes use `resident`.
        """
        telling = self._most_telling(terms, COLD_QUERY_TERMS[section])
        if not telling:
            return []
        asked = " OR ".join(
            '"' + term.replace('"', '""') + '"'
            for term in telling
            for _ in range(max(1, round(terms[term])))
        )
        labels = " OR ".join(
            f'"{_label(worktree.project_id, label)}"'
            for label, of in _SECTIONS.items()
            if of == section
        )
        match = f"label : ({labels}) AND {{name text body}} : ({asked})"
        condition, values = _visible(worktree, filters, history=section == "commits")
        rows = self._rows(
            "SELECT r.id, bm25(record_fts, 0.0, ?, ?, ?) AS score FROM record_fts"
            " JOIN record r ON r.id = record_fts.rowid"
            f" WHERE record_fts MATCH ? AND {condition} ORDER BY score, r.id LIMIT ?",
            (*FIELD_WEIGHTS, match, *values, limit),
        )
        return [(row[0], -row[1]) for row in rows]

    def _most_telling(self, terms: Mapping[str, float], most: int) -> list[str]:
        if len(terms) <= most:
            return list(terms)
        worth = {}
        for term in list(terms)[: most * 8]:
            count = min((self._document_frequency(stem) for stem in self.stems(term)), default=0)
            if count:
                worth[term] = terms[term] / math.log(2 + count)
        return sorted(worth, key=lambda term: -worth[term])[:most]

    def _document_frequency(self, stem: str) -> int:
        return int(self._value("SELECT doc FROM record_terms WHERE term = ?", (stem,)) or 0)

    def stems(self, text: str) -> list[str]:
        """Return `text` as FTS5's own tokenizer sees it."""
        with self._lock, translated(self.path):
            tokenizer = self._db.fts5_tokenizer(
                "porter", ["unicode61", "remove_diacritics", "2", "tokenchars", "_."]
            )
            found = tokenizer(
                text.encode("utf-8", "replace"),
                apsw.FTS5_TOKENIZE_DOCUMENT,
                None,
                include_offsets=False,
                include_colocated=False,
            )
        return [token for token in found if isinstance(token, str)]

    def nearest(
        self,
        space: Space,
        worktree: Worktree,
        vector: bytes,
        filters: Filters,
        limit: int,
        *,
        history: bool = False,
    ) -> list[tuple[int, float]]:
        """Return (record id, cosine similarity) of what can be seen from a worktree, best first.

        Contents that no longer stand in the tree keep their vectors, hence the over-fetch. Past
        commits are looked for by themselves, with `history`.
        """
        sql = (
            f"SELECT record_id, distance FROM embedding_{space.id}"
            " WHERE vector MATCH ? AND k = ? AND project_id = ?"
        )
        values: list[Any] = [vector, min(4 * limit + 50, 4096), worktree.project_id]
        if filters or history:
            allowed = self.visible(worktree, filters, limit=EXACT_FILTER_IDS, history=history)
            if len(allowed) < EXACT_FILTER_IDS:
                sql += " AND record_id IN (SELECT value FROM json_each(?))"
                values.append(json.dumps(allowed))
        found = [(row[0], 1.0 - row[1]) for row in self._rows(sql, values)]
        near = [id_ for id_, _ in found]
        seen = set(self.visible(worktree, filters, among=near, history=history))
        return [(id_, score) for id_, score in found if id_ in seen][:limit]

    def visible(
        self,
        worktree: Worktree,
        filters: Filters,
        *,
        among: Sequence[int] | None = None,
        limit: int = -1,
        history: bool = False,
    ) -> list[int]:
        """Return the ids of records that can be seen from a worktree and pass the filters."""
        condition, values = _visible(worktree, filters, history=history)
        if among is not None:
            condition = f"r.id IN (SELECT value FROM json_each(?)) AND {condition}"
            values = [json.dumps(list(among)), *values]
        rows = self._rows(
            f"SELECT r.id FROM record r WHERE r.project_id = ? AND {condition} LIMIT ?",
            (worktree.project_id, *values, limit),
        )
        return [row[0] for row in rows]

    def records(self, worktree: Worktree, ids: Sequence[int]) -> dict[int, Record]:
        """Return records by id with the places where they stand in a worktree."""
        wanted = json.dumps(list(ids))
        places: dict[int, list[Place]] = {}
        for record_id, *rest in self._rows(
            "SELECT s.record_id, t.path, s.start_line, s.end_line, t.record_id FROM symbol s"
            " CROSS JOIN tree_entry t ON t.blob_id = s.blob_id AND +t.worktree_id = ?"
            " WHERE s.record_id IN (SELECT value FROM json_each(?))"
            " UNION ALL SELECT t.record_id, t.path, 1, b.lines, t.record_id FROM tree_entry t"
            " JOIN blob b ON b.id = t.blob_id"
            " WHERE +t.worktree_id = ? AND t.record_id IN (SELECT value FROM json_each(?))"
            " ORDER BY 2, 3",
            (worktree.id, wanted, worktree.id, wanted),
        ):
            places.setdefault(record_id, []).append(Place(*rest))
        rows = self._rows(
            "SELECT id, uid, stratum, kind, title, text, embed > 0 AND space_id IS NULL FROM record"
            " WHERE id IN (SELECT value FROM json_each(?))",
            (wanted,),
        )
        return {
            id_: Record(
                id_, uid, stratum, kind, title, text, bool(waits), tuple(places.get(id_, ()))
            )
            for id_, uid, stratum, kind, title, text, waits in rows
        }

    def paths_of_records(self, worktree: Worktree, ids: Iterable[int]) -> dict[int, list[str]]:
        """Return where code records stand in a worktree; others are left out."""
        found: dict[int, list[str]] = {}
        for record_id, path in self._rows(
            "SELECT s.record_id, t.path FROM json_each(?1) j CROSS JOIN symbol s"
            " ON s.record_id = j.value CROSS JOIN tree_entry t ON t.blob_id = s.blob_id"
            " AND +t.worktree_id = ?2 UNION SELECT t.record_id, t.path FROM json_each(?1) j"
            " CROSS JOIN tree_entry t ON t.record_id = j.value AND +t.worktree_id = ?2 ORDER BY 2",
            (json.dumps(sorted(ids)), worktree.id),
        ):
            found.setdefault(record_id, []).append(path)
        return found

    def file_records(self, worktree: Worktree, paths: Iterable[str]) -> dict[str, int]:
        """Return the records of the files that stand at these paths."""
        rows = self._rows(
            "SELECT path, record_id FROM tree_entry WHERE worktree_id = ?"
            " AND path IN (SELECT value FROM json_each(?))",
            (worktree.id, json.dumps(sorted(paths))),
        )
        return {row[0]: row[1] for row in rows}

    def functions_among(self, ids: Iterable[int]) -> list[int]:
        """Return which records are of functions or methods."""
        rows = self._rows(
            "SELECT id FROM record WHERE id IN (SELECT value FROM json_each(?))"
            " AND kind IN ('function', 'method')",
            (json.dumps(sorted(ids)),),
        )
        return [row[0] for row in rows]

    def record_id(self, uid: str) -> tuple[int, int] | None:
        """Return (record id, project id) of a public id."""
        row = self._row("SELECT id, project_id FROM record WHERE uid = ?", (uid,))
        return (row[0], row[1]) if row else None

    def ids_starting(self, prefix: str, limit: int = 5) -> list[str]:
        """Return public ids that begin with `prefix`."""
        low, high = _prefix_range(prefix)
        rows = self._rows(
            "SELECT uid FROM record WHERE uid >= ? AND uid < ? ORDER BY uid LIMIT ?",
            (low, high, limit),
        )
        return [row[0] for row in rows]

    def definitions_named(
        self, worktree: Worktree, names: Iterable[str]
    ) -> dict[str, list[tuple[int, str]]]:
        """Return (record id, path) of the definitions called "get" or "QuerySet.get", by name.

        A name that too many have tells nothing about the place and is left out.
        """
        found: dict[str, list[tuple[int, str]]] = {}
        wanted = [(name, name.rpartition(".")[2], "." + name) for name in sorted(set(names))]
        rows = self._rows(
            "SELECT j.value ->> 0, r.id, t.path FROM json_each(?1) j CROSS JOIN record r"
            f" ON r.project_id = ?2 AND {LAST_NAME} = j.value ->> 1 AND {IS_DEFINITION}"
            " CROSS JOIN symbol s ON s.record_id = r.id CROSS JOIN tree_entry t"
            " ON t.blob_id = s.blob_id AND +t.worktree_id = ?3"
            " WHERE j.value ->> 1 = j.value ->> 0 OR r.title = j.value ->> 0"
            " OR substr(r.title, -length(j.value ->> 2)) = j.value ->> 2 ORDER BY t.path, s.ord",
            (json.dumps(wanted), worktree.project_id, worktree.id),
        )
        for name, record_id, path in rows:
            found.setdefault(name, []).append((record_id, path))
        return {name: places for name, places in found.items() if len(places) <= _MOST_NAMED}

    def definitions_mentioning(
        self, worktree: Worktree, name: str, most: int
    ) -> list[tuple[str, str, int, int]]:
        """Return (path, qualified name, first line, last line) of code in whose body a name occurs.

        Tests are left out. Empty where more than `most` records of any kind have the name: it then
        means many things.
        """
        stems = self.stems(name.lower())
        if not stems or self._document_frequency(stems[0]) > most:
            return []
        word = name.lower().replace('"', '""')
        rows = self._rows(
            "SELECT t.path, r.title, s.start_line, s.end_line FROM record_fts"
            " JOIN record r ON r.id = record_fts.rowid CROSS JOIN symbol s ON s.record_id = r.id"
            " CROSS JOIN tree_entry t ON t.blob_id = s.blob_id AND +t.worktree_id = ?"
            " WHERE record_fts MATCH ? ORDER BY t.path, s.ord",
            (worktree.id, f'label : "{_label(worktree.project_id, "code")}" AND body : "{word}"'),
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    # what a resident index is built from

    def change_counter(self) -> tuple[int, int]:
        """Return what differs whenever anybody, this connection too, has written since."""
        with self._lock:
            return int(self._value("PRAGMA data_version")), self._db.total_changes()

    def note_clock(self, project_id: int) -> int:
        """Return the clock of the note that was changed last."""
        return int(
            self._value(
                "SELECT max(n.clock) FROM note n JOIN record r ON r.id = n.record_id"
                " WHERE r.project_id = ?",
                (project_id,),
            )
            or 0
        )

    def visible_ids(self, worktree: Worktree, *, history: bool = False) -> list[int]:
        """Return the ids of all records, or of all commits, that can be seen from a worktree."""
        if history:
            sql = "SELECT record_id FROM reachable WHERE worktree_id = ?"
            return [row[0] for row in self._rows(sql, (worktree.id,))]
        rows = self._rows(
            "SELECT record_id FROM tree_entry WHERE worktree_id = ?1"
            " UNION ALL SELECT s.record_id FROM tree_entry t"
            " JOIN symbol s ON s.blob_id = t.blob_id WHERE t.worktree_id = ?1"
            " UNION ALL SELECT n.record_id FROM note n JOIN record r ON r.id = n.record_id"
            f" WHERE r.project_id = ?2 AND {_LIVING_NOTE}",
            (worktree.id, worktree.project_id),
        )
        return [row[0] for row in rows]

    def fts_rows(self, project_id: int, after: int) -> list[FtsRow]:
        """Return the terms of a project's records with a larger id."""
        rows = self._rows(
            "SELECT r.id, f.label, f.name, f.text, f.body FROM record r"
            " JOIN record_fts f ON f.rowid = r.id WHERE r.project_id = ? AND r.id > ?"
            " ORDER BY r.id",
            (project_id, after),
        )
        return _fts_rows(rows)

    def fts_rows_of_notes(self, project_id: int, after: int) -> list[FtsRow]:
        """Return the terms of notes whose clock is later."""
        rows = self._rows(
            "SELECT r.id, f.label, f.name, f.text, f.body FROM note n"
            " JOIN record r ON r.id = n.record_id JOIN record_fts f ON f.rowid = r.id"
            " WHERE r.project_id = ? AND n.clock > ? ORDER BY r.id",
            (project_id, after),
        )
        return _fts_rows(rows)

    def vector_rows(self, space: Space, ids: Sequence[int]) -> list[tuple[int, bytes]]:
        """Return (record id, float32 bytes) of the vectors that exist among `ids`."""
        return self._rows(
            f"SELECT record_id, vector FROM embedding_{space.id}"
            " WHERE record_id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(ids)),),
        )

    def vector_of(self, space: Space, record_id: int) -> bytes | None:
        """Return the vector of one record (float32 bytes): a look-up, where many are a scan."""
        found: bytes | None = self._value(
            f"SELECT vector FROM embedding_{space.id} WHERE record_id = ?", (record_id,)
        )
        return found

    def vector_chunks(self, space: Space, project_id: int) -> list[tuple[int, bytes, bytes, bytes]]:
        """Return (size, validity bits, row ids, vectors) of each storage chunk of a project.

        Reads sqlite-vec's own tables, which is 13 times faster than selecting the rows; the caller
        compares the count with `count_vectors` and falls back to `vector_rows`.
        """
        table = f"embedding_{space.id}"
        return self._rows(
            f"SELECT c.size, c.validity, c.rowids, v.vectors FROM {table}_chunks c"
            f" JOIN {table}_vector_chunks00 v ON v.rowid = c.chunk_id WHERE c.partition00 = ?",
            (project_id,),
        )

    def embedded_ids(self, space: Space, project_id: int) -> list[int]:
        """Return the ids of a project's records whose vectors are in `space`."""
        rows = self._rows(
            "SELECT id FROM record WHERE project_id = ? AND space_id = ? AND embed > 0",
            (project_id, space.id),
        )
        return [row[0] for row in rows]

    # vectors

    def space(self, fingerprint: str) -> Space | None:
        """Return the embedding space of this fingerprint, if it exists."""
        row = self._row(
            "SELECT id, fingerprint, name, dimension FROM space WHERE fingerprint = ?",
            (fingerprint,),
        )
        return Space(*row) if row else None

    def spaces(self) -> list[Space]:
        """Return all embedding spaces, oldest first."""
        rows = self._rows("SELECT id, fingerprint, name, dimension FROM space ORDER BY id")
        return [Space(*row) for row in rows]

    def add_space(self, fingerprint: str, name: str, dimension: int) -> Space:
        """Return the space of this fingerprint, created with its vector table if need be."""
        with self.transaction():
            if self.space(fingerprint) is None:
                space_id = self._insert(
                    "INSERT INTO space (fingerprint, name, dimension, created_at)"
                    " VALUES (?, ?, ?, ?)",
                    (fingerprint, name, dimension, now()),
                )
                self._run(
                    f"CREATE VIRTUAL TABLE embedding_{space_id} USING vec0 ("
                    " record_id INTEGER PRIMARY KEY, project_id INTEGER PARTITION KEY,"
                    f" vector float[{dimension}] distance_metric=cosine,"
                    f" chunk_size={_VECTOR_CHUNK})"
                )
        found = self.space(fingerprint)
        assert found is not None  # noqa: S101 - it was created above
        return found

    def drop_space(self, space: Space) -> None:
        """Remove a space with its vectors; inside a transaction."""
        self._run("UPDATE record SET space_id = NULL WHERE space_id = ?", (space.id,))
        self._run(f"DROP TABLE embedding_{space.id}")
        self._run("DELETE FROM space WHERE id = ?", (space.id,))

    def pending(
        self, space_id: int, project_id: int | None, limit: int
    ) -> list[tuple[int, str, str]]:
        """Return (id, title, text) of visible records without a vector in `space_id`.

        Notes come first, then files, then symbols. Contents that no longer stand in any worktree
        are passed over: they get their vectors when they come back.
        """
        condition, values = _awaiting(space_id, project_id)
        return self._rows(
            f"SELECT r.id, r.title, r.text FROM record r WHERE {condition}"
            " ORDER BY r.embed, r.id LIMIT ?",
            (*values, limit),
        )

    def count_pending(self, space_id: int, project_id: int | None) -> int:
        """Return how many visible records wait for a vector in `space_id`."""
        condition, values = _awaiting(space_id, project_id)
        return int(self._value(f"SELECT count(*) FROM record r WHERE {condition}", values))

    def count_vectors(self, space_id: int, project_id: int | None) -> int:
        """Return how many vectors a space holds."""
        return int(
            self._value(
                "SELECT count(*) FROM record WHERE embed > 0 AND space_id = ?1"
                " AND (?2 IS NULL OR project_id = ?2)",
                (space_id, project_id),
            )
        )

    def put_vectors(self, space: Space, vectors: Iterable[tuple[int, str, str, bytes]]) -> int:
        """Store (record id, title, text, float32 bytes); return how many were new.

        In a transaction of its own. A record that was embedded, or got other words, while the model
        ran is skipped: title and text are those that the vector was made of. A note of the team
        waits to be sent once more, with its vector.
        """
        stored = []
        with self.transaction():
            for record_id, title, text, vector in vectors:
                project_id = self._value(
                    "SELECT project_id FROM record WHERE id = ? AND space_id IS NOT ?"
                    " AND title = ? AND text = ?",
                    (record_id, space.id, title, text),
                )
                if project_id is None:
                    continue
                self._put_vector(space, record_id, project_id, vector)
                stored.append(record_id)
            self.wait(stored)
        return len(stored)

    def _put_vector(self, space: Space, record_id: int, project_id: int, vector: bytes) -> None:
        self._run(
            f"INSERT INTO embedding_{space.id} (record_id, project_id, vector) VALUES (?, ?, ?)",
            (record_id, project_id, vector),
        )
        self._run("UPDATE record SET space_id = ? WHERE id = ?", (space.id, record_id))

    def give_vector(self, space: Space, uid: str, vector: bytes) -> None:
        """Store the vector (float32 bytes) that a version of a note came with, if it has none."""
        record_id, project_id, has = self._row(
            "SELECT id, project_id, space_id IS NOT NULL FROM record WHERE uid = ?", (uid,)
        ) or (0, 0, True)
        if has:
            return
        self._put_vector(space, record_id, project_id, vector)

    # notes

    def add_note(
        self, project_id: int, note: Note, record: NewRecord, text_hash: str, stamp: str = ""
    ) -> None:
        """Store a note with its record, FTS row, tags, anchors and outbox row; in a transaction.

        With `stamp`, the version came from the team: it is not sent back.
        """
        self._put_note(self.add_record(project_id, record), note, text_hash, stamp)

    def replace_note(self, note: Note, record: NewRecord, text_hash: str, stamp: str = "") -> None:
        """Store a note's new state under its id, as `add_note`.

        Its vector is made anew if it says something else than before.
        """
        record_id, title, text = self._row(
            "SELECT id, title, text FROM record WHERE uid = ?", (note.id,)
        ) or (0, "", "")
        if (title, text) != (record.title, record.text):
            self._run("UPDATE record SET space_id = NULL WHERE id = ?", (record_id,))
            for space in self.spaces():
                self._run(f"DELETE FROM embedding_{space.id} WHERE record_id = ?", (record_id,))
        self._run(
            "UPDATE record SET kind = ?, title = ?, text = ? WHERE id = ?",
            (record.kind, record.title, record.text, record_id),
        )
        self._run(
            "UPDATE record_fts SET name = ?, text = ?, body = ? WHERE rowid = ?",
            (record.name_terms, record.text_terms, record.body_terms, record_id),
        )
        for table in ("note_tag", "anchor"):
            self._run(f"DELETE FROM {table} WHERE record_id = ?", (record_id,))
        self._put_note(record_id, note, text_hash, stamp)

    def _put_note(self, record_id: int, note: Note, text_hash: str, stamp: str) -> None:
        clock = max(
            int(self._value("SELECT max(clock) FROM note") or 0) + 1, time.time_ns() // 1_000_000
        )
        self._run("UPDATE record SET created_at = ? WHERE id = ?", (note.created_at, record_id))
        synced = stamp or self._value("SELECT synced FROM note WHERE record_id = ?", (record_id,))
        self._run(
            "INSERT OR REPLACE INTO note (record_id, text, text_hash, scope, trust, author, agent,"
            " commit_id, branch, updated_at, clock, supersedes, deleted_at, machine, stamp, synced)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (record_id, note.text, text_hash, note.scope, note.trust, note.author, note.agent,
             note.commit, note.branch, note.updated_at, clock, note.supersedes, note.deleted_at,
             note.machine, stamp or stamp_of(note.updated_at, self.home()), synced or ""),
        )  # fmt: skip
        for tag in note.tags:
            self._run("INSERT OR IGNORE INTO note_tag VALUES (?, ?)", (record_id, tag))
        for ord_, a in enumerate(note.anchors):
            self._run(
                f"INSERT INTO anchor (record_id, ord, {_ANCHOR})"
                f" VALUES (?, ?{', ?' * len(_ANCHOR_FIELDS)})",
                (record_id, ord_, *(getattr(a, name) for name in _ANCHOR_FIELDS)),
            )
        # anew for the note itself, for what it supersedes and for what it superseded before
        self._run(
            "UPDATE note SET superseded_by = (SELECT r.uid FROM note n JOIN record r"
            " ON r.id = n.record_id WHERE n.supersedes ="
            " (SELECT uid FROM record WHERE id = note.record_id))"
            " WHERE record_id = ? OR superseded_by = ?"
            " OR record_id = (SELECT id FROM record WHERE uid = ?)",
            (record_id, note.id, note.supersedes),
        )
        if stamp:
            self._run("DELETE FROM outbox WHERE record_id = ?", (record_id,))
        elif note.scope == "team":  # `personal` stops here, where no caller can forget it
            self._run("INSERT INTO outbox (record_id, clock) VALUES (?, ?)", (record_id, clock))

    def note(self, uid: str) -> Note | None:
        """Return a note by its public id, a forgotten one too."""
        found = self._notes("WHERE r.uid = ?", (uid,))
        return found[0] if found else None

    def successors(self, uid: str) -> list[Note]:
        """Return the notes that supersede a note."""
        return self._notes("WHERE n.supersedes = ?", (uid,))

    def notes(self, project_id: int | None) -> list[Note]:
        """Return all notes of a project (None: of all projects), forgotten ones too, in order."""
        return self._notes(
            "WHERE ?1 IS NULL OR r.project_id = ?1 ORDER BY r.created_at, r.uid", (project_id,)
        )

    def hidden_notes(self, uids: Sequence[str]) -> set[str]:
        """Return which of these notes are forgotten, superseded or rejected here."""
        rows = self._rows(
            "SELECT r.uid FROM note n JOIN record r ON r.id = n.record_id"
            f" WHERE r.uid IN (SELECT value FROM json_each(?)) AND NOT ({_LIVING_NOTE})",
            (json.dumps(list(uids)),),
        )
        return {row[0] for row in rows}

    def living_notes(self, project_id: int) -> list[Note]:
        """Return the notes of a project that are neither forgotten, superseded nor rejected."""
        return self._notes(
            f"WHERE r.project_id = ? AND {_LIVING_NOTE} ORDER BY r.created_at, r.uid", (project_id,)
        )

    def notes_by_record(self, ids: Sequence[int]) -> dict[int, Note]:
        """Return the notes among these record ids."""
        wanted = json.dumps(list(ids))
        rows = self._rows(
            "SELECT id, uid FROM record WHERE stratum = 'notes'"
            " AND id IN (SELECT value FROM json_each(?))",
            (wanted,),
        )
        notes = {
            note.id: note
            for note in self._notes("WHERE r.id IN (SELECT value FROM json_each(?))", (wanted,))
        }
        return {row[0]: notes[row[1]] for row in rows if row[1] in notes}

    def notes_at(self, project_id: int, path: str) -> list[Note]:
        """Return the living notes with an anchor at a file or below a folder."""
        low, high = _prefix_range(path and path.rstrip("/") + "/")
        return self._notes(
            f"WHERE r.project_id = ? AND {_LIVING_NOTE} AND EXISTS (SELECT 1 FROM anchor a"
            " WHERE a.record_id = r.id AND (a.path = ? OR a.path >= ? AND a.path < ?))"
            " ORDER BY r.created_at DESC, r.uid",
            (project_id, path, low, high),
        )

    def notes_on_bodies(self, project_id: int, hashes: Sequence[str]) -> list[Note]:
        """Return the living notes with an anchor on a definition that had one of these bodies."""
        return self._notes(
            f"WHERE r.project_id = ? AND {_LIVING_NOTE} AND EXISTS (SELECT 1 FROM anchor a"
            " WHERE a.record_id = r.id AND a.symbol IS NOT NULL"
            " AND a.body_hash IN (SELECT value FROM json_each(?)))"
            " ORDER BY r.created_at DESC, r.uid",
            (project_id, json.dumps(list(hashes))),
        )

    def commits_starting(self, project_id: int, prefix: str) -> list[str]:
        """Return the public ids of at most two commits whose own ids begin so."""
        low, high = _prefix_range(prefix)
        rows = self._rows(
            "SELECT r.uid FROM history h JOIN record r ON r.id = h.record_id"
            " WHERE h.project_id = ? AND h.commit_id >= ? AND h.commit_id < ? LIMIT 2",
            (project_id, low, high),
        )
        return [row[0] for row in rows]

    def note_with_hash(self, project_id: int, text_hash: str) -> Note | None:
        """Return the living note whose text has this hash."""
        found = self._notes(
            f"WHERE r.project_id = ? AND n.text_hash = ? AND {_LIVING_NOTE} ORDER BY r.id LIMIT 1",
            (project_id, text_hash),
        )
        return found[0] if found else None

    def team_twin(self, project_id: int, text_hash: str, uid: str) -> Note | None:
        """Return another living note of the team that has the same text."""
        found = self._notes(
            f"WHERE r.project_id = ? AND n.text_hash = ? AND {_LIVING_NOTE} AND n.scope = 'team'"
            " AND r.uid != ? ORDER BY r.created_at, r.uid LIMIT 1",
            (project_id, text_hash, uid),
        )
        return found[0] if found else None

    def _notes(self, where: str, parameters: Sequence[Any]) -> list[Note]:
        with self._lock:
            rows = self._rows(
                "SELECT r.id, r.uid, n.text, r.kind, n.scope, n.trust, n.author, n.agent,"
                " n.commit_id, n.branch, r.created_at, n.updated_at, n.supersedes, n.deleted_at,"
                " n.machine"
                f" FROM note n JOIN record r ON r.id = n.record_id {where}",
                parameters,
            )
            wanted = json.dumps([row[0] for row in rows])
            tags: dict[int, list[str]] = {}
            for record_id, tag in self._rows(
                "SELECT record_id, tag FROM note_tag"
                " WHERE record_id IN (SELECT value FROM json_each(?)) ORDER BY tag",
                (wanted,),
            ):
                tags.setdefault(record_id, []).append(tag)
            anchors: dict[int, list[Anchor]] = {}
            for record_id, *rest in self._rows(
                f"SELECT record_id, {_ANCHOR} FROM anchor"
                " WHERE record_id IN (SELECT value FROM json_each(?)) ORDER BY record_id, ord",
                (wanted,),
            ):
                anchors.setdefault(record_id, []).append(Anchor(*rest))
        return [
            Note(
                id=row[1], text=row[2], kind=row[3], tags=tuple(tags.get(row[0], ())),
                anchors=tuple(anchors.get(row[0], ())), scope=row[4], trust=row[5], author=row[6],
                agent=row[7], commit=row[8], branch=row[9], created_at=row[10], updated_at=row[11],
                supersedes=row[12], deleted_at=row[13], machine=row[14],
            )
            for row in rows
        ]  # fmt: skip

    # the journal and the whole

    def add_journal(
        self, project_id: int, author: str, agent: str, verb: str, uid: str, detail: dict[str, Any]
    ) -> None:
        """Append what was done; inside the transaction that did it."""
        self._run(
            "INSERT INTO journal (at, project_id, author, agent, verb, record_uid, detail)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (now(), project_id, author, agent, verb, uid, json.dumps(detail, ensure_ascii=False)),
        )

    def last_journal(self, uid: str, verbs: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
        """Return (verb, detail) of what was done last to a record among these verbs."""
        row = self._row(
            "SELECT verb, detail FROM journal WHERE record_uid = ?"
            " AND verb IN (SELECT value FROM json_each(?)) ORDER BY seq DESC LIMIT 1",
            (uid, json.dumps(list(verbs))),
        )
        return (row[0], json.loads(row[1])) if row else None

    def counts(self, worktree: Worktree) -> dict[str, int]:
        """Return how much of each kind a worktree has, and what waits in the outbox."""
        files = self._value("SELECT count(*) FROM tree_entry WHERE worktree_id = ?", (worktree.id,))
        symbols = self._value(
            "SELECT count(*) FROM tree_entry t JOIN symbol s ON s.blob_id = t.blob_id"
            " WHERE t.worktree_id = ?",
            (worktree.id,),
        )
        notes, forgotten = self._row(
            "SELECT coalesce(sum(n.deleted_at IS NULL AND n.superseded_by IS NULL), 0),"
            " coalesce(sum(n.deleted_at IS NOT NULL AND n.text != ''), 0) FROM note n"
            " JOIN record r ON r.id = n.record_id WHERE r.project_id = ?",
            (worktree.project_id,),
        ) or (0, 0)
        return {
            "files": files,
            "symbols": symbols,
            "commits": self.count_reachable(worktree.id),
            "notes": notes,
            "forgotten": forgotten,
            "outbox": self.count_waiting(),
        }

    def size(self) -> int:
        """Return the bytes the database takes on the disk, its log included."""
        total = 0
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError):
                total += self.path.with_name(self.path.name + suffix).stat().st_size
        return total

    def schema_version(self) -> int:
        """Return the version of the schema."""
        return int(self._value("PRAGMA user_version"))

    def check(self) -> list[str]:
        """Return what SQLite's own checks find wrong; empty when the database is sound."""
        with self._lock, translated(self.path):
            self._db.execute("BEGIN")  # one state for both: what is read here is what is checked
            try:
                # integrity_check compares with the FTS5 structure that this connection read last,
                # even if another has written since; opening a cursor reads it anew
                self._db.execute("SELECT rowid FROM record_fts LIMIT 1").fetchall()
                rows = self._db.execute("PRAGMA integrity_check").fetchall()
            finally:
                self._db.execute("COMMIT")
        return [str(row[0]) for row in rows if row[0] != "ok"]


_SELECT_ENTRY = (
    "SELECT t.path, b.hash, b.outline_version, b.complete, t.size, t.mtime_ns, t.ctime_ns, t.inode"
    " FROM tree_entry t JOIN blob b ON b.id = t.blob_id"
)
_SELECT_WORKTREE = (
    "SELECT w.id, w.project_id, p.identity, p.name, p.seed, w.found_as, w.root, w.commit_id,"
    " w.branch, w.indexed_at, w.generation, w.history_head"
    " FROM worktree w JOIN project p ON p.id = w.project_id"
)
_ANCHOR_FIELDS = tuple(field.name for field in dataclasses.fields(Anchor))
_ANCHOR = ", ".join(_ANCHOR_FIELDS)
_LIVING_NOTE = "n.deleted_at IS NULL AND n.superseded_by IS NULL AND n.trust != 'rejected'"


def _entries(rows: Iterable[tuple[Any, ...]]) -> dict[str, TreeEntry]:
    return {path: TreeEntry(blob, version, bool(complete), (size, mtime, ctime, inode))
            for path, blob, version, complete, size, mtime, ctime, inode in rows}  # fmt: skip


def is_makeshift(identity: str) -> bool:
    """Tell whether an identity stands in for a remote's address, see `git.find_worktree`."""
    return identity.startswith(("root:", "path:"))


def _label(project_id: int, label: str) -> str:
    return f"p{project_id}.{label}"


def _fts_rows(rows: Iterable[tuple[Any, ...]]) -> list[FtsRow]:
    return [(row[0], _SECTIONS[row[1].partition(".")[2]], *row[2:]) for row in rows]


def _prefix_range(prefix: str) -> tuple[str, str]:
    """Return the bounds of all texts that begin with `prefix`, for an index to use."""
    return prefix, prefix + "\U0010ffff"


def _path_condition(column: str, path: str) -> tuple[str, list[Any]]:
    low, high = _prefix_range(path.rstrip("/") + "/")
    return f"({column} = ? OR {column} >= ? AND {column} < ?)", [path, low, high]


def _name_condition(column: str, name: str) -> tuple[str, list[Any]]:
    return f"({column} = ? OR substr({column}, -?) = ?)", [name, len(name) + 1, "." + name]


def _visible(
    worktree: Worktree, filters: Filters, *, history: bool = False
) -> tuple[str, list[Any]]:
    """Return the SQL condition on `record r` for what can be seen, and its parameters.

    CROSS JOIN and the plus signs keep SQLite from walking all files of the worktree once for every
    record, which its planner otherwise prefers: 1 s instead of 20 ms at 50,000 records.
    """
    clauses, values = _past(worktree, filters) if history else _present(worktree, filters)
    for column, value in (("kind", filters.kind), ("stratum", filters.stratum)):
        if value is not None:
            clauses.append(f"r.{column} = ?")
            values.append(value)
    if filters.since is not None:
        clauses.append("r.created_at >= ?")
        values.append(filters.since)
    if filters.tag is not None:
        clauses.append("EXISTS (SELECT 1 FROM note_tag g WHERE g.record_id = r.id AND g.tag = ?)")
        values.append(filters.tag)
    return " AND ".join(clauses), values


def _past(worktree: Worktree, filters: Filters) -> tuple[list[str], list[Any]]:
    reached = "SELECT 1 FROM reachable x WHERE x.worktree_id = ? AND x.record_id = r.id"
    clauses = ["r.stratum = 'history'", f"EXISTS ({reached})"]
    values: list[Any] = [worktree.id]
    if filters.path is not None:
        in_path, path_values = _path_condition("d.path", filters.path)
        clauses.append(f"EXISTS (SELECT 1 FROM touched d WHERE d.record_id = r.id AND {in_path})")
        values += path_values
    if filters.symbol is not None:
        clauses.append(
            "EXISTS (SELECT 1 FROM touched d WHERE d.record_id = r.id AND"
            " (instr(char(10) || d.symbols || char(10), char(10) || ? || char(10))"
            " OR instr(d.symbols || char(10), '.' || ? || char(10))))"
        )
        values += [filters.symbol, filters.symbol]
    return clauses, values


def _present(worktree: Worktree, filters: Filters) -> tuple[list[str], list[Any]]:
    in_path = "1"
    path_values: list[Any] = []
    if filters.path is not None:
        in_path, path_values = _path_condition("t.path", filters.path)
    code = (
        "EXISTS (SELECT 1 FROM tree_entry t WHERE t.record_id = r.id AND +t.worktree_id = ?"
        f" AND {in_path}) OR EXISTS (SELECT 1 FROM symbol s CROSS JOIN tree_entry t"
        f" ON t.blob_id = s.blob_id AND +t.worktree_id = ? AND {in_path} WHERE s.record_id = r.id)"
    )
    values: list[Any] = [worktree.id, *path_values, worktree.id, *path_values]
    note = f"EXISTS (SELECT 1 FROM note n WHERE n.record_id = r.id AND {_LIVING_NOTE})"
    note_values: list[Any] = []
    if filters.path is not None:
        anchored, note_values = _path_condition("a.path", filters.path)
        note += f" AND EXISTS (SELECT 1 FROM anchor a WHERE a.record_id = r.id AND {anchored})"
    clauses = [f"((r.stratum = 'notes' AND {note}) OR (r.stratum = 'code' AND ({code})))"]
    values = [*note_values, *values]
    if filters.symbol is not None:
        of_code, code_values = _name_condition("r.title", filters.symbol)
        of_note, symbol_values = _name_condition("a.symbol", filters.symbol)
        clauses.append(
            f"((r.stratum = 'code' AND r.kind != 'file' AND {of_code}) OR EXISTS"
            f" (SELECT 1 FROM anchor a WHERE a.record_id = r.id AND {of_note}))"
        )
        values += [*code_values, *symbol_values]
    return clauses, values


def _awaiting(space_id: int, project_id: int | None) -> tuple[str, list[Any]]:
    condition = (
        "r.embed > 0 AND r.space_id IS NOT ? AND (? IS NULL OR r.project_id = ?) AND CASE"
        " WHEN r.stratum = 'notes' THEN EXISTS (SELECT 1 FROM note n WHERE n.record_id = r.id"
        f" AND {_LIVING_NOTE})"
        " WHEN r.stratum = 'history' THEN EXISTS (SELECT 1 FROM reachable x"
        " WHERE x.record_id = r.id)"
        " WHEN r.kind = 'file' THEN EXISTS (SELECT 1 FROM tree_entry t WHERE t.record_id = r.id)"
        " ELSE EXISTS (SELECT 1 FROM symbol s JOIN tree_entry t ON t.blob_id = s.blob_id"
        " WHERE s.record_id = r.id) END"
    )
    return condition, [space_id, project_id, project_id]
