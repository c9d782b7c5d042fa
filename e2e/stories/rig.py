#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# story: disk=1G cpus=1
"""rig: what every other story stands on: a scratch disk with direct I/O, loop devices, LUKS2 on dm-crypt. Without
any program of the project: when this one fails, look at the machine first."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from tap import Tap  # noqa: E402

SCRATCH = os.environ['COFFER_SCRATCH']
IMAGE, KEY, NAME = f'{SCRATCH}/rig.img', f'{SCRATCH}/rig.key', f'coffer-rig-{os.getpid()}'


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise RuntimeError(f'{" ".join(command)}: exit {done.returncode}: {done.stdout.decode(errors="replace")}')
    return done.stdout.decode().strip()


def crypt():
    """Format, open, write, close, open again: the data is there and the image doesn't show it."""
    run('truncate', '-s', '32M', IMAGE)
    with open(KEY, 'w', encoding='ascii') as f:
        f.write('not a secret')
    loop = run('losetup', '--direct-io=on', '-f', '--show', IMAGE)
    try:
        run('cryptsetup', '-q', 'luksFormat', '--type', 'luks2', '--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000',
            '--key-file', KEY, loop)
        for text in (b'known plaintext', None):
            run('cryptsetup', 'open', '--key-file', KEY, loop, NAME)
            try:
                with open(f'/dev/mapper/{NAME}', 'r+b', buffering=0) as f:
                    if text:
                        f.write(text)
                        os.fsync(f.fileno())
                    elif f.read(15) != b'known plaintext':
                        raise RuntimeError('the data is not what was written')
            finally:
                run('cryptsetup', 'close', NAME)
    finally:
        run('losetup', '-d', loop)
    with open(IMAGE, 'rb') as f:
        if b'known plaintext' in f.read():
            raise RuntimeError('the image shows the plaintext')


def main():
    tap = Tap()
    tap.run('the scratch disk takes direct writes', run, 'dd', 'if=/dev/zero', f'of={SCRATCH}/direct', 'bs=4096',
            'count=1', 'oflag=direct', 'status=none')
    tap.run('device-mapper has the crypt target', run, 'sh', '-c', 'dmsetup targets | grep -q "^crypt "')
    tap.run('LUKS2 on a loop device keeps its data and hides it', crypt)
    tap.done()


main()
