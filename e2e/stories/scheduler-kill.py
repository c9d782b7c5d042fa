#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scheduler-kill: SIGKILL at every fault point that coffer-scheduler, coffer-launch, coffer-node and coffer-crypt pass while a cloud is
created, mounted, locked, unlocked and deleted; then the same request again until it is so. Points come from recorded runs. After each:
one volume, one VM, the user's text as written, and nothing left behind."""
# story: disk=8G needs=vault memory=3072M
import contextlib
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import cloudrig  # noqa: E402
import vaultserver  # noqa: E402
from clouddevice import Api, Refused, want  # noqa: E402
from fixture import wait_for  # noqa: E402
from sweep import ONLY, FaultKiller, Job, asked_for, each, recorded, sampled  # noqa: E402
from tap import demand  # noqa: E402

PATIENCE = 900
PROGRAMS = ('coffer-scheduler', 'coffer-launch', 'coffer-node', 'coffer-crypt')


class Killer(FaultKiller):
    """Kills one of the rig's programs when it passes a point for the first time, and starts it again at once if it serves."""

    def __init__(self, rig, program):
        super().__init__(rig.c, program)
        self.rig = rig

    def daemon(self):
        return {'coffer-scheduler': self.rig.scheduler, 'coffer-launch': self.rig.launch, 'coffer-node': self.rig.c.node}.get(self.program)

    def start_again(self):
        {'coffer-scheduler': self.rig.start_scheduler, 'coffer-launch': self.rig.start_launch,
         'coffer-node': self.rig.c.start_node}[self.program]()

    def record(self, call):
        """Each point once: where the same code runs again, it is killed at its first time."""
        first = {}
        for n, name in super().record(call):
            first.setdefault(name, n)
        return [(n, name) for name, n in first.items()]

    def revive(self, seconds=0.0):
        """Starts it again if it is dead, and says so; a helper of one request has nothing to be started. Waits so long for its death."""
        end = time.monotonic() + seconds
        while (daemon := self.daemon()) and daemon.alive() and time.monotonic() < end:
            time.sleep(0.01)
        if daemon and not daemon.alive():
            daemon.process.wait()
            self.start_again()
            return True
        return False

    def strike(self, point, call):
        """True when it was killed there, once: what runs later passes later points."""
        self.arm(f'kill {point[0]}')
        thread = threading.Thread(target=self.attempt, args=(call,), daemon=True)
        thread.start()
        while thread.is_alive() and len(self.trace()) < point[0]:
            time.sleep(0.01)
        struck = len(self.trace()) >= point[0]
        if struck and self.daemon():
            # coffer-launch serves on where a child of it was killed; of coffer-crypt nothing is seen here
            struck = self.revive(2.0 if self.program == 'coffer-launch' else 60.0) or self.program == 'coffer-launch'
        thread.join()
        self.disarm()
        self.revive()
        return struck

    def attempt(self, call):
        try:
            self.said = str(call())
        except (OSError, Refused, RuntimeError) as e:  # no answer, or another one
            self.said = repr(e)


class Clouds:
    """The states that jobs start from, and the ways back."""

    def __init__(self, rig):
        self.rig, self.api, self.fresh, self.lent = rig, Api('unix://' + rig.api_socket), None, None
        self.killed = False
        self.old = rig.user('old', api=self.api)
        self.reach(self.old, lambda: self.old.create(), 'attached')
        rig.store.put(self.old.opened().body['url'], 'note', 'what was written before the kill')
        self.lock()

    @staticmethod
    def reach(user, request, state):
        """The same request until find says so: what a client repeats is repeated, nothing else."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                answer = request()
                if answer.status not in (200, 202, 404, 409, 503, 504):
                    raise Refused(answer, 'what may be repeated')
                found = user.settle(PATIENCE)
                if found.state == state:
                    return found
            except OSError as e:
                answer = found = e
            if time.monotonic() > end:
                raise RuntimeError(f'never {state}: {answer}; {found}')
            time.sleep(0.2)

    # ---- create, delete

    def new_user(self):
        self.fresh = self.rig.user('fresh', api=self.api)
        self.lent = self.fresh.seed()

    def create(self):
        return self.reach(self.fresh, lambda: self.fresh.ask('POST', '/deploy', self.lent), 'attached')

    def created(self):
        self.new_user()
        self.create()

    def check_created(self):
        demand(self.rig.census(self.fresh.device.id) == (1, 1), self.rig.census(self.fresh.device.id))
        self.rig.store.put(self.fresh.opened().body['url'], 'note', 'new')

    def roll_back(self):
        """With a program that ends at once as VM."""
        return self.reach(self.fresh, lambda: self.fresh.ask('POST', '/deploy', self.lent), 'failure')

    def check_rolled_back(self):
        """An opened volume outlives a kill of coffer-scheduler: nobody knows later that it wasn't written to. Its user deletes it."""
        records = self.rig.c.records(self.fresh.device.id)
        demand(not records or self.killed and records[0]['state'] == 'ready', records)
        if records:
            self.delete()
        self.check_deleted()

    def delete(self):
        return self.reach(self.fresh, self.fresh.delete, 'nonexistent')

    def check_deleted(self):
        demand(self.rig.census(self.fresh.device.id) == (0, 0), self.rig.census(self.fresh.device.id))

    # ---- mount, lock, unlock

    def lend(self):
        self.lent = self.old.session()

    def mount(self):
        return self.reach(self.old, lambda: self.old.ask('POST', '/mount', self.lent), 'attached')

    def unlock(self):
        return self.reach(self.old, lambda: self.old.ask('POST', '/unlock', self.lent), 'attached')

    def mounted(self):
        self.lend()
        self.mount()

    def vm_dead(self):
        """Its volume is still open."""
        self.mounted()
        self.lend()
        for pid in self.rig.vm_pids(self.old.device.id):
            os.kill(pid, 9)
        self.old.until('failure')

    def check_mounted(self):
        demand(self.rig.census(self.old.device.id) == (1, 1), self.rig.census(self.old.device.id))
        text = self.rig.store.get(self.old.opened().body['url'], 'note')
        demand(text == 'what was written before the kill', text)

    def lock(self):
        return self.reach(self.old, self.old.lock, 'detached')

    def check_locked(self):
        self.rig.demand_clean()
        demand(self.rig.census(self.old.device.id) == (1, 0), self.rig.census(self.old.device.id))

    def jobs(self):
        return (Job('create', self.new_user, self.create, self.check_created, self.delete),
                Job('mount', self.lend, self.mount, self.check_mounted, self.lock),
                Job('lock', self.mounted, self.lock, self.check_locked, lambda: None),
                Job('unlock of a dead VM', self.vm_dead, self.unlock, self.check_mounted, self.lock),
                Job('delete', self.created, self.delete, self.check_deleted, lambda: None))


def rollback(clouds):
    return Job('create whose VM never runs', clouds.new_user, clouds.roll_back, clouds.check_rolled_back, lambda: None)


def one_point(clouds, job, killer, point):
    job.before()
    if not killer.strike(point, job.call):
        raise RuntimeError(f'the point was not reached; the call said: {killer.said}')
    clouds.killed = killer.program == 'coffer-scheduler'
    job.call()
    job.check()
    job.after()
    clouds.rig.demand_clean()


def recover(clouds, job):
    """After a failed point: as clean as can be, so that the next one says something of its own."""
    for program in PROGRAMS:
        Killer(clouds.rig, program).disarm()
        Killer(clouds.rig, program).revive()
    each(job.after, clouds.lock, clouds.rig.demand_clean)


def sweep(tap, clouds, job, killer):
    found, what = [], f'{killer.program} in {job.name}'
    clouds.killed = False
    if not tap.run(f'{what}: points are recorded', lambda: found.extend(recorded(job, killer, clouds.rig.demand_clean))):
        recover(clouds, job)
        return 0, 0
    chosen = sampled(found)
    print(f'# {what}: {len(found)} points, {len(chosen)} swept: {" ".join(name for _, name in found)}', flush=True)
    for point in chosen:
        if not tap.run(f'{what}, killed at {point[1]}', one_point, clouds, job, killer, point):
            recover(clouds, job)
    return len(chosen), len(found)


# a program that a job doesn't need isn't asked for points
NEEDED = {'lock': PROGRAMS, 'create': PROGRAMS, 'mount': PROGRAMS, 'delete': PROGRAMS, 'unlock of a dead VM': PROGRAMS[:2]}


def story(vault, folder, tap):
    swept = []
    with cloudrig.rig(vault, folder) as r:
        clouds = Clouds(r)
        for job in clouds.jobs():
            for program in NEEDED[job.name]:
                if asked_for(f'{program} in {job.name}'):
                    swept.append(sweep(tap, clouds, job, Killer(r, program)))
        if asked_for('never'):
            r.write_launch(['/bin/false'])
            r.restart_launch()
            for program in PROGRAMS[:2]:
                swept.append(sweep(tap, clouds, rollback(clouds), Killer(r, program)))
        want(clouds.old.delete(), 202)
        clouds.old.until('nonexistent')
        with contextlib.suppress(RuntimeError):
            wait_for('nothing is left over', lambda: not r.left_over() and not r.c.records(), 300)
        left = r.left_over(), [record['name'] for record in r.c.records()]
        tap.check(left == ({}, []), 'in the end nothing is left', left)
        print(f'# kill sweep: {sum(s[0] for s in swept)} of {sum(s[1] for s in swept)} points swept')
        tap.check(ONLY or sum(s[1] for s in swept) >= 30, 'at least 30 points were found', swept)


vaultserver.main('scheduler-kill', 'its storage is one of the rig\'s', story)
