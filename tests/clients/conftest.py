"""Registers the marker `clients`; without `npm install` here its tests are not collected."""

from __future__ import annotations

from pathlib import Path

import pytest

if not Path(__file__).with_name("node_modules").is_dir():
    collect_ignore = ["test_clients.py"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "clients: needs node and `npm install` in tests/clients")
