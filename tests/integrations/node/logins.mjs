// What has to hold of every server on the cache, by either backing: two nodes, the real authorize endpoint.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { BACKINGS } from './backings.mjs';
import { startNode } from './nodes.mjs';
import { startOrigin } from './origin.mjs';

const OLD = 'https://client.example/old';
const NEW = 'https://client.example/new';

/**
 * `login(node, clientId, redirectUri)` answers 'accepted' or 'refused', by the answer of the authorize endpoint.
 * `environment()` starts what the server needs besides, and `joinsFetches` says that a login may join a fetch
 * that began before it.
 */
export function describeLogins({ program, login, environment, joinsFetches, refusesWhatTheCacheRefuses }) {
  for (const [name, startBacking] of Object.entries(BACKINGS)) {
    describe(name, { concurrency: 1, timeout: 600_000 }, () => {
      let origin;
      let backing;
      let besides;
      let nodes = [];
      let clients = 0;

      const start = async (node) => {
        const env = { ORIGIN: origin.url, ...besides.environment, ...backing.environment(node) };
        return await startNode(program, env);
      };
      const startNodes = async () => {
        nodes = await Promise.all([start(0), start(1)]);
        await Promise.all(nodes.map((node) => node.check()));
      };
      const stopNodes = async () => {
        await Promise.all(nodes.map((node) => node.stop()));
        nodes = [];
      };

      before(async () => {
        origin = await startOrigin();
        besides = (await environment?.()) ?? { environment: {}, async stop() {} };
        backing = await startBacking();
        await startNodes();
      });
      after(async () => {
        await stopNodes();
        await backing?.remove();
        await besides?.stop();
        await origin?.stop();
      });

      const documentOf = (clientId, redirectUri = OLD) => ({
        client_id: clientId,
        client_name: 'Client',
        redirect_uris: [redirectUri],
        token_endpoint_auth_method: 'none',
      });
      const client = (redirectUri) => {
        const clientId = `https://client.example/${(clients += 1)}.json`;
        origin.publish(clientId, documentOf(clientId, redirectUri));
        return clientId;
      };
      const accepted = async (node, clientId, redirectUri = OLD) => {
        assert.equal(await login(nodes[node], clientId, redirectUri), 'accepted');
      };
      const refused = async (node, clientId, redirectUri = OLD) => {
        assert.equal(await login(nodes[node], clientId, redirectUri), 'refused');
      };
      /** The first node fetches, and while its fetch is held the other deletes, and the client publishes another document. */
      const loginHeldAcrossADelete = async () => {
        const clientId = client();
        const { arrived, release } = origin.hold(clientId);
        const early = login(nodes[0], clientId, OLD);
        await arrived;
        await nodes[1].delete(clientId);
        origin.publish(clientId, documentOf(clientId, NEW));
        return { clientId, early, release };
      };
      const stored = (clientId) =>
        backing.postgres.psql(
          `select metadata -> 'redirect_uris' ->> 0 from cimd_cache.client_id_metadata
           where url = '${clientId}' and metadata is not null`,
        );

      test('ten logins on two nodes fetch once, none after a restart, and one after a delete on the other', async () => {
        const clientId = client();
        for (let number = 0; number < 10; number += 1) await accepted(number % 2, clientId);
        assert.equal(origin.fetches(clientId), 1);
        assert.equal(stored(clientId), OLD);
        await stopNodes();
        await startNodes();
        await accepted(0, clientId);
        await accepted(1, clientId);
        assert.equal(origin.fetches(clientId), 1);
        await nodes[0].delete(clientId);
        assert.equal(stored(clientId), '');
        await accepted(1, clientId);
        assert.equal(origin.fetches(clientId), 2);
        await accepted(0, clientId);
        assert.equal(origin.fetches(clientId), 2);
      });

      test('a fetch under way during a delete does not bring the old document back', async () => {
        const { clientId, early, release } = await loginHeldAcrossADelete();
        release();
        // It began before the delete, and is answered by what was fetched for it.
        assert.equal(await early, 'accepted');
        assert.equal(stored(clientId), '');
        await accepted(1, clientId, NEW);
        await refused(0, clientId, OLD);
        await accepted(0, clientId, NEW);
        assert.equal(stored(clientId), NEW);
        assert.equal(origin.fetches(clientId), 2);
      });

      test('what was fetched since a delete is not replaced by a fetch that began before it', async () => {
        const { clientId, early, release } = await loginHeldAcrossADelete();
        // The other node's fetch is not held.
        origin.hold(clientId).release();
        await accepted(1, clientId, NEW);
        release();
        assert.equal(await early, 'accepted');
        assert.equal(stored(clientId), NEW);
        await accepted(0, clientId, NEW);
        await refused(1, clientId, OLD);
        assert.equal(origin.fetches(clientId), 2);
      });

      const joining = 'its server lets a login join a fetch that began before';
      test('a login after a delete does not join a fetch from before it, on its own node either', { skip: joinsFetches && joining }, async () => {
        const clientId = client();
        const hold = origin.hold(clientId);
        const early = login(nodes[0], clientId, OLD);
        await hold.arrived;
        await nodes[1].delete(clientId);
        const asked = nodes[0].saidSoFar(`asked ${clientId}`);
        const late = login(nodes[0], clientId, OLD);
        await nodes[0].hasSaid(`asked ${clientId}`, asked + 1);
        origin.publish(clientId, documentOf(clientId, NEW));
        hold.release();
        assert.equal(await early, 'accepted');
        assert.equal(await late, 'refused');
        assert.equal(stored(clientId), NEW);
      });

      test('logins at the same time share a fetch on each node', async () => {
        const clientId = client();
        await Promise.all(Array.from({ length: 20 }, (_, number) => accepted(number % 2, clientId)));
        assert.ok(origin.fetches(clientId) <= 2, `${origin.fetches(clientId)} fetches`);
      });

      test('a rotated redirect URI is seen after a purge, and the old one refused', async () => {
        const clientId = client();
        await accepted(0, clientId, OLD);
        origin.publish(clientId, documentOf(clientId, NEW));
        await refused(1, clientId, NEW);
        await accepted(1, clientId, OLD);
        assert.equal(origin.fetches(clientId), 1);
        await nodes[1].purge();
        await accepted(0, clientId, NEW);
        await refused(0, clientId, OLD);
        await refused(1, clientId, OLD);
        await accepted(1, clientId, NEW);
        assert.equal(origin.fetches(clientId), 2);
      });

      test('without the cache each login fetches, a bounded number at once; with it back, they are cached', async () => {
        const before = client();
        await accepted(0, before);
        await backing.stop();
        await accepted(0, before);
        await accepted(1, before);
        assert.equal(origin.fetches(before), 3);

        const many = Array.from({ length: 8 }, () => client());
        origin.mostOpen();
        const warnings = nodes[0].saidSoFar('away');
        const holds = many.map((clientId) => origin.hold(clientId));
        const logins = many.map((clientId) => login(nodes[0], clientId, OLD));
        await nodes[0].hasSaid('away', warnings + many.length);
        // All would have begun to fetch by now: a whole login is done on the other node meanwhile.
        const other = client();
        await accepted(1, other);
        const most = origin.mostOpen();
        // Two, the other node's, and one that was given up but is still open at the origin, on a slow machine.
        assert.ok(most <= 2 + 1 + 1, `${most} at once`);
        for (const hold of holds) hold.release();
        // Whoever waits for longer than its server allows for a fetch is refused.
        await Promise.all(logins);

        await backing.start();
        await Promise.all(nodes.map((node) => node.check()));
        assert.equal([...many, other].map(stored).join(''), '');
        // What was cached before is still.
        await accepted(0, before);
        assert.equal(origin.fetches(before), 3);
        await accepted(1, other);
        await accepted(0, other);
        await accepted(1, other);
        assert.equal(origin.fetches(other), 2);
      });

      const bad = {
        'text that is not JSON': () => ['{'],
        'an array': () => ['[]'],
        'another’s client_id': (clientId) => [documentOf(`${clientId}5`)],
        'no client_id': () => [{ redirect_uris: [OLD] }],
        'a shared secret': (clientId) => [{ ...documentOf(clientId), token_endpoint_auth_method: 'client_secret_basic' }],
        'a redirect URI that is none': (clientId) => [{ ...documentOf(clientId), redirect_uris: ['nothing'] }],
        'more than the server reads': (clientId) => [{ ...documentOf(clientId), client_name: 'n'.repeat(6000) }],
        'much more than the cache takes': (clientId) => [{ ...documentOf(clientId), client_name: 'n'.repeat(500_000) }],
        'not found': (clientId) => [documentOf(clientId), { status: 404 }],
        'a redirect': (clientId) => [documentOf(clientId), { status: 302, headers: { location: 'https://elsewhere.example/' } }],
      };
      for (const [what, make] of Object.entries(bad)) {
        test(`refused, and no row: ${what}`, async () => {
          const rows = () => backing.postgres.psql('select count(*) from cimd_cache.client_id_metadata');
          const clientId = client();
          const had = rows();
          origin.publish(clientId, ...make(clientId));
          await refused(0, clientId);
          await refused(1, clientId);
          assert.equal(rows(), had);
          origin.publish(clientId, documentOf(clientId));
          await accepted(0, clientId);
          assert.equal(stored(clientId), OLD);
        });
      }

      test('a document whose client_id is another’s leaves that one’s row alone', async () => {
        const victim = client();
        await accepted(0, victim);
        const clientId = client();
        origin.publish(clientId, documentOf(victim, NEW));
        await refused(0, clientId, NEW);
        assert.equal(stored(victim), OLD);
        assert.equal(stored(clientId), '');
        await accepted(1, victim);
        assert.equal(origin.fetches(victim), 1);
      });

      test('no row for what its origin wants nobody to store', async () => {
        const clientId = client();
        origin.publish(clientId, documentOf(clientId), { headers: { 'cache-control': 'no-store' } });
        await accepted(0, clientId);
        await accepted(0, clientId);
        assert.equal(stored(clientId), '');
        assert.equal(origin.fetches(clientId), 2);
      });

      test('a document that only the cache refuses is not stored', async () => {
        const clientId = client();
        origin.publish(clientId, JSON.stringify(documentOf(clientId)).replace('{', '{"twice":1,"twice":2,'));
        await (refusesWhatTheCacheRefuses ? refused : accepted)(0, clientId);
        assert.equal(stored(clientId), '');
      });
    });
  }
}
