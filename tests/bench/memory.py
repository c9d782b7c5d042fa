#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory while COUNT volumes are staged at once: the sum of PSS of all of Coffer's processes, coffer-crypt's included and mkfs's not,
sampled until the last call is answered; the largest sample is the figure. Once with volumes that are made by it (format, mkfs), once with
ready ones. Runs where real dm-crypt is and prints its rows as JSON."""
import json
import os
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, '..', '..', 'e2e', 'lib')]
from benchlib import Figure, load  # noqa: E402
from fixture import MIB, Coffer  # noqa: E402

COUNT, SIZE, GOAL = int(os.environ.get('COFFER_BENCH_STAGES', '100')), 32 * MIB, 64.0
OURS = tuple(name[:15] for name in ('coffer-controller', 'coffer-node', 'coffer-keyd', 'coffer-crypt'))  # as comm has them


def comm(pid):
    with open(f'/proc/{pid}/comm', encoding='utf-8') as f:
        return f.read().strip()


def pss_kib(pid):
    with open(f'/proc/{pid}/smaps_rollup', encoding='ascii') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('Pss:'))


def sample():
    """{name: (processes, KiB)} now; a process that ends meanwhile isn't counted."""
    sums = {}
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            name = comm(pid)
            if name in OURS:
                count, kib = sums.get(name, (0, 0))
                sums[name] = (count + 1, kib + pss_kib(pid))
        except (OSError, StopIteration):
            continue
    return sums


class Sampler:
    """The largest sample of its time."""

    def __enter__(self):
        self.peak, self.count, self.over = {}, 0, threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def run(self):
        while not self.over.is_set():
            now = sample()
            self.count += 1
            if total(now) > total(self.peak):
                self.peak = now
            self.over.wait(0.01)

    def __exit__(self, *error):
        self.over.set()
        self.thread.join()


def total(sums):
    return sum(kib for _, kib in sums.values()) / 1024


def all_at_once(c, method, requests):
    with Sampler() as sampler:
        load(os.path.join(c.bin, 'csi-call'), c.node_socket, f'csi.v1.Node/{method}', requests, parallel=len(requests))
    return sampler


def figure(what, sampler):
    parts = ', '.join(f'{name} {count} × {kib / count / 1024:.1f}' for name, (count, kib) in sorted(sampler.peak.items()))
    return Figure(what, 'MiB', total(sampler.peak), GOAL, f'{parts}; {sampler.count} samples')


def main():
    c = Coffer()
    c.log_level = 'info'
    c.install()
    c.start()
    volumes = [c.create(f'memory-{i}', SIZE) for i in range(COUNT)]
    staged = [{'volume_id': v['volume_id'], 'staging_target_path': c.staging(v)} for v in volumes]
    stage = [{**s, 'volume_context': v['volume_context'], 'volume_capability': c.capability()} for s, v in zip(staged, volumes)]
    for s in staged:
        os.makedirs(s['staging_target_path'])
    rows = []
    for what in ('first stages (format, mkfs)', 'warm stages'):
        rows.append(figure(f'{COUNT} {what} at once, PSS', all_at_once(c, 'NodeStageVolume', stage)))
        rows.append(figure(f'{COUNT} unstages at once, PSS', all_at_once(c, 'NodeUnstageVolume', staged)))
    for v in volumes:
        c.delete(v['volume_id'])
    c.stop()
    print(json.dumps([r.__dict__ for r in rows]))


if __name__ == '__main__':
    main()
