"""Processes side by side: their words, their ends, and how many there are at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stratum_bench.processes import Hand, side_by_side

Say = Callable[[Any], None]
AT_ONCE = 2
LONG = 5_000_000  # characters: far more than a pipe holds
# A process that starts one, says its id, and waits for it.
PARENT = """
import sys
from stratum_bench.processes import Hand, side_by_side
from tests.test_processes import tell_id_and_wait
if __name__ == "__main__":
    for _, said in side_by_side(["one", "two"], lambda part: Hand(tell_id_and_wait, part), 2):
        print(said, flush=True)
"""


def speak(part: list[Any], say: Say) -> None:
    for word in part:
        say(word)


def end_badly(part: str, say: Say) -> None:
    say(f"{part} begins")
    match part:
        case "raise":
            raise ValueError(part)
        case "exit":
            os._exit(7)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sys.exit":
            sys.exit(3)


def tell_id_and_wait(part: str, say: Say) -> None:
    say(os.getpid())
    if part != "done":
        time.sleep(60)


def tell_times(part: float, say: Say) -> None:
    say(time.monotonic())
    time.sleep(part)
    say(time.monotonic())


def heard(work: Any, parts: list[Any], jobs: int = AT_ONCE, silence: float | None = None) -> Any:
    """Return what was said of each part, in order, by the number of the part."""
    found: dict[int, list[Any]] = {number: [] for number in range(len(parts))}
    numbers = {id(part): number for number, part in enumerate(parts)}
    for part, said in side_by_side(parts, lambda part: Hand(work, part, silence), jobs):
        found[numbers[id(part)]].append(said)
    return found


def is_alive(process: int) -> bool:
    """Tell whether a process runs; one that has ended and that nobody asked about does not."""
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    except ProcessLookupError:
        return False
    except OSError:
        return not Path("/proc/self").exists()
    return state.split()[0] != "Z"


def gone(processes: list[int], seconds: float = 5.0) -> bool:
    """Tell whether processes end in time."""
    until = time.monotonic() + seconds
    while any(map(is_alive, processes)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(is_alive, processes))


def test_words_come_whole_and_in_order_and_then_the_status() -> None:
    words = [["a", 1, "", {"b": (2, 3)}], ["x" * LONG, False, 0]]
    found = heard(speak, words)
    assert found[0] == [*words[0], 0]
    assert found[1][0] == "x" * LONG
    assert found[1][1:] == [False, 0, 0]


def test_however_a_process_ends_its_status_is_told_and_the_others_go_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    parts = ["raise", "exit", "kill", "sys.exit", "nothing"]
    found = heard(end_badly, parts)
    assert found == {
        number: [f"{part} begins", status]
        for number, (part, status) in enumerate(zip(parts, (1, 7, -9, 3, 0), strict=True))
    }
    assert "ValueError: raise" in capfd.readouterr().err  # what nobody foresaw can be looked into


def test_no_more_than_so_many_run_at_once_and_all_get_their_turn() -> None:
    found = heard(tell_times, [0.1, 0.11, 0.12, 0.13])
    spans = [(said[0], said[1]) for said in found.values()]
    assert all(len(said) == 3 and said[2] == 0 for said in found.values())
    for start, _ in spans:
        assert sum(a <= start < b for a, b in spans) <= AT_ONCE
    # the later ones begin after an earlier one has ended
    assert sorted(start for start, _ in spans)[AT_ONCE] >= min(end for _, end in spans)


def test_a_process_that_says_nothing_for_too_long_is_ended_and_no_other() -> None:
    began = time.monotonic()
    found = heard(tell_id_and_wait, ["done", "waits"], silence=3.0)
    assert found[0][1:] == [0]
    [process, status] = found[1]
    assert status == -signal.SIGTERM
    assert gone([process])
    assert time.monotonic() - began < 20


def test_whoever_stops_asking_leaves_no_process_behind() -> None:
    words = side_by_side(["a", "b"], lambda part: Hand(tell_id_and_wait, part), AT_ONCE)
    processes = [next(words)[1], next(words)[1]]
    assert len(set(processes)) == AT_ONCE
    assert all(map(is_alive, processes))
    words.close()
    assert gone(processes)


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    root = str(Path(__file__).resolve().parent.parent)
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
    }
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environ
    ) as parent:
        assert parent.stdout is not None
        processes = [int(parent.stdout.readline()) for _ in range(AT_ONCE)]
        assert all(map(is_alive, processes))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert gone(processes)
