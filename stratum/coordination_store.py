"""The SQL on what agents do together on one machine: leases, logs, contexts of sessions.

Each method that writes is one transaction of its own, and atomic among all processes that share the
file. `coordination_redis` does the same for a team. Times are milliseconds since 1970, by this
machine's clock. Knows nothing of how subjects are written or what a message says.
"""

# ruff: noqa: S608 - statements are put together from our own constants; values are bound

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from stratum.database import Database
from stratum.models import Attempt, Held, LogPage

_POLL = 0.01  # seconds between two looks for events
_FIELDS = ", ".join(
    f"lease.{name}"
    for name in (
        "id", "subjects", "holder", "agent", "purpose", "token", "taken", "expires", "ended",
        "ended_by",
    )
)  # fmt: skip


class CoordinationStore(Database):
    """The part of the store that holds what agents do together."""

    # leases

    def claim(
        self,
        project_id: int,
        wanted: Held,
        ranges: Sequence[tuple[str, str]],
        ttl: int,
        *,
        kept: int,
        most: int,
        bound: int,
    ) -> Attempt:
        """Take all subjects of `wanted`, or renew the lease on exactly these, or nothing.

        Args:
            project_id: Of which project.
            wanted: The lease; its token and its times are set here.
            ranges: Where members of leases lie that stand in the way, as half-open intervals.
            ttl: How long it is held.
            kept: How long its row stays after its end.
            most: How many claimed subjects a project can have.
            bound: How many events are kept.
        """
        with self.transaction():
            now = _now()
            self._drop_leases(project_id, now)
            met = self._met(project_id, ranges)
            for held in met:
                if held.expires > now and held.holder != wanted.holder:
                    return Attempt("refused", now, held)
            for held in met:
                if held.holder == wanted.holder and set(held.subjects) == set(wanted.subjects):
                    renewed = self._extend(held, wanted.purpose, now + ttl, kept)
                    return Attempt("renewed", now, renewed)
            claimed = self._value("SELECT count(*) FROM claim WHERE project_id = ?", (project_id,))
            if claimed >= most:
                return Attempt("full", now)
            lost = [held for held in met if held.holder != wanted.holder]
            for held in lost:
                self._end(project_id, held, "taken over", wanted.holder, now + kept)
            held = self._take(project_id, wanted, now, ttl, kept)
            before = tuple(dict.fromkeys(other.holder for other in lost))
            state = "taken over" if before else "claimed"
            event = _event(state, held, held.holder, held.agent, before)
            self._append(project_id, "", event, now, bound)
            return Attempt(state, now, held, before)

    def heartbeat(
        self, project_id: int, lease_id: str, holder: str, ttl: int, kept: int
    ) -> Attempt:
        """Let a lease run for `ttl` from now on, if it was not taken over or released."""
        with self.transaction():
            now = _now()
            attempt = self._standing(project_id, lease_id, holder, now)
            if attempt.state != "checked" or attempt.held is None:
                return attempt
            return Attempt("renewed", now, self._extend(attempt.held, "", now + ttl, kept))

    def release(
        self,
        project_id: int,
        lease_id: str,
        holder: str,
        *,
        by: str,
        agent: str,
        kept: int,
        bound: int,
    ) -> Attempt:
        """End a lease. `holder` "" ends that of anybody; one that was released stays so."""
        with self.transaction():
            now = _now()
            attempt = self._standing(project_id, lease_id, holder, now)
            held = attempt.held
            if held and attempt.state == "ended" and held.ended == "released":
                return Attempt("released", now, held)
            if attempt.state != "checked" or held is None:
                return attempt
            ended = self._end(project_id, held, "released", by, now + kept)
            self._append(project_id, "", _event("released", held, by, agent), now, bound)
            return Attempt("released", now, ended)

    def lease(self, project_id: int, lease_id: str, holder: str) -> Attempt:
        """Say how a lease stands: "checked" while nobody has ended it, also when it has run out."""
        return self._standing(project_id, lease_id, holder, _now())

    def leases(self, project_id: int) -> tuple[int, list[Held]]:
        """Return the time and the leases that have not ended, the oldest first."""
        rows = self._rows(
            f"SELECT {_FIELDS} FROM lease WHERE lease.project_id = ? AND lease.ended = ''"
            " ORDER BY lease.token",
            (project_id,),
        )
        return _now(), [_held(row) for row in rows]

    def _met(self, project_id: int, ranges: Sequence[tuple[str, str]]) -> list[Held]:
        rows = self._rows(
            f"SELECT DISTINCT {_FIELDS} FROM json_each(?) r"
            " CROSS JOIN claim c ON c.project_id = ? AND c.member >= r.value ->> 0"
            " AND c.member < r.value ->> 1"
            " CROSS JOIN lease ON lease.id = substr(c.member, instr(c.member, char(10)) + 1)"
            " ORDER BY lease.token",
            (json.dumps(ranges), project_id),
        )
        return [_held(row) for row in rows]

    def _take(self, project_id: int, wanted: Held, now: int, ttl: int, kept: int) -> Held:
        token = self._value("UPDATE fence SET token = max(token + 1, ?) RETURNING token", (now,))
        subjects = json.dumps(wanted.subjects, ensure_ascii=False)
        self._run(
            "INSERT INTO lease (id, project_id, token, holder, agent, purpose, subjects, taken,"
            " expires, dropped) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (wanted.id, project_id, token, wanted.holder, wanted.agent, wanted.purpose, subjects,
             now, now + ttl, now + ttl + kept),
        )  # fmt: skip
        for subject in wanted.subjects:
            self._run("INSERT INTO claim VALUES (?, ?)", (project_id, f"{subject}\n{wanted.id}"))
        return Held(
            wanted.id, wanted.subjects, wanted.holder, wanted.agent, wanted.purpose,
            token=token, taken=now, expires=now + ttl,
        )  # fmt: skip

    def _extend(self, held: Held, purpose: str, expires: int, kept: int) -> Held:
        """Let a lease end later; never sooner, and with the purpose it had unless one is given."""
        row = self._row(
            "UPDATE lease SET expires = max(expires, ?1), dropped = max(dropped, ?1 + ?2),"
            f" purpose = iif(?3 = '', purpose, ?3) WHERE id = ?4 RETURNING {_FIELDS}",
            (expires, kept, purpose, held.id),
        )
        assert row is not None  # noqa: S101 - it was read in this transaction
        return _held(row)

    def _end(self, project_id: int, held: Held, ended: str, by: str, dropped: int) -> Held:
        self._free(project_id, held)
        row = self._row(
            "UPDATE lease SET ended = ?, ended_by = ?, dropped = ? WHERE id = ?"
            f" RETURNING {_FIELDS}",
            (ended, by, dropped, held.id),
        )
        assert row is not None  # noqa: S101 - it was read in this transaction
        return _held(row)

    def _free(self, project_id: int, held: Held) -> None:
        for subject in held.subjects:
            self._run("DELETE FROM claim WHERE project_id = ? AND member = ?",
                      (project_id, f"{subject}\n{held.id}"))  # fmt: skip

    def _standing(self, project_id: int, lease_id: str, holder: str, now: int) -> Attempt:
        row = self._row(
            f"SELECT {_FIELDS} FROM lease WHERE lease.project_id = ? AND lease.id = ?",
            (project_id, lease_id),
        )
        if row is None:
            return Attempt("unknown", now)
        held = _held(row)
        if holder and held.holder != holder:
            return Attempt("foreign", now, held)
        return Attempt("ended" if held.ended else "checked", now, held)

    def _drop_leases(self, project_id: int, now: int) -> None:
        rows = self._rows(
            f"SELECT {_FIELDS} FROM lease WHERE project_id = ? AND dropped <= ? LIMIT 100",
            (project_id, now),
        )
        for row in rows:
            held = _held(row)
            self._free(project_id, held)
            self._run("DELETE FROM lease WHERE id = ?", (held.id,))

    # logs

    def share(
        self,
        project_id: int,
        log: str,
        finding: dict[str, object],
        event: dict[str, object],
        *,
        ttl: int,
        bounds: tuple[int, int],
    ) -> tuple[int, int, int]:
        """Append a finding to the log of its task and tell of it; return (epoch, number, now).

        A log to which nothing was added for `ttl` goes; `bounds` are how many findings of a task
        and how many events are kept.
        """
        with self.transaction():
            now = _now()
            self._drop_logs(project_id, now)
            goes, (findings, events) = now + ttl, bounds
            epoch, number = self._append(project_id, log, finding, now, findings, goes)
            self._append(project_id, "", event, now, events)
            return epoch, number, now

    def read_log(
        self, project_id: int, log: str, after: tuple[int, int] | None, limit: int
    ) -> LogPage:
        """Return the entries that follow `after`, the newest ones if it is None."""
        with self._lock:
            last = self._last(project_id, log)
            if last is None or 0 < last[2] <= _now():
                return LogPage((), (0, 0))
            low, order = ((0, 0), "DESC") if after is None else (after, "")
            rows = self._rows(
                "SELECT epoch, number, json_set(entry, '$.at', at) FROM task_log"
                " WHERE project_id = ? AND log = ? AND (epoch, number) > (?, ?)"
                f" ORDER BY epoch {order}, number {order} LIMIT ?",
                (project_id, log, *low, limit),
            )
        found = [(int(epoch), int(number), str(entry)) for epoch, number, entry in rows]
        return LogPage(tuple(sorted(found)), last[:2])

    def wait_for_events(self, project_id: int, after: tuple[int, int], seconds: float) -> None:
        """Return when there are events after a cursor, or when the time is over."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            last = self._last(project_id, "")
            if last is not None and last[:2] > after:
                return
            time.sleep(min(left, _POLL))

    def _last(self, project_id: int, log: str) -> tuple[int, int, int] | None:
        """Return epoch and number of the newest entry of a log, and when the log goes."""
        row = self._row(
            "SELECT epoch, number, goes FROM task_log WHERE project_id = ? AND log = ?"
            " ORDER BY epoch DESC, number DESC LIMIT 1",
            (project_id, log),
        )
        return (row[0], row[1], row[2]) if row else None

    def _append(
        self,
        project_id: int,
        log: str,
        entry: dict[str, object],
        now: int,
        bound: int,
        goes: int = 0,
    ) -> tuple[int, int]:
        """Add an entry to a log that keeps its last `bound` ones; return its epoch and number."""
        last = self._last(project_id, log)
        epoch, number = (last[0], last[1] + 1) if last else (now, 1)
        self._run("INSERT INTO task_log VALUES (?, ?, ?, ?, ?, ?, ?)",
                  (project_id, log, epoch, number, now, goes,
                   json.dumps(entry, ensure_ascii=False)))  # fmt: skip
        self._run(
            "DELETE FROM task_log WHERE project_id = ?1 AND log = ?2"
            " AND (epoch < ?3 OR number <= ?4)",
            (project_id, log, epoch, number - bound),
        )
        return epoch, number

    def _drop_logs(self, project_id: int, now: int) -> None:
        """Remove the findings of tasks to which nothing was added for long."""
        self._run(
            "DELETE FROM task_log WHERE project_id = ?1 AND log IN (SELECT log FROM task_log"
            " WHERE project_id = ?1 AND log != '' GROUP BY log HAVING max(goes) <= ?2)",
            (project_id, now),
        )

    # contexts of sessions

    def put_context(self, project_id: int, session: str, value: str, ttl: int) -> int:
        """Keep a session's context for `ttl`; return when it goes."""
        with self.transaction():
            now = _now()
            self._run("DELETE FROM session_context WHERE project_id = ? AND expires <= ?",
                      (project_id, now))  # fmt: skip
            self._run("INSERT OR REPLACE INTO session_context VALUES (?, ?, ?, ?)",
                      (project_id, session, value, now + ttl))  # fmt: skip
            return now + ttl

    def context(self, project_id: int, session: str) -> tuple[str, int] | None:
        """Return a session's context and when it goes, None if there is none."""
        row = self._row(
            "SELECT value, expires FROM session_context"
            " WHERE project_id = ? AND session = ? AND expires > ?",
            (project_id, session, _now()),
        )
        return (row[0], row[1]) if row else None

    def move_coordination(self, old: int, new: int) -> None:
        """Give the leases, logs and contexts of one project to another; inside a transaction."""
        for table in ("lease", "claim", "task_log", "session_context"):
            self._run(f"UPDATE OR REPLACE {table} SET project_id = ? WHERE project_id = ?",
                      (new, old))  # fmt: skip


def _now() -> int:
    return time.time_ns() // 1_000_000


def _held(row: tuple[object, ...]) -> Held:
    id_, subjects, *rest = row
    return Held(id_, tuple(json.loads(subjects)), *rest)  # type: ignore[arg-type]  # as the table has them


def _event(
    kind: str, held: Held, by: str, agent: str, before: Sequence[str] = ()
) -> dict[str, object]:
    return {
        "kind": kind,
        "subjects": held.subjects,
        "holder": by,
        "agent": agent,
        "text": held.purpose,
        "lease": held.id,
        "token": held.token,
        "before": list(before),
    }
