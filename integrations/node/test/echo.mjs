// A component that hands over values of given types between jco's glue and ours: both work on one memory, and
// the module in between only moves addresses.

import { transpileBytes } from '@bytecodealliance/jco-transpile';
import { componentEmbed, componentNew, parse } from '@bytecodealliance/jco-transpile/wasm-tools';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const AREA = 16;

/** WIT for descriptions of types; records, variants and enums become named types. */
class Wit {
  lines = [];

  of(type) {
    if (type === null) return '_';
    if (typeof type === 'string') return type;
    const [[kind, of]] = Object.entries(type);
    if (kind === 'list' || kind === 'option') return `${kind}<${this.of(of)}>`;
    if (kind === 'result') {
      const [ok, err] = of.map((one) => this.of(one));
      return err === '_' ? (ok === '_' ? 'result' : `result<${ok}>`) : `result<${ok}, ${err}>`;
    }
    const members = of.map((member) => {
      if (kind === 'enum') return member;
      const [name, inside] = member;
      if (kind === 'record') return `${name}: ${this.of(inside)}`;
      return inside === null ? name : `${name}(${this.of(inside)})`;
    });
    const name = `t${this.lines.length}`;
    this.lines.push(`${kind} ${name} { ${members.join(', ')} }`);
    return name;
  }
}

/**
 * For each type `giveN` and `takeN` of a list of them, and for each list of parameters `passN`: `exports` as jco
 * makes them, `core` as the module has them.
 */
export async function echo(types, parameterLists, flats, directory) {
  const wit = new Wit();
  const functions = types.flatMap((type, n) => [
    `give${n}: func() -> list<${wit.of(type)}>;`,
    `take${n}: func(value: list<${wit.of(type)}>);`,
  ]);
  parameterLists.forEach((list, n) => {
    const parameters = list.map((type, at) => `p${at}: ${wit.of(type)}`);
    functions.push(`pass${n}: func(${parameters.join(', ')});`);
  });
  const source = `package test:echo; interface echo { ${[...wit.lines, ...functions].join('\n')} } world all { export echo; }`;
  const core = await componentEmbed({ binary: await parse(text(types.length, flats)), witSource: source, world: 'all' });
  const component = await componentNew(core);
  const { files } = await transpileBytes(component, { name: 'echo', instantiation: 'sync' });
  const main = join(directory, 'echo.mjs');
  writeFileSync(main, files['echo.js']);
  const { instantiate } = await import(pathToFileURL(main));
  let raw;
  const { echo: exports } = instantiate(
    (name) => new WebAssembly.Module(files[name]),
    {},
    (module, imports) => {
      const instance = new WebAssembly.Instance(module, imports);
      raw ??= instance.exports;
      return instance;
    },
  );
  return { exports, core: (name) => raw[`test:echo/echo#${name}`], memory: raw.memory, realloc: raw.cabi_realloc };
}

function text(count, flats) {
  const functions = [];
  for (let n = 0; n < count; n += 1) {
    functions.push(
      `(func (export "test:echo/echo#give${n}") (result i32) i32.const ${AREA})`,
      `(func (export "test:echo/echo#take${n}") (param i32 i32)
         (i32.store (i32.const ${AREA}) (local.get 0)) (i32.store (i32.const ${AREA + 4}) (local.get 1)))`,
    );
  }
  flats.forEach((flat, n) => {
    const stores = flat.map((core, at) => `(${core}.store (i32.const ${AREA + 8 * at}) (local.get ${at}))`);
    functions.push(`(func (export "test:echo/echo#pass${n}") (param ${flat.join(' ')}) ${stores.join(' ')})`);
  });
  return `(module
    (memory (export "memory") 1)
    (global $top (mut i32) (i32.const 4096))
    (func (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and
        (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
      (global.set $top (i32.add (local.get $at) (local.get $size)))
      (block $enough (loop $more
        (br_if $enough (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
        (drop (memory.grow (i32.const 16))) (br $more)))
      (memory.copy (local.get $at) (local.get $old) (local.get $had))
      (local.get $at))
    ${functions.join('\n')})`;
}

export { AREA };
