// One instance of the component's core module. It serves one call at a time: its stack is in its memory.

import { EXPORTS, IMPORTS } from '../generated/world.mjs';
import { compileExport, compileImport } from './abi.mjs';
import { Memory } from './memory.mjs';

const [QUERY] = IMPORTS;
const query = compileImport(QUERY);
const calls = new Map(
  EXPORTS.map((one) => [one.name, { ...compileExport(one), core: `${one.interface}#${one.name}` }]),
);

export class Guest {
  /** Answers the import: gets `statement, parameters`, returns the result, or a promise of it. */
  query = undefined;
  #exports;
  #memory;
  #promising = new Map();

  /** `asImport` wraps the import, as `WebAssembly.Suspending` does. */
  constructor(module, asImport = (call) => call) {
    const imported = (...core) => {
      const [statement, parameters] = query.lift(this.#memory, core);
      const answered = this.query(statement, parameters);
      const give = (answer) => query.store(this.#memory, core, answer);
      return typeof answered.then === 'function' ? answered.then(give) : give(answered);
    };
    const imports = { [QUERY.interface]: { [QUERY.name]: asImport(imported) } };
    this.#exports = new WebAssembly.Instance(module, imports).exports;
    this.#memory = new Memory(this.#exports.memory, this.#exports.cabi_realloc);
    this.#exports._initialize?.();
  }

  /** Makes a call that never waits. */
  call(name, values) {
    const { lower, core } = calls.get(name);
    return this.#finish(name, this.#exports[core](...lower(this.#memory, values)));
  }

  /** Makes a call whose import may wait. */
  async callSuspending(name, values) {
    const { lower, core } = calls.get(name);
    let start = this.#promising.get(core);
    if (start === undefined) this.#promising.set(core, (start = WebAssembly.promising(this.#exports[core])));
    return this.#finish(name, await start(...lower(this.#memory, values)));
  }

  #finish(name, address) {
    const { load, core } = calls.get(name);
    const value = load(this.#memory, address >>> 0);
    this.#exports[`cabi_post_${core}`]?.(address);
    return value;
  }
}
