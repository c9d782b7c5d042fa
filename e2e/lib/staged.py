# SPDX-License-Identifier: Apache-2.0
"""One staged volume of a file system, and what stories about file systems demand of it."""
import contextlib
import os

from fixture import MIB, CallError
from sweep import demand_clean, until_ok
from tamper import write
from tap import demand

SIZE = {'ext4': 64 * MIB, 'xfs': 300 * MIB, 'btrfs': 256 * MIB}  # bytes that a story's volume has


def pattern(n):
    """n bytes that no hole can stand in for."""
    return os.urandom(4096) * (n // 4096)


def refused(code, word, call, *args, **named):
    try:
        call(*args, **named)
    except CallError as e:
        demand(e.code == code and word in e.message, f'{e} (expected {code} and "{word}")')
        return
    raise RuntimeError(f'the call succeeded; expected {code} and "{word}"')


def refuse_write(path):
    try:
        write(path + '/forbidden', b'x')
    except OSError as e:
        demand(e.errno == 30, f'{e}')
        return
    raise RuntimeError(f'{path} can be written to')


class Stage:
    """One volume, staged inside the with block and gone after it."""

    def __init__(self, coffer, name, fs, size=None):
        self.c, self.fs = coffer, fs
        self.volume = coffer.create(f'{fs}-{name}', size or SIZE[fs], fs=fs)
        self.path, self.target = coffer.staging(self.volume), coffer.target(self.volume)

    def __enter__(self):
        self.c.stage(self.volume)
        return self

    def __exit__(self, *_):
        for n in range(3):
            with contextlib.suppress(CallError):
                self.c.unpublish(self.volume, n)
        until_ok(lambda: self.c.unstage(self.volume))
        demand_clean(self.c)
        self.c.delete(self.volume['volume_id'])

    def again(self, **capability):
        self.c.unstage(self.volume)
        demand_clean(self.c)
        self.c.stage(self.volume, **capability)

    def grow(self, size, **where):
        self.c.controller_expand(self.volume['volume_id'], size)
        return self.c.node_expand(self.volume, size, **where)

    def bytes(self, path=None):
        s = os.statvfs(path or self.path)
        return s.f_blocks * s.f_frsize
