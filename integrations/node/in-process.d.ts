// What `cimd-cache/in-process` exports: `cimd-cache` without the client of the service, so that nothing needs
// node:http.

import type { Cache, InProcessOptions, Query } from './types.js';

export type * from './types.js';
export { CimdCacheError, resolve } from './types.js';

/** A cache in this process, on a function that runs SQL. */
export function createCache(options: InProcessOptions): Cache;

/** As much of a `pg.Pool` as is used. */
export interface PgPool {
  readonly totalCount: number;
  connect(): Promise<unknown>;
  on(event: 'error', listener: (error: Error) => void): unknown;
  listenerCount(event: 'error'): number;
}

/** As much of what `postgres()` returns as is used. */
export interface PostgresSql {
  unsafe(query: string, parameters?: any[], options?: any): any;
  begin(options: string, work: (sql: any) => any): Promise<any>;
}

/** The query function on a `Pool` of `pg`. */
export function fromPg(pool: PgPool): Query;

/** The query function on what `postgres()` of Postgres.js returns. */
export function fromPostgres(sql: PostgresSql): Query;
