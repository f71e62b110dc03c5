// A server, and a pool of each driver on it. Not in support.mjs, which the tests of auth servers use without drivers.

import pg from 'pg';
import postgresJs from 'postgres';
import { startPostgres } from './support.mjs';

export async function startPools() {
  const postgres = await startPostgres();
  const pool = new pg.Pool({ ...postgres.config, max: 4 });
  const sql = postgresJs({ ...postgres.config, max: 4, onnotice: () => {} });
  return {
    postgres,
    pool,
    sql,
    async stop() {
      await pool.end();
      // Without a timeout it waits for ever once a connection was lost in a call.
      await sql.end({ timeout: 5 });
      await postgres.stop();
    },
  };
}
