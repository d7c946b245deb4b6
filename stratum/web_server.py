"""The page's server as a process: its socket, its token, the browser, patience with slow clients.

Owns what is below ASGI. Knows nothing of routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import secrets
import socket
import threading
import time
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from stratum.errors import InvalidInput, Unavailable
from stratum.keeper import Keeper
from stratum.web import Extension, build_app
from stratum.web_security import Refused, access_for, error_body, raw_headers

if TYPE_CHECKING:
    from stratum.config import Settings

PORT = 7357
TOKEN_NAME = "web.token"  # noqa: S105 - a file's name
_PORTS_TRIED = 50
MAX_HEADERS = 64 * 1024  # bytes of a request's line and headers
SLOW_SECONDS = 15.0  # in which a request must have come, or what is written be taken
_MOST_CONNECTIONS = 256
_LOOK_SECONDS = 1.0
_LAST_ANSWERS = 3  # seconds that running requests have at the end

log = logging.getLogger(__name__)


class PatientProtocol(H11Protocol):
    """HTTP that does not wait for ever: for a request, for its body, for a reader that stopped."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch the connection."""
        super().connection_made(transport)
        self._waits_for: tuple[str, int] = ("", 0)
        self._since = time.monotonic()
        self._look: asyncio.TimerHandle | None = None
        if len(self.connections) > _MOST_CONNECTIONS:
            transport.abort()
            return
        self._look = self.loop.call_later(_LOOK_SECONDS, self._look_again)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching it."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def _look_again(self) -> None:
        waits_for = self._state(), id(self.cycle)
        if waits_for != self._waits_for or not waits_for[0]:
            self._waits_for, self._since = waits_for, time.monotonic()
        elif time.monotonic() - self._since > SLOW_SECONDS:
            self.transport.abort()
            return
        self._look = self.loop.call_later(_LOOK_SECONDS, self._look_again)

    def _state(self) -> str:
        if self.flow.write_paused:
            return "reader"
        if self.conn.their_state is h11.IDLE:  # between two requests the keep-alive timer counts
            return "request" if self.timeout_keep_alive_task is None else ""
        return "body" if self.conn.their_state is h11.SEND_BODY else ""

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP as every other error is told."""
        body = error_body(Refused(400, "no_http", "That is no HTTP request."))
        length = ("Content-Length", str(len(body)))
        headers = raw_headers(
            [("Content-Type", "application/json"), ("Connection", "close"), length]
        )
        with contextlib.suppress(h11.LocalProtocolError):
            for event in (
                h11.Response(status_code=400, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def serve(
    settings: Settings,
    path: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    allow_remote: bool = False,
    open_browser: bool = True,
    say: Callable[[str], None] = print,
    extend: Callable[[Path], Extension | None] = lambda _: None,
) -> None:
    """Serve the page of the project at `path` until Ctrl-C or SIGTERM.

    Args:
        settings: From `config.load`.
        path: Any file or folder of the project.
        host: The address to listen on.
        port: The port; None takes the first free one from `PORT` on, 0 any.
        allow_remote: Let `host` be an address that others can reach.
        open_browser: Open the page in the browser.
        say: Is told the page's address, token and all.
        extend: Gives more routes for the project's root, or None.

    Raises:
        InvalidInput: `host` is no address of this machine, or one that others can reach.
        Unavailable: No port is free, or the page's files are missing.
        NotInProject: There is no project at `path`.
    """
    check_host(host, allow_remote=allow_remote)
    static = static_folder()
    keeper = Keeper(settings, path)
    root = keeper.open().worktree.root
    with _listening(host, port) as listener:
        number = listener.getsockname()[1]
        access = access_for(token_in(settings.database.parent), number, host)
        app = build_app(keeper, access, static, extend(root))
        config = uvicorn.Config(
            app, http=PatientProtocol, ws="none", loop="asyncio", lifespan="on", log_config=None,
            access_log=False, proxy_headers=False, server_header=False, timeout_keep_alive=30,
            h11_max_incomplete_event_size=MAX_HEADERS, timeout_graceful_shutdown=_LAST_ANSWERS,
        )  # fmt: skip
        url = f"http://{_in_url(host)}:{number}/#token={access.token}"
        server = _Server(config, lambda: _tell(url, say, open_browser=open_browser))
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how it is ended
            server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._told = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then say so."""
        await super().startup(sockets)
        if not self.should_exit:
            self._told()


def _tell(url: str, say: Callable[[str], None], *, open_browser: bool) -> None:
    say(url)
    if open_browser:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def check_host(host: str, *, allow_remote: bool) -> None:
    """Raise InvalidInput for an address that others can reach, unless that is allowed."""
    if host == "localhost" or allow_remote:
        return
    try:
        if ipaddress.ip_address(host).is_loopback:
            return
    except ValueError:
        pass
    raise InvalidInput(
        f"{host} can be reached from other machines. The page has no encryption there: whoever "
        "sees its traffic can read the whole memory, and write into it.",
        hint="Say --allow-remote if that is wanted; better: ssh -L 7357:127.0.0.1:7357 HOST.",
    )


def static_folder() -> Path:
    """Return the folder with the page's files: in the package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "_web", here.parent / "web"):
        if (folder / "index.html").is_file():
            return folder
    raise Unavailable("The page's files are missing.", hint="Install Stratum again.")


def token_in(home: Path) -> str:
    """Return the token that is kept in a home, made when first needed; for its owner only.

    It is kept so that an open page goes on after the server was started anew. Whoever can read it
    can read the database beside it.
    """
    file = home / TOKEN_NAME
    with contextlib.suppress(OSError):
        found = file.read_text(encoding="ascii", errors="replace").strip()
        if len(found) >= 32 and found.isascii() and file.stat().st_mode & 0o077 == 0:
            return found
    token = secrets.token_urlsafe(32)
    part = file.with_name(f"{TOKEN_NAME}.{secrets.token_hex(4)}")
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(token)
        part.replace(file)
    except OSError:  # a home that cannot be written: then the token ends with this server
        log.info("the token could not be kept")
    return token


@contextlib.contextmanager
def _listening(host: str, port: int | None) -> Any:
    ports: Sequence[int] = range(PORT, PORT + _PORTS_TRIED) if port is None else (port,)
    try:
        [family, kind, protocol, _, _] = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"{host!r} is no address of this machine.") from error
    for number in ports:
        listener = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, number))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRNOTAVAIL:
                raise InvalidInput(f"{host} is no address of this machine.") from error
            if error.errno == errno.EACCES or len(ports) == 1:
                raise Unavailable(
                    f"Port {number} cannot be used: {error.strerror}.",
                    hint="Leave --port out, or choose another one.",
                ) from error
            continue
        with listener:
            yield listener
        return
    raise Unavailable(
        f"No port from {PORT} to {ports[-1]} is free.", hint="Choose one with --port."
    )


def _in_url(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - it is compared with, not bound to
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
