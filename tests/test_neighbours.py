from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from stratum.config import Settings, load
from stratum.files import Files
from stratum.memory import Memory
from stratum.models import Hit, Near
from stratum.neighbours import neighbours
from stratum.store import open_store
from tests.conftest import make_repository

SOURCES = {
    "shop/cart.py": '''"""Carts."""

from shop import stock
from shop.money import Money, rounded


class Cart:
    """Items on their way to the till."""

    def __init__(self, owner):
        self.owner = owner

    def total(self):
        """Sum up, see refund(); never call refund("x")."""
        parts = [self.price(item) for item in self.items]
        self.items.append(None)  # refund(self)
        text = "refund(self)"
        stock.reserve(self)
        return rounded(Money(sum(parts)))

    def price(self, item):
        return item.get("price")


def empty_cart(owner):
    return Cart(owner)


def report(carts):
    def line(cart):
        return cart.total()

    return [line(cart) for cart in carts]
''',
    "shop/money.py": """class Money:
    def __init__(self, amount):
        self.amount = amount

    def append(self, other):
        return Money(self.amount + other)


def rounded(money):
    return money


def refund(cart):
    return cart
""",
    "shop/stock.py": "def reserve(cart):\n    return cart\n",
    "shop/other.py": "def reserve(cart):\n    return cart\n",
    "tests/test_cart.py": "def test_total():\n    assert Cart('me').total() == rounded(0)\n",
    "web/page.js": """import { drawCart } from "./draw.js";

// drawLater(cart) comes later
export function drawPage(cart) {
  if (cart) {
    return drawCart(cart) + `${drawLater(cart)}`;
  }
}
""",
    "web/draw.js": """export function drawCart(cart) {
  return cart.name;
}

export function drawLater(cart) {
  return cart;
}
""",
    "lib/page.rs": """use crate::draw::paint;

/// Paints with a 'static name.
pub fn page<'a>(name: &'a str, other: &'a str) -> u32 {
    let letter = '(';
    paint::<u32>(name) + shout!(other)
}
""",
    "lib/draw.rs": """pub fn paint<T>(name: &str) -> u32 {
    1
}

macro_rules! shout {
    ($x:expr) => { 1 };
}
""",
    "cmd/run.go": """package cmd

func Run(name string) error {
	return load(name)
}
""",
    "cmd/load.go": "package cmd\n\nfunc load(name string) error {\n\treturn nil\n}\n",
    "api/load.go": "package api\n\nfunc load(name string) error {\n\treturn nil\n}\n",
}
LINES = {
    "Cart": ("shop/cart.py", 7, 22),
    "Cart.total": ("shop/cart.py", 13, 19),
    "drawPage": ("web/page.js", 4, 8),
    "page": ("lib/page.rs", 4, 7),
    "Run": ("cmd/run.go", 3, 5),
}


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path]:
    """A repository in several languages, indexed."""
    folder = tmp_path_factory.mktemp("neighbours")
    root = folder / "shop"
    root.mkdir()
    make_repository(root, SOURCES)
    settings = load({"STRATUM_HOME": str(folder / "home"), "STRATUM_EMBED_MODEL": "none"})
    with Memory(settings, root) as memory:
        memory.index()
    return settings, root


def hit(name: str, kind: str = "function") -> Hit:
    path, start, end = LINES[name]
    return Hit("aaaaaaaaaaaa", "code", kind, name, "", path, start, end, 1.0)


def near(
    indexed: tuple[Settings, Path], *hits: Hit, files: Files | None = None
) -> Mapping[tuple[str, int], tuple[Near, ...]]:
    settings, root = indexed
    store = open_store(settings.database)
    worktree = store.worktree(str(root))
    assert worktree is not None
    try:
        files = files or Files(root, settings.max_file_bytes, lambda *_: None)
        return neighbours(store, worktree, files, hits)
    finally:
        store.close()


def shown(found: Mapping[tuple[str, int], tuple[Near, ...]], name: str) -> list[str]:
    path, start, _ = LINES[name]
    return [
        f"{one.relation} {one.path}:{one.start_line}-{one.end_line} {one.symbol}"
        for one in found.get((path, start), ())
    ]


def test_a_method_has_what_it_calls_and_the_innermost_that_calls_it(
    indexed: tuple[Settings, Path],
) -> None:
    """No call in a string or a comment, no list's append, the imported one of two namesakes."""
    assert shown(near(indexed, hit("Cart.total", "method")), "Cart.total") == [
        "calls shop/cart.py:21-22 Cart.price",
        "calls shop/stock.py:1-2 reserve",
        "calls shop/money.py:9-10 rounded",
        "called by shop/cart.py:30-31 report.line",
    ]


def test_what_makes_an_object_calls_its_class(indexed: tuple[Settings, Path]) -> None:
    found = shown(near(indexed, hit("Cart", "class")), "Cart")
    assert "called by shop/cart.py:25-26 empty_cart" in found
    assert not any("test" in line for line in found)


def test_no_place_is_its_own_neighbour(indexed: tuple[Settings, Path]) -> None:
    found = near(indexed, hit("Cart", "class"))
    assert shown(found, "Cart") != []
    assert not any(
        one.path == "shop/cart.py" and 7 <= one.start_line <= 22
        for some in found.values()
        for one in some
    )


def test_other_languages_say_what_they_call(indexed: tuple[Settings, Path]) -> None:
    found = near(indexed, hit("drawPage"), hit("page"), hit("Run"))
    assert shown(found, "drawPage") == ["calls web/draw.js:1-3 drawCart"]
    assert shown(found, "page") == [
        "calls lib/draw.rs:1-3 paint",
        "calls lib/draw.rs:5-7 shout",
    ]
    assert shown(found, "Run") == ["calls cmd/load.go:3-5 load"]  # a Go folder is one package


def test_only_the_best_place_of_the_first_files_is_looked_at(
    indexed: tuple[Settings, Path],
) -> None:
    hits = [hit("drawPage"), hit("Cart.total", "method"), hit("Cart", "class"), hit("page")]
    assert set(near(indexed, *hits, hit("Run"))) == {
        ("web/page.js", 4), ("shop/cart.py", 13), ("lib/page.rs", 4),
    }  # fmt: skip


def test_tests_prose_files_notes_and_commits_have_no_neighbours(
    indexed: tuple[Settings, Path],
) -> None:
    hits = [
        Hit("a", "code", "function", "test_total", "", "tests/test_cart.py", 1, 2, 1.0),
        Hit("a", "code", "section", "Cart", "", "README.md", 1, 2, 1.0),
        Hit("a", "code", "file", "shop/cart.py", "", "shop/cart.py", 1, 30, 1.0),
        Hit("a", "notes", "fact", "Cart", "", "shop/cart.py", 7, 22, 1.0),
        Hit("a", "history", "commit", "Cart", "", None, None, None, 1.0),
    ]
    assert near(indexed, *hits) == {}


def test_a_file_that_vanished_has_no_neighbours(
    indexed: tuple[Settings, Path], tmp_path: Path
) -> None:
    """Nothing is said from the index alone: what stands in the file now decides."""
    gone = Files(tmp_path, 1 << 20, lambda *_: None)
    assert near(indexed, hit("Cart.total", "method"), hit("drawPage"), files=gone) == {}


def test_a_call_in_which_nothing_is_certain_is_left_out(tmp_path: Path) -> None:
    sources = {
        "a.py": "from b import *\n\n\ndef go(x):\n    x.work_it()\n    x.lift()\n    Huge(x)\n",
        "b.py": "class A:\n    def work_it(self):\n        pass\n\n\nclass B:\n"
        "    def work_it(self):\n        pass\n\n    def lift(self):\n        pass\n\n\n"
        "class Huge:\n" + "    x = 1\n" * 300,
    }  # fmt: skip
    root = make_repository(tmp_path / "root", sources)
    settings = load({"STRATUM_HOME": str(tmp_path / "home"), "STRATUM_EMBED_MODEL": "none"})
    with Memory(settings, root) as memory:
        memory.index()
    place = Hit("aaaaaaaaaaaa", "code", "function", "go", "", "a.py", 4, 7, 1.0)
    assert near((settings, root), place) == {
        ("a.py", 4): (Near("calls", "b.py", "B.lift", 10, 11),)
    }


def test_neighbours_are_found_in_no_time(indexed: tuple[Settings, Path]) -> None:
    times = []
    for _ in range(5):
        begun = time.process_time()
        near(indexed, hit("Cart.total", "method"), hit("drawPage"), hit("page"))
        times.append(time.process_time() - begun)
    assert min(times) < 0.1  # mostly the opening of the store
