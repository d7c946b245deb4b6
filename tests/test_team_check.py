"""What `doctor` finds in the team's Redis: real servers in real trouble, and the cure for each."""

from __future__ import annotations

import contextlib
import signal
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stratum import doctor, redis_client, team_check
from stratum.config import Settings
from stratum.embedder import open_embedder
from stratum.models import Finding
from stratum.redis_client import Capabilities, capabilities, connect, index_name, note_prefix
from stratum.team_index import ensure
from tests.redis_server import RedisServer, free_port

PASSWORD = "Zq7-owl/marmalade%9"


def found(settings: Settings, url: str, password: str = "") -> list[Finding]:
    findings = list(doctor.team(replace(settings, redis_url=url, redis_password=password)))
    assert "marmalade" not in repr(findings)
    assert all(finding.cure for finding in findings if finding.result != "ok")
    return findings


def only(findings: list[Finding], check: str) -> Finding:
    wanted = [finding for finding in findings if finding.check == check]
    assert len(wanted) == 1, findings
    return wanted[0]


def test_without_a_redis_this_machine_works_alone(settings: Settings) -> None:
    assert [(f.check, f.result) for f in found(settings, "")] == [("team", "ok")]


def test_a_sound_server_has_nothing_to_do_and_keeps_nothing_of_the_examination(
    settings: Settings,
) -> None:
    with RedisServer(persistent=True, password=PASSWORD) as server, server.client() as client:
        findings = found(settings, server.url)
        assert {finding.check for finding in findings} == {
            "team", "team access", "team clock", "team server", "team index",
        }  # fmt: skip
        assert {finding.result for finding in findings} == {"ok"}
        assert "8.2.3" in only(findings, "team").message
        assert client.keys("*") == []
        assert client.execute_command("FT._LIST") == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://nowhere.invalid", "not known here"),
        ("redis://127.0.0.1:{free}", "nothing answers"),
        ("redis://127.0.0.1:{port}", "does not accept this user and password"),
        ("rubbish", "not the URL of a Redis"),
    ],
)
def test_a_server_that_cannot_be_used_is_one_error(
    settings: Settings, url: str, words: str
) -> None:
    with RedisServer(password=PASSWORD, search=False) as server:
        findings = found(settings, url.format(free=free_port(), port=server.port), "wrong")
    errors = [finding for finding in findings if finding.result == "error"]
    assert [finding.check for finding in errors] == ["team"]
    assert words in errors[0].message


def test_a_server_that_hangs_does_not_hang_doctor(
    settings: Settings, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_client, "CALL_TIMEOUT", 0.3)
    process = redis_server.nodes[0].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        findings = found(settings, redis_server.url)
    finally:
        process.send_signal(signal.SIGCONT)
    assert time.monotonic() - began < 5
    assert "does not answer in time" in only(findings, "team").message


def test_each_command_that_is_lacking_is_named_with_the_line_that_gives_it(
    settings: Settings,
) -> None:
    line = "user ada on >pw ~stratum:* &stratum:* +@all -xadd -ft.search -script|load -info"
    with RedisServer(users=[line]) as server, server.client() as client:
        findings = found(settings, server.url_of("ada", "pw"))
        access = only(findings, "team access")
        assert access.result == "error"
        assert "may not run XADD, FT.SEARCH, SCRIPT|LOAD." in access.message
        assert "+xadd +ft.search +script|load" in access.cure
        assert "may not run INFO" in only(findings, "team server").message
        grants = [word for word in access.cure.partition("`")[2].split() if word.startswith("+")]
        client.execute_command("ACL", "SETUSER", "ada", *[g.strip("`;") for g in grants])
        assert only(found(settings, server.url_of("ada", "pw")), "team access").result == "ok"
        assert client.keys("*") == []


def test_every_command_of_the_list_is_really_tried(settings: Settings) -> None:
    for search in (True, False):
        with RedisServer(
            users=["user ada on >pw ~stratum:* &stratum:* -@all"], search=search
        ) as server:
            message = only(found(settings, server.url_of("ada", "pw")), "team access").message
        named = set(message.partition("may not run ")[2].rstrip(".").split(", "))
        own = team_check.SEARCH_TRIALS if search else team_check.VECTOR_TRIALS
        wanted = {trial.split()[0] for trial in team_check.TRIALS + own}
        others = set(team_check.OTHER_COMMANDS) - {"PEXPIRE", "UNSUBSCRIBE"}  # follow another one
        assert named == wanted | (others if search else others - {"FT._LIST"})


def test_keys_and_channels_that_may_not_be_touched_are_told_apart(settings: Settings) -> None:
    lines = ["user ada on >pw ~other:* &stratum:* +@all", "user bob on >pw ~stratum:* +@all"]
    with RedisServer(users=lines) as server:
        ada = only(found(settings, server.url_of("ada", "pw")), "team access")
        bob = only(found(settings, server.url_of("bob", "pw")), "team access")
    assert "keys that begin with stratum:" in ada.message
    assert "SETUSER <user> ~stratum:*`" in ada.cure
    assert "channels that begin with stratum:" in bob.message
    assert "SETUSER <user> &stratum:*`" in bob.cure


def test_a_server_that_cannot_search_says_what_is_left(settings: Settings) -> None:
    with RedisServer(search=False) as server:
        finding = only(found(settings, server.url), "team")
    assert finding.result == "warning"
    assert "by meaning alone" in finding.message
    nothing = Capabilities(search=False, vector_sets=False, cluster=False, version="7.0")
    assert "replicated only" in team_check.reached(nothing, settings, []).message


def test_a_cluster_is_examined_like_a_server(settings: Settings) -> None:
    with RedisServer(cluster=1) as server, server.client() as client:
        findings = found(settings, server.url)
        assert "a cluster" in only(findings, "team").message
        assert only(findings, "team access").result == "ok"
        assert client.keys("*") == []


@pytest.mark.parametrize(
    ("ahead", "result", "words"),
    [
        (0, "ok", "the server's"),
        (20, "warning", "20 s ahead of"),
        (-20, "warning", "20 s behind"),
        (4000, "error", "4,000 s ahead of"),
    ],
)
def test_clocks_that_differ_are_told_with_the_direction(
    settings: Settings, redis_server: RedisServer, ahead: float, result: str, words: str
) -> None:
    there = replace(settings, redis_url=redis_server.url)
    with contextlib.closing(connect(there)) as client:
        finding = team_check.clock(client, lambda: time.time() + ahead)
    assert finding.result == result
    assert words in finding.message


def test_a_server_that_forgets_is_a_warning(settings: Settings) -> None:
    options = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with RedisServer(options=options) as server:
        findings = found(settings, server.url)
    told = [finding for finding in findings if finding.check == "team server"]
    assert [finding.result for finding in told] == ["warning", "warning"]
    assert "--appendonly yes" in told[0].cure
    assert "allkeys-lru" in told[1].message


def test_the_index_of_this_model_is_counted_and_what_it_lacks_is_told(
    settings: Settings, redis_server: RedisServer
) -> None:
    there = replace(settings, redis_url=redis_server.url)
    embedder = open_embedder("hashing", cache=settings.cache_dir, offline=True, threads=1)
    assert embedder is not None
    with contextlib.closing(connect(there)) as client:
        made = ensure(client, there, capabilities(client), embedder.fingerprint, embedder.dimension)
        assert made is not None
        finding = only(found(settings, redis_server.url), "team index")
        assert (finding.result, finding.message) == ("ok", f"{made.name}, 0 notes")
        client.hset(f"{note_prefix(there)}x}}:a", mapping={"living": "1", "ts": "no number"})
        until = time.monotonic() + 20
        while (finding := only(found(settings, redis_server.url), "team index")).result == "ok":
            assert time.monotonic() < until
            time.sleep(0.05)
        assert "could not take in 1" in finding.message


def test_an_index_of_another_dimension_is_told_with_the_way_to_remove_it(
    settings: Settings, redis_server: RedisServer
) -> None:
    there = replace(settings, redis_url=redis_server.url)
    embedder = open_embedder("hashing", cache=settings.cache_dir, offline=True, threads=1)
    assert embedder is not None
    with contextlib.closing(connect(there)) as client:
        ensure(client, there, capabilities(client), embedder.fingerprint, 7)
        finding = only(found(settings, redis_server.url), "team index")
        assert finding.result == "warning"
        assert f"vectors of 7 numbers; this machine's have {embedder.dimension}" in finding.message
        name = finding.cure.partition("FT.DROPINDEX ")[2].partition("`")[0]
        assert name.startswith(index_name(there, embedder.fingerprint))
        client.execute_command("FT.DROPINDEX", name)
        assert only(found(settings, redis_server.url), "team index").result == "ok"


def test_tls_that_checks_nothing_is_a_warning(settings: Settings) -> None:
    with RedisServer(tls=True) as server:
        assert [f for f in found(settings, server.url) if f.check == "team settings"] == []
        unchecked = server.url.partition("?")[0] + "?ssl_cert_reqs=none"
        finding = only(found(settings, unchecked), "team settings")
    assert finding.result == "warning"
    assert "certificate of the team's Redis is not checked" in finding.message


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://host.invalid", True),
        ("redis://10.0.0.1", True),
        ("rediss://host.invalid", False),
        ("redis://localhost:1", False),
        ("redis://[::1]:1", False),
        ("unix:///nowhere/redis.sock", False),
    ],
)
def test_a_connection_that_others_can_read_is_a_warning(
    settings: Settings, url: str, told: bool
) -> None:
    findings = list(team_check.configured(replace(settings, redis_url=url)))
    assert [finding.message for finding in findings] == (
        ["Notes and password go through the network in the clear."] if told else []
    )


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        (f'redis_password = "{PASSWORD}"', 0o644, True),
        ('redis_url = "redis://ada:pw@localhost:1"', 0o640, True),
        (f'redis_password = "{PASSWORD}"', 0o600, False),
        ('redis_url = "redis://ada@localhost:1"', 0o644, False),
        ("no toml", 0o644, False),
    ],
)
def test_a_password_that_every_user_can_read_is_a_warning(
    settings: Settings, tmp_path: Path, text: str, mode: int, told: bool
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    file.chmod(mode)
    there = replace(settings, redis_url="redis://localhost:1", config_file=file)
    findings = list(team_check.configured(there))
    assert [finding.check for finding in findings] == (["team settings"] if told else [])
    if told:
        assert f"chmod 600 {file}" in findings[0].cure
        assert "marmalade" not in repr(findings)
        assert stat.S_IMODE(file.stat().st_mode) == mode
