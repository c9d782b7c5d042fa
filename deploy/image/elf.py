# SPDX-License-Identifier: Apache-2.0
"""What the dynamic linker reads in an ELF file. 64 bits, little-endian."""
import dataclasses
import struct

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NEEDED, DT_STRTAB, DT_RPATH, DT_RUNPATH = 1, 5, 15, 29


@dataclasses.dataclass
class Elf:
    interpreter: str = ''
    needed: list = dataclasses.field(default_factory=list)
    runpath: str = ''  # or the older RPATH


def _text(data, start):
    return data[start:data.index(b'\0', start)].decode()


def _segments(data):
    """(type, offset in the file, address, length in the file) of each program header."""
    start, = struct.unpack_from('<Q', data, 0x20)
    size, count = struct.unpack_from('<HH', data, 0x36)
    for i in range(count):
        kind, _, offset, address, _, length = struct.unpack_from('<IIQQQQ', data, start + i * size)
        yield kind, offset, address, length


def _dynamic(data, segments):
    """(tag, value) of each dynamic entry."""
    for kind, offset, _, length in segments:
        if kind == PT_DYNAMIC:
            yield from struct.iter_unpack('<qQ', data[offset:offset + length - length % 16])


def parse(data):
    """Elf, or None when data is no ELF file."""
    if data[:4] != b'\x7fELF':
        return None
    if data[4:6] != b'\x02\x01':
        raise ValueError('an ELF file that is not 64 bits, little-endian')
    segments, result = list(_segments(data)), Elf()
    entries = list(_dynamic(data, segments))
    tables = [value for tag, value in entries if tag == DT_STRTAB]
    strings = next((o + t - a for t in tables for k, o, a, n in segments if k == PT_LOAD and a <= t < a + n), 0)
    for kind, offset, _, length in segments:
        if kind == PT_INTERP:
            result.interpreter = data[offset:offset + length].rstrip(b'\0').decode()
    for tag, value in entries:
        if tag == DT_NEEDED:
            result.needed.append(_text(data, strings + value))
        elif tag in (DT_RPATH, DT_RUNPATH):
            result.runpath = _text(data, strings + value)
    return result


def read(path):
    with open(path, 'rb') as f:
        return parse(f.read())
