# SPDX-License-Identifier: Apache-2.0
"""What cofferctl's component tests share: a folder with a configuration and a pool, records in it, and the TAP loop."""
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BIN = os.path.abspath(os.environ.get('COFFER_BIN', 'build/test'))
CTL, FAKE = os.path.join(BIN, 'cofferctl'), os.path.join(BIN, 'csi-fake')
ID = 'fast.0a1b2c3d.00112233445566778899aabbccddeeff'
UUID = '6ba7b810-9dad-41d1-80b4-00c04fd430c8'
NO_POOL = 'is not there (is its file system mounted?)'


class Skip(Exception):
    pass


class Box:
    """A folder with a configuration of one pool."""

    def __init__(self):
        self.root = tempfile.mkdtemp(prefix='cofferctl-')
        self.config, self.pool = os.path.join(self.root, 'config.json'), os.path.join(self.root, 'pool')
        self.admin = os.path.join(self.root, 'admin.sock')
        self.write({'pools': {'fast': {'backend': 'file', 'path': self.pool, 'kms': ['dev'], 'allocate': 'full'}},
                    'kms': {'dev': {'uri': 'file:///etc/coffer/master'}}})

    def write(self, value):
        with open(self.config, 'w', encoding='utf-8') as f:
            f.write(value if isinstance(value, str) else json.dumps(value))

    def run(self, *args, code=0, config=True, **kw):
        argv = [CTL, *args] + (['--config', self.config] if config else [])
        p = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60,
                           start_new_session=True, **kw)
        assert p.returncode == code, (argv[1:], p.returncode, p.stdout, p.stderr)
        return p

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
        with open(os.path.join(place, 'record.json'), 'w', encoding='utf-8') as f:
            f.write(text if text is not None else json.dumps(record))
        return volume

    @contextlib.contextmanager
    def node(self):
        """A pretending coffer-node on the admin socket."""
        with subprocess.Popen([FAKE, self.admin], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
            try:
                end = time.monotonic() + 10
                while not os.path.exists(self.admin):
                    assert time.monotonic() < end and p.poll() is None, 'csi-fake does not start'
                    time.sleep(0.01)
                yield p
            finally:
                p.kill()

    def unlock(self, *more):
        return ['volume', 'unlock-key', ID, '--reason', 'lost', '--admin-socket', self.admin, *more]


def sentence(p, want):
    assert p.stderr == f'cofferctl: {want}\n', (p.stderr, want)


def main(tests):
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    print(f'1..{len(tests)}', flush=True)
    failed = 0
    for number, test in enumerate(tests, 1):
        name, box = test.__name__.replace('_', ' '), Box()
        try:
            test(box)
            print(f'ok {number} - {name}', flush=True)
        except Skip as why:
            print(f'ok {number} - {name} # SKIP {why}', flush=True)
        except Exception as e:  # a test's failure, whatever it is
            failed += 1
            print(f'not ok {number} - {name}\n# {type(e).__name__}: {str(e)[:2000]}', flush=True)
        finally:
            shutil.rmtree(box.root)
    return 1 if failed else 0

