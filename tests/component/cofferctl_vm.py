#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cofferctl vm as a user's device: the real program against the real coffer-scheduler by TLS, with its stub driver, which opens
sessions as coffer-keyd and Vault do. The whole flow, two devices, every refusal with its exact sentence. TAP; no root."""
import base64
import contextlib
import hashlib
import json
import os
import re
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading

import caselib
import schedulerlib
from caselib import program, run

CTL = program('cofferctl')
GIB = 1 << 30


class Phone:
    """One device: a key file, and cofferctl with it."""

    def __init__(self, world, name):
        self.world, self.key = world, os.path.join(world.folder, f'{name}.key')
        made = json.loads(run([CTL, 'vm', 'new-device', '--key', self.key, '--output', 'json']).stdout)
        self.name, self.fingerprint, self.public = made['name'], made['fingerprint'], made['publicKey']
        self.public_file = self.key + '.pub'
        caselib.write(self.public_file, self.public + '\n')

    def argv(self, verb, *args):
        s = self.world
        return [CTL, 'vm', verb, *args, '--key', self.key, '--url', f'https://localhost:{s.port}', '--ca', s.file('tls.crt')]

    def run(self, verb, *args, code=0):
        return run(self.argv(verb, *args), code, start_new_session=True)

    def json(self, verb, *args):
        return json.loads(self.run(verb, *args, '--output', 'json').stdout)

    def refused(self, want, verb, *args):
        said = self.run(verb, *args, code=1).stderr.splitlines()
        assert said[-1] == f'cofferctl: {want}', (said, want)


def sentence(args, want, code=2):
    p = run([CTL, 'vm', *args], code)
    assert p.stderr == f'cofferctl: {want}\n', (p.stderr, want)


# ---- without a server

def flags(s):
    key = ['--key', '/none']
    url = [*key, '--url', 'https://localhost:1']
    sentence(['find'], "--key is needed: the file with the device's private key")
    sentence(['find', *key], '--url is needed: https://HOST:PORT of coffer-scheduler')
    for bad in ('http://localhost:1', 'https://', 'https://h/path', 'https://u@h', 'localhost'):
        sentence(['find', *key, '--url', bad], f"--url must be https://HOST:PORT, not '{bad}'")
    sentence(['find', *url, '--timeout', '0'], '--timeout must be 1 to 86400')
    sentence(['mount', *url, '--session-seconds', '86401'], '--session-seconds must be 1 to 86400')
    sentence(['mount', *url, '--server-key', 'AB'], '--server-key must be 64 lower-case hex digits')
    sentence(['add-device', *url], 'FILE is missing: cofferctl vm add-device FILE')
    sentence(['find', *url], "open the key file '/none': No such file or directory", 1)
    sentence(['explain', 'x'], "a cloud's id is 32 lower-case hex digits, not 'x'", 1)
    path = s.file('bad.key')
    caselib.write(path, 'no key', 0o600)
    p = run([CTL, 'vm', 'find', *url, '--key', path], 1)
    assert p.stderr.startswith(f"cofferctl: '{path}': "), p.stderr


def key_file(s):
    phone = Phone(s, 'phone')
    assert stat.S_IMODE(os.stat(phone.key).st_mode) == 0o600
    text = run(['openssl', 'pkey', '-in', phone.key, '-noout', '-text']).stdout
    assert 'Private-Key: (3072 bit' in text, text[:200]
    der = subprocess.run(['openssl', 'pkey', '-in', phone.key, '-pubout', '-outform', 'DER'], check=True, stdout=subprocess.PIPE).stdout
    assert phone.public == base64.b64encode(der).decode() and phone.fingerprint == hashlib.sha256(der).hexdigest()
    modulus = run(['openssl', 'rsa', '-in', phone.key, '-noout', '-modulus']).stdout.strip().partition('=')[2]
    n = base64.urlsafe_b64encode(bytes.fromhex(modulus)).rstrip(b'=')
    assert phone.name == hashlib.sha256(n).hexdigest(), phone.name
    before = caselib.read(phone.key)
    p = run([CTL, 'vm', 'new-device', '--key', phone.key, '--output', 'json'])
    assert p.stderr == 'cofferctl: the key file was there already\n' and json.loads(p.stdout)['name'] == phone.name
    assert caselib.read(phone.key) == before
    os.chmod(phone.key, 0o644)
    phone.refused(f"the key file '{phone.key}' is open to others (mode 0644): chmod 600 it", 'find')


# ---- the whole flow

def flow(s):
    phone = Phone(s, 'phone')
    found = phone.json('find')
    assert found['status'] == 'nonexistent' and found['name'] == phone.name and found['id'] == phone.name[:32], found
    phone.refused('this device has no cloud', 'lock')
    phone.refused('this device has no cloud: make one with vm create, or have a device that has one add this one', 'unlock')
    made = phone.json('create', '--label', "Anna's phone")
    assert made['status'] == 'attached' and made['url'] == f'https://clouds.example/clouds/{phone.name[:32]}/', made
    for verb in ('create', 'mount', 'unlock', 'find'):
        assert phone.json(verb) == made, verb
    shown = phone.run('create').stdout.splitlines()
    assert shown[0].split() == ['url', made['url']] and shown[1].split() == ['status', 'attached'], shown
    for _ in range(2):
        locked = phone.json('lock')
        assert locked['status'] == 'detached' and re.fullmatch('[0-9a-f-]{36}', locked['uuid']), locked
    for verb in ('unlock', 'mount', 'create'):
        assert phone.json(verb)['url'] == made['url'], verb
        assert phone.json('lock')['uuid'] == locked['uuid']
    p = phone.run('delete', code=1)
    assert p.stderr == 'cofferctl: there is no terminal to confirm on: use --yes\n', p.stderr
    for _ in range(2):
        assert phone.json('delete', '--yes')['status'] == 'nonexistent'
    again = phone.json('create', '--spread')
    assert again['url'] == made['url']
    assert phone.json('lock')['uuid'] != locked['uuid']


def deletion_is_confirmed(s):
    phone = Phone(s, 'phone')
    phone.run('create')
    shown, code = caselib.on_terminal(phone.argv('delete'), 'no')
    assert code == 1 and 'not confirmed: nothing was deleted' in shown, shown
    shown, code = caselib.on_terminal(phone.argv('delete'), phone.name[:32])
    assert code == 0 and 'all data in it, for ever' in shown, shown
    assert phone.json('find')['status'] == 'nonexistent'


def killed_and_repeated(s):
    phone = Phone(s, 'phone')
    s.control(delay={'start': 1500})
    p = subprocess.Popen(phone.argv('create'), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    caselib.wait_for(lambda: s.ask('GET', f'/v1/clouds/{phone.name}')['status'] == 'pending', 'it is made')
    p.send_signal(signal.SIGKILL)
    p.communicate()
    p = phone.run('create', '--output', 'json')
    assert json.loads(p.stdout)['status'] == 'attached' and 'cofferctl: create, step ' in p.stderr, p
    assert len(s.state()['clouds'] if 'clouds' in s.state() else s.state()) == 1, s.state()


# ---- refusals and failures

def servers(s):
    phone = Phone(s, 'phone')
    argv = phone.argv('find')
    other = s.file('other.crt')
    run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=localhost',
         '-keyout', s.file('other.key'), '-out', other])
    p = run([*argv, '--ca', other], 1)
    assert p.stderr.startswith(f'cofferctl: https://localhost:{s.port}: SSL certificate problem'), p.stderr
    p = run([*argv, '--url', 'https://localhost:1'], 1)
    assert p.stderr.startswith('cofferctl: https://localhost:1: Failed to connect'), p.stderr
    pin = s.server_key.fingerprint
    wrong = 'f' * 64
    phone.refused(f"the server's public key isn't the one of --server-key: its fingerprint is {pin}", 'create', '--server-key', wrong)
    assert phone.json('find')['status'] == 'nonexistent'
    phone.json('create', '--server-key', pin)
    phone.json('lock')
    phone.refused(f"the server's public key isn't the one of --server-key: its fingerprint is {pin}", 'unlock', '--server-key', wrong)
    assert phone.json('unlock', '--server-key', pin)['status'] == 'attached'


def failures(s):
    phone = Phone(s, 'phone')
    s.control(fail={'start': {'code': 'PRECONDITION', 'message': 'the program ended: exit 1'}})
    p = phone.run('create', code=1)
    assert re.fullmatch('cofferctl: it failed: .*the program ended: exit 1', p.stderr.splitlines()[-1]), p.stderr
    s.control()
    assert phone.json('create')['status'] == 'attached'
    phone.json('lock')
    s.control(fail={'attach': {'code': 'INVALID', 'message': 'the session was not made for this volume by this device'}})
    p = phone.run('unlock', code=1)
    assert 'cofferctl: it failed: ' in p.stderr and 'the session was not made for this volume' in p.stderr, p.stderr
    s.control()
    assert phone.json('unlock')['status'] == 'attached'


def a_vm_that_ended(s):
    phone = Phone(s, 'phone')
    phone.run('create')
    s.control(vm={'*': 'failed'})
    caselib.wait_for(lambda: phone.json('find')['status'] == 'failure', 'the VM failed')
    p = phone.run('create', code=1)
    assert 'cofferctl: it failed: ' in p.stderr, p.stderr
    s.control()
    assert phone.json('unlock')['status'] == 'attached'


def a_scheduler_that_is_away(s):
    phone = Phone(s, 'phone')
    s.control(delay={'start': 1000})
    p = subprocess.Popen(phone.argv('create', '--output', 'json'), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    caselib.wait_for(lambda: s.ask('GET', f'/v1/clouds/{phone.name}')['status'] == 'pending', 'it is made')
    s.kill()
    s.control()
    s.start()
    out, err = p.communicate(timeout=caselib.PATIENCE)
    if p.returncode != 0:  # what was begun is forgotten, or taken back: the same command again
        assert 'cofferctl: it ' in err, err
        out = phone.run('create', '--output', 'json').stdout
    assert json.loads(out)['status'] == 'attached', (out, err)


def for_a_moment(client, port):
    """Until nothing is asked for a moment."""
    with socket.create_connection(('127.0.0.1', port)) as server:
        ends, replied = {client: server, server: client}, False
        while ready := select.select(list(ends), [], [], 0.05 if replied else caselib.PATIENCE)[0]:
            for end in ready:
                data = end.recv(65536)
                if not data:
                    return
                ends[end].sendall(data)
                # a handshake's records, and a request's, begin with their type; 23: what is encrypted
                replied = replied or end is server and data[0] == 23


def in_front(listener, port, resets):
    """Connections end when nothing is asked for a moment; those whose numbers are in `resets` by RST in the middle of the handshake."""
    number = 0
    with contextlib.suppress(OSError):  # the listener was closed
        while True:
            number += 1
            client = listener.accept()[0]
            with client:
                if number in resets:
                    client.recv(1)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                else:
                    for_a_moment(client, port)


def a_handshake_that_is_reset(s):
    """As when the scheduler is started again: it doesn't make it one that can't be trusted."""
    phone = Phone(s, 'phone')
    s.control(delay={'start': 1500})  # it asks more than once
    with socket.create_server(('127.0.0.1', 0)) as listener:
        threading.Thread(target=in_front, args=(listener, s.port, (2,)), daemon=True).start()
        argv = [*phone.argv('create', '--output', 'json'), '--url', f'https://localhost:{listener.getsockname()[1]}']
        p = run(argv, start_new_session=True)
    assert json.loads(p.stdout)['status'] == 'attached' and 'cofferctl: waiting: ' in p.stderr, p.stderr


# ---- devices

def devices(s):
    phone, tablet = Phone(s, 'phone'), Phone(s, 'tablet')
    made = phone.json('create', '--label', 'phone')
    listed = phone.json('add-device', tablet.public_file, '--label', 'tablet')  # while it is open
    assert [(d['name'], d['label']) for d in listed] == [(phone.name, 'phone'), (tablet.name, 'tablet')], listed
    p = phone.run('add-device', tablet.public_file, '--label', 'other', '--output', 'json')
    assert json.loads(p.stdout) == listed and p.stderr == 'cofferctl: it is on the list already\n', p
    assert tablet.json('list-devices') == listed
    assert tablet.json('find')['url'] == made['url']
    for _ in range(2):  # open, and closed: it is not the tablet's own, as far as the tablet knows
        tablet.refused(f'this device is on the list of cloud {phone.name[:32]}, which another device made: if that one is yours, '
                       'vm mount opens it', 'create')
        tablet.json('lock')
    assert tablet.json('unlock')['url'] == made['url']
    phone.refused("a device can't remove itself: it makes the new key, so another one must", 'remove-device', phone.name, '--yes')
    phone.refused(f"there is no device '{'0' * 64}' (see vm list-devices)", 'remove-device', '0' * 64, '--yes')
    before = tablet.json('lock')
    assert [d['name'] for d in tablet.json('remove-device', phone.name, '--yes')] == [tablet.name]
    after = tablet.json('find')
    assert after['wrappedKey'] != before['wrappedKey'] and after['uuid'] == before['uuid'], (before, after)
    assert tablet.json('unlock')['status'] == 'attached'
    assert phone.json('find')['status'] == 'nonexistent'


def removal_is_confirmed(s):
    phone, tablet = Phone(s, 'phone'), Phone(s, 'tablet')
    phone.run('create', '--label', 'phone')
    phone.run('add-device', tablet.public_file)
    shown, code = caselib.on_terminal(phone.argv('remove-device', tablet.name), 'no')
    assert code == 1 and f'{phone.name}  phone' in shown and 'no device was removed' in shown, shown
    shown, code = caselib.on_terminal(phone.argv('remove-device', tablet.name), 'yes')
    assert code == 0, shown
    assert [d['name'] for d in phone.json('list-devices')] == [phone.name]


def foreign_public_keys(s):
    phone = Phone(s, 'phone')
    phone.run('create')
    path = s.file('x25519.pub')
    run(['openssl', 'genpkey', '-algorithm', 'X25519', '-out', path + '.key'])
    run(['openssl', 'pkey', '-in', path + '.key', '-pubout', '-out', path])
    phone.refused(f"'{path}': a device's key must be RSA of 2048 to 4096 bits", 'add-device', path)
    pem = s.file('tablet.pem')
    tablet = Phone(s, 'tablet')
    run(['openssl', 'pkey', '-in', tablet.key, '-pubout', '-out', pem])
    assert len(phone.json('add-device', pem)) == 2


# ---- root's own

def admin(s):
    phone = Phone(s, 'phone')
    phone.run('create')
    socket = ['--admin-socket', s.admin]
    listed = json.loads(run([CTL, 'vm', 'list', *socket, '--output', 'json']).stdout)
    assert [(c['id'], c['status'], c['devices']) for c in listed] == [(phone.name[:32], 'attached', 1)], listed
    lines = run([CTL, 'vm', 'list', *socket]).stdout.splitlines()
    assert lines[0].split()[:3] == ['id', 'status', 'vm'] and lines[1].split()[:2] == [phone.name[:32], 'attached'], lines
    explained = run([CTL, 'vm', 'explain', phone.name[:32], *socket]).stdout
    assert f'cloud {phone.name[:32]}: attached' in explained and 'n1' in explained and 'n2' in explained, explained
    p = run([CTL, 'vm', 'list', '--admin-socket', s.file('none')], 1)
    assert p.stderr.startswith('cofferctl: http://localhost: '), p.stderr


@contextlib.contextmanager
def world():
    with schedulerlib.running(schedulerlib.TlsScheduler) as s:
        yield s


TESTS = [flags, key_file, flow, deletion_is_confirmed, killed_and_repeated, servers, failures, a_vm_that_ended, a_scheduler_that_is_away,
         a_handshake_that_is_reset, devices, removal_is_confirmed, foreign_public_keys, admin]

if __name__ == '__main__':
    chosen = [t for t in TESTS if t.__name__ in sys.argv[1:]] or TESTS
    sys.exit(caselib.main(chosen, world))
