"""The stdio server: the front alone, the takeover by the SDK, the process as a client sees it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.server.stdio import stdio_server
from mcp.types.version import (
    HANDSHAKE_PROTOCOL_VERSIONS,
    MODERN_PROTOCOL_VERSIONS,
)

from stratum._version import __version__
from stratum.config import load
from stratum.mcp_server import build_server
from stratum.memory import Memory
from stratum.serve import MANIFESTS, Front, manifest_text, run_session

LISTS = ("tools/list", "resources/list", "resources/templates/list", "prompts/list")
CLIENT = {"name": "probe", "version": "1", "title": "Probe", "icons": [{"src": "data:,"}]}
CAPABILITIES = {"roots": {"listChanged": True}, "sampling": {}, "elicitation": {"form": {}}}


def line(id_: object, method: str, params: object = None, **more: object) -> str:
    message = {"jsonrpc": "2.0", "id": id_, "method": method, **more}
    return json.dumps(message if params is None else {**message, "params": params})


def hello(version: object = "2025-11-25", id_: object = 0, **more: object) -> str:
    params = {"protocolVersion": version, "capabilities": CAPABILITIES, "clientInfo": CLIENT}
    return line(id_, "initialize", {**params, **more})


def envelope(version: str = "2026-07-28", **more: object) -> dict[str, Any]:
    prefix = "io.modelcontextprotocol/"
    meta = {f"{prefix}protocolVersion": version, f"{prefix}clientCapabilities": CAPABILITIES}
    return {"_meta": {**meta, f"{prefix}clientInfo": CLIENT, **more}}


Pipe = tuple[Front, io.TextIOBase, int]

INITIALIZED = '{"jsonrpc":"2.0","method":"notifications/initialized"}'
CANCELLED = '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}'
MALFORMED = [
    "not json",
    "[]",
    f"[{line(50, 'ping')},{line(51, 'ping')}]",
    '{"jsonrpc":"2.0","id":52}',
    '{"jsonrpc":"1.0","id":53,"method":"ping"}',
    line(None, "ping"),
    line(True, "ping"),
    line(5.5, "ping"),
    line(54, "ping", []),
    line(55, "tools/list", {"cursor": 7}),
    line(56, "tools/list", {"_meta": 7}),
    line(57, "no/such/method"),
    line(58, "tools/call", {"name": 7}),
    line(59, "tools/call", {"name": "no_such_tool"}),
    line(60, "server/discover"),
    line(61, "tools/list", envelope("1999-01-01")),
    line(62, "tools/list", {"_meta": {"progressToken": 1}}),
    line(64, "tools/list", {"_meta": {"progressToken": "a"}}),
    line(65, "tools/list", {"_meta": {"progressToken": None}}),
    line(66, "tools/list", {"_meta": {"progressToken": True}}),
    line(67, "tools/list", {"_meta": {"progressToken": 1, "more": 1}}),
    line(68, "tools/list", {**envelope(), "_meta": {**envelope()["_meta"], "progressToken": 7}}),
    '{"jsonrpc":"2.0","id":63,"method":"ping","params":null}',
    "",
]
HANDSHAKES = {
    f"handshake {version}": [
        hello(version),
        INITIALIZED,
        line("text id", "ping"),
        *(line(number, method, {}) for number, method in enumerate(LISTS, start=1)),
        line(2**60, "tools/list", {"_meta": {}}),
        CANCELLED,
        hello(version, 40),
        *MALFORMED,
        line("last", "ping"),
    ]
    for version in (*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS, "1999-01-01", "")
}
MODERNS = {
    f"modern {version}": [
        line("d", "server/discover", envelope(version)),
        *(line(number, method, envelope(version)) for number, method in enumerate(LISTS, 1)),
        line(30, "tools/call", {"name": "no_such_tool", **envelope(version)}),
        line(31, "ping", envelope(version)),
        hello(version, 40),
        *MALFORMED,
        line("last", "tools/list", envelope(version)),
    ]
    for version in MODERN_PROTOCOL_VERSIONS
}
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
CLIENT_KEY = "io.modelcontextprotocol/clientInfo"
CONVERSATIONS = {
    **HANDSHAKES,
    **MODERNS,
    "lists before the handshake": [line(1, "tools/list"), hello(), line(2, "tools/list")],
    "garbage before the handshake": ["{", INITIALIZED, hello(), line(2, "tools/list")],
    "no discovery": [line(1, "tools/list", envelope()), line(2, "prompts/list", envelope())],
    "both eras": [hello(), line(1, "tools/list", envelope()), line(2, "tools/list")],
    "handshake without a version": [line(0, "initialize", {}), line(1, "tools/list")],
    "handshake with a number": [hello(7), line(1, "tools/list")],
    "a client without a version": [hello(clientInfo={"name": "x"}), line(1, "tools/list")],
    "a client with a number": [hello(clientInfo={"name": "x", "version": 1}), line(1, "ping")],
    "capabilities as a list": [hello(capabilities=[]), line(1, "tools/list")],
    "capabilities with a number": [hello(capabilities={"roots": 3}), line(1, "tools/list")],
    "unknown capability": [hello(capabilities={"new": {"a": {}}}), line(1, "tools/list")],
    "odd roots": [hello(capabilities={"roots": {"listChanged": []}}), line(1, "tools/list")],
    "unknown field": [hello(more=1), line(1, "tools/list")],
    "unknown member": [hello()[:-1] + ', "more": 1}', line(1, "tools/list")],
    "modern without capabilities": [
        line(1, "tools/list", {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}),
        line(2, "tools/list", envelope()),
    ],
    "modern with odd capabilities": [line(1, "tools/list", envelope(**{CAPABILITIES_KEY: 1}))],
    "modern with an odd client": [line(1, "tools/list", envelope(**{CLIENT_KEY: {}}))],
    "modern of the future": [line(1, "server/discover", envelope("2099-01-01"))],
}


def no_memory() -> Memory:
    raise AssertionError("none of these conversations calls a tool")


def by_id(answers: list[str]) -> list[dict[str, Any]]:
    return sorted((json.loads(text) for text in answers), key=lambda a: json.dumps(a.get("id")))


def sdk_answers(lines: list[str]) -> list[str]:
    """Return what the SDK alone answers: its own transport over texts in memory."""
    written: list[str] = []

    async def converse() -> None:
        feed, fed = anyio.create_memory_object_stream[str](len(lines))

        class Output:
            async def write(self, text: str) -> None:
                written.append(text)

            async def flush(self) -> None:
                """Nothing is held back."""

        server = build_server(no_memory)
        async with (
            feed,
            fed,
            anyio.create_task_group() as tasks,
            stdio_server(fed, Output()) as (read, write),
        ):
            tasks.start_soon(server.run_over, read, write)
            for text in lines:
                await feed.send(text)
            await anyio.wait_all_tasks_blocked()
            feed.close()

    anyio.run(converse)
    return written


@pytest.fixture
def front() -> Iterator[Pipe]:
    """A front that writes to a pipe, and the pipe's two ends."""
    output, wire = os.pipe()
    with open(output, encoding="utf-8") as answers:  # noqa: PTH123 - a descriptor
        yield Front(-1, wire), answers, wire
    os.close(wire)


@pytest.mark.parametrize("profile", MANIFESTS)
def test_the_manifest_is_what_the_sdk_answers_today(profile: str) -> None:
    assert MANIFESTS[profile].read_text(encoding="utf-8") == manifest_text(profile)


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("takeover", [0, 1, 3, None])
def test_wherever_the_sdk_takes_over_the_answers_are_its_own(
    front: Pipe, name: str, takeover: int | None
) -> None:
    lines = CONVERSATIONS[name]
    expected = sdk_answers(lines)
    begun, answers, wire = front
    for text in lines[:takeover]:
        begun.receive(text)
    server = build_server(no_memory)
    begun.pass_all()
    session = threading.Thread(target=anyio.run, args=(run_session, begun, server))
    session.start()
    for text in lines[len(lines) if takeover is None else takeover :]:
        begun.receive(text)
    got = [answers.readline() for _ in expected]
    begun.end()
    session.join()
    assert by_id(got) == by_id(expected)
    os.write(wire, b"nothing was left\n")
    assert answers.readline() == "nothing was left\n"


@pytest.mark.parametrize("version", HANDSHAKE_PROTOCOL_VERSIONS)
def test_handshake_lists_and_ping_need_no_sdk(front: Pipe, version: str) -> None:
    begun, answers, _ = front
    begun.receive(hello(version, "first"))
    first = json.loads(answers.readline())
    assert first["id"] == "first"
    assert first["result"]["protocolVersion"] == version
    assert first["result"]["serverInfo"]["version"] == __version__
    for method in (*LISTS, "ping"):
        for params in (None, {}, {"_meta": {"progressToken": 0}}):  # the last is how Codex asks
            begun.receive(line(method, method, params))
            assert json.loads(answers.readline())["id"] == method
    assert begun.lines.get_nowait() == hello(version, "first")
    assert begun.lines.empty()


@pytest.mark.parametrize("deep", [101, 500, 100_000])
def test_a_message_that_nests_too_deep_is_refused(front: Pipe, deep: int) -> None:
    begun, answers, _ = front
    nested = "[" * deep + "]" * deep
    begun.receive(f'{{"jsonrpc": "2.0", "id": 7, "method": "ping", "params": {{"a": {nested}}}}}')
    answer = json.loads(answers.readline())
    assert answer["error"] == {
        "code": -32600,
        "message": "The message nests deeper than 100 levels.",
    }
    # beyond what Python reads, the id is not known
    assert answer["id"] == (None if deep > 90_000 else 7)
    assert begun.lines.empty()
    begun.receive(f'{{"jsonrpc": "2.0", "method": "notifications/x", "params": {nested}}}')
    begun.receive(hello())
    assert ("serverInfo" in answers.readline()) is (deep < 90_000)


def test_brackets_in_texts_and_beside_each_other_are_not_depth(front: Pipe) -> None:
    begun, _, _ = front
    begun.receive(hello())
    begun.lines.get_nowait()
    flat = line(1, "tools/call", {"a": ["[" * 500, '\\"{"' * 500, *([] for _ in range(500))]})
    begun.receive(flat)
    assert begun.lines.get_nowait() == flat


def test_discovery_and_modern_lists_need_no_sdk(front: Pipe) -> None:
    begun, answers, _ = front
    for method in ("server/discover", *LISTS):
        begun.receive(line(method, method, envelope()))
        assert json.loads(answers.readline())["result"]["resultType"] == "complete"
    assert begun.lines.get_nowait() == line("server/discover", "server/discover", envelope())
    assert begun.lines.empty()


# the process


class Process:
    """`stratum serve` with pipes, spoken to line by line."""

    def __init__(self, cwd: Path, *, code: str = "", **environ: str) -> None:
        command = [sys.executable, *(["-c", code] if code else ["-m", "stratum", "serve"])]
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "STRATUM_EMBED_MODEL": "hashing", **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def send(self, *lines: str) -> None:
        self.process.stdin.write("".join(f"{text}\n" for text in lines))
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        return json.loads(self.process.stdout.readline())

    def call(self, id_: object, tool: str, **arguments: object) -> dict[str, Any]:
        self.send(line(id_, "tools/call", {"name": tool, "arguments": arguments}))
        answer = self.answer()
        assert answer["id"] == id_
        return answer["result"]


@pytest.fixture
def start(repository: Path) -> Iterator[Any]:
    running: list[Process] = []

    def begin(cwd: Path = repository, **options: str) -> Process:
        running.append(Process(cwd, **options))
        return running[-1]

    yield begin
    for process in running:
        process.process.kill()
        with process.process:  # closes the pipes and waits
            pass


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("mode", "version"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
async def test_a_client_on_stdio_calls_every_tool(
    repository: Path, mode: str, version: str
) -> None:
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "stratum", "serve", "--project", str(repository)],
        env={**os.environ, "STRATUM_EMBED_MODEL": "hashing"},
    )
    async with Client(parameters, mode=mode) as client:
        assert client.protocol_version == version
        tools = {tool.name for tool in (await client.list_tools()).tools}
        written = await client.call_tool("memory_write", {"text": "Tax is 19 percent"})
        id_ = written.structured_content["id"]
        for tool, arguments in {
            "memory_pack": {"task": "tax"},
            "memory_search": {"query": "tax"},
            "memory_get": {"id": id_},
            "memory_outline": {"path": "shop/cart.py"},
            "memory_verify": {"id": id_},
            "memory_forget": {"id": id_},
        }.items():
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, result
            tools.remove(tool)
        assert tools == {"memory_write"}
        assert (
            "19 percent" in (await client.read_resource(f"stratum://note/{id_}")).contents[0].text
        )


def test_calls_made_while_the_sdk_loads_are_answered_once_each(start: Any) -> None:
    process = start()
    ids = ["a", 7, "7", 0]
    calls = [
        line(id_, "tools/call", {"name": "memory_outline", "arguments": {"path": "README.md"}})
        for id_ in ids
    ]
    process.send(hello(), INITIALIZED, *calls)
    process.process.stdin.close()
    answers = [json.loads(text) for text in process.process.stdout]
    assert answers[0]["id"] == 0
    assert "serverInfo" in answers[0]["result"]
    assert sorted(map(str, (answer["id"] for answer in answers[1:]))) == sorted(map(str, ids))
    assert not any(answer["result"]["isError"] for answer in answers[1:] if "isError" in answer)
    assert process.process.wait(60) == 0


@pytest.mark.parametrize("moment", ["while the SDK loads", "later"])
@pytest.mark.parametrize("how", ["stdin closes", "SIGTERM", "SIGINT"])
def test_the_server_ends_cleanly(start: Any, moment: str, how: str) -> None:
    process = start()
    process.send(hello(), INITIALIZED)
    assert process.answer()["id"] == 0
    if moment == "later":
        assert not process.call(1, "memory_search", query="cart").get("isError")
    if how == "stdin closes":
        process.process.stdin.close()
    else:
        process.process.send_signal(getattr(signal, how))
    assert process.process.wait(30) == 0
    assert process.process.stdout.read() == ""
    assert process.process.stderr.read() == ""


NOISY = """
import os, subprocess, sys
from pathlib import Path
from stratum.config import load
from stratum.memory import Memory
from stratum.serve import serve

quiet = Memory.search

def noisy(self, *args, **options):
    print("a print")
    subprocess.run([sys.executable, "-c", "print('a child'); print(input())"])
    os.write(1, b"raw bytes\\n")
    return quiet(self, *args, **options)

Memory.search = noisy
serve(load(os.environ), Path("."))
"""


def test_stdout_carries_only_the_protocol_whatever_a_tool_prints(start: Any) -> None:
    process = start(code=NOISY)
    process.send(hello(), INITIALIZED)
    assert process.answer()["id"] == 0
    assert not process.call(1, "memory_search", query="cart").get("isError")
    assert not process.call(2, "memory_search", query="tax").get("isError")
    process.process.stdin.close()
    status, out, err = process.process.wait(30), *map(str.strip, process_rest(process))
    assert (status, out) == (0, "")
    lines = err.splitlines()
    assert lines.count("a child") == lines.count("raw bytes") == 2
    assert "EOFError" in err  # the child saw an empty stdin, not the protocol


def process_rest(process: Process) -> tuple[str, str]:
    return process.process.stdout.read(), process.process.stderr.read()


def test_outside_a_project_tools_are_listed_and_each_call_says_why(
    start: Any, tmp_path: Path
) -> None:
    process = start(tmp_path, HOME=str(tmp_path))
    process.send(hello(), INITIALIZED, line(1, "tools/list"))
    assert process.answer()["id"] == 0
    assert len(process.answer()["result"]["tools"]) == 7
    for id_ in (2, 3):
        result = process.call(id_, "memory_search", query="x")
        assert result["isError"]
        assert result["structuredContent"]["error"]["code"] == "not_in_project"


def test_a_broken_database_fails_the_calls_and_not_the_server(start: Any, tmp_path: Path) -> None:
    home = tmp_path / "broken"
    home.mkdir()
    (home / "stratum.db").write_bytes(b"this is no database" * 100)
    process = start(STRATUM_HOME=str(home))
    process.send(hello(), INITIALIZED)
    assert process.answer()["id"] == 0
    for id_ in (1, 2):
        result = process.call(id_, "memory_search", query="x")
        assert result["structuredContent"]["error"]["code"] == "store_unavailable"


@pytest.mark.parametrize("half", ["\\ud83d", "\\UDE00", "\\uDE00\\ud83d"])
def test_half_a_character_is_answered_like_any_other_text(start: Any, half: str) -> None:
    process = start()
    process.send(hello(), INITIALIZED)
    process.answer()
    half = half.replace("\\U", "\\u")
    for id_, arguments in enumerate(
        ('"memory_write", "arguments": {"text": "cut %s"}', '"memory_%s", "arguments": {"%s": 1}')
    ):
        params = '{"name": ' + arguments.replace("%s", half) + "}"
        call = f'"id": {id_}, "method": "tools/call", "params": {params}'
        process.send(f'{{"jsonrpc": "2.0", {call}}}')
        assert process.answer()["id"] == id_


def test_a_project_is_indexed_in_the_background_from_the_first_start(start: Any) -> None:
    process = start()
    process.send(hello(), INITIALIZED)
    process.answer()
    for id_ in range(1, 1000):
        result = process.call(id_, "memory_search", query="delete_expired")
        [block] = result["content"]
        if "delete_expired" in block["text"]:
            break
        assert "Notice: " in block["text"]
    assert " shop/session.py:" in block["text"]


def test_nothing_is_written_to_a_database_that_was_removed(
    start: Any, tmp_path: Path, repository: Path
) -> None:
    home = tmp_path / "home"
    process = start(STRATUM_HOME=str(home))
    process.send(hello(), INITIALIZED)
    process.answer()
    process.call(1, "memory_search", query="cart")
    process.call(2, "memory_search", query="cart")
    for name in ("stratum.db", "stratum.db-wal", "stratum.db-shm"):
        (home / name).unlink(missing_ok=True)
    written = process.call(3, "memory_write", text="Carts are kept after the loss")
    process.process.stdin.close()
    assert process.process.wait(30) == 0
    assert "opened anew" in process.process.stderr.read()
    settings = load({"STRATUM_HOME": str(home), "STRATUM_EMBED_MODEL": "hashing"})
    with Memory(settings, repository) as memory:
        assert memory.get(written["structuredContent"]["id"]).text.endswith("after the loss")


def test_a_folder_that_is_gone_is_an_error_until_it_is_back(
    start: Any, tmp_path: Path, repository: Path
) -> None:
    process = start(tmp_path, code="", STRATUM_PROJECT=str(repository))
    process.send(hello(), INITIALIZED)
    process.answer()
    assert not process.call(1, "memory_search", query="cart").get("isError")
    repository.rename(tmp_path / "elsewhere")
    result = process.call(2, "memory_search", query="cart")
    assert result["isError"]
    assert result["content"][0]["text"].startswith(f"The project's folder {repository} is gone.")
    (tmp_path / "elsewhere").rename(repository)
    assert not process.call(3, "memory_search", query="cart").get("isError")


HANGING = """
import os, threading
from pathlib import Path
from stratum.config import load
from stratum.memory import Memory
from stratum.serve import serve

def hang(*_, **__):
    print("begun", flush=True)
    threading.Event().wait()

Memory.search = hang
serve(load(os.environ), Path("."))
"""


@pytest.mark.parametrize("how", ["stdin closes", "SIGTERM"])
def test_a_call_that_never_ends_does_not_keep_the_server(start: Any, how: str) -> None:
    process = start(code=HANGING)
    process.send(hello(), INITIALIZED, line(1, "tools/call", {"name": "memory_outline"}))
    assert [process.answer()["id"], process.answer()["id"]] == [0, 1]  # the SDK is there
    process.send(line(2, "tools/call", {"name": "memory_search", "arguments": {"query": "x"}}))
    assert process.process.stderr.readline() == "begun\n"
    if how == "stdin closes":
        process.process.stdin.close()
    else:
        process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(60) == 0
    assert "still running" in process.process.stderr.read()


def test_a_server_that_is_never_asked_ends_with_its_stdin(start: Any) -> None:
    process = start()
    process.process.stdin.close()
    assert process.process.wait(30) == 0
    assert process_rest(process) == ("", "")


def test_a_client_that_goes_away_ends_the_server(start: Any) -> None:
    process = start()
    process.process.stdout.close()
    process.send(hello(), line(1, "tools/list"))
    assert process.process.wait(30) == 0
