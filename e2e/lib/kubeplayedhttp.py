# SPDX-License-Identifier: Apache-2.0
"""coffer-scheduler with its driver `kubernetes`, in a kubeplayed.World: a user's whole way by HTTP, with a coffer-keyd and a real Vault.

    the_scheduler_itself(w)       # w.folder/scheduler.json is its configuration"""
import contextlib
import json
import os
import subprocess
import time

import vaultserver
from clouddevice import Api, CloudDevice, User, want
from keydclient import Keyd
from kubeplayed import CLOUDS
from tap import demand
from vaultsetup import SERVER_KEY, TENANT_KEY, Layout


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
        yield Api(f'unix://{path}')


def devices_by_http(w, user, cloud):
    """A device comes; and what a killed scheduler left of such a change the rounds settle, by what the node says."""
    tablet = User(user.api, CloudDevice(w.folder, 'tablet'))
    listed = want(user.add(tablet.device), 200).body['devices']
    demand([d['name'] for d in listed] == [user.device.name, tablet.device.name], listed)
    demand(tablet.until('detached').body['wrappedKey'] == user.forms[tablet.device.name], 'its form')
    w.says = lambda *_: ('InvalidArgument', 'the session was not made for this volume')
    refused = want(user.add(CloudDevice(w.folder, 'third')), 400)
    demand('was not made for this volume' in refused.message, refused)
    before = w.notes(cloud)
    for answer, names in ((('FailedPrecondition', 'it was not done'), [user.device.name, tablet.device.name]),
                          (None, [tablet.device.name])):
        w.says = lambda *_, answer=answer: answer
        change = {'attributes': {'action': 'remove-device', 'volume': before['volume'], 'fingerprint': user.device.fingerprint,
                                 'commitment': '1' * 64}, 'devices': json.dumps(json.loads(before['devices'])[1:]), 'commitment': '1' * 64}
        w.api.patch('PersistentVolumeClaim', f'cloud-{cloud}', {'metadata': {'annotations': {
            'coffer.dev/change': json.dumps(change)}}}, CLOUDS)
        w.wait('PersistentVolumeClaim', f'cloud-{cloud}', lambda o: 'coffer.dev/change' not in o['metadata']['annotations'])
        end = time.monotonic() + 600
        while [d['name'] for d in want(tablet.devices(), 200).body['devices']] != names:
            demand(time.monotonic() < end, f'the list never had {names}')
            time.sleep(0.2)
    demand(w.notes(cloud)['commitment'] == '1' * 64, w.notes(cloud))
    w.says = None
    w.api.patch('PersistentVolumeClaim', f'cloud-{cloud}', {'metadata': {'annotations': {
        'coffer.dev/devices': before['devices'], 'coffer.dev/commitment': before['commitment']}}}, CLOUDS)
    user.until('detached')


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
        devices_by_http(w, user, cloud)
        want(user.delete(), 202)
        w.delete_volume(cloud)
        user.until('nonexistent')
