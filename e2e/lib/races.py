# SPDX-License-Identifier: Apache-2.0
"""Races of the headers story: the pool changes while coffer-crypt is held at a fault point, or between two calls."""
import os

import luks2
from fixture import MIB
from luks2 import AREA, OTHER_KEY
from sweep import demand_clean
from tamper import MARKER, PLAIN, SIZE, Paused, demand, place_file, read, write


def swapped_inside_open(v, point, evil):
    """The header on the disk changes under coffer-crypt's hands: it goes on with the one it checked."""
    with Paused(v.c, point, lambda: v.c.stage(v.volume)) as held:
        evil.write(v.image)
    demand(held.error is None, f'the stage failed: {held.error}')
    v.demand_table()
    v.demand_data()
    write(v.c.staging(v.volume) + '/later', PLAIN)
    v.c.unstage(v.volume)
    demand(v.header().area == evil.area, 'the disk\'s header was written to')
    v.demand_refused('DATA_LOSS', '')
    demand_clean(v.c)


def race_of_open(v, point, evil):
    """And what was written meanwhile is there, encrypted by the right key."""
    good = v.header()
    try:
        swapped_inside_open(v, point, evil)
    except Exception:
        v.take_down()
        raise
    finally:
        good.write(v.image)
    demand(MARKER not in read(v.image), 'the image holds the plaintext')
    v.c.stage(v.volume)
    demand(read(v.c.staging(v.volume) + '/later') == PLAIN, 'what was written meanwhile is lost')
    os.unlink(v.c.staging(v.volume) + '/later')
    v.c.unstage(v.volume)


def races_of_open(tap, v, evil):
    null = v.header()
    null.edit(luks2.put(luks2.NULL, *luks2.SEGMENT, 'encryption'))
    points = ('crypt:session:header', 'crypt:session:verified', 'crypt:open:checked', 'crypt:open:activated')
    for point, name, header in [*((p, 'another volume key', evil) for p in points),
                                (points[2], 'a null segment', null)]:
        tap.run(f'header swapped at {point} for {name}: the checked one is used, now and later', race_of_open, v, point,
                header)


def race_of_format(c, point):
    """At the first stage no digest is pinned yet. The attacker puts a header of the right uuid, whose volume key he
    knows, in the place of the one just made; but no keyslot of his opens with the storage key."""
    volume = c.create('headers-format-' + point.rsplit(':', 1)[1], SIZE)
    image = c.image(volume)
    evil = luks2.Header(luks2.stock_format(c.root + '/scratch', c.record(volume)['uuid'], b'the attacker\'s own'))
    with Paused(c, point, lambda: c.stage(volume)) as held:
        evil.write(image)
    demand(held.error is not None and held.error.code == 'PRECONDITION' and 'opens no keyslot' in held.error.message,
           f'the stage ended with {held.error}')
    demand_clean(c)
    record = c.record(volume)
    demand(record['state'] == 'formatting' and record['digest'] == '', f'the record moved on: {record}')
    c.stage(volume)
    demand(luks2.Header.read(image).metadata()['digests'] != evil.metadata()['digests'],
           'the attacker\'s volume key is used')
    c.unstage(volume)
    c.delete(volume['volume_id'])


def grow(v, size):
    v.c.controller_expand(v.id, size)
    v.c.node_expand(v.volume, size)


def published(v):
    v.c.stage(v.volume)
    v.c.publish(v.volume)


def live_is_right(v):
    v.demand_table()
    v.demand_data(v.c.target(v.volume))
    write(v.c.target(v.volume) + '/live', PLAIN)


def after_live(v):
    """Unstage never reads the disk; then the true header opens everything that was written meanwhile."""
    v.c.unpublish(v.volume)
    v.c.unstage(v.volume)
    demand_clean(v.c)


def expand_swapped(v, evil):
    """Between stage and expand: resize needs the volume key again, and must not take it from the new header."""
    good = v.header()
    published(v)
    evil.write(v.image)
    v.size += 4 * MIB
    v.demand_refused('DATA_LOSS', OTHER_KEY, lambda: grow(v, v.size))
    live_is_right(v)
    good.write(v.image)
    grow(v, v.size)
    live_is_right(v)
    after_live(v)
    v.works()


def expand_swapped_inside(v, point, evil):
    good = v.header()
    published(v)
    v.size += 4 * MIB
    v.c.controller_expand(v.id, v.size)
    with Paused(v.c, point, lambda: v.c.node_expand(v.volume, v.size)) as held:
        evil.write(v.image)
    demand(held.error is None, f'the expand failed: {held.error}')
    live_is_right(v)
    fs = os.statvfs(v.c.target(v.volume))
    demand(fs.f_blocks * fs.f_frsize > (v.size - 8 * MIB), 'the file system did not grow')
    after_live(v)
    good.write(v.image)
    v.works()


def expand_other_image(v):
    """Between stage and expand: another file in the image's place; the live mapping lies on the true one."""
    published(v)
    os.rename(v.image, v.image + '.true')
    try:
        place_file(v.image, read(v.image + '.true'))
        v.demand_refused(('ABORTED', 'DATA_LOSS'), 'image', lambda: v.c.node_expand(v.volume, v.size))
    finally:
        os.rename(v.image + '.true', v.image)
    live_is_right(v)
    after_live(v)
    v.works()


def stage_again(v, evil):
    """A repeated stage finds the mapping that is live: kept, because the table is right; the disk isn't read."""
    good = v.header()
    published(v)
    evil.write(v.image)
    v.c.node.kill()
    v.c.start_node()
    v.c.stage(v.volume)
    live_is_right(v)
    after_live(v)
    v.demand_refused('DATA_LOSS', OTHER_KEY)
    demand_clean(v.c)
    good.write(v.image)
    v.works()


def zeroed_while_staged(v):
    good = v.header()
    published(v)
    with open(v.image, 'r+b') as f:
        f.write(bytes(AREA))
    live_is_right(v)
    after_live(v)
    good.write(v.image)
    v.works()


def races(tap, v, evil):
    races_of_open(tap, v, evil)
    for point in ('crypt:format:flushed', 'crypt:format:keyslot'):
        tap.run(f'header swapped at {point} of the first stage: refused, then formatted again', race_of_format, v.c,
                point)
    for name, test, args in (
            ('header swapped between stage and expand: refused, live key unchanged', expand_swapped, (evil,)),
            ('header swapped after resize checked it: the checked one is used', expand_swapped_inside,
             ('crypt:session:verified', evil)),
            ('header swapped after resize unlocked it: the same', expand_swapped_inside,
             ('crypt:resize:unlocked', evil)),
            ('image replaced between stage and expand: refused', expand_other_image, ()),
            ('header swapped between stage and a repeated stage: the live mapping stays', stage_again, (evil,)),
            ('header zeroed while staged: mount and unstage don\'t need it', zeroed_while_staged, ())):
        if not tap.run(name, test, v, *args):
            v.take_down()
