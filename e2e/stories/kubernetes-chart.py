#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kubernetes-chart: the Helm chart on a real cluster, by the commands of docs/kubernetes.md: installed, upgraded and rolled back while a
database writes, which goes on; generic ephemeral volumes, read-only use; uninstalled under a running pod and installed again, with all
data there."""
# story: where=nodes needs=kubernetes,vault,image,helm
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import kubecluster  # noqa: E402
import kubecoffer  # noqa: E402
import kubehelm  # noqa: E402
import kubeleaks  # noqa: E402
import vaultserver  # noqa: E402
from kubeapi import object_path  # noqa: E402
from kubecoffer import NAMESPACE  # noqa: E402
from kubepods import SLEEPS, busybox, claim, database, of_claim  # noqa: E402
from tap import begin, demand, run_all  # noqa: E402

EPHEMERAL = ('ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}, '
             'storageClassName: encrypted}}}')
USER = 'my-database'  # it writes a record a second, from the beginning to the end
ATTACHMENTS = '/apis/storage.k8s.io/v1/volumeattachments'


def shell(name, volume):
    return busybox(name, volume, command=SLEEPS)


class World:
    def __init__(self, c, coffer):
        self.c, self.coffer, self.node, self.helm = c, coffer, c.nodes[0], None
        self.container, self.node_pod, self.wrote, self.objects = None, None, 0, []

    def sh(self, name, script):
        return self.c.kubectl('exec', name, '--', 'sh', '-c', script)

    def refused(self, name, script):
        """What the shell in the pod said when that failed."""
        try:
            self.sh(name, script)
        except RuntimeError as e:
            return str(e)
        raise RuntimeError(f'{name}: {script}: was done')

    def remove_claim(self, name):
        volume, _ = self.coffer.volume_of(name)
        self.c.delete('PersistentVolumeClaim', name)
        self.c.api.wait_gone('PersistentVolume', volume)

    def container_of(self, name):
        s = self.c.api.get(object_path('Pod', name))['status']['containerStatuses'][0]
        return s['containerID'], s['restartCount'], s['state'].keys() == {'running'}

    def goes_on(self):
        """The database is the same process and has written since the last look; it checks all its records itself. kubelet's exec
        needs nothing of Coffer's."""
        last = self.wrote

        def more(_):
            self.wrote = len(self.c.kubectl('exec', USER, '--', 'my-database', 'list').splitlines())
            return self.wrote > last
        self.c.api.wait(object_path('Pod', USER), more, pause=0.5)
        demand(self.container_of(USER) == self.container, f'{self.container_of(USER)}, before {self.container}')

    def replaced(self):
        """All pods of Coffer's are there and ready, coffer-node's is another than before and was accepted by kubelet."""
        self.coffer.wait_ready()
        name = self.coffer.node_pod(self.node)
        demand(name != self.node_pod, f'{name} was not replaced')
        self.node_pod = name
        address = self.c.api.get(object_path('Pod', name, NAMESPACE))['status']['podIP']
        figures = kubeleaks.metrics(f'{address}:9810')
        demand(figures['coffer_node_registered'] == 1 and figures['coffer_node_registrations_total{result="accepted"}'] >= 1, figures)

    def use_a_new_volume(self, name):
        """Claim and pod from nothing to nothing."""
        self.c.apply(f'{claim(name)}---{shell(name, of_claim(name))}')
        self.finish_new_volume(name)

    def finish_new_volume(self, name):
        self.c.wait_pod(name)
        self.sh(name, f'echo {name} >/data/file && sync && grep -q {name} /data/file')
        self.c.delete('Pod', name)
        self.remove_claim(name)


# ---- the tests, in this order

def installs(w):
    w.coffer.prepare()
    w.c.kubectl('create', 'namespace', NAMESPACE)
    w.c.kubectl('label', 'namespace', NAMESPACE, 'pod-security.kubernetes.io/enforce=privileged')
    w.helm = kubehelm.Helm(w.coffer)
    with w.c.times.of('helm install, until all is ready'):
        demand('STATUS: deployed' in w.helm.install(), 'Helm does not say that it is deployed')
        w.coffer.make_pool(w.node)
        w.coffer.wait_ready()
    w.node_pod = w.coffer.node_pod(w.node)
    w.objects = w.helm.objects()
    demand('storageclass.storage.k8s.io/encrypted' in w.objects and 'csidriver.storage.k8s.io/csi.coffer.dev' in w.objects, w.objects)


def a_pod_uses_it(w):
    w.c.apply(f'{claim(USER)}---{database(USER)}')
    w.c.wait_pod(USER)
    w.container = w.container_of(USER)
    demand(len(w.node.run('dmsetup ls | grep ^coffer-').splitlines()) == 1, 'a mapping')
    w.goes_on()


def upgrades(w):
    """The pods are replaced while the database writes; a claim and a pod that are made meanwhile wait and get their volume."""
    w.c.apply(f'{claim("meanwhile")}---{shell("meanwhile", of_claim("meanwhile"))}')
    with w.c.times.of('helm upgrade, until all is ready'):
        w.helm.upgrade('log.level=debug', 'resources.node.limits.memory=256Mi')
    w.replaced()
    spec = w.c.api.get(object_path('Pod', w.node_pod, NAMESPACE))['spec']['containers']
    node = next(c for c in spec if c['name'] == 'coffer-node')
    demand('--log-level=debug' in node['args'] and node['resources']['limits']['memory'] == '256Mi', node)
    w.goes_on()
    w.finish_new_volume('meanwhile')
    w.use_a_new_volume('afterwards')


def closes_what_the_old_one_opened(w):
    """The database ends and comes back, by a coffer-node that didn't open its volume."""
    w.c.delete('Pod', USER)
    demand(w.coffer.left_over(w.node) == '', w.coffer.left_over(w.node))
    w.c.apply(database(USER))
    w.c.wait_pod(USER)
    w.container = w.container_of(USER)
    w.goes_on()


def rolls_back(w):
    with w.c.times.of('helm rollback, until all is ready'):
        w.helm.rollback(1)
    w.replaced()
    w.goes_on()
    w.use_a_new_volume('rolled-back')


def job_ended(o):
    return o['status'].get('succeeded') or any(c['type'] == 'Failed' for c in o['status'].get('conditions', []))


def rotates(w):
    """The CronJob of docs/rotation.md, made to run now: the tenant's key has a new version, the volume in use is wrapped under it."""
    _, handle = w.coffer.volume_of(USER)
    before = w.coffer.record(w.node, handle)
    w.helm.upgrade('rotation.enabled=true', f'rotation.nodes={{{w.node.name}}}')
    w.node_pod = w.coffer.node_pod(w.node)
    [job] = w.c.api.get(object_path('CronJob', '', NAMESPACE))['items']
    now = json.loads(w.c.kubectl('-n', NAMESPACE, 'create', 'job', 'now', f'--from=cronjob/{job["metadata"]["name"]}', '--dry-run=client',
                                 '-o', 'json'))
    rotate = now['spec']['template']['spec']['initContainers'][0]['args']
    rotate.remove('--min-age=2160')  # the tenant's key is some minutes old
    w.c.apply(json.dumps(now))
    w.c.api.wait(object_path('Job', 'now', NAMESPACE), job_ended)
    said = w.c.kubectl('-n', NAMESPACE, 'logs', 'job/now', '--all-containers')
    demand(w.c.api.get(object_path('Job', 'now', NAMESPACE))['status'].get('succeeded') == 1, said)
    after = w.coffer.record(w.node, handle)
    demand(before['key']['ciphertext'].startswith('vault:v1:') and after['key']['ciphertext'].startswith('vault:v2:'),
           f'{before["key"]} {after["key"]}: {said}')
    demand({k: v for k, v in after.items() if k not in ('gen', 'key')} == {k: v for k, v in before.items() if k not in ('gen', 'key')},
           'more than the key changed')
    w.goes_on()
    w.use_a_new_volume('rotated')
    w.helm.rollback(1)
    w.coffer.wait_ready()
    w.node_pod = w.coffer.node_pod(w.node)
    demand(not w.c.api.get(object_path('CronJob', '', NAMESPACE))['items'], 'the CronJob stays')


def a_configuration_that_is_wrong(w):
    """Helm refuses it by its key; nothing is replaced."""
    try:
        w.helm.upgrade('config.pools.default.allocate=thin')
    except RuntimeError as e:
        demand('/config/pools/default/allocate' in str(e), str(e))
    else:
        raise RuntimeError('it was taken')
    demand(w.coffer.node_pod(w.node) == w.node_pod, 'the pods were replaced')


def ephemeral(w):
    """A volume that goes with its pod."""
    w.c.apply(shell('scratch', EPHEMERAL))
    w.c.wait_pod('scratch')
    volume, handle = w.coffer.volume_of('scratch-v')
    w.sh('scratch', 'echo mine >/data/file && sync && grep -q mine /data/file')
    demand(w.coffer.record(w.node, handle)['state'] == 'ready', 'its record')
    w.c.delete('Pod', 'scratch')
    w.c.api.wait_gone('PersistentVolumeClaim', 'scratch-v')
    w.c.api.wait_gone('PersistentVolume', volume)
    part = handle.rsplit('.', 1)[1]
    demand(w.node.run(f'find /var/lib/coffer/default -name {part}').strip() == '', 'its place')


def two_readers(w):
    """Two pods of the node read what a third wrote, and can't write; a claim that is ReadOnlyMany can't be written at all."""
    w.c.apply(f'{claim("shared")}---{shell("writer", of_claim("shared"))}')
    w.c.wait_pod('writer')
    w.sh('writer', 'echo written >/data/file && sync')
    for name in ('reader-1', 'reader-2'):
        w.c.apply(shell(name, of_claim('shared', read_only=True)))
    for name in ('reader-1', 'reader-2'):
        w.c.wait_pod(name)
        demand(w.sh(name, 'cat /data/file') == 'written\n', name)
        demand('Read-only file system' in w.refused(name, 'echo no >/data/file'), name)
    w.sh('writer', 'echo more >>/data/file && sync')
    w.c.delete('Pod', 'writer')  # the readers keep the volume
    demand(w.sh('reader-2', 'cat /data/file') == 'written\nmore\n', 'what was written last')
    for name in ('reader-1', 'reader-2'):
        w.c.delete('Pod', name)
    w.remove_claim('shared')
    w.c.apply(claim('many', access='ReadOnlyMany'))
    for name in ('reader-1', 'reader-2'):
        w.c.apply(shell(name, of_claim('many')))  # they don't say readOnly
    for name in ('reader-1', 'reader-2'):
        w.c.wait_pod(name)
        demand('Read-only file system' in w.refused(name, 'echo no >/data/file'), name)
        w.c.delete('Pod', name)
    w.remove_claim('many')


def uninstalls(w):
    """Under the running database, which goes on; what is the administrator's stays."""
    _, handle = w.coffer.volume_of(USER)
    record = w.coffer.record(w.node, handle)
    demand(not attachments(w), f'{attachments(w)}')  # the CSIDriver says that nothing is attached
    w.helm.uninstall()
    w.c.api.wait(object_path('Pod', '', NAMESPACE), lambda o: not o['items'])
    for name in w.objects:
        status = w.c.kubectl('get', '-n', NAMESPACE, name, '--ignore-not-found', '-o', 'name')
        demand(status == '', f'{name} is still there')
    w.goes_on()
    demand(w.coffer.record(w.node, handle) == record, 'the record has changed')
    demand(w.c.api.get(object_path('PersistentVolumeClaim', USER))['status']['phase'] == 'Bound', 'the claim')
    sockets = w.node.run('find /var/lib/kubelet/plugins_registry /var/lib/kubelet/plugins/csi.coffer.dev -type s')
    demand(sockets == '', sockets)  # their lock files stay
    w.c.api.delete('Pod', USER)  # waits for a driver that closes its volume
    w.c.api.wait(object_path('Pod', USER), lambda o: all('terminated' in s['state'] for s in o['status']['containerStatuses']))


def installs_again(w):
    with w.c.times.of('helm install again, until all is ready'):
        w.helm.install()
        w.replaced()
    with w.c.times.of('the pod that waited for its volume to be closed is gone'):
        w.c.api.wait_gone('Pod', USER)
    demand(w.coffer.left_over(w.node) == '', w.coffer.left_over(w.node))
    w.c.apply(database(USER))
    w.c.wait_pod(USER)
    w.container = w.container_of(USER)
    w.goes_on()
    w.use_a_new_volume('reinstalled')


def attachments(w):
    return w.c.api.call('GET', ATTACHMENTS)['items']


def all_goes(w):
    """While no CSIDriver said that a volume isn't attached, Kubernetes may have noted that one is to be: docs/kubernetes.md, Uninstall."""
    w.c.delete('Pod', USER)
    w.remove_claim(USER)
    demand(w.coffer.left_over(w.node) == '', w.coffer.left_over(w.node))
    left = w.node.run('find /var/lib/coffer/default/volumes -mindepth 2').split()
    demand(not left, f'{left}')
    for a in attachments(w):
        demand(not a['status']['attached'] and 'finalizers' not in a['metadata'], f'{a}')
        w.c.api.call('DELETE', f'{ATTACHMENTS}/{a["metadata"]["name"]}')
    demand(not attachments(w), f'{attachments(w)}')


TESTS = (
    ('helm install with the documented commands: all ready, registered', installs),
    ('a claim and a pod work', a_pod_uses_it),
    ('helm upgrade while the database writes: it goes on, a pod made meanwhile gets its volume, new ones work', upgrades),
    ('the new coffer-node closes what the old one opened', closes_what_the_old_one_opened),
    ('helm rollback while the database writes: it goes on', rolls_back),
    ('the rotation\'s CronJob gives a tenant\'s key a new version and rewraps the volume in use', rotates),
    ('an upgrade with a wrong value is refused by its key, and nothing is replaced', a_configuration_that_is_wrong),
    ('a generic ephemeral volume comes and goes with its pod', ephemeral),
    ('read-only: two pods of a node read and can\'t write; ReadOnlyMany can\'t be written', two_readers),
    ('helm uninstall: the database goes on, volumes, claims and records stay', uninstalls),
    ('installed again: what waited goes on, the data is there', installs_again),
    ('all deleted: nothing is left', all_goes),
)


def main():
    tap = begin('kubernetes-chart', kubecluster.why_not() or vaultserver.why_not() or kubecoffer.why_not() or kubehelm.why_not())
    kubecluster.enter()
    with kubecluster.cluster('kubernetes-chart', images=[kubecoffer.image()], pool_size='4G') as c, kubecoffer.Coffer(c) as coffer:
        w = World(c, coffer)
        run_all(tap, TESTS, w, needed=2)
    tap.done()


main()
