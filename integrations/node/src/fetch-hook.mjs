// What the adapters share. Their servers fetch a document through one hook, validate it, and name what they
// accepted in a second one. So the get and the fetch are in the first, and the put, with that get's ticket, is in
// the second: nothing is stored that the server has not accepted.

import { CimdCacheError } from './error.mjs';
import { lifetime } from './lifetime.mjs';
import { Room } from './room.mjs';

/** What the cache takes. Both servers refuse more than 5 KiB. */
const LARGEST = 16 * 1024;

/** How many fetches may wait for room while the cache is away, for each that may run. */
const WAITING = 64;

/** How often a warning is printed where there is no hook, in milliseconds. */
const WARN_EVERY_MS = 60_000;

const DEFAULTS = {
  onUnavailable: 'fetch',
  timeoutMs: 250,
  putTimeoutMs: 1000,
  maxFetches: 16,
  defaultLifetime: 300,
  longestLifetime: 86_400,
};

/** Errors about the client. All others mean that the cache is away. */
const REFUSALS = new Set(['invalid-url', 'invalid-metadata', 'invalid-expiry']);

export class FetchHook {
  #cache;
  #settings;
  #room;

  constructor(cache, options) {
    this.#cache = cache;
    this.#settings = { onWarning: printed(), ...DEFAULTS, ...options };
    const { onUnavailable, maxFetches } = this.#settings;
    if (onUnavailable !== 'fetch' && onUnavailable !== 'fail') {
      throw new TypeError("onUnavailable has to be 'fetch' or 'fail'");
    }
    this.#room = new Room(maxFetches);
  }

  /**
   * The response for the server's fetch of a document, and what to put once the server has accepted it: nothing
   * if it came from the cache, or must not be stored.
   */
  async get(clientId, signal, fetchIt) {
    let found;
    try {
      found = await this.#cache.get(clientId, { signal, timeoutMs: this.#settings.timeoutMs });
    } catch (error) {
      if (!this.#isAway(error) || this.#settings.onUnavailable === 'fail') throw error;
      this.#settings.onWarning(error);
      return { response: (await this.#fetchInLine(signal, fetchIt)).response };
    }
    if (found.outcome === 'hit') return { response: answer(found.metadata, 'application/json') };
    const { response, metadata, headers } = await read(await fetchIt(), signal);
    const expiresIn = metadata === undefined ? 0 : lifetime(headers, this.#settings);
    return { response, fetched: expiresIn > 0 ? { clientId, metadata, expiresIn, ticket: found.ticket } : undefined };
  }

  /** Stores what the server has accepted. Whether the cache can hold it: if not, the client is to be refused. */
  async put({ clientId, metadata, expiresIn, ticket }) {
    try {
      // Superseded: something newer is known, and this document answers this request only.
      await this.#cache.put(clientId, metadata, { expiresIn, ticket, timeoutMs: this.#settings.putTimeoutMs });
    } catch (error) {
      if (!this.#isAway(error)) return false;
      this.#settings.onWarning(error);
    }
    return true;
  }

  #isAway(error) {
    return error instanceof CimdCacheError && !REFUSALS.has(error.code);
  }

  async #fetchInLine(signal, fetchIt) {
    if (this.#room.waiting >= WAITING * this.#settings.maxFetches) {
      throw new CimdCacheError('unavailable', 'the cache is away, and too many fetches are waiting: retry later');
    }
    await this.#room.enter(signal);
    try {
      return await read(await fetchIt(), signal);
    } finally {
      this.#room.leave();
    }
  }
}

/** The text of a document, and a response with that text, so that what is validated is what is stored. */
async function read(response, signal) {
  // Not a document: the server says why.
  if (response.status !== 200 || response.redirected || response.body === null) return { response };
  const { headers } = response;
  const chunks = [];
  let size = 0;
  for await (const chunk of response.body.pipeThrough(new TransformStream(), { signal })) {
    size += chunk.length;
    // Leaving the loop cancels the rest.
    if (size > LARGEST) throw new CimdCacheError('invalid-metadata', 'the document has more than 16 KiB: refuse the client');
    chunks.push(chunk);
  }
  const metadata = Buffer.concat(chunks).toString();
  return { response: answer(metadata, headers.get('content-type') ?? ''), metadata, headers };
}

/** `no-store` keeps the server's own cache out of it: that one hears of no delete. */
function answer(metadata, type) {
  return new Response(metadata, { headers: { 'content-type': type, 'cache-control': 'no-store' } });
}

function printed() {
  let at = -Infinity;
  return (error) => {
    if (performance.now() - at < WARN_EVERY_MS) return;
    at = performance.now();
    console.warn(`cimd-cache: ${error.code}: ${error.message}`);
  };
}
