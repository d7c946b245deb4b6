/** One note in full: what it says, whether it holds, the code it speaks of, its past and its use. */

import { append, clearToasts, failed, h, loading, place, replace, toast, verdict } from './dom.js';
import { ago, number, plural, when } from './format.js';
import { anchorText, askForPlaces, openForm, tell } from './write.js';

const STALE = ['changed', 'gone', 'other-branch'];
const VERBS = {
  write: 'written', import: 'imported', verify: 'found to hold', forget: 'forgotten', restore: 'brought back',
  accept: 'accepted', reject: 'rejected', supersede: 'superseded', merge: 'written again', receive: 'received from the team',
};

/**
 * Show a note in `container`.
 *
 * @param {string} id
 * @param {HTMLElement} container
 * @param {*} context as the views get it
 * @param {{back: string, changed: () => void}} frame where the list is, and whom to tell of changes
 * @returns {{close: () => void, key: (event: KeyboardEvent) => boolean}}
 */
export function showNote(id, container, context, frame) {
  return new NotePane(id, container, context, frame);
}

class NotePane {
  constructor(id, container, context, frame) {
    Object.assign(this, { id, container, context, frame });
    this.stop = new AbortController();
    this.actions = [];
    replace(container, loading('Loading the note', 4));
    this.load();
  }

  close() {
    this.stop.abort();
  }

  key(event) {
    const action = this.actions.find((each) => each.key === event.key);
    if (!action || event.target.matches?.('input, textarea, select')) {
      return false;
    }
    action.run();
    return true;
  }

  async load() {
    try {
      this.told = await this.context.api.get(`/api/notes/${encodeURIComponent(this.id)}`, {}, this.stop.signal);
      this.draw();
    } catch (error) {
      if (!this.context.api.aborted(error)) {
        replace(this.container, this.back(), failed(error, () => this.load()));
      }
    }
  }

  back() {
    return h('a', { class: 'back small', href: this.frame.back, text: 'All notes' });
  }

  draw() {
    const { entry, sources, history, uses, successors, supersedes } = this.told;
    const note = entry.note;
    this.actions = this.actionsFor(note, entry.freshness, successors);
    this.context.title(note.text.slice(0, 60));
    const page = h('article', { class: 'note-page' });
    append(page,
      this.back(),
      facts(note, entry.freshness),
      h('h2', { class: 'note-say', tabindex: '-1', text: note.text || 'This note was forgotten; its text is gone.' }),
      h('div', { class: 'note-actions' }, this.actions.map(button)),
      relations(note, successors, supersedes),
      standing(entry),
      h('div', { class: 'stack' }, sources.map(source)),
      h('div', { class: 'note-columns' }, timeline(history), usage(uses)),
      origin(note));
    replace(this.container, page);
    if (document.activeElement === document.body) {
      page.querySelector('h2').focus({ preventScroll: true }); // the list gave way to the note
    }
  }

  actionsFor(note, freshness, successors) {
    if (note.deleted_at) {
      return note.text ? [{ label: 'Bring it back', key: 'x', tone: 'primary', run: () => this.change('forget', { undo: true }) }] : [];
    }
    const actions = [];
    if (STALE.includes(freshness)) {
      actions.push({ label: 'It still holds', key: 'v', tone: 'primary', run: () => this.verify() });
    }
    if (note.trust === 'proposed') {
      actions.push(
        { label: 'Accept', key: 'a', tone: actions.length || !note.machine ? '' : 'primary', run: () => this.change('accept', {}, 'accept') },
        { label: 'Reject', key: 'r', run: () => this.change('reject', {}, 'reject') });
    } else if (note.trust === 'rejected') {
      actions.push({ label: 'Take back the rejection', key: 'r', run: () => this.change('reject', { undo: true }) });
    }
    if (!successors.length) {
      actions.push({ label: 'Write anew', key: 'e', run: () => openForm(this.context, note, this.frame.changed) });
    }
    actions.push({ label: 'Forget', key: 'x', tone: 'danger', run: () => this.change('forget', {}, 'forget') });
    return actions;
  }

  async verify(anchors) {
    try {
      await this.put('verify', anchors ? { anchors } : {}, 'verify');
    } catch (error) {
      if (anchors) {
        throw error;
      }
      if (error.code === 'invalid_input') {
        askForPlaces(this.told.entry.note, error, (given) => this.verify(given));
      } else {
        this.say(error);
      }
    }
  }

  async change(verb, body, undo) {
    try {
      await this.put(verb, body, undo);
    } catch (error) {
      this.say(error);
    }
  }

  async put(verb, body, undo) {
    clearToasts();
    const written = await this.context.api.post(`/api/notes/${encodeURIComponent(this.id)}/${verb}`, body);
    tell(written, undo && (() => this.change(undo, { undo: true })));
    this.frame.changed();
    await this.load();
  }

  say(error) {
    toast([error.message, error.hint].filter(Boolean).join(' '));
  }
}

function button({ label, key, tone, run }) {
  return h('button', {
    class: `button ${tone ?? ''}`, type: 'button', 'aria-keyshortcuts': key, title: `Key: ${key}`,
    text: label, on: { click: run },
  });
}

function facts(note, freshness) {
  return h('div', { class: 'note-facts' },
    h('span', { class: 'badge', text: note.kind }),
    !note.deleted_at && verdict(freshness),
    note.trust !== 'proposed' && h('span', { text: note.trust }),
    note.trust === 'proposed' && note.machine && h('span', { text: 'proposed by the team' }),
    note.scope === 'team' && h('span', { text: 'shared with the team' }),
    note.deleted_at && h('span', { text: `forgotten ${ago(note.deleted_at)}` }),
    note.tags.map((tag) => h('span', { class: 'tag', text: tag })));
}

function relations(note, successors, supersedes) {
  const older = supersedes ?? note.supersedes;
  if (!successors.length && !older) {
    return null;
  }
  return h('p', { class: 'small' },
    successors.length > 0 && [h('b', { text: 'Superseded by ' }), links(successors), ' '],
    older && ['It stands in the place of ', links([older]), '.']);
}

const links = (ids) => ids.map((id, at) => [
  at > 0 && ', ', h('a', { class: 'mono', href: `#/notes/${encodeURIComponent(id)}`, text: id }),
]);

/** What has become of each place, where that needs to be said. */
function standing(entry) {
  const told = entry.elsewhere
    ? [{ freshness: 'other-branch', reason: entry.elsewhere, change: [] }]
    : entry.verdicts.filter((each) => each.reason || each.change.length || each.freshness !== 'fresh');
  return told.map((each) => h('div', { class: `standing ${each.freshness}` },
    h('div', { class: 'row' }, verdict(each.freshness), each.path && place(each.path, each.start_line, each.end_line)),
    each.reason && h('p', { text: each.reason }),
    each.change.map((line) => h('p', { text: line }))));
}

function source(part) {
  return h('figure', { class: 'source' },
    h('figcaption', {},
      h('a', { href: `#/map?path=${encodeURIComponent(part.path)}` }, place(part.path, part.start_line, part.end_line)),
      h('span', { class: 'soft', text: part.truncated ? `${part.language || 'text'}, the first lines` : part.language || 'text' })),
    h('pre', { tabindex: '0', 'aria-label': `${part.path}, lines ${part.start_line} to ${part.end_line}` },
      h('ol', { vars: { '--from': (part.start_line ?? 1) - 1 } }, part.lines.map((text) => h('li', { text })))));
}

function timeline(history) {
  return history.length > 0 && h('section', { class: 'panel' },
    h('h2', { text: 'What happened to it' }),
    h('ol', { class: 'timeline' }, history.map((step) => h('li', {},
      h('span', { title: when(step.at) },
        h('b', { text: VERBS[step.verb] ?? step.verb }), ` ${ago(step.at)}`,
        step.author && ` by ${step.author}`, step.agent && `, through ${step.agent}`),
      step.text && h('q', { text: step.text })))));
}

function usage(uses) {
  const sums = new Map();
  for (const { agent, count } of uses) {
    sums.set(agent, (sums.get(agent) ?? 0) + count);
  }
  const rows = [...sums].sort((a, b) => b[1] - a[1]);
  const most = Math.max(1, ...sums.values());
  const last = uses.map((use) => use.day).sort().pop();
  return h('section', { class: 'panel' },
    h('h2', { text: 'Who was shown it' }),
    rows.length
      ? [
        h('div', { class: 'uses' }, rows.map(([agent, count]) => [
          h('span', { class: 'wrap', text: agent || 'somebody' }),
          h('i', { vars: { '--share': count / most }, 'aria-hidden': true }),
          h('span', { text: number(count) }),
        ])),
        h('p', { class: 'small soft', text: `Last on ${last}.` }),
      ]
      : h('p', { class: 'small soft', text: 'Nobody yet.' }));
}

function origin(note) {
  const rows = [
    ['Written', `${when(note.created_at)}${note.author ? ` by ${note.author}` : ''}${note.agent ? `, through ${note.agent}` : ''}`],
    note.machine && ['Came from', note.machine],
    note.commit && ['At commit', `${note.commit.slice(0, 12)}${note.branch ? ` on ${note.branch}` : ''}`],
    note.anchors.length > 0 && [plural(note.anchors.length, 'Place').replace(/^\S+ /, ''), note.anchors.map(anchorText).join(', ')],
    ['Id', note.id],
  ].filter(Boolean);
  return h('dl', { class: 'facts panel' }, rows.map(([name, value]) => [
    h('dt', { text: name }), h('dd', { text: value }),
  ]));
}
