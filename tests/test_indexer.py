from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stratum import Memory, Settings, indexer, tree
from stratum.models import Filters, Progress
from tests.conftest import SAMPLE, git, make_repository

TOKEN = "ghp_" + "Q7w6" * 9


def titles(memory: Memory, query: str, **filters: str) -> list[str]:
    found = memory.search(query, filters=Filters(**filters), mode="lexical", limit=20)
    return [hit.title for hit in found.hits]


def test_files_and_symbols_are_indexed_with_their_lines(memory: Memory) -> None:
    hit = memory.search("expire old carts", mode="lexical").hits[0]
    assert (hit.title, hit.kind) == ("expire_old_carts", "function")
    assert (hit.path, hit.start_line, hit.end_line) == ("shop/cart.py", 19, 21)
    assert hit.text == (
        "def expire_old_carts(carts, now) - Drop the carts that nobody has touched for a day."
    )


def test_a_file_without_grammar_is_found_by_its_words(settings: Settings, tmp_path: Path) -> None:
    root = make_repository(tmp_path / "r", {"deploy.conf": "worker_connections 1024;\n"})
    with Memory(settings, root) as memory:
        memory.index()
        assert titles(memory, "worker_connections") == ["deploy.conf"]


def test_translations_are_found_by_their_path_only(settings: Settings, tmp_path: Path) -> None:
    files = {"locale/de/messages.po": 'msgid "cart"\nmsgstr "Wagen"\n', "a.txt": "Wagen\n"}
    with Memory(settings, make_repository(tmp_path / "r", files)) as memory:
        memory.index()
        assert titles(memory, "Wagen") == ["a.txt"]
        assert titles(memory, "locale de messages") == ["locale/de/messages.po"]


def test_a_second_run_reads_nothing_again(memory: Memory) -> None:
    report = memory.index()
    assert (report.parsed, report.removed) == (0, 0)
    assert report.files == len(SAMPLE)


def test_only_the_edited_file_is_parsed(memory: Memory, repository: Path) -> None:
    path = repository / "shop" / "session.py"
    path.write_text(path.read_text() + "\n\ndef revoke_session(key):\n    pass\n")
    assert memory.index().parsed == 1
    assert titles(memory, "revoke session")[0] == "revoke_session"


def test_an_edit_within_one_tick_of_the_clock_is_noticed(memory: Memory, repository: Path) -> None:
    path = repository / "shop" / "session.py"
    before = path.stat()
    path.write_text(path.read_text().replace("expired", "elapsed"))
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    memory.index()
    assert "SessionStore.delete_elapsed" in titles(memory, "elapsed")


def test_an_edit_that_keeps_size_and_time_is_noticed(
    memory: Memory, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "_TICK_NS", -(10**18))  # as if all files had lain there for long
    path = repository / "shop" / "session.py"
    os.utime(path, (1e9, 1e9))
    memory.index()
    assert memory.index().reused == len(SAMPLE)
    path.write_text(path.read_text().replace("expired", "elapsed"))
    os.utime(path, (1e9, 1e9))
    memory.index()
    assert "SessionStore.delete_elapsed" in titles(memory, "elapsed")


def test_a_new_version_of_the_outline_parses_everything_again(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer, "OUTLINE_VERSION", indexer.OUTLINE_VERSION + 1)
    assert memory.index().parsed == len(SAMPLE)
    assert memory.index().parsed == 0


def test_a_deleted_file_is_not_found_any_more(memory: Memory, repository: Path) -> None:
    (repository / "shop" / "session.py").unlink()
    assert memory.index().removed == 1
    assert "SessionStore" not in titles(memory, "SessionStore")


def test_a_rename_parses_nothing(memory: Memory, repository: Path) -> None:
    git(repository, "mv", "shop/session.py", "shop/sessions.py")
    report = memory.index()
    assert (report.parsed, report.removed) == (0, 1)
    hit = memory.search("delete_expired", mode="lexical").hits[0]
    assert hit.path == "shop/sessions.py"


def test_switching_back_and_forth_parses_each_content_once(
    memory: Memory, repository: Path
) -> None:
    git(repository, "switch", "-q", "-c", "feature")
    (repository / "shop" / "refund.py").write_text("def refund(order):\n    return -order\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "Refund")
    assert memory.index().parsed == 1
    git(repository, "switch", "-q", "main")
    assert memory.index().parsed == 0
    assert titles(memory, "refund") == []
    git(repository, "switch", "-q", "feature")
    assert memory.index().parsed == 0
    assert "refund" in titles(memory, "refund")


def test_a_linked_worktree_shares_the_project_and_parses_only_what_differs(
    memory: Memory, repository: Path, settings: Settings, tmp_path: Path
) -> None:
    git(repository, "worktree", "add", "-q", "-b", "feature", str(tmp_path / "feature"))
    (tmp_path / "feature" / "shop" / "refund.py").write_text("def refund(order): ...\n")
    with Memory(settings, tmp_path / "feature") as other:
        assert other.index().parsed == 1
        assert other.project == memory.project
        assert "refund" in titles(other, "refund")
    assert titles(memory, "refund") == []


def test_a_folder_without_git_is_indexed(settings: Settings, tmp_path: Path) -> None:
    root = tmp_path / "plain"
    root.mkdir()
    (root / "a.py").write_text("def lonely(): ...\n")
    with Memory(settings, root) as memory:
        assert memory.index().files == 1
        assert titles(memory, "lonely")[0] == "lonely"


def test_ignored_vendored_generated_and_large_files_are_left_out_and_listed(
    settings: Settings, tmp_path: Path
) -> None:
    files = {
        ".gitignore": "secret_build/\n",
        ".stratumignore": "legacy/\n",
        "secret_build/a.py": "def ignored_by_git(): ...\n",
        "legacy/b.py": "def ignored_by_us(): ...\n",
        "node_modules/x/c.js": "function vendored() {}\n",
        "gen.py": "# @generated by a tool, do not edit\ndef generated(): ...\n",
        "big.txt": "x" * (1 << 20) + "x",
        "kept.py": "def kept(): ...\n",
    }
    root = make_repository(tmp_path / "r", files)
    with Memory(settings, root) as memory:
        report = memory.index()
        reasons = {skipped.path: skipped.reason for skipped in report.skipped}
        assert titles(memory, "ignored vendored generated kept", kind="function") == ["kept"]
    assert "generated" in reasons["gen.py"]
    assert "large" in reasons["big.txt"] or "MiB" in reasons["big.txt"]
    assert any("vendored" in reason for reason in reasons.values())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("latin.py", b"# caf\xe9\ndef espresso(): ...\n"),
        ("nul.txt", b"text\0with a NUL byte"),
        ("wide.txt", "breite Zeichen".encode("utf-16")),
        ("empty.py", b""),
        ("bom.py", b"\xef\xbb\xbfdef marked(): ...\n"),
        ("crlf.py", b"def dos():\r\n    pass\r\n"),
        ("broken.py", b"def broken(:\n  class\n"),
        ("one_line.js", b"var x=" + b"1+" * 200_000 + b"1;"),
        ("deep.py", b"(" * 20_000 + b")" * 20_000),
        ("surrogate.txt", b"\xed\xa0\x80"),
    ],
)
def test_odd_content_neither_stops_a_run_nor_loses_the_others(
    settings: Settings, tmp_path: Path, name: str, content: bytes
) -> None:
    root = make_repository(tmp_path / "r", {"fine.py": "def fine(): ...\n"})
    (root / name).write_bytes(content)
    with Memory(settings, root) as memory:
        memory.index()
        assert titles(memory, "fine", kind="function") == ["fine"]
        assert memory._store().check() == []


@pytest.mark.parametrize(
    "name",
    ["with space.py", "it's.py", 'quo"te.py', "new\nline.py", "größe.py", "日本.py", "-x.py"],
)
def test_odd_names_are_indexed(settings: Settings, tmp_path: Path, name: str) -> None:
    root = make_repository(tmp_path / "r", {name: "def inside(): ...\n"})
    with Memory(settings, root) as memory:
        memory.index()
        assert memory.search("inside", mode="lexical").hits[0].path == name


def test_a_symlink_loop_ends(settings: Settings, tmp_path: Path) -> None:
    root = tmp_path / "plain"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.py").write_text("def once(): ...\n")
    (root / "sub" / "loop").symlink_to(root, target_is_directory=True)
    with Memory(settings, root) as memory:
        report = memory.index()
        assert report.files == 1
        assert titles(memory, "once", kind="function") == ["once"]


def test_a_secret_in_a_source_file_reaches_neither_database_nor_answer(
    settings: Settings, tmp_path: Path
) -> None:
    secret = "ghp_" + "a1B2" * 9
    source = f'def connect(token="{secret}"):\n    """Use {secret}."""\n    return "{secret}"\n'
    root = make_repository(
        tmp_path / "r", {"a.py": source, "b.txt": secret, "c.md": f"# {secret}\n"}
    )
    with Memory(settings, root) as memory:
        memory.index()
        hit = memory.search("connect", mode="lexical").hits[0]
        assert secret not in repr(memory.get(hit.id))
        assert secret not in repr(memory.outline("a.py"))
    stored = b"".join(path.read_bytes() for path in settings.database.parent.glob("stratum.db*"))
    for form in (secret, secret.lower()):
        assert form.encode() not in stored


def test_a_file_whose_name_holds_a_secret_is_left_out(settings: Settings, tmp_path: Path) -> None:
    root = make_repository(
        tmp_path / "named", {f"{TOKEN}.py": "def a(): pass\n", "b.py": "b = 1\n"}
    )
    with Memory(settings, root) as memory:
        report = memory.index()
        assert report.files == 1
        assert [skipped.reason for skipped in report.skipped] == [
            "secret in its name (github-token)"
        ]
        shown = repr((report, memory.outline(""), memory.search("def a")))
    stored = b"".join(path.read_bytes() for path in settings.database.parent.glob("stratum.db*"))
    assert TOKEN not in shown
    assert TOKEN.lower().encode() not in stored.lower()


def test_stopping_keeps_what_is_done_and_the_next_run_goes_on(
    settings: Settings, tmp_path: Path
) -> None:
    files = {f"m{i}.py": f"def function{i}(): ...\n" for i in range(200)}
    root = make_repository(tmp_path / "r", files)
    stop = threading.Event()

    def stop_at_once(progress: Progress) -> None:
        if progress.phase == "files":
            stop.set()

    with Memory(settings, root) as memory:
        first = memory.index(report=stop_at_once, stop=stop)
        assert first.interrupted
        assert 0 < first.parsed < 200
        assert memory.status().indexed_at is None
        second = memory.index()
        assert not second.interrupted
        assert first.parsed + second.parsed == 200
        assert second.vectors_pending == 0


def test_control_c_keeps_what_is_done(settings: Settings, tmp_path: Path) -> None:
    files = {f"m{i}.py": f"def function{i}(): ...\n" for i in range(200)}
    root = make_repository(tmp_path / "r", files)

    def press(progress: Progress) -> None:
        if progress.phase == "files":
            raise KeyboardInterrupt

    with Memory(settings, root) as memory:
        first = memory.index(report=press)
        assert first.interrupted
        assert first.parsed + memory.index().parsed == 200


def test_kill_in_the_middle_of_an_index_leaves_a_sound_database(
    settings: Settings, tmp_path: Path
) -> None:
    files = {f"m{i}.py": f"def function{i}(): ...\n" * 20 for i in range(400)}
    root = make_repository(tmp_path / "r", files)
    code = (
        "import os, sys, pathlib; from stratum import Memory, load;"
        "m = Memory(load(os.environ), pathlib.Path(sys.argv[1]));"
        "m.index(report=lambda p: print(p.done, flush=True), vectors=False)"
    )
    environ = {
        **os.environ,
        "STRATUM_HOME": str(settings.database.parent),
        "STRATUM_EMBED_MODEL": "hashing",
    }
    with subprocess.Popen(
        [sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, env=environ
    ) as child:
        assert child.stdout is not None
        while int(child.stdout.readline()) == 0:
            pass
        child.send_signal(signal.SIGKILL)
    with Memory(settings, root) as memory:
        assert memory._store().check() == []
        report = memory.index()
        assert report.files == 400
        assert len(titles(memory, "function399", kind="function")) > 0


def test_two_runs_at_once_end_in_the_same_index(settings: Settings, tmp_path: Path) -> None:
    files = {f"m{i}.py": f"def function{i}(): ...\n" for i in range(150)}
    root = make_repository(tmp_path / "r", files)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with Memory(settings, root) as memory:
                memory.index()
        except BaseException as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with Memory(settings, root) as memory:
        status = memory.status()
        assert status.counts["files"] == 150
        assert status.counts["symbols"] == 150
        assert status.embedder.pending == 0


def test_the_body_of_a_class_is_searched_in_its_methods(memory: Memory) -> None:
    found = memory.search("quantity net sum", mode="lexical", limit=3).hits
    assert found[0].title == "Cart.total_price"


def test_progress_counts_up_to_the_whole(settings: Settings, repository: Path) -> None:
    seen: list[Progress] = []
    with Memory(settings, repository) as memory:
        memory.index(report=seen.append)
    files = [progress for progress in seen if progress.phase == "files"]
    vectors = [progress for progress in seen if progress.phase == "vectors"]
    assert files[-1].done == files[-1].total == len(SAMPLE)
    assert vectors[-1].done == vectors[-1].total > 0
