# SPDX-License-Identifier: Apache-2.0
"""QEMU's control connection (QMP), as far as vmrun.py needs it: one command at a time, and waiting for a state."""
import json
import time

BOOT_SECONDS = 300  # a boot takes 2 s on a quiet machine and was seen to take 11 s on a loaded one


class VmError(Exception):
    """The VM could not do its work; the text says why."""


class Qmp:
    """QEMU's control connection."""

    def __init__(self, sock):
        sock.settimeout(BOOT_SECONDS)
        self.file = sock.makefile('rw')
        self._read()
        self.command('qmp_capabilities')

    def _read(self):
        line = self.file.readline()
        if not line:
            raise VmError('QEMU ended')
        return json.loads(line)

    def command(self, name, **arguments):
        arguments = {key.replace('_', '-'): value for key, value in arguments.items()}
        self.file.write(json.dumps({'execute': name, 'arguments': arguments}) + '\n')
        self.file.flush()
        while True:  # events come in between
            message = self._read()
            if 'return' in message:
                return message['return']
            if 'error' in message:
                raise VmError(f"QEMU refused {name}: {message['error']['desc']}")

    def wait_for(self, query, wanted, failed=('failed', 'internal-error')):
        deadline = time.monotonic() + BOOT_SECONDS
        while (status := self.command(query).get('status')) not in wanted:
            if status in failed or time.monotonic() > deadline:
                raise VmError(f'{query} says {status}')
            time.sleep(0.005)
