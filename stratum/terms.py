"""Text to search terms: identifiers in parts as well as whole, any script; pure.

Documents and queries go through the same function, so a term of a query that stands in a record is
always found. SQLite's own tokenizer then only folds diacritics and stems: see `store.TOKENIZER`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

# A word, or words joined by dots as in a module path.
_CHUNK = re.compile(r"\w+(?:\.\w+)*")
# Inside a word: an acronym before a capitalised part, a capitalised or lower-case part, digits.
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+|[A-Z]+")
# Scripts written without spaces between words: Thai to Khmer, kana, Han, Hangul, wide forms.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_OWN = ("self.", "this.", "cls.")  # says nothing about what is called
_LONGEST = 64  # a longer run is data (a digest, a data URI), not a word

# Words of issue templates and of English that carry no place; dropped from queries only.
STOP_WORDS = frozenset(
    "a about after all also an and any are as at be because been before but by can cannot "
    "could did do does doesn doing don for from had has have how i if in instead into is isn "
    "it its just me my no not of on only or our out over same should so some still such than "
    "that the their them then there these they this those to too up us use used using very "
    "was way we were what when where which while who why will with without would you your".split()
)


def terms(text: str) -> list[str]:
    """Return the terms of `text` in order, lower case, repeated as often as they occur."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    found: list[str] = []
    for chunk in _CHUNK.findall(text):
        found.extend(_expand(chunk))
    return found


def capped(text: str, *, most: int) -> list[str]:
    """Return each distinct term of `text`, repeated as often as it occurs but at most `most` times.

    BM25 hardly rewards further repetitions, and the bodies of source files are full of them.
    """
    counts = Counter(terms(text))
    return [term for term, count in counts.items() for _ in range(min(count, most))]


def query_terms(text: str) -> list[str]:
    """Return the distinct terms of a query, stop words dropped unless nothing else is left."""
    distinct = list(dict.fromkeys(terms(text)))
    telling = [term for term in distinct if term not in STOP_WORDS]
    return telling or distinct


def split_identifiers(text: str) -> str:
    """Return `text` with every compound identifier written in words, for an embedding model."""
    return " ".join(
        " ".join(_parts(chunk)) if _is_compound(chunk) else chunk for chunk in text.split()
    )


def similarity(left: Iterable[str], right: Iterable[str]) -> float:
    """Return the Jaccard index of two collections of terms, 0 to 1."""
    a, b = set(left), set(right)
    return len(a & b) / len(a | b) if a or b else 0.0


@lru_cache(maxsize=1 << 17)
def _expand(chunk: str) -> tuple[str, ...]:
    for prefix in _OWN:
        chunk = chunk.removeprefix(prefix)
    words = chunk.split(".")
    found: list[str] = []
    if len(words) > 1 and len(chunk) <= _LONGEST:
        found.append(chunk.lower())
    for word in words:
        found.extend(_word(word))
    return tuple(found)


def _word(word: str) -> list[str]:
    if _UNSPACED.search(word):
        return _unspaced(word)
    if len(word) > _LONGEST:
        return [word[:_LONGEST].lower()]
    whole = word.lower()
    parts = [part.lower() for part in _PART.findall(word)]
    if len(parts) < 2 and (not parts or parts[0] == whole):
        return [whole]
    return [whole, *parts]


def _unspaced(word: str) -> list[str]:
    """Characters and pairs of them: there is no word boundary to find without a dictionary."""
    found: list[str] = []
    position = 0
    for run in _UNSPACED.finditer(word):
        if run.start() > position:
            found.extend(_word(word[position : run.start()]))
        characters = run.group()
        found.extend(characters)
        found.extend(characters[i : i + 2] for i in range(len(characters) - 1))
        position = run.end()
    if position < len(word):
        found.extend(_word(word[position:]))
    return found


def _parts(chunk: str) -> list[str]:
    return _PART.findall(chunk) or [chunk]


def _is_compound(chunk: str) -> bool:
    return "_" in chunk or "." in chunk.strip(".") or not (chunk.islower() or chunk.istitle())
