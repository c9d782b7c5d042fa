# SPDX-License-Identifier: Apache-2.0
"""A certificate authority for tests, made with the openssl program: Authority(folder) has server and client certificates
signed, also expired ones and ones for another name; sign_jwt() makes a JSON web token (RS256). Keys are files of mode 0600."""
import base64
import json
import os
import subprocess

HERE = ('IP:127.0.0.1', 'DNS:localhost')


def openssl(*arguments, data=None):
    done = subprocess.run(['openssl', *arguments], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                          stdin=subprocess.DEVNULL if data is None else None)
    if done.returncode != 0:
        raise RuntimeError(f'openssl {arguments[0]} failed: {done.stderr.decode()[-500:]}')
    return done.stdout


def new_key(path, kind='ec'):
    """A private key at path: P-256, or RSA for a token's signature."""
    options = ('EC', '-pkeyopt', 'ec_paramgen_curve:P-256') if kind == 'ec' else ('RSA', '-pkeyopt', 'rsa_keygen_bits:2048')
    with open(path, 'w', encoding='ascii', opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
        f.write(openssl('genpkey', '-algorithm', *options).decode())


class Authority:
    """certificate: the path of its own certificate, which clients are told to trust."""

    def __init__(self, folder, name='ca'):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.serial = folder, 0
        self.certificate, self.key = f'{folder}/{name}.pem', f'{folder}/{name}.key'
        new_key(self.key)
        openssl('req', '-x509', '-new', '-key', self.key, '-subj', f'/CN=Coffer test {name}', '-days', '30', '-out', self.certificate)

    def issue(self, name, usage='serverAuth', names=HERE, days=30, common_name=None):
        """(certificate, key) paths: name.pem and name.key, written anew. days=0: it has expired already."""
        certificate, key, request = (f'{self.folder}/{name}{end}' for end in ('.pem', '.key', '.ext'))
        self.serial += 1
        new_key(key + '.new')
        with open(request, 'w', encoding='ascii') as f:
            f.write(f'extendedKeyUsage={usage}\nbasicConstraints=CA:FALSE\n')
            f.write(f'subjectAltName={",".join(names)}\n' if names else '')
        asked = openssl('req', '-new', '-key', key + '.new', '-subj', f'/CN={common_name or name}')
        openssl('x509', '-req', '-CA', self.certificate, '-CAkey', self.key, '-set_serial', str(self.serial), '-days', str(days),
                '-extfile', request, '-out', certificate + '.new', data=asked)
        os.rename(key + '.new', key)  # whoever reads them never meets half a file
        os.rename(certificate + '.new', certificate)
        return certificate, key


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b'=').decode()


def public_key(key):
    return openssl('pkey', '-in', key, '-pubout').decode()


def sign_jwt(key, claims):
    """A token with these claims, signed by the RSA key in that file."""
    parts = (base64url(json.dumps(part).encode()) for part in ({'alg': 'RS256', 'typ': 'JWT', 'kid': 'test'}, claims))
    signed = '.'.join(parts)
    return f'{signed}.{base64url(openssl("dgst", "-sha256", "-sign", key, data=signed.encode()))}'
