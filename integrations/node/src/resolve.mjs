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

import { checkOnUnavailable, failedToStore, FetchRoom, isAway, printer } from './away.mjs';
import { flightsOf } from './flights.mjs';

/** How often a caller joins others before it fetches by itself. */
const JOINS = 2;

const DEFAULTS = { onUnavailable: 'fetch', timeoutMs: 250, putTimeoutMs: 1000, maxFetches: 16, onWarning: printer() };

/**
 * The document of a client as text: from the cache, else from its origin.
 */
export async function resolve(cache, clientId, fetchAndValidate, options = {}) {
  const settings = { ...DEFAULTS, ...options };
  const { signal, timeoutMs, onUnavailable } = settings;
  checkOnUnavailable(onUnavailable);
  for (let joins = 0; ; joins += 1) {
    let found;
    try {
      found = await cache.get(clientId, { signal, timeoutMs });
    } catch (error) {
      if (!isAway(error) || onUnavailable === 'fail') throw error;
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
    if (!failedToStore(error)) throw error;
    settings.onWarning(error);
    return { metadata, isStored: false };
  }
}

// --- while the cache is away

const AWAY = new WeakMap();

async function fetchWithoutCache(cache, clientId, fetchAndValidate, { maxFetches, signal }) {
  let away = AWAY.get(cache);
  if (away === undefined) AWAY.set(cache, (away = { room: new FetchRoom(maxFetches), waiting: new Map() }));
  let flight = away.waiting.get(clientId);
  if (flight === undefined || flight.isAbandoned) {
    away.room.checkLine();
    const began = () => away.waiting.get(clientId) === flight && away.waiting.delete(clientId);
    flight = new Flight((within) =>
      away.room.run(() => fetchAndValidate(clientId, { signal: within }), within, began),
    );
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
