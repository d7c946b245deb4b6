/**
 * What a run shows: the headline against the baseline with its intervals, the charts, memory's own
 * cost, every task with its losses. All figures are those of the reports; none is computed here.
 */

import { append, choice, empty, failed, h, loading, replace, segments } from './dom.js';
import * as charts from './charts.js';
import { virtualList } from './list.js';

const { number, grouped, signed, signedCount, share } = charts;
const REFRESH = 3000; // milliseconds between two looks at a run that goes on
const MEASURES = {
  tokens: ['Tokens, all tasks', false],
  tokens_per_solved: ['Tokens per solved task', false],
  uncached: ['Tokens not cached', false],
  reads: ['Files read', false],
  searches: ['Searches', false],
  calls: ['All tool calls', false],
  cost: ['Cost', false],
  accuracy: ['Solved', true],
};
const MEANING = {
  bare: 'no memory',
  file: 'the notes as one file in the prompt',
  stratum: 'the memory, with the notes of earlier tasks',
  oracle: 'the memory with one perfect note: the ceiling',
  wrong: 'the memory with one misleading note: the floor',
  'off-topic': 'a memory of another project: the price of memory that knows nothing',
};
const FILTERS = [['all', 'All'], ['losing', 'Losses'], ['lost', 'Lost'], ['gained', 'Gained'],
  ['recurrent', 'Recurrent']];
const kept = new Map(); // how the table of a run was left, by run

/**
 * @param {string} id
 * @param {HTMLElement} container
 * @param {object} context
 * @param {object} run - As in /api/runs.
 */
export async function showRun(id, container, context, run) {
  replace(container, loading('Loading the run', 8));
  const path = `/api/runs/${encodeURIComponent(id)}`;
  const state = kept.get(id) ?? { arm: '', filter: 'all', text: '', sort: 'order', down: false,
    at: 0 };
  kept.set(id, state);
  const progress = h('div', { class: 'going', hidden: true });
  const body = h('div', { class: 'run' });
  let told = await context.api.get(`${path}/comparison`, {}, context.signal);
  let table = null;
  let timer = 0;

  function draw() {
    table?.close();
    const lead = told.versus.find((one) => one.arm === state.arm)
      ?? told.versus.find((one) => one.arm === told.leading) ?? told.versus[0];
    const parts = [head(told, lead, id, run)];
    if (lead?.n) {
      parts.push(h('div', { class: 'run-top' },
        measures(told, lead, (arm) => { state.arm = arm; draw(); }), against(told, lead)));
      parts.push(pictures(told, lead, id, context));
    }
    if (told.totals.length) parts.push(memory(told));
    table = lead?.n ? tasks(told, lead, id, state, context) : null;
    if (table) parts.push(table.node);
    if (told.totals.length) parts.push(h('p', { class: 'soft small', text: told.summary }));
    else if (run.state === 'running') parts.push(waiting());
    replace(body, parts);
    table?.show();
  }

  async function refresh() {
    timer = 0;
    try {
      told = await context.api.get(`${path}/comparison`, {}, context.signal);
      draw();
    } catch {
      // The stream says when the server is back, and the next change looks again.
    }
  }

  function come(data, _id, kind) {
    if (kind !== 'run') return;
    const changed = data.done !== run.done || data.state !== run.state;
    Object.assign(run, data);
    going(progress, run, stop);
    if (changed) timer ||= setTimeout(refresh, REFRESH);
    if (data.state !== 'running') {
      follower.close();
      context.announce(`The run has ${data.state}.`);
    }
  }

  async function stop() {
    try {
      await context.api.del(path);
    } catch (error) {
      append(progress, failed(error));
    }
  }

  replace(container, progress, body);
  draw();
  let follower = null;
  if (run.state === 'running') {
    going(progress, run, stop);
    follower = context.api.stream(`${path}/events?lines=none`, { on: come });
  } else if (run.state === 'stopped') {
    going(progress, run, stop);
  }
  return {
    leave() {
      follower?.close();
      clearTimeout(timer);
      table?.close();
    },
    key: (event) => table?.key(event) ?? false,
  };
}

/** How far a run is, and the button that stops it. */
function going(node, run, stop) {
  node.hidden = run.state === 'finished';
  const share = run.total ? run.done / run.total : 0;
  const said = run.total ? `${grouped(run.done)} of ${grouped(run.total)} done`
    : 'It is being prepared.';
  const bar = h('div', { class: 'stand-bar', role: 'progressbar', 'aria-label': 'Progress',
    'aria-valuenow': Math.round(100 * share), 'aria-valuetext': said,
    'aria-valuemin': 0, 'aria-valuemax': 100 }, h('i', {}));
  bar.firstElementChild.style.transform = `scaleX(${share})`;
  const running = run.state === 'running';
  replace(node,
    h('p', {}, h('b', { text: running ? 'This run goes on. ' : 'This run was stopped. ' }), said,
      run.message && h('span', { class: 'soft', text: ` · ${run.message}` })),
    bar,
    running && run.ours !== false && h('button', { type: 'button', class: 'button danger',
      on: { click: stop } }, 'Stop'));
}

function waiting() {
  return empty({ title: 'The first figures come when a task has ended in two arms.',
    text: 'Until then, look at all tasks at once: each request is drawn as it is made.' });
}

function head(told, lead, id, run) {
  const to = `#/bench/${encodeURIComponent(id)}`;
  const own = lead && told.totals.find((one) => one.arm === lead.arm);
  const notes = told.notes.filter((note) => note !== told.headline || !told.totals.length);
  return h('header', { class: 'run-head' },
    h('p', { class: 'over' }, h('a', { href: '#/bench', text: 'Bench' }), ` · ${run.name}`,
      told.simulation && h('span', { class: 'badge', text: 'simulation' })),
    h('h1', { tabindex: '-1', dir: 'auto' },
      told.totals.length ? unbroken(told.headline) : run.name),
    told.verdict && h('p', { class: 'lede' }, unbroken(told.verdict)),
    told.simulation && h('p', { class: 'note soft', text: told.simulation }),
    notes.map((note) => h('p', { class: 'note soft', text: note })),
    lead?.n > 0 && h('div', { class: 'bench-figures' },
      figure(`${signed(lead.tokens.value)} %`, `tokens against ${lead.baseline}`,
        charts.leaning(lead.tokens)),
      figure(`${lead.solved} : ${lead.baseline_solved}`, `solved, against ${lead.baseline}`),
      figure(String(lead.negative_transfers.length), `lost that ${lead.baseline} solved`),
      figure(`${lead.below_break_even.length} of ${lead.n}`, 'tasks took more tokens'),
      own?.memory_share > 0 && figure(share(own.memory_share), 'of its tokens are memory’s own')),
    h('p', { class: 'row' }, h('a', { class: 'button primary', href: `${to}/wall`,
      text: 'All tasks at once' })));
}

function figure(value, what, kind = '') {
  return h('div', { class: `bench-figure ${kind}` }, h('b', { text: value }),
    h('span', { text: what }));
}

/** A sentence of a report with true minus signs, whose intervals stay on one line. */
function unbroken(text) {
  return text.replace(/(^|[\s[(])-(?=\d)/g, '$1−').split(/(\[[^\]]*\]|\([^()]*\))/)
    .map((part, i) => (i % 2 ? h('span', { class: 'unbroken', text: part }) : part));
}

function measures(told, lead, pick) {
  const rows = (told.measures[lead.arm] ?? []).filter((row) => MEASURES[row.name]);
  const sizes = rows.filter((row) => row.low !== null && row.high !== null)
    .flatMap((row) => [Math.abs(row.low), Math.abs(row.high)]);
  const most = Math.min(100, Math.max(10, ...sizes));
  const arms = told.versus.map((one) => [one.arm, one.arm]);
  const shown = rows.map((row) => {
    const [name, more] = MEASURES[row.name];
    const gap = { value: row.difference, low: row.low, high: row.high };
    if (row.value === null) {
      return h('tr', {}, h('th', { scope: 'row', text: name }), h('td', { colspan: 4, class: 'soft',
        text: row.name === 'cost' ? 'the agent names no price' : 'cannot be told' }));
    }
    const unit = row.difference_unit === 'points' ? ' points' : ' %';
    const kind = charts.leaning(gap, more);
    return h('tr', {},
      h('th', { scope: 'row', text: name }),
      h('td', { class: 'num', text: value(row, row.baseline) }),
      h('td', { class: 'num strong', text: value(row, row.value) }),
      h('td', { class: 'num' },
        h('span', { class: `strong ${kind}`, text: `${signed(row.difference)}${unit}` }),
        h('span', { class: 'range', text: charts.range(row.low, row.high) })),
      h('td', { class: 'picture' }, charts.whisker(gap, most, more)));
  });
  return h('section', { class: 'block' },
    h('div', { class: 'block-head' }, h('h2', { text: `${lead.arm} against ${lead.baseline}` }),
      arms.length > 1 && choice('Arm', arms, lead.arm, pick)),
    h('div', { class: 'scroll-x' }, h('table', { class: 'table measures' },
      h('caption', { class: 'sr', text: 'Sums over the tasks that ended in both arms' }),
      h('thead', {}, h('tr', {}, ['Measure', lead.baseline, lead.arm,
        'difference, 95 %', 'less · more'].map((name, i) =>
        h('th', { scope: 'col', class: ['', 'num', 'num', 'num', 'picture'][i], text: name })))),
      h('tbody', {}, shown))),
    h('p', { class: 'soft small', text: `Over the ${lead.n} tasks that ended in both. A filled dot:`
      + ' the interval holds no zero. A hollow one: no difference was shown.' }));
}

function value(row, amount) {
  if (amount === null || amount === undefined) return '–';
  if (row.unit === 'share') return share(amount);
  return row.unit === 'cost' ? amount.toPrecision(4) : number(amount);
}

function pictures(told, lead, id, context) {
  const own = told.totals.filter((one) => one.complete);
  const open = (task) =>
    context.go(`#/bench/${encodeURIComponent(id)}/${encodeURIComponent(task)}`);
  const role = (arm) => (arm === lead.arm ? 'lead' : arm === lead.baseline ? 'base' : 'other');
  const outcomes = charts.OUTCOMES.map((name) =>
    h('span', {}, h('i', { class: `swatch ${name}` }), name));
  return h('section', { class: 'charts' },
    picture('As memory fills', `Tokens of ${lead.arm} against ${lead.baseline} in the order of the`
      + ' tasks: bars for each stretch, the line over all so far.', charts.curve(lead)),
    picture('Task by task', `Each point a task; below the line ${lead.arm} took fewer. A click`
      + ' opens its steps.', charts.scatter(lead, open), [
      h('span', { text: '● same result' }), h('span', { text: `○ solved by ${lead.arm} alone` }),
      h('span', { text: `✕ solved by ${lead.baseline} alone` })]),
    picture('Tokens per task', 'Mean of each arm with its 95 % interval.',
      charts.bars(own.map((one) => ({ arm: one.arm, role: role(one.arm),
        tokens: one.columns.tokens.mean ?? 0, memory: one.columns.memory.mean ?? 0,
        low: one.tokens_low, high: one.tokens_high }))),
      [h('span', {}, h('i', { class: 'swatch own' }), 'memory’s own part')]),
    picture('Outcomes', 'Tasks of each arm.', charts.outcomes(told.totals.filter((one) => one.n)
      .map((one) => ({ arm: one.arm, outcomes: one.outcomes, lead: one.arm === lead.arm }))),
    outcomes));
}

/** Every arm against the baseline, those of a bad memory as plainly as the others. */
function against(told, lead) {
  const rows = told.versus.filter((one) => one.n && one.baseline === lead.baseline)
    .map((one) => ({ arm: one.arm, ...one.tokens, lead: one.arm === lead.arm }));
  return picture(`Every arm against ${lead.baseline}`,
    'Difference of tokens with its 95 % interval.', charts.forest(rows, lead.baseline),
    rows.map((row) => MEANING[row.arm] && h('span', {}, h('b', { text: row.arm }),
      MEANING[row.arm])));
}

function picture(title, caption, drawing, legend = []) {
  return h('figure', { class: 'card picture' }, h('h3', { text: title }),
    h('figcaption', { text: caption }), drawing,
    legend.length > 0 && h('p', { class: 'bench-legend' }, legend));
}

/** What memory itself costs and how often it was asked and right, arm by arm. */
function memory(told) {
  const against = new Map(told.versus.map((one) => [one.arm, one]));
  const rows = told.totals.map((own) => {
    const one = against.get(own.arm);
    const had = own.columns.memory.mean > 0;
    return h('tr', {},
      h('th', { scope: 'row' }, own.arm,
        h('span', { class: 'meaning', text: MEANING[own.arm] ?? '' })),
      cell(number(own.columns.tokens.mean)),
      cell(one ? `${signed(one.tokens.value)} %` : '–', one ? charts.leaning(one.tokens) : ''),
      cell(`${own.solved} of ${own.complete}`),
      cell(one ? String(one.negative_transfers.length) : '–'),
      cell(had ? number(own.columns.memory.mean) : '–'),
      cell(had ? share(own.memory_share) : '–'),
      cell(had ? number(own.columns.memory_once.mean) : '–'),
      cell(share(own.adoption)),
      cell(share(own.hit_1)),
      cell(share(own.hit_5)));
  });
  const heads = [['Arm'], ['tokens', 'per task'], ['against baseline', 'tokens'], ['solved'],
    ['lost', 'solved by the baseline alone'], ['memory', 'its tokens per task, over all requests'],
    ['share', 'of all tokens'], ['once', 'its tokens, each counted once'],
    ['asked', 'tasks that called it'], ['hit@1', 'the right file first among those it named'],
    ['hit@5', 'a right file among the first five']];
  return h('section', { class: 'block' },
    h('h2', { text: 'What memory costs itself' }),
    h('p', { class: 'soft', text: 'Its tools, instructions and answers are in each later prompt'
      + ' again: all of that is counted in every figure of this page.' }),
    h('div', { class: 'scroll-x', tabindex: '0', role: 'region', 'aria-label': 'Arms' },
      h('table', { class: 'table arms' },
        h('thead', {}, h('tr', {}, heads.map(([name, title], i) =>
          h('th', { scope: 'col', class: i ? 'num' : '', title, text: name })))),
        h('tbody', {}, rows))));
}

function cell(text, kind = '') {
  return h('td', { class: `num ${kind}`, text });
}

/** Every task of an arm beside the baseline: filtered, sorted, only those in view drawn. */
function tasks(told, lead, id, state, context) {
  const titles = new Map(told.tasks.map((task) => [task.task, task.title]));
  const narrow = matchMedia('(max-width: 60rem)').matches;
  const most = Math.max(1, ...lead.pairs.flatMap((pair) => [pair.tokens, pair.baseline_tokens]));
  let rows = [];
  const count = h('p', { class: 'soft small', 'aria-live': 'polite' });
  const heads = h('div', { class: 'task-row task-heads' });
  const search = h('input', { type: 'search', class: 'field', value: state.text,
    placeholder: 'Filter tasks', 'aria-label': 'Filter tasks',
    on: { input: () => { state.text = search.value; state.at = 0; choose(); } } });
  const open = (index) => {
    state.at = index;
    context.go(`#/bench/${encodeURIComponent(id)}/${encodeURIComponent(rows[index].task)}`
      + `?b=${encodeURIComponent(lead.arm)}`);
  };
  const list = virtualList({ label: 'Tasks', count: 0, height: narrow ? 84 : 52,
    render: (index) => row(rows[index], titles, most), open,
    active: (index) => { state.at = index; } });
  const node = h('section', { class: 'block tasks' },
    h('div', { class: 'block-head' }, h('h2', { text: 'Tasks' }),
      h('p', { class: 'soft small', text: `Loss: ${lead.baseline} solved it and ${lead.arm} did`
        + ' not, or the same outcome took more tokens.' })),
    h('div', { class: 'toolbar' },
      segments('Which', FILTERS, state.filter, (filter) => {
        state.filter = filter;
        state.at = 0;
        choose();
      }), search, count),
    h('div', { class: 'card task-table' }, heads, list.node));

  function choose() {
    const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (pair) => `${pair.task} ${titles.get(pair.task)}`.toLowerCase();
    rows = lead.pairs.filter((pair) => passes(pair, lead, state.filter)
      && words.every((word) => text(pair).includes(word)));
    rows.sort(order(state));
    count.textContent = `${rows.length} of ${lead.pairs.length}`;
    node.classList.toggle('none', rows.length === 0);
    list.node.style.setProperty('--rows', String(Math.max(rows.length, 1)));
    list.setCount(rows.length);
    list.node.dataset.empty = rows.length ? '' : 'No task is like that.';
    headings();
  }

  function headings() {
    const columns = [['order', '#'], ['task', 'Task'], ['baseline_tokens', lead.baseline],
      ['tokens', lead.arm], ['difference', 'difference'], ['losing', 'loss']];
    replace(heads, columns.map(([name, label]) => {
      const on = state.sort === name;
      return h('button', { type: 'button', class: on ? 'sort on' : 'sort', 'aria-pressed': on,
        title: `Sort by ${label}`,
        on: { click: () => {
          state.down = on ? !state.down : name !== 'order' && name !== 'task';
          state.sort = name;
          choose();
          heads.querySelector('.on').focus();
        } } }, label, on && h('span', { 'aria-hidden': 'true', text: state.down ? ' ↓' : ' ↑' }));
    }));
  }

  choose();
  return {
    node,
    show: () => { list.refresh(); if (state.at) list.activate(state.at); },
    close: () => list.close(),
    key(event) {
      if (event.key !== 'f' || event.target.closest('input, select, textarea')) return false;
      search.focus();
      return true;
    },
  };
}

function passes(pair, lead, filter) {
  return {
    all: true,
    losing: pair.losing,
    lost: lead.negative_transfers.includes(pair.task),
    gained: lead.gains.includes(pair.task),
    recurrent: pair.recurrent,
  }[filter];
}

function order({ sort, down }) {
  const sign = down ? -1 : 1;
  return (a, b) => {
    const [x, y] = [a[sort], b[sort]];
    const one = typeof x === 'string' ? x.localeCompare(y) : Number(x) - Number(y);
    return sign * one || a.order - b.order;
  };
}

function row(pair, titles, most) {
  const bar = (tokens, kind) => h('i', { class: kind, vars: { '--n': tokens / most } });
  const side = (outcome, tokens) => h('span', { class: 'side-cell' },
    h('span', { class: `dot ${outcome}` }), h('span', { class: 'word', text: outcome }),
    h('span', { class: 'num', text: number(tokens) }));
  return h('div', { class: 'task-row' },
    h('span', { class: 'soft', text: pair.order + 1 }),
    h('span', { class: 'task-name' },
      h('b', { dir: 'auto', text: titles.get(pair.task) || pair.task }),
      h('span', { class: 'soft', text: pair.recurrent ? `${pair.task} · recurrent` : pair.task })),
    side(pair.baseline_outcome, pair.baseline_tokens),
    side(pair.outcome, pair.tokens),
    h('span', { class: 'difference' },
      h('span', { class: 'num', text: signedCount(pair.difference) }),
      h('span', { class: 'pair-bars', 'aria-hidden': 'true' }, bar(pair.baseline_tokens, 'base'),
        bar(pair.tokens, 'lead'))),
    pair.losing ? h('span', { class: 'loss', text: 'loss' }) : h('span', {}));
}
