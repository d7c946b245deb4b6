"""The files of a working tree as they stand at this moment: text, blob id, outline.

Owns reading and a small cache keyed by stat; knows no SQL. What is known of a content from the
index comes in as a function.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from stratum import git, tree
from stratum.freshness import CurrentFile, judge
from stratum.models import Anchor, Note, Outline, Skipped, Verdict
from stratum.outline import language_of, outline

# A file changed this shortly before it was read may change again within one tick of its clock.
RACY_NS = 2_000_000_000
_CACHED = 256

KnownOutline = Callable[[str, str], Outline | None]  # (blob, language) -> outline


class Files:
    """Reads files below `root`; `known` gives the outline of a content that was parsed before."""

    def __init__(self, root: Path, max_bytes: int, known: KnownOutline) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._known = known
        self._cache: dict[str, tuple[tuple[int, int, int], str, str]] = {}

    def content(self, path: str) -> tuple[str, str] | None:
        """Return text and blob id of a file, None when there is none that can be read."""
        try:
            stat = (self._root / path).stat()
        except (OSError, ValueError):
            return None
        key = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        cached = self._cache.get(path)
        if cached is not None and cached[0] == key:
            return cached[1], cached[2]
        # a file that grew beyond the bound after a note was made on it is still judged
        bound = max(stat.st_size, self._max_bytes)
        found = tree.read_text(self._root, path, max_bytes=bound)
        if isinstance(found, Skipped):
            return None
        text, raw = found
        blob = git.blob_id(raw)
        if time.time_ns() - stat.st_mtime_ns > RACY_NS:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            self._cache[path] = (key, text, blob)
        return text, blob

    def outline(self, path: str, text: str, blob: str) -> Outline:
        """Return the outline of a content: from the index if it was ever parsed, else anew."""
        language = language_of(path, text)
        return self._known(blob, language) or outline(text, language)

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
