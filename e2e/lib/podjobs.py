# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at every fault point of coffer-node in the calls of volumes that pods open (podcoffer.py), for the story vault-tenant:
the same call again, or given up as when the pod was deleted. killed(world, tap)."""
import os
import time

from fixture import MIB, CallError
from jobs import nothing
from tap import demand
from sweep import FaultKiller, Job, demand_clean, outcome, sampled, sweep, until_ok


class Machine:
    def __init__(self, world):
        self.world, self.c, self.pods = world, world.c, world.pods
        self.fresh, self.serial, self.size = None, 0, self.world.size
        self.data = world.staged('killed')
        self.publish()
        world.write(self.data)
        self.unpublish()

    def publish(self, n=0):
        self.c.publish_as(self.data, self.pods.token(), n)

    def unpublish(self, n=0):
        until_ok(lambda: self.c.unpublish(self.data, n))

    def both(self):
        self.publish(0)
        self.publish(1)

    def check(self, n=0):
        self.world.read(self.data, n)

    def check_closed(self):
        demand(self.c.dm_name(self.data) not in self.c.mappings(), self.c.left_over())
        demand(not os.path.exists(self.c.target(self.data)), 'the target path is still there')

    def make_fresh(self):
        self.serial += 1
        self.fresh = self.world.staged(f'killed-{self.serial}')

    def check_fresh(self):
        demand(self.c.record(self.fresh)['state'] == 'ready' and os.path.ismount(self.c.target(self.fresh)), 'not published')

    def drop_fresh(self):
        until_ok(lambda: self.c.unpublish(self.fresh))
        until_ok(lambda: self.c.unstage(self.fresh))
        until_ok(lambda: self.c.delete(self.fresh['volume_id']))

    def to_grow(self):
        self.publish()
        self.size += 4 * MIB
        self.c.controller_expand(self.data['volume_id'], self.size)
        said = outcome(lambda: self.c.node_expand(self.data, self.size))
        demand('UNAVAILABLE' in said, said)

    def check_grown(self):
        demand(self.c.mapping_bytes(self.data) == self.size, 'the mapping has not the new size')
        self.check()

    def publish_to_grow(self):
        """Until it has grown: what failed while it was published already is only logged."""
        self.publish()
        end = time.monotonic() + 60
        while self.c.mapping_bytes(self.data) != self.size and time.monotonic() < end:
            self.publish()
        demand(self.c.mapping_bytes(self.data) == self.size, self.c.node.log_text()[-3000:])
        self.c.node_expand(self.data, self.size)

    def jobs(self):
        return [
            Job('first publish of a new volume', self.make_fresh, lambda: self.c.publish_as(self.fresh, self.pods.token()),
                self.check_fresh, self.drop_fresh),
            Job('first publish', nothing, self.publish, self.check, self.unpublish),
            Job('second publish', self.publish, lambda: self.publish(1), lambda: self.check(1),
                lambda: (self.unpublish(), self.unpublish(1))),
            Job('publish that grows', self.to_grow, self.publish_to_grow, self.check_grown, self.unpublish),
            Job('last unpublish', self.publish, lambda: self.c.unpublish(self.data), self.check_closed, nothing),
            Job('unpublish before the last', self.both, lambda: self.c.unpublish(self.data), lambda: self.check(1),
                lambda: self.unpublish(1)),
        ]


def given_up(world, tap, m, killer):
    """Killed, and the pod is deleted; or its place is taken by one that Vault refuses."""
    c = world.c

    def unpublished():
        m.unpublish()
        until_ok(lambda: c.unstage(m.data))

    def refused_next():
        try:
            until_ok(lambda: c.publish_as(m.data, world.pods.token('team-b'), 1))
        except CallError as e:
            demand(e.code == 'PERMISSION', str(e))
        else:
            raise RuntimeError("team-b's pod has the volume")
        m.unpublish()

    points = killer.record(m.publish)
    m.unpublish()
    for name, then in (('then unpublished and unstaged', unpublished), ('then team-b\'s pod is refused', refused_next)):
        for point in sampled(points):
            def one(at=point, act=then):
                demand(killer.strike(at, m.publish), f'not reached: {killer.said}')
                act()
                demand_clean(c)
                c.stage(m.data)
            tap.run(f'first publish killed at {point[0]} {point[1]}, {name}: nothing is left', one)


def killed(world, tap):
    m = Machine(world)
    killer = FaultKiller(world.c, 'coffer-node')
    swept = [sweep(tap, world.c, job, killer) for job in m.jobs()]
    print(f'# kill sweep: {sum(s[0] for s in swept)} of {sum(s[1] for s in swept)} points swept', flush=True)
    given_up(world, tap, m, killer)
    tap.run('no token of a pod lives on in Vault', world.revoked)
    world.drop(m.data)
