"""The same tools served by the SDK alone, without Stratum's fast front: the rival of `start.py`.

Started by the benchmark in the project's folder, not by people.
"""

from __future__ import annotations

import os
from pathlib import Path

from stratum import Memory, load


def main() -> None:
    """Serve the project in the current folder on stdin and stdout until stdin closes."""
    # imported here so that the cost of the SDK is part of this process's start either way
    from stratum.mcp_server import build_server

    with Memory(load(os.environ), Path.cwd(), resident=True) as memory:
        memory.start_background()
        build_server(lambda: memory).run("stdio")


if __name__ == "__main__":
    main()
