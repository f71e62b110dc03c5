// A Postgres server and a service of the tests' own.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createCache } from '../src/in-process.mjs';

export const COMMAND = process.env.CIMD_CACHE_BIN ?? 'cimd-cache';

/** Postgres does not run as root. */
const NOBODY = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};

function postgresProgram(name) {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root) ? readdirSync(root).sort((a, b) => b - a) : [];
  const found = versions.map((version) => join(root, version, 'bin', name)).find((path) => existsSync(path));
  return found ?? name;
}

/** A server with the cache's roles and schema in it. */
export async function startPostgres({ fsync = false } = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'cimd-cache-'));
  if (NOBODY.uid !== undefined) chownSync(directory, NOBODY.uid, NOBODY.gid);
  const data = join(directory, 'data');
  const quiet = { ...NOBODY, stdio: 'ignore', cwd: directory };
  execFileSync(postgresProgram('initdb'), ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '-N'], quiet);
  const settings = ['listen_addresses=', `fsync=${fsync ? 'on' : 'off'}`].flatMap((setting) => ['-c', setting]);
  const server = spawn(postgresProgram('postgres'), ['-D', data, '-k', directory, ...settings], quiet);
  const psql = (sql) =>
    execFileSync(postgresProgram('psql'), ['-X', '-q', '-A', '-t', '-h', directory, '-U', 'postgres', '-v', 'ON_ERROR_STOP=1'], {
      input: sql,
      encoding: 'utf8',
      stdio: ['pipe', 'pipe', 'pipe'],
    }).trim();
  const stop = async () => {
    server.kill('SIGINT');
    if (server.exitCode === null) await once(server, 'exit');
    rmSync(directory, { recursive: true });
  };
  const url = (role) => `postgres://${role}@${encodeURIComponent(directory)}/postgres`;
  const migrate = (...options) =>
    execFileSync(COMMAND, [...options, 'migrate'], { env: { ...process.env, DATABASE_URL: url('cimd_cache_owner') }, stdio: 'ignore' });
  try {
    await socketAnswers(join(directory, '.s.PGSQL.5432'));
    for (;;) {
      try {
        psql('select 1');
        break;
      } catch {
        // It is still starting up.
        await delay(20);
      }
    }
    psql(execFileSync(COMMAND, ['migrate', '--roles'], { encoding: 'utf8' }).replace(/^\\set.*$/gm, ''));
    migrate();
  } catch (error) {
    // Or it would go on, and this process with it.
    await stop();
    throw error;
  }
  return {
    directory,
    psql,
    migrate,
    url: url('cimd_cache_app'),
    config: { host: directory, user: 'cimd_cache_app', database: 'postgres' },
    stop,
  };
}

/** `cimd-cache serve` on a socket of its own. */
export async function startService(databaseUrl, ...options) {
  const directory = mkdtempSync(join(tmpdir(), 'cimd-cache-'));
  const socket = join(directory, 'cache.sock');
  const service = spawn(COMMAND, ['serve', '--listen', `unix:${socket}`, '--sweep-every', '0', ...options], {
    env: { ...process.env, DATABASE_URL: databaseUrl },
    stdio: 'ignore',
  });
  await socketAnswers(socket);
  return {
    socket,
    async stop() {
      service.kill('SIGTERM');
      if (service.exitCode === null) await once(service, 'exit');
      rmSync(directory, { recursive: true });
    },
  };
}

/** The same on TCP, with a certificate for localhost that is its own authority, and one token. */
export async function startTlsService(test, databaseUrl) {
  const directory = folder(test);
  const [cert, key, tokens] = ['cert.pem', 'key.pem', 'tokens'].map((name) => join(directory, name));
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-days', '2'];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  execFileSync('openssl', ['req', '-x509', ...kind, ...subject, '-out', cert, '-keyout', key], { stdio: 'ignore' });
  const token = 'a-token-of-the-tests';
  writeFileSync(tokens, `${token}\n`, { mode: 0o600 });
  const port = await freePort();
  const listen = ['--listen', `tcp:127.0.0.1:${port}`, '--host', `localhost:${port}`, '--token-file', tokens];
  const service = await startService(databaseUrl, ...listen, '--tls-cert', cert, '--tls-key', key);
  test.after(() => service.stop());
  return { url: `https://localhost:${port}`, ca: readFileSync(cert), token };
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

async function socketAnswers(path) {
  for (let tries = 0; ; tries += 1) {
    const connection = createConnection(path);
    try {
      await once(connection, 'connect');
      connection.destroy();
      return;
    } catch (error) {
      if (tries === 1500) throw error;
      await delay(20);
    }
  }
}

/** A folder that the test removes. */
export function folder(test) {
  const path = mkdtempSync(join(tmpdir(), 'cimd-cache-'));
  test.after(() => rmSync(path, { recursive: true }));
  mkdirSync(path, { recursive: true });
  return path;
}

/** A cache whose deadline does not end a test on a machine that is busy. */
export const patient = (options) => createCache({ deadlineMs: 30_000, ...options });

/** A query function that counts, and may do something else instead. */
export function counted(query, instead) {
  const sent = [];
  const counting = async (text, parameters, options) => {
    sent.push({ text, parameters, ...options });
    return instead === undefined ? await query(text, parameters, options) : await instead(text, parameters, options);
  };
  return { query: counting, sent };
}
