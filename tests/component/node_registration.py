#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-node makes itself known to a played kubelet: order, answers, refusals, its socket taken away, killed at each point.
TAP on stdout; no root."""
import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
import caselib  # noqa: E402
import h2  # noqa: E402
from caselib import stop, wait_for  # noqa: E402

CALL = caselib.program('csi-call')
SERVICE = 'pluginregistration.Registration'
POINTS = ('csi:server:bound', 'csi:server:published', 'csi:server:removed')


class Node:
    """coffer-node and the directory in which kubelet would look."""

    def __init__(self, root):
        self.root, self.process = root, None
        self.registry, self.fault = self.path('plugins_registry'), self.path('fault')
        for folder in (self.registry, self.fault, self.path('pool')):
            os.mkdir(folder, 0o700)
        self.csi, self.reg = self.path('csi.sock'), os.path.join(self.registry, 'csi.coffer.dev-reg.sock')
        self.log_path, self.config = self.path('log'), self.path('config.json')
        caselib.write(self.config, caselib.configuration(self.path('pool'), self.path('key')))

    def path(self, name):
        return os.path.join(self.root, name)

    def argv(self, *more, csi=None):
        return [caselib.program('coffer-node'), '--endpoint', 'unix://' + (csi or self.csi), '--admin-endpoint',
                (csi or self.csi) + '.admin', '--config', self.config, '--keyd-socket', self.path('keyd.sock'),
                '--device-dir', self.path('dev'), '--node-id', 'n1', '--host-network', '--registration', self.reg, *more]

    def spawn(self, *more):
        self.process = caselib.spawn(self.argv(*more), self.log_path, env=dict(os.environ, COFFER_FAULT_DIR=self.fault))

    def start(self, *more):
        self.spawn(*more)
        wait_for(lambda: self.info() is not None, 'an answer to GetInfo', self.process, self.log_path)

    def arm(self, what):
        caselib.write(os.path.join(self.fault, 'coffer-node.arm'), what)

    def disarm(self):
        for name in os.listdir(self.fault):
            with contextlib.suppress(FileNotFoundError):  # a process that goes on takes its own away
                os.unlink(os.path.join(self.fault, name))

    def paused(self):
        return os.path.exists(os.path.join(self.fault, 'coffer-node.paused'))

    def call(self, path, method, request=None, code=0):
        p = caselib.run([CALL, path, method, json.dumps(request or {}), '--timeout', '20'], None)
        assert code in (None, p.returncode), (method, p.returncode, p.stderr)
        return json.loads(p.stdout) if p.returncode == 0 else None

    def info(self):
        return self.call(self.reg, SERVICE + '/GetInfo', code=None) if os.path.exists(self.reg) else None

    def notify(self, registered, error=''):
        return self.call(self.reg, SERVICE + '/NotifyRegistrationStatus', {'plugin_registered': registered, 'error': error})

    def lives(self):
        assert self.process.poll() is None, self.log()[-2000:]
        assert self.call(self.csi, 'Probe') == {'ready': True}

    def log(self):
        return caselib.read(self.log_path)

    def comes_back(self, times):
        """The socket was made again so many times so far, and it is served."""
        wait_for(lambda: self.log().count('"a socket was made again"') == times and self.info() is not None, 'a new socket',
                 self.process, self.log_path)


@contextlib.contextmanager
def node():
    with caselib.folder('reg.') as root:
        n = Node(root)
        try:
            yield n
        finally:
            n.disarm()
            if n.process is not None:
                caselib.end(n.process)


def listener(path):
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen(8)
    return s


def the_csi_socket_serves_before_kubelet_can_see_the_other(n):
    n.arm('pause csi:server:bound')
    n.spawn()
    wait_for(n.paused, 'the pause', n.process, n.log_path)
    n.lives()
    assert not [x for x in os.listdir(n.registry) if not x.startswith('.') and not x.endswith('.lock')], os.listdir(n.registry)
    n.disarm()
    wait_for(lambda: n.info() is not None, 'an answer to GetInfo', n.process, n.log_path)
    assert stat.S_IMODE(os.stat(n.reg).st_mode) == 0o600
    assert sorted(os.listdir(n.registry)) == ['csi.coffer.dev-reg.sock', 'csi.coffer.dev-reg.sock.lock']


def kubelet_is_told_type_name_endpoint_and_versions(n):
    n.start()
    want = {'type': 'CSIPlugin', 'name': 'csi.coffer.dev', 'endpoint': n.csi, 'supported_versions': ['1.0.0']}
    assert n.info() == want, n.info()
    assert n.call(n.csi, 'GetPluginInfo')['name'] == want['name']
    assert stop(n.process) == 0
    host = '/var/lib/kubelet/plugins/csi.coffer.dev/csi.sock'
    n.start('--registration-endpoint', host, '--driver-name', 'x.example.org')
    assert n.info() == {**want, 'name': 'x.example.org', 'endpoint': host}, n.info()


def each_restart_of_kubelet_asks_again(n):
    n.start()
    for _ in range(20):
        assert n.info()['type'] == 'CSIPlugin'
        assert n.notify(True) == {}
    n.lives()
    assert n.log().count('"kubelet registered the driver"') == 20


def a_first_refusal_ends_the_process_with_kubelet_s_reason(n):
    n.start()
    why = 'plugin name csi.coffer.dev is registered already ' + 'x' * 700  # longer than CSI's strings may be
    assert n.notify(False, why) == {}
    assert n.process.wait(caselib.PATIENCE) == 1
    assert why in n.log() and 'this process ends' in n.log(), n.log()
    assert not os.path.exists(n.reg) and not os.path.exists(n.csi)


def a_later_refusal_is_said_and_volumes_stay_served(n):
    n.start()
    n.notify(True)
    n.notify(False, 'the API server is away')
    assert 'the API server is away' in n.log() and 'kubelet tries again' in n.log()
    n.lives()
    n.notify(True)
    assert stop(n.process) == 0


def sigterm_takes_the_driver_from_kubelet_first(n):
    n.start()
    n.notify(True)
    n.arm('pause csi:server:removed')
    n.process.send_signal(signal.SIGTERM)
    wait_for(n.paused, 'the pause', n.process, n.log_path)
    assert not os.path.exists(n.reg)
    n.lives()  # calls that kubelet has begun are still answered
    n.disarm()
    assert n.process.wait(caselib.PATIENCE) == 0
    assert os.listdir(n.registry) == ['csi.coffer.dev-reg.sock.lock']


def a_dead_process_s_socket_is_replaced(n):
    n.start()
    n.process.kill()
    n.process.wait()
    assert stat.S_ISSOCK(os.stat(n.reg).st_mode)
    n.start()


def a_live_one_is_not_stolen(n):
    n.start()
    inode = os.stat(n.reg).st_ino
    p = caselib.run(n.argv(csi=n.path('other.sock')), 1)
    assert f"another process already serves '{n.reg}'" in p.stderr, p.stderr
    assert os.stat(n.reg).st_ino == inode and n.info()
    assert stop(n.process) == 0
    with listener(n.reg):  # somebody who takes no lock
        inode = os.stat(n.reg).st_ino
        p = caselib.run(n.argv(), 1)
        assert f"another process already serves '{n.reg}', without its lock file" in p.stderr, p.stderr
        assert os.stat(n.reg).st_ino == inode


def a_socket_that_is_taken_away_comes_back(n):
    n.start()
    for times in range(1, 4):
        os.unlink(n.reg)
        n.comes_back(times)
    shutil.rmtree(n.registry)  # kubelet's directory, lock file and all
    wait_for(lambda: "can't be made again now" in n.log(), 'a word about it', n.process, n.log_path)
    n.lives()
    os.mkdir(n.registry, 0o700)
    n.comes_back(4)
    assert n.log().count("can't be made again now") == 1, 'each reason once'
    assert stop(n.process) == 0
    assert not os.path.exists(n.reg)


def somebody_else_s_socket_in_its_place_stays(n):
    n.start()
    os.unlink(n.reg)
    with listener(n.reg):
        inode = os.stat(n.reg).st_ino
        wait_for(lambda: 'without its lock file' in n.log(), 'a word about it', n.process, n.log_path)
        n.lives()
        assert os.stat(n.reg).st_ino == inode
    n.comes_back(1)  # the other one is dead now
    os.unlink(n.reg)
    with listener(n.reg):
        inode = os.stat(n.reg).st_ino
        assert stop(n.process) == 0
        assert os.stat(n.reg).st_ino == inode, 'the end must not take it away either'


def killed_at_any_point_it_registers_when_started_again(n):
    for point in POINTS:
        n.arm('kill ' + point)
        n.spawn()
        if point == 'csi:server:removed':
            wait_for(lambda: n.info() is not None, 'an answer to GetInfo', n.process, n.log_path)
            n.process.send_signal(signal.SIGTERM)
        assert n.process.wait(caselib.PATIENCE) == -signal.SIGKILL, point
        n.disarm()
        n.start()
        assert sorted(os.listdir(n.registry)) == ['csi.coffer.dev-reg.sock', 'csi.coffer.dev-reg.sock.lock'], point
        n.notify(True)
        assert stop(n.process) == 0
    n.start()
    n.arm('kill node:registration:notified')
    caselib.run([CALL, n.reg, SERVICE + '/NotifyRegistrationStatus', '{"plugin_registered": true}', '--timeout', '20'], 14)
    assert n.process.wait(caselib.PATIENCE) == -signal.SIGKILL
    n.disarm()
    n.start()


def bad_bytes_are_refused_and_cost_nothing(n):
    n.start()
    path = f'/{SERVICE}/NotifyRegistrationStatus'
    with h2.Connection(n.reg) as c:
        for body, word in ((b'\x12\xff', 'not a well-formed'), (b'\x0a\x01x', 'not a well-formed'),
                           (h2.field(2, b'a\0b'), 'NUL'), (h2.field(2, b'\xff'), 'UTF-8'),
                           (h2.field(2, b'x' * 5000), 'error is longer than 4096 bytes')):
            status, why = c.call(path, body)
            assert status == 3 and word in why, (body[:20], status, why)
        assert c.call('/csi.v1.Identity/Probe', b'')[0] == 12, 'only registration is served there'
    n.lives()
    assert n.info() and 'refused to register' not in n.log()


TESTS = [the_csi_socket_serves_before_kubelet_can_see_the_other, kubelet_is_told_type_name_endpoint_and_versions,
         each_restart_of_kubelet_asks_again, a_first_refusal_ends_the_process_with_kubelet_s_reason,
         a_later_refusal_is_said_and_volumes_stay_served, sigterm_takes_the_driver_from_kubelet_first,
         a_dead_process_s_socket_is_replaced, a_live_one_is_not_stolen, a_socket_that_is_taken_away_comes_back,
         somebody_else_s_socket_in_its_place_stays, killed_at_any_point_it_registers_when_started_again,
         bad_bytes_are_refused_and_cost_nothing]

sys.exit(caselib.main(TESTS, node))
