from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratum.question import Frame, Question, read_question, weighed
from stratum.terms import STOP_WORDS

# Pieces that the patterns look for, so that random texts meet them in every order.
PIECES = st.sampled_from(
    [
        *(
            "```",
            "```py\n",
            "~~~",
            "<!--",
            "-->",
            "\n",
            "\r\n",
            "\n\n",
            " ",
            "    ",
            "\t",
            "`",
            '"',
        ),
        *(">>> ", "... ", "In [1]: ", "$ ", "at ", "async ", "(", ")", ":12", ", line 7", ", in f"),
        *('File "', "a/b.py", "C:\\a\\b.py", "../", "./", ".go:3", "Cart", "addItem", "the", "why"),
        *(
            "a.b.C.d",
            "crate::a::b",
            "größe",
            "名前",
            "9" * 5000,
            "\u0660",
            "\x00",
            "<li>",
            "@",
            "-",
        ),
    ]
)
TEXTS = st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=40).map("".join))
IDENTIFIERS = st.from_regex(r"[a-z]{2,8}_[a-z]{2,8}", fullmatch=True)


# every text


@given(TEXTS)
def test_any_text_is_read_and_what_is_found_is_in_it(text: str) -> None:
    found = read_question(text)
    assert found == read_question(text)
    assert all(weight >= 1.0 for weight in (*found.terms.values(), *found.title_terms.values()))
    assert all(name in text for name in found.names)
    assert all(len(chain) > 1 and all(chain) for chain in found.dotted)
    assert all("\\" not in path for path in (*found.paths, *(f.path for f in found.frames)))
    assert "\n" not in found.title


@given(TEXTS)
def test_stop_words_count_only_where_nothing_else_is_left(text: str) -> None:
    found = weighed(text)
    assert found.keys().isdisjoint(STOP_WORDS) or found.keys() <= STOP_WORDS


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_an_empty_text_names_nothing(text: str) -> None:
    none = frozenset[str]()
    assert read_question(text) == Question("", {}, {}, (), (), none, ())


def test_a_text_that_is_nothing_but_a_comment_is_taken_as_said() -> None:
    assert "fill" in read_question("<!-- fill this in -->").terms


def test_a_term_weighs_more_the_oftener_it_occurs_but_not_by_much() -> None:
    found = weighed("the cart and a Cart, cart; session")
    assert found == pytest.approx({"cart": 1 + math.log(3), "session": 1.0})
    assert weighed("to be or not to be").keys() == {"to", "be", "or", "not"}


@pytest.mark.timeout(60)  # each takes milliseconds; a pattern that is quadratic takes minutes
@pytest.mark.parametrize(
    "piece",
    [
        *(
            "<!--",
            "\n",
            " \n",
            "\n ",
            "a",
            ".",
            "a.",
            ".a",
            "a/",
            "a_",
            "aB",
            "```",
            "`",
            "`a",
            "~",
        ),
        *(
            "at ",
            "at a.a:",
            'File "',
            "name::",
            "名",
            ">>> \n",
            "\n\t",
            "[as ",
            "1",
            "\\",
            "w/a.py ",
        ),
    ],
)
def test_no_text_of_the_longest_query_takes_long(piece: str) -> None:
    for start in ("x\n", "at ", "x\nat ", 'File "a.py", line '):
        text = (start + piece * 32_000)[:32_000] + "y"
        assert read_question(text).title


# titles


def test_the_title_is_the_first_line() -> None:
    found = read_question("\n  Cart loses `tax_rate`\r\n\r\nThe session does not.")
    assert found.title == "Cart loses `tax_rate`"
    assert found.title_terms.keys() == {"cart", "loses", "tax_rate", "tax", "rate"}
    assert "session" in found.terms
    assert found.names == {"tax_rate"}


def test_a_text_of_one_long_line_has_its_beginning_as_title() -> None:
    found = read_question("cart " * 60 + "lastWord " * 10)
    assert found.title == "cart " * 60
    assert found.names == {"lastWord"}


def test_comments_of_an_issue_template_are_no_part_of_the_text() -> None:
    found = read_question("<!-- Read docs/contribute.py\nfirst -->\nCart <!-- or --> fails")
    assert found.title.split() == ["Cart"]
    assert found.terms.keys() == {"cart", "fails"}
    assert found.paths == ()
    assert "unclosed" in read_question("Cart fails <!-- unclosed").terms


def test_a_text_that_opens_with_pasted_code_is_called_by_what_is_said_behind_it() -> None:
    found = read_question("```py\ncart.addItem(3)\n```\nThe total is wrong\nsince today")
    assert found.title == "The total is wrong"
    assert found.names == frozenset()
    alone = read_question("```py\ncart.addItem(3)\n```")
    assert alone.title == "cart.addItem(3)"
    assert alone.names == {"addItem"}


# names


@given(IDENTIFIERS)
def test_a_name_is_told_from_prose_wherever_it_is_said(name: str) -> None:
    assert name in read_question(f"Why does {name} fail").names
    assert name in read_question(f"It fails\n\nSee {name}.").names
    for pasted in (f"```\n{name}()\n```", f"~~~\n{name}", f">>> {name}()", f"    {name}()"):
        assert name not in read_question(f"It fails\n\n{pasted}\n\nand stops").names


@pytest.mark.parametrize(
    "word", ["addItem", "add_item", "HTTPError", "MAX_SIZE", "utf8", "`session`", "largestRowId"]
)
def test_the_shape_or_quotes_make_a_word_a_name(word: str) -> None:
    assert read_question(f"It fails\nwith {word} in it").names == {word.strip("`")}


@pytest.mark.parametrize(
    "word", ["session", "Cart", "I", "don't", "URL", "well-known", "`is`", "`x`"]
)
def test_english_is_no_name(word: str) -> None:
    assert read_question(f"It fails\nwith {word} in it").names == frozenset()


def test_a_class_of_one_word_is_a_name_where_the_code_says_so_as_well() -> None:
    prose = "The Paginator is slow\n\nThe Session is not."
    assert read_question(prose).names == frozenset()
    both = read_question(prose + "\n\n```\nPaginator(rows, 10)\n```")
    assert both.names == {"Paginator"}


@pytest.mark.parametrize("prompt", [">>> ", "... ", "In [12]: ", "$ ", "    ", "\t"])
def test_a_line_of_a_session_is_code_and_the_next_is_prose(prompt: str) -> None:
    found = read_question(f"It fails\n\n{prompt}Carts(Sessions)\nbut the Carts and Orders work")
    assert found.names == {"Carts"}


# paths and modules


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ("shop/cart.py", "shop/cart.py"),
        ("`shop/cart.py`", "shop/cart.py"),
        ("(shop/cart.py:12)", "shop/cart.py"),
        ("./shop/cart.py", "shop/cart.py"),
        ("../../shop/cart.py", "shop/cart.py"),
        ("/home/ada/shop/cart.py", "home/ada/shop/cart.py"),
        ("C:\\Users\\ada\\shop\\cart.py", "Users/ada/shop/cart.py"),
        (".github/scripts/cart.py", ".github/scripts/cart.py"),
        ("@scope/cart/index.d.ts", "@scope/cart/index.d.ts"),
        ("cart.rs.", "cart.rs"),
    ],
)
def test_a_path_is_found_as_it_is_written(said: str, path: str) -> None:
    assert read_question(f"Wrong totals in {said} since today").paths == (path,)


def test_what_only_looks_like_a_path_is_none() -> None:
    assert read_question("version 1.2.3, e.g. and/or a.python ... at 10.5 and foo.bar").paths == ()


def test_paths_are_said_once_and_in_order() -> None:
    assert read_question("b/x.go a/y.ts ./b/x.go").paths == ("b/x.go", "a/y.ts")


def test_a_listing_of_files_is_not_looked_up_whole() -> None:
    listing = read_question("\n".join(f"pkg{n}/file{n}.py and a{n}.b{n}" for n in range(900)))
    assert listing.paths[0] == "pkg0/file0.py"
    assert len(listing.paths) == len(listing.dotted) == 100


def test_modules_are_chains_of_names() -> None:
    found = read_question("django.db.models and crate::store::get, not 1.5 or end.")
    assert found.dotted == (("django", "db", "models"), ("crate", "store", "get"))


# tracebacks: the last frame is where it broke


def frames(text: str) -> tuple[Frame, ...]:
    return read_question(f"It crashes\n\n{text}\n\nPlease help").frames


def test_frames_of_python() -> None:
    assert frames(
        "Traceback (most recent call last):\n"
        '  File "/srv/app/shop/cli.py", line 3, in <module>\n    main()\n'
        '  File "C:\\app\\shop\\cart.py", line 41, in Cart.total\n    return net\n'
        '  File "<string>", line 1\nKeyError: 1'
    ) == (
        Frame("/srv/app/shop/cli.py", 3, "<module>"),
        Frame("C:/app/shop/cart.py", 41, "Cart.total"),
        Frame("<string>", 1, ""),
    )


def test_frames_of_javascript_are_turned_round() -> None:
    assert frames(
        "TypeError: x is not a function\n"
        "    at Cart.total (/app/src/cart.js:41:13)\n"
        "    at async load (file:///app/src/load.mjs:7:1)\n"
        "    at new Till (C:\\app\\src\\till.ts:5:9)\n"
        "    at Object.get [as price] (/app/src/price.js:2:2)\n"
        "    at /app/src/main.js:3:1"
    ) == (
        Frame("/app/src/main.js", 3, ""),
        Frame("/app/src/price.js", 2, "Object.get"),
        Frame("/app/src/till.ts", 5, "Till"),
        Frame("/app/src/load.mjs", 7, "load"),
        Frame("/app/src/cart.js", 41, "Cart.total"),
    )


def test_frames_of_java_get_their_folder_from_the_name() -> None:
    assert frames(
        'Exception in thread "main" java.lang.NullPointerException\n'
        "\tat org.shop.Cart$Row.total(Cart.java:41)\n"
        "\tat java.base/java.util.List.forEach(List.java:75)\n"
        "\tat org.shop.MainKt.main(Main.kt:3)"
    ) == (
        Frame("org/shop/Main.kt", 3, "org.shop.MainKt.main"),
        Frame("java/util/List.java", 75, "java.util.List.forEach"),
        Frame("org/shop/Cart.java", 41, "org.shop.Cart$Row.total"),
    )


def test_frames_of_go() -> None:
    assert frames(
        "panic: index out of range\n\ngoroutine 1 [running]:\n"
        "main.total(0x1)\n\t/home/ada/shop/cart.go:41 +0x1d\n"
        "main.main()\n\t/home/ada/shop/main.go:7 +0x2"
    ) == (Frame("/home/ada/shop/main.go", 7, ""), Frame("/home/ada/shop/cart.go", 41, ""))


def test_frames_of_rust() -> None:
    assert frames(
        "thread 'main' panicked at src/cart.rs:41:5:\nindex out of bounds\n"
        "   3: shop::cart::total\n             at ./src/cart.rs:41:5\n"
        "   4: shop::main\n             at ./src/main.rs:7:1"
    ) == (
        Frame("./src/main.rs", 7, ""),
        Frame("./src/cart.rs", 41, ""),
        Frame("src/cart.rs", 41, ""),
    )


@pytest.mark.parametrize(
    "text", ["look at cart.py", "at noon: 12:30", "File cart.py, line 3", "a.py:3"]
)
def test_prose_has_no_frames(text: str) -> None:
    assert frames(text) == ()


def test_of_an_endless_recursion_the_last_frames_are_kept() -> None:
    found = frames("".join(f'  File "a/b{n}.py", line {n}, in f\n' for n in range(900)))
    assert len(found) == 50
    assert found[-1] == Frame("a/b899.py", 899, "f")


def test_a_line_number_that_is_none_breaks_nothing() -> None:
    assert frames(f'File "a/b.py", line {"7" * 6000}')[0].path == "a/b.py"
