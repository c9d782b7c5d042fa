# SPDX-License-Identifier: Apache-2.0
"""What story rotation works on: World(keydfaults.World) has Coffer with its keys in Vault in a sparse pool, volumes with what is known
of each, and cofferctl as the rotation job runs it."""
import base64
import hashlib
import json
import os
import subprocess

import vaultcoffer
from fixture import GID, MIB, UID_CONTROLLER, Coffer
from sweep import until_ok
from tap import demand
from vaultsetup import TENANT_KEY
from watched import storage_key

SIZE = 16 * MIB
TENANTS = ('team-a', 'team-b')
USER = {'user': UID_CONTROLLER, 'group': GID, 'extra_groups': []}  # the pool's owner: no root, no capability


def context_of(r):
    parts = ('coffer/v1', 'volume', r['tenant'], r['id'], r['uuid'])
    tuple_ = b''.join(len(p).to_bytes(4, 'big') + p.encode() for p in parts)
    return base64.b64encode(hashlib.sha256(tuple_).digest()).decode()


class World:
    """Coffer with its keys in Vault, volumes with what is known of each, and cofferctl with the rotation job's token."""

    def __init__(self, w):
        self.w, self.root, self.transit = w, w.root, w.layout.transit
        auth = w.approle()
        self.c = Coffer(fault=True, services=w.config(w.server, auth=auth)['kms'])
        self.c.pool_settings = {'allocate': 'sparse', 'overcommit': 100}  # a thousand volumes in a small pool
        vaultcoffer.readable(w, auth)
        self.c.install()
        self.c.start()
        self.volumes, self.keys, self.staged, self.old = [], {}, [], {}
        self.token = self.token_of('rotation')
        self.trim_token = self.token_of('rotation', 'trim')
        self.printed, self.env = [], {'PATH': '/usr/bin:/bin', 'COFFER_FAULT_DIR': self.c.fault_dir}

    def token_of(self, *roles):
        path = self.w.file('token-' + '-'.join(roles), self.w.layout.token(*roles, ttl='24h').token)
        os.chown(path, UID_CONTROLLER, GID)
        return path

    # ---- volumes

    def create(self, name, tenant, kms='vault'):
        return until_ok(lambda: self.c.create(name, SIZE, parameters={'kms': kms, 'tenant': tenant}))

    def learn(self, volume):
        """Its storage key, as coffer-keyd unwraps it now: what every later version must give."""
        self.keys[volume['volume_id']] = hashlib.sha256(storage_key(self.c, volume)).digest()
        self.volumes.append(volume)

    def check_keys(self, volumes=None):
        wrong = [v['volume_id'] for v in volumes or self.volumes
                 if hashlib.sha256(storage_key(self.c, v)).digest() != self.keys[v['volume_id']]]
        demand(not wrong, f'{len(wrong)} volumes open with another key: {wrong[:3]}')

    def transit_volumes(self):
        return [v for v in self.volumes if v['volume_context']['kms'] == 'vault']

    def versions(self, tenant=None):
        """How many records are under which version."""
        found = {}
        for v in self.transit_volumes():
            r = self.c.record(v)
            if tenant in (None, r['tenant']):
                found[r['key']['key_version']] = found.get(r['key']['key_version'], 0) + 1
        return found

    def write(self, volume):
        with open(self.c.staging(volume) + '/file', 'w', encoding='ascii') as f:
            f.write(volume['volume_id'])

    def check_file(self, volume):
        with open(self.c.staging(volume) + '/file', encoding='ascii') as f:
            demand(f.read() == volume['volume_id'], 'the file in it is another one')

    # ---- cofferctl

    def argv(self, verb, *args, token=None, machine=True):
        argv = [self.c.bin + '/cofferctl', 'key', verb, *args, '--config', self.c.config, '--token-file', token or self.token]
        return argv + (['--output', 'json'] if machine else [])

    def run(self, verb, *args, code=0, **how):
        p = subprocess.run(self.argv(verb, *args, **how), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
                           env=self.env, cwd='/', timeout=3600, **USER)
        self.printed.append(p.stdout + p.stderr)
        demand(code in (None, p.returncode), f'key {verb} {args}: {p.returncode}: {p.stdout}{p.stderr}')
        return p

    def rewrap(self, *args, code=0):
        return json.loads(self.run('rewrap', '--rate', '0', *args, code=code).stdout)

    def refused(self, verb, *args, words=(), **how):
        before = {t: self.key(t) for t in TENANTS}
        p = self.run(verb, *args, code=1, **how)
        demand(all(word in p.stderr for word in words), f'{p.stderr} lacks one of {words}')
        demand({t: self.key(t) for t in TENANTS} == before, 'a refused command changed a key')

    def key(self, tenant):
        return self.root.call('GET', f'{self.transit}/keys/{TENANT_KEY}{tenant}').data

    def decrypt(self, record):
        """Vault's answer to root, who may."""
        path = f'{self.transit}/decrypt/{TENANT_KEY}{record["tenant"]}'
        return self.root.request('POST', path, {'ciphertext': record['key']['ciphertext'], 'context': context_of(record)})
