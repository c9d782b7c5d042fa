#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools: what cofferctl does for an administrator, on real volumes. Records backed up and brought back, also by hostile
hands; where a volume is, beside what dmsetup and losetup say; what is left over on a node and what is done about it, also
when coffer-node is killed there."""
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import leftovers  # noqa: E402
from files import read  # noqa: E402
from fixture import MIB, Coffer  # noqa: E402
from sweep import FaultKiller, demand_clean, sampled  # noqa: E402
from tap import Tap, demand  # noqa: E402

SIZE = 32 * MIB


def record_path(c, volume):
    return os.path.join(c.place(volume), 'record.json')


def write_record(c, volume, **changes):
    leftovers.write(record_path(c, volume), json.dumps({**c.record(volume), **changes}).encode())


# ---- records ----

def ready_volume(c, name):
    volume = c.create(name, SIZE)
    c.stage(volume)
    leftovers.write(c.staging(volume) + '/file', b'before')
    c.unstage(volume)
    return volume


def backup(c, volume, name):
    path = os.path.join(c.root, name)
    if os.path.exists(path):
        os.unlink(path)
    c.cofferctl('record', 'backup', volume['volume_id'], '--to', path)
    return path


def restore(c, volume, path, word=None, **more):
    """Restores; with `word` it must be refused in a sentence with that word, and nothing may have changed."""
    before = read(record_path(c, volume)) if os.path.exists(record_path(c, volume)) else None
    p = c.cofferctl('record', 'restore', volume['volume_id'], '--from', path, '--yes', check=False, **more)
    if word is None:
        demand(p.returncode == 0, p.stderr)
        return
    now = read(record_path(c, volume)) if os.path.exists(record_path(c, volume)) else None
    demand(p.returncode == 1 and word in p.stderr, f'exit {p.returncode}: {p.stderr} (expected "{word}")')
    demand(now == before, 'a refused restore changed the record')


def still_readable(c, volume):
    c.stage(volume)
    data = read(c.staging(volume) + '/file')
    c.unstage(volume)
    demand(data == b'before', f'the data is {data!r}')


def backup_is_exact(c):
    volume = ready_volume(c, 'tools-exact')
    path = backup(c, volume, 'exact')
    demand(read(path) == read(record_path(c, volume)), 'the backup is not the record')
    demand(os.stat(path).st_mode & 0o777 == 0o600, 'the backup is not for its owner only')
    p = c.cofferctl('record', 'backup', volume['volume_id'], '--to', path, check=False)
    demand(p.returncode == 1 and 'there already' in p.stderr, p.stderr)


def record_gone(c):
    volume = ready_volume(c, 'tools-gone')
    path = backup(c, volume, 'gone')
    gen, owner = c.record(volume)['gen'], os.stat(record_path(c, volume)).st_uid
    os.unlink(record_path(c, volume))
    restore(c, volume, path)
    demand(c.record(volume)['gen'] == gen + 1 and os.stat(record_path(c, volume)).st_uid == owner, str(c.record(volume)))
    still_readable(c, volume)
    os.unlink(record_path(c, volume))
    os.unlink(c.place(volume) + '/lock')
    restore(c, volume, path)
    still_readable(c, volume)


def record_unreadable(c):
    volume = ready_volume(c, 'tools-unreadable')
    path = backup(c, volume, 'unreadable')
    for number, text in enumerate((b'', b'{"v":1,', b'\x00' * 4096, b'{"v":1,"gen":900,"state":"ready"}')):
        leftovers.write(record_path(c, volume), text)
        restore(c, volume, path)
        demand(read(path + '.replaced') == text, 'what was there is not kept')
        os.rename(path + '.replaced', f'{path}.{number}')
        still_readable(c, volume)
    demand(c.record(volume)['gen'] > 900, 'the generation was lowered')


def expanded_since(c):
    volume = ready_volume(c, 'tools-expanded')
    path = backup(c, volume, 'expanded')
    c.controller_expand(volume['volume_id'], SIZE + 8 * MIB)
    os.unlink(record_path(c, volume))
    restore(c, volume, path)
    demand(c.record(volume)['size'] == SIZE + 8 * MIB, str(c.record(volume)))
    still_readable(c, volume)


def while_mounted(c):
    """The record goes while the volume is in use: the running mapping proves which record is right."""
    volume = ready_volume(c, 'tools-mounted')
    path = backup(c, volume, 'mounted')
    c.stage(volume)
    os.unlink(record_path(c, volume))
    restore(c, volume, path)
    c.unstage(volume)
    still_readable(c, volume)


def never_a_format(c):
    """No backup may make a volume that holds data one that is formatted, whatever else is broken."""
    volume = c.create('tools-format', SIZE)
    new = backup(c, volume, 'format-new')
    c.stage(volume)
    leftovers.write(c.staging(volume) + '/file', b'before')
    c.unstage(volume)
    ready = backup(c, volume, 'format-ready')
    forged = {state: os.path.join(c.root, 'format-' + state) for state in ('minting', 'formatting', 'erased')}
    for state, path in forged.items():
        bare = {'digest': '', 'mac': '', **({'key': None} if state == 'minting' else {})}
        leftovers.write(path, json.dumps({**c.record(volume), 'state': state, **bare}).encode())
    image = read(c.image(volume))
    for present in (b'there', b'broken', None):
        if present == b'broken':
            leftovers.write(record_path(c, volume), b'{')
        elif present is None:
            os.unlink(record_path(c, volume))
        for path in (new, *forged.values()):
            restore(c, volume, path, 'only a \'ready\' record')
    demand(read(c.image(volume)) == image, 'the image changed')
    restore(c, volume, ready)
    still_readable(c, volume)


def hostile_restores(c):
    volume, other = ready_volume(c, 'tools-hostile'), ready_volume(c, 'tools-other')
    path, good = backup(c, volume, 'hostile'), c.record(volume)
    restore(c, other, path, 'no backup of volume')
    restore(c, volume, backup(c, other, 'other'), 'no backup of volume')
    for name, text, word in (('v2', json.dumps({**good, 'v': 2}), 'version'), ('torn', '{', 'JSON'), ('empty', '', 'JSON'),
                             ('long', json.dumps(good) + ' ' * 9000, '8192'), ('uuid', json.dumps({
                                 **good, 'uuid': '3f1d6a52-90c4-4e0b-8a77-0c2f5d9e6b41'}), 'another creation')):
        forged = os.path.join(c.root, 'forged-' + name)
        leftovers.write(forged, text.encode())
        restore(c, volume, forged, word)
    # another proof may be another storage key's, so nothing goes over a record that may hold the only form of it
    forged = os.path.join(c.root, 'forged-mac')
    leftovers.write(forged, json.dumps({**good, 'tenant': 'lab', 'mac': '0' * 64}).encode())
    restore(c, volume, forged, 'another storage key')
    # where none is, a forged proof is written, and never believed: nothing is decrypted or formatted
    os.unlink(record_path(c, volume))
    restore(c, volume, forged)
    try:
        c.stage(volume)
        demand(False, 'a record with a forged MAC was staged')
    except Exception as e:  # pylint: disable=broad-except
        demand('MAC' in str(e), str(e))
    restore(c, volume, path, 'another storage key')
    os.unlink(record_path(c, volume))
    restore(c, volume, path)
    still_readable(c, volume)


def no_restore_where(c):
    volume = ready_volume(c, 'tools-where')
    path, good = backup(c, volume, 'where'), read(record_path(c, volume))
    os.rename(c.image(volume), c.root + '/image')
    os.unlink(record_path(c, volume))
    restore(c, volume, path, 'image is not there')
    leftovers.write(c.image(volume), b'x' * MIB)
    restore(c, volume, path, 'bring the whole image back')
    os.rename(c.root + '/image', c.image(volume))
    with subprocess.Popen(['flock', c.place(volume) + '/lock', 'sleep', '600']) as holder:
        end = time.monotonic() + 30
        while subprocess.run(['flock', '-n', c.place(volume) + '/lock', 'true'], check=False).returncode == 0:
            demand(time.monotonic() < end, 'the lock is not taken')
            time.sleep(0.05)
        restore(c, volume, path, 'lock')
        subprocess.run(['pkill', '-P', str(holder.pid)], check=False)
        holder.kill()
    leftovers.write(record_path(c, volume), good)
    write_record(c, volume, state='erased')
    restore(c, volume, path, 'final')
    leftovers.write(record_path(c, volume), good)
    c.stage(volume)
    write_record(c, volume, tenant='team-x')
    restore(c, volume, path, 'in use with another record')
    leftovers.write(record_path(c, volume), good)
    c.unstage(volume)
    still_readable(c, volume)


# ---- locate ----

def locate(c, volume):
    text = c.cofferctl('volume', 'locate', volume['volume_id'], '--output', 'json', '--crypt-helper', c.crypt_helper).stdout
    return json.loads(text)


def locate_is_true(c):
    volume = c.create('tools-locate', SIZE)
    at_rest = locate(c, volume)
    demand(at_rest['image'] == c.image(volume) and at_rest['mapping_state'] == 'none' and not at_rest['loops'], str(at_rest))
    c.stage(volume)
    c.publish(volume)
    with open(c.target(volume) + '/held', 'wb'):
        got = locate(c, volume)
    name = c.dm_name(volume)
    info = leftovers.run('dmsetup', 'info', '-c', '--noheadings', '--separator', ' ', '-o', 'major,minor,uuid,open', name)
    table = leftovers.run('dmsetup', 'table', name).split()
    loop = leftovers.run('losetup', '--noheadings', '--output', 'NAME,MAJ:MIN', '--associated', c.image(volume)).split()
    st = os.stat(c.image(volume))
    demand(got['mapping'] == name and got['mapping_state'] == 'ok', str(got))
    demand(f'{got["device"].replace(":", " ")} {got["dm_uuid"]} {got["open_count"]}' == info, f'{got}\ndmsetup: {info}')
    demand([got['loops'][0]['path'], got['loops'][0]['device']] == loop and len(got['loops']) == 1, f'{got}\nlosetup: {loop}')
    demand(got['backing'] == table[6] == loop[1], f'{got}\ntable: {table}')
    demand(got['mapped_size'] == int(table[1]) * 512 == SIZE, f'{got}\ntable: {table}')
    # what the file system itself needs for the image comes and goes while it is written to
    demand(got['size'] == st.st_size and abs(got['allocated'] - st.st_blocks * 512) < MIB, f'{got}\nstat: {st}')
    demand(sorted(got['mounts']) == sorted([c.staging(volume), c.target(volume)]), str(got))
    demand(any(h['pid'] == str(os.getpid()) and h['path'].endswith('/held') for h in got['holders']), str(got))
    shown = c.cofferctl('volume', 'locate', volume['volume_id'], '--crypt-helper', c.crypt_helper).stdout
    demand(name in shown and c.staging(volume) in shown and loop[0] in shown, shown)
    c.unpublish(volume)
    c.unstage(volume)
    demand(locate(c, volume)['mapping_state'] == 'none', 'a mapping is shown that is gone')


def locate_block(c):
    volume = c.create('tools-locate-block', SIZE, block=True)
    c.stage(volume, block=True)
    c.publish(volume, block=True)
    demand(locate(c, volume)['mounts'] == [c.target(volume)], str(locate(c, volume)))
    c.unpublish(volume)
    c.unstage(volume)


# ---- reconcile ----

def reconcile(c, *more):
    p = c.cofferctl('node', 'reconcile', '--output', 'json', '--admin-socket', c.admin_socket, *more, check=False)
    return json.loads(p.stdout), p


def rows(items):
    return sorted((i['kind'], i['what'], i['action'], i['why']) for i in items)


def expect(items, wanted, what):
    """Each wanted row is there, and no other."""
    for kind, word, action, why in wanted:
        hits = [i for i in items if i['kind'] == kind and word in i['what'] and i['action'] == action and why in i['why']]
        demand(len(hits) == 1, f'{what}: {(kind, word, action, why)} is there {len(hits)} times in\n{json.dumps(items, indent=1)}')
    demand(len(items) == len(wanted), f'{what}: {len(items)} rows instead of {len(wanted)}:\n{json.dumps(items, indent=1)}')


def kernel_state(c):
    tables = leftovers.run('dmsetup', 'info', '-c', '--noheadings', '-o', 'name,open,tables_loaded')
    loops = leftovers.run('losetup', '--noheadings', '--output', 'NAME,BACK-INO,RO')
    return sorted(tables.splitlines()), sorted(loops.splitlines()), sorted(c.mounts()), sorted(c.device_nodes())


def make(c, functions, prefix):
    """(volumes, what must be said); a dead mapping and a dead block mount have a stale device node as well."""
    volumes, wanted = [], []
    for number, function in enumerate(functions):
        volume, row = function(c, f'{prefix}-{number}')
        volumes.append(volume)
        wanted.append(row)
        if function in (leftovers.dead_block_mount,):
            wanted.append(('node', c.dm_name(volume), 'unlink', 'no device'))
    return volumes, wanted


def in_use(c):
    volume = c.create('tools-in-use', SIZE)
    c.stage(volume)
    c.publish(volume)
    leftovers.write(c.target(volume) + '/file', b'in use')
    block = c.create('tools-in-use-block', SIZE, block=True)
    c.stage(block, block=True)
    return volume, block


def put_back(c, volume, block):
    demand(read(c.target(volume) + '/file') == b'in use', 'a volume in use was touched')
    c.publish(block, block=True)
    c.unpublish(block)
    c.unstage(block)
    c.unpublish(volume)
    c.unstage(volume)


def idle_node(c):
    items, p = reconcile(c)
    demand(items == [] and p.returncode == 0, p.stdout)
    demand('nothing is left over' in c.cofferctl('node', 'reconcile', '--dry-run', '--admin-socket', c.admin_socket).stderr, 'table')


def dry_run_and_real(c):
    used = in_use(c)
    volumes, wanted = make(c, leftovers.SAFE, 'tools-safe')
    before = kernel_state(c)
    items, _ = reconcile(c, '--dry-run')
    expect([i for i in items if not (i['kind'] == 'node' and i['what'] == c.dm_name(volumes[1]))], wanted, 'dry run')
    demand(all(i['result'] == '' for i in items), 'a dry run has results')
    demand(kernel_state(c) == before, f'a dry run changed something:\n{before}\n{kernel_state(c)}')
    real, p = reconcile(c)
    demand(p.returncode == 0 and all(i['result'] == 'done' for i in real), p.stdout + p.stderr)
    demand(set(rows(items)) <= set(rows(real)), f'dry: {rows(items)}\nreal: {rows(real)}')
    items, _ = reconcile(c)
    demand(items == [], f'not all was taken away: {items}')
    c.stage(volumes[1])
    demand(read(c.staging(volumes[1]) + '/file') == b'kept', 'data is gone')
    c.unstage(volumes[1])
    put_back(c, *used)
    demand_clean(c)


def left_alone(c):
    volumes, wanted = make(c, leftovers.LEAVE, 'tools-leave')
    before = kernel_state(c)
    for arguments in (('--dry-run',), ()):
        items, p = reconcile(c, *arguments)
        demand(p.returncode == 0, p.stderr)
        expect(items, wanted, f'reconcile {arguments}')
        demand(kernel_state(c) == before, 'what must be left alone was touched')
    os.rename(c.root + '/taken.json', record_path(c, volumes[2]))
    demand(read(c.staging(volumes[2]) + '/file') == b'kept', 'data is gone')
    leftovers.run('losetup', '-d', wanted[0][1])
    leftovers.run('dmsetup', 'remove', volumes[3])
    os.unlink(os.path.join(c.made_device_dir, volumes[4]))
    c.unstage(volumes[1])
    c.unstage(volumes[2])
    demand_clean(c)


def held_things(c):
    """A loop that a process has open, and a lock that a process holds: named, and left alone."""
    volume, (_, loop, _, _) = leftovers.orphan_loop(c, 'tools-held')
    locked = c.create('tools-locked', SIZE)
    with open(loop, 'rb'), subprocess.Popen(['flock', '--no-fork', c.place(locked) + '/lock', 'sleep', '600']) as holder:
        try:
            end = time.monotonic() + 60
            while not (items := [i for i in reconcile(c)[0] if i['kind'] == 'lock']):
                demand(time.monotonic() < end, 'nobody holds the lock')
            demand(str(holder.pid) in items[0]['what'] and items[0]['volume_id'] == locked['volume_id'], str(items))
            items = [i for i in reconcile(c)[0] if i['kind'] == 'loop']
            demand(len(items) == 1 and items[0]['action'] == 'none' and f'process {os.getpid()} ' in items[0]['why'], str(items))
        finally:
            holder.kill()
    demand([i['result'] for i in reconcile(c)[0]] == ['done'], 'the loop is free now')
    demand(volume['volume_id'] != locked['volume_id'], 'two volumes')
    demand_clean(c)


def formatting_is_reaped(c):
    volume = ready_volume(c, 'tools-formatting')
    good = read(record_path(c, volume))
    c.stage(volume)
    leftovers.run('umount', c.staging(volume))
    write_record(c, volume, state='formatting', digest='', mac='')
    items, _ = reconcile(c)
    demand(any(i['kind'] == 'mapping' and 'formatting' in i['why'] and i['result'] == 'done' for i in items), str(items))
    leftovers.write(record_path(c, volume), good)
    still_readable(c, volume)


def killed_anywhere(c, tap):
    killer = FaultKiller(c, 'coffer-node')
    make(c, leftovers.SAFE, 'tools-kill')
    points = killer.record(lambda: reconcile(c))
    points = [p for p in points if p[1].startswith('reconcile:')]
    tap.check(len(points) >= 10, f'reconcile has {len(points)} boundaries to be killed at', points)
    for number, (n, name) in enumerate(sampled(points)):
        make(c, leftovers.SAFE, f'tools-kill-{number}')

        def call():
            c.cofferctl('node', 'reconcile', '--admin-socket', c.admin_socket, check=False)

        def one(point):
            demand(killer.strike(point, call), 'coffer-node lived')
            _, p = reconcile(c)
            demand(p.returncode == 0, p.stderr)
            demand(reconcile(c)[0] == [], 'it does not converge')
            demand_clean(c)
        tap.run(f'killed at {name} ({n}): the next one ends well', one, (n, name))


def main():
    tap = Tap()
    c = Coffer(fault=True)
    c.install()
    c.start()
    tap.run('a backup is the record, byte for byte, and replaces nothing', backup_is_exact, c)
    tap.run('a record that is gone is restored', record_gone, c)
    tap.run('a record that is unreadable is restored, and kept aside', record_unreadable, c)
    tap.run('a record from before an expand gets the size that the image has', expanded_since, c)
    tap.run('a record that goes while the volume is mounted is restored', while_mounted, c)
    tap.run('no backup makes a volume with data one that may be formatted', never_a_format, c)
    tap.run('forged backups and those of other volumes are refused', hostile_restores, c)
    tap.run('nothing is restored without image, lock, or over what is final or in use', no_restore_where, c)
    tap.run('locate says what dmsetup, losetup and mountinfo say', locate_is_true, c)
    tap.run('locate knows a published raw block volume', locate_block, c)
    tap.run('nothing is left over on an idle node', idle_node, c)
    tap.run('a dry run says what a real run then does, and volumes in use are not touched', dry_run_and_real, c)
    tap.run('what is open or not shown to be ours is left alone', left_alone, c)
    tap.run('who holds a loop or a lock is named', held_things, c)
    tap.run('a mapping of a volume that is not ready is reaped', formatting_is_reaped, c)
    killed_anywhere(c, tap)
    tap.run('all is gone at the end', demand_clean, c)
    c.stop()
    tap.done()


main()
