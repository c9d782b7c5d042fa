#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# story: where=here
"""image-clone: the same sources in two folders of different names give one image, to the last byte. Sampled: one program is
built in both, and the image isn't."""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from tap import Tap  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
PROGRAMS = ('coffer-controller', 'coffer-node', 'coffer-keyd', 'coffer-crypt', 'cofferctl')
FACTS = {'SOURCE_DATE_EPOCH': '1700000000', 'REVISION': 'a' * 40}


def copy(folder):
    """This checkout as it is, also what isn't committed, without what was built."""
    command = ['git', '-c', f'safe.directory={ROOT}', '-C', ROOT, 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
    names = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode().split('\0')
    for name in filter(os.path.isfile, (os.path.join(ROOT, name) for name in names if name)):
        to = os.path.join(folder, os.path.relpath(name, ROOT))
        os.makedirs(os.path.dirname(to), exist_ok=True)
        shutil.copy(name, to)


def make(folder, *targets):
    own = {k: v for k, v in os.environ.items() if not k.startswith(('MAKE', 'MFLAGS', 'COFFER_')) and k not in ('BUILD', 'PROFILE')}
    done = subprocess.run(['make', '-s', f'-j{os.cpu_count() or 1}', '-C', folder, *targets], env={**own, **FACTS}, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise RuntimeError(f'make {" ".join(targets)} in {folder}: {done.stdout.decode(errors="replace")[-3000:]}')


def same(one, other, path):
    with open(os.path.join(one, path), 'rb') as f, open(os.path.join(other, path), 'rb') as g:
        if f.read() != g.read():
            raise RuntimeError(f'{path} differs')


def main():
    tap, sampled = Tap(), int(os.environ.get('COFFER_SAMPLE') or 1) > 1
    with tempfile.TemporaryDirectory(prefix='coffer-clone-') as top:
        one, other = os.path.join(top, 'a'), os.path.join(top, 'another/deeper/clone')
        for folder in (one, other):  # before it takes long: somebody may be at work here
            copy(folder)
        for folder in (one, other):
            make(folder, 'build/release/coffer-crypt' if sampled else 'image')
        for name in ('coffer-crypt',) if sampled else PROGRAMS:
            tap.run(f'{name} is the same', same, one, other, f'build/release/{name}')
        for name in ('coffer.tar', 'coffer.spdx.json', 'digest'):
            if sampled:
                tap.skip(f'{name} is the same', 'a sampled run builds one program only; make e2e STORY=image-clone builds all')
            else:
                tap.run(f'{name} is the same', same, one, other, f'build/image/{name}')
    tap.done()


main()
