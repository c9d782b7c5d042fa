// SPDX-License-Identifier: Apache-2.0
// A user's device by WebCrypto, and coffer-scheduler's API as it uses it (docs/client-keys.md, docs/scheduler.md). No page in here.
// The storage key lives inside one function's call at a time, and is overwritten at its end.

const { subtle } = globalThis.crypto;
export const ALGORITHM = 'RSA-OAEP-256';
const HASHES = ['SHA-256', 'SHA-512'];
const SESSION_SECONDS = 300;

export const text = (s) => new TextEncoder().encode(s);
export const hex = (buffer) => [...new Uint8Array(buffer)].map((b) => b.toString(16).padStart(2, '0')).join('');
export const base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
export const bytes = (s) => Uint8Array.from(atob(s), (c) => c.charCodeAt(0));
const join = (...parts) => Uint8Array.from(parts.flatMap((p) => [...p]));
const sha256 = (data) => subtle.digest('SHA-256', data);

function number(n, size) { // big-endian
  const out = new Uint8Array(size);
  for (let i = size - 1; i >= 0; i--, n = Math.floor(n / 256)) out[i] = n % 256;
  return out;
}

const prefixed = (...elements) => join(...elements.flatMap((e) => [number(e.length, 4), e]));

// ---- the device

export function newKeyPair() { // the private half can't be read, not even by the page
  return subtle.generateKey({ name: 'RSA-OAEP', hash: 'SHA-256', modulusLength: 3072, publicExponent: new Uint8Array([1, 0, 1]) },
    false, ['encrypt', 'decrypt']);
}

async function importPublic(publicKey, hash) {
  return subtle.importKey('spki', bytes(publicKey), { name: 'RSA-OAEP', hash }, true, ['encrypt']);
}

// What a public key is known by: name (in URLs), fingerprint (in sessions). Takes base64 or PEM.
export async function describe(publicKey) {
  const plain = publicKey.replace(/-----(BEGIN|END) PUBLIC KEY-----/g, '').replace(/\s+/g, '');
  let key;
  try {
    key = await importPublic(plain, 'SHA-256');
  } catch {
    throw new Error('This is not the public key of a device.');
  }
  const jwk = await subtle.exportKey('jwk', key);
  return { publicKey: plain, name: hex(await sha256(text(jwk.n))), fingerprint: hex(await sha256(bytes(plain))) };
}

// pair: of newKeyPair. A device is {pair, publicKey, name, fingerprint}.
export async function deviceOf(pair) {
  return { pair, ...await describe(base64(await subtle.exportKey('spki', pair.publicKey))) };
}

// ---- keys

async function encryptFor(publicKey, data, hash = 'SHA-256') {
  return base64(await subtle.encrypt({ name: 'RSA-OAEP' }, await importPublic(publicKey, hash), data));
}

async function unwrap(device, wrapped) {
  try {
    return new Uint8Array(await subtle.decrypt({ name: 'RSA-OAEP' }, device.pair.privateKey, bytes(wrapped)));
  } catch {
    throw new Error('This device cannot open what was encrypted for it: it was meant for another device, or was changed.');
  }
}

export async function commitment(key, uuid) {
  const hmac = await subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  return hex(await subtle.sign('HMAC', hmac, text('coffer/v1 commit' + uuid)));
}

// to: {volumeId, uuid, serverKey}
export async function lend(device, key, to, now = Date.now()) {
  if (!HASHES.includes(to.serverKey.hash)) throw new Error('The server’s key is for an unknown hash.');
  const magic = text('coffer/v1c');
  const expiry = number(Math.floor(now / 1000) + SESSION_SECONDS, 8);
  const binding = await sha256(prefixed(magic, text(to.volumeId), text(to.uuid), text(device.fingerprint), expiry));
  const frame = join(magic, key, new Uint8Array(binding), expiry);
  try {
    return await encryptFor(to.serverKey.publicKey, frame, to.serverKey.hash);
  } finally {
    frame.fill(0);
  }
}

async function withKey(key, use) {
  try {
    return await use(key);
  } finally {
    key.fill(0);
  }
}

const newKey = () => globalThis.crypto.getRandomValues(new Uint8Array(32));

async function ownKey(device, own) {
  if (own.algorithm !== ALGORITHM) throw new Error('The volume’s key was wrapped for this device in a way it does not know.');
  return unwrap(device, own.wrappedKey);
}

// ---- bodies of requests. found: an answer of find; own: one with wrappedKey, uuid, volumeId, serverKey

export async function deployBody(device, found, label) {
  const uuid = globalThis.crypto.randomUUID();
  return withKey(newKey(), async (key) => ({
    publicKey: device.publicKey, algorithm: ALGORITHM, uuid, commitment: await commitment(key, uuid),
    wrappedKey: await encryptFor(device.publicKey, key), ...(label ? { label } : {}),
    ...(found.volumeId ? { volumeId: found.volumeId, serverKey: found.serverKey.keyId,
      session: await lend(device, key, { ...found, uuid }) } : {}),
  }));
}

export async function sessionBody(device, own) {
  return withKey(await ownKey(device, own), async (key) => ({ session: await lend(device, key, own), serverKey: own.serverKey.keyId }));
}

export async function addBody(device, own, publicKey, label) {
  const other = await describe(publicKey);
  return withKey(await ownKey(device, own), async (key) => ({
    publicKey: other.publicKey, algorithm: ALGORITHM, wrappedKey: await encryptFor(other.publicKey, key), ...(label ? { label } : {}),
    session: await lend(device, key, own), serverKey: own.serverKey.keyId,
  }));
}

// A new key for all on own.devices but the one of that name.
export async function removeBody(device, own, name) {
  const stay = own.devices.filter((d) => d.name !== name);
  if (name === device.name) throw new Error('A device cannot remove itself: another one must.');
  if (!stay.some((d) => d.name === device.name)) throw new Error('This device is not on the server’s list.');
  return withKey(newKey(), async (key) => ({
    name, ...await sessionBody(device, own), newSession: await lend(device, key, own), newServerKey: own.serverKey.keyId,
    newCommitment: await commitment(key, own.uuid),
    newRecipients: await Promise.all(stay.map(async (d) => {
      const { fingerprint, publicKey, name: real } = await describe(d.publicKey);
      if (real !== d.name) throw new Error('The server’s list has a device whose name is not its key’s.');
      return { fingerprint, wrapped: await encryptFor(publicKey, key, d.algorithm === 'RSA-OAEP-512' ? 'SHA-512' : 'SHA-256') };
    })),
  }));
}

// ---- the API

// Header Coffer-Proof of one request: the challenge's secret, which only this device can open, signs it.
export async function proof(device, challenge, method, path, body) {
  const secret = await unwrap(device, challenge.secret);
  const hmac = await subtle.importKey('raw', secret, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  const digest = hex(await sha256(text(body)));
  return `${challenge.challenge} ${hex(await subtle.sign('HMAC', hmac, text(`coffer/v1 proof\n${method}\n${path}\n${digest}\n`)))}`;
}

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

export class Api {
  // base: '' for the page's own origin. ask: fetch, or what a test gives.
  constructor(device, base = '', ask = (...a) => fetch(...a)) {
    Object.assign(this, { device, base, ask, path: `/v1/clouds/${device.name}` });
  }

  async request(method, path, body, headers = {}) {
    const answer = await this.ask(this.base + path, { method, credentials: 'omit', cache: 'no-store', redirect: 'error',
      headers: { ...headers, ...(body ? { 'Content-Type': 'application/json' } : {}) }, ...(body ? { body } : {}) });
    const said = await answer.json().catch(() => null);
    if (said && (answer.ok || (answer.status === 404 && said.status === 'nonexistent'))) return said;
    throw new ApiError(answer.status, said?.error?.code ?? '', said?.error?.message ?? `The server answered ${answer.status}.`);
  }

  find() {
    return this.request('GET', this.path);
  }

  // With this device's proof, for one request.
  async call(method, path, body) {
    const whole = this.path + path, sent = body === undefined ? '' : JSON.stringify(body);
    const challenge = await this.request('POST', '/v1/challenges',
      JSON.stringify({ publicKey: this.device.publicKey, algorithm: ALGORITHM }));
    return this.request(method, whole, sent, { 'Coffer-Proof': await proof(this.device, challenge, method, whole, sent) });
  }

  // What a session needs: in find's answer when the volume is closed, else in the list of devices.
  async own(found) {
    return found.wrappedKey ? found : this.call('POST', '/recipients/list', {});
  }

  // When no operation runs any more. tell: gets each answer.
  async settled(tell = () => {}) {
    for (let ms = 250; ; ms = Math.min(2 * ms, 2000)) {
      const found = await this.find();
      tell(found);
      if (found.status !== 'pending') return found;
      await pause(ms);
    }
  }

  async open(verb, found, tell) {
    await this.call('POST', `/${verb}`, await sessionBody(this.device, await this.own(found)));
    return this.settled(tell);
  }

  async create(found, label, tell) {
    await this.call('POST', '/deploy', await deployBody(this.device, found, label));
    const made = await this.settled(tell);
    return made.status === 'detached' ? this.open('mount', made, tell) : made; // the volume's id wasn't known before
  }

  unlock(found, tell) {
    return this.open('unlock', found, tell);
  }

  async lock(tell) {
    await this.call('POST', '/lock', {});
    return this.settled(tell);
  }

  async remove(tell) {
    await this.call('DELETE', '');
    return this.settled(tell);
  }

  devices() {
    return this.call('POST', '/recipients/list', {});
  }

  async addDevice(publicKey, label) {
    return this.call('POST', '/recipients', await addBody(this.device, await this.devices(), publicKey, label));
  }

  async removeDevice(own, name) {
    return this.call('POST', '/recipients/remove', await removeBody(this.device, own, name));
  }
}
