# SPDX-License-Identifier: Apache-2.0
"""The calls that kill sweeps are made of, as Jobs (sweep.py), over one machine's volumes of one file system."""
import os

from files import write
from fixture import MIB
from sweep import Job, until_ok

SMALL = 32 * MIB
PLAIN = b'what was written before the kill\n' * 2000


class Machine:
    """Volumes for the jobs: one with data, one for raw block, one made anew for each point."""

    def __init__(self, coffer, fs='ext4', small=SMALL):
        self.c, self.fs, self.small, self.fresh, self.serial = coffer, fs, small, None, 0
        self.data, self.size = coffer.create(f'kill-{fs}', small, fs=fs), small
        self.block = coffer.create(f'kill-{fs}-block', SMALL, block=True)
        self.write_data()

    def write_data(self):
        self.c.stage(self.data)
        write(self.c.staging(self.data) + '/file', PLAIN)
        self.c.unstage(self.data)

    def demand_data(self, where):
        with open(where + '/file', 'rb') as f:
            if f.read() != PLAIN:
                raise RuntimeError('the data is not what was written')

    def end(self, tap):
        """After all that was done to its two volumes."""
        self.c.stage(self.data)
        tap.run('the data is as it was written', self.demand_data, self.c.staging(self.data))
        self.unstage()
        for volume in (self.data, self.block):
            self.c.delete(volume['volume_id'])
        tap.check(self.c.left_over() == {}, 'nothing is left over', self.c.left_over())

    # ---- states to start from, and back ----
    def staged(self):
        self.c.stage(self.data)

    def published(self):
        self.c.stage(self.data)
        self.c.publish(self.data)

    def unstage(self):
        until_ok(lambda: self.c.unstage(self.data))

    def take_down(self):
        until_ok(lambda: self.c.unpublish(self.data))
        self.unstage()

    def make_fresh(self):
        self.serial += 1
        self.fresh = self.c.create(f'kill-{self.fs}-fresh-{self.serial}', self.small, fs=self.fs)

    def make_fresh_block(self):
        self.serial += 1
        self.fresh = self.c.create(f'kill-fresh-{self.serial}', SMALL, block=True)

    def drop_fresh(self):
        until_ok(lambda: self.c.unstage(self.fresh))
        until_ok(lambda: self.c.delete(self.fresh['volume_id']))

    # ---- checks ----
    def check_fresh(self):
        if self.c.record(self.fresh)['state'] != 'ready' or not os.path.ismount(self.c.staging(self.fresh)):
            raise RuntimeError(f'the fresh volume is not staged: {self.c.record(self.fresh)["state"]}')
        with open(self.c.staging(self.fresh) + '/new', 'wb') as f:
            f.write(b'x')

    def check_fresh_block(self):
        if self.c.record(self.fresh)['state'] != 'ready' or self.c.mapping_bytes(self.fresh) != SMALL:
            raise RuntimeError(f'the fresh volume is not open: {self.c.record(self.fresh)["state"]}')

    def check_target(self):
        self.demand_data(self.c.target(self.data))

    def check_no_target(self):
        if os.path.exists(self.c.target(self.data)):
            raise RuntimeError('the target path is still there')

    def check_unstaged(self):
        if self.c.dm_name(self.data) in self.c.mappings():
            raise RuntimeError('the mapping is still there')

    def check_block(self):
        with open(self.c.target(self.block), 'rb') as f:
            if f.seek(0, os.SEEK_END) != SMALL:
                raise RuntimeError('the block device has not the size that was asked for')

    def take_down_block(self):
        until_ok(lambda: self.c.unpublish(self.block))
        until_ok(lambda: self.c.unstage(self.block))

    # ---- growing ----
    def grown_image(self):
        """published, with an image that is 4 MiB larger than the mapping"""
        self.size += 4 * MIB
        self.published()
        if self.c.expand == 'controller':
            self.c.controller_expand(self.data['volume_id'], self.size)

    def check_grown(self):
        s = os.statvfs(self.c.target(self.data))
        if s.f_blocks * s.f_frsize < self.size * 3 // 4 or self.c.record(self.data)['size'] != self.size:
            raise RuntimeError(f'the file system has {s.f_blocks * s.f_frsize} bytes of {self.size}')
        if self.c.mapping_bytes(self.data) != self.size:
            raise RuntimeError('the mapping has not the new size')
        self.check_target()

    # ---- controller ----
    def next_name(self):
        self.serial += 1

    def create_next(self):
        self.fresh = self.c.create(f'kill-{self.fs}-created-{self.serial}', self.small, fs=self.fs)

    def check_created(self):
        r = self.c.record(self.fresh)
        if r['state'] != 'new' or os.stat(self.c.image(self.fresh)).st_size != self.small + 4 * MIB:
            raise RuntimeError(f'the created volume is {r["state"]}')

    def delete_fresh(self):
        until_ok(lambda: self.c.delete(self.fresh['volume_id']))

    def check_deleted(self):
        if os.path.exists(self.c.place(self.fresh)):
            raise RuntimeError('the volume is still in the pool')

    def expand_fresh(self):
        self.c.controller_expand(self.fresh['volume_id'], self.small + 8 * MIB)

    def check_expanded(self):
        if self.c.record(self.fresh)['size'] != self.small + 8 * MIB:
            raise RuntimeError('the record has not the new size')
        if os.stat(self.c.image(self.fresh)).st_size != self.small + 12 * MIB:
            raise RuntimeError('the image has not the new size')


def nothing():
    pass


def node_jobs(m):
    c = m.c
    return [
        Job('stage of a new volume', m.make_fresh, lambda: c.stage(m.fresh), m.check_fresh, m.drop_fresh),
        Job('stage', nothing, lambda: c.stage(m.data), lambda: m.demand_data(c.staging(m.data)), m.unstage),
        Job('publish', m.staged, lambda: c.publish(m.data), m.check_target, m.take_down),
        Job('publish of raw block', lambda: c.stage(m.block, block=True), lambda: c.publish(m.block, block=True),
            m.check_block, m.take_down_block),
        Job('unpublish', m.published, lambda: c.unpublish(m.data), m.check_no_target, m.unstage),
        Job('unstage', m.staged, lambda: c.unstage(m.data), m.check_unstaged, nothing),
        expand_job(m),
    ]


def fresh_block_job(m):
    """For what fails in the formatting alone: the same stage without a file system, in a fraction of the time."""
    return Job('stage of a new raw block volume', m.make_fresh_block, lambda: m.c.stage(m.fresh, block=True), m.check_fresh_block,
               m.drop_fresh)


def expand_job(m):
    return Job(f'expand (--expand={m.c.expand})', m.grown_image, lambda: m.c.node_expand(m.data, m.size), m.check_grown,
               m.take_down)


def controller_jobs(m):
    return [
        Job('create', m.next_name, m.create_next, m.check_created, m.delete_fresh),
        Job('expand', m.make_fresh, m.expand_fresh, m.check_expanded, m.delete_fresh),
        Job('delete', m.make_fresh, lambda: m.c.delete(m.fresh['volume_id']), m.check_deleted, nothing),
    ]
