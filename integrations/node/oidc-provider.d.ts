import type { Cache, CimdCacheError } from './types.js';

/** What both adapters of servers take. */
export interface AdapterOptions {
  /** While the cache is away: `'fetch'` without storing (the default), or `'fail'`. */
  onUnavailable?: 'fetch' | 'fail';
  /** How long the get may take, in milliseconds: 250. */
  timeoutMs?: number;
  /** How long the put may take, in milliseconds: 1000. */
  putTimeoutMs?: number;
  /** The most fetches at once while the cache is away: 16. */
  maxFetches?: number;
  /** For a document whose response does not say how long it is fresh, in seconds: 300. */
  defaultLifetime?: number;
  /** The most that a response may allow, in seconds: 86400. */
  longestLifetime?: number;
  /** Hears that the cache is away. Without it, a line on the console, at most one a minute. */
  onWarning?: (error: CimdCacheError) => void;
}

/** The hooks of a configuration of oidc-provider. Those that are given here are called by the ones returned. */
export interface OidcProviderHooks {
  fetch?: (url: any, init: any) => Promise<Response>;
  allowFetch?: (ctx: any, clientId: string) => boolean | Promise<boolean>;
  allowClient?: (ctx: any, client: any) => boolean | Promise<boolean>;
}

/** What a configuration of oidc-provider 9.13.3 needs to run on the cache. One for each provider. */
export function onCache(
  cache: Cache,
  options?: AdapterOptions & OidcProviderHooks,
): {
  fetch(url: string | URL, init?: any): Promise<Response>;
  features: {
    clientIdMetadataDocument: {
      enabled: true;
      ack: 'draft-02';
      cacheDuration: { min: 0; max: 0 };
      allowFetch(ctx: any, clientId: string): Promise<boolean>;
      allowClient(ctx: any, client: any): Promise<boolean>;
    };
  };
};
