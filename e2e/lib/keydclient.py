# SPDX-License-Identifier: Apache-2.0
"""coffer-keyd for a story that needs no dm-crypt: Keyd(folder, config) starts the real program in its sandbox, ask MINT and
UNWRAP over its wire (docs/PROTOCOL-keyd.md), and look at what came through the pipe.

    with Keyd(folder, config) as keyd:
        key = keyd.mint(volume).wrapped
        answer = keyd.unwrap(volume, key)      # .code, .message, .seconds, .key (what the pipe held: 32 bytes or b'')
"""
import array
import contextlib
import dataclasses
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../tests/component'))
from keydlib import FRAME_MAX, MINT, STATUS, UNWRAP, Reply, frame  # noqa: E402

WAIT = 120  # seconds; for what must come at once, on a busy machine


@dataclasses.dataclass(frozen=True)
class Volume:
    """What a key is bound to."""
    kms: str
    tenant: str = 'team-a'
    volume_id: str = dataclasses.field(default_factory=lambda: f'fast.0a1b2c3d.{uuid.uuid4().hex}')
    uuid: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))

    def fields(self):
        return self.kms, self.tenant, self.volume_id, self.uuid


@dataclasses.dataclass(frozen=True)
class Wrapped:
    kind: str
    ciphertext: str
    version: int


@dataclasses.dataclass
class Answer:
    code: str
    message: str
    seconds: float
    wrapped: Wrapped = None  # MINT
    key: bytes = b''         # UNWRAP: everything that came through the pipe, without its header
    rest: list = dataclasses.field(default_factory=list)

    def __str__(self):
        return f'{self.code} after {self.seconds:.2f} s: {self.message}'


class Gone(Exception):
    """No answer: the connection couldn't be made, or ended. What keyd's C client reports as UNAVAILABLE."""


class Connection:
    """seen: every byte that came back over a socket, for the search at the end."""
    seen = bytearray()

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.s.settimeout(WAIT)
        try:
            self.s.connect(path)
        except OSError as e:
            self.s.close()
            raise Gone(str(e)) from e

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.s.close()

    def send(self, data, fds=()):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
        try:
            self.s.sendmsg([data], rights)
        except OSError as e:
            raise Gone(str(e)) from e

    def receive(self, start):
        try:
            data = self.s.recv(FRAME_MAX + 1)
        except ConnectionError as e:
            raise Gone(str(e)) from e
        if not data:
            raise Gone('the connection ended')
        Connection.seen += data
        reply = Reply(data)
        return Answer(reply.code, reply.message, time.monotonic() - start, rest=reply.rest)

    def ask(self, data, fds=()):
        start = time.monotonic()
        self.send(data, fds)
        return self.receive(start)

    def mint(self, volume, deadline=20000):
        answer = self.ask(frame(MINT, deadline, *volume.fields()))
        if answer.code == 'OK':
            kind, ciphertext, version = answer.rest
            answer.wrapped = Wrapped(kind.decode(), ciphertext.decode(), struct.unpack('<Q', version)[0])
        return answer

    def unwrap(self, volume, wrapped, deadline=20000, use='stage'):
        r, w = os.pipe()
        try:
            try:
                answer = self.ask(frame(UNWRAP, deadline, *volume.fields(), use, wrapped.kind, wrapped.ciphertext,
                                        wrapped.version, b''), [w])
            finally:
                os.close(w)
            answer.key = self.drain(r)
            return answer
        finally:
            os.close(r)

    @staticmethod
    def drain(r):
        """After the reply nobody holds the write end: all that was written, then its end."""
        data = b''
        while select.select([r], [], [], WAIT)[0]:
            more = os.read(r, 4096)
            if not more:
                break
            data += more
        if data and (len(data) != 48 or data[:16] != b'COFK' + struct.pack('<III', 0, 32, 0)):
            raise ValueError(f'{len(data)} bytes in the pipe are no key frame')
        return data[16:]


class Keyd:
    """The program as a process. It runs as whoever runs the story."""

    def __init__(self, folder, config, allow='MINT,UNWRAP,DESTROY', name='keyd', env=None, flags=()):
        self.folder, self.path, self.log_path = folder, f'{folder}/{name}.sock', f'{folder}/{name}.log'
        self.config, self.process = f'{folder}/{name}.json', None
        with open(self.config, 'w', encoding='utf-8') as f:
            json.dump(config, f)
        self.argv = [os.path.join(os.environ['COFFER_BIN'], 'coffer-keyd'), '--config', self.config, '--socket', self.path,
                     '--allow', allow, '--peer', f'{os.geteuid()}:{os.getegid()}', '--log-level', 'debug', *flags]
        self.env = {'PATH': '/usr/bin:/bin', **(env or {})}

    def start(self):
        with open(self.log_path, 'ab') as log:
            start = log.tell()
            self.process = subprocess.Popen(['setpriv', '--pdeathsig', 'KILL', *self.argv], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=self.env)
        self.wait(lambda: 'coffer-keyd is ready' in self.log()[start:], 'it is ready')
        return self

    def wait(self, condition, what, seconds=WAIT):
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f'coffer-keyd (status {self.process.poll()}): not seen that {what}: {self.log()[-2000:]}')
            time.sleep(0.02)

    def log(self):
        with open(self.log_path, encoding='utf-8', errors='replace') as f:
            return f.read()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        if self.process:
            self.process.wait()

    def stop(self):
        """SIGTERM; its exit status."""
        self.process.terminate()
        return self.process.wait(WAIT)

    def alive(self):
        return self.process.poll() is None

    # ---- questions, each on a connection of its own

    def mint(self, volume, deadline=20000):
        with Connection(self.path) as c:
            return c.mint(volume, deadline)

    def unwrap(self, volume, wrapped, deadline=20000):
        with Connection(self.path) as c:
            return c.unwrap(volume, wrapped, deadline)

    def status(self, kms=None):
        """The whole STATUS, or what it says of one key service in Vault."""
        with Connection(self.path) as c:
            said = json.loads(c.ask(frame(STATUS, 5000)).rest[0])
        return said if kms is None else next(k['service'] for k in said['kms'] if k['name'] == kms)

    # ---- the process

    def memory(self):
        """{'Rss': …, 'Pss': …, 'Anonymous': …} in KiB."""
        with open(f'/proc/{self.process.pid}/smaps_rollup', encoding='ascii') as f:
            lines = [line.split() for line in f]
        return {words[0].rstrip(':'): int(words[1]) for words in lines if len(words) == 3 and words[2] == 'kB'}

    def tcp_connections(self, port):
        """How many connections to that port of the loopback this process has."""
        sockets = set()
        for fd in os.listdir(f'/proc/{self.process.pid}/fd'):
            with contextlib.suppress(OSError):
                sockets.add(os.readlink(f'/proc/{self.process.pid}/fd/{fd}'))
        with open('/proc/net/tcp', encoding='ascii') as f:
            rows = [line.split() for line in f][1:]
        return sum(1 for row in rows if row[2].endswith(f':{port:04X}') and f'socket:[{row[9]}]' in sockets)
