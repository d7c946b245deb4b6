"""The command line as people meet it: what is printed and where, exit codes, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import click
import pytest
from click.testing import CliRunner, Result

from stratum import cli as command_line
from stratum.cli import cli, progress_text
from stratum.errors import StratumError
from stratum.models import Progress
from stratum.redact import MAX_SAID

SOURCE = '''"""Boxes and lids."""


class Box:
    """Holds things."""

    def open(self):
        """Lift the lid."""
        return self.lid


def count_lids(boxes):
    """Count the lids of all boxes."""
    return len(boxes)
'''


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name a home that is not there yet, and an embedder that needs no model."""
    folder = tmp_path / "home"
    monkeypatch.setenv("STRATUM_HOME", str(folder))
    monkeypatch.setenv("STRATUM_EMBED_MODEL", "hashing")
    monkeypatch.setenv("STRATUM_AUTHOR", "kim")
    return folder


@pytest.fixture
def repo(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a small repository and go there."""
    root = tmp_path / "boxes"
    (root / "src").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "-b", "main", str(root)], check=True)
    (root / "src" / "box.py").write_text(SOURCE)
    monkeypatch.chdir(root)
    return root


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(cli, arguments, input=stdin, catch_exceptions=False)


def run_outside(
    *arguments: str, prepare: str = "", stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process; `prepare` is Python that runs in it before."""
    code = f"{prepare}\nfrom stratum.cli import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        input=stdin, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def write(*arguments: str, stdin: str | None = None) -> str:
    result = run("write", *arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout.split()[0]


def no_traceback(result: Result | subprocess.CompletedProcess[str]) -> None:
    assert "Traceback" not in result.stderr
    assert "Traceback" not in result.stdout


# what works


def test_index_tells_what_it_did_and_search_finds_it(repo: Path) -> None:
    indexed = run("index")
    assert indexed.exit_code == 0
    assert "files    1 (1 parsed, 0 reused, 0 removed)" in indexed.stdout
    assert "symbols  3 new" in indexed.stdout
    assert "vectors  4 made, 0 missing" in indexed.stdout
    assert "Words are searchable now" in indexed.stderr
    found = run("search", "count", "lids")
    assert found.exit_code == 0
    first = found.stdout.splitlines()[0]
    assert "src/box.py:12-14" in first
    assert "function count_lids - " in first
    assert found.stderr == ""


def test_index_without_vectors_makes_none(repo: Path) -> None:
    assert json.loads(run("index", "--no-vectors", "--json").stdout)["vectors"] == 0


def test_a_second_index_run_reuses_everything(repo: Path) -> None:
    os.utime(repo / "src" / "box.py", (1_000_000_000, 1_000_000_000))
    run("index")
    again = json.loads(run("index", "--json").stdout)
    assert (again["parsed"], again["reused"], again["vectors"]) == (0, 1, 0)


def test_index_groups_skipped_files_by_reason_and_names_them_all_when_verbose(repo: Path) -> None:
    for number in range(5):
        (repo / f"page{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    short = run("index", "--no-vectors").stdout
    assert "skipped  5" in short
    assert "page0.png" in short
    assert "page4.png" not in short
    assert "page4.png" in run("index", "--no-vectors", "-v").stdout


def test_search_without_a_hit_says_so_on_stderr_and_succeeds(repo: Path) -> None:
    run("index", "--no-vectors")
    result = run("search", "zebra", "--mode", "lexical")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "Nothing found.\n")


def test_search_before_index_says_what_to_run(repo: Path) -> None:
    result = run("search", "lids", "--mode", "lexical")
    assert result.exit_code == 0
    assert "Note: This repository is not indexed yet: run `stratum index`." in result.stderr


def test_a_note_goes_from_write_to_search_get_forget_and_back(repo: Path) -> None:
    id_ = write("Lids", "are", "cheap", "--at", "src/box.py::Box.open", "--tag", "cost")
    line = run("search", "cheap lids", "--stratum", "notes").stdout
    assert line.startswith(id_)
    assert "src/box.py:7-9" in line
    assert "(fresh, cost, kim, " in line
    shown = run("get", id_).stdout
    assert "Lids are cheap" in shown
    assert "at src/box.py:7-9 Box.open (fresh" in shown
    assert run("forget", id_).stdout == f"{id_}  forgotten\n"
    assert run("search", "cheap", "--stratum", "notes").stdout == ""
    assert run("forget", id_, "--undo").stdout == f"{id_}  restored\n"
    assert run("search", "cheap", "--stratum", "notes").stdout.startswith(id_)


def test_a_stale_note_is_withheld_counted_and_shown_on_request(repo: Path) -> None:
    id_ = write("Opening lifts the lid", "--at", "src/box.py::Box.open")
    (repo / "src" / "box.py").write_text(SOURCE.replace("return self.lid", "return None"))
    hidden = run("search", "opening lifts", "--stratum", "notes")
    assert hidden.stdout == ""
    assert "Stale notes withheld: 1 (--include-stale shows them)." in hidden.stderr
    shown = run("search", "opening lifts", "--stratum", "notes", "--include-stale").stdout
    assert shown.startswith(id_)
    assert "  changed fact Box.open - Opening lifts the lid (kim" in shown


def test_write_masks_a_secret_and_says_so(repo: Path) -> None:
    secret = "ghp_" + "a1B2c3D4e5" * 3 + "f6G7h8"
    result = run("write", f"the token is {secret}", "--json")
    assert secret not in result.output
    assert json.loads(result.stdout)["redactions"] != []
    assert "Masked before it was stored" in run("write", f"again: {secret}").stderr


def test_write_and_pack_read_stdin(repo: Path) -> None:
    run("index")
    id_ = write("-", "--kind", "gotcha", stdin="Lids bend: 蓋\n")
    assert run("get", id_).stdout.endswith("Lids bend: 蓋\n")
    assert "src/box.py" in run("pack", "-", stdin="count the lids\n").stdout


def test_pack_keeps_its_budget_and_budget_0_prints_nothing(repo: Path) -> None:
    run("index")
    packed = json.loads(run("pack", "count lids", "--budget", "60", "--json").stdout)
    assert 0 < packed["receipt"]["tokens_used"] <= 60
    assert run("pack", "count lids", "--budget", "0").stdout == ""


def test_outline_lists_symbols_of_a_file_and_files_of_a_folder(repo: Path) -> None:
    run("index", "--no-vectors")
    symbols = run("outline", "src/box.py").stdout.splitlines()
    assert symbols[0].strip() == "4-9  class Box - Holds things."
    assert run("outline").stdout == "src/box.py\n"


def test_paths_mean_what_they_mean_to_the_shell(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("index", "--no-vectors")
    monkeypatch.chdir(repo / "src")
    assert "class Box" in run("outline", "box.py").stdout
    assert "class Box" in run("outline", "src/box.py").stdout
    assert run("write", "note", "--at", "box.py:1-2").exit_code == 0
    assert run("write", "other note", "--at", "box.py::Box").exit_code == 0
    assert "box.py" in run("search", "lids", "--path", "box.py", "--mode", "lexical").stdout


def test_a_project_elsewhere_is_named_with_an_option(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("index", str(repo), "--no-vectors").exit_code == 0
    assert "class Box" in run("outline", "src/box.py", "-C", str(repo)).stdout
    assert "class Box" in run("outline", "src/box.py", "--project", str(repo / "src")).stdout


def test_status_tells_what_is_there(repo: Path, home: Path) -> None:
    run("index")
    write("a note")
    shown = run("status").stdout
    assert "code      1 files, 3 symbols" in shown
    assert "notes     1 (0 forgotten)" in shown
    assert "vectors   4, 1 missing (hashing)" in shown
    assert str(home / "stratum.db") in shown


def test_export_and_import_carry_notes_to_another_machine(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = write("Lids are cheap", "--tag", "cost")
    file = tmp_path / "notes.jsonl"
    assert run("export", str(file)).exit_code == 0
    assert file.read_text(encoding="utf-8") == run("export").stdout
    monkeypatch.setenv("STRATUM_HOME", str(tmp_path / "other"))
    assert "1 created, 0 updated, 0 unchanged" in run("import", str(file)).stdout
    assert "Lids are cheap" in run("get", id_).stdout
    again = run("import", "-", stdin=file.read_bytes())
    assert "0 created, 0 updated, 1 unchanged" in again.stdout


def test_a_bad_line_of_an_import_is_named_and_the_good_ones_are_kept(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("Lids are cheap")
    lines = run("export").stdout + '{"project": 1\n[]\n'
    monkeypatch.setenv("STRATUM_HOME", str(tmp_path / "other"))
    result = run("import", "-", stdin=lines)
    assert result.exit_code == 1
    assert "1 created" in result.stdout
    assert "Not taken: line 3:" in result.stderr
    assert "Not taken: line 4:" in result.stderr


def test_export_to_a_device_leaves_the_device_in_place(repo: Path) -> None:
    assert run("export", os.devnull).exit_code == 0
    assert not Path(os.devnull).is_file()


def test_reembed_makes_all_vectors_anew(repo: Path) -> None:
    run("index", "--no-vectors")
    result = json.loads(run("reembed", "--json").stdout)
    assert result == {"vectors": 4, "vectors_pending": 0}


def test_warmup_loads_the_model(home: Path) -> None:
    result = json.loads(run("warmup", "--json").stdout)
    assert (result["name"], result["dimension"]) == ("hashing", 256)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_how_to_and_a_script(shell: str) -> None:
    lines = run("completion", shell).stdout.splitlines()
    assert lines[0].startswith("# Add this to ~/.")
    assert "_STRATUM_COMPLETE" in "\n".join(lines)


def test_every_command_has_help_with_an_example() -> None:
    for name, command in cli.commands.items():
        shown = run(name, "--help").stdout
        assert command.help
        assert f"\n    stratum {name}" in shown or f"| stratum {name}" in shown


def each_command() -> Iterator[tuple[str, click.Command]]:
    """Yield all commands, those of a group by their whole names."""
    for name, command in cli.commands.items():
        if isinstance(command, click.Group):
            yield from ((f"{name} {part}", inner) for part, inner in command.commands.items())
        else:
            yield name, command


def test_every_command_that_reports_can_print_json() -> None:
    without = {
        name
        for name, command in each_command()
        if not any("--json" in parameter.opts for parameter in command.params)
    }
    # export prints JSON lines by itself, web one address
    assert without == {"export", "serve", "completion", "web"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "lids"), ("status",), ("outline", "src/box.py"), ("pack", "lids"),
        ("index",), ("doctor",), ("write", "a fact"),
    ],
)  # fmt: skip
def test_json_output_is_one_json_value_and_nothing_else(
    repo: Path, arguments: tuple[str, ...]
) -> None:
    assert isinstance(json.loads(run(*arguments, "--json").stdout), dict)


def test_the_time_left_is_told_from_the_share_that_is_done() -> None:
    assert progress_text(Progress("vectors", 1000, 4000), 30.0) == (
        "vectors 1,000 of 4,000 (25%), about 1:30 left"
    )
    assert progress_text(Progress("scan", 0, 0), 3.0) == "scan …"


# how it behaves in a shell


def test_colours_appear_only_on_a_terminal_that_wants_them(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def coloured() -> bool:
        result = CliRunner().invoke(cli, ["get", "zzzz"], color=True)
        return "\x1b[" in result.stderr

    assert coloured()
    assert "\x1b[" not in run("get", "zzzz").stderr
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not coloured()


def test_a_reader_that_leaves_early_gets_silence(repo: Path) -> None:
    run("index", "--no-vectors")
    for number in range(40):
        write(f"lids {number} " + "long " * 1500)
    code = "from stratum.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "export"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == command_line.READER_GONE


def test_text_that_the_terminal_cannot_show_does_not_stop_the_output(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("蓋 lids", "--at", "src/box.py")
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    result = run_outside("search", "lids", "--stratum", "notes")
    assert result.returncode == 0
    assert "? lids" in result.stdout


def test_a_path_cannot_steer_the_terminal(repo: Path) -> None:
    (repo / "src" / "a\x1b[31m.py").write_text(SOURCE)
    run("index", "--no-vectors")
    shown = run("search", "lids", "--mode", "lexical").stdout
    assert "a\\x1b[31m.py" in shown
    assert "\x1b" not in shown


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to a whole console")
def test_ctrl_c_while_vectors_are_made_keeps_what_is_done(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(400):
        functions = (f"def lid_{number}_{n}():\n    return {n}\n" for n in range(40))
        (repo / f"m{number}.py").write_text("\n\n".join(functions))
    code = "from stratum.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "index"], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("vectors"):
                break
        process.send_signal(signal.SIGINT)
        messages = process.stderr.read()
    assert process.returncode == command_line.INTERRUPTED
    assert "What is done is kept" in messages
    assert "run `stratum index` again to go on" in messages
    assert "Traceback" not in messages
    half = json.loads(run("status", "--json").stdout)["embedder"]
    assert half["vectors"] > 0
    assert half["pending"] > 0
    assert half["vectors"] + half["pending"] == 400 * 41 + 4


# bad input


def test_every_error_class_becomes_a_message_and_its_exit_code(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def leaves(base: type[StratumError]) -> list[type[StratumError]]:
        return [base, *(leaf for below in base.__subclasses__() for leaf in leaves(below))]

    kinds = [kind for kind in leaves(StratumError) if kind.__module__ == "stratum.errors"]

    for kind in kinds:

        @cli.command("boom")
        @command_line.json_option
        def boom(as_json: bool, kind: type[StratumError] = kind) -> None:
            raise kind("It broke.", hint="Mend it.")

        try:
            said = run("boom")
            plain = json.loads(run("boom", "--json").stdout)["error"]
        finally:
            del cli.commands["boom"]
        assert said.exit_code == kind.exit_code
        assert said.stderr == "Error: It broke.\nMend it.\n"
        assert said.stdout == ""
        assert (plain["code"], plain["hint"]) == (kind.code, "Mend it.")


def test_a_bug_keeps_its_traceback(repo: Path) -> None:
    prepare = (
        "from stratum.cli import cli\n@cli.command('boom')\ndef boom(): raise ZeroDivisionError\n"
    )
    result = run_outside("boom", prepare=prepare)
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr


def test_wrong_usage_is_exit_code_2_and_json_on_request(repo: Path) -> None:
    assert run("search").exit_code == 2
    assert "Did you mean 'search'?" in run("serach", "x").stderr
    result = run("search", "x", "--limmit", "3", "--json")
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "usage"
    assert "--limit" in error["message"]


SECRET = "gh" + "p_" + "a1B2c3D4e5F6" * 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("--" + SECRET,),
        (SECRET,),
        ("search", "x", "--" + SECRET),
        ("search", "x", "-n", SECRET),
        ("write", "x", "--kind", SECRET),
    ],
)
def test_wrong_usage_does_not_repeat_a_secret(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    usage, hint, _, error = done.stderr.splitlines()[:4]
    assert usage.startswith("Usage: ")
    assert hint.startswith("Try ")
    assert error.startswith("Error: ")
    assert "[REDACTED:github-token]" in error
    assert SECRET not in done.stderr


def test_no_message_on_stderr_repeats_a_secret(repo: Path, tmp_path: Path) -> None:
    done = run("export", str(tmp_path / f"{SECRET}.jsonl"))
    assert done.exit_code == 0
    assert "0 notes written to" in done.stderr
    assert SECRET not in done.stderr


def test_an_error_repeats_no_more_than_the_start_and_the_end_of_a_long_text(repo: Path) -> None:
    done = run("search", "lids", "--since", "9" * 5_000)
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: '999")
    assert "999' is neither a date nor an age." in done.stderr
    assert len(done.stderr) < 1_000
    plain = json.loads(run("search", "lids", "--since", "9" * 5_000, "--json").stdout)["error"]
    assert len(plain["message"]) == MAX_SAID


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        (("index", "/no/such/place"), 2, "is not a file or folder that can be reached"),
        (("search", ""), 2, "The query has no word to look for."),
        (("search", "lids", "--limit", "0"), 2, "limit is 0; it must be from 1 to 100."),
        (("search", "lids", "--since", "soon"), 2, "'soon' is neither a date nor an age."),
        (("search", "lids", "--path", "../else"), 2, "is outside"),
        (("outline", "../else"), 2, "is outside"),
        (("outline", "src/bxo.py"), 3, "There is no file or folder 'src/bxo.py'"),
        (("write", "x", "--at", "/etc/passwd"), 2, "is outside"),
        (("write", "x", "--at", "src/box.py::Box.opne"), 3, "Did you mean: Box.open, "),
        (("write", "x", "--at", "src/box.py:90-99"), 2, "it has 14 lines"),
        (("write", "x", "--supersedes", "aaaaaaaaaaaa"), 3, "Nothing has the id aaaaaaaaaaaa."),
        (("write", "  "), 2, "The note is empty."),
        (("write", "x" * 8001), 2, "The note has 8,001 characters; at most 8,000 are kept."),
        (("get", "aaaaaaaaaaaa"), 3, "Nothing has the id aaaaaaaaaaaa."),
        (("get", "no such id"), 2, "is not an id."),
        (("forget", "aaaa"), 3, "Nothing has the id aaaa."),
        (("pack", "lids", "--budget", "-1"), 2, "budget is -1"),
        (("import", "nothing.jsonl"), 3, "There is no file 'nothing.jsonl'."),
        (("import", "src"), 2, "'src' cannot be read"),
        (("export", "nowhere/notes.jsonl"), 2, "'nowhere/notes.jsonl' cannot be written"),
        (("export", ""), 2, "cannot be written"),
    ],
)  # fmt: skip
def test_bad_input_gets_a_sentence_and_loses_nothing(
    repo: Path, arguments: tuple[str, ...], exit_code: int, sentence: str
) -> None:
    run("index", "--no-vectors")
    write("Lids are cheap")
    before = run("export").stdout
    result = run(*arguments)
    no_traceback(result)
    assert sentence in result.stderr
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert run("export").stdout == before


def test_an_ambiguous_id_lists_those_it_may_mean(repo: Path) -> None:
    header, line = run("export").stdout, ""
    write("one")
    plain = json.loads(run("export").stdout.splitlines()[1])
    for id_, text in (("aaaabbbbcccc", "two"), ("aaaaddddeeee", "three")):
        line += json.dumps({**plain, "id": id_, "text": text}) + "\n"
    assert run("import", "-", stdin=header + line).exit_code == 0
    result = run("get", "aaaa")
    assert result.exit_code == 2
    assert "More than one id begins with aaaa." in result.stderr
    assert "Did you mean: aaaabbbbcccc, aaaaddddeeee?" in result.stderr


def test_nul_bytes_are_refused_in_a_note_and_passed_over_in_a_task(repo: Path) -> None:
    run("index")
    result = run("write", "-", stdin="a\0b")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "The note contains a NUL byte." in result.stderr
    assert "src/box.py" in run("pack", "-", stdin="count\0lids").stdout


def test_a_task_cannot_steer_the_terminal(repo: Path) -> None:
    run("index")
    shown = run("pack", "-", stdin="count\0lids \x1b[31m").stdout
    assert "\0" not in shown
    assert "\x1b" not in shown
    assert "\n" in shown


def test_a_huge_task_is_cut_and_answered(repo: Path) -> None:
    run("index")
    result = run("pack", "-", stdin="count lids " * 500_000)
    assert result.exit_code == 0
    assert "The query was cut to its first 32,000 characters." in result.stderr
    assert "src/box.py" in result.stdout


def test_bytes_that_are_no_text_are_refused_by_import(repo: Path) -> None:
    result = run("import", "-", stdin=b'{"stratum_export": 1}\n\xff\xfe\n')
    assert result.exit_code == 2
    assert "is not UTF-8 text: invalid start byte at byte 22." in result.stderr


def test_bytes_that_are_no_text_are_no_note_but_may_stand_in_a_task(repo: Path) -> None:
    run("index")
    before = run("export").stdout
    result = run("write", "-", stdin=b"lids caf\xe9")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: '-' is not UTF-8 text: ")
    assert run("export").stdout == before
    assert "src/box.py" in run("pack", "-", stdin=b"count lids caf\xe9").stdout


@pytest.mark.parametrize("surrogate", ["search", "write", "pack"])
def test_arguments_that_are_no_unicode_do_not_crash(repo: Path, surrogate: str) -> None:
    run("index", "--no-vectors")
    result = run(surrogate, os.fsdecode(b"lids caf\xe9"))
    assert result.exit_code == 0
    no_traceback(result)


def drop_privileges() -> str:
    """Return Python that takes from root the right to read what is forbidden; others lack it."""
    return (
        "import ctypes, os, sys\n"
        "if os.geteuid() == 0 and not os.environ.get('DROPPED'):\n"
        "    libc = ctypes.CDLL(None, use_errno=True)\n"
        "    for capability in (1, 2):\n"  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        "        assert libc.prctl(24, capability, 0, 0, 0) == 0\n"  # PR_CAPBSET_DROP
        "    os.environ['DROPPED'] = '1'\n"
        "    os.execv(sys.executable, sys.orig_argv)\n"
    )


def test_an_unreadable_file_is_listed_and_the_rest_is_indexed(repo: Path) -> None:
    (repo / "secret.py").write_text(SOURCE)
    (repo / "secret.py").chmod(0)
    result = run_outside("index", "--json", prepare=drop_privileges())
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["files"] >= 1
    reasons = {skipped["path"]: skipped["reason"] for skipped in report["skipped"]}
    assert "permission denied" in reasons["secret.py"].lower()
    assert "count_lids" in run("search", "count lids").stdout


def test_a_file_that_is_not_utf_8_is_indexed(repo: Path) -> None:
    (repo / "latin.py").write_bytes(b'def caf\xe9():\n    """Serve coffee."""\n')
    run("index", "--no-vectors")
    assert "latin.py" in run("search", "coffee", "--mode", "lexical").stdout


def test_a_huge_file_is_listed_and_not_read(repo: Path) -> None:
    with (repo / "huge.py").open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    report = json.loads(run("index", "--json").stdout)
    assert [skipped["path"] for skipped in report["skipped"]] == ["huge.py"]
    assert report["symbols"] == 3


def test_a_loop_of_links_ends(repo: Path) -> None:
    (repo / "src" / "loop").symlink_to(repo, target_is_directory=True)
    (repo / "self").symlink_to(repo / "self")
    report = json.loads(run("index", "--json").stdout)
    assert report["files"] == 1
    assert {skipped["path"] for skipped in report["skipped"]} == {"src/loop", "self"}


# a database that cannot be used


def database_of(home: Path, notes: int = 1) -> Path:
    for number in range(notes):
        write(f"note number {number}")
    return home / "stratum.db"


def test_a_damaged_database_is_named_and_left_alone(repo: Path, home: Path) -> None:
    home.mkdir()
    database = home / "stratum.db"
    damaged = b"this is no database " * 1000
    database.write_bytes(damaged)
    result = run("search", "lids")
    assert result.exit_code == 4
    assert "is damaged or is not a database" in result.stderr
    assert database.read_bytes() == damaged


def test_a_database_of_a_later_version_is_refused_unchanged(repo: Path, home: Path) -> None:
    database = database_of(home)
    db = apsw.Connection(str(database))
    db.execute("PRAGMA user_version = 999")
    db.close()
    before = database.read_bytes()
    result = run("status")
    assert result.exit_code == 4
    assert "was written by a later version of Stratum" in result.stderr
    assert "Upgrade Stratum" in result.stderr
    assert database.read_bytes() == before


def test_a_home_below_a_file_is_named(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STRATUM_HOME", str(tmp_path / "file" / "home"))
    result = run("status")
    assert result.exit_code == 4
    assert "cannot be used: Not a directory." in result.stderr
    assert "Set STRATUM_HOME to a folder you can write." in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit on a file's size")
def test_a_disk_that_takes_no_more_loses_nothing(repo: Path, home: Path) -> None:
    database = database_of(home, notes=3)
    before = run("export").stdout
    limit = database.stat().st_size + 8192
    prepare = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    result = run_outside("import", "-", prepare=prepare, stdin=before * 3 + many_notes(before))
    assert result.returncode == 4
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr
    assert run("export").stdout == before


def many_notes(exported: str) -> str:
    plain = json.loads(exported.splitlines()[1])
    letters = "abcdefghijklmnop"
    ids = (f"{a}{b}zzzzzzzzzz" for a in letters for b in letters)
    return "".join(json.dumps({**plain, "id": id_, "text": id_ * 600}) + "\n" for id_ in ids)


def test_a_database_that_stays_locked_is_an_error_that_says_to_try_again(
    repo: Path, home: Path
) -> None:
    """Takes as long as the timeout, which nobody can set."""
    database = database_of(home)
    before = run("export").stdout
    holder = apsw.Connection(str(database))
    holder.execute("BEGIN IMMEDIATE")
    result = run_outside("write", "a second note", "--json")
    holder.execute("ROLLBACK")
    holder.close()
    assert result.returncode == 4
    error = json.loads(result.stdout)["error"]
    assert "has been locked by another process" in error["message"]
    assert error["retryable"] is True
    assert run("export").stdout == before


# settings


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("embed_modle = 'none'", "has a setting that Stratum does not know: 'embed_modle'."),
        ("embed_modle = 'none'", "Did you mean: embed_model?"),
        ("threads = 'many'", "should be a whole number, but is 'many'."),
        ("threads = 0", "threads must be at least 1, but is 0."),
        ("log_level = 'loud'", "Choose one of debug, info, warning, error."),
        ("offline = ", "cannot be read"),
    ],
)
def test_a_wrong_settings_file_is_named_with_its_mistake(
    repo: Path, home: Path, text: str, sentence: str
) -> None:
    home.mkdir()
    (home / "config.toml").write_text(text)
    result = run("status")
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert sorted(path.name for path in home.iterdir()) == ["config.toml"]


def test_an_unknown_model_is_refused_before_anything_is_done(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRATUM_EMBED_MODEL", "no model")
    result = run("warmup")
    assert result.exit_code == 2
    assert "There is no embedding model named 'no model'." in result.stderr


def test_warmup_downloads_nothing_when_offline(
    repo: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRATUM_EMBED_MODEL", "BAAI/bge-small-en-v1.5")
    monkeypatch.setenv("STRATUM_OFFLINE", "1")
    result = run("warmup")
    assert result.exit_code == 4
    assert "nothing may be downloaded: offline is set." in result.stderr
    assert not home.exists()


def test_the_readme_reads_notes_with_plain_sqlite(repo: Path, home: Path) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    sql = readme.partition('stratum.db "')[2].partition('"\n```')[0]
    kept, forgotten = write("Lids are cheap"), write("Lids are dear")
    run("forget", forgotten)
    db = apsw.Connection(str(home / "stratum.db"), flags=apsw.SQLITE_OPEN_READONLY)
    rows = list(db.execute(sql))
    db.close()
    assert [(row[0], row[2], row[4]) for row in rows] == [(kept, "kim", "Lids are cheap")]


@pytest.mark.parametrize("arguments", [("write", "-"), ("pack", "-"), ("import", "-"), ("serve",)])
def test_a_closed_stdin_is_told_in_one_sentence(repo: Path, arguments: tuple[str, ...]) -> None:
    done = run_outside(*arguments, prepare="import sys; sys.stdin = None")
    no_traceback(done)
    assert done.returncode == 2
    assert "closed" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("arguments", [("outline", "src/box.py"), ("status", "--json")])
def test_output_that_finds_no_space_is_told_in_one_sentence(
    repo: Path, arguments: tuple[str, ...]
) -> None:
    code = "from stratum.cli import main\nmain()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr.startswith("Error: The output cannot be written: No space left on device.")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_an_export_that_finds_no_space_is_no_wrong_path(repo: Path) -> None:
    result = run("export", "/dev/full")
    assert result.exit_code == 4
    assert "'/dev/full' cannot be written: No space left on device." in result.stderr


@pytest.mark.parametrize("stderr", ["None", "open('/dev/full', 'w')"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_progress_that_nobody_takes_does_not_stop_the_work(repo: Path, stderr: str) -> None:
    done = run_outside("index", prepare=f"import sys; sys.stderr = {stderr}")
    assert "Indexed boxes in" in done.stdout


def test_a_closed_stdout_is_no_bug(repo: Path) -> None:
    assert run("index", "--no-vectors").exit_code == 0
    done = run_outside("search", "lid", prepare="import sys; sys.stdout = None")
    no_traceback(done)
    assert done.returncode == 0


def test_an_empty_path_is_not_the_current_folder(repo: Path) -> None:
    done = run("index", "")
    assert done.exit_code == 2
    assert "The path is empty." in done.stderr


def on_terminal(columns: int, *arguments: str) -> list[str]:
    """Run the command line on a terminal so wide; return its lines, without colours."""
    pty = pytest.importorskip("pty", reason="there is none on Windows")
    code = "from stratum.cli import main\nmain()"
    reader, writer = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-c", code, *arguments],
            stdout=writer, check=True, timeout=120,
            env={**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1"},
        )  # fmt: skip
        return os.read(reader, 8192).decode().split("\r\n")[:-1]
    finally:
        os.close(writer)
        os.close(reader)


def test_an_outline_is_cut_to_the_terminal(repo: Path) -> None:
    lines = on_terminal(40, "outline", "src/box.py")
    assert lines[1] == "  7-9  method Box.open - Lift the lid."
    assert lines[2] == "12-14  function count_lids - Count the …"


def test_a_hit_fits_the_terminal_and_says_first_that_it_is_stale(repo: Path, stale: str) -> None:
    git(repo, "commit", "-q", "-a", "-m", "Count one more lid because " + "so many were lost " * 5)
    run("index", "--no-vectors")
    arguments = ("search", "lids count double", "--include-stale", "--mode", "lexical")
    lines = on_terminal(60, *arguments)
    assert lines[0] == f"{stale}  src/box.py:12-14"
    assert lines[2] == "  count_lids: +1 -1 of 3 lines"
    assert lines[1].startswith("  changed fact count_lids - Lids count double (kim, ")
    assert lines[3].endswith("…")
    assert max(map(len, lines)) == 60
    assert on_terminal(120, *arguments)[0].startswith(
        f"{stale}  src/box.py:12-14  changed fact count_lids - Lids count double (kim, "
    )


def test_wide_characters_take_two_columns_of_the_terminal(repo: Path) -> None:
    id_ = write("蓋" * 60)
    [line] = on_terminal(60, "search", "蓋" * 60, "--stratum", "notes")
    assert line == f"{id_}  fact {'蓋' * 20}…"


def test_a_commit_is_shown_with_its_id_and_without_an_empty_place(repo: Path, stale: str) -> None:
    run("index", "--no-vectors")
    head = git(repo, "rev-parse", "HEAD")
    found = run("search", "boxes", "--stratum", "history").stdout.splitlines()
    assert [line[12:] for line in found[:1]] == ["  commit Boxes"]
    assert found[1].startswith(f"  {head[:10]}, 20")
    assert found[1].endswith(": src/box.py")
    assert run("get", found[0][:12]).stdout.startswith(f"{found[0][:12]}  commit  Boxes (")
    for id_ in (head, head[:7], found[1].split(",")[0].strip()):
        assert run("get", id_).stdout == run("get", found[0][:12]).stdout


def test_a_commit_that_head_is_not_built_on_says_so(repo: Path, stale: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    git(repo, "worktree", "add", "-q", "-b", "side", str(other))
    git(other, "commit", "-q", "--allow-empty", "-m", "Zebra")
    head = git(other, "rev-parse", "HEAD")
    run("index", "--no-vectors")
    run("index", "--no-vectors", str(other))
    assert "not part of HEAD" not in run("get", head, "-C", str(other)).stdout
    assert "not part of HEAD" in run("get", head).stdout


def test_a_note_in_full_is_wrapped_between_words_on_a_terminal_alone(
    repo: Path, stale: str
) -> None:
    text = "Lids are counted twice where somebody has put one box into another one"
    id_ = write(f"{text}\n    indented {text}", "--at", "src/box.py::Box")
    assert run("get", id_).stdout.endswith(f"\n\n{text}\n    indented {text}\n")
    assert on_terminal(40, "get", id_)[-4:] == [
        "",
        "Lids are counted twice where somebody",
        "has put one box into another one",
        f"    indented {text}",
    ]
    assert max(map(len, on_terminal(40, "get", stale)[:-2])) <= 40
    lines = on_terminal(40, "status")
    assert f"root      {repo}" in lines
    assert "indexed   not yet: run `stratum index`" in lines
    assert any(line.startswith("          (feature @ ") for line in lines)


def test_a_full_record_cannot_steer_the_terminal(repo: Path) -> None:
    evil = "evil\x1b[31m\nfile\u202e.py"
    (repo / evil).write_text("def lid():\n\treturn 'so\x1b[31m far\u3000off'\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "Zebra")
    run("index", "--no-vectors")
    [past, _] = run("search", "zebra", "--stratum", "history").stdout.splitlines()
    found = run("search", "lid", "--kind", "function", "--mode", "lexical", "--path", evil)
    [code] = found.stdout.splitlines()
    for lines in (
        run("get", past[:12]).stdout.splitlines(),
        on_terminal(120, "get", past[:12]),
        on_terminal(120, "get", code[:12]),
    ):
        assert len(lines) in (3, 4)
        assert not [c for line in lines for c in line.replace("\t", "") if c in "\x1b\u202e"]
    assert any(line.startswith("evil[31m file.py") for line in on_terminal(120, "get", past[:12]))
    assert run("get", code[:12]).stdout.splitlines()[1:] == [
        "def lid():", "\treturn 'so[31m far\u3000off'",
    ]  # fmt: skip


def test_json_says_the_same_and_cannot_steer_the_terminal(repo: Path) -> None:
    evil = "src/evil\x9b31m\u202e.py"
    (repo / evil).write_text(SOURCE)
    run("index", "--no-vectors")
    printed = run("search", "lids", "--mode", "lexical", "--path", evil, "--json").stdout
    assert not set("\x9b\u202e") & set(printed)
    assert {hit["path"] for hit in json.loads(printed)["hits"]} == {evil}
    write("Lids \u202eof\u3000glass \U000e0041")
    exported = run("export").stdout
    assert not set("\u202e\U000e0041") & set(exported)
    assert json.loads(exported.splitlines()[1])["text"] == "Lids \u202eof\u3000glass \U000e0041"


# truth


def git(root: Path, *words: str) -> str:
    """Run git as somebody and return what it prints."""
    me = ("-c", "user.name=Kim", "-c", "user.email=kim@example.org")
    command = ["git", "-C", str(root), *me, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def stale(repo: Path) -> str:
    """Write a note, break it on a branch, and return its id."""
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "Boxes")
    id_ = run("write", "Lids count double", "--at", "src/box.py::count_lids").stdout.split()[0]
    git(repo, "checkout", "-q", "-b", "feature")
    path = repo / "src/box.py"
    path.write_text(path.read_text().replace("len(boxes)", "len(boxes) + 1"))
    return id_


def test_check_lists_stale_notes_with_what_changed(repo: Path, stale: str) -> None:
    run("write", "Boxes open", "--at", "src/box.py::Box.open")
    result = run("check")
    assert result.exit_code == 0
    first, *change = result.stdout.splitlines()
    says = "changed fact count_lids - Lids count double (kim, "
    assert first.startswith(f"{stale}  src/box.py:12-14  {says}")
    assert change == ["  count_lids: +1 -1 of 3 lines", "  not committed yet"]
    assert "2 notes judged (1 changed, 1 fresh)." in result.stderr
    plain = json.loads(run("check", "--json").stdout)
    assert plain["counts"] == {"changed": 1, "fresh": 1}
    assert [hit["id"] for hit in plain["stale"]] == [stale]


def test_check_of_a_branch_fails_when_it_breaks_a_note(repo: Path, stale: str) -> None:
    result = run("check", "--diff", "main")
    assert (result.exit_code, result.stdout.split()[0]) == (1, stale)
    assert "1 note judged (1 changed); this branch breaks 1." in result.stderr
    git(repo, "checkout", "-q", "--", ".")
    assert run("check", "--diff", "main").exit_code == 0
    result = run("check", "--diff", "nowhere")
    assert result.exit_code == 2
    assert "git knows no commit 'nowhere' here." in result.stderr


def test_verify_and_its_undo(repo: Path, stale: str) -> None:
    assert run("verify", stale).stdout == f"{stale}  verified  src/box.py:12-14\n"
    assert "0 changed" not in run("check").stderr
    assert run("check").stdout == ""
    plain = json.loads(run("verify", stale[:5], "--undo", "--json").stdout)
    assert [written["action"] for written in plain] == ["restored"]
    assert run("check").stdout.startswith(stale)
    assert run("verify", stale, "--at", "src/box.py::Box").stdout.endswith("src/box.py:4-9\n")
    for wrong in ([stale, "aaaa", "--at", "src/box.py"], [], [stale, "--branch", "main"]):
        result = run("verify", *wrong)
        assert result.exit_code == 2
        assert "That is not clear." in result.stderr


def test_json_of_a_failed_verify_tells_what_was_done_before(repo: Path, stale: str) -> None:
    result = run("verify", "--json", stale, "zzzzzzzzzzzz")
    plain = json.loads(result.stdout)
    assert result.exit_code == 3
    assert plain["error"]["code"] == "not_found"
    assert [(w["note"]["id"], w["action"]) for w in plain["done"]] == [(stale, "verified")]
    assert run("check").stdout == ""
    plain = json.loads(run("verify", "--json", "zzzzzzzzzzzz", stale).stdout)
    assert plain["done"] == []
    assert "done" not in json.loads(run("verify", "--json", stale, "--branch", "x").stdout)


def test_the_number_of_a_definition_is_shown_where_it_tells_which(repo: Path) -> None:
    again = "\n\ndef count_lids(boxes):\n    return 0\n"
    (repo / "src/box.py").write_text(SOURCE + again)
    second = write("Always nothing", "--at", "src/box.py::count_lids#2")
    only = write("Opening", "--at", "src/box.py::Box.open")
    assert "  at src/box.py:17-18 count_lids#2 (fresh)\n" in run("get", second).stdout
    assert "  at src/box.py:7-9 Box.open (fresh)\n" in run("get", only).stdout


def test_a_note_that_moved_is_shown_with_both_places(repo: Path) -> None:
    id_ = write("Counting", "--at", "src/box.py::count_lids")
    (repo / "src/box.py").write_text(f"# one\n{SOURCE}")
    entry = run("get", id_).stdout
    assert "  at src/box.py:12-14 count_lids (moved: now src/box.py:13-15)\n" in entry


def test_the_notes_of_a_squashed_branch_are_taken_over(repo: Path, stale: str) -> None:
    git(repo, "commit", "-q", "-a", "-m", "Count one more")
    moved = run("verify", stale).stdout.split()[0]
    run("write", "Boxes are counted", "--at", "src/box.py::Box")
    run("write", "Lids too")
    git(repo, "checkout", "-q", "main")
    git(repo, "merge", "-q", "--squash", "feature")
    path = repo / "src/box.py"
    path.write_text(path.read_text().replace("return self.lid", "return self._lid"))
    git(repo, "commit", "-q", "-a", "-m", "Feature")
    assert "3 other-branch" in run("check").stderr
    result = run("verify", "--branch", "feature")
    assert f"{moved}  verified  src/box.py:12-14" in result.stdout
    assert len(result.stdout.splitlines()) == 2
    assert "not the same here: 1." in result.stderr
    assert "1 fresh, 1 other-branch, 1 unanchored" in run("check").stderr
    result = run("verify", "--branch", "nowhere")
    assert result.exit_code == 3
    assert "No note is withheld here" in result.stderr


def test_stale_notes_are_shown_with_what_changed_and_in_full(repo: Path, stale: str) -> None:
    result = run("search", "lids", "--stratum", "notes", "--include-stale")
    assert "  count_lids: +1 -1 of 3 lines\n  not committed yet\n" in result.stdout
    entry = run("get", stale).stdout
    assert "(changed: count_lids was edited)\n     count_lids: +1 -1 of 3 lines\n" in entry
    git(repo, "commit", "-q", "-a", "-m", "Count one more")
    run("verify", stale)
    git(repo, "checkout", "-q", "main")
    entry = run("get", stale).stdout
    assert "written on feature at" in entry
    assert "other-branch" in entry
