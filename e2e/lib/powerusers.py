# SPDX-License-Identifier: Apache-2.0
"""A user's cloud on a recorded disk: made, written to, locked, unlocked, a second device comes, the first one goes and the key with it,
deleted, all by coffer-scheduler's HTTP API. Vault and the devices are other machines, which keep what they have."""
import os
import shutil

from fixture import wait_for
from localcloud import LocalHost
from powercloud import accepted, gone, mount, text_is_there, write_text
from powerkeys import recorded_beside_vault
from powerlife import Aftermath
from powerpast import Recorded
from schedulerlib import Device
from tap import demand

CLOUD, CLOSED = 'cloud', 'detached'


class DiskHost(LocalHost):
    """Its pool lies on a disk of its own; the scheduler keeps nothing anywhere."""

    def __init__(self, vault, folder):
        super().__init__(vault, folder + '.vault')
        self.disk = folder + '.disk'
        self.pool = self.disk + '/pool'


class CloudPast(Recorded):
    def __init__(self, vault, folder):
        os.makedirs(folder + '.vault', mode=0o755)
        shutil.copy(vault.ca, folder + '.vault/ca.pem')
        vault.ca = folder + '.vault/ca.pem'
        super().__init__(folder, 'ext4', make=lambda root: DiskHost(vault, root))
        self.phone, self.tablet = Device(folder + '.vault'), Device(folder + '.vault')
        self.tablet.uuid = self.phone.uuid
        self.old, self.new = self.phone.key, self.tablet.key

    # ---- the life

    def story(self, life):
        api, phone, tablet = self.c.api, self.phone, self.tablet
        life.say(CLOUD, has_text=False, owners=['phone'])
        life.call(CLOUD, 'create', lambda: api.created(phone), state='open')
        write_text(self.c, phone)
        life.say(CLOUD, has_text=True)
        life.call(CLOUD, 'lock', lambda: api.locked(phone), state='closed')
        life.call(CLOUD, 'unlock', lambda: mount(self.c, phone), state='open')
        life.call(CLOUD, 'lock', lambda: api.locked(phone), state='closed')
        life.call(CLOUD, 'add', self.add, owners=['phone', 'tablet'])
        life.call(CLOUD, 'remove', self.remove, owners=['tablet'])
        tablet.key = self.new
        life.call(CLOUD, 'unlock', lambda: mount(self.c, tablet), state='open')
        life.call(CLOUD, 'lock', lambda: api.locked(tablet), state='closed')
        life.call(CLOUD, 'delete', lambda: gone(self.c, tablet), state='gone')

    def add(self):
        """The tablet comes; it knows the key that there is."""
        phone, tablet, found = self.phone, self.tablet, self.c.api.find(self.phone)
        body = {'publicKey': tablet.public_key, 'algorithm': tablet.algorithm, 'wrappedKey': tablet.seal(self.old), 'label': 'tablet',
                **phone.session(found['serverKey'], found['volumeId'])}
        self.list_is(self.c.api.proved(phone, 'POST', phone.url + '/recipients', body), phone, tablet)

    def remove(self):
        """The phone goes: what stays has another key."""
        phone, tablet, found = self.phone, self.tablet, self.c.api.find(self.tablet)
        lent = tablet.session(found['serverKey'], found['volumeId'], key=self.old)
        fresh = tablet.session(found['serverKey'], found['volumeId'], key=self.new)
        body = {'name': phone.name, **lent, 'newSession': fresh['session'], 'newServerKey': fresh['serverKey'],
                'newCommitment': tablet.commitment(self.new),
                'newRecipients': [{'fingerprint': tablet.fingerprint, 'wrapped': tablet.seal(self.new)}]}
        self.list_is(self.c.api.proved(tablet, 'POST', tablet.url + '/recipients/remove', body), tablet)

    def list_is(self, answer, *devices):
        """At once, or after a while: a slow machine answers 504 in time, and goes on."""
        demand(answer.status in (200, 504), str(answer))
        last = devices[-1]

        def there():
            listed = self.c.api.proved(last, 'POST', last.url + '/recipients/list', {})
            return listed.status == 200 and [d['name'] for d in listed['devices']] == [d.name for d in devices]
        wait_for(f'{len(devices)} devices', there, 900)

    # ---- after a cut

    def clean(self):
        self.c.kill_vms()
        super().clean()
        self.c.forget_vms()

    def judge_known(self, known):
        facts = known.get(CLOUD)
        if facts is not None:
            self.cloud(facts)
        demand(not self.c.left_over(), f'left over: {self.c.left_over()}')
        Aftermath(self.c, {}).demand_empty()

    def cloud(self, facts):
        state, doing = facts['state'], facts['doing']
        device = self.tablet if 'tablet' in facts['owners'] else self.phone
        demand(not self.c.left_over(), f'a machine that just started has {self.c.left_over()}')
        found = self.find(device)
        if state == 'gone' or state == 'absent' and doing is None:
            demand(found['status'] == 'nonexistent', f'find says {found}')
            return
        if state != 'absent' and doing != 'delete':
            demand(found['status'] == CLOSED, f'acknowledged: {state}; find says {found}')
            self.opens(device, facts)
        elif doing == 'create':
            self.created_once_more(found)
        gone(self.c, device)

    def find(self, device):
        """A slow machine may answer 504 at first; what it says in the end is printed if it is nothing that a client knows."""
        last = []

        def known():
            last[:] = [self.c.api.find(device)]
            return last[0].status not in (503, 504)
        wait_for('find is answered', known, 900)
        demand(last[0].status in (200, 404), f'find says {last[0]}')
        return last[0]

    def opens(self, device, facts):
        """By the key that is wrapped for it: of a change that was cut, the old one or the new one."""
        device.key = device.unseal(self.find(device)['wrappedKey'])
        allowed = {self.old} if 'tablet' not in facts['owners'] else {self.new} if facts['owners'] == ['tablet'] else {
            self.old, self.new} if facts['doing'] == 'remove' else {self.old}
        demand(device.key in allowed, 'another key is wrapped for it than was acknowledged')
        mount(self.c, device)
        if facts['has_text']:
            text_is_there(self.c, self.phone)  # the VM has the name of the device that made the cloud
        self.c.api.locked(device)
        if facts['doing'] == 'add':
            self.add()
        if facts['doing'] == 'remove' and device.key == self.old:
            self.remove()

    def created_once_more(self, found):
        self.phone.key = self.old
        if found['status'] == CLOSED:
            mount(self.c, self.phone)
        else:
            demand(found['status'] in ('nonexistent', 'failure'), f'find says {found}')
            accepted(self.c.api.deploy(self.phone))
            self.c.api.wait(self.phone, 'attached', patient=True)
        write_text(self.c, self.phone)
        self.c.api.locked(self.phone)


def recorded(tap, folder):
    recorded_beside_vault(tap, folder, CloudPast, 'a user\'s cloud', writes=1)
