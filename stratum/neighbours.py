"""The best places of a search -> what they call and what calls them.

Owns how a call is recognised in a text without a parser. Reads files and asks the store; decides
nothing about what is shown. A call that may mean several definitions is left out: a wrong neighbour
costs more than a missing one.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from stratum.files import Files
from stratum.models import Hit, Near
from stratum.paths import is_prose, is_test
from stratum.store import Store, Worktree

PLACES = 3  # of different files, the best ones
CALLEES, CALLERS = 3, 2  # told of one place

_MOST_LINES = 200  # of a place, or of what it calls: more is half a module, and tells nothing
_MOST_NAMES = 60  # called names of a place that are looked up, the first ones
_MOST_MENTIONS = 120  # records with a name beyond which it means many things
_MOST_READ = 12  # files that are looked at for callers of one place
_LEAST_NAME = 3  # characters
_MOST_MEANT = 2  # definitions of a name beyond which a call may be of any of them

_CALLED = frozenset(["function", "method", "constructor", "macro", "class", "struct"])
_CONSTRUCTORS = frozenset(["__init__", "__new__", "constructor", "initialize", "new"])
_KEYWORDS = frozenset(
    "and assert await case catch def defer do elif else except fn for func function if in is match"
    " new not or print return self sizeof super switch this throw typeof while with yield".split()
)
_HASH_COMMENTS = (".py", ".pyi", ".rb", ".sh", ".php", ".pl", ".ex", ".exs", ".r", ".jl")
# Where a method can be called without saying whose it is.
_IMPLICIT = (".java", ".cs", ".cpp", ".cc", ".cxx", ".h", ".hpp", ".kt", ".swift", ".scala", ".rb")
_SOMETHING = "?"  # the receiver of a call where it is more than a name
_OWN = frozenset(["self", "cls", "this", "Self", "super()", "$this"])

_CALL = re.compile(
    r"(?:(?P<of>[$\w]+(?:\(\))?)\s*(?:\.|->|::|\?\.))?(?<![\w$])(?P<name>[^\W\d]\w*)"
    r"!?(?:::<[^<>()]*>)?\("
)
_STRING = r'''"""[\s\S]*?"""|'{3}[\s\S]*?'{3}|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`'''
_QUOTED, _LETTER = r"|'(?:\\.|[^'\\\n])*'", r"|'(?:\\.|[^'\\\n])'"
_WITH_HASHES = re.compile(_STRING + _QUOTED + r"|#.*")
_WITH_SLASHES = re.compile(_STRING + _QUOTED + r"|//.*|/\*[\s\S]*?\*/")
_RUST = re.compile(_STRING + _LETTER + r"|//.*|/\*[\s\S]*?\*/")
_DEFINES = re.compile(r"\b(?:def|fn|func|function|class|struct|interface|trait|macro_rules!)\s+$")
# How lines begin that bring in other modules, and what stands in the others that do.
_IMPORTS = ("import ", "from ", "use ", "pub use ", "mod ", "pub mod ", "#include", "require")
# What every list, text or file has, or the language itself: called on anything, it tells nothing.
_COMMON = frozenset(
    name for kind in (str, bytes, dict, list, set, int, builtins) for name in dir(kind)
) | frozenset(
    "apply bind call close each error filter find flush forEach includes info join len length log"
    " map match next open push query read reduce run save send slice split start stop test then"
    " toString trim unwrap warn write".split()
)
# A module is called by its folder where the file itself has one of these names.
_UNSAID = frozenset(["__init__", "index", "mod", "lib", "main"])


@dataclass(frozen=True, slots=True)
class _Definition:
    path: str
    name: str
    kind: str
    start: int
    end: int

    @property
    def last(self) -> str:
        """The name without what it is defined in."""
        return self.name.rpartition(".")[2]

    @property
    def owner(self) -> str:
        """The last name of what it is defined in, "" for nothing."""
        return self.name.rpartition(".")[0].rpartition(".")[2]

    def near(self, relation: Literal["calls", "called by"]) -> Near:
        """Return it as a neighbour."""
        return Near(relation, self.path, self.name, self.start, self.end)

    def touches(self, other: _Definition) -> bool:
        """Tell whether they share lines: one is the other, or stands in it."""
        return self.path == other.path and self.start <= other.end and other.start <= self.end

    def holds(self, other: _Definition) -> bool:
        """Tell whether another one stands in it."""
        return self.path == other.path and self.start <= other.start and other.end <= self.end


class _Texts:
    """The files of a working tree by lines, each read once."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lines: dict[str, list[str]] = {}
        self._imported: dict[str, frozenset[str]] = {}

    def lines(self, path: str) -> list[str]:
        """Return the lines of a file, none when it cannot be read."""
        if path not in self._lines:
            content = self._files.content(path)
            self._lines[path] = content[0].split("\n") if content else []
        return self._lines[path]

    def code(self, place: _Definition, most: int | None = None) -> str:
        """Return the first lines of a place without strings and comments, as far as one can see."""
        end = place.end if most is None else min(place.end, place.start + most - 1)
        text = "\n".join(self.lines(place.path)[place.start - 1 : end])
        if place.path.endswith(_HASH_COMMENTS):
            return _WITH_HASHES.sub(" ", text)
        return (_RUST if place.path.endswith(".rs") else _WITH_SLASHES).sub(" ", text)

    def imported(self, path: str) -> frozenset[str]:
        """Return the words of a file's imports; in Go a folder is one package."""
        if path not in self._imported:
            found = [line for line in self.lines(path) if _imports(line)]
            own = [_module(path)] if path.endswith(".go") else []
            words = re.findall(r"[\w-]+", " ".join(found))
            self._imported[path] = frozenset([*words, *own])
        return self._imported[path]


def neighbours(
    store: Store, worktree: Worktree, files: Files, hits: Sequence[Hit]
) -> dict[tuple[str, int], tuple[Near, ...]]:
    """Return what the best places call and what calls them, by path and first line.

    Tests are left out, and so is everything in a file that cannot be read.
    """
    texts = _Texts(files)
    places = list(_best(hits))
    calls = {place: _calls(texts, place) for place in places}
    wanted = {name for found in calls.values() for _, name in found}
    defined = _defined(store, worktree, wanted | {_called_as(place) for place in places})
    found: dict[tuple[str, int], tuple[Near, ...]] = {}
    for place in places:
        callees = list(_callees(texts, place, calls[place], defined))[:CALLEES]
        callers = _callers(store, worktree, texts, place, defined, hits)
        near = [one.near("calls") for one in callees]
        near += [one.near("called by") for one in callers]
        if near:
            found[place.path, place.start] = tuple(near)
    return found


def _best(hits: Sequence[Hit]) -> Iterator[_Definition]:
    """Return the best definition of each of the first files that have one."""
    seen: set[str] = set()
    for hit in hits:
        path = hit.path or ""
        if hit.stratum != "code" or not path or path in seen or is_test(path) or is_prose(path):
            continue
        if hit.kind == "file" or hit.start_line is None or hit.end_line is None:
            continue
        seen.add(path)
        yield _Definition(path, hit.title, hit.kind, hit.start_line, hit.end_line)
        if len(seen) == PLACES:
            return


def _defined(
    store: Store, worktree: Worktree, names: Iterable[str]
) -> dict[str, list[_Definition]]:
    """Return what is defined under these names outside of tests; names of many are left out."""
    named = store.definitions_named(worktree, [name for name in names if name])
    records = store.records(worktree, [id_ for places in named.values() for id_, _ in places])
    found: dict[str, list[_Definition]] = {}
    for name, places in named.items():
        found[name] = [
            _Definition(one.path, record.title, record.kind, one.start_line, one.end_line)
            for id_ in dict.fromkeys(id_ for id_, _ in places)
            if (record := records.get(id_)) and record.kind in _CALLED
            for one in record.places
            if not is_test(one.path)
        ]
    return found


# what a place calls


def _calls(texts: _Texts, place: _Definition) -> list[tuple[str, str]]:
    """Return (receiver, name) of each call in a place, in order; the receiver may be ""."""
    text = texts.code(place, _MOST_LINES)
    found: dict[str, str] = {}
    for call in _CALL.finditer(text):
        name, at = call["name"], call.start("name")
        if len(name) < _LEAST_NAME or name in _KEYWORDS or _is_head(text, call.start()):
            continue
        of = call["of"] or (_SOMETHING if text[at - 1 : at] in (".", ">", ":") else "")
        found.setdefault(name, of)
    return [(of, name) for name, of in list(found.items())[:_MOST_NAMES]]


def _is_head(text: str, at: int) -> bool:
    """Tell whether what stands at a position is being defined there."""
    return _DEFINES.search(text, max(0, at - 20), at) is not None


def _callees(
    texts: _Texts,
    place: _Definition,
    calls: Sequence[tuple[str, str]],
    defined: Mapping[str, Sequence[_Definition]],
) -> Iterator[_Definition]:
    """Return the definitions that are surely called, the nearest ones first."""
    imported = texts.imported(place.path)
    ranked: list[tuple[int, int, _Definition]] = []
    for number, (of, name) in enumerate(calls):
        meant = _meant(place, of, defined.get(name, ()), imported)
        if meant is None or meant[1].touches(place):
            continue
        if meant[1].end - meant[1].start < _MOST_LINES:
            ranked.append((meant[0], number, meant[1]))
    ranked.sort(key=lambda one: one[:2])
    yield from dict.fromkeys(definition for _, _, definition in ranked)


def _meant(
    place: _Definition, of: str, among: Sequence[_Definition], imported: frozenset[str]
) -> tuple[int, _Definition] | None:
    """Return which definition a call means and how far away it is; None where nobody can tell."""
    own = place.name.rpartition(".")[0]
    here = [one for one in among if one.path == place.path]
    mine = [one for one in here if one.name.rpartition(".")[0] == own]
    there = [one for one in among if one.path != place.path and _module(one.path) in imported]
    alone = [one for one in among if len(among) == 1 and one.last not in _COMMON]
    if of in _OWN:
        steps = [mine, here, there]
    elif of:  # of a class or module of that name, else of the only one that there is
        known = [one for one in (*here, *there) if of in (_module(one.path), one.owner)]
        steps = [known, [one for one in alone if one in here or one in there]]
    elif place.path.endswith(_IMPLICIT):
        steps = [mine, here, there, alone]
    else:
        steps = [[one for one in some if not one.owner] for some in (here, there, alone)]
    for distance, found in enumerate(steps):
        if found:
            return (distance, found[0]) if len(found) == 1 else None
    return None


def _imports(line: str) -> bool:
    """Tell whether a line brings in another module; a line of Go's block is only its name."""
    bare = line.strip()
    if bare.startswith(_IMPORTS) or "require(" in bare:
        return True
    return bare.endswith(('"', "'", '";', "';")) and (
        " from " in bare or (bare.endswith('"') and " " not in bare.partition('"')[2])
    )


def _module(path: str) -> str:
    folder, _, file = path.rpartition("/")
    stem = file.partition(".")[0]
    by_folder = stem in _UNSAID or path.endswith(".go")
    return folder.rpartition("/")[2] if by_folder else stem


# what calls a place


def _called_as(place: _Definition) -> str:
    """Return the name that a call of a place has in the code, "" where there is none to look for.

    A constructor is called by the name of its class.
    """
    outer, _, last = place.name.rpartition(".")
    if last in _CONSTRUCTORS and outer:
        last = outer.rpartition(".")[2]
    told = len(last) >= _LEAST_NAME and last.isidentifier() and place.kind in _CALLED
    return last if told and not last.startswith("__") else ""


def _callers(
    store: Store,
    worktree: Worktree,
    texts: _Texts,
    place: _Definition,
    defined: Mapping[str, Sequence[_Definition]],
    hits: Sequence[Hit],
) -> list[_Definition]:
    """Return the definitions that call a place: of its file first, then of files that were hit."""
    name = _called_as(place)
    if not 0 < len(defined.get(name, ())) <= _MOST_MEANT or (name in _COMMON and place.owner):
        return []
    mentioning = [
        _Definition(path, title, "", start, end)
        for path, title, start, end in store.definitions_mentioning(worktree, name, _MOST_MENTIONS)
        if not is_test(path) and not is_prose(path)
    ]
    order = {path: rank for rank, path in enumerate(dict.fromkeys(hit.path for hit in hits))}
    mentioning.sort(key=lambda one: (one.path != place.path, order.get(one.path, len(order))))
    return _calling(texts, place, name, mentioning)


def _calling(
    texts: _Texts, place: _Definition, name: str, among: Sequence[_Definition]
) -> list[_Definition]:
    """Return those in which a name is called, the innermost ones of the first few files."""
    call = re.compile(rf"(?<![\w$]){re.escape(name)}!?(?:::<[^<>()]*>)?\(")
    read: set[str] = set()
    found: list[_Definition] = []
    for one in among:
        if one.touches(place) or any(other != one and one.holds(other) for other in among):
            continue
        read.add(one.path)
        if len(read) > _MOST_READ or len(found) == CALLERS:
            break
        text = texts.code(one)
        if any(not _is_head(text, match.start()) for match in call.finditer(text)):
            found.append(one)
    return found
