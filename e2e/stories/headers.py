#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""headers: what a storage administrator, who may change every byte of the pool, tries on a `ready` volume with data
(while nobody uses it; races.py: meanwhile).
Each attack is refused with a clear error: nothing is mounted, no mapping stays, image and record are byte for byte as
the attack left them. Then the pool is restored, and the volume opens with its data. What Coffer can't prevent (data
loss by setting a state back, rollback of the whole volume) is shown to be no disclosure."""
# story: disk=2G cpus=1
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import luks2  # noqa: E402
from files import read  # noqa: E402
from fixture import MIB, CallError, Coffer  # noqa: E402
from luks2 import AREA, BOTH, COPY, OTHER_KEY, PRIMARY, SECONDARY, SEQUENCE  # noqa: E402
from records import NOBODY, broken_records, changed_fields  # noqa: E402
from sweep import demand_clean  # noqa: E402
from tamper import MARKER, SIZE, Victim, place_file, the_end  # noqa: E402
from tap import Tap, demand  # noqa: E402
# After an attack the image is restored byte by byte and nothing is left on the node: that the volume opens then is
# shown after some of them and at the end of each part, for each stage takes seconds in a VM.
WORKS_EVERY = 6


# ---- headers ----

def edited(victim, change, copies=BOTH, sequence=0):
    header = victim.header()
    header.edit(change, copies)
    header.set_number(SEQUENCE, header.number(SEQUENCE) + sequence, copies)
    header.write(victim.image)


def header_attack(victim, tamper, word, codes='DATA_LOSS'):
    victim.attack(tamper, codes, word)
    victim.attacks = getattr(victim, 'attacks', 0) + 1
    if victim.attacks % WORKS_EVERY == 0:
        victim.works()


def json_changes(tap, v):
    v.header().check()
    demand(luks2.digest_hash(v.header().metadata()) == v.record()['digest'], 'the record pins another digest')
    for name, word, change in luks2.CHANGES:
        tap.run(f'header, {name}: refused', header_attack, v, lambda change=change: edited(v, change), word)


def on_header(victim, change):
    """A tamper function: change(header) in memory, then over the image."""
    def tamper():
        header = victim.header()
        change(header)
        header.write(victim.image)
    return tamper


def spoil_checksums(header):
    for n in BOTH:
        header.area[n * COPY + 300] ^= 1


def raw_changes(tap, v):
    luks1 = luks2.stock_format(v.c.root + '/scratch', v.record()['uuid'], b'x', 'luks1')
    unusable = 'no usable LUKS2 header'
    table = [
        ('wrong uuid', 'uuid', 'DATA_LOSS', lambda h: h.set_uuid(NOBODY)),
        ('both copies zeroed', unusable, 'DATA_LOSS', lambda h: h.zero(0, 2 * COPY)),
        ('the whole area zeroed', unusable, 'DATA_LOSS', lambda h: h.zero(0, AREA)),
        ('noise', unusable, 'DATA_LOSS', lambda h: h.area.__setitem__(slice(0, AREA), os.urandom(AREA))),
        ('LUKS1', unusable, 'DATA_LOSS', lambda h: h.area.__setitem__(slice(0, AREA), luks1)),
        ('wrong checksums', unusable, 'DATA_LOSS', spoil_checksums),
        ('areas of another size claimed', unusable, 'DATA_LOSS', lambda h: h.set_number(luks2.HDR_SIZE, AREA)),
        ('metadata that is no JSON', unusable, 'DATA_LOSS', lambda h: h.set_text(b'nothing')),
        ('metadata nested 6,000 deep', unusable, 'DATA_LOSS', lambda h: h.set_text(b'{"a":' + b'[' * 6000)),
        ('keyslot area overwritten', 'opens no keyslot', 'PRECONDITION',
         lambda h: h.area.__setitem__(slice(luks2.SLOTS_AT, luks2.SLOTS_AT + luks2.SLOT), os.urandom(luks2.SLOT))),
    ]
    for name, word, code, change in table:
        tap.run(f'header, {name}: refused', header_attack, v, on_header(v, change), word, code)


def one_copy(tap, v):
    """With one good copy left, both answers are right; a format or the tampered copy never is."""
    null = luks2.put(luks2.NULL, *luks2.SEGMENT, 'encryption')
    table = [
        ('primary zeroed', on_header(v, lambda h: h.zero(0, COPY))),
        ('secondary zeroed', on_header(v, lambda h: h.zero(COPY, 2 * COPY))),
        ('only the primary tampered with', lambda: edited(v, null, PRIMARY)),
        ('only the secondary tampered with', lambda: edited(v, null, SECONDARY)),
        ('primary tampered with and newer', lambda: edited(v, null, PRIMARY, 5)),
        ('secondary tampered with and newer', lambda: edited(v, null, SECONDARY, 5)),
    ]
    for name, tamper in table:
        def test(tamper=tamper, name=name):
            print(f'# {name}: {v.refused_or_right(tamper)}')
        tap.run(f'header, {name}: refused, or opened right', test)
    tap.run('the volume works after the attacks on its header', v.works)


def other_key(tap, v):
    """An attacker who once got the passphrase: same uuid, same passphrase, another volume key."""
    passphrase, evil = v.forged_header()
    good = v.header()

    def put():
        evil.write(v.image)

    def both_open():
        demand(luks2.opens(v.image, passphrase), 'cryptsetup does not open the volume')
        put()
        try:
            demand(luks2.opens(v.image, passphrase), 'cryptsetup does not open the forged header')
        finally:
            good.write(v.image)
    tap.run('stock cryptsetup takes the passphrase for the true header and for the forged one', both_open)
    tap.run('header, same uuid and passphrase with another volume key: refused', header_attack, v, put, OTHER_KEY)

    def record_too():
        put()
        v.edit_record(digest=luks2.digest_hash(evil.metadata()))
    tap.run('the same, and the record pins it: refused by the MAC', header_attack, v, record_too, 'MAC')

    def break_glass():
        done = v.unlock_key()
        if done.returncode == 0 or done.stdout:
            raise RuntimeError(f'a passphrase was given out: exit {done.returncode}')
        raise CallError('unlock-key', 15 if OTHER_KEY in done.stderr.decode() else 2, done.stderr.decode())
    tap.run('the same: no break-glass passphrase', v.attack, put, 'DATA_LOSS', OTHER_KEY, break_glass)


# ---- images ----

def resized(v, size):
    return lambda: os.truncate(v.image, size)


def images(tap, v, other):
    grown = SIZE + AREA + MIB
    table = [
        ('truncated by 16 MiB', 'bytes', resized(v, SIZE + AREA - 16 * MIB)),
        ('truncated inside the header', 'bytes', resized(v, 8192)),
        ('empty', 'bytes', resized(v, 0)),
        ('512 bytes longer', 'multiple', resized(v, SIZE + AREA + 512)),
        ('a link to another volume\'s', 'plain file', lambda: place_file(v.image, link=other.image)),
        ('another volume\'s by hard link', 'plain file', lambda: place_file(v.image, hard=other.image)),
        ('a FIFO', 'plain file', lambda: place_file(v.image, fifo=True)),
        ('gone', 'image', lambda: os.unlink(v.image)),
    ]
    for name, word, tamper in table:
        tap.run(f'image, {name}: refused', header_attack, v, tamper, word)
    tap.run('image and record truncated: refused by the file system\'s check', shrunk, v)
    tap.run('image 1 MiB longer: refused, or opened right', lambda: print('# ' + v.refused_or_right(resized(v, grown))))
    tap.run('the volume works after the attacks on its image', v.works)


def shrunk(v):
    """`size` is not under the MAC, so the mapping opens, smaller than its file system. That is noticed before e2fsck
    or the kernel could write to it. The header stays as it is."""
    good, header = v.good(), v.header()
    try:
        os.truncate(v.image, 16 * MIB + AREA)
        v.edit_record(size=16 * MIB)
        v.demand_refused('DATA_LOSS', 'its device only')
        demand_clean(v.c)
        demand(v.header().area == header.area, 'the header was written to')
        demand(MARKER not in read(v.image), 'the image holds the plaintext')
    finally:
        v.restore(good)


# ---- records ----

def records(tap, v, other):
    good = v.record()
    for name, data, word in broken_records(good):
        tap.run(f'record, {name}: refused', v.record_attack, lambda data=data: v.put_record(data), 'DATA_LOSS', word, 0)
    for name, record, code, word, unwraps in changed_fields(good, other.record()):
        tap.run(f'record, {name}: refused', v.record_attack, lambda record=record: v.put_record(record), code, word,
                unwraps)
    for name, word, tamper in (('gone', 'image', lambda: os.unlink(v.record_path)),
                               ('a link to another volume\'s', 'record.json',
                                lambda: place_file(v.record_path, link=other.record_path)),
                               ('a FIFO', 'record.json', lambda: place_file(v.record_path, fifo=True))):
        tap.run(f'record, {name}: refused', v.record_attack, tamper, ('DATA_LOSS', 'INTERNAL'), word, 0)
    tap.run('the volume works after the attacks on its record', v.works)


def block_of_files(v):
    """`fs` none and a stage as raw block: the record's MAC holds where the request agrees with the record."""
    v.attack(lambda: v.edit_record(fs='none'), 'DATA_LOSS', 'MAC', lambda: v.c.stage(v.volume, block=True), 1)


def unauthenticated(v):
    """gen, size, state and key are not under the MAC. A gen is only for compare-and-swap; a size is only a request."""
    for fields in ({'gen': 0}, {'gen': 1 << 40}, {'size': 16 * MIB}):
        good = v.save()
        v.edit_record(**fields)
        v.works()
        v.restore(good)


def last_generation(v):
    def tamper():
        v.edit_record(gen=(1 << 63) - 1)
    good = v.save()
    tamper()
    v.works()
    v.demand_refused(('INTERNAL', 'DATA_LOSS', 'PRECONDITION', 'OUT_OF_RANGE'), 'record',
                     lambda: v.c.controller_expand(v.id, v.size + 4 * MIB))
    demand(v.record()['gen'] == (1 << 63) - 1 and v.c.controller.alive(), 'the record was written')
    v.restore(good)
    v.works()


def set_back(v, zero_header):
    """State set back with all traces taken out: Coffer can't tell this from a crash while formatting (or from a new
    volume), and formats again. The data is lost, which a storage administrator can do anyway. It is not disclosed:
    the new mapping has a new key, and neither image nor mapping shows the old plaintext. The administrator's own copy
    of image and record brings the data back (rollback isn't prevented either)."""
    good, digest = v.save(), v.record()['digest']
    v.edit_record(state='new' if zero_header else 'formatting', digest='', mac='')
    if zero_header:
        on_header(v, lambda h: h.zero(0, AREA))()
    v.c.stage(v.volume)
    try:
        v.demand_table()
        demand(os.listdir(v.c.staging(v.volume)) == ['lost+found'], 'the new file system is not empty')
        with open('/dev/coffer/' + v.c.dm_name(v.volume), 'rb') as f:
            demand(MARKER not in f.read(), 'the mapping shows the old plaintext')
        demand(v.record()['state'] == 'ready' and v.record()['digest'] != digest, 'the new volume key is the old one')
    finally:
        v.c.unstage(v.volume)
    demand(MARKER not in read(v.image), 'the image holds the plaintext')
    v.restore(good)
    v.works()


def foreign_formatting(v, other):
    """`formatting` allows to format again, but never over another volume's header."""
    def tamper():
        other.header().write(v.image)
        v.edit_record(state='formatting', digest='', mac='')
    v.attack(tamper, 'DATA_LOSS', 'another volume')


def states(tap, v, other):
    tap.run('record, fs none and staged as raw block: refused by the MAC', block_of_files, v)
    tap.run('record, gen or a smaller size: opened, data right (neither is authenticated)', unauthenticated, v)
    tap.run('record, the last possible gen: opened; a change is refused in order', last_generation, v)
    tap.run('record, state formatting without proofs: data loss, no disclosure', set_back, v, False)
    tap.run('record, state new without proofs over a zeroed header: the same', set_back, v, True)
    tap.run('record, state formatting over another volume\'s header: refused', foreign_formatting, v, other)


# ---- one volume in another's place ----

def copied(v, other, **fields):
    """other's record and image in v's place, the record with some fields made v's."""
    def tamper():
        place_file(v.image, read(other.image))
        v.put_record({**other.record(), **fields})
    return tamper


def in_place_of(tap, v, other):
    """v is another tenant's volume; the administrator shows it the data of `other`."""
    mine = v.record()
    asked = other.unwraps()
    for name, fields, codes, word, unwraps in (
            ('as it is', {}, 'DATA_LOSS', '\'id\'', 0),
            ('with the id made right', {'id': mine['id']}, 'DATA_LOSS', '\'tenant\'', 0),
            ('with id and tenant made right', {'id': mine['id'], 'tenant': mine['tenant']}, 'DATA_LOSS', '\'uuid\'', 0),
            ('with id, tenant and uuid made right', {k: mine[k] for k in ('id', 'tenant', 'uuid')},
             'PRECONDITION', '', 1),
            ('with id, tenant, uuid and key made right', {k: mine[k] for k in ('id', 'tenant', 'uuid', 'key')},
             'DATA_LOSS', 'uuid', 1)):
        tap.run(f'a whole volume under another\'s id, {name}: refused', v.attack, copied(v, other, **fields), codes,
                word, None, unwraps)
    tap.check(other.unwraps() == asked, 'and the key of the volume that was copied was never asked for')

    def header_and_uuid():
        header = other.header()
        header.set_uuid(mine['uuid'])
        header.write(v.image)
    tap.run('only the header and keyslots of another volume, with the uuid made right: refused', header_attack, v,
            header_and_uuid, OTHER_KEY)
    tap.run('the volume works in its own place', v.works)


def main():
    tap = Tap()
    c = Coffer()
    c.install()
    c.write_config(kms=('lab', 'other'))
    c.write_master_key(c.root + '/other.key')
    c.start()
    v, other = Victim(c, 'headers-victim'), Victim(c, 'headers-other', tenant='team-b')
    json_changes(tap, v)
    raw_changes(tap, v)
    one_copy(tap, v)
    images(tap, v, other)
    records(tap, v, other)
    states(tap, v, other)
    in_place_of(tap, other, v)
    other_key(tap, v)
    tap.run('all is deleted, nothing is left, the daemons live', the_end, c, (v, other))
    c.stop()
    tap.done()


main()
