"""Every error that Stratum raises on purpose; owns codes, exit codes and cures, knows nothing else.

    StratumError
    ├── InvalidInput          the caller's words are wrong: nothing was done
    │   └── NotInProject      no project here, or a path outside it
    ├── NotFound              a well-formed id, path or symbol that does not exist
    ├── Claimed               somebody else works on this, or took over what was ours
    └── Unavailable           something Stratum needs is missing, busy or broken
        ├── StoreUnavailable  the database is locked, full, unreadable or corrupt
        ├── NewerStore        the database was written by a later version
        ├── ExtensionUnavailable   sqlite-vec cannot be loaded
        ├── EmbedderUnavailable    the configured model cannot be loaded
        └── TeamUnavailable   the team's Redis cannot be reached, refuses, or lacks what is needed

A message says what happened and what to do. The command line, MCP and the web page each map these
once. Anything else that is raised is a bug and keeps its traceback.
"""

from __future__ import annotations


class StratumError(Exception):
    """Base of all errors meant for users.

    Args:
        message: One sentence: what happened.
        hint: One sentence: what to do about it; empty when the message says it already.
        similar: Existing names the caller may have meant, best first.

    `code` is stable and machine-readable, `exit_code` is the process's exit status, `retryable`
    says whether the same call may succeed later without any change.
    """

    code = "error"
    exit_code = 1
    retryable = False

    def __init__(self, message: str, *, hint: str = "", similar: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.similar = similar

    def to_dict(self) -> dict[str, object]:
        """Return the error as every surface shows it: code, message, hint, retryable, similar."""
        shown: dict[str, object] = {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
        }
        if self.similar:
            shown["similar"] = list(self.similar)
        return shown


class InvalidInput(StratumError):
    """The caller's words are wrong; nothing was done."""

    code = "invalid_input"
    exit_code = 2


class NotInProject(InvalidInput):
    """There is no project here, or a path lies outside it."""

    code = "not_in_project"


class NotFound(StratumError):
    """A well-formed id, path or symbol that does not exist."""

    code = "not_found"
    exit_code = 3


class Claimed(StratumError):
    """Somebody else holds the lease on a task or a path, or has taken it over."""

    code = "claimed"
    exit_code = 5
    retryable = True


class Unavailable(StratumError):
    """Something Stratum needs is missing, busy or broken."""

    code = "unavailable"
    exit_code = 4


class StoreUnavailable(Unavailable):
    """The database is locked, full, unreadable or corrupt."""

    code = "store_unavailable"

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable


class NewerStore(Unavailable):
    """The database was written by a later version of Stratum."""

    code = "newer_store"


class ExtensionUnavailable(Unavailable):
    """sqlite-vec cannot be loaded into SQLite."""

    code = "extension_unavailable"


class EmbedderUnavailable(Unavailable):
    """The configured embedding model cannot be loaded."""

    code = "embedder_unavailable"


class TeamUnavailable(Unavailable):
    """The team's Redis cannot be reached, refuses us, or lacks what was asked for."""

    code = "team_unavailable"

    def __init__(self, message: str, *, hint: str = "", retryable: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable
