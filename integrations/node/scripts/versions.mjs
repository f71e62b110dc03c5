// The conformance suite on every version of Node that is maintained, and every way that it has: service, jspi, replay;
// and on this Node, whichever that is, on the other driver.
//
//   node scripts/versions.mjs [VERSION…]     CIMD_CACHE_BIN and CIMD_CACHE_CONFORMANCE name the programs
//
// The npm package `node` brings the binaries. The unit tests run on them too; on this one, `npm test` has run them.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const VERSIONS = ['22', '24', '26'];
const ROOT = fileURLToPath(new URL('../', import.meta.url));
const CONFORMANCE = process.env.CIMD_CACHE_CONFORMANCE;
const WAY = join(ROOT, 'test', 'way.mjs');

/** All but those of the ABI and of JSON, which need one version only. */
const TESTS = ['adapters', 'check', 'in-process', 'lost', 'package', 'resolve', 'service', 'sql'].map((name) => join('test', `${name}.test.mjs`));

const HAS_JSPI =
  'process.exit(typeof WebAssembly.Suspending === "function" && typeof WebAssembly.promising === "function" ? 0 : 1)';

if (CONFORMANCE === undefined) throw new Error('set CIMD_CACHE_CONFORMANCE to the program of the suite');
execFileSync(process.execPath, [join(ROOT, 'scripts', 'generate.mjs')], { stdio: 'inherit' });

const directory = mkdtempSync(join(tmpdir(), 'cimd-cache-'));
const results = [];
try {
  for (const version of process.argv.length > 2 ? process.argv.slice(2) : VERSIONS) {
    const node = install(version);
    const name = execFileSync(node, ['--version'], { encoding: 'utf8' }).trim();
    if (node !== process.execPath) run(`${name} tests`, node, ['--test', '--test-concurrency=1', ...TESTS]);
    const ways = ['service', 'replay', ...(spawnSync(node, ['-e', HAS_JSPI]).status === 0 ? ['jspi'] : [])];
    for (const way of ways) {
      const options = way === 'service' ? ['--service'] : [];
      run(`${name} ${way}`, CONFORMANCE, ['run', `node-${way}`, ...options, node, WAY, way]);
    }
  }
  const env = { WAY_DRIVER: 'postgres' };
  run('replay on Postgres.js', CONFORMANCE, ['run', 'node-replay', process.execPath, WAY, 'replay'], env);
} finally {
  rmSync(directory, { recursive: true });
}
for (const [name, ok] of results) console.log(`${ok ? 'ok    ' : 'FAILED'} ${name}`);
process.exitCode = results.every(([, ok]) => ok) ? 0 : 1;

/** The binary of a version: this one, or one from npm. */
function install(version) {
  if (process.version.startsWith(`v${version}.`)) return process.execPath;
  const at = join(directory, version);
  execFileSync('npm', ['install', '--prefix', at, '--no-audit', '--no-fund', '--no-save', `node@${version}`], { stdio: ['ignore', 'ignore', 'inherit'] });
  return join(at, 'node_modules', '.bin', 'node');
}

function run(name, program, parameters, env = {}) {
  const { status, stdout } = spawnSync(program, parameters, {
    cwd: ROOT,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) console.log(stdout);
  results.push([name, status === 0]);
  console.log(`${status === 0 ? 'ok' : 'FAILED'} ${name}`);
}
