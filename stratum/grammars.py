"""What there is to know about each language, as tables: the one file to edit to add a language.

Owns the names of languages and how a file tells its own, where their grammars are, what the node
types of a grammar mean, and what a heading looks like in prose. To add a language, name its files
in `_EXTENSIONS` and, if its package is a dependency, describe its node types in `GRAMMARS`, with
functions above for what a type alone does not tell; these see the walk over a tree as a `Walk`.
Must not know how a tree is walked, or what becomes of symbols and tokens.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tree_sitter import Language, Node

    Rule = Callable[["Walk", Node], None]
    Definer = Callable[["Walk", Node], list["Definition"]]
    Macros = dict[int, int]  # where each starts and ends

HEAD = 4_096  # characters that tell a language: beyond the longest licence header

# Tokens that no valid source contains: they stand for structure that is not written as text.
OPEN, CLOSE, STATEMENT = b"\x01", b"\x02", b"\x03"
LINE, SINGLE, ARGUMENTS = b"\x04", b"\x05", b"\x06"
EACH = b"\x07"  # the "in" of a loop, which is no operator

# Node types that mean the same in every grammar that has them.
ATTRIBUTES = frozenset(
    {"attribute_item", "attribute_list", "decorator", "annotation", "marker_annotation"}
)
INTERPOLATIONS = frozenset({"interpolation", "template_substitution"})


@dataclass(frozen=True, slots=True)
class Definition:
    """What a syntax node defines. Unlisted ones only lend their name to what is inside them."""

    name: str
    kind: str
    body: Node | None = None
    listed: bool = True


@dataclass(frozen=True, slots=True)
class Groups:
    """Which parentheses say nothing: those that the same tree would be read without.

    `types` are nodes of one value in parentheses. These go where the value is whole: between a
    token of `before` and one of `after`, from which no operator reaches into it. An atom, whose
    node type is in `atoms`, may also stand next to an operator: behind a token of `near`, and not
    before one of `trailers`. An operator of `levels` may stand next to those that bind less, or as
    much on its right. What is in `kept` never loses its parentheses, and what is in `heads` not
    where a statement or the body of an arrow function starts. `parameters` go before an arrow.
    """

    types: tuple[str, ...]
    before: frozenset[bytes]
    after: frozenset[bytes]
    near: frozenset[bytes] = frozenset()
    trailers: frozenset[bytes] = frozenset()
    atoms: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    heads: frozenset[str] = frozenset()
    levels: dict[bytes, int] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grammar:
    """How one language is read: where its grammar is and what its node types mean.

    `defines` maps a node type to a kind (its name is then the field "name") or to a function.
    `wraps` are nodes around a definition that belong to its lines. `statements` hold a sequence in
    which the ends of statements are not written as tokens; of these, the commas of `lists` mean no
    more than a line end. `attributed` hold definitions with their attributes as siblings.
    `anonymous` are functions without a name. The text of `strings` counts to the letter, but for
    what they interpolate; the quotes around `quoted` do not count. `closers` are the brackets
    before which a comma means nothing, `singles` the nodes in which it does. `dropped` tokens
    never count, and `lines` are nodes that a line end closes; only indentation shows `blocks`.
    `special` holds rules that none of these can express. In a `generic` language "<" may open type
    arguments. `joined` are literals side by side that are one, `sums` what may join literals by
    "+". A blank inside `directives` does not count. `groups` says which parentheses do not.
    `mask` hides what may keep a source from being parsed in comments of the same length. Comments
    that `commands` matches at their start are compiled or executed: they count. Where its group
    `more` matches, so do the comments in the lines right below.
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
    blocks: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()
    groups: Groups | None = None
    special: dict[str, Rule] = field(default_factory=dict)
    generic: bool = False
    mask: Callable[[bytes], tuple[bytes, Macros]] | None = None
    commands: bytes = b""


class Walk(Protocol):
    """What the functions of a grammar may ask of the walk over a tree, and tell it."""

    source: bytes
    tokens: list[bytes]
    scopes: list[tuple[str, str]]  # qualified name and kind, outermost first
    functions: int  # bodies of functions around the current node, named or not
    members: set[int]  # nodes that are members of something with a name
    exported: set[int]  # nodes that others see from outside the file
    keys: set[int]  # strings that may as well be written as names
    outside: dict[int, tuple[bytes, ...]]  # what else counts in the definition that a node makes

    def text(self, node: Node | None) -> str:
        """Return a node's text, "" for none."""

    def qualify(self, name: str) -> str:
        """Put the names of the scopes around the current node before a name."""

    def attributes_of(self, node: Node) -> str:
        """Return the decorators in the wrapper around a definition."""

    def comment_before(self, between: frozenset[bytes]) -> bytes:
        """Return the comment that stands here, or before tokens of `between`, b"" for none."""

    def push(self, *items: Node | bytes) -> None:
        """Put items, in the order given, before everything that is still to be walked."""

    def descend(self, node: Node) -> None:
        """Walk a node's children, or take its text if it has none."""

    def sequence(self, node: Node) -> None:
        """Walk statements, each of them set off from the one before."""

    def attributed(self, node: Node) -> None:
        """Walk definitions and give each the attributes that precede it."""

    def wrap(self, node: Node) -> None:
        """Let the definition inside a wrapper know that the wrapper belongs to it."""

    def define(self, node: Node) -> None:
        """Note what a node defines, and walk what is inside under its name."""

    def anonymous(self, node: Node, *items: Node) -> None:
        """Walk a function without a name, or what is left of it: what it holds is local."""


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
    return language in GRAMMARS


@functools.cache
def load_grammar(language: str) -> Language:
    """Load a grammar, the first time that it is needed."""
    from tree_sitter import Language

    grammar = GRAMMARS[language]
    return Language(getattr(importlib.import_module(grammar.package), grammar.function)())


def by_name(walk: Walk, node: Node, kind: str) -> list[Definition]:
    """Define what the field "name" says, nothing if there is none."""
    name = walk.text(node.child_by_field_name("name"))
    body = node.child_by_field_name("body")
    return [Definition(_dotted(name), kind, body)] if name else []


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
_ANGLES = re.compile(r"<[^<>]*>")


def _with_body(kind: str) -> Definer:
    """Define only where there is a body: elsewhere the name is just mentioned."""

    def define(walk: Walk, node: Node) -> list[Definition]:
        return by_name(walk, node, kind) if node.child_by_field_name("body") else []

    return define


def _at_top(walk: Walk) -> bool:
    return walk.functions == 0


def _top_named(kind: str) -> Definer:
    def define(walk: Walk, node: Node) -> list[Definition]:
        found = by_name(walk, node, kind) if _at_top(walk) else []
        return [definition for definition in found if definition.name != "_"]

    return define


_PROPERTY = re.compile(r"@\s*(?:[\w.]*property\b|\w+\.(?:setter|getter|deleter)\b)")
_CONSTANT = re.compile(r"_*[A-Z][A-Z0-9_]*\Z")


def _python_function(walk: Walk, node: Node) -> list[Definition]:
    is_property = _PROPERTY.search(walk.attributes_of(node))
    return by_name(walk, node, "property" if is_property else "function")


def _python_assignment(walk: Walk, node: Node) -> list[Definition]:
    left = node.child_by_field_name("left")
    if walk.scopes or walk.functions or left is None or left.type != "identifier":
        return []
    name = walk.text(left)
    return [Definition(name, "constant")] if _CONSTANT.match(name) else []


def _python_type(walk: Walk, node: Node) -> list[Definition]:
    name = re.match(r"\w+", walk.text(node.child_by_field_name("left")))
    return [Definition(name[0], "type")] if name else []


def _number(walk: Walk, node: Node) -> None:
    walk.tokens.append(walk.source[node.start_byte : node.end_byte].lower())


def _float(point: bytes) -> Rule:
    """Spell a decimal fraction in one way; `point` is what tells a whole one from an integer."""

    def rule(walk: Walk, node: Node) -> None:
        text = walk.source[node.start_byte : node.end_byte].lower()
        if match := _DECIMAL.match(text):
            whole, fraction, sign, exponent, unit = match.groups(b"")
            fraction = fraction.rstrip(b"0")
            text = (whole or b"0") + (b"." + fraction if fraction else point)
            if exponent:
                text += b"e" + sign.strip(b"+") + exponent
            text += unit
        walk.tokens.append(text)

    return rule


_DECIMAL = re.compile(rb"(?=\.?\d)([\d_]*)\.?([\d_]*)(?:e([+-]?)0*(\d+))?(j?)\Z")


def _bare(walk: Walk, node: Node) -> None:
    """Walk a list around which parentheses, and the comma they allow, mean nothing."""
    if walk.source.find(b"(", node.start_byte, node.end_byte) < 0:
        walk.descend(node)
        return
    children = [child for child in node.children if child.type not in ("(", ")")]
    last = next((child for child in reversed(children) if not child.is_extra), None)
    walk.push(*(child for child in children if child != last or child.type != ","))


def _bare_tuple(walk: Walk, node: Node) -> None:
    """Take "a, b" as "(a, b)"."""
    if node.has_error or walk.tokens[-1:] == [b"raise"]:
        walk.descend(node)
        return
    children = [child for child in node.children if not child.is_extra]
    if children[-1].type == ",":
        children.pop()
        if len(children) == 1:
            walk.tokens.append(SINGLE)
    walk.push(b"(", *children, b")")


def _target(walk: Walk, node: Node) -> None:
    """Take "(a) = 1" as "a = 1", but not "(a): int = 1", which declares nothing."""
    children = node.children
    if (
        len(children) == 3
        and children[1].type in ("identifier", "attribute", "subscript")
        and not _ANNOTATED.match(walk.source, node.end_byte)
    ):
        walk.push(children[1])
        return
    if len(children) > 3 and children[-2].type == "," and len(children) == 4:
        walk.tokens.append(SINGLE)
    walk.descend(node)


_ANNOTATED = re.compile(rb"\s*:")


def _interpolation(walk: Walk, node: Node) -> None:
    """Take the value of f"{value = }" to the letter, since it is printed."""
    children = node.children
    mark = next((i for i, child in enumerate(children) if child.type == "="), 0)
    if not mark:
        walk.descend(node)
        return
    text = walk.source[children[0].end_byte : children[mark + 1].start_byte]
    walk.push(b"{", b"s" + text, *children[mark + 1 :])


def _python_for(walk: Walk, node: Node) -> None:
    walk.push(*(EACH if child.type == "in" else child for child in node.children))


_JS_FUNCTIONS = frozenset({"arrow_function", "function_expression", "generator_function"})
_JS_WRAPPED = frozenset({"as_expression", "satisfies_expression", "parenthesized_expression"})


def _js_value(node: Node | None) -> Node | None:
    while node is not None and node.type in _JS_WRAPPED:
        node = node.named_child(0) if node.named_child_count else None
    return node


def _js_assigned(walk: Walk, name: str, value: Node | None, other: str) -> list[Definition]:
    """Define a name by its value: a function, a class, an object with members, or `other`."""
    value = _js_value(value)
    if value is not None and value.type in _JS_FUNCTIONS:
        return [Definition(name, "function", value.child_by_field_name("body"))]
    if value is not None and value.type == "class":
        return [Definition(name, "class", value.child_by_field_name("body"))]
    is_object = value is not None and value.type == "object"
    if value is not None and is_object and _at_top(walk):
        walk.members.add(value.id)
    if other:
        return [Definition(name, other)]
    return [Definition(name, "object", listed=False)] if is_object and _at_top(walk) else []


def _js_variable(walk: Walk, node: Node) -> list[Definition]:
    target = node.child_by_field_name("name")
    if target is None or target.type != "identifier":
        return []
    name = walk.text(target)
    visible = node.id in walk.exported or _CONSTANT.match(name)
    other = "constant" if visible and _at_top(walk) else ""
    return _js_assigned(walk, name, node.child_by_field_name("value"), other)


_JS_EXPORTS = re.compile(r"(?:module\.)?exports(?:\.([\w$]+))?\Z")
_JS_PLACE = re.compile(r"[\w$]+(?:\.[\w$#]+)+\Z")


def _js_assignment(walk: Walk, node: Node) -> list[Definition]:
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


def _js_key(walk: Walk, node: Node) -> Node | None:
    """Return what names a member of an object; quotes around a name do not count."""
    key = node.child_by_field_name("key") or node.child_by_field_name("name")
    if key is not None and key.type == "string":
        walk.keys.add(key.id)
    return key


def _js_pair(walk: Walk, node: Node) -> list[Definition]:
    key = _js_key(walk, node)
    if node.id not in walk.members:
        return []
    name = walk.text(key).strip("'\"")
    return _js_assigned(walk, name, node.child_by_field_name("value"), "")


def _js_method(walk: Walk, node: Node) -> list[Definition]:
    key = _js_key(walk, node)
    if node.id not in walk.members:
        return []
    name = walk.text(key).strip("'\"")
    words = {child.type for child in node.children}
    accessor = words & {"get", "set"}
    kind = "constructor" if name == "constructor" else "property" if accessor else "method"
    return [Definition(name, kind, node.child_by_field_name("body"))]


def _js_field(walk: Walk, node: Node) -> list[Definition]:
    name = node.child_by_field_name("name") or node.child_by_field_name("property")
    value = _js_value(node.child_by_field_name("value"))
    if value is None or value.type not in _JS_FUNCTIONS:
        return []
    return [Definition(walk.text(name), "method", value.child_by_field_name("body"))]


def _js_export(walk: Walk, node: Node) -> None:
    """Name what `export default` exports without a name."""
    value = _js_value(node.child_by_field_name("value"))
    if value is not None and value.type in {"object", "class", *_JS_FUNCTIONS}:
        walk.members.add(value.id)
    walk.wrap(node)


def _js_default(kind: str) -> Definer:
    def define(walk: Walk, node: Node) -> list[Definition]:
        if node.id not in walk.members:
            return []
        name = walk.text(node.child_by_field_name("name")) or "default"
        return [Definition(name, kind, node.child_by_field_name("body"))]

    return define


def _js_members(walk: Walk, node: Node) -> None:
    """Know the members of a class, or of an object that has a name."""
    if node.type != "object" or node.id in walk.members:
        walk.members.update(child.id for child in node.named_children)
    if node.type == "class_body":
        walk.attributed(node)
    elif node.type == "interface_body":
        walk.sequence(node)
    else:
        walk.descend(node)


def _js_function(walk: Walk, node: Node) -> None:
    if node.id in walk.members:
        walk.define(node)
    else:
        walk.anonymous(node)


def _js_return(walk: Walk, node: Node) -> None:
    """Tell "return" with a value in the next line, which is not returned, from other returns."""
    children = node.children
    values = [child for child in children[1:] if not child.is_extra]
    gap = walk.source[children[0].end_byte : values[0].start_byte] if values else b""
    walk.push(children[0], *((LINE,) if b"\n" in gap else ()), *children[1:])


def _ts_property(walk: Walk, node: Node) -> None:
    _js_key(walk, node)
    walk.descend(node)


def _ts_union(walk: Walk, node: Node) -> None:
    """Leave out the sign that may stand before the first type."""
    first, *others = node.children
    walk.push(*others) if first.type in ("|", "&") else walk.descend(node)


def _jsx_text(walk: Walk, node: Node) -> None:
    """Take text between JSX tags as React does: white space around a line end is nothing."""
    first, *rest = walk.source[node.start_byte : node.end_byte].split(b"\n")
    if rest:
        lines = [first.rstrip(), *(line.strip() for line in rest[:-1]), rest[-1].lstrip()]
        first = b" ".join(line for line in lines if line)
    if first:
        walk.tokens.append(b"t" + first)


def _jsx_attribute(walk: Walk, node: Node) -> None:
    """Walk an attribute between JSX tags, in whose strings a backslash is a letter."""
    items: list[Node | bytes] = []
    for child in node.children:
        if child.type == "string":
            text = walk.source[child.start_byte + 1 : child.end_byte - 1]
            items += (b"q", b"s" + text.replace(b"&apos;", b"'").replace(b"&quot;", b'"'))
        else:
            items.append(child)
    walk.push(*items)


def _go_type(walk: Walk, node: Node) -> list[Definition]:
    value = node.child_by_field_name("type")
    kinds = {"struct_type": "struct", "interface_type": "interface"}
    kind = kinds.get(value.type, "type") if value is not None else "type"
    body = None
    if value is not None and kind != "type":
        braces = (c for c in value.children if c.type in ("{", "field_declaration_list"))
        body = next(braces, None)
    return [Definition(walk.text(node.child_by_field_name("name")), kind, body)]


def _go_method(walk: Walk, node: Node) -> list[Definition]:
    receiver = walk.text(node.child_by_field_name("receiver"))
    owner = re.match(r"\(\s*(?:\w+\s+)?[*\s(]*(\w+)", receiver)
    name = walk.text(node.child_by_field_name("name"))
    body = node.child_by_field_name("body")
    return [Definition(f"{owner[1]}.{name}" if owner else name, "method", body)]


def _go_values(kind: str) -> Definer:
    def define(walk: Walk, node: Node) -> list[Definition]:
        if not _at_top(walk):
            return []
        names = [walk.text(n) for n in node.children_by_field_name("name") if n.is_named]
        return [Definition(name, kind) for name in names if name[:1].isupper()]

    return define


def _go_constants(walk: Walk, node: Node) -> None:
    """Walk constants; one without a value repeats the last one, and `iota` counts them."""
    repeated, place = b"", False
    specs = (child for child in node.children if child.type == "const_spec")
    for index, spec in enumerate(specs):
        value = spec.child_by_field_name("value")
        if value is not None:
            first = spec.child_by_field_name("type") or value
            written = walk.source[first.start_byte : value.end_byte]
            place = _IOTA.search(written) is not None
            if not _QUOTE.search(written):  # else blanks have a meaning
                written = b"".join(written.split())
            # Not the text itself: a thousand constants may repeat one of a megabyte.
            repeated = hashlib.blake2b(written, digest_size=8).hexdigest().encode()
        walk.outside[spec.id] = (
            *((repeated,) if value is None else ()),
            *((b"%d" % index,) if place else ()),
        )
    walk.wrap(node)


_IOTA = re.compile(rb"\biota\b")
_QUOTE = re.compile(rb"[\"'`]")


def _go_import(walk: Walk, node: Node) -> None:
    """Take the comment before `import "C"`, which is a source in C."""
    is_c = walk.text(node.child_by_field_name("path")) == '"C"'
    source = walk.comment_before(_GO_IMPORT) if is_c else b""
    walk.push(*((source,) if source else ()), *node.children)


_GO_IMPORT = frozenset({b"import", b"(", STATEMENT})


def _go_member(walk: Walk, node: Node) -> list[Definition]:
    inside = bool(walk.scopes) and walk.scopes[-1][1] == "interface"
    return by_name(walk, node, "method") if inside else []


def _go_head(walk: Walk, node: Node) -> None:
    """Keep the semicolons of "for a; b; c" and "if a; b", which say what is the condition."""
    walk.push(*(LINE if child.type == ";" else child for child in node.children))


def _rust_impl(walk: Walk, node: Node) -> list[Definition]:
    name = _dotted(walk.text(node.child_by_field_name("type")).removeprefix("&"))
    return [Definition(name, "impl", node.child_by_field_name("body"))] if name else []


def _rust_struct(walk: Walk, node: Node) -> list[Definition]:
    body = node.child_by_field_name("body")
    if body is not None and body.type == "ordered_field_declaration_list":
        body = None
    return [Definition(walk.text(node.child_by_field_name("name")), "struct", body)]


def _rust_macro(walk: Walk, node: Node) -> list[Definition]:
    brackets = (child for child in node.children if child.type in ("{", "(", "["))
    name = walk.text(node.child_by_field_name("name"))
    return [Definition(name, "macro", next(brackets, None))]


def _match_arm(walk: Walk, node: Node) -> None:
    """Take one arm of Rust's match; the comma behind it may be left out after a block."""
    children = [child for child in node.children if child.type != ","]
    walk.push(STATEMENT, *children[:-1], *map(_rust_value, children[-1:]))


def _rust_closure(walk: Walk, node: Node) -> None:
    *head, body = node.children
    if node.child_by_field_name("return_type") is None:
        body = _rust_value(body)
    walk.anonymous(node, *head, body)


def _rust_value(node: Node) -> Node:
    """Return the value of a block that holds nothing else."""
    while node.type == "block" and node.child_count == 3:
        inner = node.children[1]
        if inner.type == "expression_statement" and inner.child_count == 1:
            inner = inner.children[0]
        if not inner.type.endswith(("_expression", "_literal")) and inner.type not in _RUST_VALUES:
            break
        node = inner
    return node


_RUST_VALUES = frozenset(
    "identifier scoped_identifier self macro_invocation unsafe_block generic_function".split()
)


def _rust_tokens(walk: Walk, node: Node) -> None:
    """Walk what a macro gets or gives: every comma counts, and so does what separates "$(…),*"."""
    items: list[Node | bytes] = []
    end, comma = node.start_byte, False
    for child in node.children:
        if gap := walk.source[end : child.start_byte].strip():
            items.append(gap)  # the grammar has no node for it
        if comma and child.type in (")", "]", "}"):
            items.append(SINGLE)
        items.append(child)
        comma = child.type == ","
        end = child.end_byte
    walk.push(*items)


def _rust_statement(walk: Walk, node: Node) -> None:
    """Leave out the semicolon of a "return;" that ends its block."""
    children = node.children
    leaves = children[0].type in ("return_expression", "break_expression", "continue_expression")
    if leaves and _ENDS_BLOCK.match(walk.source, node.end_byte):
        walk.push(children[0])
    else:
        walk.descend(node)


_ENDS_BLOCK = re.compile(rb"\s*\}")


def _class_constants(walk: Walk, node: Node) -> list[Definition]:
    """Define the constants of Java and C#: "static final" and "const" or "static readonly"."""
    modifiers = [walk.text(c) for c in node.children if c.type in ("modifiers", "modifier")]
    words = set(" ".join(modifiers).split())
    constant = words >= {"static", "final"} or words >= {"static", "readonly"} or "const" in words
    if not constant and node.type != "constant_declaration":
        return []
    inner = [c for c in node.children if c.type == "variable_declaration"] or [node]
    declared = [c for c in inner[0].children if c.type == "variable_declarator"]
    return [Definition(walk.text(c.child_by_field_name("name")), "constant") for c in declared]


def _cs_property(walk: Walk, node: Node) -> list[Definition]:
    body = node.child_by_field_name("accessors") or node.child_by_field_name("value")
    name = walk.text(node.child_by_field_name("name")) or "this"
    return [Definition(name, "property", body)]


def _cs_operator(walk: Walk, node: Node) -> list[Definition]:
    sign = walk.text(node.child_by_field_name("operator") or node.child_by_field_name("type"))
    return [Definition(f"operator {sign}", "method", node.child_by_field_name("body"))]


def _destructor(walk: Walk, node: Node) -> list[Definition]:
    name = "~" + walk.text(node.child_by_field_name("name"))
    return [Definition(name, "method", node.child_by_field_name("body"))]


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


def _c_name(walk: Walk, name: Node) -> str:
    text = walk.text(name)
    if name.type == "operator_cast" or " operator " in f" {text}":
        text = text.partition("(")[0] if not text.rstrip().endswith("operator()") else text
    return _dotted(text)


def _c_function_kind(walk: Walk, name: str) -> str:
    *around, own = walk.qualify(name).split(".")
    if around and around[-1] == own:
        return "constructor"
    return "method" if "." in name else "function"


def _c_function(walk: Walk, node: Node) -> list[Definition]:
    target, _ = _c_declared(node)
    if target is None:
        return []
    name = _c_name(walk, target)
    if node.child_by_field_name("type") is None and _CONSTANT.match(name):
        name = _c_made(walk, node) or name
    lists = (child for child in node.children if child.type == "field_initializer_list")
    body = next(lists, None) or node.child_by_field_name("body")
    return [Definition(name, _c_function_kind(walk, name), body)]


def _c_made(walk: Walk, node: Node) -> str:
    """Name what a macro such as `TEST(suite, name) {` defines after its arguments."""
    declarator = node.child_by_field_name("declarator")
    arguments = walk.text(declarator.child_by_field_name("parameters") if declarator else None)
    words = (word.strip() for word in arguments.strip("()").split(",")[:2])
    return ".".join(takewhile(str.isidentifier, words))


def _c_declaration(walk: Walk, node: Node) -> list[Definition]:
    if not _at_top(walk):
        return []
    target, function = _c_declared(node)
    if target is not None and (function or target.type == "operator_cast"):
        name = _c_name(walk, target)
        return [Definition(name, _c_function_kind(walk, name))]
    words = {walk.text(child) for child in node.children if child.type in _C_QUALIFIERS}
    kind = "constant" if words & {"const", "constexpr"} else "variable"
    found = []
    for child in node.children_by_field_name("declarator"):
        if child.type == "init_declarator":
            inner, _ = _c_declared(child)
            name = walk.text(inner)
            if name and (_CONSTANT.match(name) or "static" not in words):
                found.append(Definition(_dotted(name), kind))
    return found


_C_QUALIFIERS = frozenset({"type_qualifier", "storage_class_specifier"})


def _c_field(walk: Walk, node: Node) -> list[Definition]:
    target, function = _c_declared(node)
    if target is None or not function or not _at_top(walk):
        return []
    name = _c_name(walk, target)
    return [Definition(name, _c_function_kind(walk, name))]


def _cpp_members(walk: Walk, node: Node) -> None:
    """Walk the members of a class; for those that are not public it counts."""
    is_class = bool(walk.scopes) and walk.scopes[-1][1] == "class"
    section = b"private" if is_class else b"public"
    pending = [*reversed(node.children)]
    while pending:
        child = pending.pop()
        if child.type == "access_specifier":
            section = walk.source[child.start_byte : child.end_byte]
        elif child.type.startswith("preproc_"):
            pending += reversed(child.children)
        elif section != b"public":
            walk.outside[child.id] = (section,)
    walk.descend(node)


def _c_typedef(walk: Walk, node: Node) -> list[Definition]:
    target, _ = _c_declared(node)
    value = node.child_by_field_name("type")
    tag = walk.text(value.child_by_field_name("name")) if value is not None else ""
    body = value.child_by_field_name("body") if value is not None else None
    if target is None or (tag == walk.text(target) and body is not None):
        return []
    kind = "type" if value is None or body is None else value.type.removesuffix("_specifier")
    return [Definition(_dotted(walk.text(target)), "struct" if kind == "union" else kind, body)]


def _c_macro(walk: Walk, node: Node) -> list[Definition]:
    value = node.child_by_field_name("value")
    name = walk.text(node.child_by_field_name("name"))
    if node.type == "preproc_function_def":
        return [Definition(name, "macro", value)]
    return [] if value is None else [Definition(name, "constant")]


def directive(walk: Walk, node: Node) -> None:
    """Take "#  define" as "#define"."""
    walk.tokens.append(b"".join(walk.source[node.start_byte : node.end_byte].split()))


def _macro_body(walk: Walk, node: Node) -> None:
    """Take the raw text of a "#define", which the grammar leaves unread."""
    walk.tokens += (ARGUMENTS, *macro_tokens(walk.source, node.start_byte, node.end_byte), LINE)


def macro_tokens(source: bytes, start: int, end: int) -> Iterator[bytes]:
    """Yield the tokens of a macro that the parser did not read."""
    return (match[2] for match in _MACRO_TOKEN.finditer(source, start, end) if match[2])


_MACRO_TOKEN = re.compile(
    rb"(//[^\n]*|/\*.*?\*/|\\\n)|(\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[\w.\x80-\xff]+|##|\S)",
    re.DOTALL,
)
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


def _mask_macros(source: bytes) -> tuple[bytes, Macros]:
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


def _ruby_method(walk: Walk, node: Node) -> list[Definition]:
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
    return [Definition(name, kind, body or following)]


def _ruby_class(kind: str) -> Definer:
    def define(walk: Walk, node: Node) -> list[Definition]:
        name = node.child_by_field_name("name")
        last = node.child_by_field_name("superclass") or name
        body = node.child_by_field_name("body") or (last.next_sibling if last else None)
        return [Definition(_dotted(walk.text(name)), kind, body)]

    return define


def _ruby_assignment(walk: Walk, node: Node) -> list[Definition]:
    left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
    if left is None or left.type != "constant" or not _at_top(walk):
        return []
    made = re.match(r"(?:Class|Struct|Data)\.(?:new|define)\b", walk.text(right)[:20])
    return [Definition(walk.text(left), "class" if made else "constant")]


def _ruby_body(walk: Walk, node: Node) -> None:
    """Walk a body; methods below a bare `private` or `protected` are that."""
    section = ""
    for child in node.children:
        if child.type == "identifier" and walk.text(child) in _RUBY_ACCESS:
            section = walk.text(child)
        elif section not in ("", "public") and child.type in ("method", "call"):
            walk.outside[child.id] = (section.encode(),)
    walk.sequence(node)


_RUBY_ACCESS = ("public", "private", "protected", "module_function")


def _ruby_call(walk: Walk, node: Node) -> list[Definition]:
    method = node.child_by_field_name("method")
    if method is None or node.child_by_field_name("receiver") is not None or not walk.scopes:
        return []
    arguments = node.child_by_field_name("arguments")
    names = arguments.named_children if arguments is not None else []
    if walk.text(method) in _RUBY_ACCESS[1:]:  # "private def f"
        walk.outside.update((name.id, (walk.text(method).encode(),)) for name in names)
    if walk.text(method) not in ("attr_reader", "attr_writer", "attr_accessor"):
        return []
    symbols = [walk.text(name)[1:] for name in names if name.type == "simple_symbol"]
    return [Definition(name, "property") for name in symbols]


def _arguments(walk: Walk, node: Node) -> None:
    """Tell Ruby's `f [1]` from `f[1]`."""
    walk.tokens.append(ARGUMENTS)
    walk.descend(node)


def _php_method(walk: Walk, node: Node) -> list[Definition]:
    is_constructor = walk.text(node.child_by_field_name("name")).lower() == "__construct"
    return by_name(walk, node, "constructor" if is_constructor else "method")


def _php_constant(walk: Walk, node: Node) -> list[Definition]:
    return [Definition(walk.text(node.named_child(0)), "constant")]


_PYTHON_GROUPS = Groups(
    types=("parenthesized_expression",),
    before=frozenset(
        b"( [ { , = += -= *= /= //= %= @= &= |= ^= >>= <<= **= : ->"
        b" return assert raise from if elif else while yield with except".split()
    )
    | {STATEMENT, EACH},
    after=frozenset(b") ] } , : for as from".split()) | {STATEMENT, CLOSE},
    near=frozenset(
        b"+ - * / // % ** @ == != < > <= >= & | ^ ~ << >> :="
        b" in is not and or await del match".split()
    )
    | {b"not in", b"is not"},
    trailers=frozenset(b"( [ .".split()),
    atoms=frozenset(
        "identifier attribute call subscript string concatenated_string integer float true false"
        " none list dictionary set tuple ellipsis generator_expression list_comprehension"
        " dictionary_comprehension set_comprehension".split()
    ),
    kept=frozenset({"named_expression"}),
)
_JS_GROUPS = Groups(
    types=("parenthesized_expression",),
    before=frozenset(
        b"( [ { ${ , ? : => ... = += -= *= /= %= **= <<= >>= >>>= &= |= ^= &&= ||= ??="
        b" return throw case of".split()
    )
    | {STATEMENT},
    after=frozenset(b") ] } , : else".split()) | {STATEMENT},
    near=frozenset(
        b"+ - * / % ** == === != !== < > <= >= && || ?? & | ^ << >> >>> ! ~"
        b" typeof void delete await in instanceof".split()
    ),
    trailers=frozenset(b"( [ . ?. ! => = ++ --".split()),
    atoms=frozenset(
        "identifier member_expression subscript_expression call_expression number template_string"
        " array regex this true false null undefined jsx_element jsx_self_closing_element"
        " string".split()
    ),
    kept=frozenset({"sequence_expression"}),
    heads=frozenset(
        "object function_expression generator_function class string object_pattern".split()
    ),
    levels={
        operator: level
        for level, operators in enumerate(
            b"|| ; && ; | ; ^ ; & ; == != === !== ; instanceof ; << >> >>> ; + - ; * / %".split(
                b";"
            ),
            2,
        )
        for operator in operators.split()
    },
    parameters=("formal_parameters",),
)
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
    "number": _float(b""),
    "return_statement": _js_return,
    "yield_expression": _js_return,
}
_JS_COMMANDS = (
    rb"\A#!|///[ \t]*<(?:reference|amd-)"
    rb"|/\*\s*(?:webpack[A-Z]\w*\s*:|@vite-ignore\b|[#@]__[A-Z_]+__)"
    rb"|/[/*](?:.*?[\s*])?@(?:jsx(?:Frag|Runtime|ImportSource)?|(?:jest|vitest)-environment)\b"
)
_JS_STATEMENTS = tuple(
    "program statement_block class_body switch_case switch_default for_statement".split()
)
_JS_WRAPS = ("export_statement", "lexical_declaration", "variable_declaration")
_TYPESCRIPT = Grammar(
    "tree_sitter_typescript",
    {
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
    },
    function="language_typescript",
    comments=("comment", "html_comment", "hash_bang_line"),
    wraps=(*_JS_WRAPS, "ambient_declaration"),
    statements=(*_JS_STATEMENTS, "interface_body", "object_type"),
    lists=("interface_body", "object_type"),
    strings=("template_string", "template_literal_type", "regex"),
    quoted=("string",),
    closers=")]}>",
    dropped=(";",),
    groups=replace(_JS_GROUPS, types=("parenthesized_expression", "parenthesized_type")),
    special={
        **_JS_SPECIAL,
        "interface_body": _js_members,
        "property_signature": _ts_property,
        "union_type": _ts_union,
        "intersection_type": _ts_union,
    },
    generic=True,
    commands=_JS_COMMANDS,
)
_C = Grammar(
    "tree_sitter_c",
    {
        "function_definition": _c_function,
        "declaration": _c_declaration,
        "type_definition": _c_typedef,
        "struct_specifier": _with_body("struct"),
        "union_specifier": _with_body("struct"),
        "enum_specifier": _with_body("enum"),
        "preproc_def": _c_macro,
        "preproc_function_def": _c_macro,
    },
    strings=("string_literal", "char_literal", "system_lib_string"),
    closers="}",
    lines=("preproc_include", "preproc_call"),
    joined=("concatenated_string",),
    directives=tuple("#include #define #if #ifdef #ifndef #elif #else #endif".split()),
    special={"preproc_arg": _macro_body, "preproc_directive": directive},
    mask=_mask_macros,
)
GRAMMARS: dict[str, Grammar] = {
    "python": Grammar(
        "tree_sitter_python",
        {
            "class_definition": "class",
            "function_definition": _python_function,
            "assignment": _python_assignment,
            "type_alias_statement": _python_type,
        },
        comments=("comment", "line_continuation"),
        wraps=("decorated_definition",),
        statements=("module",),
        anonymous=("lambda",),
        strings=("format_specifier",),
        quoted=("string",),
        singles=("tuple", "subscript", "type_parameter"),
        dropped=(";",),
        blocks=("block",),
        joined=("concatenated_string",),
        groups=_PYTHON_GROUPS,
        special={
            "integer": _number,
            "float": _float(b".0"),
            "expression_list": _bare_tuple,
            "pattern_list": _bare_tuple,
            "tuple_pattern": _target,
            "import_from_statement": _bare,
            "with_clause": _bare,
            "for_statement": _python_for,
            "interpolation": _interpolation,
        },
        commands=rb"\A#!|(?P<more># /// script\b)|#[ \t]*(?:cython|distutils):"
        rb"|#[ \t]*(?:(?:-\*-|vim?:).*?|(?:file)?(?:en)?)coding[:=]",
    ),
    "javascript": Grammar(
        "tree_sitter_javascript",
        {**_JS_DEFINES, "field_definition": _js_field},
        comments=("comment", "html_comment", "hash_bang_line"),
        wraps=_JS_WRAPS,
        statements=_JS_STATEMENTS,
        strings=("template_string", "regex"),
        quoted=("string",),
        dropped=(";",),
        groups=_JS_GROUPS,
        special={**_JS_SPECIAL, "jsx_attribute": _jsx_attribute},
        commands=_JS_COMMANDS,
    ),
    "typescript": _TYPESCRIPT,
    "tsx": replace(
        _TYPESCRIPT,
        function="language_tsx",
        special={**_TYPESCRIPT.special, "jsx_attribute": _jsx_attribute},
    ),
    "go": Grammar(
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
        groups=Groups(
            types=("parenthesized_expression",),
            before=frozenset({b"if", b"for", b"switch"}),
            after=frozenset({b"{"}),
        ),
        special={
            "const_declaration": _go_constants,
            "import_spec": _go_import,
            "for_clause": _go_head,
            "if_statement": _go_head,
            "expression_switch_statement": _go_head,
            "type_switch_statement": _go_head,
            "int_literal": _number,
            "float_literal": _number,
            "imaginary_literal": _number,
        },
        commands=rb"//go:|//export\s|//[ \t]*\+build\b"
        rb"|(?P<more>(?<=[ \t])/[/*]\s*(?i:(?:unordered )?output:))",  # tested in examples
    ),
    "rust": Grammar(
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
        strings=("string_literal", "raw_string_literal", "char_literal"),
        closers=")]}>",
        singles=("tuple_expression", "tuple_type", "tuple_pattern"),
        special={
            "match_arm": _match_arm,
            "closure_expression": _rust_closure,
            "token_tree": _rust_tokens,
            "token_tree_pattern": _rust_tokens,
            "token_repetition": _rust_tokens,
            "token_repetition_pattern": _rust_tokens,
            "expression_statement": _rust_statement,
        },
        commands=rb"\A#!",
    ),
    "java": Grammar(
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
        sums=("binary_expression", "parenthesized_expression"),
        closers="}",
        generic=True,
    ),
    "c": _C,
    "cpp": replace(
        _C,
        package="tree_sitter_cpp",
        defines={
            **_C.defines,
            "class_specifier": _with_body("class"),
            "namespace_definition": "namespace",
            "alias_declaration": _top_named("type"),
            "concept_definition": "type",
            "field_declaration": _c_field,
        },
        wraps=("template_declaration",),
        anonymous=("lambda_expression",),
        strings=(*_C.strings, "raw_string_literal"),
        special={**_C.special, "field_declaration_list": _cpp_members},
        generic=True,
    ),
    "c_sharp": Grammar(
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
        sums=("binary_expression", "parenthesized_expression"),
        lines=("preproc_define", "preproc_undef", "preproc_pragma", "preproc_nullable"),
        special={"preproc_arg": _macro_body},
        generic=True,
    ),
    "ruby": Grammar(
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
        special={"argument_list": _arguments, "body_statement": _ruby_body},
        commands=rb"\A#!|(?i:#[ \t]*(?:-\*-.*?)?(?:(?:en)?coding|frozen[_-]string[_-]literal"
        rb"|shareable[_-]constant[_-]value|warn[_-]indent)[ \t]*[:=])",
    ),
    "php": Grammar(
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
        commands=rb"/\*\*.*?@(?:(?!SuppressWarnings\b)[A-Z]\w*+[(\\]"
        rb"|(?:dataProvider|depends|testWith|test|before|after|beforeClass|afterClass)\b)",
    ),
}


@dataclass(frozen=True, slots=True)
class Heading:
    """A line of prose that names what stands below it."""

    row: int
    body_row: int  # the first line below the heading
    level: int
    title: str


_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*\Z")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*\Z")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_NOT_A_TITLE = re.compile(r"\s*\Z| {4}|\t| {0,3}(?:[>|]|[-*+] |\d+[.)] )")
_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1{2,}[ \t]*\Z")


def _markdown_headings(lines: list[str]) -> list[Heading]:
    headings: list[Heading] = []
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
            headings.append(Heading(row, row + 1, len(atx[1]), atx[2].strip()))
        elif row > start and (line_below := _SETEXT.match(line)):
            above = lines[row - 1]
            if not _NOT_A_TITLE.match(above) and not _ATX.match(above):
                level = 1 if line_below[1][0] == "=" else 2
                headings.append(Heading(row - 1, row + 1, level, above.strip()))
    return headings


def _rst_headings(lines: list[str]) -> list[Heading]:
    headings: list[Heading] = []
    styles: list[tuple[str, bool]] = []  # in order of appearance: that is their level
    for row in range(1, len(lines)):
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
                headings.append(Heading(first, row + 1, level, title.strip()))
    return headings


HEADINGS = {"markdown": _markdown_headings, "rst": _rst_headings}
