"""How long an agent waits for the server: from the start of the process to its answers.

Owns the dialogue over stdio and the turns of the rivals: bare Python, Stratum's server, the same
tools served by the SDK alone. Knows nothing of how either server is made.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import IO, Any

from stratum_bench.corpus import sources
from stratum_bench.measure import Result, Row, environment, percentile, progress, spread
from stratum_bench.project import Project, python, temporary_project

_FILES = 30  # of the standard library: the search has something to find
_DEADLINE = 60  # seconds until a server that does not answer is given up
_BARE = "python -c pass"
_SERVERS = {
    "stratum serve": python("stratum", "serve"),
    "plain SDK server": python("stratum_bench.plain_server"),
}
_HANDSHAKE = "2025-06-18"
_MODERN = "2026-07-28"
_CLIENT = {"name": "stratum-bench", "version": "1"}
_SEARCH = {"name": "memory_search", "arguments": {"query": "parse command line arguments"}}


@dataclass(frozen=True, slots=True)
class _Request:
    """One request and what is sent before it without waiting for an answer."""

    step: str
    method: str
    params: dict[str, Any]
    before: tuple[dict[str, Any], ...] = ()


def _dialogues() -> dict[str, list[_Request]]:
    """Return what a client of each protocol era says first, in order."""
    hello = {"protocolVersion": _HANDSHAKE, "capabilities": {}, "clientInfo": _CLIENT}
    initialized = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    meta = {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": _MODERN,
            "io.modelcontextprotocol/clientInfo": _CLIENT,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    }
    return {
        "handshake": [
            _Request("initialize", "initialize", hello),
            _Request("tools/list", "tools/list", {}, (initialized,)),
            _Request("first search", "tools/call", _SEARCH),
        ],
        "modern": [
            _Request("discover", "server/discover", meta),
            _Request("tools/list", "tools/list", meta),
            _Request("first search", "tools/call", _SEARCH | meta),
        ],
    }


def run(size: str, seed: int, *, runs: int, embedder: str) -> Result:
    """Start every rival `runs` times in turn and speak to it as an agent does."""
    taken: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    with temporary_project(embedder) as project:
        _fill(project)
        # the first start of each compiles modules and fills the disk cache: not counted
        for number in range(-1, runs):
            for era, dialogue in _dialogues().items():
                measured = {(era, _BARE, "exit"): _bare_python(project)}
                for name, command in _SERVERS.items():
                    steps = _speak(project, command, dialogue)
                    measured |= {(era, name, step): ms for step, ms in steps.items()}
                if number >= 0:
                    for key, milliseconds in measured.items():
                        taken[key].append(milliseconds)
            progress(f"round {number + 1} of {runs}")
    return Result(
        command="start",
        seed=seed,
        parameters={"size": size, "embedder": embedder, "runs": runs},
        environment=environment(),
        rows=_rows(taken),
    )


def _fill(project: Project) -> None:
    for path, text in itertools.islice(sources(), _FILES):
        project.add(path, text)
    with project.memory() as memory:
        report = memory.index()
    progress(f"{report.symbols} symbols indexed, {report.vectors} vectors")


def _bare_python(project: Project) -> float:
    started = time.perf_counter()
    with project.start([sys.executable, "-c", "pass"]) as process:
        process.wait()
    return (time.perf_counter() - started) * 1000


def _speak(project: Project, command: list[str], dialogue: list[_Request]) -> dict[str, float]:
    """Return milliseconds from the start of the process to each answer."""
    taken: dict[str, float] = {}
    started = time.perf_counter()
    with project.start(command) as process:
        given_up = threading.Timer(_DEADLINE, process.kill)
        given_up.start()
        try:
            for number, request in enumerate(dialogue, start=1):
                for notification in request.before:
                    _send(process, notification)
                answer = _ask(process, number, request)
                taken[request.step] = (time.perf_counter() - started) * 1000
                if answer is None or "error" in answer or answer["result"].get("isError"):
                    said = "nothing" if answer is None else json.dumps(answer)[:300]
                    raise project.failure(f"{request.step} was answered by {said}")
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
        finally:
            given_up.cancel()
            process.kill()
    return taken


def _ask(process: subprocess.Popen[bytes], number: int, request: _Request) -> dict[str, Any] | None:
    """Send a request and return its answer, None when the server ended instead."""
    message = {"jsonrpc": "2.0", "id": number, "method": request.method, "params": request.params}
    try:
        _send(process, message)
    except BrokenPipeError:
        return None
    assert process.stdout is not None
    return _answer(process.stdout, number)


def _send(process: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()


def _answer(stdout: IO[bytes], number: int) -> dict[str, Any] | None:
    for line in stdout:
        message: dict[str, Any] = json.loads(line)
        if message.get("id") == number and "method" not in message:
            return message
    return None


def _rows(taken: dict[tuple[str, str, str], list[float]]) -> list[Row]:
    rows: list[Row] = []
    for (era, name, step), milliseconds in taken.items():
        bare = percentile(taken[era, _BARE, "exit"], 0.5)
        rival = percentile(taken.get((era, "plain SDK server", step), milliseconds), 0.5)
        figures = spread(milliseconds)
        rows.append(
            {
                "era": era,
                "what": name,
                "answer to": step,
                "n": len(milliseconds),
                **figures,
                "p50 / bare": figures["p50"] / bare,
                "p50 / SDK": figures["p50"] / rival,
            }
        )
    return rows
