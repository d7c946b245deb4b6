"""Source texts laid out anew by the formatter of their language, so that layout tells none apart.

Owns which formatter reads which language and with which options, and keeps what it made of each
text. Lines are made as long as they may be: how deep a piece of code stands must not change where
it is broken. Knows nothing of definitions, notes and verdicts.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stratum_bench.truth_source import language_of

LAID_OUT = "laid out anew"  # the cause where two are the same once a formatter has seen both
MOST_CHARACTERS = 150_000  # of one text: clang-format takes minutes for amalgamated sources
BATCH = 200  # files named in one command
_SECONDS = 300.0  # for one command
_MARK = "\n" * 5  # every formatter takes empty lines away from the end of what it could read


@dataclass(frozen=True, slots=True)
class _Formatter:
    """A program with its options. A `piped` one gets a single text, others the names of files."""

    program: str
    options: tuple[str, ...]
    piped: bool = False


_PRETTIER = _Formatter(
    "prettier",
    (
        "--write",
        "--log-level=silent",
        "--no-config",
        "--no-editorconfig",
        "--print-width=10000",
        "--object-wrap=collapse",
    ),
)
_STYLE = "BasedOnStyle: LLVM, ColumnLimit: 1000, SortIncludes: Never, BreakStringLiterals: false"
_CLANG_FORMAT = _Formatter("clang-format", ("-i", f"--style={{{_STYLE}}}"))
_RUSTFMT = _Formatter(
    "rustfmt",
    (
        "--edition=2021",
        "--config=max_width=10000",
        "--config=use_small_heuristics=Max",
        "--config=reorder_imports=false",
        "--config=reorder_modules=false",
    ),
    piped=True,  # of a file it would read the modules too, which do not stand beside it
)
_FORMATTERS = {  # Python needs none: its trees have no layout
    "javascript": _PRETTIER,
    "typescript": _PRETTIER,
    "go": _Formatter("gofmt", ("-w",)),
    "rust": _RUSTFMT,
    "c": _CLANG_FORMAT,
    "java": _CLANG_FORMAT,
    "c#": _CLANG_FORMAT,
}
# By the end of the path, which tells a formatter the dialect, and the text; None when refused.
_Key = tuple[str, str]
_known: dict[_Key, str | None] = {}


def program(name: str) -> list[str]:
    """Return how a formatter is started, nothing when it is not installed."""
    if name == "ruff":
        return [sys.executable, "-m", "ruff"] if importlib.util.find_spec("ruff") else []
    found = shutil.which(name)
    return [found] if found else []


def can_tell(language: str) -> bool:
    """Tell whether layout can be told from what counts: by a formatter, or by trees in Python."""
    formatter = _FORMATTERS.get(language)
    return language == "python" or (formatter is not None and bool(program(formatter.program)))


def laid_out(path: str, text: str) -> str:
    """Return a text as the formatter for files like `path` lays it out.

    Raises:
        ValueError: No formatter for it is installed, or it refuses this text.
    """
    prepare([(path, text)])
    found = _known[_key(path, text)]
    if found is None:
        raise ValueError("no formatter takes it")
    return found


def prepare(texts: Iterable[tuple[str, str]]) -> None:
    """Lay out many texts, each with its path, at the price of a few commands."""
    todo: dict[_Formatter, dict[_Key, None]] = {}
    for path, text in texts:
        key, formatter = _key(path, text), _FORMATTERS.get(language_of(path))
        if key in _known:
            continue
        if formatter is None or len(text) > MOST_CHARACTERS or not program(formatter.program):
            _known[key] = None
        else:
            todo.setdefault(formatter, {})[key] = None
    for formatter, asked in todo.items():
        keys, many = list(asked), 1 if formatter.piped else BATCH
        for first in range(0, len(keys), many):
            batch = keys[first : first + many]
            laid = _piped(formatter, batch[0]) if formatter.piped else _in_files(formatter, batch)
            _known.update(zip(batch, laid, strict=True))


def forget() -> None:
    """Drop what is known of texts."""
    _known.clear()


def _key(path: str, text: str) -> _Key:
    return PurePosixPath(path).suffix.lower(), text


def _plain(text: str) -> str:
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def _piped(formatter: _Formatter, key: _Key) -> list[str | None]:
    done = _run(formatter, tempfile.gettempdir(), (), _plain(key[1]))
    return [done.stdout if done is not None and done.returncode == 0 else None]


def _in_files(formatter: _Formatter, keys: Sequence[_Key]) -> list[str | None]:
    """Lay out texts as files of a folder of their own; None for each that was left as it was."""
    with tempfile.TemporaryDirectory(prefix="stratum-layout-") as folder:
        names = [f"{at}{suffix}" for at, (suffix, _) in enumerate(keys)]
        for name, (_, text) in zip(names, keys, strict=True):
            Path(folder, name).write_bytes((_plain(text) + _MARK).encode("utf-8", "replace"))
        _run(formatter, folder, names)
        texts = [Path(folder, name).read_bytes().decode("utf-8", "replace") for name in names]
    return [None if text.endswith(_MARK) else text for text in texts]


def _run(
    formatter: _Formatter, folder: str, names: Sequence[str], text: str = ""
) -> subprocess.CompletedProcess[str] | None:
    """Run a formatter in a folder, with files of it or a text; None when it does not end."""
    try:
        return subprocess.run(
            [*program(formatter.program), *formatter.options, *names],
            cwd=folder,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
