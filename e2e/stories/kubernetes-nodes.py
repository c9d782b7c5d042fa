#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kubernetes-nodes: two nodes with a pool each: volumes lie where their pods run and keep them there, grow on either node; and a node
that is lost for good is given up as docs/RECOVERY.md says."""
# story: where=nodes needs=kubernetes,vault,image
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import kubecluster  # noqa: E402
import kubecoffer  # noqa: E402
import vaultserver  # noqa: E402
from kubeapi import object_path  # noqa: E402
from kubepods import claim, database  # noqa: E402
from tap import begin, demand, run_all  # noqa: E402

NODES = ('n1', 'n2')


def name_on(node):
    return f'data-{node}'


def affinity(volume):
    """The nodes that a PersistentVolume can be used on."""
    terms = volume['spec']['nodeAffinity']['required']['nodeSelectorTerms']
    return [value for term in terms for e in term['matchExpressions'] if e['key'] == kubecoffer.TOPOLOGY for value in e['values']]


def installs(c, coffer):
    with c.times.of('Coffer installed and ready'):
        coffer.install()

    def both(listed):
        found = {i['nodeTopology']['matchLabels'][kubecoffer.TOPOLOGY] for i in listed['items'] if i['storageClassName'] == 'encrypted'}
        return found == set(NODES)
    c.api.wait(object_path('CSIStorageCapacity', '', kubecoffer.NAMESPACE), both)


def lies_where_it_runs(c, coffer):
    with c.times.of('a pod on each node runs'):
        for node in NODES:
            c.apply(f'{claim(name_on(node))}---{database(name_on(node), node=node, grace=2)}')
        for node in NODES:
            c.wait_pod(name_on(node))
    for node in NODES:
        volume, _ = coffer.volume_of(name_on(node))
        demand(affinity(c.api.get(object_path('PersistentVolume', volume))) == [node], f'{volume} is not for {node} alone')
        c.kubectl('exec', name_on(node), '--', 'my-database', 'put', f'written on {node}')
    demand([len(n.run('dmsetup ls | grep ^coffer-').splitlines()) for n in c.nodes] == [1, 1], 'a mapping on each node')


def stays_with_its_data(c, _):
    """The other node would have room; the pod waits for its own."""
    c.delete('Pod', name_on('n1'))
    c.api.patch('Node', 'n1', {'spec': {'unschedulable': True}})
    c.apply(database(name_on('n1'), grace=2))
    waiting = c.api.wait(object_path('Pod', name_on('n1')), lambda o: any(
        s['type'] == 'PodScheduled' and s['status'] == 'False' for s in o['status']['conditions']))
    demand('node(s)' in waiting['status']['conditions'][0]['message'], waiting['status'])
    c.api.patch('Node', 'n1', {'spec': {'unschedulable': False}})
    ran = c.wait_pod(name_on('n1'))
    listed = c.kubectl('exec', name_on('n1'), '--', 'my-database', 'list')
    demand(ran['spec']['nodeName'] == 'n1' and 'written on n1' in listed, ran['spec']['nodeName'])


def grows_on_either(c, _):
    with c.times.of('a volume on each node has grown'):
        for node in NODES:
            c.api.patch('PersistentVolumeClaim', name_on(node), {'spec': {'resources': {'requests': {'storage': '128Mi'}}}})
        for node in NODES:
            c.api.wait(object_path('PersistentVolumeClaim', name_on(node)), lambda o: o['status']['capacity']['storage'] == '128Mi')


def node_is_lost(c, coffer):
    """The commands of "A node is lost for good", in its order."""
    volume, _ = coffer.volume_of(name_on('n2'))
    c.nodes[1].power_off()
    with c.times.of('a dead node is NotReady'):
        c.api.wait(object_path('Node', 'n2'), lambda o: any(
            s['type'] == 'Ready' and s['status'] != 'True' for s in o['status']['conditions']))
    c.kubectl('delete', 'node', 'n2')
    c.kubectl('delete', 'pvc', name_on('n2'), '--wait=false')
    c.kubectl('delete', 'pv', volume, '--wait=false')
    c.kubectl('patch', 'pv', volume, '--type', 'merge', '-p', '{"metadata":{"finalizers":null}}')
    c.kubectl('-n', kubecoffer.NAMESPACE, 'delete', 'csistoragecapacities',
              '-l', 'csi.storage.k8s.io/managed-by=external-provisioner-n2')
    for kind, name in (('Pod', name_on('n2')), ('PersistentVolumeClaim', name_on('n2')), ('PersistentVolume', volume)):
        c.api.wait_gone(kind, name)
    left = [i['nodeTopology']['matchLabels'] for i in c.api.items('CSIStorageCapacity', kubecoffer.NAMESPACE)]
    demand(all(labels == {kubecoffer.TOPOLOGY: 'n1'} for labels in left), left)


def is_made_again(c, coffer):
    """As a StatefulSet would: the same claim, now on the node that is left; the other volume never noticed."""
    c.apply(f'{claim(name_on("n2"))}---{database(name_on("n2"), grace=2)}')
    ran = c.wait_pod(name_on('n2'))
    listed = c.kubectl('exec', name_on('n2'), '--', 'my-database', 'list')
    demand(ran['spec']['nodeName'] == 'n1' and 'written on' not in listed, listed)
    demand('written on n1' in c.kubectl('exec', name_on('n1'), '--', 'my-database', 'list'), 'the volume of n1')
    for node in NODES:
        volume, _ = coffer.volume_of(name_on(node))
        c.delete('Pod', name_on(node))
        c.delete('PersistentVolumeClaim', name_on(node))
        c.api.wait_gone('PersistentVolume', volume)
    demand(coffer.left_over(c.nodes[0]) == '', coffer.left_over(c.nodes[0]))


TESTS = (
    ('installed: both nodes publish what their pools have room for', installs),
    ('each volume lies on the node that its pod was put on, and says so', lies_where_it_runs),
    ('a pod waits for the node that has its data', stays_with_its_data),
    ('a volume grows on either node', grows_on_either),
    ('a node lost for good is given up with the documented commands', node_is_lost),
    ('the claim is made again on the node that is left', is_made_again),
)


def main():
    tap = begin('kubernetes-nodes', kubecluster.why_not(nodes=2) or vaultserver.why_not() or kubecoffer.why_not())
    kubecluster.enter()
    with kubecluster.cluster('kubernetes-nodes', nodes=2, images=[kubecoffer.image()], pool_size='4G') as c, kubecoffer.Coffer(c) as coffer:
        run_all(tap, TESTS, c, coffer, needed=2)
    tap.done()


main()
