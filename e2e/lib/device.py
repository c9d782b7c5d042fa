# SPDX-License-Identifier: Apache-2.0
"""A person's devices: key pairs made by OpenSSL and by WebCrypto, and what they get out of what was wrapped for them, without
any of Coffer's programs."""
import hashlib
import os
import subprocess

from clientdevice import tuple_hash

DEVICE = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'recipients', 'device.mjs')
RSA_256, RSA_512, HPKE = 'RSA-OAEP-256', 'RSA-OAEP-512', 'HPKE-Base-X25519-SHA256-A256GCM'


class DoesNotOpen(Exception):
    pass


def tool(*argv, data=None):
    p = subprocess.run(argv, input=data, capture_output=True, check=False)
    if p.returncode == 3:
        raise DoesNotOpen(p.stderr.decode())
    if p.returncode != 0:
        raise RuntimeError(f'{argv[:3]}: {p.stderr.decode()}')
    return p.stdout


class Device:
    """A key pair in `folder`; made by WebCrypto for RSA with SHA-512, else by OpenSSL."""

    def __init__(self, folder, name, algorithm):
        self.name, self.algorithm = name, algorithm
        self.private, self.public = os.path.join(folder, name), os.path.join(folder, name + '.pub')
        if algorithm == RSA_512:
            tool('node', DEVICE, 'make', 'SHA-512', self.private, self.public)
        else:
            kind = ['RSA', '-pkeyopt', 'rsa_keygen_bits:2048'] if algorithm == RSA_256 else ['X25519']
            tool('openssl', 'genpkey', '-out', self.private, '-algorithm', *kind)
            tool('openssl', 'pkey', '-in', self.private, '-pubout', '-out', self.public)
        self.der = tool('openssl', 'pkey', '-pubin', '-in', self.public, '-outform', 'DER')
        self.fingerprint = hashlib.sha256(self.der).hexdigest()

    def open(self, wrapped, info):
        """RSA by OpenSSL where the pair is WebCrypto's, and the other way round."""
        if self.algorithm != RSA_512:
            return tool('node', DEVICE, 'open', self.algorithm, self.private, info.hex(), data=wrapped)
        p = subprocess.run(['openssl', 'pkeyutl', '-decrypt', '-inkey', self.private, '-pkeyopt', 'rsa_padding_mode:oaep', '-pkeyopt',
                            'rsa_oaep_md:sha512', '-pkeyopt', 'rsa_mgf1_md:sha512'], input=wrapped, capture_output=True, check=False)
        if p.returncode != 0:
            raise DoesNotOpen(p.stderr.decode())
        return p.stdout


def hpke_info(record):
    """docs/PROTOCOL-keyd.md, "What a wrapped key is bound to"."""
    return b'coffer/v1 recipient' + tuple_hash(b'coffer/v1', b'volume', *(record[f].encode() for f in ('tenant', 'id', 'uuid')))
