"""The files of `deploy/`: the product's whole traffic runs with the rights that they give."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from stratum import doctor, team_check
from stratum.config import Settings
from stratum.coordination import Coordination
from stratum.memory import Memory
from stratum.team_index import TeamSearch
from tests.conftest import git, make_repository
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[1]
PROJECT = "github.com/acme/shop"
PASSWORD = "owl-marmalade"
# As docs/team.md says: what a cluster needs too, and what a Redis older than 8 does not know.
CLUSTER = "+cluster|slots +command"
VECTOR_SETS = "+vadd +vcard +vrem +vsim"
# For doctor, or in time: leases that ended are swept, an index is replaced, who listens is asked
# whether it is alive, a note is sent once more.
LATER = {"eval", "ft.dropindex", "hdel", "info", "ping", "sismember", "unsubscribe"}
WITHOUT_SEARCH = {"smembers", *VECTOR_SETS.replace("+", "").split()}
# Sent by the client library when it connects, always allowed or without effect when refused.
UNASKED = {"auth", "hello", "client|setinfo", "ping", "cluster|slots", "command"}


def acl_line(file: Path = ROOT / "deploy" / "users.acl") -> str:
    """Return the line of the team's user with the hash of the password put in."""
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "user default off"
    assert len(lines) == 2
    return lines[1].replace("PASSWORD_SHA256", hashlib.sha256(PASSWORD.encode()).hexdigest())


def granted(line: str) -> set[str]:
    return {word[1:] for word in line.split() if word.startswith("+")}


def test_the_line_gives_what_doctor_tries_and_nothing_else() -> None:
    trials = team_check.TRIALS + team_check.SEARCH_TRIALS + team_check.VECTOR_TRIALS
    wanted = {trial.split()[0].lower() for trial in trials}
    wanted |= {name.lower() for name in team_check.OTHER_COMMANDS}
    assert granted(acl_line()) == wanted | {"client|setinfo", "info", "ping"}


def test_no_script_runs_a_command_that_is_not_on_the_list() -> None:
    used: set[str] = set()
    for name in ("team", "team_index", "coordination_redis"):
        source = (ROOT / "stratum" / f"{name}.py").read_text(encoding="utf-8")
        used |= {found.lower() for found in re.findall(r"redis\.p?call\('([\w.]+)'", source)}
    assert "xadd" in used
    assert used <= granted(acl_line())


def test_the_document_has_the_same_words() -> None:
    document = (ROOT / "docs" / "team.md").read_text(encoding="utf-8")
    assert acl_line().partition("-@all ")[2] in document.replace("\n", " ")
    assert f"add `{CLUSTER}`" in document.replace("\n", " ")
    assert f"leave out `{VECTOR_SETS}`" in document.replace("\n", " ")


@pytest.mark.skipif(sys.platform != "linux", reason="the document speaks of a Linux server")
def test_the_commands_of_the_document_put_the_password_in(tmp_path: Path) -> None:
    document = (ROOT / "docs" / "team.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^sed .*$", document, re.MULTILINE)
    (tmp_path / "users.acl").write_text((ROOT / "deploy" / "users.acl").read_text())
    environment = os.environ | {"PASSWORD": PASSWORD}
    subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, check=True)
    assert acl_line(tmp_path / "users.acl") == acl_line()
    assert "PASSWORD" not in (tmp_path / "users.acl").read_text()


class People:
    """Two people with a clone of one repository each, who use the command line."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("STRATUM_")
        } | {
            "STRATUM_REDIS_URL": url,
            "STRATUM_REDIS_PASSWORD": PASSWORD,
            "STRATUM_EMBED_MODEL": "hashing",
        }
        origin = make_repository(folder / "origin")  # one history: notes know their commits
        for who in ("ada", "bob"):
            root = folder / who / "shop"
            git(folder, "clone", "-q", str(origin), str(root))
            git(root, "remote", "set-url", "origin", f"https://{PROJECT}.git")

    def run(self, who: str, *arguments: str) -> str:
        """Run `stratum` and return what it prints; any failure fails the test."""
        done = subprocess.run(
            [sys.executable, "-m", "stratum", *arguments],
            cwd=self.folder / who / "shop",
            env=self.environment | self.own(who),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def own(self, who: str) -> dict[str, str]:
        return {"STRATUM_HOME": str(self.folder / who / "home"), "STRATUM_AUTHOR": who}


def exchange(people: People) -> None:
    """Write, send, receive, search and forget."""
    for who in ("ada", "bob"):
        people.run(who, "index")
    written = people.run("ada", "write", "Carts expire by cron, not on read", "--team")
    note = written.split()[0]
    people.run("ada", "sync")
    people.run("ada", "index")  # makes its vector, which follows
    people.run("ada", "sync")
    people.run("bob", "sync")
    assert "by cron" in people.run("bob", "get", note)
    found = people.run("bob", "search", "--remote", "--of", PROJECT, "cron", "carts")
    assert "by cron" in found
    people.run("bob", "forget", note)
    people.run("bob", "sync")
    people.run("ada", "sync")
    assert "by cron" not in people.run("ada", "search", "cron")


def doctor_is_content(people: People) -> None:
    findings = json.loads(people.run("bob", "doctor", "--json"))["findings"]
    about = [finding for finding in findings if finding["check"] == "team access"]
    assert [finding["result"] for finding in about] == ["ok"]


def watched(settings: Settings, root: Path) -> None:
    """Listen for the changes of others until the first exchange is done."""
    from stratum.team import Team

    stop, troubles = threading.Event(), []
    with Memory(settings, root) as memory, Team(memory) as team:
        memory.write("Renderers escape names", scope="team")
        until = threading.Timer(30, stop.set)
        until.start()
        seen = 0

        def on_sync(_: object) -> None:
            nonlocal seen
            seen += 1
            if seen == 2:
                stop.set()
            else:
                memory.write("Sessions are rows", scope="team")

        team.watch(stop, on_sync, troubles.append)
        until.cancel()
        assert (seen, troubles) == (2, [])


def coordinated(settings: Settings, root: Path) -> None:
    """Claim, keep, share, read, wait and release."""
    with Coordination(settings, root) as here:
        lease = here.claim(["task:fix the till"]).lease
        here.heartbeat(lease)
        assert here.check(lease).id == lease.id
        assert [held.id for held in here.leases()] == [lease.id]
        here.share("fix the till", "Totals are rounded twice")
        assert len(here.findings("fix the till").findings) == 1
        last = here.events().cursor
        assert here.events(after=last, wait=0.1).events == ()
        here.put_context("session", {"step": 2})
        assert here.context("session") is not None
        here.release(lease)


@pytest.fixture
def people(tmp_path: Path) -> Callable[[RedisServer], People]:
    return lambda server: People(tmp_path, server.url_of("stratum"))


def all_traffic(settings: Settings, server: RedisServer, people: People) -> None:
    exchange(people)
    there = replace(settings, redis_url=server.url_of("stratum"), redis_password=PASSWORD)
    watched(there, people.folder / "ada" / "shop")
    coordinated(there, people.folder / "ada" / "shop")
    with TeamSearch(there, None) as search:
        assert search.identity_of("shop") == PROJECT


def refusals(server: RedisServer) -> list[tuple[str, str]]:
    """Return what was refused to the team's user, as the server has it in its own log."""
    found = []
    for node in server.nodes:
        with redis.Redis(port=node.port, password=server.password, protocol=2) as client:
            found += [(entry["reason"], entry["object"]) for entry in client.acl_log()]
    return found


def test_the_whole_traffic_runs_with_the_rights_of_the_line_and_needs_them(
    settings: Settings, people: Callable[[RedisServer], People]
) -> None:
    with RedisServer(users=[acl_line()]) as server:
        there = people(server)
        all_traffic(settings, server, there)
        assert refusals(server) == []
        with server.client() as client:
            stats = client.info("commandstats")
        used = {name.removeprefix("cmdstat_").lower() for name in stats}
        assert used - granted(acl_line()) - UNASKED - {"acl|log"} == set()
        assert granted(acl_line()) - used <= LATER | WITHOUT_SEARCH
        doctor_is_content(there)
        assert refusals(server) == []


def test_a_cluster_needs_the_rights_that_the_document_names(
    settings: Settings, people: Callable[[RedisServer], People]
) -> None:
    with RedisServer(users=[f"{acl_line()} {CLUSTER}"], cluster=3) as server:
        there = people(server)
        all_traffic(settings, server, there)
        doctor_is_content(there)
        assert refusals(server) == []


def test_a_server_without_search_needs_the_rights_that_the_document_names(
    settings: Settings, people: Callable[[RedisServer], People]
) -> None:
    line = " ".join(word for word in acl_line().split() if not word.startswith("+ft."))
    with RedisServer(users=[line], search=False) as server:
        there = people(server)
        all_traffic(settings, server, there)
        doctor_is_content(there)
        assert refusals(server) == []


def test_the_line_gives_no_right_over_other_keys_or_the_server(settings: Settings) -> None:
    with (
        RedisServer(users=[acl_line()]) as server,
        server.client(username="stratum", password=PASSWORD) as client,
    ):
        for words in ("GET other", "FLUSHALL", "CONFIG GET *", "KEYS *", "ACL LIST", "SHUTDOWN",
                      "PUBLISH other 1", "FT.DROPINDEX other"):  # fmt: skip
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*words.split())
        with server.client(password="") as nobody, pytest.raises(redis.AuthenticationError):
            nobody.ping()


def test_the_options_of_the_compose_file_start_a_server_that_doctor_likes(
    settings: Settings,
) -> None:
    text = (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8")
    command = text.partition("command:\n")[2].partition("    ports:")[0]
    words = [word.strip('"') for word in re.findall(r"^ +- (.*)$", command, re.MULTILINE)]
    assert words[:3] == ["redis-server", "--aclfile", "/etc/stratum/users.acl"]
    assert '"127.0.0.1:6379:6379"' in text
    assert "./users.acl:/etc/stratum/users.acl:ro" in text
    with RedisServer(users=[acl_line()], options=words[3:]) as server:
        there = replace(settings, redis_url=server.url_of("stratum"), redis_password=PASSWORD)
        assert {finding.result for finding in doctor.team(there)} == {"ok"}
