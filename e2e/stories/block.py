#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""block: what is different for raw block volumes. A first stage that is read-only, killed at every step; a published
device whose mapping died or is gone, while its number waits for the next volume; read-only that means it."""
import errno
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from fixture import MIB, Coffer  # noqa: E402
from sweep import FaultKiller, Job, demand_clean, sweep, until_ok  # noqa: E402
from tap import Tap, demand  # noqa: E402

SIZE = 16 * MIB
READER = {'mode': 'SINGLE_NODE_READER_ONLY'}
SECRET = b'the next volume\'s own data'


def dm(*args):
    return subprocess.run(['dmsetup', *args], check=True, capture_output=True, text=True).stdout


class Machine:
    """The sweep's job: a new volume for each point, whose first stage is read-only."""

    def __init__(self, coffer):
        self.c, self.fresh, self.serial = coffer, None, 0

    def make(self):
        self.serial += 1
        self.fresh = self.c.create(f'block-fresh-{self.serial}', SIZE, block=True)

    def stage(self):
        self.c.stage(self.fresh, block=True, **READER)

    def check(self):
        name = self.c.dm_name(self.fresh)
        demand(self.c.record(self.fresh)['state'] == 'ready', 'the volume is not ready')
        demand('L--r' in dm('info', '--columns', '--noheadings', '-o', 'attr', name), 'the mapping is not read-only')

    def drop(self):
        until_ok(lambda: self.c.unstage(self.fresh))
        until_ok(lambda: self.c.delete(self.fresh['volume_id']))


def published(c, name):
    volume = c.create(name, SIZE, block=True)
    c.stage(volume, block=True)
    c.publish(volume, block=True)
    return volume


def first_bytes(path):
    try:
        with open(path, 'rb') as f:
            return f.read(len(SECRET))
    except OSError as e:
        return errno.errorcode[e.errno]


def dead_mapping(c, tap):
    """A pod has the device, not open now, when the mapping dies; then the volume is staged again, and another one."""
    victim, other = published(c, 'block-dead'), c.create('block-next', SIZE, block=True)
    name = c.dm_name(victim)
    dm('suspend', '--noflush', name)
    dm('load', name, '--table', f'0 {SIZE // 512} error')
    dm('resume', name)
    c.keyd.stop()  # else the same call would take the number again
    tap.expect_error('a dead mapping that a target still shows is not removed', 'ABORTED', lambda: c.stage(victim, block=True),
                     word=c.target(victim))
    c.start_keyd()
    c.stage(other, block=True)
    c.publish(other, block=True)
    with open(c.target(other), 'r+b') as f:
        f.write(SECRET)
    seen = first_bytes(c.target(victim))
    tap.check(seen != SECRET, 'the old target never shows the next volume', seen)
    for volume in (victim, other):
        tap.run(f'{volume["volume_id"][:12]}: teardown works', lambda v=volume: (c.unpublish(v), c.unstage(v)))
    tap.run('nothing is left of the dead mapping', demand_clean, c)


def lost_mapping(c):
    """The mapping went away below its target (an administrator, a deferred removal): teardown works all the same."""
    volume = published(c, 'block-lost')
    dm('remove', c.dm_name(volume))
    c.unpublish(volume)
    demand(not os.path.lexists(c.target(volume)), 'the target is still there')
    c.unstage(volume)
    demand_clean(c)


def lost_mapping_number_reused(c, tap):
    volume, other = published(c, 'block-lost-2'), c.create('block-reuser', SIZE, block=True)
    number = os.stat(c.target(volume)).st_rdev
    dm('remove', c.dm_name(volume))
    tap.expect_error('a number that the target of a lost mapping shows is not used', 'ABORTED',
                     lambda: c.stage(other, block=True), word=c.target(volume))
    dm('create', 'foreign', '--major', str(os.major(number)), '--minor', str(os.minor(number)), '--table', '0 8 zero')
    tap.run('a target of a lost mapping is taken away when its number is somebody else\'s', c.unpublish, volume)
    dm('remove', 'foreign')
    tap.run('and then the number is free', lambda: (c.stage(other, block=True), c.unstage(other)))
    c.unstage(volume)
    demand_clean(c)


def read_only(c, tap):
    volume = c.create('block-ro', SIZE, block=True)
    c.stage(volume, block=True)
    tap.expect_error('a read-only target of a writable raw block volume is refused', 'PRECONDITION',
                     lambda: c.publish(volume, block=True, readonly=True), word='read-only')
    c.unstage(volume)
    c.stage(volume, block=True, **READER)
    c.publish(volume, block=True, readonly=True, **READER)
    try:
        with open(c.target(volume), 'r+b') as f:
            f.write(b'x')
        tap.check(False, 'a read-only raw block volume can not be written to', 'the write passed')
    except OSError as e:
        tap.check(e.errno in (errno.EACCES, errno.EPERM, errno.EROFS), 'a read-only raw block volume can not be written to', e)
    c.unpublish(volume)
    c.unstage(volume)
    demand_clean(c)


def grow_read_only(c):
    """A mapping that grows stays read-only."""
    volume = c.create('block-grow', SIZE, block=True)
    c.stage(volume, block=True, **READER)
    c.controller_expand(volume['volume_id'], SIZE + 4 * MIB)
    c.node_expand(volume, SIZE + 4 * MIB, c.staging(volume))
    columns = dm('info', '--columns', '--noheadings', '-o', 'attr', c.dm_name(volume))
    demand('L--r' in columns, f'the mapping is not read-only: {columns}')
    demand(dm('table', c.dm_name(volume)).split()[1] == str((SIZE + 4 * MIB) // 512), 'the mapping did not grow')
    c.unstage(volume)
    demand_clean(c)


def two_staging_paths(c, tap):
    volume = c.create('block-not', 32 * MIB)
    c.stage(volume)
    first = c.kubelet + '/stage-again'
    os.makedirs(first)

    def again():
        c.call(c.node_socket, 'csi.v1.Node/NodeStageVolume', {
            'volume_id': volume['volume_id'], 'staging_target_path': first, 'volume_context': volume['volume_context'],
            'volume_capability': c.capability()})
    tap.expect_error('a second staging path is refused by the name of the first', 'PRECONDITION', again, word=c.staging(volume))
    demand(not os.path.ismount(first) and os.path.ismount(c.staging(volume)), 'the mounts are not as before')
    c.unstage(volume)
    demand_clean(c)


def main():
    tap = Tap()
    c = Coffer(fault=True)
    c.install()
    c.start()
    for test in (dead_mapping, lost_mapping_number_reused, read_only, two_staging_paths):
        tap.run(f'{test.__name__}: ran to its end', test, c, tap)
    tap.run('a published device whose mapping is gone can be unpublished', lost_mapping, c)
    tap.run('a read-only raw block volume grows and stays read-only', grow_read_only, c)
    m = Machine(c)
    sweep(tap, c, Job('first stage of raw block, read-only', m.make, m.stage, m.check, m.drop), FaultKiller(c, 'coffer-node'))
    c.stop()
    tap.done()


main()
