/**
 * Drawing layers of rock: edges that are never quite straight, the same each time for the same name.
 */

import { svg } from './dom.js';

const STEP = 28; // pixels between the points of an edge

/**
 * A number for a text, the same each time (FNV-1a).
 *
 * @param {string} text
 * @returns {number} 0 to 2^32 - 1
 */
export function seedOf(text) {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  }
  return hash >>> 0;
}

/**
 * Numbers that look like chance, the same each time for a seed.
 *
 * @param {number} seed
 * @returns {() => number} each 0 to 1
 */
export function chance(seed) {
  let state = seed || 1;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/**
 * The same things in another order, the same each time for a seed.
 *
 * @template T
 * @param {T[]} things
 * @param {() => number} random
 * @returns {T[]}
 */
export function shuffled(things, random) {
  return things.map((thing) => [random(), thing]).sort((a, b) => a[0] - b[0]).map(([, thing]) => thing);
}

/**
 * The height of an edge at x: slow swells that stay within `amplitude`.
 *
 * @param {number} seed
 * @param {number} amplitude pixels
 * @returns {(x: number) => number}
 */
export function swell(seed, amplitude) {
  const random = chance(seed);
  const waves = [0, 1, 2].map((at) => ({
    length: 90 * (at + 1) + random() * 160, phase: random() * 7, share: [0.2, 0.3, 0.5][at],
  }));
  return (x) => amplitude * waves.reduce(
    (sum, { length, phase, share }) => sum + share * Math.sin((x / length) * Math.PI + phase), 0);
}

/**
 * The path of a layer between two edges.
 *
 * @param {number} left
 * @param {number} right
 * @param {(x: number) => number} top
 * @param {(x: number) => number} bottom
 * @returns {string}
 */
export function bed(left, right, top, bottom) {
  return `${edge(left, right, top, 'M')}${edge(right, left, bottom, 'L')}Z`;
}

/**
 * The path of a line along an edge.
 *
 * @param {number} from
 * @param {number} to may lie left of `from`
 * @param {(x: number) => number} height
 * @param {string} [start] the first command
 * @returns {string}
 */
export function edge(from, to, height, start = 'M') {
  const count = Math.max(1, Math.ceil(Math.abs(to - from) / STEP));
  const points = [];
  for (let at = 0; at <= count; at += 1) {
    const x = from + ((to - from) * at) / count;
    points.push(`${x.toFixed(1)} ${height(x).toFixed(1)}`);
  }
  return `${start}${points.join('L')}`;
}

/**
 * Fine lines inside a layer, between its edges.
 *
 * @param {{left: number, right: number, top: (x: number) => number, bottom: (x: number) => number,
 *   count: number, seed: number}} where
 * @returns {SVGElement[]}
 */
export function grain({ left, right, top, bottom, count, seed }) {
  const random = chance(seed);
  return Array.from({ length: count }, (_, at) => {
    const share = (at + 0.6 + random() * 0.4) / (count + 1);
    const from = left + random() * 0.5 * (right - left);
    const to = Math.min(right, from + (0.2 + random() * 0.6) * (right - left));
    return svg('path', {
      class: 'grain', d: edge(from, to, (x) => top(x) * (1 - share) + bottom(x) * share),
    });
  });
}
