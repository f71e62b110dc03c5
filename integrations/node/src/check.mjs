// Whether a database can be used: the settings that the rules rely on, what the role may do, and a get.

import { CimdCacheError } from './error.mjs';

/** In milliseconds. To a statement that runs this long, a row stored meanwhile looks like one of the future. */
const TOO_LONG = 60_000n;

/** A key that no client has. */
const KEY = 'https://check.invalid/';

const on = (table, privilege) =>
  `coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass('cimd_cache.${table}'), '${privilege}'), false)`;

export const CHECK = {
  name: 'check',
  sql: `\
select (select setting::bigint from pg_catalog.pg_settings where name operator(pg_catalog.=) 'statement_timeout'),
       pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.=) 'read committed',
       pg_catalog.pg_is_in_recovery() or pg_catalog.current_setting('transaction_read_only')::boolean,
       pg_catalog.to_regclass('cimd_cache.purge') is not null
         and pg_catalog.to_regclass('cimd_cache.client_id_metadata') is not null,
       ${on('purge', 'select')}
         and coalesce(pg_catalog.has_column_privilege(pg_catalog.to_regclass('cimd_cache.purge'), 'purged_at', 'update'), false)
         and ${['select', 'insert', 'update', 'delete'].map((one) => on('client_id_metadata', one)).join(' and ')}`,
  columns: ['int64', 'boolean', 'boolean', 'boolean', 'boolean'],
};

/** Checks, in three statements. `ask` sends CHECK, `get` is the cache's. */
export async function check(ask, get) {
  const migrate = 'run `cimd-cache migrate` as the owner of the schema';
  const [[timeout, isRightIsolation, isReadOnly, isThere, mayUse]] = (await ask()).map((row) =>
    row.map(({ val }) => val),
  );
  if (!isThere) throw notReady(`there is no cache in this schema: ${migrate}`);
  if (!mayUse) throw notReady(`the role lacks a privilege on the tables of the cache: ${migrate}`);
  if (isReadOnly) throw notReady('the server takes no writes: connect to the primary');
  if (timeout < 1n || timeout >= TOO_LONG) {
    throw notReady('statement_timeout is not below a minute: set it for the connections that the query function uses');
  }
  if (!isRightIsolation) throw notReady('the isolation level is not READ COMMITTED: set default_transaction_isolation');
  const first = await get(KEY);
  const second = await get(KEY);
  // A transaction has one now(), and a ticket has that moment in it.
  if (first.ticket === second.ticket) {
    throw notReady('the query function runs inside of a transaction: pass one that uses the pool beneath');
  }
}

export function notReady(message, options) {
  return new CimdCacheError('not-ready', message, options);
}
