"""The page's server as one ASGI application: static files, the API, and what is told as it happens.

Owns routes, threads and the one task that looks whether anything changed. What may be asked is in
`web_api`, who may ask in `web_security`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mimetypes
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from stratum._version import __version__
from stratum.errors import InvalidInput, NotFound, StratumError
from stratum.keeper import Keeper
from stratum.models import CheckReport, Freshness, to_plain
from stratum.web_api import ENDPOINTS, Asked, Endpoint, body_of, description, query_of
from stratum.web_security import (
    METHODS,
    Access,
    Guard,
    Refused,
    error_body,
    error_response,
    to_json,
)

_THREADS = 8  # requests that ask the memory at once
_MOST_WAITING = 64  # and so many that wait for one of these
_MOST_STREAMS = 32  # streams of events at once: tabs, not people
_LOOK_EVERY = 1.0  # seconds between two looks for changes
_STATUS_EVERY = 5  # looks after which the status is made anyway: a branch may have been switched
_CHECK_GAP = 5.0  # seconds, and times what a check takes, between two of them
_RETRY_MS = 1000
_SEND_SECONDS = 30.0
_SHOWN = {
    ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml",
}  # fmt: skip

T = TypeVar("T")

log = logging.getLogger(__name__)
for _suffix, _type in _SHOWN.items():
    mimetypes.add_type(_type, _suffix)  # a system may know none, or a wrong one


class Extension(Protocol):
    """More routes, as those of the benchmark; the checks of `web_security` are made before them."""

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes, with their whole paths."""
        ...

    def live(self) -> int:
        """Return how many runs go on."""
        ...

    def close(self) -> None:
        """Let go of what is open; the server ends."""
        ...


class Pages(StaticFiles):
    """The page's own files, of a few kinds; nothing else that may lie beside them."""

    def lookup_path(self, path: str) -> tuple[str, Any]:
        """Return where a file is, ("", None) for none that is served."""
        path = "index.html" if path in ("", ".") else path
        parts = PurePosixPath(path.replace("\\", "/"))
        if parts.suffix not in _SHOWN or any(part.startswith(".") for part in parts.parts):
            return "", None
        return super().lookup_path(path)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a file; a browser asks each time whether it has changed."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


class Judge:
    """Knows what the last check of all notes has found; runs one at a time."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._lock = threading.Lock()
        self._seconds = 0.0
        self._at = 0.0
        self._pulse: object = None
        self.freshness: Mapping[str, Freshness] = {}

    def check(self) -> CheckReport:
        """Judge all notes now; blocks."""
        with self._lock:
            begun = time.monotonic()
            memory = self._keeper.open()
            pulse = memory.pulse()[0]
            report = memory.check()
            self.freshness, self._pulse = report.freshness, pulse
            self._at = time.monotonic()
            self._seconds = self._at - begun
            return report

    def due(self, pulse: tuple[object, ...]) -> bool:
        """Tell whether something changed since the last check, and it is not too soon."""
        gap = max(_CHECK_GAP, _CHECK_GAP * self._seconds)
        return (
            pulse[0] != self._pulse
            and (not self._at or time.monotonic() - self._at > gap)
            and not self._lock.locked()
        )


class Page:
    """What the routes share: the memory, its threads, and the feed of the status."""

    def __init__(self, keeper: Keeper, extension: Extension | None) -> None:
        self.keeper = keeper
        self.extension = extension
        self.judge = Judge(keeper)
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._own_thread = anyio.CapacityLimiter(1)
        self._changed = asyncio.Condition()
        self._pulse: tuple[object, ...] = ()
        self._state: bytes = b""
        self._event = "status"
        self._number = 0
        self.streams = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Run blocking work in a thread, of which there are few."""
        if self._threads.statistics().tasks_waiting >= _MOST_WAITING:
            raise Refused(429, "too_many", "Too many requests at once.", hint="Wait a second.")
        return await anyio.to_thread.run_sync(work, limiter=self._threads)

    def status(self) -> dict[str, Any]:
        """Return the status of the memory and of this page; blocks."""
        live = self.extension.live() if self.extension is not None else 0
        found: dict[str, Any] = to_plain(self.keeper.open().status())
        return {**found, "page": {"version": __version__, "live_runs": live}}

    async def look(self) -> None:
        """Look for changes as long as the server runs: one task for all who listen."""
        rounds = 0
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if not self.streams:
                continue
            rounds += 1
            try:
                await anyio.to_thread.run_sync(
                    self._look, rounds % _STATUS_EVERY == 0, limiter=self._own_thread
                )
            except Exception:  # a bug must be seen in the log, and may not end the feed
                log.exception("the look for changes failed")
            async with self._changed:
                self._changed.notify_all()

    def _look(self, anyway: bool) -> None:
        try:
            memory = self.keeper.open()
            if anyway:
                memory.keep_up()
            pulse = memory.pulse()
            if not anyway and self._number and pulse == self._pulse:
                return
            self._pulse = pulse
            self._tell("status", to_json(self.status()))
            if self.judge.due(pulse):
                threading.Thread(target=self._check, name="stratum-check", daemon=True).start()
        except StratumError as error:
            self._tell("trouble", error_body(error))

    def _check(self) -> None:
        try:
            self.judge.check()
        except StratumError as error:
            log.info("notes were not checked: %s", error.message)
        except Exception:
            log.exception("notes were not checked")

    def _tell(self, event: str, state: bytes) -> None:
        if (event, state) != (self._event, self._state):
            self._event, self._state = event, state
            self._number += 1

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        """Yield the newest status, now and after each change."""
        self.streams += 1
        try:
            await self.run(lambda: self._look(anyway=True))
            told = 0
            while True:
                told = self._number
                yield ServerSentEvent(
                    self._state.decode(), event=self._event, id=str(told), retry=_RETRY_MS
                )
                async with self._changed:
                    await self._changed.wait_for(lambda: self._number != told)  # noqa: B023
        finally:
            self.streams -= 1


def build_app(
    keeper: Keeper, access: Access, static: Path, extension: Extension | None = None
) -> Starlette:
    """Return the application.

    Args:
        keeper: The memory; it is closed when the application ends.
        access: Who is let in.
        static: The folder with the page's files.
        extension: More routes.
    """
    page = Page(keeper, extension)

    async def session(_: Request) -> Response:
        return access.let_in(Response(status_code=204))

    async def status(request: Request) -> Response:
        _no_parameters(request)
        return _json(await page.run(lambda: to_json(page.status())))

    async def events(request: Request) -> Response:
        _no_parameters(request)
        if page.streams >= _MOST_STREAMS:
            raise Refused(429, "too_many", "Too many pages listen.", hint="Close some tabs.")
        return EventSourceResponse(page.events(), send_timeout=_SEND_SECONDS)

    async def openapi(_: Request) -> Response:
        return _json(await page.run(lambda: to_json(description())))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        threading.Thread(target=keeper.warm_up, name="stratum-warm-up", daemon=True).start()
        looking = asyncio.create_task(page.look())
        yield
        looking.cancel()
        if extension is not None:
            await anyio.to_thread.run_sync(extension.close)
        await anyio.to_thread.run_sync(keeper.close)

    routes: list[BaseRoute] = [
        Route("/api/session", session, methods=["POST"]),
        Route("/api/status", status, methods=["GET"]),
        Route("/api/events", events, methods=["GET"]),
        Route("/api/openapi.json", openapi, methods=["GET"]),
        *(_route(endpoint, page) for endpoint in ENDPOINTS),
        *(extension.routes if extension is not None else ()),
    ]
    paths = dict.fromkeys(route.path for route in routes if isinstance(route, Route))
    app = Starlette(
        routes=[
            *routes,
            *(Route(path, _wrong_method, methods=list(METHODS)) for path in paths),
            Route("/api/{rest:path}", _unknown, methods=list(METHODS)),
            Mount("/", Pages(directory=static)),
        ],
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={HTTPException: _failed},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


def _route(endpoint: Endpoint, page: Page) -> Route:
    async def serve(request: Request) -> Response:
        query = query_of(endpoint.query, request.query_params)
        body = await _body(request, endpoint.body)

        def answer() -> bytes:
            asked = Asked(
                page.keeper.open(), page.judge.check, lambda: page.judge.freshness,
                request.path_params.get("id", ""), query, body,
            )  # fmt: skip
            return to_json(to_plain(endpoint.call(asked)))

        return _json(await page.run(answer))

    return Route(endpoint.path, serve, methods=[endpoint.method])


async def _body(request: Request, shape: Any) -> Any:
    if shape is None:
        return None
    given = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given and kind != "application/json":
        raise Refused(415, "no_json", "The body must be JSON.", hint="Send application/json.")
    return body_of(shape, given)


def _no_parameters(request: Request) -> None:
    if request.query_params:
        raise InvalidInput("Nothing can be asked for here.", hint="Leave the parameters out.")


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


async def _unknown(request: Request) -> Response:
    raise NotFound("The API has no such address.", hint="/api/openapi.json lists them all.")


async def _wrong_method(request: Request) -> Response:
    raise Refused(405, "method", f"This address does not take {request.method}.")


async def _failed(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        return error_response(NotFound("There is no such page.", hint="The page begins at /."))
    if status == 405:
        return error_response(Refused(405, "method", "Files can only be read."))
    return error_response(Refused(status, "refused", "The request makes no sense."))
