#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kubernetes-native: what a native node of the Kubernetes stories promises, without a control plane: containerd, kubelet and a static
pod on this machine, which keeps nothing of them. A power cut loses what was not written, and touches no device of anybody else's."""
# story: memory=2048M needs=kubernetes
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import kubeimages  # noqa: E402
import kubenative  # noqa: E402
import kubenet  # noqa: E402
from kubenative import tool  # noqa: E402
from tap import begin, demand, run_all  # noqa: E402

SETTINGS = ('vm/overcommit_memory', 'kernel/panic', 'kernel/panic_on_oops', 'kernel/keys/root_maxkeys')
FOLDERS = ('/var/lib/kubelet', '/var/lib/containerd', '/var/lib/coffer', '/var/log/pods', '/run/containerd', '/run/node')
POD = {'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': 'static'}, 'spec': {'containers': [{
    'name': 'c', 'image': kubeimages.BUSYBOX, 'imagePullPolicy': 'Never',
    'command': ['sh', '-c', 'ip -o addr show eth0; while :; do sleep 1; done']}]}}
OPEN = ('loop=$(losetup --show -f /var/lib/coffer/image); head -c 32 /dev/zero | cryptsetup open --type plain --cipher aes-xts-plain64 '
        '--key-size 256 -d - $loop coffer-story; mkdir -p /run/volume')


class Nobody:
    """In the place of a control plane: kubelet is given an address where nothing answers, and runs its static pods."""

    def add_user(self, *_):
        pass

    def write_kubeconfig(self, _, path):
        with open(path, 'w', encoding='ascii') as f:
            json.dump({'apiVersion': 'v1', 'kind': 'Config', 'current-context': 'test',
                       'clusters': [{'name': 'test', 'cluster': {'server': f'http://{kubenet.HOST}:1'}}], 'users': [],
                       'contexts': [{'name': 'test', 'context': {'cluster': 'test', 'user': ''}}]}, f)


def machine():
    """What a node could change of this machine."""
    settings = {name: kubenative.read(f'/proc/sys/{name}') for name in SETTINGS}
    loops = {line for line in tool('losetup', '-l', '-n', '-O', 'NAME,BACK-FILE').splitlines() if line}
    with open('/proc/self/mountinfo', encoding='utf-8') as f:
        mounts = len(f.readlines())
    return {**settings, 'folders': [f for f in FOLDERS if os.path.exists(f)], 'devices': os.path.isdir('/dev/coffer'),
            'mappings': sorted(kubenative.mappings().values()), 'loops': loops, 'mounts': mounts, 'host name': os.uname().nodename}


class World:
    def __init__(self, scratch):
        self.scratch, components = f'{scratch}/native', os.environ['COFFER_KUBERNETES']
        os.makedirs(f'{self.scratch}/work')
        work = f'{self.scratch}/work'
        images = (kubeimages.busybox_image(components),
                  kubeimages.Image(kubeimages.PAUSE, ['/pause'], {'pause': kubeimages.compile_static('pause', work)}))
        archives = [kubeimages.write_image(f'{work}/{number}.tar', image) for number, image in enumerate(images)]
        disk = kubeimages.node_disk(f'{work}/n1.img', archives, components, work, '2G')
        self.other = kubeimages.make_disk(f'{work}/other.img', '8M')
        self.before = machine()
        self.node = kubenative.NativeNode(1, self.scratch, components, Nobody(), disk, '1G', '')
        self.add_pod()

    def add_pod(self):
        folder, config = f'{self.node.share}/static', f'{self.node.share}/kubelet.yaml'
        os.makedirs(folder)
        with open(config, encoding='ascii') as f:
            changed = {**json.load(f), 'staticPodPath': folder}
        self.node.write('kubelet.yaml', json.dumps(changed))
        self.node.write('static/pod.json', json.dumps(POD))

    def start(self):
        self.node.start()
        self.node.wait_up()


def starts(w):
    w.start()
    said = w.node.run('for i in $(seq 400); do cat /var/log/pods/*/c/0.log 2>/dev/null | grep eth0 && break; sleep 1; done; '
                      'cat /var/log/pods/*/c/0.log')
    demand(' 10.88.1.' in said, said)
    demand(os.path.isdir(f'{w.node.cgroup}/kubepods') and not os.path.exists(f'{kubenative.CGROUPS}/kubepods'), 'the cgroup of its pods')
    demand(w.node.run('hostname').strip() == 'n1', 'its host name')


def keeps_to_itself(w):
    now = machine()
    demand(w.node.run('cat /proc/sys/vm/overcommit_memory').strip() == '1', 'kubelet has not set what is the whole machine\'s')
    own = {f'{kubenative.RIG}-n1-disk0', f'{kubenative.RIG}-n1-disk1'}
    demand(set(now['mappings']) - set(w.before['mappings']) == own, now['mappings'])
    changed = {k: (w.before[k], now[k]) for k in now if k not in ('mappings', 'loops', 'devices') and w.before[k] != now[k]}
    demand(not changed, changed)


def refuses_company(w):
    demand('COFFER_STORAGE=vm' in kubenative.why_not(2), kubenative.why_not(2))
    demand(f'{kubenative.RIG}-n1-disk0' in kubenative.why_not(1), kubenative.why_not(1))


def loses_power(w):
    """A volume as Coffer has them, on the pool's disk: one file synced, the other not."""
    w.node.run(f'set -e; truncate -s 64M /var/lib/coffer/image; {OPEN}; mkfs.ext4 -q /dev/mapper/coffer-story; '
               'mount /dev/mapper/coffer-story /run/volume; echo kept >/run/volume/synced; sync; echo lost >/run/volume/other')
    demand('a Coffer that works here' in kubenative.why_not(1), kubenative.why_not(1))
    other = tool('losetup', '--show', '-f', w.other)
    tool('dmsetup', 'create', 'story-of-another', '--table', f'0 2048 linear {other} 0')
    try:
        w.node.power_off()
        now = machine()
        demand('story-of-another' in now['mappings'] and any(line.startswith(f'{other} ') for line in now['loops']), now)
    finally:
        tool('dmsetup', 'remove', 'story-of-another')
        tool('losetup', '-d', other)
    demand(machine() == w.before, f'{w.before} {machine()}')


def comes_back(w):
    w.start()
    found = w.node.run(f'set -e; {OPEN}; mount /dev/mapper/coffer-story /run/volume; '
                       'cat /run/volume/synced; cat /run/volume/other 2>/dev/null || true')
    demand(found == 'kept\n', found)
    w.node.power_off()
    demand(machine() == w.before, f'{w.before} {machine()}')


TESTS = (
    ('containerd, kubelet and a static pod run, in a cgroup, a network and a host name of their own', starts),
    ('what the node sets, mounts and writes is not this machine\'s', keeps_to_itself),
    ('a second node is refused, by name', refuses_company),
    ('power cut: all of the node is gone, and nothing of anybody else\'s', loses_power),
    ('it comes back with what was synced, without what was not', comes_back),
)


def main():
    inside = os.environ.get(kubenet.INSIDE)
    tap = begin('kubernetes-native', not inside and (os.environ.get('COFFER_KUBERNETES_WHY') or kubenative.why_not(1)))
    kubenet.enter()
    kubenet.bridge(1)
    w = World(os.environ['COFFER_SCRATCH'])
    try:
        run_all(tap, TESTS, w, needed=len(TESTS))  # each stands on the one before
    finally:
        w.node.power_off()
        if tap.failures:
            subprocess.run(f'tail -n 40 {w.node.share}/logs/*.log | cut -c1-300', shell=True, check=False)
    tap.done()


main()
