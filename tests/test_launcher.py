"""The launcher at the top of a checkout and `python -m stratum`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LAUNCHER = ROOT / "stratum.py"


def inline_metadata() -> dict[str, Any]:
    """Read the block that tools for single-file scripts read (PEP 723)."""
    block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///$", LAUNCHER.read_text(), re.MULTILINE)
    assert block is not None
    return tomllib.loads("".join(line[2:] or "\n" for line in block[1].splitlines(keepends=True)))


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60
    )


def test_the_launcher_asks_for_what_the_package_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    inline = inline_metadata()
    assert inline["dependencies"] == project["dependencies"]
    assert inline["requires-python"] == project["requires-python"]


def test_the_launcher_runs_the_checkout_it_lies_in_from_anywhere(tmp_path: Path) -> None:
    result = run(str(LAUNCHER), "--version", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("stratum, version ")


def test_the_package_runs_as_a_module() -> None:
    assert run("-m", "stratum", "--version", cwd=ROOT).stdout.startswith("stratum, version ")


def test_a_launcher_without_its_checkout_says_so(tmp_path: Path) -> None:
    shutil.copy(LAUNCHER, tmp_path)
    result = run(str(tmp_path / "stratum.py"), cwd=tmp_path)
    assert result.returncode == 1
    assert "run it inside a checkout" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_launcher_without_its_dependencies_names_the_cure(tmp_path: Path) -> None:
    result = run("-S", str(LAUNCHER), "--version", cwd=tmp_path)
    assert result.returncode == 1
    assert "click is not installed: use `uv run " in result.stderr
    assert "Traceback" not in result.stderr
