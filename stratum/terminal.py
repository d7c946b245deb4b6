"""What every command says and how: results, messages and JSON on a terminal or in a pipe.

Owns that nothing which is printed can steer a terminal, and the options that all commands share.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import Any

import click

_ANY_WIDTH = sys.maxsize  # columns of what is no terminal

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
project_option = click.option(
    "-C", "--project", default=".", metavar="PATH", help="A path inside the project; default: here."
)


def say(message: str, *, nl: bool = True) -> None:
    """Print a message on stderr; that nobody takes it is no reason to stop the work."""
    from stratum.redact import redact  # its rules take 15 ms to compile

    with contextlib.suppress(OSError):
        click.echo(redact(message).text, err=True, nl=nl)


def notices(said: Sequence[str]) -> None:
    """Print what a reader must know to trust a result, on stderr."""
    for notice in said:
        say(f"Note: {clean(notice)}")


def print_json(plain: Any, indent: int | None = 2) -> None:
    """Print plain data as JSON; with `indent` None on one line."""
    text = json.dumps(plain, ensure_ascii=False, indent=indent)
    click.echo("\n".join(map(escaped, text.split("\n"))))


def escaped(line: str) -> str:
    """Return a line of JSON that says the same with nothing in it that would steer a terminal."""
    return (
        line
        if line.isprintable()
        else "".join(c if _is_seen(c) else json.dumps(c)[1:-1] for c in line)
    )


def clean(text: str) -> str:
    """Return a text on one line with nothing in it that would steer a terminal."""
    return (
        text if text.isprintable() else "".join(c if _is_seen(c) else repr(c)[1:-1] for c in text)
    )


def clean_lines(text: str) -> str:
    """Return a text whose lines and tabs stay, with nothing else that would steer a terminal."""
    return "\n".join("\t".join(map(clean, line.split("\t"))) for line in text.split("\n"))


def _is_seen(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def width() -> int:
    """Return how many columns a line may have; endless where nobody looks at a terminal."""
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if on_terminal else _ANY_WIDTH


def cut(text: str, taken: int) -> str:
    """Cut a text to what is left of the line on a terminal; a pipe gets all of it."""
    left = max(20, width() - taken)
    if cells(text) <= left:
        return text
    widths = itertools.accumulate(map(cells, text))
    return text[: sum(width < left for width in widths)] + "…"


def cells(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def wrapped(text: str, indent: str, start: str = "") -> str:
    """Break a line between words where a terminal is too narrow for it; a pipe gets it whole.

    `indent` stands before all lines but the first one, which begins with `start`.
    """
    columns = width()
    if cells(start + text) <= columns:
        return start + text
    return textwrap.fill(
        text, columns, initial_indent=start, subsequent_indent=indent, replace_whitespace=False,
        expand_tabs=False, break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
