"""The paths of a working tree, to be found by their words, by what a text calls them, by frames.

Pure: paths in, scores out. Built once for each state of a tree.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from stratum.question import Frame
from stratum.terms import terms

_LENGTH = 0.15  # by how much each word of a long path counts less
_MOST_ALIKE = 3  # paths that end alike beyond which a name with one folder means none of them
_OLDER_FRAME = 0.7  # a frame further from where it broke, compared with the next
# A module is called by its folder where the file itself has one of these names.
_UNSAID = frozenset(["__init__", "index", "mod", "lib", "main"])


class PathIndex:
    """Some paths; `stem` turns a term into what the full-text index makes of it."""

    def __init__(self, paths: Iterable[str], stem: Callable[[str], Sequence[str]]) -> None:
        self.paths = tuple(paths)
        self.known = frozenset(self.paths)
        self._stem = stem
        self._by_stem: dict[str, list[int]] = defaultdict(list)
        self._sizes: list[int] = []
        self._by_name: dict[str, list[int]] = defaultdict(list)
        self._by_module: dict[str, list[int]] = defaultdict(list)
        for number, path in enumerate(self.paths):
            stems = set(self._stems(terms(_without_suffix(path))))
            self._sizes.append(len(stems))
            for one in stems:
                self._by_stem[one].append(number)
            self._by_name[path.rpartition("/")[2]].append(number)
            self._by_module[_module(path)[-1]].append(number)

    def worded(self, asked: Iterable[str], most: int) -> dict[str, float]:
        """Return how telling the words are that a path shares with terms, of the `most` best."""
        count = len(self.paths)
        found: dict[int, float] = defaultdict(float)
        for one in dict.fromkeys(self._stems(asked)):
            among = self._by_stem.get(one, ())
            idf = math.log1p((count - len(among) + 0.5) / (len(among) + 0.5))
            for number in among:
                found[number] += idf
        scores = {
            self.paths[number]: score / (1 + _LENGTH * self._sizes[number])
            for number, score in found.items()
        }
        return dict(heapq.nlargest(most, scores.items(), key=lambda pair: (pair[1], pair[0])))

    def named(self, wanted: Iterable[str], dotted: Iterable[Sequence[str]]) -> dict[str, float]:
        """Return 1.0 for each path that a text gives with a folder, or as a dotted module."""
        found: dict[str, float] = {}
        for text in wanted:
            parts = [part for part in text.split("/") if part not in ("", ".", "..")]
            if parts:
                among = self._by_name.get(parts[-1], ())
                found.update(dict.fromkeys(self._ending(parts, among), 1.0))
        for chain in dotted:
            found.update(dict.fromkeys(self._modules(chain), 1.0))
        return found

    def framed(self, frames: Sequence[Frame]) -> dict[str, float]:
        """Return the paths that frames run through, 1.0 for the last one, earlier ones less."""
        found: dict[str, float] = {}
        worth = 1.0
        for frame in reversed(frames):
            parts = [part for part in frame.path.split("/") if part]
            here = self._ending(parts, self._by_name.get(parts[-1], ())) if parts else []
            for path in here:
                found.setdefault(path, worth)
            worth *= _OLDER_FRAME
        return found

    def _stems(self, wanted: Iterable[str]) -> list[str]:
        return [stem for term in wanted for stem in self._stem(term)]

    def _ending(self, parts: Sequence[str], among: Iterable[int]) -> list[str]:
        """Return the paths that share the longest end with a given one: two parts at least."""
        best = 2
        found: list[str] = []
        for number in among:
            own = self.paths[number].split("/")
            shared = _shared_end(parts, own)
            if shared == len(own) == 1 == len(parts):
                return [self.paths[number]]  # a file at the root has no folder to be called with
            if shared >= best:
                found = [*found, self.paths[number]] if shared == best else [self.paths[number]]
                best = shared
        return found if best > 2 or len(found) <= _MOST_ALIKE else []

    def _modules(self, chain: Sequence[str]) -> list[str]:
        """Return the modules that the longest beginning of a chain means, as `a.b` in `a.b.C.d`."""
        for end in range(len(chain), 1, -1):
            found = [
                self.paths[number]
                for number in self._by_module.get(chain[end - 1], ())
                if _shared_end(chain[:end], _module(self.paths[number])) >= min(end, 3)
            ]
            if found and len(found) <= _MOST_ALIKE:
                return found
        return []


def _without_suffix(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


def _module(path: str) -> list[str]:
    parts = _without_suffix(path).split("/")
    return parts[:-1] if len(parts) > 1 and parts[-1] in _UNSAID else parts


def _shared_end(one: Sequence[str], other: Sequence[str]) -> int:
    shared = 0
    for left, right in zip(reversed(one), reversed(other), strict=False):
        if left != right:
            break
        shared += 1
    return shared
