from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratum.path_index import PathIndex
from stratum.question import Frame

PARTS = st.sampled_from(["a", "b", "shop", "cart", "__init__", "index", "mod", "", ".", "..", "C:"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
FILES = st.lists(st.tuples(PATHS, st.sampled_from([".py", ".rs", ""])).map("".join), max_size=8)


def index(*paths: str) -> PathIndex:
    return PathIndex(paths, lambda term: [term.rstrip("s")])


def named(paths: PathIndex, *texts: str) -> set[str]:
    return set(paths.named(texts, ()))


def module(paths: PathIndex, text: str) -> set[str]:
    return set(paths.named((), [text.split(".")]))


@given(FILES, st.lists(PATHS, max_size=4), st.lists(PATHS, max_size=4), st.integers(0, 9))
def test_whatever_is_asked_the_answer_is_among_the_paths(
    files: list[str], asked: list[str], framed: list[str], most: int
) -> None:
    paths = index(*files)
    chains = [text.split("/") for text in asked]
    worded = paths.worded(["carts", "shop", "a"], most)
    assert len(worded) <= most
    answers = [
        worded,
        paths.named(asked, chains),
        paths.framed([Frame(path, 1, "") for path in framed]),
    ]
    for answer in answers:
        assert answer.keys() <= set(files)
        assert all(score > 0 for score in answer.values())


@given(FILES)
def test_each_path_with_a_folder_is_found_when_it_is_written_out(files: list[str]) -> None:
    for path in dict.fromkeys(files):
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        alike = [other for other in files if other.rpartition("/")[2] == path.rpartition("/")[2]]
        if parts == path.split("/") and len(alike) == 1 and parts:
            assert path in index(*files).named([path], ())


def test_an_empty_index_finds_nothing() -> None:
    assert index().worded(["cart"], 10) == {}
    assert index().named(["shop/cart.py"], [("shop", "cart")]) == {}
    assert index().framed([Frame("shop/cart.py", 1, "")]) == {}


# words of the path


def test_a_path_is_found_by_its_words_and_a_rare_one_says_more() -> None:
    paths = index("shop/cart.py", "shop/tax.py", "shop/till.py", "web/tax_rate.py")
    found = paths.worded(["shops", "cart"], 10)
    assert max(found, key=lambda path: found[path]) == "shop/cart.py"
    assert found["shop/tax.py"] < found["shop/cart.py"]
    assert "web/tax_rate.py" not in found
    assert paths.worded(["rates"], 10).keys() == {"web/tax_rate.py"}


def test_a_long_path_counts_less_and_the_suffix_not_at_all() -> None:
    paths = index("cart.py", "a/b/c/d/cart.py", "x.py")
    found = paths.worded(["cart"], 10)
    assert found["cart.py"] > found["a/b/c/d/cart.py"] > 0
    assert paths.worded(["py"], 10) == {}


def test_a_file_without_suffix_in_a_folder_with_a_dot_keeps_its_name() -> None:
    paths = index("conf.d/Makefile", ".gitignore", "v1.2/cart.py")
    assert paths.worded(["makefile"], 10).keys() == {"conf.d/Makefile"}
    assert paths.worded(["gitignore"], 10).keys() == {".gitignore"}


def test_no_more_than_the_best_are_returned() -> None:
    paths = index(*(f"cart/{'x/' * deep}f{deep}.py" for deep in range(20)))
    found = paths.worded(["cart", "f7"], 3)
    assert len(found) == 3
    assert f"cart/{'x/' * 7}f7.py" in found
    assert paths.worded(["cart"], 0) == {}


# paths that are said


@pytest.mark.parametrize(
    "text", ["shop/cart.py", "home/ada/src/shop/cart.py", "./shop//cart.py", "../shop/cart.py"]
)
def test_the_end_of_a_path_is_enough(text: str) -> None:
    assert named(index("src/shop/cart.py", "web/cart.py"), text) == {"src/shop/cart.py"}


def test_the_longest_end_in_common_wins() -> None:
    paths = index("a/shop/cart.py", "b/shop/cart.py", "shop/other.py")
    assert named(paths, "b/shop/cart.py") == {"b/shop/cart.py"}
    assert named(paths, "shop/cart.py") == {"a/shop/cart.py", "b/shop/cart.py"}


def test_a_name_without_its_folder_means_nothing() -> None:
    assert named(index("shop/cart.py", "web/cart.py"), "cart.py") == set()
    assert named(index("shop/cart.py"), "cart.py") == set()
    assert named(index("shop/cart.py"), "web/cart.py") == set()


def test_a_file_at_the_root_is_meant_by_its_name_alone() -> None:
    assert named(index("cart.py", "shop/cart.py"), "cart.py") == {"cart.py"}
    assert named(index("cart.py"), "./cart.py") == {"cart.py"}


def test_an_end_that_many_paths_share_means_none_of_them() -> None:
    paths = index(*(f"{folder}/shop/__init__.py" for folder in "abcd"))
    assert named(paths, "shop/__init__.py") == set()
    assert named(paths, "c/shop/__init__.py") == {"c/shop/__init__.py"}


@pytest.mark.parametrize("text", ["", "/", ".", "./..", "../"])
def test_what_is_no_path_is_no_trouble(text: str) -> None:
    assert named(index("shop/cart.py", ""), text) == set()
    assert index("shop/cart.py").framed([Frame(text, 1, "")]) == {}


# modules that are said


def test_a_module_is_found_by_the_longest_beginning_of_a_chain() -> None:
    paths = index("shop/cart.py", "shop/__init__.py", "src/shop/db/models.py")
    assert module(paths, "shop.cart") == {"shop/cart.py"}
    assert module(paths, "shop.cart.Cart.total") == {"shop/cart.py"}
    assert module(paths, "shop.db.models.Row") == {"src/shop/db/models.py"}
    assert module(paths, "cart.total") == set()
    assert module(paths, "cart") == set()


@pytest.mark.parametrize("name", ["__init__.py", "index.ts", "mod.rs", "lib.rs", "main.go"])
def test_a_module_in_a_file_of_no_name_is_called_by_its_folder(name: str) -> None:
    paths = index(f"src/shop/cart/{name}", name)
    assert module(paths, "shop.cart") == {f"src/shop/cart/{name}"}
    assert module(paths, "shop.cart.Cart") == {f"src/shop/cart/{name}"}


def test_a_module_that_many_files_could_be_is_none() -> None:
    paths = index(*(f"{folder}/shop/cart.py" for folder in "abcd"))
    assert module(paths, "shop.cart.total") == set()
    assert module(paths, "b.shop.cart.total") == {"b/shop/cart.py"}


# frames


def test_the_last_frame_counts_most_and_a_file_by_its_last() -> None:
    paths = index("shop/cart.py", "shop/cli.py", "shop/tax.py")
    run = ["/srv/shop/cart.py", "/srv/shop/cli.py", "/srv/shop/cart.py", "/usr/lib/json.py"]
    found = paths.framed([Frame(path, 1, "") for path in run])
    assert found == pytest.approx({"shop/cart.py": 0.7, "shop/cli.py": 0.49})
    assert paths.framed([Frame("/srv/shop/tax.py", 9, "")]) == {"shop/tax.py": 1.0}


def test_no_frames_and_frames_from_elsewhere_find_nothing() -> None:
    paths = index("shop/cart.py")
    assert paths.framed([]) == {}
    assert paths.framed([Frame("<string>", 1, ""), Frame("/usr/lib/cart.py", 1, "")]) == {}
