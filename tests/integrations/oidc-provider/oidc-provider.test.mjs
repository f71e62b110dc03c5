// oidc-provider on the cache: two nodes, the authorize endpoint.

import { fileURLToPath } from 'node:url';
import { describeLogins } from '../node/logins.mjs';

describeLogins({
  program: fileURLToPath(new URL('server.mjs', import.meta.url)),
  refusesWhatTheCacheRefuses: true,

  async login(node, clientId, redirectUri) {
    const { status, location, body } = await node.ask('GET', '/auth', {
      client_id: clientId,
      redirect_uri: redirectUri,
      response_type: 'code',
      scope: 'openid',
      code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
      code_challenge_method: 'S256',
    });
    if (status === 303 && location.startsWith('/interaction/')) return 'accepted';
    if (status === 400 && /invalid_client|invalid_redirect_uri/.test(body)) return 'refused';
    throw new Error(`${status} ${location} ${body}`);
  },
});
