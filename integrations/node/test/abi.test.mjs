// The canonical ABI by hand, held against jco's: every type of the world, in both directions.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EXPORTS, IMPORTS } from '../generated/world.mjs';
import { compile } from '../src/abi.mjs';
import { Memory } from '../src/memory.mjs';
import { AREA, echo } from './echo.mjs';
import { folder } from './support.mjs';

const ROUNDS = 200;

/** A type and all that it consists of. */
function parts(type) {
  if (type === null || typeof type === 'string') return type === null ? [] : [type];
  const [[kind, of]] = Object.entries(type);
  if (kind === 'enum') return [type];
  const inside = kind === 'list' || kind === 'option' ? [of] : kind === 'result' ? of : of.map(([, one]) => one);
  return [type, ...inside.flatMap(parts)];
}

/** Random numbers that come again with the same seed (mulberry32). */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function value(type, next) {
  const below = (most) => Math.floor(next() * most);
  const bits64 = () => (BigInt(below(2 ** 32)) << 32n) | BigInt(below(2 ** 32));
  switch (type) {
    case null:
      return undefined;
    case 'bool':
      return next() < 0.5;
    case 'u8':
      return below(256);
    case 'u32':
      return below(2 ** 32);
    case 's64':
      return [0n, -1n, 2n ** 63n - 1n, -(2n ** 63n)][below(8)] ?? BigInt.asIntN(64, bits64());
    case 'u64':
      return [0n, 2n ** 64n - 1n][below(6)] ?? bits64();
    case 'string':
      return Array.from({ length: below(12) }, () => ['a', '"', '\0', 'é', 'ü', '𐍈', '\\', '😀'][below(8)]).join('');
  }
  const [[kind, of]] = Object.entries(type);
  switch (kind) {
    case 'list':
      if (of === 'u8') return Uint8Array.from({ length: below(5) }, () => below(256));
      return Array.from({ length: below(4) }, () => value(of, next));
    case 'option':
      return next() < 0.3 ? null : value(of, next);
    case 'record':
      return Object.fromEntries(of.map(([name, one]) => [camel(name), value(one, next)]));
    case 'enum':
      return of[below(of.length)];
    case 'variant':
    case 'result': {
      const cases = kind === 'result' ? [['ok', of[0]], ['err', of[1]]] : of;
      const [tag, one] = cases[below(cases.length)];
      return one === null ? { tag } : { tag, val: value(one, next) };
    }
  }
}

const camel = (name) => name.replace(/-(.)/g, (_, letter) => letter.toUpperCase());

/** Where the two may differ in JavaScript: typed arrays, and `undefined` for none. */
function same(a) {
  if (a === null || a === undefined) return null;
  if (ArrayBuffer.isView(a) || Array.isArray(a)) return Array.from(a, same);
  if (typeof a !== 'object') return a;
  return Object.fromEntries(Object.entries(a).filter(([, one]) => one !== undefined).map(([name, one]) => [name, same(one)]));
}

const all = [...EXPORTS, ...IMPORTS];

/** What the world's types do not show: gaps between members, and cases that share core values. */
const uneven = { record: [['a', 'bool'], ['b', 's64'], ['c', 'u8'], ['d', 'string']] };
const joined = { variant: [['a', 'string'], ['b', 'u64'], ['c', 'u32'], ['d', null]] };

const types = [
  uneven,
  joined,
  ...new Map(all.flatMap(({ params, result }) => [...params, result].flatMap(parts)).map((type) => [JSON.stringify(type), type])).values(),
];
const lists = [[joined, 'bool'], ...all.map(({ params }) => params).filter((list) => list.length > 0)];

test('every type of the world lies in memory where jco expects it', async (t) => {
  const flats = lists.map((list) => list.flatMap((type) => compile(type).flat));
  const { exports, core, memory, realloc } = await echo(types, lists, flats, folder(t));
  const at = new Memory(memory, realloc);
  assert.ok(types.length >= 18, `only ${types.length} types`);

  for (const [n, type] of types.entries()) {
    await t.test(JSON.stringify(type).slice(0, 70), () => {
      const [ours, next] = [compile({ list: type }), random(n)];
      for (let round = 0; round < ROUNDS; round += 1) {
        const values = Array.from({ length: round % 5 }, () => value(type, next));
        const given = type === 'u8' ? Uint8Array.from(values) : values;
        ours.store(at, AREA, given);
        assert.deepEqual(same(exports[`give${n}`]()), same(given), 'ours to jco');
        exports[`take${n}`](values.map((one) => one ?? undefined));
        assert.deepEqual(same(ours.load(at, AREA)), same(given), 'jco to ours');
      }
    });
  }

  for (const [n, list] of lists.entries()) {
    await t.test(`parameters ${JSON.stringify(list).slice(0, 60)}`, () => {
      const next = random(1000 + n);
      const passed = () =>
        flats[n].map((type, place) => {
          const address = AREA + 8 * place;
          return type === 'i64' ? at.view.getBigInt64(address, true) : at.view.getUint32(address, true);
        });
      for (let round = 0; round < ROUNDS; round += 1) {
        const values = list.map((type) => value(type, next));
        exports[`pass${n}`](...values.map((one) => one ?? undefined));
        const theirs = passed();
        core(`pass${n}`)(...list.flatMap((type, place) => compile(type).lower(at, values[place])));
        const ours = passed();
        // Addresses differ; what is there does not.
        let place = 0;
        for (const [number, type] of list.entries()) {
          const flat = compile(type).flat.length;
          const [a, b] = [theirs, ours].map((core) => read(type, core.slice(place, place + flat), at));
          assert.deepEqual(a, b);
          assert.deepEqual(b, same(values[number]));
          place += flat;
        }
      }
    });
  }
});

test('a text keeps its byte order mark, which the glue of jco 1.35 drops', () => {
  let top = 16;
  const at = new Memory({ buffer: new ArrayBuffer(1024) }, (old, had, align, size) => (top += size) - size);
  const [address, length] = at.placeText('\ufeff{}');
  assert.equal(at.text(address, length), '\ufeff{}');
});

/** A parameter, out of its core values. */
function read(type, core, at) {
  const compiled = compile(type);
  if (compiled.lift !== undefined) return same(compiled.lift(at, core[0], core[1]));
  if (type === 'bool') return core[0] === 1;
  if (typeof type === 'string') return core[0];
  const [[kind, of]] = Object.entries(type);
  const cases = kind === 'option' ? [['none', null], ['some', of]] : of;
  const [tag, inside] = cases[core[0]];
  const rest = core.slice(1);
  if (inside === null) {
    assert.ok(rest.every((one) => Number(one) === 0), 'what is left is zero');
    return kind === 'option' ? null : { tag };
  }
  if (inside === 'u64') return { tag, val: BigInt.asUintN(64, rest[0]) };
  // A case's own core values, out of those that it shares with other cases.
  const val = read(inside, compile(inside).flat.map((type, n) => (type === 'i64' ? rest[n] : Number(rest[n]))), at);
  return kind === 'option' ? val : { tag, val };
}
