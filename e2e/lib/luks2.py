# SPDX-License-Identifier: Apache-2.0
"""A LUKS2 header as a storage administrator can change it: the first 4 MiB of an image, two copies of binary header
and JSON, keyslot areas. Layout: LUKS2 On-Disk Format Specification, section 2."""
import copy
import hashlib
import json
import os
import struct
import subprocess

AREA = 4 << 20         # what lies before the data of a Coffer volume
COPY = 16384           # one binary header with its JSON
BINARY = 4096
SLOT, SLOTS_AT = 258048, 2 * COPY
MAGICS = (b'LUKS\xba\xbe', b'SKUL\xba\xbe')
HDR_SIZE, SEQUENCE, UUID, CHECKSUM = (8, 8), (16, 8), (168, 40), (448, 64)  # offset and bytes, in the binary header
PRIMARY, SECONDARY, BOTH = (0,), (1,), (0, 1)
OTHER_KEY = 'another volume key was put there'  # Coffer's words when the pinned digest isn't the header's


class Header:
    """The header area in memory; changes go into the chosen copies, with right checksums."""

    def __init__(self, area):
        if len(area) != AREA:
            raise ValueError(f'a header area has {AREA} bytes, not {len(area)}')
        self.area = bytearray(area)

    @classmethod
    def read(cls, path):
        with open(path, 'rb') as f:
            return cls(f.read(AREA))

    def write(self, path):
        """Over the start of an image or device, to the disk."""
        with open(path, 'r+b') as f:
            f.write(self.area)
            f.flush()
            os.fsync(f.fileno())

    def check(self):
        """Raises unless both copies have the magic, the size and the checksum that they must have."""
        for n in BOTH:
            at = n * COPY
            if self.area[at:at + 6] != MAGICS[n] or self.number(HDR_SIZE, n) != COPY:
                raise ValueError(f'copy {n} is not a LUKS2 header of {COPY} bytes')
            if self.area[at + CHECKSUM[0]:at + CHECKSUM[0] + 32] != self.checksum(n):
                raise ValueError(f'copy {n} has a wrong checksum')

    def number(self, field, n=0):
        return struct.unpack_from('>Q', self.area, n * COPY + field[0])[0]

    def set_number(self, field, value, copies=BOTH):
        for n in copies:
            struct.pack_into('>Q', self.area, n * COPY + field[0], value)
            self.seal(n)

    def checksum(self, n):
        whole = bytearray(self.area[n * COPY:(n + 1) * COPY])
        whole[CHECKSUM[0]:CHECKSUM[0] + CHECKSUM[1]] = bytes(CHECKSUM[1])
        return hashlib.sha256(whole).digest()

    def seal(self, n):
        at = n * COPY + CHECKSUM[0]
        self.area[at:at + CHECKSUM[1]] = self.checksum(n).ljust(CHECKSUM[1], b'\0')

    def metadata(self, n=0):
        return json.loads(self.area[n * COPY + BINARY:(n + 1) * COPY].split(b'\0', 1)[0])

    def set_text(self, text, copies=BOTH):
        """Any bytes in place of the JSON."""
        if len(text) >= COPY - BINARY:
            raise ValueError('the JSON does not fit')
        for n in copies:
            self.area[n * COPY + BINARY:(n + 1) * COPY] = text.ljust(COPY - BINARY, b'\0')
            self.seal(n)

    def edit(self, change, copies=BOTH):
        """change(metadata) in place."""
        metadata = self.metadata()
        change(metadata)
        self.set_text(json.dumps(metadata, separators=(',', ':')).encode(), copies)

    def set_uuid(self, uuid):
        for n in BOTH:
            at = n * COPY + UUID[0]
            self.area[at:at + UUID[1]] = uuid.encode().ljust(UUID[1], b'\0')
            self.seal(n)

    def zero(self, start, end):
        self.area[start:end] = bytes(end - start)


def digest_hash(metadata):
    """What a record pins: the SHA-256 of the one digest object without its lists."""
    (digest,) = metadata['digests'].values()
    pinned = {k: digest[k] for k in ('type', 'hash', 'iterations', 'salt', 'digest')}
    return hashlib.sha256(json.dumps(pinned, sort_keys=True, separators=(',', ':')).encode()).hexdigest()


def stock_format(path, uuid, passphrase, kind='luks2'):
    """cryptsetup's own header on a scratch file, as like Coffer's as its options go; returns the area."""
    with open(path, 'wb') as f:
        f.truncate(AREA + (4 << 20))
    geometry = ['--luks2-metadata-size', '16k', '--luks2-keyslots-size', str(AREA - 2 * COPY),
                '--sector-size', '4096', '--pbkdf', 'pbkdf2'] if kind == 'luks2' else []
    command = ['cryptsetup', 'luksFormat', '--batch-mode', '--type', kind, '--uuid', uuid, '--offset', str(AREA // 512),
               *geometry, '--pbkdf-force-iterations', '1000', '--hash', 'sha256', '--cipher', 'aes-xts-plain64',
               '--key-size', '512', '--key-file', '-', path]
    subprocess.run(command, input=passphrase, capture_output=True, check=True)
    try:
        with open(path, 'rb') as f:
            return f.read(AREA)
    finally:
        os.unlink(path)


def opens(path, passphrase):
    """Stock cryptsetup takes the passphrase for this image (no mapping is made)."""
    return subprocess.run(['cryptsetup', 'open', '--test-passphrase', '--key-file', '-', path], input=passphrase,
                          capture_output=True, check=False).returncode == 0


# ---- changes of the JSON: (name, word of the refusal, change) ----

def put(value, *path):
    """A change that sets metadata[path[0]][path[1]]... = value."""
    def change(metadata):
        at = metadata
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
    return change


def second_segment(kind):
    def change(metadata):
        first = metadata['segments']['0']
        first['size'] = str(16 << 20)
        second = {'type': kind, 'offset': str(AREA + (16 << 20)), 'size': 'dynamic'}
        if kind == 'crypt':
            second = {**first, **second, 'iv_tweak': str((16 << 20) // 512)}
            metadata['digests']['0']['segments'].append('1')
        metadata['segments']['1'] = second
    return change


def clear_segment(metadata):
    metadata['segments']['0'] = {'type': 'linear', 'offset': str(AREA), 'size': 'dynamic'}
    metadata['digests']['0']['segments'] = []


def more_keyslots(first, last):
    def change(metadata):
        for n in range(first, last + 1):
            slot = copy.deepcopy(metadata['keyslots']['0'])
            slot['area']['offset'] = str(SLOTS_AT + n * SLOT)
            metadata['keyslots'][str(n)] = slot
            metadata['digests']['0']['keyslots'].append(str(n))
    return change


def loose_keyslot(metadata):
    more_keyslots(1, 1)(metadata)
    metadata['digests']['0']['keyslots'] = ['0']


def second_digest(metadata):
    metadata['digests']['1'] = {**copy.deepcopy(metadata['digests']['0']), 'keyslots': [], 'segments': []}


def argon2(metadata):
    slot = metadata['keyslots']['0']
    slot['kdf'] = {'type': 'argon2id', 'time': 4, 'memory': 64 << 20, 'cpus': 4, 'salt': slot['kdf']['salt']}


SEGMENT, SLOT_0, DIGEST_0 = ('segments', '0'), ('keyslots', '0'), ('digests', '0')
FOREIGN = 'A' * 43 + '='  # base64 of 32 bytes
NULL, CAPI = 'cipher_null-ecb', 'capi:xts(ecb(aes-generic))-plain64'

CHANGES = [
    ('null cipher in the keyslot area', NULL, put(NULL, *SLOT_0, 'area', 'encryption')),
    ('null cipher in the segment', NULL, put(NULL, *SEGMENT, 'encryption')),
    ('a segment in clear', 'segment', clear_segment),
    ('capi: cipher in the segment', 'capi:', put(CAPI, *SEGMENT, 'encryption')),
    ('capi: cipher in the keyslot area', 'capi:', put(CAPI, *SLOT_0, 'area', 'encryption')),
    ('another cipher mode in the segment', 'aes-cbc', put('aes-cbc-essiv:sha256', *SEGMENT, 'encryption')),
    ('foreign digest', 'digest', put(FOREIGN, *DIGEST_0, 'digest')),
    ('foreign salt of the digest', 'digest', put(FOREIGN, *DIGEST_0, 'salt')),
    ('a second digest', 'digest', second_digest),
    ('a second segment, encrypted', 'segment', second_segment('crypt')),
    ('a second segment, in clear', 'segment', second_segment('linear')),
    ('shifted segment offset', 'offset', put(str(AREA + (1 << 20)), *SEGMENT, 'offset')),
    ('segment of fixed size', 'size', put(str(16 << 20), *SEGMENT, 'size')),
    ('other IV tweak', 'iv_tweak', put('8', *SEGMENT, 'iv_tweak')),
    ('other sector size', 'sector_size', put(512, *SEGMENT, 'sector_size')),
    ('integrity in the segment', 'integrity',
     put({'type': 'hmac(sha256)', 'journal_encryption': 'none', 'journal_integrity': 'none'}, *SEGMENT, 'integrity')),
    ('huge iteration count of the keyslot', 'iterations', put(4294967295, *SLOT_0, 'kdf', 'iterations')),
    ('huge iteration count of the digest', 'iterations', put(4294967295, *DIGEST_0, 'iterations')),
    ('argon2id with 64 GiB of memory', 'argon2id', argon2),
    ('huge stripe count', 'stripes', put(2147483647, *SLOT_0, 'af', 'stripes')),
    ('other hash of the anti-forensic split', 'hash', put('sha1', *SLOT_0, 'af', 'hash')),
    ('keyslot area over the data', 'LUKS2 header', put(str(AREA), *SLOT_0, 'area', 'offset')),
    ('a token that names a plug-in', 'token', put({'0': {'type': 'evil-plugin', 'keyslots': ['0']}}, 'tokens')),
    ('requirement of a re-encryption', 'LUKS2 header',
     put({'mandatory': ['online-reencrypt-v2']}, 'config', 'requirements')),
    ('unknown requirement', 'requirements', put({'mandatory': ['from-the-future']}, 'config', 'requirements')),
    ('flag allow-discards', 'flags', put(['allow-discards'], 'config', 'flags')),
    ('flag no-read-workqueue', 'flags', put(['no-read-workqueue'], 'config', 'flags')),
    ('other size of the keyslots area', 'areas have', put(str(SLOT * 4), 'config', 'keyslots_size')),
    ('a keyslot beyond slot 2', 'keyslot', more_keyslots(3, 3)),
    ('as many keyslots as fit', 'keyslot', more_keyslots(1, 15)),
    ('a keyslot of no digest', 'LUKS2 header', loose_keyslot),
    ('no keyslot', 'keyslot', lambda m: (m['keyslots'].clear(), m['digests']['0']['keyslots'].clear())),
    ('unknown field', 'from-the-future', put({}, 'from-the-future')),
    ('unknown field in the segment', 'from-the-future', put('x', *SEGMENT, 'from-the-future')),
]
