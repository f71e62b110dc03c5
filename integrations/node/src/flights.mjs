// Fetches under way in this process, by cache and client.

const BY_CACHE = new WeakMap();

/** The flights of a cache, by client_id. */
export function flightsOf(cache) {
  let flights = BY_CACHE.get(cache);
  if (flights === undefined) BY_CACHE.set(cache, (flights = new Map()));
  return flights;
}

/**
 * Lets nobody join a fetch of this client, or of any, that is under way. Called at the beginning and at the end
 * of each delete and purge.
 */
export function forget(cache, clientId) {
  const flights = BY_CACHE.get(cache);
  if (clientId === undefined) flights?.clear();
  else flights?.delete(clientId);
}
