"""What the scrubber masks, what it leaves alone, and what it costs."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum.redact import MAX_SAID, Redaction, redact, redact_said
from tests.corpora.lookalikes import LOOKALIKES
from tests.corpora.secrets import BODY, HELD_OUT, HEX, MIXED, PLACED, PW, TOKENS

SURROUNDINGS = ("{}", "see {} now", '"{}"', "\\n{}", "key={},", "%3D{}", "({})")


@pytest.mark.parametrize(("kind", "token"), TOKENS)
def test_a_token_is_masked_wherever_it_stands(kind: str, token: str) -> None:
    for surrounding in SURROUNDINGS:
        redaction = redact(surrounding.format(token))
        assert token not in redaction.text
        assert kind in redaction.kinds


@pytest.mark.parametrize("hidden", ["\u200b", "\xad", "\x01", "\u2060", "\ufeff"])
def test_a_token_with_hidden_characters_inside_is_masked(hidden: str) -> None:
    token = "ghp_" + "Q7w6" * 9
    found = redact(f"one{hidden} line\nuse {token[:9]}{hidden}{token[9:]} here\n")
    assert found.kinds == ("github-token",)
    assert token[9:] not in found.text
    assert found.text.count("\n") == 2


def test_hidden_characters_stay_where_they_hide_nothing() -> None:
    text = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 ghp\u200b soft\xadhyphen"
    assert redact(text).text == text


@pytest.mark.parametrize("name", ["br-{}", "x_{}.py", "proj.{}", "a-b_{}/c"])
@pytest.mark.parametrize(
    "token",
    [
        "gh" + f"p_{MIXED[:36]}",
        "github" + f"_pat_{MIXED[:22]}_{MIXED[:59]}",
        "gl" + f"pat-{MIXED[:20]}",
        "xo" + f"xb-123456789012-{MIXED[:24]}",
        "sk-" + f"ant-api03-{MIXED[:80]}-AA",
        "AK" + "IAQ7W3E5R2T6Y4U7I2",
        "sk_" + f"live_{MIXED[:24]}",
    ],
)
def test_a_token_is_masked_as_the_last_part_of_a_name(token: str, name: str) -> None:
    assert token not in redact(name.format(token)).text


@pytest.mark.parametrize(
    "name",
    [
        "test_ghp_tokens_are_masked_when_they_stand_in_a_file_2",
        "test_github_pat_is_masked_in_every_output_v2",
        "how-to-find-glpat-and-other-tokens-of-2024",
        "ric-xapp-monitoring-1-0-chart",
        "cache-key-" + HEX[:32],
        "locale-sk-" + HEX[:20] + ".js",
    ],
)
def test_words_that_go_on_behind_the_prefix_of_a_token_stay(name: str) -> None:
    assert redact(name) == Redaction(name, ())


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


def test_what_is_said_of_a_call_is_masked_and_loses_its_middle() -> None:
    token = "gh" + "p_" + "a1B2" * 9
    long = f"No file {'x' * (MAX_SAID - 110)}/{token}{'y' * 900} is here."
    said = redact_said({"message": long, "similar": [token, "near"], "retryable": False})
    assert said["similar"] == ["[REDACTED:github-token]", "near"]
    assert said["retryable"] is False
    assert len(said["message"]) == MAX_SAID
    assert said["message"].startswith("No file xx")
    assert said["message"].endswith("yy is here.")
    assert redact_said("x" * MAX_SAID) == "x" * MAX_SAID


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
    "-xoxb-",
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
