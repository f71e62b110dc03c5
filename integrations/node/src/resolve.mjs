// The recipe: get, on a miss fetch and validate, put with the ticket.
//
// Who may share a fetch is decided by what each caller may have seen before it called:
//
// * Each caller asks the cache itself. Joining a get that is under way could hand out a document that was
//   deleted before the caller called.
// * A caller that missed joins a fetch under way for the same client. If the put after it is stored, nothing
//   was deleted or purged since that fetch began, by anyone, so the document is right for all of them. If not,
//   it is right for the caller who began it, and all others ask again.
// * A delete or purge in this process ends the joining at once, without waiting for that put.
// * While the cache is away nothing is known of others' deletes, so a caller only joins a fetch that has not
//   begun yet.

import { CimdCacheError } from './error.mjs';
import { flightsOf } from './flights.mjs';
import { Room } from './room.mjs';

/** How often a caller joins others before it fetches by itself. */
const JOINS = 2;

/** How many fetches may wait for room while the cache is away, for each that may run. */
const WAITING = 64;

/** How often a warning is printed where there is no hook, in milliseconds. */
const WARN_EVERY_MS = 60_000;

const DEFAULTS = { onUnavailable: 'fail', timeoutMs: 250, putTimeoutMs: 1000, maxFetches: 16 };

/** Errors about what the caller sent. All others mean that the cache is away. */
const REFUSALS = new Set(['invalid-url', 'invalid-metadata', 'invalid-expiry']);

/**
 * The document of a client as text: from the cache, else from its origin.
 */
export async function resolve(cache, clientId, fetchAndValidate, options = {}) {
  const settings = { onWarning: warn, ...DEFAULTS, ...options };
  const { signal, timeoutMs, onUnavailable } = settings;
  if (onUnavailable !== 'fetch' && onUnavailable !== 'fail') {
    throw new TypeError("onUnavailable has to be 'fetch' or 'fail'");
  }
  for (let joins = 0; ; joins += 1) {
    let found;
    try {
      found = await cache.get(clientId, { signal, timeoutMs });
    } catch (error) {
      if (!(error instanceof CimdCacheError) || REFUSALS.has(error.code) || onUnavailable === 'fail') throw error;
      settings.onWarning(error);
      return await fetchWithoutCache(cache, clientId, fetchAndValidate, settings);
    }
    if (found.outcome === 'hit') return found.metadata;

    const flights = flightsOf(cache);
    let flight = flights.get(clientId);
    const leads = flight === undefined || flight.isAbandoned || joins === JOINS;
    if (leads) {
      flight = new Flight((within) => fetchAndPut(cache, clientId, found.ticket, fetchAndValidate, settings, within));
      flights.set(clientId, flight);
      const land = () => flights.get(clientId) === flight && flights.delete(clientId);
      flight.ended.then(land, land);
    }
    const { metadata, isStored } = await flight.join(signal);
    if (leads || isStored) return metadata;
  }
}

async function fetchAndPut(cache, clientId, ticket, fetchAndValidate, settings, signal) {
  const { metadata, expiresIn } = await fetchAndValidate(clientId, { signal });
  try {
    const outcome = await cache.put(clientId, metadata, { expiresIn, ticket, timeoutMs: settings.putTimeoutMs });
    return { metadata, isStored: outcome === 'stored' };
  } catch (error) {
    // A document that the cache refuses is no document, and the client is to be refused.
    if (!(error instanceof CimdCacheError) || REFUSALS.has(error.code)) throw error;
    settings.onWarning(error);
    return { metadata, isStored: false };
  }
}

// --- while the cache is away

const AWAY = new WeakMap();

async function fetchWithoutCache(cache, clientId, fetchAndValidate, { maxFetches, signal }) {
  let away = AWAY.get(cache);
  if (away === undefined) AWAY.set(cache, (away = { room: new Room(maxFetches), waiting: new Map() }));
  let flight = away.waiting.get(clientId);
  if (flight === undefined || flight.isAbandoned) {
    if (away.room.waiting >= WAITING * maxFetches) {
      throw new CimdCacheError('unavailable', 'the cache is away, and too many fetches are waiting: retry later');
    }
    flight = new Flight(async (within) => {
      try {
        await away.room.enter(within);
      } finally {
        if (away.waiting.get(clientId) === flight) away.waiting.delete(clientId);
      }
      try {
        return await fetchAndValidate(clientId, { signal: within });
      } finally {
        away.room.leave();
      }
    });
    away.waiting.set(clientId, flight);
  }
  return (await flight.join(signal)).metadata;
}

/** Work that several wait for. It is aborted when nobody does any more. */
class Flight {
  isAbandoned = false;
  #crew = 0;
  #controller = new AbortController();

  constructor(work) {
    this.ended = work(this.#controller.signal);
    this.ended.catch(() => {});
  }

  async join(signal) {
    this.#crew += 1;
    let abort;
    const aborted = new Promise((_, reject) => {
      abort = () => reject(signal.reason);
      if (signal?.aborted) abort();
      signal?.addEventListener('abort', abort, { once: true });
    });
    try {
      return await Promise.race([this.ended, aborted]);
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#crew -= 1;
      if (this.#crew === 0) {
        this.isAbandoned = true;
        this.#controller.abort();
      }
    }
  }
}

let warnedAt = -Infinity;

function warn(error) {
  if (performance.now() - warnedAt < WARN_EVERY_MS) return;
  warnedAt = performance.now();
  console.warn(`cimd-cache: ${error.code}: ${error.message}`);
}
