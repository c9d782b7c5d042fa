#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""crypt_helper: coffer-crypt as a program, without device-mapper: usage, descriptors, requests, environment."""
import fcntl
import json
import os
import subprocess
import sys

import caselib
from caselib import ROOT

sys.path.insert(0, os.path.join(ROOT, 'e2e', 'lib'))
from allocations import Allocations  # noqa: E402

BIN = caselib.program('coffer-crypt')
NAME = 'coffer-' + '0' * 32 + '-' + '0' * 8
RECORD = {
    'v': 1, 'gen': 3, 'id': 'fast.' + '0' * 8 + '.' + '0' * 32, 'name': 'pvc-1',
    'uuid': '0a1b2c3d-4e5f-4607-8899-aabbccddeeff', 'tenant': 'lab', 'size': 1 << 26, 'state': 'ready',
    'crypt': {'cipher': 'aes-xts-plain64', 'key_bits': 512, 'sector': 4096, 'data_offset': 4 << 20}, 'fs': 'ext4',
    'kms': 'dev', 'key': {'kind': 'file', 'ciphertext': 'x', 'key_version': 1}, 'keySource': 'vault', 'digest': '',
    'mac': '', 'sealed': False, 'recipients': [], 'source': None, 'created': '2026-11-22T01:02:03Z'}
OPEN = {'name': NAME, 'record': RECORD, 'device': '7:0', 'read_only': False, 'wait_ms': 100}
TESTS = []


def test(f):
    TESTS.append(f)
    return f


def call(*argv, request=b'', fds=None, env=None):
    """fds: {number: descriptor}, numbers 3 to 8."""
    fds = fds or {}
    high = {n: fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for n, fd in fds.items()}

    def child():
        for n in range(3, 9):
            if n in high:
                os.dup2(high[n], n)
            elif n not in high.values():
                try:
                    os.close(n)
                except OSError:
                    pass

    try:
        return subprocess.run([BIN, *argv], input=request, capture_output=True, timeout=60, check=False, env=env,
                              close_fds=False, preexec_fn=child)  # pylint: disable=subprocess-popen-preexec-fn
    finally:
        for fd in high.values():
            os.close(fd)


def refused(p, code, text):
    assert p.returncode == 1, p
    error = json.loads(p.stdout)['error']
    assert error['code'] == code and text in error['message'], (error, text)
    assert p.stderr == b'', p.stderr


def opening(request, device='/dev/null', **kw):
    """`open` with a key pipe that holds nothing (its writer is gone) and some file as device."""
    r, w = os.pipe()
    os.close(w)
    fd = os.open(device, os.O_RDONLY)
    try:
        return call('open', request=json.dumps(request).encode(), fds={3: r, 4: fd}, **kw)
    finally:
        os.close(r)
        os.close(fd)


@test
def usage():
    for argv in ((), ('nonsense',), ('list', 'more'), ('--help', 'x')):
        p = call(*argv)
        assert p.returncode == 2 and p.stdout == b'' and b'usage: coffer-crypt' in p.stderr, p
    p = call('--help')
    assert p.returncode == 0 and b'passphrase' in p.stdout and p.stderr == b'', p
    assert call('--version').stdout.startswith(b'coffer-crypt ')


@test
def out_of_memory_is_said_as_that():
    """Each allocation of our own and jansson's fails once, in what can be asked without device-mapper: that, or the usual answer."""
    with open(BIN, 'rb') as f:
        if b'COFFER_FAULT_DIR' not in f.read():
            raise caselib.Skip('this build has no fault points')
    with caselib.folder() as faults:
        allocations = Allocations(f'{faults}/coffer-crypt.alloc')
        env = {'COFFER_FAULT_DIR': faults}
        for ask in (lambda: call('list', request=b'{"wait_ms":0}', env=env), lambda: opening(OPEN, env=env)):
            allocations.set(0)
            usual, told = json.loads(ask().stdout), 0
            assert 'error' in usual, usual
            for number in range(1, allocations.seen() + 1):
                allocations.set(number)
                said = json.loads(ask().stdout)
                assert said == usual or said['error']['code'] == 'RESOURCE_EXHAUSTED', (number, said)
                told += said != usual
            assert told > 5, told


@test
def a_keyed_verb_wants_its_pipe():
    refused(call('open', request=json.dumps(OPEN).encode()), 'INVALID_ARGUMENT', 'descriptor 3 must be the pipe')
    with open('/dev/null', 'rb') as f:
        refused(call('open', fds={3: f.fileno()}), 'INVALID_ARGUMENT', 'descriptor 3 must be the pipe')


@test
def rekey_wants_two_pipes_and_a_backup():
    r, w = os.pipe()
    os.close(w)
    plain = {k: v for k, v in OPEN.items() if k != 'read_only'}
    request, listed = json.dumps(plain).encode(), json.dumps({**plain, 'recipients': []}).encode()
    with open('/dev/null', 'r+b') as f:
        null = f.fileno()
        for fds, text in (({}, 'descriptor 3 must be the pipe that brings the key'),
                          ({3: r}, 'descriptor 7 must be the pipe that brings the new key'),
                          ({3: r, 7: null}, 'descriptor 7 must be the pipe that brings the new key'),
                          ({3: r, 7: r}, 'descriptor 6 must be writable'),
                          ({3: r, 7: r, 6: null}, "descriptor 4 isn't a block device")):
            refused(call('rekey', request=listed, fds=fds), 'INVALID_ARGUMENT', text)
    refused(call('prune', request=request, fds={3: r}), 'INVALID_ARGUMENT', "descriptor 4 isn't a block device")
    os.close(r)


@test
def rescue_wants_a_private_key_and_an_output():
    request = json.dumps({k: v for k, v in OPEN.items() if k != 'read_only'}).encode()
    with open('/dev/null', 'r+b') as f, open('/etc/passwd', 'rb') as file:
        null, key = f.fileno(), file.fileno()
        for fds, text in (({}, 'descriptor 8 must be a file or a pipe that holds the private key'),
                          ({8: null}, 'descriptor 8 must be a file or a pipe that holds the private key'),
                          ({8: key}, 'descriptor 6 must be writable'),
                          ({8: key, 6: key}, 'descriptor 6 must be writable'),
                          ({8: key, 6: null}, "descriptor 4 isn't a block device")):
            refused(call('rescue', request=request, fds=fds), 'INVALID_ARGUMENT', text)


@test
def a_missing_descriptor_is_never_another_file():
    r, w = os.pipe()
    os.close(w)
    refused(call('open', request=json.dumps(OPEN).encode(), fds={3: r}), 'INVALID_ARGUMENT',
            "descriptor 4 isn't a block device")
    refused(call('passphrase', request=json.dumps(OPEN).encode(), fds={3: r}), 'INVALID_ARGUMENT',
            'descriptor 6 must be writable')
    os.close(r)


@test
def the_device_must_be_a_block_device():
    for path in ('/dev/null', '/etc/passwd', '/'):
        refused(opening(OPEN, path), 'INVALID_ARGUMENT', "isn't a block device")


@test
def bad_requests_are_named():
    refused(call('list', request=b''), 'INVALID_ARGUMENT', 'request is not valid JSON')
    refused(call('list', request=b'\xff\xfe'), 'INVALID_ARGUMENT', 'request is not valid JSON')
    refused(call('list', request=b'[' * 100), 'INVALID_ARGUMENT', 'nested')
    refused(call('list', request=b'{}'), 'INVALID_ARGUMENT', "'wait_ms' is missing")
    refused(call('list', request=b'{"wait_ms":1,"wait_ms":1}'), 'INVALID_ARGUMENT', 'twice')
    refused(call('list', request=b'{"wait_ms":99999999}'), 'INVALID_ARGUMENT', 'wait_ms')
    refused(call('list', request=b'{"wait_ms":1,"name":"x"}'), 'INVALID_ARGUMENT', "unknown field 'name'")
    refused(call('list', request=b' ' * 70000), 'DATA_LOSS', 'request')
    for field, value, text in (('name', 'x' * 99, 'name'), ('name', None, 'name'), ('device', '7', 'device'),
                               ('device', 7, 'device'), ('device', '7:0:0', 'device'), ('read_only', 1, 'read_only'),
                               ('record', 7, 'record'), ('record', dict(RECORD, v=2), 'version'),
                               ('record', dict(RECORD, uuid='x'), 'uuid'), ('stored_state', 'new', 'stored_state'),
                               ('name', 'coffer-' + '1' * 32 + '-' + '0' * 8, "isn't the mapping's name"),
                               ('key', 'x', 'unknown field')):
        refused(opening(dict(OPEN, **{field: value})), 'INVALID_ARGUMENT', text)


@test
def the_environment_steers_nothing():
    with caselib.folder() as d:
        conf = os.path.join(d, 'openssl.cnf')
        with open(conf, 'w', encoding='ascii') as f:
            f.write('openssl_conf = nothing\n')
        env = {'OPENSSL_CONF': conf, 'LIBBLKID_DEBUG': 'all', 'DM_DISABLE_UDEV': '0', 'BLKID_FILE': conf,
               'DM_ABORT_ON_INTERNAL_ERRORS': '1'}
        refused(opening(OPEN, env=env), 'INVALID_ARGUMENT', "isn't a block device")


@test
def without_device_mapper_nothing_is_empty():
    p = call('list', request=b'{"wait_ms":1}')
    if os.path.exists('/sys/class/misc/device-mapper') and os.geteuid() == 0:
        assert p.returncode == 0 and 'mappings' in json.loads(p.stdout), p
    else:
        refused(p, 'UNAVAILABLE', "device-mapper can't be used")


sys.exit(caselib.main(TESTS))
