// The in-process backing as a way in: on the pool of `pg`, or on Postgres.js if WAY_DRIVER says so.

import { createCache, fromPg, fromPostgres } from '../src/in-process.mjs';

export async function open(suspension) {
  const opened = await openCache(suspension);
  // The suite's deadlines are for calls: compiling the module and connecting is done before the first.
  await opened.cache.get('https://first.example/').catch(() => {});
  return opened;
}

async function openCache(suspension) {
  const address = process.env.DATABASE_URL;
  if (process.env.WAY_DRIVER === 'postgres') {
    const { default: postgres } = await import('postgres');
    const { hostname, username, pathname } = new URL(address);
    const host = decodeURIComponent(hostname);
    const sql = postgres({ host, username, database: pathname.slice(1), max: 10, onnotice: () => {} });
    return { cache: createCache({ query: fromPostgres(sql), suspension }), end: () => sql.end({ timeout: 1 }) };
  }
  const { default: pg } = await import('pg');
  const pool = new pg.Pool({ connectionString: address, max: 10 });
  return { cache: createCache({ query: fromPg(pool), suspension }), end: () => pool.end() };
}
