/**
 * A call that was refused or failed. `code` says what to do; the message is for people, and has nothing in it
 * that the caller sent.
 */
export class CimdCacheError extends Error {
  constructor(code, message, options) {
    super(message, options);
    this.name = 'CimdCacheError';
    this.code = code;
  }
}

/** What to do about the codes that come without a sentence of their own. */
const SENTENCES = {
  'not-configured': 'no database is configured: fix the deployment',
  unavailable: 'the database cannot be reached, or is overloaded: retry later',
  'timed-out': 'the database did not answer in time: retry later',
  storage: 'the database refused: look at its log, and run `cimd-cache check`',
};

export function errorOf(code, message, options) {
  return new CimdCacheError(code, message ?? SENTENCES[code] ?? code, options);
}
