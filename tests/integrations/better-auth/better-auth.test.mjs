// better-auth on the cache: two nodes that share their own database, the authorize endpoint.

import { fileURLToPath } from 'node:url';
import { getMigrations } from 'better-auth/db/migration';
import pg from 'pg';
import { startPostgres } from '../../../integrations/node/test/support.mjs';
import { describeLogins } from '../node/logins.mjs';
import { authOn } from './auth.mjs';

describeLogins({
  program: fileURLToPath(new URL('server.mjs', import.meta.url)),
  joinsFetches: true,

  /** The server's own database is another one than the cache's, which is taken away. */
  async environment() {
    const postgres = await startPostgres();
    const url = postgres.url.replace('cimd_cache_app', 'postgres');
    const pool = new pg.Pool({ connectionString: url });
    const { runMigrations } = await getMigrations(authOn(pool, { fetchClientMetadataResource: fetch }).options);
    await runMigrations();
    await pool.end();
    return { environment: { AUTH_DATABASE_URL: url }, stop: () => postgres.stop() };
  },

  async login(node, clientId, redirectUri) {
    const { status, location, body } = await node.ask('GET', '/api/auth/oauth2/authorize', {
      client_id: clientId,
      redirect_uri: redirectUri,
      response_type: 'code',
      scope: 'openid',
      state: 'state',
      code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
      code_challenge_method: 'S256',
    });
    if (status === 302 && /^(http:\/\/127\.0\.0\.1)?\/login\?/.test(location)) return 'accepted';
    if (status === 302 && location.includes('error=invalid_redirect')) return 'refused';
    if (status === 400 && body.includes('invalid_client')) return 'refused';
    throw new Error(`${status} ${location} ${body}`);
  },
});
