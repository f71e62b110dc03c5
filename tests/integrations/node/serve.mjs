// The part that the servers under test have in common: a listener with an operator's calls beside the server.

import { createServer } from 'node:http';

/** Serves `handler`, and the cache's calls under /cache/. Says which port, and ends with standard input. */
export function serve(cache, handler) {
  const calls = {
    '/cache/delete': (parameters) => cache.delete(parameters.get('clientId')),
    '/cache/purge': () => cache.purge(),
    '/cache/check': () => cache.check(),
  };
  const server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://node');
    const call = calls[pathname];
    if (call === undefined) return handler(request, response);
    try {
      await call(searchParams);
      response.end();
    } catch (error) {
      response.writeHead(500).end(`${error.code}: ${error.message}`);
    }
  });
  server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`));
  process.stdin.resume().once('end', () => process.exit());
}

/** What a server's transport does here: every document is at the origin of the test. */
export function fromOrigin(url, init) {
  return fetch(`${process.env.ORIGIN}?${new URLSearchParams({ url })}`, init);
}

/** Says that a login asks for this client. */
export function tell(clientId) {
  console.log(`asked ${clientId}`);
}

/** For the adapters: the bound while the cache is away is small, so that it is reached. Each warning is told. */
export const OPTIONS = { timeoutMs: 2000, putTimeoutMs: 2000, maxFetches: 2, onWarning: () => console.log('away') };
