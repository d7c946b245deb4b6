"""The text of a task or a query -> what it names: paths, modules, symbols, frames, words; pure.

An issue says where it hurts in several ways at once: a title, prose, pasted code and output, the
path of a file, a traceback. Each way is told apart here, so that ranking can weigh it by itself.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from dataclasses import dataclass

from stratum.terms import STOP_WORDS, terms

_MOST_TITLE = 300  # characters: a text without line ends has no title but a beginning
_MOST_NAMES = 200  # identifiers looked up, the ones named most often first
_LEAST_NAME = 3  # characters
_MOST_PLACES = 100  # paths, and dotted chains, that are looked up: a pasted listing names no place
_MOST_FRAMES = 50  # the last ones: those before are worth nothing

# Each pattern starts where nothing of its kind stands before and looks at a character a bounded
# number of times: a digest or a thousand blank lines must not hold up a search.
_COMMENT = re.compile(r"<!--(?:(?!<!--).)*?-->", re.DOTALL)  # the instructions of issue templates
_FENCED = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)", re.DOTALL)
_PROMPTED = re.compile(r"^[ \t]*(?:>>>|\.\.\.|In \[\d+\]:|\$ ).*$", re.MULTILINE)
_INDENTED = re.compile(r"^(?: {4}|\t).*$", re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(
    r"(?<![\w./\\@-])[\w./\\@-]*\w\.(?:pyx?|pyi|go|rs|[cm]?[jt]sx?|vue|java|kt|scala|cs|c|cc|cpp|cxx|h|hpp|rb|php"
    r"|swift|lua|sh|sql)\b"
)
_DOTTED = re.compile(r"\b[^\W\d]\w*(?:(?:\.|::)[^\W\d]\w*){1,15}")
_NAME = re.compile(r"\b[^\W\d]\w+\b")
# A hump, or digits, inside a word: nobody writes English so.
_HUMP = re.compile(r"[a-z][A-Z]|[A-Z]{2}[a-z]|[A-Za-z]\d|[a-z]_+[a-z]|[A-Z]_+[A-Z]", re.ASCII)
_UPWARDS = re.compile(r"^(?:\.{0,2}/)+")
# Frames of a traceback, and whether the first of them is where it broke: Python; Java and its kin;
# JavaScript and Rust, as in "at f (a/b.js:1:2)"; Go.
_FRAMES = (
    (
        re.compile(r'File "(?P<path>[^"\n]+)", line (?P<line>\d{1,9})(?:, in (?P<name>[^\s`]+))?'),
        False,
    ),
    (
        re.compile(
            r"\bat (?:[\w.@-]+/)?(?P<name>[\w.$<>]+)"
            r"\((?P<path>\w+\.(?:java|kt|scala|groovy)):(?P<line>\d{1,9})\)"
        ),
        True,
    ),
    (
        re.compile(
            r"\bat (?:(?:async |new )?(?P<name>[\w.$<>]+) (?:\[as \w+\] )?)?\(?(?:file://)?"
            r"(?:[A-Za-z]:)?(?P<path>[\w@./\\-]+\.\w+):(?P<line>\d{1,9})"
        ),
        True,
    ),
    (
        re.compile(
            r"^[ \t]*(?P<path>[\w@./\\-]+\.(?:go|rs)):(?P<line>\d{1,9})(?P<name>)", re.MULTILINE
        ),
        True,
    ),
)
_PACKAGED = (".java", ".kt", ".scala", ".groovy")  # their frames tell the folder by the name


@dataclass(frozen=True, slots=True)
class Frame:
    """A place that a traceback names. `name` is the function, "" where it is not said."""

    path: str
    line: int
    name: str


@dataclass(frozen=True, slots=True)
class Question:
    """What a text names.

    `terms` and `title_terms` weigh each distinct term by 1 + ln(times it occurs), stop words left
    out unless there is nothing else. `paths` are as written, "/" between folders. `dotted` are
    chains such as ("django", "db", "models"). `names` are identifiers that the prose says: in
    backquotes, of a shape that only identifiers have, or with a capital where pasted code has them
    as well. The last of `frames` is where it broke.
    """

    title: str
    terms: dict[str, float]
    title_terms: dict[str, float]
    paths: tuple[str, ...]
    dotted: tuple[tuple[str, ...], ...]
    names: frozenset[str]
    frames: tuple[Frame, ...]


def read_question(text: str) -> Question:
    """Return what a text names; of an empty text nothing."""
    text = text.replace("\r\n", "\n").strip()
    text = _code_last(_COMMENT.sub("\n", text).strip() or text)
    first, _, rest = text.partition("\n")
    title = first[:_MOST_TITLE]
    prose, code = _parted(first[_MOST_TITLE:] + "\n" + rest)
    told = f"{title}\n{prose}"
    quoted = set(_NAME.findall(" ".join(_INLINE.findall(told))))
    in_code = Counter(_NAME.findall(code))
    in_prose = Counter(_NAME.findall(told))
    shaped = {name for name in in_prose if _HUMP.search(name) or name in quoted}
    # a class of one word, such as `Paginator`: in the prose it is one if the code says so as well
    shaped |= {name for name in in_prose if name in in_code and name[0].isupper()}
    known = [
        name
        for name, _ in (in_prose + in_code).most_common()
        if len(name) >= _LEAST_NAME and name.lower() not in STOP_WORDS
    ][:_MOST_NAMES]
    names = frozenset(name for name in known if name in shaped)
    return Question(
        title=title,
        terms=weighed(text),
        title_terms=weighed(title),
        paths=_paths(text),
        dotted=_dotted(text),
        names=names,
        frames=_frames(text),
    )


def weighed(text: str) -> dict[str, float]:
    """Return the distinct terms of a text by weight: 1 + ln(times it occurs)."""
    counts = Counter(terms(text))
    telling = {term: count for term, count in counts.items() if term not in STOP_WORDS}
    return {term: 1.0 + math.log(count) for term, count in (telling or counts).items()}


def _code_last(text: str) -> str:
    """Return a text that opens with pasted code with that behind the rest, so that it has a title.

    What is nothing but code is taken as said.
    """
    opening = _FENCED.match(text)
    if not opening or "\n" not in opening[0]:
        return text
    rest = text[opening.end() :].strip()
    return f"{rest}\n{opening[0]}" if rest else opening[0].partition("\n")[2].strip()


def _parted(text: str) -> tuple[str, str]:
    """Return (prose, pasted code and output)."""
    pasted: list[str] = []

    def take(found: re.Match[str]) -> str:
        pasted.append(found[0])
        return "\n"

    for block in (_FENCED, _PROMPTED, _INDENTED):
        text = block.sub(take, text)
    return text, "\n".join(pasted)


def _paths(text: str) -> tuple[str, ...]:
    found = (path.replace("\\", "/") for path in _PATH.findall(text))
    distinct = dict.fromkeys(_UPWARDS.sub("", path) for path in found)
    return tuple(itertools.islice(distinct, _MOST_PLACES))


def _dotted(text: str) -> tuple[tuple[str, ...], ...]:
    distinct = dict.fromkeys(tuple(re.split(r"\.|::", found)) for found in _DOTTED.findall(text))
    return tuple(itertools.islice(distinct, _MOST_PLACES))


def _frames(text: str) -> tuple[Frame, ...]:
    for pattern, first_is_last in _FRAMES:
        found = [_frame(m) for m in pattern.finditer(text)]
        if found:
            return tuple(found[::-1] if first_is_last else found)[-_MOST_FRAMES:]
    return ()


def _frame(found: re.Match[str]) -> Frame:
    path, name = found["path"].replace("\\", "/"), found["name"] or ""
    if path.endswith(_PACKAGED) and "/" not in path:
        # the name ends in class and method, before them stands the package
        path = "/".join([*name.split(".")[:-2], path])
    return Frame(path, int(found["line"]), name)
