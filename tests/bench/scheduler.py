#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scheduler.py: coffer-scheduler's bookkeeping for 1,000 and 100 VMs with the stub driver (which only the test build has, so this
is not the release's optimisation): what a find costs the processor, how long it takes, and the process's memory. Finds go one after
the other over one connection."""
import os
import secrets
import socket
import statistics
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '../component'))
from benchlib import Row  # noqa: E402

CLOUDS, FINDS, CPU_GOAL_MS, RSS_GOAL_MIB = 1000, 10000, 0.2, 16
TICK = os.sysconf('SC_CLK_TCK')


def facts(n, devices):
    """Half of them run, half are locked."""
    def device(name):
        return {'name': name, 'fingerprint': secrets.token_hex(32), 'algorithm': 'RSA-OAEP-256', 'label': 'phone',
                'public_key': 'A' * 560, 'wrapped': 'B' * 512}
    clouds = {}
    for i in range(n):
        name = secrets.token_hex(32)
        clouds[name[:32]] = {'volume': f'n1.{name[:32]}', 'uuid': '6ba7b810-9dad-41d1-80b4-00c04fd430c8', 'commitment': '0' * 64,
                             'node': 'n1', 'open': i % 2 == 0, 'vm': i % 2 == 0, 'ever_opened': True,
                             'devices': [device(name if k == 0 else secrets.token_hex(32)) for k in range(devices)]}
    return clouds


def cpu_us(pid):
    """Of all its threads, to the nanosecond: schedstat's first figure."""
    total = 0
    for task in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{task}/schedstat', encoding='ascii') as f:
            total += int(f.read().split()[0])
    return total / 1000


def rss_kib(pid):
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('VmRSS'))


def finds(path, names):
    """How long each took, in µs."""
    took = []
    with socket.socket(socket.AF_UNIX) as c:
        c.connect(path)
        for i in range(FINDS):
            request = f'GET /v1/clouds/{names[i % len(names)]} HTTP/1.1\r\nHost: x\r\n\r\n'.encode()
            began = time.perf_counter()
            c.sendall(request)
            answer = c.recv(65536)
            took.append((time.perf_counter() - began) * 1e6)
            assert answer.startswith(b'HTTP/1.1 200'), answer[:200]
    return took


def idle_rss(n, devices, sees):
    """KiB of a process that nobody asks. sees: whether its rounds get what the stub has."""
    import caselib  # pylint: disable=import-outside-toplevel
    import schedulerlib  # pylint: disable=import-outside-toplevel
    with tempfile.TemporaryDirectory() as folder:
        s = schedulerlib.Scheduler(folder, nodes=[{'name': 'n1', 'memory': 1 << 50, 'storage': 1 << 60}])
        s.control(**({} if sees else {'fail': {'each': {'code': 'UNAVAILABLE', 'message': 'not now'}}}))
        caselib.write(s.file('state.json'), facts(n, devices))
        s.start(fresh=False)
        try:
            time.sleep(7)  # some rounds
            return rss_kib(s.process.pid)
        finally:
            s.kill()


def one(n, devices, folder):
    import caselib  # pylint: disable=import-outside-toplevel
    import schedulerlib  # pylint: disable=import-outside-toplevel
    s = schedulerlib.Scheduler(folder, nodes=[{'name': 'n1', 'memory': 1 << 50, 'storage': 1 << 60}],
                               stub={'control': os.path.join(folder, 'none')})
    clouds = facts(n, devices)
    caselib.write(s.file('state.json'), clouds)
    s.start()
    try:
        time.sleep(5)  # some rounds
        pid, rss = s.process.pid, rss_kib(s.process.pid)
        names = [d['name'] for c in clouds.values() for d in c['devices']]
        began, at = time.monotonic(), cpu_us(pid)
        time.sleep(10)
        idle = (cpu_us(pid) - at) / (time.monotonic() - began)  # the rounds, per second
        finds(s.socket, names)  # thrown away
        began, at = time.monotonic(), cpu_us(pid)
        took = sorted(finds(s.socket, names))
        each = (cpu_us(pid) - at - idle * (time.monotonic() - began)) / FINDS
        return each, took, rss, rss_kib(pid), idle
    finally:
        s.kill()


def bench(build):
    os.environ['COFFER_BIN'] = os.path.join(build, 'test')
    import caselib  # pylint: disable=import-outside-toplevel
    caselib.BIN = os.environ['COFFER_BIN']
    results = {}
    for n in (CLOUDS // 10, CLOUDS):
        with tempfile.TemporaryDirectory() as folder:
            results[n] = one(n, 1, folder)
    (small, *_), (each, took, _, after, idle) = results[CLOUDS // 10], results[CLOUDS]
    yield Row(f'CPU per find, {CLOUDS:,} VMs', f'{each:.1f} µs', f'{small:.1f} µs ({CLOUDS // 10} VMs)', [each / small], None)
    yield Row(f'CPU per find, {CLOUDS:,} VMs', f'{each / 1000:.4f} ms', f'{CPU_GOAL_MS} ms', [each / 1000 / CPU_GOAL_MS], 1)
    empty = idle_rss(0, 1, True)
    for devices in (1, 2):
        whole, stub = idle_rss(CLOUDS, devices, True), idle_rss(CLOUDS, devices, False)
        mib = (whole - (stub - empty)) / 1024
        yield Row(f'idle RSS, {CLOUDS:,} VMs, {devices} device{"s" * (devices > 1)} each, less what the stub keeps', f'{mib:.1f} MiB',
                  f'{RSS_GOAL_MIB} MiB', [mib / RSS_GOAL_MIB], 1)
        yield (f'# {whole / 1024:.1f} MiB in all, of which the stub\'s own facts {(stub - empty) / 1024:.1f}; '
               f'{empty / 1024:.1f} without any cloud')
    yield (f'# a find as its client sees it: median {statistics.median(took):.0f} µs, p99 {took[int(len(took) * 0.99)]:.0f} µs; '
           f'{after / 1024:.1f} MiB after {2 * FINDS:,} finds; the rounds take {idle / 10000:.2f} % of a processor')


if __name__ == '__main__':
    for r in bench(os.path.abspath(sys.argv[1])):
        print(r.text() if isinstance(r, Row) else r, flush=True)
