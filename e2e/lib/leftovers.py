# SPDX-License-Identifier: Apache-2.0
"""What can be left over on a node, made on purpose: one function each. Each returns what `node reconcile` must say:
(kind, word in `what`, action, word in `why`)."""
import os
import subprocess

from files import write
from fixture import MIB

SIZE = 32 * MIB


def run(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def dm_uuid(c, volume):
    return 'CRYPT-LUKS2-' + c.record(volume)['uuid'].replace('-', '') + '-' + c.dm_name(volume)


def dead_mapping(c, name):
    """What SIGKILL inside open leaves: a device of our name without a table."""
    volume = c.create(name, SIZE)
    run('dmsetup', 'create', c.dm_name(volume), '--uuid', dm_uuid(c, volume), '--notable')
    return volume, ('mapping', c.dm_name(volume), 'reap', 'no live table')


def mapping_without_mount(c, name):
    volume = c.create(name, SIZE)
    c.stage(volume)
    write(c.staging(volume) + '/file', b'kept')
    run('umount', c.staging(volume))
    return volume, ('mapping', c.dm_name(volume), 'reap', 'nothing is mounted')


def orphan_loop(c, name):
    volume = c.create(name, SIZE)
    loop = run('losetup', '--find', '--show', c.image(volume))
    return volume, ('loop', loop, 'detach', 'no mapping')


def stale_node(c, name):
    volume = c.create(name, SIZE)
    os.makedirs(c.made_device_dir, exist_ok=True)
    os.mknod(os.path.join(c.made_device_dir, c.dm_name(volume)), 0o60600, os.makedev(252, 1000))
    return volume, ('node', c.dm_name(volume), 'unlink', 'no device')


def dead_block_mount(c, name):
    """A published raw block volume whose mapping somebody removed: nothing holds it open."""
    volume = c.create(name, SIZE, block=True)
    c.stage(volume, block=True)
    c.publish(volume, block=True)
    run('dmsetup', 'remove', c.dm_name(volume))
    return volume, ('mount', c.target(volume), 'unmount', 'no device')


SAFE = (dead_mapping, mapping_without_mount, orphan_loop, stale_node, dead_block_mount)


# ---- what must be left alone ----

def read_only_loop(c, name):
    volume = c.create(name, SIZE)
    loop = run('losetup', '--find', '--show', '--read-only', c.image(volume))
    return volume, ('loop', loop, 'none', f'losetup -d {loop}')


def open_dead_mapping(c, name):
    """Its table is an error target, and its file system is still mounted."""
    volume = c.create(name, SIZE)
    c.stage(volume)
    run('dmsetup', 'wipe_table', '--noflush', '--nolockfs', c.dm_name(volume))
    return volume, ('mapping', c.dm_name(volume), 'none', f'mounted at \'{c.staging(volume)}\'')


def mapping_without_record(c, name):
    volume = c.create(name, SIZE)
    c.stage(volume)
    write(c.staging(volume) + '/file', b'kept')
    os.rename(c.place(volume) + '/record.json', c.root + '/taken.json')
    return volume, ('mapping', c.dm_name(volume), 'none', 'record restore')


def mapping_of_another_pool(_c, name):
    name = 'coffer-' + '0' * 32 + '-' + (name.encode().hex() * 8)[:8]
    run('dmsetup', 'create', name, '--notable')
    return name, ('mapping', name, 'none', 'no pool')


def foreign_file(c, name):
    os.makedirs(c.made_device_dir, exist_ok=True)
    write(os.path.join(c.made_device_dir, name), b'x')
    return name, ('node', name, 'none', 'somebody else')


LEAVE = (read_only_loop, open_dead_mapping, mapping_without_record, mapping_of_another_pool, foreign_file)
