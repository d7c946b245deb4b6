"""A peer that is broken or means ill and may write to the team's Redis: what it can do to others.

It plants hashes, ids and changes. Nothing of it may alter what a machine has, hide what honest
machines send, crash anybody or take long; each version that was not taken in is told with a reason.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import struct
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from stratum.config import load
from stratum.models import Note
from stratum.redis_client import Keys
from stratum.stamps import stamp_of
from stratum.wire import fields_of
from tests.conftest import git
from tests.team_machines import PROJECT, Machine, Refused, Server, team

HOME = "e" * 12
LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
QUICK = 30.0  # seconds that a synchronisation among all of this may take; it takes one or two
GROWTH = 150_000  # KB that the process may grow by
Fields = dict[str, Any]


def new_id() -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(12))


def at(hours: float = 0.0) -> str:
    when = datetime.now(UTC) + timedelta(hours=hours)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def hash_of(uid: str, *, time: str = "", home: str = HOME, **changes: Any) -> Fields:
    """A note as an honest machine sends it, but for the changes; None drops a field."""
    time = time or at()
    note = Note(
        uid, f"Planted {uid}.", "fact", ("planted",), (), "team", "proposed", "Eve", "", None,
        "main", time, time,
    )  # fmt: skip
    fields: Fields = dict(
        fields_of(PROJECT, "shop", note, stamp=stamp_of(time, home), parent="",
                  machine="eve")
    )  # fmt: skip
    fields |= changes
    return {key: value for key, value in fields.items() if value is not None}


def anchor(**changes: Any) -> str:
    return json.dumps([{"path": "shop/cart.py", **changes}])


class Peer:
    """Somebody with a client and no scruples."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.keys = Keys.of(load({}), PROJECT)

    def announce(self, uid: str | bytes, stamp: str = "9" * 34) -> None:
        self.client.sadd(self.keys.ids, uid)
        self.client.xadd(self.keys.log, {"id": uid, "stamp": stamp, "home": HOME})

    def plant(self, uid: str, fields: Fields) -> None:
        self.client.delete(self.keys.note(uid))
        self.client.hset(self.keys.note(uid), mapping=fields)
        self.announce(uid)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


@pytest.fixture
def peer(server: Server) -> Iterator[Peer]:
    with server.client() as client:
        yield Peer(client)


@pytest.fixture
def machines(server: Server, tmp_path: Path) -> Iterator[list[Machine]]:
    """Two honest machines that know of each other's notes; the first is the victim."""
    with team(tmp_path, server.port) as both:
        server.serve(both)
        for machine in both:
            machine.ask("write", text=f"Shared by {machine.name}.", scope="team",
                        anchors=["shop/cart.py::Cart.total_price"])  # fmt: skip
            machine.ask("write", text=f"Kept by {machine.name}.", tags=["own"])
        for machine in [*both, *both]:
            machine.ask("sync")
        yield both


def peak(machine: Machine) -> int:
    """The most memory that its process has ever had, in KB."""
    assert machine._process is not None
    status = Path(f"/proc/{machine._process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])


def survives(machines: list[Machine], *, taken: int = 0) -> dict[str, str]:
    """Let the victim sync; return the reasons of its quarantine, by id.

    What it had is as it was, an honest note comes through both ways, and a second time nothing
    moves.
    """
    anna, ben = machines
    before, memory = anna.ask("export"), peak(anna)
    sent = ben.ask("write", text=f"Honest {new_id()}.", scope="team")["note"]
    ben.ask("sync")
    begun = time.monotonic()
    report = anna.ask("sync")
    assert time.monotonic() - begun < QUICK
    assert peak(anna) - memory < GROWTH
    assert report["received"] == 1 + taken
    after = anna.ask("export")
    assert set(before) <= set(after)
    assert len(after) == len(before) + 1 + taken
    assert anna.ask("get", sent["id"])["text"] == sent["text"]
    assert anna.ask("problems") == []
    again = anna.ask("sync")
    assert (again["sent"], again["received"], again["conflicts"]) == (0, 0, 0)
    back = anna.ask("write", text=f"Answer {new_id()}.", scope="team")["note"]
    assert anna.ask("sync")["sent"] == 1
    ben.ask("sync")
    assert ben.ask("get", back["id"])["text"] == back["text"]
    quarantine = anna.ask("sync_state")["quarantine"]
    for entry in quarantine:
        assert 0 < len(entry["reason"]) <= 300
        assert entry["reason"].isprintable()
        assert entry["machine"].isprintable()
    return {entry["id"]: entry["reason"] for entry in quarantine}


HUGE = "9" * 5000
WRONG: dict[str, Callable[[str], Fields]] = {
    "a text of 10 MB": lambda uid: hash_of(uid, text="x" * 10_000_000),
    "a text of 9,000 characters": lambda uid: hash_of(uid, text="x" * 9000),
    "no text": lambda uid: hash_of(uid, text=None),
    "an empty text": lambda uid: hash_of(uid, text="  "),
    "a NUL": lambda uid: hash_of(uid, text="a\0b"),
    "invalid UTF-8": lambda uid: hash_of(uid, text=b"\xff\xfe\x00 text"),
    "half a surrogate pair": lambda uid: hash_of(uid, text=b"\xed\xa0\x80"),
    "one field alone": lambda uid: {"v": "1"},
    "no version": lambda uid: hash_of(uid, v=None),
    "a version to come": lambda uid: hash_of(uid, v="2"),
    "the id of another note": lambda uid: hash_of(uid, id=new_id()),
    "no id": lambda uid: hash_of(uid, id=None),
    "another project": lambda uid: hash_of(uid, project="github.com/acme/other"),
    "no project": lambda uid: hash_of(uid, project=""),
    "an unknown kind": lambda uid: hash_of(uid, kind="virus"),
    "no author": lambda uid: hash_of(uid, author=""),
    "an author with colours": lambda uid: hash_of(uid, author="\x1b[31mAnna"),
    "an author of two lines": lambda uid: hash_of(uid, author="Anna\nBen"),
    "a long author": lambda uid: hash_of(uid, author="a" * 100_000),
    "a machine that rings": lambda uid: hash_of(uid, machine="\x07\x07"),
    "an invisible agent": lambda uid: hash_of(uid, agent="bot\u200b\u202e"),
    "a branch that goes up": lambda uid: hash_of(uid, branch="main\x1b[A"),
    "a commit that is none": lambda uid: hash_of(uid, commit="--upload-pack=touch x"),
    "no stamp": lambda uid: hash_of(uid, stamp=None),
    "a stamp of letters": lambda uid: hash_of(uid, stamp="z" * 34),
    "a stamp of another time": lambda uid: hash_of(uid, stamp=stamp_of(at(1), HOME)),
    "a stamp of another home": lambda uid: hash_of(uid, stamp=stamp_of(at(), "b" * 12)),
    "a parent that is none": lambda uid: hash_of(uid, parent="x"),
    "no home": lambda uid: hash_of(uid) | {"home": ""},
    "a home in capitals": lambda uid: hash_of(uid) | {"home": "E" * 12},
    "the year 9000": lambda uid: hash_of(uid, time="9000-01-01T00:00:00.000Z"),
    "a clock 25 hours ahead": lambda uid: hash_of(uid, time=at(25)),
    "a time that is none": lambda uid: hash_of(uid, updated_at="yesterday"),
    "a birthday that is none": lambda uid: hash_of(uid, created_at="2026-13-45T99:99:99.999Z"),
    "an end that is none": lambda uid: hash_of(uid, deleted_at="never"),
    "tags that are no JSON": lambda uid: hash_of(uid, tags="[oops"),
    "tags that are no list": lambda uid: hash_of(uid, tags='{"a": 1}'),
    "tags that are numbers": lambda uid: hash_of(uid, tags="[1, 2]"),
    "tags that nest": lambda uid: hash_of(uid, tags="[" * 100_000 + "]" * 100_000),
    "many tags": lambda uid: hash_of(uid, tags=json.dumps([f"t{n}" for n in range(5000)])),
    "a tag with a line": lambda uid: hash_of(uid, tags=json.dumps(["a\nb"])),
    "tags that are no numbers": lambda uid: hash_of(uid, tags="[NaN, Infinity]"),
    "a huge number": lambda uid: hash_of(uid, tags=f"[{HUGE}]"),
    "anchors that nest": lambda uid: hash_of(uid, anchors='[{"path": ' * 2000 + "1" + "}]" * 2000),
    "anchors that are texts": lambda uid: hash_of(uid, anchors='["shop/cart.py"]'),
    "an anchor above the project": lambda uid: hash_of(uid, anchors=anchor(path="../../etc/x")),
    "an anchor inside and out": lambda uid: hash_of(uid, anchors=anchor(path="a/../../x")),
    "an anchor in the root": lambda uid: hash_of(uid, anchors=anchor(path="/etc/passwd")),
    "an anchor with a huge line": lambda uid: hash_of(
        uid, anchors=anchor(start_line=10**30, end_line=10**30)
    ),
    "an anchor that is no number": lambda uid: hash_of(
        uid, anchors='[{"path": "a", "start_line": NaN, "end_line": NaN}]'
    ),
    "an anchor with more fields": lambda uid: hash_of(uid, anchors=anchor(run="rm")),
    "an anchor with a list": lambda uid: hash_of(uid, anchors=anchor(symbol=["a"])),
    "many anchors": lambda uid: hash_of(uid, anchors=json.dumps([{"path": "a"}] * 500)),
    "itself superseded": lambda uid: hash_of(uid, supersedes=uid),
    "superseding no id": lambda uid: hash_of(uid, supersedes="../../x"),
    "many fields": lambda uid: hash_of(uid, **{f"x{n}": "y" for n in range(500)}),
    "a field of 20 MB that nobody reads": lambda uid: hash_of(uid, extra="x" * 20_000_000),
}


def test_what_is_wrong_is_told_and_not_taken_in(machines: list[Machine], peer: Peer) -> None:
    planted = {}
    for name, wrong in WRONG.items():
        uid = new_id()
        peer.plant(uid, wrong(uid))
        planted[uid] = name
    reasons = survives(machines)
    assert {planted[uid] for uid in planted.keys() - reasons.keys()} == set()
    assert reasons.keys() == planted.keys()


def test_a_machine_that_comes_later_refuses_the_same(
    server: Server, machines: list[Machine], peer: Peer, tmp_path: Path
) -> None:
    """It reads no changes but all notes at once."""
    planted = {new_id(): wrong for wrong in WRONG.values()}
    for uid, wrong in planted.items():
        peer.plant(uid, wrong(uid))
    with team(tmp_path, server.port, {"cleo": 0.0}) as (cleo,):
        report = cleo.ask("sync")
        assert (report["received"], report["quarantined"]) == (2, len(planted))
        assert len(cleo.ask("export")) == 1 + 2
        assert cleo.ask("problems") == []


@pytest.mark.parametrize("kind", ["string", "list", "set", "zset", "stream", "nothing"])
def test_a_key_that_holds_something_else(machines: list[Machine], peer: Peer, kind: str) -> None:
    uid = new_id()
    key = peer.keys.note(uid)
    match kind:
        case "string":
            peer.client.set(key, "x")
        case "list":
            peer.client.rpush(key, "x")
        case "set":
            peer.client.sadd(key, "x")
        case "zset":
            peer.client.zadd(key, {"x": 1})
        case "stream":
            peer.client.xadd(key, {"x": 1})
    peer.announce(uid)
    assert set(survives(machines)) == (set() if kind == "nothing" else {uid})


def test_ids_and_changes_that_make_no_sense(machines: list[Machine], peer: Peer) -> None:
    for uid in (b"\xff\xfe", b"", b"../../x", b"{x}", b"\x1b[31m", b"a" * 100_000, b"*", b"\n"):
        peer.announce(uid)
    for entry in (
        {"foo": "bar"}, {"id": b"\xff", "stamp": b"\xff"}, {"stamp": "1"}, {"id": new_id()},
        {"id": new_id(), "stamp": "~" * 100_000}, {f"f{n}": "x" for n in range(1000)},
    ):  # fmt: skip
        peer.client.xadd(peer.keys.log, entry)
    survives(machines)


def test_a_hundred_thousand_changes_of_one_note(machines: list[Machine], peer: Peer) -> None:
    uid = new_id()
    fields = hash_of(uid)
    peer.plant(uid, fields)
    for _ in range(100):
        with peer.client.pipeline(transaction=False) as pipe:
            for _ in range(1000):
                pipe.xadd(peer.keys.log, {"id": uid, "stamp": "9" * 34, "home": HOME})
            pipe.execute()
    assert survives(machines, taken=1) == {}


def test_ids_that_belong_to_something_else_here(
    machines: list[Machine], peer: Peer, tmp_path: Path
) -> None:
    anna, _ = machines
    anna.ask("index")
    [personal] = [
        note["id"]
        for note in map(json.loads, anna.ask("export")[1:])
        if note["scope"] == "personal"
    ]
    hits = anna.ask("search", "total_price")["hits"]
    code = next(hit["id"] for hit in hits if hit["stratum"] == "code")
    elsewhere = note_of_another_project(anna, tmp_path)
    for uid in (personal, code, elsewhere):
        peer.plant(uid, hash_of(uid, time=at(1)))
    assert set(survives(machines)) == {personal, code, elsewhere}
    assert anna.ask("get", personal)["text"] == "Kept by anna."
    assert anna.ask("get", code)["stratum"] == "code"


def note_of_another_project(anna: Machine, folder: Path) -> str:
    other = folder / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(other, "remote", "add", "origin", "https://github.com/acme/other.git")
    (other / "a.py").write_text("A = 1\n")
    clone, anna.clone = anna.clone, other
    try:
        written = anna.command("write", "Of another project.", "--team", "--json").stdout
    finally:
        anna.clone = clone
    return str(json.loads(written)["note"]["id"])


def test_versions_that_claim_to_come_from_this_very_machine(
    machines: list[Machine], peer: Peer
) -> None:
    anna, _ = machines
    home = anna.ask("sync_state")["home"]
    own = next(
        note["id"]
        for note in map(json.loads, anna.ask("export")[1:])
        if note["scope"] == "team" and note["author"] == "Anna"
    )
    new = new_id()
    for uid in (own, new):
        peer.plant(uid, hash_of(uid, time=at(2), home=home))
    assert set(survives(machines)) == {own, new}


def test_notes_that_supersede_each_other_in_a_circle(machines: list[Machine], peer: Peer) -> None:
    ids = [new_id() for _ in range(3)]
    for older, newer in zip(ids, [*ids[1:], ids[0]], strict=True):
        peer.plant(newer, hash_of(newer, supersedes=older))
    reasons = survives(machines, taken=2)
    assert len(reasons) == 1
    assert reasons.keys() < set(ids)


def test_vectors_that_are_none(machines: list[Machine], peer: Peer) -> None:
    """The notes are good: they are taken in, and get vectors made here."""
    anna, _ = machines
    anna.ask("index")
    anna.ask("sync")
    [field] = {
        name.decode()
        for key in peer.client.scan_iter(peer.keys.note("*"))
        for name in peer.client.hkeys(key)
        if name.startswith(b"v_")
    }
    dimension = anna.ask("status")["embedder"]["dimension"]
    vectors = [
        b"", b"\0", b"\0" * 4 * dimension, struct.pack("<f", 1.0) * (dimension - 1),
        struct.pack("<f", float("nan")) * dimension, struct.pack("<f", float("inf")) * dimension,
        struct.pack("<f", 1e38) * dimension, b"\xff" * 4 * dimension * 10,
    ]  # fmt: skip
    for vector in vectors:
        uid = new_id()
        peer.plant(uid, hash_of(uid, **{field: vector}))
    assert survives(machines, taken=len(vectors)) == {}
    anna.ask("index")
    assert anna.ask("status")["embedder"]["pending"] == 0
    assert anna.ask("search", "planted")["hits"]


def test_many_bad_notes_do_not_fill_the_disk(machines: list[Machine], peer: Peer) -> None:
    anna, _ = machines
    size = anna.database.stat().st_size
    with peer.client.pipeline(transaction=False) as pipe:
        for _ in range(3000):
            uid = new_id()
            pipe.hset(peer.keys.note(uid), mapping=hash_of(uid, kind="virus", text="y" * 5000))
            pipe.sadd(peer.keys.ids, uid)
            pipe.xadd(peer.keys.log, {"id": uid, "stamp": "9" * 34, "home": HOME})
        pipe.execute()
    reasons = survives(machines)
    assert 0 < len(reasons) <= 1000
    assert anna.database.stat().st_size - size < 2_000_000


@contextlib.contextmanager
def perhaps_unavailable() -> Iterator[None]:
    """Allow that a synchronisation says what is wrong with the server, and nothing else."""
    try:
        yield
    except Refused as refused:
        if refused.name != "TeamUnavailable":
            raise


@pytest.mark.parametrize("which", ["log", "ids"])
def test_a_key_of_the_project_that_holds_something_else(
    machines: list[Machine], peer: Peer, which: str
) -> None:
    anna, ben = machines
    before = anna.ask("export")
    key = getattr(peer.keys, which)
    peer.client.delete(key)
    peer.client.set(key, "x")
    written = anna.ask("write", text="Written meanwhile.", scope="team")["note"]
    for _ in range(2):
        with perhaps_unavailable():
            anna.ask("sync")
    assert set(before) < set(anna.ask("export"))
    if peer.client.type(key) == b"string":
        peer.client.delete(key)  # as its owner would do
    for machine in (anna, ben, anna):
        machine.ask("sync")
    assert ben.ask("get", written["id"])["text"] == "Written meanwhile."


def test_a_list_of_changes_that_can_take_no_more(machines: list[Machine], peer: Peer) -> None:
    """The last id that a stream can have leaves no room for another change."""
    anna, ben = machines
    peer.client.xadd(peer.keys.log, {"id": "x"}, id=f"{2**64 - 1}-{2**64 - 1}")
    written = anna.ask("write", text="Written after that.", scope="team")["note"]
    for _ in range(2):
        with perhaps_unavailable():
            anna.ask("sync")
    if peer.client.xinfo_stream(peer.keys.log)["last-generated-id"].startswith(b"18446744"):
        peer.client.delete(peer.keys.log)  # as its owner would do
    for machine in (anna, ben, anna):
        machine.ask("sync")
    assert ben.ask("get", written["id"])["text"] == "Written after that."


def test_a_bad_version_over_a_good_one_changes_nothing(machines: list[Machine], peer: Peer) -> None:
    anna, _ = machines
    shared = [note["id"] for note in map(json.loads, anna.ask("export")[1:])
              if note["scope"] == "team"]  # fmt: skip
    for uid in shared:
        peer.plant(uid, hash_of(uid, time=at(1), kind="virus"))
    assert set(survives(machines)) == set(shared)


def test_what_was_refused_for_a_wrong_clock_comes_when_the_clock_is_right(
    server: Server, tmp_path: Path
) -> None:
    with team(tmp_path, server.port, {"anna": -30 * 3600.0, "ben": 0.0}) as (anna, ben):
        server.serve([anna, ben])
        note = ben.ask("write", text="Of today.", scope="team")["note"]
        ben.ask("sync")
        anna.ask("sync")
        [entry] = anna.ask("sync_state")["quarantine"]
        assert "hours ahead" in entry["reason"]
        anna.ask("clock", 0.0)
        anna.ask("sync")
        assert anna.ask("get", note["id"])["text"] == "Of today."
        assert anna.ask("sync_state")["quarantine"] == []
