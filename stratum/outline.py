"""Source text -> symbols with line ranges, signatures and body hashes, by tree-sitter.

Owns the names of languages, what counts as a symbol in each, and the normal form in which two
pieces of source are "the same": comments, white space, quote style, optional semicolons, trailing
commas and Python docstrings do not count; every other token and the block it stands in does.

One walk over the syntax tree collects tokens, comments and definitions together. A symbol is a
slice of the file's tokens, so a nested body is never tokenised twice. Nothing here recurses: the
depth of the source is bounded by memory, not by Python's stack. Must not know SQL, git or the file
system.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, Any

from stratum.models import Outline, Symbol

if TYPE_CHECKING:
    from tree_sitter import Language, Node, Parser

    Rule = Callable[["_Walk", Node], None]
    Definer = Callable[["_Walk", Node], list["_Definition"]]
    Item = Node | bytes | tuple[Callable[["_Walk", Any], None], object]

__all__ = ["OUTLINE_VERSION", "body_hash", "language_of", "outline"]

OUTLINE_VERSION = 2

MAX_BYTES = 2_000_000  # many short tokens take 300 times the memory of their source
MAX_SYMBOLS = 5_000
HEAD = 4_096  # characters that tell a language: beyond the longest licence header
MAX_DEPTH = 40  # of named scopes: generated code nests deeper, and nobody looks for names there
MAX_ANGLES = 2_000  # "<" behind a word, in one statement
MAX_SIGNATURE = 300
MAX_DOC = 300

# Tokens that no valid source contains: they stand for structure that is not written as text.
_OPEN, _CLOSE, _STATEMENT, _LINE, _SINGLE, _ARGUMENTS = (
    b"\x01",
    b"\x02",
    b"\x03",
    b"\x04",
    b"\x05",
    b"\x06",
)

_EXTENSIONS = {
    extension: language
    for language, extensions in {
        "python": "py pyi pyw",
        "javascript": "js jsx mjs cjs",
        "typescript": "ts mts cts",
        "tsx": "tsx",
        "go": "go",
        "rust": "rs",
        "java": "java",
        "c": "c h",
        "cpp": "cc cpp cxx c++ hh hpp hxx h++ ipp tpp inl cu cuh",
        "c_sharp": "cs csx",
        "ruby": "rb rake gemspec ru",
        "php": "php phtml php5 php7",
        "markdown": "md markdown mdx",
        "rst": "rst",
        "shell": "sh bash zsh ksh",
        "html": "html htm xhtml",
        "css": "css scss sass less",
        "json": "json jsonc json5",
        "yaml": "yaml yml",
        "toml": "toml",
        "ini": "ini cfg conf properties",
        "xml": "xml xsd xsl svg csproj",
        "sql": "sql",
        "kotlin": "kt kts",
        "swift": "swift",
        "scala": "scala sc",
        "lua": "lua",
        "perl": "pl pm",
        "elixir": "ex exs",
        "protobuf": "proto",
        "graphql": "graphql gql",
        "vue": "vue",
        "svelte": "svelte",
    }.items()
    for extension in extensions.split()
}
_FILE_NAMES = {
    "makefile": "make",
    "gnumakefile": "make",
    "dockerfile": "dockerfile",
    "containerfile": "dockerfile",
    "rakefile": "ruby",
    "gemfile": "ruby",
    "guardfile": "ruby",
    "vagrantfile": "ruby",
    "cmakelists.txt": "cmake",
    "sconstruct": "python",
    "wscript": "python",
}
_INTERPRETERS = {
    "python": "python",
    "pypy": "python",
    "node": "javascript",
    "nodejs": "javascript",
    "bun": "typescript",
    "deno": "typescript",
    "ts-node": "typescript",
    "tsx": "typescript",
    "ruby": "ruby",
    "php": "php",
    "sh": "shell",
    "bash": "shell",
    "dash": "shell",
    "zsh": "shell",
    "ksh": "shell",
    "perl": "perl",
    "lua": "lua",
}
_CPP_GUARD = re.compile(
    r"^[ \t]*#[ \t]*ifdef[ \t]+__cplusplus\b.*?^[ \t]*#[ \t]*endif", re.MULTILINE | re.DOTALL
)
_CPP_SIGN = re.compile(
    r"^[ \t]*(?:(?:enum[ \t]+)?class[ \t]+\w+|namespace\b|template[ \t]*<|using[ \t]+\w+)"
    r"|^[ \t]*(?:public|private|protected)[ \t]*:"
    r"|^[ \t]*#[ \t]*include[ \t]*<(?:c?[a-z_]+)>|\b(?:std|boost)::|\bconstexpr\b"
    r"|\bnullptr\b|\bnoexcept\b",
    re.MULTILINE,
)


def language_of(path: str, head: str = "") -> str:
    """Name the language of a file by its name, or by the "#!" line in `head`.

    `head` is the file's text, of which the first few kilobytes are looked at; it also tells a C
    header from one of C++. Answers "text" where nothing is known; never raises.
    """
    head = head[:HEAD]
    name = path.replace("\\", "/").rsplit("/", 1)[-1].lower()
    if name in _FILE_NAMES:
        return _FILE_NAMES[name]
    stem, dot, extension = name.rpartition(".")
    if dot and extension == "h":
        return "cpp" if _CPP_SIGN.search(_CPP_GUARD.sub("", head)) else "c"
    if dot and extension in _EXTENSIONS:
        return _EXTENSIONS[extension]
    if stem in ("makefile", "dockerfile"):
        return _FILE_NAMES[stem]
    return _interpreter(head) or "text"


def _interpreter(head: str) -> str:
    first = head.removeprefix("\ufeff").partition("\n")[0]
    if not first.startswith("#!"):
        return ""
    words = [word for word in first[2:].split() if not word.startswith("-") and "=" not in word]
    programs = [word.rsplit("/", 1)[-1] for word in words]
    if programs[:1] == ["env"]:
        programs = programs[1:]
    return _INTERPRETERS.get(re.sub(r"[\d.]+$", "", programs[0]), "") if programs else ""


def has_grammar(language: str) -> bool:
    """Tell whether files of this language have symbols."""
    return language in _GRAMMARS


def outline(text: str, language: str) -> Outline:
    """List what a source text defines, in order of appearance.

    A language without a grammar gives no symbols and the language "". Markdown and
    reStructuredText give their headings. A text above `MAX_BYTES` only has its lines counted.
    `complete` is False then, as it is after a syntax error and above `MAX_SYMBOLS` symbols.
    """
    lines = _count_lines(text)
    if language in _HEADINGS:
        return _outline_prose(text, language, lines)
    if language not in _GRAMMARS:
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
    `body_hash` that `outline` gives for it inside its file. A language without a grammar is hashed
    by its words.
    """
    if language not in _GRAMMARS:
        return _digest(b"\0".join(_source(text).split()))
    if language == "php" and "<?" not in text:
        text = "<?php " + text
    source = _source(text)
    if not _can_parse(source, language):
        return _digest(b"\0".join(source.split()))
    tokens = _walk(source, language).tokens
    if language == "php" and tokens[:1] == [b"<?php"]:
        tokens = tokens[1:]
    first = next((i for i, token in enumerate(tokens) if token != _STATEMENT), len(tokens))
    return _digest(b"\0".join(tokens[first:]))


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
    if language not in _GENERIC:
        return True
    return all(
        piece.count(b"<") <= MAX_ANGLES or len(_ANGLE.findall(piece)) <= MAX_ANGLES
        for piece in re.split(rb"[;{}]", source)
    )


_GENERIC = frozenset({"java", "c_sharp", "cpp", "typescript", "tsx"})
_ANGLE = re.compile(rb"\w\s*<(?![<=])")


def _count_lines(text: str) -> int:
    return text.count("\n") + (1 if text and not text.endswith("\n") else 0)


def _digest(tokens: bytes | memoryview) -> str:
    return hashlib.blake2b(tokens, digest_size=8).hexdigest()


def _fold(text: str, limit: int) -> str:
    folded = " ".join(text.split())
    return folded if len(folded) <= limit else folded[: limit - 1].rstrip() + "…"


def _decode(source: bytes) -> str:
    return source.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class _Definition:
    """What a syntax node defines. Unlisted ones only lend their name to what is inside them."""

    name: str
    kind: str
    body: Node | None = None
    listed: bool = True


@dataclass(frozen=True, slots=True)
class _Grammar:
    """How one language is read: where its grammar is and what its node types mean.

    `defines` maps a node type to a kind (its name is then the field "name") or to a function.
    `wraps` are nodes around a definition that belong to its lines. `statements` hold a sequence in
    which the ends of statements are not written as tokens; of these, the commas of `lists` mean no
    more than a line end. `attributed` hold definitions with their attributes as siblings.
    `anonymous` are functions without a name. The text of `strings` counts to the letter, but for
    what they interpolate; the quotes around `quoted` do not count. `closers` are the brackets
    before which a comma means nothing, `singles` the nodes in which it does. `dropped` tokens
    never count, and `lines` are nodes that a line end closes.
    """

    package: str
    defines: dict[str, str | Definer]
    function: str = "language"
    comments: tuple[str, ...] = ("comment",)
    wraps: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    attributed: tuple[str, ...] = ()
    anonymous: tuple[str, ...] = ()
    strings: tuple[str, ...] = ()
    quoted: tuple[str, ...] = ()
    closers: str = ")]}"
    singles: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    special: dict[str, Rule] = field(default_factory=dict)


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


class _Walk:
    """One pass over a syntax tree; rules (see `_rules`) say what its nodes mean."""

    def __init__(self, source: bytes, language: str) -> None:
        self.source = source
        self.language = language
        self.grammar = _GRAMMARS[language]
        self.tokens: list[bytes] = []
        self.comments: list[_Comment] = []
        self.found: list[_Found] = []
        self.complete = True
        self.docstring = ""
        self.scopes: list[tuple[str, str]] = []  # qualified name and kind, outermost first
        self.functions = 0  # bodies of functions around the current node, named or not
        self.members: set[int] = set()  # nodes that are members of something with a name
        self.exported: set[int] = set()
        self.docstrings: set[int] = set()
        self._outer: dict[int, _Outer] = {}
        self._comment_ending: dict[int, int] = {}
        self._stack: list[Item] = []
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

    def text(self, node: Node | None) -> str:
        """Return a node's text, "" for none."""
        return "" if node is None else _decode(self.source[node.start_byte : node.end_byte])

    def push(self, *items: Item) -> None:
        """Put items, in the order given, before everything that is still to be walked."""
        self._stack.extend(reversed(items))

    def descend(self, node: Node) -> None:
        """Walk a node's children, or take its text if it has none."""
        if node.child_count:
            self.push(*node.children)
        elif text := self.source[node.start_byte : node.end_byte]:
            self.tokens.append(text)

    def comment(self, node: Node) -> None:
        """Set a comment aside for those who look for a description."""
        if node.start_byte in self.macros:
            self._take_hidden(node.start_byte, self.macros[node.start_byte])
            return
        row, column = node.start_point
        # A comment that starts far to the right describes nothing; not looking at what is before
        # it keeps a file of one endless line from taking quadratic time.
        if column > 400 or self.source[node.start_byte - column : node.start_byte].strip():
            column = -1
        end_row = _last_row(node)
        comment = _Comment(node.start_byte, node.end_byte, row, end_row, len(self.tokens))
        if column >= 0:
            self._comment_ending[end_row] = len(self.comments)
        self.comments.append(comment)

    def _take_hidden(self, start: int, end: int) -> None:
        """Take the tokens of a macro that the parser was shown as a comment."""
        found = _MACRO_TOKEN.finditer(self.source, start, end)
        self.tokens += (match[2] for match in found if match[2])

    def sequence(self, node: Node) -> None:
        """Walk statements, each of them set off from the one before."""
        items: list[Item] = []
        grammar = self.grammar
        in_list = node.type in grammar.lists
        for child in node.children:
            if not child.is_named:
                if not (in_list and child.type == ","):
                    items.append(child)
            elif child.type in grammar.comments:
                items.append(child)
            elif child.id not in self.docstrings:
                items += (_STATEMENT, child)
        self.push(*items)

    def block(self, node: Node) -> None:
        """Walk a block that only its indentation shows."""
        self.push(_OPEN, (_Walk.sequence, node), _CLOSE)

    def attributed(self, node: Node) -> None:
        """Walk definitions and give each the attributes that precede it."""
        items: list[Item] = []
        first: Node | None = None
        marked = node.type in self.grammar.statements
        for child in node.children:
            if child.is_named and child.type not in self.grammar.comments:
                if first is None and marked:
                    items.append(_STATEMENT)
                if child.type in _ATTRIBUTES:
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
                words = [word for word in child.children if word.type not in _ATTRIBUTES]
                if words:
                    return words[0].start_byte
            elif child.type not in _ATTRIBUTES:
                return child.start_byte
        return node.start_byte

    def wrap(self, node: Node) -> None:
        """Let the definition inside a wrapper know that the wrapper belongs to it."""
        grammar = self.grammar
        outer = self._outer.pop(node.id, None)
        named = node.named_children
        inner = [c for c in named if c.type in grammar.defines or c.type in grammar.wraps]
        if node.type == "export_statement" or node.id in self.exported:
            self.exported.update(child.id for child in named)
        if len(inner) == 1:
            self._outer[inner[0].id] = outer or _Outer(
                len(self.tokens),
                self._head(node),
                node.start_point[0],
                node.end_point[0],
                "\n".join(self.text(child) for child in named if child.type in _ATTRIBUTES),
            )
        if node.type in grammar.statements:
            self.sequence(node)
        else:
            self.descend(node)

    def attributes_of(self, node: Node) -> str:
        """Return the decorators in the wrapper around a definition."""
        outer = self._outer.get(node.id)
        return outer.attributes if outer else ""

    def define(self, node: Node) -> None:
        """Note what a node defines, and walk what is inside under its name."""
        how = self.grammar.defines[node.type]
        definitions = _named(self, node, how) if isinstance(how, str) else how(self, node)
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
        self.push(*node.children, (_Walk._leave, (node, found, inside)))

    def _find(self, node: Node, outer: _Outer, definition: _Definition) -> _Found:
        body, doc = definition.body, ""
        if body is not None and self.language == "python":
            doc = _first_line(self.take_docstring(body))
        return _Found(
            name=self.qualify(definition.name),
            kind=self._kind(definition.kind),
            first_row=outer.first_row,
            last_row=max(outer.last_row, _last_row(node)),
            doc=doc
            or self._doc_above(outer.first_row, outer.first_token)
            or self._doc_above(node.start_point[0], outer.first_token),
            signature=(outer.signature, node.end_byte if body is None else body.start_byte),
            first_token=outer.first_token,
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

    def anonymous(self, node: Node) -> None:
        """Walk a function without a name: what it holds is local."""
        self.functions += 1
        self.push(*node.children, (_Walk._leave_anonymous, None))

    def _leave_anonymous(self, _: object) -> None:
        self.functions -= 1

    def qualify(self, name: str) -> str:
        """Put the names of the scopes around the current node before a name."""
        around = self.scopes[-1][0] if self.scopes else ""
        return f"{around}.{name}" if around and name else around or name

    def _kind(self, kind: str) -> str:
        in_class = bool(self.scopes) and self.scopes[-1][1] in _CLASS_KINDS
        return "method" if kind == "function" and in_class else kind

    def take_docstring(self, body: Node) -> str:
        """Return the docstring that opens a Python body, and see that it is not hashed."""
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
            self.docstrings.add(statement.id)
            return "".join(literal[3] for literal in literals if literal)
        return ""

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
        text = "\n".join(_decode(self.source[c.start : min(c.end, c.start + 4_000)]) for c in group)
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
            if comment.tokens_before > 1:
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
        end = min(end, start + 4 * MAX_SIGNATURE)
        pieces = []
        for index in range(bisect_left(comments, start), bisect_left(comments, end)):
            pieces.append(self.source[start : comments[index]])
            start = min(end, self.comments[index].end)
        pieces.append(self.source[start:end])
        folded = _fold(_decode(b" ".join(pieces)), MAX_SIGNATURE)
        return folded.rstrip(":{;= \\") if not folded.endswith("::") else folded


_ATTRIBUTES = frozenset(
    {"attribute_item", "attribute_list", "decorator", "annotation", "marker_annotation"}
)
_FUNCTION_KINDS = frozenset({"function", "method", "constructor", "property", "macro"})
_CLASS_KINDS = frozenset({"class", "interface", "struct", "enum", "trait", "impl"})
_INTERPOLATIONS = frozenset({"interpolation", "template_substitution"})
_STRING = re.compile(r"([A-Za-z]*)('''|\"\"\"|'|\")(.*)\2\Z", re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_MACRO_TOKEN = re.compile(
    rb"(//[^\n]*|/\*.*?\*/|\\\n)|(\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[\w.\x80-\xff]+|##|\S)",
    re.DOTALL,
)
_LICENCE = re.compile(r"copyright|licen[sc]e[ds]?\b|SPDX-|all rights reserved", re.IGNORECASE)
_PRAGMA = re.compile(
    r"!|-\*-|vim?:|coding[:=]|noqa\b|type:|pylint:|ruff:|mypy:|fmt:|eslint\b|eslint-|@ts-|tslint:"
    r"|prettier-|istanbul |c8 |go:|nolint|\+build|clang-format|rubocop:|frozen_string_literal:"
    r"|phpcs:|@(?:flow|jest|license|preserve)\b",
    re.IGNORECASE,
)
_PROPERTY = re.compile(r"@\s*(?:[\w.]*property\b|\w+\.(?:setter|getter|deleter)\b)")
_CONSTANT = re.compile(r"_*[A-Z][A-Z0-9_]*\Z")
_ANGLES = re.compile(r"<[^<>]*>")


def _uncomment(text: str) -> list[str]:
    lines = []
    for line in text.split("\n"):
        bare = line.strip()
        bare = re.sub(r"^(?:/\*+!?|//[/!]*|#+[:!]?|\*+(?!/)|<!--)|\*+/$|-->$", "", bare).strip()
        bare = re.sub(r"^\*+/$|\s*\*+/$", "", bare)
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
def _language(language: str) -> Language:
    """Load a grammar, the first time that it is needed."""
    from tree_sitter import Language

    grammar = _GRAMMARS[language]
    return Language(getattr(importlib.import_module(grammar.package), grammar.function)())


@functools.cache
def _rules(language: str) -> dict[int, Rule]:
    """Compile a grammar's table into rules by node kind."""
    known = _language(language)
    grammar = _GRAMMARS[language]
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
    add(grammar.wraps, _Walk.wrap)
    add(grammar.defines, _Walk.define)
    add(grammar.closers, _closing, named=False)
    add(grammar.dropped, _ignored, named=False)
    for name, rule in grammar.special.items():
        add([name], rule)
    return rules


_parsers = threading.local()  # a parser keeps state: one per thread and language


def _parser(language: str) -> Parser:
    from tree_sitter import Parser

    cache: dict[str, Parser] = _parsers.__dict__
    if language not in cache:
        cache[language] = Parser(_language(language))
    return cache[language]


def _walk(source: bytes, language: str) -> _Walk:
    tree = _parser(language).parse(source)
    walk = _Walk(source, language)
    if language in _PREPROCESSED and tree.root_node.has_error:
        masked, macros = _mask_macros(source)
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


_PREPROCESSED = frozenset({"c", "cpp"})
_TYPE_WORD = (
    rb"(?:auto|bool|char|class|const|constexpr|double|enum|explicit|extern|float|friend|inline|int"
    rb"|long|namespace|short|signed|size_t|static|struct|template|typename|union|unsigned|using"
    rb"|virtual|void)\b"
)
# What stands alone in a line, or before or among the words of a declaration, and is no name in it.
# Every part either matches at once or is bounded: the source may be hostile.
_MACRO = (
    rb"(?P<guard>^[ \t]*#[ \t]*if[^\n]{0,80}\b__cplusplus\b[^\n]{0,80}\n"
    rb"\s{0,80}(?:extern[ \t]{1,8}\"C\"\s{0,8}\{|\})[^\n#\"]{0,80}\n[ \t]{0,80}#[ \t]*endif\b)"
    rb"|(?P<skipped>^[ \t]*#(?:[^\n\\]|\\.)*+|//[^\n]*|/\*.*?(?:\*/|\Z)"
    rb"|\"(?:[^\"\\\n]|\\.)*+\"?|'(?:[^'\\\n]|\\.){1,8}')"
    rb"|\b(?P<name>[A-Z][A-Z0-9_]{3,})\b(?:"
    rb"(?P<alone>(?:\([^()\n]{0,200}\))?(?=[ \t]*(?://[^\n]*)?\n(?!\s*(?:[-+*%<>=&|^?.,;:)\](}{]|/[^/*]))))"
    rb"|(?P<before>(?:\([^()\n]{0,200}\))?(?=\s{1,200}" + _TYPE_WORD + rb"))"
    rb"|(?=\s{1,80}[A-Za-z_][\w:]*+(?:<[^<>;{}()]{0,200}>)?[\s*&]{1,80}[A-Za-z_~][\w:]*+\s{0,8}\()"
    rb"|(?=[ \t]{1,80}\w++\s{0,80}(?:final\s{0,80})?[:{](?!:))"
    rb"|(?P<inside>(?=[ \t]{1,80}[A-Za-z_]\w*+[ \t]{0,8}\())"
    rb"|(?P<word>))"
)
_BEFORE = (b";", b"{", b"}", b">", b")", b":", b"_", b'"')


def _follows_type(last: bytes) -> bool:
    return last.isalnum() or last in (b"_", b"*", b"&")


def _mask_macros(source: bytes) -> tuple[bytes, dict[int, int]]:
    """Turn macros that break the grammar into comments of the same length.

    Returns the masked source and where the macros start and end. A name that is a macro in one
    place is one everywhere.
    """
    sure: list[tuple[int, int]] = []
    unsure: list[tuple[int, int]] = []
    names: set[bytes] = set()
    end, last = 0, b""
    # compiled when it is first needed: it would slow every start down
    for match in re.finditer(_MACRO, source, re.MULTILINE | re.DOTALL):
        last = source[end : match.start()].rstrip()[-1:] or last
        end = match.end()
        name = match["name"]
        if match["skipped"]:
            last = b'"' if match["skipped"][0] in b"\"'" else last
        elif name is None or (match["inside"] is not None and _follows_type(last)):
            sure.append(match.span())
        elif match["word"] is match["inside"] is None and (
            not last or last in _BEFORE or last.isalnum()
        ):
            sure.append(match.span())
            names.add(source[match.start() : match.end()])
        else:
            unsure.append(match.span())
            last = name[-1:]
    sure += (span for span in unsure if source[slice(*span)] in names)
    masked = bytearray(source)
    for first, behind in sure:
        text = re.sub(rb"[^\n]", b" ", source[first + 2 : behind - 2])
        masked[first:behind] = b"/*%s*/" % text
    return bytes(masked), dict(sure)


def _last_row(node: Node) -> int:
    row, column = node.end_point
    # Some grammars count the line end into comments and "#define".
    return row - 1 if column == 0 and row > node.start_point[0] else row


def _ignored(walk: _Walk, node: Node) -> None:
    """Drop a token."""


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
        walk.tokens.append(_SINGLE)
    walk.descend(node)


def _line(walk: _Walk, node: Node) -> None:
    walk.push(*node.children, _LINE)


def _arguments(walk: _Walk, node: Node) -> None:
    """Tell Ruby's `f [1]` from `f[1]`."""
    walk.tokens.append(_ARGUMENTS)
    walk.descend(node)


def _go_for(walk: _Walk, node: Node) -> None:
    """Keep the semicolons of "for a; b; c", which say what is the condition."""
    walk.push(*(_LINE if child.type == ";" else child for child in node.children))


def _match_arm(walk: _Walk, node: Node) -> None:
    """Take one arm of Rust's match; the comma behind it may be left out after a block."""
    walk.push(_STATEMENT, *(child for child in node.children if child.type != ","))


def _macro_body(walk: _Walk, node: Node) -> None:
    """Take the raw text of a "#define", which the grammar leaves unread."""
    walk.tokens.append(_ARGUMENTS)
    for match in _MACRO_TOKEN.finditer(walk.source, node.start_byte, node.end_byte):
        if match[2]:
            walk.tokens.append(match[2])
    walk.tokens.append(_LINE)


def _number(walk: _Walk, node: Node) -> None:
    walk.tokens.append(walk.source[node.start_byte : node.end_byte].lower())


def _jsx_text(walk: _Walk, node: Node) -> None:
    """Take text between JSX tags as React does: white space around a line end is nothing."""
    first, *rest = walk.source[node.start_byte : node.end_byte].split(b"\n")
    if rest:
        lines = [first.rstrip(), *(line.strip() for line in rest[:-1]), rest[-1].lstrip()]
        first = b" ".join(line for line in lines if line)
    if first:
        walk.tokens.append(b"t" + first)


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
    # In Ruby and PHP an escape means one thing in '…' and another in "…".
    if walk.grammar.package != "tree_sitter_ruby" and walk.language != "php":
        walk.tokens.append(b"q")
        return _interpolated(walk, node, start + 1, end - 1, _unescape_quotes)
    if b"\\" in source[start:end]:
        return _exact_string(walk, node)
    double = source[start : start + 1] == b'"' and walk.language == "php"
    walk.tokens.append(b"q$" if double and b"$" in source[start:end] else b"q")
    return _interpolated(walk, node, start + 1, end - 1, lambda text: text)


_STRING_START = re.compile(rb"([A-Za-z]*)('''|\"\"\"|'|\")")


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
        if child.type in _INTERPOLATIONS:
            items += (b"s" + change(walk.source[start : child.start_byte]), child)
            start = child.end_byte
    walk.push(*items, b"s" + change(walk.source[start:end]))


def _named(walk: _Walk, node: Node, kind: str) -> list[_Definition]:
    """Define what the field "name" says; nothing if it has none, or no body where one belongs."""
    name = walk.text(node.child_by_field_name("name"))
    body = node.child_by_field_name("body")
    return [_Definition(_dotted(name), kind, body)] if name else []


def _dotted(name: str) -> str:
    """Turn the ways in which languages join names into dots, without type arguments."""
    if operator := _OPERATOR.search(name):
        around, sign = name[: operator.start()], operator[1].split()
        word = bool(sign) and sign[0][0].isalpha()
        joined = " " + " ".join(sign) if word else "".join(sign)
        return (_dotted(around) + "." if around.strip() else "") + "operator" + joined
    while (bare := _ANGLES.sub("", name)) != name:
        name = bare
    return re.sub(r"::|->|\\", ".", re.sub(r"\s+", "", name)).strip(".*&")


_OPERATOR = re.compile(r"(?<!\w)operator(?!\w)(.*)", re.DOTALL)


def _with_body(kind: str) -> Definer:
    """Define only where there is a body: elsewhere the name is just mentioned."""

    def define(walk: _Walk, node: Node) -> list[_Definition]:
        return _named(walk, node, kind) if node.child_by_field_name("body") else []

    return define


def _at_top(walk: _Walk) -> bool:
    return walk.functions == 0


def _python_function(walk: _Walk, node: Node) -> list[_Definition]:
    is_property = _PROPERTY.search(walk.attributes_of(node))
    return _named(walk, node, "property" if is_property else "function")


def _python_assignment(walk: _Walk, node: Node) -> list[_Definition]:
    left = node.child_by_field_name("left")
    if walk.scopes or walk.functions or left is None or left.type != "identifier":
        return []
    name = walk.text(left)
    return [_Definition(name, "constant")] if _CONSTANT.match(name) else []


def _python_type(walk: _Walk, node: Node) -> list[_Definition]:
    name = re.match(r"\w+", walk.text(node.child_by_field_name("left")))
    return [_Definition(name[0], "type")] if name else []


_JS_FUNCTIONS = frozenset({"arrow_function", "function_expression", "generator_function"})
_JS_WRAPPED = frozenset({"as_expression", "satisfies_expression", "parenthesized_expression"})


def _js_value(node: Node | None) -> Node | None:
    while node is not None and node.type in _JS_WRAPPED:
        node = node.named_child(0) if node.named_child_count else None
    return node


def _js_assigned(walk: _Walk, name: str, value: Node | None, other: str) -> list[_Definition]:
    """Define a name by its value: a function, a class, an object with members, or `other`."""
    value = _js_value(value)
    if value is not None and value.type in _JS_FUNCTIONS:
        return [_Definition(name, "function", value.child_by_field_name("body"))]
    if value is not None and value.type == "class":
        return [_Definition(name, "class", value.child_by_field_name("body"))]
    is_object = value is not None and value.type == "object"
    if value is not None and is_object and _at_top(walk):
        walk.members.add(value.id)
    if other:
        return [_Definition(name, other)]
    return [_Definition(name, "object", listed=False)] if is_object and _at_top(walk) else []


def _js_variable(walk: _Walk, node: Node) -> list[_Definition]:
    target = node.child_by_field_name("name")
    if target is None or target.type != "identifier":
        return []
    name = walk.text(target)
    visible = node.id in walk.exported or _CONSTANT.match(name)
    other = "constant" if visible and _at_top(walk) else ""
    return _js_assigned(walk, name, node.child_by_field_name("value"), other)


_JS_EXPORTS = re.compile(r"(?:module\.)?exports(?:\.([\w$]+))?\Z")
_JS_PLACE = re.compile(r"[\w$]+(?:\.[\w$#]+)+\Z")


def _js_assignment(walk: _Walk, node: Node) -> list[_Definition]:
    target, value = node.child_by_field_name("left"), node.child_by_field_name("right")
    place = "" if target is None or target.end_byte - target.start_byte > 200 else walk.text(target)
    value = _js_value(value)
    if exported := _JS_EXPORTS.match(place):
        if exported[1]:
            return _js_assigned(walk, exported[1], value, "constant")
        if value is None or value.type == "object":
            return _js_assigned(walk, "", value, "")
        own = walk.text(value.child_by_field_name("name"))
        return _js_assigned(walk, own or "module.exports", value, "")
    if value is None or not _JS_PLACE.match(place) or value.type not in {*_JS_FUNCTIONS, "class"}:
        return []
    return _js_assigned(walk, place.replace(".prototype.", ".").removeprefix("this."), value, "")


def _js_pair(walk: _Walk, node: Node) -> list[_Definition]:
    if node.id not in walk.members:
        return []
    name = walk.text(node.child_by_field_name("key")).strip("'\"")
    return _js_assigned(walk, name, node.child_by_field_name("value"), "")


def _js_method(walk: _Walk, node: Node) -> list[_Definition]:
    if node.id not in walk.members:
        return []
    name = walk.text(node.child_by_field_name("name")).strip("'\"")
    words = {child.type for child in node.children}
    accessor = words & {"get", "set"}
    kind = "constructor" if name == "constructor" else "property" if accessor else "method"
    return [_Definition(name, kind, node.child_by_field_name("body"))]


def _js_field(walk: _Walk, node: Node) -> list[_Definition]:
    name = node.child_by_field_name("name") or node.child_by_field_name("property")
    value = _js_value(node.child_by_field_name("value"))
    if value is None or value.type not in _JS_FUNCTIONS:
        return []
    return [_Definition(walk.text(name), "method", value.child_by_field_name("body"))]


def _js_export(walk: _Walk, node: Node) -> None:
    """Name what `export default` exports without a name."""
    value = _js_value(node.child_by_field_name("value"))
    if value is not None and value.type in {"object", "class", *_JS_FUNCTIONS}:
        walk.members.add(value.id)
    walk.wrap(node)


def _js_default(kind: str) -> Definer:
    def define(walk: _Walk, node: Node) -> list[_Definition]:
        if node.id not in walk.members:
            return []
        name = walk.text(node.child_by_field_name("name")) or "default"
        return [_Definition(name, kind, node.child_by_field_name("body"))]

    return define


def _js_members(walk: _Walk, node: Node) -> None:
    """Know the members of a class, or of an object that has a name."""
    if node.type != "object" or node.id in walk.members:
        walk.members.update(child.id for child in node.named_children)
    if node.type == "class_body":
        walk.attributed(node)
    elif node.type in walk.grammar.statements:
        walk.sequence(node)
    else:
        walk.descend(node)


def _js_function(walk: _Walk, node: Node) -> None:
    if node.id in walk.members:
        walk.define(node)
    else:
        walk.anonymous(node)


def _go_type(walk: _Walk, node: Node) -> list[_Definition]:
    value = node.child_by_field_name("type")
    kinds = {"struct_type": "struct", "interface_type": "interface"}
    kind = kinds.get(value.type, "type") if value is not None else "type"
    body = None
    if value is not None and kind != "type":
        braces = (c for c in value.children if c.type in ("{", "field_declaration_list"))
        body = next(braces, None)
    return [_Definition(walk.text(node.child_by_field_name("name")), kind, body)]


def _go_method(walk: _Walk, node: Node) -> list[_Definition]:
    receiver = walk.text(node.child_by_field_name("receiver"))
    owner = re.match(r"\(\s*(?:\w+\s+)?[*\s(]*(\w+)", receiver)
    name = walk.text(node.child_by_field_name("name"))
    body = node.child_by_field_name("body")
    return [_Definition(f"{owner[1]}.{name}" if owner else name, "method", body)]


def _go_values(kind: str) -> Definer:
    def define(walk: _Walk, node: Node) -> list[_Definition]:
        if not _at_top(walk):
            return []
        names = [walk.text(n) for n in node.children_by_field_name("name") if n.is_named]
        return [_Definition(name, kind) for name in names if name[:1].isupper()]

    return define


def _go_member(walk: _Walk, node: Node) -> list[_Definition]:
    inside = bool(walk.scopes) and walk.scopes[-1][1] == "interface"
    return _named(walk, node, "method") if inside else []


def _rust_impl(walk: _Walk, node: Node) -> list[_Definition]:
    name = _dotted(walk.text(node.child_by_field_name("type")).removeprefix("&"))
    return [_Definition(name, "impl", node.child_by_field_name("body"))] if name else []


def _rust_struct(walk: _Walk, node: Node) -> list[_Definition]:
    body = node.child_by_field_name("body")
    if body is not None and body.type == "ordered_field_declaration_list":
        body = None
    return [_Definition(walk.text(node.child_by_field_name("name")), "struct", body)]


def _rust_macro(walk: _Walk, node: Node) -> list[_Definition]:
    brackets = (child for child in node.children if child.type in ("{", "(", "["))
    name = walk.text(node.child_by_field_name("name"))
    return [_Definition(name, "macro", next(brackets, None))]


def _top_named(kind: str) -> Definer:
    def define(walk: _Walk, node: Node) -> list[_Definition]:
        found = _named(walk, node, kind) if _at_top(walk) else []
        return [definition for definition in found if definition.name != "_"]

    return define


def _class_constants(walk: _Walk, node: Node) -> list[_Definition]:
    """Define the constants of Java and C#: "static final" and "const" or "static readonly"."""
    modifiers = [walk.text(c) for c in node.children if c.type in ("modifiers", "modifier")]
    words = set(" ".join(modifiers).split())
    constant = words >= {"static", "final"} or words >= {"static", "readonly"} or "const" in words
    if not constant and node.type != "constant_declaration":
        return []
    inner = [c for c in node.children if c.type == "variable_declaration"] or [node]
    declared = [c for c in inner[0].children if c.type == "variable_declarator"]
    return [_Definition(walk.text(c.child_by_field_name("name")), "constant") for c in declared]


def _cs_property(walk: _Walk, node: Node) -> list[_Definition]:
    body = node.child_by_field_name("accessors") or node.child_by_field_name("value")
    name = walk.text(node.child_by_field_name("name")) or "this"
    return [_Definition(name, "property", body)]


def _cs_operator(walk: _Walk, node: Node) -> list[_Definition]:
    sign = walk.text(node.child_by_field_name("operator") or node.child_by_field_name("type"))
    return [_Definition(f"operator {sign}", "method", node.child_by_field_name("body"))]


def _destructor(walk: _Walk, node: Node) -> list[_Definition]:
    name = "~" + walk.text(node.child_by_field_name("name"))
    return [_Definition(name, "method", node.child_by_field_name("body"))]


def _c_declared(node: Node) -> tuple[Node | None, bool]:
    """Follow declarators to the name; tell whether a function is declared."""
    function = False
    at = node.child_by_field_name("declarator")
    while at is not None:
        if at.type in _C_NAMES:
            return at, function
        inner = at.child_by_field_name("declarator")
        if at.type == "function_declarator":
            # "int (*f)(void)" declares a pointer.
            function = inner is not None and inner.type != "parenthesized_declarator"
        at = inner or (at.named_child(0) if at.named_child_count else None)
    return None, False


_C_NAMES = frozenset(
    "identifier field_identifier type_identifier qualified_identifier destructor_name"
    " operator_name operator_cast template_function".split()
)


def _c_name(walk: _Walk, name: Node) -> str:
    text = walk.text(name)
    if name.type == "operator_cast" or " operator " in f" {text}":
        text = text.partition("(")[0] if not text.rstrip().endswith("operator()") else text
    return _dotted(text)


def _c_function_kind(walk: _Walk, name: str) -> str:
    *around, own = walk.qualify(name).split(".")
    if around and around[-1] == own:
        return "constructor"
    return "method" if "." in name else "function"


def _c_function(walk: _Walk, node: Node) -> list[_Definition]:
    target, _ = _c_declared(node)
    if target is None:
        return []
    name = _c_name(walk, target)
    if node.child_by_field_name("type") is None and _CONSTANT.match(name):
        name = _c_made(walk, node) or name
    lists = (child for child in node.children if child.type == "field_initializer_list")
    body = next(lists, None) or node.child_by_field_name("body")
    return [_Definition(name, _c_function_kind(walk, name), body)]


def _c_made(walk: _Walk, node: Node) -> str:
    """Name what a macro such as `TEST(suite, name) {` defines after its arguments."""
    declarator = node.child_by_field_name("declarator")
    arguments = walk.text(declarator.child_by_field_name("parameters") if declarator else None)
    words = (word.strip() for word in arguments.strip("()").split(",")[:2])
    return ".".join(takewhile(str.isidentifier, words))


def _c_declaration(walk: _Walk, node: Node) -> list[_Definition]:
    if not _at_top(walk):
        return []
    target, function = _c_declared(node)
    if target is not None and (function or target.type == "operator_cast"):
        name = _c_name(walk, target)
        return [_Definition(name, _c_function_kind(walk, name))]
    words = {walk.text(child) for child in node.children if child.type in _C_QUALIFIERS}
    kind = "constant" if words & {"const", "constexpr"} else "variable"
    found = []
    for child in node.children_by_field_name("declarator"):
        if child.type == "init_declarator":
            inner, _ = _c_declared(child)
            name = walk.text(inner)
            if name and (_CONSTANT.match(name) or "static" not in words):
                found.append(_Definition(_dotted(name), kind))
    return found


_C_QUALIFIERS = frozenset({"type_qualifier", "storage_class_specifier"})


def _c_field(walk: _Walk, node: Node) -> list[_Definition]:
    target, function = _c_declared(node)
    if target is None or not function or not _at_top(walk):
        return []
    name = _c_name(walk, target)
    return [_Definition(name, _c_function_kind(walk, name))]


def _c_typedef(walk: _Walk, node: Node) -> list[_Definition]:
    target, _ = _c_declared(node)
    value = node.child_by_field_name("type")
    tag = walk.text(value.child_by_field_name("name")) if value is not None else ""
    body = value.child_by_field_name("body") if value is not None else None
    if target is None or (tag == walk.text(target) and body is not None):
        return []
    kind = "type" if value is None or body is None else value.type.removesuffix("_specifier")
    return [_Definition(_dotted(walk.text(target)), "struct" if kind == "union" else kind, body)]


def _c_macro(walk: _Walk, node: Node) -> list[_Definition]:
    value = node.child_by_field_name("value")
    name = walk.text(node.child_by_field_name("name"))
    if node.type == "preproc_function_def":
        return [_Definition(name, "macro", value)]
    return [] if value is None else [_Definition(name, "constant")]


def _ruby_method(walk: _Walk, node: Node) -> list[_Definition]:
    name = walk.text(node.child_by_field_name("name"))
    owner = walk.text(node.child_by_field_name("object"))
    around = walk.scopes[-1][1] if walk.scopes else ""
    kind = "method" if around in ("class", "module") else "function"
    if owner not in ("", "self"):
        name, kind = f"{_dotted(owner)}.{name}", "method"
    kind = "constructor" if name == "initialize" and kind == "method" else kind
    parameters = node.child_by_field_name("parameters")
    body = node.child_by_field_name("body")
    last = parameters or node.child_by_field_name("name")
    following = last.next_sibling if body is None and last is not None else None
    return [_Definition(name, kind, body or following)]


def _ruby_class(kind: str) -> Definer:
    def define(walk: _Walk, node: Node) -> list[_Definition]:
        name = node.child_by_field_name("name")
        last = node.child_by_field_name("superclass") or name
        body = node.child_by_field_name("body") or (last.next_sibling if last else None)
        return [_Definition(_dotted(walk.text(name)), kind, body)]

    return define


def _ruby_assignment(walk: _Walk, node: Node) -> list[_Definition]:
    left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
    if left is None or left.type != "constant" or not _at_top(walk):
        return []
    made = re.match(r"(?:Class|Struct|Data)\.(?:new|define)\b", walk.text(right)[:20])
    return [_Definition(walk.text(left), "class" if made else "constant")]


def _ruby_call(walk: _Walk, node: Node) -> list[_Definition]:
    method = node.child_by_field_name("method")
    if method is None or node.child_by_field_name("receiver") is not None or not walk.scopes:
        return []
    if walk.text(method) not in ("attr_reader", "attr_writer", "attr_accessor"):
        return []
    arguments = node.child_by_field_name("arguments")
    names = arguments.named_children if arguments is not None else []
    symbols = [walk.text(name)[1:] for name in names if name.type == "simple_symbol"]
    return [_Definition(name, "property") for name in symbols]


def _php_method(walk: _Walk, node: Node) -> list[_Definition]:
    is_constructor = walk.text(node.child_by_field_name("name")).lower() == "__construct"
    return _named(walk, node, "constructor" if is_constructor else "method")


def _php_constant(walk: _Walk, node: Node) -> list[_Definition]:
    return [_Definition(walk.text(node.named_child(0)), "constant")]


_JS_DEFINES: dict[str, str | Definer] = {
    "function_declaration": "function",
    "generator_function_declaration": "function",
    "class_declaration": "class",
    "class": _js_default("class"),
    "method_definition": _js_method,
    "variable_declarator": _js_variable,
    "assignment_expression": _js_assignment,
    "pair": _js_pair,
    "arrow_function": _js_default("function"),
    "function_expression": _js_default("function"),
    "generator_function": _js_default("function"),
}
_JS_SPECIAL: dict[str, Rule] = {
    "export_statement": _js_export,
    "class_body": _js_members,
    "object": _js_members,
    "arrow_function": _js_function,
    "function_expression": _js_function,
    "generator_function": _js_function,
    "jsx_text": _jsx_text,
}
_JS_STATEMENTS = tuple(
    "program statement_block class_body switch_case switch_default for_statement".split()
)
_JS_WRAPS = ("export_statement", "lexical_declaration", "variable_declaration")
_TS_DEFINES: dict[str, str | Definer] = {
    **_JS_DEFINES,
    "public_field_definition": _js_field,
    "abstract_class_declaration": "class",
    "interface_declaration": "interface",
    "enum_declaration": "enum",
    "type_alias_declaration": "type",
    "internal_module": "namespace",
    "module": "namespace",
    "function_signature": "function",
    "method_signature": _js_method,
    "abstract_method_signature": _js_method,
}
_C_DEFINES: dict[str, str | Definer] = {
    "function_definition": _c_function,
    "declaration": _c_declaration,
    "type_definition": _c_typedef,
    "struct_specifier": _with_body("struct"),
    "union_specifier": _with_body("struct"),
    "enum_specifier": _with_body("enum"),
    "preproc_def": _c_macro,
    "preproc_function_def": _c_macro,
}
_C_LINES = ("preproc_include", "preproc_call")

_TYPESCRIPT = _Grammar(
    "tree_sitter_typescript",
    _TS_DEFINES,
    function="language_typescript",
    comments=("comment", "html_comment", "hash_bang_line"),
    wraps=(*_JS_WRAPS, "ambient_declaration"),
    statements=(*_JS_STATEMENTS, "interface_body", "object_type"),
    lists=("interface_body", "object_type"),
    strings=("template_string", "template_literal_type", "regex"),
    quoted=("string",),
    closers=")]}>",
    dropped=(";",),
    special={**_JS_SPECIAL, "interface_body": _js_members},
)
_GRAMMARS: dict[str, _Grammar] = {
    "python": _Grammar(
        "tree_sitter_python",
        {
            "class_definition": "class",
            "function_definition": _python_function,
            "assignment": _python_assignment,
            "type_alias_statement": _python_type,
        },
        comments=("comment", "line_continuation"),
        wraps=("decorated_definition",),
        statements=("module", "block"),
        anonymous=("lambda",),
        strings=("format_specifier",),
        quoted=("string",),
        singles=("tuple", "tuple_pattern", "subscript"),
        dropped=(";",),
        special={"block": _Walk.block, "integer": _number, "float": _number},
    ),
    "javascript": _Grammar(
        "tree_sitter_javascript",
        {**_JS_DEFINES, "field_definition": _js_field},
        comments=("comment", "html_comment", "hash_bang_line"),
        wraps=_JS_WRAPS,
        statements=_JS_STATEMENTS,
        strings=("template_string", "regex"),
        quoted=("string",),
        dropped=(";",),
        special=_JS_SPECIAL,
    ),
    "typescript": _TYPESCRIPT,
    "tsx": replace(_TYPESCRIPT, function="language_tsx"),
    "go": _Grammar(
        "tree_sitter_go",
        {
            "function_declaration": "function",
            "method_declaration": _go_method,
            "type_spec": _go_type,
            "type_alias": _go_type,
            "method_elem": _go_member,
            "const_spec": _go_values("constant"),
            "var_spec": _go_values("variable"),
        },
        wraps=("type_declaration", "const_declaration", "var_declaration"),
        statements=tuple(
            (
                "source_file statement_list type_declaration const_declaration var_spec_list"
                " import_spec_list field_declaration_list interface_type"
            ).split()
        ),
        anonymous=("func_literal",),
        strings=("interpreted_string_literal", "raw_string_literal", "rune_literal"),
        dropped=(";",),
        special={"for_clause": _go_for},
    ),
    "rust": _Grammar(
        "tree_sitter_rust",
        {
            "function_item": "function",
            "function_signature_item": "function",
            "struct_item": _rust_struct,
            "union_item": _rust_struct,
            "enum_item": "enum",
            "trait_item": "trait",
            "impl_item": _rust_impl,
            "mod_item": _with_body("module"),
            "type_item": _top_named("type"),
            "const_item": _top_named("constant"),
            "static_item": _top_named("variable"),
            "macro_definition": _rust_macro,
        },
        comments=("line_comment", "block_comment", "shebang"),
        attributed=("source_file", "declaration_list", "block"),
        anonymous=("closure_expression",),
        strings=("string_literal", "raw_string_literal", "char_literal"),
        closers=")]}>",
        singles=("tuple_expression", "tuple_type", "tuple_pattern"),
        special={"match_arm": _match_arm},
    ),
    "java": _Grammar(
        "tree_sitter_java",
        {
            "class_declaration": "class",
            "interface_declaration": "interface",
            "annotation_type_declaration": "interface",
            "enum_declaration": "enum",
            "record_declaration": "class",
            "method_declaration": "method",
            "constructor_declaration": "constructor",
            "compact_constructor_declaration": "constructor",
            "field_declaration": _class_constants,
            "constant_declaration": _class_constants,
        },
        comments=("line_comment", "block_comment"),
        anonymous=("lambda_expression",),
        strings=("string_literal", "character_literal"),
        closers="}",
    ),
    "c": _Grammar(
        "tree_sitter_c",
        _C_DEFINES,
        strings=("string_literal", "char_literal", "system_lib_string"),
        closers="}",
        lines=_C_LINES,
        special={"preproc_arg": _macro_body},
    ),
    "cpp": _Grammar(
        "tree_sitter_cpp",
        {
            **_C_DEFINES,
            "class_specifier": _with_body("class"),
            "namespace_definition": "namespace",
            "alias_declaration": _top_named("type"),
            "concept_definition": "type",
            "field_declaration": _c_field,
        },
        wraps=("template_declaration",),
        anonymous=("lambda_expression",),
        strings=("string_literal", "char_literal", "system_lib_string", "raw_string_literal"),
        closers="}",
        lines=_C_LINES,
        special={"preproc_arg": _macro_body},
    ),
    "c_sharp": _Grammar(
        "tree_sitter_c_sharp",
        {
            "namespace_declaration": "namespace",
            "file_scoped_namespace_declaration": "namespace",
            "class_declaration": "class",
            "record_declaration": "class",
            "struct_declaration": "struct",
            "interface_declaration": "interface",
            "enum_declaration": "enum",
            "delegate_declaration": "type",
            "method_declaration": "method",
            "local_function_statement": "function",
            "constructor_declaration": "constructor",
            "destructor_declaration": _destructor,
            "property_declaration": _cs_property,
            "indexer_declaration": _cs_property,
            "event_declaration": _cs_property,
            "operator_declaration": _cs_operator,
            "conversion_operator_declaration": _cs_operator,
            "field_declaration": _class_constants,
        },
        comments=("comment", "preproc_region", "preproc_endregion"),
        anonymous=("lambda_expression", "anonymous_method_expression"),
        strings=tuple(
            (
                "string_literal verbatim_string_literal raw_string_literal character_literal"
                " interpolated_string_expression"
            ).split()
        ),
        lines=("preproc_define", "preproc_undef", "preproc_pragma", "preproc_nullable"),
        special={"preproc_arg": _macro_body},
    ),
    "ruby": _Grammar(
        "tree_sitter_ruby",
        {
            "module": _ruby_class("module"),
            "class": _ruby_class("class"),
            "method": _ruby_method,
            "singleton_method": _ruby_method,
            "assignment": _ruby_assignment,
            "call": _ruby_call,
        },
        statements=tuple(
            "program body_statement then do else ensure begin block_body"
            " parenthesized_statements".split()
        ),
        anonymous=("do_block", "block", "lambda"),
        strings=("subshell", "regex", "heredoc_body", "bare_string", "bare_symbol", "character"),
        quoted=("string", "delimited_symbol"),
        dropped=(";",),
        special={"argument_list": _arguments},
    ),
    "php": _Grammar(
        "tree_sitter_php",
        {
            "namespace_definition": "namespace",
            "class_declaration": "class",
            "interface_declaration": "interface",
            "trait_declaration": "trait",
            "enum_declaration": "enum",
            "function_definition": "function",
            "method_declaration": _php_method,
            "const_element": _php_constant,
        },
        function="language_php",
        wraps=("const_declaration",),
        anonymous=("anonymous_function", "arrow_function"),
        strings=("heredoc", "nowdoc", "text", "shell_command_expression"),
        quoted=("string", "encapsed_string"),
    ),
}


@dataclass(frozen=True, slots=True)
class _Heading:
    row: int
    body_row: int  # the first line below the heading
    level: int
    title: str


_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*\Z")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*\Z")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_NOT_A_TITLE = re.compile(r"\s*\Z| {4}|\t| {0,3}(?:[>|]|[-*+] |\d+[.)] )")
_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1{2,}[ \t]*\Z")


def _markdown_headings(lines: list[str]) -> list[_Heading]:
    headings: list[_Heading] = []
    fence = ""
    start = 0
    if lines and lines[0].rstrip() == "---":  # metadata before the text
        ends = (row for row in range(1, len(lines)) if lines[row].rstrip() in ("---", "..."))
        start = next(ends, -1) + 1
    for row in range(start, len(lines)):
        line = lines[row]
        if opened := _FENCE.match(line):
            mark = opened[1]
            if not fence:
                fence = mark
            elif mark.startswith(fence) and not line.strip().strip(mark[0]):
                fence = ""
        elif fence:
            continue
        elif (atx := _ATX.match(line)) and atx[2]:
            headings.append(_Heading(row, row + 1, len(atx[1]), atx[2].strip()))
        elif row > start and (line_below := _SETEXT.match(line)):
            above = lines[row - 1]
            if not _NOT_A_TITLE.match(above) and not _ATX.match(above):
                level = 1 if line_below[1][0] == "=" else 2
                headings.append(_Heading(row - 1, row + 1, level, above.strip()))
    return headings


def _rst_headings(lines: list[str]) -> list[_Heading]:
    headings: list[_Heading] = []
    styles: list[tuple[str, bool]] = []  # in order of appearance: that is their level
    row = 1
    while row < len(lines):
        under, title = lines[row], lines[row - 1]
        plain = bool(title.strip()) and not _ADORNMENT.match(title)
        if plain and _ADORNMENT.match(under) and len(under.rstrip()) >= len(title.strip()):
            over = row > 1 and lines[row - 2].rstrip() == under.rstrip()
            if over or title[:1] not in (" ", "\t"):
                style = (under[0], over)
                if style not in styles:
                    styles.append(style)
                first = row - 2 if over else row - 1
                level = styles.index(style) + 1
                headings.append(_Heading(first, row + 1, level, title.strip()))
        row += 1
    return headings


_HEADINGS = {"markdown": _markdown_headings, "rst": _rst_headings}


def _outline_prose(text: str, language: str, count: int) -> Outline:
    """List the headings of a text; each reaches to the next of the same or a higher level."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    headings = _HEADINGS[language](lines)[: MAX_SYMBOLS + 1]
    ends: list[int] = [count] * len(headings)
    names: list[str] = []
    open_sections: list[int] = []
    for index, heading in enumerate(headings):
        while open_sections and headings[open_sections[-1]].level >= heading.level:
            ends[open_sections.pop()] = heading.row
        open_sections.append(index)
        names.append(" > ".join(headings[i].title[:MAX_DOC] for i in open_sections[-6:]))
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
    doc = symbols[0].doc if symbols else _first_paragraph(text[: 4 * MAX_DOC])
    return Outline(
        language, count, doc, tuple(symbols[:MAX_SYMBOLS]), complete=len(symbols) <= MAX_SYMBOLS
    )


def _section_doc(lines: list[str]) -> str:
    return _fold(next((line for line in lines[:20] if re.search(r"\w", line)), ""), MAX_DOC)
