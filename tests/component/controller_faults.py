#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-controller when each of its allocations fails once (common/fault_alloc.h): the answer is one clear error or the right answer,
the process lives, and the same call then works. What one place allocates again and again fails there once. TAP on stdout.
COFFER_SAMPLE=N tries each N-th (default 16); COFFER_SAMPLE=1 is the whole."""
import os
import sys

import caselib
import controllerlib
from caselib import ROOT
from controllerlib import MIB, MOUNT, RpcError

sys.path.insert(0, os.path.join(ROOT, 'e2e', 'lib'))
from allocations import Allocations  # noqa: E402

SAMPLE = int(os.environ.get('COFFER_SAMPLE', '16'))
MEMORY = 'RESOURCE_EXHAUSTED'


def allocations_of(rig):
    a = Allocations(os.path.join(rig.fault, 'coffer-controller.alloc'))
    if a.made:
        rig.restart()  # it looks for the file once
    return a


# ---- what is called: name -> (what is there before, the call, what must be so after it) ----

def nothing(rig):
    return None


def a_volume(rig):
    return rig.create('pvc-a')['volume_id']


def two_volumes(rig):
    return [rig.create(name)['volume_id'] for name in ('pvc-a', 'pvc-b')]


def create(rig, _):
    return rig.create('pvc-a')['volume_id']


def create_thin(rig, _):
    return rig.create('pvc-t', parameters={'pool': 'thin'})['volume_id']


def is_there(rig, _, volume):
    assert rig.ids() == [volume] and len(rig.places()) == 1


def is_gone(rig, *_):
    assert rig.ids() == [] and rig.places() == []


def has_grown(rig, volume, _):
    assert rig.record(volume)['size'] >= 32 * MIB


def listed(rig, volumes, got):
    assert sorted(got) == sorted(volumes)


def confirmed(rig, _, got):
    assert got['confirmed']


CALLS = {
    'GetPluginInfo': (nothing, lambda rig, _: rig.call('GetPluginInfo'), lambda rig, _, got: None),
    'CreateVolume': (nothing, create, is_there),
    'CreateVolume, sparse': (nothing, create_thin, is_there),
    'CreateVolume, once more': (a_volume, create, is_there),
    'DeleteVolume': (a_volume, lambda rig, v: rig.delete(v), is_gone),
    'ControllerExpandVolume': (a_volume, lambda rig, v: rig.expand(v, 32 * MIB), has_grown),
    'ListVolumes': (two_volumes, lambda rig, _: rig.ids(), listed),
    'GetCapacity': (nothing, lambda rig, _: rig.thin_room(), lambda rig, _, got: None),
    'ValidateVolumeCapabilities': (a_volume, lambda rig, v: rig.call(
        'ValidateVolumeCapabilities', volume_id=v, volume_capabilities=[MOUNT]), confirmed),
}


def is_right(rig, name, said):
    """Memory is what is lacking. After RESOURCE_EXHAUSTED CreateVolume's caller goes elsewhere: not while something stays here."""
    if name.startswith('CreateVolume') and said.startswith('ABORTED'):
        return 'memory' in said
    return said.startswith(MEMORY) and not (name.startswith('CreateVolume') and rig.places())


def clean(rig):
    for volume in rig.ids():
        rig.delete(volume)
    assert rig.places() == []
    rig.check_ledger()


def once_failed(rig, name, allocations, number):
    """What the failed call said, and whether that is right; '' when it worked all the same."""
    before, call, after = CALLS[name]
    state, said = before(rig), ''
    allocations.set(number)
    try:
        call(rig, state)
    except RpcError as e:
        said = f'{e.code}: {e.message}'
    allocations.set(0)
    right = not said or is_right(rig, name, said)
    assert rig.controller.poll() is None, f'allocation {number}: it ended ({rig.controller.returncode})'
    after(rig, state, call(rig, state))
    clean(rig)
    return said, right


def places_of(rig, name, allocations):
    """How many allocations one call has, others' may be among them; and the first one at each place."""
    before, call, after = CALLS[name]
    state = before(rig)
    allocations.set(0)
    got = call(rig, state)
    found = allocations.seen(), allocations.firsts()
    after(rig, state, got)
    clean(rig)
    return found


def each_allocation(name):
    def test(rig):
        if not caselib.built_with('coffer-controller', b'COFFER_FAULT_DIR'):
            raise caselib.Skip('this build has no fault points')
        allocations = allocations_of(rig)
        (count, places), errors, wrong = places_of(rig, name, allocations), {}, {}
        tried = places[::SAMPLE]
        for number in tried:
            said, right = once_failed(rig, name, allocations, number)
            if said:
                errors.setdefault(said, []).append(number)
            if not right:
                wrong.setdefault(said, []).append(number)
        told = sum(map(len, errors.values()))
        print(f'# {name}: {count} allocations at {len(places)} places, {len(tried)} failed, {told} were told to the caller', flush=True)
        assert count > 0, 'its allocations are not counted'
        assert not wrong, wrong
        assert errors or count < 3, 'no failure was seen by the caller'
    test.__name__ = f'each allocation of {name} failed once'
    return test


if __name__ == '__main__':
    sys.exit(controllerlib.main([*map(each_allocation, CALLS)]))
