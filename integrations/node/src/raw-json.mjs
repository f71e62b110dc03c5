// Documents are handed on as the text that the database gave: JSON.parse would round their numbers.

const SPACE = /[ \t\r\n]*/y;
const SCALAR = /[^,\]}\s]+/y;
const STRING = /"(?:[^"\\]|\\.)*"/ys;

function skip(pattern, text, at) {
  pattern.lastIndex = at;
  const found = pattern.exec(text);
  return found ? pattern.lastIndex : at;
}

/** Where the value that begins at `at` ends. The text is JSON: JSON.parse has read it. */
function end(text, at) {
  if (text[at] === '"') return skip(STRING, text, at);
  if (text[at] !== '{' && text[at] !== '[') return skip(SCALAR, text, at);
  let depth = 0;
  do {
    const character = text[at];
    if (character === '"') {
      at = skip(STRING, text, at);
      continue;
    }
    if (character === '{' || character === '[') depth += 1;
    if (character === '}' || character === ']') depth -= 1;
    at += 1;
  } while (depth > 0);
  return at;
}

/** The texts of an object's members, by name. */
export function members(text) {
  const found = new Map();
  let at = skip(SPACE, text, text.indexOf('{') + 1);
  while (text[at] === '"') {
    const nameEnd = skip(STRING, text, at);
    const name = JSON.parse(text.slice(at, nameEnd));
    at = skip(SPACE, text, nameEnd);
    at = skip(SPACE, text, at + 1);
    const valueEnd = end(text, at);
    found.set(name, text.slice(at, valueEnd));
    at = skip(SPACE, text, valueEnd);
    if (text[at] === ',') at = skip(SPACE, text, at + 1);
  }
  return found;
}

/** The texts of an array's elements. */
export function elements(text) {
  const found = [];
  let at = skip(SPACE, text, text.indexOf('[') + 1);
  while (at < text.length && text[at] !== ']') {
    const valueEnd = end(text, at);
    found.push(text.slice(at, valueEnd));
    at = skip(SPACE, text, valueEnd);
    if (text[at] === ',') at = skip(SPACE, text, at + 1);
  }
  return found;
}
