#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""extract-vmlinux.py BZIMAGE OUT: writes the ELF kernel packed in a bzImage.

An emulated guest would spend seconds unpacking it at every boot; QEMU starts the ELF file directly (PVH entry).
Offsets are those of the Linux x86 boot protocol: setup_sects at 0x1f1, payload_offset and _length at 0x248.
"""
import struct
import subprocess
import sys

UNPACKERS = (  # magic, command, bytes of size that the kernel's build appends to the payload
    (b'\xfd7zXZ\0', ['xz', '-dc', '--single-stream'], 4),
    (b'\x28\xb5\x2f\xfd', ['zstd', '-dc'], 4),
    (b'\x1f\x8b\x08', ['gzip', '-dc'], 4),
)


def payload(image):
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from('<II', image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    return image[start:start + length]


def main(source, target):
    with open(source, 'rb') as f:
        packed = payload(f.read())
    for magic, command, trailer in UNPACKERS:
        if not packed.startswith(magic):
            continue
        done = subprocess.run(command, input=packed[:-trailer], stdout=subprocess.PIPE, check=False)
        if not done.stdout.startswith(b'\x7fELF'):
            sys.exit(f'extract-vmlinux.py: {command[0]} found no ELF kernel in {source}')
        with open(target, 'wb') as f:
            f.write(done.stdout)
        return
    sys.exit(f'extract-vmlinux.py: {source} is packed in an unknown way (starts with {packed[:6].hex()})')


if len(sys.argv) != 3:
    sys.exit(__doc__.split('\n', maxsplit=1)[0])
main(sys.argv[1], sys.argv[2])
