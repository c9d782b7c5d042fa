#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scheduler-kubernetes-api: the scheduler's driver `kubernetes` before a real API server, by its service account's own rights. Node,
kubelet and csi-provisioner are played: what they write is written here, so that each of their answers can be had. (On a real node:
scheduler-kubernetes.)"""
# story: where=here needs=kubernetes,vault
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import kubecontrol  # noqa: E402
import kubemanifests  # noqa: E402
import kubenet  # noqa: E402
import kubeplayeddevices  # noqa: E402
import vaultserver  # noqa: E402
from drivercall import Driver, Refused  # noqa: E402
from kubeapi import object_path  # noqa: E402
from kubemanifests import NAMESPACE, ROOT  # noqa: E402
from kubeplayed import CLASS, CLOUDS, SESSION, World, seed  # noqa: E402
from kubeplayeddevices import a_device, a_new_key, lent  # noqa: E402
from kubeplayedhttp import the_scheduler_itself  # noqa: E402
from tap import begin, demand  # noqa: E402

GIB = 1 << 30
CHART = 'scheduler.enabled=true,clientKeys.enabled=true,clientKeys.namespaces={clouds}'
RIGHTS = {
    'persistentvolumeclaims': 'create delete get list patch', 'deployments.apps': 'create delete get list patch',
    'services': 'create delete patch', 'ingresses.networking.k8s.io': 'create delete patch', 'secrets': 'create delete',
    'pods': 'list', 'events': 'list', 'nodes': 'list', 'persistentvolumes': 'get'}


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
    """That it is closed the node says itself, once."""
    w.asked = []
    w.call('stop', id=w.cloud)
    demand(not w.pods(w.cloud), 'a pod is left')
    demand(w.find(w.cloud)['open'], 'nobody has said that it is closed')
    w.says = lambda *_: ('Aborted', 'volume is still open')
    said = w.refused('detach', 'UNAVAILABLE', id=w.cloud, seconds=4)
    demand('is still open' in said and w.find(w.cloud)['open'] and w.notes(w.cloud)['in-use'] == 'true', said)
    w.says = None
    w.call('detach', id=w.cloud)
    w.call('detach', id=w.cloud)
    demand([a for _, a, _ in w.asked] == 2 * [{'action': 'closed', 'volume': f'default.01234567.{w.cloud}'}], [a for _, a, _ in w.asked])
    demand(w.secret(f'cloud-{w.cloud}-session') is None, 'the session is left')
    found = w.find(w.cloud)
    demand(not found['open'] and found['ever_opened'] and found['volume'] and found['vm'] == 'none', found)


def locks_without_inline_volumes(w):
    """A cluster whose CSIDriver hasn't the mode: as before there was one, and it says why devices can't come."""
    w.attach(w.cloud, lambda: w.kubelet(w.cloud))
    w.says = lambda *_: ('', 'kubernetes.io/csi: mounter.SetupAt failed to check volume lifecycle mode: volume mode "Ephemeral" not '
                             'supported by driver csi.coffer.dev (only supports ["Persistent"])')
    w.call('detach', id=w.cloud)
    demand(not w.find(w.cloud)['open'], w.find(w.cloud))
    said = w.refused('add_device', 'UNIMPLEMENTED', id=w.cloud, **lent(w), device=a_device())
    demand('mode Ephemeral' in said and 'change' not in w.notes(w.cloud), said)
    w.says = None


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
    hidden = [c for c in w.driver('each')['clouds'] if c['unread']]  # it isn't left out, and hides no other
    demand([c['id'] for c in hidden] == [cloud] and name in hidden[0]['reason'], hidden)
    demand(name in w.refused('find', 'DATA_LOSS', id=cloud), 'which claim is unreadable')
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
    ('add_device', 'change-noted request-secret request answered request-ended'),
    ('remove_device', 'change-noted request-secret request answered request-ended'),
    ('detach', 'scaled-down request answered request-ended closed'),
    ('delete_volume', 'object-deleted claim-deleted'))


def killed_anywhere(w):
    """At each of the driver's points, by a process of its own; the same call again ends it, and nothing is left over."""
    cloud, of = seed()
    tablet = a_device()
    arguments = {'create_volume': {'node': 'n1', 'seed': of}, 'add_device': {**lent(w), 'device': tablet},
                 'remove_device': {**lent(w), 'remove': of['fingerprint'], 'key': a_new_key(tablet)},
                 'attach': {'session': SESSION, 'serverKey': 'coffer-s-1:1', 'fingerprint': '0' * 64}}
    meanwhile = {'create_volume': lambda: w.provision(cloud), 'delete_volume': lambda: w.delete_volume(cloud)}
    with w.kubelet_mounts(cloud):
        for name, points in POINTS:
            helper = threading.Thread(target=meanwhile.get(name, lambda: None))
            helper.start()
            for point in points.split():
                demand(w.killed_at(name, f'kubernetes:{point}', id=cloud, **arguments.get(name, {})), f'{name} has no point {point}')
            with contextlib.suppress(Refused) if name == 'delete_volume' else contextlib.nullcontext():  # it may be gone by now
                w.driver(name, id=cloud, **arguments.get(name, {}))
            helper.join()
    w.refused('find', 'NOT_FOUND', id=cloud)
    left = w.control.kubectl('-n', CLOUDS, 'get', 'all,secret,pvc,ingress', '-l', f'coffer.dev/cloud={cloud}', '-o', 'name')
    demand(left == '', left)


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
    ('without inline volumes: closed as before, no devices', locks_without_inline_volumes),
    *kubeplayeddevices.TESTS,
    ('a session that opens nothing: the driver\'s code and words, and detached', wrong_sessions),
    ('what may pass is waited for, to the deadline', what_may_pass_is_waited_for),
    ('after a power cut: failed until a session is brought', after_a_power_cut),
    ('lists of many pages; an unreadable claim hides its own cloud alone', a_thousandth_of_a_user_base),
    ('the token is read again', token_is_read_again),
    ('killed anywhere, the same call ends it', killed_anywhere),
    ('delete: nothing is left', deletes),
    ('coffer-scheduler with this driver: a user\'s whole way', the_scheduler_itself),
)


def main():
    tap = begin('scheduler-kubernetes-api', kubecontrol.why_not() or vaultserver.why_not())
    kubenet.enter()
    kubenet.bridge(0)
    with tempfile.TemporaryDirectory(prefix='coffer-scheduler-') as folder:
        os.chmod(folder, 0o755)
        control = kubecontrol.ControlPlane(folder, os.environ['COFFER_KUBERNETES'] + '/bin')
        control.start()
        w, start = World(control, folder), time.monotonic()
        w.cloud, w.seed = seed()
        with w.kubelet_removes(), w.node_answers():
            for name, test in TESTS:
                if not tap.run(name, test, w) and test in (has_its_rights, starts):
                    break
        if w.driver:
            w.driver.__exit__()
        control.stop()
        print(f'# {time.monotonic() - start:.0f} s', flush=True)
    tap.done()


main()
