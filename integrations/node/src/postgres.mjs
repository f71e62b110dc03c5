// The query function on `postgres` (Postgres.js).

/** The number of the type `text`. */
const TEXT = 25;

/** What a connection says that was lost before a call began. */
const ENDED = new Set(['CONNECTION_CLOSED', 'EPIPE', 'ECONNRESET', '57P01', '57P02', '57P05', '25P03']);

/** A query function on a `postgres()` instance, which may be shared with others. */
export function fromPostgres(sql) {
  if (typeof sql !== 'function' || typeof sql.unsafe !== 'function' || typeof sql.begin !== 'function' || sql.savepoint) {
    throw new TypeError('fromPostgres takes what postgres() returns: each call is a transaction of its own');
  }

  return async function query(text, parameters, { signal, statementTimeoutMs }) {
    signal.throwIfAborted();
    // As text, which the statement casts: a type that was registered for bigint could round one.
    const values = parameters.map((value) => (typeof value === 'bigint' ? sql.typed(String(value), TEXT) : value));
    for (let left = sql.options?.max ?? 0; ; left -= 1) {
      let hasBegun = false;
      try {
        // Not on a connection from `sql.reserve`: who waits for one while another is lost may wait for ever.
        const rows = await sql.begin('isolation level read committed', async (transaction) => {
          hasBegun = true;
          signal.throwIfAborted();
          try {
            const [, answer] = await Promise.all([
              transaction.unsafe(limits(statementTimeoutMs)),
              transaction.unsafe(text, values, { prepare: sql.options?.prepare !== false }).raw(),
            ]);
            return answer;
          } catch (error) {
            if (!isLost(error)) throw error;
            // `begin` rejects when the connection is closed. It must not send a rollback before: nobody catches that
            // one's error.
            await new Promise(() => {});
          }
        });
        return Array.from(rows, (row) => row.map(textOf));
      } catch (error) {
        // Each connection of the pool may be lost, and says so when it is next used, once more after it was replaced.
        if (hasBegun || signal.aborted || left === 0 || !ENDED.has(error.code)) throw error;
      }
    }
  };
}

/** The second is for a process that is too busy to commit: its locks hold up others. */
function limits(milliseconds) {
  const limit = Number(milliseconds);
  return `set local statement_timeout = ${limit}; set local idle_in_transaction_session_timeout = ${limit}`;
}

/** Whether an error is that of a connection, which is closed now or at once. */
function isLost({ severity, errno, code }) {
  return severity === 'FATAL' || severity === 'PANIC' || errno !== undefined || /^(CONNECTION|ERR)_/.test(code);
}

/** The server's text of a value. */
function textOf(value) {
  return value === null ? null : value.toString('utf8');
}
