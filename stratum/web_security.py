"""Who may ask the page's server for what: one ASGI middleware before everything else.

Owns the checks of Host, Origin and token, the bounds of bodies and rates, the headers of every
answer and the shape of every error. Knows nothing of what the routes do.

A page in any browser can send requests to 127.0.0.1. What keeps it out: a name that is not ours
(DNS rebinding) is refused by the Host; another site by the Origin, by Sec-Fetch-Site and by a
cookie that is never sent along (SameSite=Strict); and nobody reads anything without the token,
which is only in the URL that the command prints.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stratum.errors import Claimed, InvalidInput, NotFound, StratumError, Unavailable
from stratum.redact import redact_said

MAX_BODY = 512 * 1024  # bytes: room for the longest task, with every character escaped
# Of a larger one so much is read and thrown away: who is still writing does not read a refusal.
MOST_DISCARDED = 16 * MAX_BODY
BODY_SECONDS = 20.0  # in which a body must have come
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
_CHANGING = ("POST", "PUT", "DELETE")
# Requests a second that are answered, and how many at once: a page that scrolls sends ten.
KNOWN_RATE, KNOWN_BURST = 100.0, 400.0
STRANGER_RATE, STRANGER_BURST = 50.0, 200.0
SESSION = "/api/session"
_API = "/api/"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_STATUS = ((InvalidInput, 400), (NotFound, 404), (Claimed, 409), (Unavailable, 503))
_OPEN_AGAIN = "Open the page by the address that `stratum web` has printed."

log = logging.getLogger(__name__)


class Refused(StratumError):
    """A request that is not let in. `status` is the HTTP status, `code` names it for programs."""

    def __init__(self, status: int, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.retryable = status in (408, 429)


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in: the names this server is known by, and the token.

    `hosts` are in lower case with their port, as in a Host header. `any_address` lets every
    numeric address in as a Host, for a server that listens on all of them: a numeric address
    cannot be rebound by DNS.
    """

    token: str = field(repr=False)
    port: int
    hosts: frozenset[str]
    any_address: bool = False

    @property
    def cookie(self) -> str:
        """The cookie's name. Cookies know no ports, so the port is part of it."""
        return f"stratum_{self.port}"

    @property
    def session(self) -> str:
        """The cookie's value: it proves the token without giving it away."""
        return hmac.new(
            self.token.encode(), f"session:{self.port}".encode(), hashlib.sha256
        ).hexdigest()

    def knows_host(self, host: str) -> bool:
        """Tell whether a Host header names this server."""
        host = host.lower()
        if host in self.hosts:
            return True
        name, separator, port = host.rpartition(":")
        return self.any_address and bool(separator) and port == str(self.port) and _is_address(name)

    def knows_bearer(self, headers: Headers) -> bool:
        """Tell whether a request carries the token; takes as long for any wrong one."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and _equal(given.strip(), self.token)

    def knows_cookie(self, headers: Headers) -> bool:
        """Tell whether a request carries the cookie."""
        given = SimpleCookie()
        try:
            given.load(headers.get("cookie", ""))
        except CookieError:
            return False
        found = given.get(self.cookie)
        return found is not None and _equal(found.value, self.session)

    def let_in(self, response: Response) -> Response:
        """Give an answer the cookie by which the next requests are known."""
        response.set_cookie(
            self.cookie, self.session, httponly=True, samesite="strict", path="/", secure=False
        )
        return response


def access_for(token: str, port: int, host: str = "127.0.0.1") -> Access:
    """Return who is let in by a server that listens on `host`; a wildcard stands for all names."""
    names = {"127.0.0.1", "localhost", "[::1]"}
    wildcard = host in ("0.0.0.0", "::", "")  # noqa: S104 - it is compared with, not bound to
    if not wildcard:
        names.add(f"[{host}]" if ":" in host else host.lower())
    known = {f"{name}:{port}" for name in names}
    if port == 80:
        known |= names  # browsers leave the scheme's own port out
    return Access(token, port, frozenset(known), any_address=wildcard)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


class Bucket:
    """A bound on how often something happens: `rate` a second, `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, time.monotonic()

    def take(self) -> bool:
        """Take one; return whether there was one."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Guard:
    """The middleware: refuses, or hands on a request whose body has come whole.

    Every answer gets the headers. Every error, a bug too, becomes JSON of one shape.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._known = Bucket(KNOWN_RATE, KNOWN_BURST)
        self._strangers = Bucket(STRANGER_RATE, STRANGER_BURST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send)
        try:
            self._check(scope)
            body = await _read(scope, receive)
            await self._app(scope, _replayed(body, receive), answer.send)
        except StratumError as error:
            await answer.fail(error)
        except Exception:
            log.exception("a request failed")
            await answer.fail(
                Refused(500, "bug", "Stratum failed: this is a bug.", hint="The log has more.")
            )

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._access.knows_host(hosts[0]):
            raise Refused(
                403, "foreign_host", "This server is not known by that name.", hint=_OPEN_AGAIN
            )
        method, path = scope["method"], scope["path"]
        is_api = path.startswith(_API) or path == _API.rstrip("/")
        bearer = self._access.knows_bearer(headers)
        known = bearer or self._access.knows_cookie(headers)
        if not (self._known if known else self._strangers).take():
            raise Refused(429, "too_many", "Too many requests at once.", hint="Wait a second.")
        if method not in METHODS:
            raise Refused(405, "method", f"{' and '.join(METHODS)} are answered, nothing else.")
        self._check_origin(headers, method, hosts[0], bearer=bearer, is_api=is_api)
        if is_api and not (bearer if path == SESSION else known):
            raise Refused(
                401, "unauthorised", "The page is not opened by its address with the token.",
                hint=_OPEN_AGAIN,
            )  # fmt: skip

    @staticmethod
    def _check_origin(
        headers: Headers, method: str, host: str, *, bearer: bool, is_api: bool
    ) -> None:
        origins = headers.getlist("origin")
        if any(origin.lower() != f"http://{host.lower()}" for origin in origins):
            raise Refused(403, "foreign_origin", "Another site sent this request.")
        if is_api and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise Refused(403, "foreign_origin", "Another site sent this request.")
        if method in _CHANGING and not origins and not bearer:
            raise Refused(
                403, "no_origin", "A request that changes something must say where it comes from.",
                hint="Send an Origin, or the token as `Authorization: Bearer`.",
            )  # fmt: skip


async def _read(scope: Scope, receive: Receive) -> bytes:
    """Return a request's whole body, bounded in size and in time."""
    headers = Headers(scope=scope)
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MOST_DISCARDED:
        raise _too_large()
    if not declared and "transfer-encoding" not in headers:
        return b""
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "gone", "The client went away.")
                size += len(message.get("body", b""))
                if size <= MAX_BODY:
                    body += message.get("body", b"")
                more = message.get("more_body", False) and size <= MOST_DISCARDED
    except TimeoutError:
        raise Refused(
            408, "too_slow", f"The body did not come within {BODY_SECONDS:.0f} seconds."
        ) from None
    if size > MAX_BODY:
        raise _too_large()
    return bytes(body)


def _too_large() -> Refused:
    return Refused(
        413, "too_large", f"The body is larger than {MAX_BODY // 1024} KB.", hint="Send less."
    )


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already, then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


class _Answer:
    """One answer on its way out: adds the headers, and knows whether it has begun."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            if self._scope["path"].startswith(_API):
                headers["Cache-Control"] = "no-store"
        await self._send(message)

    async def fail(self, error: StratumError) -> None:
        """Answer with an error; one that comes after the answer has begun ends the connection."""
        if self._begun:
            raise error
        response = error_response(error)
        if isinstance(error, Refused) and error.status in (408, 413):
            response.headers["Connection"] = "close"  # what is left of the body is not waited for
        await response(self._scope, _nothing, self.send)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def error_response(error: StratumError) -> Response:
    """Return an error as every route answers it: its status, and JSON with a secret masked."""
    response = Response(error_body(error), status_of(error), media_type="application/json")
    if response.status_code == 429:
        response.headers["Retry-After"] = "1"
    if response.status_code == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="stratum"'
    if response.status_code == 405:
        response.headers["Allow"] = ", ".join(METHODS)
    return response


def error_body(error: StratumError) -> bytes:
    """Return an error as JSON: {"error": {code, message, hint, retryable}}."""
    return to_json({"error": redact_said(error.to_dict())})


def status_of(error: StratumError) -> int:
    """Return the HTTP status that an error is answered with."""
    if isinstance(error, Refused):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def to_json(plain: Any) -> bytes:
    """Return plain data as JSON; half a surrogate pair, which no UTF-8 can hold, becomes "?"."""
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def raw_headers(extra: Iterable[tuple[str, str]] = ()) -> list[tuple[bytes, bytes]]:
    """Return the headers of every answer as bytes, for one that is made below ASGI."""
    return [(k.lower().encode(), v.encode()) for k, v in (*HEADERS.items(), *extra)]
