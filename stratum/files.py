"""The files of a working tree as they stand at this moment: text, blob id, outline.

Owns reading and a small cache keyed by stat; knows no SQL. What is known of a content from the
index comes in as a function.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from stratum import git, tree
from stratum.freshness import CurrentFile, judge
from stratum.grammars import language_of
from stratum.models import Anchor, Note, Outline, Skipped, Verdict
from stratum.outline import outline

_CACHED_TEXTS, _CACHED_OUTLINES = 256, 16

Key = TypeVar("Key")
Value = TypeVar("Value")
KnownOutline = Callable[[str, str], Outline | None]  # (blob, language) -> outline


class Files:
    """Reads files below `root`; `known` gives the outline of a content that was parsed before."""

    def __init__(self, root: Path, max_bytes: int, known: KnownOutline) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._known = known
        self._texts: dict[str, tuple[tree.Stamp, str, str]] = {}
        self._outlines: dict[tuple[str, str], Outline] = {}

    def content(self, path: str) -> tuple[str, str] | None:
        """Return text and blob id of a file, None when there is none that can be read."""
        begun = time.time_ns()
        try:
            stamp = tree.Stamp.of((self._root / path).stat())
        except (OSError, ValueError):
            return None
        cached = self._texts.get(path)
        if cached is not None and cached[0] == stamp:
            return cached[1], cached[2]
        # a file that grew beyond the bound after a note was made on it is still judged
        bound = max(stamp.size, self._max_bytes)
        found = tree.read_text(self._root, path, max_bytes=bound)
        if isinstance(found, Skipped):
            return None
        text, raw = found
        blob = git.blob_id(raw)
        if stamp.settled(begun):
            _keep(self._texts, path, (stamp, text, blob), _CACHED_TEXTS)
        return text, blob

    def outline(self, path: str, text: str, blob: str) -> Outline:
        """Return the outline of a content: from the index if it was ever parsed, else anew."""
        language = language_of(path, text)
        found = self._outlines.get((blob, language))
        if found is None:
            found = self._known(blob, language) or outline(text, language)
            _keep(self._outlines, (blob, language), found, _CACHED_OUTLINES)
        return found

    def verdicts(self, note: Note) -> tuple[Verdict, ...]:
        """Judge each anchor of a note against the file it names."""
        return tuple(judge(anchor, self._current(anchor)) for anchor in note.anchors)

    def _current(self, anchor: Anchor) -> CurrentFile | None:
        found = self.content(anchor.path)
        if found is None:
            return None
        text, blob = found
        if blob == anchor.blob or not anchor.symbol:
            return CurrentFile(blob, text, Outline("", 0, "", ()))
        return CurrentFile(blob, text, self.outline(anchor.path, text, blob))


def _keep(cache: dict[Key, Value], key: Key, value: Value, most: int) -> None:
    """Put an entry into a cache of at most `most`; the oldest makes room for it."""
    while len(cache) >= most:
        with contextlib.suppress(KeyError, StopIteration, RuntimeError):  # another thread did
            del cache[next(iter(cache))]
    cache[key] = value
