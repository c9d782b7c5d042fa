#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scheduler-kubernetes-api: the scheduler's driver `kubernetes` before a real API server, by its service account's own rights. Node,
kubelet and csi-provisioner are played: what they write is written here, so that each of their answers can be had. (On a real node:
scheduler-kubernetes.)"""
# story: where=here needs=kubernetes,vault
import contextlib
import http.client
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import kubemanifests  # noqa: E402
import kubenet  # noqa: E402
import vaultserver  # noqa: E402
from clouddevice import Api as CloudApi, CloudDevice, User, want  # noqa: E402
from drivercall import Driver, Refused  # noqa: E402
from kubeapi import Api, ApiError, object_path  # noqa: E402
from kubecontrol import PORT, ControlPlane  # noqa: E402
from kubemanifests import NAMESPACE, ROOT  # noqa: E402
from keydclient import Keyd  # noqa: E402
from tap import Tap, demand  # noqa: E402
from vaultsetup import SERVER_KEY, TENANT_KEY, Layout  # noqa: E402

CLOUDS, CLASS, GIB = 'clouds', 'encrypted-client', 1 << 30
CHART = 'scheduler.enabled=true,clientKeys.enabled=true,clientKeys.namespaces={clouds}'
LATER = (ApiError, OSError, http.client.HTTPException)  # a busy API server
SESSION = 'c2Vzc2lvbiBvZiBhIGRldmljZQ=='
RIGHTS = {
    'persistentvolumeclaims': 'create delete get list patch', 'deployments.apps': 'create delete get list patch',
    'services': 'create delete patch', 'ingresses.networking.k8s.io': 'create delete patch', 'secrets': 'create delete',
    'pods': 'list', 'events': 'list', 'nodes': 'list', 'persistentvolumes': 'get'}
NODE = {'apiVersion': 'v1', 'kind': 'Node', 'metadata': {'labels': {'topology.csi.coffer.dev/node': ''}}}


def why_not():
    if not os.environ.get('COFFER_KUBERNETES'):
        return os.environ.get('COFFER_KUBERNETES_WHY') or 'COFFER_KUBERNETES does not say where Kubernetes is (e2e/run sets it)'
    if reason := vaultserver.why_not():
        return reason
    return '' if os.geteuid() == 0 else 'a control plane has network and mount namespaces of its own, which wants root'


def seed(**other):
    """What the first device of a cloud says; also its id."""
    name = secrets.token_hex(32)
    return name[:32], {'name': name, 'fingerprint': secrets.token_hex(32), 'uuid': str(uuid.uuid4()), 'commitment': secrets.token_hex(32),
                       'publicKey': 'cHVibGlj' * 40, 'algorithm': 'RSA-OAEP-256', 'wrapped': 'd3JhcHBlZA==', 'label': 'phone "7"', **other}


class World:
    def __init__(self, control, folder):
        self.control, self.folder, self.driver, self.connections = control, folder, None, threading.local()

    @property
    def api(self):
        """A thread's own: it has one connection."""
        if not hasattr(self.connections, 'api'):
            self.connections.api = Api(kubenet.HOST, PORT, self.control.ca, self.control.tokens['admin'], self.control.alive)
        return self.connections.api

    # ---- objects

    def get(self, kind, name):
        return self.api.get(object_path(kind, name, CLOUDS))

    def wait(self, kind, name, condition):
        return self.api.wait(object_path(kind, name, CLOUDS), condition)

    def status(self, kind, name, status, namespace=CLOUDS):
        return self.api.call('PATCH', object_path(kind, name, namespace) + '/status', {'status': status}, 'application/merge-patch+json')

    def post(self, kind, obj, namespace=CLOUDS):
        return self.api.call('POST', object_path(kind, '', namespace), obj)

    def secret(self, name):
        return self.get('Secret', name)

    def pods(self, cloud):
        return [p for p in self.api.items('Pod', CLOUDS) if p['metadata']['labels'].get('coffer.dev/cloud') == cloud]

    # ---- what is played

    def node(self, name, memory='4Gi', capacity='8Gi', **spec):
        self.post('Node', {**NODE, 'metadata': {'name': name, 'labels': {'topology.csi.coffer.dev/node': name}}, 'spec': spec})
        self.status('Node', name, {'allocatable': {'memory': memory}, 'conditions': [{'type': 'Ready', 'status': 'True'}]})
        if spec.get('taints') is None:  # the node lifecycle controller's own
            self.api.patch('Node', name, {'spec': {'taints': None}})
        self.post('CSIStorageCapacity', {
            'apiVersion': 'storage.k8s.io/v1', 'kind': 'CSIStorageCapacity', 'metadata': {'name': f'capacity-{name}'},
            'storageClassName': CLASS, 'capacity': capacity, 'maximumVolumeSize': capacity,
            'nodeTopology': {'matchLabels': {'topology.csi.coffer.dev/node': name}}}, NAMESPACE)

    def provision(self, cloud):
        """As csi-provisioner: from the claim's node on, a PersistentVolume; kube-controller-manager binds it."""
        claim = self.wait('PersistentVolumeClaim', f'cloud-{cloud}', lambda o: o['metadata']['annotations'][
            'volume.kubernetes.io/selected-node'])
        made = self.secret(f'cloud-{cloud}-key')
        demand(made and 'uuid' in made['data'], 'the node was chosen before the Secret was there')
        name = f'pvc-{claim["metadata"]["uid"]}'
        self.post('PersistentVolume', {
            'apiVersion': 'v1', 'kind': 'PersistentVolume', 'metadata': {
                'name': name, 'annotations': {'pv.kubernetes.io/provisioned-by': 'csi.coffer.dev'}}, 'spec': {
                'capacity': claim['spec']['resources']['requests'], 'accessModes': claim['spec']['accessModes'],
                'persistentVolumeReclaimPolicy': 'Delete', 'storageClassName': CLASS, 'volumeMode': 'Filesystem',
                'claimRef': {'namespace': CLOUDS, 'name': f'cloud-{cloud}', 'uid': claim['metadata']['uid']},
                'csi': {'driver': 'csi.coffer.dev', 'volumeHandle': f'default.01234567.{cloud}'}}})
        return name

    def kubelet(self, cloud, mounted=True, ready=True, container=None, pod=None):
        """The pod's status, when kube-controller-manager has made one."""
        pod = pod or self.pod(cloud)
        state = container or ({'state': {'running': {'startedAt': '2026-01-01T00:00:00Z'}}} if ready else {
            'state': {'waiting': {'reason': 'ContainerCreating'}}})
        self.status('Pod', pod['metadata']['name'], {'phase': 'Running' if mounted else 'Pending', 'conditions': [
            {'type': 'PodReadyToStartContainers', 'status': str(mounted)}, {'type': 'Ready', 'status': str(ready)}],
            'containerStatuses': [{'name': 'vm', 'image': 'x', 'imageID': '', 'ready': ready, 'restartCount': 0, **state}]})
        return pod

    def pod(self, cloud):
        def of_it(o):
            return [p for p in o['items'] if p['metadata']['labels'].get('coffer.dev/cloud') == cloud and
                    'deletionTimestamp' not in p['metadata']]
        return of_it(self.api.wait(object_path('Pod', '', CLOUDS), of_it))[0]

    def event(self, obj, reason, message):
        meta = obj['metadata']
        self.post('Event', {'apiVersion': 'v1', 'kind': 'Event', 'metadata': {'name': f'{meta["name"]}.{secrets.token_hex(6)}'},
                            'involvedObject': {'apiVersion': 'v1', 'kind': obj['kind'], 'namespace': CLOUDS, 'name': meta['name'],
                                               'uid': meta['uid']}, 'reason': reason, 'message': message, 'type': 'Warning'})

    def refuse(self, cloud, code, text):
        pod = self.kubelet(cloud, mounted=False, ready=False)
        self.event({**pod, 'kind': 'Pod'}, 'FailedMount', 'MountVolume.MountDevice failed for volume "pvc-1" : rpc error: '
                   f'code = {code} desc = {text}')

    @contextlib.contextmanager
    def kubelet_removes(self):
        """Pods that are being deleted go, as on a node that has ended them."""
        over = threading.Event()

        def rounds():
            while not over.wait(0.1):
                with contextlib.suppress(*LATER):
                    for pod in self.api.items('Pod', CLOUDS):
                        if 'deletionTimestamp' in pod['metadata']:
                            self.api.request('DELETE', object_path('Pod', pod['metadata']['name'], CLOUDS), {
                                'kind': 'DeleteOptions', 'apiVersion': 'v1', 'gracePeriodSeconds': 0})
        thread = threading.Thread(target=rounds)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @contextlib.contextmanager
    def kubelet_mounts(self, cloud):
        """Every pod of the cloud is mounted and ready as soon as it is there."""
        over = threading.Event()

        def rounds():
            while not over.wait(0.1):
                with contextlib.suppress(*LATER):
                    for pod in self.pods(cloud):
                        if 'deletionTimestamp' not in pod['metadata'] and pod['status']['phase'] == 'Pending':
                            self.kubelet(cloud, pod=pod)
        thread = threading.Thread(target=rounds)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    # ---- calls with what the cluster does meanwhile

    def call(self, name, meanwhile=None, **arguments):
        self.driver.begin(name, **arguments)
        try:
            if meanwhile:
                meanwhile()
        except BaseException:
            self.driver.process.kill()  # the next test has another one
            self.driver = Driver(f'{self.folder}/scheduler.json').__enter__()
            raise
        return self.driver.end()

    def refused(self, name, code, meanwhile=None, **arguments):
        try:
            said = self.call(name, meanwhile, **arguments)
        except Refused as e:
            demand(e.code == code, f'{e} and not {code}')
            return str(e)
        raise RuntimeError(f'{name} was answered: {said}')

    def find(self, cloud):
        return self.driver('find', id=cloud)['cloud']

    def create(self, cloud, of, node='n1'):
        return self.call('create_volume', lambda: self.provision(cloud), id=cloud, node=node, seed=of)

    def attach(self, cloud, meanwhile, **more):
        return self.call('attach', meanwhile, id=cloud, session=SESSION, serverKey='coffer-s-1:1', fingerprint='0' * 64, **more)

    def delete_volume(self, cloud):
        """As csi-provisioner, when the claim is gone."""
        volume = self.get('PersistentVolumeClaim', f'cloud-{cloud}')['spec'].get('volumeName')
        self.api.wait_gone('PersistentVolumeClaim', f'cloud-{cloud}', CLOUDS)
        if volume:
            self.api.delete('PersistentVolume', volume)

    def remove(self, cloud):
        self.call('detach', id=cloud)
        self.call('delete_volume', lambda: self.delete_volume(cloud), id=cloud)

    def no_session(self, cloud):
        held = self.secret(f'cloud-{cloud}-session')
        demand(held is None or not held.get('data'), 'a session that was used or refused is still in its Secret')


# ---- the tests

def has_its_rights(w):
    w.control.kubectl('create', 'namespace', NAMESPACE)
    for folder in ('components/scheduler', 'components/client-keys'):
        name = 'rbac.yaml' if folder.endswith('scheduler') else 'client-keys.yaml'
        w.control.kubectl('apply', '-f', f'{ROOT}/deploy/kustomize/{folder}/{name}')
    w.control.kubectl('apply', '-k', f'{ROOT}/deploy/kustomize/clouds')
    found = kubemanifests.rights(w.control, 'coffer-scheduler', CLOUDS)
    demand(found == RIGHTS, f'{found} and not {RIGHTS}')
    elsewhere = kubemanifests.rights(w.control, 'coffer-scheduler')
    demand(elsewhere == {'nodes': 'list', 'persistentvolumes': 'get', 'csistoragecapacities.storage.k8s.io': 'list'}, elsewhere)


def takes_the_manifests(w):
    """deploy/'s component in an installation, and the chart with a scheduler; fields that the server doesn't know are refused."""
    overlay = kubemanifests.overlay(f'{w.folder}/overlay')
    with open(f'{overlay}/kustomization.yaml', 'r+', encoding='utf-8') as f:
        text = f.read().replace('  - ../components/token-in-secrets',
                                '\n'.join(f'  - ../components/{c}' for c in ('token-in-secrets', 'client-keys', 'scheduler')))
        f.seek(0)
        f.write(text)
    said = kubemanifests.dry_run(w.control, w.control.kubectl('kustomize', overlay))
    demand('deployment.apps/coffer-scheduler created' in said, said)
    done = subprocess.run([f'{ROOT}/e2e/helm/build.sh', '--cached'], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 77:
        print(f'# the chart was not tried: {done.stdout.strip()}', flush=True)
        return
    version = kubemanifests.json_of(w.control, 'version')['serverVersion']['gitVersion'].lstrip('v')
    text = subprocess.run([done.stdout.strip(), 'template', 'coffer', f'{ROOT}/deploy/chart', '-n', NAMESPACE, '--kube-version', version,
                           '--set', CHART], stdout=subprocess.PIPE, text=True, check=True).stdout
    demand('deployment.apps/coffer-scheduler created' in kubemanifests.dry_run(w.control, text), 'the chart')


def starts(w):
    """With the token of its account; the file is written again later."""
    write_token(w)
    config = {'driver': 'kubernetes', 'url': 'https://clouds.example/clouds/', 'tenant': 'clouds', 'size': GIB,
              'kubernetes': {'api': f'https://{kubenet.HOST}', 'ca': w.control.ca, 'token_path': f'{w.folder}/token', 'namespace': CLOUDS,
                             'driver_namespace': NAMESPACE, 'storage_class': CLASS, 'image': 'localhost/vm:1',
                             'command': ['/bin/node', '/vm/server.mjs'], 'ingress_host': 'clouds.example', 'ingress_class': 'nginx'}}
    with open(f'{w.folder}/scheduler.json', 'w', encoding='ascii') as f:
        json.dump(config, f)
    w.driver = Driver(f'{w.folder}/scheduler.json').__enter__()
    demand(w.driver('each')['clouds'] == [], 'a new namespace has clouds')
    w.refused('find', 'NOT_FOUND', id='0' * 32)


def write_token(w, text=None):
    with open(f'{w.folder}/token.new', 'w', encoding='ascii') as f:
        f.write(text or w.control.kubectl('create', 'token', 'coffer-scheduler', '-n', NAMESPACE, '--duration=1h'))
    os.rename(f'{w.folder}/token.new', f'{w.folder}/token')


def nodes(w):
    w.node('n1', '4194304Ki', '8Gi')
    w.node('n2', '2Gi', '100Mi')  # no room for a volume of 1 GiB
    w.node('n3', '16Gi', '1Ti', taints=[{'key': 'dedicated', 'effect': 'NoSchedule'}])
    found = {n['name']: n for n in w.driver('nodes')['nodes']}
    demand(found['n1'] == {'name': 'n1', 'schedulable': True, 'memory': 4 * GIB, 'memory_used': 0, 'storage_free': 8 * GIB, 'vms': 0},
           found)
    demand(found['n2']['storage_free'] == 0 and found['n2']['schedulable'] and not found['n3']['schedulable'], found)


def volume_without_a_pod(w):
    w.create(w.cloud, w.seed)
    demand(not w.pods(w.cloud), 'there is a pod')
    claim = w.get('PersistentVolumeClaim', f'cloud-{w.cloud}')
    demand(claim['status']['phase'] == 'Bound' and claim['spec']['accessModes'] == ['ReadWriteOncePod'], claim)
    found = w.find(w.cloud)
    demand(found['volume'] == f'default.01234567.{w.cloud}' and found['node'] == 'n1' and found['uuid'] == w.seed['uuid'], found)
    demand(not found['open'] and not found['ever_opened'] and found['vm'] == 'none', found)
    demand([d['name'] for d in found['devices']] == [w.seed['name']] and found['devices'][0]['wrapped'] == w.seed['wrapped'], found)
    w.call('create_volume', id=w.cloud, node='n1', seed=w.seed)  # once more
    for other in ({'uuid': str(uuid.uuid4())}, {'commitment': '0' * 64}, {'wrapped': 'b3RoZXI='}, {'name': '0' * 64}):
        w.refused('create_volume', 'ALREADY_EXISTS', id=w.cloud, node='n1', seed={**w.seed, **other})


def no_room_on_the_node(w):
    cloud, of = seed()

    def takes_the_node_back():
        claim = w.wait('PersistentVolumeClaim', f'cloud-{cloud}', lambda o: o['metadata']['annotations'][
            'volume.kubernetes.io/selected-node'] == 'n2')
        w.event({**claim, 'kind': 'PersistentVolumeClaim'}, 'ProvisioningFailed', 'failed to provision volume with StorageClass '
                f'"{CLASS}": rpc error: code = ResourceExhausted desc = pool \'default\' has no room')
        w.api.patch('PersistentVolumeClaim', f'cloud-{cloud}', {'metadata': {'annotations': {
            'volume.kubernetes.io/selected-node': None}}}, CLOUDS)
    said = w.refused('create_volume', 'RESOURCE_EXHAUSTED', takes_the_node_back, id=cloud, node='n2', seed=of)
    demand("pool 'default' has no room" in said, said)
    w.call('delete_volume', id=cloud)
    w.refused('find', 'NOT_FOUND', id=cloud)


def not_provisioned_in_time(w):
    cloud, of = seed()
    said = w.refused('create_volume', 'DEADLINE_EXCEEDED', id=cloud, node='n1', seed=of, seconds=3)
    demand("isn't provisioned yet" in said, said)
    demand(w.find(cloud)['volume'] == '', 'it has a volume')
    w.create(cloud, of)  # goes on where it was
    demand(w.find(cloud)['volume'] != '', 'it has no volume')
    w.remove(cloud)


def opens(w):
    w.attach(w.cloud, lambda: w.kubelet(w.cloud, ready=False))
    w.no_session(w.cloud)
    demand(w.secret(f'cloud-{w.cloud}-session') is not None, 'kubelet needs the Secret to mount again what is mounted')
    found = w.find(w.cloud)
    demand(found['open'] and found['ever_opened'] and found['vm'] == 'starting', found)
    w.call('start', id=w.cloud)
    demand(w.driver('ready', id=w.cloud)['ready'] is False, 'ready before its probe')
    w.kubelet(w.cloud)
    demand(w.driver('ready', id=w.cloud)['ready'] is True and w.find(w.cloud)['vm'] == 'ready', w.find(w.cloud))
    uid = w.pod(w.cloud)['metadata']['uid']
    w.attach(w.cloud, None)  # once more, and nothing changes
    demand(w.pod(w.cloud)['metadata']['uid'] == uid, 'a second attach replaced the pod')
    used = {n['name']: (n['memory_used'], n['vms']) for n in w.driver('nodes')['nodes']}
    demand(used['n1'] == (0, 0), 'no kube-scheduler put the pod there yet')


def spec_holds_no_key(w):
    pod = w.pod(w.cloud)
    spec, c = pod['spec'], pod['spec']['containers'][0]
    text = json.dumps([w.get('Deployment', f'cloud-{w.cloud}'), pod])
    for what in (SESSION, w.seed['wrapped'], w.seed['commitment'], w.seed['publicKey'], 'secret'):
        demand(what not in text, f'{what} in {text}')
    demand(spec['automountServiceAccountToken'] is False and spec['enableServiceLinks'] is False, spec)
    demand(spec['securityContext']['runAsNonRoot'] and spec['securityContext']['seccompProfile'] == {'type': 'RuntimeDefault'}, spec)
    demand(c['securityContext'] == {'allowPrivilegeEscalation': False, 'readOnlyRootFilesystem': True,
                                    'capabilities': {'drop': ['ALL']}}, c)
    demand({e['name']: e['value'] for e in c['env']} == {'PORT': '8080', 'TARGET_DISK': 'true', 'VM_URL_PREFIX': '/'}, c['env'])
    demand({m['name']: m['mountPath'] for m in c['volumeMounts']} == {'volume': '/personalcloud', 'tmp': '/tmp'}, c['volumeMounts'])
    demand(c['resources']['limits'] == {'memory': str(256 << 20)} and c['command'] == ['/bin/node', '/vm/server.mjs'], c)


def ingress(w):
    made = w.get('Ingress', f'cloud-{w.cloud}')
    path = made['spec']['rules'][0]['http']['paths'][0]
    demand(made['spec']['rules'][0]['host'] == 'clouds.example' and made['spec']['ingressClassName'] == 'nginx', made['spec'])
    demand(path['path'] == f'/clouds/{w.cloud}/(.*)' and path['backend']['service'] == {
        'name': f'cloud-{w.cloud}', 'port': {'name': 'http'}}, path)
    demand(made['metadata']['annotations']['nginx.ingress.kubernetes.io/rewrite-target'] == '/$1', made['metadata'])
    service = w.get('Service', f'cloud-{w.cloud}')
    demand(service['spec']['selector'] == {'coffer.dev/cloud': w.cloud} and service['spec']['ports'][0]['targetPort'] == 'http', service)


def vm_that_ends(w):
    ended = {'exitCode': 137, 'reason': 'Error', 'finishedAt': '2026-01-01T00:00:00Z'}
    for container, word in (({'state': {'terminated': ended}}, 'signal 9'),
                            ({'state': {'terminated': {**ended, 'reason': 'OOMKilled'}}}, 'out of memory'),
                            ({'state': {'waiting': {'reason': 'CrashLoopBackOff', 'message': 'back-off'}},
                              'lastState': {'terminated': {**ended, 'exitCode': 3}}}, 'exit 3'),
                            ({'state': {'waiting': {'reason': 'ImagePullBackOff', 'message': 'no such image'}}}, 'no such image')):
        w.kubelet(w.cloud, ready=False, container=container)
        demand(word in w.refused('ready', 'FAILED_PRECONDITION', id=w.cloud), word)
        found = w.find(w.cloud)
        demand(found['vm'] == 'failed' and word in found['reason'] and found['open'], found)
    w.kubelet(w.cloud)


def locks(w):
    w.call('stop', id=w.cloud)
    demand(not w.pods(w.cloud), 'a pod is left')
    w.call('detach', id=w.cloud)
    w.call('detach', id=w.cloud)
    demand(w.secret(f'cloud-{w.cloud}-session') is None, 'the session is left')
    found = w.find(w.cloud)
    demand(not found['open'] and found['ever_opened'] and found['volume'] and found['vm'] == 'none', found)


def wrong_sessions(w):
    """With the driver's code and words; what was opened for it is closed again."""
    for code, ours, text in (('InvalidArgument', 'INVALID_ARGUMENT', "the session isn't for this volume and device"),
                             ('FailedPrecondition', 'FAILED_PRECONDITION', 'the session is over'),
                             ('DataLoss', 'DATA_LOSS', 'the record was changed')):
        try:
            w.attach(w.cloud, lambda c=code, t=text: w.refuse(w.cloud, c, t))
            raise RuntimeError('it was opened')
        except Refused as e:
            demand(e.code == ours and text in str(e), e)
        demand(not w.pods(w.cloud) and w.secret(f'cloud-{w.cloud}-session') is None, 'something is left')
        demand(not w.find(w.cloud)['open'], w.find(w.cloud))
    w.attach(w.cloud, lambda: w.kubelet(w.cloud))
    demand(w.find(w.cloud)['vm'] == 'ready', w.find(w.cloud))


def what_may_pass_is_waited_for(w):
    w.call('detach', id=w.cloud)

    def busy_then_mounted():
        w.refuse(w.cloud, 'Unavailable', 'coffer-keyd is not there')
        w.refuse(w.cloud, 'Aborted', 'the volume is busy')
        w.kubelet(w.cloud)
    w.attach(w.cloud, busy_then_mounted)
    w.call('detach', id=w.cloud)
    try:
        w.attach(w.cloud, lambda: w.refuse(w.cloud, 'Unavailable', 'coffer-keyd is not there'), seconds=6)
        raise RuntimeError('it was opened')
    except Refused as e:
        demand(e.code == 'DEADLINE_EXCEEDED' and 'coffer-keyd is not there' in str(e), e)
    demand(not w.pods(w.cloud), 'a pod is left')


def after_a_power_cut(w):
    """The node comes back, and nobody has lent the key: find says so, and a new session opens it."""
    w.attach(w.cloud, lambda: w.kubelet(w.cloud))
    w.refuse(w.cloud, 'FailedPrecondition', "secret 'session' is missing")
    found = w.find(w.cloud)
    demand(not found['open'] and found['vm'] == 'failed' and "'session' is missing" in found['reason'], found)
    old = w.pod(w.cloud)['metadata']['uid']

    def next_pod():
        w.api.wait(object_path('Pod', '', CLOUDS), lambda o: any(
            p['metadata']['uid'] != old and p['metadata']['labels'].get('coffer.dev/cloud') == w.cloud for p in o['items']))
        w.kubelet(w.cloud)
    w.attach(w.cloud, next_pod)
    demand(w.find(w.cloud)['vm'] == 'ready', w.find(w.cloud))


def a_thousandth_of_a_user_base(w):
    """More than one page of each list."""
    for n in range(45):
        cloud, of = seed()
        w.post('PersistentVolumeClaim', {'apiVersion': 'v1', 'kind': 'PersistentVolumeClaim', 'metadata': {
            'name': f'cloud-{cloud}', 'labels': {'coffer.dev/cloud': cloud, 'page': 'test'}, 'annotations': {
                'coffer.dev/uuid': of['uuid'], 'coffer.dev/commitment': of['commitment'], 'coffer.dev/devices': json.dumps([{
                    k: of[k] for k in ('name', 'fingerprint', 'algorithm', 'label', 'publicKey', 'wrapped')}])}},
            'spec': {'accessModes': ['ReadWriteOncePod'], 'storageClassName': CLASS, 'resources': {'requests': {'storage': '1Gi'}}}})
        demand(n or cloud in {c['id'] for c in w.driver('each')['clouds']}, 'the first')
    demand(len(w.driver('each')['clouds']) == 46, len(w.driver('each')['clouds']))
    name = f'cloud-{cloud}'
    w.api.patch('PersistentVolumeClaim', name, {'metadata': {'annotations': {'coffer.dev/devices': '[{}]'}}}, CLOUDS)
    demand(name in w.refused('each', 'DATA_LOSS'), 'which claim is unreadable')  # it isn't left out
    w.control.kubectl('-n', CLOUDS, 'delete', 'persistentvolumeclaims', '-l', 'page=test')


def token_is_read_again(w):
    write_token(w, 'nobody')
    w.refused('each', 'UNAVAILABLE', seconds=2)
    write_token(w)
    demand(len(w.driver('each')['clouds']) == 1, 'the new token')


POINTS = (  # a call, and the points at which it is killed, one after the other, before it may end
    ('create_volume', 'claim key-secret selected-node bound'),
    ('attach', 'scaled-down opened session-secret deployment'),
    ('detach', 'scaled-down'),
    ('attach', 'mounted'),
    ('start', 'service'),
    ('detach', ''),
    ('delete_volume', 'object-deleted claim-deleted'))


def killed_anywhere(w):
    """At each of the driver's points, by a process of its own; the same call again ends it, and nothing is left over."""
    cloud, of = seed()
    arguments = {'create_volume': {'node': 'n1', 'seed': of},
                 'attach': {'session': SESSION, 'serverKey': 'coffer-s-1:1', 'fingerprint': '0' * 64}}
    meanwhile = {'create_volume': lambda: w.provision(cloud), 'delete_volume': lambda: w.delete_volume(cloud)}
    with w.kubelet_mounts(cloud):
        for name, points in POINTS:
            helper = threading.Thread(target=meanwhile.get(name, lambda: None))
            helper.start()
            for point in points.split():
                demand(run_killed(w, name, f'kubernetes:{point}', id=cloud, **arguments.get(name, {})), f'{name} has no point {point}')
            with contextlib.suppress(Refused) if name == 'delete_volume' else contextlib.nullcontext():  # it may be gone by now
                w.driver(name, id=cloud, **arguments.get(name, {}))
            helper.join()
    w.refused('find', 'NOT_FOUND', id=cloud)
    left = w.control.kubectl('-n', CLOUDS, 'get', 'all,secret,pvc,ingress', '-l', f'coffer.dev/cloud={cloud}', '-o', 'name')
    demand(left == '', left)


def run_killed(w, name, point, **arguments):
    """Whether it came to that point, and was killed there."""
    folder = f'{w.folder}/fault'
    os.makedirs(folder, exist_ok=True)
    with open(f'{folder}/driver-call.arm', 'w', encoding='ascii') as f:
        f.write(f'kill {point}')
    try:
        with Driver(f'{w.folder}/scheduler.json', environment={'COFFER_FAULT_DIR': folder}) as driver:
            driver(name, **arguments)
    except (RuntimeError, BrokenPipeError):
        return True
    return False


@contextlib.contextmanager
def scheduler_of(w):
    """coffer-scheduler with this driver, its coffer-keyd and a real Vault; gives clouddevice.Api."""
    with contextlib.ExitStack() as stack:
        vault = vaultserver.Server(f'{w.folder}/vault')
        stack.callback(vault.stop)
        vault.start()
        layout = Layout(vault)
        layout.mount_engines()
        layout.write_policies()
        layout.root.call('POST', f'{layout.transit}/keys/{SERVER_KEY}1', {'type': 'rsa-3072'})
        role = layout.approle('scheduler')
        with open(f'{w.folder}/secret-id', 'w', encoding='ascii', opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            f.write(role.body['secret_id'] + '\n')
        uri = f'hcvault://{vault.address.removeprefix("https://")}/{layout.transit}/keys/{TENANT_KEY}{{tenant}}'
        keyd = stack.enter_context(Keyd(w.folder, {'pools': {'p': {'backend': 'file', 'path': '/p', 'kms': ['vault']}}, 'kms': {'vault': {
            'uri': uri, 'server_key': f'{SERVER_KEY}1', 'ca': vault.ca, 'auth': {
                'method': 'approle', 'mount': role.mount, 'role': 'scheduler', 'role_id': role.body['role_id'],
                'secret_id_path': f'{w.folder}/secret-id'}}}}, allow='SERVER_KEY', name='public-keys'))
        path = f'{w.folder}/api.sock'
        log = stack.enter_context(open(f'{w.folder}/scheduler.log', 'wb'))
        process = subprocess.Popen([os.path.join(os.environ['COFFER_BIN'], 'coffer-scheduler'), '--config', f'{w.folder}/scheduler.json',
                                    '--listen-unix', path, '--keyd-socket', keyd.path], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.kill)
        end = time.monotonic() + 600
        while not os.path.exists(path):
            demand(process.poll() is None and time.monotonic() < end, open(f'{w.folder}/scheduler.log', encoding='utf-8').read())
            time.sleep(0.05)
        yield CloudApi(f'unix://{path}')


def the_scheduler_itself(w):
    """A user's whole way by HTTP: coffer-scheduler on this driver."""
    with scheduler_of(w) as api:
        user = User(api, CloudDevice(w.folder, 'phone'))
        cloud = user.device.id
        demand(user.until('nonexistent').body['volumeId'] is None, 'a volume id before there is a volume')
        want(user.create(), 202)
        w.provision(cloud)
        found = user.until('detached', 'failure')
        demand(found.state == 'detached' and found.body['volumeId'] == f'default.01234567.{cloud}', found)
        want(user.mount(), 202)
        w.refuse(cloud, 'InvalidArgument', "the session isn't for this volume")
        found = user.until('failure', 'attached')
        demand(found.state == 'failure' and "isn't for this volume" in found.body['reason'], found)
        demand(found.body['wrappedKey'] and not w.pods(cloud) and w.secret(f'cloud-{cloud}-session') is None, found)
        with w.kubelet_mounts(cloud):
            want(user.unlock(), 202)
            demand(user.opened().body['url'] == f'https://clouds.example/clouds/{cloud}/', 'the URL')
            want(user.lock(), 202)
            user.until('detached')
        demand(not w.pods(cloud), 'a pod is left')
        want(user.delete(), 202)
        w.delete_volume(cloud)
        user.until('nonexistent')


def deletes(w):
    w.remove(w.cloud)
    w.refused('find', 'NOT_FOUND', id=w.cloud)
    left = w.control.kubectl('-n', CLOUDS, 'get', 'all,secret,pvc,ingress', '-o', 'name')
    demand(left == '', left)


TESTS = (
    ('its service account has what it uses in one namespace, and reads no Secret', has_its_rights),
    ('the API server takes the component and the chart', takes_the_manifests),
    ('starts with its own token; no cloud', starts),
    ('nodes: memory, room for volumes by topology, taints', nodes),
    ('create_volume: bound without a pod; again; another key is refused', volume_without_a_pod),
    ('no room on the node: the driver\'s words, and it can be deleted', no_room_on_the_node),
    ('not provisioned in time: it says so, and goes on', not_provisioned_in_time),
    ('attach, start, ready; the session is taken out of its Secret', opens),
    ('the pod has no key, no token, no privilege', spec_holds_no_key),
    ('Ingress and Service lead to the pod', ingress),
    ('a VM that ends: how', vm_that_ends),
    ('stop and detach: no pod, no session', locks),
    ('a session that opens nothing: the driver\'s code and words, and detached', wrong_sessions),
    ('what may pass is waited for, to the deadline', what_may_pass_is_waited_for),
    ('after a power cut: failed until a session is brought', after_a_power_cut),
    ('lists of many pages; an unreadable claim is an error', a_thousandth_of_a_user_base),
    ('the token is read again', token_is_read_again),
    ('killed anywhere, the same call ends it', killed_anywhere),
    ('delete: nothing is left', deletes),
    ('coffer-scheduler with this driver: a user\'s whole way', the_scheduler_itself),
)


def main():
    tap = Tap()
    if why := why_not():
        tap.skip('scheduler-kubernetes-api', why)
        tap.done()
    kubenet.enter()
    kubenet.bridge(0)
    with tempfile.TemporaryDirectory(prefix='coffer-scheduler-') as folder:
        os.chmod(folder, 0o755)
        control = ControlPlane(folder, os.environ['COFFER_KUBERNETES'] + '/bin')
        control.start()
        w, start = World(control, folder), time.monotonic()
        w.cloud, w.seed = seed()
        with w.kubelet_removes():
            for name, test in TESTS:
                if not tap.run(name, test, w) and test in (has_its_rights, starts):
                    break
        if w.driver:
            w.driver.__exit__()
        control.stop()
        print(f'# {time.monotonic() - start:.0f} s', flush=True)
    tap.done()


main()
