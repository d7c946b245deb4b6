"""What `doctor` looks at in the team's Redis, each finding with its cure.

Owns the list of commands that a team's user needs. It tries them on scratch keys of its own, which
are removed at once; nothing else is written. Every call is bounded in time, and the first that gets
no answer ends the examination.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import secrets
import stat
import time
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis

from stratum.config import Settings
from stratum.embedder import Embedder
from stratum.errors import TeamUnavailable
from stratum.models import Finding
from stratum.redis_client import (
    CALL_TIMEOUT,
    Capabilities,
    Client,
    Keys,
    ask,
    capabilities,
    connect,
    index_name,
    run_script,
    shown_url,
    translated,
)
from stratum.wire import vector_field

CLOCK_WARNING, CLOCK_ERROR = 5.0, 300.0  # seconds between the two clocks
_ACL = "docs/team.md has the whole line."

# Every command that is used, and how it is tried: {h}ash, {s}et, {x} stream, {z} sorted set, {t}ext
# and {v}ector set are scratch keys, {i} is an index that does not exist: being told so is enough.
TRIALS = (
    "TIME", "SCAN 0 COUNT 1",
    "HSET {h} a 1", "HGET {h} a", "HGETALL {h}", "HKEYS {h}", "HVALS {h}",
    "HSTRLEN {h} a", "HDEL {h} a", "TYPE {h}",
    "SADD {s} a", "SISMEMBER {s} a", "SCARD {s}", "SSCAN {s} 0",
    "XADD {x} * a 1", "XRANGE {x} - +", "XREVRANGE {x} + -", "XREAD STREAMS {x} 0",
    "ZADD {z} 0 a", "ZCARD {z}", "ZRANGEBYSCORE {z} 0 1", "ZRANGEBYLEX {z} - +", "ZREM {z} a",
    "SET {t} 1", "GET {t}", "PUBLISH {t} 1",
)  # fmt: skip
SEARCH_TRIALS = ("FT.CREATE {i} SCHEMA", "FT.SEARCH {i} *", "FT.INFO {i}", "FT.DROPINDEX {i}")
VECTOR_TRIALS = (
    "SMEMBERS {s}", "VADD {v} VALUES 2 1 0 a", "VSIM {v} VALUES 2 1 0",
    "VCARD {v}", "VREM {v} a",
)  # fmt: skip
# Tried in another way, below.
OTHER_COMMANDS = (
    "DEL", "EVAL", "EVALSHA", "FT._LIST", "PEXPIRE", "SCRIPT|LOAD", "SUBSCRIBE", "UNSUBSCRIBE",
)  # fmt: skip


def team(settings: Settings, embedder: Embedder | None) -> Iterator[Finding]:
    """Examine what the settings say and the server that they name; takes seconds at the most.

    Args:
        settings: With `redis_url`.
        embedder: The one that makes this machine's vectors, or None.
    """
    yield from configured(settings)
    try:
        with translated(settings.redis_url):
            client = connect(settings)
            try:
                yield from _server(client, settings, embedder)
            finally:
                client.close()
    except TeamUnavailable as error:
        yield Finding("team", "error", error.message, error.hint)


# --- what the settings say -----------------------------------------------------------------------


def configured(settings: Settings) -> Iterator[Finding]:
    """Look for a password that others can read, and for a connection that others can read."""
    if _readable_password(settings.config_file):
        yield Finding(
            "team settings", "warning",
            f"{settings.config_file} holds the password of the team's Redis and every user of this "
            "machine can read it.",
            f"Run `chmod 600 {settings.config_file}`, or keep the password in the keyring.",
        )  # fmt: skip
    with contextlib.suppress(ValueError):  # connecting says what is wrong with the URL
        parts = urlsplit(settings.redis_url)
        verify = parse_qs(parts.query).get("ssl_cert_reqs", ["required"])[-1]
        if parts.scheme == "rediss" and verify.lower() != "required":
            yield Finding(
                "team settings", "warning",
                "The certificate of the team's Redis is not checked: anybody on the way can read "
                "and change what is sent.",
                "Write ?ssl_ca_certs=FILE instead of ?ssl_cert_reqs=… at the end of redis_url.",
            )  # fmt: skip
        if parts.scheme == "redis" and not _is_local(parts.hostname or "localhost"):
            yield Finding(
                "team settings", "warning",
                "Notes and password go through the network in the clear.",
                "Use TLS (rediss://), unless a VPN or a tunnel lies around it.",
            )  # fmt: skip


def _readable_password(file: Path) -> bool:
    """Tell whether a settings file with the password can be read by others than its owner."""
    try:
        mode = file.stat().st_mode
        values = tomllib.loads(file.read_text(encoding="utf-8"))
        inside = urlsplit(str(values.get("redis_url", ""))).password
    except (OSError, ValueError):
        return False
    shared = os.name == "posix" and bool(mode & (stat.S_IRGRP | stat.S_IROTH))
    return shared and bool(values.get("redis_password") or inside)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# --- what the server says ------------------------------------------------------------------------


def _server(client: Client, settings: Settings, embedder: Embedder | None) -> Iterator[Finding]:
    can = capabilities(client, settings.redis_prefix)
    denied = list(dict.fromkeys(_denied(client, settings, can)))
    yield reached(can, settings, denied)
    yield from _access(denied, settings)
    yield clock(client)
    yield from _memory(client)
    if can.search and not can.cluster:
        yield from _indexes(client, settings, embedder)


def reached(can: Capabilities, settings: Settings, denied: list[str]) -> Finding:
    """Tell what answers at the other end and what notes it can be asked for."""
    kind = "a cluster" if can.cluster else "a server"
    what = f"Redis {can.version}, {kind} at {shown_url(settings.redis_url)}, team {settings.team!r}"
    if can.search and not can.cluster:
        return Finding("team", "ok", f"{what}: notes are replicated and searched")
    if any(name.startswith(("FT.", "V")) for name in denied):
        return Finding("team", "ok", f"{what}: it answers; what this user lacks stands below")
    if can.vector_sets:
        return Finding(
            "team", "warning", f"{what}: no search module that we can use; the shared notes are "
            "found by meaning alone.",
            "Use Redis 8 or Redis Stack, not as a cluster; replicated notes are found as ever.",
        )  # fmt: skip
    return Finding(
        "team", "warning", f"{what}: it cannot search. Notes are replicated only.",
        "Use Redis 8 or Redis Stack, not as a cluster, to search projects not on this machine.",
    )  # fmt: skip


def _access(denied: list[str], settings: Settings) -> Iterator[Finding]:
    """Turn what was denied into findings: commands, keys, channels."""
    commands = [name for name in denied if not name.startswith(("~", "&"))]
    patterns = [name for name in denied if name.startswith(("~", "&"))]
    if commands:
        yield Finding(
            "team access", "error",
            f"The user in redis_url may not run {', '.join(commands)}.",
            f"Let it: `ACL SETUSER <user> {' '.join('+' + name.lower() for name in commands)}`; "
            f"{_ACL}",
        )  # fmt: skip
    if patterns:
        kinds = {"~": "keys", "&": "channels"}
        signs = sorted(set(patterns), reverse=True)
        named = " and ".join(kinds[sign] for sign in signs)
        wanted = " ".join(f"{sign}{settings.redis_prefix}:*" for sign in signs)
        yield Finding(
            "team access", "error",
            f"The user in redis_url may not touch {named} that begin with "
            f"{settings.redis_prefix}:.",
            f"Let it: `ACL SETUSER <user> {wanted}`; {_ACL}",
        )  # fmt: skip
    if not denied:
        yield Finding("team access", "ok", "this user may do everything that is needed")


def _denied(client: Client, settings: Settings, can: Capabilities) -> Iterator[str]:
    """Try each command; yield the names of those denied, and `~` or `&` for keys or channels."""
    keys = Keys.of(settings, f"doctor {secrets.token_hex(8)}")
    scratch = {kind: keys.named("doctor", kind) for kind in "hsxztv"}
    names = scratch | {"i": f"{index_name(settings, 'doctor')}:{secrets.token_hex(4)}"}
    script = "return redis.call('PEXPIRE', KEYS[1], 60000)"
    try:
        # a cluster has no index of ours; what a server does not know is not denied
        listing = [] if can.cluster else list(_tried(partial(ask, client, "FT._LIST")))
        yield from listing
        searched = not can.cluster and (can.search or bool(listing))
        for trial in TRIALS + (SEARCH_TRIALS if searched else VECTOR_TRIALS):
            words = [word.format_map(names) for word in trial.split()]
            yield from _tried(partial(client.execute_command, *words))
        yield from _tried(partial(client.script_load, script))
        yield from _tried(partial(client.eval, script, 1, names["h"]))
        yield from _tried(partial(run_script, client, script, [names["h"]], []))
        yield from _tried(partial(_listen, client, keys.named("doctor")))
    finally:
        yield from _tried(partial(client.delete, *scratch.values()))


def _tried(call: Callable[[], object]) -> Iterator[str]:
    """Yield what a call was denied for; other answers do not matter here."""
    try:
        call()
    except redis.ResponseError as error:
        told = str(error)
        command = re.search(r"permissions to run the '([\w.|-]+)' command", told)
        if command:
            yield command[1].upper()
        elif "permissions to access" in told:
            yield "&" if "channel" in told else "~"


def _listen(client: Client, channel: str) -> None:
    with contextlib.closing(client.pubsub()) as subscription:  # type: ignore[no-untyped-call]
        subscription.subscribe(channel)
        subscription.get_message(timeout=CALL_TIMEOUT)
        subscription.unsubscribe(channel)
        subscription.get_message(timeout=CALL_TIMEOUT)


def clock(client: Client, now: Callable[[], float] = time.time) -> Finding:
    """Compare this machine's clock with the server's: the newer version of a note wins.

    Args:
        client: An open connection.
        now: Returns seconds since 1970.
    """
    try:
        before = now()
        reply = ask(client, "TIME")
        after = now()
    except redis.ResponseError:  # access is told of elsewhere
        return Finding("team clock", "ok", "not compared: this user may not ask for the time")
    seconds, micros = next(iter(reply.values())) if isinstance(reply, dict) else reply
    ahead = (before + after) / 2 - (int(seconds) + int(micros) / 1e6)
    way = "ahead of" if ahead > 0 else "behind"
    if abs(ahead) <= CLOCK_WARNING:
        return Finding("team clock", "ok", f"{abs(ahead):.1f} s {way} the server's")
    return Finding(
        "team clock", "error" if abs(ahead) > CLOCK_ERROR else "warning",
        f"This machine's clock is {abs(ahead):,.0f} s {way} the server's: of two versions of a "
        "note the wrong one may win.",
        "Let both machines take their time from the network (NTP).",
    )  # fmt: skip


def _memory(client: Client) -> Iterator[Finding]:
    """Tell whether the server can lose notes: by a restart, or because its memory is full."""
    try:
        facts = _info(client, "persistence") | _info(client, "memory")
    except redis.ResponseError:
        yield Finding("team server", "ok", "not looked at: this user may not run INFO")
        return
    policy, most = str(facts.get("maxmemory_policy", "")), int(facts.get("maxmemory", 0))
    sound = True
    if not int(facts.get("aof_enabled", 1)):
        sound = False
        yield Finding(
            "team server", "warning",
            "It keeps no append-only file: with a restart it loses what it wrote last, and what "
            "no machine has is gone.",
            "Start it with `--appendonly yes`.",
        )  # fmt: skip
    if most and policy and policy != "noeviction":
        sound = False
        yield Finding(
            "team server", "warning",
            f"When its memory is full it throws notes away (maxmemory-policy {policy}).",
            "Start it with `--maxmemory-policy noeviction`.",
        )  # fmt: skip
    if sound:
        yield Finding("team server", "ok", "writes to disk what it is given, and evicts nothing")


def _info(client: Client, section: str) -> dict[str, Any]:
    facts = ask(client, "INFO", section)
    return dict(facts)


def _indexes(client: Client, settings: Settings, embedder: Embedder | None) -> Iterator[Finding]:
    """Look at the search indexes of the team for the vectors that this machine makes."""
    fingerprint = embedder.fingerprint if embedder else ""
    base = f"{index_name(settings, fingerprint)}:"
    names = sorted(name.decode(errors="replace") for name in ask(client, "FT._LIST"))
    found = [name for name in names if name.startswith(base)]
    for name in found:
        try:
            facts = _pairs(ask(client, "FT.INFO", name))
        except redis.ResponseError:  # dropped in this moment, or access is told of elsewhere
            continue
        yield _index(name, facts, embedder)
    if not found:
        yield Finding("team index", "ok", "not there yet for this model: the next sync makes it")


def _index(name: str, facts: dict[str, Any], embedder: Embedder | None) -> Finding:
    fields = [_pairs(field) for field in facts.get("attributes", ())]
    wanted = vector_field(embedder.fingerprint) if embedder else ""
    sizes = [int(field["dim"]) for field in fields
             if "dim" in field and _word(field.get("identifier")) == wanted]  # fmt: skip
    if embedder and sizes != [embedder.dimension]:
        made = f"vectors of {sizes[0]} numbers" if sizes else "no vectors"
        return Finding(
            "team index", "warning",
            f"{name} was made for {made}; this machine's have {embedder.dimension}. Its notes are "
            "not found by meaning.",
            f"Remove it with `redis-cli FT.DROPINDEX {name}`: the next sync makes it anew, and no "
            "note is lost.",
        )  # fmt: skip
    failures = int(facts.get("hash_indexing_failures", 0))
    if failures:
        return Finding(
            "team index", "warning",
            f"{name} holds {int(facts['num_docs']):,} notes and could not take in {failures:,}.",
            "Those were written by something else than Stratum, or by another version of it.",
        )  # fmt: skip
    return Finding("team index", "ok", f"{name}, {int(facts['num_docs']):,} notes")


def _pairs(reply: Any) -> dict[str, Any]:
    return {_word(name): value for name, value in zip(reply[::2], reply[1::2], strict=False)}


def _word(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
