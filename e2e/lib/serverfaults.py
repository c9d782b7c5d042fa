# SPDX-License-Identifier: Apache-2.0
"""Faults of the real Vault server, of what it keeps, and of what is shown to it: each is (case) -> a context manager; the fault
lasts as long as it is entered, and at the end the server is whole again. case: keydfaults.Case."""
import contextlib
import dataclasses
import tempfile
import time

import vaultserver
from keydclient import Volume, Wrapped
from keydfaults import BOTH, KMS
from testpki import Authority
from vaultsetup import TENANT_KEY


@contextlib.contextmanager
def nothing(_case):
    yield


@contextlib.contextmanager
def sealed(case):
    case.w.vault.seal()
    yield
    case.w.vault.unseal()


@contextlib.contextmanager
def stopped(case):
    case.w.vault.stop()
    yield
    case.w.vault.start()


@contextlib.contextmanager
def not_initialised(case):
    """The proxy leads to another real server, an empty one."""
    with vaultserver.Server(tempfile.mkdtemp(dir=case.w.folder)) as empty:
        empty.start(ready=False)
        case.w.front.vault = empty
        case.w.front.drop()
        yield
        case.w.front.vault = case.w.vault
        case.w.front.drop()


def certificate(authority=None, **how):
    @contextlib.contextmanager
    def fault(case):
        vault = case.w.vault
        signer = Authority(tempfile.mkdtemp(dir=case.w.folder), authority) if authority else vault.authority
        vault.install(signer.issue('server', **how))
        vault.restart()  # kept connections end
        yield
        vault.install(vault.authority.issue('server'))
        vault.restart()
    return fault


@contextlib.contextmanager
def revoked(case):
    case.w.revoke()
    yield


@contextlib.contextmanager
def given_token_revoked(case):
    with open(f'{case.w.folder}/token', encoding='ascii') as f:
        case.w.root.call('POST', 'auth/token/revoke', {'token': f.read().strip()})
    yield
    case.w.token_file()


def spend(w, tokens):
    for token in tokens:
        api = w.root.as_(token)
        for _ in range(200):
            if api.request('GET', 'auth/token/lookup-self').status == 403:
                break
        api.close()


@contextlib.contextmanager
def used_up(case):
    spend(case.w, [t for t in case.w.raw_texts('client_token') if t != case.w.root.token][-4:])
    yield


@contextlib.contextmanager
def given_token_used_up(case):
    with open(f'{case.w.folder}/token', encoding='ascii') as f:
        spend(case.w, [f.read().strip()])
    yield
    case.w.token_file()


@contextlib.contextmanager
def given_token_expired(case):
    with open(f'{case.w.folder}/token', encoding='ascii') as f:
        api = case.w.root.as_(f.read().strip())
    end = time.monotonic() + 120
    while api.request('GET', 'auth/token/lookup-self').status != 403 and time.monotonic() < end:
        time.sleep(0.2)
    api.close()
    yield
    case.w.token_file()


@contextlib.contextmanager
def secret_id_gone(case):
    mount = case.w.layout.mount_auth('approle')
    with open(f'{case.w.folder}/secret-id', encoding='ascii') as f:
        case.w.root.call('POST', f'auth/{mount}/role/{"-".join(BOTH)}/secret-id/destroy', {'secret_id': f.read().strip()})
    case.w.revoke()
    yield
    case.w.approle()


@contextlib.contextmanager
def policy_withdrawn(case):
    w = case.w
    for role in BOTH:
        name = w.layout.policy_name(role)
        w.root.call('PUT', f'sys/policies/acl/{name}', {'policy': 'path "auth/token/*" { capabilities = ["update", "read"] }'})
    yield
    w.layout.write_policies()


@contextlib.contextmanager
def version_too_old(case):
    key = f'{case.w.layout.transit}/keys/{TENANT_KEY}{case.tenant}'
    case.w.root.call('POST', f'{key}/rotate')
    case.w.root.call('POST', f'{key}/config', {'min_decryption_version': 2})
    yield
    case.w.root.call('POST', f'{key}/config', {'min_decryption_version': 1})


@contextlib.contextmanager
def key_deleted(case):
    key = f'{case.w.layout.transit}/keys/{TENANT_KEY}{case.tenant}'
    case.w.root.call('POST', f'{key}/config', {'deletion_allowed': True})
    case.w.root.call('DELETE', key)
    yield


@contextlib.contextmanager
def secret_hidden(case):
    path = case.w.layout.secret(case.volumes['kv'].uuid)
    case.w.root.call('DELETE', f'{case.w.layout.kv}/data/{path}')
    yield
    case.w.root.call('POST', f'{case.w.layout.kv}/undelete/{path}', {'versions': [1]})


@contextlib.contextmanager
def secret_destroyed(case):
    case.w.root.call('DELETE', f'{case.w.layout.kv}/metadata/' + case.w.layout.secret(case.volumes['kv'].uuid))
    yield


@contextlib.contextmanager
def loose_key(case):
    """Another tenant, whose key somebody made so that it takes any context."""
    case.tenant, name = case.w.tenant(), case.w.layout.transit
    case.w.root.call('POST', f'{name}/keys/{TENANT_KEY}{case.tenant}', {})
    made = case.w.root.call('POST', f'{name}/datakey/wrapped/{TENANT_KEY}{case.tenant}', {})
    case.volumes['vault'] = Volume('vault', case.tenant)
    case.wrapped['vault'] = Wrapped('transit', made.data['ciphertext'], 1)
    yield
    case.tenant = case.w.tenant()


@contextlib.contextmanager
def revoked_and_loose_key(case):
    """A refusal of the token must not be taken for one of the context."""
    with loose_key(case):
        case.w.revoke()
        yield


@contextlib.contextmanager
def another_volume(case):
    """The wrapped key of this volume is shown for another one."""
    kept = dict(case.volumes)
    for kms in KMS:
        case.volumes[kms] = Volume(kms, case.tenant)
    yield
    case.volumes = kept


@contextlib.contextmanager
def another_secret(case):
    """What lies at the volume's path in KV is another volume's."""
    w, path = case.w, f'{case.w.layout.kv}/data/' + case.w.layout.secret(case.volumes['kv'].uuid)
    data = w.root.call('GET', path).data['data']
    w.root.call('POST', path, {'options': {'cas': 1}, 'data': {**data, 'context': '0' * 64}})
    yield
    w.root.call('POST', path, {'options': {'cas': 2}, 'data': data})


@contextlib.contextmanager
def changed_ciphertext(case):
    kept = dict(case.wrapped)
    for kms, key in kept.items():
        at = len(key.ciphertext) - 6
        other = 'A' if key.ciphertext[at] != 'A' else 'B'
        case.wrapped[kms] = dataclasses.replace(key, ciphertext=key.ciphertext[:at] + other + key.ciphertext[at + 1:])
    yield
    case.wrapped = kept
