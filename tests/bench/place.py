# SPDX-License-Identifier: Apache-2.0
"""Where a cloud goes: 1,000,000 users on 10,000 nodes, one decision beside the same on 1,000 nodes with 100,000 (a linear
scan: ten times). The simulation says itself when a node got more than it has, and then fails."""
import json
import os
import subprocess

from benchlib import row

ROUNDS = int(os.environ.get('COFFER_BENCH_ROUNDS', '1'))


def bench(build):
    program, seen = os.path.join(build, 'release', 'bench-place'), {}

    def simulate(nodes, users):
        done = subprocess.run([program, str(nodes), str(users)], capture_output=True, check=True)
        seen[nodes] = json.loads(done.stdout)
        return seen[nodes]['new']['ns']
    simulate(100, 10_000)  # a first run whose figures nobody takes
    pairs = [(simulate(10_000, 1_000_000), simulate(1_000, 100_000)) for _ in range(ROUNDS)]
    full = seen[10_000]
    notes = [f'# {when}: {now["nodes_used"]:.1%} of the nodes used, these {now["fullness"]:.1%} full (headroom 10 %), '
             f'{now["fragmentation"]:.2%} of their room is free in pieces smaller than a VM'
             for when in ('filled', 'churned') if (now := full[when])]
    notes += [f'# {what} clouds: {cost["decisions"]:,} decisions, {cost["ns"] / 1000:.1f} µs CPU each, {cost["refused"]:,} refused'
              for what in ('new', 'old') if (cost := full[what])]
    return [row('CPU per placement of a new cloud, 10,000 nodes, 1,000,000 users', 'µs', pairs, 15, 1e-3,
                ' (1,000 nodes, 100,000 users)'), *notes]
