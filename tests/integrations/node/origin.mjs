// The origins of all clients: an HTTP server that has their documents and counts how often each is fetched. The
// servers' transport asks it for `/?url=…` in place of the URL.

import { once } from 'node:events';
import { createServer } from 'node:http';

export async function startOrigin() {
  const documents = new Map();
  const fetches = new Map();
  const holds = new Map();
  let open = 0;
  let mostOpen = 0;

  const server = createServer(async (request, response) => {
    const url = new URL(request.url, 'http://origin').searchParams.get('url');
    fetches.set(url, (fetches.get(url) ?? 0) + 1);
    mostOpen = Math.max(mostOpen, (open += 1));
    let isOpen = true;
    const closed = () => {
      open -= isOpen ? 1 : 0;
      isOpen = false;
    };
    response.once('close', closed);
    // What is held is what the document was when it was asked for.
    const { status = 200, headers = {}, body } = documents.get(url) ?? { status: 404, body: 'no document' };
    const hold = holds.get(url);
    hold?.arrive();
    await hold?.released;
    response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'max-age=3600', ...headers });
    // Before the other side hears of it, and begins the next.
    closed();
    response.end(body);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  return {
    url: `http://127.0.0.1:${server.address().port}/`,

    /** What the URL answers from now on: an object as JSON, or a text as it is. */
    publish(url, document, { status, headers } = {}) {
      const body = typeof document === 'string' ? document : JSON.stringify(document);
      documents.set(url, { status, headers, body });
    },

    fetches: (url) => fetches.get(url) ?? 0,

    /** The most requests that were open at once since the last call. */
    mostOpen() {
      const most = mostOpen;
      mostOpen = open;
      return most;
    },

    /** Lets no answer for the URL out until it is released. `arrived` resolves with the first request. */
    hold(url) {
      const hold = {};
      hold.arrived = new Promise((resolve) => (hold.arrive = resolve));
      hold.released = new Promise((resolve) => {
        hold.release = () => {
          holds.delete(url);
          resolve();
        };
      });
      holds.set(url, hold);
      return hold;
    },

    async stop() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}
