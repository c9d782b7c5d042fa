#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-keyd as a real process: its command line, what it refuses to start with, its socket and sandbox, signals, counters
and audit lines. TAP on stdout. Needs no root; the part that needs a second uid says so when it can't run. Beside it:
keyd_keys.py (what it answers), keyd_wire.py (what ends a connection)."""
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys

import keydlib
from caselib import ROOT, Skip, end, keyd_flags, read, run, sanitized, wait_for, write, write_key
from keydlib import (BINDING, DESTROY, KEYD, SERVER_KEY, STATUS, UUID, VOLUME, Client, Keyd, frame, mint, new_key, open_key, pipe, status,
                     unwrap, wrap_for)


def help_and_version(root):
    p = run([KEYD, '--help'])
    assert '--insecure-file-kms' in p.stdout, p
    p = run([KEYD, '--version'])
    assert re.fullmatch(r'coffer-keyd \d+\.\d+\.\d+\n', p.stdout), p


def wrong_flags_have_one_sentence(root):
    base = ['--peer', '0:0', '--allow', 'MINT']
    cases = [
        (['--nonsense'], "coffer-keyd: unknown flag '--nonsense' (see --help)"),
        (['--peer', 'root', '--allow', 'MINT'], "coffer-keyd: --peer 'root': not USER:GROUP, by number or name"),
        (['--allow', 'MINT'], 'coffer-keyd: --peer is needed: the USER:GROUP that may connect'),
        (['--peer', '0:0'], 'coffer-keyd: --allow is needed: the operations to answer (MINT, UNWRAP, DESTROY, WRAP_FOR, UNWRAP_CLIENT, '
         'SERVER_KEY)'),
        (['--peer', '0:0', '--allow', 'REWRAP'],
         "coffer-keyd: --allow: 'REWRAP' is not an operation (MINT, UNWRAP, DESTROY, WRAP_FOR, UNWRAP_CLIENT, SERVER_KEY, STATUS)"),
        (base + ['more'], "coffer-keyd: unexpected argument 'more'"),
        (base + ['--idle-timeout-ms', '0'], 'coffer-keyd: --idle-timeout-ms must be more than 0'),
    ]
    for argv, want in cases:
        assert run([KEYD, *argv], 2).stderr == want + '\n', argv


def start_refusals(root):
    def refused(want, **kw):
        k = Keyd(root, **kw)
        assert k.p.wait(timeout=60) == 1, k.log()
        assert want in k.log(), k.log()
        assert not os.path.exists(k.path) or not stat.S_ISSOCK(os.lstat(k.path).st_mode), 'a socket was made'
    master = os.path.join(root, 'master')
    refused("key service 'dev' is insecure (file://): it needs --insecure-file-kms", insecure=False)
    os.chmod(master, 0o640)
    refused(f"master key '{master}' must have mode 0600, it has 0640")
    os.chmod(master, 0o600)
    os.truncate(master, 31)
    refused(f"master key '{master}' must hold exactly 32 bytes, it holds 31")
    os.unlink(master)
    refused(f"open master key '{master}': No such file or directory")
    write_key(master)
    write(os.path.join(root, 'keyd.sock'), 'mine')
    refused('exists and is not a socket')
    os.unlink(os.path.join(root, 'keyd.sock'))


def the_lifeline_ends_it(root):
    r, w = os.pipe()
    flags = keyd_flags(os.path.join(root, 'config.json'), os.path.join(root, 'keyd.sock'), 'UNWRAP')
    log = os.path.join(root, 'log')
    with open(log, 'wb') as out:
        p = subprocess.Popen([KEYD, *flags, '--lifeline', str(r)], pass_fds=[r], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    os.close(r)
    try:
        wait_for(lambda: 'coffer-keyd is ready' in read(log), 'it is ready', p, log)
        assert p.poll() is None
        os.close(w)
        assert p.wait(60) == 0, read(log)
    finally:
        end(p)
    assert not os.path.exists(os.path.join(root, 'keyd.sock'))
    with open(os.path.join(root, 'config.json'), 'rb') as f:
        for fd in (f.fileno(), 999):
            p = run([KEYD, *flags, '--lifeline', str(fd)], 1, pass_fds=[f.fileno()])
            assert f"--lifeline {fd} isn't the read end of a pipe" in p.stderr, p


def missing_socket_directory(root):
    flags = keyd_flags(os.path.join(root, 'config.json'), os.path.join(root, 'none/keyd.sock'), 'MINT')
    assert 'No such file or directory' in run([KEYD, *flags], 1).stderr


def closed_descriptors(root):
    path = os.path.join(root, 'keyd.sock')
    argv = [KEYD, *keyd_flags(os.path.join(root, 'config.json'), path, 'MINT')]

    def listens():
        try:
            Client(path).s.close()
            return True
        except (FileNotFoundError, ConnectionRefusedError):  # not bound yet, or not listening yet
            return False
    p = subprocess.Popen(['sh', '-c', 'exec "$@" 2>&-', 'sh', *argv])
    try:
        wait_for(listens, 'coffer-keyd listens', p)
        with Client(path) as c:
            assert c.ask(mint()).code == 'OK'
        assert os.path.getsize(path + '.lock') == 0, 'the log went into the lock file'
    finally:
        end(p)


def socket_mode_and_warning(root):
    with Keyd(root) as k:
        assert stat.S_IMODE(os.stat(k.path).st_mode) == 0o660
        assert 'INSECURE key service' in k.log()
        s = status(k)
        assert s['insecure'] is True and s['wire'] == 1 and s['allow'] == ['MINT', 'UNWRAP', 'STATUS'], s
        assert s['kms'] == [{'name': 'dev', 'kind': 'file', 'insecure': True}], s


def other_uid(root):
    """keyd as an unprivileged uid of its own; root is the only allowed peer."""
    if os.geteuid() != 0:
        raise Skip('needs root to start keyd under another uid')
    os.chown(root, 54321, 54321)
    os.chmod(root, 0o755)
    os.chown(os.path.join(root, 'master'), 54321, 54321)
    with Keyd(root, uid=54321) as k, k.client() as c:
        assert open_key(c, new_key(c))
        text = read(f'/proc/{k.p.pid}/status')
        assert re.search(r'^CapEff:\s*0+$', text, re.M) and re.search(r'^Uid:\s*54321\s', text, re.M)


def as_peer(uid, gid, what):
    """What `what()` says in a process of that user."""
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        try:
            said = what()
        except Exception as e:  # the parent tells
            said = repr(e)
        os.write(w, str(said).encode())
        os._exit(0)
    os.close(w)
    with open(r, encoding='utf-8') as f:
        said = f.read()
    os.waitpid(child, 0)
    return said


def unit_flags():
    """--allow and --peer of the host's unit; its users are these numbers here."""
    argv = shlex.split(read(f'{ROOT}/dist/systemd/coffer-keyd.service.in').partition('ExecStart=')[2].partition('$FLAGS')[0])
    given = [(flag, value) for flag, value in zip(argv, argv[1:]) if flag in ('--allow', '--peer')]
    peers = [v.replace('root:root', '0:0').replace('coffer-controller:coffer', '54321:54322') for f, v in given if f == '--peer']
    return dict(given)['--allow'], peers


def a_peer_asks_for_its_own_operations_alone(root):
    """With the unit's own flags: one coffer-keyd serves coffer-controller, which opens no volume, and coffer-node."""
    if os.geteuid() != 0:
        raise Skip('needs root to connect as another user')
    os.chmod(root, 0o755)
    allow, (first, *peers) = unit_flags()
    more = [flag for peer in [*peers, '54321:7'] for flag in ('--peer', peer)]
    with Keyd(root, *more, peer=first, allow=allow) as k, k.client() as c:
        os.chmod(k.path, 0o666)
        key = new_key(c)
        assert open_key(c, key), 'coffer-node'

        def ask(data, fds=()):
            with k.client() as mine:
                reply = mine.ask(data, fds)
                return f'{reply.code} {reply.message}'

        def steal():
            with pipe() as (_, w):
                return ask(unwrap(key), [w])

        refused = 'PERMISSION_DENIED uid 54321 may not ask this coffer-keyd for'
        assert as_peer(54321, 54322, lambda: ask(mint())) == 'OK '
        assert as_peer(54321, 54322, lambda: ask(frame(DESTROY, 5000, *BINDING))) == 'OK '
        assert as_peer(54321, 54322, lambda: ask(frame(STATUS, 1000))) == 'OK '
        assert as_peer(54321, 54322, steal) == f'{refused} UNWRAP'
        assert as_peer(54321, 54322, lambda: ask(frame(SERVER_KEY, 5000, 'dev'))) == f'{refused} SERVER_KEY'
        assert as_peer(54321, 54322, lambda: ask(wrap_for(key, 'RSA-OAEP-256', b'x'))).startswith('PERMISSION_DENIED this coffer-keyd ')
        assert as_peer(54321, 7, steal) == 'OK ', 'a peer without operations has all'
        assert 'result="PERMISSION_DENIED"' in k.log(), 'an audit line'


def sandboxed(root):
    with Keyd(root) as k:
        text = read(f'/proc/{k.p.pid}/status')
        for name in ('CapEff', 'CapPrm', 'CapInh', 'CapAmb'):
            assert re.search(rf'^{name}:\s*0+$', text, re.M), name
        assert re.search(r'^NoNewPrivs:\s*1$', text, re.M)
        if not sanitized('coffer-keyd'):
            assert re.search(r'^Seccomp:\s*2$', text, re.M), 'no seccomp filter'
        assert re.search(r'^Max core file size\s+0\s+0', read(f'/proc/{k.p.pid}/limits'), re.M)


def second_instance(root):
    with Keyd(root) as k, k.client() as c:
        second = Keyd(root, socket_name='keyd.sock')
        assert second.p.wait(timeout=60) == 1
        assert f"another coffer-keyd serves '{k.path}'" in k.log()
        assert c.ask(mint()).code == 'OK'
        with k.client() as other:
            assert other.ask(mint()).code == 'OK', 'the socket is still the first one'


def killed_and_restarted(root):
    with Keyd(root) as k:
        k.p.kill()
        k.p.wait()
        assert os.path.exists(k.path)
    with Keyd(root) as k, k.client() as c:
        assert c.ask(mint()).code == 'OK'


def stop_unlinks(root):
    for number in (signal.SIGTERM, signal.SIGINT):
        with Keyd(root) as k, k.client() as c:
            assert c.ask(mint()).code == 'OK'
            k.p.send_signal(number)
            assert k.p.wait(timeout=60) == 0, number
            assert not os.path.exists(k.path)
            assert c.ended()


def counters_on_signal(root):
    with Keyd(root) as k, k.client() as c:
        c.ask(mint())
        c.ask(mint(deadline=0))
        k.p.send_signal(signal.SIGUSR1)
        k.wait_log('requests="MINT OK=1, MINT DEADLINE_EXCEEDED=1"')
        assert c.ask(frame(STATUS, 1000)).code == 'OK', 'it goes on'
        s = status(k)
        none = {'UNWRAP': {}, 'DESTROY': {}, 'WRAP_FOR': {}, 'UNWRAP_CLIENT': {}, 'SERVER_KEY': {}}
        assert s['counters']['requests'] == {**none, 'MINT': {'OK': 1, 'DEADLINE_EXCEEDED': 1}, 'STATUS': {'OK': 1}}, s


def audit_lines(root):
    with Keyd(root, '--log-format', 'json') as k, k.client() as c:
        key = new_key(c)
        open_key(c, key, use='break-glass')
        with pipe() as (_, w):
            c.ask(unwrap(key, ('dev', 'team-b', VOLUME, UUID)), [w])
        k.wait_log('"tenant":"team-b"')
        lines = [json.loads(line) for line in k.log().splitlines()]
        audit = [line for line in lines if line['msg'] == 'audit']
        got = [(a['op'], a['use'], a['tenant'], a['volume_id'], a['kms'], a['peer_uid'], a['result']) for a in audit]
        uid = os.geteuid()
        assert got == [('MINT', '', 'team-a', VOLUME, 'dev', uid, 'OK'), ('UNWRAP', 'break-glass', 'team-a', VOLUME, 'dev', uid, 'OK'),
                       ('UNWRAP', 'stage', 'team-b', VOLUME, 'dev', uid, 'FAILED_PRECONDITION')], got


TESTS = [help_and_version, wrong_flags_have_one_sentence, start_refusals, the_lifeline_ends_it, missing_socket_directory,
         closed_descriptors, socket_mode_and_warning, other_uid, a_peer_asks_for_its_own_operations_alone, sandboxed, second_instance,
         killed_and_restarted, stop_unlinks, counters_on_signal, audit_lines]

sys.exit(keydlib.main(TESTS))
