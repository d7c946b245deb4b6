"""Whole runs with the agent `chat`: the command as users call it, a real server for a model."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stratum_bench.compare import compare
from stratum_bench.trace import Asked, Called, Ended, Event, RunStarted, read_events

from tests.chat_endpoint import Answer, Body, Call, ChatEndpoint, Raw, Response
from tests.test_agent_run import GOOD, Depot, bench, calls, course, ends, environ, make_depot

KEY = "sk-test-Qm71xVbb40LsW9"
NOTE = "Stock that is short in an audit, by the ledger of a label: couriers took a parcel."
# the words by which the two tasks are known, and the file that the model submits for each
WORDS = {"Courier": "depot/courier.py", "Stock": "depot/stock.py"}


class Model:
    """Plays a model that looks into memory where there is one, greps, reads and submits.

    It answers from the request alone, as an endpoint does. Where `broken` stands in the question it
    says something that is no answer. `told` is the usage that was sent, by question and whether
    memory was offered.
    """

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.asked: list[str] = []
        self.told: dict[tuple[str, bool], list[Body]] = {}

    def __call__(self, body: Body, number: int) -> Response:
        messages = body["messages"]
        question = next(one["content"] for one in messages if one["role"] == "user")
        word = question.split()[0]
        self.asked.append(word)
        if self.broken and self.broken in question:
            return Raw(200, "<html>Service page</html>", content_type="text/html")
        names = {one["function"]["name"] for one in body["tools"]}
        has_memory = "memory_pack" in names
        usage = {
            "prompt_tokens": 1000 + 10 * number,
            "completion_tokens": 50 + number,
            "total_tokens": 1050 + 11 * number,
            "prompt_tokens_details": {"cached_tokens": 100 + number},
            "completion_tokens_details": {"reasoning_tokens": 5 + number},
            "cost": 0.001 * (number + 1),
        }
        self.told.setdefault((word, has_memory), []).append(usage)
        done = [call["function"] for one in messages for call in one.get("tool_calls") or ()]
        return Answer("", self._next(word, has_memory, done, messages), usage, "Hm.")

    def _next(
        self, word: str, has_memory: bool, done: list[Any], messages: list[Any]
    ) -> list[Call]:
        made = [one["name"] for one in done]
        if has_memory and "memory_pack" not in made:
            return [Call("memory_pack", {"task": messages[1]["content"], "budget": 600})]
        if "grep" not in made:
            return [Call("grep", {"pattern": f"def {word.lower()}_of_"})]
        if "read_file" not in made:
            found = [one["content"] for one in messages if one["role"] == "tool"][-1]
            path = found.partition(":")[0]  # of the first match
            return [Call("read_file", {"path": path, "end_line": 40})]
        path = json.loads(done[made.index("read_file")]["arguments"])["path"]
        notes = [
            Call("memory_write", {"text": NOTE, "anchors": [f"{path}::courier_of_stock"]}, id="w")
        ]
        return [
            *(notes if has_memory and word == "Courier" else []),
            Call("submit", {"files": [path]}, id="s"),
        ]


@pytest.fixture(scope="module")
def depot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Depot]:
    folder = tmp_path_factory.mktemp("depot")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ(folder).items():
            patch.setenv(name, value)
        yield make_depot(folder)


def asked(depot: Depot, address: str, out: str, arms: str, *more: str) -> Any:
    """Run two tasks in some arms against an endpoint at an address."""
    rows = (depot.folder / "good.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (depot.folder / "two.jsonl").write_text("".join(rows[:2]), encoding="utf-8")
    return bench(
        depot.folder, "--agent", "chat", "--model", "m-1", "--base-url", address,
        "--tasks", "two.jsonl", "--repos", "repos", "--arms", arms, "--jobs", "2",
        "--out", out, *more, STRATUM_BENCH_KEY=KEY,
    )  # fmt: skip


def by_place(events: list[Event]) -> dict[tuple[str, bool], list[Asked]]:
    """Return the requests as `Model.told` names them."""
    names = dict(zip(GOOD[:2], WORDS, strict=True))
    return {
        (names[task], arm == "stratum"): [event for event in own if isinstance(event, Asked)]
        for (task, arm), own in course(events).items()
    }


def check_usage(events: list[Event], model: Model) -> None:
    """Make sure that the trace has each request as the endpoint counted it."""
    found = by_place(events)
    assert set(found) == set(model.told)
    for place, sent in model.told.items():
        assert [
            (one.prompt, one.cached, one.output, one.reasoning, one.cost) for one in found[place]
        ] == [
            (
                usage["prompt_tokens"],
                usage["prompt_tokens_details"]["cached_tokens"],
                usage["completion_tokens"],
                usage["completion_tokens_details"]["reasoning_tokens"],
                pytest.approx(usage["cost"]),
            )
            for usage in sent
        ]


def costs_in(told: Any) -> Iterator[float]:
    """Yield what stands under "cost" anywhere."""
    if isinstance(told, dict):
        if isinstance(told.get("cost"), float):
            yield told["cost"]
        told = list(told.values())
    if isinstance(told, list | tuple):
        for one in told:
            yield from costs_in(one)


def files_of(folder: Path) -> str:
    return "".join(
        file.read_text(encoding="utf-8") for file in sorted(folder.rglob("*")) if file.is_file()
    )


def test_a_run_keeps_what_the_model_did_and_what_the_endpoint_counted(depot: Depot) -> None:
    model = Model()
    out = "out"
    with ChatEndpoint(model) as endpoint:
        done = asked(depot, endpoint.base_url, out, "bare,stratum")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    events = read_events(depot.folder / out)
    assert {key: end.outcome for key, end in ends(events).items()} == {
        (task, arm): "PASS" for task in GOOD[:2] for arm in ("bare", "stratum")
    }
    assert [(key, end.submitted) for key, end in ends(events).items() if key[1] == "bare"] == [
        ((task, "bare"), (path,)) for task, path in zip(GOOD, WORDS.values(), strict=False)
    ]
    told = course(events)
    assert [name for name, _, _ in calls(told[GOOD[0], "stratum"])] == [
        "memory_pack", "grep", "read_file", "memory_write", "submit",
    ]  # fmt: skip
    assert [name for name, _, _ in calls(told[GOOD[0], "bare"])] == ["grep", "read_file", "submit"]
    # what is paid is what the endpoint says, each request of it
    check_usage(events, model)
    paid = set(costs_in(compare(events).to_dict()))
    for memory in (False, True):
        cost = math.fsum(
            usage["cost"] for place, sent in model.told.items() for usage in sent
            if place[1] == memory
        )  # fmt: skip
        assert f"{cost:.4g}" in done.stdout
        assert any(one == pytest.approx(cost) for one in paid)
    # the second task was asked with what the first one left
    pack = next(event for event in told[GOOD[1], "stratum"] if isinstance(event, Called))
    assert pack.tool == "memory_pack"
    assert not pack.failed
    offered = [body for body in endpoint.bodies if "memory_pack" in str(body["tools"])]
    assert any(NOTE in str(body["messages"]) for body in offered if "Stock of" in str(body))
    assert not any(body.get("stream") for body in endpoint.bodies)
    # nothing of the answer goes to the model, and nothing of the key stays here
    assert {request.headers["authorization"] for request in endpoint.requests} == {f"Bearer {KEY}"}
    for kept in (files_of(depot.folder / out), done.stdout, done.stderr):
        assert KEY not in kept
        assert KEY[:12] not in kept
    header = events[0]
    assert isinstance(header, RunStarted)
    assert (header.header["agent"], header.header["model"]) == ("chat", "m-1")
    assert header.header["endpoint"] == endpoint.base_url


def test_garbage_is_marked_and_only_that_is_asked_again(depot: Depot) -> None:
    model = Model(broken="Stock")
    with ChatEndpoint(model) as endpoint:
        address = endpoint.base_url.replace("http://", "http://user:hidden-word@")
        done = asked(depot, address, "broken", "bare", "--stream")
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        found = ends(read_events(depot.folder / "broken"))
        for (task, _), end in found.items():
            assert end.outcome == ("PASS" if task == GOOD[0] else "ERROR")
        place = endpoint.base_url.split("/")[2]
        assert found[GOOD[1], "bare"].reason.startswith(
            f"error: {place} answered with something that is no JSON. Check the address"
        )
        before = course(read_events(depot.folder / "broken"))
        # the server works again
        model.broken = ""
        model.asked.clear()
        model.told.clear()
        again = asked(depot, address, "broken", "bare", "--stream")
    assert again.returncode == 0, again.stderr
    assert set(model.asked) == {"Stock"}
    assert "1 answers are there already" in again.stderr
    after = course(read_events(depot.folder / "broken"))
    assert {key: one[-1].outcome for key, one in after.items() if isinstance(one[-1], Ended)} == {
        (task, "bare"): "PASS" for task in GOOD[:2]
    }
    assert after[GOOD[0], "bare"] == before[GOOD[0], "bare"]
    assert all(body.get("stream") for body in endpoint.bodies)
    stock = [key for key in after if key[0] == GOOD[1]]
    check_usage([event for key in stock for event in after[key]], model)
    assert "hidden-word" not in files_of(depot.folder / "broken") + again.stdout + again.stderr
