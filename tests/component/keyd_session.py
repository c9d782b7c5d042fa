#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-keyd and keys that a device lends by a session (UNWRAP_CLIENT, SERVER_KEY) before a played Vault, which "decrypts" what
isn't encrypted: what is asked of it, what its self-test wants, which answer gives which code. Real RSA in a real Vault is the
story client-keys'. TAP on stdout, no root."""
import base64
import contextlib
import functools
import hashlib
import hmac
import json
import os
import sys
import time

import caselib
import keydlib
from caselib import run
from keydlib import UUID, VOLUME, frame, pipe, pipe_is_empty, read_frame
from vaultlib import SERVER_KEY, expect, fresh

UNWRAP_CLIENT, SERVER_KEY_OP = 7, 8
KEY, FINGERPRINT = bytes(range(32)), hashlib.sha256(b'device').hexdigest()
COMMITMENT = hmac.new(KEY, b'coffer/v1 commit' + UUID.encode(), 'sha256').hexdigest()
NODE, SCHEDULER = 'UNWRAP,UNWRAP_CLIENT', 'SERVER_KEY'
NODE_MAY = {'datakey/wrapped': ['deny']}
SCHEDULER_MAY = {'datakey/wrapped': ['deny'], 'decrypt': ['deny'], f'keys/{SERVER_KEY}': ['read'], f'keys/{SERVER_KEY}/': ['deny']}


def sealed(expiry=None, volume=VOLUME, key=KEY):
    end = (int(time.time()) + 3600 if expiry is None else expiry).to_bytes(8, 'big')
    parts = (b'coffer/v1c', volume.encode(), UUID.encode(), FINGERPRINT.encode(), end)
    binding = hashlib.sha256(b''.join(len(p).to_bytes(4, 'big') + p for p in parts)).digest()
    return b'coffer/v1c' + key + binding + end


def lend(keyd, session, kms='vault', server_key=f'{SERVER_KEY}:1', use='stage'):
    """(reply, key or b'')"""
    with keyd.client() as c, pipe() as (r, w):
        reply = c.ask(frame(UNWRAP_CLIENT, 20000, kms, 'team-a', VOLUME, UUID, use, COMMITMENT, FINGERPRINT, server_key, session), [w])
        assert reply.code == 'OK' or pipe_is_empty(r), 'a key came with a refusal'
        return reply, read_frame(r) if reply.code == 'OK' else b''


def server_key(keyd, kms='vault'):
    with keyd.client() as c:
        return c.ask(frame(SERVER_KEY_OP, 20000, kms))


def play(vault, text):
    """Vault's answer of `decrypt` with the server key."""
    def answer(handler, _path, body):
        assert list(body) == ['ciphertext'], body
        plain = base64.b64decode(body['ciphertext'].split(':', 2)[2]) if text is None else text
        handler.answer(200, {'data': {'plaintext': base64.b64encode(plain).decode()}})
    vault.rules.append((f'transit/decrypt/{SERVER_KEY}', answer, None))


@contextlib.contextmanager
def node():
    with fresh(allow=NODE) as (vault, keyd):
        vault.may = NODE_MAY
        play(vault, None)
        yield vault, keyd


@contextlib.contextmanager
def scheduler():
    with fresh(allow=SCHEDULER) as (vault, keyd):
        vault.may = SCHEDULER_MAY
        yield vault, keyd


def a_session_opens(world):
    vault, keyd = world
    session = sealed()
    for use in ('stage', 'expand'):
        reply, key = lend(keyd, session, use=use)
        expect(reply, 'OK')
        assert key == KEY
    assert vault.count('transit/') == 2, vault.asked
    log = keyd.log()
    assert 'op="UNWRAP_CLIENT" use="expand"' in log and f'fingerprint="{FINGERPRINT}"' in log, log
    for secret in (KEY, session):
        assert not any(form in log for form in (secret.hex(), base64.b64encode(secret).decode())), log


def a_wrong_session(world):
    """One sentence, no key, one request each."""
    vault, keyd = world
    said = set()
    other = VOLUME[:-1] + '0'
    for wrong in (sealed(volume=other), sealed(key=bytes(32)), sealed()[:-1], sealed() + b'\0', b'', sealed(volume=other, expiry=1)):
        before = vault.count(f'transit/decrypt/{SERVER_KEY}')
        reply, _ = lend(keyd, wrong)
        expect(reply, 'INVALID_ARGUMENT', 'the session was not made for this volume')
        said.add(reply.message)
        assert vault.count(f'transit/decrypt/{SERVER_KEY}') == before + 1
    assert len(said) == 1, said


def an_expired_session(world):
    expect(lend(world[1], sealed(expiry=int(time.time()) - 1))[0], 'FAILED_PRECONDITION', 'the session is over')


def vault_refuses_the_ciphertext(world):
    """RSA's answer is a 500: it is final, and no reason to leave Vault alone."""
    vault, keyd = world
    for code, text in ((500, '1 error occurred:\n\t* failed to RSA decrypt the ciphertext: crypto/rsa: decryption error\n\n'),
                       (400, 'crypto/rsa: decryption error'), (400, 'invalid ciphertext: could not decode base64')):
        for _ in range(6):
            del vault.rules[:]
            vault.rules.append((f'transit/decrypt/{SERVER_KEY}', lambda h, *_, c=code, t=text: h.answer(c, errors=[t]), None))
            before = vault.count(f'transit/decrypt/{SERVER_KEY}')
            expect(lend(keyd, sealed())[0], 'INVALID_ARGUMENT', 'the session was not made for this volume')
            assert vault.count(f'transit/decrypt/{SERVER_KEY}') == before + 1, 'it was repeated'
    del vault.rules[:]
    play(vault, None)
    expect(lend(keyd, sealed())[0], 'OK')


def what_can_be_mended_is_named(world):
    vault, keyd = world
    too_old = 'ciphertext or signature version is disallowed by policy (too old)'
    for number, text, code, word in ((400, too_old, 'FAILED_PRECONDITION', 'older'),
                                     (400, 'encryption key not found', 'FAILED_PRECONDITION', "doesn't exist"),
                                     (503, 'Vault is sealed', 'UNAVAILABLE', 'sealed')):
        del vault.rules[:]
        vault.rules.append((f'transit/decrypt/{SERVER_KEY}', lambda h, *_, n=number, t=text: h.answer(n, errors=[t]), None))
        expect(lend(keyd, sealed())[0], code, word)


def another_server_key(world):
    vault, keyd = world
    for name in ('coffer-s-2:1', 'coffer-s-1', 'coffer-s-1:', 'coffer-s-1:0', 'coffer-s-1:x', 'coffer-s-11:1', 'coffer-t-team-a:1', ''):
        expect(lend(keyd, sealed(), server_key=name)[0], 'INVALID_ARGUMENT', "isn't a version of 'coffer-s-1'")
    assert vault.count('transit/decrypt/') == 0, vault.asked


def services_without_one(world):
    _, keyd = world
    for kms in ('no-pods', 'kv'):
        expect(lend(keyd, sealed(), kms=kms)[0], 'FAILED_PRECONDITION', f"'{kms}' has no server key")


def the_nodes_self_test(world):
    vault, keyd = world
    vault.may = {**NODE_MAY, f'decrypt/{SERVER_KEY}': ['deny']}
    expect(lend(keyd, sealed())[0], 'PERMISSION_DENIED', f"must allow this identity 'update' at transit/decrypt/{SERVER_KEY}")
    for path, capability in ((f'export/encryption-key/{SERVER_KEY}', 'read'), (f'backup/{SERVER_KEY}', 'read'),
                             (f'keys/{SERVER_KEY}/config', 'update'), (f'keys/{SERVER_KEY}/rotate', 'update')):
        vault.may = {**NODE_MAY, path: [capability]}
        expect(lend(keyd, sealed())[0], 'PERMISSION_DENIED', f"must not allow this identity '{capability}' at transit/{path}")
    vault.may = NODE_MAY
    expect(lend(keyd, sealed())[0], 'OK')


def answer_key(vault, *, number=200, **more):
    pem = run(['openssl', 'pkey', '-in', f'{os.path.dirname(vault.certificate)}/rsa.key', '-pubout']).stdout
    data = {'type': 'rsa-2048', 'latest_version': 2, 'exportable': False, 'allow_plaintext_backup': False,
            'keys': {'1': {'public_key': 'old'}, '2': {'public_key': pem}}, **more}
    del vault.rules[:]
    body = {'data': data} if number == 200 else {'errors': []}
    vault.rules.append((f'transit/keys/{SERVER_KEY}', lambda h, *_: h.answer(number, body), None))


def the_server_key(world):
    vault, keyd = world
    path = f'{os.path.dirname(vault.certificate)}/rsa.key'
    run(['openssl', 'genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', path])
    answer_key(vault)
    reply = server_key(keyd)
    expect(reply, 'OK')
    assert reply.rest[:2] == [f'{SERVER_KEY}:2'.encode(), b'SHA-256'], reply.rest
    der = base64.b64encode(reply.rest[2]).decode()
    pem = run(['openssl', 'pkey', '-in', path, '-pubout']).stdout
    assert der == ''.join(pem.split('\n')[1:-2]), (der, pem)
    precondition = 'FAILED_PRECONDITION'
    for more, code, word in (({'exportable': True}, precondition, 'taken out'), ({'type': 'aes256-gcm96'}, precondition, 'not an RSA key'),
                             ({'keys': {'2': {'public_key': 'no key'}}}, precondition, 'SubjectPublicKeyInfo'),
                             ({'keys': {}}, 'UNAVAILABLE', 'no public key'),
                             ({'number': 404}, precondition, "has no server key 'coffer-s-1'")):
        answer_key(vault, **more)
        expect(server_key(keyd), code, word)
    expect(server_key(keyd, 'kv'), 'FAILED_PRECONDITION', "'kv' has no server key")


def cofferctl_shows_it(world):
    """As a device's owner gets it: in JSON, to be decoded; one sentence when there is nothing to show."""
    vault, keyd = world
    path = f'{os.path.dirname(vault.certificate)}/rsa.key'
    run(['openssl', 'genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', path])
    answer_key(vault)
    argv = [caselib.program('cofferctl'), 'key', 'server', '--keyd-socket', keyd.path, '--config', f'{keyd.root}/config.json']
    said = json.loads(run([*argv, '--kms', 'vault', '--output', 'json']).stdout)
    pem = run(['openssl', 'pkey', '-in', path, '-pubout']).stdout
    assert said == {'kms': 'vault', 'key_id': f'{SERVER_KEY}:2', 'hash': 'SHA-256', 'public_key': ''.join(pem.split('\n')[1:-2])}, said
    assert f'{SERVER_KEY}:2' in run(argv).stdout, 'the only one that has a server key'
    assert "has no server key" in run([*argv, '--kms', 'kv'], 1).stderr
    assert "coffer-keyd has no key service 'x'" in run([*argv, '--kms', 'x'], 1).stderr


def the_schedulers_self_test(world):
    """It tells devices what to encrypt for, and opens nothing."""
    vault, keyd = world
    vault.may = {**SCHEDULER_MAY, f'decrypt/{SERVER_KEY}': ['update']}
    expect(server_key(keyd), 'PERMISSION_DENIED', f"must not allow this identity 'update' at transit/decrypt/{SERVER_KEY}")
    vault.may = {**SCHEDULER_MAY, f'keys/{SERVER_KEY}': ['deny']}
    expect(server_key(keyd), 'PERMISSION_DENIED', f"must allow this identity 'read' at transit/keys/{SERVER_KEY}")
    expect(lend(keyd, sealed())[0], 'PERMISSION_DENIED', 'does not answer UNWRAP_CLIENT')


def file_services_offer_neither():
    with keydlib.fresh_root() as root, keydlib.Keyd(root, allow='UNWRAP_CLIENT,SERVER_KEY') as keyd:
        expect(lend(keyd, sealed(), kms='dev')[0], 'FAILED_PRECONDITION', "'dev' has no server key")
        expect(server_key(keyd, 'dev'), 'FAILED_PRECONDITION', "'dev' has no server key")


def among(world, tests):
    """Each with a world of its own."""
    def one(test):
        @functools.wraps(test)
        def alone():
            with world() as value:
                test(value)
        return alone
    return [one(test) for test in tests]


if __name__ == '__main__':
    sys.exit(caselib.main([*among(node, [a_session_opens, a_wrong_session, an_expired_session, vault_refuses_the_ciphertext,
                                         what_can_be_mended_is_named, another_server_key, services_without_one, the_nodes_self_test]),
                           *among(scheduler, [the_server_key, cofferctl_shows_it, the_schedulers_self_test]), file_services_offer_neither]))
