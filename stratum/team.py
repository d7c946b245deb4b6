"""The notes of a team, carried between this machine and its Redis.

A note is a HASH; a STREAM keeps the order of changes, a SET the ids, and a channel says at once
that there is something new. One script on the server decides which version is newer, writes it and
appends the change. Everything can be repeated: a second exchange right after moves nothing. What is
sent and how what comes in is taken in, `replica` decides.

Where the stream does not reach back to what was read last (it was trimmed, or the server lost data
or was brought back from a backup), all notes are compared, in both directions.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import redis

from stratum import team_index
from stratum.errors import StratumError, TeamUnavailable
from stratum.indexer import Report
from stratum.memory import Memory, silent
from stratum.models import STALE, Filters, Hit, Progress, SearchResult, SyncReport, TeamStatus
from stratum.redact import redact
from stratum.redis_client import (
    Capabilities,
    Client,
    Keys,
    capabilities,
    connect,
    fields_of_reply,
    read_hashes,
    run_script,
    shown_url,
    translated,
)
from stratum.replica import Delivered, Fetched, Parcel
from stratum.wire import MAX_BYTES

log = logging.getLogger(__name__)

PAGE = 200  # notes in one call of the server and in one transaction here
_LOG_ENTRIES = 100_000  # changes that the stream keeps at least: 60 bytes each
_LISTEN = 0.5  # seconds between two looks whether this machine has something to send
_EMBED_AT_ONCE = 64  # notes whose vectors are made before they are sent; more would wait too long
_AT_LEAST_EVERY = 30.0  # seconds: a message may get lost, the stream does not
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0  # seconds between tries while the server is away
_TOO_FAR_AHEAD = 24 * 3_600_000  # milliseconds
_STANDS = (b"stored", b"same")  # answers after which the server has our version
_MAX_SAID = 200  # characters of what a server says

# KEYS: note, log, ids, the note that this one supersedes (or itself). ARGV: stamp, the stamp that
# we knew, home, channel, id, the most entries and bytes, the most milliseconds ahead; then the
# fields. A stamp that nobody can have made counts as none.
_PUSH = """
local function kind(key) return redis.call('TYPE', key).ok end
local function announce()
  if kind(KEYS[2]) ~= 'stream' then redis.call('DEL', KEYS[2]) end
  if kind(KEYS[3]) ~= 'set' then redis.call('DEL', KEYS[3]) end
  redis.call('SADD', KEYS[3], ARGV[5])
  local words = {'XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], '*',
      'id', ARGV[5], 'stamp', ARGV[1], 'home', ARGV[3]}
  local change = redis.pcall(unpack(words))
  if type(change) == 'table' then  -- somebody has used up its ids: all will compare all notes
    redis.call('DEL', KEYS[2])
    change = redis.call(unpack(words))
  end
  redis.call('PUBLISH', ARGV[4], ARGV[3])
  return change
end
local time = redis.call('TIME')
local last = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[8]
if tonumber(string.sub(ARGV[1], 1, 15)) > last then return {'ahead'} end
local have = false
if kind(KEYS[1]) == 'hash' then have = redis.call('HGET', KEYS[1], 'stamp') end
if have and (#have ~= 34 or string.find(have, '%D')
    or tonumber(string.sub(have, 1, 15)) > last) then have = false end
if have == ARGV[1] then
  for i = 9, #ARGV, 2 do
    if string.sub(ARGV[i], 1, 2) == 'v_' then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
  end
  if kind(KEYS[3]) == 'set' and redis.call('SISMEMBER', KEYS[3], ARGV[5]) == 1 then
    return {'same'}
  end
  return {'stored', announce(), {}}
end
if have and have > ARGV[1] then return {'older'} end
local lost = {}
if have and have ~= ARGV[2] then
  local size = 0
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    size = size + redis.call('HSTRLEN', KEYS[1], field)
  end
  if size <= tonumber(ARGV[7]) then lost = redis.call('HGETALL', KEYS[1]) end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 9))
if KEYS[4] ~= KEYS[1] and kind(KEYS[4]) == 'hash' then
  redis.call('HSET', KEYS[4], 'living', '0')
end
return {'stored', announce(), lost}
"""

# What a peer wrote may be of any size: only what can be an id or a stamp leaves the server.
# KEYS: log. ARGV: from which change, how many. Answers with (change, note, stamp).
_CHANGES = """
local found = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])) do
  local told = {}
  for i = 1, #entry[2], 2 do told[entry[2][i]] = entry[2][i + 1] end
  local id = told.id or ''
  if #id > 12 then id = '' end
  table.insert(found, {entry[1], id, string.sub(told.stamp or '', 1, 34)})
end
return found
"""

# KEYS: ids. ARGV: cursor, about how many. Answers with the next cursor and ids.
_IDS = """
local found, ids = redis.call('SSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]), {}
for _, id in ipairs(found[2]) do
  if #id <= 12 then table.insert(ids, id) end
end
return {found[1], ids}
"""


class Team:
    """The way of a memory's notes to the team's Redis and back. One thread at a time may use it.

    Args:
        memory: Whose notes; its settings name the server.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._settings = memory.settings
        self._replica = memory.replica
        self._client: Client | None = None
        self._can: Capabilities | None = None
        where = (shown_url(self._settings.redis_url), self._settings.redis_prefix,
                 self._settings.team)  # fmt: skip
        self._remote = hashlib.sha256("\0".join(where).encode()).hexdigest()[:16]
        self._prepared: list[tuple[str, int]] = []  # spaces whose index is there
        self._index_trouble = ""

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        client, self._client, self._can, self._prepared = self._client, None, None, []
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()

    def status(self) -> TeamStatus:
        """Ask the server how it is; never raises for what is wrong with it."""
        url, team = shown_url(self._settings.redis_url), self._settings.team
        try:
            with self._connected():
                assert self._can is not None  # noqa: S101 - set with the connection
                found = team_index.kind(self._can)
                return TeamStatus(url, team, True, found, self._can.version, self._index_trouble)
        except TeamUnavailable as error:
            return TeamStatus(url, team, False, trouble=f"{error.message} {error.hint}".strip())

    # one exchange

    def sync(self, report: Report = silent) -> SyncReport:
        """Read what the others changed, send what waits here, and read again what met it.

        Raises:
            TeamUnavailable: The server cannot be reached or refuses; what was done until then
                stands, and the next exchange goes on from there.
        """
        begun, done = time.monotonic(), Counter[str]()
        replica = self._replica
        with self._connected() as client:
            self._prepare(client)
            projects = self._projects()
            for identity in projects:
                done += self._pull(client, identity, report)
            if replica.state().waiting:
                self._memory.embed_notes(_EMBED_AT_ONCE)
            sent, met = self._push(client, report)
            done += sent
            for identity, uids in met.items():
                done += self._read(client, identity, uids)
        if done["received"] or done["conflict"]:
            self._memory.wake()
        return SyncReport(
            projects=len(projects),
            sent=done["sent"],
            received=done["received"] + done["conflict"],
            conflicts=done["conflict"] + done["overwritten"],
            quarantined=done["quarantined"],
            resynced=done["resynced"],
            waiting=replica.state().waiting,
            seconds=round(time.monotonic() - begun, 3),
            notices=_notices(done, replica.nameless()),
        )

    def search(
        self,
        query: str,
        *,
        of: str | None = None,
        filters: Filters | None = None,
        limit: int = 10,
        include_stale: bool = False,
    ) -> SearchResult:
        """Search the notes where they are shared, without this machine's own store.

        Notes of the memory's own project are judged by its working tree, and withheld if they no
        longer hold. Those of others cannot be: their freshness is None, and a notice says so.

        Args:
            query: Words, or a sentence.
            of: A project's identity or name, or "all"; None means the memory's own.
            filters: As for `Memory.search`.
            limit: At most so many hits.
            include_stale: Show notes that no longer hold, too.

        Raises:
            InvalidInput: The query is empty, a filter makes no sense or `of` could mean several.
            NotFound: The team has no notes of such a project.
            TeamUnavailable: The server cannot be reached, or cannot search.
        """
        own = self._memory.project
        with team_index.TeamSearch(self._settings, self._memory.embedder()) as searcher:
            identity = None if of == "all" else searcher.identity_of(of) if of else own
            # more than are shown, since some may be withheld
            most = max(limit, min(2 * limit, team_index.MOST_HITS))
            found = searcher.search(query, identity, filters, limit=most)
        notes = [hit.note for hit in found.hits if hit.project == own]
        judged = self._memory.judged(notes)
        hits: list[Hit] = []
        withheld = 0
        for hit in found.hits:
            if len(hits) >= limit:
                break
            if hit.project != own:
                hits.append(replace(hit.hit, origin=f"{hit.project}, {hit.hit.origin}"))
            elif (mine := judged.get(hit.note.id)) is not None:
                if mine.freshness in STALE and not include_stale:
                    withheld += 1
                    continue
                hits.append(replace(mine, score=hit.hit.score))
        others = any(hit.freshness is None for hit in hits)
        notices = [n for n in found.notices if others or n != team_index.NOT_COMPARED]
        return SearchResult(
            found.query, identity or "all", found.mode, tuple(hits), withheld, tuple(notices)
        )

    def _projects(self) -> list[str]:
        """Return the projects to exchange; this one is among them, even if it was never seen."""
        self._memory.project  # noqa: B018 - reading it makes it known
        return list(self._replica.projects())

    def _prepare(self, client: Client) -> None:
        assert self._can is not None  # noqa: S101 - set with the connection
        spaces = self._memory.spaces() or [("", 0)]
        if spaces == self._prepared or team_index.kind(self._can) != "search":
            return
        try:
            for fingerprint, dimension in spaces:
                team_index.ensure(client, self._settings, self._can, fingerprint, dimension)
            self._prepared, self._index_trouble = spaces, ""
        except redis.ResponseError as error:  # notes travel all the same
            said = redact(str(error)[:_MAX_SAID]).text
            self._index_trouble = f"The search index cannot be made: {said}. Notes travel anyway."

    def _push(self, client: Client, report: Report) -> tuple[Counter[str], dict[str, list[str]]]:
        """Send what waits; return counts and, by project, the notes of which the server is newer.

        Such a version need not be told of by a change that is still to be read.
        """
        done, met, after = Counter[str](), dict[str, list[str]](), 0
        total = self._replica.state().waiting
        while parcels := self._replica.parcels(PAGE, after):
            after = parcels[-1].waiting.seq
            delivered = []
            for parcel, reply in zip(parcels, self._send(client, parcels), strict=True):
                verb = reply[0].decode()
                done["sent"] += verb == "stored"
                done["ahead"] += verb == "ahead"
                if verb == "older":
                    met.setdefault(parcel.identity, []).append(parcel.waiting.uid)
                if verb == "stored":
                    lost = fields_of_reply(reply[2]) if reply[2] else None
                    delivered.append(Delivered(parcel, True, reply[1].decode(), lost))
                elif verb != "ahead":
                    delivered.append(Delivered(parcel, verb == "same"))
            done["overwritten"] += self._replica.sent(delivered, self._remote)
            report(Progress("notes sent", done["sent"], max(total, done["sent"])))
        return done, met

    def _send(self, client: Client, parcels: Sequence[Parcel]) -> list[Any]:
        calls = [self._call(parcel) for parcel in parcels]
        assert self._can is not None  # noqa: S101 - set with the connection
        if self._can.cluster:  # its pipelines take no scripts
            replies = [run_script(client, _PUSH, *call) for call in calls]
        else:
            digest = client.script_load(_PUSH)
            with client.pipeline(transaction=False) as pipe:
                for keys, args in calls:
                    pipe.evalsha(digest, len(keys), *keys, *args)
                replies = pipe.execute()
        if team_index.kind(self._can) == "vector sets":
            stand = [p for p, reply in zip(parcels, replies, strict=True) if reply[0] in _STANDS]
            team_index.add_vectors(client, self._settings, [p.fields for p in stand])
        return replies

    def _call(self, parcel: Parcel) -> tuple[list[str], list[Any]]:
        keys, fields = Keys.of(self._settings, parcel.identity), parcel.fields
        flat = [part for pair in fields.items() for part in pair]
        own = parcel.waiting.uid
        older = str(fields["supersedes"]) or own
        return [keys.note(own), keys.log, keys.ids, keys.note(older)], [
            fields["stamp"], fields["parent"], fields["home"], keys.channel, fields["id"],
            _LOG_ENTRIES, MAX_BYTES, _TOO_FAR_AHEAD, *flat,
        ]  # fmt: skip

    def _pull(self, client: Client, identity: str, report: Report) -> Counter[str]:
        keys, done = Keys.of(self._settings, identity), Counter[str]()
        cursor, pushed = self._replica.cursor(identity, self._remote)
        marks = {cursor, pushed or cursor}
        if not cursor or not all(client.xrange(keys.log, at, at, count=1) for at in marks):
            return self._compare(client, identity, report)
        # a clock may have been set since, or Stratum brought up to date
        done += self._read(client, identity, self._replica.in_quarantine(identity))
        while changes := run_script(client, _CHANGES, [keys.log], [f"({cursor}", PAGE]):
            cursor = _text(changes[-1][0])
            told = {_text(uid): _text(stamp) for _, uid, stamp in changes}
            ours = self._replica.stamps(identity, told)
            newer = [uid for uid, stamp in told.items() if uid and stamp > ours.get(uid, "")]
            page = self._fetch(client, keys, newer)
            done += self._replica.take(identity, page, self._remote, cursor)
            report(Progress("notes received", done["received"], 0))
        return done

    def _read(self, client: Client, identity: str, uids: Sequence[str]) -> Counter[str]:
        """Read these notes, whatever the stream says of them."""
        keys, done = Keys.of(self._settings, identity), Counter[str]()
        for start in range(0, len(uids), PAGE):
            page = self._fetch(client, keys, uids[start : start + PAGE])
            done += self._replica.take(identity, page, self._remote, None)
        return done

    def _compare(self, client: Client, identity: str, report: Report) -> Counter[str]:
        """Read all notes of a project, and have those sent again that the server lacks."""
        keys, done, there = Keys.of(self._settings, identity), Counter[str](), dict[str, str]()
        newest: Any = client.xrevrange(keys.log, count=1)  # before the notes: nothing is missed
        total, read = int(client.scard(keys.ids)), 0
        for uids in _pages(client, keys.ids):
            ours = self._replica.stamps(identity, uids)
            stamps = self._stamps(client, keys, uids)
            there |= stamps
            page = self._fetch(
                client, keys, [uid for uid in stamps if stamps[uid] != ours.get(uid)]
            )
            done += self._replica.take(identity, page, self._remote, None)
            read += len(uids)
            report(Progress("notes compared", min(read, total), total))
        cursor = newest[0][0].decode() if newest else ""
        self._replica.resynced(identity, there, self._remote, cursor)
        done["resynced"] += bool(there)
        return done

    def _stamps(self, client: Client, keys: Keys, uids: Sequence[str]) -> dict[str, str]:
        """Return the stamp of each note, "" where its key holds none."""
        with client.pipeline(transaction=False) as pipe:
            for uid in uids:
                pipe.hget(keys.note(uid), "stamp")
            found = pipe.execute(raise_on_error=False)
        return {
            uid: stamp.decode("utf-8", "replace") if isinstance(stamp, bytes) else ""
            for uid, stamp in zip(uids, found, strict=True)
        }

    def _fetch(self, client: Client, keys: Keys, uids: Sequence[str]) -> dict[str, Fetched]:
        """Return the hash of each note that is there, by its id."""
        if not uids:
            return {}
        found = read_hashes(client, [keys.note(uid) for uid in uids], MAX_BYTES)
        return {uid: fields for uid, fields in zip(uids, found, strict=True) if fields != ""}

    # for as long as the process lives

    def watch(
        self,
        stop: threading.Event,
        on_sync: Callable[[SyncReport], None] = lambda _: None,
        on_trouble: Callable[[StratumError], None] = lambda _: None,
    ) -> None:
        """Keep this machine and the team the same until `stop` is set.

        Others' changes come at once, by pub/sub; the stream is read at least every half minute, for
        messages can get lost. While the server is away it is tried again after pauses that grow.
        """
        pause = _FIRST_PAUSE
        while not stop.is_set():
            try:
                with self._listening() as heard:
                    while not stop.is_set():
                        tried = self._replica.newest_waiting()
                        done = self.sync()
                        self._memory.team_trouble, pause = "", _FIRST_PAUSE
                        on_sync(done)
                        self._rest(stop, heard, tried)
            except StratumError as error:
                self._memory.team_trouble = f"{error.message} {error.hint}".strip()
                on_trouble(error)
                self.close()
                stop.wait(pause * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _rest(self, stop: threading.Event, heard: Callable[[float], bool], tried: int) -> None:
        until = time.monotonic() + _AT_LEAST_EVERY
        while not stop.is_set() and time.monotonic() < until:
            if heard(_LISTEN) or self._replica.newest_waiting() > tried:
                return

    @contextlib.contextmanager
    def _listening(self) -> Iterator[Callable[[float], bool]]:
        """Subscribe to the changes of all projects; give what waits for one of another home."""
        channels = [Keys.of(self._settings, identity).channel for identity in self._projects()]
        home = self._replica.home.encode()
        client = connect(self._settings, blocking=True)
        try:
            pubsub: Any = client.pubsub()  # type: ignore[no-untyped-call]
            with translated(self._settings.redis_url), pubsub:
                if channels:
                    pubsub.subscribe(*channels)

                def heard(seconds: float) -> bool:
                    if not channels:
                        time.sleep(seconds)
                        return False
                    message = pubsub.get_message(timeout=seconds)
                    return bool(message and message["type"] == "message"
                                and message["data"] != home)  # fmt: skip

                yield heard
        finally:
            with contextlib.suppress(Exception):
                client.close()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Client]:
        """Give the connection, opened when there is none; any trouble closes it."""
        try:
            if self._client is None:
                self._client = connect(self._settings)
            with translated(self._settings.redis_url):
                if self._can is None:
                    self._can = capabilities(self._client, self._settings.redis_prefix)
                yield self._client
        except BaseException:
            self.close()
            raise


def _notices(done: Counter[str], nameless: int) -> tuple[str, ...]:
    notices = []
    if nameless:
        notices.append(
            f"{nameless} notes wait in folders that are known by their path alone: no other "
            "machine can tell which project that is. Add a git remote, or commit something."
        )
    if done["ahead"]:
        notices.append(
            f"{done['ahead']} notes wait: this machine's clock is more than a day ahead of the "
            "server's. Set the clock and write them again."
        )
    if done["conflict"] + done["overwritten"]:
        notices.append("Two machines changed the same note: `stratum sync --status` lists them.")
    if done["quarantined"]:
        notices.append("Some versions were not taken in: `stratum sync --status` says why.")
    return tuple(notices)


def _pages(client: Client, key: str) -> Iterator[list[str]]:
    """Yield the members of a set of ids in pages; one may come twice."""
    cursor, page = b"0", list[str]()
    while True:
        cursor, found = run_script(client, _IDS, [key], [cursor, PAGE])
        page += map(_text, found)
        while len(page) >= PAGE or (page and cursor == b"0"):
            yield page[:PAGE]
            page = page[PAGE:]
        if cursor == b"0":
            return


def _text(raw: Any) -> str:
    return str(raw.decode("utf-8", "replace"))
