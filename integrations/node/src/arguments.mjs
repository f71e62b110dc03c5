// What both backings have to look at before they send anything: what JavaScript can express and the interface
// cannot.

import { CimdCacheError } from './error.mjs';

const LATEST_SECOND = 253402300799;

/** "For ever": over the ten years that the cache keeps at most, and small enough for every number on the way. */
const FOR_EVER = 315576000000;

/** The most URLs that one call may look up. */
const URLS_AT_ONCE = 64;

/**
 * Half a surrogate pair would become U+FFFD in UTF-8, and two different strings one key.
 */
export function clientIdOf(clientId) {
  if (typeof clientId !== 'string') {
    throw new CimdCacheError('invalid-url', 'the client_id is not a string');
  }
  if (!clientId.isWellFormed()) {
    throw new CimdCacheError('invalid-url', 'the client_id URL contains half of a surrogate pair');
  }
  return clientId;
}

/**
 * What is asked of the cache for many URLs, and how its answers become one for each: a URL that cannot be sent
 * is refused without affecting the others.
 */
export function manyOf(clientIds) {
  if (clientIds.length > URLS_AT_ONCE) {
    const message = 'more than 64 URLs are looked up at once: make several calls';
    const refused = () => ({ outcome: 'error', error: new CimdCacheError('invalid-url', message) });
    return { asked: [], answersWith: () => clientIds.map(refused) };
  }
  const refusals = clientIds.map(refusal);
  return {
    asked: clientIds.filter((_, at) => refusals[at] === undefined),
    answersWith: (answers) => refusals.map((refused) => refused ?? answers.shift()),
  };
}

function refusal(clientId) {
  try {
    clientIdOf(clientId);
    return undefined;
  } catch (error) {
    return { outcome: 'error', error };
  }
}

export function metadataOf(metadata) {
  if (typeof metadata !== 'string') {
    throw new CimdCacheError('invalid-metadata', 'the document is not a string: pass its JSON text');
  }
  if (!metadata.isWellFormed()) {
    throw new CimdCacheError('invalid-metadata', 'the document contains half of a surrogate pair');
  }
  return metadata;
}

/** `{ in: seconds }` or `{ at: seconds }`, as whole numbers that JavaScript can count with. */
export function expiryOf({ expiresIn, expiresAt }) {
  if ((expiresIn === undefined) === (expiresAt === undefined)) {
    throw new CimdCacheError('invalid-expiry', 'give one of expiresIn and expiresAt');
  }
  const seconds = Number(expiresIn ?? expiresAt);
  if (!Number.isInteger(seconds)) {
    throw new CimdCacheError('invalid-expiry', 'the expiry is not a whole number of seconds');
  }
  if (expiresIn !== undefined) {
    if (seconds < 0) throw new CimdCacheError('invalid-expiry', 'the lifetime is less than no seconds');
    return { in: Math.min(seconds, FOR_EVER) };
  }
  if (seconds < 0 || seconds > LATEST_SECOND) {
    throw new CimdCacheError(
      'invalid-expiry',
      "the expiry's year is outside 1970 to 9999: it is a time in seconds since 1970",
    );
  }
  return { at: seconds };
}

/**
 * A put without a ticket undoes a delete, so that there is none has to be stated.
 */
export function ticketOf(ticket) {
  if (ticket === null) return null;
  if (typeof ticket !== 'string' || !ticket.isWellFormed()) {
    throw new CimdCacheError(
      'invalid-ticket',
      'the ticket is not one that a get gave: pass that of the get before the fetch, or null to state that there is none',
    );
  }
  return ticket;
}
