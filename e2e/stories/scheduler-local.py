#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scheduler-local: a user's cloud on one host by coffer-scheduler's driver `local`, all programs real: made, written to, locked,
opened again, on real dm-crypt with the real Vault."""
# story: disk=8G needs=vault memory=3072M
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import vaultserver  # noqa: E402
from localcloud import LocalHost  # noqa: E402
from schedulerlib import Device  # noqa: E402
from tap import demand  # noqa: E402


def made(h, d):
    found = h.api.find(d)
    demand(found.status == 404 and found['status'] == 'nonexistent' and found['volumeId'].startswith('default.'), str(found))
    found = h.api.created(d)
    demand(found['url'] == f'https://clouds.example/clouds/{d.name[:32]}/', str(found))
    vm = h.vm_of(d)
    demand(vm and vm['state'] == 'running', str(vm))
    demand(len(h.mappings()) == 1 and len(h.mounts()) == 2, f'{h.mappings()} {h.mounts()}')
    demand(h.ask_vm(d, 'GET', '/personalcloud/')[0] == 200, 'its VM answers')
    demand(h.ask_vm(d, 'PUT', '/personalcloud/db')[0] in (200, 201), 'a database')
    demand(h.ask_vm(d, 'PUT', '/personalcloud/db/one', {'text': 'what the user wrote'})[0] in (200, 201), 'a document')


def repeated(h, d):
    again = h.api.proved(d, 'POST', d.url + '/deploy', h.api.deploy_body(d, h.api.find(d).json | {
        'volumeId': h.volume_id, 'serverKey': h.server_key}))
    demand(again.status == 200 and again['status'] == 'attached', str(again))


def locked(h, d):
    found = h.api.locked(d)
    demand(found['volumeId'] == h.volume_id and d.unseal(found['wrappedKey']) == d.key, str(found))
    demand(not h.left_over(), str(h.left_over()))


def wrong_key(h, d):
    """Nothing changes, and it stays detached."""
    found = h.api.find(d)
    answer = h.api.mount(d, found.json, key=os.urandom(32))
    demand(answer.status == 202, str(answer))
    failed = h.api.wait(d, 'failure')
    demand('the session was not made for this volume by this device' in failed['reason'], str(failed))
    demand(not h.left_over(), str(h.left_over()))


def unlocked(h, d):
    demand(h.api.mount(d, verb='unlock').status == 202, 'unlock')
    h.api.wait(d, 'attached', patient=True)
    status, document = h.ask_vm(d, 'GET', '/personalcloud/db/one')
    demand(status == 200 and document['text'] == 'what the user wrote', f'{status} {document}')


def story(vault, folder, tap):
    h = LocalHost(vault, folder)
    d = Device(folder)
    h.install()
    try:
        h.start()
        found = h.api.find(d)
        h.volume_id, h.server_key = found['volumeId'], found['serverKey']
        for name, test in (
                ('made: volume, VM, a document', made),
                ('the same deploy again', repeated),
                ('locked: nothing is left open', locked),
                ('another key: refused, still detached', wrong_key),
                ('unlocked: the document is there', unlocked),
                ('locked again', locked)):
            if not tap.run(name, test, h, d):
                break  # each goes on where the one before ended
    finally:
        for log in (h.api.log, f'{h.root}/coffer-launch.log', f'{h.root}/coffer-node.log'):
            said = subprocess.run(['tail', '-n', '25', log], capture_output=True, text=True, check=False).stdout
            print('# ' + said.replace('\n', '\n# '), flush=True)
        h.stop()


vaultserver.main('scheduler-local', '', story)
