# SPDX-License-Identifier: Apache-2.0
"""A disk whose power can be cut at any moment of its past. `RecordedDisk`: a file system on dm-log-writes, which keeps every write in
the order in which flushes made it durable; marks say what its users had been told by then. `Past`: what such a disk had at any entry
of the log, as a disk to mount; what was written and not flushed by then is lost, as a volatile cache loses it.

    disk = RecordedDisk(folder, 1 << 30, '/mnt', 'ext4')     # mounted
    disk.mark('7')                                           # in between
    past = disk.end()                                        # unmounted, gone
    for n in past.cuts(...):
        with past.at(n): ...                                 # mounted again, after a power cut at entry n

The format of the log is the kernel's (drivers/md/dm-log-writes.c, Documentation/admin-guide/device-mapper/log-writes.rst): a block
of `sectorsize` bytes with the superblock, then for each entry such a block with its header, and the data, unless it is a discard."""
import contextlib
import dataclasses
import os
import struct
import subprocess

from faultydisk import SECTOR, sh

MAGIC, VERSION = 0x6a736677736872, 1
SUPER, ENTRY = struct.Struct('<QQQL'), struct.Struct('<QQQQ')
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
MKFS = {'ext4': ('mkfs.ext4', '-q', '-F', '-m', '0', '-E', 'nodiscard,lazy_itable_init=1,assume_storage_prezeroed=1'),
        'xfs': ('mkfs.xfs', '-q', '-f', '-K')}
# commit: what nobody flushes stays in memory, as long as that may take
MOUNT = {'ext4': 'noatime,commit=900', 'xfs': 'noatime'}
# of an unmounted file system: exit code 0 means that there is nothing to repair
CHECK = {'ext4': ('e2fsck', '-fn'), 'xfs': ('xfs_repair', '-n')}


@dataclasses.dataclass(frozen=True)
class Entry:
    sector: int
    sectors: int
    flags: int
    at: int    # of its data, in the log
    text: str  # of a mark

    @property
    def durable(self):
        """A flush or a write that goes past the cache: all before it that the disk had taken is there."""
        return bool(self.flags & (FLUSH | FUA))


def read_log(path):
    """Every entry, in order."""
    entries = []
    with open(path, 'rb') as f:
        magic, version, count, size = SUPER.unpack(f.read(SUPER.size))
        if (magic, version) != (MAGIC, VERSION):
            raise RuntimeError(f'{path} is no log of dm-log-writes')
        at = size
        for _ in range(count):
            f.seek(at)
            sector, sectors, flags, length = ENTRY.unpack(f.read(ENTRY.size))
            text = f.read(length).decode() if flags & MARK else ''
            at += size
            entries.append(Entry(sector * size, sectors * size, flags, at, text))
            if not flags & DISCARD:
                at += sectors * size
    return entries


def loop(path, direct=False):
    return sh('losetup', '--show', '-f', *(['--direct-io=on'] if direct else []), path).strip()


def sparse(path, size):
    with open(path, 'wb') as f:
        f.truncate(size)


def check_file_system(kind, device):
    """Raises when it isn't as a clean unmount leaves it; repairs nothing."""
    done = subprocess.run([*CHECK[kind], device], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        # xfs_repair tells each phase and group as well: what it found is between them
        found = [x for x in (done.stdout + done.stderr).splitlines() if not x.startswith(('Phase ', '        - '))]
        raise RuntimeError('\n'.join([f'{" ".join(CHECK[kind])}: exit {done.returncode}', *found[:40]]))


class RecordedDisk:
    NAME = 'story-recorded'

    def __init__(self, folder, size, where, kind='ext4'):
        self.folder, self.size, self.where, self.kind = folder, size, where, kind
        os.makedirs(where, exist_ok=True)
        os.makedirs(folder)
        self.disk, self.before, self.log = (f'{folder}/{name}' for name in ('disk', 'before', 'log'))
        sparse(self.disk, size)
        sh(*MKFS[kind], self.disk)
        sh('cp', '--sparse=always', self.disk, self.before)
        sparse(self.log, 4 * size)
        self.loops = [loop(self.disk, direct=True), loop(self.log, direct=True)]
        sh('dmsetup', 'create', self.NAME, '--table', f'0 {size // SECTOR} log-writes {self.loops[0]} {self.loops[1]}')
        sh('mount', '-o', MOUNT[kind], '/dev/mapper/' + self.NAME, where)

    def mark(self, text):
        sh('dmsetup', 'message', self.NAME, '0', 'mark', text)

    def end(self):
        sh('umount', self.where)
        sh('dmsetup', 'remove', '--retry', self.NAME)
        for device in self.loops:
            sh('losetup', '-d', device)
        return Past(self)


class Past:
    NAME = 'story-past'

    def __init__(self, disk):
        self.disk, self.entries, self.done = disk, read_log(disk.log), 0
        self.marks = [n for n, e in enumerate(self.entries) if e.flags & MARK]

    def mark_before(self, n):
        """Text of the last mark among the first n entries; '' when there is none."""
        found = [m for m in self.marks if m < n]
        return self.entries[found[-1]].text if found else ''

    def advance(self, n):
        """The first n entries are on the disk `before`; n never shrinks."""
        if n < self.done:
            raise RuntimeError(f'entry {n} after entry {self.done}')
        with open(self.disk.before, 'r+b') as f, open(self.disk.log, 'rb') as log:
            for e in self.entries[self.done:n]:
                f.seek(e.sector)
                if e.flags & DISCARD:  # nothing is promised of what was there
                    continue
                log.seek(e.at)
                for start in range(0, e.sectors, 1 << 20):
                    f.write(log.read(min(1 << 20, e.sectors - start)))
        self.done = n

    @contextlib.contextmanager
    def at(self, n):
        """Mounted as it would be after a power cut behind the first n entries; what is written there is gone afterwards. Unmounted, it
        must have nothing to repair."""
        self.advance(n)
        scratch = self.disk.folder + '/written'
        sparse(scratch, self.disk.size)
        loops = [loop(self.disk.before), loop(scratch)]
        try:
            sh('dmsetup', 'create', self.NAME, '--table', f'0 {self.disk.size // SECTOR} snapshot {loops[0]} {loops[1]} N 8')
            try:
                device = '/dev/mapper/' + self.NAME
                sh('mount', '-o', 'noatime', device, self.disk.where)
                try:
                    yield
                finally:
                    sh('umount', self.disk.where)
                check_file_system(self.disk.kind, device)
            finally:
                sh('dmsetup', 'remove', '--retry', self.NAME)
        finally:
            for device in loops:
                sh('losetup', '-d', device)
