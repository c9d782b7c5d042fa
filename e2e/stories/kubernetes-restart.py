#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kubernetes-restart: whatever restarts under running pods, they keep their data: kubelet, coffer-node, coffer-keyd and the whole
node, each with nothing else wrong, with coffer-keyd down and with Vault down. Each time a pod is deleted and another made in the
middle of it: the one goes, the other waits if the key can't be had, never starts on plain storage, and has its data afterwards."""
# story: where=nodes needs=kubernetes,vault,image
import itertools
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import kubecluster  # noqa: E402
import kubecoffer  # noqa: E402
import vaultserver  # noqa: E402
from kubeapi import object_path  # noqa: E402
from kubepods import BLOCK, busybox, claim, database, of_claim  # noqa: E402
from sweep import SAMPLE  # noqa: E402
from tap import begin, demand  # noqa: E402

STAYS, RAW, FIRST, SECOND = 'stays', 'raw', 'first', 'second'
MARKER = 'written before anything was restarted'
KEYD = '$(find /var/lib/containerd -path "*/fs/usr/*bin/coffer-keyd")'  # in the image, which all its containers share


class World:
    """goes: the pod that runs and is deleted next; comes: the one that is made next, whose claim has data."""

    def __init__(self, c, coffer):
        self.c, self.coffer, self.node = c, coffer, c.nodes[0]
        self.goes, self.comes = FIRST, SECOND
        self.marks = []

    def get(self, name):
        return self.c.api.get(object_path('Pod', name))

    def uid(self, name):
        return self.get(name)['metadata']['uid']

    def restarts(self, name):
        return self.get(name)['status']['containerStatuses'][0]['restartCount']

    def refusals(self, uid, why):
        """How often kubelet was told that a pod's volume can't be had now because of that, and the last sentence."""
        found = [e for e in self.c.api.items('Event') if e['involvedObject'].get('uid') == uid and
                 e['reason'] in ('FailedMount', 'FailedMapVolume') and 'code = Unavailable' in e['message'] and why in e['message']]
        return sum(e.get('count') or 1 for e in found), found[-1]['message'] if found else ''

    def mounts(self, uid):
        """What is mounted for a pod's claims: (device, path)."""
        lines = [line.split() for line in self.node.run('cat /proc/self/mountinfo').splitlines()]
        return [(line[line.index('-') + 2], line[4]) for line in lines if uid in line[4] and 'kubernetes.io~csi' in line[4]]

    def is_encrypted(self, name):
        mounts = self.mounts(self.uid(name))
        demand(mounts and all(device.startswith('/dev/coffer/coffer-') for device, _ in mounts), f'{name}: {mounts}')

    def has_nothing(self, name):
        """No container of it has run, and nothing that one could write to is there."""
        pod = self.get(name)
        uid, statuses = pod['metadata']['uid'], pod['status'].get('containerStatuses', [])
        demand(not any('running' in s['state'] for s in statuses), f'{name} runs: {statuses}')
        demand(not self.mounts(uid), f'{name} has mounts: {self.mounts(uid)}')
        written = self.node.run(f'find /var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi -path "*/mount/*" 2>/dev/null || true')
        demand(not written, f'{name} was given plain storage: {written}')

    def records(self, name):
        return self.c.kubectl('exec', name, '--', 'my-database', 'list')

    def acknowledged(self, name):
        """How many records it said were on the disk."""
        said = [line.split()[1] for line in self.c.kubectl('logs', name).splitlines() if line.startswith('wrote')]
        return int(said[-1]) if said else 0

    def count(self, command):
        return len(self.node.run(f'{command} || true').splitlines())

    def settle(self, pods):
        """Nothing is open but what these pods use; nothing is stuck."""
        held = {what: self.count(command) for what, command in (
            ('mappings', 'dmsetup ls | grep ^coffer-'), ('loop devices', f'losetup -l -n -O BACK-FILE | grep "{kubecoffer.IMAGE}"'),
            ('device nodes', 'ls /dev/coffer | grep ^coffer-'))}
        demand(set(held.values()) == {len(pods)}, f'{held} for {pods}')
        there = {o['metadata']['name']: o['metadata'].get('deletionTimestamp') for o in self.c.api.items('Pod')}
        demand(there == dict.fromkeys(pods), there)


# ---- what is restarted; meanwhile() is called while it is down

def kubelet(w, meanwhile):
    w.node.run('kill $(cat /run/kubelet.pid) && tail --pid=$(cat /run/kubelet.pid) -f /dev/null')
    meanwhile()
    w.node.run('start_kubelet')


def kill(w, program):
    w.node.run(f'kill -KILL $(pidof {program})')


def node_plugin_killed(w, meanwhile):
    kill(w, 'coffer-node')
    meanwhile()


def node_plugin_replaced(w, meanwhile):
    """Its pod is deleted, as an upgrade does."""
    pod = w.coffer.node_pod(w.node)
    w.c.api.delete('Pod', pod, kubecoffer.NAMESPACE)
    meanwhile()
    w.c.api.wait_gone('Pod', pod, kubecoffer.NAMESPACE)


def keyd_killed(w, meanwhile):
    kill(w, 'coffer-keyd')
    meanwhile()


def power(w, meanwhile):
    w.node.power_off()
    meanwhile()
    w.node.start()
    w.node.wait_up()


EVENTS = {'kubelet restarted': kubelet, 'coffer-node killed': node_plugin_killed, 'coffer-node\'s pod replaced': node_plugin_replaced,
          'coffer-keyd killed': keyd_killed, 'node power-cycled': power}


# ---- what else is wrong

class Fine:
    why = ''

    def __init__(self, w):
        self.w = w

    def begin(self):
        pass

    end = begin


class KeydDown(Fine):
    """It ends, and can't be started: what no container of the image can run, whatever restarts it, a power cut included: a mode
    that isn't on the disk yet would come back as it was."""
    why = 'connect to coffer-keyd'

    def begin(self):
        self.w.node.run(f'test -n "{KEYD}" && chmod 0 {KEYD} && sync')
        kill(self.w, 'coffer-keyd')

    def end(self):
        self.w.node.run(f'chmod 755 {KEYD}')


class VaultDown(Fine):
    why = 'Vault'

    def begin(self):
        self.w.coffer.vault.stop()

    def end(self):
        self.w.coffer.vault.start()


OUTAGES = {'': Fine, 'coffer-keyd down': KeydDown, 'Vault down': VaultDown}
ROWS = [(event, outage) for event, outage in itertools.product(EVENTS, OUTAGES)
        if (event, outage) != ('coffer-keyd killed', 'coffer-keyd down')]  # it was down before


def rows():
    """All, or with COFFER_SAMPLE each outage once, with another event."""
    return [ROWS[0], ROWS[8], ROWS[12]] if SAMPLE > 1 else ROWS


# ---- the tests

def installs(w):
    w.coffer.install()
    for name in (STAYS, FIRST, SECOND):
        w.c.apply(f'{claim(name)}---{database(name)}')
    w.c.apply(f'{claim(RAW, mode="Block")}---{busybox(RAW, of_claim(RAW), BLOCK)}')
    for name in (STAYS, RAW, FIRST, SECOND):
        w.c.wait_pod(name)
        if name != RAW:
            w.c.kubectl('exec', name, '--', 'my-database', 'put', MARKER)
    w.c.kubectl('exec', RAW, '--', 'sh', '-c', f'echo "{MARKER}" | dd of=/dev/volume bs=4096 conv=sync,fsync 2>/dev/null')
    w.c.delete('Pod', SECOND)
    w.settle((STAYS, RAW, FIRST))


def restart(w, event, outage):
    cut, wrong = event == 'node power-cycled', OUTAGES[outage](w)
    pods = {name: (w.uid(name), w.restarts(name), w.acknowledged(name) if name != RAW else 0) for name in (STAYS, RAW)}
    refused = {name: w.refusals(pods[name][0], wrong.why)[0] for name in pods}

    def meanwhile():
        w.c.api.delete('Pod', w.goes)
        w.c.apply(database(w.comes))

    wrong.begin()
    try:
        EVENTS[event](w, meanwhile)
        if outage:
            waits(w, wrong.why, {w.comes: 0, **(refused if cut else {})})
        if not cut or not outage:
            w.c.api.wait_gone('Pod', w.goes)  # closing takes no key
    finally:
        wrong.end()
    with w.c.times.of(f'{event}, {outage or "nothing else wrong"}: pods run again'):
        for name, (_, restarts, _) in pods.items():
            w.c.api.wait(object_path('Pod', name), lambda o, least=restarts + cut: all(
                s['ready'] and s['restartCount'] >= least for s in o['status']['containerStatuses']))
        w.c.wait_pod(w.comes)
        w.c.api.wait_gone('Pod', w.goes)
    for name, (uid, restarts, _) in pods.items():
        demand((w.uid(name), w.restarts(name)) == (uid, restarts + cut), f'{name} was restarted {w.restarts(name)} times')
    keeps_data(w, pods[STAYS][2])
    w.goes, w.comes = w.comes, w.goes
    w.coffer.wait_ready()
    w.settle((STAYS, RAW, w.goes))


def waits(w, why, pods):
    """The pods are refused, say why, and have nothing; pods: how often each was refused before."""
    for name, before in pods.items():
        path, uid = object_path('Event'), w.uid(name)
        w.c.api.wait(path, lambda _, uid=uid, before=before: w.refusals(uid, why)[0] > before)
        said = w.refusals(uid, why)[1]
        print(f'# {name} waits: {said[said.index("code = Unavailable"):]}', flush=True)
        if name != RAW:
            w.has_nothing(name)


def keeps_data(w, acknowledged):
    for name in (STAYS, w.comes):
        records = w.records(name)
        demand(MARKER in records, f'{name}: {records[-1000:]}')
        w.is_encrypted(name)
    demand(len(w.records(STAYS).splitlines()) >= acknowledged, f'{acknowledged} records were acknowledged')
    raw = w.c.kubectl('exec', RAW, '--', 'sh', '-c', 'dd if=/dev/volume bs=4096 count=1 2>/dev/null | head -1')
    demand(MARKER in raw, raw)


def claim_waits(w):
    """A new claim while Vault is sealed: no volume without a key; then it is bound, and its pod runs."""
    w.coffer.vault.seal()
    try:
        w.c.apply(f'{claim("late")}---{database("late")}')
        said = w.c.api.wait(object_path('Event'), lambda o: any(
            e['reason'] == 'ProvisioningFailed' and e['involvedObject']['name'] == 'late' for e in o['items']))
        messages = [e['message'] for e in said['items'] if e['reason'] == 'ProvisioningFailed']
        demand(all('Unavailable' in m or 'DeadlineExceeded' in m for m in messages), messages)
        late = w.c.api.get(object_path('PersistentVolumeClaim', 'late'))
        demand(late['status']['phase'] == 'Pending' and w.get('late')['status']['phase'] == 'Pending', late)
    finally:
        w.coffer.vault.unseal()
    with w.c.times.of('a claim that waited for Vault has its pod running'):
        w.c.wait_pod('late')
    w.is_encrypted('late')


def all_goes(w):
    names = (STAYS, RAW, FIRST, SECOND, 'late')
    volumes = [w.coffer.volume_of(name)[0] for name in names]
    for kind, name in itertools.product(('Pod', 'PersistentVolumeClaim'), names):
        w.c.api.delete(kind, name)
    for volume in volumes:
        w.c.api.wait_gone('PersistentVolume', volume)
    demand(w.coffer.left_over(w.node) == '', w.coffer.left_over(w.node))
    left = w.node.run('find /var/lib/coffer/default/volumes -type f').strip()
    demand(left == '', left)


def main():
    tap = begin('kubernetes-restart', kubecluster.why_not() or vaultserver.why_not() or kubecoffer.why_not())
    kubecluster.enter()
    with kubecluster.cluster('kubernetes-restart', images=[kubecoffer.image()], pool_size='4G') as c, kubecoffer.Coffer(c) as coffer:
        w = World(c, coffer)
        if tap.run('installed; pods with files and a raw block volume run', installs, w):
            for event, outage in rows():
                name = f'{event}, {outage}: pods wait, then have their data' if outage else f'{event}: pods keep their data'
                tap.run(name, restart, w, event, outage)
            tap.run('a claim made while Vault is sealed waits for its key', claim_waits, w)
            tap.run('all deleted: nothing is left', all_goes, w)
    tap.done()


main()
