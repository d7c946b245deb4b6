from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice
from typing import Any

import pytest
from stratum_bench.corpus import note_text, queries, sources
from stratum_bench.durability import Acknowledged
from stratum_bench.measure import percentile, recall, spread, table


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stratum_bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def measured(*arguments: str) -> dict[str, Any]:
    done = bench(*arguments, "--size", "smoke", "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["command"] == arguments[0]
    assert result["seed"] == 1
    assert {"python", "cpus", "sqlite", "numpy", "sqlite-vec", "mcp"} <= result[
        "environment"
    ].keys()
    return result


def test_percentiles_lie_between_the_two_nearest_values() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert percentile([10.0, 20.0, 30.0, 40.0, 50.0], 0.95) == pytest.approx(48.0)
    assert percentile([7.0], 0.95) == 7.0
    assert spread([3.0, 1.0, 2.0]) == {
        "min": 1.0,
        "p50": 2.0,
        "p95": pytest.approx(2.9),
        "max": 3.0,
    }


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_recall_counts_what_is_as_good_as_the_kth_best() -> None:
    exact = [0.9, 0.8, 0.7, 0.6]
    assert recall([0.9, 0.8], exact, k=2, tolerance=0.0) == 1.0
    assert recall([0.9, 0.6], exact, k=2, tolerance=0.0) == 0.5
    assert recall([0.5, 0.4], exact, k=2, tolerance=0.0) == 0.0


def test_recall_does_not_care_which_of_two_equal_records_was_taken() -> None:
    assert recall([0.9, 0.8], [0.9, 0.8, 0.8], k=2, tolerance=0.0) == 1.0
    assert recall([0.9, 0.79999], [0.9, 0.8], k=2, tolerance=1e-4) == 1.0


def test_recall_misses_what_a_shorter_answer_leaves_out_and_ignores_what_comes_after_k() -> None:
    assert recall([0.9], [0.9, 0.8], k=2, tolerance=0.0) == 0.5
    assert recall([0.1, 0.1, 0.9, 0.8], [0.9, 0.8], k=2, tolerance=0.0) == 0.0
    assert recall([], [], k=10, tolerance=0.0) == 1.0


def test_a_table_aligns_texts_left_and_numbers_right() -> None:
    rows = [{"what": "a", "ms": 1.5}, {"what": "longer", "ms": 1234.5}]
    assert table(rows) == ["what      ms", "a       1.50", "longer  1234"]


def test_a_line_cut_short_by_a_kill_is_no_acknowledgement() -> None:
    writer = Acknowledged(0)
    writer.take(b'{"number": 0, "id": "aaaaaaaaaaaa", "ms": 1.0}\n')
    writer.take(b'{"number": 1, "id": "bbbbbbbbbbbb", "ms"')
    assert writer.ids == {0: "aaaaaaaaaaaa"}


def test_queries_have_the_promised_lengths_and_depend_only_on_the_seed() -> None:
    asked = queries(40, seed=3)
    assert asked == queries(40, seed=3)
    assert asked != queries(40, seed=4)
    lengths = {kind: [len(q.text.split()) for q in asked if q.kind == kind] for kind in KINDS}
    assert [len(found) for found in lengths.values()] == [40, 40]
    assert all(3 <= length <= 6 for length in lengths["short"])
    assert all(20 <= length <= 60 for length in lengths["issue"])


def test_sources_never_end_and_never_name_a_file_twice() -> None:
    paths = [path for path, _ in islice(sources(), 2_500)]
    assert len(set(paths)) == 2_500


def test_notes_of_different_writers_and_numbers_differ() -> None:
    texts = {note_text(1, writer, number) for writer in range(4) for number in range(25)}
    assert len(texts) == 100


def test_search_reports_times_of_all_rivals_and_finds_what_exact_search_finds() -> None:
    result = measured("search")
    (size,) = result["facts"].values()
    assert size["records"] >= 600
    assert size["vectors_pending"] == 0
    for kind in KINDS:
        assert size[kind]["recall@10"] >= 0.99
        assert size[kind]["lexical overlap@10"] >= 0.9
    rows = {(row["query"], row["what"]): row for row in result["rows"]}
    assert len(rows) == len(result["rows"]) == 2 * 13
    assert all(row["n"] == 50 and row["wall p95"] >= row["wall p50"] > 0 for row in rows.values())
    assert rows["issue", "search hybrid, resident"]["cpu ratio"] == 1.0


def test_start_measures_each_answer_of_each_server_in_both_eras() -> None:
    result = measured("start", "--embedder", "hashing", "--runs", "1")
    steps = {(row["era"], row["what"], row["answer to"]) for row in result["rows"]}
    assert steps == {
        (era, what, step)
        for era, first in (("handshake", "initialize"), ("modern", "discover"))
        for what, answers in (
            ("python -c pass", ["exit"]),
            ("stratum serve", [first, "tools/list", "first search"]),
            ("plain SDK server", [first, "tools/list", "first search"]),
        )
        for step in answers
    }
    assert all(row["n"] == 1 and row["p50"] > 0 for row in result["rows"])


def test_durability_reports_what_was_acknowledged_and_what_was_lost() -> None:
    result = measured("durability", "--kills", "2", "--processes", "2", "--writes", "10")
    killed, together = result["facts"]["killed"], result["facts"]["together"]
    assert killed["kills"] == 2
    assert (killed["lost"], killed["altered"], killed["problems"]) == (0, 0, [])
    assert together == {
        "acknowledged": 20,
        "lost": 0,
        "altered": 0,
        "errors": [],
        "problems": [],
    }
    assert [row["processes"] for row in result["rows"]] == [1, 1, 2]


def test_a_result_is_printed_as_a_table_without_json() -> None:
    done = bench(
        "durability", "--size", "smoke", "--kills", "1", "--processes", "1", "--writes", "2"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("durability, seed 1, size smoke, kills 1")
    assert lines[3].split()[:3] == ["what", "processes", "n"]
    assert "kill 1 of 1" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("search", "--records", "1000,500"), "sizes must grow"),
        (("durability", "--kills", "0"), "must be at least 1"),
        (("start", "--embedder", "none"), "invalid choice: 'none'"),
        (("nothing",), "invalid choice: 'nothing'"),
    ],
)
def test_wrong_options_end_with_a_sentence_and_status_two(
    arguments: tuple[str, ...], complaint: str
) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


KINDS = ("short", "issue")
