/**
 * The repository as layers of rock: each folder or file is a layer, as thick as it holds code, and
 * the notes in it are its seams. One goes down into a folder and up again.
 */

import { empty, failed, h, loading, place, replace, svg, verdict } from './dom.js';
import { bytes, number, plural } from './format.js';
import { virtualList } from './list.js';
import { bed, chance, grain, seedOf, shuffled, swell } from './strata.js';

const LEAST = 28; // the least height of a layer in pixels: a line of text
const MOST_LAYERS = 60; // of more parts the smallest are drawn as one
const FEW_LAYERS = 12; // as long as nobody asks for all
const MOST_SEAMS = 24; // in one layer
const MOST_SYMBOLS = 400;
const NARROW = 560;

/**
 * @param {*} route
 * @param {HTMLElement} container
 * @param {*} context
 */
export function show(route, container, context) {
  return new MapView(route, container, context);
}

class MapView {
  constructor(route, container, context) {
    this.context = context;
    this.crumbs = h('h1', { class: 'crumbs', tabindex: '-1' });
    this.lead = h('p', { class: 'soft' });
    this.section = h('div', { class: 'section' });
    this.side = h('aside', { class: 'map-side', 'aria-label': 'What is at the chosen place' });
    this.table = h('div', {});
    this.asTable = h('button', {
      class: 'button', type: 'button', 'aria-pressed': 'false', text: 'As a list',
      on: { click: () => this.toggleTable() },
    });
    replace(container,
      h('div', { class: 'head' }, h('div', {}, this.crumbs, this.lead), this.asTable),
      h('div', { class: 'map-panes' },
        h('div', { class: 'stack' }, this.section, this.table, legend()), this.side));
    this.watcher = new ResizeObserver(() => this.redraw());
    this.watcher.observe(this.section);
    this.stopStatus = context.status.subscribe((status) => this.onStatus(status));
    this.update(route);
  }

  update(route) {
    const path = route.query.get('path') ?? '';
    this.symbol = route.query.get('symbol');
    if (path !== this.asked) {
      this.asked = path;
      this.load(path);
    }
  }

  leave() {
    this.watcher.disconnect();
    this.stopStatus();
    this.list?.close();
    clearTimeout(this.timer);
  }

  onStatus(status) {
    const told = JSON.stringify([status.counts, status.indexed_at]);
    if (this.told && this.told !== told && !status.indexing) {
      this.load(this.asked, true);
    }
    this.told = told;
  }

  key(event) {
    const typing = event.target.matches?.('input, textarea, select');
    if (typing) {
      return false;
    }
    if (['Escape', 'Backspace'].includes(event.key) && this.map?.path) {
      this.context.go(addressOf(parentOf(this.map.path)));
      return true;
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || this.list || !this.layers || event.target.closest?.('.map-side')) {
      return false;
    }
    this.choose(Math.max(0, Math.min(this.layers.length - 1, this.chosen + step)), true);
    return true;
  }

  async load(path, quiet = false) {
    const before = this.map?.path;
    if (!this.map) {
      replace(this.section, loading('Loading the map', 8));
    }
    try {
      let map = await this.fetchMap(path);
      let select = null;
      if (path && isFile(map, path)) {
        select = path;
        map = await this.fetchMap(parentOf(path));
      }
      if (path !== this.asked) {
        return;
      }
      this.map = map;
      this.title();
      this.all = this.all && before === map.path;
      this.layers = this.layersNow(select ?? before);
      this.motion = quiet || before === undefined || before === map.path ? '' : motionOf(before, map.path);
      const from = before && parentOf(before) === map.path ? before : null;
      const wanted = select ?? from;
      this.chosen = Math.max(-1, this.layers.findIndex((layer) => layer.path === wanted));
      this.draw(quiet ? false : Boolean(this.motion));
      if (!quiet || this.chosen < 0) {
        this.describe(select);
      }
    } catch (error) {
      if (!this.context.api.aborted(error) && path === this.asked && !quiet) {
        this.map = null;
        this.layers = null;
        replace(this.section, failed(error, () => this.load(path)));
        replace(this.side);
      }
    }
  }

  layersNow(wanted) {
    return layersOf(this.map.nodes, this.all ? MOST_LAYERS : FEW_LAYERS, wanted);
  }

  async fetchMap(path) {
    try {
      return await this.context.api.get('/api/map', { path }, this.context.signal);
    } catch (error) {
      if (path && error.status === 400) {
        return { path, nodes: [] }; // a file has no parts
      }
      throw error;
    }
  }

  title() {
    const { path, nodes } = this.map;
    const root = this.context.status.value?.root?.split(/[/\\]/).pop() || 'root';
    const parts = path ? path.split('/') : [];
    replace(this.crumbs, [root, ...parts].map((name, at) => (at === parts.length
      ? h('span', { class: 'wrap', text: name })
      : h('a', { class: 'wrap', href: addressOf(parts.slice(0, at).join('/')), text: name }))));
    this.lead.textContent = nodes.length ? sumText(nodes) : '';
    this.context.title(path ? `Map of ${path}` : 'Map');
  }

  draw(focus = false) {
    this.width = 0;
    this.redraw();
    if (this.list) {
      this.drawTable();
    }
    if (focus && !this.list) {
      this.choose(Math.max(0, this.chosen), true, false);
    }
  }

  redraw() {
    const width = Math.floor(this.section.clientWidth);
    if (!this.layers || width === this.width || this.section.hidden) {
      return;
    }
    this.width = width;
    if (!this.layers.length) {
      replace(this.section, nothing(this.context.status.value, this.map.path));
      return;
    }
    this.nodes = [];
    replace(this.section, this.picture(width));
    this.section.className = `section ${this.motion}`;
    this.motion = '';
    this.mark();
  }

  picture(width) {
    const heights = heightsOf(this.layers);
    const all = heights.reduce((sum, height) => sum + height, 0);
    const picture = svg('svg', {
      width, height: all + 8, viewBox: `0 -4 ${width} ${all + 8}`, role: 'group',
      'aria-label': `${this.map.path || 'The repository'} as layers: ${plural(this.layers.length, 'part')}. Arrow keys move, Enter opens.`,
    });
    this.tones = tonesOf(this.layers);
    let top = 0;
    this.layers.forEach((layer, at) => {
      const node = this.drawLayer(layer, at, top, heights[at], width);
      this.nodes.push(node);
      picture.append(node);
      top += heights[at];
    });
    return picture;
  }

  drawLayer(layer, at, y, height, width) {
    const next = this.layers[at + 1];
    const above = swell(seedOf(layer.path), at ? swayOf(height) : 2);
    const below = swell(seedOf(next ? next.path : '~'), next ? swayOf(height) : 2);
    const top = (x) => y + above(x);
    const bottom = (x) => y + height + below(x);
    const middle = y + height / 2;
    const narrow = width < NARROW;
    const scale = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
    const right = width - (narrow ? 56 : 190) * scale;
    const left = Math.min(right - 40, (34 + shortened(layer.name, narrow ? 22 : 46).length * 8.4) * scale);
    return svg('a', {
      class: `layer ${layer.kind}`, href: layer.kind === 'rest' ? '#' : addressOf(layer.path), tabindex: '-1',
      'aria-label': `${layer.name}${layer.kind === 'folder' ? ', folder' : ''}: ${nodeText(layer)}`,
      on: {
        click: (event) => this.open(event, at),
        focus: () => this.choose(at),
        mouseenter: () => this.hover(at),
      },
    },
    svg('path', { class: `bed rock-${this.tones[at]} ${layer.files === 0 ? 'lost' : ''}`, d: bed(0, width, top, bottom) }),
    grain({
      left: width * 0.3, right: width, top, bottom, seed: seedOf(layer.path) + 1,
      count: height < 40 ? 0 : Math.min(12, Math.floor(Math.log2(layer.files + layer.symbols + 1) / 2) + (height > 90 ? 3 : 0)),
    }),
    seams(layer, { left, right, top, bottom }),
    svg('text', { class: 'name', x: 16, y: middle + 5, text: shortened(layer.name, narrow ? 22 : 46) + (layer.kind === 'folder' ? '/' : '') }),
    svg('text', { class: 'sum', x: width - 14, y: middle + 5, 'text-anchor': 'end', text: narrow ? (layer.notes || '') : sideText(layer) }));
  }

  open(event, at) {
    const layer = this.layers[at];
    if (event.ctrlKey || event.metaKey || event.shiftKey) {
      return;
    }
    event.preventDefault();
    if (layer.kind === 'rest' && this.all) {
      this.toggleTable();
    } else if (layer.kind === 'rest') {
      this.all = true;
      this.layers = this.layersNow();
      this.motion = 'enter';
      this.chosen = 0;
      this.draw(true);
    } else if (layer.kind === 'folder') {
      const box = this.nodes[at].getBBox();
      this.section.style.setProperty('--at', `${Math.round(((box.y + box.height / 2) / this.section.clientHeight) * 100)}%`);
      this.context.go(addressOf(layer.path));
    } else {
      this.choose(at, true);
    }
  }

  hover(at) {
    if (!this.section.contains(document.activeElement)) {
      this.choose(at);
    }
  }

  choose(at, focus = false, describe = true) {
    const changed = at !== this.chosen;
    this.chosen = at;
    this.mark();
    if (focus) {
      this.nodes?.[at]?.focus();
    }
    if (changed && describe) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.describe(this.layers[at]?.path), 130);
    }
  }

  mark() {
    const current = Math.max(0, this.chosen);
    this.nodes?.forEach((node, at) => {
      node.classList.toggle('on', at === this.chosen);
      node.setAttribute('tabindex', at === current ? '0' : '-1');
    });
  }

  // --- the same as a list

  toggleTable() {
    const on = !this.list;
    this.asTable.setAttribute('aria-pressed', String(on));
    this.asTable.textContent = on ? 'As layers' : 'As a list';
    this.section.hidden = on;
    if (on) {
      this.drawTable();
      this.list.node.focus();
    } else {
      this.list.close();
      this.list = null;
      replace(this.table);
      this.width = 0;
      this.redraw();
    }
  }

  drawTable() {
    this.list?.close();
    const nodes = this.map?.nodes ?? [];
    this.list = virtualList({
      label: `Parts of ${this.map?.path || 'the repository'}`, count: nodes.length, height: 40,
      render: (at) => h('div', { class: 'map-row' },
        h('span', { class: 'mono', text: nodes[at].name + (nodes[at].kind === 'folder' ? '/' : '') }),
        h('span', { class: 'soft', text: nodeText(nodes[at]) })),
      open: (at) => (nodes[at].kind === 'folder' ? this.context.go(addressOf(nodes[at].path)) : this.describe(nodes[at].path)),
      active: (at) => {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.describe(nodes[at].path), 130);
      },
    });
    this.list.node.classList.add('map-table');
    replace(this.table, this.list.node);
  }

  // --- what is at a place

  async describe(path) {
    const node = this.map?.nodes.find((each) => each.path === path);
    const target = path ?? this.map?.path ?? '';
    if (path && !node && !isBelow(path, this.map.path)) {
      return;
    }
    this.described = target;
    if (node) {
      replace(this.side, sideHead(node), loading('Loading what is there', 3));
    }
    try {
      const outline = await this.context.api.get('/api/outline', { path: target || '.' }, this.context.signal);
      if (this.described === target) {
        replace(this.side, sideHead(node ?? whole(this.map, target)), notesOf(outline), symbolsOf(outline, this.symbol));
        this.side.querySelector('[aria-current]')?.scrollIntoView({ block: 'center' });
      }
    } catch (error) {
      if (this.context.api.aborted(error) || this.described !== target) {
        return;
      }
      replace(this.side, node && sideHead(node),
        error.status === 404
          ? h('p', { class: 'small soft', text: 'This file is no longer there; only notes remember it.' })
          : failed(error, () => this.describe(path)));
    }
  }
}

const addressOf = (path) => (path ? `#/map?path=${encodeURIComponent(path)}` : '#/map');
const parentOf = (path) => path.split('/').slice(0, -1).join('/');
const isBelow = (path, folder) => !folder || path.startsWith(`${folder}/`);
const isFile = (map, path) => map.nodes.length === 0 || (map.nodes.length === 1 && map.nodes[0].path === path);
const motionOf = (before, now) => (isBelow(now, before) ? 'enter' : 'leave-up');
const swayOf = (height) => Math.min(7, height / 8);
const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** Folders, then files, by name; of many only the most telling ones, and one for the rest. */
function layersOf(given, most, wanted) {
  const nodes = [...given].sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
  if (nodes.length <= most + 1) {
    return nodes;
  }
  const weight = (node) => (node.path === wanted ? Infinity : node.bytes * (1 + 9 * Math.min(1, node.notes)));
  const kept = new Set([...nodes].sort((a, b) => weight(b) - weight(a)).slice(0, most));
  const others = nodes.filter((node) => !kept.has(node));
  const sum = (name) => others.reduce((all, node) => all + (node[name] ?? 0), 0);
  const rest = {
    path: '~rest', name: `${number(others.length)} smaller ones`, kind: 'rest',
    ...Object.fromEntries(['files', 'symbols', 'notes', 'fresh', 'stale', 'unanchored', 'unknown', 'uses', 'bytes'].map((name) => [name, sum(name)])),
  };
  return [...nodes.filter((node) => kept.has(node)), rest];
}

const rank = (node) => (node.kind === 'folder' ? 0 : 1);

/** Thickness by the square root of the bytes: a file ten times as long is three times as thick. */
function heightsOf(layers) {
  const weights = layers.map((layer) => Math.sqrt(layer.bytes + 1));
  const all = weights.reduce((sum, weight) => sum + weight, 0);
  const free = Math.max(innerHeight * 0.88 - LEAST * layers.length, LEAST * 4);
  return weights.map((weight) => LEAST + Math.min(innerHeight * 0.42, (free * weight) / all));
}

/** A tone of stone for each layer, never that of its neighbour. */
function tonesOf(layers) {
  let before = 0;
  return layers.map((layer) => {
    before = (before + 1 + (seedOf(layer.path) % 4)) % 5;
    return before;
  });
}

function seams(layer, { left, right, top, bottom }) {
  const kinds = [];
  for (const [kind, n] of [['stale', layer.stale], ['fresh', layer.fresh], ['unknown', layer.unknown ?? 0], ['unanchored', layer.unanchored ?? 0]]) {
    kinds.push(...Array.from({ length: Math.min(n, MOST_SEAMS) }, () => kind));
  }
  const random = chance(seedOf(layer.path) + 2);
  const many = Math.min(kinds.length, MOST_SEAMS, Math.max(1, Math.floor((right - left) / 9)));
  const shown = shuffled(kinds.filter((_, at) => Math.floor(((at + 1) * many) / kinds.length) > Math.floor((at * many) / kinds.length)), random);
  return Array.from({ length: many }, (_, at) => {
    // Spread over the whole width, one seam in each part of it, at any depth.
    const part = (right - left) / many;
    const length = Math.min(70, Math.max(10, part * (0.45 + random() * 0.4)));
    const from = left + part * at + random() * Math.max(0, part - length);
    const share = 0.16 + random() * 0.68;
    const y = (x) => top(x) * (1 - share) + bottom(x) * share;
    return svg('path', {
      class: `seam ${shown[at]}`,
      d: `M${from.toFixed(1)} ${y(from).toFixed(1)}Q${(from + length / 2).toFixed(1)} ${(y(from + length / 2) - 2).toFixed(1)} ${(from + length).toFixed(1)} ${y(from + length).toFixed(1)}`,
    });
  });
}

function sideText(layer) {
  const code = layer.symbols ? plural(layer.symbols, 'symbol') : plural(layer.files, 'file');
  return layer.notes ? `${plural(layer.notes, 'note')} · ${code}` : code;
}

function nodeText(node) {
  const notes = [
    node.fresh && `${number(node.fresh)} fresh`, node.stale && `${number(node.stale)} stale`,
    node.unknown && `${number(node.unknown)} not judged yet`,
  ].filter(Boolean).join(', ');
  return [
    node.kind !== 'file' && plural(node.files, 'file'), plural(node.symbols, 'symbol'),
    node.notes ? `${plural(node.notes, 'note')}${notes && ` (${notes})`}` : 'no notes',
    node.uses > 0 && `used ${plural(node.uses, 'time')}`,
  ].filter(Boolean).join(', ');
}

function sumText(nodes) {
  const sum = (name) => nodes.reduce((all, node) => all + (node[name] ?? 0), 0);
  return `${plural(sum('files'), 'file')}, ${plural(sum('symbols'), 'symbol')}, ${bytes(sum('bytes'))}`;
}

function whole(map, path) {
  const sum = (name) => map.nodes.reduce((all, node) => all + (node[name] ?? 0), 0);
  return {
    path, name: path.split('/').pop() || 'The whole repository', kind: 'folder',
    ...Object.fromEntries(['files', 'symbols', 'notes', 'fresh', 'stale', 'unknown', 'uses', 'bytes'].map((name) => [name, sum(name)])),
  };
}

function nothing(status, path) {
  if (status?.indexing) {
    return empty({ title: 'The index is being made', text: status.indexing });
  }
  if (path) {
    return empty({ title: 'Nothing is here', text: 'This folder holds nothing that is in the index.' });
  }
  return empty({ title: 'There is no index yet', text: 'The map is drawn from it.', command: 'stratum index' });
}

function legend() {
  const sample = (kind, text) => h('span', {},
    svg('svg', { viewBox: '0 0 30 10', 'aria-hidden': true }, svg('path', { class: `seam ${kind}`, d: 'M4 5H26' })), text);
  return h('div', { class: 'legend' },
    h('span', { text: 'Thickness: code' }), sample('fresh', 'a note that holds'),
    sample('stale', 'a note whose code changed'), sample('unknown', 'not judged, or no place'));
}

function sideHead(node) {
  return h('div', { class: 'stack' },
    h('h2', { class: 'wrap' }, node.path && node.path !== '~rest' ? place(node.path) : node.name),
    h('p', { class: 'small soft', text: `${nodeText(node)}, ${bytes(node.bytes)}` }));
}

function notesOf(outline) {
  if (!outline.notes.length && !outline.withheld_stale) {
    return null;
  }
  return h('section', { class: 'panel' },
    h('h3', { text: 'Notes' }),
    h('ul', { class: 'lines-list' }, outline.notes.map((hit) => h('li', {},
      h('a', { href: `#/notes/${encodeURIComponent(hit.id)}` },
        h('span', { class: 'say', text: hit.text }),
        h('span', { class: 'row meta' }, verdict(hit.freshness), hit.origin))))),
    outline.withheld_stale > 0 && h('p', { class: 'small' },
      h('a', { href: '#/notes?state=review', text: `${plural(outline.withheld_stale, 'stale note')} withheld` })));
}

function symbolsOf(outline, wanted) {
  if (!outline.symbols.length) {
    return null;
  }
  const more = outline.symbols.length - MOST_SYMBOLS;
  return h('section', { class: 'panel' },
    h('h3', { text: outline.language ? `${plural(outline.symbols.length, 'symbol')}, ${outline.language}` : 'Symbols' }),
    h('ol', { class: 'symbols' }, outline.symbols.slice(0, MOST_SYMBOLS).map((symbol) => h('li', {
      class: symbol.name.includes('.') ? 'deep' : '', 'aria-current': symbol.name === wanted ? 'true' : null,
    },
    h('code', { text: symbol.name.split('.').pop() }),
    h('span', { class: 'soft mono', text: symbol.start_line }),
    symbol.doc && h('span', { class: 'doc', text: symbol.doc })))),
    more > 0 && h('p', { class: 'small soft', text: `and ${number(more)} more` }));
}
