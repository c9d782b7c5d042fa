# SPDX-License-Identifier: Apache-2.0
"""The file by which a test build's program fails one of its allocations (common/fault_alloc.h); made before the program starts.

    a = Allocations(path)
    a.set(0); call(); a.seen(), a.firsts()     # how many there were; of each place the first
    a.set(17); call(); a.set(0)                # the 17th fails"""
import os
import struct

WORDS = struct.Struct('=QQ')  # which fails, how many there were
ROOM = 1 << 17                # how many of them have their place in the file


class Allocations:
    def __init__(self, path):
        self.path, self.made = path, not os.path.exists(path)
        if self.made:
            self.set(0)
            os.truncate(path, WORDS.size + 8 * ROOM)
            os.chmod(path, 0o666)

    def set(self, number):
        with open(self.path, 'r+b' if os.path.exists(self.path) else 'wb') as f:
            f.write(WORDS.pack(number, 0))

    def seen(self):
        with open(self.path, 'rb') as f:
            return WORDS.unpack(f.read(WORDS.size))[1]

    def firsts(self):
        """What is allocated again and again at one place, for the same callers, is here once."""
        count, first = self.seen(), {}
        with open(self.path, 'rb') as f:
            f.seek(WORDS.size)
            places = struct.unpack(f'={min(count, ROOM)}Q', f.read(8 * min(count, ROOM)))
        for n, place in enumerate(places, 1):
            first.setdefault(place, n)
        return [*sorted(first.values()), *range(ROOM + 1, count + 1)]
