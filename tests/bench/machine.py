# SPDX-License-Identifier: Apache-2.0
"""The controller with its key daemon over a sparse pool in memory, and the bare server in Go to compare it with."""
import hashlib
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'e2e', 'lib'))
from benchlib import load  # noqa: E402
from fixture import MIB, Coffer, connectable, wait_for  # noqa: E402

CONTROLLER = 'csi.v1.Controller/'
CHUNK = 5000


class Controller(Coffer):
    """No node: only what CreateVolume and ListVolumes need."""

    def __init__(self, name):
        super().__init__(os.path.join(os.environ['COFFER_SCRATCH'], name))
        self.log_level, self.csi_call = 'error', os.path.join(self.bin, 'csi-call')
        self.pool_settings = {'allocate': 'sparse', 'overcommit': 1000}
        self.install()
        self.start_keyd()
        self.start_controller()
        with open(os.path.join(self.pool, 'pool.json'), encoding='utf-8') as f:
            self.tag = json.load(f)['id'][:8]

    @property
    def pid(self):
        return self.controller.process.pid

    def create_requests(self, names):
        return [{'name': n, 'capacity_range': {'required_bytes': 16 * MIB},
                 'volume_capabilities': [self.capability()]} for n in names]

    def populate(self, count):
        for first in range(0, count, CHUNK):
            names = [f'volume-{i}' for i in range(first, min(first + CHUNK, count))]
            load(self.csi_call, self.controller_socket, CONTROLLER + 'CreateVolume', self.create_requests(names), parallel=16)

    def delete_named(self, names):
        ids = [f'default.{self.tag}.{hashlib.sha256(n.encode()).hexdigest()[:32]}' for n in names]
        load(self.csi_call, self.controller_socket, CONTROLLER + 'DeleteVolume', [{'volume_id': i} for i in ids], parallel=4)

    def stop_all(self):
        self.controller.stop()
        self.keyd.stop()


class BareGo:
    """tests/bench/goserver, built from its pinned module; `why` says why it isn't there."""

    def __init__(self, folder, entries, prefix):
        self.process, self.why = None, ''
        self.socket = os.path.join(os.environ['COFFER_SCRATCH'], 'go.sock')
        build = [os.path.join(ROOT, 'tests/bench/gobuild.sh'), 'goserver', folder, 'bare-csi']
        done = subprocess.run(build, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode == 77:
            self.why = done.stdout.strip()
            return
        if done.returncode != 0:
            raise RuntimeError('the server in Go could not be built (see above)')
        self.process = subprocess.Popen([os.path.join(folder, 'bare-csi'), self.socket, str(entries), prefix])
        wait_for('the server in Go', lambda: connectable(self.socket))

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
