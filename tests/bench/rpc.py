# SPDX-License-Identifier: Apache-2.0
"""CPU of the controller per trivial RPC and per ListVolumes of 1,000 entries, beside a bare grpc-go server that
answers the same from memory."""
import os

from benchlib import cpu_per_call, paired, row
from machine import CONTROLLER, BareGo, Controller

ENTRIES, TRIVIAL, LISTS = 1000, 5000, 100


def bench(build):
    c = Controller('rpc')
    go = BareGo(os.path.join(build, 'bench'), ENTRIES, f'default.{c.tag}')
    if go.process is None:
        return [f'trivial RPC, ListVolumes beside grpc-go: skipped ({go.why})']
    c.populate(ENTRIES)

    def ours(method, repeat, parallel):
        return lambda: cpu_per_call(c.pid, c.csi_call, c.controller_socket, method, {}, repeat, parallel)

    def theirs(method, repeat, parallel):
        return lambda: cpu_per_call(go.process.pid, c.csi_call, go.socket, method, {}, repeat, parallel)
    rows = []
    for parallel in (1, 8, 64, 200):
        args = ('csi.v1.Identity/GetPluginInfo', TRIVIAL, parallel)
        rows.append(row(f'CPU per GetPluginInfo, {parallel} callers', 'µs', paired(ours(*args), theirs(*args)), 0.5, 1e-3,
                        ' (grpc-go)'))
    args = (CONTROLLER + 'ListVolumes', LISTS, 1)
    rows.append(row(f'CPU per ListVolumes of {ENTRIES:,} entries', 'ms', paired(ours(*args), theirs(*args)), 0.3, 1e-6,
                    ' (grpc-go, from memory)'))
    go.stop()
    c.stop_all()
    return rows
