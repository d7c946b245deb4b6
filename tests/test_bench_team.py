"""The benchmark of teams: its figures come from real machines and a real server."""

from __future__ import annotations

import json

import pytest
from stratum_bench import team
from stratum_bench.__main__ import main

from tests.redis_server import RedisServer, needs_redis


@pytest.fixture(scope="module")
def result() -> team.Result:
    needs_redis()
    return team.run("smoke", 5, notes=400, graph=200, queries=4, embedder="hashing")


def rows_of(result: team.Result, what: str) -> list[team.Row]:
    return [row for row in result.rows if row["what"] == what]


def test_every_note_arrives_on_the_other_machine(result: team.Result) -> None:
    for way in ("sent", "received"):
        assert result.facts[way]["notes"] == 400
        assert result.facts[way]["per second"] > 0
    assert result.facts["nothing new"]["ms"] < result.facts["received"]["ms"]
    assert result.facts["bytes of the server per note"] > 256 * 4  # a vector is the least of it


def test_a_scan_finds_everything_and_a_graph_nearly_so(result: team.Result) -> None:
    bare = rows_of(result, "by meaning alone, shared")
    assert {(row["index"], row["notes"]) for row in bare} == {
        ("flat", 400), ("flat", 200), ("hnsw", 200),
    }  # fmt: skip
    assert {row["filter"] for row in bare} == {"all", "project", "project and path"}
    for row in bare:
        assert row["n"] == 8
        assert float(row["recall@10"]) >= (1.0 if row["index"] == "flat" else 0.95)


def test_shared_and_local_searches_stand_side_by_side(result: team.Result) -> None:
    shared = rows_of(result, "search, shared")
    assert {row["filter"] for row in shared} == {"all", "project", "project and path"}
    assert {row["filter"] for row in rows_of(result, "search, local")} == {
        "project", "project and path",
    }  # fmt: skip
    assert all(0 < row["wall p50"] <= row["wall p95"] for row in shared)  # type: ignore[operator]


def test_a_server_that_is_given_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    with RedisServer() as server:
        words = ["--size", "smoke", "--notes", "60", "--graph", "30", "--queries", "2"]
        assert main(["team", *words, "--redis-url", server.url, "--json"]) == 0
        with server.client() as client:
            assert len(client.keys("stratum:note:{bench:*")) == 60
    told = json.loads(capsys.readouterr().out)
    assert told["command"] == "team"
    assert told["parameters"]["notes"] == 60
