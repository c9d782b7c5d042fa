# SPDX-License-Identifier: Apache-2.0
"""Unwraps by a real Vault over TLS: coffer-keyd's CPU for 1,000 of them and how many there are in a second, beside a client
in Go that makes the same requests over the same TLS. The server's own time is in neither CPU figure, and in both rates."""
import base64
import hashlib
import json
import os
import struct
import subprocess
import sys

from benchlib import cpu_ns, paired, row

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'e2e', 'lib'))
COUNT = 1000


def build_go(build):
    """(program, '') or ('', why not)."""
    done = subprocess.run([f'{ROOT}/tests/bench/gobuild.sh', 'govault', f'{build}/bench', 'govault'], stdout=subprocess.PIPE,
                          text=True, check=False)
    if done.returncode not in (0, 77):
        raise RuntimeError('the client in Go could not be built (see above)')
    return (f'{build}/bench/govault', '') if done.returncode == 0 else ('', done.stdout.strip())


def build_vault():
    done = subprocess.run([f'{ROOT}/e2e/vault/build.sh'], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 77):
        raise RuntimeError('the Vault server could not be built (see above)')
    os.environ['COFFER_VAULT' if done.returncode == 0 else 'COFFER_VAULT_WHY'] = done.stdout.strip()
    return '' if done.returncode == 0 else done.stdout.strip()


def config_of(folder, vault, layout):
    role = layout.approle('controller', 'node')
    with open(f'{folder}/secret-id', 'w', encoding='ascii') as f:
        f.write(role.body['secret_id'])
    auth = {'method': 'approle', 'mount': role.mount, 'role': 'controller-node', 'role_id': role.body['role_id'],
            'secret_id_path': f'{folder}/secret-id'}
    kms = {'uri': f'hcvault://{vault.listen}/{layout.transit}/keys/coffer-t-{{tenant}}', 'ca': vault.ca, 'auth': auth}
    return {'pools': {'p': {'backend': 'file', 'path': f'{folder}/pool', 'kms': ['vault']}}, 'kms': {'vault': kms}}


def context_of(volume):
    """docs/PROTOCOL-keyd.md: what the wrapped key is bound to, as Vault takes it."""
    parts = ('coffer/v1', 'volume', volume.tenant, volume.volume_id, volume.uuid)
    tuple_ = b''.join(struct.pack('>I', len(p)) + p.encode() for p in parts)
    return base64.b64encode(hashlib.sha256(tuple_).digest()).decode()


class Rig:
    """The server, coffer-keyd, and one wrapped key."""

    def __init__(self, build, vault, layout):
        from keydclient import Keyd, Volume  # pylint: disable=import-outside-toplevel
        self.build, self.vault, self.layout = build, vault, layout
        self.folder = os.path.join(os.environ['COFFER_SCRATCH'], 'keyd')
        os.makedirs(self.folder)
        self.volume = Volume('vault')
        self.keyd = Keyd(self.folder, config_of(self.folder, vault, layout), flags=('--log-level', 'info')).start()
        self.key = self.keyd.mint(self.volume).wrapped
        self.token = f'{self.folder}/token'
        with open(self.token, 'w', encoding='ascii') as f:
            f.write(layout.token('node').token)

    def ours(self, parallel):
        """(CPU of keyd, wall time) of COUNT unwraps, in ns."""
        v, k = self.volume, self.key
        before = cpu_ns(self.keyd.process.pid)
        done = subprocess.run([f'{self.build}/release/bench-unwrap', self.keyd.path, *v.fields(), k.kind, k.ciphertext,
                               str(k.version), str(COUNT), str(parallel)], stdout=subprocess.PIPE, check=True)
        return cpu_ns(self.keyd.process.pid) - before, json.loads(done.stdout)['wall_ns']

    def theirs(self, go, context, parallel):
        done = subprocess.run([go, self.vault.address, self.vault.ca, self.token, f'{self.layout.transit}/decrypt/coffer-t-team-a',
                               self.key.ciphertext, context, str(COUNT), str(parallel)], stdout=subprocess.PIPE, check=True)
        said = json.loads(done.stdout)
        return said['cpu_ns'], said['wall_ns']


def rows_of(rig, go, context):
    rows = []
    for parallel in (1, 64):
        pairs = paired(lambda p=parallel: rig.ours(p), lambda p=parallel: rig.theirs(go, context, p))
        rows.append(row(f'CPU per {COUNT:,} unwraps, {parallel} callers', 'ms', [(a[0], b[0]) for a, b in pairs], None, 1e-6,
                        ' (a client in Go)'))
        rows.append(row(f'time of {COUNT:,} unwraps, {parallel} callers', 's', [(a[1], b[1]) for a, b in pairs], None, 1e-9,
                        ' (a client in Go)'))
    return rows


def bench(build):
    go, why = build_go(build)
    why = why or build_vault()
    if why:
        return [f'unwraps by Vault: skipped ({why})']
    from vaultserver import open_vault  # pylint: disable=import-outside-toplevel
    from vaultsetup import Layout  # pylint: disable=import-outside-toplevel
    with open_vault(os.path.join(os.environ['COFFER_SCRATCH'], 'vault')) as vault:
        layout = Layout(vault)
        layout.mount_engines()
        layout.write_policies()
        rig = Rig(build, vault, layout)
        try:
            return rows_of(rig, go, context_of(rig.volume))
        finally:
            rig.keyd.stop()
