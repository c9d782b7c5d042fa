#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cofferctl key status|rotate|rewrap|retire|trim as a real process, on records in a real folder, with a played transit engine:
what is asked of Vault, what changes, what is refused and in which words. With the real Vault: the story rotation. TAP; no root."""
import base64
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

import caselib
import ctllib
import vaultlib
from caselib import read
from ctllib import UUID, sentence

LONG = 90 * 86400
TOKEN = 'hvs.CAESIsecretsecretsecret'


def wrapped(version, context, key='k'):
    """As the played Vault wraps: always as long."""
    text = json.dumps([version, context, key])
    return f'vault:v{version}:' + base64.b64encode(text.ljust(120).encode()).decode()


def context_of(tenant, volume, uuid=UUID):
    parts = (b'coffer/v1', b'volume', tenant.encode(), volume.encode(), uuid.encode())
    return base64.b64encode(hashlib.sha256(b''.join(len(p).to_bytes(4, 'big') + p for p in parts)).digest()).decode()


class Key:
    """A tenant's key in the played Vault."""

    def __init__(self):
        self.made, self.minimum, self.encrypts, self.available = {1: int(time.time()) - LONG}, 1, 0, 0

    @property
    def latest(self):
        return max(self.made)

    def data(self):
        return {'latest_version': self.latest, 'min_decryption_version': self.minimum, 'min_encryption_version': self.encrypts,
                'min_available_version': self.available, 'keys': {str(v): t for v, t in self.made.items()}}


class Bench(ctllib.Box):
    """One pool with records under `vault`; keys by tenant."""

    def __init__(self, root, vault):
        super().__init__(root)
        self.vault, self.keys, self.bodies = vault, {'team-a': Key(), 'team-b': Key()}, []
        self.rotates_at_read = 0  # Vault rotates by itself before the n-th look at a key from now on
        common = {'ca': vault.certificate, 'auth': {'method': 'approle', 'role': 'r', 'role_id': 'r', 'secret_id_path': f'{root}/none'}}
        kms = {'vault': {'uri': f'hcvault://{vault.address}/transit/keys/coffer-t-{{tenant}}', **common},
               'kv': {'uri': f'hcvault+kv://{vault.address}/kv/volumes', **common}, 'dev': {'uri': 'file:///etc/coffer/master'}}
        self.configuration = {'pools': {'fast': caselib.file_pool(self.pool, *kms)}, 'kms': kms}
        self.write(self.configuration)
        self.tag = self.init()
        vault.rules += [('transit/keys/', self.on_key, None), ('transit/rewrap/', self.on_rewrap, None)]

    # ---- Vault's side

    def on_key(self, handler, path, body):
        name, _, verb = path.removeprefix('transit/keys/').partition('/')
        key = self.keys.get(name.removeprefix('coffer-t-'))
        if key is None:
            handler.answer(404, errors=[])
        elif verb == '':
            self.rotates_at_read -= 1
            if self.rotates_at_read == 0:
                key.made[key.latest + 1] = int(time.time())
            handler.answer(200, {'data': key.data()})
        elif verb == 'rotate':
            key.made[key.latest + 1] = int(time.time())
            handler.answer(204)
        elif verb == 'config':
            key.minimum, key.encrypts = body['min_decryption_version'], body['min_encryption_version']
            handler.answer(204)
        elif verb == 'trim' and key.encrypts and key.minimum:
            key.available = body['min_available_version']
            handler.answer(204)
        else:
            handler.answer(400, errors=['no'])

    def on_rewrap(self, handler, path, body):
        self.bodies.append(body)
        key = self.keys[path.removeprefix('transit/rewrap/coffer-t-')]
        version, context, plain = json.loads(base64.b64decode(body['ciphertext'].split(':')[2]))
        if context != body['context']:
            handler.answer(400, errors=['cipher: message authentication failed'])
        elif version < key.minimum:
            handler.answer(400, errors=['ciphertext or signature version is disallowed by policy (too old)'])
        else:
            handler.answer(200, {'data': {'ciphertext': wrapped(key.latest, context, plain)}})

    # ---- ours

    def volume(self, name, version=1, tenant='team-a', **changes):
        """Its id; a place with a lock as coffer-controller makes it."""
        volume = f'fast.{self.tag}.{hashlib.sha256(name.encode()).hexdigest()[:32]}'
        key = {'kind': 'transit', 'ciphertext': wrapped(version, context_of(tenant, volume), name), 'key_version': version}
        self.record(self.tag, name, **{'kms': 'vault', 'tenant': tenant, 'key': key, **changes})
        caselib.write(self.place(volume, 'lock'), '')
        return volume

    def minting(self, name):
        return self.volume(name, state='minting', key=None, digest='', mac='')

    def place(self, volume, name='record.json'):
        part = volume.rsplit('.', 1)[1]
        return os.path.join(self.pool, 'volumes', part[:2], part, name)

    def of(self, volume):
        return json.loads(read(self.place(volume)))

    def opens(self, volume, name):
        """The record's wrapped key is the volume's own."""
        r = self.of(volume)
        version, context, plain = json.loads(base64.b64decode(r['key']['ciphertext'].split(':')[2]))
        return (version, context, plain) == (r['key']['key_version'], context_of(r['tenant'], volume), name)

    def key(self, verb, *args, code=0, token=TOKEN, **kw):
        p = self.run('key', verb, *args, code=code, env={'VAULT_TOKEN': token} if token else {}, **kw)
        assert TOKEN not in p.stdout + p.stderr and 'vault:v' not in p.stdout + p.stderr, 'a token or a ciphertext shows'
        return p

    def summary(self, *args, code=0):
        return json.loads(self.key('rewrap', *args, '--output', 'json', code=code).stdout)

    def report(self, path, code=0):
        caselib.write(path, self.run('key', 'status', '--offline', '--output', 'json', code=code, env={}).stdout)
        return path

    def rotated(self, tenant='team-a'):
        self.key('rotate', '--tenant', tenant)

    def refused(self, verb, *words, more=('--nodes', '1'), code=1):
        before = {t: k.data() for t, k in self.keys.items()}
        p = self.key(verb, '--tenant', 'team-a', *more, *(['--yes'] if verb == 'trim' else []), code=code)
        assert all(w in p.stderr for w in words), (p.stderr, words)
        assert {t: k.data() for t, k in self.keys.items()} == before, 'a refused command changed a key'


@contextlib.contextmanager
def locked(b, volume):
    with open(b.place(volume, 'lock'), 'rb+') as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


# ---- the command line ----

def usage(b):
    sentence(b.key('rewrap', code=2), 'exactly one of --tenant, --volume and --all is needed')
    sentence(b.key('rewrap', '--all', '--tenant', 'a', code=2), 'exactly one of --tenant, --volume and --all is needed')
    sentence(b.key('rotate', code=2), 'exactly one of --tenant and --all is needed')
    sentence(b.key('rotate', '--tenant', '../x', code=2), "--tenant '../x' is no tenant's name")
    sentence(b.key('rewrap', '--all', '--rate', '1001', code=2), '--rate must be at most 1000')
    sentence(b.key('retire', '--all', code=2), "--nodes is needed: how many machines have pools with this key service's volumes "
                                               '(1: this one alone)')
    sentence(b.key('trim', '--all', '--nodes', '1', '--grace', '99999', code=2), '--grace must be at most 87600')
    sentence(b.key('rewrap', '--all', '--kms', 'none', code=1), "--kms 'none': the configuration has no such service")
    sentence(b.key('rewrap', '--all', '--kms', 'kv', code=1), "--kms 'kv': only keys of Vault's transit engine have versions")
    b.write({**b.configuration, 'kms': {'dev': b.configuration['kms']['dev']},
             'pools': {'fast': caselib.file_pool(b.pool, 'dev')}})
    sentence(b.key('status', code=1), "the configuration has no key service of Vault's transit engine")
    assert b.vault.asked == [], b.vault.asked


# ---- status ----

def status(b):
    b.keys['team-a'].made.update({2: int(time.time()), 3: int(time.time())})
    for name, version in (('a', 1), ('b', 1), ('c', 3)):
        b.volume(name, version)
    b.volume('d', 1, 'team-b')
    b.volume('e', kms='kv', key={'kind': 'kv', 'ciphertext': 'kv:x', 'key_version': 1})
    b.minting('f')
    with locked(b, b.minting('g')):
        p = b.key('status', '--output', 'json')
    report = json.loads(p.stdout)
    rows = {row['key']: row for row in report['keys']}
    a = rows['coffer-t-team-a']
    assert a['versions'] == {'1': 2, '3': 1} and a['latest'] == 3 and a['old'] == 2 and a['min_decryption'] == 1, a
    assert (a['in_flight'], a['unfinished']) == (1, 1) and rows['coffer-t-team-b']['versions'] == {'1': 1}, rows
    assert report['others'] == {'kv': 1, 'file': 0} and report['gaps'] == [] and '1 volumes have their keys in KV' in p.stderr, p
    shown = b.key('status', '--tenant', 'team-a').stdout.splitlines()
    assert len(shown) == 2 and 'v1: 2, v3: 1' in shown[1], shown


def status_without_vault(b):
    b.volume('a')
    report = json.loads(b.run('key', 'status', '--offline', '--output', 'json', env={}).stdout)
    assert report['keys'][0]['versions'] == {'1': 1} and report['whole'] is True and b.vault.asked == [], report


def unreadable(b):
    good, bad = b.volume('good'), b.volume('bad')
    stranger = b.volume('stranger', kms='gone')
    caselib.write(b.place(bad), '{"v":1')
    p = b.key('status', code=1)
    assert 'v1: 1' in p.stdout and f'cofferctl: {bad}: ' in p.stderr and f"cofferctl: {stranger}: its key service 'gone'" in p.stderr, p
    assert p.stderr.endswith("cofferctl: 2 pools or records can't be read\n"), p.stderr
    p = b.key('rotate', '--all', code=1)
    assert 'has version 2 now' in p.stderr and 'which keys they need is not known' in p.stderr, p
    p = b.key('rewrap', '--all', '--output', 'json', code=1)
    done = json.loads(p.stdout)
    assert (done['rewrapped'], done['unreadable'], done['left']) == (1, 2, 0) and '2 pools or records unreadable' in p.stderr, p
    assert b.of(good)['key']['key_version'] == 2
    b.refused('retire', "2 pools or records can't be read")
    os.rename(b.pool, b.pool + '.away')
    p = b.key('status', code=1)
    assert "cofferctl: pool 'fast': " in p.stderr, p.stderr
    b.refused('retire', "1 pools or records can't be read", "pool 'fast'")


# ---- rewrap ----

def rewrap(b):
    volumes = {name: b.volume(name) for name in ('a', 'b', 'c')}
    other = b.volume('d', 1, 'team-b')
    b.volume('e', kms='kv', key={'kind': 'kv', 'ciphertext': 'kv:x', 'key_version': 1})
    b.volume('f', kms='dev', key={'kind': 'file', 'ciphertext': 'file:v1:x', 'key_version': 1})
    b.volume('g', keySource='client', key={'kind': 'client', 'ciphertext': 'commit:v1:' + '0' * 64, 'key_version': 1})
    before = {v: b.of(v) for v in volumes.values()}
    p = b.key('rotate', '--tenant', 'team-a')
    assert p.stderr == "cofferctl: key 'coffer-t-team-a' has version 2 now\n", p.stderr
    done = b.summary('--tenant', 'team-a')
    assert done == {'rewrapped': 3, 'skipped': 0, 'busy': 0, 'failed': 0, 'unfinished': 0, 'gone': 0, 'untried': 0, 'left': 0, 'kv': 1,
                    'file': 1, 'client': 1, 'unreadable': 0}, done
    for name, v in volumes.items():
        now = b.of(v)
        assert b.opens(v, name) and now['key']['key_version'] == 2 and now['gen'] == before[v]['gen'] + 1, now
        assert {**now, 'gen': 0, 'key': 0} == {**before[v], 'gen': 0, 'key': 0}, 'more than the key changed'
    assert b.of(other)['key']['key_version'] == 1
    assert len(b.bodies) == 3 and all(set(body) == {'context', 'ciphertext'} for body in b.bodies), b.bodies
    # the second time nobody is asked for what is done
    done = b.summary('--tenant', 'team-a')
    assert (done['rewrapped'], done['skipped']) == (0, 3) and len(b.bodies) == 3
    assert b.summary('--all')['skipped'] == 4


def one_volume(b):
    a, c = b.volume('a'), b.volume('c')
    b.rotated()
    assert b.summary('--volume', a)['rewrapped'] == 1
    assert (b.of(a)['key']['key_version'], b.of(c)['key']['key_version']) == (2, 1)
    k = b.volume('k', kms='kv', key={'kind': 'kv', 'ciphertext': 'kv:x', 'key_version': 1})
    sentence(b.key('rewrap', '--volume', k, code=1), f"volume '{k}' has its key at 'kv', which is no transit key service that was chosen: "
                                                     'such keys have no versions')
    absent = f'fast.{b.tag}.{"0" * 32}'
    assert f'volumes/00/{"0" * 32}' in b.key('rewrap', '--volume', absent, code=1).stderr


def busy(b):
    a, c = b.volume('a'), b.volume('c')
    b.rotated()
    with locked(b, a):
        p = b.key('rewrap', '--all', '--wait', '1', '--output', 'json', code=1)
        done = json.loads(p.stdout)
        assert (done['rewrapped'], done['busy'], done['left']) == (1, 1, 1) and 'not all is done: 1 busy, 0 failed' in p.stderr, p
        assert (b.of(a)['key']['key_version'], b.of(c)['key']['key_version']) == (1, 2)
    assert b.summary('--all')['rewrapped'] == 1 and b.opens(a, 'a')


def creates(b):
    """No key is lost that is minted while the key is rotated: a create at work counts as busy, one that died as unfinished."""
    dead, alive = b.minting('dead'), b.minting('alive')
    b.rotated()
    with locked(b, alive):
        done = b.summary('--all', '--wait', '0', code=1)
        assert (done['busy'], done['unfinished'], done['failed']) == (1, 1, 0), done
        b.refused('retire', "key 'coffer-t-team-a': 1 volumes are being created")
    done = b.summary('--all')
    assert (done['busy'], done['unfinished']) == (0, 2) and [b.of(v)['state'] for v in (dead, alive)] == ['minting'] * 2, done
    gone = b.volume('gone', state='erased')
    assert b.summary('--all')['left'] == 0 and b.of(gone)['key']['key_version'] == 1


def refusals(b):
    """A ciphertext that Vault refuses costs that volume alone; a Vault that denies or doesn't answer ends the run."""
    good, bad = b.volume('good'), b.volume('bad')
    other = {'kind': 'transit', 'ciphertext': wrapped(1, 'another volume'), 'key_version': 1}
    caselib.write(b.place(bad), {**b.of(bad), 'key': other})
    lie = b.volume('lie')
    caselib.write(b.place(lie), {**b.of(lie), 'key': {**b.of(lie)['key'], 'key_version': 7}})
    b.rotated()
    before = b.of(bad)
    p = b.key('rewrap', '--all', '--output', 'json', code=1)
    assert json.loads(p.stdout)['failed'] == 1 and f"volume '{bad}': " in p.stderr and b.of(bad) == before and b.opens(good, 'good'), p
    b.rotated()
    for action, word in ((vaultlib.status(403), 'it denies permission'), (vaultlib.status(503), 'sealed or under maintenance')):
        b.vault.rules.insert(0, ('transit/rewrap/', action, None))
        p = b.key('rewrap', '--tenant', 'team-a', '--output', 'json', code=1)
        done = json.loads(p.stdout)
        assert word in p.stderr and done['rewrapped'] == 0 and done['untried'] == 3, p
        b.vault.rules.pop(0)


def a_wrong_answer_is_not_written(b):
    a = b.volume('a')
    b.rotated()
    before = b.of(a)
    for text in ('vault:v2:AAAA', wrapped(1, 'x'), 'v2', wrapped(2, 'x') + 'A', 'vault:v2:' + 'x' * 3000, None):
        b.vault.rules.insert(0, ('transit/rewrap/', lambda h, *_, t=text: h.answer(200, {'data': {'ciphertext': t}}), None))
        p = b.key('rewrap', '--all', code=1)
        b.vault.rules.pop(0)
        assert b.of(a) == before and 'Vault' in p.stderr, (text, p.stderr)


def changed_meanwhile(b):
    """Between Vault's answer and the lock somebody else writes the record: what he wrote stays."""
    a = b.volume('a')
    b.rotated()

    def act(handler, path, body):
        b.vault.rules.pop(0)
        caselib.write(b.place(a), {**b.of(a), 'gen': 9, 'size': 8 << 30})
        b.on_rewrap(handler, path, body)
    b.vault.rules.insert(0, ('transit/rewrap/', act, None))
    assert b.summary('--all')['rewrapped'] == 1
    now = b.of(a)
    assert (now['gen'], now['size'], now['key']['key_version']) == (10, 8 << 30, 2) and b.opens(a, 'a'), now


def a_missing_key_costs_its_volumes(b):
    b.volume('a')
    b.volume('x', 1, 'team-x')
    b.rotated()
    p = b.key('rewrap', '--all', '--output', 'json', code=1)
    done = json.loads(p.stdout)
    assert (done['rewrapped'], done['failed']) == (1, 1) and "key 'coffer-t-team-x': " in p.stderr, p


def min_age(b):
    b.volume('a')
    assert 'has version 2' in b.key('rotate', '--all', '--min-age', '24').stderr
    assert b.key('rotate', '--all', '--min-age', '24').stderr == "cofferctl: key 'coffer-t-team-a' stays at version 2: it is young enough\n"
    assert b.keys['team-a'].latest == 2 and b.keys['team-b'].latest == 1


def progress(b):
    for i in range(5):
        b.volume(str(i))
    b.rotated()
    assert '5 of 5 volumes, 5 rewrapped, 0 failed\n' in b.key('rewrap', '--all', '--progress', '--rate', '0').stderr
    assert b.key('rewrap', '--all').stderr == ''
    b.rotated()
    start = time.monotonic()
    b.key('rewrap', '--all', '--rate', '10')
    assert time.monotonic() - start > 0.35, 'five volumes at ten per second'


# ---- retire and trim ----

def retire(b):
    a = b.volume('a')
    b.rotated()
    b.refused('retire', "1 volumes are under a version older than 2: 'cofferctl key rewrap' first")
    b.summary('--all')
    p = b.key('retire', '--tenant', 'team-a', '--nodes', '1')
    back = 'vault write transit/keys/coffer-t-team-a/config min_decryption_version=1'
    assert f'opens from version 2 on; to take it back: {back}' in p.stderr, p
    assert (b.keys['team-a'].minimum, b.keys['team-a'].encrypts) == (2, 2)
    assert 'opens from version 2 on already' in b.key('retire', '--tenant', 'team-a', '--nodes', '1').stderr
    # a record brought back from before is seen, and trimming refused
    caselib.write(b.place(a), {**b.of(a), 'key': {'kind': 'transit', 'ciphertext': wrapped(1, context_of('team-a', a)), 'key_version': 1}})
    b.refused('trim', '1 volumes are under a version older than 2', more=('--nodes', '1', '--grace', '0'))


def rotated_meanwhile(b):
    """Between the look at all keys and what is done to one: its volumes are under an old version again."""
    b.volume('a')
    b.rotated()
    b.summary('--all')
    b.rotates_at_read = 2
    p = b.key('retire', '--tenant', 'team-a', '--nodes', '1', code=1)
    sentence(p, "key 'coffer-t-team-a': 1 volumes are under a version older than 3: 'cofferctl key rewrap' first")
    assert (b.keys['team-a'].latest, b.keys['team-a'].minimum) == (3, 1), b.keys['team-a'].data()


def settled(b):
    """A record that was read may be one whose writer was killed before it was durable: what it says is made durable before Vault
    destroys what the one before needs."""
    if not shutil.which('strace'):
        raise caselib.Skip('strace is not installed')
    b.volume('a', 2)
    b.rotated()
    trace = os.path.join(b.root, 'trace')
    p = subprocess.run(['strace', '-f', '-qq', '-o', trace, '-e', 'trace=openat,syncfs,sendto,write', caselib.program('cofferctl'), 'key',
                        'retire', '--tenant', 'team-a', '--nodes', '1', '--config', b.config], capture_output=True, text=True, check=False,
                       env={'VAULT_TOKEN': TOKEN, 'PATH': '/usr/bin:/bin', 'ASAN_OPTIONS': 'detect_leaks=0'}, stdin=subprocess.DEVNULL)
    assert p.returncode == 0 and b.keys['team-a'].minimum == 2, p
    lines = read(trace).splitlines()
    last_read = max(i for i, line in enumerate(lines) if '"record.json"' in line)
    assert any('syncfs(' in line and line.endswith('= 0') for line in lines[last_read:]), 'the records that it read were not flushed'


def trim(b):
    b.volume('a')
    b.rotated()
    b.summary('--all')
    p = b.key('trim', '--all', '--nodes', '1', '--grace', '0', '--yes')
    assert 'has no retired version (it opens from version 1 on)' in p.stderr and b.keys['team-a'].available == 0, p
    b.key('retire', '--all', '--nodes', '1')
    b.refused('trim', 'version 2 is younger than --grace: wait 2')
    b.keys['team-a'].made[2] -= 86400
    sentence(b.key('trim', '--all', '--nodes', '1', code=1), 'there is no terminal to confirm on: use --yes')
    shown, code = caselib.on_terminal([ctllib.CTL, 'key', 'trim', '--all', '--nodes', '1', '--config', b.config, '--token-file',
                                       write_token(b)], 'yes')
    assert code == 1 and 'for ever' in shown and 'nothing was destroyed' in shown and b.keys['team-a'].available == 0, shown
    shown, code = caselib.on_terminal([ctllib.CTL, 'key', 'trim', '--all', '--nodes', '1', '--config', b.config, '--token-file',
                                       write_token(b)], 'coffer-t-team-a')
    assert code == 0 and 'has no version before 2 any more' in shown and b.keys['team-a'].available == 2, shown
    assert 'has no retired version' in b.key('trim', '--all', '--nodes', '1', '--yes').stderr


def write_token(b):
    path = os.path.join(b.root, 'token')
    caselib.write(path, TOKEN + '\n', 0o600)
    return path


def other_machines(b):
    """What only another machine's pools show."""
    here = b.volume('a')
    two = Bench.__new__(Bench)  # the same Vault, another machine's pool
    two.__dict__.update(b.__dict__, config=f'{b.root}/two.json', pool=f'{b.root}/pool-2')
    two.write({**b.configuration, 'pools': {'fast': {**b.configuration['pools']['fast'], 'path': two.pool}}})
    two.tag = two.init()
    there, path = two.volume('a'), f'{b.root}/two.report'
    early = two.report(f'{b.root}/early.report')
    time.sleep(1.1)
    b.rotated()
    b.summary('--all')
    b.refused('retire', '--nodes 2: this machine and 0 --report make 1', more=('--nodes', '2'))
    more = ('--nodes', '2', '--report', path)
    b.refused('retire', "the report of '", 'is from before version 2 was made', more=('--nodes', '2', '--report', early))
    time.sleep(1.1)
    two.report(path)
    b.refused('retire', "1 volumes on '", 'are under a version older than 2', more=more)
    b.refused('retire', 'are of the same pool', more=('--nodes', '3', '--report', path, '--report', path))
    b.refused('retire', 'is of this machine', more=('--nodes', '2', '--report', b.report(f'{b.root}/own.report')))
    with locked(two, two.minting('m')):
        two.summary('--all', '--wait', '0', code=1)
        two.report(path)
    b.refused('retire', "1 volumes on '", 'are being created', more=more)
    caselib.write(two.place(there), '{')
    two.report(path, code=1)
    b.refused('retire', 'reports 1 pools or records that can\'t be read', more=more)
    caselib.write(path, json.loads(read(path)) | {'whole': False})
    b.refused('retire', 'it is not of all keys', more=more)
    caselib.write(path, '{}')
    b.refused('retire', f"--report '{path}'", more=more)
    caselib.write(two.place(there), {**b.of(here), 'id': there, 'key': {
        'kind': 'transit', 'ciphertext': wrapped(2, context_of('team-a', there)), 'key_version': 2}})
    two.report(path)
    b.key('retire', '--all', *more)
    assert b.keys['team-a'].minimum == 2


TESTS = [usage, status, status_without_vault, unreadable, rewrap, one_volume, busy, creates, refusals, a_wrong_answer_is_not_written,
         changed_meanwhile, a_missing_key_costs_its_volumes, min_age, progress, retire, rotated_meanwhile, settled, trim, other_machines]


@contextlib.contextmanager
def bench():
    with caselib.folder('cofferctl-') as root, contextlib.closing(vaultlib.Vault(root)) as vault:
        yield Bench(root, vault)


sys.exit(caselib.main(TESTS, bench))
