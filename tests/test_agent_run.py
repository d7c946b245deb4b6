"""Runs of the agent's benchmark as users start them: a small real repository, real processes."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from stratum_bench import agent_run
from stratum_bench.__main__ import main
from stratum_bench.agent_run import Plan
from stratum_bench.agent_worker import ARMS, AgentSpec, Part
from stratum_bench.agent_worker import work as real_work
from stratum_bench.compare_report import TIMES
from stratum_bench.retrieval_tasks import hash_of_tasks, is_reserved, load_tasks
from stratum_bench.trace import (
    Called,
    Ended,
    Event,
    RunStarted,
    Started,
    TaskGiven,
    TraceFile,
    episodes,
    read_events,
)

from stratum import InvalidInput, NotFound, Unavailable
from tests.conftest import git, make_repository
from tests.test_processes import gone

LATER = "quagga"  # stands in the message of a commit after all tasks, and in the text of one
EARLIER = "numbat"  # stands in the message of the first commit
MODULES = ("audit", "courier", "invoice", "label", "ledger", "parcel", "refund", "stock")
FIXES = (
    (1, "courier", "Courier never hears of a parcel that left the stock without a label"),
    (5, "stock", "Stock of the audit is short of what the ledger of a label says"),
    (6, "courier", "Courier hears twice of a parcel that left the stock, in audits of its label"),
    (7, "ledger", f"Ledger forgets the {LATER} of an invoice after an audit of the stock"),
)
UNKNOWN, WITHOUT_FILE = "acme__depot-11", "acme__depot-12"
GOOD = tuple(f"acme__depot-{number}" for number, _, _ in FIXES)


@dataclass(frozen=True)
class Depot:
    """The clone's folder, the tasks as a file, and the commits before each fix by task."""

    folder: Path
    bases: Mapping[str, str]
    later: str

    @property
    def repository(self) -> Path:
        return self.folder / "repos" / "acme__depot"


def make_depot(folder: Path) -> Depot:
    """Make the repository and its tasks: four good ones, an unknown commit, a missing file."""
    root = folder / "repos" / "acme__depot"
    root.mkdir(parents=True)
    make_repository(root, {f"depot/{name}.py": _module(name) for name in MODULES})
    git(root, "commit", "-q", "--amend", "-m", f"Open the depot for the {EARLIER}")
    bases, rows, gold = {}, [], []
    for number, name, issue in FIXES:
        id_ = f"acme__depot-{number}"
        bases[id_] = git(root, "rev-parse", "HEAD")
        path = root / "depot" / f"{name}.py"
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"factor = (\d+)", _next, text, count=1), encoding="utf-8")
        git(root, "commit", "-q", "-a", "-m", f"Correct {name}, the {number}th time")
        rows.append(row(id_, bases[id_], issue, f"depot/{name}.py", f"2022-0{number}-01 10:00:00"))
        line = text[: text.index("factor = ")].count("\n") + 1
        edit = {"file": f"depot/{name}.py", "start_line": line, "end_line": line}
        gold.append({"instance_id": id_, "edits": [edit]})
    (root / "depot" / f"{LATER}.py").write_text(f"def {LATER}():\n    return 1\n", encoding="utf-8")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", f"Teach the ledger about the {LATER}")
    rows.append(row(UNKNOWN, "f" * 40, "No such commit", "depot/stock.py", "2022-03-01 10:00:00"))
    rows.append(row(WITHOUT_FILE, bases[GOOD[0]], "No file", "depot/gone.py", "2022-05-09 10:00"))
    assert not any(is_reserved(one["instance_id"]) for one in rows)
    lines = [*map(json.dumps, rows[:1]), "no JSON", *map(json.dumps, rows[1:]), '{"repo": "a/b"}']
    (folder / "tasks.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_lines(folder / "good.jsonl", *rows[: len(FIXES)])
    write_lines(folder / "gold.jsonl", *gold)
    return Depot(folder, bases, git(root, "rev-parse", "HEAD"))


def _next(found: re.Match[str]) -> str:
    return f"factor = {int(found[1]) + 1}"


def _module(name: str) -> str:
    """Return a file with definitions that speak of its neighbours, far apart."""
    others = [other for other in MODULES if other != name]
    parts = [f'"""The {name} of the depot."""\n']
    for number, other in enumerate(others):
        body = "\n".join(f"    step_{line} = {other}.weight * {line}" for line in range(30))
        parts.append(
            f"def {name}_of_{other}({other}, weight):\n"
            f'    """Book the {name} of a {other} by its rounded weight."""\n'
            f"    scale = {number}\n{body}\n    return step_1 * scale + weight\n"
        )
    # what fixes change is far from all that agents look at, so that no note of theirs goes stale
    parts += ["\n".join(f"X_{line} = {line}" for line in range(200)) + "\n"]
    parts += ["def settle():\n    factor = 0\n    return factor\n"]
    return "\n\n".join(parts)


def row(id_: str, base: str, issue: str, gold: str, created_at: str) -> dict[str, Any]:
    """Return a task as a line of a file."""
    return {
        "instance_id": id_, "repo": "acme/depot", "base_commit": base,
        "problem_statement": issue, "gold_files": [gold], "created_at": created_at,
    }  # fmt: skip


def write_lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


def environ(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a user with a home of his own and no settings."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "PYTHONPATH") if key in os.environ}
    nothing = str(folder / "no-gitconfig")
    own = {"HOME": str(folder), "STRATUM_HOME": str(folder / "home"), "GIT_CONFIG_GLOBAL": nothing}
    return kept | own | {"GIT_CONFIG_NOSYSTEM": "1"} | more


def bench(folder: Path, *words: object, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `stratum bench` in a folder."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "stratum", "bench", *map(str, words)], cwd=folder,
        env=environ(folder, **env), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.fixture(scope="module")
def depot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Depot]:
    """The repository, with a home of its own as the tests have."""
    folder = tmp_path_factory.mktemp("depot")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ(folder).items():
            patch.setenv(name, value)
        yield make_depot(folder)


# Room for all that a pack could tell: ids of notes are random, and a token more or less of one
# would decide what else fits. For the same reason no two notes are equally good for a question.
BUDGET = 6000
RUN = (
    "--tasks", "tasks.jsonl", "--repos", "repos", "--gold-lines", "gold.jsonl",
    "--profile", "unfamiliar", "--jobs", "2", "--budget", str(BUDGET),
)  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """A run that is over, and what it said."""

    out: Path
    done: subprocess.CompletedProcess[str]

    @property
    def events(self) -> list[Event]:
        return read_events(self.out)


@pytest.fixture(scope="module")
def ran(depot: Depot) -> Ran:
    """All tasks in all arms."""
    done = bench(depot.folder, *RUN, "--out", "one", "--work", "work")
    assert done.returncode == 0, done.stderr
    return Ran(depot.folder / "one", done)


def timeless(event: Event) -> Event:
    return replace(event, ms=0.0) if hasattr(event, "ms") else event


def course(events: Sequence[Event]) -> dict[tuple[str, str], list[Event]]:
    """Return what happened in each (task, arm), without times."""
    return {key: [timeless(event) for event in one.events] for key, one in episodes(events).items()}


def ends(events: Sequence[Event]) -> dict[tuple[str, str], Ended]:
    return {(event.task, event.arm): event for event in events if isinstance(event, Ended)}


def calls(events: Sequence[Event]) -> list[tuple[str, Mapping[str, Any], bool]]:
    return [(one.tool, one.arguments, one.failed) for one in events if isinstance(one, Called)]


def writes(events: Sequence[Event], arm: str = "stratum") -> list[Called]:
    """Return the notes that agents wrote, in order."""
    return [
        event
        for event in events
        if isinstance(event, Called) and event.tool == "memory_write" and event.arm == arm
    ]


# a whole run


def test_a_run_has_each_task_in_each_arm_once_and_in_order(ran: Ran, depot: Depot) -> None:
    header, *events = ran.events
    assert isinstance(header, RunStarted)
    tasks = [event for event in events if isinstance(event, TaskGiven)]
    # by date
    assert [one.task.rpartition("-")[2] for one in tasks] == ["1", "11", "5", "12", "6", "7"]
    assert [one.order for one in tasks] == list(range(6))
    assert events[:6] == tasks
    started = [(one.task, one.arm) for one in events if isinstance(one, Started)]
    ended = [(one.task, one.arm) for one in events if isinstance(one, Ended)]
    assert started == ended == [(task.task, arm) for task in tasks for arm in ARMS]
    for key, one in episodes(events).items():
        assert isinstance(one.events[0], Started), key
        assert one.end is not None, key
        assert [type(event) for event in one.events].count(Ended) == 1
    assert {task.base_commit for task in tasks} == {*depot.bases.values(), "f" * 40}


def test_the_header_pins_all_that_a_run_depends_on(ran: Ran) -> None:
    header = ran.events[0]
    assert isinstance(header, RunStarted)
    told = header.header
    assert told["arms"] == list(ARMS)
    assert set(told["files"]) == {"tasks.jsonl", "gold.jsonl"}
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in told["files"].values())
    assert (told["agent"], told["profile"], told["seed"]) == ("scripted", "unfamiliar", 1)
    assert re.fullmatch(r"o200k_base \(toktok-rs \d[\w.]*\)", told["tokenizer"])
    assert re.fullmatch("[0-9a-f]{16}", told["code"])
    assert {"steps", "matches", "lines", "submitted", "pack", "file"} == set(told["limits"])
    assert {"stratum", "python", "suite", "memory", "embedder", "tasks", "skipped"} <= set(told)


def test_the_result_comes_first_and_says_where_the_traces_lie(ran: Ran) -> None:
    said = ran.done.stdout
    assert re.match(
        r"stratum: \d+\.\d % (more|fewer) tokens than bare \[.*\], solved \d of 4", said
    )
    assert "Traces, and this as report.md and report.html: one" in said
    assert "stratum bench replay one" in said
    assert (ran.out / "report.md").read_text(encoding="utf-8").startswith("#")
    html = (ran.out / "report.html").read_text(encoding="utf-8")
    assert html.startswith("<!DOCTYPE html>")
    assert all(task in html for task in GOOD)


def test_what_cannot_be_asked_is_said_and_spares_the_rest(ran: Ran) -> None:
    skipped = "left out: tasks.jsonl, line 2 is no JSON object."
    incomplete = "left out: tasks.jsonl, line 8 is no task."
    for told in (ran.done.stdout, ran.done.stderr):
        assert skipped in told
        assert incomplete in told
    assert ran.done.stdout.index(skipped) > ran.done.stdout.index("tokens than bare")
    assert "Traceback" not in ran.done.stderr
    for (task, _), end in ends(ran.events).items():
        assert (end.outcome == "ERROR") == (task in (UNKNOWN, WITHOUT_FILE)), end
        if task == UNKNOWN:
            assert end.reason.startswith("error: The clone has no commit ffffffffff.")
        if task == WITHOUT_FILE:
            assert end.reason.startswith("error: depot/gone.py is not in the tree")
    assert git_is_untouched(ran)


def git_is_untouched(ran: Ran) -> bool:
    root = ran.out.parent / "repos" / "acme__depot"
    return not git(root, "status", "--porcelain") and git(root, "branch") == "* main"


# what memory is given


def test_notes_of_earlier_tasks_help_later_ones(ran: Ran) -> None:
    told = course(ran.events)
    notes = writes(ran.events)
    [first] = [note.arguments["text"] for note in notes if note.task == GOOD[0]]
    packs = [event for event in told[GOOD[2], "stratum"] if isinstance(event, Called)]
    assert packs[0].tool == "memory_pack"
    assert first[:60] in packs[0].result
    # the same notes as a file, with each later task and not with the first
    files = [next(iter(told[task, "file"])) for task in GOOD]
    sizes = [event.file for event in files if isinstance(event, Started)]
    assert sizes[0] == 0
    assert 0 < sizes[1] <= sizes[2] <= sizes[3]
    for task in GOOD:
        bare = told[task, "bare"][0]
        assert isinstance(bare, Started)
        assert (bare.tools, bare.instructions, bare.file) == (0, 0, 0)


def test_oracle_is_told_the_answer_and_wrong_another_file(ran: Ran) -> None:
    told = course(ran.events)
    for number, name, _ in FIXES:
        for arm in ("oracle", "wrong"):
            asked = told[f"acme__depot-{number}", arm]
            pack = next(event for event in asked if isinstance(event, Called)).result
            note = next(line for line in pack.splitlines() if "this is decided in" in line)
            assert (f"decided in depot/{name}.py" in note) == (arm == "oracle"), note


# a run that is broken off


def children_of(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children")
    return [int(one) for one in found.read_text(encoding="utf-8").split()]


def test_a_run_that_was_killed_and_goes_on_equals_one_that_was_not(ran: Ran, depot: Depot) -> None:
    words = [*RUN, "--out", "two", "--work", "other-work"]
    at = random.randint(3, 24)
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "stratum", "bench", *words], cwd=depot.folder,
        env=environ(depot.folder), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    ) as running:  # fmt: skip
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith(f"{at} of 36 "):
                break
        hands = children_of(running.pid) if Path("/proc/self/task").exists() else []
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert gone(hands), "a process outlived the run"
    with (depot.folder / "two" / "trace.jsonl").open("a", encoding="utf-8") as trace:
        trace.write('{"event": "start", "task": "acme__de')
    done = bench(depot.folder, *words)
    assert done.returncode == 0, done.stderr
    kept = re.search(r"^(\d+) answers are there already$", done.stderr, re.MULTILINE)
    assert "put aside" not in done.stderr
    assert kept or at < 7, f"killed at {at}"  # the first ones may all be tasks that failed
    found, whole = course(read_events(depot.folder / "two")), course(ran.events)
    for key, events in found.items():
        assert events == whole[key], f"{key}, killed at {at}"
    one, two = (
        re.sub(r'"ms": [\d.]+', "", (depot.folder / out / "trace.jsonl").read_text("utf-8"))
        for out in ("one", "two")
    )
    assert one == two, f"killed at {at}"
    html, other_html = (
        (depot.folder / out / "report.html").read_text(encoding="utf-8") for out in ("one", "two")
    )
    assert html == other_html
    report, other = (
        (depot.folder / out / "report.md").read_text(encoding="utf-8").partition(TIMES)
        for out in ("one", "two")
    )
    assert report[0] == other[0]
    assert report[1]


def dies_in_the_second_task(part: Part, say: Callable[[Any], None]) -> None:
    """Work as ever, and end without a word when the arm stratum begins with the second task."""

    def say_or_die(event: Any) -> None:
        if isinstance(event, Started) and (event.task, event.arm) == (GOOD[1], "stratum"):
            os._exit(5)
        say(event)

    real_work(part, say_or_die)


def plan_of(depot: Depot, *arms: str, tasks: int = 3) -> Plan:
    found = tuple(load_tasks([depot.folder / "good.jsonl"], depot.folder / "gold.jsonl")[:tasks])
    told = AgentSpec(profile="unfamiliar", budget=BUDGET)
    return Plan("swebench", found, arms, told, "none", 2, {"tasks": hash_of_tasks(found)})


def test_a_task_whose_process_dies_spares_the_others(
    ran: Ran, depot: Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_run, "work", dies_in_the_second_task)
    plan = plan_of(depot, "file", "stratum")
    found = course(agent_run.run(plan, depot.folder / "repos", tmp_path / "out"))
    lost = found.pop((GOOD[1], "stratum"))
    reason = "error: the process ended before with status 5"
    assert lost[1:] == [Ended(GOOD[1], "stratum", (), "ERROR", reason)]
    whole = course(ran.events)
    assert found[GOOD[0], "stratum"] == whole[GOOD[0], "stratum"]
    assert found[GOOD[1], "file"] == whole[GOOD[1], "file"]
    # what was learned before is there after, what was lost is not
    file = found[GOOD[2], "file"][0]
    other = whole[GOOD[1], "file"][0]
    assert isinstance(file, Started)
    assert isinstance(other, Started)
    assert file.file == other.file > 0


def test_what_was_learned_stays_known_whatever_other_arms_do_meanwhile(
    depot: Depot, tmp_path: Path
) -> None:
    plan = plan_of(depot, "bare", "stratum")
    first = plan.tasks[0].id
    learned = {"text": "Look at depot/courier.py.", "anchors": ["depot/courier.py"]}
    with TraceFile(tmp_path / "out", agent_run.header(plan), ()) as trace:
        course = agent_run._Course(plan, {plan.tasks[0].repo: depot.repository}, tmp_path, trace)
        for event in (
            Started(first, "stratum"),
            Called(first, "stratum", 1, "memory_write", learned, True, 10, 3),
            Started(first, "bare"),  # from another process
            Ended(first, "stratum", (), "MISS", "submitted"),
        ):
            course._hear(event)
        [part] = [part for part in course._parts() if "stratum" in part.arms]
    assert part.written[first] == [learned]
    assert part.done == {(first, "stratum")}


def test_no_process_is_left_when_the_trace_cannot_be_written(
    depot: Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import multiprocessing

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stratum_bench.trace.TraceFile.add", full)
    with pytest.raises(OSError, match="No space") as caught:
        agent_run.run(plan_of(depot, "bare"), depot.folder / "repos", tmp_path / "out")
    assert caught.tb is not None  # it is held here, and the processes are gone all the same
    assert multiprocessing.active_children() == []


# tasks of one's own


def test_tasks_that_are_mined_have_one_hash_in_every_process() -> None:
    code = (
        "from stratum_bench.retrieval_tasks import Task, hash_of_tasks\n"
        "leaks = frozenset(['path', 'basename', 'module', 'symbol'])\n"
        "print(hash_of_tasks([Task('t', 'r', '0' * 40, 'x', ('a',), '2022', leaks)]))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": str(seed)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in range(4)
    }  # fmt: skip
    assert len(found) == 1


def test_a_run_over_ones_own_repository_is_kept_beside_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STRATUM_HOME", str(tmp_path / "home"))
    root = make_repository(_made(tmp_path / "shop"))
    path = root / "shop" / "cart.py"
    path.write_text(path.read_text("utf-8").replace("86400", "86401"), encoding="utf-8")
    git(root, "commit", "-q", "-a", "-m", "Fix carts that expire a second too early")
    said = said_by(capfd, "--repo", root, "--arms", "bare")
    out = tmp_path / "home" / "bench" / "own-1"
    assert [one.outcome for one in ends(read_events(out)).values()] == ["PASS"]
    assert str(out) in said
    header = read_events(out)[0]
    assert isinstance(header, RunStarted)
    assert header.header["profile"] == "unfamiliar"


def _made(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


# what a run is asked for, and what is made of it afterwards


@pytest.mark.parametrize(
    ("words", "said", "kind"),
    [
        (["--tasks", "good.jsonl", "--repos", "none"], "none cannot be read", NotFound),
        (["--tasks", "good.jsonl", "--repos", "empty"], "no clone of acme/depot", NotFound),
        (["--tasks", "nothing.jsonl", "--repos", "repos"], "nothing.jsonl cannot be", NotFound),
        (["--tasks", "good.jsonl"], "Tasks and clones go together.", InvalidInput),
        (["--repos", "repos"], "Tasks and clones go together.", InvalidInput),
        (["--repo", ".", "--tasks", "good.jsonl"], "--repo makes its own tasks.", InvalidInput),
        (["--repo", "empty"], "empty is no git repository.", NotFound),
        (["--arms", "bare,memory"], "There is no arm 'memory'.", InvalidInput),
        (["--arms", "stratum"], "Every arm is compared with bare.", InvalidInput),
        (["--arms", "bare,file"], "holds the notes of the arm stratum.", InvalidInput),
        (["--agent", "chat", "--model", "m"], "needs a model and an endpoint.", InvalidInput),
        (["--agent", "chat", "--base-url", "http://127.0.0.1:9/v1"], "needs a model", InvalidInput),
        (
            ["--agent", "chat", "--model", "m", "--base-url", "https://api.example.org/v1",
             "--tasks", "good.jsonl", "--repos", "repos"],
            "There is no key for api.example.org.", InvalidInput,
        ),
        (
            ["--agent", "chat", "--model", "m", "--base-url", "nowhere",
             "--tasks", "good.jsonl", "--repos", "repos"],
            "is no web address.", InvalidInput,
        ),
        (["--tasks", "reserved.jsonl", "--repos", "repos"], "acme__depot-2 is reserved",
         InvalidInput),
        (["--tasks", "good.jsonl", "--repos", "repos", "--only", "acme/other"],
         "No task is of acme/other.", NotFound),
        (["--tasks", "good.jsonl", "--repos", "repos", "--out", "good.jsonl"],
         "good.jsonl cannot be read or written", Unavailable),
        (["report", "empty"], "There is no trace at", NotFound),
        (["replay", "good.jsonl"], "line 1 is no event of a run", InvalidInput),
        (["compare", "empty", "repos"], "There is no trace at", NotFound),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_a_sentence_with_a_hint(
    depot: Depot,
    words: list[str],
    said: str,
    kind: type[InvalidInput] | type[NotFound] | type[Unavailable],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(depot.folder)
    for name in ("STRATUM_BENCH_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    (depot.folder / "empty").mkdir(exist_ok=True)
    held_back = row("acme__depot-2", "0" * 40, "Held back", "depot/stock.py", "2022-01-01")
    write_lines(depot.folder / "reserved.jsonl", held_back)
    assert is_reserved("acme__depot-2")
    assert main(words, "stratum bench") == kind.exit_code
    out, err = capfd.readouterr()
    assert out == ""
    [sentence] = [line for line in err.splitlines() if not line.startswith("traces: ")]
    assert said in sentence
    assert sentence.count(". ") >= 1  # what happened, and what to do
    assert sentence.endswith((".", "/v1.", "OPENAI_API_KEY."))


def test_help_is_there_as_users_call_it(tmp_path: Path) -> None:
    for words, said in ((["--help"], "stratum bench report"), (["run", "--help"], "--base-url")):
        done = bench(tmp_path, *words)
        assert done.returncode == 0
        assert said in done.stdout
        assert done.stderr == ""
    plain = subprocess.run(
        [sys.executable, "-m", "stratum_bench", "run", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "python -m stratum_bench --repo ." in plain.stdout


def said_by(capfd: pytest.CaptureFixture[str], *words: object) -> str:
    """Return what a command prints."""
    capfd.readouterr()
    assert main([str(word) for word in words], "stratum bench") == 0
    return capfd.readouterr().out


def test_a_run_is_told_again_from_its_folder(
    ran: Ran, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # the report that was printed, but for where it lies
    text = said_by(capfd, "report", ran.out)
    assert ran.done.stdout.startswith(text.rstrip("\n"))
    for form, name in (("markdown", "report.md"), ("html", "report.html")):
        file = tmp_path / name
        assert said_by(capfd, "report", ran.out, "--format", form, "--output", file) == ""
        kept = (ran.out / name).read_text(encoding="utf-8")
        assert file.read_text(encoding="utf-8").rstrip("\n") == kept.rstrip("\n")
    told = json.loads(said_by(capfd, "report", ran.out, "--json"))
    assert told["header"]["arms"] == list(ARMS)
    assert len(told["tasks"]) == 6
    steps = said_by(capfd, "replay", ran.out, "--task", GOOD[0], "--arm", "stratum")
    assert "Arm stratum" in steps
    assert "memory memory_pack" in steps
    assert GOOD[1] not in steps
    assert "Arm bare" not in steps
    lines = said_by(capfd, "replay", ran.out, "--task", GOOD[0], "--arm", "bare", "--json")
    assert {json.loads(line)["task"] for line in lines.splitlines()} == {GOOD[0]}


def test_a_run_compared_with_itself_shows_no_difference(
    ran: Ran, capfd: pytest.CaptureFixture[str]
) -> None:
    text = said_by(capfd, "compare", ran.out, ran.out)
    assert "+0.0" in text
    for form in ("markdown", "json", "html"):
        assert said_by(capfd, "compare", ran.out, ran.out, "--format", form).strip()
