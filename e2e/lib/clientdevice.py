# SPDX-License-Identifier: Apache-2.0
"""A user's device that makes its volume's key itself (docs/client-keys.md): OpenSslDevice with the openssl program, WebDevice with
Node.js' WebCrypto. A device has a key pair; for a volume it makes uuid, storage key and commitment (create), and for a session what
the server's key decrypts (session). It keeps its own wrapped form alone, and opens that each time.

    device = OpenSslDevice(folder, 'phone')
    secrets = device.create()                                       # CreateVolume's secrets
    secrets = device.session(volume_id, secrets, server_key)        # NodeStageVolume's and NodeExpandVolume's
    form = device.wrap_for(other.der, secrets)                      # the key, for one more device
    secrets = device.new_key(volume_id, secrets, server_key, [...]) # another key, for all of these: NodeAdmin's new_secrets
"""
import base64
import dataclasses
import hashlib
import hmac
import json
import os
import secrets
import shutil
import subprocess
import time
import uuid

from testpki import new_key, openssl

MAGIC, HOUR = b'coffer/v1c', 3600


@dataclasses.dataclass(frozen=True)
class ServerKey:
    """What SERVER_KEY says: id, hash, and the public key as DER."""
    key_id: str
    hash: str
    der: bytes


def b64(data):
    return base64.b64encode(data).decode()


def tuple_hash(*parts):
    return hashlib.sha256(b''.join(len(p).to_bytes(4, 'big') + p for p in parts)).digest()


def commitment(key, volume_uuid):
    return hmac.new(key, b'coffer/v1 commit' + volume_uuid.encode(), hashlib.sha256).hexdigest()


def frame(key, volume_id, volume_uuid, fingerprint, expiry):
    end = expiry.to_bytes(8, 'big')
    return MAGIC + key + tuple_hash(MAGIC, volume_id.encode(), volume_uuid.encode(), fingerprint.encode(), end) + end


class Device:
    """What both have: der, fingerprint."""

    @property
    def public_text(self):
        """As a record has it."""
        return b64(self.der)

    def public_path(self, folder):
        path = f'{folder}/{self.fingerprint[:16]}.pub'
        with open(path, 'wb') as f:
            f.write(self.der)
        return path

    def new_key(self, volume_id, created, server, stay, seconds=HOUR, key=None):
        """What this device makes is what openssl makes: the test is about who it is for."""
        key = key or secrets.token_bytes(32)
        plain = frame(key, volume_id, created['uuid'], self.fingerprint, int(time.time()) + seconds)
        forms = [{'fingerprint': d.fingerprint, 'wrapped': b64(OpenSslDevice.seal(d.der, key))} for d in stay]
        return {'session': b64(OpenSslDevice.seal(server.der, plain)), 'serverKey': server.key_id, 'fingerprint': self.fingerprint,
                'commitment': commitment(key, created['uuid']), 'recipients': json.dumps(forms)}


class OpenSslDevice(Device):
    def __init__(self, folder, name, label=''):
        self.path, self.label = f'{folder}/{name}.key', label or name
        new_key(self.path, 'rsa')
        self.der = openssl('pkey', '-in', self.path, '-pubout', '-outform', 'DER')
        self.fingerprint = hashlib.sha256(self.der).hexdigest()

    @staticmethod
    def seal(der, data, digest='sha256'):
        """RSA-OAEP. The key goes through a descriptor, the data through a pipe: neither is in argv or on a disk."""
        r, w = os.pipe()
        os.write(w, der)
        os.close(w)
        try:
            return subprocess.run(
                ['openssl', 'pkeyutl', '-encrypt', '-pubin', '-keyform', 'DER', '-inkey', f'/dev/fd/{r}', '-pkeyopt',
                 'rsa_padding_mode:oaep', '-pkeyopt', f'rsa_oaep_md:{digest}', '-pkeyopt', f'rsa_mgf1_md:{digest}'],
                input=data, stdout=subprocess.PIPE, check=True, pass_fds=[r]).stdout
        finally:
            os.close(r)

    def open(self, wrapped):
        return openssl('pkeyutl', '-decrypt', '-inkey', self.path, '-pkeyopt', 'rsa_padding_mode:oaep', '-pkeyopt',
                       'rsa_oaep_md:sha256', data=base64.b64decode(wrapped))

    def create(self):
        key, volume_uuid = secrets.token_bytes(32), str(uuid.uuid4())
        return {'uuid': volume_uuid, 'commitment': commitment(key, volume_uuid), 'publicKey': b64(self.der),
                'algorithm': 'RSA-OAEP-256', 'wrapped': b64(self.seal(self.der, key)), 'label': self.label}

    def key(self, created):
        return self.open(created['wrapped'])

    def wrap_for(self, der, created):
        return b64(self.seal(der, self.key(created)))

    def session(self, volume_id, created, server, seconds=HOUR, **other):
        """other: what a wrong one says instead (key, volume_id, uuid, fingerprint, expiry, hash, plain, flip)."""
        expiry = other.get('expiry', int(time.time()) + seconds)
        plain = other['plain'] if 'plain' in other else frame(other.get('key') or self.key(created), other.get('volume_id', volume_id),
                                            other.get('uuid', created['uuid']), other.get('fingerprint', self.fingerprint), expiry)
        sealed = bytearray(self.seal(server.der, plain, other.get('hash', 'sha256')))
        if 'flip' in other:
            sealed[other['flip'] // 8] ^= 1 << other['flip'] % 8
        return {'session': b64(sealed), 'serverKey': server.key_id, 'fingerprint': self.fingerprint}


class WebDevice(Device):
    """The same by WebCrypto alone, as a page in a browser would. Its private key stays in a file of the test's."""

    def __init__(self, folder, name, label=''):
        self.path, self.label = f'{folder}/{name}.jwk', label or name
        made = self.ask({'do': 'key'})
        with open(self.path, 'w', encoding='ascii', opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            json.dump(made['private'], f)
        self.der = base64.b64decode(made['publicKey'])
        self.fingerprint = made['fingerprint']

    @staticmethod
    def why_not():
        return '' if shutil.which('node') else 'there is no Node.js'

    @staticmethod
    def ask(question):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'clientdevice.mjs')
        done = subprocess.run(['node', script], input=json.dumps(question).encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              check=False, timeout=600)
        if done.returncode != 0:
            raise RuntimeError(f'clientdevice.mjs: {done.stderr.decode()[-1000:]}')
        return json.loads(done.stdout)

    def private(self):
        with open(self.path, encoding='ascii') as f:
            return json.load(f)

    def create(self):
        return self.ask({'do': 'create', 'publicKey': b64(self.der), 'label': self.label})

    def key(self, created):
        return base64.b64decode(self.ask({'do': 'key of', 'private': self.private(), 'wrapped': created['wrapped']})['key'])

    def wrap_for(self, der, created):
        return self.ask({'do': 'wrap for', 'private': self.private(), 'wrapped': created['wrapped'], 'publicKey': b64(der)})['wrapped']

    def new_key(self, volume_id, created, server, stay, seconds=HOUR, key=None):
        if key:
            return super().new_key(volume_id, created, server, stay, seconds, key)
        return self.ask({'do': 'new key', 'uuid': created['uuid'], 'volumeId': volume_id, 'fingerprint': self.fingerprint,
                         'expiry': int(time.time()) + seconds, 'serverKey': server.key_id, 'serverHash': server.hash,
                         'serverPublicKey': b64(server.der), 'publicKeys': [b64(d.der) for d in stay]})

    def session(self, volume_id, created, server, seconds=HOUR):
        return self.ask({'do': 'session', 'private': self.private(), 'wrapped': created['wrapped'], 'uuid': created['uuid'],
                         'volumeId': volume_id, 'fingerprint': self.fingerprint, 'expiry': int(time.time()) + seconds,
                         'serverKey': server.key_id, 'serverHash': server.hash, 'serverPublicKey': b64(server.der)})
