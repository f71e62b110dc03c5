// Makes generated/: what the package has of the project beside it, cut to what JavaScript needs.
//
//   node scripts/generate.mjs     CIMD_CACHE_BIN names the command, `cimd-cache` on the PATH by default

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { coreModule } from './component.mjs';
import { functions, read } from './wit.mjs';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const WIT = fileURLToPath(new URL('../../../wit/', import.meta.url));
const COMMAND = process.env.CIMD_CACHE_BIN ?? 'cimd-cache';

/** The component, as the command writes it. */
export function component() {
  const directory = mkdtempSync(join(tmpdir(), 'cimd-cache-'));
  try {
    const file = join(directory, 'component.wasm');
    execFileSync(COMMAND, ['component', '--output', file], { stdio: ['ignore', 'ignore', 'pipe'] });
    return readFileSync(file);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** The parsed WIT. */
export function wit() {
  const files = readdirSync(WIT).filter((name) => name.endsWith('.wit'));
  return read(files.map((name) => readFileSync(join(WIT, name), 'utf8')));
}

/** The files of generated/, by name. */
export function files() {
  const statements = execFileSync(COMMAND, ['component', '--statements'], { encoding: 'utf8' });
  const parsed = wit();
  const core = coreModule(component(), `${functions(parsed, 'exports')[0].interface}#get`);
  const note = '// Made by scripts/generate.mjs.\n\n';
  const described = (kind) => JSON.stringify(functions(parsed, kind), null, 1);
  return {
    'cimd-cache.wasm': core,
    'core.mjs': `${note}export default '${core.toString('base64')}';\n`,
    'statements.mjs': `${note}export const STATEMENTS = ${JSON.stringify(JSON.parse(statements), null, 1)};\n`,
    'world.mjs': `${note}export const IMPORTS = ${described('imports')};\n\nexport const EXPORTS = ${described('exports')};\n`,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  mkdirSync(join(ROOT, 'generated'), { recursive: true });
  for (const [name, content] of Object.entries(files())) writeFileSync(join(ROOT, 'generated', name), content);
}
