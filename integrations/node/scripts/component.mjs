// The core module inside the component. JavaScript engines load core modules only; what the component has
// besides it (types, and two small modules that tie the knot between import and memory) is src/abi.mjs here.

const COMPONENT = [0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];
const CORE_MODULE = 1;

/** The bytes of the core module that has an export of this name. */
export function coreModule(component, exportName) {
  if (!COMPONENT.every((byte, at) => component[at] === byte)) throw new Error('this is not a component');
  const found = [];
  let at = COMPONENT.length;
  while (at < component.length) {
    const id = component[at];
    const [size, start] = leb128(component, at + 1);
    if (id === CORE_MODULE) found.push(component.subarray(start, start + size));
    at = start + size;
  }
  if (at !== component.length) throw new Error('the component ends within a section');
  const wanted = found.filter((bytes) =>
    WebAssembly.Module.exports(new WebAssembly.Module(bytes)).some(({ name }) => name === exportName),
  );
  if (wanted.length !== 1) throw new Error(`${wanted.length} of its modules export ${exportName}`);
  return wanted[0];
}

function leb128(bytes, at) {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++];
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return [value, at];
  }
}
