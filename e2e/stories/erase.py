#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""erase: what DeleteVolume destroys, and how far. With keys in Vault's KV engine a deleted volume's image and record, brought back
from a backup, can't be opened any more; with transit they can until the tenant's key is rotated and trimmed (SECURITY.md). The
header is overwritten. With Vault down nothing goes that needs it, and killed on any line the same call ends it."""
# story: disk=8G needs=vault memory=2048M
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import vaultcoffer  # noqa: E402
import vaultserver  # noqa: E402
from fixture import MIB, CallError, Coffer  # noqa: E402
from keydfaults import opened  # noqa: E402
from sweep import FaultKiller, demand_clean, sampled, until_ok  # noqa: E402
from tap import demand  # noqa: E402
from vaultsetup import KV_PREFIX, TENANT_KEY  # noqa: E402

SIZE, HEADER = 16 * MIB, 4 * MIB


def refused(call, *args):
    """(code, message) of a call that must fail."""
    try:
        call(*args)
    except CallError as e:
        return e.code, e.message
    raise RuntimeError('it was not refused')


class World:
    def __init__(self, w):
        self.w = w
        auth = w.approle()
        self.c = Coffer(fault=True, services=w.config(w.server, auth=auth)['kms'])
        vaultcoffer.readable(w, auth)
        self.c.install()
        self.c.start()

    def create(self, name, kms):
        return until_ok(lambda: self.c.create(name, SIZE, parameters={'kms': kms}))

    def used(self, name, kms):
        """A volume with a file in it, not staged."""
        volume = self.create(name, kms)
        self.c.stage(volume)
        with open(self.c.staging(volume) + '/file', 'wb') as f:
            f.write(b'to be forgotten')
        self.c.unstage(volume)
        return volume

    def delete(self, volume):
        until_ok(lambda: self.c.delete(volume['volume_id']))

    def secrets(self):
        """Names of the secrets that the KV engine still knows of."""
        answer = self.w.root.request('LIST', f'{self.w.layout.kv}/metadata/{KV_PREFIX}')
        return set(answer.body['data']['keys']) if answer.status == 200 else set()

    def kept(self, volume):
        return self.knows(self.c.record(volume)['uuid'])

    def knows(self, uuid):
        return any(name.startswith(uuid) for name in self.secrets())


class Backup:
    """Everything of a volume, as a storage administrator copies it."""

    def __init__(self, c, volume):
        self.c, self.volume, self.copy = c, volume, c.root + '/backup'
        shutil.rmtree(self.copy, ignore_errors=True)
        os.makedirs(self.copy)
        for name in ('lock', 'record.json', 'image'):
            self.clone(f'{c.place(volume)}/{name}', f'{self.copy}/{name}')

    @staticmethod
    def clone(source, target):
        shutil.copyfile(source, target)
        shutil.copystat(source, target)
        owner = os.stat(source)
        os.chown(target, owner.st_uid, owner.st_gid)

    def restore(self):
        place = self.c.place(self.volume)
        os.makedirs(place, exist_ok=True)
        owner = os.stat(self.c.pool)
        for folder in (os.path.dirname(place), place):
            os.chown(folder, owner.st_uid, owner.st_gid)
        for name in os.listdir(self.copy):
            self.clone(f'{self.copy}/{name}', f'{place}/{name}')

    def take_away(self):
        shutil.rmtree(self.c.place(self.volume))


def stage_and_read(world, volume):
    world.c.stage(volume)
    with open(world.c.staging(volume) + '/file', 'rb') as f:
        text = f.read()
    world.c.unstage(volume)
    return text


# ---- what is gone

def kv_backup(world):
    volume = world.used('kv-backup', 'kv')
    backup = Backup(world.c, volume)
    world.delete(volume)
    backup.restore()
    code, message = refused(world.c.stage, volume)
    demand(code == 'PRECONDITION' and 'was deleted' in message, f'{code}: {message}')
    demand(not world.c.left_over(), f'left over: {world.c.left_over()}')
    backup.take_away()


def transit_backup(world):
    volume, key = world.used('transit-backup', 'vault'), f'{world.w.layout.transit}/keys/{TENANT_KEY}lab'
    backup = Backup(world.c, volume)
    world.delete(volume)
    backup.restore()
    demand(stage_and_read(world, volume) == b'to be forgotten', 'with transit, the wrapped form in a backup is enough')
    call = world.w.root.call
    call('POST', f'{key}/rotate')
    latest = call('GET', key).data['latest_version']
    call('POST', f'{key}/config', {'min_decryption_version': latest, 'min_encryption_version': latest})
    call('POST', f'{key}/trim', {'min_available_version': latest})
    code, message = refused(world.c.stage, volume)
    demand(code == 'PRECONDITION', f'{code}: {message}')
    backup.take_away()


def header(world):
    """An open descriptor keeps the image's blocks."""
    for kms in ('kv', 'vault'):
        volume = world.used(f'header-{kms}', kms)
        with open(world.c.image(volume), 'rb', buffering=0) as f:
            demand(f.read(4) == b'LUKS', 'no header to begin with')
            world.delete(volume)
            f.seek(0)
            demand(not f.read(HEADER).strip(b'\0'), f'{kms}: something is left of the header')
            demand(f.read(SIZE).strip(b'\0') != b'', f'{kms}: the test is void, the data is gone too')


def new_volume(world):
    volume = world.create('new', 'kv')
    demand(world.kept(volume), 'no secret to begin with')
    before = world.secrets()
    world.delete(volume)
    demand(len(world.secrets()) == len(before) - 1, f'{world.secrets()} after {before}')


def rolled_back_create(world):
    """Too big for the pool: the key that was made for it goes again."""
    before = world.secrets()
    code, message = refused(lambda: world.c.create('too-big', 1 << 40, parameters={'kms': 'kv'}))
    demand(code == 'EXHAUSTED', f'{code}: {message}')
    demand(world.secrets() == before, f'{world.secrets()} after {before}')


# ---- outages

def vault_down(world):
    volume = world.used('down', 'kv')
    world.w.vault.seal()
    code, message = refused(world.c.delete, volume['volume_id'])
    demand(code == 'UNAVAILABLE', f'{code}: {message}')
    demand(world.c.record(volume)['state'] == 'erased', world.c.record(volume)['state'])
    demand(os.path.exists(world.c.image(volume)), 'space was freed before the key was gone')
    demand(refused(world.c.stage, volume)[0] != 'OK', 'an erased volume was opened')
    world.w.vault.unseal()
    demand(world.kept(volume), 'the secret went without Vault')
    world.delete(volume)
    demand(not os.path.exists(world.c.place(volume)), 'the volume is still there')


def vault_down_and_transit(world):
    volume = world.used('down-transit', 'vault')
    world.w.vault.seal()
    world.c.delete(volume['volume_id'])
    world.w.vault.unseal()
    demand(not os.path.exists(world.c.place(volume)), 'the volume is still there')


def not_allowed(world):
    """A controller that may not destroy: an error that says so, and nothing goes."""
    volume, name = world.used('denied', 'kv'), world.w.layout.policy_name('controller')
    old = world.w.root.call('GET', f'sys/policies/acl/{name}').data['policy']
    world.w.root.call('PUT', f'sys/policies/acl/{name}', {'policy': old.replace('"delete"', '"list"')})
    code, message = refused(world.c.delete, volume['volume_id'])
    world.w.root.call('PUT', f'sys/policies/acl/{name}', {'policy': old})
    demand(code == 'PERMISSION' and os.path.exists(world.c.image(volume)), f'{code}: {message}')
    world.delete(volume)


# ---- killed

def killed_anywhere(world, tap, kms):
    c, killer = world.c, FaultKiller(world.c, 'coffer-controller')
    volume = world.used(f'kill-{kms}', kms)
    points = killer.record(lambda: c.delete(volume['volume_id']))
    names = [name for _, name in points]
    wanted = {'controller:delete:erased', 'controller:delete:scrubbed'} | ({'controller:delete:key-destroyed'} if kms == 'kv' else set())
    tap.check(wanted <= set(names), f'{kms}: delete has {len(points)} points to be killed at', names)
    for point in sampled(points):
        def one(point=point):
            volume = world.used(f'kill-{kms}-{point[0]}', kms)
            uuid = c.record(volume)['uuid']
            demand(killer.strike(point, lambda: c.delete(volume['volume_id'])), f'it was not killed: {killer.said}')
            world.delete(volume)
            demand(not os.path.exists(c.place(volume)), 'the volume is still there')
            demand(not world.knows(uuid), 'its secret is still there')
            demand_clean(c)
        tap.run(f'{kms}: coffer-controller killed in delete at {point[0]} {point[1]}', one)


def create_killed(world, tap):
    """Killed between key and record: the repeated call's key takes the place of the first, and no secret is left."""
    c, killer = world.c, FaultKiller(world.c, 'coffer-controller')
    points = killer.record(lambda: c.create('kill-create', SIZE, parameters={'kms': 'kv'}))
    points = [p for p in points if p[1].startswith('controller:create:')]
    tap.check({'controller:create:minted', 'controller:create:allocated'} <= {name for _, name in points},
              f'kv: create has {len(points)} points to be killed at', points)
    for point in sampled(points):
        def one(point=point):
            before = world.secrets()
            name = f'kill-create-{point[0]}'
            demand(killer.strike(point, lambda: c.create(name, SIZE, parameters={'kms': 'kv'})), f'it was not killed: {killer.said}')
            volume = world.create(name, 'kv')
            demand(len(world.secrets() - before) == 1, f'{len(world.secrets() - before)} secrets of one volume')
            c.stage(volume)
            c.unstage(volume)
            world.delete(volume)
            demand(world.secrets() == before, 'a secret is left')
        tap.run(f'kv: coffer-controller killed in create at {point[0]} {point[1]}', one)


def story(vault, folder, tap):
    with opened(vault, folder) as w:
        world = World(w)
        try:
            tap.run('kv: image and record from a backup can\'t be opened after DeleteVolume', kv_backup, world)
            tap.run('transit: they can, until the tenant\'s key is rotated and trimmed', transit_backup, world)
            tap.run('the header is overwritten, the data after it is not', header, world)
            tap.run('a volume that was never used leaves no secret', new_volume, world)
            tap.run('a create that fails leaves no secret', rolled_back_create, world)
            tap.run('kv, Vault sealed: UNAVAILABLE, the record says erased, no space is freed; then it works', vault_down, world)
            tap.run('transit, Vault sealed: delete needs no Vault', vault_down_and_transit, world)
            tap.run('kv, not allowed to destroy: an error, nothing goes', not_allowed, world)
            for kms in ('kv', 'vault'):
                killed_anywhere(world, tap, kms)
            create_killed(world, tap)
            tap.check(not world.c.left_over(), 'nothing is left over', world.c.left_over())
        finally:
            world.c.stop()


vaultserver.main('erase', "it can't be sealed", story)
