#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""--http of the three daemons: /healthz, /metrics and nothing else; what they print is what docs/metrics.md lists, and what
promtool takes; slow, many and wrong clients; health is the process's alone. TAP on stdout; no root."""
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import caselib
from caselib import Skip, end, stop, wait_for

NOTIFY = 'pluginregistration.Registration/NotifyRegistrationStatus'
DAEMONS = ('coffer-controller', 'coffer-keyd', 'coffer-node')
SAMPLE = re.compile(r'^([a-z_]+)(?:\{(.*)\})? (\d+(?:\.\d+)?)$')
LABELS = {'program', 'version', 'method', 'code', 'le', 'phase', 'pool', 'state', 'result', 'op', 'kms', 'kind', 'insecure', 'reply'}


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Daemons:
    def __init__(self, root):
        self.root, self.processes, self.ports = root, {}, {}
        self.config, self.fault = self.path('config.json'), self.path('fault')
        for folder in (self.fault, self.path('pool'), self.path('plugins')):
            os.mkdir(folder, 0o700)
        caselib.write_key(self.path('key'))
        caselib.write(self.config, caselib.configuration(self.path('pool'), self.path('key'), default_tenant='lab'))
        caselib.run([caselib.program('cofferctl'), 'pool', 'init', 'fast', '--config', self.config])

    def path(self, name):
        return os.path.join(self.root, name)

    def argv(self, name):
        keyd = self.path('keyd.sock')
        if name == 'coffer-keyd':
            return caselib.keyd_flags(self.config, keyd, 'MINT,UNWRAP')
        if name == 'coffer-controller':
            return caselib.controller_flags(self.config, self.path('ctl.sock'), keyd)
        return ['--endpoint', 'unix://' + self.path('csi.sock'), '--admin-endpoint', 'unix://' + self.path('admin.sock'), '--config',
                self.config, '--keyd-socket', keyd, '--device-dir', self.path('dev'), '--node-id', 'n1', '--host-network',
                '--registration', self.path('plugins/r.sock'), '--crypt-helper', caselib.program('coffer-crypt')]

    def start(self, name, *more):
        for _ in range(5):  # another process may have the port by then
            self.ports[name] = free_port()
            p = caselib.spawn([caselib.program(name), *self.argv(name), '--http', f'127.0.0.1:{self.ports[name]}', *more],
                              self.path(name + '.log'), env=dict(os.environ, COFFER_FAULT_DIR=self.fault))
            self.processes[name] = p
            wait_for(lambda p=p: p.poll() is not None or self.serves(name), 'an answer', None, self.path(name + '.log'))
            if p.poll() is None:
                return p
        raise AssertionError(caselib.read(self.path(name + '.log'))[-2000:])

    def connect(self, name):
        s = socket.create_connection(('127.0.0.1', self.ports[name]), caselib.PATIENCE)
        s.settimeout(caselib.PATIENCE)
        return s

    def serves(self, name):
        with contextlib.suppress(OSError):
            return self.get(name, '/healthz') == (200, 'ok\n')
        return False

    def ask(self, name, request):
        """(status, header, body) of the answer to these bytes."""
        with self.connect(name) as s:
            s.sendall(request)
            data = b''
            while b'\r\n\r\n' not in data or len(data.partition(b'\r\n\r\n')[2]) < length(data):
                part = s.recv(65536)
                assert part, data
                data += part
        head, _, body = data.partition(b'\r\n\r\n')
        return int(head.split()[1]), head.decode(), body.decode()

    def get(self, name, path):
        status, _, body = self.ask(name, f'GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: test\r\n\r\n'.encode())
        return status, body

    def metrics(self, name):
        status, body = self.get(name, '/metrics')
        assert status == 200
        return body

    def value(self, name, sample):
        found = re.search(f'^{re.escape(sample)} (.*)$', self.metrics(name), re.M)
        return found and float(found.group(1))


def length(data):
    return int(re.search(rb'Content-Length: (\d+)', data).group(1))


@contextlib.contextmanager
def daemons():
    with caselib.folder('mon.') as root:
        d = Daemons(root)
        try:
            yield d
        finally:
            for name in os.listdir(d.fault):
                os.unlink(os.path.join(d.fault, name))
            for p in d.processes.values():
                end(p)


def work(d):
    """Something to count, in each of them."""
    for name in DAEMONS:
        d.start(name)
    call = caselib.program('csi-call')
    caselib.run([call, d.path('ctl.sock'), 'CreateVolume', '{"name": "pvc-secretname", "parameters": {"pool": "fast"}, '
                 '"capacity_range": {"required_bytes": 16777216}, "volume_capabilities": [{"mount": {}, '
                 '"access_mode": {"mode": "SINGLE_NODE_WRITER"}}]}'])
    caselib.run([call, d.path('csi.sock'), 'NodeUnstageVolume', '{"volume_id": "x.y", "staging_target_path": "/s"}'], None)
    caselib.run([call, d.path('plugins/r.sock'), NOTIFY, '{"plugin_registered": true}'])


def families(text):
    """name -> (type, help), in order; fails on what isn't the format."""
    found, current = {}, None
    for line in text.splitlines():
        if line.startswith('# HELP '):
            current, helptext = line[7:].split(' ', 1)
            assert current not in found and current.startswith('coffer_') and helptext.endswith('.'), line
            found[current] = [None, helptext]
        elif line.startswith('# TYPE '):
            assert line.split()[2] == current and found[current][0] is None, line
            found[current][0] = line.split()[3]
        else:
            sample = SAMPLE.match(line)
            assert sample and sample.group(1).startswith(current), line
            assert {x.split('=')[0] for x in re.findall(r'[a-z_]+="', sample.group(2) or '')} <= LABELS, line
    return found


def both_pages_of_every_daemon(d):
    for name in DAEMONS:
        d.start(name)
        status, head, body = d.ask(name, b'GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
        assert (status, body) == (200, 'ok\n'), (name, status, body)
        status, head, body = d.ask(name, b'GET /metrics HTTP/1.0\r\n\r\n')
        assert status == 200 and 'Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n' in head + '\r\n', head
        assert f'coffer_build_info{{program="{name}",version="' in body
        assert stop(d.processes[name]) == 0


def nothing_else_is_answered(d):
    d.start('coffer-keyd')
    for request, want in ((b'GET / HTTP/1.1\r\n\r\n', 404), (b'GET /metrics/ HTTP/1.1\r\n\r\n', 404),
                          (b'GET /../metrics HTTP/1.1\r\n\r\n', 404),
                          (b'POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n', 405), (b'HEAD /healthz HTTP/1.1\r\n\r\n', 405),
                          (b'GET http://x/metrics HTTP/1.1\r\n\r\n', 400), (b'\x16\x03\x01\x00\xff', 400),
                          (b'GET /healthz HTTP/3.0\r\n\r\n', 505), (b'GET /healthz HTTP/1.1\r\nA: ' + b'x' * 1001, 431)):
        status, _, _ = d.ask('coffer-keyd', request)
        assert status == want, (request[:40], status)
    assert d.serves('coffer-keyd')


def slow_and_many_clients_keep_no_probe_out(d):
    for name in ('coffer-keyd', 'coffer-node'):
        p = d.start(name)
        with contextlib.ExitStack() as stack:
            for i in range(60):
                s = stack.enter_context(d.connect(name))
                s.sendall(b'GET /metrics HTTP/1.1\r\n' if i % 2 else b'')
            for _ in range(5):
                assert d.serves(name)
        wait_for(lambda p=p: sum(target.startswith('socket:') for target in descriptors(p)) < 12, 'few sockets')
        assert p.poll() is None


def descriptors(p):
    """What its descriptors lead to; one that is closed meanwhile is none."""
    found = []
    for fd in os.listdir(f'/proc/{p.pid}/fd'):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f'/proc/{p.pid}/fd/{fd}'))
    return found


def what_happens_is_counted(d):
    work(d)
    assert d.value('coffer-controller', 'coffer_csi_calls_total{method="csi.v1.Controller/CreateVolume",code="OK"}') == 1
    assert d.value('coffer-controller', 'coffer_csi_call_duration_seconds_count{method="csi.v1.Controller/CreateVolume"}') == 1
    assert d.value('coffer-controller', 'coffer_controller_created_total') == 1
    assert d.value('coffer-controller', 'coffer_csi_calls_in_flight') == 0
    assert d.value('coffer-controller', 'coffer_pool_up{pool="fast"}') == 1
    assert d.value('coffer-keyd', 'coffer_keyd_requests_total{op="MINT",result="OK"}') == 1
    assert d.value('coffer-keyd', 'coffer_keyd_kms_info{kms="dev",kind="file",insecure="true"}') == 1
    assert d.value('coffer-node', 'coffer_csi_calls_total{method="csi.v1.Node/NodeUnstageVolume",code="NOT_FOUND"}') == 1
    assert d.value('coffer-node', 'coffer_node_registered') == 1
    assert d.value('coffer-node', 'coffer_node_registrations_total{result="accepted"}') == 1


def no_id_no_name_no_path(d):
    work(d)
    with open(d.path('key'), 'rb') as f:
        key = f.read()
    for name in DAEMONS:
        text = d.metrics(name)
        for word in ('secretname', 'x.y', d.root, key.hex(), '"lab"', 'team'):
            assert word not in text, (name, word)


def the_page_is_as_documented(d):
    work(d)
    rows = re.findall(r'^\| `(coffer_[a-z_]+)` \| (\w+) \| ([a-z, ]+) \| (.+?) \|$', caselib.read(caselib.ROOT, 'docs/metrics.md'), re.M)
    documented = {name: (kind, set(who.split(', ')) - {'scheduler'}, text) for name, kind, who, text in rows if who != 'scheduler'}
    seen = {}
    for program in DAEMONS:
        for name, (kind, helptext) in families(d.metrics(program)).items():
            seen.setdefault(name, (kind, set(), helptext))[1].add(program.removeprefix('coffer-'))
    assert len(rows) == len({name for name, *_ in rows}), 'a row twice'  # coffer-scheduler's: scheduler_server.py
    for name in sorted(set(seen) | set(documented)):
        assert seen.get(name) == documented.get(name), (name, seen.get(name), documented.get(name))


def prometheus_takes_it(d):
    tool = shutil.which('promtool', path=os.environ['PATH'] + ':' + os.path.join(caselib.ROOT, 'build'))
    if tool is None:
        raise Skip("promtool is not installed (Debian's package prometheus)")
    work(d)
    for name in DAEMONS:
        p = subprocess.run([tool, 'check', 'metrics'], input=d.metrics(name), capture_output=True, text=True, check=False)
        assert (p.returncode, p.stdout + p.stderr) == (0, ''), (name, p)


def health_is_not_the_pool_s_nor_the_key_service_s(d):
    """The pool is gone and coffer-keyd isn't there: nothing that a restart would mend."""
    os.rename(d.path('pool'), d.path('away'))
    for name in ('coffer-controller', 'coffer-node'):
        d.start(name)
        assert d.serves(name)
        wait_for(lambda name=name: d.value(name, 'coffer_pool_up{pool="fast"}') == 0, 'a look at the pool')
    assert caselib.run([caselib.program('csi-call'), d.path('csi.sock'), 'Probe']).stdout.strip() == '{"ready":true}'


def a_poller_that_hangs_is_unhealthy(d):
    p = d.start('coffer-node')
    caselib.write(os.path.join(d.fault, 'coffer-node.arm'), 'pause node:registration:notified')
    caller = subprocess.Popen([caselib.program('csi-call'), d.path('plugins/r.sock'), NOTIFY, '{"plugin_registered": true}'],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: d.get('coffer-node', '/healthz')[0] == 503, 'ill after half a minute', p, seconds=4 * caselib.PATIENCE)
        assert re.fullmatch(r'a gRPC poller has been at work on one event for \d+ s\n', d.get('coffer-node', '/healthz')[1])
    finally:
        os.unlink(os.path.join(d.fault, 'coffer-node.arm'))
        caller.wait()
    wait_for(lambda: d.serves('coffer-node'), 'well again', p)


def a_port_that_is_taken_is_said(d):
    d.start('coffer-keyd')
    for name in ('coffer-controller', 'coffer-node'):  # coffer-keyd has its socket's lock to lose first
        p = caselib.run([caselib.program(name), *d.argv(name), '--http', f'127.0.0.1:{d.ports["coffer-keyd"]}'], 1)
        assert f"listen on --http '127.0.0.1:{d.ports['coffer-keyd']}': Address already in use" in p.stderr, p.stderr
    for name in DAEMONS:
        p = caselib.run([caselib.program(name), *d.argv(name), '--http', 'localhost:9810'], 2)
        assert p.stderr == (f"{name}: --http 'localhost:9810' is not ADDRESS:PORT, such as 127.0.0.1:9810, [::1]:9810 or "
                            ":9810\n"), p


def it_is_answered_until_the_end(d):
    """SIGTERM while somebody scrapes: no crash."""
    for name in DAEMONS:
        p = d.start(name)
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                stack.enter_context(d.connect(name)).sendall(b'GET /metrics HTTP/1.1\r\n\r\n')
            p.send_signal(signal.SIGTERM)
            assert p.wait(caselib.PATIENCE) == 0, name


TESTS = [both_pages_of_every_daemon, nothing_else_is_answered, slow_and_many_clients_keep_no_probe_out, what_happens_is_counted,
         no_id_no_name_no_path, the_page_is_as_documented, prometheus_takes_it, health_is_not_the_pool_s_nor_the_key_service_s,
         a_poller_that_hangs_is_unhealthy, a_port_that_is_taken_is_said, it_is_answered_until_the_end]

sys.exit(caselib.main(TESTS, daemons))
