"""Which project a folder's notes and code belong to, while its repository changes names.

Owns the decision when two names mean one project: a remote may come, change or go, another
repository may be put in the same folder. Knows no notes and no SQL text.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from stratum import git
from stratum.errors import StratumError, Unavailable
from stratum.redact import redact
from stratum.store import Store, Worktree, is_makeshift


class Placement:
    """The worktree of a path, and the project that it is part of.

    `worktree` is what git said last; `left_behind` is a sentence once notes stayed with another
    project than the one that the folder is part of now.

    Raises:
        NotInProject: `path` is in no place that can be a project.
    """

    def __init__(self, path: Path) -> None:
        self.worktree = _worktree_at(path)
        self.left_behind = ""
        self._two_roots: tuple[str, str] | None = None

    def row(self, store: Store) -> Worktree:
        """Return this worktree's row as it stands now; made, or moved to another project, if need
        be.
        """
        root = str(self.worktree.root)
        stored = store.worktree(root)
        if stored is not None and stored.found_as != self.worktree.identity:
            with contextlib.suppress(StratumError):  # one that is gone stays as it was known
                self.look_again()  # another process may have seen the new name before this one
        found = self.worktree
        if stored is None:
            return store.add_worktree(found.identity, found.name, root)
        if stored.found_as == found.identity:
            return stored
        if (stored.found_as, found.identity) == self._two_roots:
            return stored
        try:
            if self._has_two_roots(stored):
                return stored
            same = self._is_still(store, stored)
        except Unavailable:
            return stored  # git cannot tell: neither join nor part anything
        placed = store.add_worktree(found.identity, found.name, root, same_repository=same)
        if not same and placed.project_id != stored.project_id:
            left = store.counts(stored)["notes"]
            if left:
                self.left_behind = (
                    f"This folder was part of {stored.identity} with {left} notes, which stay "
                    f"there: it is now taken for {placed.identity}."
                )
        return placed

    def look_again(self) -> None:
        """Read again what git says of the repository."""
        found = _worktree_at(self.worktree.root)
        if found.root == self.worktree.root:
            self.worktree = found

    def _has_two_roots(self, stored: Worktree) -> bool:
        """Tell whether the history only got one more root: an orphan branch, a merged library."""
        pair = (stored.found_as, self.worktree.identity)
        if all(name.startswith("root:") for name in pair) and git.has_commit(
            self.worktree.root, [stored.found_as.removeprefix("root:")]
        ):
            self._two_roots = pair
            return True
        return False

    def _is_still(self, store: Store, stored: Worktree) -> bool:
        """Tell whether the repository whose name has changed is the one that was known before.

        Another one may have been put in its place. And a clone whose remote now names a fork
        leaves those behind that still name the origin.
        """
        found = self.worktree
        seen = store.commits_seen(stored)
        if stored.found_as.startswith("root:"):
            seen.append(stored.found_as.removeprefix("root:"))
        if seen and not (found.git and git.has_commit(found.root, seen)):
            return False
        if is_makeshift(stored.identity) or is_makeshift(found.identity):
            return True
        return not any(map(_still_there, store.siblings(stored)))


def _worktree_at(path: Path) -> git.Worktree:
    """Return the worktree of a path, with secrets in its names masked."""
    found = git.find_worktree(path)
    return dataclasses.replace(
        found,
        identity=redact(found.identity).text,
        name=redact(found.name).text,
        branch=redact(found.branch).text if found.branch else None,
    )


def _still_there(other: Worktree) -> bool:
    """Tell whether a worktree still exists as part of the project it is known in."""
    try:
        return _worktree_at(Path(other.root)).identity == other.found_as
    except StratumError:
        return False
