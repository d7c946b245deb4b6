/**
 * What the agents of one task did, step by step, one column for each arm: the one renderer of
 * saved traces, of replays and of runs that go on now.
 *
 * Events are those of a trace: {event: 'start' | 'ask' | 'call' | 'end', task, arm, ...}.
 */

import { h, place } from './dom.js';
import { grouped, number } from './charts.js';

const SHOWING = ':scope > :not([hidden])';
const DEFINITION = /^\\b\(\?:(?:\w+\|){4,}\w+\)\\b\.\*\\b(\w+)\\b$/; // of any language's keywords
const SHOWN = 90; // characters of what a call asked for

/**
 * The kinds of work, each a colour of the layers, and what they are called.
 * @type {[kind: string, said: string][]}
 */
export const KINDS = [['memory', 'memory'], ['search', 'search'], ['read', 'reading'],
  ['list', 'listing'], ['submit', 'submission'], ['other', 'other']];

/**
 * A colour and what it stands for.
 * @param {string} kind - Class of the colour.
 * @param {string} said
 * @param {string} [colour] - A name by which the colour is looked up.
 * @returns {HTMLElement}
 */
export function swatch(kind, said, colour) {
  return h('span', { class: kind.startsWith('tile') && 'tile-key' },
    h('i', { class: `swatch ${kind}`, data: colour && { colour } }), said);
}

/**
 * What kind of work a tool does: the layers of a drill core.
 * @param {string} tool
 * @param {boolean} memory
 * @returns {'memory' | 'search' | 'read' | 'list' | 'submit' | 'other'}
 */
export function kindOf(tool, memory) {
  if (memory) return 'memory';
  return { grep: 'search', read_file: 'read', list_dir: 'list', submit: 'submit' }[tool] ?? 'other';
}

/**
 * Where each event of an episode lies on a clock.
 * @param {object[]} events - Of one task in one arm, in order.
 * @param {'tokens' | 'steps' | 'seconds'} clock
 * @returns {number[]} For each event, units since the start, never falling.
 */
export function moments(events, clock) {
  let at = 0;
  return events.map((event) => {
    if (clock === 'tokens') at += event.event === 'ask' ? event.prompt + event.output : 0;
    else if (clock === 'steps') at = event.step ?? at;
    else at += (event.ms ?? 0) / 1000;
    return at;
  });
}

/**
 * What a call asked for, in words.
 * @param {object} call
 * @returns {{verb: string, what: string, path: string, lines: number[]}}
 */
export function told(call) {
  const given = call.arguments ?? {};
  const text = (value) => cut(typeof value === 'string' ? value : JSON.stringify(value ?? ''));
  const plain = { verb: call.tool.replaceAll('_', ' '), what: '', path: '', lines: [] };
  if (call.tool === 'grep') {
    const below = given.path ? ` in ${given.path}` : '';
    const defined = DEFINITION.exec(given.pattern ?? '');
    return defined ? { ...plain, verb: 'searched the definition of', what: defined[1] + below }
      : { ...plain, verb: 'searched', what: text(given.pattern) + below };
  }
  if (call.tool === 'read_file') {
    const lines = [given.start_line, given.end_line].filter((one) => one !== undefined);
    return { ...plain, verb: 'read', path: String(given.path ?? ''), lines };
  }
  if (call.tool === 'list_dir') {
    return { ...plain, verb: 'listed', path: String(given.path || '.') };
  }
  if (call.tool === 'submit') {
    return { ...plain, verb: 'submitted', what: (given.files ?? []).join(', ') };
  }
  if (call.tool === 'memory_pack') {
    return { ...plain, verb: 'asked memory for a pack', what: text(given.task) };
  }
  if (call.tool === 'memory_search') {
    return { ...plain, verb: 'asked memory', what: text(given.query) };
  }
  if (call.tool === 'memory_write') {
    return { ...plain, verb: 'wrote a note', what: text(given.text) };
  }
  return { ...plain, what: text(given) };
}

/**
 * @typedef {object} Trace
 * @property {HTMLElement} element
 * @property {(event: object) => void} push - Add an event; those of other arms are ignored.
 * @property {(arm: string, count: number) => void} reveal - Show the first events of an arm only.
 * @property {(arm: string) => object[]} events
 * @property {(arm: string) => HTMLElement | null} last - The last shown part of an arm.
 */

/**
 * @param {object} how
 * @param {string[]} how.arms - A column for each, in this order.
 * @param {string[]} how.gold - The files that had to be edited.
 * @param {object[]} [how.events] - What is there already.
 * @param {(arm: string) => Node} [how.head] - The head of a column; its name unless given.
 * @returns {Trace}
 */
export function trace({ arms, gold, events = [], head }) {
  const rows = h('ol', { class: 'steps' });
  const columns = new Map(arms.map((arm) => [arm, column(arm)]));
  const heads = h('div', { class: 'step heads' }, h('span', { class: 'no' }),
    ...arms.map((arm) => head?.(arm) ?? columns.get(arm).head));
  const kinds = [['cached', 'sent before'], ['new', 'new in the prompt'], ['said', 'output'],
    ['own', 'memory’s part of these']];
  const legend = h('p', { class: 'bench-legend' }, 'Tokens of each request:',
    kinds.map(([kind, said]) => swatch(kind, said)));
  const element = h('div', { class: 'trace', vars: { '--arms': arms.length, '--most': 1 } },
    legend, heads, rows);
  const made = new Map(); // step -> {row, cells by arm}; the end is step Infinity
  const targets = new Set(gold);
  let most = 1;

  function cell(step, arm) {
    if (!made.has(step)) {
      const cells = new Map(arms.map((one) =>
        [one, h('div', { class: 'cell', data: { arm: one } })]));
      const label = step === Infinity ? 'End' : step || '0';
      const row = h('li', { class: step === Infinity ? 'step ending' : 'step' },
        h('span', { class: 'no', text: label }), ...cells.values());
      const later = [...made.keys()].filter((one) => one > step);
      rows.insertBefore(row, later.length ? made.get(Math.min(...later)).row : null);
      made.set(step, { row, cells });
    }
    return made.get(step).cells.get(arm);
  }

  function push(event) {
    const own = columns.get(event.arm);
    if (!own) return;
    if (event.event === 'start') restart(own);
    const before = own.total;
    if (event.event === 'ask') {
      own.total += event.prompt + event.output;
      const size = event.prompt + event.output;
      if (size > most) {
        most = size;
        element.style.setProperty('--most', String(most));
      }
    }
    const node = draw(event, own.total, targets);
    const step = event.event === 'end' ? Infinity : event.step ?? 0;
    if (node) cell(step, event.arm).append(node);
    own.parts.push({ event, node, before, total: own.total });
    own.shown = own.parts.length;
    own.tell();
  }

  function restart(own) { // what a killed run left does not count
    for (const part of own.parts) part.node?.remove();
    own.parts.length = 0;
    own.total = 0;
    own.shown = 0;
  }

  function reveal(arm, count) {
    const own = columns.get(arm);
    const [low, high] = [Math.min(own.shown, count), Math.max(own.shown, count)];
    for (let i = low; i < high; i += 1) {
      const part = own.parts[i];
      if (part?.node) part.node.hidden = i >= count;
    }
    own.shown = count;
    own.tell();
    for (const { row, cells } of made.values()) {
      row.hidden = [...cells.values()].every((one) => !one.querySelector(SHOWING));
    }
  }

  events.forEach(push);
  return {
    element,
    push,
    reveal,
    events: (arm) => columns.get(arm).parts.map((part) => part.event),
    last: (arm) => columns.get(arm).parts[columns.get(arm).shown - 1]?.node ?? null,
  };
}

/** The head of a column: its name, what it took so far, how it ended. */
function column(arm) {
  const total = h('span', { class: 'total' });
  const result = h('span', { class: 'outcome' });
  const own = {
    parts: [],
    shown: 0,
    total: 0,
    head: h('div', { class: 'cell arm-head' }, h('strong', { text: arm }), ' ', total, ' ', result),
    tell() {
      const part = own.parts[own.shown - 1];
      total.textContent = `${grouped(part ? part.total : 0)} tokens`;
      const end = part?.event.event === 'end' ? part.event.outcome : '';
      result.textContent = end;
      result.className = end ? `outcome ${end}` : 'outcome';
    },
  };
  own.tell();
  return own;
}

function draw(event, total, gold) {
  if (event.event === 'start') return begun(event);
  if (event.event === 'ask') return request(event, total);
  if (event.event === 'call') return call(event, gold);
  return event.event === 'end' ? ended(event, gold) : null;
}

function begun(event) {
  const added = event.tools + event.instructions + event.file;
  if (!added) return h('p', { class: 'soft', text: 'no memory' });
  const said = ['tools', 'instructions', 'file'].filter((name) => event[name])
    .map((name) => `${name} ${grouped(event[name])}`);
  return h('p', { class: 'soft' }, `memory adds ${grouped(added)} tokens to each prompt (`,
    said.join(', '), ')');
}

function request(event, total) {
  const parts = [['cached', event.cached], ['new', event.prompt - event.cached],
    ['said', event.output]];
  const memory = event.memory ? ` (${number(event.memory)} memory)` : '';
  const said = `${grouped(event.prompt)} in${memory}, ${grouped(event.output)} out, `
    + `${number(total)} so far`;
  const text = (event.text ?? '').trim();
  return h('div', { class: 'request' },
    h('div', { class: 'tokens', 'aria-hidden': 'true' },
      parts.map(([kind, count]) => h('i', { class: kind, vars: { '--n': Math.max(0, count) } }))),
    event.memory > 0 && h('div', { class: 'tokens thin', 'aria-hidden': 'true' },
      h('i', { class: 'own', vars: { '--n': event.memory } })),
    h('p', { class: 'soft', text: said }),
    text && h('p', { class: 'says', dir: 'auto', text: cut(text, 400) }));
}

function call(event, gold) {
  const { verb, what, path, lines } = told(event);
  const kind = kindOf(event.tool, event.memory);
  const found = [...gold].filter((file) => path === file || names(event, file));
  const body = h('div', { class: `call ${kind}` },
    h('p', { class: 'did' },
      h('b', { text: verb }), ' ',
      path ? place(path, ...lines)
        : h('code', { dir: 'auto', title: event.arguments?.pattern, text: what }),
      found.length > 0 && h('span', { class: 'gold', title: found.join(', '),
        text: kind === 'read' || kind === 'submit' ? 'right file' : 'names the right file' })));
  const size = `${grouped(event.chars)} characters, ${grouped(event.tokens)} tokens`;
  const brief = event.failed ? `failed: ${cut(event.result ?? '', 120)}` : answer(event);
  if (kind === 'submit') return body;
  body.append(h('details', { class: 'found' },
    h('summary', {}, h('span', { class: event.failed ? 'bad' : '', text: brief || size }),
      brief && ` · ${grouped(event.tokens)} tokens`),
    h('pre', { dir: 'auto', text: shownResult(event) })));
  return body;
}

function names(event, file) {
  if (event.tool === 'submit') return (event.arguments?.files ?? []).includes(file);
  return event.tool !== 'read_file' && (event.result ?? '').includes(file);
}

/** What came back in a few words, where the answer itself says it. */
function answer(event) {
  const result = event.result ?? '';
  if (event.tool === 'grep') {
    const told = /^No matches|\((\d[\d,]* lines? in \d[\d,]* files?)[^)]*\)\s*$/.exec(result);
    if (told) return told[1] ?? 'no matches';
  }
  if (event.tool === 'memory_write') return cut(result.split('\n')[0], 60);
  return '';
}

function shownResult(event) {
  const result = event.result ?? '';
  if (!result) return 'The trace keeps no answer.';
  return event.chars > result.length ? `${result}\n…` : result;
}

function ended(event, gold) {
  const list = (files) => files.flatMap((file, i) => [
    i > 0 && ', ',
    h('span', { class: gold.has(file) ? 'right' : '' }, place(file)),
    gold.has(file) && h('span', { class: 'gold', text: 'right file' }),
  ]);
  const recalled = event.recalled ?? [];
  const rank = recalled.findIndex((file) => gold.has(file)) + 1;
  const memory = rank
    ? `Memory named a right file in place ${rank} of ${recalled.length}.`
    : `Memory named ${recalled.length} files, no right one.`;
  return h('div', { class: 'ended' },
    h('p', {}, h('span', { class: `outcome ${event.outcome}`, text: event.outcome }), ' ',
      h('span', { class: 'soft', text: event.reason })),
    h('p', {}, event.submitted.length ? list(event.submitted) : 'nothing submitted'),
    recalled.length > 0 && h('p', { class: 'soft', text: memory }),
    event.learned && h('p', { class: 'soft', text: 'A note was written for later tasks.' }));
}

function cut(text, length = SHOWN) {
  const line = text.replace(/\s+/g, ' ');
  return line.length <= length ? line : `${line.slice(0, length - 1)}…`;
}
