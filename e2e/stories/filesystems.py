#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# story: disk=12G
"""filesystems: the whole life of ext4, xfs and btrfs volumes: smallest sizes, read-only, online growth, a full file
system, a crash with a dirty journal, damage that is refused with the commands to type (which are then typed), a btrfs
that another volume pretends to belong to, and the kill sweep's stage and expand points for xfs and btrfs."""
import contextlib
import os
import re
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import damage  # noqa: E402
from files import read, write  # noqa: E402
from fixture import MIB, CallError, Coffer, wait_for  # noqa: E402
from jobs import Machine, expand_job, node_jobs  # noqa: E402
from powerlife import stock_tools  # noqa: E402
from staged import SIZE, Stage, pattern, refuse_write, refused  # noqa: E402
from sweep import SAMPLE, FaultKiller, demand_clean, sweep, until_ok  # noqa: E402
from tap import Tap, demand  # noqa: E402

SMALLEST = {'ext4': 16 * MIB, 'xfs': 300 * MIB, 'btrfs': 256 * MIB}  # volume/fskind.c says the same
FIXED_OPTION = {'ext4': 'errors=remount-ro', 'xfs': 'nouuid', 'btrfs': 'subvolid=5'}
OWN_FLAG = {'ext4': 'commit=7', 'xfs': 'lazytime', 'btrfs': 'compress=zstd'}


def mount_line(path):
    with open('/proc/self/mountinfo', encoding='utf-8') as f:
        return next(line for line in f if line.split()[4] == path)


def fill(path):
    """Writes until the file system is full; how many bytes that took."""
    n = 0
    try:
        with open(path, 'wb', buffering=0) as f:
            while True:
                n += f.write(b'x' * MIB)
                if n % (16 * MIB) == 0:
                    os.fsync(f.fileno())
    except OSError as e:
        demand(e.errno == 28, f'filling ended with {e}')
    return n


# ---- life ----

def life(c, fs):
    with Stage(c, 'life', fs, SMALLEST[fs]) as v:
        demand(c.record(v.volume)['fs'] == fs and c.record(v.volume)['state'] == 'ready', f'{c.record(v.volume)}')
        line, data = mount_line(v.path), pattern(2 * MIB)
        demand(f' - {fs} ' in line and 'nosuid,nodev' in line and FIXED_OPTION[fs] in line, line)
        c.publish(v.volume)
        c.publish(v.volume)
        write(v.target + '/file', data)
        os.mkdir(v.target + '/dir')
        os.symlink('file', v.target + '/link')
        c.publish(v.volume, n=1, readonly=True)
        demand(read(c.target(v.volume, 1) + '/link') == data, 'the second target shows other data')
        refuse_write(c.target(v.volume, 1))
        stats(c, fs, v)
        for n in (0, 1):
            c.unpublish(v.volume, n)
            demand(not os.path.exists(c.target(v.volume, n)), 'the target is still there')
        v.again()
        c.stage(v.volume)
        demand(read(v.path + '/link') == data, 'the data is not what was written')
        demand(sorted(set(os.listdir(v.path)) - {'lost+found'}) == ['dir', 'file', 'link'], f'{os.listdir(v.path)}')
        unlabelled(c, v)


def stats(c, fs, v):
    usage = c.call(c.node_socket, 'csi.v1.Node/NodeGetVolumeStats',
                   {'volume_id': v.volume['volume_id'], 'volume_path': v.target})['usage']
    units = {u['unit']: u for u in usage}
    demand(int(units['BYTES']['total']) == v.bytes() and int(units['BYTES']['used']) > 0, f'{usage}')
    demand(('INODES' in units) == (fs != 'btrfs'), f'{usage}')


def unlabelled(c, v):
    """Nothing could be found by a label, and each volume has a uuid of its own."""
    out = subprocess.run(['blkid', '-p', '-o', 'export', '/dev/coffer/' + c.dm_name(v.volume)], capture_output=True,
                         text=True, check=True).stdout
    demand('LABEL=' not in out and f'TYPE={v.fs}' in out and 'UUID=' in out, out)


def read_only(c, fs):
    """A new volume's first stage is read-only: it is formatted all the same. Later ones too."""
    volume = c.create(f'{fs}-ro', SIZE[fs], fs=fs)
    path = c.staging(volume)
    c.stage(volume, mode='SINGLE_NODE_READER_ONLY')
    refuse_write(path)
    c.unstage(volume)
    c.stage(volume)
    write(path + '/file', b'something')
    c.unstage(volume)
    c.stage(volume, flags=['ro'])
    demand(read(path + '/file') == b'something', 'the data is not what was written')
    refuse_write(path)
    c.controller_expand(volume['volume_id'], SIZE[fs] + 16 * MIB)  # a read-only stage doesn't grow
    c.unstage(volume)
    c.stage(volume)
    s = os.statvfs(path)
    demand(s.f_blocks * s.f_frsize > (SIZE[fs] + 16 * MIB) * 3 // 4, 'the stage did not grow it')
    c.unstage(volume)
    demand_clean(c)
    c.delete(volume['volume_id'])


def flags(c, fs):
    """Its own flags work, no others do; a capability that names no file system takes what there is."""
    with Stage(c, 'flags', fs) as v:
        v.again(flags=['noatime', OWN_FLAG[fs]])
        line = mount_line(v.path)
        demand(OWN_FLAG[fs] in line and 'noatime' in line, line)
        c.unstage(v.volume)
        for flag in ('data=writeback', 'compress=no', 'commit=0', 'device=/dev/vda', 'subvol=x', 'logdev=/dev/vda'):
            refused('INVALID', f'none that {fs} takes', c.stage, v.volume, flags=[flag])
        c.stage(v.volume, fs='')
        demand(f' - {fs} ' in mount_line(v.path), mount_line(v.path))
        refused('PRECONDITION', f'created as {fs}', c.stage, v.volume, fs='xfs' if fs != 'xfs' else 'ext4')


def single_writer(c, fs):
    with Stage(c, 'rwop', fs) as v:
        mode = {'mode': 'SINGLE_NODE_SINGLE_WRITER'}
        c.publish(v.volume, **mode)
        c.publish(v.volume, **mode)
        refused('PRECONDITION', 'single writer', c.publish, v.volume, n=1, **mode)


def holder(c, fs):
    """Who keeps it busy is named; a file on btrfs has a device number that is nobody's."""
    with Stage(c, 'holder', fs) as v:
        with open(v.path + '/held', 'wb'):
            refused('ABORTED', f'process {os.getpid()} (python3) has \'{v.path}/held\' open', c.unstage, v.volume)


# ---- sizes ----

def sizes(c, fs):
    least, big = SMALLEST[fs], 1024 * MIB

    def ask(name, block=False, **size):
        capability = c.capability(block, fs=fs)
        return c.call(c.controller_socket, 'csi.v1.Controller/CreateVolume',
                      {'name': f'{fs}-{name}', 'volume_capabilities': [capability], 'capacity_range': size})['volume']

    if fs != 'ext4':  # 16 MiB are the smallest volume of all, and what is below is rounded up
        for size in ({'required_bytes': least - MIB}, {'limit_bytes': least - MIB},
                     {'required_bytes': 1, 'limit_bytes': big}):
            refused('OUT_OF_RANGE', f'smallest {fs} volume, {least}', ask, 'small', **size)
    volume = c.call(c.controller_socket, 'csi.v1.Controller/CreateVolume', {
        'name': f'{fs}-default', 'volume_capabilities': [c.capability(fs=fs)]})['volume']
    demand(int(volume['capacity_bytes']) == big, f'{volume}')
    refused('EXISTS', 'another file system', c.create, f'{fs}-default', big, fs='xfs' if fs != 'xfs' else 'btrfs')
    c.delete(volume['volume_id'])
    left = [n for _, _, names in os.walk(c.pool + '/volumes') for n in names]
    demand(not left, f'refused requests left {left}')


# ---- growth ----

def growth(c, fs):
    """Grows while somebody writes; then by a volume path alone, and by a stage after a growth in between."""
    with Stage(c, 'growth', fs) as v:
        c.publish(v.volume)
        before, data, stop, written = pattern(4 * MIB), pattern(MIB), threading.Event(), []
        write(v.target + '/before', before)

        def writer():
            while not stop.is_set() and len(written) < 64:
                write(f'{v.target}/during-{len(written) % 8}', data)
                written.append(1)

        thread = threading.Thread(target=writer)
        thread.start()
        try:
            wait_for('the first write', lambda: written or not thread.is_alive())
            first, size = v.bytes(), SIZE[fs] + 64 * MIB
            v.grow(size)
        finally:
            stop.set()
            thread.join()
        demand(written, 'the writer failed')
        demand(v.bytes() > first + 48 * MIB, f'{first} bytes became {v.bytes()}')
        demand(int(v.grow(size)['capacity_bytes']) == size, 'a second call answers something else')
        by_volume_path(c, v, size + 16 * MIB)
        c.unpublish(v.volume)
        c.unstage(v.volume)
        c.controller_expand(v.volume['volume_id'], size + 32 * MIB)
        c.stage(v.volume)
        demand(v.bytes() > first + 80 * MIB, f'{first} bytes became {v.bytes()} after the stage')
        demand(read(v.path + '/before') == before and read(v.path + '/during-0') == data, 'the data has changed')


def by_volume_path(c, v, size):
    before = v.bytes()
    c.controller_expand(v.volume['volume_id'], size)
    c.call(c.node_socket, 'csi.v1.Node/NodeExpandVolume', {'volume_id': v.volume['volume_id'], 'volume_path': v.target})
    demand(v.bytes() > before + 8 * MIB, f'{before} bytes became {v.bytes()}')


def failed(c, fs):
    """Its super block is read-only, as after an error, and the mount isn't: an expand doesn't say that it grew."""
    with Stage(c, 'failed', fs) as v:
        size, before = SIZE[fs] + 64 * MIB, v.bytes()
        for options in ('remount,ro', 'remount,bind,rw'):
            subprocess.run(['mount', '-o', options, v.path], check=True)
        c.controller_expand(v.volume['volume_id'], size)
        refused('PRECONDITION', 'read-only after an error', c.node_expand, v.volume, size, path=v.path)
        v.again()
        demand(v.bytes() > before + 48 * MIB, f'{before} bytes became {v.bytes()}')


def group_bytes(path):
    """Of an xfs: what lies between two of its superblocks."""
    said = subprocess.run(['xfs_info', path], check=True, stdout=subprocess.PIPE, text=True).stdout
    return int(re.search(r'agsize=(\d+)', said)[1]) * int(re.search(r'data .*bsize=(\d+)', said)[1])


def half_grown(c):
    """A power cut behind the growth of an xfs can lose what the kernel wrote last: all superblocks but the first. xfs_repair takes that
    for damage. The next stage ends it."""
    with Stage(c, 'half', 'xfs') as v:
        size, apart = SIZE['xfs'] + 64 * MIB, group_bytes(v.path)
        c.unstage(v.volume)
        before = damage.spans_of(c.image(v.volume), [(n * apart, 4096) for n in range(1, SIZE['xfs'] // apart)])
        demand(before, 'one group has no second superblock')
        c.stage(v.volume)
        v.grow(size, path=v.path)
        c.unstage(v.volume)
        stock_tools(c, v.volume, 'xfs')
        damage.put_back(c.image(v.volume), before)
        try:
            stock_tools(c, v.volume, 'xfs')
        except RuntimeError as e:
            demand('superblock' in str(e), f'{e}')
        else:
            raise RuntimeError('the old superblocks are no damage: this test shows nothing')
        v.again()
        c.unstage(v.volume)
        stock_tools(c, v.volume, 'xfs')


def full(c, fs):
    """The smallest volume, filled: writes fail, everything else goes on, growing makes room."""
    with Stage(c, 'full', fs, SMALLEST[fs]) as v:
        data = pattern(MIB)
        write(v.path + '/before', data)
        n = fill(v.path + '/filler')
        demand(n >= MIB, f'{n} bytes filled it')
        demand(read(v.path + '/before') == data, 'the data has changed')
        v.again()
        demand(read(v.path + '/before') == data, 'the data has changed after a stage')
        c.publish(v.volume)
        v.grow(SMALLEST[fs] + 64 * MIB)
        write(v.target + '/after', pattern(16 * MIB))
        demand(read(v.path + '/before') == data and os.stat(v.path + '/filler').st_size >= n // 2, 'data is missing')


# ---- crash ----

def cut_off(c, volume):
    """From now on nothing reaches the disk: the live mapping's table becomes an error target."""
    name = c.dm_name(volume)
    sectors = c.mapping_bytes(volume) // 512
    for command in (['suspend', '--noflush', '--nolockfs', name], ['load', name, '--table', f'0 {sectors} error'],
                    ['resume', name]):
        subprocess.run(['dmsetup', *command], check=True)


def crash(c, fs, capability):
    """The disk goes away under a mounted file system with a dirty log; what was flushed is there afterwards."""
    with Stage(c, 'crash', fs) as v:
        data = {f'{v.path}/d{n}/file{n}': pattern(64 * 1024) for n in range(8)}
        os.sync()
        for path, content in data.items():
            os.mkdir(os.path.dirname(path))
            write(path, content)
        cut_off(c, v.volume)
        with contextlib.suppress(OSError):
            write(v.path + '/lost', b'x' * MIB)
        until_ok(lambda: c.unstage(v.volume))
        demand_clean(c)
        c.stage(v.volume, **capability)
        for path, content in data.items():
            demand(read(path) == content, f'{path} is not what was flushed')
        if capability:
            refuse_write(v.path)
            v.again()
        write(v.path + '/again', b'x')


# ---- a btrfs that pretends ----

def btrfs_id(device):
    out = subprocess.run(['blkid', '-p', '-o', 'value', '-s', 'UUID', device], capture_output=True, text=True, check=True)
    return out.stdout.strip()


def pretender(c):
    """A tenant writes a btrfs of two devices onto his raw block volume, under the id of another's volume, and the host
    scans it: the other volume's owner must never see it, whatever the kernel makes of the two."""
    with Stage(c, 'victim', 'btrfs') as v:
        write(v.path + '/file', b'mine')
        victim = btrfs_id('/dev/coffer/' + c.dm_name(v.volume))
        c.unstage(v.volume)
        raw, other = c.create('btrfs-raw', 256 * MIB, block=True), os.path.join(c.root, 'other')
        c.stage(raw, block=True)
        c.publish(raw, block=True)
        with open(other, 'wb') as f:
            f.truncate(256 * MIB)
        loop = subprocess.run(['losetup', '-f', '--show', '-b', '4096', other], capture_output=True, text=True,
                              check=True).stdout.strip()
        try:
            subprocess.run(['mkfs.btrfs', '-q', '-f', '-K', '-U', victim, '-m', 'raid1', '-d', 'raid1', loop,
                            c.target(raw)], check=True, capture_output=True)
            age(os.path.join(c.root, 'aged'), loop, c.target(raw))
            subprocess.run(['losetup', '-d', loop], check=True)
            subprocess.run(['btrfs', 'device', 'scan', c.target(raw)], check=True, capture_output=True)
            outcome = victim_is_safe(c, v)
        finally:
            c.unpublish(raw)
            c.unstage(raw)
            c.delete(raw['volume_id'])
            os.unlink(other)
            subprocess.run(['btrfs', 'device', 'scan', '--forget'], check=False, capture_output=True)
        print(f'# pretender: {outcome}')


def age(path, one, two):
    """Makes the pretender's superblock newer than the other's: the kernel goes by the newest."""
    os.makedirs(path)
    subprocess.run(['mount', '-t', 'btrfs', '-o', f'device={two}', one, path], check=True)
    for n in range(50):
        write(f'{path}/file', b'not yours %d' % n)
        subprocess.run(['btrfs', 'filesystem', 'sync', path], check=True)
    subprocess.run(['umount', path], check=True)


def victim_is_safe(c, v):
    try:
        c.stage(v.volume)
    except CallError as e:
        demand(not [m for m in c.mappings() if m == c.dm_name(v.volume)], 'the refused volume is still mapped')
        return f'refused: {e}'
    demand(read(v.path + '/file') == b'mine', 'another volume was mounted in its place')
    return 'the right one was mounted'


def several_devices(c):
    """A privileged pod adds a device to its btrfs: never mounted again, said in one sentence, the data is there."""
    with Stage(c, 'several', 'btrfs') as v:
        other = os.path.join(c.root, 'second')
        with open(other, 'wb') as f:
            f.truncate(256 * MIB)
        loop = subprocess.run(['losetup', '-f', '--show', '-b', '4096', other], capture_output=True, text=True,
                              check=True).stdout.strip()
        try:
            subprocess.run(['btrfs', 'device', 'add', '-K', '-f', loop, v.path], check=True, capture_output=True)
            until_ok(lambda: c.unstage(v.volume))
            sentence = damage.refusal(c, v.volume)
            demand('spans 2 devices' in sentence, sentence)
        finally:
            subprocess.run(['losetup', '-d', loop], check=True)
            os.unlink(other)


# ---- kills ----

def sweeps(tap, c):
    for fs in ('xfs', 'btrfs'):
        m = Machine(c, fs, SIZE[fs])
        stages = [j for j in node_jobs(m) if j.name.startswith('stage')]
        for job in stages + [expand_job(m)]:
            job.name = f'{fs}: {job.name}'
            sweep(tap, c, job, FaultKiller(c, 'coffer-node'))


OF_EACH_KIND = (
    ('the whole life, at the smallest size', life),
    ('a damaged superblock is refused, and repaired by what the refusal says', damage.superblock),
    ('smallest sizes, and no size at all', sizes),
    ('read-only, also the first time', read_only),
    ('mount flags', flags),
    ('one target for a single writer', single_writer),
    ('who holds it is named', holder),
    ('grows under a writer, by a volume path alone, and by a stage', growth),
    ('full, staged again, grown, writable', full),
    ('one that turned read-only is not said to have grown', failed),
    ('after a crash the log is replayed', crash, {}),
    ('after a crash the log is replayed, read-only', crash, {'mode': 'SINGLE_NODE_READER_ONLY'}),
    ('damaged metadata is refused', damage.metadata),
    ('no stage while an administrator repairs', damage.under_repair),
)
EACH_ALWAYS = 1  # of these, so many are for each kind of file system even when the rest is sampled


def of_each_kind():
    """(kind, test): all; with COFFER_SAMPLE most tests on one kind only, each kind in its turn."""
    kinds = tuple(SMALLEST)
    return [(fs, test) for n, fs in enumerate(kinds) for i, test in enumerate(OF_EACH_KIND)
            if SAMPLE == 1 or i < EACH_ALWAYS or i % len(kinds) == n]


def main():
    tap, c = Tap(), Coffer(os.path.join(os.environ['COFFER_SCRATCH'], 'fs'), fault=True)
    c.install()
    c.start()
    for fs, (what, test, *arguments) in of_each_kind():
        tap.run(f'{fs}: {what}', test, c, fs, *arguments)
    tap.run('xfs: a growth that a power cut left half done is ended by the next stage', half_grown, c)
    tap.run('btrfs: another volume that carries its id is never mounted in its place', pretender, c)
    tap.run('btrfs: one that got a second device is refused', several_devices, c)
    sweeps(tap, c)
    c.stop()
    tap.done()


main()
