"""The built-in suite `stdlib`: its answers are in the library, its texts do not give them away."""

from __future__ import annotations

import ast
import itertools
import json
import re
import shutil
import subprocess
import sysconfig
import warnings
from collections import Counter
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import pytest
from stratum_bench import suite_stdlib
from stratum_bench.retrieval_tasks import is_reserved
from stratum_bench.suite_stdlib import make_repository, stdlib_tasks

from stratum import Unavailable
from tests.conftest import git

TASKS = stdlib_tasks()
ROWS = [
    json.loads(line)
    for line in Path(suite_stdlib.__file__)
    .with_name("suites")
    .joinpath("stdlib.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
PYTHONS = ("python3.11", "python3.12", "python3.13", "python3.14")
# what each of them prints: a wrapper that stands for no installed Python fails here
WHERE = "import sys, sysconfig; print(*sys.version_info[:2], sysconfig.get_paths()['stdlib'])"
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@lru_cache
def library_of(python: str) -> Path | None:
    """Return the folder of the library of a Python of that name, when there is one."""
    program = shutil.which(python)
    if program is None:
        return None
    done = subprocess.run([program, "-c", WHERE], capture_output=True, text=True, check=False)
    major, minor, folder = ("", "", "") if done.returncode else done.stdout.strip().split(" ", 2)
    return Path(folder) if f"python{major}.{minor}" == python else None


@lru_cache(maxsize=256)
def definitions(source: Path) -> frozenset[str] | None:
    """Return the qualified names of all that a file defines; None for syntax newer than ours."""
    found = set()

    def visit(node: ast.AST, within: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = within
            if isinstance(child, DEFINITIONS):
                found.add(within + child.name)
                inner = f"{within}{child.name}."
            visit(child, inner)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            visit(ast.parse(source.read_bytes()), "")
        except SyntaxError:
            return None
    return frozenset(found)


def is_defined(source: Path, name: str) -> bool:
    known = definitions(source)
    if known is not None:
        return name in known
    text = source.read_text(encoding="utf-8")
    return all(
        re.search(rf"^\s*(?:async\s+def|def|class)\s+{part}\b", text, re.MULTILINE)
        for part in name.split(".")
    )


def missing_in(library: Path) -> list[str]:
    """Return the answers that a library does not have."""
    files = [file for task in TASKS for file in task.gold_files if not (library / file).is_file()]
    symbols = (
        [
            symbol
            for row in ROWS
            for symbol in row["symbols"]
            if not is_defined(library / symbol.partition("::")[0], symbol.partition("::")[2])
        ]
        if not files
        else []
    )
    return files + symbols


def sentences(text: str) -> set[str]:
    """Return the sentences and lines of a text; what Python itself prints does not count."""
    parts = (" ".join(part.split()) for part in re.split(r"(?<=[.!?])\s+|\n+", text))
    return {part for part in parts if part and part != "Traceback (most recent call last):"}


def is_recurrent(number: int) -> bool:
    earlier = {file for task in TASKS[:number] for file in task.gold_files}
    return not earlier.isdisjoint(TASKS[number].gold_files)


def test_there_are_enough_tasks_with_ids_and_dates_in_order() -> None:
    assert len(TASKS) >= 60
    assert len({task.id for task in TASKS}) == len(TASKS)
    dates = [datetime.fromisoformat(task.created_at) for task in TASKS]
    assert all(a < b for a, b in itertools.pairwise(dates))
    assert [task.id for task in TASKS] == sorted(task.id for task in TASKS)
    assert not any(is_reserved(task.id) for task in TASKS)


def test_tasks_are_of_the_commit_that_was_given() -> None:
    assert {(task.repo, task.base_commit) for task in TASKS} == {("stdlib", "")}
    assert {task.base_commit for task in stdlib_tasks("1" * 40)} == {"1" * 40}


def test_the_first_line_of_a_text_is_its_title() -> None:
    for row in ROWS:
        assert row["text"].startswith(row["title"] + "\n"), row["id"]
        assert [s.partition("::")[0] for s in row["symbols"]], row["id"]
        of_symbols = {symbol.partition("::")[0] for symbol in row["symbols"]}
        assert of_symbols == set(row["gold_files"]), row["id"]


def test_all_answers_are_in_the_running_library() -> None:
    assert missing_in(Path(sysconfig.get_paths()["stdlib"])) == []


def test_all_answers_are_in_the_libraries_of_all_other_pythons_that_are_installed() -> None:
    libraries = {python: library_of(python) for python in PYTHONS}
    missing = {python: missing_in(library) for python, library in libraries.items() if library}
    assert not any(missing.values()), missing


def test_the_check_of_answers_sees_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("class A:\n    def f(self): ...\ndef g(): ...\n", "utf-8")
    (tmp_path / "b.py").write_text("class A:\n    def f(self): ...\n???\n", "utf-8")
    for file in (tmp_path / "a.py", tmp_path / "b.py"):
        assert is_defined(file, "A.f")
        assert not is_defined(file, "A.h")
    assert not is_defined(tmp_path / "a.py", "A.g")
    assert len(missing_in(tmp_path)) >= len(TASKS)


def test_most_texts_do_not_name_the_answer() -> None:
    share = {leak: n / len(TASKS) for leak, n in Counter(task.leak for task in TASKS).items()}
    assert share["nothing"] >= 0.40
    assert share["symbol"] >= 0.25
    assert 0.10 <= share["module"] + share["path"] <= 0.30


@pytest.mark.parametrize(
    ("text", "paths", "symbols", "leaks"),
    [
        ("It is slow.", ["csv.py"], ["csv.py::Sniffer.sniff"], set()),
        ("import csv", ["csv.py"], ["csv.py::Sniffer.sniff"], {"module"}),
        ("The Sniffer is slow.", ["csv.py"], ["csv.py::Sniffer.sniff"], {"symbol"}),
        ("with http.cookies", ["http/cookies.py"], ["http/cookies.py::Morsel"], {"module"}),
        ("my cookies", ["http/cookies.py"], ["http/cookies.py::Morsel"], set()),
        ("use logging", ["logging/__init__.py"], ["logging/__init__.py::f"], {"module"}),
        ("lib/csv.py, 3", ["csv.py"], ["csv.py::f"], {"path", "basename", "module"}),
    ],
)
def test_leaks_are_told_strictly(
    text: str, paths: list[str], symbols: list[str], leaks: set[str]
) -> None:
    assert suite_stdlib._leaks(text, paths, symbols) == leaks


def test_texts_are_as_long_as_issues_and_each_in_its_own_words() -> None:
    seen: dict[str, str] = {}
    for task in TASKS:
        assert 15 <= len(task.text.split()) <= 200, task.id
        for sentence in sentences(task.text):
            assert seen.setdefault(sentence, task.id) == task.id, sentence


def test_files_recur_but_not_in_the_next_task() -> None:
    assert sum(is_recurrent(number) for number in range(len(TASKS))) >= 12
    assert len({file for task in TASKS for file in task.gold_files}) >= 30
    together = [
        (first.id, second.id)
        for first, second in itertools.pairwise(TASKS)
        if set(first.gold_files) & set(second.gold_files)
    ]
    assert together == []


def test_most_tasks_have_one_answer_and_some_two() -> None:
    counts = Counter(len(task.gold_files) for task in TASKS)
    assert set(counts) == {1, 2}
    assert 0.04 <= counts[2] / len(TASKS) <= 0.15


def test_the_repository_is_the_same_each_time_and_holds_all_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_repository(tmp_path / "first")
    # settings of a user that would change what is committed
    ignored = tmp_path / "ignored"
    ignored.write_text("*.py\n", "utf-8")
    attributes = tmp_path / "attributes"
    attributes.write_text("* text eol=crlf\n", "utf-8")
    settings = tmp_path / "gitconfig"
    settings.write_text(
        f"[core]\nexcludesFile = {ignored}\nattributesFile = {attributes}\nautocrlf = true\n",
        "utf-8",
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_bytes(settings.read_bytes())
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    second = make_repository(tmp_path / "second")
    assert first == second
    assert re.fullmatch(r"[0-9a-f]{40}", first)
    tree = git(tmp_path / "second", "ls-tree", "-r", "--name-only", first).splitlines()
    assert {file for task in TASKS for file in task.gold_files} <= set(tree)
    apart = {"site-packages", "dist-packages", "test", "tests", "__pycache__", "idle_test"}
    assert not [path for path in tree if apart & set(path.split("/")) or path[-3:] != ".py"]
    assert git(tmp_path / "first", "rev-list", "--count", "HEAD").strip() == "1"
    assert git(tmp_path / "first", "status", "--porcelain").strip() == ""


def test_a_library_without_source_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path / "lib.zip")})
    with pytest.raises(Unavailable, match="has no source") as raised:
        make_repository(tmp_path / "out")
    assert raised.value.hint
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "library"
    (library / "pkg").mkdir(parents=True)
    (library / "os.py").write_text("a = 1\n", "utf-8")
    (library / "gone.py").symlink_to(library / "nowhere.py")
    (library / "folder.py").mkdir()
    (library / "pkg" / "mod.py").write_bytes(b"b = '\xff'\r\n")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(library)})
    commit = make_repository(tmp_path / "out")
    tree = git(tmp_path / "out", "ls-tree", "-r", "--name-only", commit).split()
    assert tree == ["os.py", "pkg/mod.py"]
    assert (tmp_path / "out" / "pkg" / "mod.py").read_bytes() == b"b = '\xff'\r\n"


def test_a_folder_in_use_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", "utf-8")
    with pytest.raises(Unavailable, match="not empty"):
        make_repository(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(Unavailable, match="cannot be made"):
        make_repository(tmp_path / "mine.txt")
