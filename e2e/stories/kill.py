#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill: SIGKILL at every step boundary of every call, and inside coffer-crypt at every write of format and every
ioctl, unlink and mknod of open, resize and close; then the same call again until OK. Points come from recorded runs,
none is picked by hand. After each: the right state, the data as written, nothing left behind."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from fixture import Coffer  # noqa: E402
from jobs import Machine, controller_jobs, expand_job, node_jobs  # noqa: E402
from sweep import FaultKiller, SyscallKiller, sweep  # noqa: E402
from tap import Tap  # noqa: E402


def crypt_jobs(m):
    stage_new, stage, unstage = (j for j in node_jobs(m) if j.name in ('stage of a new volume', 'stage', 'unstage'))
    calls = ('ioctl', 'unlink', 'unlinkat', 'mknod', 'mknodat')
    return [
        (stage_new, 'format', ('write', 'pwrite64', 'ioctl')),
        (stage, 'open', calls),
        (unstage, 'close', calls),
        (expand_job(m), 'resize', calls),
    ]


def machine(coffer):
    coffer.install()
    coffer.crypt_helper = SyscallKiller.wrapper(coffer.root)
    coffer.start()
    return Machine(coffer)


def main():
    tap, base, swept = Tap(), os.environ['COFFER_SCRATCH'], []
    m = machine(Coffer(os.path.join(base, 'a'), fault=True))
    for job in node_jobs(m):
        swept.append(sweep(tap, m.c, job, FaultKiller(m.c, 'coffer-node')))
    for job in controller_jobs(m):
        swept.append(sweep(tap, m.c, job, FaultKiller(m.c, 'coffer-controller')))
    for job, verb, calls in crypt_jobs(m):
        swept.append(sweep(tap, m.c, job, SyscallKiller(m.c, verb, calls)))
    m.c.stop()
    n = machine(Coffer(os.path.join(base, 'b'), expand='node', fault=True))
    swept.append(sweep(tap, n.c, expand_job(n), FaultKiller(n.c, 'coffer-node')))
    n.c.stop()
    print(f'# kill sweep: {sum(s[0] for s in swept)} of {sum(s[1] for s in swept)} points swept')
    tap.done()


main()
