"""A comparison as one page that needs nothing else: no script, no network, charts as inline SVG.

Pure: a comparison and its events in, HTML out. Figures and wording come from the report; times are
left out, so that the pages of two equal runs are the same.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from stratum_bench import compare_report as report
from stratum_bench.compare import Comparison, Pair, Totals, Versus
from stratum_bench.compare_report import number, plain
from stratum_bench.replay import short
from stratum_bench.trace import (
    OUTCOMES,
    Asked,
    Called,
    Ended,
    Episode,
    Event,
    Started,
    TaskGiven,
    episodes,
)

ALL_TRACES = 80  # of more tasks only the most different are traced
SOME_TRACES = 40
_RESULT = 700  # characters of what memory answered
_WIDE = 420  # units of a chart
_LABEL = 84

_STYLE = """
:root{color-scheme:light dark;--page:#faf8f4;--card:#fff;--ink:#22252a;--soft:#6a6c70;
--line:#e4e0d8;--accent:#0c6b64;--tint:#d3e6e2;--on:#fff;--g1:#c9c5bb;--g2:#98948a;--g3:#625f58}
@media(prefers-color-scheme:dark){:root{--page:#14171a;--card:#1b1f23;--ink:#e8e6e1;--soft:#9da1a6;
--line:#30353a;--accent:#63c9bd;--tint:#244a48;--on:#0d1f1d;--g1:#4a4f55;--g2:#767c83;--g3:#a9aeb4}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,
"Segoe UI",Roboto,"Helvetica Neue",sans-serif;font-variant-numeric:tabular-nums}
main{max-width:70rem;margin:0 auto;padding:clamp(1.25rem,4vw,3.5rem) clamp(1rem,4vw,2.5rem)}
h1,.figure b{font-family:"Iowan Old Style","Palatino Linotype",Palatino,Georgia,serif;
font-weight:600;letter-spacing:-.01em}
h1{font-size:clamp(1.5rem,1.1rem + 2vw,2.4rem);line-height:1.2;margin:.4rem 0 .8rem;
max-width:26em;text-wrap:balance}
h2{font-size:1.05rem;margin:3rem 0 .3rem}
h3{font-size:.95rem;margin:0 0 .1rem}
p{margin:.3rem 0 .9rem;max-width:44rem}
.whole{white-space:nowrap}
.over{color:var(--accent);font-size:.8rem;font-weight:600;letter-spacing:.08em;margin:0}
.lede{font-size:1.1rem}
.soft,figcaption,.legend{color:var(--soft);font-size:.85rem}
.note{border-left:3px solid var(--accent);padding:.15rem 0 .15rem .9rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:1px;
background:var(--line);border:1px solid var(--line);border-radius:10px;overflow:hidden;
margin:1.8rem 0}
.figure{background:var(--card);padding:1rem 1.1rem;font-size:.85rem;color:var(--soft)}
.figure b{display:block;font-size:1.75rem;line-height:1.2;color:var(--ink)}
.figure:first-child b{color:var(--accent)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));gap:1rem;
align-items:start}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:1.1rem 1.2rem}
figcaption{margin-bottom:.6rem}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{font-size:11.5px;fill:var(--ink)}
svg .t{fill:var(--soft)}svg .on{fill:var(--on)}
.grid{stroke:var(--line)}.axis{stroke:var(--g2)}.whisker{stroke:var(--ink);stroke-width:1.3}
.a{fill:var(--accent)}.b{fill:var(--g2)}.c{fill:var(--g1)}.tint{fill:var(--tint)}
.dot{fill:var(--accent);fill-opacity:.7}
.ring{fill:none;stroke:var(--accent);stroke-width:1.8}
.cross{stroke:var(--ink);stroke-width:2;fill:none}
.curve{stroke:var(--accent);stroke-width:2.4;fill:none;stroke-linejoin:round}
.PASS{fill:var(--accent);background:var(--accent)}.MISS{fill:var(--g1);background:var(--g1)}
.STALE{fill:var(--g2);background:var(--g2)}.INVENTED{fill:var(--g3);background:var(--g3)}
.ERROR{fill:var(--card);stroke:var(--g3);background:var(--card);
box-shadow:inset 0 0 0 1px var(--g3)}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin-top:.5rem}
.legend i{display:inline-block;width:.75em;height:.75em;border-radius:2px;margin-right:.4em}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:10px;background:var(--card);
margin:.6rem 0 1rem}
table{border-collapse:collapse;width:100%;font-size:.85rem}
th,td{padding:.45rem .8rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600}th:first-child,td:first-child{text-align:left}
.named th:nth-child(2),.named td:nth-child(2){text-align:left}
tr:last-child td{border-bottom:0}
tr.lead td{font-weight:600}tr.lead td:first-child{box-shadow:inset 3px 0 0 var(--accent)}
mark{background:var(--ink);color:var(--page);border-radius:3px;padding:0 .35em;font-size:.85em}
details{border:1px solid var(--line);border-radius:8px;background:var(--card);margin:.4rem 0}
summary{cursor:pointer;padding:.5rem .8rem;overflow-wrap:anywhere}
summary:focus-visible{outline:2px solid var(--accent)}
summary span{color:var(--soft);margin-left:.5rem;font-size:.85rem}
.inside{padding:0 .9rem .9rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:1.4rem}
ol{list-style:none;margin:.5rem 0;padding:0;font-size:.82rem}
li{margin-bottom:.55rem;overflow-wrap:anywhere}
code,pre{font:.92em/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;padding:0 .8rem .7rem}
li details{margin:.25rem 0 0}li summary{padding:.2rem .6rem;color:var(--soft)}
.bar{display:flex;height:7px;margin:.2rem 0 .1rem;border-radius:2px;overflow:hidden}
.bar i{display:block}.old{background:var(--g1)}.new{background:var(--accent)}
.said{background:var(--g3)}
@media(max-width:34rem){svg text{font-size:15px}}
@media print{details{break-inside:avoid}}
"""


def as_html(comparison: Comparison, events: Sequence[Event]) -> str:
    """Return the page.

    Args:
        comparison: Of these events.
        events: Where the traces come from.
    """
    lead = report.leading(comparison)
    body = [_head(comparison, lead)]
    if comparison.tallies:
        body += [_charts(comparison, lead), _arms(comparison, lead)]
        body += [_recurrent(comparison), _tasks(comparison)]
    if lead is not None and lead.pairs:
        body.append(_traces(lead, events))
    body.append(f'<p class="soft">{_e(report.summary(comparison.header))}</p>')
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none';style-src 'unsafe-inline'\">"
        f"<title>{_e(report.headline(comparison))}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _e(text: object) -> str:
    """Return a text for HTML, on one line, control characters visible."""
    return html.escape(plain(str(text)))


def _unbroken(escaped: str) -> str:
    """Return a text whose intervals stay on one line."""
    return re.sub(r"\[[^\[\]]*\]|\(p [^()]*\)", r'<span class="whole">\g<0></span>', escaped)


def _head(comparison: Comparison, lead: Versus | None) -> str:
    parts = [
        '<p class="over">STRATUM BENCH</p>',
        f"<h1>{_unbroken(_e(report.headline(comparison)))}</h1>",
        f'<p class="lede">{_e(report.verdict(comparison))}</p>',
    ]
    if report.is_simulation(comparison.header):
        parts.append(f'<p class="note">{_e(report.SIMULATION)}</p>')
    notes = [note for note in comparison.notes if note != report.headline(comparison)]
    parts += [f'<p class="note soft">{_e(note)}</p>' for note in notes]
    if lead is not None and lead.n:
        told = lead.tokens.value
        figures = [
            ("n/a" if told is None else f"{told:+.1f} %", f"tokens against {lead.baseline}"),
            (f"{lead.solved} : {lead.baseline_solved}", f"solved, against {lead.baseline}"),
            (str(len(lead.negative_transfers)), f"lost that {lead.baseline} solved"),
            (f"{len(lead.below_break_even)} of {lead.n}", "tasks took more tokens"),
        ]
        shown = "".join(
            f'<div class="figure"><b>{_e(value)}</b>{_e(what)}</div>' for value, what in figures
        )
        parts.append(f'<div class="figures">{shown}</div>')
    return "".join(parts)


def _charts(comparison: Comparison, lead: Versus | None) -> str:
    own = [one for one in comparison.totals if one.complete]
    charts = []
    if own:
        charts.append(
            _figure("Tokens per task", "Mean and 95 % interval of each arm.", _bars(own, lead))
        )
    charts.append(
        _figure("Outcomes", "Tasks of each arm.", _outcomes(comparison.totals), _outcome_legend())
    )
    if lead is not None and lead.pairs:
        arm, base = lead.arm, lead.baseline
        charts.append(
            _figure(
                "Task by task",
                f"Tokens of {arm} against {base}, both on a log scale; below the line {arm} took"
                " fewer.",
                _scatter(lead),
                '<div class="legend"><span>&#9679; same result</span>'
                f"<span>&#9675; solved by {_e(arm)} alone</span>"
                f"<span>&#10005; solved by {_e(base)} alone</span></div>",
            )
        )
        charts.append(
            _figure(
                "As memory fills",
                f"Tokens of {arm} against {base} in the order of the tasks: bars for each stretch,"
                " the line over all tasks so far.",
                _curve(lead),
            )
        )
    return f'<section class="charts">{"".join(charts)}</section>'


def _figure(title: str, caption: str, chart: str, legend: str = "") -> str:
    head = f"<h3>{_e(title)}</h3><figcaption>{_e(caption)}</figcaption>"
    return f"<figure>{head}{chart}{legend}</figure>"


def _svg(height: float, label: str, parts: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDE} {height:.0f}" role="img" aria-label="{_e(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "t") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{_e(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _rect(x: float, y: float, width: float, height: float, kind: str, told: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" rx="2"'
        f' class="{kind}"><title>{_e(told)}</title></rect>'
    )


def _arm_label(y: float, arm: str) -> str:
    return _text(0, y, arm if len(arm) <= 13 else f"{arm[:12]}…", kind="")


def _bars(own: Sequence[Totals], lead: Versus | None) -> str:
    """Return a bar for each arm, with a whisker for the interval of its mean."""
    rows = [(one, one.columns["tokens"].mean or 0.0) for one in own]
    most = max(max(one.tokens_high or 0.0, value) for one, value in rows) or 1.0
    scale = (_WIDE - _LABEL - 46) / most
    parts = []
    for i, (one, value) in enumerate(rows):
        y = 30 * i
        kind = "a" if lead and one.arm == lead.arm else "c"
        kind = "b" if lead and one.arm == lead.baseline else kind
        low, high = one.tokens_low, one.tokens_high
        told = f"{one.arm}: {value:,.0f}"
        end = _LABEL + value * scale
        parts.append(_arm_label(y + 17, one.arm))
        if low is not None and high is not None:
            told += f" [{low:,.0f}, {high:,.0f}]"
        parts.append(_rect(_LABEL, y + 4, value * scale, 18, kind, told))
        if low is not None and high is not None:
            start, end = _LABEL + low * scale, _LABEL + high * scale
            parts.append(_line(start, y + 13, end, y + 13, "whisker"))
            parts += [_line(x, y + 9, x, y + 17, "whisker") for x in (start, end)]
        parts.append(_text(end + 6, y + 17, number(value), kind=""))
    return _svg(30 * len(rows), "tokens per task of each arm", parts)


def _outcomes(totals: Sequence[Totals]) -> str:
    """Return a stacked bar for each arm."""
    rows = [one for one in totals if one.n]
    scale = (_WIDE - _LABEL) / max((one.n for one in rows), default=1)
    parts = []
    for i, one in enumerate(rows):
        y, x = 30 * i, float(_LABEL)
        parts.append(_arm_label(y + 17, one.arm))
        for name, count in one.outcomes.items():
            width = count * scale
            if count:
                parts.append(_rect(x, y + 4, width - 1, 18, name, f"{one.arm}: {name} {count}"))
            if width > 20:
                kind = "on" if name in ("PASS", "INVENTED") else ""
                parts.append(_text(x + width / 2, y + 17, str(count), "middle", kind))
            x += width
    return _svg(30 * len(rows), "outcomes of each arm", parts)


def _outcome_legend() -> str:
    each = "".join(f'<span><i class="{name}"></i>{name}</span>' for name in OUTCOMES)
    return f'<div class="legend">{each}</div>'


def _scatter(lead: Versus) -> str:
    """Return a point for each task, both axes logarithmic and alike."""
    values = [max(v, 1) for pair in lead.pairs for v in (pair.tokens, pair.baseline_tokens)]
    low, high = math.log10(min(values)) - 0.06, math.log10(max(values)) + 0.06
    left, top, size = 44.0, 6.0, float(_WIDE - 54)

    def place(value: int) -> float:
        return (math.log10(max(value, 1)) - low) / (high - low) * size

    bottom = top + size
    corners = f"{left},{bottom} {left + size},{top} {left + size},{bottom}"
    parts = [f'<polygon class="tint" fill-opacity=".45" points="{corners}"/>']
    for tick in _ticks(low, high):
        at = place(tick)
        parts.append(_line(left + at, top, left + at, bottom, "grid"))
        parts.append(_line(left, bottom - at, left + size, bottom - at, "grid"))
        parts.append(_text(left + at, bottom + 15, _round(tick), "middle"))
        parts.append(_text(left - 6, bottom - at + 4, _round(tick), "end"))
    parts.append(_line(left, bottom, left + size, top, "axis"))
    parts.append(_text(left + size - 6, bottom - 8, f"{lead.arm} took fewer", "end"))
    for pair in lead.pairs:
        x, y = left + place(pair.baseline_tokens), bottom - place(pair.tokens)
        parts.append(_point(x, y, pair, lead))
    parts.append(_text(left + size, bottom + 34, f"tokens of {lead.baseline}", "end", ""))
    parts.append(_text(left + 6, top + 14, f"tokens of {lead.arm}", kind=""))
    return _svg(bottom + 40, f"tokens of {lead.arm} against {lead.baseline}", parts)


def _point(x: float, y: float, pair: Pair, lead: Versus) -> str:
    told = (
        f"{pair.task}: {lead.baseline} {pair.baseline_outcome} {pair.baseline_tokens:,},"
        f" {lead.arm} {pair.outcome} {pair.tokens:,} ({pair.difference:+,})"
    )
    title = f"<title>{_e(told)}</title>"
    if pair.task in lead.negative_transfers:
        shape = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
        return f'<path class="cross" d="{shape}">{title}</path>'
    kind = "ring" if pair.task in lead.gains else "dot"
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4">{title}</circle>'


def _ticks(low: float, high: float) -> list[int]:
    """Return 1, 2, 5 times powers of ten within a range of logarithms; powers alone if many."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    for steps in ((1, 2, 5), (1,)):
        found = [s * 10**p for p in powers if p >= 0 for s in steps]
        found = [tick for tick in found if low <= math.log10(tick) <= high]
        if len(found) <= 7:
            break
    return found


def _round(value: int) -> str:
    if value >= 1_000_000:
        return f"{value // 1_000_000}M"
    return f"{value // 1_000}k" if value >= 1_000 else str(value)


def _curve(lead: Versus) -> str:
    """Return bars of the stretches and a line of all tasks so far, in percent."""
    told = [bucket for bucket in lead.curve if bucket.percent is not None]
    values = [value for b in told for value in (b.percent or 0.0, b.cumulative or 0.0)]
    top, bottom = max(0.0, *values, 0.0), min(0.0, *values, 0.0)
    room = (top - bottom or 1.0) * 0.08
    top, bottom = (top + room if top else 0.0), (bottom - room if bottom else 0.0)
    span = top - bottom or 1.0
    left, high, above = 52.0, 345.0, 10.0
    wide = (_WIDE - left - 6) / max(len(told), 1)

    def place(value: float) -> float:
        return above + (top - value) / span * high

    parts = []
    for tick in _steps(bottom, top):
        parts.append(_line(left, place(tick), _WIDE - 6, place(tick), "grid" if tick else "axis"))
        parts.append(_text(left - 6, place(tick) + 4, f"{tick:+.0f} %" if tick else "0", "end"))
    points = []
    for i, bucket in enumerate(told):
        percent, cumulative = bucket.percent or 0.0, bucket.cumulative or 0.0
        x, zero = left + i * wide, place(0.0)
        said = (
            f"tasks {bucket.first + 1} to {bucket.last + 1}: {percent:+.1f} %, so far"
            f" {cumulative:+.1f} %"
        )
        upper = min(zero, place(percent))
        size = abs(place(percent) - zero)
        parts.append(_rect(x + wide * 0.15, upper, wide * 0.7, size, "tint", said))
        points.append(f"{x + wide / 2:.1f},{place(cumulative):.1f}")
    parts.append(f'<polyline class="curve" points="{" ".join(points)}"/>')
    if told:
        under = above + high + 18
        parts.append(_text(left, under, f"task {told[0].first + 1}"))
        parts.append(_text(_WIDE - 6, under, f"task {told[-1].last + 1}", "end"))
    return _svg(above + high + 24, "difference of tokens in the order of the tasks", parts)


def _steps(low: float, high: float) -> list[float]:
    """Return round values from low to high, about five, 0 among them."""
    rough = (high - low) / 5 or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _arms(comparison: Comparison, lead: Versus | None) -> str:
    marked = plain(lead.arm) if lead else ""
    tables = (
        ("Arms: tokens per task", report.arm_rows(comparison), ""),
        (report.WORK, report.work_rows(comparison), report.MEMORY_READS),
        ("Arms: files submitted", report.quality_rows(comparison), ""),
        ("Tokens and calls against the baseline", report.token_rows(comparison), ""),
        (report.SOLVED, report.solved_rows(comparison), ""),
        ("Outcomes", report.outcome_rows(comparison), ""),
    )
    parts = [
        f"<h2>{_e(title)}</h2>{_table(rows, marked)}" + (f'<p class="soft">{_e(a)}</p>' * bool(a))
        for title, rows, a in tables
        if rows
    ]
    parts += [f"<p>{_e(line)}</p>" for line in (report.id_lines(lead, None) if lead else [])]
    live = report.calibration_rows(comparison, comparison.header)
    if live:
        title = report.calibration_title(comparison.header)
        parts.append(f"<h2>{_e(title)}</h2>{_table(live)}")
    return "".join(parts)


def _recurrent(comparison: Comparison) -> str:
    rows = report.group_rows(comparison)
    if not rows:
        return ""
    return (
        '<h2>First-time and recurrent tasks</h2><p class="soft">A task is recurrent when one of its'
        " gold files was gold of an earlier task of the same repository. Tokens per task.</p>"
        + _table(rows, kind="named")
    )


def _tasks(comparison: Comparison) -> str:
    rows = report.task_rows(comparison)
    return (
        '<h2>Tasks</h2><p class="soft">Outcome and tokens in each arm. <mark>LOSS</mark>: the'
        " baseline solved it and the arm did not, or the same outcome took more tokens.</p>"
        f"<details><summary>All {len(rows)} tasks</summary>{_table(rows, kind='named')}</details>"
    )


def _table(rows: Sequence[Mapping[str, str]], marked: str = "", kind: str = "") -> str:
    """Return a table; the row of the arm `marked` stands out, as does the word LOSS."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{_e(name)}</th>' for name in rows[0])
    body = []
    for row in rows:
        lead = ' class="lead"' if marked and row.get("arm") == marked else ""
        cells = "".join(f"<td>{_marked(cell)}</td>" for cell in row.values())
        body.append(f"<tr{lead}>{cells}</tr>")
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _marked(cell: str) -> str:
    if cell.endswith(" LOSS"):
        return f"{_e(cell.removesuffix(' LOSS'))} <mark>LOSS</mark>"
    return f"<bdi>{_e(cell)}</bdi>"


def _traces(lead: Versus, events: Sequence[Event]) -> str:
    pairs, said = list(lead.pairs), f"All {lead.n} tasks that are complete in both, step by step."
    if len(pairs) > ALL_TRACES:
        pairs = sorted(pairs, key=lambda pair: (-abs(pair.difference), pair.order))[:SOME_TRACES]
        said = f"The {SOME_TRACES} tasks of {lead.n} that differ most in tokens, step by step."
    there = episodes(events)
    tasks = {event.task: event for event in events if isinstance(event, TaskGiven)}
    shown = [
        _trace(pair, tasks[pair.task], [there[pair.task, arm] for arm in (lead.baseline, lead.arm)])
        for pair in pairs
    ]
    return (
        f'<h2>{_e(lead.baseline)} beside {_e(lead.arm)}</h2><p class="soft">{_e(said)} Bars are'
        ' tokens of a request:</p><p class="legend"><span><i class="old"></i>cached</span>'
        '<span><i class="new"></i>new in the prompt</span>'
        f'<span><i class="said"></i>output</span></p>{"".join(shown)}'
    )


def _trace(pair: Pair, task: TaskGiven, both: Sequence[Episode]) -> str:
    loss = " <mark>LOSS</mark>" if pair.losing else ""
    most = max(
        (e.prompt + e.output for one in both for e in one.events if isinstance(e, Asked)), default=1
    )
    columns = "".join(_column(one, set(task.gold), most) for one in both)
    return (
        f"<details><summary>{_e(pair.task)}{loss}<span>{_e(pair.baseline_outcome)} &#8594;"
        f" {_e(pair.outcome)}, {pair.difference:+,} tokens</span></summary>"
        f'<div class="inside"><p><bdi>{_e(task.title)}</bdi><br><span class="soft">Gold:'
        f' {_e(", ".join(task.gold))}</span></p><div class="pair">{columns}</div></div></details>'
    )


def _column(episode: Episode, gold: set[str], most: int) -> str:
    """Return an episode step by step; `most` tokens fill a bar."""
    total, lines, end = 0, [], ""
    for event in episode.events:
        if isinstance(event, Started) and (event.tools or event.instructions or event.file):
            added = event.tools + event.instructions + event.file
            lines.append(f'<li class="soft">memory adds {added:,} tokens to each prompt</li>')
        elif isinstance(event, Asked):
            total += event.prompt + event.output
            lines.append(_request(event, total, most))
        elif isinstance(event, Called):
            lines.append(_call(event))
        elif isinstance(event, Ended):
            end = _end(event, gold)
    return (
        f'<div><h3>{_e(episode.arm)} <span class="soft">{total:,} tokens</span></h3>'
        f"<ol>{''.join(lines)}</ol>{end}</div>"
    )


def _request(event: Asked, total: int, most: int) -> str:
    parts = (
        ("old", event.cached),
        ("new", event.prompt - event.cached),
        ("said", event.output),
    )
    bar = "".join(
        f'<i class="{kind}" style="width:{100 * max(count, 0) / max(most, 1):.2f}%"></i>'
        for kind, count in parts
    )
    memory = f", {event.memory:,} of memory" if event.memory else ""
    return (
        f'<li><div class="bar">{bar}</div><span class="soft">{event.step}.'
        f" {event.prompt:,} in{memory}, {event.output:,} out, {total:,} so far</span></li>"
    )


def _call(event: Called) -> str:
    failed = " failed," if event.failed else ""
    told = (
        f"<b>{_e(event.tool)}</b> <code>{_e(short(event.arguments))}</code>"
        f' <span class="soft">{failed} {event.chars:,} chars, {event.tokens:,} tokens</span>'
    )
    if event.memory and event.result:
        text = "\n".join(_e(line) for line in event.result[:_RESULT].split("\n"))
        told += f"<details><summary>what memory said</summary><pre>{text}</pre></details>"
    return f"<li>{told}</li>"


def _end(event: Ended, gold: set[str]) -> str:
    named = ", ".join(f"{file}{' (gold)' if file in gold else ''}" for file in event.submitted)
    recalled = ", ".join(f"{file}{' (gold)' if file in gold else ''}" for file in event.recalled)
    memory = f'<br><span class="soft">Memory named {_e(recalled)}</span>' if recalled else ""
    return (
        f"<p><b>{_e(event.outcome)}</b> ({_e(event.reason)}): {_e(named or 'nothing')}{memory}</p>"
    )
