"""A throw-away project: a folder under git with a memory of its own, gone when the run ends.

Nothing is read from or written to the user's own memory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stratum import Memory, Settings, Unavailable, load


@dataclass(frozen=True, slots=True)
class Project:
    """Where the sources stand, and the environment that leads Stratum to its memory."""

    root: Path
    folder: Path
    environ: dict[str, str]

    @property
    def settings(self) -> Settings:
        """The settings of its memory."""
        return load(self.environ)

    def memory(self, *, resident: bool = False) -> Memory:
        """Open its memory in this process."""
        return Memory(self.settings, self.root, resident=resident)

    def add(self, path: str, text: str) -> None:
        """Write a source file."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a process with pipes in the project; its stderr goes to a file in `folder`."""
        with (self.folder / "stderr.txt").open("ab") as errors:
            return subprocess.Popen(
                command,
                cwd=self.root,
                env=self.environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def failure(self, what: str) -> Unavailable:
        """Return the error for a process that did not do its part, with its last words."""
        said = (self.folder / "stderr.txt").read_text(encoding="utf-8", errors="replace")
        last = said.strip().splitlines()[-1:] or ["it said nothing on stderr"]
        return Unavailable(f"{what}: {last[0]}", hint="Run that command alone to see why.")


@contextlib.contextmanager
def temporary_project(embedder: str) -> Iterator[Project]:
    """Make an empty project whose memory uses `embedder`, remove it afterwards."""
    if shutil.which("git") is None:
        raise Unavailable("git was not found.", hint="Install git: the project is made with it.")
    with tempfile.TemporaryDirectory(prefix="stratum-bench-") as name:
        folder = Path(name).resolve()
        root = folder / "project"
        root.mkdir()
        kept = {key: value for key, value in os.environ.items() if not key.startswith("STRATUM_")}
        environ = kept | {
            "STRATUM_HOME": str(folder / "home"),
            "STRATUM_EMBED_MODEL": embedder,
            "STRATUM_AUTHOR": "bench",
            "STRATUM_OFFLINE": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        subprocess.run(["git", "init", "--quiet", str(root)], check=True, env=environ)
        yield Project(root, folder, environ)


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module with the running Python.

    Without the current folder on the module path (-P): the project is full of modules.
    """
    return [sys.executable, "-P", "-m", module, *arguments]
