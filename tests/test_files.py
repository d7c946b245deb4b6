from __future__ import annotations

import os
from pathlib import Path

import pytest

from stratum import files, tree
from stratum.files import Files
from stratum.memory import Memory


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file count as unchanged for long, so that caches answer."""
    monkeypatch.setattr(tree, "_TICK_NS", -(10**18))


def read(found: tuple[str, str] | None) -> str:
    assert found is not None
    return found[0]


@pytest.mark.usefixtures("settled")
def test_a_file_is_read_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.py").write_text("a = 1\n")
    opened = Files(tmp_path, 1000, lambda blob, language: None)
    assert read(opened.content("a.py")) == "a = 1\n"
    with monkeypatch.context() as patch:
        patch.setattr(tree, "read_text", None)
        assert read(opened.content("a.py")) == "a = 1\n"
    (tmp_path / "a.py").write_text("a = 12\n")
    assert read(opened.content("a.py")) == "a = 12\n"


@pytest.mark.usefixtures("settled")
def test_an_edit_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    opened = Files(tmp_path, 1000, lambda blob, language: None)
    for text in ("a = 1\n", "a = 2\n"):
        path.write_text(text)
        os.utime(path, (1e9, 1e9))
        assert read(opened.content("a.py")) == text


def test_a_file_just_written_is_read_every_time(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("a = 1\n")
    opened = Files(tmp_path, 1000, lambda blob, language: None)
    stamp = tree.Stamp.of((tmp_path / "a.py").stat())
    assert not stamp.settled(stamp.ctime_ns + 1)
    opened.content("a.py")
    assert not opened._texts


@pytest.mark.usefixtures("settled")
def test_the_cache_of_texts_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_CACHED_TEXTS", 3)
    opened = Files(tmp_path, 1000, lambda blob, language: None)
    for number in range(5):
        (tmp_path / f"{number}.py").write_text(f"a = {number}\n")
        opened.content(f"{number}.py")
    assert list(opened._texts) == ["2.py", "3.py", "4.py"]


def test_many_notes_on_one_edited_file_parse_it_once(
    memory: Memory, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        memory.write(f"Totals include tax {number}.", anchors=["shop/cart.py::Cart.total_price"])
    path = repository / "shop/cart.py"
    path.write_text("# edited\n" + path.read_text())
    parsed: list[str] = []
    parse = files.outline

    def counted(text: str, language: str) -> files.Outline:
        parsed.append(language)
        return parse(text, language)

    monkeypatch.setattr(files, "outline", counted)
    assert len(memory.search("totals include tax", limit=50).hits) >= 9
    assert parsed == ["python"]
