// What resolve and the adapters have in common while the cache is away.

import { CimdCacheError } from './error.mjs';
import { Room } from './room.mjs';

/** How many fetches may wait for room, for each that may run. */
const WAITING = 64;

/** How often a warning is printed where there is no hook, in milliseconds. */
const WARN_EVERY_MS = 60_000;

/** The cache cannot be used now, whoever asks. */
const AWAY = new Set(['unavailable', 'timed-out', 'storage', 'not-configured']);

/** The client is to be refused. */
const REFUSALS = new Set(['invalid-url', 'invalid-metadata', 'invalid-expiry']);

/** Whether a get failed because the cache is away. Other errors are about the call, or how the cache is set up. */
export function isAway(error) {
  return error instanceof CimdCacheError && AWAY.has(error.code);
}

export function isRefusal(error) {
  return error instanceof CimdCacheError && REFUSALS.has(error.code);
}

/** Whether a put failed for a reason that is not the document's: it is valid, and answers its request unstored. */
export function failedToStore(error) {
  return error instanceof CimdCacheError && !isRefusal(error);
}

export function checkOnUnavailable(onUnavailable) {
  if (onUnavailable !== 'fetch' && onUnavailable !== 'fail') {
    throw new TypeError("onUnavailable has to be 'fetch' or 'fail'");
  }
}

/** Prints a warning, at most one a minute. */
export function printer() {
  let printedAt = -Infinity;
  return (error) => {
    if (performance.now() - printedAt < WARN_EVERY_MS) return;
    printedAt = performance.now();
    console.warn(`cimd-cache: ${error.code}: ${error.message}`);
  };
}

/** Room for the fetches without a cache: `size` at once, and a bounded line. */
export class FetchRoom {
  #room;
  #most;

  constructor(size) {
    this.#room = new Room(size);
    this.#most = WAITING * size;
  }

  /** Refuses one that would have to stand behind too many. */
  checkLine() {
    if (this.#room.waiting >= this.#most) {
      throw new CimdCacheError('unavailable', 'the cache is away, and too many fetches are waiting: retry later');
    }
  }

  /** Does `work` when there is room; `began` hears of that, or of giving up. */
  async run(work, signal, began = () => {}) {
    try {
      await this.#room.enter(signal);
    } finally {
      began();
    }
    try {
      return await work();
    } finally {
      this.#room.leave();
    }
  }
}
