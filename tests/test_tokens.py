from __future__ import annotations

import json
import random
import string
import sysconfig
import traceback
import unicodedata
from pathlib import Path

import pytest
import toktok
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stratum.tokens import count_tokens, cut_to_tokens


def real_counts(texts: list[str]) -> list[int]:
    counts: list[int] = toktok.batch_count(texts, "o200k_base")
    return counts


def chunks_of(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text) - size + 1, size)]


def source_files() -> list[str]:
    library = Path(sysconfig.get_paths()["stdlib"])
    names = ("argparse", "asyncio/tasks", "ast", "datetime", "email/message", "pathlib", "tarfile")
    found = [library / f"{name}.py" for name in names]
    return [path.read_text(encoding="utf-8") for path in found if path.is_file()]


def stack_trace() -> str:
    try:
        json.loads("{")
    except ValueError:
        return traceback.format_exc()
    return ""


PROSE = """The session store deletes expired rows in a background task. When the task is \
interrupted, the next run goes on where the last one stopped, so nothing is lost and nothing is \
deleted twice. We decided against a trigger, because a trigger would hold the write lock while it \
scans the whole table. If you change the expiry, remember that the cookie carries its own date.
"""

NATURAL = {
    "English prose": PROSE,
    "a stack trace": stack_trace(),
    "JSON": json.dumps({f"key_{n}": [n, str(n), None, n / 7] for n in range(40)}, indent=2),
    "compact JSON": json.dumps([{"id": n, "name": f"user{n}", "ok": True} for n in range(60)]),
    "hexadecimal": random.Random(1).randbytes(400).hex(),
    "markdown": "# Title\n\n- `a.b.c` does **this**, see [docs](https://example.org/x?y=1#z)\n" * 9,
    "a diff": "--- a/x.py\n+++ b/x.py\n@@ -1,4 +1,5 @@\n def f(self, *args):\n-    pass\n+    ok\n"
    * 5,
    "a table": "| name | size |\n|------|-----:|\n| foo  |   12 |\n" * 8,
    "Chinese": "会话存储会在后台任务中删除过期的行。任务中断后会从上次停止的地方继续。" * 3,
    "Japanese": "セッションストアはバックグラウンドのタスクで期限切れの行を削除します。" * 3,
    "Korean": "세션 저장소는 백그라운드 작업에서 만료된 행을 삭제합니다. " * 3,
    "Russian": "Хранилище сеансов удаляет устаревшие строки в фоновой задаче. " * 3,
    "German": "Die Änderungen an den Sitzungen müssen regelmäßig überprüft und gelöscht werden. "
    * 3,
    "Arabic": "يحذف مخزن الجلسات الصفوف المنتهية في مهمة خلفية ثم يتابع من حيث توقف. " * 3,
    "Hindi": "सत्र भंडार पृष्ठभूमि कार्य में समाप्त पंक्तियों को हटा देता है और फिर जारी रहता है। " * 3,
    "emoji": "🙂🚀✅❌🔥 done 👩‍💻 🇩🇪 👍🏽 " * 8,
}


@pytest.mark.parametrize("kind", NATURAL)
def test_natural_text_is_never_undercounted(kind: str) -> None:
    (real,) = real_counts([NATURAL[kind]])
    assert count_tokens(NATURAL[kind]) >= real


@pytest.mark.parametrize("size", [200, 1000])
def test_source_code_is_never_undercounted_and_not_by_much_overcounted(size: int) -> None:
    chunks = [chunk for text in source_files() for chunk in chunks_of(text, size)]
    assert len(chunks) > 300
    ratios = [
        count_tokens(chunk) / real for chunk, real in zip(chunks, real_counts(chunks), strict=True)
    ]
    assert min(ratios) >= 1.0
    assert sum(ratios) / len(ratios) <= 1.5


def test_english_prose_is_not_by_much_overcounted() -> None:
    (real,) = real_counts([PROSE])
    assert count_tokens(PROSE) <= 1.5 * real


@pytest.mark.parametrize("digits", range(1, 20))
def test_digits_are_counted_exactly_but_for_the_margin_of_one(digits: int) -> None:
    text = "7" * digits
    (real,) = real_counts([text])
    assert count_tokens(text) == real + 1


def test_the_empty_text_costs_nothing_and_any_other_costs_something() -> None:
    assert count_tokens("") == 0
    assert all(count_tokens(chr(code)) > 0 for code in range(0x3000))


ALPHABETS = {
    "letters": string.ascii_letters,
    "capitals": string.ascii_uppercase,
    "marks": string.punctuation,
    "white space": string.whitespace,
    "anything typed": string.printable,
    "base64": string.ascii_letters + string.digits + "+/=",
    "control characters": "".join(map(chr, range(32))),
    "Latin": "".join(map(chr, range(0xA1, 0x250))),
    "Greek and Cyrillic": "".join(map(chr, range(0x370, 0x530))),
    "Hebrew to Tibetan": "".join(map(chr, range(0x5D0, 0xFFF))),
    "kana": "".join(map(chr, range(0x3041, 0x30FF))),
    "Han": "".join(map(chr, range(0x4E00, 0x9FFF))),
    "Hangul": "".join(map(chr, range(0xAC00, 0xD7A3))),
    "dashes and quotes": "".join(map(chr, range(0x2000, 0x2070))),
    "emoji": "".join(map(chr, range(0x1F300, 0x1FAFF))) + "\u200d\ufe0f",
    "private use and tags": "".join(map(chr, (*range(0xE000, 0xE100), *range(0xE0020, 0xE0080)))),
}


@pytest.mark.parametrize("kind", ALPHABETS)
def test_text_made_to_deceive_is_never_undercounted(kind: str) -> None:
    chance = random.Random(kind)
    texts = ["".join(chance.choices(ALPHABETS[kind], k=chance.randint(1, 300))) for _ in range(300)]
    texts += [
        " ".join(
            "".join(chance.choices(ALPHABETS[kind], k=chance.randint(1, 9))) for _ in range(40)
        )
        for _ in range(100)
    ]
    for text, real in zip(texts, real_counts(texts), strict=True):
        assert real <= count_tokens(text), text


@settings(max_examples=1500, derandomize=True)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200))
@example("\x00" * 50)
@example("\x1c" * 50)
@example("\n \t" * 30)
@example("\u9f98\u9750\u9f49" * 20)
@example("\U000e0041" * 20)
def test_no_text_holds_more_tokens_than_are_counted(text: str) -> None:
    (real,) = real_counts([text])
    assert real <= count_tokens(text)


@settings(max_examples=800, derandomize=True)
@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789 ", max_size=300))
def test_random_lower_case_words_are_never_undercounted(text: str) -> None:
    (real,) = real_counts([text])
    assert real <= count_tokens(text)


CODE_LIKE = st.text(alphabet="aeqzAEQ01_.('\"-= \n\t/é漢🙂\u0301", max_size=150)


@settings(max_examples=2000)
@given(CODE_LIKE, CODE_LIKE)
@example("x" * 64, "x" * 64)
@example("\n" * 64, " " * 64)
@example("_sOhpgu", "xyzkAx")
def test_joining_texts_costs_at_most_one_more_than_the_parts(one: str, other: str) -> None:
    assert count_tokens(one + other) <= count_tokens(one) + count_tokens(other) + 1


@settings(max_examples=1000)
@given(st.one_of(CODE_LIKE, st.text(max_size=120)), st.integers(-2, 60))
def test_a_cut_text_fits_its_budget_and_is_the_beginning_of_the_text(
    text: str, budget: int
) -> None:
    cut = cut_to_tokens(text, budget)
    assert count_tokens(cut) <= max(budget, 0)
    if count_tokens(text) <= budget:
        assert cut == text
    elif cut:
        assert cut.endswith("…")
        assert text.startswith(cut[:-1])
        assert len(cut) > 1


@pytest.mark.parametrize("budget", [-5, 0])
def test_no_budget_gives_no_text(budget: int) -> None:
    assert cut_to_tokens("some text", budget) == ""


def test_the_empty_text_stays_empty() -> None:
    assert cut_to_tokens("", 10) == ""


def test_a_cut_falls_between_words() -> None:
    cut = cut_to_tokens(PROSE, 20)
    kept = cut.removesuffix("…")
    assert PROSE[len(kept)] == " "
    assert count_tokens(cut) > 15


def test_a_cut_falls_at_a_line_end_when_one_is_near() -> None:
    lines = "".join(f"line number {n} of the listing\n" for n in range(50))
    kept = cut_to_tokens(lines, 100).removesuffix("…")
    assert lines[len(kept)] == "\n"


@pytest.mark.parametrize("letter", ["q", "Q", "漢", "🙂", "!"])
def test_a_cut_uses_most_of_its_budget_even_inside_one_long_word(letter: str) -> None:
    cut = cut_to_tokens(letter * 10_000, 100)
    assert 90 <= count_tokens(cut) <= 100


@pytest.mark.parametrize(
    "cluster", ["e\u0301", "👩\u200d💻", "👍🏽", "🇩🇪", "❤\ufe0f", "\ud83d\ude42"]
)
@pytest.mark.parametrize("budget", range(4, 24))
def test_a_character_made_of_several_code_points_is_kept_whole(cluster: str, budget: int) -> None:
    kept = cut_to_tokens(cluster * 40, budget).removesuffix("…")
    assert len(kept) % len(cluster) == 0
    assert not kept or not unicodedata.category((cluster * 40)[len(kept)]).startswith("M")
