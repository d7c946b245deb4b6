"""What agents of a team do together, kept in their Redis: leases, logs, contexts of sessions.

The same operations as `coordination_store`, each one script, so that all of a team see one order.
The clock is the server's. Every operation may be sent twice without harm: a connection that broke
is tried once more, for the server may have done it before. Times are milliseconds since 1970.

Keys of a project, all in one slot: `leases` (HASH: id -> JSON), `claims` (ZSET of members, see
`coordination`), `ends` (ZSET: id -> when the lease may be forgotten), `fence` (the last token),
`events` (STREAM), `findings:<task>` (STREAM), `context:<session>` (STRING).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import redis

from stratum.config import Settings
from stratum.errors import TeamUnavailable
from stratum.models import Attempt, Held, LogPage
from stratum.redis_client import Client, Keys, connect, run_script, translated

_LATEST = 10**14  # milliseconds: in the year 5138, when times would have a digit more
_BLOCK = 2.0  # seconds that one call waits for events: less than a call may take

# Times and tokens have 13 digits: exact as numbers of Lua, and written as whole numbers by %.0f.
_PRELUDE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Appends to a log whose ids are <when it was begun>-<number>; the numbers have no gap.
local function append(log, bound, entry)
  local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  local id = string.format('%.0f-1', now)
  if last then
    local epoch, number = string.match(last[1], '^(%d+)-(%d+)$')
    id = string.format('%s-%.0f', epoch, number + 1)
  end
  entry.at = now
  redis.call('XADD', log, 'MAXLEN', bound, id, 'entry', cjson.encode(entry))
  return id
end

local function event(kind, held, by, agent)
  local told = {kind = kind, subjects = held.subjects, holder = by, agent = agent,
                text = held.purpose, lease = held.id, token = held.token}
  return told
end

local function answer(state, held, before)
  return cjson.encode({state = state, now = now, held = held, before = before})
end

local function lease(leases, id)
  local text = redis.call('HGET', leases, id)
  return text and cjson.decode(text)
end

local function put(leases, ends, held, goes)
  redis.call('HSET', leases, held.id, cjson.encode(held))
  redis.call('ZADD', ends, goes, held.id)
end

local function free(claims, held)
  for _, subject in ipairs(held.subjects) do
    redis.call('ZREM', claims, subject .. '\\n' .. held.id)
  end
end
"""

# KEYS leases claims ends fence events; ARGV lease, ranges, ttl, kept, most, bound
_CLAIM = (
    _PRELUDE
    + """
local leases, claims, ends, fence, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local wanted, ranges = cjson.decode(ARGV[1]), cjson.decode(ARGV[2])
local ttl, kept = tonumber(ARGV[3]), tonumber(ARGV[4])

for _, id in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 100)) do
  local held = lease(leases, id)
  if held then free(claims, held) end
  redis.call('HDEL', leases, id)
  redis.call('ZREM', ends, id)
end

local met, seen = {}, {}
for _, range in ipairs(ranges) do
  for _, member in ipairs(redis.call('ZRANGEBYLEX', claims, '[' .. range[1], '(' .. range[2])) do
    local id = string.match(member, '\\n(.*)$')
    local held = not seen[id] and lease(leases, id)
    seen[id] = true
    if held then table.insert(met, held) end
  end
end
table.sort(met, function(a, b) return a.token < b.token end)

for _, held in ipairs(met) do
  if held.expires > now and held.holder ~= wanted.holder then
    return answer('refused', held)
  end
end

local asked = {}
for _, subject in ipairs(wanted.subjects) do asked[subject] = true end
for _, held in ipairs(met) do
  local same = held.holder == wanted.holder and #held.subjects == #wanted.subjects
  for _, subject in ipairs(held.subjects) do same = same and asked[subject] end
  if same then
    held.expires = math.max(held.expires, now + ttl)
    if wanted.purpose ~= '' then held.purpose = wanted.purpose end
    put(leases, ends, held, held.expires + kept)
    return answer('renewed', held)
  end
end

if redis.call('ZCARD', claims) >= tonumber(ARGV[5]) then return answer('full') end

local before, named = {}, {}
for _, held in ipairs(met) do
  if held.holder ~= wanted.holder then
    free(claims, held)
    held.ended, held.by = 'taken over', wanted.holder
    put(leases, ends, held, now + kept)
    if not named[held.holder] then table.insert(before, held.holder) end
    named[held.holder] = true
  end
end
wanted.token = math.max((redis.call('GET', fence) or 0) + 1, now)
redis.call('SET', fence, string.format('%.0f', wanted.token))
wanted.taken, wanted.expires = now, now + ttl
put(leases, ends, wanted, wanted.expires + kept)
for _, subject in ipairs(wanted.subjects) do
  redis.call('ZADD', claims, 0, subject .. '\\n' .. wanted.id)
end
local state = #before > 0 and 'taken over' or 'claimed'
local told = event(state, wanted, wanted.holder, wanted.agent)
if #before > 0 then told.before = before end
append(events, ARGV[6], told)
return answer(state, wanted, #before > 0 and before or nil)
"""
)

_STANDING = (
    _PRELUDE
    + """
local leases, ends, held, holder = KEYS[1], KEYS[2], lease(KEYS[1], ARGV[1]), ARGV[2]
if not held then return answer('unknown') end
if holder ~= '' and held.holder ~= holder then return answer('foreign', held) end
"""
)

# KEYS leases ends; ARGV id, holder
_CHECK = _STANDING + "return answer(held.ended and 'ended' or 'checked', held)\n"

# KEYS leases ends; ARGV id, holder, ttl, kept
_HEARTBEAT = (
    _STANDING
    + """
if held.ended then return answer('ended', held) end
held.expires = math.max(held.expires, now + tonumber(ARGV[3]))
put(leases, ends, held, held.expires + tonumber(ARGV[4]))
return answer('renewed', held)
"""
)

# KEYS leases ends claims events; ARGV id, holder, by, agent, kept, bound
_RELEASE = (
    _STANDING
    + """
if held.ended == 'released' then return answer('released', held) end
if held.ended then return answer('ended', held) end
free(KEYS[3], held)
held.ended, held.by = 'released', ARGV[3]
put(leases, ends, held, now + tonumber(ARGV[5]))
append(KEYS[4], ARGV[6], event('released', held, ARGV[3], ARGV[4]))
return answer('released', held)
"""
)

# KEYS leases
_LEASES = (
    _PRELUDE
    + """
return {string.format('%.0f', now), redis.call('HVALS', KEYS[1])}
"""
)

# KEYS findings events; ARGV finding, event, ttl in ms, bound of findings, bound of events
_SHARE = (
    _PRELUDE
    + """
local finding = cjson.decode(ARGV[1])
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 16)) do
  if string.find(entry[2][2], finding.id, 1, true) then
    return {entry[1], string.format('%.0f', cjson.decode(entry[2][2]).at)}
  end
end
local id = append(KEYS[1], ARGV[4], finding)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
append(KEYS[2], ARGV[5], cjson.decode(ARGV[2]))
return {id, string.format('%.0f', now)}
"""
)

# KEYS log; ARGV id after which to read or "", limit
_READ = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not last then return {'0-0', {}} end
if ARGV[1] == '' then
  return {last[1], redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[2])}
end
return {last[1], redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])}
"""

# KEYS context; ARGV value, ttl; when it goes stands before the value, for one GET to read both
_PUT_CONTEXT = (
    _PRELUDE
    + """
local expires = string.format('%.0f', now + ARGV[2])
redis.call('SET', KEYS[1], expires .. '\\n' .. ARGV[1], 'PX', ARGV[2])
return expires
"""
)


class RedisCoordination:
    """What agents do together, in the team's Redis; `project` is a project's identity.

    Args:
        settings: Where it is.

    Raises:
        TeamUnavailable: By every method, when the server cannot be reached or refuses.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._client: Client | None = None

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    # leases

    def claim(
        self,
        project: str,
        wanted: Held,
        ranges: Sequence[tuple[str, str]],
        ttl: int,
        *,
        kept: int,
        most: int,
        bound: int,
    ) -> Attempt:
        """See `CoordinationStore.claim`."""
        lease = {
            "id": wanted.id,
            "subjects": wanted.subjects,
            "holder": wanted.holder,
            "agent": wanted.agent,
            "purpose": wanted.purpose,
        }
        keys = self._named(project, "leases", "claims", "ends", "fence", "events")
        return self._attempt(_CLAIM, keys, _json(lease), _json(ranges), ttl, kept, most, bound)

    def heartbeat(self, project: str, lease_id: str, holder: str, ttl: int, kept: int) -> Attempt:
        """See `CoordinationStore.heartbeat`."""
        keys = self._named(project, "leases", "ends")
        return self._attempt(_HEARTBEAT, keys, lease_id, holder, ttl, kept)

    def release(
        self,
        project: str,
        lease_id: str,
        holder: str,
        *,
        by: str,
        agent: str,
        kept: int,
        bound: int,
    ) -> Attempt:
        """See `CoordinationStore.release`."""
        keys = self._named(project, "leases", "ends", "claims", "events")
        return self._attempt(_RELEASE, keys, lease_id, holder, by, agent, kept, bound)

    def lease(self, project: str, lease_id: str, holder: str) -> Attempt:
        """See `CoordinationStore.lease`."""
        return self._attempt(_CHECK, self._named(project, "leases", "ends"), lease_id, holder)

    def leases(self, project: str) -> tuple[int, list[Held]]:
        """See `CoordinationStore.leases`."""
        now, texts = self._run(_LEASES, self._named(project, "leases"))
        with _readable():
            found = [_held(json.loads(text)) for text in texts]
        open_ = [held for held in found if not held.ended]
        return int(now), sorted(open_, key=lambda held: held.token)

    # logs

    def share(
        self,
        project: str,
        log: str,
        finding: dict[str, object],
        event: dict[str, object],
        *,
        ttl: int,
        bounds: tuple[int, int],
    ) -> tuple[int, int, int]:
        """See `CoordinationStore.share`; the finding's `id` keeps it from being added twice."""
        keys = [self._log(project, log), self._log(project, "")]
        id_, at = self._run(_SHARE, keys, _json(finding), _json(event), ttl, *bounds)
        return *_parts(id_), int(at)

    def read_log(
        self, project: str, log: str, after: tuple[int, int] | None, limit: int
    ) -> LogPage:
        """See `CoordinationStore.read_log`."""
        start = "" if after is None else f"{after[0]}-{after[1]}"
        last, entries = self._run(_READ, [self._log(project, log)], start, limit)
        return LogPage(tuple(sorted(map(_entry, entries))), _parts(last))

    def wait_for_events(self, project: str, after: tuple[int, int], seconds: float) -> None:
        """See `CoordinationStore.wait_for_events`."""
        deadline = time.monotonic() + seconds
        streams: dict[Any, Any] = {self._log(project, ""): f"{after[0]}-{after[1]}"}
        while (left := deadline - time.monotonic()) > 0:
            block = max(1, round(min(left, _BLOCK) * 1000))
            if self._call(partial(_wait, streams, block)):
                return

    # contexts of sessions

    def put_context(self, project: str, session: str, value: str, ttl: int) -> int:
        """See `CoordinationStore.put_context`."""
        return int(
            self._run(_PUT_CONTEXT, [_context(self._settings, project, session)], value, ttl)
        )

    def context(self, project: str, session: str) -> tuple[str, int] | None:
        """See `CoordinationStore.context`."""
        key = _context(self._settings, project, session)
        found = self._call(lambda client: client.get(key))
        if found is None:
            return None
        expires, _, value = _text(found).partition("\n")
        with _readable():
            json.loads(value)
            return value, _time(expires)

    # calls

    def _named(self, project: str, *kinds: str) -> list[str]:
        keys = Keys.of(self._settings, project)
        return [keys.named(kind) for kind in kinds]

    def _log(self, project: str, log: str) -> str:
        keys = Keys.of(self._settings, project)
        return keys.named("findings", _digest(log)) if log else keys.named("events")

    def _attempt(self, script: str, keys: Sequence[str], *args: str | int) -> Attempt:
        answer = self._run(script, keys, *args)
        with _readable():
            plain = json.loads(answer)
            held = _held(plain["held"]) if "held" in plain else None
            before = tuple(map(str, plain.get("before", ())))
            return Attempt(plain["state"], int(plain["now"]), held, before)

    def _run(self, script: str, keys: Sequence[str], *args: str | int) -> Any:
        return self._call(lambda client: run_script(client, script, keys, args))

    def _call(self, ask: Callable[[Client], Any]) -> Any:
        """Ask the server; once more where the connection broke, as after its restart."""
        with translated(self._settings.redis_url):
            client = self._connected()
            try:
                return ask(client)
            except redis.ConnectionError:
                return ask(client)

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = connect(self._settings)
            return self._client


def _wait(streams: dict[Any, Any], block: int, client: Client) -> Any:
    return client.xread(streams, count=1, block=block)


def _context(settings: Settings, project: str, session: str) -> str:
    return Keys.of(settings, project).named("context", _digest(session))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _digest(name: str) -> str:
    """Return what stands for a name in a key."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _parts(id_: object) -> tuple[int, int]:
    epoch, _, number = _text(id_).partition("-")
    return int(epoch), int(number)


def _entry(raw: Sequence[Any]) -> tuple[int, int, str]:
    return *_parts(raw[0]), _text(raw[1][1])


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Say of what another program has put there, and that means nothing here, that it is so."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TeamUnavailable(
            "The team's Redis holds a lease or a context that cannot be read.",
            hint="Bring Stratum to the same version on all machines.",
            retryable=False,
        ) from error


def _time(value: object) -> int:
    """Return milliseconds since 1970, or a token, which has as many digits."""
    number = int(str(value))
    if not 0 <= number < _LATEST:
        raise ValueError(f"{number} is no time")
    return number


def _held(plain: dict[str, Any]) -> Held:
    return Held(
        id=str(plain["id"]),
        subjects=tuple(map(str, plain["subjects"])),
        holder=str(plain["holder"]),
        agent=str(plain["agent"]),
        purpose=str(plain["purpose"]),
        token=_time(plain["token"]),
        taken=_time(plain["taken"]),
        expires=_time(plain["expires"]),
        ended=str(plain.get("ended", "")),
        by=str(plain.get("by", "")),
    )
