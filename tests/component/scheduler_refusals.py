#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-scheduler refuses: what a proof is good for, each wrong path, body and field, with the exact sentence. Stub driver. TAP on
stdout, no root."""
import contextlib
import json
import os
import sys

from schedulerlib import Device, any_device, device, expect, main, tests_of


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


if __name__ == '__main__':
    sys.exit(main(tests_of(globals())))
