# SPDX-License-Identifier: Apache-2.0
"""What coffer-controller's component tests share: a rig of three pools, coffer-keyd and coffer-controller, as root under two
unprivileged users, and calls to it by a real gRPC client."""
import contextlib
import json
import os
import secrets
import shutil

import caselib
from caselib import read, stop

CSI_CALL = caselib.program('csi-call')
MIB, GIB = 1 << 20, 1 << 30
HEADER = 4 * MIB
ROOT = os.geteuid() == 0
CONTROLLER_UID, KEYD_UID = (23001, 23002) if ROOT else (os.geteuid(), os.geteuid())
GID = 23001 if ROOT else os.getegid()
MOUNT = {'mount': {}, 'access_mode': {'mode': 'SINGLE_NODE_WRITER'}}
BLOCK = {'block': {}, 'access_mode': {'mode': 'SINGLE_NODE_WRITER'}}
TOPOLOGY = 'topology.csi.coffer.dev/node'


class RpcError(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.code, _, self.message = text.partition(': ')


def as_user(uid):
    return {'user': uid, 'group': GID, 'extra_groups': []} if ROOT else {}


def own(path, uid=CONTROLLER_UID):
    if ROOT:
        os.chown(path, uid, GID)


class Rig:
    """One directory with three pools (two full, one sparse), a key service, and the processes."""

    def __init__(self, root):
        self.root = root
        os.chmod(root, 0o755)
        self.bin, self.fault = self.dir('bin'), self.dir('fault', CONTROLLER_UID)
        for name in ('coffer-controller', 'coffer-keyd'):
            shutil.copy(caselib.program(name), self.bin)
        self.run, self.keyd_dir = self.dir('run', CONTROLLER_UID), self.dir('keyd', KEYD_UID)
        os.chmod(self.keyd_dir, 0o750)
        self.csi = os.path.join(self.run, 'csi.sock')
        self.keyd_socket = os.path.join(self.keyd_dir, 'keyd.sock')
        self.config = os.path.join(root, 'config.json')
        self.tags = {}
        for name in ('fast', 'slow', 'thin'):
            self.make_pool(name)
        self.write_config()
        self.controller = self.keyd = None
        self.log_path = self.path('controller.log')

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def dir(self, name, uid=None):
        os.mkdir(self.path(name), 0o755)
        if uid is not None:
            own(self.path(name), uid)
        return self.path(name)

    def make_pool(self, name):
        path, pool_id = self.dir(name, CONTROLLER_UID), secrets.token_hex(16)
        os.chmod(path, 0o700)
        self.tags[name] = pool_id[:8]
        caselib.write(os.path.join(path, 'pool.json'), {'v': 1, 'id': pool_id, 'backend': 'file'})
        own(os.path.join(path, 'pool.json'))

    def write_config(self, **change):
        master = self.path('master')
        if not os.path.exists(master):
            caselib.write_key(master)
            own(master, KEYD_UID)
        pools = {name: caselib.file_pool(self.path(name), 'dev', 'other') for name in self.tags}
        pools['thin'].update(allocate='sparse', overcommit=1.5)
        config = {'pools': pools, 'default_tenant': 'lab',
                  'kms': {'dev': {'uri': 'file://' + master}, 'other': {'uri': 'file://' + master}}}
        config.update(change)
        caselib.write(self.config, config, 0o644)

    # ---- processes ----

    def start_keyd(self):
        flags = caselib.keyd_flags(self.config, self.keyd_socket, 'MINT', f'{CONTROLLER_UID}:{GID}')
        self.keyd = caselib.spawn([os.path.join(self.bin, 'coffer-keyd'), *flags], self.path('keyd.log'), self.keyd_socket,
                                  **as_user(KEYD_UID))

    def stop_keyd(self):
        stop(self.keyd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.keyd_socket)

    def argv(self, *more):
        return [os.path.join(self.bin, 'coffer-controller'), *caselib.controller_flags(self.config, self.csi, self.keyd_socket),
                *more]

    def start(self, *more):
        self.controller = caselib.spawn(self.argv(*more), self.log_path, self.answers, 'an answer to Probe',
                                        env=dict(os.environ, COFFER_FAULT_DIR=self.fault), **as_user(CONTROLLER_UID))

    def answers(self):
        try:
            return self.call('Probe') is not None
        except RpcError:
            return False

    def restart(self, *more):
        stop(self.controller)
        self.start(*more)

    def log(self):
        return read(self.log_path)

    def reset(self):
        """Whatever the last test left: both processes run, the pools are there and empty."""
        self.disarm()
        if os.path.exists(self.path('away')):
            shutil.rmtree(self.path('fast'), ignore_errors=True)
            os.rename(self.path('away'), self.path('fast'))
        for name in self.tags:
            shutil.rmtree(self.path(name, 'volumes'), ignore_errors=True)
        if self.keyd is None or self.keyd.poll() is not None:
            self.start_keyd()
        if self.controller is None or self.controller.poll() is not None:
            self.start()

    def close(self):
        for p in (self.controller, self.keyd):
            if p is not None:
                stop(p)

    # ---- calls ----

    def call(self, method, timeout=30, **request):
        p = caselib.run([CSI_CALL, 'unix://' + self.csi, method, json.dumps(request), '--timeout', str(timeout)], None,
                        timeout + 30)
        if p.returncode != 0:
            raise RpcError(p.stderr.strip().splitlines()[-1] if p.stderr.strip() else f'exit {p.returncode}')
        return json.loads(p.stdout)

    def create(self, name, size=16 * MIB, limit=0, caps=(MOUNT,), **more):
        parameters = more.pop('parameters', {'pool': 'fast'})
        return self.call('CreateVolume', name=name, capacity_range={'required_bytes': size, 'limit_bytes': limit},
                         volume_capabilities=list(caps), parameters=parameters, **more)['volume']

    def delete(self, volume_id):
        self.call('DeleteVolume', volume_id=volume_id)

    def expand(self, volume_id, size):
        return self.call('ControllerExpandVolume', volume_id=volume_id, capacity_range={'required_bytes': size})

    def thin_room(self):
        return int(self.call('GetCapacity', parameters={'pool': 'thin'}).get('available_capacity', 0))

    def check_ledger(self):
        """After a call has looked at it, the thin pool's ledger says what its images say."""
        self.thin_room()
        sizes = [os.stat(os.path.join(p, 'image')).st_size for p in self.places()
                 if p.startswith(self.path('thin')) and os.path.exists(os.path.join(p, 'image'))]
        ledger = json.loads(read(self.path('thin', 'promised.json')))
        assert ledger['promised'] == sum(sizes) and ledger['volume'] == '', (ledger, sizes)

    def ids(self):
        return [e['volume']['volume_id'] for e in self.call('ListVolumes').get('entries', [])]

    def place(self, volume_id):
        pool, _, name = volume_id.split('.')
        return self.path(pool, 'volumes', name[:2], name)

    def record(self, volume_id):
        return json.loads(read(self.place(volume_id), 'record.json'))

    def arm(self, text):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.fault, 'coffer-controller.trace'))
        caselib.write(os.path.join(self.fault, 'coffer-controller.arm'), text, 0o644)

    def disarm(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.fault, 'coffer-controller.arm'))

    def places(self):
        folders = [(d, name) for pool in self.tags for d, names, _ in os.walk(self.path(pool)) for name in names]
        return sorted(os.path.join(d, name) for d, name in folders if len(name) == 32)


@contextlib.contextmanager
def refused(code, *words):
    try:
        yield
    except RpcError as e:
        assert e.code == code, f'{e.code} instead of {code}: {e.message}'
        for word in words:
            assert word in e.message, f'no {word!r} in: {e.message}'
    else:
        raise AssertionError(f'no {code}')


def main(tests):
    """One rig for all of them, made good again before each."""
    with caselib.folder('coffer-ctl.') as root:
        rig = Rig(root)

        @contextlib.contextmanager
        def good_rig():
            rig.reset()
            yield rig
        try:
            code = caselib.main(tests, good_rig)
        finally:
            rig.close()
        if code != 0 and os.path.exists(rig.log_path):
            print(''.join(f'# {line}\n' for line in rig.log().splitlines()[-30:]))
    return code
