"""Attacks on the page's server, against a real process: it refuses each, and answers afterwards."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratum.config import Settings, load
from stratum.web_security import MAX_BODY, Bucket, _equal, access_for
from stratum.web_server import TOKEN_NAME, token_in
from tests.conftest import make_repository
from tests.web_process import Answer, WebProcess, web

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
SECRET_WORDS = ("root:x:0", "[build-system]", "def serve(", "stratum.db")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path]:
    base = tmp_path_factory.mktemp("attacked")
    (base / "shop").mkdir()
    settings = load({"STRATUM_HOME": str(base / "home"), "STRATUM_EMBED_MODEL": "hashing"})
    return settings, make_repository(base / "shop")


@pytest.fixture(scope="module")
def running(place: tuple[Settings, Path]) -> Iterator[WebProcess]:
    """A server that waits a second for slow clients instead of fifteen."""
    with web(*place, patience=1.0) as server:
        yield server


@pytest.fixture
def server(running: WebProcess) -> Iterator[WebProcess]:
    """The server; whatever a test did to it, it still answers, and no bug was logged."""
    yield running
    assert running.process.poll() is None
    assert running.get("/api/status")["page"]
    assert "Traceback" not in running.log()


def refused(answer: Answer, status: int, code: str) -> None:
    """Check that an answer is a refusal of this kind, with all headers."""
    assert (answer.status, answer.code) == (status, code)
    assert HEADERS.items() <= answer.headers.items()


# who asks


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "127.0.0.1",
        "127.0.0.1:1", "localhost.:{port}", "127.0.0.2:{port}", "[::2]:{port}", "0.0.0.0:{port}",
        "127.0.0.1:{port}@evil.example", "evil.example#127.0.0.1:{port}", "", "2130706433:{port}",
        "127.1:{port}", "127.0.0.1:{port}, evil.example",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/main.js", "/api/status", "/api/session"])
def test_a_foreign_host_is_refused_everywhere(server: WebProcess, host: str, path: str) -> None:
    method = "POST" if path == "/api/session" else "GET"
    refused(server.ask(method, path, host=host.format(port=server.port)), 403, "foreign_host")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "[::1]:{port}"]
)
def test_its_own_names_are_known(server: WebProcess, host: str) -> None:
    assert server.ask("GET", "/api/status", host=host.format(port=server.port)).status == 200


def test_no_host_and_two_hosts_are_refused(server: WebProcess) -> None:
    bearer = f"Authorization: Bearer {server.token}\r\n".encode()
    own = f"Host: 127.0.0.1:{server.port}\r\n".encode()
    for hosts in (b"", own + b"Host: evil.example\r\n", own + own):
        for version in (b"1.1", b"1.0"):
            said = server.raw(
                b"GET /api/status HTTP/%s\r\n" % version + hosts + bearer
                + b"Connection: close\r\n\r\n"
            )  # fmt: skip
            assert said.split(b" ", 2)[1] in (b"400", b"403"), said
            assert b"database" not in said


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:{other}",
        "http://127.0.0.1", "http://localhost:{port}", "file://", "chrome-extension://abc", "",
        "http://127.0.0.1:{port}.evil.example", "http://127.0.0.1:{port}/",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/api/status"), ("POST", "/api/notes"), ("POST", "/api/session")],
)
def test_a_foreign_origin_is_refused_even_with_the_token(
    server: WebProcess, origin: str, method: str, path: str
) -> None:
    sent = origin.format(port=server.port, other=server.port + 1)
    body = {"text": "planted"} if method == "POST" else None
    refused(server.ask(method, path, body, {"Origin": sent}), 403, "foreign_origin")


def cookie_of(server: WebProcess) -> str:
    answer = server.ask("POST", "/api/session")
    assert (answer.status, answer.body) == (204, b"")
    assert HEADERS.items() <= answer.headers.items()
    return answer.headers["set-cookie"].partition(";")[0]


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(server: WebProcess) -> None:
    given = server.ask("POST", "/api/session").headers["set-cookie"]
    parts = {part.strip().lower() for part in given.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= parts
    assert server.token not in given


def test_a_change_by_cookie_needs_our_own_origin(server: WebProcess) -> None:
    cookie = cookie_of(server)
    own = f"http://127.0.0.1:{server.port}"
    note = {"text": "By cookie"}
    without = server.ask("POST", "/api/notes", note, {"Cookie": cookie}, token=False)
    refused(without, 403, "no_origin")
    foreign = {"Cookie": cookie, "Origin": "http://evil.example"}
    refused(server.ask("POST", "/api/notes", note, foreign, token=False), 403, "foreign_origin")
    good = {"Cookie": cookie, "Origin": own}
    assert server.ask("POST", "/api/notes", note, good, token=False).status == 200
    read = server.ask("GET", "/api/notes", headers={"Cookie": cookie}, token=False)
    assert "By cookie" in read.body.decode()


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_browser_says_of_another_site_is_believed(server: WebProcess, site: str) -> None:
    # a cookie that some browser sends along although it is not to be: other ports are "same-site"
    sent = {"Cookie": cookie_of(server), "Sec-Fetch-Site": site}
    refused(server.ask("GET", "/api/notes", headers=sent, token=False), 403, "foreign_origin")


@pytest.mark.parametrize(
    "authorization",
    [
        None, "", "Bearer", "Bearer ", "Bearer x", "Basic {basic}", "Bearer {token}x",
        "Bearer {short}", "bearer{token}", "Token {token}", "Bearer {token} {token}",
        "Bearer \u00e9", "{token}",
    ],
)  # fmt: skip
def test_without_the_whole_token_nothing_is_told(
    server: WebProcess, authorization: str | None
) -> None:
    headers = {}
    if authorization is not None:
        basic = base64.b64encode(f"x:{server.token}".encode()).decode()
        headers["Authorization"] = authorization.format(
            token=server.token, short=server.token[:-1], basic=basic
        )
    for method, path in (
        ("GET", "/api/status"), ("GET", "/api/openapi.json"), ("GET", "/api/events"),
        ("GET", "/api/nothing"), ("GET", "/api"), ("HEAD", "/api/notes"),
    ):  # fmt: skip
        answer = server.ask(method, path, headers=headers, token=False)
        assert answer.status == 401, path
        assert "database" not in answer.body.decode()
    refused(server.ask("GET", "/api/notes", headers=headers, token=False), 401, "unauthorised")
    planted = server.ask("POST", "/api/notes", {"text": "planted"}, headers, token=False)
    assert planted.status in (401, 403)
    session = server.ask("POST", "/api/session", headers=headers, token=False)
    assert session.status in (401, 403)
    assert "set-cookie" not in session.headers


@pytest.mark.parametrize(
    "cookie",
    [
        "stratum=x", "stratum_{port}=", "stratum_{port}=x", "stratum_{port}={token}",
        "stratum_{other}={session}", "stratum_{port}={session}x", "stratum_{port}",
        "=;=;=", "stratum_{port}=\"{session}", "a=b" * 3000,
        "stratum_{port}={session}; stratum_{port}=x",
    ],
)  # fmt: skip
def test_no_other_cookie_opens(server: WebProcess, cookie: str) -> None:
    session = cookie_of(server).partition("=")[2]
    sent = cookie.format(
        port=server.port, other=server.port + 1, token=server.token, session=session
    )
    answer = server.ask("GET", "/api/notes", headers={"Cookie": sent}, token=False)
    refused(answer, 401, "unauthorised")


def test_a_cookie_does_not_stand_for_the_token(server: WebProcess) -> None:
    headers = {"Cookie": cookie_of(server), "Origin": f"http://127.0.0.1:{server.port}"}
    refused(server.ask("POST", "/api/session", headers=headers, token=False), 401, "unauthorised")


def test_a_wrong_token_is_compared_in_constant_time() -> None:
    wanted = "a" * 1_000_000  # so long that a comparison which stops early would show
    early, late = "b" + wanted[1:], wanted[:-1] + "b"
    seconds = {early: 9.0, late: 9.0}
    for _ in range(20):
        for wrong in seconds:
            begun = time.perf_counter()
            assert not _equal(wrong, wanted)
            seconds[wrong] = min(seconds[wrong], time.perf_counter() - begun)
    assert 0.5 < seconds[early] / seconds[late] < 2


# what is asked


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml", "/..%2fpyproject.toml", "/%2e%2e/pyproject.toml",
        "/%2e%2e%2fpyproject.toml", "/..%5cpyproject.toml", "/....//pyproject.toml",
        "/%252e%252e%252fpyproject.toml", "//etc/passwd", "/etc/passwd", "/%2fetc%2fpasswd",
        "/..%c0%af..%c0%afetc/passwd", "/main.js%00.html", "/main.js/../../pyproject.toml",
        "/.git/config", "/.gitignore", "/%2egit/config", "/stratum/web.py", "/..;/pyproject.toml",
        "/file:///etc/passwd", "/./../stratum/web_server.py", "/../web/../stratum/web.py",
        "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/..\\..\\etc\\passwd",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_page(server: WebProcess, path: str) -> None:
    said = server.raw(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Authorization: Bearer {server.token}\r\nConnection: close\r\n\r\n".encode()
    )
    assert said.split(b" ", 2)[1] in (b"400", b"404"), said
    assert not any(word.encode() in said for word in SECRET_WORDS)


def test_no_folder_is_listed_and_no_other_file_is_served(
    server: WebProcess, place: tuple[Settings, Path]
) -> None:
    for path in ("/.", "/./", "//", "/index.html/"):
        answer = server.ask("GET", path)
        assert answer.status in (200, 404)
        assert b"main.js</a>" not in answer.body
    for found in Path(__file__).parent.parent.iterdir():
        assert server.ask("GET", f"/{found.name}").status == 404, found


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PATCH", "CONNECT", "PROPFIND", "GETT"])
@pytest.mark.parametrize("path", ["/", "/api/status"])
def test_other_methods_are_refused(server: WebProcess, method: str, path: str) -> None:
    said = server.raw(
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nX-Echo: sesame\r\n"
        f"Authorization: Bearer {server.token}\r\nConnection: close\r\n\r\n".encode()
    )
    assert said.split(b" ", 2)[1] in (b"400", b"405"), said
    assert b"sesame" not in said
    assert b"access-control-allow" not in said.lower()


def test_a_preflight_gets_no_permission(server: WebProcess) -> None:
    headers = {
        "Origin": "http://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = server.ask("OPTIONS", "/api/notes", headers=headers, token=False)
    assert answer.status in (403, 405)
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_every_answer_has_the_headers(server: WebProcess) -> None:
    for method, path in (
        ("GET", "/"), ("GET", "/main.js"), ("GET", "/none"), ("GET", "/api/status"),
        ("GET", "/api/none"), ("POST", "/api/pack"), ("HEAD", "/"), ("DELETE", "/"),
    ):  # fmt: skip
        answer = server.ask(method, path)
        assert HEADERS.items() <= answer.headers.items(), path
        assert "server" not in answer.headers
        cached = answer.headers.get("cache-control", "")
        assert cached == "no-store" if path.startswith("/api") else "public" not in cached


# how much, how slowly


def test_a_body_beyond_the_bound_is_refused_before_it_is_read(server: WebProcess) -> None:
    head = (
        f"POST /api/notes HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Authorization: Bearer {server.token}\r\nContent-Type: application/json\r\n"
    )
    said = server.raw(f"{head}Content-Length: {10**12}\r\n\r\n".encode())
    assert b" 413 " in said.split(b"\r\n")[0]
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 20
    assert b" 413 " in server.raw(chunked + b"0\r\n\r\n").split(b"\r\n")[0]
    endless = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 1000
    begun = time.monotonic()
    assert b" 200 " not in server.raw(endless)
    assert time.monotonic() - begun < 10
    fits = json.dumps({"task": "x " * 1000}).encode().ljust(MAX_BODY)
    assert server.ask("POST", "/api/pack", fits).status == 200
    assert server.ask("POST", "/api/pack", fits + b" ").status == 413


def test_oversized_headers_and_lines_are_refused(server: WebProcess) -> None:
    host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
    for data in (
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n" + host + b"\r\n",
        b"GET / HTTP/1.1\r\n" + host + b"X-Long: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + host + b"X: y\r\n" * 50_000 + b"\r\n",
    ):
        said = server.raw(data)
        assert said == b"" or said.split(b" ", 2)[1] in (b"400", b"431"), said[:200]


def test_what_is_no_http_is_refused_in_json(server: WebProcess) -> None:
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"\x00" * 1000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello",
    ):  # fmt: skip
        head, _, body = server.raw(data).partition(b"\r\n\r\n")
        assert b" 400 " in head.split(b"\r\n")[0], data
        assert b"content-security-policy" in head.lower()
        assert json.loads(body)["error"]["code"] == "no_http"


def test_two_lengths_do_not_smuggle_a_second_request(server: WebProcess) -> None:
    smuggled = f"POST /api/notes HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n".encode()
    head = (
        f"POST /api/session HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Authorization: Bearer {server.token}\r\nContent-Length: 4\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    ).encode()
    said = server.raw(head + b"0\r\n\r\n" + smuggled)
    assert said.count(b"HTTP/1.1 2") <= 1


def closed_within(server: WebProcess, data: bytes, drip: bytes, seconds: float) -> float:
    """Send `data`, then a bit of `drip` again and again; return after how long it was closed."""
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.2) as connection:
        connection.sendall(data)
        while time.monotonic() - begun < seconds:
            try:
                if drip:
                    connection.sendall(drip)
                if connection.recv(65536) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    return time.monotonic() - begun


def test_a_request_that_drips_in_is_cut_off(server: WebProcess) -> None:
    own = f"POST /api/notes HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n".encode()
    bearer = f"Authorization: Bearer {server.token}\r\nContent-Length: 1000\r\n\r\n".encode()
    for data, drip in ((b"", b""), (b"GET / HT", b""), (own, b"X-A: b\r\n"), (own + bearer, b" ")):
        assert closed_within(server, data, drip, 12) < 10, data


def test_a_reader_that_stops_reading_is_cut_off(settings: Settings, repository: Path) -> None:
    from stratum.memory import Memory

    with Memory(settings, repository) as memory:
        memory.index()
        for number in range(500):
            memory.write(f"{number} {'many words ' * 20}")
    with web(settings, repository, patience=1.0) as server:
        request = (
            f"GET /api/notes?limit=500 HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
            f"Authorization: Bearer {server.token}\r\n\r\n"
        ).encode()
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            for _ in range(200):  # pipelined: more than all buffers on the way can hold
                connection.sendall(request)
            time.sleep(5)
            connection.settimeout(5)
            received = 0
            with contextlib.suppress(OSError):
                while chunk := connection.recv(1 << 20):
                    received += len(chunk)
        whole = len(server.ask("GET", "/api/notes?limit=500").body)
        assert received < 200 * whole
        assert server.get("/api/status")


def test_hundreds_of_idle_connections_do_not_shut_others_out(server: WebProcess) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            opened = socket.create_connection(("127.0.0.1", server.port), timeout=5)
            stack.enter_context(opened)
        time.sleep(5)  # they are cut off
        assert server.get("/api/status")["page"]


def test_a_flood_is_answered_429_and_others_are_let_in(server: WebProcess) -> None:
    statuses: list[int] = []

    def flood() -> None:
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        ) as connection:
            for _ in range(150):
                connection.request("GET", "/api/status")
                answer = connection.getresponse()
                answer.read()
                statuses.append(answer.status)
                if answer.status == 429:
                    assert answer.getheader("Retry-After")

    floods = [threading.Thread(target=flood) for _ in range(6)]
    for one in floods:
        one.start()
    inside = [server.ask("GET", "/api/status").status for _ in range(20)]
    for one in floods:
        one.join()
    assert set(inside) == {200}  # who has the token is counted apart from strangers
    assert set(statuses) == {401, 429}
    time.sleep(1.1)
    assert server.ask("GET", "/api/status", token=False).status == 401


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    bucket = Bucket(rate=1000.0, burst=5.0)
    assert [bucket.take() for _ in range(7)].count(True) in (5, 6)
    time.sleep(0.01)
    assert bucket.take()


def test_a_web_socket_is_no_way_in(server: WebProcess) -> None:
    said = server.raw(
        f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert b" 101 " not in said
    assert said.split(b" ", 2)[1] in (b"400", b"401", b"403")


# what is said


def test_errors_repeat_no_secret_and_no_markup_runs(server: WebProcess) -> None:
    secret = "AKIA" + "Q3EGRTRS7HXNWVPF"
    for path in (f"/api/search?q=x&kind={secret}", f"/api/outline?path={secret}",
                 f"/api/search?q=x&{secret}=1", f"/{secret}"):  # fmt: skip
        answer = server.ask("GET", path)
        assert answer.status in (400, 404)
        assert secret not in answer.body.decode(), path
    script = server.ask("GET", "/api/outline?path=%3Cscript%3Ealert(1)%3C/script%3E")
    assert script.headers["content-type"] == "application/json"


def test_neither_log_nor_process_list_shows_the_token(server: WebProcess) -> None:
    server.get("/api/notes")
    server.ask("GET", f"/api/none?token={server.token}")
    assert server.token not in server.log()
    if Path("/proc").is_dir():
        line = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
        assert server.token.encode() not in line


# beyond this machine


def test_names_of_a_server_for_others() -> None:
    own = access_for("t", 7357, "192.0.2.7")
    assert own.knows_host("192.0.2.7:7357")
    assert not own.knows_host("192.0.2.8:7357")
    everywhere = access_for("t", 7357, "0.0.0.0")  # noqa: S104
    assert everywhere.knows_host("192.0.2.8:7357")
    assert everywhere.knows_host("[2001:db8::1]:7357")
    for name in ("evil.example:7357", "192.0.2.8:80", "192.0.2.8", "192.0.2.8.evil.example:7357"):
        assert not everywhere.knows_host(name), name  # DNS can rebind names, not addresses


def test_allowed_for_others_it_still_wants_the_token(settings: Settings, repository: Path) -> None:
    addresses = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False)
    with web(settings, repository, "--host", "0.0.0.0", "--allow-remote") as server:  # noqa: S104
        assert server.ask("GET", "/api/status", token=False).status == 401
        assert server.ask("GET", "/api/status", host=f"evil.example:{server.port}").status == 403
        for address in addresses.stdout.split()[:1]:
            with contextlib.closing(
                http.client.HTTPConnection(address, server.port, timeout=10)
            ) as connection:
                connection.request("GET", "/api/status")
                assert connection.getresponse().status == 401


def test_the_token_is_kept_where_there_was_no_home_yet(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    token = token_in(home)
    assert token_in(home) == token
    assert (home / TOKEN_NAME).stat().st_mode & 0o077 == 0
    (home / TOKEN_NAME).chmod(0o644)  # others may have read it
    assert token_in(home) != token
