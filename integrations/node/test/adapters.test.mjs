// The query functions on `pg` and on Postgres.js: transactions, settings, prepared statements, values.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import postgresJs from 'postgres';
import { fromPg, fromPostgres } from '../src/in-process.mjs';
import { startPools } from './pools.mjs';
import { patient } from './support.mjs';

let postgres;
let pool;
let sql;

let started;

before(async () => {
  started = await startPools();
  ({ postgres, pool, sql } = started);
});

after(() => started?.stop());

test('each statement runs under the timeout and at READ COMMITTED, whatever the connection has', async () => {
  const at = async (query) => {
    const text = `select current_setting('statement_timeout'), current_setting('transaction_isolation')`;
    const signal = new AbortController().signal;
    return (await query(text, [], { name: 'settings', signal, statementTimeoutMs: 1234 }))[0];
  };
  const settings = "set statement_timeout = 0; set default_transaction_isolation = 'serializable'";
  const shared = new pg.Pool({ ...postgres.config, max: 1 });
  await shared.query(settings);
  assert.deepEqual(await at(fromPg(shared)), ['1234ms', 'read committed']);
  const { rows } = await shared.query("select current_setting('statement_timeout'), current_setting('transaction_isolation') as i");
  assert.deepEqual(rows, [{ current_setting: '0', i: 'serializable' }], 'and others find it as it was');
  await shared.end();
  const one = postgresJs({ ...postgres.config, max: 1 });
  await one.unsafe(settings);
  assert.deepEqual(await at(fromPostgres(one)), ['1234ms', 'read committed']);
  assert.equal((await one.unsafe('show statement_timeout'))[0].statement_timeout, '0');
  await one.end();
});

test('a statement that fails leaves a connection that can be used, outside of a transaction', async () => {
  const options = { signal: new AbortController().signal, statementTimeoutMs: 1000 };
  const [own, other] = [new pg.Pool({ ...postgres.config, max: 1 }), postgresJs({ ...postgres.config, max: 1 })];
  const state = 'select pg_current_xact_id_if_assigned() is null, now() = statement_timestamp(), pg_backend_pid()';
  for (const query of [fromPg(own), fromPostgres(other)]) {
    const [[, , first]] = await query(state, [], { name: 'state', ...options });
    await assert.rejects(query('select 1 / $1::bigint', [0n], { name: 'zero', ...options }), { code: '22012' });
    assert.deepEqual(await query('select 1 / $1::bigint', [1n], { name: 'zero', ...options }), [['1']]);
    assert.equal((await query(state, [], { name: 'state', ...options }))[0][2], first);
  }
  assert.equal((await own.query("select now() = statement_timestamp() as its_own")).rows[0].its_own, true);
  await own.end();
  await other.end();
});

test('what is prepared may be gone, or no longer fit the table', async () => {
  const options = { name: 'two', signal: new AbortController().signal, statementTimeoutMs: 1000 };
  const own = new pg.Pool({ ...postgres.config, user: 'postgres', max: 1 });
  const query = fromPg(own);
  await own.query('create table public.changes (a bigint)');
  const text = 'select * from public.changes where $1::bigint = 1';
  await own.query('insert into public.changes values (1)');
  assert.deepEqual(await query(text, [1n], options), [['1']]);
  const prepared = async () => (await own.query('select name from pg_prepared_statements')).rows.map(({ name }) => name);
  assert.deepEqual(await prepared(), ['two']);
  await own.query('alter table public.changes add b bigint');
  assert.deepEqual(await query(text, [1n], options), [['1', null]]);
  assert.deepEqual(await prepared(), ['two']);
  await own.query('deallocate all');
  assert.deepEqual(await query(text, [1n], options), [['1', null]]);
  assert.deepEqual(await prepared(), [], 'from then on nothing is');
  await own.query('drop table public.changes');
  await own.end();
});

test('the types that an application has registered do not change what the cache reads', async () => {
  const rounding = (text) => Number(text);
  const types = { getTypeParser: (oid) => (oid === 20 ? rounding : String) };
  const own = new pg.Pool({ ...postgres.config, types });
  const numbers = { bigint: { to: 20, from: [20], parse: rounding, serialize: (value) => String(Number(value)) } };
  const other = postgresJs({ ...postgres.config, types: numbers });
  for (const query of [fromPg(own), fromPostgres(other)]) {
    const options = { name: 'exact', signal: new AbortController().signal, statementTimeoutMs: 1000 };
    const rows = await query('select $1::bigint, 9223372036854775807, true, null::text', [9007199254740993n], options);
    assert.deepEqual(rows, [['9007199254740993', '9223372036854775807', 't', null]]);
  }
  await own.end();
  await other.end();
});

test('a handle that is bound to a transaction is refused', async () => {
  const held = await pool.connect();
  assert.throws(() => fromPg(held), TypeError);
  held.release();
  await sql.begin(async (transaction) => assert.throws(() => fromPostgres(transaction), TypeError));
  const reserved = await sql.reserve();
  assert.throws(() => fromPostgres(reserved), TypeError);
  reserved.release();
  for (const wrong of [undefined, {}, 'postgres://', { connect() {} }]) assert.throws(() => fromPg(wrong), TypeError);
  // Nothing can be seen of a function, but what it does shows.
  const bound = await pool.connect();
  await bound.query('begin; set local statement_timeout = 1000');
  const query = async (text, values) =>
    (await bound.query({ text, values, rowMode: 'array', types: { getTypeParser: () => String } })).rows;
  await assert.rejects(patient({ query }).check(), { code: 'not-ready', message: /inside of a transaction/ });
  await bound.query('rollback');
  bound.release();
});
