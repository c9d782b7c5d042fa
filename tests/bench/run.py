#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""run.py BUILD [NAME…]: the figures of docs/BENCHMARKS.md, as its table. Root, in a mount namespace of its own (mk/bench.mk
sees to both): pools lie in memory, so that a disk's speed is in no figure. IN_VM's run where real dm-crypt is. Under the table
the same as a plot: each row's ratios against its goal."""
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
from benchlib import HEADER, Figure, Row, plot  # noqa: E402

IN_VM = {'stage': ('1', '1024M'), 'memory': ('2', '2048M'), 'dmcrypt': ('2', '1024M')}  # name: its processors and memory there
PASSED = ('COFFER_BENCH_ROUNDS', 'COFFER_BENCH_STAGES', 'COFFER_BENCH_FIO_SECONDS', 'COFFER_BENCH_GUEST', 'COFFER_VAULT',
          'COFFER_VAULT_WHY')
NAMES = ('rpc', 'volumes', 'keyslot', 'vault', 'place', 'scheduler', *IN_VM)


def as_row(r):
    if isinstance(r, dict):
        return Row(**r) if 'ratios' in r else Figure(**r)
    return r


def in_vm(name, build):
    """NAME.py where dm-crypt is; its last line is its rows, or why there is none."""
    import vault  # pylint: disable=import-outside-toplevel
    why = vault.build_vault() if name == 'stage' else 'not needed'
    processors, memory = IN_VM[name]
    command = [os.path.join(HERE, '../../e2e/vm/vm-or-native'), '-S', '6G', '-t', '7200', '-c', processors, '-m', memory, '-s', build,
               *([] if why else ['-s', os.path.dirname(os.environ['COFFER_VAULT'])]),
               '-e', 'COFFER_BIN=' + os.path.join(build, 'release'), *(word for passed in PASSED for word in ('-e', passed)),
               'python3', '-B', os.path.join(HERE, f'{name}.py')]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [as_row(r) for r in json.loads(done.stdout.splitlines()[-1])]


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
    rows = []
    for name in names:
        for r in in_vm(name, build) if name in IN_VM else on_host(name, build):
            print(r if isinstance(r, str) else r.text(), flush=True)
            rows.append(r)
    if drawn := plot(rows):
        print(f'\n```\n{drawn}\n```')


if __name__ == '__main__':
    main(sys.argv[1:])
