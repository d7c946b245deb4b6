"""What agents do together: claims on tasks and places, findings, events, contexts of sessions.

One API over two stores: `coordination_store` for the agents of one machine, `coordination_redis`
for a team, which is asked where `redis_url` is set. Owns how subjects are written and which of them
overlap, who a holder is, limits, masking of secrets, and what a refusal says.

Subjects are tasks ("task:fix login") and paths ("path:src/auth"). A path overlaps the folders above
and everything below it. In a store a subject of a lease is a member "subject, line feed, id of the
lease", so that all members that overlap a subject lie in a few intervals of their order.
"""

from __future__ import annotations

import functools
import getpass
import json
import logging
import math
import re
import socket
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from stratum.errors import Claimed, InvalidInput, NotFound, Unavailable
from stratum.models import (
    Attempt,
    Claim,
    EventKind,
    Events,
    Findings,
    Held,
    Lease,
    LogPage,
    SessionContext,
    Shared,
    TaskEvent,
    TaskFinding,
)
from stratum.notes import one_line, shown
from stratum.placement import Placement
from stratum.redact import redact
from stratum.store import Store, open_store
from stratum.sync_store import random_id

if TYPE_CHECKING:
    from stratum.config import Settings
    from stratum.coordination_redis import RedisCoordination

LEAST_TTL, DEFAULT_TTL, MOST_TTL = 10.0, 900.0, 86_400.0  # seconds of a lease
MAX_SUBJECTS, MAX_SUBJECT, MAX_HOLDER = 16, 200, 120
MAX_FINDING = 4_000  # characters
MAX_CONTEXT = 32_000  # characters as JSON
MAX_WAIT = 3_600.0  # seconds
FINDINGS_KEPT = 200  # of each task, until
FINDINGS_TTL = 7 * 86_400.0  # seconds after the last of them
EVENTS_KEPT = 1_000
CONTEXT_TTL = 86_400.0
_MOST_CONTEXT_TTL = 7 * 86_400.0
_PLACE_HOLDS = 1.0  # seconds: the project may get another name
_MOST_CLAIMED = 1_000  # subjects of a project at a time
_KEPT = 86_400.0  # seconds for which it is known how a lease has ended
_KEPT_RELEASED = 600.0
_BEGUN_ANEW = "The log was begun anew since then, and what it held before is lost."
_CURSOR = re.compile(r"(\d{1,15})-(\d{1,15})")
_LEASE_ID = re.compile(r"[a-z2-7]{12}")

log = logging.getLogger(__name__)

_Item = TypeVar("_Item")
Cursor = tuple[int, int]


class Coordination:
    """What the agents of one project do together, as one holder of leases sees it.

    Opening is cheap: database and Redis are touched when first needed.

    Args:
        settings: From `config.load`.
        path: Any file or folder of the project.
        holder: In whose name leases are held; "" is the author at this machine.
        session: Tells apart several sessions of that holder.
        least_ttl: The shortest lease in seconds that can be asked for.

    Raises:
        NotInProject: `path` is in no place that can be a project.
        StoreUnavailable: By every method: the database cannot be used.
        TeamUnavailable: By every method where `redis_url` is set: the team's Redis cannot be used.
            Not so for a folder without a commit and a remote, which is only on this machine.
    """

    def __init__(
        self,
        settings: Settings,
        path: Path,
        *,
        holder: str = "",
        session: str = "",
        least_ttl: float = LEAST_TTL,
    ) -> None:
        self._settings = settings
        self._placement = Placement(path)
        self._least_ttl = least_ttl
        self._author = _name(settings.author or _login())
        self._machine = _name(settings.machine or socket.gethostname()) or "unknown"
        named = _name(holder) or f"{self._author}@{self._machine}"
        self.holder = f"{named}/{session}" if session else named
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._redis: RedisCoordination | None = None
        self._place: tuple[Any, Any] | None = None
        self._looked = 0.0

    def __enter__(self) -> Coordination:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database and the connections."""
        with self._lock:
            for opened in (self._store, self._redis):
                if opened is not None:
                    opened.close()
            self._store = self._redis = self._place = None

    @property
    def root(self) -> Path:
        """The folder that paths are relative to."""
        return self._placement.worktree.root

    def _at(self) -> tuple[Any, Any]:
        """Return the store to ask, and what the project is called there, as of a moment ago."""
        with self._lock:
            at = time.monotonic()
            if self._place is None or at - self._looked > _PLACE_HOLDS:
                self._place, self._looked = self._look(), at
            return self._place

    def _look(self) -> tuple[Any, Any]:
        if self._store is None:
            self._store = open_store(self._settings.database)
        place = self._placement.row(self._store)
        # a folder that is known by its path alone is another one on every machine
        if not self._settings.redis_url or place.identity.startswith("path:"):
            return self._store, place.project_id
        if self._redis is None:
            from stratum.coordination_redis import RedisCoordination

            self._redis = RedisCoordination(self._settings)
        return self._redis, place.identity

    # leases

    def claim(
        self,
        subjects: Sequence[str],
        *,
        purpose: str = "",
        ttl: float = DEFAULT_TTL,
        agent: str = "",
    ) -> Claim:
        """Take all subjects for `ttl` seconds, or none of them.

        Whoever claims again exactly what they hold gets the same lease, and it runs longer.

        Args:
            subjects: Names of tasks, and paths as "path:src/auth".
            purpose: What is to be done, for those who come second.
            ttl: Until somebody else may take over, unless `heartbeat` is called.
            agent: Who does the work.

        Raises:
            Claimed: Somebody else holds one of them, or something that overlaps it.
            InvalidInput: A subject, or the time, is not one that can be.
        """
        named = self._subjects(subjects)
        masked = redact(_whole(purpose))
        wanted = Held(
            id=random_id(),
            subjects=named,
            holder=self.holder,
            agent=_name(agent or self._settings.agent),
            purpose=one_line(masked.text),
            token=0,
            taken=0,
            expires=0,
        )
        ranges = list(dict.fromkeys(part for subject in named for part in overlapping(subject)))
        milliseconds = self._ttl(ttl)
        store, project = self._at()
        done: Attempt = store.claim(
            project,
            wanted,
            ranges,
            milliseconds,
            kept=_ms(_KEPT),
            most=_MOST_CLAIMED,
            bound=EVENTS_KEPT,
        )
        if done.state == "refused" and done.held:
            raise _refused(named, done.held, done.now)
        if done.state == "full" or done.held is None:
            raise Unavailable(
                f"{_MOST_CLAIMED:,} tasks and paths of this project are claimed already.",
                hint="Release some of them: `stratum task status` lists them.",
            )
        lease = _lease(done.held, done.now)
        return Claim(lease, done.state, tuple(map(shown, done.before)), masked.kinds)  # type: ignore[arg-type]  # the states that are left

    def heartbeat(self, lease: Lease | str, *, ttl: float = DEFAULT_TTL) -> Lease:
        """Let a lease run for `ttl` seconds from now on; also one that ran out and nobody took.

        Raises:
            Claimed: It was taken over or released, or is somebody else's.
            NotFound: There is no such lease (any more).
        """
        milliseconds = self._ttl(ttl)
        store, project = self._at()
        return _standing(
            store.heartbeat(project, _id(lease), self.holder, milliseconds, _ms(_KEPT)), lease
        )

    def release(self, lease: Lease | str, *, agent: str = "", force: bool = False) -> Lease:
        """Give a lease back; `force` also one of somebody else.

        Raises:
            Claimed: It was taken over, or is somebody else's.
            NotFound: There is no such lease (any more).
        """
        store, project = self._at()
        done = store.release(
            project,
            _id(lease),
            "" if force else self.holder,
            by=self.holder,
            agent=_name(agent or self._settings.agent),
            kept=_ms(_KEPT_RELEASED),
            bound=EVENTS_KEPT,
        )
        return _standing(done, lease)

    def check(self, lease: Lease | str | int) -> Lease:
        """Return a lease, given as such or by its id or token, if it still runs, whoever holds it.

        Ask right before a write that only the holder may make. Where the store of what is written
        can compare, let it refuse tokens lower than the highest it has seen: a check cannot see
        what comes between it and the write.

        Raises:
            Claimed: It has run out, was taken over or was released.
            NotFound: There is no such lease (any more).
        """
        if isinstance(lease, int):
            found = [held for held in self.leases() if held.token == lease]
            if not found:
                raise Claimed(
                    f"No lease runs with the token {lease}.",
                    hint="Claim the task again, and read anew what others may have changed.",
                )
            return found[0]
        store, project = self._at()
        held = _standing(store.lease(project, _id(lease), ""), lease)
        if held.seconds_left <= 0:
            raise Claimed(
                f"The lease {held.id} ran out at {_clock(held.expires_at)}.",
                hint="Claim the task again, and read anew what others may have changed.",
            )
        return held

    def leases(self) -> list[Lease]:
        """Return the leases that run, the oldest first."""
        store, project = self._at()
        now, found = store.leases(project)
        return [_lease(held, now) for held in found if held.expires > now]

    # findings and events

    def share(self, task: str, text: str, *, agent: str = "") -> Shared:
        """Tell those who work on a task what was found out.

        Raises:
            InvalidInput: The text is empty or too long, or the task's name is none.
        """
        subject = self._subjects([task])[0]
        plain = shown(_whole(text)).strip()
        if not 0 < len(plain) <= MAX_FINDING:
            raise InvalidInput(
                f"A finding has from 1 to {MAX_FINDING:,} characters, not {len(plain):,}.",
                hint="Say what was found in a few lines, and where to look for the rest.",
            )
        masked = redact(plain)
        said = {"holder": self.holder, "agent": _name(agent or self._settings.agent)}
        finding: dict[str, Any] = {
            "id": random_id(),
            "task": subject,
            "text": masked.text,
            "author": self._author,
            "machine": self._machine,
            **said,
        }
        event = {"kind": "shared", "subjects": [subject], "text": one_line(masked.text), **said}
        store, project = self._at()
        epoch, number, now = store.share(
            project,
            subject,
            finding,
            event,
            ttl=_ms(FINDINGS_TTL),
            bounds=(FINDINGS_KEPT, EVENTS_KEPT),
        )
        kept = _finding((epoch, number), {**finding, "at": now})
        return Shared(kept, masked.kinds)

    def findings(self, task: str, *, after: str = "", limit: int = 50) -> Findings:
        """Return what was found out about a task, in order.

        Args:
            task: As it was given to `share`.
            after: A cursor; "" for the newest findings, "0-0" for all that are kept.
            limit: At most so many.
        """
        subject = self._subjects([task])[0]
        since = _cursor(after)
        page, notices = self._page(subject, since, limit, "finding")
        items, unread = _read(page, _finding)
        return Findings(tuple(items), _next(page), (*notices, *unread))

    def events(self, *, after: str = "", wait: float = 0.0, limit: int = 100) -> Events:
        """Return what has happened, in order, none twice.

        Args:
            after: A cursor; "" for the newest events, "0-0" for all that are kept.
            wait: Seconds to wait for an event where there is none yet.
            limit: At most so many.
        """
        since = _cursor(after)
        if not 0 <= wait <= MAX_WAIT:
            raise InvalidInput(f"One can wait from 0 to {MAX_WAIT:.0f} seconds, not {wait:g}.")
        page, notices = self._page("", since, limit, "event")
        if not page.entries and wait:
            store, project = self._at()
            since = page.last
            store.wait_for_events(project, since, wait)
            page, more = self._page("", since, limit, "event")
            notices = (*notices, *more)
        items, unread = _read(page, _event)
        return Events(tuple(items), _next(page), (*notices, *unread))

    def _page(
        self, subject: str, after: Cursor | None, limit: int, what: str
    ) -> tuple[LogPage, tuple[str, ...]]:
        """Return a page of a log, and in words what is missing before or after it."""
        if not 1 <= limit <= EVENTS_KEPT:
            raise InvalidInput(f"The limit is from 1 to {EVENTS_KEPT:,}, not {limit:,}.")
        store, project = self._at()
        page = store.read_log(project, subject, after, limit)
        notices = []
        if after is not None and page.last < after:
            notices.append(_BEGUN_ANEW)
            after = (0, 0)
            page = store.read_log(project, subject, after, limit)
        if page.entries and after is not None:
            epoch, number, _ = page.entries[0]
            if epoch != after[0] and after != (0, 0):
                notices.append(_BEGUN_ANEW)
            missed = number - 1 - (after[1] if epoch == after[0] else 0)
            if missed:
                notices.append(_plural(missed, what, "no longer kept before these"))
        if page.entries and page.entries[-1][:2] < page.last:
            notices.append(f"More {what}s follow: ask again with this cursor.")
        return page, tuple(notices)

    # contexts of sessions

    def put_context(
        self, session: str, value: str | Mapping[str, Any], *, ttl: float = CONTEXT_TTL
    ) -> SessionContext:
        """Keep what a session or its successor will need for `ttl` seconds.

        Raises:
            InvalidInput: It is too large, or no JSON value, or the name or the time is not one.
        """
        name = _session(session)
        if not 1 <= ttl <= _MOST_CONTEXT_TTL:
            raise InvalidInput(f"A context is kept for 1 to {_MOST_CONTEXT_TTL:.0f} seconds.")
        kinds: set[str] = set()
        try:
            plain = json.loads(json.dumps(value if isinstance(value, str) else dict(value)))
            masked = _masked(plain, "", kinds)
        except (TypeError, ValueError, RecursionError):
            raise InvalidInput(
                "The context is no JSON value.", hint="Give a text, or texts and numbers by name."
            ) from None
        text = _whole(json.dumps(masked, ensure_ascii=False))
        if len(text) > MAX_CONTEXT:
            raise InvalidInput(
                f"The context has {len(text):,} characters; at most {MAX_CONTEXT:,} are kept.",
                hint="Keep what the session cannot find again by itself.",
            )
        store, project = self._at()
        expires = store.put_context(project, name, text, _ms(ttl))
        return SessionContext(name, masked, _iso(expires), tuple(sorted(kinds)))

    def context(self, session: str) -> SessionContext | None:
        """Return what was kept for a session, None if there is nothing (any more)."""
        name = _session(session)
        store, project = self._at()
        found = store.context(project, name)
        if found is None:
            return None
        return SessionContext(name, json.loads(found[0]), _iso(found[1]))

    # what may be asked for

    def _ttl(self, seconds: float) -> int:
        if not self._least_ttl <= seconds <= MOST_TTL:
            raise InvalidInput(
                f"A lease lasts from {self._least_ttl:g} seconds to "
                f"{MOST_TTL / 3600:.0f} hours, not {seconds:g} seconds.",
                hint="For longer work claim it for less and call heartbeat in time.",
            )
        return _ms(seconds)

    def _subjects(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """Return subjects in the one form in which they are compared, sorted."""
        subjects = sorted({self._subject(subject) for subject in wanted})
        if not 1 <= len(subjects) <= MAX_SUBJECTS:
            raise InvalidInput(
                f"A claim has from 1 to {MAX_SUBJECTS} subjects, not {len(subjects)}.",
                hint="Claim the folder instead of its files.",
            )
        return tuple(subjects)

    def _subject(self, wanted: str) -> str:
        if _is_secret(wanted):
            raise InvalidInput(
                "The name of a task or a path holds what looks like a secret.",
                hint="Everybody can read it: choose another name.",
            )
        kind, separator, name = wanted.strip().partition(":")
        if not separator or kind not in ("task", "path"):
            kind, name = "task", wanted
        text = unicodedata.normalize("NFC", _whole(name))
        plain = " ".join(text.split())
        if shown(plain) != plain or not plain or len(plain) > MAX_SUBJECT:
            raise InvalidInput(
                f"{one_line(wanted)[:80]!r} names no task and no path.",
                hint=f"Give from 1 to {MAX_SUBJECT} plain characters, or path: and a path.",
            )
        return f"path:{self._path(plain)}" if kind == "path" else f"task:{plain.casefold()}"

    def _path(self, name: str) -> str:
        """Return a path relative to the project's root, "." for the root itself."""
        path = PurePosixPath(name.replace("\\", "/"))
        if Path(name).is_absolute():
            root = self._placement.worktree.root
            if not Path(name).is_relative_to(root):
                raise InvalidInput(
                    f"{name!r} is outside of the project.", hint=f"Its root is {root}."
                )
            path = PurePosixPath(Path(name).relative_to(root).as_posix())
        if ".." in path.parts or path.is_absolute():
            raise InvalidInput(
                f"{name!r} is outside of the project.",
                hint="Give the path relative to the project's root.",
            )
        return str(path)


def overlapping(subject: str) -> Iterator[tuple[str, str]]:
    """Yield the half-open intervals of members that overlap a subject; see the module."""
    kind, _, name = subject.partition(":")
    yield _exactly(subject)
    if kind != "path":
        return
    if name == ".":
        yield "path:", "path;"
        return
    yield f"{subject}/", f"{subject}0"  # "0" is what follows "/"
    for parent in PurePosixPath(name).parents:
        yield _exactly(f"path:{parent}")


def _exactly(subject: str) -> tuple[str, str]:
    return f"{subject}\n", f"{subject}\x0b"  # the character that follows the line feed


def _overlap(subject: str, other: str) -> bool:
    return any(low <= f"{other}\n" < high for low, high in overlapping(subject))


def _whole(text: str) -> str:
    """Return a text in which half characters, which nothing can store, are question marks."""
    return text.encode("utf-8", "replace").decode()


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in some containers
        return "unknown"


@functools.lru_cache(1000)
def _is_secret(name: str) -> bool:
    return bool(redact(name).kinds)


@functools.lru_cache(1000)
def _name(text: str) -> str:
    """Return the name of a person, a machine or an agent as others may see it."""
    return one_line(redact(shown(_whole(text))).text)[:MAX_HOLDER]


def _session(name: str) -> str:
    plain = one_line(_whole(name))
    if not plain or len(plain) > MAX_SUBJECT or _is_secret(name):
        raise InvalidInput(
            "This cannot be the name of a session.",
            hint=f"Give from 1 to {MAX_SUBJECT} plain characters, and no secret.",
        )
    return plain


def _id(lease: Lease | str) -> str:
    id_ = lease if isinstance(lease, str) else lease.id
    if not _LEASE_ID.fullmatch(id_):
        raise InvalidInput(
            f"{one_line(id_)[:80]!r} is not the id of a lease.",
            hint="It has 12 letters and digits, as the answer to the claim said.",
        )
    return id_


def _cursor(text: str) -> Cursor | None:
    if not text:
        return None
    found = _CURSOR.fullmatch(text)
    if not found:
        raise InvalidInput(
            f"{one_line(text)[:80]!r} is no cursor.",
            hint="Give the one of an earlier answer, or leave it out.",
        )
    return int(found[1]), int(found[2])


def _next(page: LogPage) -> str:
    """Return the cursor to go on with after a page."""
    epoch, number = page.entries[-1][:2] if page.entries else page.last
    return f"{epoch}-{number}"


# what stores say, in the words of the API


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _iso(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _clock(iso: str) -> str:
    return f"{iso[11:19]} UTC"


def _plural(number: int, what: str, state: str) -> str:
    if number == 1:
        return f"1 {what} is {state}."
    return f"{number:,} {what}s are {state}."


def _bounded(value: object) -> str:
    """Return a name as it may be shown, whoever has put it there."""
    return " ".join(shown(str(value)).split())[: MAX_SUBJECT + len("path:")]


def _lease(held: Held, now: int) -> Lease:
    return Lease(
        id=held.id,
        subjects=tuple(map(_bounded, held.subjects[:MAX_SUBJECTS])),
        holder=_bounded(held.holder),
        agent=_bounded(held.agent),
        purpose=one_line(held.purpose),
        token=held.token,
        taken_at=_iso(held.taken),
        expires_at=_iso(held.expires),
        seconds_left=math.ceil((held.expires - now) / 1000),
    )


def _who(held: Held) -> str:
    return one_line(f"{held.holder} ({held.agent})" if held.agent else held.holder)


def _refused(wanted: Sequence[str], held: Held, now: int) -> Claimed:
    theirs = [
        other for other in held.subjects if any(_overlap(subject, other) for subject in wanted)
    ]
    purpose = f' for "{one_line(held.purpose)}"' if held.purpose else ""
    left = math.ceil((held.expires - now) / 1000)
    minutes = f"{left} s" if left < 120 else f"{left // 60} min"
    return Claimed(
        f"{one_line(', '.join(theirs))} is claimed by {_who(held)}{purpose} until "
        f"{_clock(_iso(held.expires))}, for another {minutes}. Nothing was claimed.",
        hint="Do something else meanwhile, or ask them to release it; it is free when it runs out.",
    )


def _standing(done: Attempt, asked: Lease | str) -> Lease:
    """Return the lease of an operation that was done, or raise what kept it from being done."""
    held = done.held
    if held is None:
        raise NotFound(
            f"There is no lease {_id(asked)}, or it ended more than a day ago.",
            hint="Claim the task again; `stratum task status` lists the leases that run.",
        )
    if done.state == "foreign":
        raise Claimed(
            f"The lease {held.id} is held by {_who(held)}.",
            hint="Ask them to release it, or wait until it runs out.",
        )
    if done.state == "ended":
        said = "taken over" if held.ended == "taken over" else "released"
        raise Claimed(
            f"The lease {held.id} was {said} by {one_line(held.by)}.",
            hint="Claim the task again, and read anew what others may have changed.",
        )
    return _lease(held, done.now)


def _read(
    page: LogPage, build: Callable[[Cursor, dict[str, Any]], _Item]
) -> tuple[list[_Item], tuple[str, ...]]:
    """Return the entries of a page, and a notice about those that nobody can read."""
    items: list[_Item] = []
    for epoch, number, text in page.entries:
        try:
            items.append(build((epoch, number), json.loads(text)))
        except (KeyError, TypeError, ValueError, OverflowError, OSError):
            log.warning("entry %d-%d cannot be read", epoch, number)
    unread = len(page.entries) - len(items)
    return items, (_plural(unread, "line", "not readable"),) if unread else ()


def _finding(cursor: Cursor, plain: dict[str, Any]) -> TaskFinding:
    return TaskFinding(
        cursor=f"{cursor[0]}-{cursor[1]}",
        task=_bounded(plain["task"]),
        # masked again: another machine wrote it, perhaps with rules that know less
        text=redact(shown(str(plain["text"]))).text[:MAX_FINDING],
        at=_iso(int(plain["at"])),
        holder=one_line(str(plain["holder"])),
        author=one_line(str(plain["author"])),
        machine=one_line(str(plain["machine"])),
        agent=one_line(str(plain["agent"])),
    )


def _event(cursor: Cursor, plain: dict[str, Any]) -> TaskEvent:
    if plain["kind"] not in get_args(EventKind):
        raise ValueError("an event of an unknown kind")
    return TaskEvent(
        cursor=f"{cursor[0]}-{cursor[1]}",
        kind=plain["kind"],
        at=_iso(int(plain["at"])),
        subjects=tuple(map(_bounded, plain["subjects"][:MAX_SUBJECTS])),
        holder=one_line(str(plain["holder"])),
        agent=one_line(str(plain["agent"])),
        text=one_line(redact(str(plain["text"])).text),
        lease=_bounded(plain.get("lease", "")),
        token=int(plain.get("token", 0)),
        before=tuple(map(_bounded, plain.get("before", ()))),
    )


def _masked(value: Any, name: str, kinds: set[str]) -> Any:
    """Return a JSON value without secrets; a value may be known for one by its name alone."""
    if isinstance(value, str):
        found = redact(value)
        if not found.kinds and name:
            told = redact(f"{name}={value}").kinds
            kinds.update(told)
            return f"[REDACTED:{told[0]}]" if told else value
        kinds.update(found.kinds)
        return found.text
    if isinstance(value, dict):
        masked = {}
        for key, item in value.items():
            label = redact(key)
            kinds.update(label.kinds)
            masked[label.text] = _masked(item, key, kinds)
        return masked
    if isinstance(value, list):
        return [_masked(item, name, kinds) for item in value]
    return value
