# SPDX-License-Identifier: Apache-2.0
"""A good record's text and fields changed one by one, with the refusal that each must meet."""
import copy
import json

from fixture import MIB
from luks2 import OTHER_KEY

NOBODY = '3f1d6a52-90c4-4e0b-8a77-0c2f5d9e6b41'  # a uuid that no volume has


def broken_records(good):
    """(name, bytes, word): what no reader may take for a record."""
    text = json.dumps(good).encode()
    yield 'empty', b'', 'JSON'
    yield 'no JSON', b'nothing', 'JSON'
    yield 'cut off', text[:-1], 'JSON'
    yield 'text behind the end', text + b'{}', 'JSON'
    yield 'a key that comes twice', text[:-1] + b',"state":"new"}', 'twice'
    yield 'nested 4,000 deep', b'[' * 4000, 'nested'
    yield 'not UTF-8', text.replace(b'"lab"', b'"l\xffb"'), 'UTF-8'
    yield 'a NUL in a text', text.replace(b'"lab"', b'"lab\\u0000"'), 'NUL'
    yield 'longer than 8 KiB', text + b' ' * 8192, ''
    yield 'an array', b'[' + text + b']', 'object'
    yield 'unknown field', json.dumps({**good, 'from-the-future': 1}).encode(), 'from-the-future'


def without(record, key):
    return {k: v for k, v in record.items() if k != key}


def inner(record, field, **values):
    r = copy.deepcopy(record)
    r[field].update(values)
    return r


def changed_fields(good, other):
    """(name, record, codes, word, times keyd is asked): every field changed. `other`: another volume's record."""
    loss, pre = 'DATA_LOSS', 'PRECONDITION'
    for key, value in good.items():
        yield f'{key} missing', without(good, key), loss, f'\'{key}\'', 0
        wrong = 'x' if isinstance(value, int) and not isinstance(value, bool) else 7
        yield f'{key} of another type', {**good, key: wrong}, loss, f'\'{key}\'', 0
    yield 'v from the future', {**good, 'v': 2}, loss, 'version', 0
    yield 'gen negative', {**good, 'gen': -1}, loss, '\'gen\'', 0
    yield 'id of another volume', {**good, 'id': other['id']}, loss, '\'id\'', 0
    yield 'name', {**good, 'name': 'somebody-else'}, loss, 'MAC', 1
    yield 'uuid', {**good, 'uuid': NOBODY}, loss, '\'uuid\'', 0
    yield 'tenant', {**good, 'tenant': 'team-b'}, loss, '\'tenant\'', 0
    yield 'size beyond the image', {**good, 'size': good['size'] + MIB}, loss, 'bytes', 0
    yield 'size that is no multiple', {**good, 'size': good['size'] + 1}, loss, '\'size\'', 0
    yield 'size of 8 EiB', {**good, 'size': (1 << 63) - MIB}, loss, '\'size\'', 0
    for key, value in (('cipher', 'cipher_null-ecb'), ('cipher', 'capi:xts(ecb(aes-generic))-plain64'),
                       ('key_bits', 256), ('sector', 512), ('data_offset', 8 * MIB)):
        yield f'crypt.{key} {value}', inner(good, 'crypt', **{key: value}), loss, f'\'{key}\'', 0
    yield 'crypt with an unknown field', inner(good, 'crypt', integrity='none'), loss, 'integrity', 0
    yield 'fs none', {**good, 'fs': 'none'}, pre, 'raw block', 0
    yield 'fs another', {**good, 'fs': 'xfs'}, pre, 'created as xfs', 0
    yield 'fs unknown', {**good, 'fs': 'zfs'}, loss, '\'fs\'', 0
    yield 'kms to another that is configured', {**good, 'kms': 'other'}, loss, '\'kms\'', 0
    yield 'kms to one that is not configured', {**good, 'kms': 'nowhere'}, pre, 'nowhere', 0
    yield 'key.kind', inner(good, 'key', kind='transit'), pre, '', 1
    yield 'key.kind unknown', inner(good, 'key', kind='clear'), loss, '\'kind\'', 0
    yield 'key.ciphertext of another volume', {**good, 'key': other['key']}, pre, '', 1
    yield 'key.ciphertext, one bit', inner(good, 'key', ciphertext=flipped(good['key']['ciphertext'])), pre, '', 1
    yield 'key.key_version', inner(good, 'key', key_version=2), pre, '', 1
    yield 'key null', {**good, 'key': None}, loss, '\'key\'', 0
    yield 'digest', {**good, 'digest': flipped_hex(good['digest'])}, loss, OTHER_KEY, 1
    yield 'digest empty', {**good, 'digest': ''}, loss, '\'digest\'', 0
    yield 'mac', {**good, 'mac': flipped_hex(good['mac'])}, loss, 'MAC', 1
    yield 'mac of another volume', {**good, 'mac': other['mac']}, loss, 'MAC', 1
    yield 'mac empty', {**good, 'mac': ''}, loss, '\'mac\'', 0
    yield 'sealed', {**good, 'sealed': True}, loss, '\'sealed\'', 0
    yield 'recipients', {**good, 'recipients': [{'kind': 'device'}]}, loss, '\'recipients\'', 0
    yield 'source', {**good, 'source': {'volume': other['id']}}, loss, '\'source\'', 0
    yield 'created', {**good, 'created': '2001-01-01T00:00:00Z'}, loss, 'MAC', 1
    yield 'keySource', {**good, 'keySource': 'client'}, loss, 'keySource client', 0
    yield 'keySource unknown', {**good, 'keySource': 'hsm'}, loss, '\'keySource\'', 0
    yield from changed_states(good)


def changed_states(good):
    loss, pre = 'DATA_LOSS', 'PRECONDITION'
    bare = {'digest': '', 'mac': ''}
    for state in ('minting', 'new', 'formatting'):
        yield f'state {state}, proofs kept', {**good, 'state': state}, loss, 'must not be set', 0
    for state in ('cloning', 'rekeying', 'revoked'):
        yield f'state {state}', {**good, 'state': state}, loss, state, 0
    yield 'state unknown', {**good, 'state': 'open'}, loss, '\'state\'', 0
    minting = {**good, **bare, 'state': 'minting', 'key': None}
    yield 'state minting, proofs and key taken out', minting, pre, 'minting', 0
    yield 'state new, proofs taken out', {**good, **bare, 'state': 'new'}, loss, 'holds data', 0
    yield 'state erased', {**good, 'state': 'erased'}, 'NOT_FOUND', 'deleted', 0


def flipped(text):
    middle = len(text) // 2
    return text[:middle] + ('A' if text[middle] != 'A' else 'B') + text[middle + 1:]


def flipped_hex(text):
    return ('1' if text[0] != '1' else '2') + text[1:]
