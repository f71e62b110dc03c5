// What reaches a query function, and what is made of its errors.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { STATEMENTS } from '../generated/statements.mjs';
import { Sql } from '../src/sql.mjs';
import { counted } from './support.mjs';

test('only statements of the list are sent, with parameters of their types', async () => {
  const { query, sent } = counted(undefined, async () => []);
  const run = new Sql({ query, schema: 'cimd_cache', statementTimeoutMs: 1 });
  const signal = new AbortController().signal;
  const text = (val) => ({ tag: 'text', val });
  const [get] = STATEMENTS;
  const refused = { tag: 'err', val: { tag: 'not-allowed' } };
  for (const [statement, parameters] of [
    ['select 1', []],
    [`${get.sql} `, [text('a')]],
    [get.sql, []],
    [get.sql, [text('a'), text('b')]],
    [get.sql, [{ tag: 'int64', val: 1n }]],
    [get.sql, [{ tag: 'bytes', val: new Uint8Array() }]],
  ]) {
    assert.deepEqual(await run.run(statement, parameters, signal), refused);
  }
  assert.equal(sent.length, 0);
  assert.deepEqual(await run.run(get.sql, [text('a')], signal), { tag: 'ok', val: [] });
  assert.equal(sent.length, 1);
});

test('a read is sent again when its connection was lost, a write only when it was rolled back', async () => {
  for (const [statement, error, times, expected] of [
    ['get', { code: 'ECONNRESET' }, 3, { tag: 'unavailable' }],
    ['get', { code: '57P01' }, 3, { tag: 'database', val: '57P01' }],
    ['get', { code: 'EPIPE' }, 3, { tag: 'unavailable' }],
    ['get', { code: '42P01' }, 1, { tag: 'database', val: '42P01' }],
    ['delete', { code: 'ECONNRESET' }, 1, { tag: 'unavailable' }],
    ['delete', { code: '57P01' }, 1, { tag: 'database', val: '57P01' }],
    ['delete', { code: '40001' }, 3, { tag: 'database', val: '40001' }],
    ['delete', { code: '40P01' }, 3, { tag: 'database', val: '40P01' }],
  ]) {
    const failures = [];
    const { query, sent } = counted(undefined, async () => {
      throw Object.assign(new Error('no'), error);
    });
    const onFailure = (failure, about) => failures.push([failure.code, about.statement]);
    const run = new Sql({ query, schema: 'cimd_cache', statementTimeoutMs: 1, onFailure });
    const { sql: text } = STATEMENTS.find(({ name }) => name === statement);
    const answer = await run.run(text, [{ tag: 'text', val: 'a' }], new AbortController().signal);
    assert.deepEqual(answer, { tag: 'err', val: expected });
    assert.equal(sent.length, times, `${statement} ${error.code}`);
    assert.deepEqual(failures[0], [error.code, statement]);
  }
});
