// SPDX-License-Identifier: Apache-2.0
// The page: what coffer.mjs does, by buttons. The device's key pair is in IndexedDB, not extractable.
import { Api, deviceOf, newKeyPair } from './coffer.mjs';

const at = (id) => document.getElementById(id);
const show = (id, visible) => { at(id).hidden = !visible; };
let api, found = {}, busy = false;

// ---- the key pair, once for each browser profile

const settle = (request) => new Promise((done, failed) => {
  request.onsuccess = () => done(request.result);
  request.onerror = () => failed(request.error);
});

async function keyPair() {
  const opening = indexedDB.open('coffer', 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore('device');
  const db = await settle(opening);
  const read = () => settle(db.transaction('device').objectStore('device').get('pair'));
  const there = await read();
  if (there) return there;
  const made = await newKeyPair();
  try { // add: of two windows, one wins
    await settle(db.transaction('device', 'readwrite').objectStore('device').add(made, 'pair'));
  } catch (e) {
    if (e.name !== 'ConstraintError') throw e;
  }
  await navigator.storage?.persist?.();
  return read();
}

// ---- what is shown

// Anybody who has this device's public key can put it on the list of a cloud of his.
const foreign = (f) => (api.device.name.startsWith(f.id ?? '') ? ''
  : ' Another device made it: if that one is not yours, this is not your cloud.');
const SAYS = {
  nonexistent: () => 'There is no cloud for this device yet.',
  attached: (f) => 'Unlocked: your cloud is running.' + foreign(f),
  detached: (f) => 'Locked: the volume is closed, and its key is on your devices alone.' + foreign(f),
  pending: (f) => `Working: ${f.operation} (${f.step})…`,
  failure: (f) => `It failed: ${f.reason}`,
};

// Only what can't run in this page's origin.
function link(url) {
  const to = URL.canParse(url ?? '') ? new URL(url) : null;
  const fine = to !== null && to.protocol === 'https:' && to.origin !== location.origin;
  if (fine) at('url').href = to.href; else at('url').removeAttribute('href');
  show('where', fine);
}

function forgetDevices() {
  show('devices', false);
  show('add', false);
  show('lonely', false);
}

function render(f) {
  found = f;
  const { status } = f, there = ['attached', 'detached', 'failure'].includes(status);
  document.body.dataset.status = status;
  at('status').textContent = (SAYS[status] ?? (() => `The server says ${status}.`))(f);
  link(status === 'attached' ? f.url : null);
  show('create', status === 'nonexistent' || (status === 'failure' && !f.uuid && Boolean(f.serverKey)));
  show('unlock', status === 'detached' || (status === 'failure' && Boolean(f.uuid || !f.serverKey)));
  show('lock', status === 'attached' || (status === 'failure' && !f.serverKey));
  show('delete', there);
  show('list', there);
  if (!there) forgetDevices();
}

function row(own, device) {
  const tr = document.createElement('tr'), cells = [0, 1, 2].map(() => tr.insertCell());
  const mine = device.name === api.device.name;
  cells[0].textContent = (device.label || '–') + (mine ? ' (this device)' : '');
  const code = document.createElement('code');
  code.textContent = device.name;
  cells[1].append(code);
  if (!mine) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'danger';
    button.textContent = 'Remove…';
    button.setAttribute('aria-label', `Remove ${device.label || device.name}`);
    button.addEventListener('click', () => run(() => removeDevice(own, device)));
    cells[2].append(button);
  }
  return tr;
}

function renderDevices(own) {
  at('devices').tBodies[0].replaceChildren(...own.devices.map((d) => row(own, d)));
  show('devices', true);
  show('add', true);
  show('lonely', own.devices.length === 1);
}

// ---- what buttons do

async function ask(question) {
  at('question').textContent = question;
  at('ask').returnValue = 'no';
  at('ask').showModal();
  await new Promise((done) => { at('ask').addEventListener('close', done, { once: true }); });
  return at('ask').returnValue === 'yes';
}

async function removeDevice(own, device) {
  const stay = own.devices.filter((d) => d.name !== device.name).map((d) => d.label || d.name).join(', ');
  if (await ask(`Remove ${device.label || device.name}? A new key will be made for those that stay: ${stay}.`))
    renderDevices(await api.removeDevice(await api.devices(), device.name));
}

async function deleteCloud() {
  if (await ask('Delete your cloud and all data in it, for ever?')) render(await api.remove(render));
}

async function addDevice() {
  await api.addDevice(at('other').value, at('other-label').value.trim());
  at('add').reset();
  renderDevices(await api.devices());
}

const LABEL = `browser on ${navigator.platform || 'a device'}`.slice(0, 60);
const DOES = {
  create: async () => render(await api.create(found, LABEL, render)),
  unlock: async () => render(await api.unlock(found, render)),
  lock: async () => render(await api.lock(render)),
  delete: deleteCloud,
  list: async () => renderDevices(await api.devices()),
  again: async () => render(await api.settled(render)),
  copy: () => navigator.clipboard.writeText(at('public').value),
};

// One thing at a time; what goes wrong is said, and the state looked at again.
async function run(what) {
  if (busy) return;
  busy = true;
  document.body.setAttribute('aria-busy', 'true');
  show('problem', false);
  const buttons = [...document.querySelectorAll('main button')];
  for (const b of buttons) b.disabled = true;
  try {
    await what();
  } catch (e) {
    at('problem').textContent = e.message;
    show('problem', true);
    await api?.find().then(render, () => {});
  } finally {
    busy = false;
    document.body.removeAttribute('aria-busy');
    for (const b of document.querySelectorAll('main button')) b.disabled = false;
  }
}

async function start() {
  const device = await deviceOf(await keyPair());
  api = new Api(device);
  at('name').textContent = device.name;
  at('fingerprint').textContent = device.fingerprint;
  at('public').value = device.publicKey;
  render(await api.settled(render));
}

for (const [id, what] of Object.entries(DOES)) at(id).addEventListener('click', () => run(what));
at('add').addEventListener('submit', (event) => {
  event.preventDefault();
  run(addDevice);
});
run(start);
