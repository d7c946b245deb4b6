"""What all tests share: a home of their own, a small real repository, a memory over it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from stratum.config import Settings, load
from tests.redis_server import redis_server as redis_server  # a fixture


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test can reach the real home, settings, identity or agent of whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "CLAUDE_PROJECT_DIR"):
        monkeypatch.delenv(variable, raising=False)
    for variable in [name for name in os.environ if name.startswith("STRATUM_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("STRATUM_HOME", str(home / "stratum"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a database below `tmp_path` and the embedder that needs no model."""
    return load(
        {
            "STRATUM_HOME": str(tmp_path / "stratum-home"),
            "STRATUM_EMBED_MODEL": "hashing",
            "STRATUM_AUTHOR": "Ada",
        }
    )


SAMPLE = {
    "shop/cart.py": '''"""The shopping cart and its totals."""

TAX_RATE = 0.19


class Cart:
    """Items on their way to the till."""

    def add_item(self, name, price, quantity=1):
        """Put an item into the cart."""
        self.items.append((name, price, quantity))

    def total_price(self, *, with_tax=True):
        """Sum up all items."""
        net = sum(price * quantity for _, price, quantity in self.items)
        return net * (1 + TAX_RATE) if with_tax else net


def expire_old_carts(carts, now):
    """Drop the carts that nobody has touched for a day."""
    return [cart for cart in carts if now - cart.touched < 86400]
''',
    "shop/session.py": '''"""Sessions of customers."""


class SessionStore:
    def load(self, key):
        return self.rows[key]

    def delete_expired(self, now):
        """Delete session rows whose time has passed."""
        self.rows = {k: row for k, row in self.rows.items() if row.expires > now}
''',
    "web/render.js": """// Turns a cart into HTML.
export function renderCart(cart) {
  return cart.items.map((item) => `<li>${item.name}</li>`).join("");
}
""",
    "README.md": "# Shop\n\nA small shop.\n\n## Deployment\n\nRun the migrations first.\n",
    "tests/test_cart.py": "def test_total():\n    assert True\n",
}


def git(root: Path, *words: str) -> str:
    """Run git in `root` and return what it prints."""
    return subprocess.run(
        ["git", "-C", str(root), *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def make_repository(root: Path, files: dict[str, str] | None = None) -> Path:
    """Create a git repository with one commit."""
    for name, text in (SAMPLE if files is None else files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.name", "Ada")
    git(root, "config", "user.email", "ada@example.org")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "Start the shop")
    return root


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small repository with Python, JavaScript, Markdown and a test."""
    root = tmp_path / "shop"
    root.mkdir()
    return make_repository(root)


@pytest.fixture
def memory(settings: Settings, repository: Path):
    """An indexed memory of the small repository."""
    from stratum.memory import Memory

    with Memory(settings, repository) as opened:
        opened.index()
        yield opened
