"""The command line of the benchmarks: `python -m stratum_bench COMMAND`.

Owns the options; progress goes to stderr, the result to stdout as a table or, with --json, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratum import InvalidInput, StratumError, Unavailable
from stratum_bench import agent_cli
from stratum_bench.agent_cli import names, positive
from stratum_bench.measure import Result, as_text, progress

if TYPE_CHECKING:
    pass

_PROGRAM = "python -m stratum_bench"
_READER_GONE = 141  # as a shell says it of a program that SIGPIPE ended
# What each size stands for; options on the command line override single values.
_SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "start": {"smoke": {"runs": 2}, "full": {"runs": 20}},
    "search": {
        "smoke": {"records": (600,), "queries": 50},
        "full": {"records": (1_000, 10_000, 50_000), "queries": 100},
    },
    "durability": {
        "smoke": {"kills": 5, "processes": 4, "writes": 25},
        "full": {"kills": 50, "processes": 8, "writes": 500},
    },
    "index": {
        "smoke": {"apart": 2, "trees": 3, "notes": 5},
        "full": {"apart": 100, "trees": 180, "notes": 200},
    },
    "truth": {
        "smoke": {"notes": 60, "distance": (10,)},
        "full": {"notes": 700, "distance": (10, 100, 500)},
    },
    "team": {
        "smoke": {"notes": 2_000, "graph": 500, "queries": 10},
        "full": {"notes": 100_000, "graph": 20_000, "queries": 100},
    },
    "coordination": {
        "smoke": {"calls": 30, "seconds": 0.2, "connections": (1, 2)},
        "full": {"calls": 2_000, "seconds": 3.0, "connections": (1, 4, 8)},
    },
}


def main(arguments: Sequence[str] | None = None, program: str = _PROGRAM) -> int:
    """Run one command and return the exit status; `program` is how it was called."""
    options = _parser(program).parse_args(_named(arguments))
    try:
        if options.command in agent_cli.COMMANDS:
            agent_cli.do(options, program)
            return 0
        result = _run(options)
    except StratumError as error:
        print(f"{error.message} {error.hint}".strip(), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        kept = options.command == "run" or (
            options.command == "retrieval" and (options.out or options.work)
        )
        progress("stopped: what is done is kept" if kept else "stopped: nothing is left behind")
        return 130
    except BrokenPipeError:
        # what is left in the buffer has no reader: without this Python complains at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    except OSError as error:
        if error.strerror is None:
            raise
        what = error.filename or "The output"
        progress(f"{what} cannot be read or written: {error.strerror}. Give another place.")
        return Unavailable.exit_code
    if options.json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        print(_as_text(result))
    return 0


def _named(arguments: Sequence[str] | None) -> list[str]:
    """Return the arguments with the command that is meant when none is named."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        return ["run", *given]
    return given


def _as_text(result: Result) -> str:
    if result.command == "retrieval":
        from stratum_bench import retrieval_report

        return retrieval_report.report(result)
    return as_text(result)


def _run(options: argparse.Namespace) -> Result:
    # numpy's threads would count as CPU of whoever is asked last; set before numpy is imported
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    if options.command == "retrieval":
        return _retrieval(options)
    if options.command == "weights":
        from stratum_bench import weights

        return weights.run(options.results, options.seed)
    values = dict(_SIZES[options.command][options.size])
    values |= {name: given for name in values if (given := getattr(options, name)) is not None}
    if options.command == "start":
        from stratum_bench import start

        return start.run(options.size, options.seed, embedder=options.embedder, **values)
    if options.command == "search":
        from stratum_bench import search

        return search.run(options.size, options.seed, embedder=options.embedder, **values)
    if options.command == "index":
        from stratum_bench import index

        return index.run(options.size, options.seed, repo=options.repo, **values)
    if options.command == "truth":
        from stratum_bench import truth

        return truth.run(
            options.size,
            options.seed,
            repos=options.repos,
            only=options.only,
            parts=options.part or truth.PARTS,
            disagreements=options.disagreements,
            **values,
        )
    if options.command in ("team", "coordination"):
        return _shared(options, values)
    from stratum_bench import durability

    return durability.run(options.size, options.seed, **values)


def _shared(options: argparse.Namespace, values: dict[str, Any]) -> Result:
    """Run what needs a Redis, which is started from the packages of the tests unless given."""
    if options.command == "team":
        from stratum_bench import team

        return team.run(
            options.size,
            options.seed,
            embedder=options.embedder,
            redis_url=options.redis_url,
            **values,
        )
    from stratum_bench import coordination

    return coordination.run(options.size, options.seed, redis_url=options.redis_url, **values)


def _retrieval(options: argparse.Namespace) -> Result:
    from stratum_bench import retrieval

    if not options.repo and not (options.tasks and options.repos):
        raise InvalidInput(
            "No tasks are given.",
            hint="Give --tasks with --repos, or --repo for tasks from its own history.",
        )
    tasks, files = agent_cli.given_tasks(options)
    plan = retrieval.Plan(
        tasks=tuple(
            retrieval.chosen(tasks, only=options.only, limit=options.limit, seed=options.seed)
        ),
        arms=retrieval.chosen_arms(options.arms, options.embedder),
        embedder=options.embedder,
        seed=options.seed,
        jobs=options.jobs,
        files=files,
    )
    return retrieval.run(plan, options.repo or options.repos, work=options.work, out=options.out)


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    agent_cli.add_commands(commands, program)
    start = _command(commands, "start", "time from process start to the first answers over stdio")
    start.add_argument("--runs", type=positive, help="rounds; each starts every rival once")
    _add_embedder(start, "bundled")
    search = _command(commands, "search", "time and recall of searches beside plain scans")
    search.add_argument("--records", type=_sizes, help="sizes in order, as 1000,10000,50000")
    search.add_argument("--queries", type=positive, help="queries of each of the two kinds")
    _add_embedder(search, "hashing")
    durability = _command(commands, "durability", "kill -9 of writers; many writers at once")
    durability.add_argument("--kills", type=positive)
    durability.add_argument("--processes", type=positive)
    durability.add_argument("--writes", type=positive, help="of each process")
    index = _command(commands, "index", "what a real repository costs, in a clone of it")
    index.add_argument("--repo", type=Path, required=True, help="a clone with its history")
    index.add_argument("--apart", type=positive, help="commits between two trees")
    index.add_argument("--trees", type=positive, help="successive trees that share one memory")
    index.add_argument("--notes", type=positive, help="judged at once")
    truth = _command(commands, "truth", "stale notes served and fresh ones withheld, in clones")
    truth.add_argument("--repos", type=Path, required=True, help="folder that holds clones")
    truth.add_argument("--only", nargs="+", default=(), metavar="NAME", help="of these clones")
    truth.add_argument("--notes", type=positive, help="for each pair of commits")
    truth.add_argument("--distance", type=_sizes, help="commits between, as 10,100,500")
    truth.add_argument("--part", action="append", choices=("history", "purpose"))
    truth.add_argument("--disagreements", type=Path, metavar="FILE", help="as JSON lines")
    team = _command(commands, "team", "notes of a team: sending, reading, the shared index")
    team.add_argument("--notes", type=positive, help="in all")
    team.add_argument("--graph", type=positive, help="of them, in both kinds of index")
    team.add_argument("--queries", type=positive, help="queries of each of the two kinds")
    _add_embedder(team, "bundled")
    coordination = _command(commands, "coordination", "claims, events and contexts, call by call")
    coordination.add_argument("--calls", type=positive, help="timed calls of each operation")
    coordination.add_argument("--seconds", type=float, help="of each load at full speed")
    coordination.add_argument("--connections", type=_sizes, help="processes, as 1,4,8")
    for shared in (team, coordination):
        shared.add_argument("--redis-url", default="", metavar="URL", help="an empty server to use")
    _add_retrieval(commands)
    _add_weights(commands)
    return parser


def _add_weights(commands: Any) -> None:
    meaning = "learn what each feature of the ranking counts, and show what each brings"
    weights = commands.add_parser("weights", help=meaning, description=meaning)
    weights.add_argument("results", type=Path, nargs="+", metavar="results.jsonl")
    weights.add_argument("--seed", type=int, default=1)
    weights.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_retrieval(commands: Any) -> None:
    meaning = "whether the files that an issue is about are found"
    retrieval = commands.add_parser("retrieval", help=meaning, description=meaning)
    retrieval.add_argument("--tasks", type=Path, action="append", metavar="FILE.jsonl", default=[])
    retrieval.add_argument("--repos", type=Path, metavar="DIR", help="folder that holds clones")
    retrieval.add_argument("--repo", type=Path, metavar="PATH", help="tasks from its own history")
    retrieval.add_argument("--mine", type=positive, default=50, metavar="N", help="so many of them")
    retrieval.add_argument("--gold-lines", type=Path, metavar="FILE", help="lines edited")
    retrieval.add_argument("--work", type=Path, metavar="DIR", help="kept for later runs")
    retrieval.add_argument("--out", type=Path, metavar="DIR", help="where results.jsonl goes")
    retrieval.add_argument("--arms", type=names, default=(), metavar="A,B", help="all unless said")
    retrieval.add_argument("--only", nargs="+", default=(), metavar="REPO", help="of these")
    retrieval.add_argument("--limit", type=positive, metavar="N", help="tasks, drawn by the seed")
    retrieval.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, metavar="N")
    retrieval.add_argument("--seed", type=int, default=1)
    retrieval.add_argument("--embedder", choices=("bundled", "hashing", "none"), default="bundled")
    retrieval.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _command(commands: Any, name: str, meaning: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=meaning, description=meaning)
    parser.add_argument("--size", choices=("smoke", "full"), default="full")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _add_embedder(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--embedder", choices=("hashing", "bundled"), default=default)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(positive(part) for part in text.split(","))
    if list(sizes) != sorted(set(sizes)):
        raise argparse.ArgumentTypeError("sizes must grow, each above the one before")
    return sizes


if __name__ == "__main__":
    sys.exit(main())
