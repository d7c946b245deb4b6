"""The tools over a tree: what they answer, where they stop, and that nothing outside is read."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stratum_bench import agent_tools
from stratum_bench.agent import ToolCall
from stratum_bench.agent_tools import (
    MOST_ENTRIES,
    MOST_LINES,
    MOST_MATCHES,
    MOST_SUBMITTED,
    TOOLS,
    Toolbox,
    Tree,
    required,
)

from tests.conftest import SAMPLE, git, make_repository

SECRET = "the outside of the tree"
ODD = "one\x0c\ntwo\u2028still two\nthree\x85\x1c\x0b\r\n\r\nfive\rstill five\n\n\nlast = 8"


def box(root: Path, files: dict[str, str]) -> Toolbox:
    root.mkdir(exist_ok=True)
    return Toolbox(Tree(make_repository(root, files)))


def ask(tools: Toolbox, name: str, **arguments: Any) -> str:
    return tools.call(ToolCall("c1", name, arguments))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Toolbox:
    return box(tmp_path_factory.mktemp("tree") / "shop", SAMPLE)


# what they answer


def test_a_folder_is_listed_with_its_folders_marked(shop: Toolbox) -> None:
    assert ask(shop, "list_dir").split("\n") == ["shop/", "tests/", "web/"]
    for path in ("shop", "shop/", "./shop", "/shop", " shop ", "shop\\"):
        assert ask(shop, "list_dir", path=path) == "cart.py\nsession.py"
    assert ask(shop, "list_dir", path=".") == ask(shop, "list_dir", path="")


def test_grep_gives_paths_lines_and_a_count(shop: Toolbox) -> None:
    assert ask(shop, "grep", pattern=r"def \w*expire").split("\n") == [
        "shop/cart.py:19: def expire_old_carts(carts, now):",
        "shop/session.py:8: def delete_expired(self, now):",
        "(2 lines in 2 files)",
    ]
    assert ask(shop, "grep", pattern="expire_old", path="./shop/cart.py").endswith(
        "(1 lines in 1 files)"
    )
    assert ask(shop, "grep", pattern="expire_old", path="shop/session.py") == "No matches."
    assert ask(shop, "grep", pattern="EXPIRE_OLD") == "No matches."
    assert "shop/cart.py:19:" in ask(shop, "grep", pattern="(?i)EXPIRE_OLD")


def test_a_folder_is_not_taken_for_one_that_begins_like_it(tmp_path: Path) -> None:
    tools = box(tmp_path / "r", {"app/a.py": "x = 1\n", "application/b.py": "x = 1\n"})
    assert ask(tools, "grep", pattern="x", path="app") == "app/a.py:1: x = 1\n(1 lines in 1 files)"
    assert ask(tools, "list_dir", path="app") == "a.py"


def test_lines_are_read_with_their_numbers(shop: Toolbox) -> None:
    assert ask(shop, "read_file", path="shop/session.py", start_line=4, end_line=5) == (
        "4\tclass SessionStore:\n5\t    def load(self, key):\n(lines 4-5 of 10 of shop/session.py)"
    )
    # what a model may well send for a number
    for start, end in (("4", "5"), (4.0, 5.9), (4, "5")):
        said = ask(shop, "read_file", path="shop/session.py", start_line=start, end_line=end)
        assert said.endswith("(lines 4-5 of 10 of shop/session.py)")
    whole = ask(shop, "read_file", path="shop/session.py", start_line=-7, end_line=10**30)
    assert whole.endswith("(lines 1-10 of 10 of shop/session.py)")


def test_grep_read_and_the_file_agree_on_every_line(tmp_path: Path) -> None:
    tools = box(tmp_path / "r", {"odd.py": ODD})
    lines = ODD.split("\n")
    read = ask(tools, "read_file", path="odd.py")
    assert read == "\n".join(
        [f"{n}\t{line.removesuffix(chr(13))}" for n, line in enumerate(lines, 1)]
        + [f"(lines 1-{len(lines)} of {len(lines)} of odd.py)"]
    )
    for word, number in (("two", 2), ("three", 3), ("five", 5), ("last", 8)):
        found = ask(tools, "grep", pattern=rf"^{word}").split("\n")
        assert len(found) == 2
        assert found[0].startswith(f"odd.py:{number}: {word}")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["a", "needle", "\n", "\r\n", "\x0c", "\u2028", "\r", " "])))
def test_what_grep_finds_in_a_line_read_shows_there(tmp_path: Path, parts: list[str]) -> None:
    root = tmp_path / "r"
    if not root.exists():
        box(root, {"a.py": "x\n"})
    (root / "a.py").write_bytes("".join(parts).encode())
    tools = Toolbox(Tree(root))
    for line in ask(tools, "grep", pattern="needle").split("\n")[:-1]:
        number = int(line.split(":")[1])
        read = ask(tools, "read_file", path="a.py", start_line=number, end_line=number)
        assert "needle" in read.rpartition("\n(lines ")[0]


def test_a_match_is_within_one_line_as_in_grep(tmp_path: Path) -> None:
    text = "x = 1\n\n\n    def a():\n        b(\n            c)\n    def a(): b(c)\n"
    tools = box(tmp_path / "r", {"a.py": text})
    assert ask(tools, "grep", pattern=r"b\(\s*c\)") == "a.py:7: def a(): b(c)\n(1 lines in 1 files)"
    assert ask(tools, "grep", pattern=r"^\s*def a").startswith("a.py:4: def a():\na.py:7: def a()")
    assert ask(tools, "grep", pattern=r"def|a") == (
        "a.py:4: def a():\na.py:7: def a(): b(c)\n(2 lines in 1 files)"
    )


def test_there_is_no_line_behind_the_last(tmp_path: Path) -> None:
    tools = box(tmp_path / "r", {"a.py": "x\ny\n", "b.py": "x\ny", "c.py": ""})
    assert ask(tools, "grep", pattern="$").endswith("(4 lines in 2 files)")
    assert ask(tools, "read_file", path="c.py") == "Error: c.py has 0 lines."
    assert ask(tools, "read_file", path="a.py", start_line=3) == "Error: a.py has 2 lines."


def test_the_file_that_is_searched_is_the_one_that_stands_there(tmp_path: Path) -> None:
    root = make_repository(tmp_path, {"a.py": "first\n", "b.py": "x\n", "c.bin": "first\n"})
    (root / "a.py").write_text("second\n")
    (root / "b.py").unlink()
    (root / "new.py").write_text("untracked\n")
    tree = Tree(root)
    assert tree.files == ("a.py",)
    tools = Toolbox(tree)
    assert ask(tools, "grep", pattern="first|untracked") == "No matches."
    assert ask(tools, "grep", pattern="second").startswith("a.py:1: second")


def test_what_is_submitted_is_named_as_the_repository_names_it(shop: Toolbox) -> None:
    files = ["./shop/cart.py", "shop/cart.py", "", 7, None, "/web/render.js", "gone.py", "d.py"]
    call = ToolCall("c", "submit", {"files": files})
    assert shop.call(call) == "Submitted."
    assert shop.submitted(call) == ("shop/cart.py", "web/render.js", "gone.py")
    assert shop.submitted(ToolCall("c", "submit", {"files": "shop/cart.py"})) == ("shop/cart.py",)
    for nothing in ([], "", None, 5, True, {"shop/cart.py": 1}, [[]], [None]):
        assert ask(shop, "submit", files=nothing) == "Error: name at least one file."


# where they stop


def test_every_answer_has_its_most(tmp_path: Path) -> None:
    files = {f"m{n:03}.py": "needle\n" for n in range(MOST_ENTRIES + 1)}
    long = "needle " + "y" * 5000
    files["z.py"] = "\n".join(["x"] * MOST_LINES + [long])
    tools = box(tmp_path / "r", files)
    listed = ask(tools, "list_dir").split("\n")
    assert listed[-1] == "(2 more)"
    assert len(listed) == MOST_ENTRIES + 1
    found = ask(tools, "grep", pattern="needle").split("\n")
    assert len(found) == MOST_MATCHES + 1
    assert found[-1] == (
        f"({MOST_ENTRIES + 2} lines in {MOST_ENTRIES + 2} files, the first {MOST_MATCHES} shown)"
    )
    cut = ask(tools, "grep", pattern="needle", path="z.py").split("\n")[0]
    assert cut == f"z.py:{MOST_LINES + 1}: {long[:200]}"
    read = ask(tools, "read_file", path="z.py")
    assert read.count("\n") == MOST_LINES
    assert read.endswith(f"(lines 1-{MOST_LINES} of {MOST_LINES + 1} of z.py)")
    rest = ask(tools, "read_file", path="z.py", start_line=MOST_LINES + 1)
    assert rest.endswith(f"(lines {MOST_LINES + 1}-{MOST_LINES + 1} of {MOST_LINES + 1} of z.py)")
    many = ToolCall("c", "submit", {"files": list(files)})
    assert tools.submitted(many) == ("m000.py", "m001.py", "m002.py")
    assert MOST_SUBMITTED == 3


def test_exactly_as_many_as_may_be_are_not_called_too_many(tmp_path: Path) -> None:
    files = {f"p/m{n:03}.py": "x\n" for n in range(MOST_ENTRIES)}
    tools = box(tmp_path / "r", files | {"a.py": "needle\n" * MOST_MATCHES})
    assert ask(tools, "list_dir", path="p").count("\n") == MOST_ENTRIES - 1
    assert ask(tools, "grep", pattern="needle").endswith(f"({MOST_MATCHES} lines in 1 files)")


def test_a_file_that_is_too_large_for_code_is_left_out(tmp_path: Path) -> None:
    files = {"fits.py": "x" * (1 << 20), "over.py": "x" * ((1 << 20) + 1)}
    assert Tree(make_repository(tmp_path, files)).files == ("fits.py",)


@pytest.mark.parametrize(
    "pattern", ["(", "[a", "*", "a{2,1}", "\\", "(?P<n", "x" * 301, "(?<=a*)b"]
)
def test_a_bad_pattern_is_told(shop: Toolbox, pattern: str) -> None:
    said = ask(shop, "grep", pattern=pattern)
    assert said.startswith(("Error: this is no regular expression: ", "Error: the pattern is long"))
    assert len(said) < 300


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|aa)+$", r"(?s)(.*)*=", r"(\w*\w*)*-"])
def test_a_pattern_that_would_run_for_ever_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    monkeypatch.setattr(agent_tools, "_LONGEST_GREP", 0.2)
    tools = box(tmp_path / "r", {"a.py": "a" * 60 + "!\n", "b.py": "def a():\n    return 1\n"})
    began = time.process_time()
    said = ask(tools, "grep", pattern=pattern)
    assert time.process_time() - began < 5.0
    assert said.startswith("Error: the pattern takes too long")
    # and the next one is answered as if nothing had been
    assert ask(tools, "grep", pattern="def a") == "b.py:1: def a():\n(1 lines in 1 files)"
    end = time.process_time() + 0.4
    while time.process_time() < end:
        pass  # a clock that still ran would strike here


# outside of the tree


@pytest.fixture
def fenced(tmp_path: Path) -> Toolbox:
    """A tree with links to what is outside, which git knows of as it stands in the commit."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "secret.py").write_text(f"# {SECRET}\n")
    root = tmp_path / "r"
    root.mkdir()
    (root / "link.py").symlink_to(tmp_path / "out" / "secret.py")
    make_repository(root, {"pkg/secret.py": "x = 1\n", "a.py": "x = 1\n"})
    assert "link.py" in git(root, "ls-files")
    (root / "pkg" / "secret.py").unlink()
    (root / "pkg").rmdir()
    (root / "pkg").symlink_to(tmp_path / "out")
    return Toolbox(Tree(root))


@pytest.mark.parametrize(
    "path",
    ["../out/secret.py", "../../etc/passwd", "/etc/passwd", "link.py", "pkg/secret.py", "pkg",
     "..", "a.py/../../out/secret.py", "..\\out\\secret.py", "~", "pkg/../a.py", "\0", "a.py\0"],
)  # fmt: skip
def test_nothing_outside_of_the_tree_is_read(fenced: Toolbox, path: str) -> None:
    for name, others in (
        ("read_file", {}),
        ("list_dir", {}),
        ("grep", {"pattern": "outside|root"}),
    ):
        said = ask(fenced, name, path=path, **others)
        assert said.startswith("Error: there is no ")
        assert SECRET not in said
        assert "root:" not in said


def test_a_grep_of_everything_stays_inside(fenced: Toolbox) -> None:
    assert ask(fenced, "list_dir") == "a.py"
    assert ask(fenced, "grep", pattern=".") == "a.py:1: x = 1\n(1 lines in 1 files)"


def test_a_name_that_cannot_be_shown_is_left_out(tmp_path: Path) -> None:
    make_repository(tmp_path, {"a.py": "x\n", "ü.py": "x\n", "two\nlines.py": "x\n"})
    (tmp_path / "b\udcff.py").write_text("x\n")
    git(tmp_path, "add", "-A")
    assert Tree(tmp_path).files == ("a.py", "ü.py")


# whatever a model sends


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.just(10**400),
        st.floats(),
        st.text(st.characters(), max_size=30),
        st.sampled_from(["shop/cart.py", "shop", "(a", "\ud83d", "-0", "9" * 5000, "x" * 10_000]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
NAMES = ["path", "pattern", "start_line", "end_line", "files", "more"]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([*(tool.name for tool in TOOLS), "rm", ""]),
    st.dictionaries(st.sampled_from(NAMES), JSON),
    st.booleans(),
)
@example("submit", {"files": 5}, False)
@example("grep", {"pattern": "[[a]"}, False)
@example("grep", {"pattern": "(" * 149 + ")" * 149}, False)
@example("read_file", {"path": "shop/cart.py", "start_line": float("nan")}, False)
@example("read_file", {"path": "shop/cart.py", "end_line": float("inf")}, False)
@example("read_file", {"path": "\ud800"}, False)
def test_whatever_is_sent_a_text_comes_back(
    shop: Toolbox, name: str, arguments: dict[str, Any], pathed: bool
) -> None:
    if pathed:
        arguments = arguments | {"path": "shop/cart.py"}
    said = ask(shop, name, **arguments)
    assert said
    assert said.encode()  # it can be sent
    assert len(said) < 60_000


@pytest.mark.parametrize("value", [None, 5, True, ["shop/cart.py"], {}, ""])
def test_a_path_that_is_no_text_is_told(shop: Toolbox, value: object) -> None:
    assert ask(shop, "read_file", path=value) == "Error: path must be a text."
    assert ask(shop, "grep", pattern=value) == "Error: pattern must be a text."


@pytest.mark.parametrize("value", [True, [], {}, "four", "", float("nan"), float("-inf"), "1e3"])
def test_a_line_that_is_no_number_is_told(shop: Toolbox, value: object) -> None:
    for name in ("start_line", "end_line"):
        said = ask(shop, "read_file", path="shop/cart.py", **{name: value})
        assert said == f"Error: {name} must be a number."


def test_other_mistakes_are_told(shop: Toolbox) -> None:
    assert ask(shop, "rm", path="/") == "Error: there is no tool 'rm'."
    assert shop.call(ToolCall("c", "grep", {"pattern": "x"}, "bad JSON.")) == "Error: bad JSON."
    assert ask(shop, "read_file", path="shop/gone.py").startswith("Error: there is no source file")
    # an empty answer would say that the folder was searched
    for name, others in (("grep", {"pattern": "x"}), ("list_dir", {})):
        assert ask(shop, name, path="shop/gone", **others).startswith("Error: there is no ")
    back = ask(shop, "read_file", path="shop/cart.py", start_line=9, end_line=3)
    assert back == "Error: end_line is before start_line."


# the files that need not be searched


WORDS = st.sampled_from(["cart", "Cart", "a", "now", "_", "9", "x", " "])
ATOMS = st.one_of(
    WORDS,
    st.sampled_from([".", r"\b", r"\w", r"\.", r"\\", r"\(", "[ab]", "[^a]", "[]a]", r"[\]a]", "{",
                     r"\x61", r"\d", "^", "$", "é"]),
)  # fmt: skip
PATTERNS = st.builds(
    "".join,
    st.lists(
        st.builds(
            lambda atom, wrap, times: (f"({atom})" if wrap else atom) + times,
            st.lists(ATOMS, min_size=1, max_size=3).map("".join)
            | st.lists(WORDS, min_size=2, max_size=3).map("|".join),
            st.booleans(),
            st.sampled_from(["", "", "", "?", "*", "+", "{0,2}", "{2}", "{,1}", "??", "*?"]),
        ),
        min_size=1,
        max_size=3,
    ),
)


@settings(max_examples=500)
@given(PATTERNS, st.booleans(), st.lists(ATOMS, max_size=6).map("".join))
@example("cart{0,1}x", False, "carx")
@example(r"(cart)?x", False, "x")
def test_what_a_match_is_said_to_hold_it_holds(pattern: str, fold: bool, text: str) -> None:
    try:
        compiled = re.compile(("(?i)" if fold else "") + pattern, re.MULTILINE)
    except re.error:
        return
    if compiled.search(text):
        assert required(compiled.pattern) in text.lower()


def test_a_plain_word_is_required() -> None:
    assert required(r"(?i)\bCart") == "cart"
    assert required(r"def\s+expire_old\b") == "expire_old"
    assert required(r"cart|basket") == ""
    assert required(r"\b(?:class|def)\b.*\bexpire\b") == "expire"
    assert required(r"(cart)?(?=x)") == ""
