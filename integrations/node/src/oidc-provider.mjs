// oidc-provider on the cache: `configuration.fetch` and two hooks of `features.clientIdMetadataDocument`.

import { AsyncLocalStorage } from 'node:async_hooks';
import { FetchHook } from './fetch-hook.mjs';

/** oidc-provider gives a fetch 2.5 s, and a lookup may take two: of the document, and of its sector_identifier_uri. */
const LONGEST_LOOKUP_MS = 6000;

/** What a configuration of oidc-provider needs, to be spread into it; its own `fetch` and hooks are passed on. */
export function onCache(cache, { fetch = (url, init) => globalThis.fetch(url, init), allowFetch, allowClient, ...options } = {}) {
  const hook = new FetchHook(cache, options);
  const lookups = new AsyncLocalStorage();
  const flights = new Map();

  return {
    async fetch(url, init) {
      const lookup = lookups.getStore();
      // It also fetches keys, and reports logouts.
      if (lookup === undefined || lookup.clientId !== url || lookup.isFetching) return await fetch(url, init);
      lookup.isFetching = true;
      fly(lookup);
      const { response, fetched } = await hook.get(url, init.signal, () => fetch(url, init));
      lookup.fetched = fetched;
      return response;
    },
    features: {
      clientIdMetadataDocument: {
        enabled: true,
        ack: 'draft-02',
        // Its own cache hears of no delete. This one is asked every time.
        cacheDuration: { min: 0, max: 0 },

        allowFetch(ctx, clientId) {
          // Not in an async function: the context has to be the caller's, who goes on to fetch and validate.
          lookups.enterWith({ ctx, clientId });
          return joins(ctx, clientId);
        },

        async allowClient(ctx, client) {
          const { clientId, fetched, land } = lookups.getStore() ?? {};
          if (fetched === undefined) land?.();
          try {
            if (allowClient !== undefined && !(await allowClient(ctx, client))) return false;
            return clientId !== client.clientId || fetched === undefined || (await hook.put(fetched));
          } finally {
            land?.();
          }
        },
      },
    },
  };

  /**
   * oidc-provider lets a lookup join the fetch that another began. That may have been before a delete of which
   * this one's caller knows, so it waits until that fetch has ended, and joins only those that begin from now on.
   */
  async function joins(ctx, clientId) {
    if (allowFetch !== undefined && !(await allowFetch(ctx, clientId))) return false;
    for (;;) {
      const flight = flights.get(clientId);
      // One of the same request is over: for a page that says why, it is looked up again.
      if (flight === undefined || (ctx !== undefined && flight.ctx === ctx)) return true;
      await flight.ended;
    }
  }

  /** Ends in allowClient; if the document was refused before that, with the response, or some time later. */
  function fly(lookup) {
    const { ctx, clientId } = lookup;
    const flight = { ctx };
    flight.ended = new Promise((resolve) => {
      const late = setTimeout(() => lookup.land(), LONGEST_LOOKUP_MS).unref();
      lookup.land = () => {
        clearTimeout(late);
        if (flights.get(clientId) === flight) flights.delete(clientId);
        resolve();
      };
    });
    flights.set(clientId, flight);
    ctx?.res.once('finish', lookup.land);
  }
}
