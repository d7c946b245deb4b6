"""Parts of a long piece of work done by processes side by side, which tell of it as they go.

Owns how processes start, speak and end. Knows nothing of what they do.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

_Part = TypeVar("_Part")
_GRACE = 0.1  # seconds that a process outlives the one that started it


class Hand:
    """A process of its own that calls `work(part, say)` and whose words are read here.

    Args:
        work: A function of a module, since it is found by its name; it calls `say` with whatever
            can be pickled, but not with None.
        part: What it is given.
        silence: Seconds without a word after which it is ended; None waits for ever.
    """

    def __init__(
        self,
        work: Callable[[_Part, Callable[[Any], None]], None],
        part: _Part,
        silence: float | None = None,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe(duplex=False)
        self._process: BaseProcess = context.Process(target=_do, args=(work, part, theirs))
        self._process.daemon = False  # a server that it starts is a process, too
        self._process.start()
        theirs.close()
        self._silence = silence
        self._heard = time.monotonic()

    def next(self) -> Any:
        """Return what is said next, None when there is no more."""
        try:
            said = self.pipe.recv()
        except (EOFError, OSError):  # it ended, perhaps in the middle of a word
            return None
        self._heard = time.monotonic()
        return said

    def is_silent(self) -> bool:
        """Tell whether nothing was said for too long."""
        return self._silence is not None and time.monotonic() - self._heard > self._silence

    def status(self) -> int | None:
        """Wait for the end, and return the exit status; below zero is a signal."""
        self._process.join()
        self.pipe.close()
        return self._process.exitcode

    def stop(self) -> None:
        """End the process now."""
        self._process.terminate()
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def side_by_side(
    parts: Sequence[_Part], start: Callable[[_Part], Hand], jobs: int
) -> Generator[tuple[_Part, Any], None, None]:
    """Yield what processes say of their parts, at most `jobs` of them at once, in any order.

    The last that is said of a part is the exit status of its process. All processes are ended when
    the caller stops asking.
    """
    waiting = list(reversed(parts))
    running: list[tuple[_Part, Hand]] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                part = waiting.pop()
                running.append((part, start(part)))
            ready = wait([hand.pipe for _, hand in running], timeout=1.0)
            for part, hand in list(running):
                if hand.pipe in ready:
                    said = hand.next()
                    if said is not None:
                        yield part, said
                        continue
                elif not hand.is_silent():
                    continue
                else:
                    hand.stop()
                running.remove((part, hand))
                yield part, hand.status()
    finally:
        for _, hand in running:
            hand.stop()


def _do(work: Callable[[Any, Callable[[Any], None]], None], part: Any, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work(part, pipe.send)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        time.sleep(_GRACE)
        os._exit(1)
