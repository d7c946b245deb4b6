/**
 * The frame around the views: session, routes, keyboard, theme, and the state of the memory that
 * all views share.
 */

import * as api from './api.js';
import { announce, append, failed, h, loading, replace } from './dom.js';
import { plural, projectName } from './format.js';

const VIEWS = {
  search: () => import('./search.js'),
  notes: () => styled(import('./notes.js')),
  map: () => styled(import('./map.js')),
  pack: () => styled(import('./pack.js')),
  status: () => styled(import('./status.js')),
  bench: () => import('./bench.js'),
};
const GO = { s: '#/', n: '#/notes', m: '#/map', p: '#/pack', t: '#/status', b: '#/bench' };
const KEYS = [
  ['/', 'Search'],
  ['g then s n m p t b', 'Go to Search, Notes, Map, Pack, sTatus, Bench'],
  ['↑ ↓', 'Move through a list'],
  ['Enter', 'Open'],
  ['Esc', 'Back, or close'],
  ['c', 'Write a note (in Notes)'],
  ['e a r v x', 'Edit, accept, reject, verify, forget (in a note)'],
  ['f', 'Filter the tasks (in a run)'],
  ['Space ← → + −', 'Play, step, faster, slower (in a race or a wall)'],
  ['?', 'Show the keys'],
];

const main = document.getElementById('main');
let sheet = null;

/** A view with its style sheet, which the first paint goes without. */
async function styled(loaded) {
  sheet ??= new Promise((resolve, reject) => {
    const fail = () => reject(new TypeError('The module of styles was not loaded.'));
    document.head.append(h('link', { rel: 'stylesheet', href: 'views.css', on: { load: resolve, error: fail } }));
  });
  const [module] = await Promise.all([loaded, sheet]);
  return module;
}

const status = {
  /** @type {*} the newest Status, null before the first */
  value: null,
  listeners: new Set(),
  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  },
  set(value) {
    this.value = value;
    this.listeners.forEach((listener) => listener(value));
  },
};

// --- routes

let shown = null; // {name, module, view, stop}
let visit = 0;
let halfLoaded = false; // whether the code of a view could not be fetched

/**
 * @param {string} hash "#/notes/abc?state=all"
 * @returns {{name: string, parts: string[], query: URLSearchParams, hash: string}}
 */
function routeOf(hash) {
  const [path, query = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s);
  const parts = path.split('/').filter(Boolean).map(decoded);
  return {
    name: parts.length ? parts[0] : 'search', parts, query: new URLSearchParams(query),
    hash: hash || '#/',
  };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function go(hash, { replace: inPlace = false } = {}) {
  if (inPlace) {
    history.replaceState(null, '', hash);
    show();
  } else if (location.hash === hash) {
    show();
  } else {
    location.hash = hash;
  }
}

async function show({ again = false } = {}) {
  if (api.connection.state === 'unauthorised') {
    return;
  }
  const route = routeOf(location.hash);
  markNavigation(route.name);
  if (!again && shown?.name === route.name && shown.view?.update) {
    shown.view.update(route);
    return;
  }
  const first = shown === null;
  leave();
  const mine = ++visit;
  const stop = new AbortController();
  shown = { name: route.name, view: null, stop };
  replace(main, loading('Loading', 6));
  try {
    const load = VIEWS[route.name];
    if (!load) {
      throw new api.ApiError(404, {
        message: 'There is no such page.', hint: 'The views are in the list of this page.',
      });
    }
    const module = await load();
    if (mine !== visit) {
      return;
    }
    replace(main);
    main.dataset.view = route.name;
    const view = await module.show(route, main, contextOf(stop.signal));
    if (mine !== visit) {
      (typeof view === 'function' ? view : view?.leave)?.();
      return;
    }
    shown.view = typeof view === 'function' ? { leave: view } : view;
  } catch (error) {
    if (mine === visit && !api.aborted(error)) {
      const told = inWords(error);
      halfLoaded = told.code === 'not_loaded';
      replace(main, failed(told, tryAgain));
    }
  }
  if (mine === visit) {
    focusView(first);
  }
}

/** A module that failed once is never asked for again by the browser: only a new page helps. */
function tryAgain() {
  if (halfLoaded) {
    location.reload();
  } else {
    show({ again: true });
  }
}

function contextOf(signal) {
  return {
    api, go, announce, status, signal, connection: api.connection,
    title: (text) => { document.title = text ? `${text} · Stratum` : 'Stratum'; },
  };
}

function leave() {
  shown?.stop.abort();
  shown?.view?.leave?.();
  shown = null;
  document.title = 'Stratum';
}

/** A view's code that cannot be loaded is told like any other outage. */
function inWords(error) {
  if (error instanceof api.ApiError) {
    return error;
  }
  if (error instanceof TypeError && /import|module|fetch/i.test(error.message)) {
    return new api.ApiError(0, {
      code: 'not_loaded',
      message: 'This view could not be loaded.', hint: 'Check that Stratum is running, then try again.',
    });
  }
  console.error(error);
  return new api.ApiError(0, {
    message: 'This view met an error of its own.',
    hint: `It is a fault of the page: ${error.message}`,
  });
}

function focusView(first) {
  const target = main.querySelector('[data-autofocus]') ?? (first ? null : main.querySelector('h1'));
  if (target && !main.contains(document.activeElement)) {
    target.focus({ preventScroll: true });
  }
  if (!first && !shown.view?.restored) {
    scrollTo(0, 0);
  }
}

function markNavigation(name) {
  for (const link of document.querySelectorAll('.nav a')) {
    if (link.dataset.view === name) {
      link.setAttribute('aria-current', 'page');
    } else {
      link.removeAttribute('aria-current');
    }
  }
}

// --- keyboard

let pending = 0; // until when a letter after g counts, in ms of the page's clock

function onKey(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) {
    return;
  }
  const field = event.target.closest?.('input:not([type=radio], [type=checkbox], [type=range]), textarea, select');
  if (document.querySelector('dialog[open]')) {
    return;
  }
  if (shown?.view?.key?.(event)) {
    event.preventDefault();
  } else if (event.key === 'Escape') {
    escape(field);
  } else if (!field) {
    letter(event);
  }
}

function escape(field) {
  const route = routeOf(location.hash);
  if (field) {
    field.blur();
  } else if (route.parts.length > 1) {
    go(`#/${route.parts.slice(0, -1).map(encodeURIComponent).join('/')}`);
  }
}

function letter(event) {
  const jump = pending > event.timeStamp ? GO[event.key] : null;
  pending = event.key === 'g' ? event.timeStamp + 1500 : 0;
  if (jump) {
    event.preventDefault();
    go(jump);
  } else if (event.key === '/') {
    event.preventDefault();
    toSearch();
  } else if (event.key === '?') {
    event.preventDefault();
    showKeys();
  }
}

function toSearch() {
  const field = document.getElementById('q');
  if (field) {
    field.focus();
    field.select();
  } else {
    go('#/');
  }
}

function showKeys() {
  const close = () => dialog.close();
  const dialog = h('dialog', { class: 'dialog', 'aria-labelledby': 'keys-title', on: { close: () => dialog.remove() } },
    h('h2', { id: 'keys-title', text: 'Keys' }),
    h('dl', { class: 'keys' }, KEYS.map(([keys, what]) => [
      h('dt', {}, keys.split(' ').map((key) => (key === 'then' ? ' then ' : h('kbd', { text: key })))),
      h('dd', { text: what }),
    ])),
    h('div', { class: 'dialog-foot' },
      h('button', { class: 'button', type: 'button', text: 'Close', on: { click: close } })));
  document.body.append(dialog);
  dialog.showModal();
}

// --- theme

const THEMES = { auto: 'System', light: 'Light', dark: 'Dark' };

function currentTheme() {
  return document.documentElement.dataset.theme ?? 'auto';
}

function nextTheme() {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(currentTheme()) + 1) % names.length];
  if (next === 'auto') {
    delete document.documentElement.dataset.theme;
  } else {
    document.documentElement.dataset.theme = next;
  }
  try {
    localStorage.setItem('stratum.theme', next);
  } catch {
    // Storage is switched off: the choice holds until the page is closed.
  }
  nameTheme();
  announce(`Theme: ${THEMES[next]}`);
}

function nameTheme() {
  document.getElementById('theme-name').textContent = THEMES[currentTheme()];
}

// --- session, state, connection

async function openSession() {
  const token = /^#token=([\w-]+)/.exec(location.hash)?.[1];
  if (token) {
    history.replaceState(null, '', '#/'); // before anything else: it must not stay in the history
    await startSession(token);
  }
}

/** @returns {Promise<boolean>} whether the server took the token */
async function startSession(token) {
  try {
    await api.call('POST', '/api/session', { token });
    return true;
  } catch {
    return false; // a refusal was told by `connection`, and is shown by the gate
  }
}

let follower = null;

function follow() {
  follower?.close();
  follower = document.hidden ? null : api.stream('/api/events', {
    on: (value, id, event) => (event === 'trouble' ? showTrouble(value) : status.set(value)),
  });
}

/** The server answers, but its memory cannot be opened. */
function showTrouble(told) {
  const error = told.error ?? told;
  showBanner(h('span', {}, h('b', { text: error.message }), ' ', error.hint));
}

function showBanner(...children) {
  const banner = document.getElementById('banner');
  banner.hidden = !children.length;
  replace(banner, children);
}

function showStatus(value) {
  if (api.connection.state === 'online') {
    showBanner();
  }
  const project = document.getElementById('project');
  const name = projectName(value);
  replace(project,
    h('a', { href: '#/status', title: value.project }, h('b', { text: name })),
    value.branch && h('span', { class: 'branch', text: value.branch }));
  const pulse = document.getElementById('pulse');
  const [tone, text] = pulseOf(value);
  pulse.className = `pulse ${tone}`;
  if (pulse.textContent !== text) {
    pulse.textContent = text;
  }
}

function pulseOf(value) {
  if (value.indexing) {
    return ['busy', value.indexing];
  }
  const troubles = value.degraded.length;
  if (troubles) {
    return ['warn', `${plural(troubles, 'thing needs', 'things need')} a look`];
  }
  if (value.sync?.waiting) {
    return ['busy', `${plural(value.sync.waiting, 'note waits', 'notes wait')} to be sent`];
  }
  return value.indexed_at ? ['good', 'Up to date'] : ['warn', 'No index yet'];
}

function onConnection(state, before) {
  if (state === 'offline') {
    showBanner(
      h('span', {}, h('b', { text: 'Stratum does not answer.' }),
        ' What you see is as it was. Start it again with ', h('code', { text: 'stratum web' }),
        '; this page goes on by itself.'),
      h('button', { class: 'button', type: 'button', text: 'Try now', on: { click: follow } }));
  }
  if (state !== 'offline') {
    showBanner();
  }
  if (state === 'unauthorised') {
    showGate();
  }
  if (state === 'online' && (before === 'unauthorised' || main.querySelector('[data-state=error]'))) {
    tryAgain();
  }
}

/**
 * The page was opened without its token: say how it is opened, and take one that is pasted.
 *
 * @param {string} [wrong] what was the matter with the one that was given
 */
function showGate(wrong = '') {
  leave();
  visit += 1;
  const field = h('input', {
    id: 'token', class: 'field', autocomplete: 'off', spellcheck: 'false',
    placeholder: 'http://127.0.0.1:7357/#token=…', 'data-autofocus': true,
    'aria-invalid': Boolean(wrong),
  });
  const open = async (event) => {
    event.preventDefault();
    const token = /(?:token=)?([\w-]{8,})\s*$/.exec(field.value)?.[1];
    if (!token) {
      showGate('That is no link of this page.');
      return;
    }
    api.connection.state = 'online'; // quietly: it is not known yet
    if (await startSession(token)) {
      start();
    } else {
      api.connection.state = 'unauthorised';
      showGate('The server does not know this token. Take the link that it printed last.');
    }
  };
  replace(main, h('section', { class: 'gate', data: { state: 'unauthorised' } },
    h('h1', { tabindex: '-1', text: 'Open this page with its link' }),
    h('p', {}, 'The memory of your code is shown only to whoever holds the link that ',
      h('code', { text: 'stratum web' }), ' prints in your terminal.'),
    h('form', { on: { submit: open } },
      h('label', { for: 'token', text: 'Paste the link or its token' }),
      h('div', { class: 'row' }, field,
        h('button', { class: 'button primary', type: 'submit', text: 'Open' })),
      h('p', { class: 'form-error', role: 'alert', text: wrong }))));
  field.focus();
}

async function start() {
  await openSession();
  if (api.connection.state === 'unauthorised') {
    showGate();
    return;
  }
  follow();
  await show({ again: true });
}

api.connection.listeners.add(onConnection);
status.subscribe(showStatus);
addEventListener('hashchange', () => {
  if (location.hash.startsWith('#token=')) {
    start();
  } else {
    show();
  }
});
addEventListener('keydown', onKey);
document.addEventListener('visibilitychange', follow);
document.getElementById('theme').addEventListener('click', nextTheme);
document.getElementById('keys').addEventListener('click', showKeys);
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault(); // a hash of its own would be taken for a route
  main.focus();
});
nameTheme();
append(main, loading('Loading', 6));
start();
