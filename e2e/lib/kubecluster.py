# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes for a story: control plane on this machine (kubecontrol.py), nodes in micro-VMs (kubenode.py) or, where this
machine has dm-crypt, one on it (kubenative.py); images without a registry (kubeimages.py), all in namespaces of its own (kubenet.py).

    tap = begin('kubernetes-rig', kubecluster.why_not())
    kubecluster.enter()                                  first thing in main(): the program starts again inside
    with kubecluster.cluster('kubernetes-rig') as c:     nodes=2 for two; images=[archive] for more images
        c.apply(text)
        c.wait_pod('my-database')
        print(c.kubectl('logs', 'my-database'))

Logs of every component and pod, the events and the objects are in c.folder when it ends: COFFER_BUILD/kubernetes/NAME."""
import contextlib
import os
import shutil
import subprocess
import sys
import time

import kubecontrol
import kubenative
import kubenet
from kubeapi import object_path
from kubeimages import common_images, node_disk
from kubenode import Node, copy_disk

VM = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), 'vm')
sys.path.insert(0, VM)
import vmrun  # noqa: E402

enter = kubenet.enter


def is_native():
    """Whether nodes run on this machine itself: as vm-or-native chooses."""
    said = subprocess.run([f'{VM}/vm-or-native', '--check'], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return said.stdout.strip() == 'native'


def why_not(nodes=1):
    """Why there can't be a cluster here; '' when there can."""
    if reason := kubecontrol.why_not():
        return reason
    if is_native():
        return kubenative.why_not(nodes)
    if not shutil.which(vmrun.QEMU):
        return f'a cluster\'s nodes run in the VM, and {vmrun.QEMU} is missing'
    return kubenet.why_not()


class Times:
    """How long things took, for the table at the end."""

    def __init__(self):
        self.rows, self.began = [], time.monotonic()

    def since_start(self, what):
        self.rows.append((what, time.monotonic() - self.began))

    @contextlib.contextmanager
    def of(self, what):
        start = time.monotonic()
        yield
        self.rows.append((what, time.monotonic() - start))

    def table(self):
        width = max((len(what) for what, _ in self.rows), default=0)
        return '\n'.join(f'# {what:{width}}  {seconds:6.1f} s' for what, seconds in self.rows)


class Cluster:
    def __init__(self, name, nodes, images, pool_size, memory):
        """images: archives, beside those that every cluster has. memory: of each node, as QEMU wants it."""
        self.name, self.components = name, os.environ['COFFER_KUBERNETES']
        self.folder = os.path.join(os.environ['COFFER_BUILD'], 'kubernetes', name)
        self.extra_images, self.pool_size, self.memory, self.times = images, pool_size, memory, Times()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(f'{self.folder}/work')
        self.nodes = []
        self.control = kubecontrol.ControlPlane(self.folder, f'{self.components}/bin', self.nodes_alive)
        self.api, self.kubectl = self.control.api, self.control.kubectl
        self.count = nodes

    # ---- its life

    def make_nodes(self):
        work = f'{self.folder}/work'
        with self.times.of('images and disk made'):
            disk = node_disk(f'{work}/node.img', [*common_images(self.components, work), *self.extra_images], self.components, work)
        kind = kubenative.NativeNode if is_native() else Node
        for number in range(1, self.count + 1):
            own = copy_disk(disk, f'{work}/n{number}.img')
            self.nodes.append(kind(number, self.folder, self.components, self.control, own, self.pool_size, self.memory))

    def start(self):
        """Until all nodes take pods."""
        kubenet.bridge(self.count)
        self.make_nodes()
        for node in self.nodes:
            node.start()
        self.control.start()
        self.times.since_start('control plane ready')
        for node in self.nodes:
            node.wait_up()
            self.wait_node(node.name)
        self.times.since_start('nodes ready')

    def nodes_alive(self):
        for node in self.nodes:
            node.alive()  # one that was switched off is

    def stop(self):
        """Keeps the logs, whatever state it is in, and removes what is big."""
        for keep in (self.keep_objects, *(node.keep_logs for node in self.nodes)):
            with contextlib.suppress(Exception):
                keep()
        for node in self.nodes:
            node.power_off()
        self.control.stop()
        for path in (f'{self.folder}/work', f'{self.folder}/etcd', f'{self.folder}/pki'):
            shutil.rmtree(path, ignore_errors=True)
        for node in self.nodes:
            os.unlink(node.pool)

    def keep_objects(self):
        for name, what in (('events', ('events', '--sort-by=.lastTimestamp')), ('objects', ('all,pv,pvc,csinodes,csidrivers',))):
            with open(f'{self.folder}/logs/{name}.txt', 'w', encoding='utf-8') as f:
                f.write(self.kubectl('get', '--all-namespaces', '-o', 'wide', *what))

    # ---- what stories do

    def apply(self, text, *arguments):
        return self.kubectl('apply', '-f', '-', *arguments, data=text)

    def dry_run(self, *arguments, data=None):
        """What the API server says to a manifest without taking it."""
        return self.kubectl('apply', '--dry-run=server', *arguments, data=data)

    def wait_node(self, name):
        def takes_pods(node):
            ready = any(c['type'] == 'Ready' and c['status'] == 'True' for c in node['status']['conditions'])
            return ready and not any('node.kubernetes.io/' in t['key'] for t in node['spec'].get('taints') or [])
        return self.api.wait(object_path('Node', name), takes_pods)

    def wait_pod(self, name, namespace='default'):
        """Until it runs and all its containers are ready."""
        return self.api.wait(object_path('Pod', name, namespace), lambda o: o['status']['phase'] == 'Running' and
                             all(c['ready'] for c in o['status']['containerStatuses']))

    def delete(self, kind, name, namespace='default'):
        """Until it is gone."""
        self.api.delete(kind, name, namespace)
        self.api.wait_gone(kind, name, namespace)


@contextlib.contextmanager
def cluster(name, nodes=1, images=(), pool_size='16G', memory='2048M'):
    c = Cluster(name, nodes, list(images), pool_size, memory)
    try:
        c.start()
        yield c
    finally:
        c.stop()
        print(f'{c.times.table()}\n# logs: {c.folder}', flush=True)
