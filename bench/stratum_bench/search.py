"""How long searches take and what they find, beside plain scans of the same records.

Owns the growing project, the queries and the turns of the rivals. Timing by rivals in turn, query
by query, in one process, so that a busy moment of the machine strikes all of them alike.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

from stratum import Memory, Unavailable
from stratum_bench.corpus import Query, note_text, queries, sources
from stratum_bench.measure import (
    Clock,
    Result,
    Row,
    environment,
    percentile,
    progress,
    recall,
)
from stratum_bench.project import Project, temporary_project
from stratum_bench.raw import Indexes

Mode = Literal["hybrid", "lexical", "vector"]
_WARM_UPS = 5
_K = 10
_TIES = 100  # FTS5 hits whose scores are known when two rankings are compared
_TOLERANCE = 1e-4  # scores are float32 here and float64 there
# Like is compared with like: each rival beside the first of its group.
_GROUPS = (
    ("embed the query",),
    ("search lexical, resident", "search lexical, cold"),
    ("search vector, resident", "search vector, cold"),
    ("search hybrid, resident", "search hybrid, cold"),
    ("lexical index, resident", "lexical index, FTS5"),
    (
        "vector index, resident",
        "vector index, sqlite-vec",
        "vector scan, plain sqlite-vec",
        "vector scan, exact numpy",
    ),
)


@dataclass(slots=True)
class _Quality:
    """What the resident indexes find of what the slow ways find; one share per query."""

    recall: list[float] = field(default_factory=list)
    overlap: list[float] = field(default_factory=list)


def run(size: str, seed: int, *, records: Sequence[int], queries: int, embedder: str) -> Result:
    """Measure at each size in turn; the same project grows from one to the next."""
    rows: list[Row] = []
    facts: dict[str, Any] = {}
    with temporary_project(embedder) as project:
        growing = _Growing(project, seed)
        for wanted in records:
            grown = growing.grow_to(wanted)
            measured, quality = _measure(project, grown["records"], queries, seed)
            rows += measured
            facts[f"at {wanted}"] = grown | quality
    return Result(
        command="search",
        seed=seed,
        parameters={"size": size, "embedder": embedder, "queries": queries},
        environment=environment(),
        rows=rows,
        facts=facts,
    )


class _Growing:
    """A project to which sources and notes are added until it holds enough records."""

    def __init__(self, project: Project, seed: int) -> None:
        self._project = project
        self._seed = seed
        self._sources = sources()
        self._notes = itertools.count()

    def grow_to(self, wanted: int) -> dict[str, Any]:
        """Add files and notes until there are `wanted` records, then make all vectors."""
        started, symbols_per_file = time.perf_counter(), 50
        with self._project.memory() as memory:
            while (held := _records(memory)) < wanted:
                missing = wanted - held
                # several steps: the files differ in size, and the last ones decide by how much
                # the wanted number is passed
                files = max(1, min(400, missing // symbols_per_file))
                for path, text in itertools.islice(self._sources, files):
                    self._project.add(path, text)
                for _ in range(min(missing // 2, files)):
                    memory.write(note_text(self._seed, 0, next(self._notes)))
                memory.index(vectors=False)
                progress(f"{_records(memory)} of {wanted} records")
            indexed = time.perf_counter()
            report = memory.index()
            progress(f"{report.vectors} vectors made")
            status = memory.status()
            return {
                "records": _records(memory),
                "counts": status.counts,
                "vectors": status.embedder.vectors,
                "vectors_pending": report.vectors_pending,
                "index_seconds": indexed - started,
                "vector_seconds": time.perf_counter() - indexed,
                "database_mb": status.database_bytes / 1e6,
            }


def _records(memory: Memory) -> int:
    counts = memory.status().counts
    return counts["files"] + counts["symbols"] + counts["notes"]


def _measure(
    project: Project, records: int, count: int, seed: int
) -> tuple[list[Row], dict[str, Any]]:
    asked = queries(count, seed)
    clocks = {
        kind: {name: Clock() for group in _GROUPS for name in group} for kind in ("short", "issue")
    }
    quality = {kind: _Quality() for kind in clocks}
    with (
        project.memory(resident=True) as resident,
        project.memory() as cold,
        closing(Indexes(project.settings, project.folder)) as indexes,
    ):
        resident.warm_up()
        for query in asked[:_WARM_UPS]:
            for _, call in _rivals(query, resident, cold, indexes):
                call()
        for number, query in enumerate(asked):
            turns = _rivals(query, resident, cold, indexes)
            first = number % len(turns)  # nobody is always asked after the same other
            for name, call in turns[first:] + turns[:first]:
                clocks[query.kind][name].time(call)
            _compare(quality[query.kind], query, indexes)
            if number % 25 == 24:
                progress(f"{records} records: {number + 1} of {len(asked)} queries")
    rows = [row for kind in clocks for row in _rows(records, kind, clocks[kind])]
    return rows, {kind: _shares(found) for kind, found in quality.items()}


def _rivals(
    query: Query, resident: Memory, cold: Memory, indexes: Indexes
) -> list[tuple[str, Callable[[], object]]]:
    vector = indexes.embedder.embed_query(query.text)
    return [
        ("embed the query", lambda: indexes.embedder.embed_query(query.text)),
        ("search lexical, resident", lambda: _search(resident, query, "lexical")),
        ("search lexical, cold", lambda: _search(cold, query, "lexical")),
        ("search vector, resident", lambda: _search(resident, query, "vector")),
        ("search vector, cold", lambda: _search(cold, query, "vector")),
        ("search hybrid, resident", lambda: _search(resident, query, "hybrid")),
        ("search hybrid, cold", lambda: _search(cold, query, "hybrid")),
        ("lexical index, resident", lambda: indexes.lexical_resident(query.text, _K)),
        ("lexical index, FTS5", lambda: indexes.lexical_fts5(query.text, _K)),
        ("vector index, resident", lambda: indexes.vector_resident(vector, _K)),
        ("vector index, sqlite-vec", lambda: indexes.vector_store(vector, _K)),
        ("vector scan, plain sqlite-vec", lambda: indexes.vector_plain(vector, _K)),
        ("vector scan, exact numpy", lambda: indexes.vector_exact(vector, _K)),
    ]


def _search(memory: Memory, query: Query, mode: Mode) -> None:
    result = memory.search(query.text, mode=mode, limit=_K)
    if result.mode != mode:
        raise Unavailable(f"A {mode} search ran as {result.mode}.", hint=" ".join(result.notices))


def _compare(quality: _Quality, query: Query, indexes: Indexes) -> None:
    vector = indexes.embedder.embed_query(query.text)
    exact = [score for _, score in indexes.vector_exact(vector, _K)]
    near = indexes.exact_scores(vector, [id_ for id_, _ in indexes.vector_resident(vector, _K)])
    quality.recall.append(recall(near, exact, k=_K, tolerance=_TOLERANCE))
    fts5 = indexes.lexical_fts5(query.text, _TIES)
    known = dict(fts5)
    words = [known.get(id_, float("-inf")) for id_, _ in indexes.lexical_resident(query.text, _K)]
    quality.overlap.append(recall(words, [score for _, score in fts5], k=_K, tolerance=_TOLERANCE))


def _shares(quality: _Quality) -> dict[str, float]:
    return {
        "recall@10": sum(quality.recall) / len(quality.recall),
        "lexical overlap@10": sum(quality.overlap) / len(quality.overlap),
    }


def _rows(records: int, kind: str, clocks: dict[str, Clock]) -> Iterator[Row]:
    embedding = clocks["embed the query"]
    for group in _GROUPS:
        first = percentile(clocks[group[0]].cpu, 0.5)
        for name in group:
            clock = clocks[name]
            embeds = name.startswith(("search vector", "search hybrid"))
            beside = _less(clock.wall, embedding.wall) if embeds else clock.wall
            yield {
                "records": records,
                "query": kind,
                "what": name,
                "n": len(clock.wall),
                "wall p50": percentile(clock.wall, 0.5),
                "wall p95": percentile(clock.wall, 0.95),
                "less embedding p95": percentile(beside, 0.95),
                "cpu p50": percentile(clock.cpu, 0.5),
                "cpu p95": percentile(clock.cpu, 0.95),
                "cpu ratio": percentile(clock.cpu, 0.5) / first,
            }


def _less(values: Sequence[float], embedding: Sequence[float]) -> list[float]:
    return [value - less for value, less in zip(values, embedding, strict=True)]
