// better-auth as an authorization server for clients that have a metadata document.

import { cimd } from '@better-auth/cimd';
import { oauthProvider } from '@better-auth/oauth-provider';
import { betterAuth } from 'better-auth';
import { jwt } from 'better-auth/plugins';

export function authOn(database, cimdOptions) {
  return betterAuth({
    baseURL: 'http://127.0.0.1',
    secret: 'of the tests, and of nobody else: 0123456789',
    database,
    rateLimit: { enabled: false },
    telemetry: { enabled: false },
    plugins: [
      jwt(),
      oauthProvider({ loginPage: '/login', consentPage: '/consent', silenceWarnings: { oauthAuthServerConfig: true, openidConfig: true } }),
      cimd(cimdOptions),
    ],
  });
}
