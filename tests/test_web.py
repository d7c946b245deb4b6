"""The page's server and its API over the memory: a real process, a real database, a real git."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratum.config import Settings, load
from stratum.memory import Memory
from stratum.store import open_store
from tests.conftest import git, make_repository
from tests.web_process import WebProcess, environment, until, web


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path]:
    """Settings and a repository that all tests of this file share."""
    base = tmp_path_factory.mktemp("web")
    (base / "shop").mkdir()
    settings = load(
        {
            "STRATUM_HOME": str(base / "home"),
            "STRATUM_EMBED_MODEL": "hashing",
            "STRATUM_AUTHOR": "Ada",
        }
    )
    return settings, make_repository(base / "shop")


@pytest.fixture(scope="module")
def server(place: tuple[Settings, Path]) -> Iterator[WebProcess]:
    settings, root = place
    with Memory(settings, root) as memory:
        memory.index()
    with web(settings, root) as running:
        yield running


def write(server: WebProcess, text: str, **more: object) -> str:
    """Write a note over the API; return its id."""
    return str(server.post("/api/notes", {"text": text, **more})["note"]["id"])


def test_the_command_prints_one_line_with_the_address(server: WebProcess) -> None:
    assert server.line == f"http://127.0.0.1:{server.port}/#token={server.token}\n"
    assert len(server.token) >= 43  # 256 bits


def test_the_page_comes_as_files_with_their_types(server: WebProcess) -> None:
    index = server.ask("GET", "/", token=False)
    assert index.status == 200
    assert index.headers["content-type"].startswith("text/html")
    script = server.ask("GET", "/main.js", token=False)
    assert script.headers["content-type"].startswith("text/javascript")
    again = server.ask("GET", "/", headers={"If-None-Match": index.headers["etag"]}, token=False)
    assert again.status == 304


def test_the_status_says_what_the_memory_holds(server: WebProcess) -> None:
    status = server.get("/api/status")
    assert status["counts"]["files"] == 5
    assert status["branch"] == "main"
    assert status["page"] == {"version": status["version"], "live_runs": 0}


def test_a_search_finds_code_and_explains_itself(server: WebProcess) -> None:
    found = server.get("/api/search?q=expire+old+carts&limit=3&explain=true&mode=lexical")
    assert found["mode"] == "lexical"
    assert found["hits"][0]["title"] == "expire_old_carts"
    assert found["hits"][0]["why"]
    code = server.get("/api/search?q=cart&path=web&stratum=code")
    assert {hit["path"] for hit in code["hits"]} == {"web/render.js"}


def test_a_note_is_written_found_listed_and_opened(server: WebProcess) -> None:
    id_ = write(
        server, "Carts vanish at night", kind="gotcha", tags=["cron"],
        anchors=["shop/cart.py::expire_old_carts"],
    )  # fmt: skip
    listed = next(row for row in server.get("/api/notes")["notes"] if row["id"] == id_)
    assert listed["text"] == "Carts vanish at night"
    assert (listed["path"], listed["symbol"]) == ("shop/cart.py", "expire_old_carts")
    assert (listed["tags"], listed["kind"], listed["superseded"]) == (["cron"], "gotcha", False)
    detail = server.get(f"/api/notes/{id_}")
    assert detail["entry"]["freshness"] == "fresh"
    [source] = detail["sources"]
    assert source["path"] == "shop/cart.py"
    assert source["lines"][0] == "def expire_old_carts(carts, now):"
    assert (source["start_line"], source["end_line"], source["truncated"]) == (19, 21, False)
    assert [(event["verb"], event["author"]) for event in detail["history"]] == [("write", "Ada")]
    hits = server.get("/api/search?q=carts+vanish&stratum=notes")["hits"]
    assert id_ in [hit["id"] for hit in hits]


def test_decisions_are_made_and_taken_back(server: WebProcess) -> None:
    id_ = write(server, "Prices are in cents")

    def trust() -> str:
        return str(server.get(f"/api/notes/{id_}")["entry"]["note"]["trust"])

    assert server.post(f"/api/notes/{id_}/accept")["action"] == "accepted"
    assert trust() == "accepted"
    server.post(f"/api/notes/{id_}/accept", {"undo": True})
    assert trust() == "proposed"
    server.post(f"/api/notes/{id_}/reject")
    assert id_ in [row["id"] for row in server.get("/api/notes?state=rejected")["notes"]]
    server.post(f"/api/notes/{id_}/reject", {"undo": True})
    server.post(f"/api/notes/{id_}/forget")
    assert id_ in [row["id"] for row in server.get("/api/notes?state=forgotten")["notes"]]
    assert id_ not in [row["id"] for row in server.get("/api/notes?state=living")["notes"]]
    assert server.get(f"/api/notes/{id_}")["entry"]["note"]["deleted_at"]
    server.post(f"/api/notes/{id_}/forget", {"undo": True})
    detail = server.get(f"/api/notes/{id_}")
    assert [event["verb"] for event in detail["history"]] == [
        "restore", "forget", "unreject", "reject", "unaccept", "accept", "write",
    ]  # fmt: skip


def test_an_edit_is_a_note_that_supersedes_another(server: WebProcess) -> None:
    old = write(server, "The till opens at eight")
    new = write(server, "The till opens at nine", supersedes=old)
    assert server.get(f"/api/notes/{old}")["successors"] == [new]
    assert server.get(f"/api/notes/{new}")["supersedes"] == old
    assert old in [row["id"] for row in server.get("/api/notes?state=superseded")["notes"]]


def test_a_stale_note_is_told_as_such_until_it_is_verified(
    server: WebProcess, place: tuple[Settings, Path]
) -> None:
    file = place[1] / "shop" / "session.py"
    before = file.read_text(encoding="utf-8")
    id_ = write(server, "Expired rows are kept", anchors=["shop/session.py::SessionStore.load"])
    assert server.post("/api/freshness", {"ids": [id_]}) == {"freshness": {id_: "fresh"}}
    try:
        file.write_text(before.replace("self.rows[key]", "self.rows.get(key)"), encoding="utf-8")
        assert server.post("/api/freshness", {"ids": [id_]}) == {"freshness": {id_: "changed"}}
        report = server.get("/api/check")
        assert report["freshness"][id_] == "changed"
        assert [hit["id"] for hit in report["stale"]] == [id_]
        found = server.get("/api/search?q=expired+rows&stratum=notes")
        assert id_ not in [hit["id"] for hit in found["hits"]]
        assert found["withheld_stale"] >= 1
        [node] = [node for node in server.get("/api/map?path=shop")["nodes"]
                  if node["name"] == "session.py"]  # fmt: skip
        assert (node["notes"], node["stale"], node["fresh"], node["unknown"]) == (1, 1, 0, 0)
        assert server.post(f"/api/notes/{id_}/verify")["action"] == "verified"
        assert server.post("/api/freshness", {"ids": [id_]}) == {"freshness": {id_: "fresh"}}
        history = server.get(f"/api/notes/{id_}")["history"]
        assert history[0]["verb"] == "verify"
        assert history[0]["text"] == "at 1 place"
    finally:
        file.write_text(before, encoding="utf-8")


def test_secrets_are_masked_before_a_note_is_kept(server: WebProcess) -> None:
    secret = "AKIA" + "Q3EGRTRS7HXNWVPF"
    written = server.post("/api/notes", {"text": f"The key is {secret} for now"})
    assert written["redactions"]
    assert secret not in json.dumps(server.get("/api/notes?limit=500"))


def test_pages_of_notes_join_without_gap_or_repetition(server: WebProcess) -> None:
    for number in range(7):
        write(server, f"Page filler number {number}")
    whole = [row["id"] for row in server.get("/api/notes?limit=500")["notes"]]
    paged: list[str] = []
    while len(paged) < len(whole):
        page = server.get(f"/api/notes?limit=3&offset={len(paged)}")
        assert page["total"] == len(whole)
        paged += [row["id"] for row in page["notes"]]
    assert paged == whole
    oldest = [row["id"] for row in server.get("/api/notes?limit=500&order=oldest")["notes"]]
    assert oldest == whole[::-1]
    beyond = server.get("/api/notes?offset=100000")
    assert (beyond["notes"], beyond["total"]) == ([], len(whole))


def test_a_long_text_is_one_short_line_in_a_list(server: WebProcess) -> None:
    write(server, "Long\n" * 500)
    text = server.get("/api/notes?limit=1")["notes"][0]["text"]
    assert len(text) <= 200
    assert "\n" not in text


def test_what_was_shown_is_counted_by_who_saw_it(
    server: WebProcess, place: tuple[Settings, Path]
) -> None:
    settings, root = place
    id_ = write(server, "Umbrellas are sold by weight")
    # what the page itself asks for while somebody types does not count
    assert server.get("/api/search?q=umbrellas+sold+by+weight")["hits"]
    assert id_ in server.post("/api/pack", {"task": "umbrellas sold by weight"})["notes"]
    settled = server.get("/api/notes?limit=1")["notes"][0]
    assert (settled["id"], settled["uses"]) == (id_, 0)
    for words in (["search", "umbrellas"], ["pack", "umbrellas by weight"], ["get", id_]):
        subprocess.run(
            [sys.executable, "-m", "stratum", *words], cwd=root, env=environment(settings),
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip

    def uses() -> dict[str, int]:
        counted = server.get(f"/api/notes/{id_}")["uses"]
        return {use["agent"]: use["count"] for use in counted}

    assert until(lambda: "page" in uses())
    assert uses()["command line"] == 3
    row = next(row for row in server.get("/api/notes?order=most_used")["notes"] if row["id"] == id_)
    assert row["uses"] >= 4


def test_a_pack_keeps_its_budget_and_says_what_it_tells(server: WebProcess) -> None:
    id_ = write(server, "Gift cards cannot buy gift cards", anchors=["shop/cart.py"])
    packed = server.post("/api/pack", {"task": "gift cards in the cart", "budget": 300})
    assert packed["receipt"]["tokens_used"] <= 300
    assert id_ in packed["notes"]
    small = server.post("/api/pack", {"task": "gift cards in the cart", "budget": 40})
    assert small["receipt"]["tokens_used"] <= 40


def test_the_map_sums_up_what_lies_below(server: WebProcess) -> None:
    root = server.get("/api/map")
    shop = next(node for node in root["nodes"] if node["name"] == "shop")
    inside = server.get("/api/map?path=shop")
    for figure in ("files", "symbols", "bytes"):
        assert shop[figure] == sum(node[figure] for node in inside["nodes"]) > 0
        assert root["totals"][figure] == sum(node[figure] for node in root["nodes"])
    assert shop["notes"] <= sum(node["notes"] for node in inside["nodes"])
    assert inside["totals"]["notes"] == shop["notes"]
    both = write(server, "Both files know", anchors=["shop/cart.py", "shop/session.py"])
    after = server.get("/api/map?path=shop")
    assert after["totals"]["notes"] == shop["notes"] + 1  # once, though it has two places
    assert sum(node["notes"] for node in after["nodes"]) == 2 + sum(
        node["notes"] for node in inside["nodes"]
    )
    server.post(f"/api/notes/{both}/forget")
    assert server.ask("GET", "/api/map?path=nowhere").status == 404


def test_an_outline_lists_symbols(server: WebProcess) -> None:
    found = server.get("/api/outline?path=shop/cart.py")
    assert "Cart.total_price" in [symbol["name"] for symbol in found["symbols"]]
    assert server.get("/api/outline?path=shop")["files"] == ["shop/cart.py", "shop/session.py"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/search", None, 400),
        ("GET", "/api/search?q=", None, 400),
        ("GET", "/api/search?q=cart&limit=0", None, 400),
        ("GET", "/api/search?q=cart&limt=1", None, 400),
        ("GET", "/api/search?q=cart&stratum=soil", None, 400),
        ("GET", "/api/notes?state=asleep", None, 400),
        ("GET", "/api/notes?offset=-1", None, 400),
        ("GET", "/api/notes/aaaaaaaaaaaa", None, 404),
        ("GET", "/api/notes/..%2f..%2fetc", None, 404),
        ("GET", "/api/outline?path=../../etc/passwd", None, 400),
        ("GET", "/api/outline?path=/etc/passwd", None, 400),
        ("GET", "/api/outline?path=gone.py", None, 404),
        ("GET", "/api/map?path=../..", None, 400),
        ("GET", "/api/nothing", None, 404),
        ("GET", "/nothing.js", None, 404),
        ("GET", "/api", None, 404),
        ("POST", "/api/notes", {"text": ""}, 400),
        ("POST", "/api/notes", {"text": "x", "colour": "red"}, 400),
        ("POST", "/api/notes", {"text": "x", "anchors": ["gone.py"]}, 404),
        ("POST", "/api/notes", {"text": 5}, 400),
        ("POST", "/api/notes", ["text"], 400),
        ("POST", "/api/notes", b"{", 400),
        ("POST", "/api/notes", b"[" * 100_000, 400),
        ("POST", "/api/notes", b'{"text": "\\ud800"}', 400),
        ("POST", "/api/freshness", {"ids": ["aaaaaaaaaaaa"] * 201}, 400),
        ("POST", "/api/pack", {"task": "x", "budget": -1}, 400),
        ("POST", "/api/pack", {"task": "cart", "budget": True}, 400),
        ("POST", "/api/status", {}, 405),
        ("DELETE", "/api/notes/aaaaaaaaaaaa", None, 405),
        ("PUT", "/", None, 405),
    ],
)
def test_what_makes_no_sense_is_told_in_words(
    server: WebProcess, method: str, path: str, body: object, status: int
) -> None:
    answer = server.ask(method, path, body)
    assert answer.status == status, answer
    error = answer.json["error"]
    assert {"code", "message", "hint", "retryable"} <= error.keys()
    assert error["message"].endswith((".", "?"))
    assert "Traceback" not in answer.body.decode()


def test_a_body_must_say_that_it_is_json(server: WebProcess) -> None:
    answer = server.ask("POST", "/api/notes", b'{"text": "x"}', {"Content-Type": "text/plain"})
    assert (answer.status, answer.code) == (415, "no_json")


def test_head_answers_as_get_does_without_a_body(server: WebProcess) -> None:
    for path in ("/", "/api/status", "/api/notes"):
        answer = server.ask("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")


# events


def test_events_begin_with_the_state_and_tell_of_changes(server: WebProcess) -> None:
    with server.events() as events:
        first = next(events)
        assert (first.name, first.json["counts"]["files"]) == ("status", 5)
        before = first.json["counts"]["notes"]
        write(server, "Told at once")
        changed = next(event for event in events if event.json["counts"]["notes"] == before + 1)
        assert int(changed.id) > int(first.id)


def test_edits_are_seen_without_a_search_while_somebody_looks(
    server: WebProcess, place: tuple[Settings, Path]
) -> None:
    added = place[1] / "shop" / "added.py"
    try:
        with server.events() as events:
            assert next(events).json["counts"]["files"] == 5
            added.write_text("def added():\n    return 1\n", encoding="utf-8")
            assert next(e for e in events if e.json["counts"]["files"] == 6)
    finally:
        added.unlink()


def test_many_listen_and_a_bound_is_said(server: WebProcess) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(32):
            assert next(stack.enter_context(server.events())).name == "status"
        answer = server.ask("GET", "/api/events")
        assert (answer.status, answer.code) == (429, "too_many")
    assert until(lambda: _can_listen(server))


def _can_listen(server: WebProcess) -> bool:
    try:
        with server.events() as events:
            return next(events).name == "status"
    except AssertionError:
        return False


def test_the_map_is_judged_once_somebody_listens(settings: Settings, repository: Path) -> None:
    with Memory(settings, repository) as memory:
        memory.index()
        memory.write("Known", anchors=["shop/cart.py"])
    with web(settings, repository) as server:
        assert server.get("/api/map")["totals"]["unknown"] == 1
        with server.events() as events:
            next(events)
            totals = until(lambda: _judged(server))
    assert (totals["fresh"], totals["unknown"]) == (1, 0)


def _judged(server: WebProcess) -> dict[str, int] | None:
    totals: dict[str, int] = server.get("/api/map")["totals"]
    return None if totals["unknown"] else totals


# what lines of source are shown


def test_only_lines_of_files_of_the_project_are_shown(
    settings: Settings, repository: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text("PASSPHRASE = 'open sesame'\n", encoding="utf-8")
    (repository / "linked.py").symlink_to(outside)
    (repository / ".gitignore").write_text("private.py\n", encoding="utf-8")
    (repository / "private.py").write_text("PASSPHRASE = 'open sesame'\n", encoding="utf-8")
    with Memory(settings, repository) as memory:
        memory.index()
        lines = []
        for number, path in enumerate(("private.py", "linked.py", ".git/config")):
            [line] = [line for line in _export(memory, f"Hostile {number}") if f" {number}" in line]
            plain = json.loads(line)
            plain["id"] = "hostile22" + "abc"[number] * 3
            plain["anchors"] = [{"path": path}]
            lines.append(json.dumps(plain))
        assert memory.import_(lines).created == 3
    with web(settings, repository) as server:
        for letter in "abc":
            detail = server.get(f"/api/notes/hostile22{letter * 3}")
            assert detail["sources"] == [], detail
            assert "sesame" not in json.dumps(detail)


def _export(memory: Memory, text: str) -> list[str]:
    written = memory.write(text)
    lines = list(memory.export())[1:]
    memory.forget(written.note.id)
    return lines


def test_secrets_in_source_are_masked_and_long_places_are_cut(
    settings: Settings, repository: Path
) -> None:
    secret = "AKIA" + "Q3EGRTRS7HXNWVPF"
    body = "".join(f"    x{number} = {number}\n" for number in range(200))
    (repository / "big.py").write_text(
        f"def big():\n    key = '{secret}'\n{body}", encoding="utf-8"
    )
    with Memory(settings, repository) as memory:
        memory.index()
        id_ = memory.write("Big", anchors=["big.py::big"]).note.id
    with web(settings, repository) as server:
        [source] = server.get(f"/api/notes/{id_}")["sources"]
    assert source["truncated"]
    assert len(source["lines"]) < 100
    assert source["end_line"] - source["start_line"] + 1 == len(source["lines"])
    assert secret not in json.dumps(source)


# begin and end


def test_a_page_goes_on_after_the_server_was_killed_and_started_again(
    settings: Settings, repository: Path
) -> None:
    with web(settings, repository) as first:
        answer = first.ask("POST", "/api/session")
        assert answer.status == 204
        cookie = answer.headers["set-cookie"].partition(";")[0]
        first.stop(signal.SIGKILL)
    with web(settings, repository, "--port", str(first.port)) as second:
        assert second.token == first.token
        again = second.ask("GET", "/api/status", headers={"Cookie": cookie}, token=False)
        assert again.status == 200


def test_ctrl_c_ends_it_quietly_although_somebody_listens(
    settings: Settings, repository: Path
) -> None:
    server = WebProcess(settings, repository, "--port", "0")
    with server.events() as events:
        next(events)
        assert server.stop(signal.SIGINT) == 0
    assert "Traceback" not in server.log()
    assert "exception" not in server.log().lower()


def test_without_a_port_the_next_free_one_is_taken(settings: Settings, repository: Path) -> None:
    with web(settings, repository) as first:
        done = _command(settings, repository, "--port", str(first.port))
    assert done.returncode == 4
    assert "cannot be used" in done.stderr
    with contextlib.closing(socket.socket()) as taken:
        with contextlib.suppress(OSError):  # somebody else may have it
            taken.bind(("127.0.0.1", 7357))
            taken.listen()
        server = WebProcess(settings, repository)
        try:
            assert server.port > 7357
            assert server.get("/api/status")["counts"]
        finally:
            server.stop()


def _command(settings: Settings, root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stratum", "web", "--no-open", *words], cwd=root,
        env=environment(settings), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])  # noqa: S104
def test_an_address_that_others_reach_is_refused(
    settings: Settings, repository: Path, host: str
) -> None:
    done = _command(settings, repository, "--host", host)
    assert done.returncode == 2
    assert "other machines" in done.stderr
    assert "--allow-remote" in done.stderr


def test_an_address_of_another_machine_is_no_traceback(
    settings: Settings, repository: Path
) -> None:
    done = _command(settings, repository, "--host", "192.0.2.1", "--allow-remote")
    assert done.returncode == 2
    assert "no address of this machine" in done.stderr


def test_outside_of_a_project_the_command_says_so(settings: Settings, tmp_path: Path) -> None:
    done = _command(settings, tmp_path, "-C", "/")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_broken_database_is_an_outage_and_no_empty_memory(
    settings: Settings, repository: Path
) -> None:
    settings.database.parent.mkdir(parents=True)
    settings.database.write_bytes(b"this is no database" * 1000)
    with web(settings, repository) as server:
        for path in ("/api/status", "/api/notes", "/api/search?q=cart", "/api/map", "/api/check"):
            answer = server.ask("GET", path)
            assert (answer.status, answer.code) == (503, "store_unavailable"), path
        with server.events() as events:
            trouble = next(events)
        assert (trouble.name, trouble.json["error"]["code"]) == ("trouble", "store_unavailable")


def test_reads_go_on_while_another_process_holds_the_write_lock(
    settings: Settings, repository: Path
) -> None:
    with Memory(settings, repository) as memory:
        memory.index()
        memory.write("Still there")
    with web(settings, repository) as server:
        until(lambda: server.get("/api/status")["indexed_at"])
        store = open_store(settings.database)
        with contextlib.closing(store), store.transaction():
            assert server.get("/api/notes")["total"] == 1
            assert server.get("/api/status")["counts"]["notes"] == 1


def test_a_first_visit_indexes_by_itself(settings: Settings, repository: Path) -> None:
    with web(settings, repository) as server, server.events() as events:
        ready = next(e for e in events if e.json["indexed_at"] and not e.json["indexing"])
        assert ready.json["counts"]["files"] == 5
    assert git(repository, "status", "--porcelain") == ""


def test_the_token_is_for_its_owner_only(settings: Settings, repository: Path) -> None:
    file = settings.database.parent / "web.token"
    with web(settings, repository) as server:
        first = server.token
        assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)  # others may have read it
    with web(settings, repository) as server:
        assert server.token != first
        assert file.stat().st_mode & 0o777 == 0o600
