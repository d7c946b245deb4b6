"""One writing process of the durability benchmark; started by `durability.py`, not by people.

Writes notes through `Memory.write` and prints one JSON line for each, only after the call has
returned: what stands on stdout has been acknowledged.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from pathlib import Path

from stratum import Memory, StratumError, load
from stratum_bench.corpus import note_text


def main() -> None:
    """Say "ready", wait for a line on stdin, then write `--count` notes, or until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--writer", type=int, required=True)
    parser.add_argument("--count", type=int, help="without it: until killed")
    parser.add_argument("--background", action="store_true", help="index and embed meanwhile")
    options = parser.parse_args()
    with Memory(load(os.environ), Path.cwd()) as memory:
        memory.status()  # opens the database: the first write is measured like the others
        note_text(options.seed, options.writer, 0)  # reads the sources that notes are made of
        _say({"ready": True})
        sys.stdin.readline()
        if options.background:
            memory.start_background()
        numbers = itertools.count() if options.count is None else range(options.count)
        for number in numbers:
            text = note_text(options.seed, options.writer, number)
            started = time.perf_counter()
            try:
                id_ = memory.write(text, scope="team").note.id
            except StratumError as error:
                _say({"number": number, "error": error.message})
                continue
            _say({"number": number, "id": id_, "ms": (time.perf_counter() - started) * 1000})


def _say(line: dict[str, object]) -> None:
    # one write call, so that a kill cannot leave a whole line that was not whole
    os.write(1, json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    main()
