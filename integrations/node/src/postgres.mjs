// The query function on `postgres` (Postgres.js).

/** The number of the type `text`. */
const TEXT = 25;

/** A query function on a `postgres()` instance, which may be shared with others. */
export function fromPostgres(sql) {
  if (typeof sql !== 'function' || typeof sql.unsafe !== 'function' || typeof sql.begin !== 'function' || sql.savepoint) {
    throw new TypeError('fromPostgres takes what postgres() returns: each call is a transaction of its own');
  }

  return async function query(text, parameters, { signal, statementTimeoutMs }) {
    signal.throwIfAborted();
    // As text, which the statement casts: a type that was registered for bigint could round one.
    const values = parameters.map((value) => (typeof value === 'bigint' ? sql.typed(String(value), TEXT) : value));
    const reserved = await sql.reserve();
    try {
      signal.throwIfAborted();
      // In line on one connection they travel together, so no lock is held while this process is busy. If the
      // statement fails, the commit rolls back.
      const settings = `set local statement_timeout = ${Number(statementTimeoutMs)}`;
      const answers = await Promise.allSettled([
        reserved.unsafe(`begin isolation level read committed; ${settings}`),
        reserved.unsafe(text, values, { prepare: sql.options?.prepare !== false }).raw(),
        reserved.unsafe('commit'),
      ]);
      const failed = answers.find(({ status }) => status === 'rejected');
      if (failed !== undefined) throw failed.reason;
      return Array.from(answers[1].value, (row) => row.map(textOf));
    } finally {
      reserved.release();
    }
  };
}

/** The server's text of a value. */
function textOf(value) {
  return value === null ? null : value.toString('utf8');
}
