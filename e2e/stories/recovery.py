#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""recovery: each way back of docs/RECOVERY.md that needs no cluster, by the commands that stand there: record, header, both, the
key, the pool's disk in another machine, the passphrase when nothing else is left; and that nothing is formatted meanwhile."""
import json
import os
import shlex
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from files import write  # noqa: E402
from fixture import MIB, CallError, Coffer  # noqa: E402
from sweep import demand_clean  # noqa: E402
from tap import Tap, demand  # noqa: E402

SIZE, HEADER = 32 * MIB, 4 * MIB


def shell(line, **more):
    """A line of the page, typed."""
    done = subprocess.run(['bash', '-c', line], capture_output=True, text=True, check=False, **more)
    demand(done.returncode == 0, f'{line}: {done.stdout}{done.stderr}')
    return done.stdout


def ready_volume(c, name):
    volume = c.create(name, SIZE)
    c.stage(volume)
    write(c.staging(volume) + '/file', name.encode())
    c.unstage(volume)
    return volume


def still_readable(c, volume, name):
    c.stage(volume)
    with open(c.staging(volume) + '/file', 'rb') as f:
        data = f.read()
    c.unstage(volume)
    demand(data == name.encode(), f'the data is {data!r}')


def refused(c, volume, codes, word=''):
    """The stage fails, says why, and leaves the image as it is."""
    def image():
        with open(c.image(volume), 'rb') as f:
            return f.read(HEADER + MIB)
    before = image()
    try:
        c.stage(volume)
    except CallError as e:
        demand(e.code in codes and word in e.message, f'{e} (expected {codes}, "{word}")')
    else:
        raise RuntimeError('the stage succeeded')
    demand(image() == before, 'a refused stage changed the image')


def back_up(c, volume, name):
    """As the page says, while all is well."""
    record, header = f'{c.root}/{name}.record', f'{c.root}/{name}.header'
    c.cofferctl('record', 'backup', volume['volume_id'], '--to', record)
    shell(f'cryptsetup luksHeaderBackup --header-backup-file {header} {shlex.quote(c.image(volume))}')
    return record, header


def lose_header(c, volume):
    with open(c.image(volume), 'r+b') as f:
        f.write(b'\0' * HEADER)


def record_lost(c):
    volume = ready_volume(c, 'record')
    record, _ = back_up(c, volume, 'record')
    os.unlink(f'{c.place(volume)}/record.json')
    refused(c, volume, ('DATA_LOSS',), 'record')
    c.cofferctl('record', 'restore', volume['volume_id'], '--from', record, '--yes')
    still_readable(c, volume, 'record')


def header_lost(c):
    volume = ready_volume(c, 'header')
    _, header = back_up(c, volume, 'header')
    lose_header(c, volume)
    refused(c, volume, ('DATA_LOSS',))
    shell(f'cryptsetup -q luksHeaderRestore --header-backup-file {header} {shlex.quote(c.image(volume))}')
    still_readable(c, volume, 'header')


def both_lost(c):
    volume = ready_volume(c, 'both')
    record, header = back_up(c, volume, 'both')
    os.unlink(f'{c.place(volume)}/record.json')
    lose_header(c, volume)
    shell(f'cryptsetup -q luksHeaderRestore --header-backup-file {header} {shlex.quote(c.image(volume))}')
    c.cofferctl('record', 'restore', volume['volume_id'], '--from', record, '--yes')
    still_readable(c, volume, 'both')


def key_lost(c):
    """Another master key stands for a tenant's key that is gone: what is open stays so, nothing else opens, and all comes back."""
    closed, opened = ready_volume(c, 'closed'), ready_volume(c, 'opened')
    c.stage(opened)
    kept = c.root + '/master.kept'
    c.keyd.stop()
    os.rename(c.root + '/master.key', kept)
    c.write_master_key(c.root + '/master.key')
    c.start_keyd()
    refused(c, closed, ('PRECONDITION',), 'key')
    with open(c.staging(opened) + '/file', 'rb') as f:
        demand(f.read() == b'opened', 'the open volume')
    c.unstage(opened)
    c.keyd.stop()
    os.replace(kept, c.root + '/master.key')
    c.start_keyd()
    for volume, name in ((closed, 'closed'), (opened, 'opened')):
        still_readable(c, volume, name)


def key_service_down(c):
    volume = ready_volume(c, 'down')
    c.keyd.stop()
    refused(c, volume, ('UNAVAILABLE',), 'coffer-keyd')
    c.start_keyd()
    still_readable(c, volume, 'down')


def passphrase_kept(c):
    """With the passphrase of before, stock cryptsetup, no Coffer and no key service."""
    volume = ready_volume(c, 'passphrase')
    done = c.cofferctl('volume', 'unlock-key', volume['volume_id'], '--reason', 'escrow', '--admin-socket', c.admin_socket, '--yes')
    c.stop()
    with open(f'{c.root}/passphrase', 'w', encoding='ascii', opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
        f.write(done.stdout.strip())
    image = shlex.quote(c.image(volume))
    shell(f'cryptsetup open --key-file {c.root}/passphrase {image} rescue && mkdir -p {c.root}/rescue && '
          f'mount -o ro /dev/mapper/rescue {c.root}/rescue')
    with open(f'{c.root}/rescue/file', 'rb') as f:
        data = f.read()
    shell(f'umount {c.root}/rescue && cryptsetup close rescue')
    demand(data == b'passphrase', f'the data is {data!r}')
    c.start()


def disk_moves(c):
    """The pool's disk in another machine of the same name: the same configuration, the same key service, what the API server kept."""
    volume = ready_volume(c, 'moves')
    c.stop()
    other = Coffer(os.path.join(os.environ['COFFER_SCRATCH'], 'other'))
    other.install()
    shutil.rmtree(other.pool)
    shutil.copy(c.root + '/master.key', other.root + '/master.key')
    shutil.chown(other.root + '/master.key', 64102, 64100)
    shell(f'cp -a --sparse=always {c.pool} {other.pool}')
    other.start()
    still_readable(other, volume, 'moves')
    other.delete(volume['volume_id'])
    other.stop()
    c.start()


def context_of_the_record(c):
    """What a PersistentVolume needs is in `volume show`: a volume whose object is gone is given one again."""
    volume = ready_volume(c, 'object')
    shown = json.loads(c.cofferctl('volume', 'show', volume['volume_id'], '--output', 'json').stdout)
    for key, value in volume['volume_context'].items():
        said = shown[{'keySource': 'key_source'}.get(key, key)]
        demand(said == value or str(said).lower() == value, f'{key}: {value} in the context, {said} shown')


def main():
    tap = Tap()
    c = Coffer()
    c.install()
    c.start()
    tap.run('a record that is lost comes back from its backup', record_lost, c)
    tap.run('a header that is lost comes back from its backup', header_lost, c)
    tap.run('both', both_lost, c)
    tap.run("a tenant's key that is lost opens nothing, formats nothing, and brings all back with it", key_lost, c)
    tap.run('a key service that is down is waited for', key_service_down, c)
    tap.run('a passphrase that was kept opens the volume without Coffer', passphrase_kept, c)
    tap.run("the pool's disk works in another machine", disk_moves, c)
    tap.run('a lost PersistentVolume can be written again', context_of_the_record, c)
    tap.run('all is gone at the end', demand_clean, c)
    c.stop()
    tap.done()


main()
