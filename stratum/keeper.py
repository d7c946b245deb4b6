"""One memory, kept open for a process that lives long: an agent's server, the page's server.

Owns when it is opened, that it follows the files and the team, and when it is closed. Knows nothing
of who asks.
"""

from __future__ import annotations

import logging
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stratum.config import Settings
    from stratum.coordination import Coordination
    from stratum.memory import Memory

log = logging.getLogger(__name__)


class Keeper:
    """Opens the memory when it is first needed, again after it could not be opened, and anew after
    its database was removed or replaced: what is written to a removed file is lost."""

    def __init__(self, settings: Settings, path: Path) -> None:
        self._settings = settings
        self._path = path
        self._lock = threading.Lock()
        self._memory: Memory | None = None
        self._no_more_sharing = threading.Event()
        self._database: tuple[int, int] | None = None
        self._coordination: Coordination | None = None
        self._session = secrets.token_hex(3)

    def open(self) -> Memory:
        """Return the memory, with its background work started.

        Raises:
            NotInProject: There is no project at the path.
            NotFound: The project's folder is gone.
        """
        from stratum.errors import NotFound
        from stratum.memory import Memory

        with self._lock:
            found = _identity(self._settings.database)
            if self._memory is not None and self._database not in (None, found):
                log.warning("the database was removed or replaced and is opened anew")
                self._close()
            self._database = found
            if self._memory is None:
                self._memory = Memory(self._settings, self._path, resident=True)
                self._memory.start_background()
                if self._settings.redis_url:
                    self._share(self._memory)
            root = self._memory.worktree.root
            if not root.is_dir():
                raise NotFound(
                    f"The project's folder {root} is gone.",
                    hint="Bring it back, or start the agent in another folder.",
                )
            return self._memory

    def _share(self, memory: Memory) -> None:
        """Keep the notes the same as the team's, in a thread that ends with this memory."""
        stop = self._no_more_sharing = threading.Event()

        def keep_up() -> None:
            from stratum.team import Team

            try:
                with Team(memory) as team:
                    team.watch(stop, on_trouble=lambda error: log.info("team: %s", error.message))
            except Exception:  # a bug must be seen in the log
                log.exception("notes are no longer exchanged with the team")
                memory.team_trouble = "Notes are no longer exchanged: a bug, see the log."

        threading.Thread(target=keep_up, name="stratum-team", daemon=True).start()

    def coordination(self) -> Coordination:
        """Return what the agents of the project do together, as this session sees it."""
        from stratum.coordination import Coordination

        self.open()  # which also notices that the database was replaced
        with self._lock:
            if self._coordination is None:
                self._coordination = Coordination(self._settings, self._path, session=self._session)
            return self._coordination

    def warm_up(self) -> None:
        """Load what the first search would have to wait for; errors wait for that search."""
        from stratum.errors import StratumError

        try:
            self.open().warm_up()
            self.open()  # the database is there now: from here on its loss is noticed
        except StratumError as error:
            log.info("not warmed up: %s", error.message)

    def close(self) -> None:
        """Stop background work and close the database."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._no_more_sharing.set()
        for opened in (self._coordination, self._memory):
            if opened is not None:
                opened.close()
        self._coordination = self._memory = None


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one at the same path, None if it cannot be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
