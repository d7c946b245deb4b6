"""What a team's Redis gets to know: no personal note and no secret, neither in the talk nor kept.

All that a machine says is recorded three times: by the proxy on the wire, by Redis' own MONITOR,
and at the end as a dump of every key. The last test here proves that these would show a leak.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import git
from tests.corpora.secrets import PLACED, TOKENS
from tests.team_machines import Machine, Refused, Server, team

SECRET = "gh" + "p_" + "Zq7WzX2kP9" * 4  # of a shape of its own, for what is not a text
PASSWORD = "hunter" + "2xQ8"
MANY = 40  # personal notes
SHORTEST = 6  # characters of a secret's part that cannot be met by chance


class Ears:
    """All that reaches a server, by MONITOR."""

    def __init__(self, server: Server) -> None:
        self.said: list[bytes] = []
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._socket.sendall(b"MONITOR\r\n")
        assert self._socket.recv(5) == b"+OK\r\n"
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._socket.recv(1 << 16):
                self.said.append(data)

    def close(self) -> bytes:
        """Return what was said until now."""
        time.sleep(0.2)  # MONITOR is told after the command was answered
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()
        return b"".join(self.said)


def kept(server: Server) -> bytes:
    """Every key with its name and its whole value, not compressed."""
    with server.client() as client:
        client.config_set("rdbcompression", "no")
        return b"\n".join(part for key in client.keys("*") for part in (key, client.dump(key)))


def forget_all(server: Server) -> None:
    """Let the server lose its data, so that all is sent again; MONITOR goes on."""
    with server.client() as client:
        client.flushall()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


@pytest.fixture
def heard(server: Server) -> Iterator[Any]:
    """Return a function that gives what was heard of a machine, by where it was heard."""
    ears = Ears(server)

    def all_of(machine: Machine) -> dict[str, bytes]:
        return {
            "the wire": b"".join(machine.proxy.heard),
            "MONITOR": ears.close(),
            "the keys": kept(server),
        }

    yield all_of
    ears.close()


def found(needles: list[str], heard: dict[str, bytes]) -> list[tuple[str, str]]:
    """Return which of some texts were heard, and where; upper and lower case are alike."""
    return [
        (where, needle)
        for where, said in heard.items()
        for lower in [said.lower()]
        for needle in needles
        if needle.lower().encode() in lower
    ]


def write(machine: Machine, **options: Any) -> Any:
    """Write a note and return it; None when it is refused, as a secret in a place is."""
    try:
        return machine.ask("write", **options)["note"]
    except Refused as refused:
        if refused.name not in ("InvalidInput", "NotFound"):
            raise
        return None


def test_no_personal_note_is_ever_told(server: Server, heard: Any, tmp_path: Path) -> None:
    from stratum.wire import hashed_tag

    with team(tmp_path, server.port) as (anna, ben):
        server.serve([anna, ben])
        shared = write(anna, text="Everybody may know of kangaroos.", scope="team", tags=["open"])
        needles, ids = [], []
        for number in range(MANY):
            word = f"zanzibar{number}quagga"
            (anna.clone / f"{word}.py").write_text(f"def {word}_call():\n    return 1\n")
            note = write(
                anna, text=f"My own thought: {word} is odd.", tags=[f"tag-{word}"],
                anchors=[f"{word}.py::{word}_call"], agent=f"agent-{word}",
                supersedes=shared["id"] if number == 3 else None,
            )  # fmt: skip
            ids.append(note["id"])
            needles += [word, note["id"], hashed_tag(f"tag-{word}"), hashed_tag(f"{word}.py")]
        anna.ask("index")  # vectors, too
        anna.ask("sync")
        for uid in ids[:10]:
            anna.ask("forget", uid)
        for uid in ids[:5]:
            anna.ask("forget", uid, undo=True)
        for number in range(10, 20):  # merged
            write(anna, text=f"My own thought: zanzibar{number}quagga is odd.", tags=["again"])
        for uid in ids[20:30]:
            anna.ask("verify", uid)
            anna.ask("accept" if uid < "m" else "reject", uid)
        anna.ask("sync")
        # a machine that has the same words as a note of the team keeps its own to itself
        write(ben, text="Both of us know of wombats.", scope="team")
        mine = write(anna, text="Both of us know of wombats.", tags=["zebrafinch"])
        ids.append(mine["id"])
        needles += ["zebrafinch", mine["id"]]
        ben.ask("sync")
        anna.ask("sync")
        write(ben, text="Ben's kangaroos know it too.", scope="team")
        exported = anna.ask("export")
        ben.ask("import_", exported)
        anna.ask("import_", [line.replace("is odd", "is very odd") for line in exported])
        dry = anna.command("sync", "--dry-run").stdout
        assert "zanzibar" not in dry
        forget_all(server)
        for machine in (anna, ben, anna, ben):
            machine.ask("sync")
        said = heard(anna) | {"the other's wire": b"".join(ben.proxy.heard)}
        assert found(needles, said) == []
        assert {where for where, _ in found(["kangaroos"], said)} == said.keys()


def test_a_note_that_is_shared_later_is_told_from_then_on_only(
    server: Server, heard: Any, tmp_path: Path
) -> None:
    with team(tmp_path, server.port) as (anna, _):
        server.serve([anna])
        mine = write(anna, text="About the okapi.", tags=["okapi"])
        anna.ask("sync")
        assert found(["okapi", mine["id"]], {"the wire": b"".join(anna.proxy.heard)}) == []
        assert write(anna, text="About the okapi.", scope="team")["id"] == mine["id"]
        anna.ask("sync")
        assert found(["okapi"], {"the keys": kept(server)}) == [("the keys", "okapi")]
        # there is no way back: what the team knows, it knows
        assert write(anna, text="About the okapi.", scope="personal")["scope"] == "team"


def test_no_secret_is_ever_told(server: Server, heard: Any, tmp_path: Path) -> None:
    signed = {
        "STRATUM_AUTHOR": f"Ada {SECRET}",
        "STRATUM_AGENT": f"agent {SECRET}",
        "STRATUM_MACHINE": f"box {SECRET}",
    }
    with team(tmp_path, server.port, {"anna": 0.0}, signed) as (anna,):
        server.serve([anna])
        address = f"https://ada:{PASSWORD}@github.com/acme/shop.git"
        git(anna.clone, "remote", "set-url", "origin", address)
        git(anna.clone, "checkout", "-q", "-b", f"fix-{SECRET}")
        (anna.clone / f"of-{SECRET}.py").write_text(f'def f():\n    return "{SECRET}"\n')
        (anna.clone / "plain.py").write_text(f'def g(password="{PASSWORD}"):\n    return 1\n')
        git(anna.clone, "add", "-A")
        git(anna.clone, "commit", "-q", "-m", f"Add {SECRET}")
        needles = [SECRET, PASSWORD]
        for number, (_, token) in enumerate(TOKENS):
            needles.append(token)
            text = f"Call {number} of the kangaroo needs {token} here."
            write(anna, text=text, scope="team", tags=[f"t{number}"], agent=f"bot {token}")
            write(anna, text=f"Tag {number}", scope="team", tags=[token])
        for number, (text, part) in enumerate(PLACED):
            needles.append(part)
            write(anna, text=f"Line {number}\n{text}", scope="team")
        for place in (f"of-{SECRET}.py", "plain.py::g", "plain.py", "plain.py:1-2"):
            write(anna, text=f"About {place[-5:]}", scope="team", anchors=[place])
        anna.ask("index")
        anna.ask("sync")
        exported = anna.ask("export")
        worse = [
            json.dumps({**json.loads(line), "id": f"{number:012d}".translate(LETTERS),
                        "author": f"Eve {SECRET}", "branch": f"b-{SECRET}", "machine": SECRET,
                        "text": f"Imported {number} {SECRET}"})
            for number, line in enumerate(exported[1:20])
        ]  # fmt: skip
        assert anna.ask("import_", [exported[0], *worse])["created"] == len(worse)
        anna.ask("sync")
        forget_all(server)
        anna.ask("sync")
        said = heard(anna)
        long = sorted({needle for needle in needles if len(needle) >= SHORTEST})
        assert found(long, said) == []
        assert b"kangaroo" in said["the wire"]
        assert b"kangaroo" in said["the keys"]


LETTERS = str.maketrans("0123456789", "abcdefghij")


def test_what_is_heard_would_show_a_leak(server: Server, heard: Any, tmp_path: Path) -> None:
    with team(tmp_path, server.port, {"anna": 0.0}) as (anna,):
        server.serve([anna])
        note = write(anna, text="Of the Kangaroo.", scope="team", tags=["open"], agent="bot7")
        anna.ask("sync")
        places = {"the wire", "MONITOR", "the keys"}
        said = heard(anna)
        for needle in ("of the kangaroo", "bot7", note["id"]):
            assert {where for where, _ in found([needle], said)} == places
