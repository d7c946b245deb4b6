"""Source text -> symbols with line ranges, signatures and body hashes, by tree-sitter.

Owns the walk over a syntax tree, and the normal form in which two pieces of source are "the same",
which is what a formatter may change: comments, white space, quote style, optional semicolons,
trailing commas, the spelling of numbers, literals split in two, and parentheses without which the
same tree would be read. Every other token and the block it stands in counts, and so do the words of
a Python docstring and of a comment that is compiled or executed. In doubt a difference counts: a
note withheld is better than a false one shown.
What the node types of a language mean is said in `stratum.grammars`.

One walk over the syntax tree collects tokens, comments and definitions together. A symbol is a
slice of the file's tokens, so a nested body is never tokenised twice. Nothing here recurses: the
depth of the source is bounded by memory, not by Python's stack. Must not know SQL, git or the file
system.
"""

from __future__ import annotations

import functools
import hashlib
import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, compress, pairwise, starmap
from typing import TYPE_CHECKING, Any

from stratum.grammars import (
    ATTRIBUTES,
    CLOSE,
    GRAMMARS,
    HEADINGS,
    INTERPOLATIONS,
    LINE,
    OPEN,
    SINGLE,
    STATEMENT,
    Definition,
    Groups,
    Walk,
    by_name,
    directive,
    load_grammar,
    macro_tokens,
)
from stratum.models import Outline, Symbol
from stratum.redact import redact

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

    Rule = Callable[["_Walk", Node], None]
    Item = Node | bytes | tuple[Callable[["_Walk", Any], None], object]

OUTLINE_VERSION = 4

MAX_BYTES = 2_000_000  # many short tokens take 300 times the memory of their source
MAX_SYMBOLS = 5_000
MAX_DEPTH = 40  # of named scopes: generated code nests deeper, and nobody looks for names there
MAX_ANGLES = 2_000  # "<" behind a word, in one statement
MAX_SIGNATURE = 300
MAX_DOC = 300


def outline(text: str, language: str) -> Outline:
    """List what a source text defines, in order of appearance.

    A language without a grammar gives no symbols and the language "". Markdown and
    reStructuredText give their headings. A text above `MAX_BYTES` only has its lines counted.
    `complete` is False then, as it is after a syntax error and above `MAX_SYMBOLS` symbols.
    """
    lines = _count_lines(text)
    if language in HEADINGS:
        return _outline_prose(text, language, lines)
    if language not in GRAMMARS:
        return Outline("", lines, "", ())
    source = _source(text)
    if not _can_parse(source, language):
        return Outline(language, lines, "", (), complete=False)
    walk = _walk(source, language)
    return Outline(
        language=language,
        lines=lines,
        doc=walk.module_doc(),
        symbols=walk.listed(),
        complete=walk.complete,
    )


def body_hash(text: str, language: str) -> str:
    """Hash a piece of source by its tokens; 16 hex digits.

    For a piece that parses by itself, such as a function with its decorators, this is the
    `body_hash` that `outline` gives for it inside its file. A language without a grammar, and what
    is too large to be parsed, is hashed by its lines, without their ends and without empty ones.
    """
    if language not in GRAMMARS:
        return _lines_hash(_source(text))
    if language == "php" and "<?" not in text:
        text = "<?php " + text
    source = _source(text)
    if not _can_parse(source, language):
        return _lines_hash(source)
    tokens = _walk(source, language).tokens
    if language == "php" and tokens[:1] == [b"<?php"]:
        tokens = tokens[1:]
    first = next((i for i, token in enumerate(tokens) if token != STATEMENT), len(tokens))
    return _digest(b"\0".join(tokens[first:]))


def _lines_hash(source: bytes) -> str:
    return _digest(b"\n".join(line.rstrip() for line in source.split(b"\n") if line.strip()))


def _source(text: str) -> bytes:
    """Encode a text for the parser, in which a "\\r\\n" or a byte order mark means nothing."""
    source = text.removeprefix("\ufeff").encode("utf-8", "replace")
    # External scanners take NUL for the end of the file and would drop what follows.
    return source.replace(b"\r\n", b"\n").replace(b"\0", b" ")


def _can_parse(source: bytes, language: str) -> bool:
    """Tell whether a source can be parsed in time and memory that grow with its length.

    "a<b<c<…" may be comparisons or type arguments. Grammars that know both keep the two in mind up
    to the end, in quadratic memory: 1.2 GB for 20 KB of it in Java.
    """
    if len(source) > MAX_BYTES:
        return False
    if not GRAMMARS[language].generic:
        return True
    return all(
        piece.count(b"<") <= MAX_ANGLES or len(_ANGLE.findall(piece)) <= MAX_ANGLES
        for piece in re.split(rb"[;{}]", source)
    )


_ANGLE = re.compile(rb"\w\s*<(?![<=])")


def _count_lines(text: str) -> int:
    return text.count("\n") + (1 if text and not text.endswith("\n") else 0)


def _digest(tokens: bytes | memoryview) -> str:
    return hashlib.blake2b(tokens, digest_size=8).hexdigest()


def _fold(text: str, limit: int) -> str:
    folded = " ".join(text.split())
    if len(folded) > limit:
        folded = redact(folded).text  # before the cut: half a secret is not known for one
    return folded if len(folded) <= limit else folded[: limit - 1].rstrip() + "…"


def _folded(source: bytes) -> bytes:
    return b" ".join(source.split())


def _bounded(source: bytes, start: int, end: int, limit: int) -> int:
    """Return where a range ends that is to be cut: not inside a word, which may be a secret."""
    if end - start <= limit:
        return end
    word = _LAST_WORD.search(source, start, start + limit)
    return word.start() if word else start + limit


_LAST_WORD = re.compile(rb"(?<!\S)\S{1,300}\Z")


def _decode(source: bytes) -> str:
    return source.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class _Comment:
    start: int
    end: int
    first_row: int
    last_row: int
    tokens_before: int


@dataclass(frozen=True, slots=True)
class _Outer:
    """What stands around a definition: where its wrapper or its attributes start."""

    first_token: int
    signature: int
    first_row: int
    last_row: int
    attributes: str = ""


@dataclass(slots=True)
class _Found:
    """A symbol on its way; its last token is known when the walk leaves its node."""

    name: str
    kind: str
    first_row: int
    last_row: int
    doc: str
    signature: tuple[int, int]
    first_token: int
    last_token: int = 0


@dataclass(slots=True)
class _Group:
    """A value in parentheses: how tightly it is bound, and the tokens that are the parentheses."""

    kind: str
    level: int
    first: int = 0
    last: int = 0


_LOOSE, _PARAMETER, _UNARY, _ATOM = 0, 1, 50, 99  # between these: operators, as in `Groups.levels`


class _Walk(Walk):
    """One pass over a syntax tree; rules (see `_rules`) say what its nodes mean.

    `Walk` describes what grammars use of it.
    """

    def __init__(self, source: bytes, language: str) -> None:
        self.source = source
        self.language = language
        self.grammar = GRAMMARS[language]
        self.tokens = []
        self.comments: list[_Comment] = []
        self.found: list[_Found] = []
        self.complete = True
        self.docstring = ""
        self.scopes = []
        self.functions = 0
        self.members = set()
        self.exported = set()
        self.keys = set()
        self.outside = {}
        self.groups: list[_Group] = []
        self.no_sums: set[int] = set()
        self.docstrings: set[int] = set()
        self._outer: dict[int, _Outer] = {}
        self._comment_ending: dict[int, int] = {}
        self._stack: list[Item] = []
        self._commands = _commands(language)
        self._heading = 0  # so many tokens are comments before all code
        self._command_above = (0, -9, 0)  # the last run: first token, one behind the last, row
        self._more_below = -9  # the row of a comment that goes on in the next one
        self.macros: dict[int, int] = {}  # start and end of those that the parser did not see

    def run(self, root: Node) -> None:
        """Walk the whole tree, without recursion."""
        from tree_sitter import Node

        self.complete = not root.has_error
        if self.language == "python":
            self.docstring = _first_paragraph(self.take_docstring(root))
        rule_of = _rules(self.language).get
        source, emit = self.source, self.tokens.append
        stack = self._stack
        pop, extend = stack.pop, stack.extend
        stack.append(root)
        while stack:
            item = pop()
            if isinstance(item, Node):
                if rule := rule_of(item.kind_id):
                    rule(self, item)
                elif children := item.children:
                    extend(children[::-1])
                elif text := source[item.start_byte : item.end_byte]:
                    emit(text)
            elif isinstance(item, bytes):
                emit(item)
            else:
                item[0](self, item[1])
        if self.groups:
            self._drop_groups()

    def text(self, node: Node | None) -> str:
        return "" if node is None else _decode(self.source[node.start_byte : node.end_byte])

    def push(self, *items: Item) -> None:
        self._stack.extend(reversed(items))

    def descend(self, node: Node) -> None:
        if node.child_count:
            self.push(*node.children)
        elif text := self.source[node.start_byte : node.end_byte]:
            self.tokens.append(text)

    def comment(self, node: Node) -> None:
        """Set a comment aside for those who look for a description."""
        if node.start_byte in self.macros:
            self.tokens += macro_tokens(self.source, node.start_byte, self.macros[node.start_byte])
            return
        row, column = node.start_point
        # A comment that starts far to the right describes nothing; not looking at what is before
        # it keeps a file of one endless line from taking quadratic time.
        if column > 400 or self.source[node.start_byte - column : node.start_byte].strip():
            column = -1
        end_row = _last_row(node)
        if self._commands:
            self._command(node, end_row, alone=column >= 0)
        comment = _Comment(node.start_byte, node.end_byte, row, end_row, len(self.tokens))
        if column >= 0:
            self._comment_ending[end_row] = len(self.comments)
        self.comments.append(comment)

    def _command(self, node: Node, end_row: int, *, alone: bool) -> None:
        """Count a comment that is compiled or executed, in the definition right below it if any."""
        row, start, end = node.start_point[0], node.start_byte, node.end_byte
        match = self._commands.match(self.source, start, end) if self._commands else None
        if match is None and not (alone and self._more_below == row - 1):
            return
        if match is None or match.lastgroup:
            self._more_below = end_row
        tokens = self.tokens
        first = len(tokens)
        tokens.append(_folded(self.source[start:end]))
        if first == self._heading:
            self._heading += 1
        elif alone:
            first, row = self._begin(first, row)
            self._command_above = (first, len(tokens), row)

    def _begin(self, token: int, row: int) -> tuple[int, int]:
        """Return where something starts, with the comments that count right above it."""
        first, end, above = self._command_above
        if token == end or (token == end + 1 and self.tokens[end] == STATEMENT):
            return first, above
        return token, row

    def comment_before(self, between: frozenset[bytes]) -> bytes:
        tokens, comments = self.tokens, self.comments
        index = len(comments) - 1
        at = comments[index].tokens_before if comments else 0
        if index < 0 or len(tokens) - at > 9 or not between.issuperset(tokens[at:]):
            return b""
        pieces: list[bytes] = []
        while index >= 0 and comments[index].tokens_before == at:
            comment = comments[index]
            pieces.append(_folded(self.source[comment.start : comment.end]))
            if index == 0 or comments[index - 1].last_row < comment.first_row - 1:
                break
            index -= 1
        return b" ".join(reversed(pieces))

    def sequence(self, node: Node) -> None:
        items: list[Item] = []
        grammar = self.grammar
        in_list = node.type in grammar.lists
        empty: Node | None = None
        for child in node.children:
            if not child.is_named:
                if not (in_list and child.type == ","):
                    items.append(child)
            elif (kind := child.type) in grammar.comments:
                items.append(child)
            elif kind == "empty_statement" and node.type != "for_statement":
                empty = child
                continue
            elif child.id in self.docstrings:
                items += (STATEMENT, (_Walk._docstring, child))
            else:
                if empty and self.source[child.start_byte] in b"'\"":  # ";'use strict'" is no order
                    items += (STATEMENT, empty)
                items += (STATEMENT, child)
                empty = None
        self.push(*items)

    def block(self, node: Node) -> None:
        """Walk a block that only its indentation shows."""
        self.push(OPEN, (_Walk.sequence, node), CLOSE)

    def attributed(self, node: Node) -> None:
        items: list[Item] = []
        first: Node | None = None
        marked = node.type in self.grammar.statements
        for child in node.children:
            if child.is_named and child.type not in self.grammar.comments:
                if first is None and marked:
                    items.append(STATEMENT)
                if child.type in ATTRIBUTES:
                    if first is None:
                        first = child
                        items.append((_Walk._start_attributes, child))
                elif first is not None:
                    items.append((_Walk._end_attributes, child))
                    first = None
            items.append(child)
        self.push(*items)

    def _start_attributes(self, node: Node) -> None:
        self._attributes = (len(self.tokens), node.start_point[0])

    def _end_attributes(self, node: Node) -> None:
        token, row = self._attributes
        self._outer[node.id] = _Outer(token, self._head(node), row, node.end_point[0])

    def _head(self, node: Node) -> int:
        """Find where a definition's head starts, behind its attributes."""
        for child in node.children:
            if child.type == "modifiers":
                words = [word for word in child.children if word.type not in ATTRIBUTES]
                if words:
                    return words[0].start_byte
            elif child.type not in ATTRIBUTES:
                return child.start_byte
        return node.start_byte

    def wrap(self, node: Node) -> None:
        grammar = self.grammar
        outer = self._outer.pop(node.id, None)
        named = node.named_children
        inner = [c for c in named if c.type in grammar.defines or c.type in grammar.wraps]
        if node.type == "export_statement" or node.id in self.exported:
            self.exported.update(child.id for child in named)
        if len(inner) == 1:
            if node.id in self.outside:
                self.outside[inner[0].id] = self.outside[node.id]
            self._outer[inner[0].id] = outer or _Outer(
                len(self.tokens),
                self._head(node),
                node.start_point[0],
                node.end_point[0],
                "\n".join(self.text(child) for child in named if child.type in ATTRIBUTES),
            )
        if node.type in grammar.statements:
            self.sequence(node)
        else:
            self.descend(node)

    def attributes_of(self, node: Node) -> str:
        outer = self._outer.get(node.id)
        return outer.attributes if outer else ""

    def define(self, node: Node) -> None:
        how = self.grammar.defines[node.type]
        definitions = by_name(self, node, how) if isinstance(how, str) else how(self, node)
        outer = self._outer.pop(node.id, None)
        if not definitions or len(self.scopes) >= MAX_DEPTH:
            self.complete = self.complete and not definitions
            self.descend(node)
            return
        outer = outer or _Outer(
            len(self.tokens), self._head(node), node.start_point[0], _last_row(node)
        )
        room = MAX_SYMBOLS - len(self.found)
        wanted = [definition for definition in definitions if definition.listed]
        self.complete = self.complete and len(wanted) <= room
        found = [self._find(node, outer, definition) for definition in wanted[:room]]
        self.found += found
        scope = definitions[0]
        self.scopes.append((self.qualify(scope.name), scope.kind))
        inside = scope.kind in _FUNCTION_KINDS
        self.functions += inside
        children = node.children
        if node.type == "class_definition":  # "class A():"
            children = [c for c in children if c.type != "argument_list" or c.child_count > 2]
        self.push(*children, *self.outside.pop(node.id, ()), (_Walk._leave, (node, found, inside)))

    def _find(self, node: Node, outer: _Outer, definition: Definition) -> _Found:
        body, doc = definition.body, ""
        if body is not None and self.language == "python":
            doc = _first_line(self.take_docstring(body))
        first_token, first_row = self._begin(outer.first_token, outer.first_row)
        return _Found(
            name=self.qualify(definition.name),
            kind=self._kind(definition.kind),
            first_row=first_row,
            last_row=max(outer.last_row, _last_row(node)),
            doc=doc
            or self._doc_above(outer.first_row, outer.first_token)
            or self._doc_above(node.start_point[0], outer.first_token),
            signature=(outer.signature, node.end_byte if body is None else body.start_byte),
            first_token=first_token,
        )

    def _leave(self, state: tuple[Node, list[_Found], bool]) -> None:
        node, found, inside = state
        for symbol in found:
            symbol.last_token = len(self.tokens)
            if self.language == "python":
                symbol.last_row = self._last_row_of_code(node)
        self.functions -= inside
        self.scopes.pop()

    def _last_row_of_code(self, node: Node) -> int:
        """Leave out the comments that end a Python body, as Python itself does."""
        row, end = node.end_point[0], node.end_byte
        for index in range(len(self.comments) - 1, -1, -1):
            comment = self.comments[index]
            if comment.end != end:
                break
            above = self.comments[index - 1].end if index else 0
            between = self.source[max(above, node.start_byte) : comment.start]
            code = between.rstrip()
            row = comment.first_row - between.count(b"\n", len(code))
            if code:
                break
            end = above
        return row

    def anonymous(self, node: Node, *items: Node) -> None:
        self.functions += 1
        self.push(*(items or node.children), (_Walk._leave_anonymous, None))

    def _leave_anonymous(self, _: object) -> None:
        self.functions -= 1

    def qualify(self, name: str) -> str:
        around = self.scopes[-1][0] if self.scopes else ""
        return f"{around}.{name}" if around and name else around or name

    def _kind(self, kind: str) -> str:
        in_class = bool(self.scopes) and self.scopes[-1][1] in _CLASS_KINDS
        return "method" if kind == "function" and in_class else kind

    def group(self, node: Node) -> None:
        """Walk a value in parentheses, and remember where these stand."""
        groups = self.grammar.groups
        if groups is None or node.has_error:
            self.descend(node)
            return
        while True:
            children = node.children
            inner = [c for c in children[1:-1] if not c.is_extra]
            kind = inner[0].type if len(inner) == 1 else ""
            if kind not in groups.types:
                break
            node = inner[0]  # "((a))"
        if not kind:
            self.push(*children)
            return
        level = _ATOM if kind in groups.atoms else _LOOSE
        if groups.levels and kind in ("binary_expression", "unary_expression", "await_expression"):
            operator = inner[0].child_by_field_name("operator")
            sign = operator.type.encode() if operator and kind == "binary_expression" else b""
            level = groups.levels.get(sign, _LOOSE) if sign else _UNARY
        group = _Group(kind, level)
        self.groups.append(group)
        self.push((_Walk._open_group, group), *children, (_Walk._close_group, group))

    def parameters(self, node: Node) -> None:
        """Walk parameters; parentheses around one name mean nothing before an arrow."""
        inside = (node.start_byte + 1, node.end_byte - 1)
        if node.has_error or node.child_count != 3 or not _NAME.fullmatch(self.source, *inside):
            self.descend(node)
            return
        group = _Group("", _PARAMETER)
        self.groups.append(group)
        self.push((_Walk._open_group, group), *node.children, (_Walk._close_group, group))

    def _open_group(self, group: _Group) -> None:
        group.first = len(self.tokens)

    def _close_group(self, group: _Group) -> None:
        group.last = len(self.tokens) - 1

    def _drop_groups(self) -> None:
        """Take out the parentheses without which the source would be read in the same way."""
        groups = self.grammar.groups
        if groups is None:
            return
        left: dict[int, int] = {}  # parentheses that go, and the next token that stays
        right: dict[int, int] = {}
        for group in self.groups:
            before = left.get(group.first - 1, group.first - 1)
            after = right.get(group.last + 1, group.last + 1)
            if self._is_redundant(groups, group, before, after):
                left[group.first], right[group.last] = before, after
        gone = sorted((*left, *right))
        keep = bytearray(b"\1") * len(self.tokens)
        for index in gone:
            keep[index] = 0
        self.tokens = [*compress(self.tokens, keep)]
        for symbol in self.found:
            symbol.first_token -= bisect_left(gone, symbol.first_token)
            symbol.last_token -= bisect_left(gone, symbol.last_token)

    def _is_redundant(self, groups: Groups, group: _Group, before: int, after: int) -> bool:
        tokens = self.tokens
        last = tokens[before] if before >= 0 else STATEMENT
        following = tokens[after] if after < len(tokens) else STATEMENT
        level = group.level
        if level == _PARAMETER:
            return following == b"=>"
        if group.kind in groups.kept or (last == STATEMENT and following == b":"):
            return False
        if group.kind in groups.heads and last in (STATEMENT, b"=>"):
            return False
        if last in groups.before and following in groups.after:
            return group.kind != "yield" or (
                last in (STATEMENT, b"=") and following in (STATEMENT, CLOSE)
            )
        if level == _ATOM:
            return (last in groups.before or last in groups.near) and not (
                following in groups.trailers or following.startswith(b"s`")
            )
        if level == _LOOSE or (last in (b"+", b"-") and not self._is_operand(before - 1)):
            return False
        above = last in groups.before or groups.levels.get(last, _ATOM) < level
        below = following in groups.after or following == b"?"
        return above and (below or groups.levels.get(following, _ATOM) <= level)

    def _is_operand(self, index: int) -> bool:
        """Tell whether a "+" or "-" behind this token stands between two values."""
        token = self.tokens[index] if index >= 0 else STATEMENT
        return token not in _WORDS_BEFORE_VALUES and _OPERAND.search(token) is not None

    def joined(self, node: Node) -> None:
        """Walk literals side by side, and make one of those that can be one."""
        if node.has_error:
            self.descend(node)
            return
        starts: list[int] = []
        items: list[Item] = []
        for child in node.children:
            if not child.is_extra:
                items.append((_Walk._mark, starts))
            items.append(child)
        self.push(*items, (_Walk._join, starts))

    def _mark(self, starts: list[int]) -> None:
        starts.append(len(self.tokens))

    def _join(self, starts: list[int]) -> None:
        first = starts[0]
        ends = [*starts[1:], len(self.tokens)]
        parts = [self.tokens[i:j] for i, j in zip(starts, ends, strict=True)]
        del self.tokens[first:]
        join = _join_python if self.language == "python" else _join_quoted
        self.tokens += join(parts)

    def take_docstring(self, body: Node) -> str:
        """Return the docstring that opens a Python body, and see that its white space is folded."""
        for statement in body.children:
            if statement.type == "comment":
                continue
            value = statement.children[0] if statement.type == "expression_statement" else None
            if value is None or statement.child_count != 1:
                return ""
            parts = value.named_children if value.type == "concatenated_string" else [value]
            if any(part.type != "string" for part in parts):
                return ""
            literals = [_STRING.match(self.text(part)) for part in parts]
            if any(lit is None or set(lit[1].lower()) - set("ru") for lit in literals):
                return ""
            if len(literals) == 1:
                self.docstrings.add(statement.id)
            return "".join(literal[3] for literal in literals if literal)
        return ""

    def _docstring(self, statement: Node) -> None:
        """Take a docstring by its words: a formatter indents it anew."""
        first = len(self.tokens)
        _quoted_string(self, statement.children[0])
        mark, text = self.tokens[first:]
        folded = " ".join(_CONTINUED.sub(_mark_continued, _decode(text[1:])).split())
        self.tokens[first:] = mark, b"s" + folded.encode()

    def _doc_above(self, row: int, token: int) -> str:
        last = self._comment_ending.get(row - 1)
        # At most a mark and a keyword such as "const" may stand between a comment and the name.
        if last is None or self.comments[last].tokens_before < token - 2:
            return ""
        return _first_line("\n".join(self._comment_lines(last)))

    def _comment_lines(self, last: int) -> list[str]:
        """Return the text of the comment that ends at index `last`, line by line."""
        first = last
        style = self._style(first)
        while style != b"/*" and first and last - first < 100:
            above, below = self.comments[first - 1], self.comments[first]
            if above.last_row != below.first_row - 1 or self._style(first - 1) != style:
                break
            if self._comment_ending.get(above.last_row) != first - 1:
                break
            first -= 1
        group = self.comments[first : last + 1]
        ends = (_bounded(self.source, c.start, c.end, 4_000) for c in group)
        text = "\n".join(
            _decode(self.source[c.start : end]) for c, end in zip(group, ends, strict=True)
        )
        return [] if _LICENCE.search(text) else _uncomment(text)

    def _style(self, index: int) -> bytes:
        start = self.comments[index].start
        return self.source[start : start + 2] if self.source[start] == ord("/") else b"#"

    def module_doc(self) -> str:
        """Return the module's docstring, or the first paragraph of the comment that opens it."""
        if self.docstring:
            return self.docstring
        first_symbol = self.found[0].first_row if self.found else -1
        for index, comment in enumerate(self.comments[:200]):
            if comment.tokens_before - self._heading > 1:
                break
            follows = index + 1 < len(self.comments) and (
                self.comments[index + 1].first_row == comment.last_row + 1
                and self._style(index) == self._style(index + 1) != b"/*"
            )
            if follows or comment.last_row + 1 == first_symbol:
                continue
            if doc := _first_paragraph("\n".join(self._comment_lines(index))):
                return doc
        return ""

    def listed(self) -> tuple[Symbol, ...]:
        """Return the symbols that were found, in order of appearance."""
        joined = memoryview(b"\0".join(self.tokens))
        # A token starts behind all tokens before it and as many separators.
        sizes = list(accumulate(map(len, self.tokens), initial=0))

        def hashed(first: int, last: int) -> str:
            return _digest(joined[sizes[first] + first : sizes[last] + last - 1])

        starts = [comment.start for comment in self.comments]
        return tuple(
            Symbol(
                name=found.name,
                kind=found.kind,
                start_line=found.first_row + 1,
                end_line=found.last_row + 1,
                signature=self._signature(*found.signature, starts),
                doc=found.doc,
                body_hash=hashed(found.first_token, found.last_token),
            )
            for found in self.found
        )

    def _signature(self, start: int, end: int, comments: list[int]) -> str:
        end = _bounded(self.source, start, end, 4 * MAX_SIGNATURE)
        pieces = []
        for index in range(bisect_left(comments, start), bisect_left(comments, end)):
            pieces.append(self.source[start : comments[index]])
            start = min(end, self.comments[index].end)
        pieces.append(self.source[start:end])
        folded = _fold(_decode(b" ".join(pieces)), MAX_SIGNATURE)
        return folded.rstrip(":{;= \\") if not folded.endswith("::") else folded


_FUNCTION_KINDS = frozenset({"function", "method", "constructor", "property", "macro"})
_CLASS_KINDS = frozenset({"class", "interface", "struct", "enum", "trait", "impl"})
_STRING = re.compile(r"([A-Za-z]*)('''|\"\"\"|'|\")(.*)\2\Z", re.DOTALL)
_CONTINUED = re.compile(r"\\\n([ \t]*)")
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_LICENCE = re.compile(r"copyright|licen[sc]e[ds]?\b|SPDX-|all rights reserved", re.IGNORECASE)
_PRAGMA = re.compile(
    r"!|-\*-|vim?:|coding[:=]|noqa\b|type:|pylint:|ruff:|mypy:|fmt:|eslint\b|eslint-|@ts-|tslint:"
    r"|prettier-|istanbul |c8 |go:|nolint|\+build|clang-format|rubocop:|frozen_string_literal:"
    r"|phpcs:|@(?:flow|jest|license|preserve)\b",
    re.IGNORECASE,
)


def _mark_continued(match: re.Match[str]) -> str:
    # Folded like any other line end, a backslash before it would read as one before a blank.
    return "\\\1 " if match[1] else "\\\1"


_NAME = re.compile(rb"\s*[\w$\x80-\xff]+\s*")
_OPERAND = re.compile(rb"[\w$)\]}\"'`\x80-\xff]\Z")
_WORDS_BEFORE_VALUES = frozenset(
    b"return typeof case in of instanceof void delete await yield throw else do new".split()
)


def _uncomment(text: str) -> list[str]:
    lines = []
    for line in text.split("\n"):
        bare = line.strip()
        bare = re.sub(r"^(?:/\*+!?|//[/!]*|#+:?|\*+(?!/)|<!--)|\*+/$|-->$", "", bare).strip()
        bare = re.sub(r"\s*\*+/$", "", bare)
        bare = re.sub(r"</?[A-Za-z][\w.:]*(?:\s[^<>]*)?/?>", "", bare).strip()
        lines.append("" if _PRAGMA.match(bare) or not re.search(r"\w", bare) else bare)
    return lines


def _first_line(text: str) -> str:
    line = next((line.strip() for line in text.split("\n") if line.strip()), "")
    return "" if line.startswith(("@", "\\param", ":param")) else _fold(line, MAX_DOC)


def _first_paragraph(text: str) -> str:
    paragraph = re.split(r"\n[ \t]*\n", text.strip(), maxsplit=1)[0]
    return "" if paragraph.startswith("@") else _fold(paragraph, MAX_DOC)


@functools.cache
def _rules(language: str) -> dict[int, Rule]:
    """Compile a grammar's table into rules by node kind."""
    known = load_grammar(language)
    grammar = GRAMMARS[language]
    rules: dict[int, Rule] = {}

    def add(types: Iterable[str], rule: Rule, *, named: bool = True) -> None:
        for name in types:
            kind = known.id_for_node_kind(name, named)
            if kind is None:
                raise LookupError(f"{grammar.package} has no node type {name!r}")
            rules[kind] = rule

    add(grammar.comments, _Walk.comment)
    add(grammar.statements, _Walk.sequence)
    add(grammar.attributed, _Walk.attributed)
    add(grammar.anonymous, _Walk.anonymous)
    add(grammar.strings, _exact_string)
    add(grammar.quoted, _quoted_string)
    add(grammar.singles, _single)
    add(grammar.lines, _line)
    add(grammar.blocks, _Walk.block)
    add(grammar.joined, _Walk.joined)
    add(grammar.sums, _sum)
    add(grammar.directives, directive, named=False)
    if grammar.groups:
        add(grammar.groups.types, _Walk.group)
        add(grammar.groups.parameters, _Walk.parameters)
    add(grammar.wraps, _Walk.wrap)
    add(grammar.defines, _Walk.define)
    add(grammar.closers, _closing, named=False)
    add(grammar.dropped, _ignored, named=False)
    add(["ERROR"], _error)
    for name, rule in grammar.special.items():
        add([name], rule)
    return rules


@functools.cache
def _commands(language: str) -> re.Pattern[bytes] | None:
    """Compile what tells comments that count, when it is first needed."""
    pattern = GRAMMARS[language].commands
    return re.compile(pattern, re.DOTALL) if pattern else None


_parsers = threading.local()  # a parser keeps state: one per thread and language


def _parser(language: str) -> Parser:
    from tree_sitter import Parser

    cache: dict[str, Parser] = _parsers.__dict__
    if language not in cache:
        cache[language] = Parser(load_grammar(language))
    return cache[language]


def _walk(source: bytes, language: str) -> _Walk:
    tree = _parser(language).parse(source)
    walk = _Walk(source, language)
    mask = GRAMMARS[language].mask
    if mask and tree.root_node.has_error:
        masked, macros = mask(source)
        other = _parser(language).parse(masked) if macros else tree
        if _count_errors(other.root_node) < _count_errors(tree.root_node):
            tree, walk.macros = other, macros
    walk.run(tree.root_node)
    return walk


def _count_errors(root: Node) -> int:
    count, pending = 0, [root]
    while pending:
        node = pending.pop()
        count += node.is_error or node.is_missing
        if node.has_error:
            pending += node.children
    return count


def _last_row(node: Node) -> int:
    row, column = node.end_point
    # Some grammars count the line end into comments and "#define".
    return row - 1 if column == 0 and row > node.start_point[0] else row


def _ignored(walk: _Walk, node: Node) -> None:
    """Drop the sign that ends a statement, unless it breaks one off."""
    if walk.tokens[-1:] == [b","]:
        walk.descend(node)


def _error(walk: _Walk, node: Node) -> None:
    """Walk what the parser made nothing of: no sign in it is known to mean nothing."""
    items: list[Item] = []
    end = node.start_byte
    for child in node.children:
        if gap := walk.source[end : child.start_byte].strip():
            items.append(gap)
        items.append(b";" if child.type == ";" else child)
        end = child.end_byte
    if gap := walk.source[end : node.end_byte].strip():
        items.append(gap)
    walk.push(*items)


def _closing(walk: _Walk, node: Node) -> None:
    tokens = walk.tokens
    # "[,]" and "[1,,]" have meaning in JavaScript and C#: the comma must follow something.
    if len(tokens) > 1 and tokens[-1] == b"," and tokens[-2] not in (b",", b"(", b"[", b"{", b"<"):
        tokens.pop()
    walk.descend(node)


def _single(walk: _Walk, node: Node) -> None:
    """Tell "(x,)" from "(x)"."""
    kinds = [child.type for child in node.children if not child.is_extra]
    if kinds.count(",") == 1 and kinds[-2:-1] == [","]:
        walk.tokens.append(SINGLE)
    walk.descend(node)


def _line(walk: _Walk, node: Node) -> None:
    walk.push(*node.children, LINE)


def _exact_string(walk: _Walk, node: Node) -> None:
    _interpolated(walk, node, node.start_byte, node.end_byte, lambda text: text)


def _quoted_string(walk: _Walk, node: Node) -> None:
    """Take a string without its quotes, where they make no difference."""
    source, start, end = walk.source, node.start_byte, node.end_byte
    if walk.language == "python":
        literal = _STRING_START.match(source, start, end)
        if literal is None:
            return _exact_string(walk, node)
        prefix, quote = bytes(sorted(literal[1].lower())).replace(b"u", b""), literal[2]
        walk.tokens.append(b"q" + prefix)
        change = (lambda text: text) if b"r" in prefix else _unescape_quotes
        end -= len(quote) * source.endswith(quote, literal.end(), end)
        if not {*prefix} & {*b"ft"}:  # nothing is interpolated: no need to look
            return walk.tokens.append(b"s" + change(source[literal.end() : end]))
        return _interpolated(walk, node, literal.end(), end, change)
    if source[start : start + 1] not in (b"'", b'"') or end - start < 2:
        return _exact_string(walk, node)
    if node.id in walk.keys and _KEY.fullmatch(source, start + 1, end - 1):
        return walk.tokens.append(source[start + 1 : end - 1])
    # In Ruby and PHP an escape means one thing in '…' and another in "…".
    if walk.language not in ("ruby", "php"):
        walk.tokens.append(b"q")
        return _interpolated(walk, node, start + 1, end - 1, _unescape_quotes)
    if b"\\" in source[start:end]:
        return _exact_string(walk, node)
    double = source[start : start + 1] == b'"' and walk.language == "php"
    walk.tokens.append(b"q$" if double and b"$" in source[start:end] else b"q")
    return _interpolated(walk, node, start + 1, end - 1, lambda text: text)


_STRING_START = re.compile(rb"([A-Za-z]*)('''|\"\"\"|'|\")")


_KEY = re.compile(rb"[A-Za-z_$][\w$]*")


def _unescape_quotes(text: bytes) -> bytes:
    if b"\\" not in text:
        return text
    return _ESCAPE.sub(lambda match: match[1] if match[1] in b"'\"" else match[0], text)


def _interpolated(
    walk: _Walk, node: Node, start: int, end: int, change: Callable[[bytes], bytes]
) -> None:
    """Take a range to the letter, but walk what is interpolated into it."""
    items: list[Item] = []
    for child in node.children:
        if child.type in INTERPOLATIONS:
            items += (b"s" + change(walk.source[start : child.start_byte]), child)
            start = child.end_byte
    walk.push(*items, b"s" + change(walk.source[start:end]))


def _join_python(parts: list[list[bytes]]) -> Iterator[bytes]:
    """Yield the tokens of Python literals side by side; those of one kind become one.

    Each part is a mark with its prefixes, then texts with what is interpolated between them.
    """
    first = 0
    for index in range(1, len(parts) + 1):
        if index == len(parts) or not _can_join(parts[index - 1], parts[index]):
            yield from _join_run(parts[first:index])
            first = index


def _can_join(one: list[bytes], other: list[bytes]) -> bool:
    if one[0].replace(b"f", b"") != other[0].replace(b"f", b"") or b"t" in one[0]:
        return False
    return b"r" in one[0] or not (_OCTAL.search(one[-1]) and other[1][1:2].isdigit())


def _join_run(parts: list[list[bytes]]) -> list[bytes]:
    if len(parts) == 1:
        return parts[0]
    marks = {part[0] for part in parts}
    tokens = [max(marks, key=len)]
    text: list[bytes] = [b"s"]
    for mark, *pieces in parts:
        if len(marks) > 1 and b"f" not in mark:  # a brace is a letter in this one only
            pieces = [piece.replace(b"{", b"{{").replace(b"}", b"}}") for piece in pieces]
        text.append(pieces[0][1:])
        if len(pieces) > 1:
            tokens += (b"".join(text), *pieces[1:-1])
            text = [pieces[-1]]
    tokens.append(b"".join(text))
    return tokens


_OCTAL = re.compile(rb"\\[0-7]{1,2}\Z")


def _join_quoted(parts: list[list[bytes]]) -> Iterator[bytes]:
    """Yield the tokens of C literals side by side; those of one kind become one."""
    run: list[bytes] = []
    for part in parts:
        literal = part[0][1:] if len(part) == 1 else b""
        if run and not _may_follow(run[-1], literal):
            yield b"s" + _concatenated(run)
            run = []
        if _LITERAL.match(literal):
            run.append(literal)
        else:
            yield from part
    if run:
        yield b"s" + _concatenated(run)


_LITERAL = re.compile(rb"(@|L|u8|u|U|)\"")
_OPEN_ESCAPE = re.compile(rb"\\(?:x[0-9A-Fa-f]*|[0-7]{1,2})\"\Z")


def _may_follow(one: bytes, other: bytes) -> bool:
    """Tell whether two literals in double quotes are the same as one with the text of both."""
    literal, following = _LITERAL.match(one), _LITERAL.match(other)
    if not literal or not following or literal[1] != following[1]:
        return False
    if literal[1] != b"@" and (one.startswith(b'"""') or other.startswith(b'"""')):
        return False
    next_letter = other[following.end() : following.end() + 1]
    return literal[1] == b"@" or not (_OPEN_ESCAPE.search(one) and next_letter in _HEXADECIMAL)


_HEXADECIMAL = b"0123456789abcdefABCDEF"


def _concatenated(literals: list[bytes]) -> bytes:
    prefix = literals[0][: literals[0].index(b'"') + 1]
    return prefix + b"".join(literal[len(prefix) : -1] for literal in literals) + b'"'


def _sum(walk: _Walk, node: Node) -> None:
    """Take a sum of literals as the one literal that it is."""
    literals = _summands(walk, node, 20)
    if literals is None:
        walk.descend(node)
    else:
        walk.tokens.append(b"s" + _concatenated(literals))


def _summands(walk: _Walk, node: Node, depth: int) -> list[bytes] | None:
    """Return the literals of which a node is the sum, None if it is something else."""
    found: list[list[bytes]] = []
    seen: list[int] = []
    while node.type not in _SUMMANDS:
        children = node.children
        seen.append(node.id)
        if len(children) != 3 or node.id in walk.no_sums or not depth:
            walk.no_sums.update(seen)
            return None
        if node.type == "parenthesized_expression":
            node = children[1]
            continue
        right = _summands(walk, children[2], depth - 1) if children[1].type == "+" else None
        if right is None:
            walk.no_sums.update(seen)
            return None
        found.append(right)
        node = children[0]
    literals = [walk.source[node.start_byte : node.end_byte]]
    for right in reversed(found):
        literals += right
    if all(starmap(_may_follow, pairwise(literals))) and _LITERAL.match(literals[0]):
        return literals
    walk.no_sums.update(seen)
    return None


_SUMMANDS = frozenset({"string_literal", "verbatim_string_literal"})


def _outline_prose(text: str, language: str, count: int) -> Outline:
    """List the headings of a text; each reaches to the next of the same or a higher level."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    headings = HEADINGS[language](lines)[: MAX_SYMBOLS + 1]
    titles = [
        heading.title if len(heading.title) <= MAX_DOC else redact(heading.title).text[:MAX_DOC]
        for heading in headings
    ]
    ends: list[int] = [count] * len(headings)
    names: list[str] = []
    open_sections: list[int] = []
    for index, heading in enumerate(headings):
        while open_sections and headings[open_sections[-1]].level >= heading.level:
            ends[open_sections.pop()] = heading.row
        open_sections.append(index)
        names.append(" > ".join(titles[i] for i in open_sections[-6:]))
    symbols = []
    first_rows = [*(heading.row for heading in headings), len(lines)]
    for index, (heading, name) in enumerate(zip(headings, names, strict=True)):
        end = max(ends[index], heading.body_row)
        while end > heading.body_row and not lines[end - 1].strip():
            end -= 1
        section = lines[heading.row : end]
        symbols.append(
            Symbol(
                name=name,
                kind="section",
                start_line=heading.row + 1,
                end_line=end,
                signature=_fold(heading.title, MAX_SIGNATURE),
                doc=_section_doc(lines[heading.body_row : first_rows[index + 1]]),
                body_hash=body_hash("\n".join(section), language),
            )
        )
    doc = symbols[0].doc if symbols else _first_paragraph(text)
    return Outline(
        language, count, doc, tuple(symbols[:MAX_SYMBOLS]), complete=len(symbols) <= MAX_SYMBOLS
    )


def _section_doc(lines: list[str]) -> str:
    return _fold(next((line for line in lines[:20] if re.search(r"\w", line)), ""), MAX_DOC)
