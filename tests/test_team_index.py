"""The shared index on real servers: what is found, what never is, and what is said about it."""

from __future__ import annotations

import dataclasses
import itertools
import random
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stratum import team_index
from stratum.config import Settings, load
from stratum.embedder import BundledEmbedder, Embedder, HashingEmbedder
from stratum.errors import InvalidInput, NotFound, TeamUnavailable
from stratum.models import Anchor, Filters, Note
from stratum.redis_client import Capabilities, Keys, capabilities, connect, index_name, translated
from stratum.stamps import stamp_of
from stratum.team_index import Asked, TeamResult, TeamSearch, add_vectors, ensure, kind
from stratum.terms import query_terms
from stratum.wire import fields_of, vector_field
from tests.redis_server import RedisServer
from tests.test_deploy import VECTOR_SETS

HOME = "abcdefghijkl"
SHOP, BANK, ODD = "github.com/acme/shop", "github.com/acme/bank", "path:/srv/Ödd, {folder} @x"
PROJECTS = (SHOP, BANK, ODD)
CAN = Capabilities(search=True, vector_sets=True, cluster=False, version="")
KINDS = ("fact", "decision", "gotcha")
AUTHORS = ("Ada", "ada", "Bob, the builder", "Zoë {x}|y")
TAGS = ("auth", "größe", "two words", "a,b", "-neg", "日本", "{x}", "auth,b")
PATHS = ("shop/cart.py", "shop/Cart.py", "shop/a-5.py", "web/src/päth, x.js", "shop2/cart.py", "s")
SYMBOLS = ("Cart.total", "Cart.add.total", "total", "Till.open", "", "Größe.€")
MONTHS = ("2026-01", "2026-02", "2026-03")


def search_settings(url: str, home: Path, **other: str) -> Settings:
    """Settings of a machine that knows the team's Redis."""
    named = {f"STRATUM_{name.upper()}": value for name, value in other.items()}
    return load(
        {
            "STRATUM_HOME": str(home),
            "STRATUM_EMBED_MODEL": "hashing",
            "STRATUM_REDIS_URL": url,
            **named,
        }
    )


def make_note(number: int, text: str, **other: object) -> Note:
    """A living note of the team with the id of its number."""
    digits = "abcdefghijklmnopqrstuvwxyz234567"
    id_ = "".join(digits[(number >> 5 * place) & 31] for place in range(12))
    plain = Note(
        id=id_, text=text, kind="fact", scope="team", trust="proposed", tags=(), anchors=(),
        author="Ada", agent="", commit=None, branch=None, created_at="2026-01-01T00:00:00.000Z",
        updated_at="2026-01-01T00:00:00.000Z", machine="box",
    )  # fmt: skip
    return dataclasses.replace(plain, **other)  # type: ignore[arg-type]


def put(
    client: redis.Redis,
    settings: Settings,
    project: str,
    notes: Iterable[Note],
    embedder: Embedder | None,
    *,
    sets: bool = False,
) -> None:
    """Write notes as a machine pushes them; with `sets` to the vector set, too."""
    notes = list(notes)
    keys = Keys.of(settings, project)
    vectors = embedder.embed_documents([note.text for note in notes]) if embedder else []
    written = []
    with client.pipeline(transaction=False) as pipe:
        for number, note in enumerate(notes):
            own = {embedder.fingerprint: vectors[number].tobytes()} if embedder else {}
            fields = fields_of(
                project, "name", note, stamp=stamp_of(note.updated_at, HOME), parent="",
                machine="box", vectors=own,
            )  # fmt: skip
            pipe.delete(keys.note(note.id))
            pipe.sadd(keys.ids, note.id)
            pipe.hset(keys.note(note.id), mapping=fields)  # type: ignore[arg-type]
            written.append(fields)
        pipe.execute()
    if sets:
        assert add_vectors(client, settings, written) == 0


def ids(result: TeamResult) -> list[str]:
    return [found.note.id for found in result.hits]


# --- every filter, alone and combined, against an oracle ---------------------------------------


@dataclasses.dataclass(frozen=True)
class Corpus:
    settings: Settings
    notes: dict[str, list[Note]]
    search: TeamSearch
    sets: bool


def random_notes(count: int, rng: random.Random, numbers: Iterator[int]) -> list[Note]:
    notes = []
    for _ in range(count):
        anchors = tuple(
            Anchor(path, rng.choice(SYMBOLS) or None)
            for path in rng.sample(PATHS, rng.randint(0, 2))
        )
        at = f"{rng.choice(MONTHS)}-{rng.randint(1, 28):02}T00:00:00.000Z"
        gone = rng.random() < 0.15
        notes.append(
            make_note(
                next(numbers),
                f"everywhere {rng.choice(('cart', 'till', 'parcel'))} {rng.random()}",
                kind=rng.choice(KINDS),
                author=rng.choice(AUTHORS),
                tags=tuple(sorted(set(rng.sample(TAGS, rng.randint(0, 3))))),
                anchors=anchors,
                created_at=at,
                updated_at=at,
                deleted_at=at if gone else None,
            )
        )
    return notes


@pytest.fixture(scope="module", params=["search", "vector sets"])
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    sets = request.param == "vector sets"
    rng, numbers, embedder = random.Random(6), itertools.count(), HashingEmbedder()
    with RedisServer(search=not sets) as server:
        settings = search_settings(server.url, tmp_path_factory.mktemp("team"))
        notes = {project: random_notes(80, rng, numbers) for project in PROJECTS}
        with server.client() as client:
            for project, own in notes.items():
                # half of them before there is an index, half of them after
                put(client, settings, project, own[:40], embedder, sets=sets)
                if not sets:
                    ensure(client, settings, CAN, embedder.fingerprint, embedder.dimension)
                put(client, settings, project, own[40:], embedder, sets=sets)
        with TeamSearch(settings, embedder) as search:
            if not sets:
                wait_until_built(search)
                wait_until_all_are_in(settings, embedder, sum(map(len, notes.values())))
            yield Corpus(settings, notes, search, sets)


def wait_until_all_are_in(settings: Settings, embedder: HashingEmbedder, notes: int) -> None:
    """Wait for the server, which says that it has looked through what was there a moment early."""
    until = time.monotonic() + 60
    with closing(connect(settings)) as client:
        while True:
            index = ensure(client, settings, CAN, embedder.fingerprint, embedder.dimension)
            if index is not None and index.notes >= notes:
                return
            assert time.monotonic() < until
            time.sleep(0.02)


def wait_until_built(search: TeamSearch) -> None:
    until = time.monotonic() + 60
    while any("still being built" in said for said in search.search("x", None).notices):
        assert time.monotonic() < until
        time.sleep(0.02)


def passes(note: Note, filters: Filters, author: str | None) -> bool:
    """The filters in plain words, without hashes."""
    path, symbol = filters.path, filters.symbol
    return (
        note.deleted_at is None
        and (filters.kind is None or note.kind == filters.kind)
        and (author is None or note.author == author)
        and (filters.tag is None or filters.tag.lower() in note.tags)
        and (filters.since is None or note.updated_at >= filters.since)
        and (
            path is None
            or any(a.path == path or a.path.startswith(f"{path}/") for a in note.anchors)
        )
        and (
            symbol is None
            or any(
                a.symbol == symbol or (a.symbol or "").endswith(f".{symbol}") for a in note.anchors
            )
        )
    )


def some(values: Iterable[str]) -> st.SearchStrategy[str | None]:
    return st.none() | st.sampled_from(sorted(values))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("kind", KINDS),
        ("author", AUTHORS),
        ("tag", (*TAGS, "AUTH", "aut", "b")),
        ("path", (*PATHS, "shop", "web", "web/src", "sho", "shop/cart", "SHOP/cart.py")),
        ("symbol", ("Cart.total", "total", "add.total", "Till.open", "open", "otal", "Größe.€")),
        ("since", ("2026-01-01", "2026-02-15T00:00:00.000Z", "2026-03-29", "2027-01-01")),
    ],
)
def test_one_filter_lets_through_exactly_what_it_should(
    corpus: Corpus, name: str, values: tuple[str, ...]
) -> None:
    for project, value in itertools.product(PROJECTS, values):
        author = value if name == "author" else None
        filters = Filters() if name == "author" else Filters(**{name: value})
        found = corpus.search.search("everywhere", project, filters, author=author, limit=100)
        wanted = {note.id for note in corpus.notes[project] if passes(note, filters, author)}
        assert set(ids(found)) == wanted, (project, name, value)
        assert len(ids(found)) == len(wanted)


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    project=st.sampled_from(PROJECTS),
    filters=st.builds(
        Filters,
        path=some((*PATHS, "shop", "web")),
        symbol=some(filter(None, SYMBOLS)),
        kind=some(KINDS),
        since=some(("2026-02-01T00:00:00.000Z", "2026-03-10T00:00:00.000Z")),
        tag=some(TAGS),
    ),
    author=some(AUTHORS),
)
def test_filters_combined_let_through_exactly_what_they_should(
    corpus: Corpus, project: str, filters: Filters, author: str | None
) -> None:
    found = corpus.search.search("everywhere", project, filters, author=author, limit=100)
    wanted = {note.id for note in corpus.notes[project] if passes(note, filters, author)}
    assert set(ids(found)) == wanted


def test_all_projects_of_the_team_are_searched_at_once(corpus: Corpus) -> None:
    filters = Filters(tag="a,b", kind="gotcha")
    if corpus.sets:
        with pytest.raises(TeamUnavailable, match="one project at a time"):
            corpus.search.search("everywhere", None, filters)
        return
    found = corpus.search.search("everywhere", None, filters, limit=100)
    wanted = {
        (project, note.id)
        for project, notes in corpus.notes.items()
        for note in notes
        if passes(note, filters, None)
    }
    assert {(hit.project, hit.note.id) for hit in found.hits} == wanted
    assert len({project for project, _ in wanted}) > 1


def test_a_hit_says_who_wrote_it_and_that_nobody_compared_it(corpus: Corpus) -> None:
    found = corpus.search.search("everywhere", SHOP, limit=5)
    assert len(found.hits) == 5
    for hit in found.hits:
        assert hit.hit.freshness is None
        assert hit.project == SHOP
        assert hit.hit.origin.startswith(hit.note.author)
        assert "on box" in hit.hit.origin
        assert hit.hit.origin.endswith("proposed")
    assert any("not compared with a checkout" in said for said in found.notices)
    assert found.mode == ("vector" if corpus.sets else "hybrid")
    assert any("by meaning alone" in said for said in found.notices) == corpus.sets


@pytest.mark.parametrize(
    ("query", "filters", "limit"),
    [
        ("", None, 10),
        (" ?! ", None, 10),
        ("cart", Filters(stratum="code"), 10),
        ("cart", Filters(since="soon"), 10),
        ("cart", None, 0),
        ("cart", None, 101),
    ],
)
def test_senseless_questions_are_refused(
    corpus: Corpus, query: str, filters: Filters | None, limit: int
) -> None:
    with pytest.raises(InvalidInput):
        corpus.search.search(query, SHOP, filters, limit=limit)


HOSTILE = st.text(
    alphabet=st.sampled_from("(){}[]@|-~*%\"'\\$:=>;,.&#! abk_t1é"), min_size=1, max_size=60
)


@hypothesis_settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(query=HOSTILE | st.text(min_size=1, max_size=80))
@example("cart)|(@project_t:{*}")
@example("*")
@example("everywhere) | @living:{0}")
@example("-everywhere")
@example("%%everywhere%% $w0 $w1 $vector")
@example("inf nan -inf 1e400 0x10 NULL")
@example("x=>[KNN 10 @v $v] SORTBY ts LIMIT 0 1000")
def test_no_query_breaks_out_of_the_filter(corpus: Corpus, query: str) -> None:
    living = {note.id for note in corpus.notes[SHOP] if passes(note, Filters(kind="fact"), None)}
    if not query_terms(query):
        with pytest.raises(InvalidInput):
            corpus.search.search(query, SHOP)
        return
    found = corpus.search.search(query, SHOP, Filters(kind="fact"), limit=100)
    assert set(ids(found)) <= living
    assert found.refused == 0


# --- words and meaning -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as one:
        yield one


@pytest.fixture
def own(server: RedisServer, tmp_path: Path) -> Iterator[tuple[Settings, redis.Redis]]:
    """A team of its own for one test, on a server with search."""
    client = server.client()
    client.flushall()
    yield search_settings(server.url, tmp_path), client
    client.close()


def settled(settings: Settings, embedder: Embedder | None) -> TeamSearch:
    search = TeamSearch(settings, embedder)
    wait_until_built(search)
    return search


@hypothesis_settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(min_size=1, max_size=60).filter(lambda text: text.strip() and "\0" not in text))
@example("get_queryset of django.db.models.Model: does is.in")
@example("購物車 über HTTPServer2 straße İstanbul ΣΊΣΥΦΟΣ ﬁ")
def test_every_term_of_a_note_finds_it(own: tuple[Settings, redis.Redis], text: str) -> None:
    settings, client = own
    note = make_note(1, text)
    put(client, settings, SHOP, [note], None)
    kept = client.hget(Keys.of(settings, SHOP).note(note.id), "text")
    assert kept is not None
    with settled(settings, None):
        index = ensure(client, settings, CAN, "", 0)
        assert index is not None
        for term in query_terms(kept.decode()):
            asked = Asked(terms=[part for part in term.split(".") if part], project=SHOP)
            found = team_index.search(client, settings, index, "", asked)
            assert [remote.note.id for remote, _ in found.notes] == [note.id], term


def test_a_note_without_vector_is_found_by_words_beside_one_with(
    own: tuple[Settings, redis.Redis],
) -> None:
    settings, client = own
    embedder = HashingEmbedder()
    put(client, settings, SHOP, [make_note(1, "expired sessions are deleted nightly")], embedder)
    put(client, settings, SHOP, [make_note(2, "sessions expire after a day")], None)
    with settled(settings, embedder) as search:
        found = search.search("expire sessions", SHOP)
        assert len(ids(found)) == 2
        assert found.mode == "hybrid"
    with settled(settings, None) as search:
        found = search.search("expire sessions", SHOP)
        assert len(ids(found)) == 2
        assert found.mode == "lexical"
        assert any("words only" in said for said in found.notices)


def test_two_embedders_do_not_mix(own: tuple[Settings, redis.Redis]) -> None:
    settings, client = own
    hashing, bundled = HashingEmbedder(), BundledEmbedder()
    put(client, settings, SHOP, [make_note(1, "the till counts coins")], hashing)
    put(client, settings, SHOP, [make_note(2, "money is summed up at the cash desk")], bundled)
    for embedder, near in ((hashing, make_note(1, "").id), (bundled, make_note(2, "").id)):
        index = ensure(client, settings, CAN, embedder.fingerprint, embedder.dimension)
        vector = embedder.embed_query("counting coins at the till").tobytes()
        with settled(settings, embedder):
            found = team_index.search(
                client, settings, index, embedder.fingerprint, Asked(vector=vector, project=SHOP)
            )
        assert found.mode == "vector"
        assert [remote.note.id for remote, _ in found.notes] == [near]
    assert len(client.execute_command("FT._LIST")) == 2


def test_a_forgotten_note_is_not_found_by_its_former_words_or_meaning(
    own: tuple[Settings, redis.Redis],
) -> None:
    settings, client = own
    embedder, at = HashingEmbedder(), "2026-02-01T00:00:00.000Z"
    note = make_note(1, "the till counts coins")
    put(client, settings, SHOP, [note], embedder)
    with settled(settings, embedder) as search:
        assert ids(search.search("till coins", SHOP)) == [note.id]
        forgotten = dataclasses.replace(note, text="", deleted_at=at, updated_at=at)
        put(client, settings, SHOP, [forgotten], embedder)
        assert ids(search.search("till coins", SHOP)) == []
        assert ids(search.search("till coins", None)) == []


def test_a_note_whose_place_another_took_is_not_found(
    own: tuple[Settings, redis.Redis],
) -> None:
    settings, client = own
    embedder = HashingEmbedder()
    notes = [make_note(1, "the till counts coins"), make_note(2, "the till counts notes, too")]
    put(client, settings, SHOP, notes, embedder)
    client.hset(Keys.of(settings, SHOP).note(notes[0].id), "living", "0")
    with settled(settings, embedder) as search:
        assert ids(search.search("the till counts coins", SHOP)) == [notes[1].id]


@pytest.mark.parametrize("algorithm", ["flat", "hnsw"])
def test_recall_against_an_exact_scan(server: RedisServer, tmp_path: Path, algorithm: str) -> None:
    settings = search_settings(server.url, tmp_path, redis_index=algorithm)
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(40, 256))
    rows = centres[rng.integers(0, 40, 2_000)] + 0.6 * rng.normal(size=(2_000, 256))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    fingerprint = "0123456789abcdef"
    with server.client() as client:
        client.flushall()
        with client.pipeline(transaction=False) as pipe:
            for number, row in enumerate(rows):
                note = make_note(number, f"note {number}")
                fields = fields_of(
                    SHOP, "shop", note, stamp=stamp_of(note.updated_at, HOME), parent="",
                machine="box", vectors={fingerprint: row.tobytes()},
                )  # fmt: skip
                pipe.hset(Keys.of(settings, SHOP).note(note.id), mapping=fields)  # type: ignore[arg-type]
            pipe.execute()
        until = time.monotonic() + 60
        while (index := ensure(client, settings, CAN, fingerprint, 256)).share < 1.0:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert index.algorithm == algorithm
        shares = []
        for row in rows[::50]:
            query = (row + 0.02 * rng.normal(size=256)).astype(np.float32)
            exact = {make_note(int(n), "").id for n in np.argsort(rows @ query)[::-1][:10]}
            asked = Asked(vector=query.tobytes(), project=SHOP)
            found = team_index.search(client, settings, index, fingerprint, asked)
            shares.append(len(exact & {remote.note.id for remote, _ in found.notes}) / 10)
    assert np.mean(shares) == 1.0 if algorithm == "flat" else np.mean(shares) >= 0.97


# --- the life of an index ----------------------------------------------------------------------


def names(client: redis.Redis) -> set[str]:
    return {name.decode() for name in client.execute_command("FT._LIST")}


def test_an_index_is_made_once_by_any_number_of_machines(
    own: tuple[Settings, redis.Redis],
) -> None:
    settings, client = own
    gate, failures = threading.Barrier(8), []

    def make() -> None:
        with connect(settings) as mine:
            gate.wait()
            try:
                ensure(mine, settings, CAN, "aa", 8)
            except redis.RedisError as error:
                failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert names(client) == {f"{index_name(settings, 'aa')}:{team_index.SCHEMA}:flat"}


def test_an_index_of_another_algorithm_or_schema_is_replaced_without_touching_notes(
    own: tuple[Settings, redis.Redis],
) -> None:
    settings, client = own
    embedder = HashingEmbedder()
    put(client, settings, SHOP, [make_note(n, f"note {n}") for n in range(20)], embedder)
    base = index_name(settings, embedder.fingerprint)
    client.execute_command("FT.CREATE", f"{base}:0:flat", "PREFIX", 1, "x", "SCHEMA", "a", "TAG")
    other = index_name(settings, "another")
    client.execute_command("FT.CREATE", f"{other}:0:flat", "PREFIX", 1, "x", "SCHEMA", "a", "TAG")
    for algorithm in ("flat", "hnsw", "flat"):
        chosen = dataclasses.replace(settings, redis_index=algorithm)
        with settled(chosen, embedder) as search:
            assert len(ids(search.search("note", SHOP, limit=50))) == 20
            wanted = {f"{base}:{team_index.SCHEMA}:{algorithm}", f"{other}:0:flat"}
            until = time.monotonic() + 60
            while names(client) != wanted:
                assert time.monotonic() < until
                assert len(ids(search.search("note", SHOP, limit=50))) == 20
    assert len(client.keys("stratum:note:*")) == 20


def test_auto_turns_to_a_graph_when_there_are_many_notes_and_says_while_it_is_built(
    own: tuple[Settings, redis.Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(team_index, "FLAT_NOTES", 1_500)
    settings, client = own
    embedder = HashingEmbedder()
    # the first index finds the notes there and cannot have read them all at once
    notes = [make_note(n, f"note {n} about {n % 7} carts") for n in range(2_000)]
    put(client, settings, SHOP, notes, embedder)
    with TeamSearch(settings, embedder) as search:
        wait_until_built(search)
        assert ensure(client, settings, CAN, embedder.fingerprint, 256).algorithm in (
            "flat",
            "hnsw",
        )
        until = time.monotonic() + 60
        seen = set()
        while not all(name.endswith("hnsw") for name in names(client)):
            # while the graph grows the complete old index answers
            assert len(ids(search.search("carts", SHOP, limit=100))) == 100
            seen |= names(client)
            assert time.monotonic() < until
        assert ensure(client, settings, CAN, embedder.fingerprint, 256).algorithm == "hnsw"
        assert len(ids(search.search("carts", SHOP, limit=100))) == 100
        # fewer notes, but not half of them: nothing is built to and fro
        gone = [Keys.of(settings, SHOP).note(note.id) for note in notes[:800]]
        client.delete(*gone)
        assert ensure(client, settings, CAN, embedder.fingerprint, 256).algorithm == "hnsw"


def test_a_first_index_that_is_not_complete_says_so(own: tuple[Settings, redis.Redis]) -> None:
    settings, client = own
    embedder = HashingEmbedder()
    settings = dataclasses.replace(settings, redis_index="hnsw")
    notes = [make_note(n, f"note {n} about {n % 7} carts") for n in range(3_000)]
    put(client, settings, SHOP, notes, embedder)
    with TeamSearch(settings, embedder) as search:
        found = search.search("carts", SHOP)
        assert any("still being built" in said for said in found.notices)
        wait_until_built(search)
        assert len(ids(search.search("carts", SHOP, limit=100))) == 100


def test_an_index_dropped_under_a_search_is_made_anew(
    own: tuple[Settings, redis.Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, client = own
    embedder = HashingEmbedder()
    put(client, settings, SHOP, [make_note(1, "the till counts coins")], embedder)
    with settled(settings, embedder) as search:
        for name in names(client):
            client.execute_command("FT.DROPINDEX", name)
        wait_until_built(search)
        assert len(ids(search.search("till", SHOP))) == 1
        # and between the look and the search
        real = team_index.ensure
        dropped = []

        def drop_after(*arguments: object) -> team_index.Index:
            index = real(*arguments)  # type: ignore[arg-type]
            if not dropped:
                dropped.append(index.name)
                client.execute_command("FT.DROPINDEX", index.name)
            return index

        monkeypatch.setattr(team_index, "ensure", drop_after)
        search.search("till", SHOP)
        assert dropped
        wait_until_built(search)
        assert len(ids(search.search("till", SHOP))) == 1


# --- projects that are not on this machine -----------------------------------------------------


def test_a_project_is_known_by_identity_name_or_last_part(
    own: tuple[Settings, redis.Redis],
) -> None:
    settings, client = own
    other = "gitlab.com/rival/shop"
    for number, project in enumerate((SHOP, BANK, other)):
        put(client, settings, project, [make_note(number, "the till counts coins")], None)
    # another team, an empty set, and one whose note lies about its project
    stranger = dataclasses.replace(settings, team="others")
    put(client, stranger, "github.com/others/own", [make_note(7, "till")], None)
    lie = client.hgetall(Keys.of(settings, SHOP).note(make_note(0, "").id))
    client.hset("stratum:note:{team:0123456789abcdef}:baaaaaaaaaaa", mapping=lie)
    client.sadd("stratum:ids:{team:0123456789abcdef}", "baaaaaaaaaaa")
    client.sadd(b"stratum:ids:{team:\xff\xfe}", b"\xff")
    with TeamSearch(settings, None) as search:
        assert search.projects() == {SHOP: "name", BANK: "name", other: "name"}
        assert search.identity_of(BANK) == BANK
        assert search.identity_of("bank") == BANK
        assert search.identity_of("rival/shop") == other
        with pytest.raises(InvalidInput) as raised:
            search.identity_of("shop")
        assert raised.value.similar == (SHOP, other)
        with pytest.raises(NotFound) as missing:
            search.identity_of("github.com/acme/shp")
        assert SHOP in missing.value.similar


def test_a_project_without_notes_is_told_from_one_where_nothing_is_found(
    own: tuple[Settings, redis.Redis],
) -> None:
    settings, client = own
    put(client, settings, SHOP, [make_note(1, "the till counts coins")], None)
    with settled(settings, None) as search:
        assert not any("has no notes" in said for said in search.search("parcel", SHOP).notices)
        assert any("has no notes" in said for said in search.search("parcel", BANK).notices)


# --- what must not be believed -----------------------------------------------------------------


def test_what_is_no_note_or_lies_about_its_project_is_left_out_and_counted(
    own: tuple[Settings, redis.Redis],
) -> None:
    settings, client = own
    embedder = HashingEmbedder()
    put(client, settings, SHOP, [make_note(1, "the till counts coins")], embedder)
    put(client, settings, BANK, [make_note(2, "the till counts coins")], embedder)
    keys, theirs = Keys.of(settings, SHOP), Keys.of(settings, BANK)
    real = client.hgetall(keys.note(make_note(1, "").id))
    foreign = client.hgetall(theirs.note(make_note(2, "").id))
    spoofed = {**foreign, b"project_t": real[b"project_t"]}
    # another project's note that claims to be found here, at its own place and at one of ours
    client.hset(theirs.note(make_note(2, "").id), "project_t", real[b"project_t"])
    client.hset(keys.note(make_note(3, "").id), mapping=spoofed)
    client.hset(keys.note(make_note(4, "").id), mapping=real)  # an id that is not the key's
    client.hset(keys.note("nonsense"), mapping={**real, b"stamp": b"9"})
    client.hset(keys.note(make_note(5, "").id), mapping={**real, b"anchors": b"\xff\xfe"})
    client.hset(keys.note(make_note(6, "").id), mapping={**real, b"more": b"x" * 1_000_000})
    with settled(settings, embedder) as search:
        found = search.search("till coins", SHOP)
        assert ids(found) == [make_note(1, "").id]
        assert found.refused == 6
        assert any(said.startswith("6 entries") for said in found.notices)


def test_a_vector_of_another_length_is_refused_here_and_told_of_there(
    own: tuple[Settings, redis.Redis],
) -> None:
    settings, client = own
    embedder = HashingEmbedder()
    put(client, settings, SHOP, [make_note(1, "the till counts coins")], embedder)
    key = Keys.of(settings, SHOP).note(make_note(2, "").id)
    real = client.hgetall(Keys.of(settings, SHOP).note(make_note(1, "").id))
    name = vector_field(embedder.fingerprint)
    client.hset(key, mapping={**real, name.encode(): b"1234"})
    with settled(settings, embedder) as search:
        found = search.search("till coins", SHOP)
        assert len(ids(found)) == 1
        assert any("could not be indexed" in said for said in found.notices)


def test_a_secret_in_a_query_does_not_leave_this_machine(
    own: tuple[Settings, redis.Redis],
) -> None:
    settings, client = own
    secret = "ghp_" + "1b2C3d4E5f" * 3 + "6G7h8J"
    client.config_set("slowlog-log-slower-than", 0)
    client.config_set("slowlog-max-len", 10_000)
    try:
        with settled(settings, HashingEmbedder()) as search:
            found = search.search(f"push fails with {secret}", SHOP)
        said = b" ".join(entry["command"] for entry in client.slowlog_get(10_000))
    finally:
        client.config_set("slowlog-log-slower-than", 10_000)
    assert b"FT.SEARCH" in said
    assert b"push" in said
    assert secret.encode() not in said
    assert secret.lower().encode() not in said
    assert secret not in found.query


# --- servers that can do less, or nothing ------------------------------------------------------


def test_a_forgotten_or_changed_note_leaves_the_vector_set(tmp_path: Path) -> None:
    embedder, other, at = HashingEmbedder(), BundledEmbedder(), "2026-02-01T00:00:00.000Z"
    with RedisServer(search=False) as server, server.client() as client:
        settings = search_settings(server.url, tmp_path)
        notes = [make_note(n, f"the till counts coins {n}") for n in range(3)]
        put(client, settings, SHOP, notes, embedder, sets=True)
        with TeamSearch(settings, embedder) as search:
            assert set(ids(search.search("till", SHOP))) == {note.id for note in notes}
            gone = dataclasses.replace(notes[0], text="", deleted_at=at, updated_at=at)
            put(client, settings, SHOP, [gone], embedder, sets=True)
            # a machine with another model has no vector of ours to put in its place
            put(client, settings, SHOP, [notes[1]], other, sets=True)
            assert set(ids(search.search("till", SHOP))) == {notes[2].id}
            space = vector_field(embedder.fingerprint).removeprefix("v_")
            assert client.vset().vcard(Keys.of(settings, SHOP).vectors(space)) == 1
        with TeamSearch(settings, other) as search:
            assert ids(search.search("till", SHOP)) == [notes[1].id]
        with TeamSearch(settings, None) as search, pytest.raises(TeamUnavailable) as raised:
            search.search("till", SHOP)
        assert not raised.value.retryable


def test_a_vector_set_ends_as_the_hashes_are_in_whatever_order_machines_come(
    tmp_path: Path,
) -> None:
    embedder, at = HashingEmbedder(), "2026-02-01T00:00:00.000Z"
    space = vector_field(embedder.fingerprint).removeprefix("v_")
    with RedisServer(search=False) as server, server.client() as client:
        settings = search_settings(server.url, tmp_path)
        keys = Keys.of(settings, SHOP)
        old, other = make_note(1, "the till counts coins"), make_note(2, "parcels are weighed")
        put(client, settings, SHOP, [old, other], embedder, sets=True)
        late = [{"project": SHOP, "id": old.id, "supersedes": "", f"v_{space}": b"of no account"}]
        put(client, settings, SHOP, [dataclasses.replace(old, deleted_at=at)], None)
        assert add_vectors(client, settings, late) == 0
        assert client.vset().vcard(keys.vectors(space)) == 1
        # what somebody else put there: another dimension, another kind of key, a name that is none
        client.sadd(keys.named("spaces"), "}nonsense{", b"\xff")
        client.hset(keys.note(old.id), mapping={f"v_{space}": b"12345678", "living": "1"})
        assert add_vectors(client, settings, late) == 1
        client.delete(keys.note(old.id))
        client.set(keys.note(old.id), "no hash")
        assert add_vectors(client, settings, late) == 0
        with TeamSearch(settings, embedder) as search:
            assert ids(search.search("parcels", SHOP)) == [other.id]


def test_many_dead_entries_of_a_vector_set_do_not_hide_the_living(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(team_index, "CANDIDATES", 8)
    embedder = HashingEmbedder()
    with RedisServer(search=False) as server, server.client() as client:
        settings = search_settings(server.url, tmp_path)
        notes = [make_note(n, f"the till counts coins {n}") for n in range(60)]
        far = make_note(99, "parcels")
        put(client, settings, SHOP, [*notes, far], embedder, sets=True)
        client.delete(*(Keys.of(settings, SHOP).note(note.id) for note in notes))
        with TeamSearch(settings, embedder) as search:
            assert ids(search.search("the till counts coins", SHOP, limit=3)) == [far.id]


def test_a_user_who_may_neither_search_nor_use_vector_sets_only_replicates(
    tmp_path: Path,
) -> None:
    user = (
        "user ada on >secret ~stratum:* &stratum:* +@all"
        " -ft._list -ft.search -ft.create -vadd -vsim -vcard"
    )
    with RedisServer(users=[user]) as server:
        settings = search_settings(server.url_of("ada", "secret"), tmp_path)
        with connect(settings) as client:
            assert kind(capabilities(client)) == "replication only"
        with (
            TeamSearch(settings, HashingEmbedder()) as search,
            pytest.raises(TeamUnavailable, match="only replicates") as raised,
        ):
            search.search("till", SHOP)
        assert raised.value.hint
        assert not raised.value.retryable
        assert "secret" not in f"{raised.value.message} {raised.value.hint}"


@pytest.mark.parametrize("searches", [True, False], ids=["search", "vector sets"])
def test_the_recommended_user_may_do_all_of_it(tmp_path: Path, searches: bool) -> None:
    lines = (Path(__file__).parent.parent / "deploy" / "users.acl").read_text(encoding="utf-8")
    [user] = [line for line in lines.splitlines() if line.startswith("user stratum ")]
    user, embedder = user.replace("#PASSWORD_SHA256", ">pw"), HashingEmbedder()
    if not searches:  # a server refuses to start with commands that it does not know
        words = [word for word in user.split() if not word.startswith("+ft.")]
        user = " ".join([*words, VECTOR_SETS])
    with RedisServer(search=searches, users=[user]) as server:
        settings = search_settings(server.url_of("stratum", "pw"), tmp_path)
        with server.client() as admin:
            put(admin, settings, SHOP, [make_note(1, "the till counts coins")], embedder)
        fields = {
            "project": SHOP, "id": make_note(1, "").id, "supersedes": "",
            vector_field(embedder.fingerprint): b"",
        }  # fmt: skip
        with translated(server.url), connect(settings) as client:
            if not searches:
                assert add_vectors(client, settings, [fields]) == 0
            for algorithm in ("flat", "hnsw") if searches else ("flat",):
                other = dataclasses.replace(settings, redis_index=algorithm)
                with settled(other, embedder) if searches else TeamSearch(other, embedder) as one:
                    assert len(ids(one.search("till", SHOP))) == 1
                    assert one.identity_of(SHOP) == SHOP


def test_nodes_of_a_cluster_with_search_are_not_asked_each_for_its_part(tmp_path: Path) -> None:
    embedder = HashingEmbedder()
    with RedisServer(search=True, cluster=1) as server:
        settings = search_settings(server.url, tmp_path)
        with connect(settings) as client:
            can = capabilities(client)
            assert can.search
            assert kind(can) == "vector sets"
            assert ensure(client, settings, can, embedder.fingerprint, 256) is None
            put(
                client, settings, SHOP, [make_note(1, "the till counts coins")], embedder, sets=True
            )
        with TeamSearch(settings, embedder) as search:
            assert len(ids(search.search("till", SHOP))) == 1


def test_on_a_cluster_a_project_is_searched_in_its_vector_set(tmp_path: Path) -> None:
    embedder = HashingEmbedder()
    with RedisServer(search=False, cluster=2) as server:
        settings = search_settings(server.url, tmp_path)
        with connect(settings) as client:
            assert kind(capabilities(client)) == "vector sets"
            for number, project in enumerate(PROJECTS):
                note = make_note(number, "the till counts coins")
                put(client, settings, project, [note], embedder, sets=True)
        with TeamSearch(settings, embedder) as search:
            for number, project in enumerate(PROJECTS):
                assert ids(search.search("till", project)) == [make_note(number, "").id]


@pytest.mark.parametrize("before", [False, True], ids=["from the start", "in between"])
def test_an_outage_is_an_error_and_never_an_empty_result(tmp_path: Path, before: bool) -> None:
    with RedisServer() as server:
        settings = search_settings(server.url, tmp_path)
        with TeamSearch(settings, HashingEmbedder()) as search:
            if before:
                assert search.search("till", SHOP).hits == ()
            server.kill()
            with pytest.raises(TeamUnavailable) as raised:
                search.search("till", SHOP)
            assert raised.value.retryable
            server.start()
            assert search.search("till", SHOP).hits == ()
