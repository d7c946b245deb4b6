"""`bench retrieval`: textbook measures, rivals and intervals; tasks; whole runs on a repository."""

from __future__ import annotations

import itertools
import json
import math
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stratum_bench import retrieval
from stratum_bench.retrieval_checkout import Checkout, find_clone
from stratum_bench.retrieval_mined import leaks_of, mined_tasks, question_of
from stratum_bench.retrieval_report import facts
from stratum_bench.retrieval_rivals import K1, B, Rivals, Vocabulary, bm25, words
from stratum_bench.retrieval_scores import (
    METRICS,
    accuracy,
    fused,
    intervals,
    measures,
    ndcg,
    ranks_of,
    recall,
    reciprocal_rank,
)
from stratum_bench.retrieval_tasks import Edit, Task, innermost, is_reserved, load_tasks
from stratum_bench.retrieval_worker import Leak, check, packed, settings_for

from stratum import InvalidInput, Memory, NotFound, Unavailable
from tests.conftest import git, make_repository

# ranks of one to six answers, distinct, some of them not found
RANKS = st.lists(st.one_of(st.none(), st.integers(1, 40)), min_size=1, max_size=6).filter(
    lambda ranks: max(Counter(r for r in ranks if r is not None).values(), default=1) == 1
)


# measures


def test_measures_of_a_worked_example() -> None:
    ranks = ranks_of(["b", "d", "z"], ["a", "b", "c", "d", "e"])
    assert ranks == [2, 4, None]
    assert recall(ranks, 1) == 0.0
    assert recall(ranks, 3) == pytest.approx(1 / 3)
    assert recall(ranks, 5) == pytest.approx(2 / 3)
    assert accuracy(ranks, 10) == 0.0
    assert accuracy([2, 4], 4) == 1.0
    assert accuracy([2, 4], 3) == 0.0
    assert reciprocal_rank(ranks) == 0.5
    # (1/log2 3 + 1/log2 5) / (1/log2 2 + 1/log2 3 + 1/log2 4)
    assert ndcg(ranks, 10) == pytest.approx((0.63093 + 0.43068) / (1 + 0.63093 + 0.5), abs=1e-5)
    assert ndcg([1, 3], 10) == pytest.approx(1.5 / 1.63093, abs=1e-5)
    assert reciprocal_rank([None]) == ndcg([None], 10) == 0.0


def test_the_ideal_gain_counts_no_more_answers_than_fit() -> None:
    assert ndcg(list(range(1, 13)), 10) == pytest.approx(1.0)


def test_without_an_answer_nothing_is_measured() -> None:
    with pytest.raises(ValueError, match="without an answer"):
        measures([])


@given(RANKS)
def test_measures_lie_between_0_and_1_and_grow_with_k(ranks: list[int | None]) -> None:
    found = measures(ranks)
    assert list(found) == list(METRICS)
    assert all(0.0 <= value <= 1.0 + 1e-12 for value in found.values())
    assert found["R@1"] <= found["R@5"] <= found["R@10"]
    assert found["acc@1"] <= found["acc@5"] <= found["acc@10"]
    assert all(found[f"acc@{k}"] <= found[f"R@{k}"] for k in (1, 5, 10))
    assert (found["MRR"] == 1.0) == (1 in ranks)


@given(RANKS, st.randoms(use_true_random=False))
def test_measures_do_not_depend_on_the_order_of_the_answers(
    ranks: list[int | None], chance: Any
) -> None:
    shuffled = list(ranks)
    chance.shuffle(shuffled)
    assert measures(shuffled) == pytest.approx(measures(ranks))


@given(RANKS)
def test_a_wrong_answer_in_front_helps_nobody(ranks: list[int | None]) -> None:
    before, after = measures(ranks), measures([r and r + 1 for r in ranks])
    assert all(after[name] <= before[name] + 1e-12 for name in METRICS)


@given(st.integers(1, 10))
def test_a_perfect_order_has_full_marks_at_ten(count: int) -> None:
    found = measures(list(range(1, count + 1)))
    assert found["acc@10"] == found["MRR"] == 1.0
    assert found["nDCG@10"] == pytest.approx(1.0)


def test_fusion_of_a_worked_example() -> None:
    # b: 1/62 + 1/61, a: 1/61, c: 1/62; equal scores go by name
    assert fused([["a", "b"], ["b", "c"]]) == ["b", "a", "c"]
    assert fused([["b"], ["a"]]) == ["a", "b"]
    assert fused([]) == []


# intervals


def test_an_interval_of_equal_values_has_no_width() -> None:
    assert intervals({"a": [0.25] * 7}, seed=1) == {"a": (0.25, 0.25)}


def test_an_interval_of_coin_tosses_is_that_of_theory() -> None:
    low, high = intervals({"a": [0.0, 1.0] * 50}, seed=1)["a"]
    assert low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.015)
    assert high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.015)


def test_intervals_depend_on_the_seed_alone() -> None:
    values = {"a": [0.1, 0.5, 0.9, 0.3]}
    assert intervals(values, seed=3) == intervals(values, seed=3)
    assert intervals(values, seed=3, resamples=50) != intervals(values, seed=4, resamples=50)


def test_a_difference_is_resampled_in_pairs() -> None:
    one = [float(i % 2) for i in range(60)]
    other = [value * 0.9 for value in one]
    gap = [a - b for a, b in zip(one, other, strict=True)]
    spans = intervals({"one": one, "other": other, "gap": gap}, seed=1)
    low, high = spans["gap"]
    assert 0 < low < 0.05 < high  # unpaired it would reach far to both sides of 0
    assert low == pytest.approx(spans["one"][0] - spans["other"][0])


@pytest.mark.parametrize("columns", [{}, {"a": []}, {"a": [1.0], "b": [1.0, 0.0]}])
def test_columns_must_hold_the_same_tasks(columns: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="same tasks"):
        intervals(columns, seed=1)


# the report


def line(number: int, ours: list[int | None], theirs: list[int | None]) -> dict[str, Any]:
    """An answer to a task with as many edited files as there are ranks."""
    return {
        "task": f"t{number}", "repo": f"acme/{'ab'[number % 2]}", "language": "python",
        "leak": "path" if number == 0 else "nothing", "unnamed": number > 0,
        "gold": ["a.py", "b.py"][: len(ours)], "candidates": 9,
        "not_candidates": ["tests/a.py", "a.cfg"] if number == 0 else [],
        "gold_symbols": [["a.py", "f"]] if number == 1 else [],
        "pack": {"ms": 1.0, "tokens": 100 * number, "lines": 5, "files": [True, number > 0],
                 "symbols": [False] if number == 1 else []},
        "arms": {
            "stratum": {"ranks": ours, "ms": 2.0, "symbol_ranks": [2] if number == 1 else []},
            "contents": {"ranks": theirs},
        },
    }  # fmt: skip


def test_the_report_adds_up() -> None:
    lines = [
        line(0, [1, None], [2, 3]),
        line(1, [1], [2]),
        line(2, [2], [2]),
        {"task": "t3", "skipped": "gone"},
        {"task": "t4", "error": "broken"},
    ]
    told = facts(lines, ["stratum", "stratum-pack", "contents"], seed=1)
    assert (told["judged"], told["skipped"], told["failed"]) == (3, {"gone": 1}, {"broken": 1})
    assert told["gold files that are no candidates"] == {
        "tests": ["t0: tests/a.py"],
        "no source": ["t0: a.cfg"],
    }
    pooled = told["pooled"]["arms"]
    assert pooled["stratum"]["means"]["R@1"]["mean"] == pytest.approx(0.5)
    assert pooled["stratum"]["means"]["MRR"]["mean"] == pytest.approx(5 / 6, abs=1e-4)
    lead = pooled["contents"]["lead"]["MRR"]
    assert lead["mean"] == pytest.approx(1 / 3, abs=1e-4)
    assert 0.0 <= lead["low"] < lead["mean"] < lead["high"] <= 0.5
    assert {name: one["n"] for name, one in told["strata"]["repository"].items()} == {
        "acme/a": 2,
        "acme/b": 1,
    }
    assert told["strata"]["named"]["named"]["arms"]["contents"]["means"]["R@5"]["mean"] == 1.0
    assert (told["symbols"]["n"], set(told["symbols"]["arms"])) == (1, {"stratum"})
    assert told["symbols"]["arms"]["stratum"]["means"]["MRR"]["mean"] == 0.5
    shares = {one["packs with"]: (one["n"], one["share"]) for one in told["packs"]}
    assert shares == {
        "an edited file": (3, 1.0),
        "all edited files": (3, 0.6667),
        "an edited symbol's lines": (1, 0.0),
        "all edited symbols' lines": (1, 0.0),
    }
    assert told["what packs cost"][0] == {
        "a pack's": "tokens", "min": 0.0, "p50": 100.0, "p95": 190.0, "max": 200.0,
    }  # fmt: skip


def test_answers_are_kept_but_for_those_that_failed_or_were_cut_short(tmp_path: Path) -> None:
    header = {"seed": 1}
    with retrieval.Results(tmp_path, header) as results:
        results.add({"task": "a", "arms": {}})
        results.add({"task": "b", "error": "broken"})
    with (tmp_path / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"task": "c", "ar')
    with retrieval.Results(tmp_path, header) as results:
        assert results.kept == {"a": {"task": "a", "arms": {}}}
        results.add({"task": "c", "arms": {}})
    assert len((tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()) == 3
    for number in (1, 2):
        with retrieval.Results(tmp_path, {"seed": 1 + number}) as results:
            assert results.kept == {}
        assert (tmp_path / f"results-{number}.jsonl").exists()
    first = (tmp_path / "results-1.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(one).get("task") for one in first] == [None, "a", "c"]


# rivals


def test_words_are_whole_identifiers_and_their_parts() -> None:
    assert words("HTTPServer.get_queryset(x2)") == [
        "httpserver", "http", "server", "get_queryset", "get", "queryset", "x2", "x", "2",
    ]  # fmt: skip
    assert words("Straße Zeit") == ["straße", "zeit"]


def plain_bm25(texts: list[str], query: str) -> list[float]:
    """The formula, word by word."""
    documents = [words(text) for text in texts]
    average = sum(map(len, documents)) / len(documents) or 1.0
    scores = []
    for document in documents:
        score = 0.0
        for word in words(query):
            df = sum(word in other for other in documents)
            tf = document.count(word)
            idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
            norm = K1 * (1 - B + B * len(document) / max(average, 1.0))
            score += idf * tf * (K1 + 1) / (tf + norm) if tf else 0.0
        scores.append(score)
    return scores


TEXTS = st.lists(st.text(alphabet="ab_C ", max_size=20), min_size=1, max_size=6)


@given(TEXTS, st.text(alphabet="ab_C ", max_size=20))
def test_bm25_is_the_textbook_formula(texts: list[str], query: str) -> None:
    vocabulary = Vocabulary()
    documents = [vocabulary.document(text) for text in texts]
    asked = vocabulary.document(query)
    found = bm25(documents, asked, len(vocabulary))
    assert list(found) == pytest.approx(plain_bm25(texts, query))


def test_bm25_of_nothing_is_nothing() -> None:
    vocabulary = Vocabulary()
    assert len(bm25([], vocabulary.document("a"), len(vocabulary))) == 0


# tasks


def row(**changed: Any) -> dict[str, Any]:
    """A task as a line of a file."""
    return {
        "instance_id": "acme__shop-2",
        "repo": "acme/shop",
        "base_commit": "0" * 40,
        "problem_statement": "The total is wrong with tax.",
        "gold_files": ["shop/cart.py"],
        "created_at": "2022-08-26T15:06:53Z",
        "leak": {"path": False, "basename": False, "module": False, "symbol": True},
    } | changed


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


def test_the_rule_of_reserved_instances_is_pinned() -> None:
    reserved = [number for number in range(1, 9) if is_reserved(f"acme__shop-{number}")]
    assert reserved == [1, 3, 4, 8]
    assert not is_reserved("shop@0123456789ab")  # mined: no instance of SWE-bench


def test_a_reserved_task_is_refused_in_one_sentence(tmp_path: Path) -> None:
    file = written(tmp_path / "tasks.jsonl", row(), row(instance_id="acme__shop-4"))
    with pytest.raises(InvalidInput) as refused:
        load_tasks([file])
    assert refused.value.message == (
        "tasks.jsonl, line 2: acme__shop-4 is reserved for the final scoring."
    )


def test_tasks_come_in_the_order_of_their_dates_however_these_are_written(tmp_path: Path) -> None:
    file = written(
        tmp_path / "tasks.jsonl",
        row(instance_id="acme__shop-5", created_at="2022-05-24 14:47:14"),
        row(instance_id="acme__shop-6", created_at="2022-05-24T16:00:00+02:00"),
        row(),
        row(instance_id="acme__shop-7", repo="acme/Bar", created_at="2023-01-01"),
    )
    tasks = load_tasks([file, file])
    assert [task.id[-1] for task in tasks] == ["7", "6", "5", "2"]
    assert tasks[1].created_at == "2022-05-24T14:00:00+00:00"


@pytest.mark.parametrize(
    ("leak", "expected", "unnamed"),
    [
        ({}, "nothing", True),
        ({"symbol": True}, "symbol", True),
        ({"symbol": True, "module": True}, "module", False),
        ({"path": True, "basename": True, "module": True, "symbol": True}, "path", False),
        ({"basename": True}, "nothing", False),
    ],
)
def test_the_class_of_a_task_is_the_strongest_leak(
    tmp_path: Path, leak: dict[str, bool], expected: str, *, unnamed: bool
) -> None:
    [task] = load_tasks([written(tmp_path / "tasks.jsonl", row(leak=leak))])
    assert (task.leak, task.unnamed) == (expected, unnamed)


def test_edited_lines_come_from_a_file_of_their_own(tmp_path: Path) -> None:
    lines = {
        "instance_id": "acme__shop-2",
        "edits": [{"file": "shop/cart.py", "start_line": 3, "end_line": 4}],
    }
    [task] = load_tasks(
        [written(tmp_path / "tasks.jsonl", row())], written(tmp_path / "gold.jsonl", lines)
    )
    assert task.edits == (Edit("shop/cart.py", 3, 4),)


@pytest.mark.parametrize("field", ["patch", "test_patch", "hints_text"])
def test_a_question_that_holds_its_answer_is_refused(tmp_path: Path, field: str) -> None:
    told = "diff --git a/shop/cart.py b/shop/cart.py\n-    net = sum(price)\n+    net = total"
    file = written(
        tmp_path / "tasks.jsonl", row(problem_statement=f"Wrong.\n{told}\n", **{field: told})
    )
    with pytest.raises(InvalidInput, match=f"holds its {field}"):
        load_tasks([file])
    [task] = load_tasks([written(file, row(**{field: told}))])
    assert told not in repr(task)


def test_the_innermost_definitions_of_edited_lines_are_the_answer(memory: Memory) -> None:
    symbols = memory.outline("shop/cart.py").symbols
    at = {symbol.name: symbol.start_line for symbol in symbols}
    inside = at["Cart.total_price"] + 2
    assert innermost(symbols, [Edit("shop/cart.py", inside, inside + 1)]) == {
        "Cart.total_price": {inside, inside + 1}
    }
    head = at["Cart"]
    assert innermost(symbols, [Edit("shop/cart.py", head, head)]) == {"Cart": {head}}
    assert innermost(symbols, [Edit("shop/cart.py", 1, 1)]) == {}
    whole = innermost(symbols, [Edit("shop/cart.py", 1, 40)])
    assert {"Cart.add_item", "Cart.total_price", "expire_old_carts"} <= set(whole)


def test_a_pack_is_judged_by_the_files_and_lines_that_it_names(memory: Memory) -> None:
    symbols = {symbol.name: symbol for symbol in memory.outline("shop/cart.py").symbols}
    last = symbols["expire_old_carts"].end_line
    task = Task(
        "t", "acme/shop", "0" * 40, "drop carts that nobody has touched, in expire_old_carts",
        ("shop/cart.py", "shop/gone.py"), "2022-01-01T00:00:00+00:00",
    )  # fmt: skip
    gold = {
        ("shop/cart.py", "expire_old_carts"): {last},
        ("shop/cart.py", "beyond"): {last, last + 50},
        ("shop/gone.py", "lost"): {1},
    }
    found = packed(memory, task, gold)
    assert found["files"] == [True, False]
    assert found["symbols"] == [True, False, False]
    assert 0 < found["tokens"] <= 1_200
    assert found["lines"] >= last - symbols["expire_old_carts"].start_line + 1


# mined tasks


def test_a_message_becomes_a_question_without_what_points_to_the_solution() -> None:
    message = (
        "Fixed #27414 -- Corrected totals with tax (#99)\n\n"
        "The cart forgot the tax, see https://example.org/issues/12.\nCloses #12.\n\n"
        "Test plan:\nran it\n\n"
        "Co-authored-by: Ada <ada@example.org>\nSigned-off-by: Ada <ada@example.org>\n"
        "(cherry picked from commit 0123456789abcdef)\n"
    )
    text = question_of(message)
    assert text.startswith("Corrected totals with tax")
    assert "The cart forgot the tax" in text
    for trace in ("27414", "#", "example.org", "Ada", "cherry", "Test plan", "ran it", "Closes"):
        assert trace not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Look at shop/cart.py", {"path", "basename", "module"}),
        ("In cart.py the total", {"basename"}),
        ("shop.cart fails", {"module"}),
        ("total_price is wrong", {"symbol"}),
        ("grand_total_price of the shop cart", set()),
    ],
)
def test_a_text_gives_away_what_it_names(text: str, expected: set[str]) -> None:
    assert leaks_of(text, ["shop/cart.py"], ["Cart.total_price"]) == expected


def change(root: Path, message: str, **edits: tuple[str, str]) -> str:
    """Replace a text in files (`__` for a slash, `_DOT_` for a dot), commit, return the parent."""
    parent = git(root, "rev-parse", "HEAD")
    for name, (old, new) in edits.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        assert old in text
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(old, new, 1) if old else text + new, encoding="utf-8")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", message)
    return parent


def test_fixes_of_source_files_are_mined_newest_first(repository: Path) -> None:
    cart = "shop__cart_DOT_py"
    tested = {"tests__test_cart_DOT_py": ("", "\n\ndef test_more():\n    assert 2\n")}
    first = change(
        repository,
        "Fix totals that leave out the tax",
        **{cart: ("net * (1", "net * (2"), **tested},
    )
    change(repository, "Fix typos in the cart", **{cart: ("Drop the", "Remove the")})
    change(repository, "Add a fixture that fixes nothing", shop__new_DOT_py=("", "A = 1\n"))
    change(repository, "Teach carts to be empty", **{cart: ("86400", "86500")})
    last = change(
        repository, "fix(session): sessions never expire again\n\nSigned-off-by: Ada <a@b.org>",
        shop__session_DOT_py=("row.expires > now", "row.expires >= now"),
    )  # fmt: skip
    tasks = mined_tasks(repository, 5)
    found = {task.gold_files: task for task in tasks}
    assert {gold: task.base_commit for gold, task in found.items()} == {
        ("shop/cart.py",): first,
        ("shop/session.py",): last,
    }
    assert found["shop/cart.py",].edits == (Edit("shop/cart.py", 16, 16),)
    assert found["shop/session.py",].text == "sessions never expire again"
    # those with tests go first of those that say as much, whatever is newer
    assert [task.gold_files for task in mined_tasks(repository, 1)] == [("shop/cart.py",)]


# the clone and what may be known at a commit


def test_a_clone_is_found_under_its_usual_names(tmp_path: Path) -> None:
    repository = make_repository(_made(tmp_path / "one" / "Acme__Shop"))
    plus = make_repository(_made(tmp_path / "two" / "acme+shop"))
    inside = make_repository(_made(tmp_path / "three" / "acme" / "shop"))
    plain = make_repository(_made(tmp_path / "four" / "shop"))
    assert find_clone(tmp_path / "one", "acme/shop") == repository
    assert find_clone(tmp_path / "two", "acme/shop") == plus
    assert find_clone(tmp_path / "three", "acme/shop") == inside
    assert find_clone(tmp_path / "four", "acme/shop") == plain
    assert find_clone(plain, "acme/shop") == plain
    with pytest.raises(NotFound, match="no clone of acme/bar"):
        find_clone(tmp_path / "four", "acme/bar")


def _made(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def _asked(base: str, text: str = "Sessions never expire") -> Task:
    return Task("t", "acme/shop", base, text, ("shop/session.py",), "2022-01-01T00:00:00+00:00")


def test_a_planted_later_commit_stops_the_question(tmp_path: Path, repository: Path) -> None:
    base = change(repository, "Fix sessions that never expire", README_DOT_md=("Shop", "Store"))
    later = git(repository, "rev-parse", "HEAD")
    checkout = Checkout(repository, tmp_path / "clone")
    settings = settings_for(tmp_path / "home", "none", 1)
    with Memory(settings, checkout.root, resident=True) as memory:
        checkout.go(later)
        found = memory.index().commits
        check(checkout, memory, _asked(later), found)
        with pytest.raises(Leak, match="The tree is that of"):
            check(checkout, memory, _asked(base), found)
        checkout.go(base)
        with pytest.raises(Leak, match="2 commits are searched, but the task has 1"):
            check(checkout, memory, _asked(base), found)
        # known to the memory still, but out of reach once the index was brought up to date
        check(checkout, memory, _asked(base), memory.index().commits)


def test_another_commit_among_as_many_stops_the_question(tmp_path: Path, repository: Path) -> None:
    base = change(repository, "Describe the store", README_DOT_md=("Shop", "Store"))
    one = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "-q", "-b", "other", base)
    change(repository, "Sessions expire when they must", README_DOT_md=("Shop", "Place"))
    other = Checkout(repository, tmp_path / "other")
    other.go(git(repository, "rev-parse", "HEAD"))
    checkout = Checkout(repository, tmp_path / "clone")
    checkout.go(one)
    with Memory(settings_for(tmp_path / "home", "none", 1), other.root, resident=True) as memory:
        found = memory.index().commits
        with pytest.raises(Leak, match="which is not before the task's"):
            check(checkout, memory, _asked(one, "sessions expire"), found)


def test_a_file_whose_contents_the_clone_lacks_is_left_out(tmp_path: Path) -> None:
    root = make_repository(_made(tmp_path / "shop"), {"a.py": "A = 1\n", "big.py": "B = 2\n"})
    blob = git(root, "rev-parse", "HEAD:big.py")
    (root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    base = git(root, "rev-parse", "HEAD")
    checkout = Checkout(root, tmp_path / "clone")
    checkout.go(base)
    assert sorted(checkout.tree(base)) == ["a.py", "big.py"]
    assert list(checkout.without_missing(checkout.tree(base))) == ["a.py"]
    assert not (checkout.root / "big.py").exists()


def test_what_rivals_said_is_kept_until_question_or_tree_differ(
    tmp_path: Path, repository: Path
) -> None:
    base = git(repository, "rev-parse", "HEAD")
    checkout = Checkout(repository, tmp_path / "clone")
    files = {path: blob for path, blob in checkout.tree(base).items() if path.startswith("shop/")}
    rivals = Rivals(checkout, tmp_path / "kept")
    found = rivals.ask(_asked(base, "delete expired session rows"), files)
    assert found["contents"][0] == found["outlines"][0] == "shop/session.py"
    assert set(found["popular"]) == set(files)
    [kept] = (tmp_path / "kept").iterdir()
    kept.write_text(json.dumps({"contents": ["kept"]}), encoding="utf-8")
    assert rivals.ask(_asked(base, "delete expired session rows"), files) == {"contents": ["kept"]}
    assert rivals.ask(_asked(base, "the total price"), files)["contents"][0] == "shop/cart.py"


# whole runs


FIXES = [
    ("shop__cart_DOT_py", "net * (1 + TAX_RATE)", "net * TAX_RATE", "The total leaves out the tax"),
    (
        "shop__session_DOT_py",
        "row.expires > now",
        "row.expires >= now",
        "Session rows expire too late",
    ),
    ("web__render_DOT_js", "${item.name}", "${item}", "The cart shows no name of an item"),
    ("shop__cart_DOT_py", "86400", "86401", "Old carts expire a second too early"),
]


@pytest.fixture
def planted(tmp_path: Path, repository: Path) -> Path:
    """Four issues, one of an unknown commit and one of a missing file, with their clone."""
    (tmp_path / "repos").mkdir()
    rows, gold = [], []
    for number, (name, old, new, issue) in zip((2, 5, 6, 7), FIXES, strict=True):
        base = change(repository, f"Commit {number}", **{name: (old, new)})
        path = name.replace("__", "/").replace("_DOT_", ".")
        said = git(repository, "diff", "-U0", base, "HEAD")
        line = int(said.partition("@@ -")[2].partition(" ")[0])
        id_ = f"acme__shop-{number}"
        rows.append(
            row(
                instance_id=id_, base_commit=base, problem_statement=issue, gold_files=[path],
                created_at=f"2022-0{number}-01 10:00:00", leak={"symbol": number == 2},
            )
        )  # fmt: skip
        gold.append(
            {
                "instance_id": id_,
                "edits": [{"file": path, "start_line": line, "end_line": line}],
            }
        )
    rows.append(row(instance_id="acme__shop-9", base_commit="f" * 40))
    rows.append(rows[0] | {"instance_id": "acme__shop-10", "gold_files": ["shop/gone.py"]})
    assert not any(is_reserved(one["instance_id"]) for one in rows)
    repository.rename(tmp_path / "repos" / "acme__shop")
    written(tmp_path / "tasks.jsonl", *rows)
    written(tmp_path / "gold.jsonl", *gold)
    return tmp_path


def command(folder: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "stratum", "bench", "retrieval", "--tasks",
        str(folder / "tasks.jsonl"), "--gold-lines", str(folder / "gold.jsonl"), "--repos",
        str(folder / "repos"), "--embedder", "hashing", *more,
    ]  # fmt: skip


def done(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)


def test_a_run_finds_planted_fixes_and_reports_what_it_could_not_judge(planted: Path) -> None:
    repository = planted / "repos" / "acme__shop"
    before = (git(repository, "rev-parse", "HEAD"), git(repository, "status", "--porcelain"))
    ran = done(command(planted, "--json", "--out", str(planted / "out")))
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    told = result["facts"]
    assert told["judged"] == 4
    assert told["skipped"] == {"shop/gone.py is not in the tree, or its contents are missing": 1}
    assert told["failed"] == {"The clone has no commit ffffffffff. Clone the whole history.": 1}
    arms = told["pooled"]["arms"]
    assert set(arms) == {line["arm"] for line in result["rows"]}
    assert {*arms, "stratum-pack"} == set(result["parameters"]["arms"])
    packs = {line["packs with"]: line for line in told["packs"]}
    assert packs["an edited file"]["n"] == packs["all edited symbols' lines"]["n"] == 4
    assert packs["an edited file"]["share"] == 1.0
    costs = {line["a pack's"]: line for line in told["what packs cost"]}
    assert 0 < costs["tokens"]["min"] <= costs["tokens"]["max"] <= 1_200
    # three candidates: all arms that read the code find the right one
    for arm in ("stratum", "contents", "outlines", "contents+outlines"):
        assert arms[arm]["means"]["R@5"]["mean"] == 1.0
        assert arms[arm]["means"]["MRR"]["mean"] >= 0.5
    assert arms["stratum"]["lead"] == {}
    assert set(arms["popular"]["lead"]) == set(METRICS)
    assert set(told["symbols"]["arms"]) == {"stratum", "vectors"}
    assert told["symbols"]["n"] == 4
    assert {name: one["n"] for name, one in told["strata"]["leak"].items()} == {
        "nothing": 3,
        "symbol": 1,
    }
    assert set(told["strata"]["language"]) == {"python", "javascript"}
    header, *lines = map(json.loads, (planted / "out" / "results.jsonl").read_text().splitlines())
    assert header["seed"] == 1
    assert set(header["files"]) == {"tasks.jsonl", "gold.jsonl"}
    answers = {line["task"]: line for line in lines}
    assert len(answers) == len(lines) == 6
    cart = answers["acme__shop-2"]
    assert cart["gold_symbols"] == [["shop/cart.py", "Cart.total_price"]]
    assert cart["candidates"] == 3  # neither the test nor the prose
    assert "tests/test_cart.py" not in cart["arms"]["stratum"]["files"]
    assert cart["arms"]["stratum"]["ms"] > 0
    assert list(cart["features"]) == cart["arms"]["stratum"]["files"]
    assert all(shares for shares in cart["features"].values())
    assert before == (
        git(repository, "rev-parse", "HEAD"),
        git(repository, "status", "--porcelain"),
    )


def test_tables_name_every_arm(planted: Path) -> None:
    ran = done(command(planted, "--limit", "3", "--arms", "stratum,contents"))
    assert ran.returncode == 0, ran.stderr
    for title in ("Files: 95 % intervals", "Symbols: means", "Milliseconds of a question"):
        assert title in ran.stdout
    assert "outlines" not in ran.stdout


def test_a_run_that_was_killed_goes_on_where_it_was(planted: Path) -> None:
    out, work = planted / "out", planted / "work"
    arguments = command(
        planted, "--arms", "stratum", "--jobs", "1", "--out", str(out), "--work", str(work)
    )
    running = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("2 of 6"):
            break
    running.send_signal(signal.SIGKILL)
    running.wait()
    running.stderr.close()
    results = out / "results.jsonl"
    kept = results.read_text(encoding="utf-8").splitlines()
    assert len(kept) >= 3
    with results.open("a", encoding="utf-8") as file:
        file.write('{"task": "acme__shop-7", "arms": {"stra')  # as a kill in the midst leaves it
    time.sleep(0.5)  # the process that did the work sees that nobody waits
    ran = done([*arguments, "--json"])
    assert ran.returncode == 0, ran.stderr
    good = [line for line in kept if '"error"' not in line]
    assert f"{len(good) - 1} of 6 tasks are answered already" in ran.stderr
    after = results.read_text(encoding="utf-8").splitlines()
    assert after[: len(good)] == good
    assert sorted(json.loads(line)["task"] for line in after[1:]) == sorted(
        f"acme__shop-{number}" for number in (2, 5, 6, 7, 9, 10)
    )
    assert json.loads(ran.stdout)["facts"]["judged"] == 4
    # a run of other arms does not touch the answers
    other = done(command(planted, "--arms", "contents", "--out", str(out), "--work", str(work)))
    assert "put aside in results-1.jsonl" in other.stderr
    assert (out / "results-1.jsonl").read_text(encoding="utf-8").splitlines()[:4] == after[:4]


def test_work_that_is_kept_is_not_done_again(planted: Path) -> None:
    arguments = command(
        planted, "--json", "--embedder", "none", "--arms", "stratum", "--work",
        str(planted / "work"),
    )  # fmt: skip
    first, second = (json.loads(done(arguments).stdout)["facts"]["pooled"] for _ in range(2))
    assert first == second
    with retrieval.alone_in(planted / "work"):
        busy = done(arguments)
    assert busy.returncode == Unavailable.exit_code
    assert "Another run works in" in busy.stderr


def test_mined_tasks_are_asked_through_the_same_command(repository: Path) -> None:
    change(
        repository, "Fix totals that leave out the tax", shop__cart_DOT_py=("net * (1", "net * (2")
    )
    change(repository, "Fix sessions: they never expire",
           shop__session_DOT_py=("row.expires > now", "row.expires >= now"))  # fmt: skip
    ran = done(
        [sys.executable, "-m", "stratum_bench", "retrieval", "--repo", str(repository), "--mine",
         "5", "--embedder", "none", "--json"]
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["facts"]["judged"] == 2
    assert result["facts"]["symbols"]["n"] == 2
    assert "vectors" not in result["parameters"]["arms"]
    assert result["facts"]["pooled"]["arms"]["stratum"]["means"]["R@5"]["mean"] == 1.0


def test_tasks_of_a_process_that_dies_are_told_as_failed(planted: Path) -> None:
    [task, *_] = load_tasks([planted / "tasks.jsonl"])
    below_a_file = planted / "tasks.jsonl" / "0"  # what nobody foresaw
    source = planted / "repos" / "acme__shop"
    job = retrieval.Job(source, below_a_file, (task,), ("stratum",), "none", 1)
    lines = list(retrieval.answers([job], 1))
    assert [line["task"] for line in lines if isinstance(line, dict)] == [task.id]
    assert "the process ended before" in facts([*lines], ["stratum"], 1)["failed"].popitem()[0]


def test_a_repository_with_many_tasks_is_shared_among_processes_in_order() -> None:
    tasks = tuple(replace(_asked("0" * 40), id=str(number)) for number in range(50))
    plan = retrieval.Plan(tasks, ("stratum",), "none", 1, 4, {})
    sources = {"acme/shop": Path("a")}
    parts = retrieval.jobs_of(plan, sources, Path("work"))
    assert [len(part.tasks) for part in parts] == [25, 25]
    assert tuple(itertools.chain(*(part.tasks for part in parts))) == tasks
    assert len({part.folder for part in parts}) == 2
    # a run that goes on gives each folder the tasks whose trees it knows
    answered = [str(number) for number in range(20)]
    later = retrieval.jobs_of(plan, sources, Path("work"), answered)
    assert [(part.folder.name, len(part.tasks)) for part in later] == [("1", 25), ("0", 5)]
    assert len(retrieval.jobs_of(replace(plan, jobs=1), sources, Path("work"))) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--repo", "{folder}"), 3, "is no git repository"),
        ((), 2, "No tasks are given"),
        (("--repo", "{folder}", "--tasks", "{folder}/tasks.jsonl"), 2, "makes its own tasks"),
        (("--tasks", "{folder}/none.jsonl", "--repos", "{folder}"), 3, "cannot be read"),
        (("--tasks", "{folder}/broken.jsonl", "--repos", "{folder}"), 2, "line 1 is no JSON"),
        (("--tasks", "{folder}/short.jsonl", "--repos", "{folder}"), 2, "line 1 is no task"),
        (("--tasks", "{folder}/empty.jsonl", "--repos", "{folder}"), 2, "no task in these"),
        (("--tasks", "{folder}/kept.jsonl", "--repos", "{folder}"), 2, "reserved for the final"),
        (("--tasks", "{folder}/tasks.jsonl", "--repos", "{folder}"), 3, "no clone of acme/shop"),
        (("--tasks", "{folder}/tasks.jsonl", "--repos", "{folder}/x"), 3, "cannot be read"),
        (
            ("--tasks", "{folder}/tasks.jsonl", "--repos", "{folder}", "--arms", "grep"),
            2,
            "There is no arm 'grep'",
        ),
        (
            ("--tasks", "{folder}/tasks.jsonl", "--repos", "{folder}", "--only", "bar"),
            3,
            "No task is of bar",
        ),
        (
            ("--tasks", "{folder}/tasks.jsonl", "--repos", "{folder}", "--gold-lines",
             "{folder}/broken.jsonl"),
            2,
            "line 1 is no JSON",
        ),
    ],
)  # fmt: skip
def test_a_broken_input_gets_one_sentence_and_a_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], status: int,
    said: str,
) -> None:  # fmt: skip
    from stratum_bench.__main__ import main

    (tmp_path / "broken.jsonl").write_text("{\n", encoding="utf-8")
    (tmp_path / "empty.jsonl").write_text("\n", encoding="utf-8")
    written(tmp_path / "short.jsonl", {"instance_id": "acme__shop-2"})
    written(tmp_path / "kept.jsonl", row(instance_id="acme__shop-1"))
    written(tmp_path / "tasks.jsonl", row())
    given_ = [argument.format(folder=tmp_path) for argument in arguments]
    assert main(["retrieval", *given_, "--embedder", "none"]) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert shown.err.count("\n") == 1


def test_without_the_benchmarks_the_command_says_how_to_get_them() -> None:
    code = (
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'stratum_bench':\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "from stratum.cli import cli\n"
        "cli(['bench', 'start'])\n"
    )
    ran = done([sys.executable, "-c", code])
    assert ran.returncode == Unavailable.exit_code
    assert "The benchmarks are not installed here." in ran.stderr
    assert "Traceback" not in ran.stderr
