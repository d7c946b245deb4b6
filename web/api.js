/**
 * Talking to the server: requests, errors in words, whether it answers at all, and streams of
 * events that go on after an interruption where they had stopped.
 */

/** An answer that says why something was not done. */
export class ApiError extends Error {
  /** @param {{code?: string, message?: string, hint?: string, retryable?: boolean}} told */
  constructor(status, told = {}) {
    super(told.message || `The server answered with status ${status}.`);
    this.status = status;
    this.code = told.code || 'error';
    this.hint = told.hint || '';
    this.retryable = Boolean(told.retryable);
    this.similar = told.similar || [];
  }
}

/** @typedef {'online' | 'offline' | 'unauthorised'} ConnectionState */

/** How the page stands to its server; told to whoever subscribes. */
export const connection = {
  /** @type {ConnectionState} */
  state: 'online',
  /** @type {Set<(state: ConnectionState, before: ConnectionState) => void>} */
  listeners: new Set(),
  /** @param {ConnectionState} state */
  set(state) {
    const before = this.state;
    if (state !== before) {
      this.state = state;
      this.listeners.forEach((listener) => listener(state, before));
    }
  },
};

/**
 * @param {string} method
 * @param {string} path from the root, "/api/notes"
 * @param {{params?: Object<string, *>, body?: *, signal?: AbortSignal, token?: string}} [options]
 *   parameters that are null, undefined, false or "" are left out
 * @returns {Promise<*>} the answer's JSON, null where it has none
 * @throws {ApiError} with `status` 0 when the server cannot be reached
 */
export async function call(method, path, { params, body, signal, token } = {}) {
  const headers = {};
  if (body !== undefined) {
    headers['Content-Type'] = 'application/json';
  }
  if (token) {
    headers.Authorization = `Bearer ${token}`;
  }
  let response;
  try {
    response = await fetch(path + queryOf(params), {
      method, headers, signal, cache: 'no-store', redirect: 'error',
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    throw unreachable(error);
  }
  return answerOf(response);
}

/** @param {string} path @param {Object<string, *>} [params] @param {AbortSignal} [signal] */
export const get = (path, params, signal) => call('GET', path, { params, signal });

/** @param {string} path @param {*} [body] @param {AbortSignal} [signal] */
export const post = (path, body = {}, signal) => call('POST', path, { body, signal });

/** @param {string} path */
export const del = (path) => call('DELETE', path);

/** @param {*} error @returns {boolean} whether it only says that a view was left */
export const aborted = (error) => error?.name === 'AbortError';

function queryOf(params) {
  const kept = Object.entries(params ?? {})
    .filter(([, value]) => value !== null && value !== undefined && value !== '' && value !== false);
  return kept.length ? `?${new URLSearchParams(kept.map(([name, value]) => [name, String(value)]))}` : '';
}

function unreachable(error) {
  if (aborted(error)) {
    return error;
  }
  connection.set('offline');
  return new ApiError(0, {
    code: 'offline',
    message: 'Stratum does not answer.',
    hint: 'Start it again with: stratum web. This page goes on by itself.',
    retryable: true,
  });
}

async function answerOf(response) {
  if (response.status === 401) {
    connection.set('unauthorised');
  } else {
    connection.set('online');
  }
  if (response.status === 204) {
    return null;
  }
  let told = null;
  try {
    told = await response.json();
  } catch (error) {
    if (aborted(error)) {
      throw error;
    }
  }
  if (!response.ok) {
    throw new ApiError(response.status, told?.error);
  }
  if (told === null) {
    throw new ApiError(response.status, { message: 'The answer could not be read.', retryable: true });
  }
  return told;
}

/**
 * Follow a stream of events, across interruptions: the id of the last event that was seen is told
 * to the server, which goes on behind it.
 *
 * @param {string} path
 * @param {{
 *   on: (data: *, id: string, event: string) => void,
 *   event?: string,
 *   lastId?: string,
 *   state?: (state: 'open' | 'lost') => void,
 *   failed?: (error: ApiError) => void,
 * }} options `on` gets the JSON of each event, with `event` only those of that name; `failed` is
 *   called when the server refuses for good, and the stream ends
 * @returns {{close: () => void}}
 */
export function stream(path, { on, event: wanted, lastId = '', state, failed }) {
  const follower = { path, on, wanted, lastId, state, failed, retry: 1000, misses: 0 };
  const stop = new AbortController();
  let timer = 0;
  let closed = false;

  const again = () => {
    follower.misses += 1;
    const wait = Math.min(5000, follower.retry * Math.min(follower.misses, 5));
    timer = setTimeout(run, wait);
  };
  async function run() {
    try {
      if ((await follow(follower, stop.signal)) === 'ended') {
        return;
      }
    } catch (error) {
      if (closed || aborted(error)) {
        return;
      }
      state?.('lost');
      if (error.status && error.status !== 429 && error.status < 500) {
        failed?.(error);
        return;
      }
    }
    if (!closed) {
      again();
    }
  }
  run();
  return {
    close() {
      closed = true;
      clearTimeout(timer);
      stop.abort();
    },
  };
}

async function follow(follower, signal) {
  const headers = { Accept: 'text/event-stream' };
  if (follower.lastId) {
    headers['Last-Event-ID'] = follower.lastId;
  }
  let response;
  try {
    response = await fetch(follower.path, { headers, signal, cache: 'no-store', redirect: 'error' });
  } catch (error) {
    throw unreachable(error);
  }
  if (response.status === 204) {
    return 'ended';
  }
  if (!response.ok) {
    await answerOf(response);
  }
  connection.set('online');
  follower.misses = 0;
  follower.state?.('open');
  try {
    await readEvents(response.body, follower);
  } catch (error) {
    if (aborted(error)) {
      throw error;
    }
  }
  follower.state?.('lost');
  return 'lost';
}

async function readEvents(body, follower) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let frame = newFrame();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) {
      return;
    }
    const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line) {
        readLine(line, frame, follower);
      } else {
        deliver(frame, follower);
        frame = newFrame();
      }
    }
  }
}

const newFrame = () => ({ data: [], event: 'message', id: null });

function readLine(line, frame, follower) {
  const cut = line.indexOf(':');
  const field = cut < 0 ? line : line.slice(0, cut);
  const value = cut < 0 ? '' : line.slice(cut + 1).replace(/^ /, '');
  if (field === 'data') {
    frame.data.push(value);
  } else if (field === 'event') {
    frame.event = value;
  } else if (field === 'id') {
    frame.id = value;
  } else if (field === 'retry' && /^\d+$/.test(value)) {
    follower.retry = Math.max(200, Number(value));
  }
}

function deliver(frame, follower) {
  if (frame.id !== null) {
    follower.lastId = frame.id;
  }
  if (!frame.data.length || (follower.wanted && frame.event !== follower.wanted)) {
    return;
  }
  let data;
  try {
    data = JSON.parse(frame.data.join('\n'));
  } catch {
    return; // half a message from a server that was killed: the next connection brings it whole
  }
  follower.on(data, follower.lastId, frame.event);
}
