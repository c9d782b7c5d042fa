# SPDX-License-Identifier: Apache-2.0
"""A Coffer whose every program is watched (exec traces, logs kept apart), the true secrets of its volumes for whoever
looks for them, and calls that are held at a fault point."""
import contextlib
import hashlib
import hmac
import os
import socket
import struct
import subprocess
import threading
import uuid

import leakscan
from fixture import GID, CallError, Coffer, Daemon, wait_for
from tap import demand


class Watched(Coffer):
    """Every program under an exec trace; logs and traces in memory (`watch`), so that what is on the disk is a find."""

    def __init__(self, root, watch, **more):
        super().__init__(root, fault=True, **more)
        self.watch, self.traces, self.replies = watch, {}, []
        os.makedirs(watch)

    def trace(self, name):
        path = os.path.join(self.watch, f'{name}.{len(self.traces)}.trace')
        self.traces[path] = None
        return path

    def daemon(self, name, args, uid=0, prefix=()):
        trace = self.trace(name)
        prefix = leakscan.strace(trace)
        if uid:
            prefix += ['setpriv', f'--reuid={uid}', f'--regid={GID}', '--clear-groups', '--']
        argv = [os.path.join(self.bin, name), *args, '--log-level', 'debug']
        d = Daemon(name, argv, os.path.join(self.watch, name + '.log'), env={'COFFER_FAULT_DIR': self.fault_dir},
                   prefix=prefix)
        d.start()
        self.traces[trace] = d.process.pid
        return d

    def call(self, socket_path, method, request, timeout=1800):
        try:
            reply = super().call(socket_path, method, request, timeout)
        except CallError as e:
            self.replies.append(str(e))
            raise
        self.replies.append(str(reply))
        return reply

    def unlock_key(self, volume):
        """cofferctl's passphrase, and only that: what else it says is a reply."""
        trace = self.trace('cofferctl')
        argv = [self.bin + '/cofferctl', 'volume', 'unlock-key', volume['volume_id'], '--config', self.config,
                '--admin-socket', self.admin_socket, '--reason', 'leaks', '--yes']
        with subprocess.Popen(leakscan.strace(trace) + argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, cwd='/') as p:
            self.traces[trace] = p.pid
            out, err = p.communicate(timeout=1800)
        self.replies.append(err.decode(errors='replace'))
        if p.returncode != 0:
            raise RuntimeError(f'cofferctl volume unlock-key: {err.decode()}')
        return out.strip()

    def stop(self):
        super().stop()
        for path, pid in self.traces.items():
            leakscan.wait_traced(path, pid)

    def logs(self):
        return [os.path.join(self.watch, n) for n in os.listdir(self.watch) if n.endswith('.log')]


# ---- the true secrets ----
def field(data):
    return struct.pack('<H', len(data)) + data


def storage_key(c, volume):
    """Straight from coffer-keyd (docs/PROTOCOL-keyd.md); this process is root, which it allows."""
    r = c.record(volume)
    texts = [r['kms'], r['tenant'], r['id'], r['uuid'], 'break-glass', r['key']['kind'], r['key']['ciphertext']]
    fields = field(struct.pack('<Q', 30000)) + b''.join(field(t.encode()) for t in texts)
    fields += field(struct.pack('<Q', r['key']['key_version'])) + field(b'')
    read_end, write_end = os.pipe()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(c.keyd_socket)
            socket.send_fds(s, [struct.pack('<IHHI', 0x44464f43, 1, 2, len(fields)) + fields], [write_end])
            reply = s.recv(16384)
        if field(b'OK') != reply[12:16]:
            raise RuntimeError(f'UNWRAP: {reply}')
        return os.read(read_end, 48)[16:]
    finally:
        os.close(read_end)
        os.close(write_end)


def derived_passphrase(key, volume_uuid):
    extracted = hmac.digest(uuid.UUID(volume_uuid).bytes, key, hashlib.sha256)
    return hmac.digest(extracted, b'coffer/v1 luks2 keyslot\x01', hashlib.sha256).hex().encode()


def volume_key(c, volume, passphrase):
    """As stock cryptsetup tells it to whoever has the passphrase."""
    command = ['cryptsetup', 'luksDump', '--batch-mode', '--dump-volume-key', '--key-file', '-', c.image(volume)]
    out = subprocess.run(command, input=passphrase, stdout=subprocess.PIPE, check=True).stdout.decode()
    key = bytes.fromhex(out[out.index('MK dump:') + len('MK dump:'):])
    if len(key) != 64:
        raise RuntimeError(f'cryptsetup dumped a volume key of {len(key)} bytes')
    return key


def secrets_of(c, volume, passphrase=None):
    key = storage_key(c, volume)
    derived = derived_passphrase(key, c.record(volume)['uuid'])
    if passphrase is not None and passphrase != derived:
        raise RuntimeError('cofferctl\'s passphrase is not the one that follows from the storage key')
    return {'storage key': key, 'passphrase': derived, 'passphrase bytes': bytes.fromhex(derived.decode()),
            'volume key': volume_key(c, volume, derived)}


# ---- in the middle of a call ----
class Paused:
    """A call in its own thread, held at a fault point of a program inside the with block; that it came there is demanded. A call that is
    answered earlier may come there later. `error`: the CallError it ended with; what else it raised is raised at the end."""

    def __init__(self, c, program, point, call):
        self.arm, self.error = os.path.join(c.fault_dir, program + '.arm'), None
        self.paused, self.program, self.point = os.path.join(c.fault_dir, program + '.paused'), program, point
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.paused)
        with open(self.arm + '.new', 'w', encoding='ascii') as f:
            f.write('pause ' + point)
        os.chmod(self.arm + '.new', 0o644)
        os.rename(self.arm + '.new', self.arm)
        self.thread = threading.Thread(target=self.run, args=(call,))

    def run(self, call):
        try:
            call()
        except Exception as e:  # pylint: disable=broad-except
            self.error = e

    def pid(self):
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                with open(f'/proc/{pid}/comm', encoding='ascii') as f:
                    if f.read().strip() == self.program:
                        return int(pid)
            except OSError:
                pass
        raise RuntimeError(f'{self.program} does not run')

    def held(self):
        return os.path.exists(self.paused)

    def __enter__(self):
        self.thread.start()
        try:
            wait_for(f'{self.program} at {self.point}', lambda: self.held() or self.error)
            demand(self.held(), f'the call never brought {self.program} to {self.point}: {self.error}')
        except BaseException:
            self.let_go()
            raise
        return self

    def let_go(self):
        os.unlink(self.arm)
        self.thread.join(1800)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.paused)

    def __exit__(self, raised, *_):
        self.let_go()
        if raised is None:
            demand(not self.thread.is_alive(), f'the call does not end after {self.point}')
            if self.error is not None and not isinstance(self.error, CallError):
                raise self.error
