// How a call of the component waits for the database: its import is synchronous, and queries are not.

import { Guest } from './guest.mjs';
import { Room } from './room.mjs';

/** The most instances that wait at once under JSPI. Each keeps its memory meanwhile, 1 MiB or more. */
const INSTANCES = 64;

/** No call sends more statements than this: a put sends two, a sweep three. */
const STATEMENTS = 8;

/** Node's versions on which the tests have shown that JSPI works. */
const JSPI_TESTED = ['24', '26'];

export const hasJspi = () =>
  typeof WebAssembly.Suspending === 'function' && typeof WebAssembly.promising === 'function';

/** `'jspi'` where it was tested, else `'replay'`. */
export function chooseSuspension(wanted) {
  if (wanted === undefined) {
    const versions = globalThis.process?.versions;
    const isNode = versions?.node !== undefined && versions.bun === undefined && versions.deno === undefined;
    return isNode && hasJspi() && JSPI_TESTED.includes(versions.node.split('.')[0]) ? 'jspi' : 'replay';
  }
  if (wanted === 'jspi' && !hasJspi()) {
    throw new RangeError("this engine cannot suspend WebAssembly: leave out suspension, or set it to 'replay'");
  }
  if (wanted !== 'jspi' && wanted !== 'replay') throw new TypeError("suspension has to be 'jspi' or 'replay'");
  return wanted;
}

/**
 * The engine suspends the call (JavaScript Promise Integration). An instance that was used is used again, one
 * that failed is not.
 */
export class Jspi {
  #module;
  #idle = [];
  #room = new Room(INSTANCES);

  constructor(module) {
    this.#module = module;
  }

  async run(name, values, query, signal) {
    await this.#room.enter(signal);
    try {
      const guest = this.#idle.pop() ?? new Guest(this.#module, (call) => new WebAssembly.Suspending(call));
      guest.query = query;
      const answer = await guest.callSuspending(name, values);
      guest.query = undefined;
      this.#idle.push(guest);
      return answer;
    } finally {
      this.#room.leave();
    }
  }
}

/**
 * Where an answer is missing the component is told that the database is away, so that the call ends. That answer
 * is thrown away, and the call made again once the missing one is there. The component has no clock and no
 * randomness, so with the same arguments and answers it does the same again. A call that returned leaves the
 * instance as good as new, so one is enough.
 */
export class Replay {
  #module;
  #idle;

  constructor(module) {
    this.#module = module;
  }

  async run(name, values, query) {
    const known = [];
    for (;;) {
      let next = 0;
      let missing;
      const answer = this.#call(name, values, (statement, parameters) => {
        if (next === known.length) {
          missing ??= { statement, parameters };
          return AWAY;
        }
        const { statement: expected, answer } = known[next++];
        if (statement !== expected) throw new Error('the component did not do the same again');
        return answer;
      });
      if (missing === undefined) return answer;
      if (known.length === STATEMENTS) throw new Error('the component sends more statements than any call needs');
      const { statement, parameters } = missing;
      known.push({ statement, answer: await query(statement, parameters) });
    }
  }

  /** Makes a call on an instance that has never failed. */
  #call(name, values, query) {
    const guest = this.#idle ?? new Guest(this.#module);
    this.#idle = undefined;
    guest.query = query;
    const answer = guest.call(name, values);
    guest.query = undefined;
    this.#idle = guest;
    return answer;
  }
}

const AWAY = { tag: 'err', val: { tag: 'unavailable' } };
