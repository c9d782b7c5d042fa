# SPDX-License-Identifier: Apache-2.0
"""A played Vault over TLS for component tests of coffer-keyd: transit, KV, logins by token file, approle and a pod's token, as
far as coffer-keyd asks for them, with rules that answer something else. fresh() starts both."""
import base64
import contextlib
import http.server
import json
import os
import ssl
import threading

import caselib
import keydlib
from keydlib import UUID, VOLUME, Keyd, frame, pipe, pipe_is_empty, read_frame

UNWRAP, MINT, DESTROY = keydlib.UNWRAP, keydlib.MINT, 5
CAPABILITIES = {'datakey/wrapped': ['update'], 'decrypt': ['update'], 'data': ['create', 'read'], 'metadata': ['read', 'delete']}

POD_MOUNT, SERVER_KEY = 'kubernetes-pods', 'coffer-s-1'
METADATA = {'data': {'current_version': 1, 'versions': {'1': {'deletion_time': '', 'destroyed': False}}}}


class Played(http.server.BaseHTTPRequestHandler):
    """Transit and KV, as far as coffer-keyd asks them. vault: class Vault."""
    protocol_version = 'HTTP/1.1'
    vault = None

    def answer(self, status, value=None, errors=()):
        body = b'' if value is None and not errors else json.dumps({'errors': list(errors)} if errors else value).encode()
        self.wfile.write(f'HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n'.encode() + body)

    def handle_any(self):
        body = json.loads(self.rfile.read(int(self.headers.get('Content-Length') or 0)) or b'{}')
        path = self.path.removeprefix('/v1/')
        with self.vault.lock:
            self.vault.asked.append(path)
            self.vault.seen.append((path, self.headers.get('X-Vault-Token')))
            rule = next((r for r in self.vault.rules if path.startswith(r[0])), None)
            if rule and rule[2] is not None:
                self.vault.rules.remove(rule)
        if rule:
            rule[1](self, path, body)
        else:
            self.usual(path, body)

    do_GET = do_POST = do_DELETE = handle_any

    def usual(self, path, body):
        v = self.vault
        if self.headers.get('X-Vault-Token', '').startswith('hvs.pod.'):
            self.as_pod(path, body)
        elif path == f'auth/{POD_MOUNT}/login':
            namespace = v.pods.get(body['jwt']) if body['role'] == 'coffer-pod' else None
            self.answer(*((200, {'auth': {'client_token': f'hvs.pod.{namespace}', 'lease_duration': 600}}) if namespace else
                          (403, None, ['permission denied'])))
        elif path == 'auth/token/lookup-self':
            self.answer(200, {'data': {'ttl': 3600, 'renewable': False}})
        elif path == 'auth/approle/login':
            self.answer(*((200, {'auth': {'client_token': 'hvs.login', 'lease_duration': 3600}}) if body['secret_id'] == 'right' else
                          (400, None, ['invalid role or secret ID'])))
        elif path == 'auth/kubernetes/login':
            self.answer(*((200, {'auth': {'client_token': 'hvs.login', 'lease_duration': 3600}}) if body['role'] == v.role else
                          (403, None, ['service account name not authorized'])))
        elif path == 'sys/capabilities-self':
            self.answer(200, {'data': {p: v.capabilities(p.split('/', 1)[1]) for p in body['paths']}})
        elif path.startswith('transit/datakey/wrapped/'):
            self.mint(body)
        elif path.startswith('transit/decrypt/'):
            self.decrypt(body)
        elif path.startswith('kv/data/') and self.command == 'POST':
            known = v.secrets.setdefault(path[8:], body['data']) is not body['data']
            self.answer(*((403, None, ['permission denied']) if known else (200, {'data': {'version': 1}})))
        elif path.startswith('kv/data/'):
            found = v.secrets.get(path[8:])
            self.answer(*((200, {'data': {'data': found, 'metadata': {'version': 1}}}) if found else (404, {'errors': []})))
        elif path.startswith('kv/metadata/') and self.command == 'GET':
            self.answer(*((200, METADATA) if path[12:] in v.secrets else (404, {'errors': []})))
        elif path.startswith('kv/metadata/') and self.command == 'DELETE':
            v.secrets.pop(path[12:], None)
            self.answer(204)
        else:
            self.answer(404, errors=['no handler for route'])

    def as_pod(self, path, body):
        """What deploy/vault/node-tenant.hcl lets a pod do, and v.more beside it."""
        own = {f'transit/decrypt/coffer-t-{self.headers["X-Vault-Token"].removeprefix("hvs.pod.")}': ['update'], **self.vault.more}
        if path == 'sys/capabilities-self':
            self.answer(200, {'data': {p: own.get(p, ['deny']) for p in body['paths']}})
        elif path == 'auth/token/revoke-self':
            self.answer(204)
        elif path in own:
            self.decrypt(body)
        else:
            self.answer(403, errors=['permission denied'])

    def decrypt(self, body):
        context, key = base64.b64decode(body['ciphertext'].split(':', 2)[2]).decode().split(' ')
        if self.vault.derived and body.get('context') != context:
            self.answer(400, errors=['cipher: message authentication failed'])
        else:
            self.answer(200, {'data': {'plaintext': key}})

    def mint(self, body):
        if self.vault.derived and 'context' not in body:
            self.answer(400, errors=["missing 'context' for key derivation"])
            return
        wrapped = f'{body.get("context")} {base64.b64encode(os.urandom(32)).decode()}'
        self.answer(200, {'data': {'ciphertext': f'vault:v1:{base64.b64encode(wrapped.encode()).decode()}'}})

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that goes away is no news here."""


class Vault:
    """rules: [path's beginning, function of (handler, path, body), 1 for once or None]."""

    def __init__(self, root):
        self.rules, self.asked, self.seen, self.secrets, self.derived, self.role = [], [], [], {}, True, 'coffer-controller'
        self.may = {}  # path's beginning -> what this identity may do there, over CAPABILITIES
        self.pods, self.more = {}, {}  # token -> namespace; what pods may do beside what they must
        self.lock, self.over = threading.Lock(), threading.Event()
        caselib.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
                     '-keyout', f'{root}/tls.key', '-out', f'{root}/tls.pem', '-subj', '/CN=played', '-addext',
                     'subjectAltName=IP:127.0.0.1'])
        self.certificate = f'{root}/tls.pem'
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f'{root}/tls.pem', f'{root}/tls.key')
        self.server = Server(('127.0.0.1', 0), type('Handler', (Played,), {'vault': self}))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.address = f'127.0.0.1:{self.server.server_address[1]}'
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def capabilities(self, path):
        """By the longest beginning of the path that is known."""
        may = {**CAPABILITIES, **self.may}
        return may.get(max((begin for begin in may if path.startswith(begin)), key=len, default=None), ['deny'])

    def close(self):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()

    def count(self, path):
        with self.lock:
            return sum(1 for asked in self.asked if asked.startswith(path))


def raw(data):
    """These bytes, and the end."""
    def act(handler, _path, _body):
        handler.wfile.write(data)
        handler.close_connection = True
    return act


def status(number):
    return lambda handler, *_: handler.answer(number, errors=['played'])


def late(seconds):
    def act(handler, path, body):
        handler.vault.over.wait(seconds)
        handler.usual(path, body)
    return act


def write_config(root, vault, **auth):
    ca, plain = vault.certificate, {k: v for k, v in auth.items() if not k.startswith('pod_')}
    transit = f'hcvault://{vault.address}/transit/keys/coffer-t-{{tenant}}'
    caselib.write(f'{root}/config.json', {
        'pools': {'fast': caselib.file_pool(f'{root}/pool', 'vault', 'kv', 'no-pods')},
        'kms': {'vault': {'uri': transit, 'ca': ca, 'auth': auth, 'server_key': SERVER_KEY},
                'no-pods': {'uri': transit, 'ca': ca, 'auth': plain},
                'kv': {'uri': f'hcvault+kv://{vault.address}/kv/volumes', 'ca': ca, 'auth': plain}}})


@contextlib.contextmanager
def fresh(allow='MINT,UNWRAP,DESTROY'):
    """(the played Vault, a started coffer-keyd with the key services `vault`, which has a server key, and `kv`)."""
    with caselib.folder('coffer-keyd-') as root, contextlib.closing(Vault(root)) as vault:
        caselib.write(f'{root}/token', 'hvs.played\n', 0o600)
        write_config(root, vault, method='token-file', token_path=f'{root}/token', pod_role='coffer-pod', pod_mount=POD_MOUNT)
        with Keyd(root, allow=allow, insecure=False) as keyd:
            yield vault, keyd


def mint(keyd, kms, deadline=20000):
    with keyd.client() as c:
        return c.ask(frame(MINT, deadline, kms, 'team-a', VOLUME, UUID))


def unwrap(keyd, kms, minted, deadline=20000, token=b'', use='stage'):
    """(reply, key or b'')"""
    kind, ciphertext, version = minted.rest
    with keyd.client() as c, pipe() as (r, w):
        reply = c.ask(frame(UNWRAP, deadline, kms, 'team-a', VOLUME, UUID, use, kind, ciphertext, version, token), [w])
        given = reply.code == 'OK' and use != 'verify'
        assert given or pipe_is_empty(r), 'a key came with a refusal'
        return reply, read_frame(r) if given else b''


def minted(keyd, kms):
    reply = mint(keyd, kms)
    assert reply.code == 'OK', (reply.code, reply.message)
    return reply


def expect(reply, code, word=''):
    assert reply.code == code and word in reply.message, (reply.code, reply.message)
