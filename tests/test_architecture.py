"""Who may import whom: the arrows of docs/architecture.md, read from the source with `ast`."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

import stratum

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = sorted((ROOT / "stratum").glob("*.py"))
BENCH = sorted((ROOT / "bench" / "stratum_bench").glob("*.py"))

# Each module with those it may import, lowest first. A module that is not named here fails.
ARROWS = {
    "_version": "",
    "errors": "",
    "models": "",
    "paths": "",
    "terms": "",
    "tokens": "",
    "ranking": "",
    "migrations": "",
    "redact": "",
    "config": "errors",
    "grammars": "",
    "outline": "grammars models redact",
    "freshness": "models",
    "packing": "models paths tokens",
    "notes": "errors models redact terms",
    "git": "errors",
    "tree": "errors git models",
    "stamps": "",
    "watch": "tree",
    "background": "errors models",
    "embedder": "errors models",
    "changes": "freshness models outline",
    "files": "freshness git grammars models outline tree",
    "database": "errors migrations",
    "history_store": "database models",
    "sync_store": "database models",
    "coordination_store": "database models",
    "notebook_store": "database models",
    "store": "coordination_store database history_store migrations models notebook_store stamps"
    " sync_store",
    "hits": "freshness history_store models notes store",
    "verdicts": "changes errors files freshness git models outline redact store",
    "anchoring": "errors files freshness models notes outline redact store tree",
    "placement": "errors git redact store",
    "notebook": "errors files grammars models notebook_store notes redact store verdicts",
    "uses": "errors store",
    "neighbours": "files models paths store",
    "resident": "models store",
    "question": "terms",
    "path_index": "question terms",
    "search": "history_store models path_index paths question ranking resident store",
    "indexer": "embedder files git grammars models outline paths redact store terms tree",
    "history": "errors git grammars history_store models outline paths redact store terms tree",
    "wire": "errors models notes redact stamps",
    "replica": "errors models notes redact stamps store sync_store wire",
    "memory": "_version anchoring background config embedder errors files freshness git indexer"
    " history hits models neighbours notebook notes outline packing placement ranking redact"
    " replica search stamps store sync_store terms tree uses verdicts watch",
    "redis_client": "config errors redact",
    "team_index": "config embedder errors models notes ranking redact redis_client terms wire",
    "team": "errors indexer memory models redact redis_client replica team_index wire",
    "coordination_redis": "config errors models redis_client",
    "coordination": "config coordination_redis errors models notes placement redact store"
    " sync_store",
    "keeper": "config coordination errors memory team",
    "mcp_server": "_version coordination errors memory models notes packing redact",
    "serve": "_version config keeper mcp_server",
    "team_check": "config embedder errors models redis_client wire",
    "doctor": "config embedder errors git memory migrations models redact store team_check",
    "terminal": "redact",
    "web_security": "errors redact",
    "web_api": "_version errors memory models notebook notes",
    "web": "_version errors keeper models web_api web_security",
    "web_server": "config errors keeper web web_security",
    "task_cli": "config coordination errors models terminal",
    "cli": "_version config doctor embedder errors memory models notes redact serve task_cli"
    " team terminal web web_server",
    "__main__": "cli",
    "__init__": "_version config errors memory models",
}
# Modules that get values and give values back: no file, process, socket, clock or database.
PURE = (
    "changes", "freshness", "models", "packing", "path_index", "paths", "question", "ranking",
    "redact", "stamps", "terms", "wire",
)  # fmt: skip
EFFECTS = {
    "apsw", "asyncio", "click", "http", "io", "logging", "os", "random", "shutil", "socket",
    "sqlite3", "subprocess", "sys", "tempfile", "threading", "time", "urllib",
}  # fmt: skip
# Where a measurement has to go below the public names, and to what.
BELOW = {
    "agent_chat": "redact",
    "agent_memory": "mcp_server",
    "agent_run": "embedder",
    "agent_tools": "grammars paths",
    "agent_worker": "models paths",
    "raw": "database embedder question resident store",
    "plain_server": "mcp_server",
    "retrieval": "embedder",
    "retrieval_checkout": "grammars paths",
    "retrieval_mined": "grammars outline paths",
    "retrieval_report": "paths",
    "retrieval_rivals": "grammars outline paths",
    "retrieval_tasks": "models",
    "retrieval_worker": "grammars models",
    "runs": "errors redact",
    "scaffold": "paths redact",
    "coordination": "coordination redis_client team wire",
    "team": "embedder models redis_client team team_index wire",
    "web_runs": "web_security",
    "weights": "ranking",
}


def imported(source: Path) -> Iterator[str]:
    """Yield the full dotted name of everything a file imports, at any depth."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.name} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def neighbours(source: Path) -> set[str]:
    """Return the modules of the package that a file imports."""
    parts = (name.split(".") for name in imported(source))
    return {name[1] for name in parts if name[0] == "stratum" and len(name) > 1}


def test_every_module_has_its_row_and_every_row_its_module() -> None:
    assert {source.stem for source in PACKAGE} == set(ARROWS)


@pytest.mark.parametrize("source", PACKAGE, ids=lambda source: source.stem)
def test_a_module_imports_only_what_its_row_allows(source: Path) -> None:
    assert neighbours(source) - set(ARROWS.get(source.stem, "").split()) == set()


def test_the_arrows_of_the_table_all_point_down() -> None:
    order = list(ARROWS)
    up = [
        f"{module} -> {other}"
        for module, others in itertools.islice(ARROWS.items(), len(order) - 1)
        for other in others.split()
        if order.index(other) >= order.index(module)
    ]
    assert up == []


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_nothing_that_has_effects(module: str) -> None:
    names = {name.partition(".")[0] for name in imported(ROOT / "stratum" / f"{module}.py")}
    assert names & EFFECTS == set()


def test_only_the_store_and_its_schema_hold_sql() -> None:
    drivers = {
        source.stem
        for source in PACKAGE
        if {"apsw", "sqlite3"} & {name.partition(".")[0] for name in imported(source)}
    }
    # doctor asks the driver for its version and nothing else
    assert drivers == {"database", "store", "migrations", "doctor"}
    assert "execute(" not in (ROOT / "stratum" / "doctor.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("source", BENCH, ids=lambda source: source.stem)
def test_the_benchmarks_use_public_names_like_a_user_would(source: Path) -> None:
    below = {f"stratum.{module}" for module in BELOW.get(source.stem, "").split()}
    public = {f"stratum.{name}" for name in stratum.__all__}
    private = {
        name
        for name in imported(source)
        if name.startswith("stratum.")
        and name not in public
        and name.rpartition(".")[0] not in below
    }
    assert private == set()
