from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from stratum.background import Background
from stratum.errors import StoreUnavailable
from stratum.models import Progress

Report = Callable[[Progress], None]


def test_the_job_runs_when_started_and_again_after_each_wake() -> None:
    runs: list[int] = []
    background = Background(lambda report, stop: runs.append(1))
    background.start()
    assert background.wait(30)
    background.wake()
    assert background.wait(30)
    background.stop()
    assert len(runs) == 2


def test_a_wake_during_a_run_is_not_lost() -> None:
    inside, go_on = threading.Event(), threading.Event()
    runs: list[int] = []

    def job(report: Report, stop: threading.Event) -> None:
        runs.append(1)
        inside.set()
        go_on.wait(30)

    background = Background(job)
    background.start()
    assert inside.wait(30)
    background.wake()
    assert not background.wait(0)
    go_on.set()
    assert background.wait(30)
    background.stop()
    assert len(runs) == 2


def test_progress_is_shown_while_the_job_runs_only() -> None:
    reported, go_on = threading.Event(), threading.Event()

    def job(report: Report, stop: threading.Event) -> None:
        report(Progress("files", 3, 9))
        reported.set()
        go_on.wait(30)

    background = Background(job)
    background.start()
    assert reported.wait(30)
    assert background.progress == Progress("files", 3, 9)
    go_on.set()
    assert background.wait(30)
    assert background.progress is None
    background.stop()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (StoreUnavailable("The disk is full.", hint="Free some space."), "Free some space."),
        (ValueError("what"), "ValueError: what. This is a bug"),
    ],
)
def test_a_failure_is_a_sentence_and_the_next_run_may_succeed(
    error: Exception, sentence: str
) -> None:
    failures = [error]

    def job(report: Report, stop: threading.Event) -> None:
        if failures:
            raise failures.pop()

    background = Background(job)
    background.start()
    assert background.wait(30)
    assert sentence in background.error
    background.wake()
    assert background.wait(30)
    assert background.error == ""
    background.stop()


def test_stopping_asks_the_running_job_to_stop() -> None:
    inside = threading.Event()

    def job(report: Report, stop: threading.Event) -> None:
        inside.set()
        assert stop.wait(30)

    background = Background(job)
    background.start()
    assert inside.wait(30)
    background.stop()
    assert background.error == ""
