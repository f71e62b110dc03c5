// A node: oidc-provider on the cache.

import { connect, createCache, fromPg } from 'cimd-cache';
import { onCache } from 'cimd-cache/oidc-provider';
import Provider from 'oidc-provider';
import pg from 'pg';
import { fromOrigin, OPTIONS, serve, tell } from '../node/serve.mjs';

const { CACHE_SOCKET, CACHE_DATABASE_URL } = process.env;
const cache =
  CACHE_SOCKET === undefined
    ? createCache({ query: fromPg(new pg.Pool({ connectionString: CACHE_DATABASE_URL })), deadlineMs: 10_000 })
    : connect({ socket: CACHE_SOCKET });

const { fetch, features } = onCache(cache, {
  ...OPTIONS,
  fetch(url, { dispatcher, ...init }) {
    // It refuses addresses such as the one of the test's origin, so it cannot be used here.
    if (dispatcher === undefined) throw new Error('the guard against special addresses was lost');
    return fromOrigin(url, init);
  },
  allowFetch(ctx, clientId) {
    tell(clientId);
    return true;
  },
});

const provider = new Provider('http://127.0.0.1', {
  fetch,
  features: { ...features, devInteractions: { enabled: true } },
});
serve(cache, provider.callback());
