# SPDX-License-Identifier: Apache-2.0
"""Cuts that lose what no flush had made durable: lives on a pool whose disk is recorded (writelog.py), each judged at many moments of
its past; and on one that from some moment on forgets what is written to it (dm-flakey)."""
import os
import random
import subprocess

from faultydisk import SECTOR, sh
from fixture import MIB, CallError, Coffer
from powerhost import NAME, Host, HostLife
from powerlife import SIZE, Aftermath, Life, Writer, action, chosen, prepare
from sweep import SyscallKiller
from tap import demand
from watched import Paused
from writelog import MKFS, MOUNT, RecordedDisk, check_file_system, loop, sparse

SEED = 23
DISK = {'ext4': 768 * MIB, 'xfs': 1536 * MIB}


class DiskCoffer(Coffer):
    """Its pool lies on a disk of its own, mounted at `disk`; everything else outlives a cut."""

    def __init__(self, root, **more):
        super().__init__(root, fault=True, **more)
        self.disk = root + '.disk'
        self.pool = self.disk + '/pool'


# ---- recorded ----

class Recorded:
    """A life on a recorded disk: what was known at each mark."""

    def __init__(self, folder, kind, make=DiskCoffer):
        self.history, self.rng, self.past = [], random.Random(SEED), None
        self.disk = RecordedDisk(folder + '.record', DISK[kind], folder + '.disk', kind)
        self.c = make(folder)

    def tell(self, known, label):
        self.history.append((known, label))
        self.disk.mark(str(len(self.history) - 1))

    def live(self, story):
        self.c.install()
        self.c.start()
        story(Life(self.c, self.tell))
        self.c.stop()
        demand(not self.c.left_over(), f'the life itself left {self.c.left_over()}')
        self.past = self.disk.end()

    def cuts(self, writes, thorough=False):
        """(entry, what it is), ascending: right behind each acknowledgement, when all that isn't flushed is lost; in the middle of each
        call, behind a flush (or a write past the cache) or at any entry, or both; and behind some rounds of the writer."""
        marks, found, rounds = self.past.marks, [], []
        for i, (_, label) in enumerate(self.history):
            begun, name = marks[i], label.partition(':')[0]
            if label.endswith(': acknowledged'):
                grew = i > 0 and self.history[i - 1][0].get(name, {}).get('rounds') != self.history[i][0][name]['rounds']
                (rounds if grew else found).append((begun + 1, f'{label} {"write" if grew else self.under_way(i, name)}'))
                continue
            end = next((m for m, (k, _) in zip(marks[i:], self.history[i:]) if k[name]['doing'] is None), marks[-1])
            flushes = [n + 1 for n in range(begun + 1, end) if self.past.entries[n].durable]
            moments = [(self.rng.choice(flushes), f'{label}, behind a flush')] if flushes else []
            if end > begun + 2:
                moments.append((self.rng.randrange(begun + 2, end), f'{label}, anywhere'))
            found += moments if thorough else self.rng.sample(moments, min(1, len(moments)))
        return sorted(found + self.rng.sample(rounds, min(writes, len(rounds))))

    def under_way(self, i, name):
        """The call that ended with this acknowledgement; '' when none did: a plan was told."""
        return next((k[name]['doing'] for k, _ in reversed(self.history[:i]) if k.get(name, {}).get('doing')), '')

    def judge(self, cut):
        with self.past.at(cut):
            text = self.past.mark_before(cut)
            self.c.start()
            try:
                self.judge_known(dict(self.history[int(text)][0]) if text else {})
            finally:
                try:
                    self.c.stop()
                finally:
                    self.clean()  # of what was judged wrong

    def clean(self):
        clean(self.c)

    def judge_known(self, known):
        """What was acknowledged before the cut."""
        if NAME in known:
            Host(self.c).judge(known.pop(NAME))
        Aftermath(self.c, known).judge()

    def run(self, tap, story, title, writes=3):
        if not tap.run(f'{title}: recorded', self.live, story):
            return
        cuts = self.cuts(writes)
        tap.check(cuts, f'{title}: there are moments to be cut at', self.history)
        wanted = chosen(cuts, lambda n, what: f'{title}: {what}')
        print(f'# {title}: {len(self.past.entries)} entries, {len(cuts)} cuts, {len(wanted)} judged; seed {SEED}', flush=True)
        for n, what in wanted:
            tap.run(f'{title}: cut at entry {n} ({what})', self.judge, n)


def clean(c):
    """Everything that is open, in no good order."""
    for path in sorted(c.mounts(), reverse=True):
        subprocess.run(['umount', '-l', path], check=False)
    for name in c.mappings():
        subprocess.run(['dmsetup', 'remove', '--retry', name], check=False)
    for device in c.loops():
        subprocess.run(['losetup', '-d', device], check=False)
    for name in c.device_nodes():
        os.unlink(f'{c.made_device_dir}/{name}')


def whole_life(life):
    """Every call of a volume, under a writer where one can be."""
    life.create('a')
    life.stage('a')
    for _ in range(6):
        life.write('a')
    with Writer(life, 'a'):
        life.expand('a', 48 * MIB)
        life.rotate('a')
    life.unstage('a')
    life.create('b')
    life.stage('b')
    life.unstage('b')
    life.delete('b')
    life.stage('a')
    life.write('a')
    life.rotate('a')
    life.unstage('a')
    life.raw('r')


def host_life(life):
    HostLife(life).live()


def other_life(fs):
    """A pool and volumes of another file system: shorter."""
    def story(life):
        life.create('a', fs=fs)
        life.stage('a')
        with Writer(life, 'a'):
            life.expand('a', SIZE[fs] + 64 * MIB)
        life.unstage('a')
        life.delete('a')
    return story


# ---- writes that are dropped ----

class DroppingDisk:
    NAME = 'story-dropping'

    def __init__(self, folder, size, where, kind='ext4'):
        self.where, self.kind, self.size, self.device = where, kind, size, '/dev/mapper/' + self.NAME
        os.makedirs(where, exist_ok=True)
        sparse(folder + '.dropping', size)
        self.loop = loop(folder + '.dropping', direct=True)
        sh(*MKFS[kind], self.loop)
        sh('dmsetup', 'create', self.NAME, '--table', self.table('linear', '0'))
        self.mount()

    def table(self, target, rest):
        return f'0 {self.size // SECTOR} {target} {self.loop} {rest}'

    def mount(self):
        sh('mount', '-o', MOUNT[self.kind], self.device, self.where)

    def load(self, table):
        """Nothing is flushed on the way."""
        sh('dmsetup', 'suspend', '--noflush', '--nolockfs', self.NAME)
        sh('dmsetup', 'load', self.NAME, '--table', table)
        sh('dmsetup', 'resume', self.NAME)

    def drop(self):
        """From now on every write succeeds and changes nothing."""
        self.load(self.table('flakey', '0 0 1000000 1 drop_writes'))

    def again(self):
        """As after the next boot."""
        sh('umount', self.where)
        sh('dmsetup', 'remove', '--retry', self.NAME)
        sh('dmsetup', 'create', self.NAME, '--table', self.table('linear', '0'))
        self.mount()

    def end(self):
        sh('umount', self.where)
        check_file_system(self.kind, self.device)
        sh('dmsetup', 'remove', '--retry', self.NAME)
        sh('losetup', '-d', self.loop)


# program, the point at which writes begin to be dropped, the call that is under way
DROPS = (('coffer-controller', 'controller:create:minted', 'create'),
         ('coffer-crypt', 'crypt:format:header', 'stage of a new volume'),
         ('coffer-node', 'stage:filesystem:flushed', 'stage of a new volume'),
         ('coffer-node', 'expand:resize:after', 'expand'),
         ('coffer-crypt', 'crypt:rewrite:slots', 'rotate, staged'),
         ('coffer-node', 'rotate-key:recorded', 'rotate'),
         ('coffer-controller', 'controller:delete:erased', 'delete'))


class Dropped:
    def __init__(self, folder):
        self.disk = DroppingDisk(folder, DISK['ext4'], folder + '.disk')
        self.c = DiskCoffer(folder)
        self.c.install()
        self.c.crypt_helper = SyscallKiller.wrapper(folder)
        self.known = {}

    def tell(self, known, _):
        self.known = known

    def cut(self, program, point, what):
        self.c.start()
        life = Life(self.c, self.tell)
        prepare(life)
        call = action(life, what)
        with Paused(self.c, program, point, lambda: attempt(call)):
            known = self.known
            self.disk.drop()
        for daemon in (self.c.node, self.c.controller, self.c.keyd):
            daemon.kill()
        clean(self.c)
        self.disk.again()
        self.c.start()
        try:
            Aftermath(self.c, known).judge()
        finally:
            self.c.stop()

    def run(self, tap):
        for drop in chosen(DROPS, self.title):
            if not tap.run(self.title(*drop), self.cut, *drop):
                clean(self.c)
        tap.run("the pool's file system has nothing to repair", self.disk.end)

    @staticmethod
    def title(program, point, what):
        return f'writes are dropped from {program} at {point} on, {what}'


def attempt(call):
    """Of a call whose disk forgets, the answer says nothing."""
    try:
        call()
    except CallError:
        pass
