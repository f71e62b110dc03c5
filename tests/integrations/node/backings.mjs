// The two ways to be backed, each with a Postgres server that has the cache's schema, and a way to take it away.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { COMMAND, startPostgres } from '../../../integrations/node/test/support.mjs';

export const BACKINGS = { 'the service': byService, 'in process': inProcess };

/** A service beside each node, as on two machines. */
async function byService() {
  const postgres = await startPostgres();
  const directory = mkdtempSync(join(tmpdir(), 'cimd-cache-'));
  const sockets = ['a.sock', 'b.sock'].map((name) => join(directory, name));
  let services = [];
  const backing = {
    postgres,
    environment: (node) => ({ CACHE_SOCKET: sockets[node] }),
    async start() {
      services = await Promise.all(sockets.map((socket) => startService(socket, postgres.url)));
    },
    async stop() {
      await Promise.all(services.map(async (service) => await end(service, 'SIGTERM')));
      services = [];
    },
    async remove() {
      await backing.stop();
      rmSync(directory, { recursive: true });
      await postgres.stop();
    },
  };
  await backing.start();
  return backing;
}

async function startService(socket, databaseUrl) {
  const options = ['--listen', `unix:${socket}`, '--sweep-every', '0', '--deadline-ms', '10000'];
  const env = { ...process.env, DATABASE_URL: databaseUrl };
  const service = spawn(COMMAND, ['serve', ...options], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  await said(service, service.stderr, 'listening on');
  return service;
}

async function inProcess() {
  const postgres = await startPostgres();
  const data = join(postgres.directory, 'data');
  const { uid, gid } = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};
  const bin = postgres.psql("select setting from pg_config where name = 'BINDIR'");
  const quiet = { uid, gid, stdio: 'ignore', cwd: postgres.directory };
  let server;
  const backing = {
    postgres,
    environment: () => ({ CACHE_DATABASE_URL: postgres.url }),
    async start() {
      const options = ['-D', data, '-k', postgres.directory, '-c', 'listen_addresses=', '-c', 'fsync=off', '-c', 'lc_messages=C'];
      server = spawn(join(bin, 'postgres'), options, { ...quiet, stdio: ['ignore', 'ignore', 'pipe'] });
      await said(server, server.stderr, 'ready to accept connections');
    },
    async stop() {
      execFileSync(join(bin, 'pg_ctl'), ['stop', '-w', '-m', 'fast', '-D', data], quiet);
    },
    async remove() {
      if (server !== undefined) await end(server, 'SIGINT');
      await postgres.stop();
    },
  };
  return backing;
}

/** Resolves when a program has said it. */
export function said(program, stream, text) {
  return new Promise((resolve, reject) => {
    let all = '';
    stream.on('data', (chunk) => {
      if (!all.includes(text) && (all += chunk).includes(text)) resolve(all);
    });
    program.once('error', reject);
    program.once('exit', (status) => reject(new Error(`it ended with ${status}: ${all}`)));
  });
}

export async function end(program, signal) {
  if (program.exitCode !== null || program.signalCode !== null) return;
  program.kill(signal);
  await once(program, 'exit');
}
