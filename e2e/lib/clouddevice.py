# SPDX-License-Identifier: Apache-2.0
"""A user's device before coffer-scheduler, on the openssl program and the standard library: CloudDevice has the name that is in every
URL, Api(base) speaks HTTP, and User(api, device) does what a user does, each request with a fresh proof.

    api = Api('https://127.0.0.1:8443', ca)                  # or Api('unix:///run/…/api.sock')
    anna = User(api, CloudDevice(folder, 'phone'))
    anna.create(); url = anna.until('attached').body['url']
    anna.lock(); anna.until('detached'); anna.unlock()       # a session each time, from what find says

An Answer is an answer whatever its status; want(answer, 202) insists. Keys are never in argv, the environment or a file, but for the
device's private key, which lies where the story wants it."""
import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import secrets
import socket
import ssl
import time
import urllib.parse

from clientdevice import HOUR, OpenSslDevice, ServerKey, b64
from httpanswer import HttpAnswer
from testpki import base64url, openssl

SECONDS = 600  # one answer, on a busy machine
PATIENCE = 1800
NUMBERS = {'nonexistent': 0, 'attached': 1, 'detached': 2, 'pending': 3, 'failure': 4}


# ---- names

def der_value(data, at):
    """(tag, where its content begins, where it ends) of the DER value at `at`."""
    length, start = data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7f
        length, start = int.from_bytes(data[start:start + size], 'big'), start + size
    return data[at], start, start + length


def modulus(spki):
    """SubjectPublicKeyInfo of an RSA key: SEQUENCE {algorithm, BIT STRING {SEQUENCE {n, e}}}."""
    _, start, _ = der_value(spki, 0)
    _, _, start = der_value(spki, start)  # past the algorithm
    _, start, _ = der_value(spki, start)
    _, start, _ = der_value(spki, start + 1)  # a BIT STRING says first how many bits are unused
    tag, start, end = der_value(spki, start)
    if tag != 2:
        raise ValueError('this is no RSA public key')
    return spki[start:end].lstrip(b'\0')


def arcs_name(spki):
    """SHA-256 of the JWK's n, as Arcs names a device."""
    return hashlib.sha256(base64url(modulus(spki)).encode()).hexdigest()


class CloudDevice(OpenSslDevice):
    """digest: of its RSA-OAEP, sha256 or sha512."""

    def __init__(self, folder, name, label='', digest='sha256'):
        super().__init__(folder, name, label)
        self.digest, self.algorithm = digest, f'RSA-OAEP-{digest[3:]}'
        self.name = arcs_name(self.der)
        self.id = self.name[:32]
        self.keys = {}  # every storage key that it had in its hands, with the volume's uuid, for whoever looks for leaks

    def wrap(self, data):
        return b64(self.seal(self.der, data, self.digest))

    def open(self, wrapped):
        return openssl('pkeyutl', '-decrypt', '-inkey', self.path, '-pkeyopt', 'rsa_padding_mode:oaep', '-pkeyopt',
                       f'rsa_oaep_md:{self.digest}', '-pkeyopt', f'rsa_mgf1_md:{self.digest}', data=base64.b64decode(wrapped))

    def key(self, created):
        key = super().key(created)
        self.keys[key] = created['uuid']
        return key

    def create(self):
        made = super().create()
        return made if self.digest == 'sha256' else {**made, 'algorithm': self.algorithm, 'wrapped': self.again(made)}

    def new_key(self, volume_id, created, server, stay, seconds=HOUR, key=None):
        """As the base class, but each who stays has its own digest."""
        key = key or secrets.token_bytes(32)
        self.keys[key] = created['uuid']
        forms = [{'fingerprint': d.fingerprint, 'wrapped': d.wrap(key)} for d in stay]
        return {**super().new_key(volume_id, created, server, [], seconds, key), 'recipients': json.dumps(forms)}

    def again(self, made):
        """What the base class wrapped by SHA-256, by this device's own digest."""
        key = openssl('pkeyutl', '-decrypt', '-inkey', self.path, '-pkeyopt', 'rsa_padding_mode:oaep', '-pkeyopt', 'rsa_oaep_md:sha256',
                      data=base64.b64decode(made['wrapped']))
        return self.wrap(key)


# ---- HTTP

class Answer(HttpAnswer):
    @property
    def code(self):
        return (self.body.get('error') or {}).get('code', '')

    @property
    def message(self):
        return (self.body.get('error') or {}).get('message', '')

    @property
    def state(self):
        return self.body.get('status', '')

    def __str__(self):
        return f'{self.status} {self.raw[:600].decode(errors="replace")}'


class Refused(Exception):
    """want() got something else."""

    def __init__(self, answer, wanted):
        super().__init__(f'{answer} (expected {wanted})')
        self.answer = answer


def want(answer, *statuses):
    if answer.status not in statuses:
        raise Refused(answer, ' or '.join(map(str, statuses)))
    return answer


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__('localhost', timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Api:
    """base: https://HOST:PORT with ca, the file of the certificates to trust, or unix://PATH. A connection for each request, so that
    many threads may use one Api and a restart of the server needs no care."""

    def __init__(self, base, ca=None, timeout=SECONDS):
        self.base, self.timeout = base.rstrip('/'), timeout
        self.context = ssl.create_default_context(cafile=ca) if base.startswith('https') else None

    def connection(self):
        if self.base.startswith('unix://'):
            return UnixConnection(self.base.removeprefix('unix://'), self.timeout)
        parts = urllib.parse.urlsplit(self.base)
        if parts.scheme != 'https':
            raise ValueError(f'{self.base}: https or unix')
        return http.client.HTTPSConnection(parts.hostname, parts.port or 443, timeout=self.timeout, context=self.context)

    def request(self, method, path, body=None, headers=()):
        """body: a dict, or bytes as they are; any status is an answer."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        sent = {'Content-Type': 'application/json'} if data is not None else {}
        with contextlib.closing(self.connection()) as c:
            c.request(method, path, body=data, headers={**sent, **dict(headers)})
            reply = c.getresponse()
            return Answer.of(reply, reply.read())

    def find(self, name, query=''):
        return self.request('GET', f'/v1/clouds/{name}{query}')


# ---- a user

def server_key(found):
    """What find says of the key that sessions are encrypted for."""
    said = found['serverKey']
    return ServerKey(said['keyId'], said['hash'], base64.b64decode(said['publicKey']))


def digest_of(server):
    return server.hash.lower().replace('-', '')  # SHA-256, as openssl calls it


class User:
    """One device of a user's before one scheduler. made: CreateVolume's secrets, when this device made the volume."""

    def __init__(self, api, device):
        self.api, self.device, self.made = api, device, None
        self.known = {}  # what find said last of volume and server: an attached cloud's find has only the URL
        self.forms = {}  # the storage key as this device wrapped it for others, by their names
        self.lent = []  # every session's bytes, for whoever looks for leaks

    @property
    def path(self):
        return f'/v1/clouds/{self.device.name}'

    # -- proofs

    def challenge(self):
        """(the token, the secret that only this device can read)"""
        said = want(self.api.request('POST', '/v1/challenges', {'publicKey': b64(self.device.der), 'algorithm': self.device.algorithm}),
                    200).body
        return said['challenge'], self.device.open(said['secret'])

    @staticmethod
    def proof(challenge, method, path, data):
        token, secret = challenge
        text = f'coffer/v1 proof\n{method}\n{path}\n{hashlib.sha256(data).hexdigest()}\n'
        return {'Coffer-Proof': f'{token} {hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()}'}

    def ask(self, method, end='', body=None, challenge=None, path=None):
        """With a proof for exactly this request. challenge: one that was got before; path: another cloud's."""
        path = path or self.path + end
        data = json.dumps(body).encode() if body is not None else b''
        headers = self.proof(challenge or self.challenge(), method, path, data)
        return self.api.request(method, path, data if body is not None else None, headers)

    # -- what a user does

    def find(self, query=''):
        answer = self.api.find(self.device.name, query)
        if answer.state == 'nonexistent':
            self.known = {}
        self.known.update({k: v for k, v in answer.body.items() if k in ('volumeId', 'serverKey', 'wrappedKey', 'uuid')})
        return answer

    @property
    def form(self):
        """The storage key, wrapped for this device."""
        return self.known.get('wrappedKey') or self.made['wrapped']

    @property
    def uuid(self):
        return self.known.get('uuid') or self.made['uuid']

    @property
    def key(self):
        """The storage key itself."""
        return self.device.key({'wrapped': self.form, 'uuid': self.uuid})

    def session(self, **wrong):
        """{'session', 'serverKey'} for the volume that find told of, by the form that it has for this device (before there is a volume:
        by the one it made). wrong: see OpenSslDevice.session."""
        self.find()
        server = server_key(self.known)
        lent = self.device.session(wrong.pop('volume_id', self.known['volumeId']), {'wrapped': self.form, 'uuid': self.uuid}, server,
                                   **{'hash': digest_of(server), **wrong})
        self.lent.append(base64.b64decode(lent['session']))
        return {'session': lent['session'], 'serverKey': lent['serverKey']}

    def seed(self, **change):
        """deploy's body; the key is made once, so that the same user creates the same cloud again. change: None leaves one out."""
        self.made = self.made or self.device.create()
        body = {'publicKey': self.made['publicKey'], 'algorithm': self.made['algorithm'], 'wrappedKey': self.made['wrapped'],
                'uuid': self.made['uuid'], 'commitment': self.made['commitment'], 'label': self.made['label']}
        self.find()
        if self.known.get('volumeId'):
            body.update(volumeId=self.known['volumeId'], **self.session())
        return {k: v for k, v in {**body, **change}.items() if v is not None}

    def create(self, **change):
        return self.ask('POST', '/deploy', self.seed(**change))

    def mount(self, **wrong):
        return self.ask('POST', '/mount', self.session(**wrong))

    def unlock(self, **wrong):
        return self.ask('POST', '/unlock', self.session(**wrong))

    def lock(self):
        return self.ask('POST', '/lock', {})

    def delete(self):
        return self.ask('DELETE')

    def devices(self):
        return self.ask('POST', '/recipients/list', {})

    def add(self, device, **change):
        """The form is made once, so that the same device is added again."""
        self.forms[device.name] = self.forms.get(device.name) or device.wrap(self.key)
        return self.ask('POST', '/recipients', {'publicKey': b64(device.der), 'algorithm': device.algorithm,
                                                'wrappedKey': self.forms[device.name], 'label': device.label, **self.session(), **change})

    def remove(self, name, stay, **change):
        """A new key for the devices who stay."""
        lent = self.session()
        new = self.device.new_key(self.known['volumeId'], {'uuid': self.uuid}, server_key(self.known), stay)
        self.lent.append(base64.b64decode(new['session']))
        return self.ask('POST', '/recipients/remove', {
            'name': name, **lent, 'newSession': new['session'], 'newServerKey': new['serverKey'], 'newCommitment': new['commitment'],
            'newRecipients': json.loads(new['recipients']), **change})

    # -- waiting

    def until(self, *states, seconds=PATIENCE):
        """Polls find, as clients do; a connection that is lost isn't an answer, but two in a row are one too many."""
        end, lost = time.monotonic() + seconds, False
        while True:
            try:
                found, lost = self.find(), False
            except (OSError, http.client.HTTPException) as e:
                if lost:
                    raise
                found, lost = e, True
                print(f'# find of {self.device.label}: {e!r}', flush=True)
            if not lost and found.state in states:
                return found
            if time.monotonic() > end or not lost and found.state not in NUMBERS and found.status != 503:
                raise RuntimeError(f'find of {self.device.label} never said {" or ".join(states)}: {found}')
            time.sleep(0.1)

    def settle(self, seconds=PATIENCE):
        """Until no operation runs."""
        return self.until(*(set(NUMBERS) - {'pending'}), seconds=seconds)

    def opened(self, seconds=PATIENCE):
        found = self.settle(seconds)
        if found.state != 'attached':
            raise RuntimeError(f'the cloud of {self.device.label} is not attached: {found}')
        return found
