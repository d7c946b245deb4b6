"""What a path alone tells about a file; pure."""

from __future__ import annotations

import re

_TEST_FOLDER = re.compile(r"(?i)(^|/)(tests?|testing|__tests__|spec|testdata|fixtures)/")
_TEST_FILE = re.compile(
    r"(^|/)(test_[^/]*|conftest\.py|[^/]*(_test|_spec|\.test|\.spec|Test|Tests)\.[A-Za-z]+)$"
)
_CATALOGUES = (".po", ".pot", ".xlf", ".xliff", ".arb")
_PROSE = (".md", ".markdown", ".rst", ".txt", ".adoc", ".org")


def is_test(path: str) -> bool:
    """Tell whether a file belongs to the tests, by the customs of the languages we outline."""
    return bool(_TEST_FOLDER.search(path) or _TEST_FILE.search(path))


def is_prose(path: str) -> bool:
    """Tell whether a file is documentation."""
    return path.lower().endswith(_PROSE)


def is_catalogue(path: str) -> bool:
    """Tell whether a file holds translations: found by its path, its words would drown the code."""
    return path.lower().endswith(_CATALOGUES)
