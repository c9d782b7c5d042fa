#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cofferctl as a real process: exact sentences and exit codes, pools and records in a real folder, break-glass against
a pretending coffer-node (csi-fake) with a pipe, a terminal and a file as standard output. TAP on stdout; no root."""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import ctllib
from caselib import Skip, on_terminal, read, write
from ctllib import CTL, ID, NO_POOL, UUID, sentence


def usage_errors(b):
    cases = [
        ([], 'a command is missing (see cofferctl --help)'),
        (['volume'], "unknown command 'volume' (see cofferctl --help)"),
        (['volume', 'eat'], "unknown command 'volume eat' (see cofferctl --help)"),
        (['--nonsense'], "unknown command '--nonsense' (see cofferctl --help)"),
        (['volume', 'list', '--nonsense'], "unknown flag '--nonsense' (see --help)"),
        (['volume', 'list', 'more'], "there are too many arguments for 'cofferctl volume list'"),
        (['volume', 'show'], 'ID is missing: cofferctl volume show ID'),
        (['volume', 'show', 'a', 'b'], "there are too many arguments for 'cofferctl volume show'"),
        (['pool', 'init'], 'NAME is missing: cofferctl pool init NAME'),
        (['volume', 'list', '--output', 'xml'], "flag '--output' must be one of json|table, not 'xml'"),
        (['volume', 'list', '--config'], "flag '--config' needs a value"),
        (['volume', 'unlock-key', ID], '--reason is needed: it goes into the audit line'),
        (['volume', 'unlock-key', ID, '--reason', ''], '--reason is needed: it goes into the audit line'),
    ]
    for args, want in cases:
        p = b.run(*args, code=2, config=False)
        sentence(p, want)
        assert p.stdout == '', args


def help_texts(b):
    for args in (['--help'], ['-h'], ['volume', '--help']):
        out = b.run(*args, config=False).stdout
        assert all(v in out for v in ('config check', 'pool init NAME', 'volume list', 'volume show ID', 'volume unlock-key ID')), out
    out = b.run('volume', 'unlock-key', '--help', config=False).stdout
    assert '--reason' in out and '--output json|table' in out and '--config' in out, out
    assert re.fullmatch(r'cofferctl \d+\.\d+\.\d+\n', b.run('--version', config=False).stdout)


def config_good(b):
    p = b.run('config', 'check')
    assert p.stdout.split() == ['POOL', 'BACKEND', 'PATH', 'KMS', 'ALLOCATE', 'OVERCOMMIT', 'fast', 'file', b.pool, 'dev',
                                'full', '-'], p.stdout
    got = json.loads(b.run('config', 'check', '--output=json').stdout)
    assert got == [{'name': 'fast', 'backend': 'file', 'path': b.pool, 'kms': 'dev', 'allocate': 'full'}], got
    assert b.run('config', 'check', config=False, env={'COFFER_CONFIG': b.config}).stdout == p.stdout


def config_bad(b):
    kms = {'dev': {'uri': 'file:///etc/coffer/master'}}
    pool = {'backend': 'file', 'path': b.pool, 'kms': ['dev']}
    cases = [
        ({'pools': {}, 'kms': kms}, 'configuration: there must be 1 to 64 pools'),
        ({'pools': {'fast': {**pool, 'backend': 'tape'}}, 'kms': kms}, "configuration: pool 'fast': there is no backend 'tape'"),
        ({'pools': {'fast': {**pool, 'kms': ['other']}}, 'kms': kms}, "configuration: pool 'fast': there is no kms 'other'"),
        ({'pools': {'fast': pool}, 'kms': {'dev': {'uri': 'plain'}}},
         "configuration: kms 'dev': uri 'plain' has no known prefix (file://, hcvault://, hcvault+kv://)"),
        ({'pools': {'fast': pool, 'slow': pool}, 'kms': kms},
         "configuration: pool 'slow': its path is also the one of pool 'fast'"),
    ]
    for value, want in cases:
        b.write(value)
        p = b.run('config', 'check', code=1)
        sentence(p, f"'{b.config}': {want}")
        assert p.stdout == ''
    b.write({'pools': {'fast': {**pool, 'colour': 'red'}}, 'kms': kms})
    assert "'colour'" in b.run('config', 'check', code=1).stderr
    b.write('{"pools":')
    assert b.config in b.run('config', 'check', code=1).stderr
    os.unlink(b.config)
    sentence(b.run('config', 'check', code=1), f"open configuration '{b.config}': No such file or directory")


def pool_init_once(b):
    p = b.run('pool', 'init', 'fast')
    tag = re.fullmatch(r'pool  fast\ntag   ([0-9a-f]{8})\npath  (.*)\n', p.stdout)
    assert tag and tag.group(2) == b.pool, p.stdout
    before = read(b.pool, 'pool.json')
    assert json.loads(before)['id'].startswith(tag.group(1))
    sentence(b.run('pool', 'init', 'fast', code=1), f"pool 'fast': '{b.pool}' is a pool already (it has a pool.json)")
    assert read(b.pool, 'pool.json') == before, 'the second init changed the pool'


def pool_init_owner(b):
    for text in ('65533', '65533:', ':1', 'a:b', '-1:1', '1:4294967295', '1:1 ', '1:1:1'):
        sentence(b.run('pool', 'init', 'fast', '--owner', text, code=2), f"--owner '{text}' must be two numbers, UID:GID")
    mine = f'{os.geteuid()}:{os.getegid()}' if os.geteuid() else '65533:65532'
    os.mkdir(b.pool, 0o755)
    b.run('pool', 'init', 'fast', '--owner', mine)
    for path in (b.pool, os.path.join(b.pool, 'pool.json')):
        found = os.stat(path)
        assert f'{found.st_uid}:{found.st_gid}' == mine and found.st_mode & 0o077 == 0, (path, found)


def a_full_folder_changes_no_hands(b):
    os.mkdir(b.pool, 0o755)
    with open(os.path.join(b.pool, 'data'), 'w', encoding='ascii'):
        pass
    before = os.stat(b.pool)
    assert 'is not empty' in b.run('pool', 'init', 'fast', '--owner', '65533:65532', code=1).stderr
    after = os.stat(b.pool)
    assert (before.st_uid, before.st_gid, before.st_mode) == (after.st_uid, after.st_gid, after.st_mode)


def pool_init_refusals(b):
    sentence(b.run('pool', 'init', 'slow', code=1), f"'{b.config}' has no pool 'slow'")
    os.mkdir(b.pool)
    with open(os.path.join(b.pool, 'data'), 'w', encoding='ascii'):
        pass
    assert f"'{b.pool}' is not empty (it holds 'data')" in b.run('pool', 'init', 'fast', code=1).stderr


def operand_anywhere(b):
    p = b.run('pool', 'init', '--output', 'json', 'fast')
    assert json.loads(p.stdout)['pool'] == 'fast'
    p = b.run('volume', 'show', '--config', b.config, '--', '--odd', code=1, config=False)
    assert "'--odd'" in p.stderr, p.stderr


def list_empty(b):
    b.init()
    assert b.run('volume', 'list').stdout == 'ID  STATE  SIZE  FS  TENANT  KMS  CREATED\n'
    assert json.loads(b.run('volume', 'list', '--output', 'json').stdout) == []


def list_without_pool(b):
    assert NO_POOL in b.run('volume', 'list', code=1).stderr
    os.mkdir(b.pool)
    p = b.run('volume', 'list', code=1)
    assert NO_POOL in p.stderr and p.stdout == '', 'an unmounted directory is not an empty pool'


def list_and_show(b):
    tag = b.init()
    one, two = b.record(tag), b.record(tag, 'pvc-2', size=(1 << 30) + (1 << 20), fs='none', state='new', digest='', mac='', gen=2)
    rows = b.run('volume', 'list').stdout.splitlines()
    assert sorted(line.split()[:6] for line in rows[1:]) == sorted([[one, 'ready', '4Gi', 'ext4', 'team-a', 'dev'],
                                                                    [two, 'new', '1025Mi', 'none', 'team-a', 'dev']]), rows
    got = {v['id']: v for v in json.loads(b.run('volume', 'list', '--output', 'json').stdout)}
    assert set(got) == {one, two} and got[one]['size'] == 4 << 30
    p = b.run('volume', 'show', one)
    fields = dict(re.split(r'  +', line, maxsplit=1) for line in p.stdout.splitlines())
    want = {'id': one, 'name': 'pvc-1', 'state': 'ready', 'uuid': UUID, 'tenant': 'team-a', 'tenant identity': 'node',
            'size': '4Gi', 'file system': 'ext4',
            'key service': 'dev', 'key source': 'vault', 'key kind': 'file', 'key version': '1',
            'discard': 'no', 'sealed': 'no', 'stale keyslots': 'no',
            'created': '2026-11-22T01:02:03Z', 'generation': '4'}
    assert fields == want, fields
    j = b.run('volume', 'show', one, '--output', 'json').stdout
    assert json.loads(j) == got[one]
    for text in (p.stdout, j):
        assert 'WRAPPEDKEY' not in text and 'e' * 64 not in text and 'd' * 64 not in text


def show_absent(b):
    tag = b.init()
    p = b.run('volume', 'show', 'nonsense', code=1)
    assert "'nonsense'" in p.stderr, p.stderr
    p = b.run('volume', 'show', f'fast.{tag}.{"0" * 32}', code=1)
    assert p.stdout == '' and '0' * 32 in p.stderr, p.stderr
    sentence(b.run('volume', 'show', f'slow.{tag}.{"0" * 32}', code=1), "the configuration has no pool 'slow'")
    foreign = 'ffffffff' if tag != 'ffffffff' else 'eeeeeeee'
    assert 'it is another pool' in b.run('volume', 'show', f'fast.{foreign}.{"0" * 32}', code=1).stderr


def unreadable_records(b):
    tag = b.init()
    good, torn = b.record(tag), b.record(tag, 'torn', text='{"v":1,')
    newer, copied = b.record(tag, 'newer', v=2), b.record(tag, 'copied', id=good)
    p = b.run('volume', 'list', code=1)
    sentence(p, "the records of 3 volumes can't be read")
    states = {line.split()[0]: line.split()[1] for line in p.stdout.splitlines()[1:]}
    assert states == {good: 'ready', torn: 'unreadable', newer: 'unreadable', copied: 'unreadable'}, p.stdout
    rows = {v['id']: v for v in json.loads(b.run('volume', 'list', '--output', 'json', code=1).stdout)}
    assert all('problem' in rows[v] for v in (torn, newer, copied))
    for volume in (torn, newer, copied):
        assert b.run('volume', 'show', volume, code=1).stdout == ''


def names_cannot_drive_the_terminal(b):
    volume = b.record(b.init(), 'pvc\x1b[2J\x9b\u202eüber')
    out = b.run('volume', 'show', volume).stdout
    assert re.search(r'^name +pvc\?\[2J\?\?über$', out, re.M), out
    assert out.replace('\n', '').replace('ü', '').isascii() and '\x1b' not in out
    j = b.run('volume', 'show', volume, '--output', 'json').stdout
    assert j.isascii() and '\x1b' not in j and json.loads(j)['name'] == 'pvc\x1b[2J\x9b\u202eüber'


def errors_cannot_drive_the_terminal(b):
    volume = b.record(b.init(), 'odd', **{'x\x1b]0;title\x07\u202e\nnext': 1})
    p = b.run('volume', 'show', volume, code=1)
    assert "unknown field 'x?]0;title????" in p.stderr, p.stderr
    assert p.stderr.count('\n') == 1 and '\x1b' not in p.stderr and '\x07' not in p.stderr, p.stderr


def output_that_fails(b):
    b.init()
    with open('/dev/full', 'wb') as full:
        p = subprocess.run([CTL, 'volume', 'list', '--config', b.config], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert p.returncode == 1 and p.stderr == 'cofferctl: write the output: No space left on device\n', p
    closed = f'exec "{CTL}" volume list --config "{b.config}" >&-'
    p = subprocess.run(['sh', '-c', closed], stderr=subprocess.PIPE, text=True, check=False)
    assert p.returncode == 1 and p.stderr == 'cofferctl: write the output: Bad file descriptor\n', p


# ---- break-glass ----

def unlock_into_pipe(b):
    with b.node():
        p = b.run(*b.unlock('--yes'))
    assert p.stdout == f'passphrase of {ID}\n', p.stdout
    sentence(p, f"the passphrase of volume '{ID}' was written to the standard output")


def unlock_into_file(b):
    path = os.path.join(b.root, 'out')
    with b.node(), open(path, 'wb') as out:
        p = subprocess.run([CTL, *b.unlock('--yes')], stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert p.returncode == 0, p.stderr
    with open(path, encoding='ascii') as f:
        assert f.read() == f'passphrase of {ID}\n'


def rotate_key(b):
    def rotate(*more, code=0):
        return b.run('volume', 'rotate-key', ID, '--admin-socket', b.admin, *more, code=code)
    assert 'No such file or directory' in rotate(code=1).stderr
    with b.node():
        p = rotate('--reason', 'why')
        assert p.stdout == '' and f"volume '{ID}' has a new storage key" in p.stderr, p
        assert 'copies of its record and header from before' in p.stderr, p
        p = rotate('--reason', 'again')
        assert p.stdout == '' and f"an interrupted rotation of volume '{ID}' was finished" in p.stderr, p
        assert json.loads(rotate('--output', 'json').stdout) == {'id': ID, 'resumed': False, 'key_version': 3}
        p = rotate('--reason', 'fail:FAILED_PRECONDITION', code=1)
        assert 'failed as asked' in p.stderr and p.stdout == '', p
        p = b.run('volume', 'rotate-key', '../etc', '--admin-socket', b.admin, code=1)
        assert "'../etc'" in p.stderr, p.stderr


def recipients(b):
    def verb(name, *words, code=0):
        return b.run('recipient', name, ID, *words, '--admin-socket', b.admin, code=code)
    private, public = os.path.join(b.root, 'device'), os.path.join(b.root, 'device.pub')
    subprocess.run(['openssl', 'genpkey', '-algorithm', 'RSA', '-out', private], check=True, capture_output=True)
    subprocess.run(['openssl', 'pkey', '-in', private, '-pubout', '-out', public], check=True)
    der = subprocess.run(['openssl', 'pkey', '-in', private, '-pubout', '-outform', 'DER'], check=True, capture_output=True).stdout
    fingerprint = hashlib.sha256(der).hexdigest()
    sentence(verb('add', code=2), '--key is needed: the file with the public key')
    assert 'No such file' in verb('add', '--key', public + '.none', code=1).stderr
    assert 'one SubjectPublicKeyInfo' in verb('add', '--key', private, code=1).stderr
    with b.node():
        assert fingerprint in verb('add', '--key', public, '--label', 'phone').stdout
        p = verb('add', '--key', public, '--label', 'again', '--output', 'json')
        shown = json.loads(p.stdout)
        assert shown['fingerprint'] == fingerprint and shown['algorithm'] == 'RSA-OAEP-256' and shown['wrapped'] == 'AQID', shown
        assert len(shown['thumbprint']) == 43 and len(shown['arcs_fingerprint']) == 64, shown
        assert f"it was a recipient of volume '{ID}' already" in p.stderr
        assert [r['label'] for r in json.loads(verb('list', '--output', 'json').stdout)] == ['again']
        assert fingerprint in verb('list').stdout
        assert 'is no recipient' in verb('remove', '0' * 64, code=1).stderr
        p = verb('remove', fingerprint)
        assert 'has a new storage key, wrapped for those who stay' in p.stderr and 'copy of the volume' in p.stderr, p.stderr


def recipients_of_a_device(b):
    """What a user's device lends and brings travels whole, and isn't quoted."""
    def verb(*words, code=0):
        return b.run(*words, '--admin-socket', b.admin, code=code)
    public, wrapped = os.path.join(b.root, 'device.pub'), os.path.join(b.root, 'wrapped')
    lent, brought, bad = (os.path.join(b.root, name) for name in ('lent.json', 'brought.json', 'bad.json'))
    private = os.path.join(b.root, 'device')
    subprocess.run(['openssl', 'genpkey', '-algorithm', 'RSA', '-out', private], check=True, capture_output=True)
    subprocess.run(['openssl', 'pkey', '-in', private, '-pubout', '-out', public], check=True)
    session = {'session': 'AAAA', 'serverKey': 'k:1', 'fingerprint': 'f' * 64}
    write(lent, json.dumps(session))
    forms = json.dumps([{'fingerprint': 'f' * 64, 'wrapped': 'A' * 3000}])
    write(brought, json.dumps({**session, 'commitment': 'c' * 64, 'recipients': forms}))
    write(bad, '{"session": "SECRET"')
    with b.node():
        write(wrapped, 'QUJD\r\n')
        p = verb('recipient', 'add', ID, '--key', public, '--wrapped', wrapped, '--secrets', lent, '--output', 'json')
        shown = json.loads(p.stdout)
        assert shown['wrapped'] == 'QUJD', shown
        assert [r['label'] for r in json.loads(verb('recipient', 'list', ID, '--secrets', lent, '--output', 'json').stdout)] == ['lent']
        both = ('--secrets', lent, '--new-secrets', brought, '--output', 'json')
        assert json.loads(verb('recipient', 'remove', ID, shown['fingerprint'], *both).stdout)['key_version'] == 4 + 30 + 500
        assert json.loads(verb('volume', 'rotate-key', ID, *both).stdout)['key_version'] == 3 + 30 + 500
        for words in (('recipient', 'list', ID, '--secrets', bad), ('recipient', 'remove', ID, 'f' * 64, '--new-secrets', bad),
                      ('volume', 'rotate-key', ID, '--new-secrets', bad), ('recipient', 'add', ID, '--key', public, '--secrets', bad)):
            p = verb(*words, code=1)
            assert f"{words[-2]}: '{bad}' is no JSON object of texts" in p.stderr and 'SECRET' not in p.stdout + p.stderr, p
        write(brought, json.dumps({'recipients': 'x' * 8192}))
        assert 'longer than 8192 bytes' in verb('volume', 'rotate-key', ID, '--new-secrets', brought, code=1).stderr
        for text in ('', '\n', 'SECRET\nSECRET', 'SECRET\0x'):
            write(wrapped, text)
            p = verb('recipient', 'add', ID, '--key', public, '--wrapped', wrapped, code=1)
            assert 'is no line of base64' in p.stderr and 'SECRET' not in p.stderr, p
        os.unlink(wrapped)
        assert '--wrapped' in verb('recipient', 'add', ID, '--key', public, '--wrapped', wrapped, code=1).stderr


def unlock_failures(b):
    sentence(b.run(*b.unlock('--yes'), code=1), f"connect to coffer-node at '{b.admin}': No such file or directory")
    p = b.run('volume', 'unlock-key', '../etc', '--reason', 'x', '--admin-socket', b.admin, '--yes', code=1)
    assert "'../etc'" in p.stderr, p.stderr
    with b.node():
        p = b.run(*b.unlock('--yes', '--reason', 'fail:FAILED_PRECONDITION'), code=1)
        assert 'failed as asked' in p.stderr and p.stdout == '', p
        p = b.run(*b.unlock(), code=1)
        sentence(p, 'there is no terminal to confirm on: use --yes')
        assert p.stdout == ''


def unlock_on_terminal(b):
    with b.node():
        shown, code = on_terminal([CTL, *b.unlock()], ID)
        assert code == 0 and f'passphrase of {ID}\r\n' in shown, (code, shown)
        for wrong in ('yes', '', ID[:-1], ID + 'x'):
            shown, code = on_terminal([CTL, *b.unlock()], wrong)
            assert code == 1 and 'passphrase of fast' not in shown, (wrong, shown)
            assert 'not confirmed: nothing was written' in shown


def unlock_from_another_pid_namespace(b):
    unshare = shutil.which('unshare')
    enter = [unshare, '--pid', '--fork', '--mount-proc'] + ([] if os.geteuid() == 0 else ['--map-root-user'])
    if unshare is None:
        raise Skip('there is no unshare(1)')
    tried = subprocess.run([*enter, 'true'], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        raise Skip(f'no pid namespace can be made here (a chroot?): {tried.stderr.strip()}')
    with b.node():
        p = subprocess.run([*enter, CTL, *b.unlock('--yes')], capture_output=True, text=True, check=False)
        assert p.returncode == 1 and p.stdout == '' and 'coffer-node is in another pid namespace' in p.stderr, p


TESTS = [usage_errors, help_texts, config_good, config_bad, pool_init_once, pool_init_owner, a_full_folder_changes_no_hands,
         pool_init_refusals, operand_anywhere, list_empty,
         list_without_pool, list_and_show, show_absent, unreadable_records, names_cannot_drive_the_terminal,
         errors_cannot_drive_the_terminal, output_that_fails,
         unlock_into_pipe, unlock_into_file, unlock_failures, rotate_key, recipients, recipients_of_a_device,
         unlock_on_terminal, unlock_from_another_pid_namespace]

sys.exit(ctllib.main(TESTS))
