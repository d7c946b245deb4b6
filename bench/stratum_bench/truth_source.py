"""A second opinion on source code: where a definition stands and whether two are the same.

Owns two plain methods that share nothing with Stratum's own: Python by the `ast` module, other
languages by the tokens of Pygments with brackets matched by hand. Where they are not sure of a
definition they say so by finding none. Knows nothing of notes and verdicts.
"""

from __future__ import annotations

import ast
import hashlib
import re
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Protocol

from stratum import Unavailable

_LEXERS = {
    "python": "PythonLexer",
    "javascript": "JavascriptLexer",
    "typescript": "TypeScriptLexer",
    "go": "GoLexer",
    "rust": "RustLexer",
    "java": "JavaLexer",
    "c": "CppLexer",
    "c#": "CSharpLexer",
    "ruby": "RubyLexer",
    "php": "PhpLexer",
}
_SUFFIXES = {
    f".{suffix}": language
    for language, suffixes in {
        "python": "py pyi",
        "javascript": "js jsx mjs cjs",
        "typescript": "ts tsx mts cts",
        "go": "go",
        "rust": "rs",
        "java": "java",
        "c": "c h cc cpp cxx hh hpp hxx",
        "c#": "cs",
        "ruby": "rb rake",
        "php": "php",
    }.items()
    for suffix in suffixes.split()
}
_NEWLINES = ("javascript", "typescript", "go", "ruby")  # a line end can end a statement
_DIRECTIVES = ("c", "c#")  # a line that begins with "#" is a statement of its own
_COMPILED = re.compile(r"//go:|// \+build ")  # comments that Go's tools act upon
_OFTEN = 20
_WORD = re.compile(r"\w+|[^\w\s]")
_CONSTANT = re.compile(r"_*[A-Z][A-Z0-9_]*")
_LAYOUT = frozenset("()[]{},;")
_OPENING, _CLOSING = ("(", "[", "{"), (")", "]", "}")
# A line end does not end a statement behind or before one of these.
_GOES_ON_BEHIND = (*"=,&|+-*/?:.<(", "[", "{")
_GOES_ON_BEFORE = (*".?:|&=+>", "extends", "implements")


def language_of(path: str) -> str:
    """Name the language of a file that can be judged, "" for any other."""
    return _SUFFIXES.get(PurePosixPath(path).suffix.lower(), "")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A definition to be found: qualified name, which one of that name (from 1), its lines."""

    name: str
    ordinal: int
    start_line: int
    end_line: int

    @property
    def last_name(self) -> str:
        """The name without what stands around it, and without Ruby's marks at its end."""
        return self.name.rsplit(".", 1)[-1].rstrip("?!=")


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition as it was found. `body` tells it from others, `rest` leaves its name out.

    `loose` leaves out what a formatter of another language than Python may add or drop, and
    `headless` what may be a macro of its own above it in C: two that differ in `body` and not in
    one of these may be the same. `ordinal` says which one of its name and scope it is (Python), or
    at which occurrence of its name it was found; both from 1. `scope` are the names around it
    (Python) or all words in the heads of the blocks around it. `size` counts words and signs.
    """

    name: str
    ordinal: int
    scope: tuple[str, ...]
    start_line: int
    end_line: int
    body: str
    rest: str
    loose: str
    headless: str
    size: int


class Source(Protocol):
    """The text of one file, as the second opinion reads it."""

    @property
    def whole(self) -> str:
        """A digest of all that counts in the file; raises ValueError if it cannot be read."""

    @property
    def loose(self) -> str:
        """A digest of the same without what a formatter may add or drop."""

    def find(self, wanted: Wanted) -> Definition | None:
        """Return the definition that is meant, None when the two opinions differ on its lines."""

    def named(self, name: str) -> Sequence[Definition]:
        """Return the definitions with this last name, in order."""

    def like(self, definition: Definition) -> Sequence[Definition]:
        """Return those that equal another but for its own name."""

    def inside(self, definition: Definition, names: Sequence[str]) -> bool:
        """Tell whether a definition stands in a scope with these names, outermost first."""

    def occurrences(self, name: str) -> int:
        """Count the places at which a definition with this last name could be found."""

    def same(self, definition: Definition) -> Definition | None:
        """Return what stands here for a definition of another layout of the same text."""


def counterpart(definition: Definition, before: Source, after: Source) -> Definition:
    """Return a definition of one layout of a text as it stands in another layout.

    Raises:
        ValueError: The two layouts are not read alike.
    """
    name = definition.name
    found = None
    if before.occurrences(name) == after.occurrences(name):
        found = after.same(definition)
    if found is None:
        raise ValueError("two layouts are not read alike")
    return found


def read(text: str, language: str) -> Source:
    """Read a text; nothing is parsed before it is asked for."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    return _Python(text) if language == "python" else _Tokens(text, language)


def digest(text: str) -> str:
    """Return a short name for a text."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()


# Python, by its own parser


class _Python:
    """Definitions by qualified name; two are the same when their trees are.

    White space in docstrings is folded; comments, quotes and positions are not in a tree.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = text.split("\n")

    @cached_property
    def whole(self) -> str:
        return self._read[0]

    @property
    def loose(self) -> str:
        return self.whole  # a tree has no layout

    @cached_property
    def _read(self) -> tuple[str, list[Definition]]:
        """Return the digest of the module and its definitions; ValueError if it is not Python."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = ast.parse(self._text)
            walk = _Shapes(self._lines)
            return digest(walk.shape(module)), walk.found
        except (SyntaxError, RecursionError, MemoryError) as error:
            raise ValueError("not Python of this version") from error

    def find(self, wanted: Wanted) -> Definition | None:
        scope = tuple(wanted.name.split(".")[:-1])
        for found in self.named(wanted.last_name):
            if (found.scope, found.ordinal) == (scope, wanted.ordinal):
                lines = (found.start_line, found.end_line)
                return found if lines == (wanted.start_line, wanted.end_line) else None
        return None

    @cached_property
    def _by_name(self) -> dict[str, list[Definition]]:
        found: dict[str, list[Definition]] = {}
        for definition in self._read[1]:
            found.setdefault(definition.name, []).append(definition)
        return found

    def named(self, name: str) -> Sequence[Definition]:
        return self._by_name.get(name, ())

    def like(self, definition: Definition) -> Sequence[Definition]:
        return [
            found
            for found in self._read[1]
            if found.rest == definition.rest and found.name != definition.name
        ]

    def inside(self, definition: Definition, names: Sequence[str]) -> bool:
        return definition.scope == tuple(names)

    def occurrences(self, name: str) -> int:
        return len(self.named(name))

    def same(self, definition: Definition) -> Definition | None:
        key = (definition.scope, definition.ordinal)
        return next((d for d in self.named(definition.name) if (d.scope, d.ordinal) == key), None)


class _Shapes:
    """One walk over a module; `found` lists its definitions in order of appearance."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.found: list[Definition] = []
        self._lines = lines
        self._scope: tuple[str, ...] = ()
        self._ordinals: dict[tuple[str, ...], int] = {}

    def shape(self, node: Any) -> str:
        """Return a text that is equal for equal trees; a definition is shortened to its digest."""
        if isinstance(node, list):
            return f"[{','.join(map(self.shape, node))}]"
        if not isinstance(node, ast.AST):
            return repr(node)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return self._definition(node)
        text = self._plain(node)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and not self._scope:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name) and _CONSTANT.fullmatch(target.id):
                    self._add(self._ordinal(target.id), target.id, node, text, text)
        return text

    def _plain(self, node: ast.AST, *, without: str = "") -> str:
        values = dict(ast.iter_fields(node))
        doc = _docstring(node)
        fields = []
        for name, value in values.items():
            if name in ("kind", "type_comment", "type_ignores", "ctx", without):
                continue
            if name == "body" and doc is not None:
                fields.append(f"doc={' '.join(doc.split())!r}")
                value = value[1:]
            fields.append(f"{name}={self.shape(value)}")
        return f"{type(node).__name__}({','.join(fields)})"

    def _definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
        ordinal, around = self._ordinal(node.name), self._scope
        self._scope = (*around, node.name)
        rest = self._plain(node, without="name")
        self._scope = around
        body = digest(f"{node.name}:{rest}")
        self._add(ordinal, node.name, node, body, rest)
        return body

    def _ordinal(self, name: str) -> int:
        place = (*self._scope, name)
        self._ordinals[place] = self._ordinals.get(place, 0) + 1
        return self._ordinals[place]

    def _add(self, ordinal: int, name: str, node: Any, body: str, rest: str) -> None:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        size = len(_WORD.findall("\n".join(self._lines[first - 1 : node.end_lineno])))
        body = digest(body)
        self.found.append(
            Definition(
                name=name,
                ordinal=ordinal,
                scope=self._scope,
                start_line=first,
                end_line=node.end_lineno,
                body=body,
                rest=digest(rest),
                loose=body,
                headless=body,
                size=size,
            )
        )


def _docstring(node: ast.AST) -> str | None:
    if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return ast.get_docstring(node, clean=False)
    return None


# other languages, by tokens


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a sign or a whole string. `kind` is code, text or directive."""

    value: str
    start: int
    line: int
    kind: str


def tokens(text: str, language: str) -> list[Token]:
    """Split a text into what counts: no comments that nothing reads, no space outside of strings.

    Raises:
        Unavailable: Pygments is not installed.
    """
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    found: list[Token] = []
    string: list[tuple[int, str]] = []

    def end_string() -> None:
        if string:
            start, value = string[0][0], "".join(piece for _, piece in string)
            found.append(Token(value, start, bisect_right(starts, start), "text"))
            string.clear()

    names: dict[Any, str] = {}
    for index, kind, value in _lexer(language).get_tokens_unprocessed(text):
        name = names.get(kind) or names.setdefault(kind, str(kind))
        if ".String" in name and ".Doc" in name and language != "python":
            name = "Token.Comment"
        if ".String" in name and ".Interpol" not in name:
            string.append((index, value))
            continue
        end_string()
        if value.isspace():
            continue
        compiled = language == "go" and _COMPILED.match(value)
        if name.startswith("Token.Comment") and ".Preproc" not in name and not compiled:
            continue
        if value.startswith("<?"):
            found.append(Token("<?php", index, bisect_right(starts, index), "code"))
            continue
        mark = "directive" if language in _DIRECTIVES and ".Preproc" in name else "code"
        for match in _WORD.finditer(value):
            start = index + match.start()
            found.append(Token(match[0], start, bisect_right(starts, start), mark))
    end_string()
    return found


def loosened(values: Iterable[str]) -> list[str]:
    """Return tokens without brackets, commas, semicolons and quotes."""
    bare = (value.strip("\"'`") for value in values if value not in _LAYOUT)
    return [value for value in bare if value]


def _loose(values: Iterable[str]) -> str:
    return digest("\0".join(loosened(values)))


def _lexer(language: str) -> Any:
    try:
        from pygments import lexers  # type: ignore[import-untyped]
    except ImportError as error:
        raise Unavailable(
            "Pygments is not installed.", hint="Install it: it gives the second opinion."
        ) from error
    return getattr(lexers, _LEXERS[language])()


class _Tokens:
    """Definitions by their last name; two are the same when their tokens are."""

    def __init__(self, text: str, language: str) -> None:
        self._text = text
        self._language = language
        self._known: dict[str, list[Definition]] = {}

    @cached_property
    def _tokens(self) -> list[Token]:
        return tokens(self._text, self._language)

    @cached_property
    def whole(self) -> str:
        return digest("\0".join(self._plain(0, len(self._tokens) - 1)))

    @cached_property
    def loose(self) -> str:
        return _loose(self._plain(0, len(self._tokens) - 1))

    def _plain(self, first: int, last: int) -> list[str]:
        """Return tokens without what a formatter adds or drops and no reader misses.

        Commas before a closing bracket; where a line end can end a statement, semicolons too; in
        JavaScript the brackets around one parameter and the kind of quotes; in Rust the braces
        around the one expression of an arm.
        """
        values: list[str] = []
        braces: list[int] = []
        rust = self._language == "rust"
        script = self._language in ("javascript", "typescript")
        for token in self._tokens[first : last + 1]:
            value = token.value
            if token.kind == "code" and value in _CLOSING and values[-1:] == [","]:
                values.pop()
            if value == ";" and self._language in _NEWLINES:
                continue
            if script and token.kind == "text" and value[:1] == "'" and not set(value) & {*'"\\'}:
                value = f'"{value[1:-1]}"'
            if script and value == ">" and values[-2:] == [")", "="] and values[-4:-3] == ["("]:
                values[-4:-1] = [values[-3]]
            if rust and value == "{":
                braces.append(len(values))
            if rust and value == "}" and braces:
                opening = braces.pop()
                arm = values[opening - 2 : opening] == ["=", ">"]
                if arm and ";" not in values[opening:]:
                    values[opening:] = [*values[opening + 1 :], ","]
                    continue
            if rust and value == "," and values[-1:] == [","]:
                continue
            values.append(value)
        return values

    @cached_property
    def _positions(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for index, token in enumerate(self._tokens):
            if token.kind != "text":
                found.setdefault(token.value, []).append(index)
        return found

    def find(self, wanted: Wanted) -> Definition | None:
        lines = (wanted.start_line, wanted.end_line)
        for found in self.named(wanted.last_name):
            if (found.start_line, found.end_line) == lines:
                return found
        return None

    def named(self, name: str) -> Sequence[Definition]:
        if name not in self._known:
            self._known[name] = self._named_anew(name)
        return self._known[name]

    def _named_anew(self, name: str) -> list[Definition]:
        found: list[Definition] = []
        starts: set[int] = set()
        for ordinal, index in enumerate(self._positions.get(name, ()), 1):
            span = self._span(index)
            if span is None or span[0] in starts:
                continue
            starts.add(span[0])
            found.append(self._definition(index, *span, ordinal))
        return found

    def occurrences(self, name: str) -> int:
        return len(self._positions.get(name, ()))

    def same(self, definition: Definition) -> Definition | None:
        index = self._positions[definition.name][definition.ordinal - 1]
        span = self._span(index)
        return None if span is None else self._definition(index, *span, definition.ordinal)

    def _definition(self, index: int, first: int, last: int, ordinal: int) -> Definition:
        values, name = self._plain(first, last), self._tokens[index].value
        hidden = ["\1" if value == name else value for value in values]
        end = self._tokens[last]
        return Definition(
            name=name,
            ordinal=ordinal,
            scope=tuple(self._around(first)),
            start_line=self._tokens[first].line,
            end_line=end.line + end.value.rstrip("\n").count("\n"),
            body=digest("\0".join(values)),
            rest=digest("\0".join(hidden)),
            loose=_loose(values),
            headless=digest("\0".join(self._plain(self._headless(first, index), last))),
            size=len(values),
        )

    def _headless(self, first: int, index: int) -> int:
        """Return where a definition begins below what may be macros with lines of their own.

        In C nobody but the preprocessor knows whether such a word belongs to what follows it.
        """
        found, at, depth = self._tokens, first, 0
        while self._language == "c" and at < index and _CONSTANT.fullmatch(found[first].value):
            depth += (found[at].value == "(") - (found[at].value == ")")
            at += 1
            if not depth and found[at].line > found[at - 1].line:
                first = at
            elif not depth and found[at].value != "(":
                break
        return first

    def like(self, definition: Definition) -> Sequence[Definition]:
        own = self.named(definition.name)
        if any(found.body == definition.body for found in own):
            return []
        return [found for found in self._by_rest.get(definition.rest, ()) if found not in own]

    @cached_property
    def _by_rest(self) -> dict[str, list[Definition]]:
        found: dict[str, list[Definition]] = {}
        for name, positions in self._positions.items():
            # words that stand everywhere are keywords and types, not names of definitions
            if name.isidentifier() and len(positions) < _OFTEN:
                for definition in self.named(name):
                    found.setdefault(definition.rest, []).append(definition)
        return found

    def inside(self, definition: Definition, names: Sequence[str]) -> bool:
        rest = iter(definition.scope)
        # a name of the scope can also be part of the definition, as in "func (c *Context) Get"
        return all(name in rest for name in names) or not definition.scope

    def _around(self, index: int) -> Iterator[str]:
        """Yield the words of the heads of all blocks around a token, outermost first."""
        if self._language == "ruby":
            yield from self._around_line(self._tokens[index].line)
            return
        for opening in self._blocks[index]:
            first = self._start(opening)
            yield from (token.value for token in self._tokens[first:opening])

    def _around_line(self, number: int) -> list[str]:
        """Return the words of the lines above that are indented less and less, topmost first."""
        line = self._lines[number - 1]
        indent = len(line) - len(line.lstrip())
        words: list[str] = []
        for above in reversed(self._lines[: number - 1]):
            depth = len(above) - len(above.lstrip())
            if depth < indent and re.match(r"\s*(class|module)\b", above):
                indent, words = depth, _WORD.findall(above) + words
        return words

    @cached_property
    def _blocks(self) -> list[tuple[int, ...]]:
        """Return for each token the indexes of the "{" around it."""
        around: tuple[int, ...] = ()
        found = []
        for index, token in enumerate(self._tokens):
            if token.kind == "code" and token.value == "}":
                around = around[:-1]
            found.append(around)
            if token.kind == "code" and token.value == "{":
                around = (*around, index)
        return found

    def _span(self, index: int) -> tuple[int, int] | None:
        """Return first and last token of the statement that a name stands in; None if unclear."""
        if self._tokens[index].kind == "directive":
            return self._directive(index)
        if self._language == "ruby":
            return self._ruby(index)
        first = self._start(index)
        last = self._end(first, index)
        return None if last is None else (first, last)

    def _directive(self, index: int) -> tuple[int, int]:
        """Return the "#define" around a token: directives end where code or another one begins."""
        first = last = index
        found = self._tokens
        while found[first].value != "#" and first and found[first - 1].kind == "directive":
            first -= 1
        while last + 1 < len(found) and found[last + 1].kind == "directive":
            begins = found[last + 1].value == "#" and found[last + 1].line > found[last].line
            if begins and not self._continued(found[last].line):
                break
            last += 1
        return first, last

    def _continued(self, line: int) -> bool:
        return self._lines[line - 1].rstrip().endswith("\\")

    @cached_property
    def _lines(self) -> list[str]:
        return self._text.split("\n")

    def _ruby(self, index: int) -> tuple[int, int] | None:
        """Trust the indentation: what begins in a column ends with the "end" in that column."""
        line = self._tokens[index].line
        head = self._lines[line - 1]
        indent = head[: len(head) - len(head.lstrip())]
        last = line
        if re.match(r"\s*(private\s+|protected\s+)?(def|class|module)\b", head):
            one_line = re.search(r"\bend\s*$", head) or re.search(r"def [^=]*\s=\s", head)
            if not one_line:
                close = re.compile(re.escape(indent) + r"end\b")
                last = next(
                    (n for n in range(line + 1, len(self._lines) + 1)
                     if close.match(self._lines[n - 1])), 0,
                )  # fmt: skip
                if not last:
                    return None
        else:
            end = self._end(self._first_of_line(index), index)
            if end is None:
                return None
            last = self._tokens[end].line
        first = self._first_of_line(index)
        stop = index
        while stop + 1 < len(self._tokens) and self._tokens[stop + 1].line <= last:
            stop += 1
        return first, stop

    def _first_of_line(self, index: int) -> int:
        line = self._tokens[index].line
        while index and self._tokens[index - 1].line == line:
            index -= 1
        return index

    def _start(self, index: int) -> int:
        """Return the first token of the statement that a token stands in."""
        found, depth, at = self._tokens, 0, index
        newline = self._language in _NEWLINES
        while at:
            before = found[at - 1]
            if before.kind == "directive" or before.value == "<?php":
                break
            if newline and not depth and before.line < found[at].line:
                decorator = self._decorator(at - 1)
                if decorator is None:
                    break
                at = decorator
                continue
            if before.kind == "code":
                if before.value in (")", "]") or (
                    before.value == "}" and (depth or self._named(at))
                ):
                    depth += 1
                elif before.value in ("(", "[") or (before.value == "{" and depth):
                    if not depth and self._language != "c":  # there, a macro's arguments name it
                        break
                    depth = max(0, depth - 1)
                elif not depth and before.value in (";", "{", "}"):
                    break
            at -= 1
        return self._without_labels(at, index)

    def _named(self, index: int) -> bool:
        """Tell whether a token in C is a name that follows what it names: "struct { … } name"."""
        before, token = self._tokens[index - 1], self._tokens[index]
        return self._language == "c" and before.line == token.line and token.value.isidentifier()

    def _decorator(self, index: int) -> int | None:
        """Return where the decorator begins that ends with a token, None if none does."""
        depth = 0
        for at in range(index, max(-1, index - 400), -1):
            value = self._tokens[at].value
            depth += (value in _CLOSING) - (value in _OPENING)
            if not depth and (not at or self._tokens[at - 1].line < self._tokens[at].line):
                return at if value == "@" else None
        return None

    def _without_labels(self, first: int, index: int) -> int:
        found = self._tokens
        while (
            self._language == "c"
            and first + 1 < index
            and found[first].value in ("public", "private", "protected")
            and found[first + 1].value == ":"
        ):
            first += 2
        while (
            self._language in ("rust", "php")
            and first + 2 < index
            and [t.value for t in found[first : first + 2]] == ["#", "!"]
        ):
            while first < index and found[first].value != "]":
                first += 1
            first += 1
        return first

    def _end(self, first: int, index: int) -> int | None:
        """Return the last token of the statement that begins at `first`; None without an end."""
        found, depth = self._tokens, 0
        newline = self._language in _NEWLINES
        for at in range(first, len(found)):
            token = found[at]
            if token.kind == "directive":
                if depth:
                    continue
                return at - 1 if at > index else None
            code = token.kind == "code"
            if code and token.value in _OPENING:
                depth += 1
            elif code and token.value in _CLOSING:
                depth -= 1
                if depth < 0:
                    return at - 1 if at > index else None
            if depth or at < index:
                continue
            if code and token.value == ";":
                return at
            after = found[at + 1] if at + 1 < len(found) else None
            if after is None:
                return at
            if code and token.value == "}" and self._ends_behind_brace(token, after):
                return at + (after.value == ";" and after.line == token.line)
            if (
                newline
                and after.line > token.line + token.value.count("\n")
                and not (
                    (code and token.value in _GOES_ON_BEHIND)
                    or (after.kind == "code" and after.value in _GOES_ON_BEFORE)
                )
            ):
                return at
        return None

    def _ends_behind_brace(self, brace: Token, after: Token) -> bool:
        if after.line > brace.line:
            return not (self._language in ("c", "java", "c#", "php") and after.value in ("{", ";"))
        if after.value == ",":
            return self._language != "c"
        return after.kind == "code" and after.value in (";", ")", "]", "}")
