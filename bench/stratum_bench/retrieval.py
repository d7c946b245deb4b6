"""How well the files and symbols that an issue is about are found, beside textbook rivals.

Owns the run: which tasks, in which processes, what is kept of them in a file and taken from it when
a run goes on. Each answer is one line; a line says all that the report needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from stratum import InvalidInput, NotFound, StratumError, Unavailable, __version__
from stratum.embedder import open_embedder
from stratum_bench.measure import Result, environment, progress
from stratum_bench.processes import Hand, side_by_side
from stratum_bench.retrieval_checkout import find_clone
from stratum_bench.retrieval_report import facts, rows
from stratum_bench.retrieval_tasks import Task, in_order
from stratum_bench.retrieval_worker import ARMS, Line, Worker, about, settings_for

_LOCK_TRIES, _LOCK_PAUSE = 5, 0.05  # seconds: who only looks holds the lock for a moment
_LEAST_CHUNK = 20  # tasks; each chunk of a repository has an index of its own to make
_NO_VECTORS = "vectors"  # arms with this in their name need an embedder
_CODE = {"stratum": "*.py", "stratum_bench": "*.py"}
_NO_ANSWER = (  # what they do changes no answer
    "cli.py",
    "__main__.py",
    "retrieval.py",
    "retrieval_report.py",
    "compare.py",
    "compare_report.py",
    "compare_html.py",
    "replay.py",
)


@dataclass(frozen=True, slots=True)
class Job:
    """Tasks of one repository in order, for one process in one folder, and what is asked there."""

    source: Path
    folder: Path
    tasks: tuple[Task, ...]
    arms: tuple[str, ...]
    embedder: str
    threads: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked: `arms` in the order of the report, `jobs` processes, `files` by their hash."""

    tasks: tuple[Task, ...]
    arms: tuple[str, ...]
    embedder: str
    seed: int
    jobs: int
    files: dict[str, str]


def run(plan: Plan, repos: Path, *, work: Path | None = None, out: Path | None = None) -> Result:
    """Ask all tasks and score the answers.

    Args:
        plan: What is asked.
        repos: A folder of clones with their histories, or one of them; never changed.
        work: Where clones and indexes are kept for later runs; without it they are dropped.
        out: The folder of `results.jsonl`, from which a run that was broken off goes on.

    Raises:
        NotFound: There is no clone of a repository.
        Unavailable: Another run works in the folder, or no task could be judged.
    """
    wanted = {task.id: task for task in plan.tasks}
    sources = {repo: find_clone(repos, repo) for repo in {task.repo for task in plan.tasks}}
    with contextlib.ExitStack() as stack:
        if work is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stratum-bench-")))
        stack.enter_context(alone_in(work))
        results = Results(out, _header(plan))
        stack.enter_context(results)
        lines = {id_: line for id_, line in results.kept.items() if id_ in wanted}
        if lines:
            progress(f"{len(lines)} of {len(wanted)} tasks are answered already")
        for line in answers(jobs_of(plan, sources, work.resolve(), lines), plan.jobs):
            results.add(line)
            lines[line["task"]] = line
            progress(f"{len(lines)} of {len(wanted)}  {_told(line)}")
    ordered = [lines[task.id] for task in plan.tasks]
    judged = [line for line in ordered if "arms" in line]
    if not judged:
        first = ordered[0].get("error") or ordered[0].get("skipped")
        raise Unavailable(f"No task could be judged: {first}", hint="Look at the first one alone.")
    return Result(
        command="retrieval",
        seed=plan.seed,
        parameters={"tasks": len(ordered), "embedder": plan.embedder, "arms": list(plan.arms)},
        environment=environment(),
        rows=rows(judged, plan.arms),
        facts=facts(ordered, plan.arms, plan.seed),
    )


def chosen(
    tasks: Sequence[Task], *, only: Sequence[str] = (), limit: int | None = None, seed: int = 1
) -> list[Task]:
    """Return the tasks of some repositories, at most `limit` of them drawn by the seed.

    Raises:
        NotFound: `only` names a repository without tasks.
    """
    for name in only:
        if not any(_is_called(task.repo, name) for task in tasks):
            there = ", ".join(sorted({task.repo for task in tasks}))
            raise NotFound(f"No task is of {name}.", hint=f"There are tasks of {there}.")
    found = [t for t in tasks if not only or any(_is_called(t.repo, name) for name in only)]
    if limit is not None and limit < len(found):
        found = random.Random(seed).sample(found, limit)
    return in_order(found)


def chosen_arms(names: Sequence[str], embedder: str) -> tuple[str, ...]:
    """Return the arms that are asked for, all of them for none; without vectors if there are none.

    Raises:
        InvalidInput: There is no such arm.
    """
    for name in names:
        if name not in ARMS:
            raise InvalidInput(f"There is no arm {name!r}.", hint=f"Arms: {', '.join(ARMS)}.")
    return tuple(
        arm
        for arm in ARMS
        if (not names or arm in names) and not (embedder == "none" and _NO_VECTORS in arm)
    )


class Results:
    """The lines of a run in a file, each there as soon as it is known; none without a folder.

    The first line says what the answers depend on. Lines below an equal one are `kept`, by the id
    of their task, but for those that failed; a file of another run is put aside, not overwritten.
    """

    def __init__(self, folder: Path | None, header: Line) -> None:
        self.kept: dict[str, Line] = {}
        self._file: IO[str] | None = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "results.jsonl"
        found = _complete_lines(path)
        if found and found[0] == header:
            self.kept = {line["task"]: line for line in found[1:] if "error" not in line}
        elif found:
            aside = next(
                name
                for number in range(1, len(list(folder.iterdir())) + 2)
                if not (name := folder / f"results-{number}.jsonl").exists()
            )
            path.rename(aside)
            progress(f"the answers of another run are put aside in {aside.name}")
        # a line that a kill cut short must not stand in the middle
        text = "".join(map(_as_line, (header, *self.kept.values())))
        fresh = path.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, line: Line) -> None:
        """Keep a line."""
        if self._file is not None:
            self._file.write(_as_line(line))
            self._file.flush()


def _as_line(line: Line) -> str:
    return json.dumps(line) + "\n"


def _complete_lines(path: Path) -> list[Line]:
    """Return the lines of a file up to the first that is no answer."""
    found: list[Line] = []
    with contextlib.suppress(FileNotFoundError, ValueError):
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            read = json.loads(line)
            if not isinstance(read, dict) or (found and "task" not in read):
                break
            found.append(read)
    return found


def _header(plan: Plan) -> Line:
    settings = settings_for(Path(), plan.embedder, 1)
    embedder = open_embedder(plan.embedder, cache=settings.cache_dir, offline=True, threads=1)
    return {
        "stratum": __version__,
        "code": code_hash(),
        "python": platform.python_version(),
        "embedder": embedder.fingerprint if embedder else plan.embedder,
        "arms": list(plan.arms),
        "seed": plan.seed,
        "files": plan.files,
    }


def code_hash() -> str:
    """Return a hash of all code that an answer may depend on, edits without a version included."""
    digest = hashlib.sha256()
    for name, files in _CODE.items():
        spec = importlib.util.find_spec(name)
        for folder in spec.submodule_search_locations or () if spec else ():
            for file in sorted(Path(folder).glob(files)):
                if file.name not in _NO_ANSWER:
                    digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def alone_in(work: Path) -> Iterator[None]:
    """Hold the folder for this run, as far as the system can lock files."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("a") as lock:
        with contextlib.suppress(ImportError):
            import fcntl

            for tries_left in reversed(range(_LOCK_TRIES)):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if not tries_left:
                        raise Unavailable(
                            f"Another run works in {work}.",
                            hint="Wait for it, or give another folder.",
                        ) from None
                    time.sleep(_LOCK_PAUSE)
        yield


def jobs_of(
    plan: Plan, sources: Mapping[str, Path], work: Path, answered: Collection[str] = ()
) -> list[Job]:
    """Return the work in parts, the largest first.

    A part holds the same tasks whatever is answered already: its folder knows their trees.
    """
    jobs = []
    threads = max(1, (os.cpu_count() or 1) // plan.jobs)
    for repo, source in sources.items():
        own = [task for task in plan.tasks if task.repo == repo]
        parts = max(1, min(plan.jobs, len(own) // _LEAST_CHUNK))
        for part in range(parts):
            chunk = own[len(own) * part // parts : len(own) * (part + 1) // parts]
            left = tuple(task for task in chunk if task.id not in answered)
            if left:
                folder = work / repo.replace("/", "__") / str(part)
                jobs.append(Job(source, folder, left, plan.arms, plan.embedder, threads))
    return sorted(jobs, key=lambda job: -len(job.tasks))


def answers(jobs: Sequence[Job], at_once: int) -> Iterator[Line]:
    """Yield the lines of all jobs as processes give them; one for each task, come what may."""
    left = {job.folder: {task.id: task for task in job.tasks} for job in jobs}
    for job, said in side_by_side(jobs, lambda job: Hand(do, job), at_once):
        if isinstance(said, str):
            progress(said)
        elif isinstance(said, dict):
            left[job.folder].pop(said["task"], None)
            yield said
        else:
            reason = f"the process ended before with status {said}"
            yield from (about(task) | {"error": reason} for task in left[job.folder].values())


def do(job: Job, say: Callable[[Line | str], None]) -> None:
    """Do a job in a process of its own."""
    settings = settings_for(job.folder / "home", job.embedder, job.threads)
    try:
        for line in Worker(job.source, job.folder, settings, job.arms, say).answer(job.tasks):
            say(line)
    except StratumError as error:
        for task in job.tasks:
            say(about(task) | {"error": error.message})


def _is_called(repo: str, name: str) -> bool:
    return name.lower() in (repo.lower(), repo.lower().rpartition("/")[2])


def _told(line: Line) -> str:
    if "arms" not in line:
        return f"{line['task']}: {line.get('error') or line.get('skipped')}"
    ranks: Any = line["arms"].get("stratum", {}).get("ranks", [])
    shown = ", ".join("-" if rank is None else str(rank) for rank in ranks)
    return f"{line['task']}: ranks {shown}" if shown else line["task"]
