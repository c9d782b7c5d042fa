#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-scheduler, the real program with the stub driver: every route, what each party is told, what a proof is good for, and
what is left after each failure. TAP on stdout, no root."""
import concurrent.futures
import contextlib
import json
import os
import re
import socket
import sys
import time

import caselib
from schedulerlib import Device, Scheduler, TlsScheduler, any_device, device, expect, fetch, main, running, server_seal, tests_of

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


# ---- proofs ----

def test_a_proof_is_asked_for(s):
    d = any_device()
    for method, path, body in (('POST', '/deploy', {}), ('POST', '/mount', {}), ('POST', '/unlock', {}), ('POST', '/lock', {}),
                               ('DELETE', '', None), ('POST', '/recipients', {}), ('POST', '/recipients/list', {}),
                               ('POST', '/recipients/remove', {})):
        answer = s.ask(method, d.url + path, body)
        expect(answer, 401, 'unauthenticated', 'the header Coffer-Proof is missing')
        assert answer.headers['WWW-Authenticate'] == 'Coffer-Proof'


def test_a_proof_is_good_once(s):
    d = any_device()
    challenge = s.challenge(d)
    expect(s.proved(d, 'POST', d.url + '/lock', {}, challenge), 404, 'not_found', 'this device has no cloud')
    expect(s.proved(d, 'POST', d.url + '/lock', {}, challenge), 401, 'unauthenticated', 'the challenge was used already')
    challenge = s.challenge(d)  # used up by a request that is refused later
    expect(s.proved(d, 'POST', d.url + '/lock', {'x': 1}, challenge), 400, 'invalid', "the request: unknown field 'x'")
    expect(s.proved(d, 'POST', d.url + '/lock', {}, challenge), 401, 'unauthenticated', 'the challenge was used already')


def test_a_proof_is_of_one_request(s):
    d, wrong = any_device(), "the proof isn't of this request by the device's key"
    for method, path, data in (('POST', d.url + '/mount', b'{}'), ('DELETE', d.url, b''), ('POST', d.url + '/lock', b'{ }'),
                               ('POST', d.url + '/lock', b'')):
        challenge = s.challenge(d)
        proof = s.prove(d, method, path, data, challenge)
        expect(s.ask('POST', d.url + '/lock', b'{}', {'Coffer-Proof': proof}), 401, 'unauthenticated', wrong)
        # a wrong one doesn't use the challenge up: nobody can spoil another's
        expect(s.proved(d, 'POST', d.url + '/lock', {}, challenge), 404)


def test_a_proof_of_another_device_is_forbidden(s):
    d, other = any_device(), device(s)
    path = d.url + '/lock'
    proof = s.prove(other, 'POST', path, b'{}')
    expect(s.ask('POST', path, b'{}', {'Coffer-Proof': proof}), 403, 'forbidden', "the proof is of another device than the path's")
    expect(s.ask('POST', path, b'{}', {'Coffer-Proof': proof}), 401, 'unauthenticated', 'the challenge was used already')


def test_a_malformed_proof(s):
    d = any_device()
    token, secret = s.challenge(d)
    good = s.prove(d, 'POST', d.url + '/lock', b'{}', (token, secret))
    shape = 'the header Coffer-Proof must be a challenge, a space and 64 lower-case hex digits'
    for bad in ('', 'x', token, good + '0', good.replace(' ', '  '), good[:-64] + good[-64:].upper() + '', '!' + good[1:]):
        if bad != good:
            expect(s.ask('POST', d.url + '/lock', b'{}', {'Coffer-Proof': bad}), 401, 'unauthenticated', shape)
    strange = 'B' if good[20] != 'B' else 'C'
    expect(s.ask('POST', d.url + '/lock', b'{}', {'Coffer-Proof': good[:20] + strange + good[21:]}), 401, 'unauthenticated',
           "the challenge isn't one of this scheduler's, or it was started again")


def test_a_restart_ends_challenges(s):
    d = any_device()
    challenge = s.challenge(d)
    s.stop()
    s.start()
    expect(s.proved(d, 'POST', d.url + '/lock', {}, challenge), 401, 'unauthenticated',
           "the challenge isn't one of this scheduler's, or it was started again")


def test_both_algorithms(s):
    d = Device(s.folder, bits=3072, algorithm='RSA-OAEP-512')
    s.created(d)
    found = s.locked(d)
    assert found['algorithm'] == 'RSA-OAEP-512' and d.unseal(found['wrappedKey']) == d.key


# ---- what is refused ----

def test_paths_and_methods(s):
    d = any_device()
    for path in ('/', '/v1', '/v1/clouds', '/v1/clouds/', d.url + '/', d.url + '/x', '/v1/challenges/', '/admin/clouds', d.url + '/lock/x',
                 '/v1//clouds/' + d.name,                 '/v1/clouds/' + 'a' * 600):
        if len(path) < 512:
            expect(s.ask('GET', path), 404, 'not_found', 'there is no such path')
        else:
            assert s.ask('GET', path).status in (400, 404, 414)
    answer = expect(s.ask('PUT', d.url, {}), 405, 'method_not_allowed', 'this path takes GET, DELETE alone')
    assert answer.headers['Allow'] == 'GET, DELETE'
    expect(s.ask('GET', d.url + '/lock'), 405, 'method_not_allowed', 'this path takes POST alone')
    expect(s.ask('POST', '/v1/openapi.json', {}), 405)
    name = "the device's name in the path must be 64 lower-case hex digits"
    for bad in ('x', d.name[:-1], d.name + '0', d.name.upper(), d.name[:-2] + '%61', '..'):
        expect(s.ask('GET', '/v1/clouds/' + bad), 400, 'invalid', name)
    for query in ('status=numbers', 'x=1', 'status=number&x=1', ''):
        expect(s.ask('GET', f'{d.url}?{query}'), 400, 'invalid', 'the query must be status=number or status=string')
    expect(s.ask('POST', d.url + '/lock?status=number', {}), 400, 'invalid', 'this path takes no query')


def test_bodies_and_types(s):
    d = any_device()
    expect(s.ask('POST', '/v1/challenges', b'{}', {'Content-Type': 'text/plain'}), 415, 'unsupported_media_type',
           'the header Content-Type must be application/json')
    for kind in ('application/json; charset=utf-8', 'Application/JSON'):
        expect(s.ask('POST', '/v1/challenges', b'{}', {'Content-Type': kind}), 400)
    expect(s.ask('POST', '/v1/challenges', b''), 400, 'invalid', 'the request has no body')
    expect(s.ask('POST', '/v1/challenges', b'{'), 400, 'invalid', 'the request is not valid JSON: it ends too early (line 1, column 1)')
    expect(s.ask('POST', '/v1/challenges', b'[]'), 400, 'invalid', 'the request: it must be an object')
    expect(s.ask('GET', d.url, b'{}'), 400, 'invalid', 'this request takes no body')
    long = "the request's body is longer than 16384 bytes"
    expect(s.ask('POST', '/v1/challenges', b' ' * 16385), 413, 'too_large', long)
    expect(s.ask('POST', '/v1/challenges', b'{}' + b' ' * 16382), 400, 'invalid', "the request: field 'publicKey' is missing")
    with contextlib.closing(s.connection()) as c:  # chunked: it doesn't say so before
        c.request('POST', '/v1/challenges', iter([b' ' * 9000] * 3), {'Content-Type': 'application/json'}, encode_chunked=True)
        response = c.getresponse()
        assert response.status == 413, response.status
        assert json.loads(response.read())['error']['message'] == long


def wrong_fields(d, other):
    small = 'AAAA'
    yield 'publicKey', None, "the request: field 'publicKey' is missing"
    yield 'publicKey', 1, "the request: field 'publicKey' must be a text"
    yield 'publicKey', small, None
    yield 'publicKey', '*', "the request: field 'publicKey' must be base64 of a SubjectPublicKeyInfo in DER"
    yield 'publicKey', other.public_key, "the request: field 'publicKey' isn't the key of the path's device"
    yield 'algorithm', 'RSA1_5', "the request: field 'algorithm' must be RSA-OAEP-256 or RSA-OAEP-512"
    yield 'algorithm', 'HPKE-Base-X25519-SHA256-A256GCM', "the request: field 'algorithm' must be RSA-OAEP-256 or RSA-OAEP-512"
    yield 'wrappedKey', small, "the request: field 'wrappedKey' must have the 256 bytes of the device's key"
    yield 'wrappedKey', 'x', "the request: field 'wrappedKey' must be base64 of 1 to 512 bytes"
    yield 'uuid', d.uuid.upper().replace('0', 'A'), "the request: field 'uuid' must be a lower-case UUID"
    yield 'commitment', 'ff', "the request: field 'commitment' must be 64 lower-case hex digits"
    yield 'label', 'a\nb', "the request: field 'label' must be one line of text"
    yield 'label', 'x' * 64, "the request: field 'label' is longer than 63 bytes"
    yield 'session', None, "the request: fields 'session' and 'serverKey' go together"
    yield 'serverKey', None, "the request: fields 'session' and 'serverKey' go together"
    yield 'session', '', "the request: field 'session' must be a text of 1 to 684 bytes"
    yield 'session', '?', "the request: field 'session' must be base64 of 1 to 512 bytes"
    yield 'spread', 'yes', "the request: field 'spread' must be true or false"
    yield 'more', 1, "the request: unknown field 'more'"


def test_each_field_of_deploy(s):
    d, other = any_device(), device(s)
    body = s.deploy_body(d)
    for key, value, message in wrong_fields(d, other):
        wrong = {k: v for k, v in (body | {key: value}).items() if v is not None}
        expect(s.proved(d, 'POST', d.url + '/deploy', wrong), 400, 'invalid', message)
    del body['session'], body['serverKey']
    expect(s.proved(d, 'POST', d.url + '/deploy', body), 400, 'invalid', "the request: field 'session' is missing")
    assert s.state() == {} and s.find(d)['status'] == 'nonexistent'


def test_fields_of_the_others(s):
    d = any_device()
    missing = "the request: field 'session' is missing"
    for verb in ('mount', 'unlock'):
        expect(s.proved(d, 'POST', f'{d.url}/{verb}', {}), 400, 'invalid', missing)
        expect(s.proved(d, 'POST', f'{d.url}/{verb}', {'session': 'AAAA', 'serverKey': 'k'}), 404, 'not_found', 'this device has no cloud')
    expect(s.proved(d, 'POST', d.url + '/recipients', {}), 400, 'invalid', "the request: field 'publicKey' is missing")
    remove = {'name': d.name, 'session': 'AAAA', 'serverKey': 'k', 'newSession': 'AAAA', 'newServerKey': 'k', 'newCommitment': 'f' * 64}
    for forms, message in ((None, "field 'newRecipients' is missing"),
                           ([{'fingerprint': 'f' * 64, 'wrapped': 'AAAA'}] * 65, "field 'newRecipients' must hold at most 64 devices"),
                           ([{'fingerprint': 'f' * 64}], "newRecipients: field 'wrapped' is missing"),
                           ([{'fingerprint': 'x', 'wrapped': 'AAAA'}],
                            "newRecipients: field 'fingerprint' must be 64 lower-case hex digits")):
        body = remove if forms is None else remove | {'newRecipients': forms}
        expect(s.proved(d, 'POST', d.url + '/recipients/remove', body), 400, 'invalid', 'the request: ' + message)
    expect(s.proved(d, 'DELETE', d.url), 404, 'not_found', 'this device has no cloud')


def test_deploy_of_something_else(s):
    d = device(s)
    body = s.deploy_body(d)
    expect(s.proved(d, 'POST', d.url + '/deploy', body | {'volumeId': 'n9.' + d.name[:32]}), 409, 'conflict',
           f"the volume's id would be 'n1.{d.name[:32]}'")
    assert s.find(d)['status'] == 'nonexistent'
    s.created(d)
    for change, message in (({'uuid': '00000000-0000-4000-8000-000000000000'}, 'this device has a cloud with another uuid'),
                            ({'wrappedKey': d.seal(os.urandom(32))}, 'this device has a cloud with another wrapped key'),
                            ({'commitment': 'f' * 64}, 'this device has a cloud with another commitment'),
                            ({'volumeId': 'n2.' + d.name[:32]}, f"the volume's id is 'n1.{d.name[:32]}'")):
        expect(s.proved(d, 'POST', d.url + '/deploy', body | change), 409, 'conflict', message)
    assert s.find(d)['status'] == 'attached'


def test_on_another_node(s):
    d = device(s)
    found = s.find(d).json | {'volumeId': f'n2.{d.name[:32]}'}
    expect(s.proved(d, 'POST', d.url + '/deploy', s.deploy_body(d, found)), 202)
    s.wait(d, 'attached')
    assert s.state()[d.name[:32]]['node'] == 'n2'


# ---- failures ----

def test_a_wrong_session_changes_nothing(s):
    d = device(s)
    s.created(d)
    found = s.locked(d)
    other = "mount: the session isn't of this volume, device and key"
    for bad, reason in ((d.session(found['serverKey'], found['volumeId'], key=os.urandom(32)), other),
                        (d.session(found['serverKey'], 'n2.other'), other),
                        ({'session': server_seal(found['serverKey'], b'nothing'), 'serverKey': 'stub:1'}, other),
                        (d.session(found['serverKey'], found['volumeId'], seconds=-5), 'mount: the session is over'),
                        (d.session(found['serverKey'], found['volumeId']) | {'serverKey': 'other:1'},
                         "mount: there is no server key 'other:1'")):
        expect(s.proved(d, 'POST', d.url + '/mount', bad), 202)
        failed = s.wait(d, 'failure')
        assert failed['reason'] == reason, failed
        assert failed['wrappedKey'] == d.wrapped() and failed['volumeId'] == found['volumeId'] and failed['uuid'] == d.uuid
        assert not s.state()[d.name[:32]]['open']
    expect(s.mount(d, found), 202)
    s.wait(d, 'attached')


def test_a_create_that_fails_leaves_nothing(s):
    for call, leaves_first in (('create_volume', False), ('attach', True), ('start', True), ('ready', True)):
        d = device(s)
        s.control(fail={call: {'code': 'INTERNAL', 'message': f'{call} is broken'}})
        s.deploy(d)
        failed = s.wait(d, 'failure')
        assert failed['reason'] == f'create: {call} is broken', failed
        assert failed['volumeId'] == f'n1.{d.name[:32]}' and failed['serverKey'], failed
        assert s.state() == {}, s.state()
        s.control()
        s.created(d)
        expect(s.proved(d, 'DELETE', d.url), 202)
        s.wait(d, 'nonexistent')


def test_a_vm_that_never_becomes_ready(s):
    d = device(s)
    s.control(vm={'*': 'starting'})
    s.deploy(d)
    assert s.wait(d, 'failure')['reason'] == "create: the VM wasn't ready within 5 s"
    assert s.state() == {}
    s.control()
    s.created(d)
    s.locked(d)
    s.control(vm={'*': 'starting'})
    expect(s.mount(d), 202)
    failed = s.wait(d, 'failure')
    assert failed['reason'] == "mount: the VM wasn't ready within 5 s" and failed['wrappedKey'] == d.wrapped()
    state = s.state()[d.name[:32]]
    assert not state['open'] and not state['vm'] and state['ever_opened']


def test_a_vm_that_ends_by_itself(s):
    d = device(s)
    s.created(d)
    s.control(vm={d.name[:32]: 'failed'})
    failed = s.wait(d, 'failure')
    assert failed['reason'] == 'the VM ended: signal 9' and 'wrappedKey' not in failed.json, failed
    s.control()
    s.wait(d, 'attached', patient=True)


def test_what_is_not_there_now_is_tried_again(s):
    d = device(s)
    s.control(fail={'attach': {'code': 'UNAVAILABLE', 'message': 'the node is away'}})
    s.deploy(d)
    caselib.wait_for(lambda: s.find(d).json.get('step') == 'attach', 'attach is tried')
    assert s.find(d)['operation'] == 'create'
    s.control()
    s.wait(d, 'attached')


def test_unreadable_is_not_absent(s):
    d = device(s)
    s.created(d)
    s.control(fail={'each': {'code': 'UNAVAILABLE', 'message': 'the node is away'}})
    s.stop()
    s.start(fresh=False)
    answer = s.find(d)
    caselib.wait_for(lambda: 'away' in s.find(d)['error']['message'], 'the round says why')
    answer = expect(s.find(d), 503, 'unavailable', "what clouds there are can't be told now: the node is away")
    assert answer.headers['Retry-After'] == '2'
    expect(s.lock(d), 503, 'unavailable')
    s.control()
    s.wait(d, 'attached')


def test_no_server_key(s):
    s.control(fail={'server_key': {'code': 'UNAVAILABLE', 'message': 'Vault is sealed'}})
    s.stop()
    s.start(fresh=False)
    caselib.wait_for(lambda: 'Vault' in s.find(any_device())['error']['message'], 'the round says why')
    expect(s.find(any_device()), 503, 'unavailable', "the server's key can't be told now: Vault is sealed")


def test_no_room():
    with running(nodes=[{'name': 'n1', 'memory': 1 << 30, 'storage': 1 << 40, 'vms_max': 1}]) as s:
        d, other = device(s), device(s)
        body = s.deploy_body(other)
        s.created(d)
        caselib.wait_for(lambda: s.find(other).status == 507, 'the round sees the VM')
        expect(s.find(other), 507, 'no_room', 'no node has room: 1 as many VMs as it may have')
        expect(s.proved(other, 'POST', other.url + '/deploy', body), 202)
        # nothing is reserved: the room went between find and deploy
        caselib.wait_for(lambda: any(c['id'] == other.name[:32] and c['status'] == 'failure'
                                     for c in s.admin_get('/admin/clouds')['clouds']), 'it fails')
        assert list(s.state()) == [d.name[:32]]


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
    s.control(delay={'stop': 1500})
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


# ---- slow ones, and many ----

def half_a_request(s):
    c = socket.socket(socket.AF_UNIX)
    c.settimeout(caselib.PATIENCE)
    c.connect(s.socket)
    c.sendall(b'POST /v1/challenges HTTP/1.1\r\nHost: x\r\n')
    return c


def is_over(c):
    """The other end closed it."""
    try:
        c.sendall(b'x')
        return c.recv(65536) == b''
    except TimeoutError:
        return False
    except OSError:
        return True


def test_slow_clients_hold_nobody_up():
    with running(flags=['--request-seconds', '3']) as s, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(contextlib.closing(half_a_request(s))) for _ in range(200)]
        for _ in range(100):
            expect(s.find(any_device()), 404)
        begun = time.monotonic()
        while time.monotonic() < begun + 2.5:  # each byte would be a sign of life
            for c in slow:
                with contextlib.suppress(OSError):  # cut off already
                    c.sendall(b'x')
            time.sleep(0.2)
        caselib.wait_for(lambda: len(os.listdir(f'/proc/{s.process.pid}/fd')) < 100, 'they are cut off', s.process)
        assert all(is_over(c) for c in slow)
        expect(s.find(any_device()), 404)


def test_more_clients_than_there_may_be():
    with running(flags=['--request-seconds', '600']) as s, contextlib.ExitStack() as stack:
        for i in range(1300):
            stack.enter_context(contextlib.closing(half_a_request(s)))
            if i % 100 == 0:
                expect(s.find(any_device()), 404)
        expect(s.find(any_device()), 404)
        assert len(os.listdir(f'/proc/{s.process.pid}/fd')) < 1100


def test_a_request_that_waits_too_long():
    with running(flags=['--request-seconds', '2']) as s:
        d, tablet = device(s), device(s)
        s.created(d)
        found = s.locked(d)
        s.control(delay={'add_device': 5000})
        add = {'publicKey': tablet.public_key, 'algorithm': tablet.algorithm, 'wrappedKey': tablet.seal(d.key),
               **d.session(found['serverKey'], found['volumeId'])}
        answer = s.proved(d, 'POST', d.url + '/recipients', add)
        expect(answer, 504, 'deadline', 'it takes longer than 2 s; it goes on, so ask again')
        assert answer.headers['Retry-After'] == '2'
        expect(s.lock(d), 409, 'conflict', 'busy: another operation is running (add)')
        assert s.find(d)['status'] == 'detached'  # nothing of the VM is on its way
        caselib.wait_for(lambda: s.find(tablet).status == 200, 'it went on')
        assert expect(s.proved(d, 'POST', d.url + '/recipients', add), 200)['devices'][1]['name'] == tablet.name


def test_somebody_who_hangs_up_while_waiting(s):
    d, tablet = device(s), device(s)
    s.created(d)
    found = s.locked(d)
    s.control(delay={'add_device': 500})
    body = json.dumps({'publicKey': tablet.public_key, 'algorithm': tablet.algorithm, 'wrappedKey': tablet.seal(d.key),
                       **d.session(found['serverKey'], found['volumeId'])}).encode()
    path = d.url + '/recipients'
    with contextlib.closing(s.connection()) as c:
        c.request('POST', path, body, {'Content-Type': 'application/json', 'Coffer-Proof': s.prove(d, 'POST', path, body)})
        caselib.wait_for(lambda: any(x['operation'] == 'add' for x in s.admin_get('/admin/clouds')['clouds']), 'it runs')
    caselib.wait_for(lambda: s.find(tablet).status == 200, 'it went on')
    s.stop()


# ---- listeners ----

def test_tls():
    with running(TlsScheduler) as s:
        d = any_device()
        with contextlib.closing(s.tls_connection()) as c:
            for _ in range(3):  # one connection, several requests
                assert s.ask('GET', d.url, connection=c)['status'] == 'nonexistent'
        over_plain = s.connection()
        assert s.ask('GET', d.url, connection=over_plain)['status'] == 'nonexistent'


def test_admin(s):
    d = device(s)
    s.created(d)
    clouds = expect(s.admin_get('/admin/clouds'), 200)['clouds']
    assert [(c['id'], c['status'], c['node'], c['vm'], c['devices']) for c in clouds] == [(d.name[:32], 'attached', 'n1', 'ready', 1)]
    assert 'wrapped' not in json.dumps(clouds) and 'publicKey' not in json.dumps(clouds)
    text = expect(s.admin_get(f'/admin/clouds/{d.name[:32]}/explain'), 200)
    assert text.raw.decode().startswith(f'cloud {d.name[:32]}: attached\n* n1: '), text
    assert [n['name'] for n in expect(s.admin_get('/admin/nodes'), 200)['nodes']] == ['n1', 'n2']
    expect(s.admin_get('/v1/clouds/' + d.name), 404, 'not_found')
    expect(s.admin_get('/admin/clouds/x/explain'), 400, 'invalid', "the cloud's id in the path must be 32 lower-case hex digits")
    for path, mode in ((s.admin, 0o600), (s.socket, 0o600)):
        assert os.stat(path).st_mode & 0o777 == mode, oct(os.stat(path).st_mode)


def test_monitor():
    with socket.create_server(('127.0.0.1', 0)) as probe:
        port = probe.getsockname()[1]
    with running(flags=['--http', f'127.0.0.1:{port}']) as s:
        d = device(s)
        s.created(d)
        assert fetch(port, '/healthz') == (200, 'ok\n')
        status, text = fetch(port, '/metrics')
        assert status == 200 and d.name[:32] not in text and 'n1' not in text
        for line in ('coffer_scheduler_clouds{status="attached"} 1', 'coffer_scheduler_operations_total{operation="create",result="ok"} 1',
                     'coffer_scheduler_nodes 2', 'coffer_scheduler_operations_running 0', 'coffer_scheduler_challenges_total 1'):
            assert line in text.splitlines(), (line, text)
        printed = {(name, kind): what for name, what, kind in
                   re.findall(r'^# HELP (coffer_scheduler_\S+) (.*)\n# TYPE \1 (\w+)$', text, re.M)}
        page = caselib.read(caselib.ROOT, 'docs', 'metrics.md')
        documented = {(name, kind): what for name, kind, what in
                      re.findall(r'^\| `(coffer_scheduler_[a-z_]+)` \| (\w+) \| scheduler \| (.+?) \|$', page, re.M)}
        assert printed == documented and len(printed) > 10, set(printed.items()) ^ set(documented.items())
        s.control(fail={'each': {'code': 'UNAVAILABLE', 'message': 'the node is away'}})
        caselib.wait_for(lambda: 'coffer_scheduler_rounds_total{result="error"} 0' not in fetch(port, '/metrics')[1], 'a round fails')
        assert fetch(port, '/healthz') == (200, 'ok\n')  # a restart would mend nothing


def test_command_line():
    with caselib.folder() as folder:
        good = Scheduler(folder)
        for flags, message in (
                ([], '--listen or --listen-unix is missing'),
                (['--listen', '127.0.0.1:1'], '--listen needs --tls-certificate and --tls-key: there is no TCP without TLS'),
                (['--listen-unix', 'x'], "--listen-unix 'x' must be an absolute path"),
                (['--listen-unix', '/x', '--tls-key', '/k'], '--tls-certificate and --tls-key are for --listen'),
                (['--listen-unix', '/x', '--request-seconds', '0'], '--request-seconds must be 1 to 3600'),
                (['--listen-unix', '/x', 'more'], "unexpected argument 'more'")):
            p = caselib.run([caselib.program('coffer-scheduler'), '--config', good.file('scheduler.json'), *flags], 2)
            assert p.stderr == f'coffer-scheduler: {message}\n', p.stderr
        for change, message in (({'driver': 'no'}, "there is no driver 'no'"),
                                ({'url': 'x'}, "field 'url' must be an http or https URL that ends in '/'"),
                                ({'tenant': 'A'}, "field 'tenant' must be 1 to 63 of a-z, 0-9 and '-'"),
                                ({'fs': 'ntfs'}, "there is no file system 'ntfs'"),
                                ({'size': 0}, "field 'size' must not be 0"),
                                ({'x': 1}, "unknown field 'x'"), ({'vm': {'y': 1}}, "vm: unknown field 'y'"),
                                ({'place': {'headroom_percent': 91}}, "place: field 'headroom_percent' must be at most 90")):
            path = caselib.write(good.file('wrong.json'), good.config | change) or good.file('wrong.json')
            p = caselib.run([caselib.program('coffer-scheduler'), '--config', path, '--listen-unix', '/x'], 2)
            assert p.stderr == f"coffer-scheduler: '{path}': the scheduler's configuration: {message}\n", p.stderr


def test_nothing_secret_is_logged():
    with running(flags=['--log-level', 'debug']) as s:
        d = device(s)
        body = s.deploy_body(d)
        challenge = s.challenge(d)
        expect(s.proved(d, 'POST', d.url + '/deploy', body, challenge), 202)
        s.wait(d, 'attached')
        s.locked(d)
        expect(s.mount(d), 202)
        s.wait(d, 'attached')
        s.stop()
        said = caselib.read(s.log)
        for text in (body['session'], body['wrappedKey'], body['commitment'], body['publicKey'], challenge[0], challenge[1].hex()):
            assert text[:40] not in said
        assert d.name in said


if __name__ == '__main__':
    sys.exit(main(tests_of(globals())))
