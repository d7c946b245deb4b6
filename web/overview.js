/** What the memory knows and what it saves, at a glance: the layers, the figures, the best notes. */

import { append, copyable, h, replace, svg } from './dom.js';
import { ago, compact, number, plural } from './format.js';
import { bed, chance, grain, shuffled, swell } from './strata.js';

const LEAST = 92; // a layer's least height in pixels: its text must fit
const MOST_SEAMS = 80;
const JUDGING = 1500; // ms until notes that were not judged yet are asked for again
const MOST_ASKS = 20;

/**
 * Show the overview in `container` and keep it up to date.
 *
 * @param {HTMLElement} container
 * @param {*} context as the views get it
 * @returns {() => void} stops it
 */
export function showOverview(container, context) {
  const core = h('div', { class: 'core' }, h('div', { class: 'ghost core-ghost' }));
  const sides = { saving: panel('lead'), health: panel(), used: panel() };
  replace(container, core, h('div', { class: 'overview-side' }, Object.values(sides)));
  let drawn = '';
  let health = null;
  let timer = 0;
  let asks = 0;

  const draw = (status) => {
    const width = Math.floor(core.clientWidth);
    const told = JSON.stringify([status?.counts, status?.indexing, health, width]);
    if (status && width && told !== drawn) {
      drawn = told;
      replace(core, drillCore(status, health, width));
    }
  };
  const loadHealth = async () => {
    clearTimeout(timer);
    health = await healthOf(context);
    showHealth(sides.health, health);
    draw(context.status.value);
    asks += 1;
    if (health.unknown && asks < MOST_ASKS) {
      timer = setTimeout(() => loadHealth().catch(() => {}), JUDGING);
    }
  };
  const load = () => {
    asks = 0;
    return Promise.allSettled([
      showSaving(sides.saving, context), showUsed(sides.used, context), loadHealth(),
    ]);
  };
  const watcher = new ResizeObserver(() => draw(context.status.value));
  watcher.observe(core);
  let notes = null;
  const unsubscribe = context.status.subscribe((status) => {
    draw(status);
    const now = JSON.stringify([status.counts.notes, status.indexing === '']);
    if (notes !== null && notes !== now) {
      load();
    }
    notes = now;
  });
  draw(context.status.value);
  load();
  return () => {
    unsubscribe();
    watcher.disconnect();
    clearTimeout(timer);
  };
}

const panel = (extra = '') => h('section', { class: `panel ${extra}`, hidden: true });

function fill(node, ...children) {
  node.hidden = false;
  replace(node, children);
}

// --- the layers

function drillCore(status, health, width) {
  const { notes = 0, files = 0, symbols = 0, commits = 0 } = status.counts;
  const beds = [
    {
      name: 'Notes', href: '#/notes', amount: notes, figure: compact(notes),
      text: notes ? 'what people and agents learned' : 'nothing was written down yet',
    },
    { name: 'Code', href: '#/map', amount: symbols + files, figure: compact(symbols), text: codeText(status) },
    {
      name: 'History', href: '#/?stratum=history', amount: commits, figure: compact(commits),
      text: commits ? 'past commits, with what they touched' : 'no commits were read',
    },
  ];
  const height = Math.round(Math.max(LEAST * 3.6 * rem(), Math.min(width * 1.05, innerHeight - 190)));
  const heights = heightsOf(beds.map((layer) => layer.amount), height);
  const picture = svg('svg', {
    viewBox: `0 0 ${width} ${height}`, role: 'group',
    'aria-label': 'What the memory holds, as layers',
  });
  let top = 0;
  beds.forEach((layer, at) => {
    picture.append(drawBed(layer, { at, y: top, height: heights[at], width, last: at === beds.length - 1, health }));
    top += heights[at];
  });
  return picture;
}

function codeText({ indexing, counts: { files = 0, symbols = 0 } }) {
  if (indexing) {
    return `indexing: ${indexing}`;
  }
  return files ? `${symbols === 1 ? 'symbol' : 'symbols'} in ${plural(files, 'file')}` : 'not indexed yet';
}

/** Heights by the logarithm of the amounts: notes are few beside symbols, and matter as much. */
function heightsOf(amounts, height) {
  const weights = amounts.map((amount) => Math.log10(amount + 2));
  const all = weights.reduce((sum, weight) => sum + weight, 0);
  const least = LEAST * rem();
  const free = height - least * amounts.length;
  return weights.map((weight) => least + (free * weight) / all);
}

/** How much larger than usual the text is, by the reader's settings or on a large screen. */
const rem = () => parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;

function drawBed(layer, { at, y, height, width, last, health }) {
  const upper = swell(at * 7 + 3, at ? 11 : 0);
  const lower = swell((at + 1) * 7 + 3, last ? 0 : 11);
  const top = (x) => y + upper(x);
  const bottom = (x) => y + height + lower(x);
  const group = svg('a', { href: layer.href, 'aria-label': `${layer.name}: ${layer.figure}, ${layer.text}` },
    svg('path', { class: `bed bed-${at}`, d: bed(0, width, top, bottom) }));
  const lines = at === 2 ? 9 : at === 1 ? 6 : 0;
  append(group, grain({
    left: Math.max(295 * rem(), width * 0.5), right: width, top, bottom, seed: at + 11,
    count: layer.amount && width > 350 ? lines : 0,
  }));
  if (at === 0) {
    append(group, seams(layer.amount, health, { left: Math.max(262 * rem(), width * 0.46), right: width - 24, top, bottom }));
  }
  const middle = y + height / 2 + 6;
  append(group,
    svg('text', { class: 'stratum-label', x: 26, y: middle - 30 * rem(), text: layer.name }),
    svg('text', { class: 'stratum-number', x: 26, y: middle + 3, text: layer.figure }),
    svg('text', { class: 'stratum-text', x: 26, y: middle + 25 * rem(), text: layer.text }));
  return group;
}

function seams(notes, health, { left, right, top, bottom }) {
  const random = chance(5);
  const count = Math.min(MOST_SEAMS, notes, Math.floor((right - left) / 5));
  const kinds = kindsOf(health, count);
  // One in each part of a grid, so that none lies on another.
  const rows = Math.max(1, Math.min(7, Math.round(Math.sqrt(count * 0.7))));
  const columns = Math.ceil(count / rows);
  const wide = (right - left) / Math.max(1, columns);
  return Array.from({ length: count }, (_, at) => {
    const length = Math.min(44, wide * (0.4 + random() * 0.4));
    const x = left + wide * Math.floor(at / rows) + random() * (wide - length);
    const share = 0.1 + (0.8 * ((at % rows) + 0.15 + random() * 0.7)) / rows;
    const y = top(x) * (1 - share) + bottom(x) * share;
    const rise = (random() - 0.5) * 3;
    return svg('path', {
      class: `seam-note is-${kinds[at]}`, d: `M${x.toFixed(1)} ${y.toFixed(1)}l${length.toFixed(1)} ${rise.toFixed(1)}`,
    });
  });
}

/** As many of each kind as there are among all notes; before they were judged none is coloured. */
function kindsOf(health, count) {
  const parts = health ? partsOf(health) : [];
  const all = parts.reduce((sum, [, n]) => sum + n, 0);
  const kinds = [];
  for (const [kind, n] of parts) {
    const many = n ? Math.max(1, Math.round((n / all) * count)) : 0;
    kinds.push(...Array.from({ length: many }, () => kind));
  }
  const each = Array.from({ length: count }, (_, at) => kinds[at] ?? 'unanchored');
  return shuffled(each, chance(9));
}

// --- the figures beside them

/** @returns {Promise<{fresh: number, stale: number, unanchored: number, unknown: number}>} */
async function healthOf(context) {
  const map = await context.api.get('/api/map', {}, context.signal);
  return map.totals;
}

const partsOf = (health) => [
  ['changed', health.stale], ['fresh', health.fresh], ['unanchored', health.unanchored + health.unknown],
];

function showHealth(node, health) {
  const all = health.fresh + health.stale + health.unanchored + health.unknown;
  if (!all) {
    node.hidden = true;
    return;
  }
  const parts = [
    ['fresh', health.fresh, 'hold'], ['changed', health.stale, 'withheld: the code changed'],
    ['unanchored', health.unanchored, 'tied to no place'], ['unanchored', health.unknown, 'not judged yet'],
  ].filter(([, n]) => n);
  fill(node,
    h('h2', { text: 'Do the notes still hold?' }),
    h('div', { class: 'spread', 'aria-hidden': true },
      parts.map(([kind, n]) => h('i', { class: `is-${kind}`, vars: { '--n': n } }))),
    h('ul', { class: 'spread-legend' },
      parts.map(([kind, n, what]) => h('li', { class: `verdict ${kind}` }, `${number(n)} ${what}`))),
    health.stale > 0 && h('p', { class: 'small' },
      h('a', { href: '#/notes?state=review', text: `Review ${plural(health.stale, 'note')}` })));
}

async function showUsed(node, context) {
  const answer = await context.api.get(
    '/api/notes', { state: 'living', order: 'most_used', limit: 5 }, context.signal);
  const used = answer.notes.filter((note) => note.uses > 0);
  const shown = used.length ? used : answer.notes;
  if (!shown.length) {
    fill(node,
      h('h2', { text: 'The first note' }),
      h('p', { class: 'small soft', text: 'A note is a thing that somebody learned, tied to a place in the code. Agents write them by themselves once they know Stratum; you can too.' }),
      h('p', { class: 'small' }, h('a', { href: '#/notes?write=1', text: 'Write a note' })));
    return;
  }
  fill(node,
    h('h2', { text: used.length ? 'Most used notes' : 'Newest notes' }),
    h('ol', { class: 'lines-list' }, shown.map((note) => h('li', {},
      h('a', { href: `#/notes/${note.id}` },
        h('span', { class: 'say', text: note.text }),
        h('span', { class: 'meta', text: [
          note.path, used.length ? `used ${plural(note.uses, 'time')}` : ago(note.created_at),
        ].filter(Boolean).join(' · ') }))))));
}

async function showSaving(node, context) {
  const best = await newestRun(context);
  if (!best) {
    fill(node,
      h('h2', { text: 'What it saves' }),
      h('p', { class: 'small soft', text: 'That was not measured on this machine yet. The benchmark lets the same agent work on the same tasks with and without memory, and shows its losses too.' }),
      copyable('stratum bench --repo . --limit 20'));
    return;
  }
  const { run, told } = best;
  const link = h('a', { href: `#/bench/${encodeURIComponent(run.id)}`, text: 'See where it wins and where it loses' });
  fill(node,
    h('h2', { text: 'What it saves' }),
    h('div', { class: `figure ${told.tokens.high < 0 ? 'good' : ''}` },
      h('b', { text: percent(told.tokens.value) }),
      h('span', {}, 'tokens, against the same agent without memory ',
        h('span', { class: 'whole', text: `(${percent(told.tokens.low)} to ${percent(told.tokens.high)})` }))),
    h('p', { class: 'small', text: `Solved ${told.solved} of ${plural(told.n, 'task')}, without memory ${told.baseline_solved}.` }),
    h('p', { class: 'small soft' },
      run.simulation ? 'A simulation: the agent is a script, not a model.' : `Agent: ${run.model || run.agent}.`),
    h('p', { class: 'small' }, link));
}

async function newestRun(context) {
  const { api, signal } = context;
  try {
    const runs = await api.get('/api/runs', {}, signal);
    const finished = runs.filter((each) => each.state === 'finished' && each.done)
      .sort((a, b) => (a.started_at < b.started_at ? 1 : -1));
    for (const run of finished.slice(0, 3)) {
      const told = await api.get(`/api/runs/${encodeURIComponent(run.id)}/headline`, {}, signal);
      if (told.leading && Number.isFinite(told.tokens?.value)) {
        return { run, told };
      }
    }
  } catch (error) {
    if (error.status !== 404) { // 404: the benchmark is not installed
      throw error;
    }
  }
  return null;
}

const percent = (part) => (Number.isFinite(part) ? `${part > 0 ? '+' : '−'}${Math.abs(Math.round(part))}\u00a0%` : 'unknown');
