#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cofferctl doctor as a real process on a machine that is broken one thing at a time: real coffer-keyd, a pretending
coffer-node (csi-fake), pools in real folders. TAP on stdout; no root. Whether this machine has dm-crypt is not this test's
matter: only the rows that a test names are looked at."""
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys

import caselib
import ctllib
from caselib import Skip, program
from ctllib import CTL

HELPER = program('coffer-crypt')


class Machine:
    """A box with a key service of its own, and doctor's flags for it."""

    def __init__(self, box):
        self.box, self.key, self.keyd = box, os.path.join(box.root, 'master.key'), os.path.join(box.root, 'keyd.sock')
        caselib.write_key(self.key)
        self.config = caselib.configuration(box.pool, self.key)
        box.write(self.config)
        self.flags = {'crypt-helper': HELPER, 'keyd-socket': self.keyd, 'node-socket': box.admin, 'admin-socket': box.admin,
                      'device-dir': '/dev/coffer', 'controller-socket': box.root + '/none.sock'}

    def doctor(self, *more, code=None, **flags):
        argv = [CTL, 'doctor', '--config', self.box.config, '--output', 'json', *more]
        for name, value in {**self.flags, **{k.replace('_', '-'): v for k, v in flags.items()}}.items():
            argv += ['--' + name, value]
        p = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=400)
        rows = json.loads(p.stdout) if '--help' not in more else []
        failed = any(r['state'] == 'FAIL' for r in rows)
        assert p.returncode == (1 if failed else 0) and (code is None or p.returncode == code), (p.returncode, p.stdout, p.stderr)
        return rows

    @contextlib.contextmanager
    def key_daemon(self, config=None):
        flags = caselib.keyd_flags(config or self.box.config, self.keyd, 'UNWRAP')
        p = caselib.spawn([program('coffer-keyd'), *flags], ready=self.keyd)
        try:
            yield p
        finally:
            caselib.end(p)


def of(rows, check):
    return [r for r in rows if r['check'] == check]


def expect(rows, check, state, word, fix=''):
    hits = [r for r in of(rows, check) if r['state'] == state and word in r['found'] and fix in r['fix']]
    assert hits, (check, state, word, fix, of(rows, check))


def healthy(b):
    m = Machine(b)
    b.init()
    with m.key_daemon(), b.node():
        rows = m.doctor()
    expect(rows, 'config', 'OK', '1 pools, 1 key services')
    assert any(f"'fast' at {b.pool}" in r['found'] and r['state'] != 'FAIL' for r in of(rows, 'pool')), of(rows, 'pool')
    expect(rows, 'coffer-keyd', 'OK', f'it answers on {m.keyd}')
    expect(rows, 'coffer-keyd', 'WARN', "key service 'dev' (file) is for development only", 'Vault')
    for check in ('coffer-node', 'admin socket'):
        expect(rows, check, 'OK', f'fake.csi.coffer.dev answers on {b.admin}')
    if os.stat(HELPER).st_uid == 0:
        expect(rows, 'coffer-crypt', 'OK', HELPER)
    expect(rows, 'keyring', 'OK', '')
    expect(rows, 'controller', 'WARN', 'there is none on this machine', 'Kubernetes')
    assert len({r['check'] for r in rows}) >= 15, rows
    with b.node():
        expect(m.doctor(controller_socket=b.admin), 'controller', 'OK', 'answers')


def every_fail_has_a_sentence(b):
    m = Machine(b)
    os.unlink(b.config)
    rows = m.doctor(code=1, crypt_helper='/nowhere/coffer-crypt')
    expect(rows, 'config', 'FAIL', f"open configuration '{b.config}': No such file or directory", 'write it')
    expect(rows, 'coffer-crypt', 'FAIL', '/nowhere/coffer-crypt: No such file or directory', 'install it')
    expect(rows, 'coffer-keyd', 'FAIL', f"connect to coffer-keyd at '{m.keyd}'", 'systemctl status coffer-keyd')
    expect(rows, 'coffer-node', 'FAIL', f'{b.admin}: No such file', 'systemctl status coffer-node')
    assert all(r['found'] and set(r) == {'check', 'state', 'found', 'fix'} for r in rows)
    assert of(rows, 'clock') and of(rows, 'swap') and of(rows, 'tools'), rows


def pools(b):
    m = Machine(b)
    expect(m.doctor(), 'pool', 'FAIL', ctllib.NO_POOL, 'mount its file system')
    b.init()
    second = {**m.config, 'pools': {**m.config['pools'], 'slow': {**m.config['pools']['fast'], 'path': b.root + '/slow'}}}
    b.write(second)
    rows = m.doctor()
    expect(rows, 'pool', 'FAIL', "pool 'slow' is not there")
    assert [r for r in of(rows, 'pool') if f"'fast' at {b.pool}" in r['found']], 'the other pool is hidden'
    before = sorted(os.listdir(b.pool))
    m.doctor()
    assert sorted(os.listdir(b.pool)) == before, 'doctor left something in the pool'


def bad_config(b):
    m = Machine(b)
    b.write({**m.config, 'colour': 1})
    expect(m.doctor(), 'config', 'FAIL', 'colour', 'correct it')
    b.write(m.config)
    os.chmod(b.config, 0o666)
    expect(m.doctor(), 'config', 'WARN', 'others than its owner', 'chmod')


def helpers(b):
    m = Machine(b)
    fake = os.path.join(b.root, 'coffer-crypt')
    for text, state, word in (('#!/bin/sh\necho coffer-crypt 0.0.1', 'FAIL', "says 'coffer-crypt 0.0.1'"),
                              ('#!/bin/sh\nexit 3', 'FAIL', "says ''"),
                              ('#!/bin/sh\nprintf "\\377\\n"', 'FAIL', "can't be shown")):
        caselib.write(fake, text + '\n', 0o755)
        expect(m.doctor(crypt_helper=fake), 'coffer-crypt', state, word)
    os.chmod(fake, 0o777)
    expect(m.doctor(crypt_helper=fake), 'coffer-crypt', 'FAIL', 'can be changed by others', 'chmod')
    os.chmod(fake, 0o644)
    expect(m.doctor(crypt_helper=fake), 'coffer-crypt', 'FAIL', 'is no program')
    expect(m.doctor(crypt_helper='coffer-crypt'), 'coffer-crypt', 'FAIL', 'not absolute')


def key_services(b):
    m = Machine(b)
    old = os.path.join(b.root, 'old.json')
    caselib.write(old, m.config)
    b.write({**m.config, 'kms': {'new': m.config['kms']['dev']},
             'pools': {'fast': {**m.config['pools']['fast'], 'kms': ['new']}}})
    with m.key_daemon(old):
        rows = m.doctor()
    expect(rows, 'coffer-keyd', 'FAIL', "doesn't serve key service 'new'", 'restart')
    expect(rows, 'coffer-keyd', 'WARN', "it serves 'dev'", 'restart')


def sockets_that_do_not_answer(b):
    """Each is bounded: a socket that takes the connection and says nothing, one that isn't a socket."""
    m = Machine(b)
    silent = os.path.join(b.root, 'silent.sock')
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as k:
        s.bind(silent)
        s.listen(8)
        k.bind(m.keyd)
        k.listen(8)
        rows = m.doctor(node_socket=silent, admin_socket=b.config)
    expect(rows, 'coffer-node', 'FAIL', silent)
    expect(rows, 'admin socket', 'FAIL', b.config)
    expect(rows, 'coffer-keyd', 'FAIL', 'did not answer in time')


def device_dir(b):
    m = Machine(b)
    expect(m.doctor(device_dir='relative'), 'device-dir', 'FAIL', 'not absolute')
    expect(m.doctor(device_dir='/proc/coffer'), 'device-dir', 'FAIL', '/proc/coffer is')
    nodev = os.path.join(b.root, 'nodev')
    os.mkdir(nodev)
    enter = ['unshare', '--mount', *([] if os.geteuid() == 0 else ['--map-root-user']), 'sh', '-c',
             'mount -t tmpfs -o nodev none "$0" && exec "$@"', nodev]
    if subprocess.run([*enter, 'true'], capture_output=True, check=False).returncode != 0:
        raise Skip('no mount namespace can be made here')
    p = subprocess.run([*enter, CTL, 'doctor', '--config', b.config, '--output', 'json', '--device-dir', nodev + '/a/b', '--keyd-socket',
                        m.keyd], capture_output=True, text=True, check=False, timeout=400)
    expect(json.loads(p.stdout), 'device-dir', 'FAIL', 'mounted nodev', '--device-dir')


def a_hanging_pool_hides_nothing(b):
    """A FIFO for pool.json would block a naive reader; a helper that sleeps is ended at its limit."""
    m = Machine(b)
    b.init()
    os.unlink(os.path.join(b.pool, 'pool.json'))
    os.mkfifo(os.path.join(b.pool, 'pool.json'))
    fake = os.path.join(b.root, 'coffer-crypt')
    caselib.write(fake, '#!/bin/sh\nexec sleep 600\n', 0o755)
    rows = m.doctor(crypt_helper=fake)
    expect(rows, 'pool', 'FAIL', 'is not there')
    assert [r for r in of(rows, 'coffer-crypt') if r['state'] == 'FAIL'], of(rows, 'coffer-crypt')
    assert of(rows, 'core dumps')


def not_root(b):
    if os.geteuid() != 0:
        raise Skip('this test starts as root and gives it up')
    m = Machine(b)
    b.init()
    for path in (b.root, b.config):
        os.chmod(path, 0o755 if os.path.isdir(path) else 0o644)
    own = os.path.join(b.root, 'cofferctl')  # the checkout may lie where only root may look
    shutil.copy(CTL, own)
    os.chmod(own, 0o755)
    argv = [own, 'doctor', '--config', b.config, '--output', 'json', '--crypt-helper', '/bin/true', '--keyd-socket', m.keyd]
    p = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=400, user=64109, group=64109, extra_groups=[])
    rows = json.loads(p.stdout)
    expect(rows, 'user', 'WARN', 'user 64109', 'as root')
    expect(rows, 'pool', 'WARN', 'Permission denied', 'as root')
    expect(rows, 'config', 'OK', b.config)


def table(b):
    m = Machine(b)
    argv = [CTL, 'doctor', '--config', b.config, '--keyd-socket', m.keyd, '--node-socket', b.admin, '--admin-socket', b.admin]
    p = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=400)
    lines = p.stdout.splitlines()
    assert p.returncode == 1 and lines[0].split()[1] == 'user' and len(lines) < 60, p.stdout
    assert any(line.startswith(' ' * 21 + '-> ') for line in lines), p.stdout
    assert p.stderr.startswith('cofferctl: ') and 'failed, ' in p.stderr, p.stderr
    help_text = subprocess.run([CTL, 'doctor', '--help'], capture_output=True, text=True, check=True).stdout
    assert help_text.startswith('usage: cofferctl doctor [flags]') and '--controller-socket' in help_text, help_text
    p = subprocess.run([CTL, 'doctor', 'now'], capture_output=True, text=True, check=False)
    assert p.returncode == 2 and p.stderr == "cofferctl: there are too many arguments for 'cofferctl doctor'\n", p.stderr


def a_page_that_cannot_be_written(b):
    m = Machine(b)
    with open('/dev/full', 'wb') as full:
        p = subprocess.run([CTL, 'doctor', '--config', b.config, '--keyd-socket', m.keyd], stdout=full, stderr=subprocess.PIPE, text=True,
                           check=False, timeout=400)
    assert p.returncode == 1 and 'written' in p.stderr, p


TESTS = [healthy, every_fail_has_a_sentence, pools, bad_config, helpers, key_services, sockets_that_do_not_answer, device_dir,
         a_hanging_pool_hides_nothing, not_root, table, a_page_that_cannot_be_written]

sys.exit(ctllib.main(TESTS))
