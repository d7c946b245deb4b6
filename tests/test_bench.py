from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from stratum_bench import truth_layout
from stratum_bench.corpus import note_text, queries, sources
from stratum_bench.durability import Acknowledged
from stratum_bench.measure import percentile, recall, spread, table
from stratum_bench.truth_layout import LAID_OUT
from stratum_bench.truth_report import Judged, Seen, facts
from stratum_bench.truth_source import Wanted, language_of, read
from stratum_bench.truth_tree import Comparison, Diff, Place, State, Tree, Truth

from tests.conftest import git, make_repository


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stratum_bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def measured(*arguments: str) -> dict[str, Any]:
    done = bench(*arguments, "--size", "smoke", "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["command"] == arguments[0]
    assert result["seed"] == 1
    assert {"python", "cpus", "sqlite", "numpy", "sqlite-vec", "mcp"} <= result[
        "environment"
    ].keys()
    return result


def test_percentiles_lie_between_the_two_nearest_values() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert percentile([10.0, 20.0, 30.0, 40.0, 50.0], 0.95) == pytest.approx(48.0)
    assert percentile([7.0], 0.95) == 7.0
    assert spread([3.0, 1.0, 2.0]) == {
        "min": 1.0,
        "p50": 2.0,
        "p95": pytest.approx(2.9),
        "max": 3.0,
    }


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_recall_counts_what_is_as_good_as_the_kth_best() -> None:
    exact = [0.9, 0.8, 0.7, 0.6]
    assert recall([0.9, 0.8], exact, k=2, tolerance=0.0) == 1.0
    assert recall([0.9, 0.6], exact, k=2, tolerance=0.0) == 0.5
    assert recall([0.5, 0.4], exact, k=2, tolerance=0.0) == 0.0


def test_recall_does_not_care_which_of_two_equal_records_was_taken() -> None:
    assert recall([0.9, 0.8], [0.9, 0.8, 0.8], k=2, tolerance=0.0) == 1.0
    assert recall([0.9, 0.79999], [0.9, 0.8], k=2, tolerance=1e-4) == 1.0


def test_recall_misses_what_a_shorter_answer_leaves_out_and_ignores_what_comes_after_k() -> None:
    assert recall([0.9], [0.9, 0.8], k=2, tolerance=0.0) == 0.5
    assert recall([0.1, 0.1, 0.9, 0.8], [0.9, 0.8], k=2, tolerance=0.0) == 0.0
    assert recall([], [], k=10, tolerance=0.0) == 1.0


def test_a_table_aligns_texts_left_and_numbers_right() -> None:
    rows = [{"what": "a", "ms": 1.5}, {"what": "longer", "ms": 1234.5}]
    assert table(rows) == ["what      ms", "a       1.50", "longer  1234"]


def test_a_line_cut_short_by_a_kill_is_no_acknowledgement() -> None:
    writer = Acknowledged(0)
    writer.take(b'{"number": 0, "id": "aaaaaaaaaaaa", "ms": 1.0}\n')
    writer.take(b'{"number": 1, "id": "bbbbbbbbbbbb", "ms"')
    assert writer.ids == {0: "aaaaaaaaaaaa"}


def test_queries_have_the_promised_lengths_and_depend_only_on_the_seed() -> None:
    asked = queries(40, seed=3)
    assert asked == queries(40, seed=3)
    assert asked != queries(40, seed=4)
    lengths = {kind: [len(q.text.split()) for q in asked if q.kind == kind] for kind in KINDS}
    assert [len(found) for found in lengths.values()] == [40, 40]
    assert all(3 <= length <= 6 for length in lengths["short"])
    assert all(20 <= length <= 60 for length in lengths["issue"])


def test_sources_never_end_and_never_name_a_file_twice() -> None:
    paths = [path for path, _ in islice(sources(), 2_500)]
    assert len(set(paths)) == 2_500


def test_notes_of_different_writers_and_numbers_differ() -> None:
    texts = {note_text(1, writer, number) for writer in range(4) for number in range(25)}
    assert len(texts) == 100


def test_search_reports_times_of_all_rivals_and_finds_what_exact_search_finds() -> None:
    result = measured("search")
    (size,) = result["facts"].values()
    assert size["records"] >= 600
    assert size["vectors_pending"] == 0
    for kind in KINDS:
        assert size[kind]["recall@10"] >= 0.99
        # FTS5 counts how rare a word is over all records, the resident index over definitions alone
        assert size[kind]["lexical overlap@10"] >= 0.75
    rows = {(row["query"], row["what"]): row for row in result["rows"]}
    assert len(rows) == len(result["rows"]) == 2 * 13
    assert all(row["n"] == 50 and row["wall p95"] >= row["wall p50"] > 0 for row in rows.values())
    assert rows["issue", "search hybrid, resident"]["cpu ratio"] == 1.0


def test_start_measures_each_answer_of_each_server_in_both_eras() -> None:
    result = measured("start", "--embedder", "hashing", "--runs", "1")
    steps = {(row["era"], row["what"], row["answer to"]) for row in result["rows"]}
    assert steps == {
        (era, what, step)
        for era, first in (("handshake", "initialize"), ("modern", "discover"))
        for what, answers in (
            ("python -c pass", ["exit"]),
            ("stratum serve", [first, "tools/list", "first search"]),
            ("plain SDK server", [first, "tools/list", "first search"]),
        )
        for step in answers
    }
    assert all(row["n"] == 1 and row["p50"] > 0 for row in result["rows"])


def test_durability_reports_what_was_acknowledged_and_what_was_lost() -> None:
    result = measured("durability", "--kills", "2", "--processes", "2", "--writes", "10")
    killed, together = result["facts"]["killed"], result["facts"]["together"]
    assert killed["kills"] == 2
    assert (killed["lost"], killed["altered"], killed["problems"]) == (0, 0, [])
    assert together == {
        "acknowledged": 20,
        "lost": 0,
        "altered": 0,
        "errors": [],
        "problems": [],
    }
    assert [row["processes"] for row in result["rows"]] == [1, 1, 2]


def test_a_result_is_printed_as_a_table_without_json() -> None:
    done = bench(
        "durability", "--size", "smoke", "--kills", "1", "--processes", "1", "--writes", "2"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("durability, seed 1, size smoke, kills 1")
    assert lines[3].split()[:3] == ["what", "processes", "n"]
    assert "kill 1 of 1" in done.stderr


# index


def test_the_costs_of_a_repository_are_measured_on_a_clone(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    root.mkdir()
    make_repository(root)
    for number in range(3):
        (root / f"shop/new{number}.py").write_text(f"def f{number}():\n    return {number}\n")
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", f"Add {number}")
    result = measured("index", "--repo", str(root))
    parsed = {row["step"]: row["contents parsed"] for row in result["rows"]}
    assert parsed.pop("first index and history") > 0
    assert set(parsed.values()) == {0}
    facts = result["facts"]
    assert facts["verdicts on notes of this commit"]["counts"] == {"fresh": 5}
    assert facts["verdicts on notes 2 commits later"]["counts"] == {"fresh": 5}
    edits = facts["search after an edit"]
    assert edits["seen by the next search"] == edits["edits"] == 20
    assert facts["space"]["ratio"] < 3
    assert git(root, "status", "--short") == ""
    few = bench("index", "--repo", str(root), "--apart", "50")
    assert few.returncode == 2
    assert "only 4 commits" in few.stderr


# truth

PYTHON = '''"""Module {n}."""

LIMIT_{n} = {n} + 10


def first_{n}(values, least={n}):
    """Return what is above {n}."""
    found = []
    for value in values:
        if value > least and value != LIMIT_{n}:
            found.append(value + {n})
    return sorted(found)


class Shelf{n}:
    """Holds things number {n}."""

    def put(self, thing):
        self.things.append((thing, {n}))
        self.count = len(self.things) + {n}
        return self.count

    @property
    def full(self):
        return len(self.things) >= LIMIT_{n}

    @full.setter
    def full(self, value):
        self.limit = value + {n}
'''
GO = """package shelf

import "fmt"

// Box{n} keeps number {n}.
type Box{n} struct {{
	Name string
	Size int
}}

func (b *Box{n}) Grow(by int) int {{
	b.Size = b.Size + by*{n}
	fmt.Println("grown", b.Size, {n})
	return b.Size
}}

func open{n}(name string) *Box{n} {{
	if name == "" {{
		name = "box {n}"
	}}
	return &Box{n}{{Name: name, Size: {n}}}
}}
"""


@pytest.fixture(scope="module")
def clones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one repository of two languages and a history of edits, moves and renames."""
    folder = tmp_path_factory.mktemp("clones")
    root = folder / "shelves"
    files = {f"lib/mod_{n}.py": PYTHON.format(n=n) for n in range(2, 8)}
    files |= {f"go/box_{n}.go": GO.format(n=n) for n in range(2, 6)}
    make_repository(root, files)
    for n in range(2, 8):
        path = root / f"lib/mod_{n}.py"
        text = path.read_text(encoding="utf-8")
        if n % 2:
            text = text.replace("sorted(found)", f"sorted(found)[:LIMIT_{n}]")
        if n == 4:
            text = text.replace("def put", "def store")
        text = f"# looked through\n\n{text}"
        path.write_text(text, encoding="utf-8")
        git(root, "commit", "-qam", f"Edit {n}")
    git(root, "mv", "lib/mod_6.py", "lib/other_6.py")
    (root / "go/box_3.go").unlink()
    git(root, "commit", "-qam", "Move one file and delete another")
    for n in range(4):
        git(root, "commit", "-q", "--allow-empty", "-m", f"Rest {n}")
    return folder


def test_no_stale_note_is_served_and_hardly_a_fresh_one_withheld(
    clones: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.jsonl"
    result = measured(
        "truth", "--repos", str(clones), "--notes", "100", "--disagreements", str(wrong)
    )
    found = result["facts"]
    told = wrong.read_text(encoding="utf-8")
    assert found["contradictions of the truth"] == []
    assert found["check and get differ"] == []
    assert found["not written"] == {}
    assert found["pooled"]["judged"] > 0.9 * found["pooled"]["notes"] > 1_000
    assert found["pooled"]["stale_served"] == found["pooled"]["wrong_place"] == 0, told
    assert found["move"]["withheld_percent"] <= 2.0, told
    assert found["edit"]["withheld_percent"] <= 1.0, told
    assert found["history"]["withheld_percent"] <= 1.0, told
    assert found["verdicts"]["edited -> changed"] >= 20
    assert found["verdicts"]["deleted -> gone"] >= 1
    assert found["history"]["judged"] >= 60
    assert found["causes"]["symbol, same (file changed)"] >= 20
    missing = [line for line in found["not run"] if "is not installed" not in line]
    assert missing == []
    rows = {row["change"] for row in result["rows"]}
    assert {"history: 10 commits", "move: files renamed", "edit: tokens edited"} <= rows
    assert git(clones / "shelves", "status", "--short") == ""


def judged(state: State, freshness: str, *, name: str = "", seen: str | None = None) -> Judged:
    """A verdict on a symbol at line 5 of a file, made up."""
    places = frozenset({("a.py", 5)}) if state in ("same", "moved") else frozenset()
    return Judged(
        repository="made up",
        language="python",
        group="history",
        change="10 commits",
        place=Place("symbol", "a.py", 5, 9, Wanted("A.put", 1, 5, 9)),
        seen=Seen(freshness, "a.py", 5, 9, seen),
        truth=Truth(state, "file changed", places, name),
    )


@pytest.mark.parametrize("state", ["edited", "deleted", "renamed"])
@pytest.mark.parametrize("freshness", ["fresh", "moved"])
def test_a_stale_note_that_is_served_breaks_the_bar(state: State, freshness: str) -> None:
    good = [judged("same", "fresh")] * 2_000 + [judged("edited", "changed")] * 50
    assert facts(good)["bars"]["history"].startswith("held")
    found = facts([*good, judged(state, freshness, name="store")])
    assert found["pooled"]["stale_served"] == 1
    assert found["bars"]["history"].startswith("broken")


@pytest.mark.parametrize("freshness", ["changed", "gone", "other-branch"])
def test_fresh_notes_that_are_withheld_break_the_bar_above_one_in_a_hundred(
    freshness: str,
) -> None:
    good = [judged("same", "fresh")] * 990
    found = facts([*good, *[judged("moved", freshness)] * 10])
    assert found["pooled"]["withheld_percent"] == 1.0
    assert found["bars"]["history"].startswith("held")
    found = facts([*good, *[judged("same", freshness)] * 11])
    assert found["pooled"]["fresh_withheld"] == 11
    assert found["bars"]["history"].startswith("broken")


def test_a_fresh_note_shown_at_another_place_is_counted() -> None:
    one = judged("same", "fresh")
    elsewhere = Judged(
        *(getattr(one, name) for name in ("repository", "language", "group", "change", "place")),
        seen=Seen("fresh", "a.py", 7, 11),
        truth=one.truth,
    )
    found = facts([one, elsewhere])
    assert found["pooled"]["wrong_place"] == 1
    assert found["faults"] == {"wrong place: history, symbol, same (file changed) -> fresh": 1}


def test_a_renamed_symbol_may_be_withheld_or_shown_by_its_new_name() -> None:
    for good in (
        judged("renamed", "gone", name="store"),
        judged("renamed", "moved", name="store", seen="A.store"),
    ):
        assert good.fault == ""
    assert judged("renamed", "moved", name="store", seen="A.keep").fault == "stale served"


def test_what_nobody_can_judge_counts_for_neither_side() -> None:
    found = facts(
        [judged("unjudged", "fresh"), judged("unjudged", "gone"), judged("same", "fresh")]
    )
    assert found["pooled"]["notes"] == 3
    assert found["pooled"]["judged"] == found["pooled"]["fresh"] == 1
    assert found["not judged"] == {"file changed": 2}


@pytest.mark.parametrize(
    ("path", "equal", "old", "new"),
    [
        ("a.py", True, "def f(x):\n    return x\n", "def f( x ):\n    # why\n    return (x)\n"),
        ("a.py", False, "def f(x):\n    return x\n", "def f(x):\n    return -x\n"),
        ("a.py", False, "@a\ndef f(x):\n    pass\n", "@b\ndef f(x):\n    pass\n"),
        ("a.py", True, 'def f():\n    """One\n    two."""\n', 'def f():\n  """One two."""\n'),
        ("a.py", False, 'def f():\n    """One."""\n', 'def f():\n    """Two."""\n'),
        ("a.go", True, "func f() int {\n\treturn 1\n}\n", "func f() int { // why\n return 1\n}\n"),
        ("a.go", False, "func f() int {\n\treturn 1\n}\n", "func f() int {\n\treturn 2\n}\n"),
        (
            "a.java",
            False,
            "class A {\n  @X void f() { g(); }\n}\n",
            "class A { void f() { g(); } }\n",
        ),
        ("a.rs", False, '#[a]\nfn f() { g("x y") }\n', '#[a]\nfn f() { g("x  y") }\n'),
        ("a.c", True, "#define f(x) (x)\nint a;\n", "#define f(x) (x)\nint b;\n"),
        (
            "a.js",
            False,
            "const f = (a) => {\n  return a\n}\n",
            "const f = (a) => {\n  return !a\n}\n",
        ),
        ("a.rb", False, "class A\n  def f\n    1\n  end\nend\n", "class A\n  def f\n  end\nend\n"),
    ],
)
def test_the_second_opinion_tells_an_edit_from_a_new_layout(
    path: str, equal: bool, old: str, new: str
) -> None:
    (found, *_) = read(old, language_of(path)).named("f")
    lines = (found.start_line, found.end_line)
    name = ".".join([*(["A"] if "A" in found.scope else []), "f"])
    place = Place("symbol", path, *lines, Wanted(name, 1, *lines))
    truth = Comparison(Tree({path: old}), Tree({path: new}), {}, {}).truth(place)
    assert truth.state == ("same" if equal else "edited")


def became(path: str, old: str, new: str, *, line: int = 0, to: str = "") -> Truth:
    """What has become of `f` in a file, or of one line of it that git calls touched."""
    truth_layout.forget()
    to = to or path
    (found, *_) = read(old, language_of(path)).named("f")
    lines = (found.start_line, found.end_line)
    wanted = Wanted("f", 1, *lines)
    place = Place("lines", path, line, line, wanted) if line else Place(
        "symbol", path, *lines, wanted
    )  # fmt: skip
    diffs = {path: Diff(to, ((line, 1, line, 1),))}
    return Comparison(Tree({path: old}), Tree({to: new}), diffs, diffs).truth(place)


LAYOUTS = [
    ("a.go", "func f() {\n\tif (ok) {\n\t}\n}\n", "func f() {\n\tif ok {\n\t}\n}\n"),
    ("a.rs", "fn f() {\n    g(|e| { h(e) })\n}\n", "fn f() {\n    g(|e| h(e))\n}\n"),
    ("a.js", "const f = n => c => (c ? n : 1);\n", "const f = (n) => (c) => c ? n : 1;\n"),
    ("a.tsx", "type f = { a: 1, b: 2 };\n", "type f = {\n  a: 1;\n  b: 2;\n};\n"),
]
EDITS = (("ok", "no"), ("h(e)", "k(e)"), ("1", "2"))


def edited(text: str) -> str:
    """One of the layouts with another meaning."""
    for old, new in EDITS:
        text = text.replace(old, new)
    return text


def has_formatter(path: str, text: str) -> bool:
    """Tell whether this machine has one for such a file.

    Where it has none, `test_without_a_formatter_a_new_layout_is_not_judged_and_an_edit_is` holds.
    """
    truth_layout.forget()
    try:
        truth_layout.laid_out(path, text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(("path", "old", "new"), LAYOUTS)
def test_two_layouts_are_told_from_an_edit_by_the_formatter_of_the_language(
    path: str, old: str, new: str
) -> None:
    bodies = {read(text, language_of(path)).named("f")[0].body for text in (old, new)}
    assert len(bodies) == 2
    if path == "a.go":
        old, new = f"package a\n\n{old}", f"package a\n\n{new}"
    if not has_formatter(path, old):
        return
    (line,) = {n for n, text in enumerate(new.split("\n"), 1) if "f" in text and "if" not in text}
    assert became(path, old, new) == Truth("same", LAID_OUT, frozenset({(path, line)}))
    assert became(path, old, edited(new)).state == "edited"
    other = became(path, old, new, to=f"b{path}")
    assert other == Truth("moved", LAID_OUT, frozenset({(f"b{path}", line)}))


@pytest.mark.parametrize(("path", "old", "new"), LAYOUTS[1:])
def test_whole_files_are_compared_in_one_layout(path: str, old: str, new: str) -> None:
    if not has_formatter(path, old):
        return
    place, diffs = Place("file", path), {path: Diff(f"b{path}")}
    for to, state in ((path, "same"), (f"b{path}", "moved")):
        truth = Comparison(Tree({path: old}), Tree({to: new}), diffs, diffs).truth(place)
        assert truth == Truth(state, LAID_OUT, frozenset({(to, 0)}))
    other = Tree({path: edited(new)})
    assert Comparison(Tree({path: old}), other, {}, {}).truth(place).state == "edited"


@pytest.mark.parametrize(("path", "old", "new"), LAYOUTS[1:])
def test_lines_in_a_definition_that_was_laid_out_anew_are_not_judged(
    path: str, old: str, new: str
) -> None:
    if not has_formatter(path, old):
        return
    line = 2 if path == "a.rs" else 1
    assert became(path, old, new, line=line).state == "unjudged"
    assert became(path, old, edited(new), line=line).state == "edited"


PHP = "<?php\nfunction f() {\n  if ($a) return 1;\n}\n"


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [("a.php", PHP, PHP.replace("return 1;", "{ return 1; }")), *LAYOUTS[1:3]],
)
def test_without_a_formatter_a_new_layout_is_not_judged_and_an_edit_is(
    monkeypatch: pytest.MonkeyPatch, path: str, old: str, new: str
) -> None:
    monkeypatch.setenv("PATH", "")
    assert became(path, old, new) == Truth("unjudged", "layout may differ")
    assert became(path, old, edited(new)).state == "edited"


@pytest.mark.parametrize("path", ["a.go", "a.rs", "a.ts"])
def test_a_text_that_its_formatter_refuses_is_known_by_that(path: str) -> None:
    good = {"a.go": "package a\n", "a.rs": "fn f() {}\n", "a.ts": "f();\n"}[path]
    if not has_formatter(path, good):
        return
    truth_layout.prepare([(path, f"{good}((\n"), (path, f"\n\n{good}")])
    assert truth_layout.laid_out(path, f"\n\n{good}") == good
    with pytest.raises(ValueError, match="no formatter"):
        truth_layout.laid_out(path, f"{good}((\n")


def test_a_copy_left_in_the_file_does_not_make_an_edit_unclear() -> None:
    body = "  $x = strtolower($x);\n  return $x + 1;\n"
    old = "".join(f"class {c} {{\nfunction f($x) {{\n{body}}}\n}}\n" for c in "AB")
    new = f"<?php\n{old.replace('+ 1', '+ 2', 1)}"
    place = Place("symbol", "a.php", 3, 6, Wanted("A.f", 1, 3, 6))
    trees = [Tree({"a.php": f"<?php\n{old}"}), Tree({"a.php": new})]
    assert Comparison(*trees, {}, {}).truth(place).state == "edited"


def test_a_comment_that_go_acts_upon_counts() -> None:
    def whole(comment: str) -> str:
        return read(f"{comment}\n\npackage a\n", "go").whole

    assert whole("//go:build linux") != whole("//go:build windows")
    assert whole("// For linux") == whole("// For windows")


def test_a_macro_above_a_definition_in_c_is_not_taken_for_a_part_of_it() -> None:
    old = "namespace d {\n\nstruct f {\n  int a;\n};\n}\n"
    for macro in ("BEGIN_DETAIL", "PUSH(options)"):
        new = f"{macro}\n\nstruct f {{\n  int a;\n}};\n"
        assert became("a.h", old, new) == Truth("unjudged", "a macro stands above it")
        assert became("a.h", old, new.replace("int", "long")).state == "edited"
    test = "TEST(set, f) {\n  g(1);\n}\n"
    assert became("a.cc", test, f"END\n\n{test}").state == "unjudged"
    assert became("a.cc", test, test.replace("TEST", "TEST_F")).state == "edited"


def test_lines_are_followed_by_what_git_says_of_them() -> None:
    diff = Diff("a.py", ((3, 2, 3, 0), (10, 0, 9, 4), (20, 1, 22, 1)))
    assert diff.lines(1, 2) == 1
    assert diff.lines(2, 3) is None
    assert diff.lines(5, 9) == 3
    assert diff.lines(10, 11) is None
    assert diff.lines(11, 12) == 13
    assert diff.lines(20, 20) is None
    assert diff.lines(21, 30) == 23


def test_a_folder_without_clones_ends_with_a_sentence(tmp_path: Path) -> None:
    done = bench("truth", "--repos", str(tmp_path))
    assert done.returncode == 3
    assert "There is no git repository" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("search", "--records", "1000,500"), "sizes must grow"),
        (("durability", "--kills", "0"), "must be at least 1"),
        (("start", "--embedder", "none"), "invalid choice: 'none'"),
        (("index",), "--repo"),
        (("truth",), "--repos"),
        (("truth", "--repos", "nowhere", "--distance", "100,10"), "must grow"),
        (("nothing",), "invalid choice: 'nothing'"),
    ],
)
def test_wrong_options_end_with_a_sentence_and_status_two(
    arguments: tuple[str, ...], complaint: str
) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


KINDS = ("short", "issue")
