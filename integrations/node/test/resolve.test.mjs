// The recipe, on two caches over one database: who fetches, who shares, and what is kept.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { CimdCacheError, connect, createCache, fromPg, resolve } from '../src/index.mjs';
import { startPostgres } from './support.mjs';

let postgres;
let pool;
let a;
let b;
let number = 0;

before(async () => {
  postgres = await startPostgres();
  pool = new pg.Pool({ ...postgres.config, max: 10 });
  const query = fromPg(pool);
  a = createCache({ query, deadlineMs: 30_000 });
  b = createCache({ query, deadlineMs: 30_000 });
});

after(async () => {
  await pool?.end();
  await postgres?.stop();
});

const client = () => `https://client-${(number += 1)}.example/`;
const document = (version) => JSON.stringify({ v: version });
const version = (text) => JSON.parse(text).v;

/** A fetch that counts, and ends when it is told what it found. */
function origin({ heedsItsSignal = true } = {}) {
  const fetches = [];
  const began = [];
  const fetchAndValidate = (clientId, { signal }) =>
    new Promise((fulfil, reject) => {
      const fetch = { signal, found: (v) => fulfil({ metadata: document(v), expiresIn: 3600 }), reject };
      fetches.push(fetch);
      if (heedsItsSignal) signal.addEventListener('abort', () => reject(signal.reason));
      began.shift()?.(fetch);
    });
  const next = () => new Promise((fulfil) => began.push(fulfil));
  return { fetches, fetchAndValidate, next };
}

/** The cache, and a promise of when so many gets from now on have ended and their callers wait for something else. */
function watched(cache) {
  let left = 0;
  let settle;
  const proxy = {
    put: (...args) => cache.put(...args),
    async get(...args) {
      try {
        return await cache.get(...args);
      } finally {
        if ((left -= 1) === 0) setImmediate(settle);
      }
    },
  };
  const asked = (count = 1) => {
    left = count;
    return new Promise((fulfil) => (settle = fulfil));
  };
  return { proxy, asked };
}

/** A cache that is away. */
const away = (code = 'unavailable') => {
  const fail = async () => {
    throw new CimdCacheError(code, 'away');
  };
  return { get: fail, put: fail, delete: fail };
};

const quiet = { onWarning: () => {}, timeoutMs: 30_000, putTimeoutMs: 30_000 };

test('a miss is fetched and stored, and a hit is not fetched', async () => {
  const id = client();
  let fetched = 0;
  const fetchAndValidate = async (clientId, { signal }) => {
    assert.equal(clientId, id);
    assert.ok(signal instanceof AbortSignal);
    fetched += 1;
    return { metadata: document(1), expiresIn: 3600 };
  };
  for (const cache of [a, b, a]) assert.equal(version(await resolve(cache, id, fetchAndValidate, quiet)), 1);
  assert.equal(fetched, 1);
});

test('callers of one client share a fetch, and of two do not', async () => {
  const { fetches, fetchAndValidate, next } = origin();
  const { proxy, asked } = watched(a);
  const [id, other] = [client(), client()];
  const first = next();
  const lead = resolve(proxy, id, fetchAndValidate, quiet);
  await first;
  const join = asked(8);
  const joined = Array.from({ length: 8 }, () => resolve(proxy, id, fetchAndValidate, quiet));
  await join;
  const second = next();
  const apart = resolve(proxy, other, fetchAndValidate, quiet);
  (await second).found(2);
  fetches[0].found(1);
  const found = await Promise.all([lead, ...joined]);
  assert.deepEqual(found.map(version), Array(9).fill(1));
  assert.equal(version(await apart), 2);
  assert.equal(fetches.length, 2);
});

test('who joined a fetch that a delete elsewhere overtook asks again', async () => {
  const { fetches, fetchAndValidate, next } = origin();
  const id = client();
  const { proxy, asked } = watched(a);
  const first = next();
  const lead = resolve(proxy, id, fetchAndValidate, quiet);
  await first;
  await b.delete(id);
  const joins = asked();
  const late = resolve(proxy, id, fetchAndValidate, quiet);
  await joins;
  const second = next();
  fetches[0].found('old');
  assert.equal(version(await lead), 'old', 'the answer to the request that began it');
  (await second).found('new');
  assert.equal(version(await late), 'new');
  assert.equal(version((await a.get(id)).metadata), 'new');
});

for (const remove of ['delete', 'purge']) {
  test(`nobody joins a fetch that began before a ${remove} in this process`, async () => {
    const { fetches, fetchAndValidate, next } = origin();
    const id = client();
    const first = next();
    const lead = resolve(a, id, fetchAndValidate, quiet);
    await first;
    await a[remove](id && remove === 'delete' ? id : undefined);
    const second = next();
    const late = resolve(a, id, fetchAndValidate, quiet);
    // It fetches although the other fetch has not ended.
    (await second).found('new');
    assert.equal(version(await late), 'new');
    fetches[0].found('old');
    assert.equal(version(await lead), 'old');
    assert.equal(version((await b.get(id)).metadata), 'new', 'and the old one was not stored');
  });
}

test('a fetch that fails stores nothing and is not remembered', async () => {
  const { fetchAndValidate, next } = origin();
  const id = client();
  const first = next();
  const lead = resolve(a, id, fetchAndValidate, quiet);
  (await first).reject(new Error('invalid'));
  await assert.rejects(lead, { message: 'invalid' });
  assert.equal((await a.get(id)).outcome, 'miss');
  const second = next();
  const again = resolve(a, id, fetchAndValidate, quiet);
  (await second).found(1);
  assert.equal(version(await again), 1);
});

test('a document that the cache refuses is refused', async () => {
  const id = client();
  const twice = async () => ({ metadata: '{"a":1,"a":2}', expiresIn: 3600 });
  await assert.rejects(resolve(a, id, twice, quiet), { code: 'invalid-metadata' });
  const object = async () => ({ metadata: {}, expiresIn: 3600 });
  await assert.rejects(resolve(a, id, object, quiet), { code: 'invalid-metadata' });
  await assert.rejects(resolve(a, '', object, quiet), { code: 'invalid-url' });
});

test('who gives up leaves, and the last one ends the fetch', async () => {
  const { fetches, fetchAndValidate, next } = origin({ heedsItsSignal: false });
  const id = client();
  const { proxy, asked } = watched(a);
  const [one, two] = [new AbortController(), new AbortController()];
  const first = next();
  const lead = resolve(proxy, id, fetchAndValidate, { ...quiet, signal: one.signal });
  await first;
  const joins = asked();
  const joined = resolve(proxy, id, fetchAndValidate, { ...quiet, signal: two.signal });
  await joins;
  one.abort(new Error('one'));
  await assert.rejects(lead, { message: 'one' });
  assert.equal(fetches[0].signal.aborted, false);
  const second = next();
  two.abort(new Error('two'));
  await assert.rejects(joined, { message: 'two' });
  assert.equal(fetches[0].signal.aborted, true);
  const fresh = resolve(proxy, id, fetchAndValidate, quiet);
  (await second).found(1);
  assert.equal(version(await fresh), 1, 'and nobody joins what was given up');
});

test('with the cache away it fails, or fetches without storing, as it was told', async () => {
  for (const code of ['unavailable', 'timed-out', 'storage', 'not-configured']) {
    const cache = away(code);
    let fetched = 0;
    const fetchAndValidate = async () => ({ metadata: document((fetched += 1)), expiresIn: 60 });
    await assert.rejects(resolve(cache, 'https://c/', fetchAndValidate, { onUnavailable: 'fail' }), { code });
    const warnings = [];
    const options = { onWarning: (error) => warnings.push(error.code) };
    assert.equal(version(await resolve(cache, 'https://c/', fetchAndValidate, options)), 1);
    assert.equal(version(await resolve(cache, 'https://c/', fetchAndValidate, options)), 2);
    assert.deepEqual(warnings, [code, code]);
  }
  const wrong = resolve(a, client(), async () => {}, { onUnavailable: 'ignore' });
  await assert.rejects(wrong, TypeError);
});

test('a get that fails for another reason fails the request', async () => {
  for (const code of ['invalid-url', 'wrong-token', 'role']) {
    const found = () => assert.fail('it is not fetched');
    await assert.rejects(resolve(away(code), 'https://c/', found, { onUnavailable: 'fetch' }), { code });
  }
});

test('with the cache away only so many fetch at once, and one client waits for one fetch', async () => {
  const cache = away();
  const { fetches, fetchAndValidate, next } = origin();
  const options = { maxFetches: 2, onWarning: () => {} };
  const ask = (id) => resolve(cache, id, fetchAndValidate, options);
  const running = [];
  for (let n = 0; n < 2; n += 1) {
    const begins = next();
    running.push(ask('https://a/'));
    await begins;
  }
  assert.equal(fetches.length, 2, 'a fetch that has begun is not joined: it may be from before a delete');
  const waiting = [ask('https://b/'), ask('https://b/'), ask('https://b/'), ask('https://c/')];
  for (let turn = 0; turn < 10; turn += 1) await new Promise(setImmediate);
  assert.equal(fetches.length, 2, 'the others wait');
  const third = next();
  fetches[0].found(1);
  (await third).found(3);
  const fourth = next();
  (await fourth).found(4);
  fetches[1].found(2);
  assert.deepEqual((await Promise.all([...running, ...waiting])).map(version), [1, 2, 3, 3, 3, 4]);
});

test('with the cache away no more wait than there is room for', async () => {
  const cache = away();
  const { fetches, fetchAndValidate, next } = origin();
  const options = { maxFetches: 1, onWarning: () => {} };
  const begun = next();
  const calls = Array.from({ length: 66 }, (_, n) => resolve(cache, `https://${n}/`, fetchAndValidate, options));
  const ends = Promise.allSettled(calls);
  await begun;
  let turns = 0;
  for (let done = 0; done < 65; done += 1) {
    const follows = done < 64 ? next() : undefined;
    fetches[done].found(1);
    await follows;
    turns += 1;
  }
  const outcomes = (await ends).map(({ status, reason }) => reason?.code ?? status);
  assert.equal(outcomes.filter((one) => one === 'fulfilled').length, 65);
  assert.deepEqual(outcomes.filter((one) => one !== 'fulfilled'), ['unavailable']);
});

test('a put that fails leaves the answer, warns, and is no answer for others', async () => {
  const { fetches, fetchAndValidate, next } = origin();
  const id = client();
  const warnings = [];
  const options = { ...quiet, onWarning: (error) => warnings.push(error.code) };
  const { proxy, asked } = watched(a);
  proxy.put = async () => {
    throw new CimdCacheError('unavailable', 'away');
  };
  const first = next();
  const lead = resolve(proxy, id, fetchAndValidate, options);
  await first;
  const joins = asked();
  const joined = resolve(proxy, id, fetchAndValidate, options);
  await joins;
  const second = next();
  fetches[0].found(1);
  assert.equal(version(await lead), 1);
  (await second).found(2);
  assert.equal(version(await joined), 2);
  assert.deepEqual(warnings, ['unavailable', 'unavailable']);
});

test('no put is without a ticket', async () => {
  const tickets = [];
  const cache = { get: (id) => a.get(id), put: (id, text, options) => (tickets.push(options.ticket), a.put(id, text, options)) };
  const found = async () => ({ metadata: document(1), expiresIn: 60 });
  await resolve(cache, client(), found, quiet);
  await resolve(away(), client(), found, quiet);
  assert.equal(tickets.length, 1);
  assert.match(tickets[0], /^[0-9a-f-]{33}$/);
});

test('without a service it is as with the cache away', async () => {
  const cache = connect({ socket: '/nonexistent/socket' });
  const found = async () => ({ metadata: document(1), expiresIn: 60 });
  await assert.rejects(resolve(cache, client(), found, { onUnavailable: 'fail' }), { code: 'unavailable' });
  assert.equal(version(await resolve(cache, client(), found, quiet)), 1);
  await cache.close();
});
