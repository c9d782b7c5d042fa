# SPDX-License-Identifier: Apache-2.0
"""What fails once, for sweep.py's jobs: an allocation of one program (common/fault_alloc.h), or a system call of it (strace). The call
then says one clear error or succeeds all the same, every daemon lives, and the same call works. `met` of a failer: its last point was
reached (a run needn't make as many calls as the recorded one: a daemon looks again at what others change, its threads share the work)."""
import collections
import contextlib
import itertools
import os
import re
import signal
import subprocess

from allocations import Allocations
from fixture import CODES, wait_for
from sweep import SyscallKiller, asked_for, demand_clean, outcome, recorded, recover, sampled, until_ok
from tap import demand

# with which the control path changes or reads the world; what gRPC waits and talks by (futex, epoll, eventfd's read and write) is its own
CALLS = ('openat', 'openat2', 'newfstatat', 'fstat', 'statx', 'fstatfs', 'ioctl', 'mount', 'umount2', 'mkdir', 'mkdirat', 'mknodat',
         'rmdir', 'unlink', 'unlinkat', 'rename', 'renameat', 'renameat2', 'fsync', 'fdatasync', 'syncfs', 'pread64', 'pwrite64',
         'ftruncate', 'fallocate', 'flock', 'getdents64', 'pipe2', 'memfd_create', 'connect', 'fchmod', 'fchown', 'fchmodat', 'fchownat')
# of a daemon that is one event loop of our own: how it talks as well
LOOP_CALLS = (*CALLS, 'accept4', 'recvmsg', 'sendto', 'read', 'write', 'epoll_ctl', 'getsockopt', 'fcntl', 'close')
# of a program that runs for one call: its start too
HELPER_CALLS = (*CALLS, 'access', 'faccessat2', 'fcntl', 'read', 'write', 'keyctl', 'add_key', 'close_range', 'seccomp', 'prctl')

LOOP = 16  # more of the same call behind each other
POINTS = os.environ.get('COFFER_POINTS', '')  # a regular expression: only the points ('3 openat') it is found in
MANY = 32  # so many failures aren't all of a kind that nobody is told of


def code_of(said):
    """Of what sweep.outcome tells: METHOD: CODE: sentence."""
    return said.split(': ')[1] if said.count(': ') > 1 else said


def is_an_answer(said):
    """With one of gRPC's codes: what failed may be told as anything."""
    return code_of(said) in CODES.values()


def is_traced(pid):
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        return int(re.search(r'TracerPid:\s+(\d+)', f.read()).group(1)) != 0


def was_injected(trace_file):
    """strace says so behind each call that it made fail."""
    with open(trace_file, encoding='ascii', errors='replace') as f:
        return '(INJECTED)' in f.read()


def threads_of(pid):
    """-p for each; the first one, which is_traced looks at, last."""
    return [word for tid in sorted(map(int, os.listdir(f'/proc/{pid}/task')), key=lambda tid: tid == pid) for word in ('-p', str(tid))]


@contextlib.contextmanager
def attached(argv, pid):
    """strace on a process, for as long as the block runs."""
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as tracer:
        wait_for('strace to attach', lambda: is_traced(pid) or tracer.poll() is not None)
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(120)


class AllocationFailer:
    """program: a daemon, or coffer-crypt, all of whose runs in one call share the count. Made before they start. An allocation that is made
    again and again at one place, by the same callers, fails there once."""

    def __init__(self, coffer, program):
        self.program, self.what, self.met = program, f'an allocation of {program}', False
        self.file = Allocations(os.path.join(coffer.fault_dir, program + '.alloc'))

    def record(self, call):
        self.file.set(0)
        call()
        firsts = self.file.firsts()
        print(f'# {self.what}: {self.file.seen()} of them, at {len(firsts)} places', flush=True)
        return [(n, '') for n in firsts]

    def strike(self, point, call):
        self.file.set(point[0])
        said = outcome(call)
        self.met = self.file.seen() >= point[0]
        self.file.set(0)
        return said

    @staticmethod
    def right(said):
        """Memory is what is lacking, whoever says it."""
        return code_of(said) == 'EXHAUSTED'


class SyscallFailer:
    """The N-th of a kind in a thread of a daemon fails with EIO. Only threads that are there already are looked at, not what they start: of
    coffer-crypt each call has its own sweep."""

    def __init__(self, coffer, program, calls=CALLS):
        self.coffer, self.program, self.calls, self.met = coffer, program, calls, False
        self.what = f'a system call of {program}'
        self.trace_file = os.path.join(coffer.root, 'syscalls.trace')

    def pid(self):
        daemons = {'coffer-node': self.coffer.node, 'coffer-controller': self.coffer.controller, 'coffer-keyd': self.coffer.keyd}
        return daemons[self.program].process.pid

    def traced(self, call, *more):
        """What `call` returns while strace is attached."""
        with attached(['strace', '-qq', *threads_of(self.pid()), '-o', self.trace_file, *more], self.pid()):
            return call()

    def record(self, call):
        self.traced(call, '-e', 'trace=' + ','.join(self.calls))
        counts = collections.Counter()
        with open(self.trace_file, encoding='utf-8', errors='replace') as f:
            for line in f:
                if found := re.match(r'(\d+)\s+(\w+)\(', line):
                    counts[found.groups()] += 1
        most = {}
        for (_, name), count in counts.items():
            most[name] = max(most.get(name, 0), count)
        return [(n, name) for name, count in sorted(most.items()) for n in range(1, count + 1)]

    def strike(self, point, call):
        n, name = point
        said = self.traced(lambda: outcome(call), '-e', f'trace={name}', '-e', f'inject={name}:error=EIO:when={n}')
        self.met = was_injected(self.trace_file)
        return said

    right = staticmethod(is_an_answer)


class HelperSyscallFailer(SyscallKiller):
    """The N-th of a kind in coffer-crypt's run for one verb fails with EIO. coffer-node starts SyscallKiller.wrapper instead of it."""
    program, action = 'coffer-crypt', 'error=EIO'
    # stops at calls of that kind alone, and before the program's own filter would end it for a call that is skipped (strace 6.1 gives no
    # signal so: not for SyscallKiller)
    strace = 'strace --seccomp-bpf -f -qq'

    def __init__(self, coffer, verb):
        super().__init__(coffer, verb, HELPER_CALLS)
        self.what, self.met = f'a system call of coffer-crypt {verb}', False

    def which(self, calls):
        """Of a loop (libcryptsetup takes random bytes 4,000 times) the first, the last and one between."""
        for _, run in itertools.groupby(enumerate(calls, 1), lambda numbered: re.sub(r'^(p?(?:read|write)[^"]*)".*"', r'\1', numbered[1])):
            same = [n for n, _ in run]
            yield from same if len(same) <= LOOP else (same[0], same[len(same) // 2], same[-1])

    def strike(self, point, call):
        super().strike(point, call)
        self.met = was_injected(self.trace_file)
        return self.said

    @staticmethod
    def right(said):
        """Its own filter of system calls would end it, were strace's not asked before."""
        return is_an_answer(said) and 'was ended by signal' not in said


def alive(coffer):
    for daemon in (coffer.node, coffer.controller, coffer.keyd):
        if not daemon.alive():
            raise RuntimeError(f'{daemon.name} ended ({daemon.process.poll()}): {daemon.log_text()[-1500:]}')


def one_failure(coffer, job, failer, point, said):
    failer.met = False
    job.before()
    answer = failer.strike(point, job.call)
    said[answer] += 1
    alive(coffer)
    until_ok(job.call)
    job.check()
    job.after()
    demand_clean(coffer)
    if answer != 'OK' and not failer.right(answer):
        raise RuntimeError(f'it said: {answer}')


def points_of(coffer, job, failer):
    def clean():
        demand_clean(coffer)
    if isinstance(failer, SyscallFailer):  # it looks at threads that are there already
        job.before()
        job.call()
        job.check()
        job.after()
        clean()
    return recorded(job, failer, clean)


def fault_sweep(tap, coffer, job, failer):
    """All points of one job; returns how many of them happened, of how many."""
    found, said, met = [], collections.Counter(), collections.Counter()
    if not asked_for(f'{job.name}: {failer.what}'):
        return 0, 0
    if not tap.run(f'{job.name}: what {failer.program} does is counted', lambda: found.extend(points_of(coffer, job, failer))):
        recover(coffer, job)
        return 0, 0
    chosen = [point for point in sampled(found) if re.search(POINTS, f'{point[0]} {point[1]}')]
    for point in chosen:
        name = f'{job.name}: {failer.what} fails: {point[0]} {point[1]}'.rstrip()
        if not tap.run(name, one_failure, coffer, job, failer, point, said):
            recover(coffer, job)
        met[failer.met] += 1
    tap.run(f'{job.name}: {failer.what}: most of them happened', demand, met[True] >= max(1, 3 * len(chosen) // 4),
            f'{met[True]} of {len(chosen)}')
    told = sum(n for answer, n in said.items() if answer != 'OK')
    if len(chosen) >= MANY and not POINTS:
        tap.check(told, f'{job.name}: {failer.what}: some of them were told to the caller')
    for answer, n in said.most_common(6):
        print(f'# {n} times: {answer[:160]}')
    print(f'# {job.name}, {failer.what}: {len(chosen)} of {len(found)} tried, {met[True]} happened, {told} were told to the caller',
          flush=True)
    return met[True], len(found)
