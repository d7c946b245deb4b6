"""One SQLite file: how it is opened, migrated, locked, and what its errors mean for users.

Durability: WAL with `synchronous = full`, so an acknowledged write is on the disk. Every write goes
through `Database.transaction`, which takes the write lock first. What the tables hold is known to
`stratum.store`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw

from stratum.errors import ExtensionUnavailable, NewerStore, StoreUnavailable

if TYPE_CHECKING:
    from stratum.migrations import Migration

BUSY_TIMEOUT_MS = 10_000


def vec0_path() -> str:
    """Return the path of the sqlite-vec library, found without importing numpy along with it.

    Raises:
        ExtensionUnavailable: The package is not installed.
    """
    spec = importlib.util.find_spec("sqlite_vec")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise ExtensionUnavailable(
            "The sqlite-vec package is not installed.",
            hint="Install Stratum again, as its README says.",
        )
    return str(Path(folders[0], "vec0"))  # SQLite adds .so, .dylib or .dll


def open_database(path: Path, migrations: Sequence[Migration]) -> apsw.Connection:
    """Open the database at `path`, create or migrate it when needed.

    An older database is copied to `<name>.v<N>.backup` before it is migrated.

    Raises:
        StoreUnavailable: It cannot be opened, is locked, corrupt or the disk is full.
        NewerStore: A later version of Stratum wrote it.
        ExtensionUnavailable: sqlite-vec cannot be loaded.
    """
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # for its owner only
        if not path.exists():
            path.touch(mode=0o600)
        db = _connect(path)
        try:
            _migrate(db, path, migrations)
        except BaseException:
            db.close()
            raise
    return db


def _connect(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path))
    try:
        db.set_busy_timeout(BUSY_TIMEOUT_MS)  # first of all: the default is to fail at once
        db.enable_load_extension(True)
        try:
            db.load_extension(vec0_path())
        except apsw.ExtensionLoadingError as error:
            raise ExtensionUnavailable(
                f"sqlite-vec cannot be loaded: {error}.",
                hint="`stratum doctor` says what is missing on this machine.",
            ) from error
        db.enable_load_extension(False)
        _switch_to_wal(db)
        db.execute("PRAGMA synchronous = full")  # acknowledged means on the disk
        db.execute("PRAGMA foreign_keys = on")
        db.execute("PRAGMA secure_delete = fast")  # what is erased does not linger in free pages
        db.execute("PRAGMA mmap_size = 4294967296")  # scans of vectors are 1.5 times faster
    except BaseException:
        db.close()
        raise
    return db


def _switch_to_wal(db: apsw.Connection) -> None:
    """Turn on write-ahead logging: readers never wait for the writer.

    The switch ignores the busy timeout when two processes create the file at the same moment.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            db.execute("PRAGMA journal_mode = wal")
            return
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _version(db: apsw.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])  # type: ignore[index]


def _migrate(db: apsw.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    target = len(migrations)
    found = _version(db)
    _refuse_newer(found, target, path)
    if found == target:
        return
    with _locked(db):
        found = _version(db)  # again under the lock: another process may have been first
        _refuse_newer(found, target, path)
        if 0 < found < target:
            _back_up(path, path.with_name(f"{path.name}.v{found}.backup"))
        for step in migrations[found:]:
            step(db)
        db.execute(f"PRAGMA user_version = {target}")


def _refuse_newer(found: int, target: int, path: Path) -> None:
    if found > target:
        raise NewerStore(
            f"{path} was written by a later version of Stratum "
            f"(its schema is {found}, this version knows {target}).",
            hint="Upgrade Stratum to that version or a later one; nothing was changed.",
        )


def _back_up(path: Path, target: Path) -> None:
    """Copy the whole database; the copy appears under its name only when it is complete.

    Under the write lock: nobody else makes the same copy, and what a kill has left of one is
    removed by the next.
    """
    part = target.with_name(f"{target.name}.part")
    leftovers = (part, part.with_name(f"{part.name}-journal"))
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    part.touch(mode=0o600)
    try:
        with (
            contextlib.closing(apsw.Connection(str(path))) as db,
            contextlib.closing(apsw.Connection(str(part))) as copy,
            copy.backup("main", db, "main") as backup,
        ):
            while not backup.done:
                backup.step(1000)
        part.replace(target)
    except BaseException:
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _locked(db: apsw.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")  # the write lock before the first read: no upgrade can fail
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # some errors have rolled back already: do not hide the first one
            db.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into our errors, without guessing at causes."""
    try:
        yield
    except apsw.ConnectionClosedError as error:
        raise StoreUnavailable(
            "The memory was closed while it was being used.", hint="Open it again."
        ) from error
    except (apsw.BusyError, apsw.LockedError) as error:
        raise StoreUnavailable(
            f"{path} has been locked by another process for {BUSY_TIMEOUT_MS // 1000} seconds.",
            hint="Try again; if it stays so, find the process that holds it (`stratum doctor`).",
            retryable=True,
        ) from error
    except apsw.FullError as error:
        raise StoreUnavailable(
            f"The disk that holds {path} is full; the last write was not made.",
            hint="Free some space and try again; everything written before is safe.",
            retryable=True,
        ) from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StoreUnavailable(
            f"{path} is damaged or is not a database: {error}.",
            hint="Move the file away, but keep it, and start afresh: code is indexed again, and "
            "notes can be taken from a .backup file beside it or from an export.",
        ) from error
    except (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError) as error:
        raise StoreUnavailable(
            f"{path} cannot be opened for writing: {error}.",
            hint="Check the folder's permissions, or set STRATUM_HOME to a folder you can write.",
        ) from error
    except apsw.IOError as error:
        raise StoreUnavailable(
            f"The disk refused to read or write {path}: {error}; the last write was not made.",
            hint="Check that the disk is healthy and has room; everything written before is safe.",
            retryable=True,
        ) from error
    except OSError as error:
        raise StoreUnavailable(
            f"The folder {path.parent} cannot be used: {error.strerror or error}.",
            hint="Set STRATUM_HOME to a folder you can write.",
        ) from error


class Database:
    """An open database. Safe to share between threads; one call at a time runs."""

    def __init__(self, db: apsw.Connection, path: Path) -> None:
        self._db = db
        self._lock = threading.RLock()
        self.path = path

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        with self._lock:
            self._db.close()

    def wait_at_most(self, milliseconds: int) -> None:
        """Give up sooner than usual where another process writes; for what can be left undone."""
        with self._lock:
            self._db.set_busy_timeout(milliseconds)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the body under the write lock; all of it is stored or nothing is. Not nestable."""
        with self._lock, translated(self.path), _locked(self._db):
            yield

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock, translated(self.path):
            return self._db.execute(sql, parameters).fetchall()

    def _row(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        with self._lock, translated(self.path):
            return self._db.execute(sql, parameters).fetchone()

    def _value(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        row = self._row(sql, parameters)
        return row[0] if row else None

    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        with self._lock, translated(self.path):
            self._db.execute(sql, parameters)

    def _insert(self, sql: str, parameters: Sequence[Any]) -> int:
        with self._lock, translated(self.path):
            self._db.execute(sql, parameters)
            return self._db.last_insert_rowid()
