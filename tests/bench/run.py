#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""run.py BUILD [NAME…]: the figures of docs/BENCHMARKS.md, as its table. Root, in a mount namespace of its own (mk/bench.mk
sees to both): pools lie in memory, so that a disk's speed is in no figure. `stage` runs where real dm-crypt is."""
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
from benchlib import HEADER, Row  # noqa: E402

NAMES = ('rpc', 'volumes', 'keyslot', 'vault', 'place', 'scheduler', 'stage')


def in_vm(build):
    """stage.py where dm-crypt is; its last line is its rows, or why there is none."""
    import vault  # pylint: disable=import-outside-toplevel
    why = vault.build_vault()
    command = [os.path.join(HERE, '../../e2e/vm/vm-or-native'), '-S', '2G', '-t', '3000', '-c', '1', '-m', '1024M', '-s', build,
               *([] if why else ['-s', os.path.dirname(os.environ['COFFER_VAULT'])]),
               '-e', 'COFFER_BIN=' + os.path.join(build, 'release'), '-e', 'COFFER_BENCH_ROUNDS', '-e', 'COFFER_VAULT',
               '-e', 'COFFER_VAULT_WHY', 'python3', '-B', os.path.join(HERE, 'stage.py')]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [Row(**r) if isinstance(r, dict) else r for r in json.loads(done.stdout.splitlines()[-1])]


def on_host(name, build):
    with tempfile.TemporaryDirectory(prefix='coffer-bench-') as scratch:
        os.chmod(scratch, 0o755)
        subprocess.run(['mount', '-t', 'tmpfs', '-o', 'mode=0755,size=90%,nr_inodes=0', 'tmpfs', scratch], check=True)
        os.environ.update(COFFER_SCRATCH=scratch, COFFER_BIN=os.path.join(build, 'release'))
        try:
            return importlib.import_module(name).bench(build)
        finally:
            subprocess.run(['umount', '-l', scratch], check=True)


def main(argv):
    build, names = os.path.abspath(argv[0]), argv[1:] or NAMES
    if unknown := set(names) - set(NAMES):
        sys.exit(f'run.py: {", ".join(unknown)}: none of {", ".join(NAMES)}')
    print(f'{os.cpu_count()} processors, Linux {platform.release()}\n\n{HEADER}', flush=True)
    for name in names:
        for r in in_vm(build) if name == 'stage' else on_host(name, build):
            print(r.text() if isinstance(r, Row) else r, flush=True)


if __name__ == '__main__':
    main(sys.argv[1:])
