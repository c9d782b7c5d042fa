# SPDX-License-Identifier: Apache-2.0
"""Key-derivation CPU of 100 opens: Coffer's keyslot beside one that stock cryptsetup made as most peers call it (no
--pbkdf option: argon2id, benchmarked to 2 s). Theirs is 5 opens a round, counted for 100: each takes seconds."""
import os
import resource
import subprocess

from benchlib import paired, row

OPENS, THEIRS, ROUNDS = 100, 5, 3
PASSPHRASE = b'a' * 64


def children_ns():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1e9


def bench(build):
    scratch = os.environ['COFFER_SCRATCH']
    mine, stock = os.path.join(scratch, 'mine'), os.path.join(scratch, 'stock')
    with open(stock, 'wb') as f:
        f.truncate(32 << 20)
    subprocess.run(['cryptsetup', '-q', 'luksFormat', '--type', 'luks2', '--key-file', '-', stock], input=PASSPHRASE, check=True)

    def ours():
        program = os.path.join(build, 'release', 'bench-keyslot')
        return int(subprocess.run([program, mine, str(OPENS)], capture_output=True, check=True).stdout)

    def theirs():
        before = children_ns()
        for _ in range(THEIRS):
            subprocess.run(['cryptsetup', 'open', '--test-passphrase', '--key-file', '-', stock], input=PASSPHRASE, check=True)
        return (children_ns() - before) * OPENS / THEIRS
    return [row(f'key-derivation CPU of {OPENS} opens', 's', paired(ours, theirs, ROUNDS), 0.02, 1e-9,
                ' (cryptsetup, its default argon2id)')]
