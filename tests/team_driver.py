"""The process of one machine of a team; see `team_machines`.

Its clock is moved before Stratum is imported: `time.time`, `time.time_ns` and `datetime.datetime`
are replaced, from which all times of Stratum come. So nothing else is imported here at the top.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def move_clock(seconds: float) -> Callable[[float], None]:
    """Move all clocks that tell the time of day; return what sets another distance."""
    ahead = [seconds]
    real_time, real_ns, real_datetime = time.time, time.time_ns, dt.datetime

    class Kind(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, real_datetime)

    class Moved(real_datetime, metaclass=Kind):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            return real_datetime.now(tz) + dt.timedelta(seconds=ahead[0])

    time.time = lambda: real_time() + ahead[0]
    time.time_ns = lambda: real_ns() + int(ahead[0] * 1e9)
    dt.datetime = Moved  # type: ignore[misc]

    def move(seconds: float) -> None:
        ahead[0] = seconds

    return move


class Driver:
    """What a machine's process can be told to do. Answers are plain data."""

    def __init__(self, root: Path, move: Callable[[float], None]) -> None:
        from stratum.config import load
        from stratum.memory import Memory

        self.memory = Memory(load(os.environ), root)
        self.clock = move
        self._team: Any = None

    def write(self, **options: Any) -> Any:
        return self.memory.write(**options)

    def forget(self, id_: str, undo: bool = False) -> Any:
        return self.memory.forget(id_, undo=undo)

    def verify(self, id_: str, undo: bool = False) -> Any:
        return self.memory.verify(id_, undo=undo)

    def accept(self, id_: str) -> Any:
        return self.memory.accept(id_)

    def reject(self, id_: str) -> Any:
        return self.memory.reject(id_)

    def undo_conflict(self, id_: str) -> Any:
        return self.memory.undo_conflict(id_)

    def index(self) -> Any:
        return self.memory.index()

    def search(self, query: str) -> Any:
        return self.memory.search(query)

    def get(self, id_: str) -> Any:
        return self.memory.get(id_)

    def sync(self) -> Any:
        return self._shared().sync()

    def push(self) -> Any:
        team = self._shared()  # sending alone is no operation of its own
        with team._connected() as client:
            return team._push(client, lambda _: None)[0]["sent"]

    def _shared(self) -> Any:
        from stratum.team import Team

        if self._team is None:  # one for long, as in a serving process
            self._team = Team(self.memory)
        return self._team

    def close_team(self) -> None:
        if self._team is not None:
            self._team.close()
        self._team = None

    def sync_state(self) -> Any:
        return self.memory.replica.state()

    def status(self) -> Any:
        return self.memory.status()

    def export(self) -> list[str]:
        return list(self.memory.export())

    def import_(self, lines: list[str]) -> Any:
        return self.memory.import_(lines)

    def problems(self) -> list[str]:
        from stratum.store import open_store

        with contextlib.closing(open_store(self.memory.settings.database)) as store:
            return store.check()

    def time_search(self, queries: list[str]) -> list[float]:
        """Return the seconds that each search took."""
        return [self._seconds(lambda q=query: self.memory.search(q)) for query in queries]

    def time_write(self, texts: list[str], scope: str) -> list[float]:
        """Return the seconds that each write took."""
        write = self.memory.write
        return [self._seconds(lambda t=text: write(t, scope=scope)) for text in texts]

    @staticmethod
    def _seconds(work: Callable[[], object]) -> float:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun


def drive(root: Path, ahead: float) -> None:
    """Answer commands until stdin ends: {"ok": ...}, {"error": ...} or {"bug": traceback}."""
    driver = Driver(root, move_clock(ahead))

    from stratum.errors import StratumError
    from stratum.models import to_plain

    for line in sys.stdin:
        command = json.loads(line)
        try:
            done = getattr(driver, command["do"])(*command["words"], **command["options"])
            answer = {"ok": to_plain(done)}
        except StratumError as error:
            answer = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        except Exception:  # noqa: BLE001 - the test is told of it
            answer = {"bug": traceback.format_exc()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    drive(Path(sys.argv[1]), float(sys.argv[2]))
