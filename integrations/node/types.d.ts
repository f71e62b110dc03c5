/** A cache of validated OAuth Client ID Metadata Documents. */
export interface Cache {
  /** Looks up the document of a client. A lookup changes nothing. */
  get(clientId: string, options?: CallOptions): Promise<Hit | Miss>;

  /** Looks up to 64 documents at one moment, one answer for each, in their order. */
  getMany(clientIds: readonly string[], options?: CallOptions): Promise<Array<Hit | Miss | Failed>>;

  /**
   * Stores a document that the caller has validated. `metadata` is its JSON text. `'superseded'` means that
   * something newer is known and nothing was changed: use what was fetched for this request, and no other.
   * Repeating a put with its ticket is safe.
   */
  put(clientId: string, metadata: string, options: PutOptions): Promise<'stored' | 'superseded'>;

  /** Removes a document; whether a get would have hit. A put with an older ticket is superseded from then on. */
  delete(clientId: string, options?: CallOptions): Promise<boolean>;

  /** Removes all documents, in one write. */
  purge(options?: CallOptions): Promise<void>;

  /** Removes at most `limit` rows (1,000 if not given) that no get can return. Call again while there are more. */
  sweep(limit?: number, options?: CallOptions): Promise<{ removed: number; more: boolean }>;

  /** Whether the cache can be used; if not, fails with the code `not-ready` and the next step. */
  check(options?: CallOptions): Promise<void>;

  /** Lets no more calls in. A pool that was passed in stays open: it is the caller's. */
  close(): Promise<void>;
}

export interface Hit {
  outcome: 'hit';
  /** The document as JSON text: JSON.parse rounds numbers that a double cannot hold. */
  metadata: string;
  /** When it expires, in seconds since 1970, by the database's clock. */
  expiresAt: number;
  /** How long it stays fresh, in milliseconds, counted from when the database read it. */
  freshForMs: number;
  /** For a fetch that refreshes the document ahead of time. */
  ticket: string;
}

export interface Miss {
  outcome: 'miss';
  /** The fencing token for the put after the fetch. */
  ticket: string;
}

/** The answer for one client of `getMany` that failed. */
export interface Failed {
  outcome: 'error';
  error: CimdCacheError;
}

export interface CallOptions {
  /** Gives up the wait: the call is rejected with the signal's reason. What was sent may be applied. */
  signal?: AbortSignal;
  /** A shorter deadline for this call, in milliseconds. It never lengthens one. */
  timeoutMs?: number;
}

export type PutOptions = CallOptions & {
  /** The ticket of the get before the fetch; `null` states that there is none, and such a put undoes a delete. */
  ticket: string | null;
} & (
    | {
        /** The lifetime in whole seconds from the ticket, else from now. Over ten years count as ten years. */
        expiresIn: number | bigint;
        expiresAt?: undefined;
      }
    | {
        /** When it expires, in whole seconds since 1970. */
        expiresAt: number | bigint;
        expiresIn?: undefined;
      }
  );

/** What a code means is in the README. A service may answer with further codes, about the request. */
export type ErrorCode =
  | 'invalid-url'
  | 'invalid-metadata'
  | 'invalid-expiry'
  | 'invalid-ticket'
  | 'not-configured'
  | 'unavailable'
  | 'timed-out'
  | 'storage'
  | 'not-ready'
  | (string & {});

/** A call that was refused or failed. Decide by `code`; the message is for people. */
export class CimdCacheError extends Error {
  readonly name: 'CimdCacheError';
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string, options?: ErrorOptions);
}

/** One of the service's tokens, or a function that is asked for it at each call, so that it may change. */
export type Token = string | (() => string | Promise<string>);

type Pem = string | Uint8Array;

export type ServiceOptions = {
  /** How long a call without `timeoutMs` waits, in milliseconds: 5000, more than the service's own deadline. */
  timeoutMs?: number;
  /** The most connections at once: 64. */
  maxConnections?: number;
} & (
  | {
      /** The path of the service's Unix socket. */
      socket: string;
      url?: undefined;
      tls?: undefined;
      token?: Token;
    }
  | {
      /** The service's address: `https://cache.internal:8443`, or `http://127.0.0.1:8080` on this machine. */
      url: string;
      socket?: undefined;
      /** For https: the authorities to trust, if they are not the usual ones, and this client's certificate. */
      tls?: { ca?: Pem | Pem[]; cert?: Pem; key?: Pem; passphrase?: string };
      token?: Token;
    }
);

export interface QueryOptions {
  /** A name that belongs to this text, for a prepared statement. */
  name: string;
  /** Aborted when nobody waits any more. A statement that was sent has to end before its connection is used again. */
  signal: AbortSignal;
  /** The `statement_timeout` that the statement must run under. */
  statementTimeoutMs: number;
}

/**
 * Runs one statement in a transaction of its own, at READ COMMITTED, under that `statement_timeout`. Returns each
 * row as an array, in the order of the columns. A bigint is a BigInt or its digits; a number that may have been
 * rounded is refused. Of an error, `code` is the SQLSTATE if the server sent one.
 */
export type Query = (
  text: string,
  parameters: ReadonlyArray<string | bigint | boolean | null>,
  options: QueryOptions,
) => Promise<unknown[][]>;

export interface InProcessOptions {
  query: Query;
  /** The Postgres schema of the cache: `cimd_cache`. One for each validation policy. */
  schema?: string;
  /** For a call, waiting for a connection included: 2000, at most 30000. */
  deadlineMs?: number;
  /** How calls wait for the database. By default `'jspi'` where it was tested, else `'replay'`. */
  suspension?: 'jspi' | 'replay';
  /** The core module `cimd-cache/cimd-cache.wasm`, where an engine compiles none at run time. */
  module?: WebAssembly.Module | Uint8Array<ArrayBuffer> | ArrayBuffer;
  /** For the operator's log: the driver's error for a statement. It may name what the statement was about. */
  onFailure?: (error: unknown, about: { statement: string }) => void;
}

export interface Fetched {
  /** The validated document, as JSON text. */
  metadata: string;
  /** The lifetime that the response allows, in whole seconds. */
  expiresIn: number | bigint;
}

export interface ResolveOptions {
  /** Gives up this caller's wait. The fetch is aborted when nobody waits for it any more. */
  signal?: AbortSignal;
  /** While the cache is away: `'fetch'` without storing (the default), or `'fail'`. */
  onUnavailable?: 'fetch' | 'fail';
  /** How long the get may take, in milliseconds: 250. */
  timeoutMs?: number;
  /** How long the put may take, in milliseconds: 1000. */
  putTimeoutMs?: number;
  /** The most fetches at once while the cache is away: 16. The first caller of a cache decides. */
  maxFetches?: number;
  /** Hears that the cache is away. Without it, a line on the console, at most one a minute. */
  onWarning?: (error: CimdCacheError) => void;
}

/**
 * The document of a client, as JSON text: from the cache, else from its origin by `fetchAndValidate`, which
 * rejects if the document cannot be accepted; then nothing is stored.
 */
export function resolve(
  cache: Cache,
  clientId: string,
  fetchAndValidate: (clientId: string, options: { signal: AbortSignal }) => Promise<Fetched>,
  options?: ResolveOptions,
): Promise<string>;
