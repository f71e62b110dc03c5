// The cache in this process: the component, on a function that runs SQL.

import { clientIdOf, expiryOf, manyOf, metadataOf, ticketOf } from './arguments.mjs';
import { CHECK, check, notReady } from './check.mjs';
import { CimdCacheError, errorOf } from './error.mjs';
import { forget } from './flights.mjs';
import { isRefusal, sent, Sql } from './sql.mjs';
import { chooseSuspension, Jspi, Replay } from './suspension.mjs';

export { CimdCacheError } from './error.mjs';
export { fromPg } from './pg.mjs';
export { fromPostgres } from './postgres.mjs';
export { resolve } from './resolve.mjs';

const SCHEMA = /^(?!pg_)[a-z_][a-z0-9_]{0,62}$/;

/** The longest deadline: no statement may run for a minute. */
const LONGEST_DEADLINE_MS = 30_000;

/** How much earlier the server ends a statement than the call ends here, so that it is the server that says so. */
const EARLIER_MS = 100;

/**
 * A cache in this process, on `query(text, parameters, { name, signal, statementTimeoutMs })`, which runs one
 * statement in a transaction of its own and returns its rows, each an array.
 */
export function createCache(options) {
  return new InProcessCache(options);
}

class InProcessCache {
  #sql;
  #check;
  #machine;
  #deadlineMs;
  #calls = new Set();
  #closed = false;

  constructor({ query, schema = 'cimd_cache', deadlineMs = 2000, suspension, module, onFailure }) {
    if (typeof query !== 'function') {
      throw new TypeError('query has to be a function: fromPg(pool) and fromPostgres(sql) make one');
    }
    if (!SCHEMA.test(schema)) {
      throw new RangeError('the schema’s name has to be 1 to 63 of a-z, 0-9 and _, and not begin with a digit or with pg_');
    }
    if (!(deadlineMs >= 1 && deadlineMs <= LONGEST_DEADLINE_MS)) {
      throw new RangeError('deadlineMs has to be between 1 and 30000');
    }
    const statementTimeoutMs = Math.max(Math.round(deadlineMs - EARLIER_MS), Math.ceil(deadlineMs / 2));
    this.#sql = new Sql({ query, schema, statementTimeoutMs, onFailure });
    this.#check = { ...CHECK, ...sent(CHECK, schema) };
    this.#deadlineMs = deadlineMs;
    const Machine = chooseSuspension(suspension) === 'jspi' ? Jspi : Replay;
    this.#machine = once(async () => new Machine(await compiled(module)));
    // Now, so that the first call need not wait for it; it hears of a failure.
    this.#machine().catch(() => {});
  }

  async get(clientId, options) {
    return lookup(await this.#call('get', [clientIdOf(clientId)], options));
  }

  async getMany(clientIds, options) {
    const { asked, answersWith } = manyOf(clientIds);
    if (asked.length === 0) return answersWith([]);
    const answers = await this.#call('get-many', [asked], options, (list) => list);
    const one = ({ tag, val }) => (tag === 'ok' ? lookup(val) : { outcome: 'error', error: errorOf(val.tag, val.val) });
    return answersWith(answers.map(one));
  }

  async put(clientId, metadata, { expiresIn, expiresAt, ticket, ...options }) {
    const [url, document] = [clientIdOf(clientId), metadataOf(metadata)];
    const { in: after, at } = expiryOf({ expiresIn, expiresAt });
    const expiry = at === undefined ? { tag: 'after', val: BigInt(after) } : { tag: 'at', val: BigInt(at) };
    return await this.#call('put', [url, document, expiry, ticketOf(ticket)], options);
  }

  async delete(clientId, options) {
    const values = [clientIdOf(clientId)];
    forget(this, clientId);
    try {
      return await this.#call('delete', values, options);
    } finally {
      forget(this, clientId);
    }
  }

  async purge(options) {
    forget(this);
    try {
      await this.#call('purge', [], options);
    } finally {
      forget(this);
    }
  }

  async sweep(limit = 1000, options = undefined) {
    if (!Number.isInteger(limit) || limit < 0) throw new RangeError('limit has to be a whole number');
    return await this.#call('sweep', [Math.min(limit, 0xffffffff)], options);
  }

  async check(options = {}) {
    const within = (signal) => this.#sql.send(this.#check, [], signal);
    try {
      await check(
        () => this.#bounded(options, within),
        (clientId) => this.get(clientId, options),
      );
    } catch (error) {
      if (error.code === 'not-ready' || options.signal?.aborted) throw error;
      const known = error instanceof CimdCacheError ? error : errorOf(isRefusal(error) ? 'storage' : 'unavailable');
      throw notReady(`the cache cannot be used: ${known.message}`, { cause: error });
    }
  }

  /** Lets no more calls in, and returns when those under way have ended, at the latest after a deadline. */
  async close() {
    this.#closed = true;
    let timer;
    const late = new Promise((resolve) => (timer = setTimeout(resolve, this.#deadlineMs)));
    await Promise.race([Promise.all(this.#calls), late]);
    clearTimeout(timer);
  }

  async #call(name, values, options, read = unwrap) {
    return read(
      await this.#bounded(options, async (signal) => {
        const machine = await this.#machine();
        try {
          return await machine.run(name, values, (text, parameters) => this.#sql.run(text, parameters, signal), signal);
        } catch (error) {
          if (!(error instanceof WebAssembly.RuntimeError)) throw error;
          throw new CimdCacheError('storage', 'the component failed, which is a bug: report it', { cause: error });
        }
      }),
    );
  }

  /**
   * Waits for work until the deadline, or until the caller gives up. The work goes on to its end all the same:
   * a statement that was sent has to end before its connection can be used again.
   */
  async #bounded({ signal, timeoutMs = this.#deadlineMs } = {}, work) {
    if (this.#closed) throw new CimdCacheError('unavailable', 'the cache is closed');
    signal?.throwIfAborted();
    const controller = new AbortController();
    let timer;
    let abort;
    const givenUp = new Promise((_, reject) => {
      const giveUp = (reason) => {
        controller.abort(reason);
        reject(reason);
      };
      timer = setTimeout(() => giveUp(errorOf('timed-out')), Math.min(timeoutMs, this.#deadlineMs));
      abort = () => giveUp(signal.reason);
      signal?.addEventListener('abort', abort, { once: true });
    });
    const worked = work(controller.signal);
    const ended = worked.catch(() => {}).finally(() => this.#calls.delete(ended));
    this.#calls.add(ended);
    try {
      return await Promise.race([worked, givenUp]);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    }
  }
}

/** The core module: the given one, or the one that the package carries. */
async function compiled(module) {
  if (module instanceof WebAssembly.Module) return module;
  if (module !== undefined) return await WebAssembly.compile(module);
  const { default: base64 } = await import('../generated/core.mjs');
  return await WebAssembly.compile(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)));
}

function once(make) {
  let made;
  return () => (made ??= make().catch((error) => {
    made = undefined;
    throw error;
  }));
}

function unwrap({ tag, val }) {
  if (tag === 'ok') return val;
  throw errorOf(val.tag, val.val);
}

function lookup({ tag, val }) {
  if (tag === 'miss') return { outcome: 'miss', ticket: val };
  const { metadata, expiresAt, freshFor, ticket } = val;
  return { outcome: 'hit', metadata, expiresAt: Number(expiresAt), freshForMs: Number(freshFor), ticket };
}
