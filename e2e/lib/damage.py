# SPDX-License-Identifier: Apache-2.0
"""File systems that are damaged below their mapping: refused with what to type, and that is typed."""
import os
import re
import subprocess
import zlib

from fixture import MIB, CallError
from staged import Stage, pattern
from sweep import demand_clean
from tamper import read, write
from tap import demand

DATA_OFFSET = 4 * MIB
SUPERBLOCK = {'ext4': 0, 'xfs': 0, 'btrfs': 65536}  # the 4 KiB sector it lies in
# more of its metadata, superblock spared: ext4's inode tables, xfs's first allocation group, btrfs's both copies
METADATA = {'ext4': [(64 * 1024, 2 * MIB)], 'xfs': [(16384, MIB)],
            'btrfs': [(MIB, 63 * MIB), (65 * MIB, 120 * MIB)]}
REPAIR = {'ext4': ('e2fsck -f ', 'e2fsck -fy '), 'xfs': ('xfs_repair -n ', 'xfs_repair '),
          'btrfs': ('btrfs check --readonly ', 'btrfs rescue super-recover -y ')}


def checksum(path):
    crc, step = 0, 4 * MIB
    with open(path, 'rb') as f:
        while data := f.read(step):
            crc = zlib.crc32(data, crc)
    return crc


def spoil(image, spans):
    """Other ciphertext: each sector turns into noise."""
    with open(image, 'r+b') as f:
        for at, length in spans:
            f.seek(DATA_OFFSET + at)
            f.write(os.urandom(length))
        f.flush()
        os.fsync(f.fileno())


def spans_of(image, spans):
    with open(image, 'rb') as f:
        return [(at, os.pread(f.fileno(), length, DATA_OFFSET + at)) for at, length in spans]


def put_back(image, saved):
    with open(image, 'r+b') as f:
        for at, data in saved:
            os.pwrite(f.fileno(), data, DATA_OFFSET + at)
        os.fsync(f.fileno())


def refusal(c, volume, **capability):
    try:
        c.stage(volume, **capability)
    except CallError as e:
        demand(e.code == 'DATA_LOSS', f'{e}')
        demand_clean(c)
        return e.message
    raise RuntimeError('the damaged volume was staged')


def typed(c, sentence, old='', new=''):
    """What the refusal says to type; the flags that this story's own paths need, and one replacement."""
    found = re.search(r'Type on this node: (cofferctl .*; cryptsetup close repair)', sentence)
    demand(found, f'no command in: {sentence}')
    flags_ = f'--yes --config {c.config} --admin-socket {c.admin_socket} --reason'
    command = found[1].replace('cofferctl', c.bin + '/cofferctl').replace('--reason', flags_, 1)
    demand(old in command, f'"{old}" is not in: {command}')
    return command.replace(old, new)


def shell(command):
    return subprocess.run(['bash', '-c', 'set -o pipefail; ' + command], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False).stdout


def superblock(c, fs):
    """Refused, nothing changed, not even by what the refusal says to type for a look; then repaired by hand."""
    size = 192 * MIB if fs == 'ext4' else None  # below 128 MiB it has no second superblock to repair from
    with Stage(c, 'super', fs, size) as v:
        image, data = c.image(v.volume), pattern(MIB)
        write(v.path + '/file', data)
        c.unstage(v.volume)
        spoil(image, [(SUPERBLOCK[fs], 4096)])
        before = checksum(image)
        sentence = refusal(c, v.volume)
        demand('superblock' in sentence, sentence)
        refusal(c, v.volume, mode='SINGLE_NODE_READER_ONLY')
        demand(checksum(image) == before, 'the refusal changed the image')
        shell(typed(c, sentence))
        demand_clean(c)
        demand(checksum(image) == before, 'a look changed the image')
        out = shell(typed(c, sentence, *REPAIR[fs]))
        demand(checksum(image) != before, f'the repair changed nothing: {out}')
        c.stage(v.volume)
        demand(read(v.path + '/file') == data, f'after the repair the data is another: {out}')


def metadata(c, fs):
    """The superblock is good, what it points to isn't."""
    with Stage(c, 'metadata', fs) as v:
        for n in range(50):
            write(f'{v.path}/file{n}', b'x' * 5000)
        c.unstage(v.volume)
        image, spans = c.image(v.volume), METADATA[fs]
        saved = spans_of(image, spans)
        spoil(image, spans)
        before = checksum(image)
        sentence = refusal(c, v.volume)
        demand(REPAIR[fs][0] in sentence, sentence)
        if fs == 'btrfs':  # e2fsck -p, and xfs's mount, may have written to log and counters before they gave up
            demand(checksum(image) == before, 'the refusal changed the image')
        put_back(image, saved)
        c.stage(v.volume)
        demand(read(v.path + '/file49') == b'x' * 5000, 'the data has changed')


def under_repair(c, fs):
    """While an administrator has it open, no stage comes near; his path is the one that the refusal names."""
    with Stage(c, 'repair', fs) as v:
        c.unstage(v.volume)
        image = c.image(v.volume)
        good = spans_of(image, [(SUPERBLOCK[fs], 4096)])
        spoil(image, [(SUPERBLOCK[fs], 4096)])
        command = typed(c, refusal(c, v.volume), REPAIR[fs][0] + '/dev/mapper/repair; cryptsetup close repair', 'true')
        put_back(image, good)
        out = shell(command)
        demand(os.path.exists('/dev/mapper/repair'), f'{command}: {out}')
        try:
            before = checksum(image)
            try:
                c.stage(v.volume)
            except CallError as e:
                demand(e.code in ('ABORTED', 'PRECONDITION'), f'{e}')
            else:
                raise RuntimeError('staged while another mapping lies on the image')
            demand(not c.mappings(), f'left over: {c.mappings()}')
            demand(checksum(image) == before, 'the attempt changed the image')
        finally:
            subprocess.run(['cryptsetup', 'close', 'repair'], check=True)
        c.stage(v.volume)
