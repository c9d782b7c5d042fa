#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kubernetes-manifests: deploy/kustomize and the chart before a real API server, without a node: it takes every object, each service
account has exactly the rights that stand in e2e/lib/kubemanifests.py, none of them a secret's, and with these rights the real
csi-provisioner and csi-resizer create, publish capacity, grow and delete."""
# story: where=here needs=kubernetes
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import kubecontrol  # noqa: E402
import kubemanifests  # noqa: E402
import kubenet  # noqa: E402
from fixture import Coffer  # noqa: E402
from kubeapi import object_path  # noqa: E402
from kubemanifests import NAMESPACE, NEVER, RIGHTS, ROOT  # noqa: E402
from tap import begin, demand  # noqa: E402

NODE = 'node-1'  # as the fixture's daemons are called
CLAIM = '''
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: my-encrypted-volume-claim, annotations: {volume.kubernetes.io/selected-node: node-1}}
spec: {accessModes: [ReadWriteOnce], storageClassName: encrypted, resources: {requests: {storage: 64Mi}}}
'''
CLASS = '''
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: encrypted}
provisioner: csi.coffer.dev
parameters: {pool: default, kms: lab, csi.storage.k8s.io/fstype: ext4}
volumeBindingMode: WaitForFirstConsumer
allowVolumeExpansion: true
'''


def takes_the_manifests(control, folder):
    text = control.kubectl('kustomize', kubemanifests.overlay(folder))
    said = kubemanifests.dry_run(control, text)
    demand(said.count('(server dry run)') == text.count('\nkind: ') + text.startswith('kind: '), said)
    control.kubectl('apply', '-f', '-', data=text)
    demand('created' not in control.kubectl('apply', '-f', '-', data=text), 'a second apply made something')


def takes_the_chart(control):
    done = subprocess.run([f'{ROOT}/e2e/helm/build.sh', '--cached'], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 77:
        print(f'# the chart was not tried: {done.stdout.strip()}', flush=True)
        return
    version = kubemanifests.json_of(control, 'version')['serverVersion']['gitVersion'].lstrip('v')
    text = subprocess.run([done.stdout.strip(), 'template', 'coffer', f'{ROOT}/deploy/chart', '-n', NAMESPACE, '--kube-version', version],
                          stdout=subprocess.PIPE, text=True, check=True).stdout
    kubemanifests.dry_run(control, text)
    demand('serviceAccountTokenInSecrets: true' in text, f'Kubernetes {version} has tokens in secrets')


def has_these_rights(control, name):
    found = kubemanifests.rights(control, name)
    print(f'# {name}: {found}', flush=True)
    demand(found == RIGHTS[name], f'{name} may {found}, not {RIGHTS[name]}')
    for resource, verbs in RIGHTS[name].items():
        demand(kubemanifests.may(control, name, verbs.split()[0], resource), f'{name} may not {verbs} {resource}')
    for verb, resource in NEVER:
        demand(not kubemanifests.may(control, name, verb, resource), f'{name} may {verb} {resource}')


def refuses_a_wrong_field(control):
    try:
        kubemanifests.dry_run(control, CLASS.replace('parameters:', 'parameter:'))
    except RuntimeError as e:
        demand('unknown field' in str(e), str(e))
    else:
        raise RuntimeError('a field that does not exist was taken')


def pod_of_the_node(control):
    """The DaemonSet's pod on a node that only exists as an object: no kubelet will ever start it."""
    control.kubectl('apply', '-f', '-', data='{apiVersion: v1, kind: Node, metadata: {name: %s, labels: {kubernetes.io/os: linux}}}' % NODE)

    def named():
        pods = control.api.items('Pod', NAMESPACE)
        return [p['metadata']['name'] for p in pods if p['metadata']['name'].startswith('coffer-controller-')]
    end = time.monotonic() + 600
    while not named():
        control.alive()
        demand(time.monotonic() < end, 'the DaemonSet made no pod')
        time.sleep(0.05)
    return named()[0]


def sidecars_work(control, coffer):
    """One claim's life, by the sidecars' own tokens."""
    control.kubectl('delete', 'storageclass', 'encrypted')
    control.kubectl('apply', '-f', '-', data=CLASS)
    claim = object_path('PersistentVolumeClaim', 'my-encrypted-volume-claim')
    with kubemanifests.sidecar(control, 'DaemonSet', 'coffer-controller', 'csi-provisioner', coffer.controller_socket, NODE_NAME=NODE,
                               POD_NAME=pod_of_the_node(control)) as provisioner, \
            kubemanifests.sidecar(control, 'Deployment', 'coffer-resizer', 'csi-resizer', coffer.controller_socket) as resizer:
        control.api.wait(object_path('CSIStorageCapacity', '', NAMESPACE), lambda o: o['items'][0]['metadata']['ownerReferences'][0]['kind']
                         == 'DaemonSet' and o['items'][0]['storageClassName'] == 'encrypted')
        control.kubectl('apply', '-f', '-', data=CLAIM)
        volume = control.api.wait(claim, lambda o: o['status']['phase'] == 'Bound')['spec']['volumeName']
        made = control.api.get(object_path('PersistentVolume', volume))
        demand(made['spec']['csi']['volumeAttributes']['tenant'] == 'default', made['spec']['csi'])
        control.api.patch('PersistentVolumeClaim', 'my-encrypted-volume-claim', {'spec': {'resources': {'requests': {'storage': '128Mi'}}}})
        control.api.wait(object_path('PersistentVolume', volume), lambda o: o['spec']['capacity']['storage'] == '128Mi')
        control.api.wait(claim, lambda o: o['status']['allocatedResourceStatuses']['storage'] == 'NodeResizePending')
        control.api.delete('PersistentVolumeClaim', 'my-encrypted-volume-claim')
        control.api.wait_gone('PersistentVolume', volume)
        events = [e['reason'] for e in control.api.items('Event')]
        demand({'ProvisioningSucceeded', 'FileSystemResizeRequired'} <= set(events), events)
        for log in (provisioner, resizer):
            demand(not kubemanifests.refusals(log), ''.join(kubemanifests.refusals(log)))
    listed = coffer.cofferctl('volume', 'list', '--output', 'json').stdout
    demand(listed.strip() == '[]', listed)


def main():
    tap = begin('kubernetes-manifests', kubecontrol.why_not())
    kubenet.enter()
    kubenet.bridge(0)
    with tempfile.TemporaryDirectory(prefix='coffer-manifests-') as folder:
        os.chmod(folder, 0o755)
        os.environ['COFFER_SCRATCH'] = folder
        control = kubecontrol.ControlPlane(folder, os.environ['COFFER_KUBERNETES'] + '/bin')
        control.start()
        control.kubectl('create', 'namespace', NAMESPACE)
        tap.run('the API server takes the manifests, twice', takes_the_manifests, control, folder)
        tap.run("the API server takes the chart's objects", takes_the_chart, control)
        tap.run('a field that does not exist is refused', refuses_a_wrong_field, control)
        for name in RIGHTS:
            tap.run(f'{name} has its rights and no other', has_these_rights, control, name)
        coffer = Coffer(expand='node')
        coffer.install()
        coffer.start_keyd()
        coffer.start_controller()
        tap.run('the real sidecars live with these rights', sidecars_work, control, coffer)
        coffer.stop()
        control.stop()
    tap.done()


main()
