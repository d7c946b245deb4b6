"""Changes made to a tree on purpose, so that what becomes of each place is known beforehand.

Owns moves, renames, runs of real formatters, and edits of single tokens that matter. Works on the
files of a checkout that may be spoiled; says what it did and judges nothing.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from stratum_bench.truth_layout import BATCH, MOST_CHARACTERS, program
from stratum_bench.truth_source import Definition, Token, language_of, read, tokens
from stratum_bench.truth_tree import Comparison, Place, Tree, git

_MOST_MOVED = 60
_MEMBERS = ("java", "c#", "php", "ruby")  # functions stand in classes there
_MACRO = re.compile(r"^[A-Z_0-9]+\s*\Z", re.MULTILINE)  # as a last line, in C
_CLASS = re.compile(r"(?<!@)\b(class|struct|trait|module)\b")
_INSERTED = {
    "python": "INSERTED_ABOVE = 1\n",
    "javascript": "var insertedAbove = 1;\n",
    "typescript": "var insertedAbove = 1;\n",
    "go": "var insertedAbove = 1\n",
    "rust": "const INSERTED_ABOVE: u8 = 1;\n",
    "c": "int inserted_above = 1;\n",
    "ruby": "# inserted above\n",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did.

    With `fresh` every symbol and file means what it meant. `edited` maps a path to the old lines
    that were changed and the way: all that does not hold one of them is as it was. `problem`
    says why nothing was done.
    """

    fresh: bool = False
    edited: Mapping[str, Mapping[int, str]] | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Ground:
    """A checkout to change, as it stands, and the places of the notes on it."""

    root: Path
    tree: Tree
    places: Sequence[Place]
    rng: random.Random

    def definitions(self) -> list[tuple[Place, Definition]]:
        """Return the symbols with notes that the second opinion finds, in random order."""
        same = Comparison(self.tree, self.tree, {}, {})
        found = []
        for place in self.places:
            if place.kind == "symbol" and "\ufffd" not in self.tree.texts[place.path]:
                try:
                    definition = same.definition(place)
                except ValueError:
                    continue
                if definition is not None:
                    found.append((place, definition))
        self.rng.shuffle(found)
        return found

    def paths(self) -> list[str]:
        """Return the files with notes, in random order."""
        paths = sorted({place.path for place in self.places})
        self.rng.shuffle(paths)
        return paths


@dataclass(frozen=True, slots=True)
class Change:
    """One way to change a tree. `group` says which bar holds: move, format or edit."""

    name: str
    group: str
    apply: Callable[[Ground], Outcome]


@dataclass(slots=True)
class _Lines:
    """Lines of files on their way to be cut and put elsewhere; written at the end, bottom up."""

    ground: Ground
    cuts: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    puts: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def free(self, path: str, first: int, last: int) -> bool:
        """Tell whether none of these lines is cut already, nor anything put among them."""
        return not any(a <= last and first <= b for a, b in self.cuts.get(path, ())) and not any(
            first <= at <= last for at, _ in self.puts.get(path, ())
        )

    def text(self, path: str, first: int, last: int) -> str:
        """Return lines as they stand, ended by a line end."""
        lines = self.ground.tree.texts[path].split("\n")[first - 1 : last]
        return "\n".join(lines) + "\n"

    def cut(self, path: str, first: int, last: int) -> None:
        self.cuts.setdefault(path, []).append((first, last))

    def put(self, path: str, before: int, text: str) -> None:
        """Put text above a line; one beyond the last means the end."""
        self.puts.setdefault(path, []).append((before, text))

    def write(self) -> None:
        for path in sorted({*self.cuts, *self.puts}):
            lines = self.ground.tree.texts.get(path, "").split("\n")
            todo = [(first, last, "") for first, last in self.cuts.get(path, ())]
            todo += [(at, at - 1, text) for at, text in self.puts.get(path, ())]
            for first, last, text in sorted(todo, reverse=True):
                lines[first - 1 : last] = text.removesuffix("\n").split("\n") if text else []
            write(self.ground.root / path, "\n".join(lines))


def write(path: Path, text: str) -> None:
    """Write a text with the line ends it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8"))


def changes(size: str) -> list[Change]:
    """Return all changes in the order in which they are tried."""
    return [
        Change("files to another folder", "move", partial(_move_files, tracked=False)),
        Change("files to another folder, git mv", "move", partial(_move_files, tracked=True)),
        Change("files renamed", "move", _rename_files),
        Change("folders renamed", "move", _rename_folders),
        Change("definitions to other files", "move", partial(_move_definitions, fresh=False)),
        Change("definitions to new files", "move", partial(_move_definitions, fresh=True)),
        Change("definitions reordered", "move", _reorder),
        Change("code inserted above", "move", _insert_above),
        *(
            Change(tool.title, "format", partial(_format, tool=tool))
            for tool in (_TOOLS if size == "full" else _TOOLS[:2])
        ),
        Change("tokens edited", "edit", _edit),
    ]


# moves


def _some(ground: Ground) -> list[str]:
    paths = ground.paths()
    return paths[: max(1, len(paths) // 3)]


def _move_files(ground: Ground, *, tracked: bool) -> Outcome:
    for path in _some(ground):
        old = PurePosixPath(path)
        _move(ground.root, path, str(old.parent / "relocated" / old.name), tracked=tracked)
    return Outcome()


def _rename_files(ground: Ground) -> Outcome:
    for path in _some(ground):
        old = PurePosixPath(path)
        _move(ground.root, path, str(old.with_name(f"renamed_{old.name}")), tracked=False)
    return Outcome()


def _rename_folders(ground: Ground) -> Outcome:
    folders = sorted({str(PurePosixPath(path).parent) for path in ground.paths()} - {"."})
    ground.rng.shuffle(folders)
    for folder in folders[: max(1, len(folders) // 3)]:
        if (ground.root / folder).is_dir():
            _move(ground.root, folder, f"{folder}_renamed", tracked=False)
    return Outcome(problem="" if folders else "there are no folders")


def _move(root: Path, old: str, new: str, *, tracked: bool) -> None:
    (root / new).parent.mkdir(parents=True, exist_ok=True)
    if tracked:
        git(root, "mv", old, new)
    else:
        (root / old).rename(root / new)


def _move_definitions(ground: Ground, *, fresh: bool) -> Outcome:
    """Cut definitions out and put them at the end of another file, or of the class in it."""
    work, moved = _Lines(ground), 0
    for place, definition in ground.definitions():
        language, path = language_of(place.path), place.path
        first, last = definition.start_line, definition.end_line
        if moved >= _MOST_MOVED or not work.free(path, first, last):
            continue
        text = work.text(path, first, last)
        if not definition.scope and text[0].isspace():
            continue  # in a group without braces of its own, as "const (…)"
        if fresh:
            if definition.scope:
                continue
            suffix = PurePosixPath(path).suffix
            opening = "<?php\n" if language == "php" else ""
            target = str(PurePosixPath(path).with_name(f"part_{moved}{suffix}"))
            work.put(target, 1, opening + text)
        else:
            found = _target(ground, work, place, definition)
            if found is None:
                continue
            work.put(*found, "\n" + text)
        work.cut(path, first, last)
        moved += 1
    work.write()
    return Outcome(problem="" if moved else "no definition stands alone")


def _target(
    ground: Ground, work: _Lines, place: Place, definition: Definition
) -> tuple[str, int] | None:
    """Return a file of the same language and the line before which a definition may be put."""
    language = language_of(place.path)
    member = language in _MEMBERS
    constructor = member and definition.name in definition.scope
    if constructor or bool(definition.scope) != member:
        return None
    same = [p for p in ground.paths() if language_of(p) == language and p != place.path]
    for path in same[:10]:
        text = ground.tree.texts[path]
        if _MACRO.search(text):
            continue  # it would become part of what is put behind it
        if "\ufffd" in text or ("\r\n" in text) != ("\r\n" in ground.tree.texts[place.path]):
            continue
        line = _class_end(ground, path, place) if member else text.count("\n") + 1
        if line and work.free(path, line, line):
            return path, line
    return None


def _class_end(ground: Ground, path: str, place: Place) -> int:
    """Return the line that closes the last block as deep as the one around a member; 0 for none."""
    lines = ground.tree.texts[path].split("\n")
    own = ground.tree.texts[place.path].split("\n")[place.start_line - 1]
    indent = own[: len(own) - len(own.lstrip())]
    if not indent:
        return 0
    outer = {indent[:-1], indent[:-2], indent[:-4]}
    closing = "end" if language_of(path) == "ruby" else "}"
    for number in range(len(lines), 0, -1):
        line = lines[number - 1].rstrip()
        if line.endswith(closing) and line[: -len(closing)] in outer:
            depth = len(line) - len(closing)
            return number if _CLASS.search(_head(lines, number, depth)) else 0
    return 0


def _head(lines: Sequence[str], number: int, depth: int) -> str:
    """Return the line that begins the block which ends at a line, by its indentation."""
    for above in reversed(lines[: number - 1]):
        bare = above.strip()
        if bare not in ("", "{") and len(above) - len(above.lstrip()) <= depth:
            return above
    return ""


def _reorder(ground: Ground) -> Outcome:
    """Let neighbours that stand in the same scope of one file change places."""
    work = _Lines(ground)
    by_scope: dict[tuple[str, tuple[str, ...], str], list[Definition]] = {}
    for place, definition in ground.definitions():
        # the indentation tells groups without braces, as "const (…)", from what is around them
        head = ground.tree.texts[place.path].split("\n")[place.start_line - 1]
        indent = head[: len(head) - len(head.lstrip())]
        by_scope.setdefault((place.path, definition.scope, indent), []).append(definition)
    for (path, _, _), found in sorted(by_scope.items()):
        found.sort(key=lambda d: d.start_line)
        for one, other in zip(found[::2], found[1::2], strict=False):
            spans = [(d.start_line, d.end_line) for d in (one, other)]
            if one.end_line < other.start_line and all(work.free(path, *span) for span in spans):
                texts = [work.text(path, *span) for span in spans]
                for span, text in zip(spans, reversed(texts), strict=True):
                    work.cut(path, *span)
                    work.put(path, span[0], text)
    work.write()
    return Outcome(problem="" if work.cuts else "no two definitions are neighbours")


def _insert_above(ground: Ground) -> Outcome:
    work = _Lines(ground)
    first: dict[str, int] = {}
    for place, definition in ground.definitions():
        if not definition.scope:
            at = first.get(place.path, definition.start_line)
            first[place.path] = min(at, definition.start_line)
    for path, line in first.items():
        text = _INSERTED.get(language_of(path), "// inserted above\n")
        work.put(path, line, f"{text}\n\n")
    work.write()
    return Outcome(problem="" if first else "no definition stands alone")


# formatters


@dataclass(frozen=True, slots=True)
class _Tool:
    """A formatter: the program, its options, and the languages it reads."""

    title: str
    program: str
    options: tuple[str, ...]
    languages: tuple[str, ...]


_RUFF = ("format", "--isolated", "--no-cache", "--quiet")
_TOOLS = (
    _Tool("ruff format, 88", "ruff", (*_RUFF, "--line-length", "88"), ("python",)),
    _Tool("gofmt", "gofmt", ("-w",), ("go",)),
    _Tool("ruff format, 60", "ruff", (*_RUFF, "--line-length", "60"), ("python",)),
    _Tool("ruff format, 120", "ruff", (*_RUFF, "--line-length", "120"), ("python",)),
    _Tool(
        "ruff format, single quotes",
        "ruff",
        (*_RUFF, "--config", "format.quote-style='single'"),
        ("python",),
    ),
    _Tool("rustfmt", "rustfmt", ("--edition", "2021"), ("rust",)),
    _Tool("rustfmt, 60", "rustfmt", ("--edition", "2021", "--config", "max_width=60"), ("rust",)),
    _Tool("clang-format, LLVM", "clang-format", ("-i", "--style=LLVM"), ("c", "java", "c#")),
    _Tool("clang-format, Google", "clang-format", ("-i", "--style=Google"), ("c", "java", "c#")),
    _Tool("prettier", "prettier", ("--write", "--log-level=error"), ("javascript", "typescript")),
    _Tool(
        "prettier, no semicolons",
        "prettier",
        ("--write", "--log-level=error", "--no-semi", "--single-quote", "--print-width=60"),
        ("javascript", "typescript"),
    ),
)


def _format(ground: Ground, *, tool: _Tool) -> Outcome:
    paths = sorted(
        path
        for path in ground.paths()
        if language_of(path) in tool.languages and len(ground.tree.texts[path]) <= MOST_CHARACTERS
    )
    if not paths:
        return Outcome(problem="-")
    command = program(tool.program)
    if not command:
        return Outcome(problem=f"{tool.program} is not installed")
    for first in range(0, len(paths), BATCH):
        batch = [f"./{path}" for path in paths[first : first + BATCH]]
        # a file that a formatter cannot read stays as it was: no reason to stop
        subprocess.run(
            [*command, *tool.options, *batch], cwd=ground.root, capture_output=True, check=False
        )
    return Outcome(fresh=True)


# edits


@dataclass(frozen=True, slots=True)
class _Edit:
    """One replacement in a text: from `start`, `length` characters; `line` is the old one."""

    way: str
    start: int
    length: int
    text: str
    line: int


_OPERATORS = {"+": "-", "-": "+", "*": "/", "<": ">=", ">": "<=", "/": "*", "%": "+"}
_WORDS = {
    "and": "or", "or": "and", "True": "False", "False": "True", "true": "false",
    "false": "true", "is": "is not", "break": "continue",
}  # fmt: skip
_CHARACTERS = ("c", "go", "rust", "java", "c#")  # one character between single quotes there
_SIGN = re.compile(r"==|!=|&&|\|\||[-+*/%<>]")
_DEFAULT = re.compile(r"\w\s*=\s*(\d+|True|False|None|true|false|nil|null)\s*[,)]")
_BRANCH = re.compile(r"^\s*(?:\}\s*else\s+|el)?if\b(?!\s+let\b)\s*(\(?)")


def _edit(ground: Ground) -> Outcome:
    """Change one token in half of the symbols, each in another way."""
    found = ground.definitions()
    by_path: dict[str, list[Definition]] = {}
    for place, definition in found[: len(found) // 2]:
        by_path.setdefault(place.path, []).append(definition)
    edited: dict[str, dict[int, str]] = {}
    for path, definitions in sorted(by_path.items()):
        done = _edit_file(ground, path, definitions)
        if done:
            edited[path] = done
    return Outcome(edited=edited, problem="" if edited else "nothing can be edited")


def _edit_file(ground: Ground, path: str, definitions: Iterable[Definition]) -> dict[int, str]:
    raw, language = ground.tree.texts[path], language_of(path)
    text = raw.replace("\r\n", "\n")
    if raw not in (text, text.replace("\n", "\r\n")) or text.startswith("\ufeff"):
        return {}
    try:
        before = read(text, language).whole
    except ValueError:
        return {}
    every = _candidates(text, language)
    chosen: list[_Edit] = []
    for definition in definitions:
        ways: dict[str, list[_Edit]] = {}
        for edit in every:
            head = edit.line == definition.start_line and edit.way == "removed statement"
            if definition.start_line <= edit.line <= definition.end_line and not head:
                ways.setdefault(edit.way, []).append(edit)
        for way in ground.rng.sample(sorted(ways), len(ways)):
            edit = ground.rng.choice(ways[way])
            apart = all(abs(edit.line - other.line) > 1 for other in chosen)
            if apart and _counts(_replaced(text, [edit]), language, before):
                chosen.append(edit)
                break
    if not chosen:
        return {}
    new = _replaced(text, chosen)
    write(ground.root / path, new.replace("\n", "\r\n") if "\r\n" in raw else new)
    return {edit.line: edit.way for edit in chosen}


def _counts(text: str, language: str, before: str) -> bool:
    """Tell whether a text can still be read and no longer means the same."""
    if language != "python":
        return True  # another token is another token; only the layout of Python can hide one
    try:
        return read(text, language).whole != before
    except ValueError:
        return False


def _replaced(text: str, edits: Sequence[_Edit]) -> str:
    for edit in sorted(edits, key=lambda e: -e.start):
        text = text[: edit.start] + edit.text + text[edit.start + edit.length :]
    return text


def _candidates(text: str, language: str) -> list[_Edit]:
    """Return everything in a text that can be edited."""
    found: list[_Edit] = []
    known = [token for token in tokens(text, language) if token.kind in ("code", "text")]
    for before, token in zip([None, *known], known, strict=False):
        edit = _edited(text, language, before, token)
        if edit is not None:
            found.append(edit)
    return found + _line_edits(text, language, known)


def _edited(text: str, language: str, before: Token | None, token: Token) -> _Edit | None:
    value, start = token.value, token.start
    if token.kind == "text":
        return _string_edit(language, token)
    sign = _SIGN.match(text, start)
    if sign:
        end = sign.end()
        if text[start - 1 : start] != " " or text[end : end + 1] != " ":
            return None
        other = {"==": "!=", "!=": "==", "&&": "||", "||": "&&", **_OPERATORS}[sign[0]]
        return _Edit("operator", start, len(sign[0]), other, token.line)
    if value in _WORDS:
        return _Edit("operator", start, len(value), _WORDS[value], token.line)
    if value.isdigit() and not value.startswith("0"):
        return _Edit("number", start, len(value), str(int(value) + 1), token.line)
    if before is not None and before.value == "." and value.isidentifier() and len(value) > 2:
        return _Edit("name", start, len(value), f"{value}_zq", token.line)
    return None


def _string_edit(language: str, token: Token) -> _Edit | None:
    value = token.value
    if language == "python" and value[:3] in ('"""', "'''"):
        return _Edit("docstring or long string", token.start + 3, 0, "zq ", token.line)
    plain = len(value) > 3 and value[0] in "\"'" and value[0] == value[-1] and value[1].isalnum()
    if not plain or (value[0] == "'" and language in _CHARACTERS):
        return None
    return _Edit("string", token.start + 1, 0, "zq", token.line)


def _line_edits(text: str, language: str, known: Sequence[Token]) -> list[_Edit]:
    """Return defaults to change, branches to turn round and statements to remove."""
    lines = text.split("\n")
    code: dict[int, str] = {}
    for token in known:
        if token.kind == "code":
            code[token.line] = code.get(token.line, "") + token.value
    offset, found = 0, []
    for number, line in enumerate(lines, 1):
        if number in code:
            found += _in_line(line, number, offset, language)
            if 1 < number < len(lines) and _removable(lines, number, code):
                found.append(_Edit("removed statement", offset, len(line) + 1, "", number))
        offset += len(line) + 1
    return found


def _in_line(line: str, number: int, offset: int, language: str) -> list[_Edit]:
    found = []
    if default := _DEFAULT.search(line):
        value = "2" if default[1] != "2" else "3"
        found.append(_Edit("default", offset + default.start(1), len(default[1]), value, number))
    if branch := _BRANCH.match(line):
        negation = "not " if language in ("python", "ruby") else "!"
        found.append(_Edit("branch", offset + branch.end(), 0, negation, number))
    return found


def _removable(lines: Sequence[str], number: int, code: Mapping[int, str]) -> bool:
    """Tell whether a line is a whole statement between two others of the same block."""
    words = code[number]
    balanced = all(words.count(a) == words.count(b) for a, b in ("()", "[]", "{}"))
    around = [lines[number - 2], lines[number - 1], lines[number]]
    indents = {len(line) - len(line.lstrip()) for line in around}
    ends = words.endswith(";") == code.get(number - 1, "").endswith(";")
    return balanced and len(indents) == 1 and ends and number - 1 in code and words[-1:] != ","
