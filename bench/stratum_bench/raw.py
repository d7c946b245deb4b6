"""The one place that looks below the public API: single indexes, and the database's own checks.

`Memory.search` does more than ask an index (it embeds, fuses, reads records, judges freshness).
To compare index with index, this opens the same database through `stratum.store` and
`stratum.resident`; whatever changes there may break this file and no other of the benchmarks.
"""

from __future__ import annotations

from pathlib import Path

import apsw
import numpy as np
from numpy.typing import NDArray

from stratum import Filters, Settings
from stratum.database import vec0_path
from stratum.embedder import Embedder, open_embedder
from stratum.question import weighed
from stratum.resident import ResidentIndex
from stratum.store import Space, Store, open_store

Ranked = list[tuple[int, float]]
Vector = NDArray[np.float32]
_NO_FILTERS = Filters()


class Indexes:
    """The indexes of an indexed project side by side, and an exact scan of the same vectors."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.embedder = _embedder(settings)
        self._store = open_store(settings.database)
        self._place = self._store.worktrees()[0]
        space = self._store.space(self.embedder.fingerprint)
        if space is None:
            raise LookupError("the project has no vectors: index it first")
        self._space = space
        self._resident = ResidentIndex(self._store, self._place.project_id)
        self._resident.build()
        self._ids, self._rows = _vectors(self._store, space, self._place.project_id)
        self._plain = _plain_table(folder / "plain-vec0.db", self._ids, self._rows)

    def close(self) -> None:
        """Close both databases."""
        self._plain.close()
        self._store.close()

    @property
    def vectors(self) -> int:
        """How many vectors are searched."""
        return len(self._ids)

    def lexical_resident(self, query: str, limit: int = 10) -> Ranked:
        """Search the postings of definitions in memory."""
        terms = weighed(query)
        return _answered(self._resident.lexical(self._place, terms, _NO_FILTERS, limit, "parts"))

    def lexical_fts5(self, query: str, limit: int = 10) -> Ranked:
        """Search definitions by FTS5; the store cuts long queries to their most telling terms."""
        return self._store.lexical(self._place, weighed(query), _NO_FILTERS, limit, "parts")

    def vector_resident(self, vector: Vector, limit: int = 10) -> Ranked:
        """Search the sign bits in memory with exact scoring of the best."""
        found = self._resident.nearest(self._space, self._place, vector, _NO_FILTERS, limit)
        return _answered(found)

    def vector_store(self, vector: Vector, limit: int = 10) -> Ranked:
        """Search sqlite-vec as the store does it: partitioned, over-fetched, only what is seen."""
        return self._store.nearest(self._space, self._place, vector.tobytes(), _NO_FILTERS, limit)

    def vector_plain(self, vector: Vector, limit: int = 10) -> Ranked:
        """Search a plain sqlite-vec table of the same vectors: no partition, no filter."""
        rows = self._plain.execute(
            "SELECT id, distance FROM plain WHERE vector MATCH ? AND k = ?",
            (vector.tobytes(), limit),
        )
        return [(int(row[0]), 1.0 - float(row[1])) for row in rows]

    def vector_exact(self, vector: Vector, limit: int = 10) -> Ranked:
        """Compare with every vector by one matrix product in float32."""
        scores = self._rows @ vector
        best = np.argpartition(-scores, min(limit, len(scores) - 1))[:limit]
        best = best[np.argsort(-scores[best])]
        return [(int(self._ids[i]), float(scores[i])) for i in best]

    def exact_scores(self, vector: Vector, ids: list[int]) -> list[float]:
        """Return the exact similarities of some records."""
        position = np.searchsorted(self._ids, np.array(ids, np.int64))
        return [float(score) for score in self._rows[position] @ vector]


def problems(database: Path) -> list[str]:
    """Return what is wrong with a database: SQLite's checks, and vectors that are promised only."""
    store = open_store(database)
    try:
        found = store.check()
        for space in store.spaces():
            for project_id, _, _ in store.projects():
                promised = store.embedded_ids(space, project_id)
                kept = len(store.vector_rows(space, promised))
                if kept != len(promised):
                    found.append(f"{len(promised)} records say they have a vector, {kept} do")
        return found
    finally:
        store.close()


def _embedder(settings: Settings) -> Embedder:
    embedder = open_embedder(
        settings.embed_model,
        cache=settings.cache_dir,
        offline=settings.offline,
        threads=settings.threads,
    )
    if embedder is None:
        raise LookupError("the search benchmark needs an embedder")
    embedder.load()
    return embedder


def _vectors(store: Store, space: Space, project_id: int) -> tuple[NDArray[np.int64], Vector]:
    """Return ids, in order, and vectors of a project: shapes (n,) and (n, dimension)."""
    rows = sorted(store.vector_rows(space, store.embedded_ids(space, project_id)))
    vectors = np.frombuffer(b"".join(blob for _, blob in rows), np.float32)
    ids = np.fromiter((id_ for id_, _ in rows), np.int64, count=len(rows))
    return ids, vectors.reshape(len(rows), space.dimension)


def _plain_table(path: Path, ids: NDArray[np.int64], rows: Vector) -> apsw.Connection:
    db = apsw.Connection(str(path))
    db.enable_load_extension(True)
    db.load_extension(vec0_path())
    db.execute("PRAGMA mmap_size = 4294967296")  # as the store has it
    db.execute("DROP TABLE IF EXISTS plain")
    db.execute(
        "CREATE VIRTUAL TABLE plain USING vec0 (id INTEGER PRIMARY KEY,"
        f" vector float[{rows.shape[1]}] distance_metric=cosine)"
    )
    with db:
        db.executemany(
            "INSERT INTO plain (id, vector) VALUES (?, ?)",
            ((int(id_), row.tobytes()) for id_, row in zip(ids, rows, strict=True)),
        )
    return db


def _answered(found: Ranked | None) -> Ranked:
    if found is None:
        raise LookupError("the resident index did not answer")
    return found
