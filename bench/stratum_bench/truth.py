"""Whether a note is true when it is served: verdicts on real histories beside a second opinion.

Owns the run: clones, pairs of commits, the notes written on the older one, changes made on
purpose, and what is kept of each disagreement. What is true is told by `truth_tree`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stratum import InvalidInput, Memory, NotFound, StratumError, Unavailable, load
from stratum_bench.measure import Result, environment, progress
from stratum_bench.truth_changes import Change, Ground, Outcome, changes
from stratum_bench.truth_report import SERVED, Judged, Seen, facts, rows
from stratum_bench.truth_source import Wanted, language_of
from stratum_bench.truth_tree import (
    Comparison,
    Place,
    Tree,
    Truth,
    diffs,
    forget,
    git,
    touched,
)

PARTS = ("history", "purpose")
_RECENT = 3  # the newer commit of a pair lies in the latest third of the history
_MOST_FILES = 1_000  # outlined to draw notes from
_SHARES = {"lines": 0.15, "file": 0.05}  # of the notes; symbols are the rest
_LENGTHS = (1, 2, 5, 15)
_SHOWN_LINES = 60
_STALE_ASKED = 20


@dataclass(slots=True)
class Tally:
    """What a run has gathered so far."""

    judged: list[Judged] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    contradictions: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    disagreements: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Workplace:
    """A clone that may be spoiled and a memory of its own."""

    name: str
    root: Path
    home: Path

    @contextlib.contextmanager
    def memory(self) -> Iterator[Memory]:
        """Open the memory in this process and bring its index up to date with the tree."""
        environ = {"STRATUM_HOME": str(self.home), "STRATUM_EMBED_MODEL": "none"}
        kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        settings = load(kept | environ | {"STRATUM_AUTHOR": "bench", "STRATUM_OFFLINE": "1"})
        with Memory(settings, self.root) as memory:
            memory.index(vectors=False)
            yield memory

    def checkout(self, commit: str) -> None:
        """Make the working tree equal to a commit, whatever stands there."""
        git(self.root, "checkout", "--quiet", "--force", "--detach", commit)
        git(self.root, "clean", "-ffdqx")

    def forget(self) -> None:
        """Drop all that the memory holds."""
        shutil.rmtree(self.home, ignore_errors=True)


def run(
    size: str,
    seed: int,
    *,
    repos: Path,
    only: Sequence[str] = (),
    notes: int,
    distance: Sequence[int],
    parts: Sequence[str] = PARTS,
    disagreements: Path | None = None,
) -> Result:
    """Compare verdicts with the truth in every clone below `repos`.

    Raises:
        NotFound: No clone is there, or not one that `only` names.
    """
    begun, tally = time.monotonic(), Tally()
    for repository in _repositories(repos, only):
        rng = random.Random(f"{seed} {repository.name}")
        try:
            with _workplace(repository) as work:
                for steps in distance if "history" in parts else ():
                    _pair(work, steps, notes, rng, tally)
                    forget()
                if "purpose" in parts:
                    _on_purpose(work, size, notes, rng, tally)
                    forget()
        except Unavailable as error:  # one broken clone does not spoil the others
            tally.not_run.append(f"{repository.name}: {error.message}")
    if disagreements is not None:
        lines = (json.dumps(one, ensure_ascii=False) + "\n" for one in tally.disagreements)
        disagreements.write_text("".join(lines), encoding="utf-8")
    return Result(
        command="truth",
        seed=seed,
        parameters={"size": size, "notes": notes, "distance": list(distance), "parts": list(parts)},
        environment=environment(),
        rows=rows(tally.judged),
        facts={
            **facts(tally.judged),
            "not written": dict(tally.refused),
            "not run": sorted(set(tally.not_run)),
            "contradictions of the truth": tally.contradictions[:20],
            "check and get differ": tally.differing[:20],
            "seconds": round(time.monotonic() - begun),
        },
    )


def _repositories(folder: Path, only: Sequence[str]) -> list[Path]:
    found = sorted(path for path in folder.glob("*") if (path / ".git").exists())
    missing = sorted(set(only) - {path.name for path in found})
    if missing or not found:
        raise NotFound(
            f"There is no git repository {missing[0] if missing else 'at all'} in {folder}.",
            hint="Clone it there with its full history, or name one that is there.",
            similar=tuple(path.name for path in found),
        )
    return [path for path in found if not only or path.name in only]


@contextlib.contextmanager
def _workplace(repository: Path) -> Iterator[Workplace]:
    with tempfile.TemporaryDirectory(prefix="stratum-truth-") as name:
        folder = Path(name).resolve()
        root = folder / repository.name
        git(folder, "clone", "--shared", "--no-checkout", "--quiet", str(repository), str(root))
        yield Workplace(repository.name, root, folder / "home")


# histories


def _pair(work: Workplace, steps: int, notes: int, rng: random.Random, tally: Tally) -> None:
    """Write notes on a commit, go `steps` commits on and compare."""
    line = git(work.root, "rev-list", "--first-parent", "HEAD").split()
    if len(line) <= steps:
        tally.not_run.append(f"{work.name}, {steps} commits: its history is shorter")
        return
    at = rng.randrange(max(1, min(len(line) - steps, len(line) // _RECENT)))
    new, old = line[at], line[at + steps]
    work.forget()
    work.checkout(old)
    before, lines = Tree.at(work.root), diffs(work.root, old, new)
    blank = diffs(work.root, old, new, blank=True)
    noted = _write_notes(work, before, notes, rng, tally, prefer=set(lines))
    work.checkout(new)
    after = Tree.at(work.root, before)
    seen = _seen(work, noted, tally)
    comparison = Comparison(before, after, lines, blank)
    change = f"{steps} commits"
    for id_, place in noted.items():
        truth = comparison.truth(place)
        _keep(tally, work, "history", change, place, seen[id_], truth, comparison, (old, new))
    progress(f"{work.name}, {change} ({old[:10]} to {new[:10]}): {len(noted)} notes")


def _write_notes(
    work: Workplace,
    tree: Tree,
    notes: int,
    rng: random.Random,
    tally: Tally,
    prefer: Collection[str] = (),
) -> dict[str, Place]:
    """Write up to `notes` notes on the tree as it stands, half of them in `prefer`; id -> place."""
    written: dict[str, Place] = {}
    with work.memory() as memory:
        for number, (anchor, place) in enumerate(_drawn(memory, tree, notes, rng, prefer)):
            text = f"{work.name} {number}: what to know of {anchor} in this benchmark"
            try:
                note = memory.write(text, anchors=[anchor]).note
            except (InvalidInput, NotFound) as error:
                tally.refused[f"{type(error).__name__}: {place.kind}"] += 1
                continue
            first = note.anchors[0].start_line or 0
            if place.kind != "file" and first != place.start_line:
                tally.refused["anchored elsewhere"] += 1
                continue
            written[note.id] = place
    return written


def _drawn(
    memory: Memory, tree: Tree, notes: int, rng: random.Random, prefer: Collection[str]
) -> list[tuple[str, Place]]:
    """Draw anchors and their places."""
    paths = sorted(tree.texts)
    rng.shuffle(paths)
    paths.sort(key=lambda path: path not in prefer)
    symbols: dict[bool, list[tuple[str, Place]]] = {True: [], False: []}
    outlined = [path for path in paths if path in prefer][: _MOST_FILES // 2]
    outlined += [path for path in paths if path not in prefer][: _MOST_FILES - len(outlined)]
    for path in outlined:
        symbols[path in prefer] += _symbols(memory, path)
    drawn = _half(symbols, round(notes * (1 - sum(_SHARES.values()))), rng)
    by_path: dict[str, list[Place]] = {}
    for _, place in (*symbols[True], *symbols[False]):
        by_path.setdefault(place.path, []).append(place)
    innermost = {path: _innermost(places) for path, places in by_path.items()}
    pools: dict[bool, list[tuple[str, Place]]] = {True: [], False: []}
    for path in outlined:
        inside = innermost.get(path, ())
        own = by_path.get(path, ())
        pools[path in prefer] += _ranges(path, tree.texts[path], inside, own, rng)
    drawn += _half(pools, round(notes * _SHARES["lines"]), rng)
    files = {key: [(p, Place("file", p)) for p in outlined if (p in prefer) == key]
             for key in (True, False)}  # fmt: skip
    drawn += _half(files, round(notes * _SHARES["file"]), rng)
    return sorted(dict(drawn).items())


def _half(
    pools: Mapping[bool, Sequence[tuple[str, Place]]], count: int, rng: random.Random
) -> list[tuple[str, Place]]:
    """Draw half from each pool, more from one where the other has too few."""
    liked = min(len(pools[True]), max(count // 2, count - len(pools[False])))
    other = min(len(pools[False]), count - liked)
    return rng.sample(list(pools[True]), liked) + rng.sample(list(pools[False]), other)


def _symbols(memory: Memory, path: str) -> list[tuple[str, Place]]:
    """Return the anchors of all symbols of a file; one of several of a name gets its number."""
    try:
        symbols = memory.outline(path).symbols
    except StratumError:
        return []
    count, seen, found = Counter(symbol.name for symbol in symbols), Counter[str](), []
    for symbol in symbols:
        seen[symbol.name] += 1
        number = f"#{seen[symbol.name]}" if count[symbol.name] > 1 else ""
        wanted = Wanted(symbol.name, seen[symbol.name], symbol.start_line, symbol.end_line)
        place = Place("symbol", path, symbol.start_line, symbol.end_line, wanted)
        found.append((f"{path}::{symbol.name}{number}", place))
    return found


def _innermost(places: Sequence[Place]) -> list[Place]:
    """Return the places of one file that have several lines and hold no other."""
    return [
        place
        for place in places
        if place.end_line > place.start_line
        and not any(
            place.start_line <= other.start_line <= place.end_line
            for other in places
            if other is not place
        )
    ]


def _ranges(
    path: str,
    text: str,
    innermost: Sequence[Place],
    symbols: Sequence[Place],
    rng: random.Random,
) -> list[tuple[str, Place]]:
    """Return ranges of lines of a file: a few at random, and bodies of definitions."""
    count = text.count("\n") + (not text.endswith("\n"))
    spans = [(first, first + length - 1)
             for length in _LENGTHS if count >= length
             for first in [rng.randint(1, count - length + 1)]]  # fmt: skip
    spans += [(p.start_line, p.end_line) for p in rng.sample(innermost, min(2, len(innermost)))]
    lines = text.split("\n")
    spans = [(a, b) for a, b in spans if any(line.strip() for line in lines[a - 1 : b])]
    return [(f"{path}:{a}-{b}", Place("lines", path, a, b, _around(symbols, a, b)))
            for a, b in spans]  # fmt: skip


def _around(symbols: Sequence[Place], first: int, last: int) -> Wanted | None:
    """Return the smallest symbol that holds all of some lines."""
    holding = [p for p in symbols if p.start_line <= first and last <= p.end_line]
    smallest = min(holding, key=lambda p: p.end_line - p.start_line, default=None)
    return smallest.wanted if smallest else None


def _seen(work: Workplace, noted: Mapping[str, Place], tally: Tally) -> dict[str, Seen]:
    """Ask for the verdicts on all notes, as the tree stands.

    What `check` says counts; where the place is, `get` says, and whether both agree is kept. Only
    some stale notes are asked for with `get`, which looks into the history for each.
    """
    found = {}
    asked = 0
    with work.memory() as memory:
        checked = memory.check().freshness
        for id_, place in noted.items():
            freshness = checked.get(id_, "unjudged")
            if freshness not in SERVED:
                asked += 1
                if asked > _STALE_ASKED:
                    found[id_] = Seen(freshness)
                    continue
            entry = memory.get(id_)
            verdict = entry.verdicts[0]
            if entry.freshness != freshness:
                said = f"check {freshness}, get {entry.freshness}"
                tally.differing.append(f"{work.name}, {place.path}:{place.start_line}: {said}")
            found[id_] = Seen(
                freshness,
                verdict.path,
                verdict.start_line,
                verdict.end_line,
                verdict.symbol,
            )
    return found


# changes on purpose


def _on_purpose(work: Workplace, size: str, notes: int, rng: random.Random, tally: Tally) -> None:
    """Write notes on the latest commit, then change the tree in each way, from a clean checkout."""
    commit = git(work.root, "rev-parse", "HEAD").strip()
    work.forget()
    work.checkout(commit)
    tree = Tree.at(work.root)
    noted = _write_notes(work, tree, notes, rng, tally)
    kept = work.home.with_name("kept")
    shutil.copytree(work.home, kept)
    places = list(noted.values())
    for change in changes(size):
        work.checkout(commit)
        outcome = change.apply(Ground(work.root, tree, places, rng))
        if outcome.problem:
            if outcome.problem != "-":
                tally.not_run.append(f"{work.name}, {change.name}: {outcome.problem}")
            continue
        seen = {}
        for state in ("uncommitted", "committed"):
            work.forget()
            shutil.copytree(kept, work.home)
            if state == "committed":
                git(
                    work.root,
                    "commit",
                    "--quiet",
                    "--allow-empty",
                    "-m",
                    change.name,
                )
            seen[state] = _seen(work, noted, tally)
            if state == "uncommitted":
                git(work.root, "add", "--all")
                lines = diffs(work.root, commit, None)
                blank = diffs(work.root, commit, None, blank=True)
        after = Tree.at(work.root, tree)
        comparison = Comparison(tree, after, lines, blank, pure=True)
        _judge_change(work, change, outcome, noted, seen, comparison, tally)
        progress(f"{work.name}, {change.name}: {len(noted)} notes")


def _judge_change(
    work: Workplace,
    change: Change,
    outcome: Outcome,
    noted: Mapping[str, Place],
    seen: Mapping[str, Mapping[str, Seen]],
    comparison: Comparison,
    tally: Tally,
) -> None:
    for id_, place in noted.items():
        compared = comparison.truth(place)
        truth = _by_construction(outcome, place, compared)
        if change.group == "edit" and _contradict(truth, compared):
            tally.contradictions.append(
                f"{work.name}, {place.path}:{place.start_line}: {truth} / {compared}"
            )
        for state, verdicts in seen.items():
            title = change.name if state == "uncommitted" else f"{change.name}, {state}"
            _keep(
                tally, work, change.group, title, place, verdicts[id_], truth, comparison, ()
            )  # fmt: skip


def _by_construction(outcome: Outcome, place: Place, compared: Truth) -> Truth:
    """Return what is known of a place from what was done; lines are always compared."""
    if compared.cause == "file unchanged":
        return compared
    if place.kind == "lines":
        laid_out = outcome.fresh and compared.state == "edited"
        return Truth("unjudged", "lines were laid out anew") if laid_out else compared
    if place.kind == "file" and outcome.fresh:
        sorted_anew = compared.state != "same"  # includes and imports, semicolons
        return Truth("unjudged", "tokens were put in order") if sorted_anew else compared
    if outcome.fresh:
        return Truth("same", "formatted")
    if outcome.edited is None or compared.cause == "not found by the second opinion":
        return compared
    ways = outcome.edited.get(place.path, {})
    if touched([place], {place.path: set(ways)}):
        inside = sorted(
            way
            for line, way in ways.items()
            if place.kind == "file" or place.start_line <= line <= place.end_line
        )
        return Truth("edited", inside[0] if len(inside) == 1 else "several edits")
    # its equal twin was edited: no look at the tree can tell which of the two is left
    return compared if compared.state == "unjudged" else Truth("same", "beside an edit")


def _contradict(one: Truth, other: Truth) -> bool:
    stale = ("edited", "deleted", "renamed")
    return "unjudged" not in (one.state, other.state) and (
        (one.state in stale) != (other.state in stale)
    )


def _keep(
    tally: Tally,
    work: Workplace,
    group: str,
    change: str,
    place: Place,
    seen: Seen,
    truth: Truth,
    comparison: Comparison,
    pair: Sequence[str],
) -> None:
    """Take a note into the tally, with both sources when the verdict is wrong."""
    one = Judged(work.name, language_of(place.path), group, change, place, seen, truth)
    tally.judged.append(one)
    if not one.fault:
        return
    spot = min(truth.places) if truth.places else (seen.path or "", seen.start_line or 0)
    length = place.end_line - place.start_line + 1
    tally.disagreements.append(
        {
            "fault": one.fault,
            "repository": work.name,
            "commits": list(pair),
            "group": group,
            "change": change,
            "kind": place.kind,
            "path": place.path,
            "symbol": place.wanted.name if place.wanted else "",
            "lines": [place.start_line, place.end_line],
            "verdict": [seen.freshness, seen.path, seen.start_line, seen.end_line, seen.symbol],
            "truth": [truth.state, truth.cause, sorted(truth.places), truth.name],
            "old": _shown(comparison.old, place.path, place.start_line, length),
            "new": _shown(comparison.new, spot[0], spot[1], length + 10),
        }
    )


def _shown(tree: Tree, path: str, first: int, count: int) -> str:
    lines = tree.texts.get(path, "").split("\n")
    return "\n".join(lines[max(0, first - 1) : max(0, first - 1) + min(count, _SHOWN_LINES)])
