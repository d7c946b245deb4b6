"""The numbered steps that bring a database to the current schema; never edited after a release.

Each step is a function `mNNN_...` that runs inside one transaction; `PRAGMA user_version` counts
the steps that have run. Knows SQL only: opening, locking and backing up belong to `store`.
"""

from __future__ import annotations

from collections.abc import Callable

import apsw

# unicode61 folds diacritics, porter stems; "_" and "." stay inside terms because `terms` has split
# identifiers already and writes the whole beside its parts.
TOKENIZER = "porter unicode61 remove_diacritics 2 tokenchars '_.'"


# The last part of a qualified name, for an index: "QuerySet.get" -> "get".
LAST_NAME = "substr(r.title, length(rtrim(r.title, replace(r.title, '.', ''))) + 1)"
IS_DEFINITION = "r.stratum = 'code' AND r.kind != 'file'"


def m001_create_tables(db: apsw.Connection) -> None:
    """Create every table of the first version."""
    db.execute(
        f"""
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

        CREATE TABLE project (
            id INTEGER PRIMARY KEY,
            identity TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL,
            created_at TEXT NOT NULL
        );

        -- One checkout on this machine. `generation` rises with every change of its tree.
        CREATE TABLE worktree (
            id INTEGER PRIMARY KEY,
            project_id INTEGER NOT NULL REFERENCES project(id),
            root TEXT NOT NULL UNIQUE,
            commit_id TEXT,
            branch TEXT,
            indexed_at TEXT,
            generation INTEGER NOT NULL DEFAULT 0
        );

        -- One thing that can be found. Code records belong to contents, not to paths.
        CREATE TABLE record (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            uid TEXT NOT NULL UNIQUE,
            project_id INTEGER NOT NULL REFERENCES project(id),
            stratum TEXT NOT NULL,
            kind TEXT NOT NULL,
            title TEXT NOT NULL,
            text TEXT NOT NULL,
            created_at TEXT NOT NULL,
            embed INTEGER NOT NULL,      -- 0: words only; else the order in which vectors are made
            space_id INTEGER REFERENCES space(id)  -- where its vector is; NULL: not made yet
        );
        CREATE INDEX record_project ON record (project_id, stratum, kind);
        CREATE INDEX record_pending ON record (project_id, space_id, embed) WHERE embed > 0;

        -- `label` is the project and its stratum, "p7 p7.code": a query ranks no other rows.
        CREATE VIRTUAL TABLE record_fts USING fts5 (
            label, name, text, body, tokenize = "{TOKENIZER}"
        );
        CREATE VIRTUAL TABLE record_terms USING fts5vocab ('record_fts', 'row');

        -- A content that was parsed: its outline holds for every path that has this content.
        CREATE TABLE blob (
            id INTEGER PRIMARY KEY,
            project_id INTEGER NOT NULL REFERENCES project(id),
            hash TEXT NOT NULL,
            language TEXT NOT NULL,
            outline_version INTEGER NOT NULL,
            lines INTEGER NOT NULL,
            complete INTEGER NOT NULL,
            UNIQUE (project_id, hash, language)
        );
        CREATE TABLE symbol (
            blob_id INTEGER NOT NULL REFERENCES blob(id) ON DELETE CASCADE,
            ord INTEGER NOT NULL,
            record_id INTEGER NOT NULL REFERENCES record(id),
            start_line INTEGER NOT NULL,
            end_line INTEGER NOT NULL,
            body_hash TEXT NOT NULL,
            signature TEXT NOT NULL,
            doc TEXT NOT NULL,
            PRIMARY KEY (blob_id, ord)
        ) WITHOUT ROWID;
        CREATE INDEX symbol_record ON symbol (record_id);

        -- What stands in a worktree now. `record_id` is the file's own record.
        CREATE TABLE tree_entry (
            worktree_id INTEGER NOT NULL REFERENCES worktree(id) ON DELETE CASCADE,
            path TEXT NOT NULL,
            blob_id INTEGER NOT NULL REFERENCES blob(id),
            record_id INTEGER NOT NULL REFERENCES record(id),
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            inode INTEGER NOT NULL,
            PRIMARY KEY (worktree_id, path)
        ) WITHOUT ROWID;
        CREATE INDEX tree_entry_blob ON tree_entry (blob_id);
        CREATE INDEX tree_entry_record ON tree_entry (record_id);

        CREATE TABLE note (
            record_id INTEGER PRIMARY KEY REFERENCES record(id),
            text TEXT NOT NULL,
            text_hash TEXT NOT NULL,
            scope TEXT NOT NULL CHECK (scope IN ('personal', 'team')),
            trust TEXT NOT NULL CHECK (trust IN ('proposed', 'accepted', 'rejected')),
            author TEXT NOT NULL,
            agent TEXT NOT NULL,
            commit_id TEXT,
            branch TEXT,
            updated_at TEXT NOT NULL,
            clock INTEGER NOT NULL,      -- milliseconds, but never twice the same and never back
            supersedes TEXT,
            superseded_by TEXT,
            deleted_at TEXT
        );
        CREATE INDEX note_hash ON note (text_hash);
        CREATE TABLE note_tag (
            record_id INTEGER NOT NULL REFERENCES note(record_id),
            tag TEXT NOT NULL,
            PRIMARY KEY (record_id, tag)
        ) WITHOUT ROWID;
        CREATE TABLE anchor (
            record_id INTEGER NOT NULL REFERENCES note(record_id),
            ord INTEGER NOT NULL,
            path TEXT NOT NULL,
            symbol TEXT,
            start_line INTEGER,
            end_line INTEGER,
            blob TEXT,
            body_hash TEXT,
            PRIMARY KEY (record_id, ord)
        ) WITHOUT ROWID;
        CREATE INDEX anchor_path ON anchor (path);

        -- Changes of team notes that wait to be sent; a row is written with the note itself.
        CREATE TABLE outbox (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            record_id INTEGER NOT NULL REFERENCES record(id),
            clock INTEGER NOT NULL
        );
        -- What was done to the memory, by whom; `detail` is JSON with what is needed to undo it.
        CREATE TABLE journal (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            at TEXT NOT NULL,
            project_id INTEGER NOT NULL REFERENCES project(id),
            author TEXT NOT NULL,
            agent TEXT NOT NULL,
            verb TEXT NOT NULL,
            record_uid TEXT,
            detail TEXT NOT NULL
        );

        -- An embedding space: vectors of different fingerprints never share a table.
        CREATE TABLE space (
            id INTEGER PRIMARY KEY,
            fingerprint TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL,
            dimension INTEGER NOT NULL,
            created_at TEXT NOT NULL
        );
        """
    )


def m002_names_of_projects_and_change_times(db: apsw.Connection) -> None:
    """Let a project have several names, and keep the change time of files.

    An edit can keep size and modification time, but not the change time. Drops `meta`, which
    nothing has used.
    """
    db.execute(
        """
        -- All names of a project: the one it is shown by, and those its repositories had before.
        CREATE TABLE project_name (
            identity TEXT PRIMARY KEY,
            project_id INTEGER NOT NULL REFERENCES project(id)
        ) WITHOUT ROWID;
        INSERT INTO project_name SELECT identity, id FROM project;
        -- What the ids of a project's code are derived from: its first name, for ever.
        ALTER TABLE project ADD COLUMN seed TEXT NOT NULL DEFAULT '';
        UPDATE project SET seed = identity;
        -- The name that the repository had when it was seen last.
        ALTER TABLE worktree ADD COLUMN found_as TEXT NOT NULL DEFAULT '';
        UPDATE worktree SET found_as =
            (SELECT p.identity FROM project p WHERE p.id = worktree.project_id);
        CREATE INDEX note_supersedes ON note (supersedes) WHERE supersedes IS NOT NULL;
        CREATE INDEX note_superseded ON note (superseded_by) WHERE superseded_by IS NOT NULL;
        ALTER TABLE tree_entry ADD COLUMN ctime_ns INTEGER NOT NULL DEFAULT 0;
        DROP TABLE meta;
        """
    )


def m003_histories_and_what_tells_anchors_apart(db: apsw.Connection) -> None:
    """Add past commits, and what an anchor needs to be followed without being mistaken.

    Anchors made before have no `outline_version`: their hashes are made anew from git's objects
    before they are compared.
    """
    db.execute(
        """
        ALTER TABLE anchor ADD COLUMN signature TEXT;
        ALTER TABLE anchor ADD COLUMN namesakes INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE anchor ADD COLUMN peers INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE anchor ADD COLUMN ordinal INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE anchor ADD COLUMN copies INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE anchor ADD COLUMN context TEXT;
        ALTER TABLE anchor ADD COLUMN within TEXT;
        ALTER TABLE anchor ADD COLUMN outline_version INTEGER;
        CREATE INDEX symbol_body ON symbol (body_hash);

        -- A past commit: its record holds subject and body.
        CREATE TABLE history (
            record_id INTEGER PRIMARY KEY REFERENCES record(id),
            project_id INTEGER NOT NULL REFERENCES project(id),
            commit_id TEXT NOT NULL,
            author TEXT NOT NULL,        -- a hash of the address
            weight REAL NOT NULL,        -- 1, less for what says little about its files
            reverts TEXT,                -- the commit that this one takes back
            files INTEGER NOT NULL,      -- how many it touched, also where they are not listed
            mapped INTEGER NOT NULL DEFAULT 0,  -- whether the touched symbols were looked for
            UNIQUE (project_id, commit_id)
        );
        CREATE INDEX history_reverts ON history (project_id, reverts) WHERE reverts IS NOT NULL;
        -- The files a commit touched, and the symbols in them, one on each line.
        CREATE TABLE touched (
            record_id INTEGER NOT NULL REFERENCES history(record_id) ON DELETE CASCADE,
            path TEXT NOT NULL,
            symbols TEXT NOT NULL DEFAULT '',
            PRIMARY KEY (record_id, path)
        ) WITHOUT ROWID;
        CREATE INDEX touched_path ON touched (path);
        -- Which commits can be reached from a worktree's HEAD, as far as `history_head` says.
        CREATE TABLE reachable (
            worktree_id INTEGER NOT NULL REFERENCES worktree(id) ON DELETE CASCADE,
            record_id INTEGER NOT NULL REFERENCES history(record_id) ON DELETE CASCADE,
            PRIMARY KEY (worktree_id, record_id)
        ) WITHOUT ROWID;
        CREATE INDEX reachable_record ON reachable (record_id);
        ALTER TABLE worktree ADD COLUMN history_head TEXT;
        -- What else decides which commits are searchable: limits, where a clone is cut off.
        ALTER TABLE worktree ADD COLUMN history_bounds TEXT NOT NULL DEFAULT '';
        """
    )


def m004_sections_and_last_names(db: apsw.Connection) -> None:
    """Rank whole files, definitions and tests by themselves; find definitions by their last names.

    The code stratum is made anew by the next index: so far the record of a file held only what
    stood outside of definitions. `label` is the project and the record's section, "p7.file".
    """
    name, definition = (text.replace("r.", "") for text in (LAST_NAME, IS_DEFINITION))
    code = "SELECT id FROM record WHERE stratum = 'code'"
    for (space,) in db.execute("SELECT id FROM space").fetchall():
        db.execute(f"DELETE FROM embedding_{space} WHERE record_id IN ({code})")
    db.execute(
        f"""
        DELETE FROM tree_entry;
        DELETE FROM symbol;
        DELETE FROM blob;
        DELETE FROM record_fts WHERE rowid IN ({code});
        DELETE FROM record WHERE stratum = 'code';
        UPDATE record_fts SET label = substr(label, instr(label, ' ') + 1);
        UPDATE worktree SET indexed_at = NULL, generation = generation + 1;
        CREATE INDEX record_last_name ON record (project_id, {name}) WHERE {definition};
        """
    )


def m005_teams(db: apsw.Connection) -> None:
    """Add what notes need to be the same on several machines, and what agents need to share work.

    Every version of a note has a stamp (see `stamps`), so that all machines agree which one is
    newer. Those of notes written before have no home in them, so that any other version wins. Times
    of leases and logs are milliseconds since 1970.
    """
    db.execute(
        """
        -- This database among those of the team; the id is made when it is first needed.
        CREATE TABLE home (id TEXT NOT NULL);
        -- The machine a note came from, "" for this one; the stamp of this version; and that of the
        -- version which the team's Redis had when it was last written or read, "" for none.
        ALTER TABLE note ADD COLUMN machine TEXT NOT NULL DEFAULT '';
        ALTER TABLE note ADD COLUMN stamp TEXT NOT NULL DEFAULT '';
        ALTER TABLE note ADD COLUMN synced TEXT NOT NULL DEFAULT '';
        UPDATE note SET stamp = printf('%015d', max(0, strftime('%s', updated_at) * 1000
            + substr(updated_at, 21, 3))) || '0000000000000000000';
        CREATE INDEX note_clock ON note (clock);
        CREATE INDEX outbox_record ON outbox (record_id);
        -- How far the changes of a project were read: an id in its stream, "" for not at all.
        CREATE TABLE sync_cursor (
            project_id INTEGER NOT NULL REFERENCES project(id),
            remote TEXT NOT NULL,         -- a hash of the server, the prefix and the team
            cursor TEXT NOT NULL,
            pushed TEXT NOT NULL DEFAULT '',  -- the last change that was made from here
            synced_at TEXT NOT NULL,
            PRIMARY KEY (project_id, remote)
        ) WITHOUT ROWID;
        -- What came from the team and was not taken in, and why. The content is not kept.
        CREATE TABLE quarantine (
            project_id INTEGER NOT NULL REFERENCES project(id),
            uid TEXT NOT NULL,
            stamp TEXT NOT NULL,
            machine TEXT NOT NULL,
            reason TEXT NOT NULL,
            at TEXT NOT NULL,
            PRIMARY KEY (project_id, uid)
        ) WITHOUT ROWID;
        CREATE INDEX journal_record ON journal (record_uid, verb);

        -- Who works on what. A row stays for a while after its end, to tell who has taken over.
        CREATE TABLE lease (
            id TEXT PRIMARY KEY,
            project_id INTEGER NOT NULL REFERENCES project(id),
            token INTEGER NOT NULL,      -- greater than that of every earlier lease
            holder TEXT NOT NULL,
            agent TEXT NOT NULL,
            purpose TEXT NOT NULL,
            subjects TEXT NOT NULL,      -- a JSON list
            taken INTEGER NOT NULL,
            expires INTEGER NOT NULL,
            ended TEXT NOT NULL DEFAULT '',
            ended_by TEXT NOT NULL DEFAULT '',
            dropped INTEGER NOT NULL     -- when the row may go
        ) WITHOUT ROWID;
        CREATE INDEX lease_project ON lease (project_id, dropped);
        -- The subjects of leases that have not ended: "path:src" + line feed + the lease's id.
        CREATE TABLE claim (
            project_id INTEGER NOT NULL REFERENCES project(id),
            member TEXT NOT NULL,
            PRIMARY KEY (project_id, member)
        ) WITHOUT ROWID;
        -- The last token that was given; a new one is at least the time.
        CREATE TABLE fence (token INTEGER NOT NULL);
        INSERT INTO fence VALUES (0);
        -- What has happened (log '') and what was found out about each task (log: the task).
        CREATE TABLE task_log (
            project_id INTEGER NOT NULL REFERENCES project(id),
            log TEXT NOT NULL,
            epoch INTEGER NOT NULL,      -- when the log was begun
            number INTEGER NOT NULL,     -- without a gap in each log
            at INTEGER NOT NULL,
            goes INTEGER NOT NULL,       -- when its log goes, unless more is added; 0: never
            entry TEXT NOT NULL,         -- JSON
            PRIMARY KEY (project_id, log, epoch, number)
        ) WITHOUT ROWID;
        CREATE TABLE session_context (
            project_id INTEGER NOT NULL REFERENCES project(id),
            session TEXT NOT NULL,
            value TEXT NOT NULL,         -- JSON
            expires INTEGER NOT NULL,
            PRIMARY KEY (project_id, session)
        ) WITHOUT ROWID;
        """
    )


def m006_uses(db: apsw.Connection) -> None:
    """Count who was shown which notes."""
    db.execute(
        """
        -- Which agents were shown a note, how often on each day (UTC).
        CREATE TABLE note_use (
            record_id INTEGER NOT NULL REFERENCES record(id),
            agent TEXT NOT NULL,
            day TEXT NOT NULL,
            count INTEGER NOT NULL,
            PRIMARY KEY (record_id, agent, day)
        ) WITHOUT ROWID;
        """
    )


Migration = Callable[[apsw.Connection], None]
MIGRATIONS: tuple[Migration, ...] = (
    m001_create_tables,
    m002_names_of_projects_and_change_times,
    m003_histories_and_what_tells_anchors_apart,
    m004_sections_and_last_names,
    m005_teams,
    m006_uses,
)
SCHEMA_VERSION = len(MIGRATIONS)
