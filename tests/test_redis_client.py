"""Connections to real Redis servers: what they give, what they refuse, and in which words."""

from __future__ import annotations

import contextlib
import http.server
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from stratum import redis_client
from stratum.config import Settings
from stratum.errors import TeamUnavailable
from stratum.redis_client import (
    Capabilities,
    Keys,
    capabilities,
    connect,
    index_name,
    note_prefix,
    run_script,
    shown_url,
    translated,
)
from tests.redis_server import RedisServer, free_port, make_certificate

PASSWORD = "Zq7-owl/marmalade%9"
PROJECT = "github.com/acme/shop"
SET_AND_GET = "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])"


def at(settings: Settings, url: str, password: str = "") -> Settings:
    return replace(settings, redis_url=url, redis_password=password)


@contextlib.contextmanager
def refused() -> Iterator[list[TeamUnavailable]]:
    """Collect the one error of the block and hold it to what every error must be."""
    found: list[TeamUnavailable] = []
    with pytest.raises(TeamUnavailable) as caught:
        yield found
    error = caught.value
    found.append(error)
    assert error.exit_code == 4
    assert error.message.endswith(".")
    assert error.hint
    assert "\n" not in error.message + error.hint
    shown = "".join(traceback.format_exception(error)) + repr(error) + str(error.to_dict())
    assert PASSWORD not in shown
    assert "marmalade" not in shown


def round_trip(settings: Settings) -> None:
    """Do what the product does: hashes with bytes, scripts, sets, streams, announcements."""
    keys = Keys.of(settings, PROJECT)
    blob = bytes(range(256))
    with translated(settings.redis_url), contextlib.closing(connect(settings)) as client:
        client.hset(keys.note("abcdefghijkl"), mapping={"text": "Grüße", "v": blob})
        stored = client.hgetall(keys.note("abcdefghijkl"))
        assert stored == {b"text": "Grüße".encode(), b"v": blob}
        assert run_script(client, SET_AND_GET, [keys.named("x")], [blob]) == blob
        assert run_script(client, SET_AND_GET, [keys.named("x")], ["again"]) == b"again"
        client.sadd(keys.ids, "abcdefghijkl")
        entry = client.xadd(keys.log, {"id": "abcdefghijkl"})
        assert client.xrange(keys.log, entry) == [(entry, {b"id": b"abcdefghijkl"})]
        with (
            contextlib.closing(connect(settings, blocking=True)) as listener,
            contextlib.closing(listener.pubsub()) as subscription,
        ):
            subscription.subscribe(keys.channel)
            assert subscription.get_message(timeout=5)["type"] == "subscribe"
            client.publish(keys.channel, "abcdefghijkl")
            message = subscription.get_message(timeout=5)
        assert (message["channel"], message["data"]) == (keys.channel.encode(), b"abcdefghijkl")


def test_the_names_of_keys_are_what_other_versions_expect(settings: Settings) -> None:
    keys = Keys.of(settings, PROJECT)
    assert keys.note("abcdefghijkl") == "stratum:note:{team:c566806a55dcd4dd}:abcdefghijkl"
    assert keys.ids == "stratum:ids:{team:c566806a55dcd4dd}"
    assert keys.log == "stratum:log:{team:c566806a55dcd4dd}"
    assert keys.channel == "stratum:changes:{team:c566806a55dcd4dd}"
    assert keys.vectors("0a1b2c3d") == "stratum:vectors:0a1b2c3d:{team:c566806a55dcd4dd}"
    assert keys.named("claims", "x") == "stratum:claims:{team:c566806a55dcd4dd}:x"
    assert keys.note("abcdefghijkl").startswith(note_prefix(settings))
    assert index_name(settings, "model-384") == "stratum:team:index:3f30f3d7"


def test_teams_and_prefixes_that_share_a_redis_share_no_key(settings: Settings) -> None:
    others = [replace(settings, team="red"), replace(settings, redis_prefix="other")]
    names = {Keys.of(each, PROJECT).note("abcdefghijkl") for each in [settings, *others]}
    assert len(names) == 3
    assert len({note_prefix(each) for each in [settings, *others]}) == 3
    assert len({index_name(each, "model") for each in [settings, *others]}) == 3


def test_all_keys_of_a_project_are_in_one_slot_of_a_cluster(settings: Settings) -> None:
    keys = Keys.of(settings, PROJECT)
    names = (keys.note("a"), keys.ids, keys.log, keys.channel, keys.vectors("x"), keys.named("c"))
    with RedisServer(cluster=1, search=False) as server, server.client() as client:
        assert len({client.execute_command("CLUSTER", "KEYSLOT", name) for name in names}) == 1


def test_a_server_gives_back_what_it_was_given(
    settings: Settings, redis_server: RedisServer
) -> None:
    round_trip(at(settings, redis_server.url))


@pytest.mark.parametrize("where", ["url", "settings"])
def test_a_password_is_taken_from_the_url_or_the_settings(settings: Settings, where: str) -> None:
    with RedisServer(password=PASSWORD, search=False) as server:
        with_it = at(settings, server.url)
        without = at(settings, f"redis://127.0.0.1:{server.port}", PASSWORD)
        round_trip(with_it if where == "url" else without)


def test_a_user_of_an_acl_is_let_in(settings: Settings) -> None:
    with RedisServer(users=[f"user ada on >{PASSWORD} ~stratum:* &stratum:* +@all"]) as server:
        round_trip(at(settings, server.url_of("ada"), PASSWORD))


def test_tls_is_spoken_and_the_certificate_is_checked(settings: Settings) -> None:
    with RedisServer(tls=True, password=PASSWORD) as server:
        round_trip(at(settings, server.url))
        unchecked = server.url.partition("?")[0] + "?ssl_cert_reqs=none"
        round_trip(at(settings, unchecked))
        with refused() as found:
            connect(at(settings, server.url.partition("?")[0]))
        assert "certificate that is not trusted" in found[0].message
        assert "ssl_ca_certs" in found[0].hint
        assert not found[0].retryable


def test_a_certificate_for_another_host_is_refused(settings: Settings, tmp_path: Path) -> None:
    with RedisServer(tls=True) as server:
        name = server.url.replace("localhost", "127.0.0.2")
        with refused() as found:
            connect(at(settings, name))
        assert "not trusted" in found[0].message or "nothing answers" in found[0].message
        make_certificate(tmp_path / "other.pem")
        with refused() as found:
            connect(
                at(settings, f"{server.url.partition('?')[0]}?ssl_ca_certs={tmp_path}/other.pem")
            )
        assert "not trusted" in found[0].message
        with refused() as found:
            connect(at(settings, f"{server.url.partition('?')[0]}?ssl_ca_certs={tmp_path}/no.pem"))
        assert "Check the paths in redis_url" in found[0].hint


def test_tls_at_a_server_without_it_and_the_reverse_name_the_scheme(settings: Settings) -> None:
    with RedisServer(tls=True) as server:
        with refused() as found:
            connect(at(settings, f"rediss://127.0.0.1:{server.nodes[0].port}"))
        assert "write redis://." in found[0].hint
        with refused() as found:
            connect(at(settings, f"redis://127.0.0.1:{server.port}"))
        assert "rediss://" in found[0].hint


@pytest.mark.parametrize("nodes", [1, 3])
def test_a_cluster_is_recognised_and_serves_the_same(settings: Settings, nodes: int) -> None:
    with RedisServer(cluster=nodes, password=PASSWORD) as server:
        there = at(settings, server.url)
        round_trip(there)
        with contextlib.closing(connect(there)) as client:
            assert capabilities(client) == Capabilities(True, True, True, "8.2.3")
            projects = [Keys.of(there, f"github.com/acme/{number}") for number in range(20)]
            for keys in projects:  # every node gets some
                assert run_script(client, SET_AND_GET, [keys.named("x")], ["1"]) == b"1"
        with refused() as found:
            connect(at(settings, server.url.replace("/0", "/1")))
        assert "no database of that number" in found[0].message


def test_capabilities_are_found_by_trying(settings: Settings, redis_server: RedisServer) -> None:
    with contextlib.closing(connect(at(settings, redis_server.url))) as client:
        assert capabilities(client) == Capabilities(True, True, False, "8.2.3")
    with (
        RedisServer(search=False) as core,
        contextlib.closing(connect(at(settings, core.url))) as client,
    ):
        assert capabilities(client) == Capabilities(False, True, False, "8.2.3")


def test_what_a_user_may_not_run_is_no_capability(settings: Settings) -> None:
    rights = "~stratum:* &stratum:* +@all"
    lines = [f"user ada on >pw {rights} -ft._list", f"user bob on >pw {rights} -vcard"]
    with RedisServer(users=lines) as server:
        with contextlib.closing(connect(at(settings, server.url_of("ada", "pw")))) as client:
            found = capabilities(client)
            assert (found.search, found.vector_sets) == (False, True)
        with contextlib.closing(connect(at(settings, server.url_of("bob", "pw")))) as client:
            found = capabilities(client)
            assert (found.search, found.vector_sets) == (True, False)


def test_a_server_that_forgot_the_script_gets_it_again(
    settings: Settings, redis_server: RedisServer
) -> None:
    with contextlib.closing(connect(at(settings, redis_server.url))) as client:
        for _ in range(2):
            assert run_script(client, SET_AND_GET, ["stratum:x"], ["1"]) == b"1"
            client.script_flush()


def test_a_connection_survives_a_restart_of_the_server(
    settings: Settings, redis_server: RedisServer
) -> None:
    there = at(settings, redis_server.url)
    with contextlib.closing(connect(there)) as client:
        client.set("stratum:x", "1")
        redis_server.kill()
        with refused() as found, translated(there.redis_url):
            client.get("stratum:x")
        assert found[0].retryable
        redis_server.start()
        assert client.get("stratum:x") is None  # nothing was persisted, but it answers


def test_what_was_written_survives_a_kill_where_it_is_persistent(settings: Settings) -> None:
    with RedisServer(persistent=True) as server:
        there = at(settings, server.url)
        with contextlib.closing(connect(there)) as client:
            client.set("stratum:x", "1")
            server.kill()
            server.start()
            assert client.get("stratum:x") == b"1"


# --- what goes wrong ---------------------------------------------------------------------------


def test_none_configured(settings: Settings) -> None:
    with refused() as found:
        connect(at(settings, ""))
    assert "STRATUM_REDIS_URL" in found[0].hint
    assert not found[0].retryable


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://127.0.0.1:6379",
        "redis://127.0.0.1:notaport",
        f"redis://:{PASSWORD}@127.0.0.1:1",  # a slash that was not encoded
        f"redis://:{PASSWORD}",
        "redis://[::1",
        "",
        "redis://127.0.0.1:1/0?protocol=3",
        "redis://127.0.0.1:1/0?decode_responses=true",
        "rediss://127.0.0.1:1/0?socket_timeout=0",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_before_anything_is_sent(
    settings: Settings, url: str
) -> None:
    with refused() as found:
        connect(at(settings, url))
    assert not found[0].retryable


def test_a_host_that_does_not_exist(settings: Settings) -> None:
    with refused() as found:
        connect(at(settings, "redis://ada:owl@nowhere.invalid:6379"))
    assert "redis://nowhere.invalid:6379 cannot be reached" in found[0].message
    assert found[0].retryable


def test_nothing_at_that_port(settings: Settings) -> None:
    with refused() as found:
        connect(at(settings, f"redis://127.0.0.1:{free_port()}", PASSWORD))
    assert "nothing answers at that port" in found[0].message
    assert "works alone" in found[0].hint


def test_a_server_that_hangs_costs_no_more_than_the_time_for_a_call(
    settings: Settings, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_client, "CALL_TIMEOUT", 0.3)
    process = redis_server.nodes[0].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        with refused() as found:
            connect(at(settings, redis_server.url, PASSWORD))
        assert time.monotonic() - began < 3
    finally:
        process.send_signal(signal.SIGCONT)
    assert "does not answer in time" in found[0].message


def test_a_resolver_that_hangs_costs_no_more_than_the_time_to_connect() -> None:
    never = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        redis_client._within(0.1, never.wait)
    assert time.monotonic() - began < 2
    never.set()


@pytest.mark.parametrize("password", ["", "wrong-marmalade"])
def test_a_password_that_is_missing_or_wrong(settings: Settings, password: str) -> None:
    with RedisServer(password=PASSWORD, search=False) as server:
        with refused() as found:
            connect(at(settings, f"redis://127.0.0.1:{server.port}", password))
        assert "does not accept this user and password" in found[0].message
        assert "STRATUM_REDIS_PASSWORD" in found[0].hint
        assert not found[0].retryable


def test_a_password_where_none_is_asked_for(settings: Settings, redis_server: RedisServer) -> None:
    with refused() as found:
        connect(at(settings, redis_server.url, PASSWORD))
    assert "does not accept this user and password" in found[0].message


def test_a_user_without_a_command_is_told_which_and_how_to_get_it(settings: Settings) -> None:
    lines = ["user ada on >pw ~stratum:* resetchannels +@all -xadd -config|get"]
    with RedisServer(users=lines) as server:
        there = at(settings, server.url_of("ada", "pw"))
        with contextlib.closing(connect(there)) as client:
            with refused() as found, translated(there.redis_url):
                client.xadd("stratum:x", {"a": "b"})
            assert "run XADD." in found[0].message
            assert "+xadd" in found[0].hint
            with refused() as found, translated(there.redis_url):
                run_script(
                    client, "return redis.call('XADD', KEYS[1], '*', 'a', 'b')", ["stratum:x"], []
                )
            assert "run XADD." in found[0].message
            with refused() as found, translated(there.redis_url):
                client.config_get("save")
            assert "run CONFIG|GET." in found[0].message
            for refuse in (lambda: client.get("other:x"), lambda: client.publish("stratum:x", "")):
                with refused() as found, translated(there.redis_url):
                    refuse()
                assert "our keys or channels" in found[0].message
            with refused() as found, translated(there.redis_url):
                run_script(client, "return redis.call('GET', 'other:x')", ["stratum:x"], [])
            assert "our keys or channels" in found[0].message


def test_something_that_is_no_redis(settings: Settings) -> None:
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    web.RequestHandlerClass.log_message = lambda *words: None  # type: ignore[method-assign]
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    try:
        with refused() as found:
            connect(at(settings, f"redis://127.0.0.1:{web.server_port}", PASSWORD))
        assert "not be a Redis" in found[0].hint
    finally:
        web.shutdown()
        web.server_close()
        thread.join()


def test_a_server_that_answers_in_another_language(settings: Settings) -> None:
    def serve() -> None:
        with listening.accept()[0] as other:
            other.recv(1000)
            other.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            other.recv(1000)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        with refused() as found:
            connect(at(settings, f"redis://127.0.0.1:{listening.getsockname()[1]}"))
        thread.join()
    assert "does not answer like a Redis" in found[0].message
    assert not found[0].retryable


def test_a_server_that_closes_the_connection_at_once(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=lambda: listening.accept()[0].close())
        thread.start()
        with refused() as found:
            connect(at(settings, f"redis://127.0.0.1:{listening.getsockname()[1]}"))
        thread.join()
    assert "closed the connection" in found[0].message
    assert found[0].retryable


def failing(settings: Settings, server: RedisServer) -> TeamUnavailable:
    """Connect and write; return the error."""
    there = at(settings, server.url)
    with (
        refused() as found,
        translated(there.redis_url),
        contextlib.closing(connect(there)) as client,
    ):
        run_script(client, SET_AND_GET, ["stratum:x"], ["1" * 1000])
    return found[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--maxmemory", "100kb", "--maxmemory-policy", "noeviction"), "no memory left"),
        (("--min-replicas-to-write", "1"), "lacks the replicas"),
        (("--maxclients", "1"), "no room for another connection"),
        (("--rename-command", "HELLO", "", "--rename-command", "AUTH", ""), "too old"),
    ],
    ids=["memory", "replicas", "clients", "commands"],
)
def test_a_server_in_a_bad_state_says_so(
    settings: Settings, options: tuple[str, ...], words: str
) -> None:
    with RedisServer(search=False, options=options) as server:
        held = socket.create_connection(("127.0.0.1", server.port))
        with held:
            held.sendall(b"PING\r\n")
            held.recv(100)
            assert words in failing(settings, server).message


def test_a_cluster_without_its_slots_says_so(settings: Settings) -> None:
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with RedisServer(search=False, options=options) as server:
        assert "a cluster that is down in part" in failing(settings, server).message


def test_a_command_that_is_unknown_does_not_repeat_the_password(settings: Settings) -> None:
    """Redis answers an unknown AUTH with the password it was given."""
    with RedisServer(search=False, options=("--rename-command", "AUTH", "")) as server, refused():
        connect(at(settings, f"redis://127.0.0.1:{server.port}", PASSWORD))


def test_a_replica_and_one_without_its_primary_say_so(settings: Settings) -> None:
    with RedisServer(search=False) as primary:
        follow = ("--replicaof", f"127.0.0.1 {primary.port}", "--replica-serve-stale-data", "no")
        with RedisServer(search=False, options=follow) as replica, replica.client() as client:
            until = time.monotonic() + 20
            while client.execute_command("ROLE")[3] != b"connected":
                assert time.monotonic() < until
                time.sleep(0.05)
            assert "a replica that takes no writes" in failing(settings, replica).message
            primary.kill()
            while client.execute_command("ROLE")[3] == b"connected":
                assert time.monotonic() < until
                time.sleep(0.05)
            with refused() as found, translated(replica.url):
                client.get("stratum:x")
            assert "has lost its primary" in found[0].message


def test_a_server_that_loads_its_data_says_so(settings: Settings) -> None:
    with RedisServer(search=False) as server, server.client() as client:
        with client.pipeline() as pipe:
            for number in range(3000):
                pipe.set(f"stratum:{number}", "1")
            pipe.execute()
        client.config_set("loading-process-events-interval-bytes", 1024)
        client.config_set("key-load-delay", 1000)  # microseconds
        thread = threading.Thread(target=client.execute_command, args=("DEBUG", "RELOAD"))
        thread.start()
        time.sleep(0.3)
        message = failing(settings, server).message
        thread.join()
        assert "is still loading its data" in message


def test_a_disk_that_takes_nothing_says_so(settings: Settings) -> None:
    options = ("--dbfilename", "taken")
    with RedisServer(search=False, options=options) as server, server.client() as client:
        (server.log.parent / "taken").mkdir()
        client.config_set("save", "3600 1")
        client.bgsave()
        until = time.monotonic() + 20
        while client.info("persistence")["rdb_last_bgsave_status"] == "ok":
            assert time.monotonic() < until
            time.sleep(0.05)
        assert "cannot save to its disk" in failing(settings, server).message


def test_a_server_that_is_busy_with_a_script_says_so(settings: Settings) -> None:
    options = ("--busy-reply-threshold", "50")
    with RedisServer(search=False, options=options) as server, server.client() as client:

        def spin() -> None:
            with contextlib.suppress(redis.ResponseError):
                client.eval("while true do end", 0)

        thread = threading.Thread(target=spin)
        thread.start()
        time.sleep(0.3)
        try:
            assert "busy with somebody's script" in failing(settings, server).message
        finally:
            with server.client() as other:
                other.script_kill()
            thread.join()


def test_an_error_of_another_attempt_is_not_taken_for_this_one(settings: Settings) -> None:
    with RedisServer(password=PASSWORD, search=False) as server:
        try:
            connect(at(settings, f"redis://127.0.0.1:{free_port()}"))
        except TeamUnavailable:
            with refused() as found:
                connect(at(settings, f"redis://127.0.0.1:{server.port}"))
    assert "does not accept" in found[0].message


def test_errors_that_are_not_the_networks_pass_through() -> None:
    with pytest.raises(FileNotFoundError), translated("redis://127.0.0.1"):
        raise FileNotFoundError("a file of ours")


# --- no password anywhere ----------------------------------------------------------------------


def test_no_log_and_no_repr_holds_a_password(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with RedisServer(password=PASSWORD, search=False) as server:
        there = at(settings, server.url)
        with contextlib.closing(connect(there)) as client:
            shown = repr(client) + repr(client.connection_pool) + repr(there)
        server.kill()
        with refused():
            connect(there)
    assert "marmalade" not in shown + caplog.text


@pytest.mark.parametrize("trouble", ["password", "port", "unknown AUTH"])
def test_the_command_line_tells_trouble_in_two_lines_without_the_password(
    repository: Path, trouble: str
) -> None:
    options = ("--rename-command", "AUTH", "") if trouble == "unknown AUTH" else ()
    with RedisServer(password="another", search=False, options=options) as server:
        port = free_port() if trouble == "port" else server.port
        done = subprocess.run(
            [sys.executable, "-m", "stratum", "sync", "-v"],
            cwd=repository,
            env=os.environ
            | {
                "STRATUM_REDIS_URL": f"redis://ada:{quote(PASSWORD, safe='')}@127.0.0.1:{port}",
                "STRATUM_LOG_LEVEL": "debug",
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 4
    shown = done.stdout + done.stderr
    assert "Error: The team's Redis at redis://127.0.0.1" in shown
    assert "Traceback" not in shown
    assert "marmalade" not in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://ada:owl@host.example:6380/2?ssl_ca_certs=/secret", "redis://host.example:6380/2"),
        ("rediss://owl@host.example", "rediss://host.example"),
        ("redis://:owl/owl@host", "the address in redis_url"),
        ("redis://[2001:db8::1]:6379", "redis://[2001:db8::1]:6379"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("owl", "the address in redis_url"),
        ("redis://host/owl", "redis://host"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert shown_url(url) == shown
    assert "owl" not in shown


def test_the_keyring_is_asked_last_and_its_failure_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keyring = pytest.importorskip("keyring")
    from keyring.backend import KeyringBackend

    class Ring(KeyringBackend):
        priority = 1.0
        broken = False

        def get_password(self, service: str, username: str) -> str | None:
            if self.broken:
                raise OSError(PASSWORD)
            return PASSWORD if (service, username) == ("stratum", wanted) else None

        def set_password(self, service: str, username: str, password: str) -> None: ...
        def delete_password(self, service: str, username: str) -> None: ...

    before, ring = keyring.get_keyring(), Ring()
    with RedisServer(password=PASSWORD, search=False) as server:
        url = f"redis://default@127.0.0.1:{server.port}"
        wanted = f"default@127.0.0.1:{server.port}"
        keyring.set_keyring(ring)
        try:
            round_trip(at(settings, url))
            with refused():  # without a user in the URL the keyring is not asked
                connect(at(settings, f"redis://127.0.0.1:{server.port}"))
            with refused():  # what the settings say counts
                connect(at(settings, url, "wrong"))
            ring.broken = True
            with refused():
                connect(at(settings, url))
        finally:
            keyring.set_keyring(before)
    assert "keyring cannot be read: OSError" in caplog.text
    assert "marmalade" not in caplog.text


def test_a_process_that_only_imports_it_reads_nothing_and_connects_nowhere() -> None:
    code = "import stratum.redis_client, sys; sys.exit('keyring' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
