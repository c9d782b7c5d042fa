#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-controller as a process: command line, closed descriptors, a second instance, signals, what its log never holds.
TAP on stdout, no root."""
import os
import re
import signal
import subprocess
import sys

import caselib
import controllerlib
from caselib import Skip, stop, wait_for
from controllerlib import CONTROLLER_UID, MIB, as_user


def test_command_line(rig):
    binary = os.path.join(rig.bin, 'coffer-controller')

    def run(*argv, **env):
        environment = {k: v for k, v in os.environ.items() if k not in ('CSI_ENDPOINT', 'NODE_ID')}
        p = caselib.run([binary, *argv], None, env=dict(environment, **env))
        return p.returncode, p.stdout, p.stderr.strip()

    def wrong(word, *argv):
        code, _, text = run(*argv)
        assert code == 2 and '\n' not in text and word in text, (argv, code, text)

    assert re.fullmatch(r'coffer-controller \d+\.\d+\.\d+\n', run('--version')[1])
    code, text, _ = run('--help')
    assert code == 0 and '--keyd-socket' in text
    full = rig.argv()[1:]
    wrong('--endpoint')
    wrong('--frobnicate', '--frobnicate')
    wrong('stray', *full, 'stray')
    wrong('--expand', *full, '--expand', 'both')
    wrong('driver name', *full, '--driver-name', 'ends.with.1')
    wrong('node id', *full, '--node-id', 'n/1')
    wrong('absolute', *full, '--keyd-socket', '')
    wrong('absolute', *full, '--keyd-socket', 'keyd.sock')
    wrong('--log-level', *full, '--log-level', 'loud')
    wrong('none.json', *full, '--config', '/none.json')
    bad = rig.path('bad.json')
    caselib.write(bad, {'pools': {'x': {'backend': 'tape', 'path': '/x', 'kms': ['k']}}, 'kms': {'k': {'uri': 'file:///k'}}})
    wrong('tape', *full, '--config', bad)


def test_closed_descriptors(rig):
    if caselib.sanitized('coffer-controller'):
        raise Skip('gRPC is a shared library in this build, and its constructor takes a descriptor before ours runs')
    stop(rig.controller)
    rig.controller = subprocess.Popen(rig.argv(), close_fds=True, preexec_fn=lambda: [os.close(fd) for fd in range(3)],
                                      **as_user(CONTROLLER_UID))
    wait_for(rig.answers, 'an answer to Probe', rig.controller)
    for fd in range(3):
        assert os.readlink(f'/proc/{rig.controller.pid}/fd/{fd}') == '/dev/null', 'a log line would go somewhere'
    rig.restart()


def test_second_instance(rig):
    p = caselib.run(rig.argv(), 1, **as_user(CONTROLLER_UID))
    assert 'lock' in p.stderr, p.stderr
    rig.call('Probe')


def test_signals(rig):
    rig.delete(rig.create('pvc-s')['volume_id'])
    rig.thin_room()  # now what the sparse pool has promised is counted
    rig.controller.send_signal(signal.SIGUSR1)
    wait_for(lambda: re.search(r'"counters" .*created=\d+ .*deleted=\d+', rig.log()), 'the counters', rig.controller)
    assert stop(rig.controller) == 0
    assert not re.search(r'ERROR|panic|abort', rig.log())
    for name in rig.tags:
        assert re.search(fr'"pool" pool="{name}" allocate="(full|sparse)" used_percent=\d+ total_mib=\d+ .*available_mib=\d+',
                         rig.log()), rig.log()
    assert re.search(r'"pools" pools=3 over_80_percent=\d over_95_percent=\d', rig.log())
    rig.start()


def test_no_key_in_the_log(rig):
    with open(rig.path('master'), 'rb') as f:
        master = f.read()
    v = rig.create('pvc-log')
    rig.restart('--log-level', 'debug', '--log-format', 'json')
    ciphertext = rig.record(v['volume_id'])['key']['ciphertext']
    rig.expand(v['volume_id'], 40 * MIB)
    rig.delete(v['volume_id'])
    with open(rig.log_path, 'rb') as f:
        log = f.read()
    assert master not in log and master.hex().encode() not in log and ciphertext.encode() not in log
    rig.restart()


def test_every_log_level(rig):
    """What isn't logged is done all the same: it waits for its signal, and ends by it."""
    for level in ('error', 'warn', 'info', 'debug'):
        rig.restart('--log-level', level)
        rig.call('Probe')
        assert stop(rig.controller) == 0
    rig.start()


TESTS = [test_command_line, test_closed_descriptors, test_second_instance, test_signals, test_no_key_in_the_log,
         test_every_log_level]

sys.exit(controllerlib.main(TESTS))
