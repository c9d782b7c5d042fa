# SPDX-License-Identifier: Apache-2.0
"""The rig of coffer-scheduler's tests: the real program with the stub driver, a device made with openssl, and its requests over
a unix socket or TLS. Python's own library and openssl alone."""
import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
import time
import uuid as uuids

import caselib

GIB = 1 << 30
OAEP = {name: ['-pkeyopt', 'rsa_padding_mode:oaep', '-pkeyopt', f'rsa_oaep_md:{md}', '-pkeyopt', f'rsa_mgf1_md:{md}']
        for name, md in (('RSA-OAEP-256', 'sha256'), ('RSA-OAEP-512', 'sha512'))}


def openssl(*args, data=b''):
    return subprocess.run(['openssl', *args], input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout


def b64(data):
    return base64.b64encode(data).decode()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Device:
    """What a user's device keeps: an RSA key, and what it knows of its cloud."""

    def __init__(self, folder, bits=2048, algorithm='RSA-OAEP-256'):
        self.path = os.path.join(folder, f'device-{uuids.uuid4().hex}.pem')
        self.public_path = self.path + '.pub'
        self.algorithm = algorithm
        openssl('genpkey', '-algorithm', 'RSA', '-pkeyopt', f'rsa_keygen_bits:{bits}', '-out', self.path)
        self.der = openssl('pkey', '-in', self.path, '-pubout', '-outform', 'DER')
        caselib.write(self.public_path, openssl('pkey', '-in', self.path, '-pubout').decode())
        modulus = openssl('rsa', '-in', self.path, '-noout', '-modulus').decode().strip().partition('=')[2]
        n = base64.urlsafe_b64encode(bytes.fromhex(modulus)).rstrip(b'=')
        self.name, self.fingerprint, self.public_key = sha256(n), sha256(self.der), b64(self.der)
        self.url = f'/v1/clouds/{self.name}'
        self.uuid, self.key = str(uuids.uuid4()), os.urandom(32)

    def seal(self, data, algorithm=None):
        return b64(openssl('pkeyutl', '-encrypt', '-pubin', '-inkey', self.public_path, *OAEP[algorithm or self.algorithm], data=data))

    def unseal(self, text):
        return openssl('pkeyutl', '-decrypt', '-inkey', self.path, *OAEP[self.algorithm], data=base64.b64decode(text))

    def commitment(self, key=None):
        return hmac.new(key or self.key, b'coffer/v1 commit' + self.uuid.encode(), 'sha256').hexdigest()

    def session(self, server, volume, seconds=600, key=None):
        """Fields of a request: the storage key, lent."""
        expiry = (int(time.time()) + seconds).to_bytes(8, 'big')
        parts = (b'coffer/v1c', volume.encode(), self.uuid.encode(), self.fingerprint.encode(), expiry)
        binding = hashlib.sha256(b''.join(len(p).to_bytes(4, 'big') + p for p in parts)).digest()
        frame = b'coffer/v1c' + (key or self.key) + binding + expiry
        return {'session': server_seal(server, frame), 'serverKey': server['keyId']}

    def seed(self, **more):
        return {'publicKey': self.public_key, 'algorithm': self.algorithm, 'wrappedKey': self.wrapped(), 'uuid': self.uuid,
                'commitment': self.commitment(), **more}

    def wrapped(self):
        if not hasattr(self, 'form'):
            self.form = self.seal(self.key)
        return self.form


def server_seal(server, data):
    path = f'/tmp/coffer-server-{os.getpid()}-{threading.get_ident()}.der'
    with open(path, 'wb') as f:
        f.write(base64.b64decode(server['publicKey']))
    try:
        return b64(openssl('pkeyutl', '-encrypt', '-pubin', '-keyform', 'DER', '-inkey', path, *OAEP['RSA-OAEP-256'], data=data))
    finally:
        os.unlink(path)


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__('scheduler', timeout=caselib.PATIENCE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(caselib.PATIENCE)
        self.sock.connect(self.path)


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.raw = response.status, response.headers, response.read()
        self.json = json.loads(self.raw) if response.headers.get('Content-Type') == 'application/json' else None

    def __getitem__(self, key):
        return self.json[key]

    def __repr__(self):
        return f'{self.status} {self.raw[:400]!r}'


class Scheduler:
    """The program in a folder; its stub driver's control is `control(...)`."""

    def __init__(self, folder, flags=(), nodes=None, stub=None, **config):
        self.folder, self.flags, self.process = folder, list(flags), None
        self.socket, self.admin, self.log = (os.path.join(folder, name) for name in ('api.sock', 'admin.sock', 'log'))
        self.server_key = Device(folder)
        nodes = nodes if nodes is not None else [{'name': f'n{i}', 'memory': 8 * GIB, 'storage': 100 * GIB} for i in (1, 2)]
        self.config = {'driver': 'stub', 'url': 'https://clouds.example/clouds/', 'tenant': 'clouds',
                       'vm': {'ready_seconds': 5, 'stop_seconds': 1}, **config,
                       'stub': {'nodes': nodes, 'state': os.path.join(folder, 'state.json'),
                                'control': os.path.join(folder, 'control.json'),
                                'private_key': self.server_key.path,
                                'server_key': {'key_id': 'stub:1', 'hash': 'SHA-256', 'public_key': self.server_key.public_key},
                                **(stub or {})}}
        caselib.write(self.file('scheduler.json'), self.config)

    def file(self, name):
        return os.path.join(self.folder, name)

    def argv(self):
        return [caselib.program('coffer-scheduler'), '--config', self.file('scheduler.json'), '--listen-unix', self.socket,
                '--admin-socket', self.admin, '--keyd-socket', self.file('no-keyd.sock'), *self.flags]

    def start(self, fresh=True, **kw):
        self.process = caselib.spawn(self.argv(), self.log, self.listens, **kw)
        if fresh:
            caselib.wait_for(lambda: self.ask('GET', f'/v1/clouds/{"0" * 64}').status != 503, 'the first round', self.process, self.log)
        return self

    def listens(self):
        with contextlib.closing(self.connection()) as c, contextlib.suppress(OSError):
            c.connect()
            return True
        return False

    def stop(self):
        code = caselib.stop(self.process)
        assert code == 0, (code, caselib.read(self.log)[-3000:])

    def kill(self):
        caselib.end(self.process)

    def control(self, **what):
        caselib.write(self.file('control.tmp'), what)
        os.rename(self.file('control.tmp'), self.file('control.json'))

    def state(self):
        path = self.file('state.json')
        return json.loads(caselib.read(path)) if os.path.exists(path) else {}

    def connection(self):
        return Connection(self.socket)

    def ask(self, method, path, body=None, headers=None, connection=None):
        """body: a value, sent as JSON, or bytes."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = dict(headers or {})
        if data is not None and 'Content-Type' not in headers:
            headers['Content-Type'] = 'application/json'
        c = connection or self.connection()
        try:
            c.request(method, path, data, headers)
            return Answer(c.getresponse())
        finally:
            if connection is None:
                c.close()

    def admin_get(self, path):
        with contextlib.closing(Connection(self.admin)) as c:
            return self.ask('GET', path, connection=c)

    def challenge(self, device):
        answer = self.ask('POST', '/v1/challenges', {'publicKey': device.public_key, 'algorithm': device.algorithm})
        assert answer.status == 200, answer
        return answer['challenge'], device.unseal(answer['secret'])

    def prove(self, device, method, path, data=b'', challenge=None):
        token, secret = challenge or self.challenge(device)
        text = f'coffer/v1 proof\n{method}\n{path}\n{sha256(data)}\n'
        return f'{token} {hmac.new(secret, text.encode(), "sha256").hexdigest()}'

    def proved(self, device, method, path, body=None, challenge=None, connection=None):
        data = b'' if body is None else json.dumps(body).encode()
        return self.ask(method, path, None if body is None else data,
                        {'Coffer-Proof': self.prove(device, method, path, data, challenge)}, connection)

    def server(self):
        """What find tells of the server's key."""
        return {'keyId': 'stub:1', 'hash': 'SHA-256', 'publicKey': self.server_key.public_key}

    # ---- a user's flow ----

    def find(self, device, **kw):
        return self.ask('GET', device.url, **kw)

    def wait(self, device, *statuses, patient=False):
        """Until find says one of these; patient: `failure` may come first."""
        found = []

        def there():
            found[:] = [self.find(device)]
            status = found[0].json.get('status')
            assert patient or status != 'failure' or 'failure' in statuses, found[0]
            return status in statuses
        caselib.wait_for(there, f'{statuses} of {device.name[:8]}', self.process, self.log)
        return found[0]

    def deploy_body(self, device, found=None, **more):
        found = found or self.find(device)
        return device.seed(volumeId=found['volumeId'], **device.session(found['serverKey'], found['volumeId']), **more)

    def deploy(self, device):
        answer = self.proved(device, 'POST', device.url + '/deploy', self.deploy_body(device))
        assert answer.status == 202, answer
        return answer

    def created(self, device):
        self.deploy(device)
        return self.wait(device, 'attached')

    def mount(self, device, found=None, verb='mount', **kw):
        found = found or self.find(device)
        return self.proved(device, 'POST', f'{device.url}/{verb}', device.session(found['serverKey'], found['volumeId'], **kw))

    def lock(self, device):
        return self.proved(device, 'POST', device.url + '/lock', {})

    def locked(self, device):
        answer = self.lock(device)
        assert answer.status in (200, 202), answer
        return self.wait(device, 'detached')


class TlsScheduler(Scheduler):
    """The same by TCP and TLS, with a certificate of its own."""

    def __init__(self, folder, **kw):
        super().__init__(folder, **kw)
        self.port = free_port()
        self.new_pair('tls', 2)
        self.flags += ['--listen', f'127.0.0.1:{self.port}', '--tls-certificate', self.file('tls.crt'), '--tls-key', self.file('tls.key')]

    def new_pair(self, name, days):
        """A certificate NAME.crt and its key NAME.key in its folder."""
        openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', str(days),
                '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1',
                '-keyout', self.file(name + '.key'), '-out', self.file(name + '.crt'))

    def tls_connection(self):
        return http.client.HTTPSConnection('127.0.0.1', self.port, timeout=caselib.PATIENCE,
                                           context=ssl.create_default_context(cafile=self.file('tls.crt')))


@contextlib.contextmanager
def running(cls=Scheduler, **kw):
    with caselib.folder() as folder:
        s = cls(folder, **kw).start()
        try:
            yield s
        finally:
            s.kill()


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as s:
        return s.getsockname()[1]


def fetch(port, path):
    with contextlib.closing(http.client.HTTPConnection('127.0.0.1', port, timeout=caselib.PATIENCE)) as c:
        c.request('GET', path)
        response = c.getresponse()
        return response.status, response.read().decode()


def metrics(port):
    """Sample -> its value, as a text."""
    lines = fetch(port, '/metrics')[1].splitlines()
    return dict(line.rsplit(' ', 1) for line in lines if line and not line.startswith('#'))


# ---- cases: a function that takes a scheduler gets one of its own ----

ONE = {}  # a device for cases that need no cloud of its own: keys take time


def device(s):
    return Device(s.folder)


def any_device():
    if 'it' not in ONE:
        ONE['folder'] = contextlib.ExitStack()
        ONE['it'] = Device(ONE['folder'].enter_context(caselib.folder()))
    return ONE['it']


def expect(answer, status, code=None, message=None):
    assert answer.status == status, answer
    if code is not None:
        assert list(answer.json) == ['error'] and sorted(answer['error']) == ['code', 'message'], answer
        assert answer['error']['code'] == code, answer
    if message is not None:
        assert answer['error']['message'] == message, answer['error']['message']
    return answer


def tests_of(module):
    """A module's functions test_…, in their order."""
    tests = [f for name, f in module.items() if name.startswith('test_')]
    return sorted(tests, key=lambda f: f.__code__.co_firstlineno)


def main(tests):
    def with_own(test):
        def case():
            if test.__code__.co_argcount == 0:
                test()
            else:
                with running() as s:
                    test(s)
        case.__name__ = test.__name__
        return case
    return caselib.main([with_own(t) for t in tests])
