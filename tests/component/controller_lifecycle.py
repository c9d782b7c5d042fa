#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-controller and coffer-keyd as real processes under a real gRPC client: a volume's life, what is refused, lists,
sparse pools, many calls at once. TAP on stdout. Needs no root; as root the two daemons run as two unprivileged users all the
same. Beside it: controller_process.py, controller_outages.py, controller_list.py."""
import concurrent.futures
import functools
import json
import os
import re
import sys
import time

import controllerlib
from controllerlib import BLOCK, GIB, HEADER, MIB, MOUNT, TOPOLOGY, RpcError, refused


def test_identity(rig):
    info = rig.call('GetPluginInfo')
    assert info['name'] == 'csi.coffer.dev' and info['vendor_version'], info
    assert 'CONTROLLER_SERVICE' in json.dumps(rig.call('GetPluginCapabilities'))
    caps = {c['rpc']['type'] for c in rig.call('ControllerGetCapabilities')['capabilities']}
    assert caps == {'CREATE_DELETE_VOLUME', 'LIST_VOLUMES', 'GET_CAPACITY', 'EXPAND_VOLUME',
                    'SINGLE_NODE_MULTI_WRITER'}, caps
    node = rig.call('NodeGetInfo')
    assert node['node_id'] == 'n1' and node['accessible_topology']['segments'] == {TOPOLOGY: 'n1'}, node
    with refused('UNIMPLEMENTED'):
        rig.call('NodeStageVolume', volume_id='x', staging_target_path='/x', volume_capability=MOUNT)


def test_life(rig):
    v = rig.create('pvc-life', 20 * MIB)
    vid, context = v['volume_id'], v['volume_context']
    assert v['capacity_bytes'] == 20 * MIB
    assert v['accessible_topology'] == [{'segments': {TOPOLOGY: 'n1'}}], v
    assert re.fullmatch(r'fast\.[0-9a-f]{8}\.[0-9a-f]{32}', vid) and vid.split('.')[1] == rig.tags['fast']
    assert set(context) == {'tenant', 'uuid', 'kms', 'keySource'}
    assert context['tenant'] == 'lab' and context['kms'] == 'dev'
    record = rig.record(vid)
    assert record['state'] == 'new' and record['uuid'] == context['uuid'] and record['key']['kind'] == 'file'
    image = os.stat(os.path.join(rig.place(vid), 'image'))
    assert image.st_size == 20 * MIB + HEADER and image.st_blocks * 512 >= image.st_size
    assert rig.create('pvc-life', 20 * MIB) == v
    assert rig.record(vid) == record, 'a repeated create changed the record'
    assert vid in rig.ids()
    validate = functools.partial(rig.call, 'ValidateVolumeCapabilities', volume_id=vid)
    assert validate(volume_context=context, volume_capabilities=[MOUNT])['confirmed']
    no = validate(volume_capabilities=[BLOCK])
    assert not no.get('confirmed') and no['message'], no
    grown = rig.expand(vid, 40 * MIB)
    assert grown == {'capacity_bytes': 40 * MIB, 'node_expansion_required': True}, grown
    assert rig.expand(vid, 30 * MIB)['capacity_bytes'] == 40 * MIB
    assert os.stat(os.path.join(rig.place(vid), 'image')).st_size == 40 * MIB + HEADER
    assert rig.record(vid)['key'] == record['key']
    rig.delete(vid)
    rig.delete(vid)
    assert vid not in rig.ids() and not os.path.exists(rig.place(vid))
    again = rig.create('pvc-life', 20 * MIB)
    assert again['volume_id'] == vid and again['volume_context']['uuid'] != context['uuid'], 'the name met its old key'
    rig.delete(vid)


def test_defaults(rig):
    v = rig.call('CreateVolume', name='pvc-default', volume_capabilities=[BLOCK],
                 parameters={'pool': 'slow', 'csi.storage.k8s.io/pvc/namespace': 'team-a',
                             'csi.storage.k8s.io/pvc/name': 'c', 'csi.storage.k8s.io/pv/name': 'p'})['volume']
    assert v['capacity_bytes'] == GIB and v['volume_context']['tenant'] == 'team-a'
    assert rig.record(v['volume_id'])['fs'] == 'none'
    rig.delete(v['volume_id'])
    assert rig.create('pvc-odd', 16 * MIB + 1)['capacity_bytes'] == 17 * MIB
    rig.delete(rig.create('pvc-odd', 16 * MIB + 1)['volume_id'])


def test_refusals(rig):
    v = rig.create('pvc-r', 20 * MIB)
    before = rig.places()
    many = {'mount': {}, 'access_mode': {'mode': 'MULTI_NODE_MULTI_WRITER'}}
    xfs, vfat = ({'mount': {'fs_type': fs}, 'access_mode': {'mode': 'SINGLE_NODE_WRITER'}} for fs in ('xfs', 'vfat'))
    odd = {'mount': {'mount_flags': ['exec']}, 'access_mode': {'mode': 'SINGLE_NODE_WRITER'}}
    there = {'requisite': [{'segments': {TOPOLOGY: 'n2'}}]}
    for code, words, kwargs in (
            ('ALREADY_EXISTS', ('size',), {'name': 'pvc-r', 'size': 30 * MIB}),
            ('ALREADY_EXISTS', ('file system',), {'name': 'pvc-r', 'caps': (BLOCK,)}),
            ('ALREADY_EXISTS', ('kms',), {'name': 'pvc-r', 'parameters': {'pool': 'fast', 'kms': 'other'}}),
            ('ALREADY_EXISTS', ('fast',), {'name': 'pvc-r', 'parameters': {'pool': 'slow'}}),
            ('INVALID_ARGUMENT', ('speed',), {'name': 'x', 'parameters': {'pool': 'fast', 'speed': 'high'}}),
            ('INVALID_ARGUMENT', ('tape',), {'name': 'x', 'parameters': {'pool': 'tape'}}),
            ('INVALID_ARGUMENT', ('pool',), {'name': 'x', 'parameters': {}}),
            ('INVALID_ARGUMENT', ('MULTI_NODE_MULTI_WRITER',), {'name': 'x', 'caps': (many,)}),
            ('INVALID_ARGUMENT', ('vfat',), {'name': 'x', 'caps': (vfat,)}),
            ('OUT_OF_RANGE', ('smallest xfs volume', '300 MiB'), {'name': 'x', 'caps': (xfs,), 'size': 299 * MIB}),
            ('INVALID_ARGUMENT', ('mount flag',), {'name': 'x', 'caps': (odd,)}),
            ('INVALID_ARGUMENT', ('mix',), {'name': 'x', 'caps': (MOUNT, BLOCK)}),
            ('INVALID_ARGUMENT', ('mutable',), {'name': 'x', 'mutable_parameters': {'a': 'b'}}),
            ('INVALID_ARGUMENT', ('name',), {'name': ''}),
            ('OUT_OF_RANGE', ('limit_bytes',), {'name': 'x', 'size': 20 * MIB + 1, 'limit': 20 * MIB + 2}),
            ('OUT_OF_RANGE', ('whole MiB',), {'name': 'x', 'size': 1, 'limit': MIB}),
            ('INVALID_ARGUMENT', ('required_bytes',), {'name': 'x', 'size': 20 * MIB, 'limit': 10 * MIB}),
            ('OUT_OF_RANGE', ('largest',), {'name': 'x', 'size': 1 << 60}),
            ('RESOURCE_EXHAUSTED', ("pool 'fast' is full",), {'name': 'x', 'size': 64 << 40}),
            ('RESOURCE_EXHAUSTED', ('n1',), {'name': 'x', 'accessibility_requirements': there})):
        with refused(code, *words):
            rig.create(**kwargs)
    assert rig.places() == before, 'a refused call left something'
    with refused('NOT_FOUND'):
        rig.expand('fake-vol-id', 40 * MIB)
    with refused('NOT_FOUND'):
        rig.call('ValidateVolumeCapabilities', volume_id='fake-vol-id', volume_capabilities=[MOUNT])
    with refused('ABORTED'):
        rig.call('ListVolumes', starting_token='invalid-token')
    with refused('RESOURCE_EXHAUSTED', 'full'):
        rig.expand(v['volume_id'], 64 << 40)
    with refused('FAILED_PRECONDITION', 'pool'):
        rig.delete('gone.' + v['volume_id'].split('.', 1)[1])
    rig.delete('fake-vol-id')
    rig.delete(v['volume_id'])


def test_list_and_capacity(rig):
    made = [rig.create(f'pvc-l{i}', parameters={'pool': ('fast', 'slow')[i % 2]})['volume_id'] for i in range(7)]
    assert rig.ids() == sorted(made)
    got, token, pages = [], '', 0
    while True:
        page = rig.call('ListVolumes', max_entries=3, starting_token=token)
        got += [e['volume']['volume_id'] for e in page['entries']]
        token, pages = page.get('next_token', ''), pages + 1
        if not token:
            break
    assert got == sorted(made) and pages == 3
    for vid in made:
        rig.delete(vid)
    both, one = rig.call('GetCapacity'), rig.call('GetCapacity', parameters={'pool': 'fast'})
    assert 0 < one['available_capacity'] <= both['available_capacity'] and one['available_capacity'] % MIB == 0
    assert rig.call('GetCapacity', accessible_topology={'segments': {TOPOLOGY: 'n2'}}).get('available_capacity', 0) == 0


def test_sparse(rig):
    thin, room = {'pool': 'thin'}, rig.thin_room()
    v = rig.create('pvc-t', 20 * MIB, parameters=dict(thin, discard='true'))
    vid, image = v['volume_id'], os.path.join(rig.place(v['volume_id']), 'image')
    assert v['volume_context']['discard'] == 'true' and rig.record(vid)['discard'] is True
    assert os.stat(image).st_size == 20 * MIB + HEADER and os.stat(image).st_blocks * 512 < MIB
    assert rig.create('pvc-t', 20 * MIB, parameters=dict(thin, discard='true')) == v
    with refused('ALREADY_EXISTS', 'discard'):
        rig.create('pvc-t', 20 * MIB, parameters=thin)
    rig.check_ledger()
    for more in ({'parameters': thin}, {'parameters': dict(thin, discard='false')}):
        other = rig.create('pvc-u', 20 * MIB, **more)
        assert 'discard' not in other['volume_context'] and 'discard' not in rig.record(other['volume_id'])
    before = rig.places()
    with refused('RESOURCE_EXHAUSTED', "pool 'thin' is full: it has promised 48 MiB", 'overcommit 1.50'):
        rig.create('pvc-big', room, parameters=thin)
    with refused('RESOURCE_EXHAUSTED', 'may promise'):
        rig.expand(vid, room)
    with refused('INVALID_ARGUMENT', "pool 'fast' allocates its volumes in full"):
        rig.create('pvc-x', parameters={'pool': 'fast', 'discard': 'true'})
    assert rig.places() == before and os.stat(image).st_size == 20 * MIB + HEADER
    assert rig.expand(vid, 40 * MIB)['capacity_bytes'] == 40 * MIB
    assert os.stat(image).st_size == 40 * MIB + HEADER and os.stat(image).st_blocks * 512 < MIB
    rig.check_ledger()
    validate = functools.partial(rig.call, 'ValidateVolumeCapabilities', volume_id=vid, volume_capabilities=[MOUNT])
    assert validate(volume_context=v['volume_context'], parameters=dict(thin, discard='true'))['confirmed']
    for no in (validate(volume_context=other['volume_context']), validate(parameters=thin),
               validate(volume_context={k: t for k, t in v['volume_context'].items() if k != 'discard'})):
        assert not no.get('confirmed') and no['message'], no
    rig.restart()
    rig.check_ledger()
    for one in (v, other):
        rig.delete(one['volume_id'])
    rig.check_ledger()


def test_many_at_once(rig):
    def attempt(f, *args):
        while True:
            try:
                return f(*args)
            except RpcError as e:
                assert e.code == 'ABORTED', e
                time.sleep(0.05)

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        same = list(pool.map(lambda _: attempt(rig.create, 'pvc-same'), range(12)))
        assert all(v == same[0] for v in same)
        other = list(pool.map(lambda i: attempt(rig.create, f'pvc-m{i}'), range(24)))
        assert len({v['volume_id'] for v in other}) == 24
        assert len({v['volume_context']['uuid'] for v in other}) == 24
        list(pool.map(lambda v: attempt(rig.delete, v['volume_id']), [same[0]] * 4 + other))
    assert rig.places() == []


def test_expand_on_node(rig):
    v = rig.create('pvc-n')
    rig.restart('--expand', 'node')
    caps = json.dumps(rig.call('ControllerGetCapabilities'))
    assert 'EXPAND_VOLUME' not in caps and 'CREATE_DELETE_VOLUME' in caps
    with refused('UNIMPLEMENTED', 'NodeExpandVolume'):
        rig.expand(v['volume_id'], 40 * MIB)
    rig.restart()
    rig.delete(v['volume_id'])


TESTS = [test_identity, test_life, test_defaults, test_refusals, test_list_and_capacity, test_sparse,
         test_many_at_once, test_expand_on_node]

sys.exit(controllerlib.main(TESTS))
