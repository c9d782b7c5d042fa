#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-scheduler, the real program with the stub driver: a user's whole flow, many at once, restarts. What is refused:
scheduler_refusals.py; what fails: scheduler_failures.py, scheduler_unreadable.py; connections and listeners: scheduler_server.py. TAP on
stdout, no root."""
import concurrent.futures
import os
import sys

import caselib
from schedulerlib import device, expect, main, tests_of


# ---- a user's flow ----

def test_a_whole_life(s):
    d = device(s)
    found = expect(s.find(d), 404)
    assert found['status'] == 'nonexistent' and found['id'] == d.name[:32] and found['name'] == d.name
    assert found['volumeId'] == f'n1.{d.name[:32]}' and found['node'] == 'n1', found
    assert sorted(found['serverKey']) == ['hash', 'keyId', 'publicKey'] and found['serverKey']['hash'] == 'SHA-256'
    answer = s.deploy(d)
    assert answer.json == {'name': d.name, 'id': d.name[:32], 'status': 'pending', 'statusUrl': d.url}, answer
    assert answer.headers['Location'] == d.url and answer.headers['Cache-Control'] == 'no-store'
    attached = s.wait(d, 'attached')
    assert attached['url'] == f'https://clouds.example/clouds/{d.name[:32]}/' and len(attached.json) == 4, attached
    detached = s.locked(d)
    assert sorted(detached.json) == sorted(['name', 'id', 'status', 'wrappedKey', 'algorithm', 'volumeId', 'uuid', 'serverKey']), detached
    assert d.unseal(detached['wrappedKey']) == d.key and detached['uuid'] == d.uuid and detached['volumeId'] == found['volumeId']
    expect(s.mount(d, detached, 'unlock'), 202)
    s.wait(d, 'attached')
    expect(s.proved(d, 'DELETE', d.url), 202)
    s.wait(d, 'nonexistent')
    assert s.state() == {}


def test_each_status_has_its_number(s):
    d = device(s)
    for status, number, do in (('nonexistent', 0, lambda: None), ('attached', 1, lambda: s.deploy(d)), ('detached', 2, lambda: s.lock(d))):
        do()
        s.wait(d, status)
        assert s.ask('GET', d.url + '?status=number')['status'] == number
        assert s.ask('GET', d.url + '?status=string')['status'] == status
    s.control(delay={'attach': 1500})
    s.mount(d)
    pending = s.find(d)
    assert pending['status'] == 'pending' and pending['operation'] == 'mount' and pending['step'] in ('place', 'attach'), pending
    assert s.ask('GET', d.url + '?status=number')['status'] == 3
    s.control()
    s.wait(d, 'attached')
    s.control(vm={'*': 'failed'})
    s.wait(d, 'failure')
    assert s.ask('GET', d.url + '?status=number')['status'] == 4


def test_what_is_so_already_is_200(s):
    d = device(s)
    body = s.deploy_body(d)
    expect(s.proved(d, 'POST', d.url + '/deploy', body), 202)
    s.wait(d, 'attached')
    assert expect(s.proved(d, 'POST', d.url + '/deploy', body), 200)['status'] == 'attached'
    found = s.find(d).json | {'serverKey': {'keyId': 'stub:1', 'publicKey': s.server_key.public_key}, 'volumeId': body['volumeId']}
    assert expect(s.mount(d, found), 200)['status'] == 'attached'
    s.locked(d)
    assert expect(s.lock(d), 200)['status'] == 'detached'


def test_more_devices_and_fewer(s):
    d, tablet = device(s), device(s)
    tablet.uuid = d.uuid
    s.created(d)
    found = s.locked(d)
    add = {'publicKey': tablet.public_key, 'algorithm': tablet.algorithm, 'wrappedKey': tablet.seal(d.key), 'label': 'tablet'}
    lent = d.session(found['serverKey'], found['volumeId'])
    listed = expect(s.proved(d, 'POST', d.url + '/recipients', add | lent), 200)
    assert [x['name'] for x in listed['devices']] == [d.name, tablet.name] and listed['devices'][1]['label'] == 'tablet'
    assert all(sorted(x) == ['algorithm', 'fingerprint', 'label', 'name', 'publicKey'] for x in listed['devices'])
    expect(s.proved(d, 'POST', d.url + '/recipients', add | lent), 200)
    other = add | {'wrappedKey': tablet.seal(os.urandom(32))}
    expect(s.proved(d, 'POST', d.url + '/recipients', other | lent), 409, 'conflict', 'the device is on the list with another wrapped key')
    mine = s.find(tablet)
    assert mine['id'] == d.name[:32] and tablet.unseal(mine['wrappedKey']) == d.key
    own = expect(s.proved(tablet, 'POST', tablet.url + '/recipients/list', {}), 200)
    assert own['devices'] == listed['devices'] and own['wrappedKey'] == mine['wrappedKey'] and own['uuid'] == d.uuid, own
    assert own['volumeId'] == found['volumeId'] and own['serverKey'] == found['serverKey'] and own['algorithm'] == tablet.algorithm
    assert own.raw.decode().count(mine['wrappedKey']) == 1 and found['wrappedKey'] not in own.raw.decode()
    new = os.urandom(32)
    tablet.key = d.key
    old = tablet.session(found['serverKey'], found['volumeId'])
    fresh_key = tablet.session(found['serverKey'], found['volumeId'], key=new)
    remove = {'name': d.name, **old, 'newSession': fresh_key['session'], 'newServerKey': fresh_key['serverKey'],
              'newCommitment': tablet.commitment(new), 'newRecipients': [{'fingerprint': tablet.fingerprint, 'wrapped': tablet.seal(new)}]}
    left = expect(s.proved(tablet, 'POST', tablet.url + '/recipients/remove', remove), 200)
    assert [x['name'] for x in left['devices']] == [tablet.name], left
    assert tablet.unseal(s.find(tablet)['wrappedKey']) == new
    expect(s.proved(tablet, 'POST', tablet.url + '/recipients/remove', remove), 404, 'not_found', "the device to remove isn't on the list")
    remove['name'] = tablet.name
    expect(s.proved(tablet, 'POST', tablet.url + '/recipients/remove', remove), 412, 'precondition', "the last device can't be removed")
    expect(s.proved(d, 'POST', d.url + '/recipients/list', {}), 404, 'not_found', 'this device has no cloud')
    back = s.find(d)  # its id is the cloud's, which isn't its own any more
    expect(s.proved(d, 'POST', d.url + '/deploy', s.deploy_body(d, back)), 409, 'conflict',
           "another device's cloud has the id that follows from this name")


def test_a_second_device_opens_it(s):
    d, phone = device(s), device(s)
    phone.uuid = d.uuid
    s.created(d)
    found = s.locked(d)
    add = {'publicKey': phone.public_key, 'algorithm': phone.algorithm, 'wrappedKey': phone.seal(d.key)}
    expect(s.proved(d, 'POST', d.url + '/recipients', add | d.session(found['serverKey'], found['volumeId'])), 200)
    found = s.find(phone)
    phone.key = phone.unseal(found['wrappedKey'])
    expect(s.mount(phone, found, 'unlock'), 202)
    assert s.wait(phone, 'attached')['url'] == s.wait(d, 'attached')['url']


# ---- at once ----

def test_fifty_creates_at_once(s):
    d = device(s)
    found = s.find(d)
    s.control(delay={'create_volume': 300})
    bodies = [s.deploy_body(d, found) for _ in range(5)]
    challenges = [s.challenge(d) for _ in range(50)]
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda i: s.proved(d, 'POST', d.url + '/deploy', bodies[i % 5], challenges[i]), range(50)))
    assert {a.status for a in answers} <= {200, 202}, [a for a in answers if a.status not in (200, 202)][:2]
    s.wait(d, 'attached')
    assert list(s.state()) == [d.name[:32]]
    assert caselib.read(s.log).count('operation="create"') == 1


def test_busy(s):
    d = device(s)
    s.created(d)
    s.control(delay={'stop': 6000})
    expect(s.lock(d), 202)
    expect(s.lock(d), 202)
    expect(s.proved(d, 'DELETE', d.url), 409, 'conflict', 'busy: another operation is running (lock)')
    expect(s.proved(d, 'POST', d.url + '/mount', {'session': 'AAAA', 'serverKey': 'k'}), 409, 'conflict',
           'busy: another operation is running (lock)')
    s.wait(d, 'detached')


def test_two_devices_race_for_an_id(s):
    """Names whose first 32 digits are alike can't be made; the state of another device's cloud stands for one."""
    d, other = device(s), device(s)
    s.created(other)
    s.stop()
    state = s.state()
    facts = state.pop(other.name[:32])
    caselib.write(s.file('state.json'), {d.name[:32]: facts})
    s.start()
    found = expect(s.find(d), 404)
    expect(s.proved(d, 'POST', d.url + '/deploy', s.deploy_body(d, found)), 409, 'conflict',
           "another device's cloud has the id that follows from this name")
    assert s.state() == {d.name[:32]: facts}


# ---- restarts ----

def test_a_restart_forgets_nothing(s):
    d, locked = device(s), device(s)
    s.created(d)
    s.created(locked)
    s.locked(locked)
    s.kill()
    s.start()
    assert s.find(d)['status'] == 'attached' and s.find(locked)['status'] == 'detached'


def test_what_a_kill_left_is_taken_up(s):
    d = device(s)
    s.created(d)
    for left, status in (({'vm': False}, 'detached'), ({'open': False}, 'detached')):
        s.kill()
        state = s.state()
        state[d.name[:32]] |= {'open': True, 'vm': True} | left
        caselib.write(s.file('state.json'), state)
        s.start()
        s.wait(d, status)
        facts = s.state()[d.name[:32]]
        assert not facts['open'] and not facts['vm'], facts
    expect(s.mount(d), 202)
    s.wait(d, 'attached')
    s.control(vm={'*': 'starting'})
    s.kill()
    s.start()
    pending = s.wait(d, 'pending')
    assert pending['operation'] == 'mount' and pending['step'] == 'ready'
    s.control()
    s.wait(d, 'attached')


def test_sigterm_waits_for_operations(s):
    d = device(s)
    s.control(delay={'attach': 1000})
    s.deploy(d)
    s.stop()
    assert s.state()[d.name[:32]]['vm'], s.state()


if __name__ == '__main__':
    sys.exit(main(tests_of(globals())))
