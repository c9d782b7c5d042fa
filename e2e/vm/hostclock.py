# SPDX-License-Identifier: Apache-2.0
"""tsc_mhz(): how fast this processor's time stamp counter runs, which is what an emulated guest's counter shows. A guest that
measures it by itself while the machine is busy may be wrong by a factor of five, and every VM restored from that template then
has a clock as wrong."""
import ctypes
import mmap
import platform
import time

READ_COUNTER = bytes.fromhex('0f31 48c1e220 4809d0 c3')  # rdtsc; shl rdx, 32; or rax, rdx; ret
SECONDS = 0.05


def counter():
    """A function that reads the counter; None where that can't be."""
    if platform.machine() != 'x86_64':
        return None
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None
    page.write(READ_COUNTER)
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    read.page = page  # as long as the function is there
    return read


def both(read):
    """(counter, nanoseconds) of one moment: the closest of some tries, since we may be interrupted in between."""
    tries = []
    for _ in range(20):
        before, count, after = time.monotonic_ns(), read(), time.monotonic_ns()
        tries.append((after - before, count, (before + after) // 2))
    return min(tries)[1:]


def tsc_mhz():
    """A whole number, or None."""
    if not (read := counter()):
        return None
    count, at = both(read)
    time.sleep(SECONDS)
    later_count, later = both(read)
    return round((later_count - count) * 1000 / (later - at))
