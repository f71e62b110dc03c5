// This package as a way in: see tests/conformance/README.md.

import { createInterface } from 'node:readline';
import { connect } from '../src/service.mjs';

const [way] = process.argv.slice(2);
const { cache, end } = way === 'service' ? service() : await (await import('./in-process-way.mjs')).open(way);

function service() {
  const cache = connect({ socket: process.env.CIMD_CACHE_SOCKET, timeoutMs: 20_000 });
  return { cache, end: () => {} };
}

const looked = ({ outcome, metadata, expiresAt, freshForMs, ticket }) =>
  outcome === 'miss' ? { outcome, ticket } : { outcome, metadata, expires_at: expiresAt, fresh_for_ms: freshForMs, ticket };

const calls = {
  hello: async () => ({ name: `node-${way}`, version: process.version, calls: Object.keys(calls) }),
  get: async ({ client_id }) => looked(await cache.get(client_id)),
  'get-many': async ({ client_ids }) => {
    const answers = await cache.getMany(client_ids);
    return { answers: answers.map((one) => (one.outcome === 'error' ? { error: one.error.code } : { ok: looked(one) })) };
  },
  put: async ({ client_id, metadata, expires_in: expiresIn, expires_at: expiresAt, ticket = null }) => ({
    outcome: await cache.put(client_id, metadata, { expiresIn, expiresAt, ticket }),
  }),
  delete: async ({ client_id }) => ({ had_document: await cache.delete(client_id) }),
  purge: async () => (await cache.purge(), {}),
  sweep: async ({ limit }) => cache.sweep(limit),
  check: async () => (await cache.check(), {}),
};

async function answer({ id, call, args }) {
  try {
    return { id, ok: await calls[call](args) };
  } catch (error) {
    return { id, error: error.code ?? String(error) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  answer(JSON.parse(line)).then((said) => process.stdout.write(`${JSON.stringify(said)}\n`));
}
await cache.close();
await end();
