# SPDX-License-Identifier: Apache-2.0
"""Tests of the scheduler's driver `kubernetes`, in a kubeplayed.World: devices of a cloud come and go. coffer-node is asked by pods that
run nothing, with an inline volume each; what it answers is played.

    for name, test in kubeplayeddevices.TESTS: tap.run(name, test, w)     # w.cloud, w.seed: a closed cloud and its first device"""
import base64
import hashlib
import json
import secrets

from kubeplayed import CLOUDS, SESSION
from tap import demand


def a_device(**other):
    return {'name': secrets.token_hex(32), 'fingerprint': secrets.token_hex(32), 'algorithm': 'RSA-OAEP-256', 'label': 'tablet',
            'publicKey': 'cHVibGlj' * 40, 'wrapped': b64(secrets.token_bytes(32)), **other}


def b64(data):
    return base64.b64encode(data).decode()


def lent(w):
    return {'session': SESSION, 'serverKey': 'coffer-s-1:1', 'fingerprint': w.seed['fingerprint']}


def a_new_key(*stay):
    return {'session': 'bmV3IHNlc3Npb24=', 'serverKey': 'coffer-s-1:2', 'fingerprint': stay[0]['fingerprint'],
            'commitment': secrets.token_hex(32), 'recipients': json.dumps(
                [{'fingerprint': d['fingerprint'], 'wrapped': b64(secrets.token_bytes(32))} for d in stay])}


def forms_of(key):
    return {f['fingerprint']: f['wrapped'] for f in json.loads(key['recipients'])}


def settled(w, *devices, commitment=None):
    """The list, and nothing that was begun is left."""
    found = w.find(w.cloud)
    demand({d['fingerprint']: d['wrapped'] for d in found['devices']} == {d['fingerprint']: d['wrapped'] for d in devices}, found)
    demand(found['commitment'] == (commitment or w.seed['commitment']) and not found['unsettled'], found)
    left = w.control.kubectl('-n', CLOUDS, 'get', 'pods,deployments,secrets', '-l', f'coffer.dev/cloud={w.cloud}', '-o', 'name')
    demand('request' not in left and not w.control.kubectl('-n', CLOUDS, 'get', 'pods', '-l', 'coffer.dev/request', '-o', 'name'), left)


def device_comes(w):
    """The node is asked by a pod that runs nothing on it; what is public is its volume's attributes, the rest in a Secret."""
    w.tablet, w.asked = a_device(), []
    w.call('add_device', id=w.cloud, **lent(w), device=w.tablet)
    settled(w, w.seed, w.tablet)
    (pod, attributes, brought), = w.asked
    demand(attributes == {'action': 'add-device', 'volume': f'default.01234567.{w.cloud}', 'fingerprint': w.tablet['fingerprint'],
                          'wrappedSha256': hashlib.sha256(base64.b64decode(w.tablet['wrapped'])).hexdigest()}, attributes)
    demand(brought == {**lent(w), **{k: w.tablet[k] for k in ('publicKey', 'algorithm', 'wrapped', 'label')}}, brought)
    spec, c = pod['spec'], pod['spec']['containers'][0]
    demand(SESSION not in json.dumps(pod) and spec['automountServiceAccountToken'] is False, 'the session is in its spec')
    demand(spec['affinity']['nodeAffinity']['requiredDuringSchedulingIgnoredDuringExecution']['nodeSelectorTerms'] == [
        {'matchFields': [{'key': 'metadata.name', 'operator': 'In', 'values': ['n1']}]}], spec['affinity'])
    locked = {'allowPrivilegeEscalation': False, 'readOnlyRootFilesystem': True, 'capabilities': {'drop': ['ALL']}}
    demand(c['securityContext'] == locked and
           spec['securityContext']['runAsNonRoot'] and 'persistentVolumeClaim' not in json.dumps(spec['volumes']), spec)
    w.call('add_device', id=w.cloud, **lent(w), device=w.tablet)  # once more: it is on the list
    demand(len(w.asked) == 1, 'the node was asked again')
    w.refused('add_device', 'ALREADY_EXISTS', id=w.cloud, **lent(w), device={**w.tablet, 'wrapped': 'b3RoZXI='})


def device_is_refused(w):
    w.says = lambda *_: ('InvalidArgument', 'the session was not made for this volume')
    said = w.refused('add_device', 'INVALID_ARGUMENT', id=w.cloud, **lent(w), device=a_device())
    demand('was not made for this volume' in said, said)
    settled(w, w.seed, w.tablet)
    key = a_new_key(w.tablet)
    w.says = lambda *_: ('FailedPrecondition', 'the session is over')
    w.refused('remove_device', 'FAILED_PRECONDITION', id=w.cloud, **lent(w), remove=w.seed['fingerprint'], key=key)
    settled(w, w.seed, w.tablet)
    w.says = None
    said = w.refused('remove_device', 'INVALID_ARGUMENT', id=w.cloud, **lent(w), remove=w.seed['fingerprint'], key=a_new_key(w.seed))
    demand('nothing of the new key is wrapped' in said, said)
    w.refused('remove_device', 'NOT_FOUND', id=w.cloud, **lent(w), remove='0' * 64, key=key)
    settled(w, w.seed, w.tablet)


def half_done_devices(w):
    """Killed at each point, or given up: the rounds' call asks the node whether it was done, which brings no session."""
    other = a_device()
    for point, done in (('change-noted', False), ('request-secret', False), ('request', True), ('answered', True),
                        ('request-ended', True)):
        demand(w.killed_at('add_device', f'kubernetes:{point}', id=w.cloud, **lent(w), device=other), f'no point {point}')
        demand(w.find(w.cloud)['unsettled'], f'{point}: nobody would look after it')
        w.asked = []
        w.says = None if done else lambda *_: ('FailedPrecondition', "the volume doesn't have the device")
        w.call('settle', id=w.cloud)
        demand(w.asked[-1][2] == {}, f'{point}: a session came along')  # the killed one's pod may have been asked before
        settled(w, w.seed, w.tablet, *([other] if done else []))
        w.says = None
        if done:
            w.api.patch('PersistentVolumeClaim', f'cloud-{w.cloud}', {'metadata': {'annotations': {'coffer.dev/devices': json.dumps(
                [{k: d[k] for k in other} for d in (w.seed, w.tablet)])}}}, CLOUDS)
    w.says = lambda *_: ('Unavailable', 'coffer-keyd is not there')
    said = w.refused('add_device', 'DEADLINE_EXCEEDED', id=w.cloud, **lent(w), device=other, seconds=5)
    demand('coffer-keyd is not there' in said and w.find(w.cloud)['unsettled'], said)
    w.refused('settle', 'DEADLINE_EXCEEDED', id=w.cloud, seconds=5)  # it still isn't known
    demand(w.find(w.cloud)['unsettled'], 'what is not known was taken for something')
    w.says = None
    w.call('add_device', id=w.cloud, **lent(w), device=other)  # another one first settles it: it was done
    settled(w, w.seed, w.tablet, other)
    w.call('remove_device', id=w.cloud, **lent(w), remove=other['fingerprint'], key=(key := a_new_key(w.seed, w.tablet)))
    for device in (w.seed, w.tablet):
        device['wrapped'] = forms_of(key)[device['fingerprint']]
    w.seed['commitment'] = key['commitment']
    settled(w, w.seed, w.tablet)


def device_goes(w):
    key, w.asked = a_new_key(w.tablet), []
    w.call('remove_device', id=w.cloud, **lent(w), remove=w.seed['fingerprint'], key=key)
    w.tablet['wrapped'] = forms_of(key)[w.tablet['fingerprint']]
    settled(w, w.tablet, commitment=key['commitment'])
    (_, attributes, brought), = w.asked
    demand(attributes == {'action': 'remove-device', 'volume': f'default.01234567.{w.cloud}', 'fingerprint': w.seed['fingerprint'],
                          'commitment': key['commitment']}, attributes)
    demand(brought == {**lent(w), 'newSession': key['session'], 'newServerKey': key['serverKey'], 'newFingerprint': key['fingerprint'],
                       'newRecipients': key['recipients']}, brought)
    w.call('remove_device', id=w.cloud, **lent(w), remove=w.seed['fingerprint'], key=key)  # its answer was lost
    w.refused('remove_device', 'FAILED_PRECONDITION', id=w.cloud, **lent(w), remove=w.tablet['fingerprint'], key=a_new_key(w.tablet))
    demand(len(w.asked) == 1, 'the node was asked again')


TESTS = (
    ('a device comes, by a pod that runs nothing', device_comes),
    ('a device that is refused: nothing has changed, nothing is left', device_is_refused),
    ('half done or given up: settled by what the node says', half_done_devices),
    ('a device goes, and the key with it', device_goes),
)
