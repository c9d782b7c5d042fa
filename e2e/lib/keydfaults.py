# SPDX-License-Identifier: Apache-2.0
"""What vault-faults and vault-economy share: World (the real Vault, its layout, the fault proxy, an audit log of its own that
has secrets in clear, so that they can be looked for) and Case (one coffer-keyd and a volume per key service)."""
import collections
import contextlib
import json
import os
import tempfile
import time

from faultproxy import FaultProxy
from keydclient import Connection, Keyd, Volume
from leakscan import Needles
from vaultsetup import KV_PREFIX, TENANT_KEY, Layout

KMS = ('vault', 'kv')
SECRETS = {'client_token': 'vault token', 'secret_id': 'secret id', 'token': 'wrapping token', 'jwt': 'service account token',
           'plaintext': 'key in base64', 'key': 'key in base64'}  # a name in the raw audit log -> what stands there
RECOVERY = 60  # seconds until all works again: the breaker's longest pause is 20 s
BOTH = ('controller', 'node')  # policies of an identity that may mint and unwrap


class World:
    def __init__(self, vault, folder):
        self.vault, self.folder, self.root = vault, folder, vault.root
        self.server = vault.address.removeprefix('https://')
        self.layout = Layout(vault)
        self.layout.mount_engines()
        self.layout.write_policies()
        self.raw = f'{folder}/raw-audit.log'
        if vault.ours:
            self.root.call('POST', 'sys/audit/raw', {'type': 'file', 'options': {'file_path': self.raw, 'log_raw': 'true'}})
        self.front = FaultProxy(vault)
        self.proxied = self.front.address.removeprefix('https://')
        self.keys, self.logs, self.tenants = {}, [], 0
        with open(vault.authority.certificate, 'rb') as f, open(f'{folder}/both-ca.pem', 'wb') as both:
            both.write(f.read())  # the proxy's, and of a foreign server its own
            if not vault.ours and vault.ca:
                with open(vault.ca, 'rb') as other:
                    both.write(other.read())
        self.ca = f'{folder}/both-ca.pem'

    def close(self):
        self.front.close()
        self.layout.remove()

    # ---- coffer-keyd's configuration

    def tenant(self):
        self.tenants += 1
        return f'team-{self.tenants}'

    def config(self, *hosts, auth, **more):
        """Both key services at the first of these addresses, with the others as further ones."""
        common = {'ca': self.ca, 'auth': auth, **({'addresses': list(hosts[1:])} if hosts[1:] else {}), **more}
        return {'pools': {'p': {'backend': 'file', 'path': '/p', 'kms': list(KMS)}}, 'kms': {
            'vault': {'uri': f'hcvault://{hosts[0]}/{self.layout.transit}/keys/{TENANT_KEY}{{tenant}}', **common},
            'kv': {'uri': f'hcvault+kv://{hosts[0]}/{self.layout.kv}/{KV_PREFIX}', **common}}}

    def file(self, name, text):
        """A credential's file, never half written; its path."""
        path = f'{self.folder}/{name}'
        with open(path + '.new', 'w', encoding='ascii', opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            f.write(text + '\n')
        os.rename(path + '.new', path)
        return path

    def approle(self, *roles, **options):
        # a role keeps what an earlier case asked for, unless told otherwise
        usual = {'token_ttl': '1h', 'token_max_ttl': '0', 'token_type': 'default', 'token_num_uses': 0}
        role = self.layout.approle(*(roles or BOTH), **{**usual, **options})
        path = self.file('secret-id', role.body['secret_id'])
        return {'method': 'approle', 'mount': role.mount, 'role': '-'.join(roles or BOTH), 'role_id': role.body['role_id'],
                'secret_id_path': path, **({'secret_id_wrapped': True} if options.get('wrap_seconds') else {})}

    def token_file(self, **options):
        self.file('token', self.layout.token(*BOTH, **options).token)
        return {'method': 'token-file', 'token_path': f'{self.folder}/token'}

    # ---- what Vault holds

    def revoke(self):
        """Every token of the identity."""
        for about in self.layout.live_tokens(BOTH[0]):
            self.root.call('POST', 'auth/token/revoke-accessor', {'accessor': about['accessor']})

    def raw_texts(self, *names):
        """Every text that stands under one of these names in the raw audit log, newest last."""
        found = collections.OrderedDict()

        def walk(node):
            if isinstance(node, dict):
                for k, v in node.items():
                    if k in names and isinstance(v, str) and v:
                        found.setdefault(v, k)  # a wrapping token, used, is a client token too
                    walk(v)
            elif isinstance(node, list):
                for v in node:
                    walk(v)
        with open(self.raw, encoding='utf-8') as f:
            for line in f:
                walk(json.loads(line))
        return found

    def logins(self, mark):
        return self.vault.audit.count(mark, path='auth/*/login')

    # ---- secrets

    def secrets(self, *names):
        """What stands under these names (SECRETS) in the raw audit log, by what it is."""
        secrets = {}
        for i, (text, name) in enumerate(self.raw_texts(*(names or SECRETS)).items()):
            if len(text) >= 16:  # Needles cuts texts into pieces of 32: the end is looked for as a piece of its own, not as a crumb
                secrets[f'{SECRETS[name]} {i}'] = text[:len(text) // 32 * 32].encode() or text.encode()
                secrets[f'{SECRETS[name]} {i}, its end'] = text[-32:].encode()
        return secrets

    def needles(self, more=None):
        return Needles({**self.secrets(), **{f'key of {name}': key for name, key in self.keys.items()}, **(more or {})})

    def leaks(self):
        """What was found in the logs of coffer-keyd and in its answers; the number of secrets looked for."""
        needles, found = self.needles(), []
        for path in self.logs:
            with open(path, 'rb') as f:
                found += [f'{os.path.basename(path)}: {what}' for what in needles.find(f.read(), text=True)]
        return found + [f'a reply: {what}' for what in needles.find(bytes(Connection.seen))], len(needles.everywhere)


class Case:
    """One coffer-keyd, and a volume with its key in each key service. Used in a with statement."""

    def __init__(self, world, *hosts, auth, name='case', env=None, allow='MINT,UNWRAP,DESTROY', **more):
        self.w, self.tenant, self.volumes, self.wrapped, self.keys = world, world.tenant(), {}, {}, {}
        self.folder = tempfile.mkdtemp(prefix=name + '-', dir=world.folder)
        self.keyd = Keyd(self.folder, world.config(*(hosts or (world.server,)), auth=auth, **more), env=env, allow=allow)
        world.logs.append(self.keyd.log_path)

    def __enter__(self):
        self.keyd.start()
        return self

    def __exit__(self, *_):
        self.keyd.__exit__()

    def make_volumes(self, keyd=None, kms=KMS):
        """Minted and opened once by keyd (another one: then this one stays without a token)."""
        keyd = keyd or self.keyd
        for name in kms:
            volume = self.volumes[name] = Volume(name, self.tenant)
            self.wrapped[name] = until_ok(lambda v=volume: keyd.mint(v)).wrapped
            self.keys[name] = until_ok(lambda v=volume, n=name: keyd.unwrap(v, self.wrapped[n])).key
            self.w.keys[volume.uuid] = self.keys[name]
            if len(self.keys[name]) != 32:
                raise RuntimeError(f'{len(self.keys[name])} bytes of a key came')

    def ask(self, kms, op, deadline=20000):
        """One question; None or what is wrong with an answer that is OK."""
        if op == 'MINT':
            return self.keyd.mint(Volume(kms, self.tenant), deadline)
        return self.keyd.unwrap(self.volumes[kms], self.wrapped[kms], deadline)

    def wrong(self, kms, op, answer):
        """What is wrong with what came beside the code; '' when nothing is."""
        if op == 'UNWRAP' and answer.code == 'OK' and answer.key != self.keys[kms]:
            return 'another key came through the pipe'
        if answer.code != 'OK' and answer.key:
            return f'{len(answer.key)} bytes came through the pipe of a refusal'
        return ''


def until_ok(ask, seconds=RECOVERY, others=None):
    """Asks until the answer is OK; others: a set that collects the codes before it."""
    end = time.monotonic() + seconds
    while (answer := ask()).code != 'OK':
        if others is not None:
            others.add(answer.code)
        if time.monotonic() > end:
            raise RuntimeError(f'not OK within {seconds} s: {answer}')
        time.sleep(0.2)
    return answer


@contextlib.contextmanager
def opened(vault, folder):
    world = World(vault, folder)
    try:
        yield world
    finally:
        world.close()
