// SPDX-License-Identifier: Apache-2.0
// One device by web/coffer.mjs as a page has it, for tests: questions as lines of JSON on stdin, answers on stdout.
// argv: the server's address. Its key pair lives as long as this process.
import { webcrypto } from 'node:crypto';
import { createInterface } from 'node:readline';

globalThis.crypto ??= webcrypto; // a browser's; Node.js has it from version 19 on
const coffer = await import('../../web/coffer.mjs');

const pair = await coffer.newKeyPair();
const device = await coffer.deviceOf(pair);
const api = new coffer.Api(device, process.argv[2]);
const told = [];
const tell = (found) => { told.push(found.status); };

const does = {
  async names() {
    const kept = await crypto.subtle.exportKey('pkcs8', pair.privateKey).then(() => 'extractable', (e) => e.name);
    return { name: device.name, fingerprint: device.fingerprint, publicKey: device.publicKey, kept };
  },
  describe: (q) => coffer.describe(q.publicKey),
  commitment: async (q) => ({ commitment: await coffer.commitment(coffer.bytes(q.key), q.uuid) }),
  find: () => api.find(),
  async create(q) {
    told.length = 0;
    const made = await api.create(await api.find(), q.label, tell);
    return { ...made, told };
  },
  unlock: async () => api.unlock(await api.find(), tell),
  lock: () => api.lock(tell),
  remove: () => api.remove(tell),
  devices: () => api.devices(),
  'add device': (q) => api.addDevice(q.publicKey, q.label),
  'remove device': async (q) => api.removeDevice(await api.devices(), q.name),
};

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  const answer = await does[question.do](question).catch((e) => ({ error: e.message, code: e.code, status: e.status }));
  process.stdout.write(JSON.stringify(answer) + '\n');
}
