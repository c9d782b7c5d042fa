#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""restart: what must survive and what must be noticed. coffer-node ends and comes back, also in a new mount namespace;
two stages race; a holder keeps a volume busy; mappings without a table; stale device nodes."""
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from files import read, write  # noqa: E402
from fixture import MIB, CallError, Coffer  # noqa: E402
from sweep import SyscallKiller, demand_clean  # noqa: E402
from tap import Tap, demand  # noqa: E402

SIZE = 32 * MIB


def life_after(c, volume):
    """Every later call is right: stage and publish again, expand, stats, unpublish, unstage."""
    c.stage(volume)
    c.publish(volume)
    demand(read(c.target(volume) + '/file') == b'before', 'the data is not what was written')
    size = c.record(volume)['size'] + 4 * MIB
    c.controller_expand(volume['volume_id'], size)
    c.node_expand(volume, size)
    stats = c.call(c.node_socket, 'csi.v1.Node/NodeGetVolumeStats',
                   {'volume_id': volume['volume_id'], 'volume_path': c.target(volume)})
    demand(int(stats['usage'][0]['total']) > SIZE * 3 // 4, f'stats: {stats}')
    c.unpublish(volume)
    c.unstage(volume)
    demand_clean(c)


def staged_and_published(c, name):
    volume = c.create(name, SIZE)
    c.stage(volume)
    c.publish(volume)
    write(c.target(volume) + '/file', b'before')
    return volume


def plain_restart(c):
    volume = staged_and_published(c, 'restart-plain')
    c.node.stop()
    demand(read(c.target(volume) + '/file') == b'before', 'the mount did not survive')
    c.start_node()
    life_after(c, volume)


def killed_restart(c):
    volume = staged_and_published(c, 'restart-killed')
    c.node.kill()
    c.start_node()
    life_after(c, volume)


def new_namespace(c):
    volume = staged_and_published(c, 'restart-namespace')
    c.node.stop()
    subprocess.run(['mount', '--make-rshared', '/'], check=True)
    c.node_prefix = ['unshare', '--mount', '--propagation', 'shared', '--']
    c.start_node()
    life_after(c, volume)
    c.node.stop()
    c.node_prefix = []
    c.start_node()


def ignored_children(c):
    """Started by somebody who ignores SIGCHLD, which exec keeps: how a child ended must be known all the same."""
    c.node.stop()
    c.node_prefix = ['/bin/sh', '-c', 'trap "" CHLD; exec "$@"', 'sh']
    c.start_node()
    life_after(c, staged_and_published(c, 'restart-ignored'))
    c.node.stop()
    c.node_prefix = []
    c.start_node()


def race(c, tap):
    """Two stages of one volume at once, the first held at a pause point."""
    volume, results = c.create('restart-race', SIZE), []
    arm, paused = c.fault_dir + '/coffer-node.arm', c.fault_dir + '/coffer-node.paused'
    write(arm, b'pause stage:filesystem:before')

    def first():
        try:
            c.stage(volume)
            results.append('OK')
        except CallError as e:
            results.append(str(e))
    thread = threading.Thread(target=first)
    thread.start()
    try:
        end = time.monotonic() + 300
        while not os.path.exists(paused) and time.monotonic() < end:
            time.sleep(0.02)
        tap.expect_error('a second stage of the same volume is ABORTED', 'ABORTED', c.stage, volume)
    finally:
        os.unlink(arm)
        thread.join(1800)
    tap.check(results == ['OK'], 'the first stage works', results)
    c.unstage(volume)
    demand_clean(c)


def busy(c, tap):
    volume = staged_and_published(c, 'restart-busy')
    holder = subprocess.Popen(['sleep', '600'], cwd=c.target(volume))
    try:
        tap.expect_error('unpublish of a busy volume names its holder', 'ABORTED', c.unpublish, volume,
                         word=f'process {holder.pid} (sleep)')
        tap.expect_error('unstage of a published volume is refused', 'ABORTED', c.unstage, volume, word='still mounted')
        tap.check(read(c.target(volume) + '/file') == b'before', 'nothing changed meanwhile')
    finally:
        holder.kill()
        holder.wait()
    tap.run('the retry works when the holder is gone', life_after, c, volume)


def busy_device(c, tap):
    volume = c.create('restart-busy-device', SIZE)
    c.stage(volume)
    node = os.path.join(c.made_device_dir, c.dm_name(volume))
    with open(node, 'rb'):
        tap.expect_error('unstage with the device open names its holder', 'ABORTED', c.unstage, volume,
                         word=f'process {os.getpid()} (python3)')
    tap.run('the retry works when it is closed', lambda: (c.unstage(volume), demand_clean(c)))


def no_table(c, volume):
    """What SIGKILL inside open leaves: a device of our name without a live table."""
    name, uuid = c.dm_name(volume), 'CRYPT-LUKS2-' + c.record(volume)['uuid'].replace('-', '') + '-' + c.dm_name(volume)
    subprocess.run(['dmsetup', 'create', name, '--uuid', uuid, '--notable'], check=True)


def zombie_before_stage(c):
    volume = c.create('restart-zombie', SIZE)
    c.stage(volume)
    write(c.staging(volume) + '/file', b'before')
    c.unstage(volume)
    no_table(c, volume)
    life_after(c, volume)


def another_creation(c):
    """A mapping of this name, but of another volume, that nobody has open: it may be the last way to somebody's data."""
    volume = c.create('restart-again', SIZE)
    name = c.dm_name(volume)
    subprocess.run(['dmsetup', 'create', name, '--uuid', f'CRYPT-LUKS2-{"0" * 32}-{name}', '--table', '0 8192 zero'], check=True)
    try:
        try:
            c.stage(volume)
        except CallError as e:
            demand(e.code == 'PRECONDITION' and 'instead of' in e.message, f'{e}')
        else:
            raise RuntimeError('it was staged')
        demand(name in c.mappings() and c.record(volume)['state'] == 'new', 'it was taken away')
    finally:
        subprocess.run(['dmsetup', 'remove', '--retry', name], check=True)
    c.stage(volume)
    c.unstage(volume)
    c.delete(volume['volume_id'])
    demand_clean(c)


def zombie_before_unstage(c):
    volume = c.create('restart-zombie-2', SIZE)
    no_table(c, volume)
    c.unstage(volume)
    demand_clean(c)


def stale_node(c):
    """A device node of ours whose number now is another volume's must never be used."""
    other, volume = c.create('restart-other', SIZE), c.create('restart-mine', SIZE)
    c.stage(other)
    write(c.staging(other) + '/file', b'other')
    number = os.stat(c.staging(other)).st_dev
    os.mknod(os.path.join(c.made_device_dir, c.dm_name(volume)), 0o60600, number)
    os.makedirs('/dev/mapper', exist_ok=True)
    stale = '/dev/mapper/' + c.dm_name(volume)
    if not os.path.lexists(stale):
        os.mknod(stale, 0o60600, number)
    c.stage(volume)
    demand(not os.path.exists(c.staging(volume) + '/file'), 'the volume shows another volume\'s file')
    write(c.staging(volume) + '/file', b'mine')
    demand(read(c.staging(other) + '/file') == b'other', 'the other volume was written to')
    c.unstage(volume)
    c.unstage(other)
    if os.path.lexists(stale):
        os.unlink(stale)
    demand_clean(c)


def single_writer(c, tap):
    volume = c.create('restart-rwop', SIZE)
    mode = {'mode': 'SINGLE_NODE_SINGLE_WRITER'}
    c.stage(volume, **mode)
    c.publish(volume, 0, **mode)
    c.publish(volume, 0, **mode)
    tap.expect_error('a second target of a single-writer volume is refused', 'PRECONDITION', lambda: c.publish(volume, 1, **mode),
                     word='single writer')
    c.unpublish(volume)
    c.unstage(volume)


def main():
    tap = Tap()
    c = Coffer(fault=True)
    c.install()
    c.crypt_helper = SyscallKiller.wrapper(c.root)
    c.start()
    tap.run('coffer-node stopped and started: mounts survive, later calls are right', plain_restart, c)
    tap.run('coffer-node killed and started: the same', killed_restart, c)
    tap.run('coffer-node started in a new mount namespace: the same', new_namespace, c)
    tap.run('coffer-node started with SIGCHLD ignored: the same', ignored_children, c)
    for test in (race, busy, busy_device, single_writer):
        tap.run(f'{test.__name__}: ran to its end', test, c, tap)
    tap.run('a mapping without a table is reaped by stage', zombie_before_stage, c)
    tap.run('a mapping of another creation of that name is left alone', another_creation, c)
    tap.run('a mapping without a table is reaped by unstage', zombie_before_unstage, c)
    tap.run('a stale device node never leads to another volume', stale_node, c)
    tap.run('all is gone at the end', demand_clean, c)
    c.stop()
    tap.done()


main()
