"""The team's Redis is away, dies or hangs: work goes on as fast as ever, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

from stratum.config import load
from stratum.redis_client import Keys
from tests.team_machines import PROJECT, Machine, Refused, Server, team

TROUBLES = ("refuse", "hang", "freeze", "kill")
SAY_WITHIN = 30.0  # seconds until a command has told that the server does not answer
CALLS = 40  # of each kind, of which the median counts
TIMES_SLOWER, SLACK = 3.0, 0.010  # the bound on medians; slack in seconds
NEVER_LONGER = 2.5  # seconds for any single call: less than any time-out of a connection
ARRIVES_WITHIN = 100.0  # seconds; pauses between tries grow to a minute


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


@pytest.fixture
def machines(server: Server, tmp_path: Path) -> Iterator[list[Machine]]:
    with team(tmp_path, server.port) as both:
        server.serve(both)
        yield both


@contextlib.contextmanager
def in_trouble(kind: str, server: Server, machine: Machine) -> Iterator[None]:
    """Let the server be away for a machine."""
    match kind:
        case "refuse":
            machine.proxy.refuse()
        case "hang":
            machine.proxy.hang()
        case "freeze":
            server.freeze()
        case "kill":
            server.kill()
    try:
        yield
    finally:
        match kind:
            case "refuse" | "hang":
                machine.proxy.open()
            case "freeze":
                server.thaw()
            case "kill":
                server.start()


@pytest.mark.parametrize("kind", TROUBLES)
def test_commands_tell_the_truth_and_nothing_is_lost(
    kind: str, server: Server, machines: list[Machine]
) -> None:
    anna, ben = machines
    anna.command("write", "Written before.", "--team")
    anna.command("index")  # with its vector it would wait again
    assert anna.command("sync").stdout.startswith("1 sent, 0 received")
    with in_trouble(kind, server, anna):
        for number in range(3):
            anna.command("write", f"Written meanwhile {number}.", "--team", timeout=SAY_WITHIN)
        for words in (["search", "written"], ["check"], ["export"], ["index"], ["pack", "till"]):
            anna.command(*words, timeout=SAY_WITHIN)
        told = json.loads(anna.command("status", "--json", timeout=SAY_WITHIN).stdout)
        assert (told["team"]["connected"], told["sync"]["waiting"]) == (False, 3)
        assert told["team"]["trouble"] in told["degraded"]
        asked = anna.command("sync", "--status", "--json", check=False, timeout=SAY_WITHIN)
        assert asked.returncode == 4
        told = json.loads(asked.stdout)
        assert (told["team"]["connected"], told["sync"]["waiting"]) == (False, 3)
        assert told["sync"]["synced_at"]
        tried = anna.command("sync", check=False, timeout=SAY_WITHIN)
        assert tried.returncode == 4
        assert (tried.stdout, "Traceback" in tried.stderr) == ("", False)
        assert 1 <= len(tried.stderr.splitlines()) <= 4
        assert told["team"]["trouble"].split(".")[0][:20] in " ".join(tried.stderr.split())
        assert len(anna.command("sync", "--dry-run").stdout.splitlines()) == 3
    assert anna.command("sync").stdout.startswith("3 sent, 0 received")
    told = json.loads(anna.command("sync", "--status", "--json").stdout)
    assert (told["team"]["connected"], told["team"]["trouble"]) == (True, "")
    assert told["sync"]["waiting"] == 0
    assert ben.command("sync").stdout.startswith("0 sent, 4 received")


def test_a_server_that_dies_in_the_middle_loses_nothing(
    server: Server, machines: list[Machine]
) -> None:
    anna, ben = machines
    texts = {f"Note {number} of many." for number in range(600)}
    for text in texts:
        anna.ask("write", text=text, scope="team")
    for wait in (0.02, 0.1, 0.2):
        anna.begin("sync")
        time.sleep(wait)
        server.kill()
        with contextlib.suppress(Refused):
            anna.end()
        server.start()
    anna.ask("sync")
    assert anna.ask("sync_state")["waiting"] == 0
    ben.ask("sync")
    assert texts <= {json.loads(line).get("text") for line in ben.ask("export")}


# a serving process


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextlib.asynccontextmanager
async def serving(machine: Machine, **environment: str) -> AsyncIterator[Client]:
    """Serve a machine's memory to an MCP client over stdio."""
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "stratum", "serve", "--project", str(machine.clone)],
        env={**machine.environment, **environment},
        cwd=Path(__file__).parents[1],
    )
    async with Client(parameters) as client:
        yield client


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result
    return result.structured_content


async def timed(client: Client, tool: str, **arguments: Any) -> float:
    begun = time.perf_counter()
    await call(client, tool, **arguments)
    return time.perf_counter() - begun


async def until(what: Callable[[], bool]) -> None:
    """Wait until something is so."""
    with anyio.fail_after(ARRIVES_WITHIN):
        while not await anyio.to_thread.run_sync(what):
            await anyio.sleep(0.1)


def texts_in(server: Server) -> set[str]:
    keys = Keys.of(load({}), PROJECT)
    with server.client() as client:
        found = [client.hget(key, "text") for key in client.scan_iter(keys.note("*"))]
    return {text.decode() for text in found if text}


async def waiting(client: Client) -> int:
    status = json.loads((await client.read_resource("stratum://status")).contents[0].text)
    return int(status["sync"]["waiting"])


@pytest.mark.anyio
@pytest.mark.parametrize("kind", TROUBLES)
async def test_a_serving_process_is_as_fast_without_its_server(
    kind: str, server: Server, machines: list[Machine]
) -> None:
    """Beside one that has no team, in the same minute."""
    anna, ben = machines
    async with serving(anna) as shared, serving(ben, STRATUM_REDIS_URL="") as alone:
        for client in (shared, alone):
            await call(client, "memory_search", query="total price")
        await call(shared, "memory_write", text="Written before.", scope="team")
        await until(lambda: "Written before." in texts_in(server))
        taken: dict[tuple[str, str], list[float]] = {}
        with in_trouble(kind, server, anna):
            for number in range(CALLS):
                for name, client in (("shared", shared), ("alone", alone)):
                    for tool, arguments in {
                        "memory_write": {"text": f"Number {number}.", "scope": "team"},
                        "memory_search": {"query": f"number {number} of the till"},
                        "memory_pack": {"task": "sum up the cart"},
                    }.items():
                        seconds = await timed(client, tool, **arguments)
                        taken.setdefault((tool, name), []).append(seconds)
            assert await waiting(shared) == CALLS
        for tool in ("memory_write", "memory_search", "memory_pack"):
            mine, others = taken[tool, "shared"], taken[tool, "alone"]
            assert statistics.median(mine) <= TIMES_SLOWER * statistics.median(others) + SLACK
            assert max(mine) < NEVER_LONGER
        await until(lambda: {f"Number {n}." for n in range(CALLS)} <= texts_in(server))
        with anyio.fail_after(ARRIVES_WITHIN):
            while await waiting(shared):
                await anyio.sleep(0.1)


@pytest.mark.anyio
async def test_a_serving_process_finds_its_server_by_itself_whenever_it_comes(
    server: Server, machines: list[Machine]
) -> None:
    anna, ben = machines
    server.kill()
    async with serving(anna) as client:
        await call(client, "memory_write", text="Before it was there.", scope="team")
        assert await waiting(client) == 1
        server.start()
        await until(lambda: "Before it was there." in texts_in(server))
        server.kill()
        await call(client, "memory_write", text="While it was dead.", scope="team")
        server.start()
        await until(lambda: "While it was dead." in texts_in(server))
        server.restore(None)
        await until(lambda: {"Before it was there.", "While it was dead."} <= texts_in(server))
        # and what others send comes by itself
        await anyio.to_thread.run_sync(
            lambda: ben.ask("write", text="Ben found the heron.", scope="team")
        )
        await anyio.to_thread.run_sync(lambda: ben.ask("sync"))
        with anyio.fail_after(ARRIVES_WITHIN):
            while "heron" not in json.dumps(await call(client, "memory_search", query="heron")):
                await anyio.sleep(0.1)


@pytest.mark.anyio
async def test_a_serving_process_ends_at_once_while_its_server_hangs(
    server: Server, machines: list[Machine]
) -> None:
    anna, _ = machines
    anna.proxy.hang()
    async with serving(anna) as client:
        await call(client, "memory_write", text="The last words.", scope="team")
        await anyio.sleep(1.0)  # it hangs in a call of the server
        begun = time.monotonic()
    assert time.monotonic() - begun < 10.0
    assert "The last words." in "".join(anna.ask("export"))
