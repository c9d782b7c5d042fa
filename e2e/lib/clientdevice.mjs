// SPDX-License-Identifier: Apache-2.0
// A user's device by WebCrypto (docs/client-keys.md): one question as JSON on stdin, one answer on stdout.
import { webcrypto } from 'node:crypto';

const { subtle } = webcrypto;
const text = (s) => new TextEncoder().encode(s);
const base64 = (bytes) => Buffer.from(bytes).toString('base64');
const bytes = (s) => new Uint8Array(Buffer.from(s, 'base64'));
const hex = (buffer) => Buffer.from(buffer).toString('hex');
const sha256 = (data) => subtle.digest('SHA-256', data);
const RSA = { name: 'RSA-OAEP', hash: 'SHA-256' };

function join(...parts) {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) { all.set(p, at); at += p.length; }
  return all;
}

// Each element as its length in 4 bytes, big-endian, and its bytes.
function lengthPrefixed(...elements) {
  return join(...elements.flatMap((e) => {
    const n = new Uint8Array(4);
    new DataView(n.buffer).setUint32(0, e.length);
    return [n, e];
  }));
}

function expiryBytes(seconds) {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, BigInt(seconds));
  return out;
}

async function commitment(key, uuid) {
  const hmac = await subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  return hex(await subtle.sign('HMAC', hmac, text('coffer/v1 commit' + uuid)));
}

async function seal(spki, data, hash = 'SHA-256') {
  const to = await subtle.importKey('spki', spki, { name: 'RSA-OAEP', hash }, false, ['encrypt']);
  return base64(await subtle.encrypt({ name: 'RSA-OAEP' }, to, data));
}

async function open(privateJwk, wrapped) {
  const own = await subtle.importKey('jwk', privateJwk, RSA, false, ['decrypt']);
  return new Uint8Array(await subtle.decrypt({ name: 'RSA-OAEP' }, own, bytes(wrapped)));
}

async function lend(q, key) {
  const magic = text('coffer/v1c');
  const expiry = expiryBytes(q.expiry);
  const binding = new Uint8Array(await sha256(
    lengthPrefixed(magic, text(q.volumeId), text(q.uuid), text(q.fingerprint), expiry)));
  const frame = join(magic, key, binding, expiry);
  return { session: await seal(bytes(q.serverPublicKey), frame, q.serverHash), serverKey: q.serverKey, fingerprint: q.fingerprint };
}

const does = {
  async key() {
    const pair = await subtle.generateKey(
      { ...RSA, modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) }, true, ['encrypt', 'decrypt']);
    const spki = await subtle.exportKey('spki', pair.publicKey);
    return { private: await subtle.exportKey('jwk', pair.privateKey), publicKey: base64(spki), fingerprint: hex(await sha256(spki)) };
  },
  async create(q) {
    const uuid = webcrypto.randomUUID();
    const key = webcrypto.getRandomValues(new Uint8Array(32));
    return { uuid, commitment: await commitment(key, uuid), publicKey: q.publicKey, algorithm: 'RSA-OAEP-256',
      wrapped: await seal(bytes(q.publicKey), key), label: q.label };
  },
  async 'key of'(q) {
    return { key: base64(await open(q.private, q.wrapped)) };
  },
  async session(q) {
    return lend(q, await open(q.private, q.wrapped));
  },
  async 'wrap for'(q) {
    return { wrapped: await seal(bytes(q.publicKey), await open(q.private, q.wrapped)) };
  },
  async 'new key'(q) {
    const key = webcrypto.getRandomValues(new Uint8Array(32));
    const forms = await Promise.all(q.publicKeys.map(async (k) => (
      { fingerprint: hex(await sha256(bytes(k))), wrapped: await seal(bytes(k), key) })));
    return { ...await lend(q, key), commitment: await commitment(key, q.uuid), recipients: JSON.stringify(forms) };
  },
};

let input = '';
for await (const chunk of process.stdin) input += chunk;
const question = JSON.parse(input);
process.stdout.write(JSON.stringify(await does[question.do](question)));
