"""Realistic material: source files of the running Python, queries and notes made from them.

Equal seeds give equal material on the same Python. Knows nothing of `stratum`.
"""

from __future__ import annotations

import ast
import itertools
import random
import re
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_DEFINITION = re.compile(r"\b(def|class)\s+([A-Za-z]\w+)")
_WORD = re.compile(r"[A-Za-z]{3,}")
_SKIPPED = {"site-packages", "__pycache__", "lib2to3", "bad_coding"}
_QUERY_FILES = 150  # files whose functions the queries are made of
_NOTE_FILES = 40  # fewer for notes: each writing process reads them when it starts
_LEADS = (
    "Calling {name} with unusual arguments gives the wrong result.",
    "{name} raises an exception that I did not expect.",
    "After the upgrade the behaviour of {name} has changed.",
    "The documentation of {name} and what it does disagree.",
)
_TAILS = (
    "It happens every time, with the main branch as well as with the last release.",
    "I would expect an error that says what is wrong instead.",
    "A small fix seems possible but I do not know where to start.",
    "Before that version the same call worked without any trouble.",
)


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked. `kind` is "short" (3-6 words) or "issue" (20-60 words)."""

    kind: str
    text: str


def sources() -> Iterator[tuple[str, str]]:
    """Yield (path, text) of the standard library, then copies with altered names, without end.

    The library's tests, where they are installed, come last in each round.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [(path.relative_to(root), path) for path in _library(root)]
    files.sort(key=lambda pair: ("test" in pair[0].parts, pair[0].as_posix()))
    for relative, path in files:
        text = _read(path)
        if text is not None:
            yield f"library/{relative.as_posix()}", text
    copy = 1
    while True:
        copy += 1
        for relative, path in files:
            text = _read(path)
            if text is not None:
                altered = _DEFINITION.sub(rf"\1 \2_variant_{copy}", text)
                yield f"library{copy}/{relative.as_posix()}", altered


def queries(count: int, seed: int) -> list[Query]:
    """Return `count` queries of each kind, made of functions of the standard library."""
    rng = random.Random(seed)
    functions = list(_functions(_QUERY_FILES))
    rng.shuffle(functions)
    chosen = [functions[i % len(functions)] for i in range(count)]
    return [
        *(Query("short", _short(rng, name, doc)) for name, _, doc in chosen),
        *(Query("issue", _issue(rng, *function)) for function in chosen),
    ]


def note_text(seed: int, writer: int, number: int) -> str:
    """Return the text of one note; different for each writer and number."""
    rng = random.Random(f"{seed}/{writer}/{number}")
    name, path, doc = rng.choice(_functions(_NOTE_FILES))
    # plain words only: what looks like a secret would be masked, and the note not be found again
    words = [word for word in doc.split() if word.isalpha()]
    said = " ".join(words[: rng.randint(12, 40)])
    return f"{name} in {path}: {said} (seen in run {writer}, step {number})"


def _library(root: Path) -> Iterator[Path]:
    for path in root.rglob("*.py"):
        if not _SKIPPED.intersection(path.relative_to(root).parts):
            yield path


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):  # some tests of the library are broken on purpose
        return None


@lru_cache
def _functions(files: int) -> tuple[tuple[str, str, str], ...]:
    """Return (name, path, docstring) of the documented functions of the first files."""
    found: list[tuple[str, str, str]] = []
    for path, text in itertools.islice(sources(), files):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in other people's files
            module = ast.parse(text)
        for node in ast.walk(module):
            if not isinstance(node, ast.FunctionDef):
                continue
            doc = ast.get_docstring(node) or ""
            if len(_WORD.findall(doc)) >= 8:
                found.append((node.name, path, doc))
    return tuple(found)


def _short(rng: random.Random, name: str, doc: str) -> str:
    words = _WORD.findall(doc)[:20]
    return " ".join([name, *rng.sample(words, rng.randint(2, 5))])


def _issue(rng: random.Random, name: str, path: str, doc: str) -> str:
    said = " ".join(doc.split()[: rng.randint(8, 30)])
    lead, tail = rng.choice(_LEADS).format(name=name), rng.choice(_TAILS)
    return f"{lead} {said} See {path}. {tail}"
