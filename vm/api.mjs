// SPDX-License-Identifier: Apache-2.0
// The store over HTTP, as CouchDB has it: README.md says which part of it.
import { randomUUID } from 'node:crypto';

import { PAGE } from './page.mjs';
import { LIMITS, Refusal } from './store.mjs';

export const ROOT = '/personalcloud';
const BODY_MAX = 1 << 20;

const HEADERS = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  // no cookie and no password means anything here: a page of any origin may ask what anybody may ask
  'access-control-allow-origin': '*',
};
const PREFLIGHT = {
  'access-control-allow-methods': 'GET, HEAD, PUT, POST, DELETE',
  'access-control-allow-headers': 'content-type, if-match',
  'access-control-max-age': '600',
};

async function readBody(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > BODY_MAX) throw new Refusal(413, 'too_large', `A document has at most ${BODY_MAX} bytes.`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function readDocument(request) {
  let value;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(await readBody(request)));
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(400, 'bad_request', 'The body is no JSON.');
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw new Refusal(400, 'bad_request', 'Document must be a JSON object.');
  const { _id: id, _rev: rev, ...content } = value;
  const own = Object.keys(content).find((name) => name.startsWith('_'));
  if (own !== undefined) throw new Refusal(400, 'doc_validation', `Bad special document member: ${own}.`);
  if (rev !== undefined && typeof rev !== 'string') throw new Refusal(400, 'bad_request', 'Invalid rev format.');
  return { id, rev, content };
}

function checkId(id) {
  if (typeof id !== 'string' || id === '' || Buffer.byteLength(id) > LIMITS.documentId || id.startsWith('_'))
    throw new Refusal(400, 'illegal_docid', `A document's id has 1 to ${LIMITS.documentId} bytes and does not begin with an underscore.`);
  return id;
}

function revisionOf(request, url, inBody) {
  const header = request.headers['if-match']?.replace(/^"(.*)"$/, '$1');
  const known = [url.searchParams.get('rev') ?? undefined, header, inBody].filter((rev) => rev !== undefined);
  if (new Set(known).size > 1) throw new Refusal(400, 'bad_request', 'Document rev from request body and query string have different values.');
  return known[0];
}

function count(url, name) {
  const text = url.searchParams.get(name);
  if (text === null) return undefined;
  if (!/^[0-9]{1,9}$/.test(text)) throw new Refusal(400, 'query_parse_error', `Invalid value for ${name}.`);
  return Number(text);
}

// ---- routes: a function for each method; each answers [status, value, headers?] ----

const root = {
  GET: () => [200, { couchdb: 'Welcome', vendor: { name: 'Coffer sample VM' }, version: '1.0.0' }],
};

const allDatabases = {
  GET: ({ store }) => [200, store.names()],
};

const database = {
  GET: ({ store, path }) => [200, store.database(path[0]).info()],
  PUT: async ({ store, path }) => [201, await store.create(path[0])],
  DELETE: async ({ store, path }) => [200, await store.delete(path[0])],
  POST: async ({ store, path, request }) => {
    const there = store.database(path[0]);
    const { id = randomUUID(), rev, content } = await readDocument(request);
    return [201, await there.put(checkId(id), content, rev)];
  },
};

const allDocuments = {
  GET: async ({ store, path, url }) => [
    200,
    await store.database(path[0]).all({
      includeDocuments: url.searchParams.get('include_docs') === 'true',
      limit: count(url, 'limit'),
      skip: count(url, 'skip'),
    }),
  ],
};

const document = {
  GET: async ({ store, path }) => {
    const value = await store.database(path[0]).get(checkId(path[1]));
    return [200, value, { etag: `"${value._rev}"` }];
  },
  PUT: async ({ store, path, url, request }) => {
    const there = store.database(path[0]);
    const { id, rev, content } = await readDocument(request);
    if (id !== undefined && id !== path[1]) throw new Refusal(400, 'bad_request', 'Document ID must match the one of the path.');
    return [201, await there.put(checkId(path[1]), content, revisionOf(request, url, rev))];
  },
  DELETE: async ({ store, path, url, request }) => [
    200,
    await store.database(path[0]).put(checkId(path[1]), null, revisionOf(request, url, undefined)),
  ],
};

function route(path) {
  if (path.length === 0) return root;
  if (path.length === 1 && path[0] === '_all_dbs') return allDatabases;
  if (path.length === 1) return database;
  if (path.length === 2 && path[1] === '_all_docs') return allDocuments;
  if (path.length === 2) return document;
  throw new Refusal(404, 'not_found', 'missing');
}

// "/personalcloud/db/a%2Fb" -> ["db", "a/b"]; null: not below ROOT.
function split(pathname) {
  if (pathname !== ROOT && !pathname.startsWith(ROOT + '/')) return null;
  try {
    return pathname.slice(ROOT.length).split('/').filter((part) => part !== '').map(decodeURIComponent);
  } catch {
    throw new Refusal(400, 'bad_request', 'The path is no percent-encoded UTF-8.');
  }
}

async function answer(store, request, pathname) {
  const url = new URL(request.url, 'http://vm');
  const path = split(pathname);
  if (path === null) throw new Refusal(404, 'not_found', 'missing');
  if (request.method === 'OPTIONS') return [204, undefined, PREFLIGHT];
  const methods = route(path);
  const method = request.method === 'HEAD' ? 'GET' : request.method;
  if (!Object.hasOwn(methods, method))
    return [405, { error: 'method_not_allowed', reason: `Only ${Object.keys(methods).join(', ')} allowed` }, { allow: Object.keys(methods).join(', ') }];
  return methods[method]({ store, path, url, request });
}

function send(request, response, status, value, headers = {}) {
  const text = value === undefined ? '' : JSON.stringify(value) + '\n';
  const type = value === undefined ? {} : { 'content-type': 'application/json' };
  // a body that wasn't read would be taken for the next request
  const close = request.complete ? {} : { connection: 'close' };
  response.writeHead(status, { ...HEADERS, ...type, 'content-length': Buffer.byteLength(text), ...headers, ...close });
  response.end(request.method === 'HEAD' ? undefined : text);
}

function sendPage(request, response) {
  response.writeHead(200, { ...HEADERS, 'content-type': 'text/html; charset=utf-8', 'content-length': Buffer.byteLength(PAGE) });
  response.end(request.method === 'HEAD' ? undefined : PAGE);
}

// pathname: the request's, without the prefix that a proxy has left.
export async function handle(store, request, response, pathname) {
  try {
    if (pathname === '/' && ['GET', 'HEAD'].includes(request.method)) return sendPage(request, response);
    const [status, value, headers] = await answer(store, request, pathname);
    send(request, response, status, value, headers);
  } catch (error) {
    if (response.headersSent) return response.destroy();
    const refusal = error instanceof Refusal ? error : failure(error);
    send(request, response, refusal.status, { error: refusal.error, reason: refusal.message });
  }
}

function failure(error) {
  if (error.code === 'ENOSPC' || error.code === 'EDQUOT') return new Refusal(507, 'no_space', 'The disk is full.');
  return new Refusal(500, 'internal_server_error', error.code ?? error.name);
}
