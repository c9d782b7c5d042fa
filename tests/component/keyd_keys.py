#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-keyd's answers: keys minted and opened again, and for whom not; a key only ever comes out of the pipe, also when
the daemon is killed beside it. TAP on stdout, no root."""
import base64
import os
import signal
import sys

import keydlib
from caselib import Skip, built_with, write
from keydlib import (BINDING, STATUS, UUID, VOLUME, Client, Keyd, frame, mint, new_key, open_key, pipe, pipe_is_empty, read_frame,
                     status, unwrap)


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


TESTS = [mint_and_unwrap, wrong_binding, refused_values, not_allowed_op, killed_in_the_middle, key_only_in_the_pipe]

sys.exit(keydlib.main(TESTS))
