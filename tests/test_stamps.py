from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from stratum.stamps import HOME, STAMP, home_of, later, stamp_of

TIMES = st.datetimes(datetime(1970, 1, 1), datetime(9998, 12, 31)).map(
    lambda when: when.replace(tzinfo=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
)
HOMES = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=12, max_size=12)


@given(TIMES, HOMES)
def test_a_stamp_is_34_digits_and_names_its_home(at: str, home: str) -> None:
    stamp = stamp_of(at, home)
    assert STAMP.fullmatch(stamp)
    assert HOME.fullmatch(home)
    assert home_of(stamp) == home


@given(TIMES, TIMES, HOMES, HOMES)
def test_stamps_sort_as_text_by_time_and_then_by_home(a: str, b: str, one: str, two: str) -> None:
    if a != b:
        assert (stamp_of(a, one) < stamp_of(b, two)) == (a < b)
    else:
        assert (stamp_of(a, one) == stamp_of(a, two)) == (one == two)


@given(TIMES, TIMES)
def test_a_change_is_later_than_what_it_changes_and_not_before_now(before: str, now: str) -> None:
    after = later(before, now)
    assert after > before
    assert after >= now


def test_a_clock_behind_still_makes_later_changes() -> None:
    ahead = "2026-01-01T12:00:00.000Z"
    behind = "2026-01-01T11:00:00.000Z"
    assert later(ahead, behind) == "2026-01-01T12:00:00.001Z"


def test_the_time_of_a_stamp_is_milliseconds_since_1970() -> None:
    at = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    stamp = stamp_of("2026-01-31T09:30:00.000Z", "aaaaaaaaaaaa")
    assert timedelta(milliseconds=int(stamp[:15])) == at - datetime(1970, 1, 1, tzinfo=UTC)
    assert int(stamp[15:]) == 0
