"""The commands `run`, `compare`, `replay` and `report`: an agent with memory beside one without.

Owns their options, and where a run is kept when nobody says it. The result goes to stdout.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratum import InvalidInput, load
from stratum_bench.measure import progress

if TYPE_CHECKING:
    from stratum_bench.retrieval_tasks import Task

COMMANDS = ("run", "compare", "replay", "report")
_FORMATS = ("text", "markdown", "json", "html")
_RUNS = "bench"  # the folder of runs beside the memory
_MINED = 50
# Whose code it is: everybody's libraries are known by heart, a user's own code is not.
_PROFILE_OF = {"stdlib": "familiar", "swebench": "familiar", "own": "unfamiliar"}
_EXAMPLES = """\
examples:
  {0}                                    the standard library, nothing else needed
  {0} --repo .                           fixes from your own repository's history
  {0} --tasks tasks.jsonl --repos DIR    tasks of SWE-bench, in clones
  {0} --agent chat --model M --base-url http://localhost:8000/v1 --limit 10
"""


def add_commands(commands: Any, program: str) -> None:
    """Add the parsers of COMMANDS."""
    _add_run(commands, program)
    compare = commands.add_parser("compare", help="the same arms of two runs, task by task")
    compare.add_argument("first", type=Path, metavar="RUN", help="the folder of a run")
    compare.add_argument("second", type=Path, metavar="RUN")
    compare.add_argument("--seed", type=int, default=1)
    _add_format(compare)
    report = commands.add_parser("report", help="what a run shows, in another form")
    report.add_argument("run", type=Path, metavar="RUN", help="the folder of a run")
    report.add_argument("--seed", type=int, default=1)
    _add_format(report)
    replay = commands.add_parser("replay", help="what the agents of a run did, step by step")
    replay.add_argument("run", type=Path, metavar="RUN", help="the folder of a run")
    replay.add_argument("--task", metavar="ID")
    replay.add_argument("--arm", metavar="ARM")
    replay.add_argument("--times", action="store_true", help="show how long each step took")
    replay.add_argument("--json", action="store_true", help="print the events as JSON lines")


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=_FORMATS, default="text")
    parser.add_argument("--json", action="store_const", const="json", dest="format")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it there")


def _add_run(commands: Any, program: str) -> None:
    meaning = "an agent with memory beside the same agent without"
    run = commands.add_parser(
        "run", help=f"{meaning} (what is done when no command is named)", description=meaning,
        epilog=_EXAMPLES.format(program), formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    tasks = run.add_argument_group("tasks (the standard library unless said)")
    tasks.add_argument("--repo", type=Path, metavar="PATH", help="fixes from its own history")
    tasks.add_argument("--mine", type=positive, default=_MINED, metavar="N", help="so many")
    tasks.add_argument("--tasks", type=Path, action="append", metavar="FILE.jsonl", default=[])
    tasks.add_argument("--repos", type=Path, metavar="DIR", help="clones of their repositories")
    tasks.add_argument("--gold-lines", type=Path, metavar="FILE", help="lines edited, for oracle")
    tasks.add_argument("--only", nargs="+", default=(), metavar="REPO", help="of these")
    tasks.add_argument("--limit", type=positive, metavar="N", help="tasks, drawn by the seed")
    agent = run.add_argument_group("agent")
    agent.add_argument("--agent", choices=("scripted", "chat"), default="scripted")
    agent.add_argument(
        "--profile", choices=("familiar", "unfamiliar"),
        help="whether the scripted agent knows the code: not that of --repo, unless said",
    )  # fmt: skip
    agent.add_argument("--model", default="", help="of --agent chat")
    agent.add_argument("--base-url", default="", metavar="URL", help="of --agent chat, up to /v1")
    agent.add_argument("--stream", action="store_true", help="let the endpoint answer in pieces")
    agent.add_argument("--arms", type=names, default=(), metavar="A,B", help="all unless said")
    agent.add_argument("--mcp", action="store_true", help="reach the memory through its server")
    agent.add_argument("--budget", type=positive, default=1_200, help="tokens of a pack")
    agent.add_argument("--embedder", choices=("none", "hashing", "bundled"), default="none")
    run.add_argument("--out", type=Path, metavar="DIR", help="the trace; goes on where it was")
    run.add_argument("--work", type=Path, metavar="DIR", help="where clones and memories are left")
    run.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, metavar="N")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--json", action="store_true", help="print JSON instead of tables")


def do(options: argparse.Namespace, program: str) -> None:
    """Carry out one of COMMANDS and print what it says."""
    if options.command == "run":
        _run(options, program)
    elif options.command == "replay":
        _replay(options)
    else:
        _compare(options)


def _run(options: argparse.Namespace, program: str) -> None:
    from stratum_bench import agent_run
    from stratum_bench.agent_worker import AgentSpec
    from stratum_bench.compare import compare
    from stratum_bench.compare_html import as_html
    from stratum_bench.compare_report import as_json, as_markdown, as_text, headline

    if options.agent == "chat" and not (options.model and options.base_url):
        raise InvalidInput(
            "The agent chat needs a model and an endpoint.",
            hint="Give --model and --base-url, as http://localhost:8000/v1.",
        )
    suite = "own" if options.repo else "swebench" if options.tasks else "stdlib"
    arms = agent_run.chosen_arms(options.arms)
    with ExitStack() as stack:
        scratch = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="stratum-bench-", ignore_cleanup_errors=True)
            )
        )
        tasks, files, repos, skipped = _tasks(options, suite, scratch)
        spec = AgentSpec(
            kind=options.agent,
            profile=options.profile or _PROFILE_OF[suite],
            budget=options.budget,
            mcp=options.mcp,
            model=options.model,
            base_url=options.base_url,
            stream=options.stream,
            seed=options.seed,
        )
        spec.require()
        plan = agent_run.Plan(
            suite, tuple(tasks), arms, spec, options.embedder, options.jobs, files, skipped
        )
        out = options.out or _new_folder(suite)
        progress(f"traces: {out}   (broken off? go on with --out {out})")
        events = agent_run.run(plan, repos, out, work_folder=options.work)
    comparison = compare(events, seed=options.seed)
    (out / "report.md").write_text(as_markdown(comparison), encoding="utf-8")
    (out / "report.html").write_text(as_html(comparison, events), encoding="utf-8")
    if options.json:
        print(as_json(comparison))
        return
    print(as_text(comparison))
    for line in skipped:
        print(f"left out: {line}")
    print(f"\n{headline(comparison)}")  # again: on a terminal the first lines are out of sight
    print(f"Traces, and this as report.md and report.html: {out}")
    print(f"Step by step: {program} replay {out}")
    if suite == "stdlib":
        print(f"Your own code is where memory pays: {program} --repo .")


def _tasks(
    options: argparse.Namespace, suite: str, scratch: Path
) -> tuple[list[Any], dict[str, str], Path, tuple[str, ...]]:
    """Return the tasks, a hash of each source of them, their clones, and what was left out."""
    from stratum_bench.retrieval import chosen
    from stratum_bench.retrieval_tasks import hash_of_tasks
    from stratum_bench.suite_stdlib import make_repository, stdlib_tasks

    skipped: list[str] = []
    if not options.repo and bool(options.tasks) != bool(options.repos):
        raise InvalidInput(
            "Tasks and clones go together.", hint="Give --tasks with --repos, or neither."
        )
    if suite == "stdlib":
        repos = scratch / "stdlib"
        found = stdlib_tasks(make_repository(repos))
        files = {"stdlib": hash_of_tasks(found)}
    else:
        repos = options.repo or options.repos
        found, files = given_tasks(options, skipped.append)
    for line in skipped:
        progress(f"left out: {line}")
    tasks = chosen(found, only=options.only, limit=options.limit, seed=options.seed)
    return tasks, files, repos, tuple(skipped)


def given_tasks(
    options: argparse.Namespace, skip: Callable[[str], None] | None = None
) -> tuple[list[Task], dict[str, str]]:
    """Return the tasks of --repo or --tasks, and a hash of each source of them by its name.

    Raises:
        InvalidInput: Both are given; also what `mined_tasks` and `load_tasks` raise.
    """
    from stratum_bench.retrieval_mined import mined_tasks
    from stratum_bench.retrieval_tasks import hash_of, hash_of_tasks, load_tasks

    if options.repo and (options.tasks or options.repos or options.gold_lines):
        raise InvalidInput(
            "--repo makes its own tasks.", hint="Leave --tasks, --repos and --gold-lines out."
        )
    if options.repo:
        mined = mined_tasks(options.repo, options.mine)
        return mined, {f"{mined[0].repo}, mined": hash_of_tasks(mined)}
    given = [*options.tasks, *([options.gold_lines] if options.gold_lines else [])]
    found = load_tasks(options.tasks, options.gold_lines, skip)
    return found, {file.name: hash_of(file.read_bytes()) for file in given}


def _compare(options: argparse.Namespace) -> None:
    from stratum_bench.compare import compare, compare_runs, merged
    from stratum_bench.compare_html import as_html
    from stratum_bench.compare_report import as_json, as_markdown, as_text
    from stratum_bench.trace import read_events

    if options.command == "report":
        events: Sequence[Any] = read_events(options.run)
        comparison = compare(events, seed=options.seed)
    else:
        first, second = read_events(options.first), read_events(options.second)
        names = _two_names(options.first, options.second)
        comparison = compare_runs(first, second, names=names, seed=options.seed)
        events = merged(first, second, names=names)
    if options.format == "html":
        said = as_html(comparison, events)
    else:
        said = {"text": as_text, "markdown": as_markdown, "json": as_json}[options.format](
            comparison
        )
    if options.output is None:
        print(said)
        return
    options.output.write_text(said + "\n", encoding="utf-8")
    progress(f"written: {options.output}")


def _two_names(first: Path, second: Path) -> tuple[str, str]:
    names = (first.absolute().name, second.absolute().name)
    return names if names[0] != names[1] else ("A", "B")


def _replay(options: argparse.Namespace) -> None:
    from stratum_bench.replay import replay
    from stratum_bench.trace import RunStarted, TaskGiven, as_line, read_events

    events = read_events(options.run)
    if not options.json:
        for line in replay(events, task=options.task, arm=options.arm, times=options.times):
            print(line)
        return
    for event in events:
        if isinstance(event, RunStarted) or event.task != (options.task or event.task):
            continue
        if isinstance(event, TaskGiven) or event.arm == (options.arm or event.arm):
            sys.stdout.write(as_line(event))


def _new_folder(suite: str) -> Path:
    """Return a folder for a run that no run has had."""
    runs = load(os.environ).database.parent / _RUNS
    number = 1
    while (folder := runs / f"{suite}-{number}").exists():
        number += 1
    return folder


def names(text: str) -> tuple[str, ...]:
    """Return the names of a list such as "a,b"."""
    return tuple(name for name in text.split(",") if name)


def positive(text: str) -> int:
    """Return a number from 1 on.

    Raises:
        argparse.ArgumentTypeError: It is less.
    """
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
