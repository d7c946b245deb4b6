/**
 * Arms of one task from the same start: how far each has come, what it does now, how it ends; a
 * saved run on a clock, or a run that goes on.
 */

import { choice, empty, h, loading, replace, segments } from './dom.js';
import { grouped, number } from './charts.js';
import { player } from './player.js';
import { KINDS, kindOf, moments, swatch, told, trace } from './trace.js';

const CLOCKS = [['tokens', 'Tokens'], ['steps', 'Steps'], ['seconds', 'Time']];
const MEANING = {
  tokens: 'Both are given the same tokens at the same pace: who ends first took fewer.',
  steps: 'Both make one request at each beat.',
  seconds: 'Both as fast as they were, in seconds of the run.',
};

/**
 * @param {{run: string, task: string, query: URLSearchParams}} what
 * @param {HTMLElement} container
 * @param {object} context
 * @param {object} run - As in /api/runs.
 */
export async function showRace({ run: id, task: name, query }, container, context, run) {
  replace(container, loading('Loading the race', 6));
  const path = `/api/runs/${encodeURIComponent(id)}`;
  const got = await context.api.get(`${path}/trace`, { task: name }, context.signal);
  const there = new Set(got.events.map((event) => event.arm));
  const arms = run.arms.filter((arm) => there.has(arm) || run.state === 'running');
  if (arms.length < 1) {
    replace(container, empty({ title: 'Nobody has started yet.',
      text: 'No arm of this run has begun this task.' }));
    return {};
  }
  const clock = { name: run.agent === 'chat' ? 'seconds' : 'tokens' };
  let chosen = [query.get('a') ?? arms[0], query.get('b') ?? rival(arms)].filter(
    (arm, i, all) => arms.includes(arm) && all.indexOf(arm) === i);
  if (!chosen.length) chosen = arms.slice(0, 1);
  const events = got.events;
  let live = run.state === 'running';
  let race = null;
  let follower = null;
  let lost = false;

  const stage = h('div', { class: 'race' });
  const badge = h('button', { type: 'button', class: 'button live', hidden: !live,
    on: { click: () => { live = true; race.follow(); mark(); } } }, 'Follow live');
  const meaning = h('p', { class: 'soft', text: MEANING[clock.name] });
  const pick = (at) => choice(at ? 'against' : 'Arm', arms.map((arm) => [arm, arm]),
    chosen[at] ?? chosen[0], (arm) => { chosen[at] = arm; start(); });
  replace(container,
    h('p', { class: 'over' },
      h('a', { href: `#/bench/${encodeURIComponent(id)}`, text: run.name }), ' · race'),
    h('h1', { tabindex: '-1', dir: 'auto', text: got.task.title || name }),
    h('p', { class: 'soft' }, name, ' · ',
      h('a', { href: `#/bench/${encodeURIComponent(id)}/${encodeURIComponent(name)}`,
        text: 'all steps beside each other' })),
    h('div', { class: 'toolbar' }, pick(0), arms.length > 1 && pick(1),
      segments('Clock', CLOCKS, clock.name, (value) => {
        clock.name = value;
        meaning.textContent = MEANING[value];
        race.reclock();
      }), badge),
    meaning, stage);

  function mark() {
    badge.hidden = run.state !== 'running';
    badge.classList.toggle('on', live && !lost);
    badge.textContent = lost ? 'Waits for the server' : live ? 'Live' : 'Follow live';
  }

  function start() {
    race?.close();
    const lanes = [...new Set(chosen)];
    race = track({ lanes, task: got.task, events, clock,
      touched: () => { live = false; mark(); } });
    replace(stage, race.element);
    if (live) race.follow();
    else race.begin();
    mark();
  }

  function come(data, _id, kind) {
    if (kind === 'trace' && data.task === name && data.arm) {
      if (data.event === 'start') drop(events, data.arm);
      events.push(data);
      race.push(data, live);
    } else if (kind === 'reset') {
      events.length = 0;
      start();
    } else if (kind === 'run') {
      run.state = data.state;
      if (data.state !== 'running') {
        live = false;
        follower.close();
        context.announce(`The run has ${data.state}.`);
      }
      mark();
    }
  }

  start();
  if (live) {
    const query = `task=${encodeURIComponent(name)}&after=${encodeURIComponent(got.last_id ?? '')}`;
    follower = context.api.stream(`${path}/events?${query}`, { on: come,
      state: (state) => { lost = state === 'lost'; mark(); } });
  }
  return {
    leave() { follower?.close(); race.close(); },
    key: (event) => race.key(event) || escape(event, id, context),
  };
}

function escape(event, id, context) {
  if (event.key !== 'Escape' || event.target.closest('input, select')) return false;
  context.go(`#/bench/${encodeURIComponent(id)}`);
  return true;
}

function rival(arms) {
  return arms.includes('stratum') ? 'stratum' : arms[1];
}

function drop(events, arm) {
  for (let i = events.length - 1; i >= 0; i -= 1) if (events[i].arm === arm) events.splice(i, 1);
}

/** The lanes, the player and the steps below them. */
function track({ lanes, task, events, clock, touched }) {
  const drawn = lanes.map((arm) => lane(arm));
  const steps = trace({ arms: lanes, gold: task.gold ?? [],
    events: events.filter((event) => lanes.includes(event.arm)) });
  const clockwork = player({ end: 1, draw, say, touched,
    step: (forward) => clockwork.seek(beside(clockwork.time(), forward)) });
  const element = h('div', {}, h('div', { class: 'lanes' }, drawn.map((one) => one.element)),
    h('p', { class: 'bench-legend' }, 'Each layer a request:',
      KINDS.map(([kind, said]) => swatch(`kind ${kind}`, said))),
    clockwork.element, steps.element);

  function reclock(share = true) {
    for (const one of drawn) one.set(steps.events(one.arm), clock.name);
    const most = Math.max(1, ...drawn.map((one) => one.total()));
    for (const one of drawn) one.scale(most);
    clockwork.setEnd(Math.max(...drawn.map((one) => one.end()), 0), share);
  }

  function draw(time) {
    for (const one of drawn) steps.reveal(one.arm, one.draw(time, clock.name));
  }

  function beside(time, forward) {
    const all = drawn.flatMap((one) => one.moments()).sort((a, b) => a - b);
    const near = 1e-9;
    return forward ? all.find((at) => at > time + near) ?? time
      : all.findLast((at) => at < time - near) ?? 0;
  }

  function say(time) {
    if (clock.name === 'tokens') return `${number(Math.round(time))} tokens`;
    return clock.name === 'steps' ? `step ${Math.floor(time)}` : `${time.toFixed(1)} s`;
  }

  reclock();
  return {
    element,
    reclock,
    begin: clockwork.begin,
    follow: () => clockwork.seek(Infinity),
    push(event, following) {
      steps.push(event);
      reclock(false);
      if (following) clockwork.seek(Infinity);
    },
    key: clockwork.key,
    close: clockwork.close,
  };
}

/** One arm: its bar of layers, its counter, what it does now, how it ended. */
function lane(arm) {
  let events = [];
  let at = [];
  let asked = []; // [position in events, tokens until then] of each request
  let total = 0;
  let shown = -1;
  const layers = h('div', { class: 'layers' });
  const counter = h('span', { class: 'count' });
  const doing = h('p', { class: 'doing' });
  const result = h('span', { class: 'outcome' });
  const element = h('section', { class: 'lane', 'aria-label': arm },
    h('div', { class: 'lane-head' }, h('strong', { text: arm }), counter, result),
    h('div', { class: 'layer-room', 'aria-hidden': 'true' }, layers), doing);

  function until(time) {
    let count = 0;
    while (count < at.length && at[count] <= time + 1e-9) count += 1;
    return count;
  }

  function taken(time, count, clock) {
    if (clock === 'tokens') return Math.min(time, total);
    const last = asked.findLast(([position]) => position < count);
    return last ? last[1] : 0;
  }

  return {
    arm,
    element,
    moments: () => at,
    end: () => at.at(-1) ?? 0,
    total: () => total,
    set(next, clock) {
      events = next;
      at = moments(events, clock);
      asked = [];
      total = 0;
      const bits = [];
      events.forEach((event, position) => {
        if (event.event !== 'ask') return;
        const size = event.prompt + event.output;
        total += size;
        asked.push([position, total]);
        const call = events.slice(position + 1).find((one) => one.event !== 'ask');
        const kind = call?.event === 'call' ? kindOf(call.tool, call.memory) : 'other';
        bits.push(h('i', { class: `kind ${kind}`, vars: { '--n': size } }));
      });
      replace(layers, bits);
      shown = -1;
    },
    scale(most) { layers.style.setProperty('--most', String(most)); },
    draw(time, clock) {
      const count = until(time);
      const tokens = taken(time, count, clock);
      layers.style.clipPath = `inset(0 ${100 - (100 * tokens) / (total || 1)}% 0 0)`;
      counter.textContent = `${grouped(tokens)} tokens`;
      if (count === shown) return count;
      shown = count;
      const last = events[count - 1];
      const ended = last?.event === 'end';
      element.classList.toggle('done', ended);
      result.textContent = ended ? last.outcome : '';
      result.className = ended ? `outcome ${last.outcome}` : 'outcome';
      replace(doing, ended ? `submitted ${last.submitted.join(', ') || 'nothing'}`
        : now(events, count));
      return count;
    },
  };
}

function now(events, count) {
  const call = events.slice(0, count).findLast((event) => event.event === 'call');
  if (!call) return count ? 'thinks' : 'waits for the start';
  const { verb, what, path, lines } = told(call);
  return [h('b', { text: verb }), ' ', path ? `${path}${lines.length ? `:${lines.join('-')}` : ''}`
    : what];
}
