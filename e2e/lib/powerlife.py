# SPDX-License-Identifier: Apache-2.0
"""Volumes whose life a power cut ends, and what must be true afterwards. `Life` makes the calls, and before and after each says what
its users have been told by then (`tell`): that is what a cut may not take back. `Aftermath` starts from what was said last, before the
cut, and judges what the disk has: records, keys, file systems, every acknowledged file; it repeats the call that was cut, and takes
everything away again."""
import copy
import json
import os
import random
import re
import subprocess
import threading

from fixture import MIB
from sweep import sampled, until_ok
from tap import demand
from writelog import check_file_system

SIZE = {'ext4': 32 * MIB, 'xfs': 300 * MIB, 'btrfs': 128 * MIB}
LINE = 64
LATE = 'written before unstage, never flushed'
BEFORE = {'stage': ('new', 'formatting', 'ready')}  # states that a record may have while this is under way


def content(name):
    return random.Random(name).randbytes(40000)


def line(n):
    return f'{n:0{LINE - 1}}\n'.encode()


def put(path, data):
    """As careful programs do: whole under another name, then renamed, all of it flushed."""
    with open(path + '.new', 'wb') as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.rename(path + '.new', path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


class Life:
    """known: name -> what was acknowledged of that volume. `doing`: the call that is under way. `rounds`: what was written."""

    def __init__(self, c, tell):
        self.c, self.tell, self.known, self.lock = c, tell, {}, threading.Lock()

    def say(self, name, **facts):
        with self.lock:
            self.known.setdefault(name, {'doing': None, 'state': 'absent', 'rounds': 0})
            self.known[name].update(facts)
            self.tell(copy.deepcopy(self.known), f'{name}: {facts.get("doing") or "acknowledged"}')

    def say_all(self, names, **facts):
        """One call that concerns all of these."""
        with self.lock:
            for name in names:
                self.known[name].update(facts)
            self.tell(copy.deepcopy(self.known), f'{names[0]}: {facts.get("doing") or "acknowledged"}')

    def volume(self, name):
        return self.known[name]['volume']

    def call(self, name, doing, function, **then):
        self.say(name, doing=doing)
        answer = function()
        self.say(name, doing=None, **then)
        return answer

    def create(self, name, fs='ext4', size=None, **more):
        size = size or SIZE[fs]
        self.say(name, doing='create', fs=fs, size=size, grown=size, more=more)
        self.say(name, doing=None, state='new', volume=self.c.create(name, size, fs=fs, **more))

    def stage(self, name):
        self.call(name, 'stage', lambda: self.c.stage(self.volume(name)), state='ready', staged=True)

    def raw(self, name):
        """A raw block volume, written to without a flush; unstage keeps it."""
        self.create(name, block=True)
        volume = self.volume(name)
        self.call(name, 'stage', lambda: self.c.stage(volume, block=True), state='ready', staged=True)
        self.c.publish(volume, block=True)
        with open(self.c.target(volume), 'r+b') as f:
            f.write(content(name))
        self.c.unpublish(volume)
        self.call(name, 'unstage', lambda: self.c.unstage(volume), staged=False, late=True)

    def unstage(self, name):
        with open(self.c.staging(self.volume(name)) + '/late', 'w', encoding='ascii') as f:
            f.write(LATE)
        self.call(name, 'unstage', lambda: self.c.unstage(self.volume(name)), staged=False, late=True)

    def expand(self, name, size):
        def grow():
            self.c.controller_expand(self.volume(name)['volume_id'], size)
            self.c.node_expand(self.volume(name), size, path=self.c.staging(self.volume(name)))
        self.say(name, grown=size)
        self.call(name, 'expand', grow, size=size)

    def rotate(self, name):
        self.call(name, 'rotate', lambda: rotate(self.c, self.volume(name)))

    def delete(self, name):
        self.call(name, 'delete', lambda: self.c.delete(self.volume(name)['volume_id']), state='gone')

    def write(self, name):
        """One round: a line more, flushed; with every third a file."""
        n, where = self.known[name]['rounds'] + 1, self.c.staging(self.volume(name))
        with open(where + '/lines', 'ab') as f:
            f.write(line(n))
            f.flush()
            os.fdatasync(f.fileno())
        if n == 1:
            folder = os.open(where, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        if n % 3 == 0:
            put(f'{where}/file{n}', content(f'{name} {n}'))
        self.say(name, rounds=n)


class Writer(threading.Thread):
    """Rounds in the background, inside a with block."""

    def __init__(self, life, name):
        super().__init__(daemon=True)
        self.life, self.name_, self.over, self.problem = life, name, threading.Event(), None

    def run(self):
        try:
            while not self.over.is_set():
                self.life.write(self.name_)
        except OSError as e:
            self.problem = e

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join(900)
        demand(self.problem is None, f'the writer: {self.problem}')


def prepare(life):
    """Where every action starts from: `a` has data and isn't open, `n` was never staged."""
    life.create('a')
    life.stage('a')
    for _ in range(4):
        life.write('a')
    life.unstage('a')
    life.create('n')


def grow(life):
    life.expand('a', life.known['a']['size'] + 4 * MIB)


# what -> (what comes before it, the call)
NOTHING = []
ACTIONS = {
    'create': (NOTHING, lambda life: life.create('c')),
    'stage of a new volume': (NOTHING, lambda life: life.stage('n')),
    'stage': (NOTHING, lambda life: life.stage('a')),
    'unstage': (['stage'], lambda life: life.unstage('a')),
    'expand': (['stage'], grow),
    'rotate': (NOTHING, lambda life: life.rotate('a')),
    'rotate, staged': (['stage'], lambda life: life.rotate('a')),
    'delete': (NOTHING, lambda life: life.delete('a')),
    'write': (['stage'], lambda life: life.write('a')),
}


def action(life, what):
    """The call, with what comes before it done."""
    before, call = ACTIONS[what]
    for earlier in before:
        ACTIONS[earlier][1](life)
    return lambda: call(life)


def chosen(cuts, title):
    """Of (…) what is to be done: those whose title(cut) COFFER_CUTS, a regular expression, is found in; else COFFER_SAMPLE's share."""
    if pattern := os.environ.get('COFFER_CUTS'):
        return [cut for cut in cuts if re.search(pattern, title(*cut))]
    return sampled(list(cuts))


def rotate(c, volume):
    return c.call(c.admin_socket, 'coffer.v1.NodeAdmin/RotateKey', {'volume_id': volume['volume_id'], 'reason': 'story'})


def passphrase(c, volume):
    done = c.cofferctl('volume', 'unlock-key', volume['volume_id'], '--admin-socket', c.admin_socket, '--reason', 'story', '--yes',
                       check=False)
    demand(done.returncode == 0, f'unlock-key: {done.stderr}')
    return done.stdout.strip().encode()


def keyslots(c, volume):
    dump = subprocess.run(['cryptsetup', 'luksDump', '--dump-json-metadata', c.image(volume)], check=True, stdout=subprocess.PIPE).stdout
    return len(json.loads(dump)['keyslots'])


def stock_tools(c, volume, fs):
    """cryptsetup opens the image by the key that the record names, and the file system on it is clean."""
    node = '/dev/mapper/story-stock'
    subprocess.run(['cryptsetup', 'open', '--key-file', '-', c.image(volume), 'story-stock'], check=True, capture_output=True,
                   input=passphrase(c, volume))
    try:
        check_file_system(fs, node)
    finally:
        subprocess.run(['cryptsetup', 'close', 'story-stock'], check=True, capture_output=True)


class Aftermath:
    def __init__(self, c, known):
        self.c, self.known = c, known

    def judge(self):
        """Raises with what is wrong."""
        demand(not self.c.left_over(), f'a machine that just started has {self.c.left_over()}')
        for name, facts in self.known.items():
            self.one(name, facts)
        demand(not self.c.left_over(), f'left over: {self.c.left_over()}')
        self.demand_empty()

    def one(self, name, facts):
        volume = facts.get('volume')
        if facts['state'] == 'gone':
            demand(not os.path.exists(self.c.place(volume)), f'{name} was deleted, and its place is there: {self.files(volume)}')
            return
        if facts['state'] == 'absent':
            volume = until_ok(lambda: self.c.create(name, facts['size'], fs=facts['fs'], **facts['more']))
        if facts['doing'] != 'delete' and facts['more'].get('block'):
            self.record(name, volume, facts)
            self.raw(name, volume, facts)
        elif facts['doing'] != 'delete':
            self.record(name, volume, facts)
            self.stage(volume, facts)
            self.files_are_right(name, volume, facts)
            self.again(volume, facts)
            until_ok(lambda: self.c.unstage(volume))
            stock_tools(self.c, volume, facts['fs'])
        until_ok(lambda: self.c.delete(volume['volume_id']))
        demand(not os.path.exists(self.c.place(volume)), f'{name} is deleted, and its place is there: {self.files(volume)}')

    def files(self, volume):
        place = self.c.place(volume)
        return sorted(os.listdir(place)) if os.path.exists(place) else []

    def record(self, name, volume, facts):
        r = self.c.record(volume)
        state = 'new' if facts['state'] == 'absent' else facts['state']
        allowed = BEFORE.get(facts['doing'], (state,)) if state == 'new' else (state,)
        demand(r['state'] in allowed, f'the record of {name} says {r["state"]}; {facts["doing"]}; acknowledged: {state}')
        demand(r['size'] in (facts['size'], facts['grown']), f'the record of {name} says {r["size"]} bytes')
        demand(r['size'] == facts['size'] or facts['doing'] == 'expand', f'the record of {name} says {r["size"]} bytes')
        demand('staleSlots' not in r or facts['doing'] == 'rotate', f'the record of {name} has its mark')
        demand(os.stat(self.c.image(volume)).st_size >= r['size'] + 4 * MIB, f'the image of {name} is too short')

    def stage(self, volume, facts):
        until_ok(lambda: self.c.stage(volume))
        demand(self.c.record(volume)['state'] == 'ready', f'staged, the record says {self.c.record(volume)["state"]}')
        where = self.c.staging(volume)
        s = os.statvfs(where)
        demand(s.f_blocks * s.f_frsize >= facts['size'] * 3 // 5, f'the file system has {s.f_blocks * s.f_frsize} bytes')

    def raw(self, name, volume, facts):
        until_ok(lambda: self.c.stage(volume, block=True))
        until_ok(lambda: self.c.publish(volume, block=True))
        with open(self.c.target(volume), 'rb') as f:
            there = f.read(len(content(name)))
        demand(there == content(name) or not facts.get('late'), f'{name}: unstage lost what was written')
        until_ok(lambda: self.c.unpublish(volume))
        until_ok(lambda: self.c.unstage(volume))

    def files_are_right(self, name, volume, facts):
        where, rounds = self.c.staging(volume), facts['rounds']
        if rounds:
            with open(where + '/lines', 'rb') as f:
                lines = f.read(rounds * LINE)
            demand(lines == b''.join(map(line, range(1, rounds + 1))), f'{name}: the lines that were acknowledged are not there')
        for n in range(3, rounds + 1, 3):
            with open(f'{where}/file{n}', 'rb') as f:
                demand(f.read() == content(f'{name} {n}'), f'{name}: file {n} is another one')
        if facts.get('late'):
            with open(where + '/late', encoding='ascii') as f:
                demand(f.read() == LATE, f'{name}: unstage lost what was written')

    def again(self, volume, facts):
        """What was under way, once more."""
        if facts['doing'] == 'expand':
            until_ok(lambda: self.c.controller_expand(volume['volume_id'], facts['grown']))
            until_ok(lambda: self.c.node_expand(volume, facts['grown'], path=self.c.staging(volume)))
            s = os.statvfs(self.c.staging(volume))
            demand(self.c.mapping_bytes(volume) == facts['grown'] and s.f_blocks * s.f_frsize >= facts['grown'] * 3 // 5,
                   f'{self.c.mapping_bytes(volume)} and {s.f_blocks * s.f_frsize} bytes of {facts["grown"]}')
        if facts['doing'] == 'rotate':
            before, rest_alone = passphrase(self.c, volume), 'staleSlots' in self.c.record(volume)
            rotate(self.c, volume)
            demand('staleSlots' not in self.c.record(volume), 'the rotation, repeated, leaves the mark')
            # a record with the mark names the new key already: what was left is to drop the old one
            demand((passphrase(self.c, volume) == before) == rest_alone, f'the rotation, repeated, with the mark {rest_alone}: wrong key')
            demand(keyslots(self.c, volume) == 1, f'the rotation, repeated, leaves {keyslots(self.c, volume)} keyslots')

    def demand_empty(self):
        """Of a pool whose volumes are all gone."""
        left = [os.path.join(where, f) for where, _, files in os.walk(self.c.pool) for f in files]
        left = [f for f in left if os.path.relpath(f, self.c.pool) not in ('pool.json', 'spare', 'promised.json')]
        places = [where for where, _, _ in os.walk(self.c.pool + '/volumes') if len(os.path.basename(where)) == 32]
        demand(not left and not places, f'left in the pool: {left + places}')
