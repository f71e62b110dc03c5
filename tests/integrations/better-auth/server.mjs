// A node: better-auth on the cache.

import { toNodeHandler } from 'better-auth/node';
import { connect, createCache, fromPg } from 'cimd-cache';
import { onCache } from 'cimd-cache/better-auth';
import pg from 'pg';
import { authOn } from './auth.mjs';
import { fromOrigin, OPTIONS, serve, tell } from '../node/serve.mjs';

const { AUTH_DATABASE_URL, CACHE_SOCKET, CACHE_DATABASE_URL } = process.env;
const cache =
  CACHE_SOCKET === undefined
    ? createCache({ query: fromPg(new pg.Pool({ connectionString: CACHE_DATABASE_URL })), deadlineMs: 10_000 })
    : connect({ socket: CACHE_SOCKET });

const options = onCache(cache, {
  ...OPTIONS,
  fetchClientMetadataResource: fromOrigin,
  isMetadataDocumentUrlAllowed(clientId) {
    tell(clientId);
    return true;
  },
});
serve(cache, toNodeHandler(authOn(new pg.Pool({ connectionString: AUTH_DATABASE_URL }), options)));
