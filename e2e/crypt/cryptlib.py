# SPDX-License-Identifier: Apache-2.0
"""What the coffer-crypt stories share: the wire to the helper, a volume on a loop device, and the derivations
computed a second time, independently (RFC 5869, RFC 2104)."""
import base64
import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import stat
import struct
import subprocess
import tempfile
import time
import traceback
import uuid as uuidlib

MIB = 1 << 20
FS_MARK = (b'a known plaintext that must never reach the disk as it is. ' * 70)[:4096]


class Refused(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def run(*argv, input=None):  # pylint: disable=redefined-builtin
    p = subprocess.run(argv, input=input, capture_output=True, check=False)
    if p.returncode != 0:
        raise RuntimeError(f'{argv}: {p.returncode}: {p.stderr.decode(errors="replace")}')
    return p.stdout.decode(errors='replace')


def dm(*args):
    return run('dmsetup', *args)


def hkdf(sk, uuid, info):
    prk = hmac.new(uuidlib.UUID(uuid).bytes, sk, hashlib.sha256).digest()
    return hmac.new(prk, info + b'\x01', hashlib.sha256).digest()


def passphrase_of(sk, uuid):
    return hkdf(sk, uuid, b'coffer/v1 luks2 keyslot').hex()


def canonical(obj):
    return json.dumps(obj, sort_keys=True, separators=(',', ':'), ensure_ascii=False).encode()


def mac_of(sk, record):
    fields = {k: v for k, v in record.items() if k not in ('gen', 'key', 'size', 'state', 'mac')}
    return hmac.new(hkdf(sk, record['uuid'], b'coffer/v1 record'), canonical(fields), hashlib.sha256).hexdigest()


def digest_of(device):
    dump = json.loads(run('cryptsetup', 'luksDump', '--dump-json-metadata', device))
    [d] = dump['digests'].values()
    return hashlib.sha256(canonical({k: d[k] for k in ('type', 'hash', 'iterations', 'salt', 'digest')})).hexdigest()


def context_of(record):
    parts = [t.encode() for t in ('coffer/v1', 'volume', record['tenant'], record['id'], record['uuid'])]
    return hashlib.sha256(b''.join(len(p).to_bytes(4, 'big') + p for p in parts)).digest()


def rsa_recipient(private_key, sk, label='escrow', bits=256):
    """The stock tool's wrapping, as an entry of a record's list."""
    der = subprocess.run(['openssl', 'pkey', '-in', private_key, '-pubout', '-outform', 'DER'], capture_output=True, check=True).stdout
    options = ['rsa_padding_mode:oaep', f'rsa_oaep_md:sha{bits}', f'rsa_mgf1_md:sha{bits}']
    wrapped = subprocess.run(['openssl', 'pkeyutl', '-encrypt', '-inkey', private_key, *(a for o in options for a in ('-pkeyopt', o))],
                             input=sk, capture_output=True, check=True).stdout
    return {'alg': f'RSA-OAEP-{bits}', 'key': base64.b64encode(der).decode(), 'label': label,
            'wrapped': base64.b64encode(wrapped).decode()}


def stock_format(v):
    """Coffer's form of a header, by the stock tool: where there is no device-mapper, coffer-crypt can't format."""
    run('cryptsetup', '-q', 'luksFormat', '--type=luks2', f'--uuid={v.uuid}', '--cipher=aes-xts-plain64', '--key-size=512',
        '--sector-size=4096', '--hash=sha256', '--pbkdf=pbkdf2', '--pbkdf-force-iterations=1000', '--offset=8192',
        '--luks2-metadata-size=16k', '--luks2-keyslots-size=4161536', '--key-file=-', v.loop, input=passphrase_of(v.sk, v.uuid).encode())
    v.record['digest'] = digest_of(v.loop)
    v.record['mac'] = mac_of(v.sk, v.record)


class Volume:
    """A volume on a loop device of its own, with the record that a node would hand over."""

    def __init__(self, image, size, uuid=None, name='pvc-1', sk=None):
        self.image, self.sk = image, sk or os.urandom(32)
        self.uuid = uuid or str(uuidlib.uuid4())
        tag = os.urandom(4).hex()
        digits = hashlib.sha256(image.encode()).hexdigest()[:32]
        self.name = f'coffer-{digits}-{tag}'
        self.dm_uuid = f'CRYPT-LUKS2-{self.uuid.replace("-", "")}-{self.name}'
        self.device = None
        self.record = {
            'v': 1, 'gen': 3, 'id': f'fast.{tag}.{digits}', 'name': name, 'uuid': self.uuid, 'tenant': 'lab',
            'size': size - 4 * MIB, 'state': 'ready',
            'crypt': {'cipher': 'aes-xts-plain64', 'key_bits': 512, 'sector': 4096, 'data_offset': 4 * MIB},
            'fs': 'ext4', 'kms': 'dev', 'key': {'kind': 'file', 'ciphertext': 'x', 'key_version': 1},
            'keySource': 'vault', 'digest': '', 'mac': '', 'sealed': False, 'recipients': [], 'source': None,
            'created': '2026-11-22T01:02:03Z'}
        with open(image, 'wb') as f:
            f.truncate(size)
        self.loop = run('losetup', '-f', '--show', image).strip()

    def but(self, **changes):
        """A copy that says something else, for requests that must be refused."""
        other = object.__new__(Volume)
        other.__dict__.update(self.__dict__, **changes)
        return other

    def remove(self):
        run('losetup', '-d', self.loop)
        os.unlink(self.image)

    def devno(self):
        st = os.stat(self.loop)
        return self.device or f'{os.major(st.st_rdev)}:{os.minor(st.st_rdev)}'

    def size(self):
        return os.stat(self.image).st_size

    def grow(self, by):
        os.truncate(self.image, self.size() + by)
        run('losetup', '-c', self.loop)

    def hash(self):
        os.sync()
        with open(self.image, 'rb') as f:
            return hashlib.file_digest(f, 'sha256').hexdigest()

    def header(self):
        with open(self.loop, 'rb') as f:
            return f.read(4 * MIB)

    def put_header(self, data):
        with open(self.loop, 'r+b') as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())

    def frame(self, status=0):
        return struct.pack('<IIII', 0x4b464f43, status, 32, 0) + self.sk

    def keyed(self, sk, mac, stale):
        """The same volume when its record names another key."""
        record = {k: v for k, v in self.record.items() if k != 'staleSlots'} | {'mac': mac}
        return self.but(sk=sk, record=record | ({'staleSlots': True} if stale else {}))

    def slots(self):
        return sorted(json.loads(run('cryptsetup', 'luksDump', '--dump-json-metadata', self.loop))['keyslots'])

    def stock_opens(self, sk):
        """The stock tool's word for it."""
        return subprocess.run(['cryptsetup', 'open', '--test-passphrase', self.loop], check=False, capture_output=True,
                              input=passphrase_of(sk, self.uuid).encode()).returncode == 0

    def node(self, c):
        """Opens the mapping by a node of our own, as coffer-node does."""
        [m] = [m for m in c.list() if m['name'] == self.name]
        path = os.path.join(tempfile.mkdtemp(), 'node')
        major, minor = m['dev'].split(':')
        os.mknod(path, 0o600 | stat.S_IFBLK, os.makedev(int(major), int(minor)))
        try:
            return os.open(path, os.O_RDONLY if m['read_only'] else os.O_RDWR)
        finally:
            os.unlink(path)

    def write(self, c, data, at=0):
        fd = self.node(c)
        os.pwrite(fd, data, at)
        os.fsync(fd)
        os.close(fd)

    def read(self, c, n, at=0):
        fd = self.node(c)
        try:
            return os.pread(fd, n, at)
        finally:
            os.close(fd)


class Fault:
    """Arms the test build's fault points for coffer-crypt (common/fault.h)."""

    def __init__(self, what):
        self.dir, self.what = tempfile.mkdtemp(), what

    def path(self, end):
        return f'{self.dir}/coffer-crypt.{end}'

    def __enter__(self):
        with open(self.path('arm'), 'w', encoding='utf-8') as f:
            f.write(self.what)
        os.environ['COFFER_FAULT_DIR'] = self.dir
        return self

    def __exit__(self, *_):
        os.environ.pop('COFFER_FAULT_DIR', None)
        os.unlink(self.path('arm'))

    def trace(self):
        with contextlib.suppress(FileNotFoundError), open(self.path('trace'), encoding='utf-8') as f:
            return f.read().split()
        return []

    def wait_paused(self):
        end = time.monotonic() + 300
        while not os.path.exists(self.path('paused')):
            assert time.monotonic() < end, 'the helper did not reach its pause point'
            time.sleep(0.02)


class Helper:
    def __init__(self, process, fds):
        self.process, self.fds = process, fds


class Crypt:
    """The caller's half, in Python: one process per verb, descriptors 3 to 8."""

    def __init__(self, prefix=()):
        self.helper = os.path.join(os.path.abspath(os.environ.get('COFFER_BIN', 'build/test')), 'coffer-crypt')
        self.prefix = list(prefix)
        self.rescued = b''  # what the last rescue wrote, also when it was refused

    @staticmethod
    def fault(what):
        return Fault(what)

    @staticmethod
    def spawn(argv, fds):
        """fds: {number: descriptor}. The numbers may be taken by other descriptors of ours, hence two steps."""
        high = {n: fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for n, fd in fds.items()}

        def child():
            for n in range(3, 9):
                with contextlib.suppress(OSError):
                    os.close(n)
            for n, fd in high.items():
                os.dup2(fd, n)

        try:
            return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                    close_fds=False, preexec_fn=child)  # pylint: disable=subprocess-popen-preexec-fn
        finally:
            for fd in high.values():
                os.close(fd)

    def start(self, verb, v=None, out=None, frame=None, keep_open=False, new_frame=None, **request):
        fds, close = {}, []
        if v is not None and verb != 'close':
            request.update(record=v.record, device=v.devno())
        if v is not None:
            request['name'] = v.name
        request.setdefault('wait_ms', 20000)
        if verb == 'rekey':
            request.setdefault('recipients', v.record['recipients'])
        if verb in ('format', 'open', 'resize', 'passphrase', 'recipients', 'rekey', 'prune'):
            r, w = os.pipe()
            os.write(w, v.frame() if frame is None else frame)
            if not keep_open:
                os.close(w)
                w = None
            dev = os.open(v.loop, os.O_RDWR)
            fds.update({3: r, 4: dev})
            close += [r, dev]
            if w is not None:
                close.append(w)
        if new_frame is not None:
            fds[7], w = os.pipe()
            os.write(w, new_frame)
            os.close(w)
            close.append(fds[7])
        if out is not None:
            fds[6] = out
        p = self.spawn(self.prefix + [self.helper, verb], fds)
        p.stdin.write(json.dumps(request).encode())
        p.stdin.close()
        p.stdin = None
        return Helper(p, close)

    @staticmethod
    def finish(helper):
        out, errors = helper.process.communicate(timeout=1800)
        for fd in helper.fds:
            os.close(fd)
        code = helper.process.returncode
        if code < 0:
            raise RuntimeError(f'ended by signal {-code}; stderr: {errors.decode(errors="replace")[-500:]}')
        reply = json.loads(out)
        assert not errors, errors
        assert ('error' in reply) == (code != 0), (code, reply)
        if code != 0:
            raise Refused(reply['error']['code'], reply['error']['message'])
        return reply

    def call(self, verb, v=None, **kw):
        return self.finish(self.start(verb, v, **kw))

    def list(self):
        return self.call('list')['mappings']

    def format(self, v, stored_state, read_only=False, **kw):
        reply = self.call('format', v.but(record=dict(v.record, digest='', mac='')), stored_state=stored_state,
                          read_only=read_only, **kw)
        v.record.update(digest=reply['digest'], mac=reply['mac'])
        return reply['mapping']

    def open(self, v, read_only=False, **kw):
        return self.call('open', v, read_only=read_only, **kw)['mapping']

    def check(self, v):
        return self.call('check', v)['mapping']

    def resize(self, v):
        return self.call('resize', v)['mapping']

    def rekey(self, v, sk, **kw):
        """The volume as its record reads afterwards."""
        with open(v.image + '.backup', 'wb') as f:
            reply = self.call('rekey', v, out=f.fileno(), new_frame=v.but(sk=sk).frame(), **kw)
        return v.keyed(sk, reply['mac'], stale=True)

    def prune(self, v, **kw):
        return v.keyed(v.sk, self.call('prune', v, **kw)['mac'], stale=False)

    def close(self, v, dm_uuid=None):
        return self.call('close', v, dm_uuid=dm_uuid or v.dm_uuid, wait_ms=2000)

    def rescue(self, v, private_key):
        r, w = os.pipe()
        try:
            with open(private_key, 'rb') as key:
                dev = os.open(v.loop, os.O_RDONLY)
                request = {'record': v.record, 'device': v.devno(), 'name': v.name, 'wait_ms': 20000}
                p = self.spawn(self.prefix + [self.helper, 'rescue'], {4: dev, 6: w, 8: key.fileno()})
                p.stdin.write(json.dumps(request).encode())
                p.stdin.close()
                p.stdin = None
                self.finish(Helper(p, [dev]))
        finally:
            os.close(w)
            out = os.read(r, 4096)
            os.close(r)
            self.rescued = out
        return out

    def passphrase(self, v):
        r, w = os.pipe()
        try:
            self.call('passphrase', v, out=w)
        finally:
            os.close(w)
        out = os.read(r, 4096)
        os.close(r)
        return out


class Tests:
    """A story's, in their order: each is a function of the helper and of one volume, which goes from test to test."""

    def __init__(self):
        self.all = []

    def add(self, function):
        self.all.append(function)
        return function

    def run(self, title):
        """Prints TAP; the exit code."""
        if os.geteuid() != 0 or not os.path.exists('/sys/class/misc/device-mapper'):
            print(f'ok 1 - {title} # SKIP needs root and device-mapper')
            return 77
        c, v, bad = Crypt(), Volume(f'/tmp/{title}.img', 64 * MIB), 0
        print(f'1..{len(self.all)}')
        for n, function in enumerate(self.all, 1):
            name = function.__name__.replace('_', ' ')
            try:
                function(c, v)
                print(f'ok {n} - {name}', flush=True)
            except Exception:  # pylint: disable=broad-except
                bad += 1
                print(f'not ok {n} - {name}\n# ' + traceback.format_exc().replace('\n', '\n# '), flush=True)
        v.remove()
        return 1 if bad else 0


def refuses(code, text, call, *args, **kw):
    try:
        call(*args, **kw)
    except Refused as e:
        assert e.code == code, f'{e.code} instead of {code}: {e}'
        assert text in str(e), f'"{text}" is not in: {e}'
        return
    raise AssertionError(f'not refused: {call.__name__}')
