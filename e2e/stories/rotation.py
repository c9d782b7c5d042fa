#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""rotation: tenants' keys rotated in the real Vault and 1,000 volumes rewrapped, while 50 are staged on real dm-crypt and others are
created; killed at random and at every fault point, and gone on with. Every volume's key is the same afterwards; the old version is
retired and trimmed, and what it wrapped is useless. The identity that does it can neither decrypt nor mint."""
# story: disk=16G needs=vault memory=2048M
import concurrent.futures
import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import vaultserver  # noqa: E402
from fixture import MIB  # noqa: E402
from keydfaults import opened  # noqa: E402
from rotationworld import SIZE, TENANTS, USER, World, context_of  # noqa: E402
from sweep import SAMPLE, outcome, sampled, until_ok  # noqa: E402
from tap import demand  # noqa: E402
from vaultsetup import TENANT_KEY  # noqa: E402
from watched import Paused  # noqa: E402

VOLUMES, STAGED = max(1000 // SAMPLE, 20), max(50 // SAMPLE, 2)
CREATED = 10  # while the others are rewrapped
KILLS = max(20 // SAMPLE, 3)
POINTS_BYTES = 180  # what the fault points that one volume passes add to cofferctl.trace, about
RNG = random.Random(7)


# ---- the volumes ----

def make(world):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        names = [(f'v{i}', TENANTS[i % 2]) for i in range(VOLUMES)]
        for n, volume in enumerate(pool.map(lambda a: world.create(*a), names)):
            world.learn(volume)
            if n % 100 == 99:
                print(f'# {n + 1} volumes', flush=True)
    for i in range(2):
        world.learn(world.create(f'kv{i}', 'team-a', 'kv'))
    for volume in world.volumes[:STAGED]:
        until_ok(lambda v=volume: world.c.stage(v))
        world.write(volume)
        world.staged.append(volume)
    world.old = {v['volume_id']: world.c.record(v) for v in world.transit_volumes()}
    demand(world.versions() == {1: VOLUMES}, f'{world.versions()}')


def status(world):
    report = json.loads(world.run('status').stdout)
    rows = {row['key']: row for row in report['keys']}
    for tenant in TENANTS:
        row = rows[f'{TENANT_KEY}{tenant}']
        demand(row['versions'] == {'1': VOLUMES // 2} and row['latest'] == 1 and row['old'] == 0, f'{row}')
    demand(report['others']['kv'] == 2 and not report['gaps'], f'{report}')


def rights(world):
    """Real tokens with deploy/vault/rotation.hcl: everything that gives a key is 403."""
    api = world.w.layout.token('rotation')
    record = next(iter(world.old.values()))
    name, body = TENANT_KEY + record['tenant'], {'context': context_of(record)}
    for path, sent in ((f'decrypt/{name}', {**body, 'ciphertext': record['key']['ciphertext']}), (f'datakey/wrapped/{name}', body),
                       (f'datakey/plaintext/{name}', body), (f'encrypt/{name}', {**body, 'plaintext': 'AAAA'}),
                       (f'keys/{name}/trim', {'min_available_version': 1}), (f'keys/{name}x', {'derived': True})):
        answer = api.request('POST', f'{world.transit}/{path}', sent)
        demand(answer.status == 403, f'{path}: {answer}')
    demand(api.request('GET', f'{world.transit}/export/encryption-key/{name}').status == 403, 'it exports')
    demand(api.request('DELETE', f'{world.transit}/keys/{name}').status == 403, 'it deletes')


class Killer:
    """Of cofferctl, at its own fault points."""

    def __init__(self, world):
        folder = world.c.fault_dir
        self.world, self.arm_file, self.trace_file = world, f'{folder}/cofferctl.arm', f'{folder}/cofferctl.trace'

    def arm(self, text):
        for path in (self.arm_file, self.trace_file):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        with open(self.trace_file, 'w', encoding='ascii'):
            os.chmod(self.trace_file, 0o666)
        with open(self.arm_file, 'w', encoding='ascii') as f:
            f.write(text)

    def disarm(self):
        os.unlink(self.arm_file)

    def armed(self, text, *command, **how):
        self.arm(text)
        try:
            return self.world.run(*command, code=None, **how).returncode
        finally:
            self.disarm()

    def points(self, *command):
        demand(self.armed('record', *command) == 0, 'the recorded run failed')
        with open(self.trace_file, encoding='ascii') as f:
            return list(enumerate(f.read().split(), 1))


# ---- rewrapped while all goes on ----

class Life:
    """Volumes created, and staged ones unstaged and staged again, until it is told to end."""

    def __init__(self, world):
        self.world, self.over, self.errors, self.made, self.rounds = world, threading.Event(), [], [], 0
        self.threads = [threading.Thread(target=self.guard, args=(f,)) for f in (self.create, self.remount)]

    def guard(self, function):
        try:
            function()
        except Exception as e:  # pylint: disable=broad-except
            self.errors.append(f'{type(e).__name__}: {e}')

    def create(self):
        for i in range(CREATED):
            self.made.append(self.world.create(f'new{i}', TENANTS[i % 2]))

    def remount(self):
        c, i = self.world.c, 0
        while not self.over.is_set():
            volume = self.world.staged[i % len(self.world.staged)]
            until_ok(lambda v=volume: c.unstage(v))
            until_ok(lambda v=volume: c.stage(v))
            self.world.check_file(volume)
            self.rounds, i = self.rounds + 1, i + 1

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.threads[0].join(3600)
        self.over.set()
        self.threads[1].join(3600)


def strike(killer, volumes):
    """One rewrap that is killed when it has done about so many; whether it was."""
    killer.arm('record')
    with subprocess.Popen(killer.world.argv('rewrap', '--all', '--rate', '0'), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, env=killer.world.env, cwd='/', **USER) as p:
        while p.poll() is None and os.stat(killer.trace_file).st_size < volumes * POINTS_BYTES:
            time.sleep(0.005)
        time.sleep(RNG.random() * 0.02)
        p.kill()
    killer.disarm()
    return p.returncode == -signal.SIGKILL


def rewrap_all(world):
    world.run('rotate', '--all', machine=False)
    demand([world.key(t)['latest_version'] for t in TENANTS] == [2, 2], 'no new version')
    world.run('rotate', '--all', '--min-age', '1', machine=False)
    demand([world.key(t)['latest_version'] for t in TENANTS] == [2, 2], '--min-age made one more')
    world.rewrap('--volume', world.volumes[STAGED]['volume_id'])
    killer, killed, at = Killer(world), 0, []
    with Life(world) as life:
        for _ in range(KILLS):
            killed += strike(killer, RNG.random() * 2 * VOLUMES / (KILLS + 1))
            at.append(world.versions().get(2, 0))
        done = world.rewrap('--all', '--wait', '600')
    demand(not life.errors, '\n'.join(life.errors))
    for volume in life.made:
        world.learn(volume)
    print(f'# killed {killed} of {KILLS} times, with {at} volumes done; the last run: {done}; {life.rounds} remounts', flush=True)
    demand(killed > 0 and done['failed'] == done['busy'] == done['unreadable'] == 0, f'{done}')
    done = world.rewrap('--all')
    demand(done['rewrapped'] == 0 and done['left'] == 0 and done['kv'] == 2, f'a run after that: {done}')
    demand(world.versions() == {2: VOLUMES + CREATED}, f'{world.versions()}')


def all_open(world):
    world.check_keys()
    for volume in world.staged:
        world.check_file(volume)
        until_ok(lambda v=volume: world.c.unstage(v))
        until_ok(lambda v=volume: world.c.stage(v))
        world.check_file(volume)
    for volume in world.volumes[VOLUMES - 2:VOLUMES]:  # never used before
        until_ok(lambda v=volume: world.c.stage(v))
        until_ok(lambda v=volume: world.c.unstage(v))


# ---- killed at each point ----

def few(world):
    """A tenant with three volumes: each kill costs one run over them."""
    return [world.create(f'few{i}', 'few') for i in range(3)]


def sweep(world, tap):
    volumes, command = few(world), ('rewrap', '--tenant', 'few', '--rate', '0', '--wait', '60')
    for volume in volumes:
        world.learn(volume)
    killer = Killer(world)
    world.run('rotate', '--tenant', 'few', machine=False)
    points = killer.points(*command)
    names = {name for _, name in points}
    tap.check({'cofferctl:rewrap:asking', 'cofferctl:rewrap:asked', 'cofferctl:rewrap:locked', 'cofferctl:rewrap:written'} <= names,
              f'{len(points)} points of a rewrap are recorded', names)
    for point in sampled(points):
        tap.run(f'rewrap killed at {point[0]} {point[1]}, run again: all under the newest, the same keys', one_point, world, killer,
                volumes, point, command)


def one_point(world, killer, volumes, point, command):
    world.run('rotate', '--tenant', 'few', machine=False)
    newest = world.key('few')['latest_version']
    demand(killer.armed(f'kill {point[0]}', *command) == -signal.SIGKILL, 'the point was not reached')
    world.check_keys(volumes)  # in between
    done = json.loads(world.run(*command).stdout)
    demand(done['left'] == 0 and done['rewrapped'] + done['skipped'] == len(volumes), f'{done}')
    demand(world.versions('few') == {newest: len(volumes)}, f'{world.versions("few")}')
    world.check_keys(volumes)


# ---- what is in the way ----

def create_at_work(world):
    """A key minted under the old version before the rotation reaches its record after it."""
    made = []
    with Paused(world.c, 'coffer-controller', 'controller:create:minted', lambda: made.append(world.create('late', 'team-a'))):
        world.run('rotate', '--tenant', 'team-a', machine=False)
        done = world.rewrap('--tenant', 'team-a', '--wait', '0', code=1)
        demand(done['busy'] == 1 and done['failed'] == 0, f'{done}')
        world.refused('retire', '--tenant', 'team-a', '--nodes', '1', words=['1 volumes are being created'], machine=False)
    demand(world.c.record(made[0])['key']['key_version'] == 2, 'it was not minted before the rotation')
    world.learn(made[0])
    world.refused('retire', '--tenant', 'team-a', '--nodes', '1', words=['1 volumes are under a version older than 3'], machine=False)
    demand(world.rewrap('--tenant', 'team-a')['rewrapped'] == 1, 'it was not found')


def create_that_died(world):
    c = world.c
    arm = os.path.join(c.fault_dir, 'coffer-controller.arm')
    with open(arm, 'w', encoding='ascii') as f:
        f.write('kill controller:create:minted')
    os.chmod(arm, 0o644)
    outcome(lambda: c.create('died', SIZE, parameters={'kms': 'vault', 'tenant': 'team-b'}))
    c.controller.process.wait(60)
    os.unlink(arm)
    c.start_controller()
    world.run('rotate', '--tenant', 'team-b', machine=False)
    done = world.rewrap('--tenant', 'team-b')
    demand(done['unfinished'] == 1 and done['left'] == 0, f'{done}')
    world.run('retire', '--tenant', 'team-b', '--nodes', '1', machine=False)
    volume = world.create('died', 'team-b')
    demand(c.record(volume)['key']['key_version'] == 3, f'{c.record(volume)["key"]["key_version"]}')
    world.learn(volume)


def held(world):
    volume = world.staged[-1]
    tenant = volume['volume_context']['tenant']
    world.run('rotate', '--tenant', tenant, machine=False)
    with open(world.c.place(volume) + '/lock', 'rb+') as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        done = world.rewrap('--tenant', tenant, '--wait', '2', code=1)
        demand(done['busy'] == 1 and done['left'] == 1, f'{done}')
    demand(world.rewrap('--tenant', tenant)['rewrapped'] == 1, 'it was not rewrapped when its lock was free')


@contextlib.contextmanager
def spoilt(path):
    """A record whose end is cut off."""
    with open(path, encoding='utf-8') as f:
        text = f.read()
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text[:-20])
    yield
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text)


def unreadable(world):
    trim_all = ('trim', '--all', '--nodes', '1', '--grace', '0', '--yes')
    with spoilt(world.c.place(world.volumes[0]) + '/record.json'):
        world.refused('retire', '--all', '--nodes', '1', words=["can't be read"], machine=False)
        world.refused(*trim_all, words=["can't be read"], machine=False, token=world.trim_token)
        demand(world.run('status', code=1).stdout, 'it showed nothing')
    pool = world.c.pool + '/pool.json'
    os.rename(pool, pool + '.away')
    try:
        world.refused('retire', '--all', '--nodes', '1', words=["pool 'default'"], machine=False)
        world.refused(*trim_all, words=["pool 'default'"], machine=False, token=world.trim_token)
    finally:
        os.rename(pool + '.away', pool)


def other_nodes(world):
    world.refused('retire', '--all', '--nodes', '2', words=['--nodes 2: this machine and 0 --report make 1'], machine=False)
    report = world.run('status', '--offline').stdout
    path = os.path.join(world.c.root, 'report')
    with open(path, 'w', encoding='utf-8') as f:
        f.write(report)
    world.refused('retire', '--all', '--nodes', '2', '--report', path, words=['is of this machine'], machine=False)


# ---- the old version ----

def retire(world):
    before = {t: world.key(t)['latest_version'] for t in TENANTS}
    world.rewrap('--all')
    for record in list(world.old.values())[:20]:
        if record['tenant'] == 'team-a':
            demand(world.decrypt(record).status == 200, 'the old ciphertext was refused before it was retired')
    world.run('retire', '--all', '--nodes', '1', machine=False)
    for tenant, latest in before.items():
        key = world.key(tenant)
        demand(key['min_decryption_version'] == key['min_encryption_version'] == latest, f'{key}')
    for record in world.old.values():
        answer = world.decrypt(record)
        demand(answer.status == 400 and 'too old' in answer.errors, f'an old ciphertext: {answer}')
    world.check_keys()
    # it can be taken back
    record = next(iter(world.old.values()))
    key = f'{world.transit}/keys/{TENANT_KEY}{record["tenant"]}'
    world.root.call('POST', f'{key}/config', {'min_decryption_version': 1})
    demand(world.decrypt(record).status == 200, 'lowered, it opens again')
    world.run('retire', '--all', '--nodes', '1', machine=False)
    demand(world.decrypt(record).status == 400, 'retired again, it still opens')


def restored_record(world):
    """A record brought back from before the rewrap is seen, and nothing is trimmed."""
    volume = world.volumes[0]
    path, text = world.c.place(volume) + '/record.json', None
    with open(path, encoding='utf-8') as f:
        text = f.read()
    with open(path, 'w', encoding='utf-8') as f:
        json.dump({**json.loads(text), 'key': world.old[volume['volume_id']]['key']}, f)
    world.refused('trim', '--all', '--nodes', '1', '--grace', '0', '--yes', words=['1 volumes are under a version older than'],
                  machine=False, token=world.trim_token)
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text)


def grow(world, volume):
    """A mounted volume's growth wants its key again: from the record as it is now."""
    c = world.c
    c.publish(volume)
    until_ok(lambda: c.controller_expand(volume['volume_id'], SIZE + 4 * MIB))
    until_ok(lambda: c.node_expand(volume, SIZE + 4 * MIB))
    demand(c.mapping_bytes(volume) == SIZE + 4 * MIB, f'{c.mapping_bytes(volume)} bytes')
    c.unpublish(volume)


def trim(world):
    common = ('--all', '--nodes', '1')
    world.refused('trim', *common, '--yes', words=['is younger than --grace: wait 2'], machine=False, token=world.trim_token)
    world.refused('trim', *common, '--grace', '0', words=['there is no terminal to confirm on'], machine=False, token=world.trim_token)
    world.refused('trim', *common, '--grace', '0', '--yes', words=['it denies permission'], machine=False)
    killer = Killer(world)
    for point in ('cofferctl:trim:judged', 'cofferctl:trim:done'):
        code = killer.armed(f'kill {point}', 'trim', *common, '--grace', '0', '--yes', machine=False, token=world.trim_token)
        demand(code == -signal.SIGKILL, f'{point}: {code}')
    world.run('trim', *common, '--grace', '0', '--yes', machine=False, token=world.trim_token)
    for tenant in TENANTS:
        key = world.key(tenant)
        demand(key['min_available_version'] == key['min_decryption_version'] == key['latest_version'], f'{key}')
        back = world.root.request('POST', f'{world.transit}/keys/{TENANT_KEY}{tenant}/config', {'min_decryption_version': 1})
        demand(back.status == 400, f'it can be lowered again: {back}')
    for record in world.old.values():
        demand(world.decrypt(record).status == 400, 'an old ciphertext opens')
    world.check_keys()
    for volume in world.staged[:1]:
        grow(world, volume)
    all_open(world)


TESTS = [
    (f'{VOLUMES} volumes of two tenants, {STAGED} of them staged', make),
    ('key status counts them', status),
    ('the rotation job can neither decrypt, mint, export, trim nor delete', rights),
    (f'rotated and rewrapped, killed at random {KILLS} times, while {CREATED} are created and staged ones remounted', rewrap_all),
    ('every volume has the key it had; files are as they were; new mounts work', all_open),
    ('a create that is at work during the rotation is waited for, and rewrapped', create_at_work),
    ('a create that died in between is named, not lost', create_that_died),
    ('a volume whose lock is held is busy, then done', held),
    ('nothing is retired or trimmed past an unreadable record or pool', unreadable),
    ('nor without a word from other machines', other_nodes),
    ('retired: every old ciphertext is refused; taken back, it opens; retired again', retire),
    ('a record from before is in the way of trimming', restored_record),
    ('trimmed: no way back for old ciphertexts; every volume opens', trim),
]


def story(vault, folder, tap):
    with opened(vault, folder) as w:
        world = World(w)
        try:
            for name, test in TESTS:
                begun = time.monotonic()
                tap.run(name, test, world)
                print(f'# {time.monotonic() - begun:.0f} s', flush=True)
                if test is all_open:
                    sweep(world, tap)
            for volume in world.staged:
                until_ok(lambda v=volume: world.c.unstage(v))
            tap.check(not world.c.left_over(), 'nothing is left over', world.c.left_over())
        finally:
            world.c.stop()
        said = os.path.join(world.c.root, 'cofferctl.out')
        with open(said, 'w', encoding='utf-8') as f:
            f.write('\n'.join(world.printed))
        w.logs += [said] + [os.path.join(world.c.root, f'coffer-{name}.log') for name in ('keyd', 'controller', 'node')]
        found, n = w.leaks()
        tap.check(not found and n > 5, f'no key, token or credential in a log or in what cofferctl said ({n} forms looked for)',
                  '\n'.join(found))


vaultserver.main('rotation', "its keys can't be taken apart", story)
