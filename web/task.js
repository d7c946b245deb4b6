/** One task: what two arms did, step by step, beside each other. */

import { choice, h, loading, replace } from './dom.js';
import { number, signedCount } from './charts.js';
import { trace } from './trace.js';

/**
 * @param {{run: string, task: string, query: URLSearchParams}} what
 * @param {HTMLElement} container
 * @param {object} context
 * @param {object} run - As in /api/runs.
 */
export async function showTask({ run: id, task: name, query }, container, context, run) {
  replace(container, loading('Loading the steps', 8));
  const path = `/api/runs/${encodeURIComponent(id)}/trace`;
  const got = await context.api.get(path, { task: name }, context.signal);
  const there = new Set(got.events.map((event) => event.arm));
  const arms = run.arms.filter((arm) => there.has(arm));
  const chosen = [query.get('a') ?? arms[0],
    query.get('b') ?? (there.has('stratum') ? 'stratum' : arms[1])];
  const stage = h('div', {});
  const verdict = h('p', { class: 'lede' });
  const race = h('a', { class: 'button primary', text: 'Race' });

  function draw() {
    const pair = [...new Set(chosen)].filter((arm) => there.has(arm));
    const shown = trace({ arms: pair, gold: got.task.gold ?? [],
      events: got.events.filter((event) => pair.includes(event.arm)) });
    replace(stage, pair.length ? shown.element
      : h('p', { class: 'empty', text: 'No arm of this run has begun this task.' }));
    verdict.textContent = sentence(pair, got.events);
    race.href = `#/bench/${encodeURIComponent(id)}/race/${encodeURIComponent(name)}`
      + `?a=${encodeURIComponent(chosen[0] ?? '')}&b=${encodeURIComponent(chosen[1] ?? '')}`;
  }

  const pick = (at, label) => choice(label, arms.map((arm) => [arm, arm]), chosen[at], (arm) => {
    chosen[at] = arm;
    draw();
    context.announce(verdict.textContent);
  });
  replace(container,
    h('p', { class: 'over' }, h('a', { href: `#/bench/${encodeURIComponent(id)}`, text: run.name }),
      ` · task ${got.task.order + 1} of ${run.tasks}`),
    h('h1', { tabindex: '-1', dir: 'auto', text: got.task.title || name }),
    verdict,
    h('p', { class: 'soft' }, name, ' · to be edited: ',
      h('span', { class: 'right', text: (got.task.gold ?? []).join(', ') })),
    h('div', { class: 'toolbar' }, pick(0, 'Arm'), arms.length > 1 && pick(1, 'beside'), race),
    stage);
  draw();
  return {};
}

/** What came of it in one sentence, a loss as plainly as a gain. */
function sentence([base, arm], events) {
  const [one, other] = [base, arm].map((name) => sum(events, name));
  if (!arm || !one.outcome || !other.outcome) return '';
  const gap = other.tokens - one.tokens;
  const share = one.tokens ? ` (${signedCount(Math.round((100 * gap) / one.tokens))} %)` : '';
  const kind = gap <= 0 ? 'fewer' : 'more';
  const cost = `${arm} took ${number(Math.abs(gap))} tokens ${kind} than ${base}${share}`;
  if (one.outcome === other.outcome) return `${cost}; both ended with ${one.outcome}.`;
  return `${cost} and ended with ${other.outcome}, ${base} with ${one.outcome}.`;
}

function sum(events, arm) {
  const own = events.filter((event) => event.arm === arm);
  return {
    tokens: own.reduce((all, e) => all + (e.event === 'ask' ? e.prompt + e.output : 0), 0),
    outcome: own.findLast((event) => event.event === 'end')?.outcome ?? '',
  };
}
