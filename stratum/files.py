"""The files of a working tree as they stand at this moment: text, blob id, outline.

Owns reading and small caches keyed by stat; knows no SQL. What is known of a content from the index
comes in as a function, or as the entry that the index has of a file.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from stratum import git, tree
from stratum.freshness import lines_hash
from stratum.grammars import has_grammar, language_of
from stratum.models import Outline, Skipped, Symbol
from stratum.outline import body_hash, outline

_CACHED_TEXTS, _CACHED_OUTLINES, _CACHED_BLOBS = 256, 64, 20_000

_CONFLICT = re.compile(r"^<<<<<<< .*?^=======$.*?^>>>>>>> ", re.MULTILINE | re.DOTALL)
# In these a second definition of a name is no overload: it hides the first. Not so in JavaScript,
# where many functions without a name define the same names, each for itself.
_REDEFINING = frozenset(("python", "ruby", "php", "lua"))

Key = TypeVar("Key")
Value = TypeVar("Value")
KnownOutline = Callable[[str, str], Outline | None]  # (blob, language) -> outline


class FileContent:
    """One content of a file, read and parsed when asked for; see `freshness.Content`."""

    def __init__(self, files: Files, path: str, blob: str, text: str | None = None) -> None:
        self._files = files
        self._path = path
        self._text = text
        self._known: dict[str, Sequence[Symbol]] = {}
        self._sound = False
        self.blob = blob

    def text(self) -> str:
        """Return the text; "" when the file vanished since its blob id was looked up."""
        if self._text is None:
            found = self._files.content(self._path)
            self._text, self.blob = found or ("", "")
        return self._text

    def outline(self) -> Outline:
        """Return what the content defines."""
        return self._files.outline(self._path, self.text(), self.blob)

    def know(self, name: str, definitions: Sequence[Symbol], *, sound: bool) -> None:
        """Take over from the index what the content defines under a name, and if it parsed well."""
        self._known[name] = definitions
        self._sound = sound

    def symbols(self) -> Sequence[Symbol]:
        """Return all definitions, in order."""
        return self.outline().symbols

    @property
    def redefines(self) -> bool:
        """Whether a later definition of a name takes the place of an earlier one."""
        return language_of(self._path) in _REDEFINING

    @property
    def in_conflict(self) -> bool:
        """Whether a merge left its marks; these never parse well."""
        if self._sound and self._text is None:
            return False
        text = self.text()
        return "<<<<<<< " in text and bool(_CONFLICT.search(text))

    def definitions(self, name: str) -> Sequence[Symbol]:
        """Return the definitions of a qualified name, in order."""
        if name in self._known:
            return self._known[name]
        return [symbol for symbol in self.outline().symbols if symbol.name == name]

    def token_hash(self) -> str:
        """Return the hash of the whole content in which formatting does not count."""
        text = self.text()
        language = language_of(self._path, text)
        if has_grammar(language) and self.outline().complete:
            return body_hash(text, language)
        # no tokens are known: indentation may mean something, ends of lines do not
        return lines_hash(text.split("\n"))


class Files:
    """Reads files below `root`; `known` gives the outline of a content that was parsed before."""

    def __init__(self, root: Path, max_bytes: int, known: KnownOutline) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._known = known
        self._blobs: dict[str, tuple[tree.Stamp, str]] = {}
        self._texts: dict[str, tuple[tree.Stamp, str, str]] = {}
        self._outlines: dict[tuple[str, str], Outline] = {}

    def content(self, path: str) -> tuple[str, str] | None:
        """Return text and blob id of a file, None when there is none that can be read."""
        begun = time.time_ns()
        stamp = self._stamp(path)
        if stamp is None:
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
            _keep(self._blobs, path, (stamp, blob), _CACHED_BLOBS)
        return text, blob

    def _stamp(self, path: str) -> tree.Stamp | None:
        try:
            return tree.Stamp.of(os.lstat(f"{self._root}/{path}"))
        except (OSError, ValueError):
            return None

    def size(self, path: str) -> int:
        """Return the bytes of a file as it stands, 0 when there is none."""
        found = self._stamp(path)
        return found.size if found is not None else 0

    def is_as(self, path: str, stamp: tuple[int, int, int, int], blob: str) -> bool:
        """Tell whether a file still has the stamp, or else the content, that the index has."""
        found = self.standing(path, stamp, blob)
        return found is not None and found.blob == blob

    def standing(
        self, path: str, stamp: tuple[int, int, int, int] | None = None, blob: str = ""
    ) -> FileContent | None:
        """Return what stands at a path, None when nothing that can be read does.

        A file with the stamp that the index has of it has the blob id that the index has, and is
        not read.
        """
        now = self._stamp(path)
        if now is None:
            return None
        if now == stamp:
            return FileContent(self, path, blob)
        cached = self._blobs.get(path)
        if cached is not None and cached[0] == now:
            return FileContent(self, path, cached[1])
        found = self.content(path)
        return FileContent(self, path, found[1], found[0]) if found else None

    def stood(self, path: str, blob: str, raw: bytes) -> FileContent | None:
        """Return a content that once stood at a path; None when it is no text."""
        text = tree.decoded(raw)
        return None if text is None else FileContent(self, path, blob, text)

    def known_outline(self, path: str, blob: str) -> Outline | None:
        """Return the outline of a content that was parsed before, wherever it is now."""
        return self._known(blob, language_of(path))

    def outline(self, path: str, text: str, blob: str) -> Outline:
        """Return the outline of a content: from the index if it was ever parsed, else anew."""
        language = language_of(path, text)
        found = self._outlines.get((blob, language))
        if found is None:
            found = self._known(blob, language) or outline(text, language)
            _keep(self._outlines, (blob, language), found, _CACHED_OUTLINES)
        return found


def _keep(cache: dict[Key, Value], key: Key, value: Value, most: int) -> None:
    """Put an entry into a cache of at most `most`; the oldest makes room for it."""
    while len(cache) >= most:
        with contextlib.suppress(KeyError, StopIteration, RuntimeError):  # another thread did
            del cache[next(iter(cache))]
    cache[key] = value
