#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""crypt-verbs: coffer-crypt driven directly, verb by verb, on a loop device and real dm-crypt. `make e2e
STORY=crypt-verbs` runs it; COFFER_BIN names the folder of the (test) build. Speaks TAP."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cryptlib import FS_MARK, MIB, Tests, Volume, digest_of, dm, mac_of, passphrase_of, refuses, rsa_recipient, run

TESTS = Tests()
test = TESTS.add


@test
def an_empty_machine(c, v):
    assert c.list() == []
    refuses('NOT_FOUND', v.name, c.check, v)
    c.close(v)  # nothing there: fine


@test
def format_makes_a_mapping_and_its_proof(c, v):
    m = c.format(v, 'new')
    assert m['state'] == 'ok' and m['name'] == v.name and m['open'] == 0 and not m['read_only'], m
    assert m['size'] == v.size() - 4 * MIB, m
    assert m['backing'] == v.devno() and m['uuid'] == v.dm_uuid, m
    assert v.record['digest'] == digest_of(v.loop)
    assert v.record['mac'] == mac_of(v.sk, v.record)


@test
def format_leaves_our_geometry(c, v):
    dump = json.loads(run('cryptsetup', 'luksDump', '--dump-json-metadata', v.loop))
    assert dump['segments'] == {'0': {'type': 'crypt', 'offset': str(4 * MIB), 'size': 'dynamic', 'iv_tweak': '0',
                                      'encryption': 'aes-xts-plain64', 'sector_size': 4096}}, dump['segments']
    assert list(dump['keyslots']) == ['0'] and dump['tokens'] == {}
    assert dump['keyslots']['0']['kdf']['iterations'] == 1000
    assert dump['config'] == {'json_size': '12288', 'keyslots_size': '4161536'}, dump['config']


@test
def the_key_is_in_the_keyring_only(c, v):
    table = dm('table', '--showkeys', v.name)
    assert f':64:logon:cryptsetup:{v.uuid}-d0' in table, table
    assert table.split()[3:] == ['aes-xts-plain64', f':64:logon:cryptsetup:{v.uuid}-d0', '0', v.devno(), '8192', '1',
                                 'sector_size:4096'], table
    assert 'cryptsetup:' not in open('/proc/keys').read()


@test
def no_node_is_left(c, v):
    assert not os.path.lexists(f'/dev/mapper/{v.name}')


@test
def list_and_check_agree(c, v):
    [m] = c.list()
    assert m == c.check(v)
    v2 = v.but(device='7:99')
    refuses('FAILED_PRECONDITION', '7:99', c.check, v2)
    refuses('FAILED_PRECONDITION', 'dm uuid', c.check, v.but(record=dict(v.record, uuid='0' * 8 + v.uuid[8:])))


@test
def open_again_is_an_answer(c, v):
    before = c.check(v)
    assert c.open(v) == before
    refuses('FAILED_PRECONDITION', 'read-only', c.open, v, read_only=True)


@test
def data_is_encrypted(c, v):
    v.write(c, FS_MARK)
    assert v.read(c, len(FS_MARK)) == FS_MARK
    assert FS_MARK[:64] not in open(v.image, 'rb').read()


@test
def close_of_an_open_mapping(c, v):
    fd = v.node(c)
    try:
        refuses('ABORTED', 'is open (1)', c.close, v)
    finally:
        os.close(fd)
    refuses('FAILED_PRECONDITION', 'not closed', c.close, v, dm_uuid='CRYPT-LUKS2-0-' + v.name)
    c.close(v)
    assert c.list() == []
    c.close(v)


@test
def a_used_disk_is_never_new(c, v):
    before = v.hash()
    refuses('DATA_LOSS', 'crypto_LUKS', c.format, v, 'new')
    refuses('FAILED_PRECONDITION', "'ready' is never formatted", c.format, v, 'ready')
    refuses('DATA_LOSS', 'another volume', c.format, v.but(record=dict(v.record, uuid='0' * 8 + v.uuid[8:])),
            'formatting')
    assert v.hash() == before and c.list() == []


@test
def wrong_key_or_record(c, v):
    before = v.hash()
    refuses('DATA_LOSS', 'MAC', c.open, v.but(sk=bytes(32)))
    for field, value in (('name', 'x'), ('tenant', 'other'), ('fs', 'none'), ('kms', 'other'),
                         ('created', '2001-01-01T00:00:00Z')):
        refuses('DATA_LOSS', 'MAC', c.open, v.but(record=dict(v.record, **{field: value})))
    refuses('DATA_LOSS', 'MAC', c.open, v.but(record=dict(v.record, mac='0' * 64)))
    refuses('DATA_LOSS', 'volume key', c.open, v.but(record=dict(v.record, digest='0' * 64)))
    refuses('DATA_LOSS', 'uuid', c.open, v.but(record=dict(v.record, uuid='0' * 8 + v.uuid[8:])))
    refuses('FAILED_PRECONDITION', 'formatting', c.open, v.but(record=dict(v.record, state='formatting')))
    refuses('INVALID_ARGUMENT', 'mapping', c.open, v.but(name='coffer-' + '0' * 32 + '-' + '0' * 8))
    refuses('INVALID_ARGUMENT', 'device', c.open, v.but(device='7:99'))
    assert v.hash() == before and c.list() == []


@test
def the_key_comes_as_one_frame_in_time(c, v):
    refuses('UNAVAILABLE', 'ended after 0', c.open, v, frame=b'')
    refuses('UNAVAILABLE', 'ended after 20', c.open, v, frame=v.frame()[:20])
    refuses('INVALID_ARGUMENT', 'key frame', c.open, v, frame=b'X' + v.frame()[1:])
    refuses('UNAVAILABLE', 'status 7', c.open, v, frame=v.frame(status=7))
    refuses('DEADLINE_EXCEEDED', 'storage key', c.open, v, frame=b'', keep_open=True, wait_ms=300)
    c.open(v, keep_open=True)  # the writer's end stays open: the reader doesn't wait for EOF
    c.close(v)


@test
def open_read_only(c, v):
    assert c.open(v, read_only=True)['read_only']
    assert v.read(c, len(FS_MARK)) == FS_MARK
    refuses('FAILED_PRECONDITION', 'writable', c.open, v)
    c.close(v)


@test
def open_finds_the_data(c, v):
    m = c.open(v)
    assert m['state'] == 'ok' and m['size'] == v.size() - 4 * MIB
    assert v.read(c, len(FS_MARK)) == FS_MARK


@test
def resize_grows(c, v):
    old = c.check(v)['size']
    assert c.resize(v)['size'] == old  # nothing to do
    v.grow(16 * MIB)
    refuses('DATA_LOSS', 'MAC', c.resize, v.but(sk=bytes(32)))
    assert c.check(v)['size'] == old
    fd = v.node(c)  # as when mounted
    try:
        m = c.resize(v)
    finally:
        os.close(fd)
    assert m['size'] == old + 16 * MIB and m['state'] == 'ok', m
    assert c.resize(v)['size'] == m['size']
    assert v.read(c, len(FS_MARK)) == FS_MARK
    v.grow(-MIB)
    refuses('OUT_OF_RANGE', 'never shrink', c.resize, v)
    v.grow(MIB)


@test
def a_killed_resize_leaves_a_second_table(c, v):
    dm('load', v.name, '--table', f'0 {c.check(v)["size"] // 512} error')
    assert c.check(v)['state'] == 'ok'
    c.resize(v)
    assert 'Tables present:    LIVE\n' in dm('info', v.name), dm('info', v.name)


@test
def passphrase_opens_with_the_stock_tool(c, v):
    out = c.passphrase(v)
    assert out == passphrase_of(v.sk, v.uuid).encode() + b'\n', 'another passphrase'
    run('cryptsetup', 'open', '--test-passphrase', v.loop, input=out[:-1])
    refuses('DATA_LOSS', 'MAC', c.passphrase, v.but(sk=bytes(32)))
    c.close(v)


@test
def rescue_by_a_private_key(c, v):
    keys = []
    for n in range(2):
        keys.append(f'/tmp/rsa{n}.pem')
        run('openssl', 'genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', keys[n])
    for bits in (256, 512):
        record = dict(v.record, recipients=[rsa_recipient(keys[0], v.sk, bits=bits)])
        record['mac'] = mac_of(v.sk, record)
        out = c.rescue(v.but(record=record), keys[0])
        assert out == passphrase_of(v.sk, v.uuid).encode() + b'\n', 'another passphrase'
    for changed, key, code, text in (
            ({}, keys[1], 'FAILED_PRECONDITION', "the private key is none of the recipients'"),
            ({'recipients': []}, keys[0], 'FAILED_PRECONDITION', 'names no recipient'),
            ({'recipients': [rsa_recipient(keys[0], v.sk, 'other')]}, keys[0], 'DATA_LOSS', 'MAC'),
            ({'recipients': [rsa_recipient(keys[0], bytes(32))]}, keys[0], 'DATA_LOSS', 'MAC'),
            ({'recipients': [rsa_recipient(keys[0], bytes(31))]}, keys[0], 'DATA_LOSS', '31 bytes'),
            ({'digest': '0' * 64}, keys[0], 'DATA_LOSS', 'another volume key'),
            ({'state': 'formatting', 'digest': '', 'mac': '', 'recipients': []}, keys[0], 'FAILED_PRECONDITION', 'ready'),
            ({}, '/etc/hostname', 'INVALID_ARGUMENT', 'a private key must be')):
        refuses(code, text, c.rescue, v.but(record=dict(record, **changed)), key)
        assert c.rescued == b'', 'refused, and something was written'


@test
def a_stock_argon2_slot_is_refused(c, v):
    new = passphrase_of(v.sk, v.uuid).encode()
    open('/tmp/k1', 'wb').write(new)
    open('/tmp/k2', 'wb').write(b'other')
    run('cryptsetup', '-q', 'luksAddKey', '--pbkdf', 'argon2id', '--pbkdf-force-iterations', '4', '--pbkdf-memory',
        '64', '--pbkdf-parallel', '1', '--key-file', '/tmp/k1', v.loop, '/tmp/k2')
    refuses('DATA_LOSS', 'argon2id', c.open, v)
    run('cryptsetup', '-q', 'luksKillSlot', '--key-file', '/tmp/k1', v.loop, '1')
    c.open(v)
    c.close(v)


@test
def zombie_without_a_table(c, v):
    dm('create', v.name, '--notable')
    [m] = c.list()
    assert m['state'] == 'zombie' and 'no live table' in m['why'], m
    refuses('UNAVAILABLE', 'no live table', c.check, v)
    assert c.open(v)['state'] == 'ok'
    c.close(v)
    dm('create', v.name, '--notable')
    c.close(v)
    assert c.list() == []


@test
def zombie_with_a_table_that_never_went_live(c, v):
    dm('create', v.name, '--notable', '-u', v.dm_uuid)
    dm('load', v.name, '--table', '0 8 error')
    assert c.list()[0]['state'] == 'zombie'
    assert c.open(v)['state'] == 'ok'
    c.close(v)


@test
def held_zombie_goes_with_its_last_opener(c, v):
    dm('create', v.name, '-u', v.dm_uuid, '--table', '0 8 error')
    fd = v.node(c)
    refuses('ABORTED', 'still open', c.open, v)
    refuses('ABORTED', 'last opener', c.close, v)
    assert 'removal' in c.list()[0]['why'], c.list()
    refuses('ABORTED', 'still open', c.open, v)
    os.close(fd)
    c.close(v)
    assert c.list() == []


@test
def a_foreign_table_is_wrong(c, v):
    dm('create', v.name, '-u', v.dm_uuid, '--table', f'0 8 linear {v.loop} 8192')
    assert c.list()[0]['state'] == 'wrong', c.list()
    refuses('FAILED_PRECONDITION', 'one crypt target', c.check, v)
    refuses('FAILED_PRECONDITION', 'one crypt target', c.open, v)
    refuses('FAILED_PRECONDITION', 'one crypt target', c.format, v, 'formatting')
    c.close(v)
    table = f'0 8 crypt aes-xts-plain64 {"00" * 64} 0 {v.loop} 8192 1 sector_size:4096'
    dm('create', v.name, '-u', v.dm_uuid, '--table', table)
    assert '00000000' not in json.dumps(c.list()), 'a key is shown'
    refuses('FAILED_PRECONDITION', 'keyring', c.open, v)
    c.close(v)


@test
def another_name_for_the_same_volume(c, v):
    dm('create', 'elsewhere', '-u', v.dm_uuid.replace(v.name, 'elsewhere'), '--table', f'0 8 linear {v.loop} 8192')
    refuses('FAILED_PRECONDITION', "'elsewhere'", c.open, v)
    dm('remove', 'elsewhere')


@test
def a_wrong_read_back_is_torn_down(c, v):
    with c.fault('fail crypt:open:readback'):
        refuses('DATA_LOSS', 'taken down', c.open, v)
    assert c.list() == []


@test
def header_swapped_after_the_check(c, v):
    other = Volume('/tmp/other.img', 64 * MIB, uuid=v.uuid, name=v.record['name'], sk=v.sk)
    c.format(other, 'new')
    c.close(other)
    good = v.header()
    with c.fault('pause crypt:open:checked') as f:
        helper = c.start('open', v, read_only=False)
        f.wait_paused()
        v.put_header(other.header())  # same uuid, same key, another volume key
    assert c.finish(helper)['mapping']['state'] == 'ok'
    assert v.read(c, len(FS_MARK)) == FS_MARK, 'the swapped header was used'
    c.close(v)
    refuses('DATA_LOSS', 'another volume key', c.open, v)
    v.put_header(good)
    c.open(v)
    c.close(v)
    other.remove()


@test
def usage_and_bad_requests(c, v):
    p = subprocess.run([c.helper, 'unknown'], capture_output=True, stdin=subprocess.DEVNULL)
    assert p.returncode == 2 and b'list, blank, format' in p.stderr, p
    for text in (b'', b'[]', b'{', b'{"wait_ms":0,"x":1}', b'{"wait_ms":-1}', b'\xff'):
        p = subprocess.run([c.helper, 'list'], capture_output=True, input=text)
        assert p.returncode == 1 and json.loads(p.stdout)['error']['code'] == 'INVALID_ARGUMENT', p
    p = subprocess.run([c.helper, 'open'], capture_output=True, input=b'{}')
    assert p.returncode == 1 and 'pipe' in json.loads(p.stdout)['error']['message'], p


if __name__ == '__main__':
    sys.exit(TESTS.run('verbs'))
