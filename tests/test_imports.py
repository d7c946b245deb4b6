"""What a fresh interpreter loads: commands that people and agents wait for stay light."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

NEVER = {
    "mcp",
    "starlette",
    "uvicorn",
    "sse_starlette",
    "pydantic",
    "redis",
    "onnxruntime",
    "fastembed",
    "tokenizers",
    "huggingface_hub",
}
NO_NUMBERS = NEVER | {"numpy"}


def loaded_by(*arguments: str, cwd: Path) -> set[str]:
    """Return the top-level names of all modules that one command has loaded at its end."""
    code = (
        "import json, sys\n"
        "from stratum.cli import cli\n"
        "try:\n"
        "    cli()\n"
        "finally:\n"
        "    names = sorted({name.partition('.')[0] for name in sys.modules})\n"
        "    print('\\n' + json.dumps(names))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (("--help",), NO_NUMBERS | {"apsw", "tree_sitter"}),
        (("serve", "--help"), NO_NUMBERS | {"apsw", "tree_sitter"}),
        (("web", "--help"), NO_NUMBERS | {"apsw", "tree_sitter"}),
        (("status",), NO_NUMBERS),
        (("write", "a note"), NO_NUMBERS),
        (("search", "till", "--mode", "lexical"), NEVER),
    ],
)
def test_a_command_does_not_load_what_it_does_not_need(
    repository: Path, arguments: tuple[str, ...], unwanted: set[str]
) -> None:
    loaded = loaded_by(*arguments, cwd=repository)
    assert "click" in loaded
    assert loaded & unwanted == set()
