#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""crypt-rekey: rekey and prune of coffer-crypt on a loop device and real dm-crypt: a new key, detached and under a live mapping, and
killed at each point. `make e2e STORY=crypt-rekey` runs it; COFFER_BIN names the folder of the (test) build. Speaks TAP."""
import fcntl
import mmap
import os
import stat
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cryptlib import FS_MARK, MIB, Tests, digest_of, dm, mac_of, passphrase_of, refuses, run

TESTS = Tests()
test = TESTS.add


@test
def a_volume_with_data(c, v):
    c.format(v, 'new')
    v.write(c, FS_MARK)
    c.close(v)
    assert v.slots() == ['0'] and v.stock_opens(v.sk)


@test
def a_new_key_and_the_old_one_gone(c, v):
    before, digest, header = v.sk, digest_of(v.loop), v.header()
    both = c.rekey(v, os.urandom(32))
    assert both.record['mac'] == mac_of(both.sk, both.record), both.record
    assert v.slots() == ['0', '1'] and v.stock_opens(before) and v.stock_opens(both.sk)
    with open(v.image + '.backup', 'rb') as f:
        assert f.read() == header[:806912] + bytes(4 * MIB - 806912), 'the backup is not the header as it was'
    for w in (v, both):  # what either record says opens
        c.open(w)
        assert v.read(c, len(FS_MARK)) == FS_MARK
        c.close(v)
    refuses('DATA_LOSS', 'MAC', c.open, both.but(sk=before))
    refuses('DATA_LOSS', 'MAC', c.open, v.but(sk=both.sk))
    refuses('DATA_LOSS', 'MAC', c.prune, both.but(record={k: x for k, x in both.record.items() if k != 'staleSlots'}))
    new = c.prune(both)
    assert new.record['mac'] == mac_of(new.sk, new.record) and c.prune(both).record == new.record
    assert v.slots() == ['1'] and not v.stock_opens(before) and v.stock_opens(new.sk) and digest_of(v.loop) == digest
    assert v.header()[32768:32768 + 258048] != header[32768:32768 + 258048], 'the old keyslot is still on the disk'
    refuses('FAILED_PRECONDITION', 'opens no keyslot', c.open, v)
    c.open(new)
    assert v.read(c, len(FS_MARK)) == FS_MARK
    c.close(v)
    v.sk, v.record = new.sk, new.record


@test
def rekey_refuses(c, v):
    with open('/dev/null', 'wb') as f:
        refuses('DATA_LOSS', 'MAC', c.rekey, v.but(sk=bytes(32)), os.urandom(32))
        refuses('FAILED_PRECONDITION', 'is the present one', c.rekey, v, v.sk)
        refuses('UNAVAILABLE', 'the new key', c.call, 'rekey', v, out=f.fileno(), new_frame=b'')
        refuses('DATA_LOSS', 'volume key', c.rekey, v.but(record=dict(v.record, digest='0' * 64)), os.urandom(32))
        refuses('FAILED_PRECONDITION', 'formatting', c.rekey, v.but(record=dict(v.record, state='formatting')), b'x' * 32)
    with open('/dev/full', 'wb') as f:
        before = v.hash()
        refuses('INTERNAL', 'backup', c.call, 'rekey', v, out=f.fileno(), new_frame=v.but(sk=b'x' * 32).frame())
        assert v.hash() == before, 'it went on without a backup'
    major, minor = v.devno().split(':')
    os.makedirs('/run/cryptsetup', exist_ok=True)
    with open(f'/run/cryptsetup/L_{major}:{minor}', 'wb') as f:  # as a cryptsetup of the host
        fcntl.flock(f, fcntl.LOCK_SH)
        refuses('ABORTED', 'metadata lock', c.rekey, v, os.urandom(32), wait_ms=300)
        refuses('ABORTED', 'metadata lock', c.prune, v, wait_ms=300)
    assert v.slots() == ['1'] and v.stock_opens(v.sk)


@test
def a_slot_of_somebody_else_goes(c, v):
    for name, text in (('k1', passphrase_of(v.sk, v.uuid).encode()), ('k2', b'other')):
        with open(f'/tmp/{name}', 'wb') as f:
            f.write(text)
    run('cryptsetup', '-q', 'luksAddKey', '--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000', '--key-file', '/tmp/k1',
        v.loop, '/tmp/k2')
    assert len(v.slots()) == 2
    new = c.prune(c.rekey(v, os.urandom(32)))
    assert len(v.slots()) == 1 and v.stock_opens(new.sk)
    v.sk, v.record = new.sk, new.record


@test
def rekey_under_a_live_mapping(c, v):
    c.open(v)
    table, stop, failures = dm('table', v.name), threading.Event(), []
    fd = v.node(c)

    def writer():
        n = 0
        while not stop.is_set():
            n += 1
            data = n.to_bytes(8, 'big') * 512
            os.pwrite(fd, data, 8 * MIB + n % 64 * 4096)
            os.fsync(fd)
            if os.pread(fd, 4096, 8 * MIB + n % 64 * 4096) != data:
                failures.append(n)

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        for _ in range(4):
            new = c.prune(c.rekey(v, os.urandom(32)))
            v.sk, v.record = new.sk, new.record
    finally:
        stop.set()
        thread.join()
        os.close(fd)
    assert not failures and dm('table', v.name) == table and c.check(v)['state'] == 'ok'
    assert v.read(c, len(FS_MARK)) == FS_MARK
    c.close(v)
    c.open(v)
    assert v.read(c, len(FS_MARK)) == FS_MARK
    c.close(v)


@test
def rekey_under_a_raw_mapping(c, v):
    """An administrator's own dm-crypt device over the data, not made by Coffer: only the header is touched."""
    key = run('cryptsetup', '-q', 'luksDump', '--dump-volume-key', '--key-file', '-', v.loop,
              input=passphrase_of(v.sk, v.uuid).encode())
    volume_key = ''.join(key.split('MK dump:')[1].split())
    dm('create', 'raw', '--table', f'0 8192 crypt aes-xts-plain64 {volume_key} 0 {v.loop} 8192 1 sector_size:4096')
    os.mknod('/tmp/raw', 0o600 | stat.S_IFBLK, os.makedev(*map(int, dm('info', '-c', '--noheadings', '-o', 'major,minor',
                                                                      '--separator', ' ', 'raw').split())))
    fd = os.open('/tmp/raw', os.O_RDWR | os.O_DIRECT)
    page = mmap.mmap(-1, 4096)
    for n in (1, 2):
        assert os.preadv(fd, [page], 0) == 4096 and page[:] == FS_MARK, f'the data, looked at {n} times'
        page[:] = bytes([n]) * 4096
        assert os.pwritev(fd, [page], 2 * MIB) == 4096
        new = c.prune(c.rekey(v, os.urandom(32)))
        v.sk, v.record = new.sk, new.record
        assert os.preadv(fd, [page], 2 * MIB) == 4096 and page[:] == bytes([n]) * 4096
    os.close(fd)
    os.unlink('/tmp/raw')
    dm('remove', 'raw')
    c.open(v)
    assert v.read(c, len(FS_MARK)) == FS_MARK
    c.close(v)


def killed(c, point, call, *args):
    try:
        with c.fault(f'kill {point}'):
            call(*args)
    except RuntimeError as e:
        assert 'signal 9' in str(e), e
        return
    raise AssertionError(f'point {point} was not reached')


@test
def killed_at_each_point_either_key_is_whole(c, v):
    with c.fault('record') as f:
        both = c.rekey(v, os.urandom(32))
        rekey_points, n = f.trace(), len(f.trace())
        new = c.prune(both)
        prune_points = f.trace()[n:]
    print(f'# rekey: {rekey_points}\n# prune: {prune_points}')
    assert len(rekey_points) >= 7 and len(prune_points) >= 7
    v.sk, v.record = new.sk, new.record
    for point in range(1, len(rekey_points) + 1):
        killed(c, point, c.rekey, v, os.urandom(32))
        c.open(v)  # the record is the old one: its key opens
        assert v.stock_opens(v.sk)
        c.close(v)
    both = c.rekey(v, os.urandom(32))
    for point in range(1, len(prune_points) + 1):
        killed(c, point, c.prune, both)
        c.open(both)
        assert v.stock_opens(both.sk)
        c.close(v)
    new = c.prune(both)
    assert len(v.slots()) == 1 and not v.stock_opens(v.sk)
    v.sk, v.record = new.sk, new.record
    assert c.prune(v).record == v.record  # the lock files of the killed are no locks


if __name__ == '__main__':
    sys.exit(TESTS.run('rekey'))
