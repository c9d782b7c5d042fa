#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-keyd as a real process: who may ask, what it answers, what ends a connection, and that a key only ever
comes out of the pipe. TAP on stdout. Needs no root; the parts that need a second uid say so when they can't run."""
import array
import contextlib
import fcntl
import hashlib
import json
import os
import re
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time

BIN = os.path.abspath(os.environ.get('COFFER_BIN', 'build/test'))
KEYD = os.path.join(BIN, 'coffer-keyd')
VOLUME = 'fast.0a1b2c3d.00112233445566778899aabbccddeeff'
UUID = '6ba7b810-9dad-41d1-80b4-00c04fd430c8'
BINDING = ('dev', 'team-a', VOLUME, UUID)
MINT, UNWRAP, STATUS = 1, 2, 3
FRAME_MAX = 16384
ME = f'{os.geteuid()}:{os.getegid()}'


class Skip(Exception):
    pass


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
    def __init__(self, root, *more, peer=ME, allow='MINT,UNWRAP', socket_name='keyd.sock', uid=None, insecure=True):
        self.root, self.path = root, os.path.join(root, socket_name)
        self.log_path = os.path.join(root, f'{socket_name}.log')
        program = KEYD
        if uid is not None:  # the checkout may lie where only its owner may look
            program = shutil.copy(KEYD, root)
        argv = [program, '--config', os.path.join(root, 'config.json'), '--socket', self.path, '--allow', allow]
        argv += ['--insecure-file-kms'] if insecure else []
        argv += ['--peer', peer] if peer else []
        with open(self.log_path, 'wb'):
            pass
        with open(self.log_path, 'ab') as log:
            self.p = subprocess.Popen(argv + list(more), stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=uid, group=uid,
                                      extra_groups=[] if uid else None)

    def wait_ready(self):
        end = time.monotonic() + 10
        while 'coffer-keyd is ready' not in self.log():
            assert self.p.poll() is None, f'coffer-keyd ended: {self.log()}'
            assert time.monotonic() < end, f'not ready: {self.log()}'
            time.sleep(0.01)
        return self

    def log(self):
        with open(self.log_path, encoding='utf-8') as f:
            return f.read()

    def wait_log(self, text):
        end = time.monotonic() + 10
        while text not in self.log():
            assert time.monotonic() < end, f'no {text!r} in the log: {self.log()}'
            time.sleep(0.01)

    def __enter__(self):
        try:
            return self.wait_ready()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()

    def client(self):
        return Client(self.path)

    def stop(self):
        self.p.terminate()
        return self.p.wait(timeout=60)


def built_with(text):
    with open(KEYD, 'rb') as f:
        return text in f.read()


def make_root():
    root = tempfile.mkdtemp(prefix='coffer-keyd-')
    os.mkdir(os.path.join(root, 'pool'))
    with open(os.open(os.path.join(root, 'master'), os.O_WRONLY | os.O_CREAT, 0o600), 'wb') as f:
        f.write(os.urandom(32))
    write_config(root)
    return root


def write_config(root):
    with open(os.path.join(root, 'config.json'), 'w', encoding='utf-8') as f:
        json.dump({'pools': {'fast': {'backend': 'file', 'path': os.path.join(root, 'pool'), 'kms': ['dev'], 'allocate': 'full'}},
                   'default_tenant': 'lab', 'kms': {'dev': {'uri': 'file://' + os.path.join(root, 'master')}}}, f)


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


# ---- the tests; each gets a fresh folder ----

def help_and_version(root):
    p = subprocess.run([KEYD, '--help'], capture_output=True, text=True, check=False)
    assert p.returncode == 0 and '--insecure-file-kms' in p.stdout, p
    p = subprocess.run([KEYD, '--version'], capture_output=True, text=True, check=False)
    assert p.returncode == 0 and re.fullmatch(r'coffer-keyd \d+\.\d+\.\d+\n', p.stdout), p


def wrong_flags_have_one_sentence(root):
    base = ['--peer', '0:0', '--allow', 'MINT']
    cases = [
        (['--nonsense'], "coffer-keyd: unknown flag '--nonsense' (see --help)"),
        (['--peer', 'root', '--allow', 'MINT'], "coffer-keyd: --peer 'root': not USER:GROUP, by number or name"),
        (['--allow', 'MINT'], 'coffer-keyd: --peer is needed: the USER:GROUP that may connect'),
        (['--peer', '0:0'], 'coffer-keyd: --allow is needed: the operations to answer (MINT, UNWRAP)'),
        (['--peer', '0:0', '--allow', 'REWRAP'], "coffer-keyd: --allow: 'REWRAP' is not an operation (MINT, UNWRAP, STATUS)"),
        (base + ['more'], "coffer-keyd: unexpected argument 'more'"),
        (base + ['--idle-timeout-ms', '0'], 'coffer-keyd: --idle-timeout-ms must be more than 0'),
    ]
    for argv, want in cases:
        p = subprocess.run([KEYD] + argv, capture_output=True, text=True, check=False)
        assert p.returncode == 2 and p.stderr == want + '\n', (argv, p)


def start_refusals(root):
    def refused(want, **kw):
        k = Keyd(root, **kw)
        assert k.p.wait(timeout=60) == 1, k.log()
        assert want in k.log(), k.log()
        assert not os.path.exists(k.path) or not stat.S_ISSOCK(os.lstat(k.path).st_mode), 'a socket was made'
    master = os.path.join(root, 'master')
    refused("key service 'dev' is insecure (file://): it needs --insecure-file-kms", insecure=False)
    os.chmod(master, 0o640)
    refused(f"master key '{master}' must have mode 0600, it has 0640")
    os.chmod(master, 0o600)
    os.truncate(master, 31)
    refused(f"master key '{master}' must hold exactly 32 bytes, it holds 31")
    os.unlink(master)
    refused(f"open master key '{master}': No such file or directory")
    with open(os.open(master, os.O_WRONLY | os.O_CREAT, 0o600), 'wb') as f:
        f.write(os.urandom(32))
    with open(os.path.join(root, 'keyd.sock'), 'w', encoding='utf-8') as f:
        f.write('mine')
    refused('exists and is not a socket')
    os.unlink(os.path.join(root, 'keyd.sock'))


def missing_socket_directory(root):
    p = subprocess.run([KEYD, '--config', os.path.join(root, 'config.json'), '--socket', os.path.join(root, 'none/keyd.sock'),
                        '--peer', ME, '--allow', 'MINT', '--insecure-file-kms'], capture_output=True, text=True, check=False)
    assert p.returncode == 1 and 'No such file or directory' in p.stderr, p


def closed_descriptors(root):
    argv = [KEYD, '--config', os.path.join(root, 'config.json'), '--socket', os.path.join(root, 'keyd.sock'), '--allow', 'MINT',
            '--insecure-file-kms', '--peer', ME]
    p = subprocess.Popen(['sh', '-c', 'exec "$@" 2>&-', 'sh', *argv])
    try:
        end = time.monotonic() + 60
        while True:
            assert p.poll() is None and time.monotonic() < end
            try:
                c = Client(os.path.join(root, 'keyd.sock'))
                break
            except (FileNotFoundError, ConnectionRefusedError):  # not bound yet, or not listening yet
                time.sleep(0.01)
        with c:
            assert c.ask(mint()).code == 'OK'
        assert os.path.getsize(os.path.join(root, 'keyd.sock.lock')) == 0, 'the log went into the lock file'
    finally:
        p.kill()
        p.wait()


def socket_mode_and_warning(root):
    with Keyd(root) as k:
        assert stat.S_IMODE(os.stat(k.path).st_mode) == 0o660
        assert 'INSECURE key service' in k.log()
        s = status(k)
        assert s['insecure'] is True and s['wire'] == 1 and s['allow'] == ['MINT', 'UNWRAP', 'STATUS'], s
        assert s['kms'] == [{'name': 'dev', 'kind': 'file', 'insecure': True}], s


def mint_and_unwrap(root):
    with Keyd(root) as k, k.client() as c:
        key = new_key(c)
        assert key.startswith('file:v1:'), key
        first = open_key(c, key)
        assert first == open_key(c, key, use='expand'), 'another key the second time'
        with k.client() as other:
            assert first == open_key(other, key)
        assert first != open_key(c, new_key(c)), 'two volumes with one key'
        k.stop()
    with Keyd(root) as k, k.client() as c:
        assert first == open_key(c, key), 'another key after a restart'


def wrong_binding(root):
    with Keyd(root) as k, k.client() as c, pipe() as (r, w):
        key, want = new_key(c), 'the wrapped key was not made for this volume here, or it was changed'
        other = [('dev', 'team-b', VOLUME, UUID), ('dev', 'team-a', VOLUME[:-1] + '0', UUID), ('dev', 'team-a', VOLUME, UUID[:-1] + '9')]
        for binding in other:
            reply = c.ask(unwrap(key, binding), [w])
            assert (reply.code, reply.message) == ('FAILED_PRECONDITION', want), (binding, reply.message)
        flip = key[:-2] + ('A' if key[-2] != 'A' else 'B') + key[-1]
        for bad in (flip, 'file:v1:AAAA', 'vault:v1:AAAA', ''):
            reply = c.ask(unwrap(bad), [w])
            assert (reply.code, reply.message) == ('FAILED_PRECONDITION', want), (bad, reply.message)
        assert pipe_is_empty(r), 'something was written'


def refused_values(root):
    cases = [
        (mint(('none', *BINDING[1:])), 'FAILED_PRECONDITION', "coffer-keyd has no key service 'none'"),
        (mint(('dev', 'Team A', VOLUME, UUID)), 'INVALID_ARGUMENT', "'Team A' is not a tenant's name"),
        (mint(('dev', 'team-a', 'x', UUID)), 'INVALID_ARGUMENT', None),
        (mint(('dev', 'team-a', VOLUME, UUID.upper())), 'INVALID_ARGUMENT', None),
        (mint(deadline=0), 'DEADLINE_EXCEEDED', 'the request came after its deadline'),
    ]
    with Keyd(root) as k, k.client() as c, pipe() as (_, w):
        for data, code, message in cases:
            reply = c.ask(data)
            assert reply.code == code and message in (None, reply.message), (data, reply.code, reply.message)
        key = new_key(c)
        reply = c.ask(unwrap(key, use='copy'), [w])
        assert (reply.code, reply.message) == ('INVALID_ARGUMENT', "'copy' is not a use of a key")
        reply = c.ask(unwrap(key, kind='transit'), [w])
        assert reply.code == 'FAILED_PRECONDITION', reply.message
        reply = c.ask(unwrap(key, token=b'a.jwt'), [w])
        assert (reply.code, reply.message) == ('INVALID_ARGUMENT', 'a file key service takes no caller token')
        assert open_key(c, key), 'the connection goes on'


def not_allowed_op(root):
    with Keyd(root, allow='UNWRAP') as k, k.client() as c:
        reply = c.ask(mint())
        assert (reply.code, reply.message) == ('PERMISSION_DENIED', 'this coffer-keyd does not answer MINT')
        assert c.ask(frame(STATUS, 1000)).code == 'OK', 'the connection goes on'


def peer_refused(root):
    with Keyd(root, peer='54321:54321') as k:
        for early in (False, True):
            with k.client() as c:
                if early:
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        c.send(mint())
                try:
                    reply = c.receive()
                except ConnectionResetError:  # keyd closed with our request unread; its reply is still there
                    reply = c.receive()
                assert reply.code == 'PERMISSION_DENIED' and reply.op == 0x8000, reply.code
                assert c.ended()
        k.wait_log('peer refused')
    with Keyd(root, peer=f'{os.geteuid()}:54321') as k, k.client() as c:
        assert c.receive().code == 'PERMISSION_DENIED', 'the gid must count'


def other_uid(root):
    """keyd as an unprivileged uid of its own; root is the only allowed peer."""
    if os.geteuid() != 0:
        raise Skip('needs root to start keyd under another uid')
    os.chown(root, 54321, 54321)
    os.chmod(root, 0o755)
    os.chown(os.path.join(root, 'master'), 54321, 54321)
    with Keyd(root, uid=54321) as k, k.client() as c:
        assert open_key(c, new_key(c))
        with open(f'/proc/{k.p.pid}/status', encoding='ascii') as f:
            text = f.read()
        assert re.search(r'^CapEff:\s*0+$', text, re.M) and re.search(r'^Uid:\s*54321\s', text, re.M)


def sandboxed(root):
    with Keyd(root) as k:
        with open(f'/proc/{k.p.pid}/status', encoding='ascii') as f:
            text = f.read()
        for name in ('CapEff', 'CapPrm', 'CapInh', 'CapAmb'):
            assert re.search(rf'^{name}:\s*0+$', text, re.M), name
        assert re.search(r'^NoNewPrivs:\s*1$', text, re.M)
        if not built_with(b'__asan_init') and not built_with(b'__tsan_init'):
            assert re.search(r'^Seccomp:\s*2$', text, re.M), 'no seccomp filter'
        with open(f'/proc/{k.p.pid}/limits', encoding='ascii') as f:
            assert re.search(r'^Max core file size\s+0\s+0', f.read(), re.M)


def descriptors_counted(root):
    with Keyd(root) as k:
        with k.client() as c:
            key = new_key(c)
        cases = {'no descriptor': (unwrap(key), 0), 'two': (unwrap(key), 2), 'eight': (unwrap(key), 8),
                 'nine (control data cut)': (unwrap(key), 9), 'a hundred': (unwrap(key), 100), 'one for MINT': (mint(), 1),
                 'one for STATUS': (frame(STATUS, 1000), 1)}
        for name, (data, n) in cases.items():
            with k.client() as c, pipe() as (r, w):
                c.send(data, [w] * n)
                assert c.ended(), name
                assert pipe_is_empty(r), name
        assert status(k)['counters']['broken'] == len(cases)
        held = len(os.listdir(f'/proc/{k.p.pid}/fd')) if os.geteuid() == 0 else None
        assert held is None or held < 12, f'{held} descriptors are open'


def wrong_descriptors(root):
    with Keyd(root) as k, k.client() as c:
        key = new_key(c)
        fifo = os.path.join(root, 'fifo')
        os.mkfifo(fifo)
        not_pipe, not_write = 'the descriptor is not a pipe', 'the descriptor is not the write end of a pipe'
        with pipe() as (r, w), open(os.path.join(root, 'file'), 'wb') as f, open('/dev/null', 'wb') as null:
            named = os.open(fifo, os.O_RDWR)
            both = os.open(f'/proc/self/fd/{w}', os.O_RDWR)
            a, b = socket.socketpair()
            cases = [(f.fileno(), not_pipe), (null.fileno(), not_pipe), (named, not_pipe), (a.fileno(), not_pipe),
                     (r, not_write), (both, not_write)]
            for fd, want in cases:
                reply = c.ask(unwrap(key), [fd])
                assert (reply.code, reply.message) == ('INVALID_ARGUMENT', want), (fd, reply.message)
            assert pipe_is_empty(r)
            for fd in (named, both):
                os.close(fd)
            a.close()
            b.close()
            assert os.path.getsize(os.path.join(root, 'file')) == 0


def full_pipe_and_no_reader(root):
    with Keyd(root) as k, k.client() as c:
        key = new_key(c)
        r, w = os.pipe()
        os.set_blocking(w, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(w, bytes(4096))
        os.set_blocking(w, True)
        started = time.monotonic()
        reply = c.ask(unwrap(key), [w])
        assert (reply.code, reply.message) == ('FAILED_PRECONDITION', 'the pipe is full')
        assert time.monotonic() - started < 60
        assert fcntl.fcntl(w, fcntl.F_GETFL) & os.O_NONBLOCK, 'keyd would have blocked'
        os.close(r)
        reply = c.ask(unwrap(key), [w])
        assert (reply.code, reply.message) == ('CANCELLED', 'the pipe has no reader')
        os.close(w)
        assert open_key(c, key), 'keyd survived SIGPIPE'


def malformed_frames_end_the_connection(root):
    good = mint()
    cases = {
        'wrong magic': frame(MINT, 5000, *BINDING, magic=b'DFOC'),
        'unknown op': frame(9, 5000), 'reserved op': frame(4, 5000, *BINDING), 'op 0': frame(0), 'a reply': frame(0x8001, 'OK', ''),
        'trailing byte': frame(MINT, 5000, *BINDING, extra=b'\0'), 'trailing field': frame(MINT, 5000, *BINDING, 'x'),
        'length too long': frame(MINT, 5000, *BINDING, length=4096), 'length too short': frame(MINT, 5000, *BINDING, length=1),
        'one byte': b'C', 'header cut': good[:11], 'header only': good[:12], 'cut': good[:-1],
        'field missing': frame(MINT, 5000, *BINDING[:-1]), 'NUL in a text': frame(MINT, 5000, 'de\0v', *BINDING[1:]),
        'not UTF-8': frame(MINT, 5000, b'\xff', *BINDING[1:]), 'text too long': frame(MINT, 5000, 'k' * 64, *BINDING[1:]),
        'number too short': frame(STATUS, b'1234567'), 'oversize': frame(MINT, 5000, *BINDING, extra=bytes(FRAME_MAX)),
        'largest that is wrong': frame(MINT, extra=bytes(FRAME_MAX - 12)), 'empty frame': b'',
    }
    with Keyd(root) as k:
        for name, data in cases.items():
            with k.client() as c:
                c.send(data)
                assert c.ended(), name
        with k.client() as c:
            assert c.ask(good).code == 'OK'
        assert status(k)['counters']['broken'] == len(cases) - 1, 'the empty frame is an end, the others are broken'


def random_frames(root):
    state = b'fixed seed'
    with Keyd(root) as k:
        for i in range(300):
            state = hashlib.sha256(state).digest()
            data = bytearray(mint() if i % 2 else unwrap('file:v1:AAAA'))
            for j in range(1 + state[0] % 4):
                data[state[j + 1] % len(data)] = state[j + 8]
            with k.client() as c, pipe() as (_, w):
                c.send(bytes(data), [w] if state[20] % 2 else [])
        with k.client() as c:
            assert c.ask(mint()).code == 'OK'
        assert k.p.poll() is None


def other_version(root):
    with Keyd(root) as k, k.client() as c:
        reply = c.ask(frame(MINT, 5000, *BINDING, version=2))
        assert (reply.version, reply.op, reply.code) == (1, 0x8000, 'UNAVAILABLE')
        assert reply.message == 'this coffer-keyd speaks wire version 1, the caller version 2'
        assert c.ended()


def idle_connection(root):
    with Keyd(root, '--idle-timeout-ms', '300') as k, k.client() as c:
        started = time.monotonic()
        assert c.ended()
        assert 0.2 < time.monotonic() - started < 60
        assert status(k)['counters']['idle_closed'] == 1


def reader_that_does_not_read(root):
    with Keyd(root) as k, k.client() as c:
        c.s.settimeout(0.5)
        with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
            for _ in range(100000):
                c.send(mint())
        assert status(k)['wire'] == 1, 'others are served meanwhile'


def three_hundred_connections(root):
    with Keyd(root, '--idle-timeout-ms', '60000') as k:
        clients = [k.client() for _ in range(300)]
        try:
            for c in clients[:256]:
                c.send(mint())
            assert all(c.receive().code == 'OK' for c in clients[:256])
            for c in clients[256:]:
                c.send(mint())
            assert not select.select([c.s for c in clients[256:]], [], [], 0.3)[0], 'more than 256 were served at once'
            for c in clients[:100]:
                c.s.close()
            assert all(c.receive().code == 'OK' for c in clients[256:]), 'those who waited are served'
        finally:
            for c in clients:
                c.s.close()
        assert k.p.poll() is None and status(k)['counters']['accepted'] == 301


def second_instance(root):
    with Keyd(root) as k, k.client() as c:
        second = Keyd(root, socket_name='keyd.sock')
        assert second.p.wait(timeout=60) == 1
        assert f"another coffer-keyd serves '{k.path}'" in k.log()
        assert c.ask(mint()).code == 'OK'
        with k.client() as other:
            assert other.ask(mint()).code == 'OK', 'the socket is still the first one'


def killed_and_restarted(root):
    with Keyd(root) as k:
        k.p.kill()
        k.p.wait()
        assert os.path.exists(k.path)
    with Keyd(root) as k, k.client() as c:
        assert c.ask(mint()).code == 'OK'


def stop_unlinks(root):
    for number in (signal.SIGTERM, signal.SIGINT):
        with Keyd(root) as k, k.client() as c:
            assert c.ask(mint()).code == 'OK'
            k.p.send_signal(number)
            assert k.p.wait(timeout=60) == 0, number
            assert not os.path.exists(k.path)
            assert c.ended()


def counters_on_signal(root):
    with Keyd(root) as k, k.client() as c:
        c.ask(mint())
        c.ask(mint(deadline=0))
        k.p.send_signal(signal.SIGUSR1)
        k.wait_log('requests="MINT OK=1, MINT DEADLINE_EXCEEDED=1"')
        assert c.ask(frame(STATUS, 1000)).code == 'OK', 'it goes on'
        s = status(k)
        assert s['counters']['requests'] == {'MINT': {'OK': 1, 'DEADLINE_EXCEEDED': 1}, 'UNWRAP': {}, 'STATUS': {'OK': 1}}, s


def audit_lines(root):
    with Keyd(root, '--log-format', 'json') as k, k.client() as c:
        key = new_key(c)
        open_key(c, key, use='break-glass')
        with pipe() as (_, w):
            c.ask(unwrap(key, ('dev', 'team-b', VOLUME, UUID)), [w])
        k.wait_log('"tenant":"team-b"')
        lines = [json.loads(line) for line in k.log().splitlines()]
        audit = [line for line in lines if line['msg'] == 'audit']
        got = [(a['op'], a['use'], a['tenant'], a['volume_id'], a['kms'], a['peer_uid'], a['result']) for a in audit]
        uid = os.geteuid()
        assert got == [('MINT', '', 'team-a', VOLUME, 'dev', uid, 'OK'), ('UNWRAP', 'break-glass', 'team-a', VOLUME, 'dev', uid, 'OK'),
                       ('UNWRAP', 'stage', 'team-b', VOLUME, 'dev', uid, 'FAILED_PRECONDITION')], got


def key_only_in_the_pipe(root):
    """Nothing that ever came over a socket or went to a log, in this test or another, holds a key in any form."""
    import base64
    keys = [open(os.path.join(root, 'master'), 'rb').read()]
    with Keyd(root, '--log-level', 'debug') as k, k.client() as c:
        for _ in range(5):
            keys.append(open_key(c, new_key(c)))
        status(k)
        k.p.send_signal(signal.SIGUSR1)
        k.wait_log('counters')
        log = k.log().encode()
        assert log.count(b'audit') == 10
        with open(f'/proc/{k.p.pid}/cmdline', 'rb') as f:
            log += f.read()
    for key in keys:
        for form in (key, key.hex().encode(), key.hex().upper().encode(), base64.b64encode(key)[:42], key[:16], key[16:]):
            assert form not in Client.seen and form not in log, 'a key came out'
    assert b'file:v1:' not in log, 'a wrapped key in the log'


def killed_in_the_middle(root):
    if not built_with(b'COFFER_FAULT_DIR'):
        raise Skip('this build has no fault points')
    arm = os.path.join(root, 'coffer-keyd.arm')

    def kill_at(point):
        with open(arm, 'w', encoding='ascii') as f:
            f.write(f'kill {point}\n')

    os.environ['COFFER_FAULT_DIR'] = root
    try:
        with Keyd(root) as k, k.client() as c:
            key = new_key(c)
            want = open_key(c, key)
        for point, written in (('keyd:unwrap:before-write', False), ('keyd:unwrap:after-write', True)):
            with Keyd(root) as k, k.client() as c, pipe() as (r, w):
                kill_at(point)
                c.send(unwrap(key), [w])
                assert c.ended() and k.p.wait(timeout=60) == -signal.SIGKILL, point
                assert (read_frame(r) == want) if written else pipe_is_empty(r), point
                os.unlink(arm)
        with Keyd(root) as k, k.client() as c:
            kill_at('keyd:mint:before-reply')
            c.send(mint())
            assert c.ended()
            os.unlink(arm)
        with Keyd(root) as k, k.client() as c:
            assert open_key(c, key) == want, 'another key after the kills'
    finally:
        del os.environ['COFFER_FAULT_DIR']


TESTS = [help_and_version, wrong_flags_have_one_sentence, start_refusals, missing_socket_directory, closed_descriptors,
         socket_mode_and_warning,
         mint_and_unwrap, wrong_binding, refused_values, not_allowed_op, peer_refused, other_uid, sandboxed, descriptors_counted,
         wrong_descriptors, full_pipe_and_no_reader, malformed_frames_end_the_connection, random_frames, other_version,
         idle_connection, reader_that_does_not_read, three_hundred_connections, second_instance, killed_and_restarted,
         stop_unlinks, counters_on_signal, audit_lines, killed_in_the_middle, key_only_in_the_pipe]


def main():
    print(f'1..{len(TESTS)}')
    failed = 0
    for number, test in enumerate(TESTS, 1):
        name, root = test.__name__.replace('_', ' '), make_root()
        try:
            test(root)
            print(f'ok {number} - {name}', flush=True)
        except Skip as why:
            print(f'ok {number} - {name} # SKIP {why}', flush=True)
        except Exception as e:  # a test's failure, whatever it is
            failed += 1
            print(f'not ok {number} - {name}\n# {type(e).__name__}: {str(e)[:2000]}', flush=True)
        finally:
            shutil.rmtree(root)
    return 1 if failed else 0


sys.exit(main())
