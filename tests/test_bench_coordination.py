"""The measurement of what agents do together runs, and counts what it says it counts."""

from __future__ import annotations

import json

import pytest
from stratum_bench import coordination

from tests.redis_server import needs_redis


def test_a_small_run_measures_every_operation_beside_its_floor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    needs_redis(search=False)
    result = coordination.run("smoke", 1, calls=3, seconds=0.05, connections=(1, 2))
    rows = {(row["store"], row["what"], row["connections"]): row for row in result.rows}
    assert len(rows) == len(result.rows)
    for what in (
        "PING", "GET", "context read", "HGETALL of a note", "note read and checked",
        "claim renewed", "claim and release", "XADD", "finding shared", "event to receipt",
        "PUBLISH to pub/sub",
    ):  # fmt: skip
        assert rows["redis", what, 1]["n"] == 3
    for what in ("context read", "claim and release", "event to receipt"):
        assert ("sqlite", what, 1) in rows
    for (_, what, connections), row in rows.items():
        assert 0 < row["p50"] <= row["p95"]
        assert row["per second"] > 0
        if connections == 1:  # so many calls of that length are that many a second, of 3 calls
            each = 100 if what.endswith(" a trip") else 1
            assert each * 800 / row["p95"] < row["per second"] < each * 1600 / row["p50"]
    assert rows["redis", "claim and release", 2]["n"] > 0
    assert json.loads(json.dumps(result.to_dict()))["facts"]["redis"]
