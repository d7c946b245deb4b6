"""The settings: one table, read once from the environment, then config.toml, then the defaults.

Reading creates no file and no folder. Only the composition roots (the command line, the server,
the launcher of a benchmark) call `load`; everything below gets a frozen `Settings`.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from stratum.errors import InvalidInput

DATABASE_NAME = "stratum.db"
CONFIG_NAME = "config.toml"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: its key in config.toml, its variable, its default, what it does."""

    key: str
    variable: str
    default: str | int | bool
    meaning: str


SETTINGS = (
    Setting(
        "embed_model",
        "STRATUM_EMBED_MODEL",
        "bundled",
        "Which embedder makes vectors: `bundled` (no network), `none` (word search only), "
        "`hashing` (for tests), or any model name that fastembed knows.",
    ),
    Setting(
        "offline",
        "STRATUM_OFFLINE",
        False,
        "Never download anything, not even when a command asks for it.",
    ),
    Setting(
        "author",
        "STRATUM_AUTHOR",
        "",
        "Who signs new notes; empty means the login name.",
    ),
    Setting(
        "agent",
        "STRATUM_AGENT",
        "",
        "The agent that signs new notes; the MCP server fills in the client's name.",
    ),
    Setting(
        "max_file_bytes",
        "STRATUM_MAX_FILE_BYTES",
        1 << 20,
        "Larger files are listed as skipped and not indexed.",
    ),
    Setting(
        "history_commits",
        "STRATUM_HISTORY_COMMITS",
        1_000_000,
        "At most so many commits are searchable, the newest first; 0 for none.",
    ),
    Setting(
        "history_vectors",
        "STRATUM_HISTORY_VECTORS",
        5_000,
        "So many of the newest commits are found by meaning and by the symbols they changed, too.",
    ),
    Setting(
        "threads",
        "STRATUM_THREADS",
        2,
        "Threads of the embedding model.",
    ),
    Setting(
        "redis_url",
        "STRATUM_REDIS_URL",
        "",
        "The team's Redis, `redis://user@host:6379/0` or `rediss://` for TLS; empty means none.",
    ),
    Setting(
        "redis_password",
        "STRATUM_REDIS_PASSWORD",
        "",
        "Its password, unless the URL or the system's keyring has it. Never shown, never logged.",
    ),
    Setting(
        "redis_prefix",
        "STRATUM_REDIS_PREFIX",
        "stratum",
        "What the names of all keys in Redis begin with.",
    ),
    Setting(
        "redis_index",
        "STRATUM_REDIS_INDEX",
        "auto",
        "The shared vector index: `flat` (exact), `hnsw` (faster from tens of thousands of notes "
        "on) or `auto`, which goes by their number.",
    ),
    Setting(
        "team",
        "STRATUM_TEAM",
        "team",
        "The team's name: several teams can share one Redis.",
    ),
    Setting(
        "machine",
        "STRATUM_MACHINE",
        "",
        "How this machine signs what it shares; empty means the host name.",
    ),
    Setting(
        "profile",
        "STRATUM_PROFILE",
        "solo",
        "Which tools agents get over MCP: `solo`, or `team` for those that claim and share tasks.",
    ),
    Setting(
        "log_level",
        "STRATUM_LOG_LEVEL",
        "warning",
        "How much goes to stderr: `debug`, `info`, `warning` or `error`.",
    ),
)

_MOST_COMMITS = (1 << 31) - 1  # what git takes for a number
# Settings that have one of a few values.
_CHOICES = {
    "log_level": ("debug", "info", "warning", "error"),
    "redis_index": ("auto", "flat", "hnsw"),
    "profile": ("solo", "team"),
}
# What keys in Redis are named after: no brace, which would move a key to another cluster slot.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off", "")


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting and every place, resolved. `config_file` may not exist."""

    database: Path
    cache_dir: Path
    config_file: Path
    embed_model: str
    offline: bool
    author: str
    agent: str
    max_file_bytes: int
    history_commits: int
    history_vectors: int
    threads: int
    redis_url: str = field(repr=False)  # both may hold a password
    redis_password: str = field(repr=False)
    redis_prefix: str
    redis_index: str
    team: str
    machine: str
    profile: str
    log_level: str


def load(environ: Mapping[str, str]) -> Settings:
    """Read the settings from `environ` and the config file it points to.

    Raises:
        InvalidInput: A value has the wrong type, a key is unknown or the file is not TOML.
    """
    home = environ.get("STRATUM_HOME", "")
    if home:
        data = config = Path(home).expanduser()
        cache = data / "cache"
    else:
        places = platformdirs.PlatformDirs("stratum", appauthor=False)
        data, config = Path(places.user_data_dir), Path(places.user_config_dir)
        cache = Path(places.user_cache_dir)
    config_file = config / CONFIG_NAME
    values = _from_file(config_file)
    for setting in SETTINGS:
        if setting.variable in environ:
            values[setting.key] = _parse(setting, environ[setting.variable], setting.variable)
    if environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE:
        values["offline"] = True
    resolved = {setting.key: values.get(setting.key, setting.default) for setting in SETTINGS}
    _check_ranges(resolved)
    return Settings(
        database=data / DATABASE_NAME, cache_dir=cache, config_file=config_file, **resolved
    )


def _from_file(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # a home below a file: the store tells of it
        return {}
    except (ValueError, OSError) as error:  # no TOML, no UTF-8, or thousands of digits
        raise InvalidInput(
            f"The settings file {path} cannot be read: {error}.",
            hint="Correct the file or move it away; every setting has a default.",
        ) from error
    known = {setting.key: setting for setting in SETTINGS}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            near = tuple(difflib.get_close_matches(key, known, n=3))
            raise InvalidInput(
                f"{path} has a setting that Stratum does not know: {key!r}.",
                hint=f"Known settings: {', '.join(known)}.",
                similar=near,
            )
        values[key] = _parse(known[key], value, f"{key} in {path}")
    return values


def _parse(setting: Setting, value: object, where: str) -> str | int | bool:
    kind = type(setting.default)
    if type(value) is kind:
        return value
    if isinstance(value, str) and kind is bool and value.lower() in _TRUE + _FALSE:
        return value.lower() in _TRUE
    if isinstance(value, str) and kind is int:
        with contextlib.suppress(ValueError):
            return int(value)
    wanted = {bool: "true or false", int: "a whole number", str: "a text"}[kind]
    raise InvalidInput(f"{where} should be {wanted}, but is {value!r}.", hint=setting.meaning)


def _check_ranges(values: Mapping[str, Any]) -> None:
    for key, choices in _CHOICES.items():
        if values[key] not in choices:
            raise InvalidInput(
                f"{key} is {values[key]!r}.", hint=f"Choose one of {', '.join(choices)}."
            )
    for key in ("redis_prefix", "team"):
        if not _NAME.fullmatch(values[key]):
            raise InvalidInput(
                f"{key} is {values[key]!r}.",
                hint="Up to 64 letters, digits, dots, hyphens and underscores name it.",
            )
    for key, least in (
        ("threads", 1),
        ("max_file_bytes", 1),
    ):
        if values[key] < least:
            raise InvalidInput(f"{key} must be at least {least}, but is {values[key]}.")
    for key in ("history_commits", "history_vectors"):
        if not 0 <= values[key] <= _MOST_COMMITS:
            raise InvalidInput(
                f"{key} must be from 0 to {_MOST_COMMITS}, but is {values[key]}.",
                hint="Choose a number in that range; 0 is for none.",
            )
