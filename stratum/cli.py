"""The command line: arguments in, one call to `Memory`, text or JSON out; the composition root.

Owns how results and errors look in a terminal. Holds no decision about the memory itself. Whatever
is slow to import is imported by the command that needs it. Results go to stdout; progress, notices
and errors go to stderr.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gc
import itertools
import os
import shutil
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import click

from stratum._version import __version__
from stratum.errors import (
    EmbedderUnavailable,
    InvalidInput,
    NotFound,
    StratumError,
    TeamUnavailable,
    Unavailable,
)
from stratum.models import (
    MODES,
    NOTE_KINDS,
    STALE,
    STRATA,
    Anchor,
    CheckReport,
    Entry,
    Filters,
    Finding,
    Hit,
    IndexReport,
    Mode,
    Note,
    OutlineResult,
    Pack,
    Progress,
    SearchResult,
    Status,
    SyncReport,
    Verdict,
    Written,
    to_plain,
)
from stratum.task_cli import task
from stratum.terminal import (
    cells,
    clean,
    clean_lines,
    cut,
    escaped,
    json_option,
    notices,
    print_json,
    project_option,
    say,
    width,
    wrapped,
)

if TYPE_CHECKING:
    from stratum.config import Settings
    from stratum.memory import Memory
    from stratum.web import Extension

INTERRUPTED = 130  # what a shell reports of a program that Ctrl-C ended
READER_GONE = 141  # the same for a reader such as `head` that has seen enough
_PLAIN_EVERY = 5.0  # seconds between two progress lines that are not on a terminal
_DRAW_EVERY = 0.1  # seconds between two states of the line on a terminal
_WIDEST_PLACE = 48  # characters up to which places are padded to a column
_HERE = "here: "  # before what chose a place in its file
_LEAST_ABOUT = 32  # characters on a terminal that what is said of a hit needs beside its place
_ALL_WAITING = 1_000_000  # notes that a dry run lists at most
_SKIPPED_NAMES = 3  # names shown for each reason why files were skipped
_OUTPUT_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


class _Root(click.Group):
    """Turns every error meant for users into a message and an exit code, in this one place."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Remember whether JSON was asked for: an error in the arguments is to be JSON as well."""
        ctx.meta["json"] = "--json" in itertools.takewhile(lambda arg: arg != "--", args)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before the command."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise _masked(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; the exit status is what it returns."""
        _make_encodable(sys.stdout, sys.stderr)
        try:
            code = super().invoke(ctx)
        except StratumError as error:
            _show_error(
                error.to_dict(), as_json=ctx.meta.get("json", False), done=ctx.meta.get("done")
            )
            code = error.exit_code
        except click.UsageError as error:
            if not ctx.meta.get("json", False):
                raise _masked(error) from None
            plain = {"code": "usage", "message": error.format_message(), "hint": "See --help."}
            _show_error({**plain, "retryable": False}, as_json=True)
            code = error.exit_code
        except KeyboardInterrupt:
            say("\nInterrupted.")
            code = INTERRUPTED
        except BrokenPipeError:
            # what is left in the buffer has no reader: without this Python complains at its exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = READER_GONE
        except OSError as error:
            if error.errno not in _OUTPUT_LOST:
                raise
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            say(f"Error: The output cannot be written: {error.strerror}.")
            say("Free some space where it goes, or send it elsewhere.")
            code = Unavailable.exit_code
        ctx.exit(code or 0)


def _masked(error: click.UsageError) -> click.UsageError:
    """Return an error in the arguments, which click words with what was typed, fit to be shown."""
    from stratum.redact import redact_said

    return click.UsageError(redact_said(error.format_message()), ctx=error.ctx)


def _make_encodable(*streams: IO[str]) -> None:
    """Print what the terminal cannot show as a question mark instead of failing."""
    for stream in streams:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def _show_error(error: dict[str, Any], *, as_json: bool, done: Sequence[Any] | None = None) -> None:
    """Say what went wrong; JSON has beside it what a command with several steps has done before."""
    from stratum.redact import redact_said

    error = redact_said(error)
    if as_json:
        print_json({"error": error} if done is None else {"error": error, "done": done})
        return
    say(click.style("Error:", fg="red") + f" {clean(error['message'])}")
    if error["hint"]:
        say(clean(error["hint"]))
    if error.get("similar"):
        say(f"Did you mean: {', '.join(map(clean, error['similar']))}?")


def _verbose_option(function: Callable[..., Any]) -> Callable[..., Any]:
    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.meta["verbose"] = ctx.meta.get("verbose", False) or value

    return click.option(
        "-v", "--verbose", is_flag=True, expose_value=False, callback=remember,
        help="Say more on stderr.",
    )(function)  # fmt: skip


@click.group(
    cls=_Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExamples:\n  stratum index\n  stratum search where do sessions expire\n"
    '  stratum write "Tokens are rotated here" --at auth.py::rotate',
)
@click.version_option(__version__, prog_name="stratum")
@_verbose_option
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Remember a codebase for coding agents: index it, search it, keep notes that know their place.

    Everything stays on this machine, but for notes of scope `team` where a team's Redis is set.
    Exit codes: 0 done, 1 a check failed, 2 wrong usage or input, 3 not found, 4 something that
    Stratum needs is missing or busy, 5 claimed by somebody else, 130 interrupted.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False


def _command(
    examples: str, *, name: str | None = None, settings: dict[str, Any] | None = None
) -> Callable[[Callable[..., Any]], click.Command]:
    shown = textwrap.indent(textwrap.dedent(examples).strip("\n"), "  ")

    def register(function: Callable[..., Any]) -> click.Command:
        command = cli.command(name, epilog=f"\b\nExamples:\n{shown}", context_settings=settings)
        return command(_verbose_option(function))

    return register


@_command("""
    stratum index
    stratum index ~/src/django --no-vectors
    stratum index --json | jq .skipped
""")
@click.argument("path", default=".")
@click.option("--no-vectors", is_flag=True, help="Make the words searchable and stop there.")
@json_option
@click.pass_context
def index(ctx: click.Context, path: str, no_vectors: bool, as_json: bool) -> int:
    """Index the project that PATH belongs to, or bring its index up to date."""
    gc.set_threshold(50_000, 20, 50)  # millions of small objects and no cycles: 7 % of the time
    with _open(path) as memory, _stop_on_interrupt() as stop, _Bar() as bar:
        report = memory.index(report=bar, vectors=not no_vectors, stop=stop)
        name = memory.worktree.name
    if as_json:
        print_json(to_plain(report))
    else:
        _print_report(report, name, everything=ctx.meta["verbose"])
        notices(report.notices)
    if not report.interrupted:
        return 0
    say(
        f"Interrupted. What is done is kept ({report.vectors_pending:,} vectors are missing); "
        "run `stratum index` again to go on."
    )
    return INTERRUPTED


@_command("""
    stratum search where do sessions expire
    stratum search QuerySet.get --path django/db --limit 5
    stratum search flaky --stratum notes --since 30d --json
    stratum search cart total is wrong --explain
    stratum search --remote --of github.com/acme/shop how are refunds booked
""")
@click.argument("query", nargs=-1, required=True)
@click.option("-n", "--limit", default=10, show_default=True, help="At most so many hits.")
@click.option(
    "--mode", type=click.Choice(MODES), default="hybrid", show_default=True,
    help="Words and meaning, words alone, meaning alone.",
)  # fmt: skip
@click.option("--path", help="Only this file or folder.")
@click.option("--symbol", help="Only this symbol, by its whole name or its last parts.")
@click.option("--kind", help="Only this kind, such as function, class, gotcha.")
@click.option("--stratum", type=click.Choice(STRATA), help="Only this layer.")
@click.option("--since", metavar="WHEN", help="Not older than a date or an age such as 7d.")
@click.option("--tag", help="Only notes with this tag.")
@click.option(
    "--include-stale", is_flag=True, help="Show notes that no longer hold, with what changed."
)
@click.option("--explain", is_flag=True, help="Show what each score is made of.")
@click.option(
    "--remote", is_flag=True, help="Ask the team's Redis for notes, instead of this machine."
)
@click.option(
    "--of", metavar="PROJECT", help="With --remote: of another project, such as"
    " github.com/acme/shop, or `all`."
)  # fmt: skip
@project_option
@json_option
def search(
    query: tuple[str, ...],
    limit: int,
    mode: Mode,
    include_stale: bool,
    explain: bool,
    remote: bool,
    of: str | None,
    project: str,
    as_json: bool,
    **wanted: str | None,
) -> None:
    """Find code and notes by words and by meaning. QUERY needs no quotes."""
    if of and not remote:
        raise InvalidInput("--of needs --remote: this machine's memory is of one project.")
    with _open(project) as memory:
        if wanted["path"] is not None and not of:
            wanted["path"] = _from_here(memory, wanted["path"])
        words, filters = " ".join(query), Filters(**wanted)
        if remote:
            found = _search_team(memory, words, filters, of, limit, include_stale)
        else:
            found = memory.search(
                words,
                filters=filters,
                limit=limit,
                mode=mode,
                include_stale=include_stale,
                explain=explain,
            )
            _count_use(memory, found)
        if as_json:
            print_json(to_plain(found))
        else:
            _print_found(found)


@_command("""
    stratum get k3l2mnop4qrs
    stratum get k3l2 --json
    stratum get 1f0c9d27ab
""")
@click.argument("id_", metavar="ID")
@project_option
@json_option
def get(id_: str, project: str, as_json: bool) -> None:
    """Show a note, a piece of code or a past commit in full.

    The first 4 characters of its ID can be enough; of a commit also git's own id, from 7 digits on.
    """
    with _open(project) as memory:
        entry = memory.get(id_)
        _count_use(memory, entry)
        if as_json:
            print_json(to_plain(entry))
        else:
            _print_entry(entry)


@_command("""
    stratum write "Sessions are purged by cron, not on read" --kind gotcha --at auth/session.py
    stratum write "Retries are capped here" --at client.py::Client.send --tag http
    git log -1 --format=%B | stratum write - --kind decision
""")
@click.argument("text", nargs=-1, required=True)
@click.option(
    "--kind", type=click.Choice(NOTE_KINDS), default="fact", show_default=True,
    help="What sort of note it is.",
)  # fmt: skip
@click.option(
    "--at", "anchors", multiple=True, metavar="ANCHOR",
    help="Where it holds: path, path::Symbol, path::Symbol#2 or path:10-20. Repeatable.",
)  # fmt: skip
@click.option("--tag", "tags", multiple=True, help="A word to filter by. Repeatable.")
@click.option("--team", is_flag=True, help="Meant for the team; without it the note is personal.")
@click.option("--supersedes", metavar="ID", help="The note that this one replaces.")
@project_option
@json_option
def write(
    text: tuple[str, ...],
    kind: str,
    anchors: tuple[str, ...],
    tags: tuple[str, ...],
    team: bool,
    supersedes: str | None,
    project: str,
    as_json: bool,
) -> None:
    """Keep a note. TEXT `-` reads it from stdin; secrets in it are masked first."""
    with _open(project) as memory:
        written = memory.write(
            _text_of(text),
            kind=kind,
            anchors=[_from_here(memory, anchor) for anchor in anchors],
            tags=tags,
            scope="team" if team else "personal",
            supersedes=supersedes,
        )
    if as_json:
        print_json(to_plain(written))
        return
    click.echo(f"{written.note.id}  {written.action}")
    if written.redactions:
        say(f"Masked before it was stored: {', '.join(written.redactions)}.")
    if written.similar:
        say(f"Much like: {', '.join(written.similar)} (--supersedes ID replaces one).")
    notices(written.notices)


@_command("""
    stratum forget k3l2mnop4qrs
    stratum forget k3l2mnop4qrs --undo
""")
@click.argument("id_", metavar="ID")
@click.option("--undo", is_flag=True, help="Bring it back.")
@project_option
@json_option
def forget(id_: str, undo: bool, project: str, as_json: bool) -> None:
    """Bury a note so that no search finds it, or bring it back."""
    with _open(project) as memory:
        _print_written(memory.forget(id_, undo=undo), as_json=as_json)


@_command("""
    stratum accept k3l2mnop4qrs
    stratum accept k3l2mnop4qrs --undo
""")
@click.argument("id_", metavar="ID")
@click.option("--undo", is_flag=True, help="Have it proposed again.")
@project_option
@json_option
def accept(id_: str, undo: bool, project: str, as_json: bool) -> None:
    """Say that a note is right: one of another machine then counts like one's own."""
    with _open(project) as memory:
        _print_written(memory.accept(id_, undo=undo), as_json=as_json)


@_command("""
    stratum reject k3l2mnop4qrs
    stratum reject k3l2mnop4qrs --undo
""")
@click.argument("id_", metavar="ID")
@click.option("--undo", is_flag=True, help="Bring it back.")
@project_option
@json_option
def reject(id_: str, undo: bool, project: str, as_json: bool) -> None:
    """Say that a note is wrong: no search on this machine finds it, others keep it."""
    with _open(project) as memory:
        _print_written(memory.reject(id_, undo=undo), as_json=as_json)


@_command("""
    stratum check
    stratum check --diff origin/main
    stratum check --json | jq .counts
""")
@click.option(
    "--diff", "base", metavar="BASE",
    help="Only the notes that held where HEAD parted from BASE; exit 1 if there are any.",
)  # fmt: skip
@project_option
@json_option
def check(base: str | None, project: str, as_json: bool) -> int:
    """List the notes that no longer hold, with what changed; or what a branch breaks.

    Judges all notes of the project against the files as they stand, uncommitted ones included.
    """
    with _open(project) as memory, _Bar() as bar:
        report = memory.check(base=base, report=bar)
    if as_json:
        print_json(to_plain(report))
    else:
        _print_hits(report.stale)
        say(_counted(report))
        notices(report.notices)
    return 1 if base is not None and report.stale else 0


@_command("""
    stratum verify k3l2mnop4qrs
    stratum verify k3l2mnop4qrs --at client.py::Client.send
    stratum verify k3l2mnop4qrs --undo
    stratum verify --branch feature/login
""")
@click.argument("ids", metavar="ID...", nargs=-1)
@click.option(
    "--at", "anchors", multiple=True, metavar="ANCHOR",
    help="Where it holds now; default: where its places went. Repeatable, for one ID.",
)  # fmt: skip
@click.option("--undo", is_flag=True, help="Bring the former anchors back.")
@click.option(
    "--branch", metavar="NAME",
    help="All notes of a branch that was squashed or rebased, if their places are the same here.",
)  # fmt: skip
@project_option
@json_option
def verify(
    ids: tuple[str, ...],
    anchors: tuple[str, ...],
    undo: bool,
    branch: str | None,
    project: str,
    as_json: bool,
) -> None:
    """Say that notes still hold, after a look at the code: they are anchored anew."""
    if bool(ids) == bool(branch) or (anchors and len(ids) != 1) or (undo and (anchors or branch)):
        raise InvalidInput(
            "That is not clear.",
            hint="Give IDs, or one ID with --at, or IDs with --undo, or --branch alone.",
        )
    # an error later on does not undo what was done, so it is reported with the error
    done = click.get_current_context().meta["done"] = []
    left = 0

    def show(written: Written) -> None:
        done.append(to_plain(written))
        if not as_json:
            places = (_place(a.path, a.start_line, a.end_line) for a in written.note.anchors)
            line = f"{written.note.id}  {written.action}  {', '.join(places)}"
            click.echo(wrapped(line.rstrip(), "  "))

    with _open(project) as memory:
        if branch:
            verified, left = memory.verify_branch(branch)
            for written in verified:
                show(written)
        placed = [_from_here(memory, anchor) for anchor in anchors]
        for id_ in ids:
            show(memory.verify(id_, anchors=placed, undo=undo))
    if as_json:
        print_json(done)
    if left:
        say(f"Left as they were, since their places are not the same here: {left}.")


@_command("""
    stratum outline
    stratum outline django/db/models/query.py
    stratum outline src --json
""")
@click.argument("path", default=".")
@project_option
@json_option
def outline(path: str, project: str, as_json: bool) -> None:
    """List a file's symbols with their lines, or a folder's files, and the notes about it."""
    with _open(project) as memory:
        found = memory.outline(_from_here(memory, path))
        _count_use(memory, found)
        if as_json:
            print_json(to_plain(found))
        else:
            _print_outline(found)


@_command("""
    stratum pack "make the login rate limit configurable"
    stratum pack --budget 600 < issue.txt -
""")
@click.argument("task", nargs=-1, required=True)
@click.option("--budget", default=1200, show_default=True, help="At most so many tokens.")
@project_option
@json_option
def pack(task: tuple[str, ...], budget: int, project: str, as_json: bool) -> None:
    """Print what to open and know for a TASK, within a token budget. `-` reads stdin."""
    with _open(project) as memory:
        packed = memory.pack(_text_of(task, errors="replace"), budget=budget)
        _count_use(memory, packed)
        _print_pack(packed, as_json=as_json)


def _print_pack(packed: Pack, *, as_json: bool) -> None:
    if as_json:
        print_json(to_plain(packed))
        return
    shown = "\n".join(map(clean, packed.text.split("\n")))
    click.echo(shown, nl=bool(shown) and not shown.endswith("\n"))
    receipt = packed.receipt
    say(
        f"{receipt.tokens_used:,} of {receipt.budget:,} tokens, {receipt.places} places, "
        f"{receipt.omitted} omitted, {receipt.withheld_stale} stale withheld"
    )
    notices(packed.notices)


@_command("""
    stratum status
    stratum status -C ~/src/django --json
""")
@project_option
@json_option
def status(project: str, as_json: bool) -> None:
    """Say what the memory holds and in what state it is."""
    with _open(project) as memory:
        found = _with_team(memory)
    if as_json:
        print_json(to_plain(found))
    else:
        _print_status(found)


@_command("""
    stratum sync --dry-run
    stratum sync
    stratum sync --watch
    stratum sync --status
    stratum sync --undo k3l2mnop4qrs
""")
@click.option("--dry-run", is_flag=True, help="Only list what would be sent.")
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C; changes of others come at once.")
@click.option("--status", "only_status", is_flag=True, help="Only say how this machine stands.")
@click.option("--undo", metavar="ID", help="Let the version that lost a conflict stand again.")
@click.option(
    "--new-home", is_flag=True,
    help="For a database that was copied or brought back from a backup: take another identity.",
)  # fmt: skip
@project_option
@json_option
def sync(
    dry_run: bool,
    watch: bool,
    only_status: bool,
    undo: str | None,
    new_home: bool,
    project: str,
    as_json: bool,
) -> int:
    """Exchange notes of scope `team` with the team's Redis; personal notes never leave.

    All projects with a checkout on this machine are exchanged. Without a Redis everything works
    here and waits.
    """
    if sum(map(bool, (dry_run, watch, only_status, undo, new_home))) > 1:
        raise InvalidInput("Only one of the options of `stratum sync` can be given.")
    with _open(project) as memory:
        if undo:
            _print_written(memory.undo_conflict(undo), as_json=as_json)
        elif new_home:
            home = memory.replica.renew_home()
            if as_json:
                print_json({"home": home})
            else:
                click.echo(f"This database is {home} from now on; all notes are compared again.")
        elif dry_run:
            _print_outgoing(memory, as_json=as_json)
        elif only_status:
            return _print_sync_status(memory, as_json=as_json)
        elif watch:
            _watch_team(memory, as_json=as_json)
        else:
            _sync_once(memory, as_json=as_json)
    return 0


@_command("""
    stratum doctor
    stratum doctor --json
""")
@project_option
@json_option
def doctor(project: str, as_json: bool) -> int:
    """Check the installation, the database, the model and the agents; name each cure."""
    from stratum.doctor import examine

    findings = examine(_settings(), Path(project), os.environ)
    if as_json:
        print_json({"findings": to_plain(findings)})
    else:
        for finding in findings:
            _print_finding(finding)
    return int(any(finding.result == "error" for finding in findings))


@_command("""
    stratum reembed
    STRATUM_EMBED_MODEL=BAAI/bge-small-en-v1.5 stratum reembed
""")
@project_option
@json_option
def reembed(project: str, as_json: bool) -> int:
    """Make all vectors anew, after the embedding model was changed."""
    with _open(project) as memory, _stop_on_interrupt() as stop, _Bar() as bar:
        made, missing = memory.reembed(report=bar, stop=stop)
    if as_json:
        print_json({"vectors": made, "vectors_pending": missing})
    else:
        click.echo(f"{made:,} vectors made, {missing:,} missing")
    if not missing:
        return 0
    say("Interrupted. What is done is kept; run `stratum reembed` again to go on.")
    return INTERRUPTED


@_command("""
    stratum warmup
    STRATUM_EMBED_MODEL=BAAI/bge-small-en-v1.5 stratum warmup
""")
@json_option
def warmup(as_json: bool) -> None:
    """Load the embedding model once, after downloading it if it is one that must be."""
    from stratum.embedder import BUILT_IN, download_model, open_embedder

    settings = _settings()
    opened = open_embedder(
        settings.embed_model,
        cache=settings.cache_dir,
        offline=settings.offline,
        threads=settings.threads,
    )
    if opened is None:
        raise EmbedderUnavailable(
            "No embedder is set: embed_model is `none`.",
            hint="Choose one with STRATUM_EMBED_MODEL or in config.toml.",
        )
    wanted = opened.degraded and settings.embed_model not in BUILT_IN
    if wanted and settings.offline:
        raise EmbedderUnavailable(
            f"{settings.embed_model} is not here and nothing may be downloaded: offline is set.",
            hint="Unset STRATUM_OFFLINE and HF_HUB_OFFLINE, or take offline out of config.toml.",
        )
    if wanted:
        with _Bar() as bar:
            download_model(settings.embed_model, cache=settings.cache_dir, progress=bar)
    opened.load()
    if as_json:
        plain = {"name": opened.name, "dimension": opened.dimension}
        print_json({**plain, "fingerprint": opened.fingerprint})
    else:
        click.echo(f"{opened.name} is ready: {opened.dimension} dimensions, {opened.fingerprint}")


@_command("""
    stratum export notes.jsonl
    stratum export --all | gzip > notes.jsonl.gz
""")
@click.argument("file", default="-")
@click.option("--all", "all_projects", is_flag=True, help="The notes of all projects.")
@project_option
def export(file: str, all_projects: bool, project: str) -> None:
    """Write the project's notes as JSON lines to FILE, or to stdout."""
    with _open(project) as memory:
        lines = memory.export(all_projects=all_projects)
        if file == "-":
            for line in lines:
                click.echo(escaped(line))
            return
        count = _write_whole(Path(file), lines) - 1  # the first line is the header
    say(f"{count:,} notes written to {clean(file)}")


@_command(
    """
    stratum import notes.jsonl
    gunzip -c notes.jsonl.gz | stratum import -
    """,
    name="import",
)
@click.argument("file")
@project_option
@json_option
def import_(file: str, project: str, as_json: bool) -> int:
    """Take in notes that `export` wrote; the newer state of a note wins."""
    lines = _read_text(file).split("\n")
    with _open(project) as memory:
        moved = memory.import_(lines)
    if as_json:
        print_json(to_plain(moved))
    else:
        click.echo(
            f"{moved.notes:,} notes: {moved.created:,} created, {moved.updated:,} updated, "
            f"{moved.unchanged:,} unchanged"
        )
        for reason in moved.rejected:
            say(f"Not taken: {clean(reason)}")
        notices(moved.notices)
    return 1 if moved.rejected else 0


@_command("""
    stratum serve
    claude mcp add stratum -- stratum serve
    stratum serve --project ~/src/django --profile team
""")
@click.option(
    "-C", "--project", default=".", metavar="PATH",
    envvar=["STRATUM_PROJECT", "CLAUDE_PROJECT_DIR"], show_envvar=True,
    help="A path inside the project; default: here.",
)  # fmt: skip
@click.option(
    "--profile", type=click.Choice(["solo", "team"]),
    help="Which tools agents get: `team` adds those that claim and share tasks.",
)  # fmt: skip
def serve(project: str, profile: str | None) -> int:
    """Serve the memory to an agent over MCP on stdin and stdout."""
    from stratum.serve import serve

    if sys.stdin is None or sys.stdout is None:
        raise InvalidInput(
            "MCP needs stdin and stdout, and one of them is closed.",
            hint="Let an agent start `stratum serve`, or pipe requests into it.",
        )
    settings = _settings()
    if profile:
        settings = dataclasses.replace(settings, profile=profile)
    return serve(settings, Path(project))


@_command("""
    stratum web
    stratum web -C ~/src/django --no-open
    stratum web --runs ~/bench-runs --port 8000
""")
@click.option(
    "--port", type=click.IntRange(0, 65535),
    help="The port; without it the first free one from 7357 on; 0 for any.",
)  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--allow-remote", is_flag=True,
    help="Let --host be an address that other machines can reach, without encryption.",
)  # fmt: skip
@click.option("--no-open", is_flag=True, help="Print the address and open no browser.")
@click.option(
    "--runs", "runs", multiple=True, metavar="DIR",
    help="Another folder with runs of `stratum bench` to show. Repeatable.",
)  # fmt: skip
@project_option
def web(
    port: int | None,
    host: str,
    allow_remote: bool,
    no_open: bool,
    runs: tuple[str, ...],
    project: str,
) -> None:
    """Open a page that shows what the memory knows and what it saves, on this machine only."""
    from stratum.web_server import serve

    settings = _settings()
    folders = [settings.database.parent / "bench", *map(Path, runs)]
    for folder in runs:
        if not Path(folder).is_dir():
            raise NotFound(f"There is no folder {folder}.", hint="--runs takes a folder.")
    serve(
        settings,
        Path(project),
        host=host,
        port=port,
        allow_remote=allow_remote,
        open_browser=not no_open,
        say=click.echo,
        extend=lambda root: _bench_routes(folders, root),
    )


def _bench_routes(folders: Sequence[Path], root: Path) -> Extension | None:
    """Return what the page shows of the benchmark, None where that is not installed."""
    try:
        from stratum_bench.web_runs import Runs
    except ModuleNotFoundError as error:
        if error.name not in ("stratum_bench", "stratum_bench.web_runs"):
            raise
        return None
    return Runs(folders, root)


@_command(
    """
    stratum bench
    stratum bench --repo .
    stratum bench report ~/.local/share/stratum/bench/own-1 --format html --output report.html
    stratum bench retrieval --repo . --mine 30
    stratum bench run --help
""",
    settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@json_option
def bench(arguments: tuple[str, ...], as_json: bool) -> int:
    """Show what memory saves an agent; ARGUMENTS are options, or another benchmark and its own.

    Also compare, report and replay, which read what a run has left.
    """
    try:
        from stratum_bench.__main__ import main as run_bench
    except ModuleNotFoundError as error:
        if error.name != "stratum_bench":
            raise
        raise Unavailable(
            "The benchmarks are not installed here.",
            hint="Install Stratum from a clone: they are part of its package.",
        ) from None
    return run_bench([*arguments, *(["--json"] if as_json else [])], "stratum bench")


@_command("""
    stratum completion bash >> ~/.bashrc
    stratum completion fish > ~/.config/fish/completions/stratum.fish
""")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes `stratum` in a SHELL."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - the choices above are the shells that click knows
    where = {"bash": "~/.bashrc", "zsh": "~/.zshrc", "fish": "~/.config/fish/config.fish"}[shell]
    click.echo(f"# Add this to {where} and open a new shell.")
    click.echo(made(cli, {}, "stratum", "_STRATUM_COMPLETE").source())


cli.add_command(task)


def main() -> None:
    """Run the command line; the console script."""
    cli()


# the team


def _with_team(memory: Memory) -> Status:
    """Return the status, with how the team's Redis answers now where there is one."""
    found = memory.status()
    if not memory.settings.redis_url:
        return found
    from stratum.team import Team

    with Team(memory) as team:
        answer = team.status()
    troubles = (answer.trouble,) if answer.trouble else ()
    return dataclasses.replace(found, team=answer, degraded=(*found.degraded, *troubles))


def _search_team(
    memory: Memory, query: str, filters: Filters, of: str | None, limit: int, include_stale: bool
) -> SearchResult:
    from stratum.team import Team

    with Team(memory) as team:
        return team.search(query, of=of, filters=filters, limit=limit, include_stale=include_stale)


def _sync_once(memory: Memory, *, as_json: bool) -> None:
    from stratum.team import Team

    with Team(memory) as team, _Bar() as bar:
        report = team.sync(bar)
    if as_json:
        print_json(to_plain(report))
    else:
        click.echo(_exchanged(report))
        notices(report.notices)


def _watch_team(memory: Memory, *, as_json: bool) -> None:
    from stratum.team import Team

    def moved(report: SyncReport) -> None:
        if as_json:
            print_json(to_plain(report), indent=None)
        elif report.sent or report.received or report.notices:
            click.echo(_exchanged(report))
            notices(report.notices)

    def away(error: StratumError) -> None:
        say(f"Waiting: {clean(error.message)} {clean(error.hint)}")

    with _stop_on_interrupt() as stop, Team(memory) as team:
        say("Watching; Ctrl-C ends it.")
        team.watch(stop, moved, away)


def _exchanged(report: SyncReport) -> str:
    parts = [f"{report.sent:,} sent", f"{report.received:,} received"]
    for count, what in (
        (report.waiting, "waiting"),
        (report.conflicts, "in conflict"),
        (report.quarantined, "not taken in"),
    ):
        parts += [f"{count:,} {what}"] if count else []
    return f"{', '.join(parts)} ({report.projects:,} projects, {report.seconds:.1f} s)"


def _print_outgoing(memory: Memory, *, as_json: bool) -> None:
    waiting = memory.replica.outgoing(_ALL_WAITING)
    if as_json:
        print_json(to_plain(waiting))
        return
    for note in waiting:
        text = "(forgotten)" if note.forgotten else note.text
        what = "  (its vector only)" if note.known else ""
        click.echo(wrapped(clean(f"{note.id}  {note.project}  {text}{what}"), "  "))
    say(f"{len(waiting):,} would be sent; --json shows each field.")


def _print_sync_status(memory: Memory, *, as_json: bool) -> int:
    found = _with_team(memory)
    if found.team is None or found.sync is None:
        raise InvalidInput(
            "No Redis of a team is configured.",
            hint="Set STRATUM_REDIS_URL, or redis_url in config.toml; see docs/team.md.",
        )
    if as_json:
        print_json({"sync": to_plain(found.sync), "team": to_plain(found.team)})
        return 0 if found.team.connected else TeamUnavailable.exit_code
    for name, value in _team_rows(found):
        click.echo(wrapped(clean(value), " " * 10, f"{name:<9} "))
    for conflict in found.sync.conflicts:
        whose = "another machine's" if conflict.kept == "theirs" else "this machine's"
        lost = "(forgotten)" if conflict.other.deleted_at else conflict.other.text
        line = f"{conflict.id}  {conflict.at[:16]}  {whose} stands; lost: {lost}"
        click.echo(wrapped(clean(line), "  "))
    for refused in found.sync.quarantine:
        line = f"{refused.id}  {refused.at[:16]}  from {refused.machine or '?'}: {refused.reason}"
        click.echo(wrapped(clean(f"not taken in: {line}"), "  "))
    if found.sync.conflicts:
        say("`stratum sync --undo ID` lets the version that lost stand again.")
    return 0 if found.team.connected else TeamUnavailable.exit_code


def _team_rows(found: Status) -> list[tuple[str, str]]:
    """Return how this machine stands to its team, as (name, text)."""
    if found.team is None or found.sync is None:
        return []
    state, server = found.sync, found.team
    answers = f"Redis {server.version}, {server.search}" if server.connected else server.trouble
    parts = [f"{state.waiting:,} notes wait", f"last exchange {state.synced_at or 'never'}"]
    parts += [f"{len(state.conflicts):,} conflicts"] if state.conflicts else []
    parts += [f"{len(state.quarantine):,} not taken in"] if state.quarantine else []
    return [
        ("team", f"{server.team} at {server.url}: {answers}"),
        ("exchange", f"{', '.join(parts)} (as {state.machine})"),
    ]


# opening


def _settings() -> Settings:
    import logging

    from stratum.config import load

    settings = load(os.environ)
    verbose = click.get_current_context().meta["verbose"]
    logging.basicConfig(level=logging.DEBUG if verbose else settings.log_level.upper())
    return settings


def _open(path: str) -> Memory:
    from stratum.memory import Memory

    if not path:
        raise InvalidInput("The path is empty.", hint="Give a folder, or `.` for this one.")
    return Memory(_settings(), Path(path))


def _count_use(memory: Memory, answer: SearchResult | Pack | Entry | OutlineResult) -> None:
    """Count that notes were shown; it is written when the memory is closed, after the answer."""
    memory.showed(answer, memory.settings.agent or "command line")


def _from_here(memory: Memory, place: str) -> str:
    """Let a path mean what it means to the shell when its file exists below this folder."""
    here = Path.cwd()
    if here == memory.worktree.root or not here.is_relative_to(memory.worktree.root):
        return place
    path = place.partition("::")[0]
    if not (here / path).exists():
        path = path.rpartition(":")[0]
    return str(here / place) if path and (here / path).exists() else place


@contextlib.contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """Yield what Ctrl-C sets, so that work ends after its batch; a second one ends it at once."""
    stop = threading.Event()

    def interrupt(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        # not through sys.stderr: the signal may have come in the middle of its own writing
        with contextlib.suppress(OSError):
            os.write(2, b"\nStopping after this batch; Ctrl-C again stops at once.\n")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


# texts in and out


def _text_of(words: Sequence[str], *, errors: Literal["strict", "replace"] = "strict") -> str:
    if list(words) != ["-"]:
        return " ".join(words)
    return _decoded(_read_stdin(), "-", "Pipe plain text in.", errors)


def _decoded(raw: bytes, file: str, hint: str, errors: str = "strict") -> str:
    try:
        return raw.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{file!r} is not UTF-8 text: {error.reason} at byte {error.start:,}.", hint=hint
        ) from error


def _read_stdin() -> bytes:
    if sys.stdin is None:  # Python's sign of a closed descriptor
        raise InvalidInput(
            "`-` reads stdin, which is closed.", hint="Pipe the text in, or give it as an argument."
        )
    return sys.stdin.buffer.read()


def _read_text(file: str) -> str:
    try:
        raw = _read_stdin() if file == "-" else Path(file).read_bytes()
    except FileNotFoundError:
        raise NotFound(f"There is no file {file!r}.") from None
    except OSError as error:
        raise InvalidInput(f"{file!r} cannot be read: {error.strerror or error}.") from error
    return _decoded(raw, file, "Import takes the JSON lines that `stratum export` writes.")


def _write_whole(path: Path, lines: Iterator[str]) -> int:
    """Write all lines or leave what was there; return their number."""
    count = 0
    # a pipe or a device is written to as it is: it must not be replaced by a file
    part = path if path.exists() and not path.is_file() else Path(f"{path}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            for line in lines:
                file.write(line + "\n")
                count += 1
        if part != path:
            part.replace(path)
    except OSError as error:
        if part != path:
            with contextlib.suppress(OSError):
                part.unlink()
        kind = Unavailable if error.errno in _OUTPUT_LOST else InvalidInput
        raise kind(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error
    return count


# results as text


def _print_written(written: Written, *, as_json: bool) -> None:
    if as_json:
        print_json(to_plain(written))
    else:
        click.echo(f"{written.note.id}  {written.action}")


def _print_report(report: IndexReport, name: str, *, everything: bool) -> None:
    click.echo(f"Indexed {clean(name)} in {report.seconds:,.1f} s")
    click.echo(
        f"  files    {report.files:,} ({report.parsed:,} parsed, {report.reused:,} reused, "
        f"{report.removed:,} removed)"
    )
    click.echo(f"  symbols  {report.symbols:,} new")
    click.echo(f"  commits  {report.commits:,} ({report.commits_read:,} read)")
    click.echo(f"  vectors  {report.vectors:,} made, {report.vectors_pending:,} missing")
    if not report.skipped:
        return
    few = everything or len(report.skipped) <= _SKIPPED_NAMES
    click.echo(f"  skipped  {len(report.skipped):,}" + ("" if few else " (-v lists them all)"))
    if everything:
        for skipped in report.skipped:
            click.echo(f"    {clean(skipped.path)}: {clean(skipped.reason)}")
        return
    # a reason may end in a detail of its file, such as its size
    by_reason: dict[str, list[str]] = {}
    for skipped in report.skipped:
        reason = skipped.reason.partition(":")[0].partition(" (")[0]
        by_reason.setdefault(reason, []).append(skipped.path)
    for reason, paths in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        names = ", ".join(map(clean, paths[:_SKIPPED_NAMES]))
        more = ", …" if len(paths) > _SKIPPED_NAMES else ""
        click.echo("    " + cut(f"{len(paths):,} {clean(reason)}: {names}{more}", 4))


def _print_found(found: SearchResult) -> None:
    _print_hits(found.hits)
    if not found.hits:
        say("Nothing found.")
    _print_withheld(found.withheld_stale, "--include-stale shows them")
    notices(found.notices)


def _counted(report: CheckReport) -> str:
    judged = len(report.freshness)
    each = ", ".join(f"{count:,} {name}" for name, count in sorted(report.counts.items()))
    notes = f"{judged:,} notes" if judged != 1 else "1 note"
    if report.base is not None:
        return f"{notes} judged ({each or 'none'}); this branch breaks {len(report.stale):,}."
    return f"{notes} judged ({each or 'none'})."


def _print_withheld(count: int, cure: str) -> None:
    if count:
        say(f"Stale notes withheld: {count} ({cure}).")


def _print_hits(hits: Sequence[Hit]) -> None:
    places = [_place(hit.path, hit.start_line, hit.end_line) for hit in hits]
    columns = width()
    most = min(_WIDEST_PLACE, columns - _LEAST_ABOUT - 16)  # an id and two gaps
    wide = max((len(place) for place in places if len(place) <= most), default=0)
    for hit, place in zip(hits, places, strict=True):
        start = f"{place:<{wide}}  " if place else ""
        taken = len(hit.id) + 2 + len(start)
        about = _about(hit)
        if columns - taken < min(cells(about), _LEAST_ABOUT):
            start, taken = f"{place}\n  ", 2
        click.echo(f"{click.style(hit.id, fg='yellow')}  {start}{cut(about, taken)}")
        for line in (*_below(hit), *_explained(hit)):
            click.echo("  " + cut(clean(line), 2))


def _explained(hit: Hit) -> list[str]:
    """Return what a score is made of, and why this place of the file, where that was asked for."""
    file = [f"{name} {share:.2f}" for name, share in hit.why if not name.startswith(_HERE)]
    here = [
        f"{name[len(_HERE) :]} {share:.2f}" for name, share in hit.why if name.startswith(_HERE)
    ]
    lines = [f"{hit.score:.2f} = {' + '.join(file)}"] if file else []
    return [*lines, f"in its file: {' + '.join(here)}"] if here else lines


def _about(hit: Hit) -> str:
    """Return what is said of a hit behind its place; its end may be cut off, so stale comes first.

    What a commit is known by and its date stand on the line below.
    """
    title = "" if hit.title == hit.path else hit.title
    text = " - ".join(clean(part) for part in (title, hit.text) if part)
    if hit.stratum == "history":
        return f"{hit.kind} {text}".rstrip()
    stale = f"{hit.freshness} " if hit.freshness in STALE else ""
    marks = ", ".join(
        part for part in ("" if stale else hit.freshness, *hit.tags, hit.origin) if part
    )
    return f"{stale}{hit.kind} {text}".rstrip() + (f" ({clean(marks)})" if marks else "")


def _below(hit: Hit) -> tuple[str, ...]:
    """Return the lines below a hit: what changed, or from when a commit is and what it touched."""
    if hit.stratum != "history":
        return hit.change
    return (": ".join(part for part in (hit.origin, ", ".join(hit.paths)) if part),)


def _place(path: str | None, start: int | None, end: int | None) -> str:
    if path is None:
        return ""
    return clean(path) + (f":{start}-{end}" if start else "")


def _print_entry(entry: Entry) -> None:
    place = _place(entry.path, entry.start_line, entry.end_line)
    about = (place, entry.kind, clean(entry.title))
    head = wrapped("  ".join([entry.id, *filter(None, about)]), "  ")
    click.echo(click.style(entry.id, fg="yellow") + head.removeprefix(entry.id))
    if entry.note is not None:
        _print_note(entry, entry.note)
        return
    # what a commit says stands above what it touched; code speaks for itself
    said = [_prose(entry.text)] if entry.text and entry.stratum == "history" else []
    source = [clean_lines(entry.source)] if entry.source else []
    click.echo("\n\n".join([*said, *source] or [_prose(entry.text)]))


def _print_note(entry: Entry, note: Note) -> None:
    from stratum.notes import writer

    who = writer(note)
    facts = [str(entry.freshness), note.trust, note.scope, who, note.updated_at, *note.tags]
    click.echo(wrapped(clean(", ".join(facts)), "  "))
    if entry.elsewhere:
        click.echo(wrapped(f"  {clean(entry.elsewhere)}", "  "))
    for anchor, verdict in zip(note.anchors, entry.verdicts, strict=True):
        for line in _anchor_lines(anchor, verdict):
            click.echo(wrapped(line, "     "))
    if note.deleted_at:
        again = f"`stratum forget {note.id} --undo` brings it back"
        click.echo(wrapped(f"  forgotten {note.deleted_at}; {again}", "  "))
    click.echo(f"\n{_prose(entry.text)}")


def _anchor_lines(anchor: Anchor, verdict: Verdict) -> Iterator[str]:
    """Yield where a note speaks of, what has become of it, and how it changed if it did."""
    place = _place(anchor.path, anchor.start_line, anchor.end_line)
    # a number counts only those with this head: it says which if all have it
    number = f"#{anchor.ordinal}" if 1 < anchor.namesakes == anchor.peers else ""
    symbol = f" {clean(anchor.symbol)}{number}" if anchor.symbol else ""
    said = verdict.reason
    if verdict.freshness == "moved":
        now = _place(verdict.path, verdict.start_line, verdict.end_line)
        name = verdict.symbol if verdict.symbol != anchor.symbol else None
        said = f"now {now}" + (f" {name}" if name else "")
    yield f"  at {place}{symbol} ({verdict.freshness}{f': {clean(said)}' if said else ''})"
    for line in verdict.change:
        yield f"     {clean(line)}"


def _prose(text: str) -> str:
    """Return a text of many lines for the terminal; those that are indented stay whole."""
    return "\n".join(
        line if line[:1].isspace() else wrapped(line, "") for line in clean_lines(text).split("\n")
    )


def _print_outline(found: OutlineResult) -> None:
    for path in found.files:
        click.echo(clean(path))
    places = [f"{symbol.start_line}-{symbol.end_line}" for symbol in found.symbols]
    wide = max(map(len, places), default=0)
    for symbol, place in zip(found.symbols, places, strict=True):
        doc = f" - {clean(symbol.doc)}" if symbol.doc else ""
        start = f"{place:>{wide}}  "
        click.echo(start + cut(f"{symbol.kind} {clean(symbol.name)}{doc}", len(start)))
    if found.notes:
        click.echo("\nNotes")
        _print_hits(found.notes)
    if not (found.files or found.symbols or found.notes):
        say("Nothing is defined here.")
    _print_withheld(found.withheld_stale, "`stratum search --include-stale` shows them")
    notices(found.notices)


def _print_status(found: Status) -> None:
    counts, model = found.counts, found.embedder
    at = " @ ".join(part for part in (found.branch, (found.commit or "")[:10]) if part)
    rows = {
        "project": found.project + (f" ({at})" if at else ""),
        "root": found.root,
        "database": f"{found.database} ({found.database_bytes / 1e6:,.1f} MB, "
        f"schema {found.schema_version})",
        "indexed": found.indexed_at or "not yet: run `stratum index`",
        "code": f"{counts['files']:,} files, {counts['symbols']:,} symbols",
        "history": f"{counts['commits']:,} commits",
        "notes": f"{counts['notes']:,} ({counts['forgotten']:,} forgotten)",
        "vectors": f"{model.vectors:,}, {model.pending:,} missing ({model.name})",
        "version": found.version,
    }
    for name, value in (*rows.items(), *_team_rows(found)):
        click.echo(wrapped(clean(value), " " * 10, f"{name:<9} "))
    for reason in found.degraded:
        line = wrapped(clean(reason), " " * 10, "degraded  ")
        click.echo(click.style(line[:8], fg="yellow") + line[8:])


def _print_finding(finding: Finding) -> None:
    mark = click.style(f"{finding.result:<8}", fg=_COLOURS[finding.result])
    click.echo(f"{mark}{finding.check}: {clean(finding.message)}")
    if finding.cure:
        click.echo(f"{'':<8}-> {clean(finding.cure)}")


# progress


class _Bar:
    """Shows steps of long work on stderr: one line that changes, or a plain line now and then.

    Called with each `Progress`. As a context it leaves the cursor on an empty line.
    """

    def __init__(self) -> None:
        on_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._live = on_terminal and os.environ.get("TERM") != "dumb"
        self._phase = ""
        self._begun = self._shown = 0.0
        self._drawn = False

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._finish_line()

    def __call__(self, progress: Progress) -> None:
        at = time.monotonic()
        if progress.phase != self._phase:
            self._finish_line()
            if self._phase == "files" and progress.phase == "vectors":
                say("Words are searchable now; vectors follow (Ctrl-C keeps what is done).")
            self._phase, self._begun, self._shown = progress.phase, at, 0.0
        last = progress.total and progress.done >= progress.total
        if not last and at - self._shown < (_DRAW_EVERY if self._live else _PLAIN_EVERY):
            return
        self._shown = at
        text = progress_text(progress, at - self._begun)
        if not self._live:
            say(text)
            return
        left = shutil.get_terminal_size().columns - 1
        say(f"\r{text[:left]:<{left}}", nl=False)
        self._drawn = True

    def _finish_line(self) -> None:
        if self._drawn:
            say("")
            self._drawn = False


def progress_text(progress: Progress, seconds: float) -> str:
    """Return one step as a line; `seconds` is how long its phase has run, for the time left."""
    if not progress.total:
        return f"{progress.phase} …"
    share = progress.done / progress.total
    text = f"{progress.phase} {progress.done:,} of {progress.total:,} ({share:.0%})"
    if 0 < share < 1 and seconds >= 1:
        left = round(seconds / share - seconds)
        text += f", about {left // 60}:{left % 60:02} left"
    return text
