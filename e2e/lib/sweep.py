# SPDX-License-Identifier: Apache-2.0
"""Kill sweeps. A `Job` is one call with what must hold before and after it. Its points are enumerated by a
recorded run, then the program is killed at each of them (COFFER_SAMPLE=4: at a fixed-seed quarter), the same
call is repeated until OK, and the state is checked. Two killers: the program kills itself at its N-th fault point
(common/fault.h), or strace kills coffer-crypt at its N-th system call of a kind."""
import contextlib
import dataclasses
import os
import random
import time
from collections.abc import Callable

from fixture import CallError, wait_for

RETRY_SECONDS = 900
SAMPLE = int(os.environ.get('COFFER_SAMPLE', '1'))
# where a story asks: sweeps with one of these words in their names (`expand+system`: with both)
ONLY = os.environ.get('COFFER_ONLY', '').split()


@dataclasses.dataclass
class Job:
    name: str
    before: Callable  # brings the machine into the state the call starts from
    call: Callable
    check: Callable   # raises when the state after the call isn't right
    after: Callable   # takes everything down again


def asked_for(name):
    return not ONLY or any(all(part in name for part in word.split('+')) for word in ONLY)


def sampled(points):
    if SAMPLE <= 1 or len(points) <= 1:
        return points
    return sorted(random.Random(1).sample(points, max(1, len(points) // SAMPLE)))


def until_ok(call):
    """Repeats a call that a kill interrupted; only what a CO repeats is repeated."""
    end = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            return call()
        except CallError as e:
            if e.code not in ('ABORTED', 'UNAVAILABLE', 'DEADLINE') or time.monotonic() > end:
                raise
            time.sleep(0.1)


def outcome(call):
    """What a call that may be interrupted said."""
    try:
        call()
    except CallError as e:
        return str(e)
    return 'OK'


def demand_clean(coffer):
    end = time.monotonic() + 300  # an orphaned child may still hold a descriptor
    while coffer.left_over() and time.monotonic() < end:
        time.sleep(0.1)
    if coffer.left_over():
        raise RuntimeError(f'left over: {coffer.left_over()}')


class FaultKiller:
    """Kills coffer-node or coffer-controller at its own fault points."""

    def __init__(self, coffer, program):
        self.coffer, self.program, self.said = coffer, program, ''
        self.arm_file = os.path.join(coffer.fault_dir, program + '.arm')
        self.trace_file = os.path.join(coffer.fault_dir, program + '.trace')

    def daemon(self):
        return self.coffer.node if self.program == 'coffer-node' else self.coffer.controller

    def arm(self, text):
        for path in (self.arm_file, self.trace_file):
            if os.path.exists(path):
                os.unlink(path)
        with open(self.trace_file, 'w', encoding='ascii'):
            os.chmod(self.trace_file, 0o666)
        with open(self.arm_file + '.new', 'w', encoding='ascii') as f:
            f.write(text)
        os.chmod(self.arm_file + '.new', 0o644)
        os.rename(self.arm_file + '.new', self.arm_file)

    def disarm(self):
        if os.path.exists(self.arm_file):
            os.unlink(self.arm_file)

    def trace(self):
        with open(self.trace_file, encoding='ascii') as f:
            return f.read().split()

    def record(self, call):
        self.arm('record')
        call()
        self.disarm()
        return [(n, name) for n, name in enumerate(self.trace(), 1)]

    def strike(self, point, call):
        """True when the program was killed."""
        self.arm(f'kill {point[0]}')
        self.said = outcome(call)
        # the reply can be lost a moment before the process is gone
        deadline = time.monotonic() + 60
        while self.daemon().alive() and len(self.trace()) >= point[0] and time.monotonic() < deadline:
            time.sleep(0.01)
        self.disarm()
        if self.daemon().alive():
            return False
        self.daemon().process.wait()
        (self.coffer.start_node if self.program == 'coffer-node' else self.coffer.start_controller)()
        return True


class SyscallKiller:
    """Kills coffer-crypt at its N-th write, ioctl, unlink or mknod, by strace around the helper."""
    strace = 'strace -f -qq'
    action = 'signal=SIGKILL'  # what strace does there

    def __init__(self, coffer, verb, calls):
        self.coffer, self.verb, self.calls, self.said = coffer, verb, calls, ''
        self.arm_file, self.trace_file = coffer.root + '/crypt.arm', coffer.root + '/crypt.trace'

    @classmethod
    def wrapper(cls, root):
        """The program that coffer-node starts instead of coffer-crypt."""
        path = os.path.join(root, 'crypt-wrapper')
        with open(path, 'w', encoding='ascii') as f:
            f.write(f'''#!/bin/sh
export COFFER_FAULT_DIR={root}/fault
helper={root}/bin/coffer-crypt
if [ -r {root}/crypt.arm ] && read -r verb call n action <{root}/crypt.arm && [ "$verb" = "$1" ]; then
    rm -f {root}/crypt.arm
    [ "$n" != 0 ] || exec {cls.strace} -o {root}/crypt.trace -e "trace=$call" "$helper" "$@"
    echo armed >{root}/crypt.trace
    exec {cls.strace} -o {root}/crypt.trace -e "trace=$call" -e "inject=$call:$action:when=$n" "$helper" "$@"
fi
exec "$helper" "$@"
''')
        os.chmod(path, 0o755)
        return path

    def arm(self, call, n):
        if os.path.exists(self.trace_file):
            os.unlink(self.trace_file)
        with open(self.arm_file, 'w', encoding='ascii') as f:
            f.write(f'{self.verb} {call} {n} {self.action}\n')

    def record(self, call):
        self.arm(','.join(self.calls), 0)
        call()
        with open(self.trace_file, encoding='ascii', errors='replace') as f:
            lines = [line.split(None, 1)[-1] for line in f]
        points = []
        for name in self.calls:
            calls = [line for line in lines if line.startswith(name + '(')]
            points += [(n, name) for n in self.which(calls)]
        return points

    def which(self, calls):
        """Of the recorded calls of one kind: their numbers, from 1."""
        return range(1, len(calls) + 1)

    def strike(self, point, call):
        self.arm(point[1], point[0])
        self.said = outcome(call)
        wait_for('the wrapper to take its order', lambda: not os.path.exists(self.arm_file))
        with open(self.trace_file, encoding='ascii', errors='replace') as f:
            return '+++ killed by SIGKILL' in f.read()


def demand_no_stale_node(coffer):
    """Its number is the next mapping's: also when nobody repeats the call, no kill may leave one."""
    stale = set(coffer.device_nodes()) - set(coffer.mappings())
    if stale:
        raise RuntimeError(f'device nodes without their mapping: {sorted(stale)}')


def one_point(coffer, job, killer, point):
    job.before()
    if not killer.strike(point, job.call):
        raise RuntimeError(f'the point was not reached; the call said: {killer.said}')
    demand_no_stale_node(coffer)
    until_ok(job.call)
    job.check()
    job.after()
    demand_clean(coffer)


def passes_unkilled(coffer, job, killer, points):
    """One past the last point of each kind: nothing is left to kill at, so the enumeration was whole."""
    kinds = {p[1] for p in points} if isinstance(killer, SyscallKiller) else {''}
    for kind in kinds:
        last = max(p[0] for p in points if kind in ('', p[1]))
        job.before()
        if killer.strike((last + 1, kind), job.call):
            raise RuntimeError(f'there is a point {last + 1} {kind} that the recorded run did not show')
        until_ok(job.call)
        job.check()
        job.after()
        demand_clean(coffer)


def recover(coffer, job):
    """After a failed point: as clean as can be, so that the next point says something of its own."""
    for daemon, start in ((coffer.keyd, coffer.start_keyd), (coffer.node, coffer.start_node), (coffer.controller, coffer.start_controller)):
        if not daemon.alive():
            start()
    each(job.after, lambda: demand_clean(coffer))


def each(*calls):
    """All of them, whatever one of them raises."""
    for call in calls:
        with contextlib.suppress(Exception):
            call()


def recorded(job, killer, clean):
    """The points of a run that nothing kills, after which clean() finds nothing left."""
    job.before()
    points = killer.record(job.call)
    job.check()
    job.after()
    clean()
    if not points:
        raise RuntimeError('the recorded run shows no point')
    return points


def sweep(tap, coffer, job, killer):
    """All points of one job under one killer; returns how many were swept, of how many."""
    found = []
    what = f'{getattr(killer, "program", "coffer-crypt " + getattr(killer, "verb", ""))} in {job.name}'
    if not asked_for(what):
        return 0, 0
    if not tap.run(f'{what}: points are recorded', lambda: found.extend(recorded(job, killer, lambda: demand_clean(coffer)))):
        recover(coffer, job)
        return 0, 0
    chosen = sampled(found)
    print(f'# {what}: {len(found)} points, {len(chosen)} swept', flush=True)
    for point in chosen:
        if not tap.run(f'{what}, killed at {point[0]} {point[1]}', one_point, coffer, job, killer, point):
            recover(coffer, job)
    if not tap.run(f'{what}: passes unkilled after the last point', passes_unkilled, coffer, job, killer, found):
        recover(coffer, job)
    return len(chosen), len(found)
