/**
 * All tasks of a run at once: a tile for each, in it a drill core for each arm that grows by a
 * layer with each request. One fetch brings everything; the clock runs here.
 */

import { choice, empty, h, loading, replace, segments } from './dom.js';
import { grouped, number, signedCount } from './charts.js';
import { player } from './player.js';
import { KINDS, swatch } from './trace.js';

const CLOCKS = [['steps', 'Steps'], ['tokens', 'Tokens'], ['seconds', 'Time']];
const SCALES = [['own', 'each task its own'], ['one', 'one for all']];
const REFRESH = 3000; // milliseconds between two fetches of a run that goes on
const [LEAST, MOST] = [40, 176]; // widths of a tile in pixels
const CAP = 12; // pixels above a core for its outcome

/**
 * @param {string} id
 * @param {HTMLElement} container
 * @param {object} context
 * @param {object} run - As in /api/runs.
 */
export async function showWall(id, container, context, run) {
  replace(container, loading('Loading all tasks', 8));
  const path = `/api/runs/${encodeURIComponent(id)}`;
  let episodes = await context.api.get(`${path}/wall`, {}, context.signal);
  const base = run.arms.includes('bare') ? 'bare' : run.arms[0];
  const others = run.arms.filter((arm) => arm !== base);
  const how = {
    arms: [base, others.includes('stratum') ? 'stratum' : others[0]].filter(Boolean),
    clock: run.agent === 'chat' ? 'seconds' : 'steps',
    scale: 'own',
  };
  let live = run.state === 'running';
  let follower = null;
  let timer = 0;

  const figures = h('div', { class: 'stands' });
  const grid = h('ul', { class: 'wall', 'aria-label': 'Tasks' });
  const note = h('p', { class: 'soft', hidden: !live, text: 'This run goes on: the wall grows.' });
  const legend = h('p', { class: 'bench-legend' }, 'Each layer a request:',
    KINDS.map(([kind, said]) => swatch(`kind ${kind}`, said, kind)),
    swatch('dot solved', 'solved', 'pass'), swatch('dot unsolved', 'not solved', 'miss'),
    swatch('tile fewer', 'fewer tokens'), swatch('tile more', 'more tokens'),
    swatch('tile lost', 'lost'), swatch('tile gained', 'gained'));
  let colours = {};
  let tiles = [];
  const clockwork = player({ end: 1, draw, say, touched: () => { live = false; },
    step: (forward) => clockwork.seek(beside(forward)) });
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const tile = tiles[Number(entry.target.dataset.at)];
      if (tile) {
        tile.seen = entry.isIntersecting;
        tile.drawn = '';
      }
    }
    draw(clockwork.time());
  }, { rootMargin: '200px' });
  const sized = new ResizeObserver(() => fit(grid, tiles, () => draw(clockwork.time())));
  const again = () => {
    colours = coloursOf(legend);
    redraw();
  };
  const themed = new MutationObserver(again);
  const system = matchMedia('(prefers-color-scheme: dark)');

  function redraw() {
    for (const tile of tiles) tile.drawn = '';
    draw(clockwork.time());
  }

  function build() {
    const focus = grid.contains(document.activeElement)
      ? tiles.findIndex((tile) => tile.link === document.activeElement) : -1;
    seen.disconnect();
    tiles = tilesOf(id, episodes, how);
    const most = Math.max(1, ...tiles.map((tile) => tile.most));
    legend.classList.toggle('all-arms', how.arms.length !== 2);
    for (const tile of tiles) tile.scale = how.scale === 'one' ? most : tile.most;
    replace(grid, tiles.map((tile) => tile.item));
    fit(grid, tiles, () => {});
    for (const tile of tiles) seen.observe(tile.item);
    if (tiles[0]) tiles[Math.max(focus, 0)].link.tabIndex = 0;
    if (focus >= 0) tiles[focus]?.link.focus();
    const ends = tiles.flatMap((tile) => tile.cores.map((core) => core.at.at(-1) ?? 0));
    clockwork.setEnd(Math.max(0, ...ends), !live);
    if (live) clockwork.seek(Infinity);
  }

  function draw(time) {
    for (const tile of tiles) {
      const counts = tile.cores.map((core) => reached(core, time));
      const drawn = counts.join();
      tile.counts = counts;
      if (tile.seen && tile.drawn !== drawn) {
        tile.drawn = drawn;
        paint(tile, counts, colours);
        tile.item.className = standOf(tile);
      }
    }
    stand(figures, tiles, how.arms);
  }

  function beside(forward) {
    const time = clockwork.time();
    const all = tiles.flatMap((tile) => tile.cores.flatMap((core) => core.at));
    const near = 1e-9;
    return forward ? Math.min(...all.filter((at) => at > time + near), Infinity)
      : Math.max(...all.filter((at) => at < time - near), 0);
  }

  function say(time) {
    if (how.clock === 'steps') return `step ${Math.floor(time)}`;
    return how.clock === 'tokens' ? `${number(Math.round(time))} tokens` : `${time.toFixed(1)} s`;
  }

  async function refresh() {
    timer = 0;
    try {
      episodes = await context.api.get(`${path}/wall`, {}, context.signal);
      build();
    } catch {
      // The stream says when the server is back, and the next change fetches again.
    }
  }

  function come(data, _id, kind) {
    if (kind === 'run') {
      run.state = data.state;
      note.hidden = data.state !== 'running';
      if (data.state !== 'running') follower.close();
    }
    if (kind === 'run' || data.event === 'end') timer ||= setTimeout(refresh, REFRESH);
  }

  const against = [...others.map((arm) => [arm, arm]), ['', 'all arms']];
  replace(container,
    h('p', { class: 'over' }, h('a', { href: `#/bench/${encodeURIComponent(id)}`, text: run.name }),
      ' · wall'),
    h('h1', { tabindex: '-1', text: `${run.tasks} tasks at once` }),
    note,
    h('div', { class: 'toolbar' },
      others.length > 0 && choice(`${base} beside`, against, how.arms[1] ?? '', (arm) => {
        how.arms = arm ? [base, arm] : run.arms;
        build();
      }),
      segments('Clock', CLOCKS, how.clock, (clock) => { how.clock = clock; build(); }),
      choice('Scale', SCALES, how.scale, (scale) => { how.scale = scale; build(); })),
    figures,
    clockwork.element,
    legend,
    grid);
  if (!episodes.length) {
    replace(grid, h('li', { class: 'whole' }, empty({ title: 'No task has been begun yet.',
      text: 'Tiles come as soon as the first agent starts.' })));
  }
  colours = coloursOf(legend);
  build();
  themed.observe(document.documentElement, { attributeFilter: ['data-theme'] });
  system.addEventListener('change', again);
  sized.observe(grid);
  if (live) follower = context.api.stream(`${path}/events?lines=none`, { on: come });
  else clockwork.begin();
  return {
    leave() {
      follower?.close();
      clearTimeout(timer);
      clockwork.close();
      for (const one of [themed, seen, sized]) one.disconnect();
      system.removeEventListener('change', again);
    },
    key: (event) => rove(event, grid, tiles) || clockwork.key(event),
  };
}

/** A tile for each task, in the order in which tasks come. */
function tilesOf(id, episodes, how) {
  const byTask = new Map();
  for (const one of episodes) {
    if (!byTask.has(one.task)) byTask.set(one.task, new Map());
    byTask.get(one.task).set(one.arm, one);
  }
  return [...byTask].map(([task, arms], at) => {
    const cores = how.arms.filter((arm) => arms.has(arm)).map((arm) => coreOf(arms.get(arm), how));
    const canvas = h('canvas', { 'aria-hidden': 'true' });
    const link = h('a', { href: `#/bench/${encodeURIComponent(id)}/${encodeURIComponent(task)}`,
      tabindex: '-1', title: saying(task, cores), 'aria-label': saying(task, cores) }, canvas,
    h('span', { class: 'gap', 'aria-hidden': 'true', text: gap(cores) }));
    const item = h('li', { data: { at } }, link);
    const most = Math.max(1, ...cores.map((core) => core.tokens));
    return { item, link, canvas, cores, most, scale: most, seen: false, drawn: '', counts: [] };
  });
}

function coreOf(episode, how) {
  const layers = episode.steps.map(([, tokens, kind], i) => ({
    from: i ? episode.steps[i - 1][1] : 0, to: tokens, kind }));
  const at = episode.steps.map(([seconds, tokens], i) =>
    ({ seconds, tokens, steps: i + 1 })[how.clock]);
  return { arm: episode.arm, outcome: episode.outcome, solved: episode.solved,
    tokens: episode.tokens, layers, at };
}

/** How a tile with two cores came out, as soon as both have ended on the clock. */
function standOf({ cores, counts }) {
  if (cores.length !== 2) return '';
  const [one, other] = cores;
  const ended = (core, i) => core?.outcome && counts[i] === core.layers.length;
  if (!ended(one, 0) || !ended(other, 1)) return '';
  const cost = other.tokens > one.tokens ? 'more' : 'fewer';
  if (one.solved === other.solved) return `ended ${cost}`;
  return `ended ${cost} ${one.solved ? 'lost' : 'gained'}`;
}

function reached(core, time) {
  let count = 0;
  while (count < core.at.length && core.at[count] <= time + 1e-9) count += 1;
  return count;
}

function saying(task, cores) {
  return `${task}: ${cores.map((core) => `${core.arm} ${core.outcome ?? 'goes on'}, `
    + `${grouped(core.tokens)} tokens`).join('; ')}`;
}

function gap(cores) {
  if (cores.length !== 2 || !cores.every((core) => core.outcome) || !cores[0].tokens) return '';
  return `${signedCount(Math.round(100 * (cores[1].tokens / cores[0].tokens - 1)))} %`;
}

/** Draw the layers that are there; a core that has ended wears its outcome. */
function paint(tile, counts, colours) {
  const { canvas, cores, scale } = tile;
  const ratio = devicePixelRatio || 1;
  const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
  if (!wide) return;
  if (canvas.width !== Math.round(wide * ratio)) canvas.width = Math.round(wide * ratio);
  if (canvas.height !== Math.round(high * ratio)) canvas.height = Math.round(high * ratio);
  const ink = canvas.getContext('2d');
  ink.setTransform(ratio, 0, 0, ratio, 0, 0);
  ink.clearRect(0, 0, wide, high);
  const room = wide / cores.length;
  const body = Math.min(room - 3, 30);
  cores.forEach((core, i) => {
    const left = room * i + (room - body) / 2;
    const top = high - drill(ink, core, counts[i], { left, body, high, scale }, colours);
    if (counts[i] === core.layers.length && core.outcome) {
      outcome(ink, core.solved, left + body / 2, top - CAP / 2, Math.min(3, body / 2), colours);
    }
  });
}

function drill(ink, core, count, { left, body, high, scale }, colours) {
  const grow = (high - CAP) / scale;
  let top = 0;
  for (const layer of core.layers.slice(0, count)) {
    const bottom = layer.from * grow;
    top = Math.max(layer.to * grow, bottom + 0.5);
    ink.fillStyle = colours[layer.kind] ?? colours.other;
    const seam = top - bottom > 3 ? 0.75 : 0; // layers told apart where there is room
    ink.fillRect(left, high - top + seam, body, top - bottom - seam);
  }
  return top;
}

function outcome(ink, solved, x, y, size, colours) {
  ink.beginPath();
  ink.arc(x, y, size, 0, 2 * Math.PI);
  ink.lineWidth = 1.4;
  ink.strokeStyle = solved ? colours.pass : colours.miss;
  ink.fillStyle = colours.pass;
  if (solved) ink.fill();
  ink.stroke();
}

/** What the arms took and solved until now, over all tasks. */
function stand(figures, tiles, arms) {
  const rows = arms.map((arm) => {
    const sum = { arm, tokens: 0, solved: 0, ended: 0, n: 0 };
    for (const tile of tiles) {
      tile.cores.forEach((core, i) => {
        if (core.arm !== arm) return;
        const count = tile.counts[i] ?? 0;
        sum.n += 1;
        sum.tokens += count ? core.layers[count - 1].to : 0;
        const done = count === core.layers.length && core.outcome;
        sum.ended += done ? 1 : 0;
        sum.solved += done && core.solved ? 1 : 0;
      });
    }
    return sum;
  });
  const most = Math.max(1, ...rows.map((row) => row.tokens));
  if (figures.childElementCount !== rows.length || figures.dataset.arms !== arms.join()) {
    figures.dataset.arms = arms.join();
    replace(figures, rows.map((row) => h('div', { class: 'stand' }, h('span', { text: row.arm }),
      h('b', {}), h('span', { class: 'soft' }), h('div', { class: 'stand-bar' }, h('i', {})))));
  }
  rows.forEach((row, i) => {
    const [, tokens, solved, bar] = figures.children[i].children;
    tokens.textContent = `${number(row.tokens)} tokens`;
    solved.textContent = `${row.solved} solved, ${row.ended} of ${row.n} ended`;
    bar.firstElementChild.style.transform = `scaleX(${row.tokens / most})`;
  });
}

/** The colours of the page's theme, read from the legend, since a canvas knows no style sheet. */
function coloursOf(legend) {
  return Object.fromEntries([...legend.querySelectorAll('[data-colour]')].map((one) =>
    [one.dataset.colour, getComputedStyle(one).backgroundColor]));
}

/** How high a row of tiles is, in pixels, with its gap; see bench.css. */
const tall = (size) => size * 0.78 + (size < 56 ? 13 : 30);

/** Tiles as wide as lets all of them be seen at once, within reason. */
function fit(grid, tiles, then) {
  const wide = grid.clientWidth;
  const high = Math.max(320, innerHeight - grid.getBoundingClientRect().top - scrollY - 24);
  if (!wide || !tiles.length) return;
  let size = MOST;
  while (size > LEAST && Math.ceil(tiles.length / Math.floor(wide / size)) * tall(size) > high) {
    size -= 4;
  }
  const before = grid.style.getPropertyValue('--tile');
  grid.classList.toggle('small', size < 84);
  grid.classList.toggle('tiny', size < 56);
  if (before === `${size}px`) return;
  grid.style.setProperty('--tile', `${size}px`);
  for (const tile of tiles) tile.drawn = '';
  then();
}

/** The arrow keys move among the tiles once one of them has the focus. */
function rove(event, grid, tiles) {
  const at = tiles.findIndex((tile) => tile.link === document.activeElement);
  if (at < 0 || !event.key.startsWith('Arrow')) return false;
  const top = tiles[0].item.offsetTop;
  const across = Math.max(1, tiles.filter((tile) => tile.item.offsetTop === top).length);
  const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
  const next = tiles[at + by];
  if (next) {
    tiles[at].link.tabIndex = -1;
    next.link.tabIndex = 0;
    next.link.focus();
  }
  return true;
}
