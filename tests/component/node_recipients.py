#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Recipients of a volume whose key a user's device made (docs/client-keys.md): real coffer-node, coffer-keyd and coffer-crypt on a
loop device whose header the stock tool made, before a played Vault, which "decrypts" what isn't encrypted. No device-mapper; root and
loop devices. Real RSA and live mappings are the story client-keys'. TAP on stdout."""
import base64
import contextlib
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time

import caselib
from caselib import run
from vaultlib import SERVER_KEY, fresh

sys.path.insert(0, os.path.join(caselib.ROOT, 'e2e', 'crypt'))
from cryptlib import MIB, Volume, mac_of, passphrase_of, stock_format  # noqa: E402

CTL, TAG, PLACE = caselib.program('cofferctl'), '0a1b2c3d', 'ab' + 30 * '0'
ID = f'fast.{TAG}.{PLACE}'
FOREIGN = 'the session was not made for this volume by this device'


def b64(data):
    return base64.b64encode(data).decode()


def commitment(key, uuid):
    return hmac.new(key, b'coffer/v1 commit' + uuid.encode(), 'sha256').hexdigest()


class Device:
    def __init__(self, root, name):
        self.name, key = name, f'{root}/{name}.key'
        self.public = f'{root}/{name}.pub'
        run(['openssl', 'genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', key])
        run(['openssl', 'pkey', '-in', key, '-pubout', '-outform', 'DER', '-out', self.public])
        with open(self.public, 'rb') as f:
            self.der = f.read()
        self.print = hashlib.sha256(self.der).hexdigest()

    def wrapped(self, key):
        """Nobody here opens it: it names device and key."""
        return b64((self.name.encode() + key).ljust(256, b'\0'))

    def lend(self, world, key, expiry=None):
        end = (int(time.time()) + 3600 if expiry is None else expiry).to_bytes(8, 'big')
        parts = (b'coffer/v1c', ID.encode(), world.uuid.encode(), self.print.encode(), end)
        binding = hashlib.sha256(b''.join(len(p).to_bytes(4, 'big') + p for p in parts)).digest()
        return {'session': b64(b'coffer/v1c' + key + binding + end), 'serverKey': f'{SERVER_KEY}:1', 'fingerprint': self.print}

    def bring(self, world, key, stay, **more):
        forms = [{'fingerprint': d.print, 'wrapped': d.wrapped(key)} for d in stay]
        return {**self.lend(world, key, **more), 'commitment': commitment(key, world.uuid), 'recipients': json.dumps(forms)}


class World:
    def __init__(self, root, keyd):
        self.root, self.keyd, self.place = root, keyd, f'{root}/pool/volumes/{PLACE[:2]}/{PLACE}'
        os.makedirs(self.place)
        caselib.write(f'{root}/pool/pool.json', {'v': 1, 'id': TAG + 24 * '0', 'backend': 'file'})
        self.phone, self.tablet, self.key = Device(root, 'phone'), Device(root, 'tablet'), os.urandom(32)
        v = Volume(f'{self.place}/image', 32 * MIB, sk=self.key)
        self.uuid = v.uuid
        v.record.update(id=ID, kms='vault', tenant='team-a', keySource='client', recipients=[
            {'alg': 'RSA-OAEP-256', 'key': b64(self.phone.der), 'label': 'phone', 'wrapped': self.phone.wrapped(self.key)}],
            key={'kind': 'client', 'ciphertext': 'commit:v1:' + commitment(self.key, self.uuid), 'key_version': 1})
        stock_format(v)
        run(['losetup', '-d', v.loop])
        caselib.write(f'{self.place}/record.json', v.record)
        self.admin, self.fault, self.node = f'{root}/admin.sock', f'{root}/fault', None
        os.mkdir(self.fault)
        self.start()

    def start(self):
        self.node = caselib.spawn(
            [caselib.program('coffer-node'), '--config', f'{self.root}/config.json', '--endpoint', f'unix://{self.root}/node.sock',
             '--admin-endpoint', f'unix://{self.admin}', '--keyd-socket', self.keyd.path, '--crypt-helper', caselib.program('coffer-crypt'),
             '--node-id', 'n1', '--log-level', 'debug'], f'{self.root}/node.log', self.admin,
            env={**os.environ, 'COFFER_FAULT_DIR': self.fault})

    def close(self):
        caselib.end(self.node)
        for loop in run(['losetup', '-n', '-O', 'NAME', '-j', f'{self.place}/image']).stdout.split():
            run(['losetup', '-d', loop])

    # ---- calls

    def ask(self, *words, code=0, **files):
        flags = []
        for name, value in files.items():
            caselib.write(f'{self.root}/{name}', value)
            flags += [f'--{name.replace("_", "-")}', f'{self.root}/{name}']
        return run([CTL, *words, *flags, '--admin-socket', self.admin, '--output', 'json'], code)

    def refused(self, word, *words, **files):
        """Nothing is changed, and no value is quoted."""
        before = self.record(), self.header()
        p = self.ask(*words, code=1, **files)
        assert word in p.stderr, (word, p.stderr)
        assert (self.record(), self.header()) == before and not os.path.exists(f'{self.place}/header.backup'), word
        for value in files.values():
            assert not any(len(v) > 64 and v in p.stderr for v in (value.values() if isinstance(value, dict) else [value])), p.stderr

    def list(self, device, key):
        return [r['fingerprint'] for r in json.loads(self.ask('recipient', 'list', ID, secrets=device.lend(self, key)).stdout)]

    def add_tablet(self):
        self.ask('recipient', 'add', ID, '--key', self.tablet.public, wrapped=self.tablet.wrapped(self.key),
                 secrets=self.phone.lend(self, self.key))

    # ---- what there is

    def record(self):
        return json.loads(caselib.read(self.place, 'record.json'))

    def header(self):
        with open(f'{self.place}/image', 'rb') as f:
            return hashlib.sha256(f.read(4 * MIB)).hexdigest()

    def opens(self, key):
        return subprocess.run(['cryptsetup', 'open', '--test-passphrase', f'{self.place}/image'], check=False, capture_output=True,
                              input=passphrase_of(key, self.uuid).encode()).returncode == 0

    def slots(self):
        return len(json.loads(run(['cryptsetup', 'luksDump', '--dump-json-metadata', f'{self.place}/image']).stdout)['keyslots'])

    def demand(self, key, *devices):
        """It is the volume's one key, wrapped for these."""
        r = self.record()
        assert r['key']['ciphertext'] == 'commit:v1:' + commitment(key, self.uuid) and 'staleSlots' not in r, r
        assert [e['wrapped'] for e in r['recipients']] == [d.wrapped(key) for d in devices], r
        assert r['mac'] == mac_of(key, r) and self.opens(key) and self.slots() == 1
        assert not os.path.exists(f'{self.place}/header.backup')


@contextlib.contextmanager
def world():
    if os.geteuid() != 0:
        raise caselib.Skip('needs root')
    if not os.path.exists('/dev/loop-control'):
        raise caselib.Skip('needs loop devices')
    with fresh(allow='UNWRAP,UNWRAP_CLIENT') as (vault, keyd):
        vault.may = {'datakey/wrapped': ['deny']}

        def decrypt(handler, _path, body):
            handler.answer(200, {'data': {'plaintext': body['ciphertext'].split(':', 2)[2]}})
        vault.rules.append((f'transit/decrypt/{SERVER_KEY}', decrypt, None))
        with contextlib.closing(World(os.path.dirname(keyd.path), keyd)) as w:
            yield w


def added_and_listed(w):
    mine, form = w.phone.lend(w, w.key), w.tablet.wrapped(w.key)
    add = ('recipient', 'add', ID, '--key', w.tablet.public)
    assert w.list(w.phone, w.key) == [w.phone.print]
    w.refused("secret 'session' is missing", 'recipient', 'list', ID)
    w.refused(FOREIGN, 'recipient', 'list', ID, secrets=w.phone.lend(w, os.urandom(32)))
    w.refused('the session is over', 'recipient', 'list', ID, secrets=w.phone.lend(w, w.key, expiry=1))
    w.refused('which alone can wrap it', *add, secrets=mine)
    w.refused("secret 'session' is missing", *add, wrapped=form)
    w.refused("doesn't have among its recipients", *add, wrapped=form, secrets=w.tablet.lend(w, w.key))
    w.add_tablet()
    w.demand(w.key, w.phone, w.tablet)
    w.add_tablet()
    assert w.list(w.tablet, w.key) == [w.phone.print, w.tablet.print]
    w.refused('and something else is wrapped for it', *add, wrapped=w.tablet.wrapped(os.urandom(32)), secrets=mine)


def removed(w):
    """By a new key that the one who stays makes; what the other had is worth nothing."""
    w.add_tablet()
    new, mine = os.urandom(32), w.phone.lend(w, w.key)
    remove = ('recipient', 'remove', ID, w.phone.print)
    good = w.tablet.bring(w, new, [w.tablet])
    for word, brought in (
            ('the new key: coffer-keyd: ' + FOREIGN, {**good, 'commitment': commitment(os.urandom(32), w.uuid)}),
            ('the new key: coffer-keyd: ' + FOREIGN, {**good, **w.tablet.lend(w, os.urandom(32))}),
            ('the new key: coffer-keyd: the session is over', w.tablet.bring(w, new, [w.tablet], expiry=1)),
            ('the new key is the one that volume', w.tablet.bring(w, w.key, [w.tablet])),
            ('is of none that stays', w.phone.bring(w, new, [w.tablet])),
            ('nothing is wrapped for key', w.tablet.bring(w, new, [])),
            ("a key that isn't to be a recipient", w.tablet.bring(w, new, [w.tablet, w.phone])),
            ("new secret 'recipients' is missing", {k: v for k, v in good.items() if k != 'recipients'})):
        w.refused(word, *remove, secrets=mine, new_secrets=brought)
    w.refused("can't be replaced without new secrets", *remove, secrets=mine)
    w.refused(FOREIGN, *remove, secrets=w.phone.lend(w, os.urandom(32)), new_secrets=good)
    for resumed in (False, True):
        assert json.loads(w.ask(*remove, secrets=mine, new_secrets=good).stdout)['resumed'] is resumed
        w.demand(new, w.tablet)
    assert not w.opens(w.key)
    w.refused("doesn't have among its recipients", 'recipient', 'list', ID, secrets=mine)
    w.refused(FOREIGN, 'recipient', 'list', ID, secrets=w.tablet.lend(w, w.key))
    assert w.list(w.tablet, new) == [w.tablet.print]
    w.refused('is the last recipient of volume', 'recipient', 'remove', ID, w.tablet.print, secrets=w.tablet.lend(w, new),
              new_secrets=w.tablet.bring(w, os.urandom(32), [w.tablet]))


def rotated(w):
    w.add_tablet()
    new, files = os.urandom(32), {'secrets': w.phone.lend(w, w.key)}
    w.refused("can't be replaced without new secrets", 'volume', 'rotate-key', ID, **files)
    w.ask('volume', 'rotate-key', ID, **files, new_secrets=w.phone.bring(w, new, [w.tablet, w.phone]))
    w.demand(new, w.phone, w.tablet)
    w.refused('the new key is the one that volume', 'volume', 'rotate-key', ID, **files,
              new_secrets=w.phone.bring(w, new, [w.tablet, w.phone]))


def killed_at_each_point(w):
    """One of the two keys opens the volume at each moment; the same call again finishes."""
    if not caselib.built_with('coffer-node', b'rotate-key:recorded'):
        raise caselib.Skip('this build has no fault points')
    arm, trace = f'{w.fault}/coffer-node.arm', f'{w.fault}/coffer-node.trace'

    def remove(code, **files):
        return w.ask('recipient', 'remove', ID, w.phone.print, code=code, **files)

    def finished(**files):
        """A child of the killed one may hold the lock for a moment."""
        said = remove(None, **files)
        assert said.returncode == 0 or 'locked by another operation' in said.stderr, said.stderr
        return said.returncode == 0
    points, point = 0, 0
    while point <= points:
        key, new = w.key, os.urandom(32)
        w.ask('recipient', 'add', ID, '--key', w.phone.public, '--label', 'phone', wrapped=w.phone.wrapped(key),
              secrets=(w.tablet if point else w.phone).lend(w, key))
        if point == 0:
            w.add_tablet()
        files = {'secrets': w.tablet.lend(w, key), 'new_secrets': w.tablet.bring(w, new, [w.tablet])}
        caselib.write(trace, '')
        caselib.write(arm, f'kill {point}' if point else 'record')
        remove(1 if point else 0, **files)
        os.unlink(arm)
        if point == 0:
            points = len(caselib.read(trace).split())
            assert points >= 6, points
        else:
            w.node.wait()
            os.unlink(w.admin)
            named = new if commitment(new, w.uuid) in w.record()['key']['ciphertext'] else key
            assert w.opens(named), f'after point {point}'
            w.start()
            caselib.wait_for(lambda files=files: finished(**files), 'the same call again')
        w.demand(new, w.tablet)
        assert not w.opens(key)
        w.key, point = new, point + 1
    print(f'# killed at {points} points')


def nothing_in_the_logs(w):
    w.add_tablet()
    new = os.urandom(32)
    lent, brought = w.phone.lend(w, w.key), w.tablet.bring(w, new, [w.tablet])
    w.ask('recipient', 'remove', ID, w.phone.print, '--reason', 'lost', secrets=lent, new_secrets=brought)
    log = caselib.read(w.root, 'node.log') + w.keyd.log()
    assert 'action="remove-recipient"' in log and 'reason="lost"' in log, log
    for secret in (w.key, new, base64.b64decode(lent['session']), base64.b64decode(brought['session'])):
        assert not any(form in log for form in (secret.hex(), b64(secret))), 'a secret is in a log'


if __name__ == '__main__':
    sys.exit(caselib.main([added_and_listed, removed, rotated, killed_at_each_point, nothing_in_the_logs], world))
