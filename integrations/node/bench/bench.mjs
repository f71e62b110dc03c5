// What a get and a put cost, by each backing, beside the bare driver.
//
//   node bench/bench.mjs [SECONDS]     for each line, 2 by default; CIMD_CACHE_BIN names the command
//
// CPU is that of this process: neither Postgres' nor the service's.

import pg from 'pg';
import { STATEMENTS } from '../generated/statements.mjs';
import { connect, createCache, fromPg } from '../src/index.mjs';
import { hasJspi } from '../src/suspension.mjs';
import { startPostgres, startService } from '../test/support.mjs';

const SECONDS = Number(process.argv[2] ?? 2);
const CLIENTS = 1000;
const POOL = 8;
const CALLERS = [1, 64];

const postgres = await startPostgres({ fsync: true });
const service = await startService(postgres.url);
const pools = [];

function pool() {
  const made = new pg.Pool({ ...postgres.config, max: POOL });
  pools.push(made);
  return made;
}

const id = (n) => `https://client-${n % CLIENTS}.example/client-metadata.json`;
const document = JSON.stringify({
  client_id: id(0),
  client_name: 'Example MCP Client',
  redirect_uris: ['http://127.0.0.1:3000/callback', 'http://localhost:3000/callback'],
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  token_endpoint_auth_method: 'none',
  scope: 'read write',
});

/** The statements alone, prepared, on a pool of the same size. */
function driver() {
  const on = pool();
  const sql = (wanted) => STATEMENTS.find(({ name }) => name === wanted).sql;
  const [get, put] = [sql('get'), sql('put')];
  return {
    get: (url) => on.query({ name: 'get', text: get, values: [url], rowMode: 'array' }),
    put: (url, metadata) => on.query({ name: 'put', text: put, values: [url, metadata, null, 3600, null, null], rowMode: 'array' }),
  };
}

const ways = { driver: driver() };
for (const suspension of hasJspi() ? ['jspi', 'replay'] : ['replay']) {
  ways[suspension] = createCache({ query: fromPg(pool()), suspension });
}
ways.service = connect({ socket: service.socket });

const calls = {
  get: (cache, n) => cache.get(id(n)),
  put: (cache, n) => cache.put(id(n), document, { expiresIn: 3600, ticket: null }),
};

async function measure(cache, call, callers) {
  const until = (seconds) => performance.now() + seconds * 1000;
  let n = 0;
  const latencies = [];
  const loop = async (end, record) => {
    while (performance.now() < end) {
      const began = performance.now();
      await call(cache, (n += 1));
      if (record) latencies.push(performance.now() - began);
    }
  };
  const all = (end, record) => Promise.all(Array.from({ length: callers }, () => loop(end, record)));
  await all(until(SECONDS / 4), false);
  const [cpu, began] = [process.cpuUsage(), performance.now()];
  await all(until(SECONDS), true);
  const used = process.cpuUsage(cpu);
  const seconds = (performance.now() - began) / 1000;
  latencies.sort((a, b) => a - b);
  const micros = (ms) => Math.round(ms * 1000);
  return {
    p50: micros(latencies[Math.floor(latencies.length / 2)]),
    p99: micros(latencies[Math.floor(latencies.length * 0.99)]),
    rate: Math.round(latencies.length / seconds),
    cpu: Math.round((used.user + used.system) / latencies.length),
  };
}

try {
  for (let n = 0; n < CLIENTS; n += 1) await calls.put(ways.service, n);
  console.log(`Node ${process.version}, a pool of ${POOL}, ${CLIENTS} documents of ${document.length} bytes`);
  console.log('call  callers  way           p50 µs   p99 µs   per second   CPU µs a call');
  for (const name of Object.keys(calls)) {
    for (const callers of CALLERS) {
      for (const [way, cache] of Object.entries(ways)) {
        const { p50, p99, rate, cpu } = await measure(cache, calls[name], callers);
        const columns = [[p50, 8], [p99, 9], [rate, 13], [cpu, 16]].map(([value, width]) => String(value).padStart(width));
        console.log(`${name.padEnd(6)}${String(callers).padStart(7)}  ${way.padEnd(12)}${columns.join('')}`);
      }
    }
  }
} finally {
  await ways.service.close();
  for (const one of pools) await one.end();
  await service.stop();
  await postgres.stop();
}
