/**
 * The charts of a run as SVG made by DOM methods, and the numbers as the reports write them.
 *
 * Pure: figures in, elements out. Each chart is one image for a screen reader, with a label that
 * says what it shows; the figures themselves stand in tables beside it.
 */

import { svg } from './dom.js';

const WIDE = 420;
const LABEL = 84;
const NOTHING = '–';
const MINUS = '−';

/** The outcomes of a task, best first. */
export const OUTCOMES = ['PASS', 'MISS', 'STALE', 'INVENTED', 'ERROR'];

/**
 * A count short enough for a table: 4.5, 812, 9,400, 18.9k, 1.33M.
 * @param {number | null | undefined} value
 * @returns {string}
 */
export function number(value) {
  if (value === null || value === undefined) return NOTHING;
  const size = Math.abs(value);
  if (size < 100 && value !== Math.round(value)) return minus(value.toFixed(1));
  if (size < 9999.5) return minus(grouped(value));
  if (size < 999950) return minus(`${(value / 1e3).toFixed(1)}k`);
  return minus(`${(value / 1e6).toFixed(2)}M`);
}

/**
 * A whole number with a comma after each thousand.
 * @param {number} value
 * @returns {string}
 */
export function grouped(value) {
  return minus(Math.round(value).toLocaleString('en-US'));
}

/**
 * A number with its sign and one decimal, as +3.2 or −18.0.
 * @param {number | null | undefined} value
 * @returns {string}
 */
export function signed(value) {
  if (value === null || value === undefined) return NOTHING;
  const told = value.toFixed(1);
  return minus(Number(told) > 0 ? `+${told}` : told.replace(/^-0\.0$/, '0.0'));
}

/**
 * A whole number with its sign and commas.
 * @param {number} value
 * @returns {string}
 */
export function signedCount(value) {
  return `${value > 0 ? '+' : ''}${grouped(value)}`;
}

/**
 * A share from 0 to 1 as whole percent.
 * @param {number | null | undefined} value
 * @returns {string}
 */
export function share(value) {
  return value === null || value === undefined ? NOTHING : `${Math.round(100 * value)} %`;
}

/**
 * A p as usual: .27, .004, < .001, 1.
 * @param {number} p
 * @returns {string}
 */
export function pValue(p) {
  if (p < 0.001) return '< .001';
  if (p >= 0.995) return '1';
  return p.toFixed(p < 0.095 ? 3 : 2).slice(1);
}

/**
 * An interval as [−31.0, −17.2], or nothing where there is none.
 * @param {number | null} low
 * @param {number | null} high
 * @returns {string}
 */
export function range(low, high) {
  return low === null || high === null ? '' : `[${signed(low)}, ${signed(high)}]`;
}

/**
 * Whether an interval shows a gain, a loss, or neither.
 * @param {{low: number | null, high: number | null}} told
 * @param {boolean} [more] - Whether more is better.
 * @returns {'gain' | 'loss' | 'open'}
 */
export function leaning(told, more = false) {
  if (told.low === null || told.high === null) return 'open';
  const [low, high] = more ? [-told.high, -told.low] : [told.low, told.high];
  return high < 0 ? 'gain' : low > 0 ? 'loss' : 'open';
}

/**
 * A dot with a whisker on an axis whose middle is "no difference".
 * @param {{value: number | null, low: number | null, high: number | null}} told
 * @param {number} most - What the ends of the axis stand for, the same in all rows.
 * @param {boolean} more - Whether more is better.
 * @returns {SVGElement}
 */
export function whisker(told, most, more) {
  const place = (value) => 80 + (Math.max(-most, Math.min(most, value)) / (most || 1)) * 74;
  const parts = [line(6, 10, 154, 10, 'grid'), line(80, 2, 80, 18, 'axis')];
  if (told.low !== null && told.high !== null) {
    parts.push(line(place(told.low), 10, place(told.high), 10, `span ${leaning(told, more)}`));
  }
  if (told.value !== null) {
    const kind = `mark ${leaning(told, more)}`;
    parts.push(svg('circle', { cx: place(told.value), cy: 10, r: 4.5, class: kind }));
  }
  return svg('svg', { viewBox: '0 0 160 20', class: 'whisker', 'aria-hidden': 'true' }, ...parts);
}

/**
 * Each arm against the baseline: a dot with its interval.
 * @param {{arm: string, value: number | null, low: number | null, high: number | null,
 *   lead: boolean}[]} rows - Differences of tokens in percent.
 * @param {string} baseline
 * @returns {SVGElement}
 */
export function forest(rows, baseline) {
  const known = rows.flatMap((row) => [row.value, row.low, row.high]).filter((v) => v !== null);
  const low = Math.min(0, ...known);
  const high = Math.max(0, ...known);
  const room = (high - low || 1) * 0.08;
  const scale = (WIDE - LABEL - 62) / (high - low + 2 * room);
  const place = (value) => LABEL + (value - low + room) * scale;
  const bottom = 32 * rows.length + 8;
  const parts = steps(low - room, high + room).map((tick) =>
    line(place(tick), 0, place(tick), bottom, tick ? 'grid' : 'axis'),
  );
  rows.forEach((row, i) => {
    const y = 32 * i + 20;
    const kind = leaning(row);
    parts.push(armLabel(y + 4, row.arm, row.lead));
    if (row.low !== null && row.high !== null) {
      parts.push(line(place(row.low), y, place(row.high), y, `span ${kind}`));
    }
    if (row.value === null) return;
    const dot = svg('circle', { cx: place(row.value), cy: y, r: 5, class: `mark ${kind}` });
    parts.push(told(dot, `${row.arm}: ${signed(row.value)} % ${range(row.low, row.high)}`));
    parts.push(text(WIDE, y + 4, `${signed(row.value)} %`, 'end', row.lead ? 'strong' : ''));
  });
  for (const tick of steps(low - room, high + room)) {
    parts.push(text(place(tick), bottom + 16, tick ? `${signed(tick).replace('.0', '')} %` : '0',
      'middle'));
  }
  const said = rows.map((row) => `${row.arm} ${signed(row.value)} %`).join(', ');
  return chart(bottom + 20, `Tokens of each arm against ${baseline}: ${said}.`, parts);
}

/**
 * A bar of tokens per task for each arm, memory's own part marked, the interval as a whisker.
 * @param {{arm: string, tokens: number, memory: number, low: number | null,
 *   high: number | null, role: 'lead' | 'base' | 'other'}[]} rows
 * @returns {SVGElement}
 */
export function bars(rows) {
  const most = Math.max(1, ...rows.map((row) => Math.max(row.high ?? 0, row.tokens)));
  const scale = (WIDE - LABEL - 50) / most;
  const parts = rows.flatMap((row, i) => {
    const y = 34 * i;
    const wide = row.tokens * scale;
    const own = row.memory * scale;
    const drawn = [
      armLabel(y + 19, row.arm, row.role === 'lead'),
      rect(LABEL, y + 5, wide, 20, row.role, `${row.arm}: ${grouped(row.tokens)} tokens a task`),
    ];
    if (own > 0.5) {
      const said = `${row.arm}: ${grouped(row.memory)} of these are memory's own`;
      drawn.push(rect(LABEL + wide - own, y + 5, own, 20, 'memory', said));
    }
    let end = LABEL + wide;
    if (row.low !== null && row.high !== null) {
      const [from, to] = [LABEL + row.low * scale, LABEL + row.high * scale];
      drawn.push(line(from, y + 15, to, y + 15, 'span ink'));
      for (const x of [from, to]) drawn.push(line(x, y + 11, x, y + 19, 'span ink'));
      end = Math.max(end, to);
    }
    return [...drawn, text(end + 6, y + 19, number(row.tokens), 'start', 'ink')];
  });
  const said = rows.map((row) => `${row.arm} ${number(row.tokens)}`).join(', ');
  return chart(34 * rows.length, `Tokens per task: ${said}.`, parts);
}

/**
 * A bar of outcomes for each arm.
 * @param {{arm: string, outcomes: Record<string, number>, lead: boolean}[]} rows
 * @returns {SVGElement}
 */
export function outcomes(rows) {
  const totals = rows.map((row) => Object.values(row.outcomes).reduce((a, b) => a + b, 0));
  const scale = (WIDE - LABEL) / Math.max(1, ...totals);
  const parts = rows.flatMap((row, i) => {
    const y = 34 * i;
    let x = LABEL;
    const drawn = [armLabel(y + 19, row.arm, row.lead)];
    for (const name of OUTCOMES) {
      const count = row.outcomes[name] ?? 0;
      const wide = count * scale;
      if (count) drawn.push(rect(x, y + 5, wide - 1.5, 20, name, `${row.arm}: ${name} ${count}`));
      if (wide > 22) {
        const kind = name === 'PASS' || name === 'INVENTED' ? 'on' : 'ink';
        drawn.push(text(x + wide / 2, y + 19, String(count), 'middle', kind));
      }
      x += wide;
    }
    return drawn;
  });
  const said = rows.map((row) => `${row.arm} ${row.outcomes.PASS ?? 0}`).join(', ');
  return chart(34 * rows.length, `Tasks solved: ${said}.`, parts);
}

/**
 * A point for each task, both axes logarithmic and alike; below the line the arm took fewer.
 * @param {{arm: string, baseline: string, pairs: object[], gains: string[],
 *   negative_transfers: string[]}} versus
 * @param {(task: string) => void} pick - Called when a point is clicked.
 * @returns {SVGElement}
 */
export function scatter(versus, pick) {
  const values = versus.pairs.flatMap((pair) => [pair.tokens, pair.baseline_tokens]);
  const logs = values.map((value) => Math.log10(Math.max(value, 1)));
  const low = Math.min(...logs) - 0.06;
  const high = Math.max(...logs) + 0.06;
  const [left, top, size] = [44, 6, WIDE - 54];
  const bottom = top + size;
  const place = (value) => ((Math.log10(Math.max(value, 1)) - low) / (high - low)) * size;
  const corners = `${left},${bottom} ${left + size},${top} ${left + size},${bottom}`;
  const parts = [svg('polygon', { points: corners, class: 'below' })];
  for (const tick of ticks(low, high)) {
    const at = place(tick);
    parts.push(line(left + at, top, left + at, bottom, 'grid'));
    parts.push(line(left, bottom - at, left + size, bottom - at, 'grid'));
    parts.push(text(left + at, bottom + 15, short(tick), 'middle'));
    parts.push(text(left - 6, bottom - at + 4, short(tick), 'end'));
  }
  parts.push(line(left, bottom, left + size, top, 'axis'));
  parts.push(text(left + size - 6, bottom - 8, `${brief(versus.arm)} took fewer`, 'end'));
  parts.push(text(left + 6, top + 14, `${brief(versus.baseline)} took fewer`, 'start'));
  for (const pair of versus.pairs) {
    const point = dot(left + place(pair.baseline_tokens), bottom - place(pair.tokens),
      pair.task, versus);
    point.addEventListener('click', () => pick(pair.task));
    parts.push(told(point, `${pair.task}: ${versus.baseline} ${pair.baseline_outcome} `
      + `${grouped(pair.baseline_tokens)}, ${versus.arm} ${pair.outcome} `
      + `${grouped(pair.tokens)} (${signedCount(pair.difference)})`));
  }
  parts.push(text(left + size, bottom + 34, `tokens of ${brief(versus.baseline)} →`, 'end', 'ink'));
  parts.push(text(left, bottom + 34, `↑ tokens of ${brief(versus.arm)}`, 'start', 'ink'));
  const said = `${versus.arm} took fewer tokens than ${versus.baseline} in ${versus.fewer} of `
    + `${versus.n} tasks, more in ${versus.more}. Each task stands in the table below.`;
  return chart(bottom + 40, said, parts);
}

/**
 * The flywheel: bars for each stretch of tasks, a line over all so far, in percent.
 * @param {{arm: string, baseline: string, curve: object[]}} versus
 * @returns {SVGElement}
 */
export function curve(versus) {
  const known = versus.curve.filter((bucket) => bucket.percent !== null);
  const values = known.flatMap((bucket) => [bucket.percent, bucket.cumulative ?? 0]);
  const room = (Math.max(0, ...values) - Math.min(0, ...values) || 1) * 0.08;
  const high = Math.max(0, ...values) + (Math.max(0, ...values) ? room : 0);
  const low = Math.min(0, ...values) - (Math.min(0, ...values) ? room : 0);
  const [left, above, tall] = [52, 10, 345];
  const wide = (WIDE - left - 6) / Math.max(known.length, 1);
  const place = (value) => above + ((high - value) / (high - low || 1)) * tall;
  const parts = [];
  for (const tick of steps(low, high)) {
    parts.push(line(left, place(tick), WIDE - 6, place(tick), tick ? 'grid' : 'axis'));
    const said = tick ? `${signed(tick).replace('.0', '')} %` : '0';
    parts.push(text(left - 6, place(tick) + 4, said, 'end'));
  }
  known.forEach((bucket, i) => {
    const y = Math.min(place(0), place(bucket.percent));
    const size = Math.max(1, Math.abs(place(bucket.percent) - place(0)));
    parts.push(rect(left + wide * (i + 0.13), y, wide * 0.74, size,
      bucket.percent > 0 ? 'stretch more' : 'stretch',
      `tasks ${bucket.first + 1} to ${bucket.last + 1}: ${signed(bucket.percent)} %, `
      + `so far ${signed(bucket.cumulative)} %`));
  });
  const points = known.map((bucket, i) => [left + wide * (i + 0.5), place(bucket.cumulative ?? 0)]);
  parts.push(svg('polyline', { points: points.map(([x, y]) => `${x},${y}`).join(' '),
    class: 'curve' }));
  for (const [x, y] of points) parts.push(svg('circle', { cx: x, cy: y, r: 3.2, class: 'knot' }));
  const last = known.at(-1);
  if (last) {
    parts.push(text(left, above + tall + 18, `task ${known[0].first + 1}`));
    parts.push(text(WIDE - 6, above + tall + 18, `task ${last.last + 1}`, 'end'));
  }
  const said = last
    ? `Tokens of ${versus.arm} against ${versus.baseline} in the order of the tasks: `
      + `${signed(known[0].percent)} % in the first stretch, ${signed(last.percent)} % in the `
      + `last, ${signed(last.cumulative)} % over all.`
    : 'No task has ended in both arms yet.';
  return chart(above + tall + 24, said, parts);
}

function chart(height, label, parts) {
  const frame = { viewBox: `0 0 ${WIDE} ${Math.ceil(height)}`, role: 'img', 'aria-label': label };
  return svg('svg', { ...frame, class: 'chart' }, ...parts);
}

function dot(x, y, task, versus) {
  if (versus.negative_transfers.includes(task)) {
    const cross = `M${x - 4.5} ${y - 4.5}l9 9m0 -9l-9 9`;
    return svg('path', { d: cross, class: 'point cross' });
  }
  const kind = versus.gains.includes(task) ? 'ring' : 'same';
  return svg('circle', { cx: x, cy: y, r: 4.5, class: `point ${kind}` });
}

function told(element, said) {
  element.append(svg('title', {}, said));
  return element;
}

function text(x, y, said, anchor = 'start', kind = '') {
  return svg('text', { x, y, 'text-anchor': anchor, class: kind }, said);
}

function line(x1, y1, x2, y2, kind) {
  return svg('line', { x1, y1, x2, y2, class: kind });
}

function rect(x, y, width, height, kind, said) {
  const box = { x, y, width: Math.max(width, 0), height, rx: 2, class: kind };
  return told(svg('rect', box), said);
}

function armLabel(y, arm, lead) {
  return told(text(0, y, brief(arm), 'start', lead ? 'strong' : 'ink'), arm);
}

function brief(arm) {
  return arm.length <= 12 ? arm : `${arm.slice(0, 11)}…`;
}

/** 1, 2, 5 times powers of ten within a range of logarithms; powers alone if these are many. */
function ticks(low, high) {
  let found = [];
  for (const factors of [[1, 2, 5], [1]]) {
    found = [];
    for (let power = Math.floor(low); power <= Math.ceil(high); power += 1) {
      found.push(...factors.map((factor) => factor * 10 ** power));
    }
    found = found.filter((tick) => Math.log10(tick) >= low && Math.log10(tick) <= high);
    if (found.length <= 7) break;
  }
  return found;
}

/** Round values from low to high, about five, 0 among them. */
function steps(low, high) {
  const rough = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((one) => one >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i <= Math.floor(high / step); i += 1) found.push(i * step);
  return found;
}

function short(value) {
  if (value >= 1e6) return `${value / 1e6}M`;
  return value >= 1000 ? `${value / 1000}k` : String(value);
}

function minus(said) {
  return said.replace(/^-/, MINUS);
}
