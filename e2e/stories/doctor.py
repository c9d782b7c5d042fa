#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""doctor: cofferctl doctor on a healthy machine, and on the same machine broken one thing at a time: what is wrong is said
in its own line with what to do, the rest of the page stays, and it always ends."""
# story: disk=4G
import contextlib
import json
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import leftovers  # noqa: E402
from fixture import MIB, Coffer  # noqa: E402
from sweep import demand_clean  # noqa: E402
from tap import Tap, demand  # noqa: E402

CHECKS = ('user', 'config', 'pool', 'device-mapper', 'dm-crypt', 'loop', 'keyring', 'device-dir', 'tools', 'coffer-crypt', 'coffer-keyd',
          'coffer-node', 'admin socket', 'controller', 'clock', 'swap', 'core dumps')


def doctor(c, **flags):
    """(rows, exit code). The page is whole whatever is broken."""
    flags = {'crypt-helper': c.crypt_helper, 'keyd-socket': c.keyd_socket, 'node-socket': c.node_socket, 'admin-socket': c.admin_socket,
             'controller-socket': c.controller_socket, **{k.replace('_', '-'): v for k, v in flags.items()}}
    arguments = [word for name, value in flags.items() for word in ('--' + name, value)]
    p = c.cofferctl('doctor', '--output', 'json', *arguments, check=False)
    rows = json.loads(p.stdout)
    missing = [name for name in CHECKS if name not in {r['check'] for r in rows}]
    demand(not missing, f'the page lacks {missing}: {p.stdout}')
    demand(p.returncode == int(any(r['state'] == 'FAIL' for r in rows)), f'exit {p.returncode}: {p.stdout}')
    return rows, p.returncode


def expect(rows, check, state, word, fix=''):
    demand(any(r['check'] == check and r['state'] == state and word in r['found'] and fix in r['fix'] for r in rows),
           f'no {state} of {check} with "{word}":\n{json.dumps(rows, indent=1)}')


def only_fails(rows, *checks):
    found = {r['check'] for r in rows if r['state'] == 'FAIL'}
    demand(found == set(checks), f'{found} failed instead of {set(checks)}:\n{json.dumps(rows, indent=1)}')


def healthy(c):
    rows, code = doctor(c)
    only_fails(rows)
    demand(code == 0, str(rows))
    warned = {r['check'] for r in rows if r['state'] == 'WARN'}
    demand(warned <= {'coffer-keyd', 'clock'}, f'{warned}:\n{json.dumps(rows, indent=1)}')
    expect(rows, 'coffer-keyd', 'WARN', 'for development only', 'Vault')
    expect(rows, 'dm-crypt', 'OK', 'crypt target')
    expect(rows, 'pool', 'OK', f"'default' at {c.pool} (ext4)")
    expect(rows, 'device-mapper', 'OK', 'it answers: 0 mappings')


def dead_mapping(c):
    _, (_, name, _, _) = leftovers.dead_mapping(c, 'doctor-dead')
    rows, code = doctor(c)
    expect(rows, 'device-mapper', 'WARN', '1 mappings of Coffer, 1 of them dead', 'cofferctl node reconcile')
    demand(code == 0, 'a left-over is no failure')
    c.cofferctl('node', 'reconcile', '--admin-socket', c.admin_socket)
    demand(name not in c.mappings(), 'what doctor names does not help')


def daemons_down(c):
    c.keyd.stop()
    c.node.stop()
    c.controller.stop()
    rows, _ = doctor(c)
    only_fails(rows, 'coffer-keyd', 'coffer-node', 'admin socket')
    expect(rows, 'controller', 'WARN', c.controller_socket, 'systemctl status coffer-controller')
    expect(rows, 'coffer-keyd', 'FAIL', 'connect to coffer-keyd', 'systemctl status coffer-keyd')
    expect(rows, 'coffer-node', 'FAIL', c.node_socket, 'systemctl status coffer-node')
    c.start()
    only_fails(doctor(c)[0])


def daemons_hang(c):
    for daemon in (c.keyd, c.node):
        daemon.process.send_signal(signal.SIGSTOP)
    try:
        rows, _ = doctor(c)
    finally:
        for daemon in (c.keyd, c.node):
            daemon.process.send_signal(signal.SIGCONT)
    only_fails(rows, 'coffer-keyd', 'coffer-node', 'admin socket')
    expect(rows, 'coffer-keyd', 'FAIL', 'did not answer in time')


@contextlib.contextmanager
def mounted(c, name, *options, size=64 * MIB, mkfs=('mkfs.ext4', '-q')):
    """An ext4 of its own with a pool in it; its path."""
    image, path = os.path.join(c.root, name + '.img'), os.path.join(c.root, name)
    with open(image, 'wb') as f:
        f.truncate(size)
    leftovers.run(*mkfs, image)
    os.makedirs(path)
    leftovers.run('mount', '-o', ','.join(('loop', *options)), image, path)
    try:
        yield path
    finally:
        leftovers.run('umount', path)
        os.unlink(image)


@contextlib.contextmanager
def second_pool(c, path):
    with open(c.config, encoding='utf-8') as f:
        good = f.read()
    config = json.loads(good)
    config['pools']['second'] = {**config['pools']['default'], 'path': path}
    leftovers.write(c.config, json.dumps(config).encode())
    try:
        yield
    finally:
        leftovers.write(c.config, good.encode())


def pool_unmounted(c):
    with mounted(c, 'unmounted') as path, second_pool(c, path + '/pool'):
        c.cofferctl('pool', 'init', 'second')
        expect(doctor(c)[0], 'pool', 'WARN', f"'second' at {path}/pool (ext4)", 'enlarge')
        os.rename(path + '/pool', path + '/away')
        os.mkdir(path + '/pool')
        rows, _ = doctor(c)
        only_fails(rows, 'pool')
        expect(rows, 'pool', 'FAIL', 'pool \'second\' is not there', 'mount')
        expect(rows, 'pool', 'OK', f"'default' at {c.pool}")


def pool_that_cannot_reserve(c):
    """Without extents ext4 has no fallocate, like ext2 and ext3."""
    with mounted(c, 'old', mkfs=('mkfs.ext4', '-q', '-O', '^extent,^has_journal,^64bit,^flex_bg,^metadata_csum')) as path, \
            second_pool(c, path + '/pool'):
        c.cofferctl('pool', 'init', 'second')
        rows, _ = doctor(c)
        only_fails(rows, 'pool')
        expect(rows, 'pool', 'FAIL', "can't reserve space", 'ext4, xfs or btrfs')


def pool_that_hangs(c):
    """A frozen file system holds every writer in a sleep that nothing can end."""
    with mounted(c, 'frozen') as path, second_pool(c, path + '/pool'):
        c.cofferctl('pool', 'init', 'second')
        leftovers.run('fsfreeze', '--freeze', path)
        try:
            rows, _ = doctor(c)
        finally:
            leftovers.run('fsfreeze', '--unfreeze', path)
        only_fails(rows, 'pool')
        expect(rows, 'pool', 'FAIL', 'no answer within')
        expect(rows, 'pool', 'OK', f"'default' at {c.pool}")


def swap(c):
    path = os.path.join(c.root, 'swapfile')
    with open(path, 'wb') as f:
        os.posix_fallocate(f.fileno(), 0, 16 * MIB)
    os.chmod(path, 0o600)
    leftovers.run('mkswap', path)
    if subprocess.run(['swapon', path], check=False, capture_output=True).returncode != 0:
        raise RuntimeError('swapon failed')
    try:
        rows, code = doctor(c)
    finally:
        leftovers.run('swapoff', path)
    expect(rows, 'swap', 'WARN', f"{path} isn't encrypted", 'encrypted one')
    demand(code == 0, 'a hint is no failure')


def nodev(c):
    path = os.path.join(c.root, 'nodev')
    os.makedirs(path)
    leftovers.run('mount', '-t', 'tmpfs', '-o', 'nodev', 'none', path)
    try:
        rows, _ = doctor(c, device_dir=path + '/coffer')
    finally:
        leftovers.run('umount', path)
    only_fails(rows, 'device-dir')
    expect(rows, 'device-dir', 'FAIL', 'mounted nodev')


def no_configuration(c):
    os.rename(c.config, c.config + '.away')
    try:
        p = c.cofferctl('doctor', '--keyd-socket', c.keyd_socket, check=False)
    finally:
        os.rename(c.config + '.away', c.config)
    demand(p.returncode == 1 and 'FAIL  config' in p.stdout and 'keyring' in p.stdout, p.stdout)


def main():
    tap = Tap()
    c = Coffer(fault=True)
    c.install()
    c.start()
    tap.run('a healthy machine: nothing fails, and the development key service is named', healthy, c)
    tap.run('a dead mapping is counted, and what doctor names takes it away', dead_mapping, c)
    tap.run('daemons that are down', daemons_down, c)
    tap.run('daemons that hang', daemons_hang, c)
    tap.run('a pool whose file system is not mounted hides no other', pool_unmounted, c)
    tap.run('a pool whose file system can\'t reserve space', pool_that_cannot_reserve, c)
    tap.run('a pool that hangs for ever: the page is whole and ends', pool_that_hangs, c)
    tap.run('swap in clear', swap, c)
    tap.run('a device directory that allows no devices', nodev, c)
    tap.run('no configuration', no_configuration, c)
    tap.run('all is gone at the end', demand_clean, c)
    c.stop()
    tap.done()


main()
