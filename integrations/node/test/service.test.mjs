// The client of the service: against the real one, and against servers that fail in ways it does not.

import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connect } from '../src/index.mjs';
import { folder, startPostgres, startService, startTlsService } from './support.mjs';

const URL = 'https://c.example/?a=1&b=+%20é#x';
let postgres;
let service;

before(async () => {
  postgres = await startPostgres();
  service = await startService(postgres.url, '--deadline-ms', '30000');
});

after(async () => {
  await service?.stop();
  await postgres?.stop();
});

/** A server that answers each request by `answer(request, response, number)`. */
async function fake(t, answer) {
  const socket = join(folder(t), 'socket');
  let number = 0;
  const server = createServer((request, response) => answer(request, response, (number += 1)));
  server.listen(socket);
  await once(server, 'listening');
  const cache = connect({ socket, timeoutMs: 5000 });
  t.after(async () => {
    await cache.close();
    server.closeAllConnections();
    server.close();
  });
  return cache;
}

const json = (response, value, status = 200) => {
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(JSON.stringify(value));
};

test('a document goes through and its numbers are not rounded', async () => {
  const cache = connect({ socket: service.socket, timeoutMs: 60_000 });
  const { outcome, ticket } = await cache.get(URL);
  assert.equal(outcome, 'miss');
  const document = '{"n": 12345678901234567890, "f": 0.1000000000000000000001, "s": "é😀"}';
  assert.equal(await cache.put(URL, document, { expiresIn: 3600, ticket }), 'stored');
  const hit = await cache.get(URL);
  assert.equal(hit.outcome, 'hit');
  assert.match(hit.metadata, /12345678901234567890/);
  assert.match(hit.metadata, /0\.1000000000000000000001/);
  assert.ok(Math.abs(hit.expiresAt - Date.now() / 1000 - 3600) < 60);
  assert.ok(hit.freshForMs > 3_500_000 && hit.freshForMs <= 3_600_000);
  const [miss, again, refused] = await cache.getMany(['https://other.example/', URL, '\ud800']);
  assert.equal(miss.outcome, 'miss');
  assert.equal(again.metadata, hit.metadata);
  assert.equal(refused.error.code, 'invalid-url');
  assert.equal(await cache.delete(URL), true);
  assert.equal(await cache.put(URL, document, { expiresIn: 3600, ticket }), 'superseded');
  assert.deepEqual(await cache.sweep(10), { removed: 0, more: false });
  await cache.purge();
  await cache.close();
  await assert.rejects(cache.get(URL), { code: 'unavailable' });
});

test('check asks the service whether it can be used', async () => {
  const cache = connect({ socket: service.socket, timeoutMs: 60_000 });
  await cache.check();
  postgres.psql('revoke select on cimd_cache.client_id_metadata from cimd_cache_app');
  try {
    await assert.rejects(cache.check(), { name: 'CimdCacheError', code: 'not-ready' });
  } finally {
    postgres.psql('grant select on cimd_cache.client_id_metadata to cimd_cache_app');
    await cache.close();
  }
});

test('a refusal has the code and the sentence of the service', async () => {
  const cache = connect({ socket: service.socket, timeoutMs: 60_000 });
  await assert.rejects(cache.get(''), { code: 'invalid-url', message: 'the client_id URL is empty' });
  const put = cache.put(URL, '[]', { expiresIn: 1, ticket: null });
  await assert.rejects(put, { name: 'CimdCacheError', code: 'invalid-metadata' });
  await assert.rejects(cache.put(URL, '{}', { expiresIn: 1, ticket: 'x' }), { code: 'invalid-ticket' });
  await assert.rejects(cache.put(URL, '{}', { expiresIn: 1 }), { code: 'invalid-ticket' });
  await assert.rejects(cache.put(URL, '{}', { expiresIn: 1.5, ticket: null }), { code: 'invalid-expiry' });
  await assert.rejects(cache.get('\udc00'), { code: 'invalid-url' });
  await cache.close();
});

test('over TCP the token is sent', async (t) => {
  const cache = await fake(t, (request, response) => json(response, { outcome: 'ready' }));
  await cache.check();
  const server = createServer((request, response) => {
    const { authorization, host } = request.headers;
    json(response, { outcome: 'miss', ticket: `${authorization} ${host} ${request.url}` });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  const byUrl = connect({ url: `http://127.0.0.1:${port}/`, token: 'secret' });
  const { ticket } = await byUrl.get('a&b');
  assert.equal(ticket, `Bearer secret 127.0.0.1:${port} /v1/document?client_id=a%26b`);
  await byUrl.close();
  server.close();
});

test('over TLS the certificate is verified and the token sent', async (t) => {
  const { url, ca, token } = await startTlsService(t, postgres.url);
  const checked = async (options) => {
    const cache = connect(options);
    try {
      // Twice, so that a connection is used again.
      await cache.check();
      return (await cache.get(URL)).outcome;
    } finally {
      await cache.close();
    }
  };
  assert.equal(await checked({ url, tls: { ca }, token: async () => token }), 'miss');
  const isNotAccepted = { code: 'unavailable', message: /certificate is not accepted/ };
  await assert.rejects(checked({ url, token }), isNotAccepted);
  await assert.rejects(checked({ url: url.replace('localhost', '127.0.0.1'), tls: { ca }, token }), isNotAccepted);
  await assert.rejects(checked({ url, tls: { ca }, token: 'another-token' }), { code: 'wrong-token' });
});

test('a connection that was closed while idle is replaced, and the call is made again', async (t) => {
  let connections = 0;
  const cache = await fake(t, (request, response, number) => {
    // The second request is read, and its connection ended without an answer, as by a close in passing.
    if (number === 2) request.socket.destroy();
    else json(response, { outcome: 'miss', ticket: String(number) });
    connections += 1;
  });
  assert.equal((await cache.get('a')).ticket, '1');
  assert.equal((await cache.get('a')).ticket, '3');
  assert.equal(connections, 3);
});

test('a put without a ticket is never made twice: the second could undo a delete in between', async (t) => {
  let puts = 0;
  const cache = await fake(t, (request, response) => {
    if (request.method !== 'PUT') return json(response, { outcome: 'miss', ticket: 'a' });
    puts += 1;
    request.socket.destroy();
  });
  const put = (ticket) => cache.put('a', '{}', { expiresIn: 60, ticket });
  // So that there is a connection which could be used again.
  await cache.get('a');
  await assert.rejects(put(null), { code: 'unavailable' });
  assert.equal(puts, 1);
  await cache.get('a');
  await assert.rejects(put('ticket'), { code: 'unavailable' });
  assert.equal(puts, 3, 'with a ticket it is safe');
});

test('a new connection that fails is not tried again', async (t) => {
  let requests = 0;
  const cache = await fake(t, (request) => {
    requests += 1;
    request.socket.destroy();
  });
  await assert.rejects(cache.get('a'), { code: 'unavailable' });
  assert.equal(requests, 1);
});

test('no service is unavailable', async (t) => {
  const cache = connect({ socket: join(folder(t), 'nobody') });
  await assert.rejects(cache.get('a'), { code: 'unavailable', message: /ENOENT/ });
});

test('an answer that is not of the service is never a miss', async (t) => {
  const answers = [
    (response) => json(response, {}, 404),
    (response) => response.end('<html>hello</html>'),
    (response) => json(response, { outcome: 'miss' }),
    (response) => json(response, null),
    (response) => json(response, { outcome: 'hit', ticket: 't' }),
    (response) => json(response, { outcome: 'stored' }),
    (response) => json(response, {}, 502),
  ];
  for (const answer of answers) {
    const cache = await fake(t, (request, response) => answer(response));
    await assert.rejects(cache.get('a'), { name: 'CimdCacheError', code: 'unavailable' });
  }
  const few = await fake(t, (request, response) => json(response, { answers: [] }));
  await assert.rejects(few.getMany(['a']), { code: 'unavailable' });
});

test('a call ends at its deadline, and when the caller gives up', async (t) => {
  const requests = new EventEmitter();
  const cache = await fake(t, (request) => requests.emit('request', request));
  const arrives = async () => (await once(requests, 'request'))[0];
  const first = arrives();
  const late = assert.rejects(cache.get('a', { timeoutMs: 300 }), { code: 'timed-out' });
  assert.equal((await first).headers['cimd-timeout-ms'], '300');
  await late;
  const second = arrives();
  const controller = new AbortController();
  const call = cache.get('a', { signal: controller.signal });
  const { socket } = await second;
  const ended = once(socket, 'close');
  controller.abort(new Error('enough'));
  await assert.rejects(call, { message: 'enough' });
  await assert.rejects(cache.get('a', { signal: controller.signal }), { message: 'enough' });
  await ended;
});

test('what cannot be an address is refused', () => {
  for (const [wrong, message] of [
    [{}, /one of socket/],
    [{ socket: 'a', url: 'http://b' }, /one of socket/],
    [{ url: 'ftp://b' }, /begin with/],
    [{ url: 'https://user:secret@b' }, /^((?!secret).)*token$/],
    [{ url: 'http://b', tls: {} }, /tls is for/],
    [{ socket: 'a', tls: {} }, /tls is for/],
  ]) {
    assert.throws(() => connect(wrong), { name: 'TypeError', message });
  }
});
