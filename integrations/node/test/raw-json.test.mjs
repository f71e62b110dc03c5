import assert from 'node:assert/strict';
import { test } from 'node:test';
import { elements, members } from '../src/raw-json.mjs';

test('members and elements are the texts as they stand', () => {
  const text = ' { "a" : 1.0e400 , "b\\"}":[1,{"x":"]}\\\\"},"\\""] ,"c":"}" , "d":{} , "e":null}';
  assert.deepEqual(
    [...members(text)],
    [['a', '1.0e400'], ['b"}', '[1,{"x":"]}\\\\"},"\\""]'], ['c', '"}"'], ['d', '{}'], ['e', 'null']],
  );
  assert.deepEqual(elements('[1.50, "a,]" ,[2,[]], {"a":[]} ]'), ['1.50', '"a,]"', '[2,[]]', '{"a":[]}']);
  assert.deepEqual([...members('{}')], []);
  assert.deepEqual(elements(' [ ] '), []);
});

test('what is read is what JSON.parse reads, in any layout', () => {
  const value = { s: 'é"\\\n😀', n: [0, -1.5e3, true, null, {}], o: { '': { ']': '[' } }, e: [] };
  for (const layout of [undefined, 1, '\t', ' \n ']) {
    const texts = members(JSON.stringify(value, null, layout));
    assert.deepEqual(Object.fromEntries([...texts].map(([name, one]) => [name, JSON.parse(one)])), value);
    assert.deepEqual(elements(texts.get('n')).map((one) => JSON.parse(one)), value.n);
  }
});
