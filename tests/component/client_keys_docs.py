#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/client-keys.md as it is printed: what its openssl and WebCrypto examples make is what coffer-keyd takes (the frame and the
commitment of docs/PROTOCOL-keyd.md), and no key is in an argument of a program. TAP on stdout, no root."""
import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import sys
import time

import caselib
from caselib import ROOT, Skip, run
from keydlib import VOLUME

SECONDS = 3600


def block(kind):
    text = caselib.read(ROOT, 'docs/client-keys.md')
    found = re.findall(rf'^```{kind}\n(.*?)^```', text, re.M | re.S)
    assert len(found) == 1, (kind, len(found))
    return found[0]


def new_key(path):
    run(['openssl', 'genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', path])


def public_der(path):
    return base64.b64decode(''.join(run(['openssl', 'pkey', '-in', path, '-pubout']).stdout.splitlines()[1:-1]))


def decrypt(path, data):
    """As Vault does: OAEP with SHA-256, no label."""
    out = f'{path}.out'
    with open(f'{path}.in', 'wb') as f:
        f.write(base64.b64decode(data))
    run(['openssl', 'pkeyutl', '-decrypt', '-inkey', path, '-in', f'{path}.in', '-out', out, '-pkeyopt', 'rsa_padding_mode:oaep',
         '-pkeyopt', 'rsa_oaep_md:sha256'])
    with open(out, 'rb') as f:
        return f.read()


def check_volume(made, der, open_wrapped):
    assert made['algorithm'] == 'RSA-OAEP-256' and base64.b64decode(made['publicKey']) == der, made
    assert re.fullmatch('[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}', made['uuid']), made
    key = open_wrapped(made['wrapped'])
    assert len(key) == 32, len(key)
    assert made['commitment'] == hmac.new(key, b'coffer/v1 commit' + made['uuid'].encode(), 'sha256').hexdigest(), made
    return key


def check_session(session, frame, key, made, der):
    fingerprint = hashlib.sha256(der).hexdigest()
    assert session['serverKey'] == 'coffer-s-1:3' and session['fingerprint'] == fingerprint, session
    end = frame[74:]
    parts = (b'coffer/v1c', VOLUME.encode(), made['uuid'].encode(), fingerprint.encode(), end)
    binding = hashlib.sha256(b''.join(len(p).to_bytes(4, 'big') + p for p in parts)).digest()
    assert frame == b'coffer/v1c' + key + binding + end and len(frame) == 82, frame.hex()
    assert 0 <= int.from_bytes(end, 'big') - time.time() - SECONDS + 120 < 240, end


def check_new_key(brought, frame, made, publics, open_wrapped, old):
    """publics: base64 of the DER of those who stay, the lender first; open_wrapped: by each of them."""
    key = frame[10:42]
    assert key != old
    session = {name: brought.pop(name) for name in ('session', 'serverKey', 'fingerprint')}
    check_session(session, frame, key, made, base64.b64decode(publics[0]))
    forms = json.loads(brought.pop('recipients'))
    assert [f['fingerprint'] for f in forms] == [hashlib.sha256(base64.b64decode(p)).hexdigest() for p in publics], forms
    assert all(set(f) == {'fingerprint', 'wrapped'} for f in forms), forms
    assert [opens(f['wrapped']) for f, opens in zip(forms, open_wrapped)] == [key] * len(forms)
    assert brought.pop('commitment') == hmac.new(key, b'coffer/v1 commit' + made['uuid'].encode(), 'sha256').hexdigest()
    assert not brought, brought


def with_openssl(root):
    """Also: what its programs were given as arguments never holds the key."""
    new_key(f'{root}/server.key')
    trace, tools = f'{root}/argv', f'{root}/tools'
    os.mkdir(tools)
    for name in ('openssl', 'base64', 'od', 'tr', 'cat', 'date'):
        with open(f'{tools}/{name}', 'w', encoding='ascii', opener=lambda p, flags: os.open(p, flags, 0o700)) as f:
            f.write(f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >>{trace}\nenv >>{trace}\nexec {shutil.which(name)} "$@"\n')
    server = base64.b64encode(public_der(f'{root}/server.key')).decode()
    script = block('bash') + f'''
set -euo pipefail
cd {root}
new_device device.key
new_volume device.key >volume.json
wrapped=$(sed 's/.*"wrapped":"\\([^"]*\\)".*/\\1/' volume.json)
uuid=$(sed 's/.*"uuid":"\\([^"]*\\)".*/\\1/' volume.json)
session device.key {VOLUME} "$uuid" "$wrapped" coffer-s-1:3 {server} {SECONDS} >session.json
new_device second.key
wrap_for device.key "$wrapped" "$(public_key second.key)" >second.wrapped
new_key device.key {VOLUME} "$uuid" coffer-s-1:3 {server} {SECONDS} "$(public_key device.key)" "$(public_key second.key)" >new.json
'''
    run(['bash', '-c', script], env={'PATH': f'{tools}:/usr/bin:/bin'})
    der = public_der(f'{root}/device.key')
    made, session = (json.loads(caselib.read(root, name)) for name in ('volume.json', 'session.json'))
    key = check_volume(made, der, lambda wrapped: decrypt(f'{root}/device.key', wrapped))
    frame = decrypt(f'{root}/server.key', session['session'])
    check_session(session, frame, key, made, der)
    brought, second = json.loads(caselib.read(root, 'new.json')), public_der(f'{root}/second.key')
    assert decrypt(f'{root}/second.key', caselib.read(root, 'second.wrapped')) == key
    new_frame = decrypt(f'{root}/server.key', brought['session'])
    check_new_key(brought, new_frame, made, [base64.b64encode(d).decode() for d in (der, second)],
                  [lambda w, n=name: decrypt(f'{root}/{n}.key', w) for name in ('device', 'second')], key)
    assert os.stat(f'{root}/device.key').st_mode & 0o777 == 0o600
    seen = caselib.read(trace).lower()
    assert 'openssl pkeyutl -decrypt' in seen and 'rsa_oaep_md:sha256' in seen, seen[:500]
    new = new_frame[10:42]
    for form in (key.hex(), base64.b64encode(key).decode().lower(), frame.hex(), key[:16].hex(),
                 new.hex(), base64.b64encode(new).decode().lower(), new_frame.hex()):
        assert form not in seen, 'the key is in an argument or in the environment'
    names = sorted(os.listdir(root))
    assert names == sorted(['argv', 'device.key', 'device.key.in', 'device.key.out', 'server.key', 'server.key.in', 'server.key.out',
                            'second.key', 'second.key.in', 'second.key.out', 'second.wrapped', 'new.json',
                            'session.json', 'tools', 'volume.json']), names


def with_webcrypto(root):
    if not shutil.which('node'):
        raise Skip('there is no Node.js')
    new_key(f'{root}/server.key')
    server = base64.b64encode(public_der(f'{root}/server.key')).decode()
    caselib.write(f'{root}/device.mjs', '''import { webcrypto } from 'node:crypto';
globalThis.crypto ??= webcrypto;
''' + block('js') + f'''
const pair = await subtle.generateKey({{ name: 'RSA-OAEP', hash: 'SHA-256', modulusLength: 2048,
  publicExponent: new Uint8Array([1, 0, 1]) }}, true, ['encrypt', 'decrypt']);
const volume = await newVolume(pair);
const server = {{ keyId: 'coffer-s-1:3', hash: 'SHA-256', publicKey: '{server}' }};
console.log(JSON.stringify({{ volume, pkcs8: base64(await subtle.exportKey('pkcs8', pair.privateKey)),
  session: await session(pair, '{VOLUME}', volume, server, {SECONDS}),
  forServer: await wrapFor(pair, volume.wrapped, '{server}'),
  brought: await newKey(pair, '{VOLUME}', volume.uuid, server, {SECONDS}, [volume.publicKey, '{server}']) }}));
''')
    said = json.loads(run(['node', f'{root}/device.mjs']).stdout)
    pem = '-----BEGIN PRIVATE KEY-----\n' + said['pkcs8'] + '\n-----END PRIVATE KEY-----\n'
    caselib.write(f'{root}/long.key', re.sub('(.{64})', '\\1\n', said['pkcs8']).join(pem.split(said['pkcs8'])))
    der = public_der(f'{root}/long.key')
    key = check_volume(said['volume'], der, lambda wrapped: decrypt(f'{root}/long.key', wrapped))
    check_session(said['session'], decrypt(f'{root}/server.key', said['session']['session']), key, said['volume'], der)
    # the server's key stands for a second device's
    assert decrypt(f'{root}/server.key', said['forServer']) == key
    check_new_key(said['brought'], decrypt(f'{root}/server.key', said['brought']['session']), said['volume'],
                  [said['volume']['publicKey'], server],
                  [lambda w, n=name: decrypt(f'{root}/{n}.key', w) for name in ('long', 'server')], key)


def fresh():
    return caselib.folder('coffer-docs-')


if __name__ == '__main__':
    sys.exit(caselib.main([with_openssl, with_webcrypto], fresh))
