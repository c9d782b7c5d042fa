#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""unreadable: what can't be read is never taken for blank, and what is foreign is never overwritten. Zeroed and foreign
disks, I/O errors below header, data and record, a pool that is not mounted or is another one, a disk that is pulled out:
an error each, the image byte for byte unchanged; and afterwards the volume works, or is taken down cleanly."""
# story: disk=4G
import contextlib
import hashlib
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import luks2  # noqa: E402
from faultydisk import FaultyDisk, GoingDisk, drop_caches, extents, sh  # noqa: E402
from files import read, write  # noqa: E402
from fixture import GID, MIB, UID_CONTROLLER, CallError, Coffer  # noqa: E402
from luks2 import AREA, COPY  # noqa: E402
from records import NOBODY  # noqa: E402
from sweep import demand_clean  # noqa: E402
from tamper import PLAIN, SIZE, Victim  # noqa: E402
from tap import Tap, demand  # noqa: E402

# An I/O error is none of these: "there is no such volume", "done", "try another disk".
IO_ERRORS = ('INTERNAL', 'UNAVAILABLE', 'DATA_LOSS')


def digest(path):
    return hashlib.sha256(read(path)).hexdigest()


def edit(path, at, data):
    with open(path, 'r+b') as f:
        f.seek(at)
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


# ---- `ready`, and the disk holds something else ----

def foreign_disks(tap, v, other):
    table = [
        ('all zeros', lambda: edit(v.image, 0, bytes(SIZE + AREA))),
        ('a zeroed header area', lambda: edit(v.image, 0, bytes(AREA))),
        ('a plain ext4', lambda: sh('mkfs.ext4', '-q', '-F', '-E', 'nodiscard', v.image)),
        ('swap space', lambda: sh('mkswap', v.image)),
        ('another volume\'s bytes', lambda: edit(v.image, 0, read(other.image))),
    ]
    for name, tamper in table:
        tap.run(f'ready, and the disk holds {name}: refused, nothing changed', v.attack, tamper, 'DATA_LOSS', '')
    tap.run('the volume works when its bytes are back', v.works)


# ---- `new`, and the disk holds something ----

def refused_while_new(c, volume, code, word):
    """Stage is refused; the record still says `new`, nobody wrote to the image."""
    image, before = c.image(volume), digest(c.image(volume))
    try:
        c.stage(volume)
    except CallError as e:
        demand(e.code == code and word in e.message, f'{e} (expected {code}, "{word}")')
    else:
        raise RuntimeError('the stage succeeded')
    demand(c.record(volume)['state'] == 'new', f'the record says {c.record(volume)["state"]}')
    demand(digest(image) == before, 'the image changed')
    demand_clean(c)


def new_with_content(tap, c):
    volume = c.create('unreadable-new', SIZE)
    image = c.image(volume)
    stock = luks2.stock_format(c.root + '/scratch', NOBODY, b'x')
    table = [
        ('an ext4', lambda: sh('mkfs.ext4', '-q', '-F', '-E', 'nodiscard', image), 'ext4'),
        ('a LUKS2 header of another uuid', lambda: edit(image, 0, stock), 'crypto_LUKS'),
        ('swap space', lambda: sh('mkswap', image), 'swap'),
        ('one byte, the header area\'s last', lambda: edit(image, AREA - 1, b'\x01'), ''),
    ]
    for name, put, word in table:
        put()
        tap.run(f'new, and the disk holds {name}: never formatted', refused_while_new, c, volume, 'DATA_LOSS', word)
        edit(image, 0, bytes(AREA))
    tap.run('it is formatted when the disk is blank', lambda: (c.stage(volume), c.unstage(volume), demand_clean(c)))
    c.delete(volume['volume_id'])


# ---- I/O errors below the pool ----

def refused_by_error(v, disk, ranges):
    """Stage fails while these bytes can't be read; image and record are what they were."""
    before, record = digest(v.image), read(v.record_path)
    with disk.hurt(ranges):
        v.demand_refused(IO_ERRORS, '')
        demand_clean(v.c)
    demand(digest(v.image) == before, 'the image changed')
    demand(read(v.record_path) == record, 'the record changed')


def errors_at_stage(tap, v, disk):
    table = [('both metadata areas', 0, 2 * COPY), ('the keyslots', 2 * COPY, AREA - 2 * COPY), ('the whole header', 0, AREA),
             ('the file system\'s superblock', AREA, MIB)]
    for name, start, length in table:
        tap.run(f'ready, and {name} can\'t be read: an error, nothing changed', refused_by_error, v, disk,
                extents(v.image, start, length))
    tap.run('the volume works when the disk does', v.works)


def unread_new(c, disk, state):
    """`new` and `formatting` may be formatted; not when the disk can't be read."""
    volume = c.create('unreadable-' + state, SIZE)
    path = c.place(volume) + '/record.json'
    if state != 'new':
        edited = {**json.loads(read(path)), 'state': state}
        write(path, json.dumps(edited).encode())
    edit(c.image(volume), 0, bytes(AREA))  # reserved space that was never written reads as zero without the disk
    before = digest(c.image(volume))
    with disk.hurt(extents(c.image(volume), MIB, 64 << 10)):
        try:
            c.stage(volume)
        except CallError as e:
            demand(e.code in IO_ERRORS, f'{e}')
        else:
            raise RuntimeError('the stage succeeded')
        demand_clean(c)
    demand(c.record(volume)['state'] == state, f'the record says {c.record(volume)["state"]}')
    demand(digest(c.image(volume)) == before, 'the image changed')
    c.stage(volume)
    c.unstage(volume)
    c.delete(volume['volume_id'])
    demand_clean(c)


def unread_record(v, disk):
    """A record that can't be read is neither "no volume" nor "deleted", for nobody."""
    c, before, record = v.c, digest(v.image), read(v.record_path)
    calls = [('stage', lambda: c.stage(v.volume)), ('create', lambda: c.create(v.name, SIZE, parameters={'tenant': 'lab'})),
             ('delete', lambda: c.delete(v.id)), ('expand', lambda: c.controller_expand(v.id, SIZE + MIB))]
    with disk.hurt(extents(v.record_path)):
        for name, call in calls:
            try:
                call()
            except CallError as e:
                # The volume is there: after a final code its creator would make another one elsewhere.
                codes = ('ABORTED',) if name == 'create' else IO_ERRORS
                demand(e.code in codes and 'Input/output error' in e.message, f'{name}: {e}')
            else:
                raise RuntimeError(f'{name} succeeded')
        c.unstage(v.volume)
        demand_clean(c)
    demand((digest(v.image), read(v.record_path)) == (before, record), 'image or record changed')
    v.works()


def errors_while_staged(v, disk):
    """Writes fail, teardown works, and what was flushed before is there afterwards."""
    c = v.c
    c.stage(v.volume)
    c.publish(v.volume)
    write(c.target(v.volume) + '/flushed', PLAIN)
    with disk.hurt(extents(v.image, AREA)):
        with contextlib.suppress(OSError):
            write(c.target(v.volume) + '/lost', PLAIN)
            drop_caches()
            raise RuntimeError('a write to a failing disk was flushed')
        c.unpublish(v.volume)
        c.unstage(v.volume)
        demand_clean(c)
    c.stage(v.volume)
    demand(read(c.staging(v.volume) + '/flushed') == PLAIN, 'flushed data is lost')
    v.demand_data()
    c.unstage(v.volume)
    demand_clean(c)


# ---- the pool ----

def calls_without_pool(c, v):
    controller = c.controller_socket
    return [('create', lambda: c.create('unreadable-nowhere', SIZE)),
            ('create again', lambda: c.create(v.name, SIZE, parameters={'tenant': 'lab'})),
            ('delete', lambda: c.delete(v.id)),
            ('expand', lambda: c.controller_expand(v.id, SIZE + MIB)),
            ('list', lambda: c.call(controller, 'csi.v1.Controller/ListVolumes', {})),
            ('capacity', lambda: c.call(controller, 'csi.v1.Controller/GetCapacity', {})),
            ('stage', lambda: c.stage(v.volume))]


def tree(path):
    return sorted((folder, tuple(files)) for folder, _, files in os.walk(path))


def without_pool(c, v, mounted):
    """Each call says so and makes nothing where the pool ought to be."""
    before = tree(c.pool)
    for name, call in calls_without_pool(c, v):
        try:
            call()
        except CallError as e:
            demand(e.code in ('UNAVAILABLE', 'PRECONDITION') and 'pool' in e.message, f'{name}, {mounted}: {e}')
        else:
            raise RuntimeError(f'{name} succeeded with {mounted}')
    demand(tree(c.pool) == before, f'something was made with {mounted}')
    demand_clean(c)


def other_pool(c, disk):
    """Another pool's file system at this pool's place."""
    sh('mount', '-t', 'tmpfs', '-o', f'mode=0700,uid={UID_CONTROLLER},gid={GID}', 'tmpfs', disk.where)
    c.cofferctl('pool', 'init', 'default', uid=UID_CONTROLLER)


def pool_gone(tap, v, disk):
    c = v.c
    disk.unmount()
    try:
        tap.run('pool not mounted: every call says so', without_pool, c, v, 'an empty directory')
        other_pool(c, disk)
        try:
            tap.run('another pool mounted there: every call says so', without_pool, c, v, 'another pool')
            c.node.stop()
            c.start_node()
            tap.run('the same for a node that starts with the other pool', without_node, v)
        finally:
            sh('umount', disk.where)
    finally:
        disk.mount()
    c.node.stop()
    c.start_node()
    tap.run('the volume works when its pool is back', v.works)


def without_node(v):
    v.demand_refused(('UNAVAILABLE', 'PRECONDITION'), 'pool')
    demand_clean(v.c)


def pool_lost_while_staged(v, disk):
    """Its directory is taken away under a staged volume: data is there, and teardown needs no pool."""
    c = v.c
    c.stage(v.volume)
    c.publish(v.volume)
    sh('umount', '-l', disk.where)
    try:
        v.demand_data(c.target(v.volume))
        c.unpublish(v.volume)
        c.unstage(v.volume)
        demand(not c.mappings() and not c.mounts() and not c.device_nodes(), f'left over: {c.left_over()}')
    finally:
        disk.mount()
    v.works()
    demand_clean(c)


# ---- a disk that is pulled out ----

def dead_mapping(c, disk):
    """A mapping of our name whose own disk is gone is reaped, and the volume opens over its image."""
    volume = c.create('unreadable-zombie', SIZE)
    c.stage(volume)
    write(c.staging(volume) + '/file', PLAIN)
    c.unstage(volume)
    name, uuid = c.dm_name(volume), c.record(volume)['uuid'].replace('-', '')
    table = f'0 65536 crypt aes-xts-plain64 {"5a" * 64} 0 {disk.number()} 8192 1 sector_size:4096'
    sh('dmsetup', 'create', name, '--uuid', f'CRYPT-LUKS2-{uuid}-{name}', '--table', table)
    disk.pull()
    c.stage(volume)
    demand(read(c.staging(volume) + '/file') == PLAIN, 'the data is not what was written')
    c.unstage(volume)
    demand_clean(c)
    c.delete(volume['volume_id'])


def dead_pool(root, tap):
    """The disk below a pool goes while a volume is in use: writes fail, teardown works, nothing stays."""
    c = Coffer(root)
    disk = GoingDisk(256)
    os.makedirs(c.pool)
    sh('mkfs.ext4', '-q', '-F', disk.device)
    sh('mount', disk.device, c.pool)
    c.install()
    c.start()
    v = Victim(c, 'unreadable-dead-pool')
    c.stage(v.volume)
    c.publish(v.volume)
    disk.pull()

    def write_fails():
        try:
            write(c.target(v.volume) + '/lost', PLAIN)
        except OSError:
            return
        raise RuntimeError('a write to a disk that is gone was flushed')

    def teardown():
        c.unpublish(v.volume)
        c.unstage(v.volume)
        demand(not c.mappings() and not c.mounts() and not c.device_nodes(), f'left over: {c.left_over()}')
    tap.run('the pool\'s disk is pulled out: writes fail', write_fails)
    tap.run('unpublish and unstage work without the disk', teardown)
    tap.expect_error('a stage says that the pool is gone', ('UNAVAILABLE', 'INTERNAL'), c.stage, v.volume)
    tap.expect_error('a create says so', ('UNAVAILABLE', 'INTERNAL'), c.create, 'unreadable-nowhere', SIZE)
    c.stop()
    sh('umount', '-l', c.pool)
    sh('rmmod', 'scsi_debug')


def main():
    tap = Tap()
    c = Coffer(fault=True)
    disk = FaultyDisk(os.environ['COFFER_SCRATCH'] + '/disk', 1 << 30, c.pool)
    c.install()
    c.start()
    v, other = Victim(c, 'unreadable-ready'), Victim(c, 'unreadable-other')
    foreign_disks(tap, v, other)
    new_with_content(tap, c)
    errors_at_stage(tap, v, disk)
    for state in ('new', 'formatting'):
        tap.run(f'{state}, and the disk can\'t be read: never formatted', unread_new, c, disk, state)
    tap.run('a record that can\'t be read is an error in every call', unread_record, v, disk)
    tap.run('I/O errors while staged: writes fail, teardown works, flushed data stays', errors_while_staged, v, disk)
    pool_gone(tap, v, disk)
    tap.run('the pool\'s directory goes while staged: teardown works', pool_lost_while_staged, v, disk)
    try:
        going = GoingDisk(128)
    except subprocess.CalledProcessError as e:
        reason = f'no scsi_debug module ({e.stderr.strip()})'
        tap.skip('a mapping whose disk is gone', reason)
        tap.skip('a pool whose disk is gone', reason)
    else:
        tap.run('a mapping whose disk is gone is reaped by stage', dead_mapping, c, going)
        sh('rmmod', 'scsi_debug')
    c.stop()
    if 'going' in locals():
        dead_pool(os.environ['COFFER_SCRATCH'] + '/second', tap)
    disk.close()
    tap.done()


main()
