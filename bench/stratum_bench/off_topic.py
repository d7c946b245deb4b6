"""A small project that has nothing to do with any task: what memory costs when it knows nothing.

Owns the files and the notes of that project, and how it becomes a repository.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from stratum_bench.retrieval_checkout import git

_FILES = {
    "herbarium/beds.py": '''"""Garden beds and what grows in them."""


class Bed:
    """A bed with its soil and its plants."""

    def __init__(self, soil, sunny):
        self.soil = soil
        self.sunny = sunny
        self.plants = []

    def sow(self, seeds, week):
        """Sow seeds in a week of the year."""
        self.plants.extend((seed, week) for seed in seeds)

    def harvest(self, week):
        """Take out what is ripe."""
        ripe = [plant for plant, sown in self.plants if week - sown >= plant.weeks]
        self.plants = [pair for pair in self.plants if pair[0] not in ripe]
        return ripe
''',
    "herbarium/watering.py": '''"""When beds are watered."""


def litres_for(bed, rain):
    """Return the litres that a bed needs after so many millimetres of rain."""
    thirst = sum(plant.thirst for plant, _ in bed.plants)
    return max(0.0, thirst - rain * 0.8)


def is_dry(bed, days):
    """Tell whether a bed is dry after days without rain."""
    return days > (2 if bed.sunny else 4)
''',
    "herbarium/compost.py": '''"""The heap."""


def turn(heap, weeks):
    """Turn the heap when it has rested long enough."""
    return heap.rested >= weeks and heap.warmth < 30
''',
}
NOTES = (
    ("Sunny beds dry out after two days; the others bear four.", "herbarium/watering.py::is_dry"),
    ("Plants that are ripe leave the bed when they are harvested.", "herbarium/beds.py::Bed"),
)
_BY = "bench <bench@example.org> 1767225600 +0000"  # one date: its commit is the same each time


def make_project(root: Path) -> None:
    """Make the project in `root`, anew each time."""
    shutil.rmtree(root, ignore_errors=True)
    for path, text in _FILES.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", ".")
    told = f"tree {git(root, 'write-tree').strip()}\nauthor {_BY}\ncommitter {_BY}\n\nA garden\n"
    commit = git(root, "hash-object", "-t", "commit", "-w", "--stdin", stdin=told).strip()
    git(root, "update-ref", "HEAD", commit)
