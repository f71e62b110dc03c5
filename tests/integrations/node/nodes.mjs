// Nodes: real servers, each a process of its own.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { said } from './backings.mjs';

/** No answer within this time counts as none: a login has to end, whatever is away. */
const GIVE_UP_MS = 30_000;

/** Starts `program`, which says `port N` on its standard output, and ends with its standard input. */
export async function startNode(program, environment) {
  const node = spawn(process.execPath, [program], {
    env: { ...process.env, ...environment },
    stdio: ['pipe', 'pipe', process.env.SHOW_LOG ? 'inherit' : 'ignore'],
  });
  let heard = '';
  const waiting = new Set();
  node.stdout.on('data', (chunk) => {
    heard += chunk;
    for (const look of waiting) look();
  });
  const started = await said(node, node.stdout, '\n');
  const port = Number(/^port (\d+)$/m.exec(started)[1]);

  const ask = async (method, path, parameters = {}) => {
    const asked = request({ host: '127.0.0.1', port, method, agent: false, path: `${path}?${new URLSearchParams(parameters)}` });
    asked.setTimeout(GIVE_UP_MS, () => asked.destroy(new Error('no answer')));
    asked.end();
    const [response] = await once(asked, 'response');
    let body = '';
    for await (const chunk of response) body += chunk;
    return { status: response.statusCode, location: response.headers.location ?? '', body };
  };
  const control = async (name, parameters) => {
    const { status, body } = await ask('POST', `/cache/${name}`, parameters);
    if (status !== 200) throw new Error(`${name}: ${body}`);
  };

  return {
    ask,
    /** What an operator does on this node, through its cache. */
    delete: (clientId) => control('delete', { clientId }),
    purge: () => control('purge'),
    check: () => control('check'),

    /** How often it has said this line. */
    saidSoFar: (line) => heard.split('\n').filter((each) => each === line).length,

    /** Resolves when it has said the line that often. */
    hasSaid(line, times) {
      return new Promise((resolve) => {
        const look = () => {
          if (this.saidSoFar(line) < times) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      });
    },

    async stop() {
      node.stdin.end();
      if (node.exitCode === null) await once(node, 'exit');
    },
  };
}
