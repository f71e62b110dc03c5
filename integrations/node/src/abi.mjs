// The canonical ABI (component-model, CanonicalABI.md) for the types that wit/ uses: how values lie in the
// memory of the core module. `compile` turns a description of a type, as scripts/wit.mjs makes it, into
//
//   size, align       in memory
//   flat              the core types it has as a parameter
//   load(at, address)            reads it
//   store(at, address, value)    writes it
//   lower(at, value)             the core values it has as a parameter
//
// where `at` is the instance's memory: see memory.mjs. In JavaScript a record is an object with camelCase
// names, a variant `{ tag, val }`, a result `{ tag: 'ok' | 'err', val }`, an enum its name, an option `null`
// for none, a `list<u8>` a Uint8Array, and a 64-bit integer a BigInt.

const aligned = (address, align) => Math.ceil(address / align) * align;
const camel = (name) => name.replace(/-(.)/g, (_, letter) => letter.toUpperCase());

const plain = (size, core, load, store, toCore = (value) => value) => ({
  size,
  align: size,
  flat: [core],
  load,
  store,
  lower: (at, value) => [toCore(value)],
});

const PLAIN = {
  bool: plain(
    1, 'i32',
    (at, address) => at.view.getUint8(address) !== 0,
    (at, address, value) => at.view.setUint8(address, value ? 1 : 0),
    (value) => (value ? 1 : 0),
  ),
  u8: plain(
    1, 'i32',
    (at, address) => at.view.getUint8(address),
    (at, address, value) => at.view.setUint8(address, value),
  ),
  u32: plain(
    4, 'i32',
    (at, address) => at.view.getUint32(address, true),
    (at, address, value) => at.view.setUint32(address, value, true),
  ),
  s64: plain(
    8, 'i64',
    (at, address) => at.view.getBigInt64(address, true),
    (at, address, value) => at.view.setBigInt64(address, value, true),
  ),
  u64: plain(
    8, 'i64',
    (at, address) => at.view.getBigUint64(address, true),
    (at, address, value) => at.view.setBigUint64(address, value, true),
  ),
  string: pointed(
    (at, address, length) => at.text(address, length),
    (at, value) => at.placeText(value),
  ),
};

/** A type that is an address and a length: `read` gets both, `place` returns both. */
function pointed(read, place) {
  return {
    size: 8,
    align: 4,
    flat: ['i32', 'i32'],
    load: (at, address) => read(at, at.view.getUint32(address, true), at.view.getUint32(address + 4, true)),
    store(at, address, value) {
      const [pointer, length] = place(at, value);
      at.view.setUint32(address, pointer, true);
      at.view.setUint32(address + 4, length, true);
    },
    lower: (at, value) => place(at, value),
    lift: read,
  };
}

const bytes = pointed(
  (at, address, length) => at.bytes(address, length).slice(),
  (at, value) => at.placeBytes(value),
);

function list(element) {
  return pointed(
    (at, address, length) => {
      const found = new Array(length);
      for (let n = 0; n < length; n += 1) found[n] = element.load(at, address + n * element.size);
      return found;
    },
    (at, value) => {
      const address = at.allocate(value.length * element.size, element.align);
      for (let n = 0; n < value.length; n += 1) element.store(at, address + n * element.size, value[n]);
      return [address, value.length];
    },
  );
}

function record(fields) {
  let [size, align] = [0, 1];
  const placed = fields.map(([name, type]) => {
    const offset = aligned(size, type.align);
    size = offset + type.size;
    align = Math.max(align, type.align);
    return { name: camel(name), type, offset };
  });
  return {
    size: aligned(size, align),
    align,
    flat: fields.flatMap(([, type]) => type.flat),
    load: (at, address) =>
      Object.fromEntries(placed.map(({ name, type, offset }) => [name, type.load(at, address + offset)])),
    store(at, address, value) {
      for (const { name, type, offset } of placed) type.store(at, address + offset, value[name]);
    },
    lower: (at, value) => placed.flatMap(({ name, type }) => type.lower(at, value[name])),
  };
}

/** Cases with a payload or without; `read` and `write` say how JavaScript has them. */
function variant(cases, read, write) {
  if (cases.length > 256) throw new Error('a variant of more than 256 cases is not implemented');
  const numbers = new Map(cases.map(([name], number) => [name, number]));
  const payloads = cases.map(([, type]) => type).filter((type) => type !== null);
  const align = Math.max(1, ...payloads.map((type) => type.align));
  const offset = aligned(1, align);
  const flat = [];
  for (const type of payloads) {
    type.flat.forEach((core, n) => (flat[n] = flat[n] === undefined || flat[n] === core ? core : 'i64'));
  }
  const chosen = (value) => {
    const { tag, val } = write(value);
    const number = numbers.get(tag);
    if (number === undefined) throw new TypeError('a variant has no case of that name');
    return { number, val, type: cases[number][1] };
  };
  return {
    size: aligned(offset + Math.max(0, ...payloads.map((type) => type.size)), align),
    align,
    flat: ['i32', ...flat],
    load(at, address) {
      const found = cases[at.view.getUint8(address)];
      if (found === undefined) throw new RangeError('a variant has no case of that number');
      const [name, type] = found;
      return read(name, type === null ? undefined : type.load(at, address + offset));
    },
    store(at, address, value) {
      const { number, val, type } = chosen(value);
      at.view.setUint8(address, number);
      if (type !== null) type.store(at, address + offset, val);
    },
    lower(at, value) {
      const { number, val, type } = chosen(value);
      const payload = type === null ? [] : type.lower(at, val);
      const joined = flat.map((core, n) => {
        const given = payload[n] ?? 0;
        return core === 'i64' ? (typeof given === 'bigint' ? given : BigInt(given >>> 0)) : given;
      });
      return [number, ...joined];
    },
  };
}

const tagged = (tag, val) => (val === undefined ? { tag } : { tag, val });

/** A description of a type, as code. */
export function compile(type) {
  if (PLAIN[type] !== undefined) return PLAIN[type];
  const [[kind, of] = []] = Object.entries(type);
  const inside = (one) => (one === null ? null : compile(one));
  const named = () => of.map(([name, one]) => [name, inside(one)]);
  switch (kind) {
    case 'list':
      return of === 'u8' ? bytes : list(compile(of));
    case 'record':
      return record(named());
    case 'variant':
      return variant(named(), tagged, (value) => value);
    case 'result':
      return variant([['ok', inside(of[0])], ['err', inside(of[1])]], tagged, (value) => value);
    case 'enum':
      return variant(of.map((name) => [name, null]), (name) => name, (name) => ({ tag: name }));
    case 'option':
      return variant(
        [['none', null], ['some', compile(of)]],
        (name, val) => (name === 'none' ? null : val),
        (val) => (val === null ? { tag: 'none' } : { tag: 'some', val }),
      );
  }
  throw new Error(`the type ${kind} is not implemented`);
}

/** The most core values that parameters may have before they go through memory. */
const MOST_PARAMETERS = 16;

/** An export: how it is called, with JavaScript's values. */
export function compileExport({ params, result }) {
  const [types, answer] = [params.map(compile), compile(result)];
  if (types.flatMap((type) => type.flat).length > MOST_PARAMETERS || answer.flat.length < 2) {
    throw new Error('parameters in memory, and results outside of it, are not implemented');
  }
  return {
    lower: (at, values) => types.flatMap((type, n) => type.lower(at, values[n])),
    load: (at, address) => answer.load(at, address),
  };
}

/** An import: how its arguments are read, and where its answer goes. */
export function compileImport({ params, result }) {
  const [types, answer] = [params.map(compile), compile(result)];
  if (types.some((type) => type.lift === undefined) || answer.flat.length < 2) {
    throw new Error('parameters that are neither texts nor lists are not implemented');
  }
  return {
    lift: (at, core) => types.map((type, n) => type.lift(at, core[2 * n] >>> 0, core[2 * n + 1] >>> 0)),
    store: (at, core, value) => answer.store(at, core[2 * types.length] >>> 0, value),
  };
}
