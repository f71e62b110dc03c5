// How long a response may be kept by a shared cache (RFC 9111, section 4.2).

/**
 * In whole seconds; 0 if it must not be stored, or only under conditions that this cache does not know.
 * `defaultLifetime` is for a response that says nothing.
 */
export function lifetime(headers, { defaultLifetime, longestLifetime }) {
  const directives = directivesOf(headers.get('cache-control') ?? '');
  if (['no-store', 'no-cache', 'private'].some((name) => directives.has(name))) return 0;
  if (/(^|,)\s*\*\s*(,|$)/.test(headers.get('vary') ?? '')) return 0;
  const date = Date.parse(headers.get('date') ?? '');
  const apparentAge = Number.isNaN(date) ? 0 : (Date.now() - date) / 1000;
  const age = Math.max(0, apparentAge, seconds(headers.get('age') ?? '0'));
  return Math.max(0, Math.floor(Math.min(longestLifetime, stated(headers, directives, date) ?? defaultLifetime) - age));
}

function stated(headers, directives, date) {
  const maxAge = directives.get('s-maxage') ?? directives.get('max-age');
  if (maxAge !== undefined) return seconds(maxAge);
  const expires = headers.get('expires');
  if (expires === null) return undefined;
  const at = Date.parse(expires);
  // `Expires: 0`, or anything else that is no date, is in the past.
  return Number.isNaN(at) ? 0 : (at - (Number.isNaN(date) ? Date.now() : date)) / 1000;
}

/** What is not a number counts as stale. */
const seconds = (text) => (/^\d+$/.test(text) ? Number(text) : 0);

function directivesOf(text) {
  const directives = new Map();
  for (const directive of text.toLowerCase().split(',')) {
    const [name, value = ''] = directive.split('=').map((part) => part.trim());
    // Of one that is given twice, neither is to be believed.
    directives.set(name, directives.has(name) ? 'twice' : value.replace(/^"(.*)"$/, '$1'));
  }
  return directives;
}
