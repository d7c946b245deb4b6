/**
 * Building and changing the page. Text always goes in as text: nothing here parses markup.
 */

const SVG = 'http://www.w3.org/2000/svg';

/** @typedef {Node | string | number | null | undefined | false | Child[]} Child */

/**
 * Make an element.
 *
 * @param {string} tag
 * @param {Object<string, *>} [props] `class`, `text`, `on` (listeners by name), `data` (data
 *   attributes), `vars` (custom properties), `value` and `checked` (as properties); all others are
 *   attributes. `true` is an attribute without value; `false`, null and undefined are left out,
 *   except that `aria-*` are always written out.
 * @param {...Child} children
 * @returns {HTMLElement}
 */
export function h(tag, props = {}, ...children) {
  return dress(document.createElement(tag), props, children);
}

/**
 * Make an SVG element; the same properties as `h`.
 *
 * @param {string} tag
 * @param {Object<string, *>} [props]
 * @param {...Child} children
 * @returns {SVGElement}
 */
export function svg(tag, props = {}, ...children) {
  return dress(document.createElementNS(SVG, tag), props, children);
}

function dress(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    setProp(node, name, value);
  }
  append(node, children);
  return node;
}

function setProp(node, name, value) {
  if (value === null || value === undefined) {
    return;
  }
  if (name === 'text') {
    node.textContent = String(value);
  } else if (name === 'on') {
    for (const [event, listener] of Object.entries(value)) {
      node.addEventListener(event, listener);
    }
  } else if (name === 'data') {
    Object.assign(node.dataset, value);
  } else if (name === 'vars') {
    for (const [variable, amount] of Object.entries(value)) {
      node.style.setProperty(variable, String(amount));
    }
  } else if (name === 'value' || name === 'checked') {
    node[name] = value;
  } else if (name.startsWith('aria-')) {
    node.setAttribute(name, String(value));
  } else if (value !== false) {
    node.setAttribute(name, value === true ? '' : String(value));
  }
}

/**
 * @param {Node} node
 * @param {...Child} children
 */
export function append(node, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) {
      node.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
    }
  }
}

/**
 * Put `children` in the place of everything in `node`.
 *
 * @param {Node} node
 * @param {...Child} children
 */
export function replace(node, ...children) {
  node.textContent = '';
  append(node, children);
}

/**
 * Say something to screen readers without moving the focus.
 *
 * @param {string} text
 */
export function announce(text) {
  const region = document.getElementById('announcer');
  if (region) {
    region.textContent = text;
  }
}

/**
 * Show a message that goes by itself, with at most one thing to do about it.
 *
 * @param {string} text
 * @param {{label: string, run: () => void}} [action]
 */
export function toast(text, action) {
  const region = document.getElementById('toasts');
  if (!region) {
    return;
  }
  const remove = () => message.remove();
  const message = h('div', { class: 'toast' }, h('span', { text }));
  if (action) {
    const run = () => {
      remove();
      action.run();
    };
    message.append(h('button', { class: 'link', type: 'button', text: action.label, on: { click: run } }));
  }
  while (region.childElementCount >= 2) {
    region.firstElementChild.remove();
  }
  region.append(message);
  // Long enough to read and to reach by keyboard; it stays while it has the focus.
  const leave = () => (message.contains(document.activeElement) ? setTimeout(leave, 4000) : remove());
  setTimeout(leave, 9000);
}

/** Take away all messages: what they offer to undo is no longer the last thing that was done. */
export function clearToasts() {
  const region = document.getElementById('toasts');
  if (region) {
    region.textContent = '';
  }
}

/**
 * A view, or a part of one, that is still being loaded.
 *
 * @param {string} label
 * @param {number} [rows] grey lines to draw
 * @returns {HTMLElement}
 */
export function loading(label, rows = 5) {
  const lines = Array.from({ length: rows }, () => h('div', { class: 'ghost' }));
  return h('div', { class: 'loading', role: 'status', data: { state: 'loading' } },
    h('span', { class: 'sr', text: label }), lines);
}

/**
 * What stands where there is nothing to show: what is missing, why, and what to do.
 *
 * @param {{title: string, text?: Child, command?: string, action?: Child}} what
 * @returns {HTMLElement}
 */
export function empty({ title, text, command, action }) {
  return h('div', { class: 'empty', data: { state: 'empty' } },
    layers('empty-art'),
    h('h2', { text: title }),
    text && h('p', {}, text),
    command && copyable(command),
    action);
}

/**
 * An error in words, with its cure and a button to try again.
 *
 * @param {{message: string, hint?: string}} error
 * @param {() => void} [retry]
 * @returns {HTMLElement}
 */
export function failed(error, retry) {
  return h('div', { class: 'empty error', role: 'alert', data: { state: 'error' } },
    layers('empty-art broken'),
    h('h2', { text: error.message || 'Something went wrong.' }),
    error.hint && h('p', { text: error.hint }),
    retry && h('button', { class: 'button', type: 'button', text: 'Try again', on: { click: retry } }));
}

/**
 * A command line with a button that copies it.
 *
 * @param {string} command
 * @returns {HTMLElement}
 */
export function copyable(command) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(command);
      announce('Copied.');
      button.textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = 'Selected';
    }
    setTimeout(() => { button.textContent = 'Copy'; }, 2000);
  };
  const code = h('code', { text: command });
  const button = h('button', { class: 'link', type: 'button', text: 'Copy', on: { click: copy } });
  return h('div', { class: 'command' }, code, button);
}

/** The mark of Stratum: three layers, one above the other. Drawn only, nothing is told by it. */
function layers(className) {
  return svg('svg', { class: className, viewBox: '0 0 120 60', 'aria-hidden': true },
    svg('path', { class: 'l1', d: 'M6 18C30 8 52 22 74 14S106 12 114 17' }),
    svg('path', { class: 'l2', d: 'M6 33C28 25 50 38 74 30S104 28 114 32' }),
    svg('path', { class: 'l3', d: 'M6 48C30 41 52 53 76 45S104 44 114 47' }));
}

const FRESHNESS = {
  fresh: ['Fresh', 'The code it speaks of is as it was.'],
  moved: ['Moved', 'The code it speaks of is the same, at another place.'],
  changed: ['Changed', 'The code it speaks of has changed since; it is withheld.'],
  gone: ['Gone', 'The code it speaks of is no longer there; it is withheld.'],
  'other-branch': ['Other branch', 'It was written on a branch that HEAD is not built on; it is withheld.'],
  unanchored: ['No place', 'It is tied to no place in the code, so nothing can tell whether it holds.'],
};

/**
 * A verdict as a coloured word with a shape, so that colour is not all that tells them apart.
 *
 * @param {string | null | undefined} freshness as in `stratum.models.Freshness`
 * @returns {HTMLElement | null}
 */
export function verdict(freshness) {
  const known = freshness ? FRESHNESS[freshness] : null;
  return known && h('span', { class: `verdict ${freshness}`, title: known[1], text: known[0] });
}

/**
 * A path with its lines, the file's name told apart from its folders.
 *
 * @param {string} path
 * @param {number | null} [start] first line
 * @param {number | null} [end] last line
 * @returns {HTMLElement}
 */
export function place(path, start, end) {
  const cut = path.lastIndexOf('/') + 1;
  const lines = start ? `:${start}${end && end !== start ? `-${end}` : ''}` : '';
  return h('span', { class: 'place' },
    cut > 0 && h('span', { class: 'folders', text: path.slice(0, cut) }),
    h('span', { class: 'file', text: path.slice(cut) }),
    lines && h('span', { class: 'lines', text: lines }));
}

/**
 * A row of choices of which one holds, for the mouse and the arrow keys.
 *
 * @param {string} label
 * @param {Array<[value: string, text: string]>} choices
 * @param {string} chosen
 * @param {(value: string) => void} change
 * @returns {HTMLElement}
 */
export function segments(label, choices, chosen, change) {
  const name = `seg-${Math.random().toString(36).slice(2)}`;
  return h('fieldset', { class: 'segments' },
    h('legend', { class: 'sr', text: label }),
    choices.map(([value, text]) => h('label', {},
      h('input', {
        type: 'radio', name, value, checked: value === chosen,
        on: { change: () => change(value) },
      }),
      h('span', { text }))));
}

/**
 * A labelled choice from a list.
 *
 * @param {string} label
 * @param {Array<[value: string, text: string]>} choices
 * @param {string} chosen
 * @param {(value: string) => void} change
 * @returns {HTMLElement}
 */
export function choice(label, choices, chosen, change) {
  return h('label', { class: 'choice' },
    h('span', { text: label }),
    h('select', { on: { change: (event) => change(event.target.value) } },
      choices.map(([value, text]) => h('option', { value, text, selected: value === chosen }))));
}

/**
 * Move the focus among the links and buttons marked `data-row` below `root` with the arrow keys.
 *
 * @param {HTMLElement} root
 * @param {KeyboardEvent} event
 * @returns {boolean} whether the key was used
 */
export function arrowFocus(root, event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) {
    return false;
  }
  const rows = [...root.querySelectorAll('[data-row]')];
  const at = rows.indexOf(document.activeElement);
  const next = at < 0 ? (step > 0 ? 0 : -1) : at + step;
  if (!rows[next]) {
    return false;
  }
  rows[next].focus();
  event.preventDefault();
  return true;
}
