/**
 * The bench: the runs that there are, starting one, and the way to what a run shows.
 *
 * Routes: #/bench, #/bench/RUN, #/bench/RUN/TASK, #/bench/RUN/wall, #/bench/RUN/race/TASK.
 */

import { arrowFocus, copyable, empty, h, loading, replace, segments } from './dom.js';
import { leaning, range, signed, whisker } from './charts.js';
import { ago, number, plural } from './format.js';

const ARMS = {
  bare: 'no memory: what all others are compared with',
  file: 'the notes as one file in the prompt',
  stratum: 'the memory',
  oracle: 'with one perfect note: the ceiling',
  wrong: 'with one misleading note: the floor',
  'off-topic': 'a memory of another project',
};
const SUITES = [['stdlib', 'Standard library'], ['own', 'This repository']];
const NAMES = { stdlib: 'standard library', own: 'fixes of a repository', swebench: 'SWE-bench' };
const AGENTS = [['scripted', 'Scripted'], ['chat', 'A model']];
const USUAL = ['bare', 'stratum'];
const LOOK = 4000; // milliseconds between two looks while a run goes on
let styles = null; // a promise, once they were asked for

/**
 * @param {{parts: string[], query: URLSearchParams}} route
 * @param {HTMLElement} container
 * @param {object} context - As all views get it.
 * @returns {Promise<{leave?: () => void, key?: (event: KeyboardEvent) => boolean}>}
 */
export async function show(route, container, context) {
  const [, id, part, name] = route.parts;
  replace(container, loading('Loading', 6));
  await styled();
  if (!id) {
    context.title('Bench');
    return showRuns(container, context);
  }
  const runs = await context.api.get('/api/runs', {}, context.signal);
  const run = runs.find((one) => one.id === id);
  if (!run) {
    context.title('Bench');
    replace(container, empty({ title: 'There is no such run.',
      text: 'It may have been moved or deleted, or it lies in a folder that was not given.',
      action: h('a', { class: 'button', href: '#/bench', text: 'All runs' }) }));
    return {};
  }
  context.title(`${run.name} · Bench`);
  const task = part === 'race' ? name : part;
  const what = { run: id, task, query: route.query };
  if (part === 'wall') return (await import('./wall.js')).showWall(id, container, context, run);
  if (part === 'race' && name) {
    return (await import('./race.js')).showRace(what, container, context, run);
  }
  if (part && part !== 'race') {
    return (await import('./task.js')).showTask(what, container, context, run);
  }
  return (await import('./run.js')).showRun(id, container, context, run);
}

/** Load the styles of these views once, before anything of them is shown. */
function styled() {
  styles ??= new Promise((done) => {
    const link = h('link', { rel: 'stylesheet', href: 'bench.css', on: { load: done, error: () => {
      styles = null; // the server is gone: what is asked of it next says so
      link.remove();
      done();
    } } });
    document.head.append(link);
  });
  return styles;
}

async function showRuns(container, context) {
  let runs = await context.api.get('/api/runs', {}, context.signal);
  const list = h('div', { class: 'runs' });
  const told = new Map(); // results by run and how far it is
  let timer = 0;
  replace(container,
    h('div', { class: 'head' }, h('div', {},
      h('h1', { tabindex: '-1', text: 'What memory saves an agent' }),
      h('p', { text: 'The same agent on the same tasks, with memory and without: which files have'
        + ' to be edited? Losses are shown as plainly as gains.' }))),
    h('div', { class: 'bench-home' }, list, form(context)));

  /** Ask for the results one after the other: the list is there before them. */
  async function results() {
    for (const run of runs) {
      const node = list.querySelector(`[data-run="${CSS.escape(run.id)}"] .result`);
      if (!node || !run.done) continue;
      try {
        const key = `${run.id} ${run.done}`;
        if (!told.has(key)) {
          const path = `/api/runs/${encodeURIComponent(run.id)}/headline`;
          told.set(key, await context.api.get(path, {}, context.signal));
        }
        replace(node, result(told.get(key)));
      } catch (error) {
        if (context.api.aborted(error)) return; // any other run may still be read
      }
    }
  }

  function draw() {
    const focused = document.activeElement?.dataset?.run;
    replace(list, runs.length ? h('ul', {}, runs.map(item)) : empty({
      title: 'No run has been made yet.',
      text: 'Start one here, or in a terminal; it needs no network and no key.',
      command: 'stratum bench --limit 12' }));
    if (focused) list.querySelector(`[data-run="${CSS.escape(focused)}"]`)?.focus();
    results();
    clearTimeout(timer);
    if (runs.some((run) => run.state === 'running')) timer = setTimeout(look, LOOK);
  }

  async function look() {
    try {
      runs = await context.api.get('/api/runs', {}, context.signal);
    } catch {
      // The page says that the server is gone; the next look may find it again.
    }
    if (!context.signal.aborted) draw();
  }

  draw();
  return {
    leave: () => clearTimeout(timer),
    key: (event) => !event.target.closest('input, select') && arrowFocus(list, event),
  };
}

function item(run) {
  const running = run.state === 'running';
  const agent = run.agent === 'chat' ? run.model || 'a model' : 'scripted agent';
  const bar = running && h('span', { class: 'stand-bar', 'aria-hidden': 'true' }, h('i', {}));
  if (bar) bar.firstChild.style.transform = `scaleX(${run.total ? run.done / run.total : 0})`;
  const done = run.state === 'finished' ? plural(run.tasks, 'task')
    : run.total
    ? `${number(run.done)} of ${number(run.total)} done` : 'being prepared';
  return h('li', {}, h('a', { class: 'run-item', href: `#/bench/${encodeURIComponent(run.id)}`,
    data: { row: true, run: run.id } },
  h('span', { class: 'run-name' }, h('b', { dir: 'auto', text: run.name }),
    run.simulation && h('span', { class: 'badge', text: 'simulation' }),
    run.state !== 'finished' && h('span', { class: `badge ${run.state}`, text: run.state })),
  h('span', { class: 'soft', text: [NAMES[run.suite] ?? run.suite, agent, done,
    ago(run.started_at)].map((one) => one.replaceAll(' ', '\u00a0')).join(' · ') }),
  h('span', { class: 'arms-said soft', text: run.arms.join(', ') }),
  h('span', { class: 'result' }), bar));
}

/** The result of a run in two figures, a loss as plainly as a gain. */
function result({ tokens, leading, baseline, solved, baseline_solved: theirs, lost, n }) {
  if (!n || tokens?.value === null) return null;
  return [h('b', { class: leaning(tokens), text: `${signed(tokens.value)} %` }),
    whisker(tokens, 100, false),
    h('span', { class: 'soft', text: `tokens ${range(tokens.low, tokens.high)}`,
      title: `${leading} against ${baseline}` }),
    h('span', { class: 'soft', text: `${solved} : ${theirs} solved, ${lost} lost` })];
}

/** Start a run: what of, in which arms, with which agent. */
function form(context) {
  const given = { suite: 'stdlib', agent: 'scripted' };
  const boxes = Object.entries(ARMS).map(([arm, meaning]) => {
    const box = h('input', { type: 'checkbox', value: arm, checked: USUAL.includes(arm),
      disabled: arm === 'bare' });
    return [box, h('label', { class: 'arm-box' }, box, h('span', {}, h('b', { text: arm }),
      h('span', { class: 'soft', text: meaning })))];
  });
  const limit = h('input', { type: 'number', class: 'field', min: '1', max: '10000', step: '1',
    value: '12', required: true, inputmode: 'numeric' });
  const model = h('input', { type: 'text', class: 'field', autocomplete: 'off',
    spellcheck: 'false' });
  const url = h('input', { type: 'url', class: 'field', autocomplete: 'off',
    placeholder: 'http://localhost:8000/v1' });
  const chat = h('div', { class: 'chat-fields', hidden: true },
    labelled('Model', model), labelled('Endpoint, up to /v1', url),
    h('p', { class: 'soft small', text: 'A key is taken from STRATUM_BENCH_KEY or OPENAI_API_KEY of'
      + ' the command that opened this page. This costs money where the endpoint does.' }));
  const said = h('p', { class: 'bad', role: 'alert' });
  const button = h('button', { type: 'submit', class: 'button primary' }, 'Start');
  const byName = new Map(boxes.map(([box]) => [box.value, box]));
  byName.get('file').addEventListener('change', () => {
    if (byName.get('file').checked) byName.get('stratum').checked = true; // it holds its notes
  });
  byName.get('stratum').addEventListener('change', () => {
    if (!byName.get('stratum').checked) byName.get('file').checked = false;
  });

  async function start(event) {
    event.preventDefault();
    said.textContent = '';
    button.disabled = true;
    const live = given.agent === 'chat';
    const body = { suite: given.suite, agent: given.agent, limit: Number(limit.value),
      arms: boxes.filter(([box]) => box.checked).map(([box]) => box.value),
      ...(live ? { model: model.value.trim(), base_url: url.value.trim() } : {}) };
    try {
      const run = await context.api.post('/api/runs', body, context.signal);
      context.go(`#/bench/${encodeURIComponent(run.id)}`);
    } catch (error) {
      if (context.signal.aborted) return;
      said.textContent = [error.message, error.hint].filter(Boolean).join(' ');
      button.disabled = false;
    }
  }

  const named = { 'aria-labelledby': 'start-title' };
  return h('form', { class: 'card pad start', on: { submit: start }, ...named },
    h('h2', { id: 'start-title', text: 'Start a run' }),
    h('div', { class: 'two' },
      h('div', {}, h('h3', { text: 'Tasks from' }),
        segments('Tasks', SUITES, given.suite, (suite) => { given.suite = suite; })),
      labelled('How many', limit)),
    h('fieldset', { class: 'arm-boxes' }, h('legend', { class: 'h3', text: 'Arms' }),
      boxes.map(([, label]) => label)),
    h('div', {}, h('h3', { text: 'Agent' }),
      segments('Agent', AGENTS, given.agent, (agent) => {
        given.agent = agent;
        chat.hidden = agent !== 'chat';
        for (const field of [model, url]) field.required = agent === 'chat';
      })),
    chat, said,
    h('div', { class: 'row' }, button,
      h('span', { class: 'soft small',
        text: 'It runs on this machine, in a process of its own.' })),
    h('details', { class: 'small' }, h('summary', { text: 'The same in a terminal' }),
      copyable('stratum bench --limit 12 --arms bare,stratum')));
}

function labelled(name, field) {
  return h('label', { class: 'labelled' }, h('span', { text: name }), field);
}
