#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-keyd's connections: who may ask, which bytes and descriptors end one, and many, slow and silent clients. TAP on
stdout, no root."""
import contextlib
import fcntl
import hashlib
import os
import select
import socket
import sys
import time

import keydlib
from keydlib import (BINDING, FRAME_MAX, MINT, STATUS, Keyd, frame, mint, new_key, open_key, pipe, pipe_is_empty, status, unwrap)


def peer_refused(root):
    with Keyd(root, peer='54321:54321') as k:
        for early in (False, True):
            with k.client() as c:
                if early:
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        c.send(mint())
                try:
                    reply = c.receive()
                except ConnectionResetError:  # keyd closed with our request unread; its reply is still there
                    reply = c.receive()
                assert reply.code == 'PERMISSION_DENIED' and reply.op == 0x8000, reply.code
                assert c.ended()
        k.wait_log('peer refused')
    with Keyd(root, peer=f'{os.geteuid()}:54321') as k, k.client() as c:
        assert c.receive().code == 'PERMISSION_DENIED', 'the gid must count'


def descriptors_counted(root):
    with Keyd(root) as k:
        with k.client() as c:
            key = new_key(c)
        cases = {'no descriptor': (unwrap(key), 0), 'two': (unwrap(key), 2), 'eight': (unwrap(key), 8),
                 'nine (control data cut)': (unwrap(key), 9), 'a hundred': (unwrap(key), 100), 'one for MINT': (mint(), 1),
                 'one for STATUS': (frame(STATUS, 1000), 1)}
        for name, (data, n) in cases.items():
            with k.client() as c, pipe() as (r, w):
                c.send(data, [w] * n)
                assert c.ended(), name
                assert pipe_is_empty(r), name
        assert status(k)['counters']['broken'] == len(cases)
        held = len(os.listdir(f'/proc/{k.p.pid}/fd')) if os.geteuid() == 0 else None
        assert held is None or held < 12, f'{held} descriptors are open'


def wrong_descriptors(root):
    with Keyd(root) as k, k.client() as c:
        key = new_key(c)
        fifo = os.path.join(root, 'fifo')
        os.mkfifo(fifo)
        not_pipe, not_write = 'the descriptor is not a pipe', 'the descriptor is not the write end of a pipe'
        with pipe() as (r, w), open(os.path.join(root, 'file'), 'wb') as f, open('/dev/null', 'wb') as null:
            named = os.open(fifo, os.O_RDWR)
            both = os.open(f'/proc/self/fd/{w}', os.O_RDWR)
            a, b = socket.socketpair()
            cases = [(f.fileno(), not_pipe), (null.fileno(), not_pipe), (named, not_pipe), (a.fileno(), not_pipe),
                     (r, not_write), (both, not_write)]
            for fd, want in cases:
                reply = c.ask(unwrap(key), [fd])
                assert (reply.code, reply.message) == ('INVALID_ARGUMENT', want), (fd, reply.message)
            assert pipe_is_empty(r)
            for fd in (named, both):
                os.close(fd)
            a.close()
            b.close()
            assert os.path.getsize(os.path.join(root, 'file')) == 0


def full_pipe_and_no_reader(root):
    with Keyd(root) as k, k.client() as c:
        key = new_key(c)
        r, w = os.pipe()
        os.set_blocking(w, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(w, bytes(4096))
        os.set_blocking(w, True)
        started = time.monotonic()
        reply = c.ask(unwrap(key), [w])
        assert (reply.code, reply.message) == ('FAILED_PRECONDITION', 'the pipe is full')
        assert time.monotonic() - started < 60
        assert fcntl.fcntl(w, fcntl.F_GETFL) & os.O_NONBLOCK, 'keyd would have blocked'
        os.close(r)
        reply = c.ask(unwrap(key), [w])
        assert (reply.code, reply.message) == ('CANCELLED', 'the pipe has no reader')
        os.close(w)
        assert open_key(c, key), 'keyd survived SIGPIPE'


def malformed_frames_end_the_connection(root):
    good = mint()
    cases = {
        'wrong magic': frame(MINT, 5000, *BINDING, magic=b'DFOC'),
        'unknown op': frame(9, 5000), 'reserved op': frame(4, 5000, *BINDING), 'op 0': frame(0), 'a reply': frame(0x8001, 'OK', ''),
        'trailing byte': frame(MINT, 5000, *BINDING, extra=b'\0'), 'trailing field': frame(MINT, 5000, *BINDING, 'x'),
        'length too long': frame(MINT, 5000, *BINDING, length=4096), 'length too short': frame(MINT, 5000, *BINDING, length=1),
        'one byte': b'C', 'header cut': good[:11], 'header only': good[:12], 'cut': good[:-1],
        'field missing': frame(MINT, 5000, *BINDING[:-1]), 'NUL in a text': frame(MINT, 5000, 'de\0v', *BINDING[1:]),
        'not UTF-8': frame(MINT, 5000, b'\xff', *BINDING[1:]), 'text too long': frame(MINT, 5000, 'k' * 64, *BINDING[1:]),
        'number too short': frame(STATUS, b'1234567'), 'oversize': frame(MINT, 5000, *BINDING, extra=bytes(FRAME_MAX)),
        'largest that is wrong': frame(MINT, extra=bytes(FRAME_MAX - 12)), 'empty frame': b'',
    }
    with Keyd(root) as k:
        for name, data in cases.items():
            with k.client() as c:
                c.send(data)
                assert c.ended(), name
        with k.client() as c:
            assert c.ask(good).code == 'OK'
        assert status(k)['counters']['broken'] == len(cases) - 1, 'the empty frame is an end, the others are broken'


def random_frames(root):
    state = b'fixed seed'
    with Keyd(root) as k:
        for i in range(300):
            state = hashlib.sha256(state).digest()
            data = bytearray(mint() if i % 2 else unwrap('file:v1:AAAA'))
            for j in range(1 + state[0] % 4):
                data[state[j + 1] % len(data)] = state[j + 8]
            with k.client() as c, pipe() as (_, w):
                c.send(bytes(data), [w] if state[20] % 2 else [])
        with k.client() as c:
            assert c.ask(mint()).code == 'OK'
        assert k.p.poll() is None


def other_version(root):
    with Keyd(root) as k, k.client() as c:
        reply = c.ask(frame(MINT, 5000, *BINDING, version=2))
        assert (reply.version, reply.op, reply.code) == (1, 0x8000, 'UNAVAILABLE')
        assert reply.message == 'this coffer-keyd speaks wire version 1, the caller version 2'
        assert c.ended()


def idle_connection(root):
    with Keyd(root, '--idle-timeout-ms', '300') as k, k.client() as c:
        started = time.monotonic()
        assert c.ended()
        assert 0.2 < time.monotonic() - started < 60
        assert status(k)['counters']['idle_closed'] == 1


def reader_that_does_not_read(root):
    with Keyd(root) as k, k.client() as c:
        c.s.settimeout(0.5)
        with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
            for _ in range(100000):
                c.send(mint())
        assert status(k)['wire'] == 1, 'others are served meanwhile'


def three_hundred_connections(root):
    with Keyd(root, '--idle-timeout-ms', '60000') as k:
        clients = [k.client() for _ in range(300)]
        try:
            for c in clients[:256]:
                c.send(mint())
            assert all(c.receive().code == 'OK' for c in clients[:256])
            for c in clients[256:]:
                c.send(mint())
            assert not select.select([c.s for c in clients[256:]], [], [], 0.3)[0], 'more than 256 were served at once'
            for c in clients[:100]:
                c.s.close()
            assert all(c.receive().code == 'OK' for c in clients[256:]), 'those who waited are served'
        finally:
            for c in clients:
                c.s.close()
        assert k.p.poll() is None and status(k)['counters']['accepted'] == 301


TESTS = [peer_refused, descriptors_counted, wrong_descriptors, full_pipe_and_no_reader,
         malformed_frames_end_the_connection, random_frames, other_version, idle_connection, reader_that_does_not_read,
         three_hundred_connections]

sys.exit(keydlib.main(TESTS))
