#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cofferctl volume rescue as a real process: exact sentences, what it refuses, and, on a loop device whose header the stock tool
made, the passphrase by a private key, by docs/RECOVERY.md's lines for the stock tools, and by a coffer-keyd of its own. No
device-mapper; what opens a volume is proved by cryptsetup --test-passphrase. TAP on stdout; root for the loop devices only."""
import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import caselib
import keydlib
from caselib import Skip, on_terminal, program, read, write

sys.path.insert(0, os.path.join(caselib.ROOT, 'e2e', 'crypt'))
from cryptlib import MIB, Volume, mac_of, passphrase_of, rsa_recipient, run, stock_format  # noqa: E402

CTL = program('cofferctl')
HELPERS = ['--crypt-helper', program('coffer-crypt'), '--keyd', program('coffer-keyd')]


class Box:
    """A folder with a volume's image and record, and private keys."""

    def __init__(self, root):
        self.root, self.image, self.record = root, root + '/image', root + '/record.json'
        self.key = root + '/escrow.pem'
        run('openssl', 'genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', self.key)
        self.volume = None

    def make(self, bits=256, key=None):
        """key: what makes the storage key for a record, and writes its wrapped form there."""
        if os.geteuid() != 0 or not os.path.exists('/dev/loop-control'):
            raise Skip('needs root and loop devices')
        v = self.volume = Volume(self.image, 32 * MIB)
        v.sk = key(v.record) if key else v.sk
        try:
            stock_format(v)
        finally:
            run('losetup', '-d', v.loop)
        self.put(recipients=[rsa_recipient(self.key, v.sk, bits=bits)])
        return v

    def put(self, **changes):
        """The record with these fields, and a right MAC for them unless it is among them."""
        v = self.volume
        v.record.update(changes)
        if 'mac' not in changes:
            v.record['mac'] = mac_of(v.sk, v.record)
        write(self.record, v.record)

    def run(self, *args, code=0, image=None, **kw):
        return caselib.run([CTL, 'volume', 'rescue', image or self.image, '--record', self.record, *HELPERS, *args], code, **kw)

    def passphrase(self, *args, **kw):
        p = self.run(*args, **kw)
        assert p.stdout == passphrase_of(self.volume.sk, self.volume.uuid) + '\n', 'another passphrase'
        assert p.stdout.strip() not in p.stderr and self.volume.sk.hex() not in p.stderr, 'a key in the log'
        return p

    def refused(self, *words, args=None, **kw):
        p = self.run(*(args or ('--private-key', self.key)), code=1, **kw)
        lines = [line for line in p.stderr.splitlines() if line.startswith('cofferctl: ')]
        assert p.stdout == '' and len(lines) == 1 and all(w in lines[0] for w in words), (words, p)


def no_loops_left(root):
    end = time.monotonic() + caselib.PATIENCE  # the kernel detaches in its own time
    while root in run('losetup', '-a'):
        assert time.monotonic() < end, run('losetup', '-a')
        time.sleep(0.02)


@contextlib.contextmanager
def box():
    with caselib.folder('rescue-') as root:
        yield Box(root)


def usage_errors(b):
    cases = [([], 'IMAGE is missing: cofferctl volume rescue IMAGE'),
             (['i'], "--record is needed: the volume's record"),
             (['i', '--record', 'r'], 'one of --private-key and --vault is needed'),
             (['i', '--record', 'r', '--private-key', 'k', '--vault'], 'one of --private-key and --vault is needed'),
             (['i', '--record', 'r', '--vault', '--keyd', 'keyd'], '--crypt-helper and --keyd must be absolute paths')]
    for args, want in cases:
        assert caselib.run([CTL, 'volume', 'rescue', *args], 2).stderr == f'cofferctl: {want}\n', args


def a_file_gets_no_passphrase(b):
    with open(b.root + '/out', 'wb') as out:
        for to in (out, subprocess.DEVNULL):
            p = subprocess.run([CTL, 'volume', 'rescue', b.image, '--record', b.record, '--private-key', b.key], stdout=to,
                               stderr=subprocess.PIPE, text=True, check=False)
            assert p.returncode == 1 and 'the standard output must be a pipe or a terminal' in p.stderr, p
    assert os.path.getsize(b.root + '/out') == 0


def what_is_no_record_or_image(b):
    b.refused('record.json')
    write(b.record, '{}')
    b.refused('is no record of a volume')
    write(b.record, {'v': 1})
    b.refused('is no record of a volume')
    record = {'v': 1, 'gen': 1, 'id': keydlib.VOLUME, 'name': 'pvc-1', 'uuid': keydlib.UUID, 'tenant': 'lab', 'size': 16 * MIB,
              'state': 'new', 'crypt': {'cipher': 'aes-xts-plain64', 'key_bits': 512, 'sector': 4096, 'data_offset': 4 * MIB},
              'fs': 'ext4', 'kms': 'dev', 'keySource': 'vault', 'key': {'kind': 'file', 'ciphertext': 'x', 'key_version': 1},
              'digest': '', 'mac': '', 'sealed': False, 'recipients': [], 'source': None, 'created': '2026-11-22T01:02:03Z'}
    write(b.record, record)
    b.refused(f"volume '{keydlib.VOLUME}' is in state 'new' and has no passphrase yet")
    write(b.record, dict(record, state='ready', digest='d' * 64, mac='e' * 64))
    b.refused(f"open the image '{b.image}': No such file or directory")
    b.refused("'/dev/null' is neither a file nor a block device", image='/dev/null')
    b.refused(f"'{b.root}' is neither a file nor a block device", image=b.root)


def by_a_private_key(b):
    for bits in (256, 512):
        b.make(bits)
        before = b.volume.hash()
        p = b.passphrase('--private-key', b.key, '--reason', 'a fire')
        assert '"rescue"' in p.stderr and '"a fire"' in p.stderr and '"private-key"' in p.stderr, p.stderr
        run('cryptsetup', 'open', '--test-passphrase', b.image, input=p.stdout.encode())
        assert b.volume.hash() == before, 'the image was written to'
        assert json.loads(read(b.record)) == b.volume.record
    no_loops_left(b.root)


def a_read_only_image_and_a_device(b):
    v = b.make()
    os.chmod(b.image, 0o400)
    v.loop = run('losetup', '-r', '-f', '--show', b.image).strip()
    try:
        b.passphrase('--private-key', b.key, image=v.loop)
        b.passphrase('--private-key', b.key)
    finally:
        run('losetup', '-d', v.loop)


def on_a_terminal(b):
    v = b.make()
    shown, code = on_terminal([CTL, 'volume', 'rescue', b.image, '--record', b.record, '--private-key', b.key, *HELPERS], '')
    assert code == 0 and passphrase_of(v.sk, v.uuid) in shown, shown


def a_key_with_a_passphrase_through_a_pipe(b):
    b.make()
    run('openssl', 'pkey', '-in', b.key, '-aes256', '-passout', 'pass:secret', '-out', b.root + '/protected.pem')
    b.refused("the private key is protected by a passphrase: give it through a pipe, as 'openssl pkey -in FILE' writes it",
              args=['--private-key', b.root + '/protected.pem'])
    line = f'{CTL} volume rescue {b.image} --record {b.record} {" ".join(HELPERS)} --private-key ' \
           f'<(openssl pkey -in {b.root}/protected.pem -passin pass:secret) | cryptsetup open --test-passphrase {b.image}'
    caselib.run(['bash', '-c', 'set -o pipefail; ' + line])


def a_key_that_a_device_made(b):
    """Its device's private key opens the volume like any recipient's; no key service has anything to unwrap."""
    v = b.make()
    commitment = hmac.new(v.sk, b'coffer/v1 commit' + v.uuid.encode(), hashlib.sha256).hexdigest()
    b.put(keySource='client', key={'kind': 'client', 'ciphertext': 'commit:v1:' + commitment, 'key_version': 1})
    b.passphrase('--private-key', b.key)
    b.refused("wasn't made by a key service (keySource client): only a recipient's private key opens it",
              args=['--vault', '--config', b.root + '/none'])


def what_does_not_fit(b):
    v = b.make()
    other = b.root + '/other.pem'
    run('openssl', 'genpkey', '-algorithm', 'X25519', '-out', other)
    b.refused("the private key is none of the recipients' of volume", v.record['id'], args=['--private-key', other])
    b.refused('a private key must be one PKCS#8 block in PEM', args=['--private-key', b.record])
    b.refused("the private key '/dev/zero' must be a file or a pipe", args=['--private-key', '/dev/zero'])
    b.refused(f"open the private key '{b.root}/none'", args=['--private-key', b.root + '/none'])
    good = dict(v.record)
    [entry] = good['recipients']
    wrapped = bytearray(base64.b64decode(entry['wrapped']))
    wrapped[100] ^= 1
    for changes, words in (({'recipients': []}, 'names no recipient'),
                           ({'recipients': [dict(entry, wrapped=base64.b64encode(wrapped).decode())]}, "doesn't open what was wrapped"),
                           ({'recipients': [dict(entry, alg='RSA-OAEP-512')]}, "doesn't open what was wrapped"),
                           ({'recipients': [rsa_recipient(b.key, os.urandom(32))]}, "its MAC doesn't fit"),
                           ({'tenant': 'other', 'mac': good['mac']}, "its MAC doesn't fit"),
                           ({'recipients': [dict(entry, label='mine')], 'mac': good['mac']}, "its MAC doesn't fit"),
                           ({'digest': 'e' * 64}, 'another volume key')):
        b.put(**changes)
        b.refused(words)
        b.put(**good)
    run('dd', 'if=/dev/urandom', f'of={b.image}', 'bs=4096', 'count=8', 'conv=notrunc')
    b.refused('header')
    no_loops_left(b.root)


def another_volumes_record(b):
    """Whole and right, but of a volume that lies elsewhere."""
    b.make()
    first = read(b.record)
    os.unlink(b.image)
    b.make()
    write(b.record, first)
    b.refused('header')


def stock_lines():
    """The page's block for openssl, python3 and cryptsetup."""
    [block] = [block for block in re.findall(r'```sh\n(.*?)```', read(caselib.ROOT, 'docs/RECOVERY.md'), re.S) if 'pkeyutl' in block]
    first, rest = block.split('\n', 1)
    assert first == 'image=IMAGE record=record.json key=escrow.key', first
    return rest


def the_stock_tools_as_printed(b):
    """With a cryptsetup before the real one that only tries the passphrase: there is no device-mapper."""
    lines = stock_lines()
    write(b.root + '/cryptsetup', '#!/bin/sh\nset -eu\n[ "$1 $3" = "open rescued" ]\nexec %s open --test-passphrase "$2"\n'
          % shutil.which('cryptsetup'), 0o755)
    env = dict(os.environ, PATH=b.root + ':' + os.environ['PATH'])
    for bits in (256, 512):
        v = b.make(bits)
        script = f'set -o pipefail\nimage={b.image} record={b.record} key={b.key}\n' + lines
        if bits == 512:
            assert script.count('_md:sha256') == 2, 'the page says: sha512, twice'
            script = script.replace('_md:sha256', '_md:sha512')
        caselib.run(['bash', '-c', script], env=env)
        b.put(recipients=[rsa_recipient(b.key, os.urandom(32), bits=bits)])
        assert caselib.run(['bash', '-c', script], None, env=env).returncode != 0
        os.unlink(b.image)
        assert v.sk not in read(b.record).encode()


# ---- by a key service ----

class Service:
    """The box's volume with a key of a file key service, and a coffer-keyd that may use one."""

    def __init__(self, b):
        self.b, self.config, self.pid = b, b.root + '/config.json', b.root + '/pid'
        os.mkdir(b.root + '/pool')
        caselib.write_key(b.root + '/master')
        write(self.config, caselib.configuration(b.root + '/pool', b.root + '/master'))
        self.keyd = self.program('coffer-keyd', f'echo $$ >{self.pid}; exec {program("coffer-keyd")} "$@" --insecure-file-kms')
        b.make(key=self.key)
        self.args = ['--vault', '--config', self.config, '--keyd', self.keyd]

    def program(self, name, line):
        write(f'{self.b.root}/{name}', f'#!/bin/sh\n{line}\n', 0o755)
        return f'{self.b.root}/{name}'

    def key(self, record):
        binding = (record['kms'], record['tenant'], record['id'], record['uuid'])
        with keydlib.Keyd(self.b.root) as k, k.client() as c:
            kind, ciphertext, version = c.ask(keydlib.mint(binding)).rest
            record['key'] = {'kind': kind.decode(), 'ciphertext': ciphertext.decode(), 'key_version': int.from_bytes(version, 'little')}
            return keydlib.open_key(c, ciphertext.decode(), binding=binding)

    def keyd_is_gone(self):
        try:
            os.kill(int(read(self.pid)), 0)
        except ProcessLookupError:
            return True
        return False

    def nothing_left(self):
        assert self.keyd_is_gone() and not [f for f in os.listdir('/run') if f.startswith('coffer-rescue.')], os.listdir('/run')


def by_a_keyd_of_its_own(b):
    s = Service(b)
    p = b.passphrase(*s.args)
    assert p.stderr.count('"audit" action="rescue"') == 1 and 'by="vault"' in p.stderr, p.stderr
    assert p.stderr.count('"audit" op="UNWRAP" use="break-glass"') == 1 and p.stderr.count('"audit"') == 2, p.stderr
    s.nothing_left()
    b.put(tenant='other')
    b.refused('coffer-keyd: ', 'the wrapped key', args=s.args)
    b.put(tenant='lab', kms='none')
    b.refused("'none'", args=s.args)
    b.put(kms='dev', mac='0' * 64)
    b.refused("its MAC doesn't fit", args=s.args)
    s.nothing_left()


def a_keyd_that_does_not_start(b):
    s = Service(b)
    why = 'coffer-keyd ended before it answered; what it says above is why'
    p = b.run('--vault', '--config', s.config, code=1)
    assert 'it needs --insecure-file-kms' in p.stderr and f'cofferctl: {why}\n' in p.stderr and p.stdout == '', p
    b.refused(why, args=['--vault', '--config', b.root + '/none'])
    b.refused("start '/nonexistent/keyd'", args=[*s.args, '--keyd', '/nonexistent/keyd'])
    assert not [f for f in os.listdir('/run') if f.startswith('coffer-rescue.')]


def killed_meanwhile(b):
    s = Service(b)
    waits = s.program('waits', f'echo >{b.root}/waiting; exec sleep 1000')
    p = subprocess.Popen([CTL, 'volume', 'rescue', b.image, '--record', b.record, *s.args, '--crypt-helper', waits],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        caselib.wait_for(lambda: os.path.exists(b.root + '/waiting'), 'coffer-crypt is started', p)
        assert not s.keyd_is_gone()
        p.send_signal(signal.SIGKILL)
        p.wait()
        caselib.wait_for(s.keyd_is_gone, 'coffer-keyd ends with cofferctl')
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(p.pid, signal.SIGKILL)  # the helper
        p.stdout.close()
        for left in [f'/run/{f}' for f in os.listdir('/run') if f.startswith('coffer-rescue.')]:
            shutil.rmtree(left)


sys.exit(caselib.main([usage_errors, a_file_gets_no_passphrase, what_is_no_record_or_image, by_a_private_key,
                       a_read_only_image_and_a_device, on_a_terminal, a_key_with_a_passphrase_through_a_pipe, a_key_that_a_device_made,
                       what_does_not_fit, another_volumes_record, the_stock_tools_as_printed, by_a_keyd_of_its_own,
                       a_keyd_that_does_not_start, killed_meanwhile], box))
