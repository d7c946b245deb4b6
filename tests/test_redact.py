"""What the scrubber masks, what it leaves alone, and what it costs."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum.redact import Redaction, redact
from tests.corpora.lookalikes import LOOKALIKES
from tests.corpora.secrets import BODY, HELD_OUT, MIXED, PLACED, PW, TOKENS

SURROUNDINGS = ("{}", "see {} now", '"{}"', "\\n{}", "key={},", "%3D{}", "({})")


@pytest.mark.parametrize(("kind", "token"), TOKENS)
def test_a_token_is_masked_wherever_it_stands(kind: str, token: str) -> None:
    for surrounding in SURROUNDINGS:
        redaction = redact(surrounding.format(token))
        assert token not in redaction.text
        assert kind in redaction.kinds


@pytest.mark.parametrize(("text", "secret"), PLACED + HELD_OUT)
def test_a_secret_is_masked_in_a_place_that_calls_it_one(text: str, secret: str) -> None:
    redaction = redact(f"first line\n{text}\nlast line")
    assert secret not in redaction.text
    assert redaction.text.startswith("first line\n")
    assert redaction.text.endswith("\nlast line")
    assert redaction.kinds


@pytest.mark.parametrize("text", LOOKALIKES)
def test_a_look_alike_stays_as_it_is(text: str) -> None:
    assert redact(text) == Redaction(text, ())


def test_look_alikes_stay_as_they_are_beside_each_other() -> None:
    text = "\n".join(LOOKALIKES)
    assert redact(text) == Redaction(text, ())


def test_the_corpora_are_as_large_as_promised() -> None:
    assert len({text for text, _ in PLACED} | {token for _, token in TOKENS}) >= 60
    assert len(set(LOOKALIKES)) >= 200


def test_only_the_value_is_masked_and_the_kinds_are_sorted() -> None:
    text = f'token = "{MIXED[:40]}"\npassword = "{PW}"  # of the old host\n'
    assert redact(text) == Redaction(
        'token = "[REDACTED:token]"\npassword = "[REDACTED:password]"  # of the old host\n',
        ("password", "token"),
    )


def test_the_kind_of_a_token_wins_over_that_of_its_place() -> None:
    token = "gh" + "p_" + "a1B2" * 9
    assert redact(f'api_key = "{token}"').text == 'api_key = "[REDACTED:github-token]"'


def test_a_private_key_leaves_its_line_ends_behind() -> None:
    head, end = "-----BEGIN " + "PRIVATE KEY-----", "-----END " + "PRIVATE KEY-----"
    text = f"a\n{head}\n{BODY}\n{BODY}\n{end}\nb"
    assert redact(text) == Redaction("a\n[REDACTED:private-key]\n\n\n\nb", ("private-key",))


def test_a_private_key_without_its_end_is_masked_up_to_the_next_words() -> None:
    head = "-----BEGIN RSA " + "PRIVATE KEY-----"
    text = f"{head}\n{BODY}\n{BODY}\nand this is prose"
    redaction = redact(text)
    assert BODY not in redaction.text
    assert redaction.text.endswith("\nand this is prose")
    assert redaction.text.count("\n") == text.count("\n")


def test_a_private_key_in_a_json_string_is_masked() -> None:
    head, end = "-----BEGIN " + "PRIVATE KEY-----", "-----END " + "PRIVATE KEY-----"
    text = '{"private_key": "' + f"{head}\\n{BODY}\\n{end}\\n" + '", "client_id": "1"}'
    redaction = redact(text)
    assert BODY not in redaction.text
    assert '"client_id": "1"' in redaction.text


def test_a_mask_in_the_text_stays_and_is_not_counted_again() -> None:
    text = f'password = "[REDACTED:password]" [REDACTED:jwt] password = "{PW}"'
    assert redact(text) == Redaction(
        'password = "[REDACTED:password]" [REDACTED:jwt] password = "[REDACTED:password]"',
        ("password",),
    )


def test_letters_that_change_length_when_lowered_do_not_shift_the_mask() -> None:
    assert redact(f"İİİ ẞ PASSWORD={PW} İ").text == "İİİ ẞ PASSWORD=[REDACTED:password] İ"


@pytest.mark.parametrize("odd", ["\0", "\ud800", "\u200b", "\r", "\ufeff", "\u2028"])
def test_odd_characters_around_a_secret_do_not_hide_it(odd: str) -> None:
    assert PW not in redact(f'{odd}x\npassword = "{PW}"{odd}').text


LINE = st.text(alphabet=st.characters(), max_size=60)
PIECES = st.sampled_from(
    [
        *(token for _, token in TOKENS),
        *(text for text, _ in PLACED),
        *LOOKALIKES,
        *("password", "token", "=", ": ", '"', "'", "\\", "\n", " is ", "://", "@", "--", "-u "),
        *("a:", "[REDACTED:", "[REDACTED:password]", "]", "eyJ", "-----BEGIN ", "ghp_"),
        "PRIVATE KEY-----",
    ]
)  # fmt: skip
MADE = st.lists(st.one_of(PIECES, LINE), max_size=12).map("".join)


@settings(deadline=None, max_examples=300)
@given(MADE)
def test_a_second_run_changes_nothing_and_line_ends_are_kept(text: str) -> None:
    once = redact(text)
    assert redact(once.text).text == once.text
    assert once.text.count("\n") == text.count("\n")
    assert list(once.kinds) == sorted(set(once.kinds))
    assert (once.text == text) == (not once.kinds)


@settings(deadline=None, max_examples=200)
@given(LINE, st.sampled_from(TOKENS), LINE)
def test_a_token_between_lines_of_any_text_is_gone(
    before: str, planted: tuple[str, str], after: str
) -> None:
    kind, token = planted
    redaction = redact(f"{before}\n{token}\n{after}")
    assert token not in redaction.text
    assert kind in redaction.kinds


@settings(deadline=None, max_examples=200)
@given(LINE, st.sampled_from(PLACED), LINE)
def test_a_placed_secret_between_lines_of_any_text_is_gone(
    before: str, planted: tuple[str, str], after: str
) -> None:
    text, secret = planted
    if secret not in before + after:
        assert secret not in redact(f"{before}\n{text}\n{after}").text


HOSTILE = (
    "token=",
    "password ",
    "password is ",
    'password="',
    "pass='",
    "eyJ",
    "eyJaaaaaaaaaa.",
    "://a:",
    "://a:b@",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nAAAAAAAAAAAAAAAAAAAAAAAA\n",
    "cookie: sid=",
    "curl ",
    "mysql -p",
    "authorization: ",
    "cred ",
    "login a/",
    "a.",
    ":AA",
    "-us1",
    "sk-",
    "_a1b2c3d4e5f6a7b8c9d0ghp_",
    "key\n ",
    "x:5432:",
    "[REDACTED:password]",
    '[REDACTED:x]password="',
    'password="$' + "a" * 1_900 + '!"\n',
    "password={" + "a" * 1_900 + "\n",
    "secret=" + "a-" * 900 + "!1 ",
    "://" + "a" * 60 + ":" + "b" * 250 + " ",
)


@pytest.mark.parametrize("piece", HOSTILE)
def test_four_times_the_hostile_text_costs_far_less_than_sixteen_times_the_work(piece: str) -> None:
    short = piece * (20_000 // len(piece))

    def cost(text: str) -> float:
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            redact(text)
            best = min(best, time.process_time() - start)
        return best

    # Linear work gives 4, quadratic 16; the floor keeps the clock's grain out of the ratio.
    assert cost(short * 4) < 9 * max(cost(short), 0.002)
