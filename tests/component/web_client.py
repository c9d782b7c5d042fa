#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""web/coffer.mjs, the page's own code, in Node.js against the real coffer-scheduler by TLS with its stub driver (which opens sessions
as coffer-keyd and Vault do), and together with cofferctl: each opens what the other one made. In a browser: the story
scheduler-browser. TAP; no root."""
import base64
import contextlib
import hmac
import json
import os
import shutil
import subprocess
import sys

import caselib
import schedulerlib
from caselib import ROOT, Skip, program, run

PAGE = os.path.join(ROOT, 'web')


class WebDevice:
    def __init__(self, world):
        script = os.path.join(ROOT, 'tests/component/web_device.mjs')
        # not localhost: a bare system has no /etc/hosts, and Node.js asks that
        argv = ['node', script, f'https://127.0.0.1:{world.port}']
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={
            **os.environ, 'NODE_EXTRA_CA_CERTS': world.file('tls.crt')})
        world.devices.append(self.process)
        names = self('names')
        assert names['kept'].startswith('InvalidAccess'), names  # not extractable
        self.name, self.fingerprint, self.public = names['name'], names['fingerprint'], names['publicKey']

    def __call__(self, do, **question):
        self.process.stdin.write(json.dumps({'do': do, **question}) + '\n')
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Phone:
    """A device by cofferctl."""

    def __init__(self, world):
        self.world, self.key = world, world.file('phone.key')
        made = json.loads(run([program('cofferctl'), 'vm', 'new-device', '--key', self.key, '--output', 'json']).stdout)
        self.name, self.public = made['name'], made['publicKey']

    def __call__(self, verb, *args):
        return json.loads(run([program('cofferctl'), 'vm', verb, *args, '--key', self.key, '--url', f'https://localhost:{self.world.port}',
                               '--ca', self.world.file('tls.crt'), '--output', 'json']).stdout)


def names(s):
    page = WebDevice(s)
    openssl = schedulerlib.Device(s.folder)
    wanted = {'publicKey': openssl.public_key, 'name': openssl.name, 'fingerprint': openssl.fingerprint}
    assert page('describe', publicKey=openssl.public_key) == wanted
    assert page('describe', publicKey=caselib.read(openssl.public_path)) == wanted  # PEM
    for bad in ('', 'AAAA', 'no key', openssl.public_key[:-4]):
        assert page('describe', publicKey=bad)['error'] == 'This is not the public key of a device.', bad
    key, uuid = bytes(range(32)), '6ba7b810-9dad-41d1-80b4-00c04fd430c8'
    assert page('commitment', key=base64.b64encode(key).decode(), uuid=uuid)['commitment'] == hmac.new(
        key, b'coffer/v1 commit' + uuid.encode(), 'sha256').hexdigest()


def flow(s):
    page = WebDevice(s)
    found = page('find')
    assert found['status'] == 'nonexistent' and found['name'] == page.name, found
    made = page('create', label='browser')
    assert made['status'] == 'attached' and made['url'] == f'https://clouds.example/clouds/{page.name[:32]}/', made
    assert made['told'][-1] == 'attached' and set(made['told']) <= {'pending', 'attached'}, made['told']
    assert page('lock')['status'] == 'detached'
    assert page('unlock')['url'] == made['url']
    assert page('remove')['status'] == 'nonexistent'


def failures(s):
    page = WebDevice(s)
    refused = page('lock')
    assert refused['code'] == 'not_found' and refused['status'] == 404 and refused['error'], refused
    s.control(fail={'attach': {'code': 'INVALID', 'message': 'the session was not made for this volume by this device'}})
    failed = page('create')
    assert failed['status'] == 'failure' and 'the session was not made for this volume' in failed['reason'], failed
    s.control()
    assert page('create')['status'] == 'attached'


def with_cofferctl(s):
    page, other, phone = WebDevice(s), WebDevice(s), Phone(s)
    made = page('create', label='browser')
    listed = page('add device', publicKey=phone.public, label='phone')['devices']
    assert [(d['name'], d['label']) for d in listed] == [(page.name, 'browser'), (phone.name, 'phone')], listed
    assert phone('lock')['status'] == 'detached' and phone('unlock')['url'] == made['url']
    caselib.write(s.file('other.pub'), other.public)
    assert [d['name'] for d in phone('add-device', s.file('other.pub'))] == [page.name, phone.name, other.name]
    assert page('lock')['status'] == 'detached' and other('unlock')['url'] == made['url']
    assert page('remove device', name=page.name)['error'] == 'A device cannot remove itself: another one must.'
    left = other('remove device', name=page.name)['devices']
    assert [d['name'] for d in left] == [phone.name, other.name], left
    assert page('find')['status'] == 'nonexistent' and page('lock')['code'] == 'not_found'
    assert phone('lock')['status'] == 'detached' and phone('unlock')['url'] == made['url']  # by the new key
    assert [d['name'] for d in phone('remove-device', other.name, '--yes')] == [phone.name]


def the_page_loads_nothing_from_elsewhere(_):
    files = sorted(os.listdir(PAGE))
    assert files == ['README.md', 'coffer.mjs', 'icon.svg', 'index.html', 'page.mjs', 'style.css'], files
    for name in files[1:]:
        text = caselib.read(PAGE, name)
        for word in (*(() if name == 'icon.svg' else ('http://', 'https://')), 'eval(', 'innerHTML', 'localStorage', 'document.write'):
            assert word not in text, (name, word)
    page = caselib.read(PAGE, 'index.html')
    assert "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'" in page
    assert '<script>' not in page and ' on' + 'click' not in page and 'style=' not in page


@contextlib.contextmanager
def world():
    if shutil.which('node') is None:
        raise Skip('there is no Node.js')
    with schedulerlib.running(schedulerlib.TlsScheduler) as s:
        s.devices = []
        try:
            yield s
        finally:
            for p in s.devices:
                p.stdin.close()
                p.wait(caselib.PATIENCE)
                p.stdout.close()


if __name__ == '__main__':
    sys.exit(caselib.main([names, flow, failures, with_cofferctl, the_page_loads_nothing_from_elsewhere], world))
