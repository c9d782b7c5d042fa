# SPDX-License-Identifier: Apache-2.0
"""What cofferctl's component tests share: a folder with a configuration and a pool, records in it, a pretending node."""
import contextlib
import hashlib
import json
import os

import caselib
from caselib import program

CTL = program('cofferctl')
ID = 'fast.0a1b2c3d.00112233445566778899aabbccddeeff'
UUID = '6ba7b810-9dad-41d1-80b4-00c04fd430c8'
NO_POOL = 'is not there (is its file system mounted?)'


class Box:
    """A folder with a configuration of one pool."""

    def __init__(self, root):
        self.root = root
        self.config, self.pool = os.path.join(self.root, 'config.json'), os.path.join(self.root, 'pool')
        self.admin = os.path.join(self.root, 'admin.sock')
        self.write(caselib.configuration(self.pool, '/etc/coffer/master'))

    def write(self, value):
        caselib.write(self.config, value)

    def run(self, *args, code=0, config=True, **kw):
        return caselib.run([CTL, *args] + (['--config', self.config] if config else []), code, start_new_session=True, **kw)

    def init(self):
        return json.loads(self.run('pool', 'init', 'fast', '--output', 'json').stdout)['tag']

    def record(self, tag, name='pvc-1', text=None, **changes):
        """A volume's place as the file pool keeps it; returns the id."""
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        volume = f'fast.{tag}.{digest}'
        record = {'v': 1, 'gen': 4, 'id': volume, 'name': name, 'uuid': UUID, 'tenant': 'team-a', 'size': 4 << 30, 'state': 'ready',
                  'crypt': {'cipher': 'aes-xts-plain64', 'key_bits': 512, 'sector': 4096, 'data_offset': 4194304}, 'fs': 'ext4',
                  'kms': 'dev', 'keySource': 'vault', 'key': {'kind': 'file', 'ciphertext': 'file:v1:WRAPPEDKEY', 'key_version': 1},
                  'digest': 'd' * 64, 'mac': 'e' * 64, 'sealed': False, 'recipients': [], 'source': None,
                  'created': '2026-11-22T01:02:03Z'}
        record.update(changes)
        place = os.path.join(self.pool, 'volumes', digest[:2], digest)
        os.makedirs(place)
        caselib.write(os.path.join(place, 'record.json'), record if text is None else text)
        return volume

    @contextlib.contextmanager
    def node(self):
        """A pretending coffer-node on the admin socket."""
        p = caselib.spawn([program('csi-fake'), self.admin], ready=self.admin)
        try:
            yield p
        finally:
            caselib.end(p)

    def unlock(self, *more):
        return ['volume', 'unlock-key', ID, '--reason', 'lost', '--admin-socket', self.admin, *more]


def sentence(p, want):
    assert p.stderr == f'cofferctl: {want}\n', (p.stderr, want)


@contextlib.contextmanager
def box():
    with caselib.folder('cofferctl-') as root:
        yield Box(root)


def main(tests):
    return caselib.main(tests, box)
