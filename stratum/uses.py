"""Who was shown which notes: counted in memory, written a moment later, never waited for.

Nothing is ranked by it. Whatever keeps the counts from being written is no error: people lose a
figure, not a note.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable

from stratum.errors import StratumError
from stratum.store import Store, now

_SOON = 2.0  # seconds in which shown notes gather before they are written at once
_WAIT_MS = 100  # milliseconds that a write may wait for others
_MOST = 10_000  # counts that wait at most, where the database cannot be written
_MAX_NAME = 64  # characters of an agent's name


class Uses:
    """Counts what was shown; `open_own` opens a connection for the thread that writes."""

    def __init__(self, open_own: Callable[[], Store]) -> None:
        self._open_own = open_own
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def add(self, ids: Iterable[str], agent: str) -> None:
        """Count that these notes were shown to an agent today; returns at once."""
        day = now()[:10]
        with self._lock:
            for id_ in ids:
                if len(self._counts) < _MOST:
                    self._counts[id_, agent[:_MAX_NAME], day] += 1
            if self._counts and self._timer is None:
                self._timer = threading.Timer(_SOON, self._write)
                self._timer.daemon = True
                self._timer.start()

    def close(self, store: Store | None) -> None:
        """Write what waits, at the end of the process."""
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if store is not None:
            self._write_into(store)

    def _write(self) -> None:
        with self._lock:
            self._timer = None
        with contextlib.suppress(StratumError), contextlib.closing(self._open_own()) as store:
            self._write_into(store)

    def _write_into(self, store: Store) -> None:
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            store.wait_at_most(_WAIT_MS)
            store.add_uses(counts)
        except StratumError:
            with self._lock:
                self._counts.update(counts)  # another write may take them along
