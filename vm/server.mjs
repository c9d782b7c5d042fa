// SPDX-License-Identifier: Apache-2.0
// The sample VM: what coffer-launch runs for each user (README.md).
import { createServer } from 'node:http';

import { handle, ROOT } from './api.mjs';
import { Store } from './store.mjs';
import { closeAll, upgrade } from './websocket.mjs';

const FIRST_FD = 3; // systemd's SD_LISTEN_FDS_START
const IDLE_MS = 65_000; // longer than a proxy keeps a connection

// With TARGET_DISK the user's volume; else a folder that somebody names. Never memory that would be lost.
function folder(env) {
  if (env.TARGET_DISK === 'true') return `${ROOT}/store`;
  if (env.DATA_FOLDER) return env.DATA_FOLDER;
  throw new Error('set TARGET_DISK=true, or DATA_FOLDER');
}

function whereToListen(env) {
  if (env.LISTEN_FDS === '1' && env.LISTEN_PID === String(process.pid)) return { fd: FIRST_FD };
  return { port: Number(env.PORT ?? 8080), host: env.HOST };
}

// A proxy may strip the prefix or leave it.
function pathOf(request, prefix) {
  const [path] = request.url.split('?', 1);
  return prefix !== '' && path.startsWith(prefix + '/') ? path.slice(prefix.length) : path;
}

function stop(server, store) {
  server.close(async () => {
    await store.settle();
    process.exit(0);
  });
  server.closeIdleConnections();
  closeAll();
}

async function main() {
  const store = await Store.open(folder(process.env));
  const prefix = (process.env.VM_URL_PREFIX ?? '').replace(/\/+$/, '');
  const server = createServer({ keepAliveTimeout: IDLE_MS, requestTimeout: 60_000, headersTimeout: 20_000 });
  let stopping = false;
  server.on('request', (request, response) => {
    if (stopping) response.setHeader('connection', 'close');
    handle(store, request, response, pathOf(request, prefix));
  });
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => socket.destroy()); // Node.js leaves it to us; nobody's going away ends the VM
    if (pathOf(request, prefix) === `${ROOT}/_echo`) upgrade(request, socket, head);
    else socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
  });
  process.on('SIGTERM', () => {
    stopping = true;
    stop(server, store);
  });
  server.listen(whereToListen(process.env));
}

main().catch((error) => {
  console.error(`the sample VM can't go on: ${error.message}`);
  process.exit(1);
});
