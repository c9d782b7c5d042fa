#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""crypt_rekey: coffer-crypt's rekey and prune on a loop device whose header the stock tool made, killed at each fault point.
No device-mapper; root and loop devices. What needs live mappings is in e2e/crypt/verbs.py."""
import contextlib
import os
import sys

import caselib

sys.path.insert(0, os.path.join(caselib.ROOT, 'e2e', 'crypt'))
from cryptlib import MIB, Crypt, Volume, digest_of, mac_of, passphrase_of, run, stock_format  # noqa: E402

C = Crypt()


@contextlib.contextmanager
def volume():
    if os.geteuid() != 0:
        raise caselib.Skip('needs root')
    if not os.path.exists('/dev/loop-control'):
        raise caselib.Skip('needs loop devices')
    with caselib.folder('crypt-rekey-') as root:
        v = Volume(root + '/image', 32 * MIB)
        try:
            stock_format(v)
            yield v
        finally:
            run('losetup', '-d', v.loop)


def opens(v):
    """By Coffer with what the record says, and by the stock tool."""
    return C.passphrase(v).decode().strip() == passphrase_of(v.sk, v.uuid) and v.stock_opens(v.sk)


def one_key_after_the_other(v):
    digest = digest_of(v.loop)
    for _ in range(4):
        both = C.rekey(v, os.urandom(32))
        assert both.record['mac'] == mac_of(both.sk, both.record) and both.record['staleSlots'] is True
        assert opens(v) and opens(both) and len(v.slots()) == 2
        new = C.prune(both)
        assert new.record['mac'] == mac_of(new.sk, new.record) and 'staleSlots' not in new.record
        assert opens(new) and not v.stock_opens(v.sk) and len(v.slots()) == 1 and digest_of(v.loop) == digest
        v = new


def killed_at_each_point(v):
    if not caselib.built_with('coffer-crypt', b'crypt:rekey:backup'):
        raise caselib.Skip('this build has no fault points')
    with C.fault('record') as f:
        both = C.rekey(v, os.urandom(32))
        n = len(f.trace())
        v = C.prune(both)
        points = f.trace()
    assert n >= 8 and len(points) - n >= 10, points
    for call, first, last in ((lambda: C.rekey(v, os.urandom(32)), 1, n), (lambda: C.prune(v), 1, len(points) - n)):
        for point in range(first, last + 1):
            try:
                with C.fault(f'kill {point}'):
                    call()
                raise AssertionError(f'point {point} was not reached')
            except RuntimeError as e:
                assert 'signal 9' in str(e), e
            assert opens(v), f'after point {point}'
    assert C.prune(v).record == v.record and len(v.slots()) == 1 and opens(v)


def a_copy_of_the_header_is_made_first(v):
    before = v.header()
    C.rekey(v, os.urandom(32))
    with open(v.image + '.backup', 'rb') as f:
        backup = f.read()
    assert len(backup) == 4 * MIB and backup[:806912] == before[:806912]
    run('cryptsetup', '-q', 'luksHeaderRestore', f'--header-backup-file={v.image}.backup', v.loop)
    assert opens(v) and v.slots() == ['0']


def volume_key(header, sk, uuid):
    said = run('cryptsetup', '-q', 'luksDump', '--dump-volume-key', '--key-file=-', header, input=passphrase_of(sk, uuid).encode())
    return said.split('MK dump:')[1]


def an_old_copy_and_its_key_give_the_volume_key_for_ever(v):
    """What no new storage key takes away (SECURITY.md): the volume key is in the copy, and stays the volume's."""
    old = v.image + '.old'
    with open(old, 'wb') as f:
        f.write(v.header())
    was = volume_key(v.loop, v.sk, v.uuid)
    new = C.prune(C.rekey(v, os.urandom(32)))
    assert not v.stock_opens(v.sk) and new.stock_opens(new.sk)
    assert volume_key(old, v.sk, v.uuid) == was == volume_key(v.loop, new.sk, v.uuid) and len(''.join(was.split())) == 128, was


if __name__ == '__main__':
    sys.exit(caselib.main([one_key_after_the_other, killed_at_each_point, a_copy_of_the_header_is_made_first,
                           an_old_copy_and_its_key_give_the_volume_key_for_ever], volume))
