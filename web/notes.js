/** All notes, any number of them, with the chosen one beside the list. */

import { choice, empty, failed, h, loading, place, replace, segments, verdict } from './dom.js';
import { ago, number, plural } from './format.js';
import { virtualList } from './list.js';
import { showNote } from './note.js';
import { openForm } from './write.js';

const PAGE = 100;
const ROW = 66;
const STATES = [
  ['living', 'In use'], ['review', 'To review'], ['proposed', 'Proposed'], ['accepted', 'Accepted'],
  ['rejected', 'Rejected'], ['superseded', 'Superseded'], ['forgotten', 'Forgotten'], ['all', 'All'],
];
const ORDERS = [['newest', 'Newest first'], ['oldest', 'Oldest first'], ['most_used', 'Most used first']];
const NOTHING = {
  living: ['No notes yet', 'A note is a thing that somebody learned, tied to a place in the code. Agents write them; you can too.'],
  review: ['Nothing to review', 'Every note that is tied to a place still holds there.'],
  proposed: ['Nothing is proposed', 'Notes of your team wait here until you accept or reject them.'],
  accepted: ['Nothing was accepted yet', 'An accepted note of a colleague counts like one of your own.'],
  rejected: ['Nothing was rejected', 'A rejected note is shown by no search on this machine.'],
  superseded: ['Nothing was superseded', 'When a note is written anew, the old one is kept here.'],
  forgotten: ['Nothing was forgotten', 'Forgotten notes can be brought back from here.'],
  all: ['No notes yet', 'A note is a thing that somebody learned, tied to a place in the code.'],
};

/**
 * @param {*} route
 * @param {HTMLElement} container
 * @param {*} context
 */
export function show(route, container, context) {
  return new NotesView(route, container, context);
}

class NotesView {
  constructor(route, container, context) {
    this.context = context;
    this.head = h('div', { class: 'toolbar' });
    this.total = h('span', { class: 'soft small', role: 'status' });
    this.listPane = h('div', { class: 'notes-list' });
    this.detail = h('div', { class: 'notes-detail', hidden: true });
    this.panes = h('div', { class: 'notes-panes' }, this.listPane, this.detail);
    replace(container,
      h('div', { class: 'head notes-head' },
        h('div', { class: 'row' }, h('h1', { tabindex: '-1', text: 'Notes' }), this.total),
        h('button', { class: 'button primary', type: 'button', text: 'Write a note', title: 'Key: c', on: { click: () => this.write() } })),
      this.head, this.panes);
    this.stopStatus = context.status.subscribe((status) => this.onStatus(status));
    this.update(route);
  }

  update(route) {
    this.route = route;
    const state = route.query.get('state') ?? 'living';
    const order = route.query.get('order') ?? 'newest';
    if (state !== this.state || order !== this.order) {
      Object.assign(this, { state, order });
      this.drawHead();
      this.load();
    }
    this.showDetail(route.parts[1]);
    if (route.query.has('write')) {
      this.context.go(this.address(route.parts[1]), { replace: true });
      this.write();
    }
  }

  leave() {
    this.stopStatus();
    this.pane?.close();
    this.list?.close();
    clearTimeout(this.follow);
    clearTimeout(this.later);
  }

  key(event) {
    if (this.pane?.key(event)) {
      return true;
    }
    const typing = event.target.matches?.('input, textarea, select');
    if (event.key === 'Escape' && this.open && !typing) {
      this.context.go(this.address());
      this.list?.node.focus();
      return true;
    }
    if (event.key === 'c' && !typing) {
      this.write();
      return true;
    }
    const moves = ['ArrowDown', 'ArrowUp'].includes(event.key) && !typing && !event.target.closest?.('pre');
    if (moves && this.list && document.activeElement !== this.list.node) {
      this.list.node.focus();
      return true;
    }
    return false;
  }

  address(id, changes = {}) {
    const query = new URLSearchParams();
    const { state, order } = { state: this.state, order: this.order, ...changes };
    if (state !== 'living') {
      query.set('state', state);
    }
    if (order !== 'newest') {
      query.set('order', order);
    }
    const told = query.toString();
    return `#/notes${id ? `/${encodeURIComponent(id)}` : ''}${told ? `?${told}` : ''}`;
  }

  drawHead() {
    const change = (changes) => this.context.go(this.address(null, changes), { replace: true });
    if (this.head.contains(document.activeElement)) {
      return; // the control that has the focus changed: it shows the choice already
    }
    replace(this.head,
      segments('Which notes', STATES, this.state, (state) => change({ state })),
      choice('Order', ORDERS, this.order, (order) => change({ order })));
  }

  onStatus(status) {
    const told = JSON.stringify([status.counts.notes, status.counts.forgotten, status.commit, status.indexed_at]);
    if (this.told && this.told !== told) {
      this.changed();
    }
    this.told = told;
  }

  /** Something was written or judged anew: fetch again what is in view, at the same place. */
  changed() {
    clearTimeout(this.later);
    this.later = setTimeout(() => this.load(true), 100);
  }

  write() {
    openForm(this.context, null, () => this.changed());
  }

  // --- the list

  async load(quiet = false) {
    const mine = (this.loadNumber ?? 0) + 1;
    this.loadNumber = mine;
    if (!quiet) {
      this.list?.close();
      this.list = null;
      this.total.textContent = '';
      replace(this.listPane, h('div', { class: 'list-wait' }, loading('Loading the notes', 8)));
    }
    try {
      const source = this.state === 'review' ? await this.reviewed() : await this.paged(quiet);
      if (mine === this.loadNumber && !this.context.signal.aborted) {
        this.source = source;
        this.drawList();
      }
    } catch (error) {
      if (mine === this.loadNumber && !this.context.api.aborted(error)) {
        replace(this.listPane, failed(error, () => this.load()));
        this.list?.close();
        this.list = null;
      }
    }
  }

  async reviewed() {
    const report = await this.context.api.get('/api/check', {}, this.context.signal);
    const rows = report.stale.map((hit) => ({ ...hit, verdict: hit.freshness }));
    return { total: rows.length, rows: new Map(rows.entries()), pages: null };
  }

  async paged(quiet) {
    const first = quiet && this.list ? Math.floor(this.list.index / PAGE) : 0;
    const page = await this.fetchPage(first);
    const rows = new Map();
    page.notes.forEach((note, at) => rows.set(page.offset + at, note));
    return { total: page.total, rows, pages: new Set([first]) };
  }

  fetchPage(number_) {
    return this.context.api.get('/api/notes', {
      offset: String(number_ * PAGE), limit: PAGE, state: this.state, order: this.order,
    }, this.context.signal);
  }

  drawList() {
    const { total } = this.source;
    this.total.textContent = total ? plural(total, 'note') : '';
    if (!total) {
      this.list?.close();
      this.list = null;
      const [title, text] = NOTHING[this.state] ?? NOTHING.all;
      replace(this.listPane, empty({
        title, text, command: this.state === 'living' ? 'stratum write "What you learned" --at path::symbol' : null,
      }));
      return;
    }
    if (this.list) {
      this.list.setCount(total);
      return;
    }
    this.list = virtualList({
      label: 'Notes', count: total, height: ROW,
      render: (at) => this.row(at),
      open: (at) => this.openAt(at),
      active: (at) => this.followKeys(at),
      seen: (first, last) => this.seen(first, last),
    });
    this.list.node.setAttribute('data-autofocus', '');
    replace(this.listPane, this.list.node);
    this.markOpen();
    if (!this.open && !document.activeElement?.closest('main')) {
      this.list.node.focus({ preventScroll: true });
    }
  }

  openAt(at) {
    const note = this.source.rows.get(at);
    if (note) {
      this.context.go(this.address(note.id));
    }
  }

  /** With a note beside the list, the arrow keys show the one they come to. */
  followKeys(at) {
    clearTimeout(this.follow);
    if (this.open) {
      this.follow = setTimeout(() => {
        const note = this.source.rows.get(at);
        if (note) {
          this.context.go(this.address(note.id), { replace: true });
        }
      }, 180);
    }
  }

  async seen(first, last) {
    const source = this.source;
    try {
      if (source.pages) {
        await this.loadPages(source, first, last);
        await this.judge(source, first, last);
      }
    } catch (error) {
      if (!this.context.api.aborted(error) && error.status !== 0) {
        this.total.textContent = error.message;
      }
    }
  }

  async loadPages(source, first, last) {
    for (let page = Math.floor(first / PAGE); page <= Math.floor(last / PAGE); page += 1) {
      if (!source.pages.has(page)) {
        source.pages.add(page);
        try {
          const answer = await this.fetchPage(page);
          answer.notes.forEach((note, at) => source.rows.set(answer.offset + at, note));
        } catch (error) {
          source.pages.delete(page);
          throw error;
        }
        this.refresh(source);
      }
    }
  }

  /** Ask for the freshness of the rows in view that have none yet. */
  async judge(source, first, last) {
    const asked = [];
    for (let at = first; at <= last && asked.length < 200; at += 1) {
      const note = source.rows.get(at);
      if (note && note.verdict === undefined && !note.deleted_at) {
        note.verdict = null;
        asked.push(note);
      }
    }
    if (!asked.length) {
      return;
    }
    try {
      const answer = await this.context.api.post(
        '/api/freshness', { ids: asked.map((note) => note.id) }, this.context.signal);
      asked.forEach((note) => { note.verdict = answer.freshness[note.id] ?? ''; });
    } catch (error) {
      asked.forEach((note) => { delete note.verdict; });
      throw error;
    }
    this.refresh(source);
  }

  refresh(source) {
    if (source === this.source) {
      this.list?.refresh();
    }
  }

  row(at) {
    const note = this.source.rows.get(at);
    if (!note) {
      return h('div', { class: 'nrow' }, h('span', { class: 'waiting-verdict' }), h('span', { class: 'ghost' }));
    }
    const gone = note.deleted_at || note.superseded;
    const judged = note.verdict ? verdict(note.verdict) : null;
    return h('div', { class: 'nrow' },
      h('div', { class: 'nrow-state' },
        judged ?? (gone ? h('span', { class: 'small soft', text: note.deleted_at ? 'Forgotten' : 'Superseded' })
          : h('span', { class: 'waiting-verdict', role: 'presentation' }))),
      h('div', { class: 'nrow-text' },
        h('p', { class: gone ? 'struck' : '', text: note.text || '(its text is gone)' }),
        h('div', { class: 'nrow-meta' },
          h('span', { text: note.kind }),
          note.path && place(note.path, note.start_line),
          note.symbol && h('span', { class: 'mono', text: note.symbol }),
          note.change?.[0] && h('span', { text: note.change[0] }),
          (note.tags ?? []).slice(0, 3).map((tag) => h('span', { class: 'tag', text: tag })))),
      h('div', { class: 'nrow-side' },
        h('div', {}, note.author ?? note.origin ?? '', note.machine && h('span', { text: ` on ${note.machine}` })),
        h('div', {}, note.created_at && ago(note.created_at),
          note.uses > 0 && [' · ', h('b', { text: number(note.uses) }), ' used'])));
  }

  // --- the note beside it

  showDetail(id) {
    const before = this.open;
    this.open = id ?? null;
    this.panes.classList.toggle('open', Boolean(id));
    this.detail.hidden = !id;
    if (id && id !== before) {
      this.pane?.close();
      this.detail.scrollTop = 0;
      this.pane = showNote(id, this.detail, this.context, {
        back: this.address(), changed: () => this.changed(),
      });
    }
    if (!id) {
      this.pane?.close();
      this.pane = null;
      this.context.title('Notes');
      replace(this.detail);
    }
    if (Boolean(id) !== Boolean(before)) {
      this.list?.refresh();
    }
    this.markOpen();
  }

  markOpen() {
    if (!this.open || !this.list) {
      return;
    }
    for (const [at, note] of this.source.rows) {
      if (note.id === this.open) {
        if (this.list.index !== at) {
          this.list.activate(at);
        }
        return;
      }
    }
  }
}
