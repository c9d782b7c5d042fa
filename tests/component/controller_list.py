#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ListVolumes of a coffer-controller that remembers what the records said (backends/file_cache.h): whatever happens to a
record, by our own calls or by a stranger's hand, the next ListVolumes shows it. TAP on stdout, no root."""
import json
import os
import sys
import time

import caselib
import controllerlib
from caselib import read
from controllerlib import MIB, refused

SETTLE = 4  # seconds: longer than FILE_CACHE_SETTLE, so the records are remembered


def shown(rig):
    """volume id -> (capacity, context), by ListVolumes."""
    volumes = [e['volume'] for e in rig.call('ListVolumes').get('entries', [])]
    return {v['volume_id']: (int(v.get('capacity_bytes', 0)), v.get('volume_context', {})) for v in volumes}


def remembered(rig, *names):
    """Volumes that two lists, well after they were made, have shown; their ids and the list."""
    made = [rig.create(name)['volume_id'] for name in names]
    time.sleep(SETTLE)
    before = shown(rig)
    assert sorted(before) == sorted(made) and shown(rig) == before, before
    return made, before


def record_path(rig, volume_id):
    return os.path.join(rig.place(volume_id), 'record.json')


def test_changes_show_at_once(rig):
    (grown, gone, same), before = remembered(rig, 'pvc-1', 'pvc-2', 'pvc-3')
    rig.expand(grown, 40 * MIB)
    now = shown(rig)
    assert now[grown] == (40 * MIB, before[grown][1]) and now[gone] == before[gone] and now[same] == before[same], now
    rig.delete(gone)
    assert sorted(shown(rig)) == sorted([grown, same])
    again = rig.create('pvc-2')
    assert again['volume_id'] == gone
    now = shown(rig)
    assert now[gone] == (16 * MIB, again['volume_context']) and now[gone][1]['uuid'] != before[gone][1]['uuid'], now
    new = rig.create('pvc-4')['volume_id']
    assert sorted(shown(rig)) == sorted([grown, gone, same, new])


def test_damage_shows_at_once(rig):
    (cut, edited, lost, good), before = remembered(rig, 'pvc-1', 'pvc-2', 'pvc-3', 'pvc-4')
    unknown = (0, {})
    text = read(record_path(rig, edited))
    os.truncate(record_path(rig, cut), 10)
    with open(record_path(rig, edited), 'r+', encoding='utf-8') as f:  # as long as before, in place
        f.write('[' + text[1:])
    os.unlink(record_path(rig, lost))
    assert shown(rig) == {cut: unknown, edited: unknown, lost: unknown, good: before[good]}
    with refused('DATA_LOSS'):
        rig.expand(edited, 40 * MIB)
    with open(record_path(rig, edited), 'r+', encoding='utf-8') as f:
        f.write(text)
    assert shown(rig) == {cut: unknown, edited: before[edited], lost: unknown, good: before[good]}


def test_a_strangers_edits(rig):
    """Twice in one second, in place, of one length: they differ in nothing but the content."""
    (volume,), _ = remembered(rig, 'pvc-1')
    path, record = record_path(rig, volume), rig.record(volume)
    for size in (17 * MIB, 18 * MIB) * 5:
        with open(path, 'r+', encoding='utf-8') as f:
            f.write(json.dumps(dict(record, size=size)))
            f.truncate()
        assert shown(rig)[volume][0] == size
    os.rename(path, path + '.away')
    caselib.write(path, dict(record, tenant='team-b'), 0o644)
    assert shown(rig)[volume][1]['tenant'] == 'team-b'
    os.replace(path + '.away', path)
    assert shown(rig)[volume][1]['tenant'] == 'lab'


def test_a_place_moved(rig):
    (one, two), before = remembered(rig, 'pvc-1', 'pvc-2')
    os.rename(rig.place(one), rig.path('moved'))
    assert shown(rig) == {two: before[two]}
    os.symlink(rig.path('moved'), rig.place(one))
    assert shown(rig) == {one: (0, {}), two: before[two]}
    os.unlink(rig.place(one))
    os.rename(rig.path('moved'), rig.place(one))
    assert shown(rig) == before


def test_a_pool_that_goes_away(rig):
    (volume,), before = remembered(rig, 'pvc-1')
    os.rename(rig.path('fast'), rig.path('away'))
    with refused('UNAVAILABLE', 'fast'):
        shown(rig)
    os.rename(rig.path('away'), rig.path('fast'))
    assert shown(rig) == before and volume in before


TESTS = [test_changes_show_at_once, test_damage_shows_at_once, test_a_strangers_edits, test_a_place_moved,
         test_a_pool_that_goes_away]

sys.exit(controllerlib.main(TESTS))
