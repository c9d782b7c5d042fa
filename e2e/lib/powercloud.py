# SPDX-License-Identifier: Apache-2.0
"""QEMU killed while a user's cloud is created, mounted or locked by coffer-scheduler with its driver `local`, and while records are
rewrapped. Vault, and the user's device, are other machines: Vault runs outside, and the device's key is on the disk from the start."""
import os
import pickle

import vaultserver
from fixture import MIB
from localcloud import LocalHost
from powerkeys import TENANT, Keys, parameters
from powerkill import Cuts, Held, Machine, cut, say, tell
from powerlife import Aftermath, Life
from schedulerlib import Device
from tap import demand
from testpki import HERE
from vaultsetup import TENANT_KEY, Layout

OUTSIDE = '10.0.2.2'  # what QEMU's own network calls the machine that it runs on
TEXT = 'what the user wrote'
NAMES = ('k1', 'k2')
KILLS = (('coffer-node', 'stage:filesystem:made', 'create'),
         ('coffer-launch', 'launch.start.prepared', 'mount'),
         ('coffer-node', 'unstage:unmount:after', 'lock'),
         ('coffer-controller', 'controller:delete:erased', 'delete'),
         ('cofferctl', 'cofferctl:rewrap:locked', 'rewrap'),
         ('cofferctl', 'fs:atomic:renamed', 'rewrap'))


# ---- inside ----

class Remote(vaultserver.Foreign):
    """The tests' own server, reached over the network."""
    ours = True


class Host(LocalHost):
    """What is inside Vault was set up outside."""

    def set_up_vault(self):
        pass


class Clouds(Machine):
    def __init__(self):
        super().__init__(self.make)
        self.devices = {name: f'{self.where}/device-{name}' for name in ('old', 'fresh')}

    def make(self):
        folder = self.where + '/vault'
        os.makedirs(folder, exist_ok=True)
        vault = Remote(folder)
        with open(vault.ca, 'rb') as f, open(folder + '/ca.pem', 'wb') as g:
            g.write(f.read())
        vault.ca = folder + '/ca.pem'
        return Host(vault, folder)

    def device(self, name):
        with open(self.devices[name], 'rb') as f:
            return pickle.load(f)

    def new_device(self, name):
        device = Device(self.where)
        device.wrapped()
        with open(self.devices[name], 'wb') as f:
            pickle.dump(device, f)
        return device


def text_is_there(h, device):
    status, document = h.ask_vm(device, 'GET', '/personalcloud/db/one')
    demand(status == 200 and document['text'] == TEXT, f'{status} {document}')


def write_text(h, device):
    demand(h.ask_vm(device, 'PUT', '/personalcloud/db')[0] in (200, 201), 'a database')
    demand(h.ask_vm(device, 'PUT', '/personalcloud/db/one', {'text': TEXT})[0] in (200, 201), 'a document')


def mount(h, device):
    answer = h.api.mount(device)
    demand(answer.status in (200, 202), str(answer))
    h.api.wait(device, 'attached', patient=True)


def prepare():
    machine = Clouds()
    h = machine.c
    h.install()
    machine.boot()
    device = machine.new_device('old')
    machine.new_device('fresh')
    h.api.created(device)
    write_text(h, device)
    h.api.locked(device)
    life = Life(h, tell)
    for name in NAMES:
        life.create(name, size=16 * MIB, **parameters())
        life.stage(name)
        life.write(name)
        life.unstage(name)
    machine.off()


def accepted(answer):
    demand(answer.status in (200, 202), str(answer))


def remove(h, device):
    return h.api.proved(device, 'DELETE', device.url)


def victim(program, point, what):
    machine = Clouds()
    h = machine.boot()
    old, fresh, keys = machine.device('old'), machine.device('fresh'), Keys(h, h.layout)
    if what == 'lock':
        mount(h, old)
    if what == 'rewrap':
        keys.run('rotate')
    calls = {'create': lambda: h.api.deploy(fresh), 'mount': lambda: accepted(h.api.mount(old)), 'lock': lambda: accepted(h.api.lock(old)),
             'delete': lambda: accepted(remove(h, old)), 'rewrap': keys.rewrap}
    with Held(h, program, point, calls[what]):
        cut()


def created_again(h, device):
    """A create that was cut: the same again, or what find says is there is opened."""
    found = h.api.find(device)
    say(f'# after the cut: {found["status"]}')
    if found['status'] == 'detached':
        mount(h, device)
    else:
        h.api.created(device)
    write_text(h, device)
    h.api.locked(device)


def opened_again(h, device):
    mount(h, device)
    text_is_there(h, device)
    h.api.locked(device)


def gone(h, device):
    """Also what a delete that was cut had left."""
    found = h.api.find(device)
    if found['status'] != 'nonexistent':
        accepted(remove(h, device))
    h.api.wait(device, 'nonexistent', patient=True)
    place = h.place({'volume_id': found['volumeId']})
    demand(not os.path.exists(place), f'deleted, its place is there: {place}')


def survivor(what, told):
    machine = Clouds()
    h = machine.boot()
    old, fresh = machine.device('old'), machine.device('fresh')
    demand(not h.left_over(), f'a machine that just started has {h.left_over()}')
    if what == 'create':
        created_again(h, fresh)
        gone(h, fresh)
    if what != 'delete':
        opened_again(h, old)
    gone(h, old)
    demand(not h.left_over(), f'left over: {h.left_over()}')
    keys_are_right(h, told)
    machine.off()


def keys_are_right(h, told):
    after = Aftermath(h, told)
    Keys(h, h.layout).rewrap()
    newest = h.layout.root.call('GET', f'{h.layout.transit}/keys/{TENANT_KEY}{TENANT}').data['latest_version']
    for name in NAMES:
        version = h.record(told[name]['volume'])['key']['key_version']
        demand(version == newest, f'{name} is under version {version} of {newest}')
        after.one(name, told[name])
    after.demand_empty()


PARTS = {'prepare-clouds': prepare, 'clouds-victim': victim, 'clouds-survivor': survivor}


# ---- outside ----

class CloudCuts(Cuts):
    """With a Vault of its own, outside of what is cut."""
    PREPARE, TITLE, MEMORY = 'prepare-clouds', 'clouds', '2048M'

    def start_vault(self):
        folder = self.folder + '/vault'
        os.mkdir(folder)
        self.vault = vaultserver.Server(folder)
        self.vault.install(self.vault.authority.issue('server', names=(*HERE, 'IP:' + OUTSIDE)))
        self.vault.start()
        LocalHost.set_up_vault(self)

    @property
    def layout(self):
        return Layout(self.vault)

    def environment(self):
        return {'VAULT_ADDR': f'https://{OUTSIDE}:{self.vault.listen.rpartition(":")[2]}', 'VAULT_TOKEN': self.vault.root.token,
                'VAULT_CACERT': self.vault.ca}

    def cut(self, program, point, what):
        self.vm('clouds-victim', program, point, what, kill=True)
        self.vm('clouds-survivor', what, self.told)

    def run(self, tap, kills=KILLS):
        self.start_vault()
        try:
            super().run(tap, kills)
        finally:
            self.vault.stop()
