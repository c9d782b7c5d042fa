# SPDX-License-Identifier: Apache-2.0
"""A real API server with its controllers, and everything that would stand on nodes played, for the scheduler's driver `kubernetes`:
csi-provisioner, kubelet and coffer-node write here what they would, so that each of their answers can be had.

    w = World(control, folder)                           # kubecontrol.ControlPlane
    with w.kubelet_removes(), w.node_answers(): …        # for as long as there is a World
    w.call('attach', lambda: w.kubelet(cloud), id=cloud, …)      # a call of drivercall.py, and what the cluster does meanwhile
    w.says = lambda attributes, secret: ('InvalidArgument', 'no')        # what coffer-node answers an inline volume; None: yes"""
import base64
import contextlib
import http.client
import os
import secrets
import threading
import time
import uuid

import kubenet
from drivercall import Driver, Refused
from kubeapi import Api, ApiError, object_path
from kubecontrol import PORT
from kubemanifests import NAMESPACE
from tap import demand

CLOUDS, CLASS = 'clouds', 'encrypted-client'
LATER = (ApiError, OSError, http.client.HTTPException)  # a busy API server
SESSION = 'c2Vzc2lvbiBvZiBhIGRldmljZQ=='
NODE = {'apiVersion': 'v1', 'kind': 'Node', 'metadata': {'labels': {'topology.csi.coffer.dev/node': ''}}}


def seed(**other):
    """What the first device of a cloud says; also its id."""
    name = secrets.token_hex(32)
    return name[:32], {'name': name, 'fingerprint': secrets.token_hex(32), 'uuid': str(uuid.uuid4()), 'commitment': secrets.token_hex(32),
                       'publicKey': 'cHVibGlj' * 40, 'algorithm': 'RSA-OAEP-256', 'wrapped': 'd3JhcHBlZA==', 'label': 'phone "7"', **other}


@contextlib.contextmanager
def repeated(once):
    """In a thread of its own, ten times a second, as long as the block runs."""
    over = threading.Event()

    def rounds():
        while not over.wait(0.1):
            with contextlib.suppress(*LATER):
                once()
    thread = threading.Thread(target=rounds)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class World:
    def __init__(self, control, folder):
        self.control, self.folder, self.driver, self.connections = control, folder, None, threading.local()
        self.says, self.asked = None, []  # what coffer-node answers a request: (code, text), None for yes; and what it was asked

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

    def notes(self, cloud):
        return {k.removeprefix('coffer.dev/'): v for k, v in self.get('PersistentVolumeClaim', f'cloud-{cloud}')['metadata'][
            'annotations'].items()}

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

    def beat(self):
        """Else kube-controller-manager takes the nodes for lost, after 40 s."""
        for node in self.api.items('Node'):
            self.status('Node', node['metadata']['name'], {'conditions': [
                {'type': 'Ready', 'status': 'True', 'lastHeartbeatTime': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}]})

    @contextlib.contextmanager
    def kubelet_removes(self):
        """Pods that are being deleted go, as on a node that has ended them; and the nodes are alive."""
        beaten = 0

        def once():
            nonlocal beaten
            if time.monotonic() - beaten > 5:
                beaten = time.monotonic()
                self.beat()
            for pod in self.api.items('Pod', CLOUDS):
                if 'deletionTimestamp' in pod['metadata']:
                    self.api.request('DELETE', object_path('Pod', pod['metadata']['name'], CLOUDS), {
                        'kind': 'DeleteOptions', 'apiVersion': 'v1', 'gracePeriodSeconds': 0})
        with repeated(once):
            yield

    @contextlib.contextmanager
    def kubelet_mounts(self, cloud):
        """Every pod of the cloud is mounted and ready as soon as it is there."""
        def once():
            for pod in self.pods(cloud):
                if 'deletionTimestamp' not in pod['metadata'] and pod['status']['phase'] == 'Pending':
                    self.kubelet(cloud, pod=pod)
        with repeated(once):
            yield

    def answer_request(self, pod):
        """As coffer-node, by kubelet: the pod's inline volume is mounted, or not, for a reason."""
        said = pod['spec']['volumes'][0]['csi']
        secret = self.secret(said['nodePublishSecretRef']['name']) if 'nodePublishSecretRef' in said else None
        brought = {k: base64.b64decode(v).decode() for k, v in ((secret or {}).get('data') or {}).items()}
        answer = self.says(said['volumeAttributes'], brought) if self.says else None
        self.asked.append((pod, said['volumeAttributes'], brought))
        if answer is None:
            self.kubelet('', pod=pod)
        else:
            text = answer[1] if answer[0] == '' else f'rpc error: code = {answer[0]} desc = {answer[1]}'
            self.event({**pod, 'kind': 'Pod'}, 'FailedMount', f'MountVolume.SetUp failed for volume "request" : {text}')

    @contextlib.contextmanager
    def node_answers(self):
        """Each pod that is a request, once."""
        seen = set()

        def once():
            for pod in self.api.items('Pod', CLOUDS):
                uid, labels = pod['metadata']['uid'], pod['metadata']['labels']
                if 'coffer.dev/request' in labels and uid not in seen and 'deletionTimestamp' not in pod['metadata']:
                    self.answer_request(pod)
                    seen.add(uid)
        with repeated(once):
            yield

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

    def killed_at(self, name, point, **arguments):
        """Whether it came to that point, and was killed there."""
        folder = f'{self.folder}/fault'
        os.makedirs(folder, exist_ok=True)
        with open(f'{folder}/driver-call.arm', 'w', encoding='ascii') as f:
            f.write(f'kill {point}')
        try:
            with Driver(f'{self.folder}/scheduler.json', environment={'COFFER_FAULT_DIR': folder}) as driver:
                driver(name, **arguments)
        except (RuntimeError, BrokenPipeError):
            return True
        return False

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
