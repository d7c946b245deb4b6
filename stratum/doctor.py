"""Checks of an installation, each with the cure for what it finds.

Owns what is looked at and what to do about it; what the team's Redis is asked, `team_check` owns.
Changes nothing: no setting, no agent's configuration and no folder is written. Must not know the
command line. Every check stands alone, so that a broken part does not hide the state of the others.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import apsw

from stratum.config import Settings
from stratum.embedder import Embedder, open_embedder
from stratum.errors import StratumError
from stratum.git import find_worktree
from stratum.memory import Memory
from stratum.migrations import SCHEMA_VERSION
from stratum.models import Finding
from stratum.redact import redact
from stratum.store import open_store

LITTLE_SPACE = 500_000_000  # bytes: an index of a large repository takes about as much
LARGE_LOG = 64_000_000  # bytes: SQLite folds its log at 4 MB unless something keeps it from that
_GIT_TIMEOUT = 10  # seconds

# A key of that name, in JSON or TOML: a path that holds the word says nothing.
_NAMED = re.compile(r'"stratum"\s*:|\bmcp_servers\."?stratum"?\s*[\].=]')
_MCP_SERVERS = '"mcpServers": {"stratum": {"command": "stratum", "args": ["serve"]}}'


@dataclass(frozen=True, slots=True)
class _Client:
    """An agent: its program, where it keeps its MCP servers, how stratum is added.

    `own` are files below the home folder, `shared` files below the project's root.
    """

    name: str
    program: str
    own: tuple[str, ...]
    shared: tuple[str, ...]
    cure: str


CLIENTS = (
    _Client(
        "Claude Code", "claude", (".claude.json",), (".mcp.json",),
        "Run `claude mcp add --scope user stratum -- stratum serve`.",
    ),
    _Client(
        "Codex", "codex", (".codex/config.toml",), (".codex/config.toml",),
        "Run `codex mcp add stratum -- stratum serve`.",
    ),
    _Client(
        "Cursor", "cursor", (".cursor/mcp.json",), (".cursor/mcp.json",),
        f"Put {{{_MCP_SERVERS}}} into ~/.cursor/mcp.json.",
    ),
    _Client(
        "opencode", "opencode",
        (".config/opencode/opencode.json", ".config/opencode/opencode.jsonc"),
        ("opencode.json", "opencode.jsonc"),
        'Put "mcp": {"stratum": {"type": "local", "command": ["stratum", "serve"], '
        '"enabled": true}} into ~/.config/opencode/opencode.json.',
    ),
    _Client(
        "Gemini CLI", "gemini", (".gemini/settings.json",), (".gemini/settings.json",),
        f"Put {_MCP_SERVERS} into ~/.gemini/settings.json.",
    ),
)  # fmt: skip


def examine(settings: Settings, path: Path, environ: Mapping[str, str]) -> list[Finding]:
    """Check everything that Stratum needs in order to work for the project at `path`."""
    findings = [
        interpreter(),
        sqlite(),
        *database(settings.database),
        disk(_existing(settings.database.parent)),
        places(settings),
        git(environ.get("PATH", "")),
        project(path),
        *model(settings),
        vectors(settings, path),
        *team(settings),
        *agents(environ, path),
    ]
    return [
        replace(found, message=redact(found.message).text, cure=redact(found.cure).text)
        for found in findings
    ]


def interpreter() -> Finding:
    """Tell which Python runs; the package does not install on one that is too old."""
    return _ok("python", f"{platform.python_version()} at {sys.executable}")


def sqlite() -> Finding:
    """Create a database of our own schema elsewhere: proves SQLite, FTS5 and sqlite-vec at once."""
    try:
        with tempfile.TemporaryDirectory(prefix="stratum-") as folder:
            open_store(Path(folder, "try.db")).close()
    except StratumError as error:
        return _error("sqlite", error)
    except OSError as error:
        return Finding(
            "sqlite", "error", f"No temporary file can be made: {error.strerror or error}.",
            "Free some space, or set TMPDIR to a folder you can write.",
        )  # fmt: skip
    return _ok("sqlite", f"{apsw.sqlite_lib_version()}, with FTS5 and sqlite-vec")


def database(path: Path) -> Iterator[Finding]:
    """Open the database and let SQLite check it; one that is not there yet is not created."""
    try:
        there = path.exists()
    except OSError:
        there = False
    if not there:
        yield _writable(path)
        return
    yield log(path.with_name(f"{path.name}-wal"))
    try:
        store = open_store(path)
    except StratumError as error:
        yield _error("database", error)
        return
    try:
        problems = store.check()
        found = store.schema_version()
    except StratumError as error:
        yield _error("database", error)
        return
    finally:
        store.close()
    if problems:
        yield Finding(
            "database", "error", f"{path} is damaged: {problems[0]}",
            f"Save the notes with `stratum export --all FILE`, move {path} away, "
            "`stratum import FILE`, then `stratum index` in each project.",
        )  # fmt: skip
        return
    yield _ok("database", f"{path}, sound, schema {found} of {SCHEMA_VERSION}")


def _writable(database: Path) -> Finding:
    folder = _existing(database.parent)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(
            "database", "error", f"{folder} cannot be written: {error.strerror or error}.",
            "Set STRATUM_HOME to a folder you can write.",
        )  # fmt: skip
    return _ok("database", f"not there yet; the first command creates {database}")


def log(path: Path) -> Finding:
    """Tell whether SQLite's log has grown because something keeps it from being folded in."""
    try:
        size = path.stat().st_size
    except OSError:
        size = 0
    if size < LARGE_LOG:
        return _ok("log", f"{size / 1e6:,.1f} MB wait beside the database")
    return Finding(
        "log", "warning", f"{path} has grown to {size / 1e6:,.0f} MB.",
        "Stop every running stratum (`stratum serve` in your agents), then run `stratum status`: "
        "the last one to close the database folds it in. Never delete that file.",
    )  # fmt: skip


def disk(folder: Path) -> Finding:
    """Tell how much space is left where the database is."""
    free = shutil.disk_usage(folder).free
    if free >= LITTLE_SPACE:
        return _ok("disk", f"{free / 1e9:,.1f} GB free at {folder}")
    return Finding(
        "disk", "warning", f"Only {free / 1e6:,.0f} MB are free at {folder}.",
        "Free some space, or move the database with STRATUM_HOME.",
    )  # fmt: skip


def places(settings: Settings) -> Finding:
    """Tell where things lie."""
    file = settings.config_file
    written = f"settings in {file}" if file.exists() else f"no settings file ({file})"
    return _ok("places", f"data in {settings.database.parent}, models in {settings.cache_dir}, "
               f"{written}")  # fmt: skip


def git(path: str) -> Finding:
    """Look for git on `path`, a list of folders as in PATH."""
    program = shutil.which("git", path=path)
    # a relative folder on PATH is passed over everywhere: the repository could bring its own git
    if program is None or not Path(program).is_absolute():
        return Finding(
            "git", "warning", "git is not on PATH: ignore rules are read without it and a project "
            "without a remote is known by its folder only.",
            "Install git and open a new shell.",
        )  # fmt: skip
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, check=True, timeout=_GIT_TIMEOUT
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("git", "warning", f"{program} does not run: {error}.", "Install git again.")
    return _ok("git", done.stdout.decode(errors="replace").strip().removeprefix("git version "))


def project(path: Path) -> Finding:
    """Tell which project `path` belongs to."""
    try:
        found = find_worktree(path)
    except StratumError as error:
        return Finding("project", "warning", error.message, error.hint)
    return _ok("project", f"{found.identity} at {found.root}")


def model(settings: Settings) -> Iterator[Finding]:
    """Load the embedder that the settings name, which also proves its files by their hashes."""
    try:
        opened = open_embedder(
            settings.embed_model,
            cache=settings.cache_dir,
            offline=settings.offline,
            threads=settings.threads,
        )
    except StratumError as error:
        yield _error("model", error)
        return
    yield loaded(opened)


def loaded(embedder: Embedder | None) -> Finding:
    """Load an embedder and say how it stands; None is the choice to search by words alone."""
    if embedder is None:
        return _ok("model", "none: search by words alone, as the settings say")
    try:
        embedder.load()
    except StratumError as error:
        return _error("model", error)
    return _ok("model", f"{embedder.name}, fingerprint {embedder.fingerprint}")


def vectors(settings: Settings, path: Path) -> Finding:
    """Tell whether vectors are missing in the project at `path`."""
    if not settings.database.is_file():
        return _ok("vectors", "none yet")
    try:
        with Memory(settings, path) as memory:
            found = memory.status()
    except StratumError as error:
        return Finding("vectors", "warning", f"Not counted: {error.message}", error.hint)
    if found.indexed_at is None:
        return Finding("vectors", "warning", "This project is not indexed.", "Run `stratum index`.")
    counted = f"{found.embedder.vectors:,} made, {found.embedder.pending:,} missing"
    if found.degraded:
        return Finding("vectors", "warning", f"{counted}. {found.degraded[0]}")
    if found.embedder.pending:
        return Finding("vectors", "warning", counted, "Run `stratum index`.")
    return _ok("vectors", counted)


def team(settings: Settings) -> Iterator[Finding]:
    """Examine the team's Redis, if there is one: what the settings say, access, clock, index."""
    if not settings.redis_url:
        yield _ok("team", "none: this machine works alone (redis_url is not set)")
        return
    from stratum.team_check import team as examine_team  # the library it needs takes a while

    try:
        embedder = open_embedder(
            settings.embed_model,
            cache=settings.cache_dir,
            offline=settings.offline,
            threads=settings.threads,
        )
    except StratumError:  # `model` tells of it
        embedder = None
    yield from examine_team(settings, embedder)


def agents(environ: Mapping[str, str], path: Path) -> Iterator[Finding]:
    """Look for agents on PATH and whether their configuration names stratum; read only."""
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or Path.home())
    try:
        root = find_worktree(path).root
    except StratumError:
        root = path
    found = [
        client for client in CLIENTS if shutil.which(client.program, path=environ.get("PATH", ""))
    ]
    for client in found:
        files = [*(home / name for name in client.own), *(root / name for name in client.shared)]
        named = next((file for file in files if _names_stratum(file)), None)
        if named:
            yield _ok("agent", f"{client.name} knows stratum from {named}")
        else:
            yield Finding("agent", "warning", f"{client.name} does not know stratum.", client.cure)
    if not found:
        programs = ", ".join(client.program for client in CLIENTS)
        yield _ok("agent", f"none on PATH (looked for {programs})")


def _names_stratum(file: Path) -> bool:
    try:
        return bool(_NAMED.search(file.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return False


def _existing(folder: Path) -> Path:
    """Return the nearest folder above, or this one, that exists."""
    return next((place for place in (folder, *folder.parents) if os.path.lexists(place)), folder)


def _ok(check: str, message: str) -> Finding:
    return Finding(check, "ok", message)


def _error(check: str, error: StratumError) -> Finding:
    return Finding(check, "error", error.message, error.hint)
