// The cache by `cimd-cache serve`, over HTTP.

import * as http from 'node:http';
import * as https from 'node:https';
import { clientIdOf, expiryOf, manyOf, metadataOf, ticketOf } from './arguments.mjs';
import { CimdCacheError, errorOf } from './error.mjs';
import { forget } from './flights.mjs';
import { send } from './http.mjs';
import { elements, members } from './raw-json.mjs';

/** How much longer than the service's own deadline a call waits, so that the service answers first. */
const GRACE_MS = 100;

/**
 * A client of the service, at `{ socket }` or at `{ url, token, tls }`. Opens its first connection at the first call.
 */
export function connect(options = {}) {
  return new ServiceCache(options);
}

class ServiceCache {
  #agent;
  #target;
  #token;
  #timeoutMs;
  #closed = false;

  constructor({ socket, url, token, tls, timeoutMs = 5000, maxConnections = 64 }) {
    this.#target = targetOf(socket, url, tls);
    this.#agent = new this.#target.client.Agent({ keepAlive: true, maxSockets: maxConnections, scheduling: 'lifo' });
    this.#token = token;
    this.#timeoutMs = timeoutMs;
  }

  async get(clientId, options) {
    const query = { client_id: clientIdOf(clientId) };
    return lookup(members((await this.#call('GET', '/v1/document', { query, options })).text));
  }

  async getMany(clientIds, options) {
    const { asked, answersWith } = manyOf(clientIds);
    if (asked.length === 0) return answersWith([]);
    const body = JSON.stringify({ client_ids: asked });
    const { text } = await this.#call('POST', '/v1/lookup', { body, options });
    const answers = elements(members(text).get('answers') ?? '[]').map((answer) => lookup(members(answer)));
    if (answers.length !== asked.length) throw unexpected('it answered more or fewer questions than were asked');
    return answersWith(answers);
  }

  async put(clientId, metadata, { expiresIn, expiresAt, ticket, ...options }) {
    const query = { client_id: clientIdOf(clientId) };
    const body = metadataOf(metadata);
    const expiry = expiryOf({ expiresIn, expiresAt });
    query.ticket = ticketOf(ticket) ?? 'none';
    if (expiry.in !== undefined) query.expires_in = String(expiry.in);
    else query.expires_at = new Date(expiry.at * 1000).toISOString();
    // Without a ticket a second put could undo a delete in between.
    const mayRepeat = query.ticket !== 'none';
    const { outcome } = (await this.#call('PUT', '/v1/document', { query, body, mayRepeat, options })).value;
    if (outcome !== 'stored' && outcome !== 'superseded') throw unexpected('a put has another outcome');
    return outcome;
  }

  async delete(clientId, options) {
    const query = { client_id: clientIdOf(clientId) };
    forget(this, clientId);
    try {
      const { value } = await this.#call('DELETE', '/v1/document', { query, options });
      if (typeof value.had_document !== 'boolean') throw unexpected('a delete has no had_document');
      return value.had_document;
    } finally {
      forget(this, clientId);
    }
  }

  async purge(options) {
    forget(this);
    try {
      const { value } = await this.#call('POST', '/v1/purge', { options });
      if (value.outcome !== 'purged') throw unexpected('a purge has another outcome');
    } finally {
      forget(this);
    }
  }

  async sweep(limit = 1000, options = undefined) {
    const { value } = await this.#call('POST', '/v1/sweep', { query: { limit: String(limit) }, options });
    if (typeof value.removed !== 'number') throw unexpected('a sweep does not say how many');
    return { removed: value.removed, more: value.more };
  }

  async check(options) {
    const { value } = await this.#call('GET', '/v1/check', { options });
    if (value.outcome !== 'ready') throw unexpected('a check has another outcome');
  }

  async close() {
    this.#closed = true;
    this.#agent.destroy();
  }

  async #call(method, path, { query = {}, body, mayRepeat = true, options: { signal, timeoutMs } = {} }) {
    if (this.#closed) throw new CimdCacheError('unavailable', 'the cache is closed');
    const { client, address, host, base } = this.#target;
    // Asked each time: a token file may change while the program runs.
    const token = typeof this.#token === 'function' ? await this.#token() : this.#token;
    const parameters = Object.entries(query).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
    const answer = await send(client.request, this.#agent, {
      request: {
        ...address,
        method,
        path: `${base}${path}${parameters.length > 0 ? '?' : ''}${parameters.join('&')}`,
        headers: {
          Accept: 'application/json, application/problem+json',
          Host: host,
          ...(token !== undefined && { Authorization: `Bearer ${token}` }),
          ...(timeoutMs !== undefined && { 'Cimd-Timeout-Ms': String(timeoutMs) }),
          ...(body !== undefined && { 'Content-Type': 'application/json' }),
        },
      },
      body,
      mayRepeat,
      waitMs: timeoutMs === undefined ? this.#timeoutMs : timeoutMs + GRACE_MS,
      signal,
    });
    return read(answer);
  }
}

/** Which of Node's two clients sends requests, with what, and what stands before `/v1` in their paths. */
function targetOf(socket, url, tls) {
  if ((socket === undefined) === (url === undefined)) {
    throw new TypeError('give one of socket, the path of the service’s Unix socket, and url');
  }
  const { protocol, username, hostname, port, pathname, search, host } = new URL(url ?? 'http://localhost/');
  if (protocol !== 'http:' && protocol !== 'https:') throw new TypeError('url has to begin with https:// or http://');
  if (username !== '' || search !== '') throw new TypeError('url has a user or a query: pass the token as token');
  if (tls !== undefined && protocol !== 'https:') throw new TypeError('tls is for a url that begins with https://');
  const address = { ...tls, host: hostname.replace(/^\[|\]$/g, ''), ...(port !== '' && { port }) };
  return {
    client: protocol === 'https:' ? https : http,
    address: socket === undefined ? address : { socketPath: socket },
    host,
    base: pathname.replace(/\/$/, ''),
  };
}

function read({ status, text }) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw unexpected(`it is not JSON, and has status ${status}`, { cause });
  }
  if (status === 200 && value !== null && typeof value === 'object') return { text, value };
  // Only a problem of the service says what is wrong; any other answer comes from something in between.
  if (typeof value?.code !== 'string') throw unexpected(`it has status ${status}, and no code`);
  throw new CimdCacheError(value.code, String(value.detail));
}

/** A get's answer, out of the texts of its members. */
function lookup(texts) {
  const value = (name) => JSON.parse(texts.get(name) ?? 'null');
  switch (value('outcome')) {
    case 'hit': {
      const expiresAt = Math.floor(Date.parse(value('expires_at')) / 1000);
      const hit = { outcome: 'hit', metadata: texts.get('metadata'), expiresAt, freshForMs: value('fresh_for_ms') };
      if (hit.metadata === undefined || Number.isNaN(expiresAt) || typeof hit.freshForMs !== 'number') break;
      return { ...hit, ticket: ticket(value('ticket')) };
    }
    case 'miss':
      return { outcome: 'miss', ticket: ticket(value('ticket')) };
    case 'error':
      return { outcome: 'error', error: errorOf(value('code'), value('detail')) };
  }
  throw unexpected('a get has another outcome');
}

/** Without one a put could not say when its fetch began. */
function ticket(text) {
  if (typeof text === 'string') return text;
  throw unexpected('a get has no ticket');
}

function unexpected(what, options) {
  const message = `the answer is not one of the service (${what}): check the address, and what is in between`;
  return new CimdCacheError('unavailable', message, options);
}
