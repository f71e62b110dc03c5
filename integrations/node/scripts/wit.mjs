// Reads the project's WIT files into descriptions of types: as much of WIT as they use. Anything else is an
// error, so that a new construct is noticed here and not in somebody's memory.

/** `{ package, interfaces: { name: { types, functions } }, world: { imports, exports } }` */
export function read(files) {
  const wit = { package: undefined, interfaces: {}, world: undefined };
  for (const text of files) new Reader(text).file(wit);
  return wit;
}

class Reader {
  constructor(text) {
    const bare = text.replace(/\/\/.*$/gm, '');
    this.tokens = bare.match(/[a-z][a-z0-9-]*|[0-9]+(?:\.[0-9]+)*|->|[{}()<>:;,=@/._]/gi) ?? [];
    this.at = 0;
  }

  peek = () => this.tokens[this.at];
  next = () => this.tokens[this.at++];

  accept(token) {
    if (this.peek() !== token) return false;
    this.at += 1;
    return true;
  }

  expect(token) {
    if (!this.accept(token)) throw new Error(`expected ${token}, found ${this.peek()} (token ${this.at})`);
  }

  /** Items in braces, or brackets, each followed by a comma except perhaps the last. */
  list(open, close, item) {
    this.expect(open);
    const items = [];
    while (!this.accept(close)) {
      items.push(item());
      if (!this.accept(',')) {
        this.expect(close);
        break;
      }
    }
    return items;
  }

  file(wit) {
    while (this.peek() !== undefined) {
      const word = this.next();
      if (word === 'package') {
        const namespace = this.next();
        this.expect(':');
        const name = this.next();
        this.expect('@');
        wit.package = { name: `${namespace}:${name}`, version: this.next() };
        this.expect(';');
      } else if (word === 'interface') {
        wit.interfaces[this.next()] = this.interface();
      } else if (word === 'world') {
        this.next();
        wit.world = this.world();
      } else {
        throw new Error(`cannot read ${word} in a WIT file`);
      }
    }
  }

  world() {
    const world = { imports: [], exports: [] };
    this.expect('{');
    while (!this.accept('}')) {
      const kind = this.next();
      if (kind !== 'import' && kind !== 'export') throw new Error(`cannot read ${kind} in a world`);
      world[`${kind}s`].push(this.next());
      this.expect(';');
    }
    return world;
  }

  interface() {
    const found = { uses: {}, types: {}, functions: {} };
    this.expect('{');
    while (!this.accept('}')) {
      const word = this.next();
      if (word === 'type') {
        const name = this.next();
        this.expect('=');
        found.types[name] = this.type();
        this.expect(';');
      } else if (word === 'record') {
        found.types[this.next()] = { record: this.list('{', '}', () => this.field()) };
      } else if (word === 'variant') {
        found.types[this.next()] = { variant: this.list('{', '}', () => this.case()) };
      } else if (word === 'enum') {
        found.types[this.next()] = { enum: this.list('{', '}', () => this.next()) };
      } else if (word === 'use') {
        const from = this.next();
        this.expect('.');
        for (const name of this.list('{', '}', () => this.next())) found.uses[name] = from;
        this.expect(';');
      } else {
        this.expect(':');
        this.expect('func');
        const params = this.list('(', ')', () => this.field());
        found.functions[word] = { params, result: this.accept('->') ? this.type() : null };
        this.expect(';');
      }
    }
    return found;
  }

  field() {
    const name = this.next();
    this.expect(':');
    return [name, this.type()];
  }

  case() {
    const name = this.next();
    if (!this.accept('(')) return [name, null];
    const type = this.type();
    this.expect(')');
    return [name, type];
  }

  type() {
    const word = this.next();
    if (word === '_') return null;
    if (['list', 'option', 'result'].includes(word)) {
      const of = this.peek() === '<' ? this.list('<', '>', () => this.type()) : [];
      return { [word]: word === 'result' ? [of[0] ?? null, of[1] ?? null] : of[0] };
    }
    return word;
  }
}

const PLAIN = ['bool', 'u8', 'u32', 'u64', 's64', 'string'];

/** The type with every name replaced by what it stands for. */
export function expand(wit, interfaceName, type) {
  if (type === null || PLAIN.includes(type)) return type;
  if (typeof type === 'string') {
    const { types, uses } = wit.interfaces[interfaceName];
    if (uses[type] !== undefined) return expand(wit, uses[type], type);
    if (types[type] === undefined) throw new Error(`${interfaceName} has no type ${type}`);
    return expand(wit, interfaceName, types[type]);
  }
  const [[kind, of]] = Object.entries(type);
  const inside = (one) => expand(wit, interfaceName, one);
  switch (kind) {
    case 'list':
    case 'option':
      return { [kind]: inside(of) };
    case 'result':
      return { result: of.map(inside) };
    case 'record':
    case 'variant':
      return { [kind]: of.map(([name, one]) => [name, inside(one)]) };
    case 'enum':
      return type;
  }
  throw new Error(`cannot expand ${kind}`);
}

/** Every function of the world: `{ name, module, params, result }`, by `interface.function`. */
export function functions(wit, kind) {
  const { name, version } = wit.package;
  return wit.world[kind].flatMap((interfaceName) =>
    Object.entries(wit.interfaces[interfaceName].functions).map(([functionName, { params, result }]) => ({
      interface: `${name}/${interfaceName}@${version}`,
      name: functionName,
      params: params.map(([, type]) => expand(wit, interfaceName, type)),
      result: expand(wit, interfaceName, result),
    })),
  );
}
