"""What a real repository costs: first and later indexes, history, verdicts, edits, space.

Works on a clone in a temporary folder; the repository itself is not changed.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from stratum import Filters, InvalidInput, Memory, Note, NotFound, load
from stratum_bench.measure import Clock, Result, Row, environment, progress, spread

_SETTLED = 2.5  # seconds after which the stat of a file is trusted
_RUNS = 20  # of what takes milliseconds


def run(size: str, seed: int, *, repo: Path, apart: int, trees: int, notes: int) -> Result:
    """Measure one repository.

    Args:
        size: The name under which the other numbers are known.
        seed: Chooses the places of notes and edits.
        repo: A clone with a history of more than `apart` and `trees` commits.
        apart: Commits between the two trees that are switched between.
        trees: Successive trees that are indexed one after the other.
        notes: How many notes are judged at once.
    """
    with _clone(repo) as (root, memory):
        commits = _git(root, "rev-list", "--first-parent", f"-n{max(apart + 1, trees)}", "HEAD")
        newest_first = commits.split()
        if len(newest_first) <= apart or len(newest_first) < trees:
            raise InvalidInput(
                f"{repo} has only {len(newest_first)} commits in a row.",
                hint="Give smaller numbers with --apart and --trees, or a longer history.",
            )
        rows: list[Row] = []
        facts: dict[str, object] = {}
        _switches(root, memory, newest_first[apart], newest_first[0], rows)
        _git(root, "checkout", "--quiet", newest_first[apart])
        memory.index(vectors=False)
        written = _write(memory, random.Random(seed), notes)
        facts["verdicts on notes of this commit"] = _judge(memory, written)
        _git(root, "checkout", "--quiet", newest_first[0])
        memory.index(vectors=False)
        facts[f"verdicts on notes {apart} commits later"] = _judge(memory, written)
        facts["search after an edit"] = _edits(memory, root, random.Random(seed))
        facts["space"] = _space(root, memory, newest_first[:trees][::-1])
    return Result(
        command="index",
        seed=seed,
        parameters={"repo": repo.name, "size": size, "apart": apart, "trees": trees},
        environment=environment(),
        rows=rows,
        facts=facts,
    )


@contextlib.contextmanager
def _clone(repo: Path) -> Iterator[tuple[Path, Memory]]:
    if not (repo / ".git").exists():
        raise NotFound(f"{repo} is no clone.", hint="Give the folder of a git repository.")
    with tempfile.TemporaryDirectory(prefix="stratum-bench-") as name:
        root, home = Path(name, "clone").resolve(), Path(name, "home")
        _git(repo, "clone", "--quiet", "--shared", str(repo.resolve()), str(root))
        kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        settings = load(kept | {"STRATUM_HOME": str(home), "STRATUM_EMBED_MODEL": "none"})
        with Memory(settings, root, resident=True) as memory:
            yield root, memory


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def _switches(root: Path, memory: Memory, old: str, new: str, rows: list[Row]) -> None:
    """Index one tree, the same again, another one, and go back."""
    for step, commit in (
        ("first index and history", new),
        ("nothing changed", None),
        ("to the older commit", old),
        ("back to the newer one", new),
    ):
        progress(step)
        if commit is not None:
            _git(root, "checkout", "--quiet", commit)
        else:
            time.sleep(_SETTLED)
            memory.index(vectors=False)
        clock = Clock()
        report = clock.time(lambda: memory.index(vectors=False))
        rows.append(
            {
                "step": step,
                "files": report.files,
                "contents parsed": report.parsed,
                "commits": report.commits,
                "commits read": report.commits_read,
                "wall ms": clock.wall[0],
                "cpu ms": clock.cpu[0],
            }
        )


def _write(memory: Memory, chance: random.Random, wanted: int) -> list[Note]:
    """Write notes on one symbol of each of so many files."""
    progress(f"{wanted} notes")
    files = sorted(memory.outline(".").files)
    chance.shuffle(files)
    notes: list[Note] = []
    for path in files:
        if len(notes) == wanted:
            break
        symbols = [s.name for s in memory.outline(path).symbols if s.kind != "section"]
        names = [name for name in symbols if symbols.count(name) == 1]
        if names:
            anchor = f"{path}::{chance.choice(names)}"
            with contextlib.suppress(InvalidInput):  # a name that looks like a secret
                notes.append(memory.write(f"Note {len(notes)}.", anchors=[anchor]).note)
    return notes


def _judge(memory: Memory, notes: Sequence[Note]) -> dict[str, object]:
    """Judge all notes at once, over and over."""
    time.sleep(_SETTLED)
    memory.index(vectors=False)
    clock = Clock()
    for _ in range(_RUNS):
        report = clock.time(memory.check)
    figures: dict[str, object] = {"notes": len(notes), "first": clock.wall[0]}
    return figures | spread(clock.wall[1:]) | {"counts": report.counts}


def _edits(memory: Memory, root: Path, chance: random.Random) -> dict[str, object]:
    """Edit one file and search for what was put there, while the index works in the background."""
    progress("searches after edits")
    memory.start_background()
    memory.wait_for_background(600)
    memory.warm_up()
    files = [path for path in memory.outline(".").files if path.endswith((".py", ".go", ".js"))]
    clock, seen = Clock(), 0
    for number in range(_RUNS):
        time.sleep(0.5)  # an agent thinks between two calls
        path = root / chance.choice(files)
        name = f"edited_in_round_{number}"
        line = {
            "py": f"def {name}(): pass",
            "go": f"func {name}() {{}}",
            "js": f"function {name}() {{}}",
        }
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line[path.suffix[1:]]}\n")
        search = partial(memory.search, name, filters=Filters(symbol=name))
        found = clock.time(search)
        seen += any(hit.title == name for hit in found.hits)
    _git(root, "checkout", "--quiet", "--", ".")
    memory.wait_for_background(60)
    return {"edits": _RUNS, "seen by the next search": seen, **spread(clock.wall)}


def _space(root: Path, memory: Memory, commits: Sequence[str]) -> dict[str, object]:
    """Index successive trees, oldest first, in a memory of their own."""
    home = root.parent / "trees"
    settings = load({"STRATUM_HOME": str(home), "STRATUM_EMBED_MODEL": "none"})
    parsed, first = 0, 0
    for number, commit in enumerate(commits):
        _git(root, "checkout", "--quiet", commit)
        with Memory(settings, root) as other:
            parsed += other.index(vectors=False).parsed
            size = other.status().database_bytes
        first = first or size
        if number % 30 == 0:
            progress(f"{number} of {len(commits)} trees")
    return {"trees": len(commits), "contents parsed": parsed, "first MB": first / 1e6,
            "all MB": size / 1e6, "ratio": size / first}  # fmt: skip
