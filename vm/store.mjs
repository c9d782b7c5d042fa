// SPDX-License-Identifier: Apache-2.0
// Databases of JSON documents on a disk: one folder for each database, one file for each document. What a call has answered
// is on the disk: a file is written beside its place, synced, renamed over it, and its folder is synced. A process that is
// killed on any line leaves each document either as it was or as it became. Only which documents there are, and their
// revisions, is kept in memory.
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, unlink } from 'node:fs/promises';
import { join } from 'node:path';

export const LIMITS = { databaseName: 128, documentId: 512, databases: 1000 };
const DATABASE_NAME = /^[a-z][a-z0-9_$()+-]*$/;

// An answer that isn't the one that was hoped for, in CouchDB's words.
export class Refusal extends Error {
  constructor(status, error, reason) {
    super(reason);
    this.status = status;
    this.error = error;
  }
}

const missing = (reason) => new Refusal(404, 'not_found', reason);
const conflict = () => new Refusal(409, 'conflict', 'Document update conflict.');
const fileName = (id) => createHash('sha256').update(id).digest('hex') + '.json';

// "3-<32 hex>": the generation, and what follows from all that the revision is.
function nextRevision(before, content, deleted) {
  const generation = before === undefined ? 1 : Number.parseInt(before, 10) + 1;
  const hash = createHash('sha256').update(JSON.stringify([before ?? null, content, deleted]));
  return `${generation}-${hash.digest('hex').slice(0, 32)}`;
}

async function syncFolder(path) {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeDurably(folder, name, text) {
  const hidden = join(folder, `${name}.tmp`);
  const handle = await open(hidden, 'w', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(hidden, join(folder, name));
  await syncFolder(folder);
}

class Database {
  constructor(name, folder) {
    this.name = name;
    this.folder = folder;
    this.documents = new Map(); // id -> {rev, deleted}
    this.unreadable = new Set(); // names of files that are no document: never taken for "not there"
    this.last = Promise.resolve(); // changes are made one after the other
    this.deleted = false; // who holds it still must not write: its folder's name may be another's by now
  }

  async load() {
    for (const name of await readdir(this.folder)) {
      if (name.endsWith('.tmp')) await unlink(join(this.folder, name));
      else await this.#loadFile(name);
    }
  }

  async #loadFile(name) {
    try {
      const { _id: id, _rev: rev, _deleted: deleted } = JSON.parse(await readFile(join(this.folder, name), 'utf8'));
      if (typeof id !== 'string' || typeof rev !== 'string' || fileName(id) !== name) throw new SyntaxError('no document');
      this.documents.set(id, { rev, deleted: deleted === true });
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      this.unreadable.add(name);
    }
  }

  info() {
    const deleted = [...this.documents.values()].filter((entry) => entry.deleted).length;
    return { db_name: this.name, doc_count: this.documents.size - deleted, doc_del_count: deleted, unreadable: this.unreadable.size };
  }

  #known(id) {
    if (this.unreadable.has(fileName(id))) throw new Refusal(500, 'unreadable', 'The file of this document is damaged.');
    return this.documents.get(id);
  }

  async get(id) {
    const entry = this.#known(id);
    if (entry === undefined) throw missing('missing');
    if (entry.deleted) throw missing('deleted');
    return JSON.parse(await readFile(join(this.folder, fileName(id)), 'utf8'));
  }

  // content: null deletes. rev: the one that the caller knows.
  put(id, content, rev) {
    return this.#inTurn(async () => {
      if (this.deleted) throw missing('Database does not exist.');
      const entry = this.#known(id);
      const live = entry !== undefined && !entry.deleted;
      if (content === null && entry === undefined) throw missing('missing');
      if (content === null && !live) throw missing('deleted');
      if (live ? rev !== entry.rev : rev !== undefined && rev !== entry?.rev) throw conflict();
      const deleted = content === null;
      const next = nextRevision(entry?.rev, content, deleted);
      const text = JSON.stringify({ ...content, _id: id, _rev: next, ...(deleted && { _deleted: true }) });
      await writeDurably(this.folder, fileName(id), text);
      this.documents.set(id, { rev: next, deleted });
      return { ok: true, id, rev: next };
    });
  }

  #inTurn(work) {
    const done = this.last.then(work);
    this.last = done.catch(() => undefined);
    return done;
  }

  // In the order of their ids, as UTF-16 has it.
  async all({ includeDocuments = false, limit = Infinity, skip = 0 } = {}) {
    const ids = [...this.documents].filter(([, entry]) => !entry.deleted).map(([id]) => id).sort();
    const rows = [];
    for (const id of ids.slice(skip, skip + limit)) {
      const row = { id, key: id, value: { rev: this.documents.get(id).rev } };
      if (includeDocuments) row.doc = await this.get(id);
      rows.push(row);
    }
    return { total_rows: ids.length, offset: skip, rows };
  }
}

export class Store {
  #databases = new Map();
  #last = Promise.resolve();

  constructor(folder) {
    this.folder = folder;
  }

  // A folder that begins with a dot was a database that is being deleted.
  static async open(folder) {
    const store = new Store(folder);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    for (const name of await readdir(folder)) {
      if (name.startsWith('.')) await rm(join(folder, name), { recursive: true });
      else await store.#load(name);
    }
    return store;
  }

  async #load(name) {
    const database = new Database(name, join(this.folder, name));
    await database.load();
    this.#databases.set(name, database);
  }

  names() {
    return [...this.#databases.keys()].sort();
  }

  database(name) {
    const database = this.#databases.get(name);
    if (database === undefined) throw missing('Database does not exist.');
    return database;
  }

  create(name) {
    if (!DATABASE_NAME.test(name) || name.length > LIMITS.databaseName)
      throw new Refusal(400, 'illegal_database_name', 'A name begins with a lower-case letter, and has letters, digits and _$()+- alone.');
    return this.#inTurn(async () => {
      if (this.#databases.has(name)) throw new Refusal(412, 'file_exists', 'The database could not be created, the file already exists.');
      if (this.#databases.size >= LIMITS.databases) throw new Refusal(507, 'too_many_databases', `There are ${LIMITS.databases} databases.`);
      await mkdir(join(this.folder, name), { recursive: true, mode: 0o700 });
      await syncFolder(this.folder);
      await this.#load(name);
      return { ok: true };
    });
  }

  delete(name) {
    return this.#inTurn(async () => {
      const database = this.database(name);
      const gone = join(this.folder, `.${randomBytes(8).toString('hex')}`);
      this.#databases.delete(name);
      database.deleted = true;
      await database.last;
      await rename(database.folder, gone);
      await syncFolder(this.folder);
      await rm(gone, { recursive: true });
      return { ok: true };
    });
  }

  #inTurn(work) {
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined);
    return done;
  }

  // After it nothing is being written.
  async settle() {
    await this.#last;
    await Promise.all([...this.#databases.values()].map((database) => database.last));
    await syncFolder(this.folder);
  }
}
