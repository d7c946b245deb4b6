"""Stratum: the memory of a codebase for coding agents.

from pathlib import Path
from stratum import Memory, load

with Memory(load(os.environ), Path(".")) as memory:
    memory.index()
    for hit in memory.search("where do sessions expire").hits:
        print(hit.path, hit.start_line, hit.title)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stratum._version import __version__

if TYPE_CHECKING:
    from stratum.config import Settings, load
    from stratum.errors import (
        EmbedderUnavailable,
        ExtensionUnavailable,
        InvalidInput,
        NewerStore,
        NotFound,
        NotInProject,
        StoreUnavailable,
        StratumError,
        Unavailable,
    )
    from stratum.memory import Memory
    from stratum.models import Filters, Hit, Note, Pack, SearchResult, Status

_HOMES = {
    "Memory": "memory",
    "Settings": "config",
    "load": "config",
    **dict.fromkeys(("Filters", "Hit", "Note", "Pack", "SearchResult", "Status"), "models"),
    **dict.fromkeys(
        (
            "EmbedderUnavailable",
            "ExtensionUnavailable",
            "InvalidInput",
            "NewerStore",
            "NotFound",
            "NotInProject",
            "StoreUnavailable",
            "StratumError",
            "Unavailable",
        ),
        "errors",
    ),
}

__all__ = [
    "EmbedderUnavailable",
    "ExtensionUnavailable",
    "Filters",
    "Hit",
    "InvalidInput",
    "Memory",
    "NewerStore",
    "NotFound",
    "NotInProject",
    "Note",
    "Pack",
    "SearchResult",
    "Settings",
    "Status",
    "StoreUnavailable",
    "StratumError",
    "Unavailable",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: `stratum --help` needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'stratum' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"stratum.{_HOMES[name]}"), name)
