/**
 * A clock that a person can play, pause, speed up and drag: what the wall and the race run on.
 *
 * It knows nothing of tasks: it counts units from 0 to an end and says where it is. Nothing moves
 * by itself for who asked for reduced motion.
 */

import { h } from './dom.js';

const SPEEDS = [0.25, 0.5, 1, 2, 4, 8];
const WHOLE = 20000; // milliseconds from start to end at normal speed
const GRAIN = 1000; // positions of the slider

/**
 * @typedef {object} Player
 * @property {HTMLElement} element
 * @property {() => number} time - Units since the start.
 * @property {(time: number) => void} seek
 * @property {() => void} begin - Play, or show the end to who asked for reduced motion.
 * @property {(end: number, share?: boolean) => void} setEnd - Another length; with `share` the same
 *   part of it is behind us, else the same time.
 * @property {(event: KeyboardEvent) => boolean} key - Whether it took a key.
 * @property {() => void} close
 */

/**
 * @param {object} how
 * @param {number} how.end - Units from start to end.
 * @param {(time: number) => void} how.draw - Called at most once a frame, when the time changed.
 * @param {(time: number) => string} how.say - The time in words.
 * @param {(forward: boolean) => void} how.step - To the next or the previous step.
 * @param {() => void} [how.touched] - Somebody took the clock into their hands.
 * @returns {Player}
 */
export function player({ end, draw, say, step, touched }) {
  let length = Math.max(end, 1e-9);
  let time = 0;
  let speed = 1;
  let frame = 0;
  let before = 0;
  const still = matchMedia('(prefers-reduced-motion: reduce)');

  const play = h('button', { type: 'button', class: 'button play', 'aria-label': 'Play' }, '▶');
  const slider = h('input', { type: 'range', min: '0', max: String(GRAIN), step: '1', value: '0',
    'aria-label': 'Position', class: 'scrub' });
  const pace = h('select', { 'aria-label': 'Speed', class: 'select' },
    ...SPEEDS.map((one) => h('option', { value: String(one), selected: one === 1 }, `${one}×`)));
  const shown = h('output', { class: 'clock' });
  const button = (sign, label, act) => {
    const made = h('button', { type: 'button', class: 'button', 'aria-label': label }, sign);
    made.addEventListener('click', act);
    return made;
  };
  const element = h('div', { class: 'player', role: 'group', 'aria-label': 'Replay' },
    play, button('‹', 'One step back', () => leap(false)),
    button('›', 'One step on', () => leap(true)), slider, shown, pace);

  function tell() {
    slider.value = String(Math.round((time / length) * GRAIN));
    const words = say(time);
    slider.setAttribute('aria-valuetext', words);
    shown.textContent = words;
    draw(time);
  }

  function tick(now) {
    const passed = Math.min(now - before, 100); // a hidden page does not leap when it returns
    before = now;
    time = Math.min(length, time + (passed / WHOLE) * length * speed);
    tell();
    if (time >= length) rest();
    else frame = requestAnimationFrame(tick);
  }

  function set(on) {
    touched?.();
    rest();
    if (!on) return;
    if (time >= length) time = 0;
    before = performance.now();
    frame = requestAnimationFrame(tick);
    mark(true);
  }

  function rest() {
    cancelAnimationFrame(frame);
    frame = 0;
    mark(false);
  }

  function mark(on) {
    play.textContent = on ? '❚❚' : '▶';
    play.setAttribute('aria-label', on ? 'Pause' : 'Play');
  }

  function seek(to) {
    time = Math.max(0, Math.min(length, to));
    tell();
  }

  function leap(forward) {
    set(false);
    step(forward);
  }

  function faster(by) {
    const at = Math.max(0, Math.min(SPEEDS.length - 1, SPEEDS.indexOf(speed) + by));
    speed = SPEEDS[at];
    pace.value = String(speed);
  }

  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const at = /** @type {HTMLElement} */ (event.target);
    if (at.closest('input:not(.scrub), textarea, select, summary, [role=listbox]')) return false;
    const acts = {
      ' ': () => set(!frame),
      ArrowRight: () => leap(true),
      ArrowLeft: () => leap(false),
      Home: () => { set(false); seek(0); },
      End: () => { set(false); seek(length); },
      '+': () => faster(1),
      '-': () => faster(-1),
    };
    const act = acts[event.key];
    if (!act || (event.key === ' ' && at.closest('button, a'))) return false;
    event.preventDefault();
    act();
    return true;
  }

  play.addEventListener('click', () => set(!frame));
  slider.addEventListener('input', () => {
    set(false);
    seek((Number(slider.value) / GRAIN) * length);
  });
  pace.addEventListener('change', () => { speed = Number(pace.value); });

  return {
    element,
    time: () => time,
    seek,
    begin: () => (still.matches ? seek(length) : set(true)),
    setEnd(to, share = false) {
      const at = share ? (time / length) * to : time;
      length = Math.max(to, 1e-9);
      seek(at);
    },
    key,
    close: rest,
  };
}
