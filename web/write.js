/** The form in which a note is written, or written anew in the place of another one. */

import { post } from './api.js';
import { h, segments, toast } from './dom.js';

export const KINDS = ['fact', 'decision', 'gotcha', 'fix', 'howto', 'todo'];

/**
 * An anchor as it is typed.
 *
 * @param {{path: string, symbol?: string | null, start_line?: number | null, end_line?: number | null}} anchor
 * @returns {string} "path::symbol", "path:3-7" or "path"
 */
export function anchorText({ path, symbol, start_line: start, end_line: end }) {
  if (symbol) {
    return `${path}::${symbol}`;
  }
  return start ? `${path}:${start}${end && end !== start ? `-${end}` : ''}` : path;
}

/**
 * Open the form.
 *
 * @param {*} context as the views get it
 * @param {*} [old] the note that the new one takes the place of
 * @param {() => void} [changed] told when a note was written
 */
export function openForm(context, old, changed) {
  const draft = { scope: old?.scope ?? 'personal' };
  const text = h('textarea', { rows: 5, required: true, value: old?.text ?? '', class: 'field' });
  const kind = h('select', {}, KINDS.map((name) => h('option', {
    value: name, text: name, selected: name === (old?.kind ?? 'fact'),
  })));
  const tags = h('input', { class: 'field', value: (old?.tags ?? []).join(' '), autocomplete: 'off', spellcheck: 'false' });
  const anchors = h('textarea', {
    rows: 2, class: 'field mono', spellcheck: 'false', placeholder: 'src/app.py::Session.refresh',
    value: (old?.anchors ?? []).map(anchorText).join('\n'),
  });
  const error = h('p', { class: 'form-error', role: 'alert' });
  const save = h('button', { class: 'button primary', type: 'submit', text: old ? 'Write it anew' : 'Keep it' });

  const submit = async (event) => {
    event.preventDefault();
    save.disabled = true;
    error.textContent = '';
    try {
      const written = await post('/api/notes', {
        text: text.value, kind: kind.value, scope: draft.scope, supersedes: old?.id ?? null,
        tags: words(tags.value), anchors: lines(anchors.value),
      });
      dialog.close();
      tell(written);
      changed?.();
      context.go(`#/notes/${written.note.id}`);
    } catch (failure) {
      error.textContent = [failure.message, failure.hint].filter(Boolean).join(' ');
    }
    save.disabled = false;
  };

  const dialog = h('dialog', {
    class: 'dialog', 'aria-labelledby': 'write-title', on: { close: () => dialog.remove() },
  },
  h('h2', { id: 'write-title', text: old ? 'Write this note anew' : 'Write a note' }),
  h('form', { class: 'form', on: { submit } },
    h('label', {}, 'What should a later session know?', text),
    h('label', {}, 'Where in the code?', h('small', { text: 'One place a line: path, path::symbol or path:3-7. When the code there changes, the note is withheld until somebody looks.' }), anchors),
    h('div', { class: 'two' },
      h('label', {}, 'Kind', kind),
      h('label', {}, 'Tags', tags)),
    h('div', { class: 'row' },
      segments('Who may read it', [['personal', 'For me'], ['team', 'For the team']], draft.scope, (value) => { draft.scope = value; }),
      h('span', { class: 'small soft', text: 'Secrets are masked before anything is stored.' })),
    error,
    h('div', { class: 'dialog-foot' },
      h('button', { class: 'button', type: 'button', text: 'Cancel', on: { click: () => dialog.close() } }), save)));
  document.body.append(dialog);
  dialog.showModal();
  text.focus();
}

/**
 * Ask where a note belongs now, when that cannot be told from the code.
 *
 * @param {*} note
 * @param {{message: string, hint: string}} why
 * @param {(anchors: string[]) => Promise<void>} give
 */
export function askForPlaces(note, why, give) {
  const anchors = h('textarea', {
    rows: 2, class: 'field mono', spellcheck: 'false', value: note.anchors.map(anchorText).join('\n'),
  });
  const error = h('p', { class: 'form-error', role: 'alert' });
  const submit = async (event) => {
    event.preventDefault();
    try {
      await give(lines(anchors.value));
      dialog.close();
    } catch (failure) {
      error.textContent = [failure.message, failure.hint].filter(Boolean).join(' ');
    }
  };
  const dialog = h('dialog', {
    class: 'dialog', 'aria-labelledby': 'places-title', on: { close: () => dialog.remove() },
  },
  h('h2', { id: 'places-title', text: 'Where does it belong now?' }),
  h('form', { class: 'form', on: { submit } },
    h('p', { class: 'small soft', text: why.message }),
    h('label', {}, 'Places, one a line', anchors),
    error,
    h('div', { class: 'dialog-foot' },
      h('button', { class: 'button', type: 'button', text: 'Cancel', on: { click: () => dialog.close() } }),
      h('button', { class: 'button primary', type: 'submit', text: 'It holds there' }))));
  document.body.append(dialog);
  dialog.showModal();
  anchors.focus();
}

const words = (text) => text.split(/[\s,]+/).filter(Boolean);
const lines = (text) => text.split('\n').map((line) => line.trim()).filter(Boolean);

const DONE = {
  created: 'The note is kept.', merged: 'The same words were there already: that note is shown.',
  superseded: 'The new note stands in the place of the old one.', verified: 'The note holds again.',
  restored: 'The note is back.', forgotten: 'The note is forgotten.', accepted: 'The note is accepted.',
  rejected: 'The note is rejected: no search shows it here.',
};

/**
 * Say what a change of a note did.
 *
 * @param {*} written as `stratum.models.Written`
 * @param {() => void} [undo]
 */
export function tell(written, undo) {
  const said = [DONE[written.action] ?? 'Done.'];
  if (written.redactions.length) {
    said.push(`Masked in it: ${written.redactions.join(', ')}.`);
  }
  if (written.similar.length) {
    said.push(`There is one much like it: ${written.similar.join(', ')}.`);
  }
  toast([...said, ...written.notices].join(' '), undo && { label: 'Undo', run: undo });
}
