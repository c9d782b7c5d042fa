#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""soak: 2,000 rounds of stage, write, read back, unstage by 8 workers, and meanwhile coffer-node and coffer-keyd are killed at random.
What each round wrote the next one reads. In the end nothing is left over, and no daemon has more descriptors, threads, children or
memory than in the beginning. The killing is in the second quarter: a process of each lives through the first one, and another through
the second half. (A killed one is a young one: its stacks and its heap haven't had their pages yet, so it can't be compared with.)"""
# story: disk=4G memory=1536M
import concurrent.futures
import itertools
import os
import random
import statistics
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from fixture import MIB, Coffer  # noqa: E402
from procfigures import Figures  # noqa: E402
from sweep import SAMPLE, demand_clean, until_ok  # noqa: E402
from tap import Tap, demand  # noqa: E402

ROUNDS, WORKERS = max(2000 // SAMPLE, 80), 8
KILLS = max(30 // SAMPLE, 4)  # of each daemon
MARGIN = 1.05
DAEMONS = ('coffer-node', 'coffer-keyd', 'coffer-controller')


class Worker:
    """Two volumes, one with a file system and one raw, taken in turns: what was written is known by the round's number."""

    def __init__(self, c, number):
        self.c, self.mounted = c, c.create(f'soak-{number}', 32 * MIB)
        self.raw = c.create(f'soak-raw-{number}', 32 * MIB, block=True)
        self.last = {'mounted': None, 'raw': None}

    def round(self, n):
        if n // WORKERS % 4 == 3:
            self.once('raw', self.raw, n, block=True)
        else:
            self.once('mounted', self.mounted, n)

    def once(self, kind, volume, n, **how):
        c = self.c
        until_ok(lambda: c.stage(volume, **how))
        until_ok(lambda: c.publish(volume, **how))
        target = c.target(volume)
        path, text = (target if how else target + '/round'), f'round {n:08d}\n'.encode()
        if self.last[kind] is not None:
            with open(path, 'rb') as f:
                found = f.read(len(text))
            demand(found == self.last[kind], f'{kind} volume of round {n}: {found} and not {self.last[kind]}')
        fd = os.open(path, os.O_WRONLY | (0 if how else os.O_CREAT), 0o600)
        try:
            os.pwrite(fd, text, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        self.last[kind] = text
        until_ok(lambda: c.unpublish(volume))
        until_ok(lambda: c.unstage(volume))

    def take_down(self):
        for volume in (self.mounted, self.raw):
            until_ok(lambda v=volume: self.c.delete(v['volume_id']))


class Soak:
    def __init__(self, c):
        self.c, self.random = c, random.Random(1)
        self.numbers, self.ended, self.lock = itertools.count(), 0, threading.Lock()
        self.figures, self.failures, self.killed = Figures(), [], 0

    def daemons(self):
        return {d.name: d for d in (self.c.node, self.c.keyd, self.c.controller)}

    def work(self, worker):
        while (n := next(self.numbers)) < ROUNDS and not self.failures:
            try:
                worker.round(n)
            except Exception as e:  # pylint: disable=broad-except
                self.failures.append(f'round {n}: {e}')
                return
            with self.lock:
                self.ended += 1
                self.look()
                if self.ended % (ROUNDS // 20) == 0:
                    print(f'# {self.ended} rounds, {self.killed} kills', flush=True)

    def look(self):
        """One sample a round, of those that are alive."""
        for name, daemon in self.daemons().items():
            if daemon.alive():
                self.figures.take(name, daemon.process.pid, self.ended)

    def kill_at_random(self):
        """Evenly over the second quarter, each a little early or late: between two calls or in the midst of one."""
        moments = sorted((ROUNDS / 4) * (1 + (n + self.random.random()) / (2 * KILLS)) for n in range(2 * KILLS))
        for n, moment in enumerate(moments):
            while self.ended < moment:
                if self.failures:
                    return
                time.sleep(0.01)
            time.sleep(self.random.random() / 2)
            with self.lock:  # nobody samples a process that is just gone
                self.kill('coffer-node' if n % 2 else 'coffer-keyd')
            self.killed += 1

    def kill(self, name):
        daemon = self.daemons()[name]
        daemon.kill()
        (self.c.start_node if name == 'coffer-node' else self.c.start_keyd)()

    def run(self, workers):
        with concurrent.futures.ThreadPoolExecutor(WORKERS + 1) as pool:
            killer = pool.submit(self.kill_at_random)
            for done in [pool.submit(self.work, w) for w in workers]:
                done.result()
            killer.result()
        demand(not self.failures, '; '.join(self.failures))
        demand(self.ended == ROUNDS and self.killed == 2 * KILLS, f'{self.ended} rounds, {self.killed} kills')

    # ---- what was measured

    def quarter(self, name, which):
        return [f for f in self.figures.of(name) if (which - 1) * ROUNDS / 4 < f.when <= which * ROUNDS / 4]

    def memory_is_flat(self, name):
        """The last quarter against the first, another process of the same age and younger, and against the one before it, the same."""
        means = [statistics.mean(f.rss for f in self.quarter(name, q)) for q in (1, 2, 3, 4)]
        print(f'# {name}: RSS by quarters {" ".join(f"{m:.0f}" for m in means)} kB', flush=True)
        for q in (1, 3):
            demand(means[3] <= means[q - 1] * MARGIN, f'{means[3]:.0f} kB in the last quarter, {means[q - 1]:.0f} in quarter {q}')

    def nothing_piles_up(self, name, idle):
        """At rest, after all rounds: what it had at rest in the beginning. Threads that served callers at once stay for the next ones."""
        now = self.figures.at_rest(self.daemons()[name].process.pid)
        print(f'# {name}: at rest {now}, in the beginning {idle}', flush=True)
        demand(now.descriptors <= idle.descriptors and now.threads <= idle.threads + WORKERS and now.children == 0, f'{now}, {idle}')


def free_bytes(c):
    """With what the daemons' logs take: they lie on the same disk."""
    fs = os.statvfs(c.pool)
    return fs.f_bavail * fs.f_frsize + sum(os.stat(d.log).st_blocks * 512 for d in (c.node, c.keyd, c.controller))


def main():
    tap, c = Tap(), Coffer()
    c.log_level = 'info'
    c.install()
    c.start()
    free, soak, started = free_bytes(c), Soak(c), time.monotonic()
    workers = [Worker(c, n) for n in range(WORKERS)]
    for worker in workers:  # each volume is formatted, and each path was taken once, before anything is counted
        worker.round(0)
        worker.round(3 * WORKERS)
    idle = {name: soak.figures.at_rest(d.process.pid) for name, d in soak.daemons().items()}
    tap.run(f'{ROUNDS} rounds by {WORKERS} workers, {2 * KILLS} kills: what one round wrote the next one read', soak.run, workers)
    tap.run('no mapping, loop device, mount or device node is left', demand_clean, c)
    if soak.failures:
        tap.done()
    for name in DAEMONS:
        tap.run(f'{name}: memory is flat', soak.memory_is_flat, name)
        tap.run(f'{name}: no descriptor, thread or child is left', soak.nothing_piles_up, name, idle[name])
    for worker in workers:
        worker.take_down()
    tap.check(not os.listdir(os.path.join(c.pool, 'volumes')) or not any(
        files for _, _, files in os.walk(os.path.join(c.pool, 'volumes'))), 'no file of a volume is left in the pool')
    tap.check(free_bytes(c) >= free - MIB, 'the pool has its room back', f'{free_bytes(c)} of {free}')
    c.stop()
    print(f'# {time.monotonic() - started:.0f} s', flush=True)
    tap.done()


main()
