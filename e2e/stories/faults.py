#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""faults: each allocation and each system call of the control path failed once, on real dm-crypt: coffer-node's, coffer-crypt's,
coffer-keyd's and coffer-controller's (whose allocations are the component suite controller_faults'; keyd_faults has coffer-keyd's before
a Vault); before that, what runs out: file descriptors, processes, memory, loop devices, space, a pool that is read-only. One clear error
each time, nothing is left behind, no daemon ends, and the same call works afterwards. libgrpc ends its process when an allocation of its
own fails: that is not tried."""
# story: disk=4G timeout=14400
import contextlib
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from faults import LOOP_CALLS, AllocationFailer, HelperSyscallFailer, SyscallFailer, alive, attached, fault_sweep  # noqa: E402
from fixture import MIB, CallError, Coffer, wait_for  # noqa: E402
from jobs import Machine, controller_jobs, fresh_block_job, node_jobs  # noqa: E402
from sweep import asked_for, demand_clean, until_ok  # noqa: E402
from tap import Tap, demand  # noqa: E402


# ---- what runs out ----

@contextlib.contextmanager
def few_descriptors(c):
    """coffer-node may open one more than it has."""
    pid = c.node.process.pid
    had = subprocess.run(['prlimit', '-p', str(pid), '--nofile', '-o', 'SOFT,HARD', '--noheadings'], check=True, stdout=subprocess.PIPE,
                         text=True).stdout.split()
    count = 2 + max(int(fd) for fd in os.listdir(f'/proc/{pid}/fd'))
    subprocess.run(['prlimit', '-p', str(pid), f'--nofile={count}:{had[1]}'], check=True)
    try:
        yield
    finally:
        subprocess.run(['prlimit', '-p', str(pid), f'--nofile={had[0]}:{had[1]}'], check=c.node.alive())


def put(path, text):
    with open(path, 'w', encoding='ascii') as f:
        f.write(str(text))


@contextlib.contextmanager
def a_group_of_its_own(c, controller):
    """For coffer-node and what it starts: its folder."""
    group = '/sys/fs/cgroup/coffer-faults'
    if not os.path.exists('/sys/fs/cgroup/cgroup.procs'):
        os.makedirs('/sys/fs/cgroup', exist_ok=True)
        subprocess.run(['mount', '-t', 'cgroup2', 'none', '/sys/fs/cgroup'], check=True)
    put('/sys/fs/cgroup/cgroup.subtree_control', '+' + controller)
    os.makedirs(group, exist_ok=True)
    put(group + '/cgroup.procs', c.node.process.pid)
    try:
        yield group
    finally:
        put('/sys/fs/cgroup/cgroup.procs', c.node.process.pid)
        wait_for('the group is empty', lambda: not open(group + '/cgroup.procs', encoding='ascii').read())
        os.rmdir(group)


@contextlib.contextmanager
def no_more_processes(c):
    with a_group_of_its_own(c, 'pids') as group:
        with open(group + '/pids.current', encoding='ascii') as f:
            put(group + '/pids.max', f.read().strip())
        yield
        put(group + '/pids.max', 'max')


@contextlib.contextmanager
def little_memory(c):
    """What a limit of 128 MiB leaves when nearly all of it is taken: too little for coffer-crypt, which goes before coffer-node."""
    with a_group_of_its_own(c, 'memory') as group, tempfile.TemporaryDirectory(prefix='ballast-', dir='/dev/shm') as folder:
        subprocess.run(['sh', '-c', f'echo $$ >{group}/cgroup.procs && exec head -c 128M /dev/zero >{folder}/ballast'], check=True)
        with open(group + '/memory.current', encoding='ascii') as f:
            put(group + '/memory.max', int(f.read()) + MIB)
        try:
            yield
        finally:
            put(group + '/memory.max', 'max')


def no_loop_device(c):
    """The kernel has none to give (its own limit is a million)."""
    pid = c.node.process.pid
    return attached(['strace', '-f', '-qq', '-o', '/dev/null', '-p', str(pid), '-P', '/dev/loop-control', '-e', 'trace=ioctl', '-e',
                     'inject=ioctl:error=ENOSPC'], pid)


@contextlib.contextmanager
def pool_read_only(c):
    subprocess.run(['mount', '--bind', c.pool, c.pool], check=True)
    subprocess.run(['mount', '-o', 'remount,bind,ro', c.pool], check=True)
    try:
        yield
    finally:
        subprocess.run(['umount', '-l', c.pool], check=True)


def says(call, codes, words):
    """The call fails with one of the codes and one of the words."""
    try:
        call()
    except CallError as e:
        demand(e.code in codes and any(word in e.message for word in words), f'{e} (expected {codes}, {words})')
        print(f'# {e}', flush=True)
        return
    raise RuntimeError('the call succeeded')


def start_again(c, log_before):
    """As its supervisor does. gRPC gives its listener up for good when an accept fails (it asks for the next connection when it has
    one, which takes a descriptor even if there is none); coffer-node notices, says so and ends."""
    if 'Failed accept4' in c.node.log_text()[log_before:]:
        c.node.process.wait(300)
        demand("gRPC stopped listening after an accept that failed" in c.node.log_text(), 'it ended without a word')
        c.start_node()


def runs_out(m, limit, codes, words):
    """Stage fails, says why, and works again when there is more."""
    with limit(m.c):
        alive(m.c)
        log_before = len(m.c.node.log_text())
        says(lambda: m.c.stage(m.data), codes, words)
    start_again(m.c, log_before)
    alive(m.c)
    demand_clean(m.c)
    until_ok(lambda: m.c.stage(m.data))
    m.demand_data(m.c.staging(m.data))
    m.unstage()
    demand_clean(m.c)


def read_only_pool(m):
    # a mount that a daemon doesn't see says nothing: they share this namespace
    with pool_read_only(m.c):
        says(lambda: m.c.create('read-only', 32 * MIB), ('UNAVAILABLE', 'PRECONDITION', 'INTERNAL', 'PERMISSION'),
             ('Read-only',))
    volume = m.c.create('read-only', 32 * MIB)
    m.c.delete(volume['volume_id'])


def full_pool(m):
    s = os.statvfs(m.c.pool)
    says(lambda: m.c.create('too-big', s.f_blocks * s.f_frsize * 2), ('EXHAUSTED', 'OUT_OF_RANGE'), ('pool',))
    volume = m.c.create('fits', 32 * MIB)
    m.c.delete(volume['volume_id'])


RUNS_OUT = (
    ('file descriptors', few_descriptors, ('EXHAUSTED', 'UNAVAILABLE'), ('Too many open files', 'descriptor', 'failed to connect')),
    ('processes', no_more_processes, ('EXHAUSTED',), ('Resource temporarily unavailable', 'Cannot allocate')),
    ('memory', little_memory, ('EXHAUSTED', 'UNAVAILABLE'), ('Cannot allocate', 'out of memory', 'for want of memory')),
    ('loop devices', no_loop_device, ('EXHAUSTED',), ('get a free loop device: No space left',)),
)


# in whose jobs' calls these allocate
ALLOCATING = {'coffer-crypt': ('stage of a new volume', 'stage', 'unstage', 'expand (--expand=controller)'),
              'coffer-keyd': ('stage of a new volume', 'stage')}
VERBS = {'stage of a new raw block volume': 'format', 'stage': 'open', 'unstage': 'close', 'expand (--expand=controller)': 'resize'}


def what_fails(m, allocations):
    """Each job with each of what can fail in it."""
    c, jobs = m.c, node_jobs(m)
    for failer in allocations:
        yield from ((job, failer) for job in jobs if job.name in ALLOCATING.get(failer.program, [j.name for j in jobs]))
    yield from ((job, SyscallFailer(c, 'coffer-node')) for job in jobs)
    yield from ((job, HelperSyscallFailer(c, VERBS[job.name])) for job in (fresh_block_job(m), *jobs) if job.name in VERBS)
    yield from ((job, SyscallFailer(c, 'coffer-keyd', LOOP_CALLS)) for job in jobs if job.name == 'stage')
    yield from ((job, SyscallFailer(c, 'coffer-controller')) for job in controller_jobs(m))


def main():
    tap, c = Tap(), Coffer(fault=True)
    c.install()
    c.crypt_helper = HelperSyscallFailer.wrapper(c.root)
    allocations = [AllocationFailer(c, name) for name in ('coffer-node', 'coffer-crypt', 'coffer-keyd')]
    c.start()
    m, tried, known = Machine(c), 0, 0
    for name, test, *arguments in (*((f'out of {name}', runs_out, *how) for name, *how in RUNS_OUT),
                                   ('the pool is read-only', read_only_pool), ('out of space', full_pool)):
        if asked_for(name):
            tap.run(f'{name}: said, and works again', test, m, *arguments)
    for job, failer in what_fails(m, allocations):
        done, there = fault_sweep(tap, c, job, failer)
        tried, known = tried + done, known + there
    c.stop()
    tap.check(tried or not known, f'{tried} of {known} failures happened')
    tap.done()


main()
