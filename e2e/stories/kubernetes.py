#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kubernetes: Coffer on a real Kubernetes, keys in a real Vault: the claim my-encrypted-volume-claim and the pod my-database from
nothing to deletion. Reschedule, online expansion, raw block, ReadWriteOncePod, what is left when all is deleted, and the
raw disk."""
# story: where=nodes needs=kubernetes,vault,image
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import kubecluster  # noqa: E402
import kubecoffer  # noqa: E402
import vaultserver  # noqa: E402
from kubeapi import object_path  # noqa: E402
from kubepods import BLOCK, FILES, busybox, claim as claim_of, of_claim  # noqa: E402
from leakscan import Needles, scan_file  # noqa: E402
from tap import begin, demand, run_all  # noqa: E402

GIB = 1 << 30
MARKER = 'the plaintext that no thief of the disk may read'
# As the requirement has it, but for the image: there is no registry here. It keeps records where postgres keeps its data.
CLAIM = '''
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: my-encrypted-volume-claim
spec:
  accessModes:
    - ReadWriteOnce
  resources:
    requests:
      storage: 4Gi
  storageClassName: encrypted
'''
POD = '''
apiVersion: v1
kind: Pod
metadata:
  name: my-database
spec:
  containers:
    - name: postgres
      image: postgres
      volumeMounts:
      - mountPath: /var/lib/postgresql/data
        name: my-encrypted-volume
  volumes:
    - name: my-encrypted-volume
      persistentVolumeClaim:
        claimName: my-encrypted-volume-claim
'''.replace('image: postgres', 'image: localhost/my-database:1')


def claim(name, **more):
    return claim_of(name, size='256Mi', **more)


def pod(name, of, uses=FILES):
    return busybox(name, of_claim(of), uses)


class World:
    def __init__(self, c, coffer):
        self.c, self.coffer, self.node = c, coffer, c.nodes[0]
        self.used_before, self.handle = None, None

    def in_pod(self, name, *command):
        return self.c.kubectl('exec', name, '--', *command)

    def sh(self, name, script):
        return self.in_pod(name, 'sh', '-c', script)

    def records(self):
        return self.in_pod('my-database', 'my-database', 'list').splitlines()

    def remove_claim(self, name, namespace='default'):
        """Until its PersistentVolume is gone, which is after DeleteVolume."""
        volume, handle = self.coffer.volume_of(name, namespace)
        self.c.delete('PersistentVolumeClaim', name, namespace)
        self.c.api.wait_gone('PersistentVolume', volume)
        return handle


# ---- the tests, in this order

def installs(w):
    with w.c.times.of('Coffer installed and ready'):
        w.coffer.install()
    w.used_before = w.coffer.pool_used(w.node)
    capacities = w.c.api.wait(object_path('CSIStorageCapacity', '', kubecoffer.NAMESPACE), lambda o: any(
        i['storageClassName'] == 'encrypted' for i in o['items']))['items']
    capacity = next(i for i in capacities if i['storageClassName'] == 'encrypted')
    demand(capacity['nodeTopology']['matchLabels'] == {kubecoffer.TOPOLOGY: 'n1'}, capacity)


def first_claim(w):
    """The claim and the pod in one apply, as a user would."""
    mark = w.coffer.vault.audit.mark()
    with w.c.times.of('my-database runs, from its apply'):
        w.c.apply(f'{CLAIM}---{POD}')
        w.c.wait_pod('my-database')
    w.c.times.since_start('my-database runs, from nothing')
    w.in_pod('my-database', 'my-database', 'put', MARKER)
    bound = w.c.api.get(object_path('PersistentVolumeClaim', 'my-encrypted-volume-claim'))
    demand(bound['status']['phase'] == 'Bound' and bound['status']['capacity']['storage'] == '4Gi', bound['status'])
    w.handle = w.coffer.volume_of('my-encrypted-volume-claim')[1]
    asked = {(what, who): w.coffer.vault.audit.count(mark, path=f'transit/{what}/coffer-t-default', policy=f'coffer-{who}')
             for what in ('datakey/wrapped', 'decrypt') for who in ('controller', 'node')}
    did = {pair for pair, times in asked.items() if times}  # how often: vault-economy
    demand(did == {('datakey/wrapped', 'controller'), ('decrypt', 'node')}, asked)


def is_encrypted(w):
    where = w.node.run('grep /mount /proc/self/mountinfo | grep kubernetes.io~csi')
    device = w.node.run('dmsetup ls | grep ^coffer- | cut -f1').strip()
    demand(device and f'/dev/coffer/{device} ' in where, f'{device}: {where}')
    table = w.node.run(f'dmsetup table {device}')
    demand(table.split()[2:4] == ['crypt', 'aes-xts-plain64'], table.split()[:4])
    record = w.coffer.record(w.node, w.handle)
    demand((record['state'], record['kms']) == ('ready', 'vault'), record)


def comes_back(w):
    before = w.records()
    with w.c.times.of('my-database deleted'):
        w.c.delete('Pod', 'my-database')
    demand(w.coffer.left_over(w.node) == '', f'after the pod: {w.coffer.left_over(w.node)}')
    with w.c.times.of('my-database made again'):
        w.c.apply(POD)
        w.c.wait_pod('my-database')
    after = w.records()
    demand(after[:len(before)] == before and any(MARKER in line for line in after), f'{before[-3:]} {after[-3:]}')


def size_in_pod(w):
    """Of the file system that the pod has, in bytes; its image has no program that says it."""
    path = w.node.run('grep "kubernetes.io~csi.*/mount " /proc/self/mountinfo | cut -d" " -f5').split()[0]
    blocks, size = w.node.run(f'stat -f -c "%b %S" {path}').split()
    return int(blocks) * int(size)


def expands(w):
    before, wrote = size_in_pod(w), len(w.records())
    with w.c.times.of('expanded to 8Gi while in use'):
        w.c.api.patch('PersistentVolumeClaim', 'my-encrypted-volume-claim', {'spec': {'resources': {'requests': {'storage': '8Gi'}}}})
        w.c.api.wait(object_path('PersistentVolumeClaim', 'my-encrypted-volume-claim'),
                     lambda o: o['status']['capacity']['storage'] == '8Gi' and not o['status'].get('conditions'))
    after = size_in_pod(w)
    demand(before < 4 * GIB < 7 * GIB < after <= 8 * GIB, f'{before} {after}')
    running = w.c.api.get(object_path('Pod', 'my-database'))['status']['containerStatuses'][0]
    demand(running['restartCount'] == 0 and len(w.records()) >= wrote, running)


def power_cut(w):
    """The node's plug is drawn while the database writes; what was acknowledged is there afterwards."""
    acknowledged = [line for line in w.c.kubectl('logs', 'my-database').splitlines() if line.startswith('wrote')]
    restarts = w.c.api.get(object_path('Pod', 'my-database'))['status']['containerStatuses'][0]['restartCount']
    with w.c.times.of('power cut, until my-database runs on its data'):
        w.node.power_off()
        w.node.start()
        w.node.wait_up()
        w.c.api.wait(object_path('Pod', 'my-database'), lambda o: o['status']['phase'] == 'Running' and all(
            s['ready'] and s['restartCount'] > restarts for s in o['status']['containerStatuses']))
    w.coffer.wait_ready()
    last = int(acknowledged[-1].split()[1])
    records = w.records()
    demand(len(records) >= last and any(MARKER in line for line in records), f'{last} acknowledged, {len(records)} there')


def raw_block(w):
    with w.c.times.of('a raw block volume in a pod'):
        w.c.apply(f'{claim("block", mode="Block")}---{pod("block", "block", BLOCK)}')
        w.c.wait_pod('block')
    demand(int(w.sh('block', 'blockdev --getsize64 /dev/volume')) == GIB // 4, 'its size')
    w.sh('block', f'echo "{MARKER}" | dd of=/dev/volume bs=4096 seek=1000 conv=sync,fsync 2>/dev/null')
    w.c.delete('Pod', 'block')
    w.c.apply(pod('block', 'block', BLOCK))
    w.c.wait_pod('block')
    demand(MARKER in w.sh('block', 'dd if=/dev/volume bs=4096 skip=1000 count=1 2>/dev/null | head -1'), 'what was written')
    w.c.delete('Pod', 'block')
    w.remove_claim('block')


def one_pod_only(w):
    w.c.apply(f'{claim("exclusive", access="ReadWriteOncePod")}---{pod("first", "exclusive")}')
    w.c.wait_pod('first')
    w.c.apply(pod('second', 'exclusive'))
    refused = w.c.api.wait(object_path('Pod', 'second'), lambda o: any(
        'ReadWriteOncePod' in s.get('message', '') for s in o['status']['conditions']))
    demand(refused['status']['phase'] == 'Pending', refused['status'])
    w.c.delete('Pod', 'first')
    w.c.wait_pod('second')
    w.c.delete('Pod', 'second')
    w.remove_claim('exclusive')


def stolen(volume):
    """A second PersistentVolume for the same volume, for a claim of team-b: what whoever may make one could try."""
    return json.dumps({'apiVersion': 'v1', 'kind': 'PersistentVolume', 'metadata': {'name': 'stolen'}, 'spec': {
        **{k: volume['spec'][k] for k in ('csi', 'capacity', 'accessModes', 'nodeAffinity', 'volumeMode')},
        'claimRef': {'namespace': 'team-b', 'name': 'loot'}, 'persistentVolumeReclaimPolicy': 'Retain'}})


def two_tenants(w):
    """Class encrypted-pod: the pod's own token opens the volume, and Vault knows whose it is."""
    for team in ('team-a', 'team-b'):
        w.c.kubectl('create', 'namespace', team)
        w.c.api.wait(object_path('ServiceAccount', 'default', team), lambda o: o is not None)
    w.c.apply(f'{claim("own", storage_class="encrypted-pod")}---{pod("owner", "own")}', '-n', 'team-a')
    w.c.wait_pod('owner', 'team-a')
    w.c.kubectl('-n', 'team-a', 'exec', 'owner', '--', 'sh', '-c', 'echo ours >/data/file; sync')
    w.c.delete('Pod', 'owner', 'team-a')
    volume, _ = w.coffer.volume_of('own', 'team-a')
    w.c.apply(stolen(w.c.api.get(object_path('PersistentVolume', volume))))
    w.c.apply(claim('loot', storage_class='""').rstrip() + f'\n  volumeName: stolen\n---{pod("thief", "loot")}', '-n', 'team-b')
    said = w.c.api.wait(object_path('Event', '', 'team-b'), lambda o: any(
        e['reason'] == 'FailedMount' and 'PermissionDenied' in e['message'] for e in o['items']))
    demand(w.c.api.get(object_path('Pod', 'thief', 'team-b'))['status']['phase'] == 'Pending', said)
    demand('stolen' not in w.node.run('cat /proc/self/mountinfo'), 'the thief has a mount')
    w.c.delete('Pod', 'thief', 'team-b')
    w.c.delete('PersistentVolumeClaim', 'loot', 'team-b')
    w.c.delete('PersistentVolume', 'stolen')
    w.c.apply(pod('owner', 'own'), '-n', 'team-a')
    w.c.wait_pod('owner', 'team-a')
    demand(w.c.kubectl('-n', 'team-a', 'exec', 'owner', '--', 'cat', '/data/file') == 'ours\n', 'the owner\'s data')
    w.c.delete('Pod', 'owner', 'team-a')
    w.remove_claim('own', 'team-a')


def no_plaintext(w):
    """On the disk that holds the pool; and the scan can see: the same text in plain is found."""
    needles = Needles({'what the pods wrote': MARKER.encode(), 'the heartbeat': b'my-database keeps this record'})
    w.node.run('sync; echo 3 >/proc/sys/vm/drop_caches')
    found = scan_file(needles, 'disk', w.node.pool)
    demand(not found, found)
    w.node.run(f'echo "{MARKER}" >/var/lib/coffer/control; sync; rm /var/lib/coffer/control')
    demand(scan_file(needles, 'disk', w.node.pool), 'the scan did not see what was there in plain')


def stored_key_goes(w):
    """Key service hcvault+kv: the secret in Vault, the image and the space go with the claim."""
    w.c.apply(f'{claim("kept", storage_class="encrypted-kv")}---{pod("kept", "kept")}')
    w.c.wait_pod('kept')
    w.sh('kept', 'echo here >/data/file; sync')
    demand(len(w.coffer.stored_keys()) == 1, w.coffer.stored_keys())
    w.c.delete('Pod', 'kept')
    w.remove_claim('kept')
    demand(w.coffer.stored_keys() == [], w.coffer.stored_keys())


def all_goes(w):
    with w.c.times.of('pod, claim and volume deleted'):
        w.c.delete('Pod', 'my-database')
        handle = w.remove_claim('my-encrypted-volume-claim')
    demand(handle == w.handle, f'{handle} {w.handle}')
    part = handle.rsplit('.', 1)[1]
    demand(w.node.run(f'find /var/lib/coffer/default -name "*{part}*" -not -path "*/locks/*"').strip() == '', 'the volume\'s place')
    demand(w.coffer.left_over(w.node) == '', w.coffer.left_over(w.node))
    grown = w.coffer.pool_used(w.node) - w.used_before
    demand(grown < 1 << 20, f'{grown} bytes more than before are taken')


TESTS = (
    ('installed with cofferctl vault setup and kubectl apply -k: all ready, registered, capacity published', installs),
    ('a first claim and pod work; the controller had the key minted, the node had it unwrapped', first_claim),
    ('what the pod has is a dm-crypt mapping, its record ready', is_encrypted),
    ('pod deleted: nothing stays open; made again: the data is there', comes_back),
    ('the claim grows to 8Gi while the database writes', expands),
    ('after a power cut the database runs on what it acknowledged', power_cut),
    ('raw block: the size asked for, and data stays', raw_block),
    ('ReadWriteOncePod: a second pod waits until the first is gone', one_pod_only),
    ('a pod of another tenant can\'t open a volume that pods open themselves; its owner can', two_tenants),
    ('the disk under the pool holds none of the plaintext', no_plaintext),
    ('a stored key is gone from Vault with its claim', stored_key_goes),
    ('pod and claim deleted: volume, space, mappings are gone', all_goes),
)


def main():
    tap = begin('kubernetes', kubecluster.why_not() or vaultserver.why_not() or kubecoffer.why_not())
    kubecluster.enter()
    with kubecluster.cluster('kubernetes', images=[kubecoffer.image()], pool_size='20G') as c, kubecoffer.Coffer(c) as coffer:
        w, start = World(c, coffer), time.monotonic()
        run_all(tap, TESTS, w, needed=2)
        print(f'# {time.monotonic() - start:.0f} s', flush=True)
    tap.done()


main()
