# SPDX-License-Identifier: Apache-2.0
"""What coffer-keyd's component tests share: the wire's frames, a client, the daemon in a folder of its own, and the pipe
that a key comes out of. The constants are docs/PROTOCOL-keyd.md's."""
import array
import contextlib
import json
import os
import select
import shutil
import socket
import struct

import caselib
from caselib import ME, wait_for

KEYD = caselib.program('coffer-keyd')
VOLUME = 'fast.0a1b2c3d.00112233445566778899aabbccddeeff'
UUID = '6ba7b810-9dad-41d1-80b4-00c04fd430c8'
BINDING = ('dev', 'team-a', VOLUME, UUID)
MINT, UNWRAP, STATUS, DESTROY, WRAP_FOR, SERVER_KEY = 1, 2, 3, 5, 6, 8
FRAME_MAX = 16384


def field(value):
    data = value.encode() if isinstance(value, str) else struct.pack('<Q', value) if isinstance(value, int) else value
    return struct.pack('<H', len(data)) + data


def frame(op, *fields, version=1, magic=b'COFD', length=None, extra=b''):
    body = b''.join(map(field, fields)) + extra
    return magic + struct.pack('<HHI', version, op, len(body) if length is None else length) + body


def mint(binding=BINDING, deadline=5000):
    return frame(MINT, deadline, *binding)


def unwrap(key, binding=BINDING, use='stage', kind='file', version=1, token=b''):
    return frame(UNWRAP, 5000, *binding, use, kind, key, version, token)


def wrap_for(key, algorithm, public_key, binding=BINDING, kind='file'):
    return frame(WRAP_FOR, 5000, *binding, kind, key, 1, algorithm, public_key)


class Reply:
    def __init__(self, data):
        assert len(data) >= 12 and data[:4] == b'COFD', data
        self.version, self.op, length = struct.unpack('<HHI', data[4:12])
        assert length == len(data) - 12
        self.fields, at = [], 12
        while at < len(data):
            (n,) = struct.unpack('<H', data[at:at + 2])
            self.fields.append(data[at + 2:at + 2 + n])
            at += 2 + n
        self.code, self.message = self.fields[0].decode(), self.fields[1].decode()
        self.rest = self.fields[2:]


class Client:
    """One connection. seen: every byte that ever came back over a socket, for the search at the end."""
    seen = bytearray()

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.s.connect(path)
        self.s.settimeout(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.s.close()

    def send(self, data, fds=()):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
        self.s.sendmsg([data], rights)

    def receive(self):
        data = self.s.recv(FRAME_MAX + 1)
        Client.seen += data
        return Reply(data) if data else None

    def ask(self, data, fds=()):
        self.send(data, fds)
        reply = self.receive()
        assert reply is not None, 'the connection ended'
        return reply

    def ended(self):
        """True when the connection ends without any further answer."""
        try:
            return self.s.recv(FRAME_MAX + 1) == b''
        except (ConnectionResetError, BrokenPipeError):
            return True


class Keyd:
    def __init__(self, root, *more, peer=ME, allow='MINT,UNWRAP', socket_name='keyd.sock', uid=None, insecure=True, env=None):
        self.root, self.path = root, os.path.join(root, socket_name)
        self.log_path = os.path.join(root, f'{socket_name}.log')
        binary = KEYD
        if uid is not None:  # the checkout may lie where only its owner may look
            binary = shutil.copy(KEYD, root)
        flags = caselib.keyd_flags(os.path.join(root, 'config.json'), self.path, allow, peer)
        flags = [f for f in flags if insecure or f != '--insecure-file-kms']
        caselib.write(self.log_path, '')
        self.p = caselib.spawn([binary, *flags, *more], self.log_path, user=uid, group=uid, extra_groups=[] if uid else None,
                               env=env)

    def wait_ready(self):
        self.wait_log('coffer-keyd is ready', self.p)
        return self

    def log(self):
        return caselib.read(self.log_path)

    def wait_log(self, text, process=None):
        wait_for(lambda: text in self.log(), f'{text!r} in the log', process, self.log_path)

    def __enter__(self):
        try:
            return self.wait_ready()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        caselib.end(self.p)

    def client(self):
        return Client(self.path)

    def stop(self):
        return caselib.stop(self.p)


@contextlib.contextmanager
def fresh_root():
    """A folder with a pool, a master key and the configuration of both."""
    with caselib.folder('coffer-keyd-') as root:
        os.mkdir(os.path.join(root, 'pool'))
        caselib.write_key(os.path.join(root, 'master'))
        caselib.write(os.path.join(root, 'config.json'), caselib.configuration(os.path.join(root, 'pool'), os.path.join(root, 'master'),
                                                                               default_tenant='lab'))
        yield root


def main(tests):
    return caselib.main(tests, fresh_root)


@contextlib.contextmanager
def pipe():
    r, w = os.pipe()
    try:
        yield r, w
    finally:
        os.close(r)
        os.close(w)


def read_frame(r):
    """The whole frame; the write end may still be open elsewhere, so no EOF is awaited."""
    ready, _, _ = select.select([r], [], [], 5)
    assert ready, 'nothing in the pipe'
    data = os.read(r, 4096)
    assert len(data) == 48, len(data)
    assert data[:16] == b'COFK' + struct.pack('<III', 0, 32, 0), data[:16]
    return data[16:]


def pipe_is_empty(r):
    return not select.select([r], [], [], 0)[0]


def new_key(c):
    reply = c.ask(mint())
    assert reply.code == 'OK', (reply.code, reply.message)
    return reply.rest[1].decode()


def open_key(c, key, **kw):
    with pipe() as (r, w):
        reply = c.ask(unwrap(key, **kw), [w])
        assert reply.code == 'OK', (reply.code, reply.message)
        assert reply.rest == []
        return read_frame(r)


def status(keyd):
    with keyd.client() as c:
        reply = c.ask(frame(STATUS, 1000))
        assert reply.code == 'OK', reply.message
        return json.loads(reply.rest[0])
