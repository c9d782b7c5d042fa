# SPDX-License-Identifier: Apache-2.0
"""Figures that hold on a busy machine: two subjects in turn (A B A B …), the median of the pairs' ratios with its
range. CPU time is the kernel's own account of a process's threads, so waiting for a processor doesn't count."""
import dataclasses
import glob
import json
import math
import os
import statistics
import subprocess

ROUNDS = int(os.environ.get('COFFER_BENCH_ROUNDS', '7'))


@dataclasses.dataclass
class Row:
    """One line of the table. goal: the ratio that it must not exceed, or None."""
    what: str
    ours: str
    theirs: str
    ratios: list
    goal: float | None

    def text(self):
        middle = statistics.median(self.ratios)
        verdict = '' if self.goal is None else ' met' if middle <= self.goal else ' **missed**'
        goal = '–' if self.goal is None else f'≤ {self.goal:g}'
        return (f'| {self.what} | {self.ours} | {self.theirs} | {middle:.3g} ({min(self.ratios):.3g}–{max(self.ratios):.3g})'
                f' | {goal}{verdict} |')


@dataclasses.dataclass
class Figure:
    """A figure that stands alone, with what it must not exceed; no clock is in it."""
    what: str
    unit: str
    value: float
    goal: float
    parts: str

    def text(self):
        verdict = 'met' if self.value <= self.goal else '**missed**'
        return f'| {self.what} | {self.value:.3g} {self.unit} | {self.parts} | – | ≤ {self.goal:g} {self.unit} {verdict} |'


HEADER = '| what | Coffer | compared with | ratio (range) | goal |\n|---|---|---|---|---|'


PLOT_FROM, PLOT_TO, PLOT_COLUMNS = 0.01, 100.0, 48


def column(ratio):
    """Where a ratio stands in the plot: the scale is logarithmic, and what is beyond it stands at its end."""
    share = math.log(max(ratio, PLOT_FROM) / PLOT_FROM) / math.log(PLOT_TO / PLOT_FROM)
    return min(PLOT_COLUMNS - 1, int(share * PLOT_COLUMNS))


def plot_line(r):
    """The range of a row's ratios as a bar, its median, its goal."""
    line = [' '] * PLOT_COLUMNS
    for i in range(column(min(r.ratios)), column(max(r.ratios)) + 1):
        line[i] = '─'
    line[column(1)] = '┊'
    if r.goal is not None:
        line[column(r.goal)] = '│'
    line[column(statistics.median(r.ratios))] = '●'
    return ''.join(line)


def plot(rows):
    """All rows that have ratios, as text: one line each."""
    rows = [r for r in rows if isinstance(r, Row)]
    if not rows:
        return ''
    width = max(len(r.what) for r in rows)
    axis = [' '] * PLOT_COLUMNS
    for mark in ('0.01', '0.1', '1', '10'):
        axis[column(float(mark)):column(float(mark)) + len(mark)] = mark
    head = f'{"ratio: ● median, ─ range, │ goal":{width}}  {"".join(axis)}'.rstrip()
    return '\n'.join([head, *(f'{r.what:{width}}  {plot_line(r)}'.rstrip() for r in rows)])


def paired(ours, theirs, rounds=ROUNDS):
    """ours() and theirs() return a number each, in turn; one round of both is thrown away first."""
    ours(), theirs()
    return [(ours(), theirs()) for _ in range(rounds)]


def row(what, unit, pairs, goal, scale=1.0, against=''):
    a, b = (statistics.median(column) * scale for column in zip(*pairs))
    return Row(what, f'{a:.3g} {unit}', f'{b:.3g} {unit}{against}', [x / y for x, y in pairs], goal)


def cpu_ns(pid):
    """CPU time of all threads that live, in ns (/proc/PID/task/*/schedstat, first field)."""
    total = 0
    for path in glob.glob(f'/proc/{pid}/task/*/schedstat'):
        with open(path, encoding='ascii') as f:
            total += int(f.read().split()[0])
    return total


def load(csi_call, endpoint, method, request, repeat=0, parallel=1, warm=False):
    """Many calls over one connection; all must be OK. request: one object, or a list with one per call. warm: the connection is
    there before the first of them."""
    command = [csi_call, 'unix://' + endpoint, method, '-', '--parallel', str(parallel), '--timeout', '600']
    command += (['--repeat', str(repeat)] if repeat else []) + (['--warm'] if warm else [])
    done = subprocess.run(command, input=json.dumps(request).encode(), capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f'{method}: {done.stderr.decode()} {done.stdout.decode()}')
    return json.loads(done.stdout)


def cpu_per_call(pid, csi_call, endpoint, method, request, repeat=0, parallel=1):
    """The server's CPU in ns for one of these calls."""
    before = cpu_ns(pid)
    calls = load(csi_call, endpoint, method, request, repeat, parallel)['calls']
    return (cpu_ns(pid) - before) / calls
