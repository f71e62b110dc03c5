// The package as it is published: packed, installed into an empty folder, and used from there.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { component } from '../scripts/generate.mjs';
import { coreModule } from '../scripts/component.mjs';
import { COMMAND, startPostgres, startService } from './support.mjs';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const VERSION = Number(process.version.slice(1).split('.')[0]);
let directory;
let installed;
let postgres;
let service;

before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cimd-cache-'));
  const packed = execFileSync('npm', ['pack', '--json', '--pack-destination', directory], { cwd: ROOT, encoding: 'utf8' });
  const [{ filename }] = Object.values(JSON.parse(packed.slice(packed.search(/^[[{]/m))));
  writeFileSync(join(directory, 'package.json'), '{ "private": true }');
  const options = ['--no-audit', '--no-fund', '--no-package-lock', '--offline'];
  execFileSync('npm', ['install', ...options, join(directory, filename)], { cwd: directory, stdio: 'ignore' });
  assert.deepEqual(readdirSync(join(directory, 'node_modules')).filter((name) => !name.startsWith('.')), ['cimd-cache']);
  mkdirSync(join(directory, 'node_modules', '@types'));
  for (const name of ['pg', 'postgres', '@types/pg', '@types/node']) {
    symlinkSync(join(ROOT, 'node_modules', name), join(directory, 'node_modules', name));
  }
  installed = join(directory, 'node_modules', 'cimd-cache');
  postgres = await startPostgres();
  service = await startService(postgres.url, '--deadline-ms', '30000');
});

after(async () => {
  await service?.stop();
  await postgres?.stop();
  if (directory !== undefined) rmSync(directory, { recursive: true });
});

/** Runs a program from the folder that has the package. */
function run(name, source) {
  writeFileSync(join(directory, name), source);
  // Postgres.js knows a socket's folder by PGHOST only.
  const env = { ...process.env, DATABASE_URL: 'postgres:///postgres', PGHOST: postgres.directory, PGUSER: 'cimd_cache_app' };
  return execFileSync(process.execPath, ['--no-warnings', name], { cwd: directory, env, encoding: 'utf8' }).trim();
}

test('the module and the statements in the package are those of the component', () => {
  const cut = coreModule(component(), 'cimd:cache/cache@0.1.0#get');
  const packed = readFileSync(join(installed, 'generated', 'cimd-cache.wasm'));
  assert.ok(cut.length > 10_000);
  assert.ok(packed.equals(cut), 'cimd-cache.wasm');
  const check = `
    import base64 from './node_modules/cimd-cache/generated/core.mjs';
    import { STATEMENTS } from './node_modules/cimd-cache/generated/statements.mjs';
    process.stdout.write(JSON.stringify({ base64, STATEMENTS }));`;
  const { base64, STATEMENTS } = JSON.parse(run('carried.mjs', check));
  assert.ok(Buffer.from(base64, 'base64').equals(cut), 'core.mjs');
  const statements = execFileSync(COMMAND, ['component', '--statements'], { encoding: 'utf8' });
  assert.deepEqual(STATEMENTS, JSON.parse(statements));
});

test('it has no dependency and no test in it', () => {
  const { dependencies, peerDependenciesMeta } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
  assert.equal(dependencies, undefined);
  assert.ok(Object.values(peerDependenciesMeta).every(({ optional }) => optional));
  assert.throws(() => readFileSync(join(installed, 'test', 'way.mjs')), { code: 'ENOENT' });
});

test('import, and what it exports', () => {
  const list = `
    import * as all from 'cimd-cache';
    import * as inProcess from 'cimd-cache/in-process';
    console.log(JSON.stringify([Object.keys(all), Object.keys(inProcess)]));`;
  const inProcess = ['CimdCacheError', 'createCache', 'fromPg', 'fromPostgres', 'resolve'];
  assert.deepEqual(JSON.parse(run('list.mjs', list)), [['CimdCacheError', 'connect', ...inProcess.slice(1)], inProcess]);
});

test('require, where Node can require a module', { skip: VERSION < 22 && 'from Node 22 on' }, () => {
  const required = `
    const { createCache, fromPg, CimdCacheError } = require('cimd-cache');
    const { Pool } = require('pg');
    const pool = new Pool({ connectionString: process.env.DATABASE_URL });
    const cache = createCache({ query: fromPg(pool), deadlineMs: 30000 });
    cache.get('https://required.example/').then(async ({ outcome }) => {
      await pool.end();
      console.log(outcome, new CimdCacheError('a', 'b') instanceof Error);
    });`;
  assert.equal(run('required.cjs', required), 'miss true');
});

test('the examples of the README run', () => {
  const readme = readFileSync(join(installed, 'README.md'), 'utf8');
  const examples = [...readme.matchAll(/^```js\n(.*?)^```$/gms)].map(([, code]) => code);
  assert.ok(examples.length >= 3, `only ${examples.length} examples`);
  for (const [number, code] of examples.entries()) {
    const here = code.replaceAll('/run/cimd-cache/cache.sock', service.socket);
    run(`example-${number}.mjs`, here);
  }
});

test('a bundle needs nothing beside it, and none of node’s modules if it is in process', async () => {
  const entry = join(directory, 'entry.mjs');
  writeFileSync(
    entry,
    `import { createCache, fromPg, resolve } from 'cimd-cache/in-process';
     import pg from 'pg';
     export async function login(url) {
       const pool = new pg.Pool({ connectionString: url });
       const cache = createCache({ query: fromPg(pool), deadlineMs: 30000 });
       const found = await resolve(cache, 'https://bundled.example/', async () => ({ metadata: '{"v":1}', expiresIn: 60 }), { timeoutMs: 30000 });
       await pool.end();
       return found;
     }`,
  );
  const elsewhere = mkdtempSync(join(tmpdir(), 'cimd-cache-'));
  try {
    for (const [format, extension] of [['esm', 'mjs'], ['cjs', 'cjs']]) {
      const outfile = join(elsewhere, `bundle.${extension}`);
      const { metafile } = await build({ entryPoints: [entry], bundle: true, format, platform: 'neutral', external: ['pg'], outfile, metafile: true, logLevel: 'silent' });
      const [{ imports }] = Object.values(metafile.outputs);
      assert.deepEqual(imports.map(({ path }) => path), ['pg']);
      const pgHere = pathToFileURL(join(ROOT, 'node_modules', 'pg', 'lib', 'index.js'));
      const code = readFileSync(outfile, 'utf8').replaceAll(/(from |require\()"pg"/g, (_, before) => `${before}"${format === 'esm' ? pgHere : fileURLToPath(pgHere)}"`);
      writeFileSync(outfile, code);
      const loaded = await import(pathToFileURL(outfile));
      const { login } = format === 'esm' ? loaded : loaded.default;
      assert.equal(JSON.parse(await login(postgres.url)).v, 1);
    }
    const whole = join(elsewhere, 'whole.mjs');
    await build({ stdin: { contents: `export * from 'cimd-cache'`, resolveDir: directory }, bundle: true, format: 'esm', platform: 'node', outfile: whole, logLevel: 'silent' });
    const { connect } = await import(pathToFileURL(whole));
    const cache = connect({ socket: service.socket, timeoutMs: 60_000 });
    await cache.check();
    await cache.close();
  } finally {
    rmSync(elsewhere, { recursive: true });
  }
});

test('the module may be given, for engines that compile none at run time', () => {
  const given = `
    import { readFileSync } from 'node:fs';
    import { createRequire } from 'node:module';
    import pg from 'pg';
    import { createCache, fromPg } from 'cimd-cache/in-process';
    const file = createRequire(import.meta.url).resolve('cimd-cache/cimd-cache.wasm');
    const module = new WebAssembly.Module(readFileSync(file));
    WebAssembly.compile = () => { throw new Error('not here'); };
    const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
    const { outcome } = await createCache({ query: fromPg(pool), module, deadlineMs: 30000 }).get('https://given.example/');
    await pool.end();
    console.log(outcome);`;
  assert.equal(run('given.mjs', given), 'miss');
});

test('the types are strict', () => {
  copyFileSync(join(ROOT, 'test', 'types.ts'), join(directory, 'types.mts'));
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const options = ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--module', 'nodenext', '--target', 'es2023', '--types', 'node'];
  const check = () => execFileSync(process.execPath, [tsc, ...options, 'types.mts'], { cwd: directory, encoding: 'utf8', stdio: 'pipe' });
  check();
  writeFileSync(join(directory, 'types.mts'), `import { connect } from 'cimd-cache';\nconnect({ socket: 1 });\n`);
  assert.throws(check, (error) => /TS2322|TS2769/.test(error.stdout));
});
