// The calls on `pg` and on Postgres.js, over a real server, suspended in each way that the engine has.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { createCache, fromPg, fromPostgres } from '../src/in-process.mjs';
import { hasJspi } from '../src/suspension.mjs';
import { startPools } from './pools.mjs';
import { counted, patient } from './support.mjs';

const WAYS = hasJspi() ? ['replay', 'jspi'] : ['replay'];
let postgres;
let pool;
let sql;
let number = 0;

let started;

before(async () => {
  started = await startPools();
  ({ postgres, pool, sql } = started);
});

after(() => started?.stop());

const client = () => `https://client-${(number += 1)}.example/`;

for (const suspension of WAYS) {
  for (const driver of ['pg', 'postgres']) {
    test(`the calls, on ${driver} by ${suspension}`, async () => {
      const query = driver === 'pg' ? fromPg(pool) : fromPostgres(sql);
      const cache = patient({ query, suspension });
      await cache.check();
      const id = client();
      const { outcome, ticket } = await cache.get(id);
      assert.equal(outcome, 'miss');
      const document = '{"n": 12345678901234567890, "f": 0.1000000000000000000001, "s": "é😀"}';
      assert.equal(await cache.put(id, document, { expiresIn: 3600n, ticket }), 'stored');
      const hit = await cache.get(id);
      assert.match(hit.metadata, /12345678901234567890/);
      assert.match(hit.metadata, /0\.1000000000000000000001/);
      assert.ok(Math.abs(hit.expiresAt - Date.now() / 1000 - 3600) < 60);
      assert.ok(hit.freshForMs > 3_500_000 && hit.freshForMs <= 3_600_000);
      const many = await cache.getMany([client(), id, '', '\ud800', id]);
      assert.deepEqual(many.map((one) => one.outcome), ['miss', 'hit', 'error', 'error', 'hit']);
      assert.deepEqual([many[2].error.code, many[3].error.code], ['invalid-url', 'invalid-url']);
      assert.equal(many[4].metadata, hit.metadata);
      assert.deepEqual(new Set((await cache.getMany(Array(65).fill(id))).map((one) => one.error.code)), new Set(['invalid-url']));
      assert.equal(await cache.delete(id), true);
      assert.equal(await cache.put(id, document, { expiresIn: 3600, ticket }), 'superseded');
      const future = Math.floor(Date.now() / 1000) + 1000;
      assert.equal(await cache.put(id, '{}', { expiresAt: future, ticket: null }), 'stored');
      assert.equal((await cache.get(id)).expiresAt, future);
      assert.deepEqual(await cache.sweep(0), { removed: 0, more: false });
      await cache.purge();
      assert.equal((await cache.get(id)).outcome, 'miss');
      await assert.rejects(cache.put(id, '[]', { expiresIn: 1, ticket: null }), { name: 'CimdCacheError', code: 'invalid-metadata' });
      await assert.rejects(cache.put(id, '{}', { expiresIn: 1, ticket: 'x' }), { code: 'invalid-ticket' });
      await assert.rejects(cache.put(id, '{}', { expiresAt: -1, ticket: null }), { code: 'invalid-expiry' });
      await cache.close();
      await assert.rejects(cache.get(id), { code: 'unavailable' });
    });
  }

  test(`many calls at once, by ${suspension}`, async () => {
    const cache = patient({ query: fromPg(pool), suspension });
    const ids = Array.from({ length: 300 }, client);
    await Promise.all(ids.map((id, n) => cache.put(id, `{"v":${n}}`, { expiresIn: 60, ticket: null })));
    const found = await Promise.all(ids.map((id) => cache.get(id)));
    assert.deepEqual(found.map(({ metadata }) => JSON.parse(metadata).v), ids.map((_, n) => n));
  });

  test(`an answer that the component does not expect is an error, and the next call works, by ${suspension}`, async () => {
    let wrong = () => [];
    const { query } = counted(fromPg(pool), async (...args) => wrong(...args) ?? fromPg(pool)(...args));
    const cache = patient({ query, suspension });
    await assert.rejects(cache.get('https://c/'), { code: 'storage' });
    for (const rows of [[{}], [[1]], [[1.5, '2', null, null]], [['1', '2', 3, null]], [['1', 2 ** 53, null, null]], 'no']) {
      wrong = () => rows;
      await assert.rejects(cache.get('https://c/'), { code: 'storage', message: /query function/ });
    }
    wrong = () => {
      throw new TypeError('a mistake in the caller’s own function');
    };
    await assert.rejects(cache.get('https://c/'), TypeError);
    wrong = () => undefined;
    assert.equal((await cache.get('https://c/')).outcome, 'miss');
  });

  test(`a caller who gives up does not wait, and the connection comes back, by ${suspension}`, async () => {
    const one = new pg.Pool({ ...postgres.config, max: 1 });
    const cache = patient({ query: fromPg(one), suspension });
    const id = client();
    await cache.put(id, '{"v":1}', { expiresIn: 60, ticket: null });
    const holder = new pg.Client({ ...postgres.config, user: 'postgres' });
    await holder.connect();
    await holder.query('begin');
    await holder.query('select 1 from cimd_cache.client_id_metadata where url = $1 for update', [id]);
    const controller = new AbortController();
    const put = cache.put(id, '{"v":2}', { expiresIn: 60, ticket: null, signal: controller.signal });
    await waits(holder);
    const short = cache.get(id, { timeoutMs: 50 });
    await assert.rejects(short, { code: 'timed-out' }, 'there is no other connection');
    controller.abort(new Error('enough'));
    await assert.rejects(put, { message: 'enough' });
    assert.equal(one.idleCount, 0, 'the statement has not ended');
    await holder.query('rollback');
    assert.equal((await cache.get(id)).outcome, 'hit');
    assert.equal(one.totalCount, 1);
    await holder.end();
    await cache.close();
    await one.end();
  });

  test(`a statement ends before the deadline, by ${suspension}`, async () => {
    const [cache, hasty] = [patient({ query: fromPg(pool), suspension }), createCache({ query: fromPg(pool), suspension, deadlineMs: 500 })];
    const id = client();
    await cache.put(id, '{"v":1}', { expiresIn: 60, ticket: null });
    const holder = new pg.Client({ ...postgres.config, user: 'postgres' });
    await holder.connect();
    await holder.query('begin');
    await holder.query('select 1 from cimd_cache.client_id_metadata where url = $1 for update', [id]);
    await assert.rejects(hasty.put(id, '{"v":2}', { expiresIn: 60, ticket: null }), { code: 'timed-out' });
    await hasty.close();
    await holder.query('rollback');
    await holder.end();
    assert.equal(JSON.parse((await cache.get(id)).metadata).v, 1);
  });
}

/** Until a statement of the cache waits for a lock. */
async function waits(admin) {
  const waiting = "select 1 from pg_stat_activity where usename = 'cimd_cache_app' and wait_event_type = 'Lock'";
  while ((await admin.query(waiting)).rowCount === 0);
}
