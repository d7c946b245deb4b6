"""Random histories on three machines: whatever happens, all end up with the same notes.

Each seed is a history of writes, merges, verifications, supersessions, forgetting and restoring,
between partitions, cut connections, kills, servers that restart, lose all or come back from an old
snapshot, and clocks an hour apart that jump. `STRATUM_TEST_SEED` plays one seed,
`STRATUM_TEST_OPERATIONS` makes the histories longer (20,000 take a while).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.team_machines import (
    PROJECT,
    ROOT,
    Killed,
    Machine,
    Refused,
    Server,
    Version,
    Versions,
    held,
    settle,
    team,
)

# read here: the tests themselves see no variable of ours
SEEDS = [int(seed) for seed in os.environ.get("STRATUM_TEST_SEED", "1,2").split(",")]
OPERATIONS = int(os.environ.get("STRATUM_TEST_OPERATIONS", "160"))
TIMEOUT = 300 + OPERATIONS  # seconds
TEXTS = 40 + OPERATIONS // 4  # few enough that machines often write the same words
PLACES = ("shop/cart.py::Cart.total_price", "shop/session.py", "README.md:3", "shop/cart.py::Cart")
HOUR = 3600.0
CLOCKS = {"anna": HOUR, "ben": 0.0, "cleo": -HOUR}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


class Play:
    """One history, and what it must end in."""

    def __init__(self, seed: int, server: Server, machines: list[Machine]) -> None:
        self.rng = random.Random(seed)
        self.server, self.machines = server, machines
        self.versions = Versions()
        self.texts: set[str] = set()  # acknowledged as team notes
        self.gone: set[str] = set()  # those that somebody forgot or superseded, or tried to
        self.words: dict[str, str] = {}  # id -> text
        self.known: dict[str, dict[str, Version]] = {machine.name: {} for machine in machines}
        self.snapshots: list[Path] = []
        self.counts: Counter[str] = Counter()
        self.merged_twins = 0

    def run(self, operations: int) -> None:
        """Play so many operations."""
        steps = {
            self.write: 24, self.write_again: 10, self.tag: 10, self.supersede: 6,
            self.verify: 6, self.unverify: 3, self.forget: 8, self.restore: 5,
            self.judge: 5, self.promote: 2, self.sync: 16, self.part: 3, self.join: 4,
            self.cut: 3, self.kill_in_sync: 2, self.kill_in_write: 1, self.restart_server: 1,
            self.snapshot: 0.5, self.old_snapshot: 0.4, self.lose_server: 0.3,
            self.jump: 1.5, self.take_over: 0.7,
        }  # fmt: skip
        for number in range(operations):
            [step] = self.rng.choices(list(steps), weights=list(steps.values()))
            self.counts[step.__name__] += 1
            self.last = (number, step.__name__)
            step(self.rng.choice(self.machines))

    # what agents do

    def write(self, machine: Machine) -> None:
        self._write(machine, f"{self._text()} {self.rng.randrange(10**6)}")

    def write_again(self, machine: Machine) -> None:
        self._write(machine, self._text())

    def tag(self, machine: Machine) -> None:
        uid = self._some(machine)
        if uid is not None and uid in self.words:
            self._write(machine, self.words[uid])

    def supersede(self, machine: Machine) -> None:
        uid = self._some(machine)
        if uid is not None:
            self._bury_words(uid)
            self._write(machine, f"{self._text()} newer {self.rng.random()}", supersedes=uid)

    def promote(self, machine: Machine) -> None:
        text = f"personal {self.rng.random()} of {machine.name}"
        machine.ask("write", text=text, scope="personal")
        if self.rng.random() < 0.5:
            self._write(machine, text)

    def verify(self, machine: Machine) -> None:
        self._change(machine, "verify")

    def unverify(self, machine: Machine) -> None:
        self._change(machine, "verify", undo=True)

    def forget(self, machine: Machine) -> None:
        self._change(machine, "forget")

    def restore(self, machine: Machine) -> None:
        self._change(machine, "forget", undo=True)

    def judge(self, machine: Machine) -> None:
        uid = self._some(machine)
        if uid is not None:
            machine.ask(self.rng.choice(["accept", "reject"]), uid)
            self._look(machine, {uid})

    def take_over(self, machine: Machine) -> None:
        """Carry an export from one machine to another, as people do."""
        other = self.rng.choice(self.machines)
        lines = [line for line in other.ask("export") if '"scope": "personal"' not in line]
        machine.ask("import_", lines)
        self._look(machine, None)

    # what happens to machines

    def jump(self, machine: Machine) -> None:
        machine.ahead = self.rng.choice([-HOUR, -1.0, 0.0, 1.0, HOUR])
        machine.ask("clock", machine.ahead)

    def kill_in_write(self, machine: Machine) -> None:
        text = f"{self._text()} killed {self.rng.random()}"
        machine.begin("write", text=text, scope="team", tags=["killed"])
        time.sleep(self.rng.random() * 0.03)
        machine.kill()
        self._look(machine, None)

    # what happens to the team

    def sync(self, machine: Machine) -> None:
        with refusing("TeamUnavailable"):
            machine.ask("sync")
        self._look(machine, None, by_sync=True)

    def part(self, machine: Machine) -> None:
        machine.proxy.refuse()

    def join(self, machine: Machine) -> None:
        machine.proxy.open()

    def cut(self, machine: Machine) -> None:
        """Let the connection break somewhere in a synchronisation."""
        machine.proxy.open(cut_after=self.rng.randrange(1, 6000))
        self.sync(machine)
        machine.proxy.open()

    def kill_in_sync(self, machine: Machine) -> None:
        """Kill the process at a byte of Redis' answers, or at a moment."""
        if self.rng.random() < 0.7:
            machine.proxy.open(cut_after=self.rng.randrange(1, 6000), on_cut=machine.strike)
            machine.begin("sync")
            with contextlib.suppress(Killed, Refused):
                machine.end()
        else:
            machine.begin("sync")
            time.sleep(self.rng.random() * 0.05)
        machine.kill()
        machine.proxy.open()
        self._look(machine, None, by_sync=True)

    def restart_server(self, machine: Machine) -> None:
        self.server.restart()

    def snapshot(self, machine: Machine) -> None:
        self.snapshots.append(self.server.snapshot())

    def old_snapshot(self, machine: Machine) -> None:
        if self.snapshots:
            self.server.restore(self.rng.choice(self.snapshots))

    def lose_server(self, machine: Machine) -> None:
        self.server.restore(None)

    # the model

    def _text(self) -> str:
        return f"Thing {self.rng.randrange(TEXTS)} is done in the till"

    def _some(self, machine: Machine) -> str | None:
        """Return the id of a note that a machine knows."""
        known = self.known[machine.name]
        return list(known)[self.rng.randrange(len(known))] if known else None

    def _bury_words(self, uid: str) -> None:
        if uid in self.words:
            self.gone.add(self.words[uid])

    def _write(self, machine: Machine, text: str, supersedes: str | None = None) -> None:
        written = machine.ask(
            "write",
            text=text,
            scope="team",
            tags=[f"t{self.rng.randrange(30)}"] if self.rng.random() < 0.6 else [],
            anchors=[self.rng.choice(PLACES)] if self.rng.random() < 0.4 else [],
            kind=self.rng.choice(["fact", "gotcha", "decision"]),
            supersedes=supersedes,
        )
        uid = written["note"]["id"]
        self.texts.add(text)
        self.words[uid] = text
        self._look(machine, {uid, supersedes})
        self._acknowledged(machine, written)

    def _change(self, machine: Machine, verb: str, undo: bool = False) -> None:
        uid = self._some(machine)
        if uid is None:
            return
        if verb == "forget" and not undo:
            self._bury_words(uid)
        written = None
        with refusing("InvalidInput"):  # it is forgotten, or there is nothing to undo
            written = machine.ask(verb, uid, undo=undo)
        if written is None:
            self._look(machine, set())
            return
        parted = {id_ for id_, other in self.known[machine.name].items() if other.supersedes == uid}
        self._look(machine, {uid, *parted} if undo else {uid})
        self._acknowledged(machine, written)

    def _acknowledged(self, machine: Machine, written: Any) -> None:
        """What a change answers is what is stored."""
        note = written["note"]
        version = self.known[machine.name][note["id"]]
        assert version.updated_at == note["updated_at"]
        assert version.deleted_at == note["deleted_at"]
        assert version.scope == "team"

    def _look(
        self, machine: Machine, may_change: set[Any] | None, *, by_sync: bool = False
    ) -> None:
        """Take in what a machine holds now; only the named notes may have another version.

        A synchronisation brings only versions that another machine has made, and those in which
        twins were merged: notes of the same words.
        """
        for uid, (version, never_seen) in self.versions.look(machine).items():
            earlier = self.known[machine.name].get(uid)
            self.known[machine.name][uid] = version
            if version.text:
                self.words.setdefault(uid, version.text)
            if may_change is not None and earlier not in (None, version):
                assert uid in may_change, f"{uid} was changed by {self.last} of {machine.name}"
            if by_sync and never_seen:
                twins = [id_ for id_, text in self.words.items() if text == self.words.get(uid)]
                assert len(twins) > 1, f"{uid} got a version of its own by a synchronisation"
                self.merged_twins += 1

    def _never_here(self, machine: Machine, uid: str) -> bool:
        """A note that was forgotten before a machine heard of it need not be known there."""
        forgotten = self.versions.last(uid)[1].deleted_at is not None
        return forgotten and uid not in self.known[machine.name]

    # the end

    def heal(self) -> int:
        for machine in self.machines:
            machine.proxy.open()
        rounds = settle(self.machines)
        for machine in self.machines:
            self._look(machine, None, by_sync=True)
        return rounds

    def check(self) -> None:
        """All machines and Redis hold the last version of each note, and no words are lost."""
        states = {machine.name: team_notes(machine) for machine in self.machines}
        expected = {uid: self.versions.last(uid) for uid in self.versions.by_id}
        for machine in self.machines:
            state = states[machine.name]
            wrong = {
                uid: (state.get(uid), expected.get(uid))
                for uid in state.keys() | expected.keys()
                if state.get(uid) != expected.get(uid) and not self._never_here(machine, uid)
            }
            assert not wrong, f"{machine.name}: {shortened(wrong)}"
            assert machine.ask("problems") == []
            assert machine.ask("status")["counts"]["outbox"] == 0
            sync_state = machine.ask("sync_state")
            assert (sync_state["waiting"], list(sync_state["quarantine"])) == (0, [])
        there = in_redis(self.server)
        wrong = {
            uid: (there.get(uid), expected.get(uid))
            for uid in there.keys() | expected.keys()
            if there.get(uid) != expected.get(uid)
        }
        assert not wrong, f"Redis: {shortened(wrong)}"
        living = [living_notes(machine) for machine in self.machines]
        assert living[0] == living[1] == living[2]
        words = Counter(expected[uid][1].text for uid in living[0])
        assert [text for text, count in words.items() if count > 1] == []
        assert self.texts - self.gone - words.keys() == set()


def shortened(wrong: dict[str, Any]) -> str:
    return "\n".join(f"{uid}:\n  has   {has}\n  ought {ought}" for uid, (has, ought) in
                     list(wrong.items())[:5])  # fmt: skip


@contextlib.contextmanager
def refusing(name: str) -> Iterator[None]:
    """Allow that Stratum says no with one kind of error, and with no other."""
    try:
        yield
    except Refused as refused:
        if refused.name != name:
            raise


def team_notes(machine: Machine) -> dict[str, tuple[str, Version]]:
    return {
        uid: (stamp, version)
        for uid, (stamp, version, _) in held(machine.database).items()
        if version.scope == "team"
    }


def living_notes(machine: Machine) -> set[str]:
    """The team notes that searches may find, but for those that this machine rejected itself."""
    db = apsw.Connection(str(machine.database))
    rows = db.execute(
        "SELECT r.uid FROM note n JOIN record r ON r.id = n.record_id WHERE n.scope = 'team'"
        " AND n.deleted_at IS NULL AND n.superseded_by IS NULL"
    ).fetchall()
    db.close()
    return {uid for (uid,) in rows}


def in_redis(server: Server) -> dict[str, tuple[str, Version]]:
    """What Redis holds of the project, by its own members of the set of ids."""
    from stratum.config import load
    from stratum.redis_client import Keys
    from stratum.wire import from_fields

    keys = Keys.of(load({}), PROJECT)
    found = {}
    with server.client() as client:
        ids = {id_.decode() for id_ in client.smembers(keys.ids)}
        prefix = keys.note("").encode()
        assert {key[len(prefix) :].decode() for key in client.scan_iter(prefix + b"*")} == ids
        for id_ in ids:
            remote = from_fields({k.decode(): v for k, v in client.hgetall(keys.note(id_)).items()})
            note = remote.note
            dead = note.deleted_at is not None
            found[id_] = (
                remote.stamp,
                Version(
                    note.deleted_at,
                    note.updated_at,
                    note.created_at,
                    note.scope,
                    "" if dead else note.text,
                    "" if dead else note.kind,
                    () if dead else note.tags,
                    () if dead else anchor_rows(note.anchors),
                    *(
                        ("", "", None, None)
                        if dead
                        else (note.author, note.agent, note.commit, note.branch)
                    ),
                    note.supersedes,
                ),
            )
    return found


def anchor_rows(anchors: Any) -> tuple[tuple[Any, ...], ...]:
    """Anchors as the table of the database has them: its columns by name, in its order."""
    names = (
        "path symbol start_line end_line blob body_hash signature namesakes peers ordinal copies"
        " context within outline_version"
    ).split()
    return tuple(
        (ord_, *(getattr(anchor, name) for name in names)) for ord_, anchor in enumerate(anchors)
    )


@pytest.fixture
def pair(server: Server, tmp_path: Path) -> Iterator[list[Machine]]:
    """Two machines with right clocks that know of each other."""
    with team(tmp_path, server.port) as machines:
        server.serve(machines)
        for machine in machines:
            machine.ask("sync")
        yield machines


def share(machine: Machine, text: str, **options: Any) -> Any:
    return machine.ask("write", text=text, scope="team", **options)["note"]


def note_at(machine: Machine, uid: str) -> Any:
    return machine.ask("get", uid)["note"]


def living_texts(machine: Machine) -> list[str]:
    texts = team_notes(machine)
    return sorted(texts[uid][1].text for uid in living_notes(machine))


def test_a_second_exchange_moves_nothing(pair: list[Machine]) -> None:
    anna, ben = pair
    for number in range(5):
        share(anna, f"Of anna {number}.", tags=["one"], anchors=[PLACES[0]])
        share(ben, f"Of ben {number}.")
    assert [anna.ask("sync")["sent"], ben.ask("sync")["sent"]] == [5, 5]
    assert anna.ask("sync")["received"] == 5
    for machine in pair:
        for _ in range(2):
            report = machine.ask("sync")
            assert (report["sent"], report["received"], report["resynced"]) == (0, 0, 0)


def test_the_version_that_loses_is_kept_and_can_be_brought_back(pair: list[Machine]) -> None:
    anna, ben = pair
    uid = share(anna, "Rounded to cents.", tags=["common"])["id"]
    settle(pair)
    share(anna, "Rounded to cents.", tags=["of-anna"])
    share(ben, "Rounded to cents.", tags=["of-ben"])  # the later one
    anna.ask("sync")
    assert ben.ask("sync")["conflicts"] + anna.ask("sync")["conflicts"] >= 1
    settle(pair)
    for machine in pair:
        assert note_at(machine, uid)["tags"] == ["common", "of-ben"]
    saw = [machine for machine in pair if machine.ask("sync_state")["conflicts"]]
    [conflict] = saw[0].ask("sync_state")["conflicts"]
    assert (conflict["id"], conflict["other"]["tags"]) == (uid, ["common", "of-anna"])
    saw[0].ask("undo_conflict", uid)
    settle(pair)
    for machine in pair:
        assert note_at(machine, uid)["tags"] == ["common", "of-anna"]
    assert saw[0].ask("sync_state")["conflicts"] == []


def test_the_server_keeps_the_newer_version_whoever_comes_last(
    server: Server, pair: list[Machine]
) -> None:
    anna, ben = pair
    uid = share(anna, "Rounded to cents.")["id"]
    settle(pair)
    share(anna, "Rounded to cents.", tags=["earlier"])
    newer = share(ben, "Rounded to cents.", tags=["later"])
    ben.ask("sync")
    anna.ask("push")  # without reading first
    assert in_redis(server)[uid][1].updated_at == newer["updated_at"]
    anna.ask("sync")
    assert [note_at(machine, uid)["tags"] for machine in pair] == [["later"]] * 2


def test_the_same_words_on_two_machines_become_one_note(pair: list[Machine]) -> None:
    anna, ben = pair
    share(anna, "Carts expire after a day.", tags=["of-anna"], anchors=[PLACES[0]])
    share(ben, "Carts expire after a day.", tags=["of-ben"], anchors=[PLACES[1]])
    settle(pair)
    assert living_notes(anna) == living_notes(ben)
    [uid] = living_notes(anna)
    for machine in pair:
        note = note_at(machine, uid)
        assert note["tags"] == ["of-anna", "of-ben"]
        assert len(note["anchors"]) == 2


def test_what_is_forgotten_stays_so_until_somebody_brings_it_back(pair: list[Machine]) -> None:
    anna, ben = pair
    uid = share(anna, "The tax is nine percent.")["id"]
    settle(pair)
    ben.proxy.refuse()
    share(ben, "The tax is nine percent.", tags=["earlier"])  # and anna forgets it after that
    anna.ask("forget", uid)
    ben.proxy.open()
    settle(pair)
    assert [living_notes(machine) for machine in pair] == [set(), set()]
    ben.ask("forget", uid, undo=True)
    settle(pair)
    assert [living_notes(machine) for machine in pair] == [{uid}, {uid}]
    assert note_at(anna, uid)["text"] == "The tax is nine percent."


def test_whom_to_trust_is_decided_by_each_machine(pair: list[Machine]) -> None:
    anna, ben = pair
    good, bad = share(anna, "Good.")["id"], share(anna, "Bad.")["id"]
    settle(pair)
    ben.ask("accept", good)
    ben.ask("reject", bad)
    assert ben.ask("sync")["sent"] == 0
    share(ben, "Good.", tags=["more"])
    settle(pair)
    assert [note_at(anna, uid)["trust"] for uid in (good, bad)] == ["proposed", "proposed"]
    assert [note_at(ben, uid)["trust"] for uid in (good, bad)] == ["accepted", "rejected"]
    share(anna, "Bad.", tags=["more"])
    settle(pair)
    assert note_at(ben, bad)["trust"] == "rejected"


def test_a_change_is_later_than_what_it_changes_whatever_the_clocks_say(
    server: Server, tmp_path: Path
) -> None:
    with team(tmp_path, server.port, {"ahead": 5 * HOUR, "behind": -5 * HOUR}) as machines:
        server.serve(machines)
        ahead, behind = machines
        uid = share(ahead, "From a clock ahead.")["id"]
        settle(machines)
        share(behind, "From a clock ahead.", tags=["changed"])
        settle(machines)
        assert [note_at(machine, uid)["tags"] for machine in machines] == [["changed"]] * 2
        behind.ask("forget", uid)
        settle(machines)
        assert [living_notes(machine) for machine in machines] == [set(), set()]


def test_what_only_the_server_has_lost_again_is_sent_again(
    server: Server, pair: list[Machine]
) -> None:
    """It comes back as it was between this machine's reading and its sending."""
    anna, ben = pair
    share(ben, "There before.")
    settle(pair)
    before = server.snapshot()
    share(anna, "Sent and lost.")
    assert anna.ask("sync")["sent"] == 1
    server.restore(before)
    anna.ask("sync")
    ben.ask("sync")
    assert living_texts(ben) == ["Sent and lost.", "There before."]


def test_a_machine_that_was_away_for_longer_than_changes_are_kept(
    server: Server, pair: list[Machine]
) -> None:
    from stratum.config import load
    from stratum.redis_client import Keys

    anna, ben = pair
    kept, gone = share(ben, "Kept.")["id"], share(ben, "Gone.")["id"]
    settle(pair)
    for number in range(20):
        share(anna, f"Meanwhile {number}.")
    anna.ask("forget", gone)
    share(ben, "Of ben, not sent yet.")
    anna.ask("sync")
    with server.client() as client:
        client.xtrim(Keys.of(load({}), PROJECT).log, maxlen=0, approximate=False)
    report = ben.ask("sync")
    assert (report["resynced"], report["sent"], report["received"]) == (1, 1, 21)
    settle(pair)
    assert living_texts(anna) == living_texts(ben)
    assert len(living_texts(ben)) == 22
    assert kept in living_notes(ben)


def test_processes_of_one_machine_that_exchange_at_once_lose_nothing(pair: list[Machine]) -> None:
    anna, ben = pair
    for number in range(150):
        share(anna, f"Of anna {number}.")
        share(ben, f"Of ben {number}.")
    ben.ask("sync")
    command = [sys.executable, "-m", "stratum", "sync"]
    environment = {**anna.environment, "PYTHONPATH": str(ROOT)}
    others = [
        subprocess.Popen(command, cwd=anna.clone, env=environment, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    anna.ask("sync")
    for other in others:
        _, said = other.communicate(timeout=60)
        assert other.returncode == 0, said
    settle(pair)
    assert team_notes(anna) == team_notes(ben)
    assert len(living_notes(ben)) == 300
    assert anna.ask("problems") == []


def test_a_copied_database_is_noticed_and_gets_an_identity_of_its_own(
    server: Server, pair: list[Machine], tmp_path: Path
) -> None:
    anna, ben = pair
    share(anna, "Before the copy.")
    settle(pair)
    anna.kill()
    with team(tmp_path / "new", server.port, {"cleo": 0.0}) as (cleo,):
        server.serve([cleo])
        shutil.copytree(anna.home, cleo.home, dirs_exist_ok=True)
        share(anna, "Of anna after the copy.")
        share(cleo, "Of cleo after the copy.")
        anna.ask("sync")
        cleo.ask("sync")
        anna.ask("sync")
        reasons = [
            entry["reason"]
            for machine in (anna, cleo)
            for entry in machine.ask("sync_state")["quarantine"]
        ]
        assert any("--new-home" in reason for reason in reasons)
        cleo.command("sync", "--new-home")
        everybody = [anna, ben, cleo]
        settle(everybody, rounds=8)
        texts = ["Before the copy.", "Of anna after the copy.", "Of cleo after the copy."]
        assert [living_texts(machine) for machine in (ben, cleo)] == [texts] * 2
        share(cleo, "Of cleo with a name of its own.")
        settle(everybody)
        assert "Of cleo with a name of its own." in living_texts(anna)


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_history_ends_the_same_everywhere(
    seed: int, server: Server, tmp_path: Path
) -> None:
    with team(tmp_path, server.port, CLOCKS) as machines:
        server.serve(machines)
        play = Play(seed, server, machines)
        try:
            play.run(OPERATIONS)
            rounds = play.heal()
            play.check()
        finally:
            print(f"seed {seed}: {dict(play.counts)}", file=sys.stderr)
        notes = len(play.versions.by_id)
        print(
            f"{notes} notes, {sum(map(len, play.versions.by_id.values()))} versions,"
            f" {play.merged_twins} merged twins, settled in {rounds} rounds",
            file=sys.stderr,
        )
        assert notes > OPERATIONS / 10
