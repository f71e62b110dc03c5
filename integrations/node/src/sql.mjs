// The component's import: only statements of the list, with values of the types on it, go to the database.

import { STATEMENTS } from '../generated/statements.mjs';
import { CimdCacheError } from './error.mjs';

/** How often a statement is sent: again if the server rolled it back, and a read if its connection was lost. */
const TRIES = 3;

/** Two transactions were in each other's way, and the server rolled this one back. */
const CONFLICTS = new Set(['40001', '40P01']);

/** SQLSTATEs begin with a digit or one of these letters; errors of sockets, such as EPIPE, do not. */
const SQLSTATE = /^[0-9FHPX][0-9A-Z]{4}$/;

export class Sql {
  #list;
  #query;
  #statementTimeoutMs;
  #onFailure;

  constructor({ query, schema, statementTimeoutMs, onFailure = () => {} }) {
    this.#query = query;
    this.#statementTimeoutMs = statementTimeoutMs;
    this.#onFailure = onFailure;
    this.#list = new Map(STATEMENTS.map((one) => [one.sql, { ...one, ...sent(one, schema) }]));
  }

  /** Answers the component: a result of the WIT's `query`. */
  async run(text, parameters, signal) {
    const statement = this.#list.get(text);
    if (statement === undefined || !fit(parameters, statement.parameters)) return failed('not-allowed');
    for (let tries = 1; ; tries += 1) {
      try {
        return { tag: 'ok', val: await this.send(statement, parameters.map(({ val }) => val ?? null), signal) };
      } catch (error) {
        if (error instanceof CimdCacheError || error instanceof TypeError || error instanceof ReferenceError) {
          throw error;
        }
        const failure = classify(error, signal);
        this.#onFailure(error, { statement: statement.name });
        const mayRetry = CONFLICTS.has(failure.val) || (statement.purpose === 'read' && !isRefusal(error));
        if (signal.aborted || !mayRetry || tries === TRIES) return { tag: 'err', val: failure };
      }
    }
  }

  /** Sends a statement; the rows as values of the WIT. */
  async send({ name, sql, columns, id }, parameters, signal) {
    const options = { name: id, signal, statementTimeoutMs: this.#statementTimeoutMs };
    const rows = await this.#query(sql, parameters, options);
    if (!Array.isArray(rows)) throw wrong(name, 'it returned no array of rows');
    return rows.map((row) => {
      if (!Array.isArray(row)) throw wrong(name, 'a row is not an array: columns have no names of their own');
      if (row.length !== columns.length) throw wrong(name, 'a row has another number of columns');
      return row.map((value, at) => VALUES[columns[at]](value, name));
    });
  }
}

/** What is sent for a statement of the list: its text for the schema, and a name that belongs to that text. */
export function sent({ name, sql }, schema) {
  const text = schema === 'cimd_cache' ? sql : sql.replaceAll('cimd_cache.', `"${schema}".`);
  // A prepared statement of this name has this text and no other, whatever mixes up sessions on the way.
  return { sql: text, id: `cimd_cache_${name.replaceAll('-', '_')}_${digest(text)}` };
}

/** FNV-1a, 64 bits. */
function digest(text) {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(text)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash.toString(16).padStart(16, '0');
}

function fit(parameters, types) {
  return (
    parameters.length === types.length && parameters.every(({ tag }, at) => tag === 'null' || tag === types[at])
  );
}

const failed = (tag, val) => ({ tag: 'err', val: val === undefined ? { tag } : { tag, val } });

/** Whether the server refused a statement, and its connection is still there. */
export function isRefusal(error) {
  return SQLSTATE.test(error?.code) && !/^(08|57P)/.test(error.code);
}

/** The case of the WIT's `error` that an error of a driver is. Which SQLSTATE means what, the component knows. */
function classify(error, signal) {
  if (signal.aborted) return { tag: 'timed-out' };
  if (SQLSTATE.test(error?.code)) return { tag: 'database', val: error.code };
  return { tag: 'unavailable' };
}

const NULL = { tag: 'null' };

/** Column values as drivers give them. A number that may have been rounded is not taken. */
const VALUES = {
  boolean(value, name) {
    if (value === null) return NULL;
    if (value === true || value === 't') return { tag: 'boolean', val: true };
    if (value === false || value === 'f') return { tag: 'boolean', val: false };
    throw wrong(name, 'a boolean is neither true nor false');
  },
  int64(value, name) {
    if (value === null) return NULL;
    if (typeof value === 'bigint') return { tag: 'int64', val: value };
    if (Number.isSafeInteger(value) || (typeof value === 'string' && /^-?\d{1,19}$/.test(value))) {
      return { tag: 'int64', val: BigInt(value) };
    }
    throw wrong(name, 'a bigint is neither a BigInt nor digits, and may have been rounded');
  },
  text(value, name) {
    if (value === null) return NULL;
    if (typeof value === 'string') return { tag: 'text', val: value };
    throw wrong(name, 'a text is not a string');
  },
};

function wrong(name, what) {
  return new CimdCacheError('storage', `the query function does not keep to its interface at ${name}: ${what}`);
}
