#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-controller when something is away: the key daemon, a pool, or itself by SIGKILL at every fault point. TAP on
stdout, no root."""
import functools
import json
import os
import signal
import sys

import controllerlib
from caselib import Skip, read
from controllerlib import CONTROLLER_UID, GIB, HEADER, MIB, MOUNT, RpcError, refused


def sweep(rig, before, step, after):
    """SIGKILL of the real process at its 1st, 2nd, ... fault point in `step`, until one run lives."""
    for n in range(1, 1000):
        state = before()
        rig.arm(f'kill {n}')
        try:
            step(state)
            killed = False
        except RpcError as e:
            assert e.code == 'UNAVAILABLE', e
            killed = True
        rig.disarm()
        if killed:
            assert rig.controller.wait(60) == -signal.SIGKILL
            rig.start()
        after(state, step)
        if not killed:
            return n - 1
    raise AssertionError('no end of the sweep')


def test_keyd_away(rig):
    rig.stop_keyd()
    with refused('UNAVAILABLE'):
        rig.create('pvc-k')
    (place,) = rig.places()
    minting = json.loads(read(place, 'record.json'))
    assert minting['state'] == 'minting' and rig.ids() == []
    assert rig.call('Probe').get('ready', {'value': True}) in (True, {'value': True})
    rig.start_keyd()
    v = rig.create('pvc-k')
    assert v['volume_context']['uuid'] == minting['uuid']
    rig.stop_keyd()
    rig.delete(v['volume_id'])  # deletion needs no key service
    assert rig.places() == []
    rig.start_keyd()


def test_pool_away(rig):
    v = rig.create('pvc-p')
    os.rename(rig.path('fast'), rig.path('away'))
    rig.dir('fast', CONTROLLER_UID)
    it = {'volume_id': v['volume_id']}
    for method, request in (('DeleteVolume', it), ('ListVolumes', {}), ('GetCapacity', {}),
                            ('ValidateVolumeCapabilities', dict(it, volume_capabilities=[MOUNT])),
                            ('ControllerExpandVolume', dict(it, capacity_range={'required_bytes': GIB}))):
        with refused('UNAVAILABLE', 'fast'):
            rig.call(method, **request)
    with refused('UNAVAILABLE'):
        rig.create('pvc-q')
    assert os.listdir(rig.path('fast')) == []
    # also over a restart: the pool comes late
    rig.restart()
    assert 'a pool is not there now' in rig.log()
    with refused('UNAVAILABLE'):
        rig.delete(v['volume_id'])
    os.rmdir(rig.path('fast'))
    os.rename(rig.path('away'), rig.path('fast'))
    rig.delete(v['volume_id'])


def test_kill_sweep(rig):
    rig.arm('record')
    rig.delete(rig.create('pvc-trace')['volume_id'])
    rig.disarm()
    if not os.path.exists(os.path.join(rig.fault, 'coffer-controller.trace')):
        raise Skip('this build has no fault points')

    def created(_, step):
        v = step(None)
        record = rig.record(v['volume_id'])
        assert record['state'] == 'new' and record['key']['ciphertext']
        assert record['uuid'] == v['volume_context']['uuid']
        rig.delete(v['volume_id'])
        assert rig.places() == []

    def created_otherwise(pool, _, step):
        try:
            v = rig.create('pvc-kill', 20 * MIB, parameters={'pool': pool})
            assert v['capacity_bytes'] == 20 * MIB
        except RpcError as e:
            assert e.code == 'ALREADY_EXISTS', e
            v = step(None)  # it was made, only the answer was lost
        rig.delete(v['volume_id'])
        assert rig.places() == []

    def expanded(v, step):
        image = os.path.join(rig.place(v['volume_id']), 'image')
        assert os.stat(image).st_size >= rig.record(v['volume_id'])['size'] + HEADER
        assert step(v)['capacity_bytes'] == 40 * MIB
        assert os.stat(image).st_size == 40 * MIB + HEADER
        rig.delete(v['volume_id'])

    def deleted(v, step):
        step(v)
        assert rig.places() == [] and v['volume_id'] not in rig.ids()

    def in_pool(pool, check):
        def checked(state, step):
            if pool == 'thin':
                rig.check_ledger()
            check(state, step)
            if pool == 'thin':
                rig.check_ledger()
        return checked

    for pool in ('fast', 'thin'):
        make = functools.partial(rig.create, 'pvc-kill', parameters={'pool': pool})
        counts = (sweep(rig, lambda: None, lambda _, m=make: m(), in_pool(pool, created)),
                  sweep(rig, lambda: None, lambda _, m=make: m(), in_pool(pool, functools.partial(created_otherwise, pool))),
                  sweep(rig, make, lambda v: rig.expand(v['volume_id'], 40 * MIB), in_pool(pool, expanded)),
                  sweep(rig, make, lambda v: rig.delete(v['volume_id']), in_pool(pool, deleted)))
        print(f'# {pool}: killed at %d points of create, %d with other parameters after, %d of expand, %d of delete' % counts)
        assert min(counts) >= 5, counts


TESTS = [test_keyd_away, test_pool_away, test_kill_sweep]

sys.exit(controllerlib.main(TESTS))
