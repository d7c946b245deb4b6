from __future__ import annotations

from pathlib import Path

import pytest

from stratum.config import SETTINGS, load
from stratum.errors import InvalidInput


def write_config(home: Path, text: str) -> dict[str, str]:
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(text, encoding="utf-8")
    return {"STRATUM_HOME": str(home)}


def test_one_variable_moves_every_place(tmp_path: Path) -> None:
    settings = load({"STRATUM_HOME": str(tmp_path / "here")})
    for place in (settings.database, settings.cache_dir, settings.config_file):
        assert place.is_relative_to(tmp_path / "here")


def test_loading_creates_nothing(tmp_path: Path) -> None:
    load({"STRATUM_HOME": str(tmp_path / "here")})
    assert list(tmp_path.iterdir()) == []


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    environ = write_config(tmp_path, 'embed_model = "none"\nthreads = 1\n')
    assert load(environ).embed_model == "none"
    assert load(environ).threads == 1
    assert load({**environ, "STRATUM_THREADS": "4"}).threads == 4
    assert load({"STRATUM_HOME": str(tmp_path / "other")}).embed_model == "bundled"


def test_the_history_can_be_bounded_and_turned_off(tmp_path: Path) -> None:
    assert load({"STRATUM_HOME": str(tmp_path)}).history_commits == 1_000_000
    environ = write_config(tmp_path, "history_commits = 0\nhistory_vectors = 100\n")
    settings = load({**environ, "STRATUM_HISTORY_VECTORS": "0"})
    assert (settings.history_commits, settings.history_vectors) == (0, 0)


@pytest.mark.parametrize("variable", ["STRATUM_HISTORY_COMMITS", "STRATUM_HISTORY_VECTORS"])
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("-1", "must be from 0 to 2147483647, but is -1"),
        ("2147483648", "must be from 0 to 2147483647, but is 2147483648"),
        ("9" * 20, "must be from 0 to 2147483647"),
        ("9" * 5_000, "should be a whole number"),
        ("1.5", "should be a whole number, but is '1.5'"),
        ("", "should be a whole number, but is ''"),
    ],
)
def test_a_bound_of_the_history_out_of_range_is_one_sentence(
    tmp_path: Path, variable: str, text: str, sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        load({"STRATUM_HOME": str(tmp_path), variable: text})


def test_the_largest_bounds_of_the_history_are_taken(tmp_path: Path) -> None:
    environ = {"STRATUM_HOME": str(tmp_path), "STRATUM_HISTORY_COMMITS": " 2147483647 "}
    assert load(environ).history_commits == 2_147_483_647


@pytest.mark.parametrize(("text", "value"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_booleans_are_read_from_the_environment(tmp_path: Path, text: str, value: bool) -> None:
    environ = {"STRATUM_HOME": str(tmp_path), "STRATUM_OFFLINE": text}
    assert load(environ).offline is value


def test_the_hubs_own_offline_switch_is_honoured(tmp_path: Path) -> None:
    assert load({"STRATUM_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}).offline


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("embed_modell = 'x'", "does not know: 'embed_modell'"),
        ("threads = 'two'", "should be a whole number, but is 'two'"),
        ("threads = true", "should be a whole number, but is True"),
        ("threads = 0", "threads must be at least 1"),
        ("max_file_bytes = 0", "max_file_bytes must be at least 1"),
        ("history_commits = -1", "history_commits must be from 0 to 2147483647, but is -1"),
        ("history_vectors = -1", "history_vectors must be from 0 to 2147483647, but is -1"),
        ("history_vectors = 2147483648", "history_vectors must be from 0 to 2147483647"),
        ("history_commits = 99999999999999999999", "history_commits must be from 0 to 2147483647"),
        (f"history_commits = {'9' * 5_000}", "cannot be read"),
        ("log_level = 'loud'", "log_level is 'loud'"),
        ("= broken", "cannot be read"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence) as caught:
        load(write_config(tmp_path, text))
    assert caught.value.exit_code == 2


def test_an_unknown_key_names_the_near_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(write_config(tmp_path, "embed_modell = 'x'"))
    assert caught.value.similar == ("embed_model",)


def test_every_setting_has_a_variable_and_a_meaning() -> None:
    for setting in SETTINGS:
        assert setting.variable == f"STRATUM_{setting.key.upper()}"
        assert setting.meaning.endswith(".")
