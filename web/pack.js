/** A pack as an agent gets it, and what falls out of it as the budget shrinks. */

import { empty, failed, h, place, replace } from './dom.js';
import { number, plural } from './format.js';

const BUDGETS = [100, 200, 300, 450, 650, 900, 1200, 1600, 2200, 3000, 4000, 6000];
const USUAL = BUDGETS.indexOf(1200);
const MOST_PLACES = 60;

/**
 * @param {*} route
 * @param {HTMLElement} container
 * @param {*} context
 */
export function show(route, container, context) {
  return new PackView(route, container, context);
}

class PackView {
  constructor(route, container, context) {
    this.context = context;
    this.running = new AbortController();
    this.task = h('textarea', {
      id: 'task', class: 'field', rows: 3, spellcheck: 'false',
      placeholder: 'Paste an issue, or say what an agent is about to do',
    });
    this.slider = h('input', {
      id: 'budget', type: 'range', min: 0, max: BUDGETS.length - 1, step: 1, value: USUAL,
      on: { input: () => this.slide() },
    });
    this.output = h('output', { for: 'budget' });
    this.state = h('div', {});
    const submit = (event) => {
      event.preventDefault();
      this.ask();
    };
    const onKey = (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
        submit(event);
      }
    };
    replace(container,
      h('div', { class: 'head' }, h('div', {}, h('h1', { tabindex: '-1', text: 'Pack' }),
        h('p', { text: 'What an agent gets to open and know before it starts, never longer than its budget.' }))),
      h('form', { class: 'stack pack-form', on: { submit, keydown: onKey } },
        h('label', { class: 'sr', for: 'task', text: 'The task' }), this.task,
        h('div', { class: 'row' },
          h('button', { class: 'button primary', type: 'submit', text: 'Make the pack' }),
          h('span', { class: 'small soft', text: 'Ctrl Enter does the same' }))),
      this.state);
    context.title('Pack');
    this.update(route);
    if (matchMedia('(hover: hover)').matches) {
      this.task.focus();
    }
  }

  update(route) {
    const task = route.query.get('task') ?? '';
    if (task !== this.asked) {
      this.task.value = task;
      this.load(task);
    }
  }

  leave() {
    this.running.abort();
  }

  ask() {
    const task = this.task.value.trim();
    if (task) {
      this.context.go(`#/pack?task=${encodeURIComponent(task)}`, { replace: true });
    } else {
      this.task.focus();
    }
  }

  async load(task) {
    this.asked = task;
    this.running.abort();
    this.running = new AbortController();
    /** @type {Map<number, *>} the pack of each budget that has come */
    this.packs = new Map();
    if (!task) {
      replace(this.state, empty({
        title: 'Nothing is packed yet',
        text: 'Name a task. You see the notes, places and past changes that an agent would be given for it, and which of them fall out as you lower the budget.',
      }));
      return;
    }
    replace(this.state, h('div', { class: 'loading', role: 'status', data: { state: 'loading' } },
      h('span', { class: 'sr', text: 'Packing' }), h('span', { class: 'ghost' }), h('span', { class: 'ghost' }), h('span', { class: 'ghost' })));
    const signal = this.running.signal;
    try {
      const largest = BUDGETS.length - 1;
      await this.fetchPack(Number(this.slider.value), signal);
      await this.fetchPack(largest, signal);
      this.frame();
      for (let at = largest - 1; at >= 0; at -= 1) {
        await this.fetchPack(at, signal);
        this.drawLadder();
      }
    } catch (error) {
      if (!this.context.api.aborted(error)) {
        replace(this.state, failed(error, () => this.load(task)));
      }
    }
  }

  async fetchPack(at, signal) {
    if (!this.packs.has(at)) {
      const pack = await this.context.api.post('/api/pack', { task: this.asked, budget: BUDGETS[at] }, signal);
      this.packs.set(at, pack);
    }
  }

  /** The parts that stay while the slider moves. */
  frame() {
    this.receipt = h('div', { class: 'stack', role: 'status' });
    this.ladder = h('ol', { class: 'ladder' });
    this.text = h('pre', { class: 'pack-text card', tabindex: '0', 'aria-label': 'The text of the pack' });
    this.notices = h('div', { class: 'stack' });
    replace(this.state, h('div', { class: 'pack-panes' },
      h('section', { class: 'stack' },
        h('div', { class: 'budget' },
          h('div', { class: 'row' }, h('label', { for: 'budget', text: 'Budget' }), this.output),
          this.slider),
        this.receipt, this.notices,
        h('h2', { text: 'What stays, what falls out' }),
        h('p', { class: 'small soft', text: 'Each square is a budget, from small to large; it is filled where the place is told.' }),
        this.ladder),
      h('section', { class: 'stack' }, h('h2', { text: 'What the agent reads' }), this.text)));
    this.slide();
  }

  async slide() {
    const at = Number(this.slider.value);
    this.output.textContent = `${number(BUDGETS[at])} tokens`;
    this.slider.setAttribute('aria-valuetext', `${number(BUDGETS[at])} tokens`);
    if (!this.packs.has(at)) {
      try {
        await this.fetchPack(at, this.running.signal);
      } catch (error) {
        if (!this.context.api.aborted(error)) {
          this.context.announce(error.message);
        }
        return;
      }
    }
    if (at === Number(this.slider.value) && this.receipt) {
      this.drawReceipt(this.packs.get(at));
      this.drawText(this.packs.get(at));
      this.drawLadder();
    }
  }

  drawReceipt({ receipt, notices }) {
    const used = receipt.budget ? receipt.tokens_used / receipt.budget : 0;
    replace(this.receipt,
      h('div', { class: 'meter', 'aria-hidden': true }, h('i', { vars: { '--share': Math.min(1, used) } })),
      h('div', { class: 'figures' },
        figure(number(receipt.tokens_used), `of ${number(receipt.budget)} tokens used`),
        figure(number(receipt.places), 'hits told'),
        figure(number(receipt.omitted), 'left out'),
        figure(number(receipt.withheld_stale), 'stale notes withheld')));
    replace(this.notices, notices.map((text) => h('p', { class: 'notice', text })));
  }

  /** The text as it is, and in their places the lines that a larger budget would have room for. */
  drawText(pack) {
    const largest = this.packs.get(BUDGETS.length - 1);
    const lines = merged((largest ?? pack).text.split('\n'), pack.text.split('\n'));
    replace(this.text, lines.map(([line, stays]) => h('span', {
      class: stays ? (line.startsWith('#') ? 'in heading' : 'in') : 'fallen', 'aria-hidden': !stays, text: `${line}\n`,
    })));
  }

  drawLadder() {
    if (!this.ladder) {
      return;
    }
    const now = Number(this.slider.value);
    const places = placesOf(this.packs).slice(0, MOST_PLACES);
    replace(this.ladder, places.map(({ item, told }) => h('li', { class: told.has(now) ? '' : 'out' },
      h('a', { class: 'plain', href: `#/map?path=${encodeURIComponent(item.path)}` }, place(item.path, item.start_line, item.end_line),
        item.symbol && h('span', { class: 'soft mono small wrap', text: ` ${item.symbol}` })),
      h('span', { class: 'sr', text: told.has(now) ? 'told' : 'fell out' }),
      h('span', { class: 'cells', 'aria-hidden': true }, BUDGETS.map((_, at) => h('i', {
        class: `${told.has(at) ? 'in' : ''} ${at === now ? 'now' : ''}`,
      }))))));
    if (!places.length) {
      replace(this.ladder, h('li', { class: 'small soft', text: 'No place in the code is told for this task.' }));
    }
    this.context.announce(`${plural(this.packs.get(now)?.receipt.places ?? 0, 'hit')} told`);
  }
}

const figure = (amount, text) => h('div', { class: 'figure' }, h('b', { text: amount }), h('span', { text }));

/** All places of all packs, those first that are told from the smallest budget on. */
function placesOf(packs) {
  const places = new Map();
  for (const [at, pack] of packs) {
    for (const item of pack.places) {
      const key = `${item.path}\n${item.symbol}`;
      const known = places.get(key) ?? { item, told: new Set() };
      known.told.add(at);
      places.set(key, known);
    }
  }
  return [...places.values()].sort((a, b) => Math.min(...a.told) - Math.min(...b.told)
    || b.told.size - a.told.size || a.item.path.localeCompare(b.item.path));
}

/**
 * Two texts as one: all lines of `full` in their order with those only in `now` where they stand.
 *
 * @param {string[]} full
 * @param {string[]} now
 * @returns {Array<[line: string, stays: boolean]>}
 */
function merged(full, now) {
  const rows = [];
  let at = 0;
  for (const line of now) {
    const found = full.indexOf(line, at);
    if (found >= 0) {
      rows.push(...full.slice(at, found).map((lost) => [lost, false]));
      at = found + 1;
    }
    rows.push([line, true]);
  }
  rows.push(...full.slice(at).map((lost) => [lost, false]));
  return rows.filter(([line, stays]) => stays || line.trim());
}
