"""The team's notes searched where they are shared: the search index or the vector sets of Redis.

Owns what is created there for searching, the queries, and what of their answers may be shown.
Nothing here judges freshness: there may be no checkout of the project on this machine.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import redis
from redis.commands.search.field import Field, NumericField, TagField, TextField, VectorField
from redis.commands.search.index_definition import IndexDefinition, IndexType
from redis.commands.search.query import Query

from stratum.config import Settings
from stratum.embedder import Embedder
from stratum.errors import EmbedderUnavailable, InvalidInput, NotFound, TeamUnavailable
from stratum.models import Filters, Hit, Mode, Note
from stratum.notes import one_line, origin
from stratum.ranking import fuse
from stratum.redact import redact
from stratum.redis_client import (
    Capabilities,
    Client,
    Keys,
    capabilities,
    connect,
    index_name,
    note_prefix,
    read_hashes,
    run_script,
    shown_url,
    translated,
)
from stratum.terms import query_terms
from stratum.wire import (
    MAX_BYTES,
    WORDS_FIELD,
    Remote,
    from_fields,
    hashed_tag,
    short_fingerprint,
    vector_field,
)

Capability = Literal["search", "vector sets", "replication only"]
Algorithm = Literal["flat", "hnsw", "words"]

SCHEMA = 1  # of the index; raised when its fields change, so that it is made anew
# From so many notes on `auto` builds a graph. Until then a scan of all vectors takes no longer than
# a search by words (12 ms beside 14 ms), is exact, and takes in notes ten times as fast or more.
FLAT_NOTES = 100_000
HNSW = {"M": 16, "EF_CONSTRUCTION": 200, "EF_RUNTIME": 100}
# A vector set answers filtered queries fully only when it looks at everything.
EXACT_SCAN = 50_000

CANDIDATES = 100  # taken from each of the two ranked lists
MOST_TERMS = 64  # of a query: the first ones say most, and each costs the server a list
MOST_QUERY = 32_000  # characters
MOST_HITS = 100
_FLOAT = 4  # bytes
_SCANNED = 1_000  # keys looked at in one trip
_MOST_NAMED = 10  # projects in one error
_NOTES_AT_ONCE = 10  # in one script: adding a vector takes milliseconds, and others wait
_SPACE = re.compile("[0-9a-f]{8}")  # the short fingerprint of an embedder
NOT_COMPARED = "These notes were not compared with a checkout: they may no longer hold."
_MODEL_HINT = "Choose an embedder with `embed_model`, or another server: see docs/team.md."

# KEYS: a vector set, then hashes of notes. ARGV: the field of its vectors, then the notes' ids.
# Answers how many vectors have another dimension.
_REFRESH = """
local refused = 0
for i = 2, #KEYS do
  local function of(field) return redis.call('HGET', KEYS[i], field) or '' end
  local function listed(field)
    local found = {}
    for part in string.gmatch(of(field), '[^,]+') do found[#found + 1] = part end
    return found
  end
  if redis.call('TYPE', KEYS[i]).ok == 'hash' and of('living') == '1' and of(ARGV[1]) ~= '' then
    local about = cjson.encode({ts = tonumber(of('ts')) or 0, kind_t = of('kind_t'),
        author_t = of('author_t'), tags_t = listed('tags_t'), paths_t = listed('paths_t'),
        symbols_t = listed('symbols_t')})
    local done = redis.pcall('VADD', KEYS[1], 'FP32', of(ARGV[1]), ARGV[i], 'NOQUANT',
        'SETATTR', about)
    if type(done) == 'table' and done.err then
      if not string.find(string.lower(done.err), 'dimension') then return done end
      refused = refused + 1
      if redis.call('TYPE', KEYS[1]).ok ~= 'none' then redis.call('VREM', KEYS[1], ARGV[i]) end
    end
  elseif redis.call('TYPE', KEYS[1]).ok ~= 'none' then
    redis.call('VREM', KEYS[1], ARGV[i])
  end
end
return refused
"""


@dataclass(frozen=True, slots=True)
class Index:
    """A search index on the server. `share` (0 to 1) says how far it is built.

    `notes` counts what it holds, `failures` the notes that the server could not index.
    """

    name: str
    algorithm: Algorithm
    share: float = 0.0
    notes: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """One search. `project` None means all of the team; `vector` None means words alone.

    `vector` holds the bytes of float32 numbers; `filters.since` is a time of ISO 8601.
    """

    terms: Sequence[str] = ()
    vector: bytes | None = None
    project: str | None = None
    filters: Filters = field(default_factory=Filters)
    author: str | None = None
    limit: int = 10


@dataclass(frozen=True, slots=True)
class Found:
    """What a search brought, best first: each note with its score.

    `refused` counts what stood in the index and was no note, or not the one it claimed to be.
    """

    notes: tuple[tuple[Remote, float], ...]
    mode: Mode
    refused: int = 0


@dataclass(frozen=True, slots=True)
class TeamHit:
    """A note of the team's Redis, as it is there: its project by identity and by name."""

    project: str
    name: str
    note: Note
    hit: Hit


@dataclass(frozen=True, slots=True)
class TeamResult:
    """Hits, best first. `mode` is what really ran, `refused` as in `Found`."""

    query: str
    mode: Mode
    hits: tuple[TeamHit, ...]
    refused: int = 0
    notices: tuple[str, ...] = ()


def kind(can: Capabilities) -> Capability:
    """Return how notes can be searched on a server, in words for people.

    The nodes of a cluster answer from their own part of a search index, which would look like a
    small memory; a project's vector set is in one piece there.
    """
    if can.search and not can.cluster:
        return "search"
    return "vector sets" if can.vector_sets else "replication only"


class TeamSearch:
    """Searches of the team's notes on the server itself. Use it from one thread, close it after."""

    def __init__(self, settings: Settings, embedder: Embedder | None) -> None:
        self._settings = settings
        self._embedder = embedder
        self._url = settings.redis_url
        self._client: Client | None = None
        self._can: Capabilities | None = None

    def __enter__(self) -> TeamSearch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; a second call does nothing."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def search(
        self,
        query: str,
        identity: str | None,
        filters: Filters | None = None,
        *,
        author: str | None = None,
        limit: int = 10,
    ) -> TeamResult:
        """Find notes of the project `identity`, or with None of all projects of the team.

        The freshness of every hit is None: the notes were compared with no checkout.

        Raises:
            InvalidInput: The query is empty or a filter makes no sense.
            TeamUnavailable: The server cannot be reached, or cannot search.
        """
        filters = filters or Filters()
        _check(filters, limit)
        # what is asked for leaves this machine, and servers log slow queries
        query = redact(query).text[:MOST_QUERY]
        terms = _searchable(query)
        vector, notices = self._vector(query)
        asked = Asked(terms, vector, identity, filters, author, limit)
        with translated(self._url):
            client, can = self._connected()
            found, more = self._found(client, can, asked)
            if not found.notes and identity is not None:
                more += _notices_on_project(client, self._settings, identity)
        notices += more
        if found.refused:
            notices.append(
                f"{found.refused} entries of the shared index were left out: they are no notes "
                "that this version can read, or not of the project that they claim."
            )
        hits = tuple(_team_hit(remote, score) for remote, score in found.notes)
        if hits:
            notices.append(NOT_COMPARED)
        return TeamResult(query, found.mode, hits, found.refused, tuple(notices))

    def projects(self) -> dict[str, str]:
        """Return the projects of which the team has notes: their names by their identities.

        Raises:
            TeamUnavailable: The server cannot be reached or refuses.
        """
        with translated(self._url):
            return _projects(self._connected()[0], self._settings)

    def identity_of(self, wanted: str) -> str:
        """Return the identity of the project that is meant: it, its name or its last part.

        Raises:
            NotFound: The team has no notes of such a project.
            InvalidInput: Several projects could be meant.
            TeamUnavailable: The server cannot be reached or refuses.
        """
        with translated(self._url):
            client, _ = self._connected()
            if client.scard(Keys.of(self._settings, wanted).ids):
                return wanted
            known = _projects(client, self._settings)
        meant = [
            identity
            for identity, name in known.items()
            if wanted == name or identity.endswith(f"/{wanted}")
        ]
        if not meant:
            raise NotFound(
                f"The team has no notes of a project {one_line(wanted)!r}.",
                hint="Leave the project out to search all of them.",
                similar=tuple(difflib.get_close_matches(wanted, [*known, *known.values()], n=3)),
            )
        if len(meant) > 1:
            raise InvalidInput(
                f"{one_line(wanted)!r} could be any of {len(meant)} projects.",
                hint="Give one in full.",
                similar=tuple(sorted(meant)[:_MOST_NAMED]),
            )
        return meant[0]

    def _connected(self) -> tuple[Client, Capabilities]:
        if self._client is None:
            self._client = connect(self._settings)
        if self._can is None:
            self._can = capabilities(self._client, self._settings.redis_prefix)
        return self._client, self._can

    def _vector(self, query: str) -> tuple[bytes | None, list[str]]:
        if self._embedder is None:
            return None, ["No embedder is set: words only."]
        try:
            vector = self._embedder.embed_query(query)
        except EmbedderUnavailable as error:
            return None, [f"Words only: {error.message} {error.hint}".strip()]
        return checked_vector(vector.tobytes(), self._embedder.dimension), []

    def _found(self, client: Client, can: Capabilities, asked: Asked) -> tuple[Found, list[str]]:
        way = kind(can)
        if way == "search":
            return self._in_index(client, can, asked)
        if way == "replication only":
            raise TeamUnavailable(
                f"The server {shown_url(self._url)} only replicates: it cannot search.",
                hint="Use Redis 8, or a server with its search module; your own searches find "
                "replicated notes all the same.",
                retryable=False,
            )
        if self._embedder is None or asked.vector is None:
            raise TeamUnavailable(
                f"The server {shown_url(self._url)} finds notes by meaning alone, and there is "
                "no model here to ask with.",
                hint=_MODEL_HINT,
                retryable=False,
            )
        found = search_set(client, self._settings, self._embedder.fingerprint, asked)
        said = (
            "This server has no index of words: it finds notes by meaning alone, and only those "
            "that were embedded with this machine's model."
        )
        return found, [said]

    def _in_index(self, client: Client, can: Capabilities, asked: Asked) -> tuple[Found, list[str]]:
        fingerprint = self._embedder.fingerprint if self._embedder else ""
        dimension = self._embedder.dimension if self._embedder else 0
        for last in (False, True):
            index = ensure(client, self._settings, can, fingerprint, dimension)
            assert index is not None  # noqa: S101 - this server searches
            try:
                found = search(client, self._settings, index, fingerprint, asked)
            except redis.ResponseError as error:
                if last or not _is_missing(error):
                    raise
                continue  # another machine replaced it in this moment
            return found, _notices_on(index)
        raise AssertionError


# The index


def ensure(
    client: Client, settings: Settings, can: Capabilities, fingerprint: str, dimension: int
) -> Index | None:
    """Return the index to search for one embedder, created where absent; None if none can be.

    An index that is to replace another (of another algorithm or an earlier schema) is built beside
    it, and the old one is dropped once the new one is complete. All machines of a team should have
    the same `redis_index`.

    Args:
        client: An open connection.
        settings: `redis_index` chooses the algorithm.
        can: What the server can do.
        fingerprint: Of the embedder; "" for an index of words alone.
        dimension: Of its vectors; 0 without an embedder.

    Raises:
        redis.RedisError: As the server gives it; callers translate it.
    """
    if kind(can) != "search":
        return None
    base = index_name(settings, fingerprint)
    names = _index_names(client)
    known = {
        algorithm: _inspected(client, _full_name(base, algorithm), algorithm)
        for algorithm in _algorithms(fingerprint)
        if _full_name(base, algorithm) in names
    }
    wanted = _wanted(settings.redis_index, fingerprint, known)
    if wanted not in known:
        known[wanted] = _create(client, settings, base, wanted, fingerprint, dimension)
    index = known.pop(wanted)
    if index.share < 1.0:
        return max([index, *known.values()], key=lambda one: one.share)
    outdated = {name for name in names if _is_earlier(name, base)}
    for name in outdated | {other.name for other in known.values()}:
        _drop(client, name)
    return index


def _algorithms(fingerprint: str) -> tuple[Algorithm, ...]:
    return ("flat", "hnsw") if fingerprint else ("words",)


def _full_name(base: str, algorithm: Algorithm) -> str:
    return f"{base}:{SCHEMA}:{algorithm}"


def _is_earlier(name: str, base: str) -> bool:
    """Tell whether an index is one of ours with an earlier schema."""
    schema = name.removeprefix(f"{base}:").partition(":")[0]
    return name.startswith(f"{base}:") and schema.isdecimal() and int(schema) < SCHEMA


def _wanted(setting: str, fingerprint: str, known: Mapping[Algorithm, Index]) -> Algorithm:
    if not fingerprint:
        return "words"
    if setting == "flat":
        return "flat"
    if setting == "hnsw":
        return "hnsw"
    most = max((index.notes for index in known.values()), default=0)
    # a graph stays, even if notes become fewer: nothing is built to and fro
    return "hnsw" if "hnsw" in known or most > FLAT_NOTES else "flat"


def _index_names(client: Client) -> set[str]:
    names = client.execute_command("FT._LIST")  # type: ignore[no-untyped-call]
    return {name.decode("utf-8", "replace") for name in names}


def _inspected(client: Client, name: str, algorithm: Algorithm) -> Index:
    try:
        facts: dict[str, Any] = client.ft(name).info()  # type: ignore[no-untyped-call]
    except redis.ResponseError as error:
        if not _is_missing(error):
            raise
        return Index(name, algorithm)  # dropped in this moment: a search makes it anew
    return Index(
        name,
        algorithm,
        share=float(facts.get("percent_indexed", 1.0)),
        notes=int(facts["num_docs"]),
        failures=int(facts.get("hash_indexing_failures", 0)),
    )


def _create(
    client: Client,
    settings: Settings,
    base: str,
    algorithm: Algorithm,
    fingerprint: str,
    dimension: int,
) -> Index:
    name = _full_name(base, algorithm)
    definition = IndexDefinition(  # type: ignore[no-untyped-call]
        prefix=[note_prefix(settings)], index_type=IndexType.HASH
    )
    try:
        client.ft(name).create_index(
            _fields(algorithm, fingerprint, dimension), definition=definition, stopwords=[]
        )
    except redis.ResponseError as error:
        if "already exists" not in str(error).lower():  # another machine was first
            raise
    return _inspected(client, name, algorithm)


def _fields(algorithm: Algorithm, fingerprint: str, dimension: int) -> list[Field]:
    tags = ("project_t", "kind_t", "author_t", "tags_t", "paths_t", "symbols_t", "living")
    fields: list[Field] = [TagField(name) for name in tags]
    fields += [NumericField("ts"), TextField(WORDS_FIELD)]
    if algorithm != "words":
        shape = {"TYPE": "FLOAT32", "DIM": dimension, "DISTANCE_METRIC": "COSINE"}
        if algorithm == "hnsw":
            shape |= HNSW
        fields.append(VectorField(vector_field(fingerprint), algorithm.upper(), shape))
    return fields


def _drop(client: Client, name: str) -> None:
    """Drop an index; the notes stay."""
    try:
        client.ft(name).dropindex(delete_documents=False)
    except redis.ResponseError as error:
        if not _is_missing(error):
            raise


def _is_missing(error: redis.ResponseError) -> bool:
    said = str(error).lower()
    return "no such index" in said or "unknown index name" in said


def _notices_on(index: Index) -> list[str]:
    notices = []
    if index.share < 1.0:
        notices.append(
            f"The shared index is still being built ({index.share:.0%}): notes may be missing. "
            "Search again in a moment."
        )
    if index.failures:
        notices.append(
            f"{index.failures} entries could not be indexed by the server and are not found here: "
            "they are malformed. Whoever wrote them should write them again."
        )
    return notices


# Searching the index


def search(
    client: Client, settings: Settings, index: Index, fingerprint: str, asked: Asked
) -> Found:
    """Search an index by words and by meaning, fused by the ranks in both lists.

    Raises:
        InvalidInput: The time of a filter cannot be read.
        redis.RedisError: As the server gives it; callers translate it.
    """
    condition = _condition(asked)
    lists = []
    if asked.terms:
        lists.append(_by_words(client, index, condition, asked.terms))
    by_meaning = asked.vector is not None and index.algorithm != "words"
    if asked.vector is not None and by_meaning:
        lists.append(_by_meaning(client, index, condition, vector_field(fingerprint), asked.vector))
    mode: Mode = "lexical" if not by_meaning else "hybrid" if asked.terms else "vector"
    notes, refused = _shown_of(client, settings, _fused(lists), asked)
    return Found(notes, mode, refused)


def _condition(asked: Asked) -> str:
    """Return the filters in the syntax of FT.SEARCH; texts are in it as hex digits only."""
    filters = asked.filters
    tags = {
        "project_t": asked.project,
        "kind_t": filters.kind,
        "author_t": asked.author,
        "tags_t": filters.tag and filters.tag.lower(),
        "paths_t": filters.path and filters.path.rstrip("/"),
        "symbols_t": filters.symbol,
    }
    clauses = ["@living:{1}"]
    clauses += [f"@{name}:{{{hashed_tag(text)}}}" for name, text in tags.items() if text]
    if filters.since is not None:
        clauses.append(f"@ts:[{_milliseconds(filters.since)} +inf]")
    return " ".join(clauses)


def _by_words(
    client: Client, index: Index, condition: str, terms: Sequence[str]
) -> list[tuple[str, float]]:
    """Return (key, score) of the notes with these terms, best first.

    The terms go as parameters: whatever stands in them is never read as syntax.
    """
    named = {f"w{number}": term for number, term in enumerate(terms)}
    anything = "|".join(f"${name}" for name in named)
    query = _query(f"{condition} @{WORDS_FIELD}:({anything})")
    query = query.no_content().with_scores().scorer("BM25STD")
    found = client.ft(index.name).search(query, query_params=dict(named)).docs
    return sorted(((doc.id, float(doc.score)) for doc in found), key=_best_first)


def _by_meaning(
    client: Client, index: Index, condition: str, vector_name: str, vector: bytes
) -> list[tuple[str, float]]:
    """Return (key, cosine) of the nearest notes, best first; sorted here: not all servers do."""
    query = _query(f"({condition})=>[KNN {CANDIDATES} @{vector_name} $vector AS distance]")
    query = query.return_field("distance")
    found = client.ft(index.name).search(query, query_params={"vector": vector}).docs
    return sorted(((doc.id, 1.0 - float(doc.distance)) for doc in found), key=_best_first)


def _query(text: str) -> Query:
    """Return a query that ends in an error rather than in half an answer when it takes long."""
    return Query(text).paging(0, CANDIDATES).timeout(0).dialect(2)


def _best_first(pair: tuple[str, float]) -> tuple[float, str]:
    return -pair[1], pair[0]


def _fused(lists: Sequence[Sequence[tuple[str, float]]]) -> list[tuple[str, float]]:
    keys = list(dict.fromkeys(key for ranked in lists for key, _ in ranked))
    numbers = {key: number for number, key in enumerate(keys)}
    scores = fuse([[numbers[key] for key, _ in ranked] for ranked in lists])
    return sorted(((keys[number], score) for number, score in scores.items()), key=_best_first)


# Vector sets, where there is no search index


def add_vectors(
    client: Client, settings: Settings, notes: Iterable[Mapping[str, str | bytes]]
) -> int:
    """Bring the vector sets of projects up to date with the hashes of notes just written.

    What goes into a set is read from the hash on the server, in the same step: whoever comes last
    leaves the set as the hash is, in whatever order machines come.

    Args:
        client: An open connection.
        settings: Name the keys.
        notes: What was written, at least `project`, `id`, `supersedes` and the vectors.

    Returns:
        How many vectors the server refused because they have another dimension than the others.

    Raises:
        redis.RedisError: As the server gives it; callers translate it.
    """
    of_project: dict[str, list[Mapping[str, str | bytes]]] = {}
    for fields in notes:
        of_project.setdefault(_text(fields["project"]), []).append(fields)
    refused = 0
    for project, own in of_project.items():
        keys = Keys.of(settings, project)
        spaces = {name.removeprefix("v_") for fields in own for name in fields if _is_vector(name)}
        if spaces:
            client.sadd(_spaces_key(keys), *sorted(spaces))
        known: Any = client.smembers(_spaces_key(keys))
        spaces |= {name for space in known if _SPACE.fullmatch(name := _text(space))}
        ids = {_text(fields[name]) for fields in own for name in ("id", "supersedes")} - {""}
        for part in _parts(sorted(ids), _NOTES_AT_ONCE):
            for space in sorted(spaces):
                places = [keys.vectors(space), *(keys.note(id_) for id_ in part)]
                refused += int(run_script(client, _REFRESH, places, [f"v_{space}", *part]))
    return refused


def _spaces_key(keys: Keys) -> str:
    """Return the key of the SET of the embedders that have a vector set of a project."""
    return keys.named("spaces")


def _is_vector(name: str) -> bool:
    return name.startswith("v_")


def _parts(items: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]


def search_set(client: Client, settings: Settings, fingerprint: str, asked: Asked) -> Found:
    """Search a project's vector set by meaning.

    Raises:
        TeamUnavailable: All projects were asked for; each has a set of its own.
        InvalidInput: The time of a filter cannot be read.
        redis.RedisError: As the server gives it; callers translate it.
    """
    if asked.project is None:
        raise TeamUnavailable(
            "This server can search one project at a time only.",
            hint="Name the project.",
            retryable=False,
        )
    if asked.vector is None:
        raise ValueError("a vector set is searched by a vector")
    keys = Keys.of(settings, asked.project)
    key = keys.vectors(short_fingerprint(fingerprint))
    held = int(client.vset().vcard(key))
    count, refused = CANDIDATES, 0
    notes: tuple[tuple[Remote, float], ...] = ()
    while held:
        near = _nearest_in_set(client, key, asked, asked.vector, count=count, held=held)
        ranked = [(keys.note(_text(id_)), score) for id_, score in near.items()]
        notes, refused = _shown_of(
            client, settings, ranked, asked, having=vector_field(fingerprint)
        )
        # what was forgotten by a machine with another model still stands in the set
        if len(notes) >= asked.limit or len(near) < count:
            break
        count *= 4
    return Found(notes, "vector", refused)


def _nearest_in_set(
    client: Client, key: str, asked: Asked, vector: bytes, *, count: int, held: int
) -> dict[bytes, float]:
    """Return similarities by id, best first."""
    exact = held <= EXACT_SCAN
    found: Any = client.vset().vsim(
        key,
        vector,
        with_scores=True,
        count=count,
        filter=_expression(asked),
        filter_ef=None if exact else str(held),
        ef=None if exact else max(count, 500),
        truth=exact,
    )
    return dict(found or {})


def _expression(asked: Asked) -> str | None:
    """Return the filters in the syntax of VSIM; texts are in it as hex digits only."""
    filters = asked.filters
    clauses = []
    for name, text in (("kind_t", filters.kind), ("author_t", asked.author)):
        if text:
            clauses.append(f'.{name} == "{hashed_tag(text)}"')
    for name, text in (
        ("tags_t", filters.tag and filters.tag.lower()),
        ("paths_t", filters.path and filters.path.rstrip("/")),
        ("symbols_t", filters.symbol),
    ):
        if text:
            clauses.append(f'"{hashed_tag(text)}" in .{name}')
    if filters.since is not None:
        clauses.append(f".ts >= {_milliseconds(filters.since)}")
    return " and ".join(clauses) or None


# What both ways share


def _projects(client: Client, settings: Settings) -> dict[str, str]:
    """Return name by identity, as one note of each project tells them."""
    found = {}
    # a team's name has no character that a pattern gives a meaning to
    pattern = Keys(settings.redis_prefix, f"{{{settings.team}:*").ids
    for key in client.scan_iter(match=pattern, count=_SCANNED):
        place = _text(key).replace(":ids:", ":note:", 1)
        some: Any = client.sscan(key, count=1)[1]
        notes = [f"{place}:{_text(id_)}" for id_ in some[:_MOST_NAMED]]
        for note, fields in zip(notes, read_hashes(client, notes, MAX_BYTES), strict=True):
            remote = _believed(settings, note, fields, None)
            if remote is not None:
                found[one_line(remote.identity)] = one_line(remote.name)
                break
    return found


def _notices_on_project(client: Client, settings: Settings, project: str) -> list[str]:
    """Say when nothing is found because nothing is there: that may be a wrong name."""
    if client.scard(Keys.of(settings, project).ids):
        return []
    return [f"The team has no notes of {one_line(project)} on this server."]


def checked_vector(vector: bytes, dimension: int) -> bytes:
    """Return a vector as it is, or raise ValueError: servers drop such a note in silence."""
    if len(vector) != dimension * _FLOAT:
        raise ValueError(f"a vector of {len(vector)} bytes has no {dimension} dimensions")
    return vector


def _shown_of(
    client: Client,
    settings: Settings,
    ranked: Sequence[tuple[str, float]],
    asked: Asked,
    *,
    having: str = "",
) -> tuple[tuple[tuple[Remote, float], ...], int]:
    """Read notes by their keys, best first, until enough of them may be shown.

    Returns them with their scores, and how many were refused. With `having` only those count whose
    hash has this field.
    """
    shown: list[tuple[Remote, float]] = []
    refused = 0
    for start in range(0, len(ranked), asked.limit):
        part = ranked[start : start + asked.limit]
        hashes = read_hashes(client, [key for key, _ in part], MAX_BYTES)
        for (key, score), fields in zip(part, hashes, strict=True):
            if fields == "" or (having and isinstance(fields, dict) and having not in fields):
                continue  # gone since it was indexed
            remote = _believed(settings, key, fields, asked.project)
            if remote is None:
                refused += 1
            elif remote.note.deleted_at is None:
                shown.append((remote, score))
        if len(shown) >= asked.limit:
            break
    return tuple(shown[: asked.limit]), refused


def _believed(
    settings: Settings, key: str, fields: Mapping[str, bytes] | str, project: str | None
) -> Remote | None:
    """Return the note of a hash unless it is malformed, or of another project than it claims."""
    if isinstance(fields, str):
        return None
    try:
        remote = from_fields(fields)
    except ValueError:
        return None
    claimed = Keys.of(settings, remote.identity).note(remote.note.id)
    return remote if claimed == key and project in (None, remote.identity) else None


def _team_hit(remote: Remote, score: float) -> TeamHit:
    note = remote.note
    first = note.anchors[0] if note.anchors else None
    hit = Hit(
        id=note.id,
        stratum="notes",
        kind=note.kind,
        title=one_line(first.symbol or "") if first else "",
        text=one_line(note.text),
        path=one_line(first.path) if first else None,
        start_line=first.start_line if first else None,
        end_line=first.end_line if first else None,
        score=round(score, 6),
        origin=one_line(origin(note)),
        tags=note.tags,
    )
    return TeamHit(one_line(remote.identity), one_line(remote.name), note, hit)


def _searchable(query: str) -> list[str]:
    """Return the terms to look for, parted at dots as the server parts what it indexes."""
    terms = query_terms(query)
    if not terms:
        raise InvalidInput(
            "The query has no word to look for.", hint="Say in a few words what you look for."
        )
    parts = (part for term in terms for part in term.split("."))
    return list(dict.fromkeys(part for part in parts if part))[:MOST_TERMS]


def _check(filters: Filters, limit: int) -> None:
    if not 1 <= limit <= MOST_HITS:
        raise InvalidInput(f"limit must be from 1 to {MOST_HITS}, but is {limit}.")
    if filters.stratum not in (None, "notes"):
        raise InvalidInput(
            "A team shares notes only.", hint="Leave the stratum out, or say `notes`."
        )


def _milliseconds(since: str) -> int:
    try:
        when = datetime.fromisoformat(since)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return math.floor(when.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{since!r} is no time.", hint="Write 2026-01-31 or 2026-01-31T09:30."
        ) from None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
