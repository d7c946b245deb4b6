/** What the memory holds and in what state it is. */

import { append, copyable, failed, h, loading, replace } from './dom.js';
import { ago, bytes, number, plural, when } from './format.js';

/**
 * @param {*} route
 * @param {HTMLElement} container
 * @param {*} context
 */
export function show(route, container, context) {
  const progress = h('div', {});
  const grid = h('div', { class: 'status-grid' }, loading('Loading the status', 6));
  replace(container,
    h('div', { class: 'head' }, h('h1', { tabindex: '-1', text: 'Status' })), progress, grid);
  context.title('Status');
  let drawn = '';
  const draw = (status) => {
    if (!status) {
      return;
    }
    drawProgress(progress, status);
    // The progress changes each second: what stands below it must not be drawn anew for that.
    const told = JSON.stringify({ ...status, indexing: '' });
    if (told !== drawn) {
      drawn = told;
      replace(grid, [project, memory, meaning, team, trouble].map((part) => part(status)));
    }
  };
  const stop = context.status.subscribe(draw);
  draw(context.status.value);
  if (!context.status.value) {
    load(grid, context);
  }
  return stop;
}

/** The stream of events brings the status; where it does not, the reason is told. */
async function load(grid, context) {
  try {
    context.status.set(await context.api.get('/api/status', {}, context.signal));
  } catch (error) {
    if (!context.api.aborted(error) && !context.status.value) {
      replace(grid, failed(error, () => load(grid, context)));
    }
  }
}

function drawProgress(node, status) {
  if (!status.indexing) {
    replace(node, !status.indexed_at && h('div', { class: 'progress' },
      h('b', { text: 'There is no index yet' }),
      h('span', { class: 'small', text: 'Notes work without one; code and history cannot be found until it is made.' }),
      copyable('stratum index')));
    return;
  }
  const [, done, total] = /([\d,]+)\s*(?:of|\/)\s*([\d,]+)/.exec(status.indexing) ?? [];
  const share = total ? toNumber(done) / Math.max(1, toNumber(total)) : null;
  const bar = node.querySelector('.meter i');
  if (bar && share !== null) { // moved, so that it glides
    bar.style.setProperty('--share', String(share));
    node.querySelector('.what').textContent = status.indexing;
    return;
  }
  replace(node, h('div', { class: 'progress', role: 'status' },
    h('b', { text: 'The index is being made' }),
    h('span', { class: 'small what', text: status.indexing }),
    share !== null && h('div', { class: 'meter', 'aria-hidden': true }, h('i', { vars: { '--share': share } }))));
}

const toNumber = (text) => Number(text.replace(/,/g, ''));

function part(title, rows, ...more) {
  const section = h('section', { class: 'panel' }, h('h2', { text: title }));
  append(section, h('dl', { class: 'facts' }, rows.filter((row) => row && row[1] !== null && row[1] !== '').map(([name, value]) => [
    h('dt', { text: name }), h('dd', {}, value),
  ])), more);
  return section;
}

function project(status) {
  return part('Project', [
    ['Name', status.project], ['Folder', h('span', { class: 'mono', text: status.root })],
    ['Branch', status.branch], ['Commit', status.commit && h('span', { class: 'mono', text: status.commit.slice(0, 12) })],
    ['Indexed', status.indexed_at && h('span', { title: when(status.indexed_at), text: ago(status.indexed_at) })],
  ]);
}

function memory(status) {
  const { files = 0, symbols = 0, commits = 0, notes = 0, forgotten = 0 } = status.counts;
  return part('Memory', [
    ['Notes', notes || forgotten ? `${number(notes)}${forgotten ? `, and ${number(forgotten)} forgotten` : ''}` : 'none yet'],
    ['Code', `${plural(symbols, 'symbol')} in ${plural(files, 'file')}`],
    ['History', plural(commits, 'commit')],
    ['Database', h('span', { class: 'mono', text: status.database })],
    ['Size', bytes(status.database_bytes)],
    ['Version', `${status.version}, schema ${status.schema_version}`],
  ]);
}

function meaning(status) {
  const { embedder } = status;
  return part('Search by meaning', [
    ['Model', embedder.name], ['Vectors', number(embedder.vectors)],
    ['Missing', embedder.pending ? `${number(embedder.pending)}, made by the next index` : 'none'],
    ['Dimension', embedder.dimension || null],
  ]);
}

function team(status) {
  const { sync } = status;
  if (!sync) {
    return h('section', { class: 'panel' }, h('h2', { text: 'Team' }),
      h('p', { class: 'small soft' }, 'Notes stay on this machine. To share those of scope team, name a Redis of your own in ',
        h('code', { text: 'STRATUM_REDIS_URL' }), '.'));
  }
  return part('Team', [
    ['This machine', sync.machine],
    ['Last exchange', sync.synced_at ? h('span', { title: when(sync.synced_at), text: ago(sync.synced_at) }) : 'never'],
    ['To be sent', sync.waiting ? plural(sync.waiting, 'note') : 'nothing waits'],
    ['Kept out', sync.quarantine.length ? plural(sync.quarantine.length, 'version') : 'nothing'],
  ],
  sync.quarantine.length > 0 && h('ul', { class: 'lines-list' }, sync.quarantine.slice(0, 20).map((each) => h('li', { class: 'small wrap' },
    h('b', { text: each.reason }), h('span', { class: 'soft', text: ` from ${each.machine || 'an unknown machine'}, ${ago(each.at)}` })))),
  sync.conflicts.length > 0 && [
    h('h3', { text: 'Changed on two machines at once' }),
    h('ul', { class: 'lines-list' }, sync.conflicts.slice(0, 20).map((each) => h('li', {}, h('a', { href: `#/notes/${encodeURIComponent(each.id)}` },
      h('span', { class: 'say', text: each.other.text }),
      h('span', { class: 'meta', text: `lost ${ago(each.at)}; ${each.kept === 'ours' ? 'the version of this machine stands' : 'the version of the other machine stands'}` }))))),
  ]);
}

function trouble(status) {
  return h('section', { class: 'panel' }, h('h2', { text: 'What needs a look' }),
    status.degraded.length
      ? h('ul', { class: 'stack' }, status.degraded.map((text) => h('li', { class: 'notice', text })))
      : h('p', { class: 'small soft', text: 'Nothing. All that was asked for works.' }),
    status.degraded.length > 0 && copyable('stratum doctor'));
}
