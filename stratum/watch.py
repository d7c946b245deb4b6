"""Whether files changed since they were indexed, told by stats alone; for processes that live long.

Owns what the index saw of files and folders, and how often it is compared. A look at 7,000 files
takes 40 ms, where listing them anew by git and comparing with the index takes five times as long.
No thread, no watcher of the system: these have limits that large repositories meet.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from stratum.tree import is_left_out, is_rules

# Looks may take this share of the time, and so many seconds at once before that counts: an agent's
# searches all look, those of a script that asks hundreds in a second do not.
_SHARE, _BURST = 0.1, 0.5
_ANYWAY = 10.0  # seconds after which the whole tree is due: ignore rules may have changed


class Folder(NamedTuple):
    """How a folder stands: when its names changed, a number for them, which of them are folders.

    Folders that are never looked into are left out of the latter. Zeros stand for a folder that
    could not be read.
    """

    time_ns: int = 0
    names: int = 0
    below: tuple[str, ...] = ()


Folders = dict[str, Folder]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look found: files that changed in place, or that the whole tree must be listed."""

    changed: tuple[str, ...] = ()
    whole: bool = False

    def __bool__(self) -> bool:
        return bool(self.changed) or self.whole


class Watch:
    """Compares the files below `root` with what the index saw of them.

    Call `before` when a run of the index starts, and `after` with its answer when it is through.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._base = f"{root}/"
        self._stamps: Mapping[str, tuple[int, int, int, int]] = {}
        self._folders: Folders = {}
        self._run_at = 0.0
        self._credit = _BURST
        self._credited_at = time.monotonic()

    def before(self) -> Folders:
        """Return how the folders stand that are known so far."""
        return {folder: self._folder(folder) for folder in list(self._folders)}

    def after(self, stamps: Mapping[str, tuple[int, int, int, int]], before: Folders) -> None:
        """Take over what the index saw of the files; zeros stand for one that must be read again.

        Folders count as they were before: what came while the index ran is found by the next look.
        """
        folders = {""}
        for path in stamps:
            while path:
                path = path.rpartition("/")[0]
                if path in folders:
                    break
                folders.add(path)
        known = {folder: before.get(folder) or self._folder(folder) for folder in folders}
        # an empty folder may get its first file
        for folder, seen in list(known.items()):
            for name in seen.below:
                below = f"{folder}/{name}" if folder else name
                if below not in known:
                    known[below] = before.get(below) or self._folder(below)
        self._folders = known
        self._stamps = stamps
        self._run_at = time.monotonic()

    def look(self) -> Seen:
        """Compare, unless that was done too often."""
        begun = time.monotonic()
        self._credit = min(_BURST, self._credit + _SHARE * (begun - self._credited_at))
        self._credited_at = begun
        if self._credit <= 0 or not self._folders:
            return Seen()
        changed = tuple(path for path, stamp in self._stamps.items() if self._stamp(path) != stamp)
        folders = list(self._folders.items())
        whole = any(self._differs(folder, known) for folder, known in folders)
        whole = whole or any(map(is_rules, changed))
        self._credit -= time.monotonic() - begun
        return Seen(changed, whole)

    @property
    def overdue(self) -> bool:
        """Whether the whole tree was not listed for some time."""
        return time.monotonic() - self._run_at > _ANYWAY

    def _stamp(self, path: str) -> tuple[int, int, int, int] | None:
        """Return the stamp of a file as `tree.Stamp.of`; thousands of times in one look."""
        try:
            found = os.lstat(self._base + path)
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino

    def _differs(self, folder: str, known: Folder) -> bool:
        """Tell whether other names stand in a folder; one that was replaced leaves them equal."""
        try:
            time_ns = os.stat(f"{self._base}{folder}").st_mtime_ns  # noqa: PTH116 - see _stamp
        except OSError:
            return True
        if time_ns == known.time_ns:
            return False
        now = self._folder(folder)
        if now.names != known.names:
            return True
        self._folders[folder] = now
        return False

    def _folder(self, folder: str) -> Folder:
        """Return how a folder stands; its time is taken first, so that no later name is missed."""
        path = f"{self._base}{folder}"
        names, below = [], []
        try:
            time_ns = os.stat(path).st_mtime_ns  # noqa: PTH116 - see _stamp
            with os.scandir(path) as entries:
                for entry in entries:
                    names.append(entry.name)
                    if entry.is_dir(follow_symlinks=False) and not is_left_out(entry.name):
                        below.append(entry.name)
        except OSError:
            return Folder()
        return Folder(time_ns, hash(frozenset(names)), tuple(below))
