/** Numbers, times and sizes as people read them. */

const whole = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const day = new Intl.DateTimeFormat('en', { year: 'numeric', month: 'short', day: 'numeric' });
const moment = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'medium' });

const STEPS = [
  [60, 'second', 1], [3600, 'minute', 60], [86400, 'hour', 3600], [86400 * 30, 'day', 86400],
];

/** @param {number} n @returns {string} "12,345" */
export const number = (n) => whole.format(n);

/** @param {number} n @returns {string} "12.3K" */
export const compact = (n) => short.format(n);

/**
 * @param {number} n
 * @param {string} one the thing in the singular
 * @param {string} [many] its plural, by default with an s
 * @returns {string} "1 note", "12 notes"
 */
export const plural = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;

/** @param {number} n @returns {string} "3.4 MB" */
export function bytes(n) {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  const step = n > 0 ? Math.min(units.length - 1, Math.floor(Math.log10(n) / 3)) : 0;
  const amount = n / 1000 ** step;
  return `${amount >= 100 || step === 0 ? Math.round(amount) : amount.toFixed(1)} ${units[step]}`;
}

/** @param {string | null} iso @returns {string} "3 days ago"; a date when it is long ago */
export function ago(iso) {
  const then = Date.parse(iso ?? '');
  if (Number.isNaN(then)) {
    return 'never';
  }
  const seconds = (then - Date.now()) / 1000;
  const size = Math.abs(seconds);
  if (size < 10) {
    return 'just now';
  }
  const step = STEPS.find(([below]) => size < below);
  return step ? relative.format(Math.round(seconds / step[2]), step[1]) : day.format(then);
}

/** @param {string | null} iso @returns {string} date and time in full, "" for none */
export function when(iso) {
  const then = Date.parse(iso ?? '');
  return Number.isNaN(then) ? '' : moment.format(then);
}

/**
 * The name by which people call a project: the last part of its identity, or the name of its
 * folder where it has no remote.
 *
 * @param {{project: string, root: string}} status
 * @returns {string} "django" for "github.com/django/django"
 */
export function projectName({ project, root }) {
  const from = project.includes(':') && !project.includes('/') ? root : project;
  return from.split(/[/\\]/).filter(Boolean).pop() ?? project;
}
