"""Stamps of versions, a hybrid logical clock: all machines agree which of two is newer; pure.

A stamp is 34 digits: the milliseconds since 1970 of the change, 15 digits, then the home that made
it as a number, 19 digits. A change is always later than the version it changes, even where that one
came from a clock ahead (`later`), so the clock is physical time where clocks agree and a counter
where they do not, as in Kulkarni et al., "Logical Physical Clocks" (2014). Digits of one length
sort alike as text in Python, SQLite and Lua, whose order of letters hangs on the locale.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

STAMP = re.compile(r"[0-9]{34}")
HOME = re.compile(r"[a-z2-7]{12}")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def stamp_of(updated_at: str, home: str) -> str:
    """Return the stamp of a version that the home (12 base32 characters) made at a time."""
    since = datetime.fromisoformat(updated_at) - _EPOCH
    number = 0
    for character in home:
        number = number * 32 + _ALPHABET.index(character)
    return f"{max(0, since // timedelta(milliseconds=1)):015d}{number:019d}"


def home_of(stamp: str) -> str:
    """Return the home that a stamp names."""
    number, letters = int(stamp[15:]), []
    for _ in range(12):
        number, digit = divmod(number, 32)
        letters.append(_ALPHABET[digit])
    return "".join(reversed(letters))


def later(updated_at: str, now: str) -> str:
    """Return the time of a change made `now` to a version of `updated_at`: later than both were."""
    after = datetime.fromisoformat(updated_at) + timedelta(milliseconds=1)
    return max(now, after.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
