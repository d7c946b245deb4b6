"""The TypeScript SDK, which shares no code with ours, talks to `stratum serve`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.clients
HERE = Path(__file__).parent


def conversation(repository: Path, calls: list[dict[str, Any]]) -> dict[str, Any]:
    plan = {
        "command": sys.executable,
        "args": ["-m", "stratum", "serve"],
        "cwd": str(repository),
        "calls": calls,
    }
    done = subprocess.run(
        ["node", HERE / "call_tools.mjs", json.dumps(plan)],
        env={**os.environ, "STRATUM_EMBED_MODEL": "hashing"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=120,
    )
    return json.loads(done.stdout)


def test_every_tool_answers_the_typescript_client_within_its_schema(repository: Path) -> None:
    anchor = "shop/cart.py::Cart.add_item"
    calls = [
        {
            "name": "memory_write",
            "arguments": {"text": "Quantities start at 1", "anchors": [anchor]},
        },
        {"name": "memory_search", "arguments": {"query": "quantities", "stratum": "notes"}},
        {"name": "memory_pack", "arguments": {"task": "change quantities", "budget": 400}},
        {"name": "memory_pack", "arguments": {"task": "change quantities", "budget": 0}},
        {"name": "memory_get", "arguments": {"id": "$ID"}},
        {"name": "memory_outline", "arguments": {"path": "shop/cart.py"}},
        {"name": "memory_verify", "arguments": {"id": "$ID"}},
        {"name": "memory_forget", "arguments": {"id": "$ID"}},
    ]
    seen = conversation(repository, calls)
    assert seen["server"]["name"] == "stratum"
    assert set(seen["tools"]) == {call["name"] for call in calls}
    assert seen["templates"] == ["stratum://note/{id}", "stratum://outline/{+path}"]
    assert seen["prompts"] == ["recall"]
    assert not any(answer.get("isError") for answer in seen["answers"])
    assert "via probe-ts, " in seen["answers"][1]["content"][0]["text"]


def test_an_error_with_data_is_no_protocol_error_for_the_typescript_client(
    repository: Path,
) -> None:
    [answer] = conversation(
        repository, [{"name": "memory_get", "arguments": {"id": "aaaaaaaaaaaa"}}]
    )["answers"]
    assert answer["isError"] is True
    assert answer["structuredContent"]["error"]["code"] == "not_found"
    assert answer["content"][0]["text"].startswith("Nothing has the id aaaaaaaaaaaa.")
