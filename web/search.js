/** The search over all strata, with the overview beside it. */

import { arrowFocus, empty, failed, h, loading, place, replace, svg, verdict } from './dom.js';
import { plural } from './format.js';
import { showOverview } from './overview.js';

const STRATA = [['', 'All'], ['notes', 'Notes'], ['code', 'Code'], ['history', 'History']];
const PLACEHOLDERS = {
  '': 'Ask in words, or name a symbol or a path', notes: 'Search the notes', code: 'Search the code',
  history: 'Search the past commits',
};
const REST = 160; // ms without a key before what was typed is searched
const STALE = ['changed', 'gone', 'other-branch'];

/** What was found last, so that going back to it shows it at once and where it was left. */
const last = { told: '', answer: null, scroll: 0, row: -1 };

/**
 * @param {{query: URLSearchParams, hash: string}} route
 * @param {HTMLElement} container
 * @param {*} context
 */
export function show(route, container, context) {
  return new SearchView(container, context, route);
}

class SearchView {
  constructor(container, context, route) {
    this.context = context;
    this.timer = 0;
    this.running = new AbortController();
    this.field = h('input', {
      id: 'q', type: 'search', autocomplete: 'off', spellcheck: 'false', 'aria-label': 'Search the memory',
      on: { input: () => this.soon() },
    });
    this.bar = h('div', { class: 'search-bar', role: 'search' }, this.field,
      svg('svg', { viewBox: '0 0 20 20', 'aria-hidden': true },
        svg('circle', { cx: 9, cy: 9, r: 5.5 }), svg('path', { d: 'm13.2 13.2 4.3 4.3' })),
      h('kbd', { text: '/', 'aria-hidden': true }));
    this.filters = h('div', { class: 'filters toolbar' });
    this.results = h('section', { 'aria-label': 'Results' });
    this.aside = h('section', { class: 'overview', 'aria-label': 'What the memory holds' });
    this.frame = h('div', { class: 'finding bare' }, this.results, this.aside);
    replace(container, h('h1', { class: 'sr', tabindex: '-1', text: 'Search' }), this.bar, this.filters, this.frame);
    this.stopOverview = showOverview(this.aside, context);
    this.update(route);
    if (!this.restored && matchMedia('(hover: hover)').matches) {
      this.field.focus(); // not where that would bring up a keyboard over the page
    }
  }

  update(route) {
    this.query = route.query;
    const text = route.query.get('q') ?? '';
    if (text !== this.field.value.trim()) {
      this.field.value = text;
    }
    this.drawFilters();
    this.context.title(text);
    this.search();
  }

  leave() {
    last.scroll = scrollY;
    last.row = this.rows().indexOf(this.opened);
    clearTimeout(this.timer);
    this.running.abort();
    this.stopOverview();
  }

  key(event) {
    if (event.key === 'Escape' && this.field.value) {
      this.field.value = '';
      this.field.focus();
      this.go({ q: '' });
      return true;
    }
    if (event.key === 'Enter' && event.target === this.field) {
      this.now();
      return true;
    }
    if (event.key === 'ArrowUp' && document.activeElement === this.results.querySelector('[data-row]')) {
      this.field.focus();
      return true;
    }
    if (event.key === 'Enter') {
      this.opened = document.activeElement;
    }
    const inOther = event.target.matches?.('input, select') && event.target !== this.field;
    return !inOther && arrowFocus(this.results, event);
  }

  rows() {
    return [...this.results.querySelectorAll('[data-row]')];
  }

  restore() {
    this.restored = true;
    this.drawResults(last.answer);
    scrollTo(0, last.scroll);
    this.rows()[last.row]?.focus({ preventScroll: true });
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.now(), REST);
  }

  now() {
    clearTimeout(this.timer);
    this.go({ q: this.field.value.trim() });
  }

  /** Change parts of the address; what is searched follows from it. */
  go(changes) {
    const query = new URLSearchParams(this.query);
    for (const [name, value] of Object.entries(changes)) {
      if (value) {
        query.set(name, value);
      } else {
        query.delete(name);
      }
    }
    const told = query.toString();
    this.context.go(told ? `#/?${told}` : '#/', { replace: true });
  }

  drawFilters() {
    const chosen = this.query.get('stratum') ?? '';
    if (!this.strata) {
      this.strata = STRATA.map(([value, text]) => {
        const input = h('input', { type: 'radio', name: 'stratum', value, on: { change: () => this.go({ stratum: value }) } });
        return [input, h('label', {}, input, h('span', { text }))];
      });
      this.path = h('input', {
        class: 'field', placeholder: 'anywhere', spellcheck: 'false', autocomplete: 'off',
        on: { change: () => this.go({ path: this.path.value.trim() }) },
      });
      this.stale = this.checkbox('include_stale');
      this.explain = this.checkbox('explain');
      replace(this.filters,
        h('fieldset', { class: 'segments' }, h('legend', { class: 'sr', text: 'Stratum' }),
          this.strata.map(([, label]) => label)),
        h('label', { class: 'choice' }, h('span', { text: 'in' }), this.path),
        h('label', { class: 'check' }, this.stale, 'stale notes too'),
        h('label', { class: 'check' }, this.explain, 'why this order'));
    }
    this.strata.forEach(([input]) => { input.checked = input.value === chosen; });
    this.path.value = this.query.get('path') ?? '';
    this.stale.checked = this.query.has('include_stale');
    this.explain.checked = this.query.has('explain');
    this.filters.hidden = !this.query.get('q') && !chosen;
    this.field.placeholder = PLACEHOLDERS[chosen] ?? PLACEHOLDERS[''];
  }

  checkbox(name) {
    const box = h('input', { type: 'checkbox', on: { change: () => this.go({ [name]: box.checked ? 'true' : '' }) } });
    return box;
  }

  async search() {
    const told = this.query.toString();
    const text = this.query.get('q') ?? '';
    this.frame.classList.toggle('bare', !text);
    this.running.abort();
    if (!text) {
      this.bar.classList.remove('busy');
      replace(this.results);
      return;
    }
    const running = new AbortController();
    this.running = running;
    if (this.restored === undefined && last.answer && last.told === told) {
      this.restore();
    }
    this.restored ??= false;
    this.bar.classList.add('busy');
    if (!this.results.firstChild) {
      replace(this.results, loading('Searching', 7));
    }
    try {
      const params = { limit: 30, ...Object.fromEntries(this.query) };
      const answer = await this.context.api.get('/api/search', params, running.signal);
      if (JSON.stringify(answer) !== JSON.stringify(last.answer) || !this.results.querySelector('.hits')) {
        this.drawResults(answer);
      }
      Object.assign(last, { told, answer });
    } catch (error) {
      if (this.context.api.aborted(error)) {
        return;
      }
      replace(this.results, failed(error, () => this.search()));
    }
    if (this.running === running) {
      this.bar.classList.remove('busy');
    }
  }

  drawResults(answer) {
    const notices = answer.notices.map((text) => h('p', { class: 'notice', text }));
    const withheld = answer.withheld_stale > 0 && h('button', {
      class: 'link', type: 'button', on: { click: () => this.go({ include_stale: 'true' }) },
      text: `${plural(answer.withheld_stale, 'stale note')} withheld`,
    });
    this.context.announce(`${plural(answer.hits.length, 'result')} for ${answer.query}`);
    if (!answer.hits.length) {
      replace(this.results, notices, withheld && h('p', { class: 'small' }, withheld), empty({
        title: 'Nothing was found',
        text: 'Other words may find it: the memory is searched by words and by meaning. Filters may leave it out.',
      }));
      return;
    }
    replace(this.results,
      h('div', { class: 'result-head' },
        h('span', { text: plural(answer.hits.length, 'result') }),
        h('span', { text: { hybrid: 'by words and meaning', lexical: 'by words', vector: 'by meaning' }[answer.mode] }),
        withheld),
      notices,
      h('div', { class: 'hits' }, answer.hits.map(hitRow)));
  }
}

function hitRow(hit) {
  const stale = STALE.includes(hit.freshness);
  const where = hit.path && place(hit.path, hit.start_line, hit.end_line);
  const title = hit.stratum === 'notes' ? null : hit.title;
  return h('a', {
    class: `hit ${hit.stratum}${stale ? ' stale' : ''}`, href: hrefOf(hit), 'data-row': true,
  },
  h('div', { class: 'hit-top' },
    title && h('span', { class: 'hit-title', text: title }),
    hit.stratum === 'notes' && verdict(hit.freshness),
    h('span', { class: 'badge', text: hit.kind })),
  hit.text && hit.text !== title && h('div', { class: 'hit-text', text: hit.text }),
  hit.change.map((line) => h('div', { class: 'change', text: line })),
  h('div', { class: 'hit-foot' },
    where,
    hit.origin && h('span', { text: hit.origin }),
    hit.tags.map((tag) => h('span', { class: 'tag', text: tag })),
    hit.stratum === 'history' && hit.paths.length > 0
      && h('span', { class: 'wrap', text: `touched ${hit.paths.slice(0, 3).join(', ')}${hit.paths.length > 3 ? ' and more' : ''}` })),
  hit.why.length > 0 && why(hit.why));
}

function hrefOf(hit) {
  if (hit.stratum === 'notes') {
    return `#/notes/${encodeURIComponent(hit.id)}`;
  }
  const path = hit.path ?? hit.paths[0];
  const symbol = hit.stratum === 'code' && hit.title !== hit.path ? `&symbol=${encodeURIComponent(hit.title)}` : '';
  return path ? `#/map?path=${encodeURIComponent(path)}${symbol}` : '#/map';
}

/** What a score is made of, as bars of one scale. */
function why(shares) {
  const most = Math.max(...shares.map(([, share]) => Math.abs(share)), 1e-9);
  return h('div', { class: 'why' }, shares.map(([name, share]) => [
    h('span', { text: name }),
    h('i', { class: share < 0 ? 'minus' : '', vars: { '--share': Math.abs(share) / most }, 'aria-hidden': true }),
    h('span', { text: share.toFixed(2) }),
  ]));
}
