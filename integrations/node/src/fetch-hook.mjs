// What the adapters share. Their servers fetch a document through one hook, validate it, and name what they
// accepted in a second one. So the get and the fetch are in the first, and the put, with that get's ticket, is in
// the second: nothing is stored that the server has not accepted.

import { checkOnUnavailable, failedToStore, FetchRoom, isAway, isRefusal, printer } from './away.mjs';
import { CimdCacheError } from './error.mjs';
import { lifetime } from './lifetime.mjs';

/** What the cache takes. Both servers refuse more than 5 KiB. */
const LARGEST = 16 * 1024;

const DEFAULTS = {
  onUnavailable: 'fetch',
  timeoutMs: 250,
  putTimeoutMs: 1000,
  maxFetches: 16,
  defaultLifetime: 300,
  longestLifetime: 86_400,
};

export class FetchHook {
  #cache;
  #settings;
  #room;

  constructor(cache, options) {
    this.#cache = cache;
    this.#settings = { onWarning: printer(), ...DEFAULTS, ...options };
    const { onUnavailable, maxFetches } = this.#settings;
    checkOnUnavailable(onUnavailable);
    this.#room = new FetchRoom(maxFetches);
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
      if (!isAway(error) || this.#settings.onUnavailable === 'fail') throw error;
      this.#settings.onWarning(error);
      this.#room.checkLine();
      return { response: (await this.#room.run(async () => await read(await fetchIt(), signal), signal)).response };
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
      if (isRefusal(error)) return false;
      if (!failedToStore(error)) throw error;
      this.#settings.onWarning(error);
    }
    return true;
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
