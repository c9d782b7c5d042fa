#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""races: a storage administrator swaps header, image or record while Coffer works with them: inside open, format and resize,
and between stage and expand. What was checked is what is used, a live mapping stays as it is, and with the true header back
everything that was written meanwhile is there, encrypted by the right key."""
# story: disk=2G cpus=1
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import luks2  # noqa: E402
from files import read, write  # noqa: E402
from fixture import MIB, Coffer  # noqa: E402
from luks2 import AREA, OTHER_KEY  # noqa: E402
from sweep import demand_clean  # noqa: E402
from tamper import MARKER, PLAIN, SIZE, Victim, drop_caches, place_file, the_end  # noqa: E402
from tap import Tap, demand  # noqa: E402
from watched import Paused  # noqa: E402


def swapped_inside_open(v, point, evil):
    """The header on the disk changes under coffer-crypt's hands: it goes on with the one it checked."""
    with Paused(v.c, 'coffer-crypt', point, lambda: v.c.stage(v.volume)) as held:
        evil.write(v.image)
    demand(held.error is None, f'the stage failed: {held.error}')
    v.demand_table()
    v.demand_data()
    write(v.c.staging(v.volume) + '/later', PLAIN)
    drop_caches()
    v.demand_data()
    v.c.unstage(v.volume)
    demand(v.header().area == evil.area, 'the disk\'s header was written to')
    v.demand_refused('DATA_LOSS', '')
    demand_clean(v.c)


def race_of_open(tap, v, evil):
    null = v.header()
    null.edit(luks2.put(luks2.NULL, *luks2.SEGMENT, 'encryption'))
    for point in ('crypt:session:header', 'crypt:session:verified', 'crypt:open:checked', 'crypt:open:activated'):
        for name, header in (('another volume key', evil), ('a null segment', null)):
            good = v.header()
            tap.run(f'header swapped at {point} for {name}: the checked one is used', swapped_inside_open, v, point,
                    header)
            v.take_down()
            good.write(v.image)

            def after():
                v.c.stage(v.volume)
                demand(read(v.c.staging(v.volume) + '/later') == PLAIN, 'what was written meanwhile is lost')
                os.unlink(v.c.staging(v.volume) + '/later')
                v.c.unstage(v.volume)
                demand(MARKER not in read(v.image), 'the image holds the plaintext')
            tap.run('and what was written meanwhile is there, encrypted by the right key', after)


def race_of_format(c, point):
    """At the first stage no digest is pinned yet. The attacker puts a header of the right uuid, whose volume key he
    knows, in the place of the one just made; but no keyslot of his opens with the storage key."""
    volume = c.create('headers-format-' + point.rsplit(':', 1)[1], SIZE)
    image = c.image(volume)
    evil = luks2.Header(luks2.stock_format(c.root + '/scratch', c.record(volume)['uuid'], b'the attacker\'s own'))
    with Paused(c, 'coffer-crypt', point, lambda: c.stage(volume)) as held:
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
    drop_caches()
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
    with Paused(v.c, 'coffer-crypt', point, lambda: v.c.node_expand(v.volume, v.size)) as held:
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
    race_of_open(tap, v, evil)
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


def expand_by_foreign_record(v, other):
    """NodeExpand has no volume_context: the live mapping's uuid says which volume it is."""
    good = v.save()
    published(v)
    try:
        asked = (v.unwraps(), other.unwraps())
        v.put_record({**other.record(), 'id': v.id})
        v.demand_refused('DATA_LOSS', 'live mapping', lambda: v.c.node_expand(v.volume, v.size + 4 * MIB))
        v.put_record(other.record())
        v.demand_refused('DATA_LOSS', '\'id\'', lambda: v.c.node_expand(v.volume, v.size + 4 * MIB))
        demand((v.unwraps(), other.unwraps()) == asked, 'keyd was asked for a key')
        live_is_right(v)
    finally:
        v.put_record(good[1])
        after_live(v)
    v.works()


def expand_by_other_kms(v):
    """The record names another key service that the pool allows: its key doesn't open the wrapped key."""
    published(v)
    good = v.record()
    try:
        v.size += 4 * MIB
        v.c.controller_expand(v.id, v.size)
        good = v.record()
        v.edit_record(kms='other')
        v.demand_refused('PRECONDITION', '', lambda: v.c.node_expand(v.volume, v.size))
        v.edit_record(kms='nowhere')
        v.demand_refused('PRECONDITION', 'nowhere', lambda: v.c.node_expand(v.volume, v.size))
        live_is_right(v)
        v.put_record(good)
        v.c.node_expand(v.volume, v.size)
        live_is_right(v)
    finally:
        v.put_record(good)
        after_live(v)
    v.works()


def main():
    tap = Tap()
    c = Coffer(fault=True)
    c.install()
    c.write_config(kms=('lab', 'other'))
    c.write_master_key(c.root + '/other.key')
    c.start()
    v, other = Victim(c, 'races-victim'), Victim(c, 'races-other', tenant='team-b')
    _, evil = v.forged_header()
    races(tap, v, evil)
    tap.run('expand by another volume\'s record: refused, no key asked for', expand_by_foreign_record, v, other)
    tap.run('expand by a record that names another kms: refused', expand_by_other_kms, v)
    tap.run('all is deleted, nothing is left, the daemons live', the_end, c, (v, other))
    c.stop()
    tap.done()


main()
