"""The commands `stratum task ...`: claims, findings and events in a terminal.

Owns how they look there, and what a path means to the shell. Decides nothing about claims.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stratum.errors import InvalidInput
from stratum.models import Lease, TaskEvent, TaskFinding, to_plain
from stratum.terminal import clean, json_option, notices, print_json, project_option, say

if TYPE_CHECKING:
    from stratum.coordination import Coordination

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|)")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "": 60.0}
_FOLLOW = 3600.0  # seconds that one look for news waits

_holder_option = click.option(
    "--as", "holder", default="", metavar="NAME",
    help="In whose name; default: author@machine. Give each agent its own.",
)  # fmt: skip


def _seconds(_: click.Context, __: click.Parameter, text: str) -> float:
    found = _DURATION.fullmatch(text.strip().lower())
    if not found:
        raise InvalidInput(
            f"{text[:40]!r} is no length of time.", hint="Write 15 or 15m for minutes, 90s, 2h."
        )
    return float(found[1]) * _UNITS[found[2]]


_time_option = click.option(
    "--for", "ttl", default="15m", show_default=True, metavar="TIME", callback=_seconds,
    help="Until others may take over: 90s, 15m, 2h.",
)  # fmt: skip


@click.group(
    epilog="\b\nExamples:\n"
    '  stratum task claim "fix login" path:src/auth --purpose "expired sessions" --as agent-1\n'
    "  stratum task status\n"
    "  stratum task events --follow"
)
def task() -> None:
    """Share out work: claim tasks and paths, share findings, see what others do.

    For the agents of this machine, or of a team where its Redis is set. Exit code 5: somebody else
    has claimed it.
    """


def _command(examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    shown = textwrap.indent(textwrap.dedent(examples).strip("\n"), "  ")
    return task.command(epilog=f"\b\nExamples:\n{shown}")


@_command("""
    stratum task claim "fix login" --purpose "expired sessions"
    stratum task claim path:src/auth path:tests/auth --for 1h --as agent-1
    id=$(stratum task claim "fix login" --json | jq -r .lease.id)
""")
@click.argument("subjects", nargs=-1, required=True, metavar="TASK|path:PATH...")
@click.option("--purpose", default="", help="What will be done, for those who come second.")
@_time_option
@_holder_option
@project_option
@json_option
def claim(
    subjects: tuple[str, ...], purpose: str, ttl: float, holder: str, project: str, as_json: bool
) -> None:
    """Take tasks or paths, all of them or none; claim them again to keep them longer.

    A path stands for all that is below it.
    """
    with _open(project, holder) as coordination:
        wanted = [_from_here(coordination, subject) for subject in subjects]
        done = coordination.claim(wanted, purpose=purpose, ttl=ttl)
    if as_json:
        print_json(to_plain(done))
        return
    lease = done.lease
    before = f" from {', '.join(done.before)}, whose time had run out" if done.before else ""
    click.echo(clean(f"{lease.id}  {done.action} {', '.join(lease.subjects)}{before}"))
    click.echo(clean(f"  until {_until(lease)}, token {lease.token}, by {lease.holder}"))
    if done.redactions:
        say(f"Masked before it was kept: {', '.join(done.redactions)}.")


@_command("""
    stratum task heartbeat k3l2mnop4qrs
    stratum task heartbeat k3l2mnop4qrs --for 1h --as agent-1
""")
@click.argument("lease")
@_time_option
@_holder_option
@project_option
@json_option
def heartbeat(lease: str, ttl: float, holder: str, project: str, as_json: bool) -> None:
    """Keep a LEASE for longer, by its id; it fails once somebody else has taken over."""
    with _open(project, holder) as coordination:
        kept = coordination.heartbeat(lease, ttl=ttl)
    if as_json:
        print_json(to_plain(kept))
    else:
        click.echo(f"{kept.id}  renewed until {_until(kept)}, token {kept.token}")


@_command("""
    stratum task release k3l2mnop4qrs
    stratum task release k3l2mnop4qrs --force
""")
@click.argument("lease")
@click.option("--force", is_flag=True, help="Also a lease of somebody else.")
@_holder_option
@project_option
@json_option
def release(lease: str, force: bool, holder: str, project: str, as_json: bool) -> None:
    """Give back what a LEASE holds, by its id."""
    with _open(project, holder) as coordination:
        released = coordination.release(lease, force=force)
    if as_json:
        print_json(to_plain(released))
    else:
        click.echo(clean(f"{released.id}  released {', '.join(released.subjects)}"))


@_command("""
    stratum task share "fix login" "The session cookie has no SameSite attribute"
    git diff --stat | stratum task share "fix login" -
""")
@click.argument("name", metavar="TASK")
@click.argument("text", nargs=-1, required=True)
@_holder_option
@project_option
@json_option
def share(name: str, text: tuple[str, ...], holder: str, project: str, as_json: bool) -> None:
    """Tell those who work on a TASK what was found out; kept for a week. `-` reads stdin.

    What a later session should know belongs into a note: `stratum write`.
    """
    said = " ".join(text)
    if said == "-":
        said = sys.stdin.buffer.read().decode("utf-8", "replace")
    with _open(project, holder) as coordination:
        shared = coordination.share(_from_here(coordination, name), said)
    if as_json:
        print_json(to_plain(shared))
        return
    click.echo(clean(f"{shared.finding.cursor}  shared on {shared.finding.task}"))
    if shared.redactions:
        say(f"Masked before it was kept: {', '.join(shared.redactions)}.")


@_command("""
    stratum task status
    stratum task status "fix login" --json
    stratum task status "fix login" --after 1795288284628-3
""")
@click.argument("name", required=False, metavar="[TASK]")
@click.option("--after", default="", metavar="CURSOR", help="Only findings after this one.")
@project_option
@json_option
def status(name: str | None, after: str, project: str, as_json: bool) -> None:
    """List who has claimed what, and what was found out about a TASK."""
    with _open(project) as coordination:
        leases = coordination.leases()
        found = None
        if name is not None:
            found = coordination.findings(_from_here(coordination, name), after=after)
    if as_json:
        plain: dict[str, Any] = {"leases": to_plain(leases)}
        print_json(plain | (to_plain(found) if found else {}))
        return
    for lease in leases:
        click.echo(_lease_line(lease))
    if not leases:
        say("Nothing is claimed.")
    if found:
        for finding in found.findings:
            click.echo(_finding_lines(finding))
        notices(found.notices)
        if not found.findings:
            say("No findings were shared on this task.")


@_command("""
    stratum task events
    stratum task events --follow
    stratum task events --after 1795288284469-12 --wait 60 --json
""")
@click.option("--after", default="", metavar="CURSOR", help="Only what followed; 0-0 for all.")
@click.option("--wait", default=0.0, metavar="SECONDS", help="Wait for the next ones.")
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@project_option
@json_option
def events(after: str, wait: float, follow: bool, project: str, as_json: bool) -> None:
    """List what has happened: claims, takeovers, releases, findings. None is shown twice."""
    with _open(project) as coordination:
        if wait and not after:
            after = coordination.events(limit=1).cursor
        found = coordination.events(after=after, wait=wait)
        if as_json and not follow:
            print_json(to_plain(found))
            return
        while True:
            notices(found.notices)
            for event in found.events:
                if as_json:
                    print_json(to_plain(event), indent=None)
                else:
                    click.echo(_event_line(event))
            if not follow:
                break
            sys.stdout.flush()
            found = coordination.events(after=found.cursor, wait=_FOLLOW)
    if not found.events:
        say("Nothing has happened.")
    say(f"Cursor: {found.cursor}")


def _open(path: str, holder: str = "") -> Coordination:
    import logging

    from stratum.config import load
    from stratum.coordination import Coordination

    if not path:
        raise InvalidInput("The path is empty.", hint="Give a folder, or `.` for this one.")
    settings = load(os.environ)
    logging.basicConfig(level=settings.log_level.upper())
    return Coordination(settings, Path(path), holder=holder)


def _from_here(coordination: Coordination, subject: str) -> str:
    """Let a path mean what it means to the shell when it exists below this folder."""
    kind, separator, name = subject.partition(":")
    here = Path.cwd()
    if kind != "path" or not separator or not name or not here.is_relative_to(coordination.root):
        return subject
    return f"path:{here / name}" if (here / name).exists() else subject


def _until(lease: Lease) -> str:
    return f"{lease.expires_at[:19]}Z ({_left(lease)})"


def _left(lease: Lease) -> str:
    left = lease.seconds_left
    return f"{left} s left" if left < 120 else f"{left // 60} min left"


def _lease_line(lease: Lease) -> str:
    agent = f" ({lease.agent})" if lease.agent else ""
    purpose = f": {lease.purpose}" if lease.purpose else ""
    head = f"{lease.id}  {', '.join(lease.subjects)}  {lease.holder}{agent}"
    return clean(f"{head}, {_left(lease)}{purpose}")


def _finding_lines(finding: TaskFinding) -> str:
    agent = f" ({finding.agent})" if finding.agent else ""
    head = f"{finding.cursor}  {finding.at[:19]}Z  {finding.holder}{agent}"
    lines = [f"  {clean(line)}" for line in finding.text.split("\n")]
    return "\n".join([clean(head), *lines])


def _event_line(event: TaskEvent) -> str:
    agent = f" ({event.agent})" if event.agent else ""
    before = f" from {', '.join(event.before)}" if event.before else ""
    text = f": {event.text}" if event.text else ""
    return clean(
        f"{event.at[:19]}Z  {event.kind} {', '.join(event.subjects)}"
        f"  {event.holder}{agent}{before}{text}"
    )
