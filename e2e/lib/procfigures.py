# SPDX-License-Identifier: Apache-2.0
"""What a process holds, out of /proc.

    figures = Figures(); figures.take(name, pid, round)    # may be called at any time; a process that is gone is left out
    figures.of(name)                                       # in the order in which they were taken
    figures.at_rest(pid)                                   # of ten seconds, the least of each"""
import contextlib
import dataclasses
import os
import time


@dataclasses.dataclass
class Figure:
    when: int
    rss: int  # kB
    descriptors: int
    threads: int
    children: int


def status(pid):
    with open(f'/proc/{pid}/status', encoding='ascii', errors='replace') as f:
        return dict(line.rstrip('\n').split(':\t', 1) for line in f if ':\t' in line)


def children(pid):
    count = 0
    for task in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{task}/children', encoding='ascii') as f:
            count += len(f.read().split())
    return count


def figure(pid, when=0):
    of = status(pid)
    return Figure(when, int(of['VmRSS'].split()[0]), len(os.listdir(f'/proc/{pid}/fd')), int(of['Threads']), children(pid))


class Figures:
    def __init__(self):
        self.taken = {}

    def take(self, name, pid, when):
        with contextlib.suppress(OSError, KeyError):
            self.taken.setdefault(name, []).append(figure(pid, when))

    def of(self, name):
        return self.taken.get(name, [])

    @staticmethod
    def at_rest(pid, seconds=10):
        """The least of each within that time: a pool's idle threads and connections that are being closed go by themselves."""
        taken, end = [figure(pid)], time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.2)
            taken.append(figure(pid))
        return Figure(0, *(min(getattr(f, name) for f in taken) for name in ('rss', 'descriptors', 'threads', 'children')))
