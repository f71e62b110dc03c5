// Connections that the server ends, on `pg` and on Postgres.js: what is sent again, and that the pool is whole afterwards.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import pg from 'pg';
import postgresJs from 'postgres';
import { fromPg, fromPostgres } from '../src/in-process.mjs';
import { patient, startPostgres } from './support.mjs';

const ID = 'https://lost.example/';
const OURS = "from pg_stat_activity where usename = 'cimd_cache_app'";
const END = `select pg_terminate_backend(pid, 10000) ${OURS}`;
const WAITING = `select pid ${OURS} and wait_event_type = 'Lock'`;

let postgres;

before(async () => {
  postgres = await startPostgres();
});

after(() => postgres?.stop());

const drivers = {
  pg: () => {
    const pool = new pg.Pool({ ...postgres.config, max: 1 });
    return [fromPg(pool), () => pool.end()];
  },
  'Postgres.js': () => {
    const sql = postgresJs({ ...postgres.config, max: 1 });
    return [fromPostgres(sql), () => sql.end({ timeout: 1 })];
  },
};

for (const [name, open] of Object.entries(drivers)) {
  test(`a get does not see that its idle connection was ended, on ${name}`, async () => {
    const [query, end] = open();
    const cache = patient({ query });
    for (let round = 0; round < 5; round += 1) {
      assert.equal(await cache.put(ID, '{}', { expiresIn: 60, ticket: null }), 'stored');
      // This process waits for psql, so it has read of no end when the next call begins.
      postgres.psql(END);
      assert.equal((await cache.get(ID)).outcome, 'hit', `round ${round}`);
    }
    await cache.close();
    await end();
  });

  test(`of what was lost in flight a get is sent again and a put is not, on ${name}`, async () => {
    const [query, end] = open();
    const cache = patient({ query });
    await cache.put(ID, '{"v": 1}', { expiresIn: 60, ticket: null });

    /** Ends the connection of a call that waits for a lock: whether another waits then. */
    const lose = async (call) => {
      let isDone = false;
      call.catch(() => {}).finally(() => (isDone = true));
      while (postgres.psql(WAITING) === '') await turn();
      postgres.psql(END);
      while (!isDone && postgres.psql(WAITING) === '') await turn();
      return !isDone;
    };

    const holder = new pg.Client({ ...postgres.config, user: 'postgres' });
    await holder.connect();
    const lock = 'begin; lock table cimd_cache.client_id_metadata in access exclusive mode';
    for (let round = 0; round < 2; round += 1) {
      await holder.query(lock);
      const put = cache.put(ID, '{"v": 2}', { expiresIn: 60, ticket: null });
      assert.equal(await lose(put), false);
      await assert.rejects(put, { code: 'unavailable' });
      await holder.query('rollback');

      await holder.query(lock);
      const get = cache.get(ID);
      assert.equal(await lose(get), true);
      await holder.query('rollback');
      assert.equal((await get).metadata, '{"v": 1}');
    }
    await holder.end();
    await cache.close();
    await end();
  });
}
