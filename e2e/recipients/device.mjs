// SPDX-License-Identifier: Apache-2.0
// device.mjs: a user's device that knows nothing of Coffer's code: real WebCrypto for RSA-OAEP, and RFC 9180 (base mode,
// X25519, HKDF-SHA256, AES-256-GCM) from Node's own primitives.
//
//   device.mjs make HASH PRIVATE PUBLIC           a key pair by WebCrypto: PKCS#8 and SubjectPublicKeyInfo, in PEM
//   device.mjs open ALGORITHM PRIVATE [INFO]      standard input: what was wrapped; standard output: the storage key.
//                                                 INFO: HPKE's, in hex. Exit code 3: it doesn't open.
import { createDecipheriv, createHmac, createPrivateKey, createPublicKey, diffieHellman, webcrypto } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';

const subtle = webcrypto.subtle;
const RSA = { name: 'RSA-OAEP', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) };

function pem(label, bytes) {
    const lines = Buffer.from(bytes).toString('base64').match(/.{1,64}/g).join('\n');
    return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}

function der(file) {
    return Buffer.from(readFileSync(file, 'ascii').replace(/-----[A-Z ]+-----/g, ''), 'base64');
}

async function make(hash, privatePath, publicPath) {
    const pair = await subtle.generateKey({ ...RSA, hash }, true, ['encrypt', 'decrypt']);
    writeFileSync(privatePath, pem('PRIVATE KEY', await subtle.exportKey('pkcs8', pair.privateKey)), { mode: 0o600 });
    writeFileSync(publicPath, pem('PUBLIC KEY', await subtle.exportKey('spki', pair.publicKey)));
}

async function openRsa(hash, file, wrapped) {
    const key = await subtle.importKey('pkcs8', der(file), { name: 'RSA-OAEP', hash }, false, ['decrypt']);
    return Buffer.from(await subtle.decrypt({ name: 'RSA-OAEP' }, key, wrapped));
}

// ---- RFC 9180 ----

const be16 = (n) => Buffer.from([n >> 8, n & 255]);
const hmac = (key, data) => createHmac('sha256', key).update(data).digest();

function expand(prk, info, length) {
    let block = Buffer.alloc(0);
    let out = Buffer.alloc(0);
    for (let i = 1; out.length < length; i++) {
        block = hmac(prk, Buffer.concat([block, info, Buffer.from([i])]));
        out = Buffer.concat([out, block]);
    }
    return out.subarray(0, length);
}

function labeled(suite) {
    const tag = (label) => [Buffer.from('HPKE-v1'), suite, Buffer.from(label)];
    return {
        extract: (salt, label, ikm) => hmac(salt, Buffer.concat([...tag(label), ikm])),
        expand: (prk, label, info, n) => expand(prk, Buffer.concat([be16(n), ...tag(label), info]), n),
    };
}

function openHpke(file, wrapped, info) {
    const own = createPrivateKey(readFileSync(file));
    const spki = Buffer.from('302a300506032b656e032100', 'hex');
    const enc = wrapped.subarray(0, 32);
    const theirs = createPublicKey({ key: Buffer.concat([spki, enc]), format: 'der', type: 'spki' });
    const mine = createPublicKey(own).export({ format: 'der', type: 'spki' }).subarray(12);
    const kem = labeled(Buffer.concat([Buffer.from('KEM'), be16(0x20)]));
    const none = Buffer.alloc(0);
    const eae = kem.extract(none, 'eae_prk', diffieHellman({ privateKey: own, publicKey: theirs }));
    const shared = kem.expand(eae, 'shared_secret', Buffer.concat([enc, mine]), 32);
    const hpke = labeled(Buffer.concat([Buffer.from('HPKE'), be16(0x20), be16(1), be16(2)]));
    const context = Buffer.concat([Buffer.from([0]), hpke.extract(none, 'psk_id_hash', none), hpke.extract(none, 'info_hash', info)]);
    const secret = hpke.extract(shared, 'secret', none);
    const decipher = createDecipheriv('aes-256-gcm', hpke.expand(secret, 'key', context, 32),
        hpke.expand(secret, 'base_nonce', context, 12));
    decipher.setAuthTag(wrapped.subarray(-16));
    return Buffer.concat([decipher.update(wrapped.subarray(32, -16)), decipher.final()]);
}

const openers = {
    'RSA-OAEP-256': (file, wrapped) => openRsa('SHA-256', file, wrapped),
    'RSA-OAEP-512': (file, wrapped) => openRsa('SHA-512', file, wrapped),
    'HPKE-Base-X25519-SHA256-A256GCM': (file, wrapped, info) => openHpke(file, wrapped, Buffer.from(info, 'hex')),
};

const [verb, ...args] = process.argv.slice(2);
if (verb === 'make') {
    await make(...args);
} else {
    const [algorithm, file, info] = args;
    try {
        process.stdout.write(await openers[algorithm](file, readFileSync(0), info));
    } catch (e) {
        process.stderr.write(`it doesn't open: ${e.message}\n`);
        process.exit(3);
    }
}
