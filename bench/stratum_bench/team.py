"""What the shared index of a team costs: sending, receiving, searching, memory; flat and graph.

Owns the server it starts, the machines and their notes. Everything goes the way of users: notes are
imported, embedded and sent by one machine and received by another; both are folders of their own.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stratum import Filters, Memory, Note, Settings, Unavailable, load
from stratum.embedder import Embedder, open_embedder
from stratum.models import Anchor
from stratum.redis_client import Client, Keys, capabilities, connect
from stratum.team import Team
from stratum.team_index import Asked, Index, TeamSearch, ensure, search
from stratum.wire import vector_field
from stratum_bench.corpus import Query, note_text, queries
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
from stratum_bench.redis_process import redis_to_measure

_PROJECTS = 10
_K = 10
_TOLERANCE = 1e-4  # distances are float32 there
_START_TIMEOUT = 20.0  # seconds
_BUILD_TIMEOUT = 3_600.0  # seconds
_BATCH = 500  # commands in one trip
_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
_AT = "2026-01-31T09:30:00.000Z"
_TEAM = "bench"


def run(
    size: str,
    seed: int,
    *,
    notes: int,
    graph: int,
    queries: int,
    embedder: str,
    redis_url: str = "",
) -> Result:
    """Measure with `notes` in a flat index, then with `graph` of them in both kinds of index.

    The graph is measured with fewer, for it takes a thousand new notes a second at best.

    Args:
        size: Named in the result.
        seed: Of the notes and queries.
        notes: How many the team has, in ten projects.
        graph: How many of them both kinds of index are compared with.
        queries: Of each of the two kinds.
        embedder: "bundled" or "hashing".
        redis_url: An empty server to use; by default one is started from the packages that the
            tests use.
    """
    rows: list[Row] = []
    facts: dict[str, Any] = {}
    with redis_to_measure(redis_url, search=True) as url, temporary_project(embedder) as project:
        team = _Made(project, url, seed, notes)
        facts |= team.grow()
        rows += team.searches(queries)
        small, small_facts = team.compared(min(graph, notes), queries)
        rows += small
        facts |= small_facts
    return Result(
        command="team",
        seed=seed,
        parameters={
            "size": size, "notes": notes, "graph": min(graph, notes), "projects": _PROJECTS,
            "queries": queries, "embedder": embedder,
        },
        environment=environment(),
        rows=rows,
        facts=facts,
    )  # fmt: skip


# The team


@dataclass(slots=True)
class _Machine:
    """One machine of the team: its settings, and the checkouts that it has."""

    settings: Settings
    roots: list[Path]

    def memory(self, number: int = 0, *, resident: bool = False) -> Memory:
        """Open its memory in one of its checkouts."""
        return Memory(self.settings, self.roots[number], resident=resident)


@dataclass(slots=True)
class _Exact:
    """All vectors of the server, and what a plain scan of them finds."""

    ids: dict[str, int]  # of notes, to their row
    rows: NDArray[np.float32]
    projects: NDArray[np.str_]
    paths: NDArray[np.str_]

    def best(self, vector: NDArray[np.float32], asked: Asked) -> list[float]:
        """Return the best cosines under the filters, best first."""
        chosen = np.ones(len(self.rows), dtype=bool)
        if asked.project is not None:
            chosen &= self.projects == asked.project
        if asked.filters.path is not None:
            chosen &= self.paths == asked.filters.path
        scores = self.rows[chosen] @ vector
        return [float(score) for score in np.sort(scores)[::-1][:_K]]


@dataclass(slots=True)
class _Timed:
    clock: Clock = field(default_factory=Clock)
    recall: list[float] = field(default_factory=list)


class _Made:
    """A team with its notes on a server."""

    def __init__(self, project: Project, url: str, seed: int, notes: int) -> None:
        self._seed, self._count = seed, notes
        self._environ = project.environ | {
            "STRATUM_REDIS_URL": url, "STRATUM_TEAM": _TEAM, "STRATUM_REDIS_INDEX": "flat",
        }  # fmt: skip
        self._roots = [_checkout(project, number) for number in range(_PROJECTS)]
        self._writer = self._machine("writer")
        self._reader = self._machine("reader")
        settings = self._writer.settings
        opened = open_embedder(
            settings.embed_model, cache=settings.cache_dir, offline=True, threads=settings.threads
        )
        assert opened is not None
        self._embedder: Embedder = opened
        self._notes = [_note(seed, number) for number in range(notes)]

    def _machine(self, name: str) -> _Machine:
        home = str(self._roots[0].parent / f"home-{name}")
        environ = self._environ | {"STRATUM_HOME": home, "STRATUM_MACHINE": name}
        return _Machine(load(environ), self._roots)

    def grow(self) -> dict[str, Any]:
        """Write the notes on one machine, send them, receive them on another."""
        facts: dict[str, Any] = {}
        begun = time.perf_counter()
        for number in range(_PROJECTS):
            with self._writer.memory(number) as memory:
                memory.import_(_lines(self._notes, number))
                memory.index()
            progress(f"{number + 1} of {_PROJECTS} projects written and embedded")
        facts["written and embedded in ms"] = _since(begun)
        with connect(self._writer.settings) as client:
            empty = _memory_of(client)
            facts["sent"] = self._exchange(self._writer, "sent")
            facts["bytes of the server per note"] = (_memory_of(client) - empty) / self._count
        for number in range(_PROJECTS):
            with self._reader.memory(number) as memory:
                memory.index(vectors=False)  # so that it knows the project
        facts["received"] = self._exchange(self._reader, "received")
        facts["nothing new"] = self._exchange(self._reader, "")
        return facts

    def _exchange(self, machine: _Machine, what: str) -> dict[str, Any]:
        begun = time.perf_counter()
        with machine.memory() as memory, Team(memory) as team:
            report = team.sync()
        milliseconds = _since(begun)
        if not what:
            return {"ms": milliseconds}
        moved = getattr(report, what)
        if moved != self._count:
            raise Unavailable(f"Of {self._count} notes {moved} were {what}.")
        progress(f"{moved} notes {what} in {milliseconds / 1000:.1f} s")
        return {"notes": moved, "ms": milliseconds, "per second": moved * 1000 / milliseconds}

    def searches(self, count: int) -> list[Row]:
        """Time whole searches, on the server and on the machine that wrote everything."""
        asked = queries(count, self._seed)
        timed: dict[tuple[str, str, str], Clock] = {}
        with (
            self._writer.memory(resident=True) as memory,
            TeamSearch(self._writer.settings, self._embedder) as remote,
        ):
            memory.warm_up()
            identity, own = memory.project, self._notes[::_PROJECTS]
            for number, query in enumerate(asked):
                path = own[number % len(own)].anchors[0].path
                for name, filters, call in _ways(
                    memory, remote, self._embedder, query, identity, path
                ):
                    if number < 3:
                        call()
                    timed.setdefault((name, filters, query.kind), Clock()).time(call)
        embedding = {kind: timed["embed the query", "", kind] for kind in ("short", "issue")}
        return [
            _row(name, "flat", self._count, filters, kind, clock, less=embedding[kind])
            for (name, filters, kind), clock in timed.items()
        ]

    def compared(self, notes: int, count: int) -> tuple[list[Row], dict[str, Any]]:
        """Time bare searches by meaning, and hold what they find against a plain scan."""
        rows: list[Row] = []
        facts: dict[str, Any] = {}
        with connect(self._writer.settings) as client:
            exact = self._exact(client, self._notes)
            index, _ = self._built(client, self._writer.settings)
            rows += self._bare(client, self._writer.settings, index, exact, count)
            exact = self._exact(client, self._notes[:notes])
            for algorithm in ("flat", "hnsw"):
                # each kind has a team of its own: memory of a dropped index is freed at leisure
                settings = dataclasses.replace(
                    self._writer.settings, team=f"{_TEAM}-{algorithm}", redis_index=algorithm
                )
                self._copy(client, settings, self._notes[:notes])
                before = _memory_of(client)
                index, milliseconds = self._built(client, settings)
                facts[f"{algorithm} of {notes}"] = {
                    "built in ms": milliseconds,
                    "notes per second": notes * 1000 / milliseconds,
                    "bytes of the index per note": (_memory_of(client) - before) / notes,
                }
                rows += self._bare(client, settings, index, exact, count)
                progress(f"{algorithm} index of {notes} notes measured")
        return rows, facts

    def _built(self, client: Client, settings: Settings) -> tuple[Index, float]:
        """Return the index once it is complete, and how long that took."""
        begun, can = time.perf_counter(), capabilities(client)
        until = time.monotonic() + _BUILD_TIMEOUT
        while time.monotonic() < until:
            index = ensure(
                client, settings, can, self._embedder.fingerprint, self._embedder.dimension
            )
            if index is None:
                raise Unavailable("This server has no search index.", hint="Give another one.")
            if index.share >= 1.0:
                return index, _since(begun)
            time.sleep(0.05)
        raise Unavailable("The index was not complete in time.", hint="Give a smaller --graph.")

    def _bare(
        self, client: Client, settings: Settings, index: Index, exact: _Exact, count: int
    ) -> Iterator[Row]:
        rng = random.Random(self._seed)
        timed = {name: _Timed() for name in ("all", "project", "project and path")}
        for query in queries(count, self._seed):
            vector = self._embedder.embed_query(query.text)
            note = rng.randrange(len(exact.paths))
            for name, one in timed.items():
                asked = Asked(
                    vector=vector.tobytes(),
                    project=None if name == "all" else str(exact.projects[note]),
                    filters=Filters(path=str(exact.paths[note])) if "path" in name else Filters(),
                    limit=_K,
                )
                call = functools.partial(
                    search, client, settings, index, self._embedder.fingerprint, asked
                )
                found = one.clock.time(call)
                near = exact.rows[[exact.ids[remote.note.id] for remote, _ in found.notes]] @ vector
                best = exact.best(vector, asked)
                one.recall.append(recall(near.tolist(), best, k=_K, tolerance=_TOLERANCE))
        for name, one in timed.items():
            yield _row(
                "by meaning alone, shared", index.algorithm, len(exact.paths), name, "both",
                one.clock, found=sum(one.recall) / len(one.recall),
            )  # fmt: skip

    def _exact(self, client: Client, notes: Sequence[Note]) -> _Exact:
        name = vector_field(self._embedder.fingerprint)
        projects = [_identity(number % _PROJECTS) for number in range(len(notes))]
        raw: list[bytes] = []
        for start in range(0, len(notes), _BATCH):
            with client.pipeline(transaction=False) as pipe:
                for note, project in zip(
                    notes[start : start + _BATCH], projects[start : start + _BATCH], strict=True
                ):
                    pipe.hget(Keys.of(self._writer.settings, project).note(note.id), name)
                raw += pipe.execute()
        rows = np.frombuffer(b"".join(raw), dtype=np.float32).reshape(len(notes), -1)
        return _Exact(
            {note.id: row for row, note in enumerate(notes)},
            rows,
            np.array(projects),
            np.array([note.anchors[0].path for note in notes]),
        )

    def _copy(self, client: Client, other: Settings, notes: Sequence[Note]) -> None:
        """Give another team the same notes, on the server itself."""
        for start in range(0, len(notes), _BATCH):
            with client.pipeline(transaction=False) as pipe:
                for number, note in enumerate(notes[start : start + _BATCH], start):
                    project = _identity(number % _PROJECTS)
                    source = Keys.of(self._writer.settings, project).note(note.id)
                    pipe.copy(source, Keys.of(other, project).note(note.id))
                pipe.execute()


def _ways(
    memory: Memory,
    remote: TeamSearch,
    embedder: Embedder,
    query: Query,
    identity: str,
    path: str,
) -> list[tuple[str, str, Callable[[], object]]]:
    """Return (what, filter, call) of one query; stale notes count, for no file stands here."""
    text, at = query.text, Filters(path=path)
    notes, notes_at = Filters(stratum="notes"), Filters(stratum="notes", path=path)
    return [
        ("embed the query", "", lambda: embedder.embed_query(text)),
        ("search, shared", "all", lambda: remote.search(text, None, limit=_K)),
        ("search, shared", "project", lambda: remote.search(text, identity, limit=_K)),
        ("search, shared", "project and path", lambda: remote.search(text, identity, at, limit=_K)),
        (
            "search, local",
            "project",
            lambda: memory.search(text, filters=notes, limit=_K, include_stale=True),
        ),
        (
            "search, local",
            "project and path",
            lambda: memory.search(text, filters=notes_at, limit=_K, include_stale=True),
        ),
    ]


# Notes and figures


def _identity(number: int) -> str:
    return f"github.com/acme/shop{number}"


def _checkout(project: Project, number: int) -> Path:
    root = project.folder / f"shop{number}"
    for words in (
        ("init", "--quiet", str(root)),
        ("-C", str(root), "remote", "add", "origin", f"https://{_identity(number)}.git"),
    ):
        subprocess.run(["git", *words], check=True, env=project.environ)
    return root


def _note(seed: int, number: int) -> Note:
    """Return a note about a function of the standard library, in the words of its docstring."""
    text = note_text(seed, 0, number)
    name, _, rest = text.partition(" in ")
    id_ = "".join(_DIGITS[(number >> 5 * place) & 31] for place in range(12))
    return Note(
        id=id_, text=text, kind="fact", scope="team", trust="proposed", tags=("bench",),
        anchors=(Anchor(rest.partition(":")[0], name),), author="bench", agent="", commit=None,
        branch=None, created_at=_AT, updated_at=_AT,
    )  # fmt: skip


def _lines(notes: Sequence[Note], project: int) -> Iterator[str]:
    """Yield the notes of one project as lines of an export."""
    for note in notes[project::_PROJECTS]:
        plain = dataclasses.asdict(note)
        yield json.dumps({"project": _identity(project), "project_name": "shop", **plain})


def _memory_of(client: Client) -> int:
    facts: Any = client.info("memory")
    return int(facts["used_memory"])


def _since(begun: float) -> float:
    return (time.perf_counter() - begun) * 1000


def _row(
    what: str,
    index: str,
    notes: int,
    filters: str,
    query: str,
    clock: Clock,
    *,
    less: Clock | None = None,
    found: float | str = "",
) -> Row:
    """Return one line; the time of embedding is taken off where a search embeds its query."""
    embeds = less is not None and what.startswith("search")
    wall = (
        [all_ - own for all_, own in zip(clock.wall, less.wall, strict=True)]
        if less is not None and embeds
        else clock.wall
    )
    local = "local" in what or "embed" in what
    return {
        "what": what,
        "index": "" if local else index,
        "notes": notes,
        "filter": filters,
        "query": query,
        "n": len(wall),
        "wall p50": percentile(clock.wall, 0.5),
        "wall p95": percentile(clock.wall, 0.95),
        "less embedding p50": percentile(wall, 0.5),
        "less embedding p95": percentile(wall, 0.95),
        "recall@10": found,
    }
