"""How a comparison reads: as text for a terminal, as Markdown, as JSON.

Pure: a comparison in, text out. Owns the wording, which the page shares. A loss is said as plainly
as a gain, and "no difference" is never said where only none was shown.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from stratum_bench.compare import FEW, Comparison, Difference, Tally, Versus
from stratum_bench.measure import percentile

NOTHING = "-"
WORST = 5
SIMULATION = (
    "The agent is scripted: this run is a simulation. It shows what memory does to an agent that"
    " acts by fixed rules, not what a language model does with it."
)
WORK = "Arms: what was done, per task"
MEMORY_READS = (
    "memory: its tokens over all requests, share: of all tokens, once: each counted once;"
    " adoption: tasks that called it; hit@k: gold among the first k files that it named, of so many"
    " tasks."
)
TIMES = "Times, which are not the same in two runs"
SOLVED = "Solved against the baseline"
_FIRST = "stratum"  # the arm that the headline is about
_SUMMARY = (
    "agent",
    "profile",
    "model",
    "suite",
    "tokenizer",
    "stratum",
    "python",
    "seed",
    "limits",
)
_IDS = 8  # so many ids are named in a line
_WIDTH = 100
_NAME = 12  # names are not cut shorter

# Medians and ranges of eight live runs each, a frontier model without memory: on code that it
# knows, and on code that it does not.
LIVE: dict[str, dict[str, tuple[float, float, float]]] = {
    "familiar": {
        "tool calls": (4.5, 3, 19),
        "characters of tool output": (15_600, 4_200, 44_400),
        "cumulative tokens": (19_000, 8_900, 135_000),
    },
    "unfamiliar": {
        "tool calls": (20.5, 11, 44),
        "characters of tool output": (123_800, 47_200, 202_300),
        "cumulative tokens": (389_000, 138_000, 1_332_000),
    },
}
LIVE_GREP_READ = {"familiar": (22, 26), "unfamiliar": (80, 100)}
LIVE_RUNS = 8


def as_text(comparison: Comparison, *, times: bool = True) -> str:
    """Return a comparison for a terminal, at most 100 columns wide; times come last."""
    lines = [*_wrapped(headline(comparison)), *_wrapped(verdict(comparison)), ""]
    lines += _wrapped(summary(comparison.header))
    lines += [*(_wrapped(SIMULATION) if is_simulation(comparison.header) else [])]
    for note in comparison.notes:
        lines += _wrapped(f"Note: {note}") if note != headline(comparison) else []
    for title, rows in (
        ("Arms: tokens per task", arm_rows(comparison)),
        (WORK, work_rows(comparison)),
        ("Outcomes", outcome_rows(comparison)),
        ("Tokens and calls against the baseline", token_rows(comparison)),
        (SOLVED, solved_rows(comparison)),
        ("First-time and recurrent tasks, tokens per task", group_rows(comparison)),
    ):
        if rows:
            lines += ["", title, *_table(rows)]
        if rows and title == WORK:
            lines += _wrapped(MEMORY_READS)
    lead = leading(comparison)
    if lead is not None:
        for line in id_lines(lead):
            lines += _wrapped(line)
        lines += ["", f"The worst of {len(lead.losing)} losing rows of {plain(lead.arm)}"]
        lines += _table(losing_rows(lead, WORST)) or ["none"]
    live = calibration(comparison, comparison.header)
    lines += ["", *live] if live else []
    lines += ["", TIMES, *_table(time_rows(comparison))] if times and comparison.times else []
    return "\n".join(line.rstrip() for line in lines)


def as_markdown(comparison: Comparison, *, times: bool = True) -> str:
    """Return a comparison in full as Markdown: all of the text, and a row for each task."""
    parts = [f"# {_cell(headline(comparison))}", _cell(verdict(comparison))]
    parts.append(_cell(summary(comparison.header)))
    parts += [f"**{SIMULATION}**"] if is_simulation(comparison.header) else []
    notes = [note for note in comparison.notes if note != headline(comparison)]
    parts += ["\n".join(f"- {_cell(note)}" for note in notes)]
    sections = [
        ("Arms: tokens per task", arm_rows(comparison)),
        (WORK, work_rows(comparison)),
        ("Arms: files submitted", quality_rows(comparison)),
        ("Outcomes", outcome_rows(comparison)),
        ("Tokens and calls against the baseline", token_rows(comparison)),
        (SOLVED, solved_rows(comparison)),
        ("First-time and recurrent tasks, tokens per task", group_rows(comparison)),
    ]
    for one in comparison.versus:
        name = f"{one.arm} against {one.baseline}"
        sections.append((f"{name}: losing rows", losing_rows(one, len(one.losing))))
        sections.append((f"{name}: in the order of the tasks", curve_rows(one)))
    sections.append(("Tasks", task_rows(comparison)))
    for title, rows in sections:
        parts += [f"## {_cell(title)}", _markdown(rows)] if rows else []
        parts += [MEMORY_READS] if rows and title == WORK else []
        if title == SOLVED:
            parts += [_cell(line) for one in comparison.versus for line in id_lines(one, None)]
    live = calibration(comparison, comparison.header)
    parts += [f"## {live[0]}", "```text\n" + "\n".join(live[1:]) + "\n```"] if live else []
    if times and comparison.times:
        parts += [f"## {TIMES}", _markdown(time_rows(comparison))]
    return "\n\n".join(part for part in parts if part) + "\n"


def as_json(comparison: Comparison, *, times: bool = True) -> str:
    """Return all figures as JSON; without `times` it is the same for two equal runs."""
    return json.dumps(comparison.to_dict(times=times), indent=2)


def headline(comparison: Comparison) -> str:
    """Return the result in one sentence: tokens first, then what was solved."""
    lead = leading(comparison)
    if lead is None:
        return comparison.notes[0] if comparison.notes else "There is nothing to compare."
    name, base = plain(lead.arm), plain(lead.baseline)
    solved = f"solved {lead.solved} of {lead.n} against {lead.baseline_solved}"
    return f"{name}: {tokens_said(lead, base)}, {solved} (p = {p_value(lead.mcnemar_p)})"


def tokens_said(one: Versus, base: str) -> str:
    """Return the difference of tokens in words, with its interval."""
    told = one.tokens
    if told.value is None:
        return f"tokens cannot be compared with {base}"
    if round(told.value, 1) == 0:
        return f"as many tokens as {base}{_interval(told)}"
    kind = "fewer" if told.value < 0 else "more"
    return f"{abs(told.value):.1f} % {kind} tokens than {base}{_interval(told)}"


def verdict(comparison: Comparison) -> str:
    """Return what the headline means, in words that claim no more than was shown."""
    lead = leading(comparison)
    if lead is None or not lead.n:
        return ""
    told = lead.tokens
    if told.low is None or told.high is None or lead.n < FEW:
        said = f"{_tasks(lead.n)} compared: too few to tell whether tokens differ."
    elif told.high < 0:
        said = "Tokens were saved."
    elif told.low > 0:
        said = "More tokens were taken, not fewer."
    else:
        said = "No difference in tokens was shown: the interval holds both gain and loss."
    if is_simulation(comparison.header):
        said = f"In a simulation, {said[0].lower()}{said[1:]}"
    said += f" Fewer in {_tasks(lead.fewer)}, more in {lead.more}."
    if _opposed(told, lead.uncached):
        said += f" Tokens that were not cached: {_signed(lead.uncached.value)} %"
        said += f"{_interval(lead.uncached)}."
    lost, won = len(lead.negative_transfers), len(lead.gains)
    base = plain(lead.baseline)
    if lost or won:
        said += f" {_tasks(won)} solved that {base} did not; {_tasks(lost)} lost that {base} solved"
    else:
        said += f" The same tasks were solved as by {base}"
    if lead.points.low is not None and lead.points.high is not None:
        said += f" ({lead.points.low:+.1f} to {lead.points.high:+.1f} points)"
    return f"{said}."


def summary(header: Mapping[str, Any]) -> str:
    """Return in one line what a run depends on, as far as its header says so."""
    parts = [f"{key} {_said(header[key])}" for key in _SUMMARY if _is_told(header.get(key))]
    for key in ("arms", "tasks"):
        told = header.get(key)
        if _is_told(told):
            many = key == "tasks" and isinstance(told, list | dict)
            parts.append(f"{key} {len(told) if many and told is not None else _said(told)}")
    return plain("Run: " + ", ".join(parts)) if parts else "Run: its header says nothing."


def is_simulation(header: Mapping[str, Any]) -> bool:
    """Return whether the agent of a run, or of one of two runs, is scripted."""
    agent = header.get("agent")
    named = agent.values() if isinstance(agent, dict) else (agent,)
    return any(str(name).startswith("scripted") for name in named)


def leading(comparison: Comparison) -> Versus | None:
    """Return the arm that the headline is about: stratum, else the first one."""
    by_name = [one for one in comparison.versus if one.arm.rpartition("/")[2] == _FIRST]
    return next(iter([*by_name, *comparison.versus]), None)


def arm_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return a row of tokens for each arm, per task."""
    against = {one.arm: one for one in comparison.versus}
    found = []
    for own in comparison.totals:
        one = against.get(own.arm)
        row = {
            "arm": plain(own.arm),
            "n": str(own.complete),
            "solved": str(own.solved),
            "tokens": number(own.columns["tokens"].mean),
            "vs base": f"{_signed(one.tokens.value)} %{_interval(one.tokens)}" if one else NOTHING,
            "uncached": number(own.columns["uncached"].mean),
            "output": number(own.columns["output"].mean),
            "per solved": number(own.tokens_per_solved),
        }
        if any(other.cost is not None for other in comparison.totals):
            row["cost"] = NOTHING if own.cost is None else f"{own.cost:.4g}"
        found.append(row)
    return found


def work_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return a row of calls, adoption and hits for each arm."""
    return [
        {
            "arm": plain(own.arm),
            "calls": number(own.columns["calls"].mean),
            "reads": number(own.columns["reads"].mean),
            "searches": number(own.columns["searches"].mean),
            "lists": number(own.columns["lists"].mean),
            "memory": number(own.columns["memory"].mean),
            "share": share(own.memory_share),
            "once": number(own.columns["memory_once"].mean),
            "adoption": share(own.adoption),
            "hit@1": share(own.hit_1),
            "hit@5": share(own.hit_5),
            "of": str(own.recalled) if own.recalled else NOTHING,
        }
        for own in comparison.totals
    ]


def quality_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return a row for each arm of how good the submitted files are, means over tasks."""
    return [
        {
            "arm": plain(own.arm),
            "precision": ratio(own.precision),
            "recall": ratio(own.recall),
            "F1": ratio(own.f1),
            "first right": share(own.first_right),
            "hit@3": share(own.hit_3),
            "notes learned": str(own.learned),
            "median tokens": number(own.columns["tokens"].median),
            "requests": number(own.columns["requests"].mean),
            "reasoning": number(own.columns["reasoning"].mean),
            "cached": number(own.columns["cached"].mean),
        }
        for own in comparison.totals
    ]


def outcome_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return a row of outcomes for each arm; tokens of ERROR are in no other figure."""
    return [
        {
            "arm": plain(own.arm),
            **{name: str(count) for name, count in own.outcomes.items()},
            "tokens of ERROR": number(own.error_tokens),
        }
        for own in comparison.totals
        if own.n
    ]


def token_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return a row for each arm but the baseline: what it took beside it."""
    return [
        {
            "arm": plain(one.arm),
            "n": str(one.n),
            "uncached %": _signed(one.uncached.value) + _interval(one.uncached),
            "calls %": _signed(one.calls.value) + _interval(one.calls),
            "median %": _signed(one.median_percent),
            "median": NOTHING
            if one.median_difference is None
            else f"{one.median_difference:+,.0f}",
            "fewer:more": f"{one.fewer}:{one.more}",
            "sign p": p_value(one.sign_p),
        }
        for one in comparison.versus
    ]


def solved_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return a row for each arm but the baseline: what it solved beside it."""
    return [
        {
            "arm": plain(one.arm),
            "n": str(one.n),
            "solved": str(one.solved),
            "baseline": str(one.baseline_solved),
            "points": _signed(one.points.value) + _interval(one.points),
            "gains": str(len(one.gains)),
            "negative transfers": str(len(one.negative_transfers)),
            "McNemar p": p_value(one.mcnemar_p),
            "losing rows": str(len(one.losing)),
        }
        for one in comparison.versus
    ]


def group_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return a row for each arm and kind of task that has any."""
    return [
        {
            "arm": plain(one.arm),
            "tasks": group.name,
            "n": str(group.n),
            "tokens": number(group.tokens / group.n),
            "baseline": number(group.baseline_tokens / group.n),
            "difference %": _signed(group.difference.value) + _interval(group.difference),
            "solved": f"{group.solved}:{group.baseline_solved}",
        }
        for one in comparison.versus
        for group in one.groups
        if group.n
    ]


def losing_rows(one: Versus, count: int) -> list[dict[str, str]]:
    """Return the `count` worst rows of an arm, lost tasks first."""
    return [
        {
            "task": plain(pair.task),
            plain(one.baseline): pair.baseline_outcome,
            plain(one.arm): pair.outcome,
            "tokens": number(pair.tokens),
            "baseline": number(pair.baseline_tokens),
            "difference": f"{pair.difference:+,}",
            "kind": "recurrent" if pair.recurrent else "first-time",
        }
        for pair in one.losing[:count]
    ]


def curve_rows(one: Versus) -> list[dict[str, str]]:
    """Return a row for each stretch of tasks, in order."""
    return [
        {
            "tasks": f"{bucket.first + 1} to {bucket.last + 1}",
            "n": str(bucket.n),
            "tokens": number(bucket.tokens / bucket.n),
            "baseline": number(bucket.baseline_tokens / bucket.n),
            "difference %": _signed(bucket.percent),
            "so far %": _signed(bucket.cumulative),
        }
        for bucket in one.curve
    ]


def task_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return a row for each task: outcome and tokens in each arm, with losses marked."""
    tallies: dict[str, dict[str, Tally]] = {}
    for tally in comparison.tallies:
        tallies.setdefault(tally.task, {})[tally.arm] = tally
    losing = {(one.arm, pair.task) for one in comparison.versus for pair in one.losing}
    found = []
    for task in comparison.tasks:
        row = {
            "#": str(task.order + 1),
            "task": plain(task.task),
            "recurrent": "yes" if task.task in comparison.recurrent else "",
        }
        for own in comparison.totals:
            mark = " LOSS" if (own.arm, task.task) in losing else ""
            it = tallies.get(task.task, {}).get(own.arm)
            row[plain(own.arm)] = f"{it.outcome} {number(it.tokens)}{mark}" if it else NOTHING
        found.append(row)
    return found if tallies else []


def time_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return a row of seconds for each arm."""
    return [
        {
            "arm": plain(one.arm),
            "seconds": f"{one.sum / 1000:,.1f}",
            "median of a task": f"{one.median / 1000:.2f}",
        }
        for one in comparison.times
    ]


def id_lines(one: Versus, count: int | None = _IDS) -> list[str]:
    """Return sentences that name the tasks lost, won and below break-even, `count` of each."""
    arm, base = plain(one.arm), plain(one.baseline)
    excess = [f"{gap.task} (+{gap.difference:,})" for gap in one.below_break_even]
    return [
        f"Negative transfers, solved by {base} and not by {arm}: "
        + _listed(one.negative_transfers, count),
        f"Gains, solved by {arm} and not by {base}: {_listed(one.gains, count)}",
        f"Below break-even, more tokens than {base}: {_listed(excess, count)}",
    ]


def calibration(comparison: Comparison, header: Mapping[str, Any]) -> list[str]:
    """Return how the bare arm compares with live runs, if the header names a profile with some."""
    rows = calibration_rows(comparison, header)
    return [calibration_title(header), *_table(rows)] if rows else []


def calibration_title(header: Mapping[str, Any]) -> str:
    """Return what the live runs of a profile were."""
    known = "knows" if header.get("profile") == "familiar" else "does not know"
    return f"Calibration: the bare arm beside a frontier model on code that it {known}"


def calibration_rows(comparison: Comparison, header: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the bare arm beside live runs, none without a profile that has some."""
    profile = header.get("profile")
    own = [tally for tally in comparison.tallies if tally.arm == "bare"]
    own = [tally for tally in own if tally.outcome != "ERROR"]
    if not own or not isinstance(profile, str) or profile not in LIVE:
        return []
    values = {
        "tool calls": [tally.calls for tally in own],
        "characters of tool output": [tally.chars for tally in own],
        "cumulative tokens": [tally.tokens for tally in own],
    }
    what, ours, theirs = "median (range)", f"bare, {_tasks(len(own))}", f"live, {LIVE_RUNS} runs"
    rows = []
    for name, live in LIVE[profile].items():
        mine = values[name]
        ranged = _ranged(percentile(mine, 0.5), min(mine), max(mine))
        rows.append({what: name, ours: ranged, theirs: _ranged(*live)})
    greps, reads = sum(tally.searches for tally in own), sum(tally.reads for tally in own)
    live_greps, live_reads = LIVE_GREP_READ[profile]
    rows.append(
        {
            what: "grep:read",
            ours: f"{greps:,}:{reads:,}{_quotient(greps, reads)}",
            theirs: f"{live_greps}:{live_reads}{_quotient(live_greps, live_reads)}",
        }
    )
    return rows


def number(value: float | None) -> str:
    """Return a count short enough for a table: 4.5, 812, 9,400, 18.9k, 1.33M."""
    if value is None:
        return NOTHING
    if abs(value) < 100 and value != round(value):
        return f"{value:.1f}"
    if abs(value) < 9_999.5:
        return f"{value:,.0f}"
    return f"{value / 1e3:.1f}k" if abs(value) < 999_950 else f"{value / 1e6:.2f}M"


def share(value: float | None) -> str:
    """Return a share as whole percent."""
    return NOTHING if value is None else f"{100 * value:.0f} %"


def ratio(value: float | None) -> str:
    """Return a share as a decimal with two places."""
    return NOTHING if value is None else f"{value:.2f}"


def p_value(p: float) -> str:
    """Return a p as usual: .27, .004, < .001, 1."""
    if p < 0.001:
        return "< .001"
    if p >= 0.995:
        return "1"
    return f"{p:.3f}"[1:] if p < 0.095 else f"{p:.2f}"[1:]


def plain(text: str) -> str:
    """Return a text on one line; what is not printable, or turns the direction, as an escape."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _opposed(one: Difference, other: Difference) -> bool:
    """Return whether one went up and the other down."""
    return one.value is not None and other.value is not None and one.value * other.value < 0


def _escaped(character: str) -> str:
    if unicodedata.category(character) == "Zs" or character in "\n\t\r":
        return " "
    return character.encode("unicode_escape").decode("ascii")


def _interval(told: Difference) -> str:
    if told.low is None or told.high is None:
        return ""
    return f" [{told.low:+.1f}, {told.high:+.1f}]"


def _signed(value: float | None) -> str:
    return NOTHING if value is None else f"{value:+.1f}"


def _ranged(middle: float, low: float, high: float) -> str:
    shown = f"{middle:,.0f}" if middle == round(middle) or middle >= 100 else f"{middle:.1f}"
    return f"{shown} ({low:,.0f} to {high:,.0f})"


def _quotient(top: int, bottom: int) -> str:
    return f" ({top / bottom:.2f})" if bottom else ""


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"


def _listed(names: Sequence[str], count: int | None) -> str:
    if not names:
        return "none."
    rest = len(names) - len(names[:count])
    more = f", and {rest} more" if rest else ""
    return f"{len(names)}: {', '.join(plain(name) for name in names[:count])}{more}."


def _is_told(value: object) -> bool:
    return value is not None and value not in ("", [], {})


def _said(value: object) -> str:
    if isinstance(value, dict):
        return " / ".join(f"{key} {_said(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(_said, value))
    return str(value)


def _wrapped(text: str) -> list[str]:
    """Return a text in lines of at most 100 columns, broken at spaces where there are any."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > _WIDTH:
            lines.append(line)
            line = "  "
        line = f"{line} {word}" if line.strip() else line + word
        while len(line) > _WIDTH:
            lines.append(line[:_WIDTH])
            line = "  " + line[_WIDTH:]
    return [*lines, line] if line.strip() else lines


def _table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return rows of at most 100 columns: the first cell to the left, the others to the right.

    Names in the first column give way first where a line would be too long.
    """
    if not rows:
        return []
    heads = list(rows[0])
    cells = [heads, *([row[head] for head in heads] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(heads))]
    widths[0] = min(widths[0], max(_NAME, _WIDTH - sum(widths[1:]) - 2 * len(widths[1:])))
    gap = "  " if sum(widths) + 2 * len(widths) - 2 <= _WIDTH else " "
    lines = []
    for first, *others in cells:
        shown = [_cut(first, widths[0]).ljust(widths[0])]
        shown += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append(_cut(gap.join(shown).rstrip(), _WIDTH))
    return lines


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 2] + ".."


def _markdown(rows: Sequence[Mapping[str, str]]) -> str:
    heads = list(rows[0])
    lines = [heads, [":--", *(["--:"] * (len(heads) - 1))]]
    lines += [[row[head] for head in heads] for row in rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """Return a text that no Markdown reader takes for a table's bar or for HTML."""
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|")):
        text = text.replace(sign, entity)
    return plain(text)
