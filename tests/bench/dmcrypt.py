#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""dm-crypt's options compared by fio: sectors of 4,096 bytes (Coffer's) beside 512, and no_read_workqueue/no_write_workqueue beside the
default. One loop device over a file in memory, opened in turn by each setting; each pair of bandwidths is of two runs one after the other.
Runs where real dm-crypt is and prints its rows as JSON: the ratio is Coffer's setting over the other, so above 1 it is the faster one."""
import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from benchlib import paired, row  # noqa: E402

SIZE, SECONDS = 256 << 20, int(os.environ.get('COFFER_BENCH_FIO_SECONDS', '4'))
ROUNDS = int(os.environ.get('COFFER_BENCH_ROUNDS', '5'))
KEY = b'k' * 64
SETTINGS = {'4096': ('--sector-size', '4096'), '512': ('--sector-size', '512'),
            'no workqueues': ('--sector-size', '4096', '--perf-no_read_workqueue', '--perf-no_write_workqueue'),
            'no read workqueue': ('--sector-size', '4096', '--perf-no_read_workqueue'),
            'no write workqueue': ('--sector-size', '4096', '--perf-no_write_workqueue')}
# name, fio's rw, block size, depth, jobs
LOADS = (('sequential read, 1 MiB', 'read', '1M', 8, 1), ('sequential write, 1 MiB', 'write', '1M', 8, 1),
         ('random read, 4 KiB', 'randread', '4k', 1, 1), ('random write, 4 KiB', 'randwrite', '4k', 1, 1),
         ('random read, 4 KiB, 32 deep', 'randread', '4k', 32, 2), ('random write, 4 KiB, 32 deep', 'randwrite', '4k', 32, 2))


def run(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, **more).stdout.decode().strip()


@contextlib.contextmanager
def opened(loop, setting):
    """Plain mode: the same table as LUKS2 makes, without its header."""
    run('cryptsetup', 'open', '--type', 'plain', '--cipher', 'aes-xts-plain64', '--key-size', '512', '--key-file', '-', *SETTINGS[setting],
        loop, 'bench', input=KEY)
    try:
        yield '/dev/mapper/bench'
    finally:
        run('cryptsetup', 'close', 'bench')


def bandwidth(loop, setting, rw, size, depth, jobs):
    with opened(loop, setting) as device:
        said = run('fio', '--name=bench', f'--filename={device}', f'--rw={rw}', f'--bs={size}', f'--iodepth={depth}', f'--numjobs={jobs}',
                   '--ioengine=libaio', '--direct=1', '--time_based', f'--runtime={SECONDS}', '--group_reporting', '--output-format=json')
    side = json.loads(said)['jobs'][0]['write' if 'write' in rw else 'read']
    return side['bw_bytes']


def compare(loop, ours, theirs):
    for name, *how in LOADS:
        pairs = paired(lambda h=how: bandwidth(loop, ours, *h), lambda h=how: bandwidth(loop, theirs, *h), ROUNDS)
        yield row(f'{name}: {ours} beside {theirs}', 'MB/s', pairs, None, 1e-6)


def main():
    if shutil.which('fio') is None:
        print(json.dumps(['dm-crypt\'s options: skipped (there is no fio)']))
        return
    subprocess.run(['modprobe', '-qa', 'loop', 'dm-crypt'], check=False)
    image = '/dev/shm/coffer-bench.img'
    with open(image, 'wb') as f:
        os.posix_fallocate(f.fileno(), 0, SIZE)
    loop = run('losetup', '--find', '--show', '--sector-size', '4096', image)
    rows = []
    try:
        for other in ('no workqueues', 'no read workqueue', 'no write workqueue'):
            rows += compare(loop, '4096', other)
        run('losetup', '-d', loop)
        loop = run('losetup', '--find', '--show', image)
        rows += compare(loop, '4096', '512')
    finally:
        run('losetup', '-d', loop)
        os.unlink(image)
    print(json.dumps([dataclasses.asdict(r) for r in rows]))


if __name__ == '__main__':
    main()
