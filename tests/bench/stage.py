#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Warm stage and unstage of a `ready` ext4 volume over gRPC, beside a minimal one-process C program that does the same
loop, LUKS2 open and mount (bare_stage.c); and where a stage's time goes with the key in a real Vault, beside one in a
file. Runs where real dm-crypt is and prints its rows as JSON."""
import dataclasses
import glob
import json
import os
import re
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, '..', '..', 'e2e', 'lib')]
import vaultcoffer  # noqa: E402
import vaultserver  # noqa: E402
from benchlib import Row, load, paired, row  # noqa: E402
from fixture import MIB, Coffer  # noqa: E402
from vaultsetup import Layout  # noqa: E402

SIZE, ROUNDS = 64 * MIB, int(os.environ.get('COFFER_BENCH_ROUNDS', '15'))
PASSPHRASE = b'a' * 64


# ---- the guest

def programs_from_memory(c):
    """In the micro-VM a start costs what it costs on no node: each library comes over 9p from outside, and the emulator translates code
    anew for each address that it is mapped at. So those that a stage's programs need are copied into the guest's memory, and addresses
    aren't random. COFFER_BENCH_GUEST=plain leaves the guest as it is; on a machine of its own nothing is done."""
    with open('/proc/mounts', encoding='utf-8') as f:
        emulated = any(line.split()[1:3] == ['/', 'overlay'] and 'lowerdir=/lower,' in line for line in f)
    if not emulated or os.environ.get('COFFER_BENCH_GUEST') == 'plain':
        return
    files = {'/etc/ld.so.cache', '/etc/ssl/openssl.cnf', *glob.glob('/usr/lib/*/ossl-modules/legacy.so')}  # libcryptsetup wants it
    for program in (os.path.join(c.bin, 'coffer-crypt'), '/usr/sbin/e2fsck'):
        listed = subprocess.run(['ldd', program], check=True, stdout=subprocess.PIPE, text=True).stdout
        files |= {program, *re.findall(r'(/\S+) \(0x', listed)}
    for path in files:
        os.close(os.open(os.path.realpath(path), os.O_RDWR))  # opened for writing, it is copied up
    with open('/proc/sys/kernel/randomize_va_space', 'w', encoding='ascii') as f:
        f.write('0')


class Bare:
    """bare_stage over an image like Coffer's."""

    def __init__(self, c):
        image, self.target = os.path.join(c.root, 'bare.img'), os.path.join(c.root, 'bare')
        os.makedirs(self.target)
        with open(image, 'wb') as f:
            os.posix_fallocate(f.fileno(), 0, SIZE + 4 * MIB)
        subprocess.run(['cryptsetup', '-q', 'luksFormat', '--type', 'luks2', '--pbkdf', 'pbkdf2', '--pbkdf-force-iterations',
                        '1000', '--sector-size', '4096', '--offset', '8192', '--luks2-metadata-size', '16k',
                        '--luks2-keyslots-size', str(4 * MIB - 32768), '--cipher', 'aes-xts-plain64', '--key-size', '512',
                        '--key-file', '-', image], input=PASSPHRASE, check=True)
        subprocess.run(['cryptsetup', 'open', '--key-file', '-', image, 'bare'], input=PASSPHRASE, check=True)
        subprocess.run(['mkfs.ext4', '-q', '-m', '0', '-E', 'nodiscard', '/dev/mapper/bare'], check=True)
        subprocess.run(['cryptsetup', 'close', 'bare'], check=True)
        self.process = subprocess.Popen([os.path.join(os.environ['COFFER_BIN'], 'bench-bare-stage'), image, 'bare', self.target],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process.stdin.write(PASSPHRASE + b'\n')

    def do(self, order):
        self.process.stdin.write(order + b'\n')
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


def requests(c, volume):
    """NodeStageVolume's and NodeUnstageVolume's."""
    staged = {'volume_id': volume['volume_id'], 'staging_target_path': c.staging(volume)}
    return {**staged, 'volume_context': volume['volume_context'], 'volume_capability': c.capability()}, staged


def ready(c, name, **create):
    v = c.create(name, SIZE, **create)
    c.stage(v)
    c.unstage(v)
    return requests(c, v)


def call_ns(c, method, request):
    return load(os.path.join(c.bin, 'csi-call'), c.node_socket, f'csi.v1.Node/{method}', [request], warm=True)['p50_us'] * 1000


def beside_bare():
    c = Coffer()
    c.log_level = 'info'
    c.install()
    programs_from_memory(c)
    c.start()
    (stage, unstage), bare = ready(c, 'bench'), Bare(c)

    def ours():
        return {'stage': call_ns(c, 'NodeStageVolume', stage), 'unstage': call_ns(c, 'NodeUnstageVolume', unstage)}

    def theirs():
        return {'stage': bare.do(b'up'), 'unstage': bare.do(b'down')}
    pairs = paired(ours, theirs, ROUNDS)
    c.stop()
    rows = [row(f'warm {what}', 'ms', [(a[what], b[what]) for a, b in pairs], 1.5, 1e-6, ' (one C process)')
            for what in ('stage', 'unstage')]
    rows.append(row('warm stage + unstage', 'ms', [(sum(a.values()), sum(b.values())) for a, b in pairs], 1.5, 1e-6,
                    ' (one C process)'))
    return rows


# ---- by phase, with the key in a real Vault beside one in a file

PHASES = {'attach': 'loop device', 'unwrap': 'the key, by coffer-keyd', 'open': 'LUKS2', 'mapping': 'looked for, device node',
          'filesystem': 'fsck', 'mount': 'mount', 'grow': 'size compared', 'rest': 'RPC, locks, record, mount table'}


class Phased:
    """Warm stages of one volume, each with what coffer-node's line in the log says."""

    def __init__(self, c, kms):
        self.c, (self.stage, self.unstage) = c, ready(c, f'phases-{kms}', parameters={'kms': kms})

    def __call__(self):
        start, total = os.path.getsize(self.c.node.log), call_ns(self.c, 'NodeStageVolume', self.stage)
        with open(self.c.node.log, encoding='utf-8', errors='replace') as f:
            f.seek(start)
            line = next(x for x in f if '/NodeStageVolume"' in x)
        call_ns(self.c, 'NodeUnstageVolume', self.unstage)
        ns = {name: int(us) * 1000 for name, us in re.findall(r' (\w+)_us=(\d+)', line)}
        ns['mapping'] = ns.pop('unlock') - ns['unwrap'] - ns['open']
        return {**ns, 'rest': total - sum(ns.values()), 'total': total}


def phase_row(phase, pairs):
    """Both sides with their share of the whole call."""
    def side(i):
        middle = statistics.median(p[i][phase] for p in pairs)
        share = statistics.median(p[i][phase] / p[i]['total'] for p in pairs)
        return f'{middle / 1e6:.3g} ms ({share:.1%})'
    return Row(f'stage: {phase} ({PHASES[phase]})', side(0), side(1) + ' (file:)', [a[phase] / b[phase] for a, b in pairs], None)


def by_phase():
    if why := vaultserver.why_not():
        return [f'stage by phase, with the key in Vault: skipped ({why})']
    folder = os.path.join(os.environ['COFFER_SCRATCH'], 'vault')
    root = os.path.join(os.environ['COFFER_SCRATCH'], 'phases')
    os.mkdir(folder)
    with vaultserver.open_vault(folder) as vault:
        layout = Layout(vault)
        layout.mount_engines()
        layout.write_policies()
        c = Coffer(root, services={'file': {'uri': f'file://{root}/master.key'}, **vaultcoffer.services(vault, layout, folder)})
        c.log_level = 'info'
        c.install()
        c.start()
        pairs = paired(Phased(c, 'vault'), Phased(c, 'file'), ROUNDS)
        c.stop()
    rows = [row('warm stage, key in Vault', 'ms', [(a['total'], b['total']) for a, b in pairs], None, 1e-6, ' (file:)')]
    return rows + [phase_row(phase, pairs) for phase in PHASES]


def main():
    rows = beside_bare() + by_phase()
    print(json.dumps([r if isinstance(r, str) else dataclasses.asdict(r) for r in rows]))


if __name__ == '__main__':
    main()
