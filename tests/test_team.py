"""The exchange with a real Redis, by the library and by the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from stratum.config import load
from stratum.errors import TeamUnavailable
from stratum.memory import Memory
from stratum.models import Filters, Note
from stratum.redis_client import Keys
from stratum.team import Team
from tests.conftest import SAMPLE, git, make_repository
from tests.redis_server import RedisServer

PROJECT = "github.com/acme/shop"


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "origin", SAMPLE)


@pytest.fixture
def machine(tmp_path: Path, origin: Path) -> Iterator[Callable[..., Memory]]:
    """Return what opens the memory of a machine: a home and a clone of its own."""
    with ExitStack() as opened:

        def open_machine(name: str, server: RedisServer, **settings: str) -> Memory:
            clone = tmp_path / name / "shop"
            if not clone.exists():
                git(tmp_path, "clone", "-q", str(origin), str(clone))
                git(clone, "remote", "set-url", "origin", "https://github.com/acme/shop.git")
            environ = environment(tmp_path / name, name, server) | settings
            memory = opened.enter_context(Memory(load(environ), clone))
            memory.index()
            return memory

        yield open_machine


def environment(place: Path, name: str, server: RedisServer) -> dict[str, str]:
    return {
        "STRATUM_HOME": str(place / "home"),
        "STRATUM_EMBED_MODEL": "hashing",
        "STRATUM_AUTHOR": name.title(),
        "STRATUM_MACHINE": f"{name}-box",
        "STRATUM_REDIS_URL": server.url,
    }


def sync(memory: Memory) -> tuple[int, int]:
    with Team(memory) as team:
        done = team.sync()
    return done.sent, done.received


def notes(memory: Memory) -> dict[str, Note]:
    return {n.id: n for n in memory._store().notes(None) if n.deleted_at is None}


def test_what_one_machine_writes_the_other_finds(
    redis_server: RedisServer, machine: Callable[..., Memory]
) -> None:
    ada, bob = machine("ada", redis_server), machine("bob", redis_server)
    anchors = ["shop/cart.py::Cart.total_price"]
    written = ada.write("totals are net prices", anchors=anchors, scope="team").note
    ada.write("a personal thought")
    assert sync(ada) == (1, 0)
    assert sync(bob) == (0, 1)
    [hit] = bob.search("totals net prices", filters=Filters(stratum="notes")).hits
    assert (hit.id, hit.freshness, hit.path) == (written.id, "fresh", "shop/cart.py")
    assert hit.origin.startswith("Ada on ada-box")
    # a second exchange moves nothing, in either direction
    assert [sync(m) for m in (ada, bob, ada, bob)] == [(0, 0)] * 4
    bob.forget(written.id)
    assert (sync(bob), sync(ada)) == ((1, 0), (0, 1))
    assert written.id not in notes(ada)


SERVERS: dict[str, dict[str, Any]] = {
    "without the search module": {"search": False},
    "a cluster": {"cluster": True},
    "with a password": {"password": "correct horse battery staple"},
    "with TLS": {"tls": True},
}


@pytest.mark.parametrize("kind", SERVERS)
def test_every_kind_of_server_carries_notes(kind: str, machine: Callable[..., Memory]) -> None:
    with RedisServer(**SERVERS[kind]) as server:
        ada, bob = machine("ada", server), machine("bob", server)
        written = ada.write("totals are net prices", scope="team").note
        ada.index()
        assert sync(ada) == (1, 0)
        assert sync(bob) == (0, 1)
        bob.write("totals are net prices", tags=["money"], scope="team")
        assert (sync(bob), sync(ada)) == ((1, 0), (0, 1))
        assert notes(ada)[written.id].tags == ("money",)
        with Team(bob) as team:
            status = team.status()
            assert status.connected
            found = team.search("totals net prices")
        assert [hit.id for hit in found.hits] == [written.id]
        assert status.search == ("search" if "search" not in SERVERS[kind] else "vector sets") or (
            kind == "a cluster"
        )


def test_a_vector_made_later_follows_its_note_without_a_new_version(
    redis_server: RedisServer, machine: Callable[..., Memory]
) -> None:
    words = machine("ada", redis_server, STRATUM_EMBED_MODEL="none")
    written = words.write("totals are net prices", scope="team").note
    sync(words)
    key = Keys.of(words.settings, PROJECT).note(written.id)
    client = redis_server.client()
    assert not [f for f in client.hkeys(key) if f.startswith(b"v_")]
    ada, bob = machine("ada", redis_server), machine("bob", redis_server)
    ada.index()  # makes the vector
    assert sync(ada) == (0, 0)
    assert [f for f in client.hkeys(key) if f.startswith(b"v_")]
    sync(bob)
    assert bob.status().embedder.pending == 0  # it came with the note
    assert bob.replica.state().waiting == 0


def test_a_third_machine_reads_everything_when_it_first_comes(
    redis_server: RedisServer, machine: Callable[..., Memory]
) -> None:
    ada = machine("ada", redis_server)
    for n in range(450):  # more than two pages
        ada.write(f"note {n} of many", scope="team")
    gone = ada.write("a note that goes", scope="team").note
    ada.forget(gone.id)
    sync(ada)
    eve = machine("eve", redis_server)
    assert sync(eve) == (0, 450)
    assert notes(eve).keys() == notes(ada).keys()


def test_a_stream_that_was_trimmed_past_the_cursor_costs_nothing_but_time(
    redis_server: RedisServer, machine: Callable[..., Memory]
) -> None:
    ada, bob = machine("ada", redis_server), machine("bob", redis_server)
    ada.write("the first", scope="team")
    sync(ada), sync(bob)
    for n in range(20):
        ada.write(f"note {n}", scope="team")
    sync(ada)
    redis_server.client().xtrim(Keys.of(ada.settings, PROJECT).log, maxlen=1, approximate=False)
    with Team(bob) as team:
        report = team.sync()
    assert (report.received, report.resynced) == (20, 1)


@pytest.mark.parametrize("lost", ["everything", "the last change"])
def test_a_server_that_lost_notes_gets_them_again(
    lost: str, redis_server: RedisServer, machine: Callable[..., Memory]
) -> None:
    ada, bob = machine("ada", redis_server), machine("bob", redis_server)
    first = ada.write("the first", scope="team").note
    sync(ada), sync(bob)
    client, keys = redis_server.client(), Keys.of(ada.settings, PROJECT)
    second = ada.write("the second", scope="team").note
    sync(ada)
    if lost == "everything":
        client.flushall()
    else:  # as a server that saves each second loses the last one
        client.delete(keys.note(second.id))
        client.srem(keys.ids, second.id)
        client.xdel(keys.log, client.xrevrange(keys.log, count=1)[0][0])
    sync(bob), sync(ada), sync(bob)
    assert notes(bob).keys() == {first.id, second.id}
    assert client.scard(keys.ids) == 2


def test_a_clock_a_day_ahead_may_not_win_for_ever(
    redis_server: RedisServer, machine: Callable[..., Memory]
) -> None:
    ada, bob = machine("ada", redis_server), machine("bob", redis_server)
    written = ada.write("the first", scope="team").note
    sync(ada), sync(bob)
    key = Keys.of(ada.settings, PROJECT).note(written.id)
    # a hostile peer: a stamp of the year 9000 on the server
    redis_server.client().hset(key, "stamp", "221845392000000" + "9" * 19)
    ada.write("the first", tags=["tagged"], scope="team")
    assert sync(ada)[0] == 1
    assert sync(bob) == (0, 1)
    assert notes(bob)[written.id].tags == ("tagged",)


def test_a_key_of_another_type_is_written_over_and_hurts_nobody(
    redis_server: RedisServer, machine: Callable[..., Memory]
) -> None:
    ada, bob = machine("ada", redis_server), machine("bob", redis_server)
    written = ada.write("the first", scope="team").note
    sync(ada), sync(bob)
    client, key = redis_server.client(), Keys.of(ada.settings, PROJECT).note(written.id)
    client.delete(key)
    client.set(key, "rubbish")
    client.xadd(Keys.of(ada.settings, PROJECT).log, {"id": written.id, "stamp": "9" * 34})
    sync(bob)
    assert "holds a string" in bob.replica.state().quarantine[0].reason
    ada.write("the first", tags=["tagged"], scope="team")
    sync(ada), sync(bob)
    assert notes(bob)[written.id].tags == ("tagged",)
    assert bob.replica.state().quarantine == ()


def test_a_conflict_is_told_on_the_machine_that_saw_it_and_can_be_undone(
    redis_server: RedisServer, machine: Callable[..., Memory]
) -> None:
    ada, bob = machine("ada", redis_server), machine("bob", redis_server)
    written = ada.write("the first", scope="team").note
    sync(ada), sync(bob)
    ada.write("the first", tags=["ada"], scope="team")
    time.sleep(0.005)
    bob.write("the first", tags=["bob"], scope="team")
    sync(bob)
    with Team(ada) as team:
        report = team.sync()
    assert report.conflicts == 1
    assert notes(ada)[written.id].tags == ("bob",)
    ada.undo_conflict(written.id)
    sync(ada), sync(bob)
    assert notes(bob)[written.id].tags == ("ada",)


def test_teams_and_prefixes_do_not_see_each_other(
    redis_server: RedisServer, machine: Callable[..., Memory]
) -> None:
    ada = machine("ada", redis_server)
    ada.write("ours", scope="team")
    sync(ada)
    assert sync(machine("bob", redis_server, STRATUM_TEAM="other")) == (0, 0)
    assert sync(machine("eve", redis_server, STRATUM_REDIS_PREFIX="x")) == (0, 0)


def test_changes_of_others_come_at_once_to_those_who_watch(
    redis_server: RedisServer, machine: Callable[..., Memory]
) -> None:
    ada, bob = machine("ada", redis_server), machine("bob", redis_server)
    stop, seen = threading.Event(), threading.Event()
    watching = threading.Event()

    def moved(report: object) -> None:
        watching.set()
        if report.received:  # type: ignore[attr-defined]
            seen.set()

    with Team(bob) as team:
        thread = threading.Thread(target=team.watch, args=(stop, moved))
        thread.start()
        assert watching.wait(20)
        ada.write("look at this", scope="team")
        sync(ada)
        # far less than the half minute after which the stream is read in any case
        assert seen.wait(15)
        bob.write("and at that", scope="team")  # sent without being asked
        deadline = time.monotonic() + 15
        while bob.replica.state().waiting and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
    assert sync(ada) == (0, 1)


def test_who_watches_says_what_is_wrong_and_goes_on_when_it_is_over(
    redis_server: RedisServer, machine: Callable[..., Memory]
) -> None:
    ada = machine("ada", redis_server)
    stop, troubled, well = threading.Event(), threading.Event(), threading.Event()

    def moved(_: object) -> None:
        if troubled.is_set():
            well.set()

    redis_server.kill()
    ada.write("written while it was away", scope="team")
    with Team(ada) as team:
        thread = threading.Thread(target=team.watch, args=(stop, moved, lambda _: troubled.set()))
        thread.start()
        assert troubled.wait(20)
        assert any("nothing answers" in reason for reason in ada.status().degraded)
        assert ada.replica.state().waiting == 1
        redis_server.start()
        assert well.wait(60)
        stop.set()
        thread.join(20)
    assert ada.replica.state().waiting == 0
    assert ada.status().degraded == ()


def test_without_a_server_an_exchange_is_an_error_and_not_an_empty_one(
    redis_server: RedisServer, machine: Callable[..., Memory]
) -> None:
    ada = machine("ada", redis_server)
    ada.write("it waits", scope="team")
    redis_server.kill()
    with Team(ada) as team:
        with pytest.raises(TeamUnavailable, match="nothing answers"):
            team.sync()
        status = team.status()
        assert not status.connected
        assert "nothing answers" in status.trouble
        with pytest.raises(TeamUnavailable):
            team.search("anything")
    assert ada.replica.state().waiting == 1


def test_a_search_of_the_shared_index_judges_what_is_checked_out_here(
    redis_server: RedisServer, machine: Callable[..., Memory], tmp_path: Path
) -> None:
    ada, bob = machine("ada", redis_server), machine("bob", redis_server)
    anchors = ["shop/cart.py::Cart.total_price"]
    ada.write("totals are net prices", anchors=anchors, scope="team")
    ada.write("sessions are purged by cron", scope="team")
    ada.index()
    sync(ada)
    with Team(bob) as team:  # bob's own store has none of them
        found = team.search("totals net prices")
        assert [(h.text, h.freshness) for h in found.hits][:1] == [
            ("totals are net prices", "fresh")
        ]
        cart = bob.worktree.root / "shop" / "cart.py"
        cart.write_text(cart.read_text().replace("net * (1 + TAX_RATE)", "net"))
        found = team.search("totals net prices")
        assert "totals are net prices" not in [h.text for h in found.hits]
        assert found.withheld_stale == 1
        stale = team.search("totals net prices", include_stale=True).hits[0]
        assert stale.freshness == "changed"
        everywhere = team.search("totals net prices", of="all", include_stale=True)
        assert everywhere.hits[0].freshness == "changed"
    other = make_repository(tmp_path / "else", {"a.py": "def f(): pass\n"})
    settings = load(environment(tmp_path / "eve", "eve", redis_server))
    with Memory(settings, other) as eve, Team(eve) as team:
        found = team.search("totals net prices", of=PROJECT)
        assert found.hits[0].freshness is None
        assert found.hits[0].origin.startswith(f"{PROJECT}, Ada")
        assert any("not compared" in notice for notice in found.notices)


# the command line


def run(place: Path, environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stratum", *words], cwd=place, env={**os.environ, **environ},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_two_people_and_one_redis(
    redis_server: RedisServer, machine: Callable[..., Memory], tmp_path: Path
) -> None:
    for name in ("ada", "bob"):
        machine(name, redis_server).close()
    ada, bob = (environment(tmp_path / name, name, redis_server) for name in ("ada", "bob"))
    at_ada, at_bob = (tmp_path / name / "shop" for name in ("ada", "bob"))
    written = run(at_ada, ada, "write", "totals are net prices", "--team", "--json")
    id_ = json.loads(written.stdout)["note"]["id"]
    [waits] = json.loads(run(at_ada, ada, "sync", "--dry-run", "--json").stdout)
    assert (waits["id"], waits["text"]) == (id_, "totals are net prices")
    done = run(at_ada, ada, "sync")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 sent, 0 received")
    assert json.loads(run(at_bob, bob, "sync", "--json").stdout)["received"] == 1
    assert "Ada on ada-box" in run(at_bob, bob, "get", id_).stdout
    assert run(at_bob, bob, "accept", id_).stdout.split() == [id_, "accepted"]
    status = json.loads(run(at_bob, bob, "status", "--json").stdout)
    assert (status["team"]["connected"], status["sync"]["waiting"]) == (True, 0)
    assert status["degraded"] == []
    redis_server.kill()
    down = run(at_bob, bob, "sync")
    assert (down.returncode, down.stdout) == (4, "")
    assert "nothing answers" in down.stderr
    status = json.loads(run(at_bob, bob, "status", "--json").stdout)
    assert not status["team"]["connected"]
    assert any("nothing answers" in reason for reason in status["degraded"])
    assert run(at_bob, bob, "sync", "--status").returncode == 4


def test_sync_without_a_team_says_what_to_do(repository: Path) -> None:
    done = run(repository, {"STRATUM_EMBED_MODEL": "none"}, "sync")
    assert done.returncode == 4
    assert "STRATUM_REDIS_URL" in done.stderr
    both = run(repository, {}, "sync", "--watch", "--dry-run")
    assert both.returncode == 2


def test_watch_ends_cleanly_at_ctrl_c(
    redis_server: RedisServer, machine: Callable[..., Memory], tmp_path: Path
) -> None:
    memory = machine("ada", redis_server)
    memory.write("look at this", scope="team")
    environ = {**os.environ, **environment(tmp_path / "ada", "ada", redis_server)}
    process = subprocess.Popen(
        [sys.executable, "-m", "stratum", "sync", "--watch"], cwd=tmp_path / "ada" / "shop",
        env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while memory.replica.state().waiting and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert out.startswith("1 sent")
    assert "Traceback" not in err
