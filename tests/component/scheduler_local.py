#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-scheduler's driver `local` with real coffer-controller, coffer-node and coffer-keyd before a played Vault and a played
coffer-launch; no device-mapper: what it finds out. What it changes is the story scheduler-local's. TAP on stdout."""
import contextlib
import json
import os
import socket
import sys
import threading

import caselib
import keyd_session
import schedulerlib
from controllerlib import MIB
from node_scheduler import CLIENT, World
from schedulerlib import Device


class Launch:
    """coffer-launch's wire, played: vms is what there is."""

    def __init__(self, path):
        self.vms, self.asked, self.path = {}, [], path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            c, _ = self.listener.accept()
            with c:
                asked = json.loads(b''.join(iter(lambda: c.recv(4096), b'')))  # pylint: disable=cell-var-from-loop
                if asked['verb'] != 'list':
                    self.asked.append(asked)
                if asked['verb'] == 'stop':
                    self.vms.pop(asked['id'], None)
                c.sendall(json.dumps({'ok': True, 'vms': list(self.vms.values())} if asked['verb'] == 'list' else {'ok': True}).encode())

    def put(self, device, state, status=''):
        cloud = device.name[:32]
        self.vms[cloud] = {'id': cloud, 'state': state, 'status': status, 'pid': 4242, 'uid': 2000000, 'memory': MIB}


class Local(schedulerlib.Scheduler):
    def __init__(self, folder, world, keyd_path, launch):  # pylint: disable=super-init-not-called
        self.folder, self.flags, self.process, self.keyd_path = folder, [], None, keyd_path
        self.socket, self.admin, self.log = (os.path.join(folder, name) for name in ('api.sock', 'admin.sock', 'log'))
        node = {'controller': 'unix://' + world.csi, 'node': world.sockets['scheduler'], 'launch': launch.path, 'pool': 'fast',
                'kms': 'vault', 'memory': 1024 * MIB, 'vms_max': 5}
        self.config = {'driver': 'local', 'url': 'https://clouds.example/clouds/', 'tenant': 'clouds', 'size': 16 * MIB,
                       'local': {'nodes': {'n1': node}, 'volumes': world.clouds, 'sockets': folder}}
        caselib.write(self.file('scheduler.json'), self.config)

    def add_node(self, name, **change):
        """Like n1, before the next start."""
        nodes = self.config['local']['nodes']
        nodes[name] = nodes['n1'] | change
        caselib.write(self.file('scheduler.json'), self.config)

    def argv(self):
        return [*super().argv(), '--keyd-socket', self.keyd_path]


class Host:
    def __init__(self, world, scheduler, launch):
        self.world, self.s, self.launch = world, scheduler, launch

    def device(self):
        return Device(self.s.folder)

    def make(self, device, **change):
        """Its volume, as the driver's CreateVolume has it."""
        secrets = {'uuid': device.uuid, 'commitment': device.commitment(), 'publicKey': device.public_key,
                   'algorithm': device.algorithm, 'wrapped': device.wrapped(), **change}
        return self.world.create(f'cloud-{device.name[:32]}', parameters=CLIENT, secrets=secrets)

    def clouds(self):
        return {c['id']: c for c in self.s.admin_get('/admin/clouds')['clouds']}


def a_volume_is_a_cloud(h):
    d = h.device()
    before = h.s.find(d)
    assert before.status == 404 and before['status'] == 'nonexistent', before
    volume = h.make(d)
    assert volume['volume_id'] == before['volumeId']  # told before it was there
    found = h.s.wait(d, 'detached')
    assert (found['volumeId'], found['uuid']) == (volume['volume_id'], d.uuid) and d.unseal(found['wrappedKey']) == d.key, found
    assert found['id'] == d.name[:32] and found['algorithm'] == 'RSA-OAEP-256'


def others_are_none(h):
    h.world.create('pvc-1')
    h.world.create('cloud-x', parameters=CLIENT, secrets={**node_seed(h.device())})
    d = h.device()
    h.make(d)
    h.s.wait(d, 'detached')
    assert list(h.clouds()) == [d.name[:32]], h.clouds()


def node_seed(device):
    return {'uuid': device.uuid, 'commitment': device.commitment(), 'publicKey': device.public_key, 'algorithm': device.algorithm,
            'wrapped': device.wrapped()}


def an_ended_vm_is_taken_away(h):
    """By coffer-launch's stop, which leaves nothing of it; what else is the story's."""
    d = h.device()
    h.make(d)
    h.s.wait(d, 'detached')
    h.launch.put(d, 'exited', 'out of memory')
    stop = {'verb': 'stop', 'id': d.name[:32], 'grace_ms': 10000}
    caselib.wait_for(lambda: stop in h.launch.asked and not h.launch.vms, 'it was asked to take the VM away')


def unreadable_is_not_absent(h):
    """A damaged record hides its own cloud, also after a restart, when its id alone is known; its VM is left alone."""
    d, other, third = h.device(), h.device(), h.device()
    volume = h.make(d)
    h.make(other)
    found = h.s.wait(d, 'detached')
    h.s.wait(other, 'detached')
    record = os.path.join(h.world.place(volume['volume_id']), 'record.json')
    text = caselib.read(record)
    caselib.write(record, '{')
    h.launch.put(d, 'exited', 'out of memory')
    message = f"the facts of cloud '{d.name[:32]}' can't be read now; the log has the reason"
    for restarted_before in (False, True):
        if restarted_before:
            h.s.kill()
            h.s.start(fresh=False)
        caselib.wait_for(lambda: h.s.find(d).json.get('error', {}).get('message') == message, 'it is hidden', h.s.process, h.s.log)
        assert h.s.find(d).status == 503 and h.s.find(other)['status'] == 'detached'
        refused = h.s.proved(d, 'POST', d.url + '/deploy', h.s.deploy_body(d, found))
        assert refused.status == 503 and refused['error']['message'] == message, refused
        assert h.clouds()[d.name[:32]]['status'] == 'unreadable', h.clouds()
    assert not h.launch.asked and h.launch.vms
    h.make(third)
    h.s.wait(third, 'detached')
    said = [line for line in caselib.read(h.s.log).splitlines() if "a volume's record can't be read" in line]
    assert len(said) == 2 and all(volume['volume_id'] in line for line in said), said  # one a start
    caselib.write(record, text)
    caselib.wait_for(lambda: not h.launch.vms, 'then its VM is taken away')
    h.s.kill()  # it would go on closing the volume, for which there is no device-mapper
    h.s.start()
    assert h.s.wait(d, 'detached')['wrappedKey'] == found['wrappedKey']


def a_silent_node_hides_its_own(h):
    """coffer-launch of n2 isn't there: what is on n1 goes on."""
    d, new = h.device(), h.device()
    h.make(d)
    h.s.wait(d, 'detached')
    h.s.kill()
    h.s.add_node('n2', launch=h.s.file('nobody.sock'))
    h.s.start(fresh=False)
    h.s.wait(d, 'detached')
    never_read = f"node 'n2', where cloud '{new.name[:32]}' may be, can't be read now; the log has the reason"
    assert h.s.find(new)['error']['message'] == never_read
    second = Launch(h.s.file('nobody.sock'))
    h.s.wait(new, 'nonexistent')
    assert [n['schedulable'] for n in h.s.admin_get('/admin/nodes')['nodes']] == [True, True]
    second.listener.close()
    os.unlink(second.path)
    caselib.wait_for(lambda: caselib.read(h.s.log).count("a node can't be read") == 2, 'it is silent again', h.s.process, h.s.log)
    assert h.s.find(new)['status'] == 'nonexistent' and h.s.find(d)['status'] == 'detached'
    assert [n['schedulable'] for n in h.s.admin_get('/admin/nodes')['nodes']] == [True, False]


def restarted(h):
    d = h.device()
    h.make(d)
    h.s.wait(d, 'detached')
    h.s.kill()
    h.s.start()
    assert h.s.find(d)['status'] == 'detached'


def nodes(h):
    listed = h.s.admin_get('/admin/nodes')
    n1 = listed['nodes'][0]
    free = int(h.world.call('GetCapacity', parameters={'pool': 'fast'})['available_capacity'])
    assert n1['name'] == 'n1' and n1['memory'] == 1024 * MIB, listed
    assert abs(next(v for k, v in n1.items() if k.startswith('storage')) - free) < 1 << 30, (listed, free)


def another_key_is_a_conflict(h):
    """What the record tells of it is compared."""
    d = h.device()
    h.make(d)
    found = h.s.wait(d, 'detached')
    body = h.s.deploy_body(d, found)
    for name, value, what in (('commitment', 'f' * 64, 'commitment'), ('wrappedKey', d.seal(os.urandom(32)), 'wrapped key'),
                              ('uuid', '00000000-0000-4000-8000-000000000000', 'uuid')):
        answer = h.s.proved(d, 'POST', d.url + '/deploy', body | {name: value})
        assert answer.status == 409 and answer['error']['code'] == 'conflict', answer
        assert answer['error']['message'] == f'this device has a cloud with another {what}', answer


@contextlib.contextmanager
def host(world, keyd_path):
    world.reset()
    if world.node is None:
        world.start_node()
    with caselib.folder('coffer-local.') as folder:
        launch = Launch(os.path.join(folder, 'launch.sock'))
        s = Local(folder, world, keyd_path, launch).start()
        try:
            yield Host(world, s, launch)
        finally:
            s.kill()


def main(tests):
    with caselib.folder('coffer-sched.') as root, keyd_session.scheduler() as (vault, keyd):
        caselib.run(['openssl', 'genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out',
                     os.path.join(os.path.dirname(vault.certificate), 'rsa.key')])
        keyd_session.answer_key(vault)
        world = World(root)
        try:
            return caselib.main(tests, lambda: host(world, keyd.path))
        finally:
            world.close()


if __name__ == '__main__':
    sys.exit(main([a_volume_is_a_cloud, others_are_none, an_ended_vm_is_taken_away, unreadable_is_not_absent, a_silent_node_hides_its_own,
                   restarted, nodes, another_key_is_a_conflict]))
