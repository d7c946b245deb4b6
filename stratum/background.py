"""One thread that does a job, then rests until it is woken; knows nothing of what the job is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from stratum.errors import StratumError
from stratum.models import Progress

Job = Callable[[Callable[[Progress], None], threading.Event], None]

log = logging.getLogger(__name__)


class Background:
    """Runs `job(report, stop)` once when started and again after every `wake`.

    `progress` is what the running job reported last, None while it rests. `error` is the sentence
    of the last run if it failed: it is tried again at the next wake.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._stop = threading.Event()
        self._again = threading.Event()
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stratum-background", daemon=True)
        self.progress: Progress | None = None
        self.error = ""

    def start(self) -> None:
        """Start the thread; call once."""
        self._thread.start()

    def wake(self) -> None:
        """Have the job run again, after the present run if there is one."""
        self._idle.clear()
        self._again.set()

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is left to do; return whether that came in time."""
        return self._idle.wait(seconds)

    def stop(self) -> None:
        """End the thread; the running job is asked to stop and waited for."""
        self._stop.set()
        self._again.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._again.clear()
            try:
                self._job(self._report, self._stop)
                self.error = ""
            except StratumError as error:
                self.error = f"{error.message} {error.hint}".strip()
            except Exception as error:  # a bug must be seen in the log, and may not end the thread
                log.exception("background work failed")
                self.error = f"{type(error).__name__}: {error}. This is a bug; the log has more."
            self.progress = None
            if not self._again.is_set():
                self._idle.set()
            self._again.wait()

    def _report(self, progress: Progress) -> None:
        self.progress = progress
