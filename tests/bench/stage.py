#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Warm stage and unstage of a `ready` ext4 volume over gRPC, beside a minimal one-process C program that does the same
loop, LUKS2 open and mount (bare_stage.c). Runs where real dm-crypt is and prints its rows as JSON."""
import dataclasses
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, '..', '..', 'e2e', 'lib')]
from benchlib import load, paired, row  # noqa: E402
from fixture import MIB, Coffer  # noqa: E402

SIZE, ROUNDS = 64 * MIB, int(os.environ.get('COFFER_BENCH_ROUNDS', '15'))
PASSPHRASE = b'a' * 64


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


def main():
    c = Coffer()
    c.log_level = 'info'
    c.install()
    c.start()
    v = c.create('bench', SIZE)
    c.stage(v)
    c.unstage(v)
    call, bare = os.path.join(c.bin, 'csi-call'), Bare(c)
    staged = {'volume_id': v['volume_id'], 'staging_target_path': c.staging(v)}
    stage = {**staged, 'volume_context': v['volume_context'], 'volume_capability': c.capability()}
    times = {}

    def ours():
        times['stage'] = load(call, c.node_socket, 'csi.v1.Node/NodeStageVolume', [stage])['p50_us'] * 1000
        times['unstage'] = load(call, c.node_socket, 'csi.v1.Node/NodeUnstageVolume', [staged])['p50_us'] * 1000
        return dict(times)

    def theirs():
        return {'stage': bare.do(b'up'), 'unstage': bare.do(b'down')}
    pairs = paired(ours, theirs, ROUNDS)
    rows = [row(f'warm {what}', 'ms', [(a[what], b[what]) for a, b in pairs], 1.5, 1e-6, ' (one C process)')
            for what in ('stage', 'unstage')]
    rows.append(row('warm stage + unstage', 'ms', [(sum(a.values()), sum(b.values())) for a, b in pairs], 1.5, 1e-6,
                    ' (one C process)'))
    c.stop()
    print(json.dumps([dataclasses.asdict(r) for r in rows]))


if __name__ == '__main__':
    main()
