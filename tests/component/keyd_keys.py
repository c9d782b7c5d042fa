#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-keyd's answers: keys minted and opened again, and for whom not; a key only ever comes out of the pipe, also when
the daemon is killed beside it. TAP on stdout, no root."""
import base64
import os
import signal
import subprocess
import sys

import keydlib
from caselib import Skip, built_with, write
from keydlib import (BINDING, STATUS, UUID, VOLUME, Client, Keyd, frame, mint, new_key, open_key, pipe, pipe_is_empty, read_frame,
                     status, unwrap, wrap_for)


def mint_and_unwrap(root):
    with Keyd(root) as k, k.client() as c:
        key = new_key(c)
        assert key.startswith('file:v1:'), key
        first = open_key(c, key)
        assert first == open_key(c, key, use='expand'), 'another key the second time'
        with k.client() as other:
            assert first == open_key(other, key)
        assert first != open_key(c, new_key(c)), 'two volumes with one key'
        k.stop()
    with Keyd(root) as k, k.client() as c:
        assert first == open_key(c, key), 'another key after a restart'


def wrong_binding(root):
    with Keyd(root) as k, k.client() as c, pipe() as (r, w):
        key, want = new_key(c), 'the wrapped key was not made for this volume here, or it was changed'
        other = [('dev', 'team-b', VOLUME, UUID), ('dev', 'team-a', VOLUME[:-1] + '0', UUID), ('dev', 'team-a', VOLUME, UUID[:-1] + '9')]
        for binding in other:
            reply = c.ask(unwrap(key, binding), [w])
            assert (reply.code, reply.message) == ('FAILED_PRECONDITION', want), (binding, reply.message)
        flip = key[:-2] + ('A' if key[-2] != 'A' else 'B') + key[-1]
        for bad in (flip, 'file:v1:AAAA', 'vault:v1:AAAA', ''):
            reply = c.ask(unwrap(bad), [w])
            assert (reply.code, reply.message) == ('FAILED_PRECONDITION', want), (bad, reply.message)
        assert pipe_is_empty(r), 'something was written'


def refused_values(root):
    cases = [
        (mint(('none', *BINDING[1:])), 'FAILED_PRECONDITION', "coffer-keyd has no key service 'none'"),
        (mint(('dev', 'Team A', VOLUME, UUID)), 'INVALID_ARGUMENT', "'Team A' is not a tenant's name"),
        (mint(('dev', 'team-a', 'x', UUID)), 'INVALID_ARGUMENT', None),
        (mint(('dev', 'team-a', VOLUME, UUID.upper())), 'INVALID_ARGUMENT', None),
        (mint(deadline=0), 'DEADLINE_EXCEEDED', 'the request came after its deadline'),
    ]
    with Keyd(root) as k, k.client() as c, pipe() as (_, w):
        for data, code, message in cases:
            reply = c.ask(data)
            assert reply.code == code and message in (None, reply.message), (data, reply.code, reply.message)
        key = new_key(c)
        reply = c.ask(unwrap(key, use='copy'), [w])
        assert (reply.code, reply.message) == ('INVALID_ARGUMENT', "'copy' is not a use of a key")
        reply = c.ask(unwrap(key, kind='transit'), [w])
        assert reply.code == 'FAILED_PRECONDITION', reply.message
        reply = c.ask(unwrap(key, token=b'a.jwt'), [w])
        assert (reply.code, reply.message) == ('INVALID_ARGUMENT', 'a file key service takes no caller token')
        assert open_key(c, key), 'the connection goes on'


def not_allowed_op(root):
    with Keyd(root, allow='UNWRAP') as k, k.client() as c:
        reply = c.ask(mint())
        assert (reply.code, reply.message) == ('PERMISSION_DENIED', 'this coffer-keyd does not answer MINT')
        assert c.ask(frame(STATUS, 1000)).code == 'OK', 'the connection goes on'


def openssl(*args, data=None):
    return subprocess.run(['openssl', *args], input=data, capture_output=True, check=True).stdout


def key_pair(root, name, *args):
    private = os.path.join(root, name)
    openssl('genpkey', '-out', private, *args)
    return private, openssl('pkey', '-in', private, '-pubout', '-outform', 'DER')


def wrapped_for_a_public_key(root):
    """The stock tool opens it by the private half; who asks never sees the key."""
    private, public = key_pair(root, 'device', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048')
    _, other = key_pair(root, 'other', '-algorithm', 'X25519')
    with Keyd(root, allow='MINT,UNWRAP,WRAP_FOR') as k, k.client() as c:
        key = new_key(c)
        want = open_key(c, key)
        for algorithm, hash_name in (('RSA-OAEP-256', 'sha256'), ('RSA-OAEP-512', 'sha512')):
            reply = c.ask(wrap_for(key, algorithm, public))
            assert reply.code == 'OK', reply.message
            options = [f'-pkeyopt={o}' for o in ('rsa_padding_mode:oaep', f'rsa_oaep_md:{hash_name}', f'rsa_mgf1_md:{hash_name}')]
            options = [word for o in options for word in o.split('=', 1)]
            assert openssl('pkeyutl', '-decrypt', '-inkey', private, *options, data=reply.rest[0]) == want, algorithm
        sealed = c.ask(wrap_for(key, 'HPKE-Base-X25519-SHA256-A256GCM', other))
        assert sealed.code == 'OK' and len(sealed.rest[0]) == 80, sealed.message
        audited = [line for line in k.log().splitlines() if 'audit' in line and 'WRAP_FOR' in line]
        assert len(audited) == 3 and all('OK' in line for line in audited), audited


def no_recipient(root):
    _, public = key_pair(root, 'device', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048')
    _, small = key_pair(root, 'small', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:1024')
    pem = openssl('pkey', '-in', os.path.join(root, 'device'), '-pubout')
    cases = [
        ('RSA1_5', public, "'RSA1_5' is not an algorithm that wraps keys"),
        ('HPKE-Base-X25519-SHA256-A256GCM', public, "HPKE-Base-X25519-SHA256-A256GCM doesn't take this kind of key"),
        ('RSA-OAEP-256', public + b'x', 'a public key must be one SubjectPublicKeyInfo in PEM or DER'),
        ('RSA-OAEP-256', pem, "a recipient's public key must be canonical DER"),
        ('RSA-OAEP-256', small, 'an RSA key of 1024 bits, where 2048 to 4096 are taken'),
        ('RSA-OAEP-256', b'', 'a public key of 0 bytes, where 1 to 4096 are taken'),
    ]
    with Keyd(root, allow='MINT,WRAP_FOR') as k, k.client() as c:
        key = new_key(c)
        for algorithm, recipient, message in cases:
            reply = c.ask(wrap_for(key, algorithm, recipient))
            assert (reply.code, reply.message) == ('INVALID_ARGUMENT', message), (algorithm, reply.code, reply.message)
        other = ('dev', 'team-b', VOLUME, UUID)
        assert c.ask(wrap_for(key, 'RSA-OAEP-256', public, other)).code == 'FAILED_PRECONDITION', 'another tenant\'s key was wrapped'


def killed_in_the_middle(root):
    if not built_with('coffer-keyd', b'COFFER_FAULT_DIR'):
        raise Skip('this build has no fault points')
    arm = os.path.join(root, 'coffer-keyd.arm')

    def kill_at(point):
        write(arm, f'kill {point}\n')

    os.environ['COFFER_FAULT_DIR'] = root
    try:
        with Keyd(root) as k, k.client() as c:
            key = new_key(c)
            want = open_key(c, key)
        for point, written in (('keyd:unwrap:before-write', False), ('keyd:unwrap:after-write', True)):
            with Keyd(root) as k, k.client() as c, pipe() as (r, w):
                kill_at(point)
                c.send(unwrap(key), [w])
                assert c.ended() and k.p.wait(timeout=60) == -signal.SIGKILL, point
                assert (read_frame(r) == want) if written else pipe_is_empty(r), point
                os.unlink(arm)
        with Keyd(root) as k, k.client() as c:
            kill_at('keyd:mint:before-reply')
            c.send(mint())
            assert c.ended()
            os.unlink(arm)
        with Keyd(root) as k, k.client() as c:
            assert open_key(c, key) == want, 'another key after the kills'
    finally:
        del os.environ['COFFER_FAULT_DIR']


def key_only_in_the_pipe(root):
    """Nothing that ever came over a socket or went to a log, in this test or another, holds a key in any form."""
    keys = [open(os.path.join(root, 'master'), 'rb').read()]
    with Keyd(root, '--log-level', 'debug') as k, k.client() as c:
        for _ in range(5):
            keys.append(open_key(c, new_key(c)))
        status(k)
        k.p.send_signal(signal.SIGUSR1)
        k.wait_log('counters')
        log = k.log().encode()
        assert log.count(b'audit') == 10
        with open(f'/proc/{k.p.pid}/cmdline', 'rb') as f:
            log += f.read()
    for key in keys:
        for form in (key, key.hex().encode(), key.hex().upper().encode(), base64.b64encode(key)[:42], key[:16], key[16:]):
            assert form not in Client.seen and form not in log, 'a key came out'
    assert b'file:v1:' not in log, 'a wrapped key in the log'


TESTS = [mint_and_unwrap, wrong_binding, refused_values, not_allowed_op, wrapped_for_a_public_key, no_recipient,
         killed_in_the_middle, key_only_in_the_pipe]

sys.exit(keydlib.main(TESTS))
