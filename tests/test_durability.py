from __future__ import annotations

from stratum_bench.durability import kill_writers, write_together
from stratum_bench.project import temporary_project


def test_no_acknowledged_note_is_lost_or_altered_when_its_writer_is_killed() -> None:
    with temporary_project("hashing") as project:
        killed = kill_writers(project, kills=12, seed=7)
    assert killed.acknowledged > 0
    assert (killed.lost, killed.altered, killed.problems) == (0, 0, ())
    # a writer has at most one note under way when it dies
    assert 0 <= killed.extra <= killed.kills


def test_eight_processes_writing_at_once_lose_nothing_and_meet_no_lock() -> None:
    with temporary_project("hashing") as project:
        together = write_together(project, processes=8, writes=60, seed=7)
    assert together.acknowledged == 8 * 60
    assert (together.lost, together.altered) == (0, 0)
    assert together.errors == ()
    assert together.problems == ()
