# SPDX-License-Identifier: Apache-2.0
"""What a call costs when the pool is large: the controller's CPU per CreateVolume and per ListVolumes page of 1,000 in
a pool of 100,000 volumes, beside a pool of 1,000."""
import os

from benchlib import cpu_per_call, paired, row
from machine import CONTROLLER, Controller

FEW, MANY = 1000, int(os.environ.get('COFFER_BENCH_MANY', '100000'))
CREATES, PAGES = 200, 20


def creates(c):
    names = [f'measured-{i}' for i in range(CREATES)]

    def measure():
        used = cpu_per_call(c.pid, c.csi_call, c.controller_socket, CONTROLLER + 'CreateVolume', c.create_requests(names))
        c.delete_named(names)
        return used
    return measure


def page(c, token):
    request = {'max_entries': FEW, 'starting_token': token}
    return lambda: cpu_per_call(c.pid, c.csi_call, c.controller_socket, CONTROLLER + 'ListVolumes', request, PAGES)


def bench(build):
    few, many = Controller('few'), Controller('many')
    few.populate(FEW)
    many.populate(MANY)
    against = f' ({FEW:,} volumes)'
    rows = [row(f'CPU per CreateVolume at {MANY:,} volumes', 'µs', paired(creates(many), creates(few)), 1.5, 1e-3, against)]
    middle = f'default.{many.tag}.{"8" * 32}'
    rows.append(row(f'CPU per page of {FEW:,} at {MANY:,} volumes', 'ms', paired(page(many, middle), page(few, '')), 1.5,
                    1e-6, against))
    few.stop_all()
    many.stop_all()
    return rows
