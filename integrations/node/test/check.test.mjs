// What a check finds, and which options a cache takes.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { createCache, fromPg } from '../src/in-process.mjs';
import { hasJspi } from '../src/suspension.mjs';
import { patient, startPostgres } from './support.mjs';

let postgres;
let pool;
let number = 0;

before(async () => {
  postgres = await startPostgres();
  pool = new pg.Pool({ ...postgres.config, max: 4 });
});

after(async () => {
  await pool?.end();
  await postgres?.stop();
});

const client = () => `https://client-${(number += 1)}.example/`;

test('check names what is wrong', async () => {
  const admin = new pg.Client({ ...postgres.config, user: 'postgres' });
  await admin.connect();
  const cache = patient({ query: fromPg(pool) });
  const plain = async (text, values) =>
    (await pool.query({ text, values, rowMode: 'array', types: { getTypeParser: () => String } })).rows;
  await cache.check();
  for (const [wrong, right, message] of [
    ['revoke select on cimd_cache.client_id_metadata from cimd_cache_app', 'grant select on cimd_cache.client_id_metadata to cimd_cache_app', /privilege/],
    ['revoke update (purged_at) on cimd_cache.purge from cimd_cache_app', 'grant update (purged_at) on cimd_cache.purge to cimd_cache_app', /privilege/],
    ['revoke usage on schema cimd_cache from cimd_cache_app', 'grant usage on schema cimd_cache to cimd_cache_app', /refused/],
    ['alter table cimd_cache.purge rename to gone', 'alter table cimd_cache.gone rename to purge', /migrate/],
    ['alter table cimd_cache.client_id_metadata enable row level security', 'alter table cimd_cache.client_id_metadata disable row level security', /refused/],
  ]) {
    await admin.query(wrong);
    await assert.rejects(cache.check(), { code: 'not-ready', message });
    await admin.query(right);
    await cache.check();
  }
  await admin.query("alter role cimd_cache_app set default_transaction_read_only = 'on'");
  const fresh = new pg.Pool(postgres.config);
  await assert.rejects(patient({ query: fromPg(fresh) }).check(), { code: 'not-ready', message: /takes no writes/ });
  await admin.query('alter role cimd_cache_app reset default_transaction_read_only');
  await fresh.end();
  await admin.query("alter role cimd_cache_app set statement_timeout = 0");
  const unbounded = new pg.Pool(postgres.config);
  const query = async (text, values) =>
    (await unbounded.query({ text, values, rowMode: 'array', types: { getTypeParser: () => String } })).rows;
  await assert.rejects(patient({ query }).check(), { code: 'not-ready', message: /statement_timeout/ });
  await admin.query("alter role cimd_cache_app set statement_timeout = '5s'");
  await unbounded.end();
  await patient({ query: plain }).check();
  await assert.rejects(patient({ query: async () => Promise.reject(Object.assign(new Error(), { code: 'ECONNREFUSED' })) }).check(), {
    code: 'not-ready',
  });
  await admin.end();
});

test('a cache in a schema of its own', async () => {
  postgres.migrate('--schema', 'user');
  const own = patient({ query: fromPg(pool), schema: 'user' });
  const usual = patient({ query: fromPg(pool) });
  await own.check();
  const id = client();
  await own.put(id, '{"v":1}', { expiresIn: 60, ticket: null });
  assert.equal((await own.get(id)).outcome, 'hit');
  assert.equal((await usual.get(id)).outcome, 'miss');
  for (const schema of ['', 'a"b', 'pg_x', 'Upper', '1a', 'a'.repeat(64)]) {
    assert.throws(() => patient({ query: fromPg(pool), schema }), RangeError);
  }
});

test('what the options may be', () => {
  const query = async () => [];
  assert.throws(() => createCache({}), TypeError);
  for (const deadlineMs of [0, -1, 30_001, NaN]) assert.throws(() => patient({ query, deadlineMs }), RangeError);
  assert.throws(() => patient({ query, suspension: 'threads' }), TypeError);
  if (!hasJspi()) assert.throws(() => patient({ query, suspension: 'jspi' }), RangeError);
});
