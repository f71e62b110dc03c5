// One request over a connection that is kept.

import { CimdCacheError } from './error.mjs';

/** The largest answer: 64 of the largest documents, as the database spells them. */
const ANSWER_BYTES = 8 << 20;

/**
 * Sends a request by `start`, the function of `node:http` or `node:https`, and once more if its connection turns out
 * to have been closed while it was idle. The second try opens a connection of its own, because others that are idle
 * may have been closed at the same moment. A call that must not be repeated has one from the start.
 */
export async function send(start, agent, call) {
  call.signal?.throwIfAborted();
  const until = performance.now() + call.waitMs;
  if (call.mayRepeat) {
    try {
      return await attempt(start, agent, call, until);
    } catch (error) {
      if (!(error instanceof Stale)) throw error;
    }
  }
  return await attempt(start, false, call, until);
}

/** The connection was used before, and ended before an answer began. */
class Stale extends Error {}

function attempt(start, agent, { request, body, signal }, until) {
  return new Promise((resolve, reject) => {
    const outgoing = start({ ...request, agent });
    const timer = setTimeout(
      () => fail(new CimdCacheError('timed-out', 'the service did not answer in time: retry later')),
      Math.max(until - performance.now(), 0),
    );
    const abort = () => fail(signal.reason);
    signal?.addEventListener('abort', abort, { once: true });

    function settle() {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    }
    function fail(error) {
      settle();
      reject(error);
      outgoing.destroy();
    }

    outgoing.on('error', (cause) => {
      if (agent !== false && outgoing.reusedSocket) return fail(new Stale());
      const what = cause.code ?? cause.message;
      // Node's TLS sockets have it; without a certificate that is trusted, nothing was sent.
      const message = outgoing.socket?.authorizationError
        ? `the service's certificate is not accepted (${what}): give the authority that signed it as tls.ca`
        : `the service cannot be reached (${what}): is \`cimd-cache serve\` running there?`;
      fail(new CimdCacheError('unavailable', message, { cause }));
    });
    outgoing.on('response', (response) => {
      const chunks = [];
      let bytes = 0;
      response.on('data', (chunk) => {
        chunks.push(chunk);
        bytes += chunk.length;
        if (bytes > ANSWER_BYTES) fail(new CimdCacheError('unavailable', 'the answer is larger than any of the service'));
      });
      response.on('error', (cause) => {
        fail(new CimdCacheError('unavailable', 'the connection to the service ended within an answer', { cause }));
      });
      response.on('end', () => {
        settle();
        resolve({ status: response.statusCode, text: Buffer.concat(chunks).toString('utf8') });
      });
    });
    outgoing.end(body);
  });
}
