#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# story: disk=3G
"""pools: a sparse pool promises more than it has, runs full while two volumes are written to, and loses nothing;
discard reaches the images that ask for it, and never a full pool."""
import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from files import write  # noqa: E402
from fixture import GID, MIB, UID_CONTROLLER, CallError, Coffer, wait_for  # noqa: E402
from sweep import demand_clean  # noqa: E402
from tap import Tap, demand  # noqa: E402

DISK, OVERCOMMIT, HEADER, RESERVE = 320 * MIB, 4.0, 4 * MIB, 64 * MIB
SIZE = 200 * MIB


def sh(*argv, check=True):
    return subprocess.run(argv, capture_output=True, text=True, check=check)


class TwoPools(Coffer):
    """`default` is sparse, on a small file system of its own; `full` reserves, on the scratch disk."""

    def write_config(self, kms=('lab',)):
        pools = {'default': {'backend': 'file', 'path': self.pool, 'kms': list(kms), 'allocate': 'sparse',
                             'overcommit': OVERCOMMIT},
                 'full': {'backend': 'file', 'path': self.full, 'kms': list(kms), 'allocate': 'full'}}
        with open(self.config, 'w', encoding='utf-8') as f:
            json.dump({'pools': pools, 'default_tenant': 'lab',
                       'kms': {k: {'uri': f'file://{self.root}/master.key'} for k in kms}}, f)
        os.chmod(self.config, 0o644)

    def install(self):
        self.full, self.small = os.path.join(self.root, 'full'), os.path.join(self.root, 'small.disk')
        os.makedirs(self.pool)
        with open(self.small, 'wb') as f:
            f.truncate(DISK)
        sh('mkfs.ext4', '-q', '-F', '-m', '0', self.small)
        sh('mount', '-o', 'loop', self.small, self.pool)
        self.make_dir(self.full, UID_CONTROLLER, GID, 0o700)
        super().install()
        self.cofferctl('pool', 'init', 'full', uid=UID_CONTROLLER)

    def make(self, name, size=SIZE, pool='default', discard=None, **more):
        parameters = {'pool': pool, **({} if discard is None else {'discard': discard})}
        return self.create(name, size, parameters=parameters, **more)

    def image(self, volume):
        pool, _, part = volume['volume_id'].split('.')
        return os.path.join(self.full if pool == 'full' else self.pool, 'volumes', part[:2], part, 'image')

    def used(self, volume):
        return os.stat(self.image(volume)).st_blocks * 512

    def free(self):
        s = os.statvfs(self.pool)
        return s.f_bavail * s.f_frsize

    def promised(self):
        with open(os.path.join(self.pool, 'promised.json'), encoding='utf-8') as f:
            return json.load(f)['promised']

    def all_images(self):
        found = sh('find', os.path.join(self.pool, 'volumes'), '-name', 'image', '-printf', '%s\n').stdout.split()
        return sum(int(n) for n in found)

    def room(self):
        return int(self.call(self.controller_socket, 'csi.v1.Controller/GetCapacity',
                             {'parameters': {'pool': 'default'}}).get('available_capacity', 0))

    def table(self, volume):
        return sh('dmsetup', 'table', self.dm_name(volume)).stdout

    def trim(self, volume):
        return sh('fstrim', '-v', self.staging(volume), check=False)

    def node_path(self, volume):
        return os.path.join(self.made_device_dir, self.dm_name(volume))

    def set_record(self, volume, **change):
        path = os.path.join(os.path.dirname(self.image(volume)), 'record.json')
        with open(path, encoding='utf-8') as f:
            record = json.load(f)
        record.update(change)
        with open(path, 'w', encoding='utf-8') as f:
            json.dump({k: v for k, v in record.items() if v is not None or k in ('source', 'key')}, f)


def digest(path):
    with open(path, 'rb') as f:
        return hashlib.file_digest(f, 'sha256').hexdigest() if hasattr(hashlib, 'file_digest') \
            else hashlib.sha256(f.read()).hexdigest()


def drop_caches():
    os.sync()
    with open('/proc/sys/vm/drop_caches', 'w', encoding='ascii') as f:
        f.write('3')


# ---- promises ----

def over_promise(c, volumes):
    total = os.statvfs(c.pool).f_blocks * os.statvfs(c.pool).f_frsize // MIB * MIB
    limit = int(total * OVERCOMMIT)
    demand(c.room() == limit // MIB * MIB, f'an empty pool has room for {c.room()}, not {limit}')
    for name in ('a', 'b', 'c'):
        volumes[name] = c.make(name)
        demand(os.stat(c.image(volumes[name])).st_size == SIZE + HEADER, 'the image is not as long as its volume')
        demand(c.used(volumes[name]) < MIB, f'a new image has {c.used(volumes[name])} bytes')
    demand(3 * SIZE > total, 'the volumes are no more than the pool has: this test shows nothing')
    demand(c.promised() == 3 * (SIZE + HEADER) == c.all_images(), f'{c.promised()} bytes are promised')
    demand(c.room() == (limit - c.promised()) // MIB * MIB, f'room for {c.room()}')


def beyond(c, tap, volumes):
    left = c.room()
    tap.expect_error('create beyond the ratio is RESOURCE_EXHAUSTED, with figures', 'EXHAUSTED',
                     lambda: c.make('d', left), word='overcommit 4.00')
    tap.expect_error('so is expand', 'EXHAUSTED', c.controller_expand, volumes['a']['volume_id'], SIZE + left + MIB,
                     word='may promise')
    tap.check(c.promised() == c.all_images() == 3 * (SIZE + HEADER), 'and neither changes anything')
    exact = c.make('exact', left - HEADER)
    tap.check(c.room() == 0, 'what fits exactly is given', c.room())
    c.delete(exact['volume_id'])
    tap.check(c.room() == left, 'and comes back with its volume', c.room())


# ---- full ----

def fill(path, result):
    """Writes and flushes until it fails; bounded by what the pool could ever hold."""
    result['written'] = 0
    try:
        with open(path, 'wb') as f:
            while result['written'] < DISK:
                f.write(os.urandom(MIB))
                f.flush()
                os.fsync(f.fileno())
                result['written'] += MIB
    except OSError as e:
        result['errno'] = e.errno


def run_full(c, tap, volumes):
    hashes = {}
    for name in ('a', 'b'):
        c.stage(volumes[name])
        demand({'errors=remount-ro', 'noinit_itable'} <= mount_options(c.staging(volumes[name])),
               f'mounted with {mount_options(c.staging(volumes[name]))}')
        write(c.staging(volumes[name]) + '/before', os.urandom(12 * MIB))
        hashes[name] = digest(c.staging(volumes[name]) + '/before')
    volumes['raw'] = c.make('raw', 64 * MIB, block=True)
    c.stage(volumes['raw'], block=True)
    write(c.node_path(volumes['raw']), os.urandom(16 * MIB))
    c.unstage(volumes['raw'])
    with open(os.path.join(c.pool, 'other-tenant'), 'wb') as f:  # what else lies on that file system
        os.posix_fallocate(f.fileno(), 0, c.free() - 40 * MIB)
    tap.expect_error('below the reserve no volume is made', 'EXHAUSTED', lambda: c.make('late'), word='below 64 MiB')
    tap.expect_error('and none grows', 'EXHAUSTED', c.controller_expand, volumes['c']['volume_id'], SIZE + MIB,
                     word='below 64 MiB')
    tap.check(c.room() == 0, 'GetCapacity says so', c.room())
    results = {name: {} for name in ('a', 'b')}
    threads = [threading.Thread(target=fill, args=(c.staging(volumes[n]) + '/filler', results[n])) for n in results]
    for t in threads:
        t.start()
    for t in threads:
        t.join(900)
    tap.check(all(r.get('errno') in (errno.ENOSPC, errno.EIO, errno.EROFS) for r in results.values()),
              'a write into the full pool fails', results)
    print(f'# the pool has {c.free() // MIB} MiB left; writers: {results}')
    return hashes


def mount_options(path):
    with open('/proc/self/mountinfo', encoding='utf-8') as f:
        line = next(line.split() for line in f if line.split()[4] == path)
    return set((line[5] + ',' + line[-1]).split(','))


def metadata_storm(c, tap, volumes):
    """Blocks that no file data ever asks for: inode tables, directories. Bounded; most of it fails."""
    where, seen = c.staging(volumes['a']), set()
    leave_no_block(c)
    for n in range(400):
        try:
            os.makedirs(f'{where}/storm/{n}/deeper', exist_ok=True)
            with open(f'{where}/storm/{n}/file', 'wb') as f:
                os.fsync(f.fileno())
        except OSError as e:
            seen.add(e.errno)
            if e.errno == errno.EROFS:
                break
    os.sync()
    print(f'# metadata in the full pool: errors {sorted(errno.errorcode[e] for e in seen)}')
    if not seen & {errno.EIO, errno.EROFS}:
        return
    # newer kernels don't show "ro" for it
    tap.run('a file system that can\'t write its metadata goes read-only', wait_for, 'read-only',
            lambda: 'Remounting filesystem read-only' in sh('dmesg').stdout)
    try:
        write(where + '/late', b'x')
        tap.check(False, 'nothing is written to it any more')
    except OSError as e:
        tap.check(e.errno in (errno.EIO, errno.EROFS), 'nothing is written to it any more', e)


def full_pool_calls(c, tap, volumes):
    """What must work when there is no space at all."""
    for name in ('a', 'b'):
        tap.run(f'volume {name} is unstaged from the full pool', c.unstage, volumes[name])
    tap.run('nothing is left on the node', demand_clean, c)
    leave_no_block(c)
    try:
        c.stage(volumes['a'])
        print('# stage in the full pool: OK')
        c.unstage(volumes['a'])
    except CallError as e:
        print(f'# stage in the full pool: {e}')
        tap.check(e.code == 'EXHAUSTED' and 'almost out of space' in e.message and 'Type on' not in e.message,
                  'a stage that fails says that the pool is full', e)
    tap.run('nothing is left on the node by it', demand_clean, c)
    leave_no_block(c)
    tap.run('a volume is deleted in a pool without a free block', c.delete, volumes['raw']['volume_id'])
    tap.check(c.promised() == c.all_images() == 3 * (SIZE + HEADER), 'and what it was promised is free', c.promised())
    tap.check(c.free() > 12 * MIB, 'and so is its space', c.free())


def leave_no_block(c):
    """The last free blocks go to somebody else."""
    with open(os.path.join(c.pool, 'last-blocks'), 'ab') as f:
        for size in (MIB, 4096):
            try:
                while True:
                    f.write(bytes(size))
                    f.flush()
                    os.fsync(f.fileno())
            except OSError as e:
                demand(e.errno == errno.ENOSPC, f'{e}')
    demand(c.free() == 0, f'{c.free()} bytes are still free')


def space_back(c, tap, volumes, hashes):
    os.unlink(os.path.join(c.pool, 'other-tenant'))
    os.unlink(os.path.join(c.pool, 'last-blocks'))
    drop_caches()
    for name, want in hashes.items():
        tap.run(f'volume {name} is staged again when there is space', c.stage, volumes[name])
        tap.check(digest(c.staging(volumes[name]) + '/before') == want, 'what was flushed before is as it was')
        write(c.staging(volumes[name]) + '/after', b'x' * MIB)
        c.unstage(volumes[name])
        loop_check(c, tap, volumes[name], name)


def passphrase(c, volume):
    p = subprocess.run([c.bin + '/cofferctl', 'volume', 'unlock-key', volume['volume_id'], '--config', c.config,
                        '--admin-socket', c.admin_socket, '--reason', 'story', '--yes'], capture_output=True, check=True)
    return p.stdout.strip()


def loop_check(c, tap, volume, name):
    """A full, forced check by e2fsck over stock cryptsetup: not a finding."""
    key = passphrase(c, volume)
    loop = sh('losetup', '--find', '--show', '--read-only', c.image(volume)).stdout.strip()
    try:
        subprocess.run(['cryptsetup', 'open', '--key-file', '-', '--readonly', loop, 'story-check'], input=key, check=True)
        p = sh('e2fsck', '-f', '-n', '/dev/mapper/story-check', check=False)
        tap.check(p.returncode == 0, f'e2fsck -f finds nothing in volume {name}', p.stdout + p.stderr)
        sh('cryptsetup', 'close', 'story-check')
    finally:
        sh('losetup', '--detach', loop)


def grow(c, volumes, hashes):
    volume = volumes['a']
    c.stage(volume)
    before, blocks = os.statvfs(c.staging(volume)).f_blocks, c.used(volume)
    c.controller_expand(volume['volume_id'], SIZE + 100 * MIB)
    c.node_expand(volume, SIZE + 100 * MIB, path=c.staging(volume))
    grown = os.statvfs(c.staging(volume))
    demand((grown.f_blocks - before) * grown.f_frsize > 80 * MIB, 'the file system did not grow')
    demand(os.stat(c.image(volume)).st_size == SIZE + 100 * MIB + HEADER, 'the image did not grow')
    demand(c.used(volume) < blocks + 16 * MIB, f'growth took {c.used(volume) - blocks} bytes')
    demand(digest(c.staging(volume) + '/before') == hashes['a'], 'the data changed')
    demand(c.promised() == c.all_images(), 'the ledger is wrong')
    c.unstage(volume)


# ---- discard ----

def settle(c, volume, below):
    """Online discards go out with the journal's commits."""
    end = time.monotonic() + 120
    while c.used(volume) >= below and time.monotonic() < end:
        os.sync()
        time.sleep(0.2)
    return c.used(volume)


def fill_and_free(c, volume):
    write(c.staging(volume) + '/big', os.urandom(24 * MIB))
    full = c.used(volume)
    os.unlink(c.staging(volume) + '/big')
    os.sync()
    return full


def discard_true(c, tap):
    volume = c.make('trim', 96 * MIB, discard='true')
    tap.check(volume['volume_context'].get('discard') == 'true', 'volume_context has discard', volume)
    c.stage(volume)
    tap.check(' allow_discards ' in c.table(volume), 'the mapping passes discards on', c.table(volume))
    write(c.staging(volume) + '/keep', os.urandom(4 * MIB))
    want = digest(c.staging(volume) + '/keep')
    full = fill_and_free(c, volume)
    now = settle(c, volume, full - 20 * MIB)
    tap.check(now < full - 20 * MIB, 'a deleted file shrinks the image by itself', f'{full} -> {now}')
    p = c.trim(volume)
    tap.check(p.returncode == 0 and c.used(volume) <= now, 'fstrim works, too', p.stderr)
    c.controller_expand(volume['volume_id'], 112 * MIB)
    c.node_expand(volume, 112 * MIB, path=c.staging(volume))
    tap.check(' allow_discards ' in c.table(volume), 'the grown mapping passes them on, too', c.table(volume))
    c.unstage(volume)
    drop_caches()
    c.stage(volume)
    tap.check(digest(c.staging(volume) + '/keep') == want, 'what was kept is as it was')
    foreign_flag(c, tap, volume, [], 'a live mapping that lost the flag')
    c.unstage(volume)
    forged(c, tap, volume)
    c.delete(volume['volume_id'])


def foreign_flag(c, tap, volume, flags, what):
    """Somebody with root and the passphrase reloads the mapping."""
    os.makedirs('/dev/mapper', exist_ok=True)
    name = c.dm_name(volume)
    made = not os.path.exists('/dev/mapper/' + name)
    if made:
        os.mknod('/dev/mapper/' + name, 0o60600, os.stat(c.node_path(volume)).st_rdev)
    p = subprocess.run(['cryptsetup', 'refresh', '--key-file', '-', *flags, name], input=passphrase(c, volume),
                       capture_output=True, check=False)
    if p.returncode != 0:
        raise RuntimeError(f'cryptsetup refresh: {p.stderr.decode()}')
    if made and os.path.exists('/dev/mapper/' + name):
        os.unlink('/dev/mapper/' + name)
    tap.expect_error(f'{what} is refused', 'ABORTED', c.stage, volume, word='discards on')  # not for good: it is mounted


def forged(c, tap, volume):
    c.set_record(volume, discard=None)
    tap.expect_error('a record without its discard is DATA_LOSS', 'DATA_LOSS', c.stage, volume, word="'discard'")
    lying = {**volume, 'volume_context': {k: v for k, v in volume['volume_context'].items() if k != 'discard'}}
    tap.expect_error('also when the request says the same', 'DATA_LOSS', c.stage, lying, word='MAC')
    c.set_record(volume, discard=True)
    tap.run('nothing of it is left', demand_clean, c)


def discard_others(c, tap):
    for fs, option in (('xfs', 'discard'), ('btrfs', 'discard=async')):
        volume = c.make('trim-' + fs, 300 * MIB, discard='true', fs=fs)
        c.stage(volume)
        tap.check(option in mount_options(c.staging(volume)), f'{fs} is mounted with {option}', mount_options(c.staging(volume)))
        full = fill_and_free(c, volume)
        now = settle(c, volume, full - 20 * MIB)
        tap.check(now < full - 20 * MIB, f'{fs}: a deleted file shrinks the image', f'{full} -> {now}')
        c.unstage(volume)
        c.delete(volume['volume_id'])


def discard_false(c, tap, pool):
    volume = c.make('keep-' + pool, 64 * MIB, pool=pool)
    tap.check('discard' not in volume['volume_context'], f'{pool}: volume_context has no discard')
    c.stage(volume)
    tap.check('allow_discards' not in c.table(volume), f'{pool}: the mapping passes no discards on', c.table(volume))
    full = fill_and_free(c, volume)
    p = c.trim(volume)
    time.sleep(1)
    os.sync()
    # a block or two of the image's own extent tree may come and go
    least = os.stat(c.image(volume)).st_size if pool == 'full' else full - MIB
    tap.check(p.returncode != 0 and c.used(volume) >= least, f'{pool}: no discard reaches the image',
              f'{full} -> {c.used(volume)}, {p.stdout}{p.stderr}')
    foreign_flag(c, tap, volume, ['--allow-discards'], f'{pool}: a live mapping that got the flag')
    c.unstage(volume)
    c.delete(volume['volume_id'])


def refused_in_full(c, tap):
    tap.expect_error('full: discard=true is refused', 'INVALID', lambda: c.make('x', 64 * MIB, pool='full', discard='true'),
                     word="pool 'full' allocates its volumes in full")
    for pool in ('full', 'default'):
        caps = [c.capability(flags=['discard'])]
        tap.expect_error(f'{pool}: the mount flag discard is refused', 'INVALID', lambda p=pool, k=caps: c.call(
            c.controller_socket, 'csi.v1.Controller/CreateVolume', {
                'name': 'x', 'volume_capabilities': k, 'parameters': {'pool': p}}), word="parameter 'discard'")


def raw_block(c, tap):
    for discard in ('true', 'false'):
        volume = c.make('block-' + discard, 64 * MIB, discard=discard, block=True)
        c.stage(volume, block=True)
        c.publish(volume, block=True)
        path = c.target(volume)
        write(path, os.urandom(24 * MIB))
        full = c.used(volume)
        p = sh('blkdiscard', path, check=False)
        if discard == 'true':
            tap.check(p.returncode == 0 and c.used(volume) < full - 20 * MIB, 'blkdiscard empties the image of a raw volume',
                      f'{full} -> {c.used(volume)} {p.stderr}')
        else:
            tap.check(p.returncode != 0 and c.used(volume) >= full - MIB, 'and not that of one without discard',
                      f'{full} -> {c.used(volume)} {p.stderr}')
        c.unpublish(volume)
        c.unstage(volume)
        c.delete(volume['volume_id'])


# ---- counters ----

def counters(c, tap):
    for daemon in (c.controller, c.node):
        start = len(daemon.log_text())
        daemon.process.send_signal(signal.SIGUSR1)
        wait_for(f'{daemon.name}: counters', lambda d=daemon, s=start: '"pools"' in d.log_text()[s:])
        text = daemon.log_text()[start:]
        line = re.search(r'"pool" pool="?default"? .*', text)
        tap.check(line and all(k in line.group(0) for k in ('total_mib=', 'free_mib=', 'available_mib=',
                                                            f'promised_mib={c.promised() // MIB}')),
                  f'{daemon.name} shows each pool in its counters', text)
    for daemon in (c.controller, c.node):
        text = daemon.log_text()
        said = {n: len(re.findall(f'"a pool is filling up" pool="?default"? .*threshold={n}', text)) for n in (80, 95)}
        print(f'# {daemon.name}: warnings by threshold: {said}')
        tap.check(said[95] >= 1 and max(said.values()) <= 3 and '"a pool has space again"' in text,
                  f'{daemon.name} said once per crossing that the pool fills up', said)


def main():
    tap, volumes = Tap(), {}
    c = TwoPools()
    c.install()
    c.start()
    tap.run('three volumes are promised more than the pool has', over_promise, c, volumes)
    tap.run('beyond the ratio: ran to its end', beyond, c, tap, volumes)
    volumes['hashes'] = hashes = run_full(c, tap, volumes)
    metadata_storm(c, tap, volumes)
    full_pool_calls(c, tap, volumes)
    space_back(c, tap, volumes, hashes)
    tap.run('a volume grows in the sparse pool, its image by nothing', grow, c, volumes, hashes)
    for name in ('a', 'b', 'c'):
        c.delete(volumes[name]['volume_id'])
    tap.check(c.promised() == 0 == c.all_images(), 'nothing is promised when all is deleted', c.promised())
    tap.run('discard=true: ran to its end', discard_true, c, tap)
    tap.run('xfs and btrfs: ran to its end', discard_others, c, tap)
    for pool in ('default', 'full'):
        tap.run(f'{pool} pool without discard: ran to its end', discard_false, c, tap, pool)
    refused_in_full(c, tap)
    tap.run('raw block: ran to its end', raw_block, c, tap)
    tap.run('counters: ran to its end', counters, c, tap)
    tap.run('all is gone at the end', demand_clean, c)
    c.stop()
    sh('umount', c.pool)
    tap.done()


main()
