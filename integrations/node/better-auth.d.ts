import type { AdapterOptions } from './oidc-provider.js';
import type { Cache } from './types.js';

export type { AdapterOptions };

/** Options of `cimd` of @better-auth/cimd. Those that are given here are called by the ones returned. */
export interface BetterAuthHooks {
  /** That of `@better-auth/cimd/node`, say: it has to guard against requests to private addresses. */
  fetchClientMetadataResource: (input: any, init?: any) => Response | Promise<Response>;
  isMetadataDocumentUrlAllowed?: (clientId: string, context: any) => boolean | Promise<boolean>;
  onClientCreated?: (event: any) => void | Promise<void>;
  onClientRefreshed?: (event: any) => void | Promise<void>;
}

/** The options for `cimd` of @better-auth/cimd 1.7.0-rc.4 to run on the cache. One for each instance of it. */
export function onCache(
  cache: Cache,
  options: AdapterOptions & BetterAuthHooks,
): {
  metadataFetchPolicy: {
    minimumFetchInterval: number;
    maximumConcurrentFetches: number;
    maximumConcurrentFetchesPerOrigin: number;
    maximumFetchesPerMinute: number;
    maximumFetchesPerOriginPerMinute: number;
  };
  fetchClientMetadataResource(input: any, init?: any): Promise<Response>;
  isMetadataDocumentUrlAllowed(clientId: string, context: any): Promise<boolean>;
  onClientCreated(event: any): Promise<void>;
  onClientRefreshed(event: any): Promise<void>;
};
