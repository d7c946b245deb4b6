/**
 * A list of any length of which only the rows in view exist.
 *
 * The rows are of one height. One row is the active one; it is moved by the arrow keys, Page Up,
 * Page Down, Home and End, and opened by Enter or a click.
 */

import { h } from './dom.js';

const AROUND = 8; // rows made above and below what is seen, so that scrolling shows no gap

/**
 * @param {{
 *   label: string,
 *   count: number,
 *   height: number,
 *   render: (index: number) => Node,
 *   open?: (index: number) => void,
 *   seen?: (first: number, last: number) => void,
 *   active?: (index: number) => void,
 * }} options `height` is that of a row in pixels; `seen` is told the rows that are in view, once
 *   scrolling rests; `active` the row that the keys moved to
 * @returns {{node: HTMLElement, setCount: (n: number) => void, refresh: () => void,
 *   activate: (index: number) => void, readonly index: number, close: () => void}}
 */
export function virtualList({ label, count, height, render, open, seen, active }) {
  const id = `list-${Math.random().toString(36).slice(2)}`;
  const body = h('div', { class: 'vbody', role: 'presentation' });
  const node = h('div', { class: 'vlist', role: 'listbox', tabindex: '0', 'aria-label': label }, body);
  /** @type {Map<number, HTMLElement>} */
  const rows = new Map();
  let total = count;
  let index = 0;
  let frame = 0;
  let rest = 0;

  function draw() {
    frame = 0;
    const top = node.scrollTop;
    const shown = node.clientHeight || 600;
    const first = Math.max(0, Math.floor(top / height) - AROUND);
    const last = Math.min(total - 1, Math.ceil((top + shown) / height) + AROUND);
    for (const [at, row] of rows) {
      if (at < first || at > last) {
        row.remove();
        rows.delete(at);
      }
    }
    for (let at = first; at <= last; at += 1) {
      if (!rows.has(at)) {
        rows.set(at, makeRow(at));
        body.append(rows.get(at));
      }
    }
    clearTimeout(rest);
    rest = setTimeout(() => total && seen?.(Math.max(0, first), Math.max(0, last)), 60);
  }

  function makeRow(at) {
    const row = h('div', {
      class: at === index ? 'vrow active' : 'vrow', role: 'option', id: `${id}-${at}`,
      'aria-selected': at === index, 'aria-setsize': total, 'aria-posinset': at + 1,
      on: { click: () => { move(at); open?.(at); } },
    }, render(at));
    row.style.transform = `translateY(${at * height}px)`;
    return row;
  }

  function later() {
    frame ||= requestAnimationFrame(draw);
  }

  function redraw() {
    rows.forEach((row) => row.remove());
    rows.clear();
    body.style.height = `${total * height}px`;
    draw();
    mark();
  }

  function mark() {
    for (const [at, row] of rows) {
      row.classList.toggle('active', at === index);
      row.setAttribute('aria-selected', String(at === index));
    }
    if (rows.has(index)) {
      node.setAttribute('aria-activedescendant', `${id}-${index}`);
    } else {
      node.removeAttribute('aria-activedescendant');
    }
  }

  function move(to) {
    index = Math.max(0, Math.min(total - 1, to));
    const top = index * height;
    if (top < node.scrollTop) {
      node.scrollTop = top;
    } else if (top + height > node.scrollTop + node.clientHeight) {
      node.scrollTop = top + height - node.clientHeight;
    }
    draw();
    mark();
  }

  function onKey(event) {
    const page = Math.max(1, Math.floor(node.clientHeight / height) - 1);
    const to = {
      ArrowDown: index + 1, ArrowUp: index - 1, PageDown: index + page, PageUp: index - page,
      Home: 0, End: total - 1,
    }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    if (to !== undefined) {
      event.preventDefault();
      move(to);
      active?.(index);
    } else if (event.key === 'Enter' && total) {
      event.preventDefault();
      open?.(index);
    }
  }

  node.addEventListener('scroll', later, { passive: true });
  node.addEventListener('keydown', onKey);
  const watcher = new ResizeObserver(later);
  watcher.observe(node);
  node.style.setProperty('--row', `${height}px`);
  redraw();

  return {
    node,
    setCount(n) {
      total = n;
      index = Math.max(0, Math.min(index, n - 1));
      redraw();
    },
    refresh: redraw,
    activate: move,
    get index() { return index; },
    close() {
      watcher.disconnect();
      cancelAnimationFrame(frame);
      clearTimeout(rest);
    },
  };
}
