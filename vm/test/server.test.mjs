// SPDX-License-Identifier: Apache-2.0
// The sample VM as a process: by its HTTP answers, its signals, and what is on the disk after it was killed.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer, connect as connectTo } from 'node:net';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

const SERVER = new URL('../server.mjs', import.meta.url).pathname;
const PATIENCE_MS = 60_000;
let folder;
let vm;

function ask(method, path, { body, headers = {}, port = vm.port } = {}) {
  return new Promise((resolve, reject) => {
    const request = http.request({ port, host: '127.0.0.1', method, path, headers, agent: false }, async (response) => {
      let text = '';
      for await (const chunk of response) text += chunk;
      const json = text !== '' && response.headers['content-type'] === 'application/json';
      resolve({ status: response.statusCode, headers: response.headers, text, body: json ? JSON.parse(text) : undefined });
    });
    request.on('error', reject);
    request.end(body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body));
  });
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

async function start(data, env = {}) {
  const port = await freePort();
  const child = spawn(process.execPath, [SERVER], {
    env: { DATA_FOLDER: data, PORT: String(port), HOST: '127.0.0.1', ...env },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      await ask('GET', '/personalcloud/', { port });
      return { child, port };
    } catch (error) {
      if (Date.now() > end || child.exitCode !== null) throw error;
      await new Promise((done) => setTimeout(done, 20));
    }
  }
}

async function stop({ child }, signal = 'SIGTERM') {
  child.kill(signal);
  const [code, by] = await once(child, 'exit');
  return code ?? by;
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'coffer-vm-'));
  vm = await start(join(folder, 'main'), { VM_URL_PREFIX: '/clouds/0123456789abcdef0123456789abcdef/' });
});

after(async () => {
  if (vm.child.exitCode === null) await stop(vm);
  await rm(folder, { recursive: true });
});

test('it welcomes, with the prefix and without', async () => {
  for (const path of ['/personalcloud/', '/personalcloud', '/clouds/0123456789abcdef0123456789abcdef/personalcloud/']) {
    const { status, body } = await ask('GET', path);
    assert.equal(status, 200, path);
    assert.equal(body.couchdb, 'Welcome');
  }
});

test('what is elsewhere is not there', async () => {
  for (const path of ['/index.html', '/personalcloudy/', '/clouds/ffffffffffffffffffffffffffffffff/personalcloud/', '/personalcloud/a/b/c'])
    assert.equal((await ask('GET', path)).status, 404, path);
});

test('people get a page', async () => {
  for (const path of ['/', '/clouds/0123456789abcdef0123456789abcdef/']) {
    const { status, text } = await ask('GET', path);
    assert.equal(status, 200, path);
    assert.match(text, /^<!DOCTYPE html>[\s\S]*<h1>Notes<\/h1>[\s\S]*<\/html>\n$/);
    assert.doesNotMatch(text, /(src|href)=|https?:/); // nothing from elsewhere, and no absolute address
  }
});

test('a database comes and goes', async () => {
  assert.deepEqual((await ask('PUT', '/personalcloud/notes')).status, 201);
  assert.deepEqual((await ask('PUT', '/personalcloud/notes')).body.error, 'file_exists');
  assert.deepEqual((await ask('GET', '/personalcloud/_all_dbs')).body, ['notes']);
  assert.deepEqual((await ask('GET', '/personalcloud/notes')).body, { db_name: 'notes', doc_count: 0, doc_del_count: 0, unreadable: 0 });
  assert.equal((await ask('DELETE', '/personalcloud/notes')).status, 200);
  assert.equal((await ask('GET', '/personalcloud/notes')).status, 404);
  assert.equal((await ask('DELETE', '/personalcloud/notes')).status, 404);
});

test('a document for a database that was deleted meanwhile is none of its successor', async () => {
  assert.equal((await ask('PUT', '/personalcloud/again')).status, 201);
  const headers = { 'content-type': 'application/json', expect: '100-continue' };
  const request = http.request({ port: vm.port, host: '127.0.0.1', method: 'PUT', path: '/personalcloud/again/a', headers, agent: false });
  request.flushHeaders();
  await once(request, 'continue'); // the VM has found the database, and waits for the document
  assert.equal((await ask('DELETE', '/personalcloud/again')).status, 200);
  assert.equal((await ask('PUT', '/personalcloud/again')).status, 201);
  request.end('{"text": "late"}');
  const [response] = await once(request, 'response');
  response.resume();
  assert.equal(response.statusCode, 404);
  assert.deepEqual(await readdir(join(folder, 'main', 'again')), []);
});

test('names that are none are refused', async () => {
  for (const name of ['Upper', '0digit', '..', '.hidden', 'a%2Fb', `a${'b'.repeat(200)}`, '_replicator'])
    assert.notEqual((await ask('PUT', `/personalcloud/${name}`)).status, 201, name);
  assert.equal((await ask('PUT', '/personalcloud/%FF')).status, 400);
});

test('a document and its revisions', async () => {
  await ask('PUT', '/personalcloud/docs');
  const path = '/personalcloud/docs/a%2Fb';
  const first = await ask('PUT', path, { body: { text: 'one' } });
  assert.equal(first.status, 201);
  assert.match(first.body.rev, /^1-[0-9a-f]{32}$/);
  assert.equal(first.body.id, 'a/b');
  const got = await ask('GET', path);
  assert.deepEqual(got.body, { text: 'one', _id: 'a/b', _rev: first.body.rev });
  assert.equal(got.headers.etag, `"${first.body.rev}"`);
  assert.equal((await ask('PUT', path, { body: { text: 'two' } })).status, 409);
  assert.equal((await ask('PUT', path, { body: { text: 'two', _rev: `1-${'0'.repeat(32)}` } })).status, 409);
  const second = await ask('PUT', path, { body: { text: 'two', _rev: first.body.rev } });
  assert.match(second.body.rev, /^2-/);
  const third = await ask('PUT', path, { body: { text: 'three' }, headers: { 'if-match': `"${second.body.rev}"` } });
  assert.match(third.body.rev, /^3-/);
  assert.equal((await ask('DELETE', path)).status, 409);
  assert.equal((await ask('DELETE', `${path}?rev=${third.body.rev}`)).status, 200);
  assert.deepEqual((await ask('GET', path)).body, { error: 'not_found', reason: 'deleted' });
  assert.match((await ask('PUT', path, { body: {} })).body.rev, /^5-/);
});

test('of fifty writers with one revision one wins', async () => {
  await ask('PUT', '/personalcloud/race');
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => ask('PUT', '/personalcloud/race/x', { body: { i } })));
  assert.equal(answers.filter(({ status }) => status === 201).length, 1);
  assert.equal(answers.filter(({ status }) => status === 409).length, 49);
});

test('_all_docs in order, limited, with documents', async () => {
  await ask('PUT', '/personalcloud/list');
  for (const id of ['c', 'a', 'b']) await ask('PUT', `/personalcloud/list/${id}`, { body: { id } });
  const all = (await ask('GET', '/personalcloud/list/_all_docs')).body;
  assert.equal(all.total_rows, 3);
  assert.deepEqual(all.rows.map(({ id }) => id), ['a', 'b', 'c']);
  const some = (await ask('GET', '/personalcloud/list/_all_docs?include_docs=true&limit=1&skip=1')).body;
  assert.deepEqual(some.rows.map(({ doc }) => doc.id), ['b']);
  assert.equal((await ask('GET', '/personalcloud/list/_all_docs?limit=x')).status, 400);
});

test('bad documents are named', async () => {
  await ask('PUT', '/personalcloud/bad');
  for (const body of ['{', '[]', 'null', '"x"', '{"_attachments":{}}', '{"_rev":7}', '\xff'])
    assert.equal((await ask('PUT', '/personalcloud/bad/x', { body })).status, 400, body);
  assert.equal((await ask('PUT', '/personalcloud/bad/_x', { body: {} })).status, 400);
  assert.equal((await ask('PUT', '/personalcloud/bad/x', { body: { a: 'x'.repeat(1 << 20) } })).status, 413);
  assert.equal((await ask('PUT', '/personalcloud/bad/x', { body: { _id: 'y' } })).status, 400);
  assert.equal((await ask('PATCH', '/personalcloud/bad/x')).status, 405);
});

test('a document has proto and constructor as names', async () => {
  await ask('PUT', '/personalcloud/names');
  for (const id of ['__proto__', 'constructor', 'toString'])
    assert.equal((await ask('PUT', `/personalcloud/names/${id}`, { body: { id } })).status, id.startsWith('_') ? 400 : 201, id);
  assert.equal((await ask('GET', '/personalcloud/names/hasOwnProperty')).status, 404);
  assert.equal((await ask('GET', '/personalcloud/constructor')).status, 404);
});

test('another origin may ask', async () => {
  const preflight = await ask('OPTIONS', '/personalcloud/any/doc', { headers: { origin: 'https://page', 'access-control-request-method': 'PUT' } });
  assert.equal(preflight.status, 204);
  assert.match(preflight.headers['access-control-allow-methods'], /PUT/);
  assert.equal((await ask('GET', '/personalcloud/')).headers['access-control-allow-origin'], '*');
});

test('what was answered is there after SIGKILL, and left-overs are not', async () => {
  const data = join(folder, 'killed');
  const first = await start(data);
  await ask('PUT', '/personalcloud/db', { port: first.port });
  const writes = Array.from({ length: 30 }, (_, i) => ask('PUT', `/personalcloud/db/${i}`, { port: first.port, body: { i } }).catch(() => undefined));
  await Promise.race(writes);
  assert.equal(await stop(first, 'SIGKILL'), 'SIGKILL');
  const answered = (await Promise.all(writes)).filter((answer) => answer?.status === 201);
  assert.ok(answered.length > 0);
  await writeFile(join(data, 'db', `${'0'.repeat(64)}.json.tmp`), '{"half');
  const second = await start(data);
  for (const { body } of answered)
    assert.equal((await ask('GET', `/personalcloud/db/${body.id}`, { port: second.port })).body._rev, body.rev);
  assert.equal(await stop(second), 0);
  assert.deepEqual((await readdir(join(data, 'db'))).filter((name) => name.endsWith('.tmp')), []);
});

test('a damaged file is never taken for a missing document', async () => {
  const data = join(folder, 'damaged');
  const first = await start(data);
  await ask('PUT', '/personalcloud/db', { port: first.port });
  await ask('PUT', '/personalcloud/db/x', { port: first.port, body: {} });
  await stop(first);
  const name = createHash('sha256').update('x').digest('hex') + '.json';
  await writeFile(join(data, 'db', name), '{"_id":"x","_re');
  const second = await start(data);
  for (const [method, body] of [['GET'], ['PUT', {}], ['DELETE']])
    assert.equal((await ask(method, '/personalcloud/db/x', { port: second.port, body })).status, 500, method);
  assert.equal((await ask('GET', '/personalcloud/db', { port: second.port })).body.unreadable, 1);
  await stop(second);
});

test('SIGTERM: what was begun is finished, then it exits with 0', async () => {
  const own = await start(join(folder, 'term'));
  await ask('PUT', '/personalcloud/db', { port: own.port });
  const request = http.request({ port: own.port, host: '127.0.0.1', method: 'PUT', path: '/personalcloud/db/slow', agent: false });
  request.write('{"text":');
  await new Promise((done) => setTimeout(done, 200));
  own.child.kill('SIGTERM');
  await new Promise((done) => setTimeout(done, 200));
  request.end('"late"}');
  const [response] = await once(request, 'response');
  response.resume();
  assert.equal(response.statusCode, 201);
  assert.equal((await once(own.child, 'exit'))[0], 0);
});

test('without a place for data it says so', async () => {
  const child = spawn(process.execPath, [SERVER], { env: {}, stdio: ['ignore', 'ignore', 'pipe'] });
  let text = '';
  child.stderr.on('data', (chunk) => (text += chunk));
  assert.equal((await once(child, 'exit'))[0], 1);
  assert.match(text, /set TARGET_DISK=true, or DATA_FOLDER/);
});

function connect(path, headers) {
  return new Promise((resolve, reject) => {
    const request = http.request({ port: vm.port, host: '127.0.0.1', path, headers, agent: false });
    request.on('upgrade', (response, socket) => resolve({ response, socket }));
    request.on('response', (response) => resolve({ response }));
    request.on('error', reject);
    request.end();
  });
}

function masked(opcode, text) {
  const mask = randomBytes(4);
  const payload = Buffer.from(text).map((byte, i) => byte ^ mask[i & 3]);
  const size = payload.length > 125 ? Buffer.from([0xfe, payload.length >> 8, payload.length & 255]) : Buffer.from([0x80 | payload.length]);
  return Buffer.concat([Buffer.from([0x80 | opcode]), size, mask, payload]);
}

async function readBytes(socket, size) {
  let data = Buffer.alloc(0);
  while (data.length < size) {
    const chunk = socket.read();
    if (chunk === null) await once(socket, 'readable');
    else data = Buffer.concat([data, chunk]);
  }
  return data;
}

const HELLO = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==', 'sec-websocket-version': '13' };

test('a WebSocket sends back what it gets', async () => {
  const { response, socket } = await connect('/personalcloud/_echo', HELLO);
  assert.equal(response.statusCode, 101);
  assert.equal(response.headers['sec-websocket-accept'], 's3pPLMBiTxaQ9kYGzzhZRbK+xOo='); // RFC 6455, 1.3
  socket.write(Buffer.concat([masked(1, 'hello'), masked(9, 'p')]));
  assert.deepEqual(await readBytes(socket, 10), Buffer.from([0x81, 5, ...Buffer.from('hello'), 0x8a, 1, 0x70]));
  const long = 'x'.repeat(300);
  socket.write(masked(2, long));
  assert.equal((await readBytes(socket, 304)).subarray(4).toString(), long);
  socket.write(masked(8, '\x03\xe8'));
  assert.equal((await readBytes(socket, 2))[0], 0x88);
});

test('a WebSocket refuses frames that are none, and other places', async () => {
  const { socket } = await connect('/personalcloud/_echo', HELLO);
  socket.write(Buffer.from([0x81, 1, 0x61]));
  assert.deepEqual(await readBytes(socket, 4), Buffer.from([0x88, 2, 0x03, 0xea]));
  assert.equal((await connect('/personalcloud/notes', HELLO)).response.statusCode, 404);
  assert.equal((await connect('/personalcloud/_echo', { connection: 'Upgrade', upgrade: 'h2c' })).response.statusCode, 400);
});

test('who asks for an upgrade and is gone before the answer ends nothing', async () => {
  vm.child.kill('SIGSTOP'); // so that all are gone before it answers the first
  for (const path of ['/personalcloud/_echo', '/personalcloud/notes']) {
    const socket = connectTo(vm.port, '127.0.0.1');
    await once(socket, 'connect');
    socket.write(`GET ${path} HTTP/1.1\r\nHost: vm\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n`);
    socket.resetAndDestroy();
    await once(socket, 'close');
  }
  vm.child.kill('SIGCONT');
  assert.equal((await ask('GET', '/personalcloud/')).status, 200);
  await new Promise((done) => setTimeout(done, 200));
  assert.equal(vm.child.exitCode, null);
});

test('who reads nothing from a WebSocket can send no more', async () => {
  const { socket } = await connect('/personalcloud/_echo', HELLO);
  const message = masked(2, Buffer.alloc(60_000));
  const most = 1000; // 60 MB: more than sockets' buffers are
  let sent = 0;
  let stands = false;
  try {
    socket.pause();
    while (sent < most && !stands) {
      sent++;
      if (!socket.write(message)) stands = !(await Promise.race([once(socket, 'drain'), new Promise((done) => setTimeout(done, 2000))]));
    }
    assert.ok(sent < most, `the VM took ${sent} messages`);
    await readBytes(socket, sent * (60_000 + 4)); // all that was sent comes back
  } finally {
    socket.destroy();
  }
});
