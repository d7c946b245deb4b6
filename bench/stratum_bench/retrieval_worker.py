"""The tasks of one repository asked one after the other, each at its own commit.

Owns a clone, a memory over it and the order of the steps; checks before each question that nothing
later than the task's commit can be found. One process works on one folder at a time.
"""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratum import Filters, Memory, Settings, StratumError, Unavailable, load
from stratum.grammars import language_of
from stratum.models import Progress
from stratum_bench.retrieval_checkout import Checkout, is_candidate
from stratum_bench.retrieval_rivals import RIVALS, Rivals
from stratum_bench.retrieval_scores import fused, ranks_of
from stratum_bench.retrieval_tasks import Edit, Task, innermost

Line = dict[str, Any]
Symbol = tuple[str, str]  # path and qualified name


PACK = "stratum-pack"  # an arm that gives a text and no order
BUDGET = 1_200  # tokens of it
SHOWN = 20  # files and symbols of each arm that are kept by name
_TELL_EVERY = 20.0  # seconds
_WITHIN = "here: "  # begins what is said of a definition and not of its file
_LIMIT = 100  # hits asked for
_CODE = Filters(stratum="code")
_PAST = Filters(stratum="history")


class Leak(StratumError):
    """Something later than a task's commit could be found: its answers would be worth nothing."""

    code = "leak"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an arm says: files and symbols in its order, and the milliseconds it took.

    `features` are the shares that each file's score is made of.
    """

    files: Sequence[str]
    symbols: Sequence[Symbol] | None = None
    ms: float | None = None
    features: Mapping[str, Mapping[str, float]] | None = None


def settings_for(home: Path, embedder: str, threads: int) -> Settings:
    """Return the settings of a memory in the environment of `environ_for`."""
    return load(environ_for(home, embedder) | {"STRATUM_THREADS": str(threads)})


def environ_for(home: Path, embedder: str) -> dict[str, str]:
    """Return the environment of a memory below `home` that has nothing of its user's own."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    return kept | {
        "STRATUM_HOME": str(home),
        "STRATUM_EMBED_MODEL": embedder,
        "STRATUM_AUTHOR": "bench",
        "STRATUM_OFFLINE": "1",
    }


def teller(say: Callable[[str], None], task: Task) -> Callable[[Progress], None]:
    """Return what says now and then how far the index of a task is: a first one takes long."""
    told = time.monotonic()

    def tell(at: Progress) -> None:
        nonlocal told
        if time.monotonic() - told >= _TELL_EVERY:
            told = time.monotonic()
            say(f"{task.id}: {at.phase} {at.done:,} of {at.total:,}")

    return tell


class Worker:
    """A clone and a memory in a folder that is kept between runs.

    Args:
        source: The repository, which is not changed.
        folder: For the clone and what rivals have found; `settings` say where the memory is.
        settings: Of the memory.
        arms: What is asked.
        tell: Called with how far a long piece of work is.
    """

    def __init__(
        self,
        source: Path,
        folder: Path,
        settings: Settings,
        arms: Sequence[str],
        tell: Callable[[str], None],
    ) -> None:
        self._checkout = Checkout(source, folder / "clone")
        self._settings = settings
        self._rivals = Rivals(self._checkout, folder / "rivals")
        self._arms = arms
        self._tell = tell

    def answer(self, tasks: Sequence[Task]) -> Iterator[Line]:
        """Yield a line for each task; one that fails says so in its line."""
        with contextlib.ExitStack() as stack:
            memory: Memory | None = None
            for task in tasks:
                try:
                    self._checkout.go(task.base_commit)
                    if memory is None:
                        memory = Memory(self._settings, self._checkout.root, resident=True)
                        stack.enter_context(memory)
                    yield about(task) | self._asked(memory, task)
                except Exception as error:  # noqa: BLE001 - a bug in one task spares the others
                    yield about(task) | {"error": _reason(error)}

    def _asked(self, memory: Memory, task: Task) -> Line:
        tree = self._checkout.tree(task.base_commit)
        files = self._checkout.without_missing({p: b for p, b in tree.items() if is_candidate(p)})
        missing = [path for path in task.gold_files if not self._stands(path)]
        if missing:
            return {"skipped": f"{missing[0]} is not in the tree, or its contents are missing"}
        began = time.perf_counter()
        # without an embedder there is no use in what comes after the history: its symbols
        vectors = self._settings.embed_model != "none"
        report = memory.index(report=teller(self._tell, task), vectors=vectors)
        memory.warm_up()
        index_ms = _ms_since(began)
        if report.interrupted or report.vectors_pending:
            raise Unavailable(
                f"The index is not complete: {report.vectors_pending:,} vectors are missing.",
                hint=" ".join(report.notices),
            )
        check(self._checkout, memory, task, report.commits)
        gold = gold_of(memory, [edit for edit in task.edits if edit.path in files])
        answers = self._ask(memory, task, files)
        pack = {"pack": packed(memory, task, gold)} if PACK in self._arms else {}
        own = answers["stratum"].features if "stratum" in answers else None
        return pack | {
            "features": own or {},
            "candidates": len(files),
            "not_candidates": [path for path in task.gold_files if path not in files],
            "index_ms": index_ms,
            "gold_symbols": list(gold),
            "arms": {
                arm: _judged(answers[arm], task, list(gold)) for arm in self._arms if arm in answers
            },
        }

    def _stands(self, path: str) -> bool:
        return (self._checkout.root / path).is_file()

    def _ask(self, memory: Memory, task: Task, files: Mapping[str, str]) -> dict[str, Answer]:
        """Return what each arm says, and what arms that are fused are made of."""
        parts = {part for arm in self._arms for part in arm.split("+")}
        answers: dict[str, Answer] = {}
        for arm, ask in _STRATUM_ARMS.items():
            if arm in parts:
                answers[arm] = ask(memory, task.text, files)
        if parts.intersection(RIVALS):
            for arm, ranked in self._rivals.ask(task, files).items():
                answers[arm] = Answer(ranked)
        for arm in self._arms:
            if "+" in arm:
                answers[arm] = Answer(fused([answers[part].files for part in arm.split("+")]))
        return answers


def check(checkout: Checkout, memory: Memory, task: Task, commits: int) -> None:
    """Make sure that a task is asked at its commit, and that no later commit can be found.

    Args:
        checkout: Where the task's tree stands.
        memory: An indexed memory over it.
        task: Its question is asked of the past commits, too.
        commits: How many of them the memory says that it searches.

    Raises:
        Leak: Anything later can be found.
    """
    head = checkout.head()
    if head != task.base_commit:
        raise Leak(f"The tree is that of {head[:10]} instead of {task.base_commit[:10]}.")
    reachable = checkout.ancestors(task.base_commit)
    if commits != len(reachable):
        raise Leak(f"{commits:,} commits are searched, but the task has {len(reachable):,}.")
    beginnings = {commit[:10] for commit in reachable}
    for hit in memory.search(task.text, filters=_PAST, limit=_LIMIT).hits:
        commit = hit.origin.partition(",")[0]
        if commit not in beginnings:
            raise Leak(f"The commit {commit} is found, which is not before the task's.")


def gold_of(memory: Memory, edits: Sequence[Edit]) -> dict[Symbol, set[int]]:
    """Return the innermost definitions that hold edited lines, with these lines."""
    found: dict[Symbol, set[int]] = {}
    for path in dict.fromkeys(edit.path for edit in edits):
        own = [edit for edit in edits if edit.path == path]
        for name, lines in innermost(memory.outline(path).symbols, own).items():
            found[path, name] = lines
    return found


def packed(memory: Memory, task: Task, gold: Mapping[Symbol, set[int]]) -> Line:
    """Return what a pack for a task costs, and which edited files and definitions it names.

    A definition counts when all of its edited lines are among those that the pack names; a file
    named as a whole names no lines.
    """
    began = time.perf_counter()
    told = memory.pack(task.text, budget=BUDGET)
    ms = _ms_since(began)
    lines: dict[str, set[int]] = {place.path: set() for place in told.places}
    for place in told.places:
        if place.symbol:
            lines[place.path].update(range(place.start_line, place.end_line + 1))
    return {
        "ms": ms,
        "tokens": told.receipt.tokens_used,
        "lines": sum(map(len, lines.values())),
        "files": [path in lines for path in task.gold_files],
        "symbols": [edited <= lines.get(path, set()) for (path, _), edited in gold.items()],
    }


def _searched(memory: Memory, text: str, files: Mapping[str, str]) -> Answer:
    return _of_hits(memory, text, files, vectors_alone=False)


def _nearest(memory: Memory, text: str, files: Mapping[str, str]) -> Answer:
    return _of_hits(memory, text, files, vectors_alone=True)


def _of_hits(memory: Memory, text: str, files: Mapping[str, str], *, vectors_alone: bool) -> Answer:
    """Search and keep the candidates' files and symbols, in the order in which they come first."""
    began = time.perf_counter()
    mode: Any = "vector" if vectors_alone else "hybrid"
    found = memory.search(text, filters=_CODE, limit=_LIMIT, mode=mode, explain=True)
    ms = _ms_since(began)
    if found.mode != mode and memory.settings.embed_model != "none":
        raise Unavailable(f"The search was {found.mode} only.", hint=" ".join(found.notices))
    hits = [hit for hit in found.hits if hit.path in files]
    paths = dict.fromkeys(hit.path for hit in hits if hit.path)
    symbols = dict.fromkeys((h.path, h.title) for h in hits if h.path and h.kind != "file")
    features: dict[str, dict[str, float]] = {}
    for hit in hits:  # the first one of a file tells of it, the others are scaled
        if hit.path and hit.path not in features:
            features[hit.path] = {n: share for n, share in hit.why if not n.startswith(_WITHIN)}
    return Answer(list(paths), list(symbols), ms, features)


_STRATUM_ARMS: dict[str, Callable[[Memory, str, Mapping[str, str]], Answer]] = {
    "stratum": _searched,
    "vectors": _nearest,
}
_FUSED = ("contents+outlines", "contents+outlines+vectors", "contents+outlines+history")
ARMS = ("stratum", PACK, *RIVALS, "vectors", *_FUSED)


def about(task: Task) -> Line:
    """Return what a line says of a task whatever becomes of it."""
    return {
        "task": task.id,
        "repo": task.repo,
        "language": language_of(task.gold_files[0]),
        "leak": task.leak,
        "unnamed": task.unnamed,
        "gold": list(task.gold_files),
    }


def _judged(answer: Answer, task: Task, gold_symbols: Sequence[Symbol]) -> Line:
    line: Line = {
        "ranks": ranks_of(task.gold_files, answer.files),
        "files": list(answer.files[:SHOWN]),
    }
    if answer.symbols is not None:
        line["symbol_ranks"] = ranks_of(gold_symbols, answer.symbols)
        line["symbols"] = list(answer.symbols[:SHOWN])
    if answer.ms is not None:
        line["ms"] = answer.ms
    return line


def _reason(error: Exception) -> str:
    """Return what an error says; one that nobody raised on purpose keeps its traceback."""
    if isinstance(error, StratumError):
        return f"{error.message} {error.hint}".strip()
    traceback.print_exception(error)
    return repr(error)


def _ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 1)
