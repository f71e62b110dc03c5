// @better-auth/cimd on the cache: its fetch, the question before it, and the news after it.

import { FetchHook } from './fetch-hook.mjs';

/** Each login asks the cache, and counts as a fetch. */
const BUDGET = {
  minimumFetchInterval: 0,
  maximumConcurrentFetches: 1_000_000,
  maximumConcurrentFetchesPerOrigin: 1_000_000,
  maximumFetchesPerMinute: 1_000_000,
  maximumFetchesPerOriginPerMinute: 1_000_000,
};

/** The options for `cimd({ … })`, to be spread into them; hooks that are given here are called too. */
export function onCache(cache, { fetchClientMetadataResource, isMetadataDocumentUrlAllowed, onClientCreated, onClientRefreshed, ...options }) {
  const hook = new FetchHook(cache, options);
  /** Whose fetch comes next, by URL: it follows in the same turn of the event loop. */
  const asking = new Map();
  const fetchedBy = new WeakMap();

  /** The server goes on whatever happens here, so a document that the cache refuses only stays unstored. */
  async function store({ client, context }) {
    const fetched = fetchedBy.get(context);
    fetchedBy.delete(context);
    if (fetched?.clientId === client.clientId) await hook.put(fetched);
  }

  return {
    metadataFetchPolicy: BUDGET,

    async isMetadataDocumentUrlAllowed(clientId, context) {
      if (isMetadataDocumentUrlAllowed !== undefined && !(await isMetadataDocumentUrlAllowed(clientId, context))) return false;
      asking.set(clientId, context);
      return true;
    },

    async fetchClientMetadataResource(url, init) {
      const context = asking.get(url);
      asking.delete(url);
      // It also fetches keys.
      if (context === undefined) return await fetchClientMetadataResource(url, init);
      fetchedBy.delete(context);
      const { response, fetched } = await hook.get(url, init.signal, () => fetchClientMetadataResource(url, init));
      if (fetched !== undefined) fetchedBy.set(context, fetched);
      return response;
    },

    async onClientCreated(event) {
      await store(event);
      await onClientCreated?.(event);
    },

    async onClientRefreshed(event) {
      await store(event);
      await onClientRefreshed?.(event);
    },
  };
}
