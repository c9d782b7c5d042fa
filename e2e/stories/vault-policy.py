#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vault-policy: the policies of deploy/vault allow each identity what it needs and nothing else, asked of the real Vault, one
request per line. Most lines are rows of a table: who, method, path, body, the status that must come."""
# story: where=here needs=vault
import base64
import hashlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import vaultserver  # noqa: E402
from vaultsetup import KV_PREFIX, SERVER_KEY, TENANT_KEY, Layout  # noqa: E402

IDENTITIES = ('controller', 'node', 'node-rekey', 'node-tenant', 'scheduler', 'rotation', 'trim')
DONE = (200, 204)  # Vault 1.13 answers 204 where 1.21 answers 200 with a body
REFUSED = (403,)
WRONG = (400,)
GONE = (404,)
A, B, SERVER = f'{TENANT_KEY}team-a', f'{TENANT_KEY}team-b', f'{SERVER_KEY}1'


def b64(data):
    return base64.b64encode(data).decode()


def context(*parts):
    """As the product's: of a length-prefixed tuple, one for each volume."""
    return b64(hashlib.sha256(b''.join(len(p).to_bytes(4, 'big') + p.encode() for p in parts)).digest())


VOLUME, OTHER = context('team-a', 'volume 1'), context('team-a', 'volume 2')
DERIVED = {'type': 'aes256-gcm96', 'derived': True}


class World:
    """The layout, a token of each identity, and what the requests are about."""

    def __init__(self, vault, tap):
        self.tap, self.layout = tap, Layout(vault)
        self.transit, self.kv, self.root = self.layout.transit, self.layout.kv, self.layout.root
        self.layout.mount_engines()
        self.layout.write_policies(self.layout.accessor('jwt'))
        self.api = {role: self.layout.token(role) for role in ('controller', 'node', 'scheduler', 'rotation')}
        self.api['node-rekey'] = self.layout.token('node', 'node-rekey')
        self.api['trim'] = self.layout.token('rotation', 'trim')
        self.api['node-tenant'] = self.layout.jwt('node-tenant', tenant='team-a').login()
        self.api['other tenant'] = self.layout.jwt('node-tenant', tenant='team-b').login()
        self.api['login without a tenant'] = self.layout.token('node-tenant')
        self.api['nobody'], self.api['root'] = self.root.as_(), self.root
        for key in (A, B):
            self.root.call('POST', f'{self.transit}/keys/{key}', DERIVED)
        self.root.call('POST', f'{self.transit}/keys/{SERVER}', {'type': 'rsa-2048'})
        self.root.call('POST', f'{self.transit}/keys/payments', {})  # another application's, in the same mount
        self.root.call('POST', f'{self.kv}/data/other/secret', {'options': {'cas': 0}, 'data': {'key': 'x'}})
        self.ciphertext = self.mint(A, VOLUME)
        self.second, self.foreign = self.mint(A, OTHER), self.mint(B, VOLUME)
        self.wrapped = self.root.call('POST', f'{self.transit}/encrypt/{SERVER}', {'plaintext': b64(b'k' * 32)}).data['ciphertext']

    def mint(self, key, of):
        return self.root.call('POST', f'{self.transit}/datakey/wrapped/{key}', {'context': of}).data['ciphertext']

    def ask(self, who, method, path, body, expected, why):
        """One line of TAP: the status, and that a refusal gives nothing away."""
        answer = self.api[who].request(method, path, body)
        right = answer.status in expected and (answer.status < 400 or not answer.data)
        if expected == GONE:  # a version that is deleted answers with its metadata
            right = answer.status == 404 and not answer.data.get('data')
        said = ' or '.join(map(str, expected))
        self.tap.check(right, f'{who}: {method} {path}: {said}: {why}', f'{answer} {answer.raw[:300]}')
        return answer

    def rows(self, table):
        for row in table:
            self.ask(*row)


def minting(w):
    t, k = w.transit, f'{w.transit}/keys'
    datakey, new = f'{t}/datakey/wrapped', f'{k}/{TENANT_KEY}team-c'
    return (
        ('controller', 'POST', f'{datakey}/{A}', {'context': VOLUME}, DONE, 'mints a storage key'),
        ('controller', 'POST', f'{datakey}/{A}', {}, REFUSED, 'not without a context'),
        ('controller', 'POST', f'{datakey}/{A}', {'context': ''}, WRONG, 'nor with an empty one'),
        ('controller', 'POST', f'{datakey}/{A}', {'context': VOLUME, 'bits': 128}, REFUSED, 'nor a shorter one'),
        ('controller', 'POST', f'{t}/datakey/plaintext/{A}', {'context': VOLUME}, REFUSED, 'not in clear'),
        ('controller', 'POST', f'{datakey}/payments', {'context': VOLUME}, REFUSED, 'not under another application\'s key'),
        ('controller', 'POST', f'{datakey}/{SERVER}', {'context': VOLUME}, REFUSED, 'nor under a server key'),
        ('controller', 'POST', f'{datakey}/{TENANT_KEY}team-c', {'context': VOLUME}, WRONG, 'nor under a key that is not there'),
        ('controller', 'POST', new, {}, REFUSED, 'a tenant\'s key not with the defaults'),
        ('controller', 'POST', new, {'type': 'aes256-gcm96', 'derived': False}, REFUSED, 'not one that takes any context'),
        ('controller', 'POST', new, {'type': 'aes256-gcm96'}, REFUSED, 'nor by leaving that out'),
        ('controller', 'POST', new, {'type': 'rsa-2048', 'derived': True}, REFUSED, 'not of another type'),
        ('controller', 'POST', new, {**DERIVED, 'exportable': True}, REFUSED, 'not an exportable one'),
        ('controller', 'POST', new, {**DERIVED, 'allow_plaintext_backup': True}, REFUSED, 'nor one that can be backed up'),
        ('controller', 'POST', new, {**DERIVED, 'convergent_encryption': True}, REFUSED, 'nor a convergent one'),
        ('controller', 'POST', new, DERIVED, DONE, 'makes a tenant\'s key at its first volume'),
        ('controller', 'POST', new, DERIVED, DONE, 'and it may be there already'),
        ('controller', 'POST', f'{datakey}/{TENANT_KEY}team-c', {'context': VOLUME}, DONE, 'mints under it'),
        ('controller', 'POST', f'{k}/{A}/rotate', {}, REFUSED, 'doesn\'t rotate'),
        ('controller', 'POST', f'{k}/{A}/rotate', DERIVED, REFUSED, 'nor with the parameters that making a key needs'),
        ('controller', 'POST', f'{k}/{A}/config', DERIVED, REFUSED, 'the same for config'),
        ('controller', 'POST', f'{k}/{A}/config', {'deletion_allowed': True}, REFUSED, 'doesn\'t allow deletion'),
        ('controller', 'POST', f'{k}/{TENANT_KEY}team-d/import', DERIVED, REFUSED, 'doesn\'t bring a key of its own'),
        ('controller', 'GET', f'{k}/{A}', None, REFUSED, 'doesn\'t look at keys'),
        ('controller', 'POST', f'{t}/decrypt/{A}', {'context': VOLUME, 'ciphertext': w.ciphertext}, REFUSED, 'can\'t decrypt'),
        ('controller', 'POST', f'{t}/rewrap/{A}', {'context': VOLUME, 'ciphertext': w.ciphertext}, REFUSED, 'doesn\'t rewrap'),
        ('controller', 'POST', f'{t}/encrypt/{A}', {'context': VOLUME, 'plaintext': b64(b'k' * 32)}, REFUSED,
         'doesn\'t wrap a key that it knows'),
    )


def unwrapping(w, who='node'):
    """What a node may, and the same for a node of tenant team-a."""
    decrypt, good = f'{w.transit}/decrypt', {'context': VOLUME, 'ciphertext': w.ciphertext}
    return (
        (who, 'POST', f'{decrypt}/{A}', good, DONE, 'unwraps a volume\'s key'),
        (who, 'POST', f'{decrypt}/{A}', {**good, 'context': OTHER}, WRONG, 'not for another volume'),
        (who, 'POST', f'{decrypt}/{A}', {**good, 'ciphertext': w.second}, WRONG, 'not another volume\'s ciphertext'),
        (who, 'POST', f'{decrypt}/{A}', {**good, 'ciphertext': w.foreign}, WRONG, 'not another tenant\'s ciphertext'),
        (who, 'POST', f'{decrypt}/{A}', {**good, 'ciphertext': flipped(w.ciphertext)}, WRONG, 'not a changed one'),
        (who, 'POST', f'{decrypt}/{A}', {**good, 'ciphertext': w.ciphertext.replace('v1', 'v2')}, WRONG, 'not of a version to come'),
        (who, 'POST', f'{decrypt}/{A}', {'ciphertext': w.ciphertext}, REFUSED, 'not without a context'),
        (who, 'POST', f'{decrypt}/{A}', {**good, 'context': ''}, WRONG, 'nor with an empty one'),
        (who, 'POST', f'{decrypt}/{A}', {'batch_input': [good]}, REFUSED, 'not in a batch'),
        (who, 'POST', f'{decrypt}/{A}', {**good, 'batch_input': [{**good, 'context': OTHER}, good]}, REFUSED, 'nor a batch beside it'),
        (who, 'POST', f'{decrypt}/{A}', {**good, 'Batch_Input': [good]}, REFUSED, 'nor in other letters'),
        (who, 'POST', f'{decrypt}/payments', good, REFUSED, 'nothing of another application'),
        (who, 'POST', f'{w.transit}/datakey/wrapped/{A}', {'context': VOLUME}, REFUSED, 'can\'t mint'),
        (who, 'POST', f'{w.transit}/datakey/plaintext/{A}', {'context': VOLUME}, REFUSED, 'nor in clear'),
        (who, 'POST', f'{w.transit}/encrypt/{A}', {'context': VOLUME, 'plaintext': b64(b'k')}, REFUSED, 'can\'t wrap'),
        (who, 'POST', f'{w.transit}/rewrap/{A}', good, REFUSED, 'can\'t rewrap'),
        (who, 'POST', f'{w.transit}/keys/{TENANT_KEY}team-e', DERIVED, REFUSED, 'makes no key'),
        (who, 'POST', f'{w.transit}/keys/{A}/rotate', {}, REFUSED, 'doesn\'t rotate'),
        (who, 'GET', f'{w.transit}/keys/{A}', None, REFUSED, 'doesn\'t look at keys'),
    )


def tenants(w):
    """Nodes of all tenants and of one."""
    decrypt, good, foreign = f'{w.transit}/decrypt', {'context': VOLUME, 'ciphertext': w.ciphertext}, {
        'context': VOLUME, 'ciphertext': w.foreign}
    server = {'ciphertext': w.wrapped}
    return (
        ('node', 'POST', f'{decrypt}/{B}', foreign, DONE, 'a node opens every tenant\'s volumes'),
        ('node', 'POST', f'{decrypt}/{B}', good, WRONG, 'but not with another tenant\'s key'),
        ('node', 'POST', f'{decrypt}/{SERVER}', server, DONE, 'and what a device wrapped for the server'),
        ('node', 'POST', f'{decrypt}/{SERVER}', {'batch_input': [server]}, REFUSED, 'not in a batch'),
        ('node-tenant', 'POST', f'{decrypt}/{B}', foreign, REFUSED, 'can\'t use another tenant\'s key'),
        ('node-tenant', 'POST', f'{decrypt}/{A}-2', good, REFUSED, 'nor one whose name begins with its own'),
        ('node-tenant', 'POST', f'{decrypt}/{SERVER}', server, REFUSED, 'nor a server key'),
        ('other tenant', 'POST', f'{decrypt}/{B}', foreign, DONE, 'the other tenant\'s can'),
        ('other tenant', 'POST', f'{decrypt}/{A}', good, REFUSED, 'and not the first one\'s'),
        ('login without a tenant', 'POST', f'{decrypt}/{A}', good, REFUSED, 'the same policy gives nothing to who has no tenant'),
        ('login without a tenant', 'POST', f'{decrypt}/{TENANT_KEY}', good, REFUSED, 'not even a key without a name'),
        ('nobody', 'POST', f'{decrypt}/{A}', good, REFUSED, 'without a token nothing'),
    )


def flipped(ciphertext):
    head, _, tail = ciphertext.rpartition(':')
    raw = bytearray(base64.b64decode(tail))
    raw[20] ^= 1
    return f'{head}:{b64(bytes(raw))}'


def secrets_of_volumes(w):
    """The life of a secret in KV v2, in this order."""
    data, metadata, destroy = (f'{w.kv}/{part}/{KV_PREFIX}/6f9d1d2e-uuid' for part in ('data', 'metadata', 'destroy'))
    another = [f'{w.kv}/{part}/{KV_PREFIX}/0b5e77aa-uuid' for part in ('data', 'destroy', 'metadata')]
    first, blind = {'options': {'cas': 0}, 'data': {'key': b64(b'k' * 32)}}, {'data': {'key': 'y'}}
    return (
        ('node', 'POST', data, first, REFUSED, 'a node makes no secret'),
        ('controller', 'POST', data, blind, WRONG, 'not without check-and-set (cas_required)'),
        ('controller', 'POST', data, first, DONE, 'stores a volume\'s key'),
        ('controller', 'GET', data, None, REFUSED, 'and can\'t read it back'),
        ('controller', 'GET', f'{w.kv}/subkeys/{KV_PREFIX}/6f9d1d2e-uuid', None, REFUSED, 'nor its structure'),
        ('controller', 'GET', metadata, None, DONE, 'only sees that it is there'),
        ('controller', 'GET', f'{w.kv}/metadata/{KV_PREFIX}?list=true', None, REFUSED, 'nor list'),
        ('controller', 'POST', data, first, REFUSED, 'a second create is 403, not 400'),
        ('controller', 'POST', data, {**first, 'options': {'cas': 1}}, REFUSED, 'doesn\'t replace it'),
        ('controller', 'POST', metadata, {'max_versions': 1}, REFUSED, 'doesn\'t change its settings'),
        ('controller', 'DELETE', data, None, REFUSED, 'doesn\'t merely hide it'),
        ('controller', 'POST', f'{w.kv}/data/other/new', first, REFUSED, 'nothing elsewhere in the mount'),
        ('controller', 'POST', f'{data}/below', first, REFUSED, 'nor below a secret'),
        ('controller', 'POST', f'{w.kv}/config', {'cas_required': False}, REFUSED, 'nor the mount\'s settings'),
        ('node', 'GET', data, None, DONE, 'a node reads it'),
        ('node', 'GET', f'{w.kv}/data/other/secret', None, REFUSED, 'and nothing elsewhere'),
        ('node', 'GET', f'{w.kv}/metadata/{KV_PREFIX}?list=true', None, REFUSED, 'a node can\'t list'),
        ('node', 'GET', metadata, None, REFUSED, 'nor see what is there'),
        ('node', 'DELETE', metadata, None, REFUSED, 'a node erases nothing'),
        ('node', 'POST', destroy, {'versions': [1]}, REFUSED, 'not even a version'),
        ('node-tenant', 'GET', data, None, REFUSED, 'a tenant\'s node reads no secret: its path doesn\'t say whose it is'),
        ('scheduler', 'GET', data, None, REFUSED, 'nor the scheduler'),
        ('rotation', 'GET', data, None, REFUSED, 'nor the rotation job'),
        ('controller', 'POST', destroy, {'versions': [1]}, DONE, 'destroys the version'),
        ('node', 'GET', data, None, GONE, 'so that no one reads it any more'),
        ('controller', 'POST', data, first, REFUSED, 'a destroyed one can\'t be made anew'),
        ('controller', 'POST', f'{w.kv}/undelete/{KV_PREFIX}/6f9d1d2e-uuid', {'versions': [1]}, REFUSED, 'nor brought back'),
        ('controller', 'DELETE', metadata, None, DONE, 'erases what is known of it'),
        ('controller', 'DELETE', metadata, None, DONE, 'which may be done twice'),
        ('node', 'GET', data, None, GONE, 'as if it had never been'),
        ('root', 'POST', another[0], first, DONE, 'a volume\'s key that the controller didn\'t store'),
        ('root', 'GET', another[0], None, DONE, 'an operator reads it'),
        ('controller', 'POST', another[1], {'versions': [1]}, DONE, 'destroys any volume\'s key'),
        ('node', 'GET', another[0], None, GONE, 'which nobody reads any more'),
        ('root', 'GET', another[0], None, GONE, 'an operator neither'),
        ('controller', 'DELETE', another[2], None, DONE, 'and erases what is known of it'),
    )


def rekeying(w):
    """What deploy/vault/node-rekey.hcl adds to a node."""
    minting = f'{w.transit}/datakey/wrapped/{A}'
    return (
        ('node', 'POST', minting, {'context': VOLUME}, REFUSED, 'mints nothing by default'),
        ('node-rekey', 'POST', minting, {'context': VOLUME}, DONE, 'mints a wrapped key'),
        ('node-rekey', 'POST', minting, {}, REFUSED, 'not without a context'),
        ('node-rekey', 'POST', minting, {'context': VOLUME, 'bits': 128}, REFUSED, 'nor a shorter one'),
        ('node-rekey', 'POST', f'{w.transit}/datakey/plaintext/{A}', {'context': VOLUME}, REFUSED, 'nor one in clear'),
        ('node-rekey', 'POST', f'{w.transit}/datakey/wrapped/payments', {'context': VOLUME}, REFUSED, 'nor of another application'),
        ('node-rekey', 'POST', f'{w.transit}/keys/{TENANT_KEY}new', DERIVED, REFUSED, 'makes no tenant\'s key'),
        ('node-rekey', 'POST', f'{w.transit}/decrypt/{A}', {'context': VOLUME, 'ciphertext': w.ciphertext}, DONE, 'unwraps as any node'),
    )


def rotating(w):
    """The rotation job on team-b's key, in this order; its versions are 1, then 2."""
    key, rewrap, old = f'{w.transit}/keys/{B}', f'{w.transit}/rewrap/{B}', {'context': VOLUME, 'ciphertext': w.foreign}
    decrypt = f'{w.transit}/decrypt/{B}'
    return (
        ('rotation', 'GET', f'{w.transit}/keys?list=true', None, DONE, 'lists keys'),
        ('rotation', 'GET', key, None, DONE, 'sees versions'),
        ('rotation', 'POST', key, DERIVED, REFUSED, 'makes no key'),
        ('rotation', 'POST', f'{key}/rotate', {}, DONE, 'rotates'),
        ('rotation', 'POST', rewrap, old, DONE, 'rewraps'),
        ('rotation', 'POST', rewrap, {**old, 'context': OTHER}, WRONG, 'not for another volume'),
        ('rotation', 'POST', rewrap, {'ciphertext': w.foreign}, REFUSED, 'nor without a context'),
        ('rotation', 'POST', rewrap, {'batch_input': [old]}, REFUSED, 'one at a time'),
        ('rotation', 'POST', f'{w.transit}/rewrap/payments', old, REFUSED, 'nothing of another application'),
        ('rotation', 'POST', decrypt, old, REFUSED, 'can\'t decrypt'),
        ('rotation', 'POST', f'{w.transit}/encrypt/{B}', {'context': VOLUME, 'plaintext': b64(b'k')}, REFUSED, 'nor encrypt'),
        ('rotation', 'POST', f'{w.transit}/datakey/wrapped/{B}', {'context': VOLUME}, REFUSED, 'nor mint'),
        ('rotation', 'POST', f'{key}/config', {'deletion_allowed': True}, REFUSED, 'doesn\'t allow deletion'),
        ('rotation', 'POST', f'{key}/config', {'exportable': True}, REFUSED, 'nor export'),
        ('rotation', 'POST', f'{key}/config', {'min_decryption_version': 2, 'allow_plaintext_backup': True}, REFUSED, 'nor backup'),
        ('rotation', 'POST', f'{key}/config', {'min_decryption_version': 9}, WRONG, 'not beyond the newest version'),
        ('rotation', 'POST', f'{key}/config', {'min_decryption_version': 2, 'min_encryption_version': 2}, DONE, 'sets minimums'),
        ('node', 'POST', decrypt, old, WRONG, 'an old ciphertext is refused now'),
        ('rotation', 'POST', f'{key}/config', {'min_decryption_version': 1}, DONE, 'which can be taken back'),
        ('node', 'POST', decrypt, old, DONE, 'and it opens again'),
        ('rotation', 'POST', f'{key}/trim', {'min_available_version': 2}, REFUSED, 'can\'t trim'),
        ('rotation', 'POST', f'{key}/config', {'min_decryption_version': 2}, DONE, 'sets it again'),
        ('trim', 'POST', f'{key}/trim', {'min_available_version': 2}, DONE, 'trims'),
        ('trim', 'POST', f'{key}/config', {'min_decryption_version': 1}, WRONG, 'after which there is no way back'),
        ('node', 'POST', decrypt, old, WRONG, 'the old ciphertext is lost'),
    )


def operator(w):
    """Whoever has root's token: what SECURITY.md says he can do. Last of all that team-a's key is asked for."""
    return (
        ('root', 'POST', f'{w.transit}/decrypt/{A}', {'context': VOLUME, 'ciphertext': w.ciphertext}, DONE,
         'an operator unwraps any volume\'s key'),
        ('root', 'GET', f'{w.transit}/export/encryption-key/{A}', None, WRONG, 'a tenant\'s key can\'t be exported'),
        ('root', 'POST', f'{w.transit}/keys/{A}/config', {'exportable': True}, DONE, 'but he can allow it'),
        ('root', 'GET', f'{w.transit}/export/encryption-key/{A}', None, DONE, 'and then has the key itself'),
    )


def public_keys(w):
    return (
        ('scheduler', 'GET', f'{w.transit}/keys/{SERVER}', None, DONE, 'tells the server\'s public key'),
        ('scheduler', 'GET', f'{w.transit}/keys/{A}', None, REFUSED, 'nothing of tenants\' keys'),
        ('scheduler', 'POST', f'{w.transit}/decrypt/{A}', {'context': VOLUME, 'ciphertext': w.ciphertext}, REFUSED, 'can\'t decrypt'),
        ('scheduler', 'POST', f'{w.transit}/decrypt/{SERVER}', {'ciphertext': w.wrapped}, REFUSED, 'not even for the server'),
        ('scheduler', 'POST', f'{w.transit}/datakey/wrapped/{A}', {'context': VOLUME}, REFUSED, 'nor mint'),
        ('scheduler', 'POST', f'{w.transit}/keys/{SERVER}/rotate', {}, REFUSED, 'nor rotate'),
    )


def forbidden_to_all(w):
    """What no identity may, with a body that would do it."""
    t, jobs = w.transit, []
    for kind in ('encryption-key', 'hmac-key', 'signing-key', 'public-key'):
        jobs += [('GET', f'{t}/export/{kind}/{A}', None)]
    jobs += [('GET', f'{t}/backup/{A}', None), ('POST', f'{t}/restore/{A}', {'backup': 'x', 'force': True}),
             ('GET', f'{t}/byok-export/{SERVER}/{A}', None), ('GET', f'{t}/wrapping_key', None),
             ('POST', f'{t}/keys/{A}/import_version', {'ciphertext': 'x'}), ('DELETE', f'{t}/keys/{A}', None),
             ('POST', f'{t}/keys/{A}/config', {'exportable': True}), ('POST', f'{t}/config/keys', {'disable_upsert': False}),
             ('POST', f'{t}/cache-config', {'size': 0}), ('POST', f'{t}/hmac/{A}', {'input': b64(b'x')}),
             ('POST', f'{t}/sign/{SERVER}', {'input': b64(b'x')}), ('POST', f'{t}/random', {}),
             ('GET', 'sys/mounts', None), ('POST', f'sys/mounts/{w.layout.prefix}mine', {'type': 'transit'}),
             ('DELETE', f'sys/mounts/{t}', None), ('POST', 'sys/remount', {'from': t, 'to': 'elsewhere'}),
             ('GET', 'sys/auth', None), ('GET', f'sys/policies/acl/{w.layout.policy_name("node")}', None),
             ('PUT', f'sys/policies/acl/{w.layout.policy_name("node")}', {'policy': 'path "*" { capabilities = ["read"] }'}),
             ('GET', 'sys/audit', None), ('POST', 'sys/seal', None), ('GET', 'sys/raw/core/master', None),
             ('POST', 'sys/rotate', None), ('POST', 'auth/token/create', {'policies': ['root']}),
             ('POST', 'auth/token/create-orphan', {}), ('POST', 'auth/token/lookup', {'token': w.api['node'].token}),
             ('POST', 'auth/token/revoke', {'token': w.api['node'].token}), ('GET', 'auth/token/accessors?list=true', None),
             ('POST', 'auth/token/renew', {'token': w.api['node'].token}), ('GET', 'identity/entity/id?list=true', None),
             ('GET', 'sys/leases/lookup/auth?list=true', None), ('GET', 'cubbyhole/x', None)]
    for who in IDENTITIES:
        for method, path, body in jobs:
            yield (who, method, path, body, REFUSED, 'no one\'s job')


# identity -> path (below the mounts' names) -> what sys/capabilities-self must say; "deny" for every path not named
CAPABILITIES = {
    'controller': {'T/datakey/wrapped/' + A: 'update', 'T/datakey/wrapped/' + B: 'update', 'T/keys/' + A: 'update',
                   'T/keys/' + SERVER: 'update', 'K/data/volumes/u': 'create', 'K/destroy/volumes/u': 'update',
                   'K/metadata/volumes/u': ('delete', 'read')},
    'node': {'T/decrypt/' + A: 'update', 'T/decrypt/' + B: 'update', 'T/decrypt/' + SERVER: 'update', 'K/data/volumes/u': 'read'},
    'node-rekey': {'T/datakey/wrapped/' + A: 'update', 'T/datakey/wrapped/' + B: 'update'},
    'node-tenant': {'T/decrypt/' + A: 'update'},
    'scheduler': {'T/keys/' + SERVER: 'read'},
    'rotation': {'T/keys': 'list', 'T/keys/' + A: 'read', 'T/keys/' + SERVER: 'read', f'T/keys/{A}/rotate': 'update',
                 f'T/keys/{A}/config': 'update', 'T/rewrap/' + A: 'update'},
    'trim': {f'T/keys/{A}/trim': 'update'},
}
CAPABILITIES['trim'].update(CAPABILITIES['rotation'])
CAPABILITIES['node-rekey'].update(CAPABILITIES['node'])
SELF = {'auth/token/lookup-self': 'read', 'auth/token/renew-self': 'update', 'auth/token/revoke-self': 'update',
        'sys/capabilities-self': 'update'}
ALWAYS_DENIED = ('T/datakey/plaintext/' + A, 'T/export/encryption-key/' + A, 'T/backup/' + A, 'T/encrypt/' + A, 'sys/mounts',
                 'auth/token/create', 'sys/policies/acl/x', f'T/keys/{A}/soft-delete', 'K/metadata/volumes')


def capabilities(w, who):
    """What the self-test of coffer-keyd asks: one request about every path of every identity."""
    paths = set(SELF) | set(ALWAYS_DENIED) | {path for table in CAPABILITIES.values() for path in table}
    names = {path: path.replace('T/', w.transit + '/', 1).replace('K/', w.kv + '/', 1) if path[:2] in ('T/', 'K/') else path
             for path in paths}
    answer = w.api[who].call('POST', 'sys/capabilities-self', {'paths': sorted(names.values())}).data
    for path, name in sorted(names.items()):
        wanted = {**SELF, **CAPABILITIES[who]}.get(path, 'deny')
        want = [wanted] if isinstance(wanted, str) else list(wanted)
        w.tap.check(answer.get(name) == want, f'{who}: sys/capabilities-self says of {name}: {wanted}', answer.get(name))


def not_its_own(w):
    """Without a line in the policy, and without the default policy, a token can do nothing with itself."""
    name = w.layout.write_policy('nothing', 'path "cubbyhole/none" { capabilities = ["deny"] }')
    w.api['without lines of its own'] = w.layout.token('nothing')
    for method, path in (('GET', 'auth/token/lookup-self'), ('POST', 'auth/token/renew-self'), ('POST', 'auth/token/revoke-self'),
                         ('POST', 'sys/capabilities-self')):
        w.ask('without lines of its own', method, path, {'paths': ['sys/mounts']}, REFUSED, f'policy {name} doesn\'t name it')


def own_token(w, who):
    """Last: it is revoked at the end. The tokens have no default policy."""
    looked = w.ask(who, 'GET', 'auth/token/lookup-self', None, DONE, 'knows its own token')
    w.tap.check('default' not in looked.data['policies'], f'{who}: its token doesn\'t have the default policy', looked.data['policies'])
    renewed = w.ask(who, 'POST', 'auth/token/renew-self', {}, DONE, 'renews it')
    w.tap.check(renewed.body['auth']['lease_duration'] > 3000, f'{who}: for as long as its role says', renewed.body['auth'])
    w.ask(who, 'POST', 'auth/token/revoke-self', {}, DONE, 'revokes it at its end')
    w.ask(who, 'GET', 'auth/token/lookup-self', None, REFUSED, 'after which it is worth nothing')


def binding(w):
    """The server enforces what the policies rely on."""
    answer = w.api['node'].call('POST', f'{w.transit}/decrypt/{A}', {'context': VOLUME, 'ciphertext': w.ciphertext})
    key = base64.b64decode(answer.data['plaintext'])
    w.tap.check(len(key) == 32, 'a storage key has 256 bits', len(key))
    w.root.call('POST', f'{w.transit}/keys/{TENANT_KEY}loose', {})
    loose = w.mint(f'{TENANT_KEY}loose', VOLUME)
    w.ask('node', 'POST', f'{w.transit}/decrypt/{TENANT_KEY}loose', {'context': OTHER, 'ciphertext': loose}, DONE,
          'a key that is not derived takes any context: why the policy insists, and keyd asks with a wrong one')
    if w.layout.vault.ours:
        w.tap.check(not w.layout.vault.audit.contains(w.ciphertext.encode()), 'the audit log has no ciphertext in clear')
        w.tap.check(not w.layout.vault.audit.contains(answer.data['plaintext'].encode()), 'nor a key')
    else:
        w.tap.skip('the audit log has no ciphertext in clear', 'the log of this server is not here to be read')


def story(vault, _, tap):
    w = World(vault, tap)
    try:
        print(f'# Vault {w.root.version()}', flush=True)
        for table in (minting, unwrapping, rekeying, tenants, secrets_of_volumes, public_keys, forbidden_to_all):
            w.rows(table(w))
        w.rows(unwrapping(w, 'node-tenant'))
        binding(w)
        for who in IDENTITIES:
            capabilities(w, who)
        not_its_own(w)
        w.rows(rotating(w))
        for who in IDENTITIES:
            own_token(w, who)
        w.rows(operator(w))
    finally:
        w.layout.remove()


vaultserver.main('vault-policy', '', story, here=True)
