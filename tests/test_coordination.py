"""Claims, findings, events and contexts: one contract, held by SQLite and by a real Redis."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stratum.config import Settings
from stratum.coordination import (
    EVENTS_KEPT,
    FINDINGS_KEPT,
    MAX_CONTEXT,
    MAX_FINDING,
    Coordination,
    overlapping,
)
from stratum.errors import Claimed, InvalidInput, NotFound, TeamUnavailable
from stratum.models import Lease
from tests.redis_server import RedisServer

SECRET = "gh" + "p_" + "a1B2c3D4e5F6" * 3
SHORT = 0.2  # seconds of a lease that is to run out
Enter = Callable[..., Coordination]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(search=False) as running:
        yield running


@pytest.fixture(params=["sqlite", "redis"])
def backend(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Settings of either store, which is empty."""
    if request.param == "sqlite":
        return settings
    running = request.getfixturevalue("server")
    with running.client() as client:
        client.flushall()
    return dataclasses.replace(settings, redis_url=running.url)


def entering(settings: Settings, repository: Path) -> Iterator[Enter]:
    opened: list[Coordination] = []

    def enter(holder: str = "ada", **options: object) -> Coordination:
        made = dataclasses.replace(settings, **options)
        opened.append(Coordination(made, repository, holder=holder, least_ttl=0.05))
        return opened[-1]

    yield enter
    for one in opened:
        one.close()


@pytest.fixture
def enter(backend: Settings, repository: Path) -> Iterator[Enter]:
    """Opens what agents do together as one holder; each has connections of its own."""
    yield from entering(backend, repository)


def subjects(leases: list[Lease]) -> list[str]:
    return sorted(subject for lease in leases for subject in lease.subjects)


# claims


def test_who_comes_second_learns_who_was_first_and_why(enter: Enter) -> None:
    first = enter("ada").claim(["Fix  login"], purpose="expired sessions", agent="codex", ttl=600)
    assert first.action == "claimed"
    assert first.lease.subjects == ("task:fix login",)
    assert 599 <= first.lease.seconds_left <= 600
    with pytest.raises(Claimed) as raised:
        enter("bob").claim(["task:FIX login"])
    until = first.lease.expires_at[11:19]
    assert (
        raised.value.message
        == (
            'task:fix login is claimed by ada (codex) for "expired sessions" until '
            f"{until} UTC, for another 10 min. Nothing was claimed."
        )
        or "for another 9 min" in raised.value.message
    )
    assert raised.value.hint
    assert raised.value.exit_code == 5
    assert enter("bob").leases() == [enter("ada").leases()[0]]


@pytest.mark.parametrize(
    ("held", "wanted", "free"),
    [
        ("path:src/auth", "path:src/auth", False),
        ("path:src/auth", "path:src/auth/", False),
        ("path:src/auth", "path:./src//auth", False),
        ("path:src/auth", "path:src/auth/token.py", False),
        ("path:src/auth/token.py", "path:src", False),
        ("path:src/auth", "path:.", False),
        ("path:.", "path:src/auth", False),
        ("path:src/auth", "path:src/authority", True),
        ("path:src/auth", "path:src/auth.py", True),
        ("path:src/auth", "path:src/auth-old/x", True),
        ("path:src/auth", "path:src/Auth", True),
        ("path:src/auth", "path:lib/src/auth", True),
        ("path:src/auth", "src/auth", True),  # a task that is called so
        ("path:.", "task:everything", True),
        ("fix: login", "task:fix: login", False),
        ("task:a", "task:a/b", True),
        ("caf\u00e9", "cafe\u0301", False),
    ],
)
def test_paths_overlap_with_what_is_above_and_below(
    enter: Enter, held: str, wanted: str, free: bool
) -> None:
    enter("ada").claim([held])
    bob = enter("bob")
    if free:
        assert bob.claim([wanted]).action == "claimed"
        return
    with pytest.raises(Claimed):
        bob.claim([wanted])
    assert len(bob.leases()) == 1


def test_intervals_of_members_say_the_same_as_the_rule_for_paths() -> None:
    chosen = random.Random(7)
    names = ["a", "b", "a-b", "a.b", "a0", "aé", "A"]
    paths = ["."] + ["/".join(chosen.choices(names, k=chosen.randint(1, 3))) for _ in range(120)]
    for one in paths:
        for other in paths:
            above = "." in (one, other) or f"{one}/".startswith(f"{other}/")
            expected = above or f"{other}/".startswith(f"{one}/")
            member = f"path:{other}\naaaaaaaaaaaa"
            met = any(low <= member < high for low, high in overlapping(f"path:{one}"))
            assert met == expected, (one, other)


def test_a_claim_is_for_all_of_its_subjects_or_for_none(enter: Enter) -> None:
    ada, bob = enter("ada"), enter("bob")
    ada.claim(["path:src/auth"])
    with pytest.raises(Claimed, match=r"^path:src/auth is claimed by ada"):
        bob.claim(["docs", "path:lib", "path:src"])
    assert subjects(bob.leases()) == ["path:src/auth"]
    assert bob.claim(["docs", "path:lib"]).lease.subjects == ("path:lib", "task:docs")


def test_claiming_again_what_one_holds_renews_it(enter: Enter) -> None:
    ada = enter("ada")
    first = ada.claim(["a", "path:b"], purpose="one", ttl=60).lease
    again = enter("ada").claim(["path:b", "A"], ttl=600)
    assert again.action == "renewed"
    assert (again.lease.id, again.lease.token) == (first.id, first.token)
    assert again.lease.purpose == "one"
    assert again.lease.seconds_left > 500
    shorter = ada.claim(["a", "path:b"], purpose="two", ttl=60).lease
    assert shorter.seconds_left > 500  # a renewal never makes a lease end sooner
    assert shorter.purpose == "two"
    other = ada.claim(["a"])  # other subjects: a lease of its own beside it
    assert other.action == "claimed"
    assert other.lease.token > first.token


def test_tokens_grow_with_every_claim_of_whoever(enter: Enter) -> None:
    ada, bob = enter("ada"), enter("bob")
    tokens = []
    for number in range(10):
        lease = (ada, bob)[number % 2].claim([f"task {number % 3}"]).lease
        tokens.append(lease.token)
        (ada, bob)[number % 2].release(lease)
    assert tokens == sorted(set(tokens))


def test_what_has_run_out_can_be_taken_over_and_the_old_lease_is_worth_nothing(
    enter: Enter,
) -> None:
    ada, bob = enter("ada"), enter("bob")
    old = ada.claim(["path:src", "task"], ttl=SHORT).lease
    with pytest.raises(Claimed):
        bob.claim(["path:src/auth"])
    time.sleep(SHORT + 0.05)
    assert bob.leases() == []
    with pytest.raises(Claimed, match="ran out"):
        ada.check(old)
    taken = bob.claim(["path:src/auth"])
    assert (taken.action, taken.before) == ("taken over", ("ada",))
    assert taken.lease.token > old.token
    for ask in (ada.heartbeat, ada.release, ada.check):
        with pytest.raises(Claimed, match=f"{old.id} was taken over by bob"):
            ask(old)
    assert bob.check(taken.lease).token == bob.check(taken.lease.token).token == taken.lease.token
    with pytest.raises(Claimed, match=f"token {old.token}"):
        ada.check(old.token)
    # the whole lease was lost, with the subject that nobody took
    assert enter("eve").claim(["task"]).action == "claimed"


def test_a_lease_that_ran_out_and_that_nobody_took_lives_on_with_a_heartbeat(enter: Enter) -> None:
    ada, bob = enter("ada"), enter("bob")
    lease = ada.claim(["a"], ttl=SHORT).lease
    time.sleep(SHORT + 0.05)
    assert ada.heartbeat(lease, ttl=60).token == lease.token
    with pytest.raises(Claimed):
        bob.claim(["a"])
    assert ada.check(lease).seconds_left > 50


def test_heartbeats_keep_others_away(enter: Enter) -> None:
    ada, bob = enter("ada"), enter("bob")
    lease = ada.claim(["a"], ttl=SHORT).lease
    for _ in range(6):
        time.sleep(SHORT / 2)
        ada.heartbeat(lease.id, ttl=SHORT)
        with pytest.raises(Claimed):
            bob.claim(["a"])
    ada.release(lease)
    assert bob.claim(["a"]).action == "claimed"


def test_a_lease_is_released_by_its_holder_or_by_force(enter: Enter) -> None:
    ada, bob = enter("ada"), enter("bob")
    lease = ada.claim(["a"]).lease
    for ask in (bob.heartbeat, bob.release):
        with pytest.raises(Claimed, match="is held by ada"):
            ask(lease)
    assert bob.release(lease, force=True).id == lease.id
    with pytest.raises(Claimed, match="was released by bob"):
        ada.heartbeat(lease)
    assert ada.release(lease).id == lease.id  # as if its own answer had been lost
    with pytest.raises(Claimed, match="was released by bob"):
        ada.check(lease)
    assert [event.kind for event in ada.events().events] == ["claimed", "released"]
    with pytest.raises(NotFound, match="no lease aaaaaaaaaaaa"):
        ada.release("aaaaaaaaaaaa")


def test_agents_of_one_author_are_told_apart(backend: Settings, repository: Path) -> None:
    named = dataclasses.replace(backend, author="Ada", machine="laptop")
    with (
        Coordination(named, repository, session="one") as one,
        Coordination(named, repository, session="two") as two,
    ):
        assert (one.holder, two.holder) == ("Ada@laptop/one", "Ada@laptop/two")
        one.claim(["a"])
        with pytest.raises(Claimed, match="Ada@laptop/one"):
            two.claim(["a"])


@pytest.mark.parametrize(
    ("wanted", "options", "complaint"),
    [
        ([], {}, "from 1 to 16 subjects"),
        ([str(number) for number in range(17)], {}, "from 1 to 16 subjects"),
        (["  "], {}, "names no task"),
        (["path:"], {}, "names no task"),
        (["x" * 201], {}, "names no task"),
        (["a\u200bb"], {}, "names no task"),
        (["path:../x"], {}, "outside"),
        (["path:a/../../x"], {}, "outside"),
        (["path:/etc"], {}, "outside"),
        ([SECRET], {}, "secret"),
        (["a"], {"ttl": 0.01}, "from 0.05 seconds"),
        (["a"], {"ttl": 90_000}, "to 24 hours"),
        (["a"], {"ttl": float("nan")}, "to 24 hours"),
    ],
)
def test_what_cannot_be_claimed_is_said_in_a_sentence(
    enter: Enter, wanted: list[str], options: dict[str, float], complaint: str
) -> None:
    ada = enter()
    with pytest.raises(InvalidInput, match=complaint) as raised:
        ada.claim(wanted, **options)
    assert SECRET not in raised.value.message
    assert ada.leases() == []


def test_an_absolute_path_inside_the_project_means_the_place(
    enter: Enter, repository: Path
) -> None:
    lease = enter().claim([f"path:{repository / 'shop' / 'cart.py'}", f"path:{repository}"]).lease
    assert lease.subjects == ("path:.", "path:shop/cart.py")


RACE = """
import contextlib, os, sys, time
import stratum.coordination_redis  # once, not in each of the children
with contextlib.suppress(ImportError):
    import keyring
from pathlib import Path
from stratum.config import load
from stratum.coordination import Coordination
from stratum.errors import Claimed

root, count, start = Path(sys.argv[1]), int(sys.argv[2]), time.monotonic() + 1
children = []
for number in range(count):
    child = os.fork()
    if not child:
        one = Coordination(load(os.environ), root, holder=f"agent-{number}")
        time.sleep(max(0, start - time.monotonic()))
        try:
            one.claim(["path:src", f"task {number}"])
            os.write(1, b"won\\n")
        except Claimed:
            os.write(1, b"lost\\n")
        os._exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_of_fifty_processes_exactly_one_wins(enter: Enter, backend: Settings) -> None:
    environ = {
        **os.environ,
        "STRATUM_HOME": str(backend.database.parent),
        "STRATUM_REDIS_URL": backend.redis_url,
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",  # each would look for one
    }
    root = enter().root
    done = subprocess.run(
        [sys.executable, "-c", RACE, str(root), "50"],
        env=environ, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert sorted(done.stdout.split()) == ["lost"] * 49 + ["won"]
    assert len(enter().leases()) == 1


def test_of_fifty_connections_exactly_one_wins_each_round(enter: Enter) -> None:
    agents = [enter(f"agent-{number}") for number in range(50)]
    for agent in agents:
        agent.leases()  # connected
    for round_ in range(3):
        gate = threading.Barrier(len(agents))

        def race(agent: Coordination, task: str = f"round {round_}") -> int:
            gate.wait()  # noqa: B023 - used before the next round
            try:
                return agent.claim([task]).lease.token
            except Claimed:
                return 0

        with ThreadPoolExecutor(len(agents)) as pool:
            tokens = list(pool.map(race, agents))
        assert len(tokens) - tokens.count(0) == 1
    assert len(agents[0].leases()) == 3


def test_fifty_agents_that_take_turns_by_expiry_never_hold_it_together(enter: Enter) -> None:
    """Each write carries its token; a store that refuses lower ones sees them only grow."""
    agents = [enter(f"agent-{number}") for number in range(8)]
    held: list[tuple[int, str]] = []
    deadline = time.monotonic() + 3

    def work(agent: Coordination) -> None:
        while time.monotonic() < deadline:
            try:
                lease = agent.claim(["turn"], ttl=0.06).lease
            except Claimed:
                time.sleep(0.005)
                continue
            held.append((lease.token, agent.holder))
            time.sleep(0.07)  # past its end: somebody takes over

    with ThreadPoolExecutor(len(agents)) as pool:
        list(pool.map(work, agents))
    tokens = {}
    for token, holder in held:
        assert tokens.setdefault(token, holder) == holder  # no token for two
    kinds = [event.kind for event in agents[0].events(after="0-0", limit=1000).events]
    assert kinds.count("taken over") >= 5


# findings


def test_a_finding_reaches_all_who_work_on_the_task(enter: Enter) -> None:
    ada, bob = enter("ada", author="Ada", machine="laptop"), enter("bob")
    shared = ada.share("Fix login", "The cookie has no SameSite", agent="codex")
    found = bob.findings("task:fix  login")
    assert found.findings == (shared.finding,)
    [finding] = found.findings
    assert (finding.author, finding.machine, finding.agent) == ("Ada", "laptop", "codex")
    assert finding.text == "The cookie has no SameSite"
    assert bob.findings("another").findings == ()
    assert bob.findings("fix login", after=found.cursor).findings == ()
    ada.share("fix login", "Nor a path")
    assert [f.text for f in bob.findings("fix login", after=found.cursor).findings] == [
        "Nor a path"
    ]


def test_findings_are_bounded_and_what_is_gone_is_said(enter: Enter) -> None:
    ada = enter()
    first = ada.share("t", "number 0").finding
    for number in range(1, FINDINGS_KEPT + 5):
        ada.share("t", f"number {number}")
    newest = ada.findings("t", limit=3)
    assert [f.text for f in newest.findings] == [f"number {n}" for n in (202, 203, 204)]
    rest = ada.findings("t", after=first.cursor, limit=300)
    assert [f.text for f in rest.findings] == [f"number {n}" for n in range(5, 205)]
    assert rest.notices == ("4 findings are no longer kept before these.",)
    page = ada.findings("t", after="0-0", limit=10)
    assert page.notices == (
        "5 findings are no longer kept before these.",
        "More findings follow: ask again with this cursor.",
    )
    following = ada.findings("t", after=page.cursor, limit=300)
    assert len(page.findings) + len(following.findings) == FINDINGS_KEPT
    assert following.notices == ()


@pytest.mark.parametrize("text", ["", " \n", "x" * (MAX_FINDING + 1)])
def test_a_finding_has_a_size(enter: Enter, text: str) -> None:
    with pytest.raises(InvalidInput, match="characters"):
        enter().share("t", text)


def test_no_secret_is_kept_in_what_is_shared(enter: Enter, backend: Settings) -> None:
    ada = enter()
    claim = ada.claim(["a"], purpose=f"rotate {SECRET}", agent=f"agent {SECRET}")
    assert claim.redactions
    shared = ada.share("a", f"It was {SECRET}\nin the log")
    assert shared.redactions
    kept = ada.put_context("s", {"token": SECRET, "deep": [{"pass" + "word": "Hunter2-Hunter2-x"}]})
    assert "Hunter2" not in json.dumps(kept.value)
    with pytest.raises(InvalidInput, match="secret"):
        ada.share(SECRET, "text")
    with pytest.raises(InvalidInput, match="name of a session"):
        ada.put_context(SECRET, "text")
    said = repr((ada.leases(), ada.findings("a"), ada.events(), ada.context("s")))
    assert SECRET not in said
    assert "[REDACTED:" in said
    ada.close()
    for file in backend.database.parent.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()


# events


def test_events_tell_what_happened_in_order(enter: Enter) -> None:
    ada, bob = enter("ada"), enter("bob")
    assert ada.events().events == ()
    lease = ada.claim(["path:src"], purpose="move it", ttl=SHORT, agent="codex").lease
    ada.claim(["path:src"], ttl=SHORT)  # a renewal is no event
    time.sleep(SHORT + 0.05)
    taken = bob.claim(["path:src"], purpose="finish it").lease
    bob.share("path:src", "half of it\nis moved")
    bob.release(taken)
    told = ada.events()
    assert [(e.kind, e.subjects, e.holder, e.text) for e in told.events] == [
        ("claimed", ("path:src",), "ada", "move it"),
        ("taken over", ("path:src",), "bob", "finish it"),
        ("shared", ("path:src",), "bob", "half of it is moved"),
        ("released", ("path:src",), "bob", "finish it"),
    ]
    assert [(e.lease, e.token) for e in told.events[:2]] == [
        (lease.id, lease.token),
        (taken.id, taken.token),
    ]
    assert told.events[1].before == ("ada",)
    after = ada.events(after=told.events[1].cursor)
    assert after.events == told.events[2:]
    assert ada.events(after=told.cursor).events == ()
    assert ada.events(after=told.cursor).cursor == told.cursor
    assert ada.events(limit=1).events == told.events[3:]


def test_whoever_waits_gets_every_event_once_and_in_order(enter: Enter) -> None:
    writers, each = [enter(f"writer-{number}") for number in range(4)], 25
    reader = enter("reader")
    got: list[str] = []

    def write(writer: Coordination) -> None:
        for number in range(each):
            writer.share("t", f"{writer.holder} {number}")

    def read() -> None:
        cursor = "0-0"
        while len(got) < len(writers) * each:
            page = reader.events(after=cursor, wait=10, limit=7)
            assert page.events, "nothing came"
            got.extend(event.text for event in page.events)
            cursor = page.cursor

    with ThreadPoolExecutor(5) as pool:
        reading = pool.submit(read)
        list(pool.map(write, writers))
        reading.result(30)
    assert sorted(got) == sorted(f"{w.holder} {n}" for w in writers for n in range(each))
    for writer in writers:
        theirs = [text for text in got if text.startswith(f"{writer.holder} ")]
        assert theirs == [f"{writer.holder} {number}" for number in range(each)]


def test_a_wait_ends_with_the_event_or_with_the_time(enter: Enter) -> None:
    ada, bob = enter("ada"), enter("bob")
    cursor = ada.events().cursor
    bob.leases()
    begun = time.monotonic()
    assert ada.events(after=cursor, wait=0.3).events == ()
    assert 0.25 < time.monotonic() - begun < 2
    timer = threading.Timer(0.3, lambda: bob.share("t", "now"))
    timer.start()
    begun = time.monotonic()
    [event] = ada.events(after=cursor, wait=20).events
    assert event.text == "now"
    assert time.monotonic() - begun < 5
    timer.join()


def test_events_that_are_no_longer_kept_are_counted(enter: Enter) -> None:
    ada = enter()
    first = ada.claim(["a"])
    cursor = ada.events().cursor
    for number in range(EVENTS_KEPT + 2):
        ada.share(f"task {number % 7}", str(number))
    late = ada.events(after=cursor, limit=EVENTS_KEPT)
    assert len(late.events) == EVENTS_KEPT
    assert late.events[0].text == "2"
    assert late.notices == ("2 events are no longer kept before these.",)
    assert ada.check(first.lease)
    with pytest.raises(InvalidInput, match="limit"):
        ada.events(limit=EVENTS_KEPT + 1)


def test_a_cursor_of_a_log_that_was_lost_shows_all_and_says_so(
    enter: Enter, backend: Settings, server: RedisServer
) -> None:
    ada = enter()
    for _ in range(3):
        ada.share("t", "before")
    token = ada.claim(["a"]).lease.token
    cursor = ada.events().cursor
    ada.close()
    if backend.redis_url:
        with server.client() as client:
            client.flushall()
    else:
        for file in backend.database.parent.glob("*"):
            file.unlink()
    bob = enter("bob")
    empty = bob.events(after=cursor)
    assert empty.events == ()
    assert empty.notices == ("The log was begun anew since then, and what it held before is lost.",)
    bob.share("t", "after")
    again = bob.events(after=cursor)
    assert [event.text for event in again.events] == ["after"]
    assert "begun anew" in again.notices[0]
    assert bob.claim(["a"]).lease.token > token  # the clock keeps tokens growing


@pytest.mark.parametrize("cursor", ["x", "1", "-1-2", "1-2-3", "1" * 16 + "-1"])
def test_what_is_no_cursor_is_refused(enter: Enter, cursor: str) -> None:
    with pytest.raises(InvalidInput, match="no cursor"):
        enter().events(after=cursor)


def test_a_wait_has_bounds(enter: Enter) -> None:
    for wait in (-1.0, 4000.0, float("nan")):
        with pytest.raises(InvalidInput, match="wait"):
            enter().events(wait=wait)


# contexts


def test_a_session_finds_its_context_again(enter: Enter) -> None:
    ada, bob = enter("ada"), enter("bob")
    assert bob.context("s") is None
    ada.put_context("s", {"plan": ["a", 2, None], "step": 3})
    assert bob.context("s").value == {"plan": ["a", 2, None], "step": 3}
    ada.put_context("s", "only a text\nof two lines")
    assert bob.context("s").value == "only a text\nof two lines"
    assert bob.context("S") is None


def test_a_context_goes_when_its_time_is_over(enter: Enter) -> None:
    ada = enter()
    ada.put_context("s", "x", ttl=1)
    assert ada.context("s").value == "x"
    time.sleep(1.1)
    assert ada.context("s") is None


@pytest.mark.parametrize(
    "value", ["x" * MAX_CONTEXT, {"a": b"bytes"}, {"a": object()}, {("a",): 1}]
)
def test_a_context_that_cannot_be_kept_is_refused(enter: Enter, value: object) -> None:
    with pytest.raises(InvalidInput, match="context"):
        enter().put_context("s", value)


def test_half_a_character_is_kept_as_a_mark(enter: Enter) -> None:
    ada = enter()
    ada.share("t", "half \ud83d here")
    ada.claim(["half \ud83d"], purpose="half \ud83d")
    ada.put_context("s", {"half \ud83d": "half \ud83d"})
    assert ada.findings("t").findings[0].text == "half ? here"
    assert ada.context("s") is not None


# one machine, a team


def test_projects_do_not_meet(backend: Settings, repository: Path, tmp_path: Path) -> None:
    from tests.conftest import git, make_repository

    other = tmp_path / "other"
    other.mkdir()
    make_repository(other, {"x.py": "x = 1\n"})
    git(other, "commit", "-q", "--allow-empty", "-m", "Another root")
    with (
        Coordination(backend, repository, holder="ada") as here,
        Coordination(backend, other, holder="bob") as there,
    ):
        here.claim(["a"])
        here.share("a", "text")
        here.put_context("s", "text")
        assert there.claim(["a"]).action == "claimed"
        assert there.findings("a").findings == ()
        assert [event.holder for event in there.events().events] == ["bob"]
        assert there.context("s") is None


def test_what_agents_do_follows_a_project_that_is_joined_to_another(
    settings: Settings, repository: Path
) -> None:
    from stratum.store import open_store

    with Coordination(settings, repository, holder="ada") as ada:
        lease = ada.claim(["a", "path:src"]).lease
        ada.share("a", "text")
        store = open_store(settings.database)
        with store.transaction():
            new = store.add_project("github.com/acme/shop", "shop")
            old = store.worktree(str(ada.root)).project_id
            store.move_coordination(old, new)
        _, [held] = store.leases(new)
        assert (held.id, store.leases(old)[1]) == (lease.id, [])
        assert store.claim(
            new, dataclasses.replace(held, id="b" * 12, holder="bob"),
            [*overlapping("path:src/x")], 1000, kept=1, most=10, bound=10,
        ).state == "refused"  # fmt: skip
        assert len(store.read_log(new, "task:a", None, 10).entries) == 1
        store.close()


def test_machines_of_a_team_meet_and_keep_nothing_of_it_at_home(
    server: RedisServer, settings: Settings, repository: Path, tmp_path: Path
) -> None:
    homes = [
        dataclasses.replace(
            settings, redis_url=server.url, machine=name, database=tmp_path / name / "stratum.db"
        )
        for name in ("laptop", "tower")
    ]
    with Coordination(homes[0], repository) as one, Coordination(homes[1], repository) as two:
        one.claim(["meet"], purpose="first")
        with pytest.raises(Claimed, match="Ada@laptop"):
            two.claim(["meet"])
        one.share("meet", "Found by one")
        assert [f.machine for f in two.findings("meet").findings] == ["laptop"]
    from stratum.store import open_store

    for home in homes:
        store = open_store(home.database)
        place = store.worktree(str(repository))
        assert store.leases(place.project_id)[1] == []
        store.close()


def test_a_folder_that_only_its_path_names_is_of_this_machine_alone(
    server: RedisServer, settings: Settings, tmp_path: Path
) -> None:
    """Another machine can have another project at the same path."""
    folder = tmp_path / "plain"
    folder.mkdir()
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    homes = [
        dataclasses.replace(
            settings, redis_url=server.url, machine=name, database=tmp_path / name / "stratum.db"
        )
        for name in ("laptop", "tower")
    ]
    with Coordination(homes[0], folder) as one, Coordination(homes[1], folder) as two:
        one.claim(["plain"])
        assert two.claim(["plain"]).action == "claimed"
        assert len(one.leases()) == 1


def test_teams_on_one_server_do_not_meet(
    server: RedisServer, settings: Settings, repository: Path
) -> None:
    red, blue = (
        dataclasses.replace(settings, redis_url=server.url, team=team) for team in ("red", "blue")
    )
    with Coordination(red, repository) as one, Coordination(blue, repository) as two:
        one.claim(["teams"])
        assert two.claim(["teams"]).action == "claimed"


def test_a_cluster_holds_the_same_contract(settings: Settings, repository: Path) -> None:
    with RedisServer(search=False, cluster=2) as nodes:
        made = dataclasses.replace(settings, redis_url=nodes.url)
        with (
            Coordination(made, repository, holder="ada", least_ttl=0.05) as ada,
            Coordination(made, repository, holder="bob") as bob,
        ):
            lease = ada.claim(["a", "path:src"], ttl=SHORT).lease
            with pytest.raises(Claimed):
                bob.claim(["path:src/x"])
            time.sleep(SHORT + 0.05)
            assert bob.claim(["path:src/x"]).before == ("ada",)
            with pytest.raises(Claimed, match="taken over by bob"):
                ada.heartbeat(lease)
            ada.share("a", "text")
            assert len(bob.findings("a").findings) == 1
            cursor = bob.events().cursor
            assert bob.events(after=cursor, wait=0.2).events == ()
            ada.put_context("s", "text")
            assert bob.context("s").value == "text"
            assert len(bob.leases()) == 1


# outages


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    with RedisServer(search=False, persistent=True) as running:
        yield running


@pytest.fixture
def join(own_server: RedisServer, settings: Settings, repository: Path) -> Iterator[Enter]:
    yield from entering(dataclasses.replace(settings, redis_url=own_server.url), repository)


def every_call(one: Coordination, lease: Lease) -> list[Callable[[], object]]:
    return [
        lambda: one.claim(["other"]),
        lambda: one.heartbeat(lease),
        lambda: one.release(lease),
        lambda: one.check(lease),
        lambda: one.check(lease.token),
        one.leases,
        lambda: one.share("t", "x"),
        lambda: one.findings("t"),
        one.events,
        lambda: one.events(after="1-1", wait=5),
        lambda: one.put_context("s", "x"),
        lambda: one.context("s"),
    ]


def test_a_restart_of_the_server_between_claim_and_release_goes_unseen(
    own_server: RedisServer, join: Enter
) -> None:
    ada, bob = join("ada"), join("bob")
    lease = ada.claim(["a"]).lease
    cursor = bob.events().cursor
    own_server.kill()
    own_server.start()
    with pytest.raises(Claimed, match="by ada"):
        bob.claim(["a"])
    assert ada.release(lease).id == lease.id
    assert [event.kind for event in bob.events(after=cursor).events] == ["released"]
    assert bob.claim(["a"]).lease.token > lease.token


def test_an_outage_is_an_error_of_every_call_and_never_an_empty_answer(
    own_server: RedisServer, join: Enter
) -> None:
    ada, late = join("ada"), join("late")
    lease = ada.claim(["a"]).lease
    own_server.kill()
    for one in (ada, late):  # one that was connected, one that was not
        for call in every_call(one, lease):
            begun = time.monotonic()
            with pytest.raises(TeamUnavailable) as raised:
                call()
            assert time.monotonic() - begun < 5
            assert raised.value.exit_code == 4
            assert raised.value.retryable
            assert raised.value.hint
    own_server.start()
    assert [held.id for held in late.leases()] == [lease.id]


def test_a_server_that_dies_while_one_waits_ends_the_wait(
    own_server: RedisServer, join: Enter
) -> None:
    ada = join("ada")
    cursor = ada.events().cursor
    timer = threading.Timer(0.3, own_server.kill)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(TeamUnavailable):
        ada.events(after=cursor, wait=30)
    assert time.monotonic() - begun < 10
    timer.join()


def test_a_finding_that_is_sent_twice_is_kept_once(
    own_server: RedisServer, settings: Settings
) -> None:
    """As after a connection that broke behind the server's back."""
    from stratum.coordination_redis import RedisCoordination

    team = RedisCoordination(dataclasses.replace(settings, redis_url=own_server.url))
    finding, event = {"id": "a" * 12, "text": "x"}, {"kind": "shared"}
    sent = [team.share("p", "t", finding, event, ttl=60_000, bounds=(5, 5)) for _ in range(2)]
    assert sent[0] == sent[1]
    assert len(team.read_log("p", "t", None, 10).entries) == 1
    assert len(team.read_log("p", "", None, 10).entries) == 1
    team.close()


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="stops a process")
def test_a_claim_whose_answer_was_lost_is_claimed_again_and_not_twice(
    own_server: RedisServer, join: Enter
) -> None:
    """A server that hangs is like a network that swallows: the call ends, its effect is unknown."""
    ada, bob = join("ada"), join("bob")
    ada.leases()
    bob.leases()
    process = own_server.nodes[0].process
    process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        claiming = pool.submit(ada.claim, ["a"])
        sharing = pool.submit(bob.share, "t", "once")
        for lost in (claiming, sharing):
            with pytest.raises(TeamUnavailable):
                lost.result(20)
    assert 4 < time.monotonic() - begun < 12
    process.send_signal(signal.SIGCONT)
    again = ada.claim(["a"])
    assert again.lease.holder == "ada"
    assert len(ada.leases()) == 1
    assert len(ada.findings("t").findings) <= 1
    with pytest.raises(Claimed):
        bob.claim(["a"])


def test_what_others_put_there_that_cannot_be_read_is_counted_and_passed_over(
    own_server: RedisServer, join: Enter
) -> None:
    ada = join("ada")
    first = ada.share("t", "one").finding
    with own_server.client() as client:
        for [key] in ((key,) for key in client.keys("*:findings:*") + client.keys("*:events:*")):
            last = client.xrevrange(key, count=1)[0][0].decode()
            epoch, number = last.split("-")
            for more, text in enumerate(("no json", "{}", '{"kind": 7}', "[1]"), int(number) + 1):
                client.xadd(key, {"entry": text}, id=f"{epoch}-{more}")
    found = ada.findings("t", after=first.cursor)
    assert found.findings == ()
    assert found.notices == ("4 lines are not readable.",)
    assert ada.events().notices == ("4 lines are not readable.",)


def test_what_others_wrote_is_masked_and_made_harmless_again(
    own_server: RedisServer, join: Enter
) -> None:
    ada = join("ada")
    ada.share("t", "one")
    evil = {
        "id": "x", "task": "t\x1b[2J", "text": f"{SECRET}\u202e\x1b[31m" + "y" * 9000, "at": 1,
        "holder": "h\n\x1b[2J", "author": "a", "machine": "m", "agent": "g",
    }  # fmt: skip
    with own_server.client() as client:
        [key] = client.keys("*:findings:*")
        epoch = client.xrevrange(key, count=1)[0][0].decode().split("-")[0]
        client.xadd(key, {"entry": json.dumps(evil)}, id=f"{epoch}-2")
    finding = ada.findings("t").findings[-1]
    said = repr(finding)
    assert SECRET not in said
    assert "x1b" not in said
    assert "\\n" not in finding.holder
    assert len(finding.text) <= MAX_FINDING


@pytest.mark.parametrize("junk", ["no json", "[]", "{}", '{"token": "x"}', '{"expires": 1e40}'])
def test_a_lease_or_context_that_nobody_can_read_is_an_error_in_words(
    own_server: RedisServer, join: Enter, junk: str
) -> None:
    ada = join("ada")
    lease = ada.claim(["a"]).lease
    ada.put_context("s", "x")
    with own_server.client() as client:
        [leases] = client.keys("*:leases:*")
        kept = json.loads(client.hget(leases, lease.id))
        broken = json.dumps(kept | json.loads(junk)) if junk.startswith('{"') else junk
        client.hset(leases, lease.id, broken)
        [context] = client.keys("*:context:*")
        client.set(context, junk)
    for call in (
        ada.leases,
        lambda: ada.check(lease),
        lambda: ada.heartbeat(lease),
        lambda: ada.claim(["a"]),
        lambda: ada.context("s"),
    ):
        with pytest.raises(TeamUnavailable) as raised:
            call()
        assert raised.value.hint
