// The query function on a pool of `pg` (node-postgres).

import { Batch } from './pg-batch.mjs';

/** The most that a connection may stay silent after its statement should have ended, in milliseconds. */
const SILENCE_MS = 30_000;

/** A prepared statement is missing, or exists already: a pooler lends sessions that do not know of each other. */
const MIXED_UP = new Set(['26000', '42P05']);

/** A prepared statement no longer fits the table, which was altered. */
const OUTDATED = '0A000';

/** The server takes no writes: it may have become a standby, and the next connection lead to the primary. */
const READ_ONLY = '25006';

/** A query function on a `pg.Pool`. The pool may be shared with others. */
export function fromPg(pool) {
  if (typeof pool?.connect !== 'function' || typeof pool.totalCount !== 'number') {
    throw new TypeError('fromPg takes a Pool of pg: a client may be inside of a transaction, and each call has its own');
  }
  // An idle connection that ends is replaced when it is next needed, but without a listener it ends the process.
  if (pool.listenerCount('error') === 0) pool.on('error', ignore);
  let prepares = true;

  return async function query(text, parameters, { name, signal, statementTimeoutMs }) {
    for (let isFirst = true; ; isFirst = false) {
      const batch = new Batch({ text, parameters, name: prepares ? name : '', statementTimeoutMs });
      try {
        return await run(await connection(pool, signal), batch);
      } catch (error) {
        // The server rolled it back, and it is prepared anew, or not at all.
        if (MIXED_UP.has(error.code)) prepares = false;
        if (!isFirst || !(MIXED_UP.has(error.code) || error.code === OUTDATED)) throw error;
      }
    }
  };
}

async function run(client, batch) {
  const { stream } = client.connection ?? {};
  if (stream === undefined) {
    client.release();
    throw new TypeError('fromPg takes a Pool of pg with its own protocol, and not of pg-native');
  }
  const silent = setTimeout(() => stream.destroy(), batch.statementTimeoutMs + SILENCE_MS);
  silent.unref?.();
  // The batch hears of a lost connection, but the client emits it too, and the pool listens only while it is idle.
  client.on('error', ignore);
  try {
    client.query(batch);
    const rows = await batch.answer;
    giveBack(client, false);
    return rows;
  } catch (error) {
    giveBack(client, await isLost(client, error));
    throw error;
  } finally {
    clearTimeout(silent);
  }
}

/** One that was lost may emit more while it ends. */
function giveBack(client, wasLost) {
  if (!wasLost) client.off('error', ignore);
  client.release(wasLost);
}

function ignore() {}

/** A connection, unless the caller gives up before there is one. */
function connection(pool, signal) {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    pool.connect().then(
      (client) => {
        signal.removeEventListener('abort', abort);
        if (signal.aborted) client.release();
        else resolve(client);
      },
      (error) => {
        signal.removeEventListener('abort', abort);
        reject(error);
      },
    );
  });
}

/** Whether the connection cannot be used any more; if it can, it is out of the transaction afterwards. */
async function isLost(client, error) {
  const isOfServer = typeof error?.severity === 'string';
  if (!isOfServer || error.severity === 'FATAL' || error.severity === 'PANIC' || error.code === READ_ONLY) return true;
  try {
    await client.query('rollback');
    return false;
  } catch {
    return true;
  }
}
