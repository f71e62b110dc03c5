// Compiled by test/package.test.mjs with --strict, against the packed package. It is not run.

import { Pool } from 'pg';
import postgres from 'postgres';
import { CimdCacheError, connect, createCache, fromPg, fromPostgres, resolve } from 'cimd-cache';
import type { Cache, ErrorCode, Query } from 'cimd-cache';
import { createCache as createCacheOnly } from 'cimd-cache/in-process';

export async function all(signal: AbortSignal): Promise<string> {
  const byService: Cache = connect({ socket: '/run/cimd-cache/cache.sock', timeoutMs: 3000 });
  const byUrl: Cache = connect({ url: 'http://127.0.0.1:8080', token: 'secret' });
  const byTls: Cache = connect({ url: 'https://c.internal', token: async () => 'secret', tls: { ca: new Uint8Array(8) } });
  // @ts-expect-error: a socket is not encrypted
  connect({ socket: '/run/cimd-cache/cache.sock', tls: {} });
  // @ts-expect-error: one of the two
  connect({ url: 'http://127.0.0.1:8080', socket: '/run/cimd-cache/cache.sock' });
  // @ts-expect-error: neither
  connect({});

  const onPg: Cache = createCache({ query: fromPg(new Pool()), schema: 'strict' });
  const onPostgres: Cache = createCache({ query: fromPostgres(postgres()), suspension: 'replay' });
  const query: Query = async (text, parameters, { name, signal, statementTimeoutMs }) => {
    const strings: string[] = [text, name, signal.reason, statementTimeoutMs.toFixed()];
    return [[...strings, ...parameters]];
  };
  const own: Cache = createCacheOnly({ query, module: new Uint8Array(8), deadlineMs: 1000, onFailure: () => {} });
  // @ts-expect-error: rows are arrays
  createCache({ query: async () => [{}] });
  // @ts-expect-error: not a way
  createCache({ query, suspension: 'threads' });

  for (const cache of [byService, byUrl, byTls, onPg, onPostgres, own]) {
    const found = await cache.get('https://c.example/', { signal, timeoutMs: 250 });
    if (found.outcome === 'hit') {
      const numbers: [number, number] = [found.expiresAt, found.freshForMs];
      const texts: [string, string] = [found.metadata, found.ticket];
      console.log(numbers, texts);
    } else {
      // @ts-expect-error: a miss has no document
      console.log(found.metadata);
    }
    const stored: 'stored' | 'superseded' = await cache.put('u', '{}', { expiresIn: 1n, ticket: found.ticket });
    await cache.put('u', '{}', { expiresAt: 1, ticket: null, signal });
    // @ts-expect-error: that there is no ticket has to be stated
    await cache.put('u', '{}', { expiresIn: 1 });
    // @ts-expect-error: one expiry
    await cache.put('u', '{}', { expiresIn: 1, expiresAt: 2, ticket: null });
    // @ts-expect-error: a document is its text
    await cache.put('u', {}, { expiresIn: 1, ticket: null });
    for (const one of await cache.getMany(['u'] as const)) {
      if (one.outcome === 'error') throw one.error;
    }
    const had: boolean = await cache.delete('u');
    await cache.purge({ signal });
    const { removed, more }: { removed: number; more: boolean } = await cache.sweep();
    console.log(stored, had, removed, more);
    await cache.check();
    await cache.close();
  }
  try {
    return await resolve(
      onPg,
      'https://c.example/',
      async (clientId, { signal }) => ({ metadata: await (await fetch(clientId, { signal })).text(), expiresIn: 60 }),
      { onUnavailable: 'fetch', maxFetches: 4, onWarning: (error) => console.warn(error.code), signal },
    );
  } catch (error) {
    if (error instanceof CimdCacheError) {
      const code: ErrorCode = error.code;
      if (code === 'unavailable') return '';
    }
    throw error;
  }
}
