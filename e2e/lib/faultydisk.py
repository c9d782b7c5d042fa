# SPDX-License-Identifier: Apache-2.0
"""Disks that fail on demand, for the stories. `FaultyDisk`: a file system whose chosen files can't be read or written
for a while (dm error targets below it). `GoingDisk`: a disk that is pulled out (scsi_debug)."""
import contextlib
import fcntl
import glob
import os
import struct
import subprocess
import time

SECTOR = 512
FS_IOC_FIEMAP, FIEMAP_FLAG_SYNC, EXTENTS = 0xC020660B, 1, 512  # linux/fiemap.h
HEAD, EXTENT = struct.Struct('=QQLLLL'), struct.Struct('=QQQQQLLLL')


def sh(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout


def drop_caches():
    os.sync()
    with open('/proc/sys/vm/drop_caches', 'w', encoding='ascii') as f:
        f.write('3')


def extents(path, start=0, length=None):
    """[(physical, length)] in bytes of the file system's device: where that part of the file lies."""
    length = os.path.getsize(path) - start if length is None else length
    buffer = bytearray(HEAD.pack(start, length, FIEMAP_FLAG_SYNC, 0, EXTENTS, 0) + bytes(EXTENTS * EXTENT.size))
    with open(path, 'rb') as f:
        fcntl.ioctl(f, FS_IOC_FIEMAP, buffer)
    mapped = HEAD.unpack_from(buffer)[3]
    if not 0 < mapped < EXTENTS:
        raise RuntimeError(f'{path}: {mapped} extents')
    found = []
    for i in range(mapped):
        logical, physical, size = EXTENT.unpack_from(buffer, HEAD.size + i * EXTENT.size)[:3]
        first, last = max(logical, start), min(logical + size, start + length)
        if last > first:
            found.append((physical + first - logical, last - first))
    return found


class FaultyDisk:
    """An ext4 on a device of our own, mounted at `where`, with a file of `size` bytes below it all."""

    NAME = 'story-faulty'

    def __init__(self, file, size, where):
        with open(file, 'wb') as f:
            f.truncate(size)
        self.loop = sh('losetup', '--direct-io=on', '--show', '-f', file).strip()
        self.sectors, self.where = size // SECTOR, where
        sh('dmsetup', 'create', self.NAME, '--table', self.linear(0, self.sectors))
        self.device = '/dev/mapper/' + self.NAME
        sh('mkfs.ext4', '-q', '-F', self.device)
        os.makedirs(where, exist_ok=True)
        self.mount()

    def linear(self, start, sectors):
        return f'{start} {sectors} linear {self.loop} {start}'

    def mount(self):
        sh('mount', self.device, self.where)

    def unmount(self):
        sh('umount', self.where)

    def load(self, table):
        drop_caches()
        sh('dmsetup', 'suspend', self.NAME)
        subprocess.run(['dmsetup', 'load', self.NAME], input='\n'.join(table), text=True, check=True)
        sh('dmsetup', 'resume', self.NAME)
        drop_caches()

    @contextlib.contextmanager
    def hurt(self, ranges):
        """Inside the block every access to one of these (physical, length) ranges is an I/O error."""
        table, at = [], 0
        for start, length in sorted((first // SECTOR, size // SECTOR) for first, size in ranges):
            if start > at:
                table.append(self.linear(at, start - at))
            table.append(f'{start} {length} error')
            at = start + length
        self.load([*table, self.linear(at, self.sectors - at)])
        try:
            yield
        finally:
            self.load([self.linear(0, self.sectors)])

    def close(self):
        self.unmount()
        sh('dmsetup', 'remove', '--retry', self.NAME)
        sh('losetup', '-d', self.loop)


class GoingDisk:
    """A SCSI disk in memory that can be pulled out while it is in use."""

    def __init__(self, mib):
        before = set(glob.glob('/sys/block/sd*'))
        sh('modprobe', '-a', 'sd_mod')  # without it scsi_debug's disk has no block device
        sh('modprobe', 'scsi_debug', f'dev_size_mb={mib}', 'delay=0')
        end = time.monotonic() + 120
        while not (new := set(glob.glob('/sys/block/sd*')) - before):
            if time.monotonic() > end:
                raise RuntimeError('scsi_debug made no disk')
            time.sleep(0.1)
        self.sysfs = new.pop()
        self.device = '/dev/' + os.path.basename(self.sysfs)
        while not os.path.exists(self.device):
            if time.monotonic() > end:
                raise RuntimeError(f'no {self.device}')
            time.sleep(0.1)

    def number(self):
        with open(self.sysfs + '/dev', encoding='ascii') as f:
            return f.read().strip()

    def pull(self):
        with open(self.sysfs + '/device/delete', 'w', encoding='ascii') as f:
            f.write('1')
