#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# story: disk=4G memory=2048M needs=image,vault
"""image: real volumes by the programs, libraries and file system tools of the OCI image alone, on real dm-crypt. Each file
system's life and a raw block volume's, with a key in a file and in a real Vault that is found by its name."""
import json
import os
import secrets
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import vaultserver  # noqa: E402
from files import read, write  # noqa: E402
from fixture import MIB, wait_for  # noqa: E402
from imageroot import ContainedCoffer, ImageRoot  # noqa: E402
from tap import Tap, demand  # noqa: E402
from vaultcoffer import services  # noqa: E402
from vaultsetup import Layout  # noqa: E402

SCRATCH = os.environ['COFFER_SCRATCH']
SIZES = {'ext4': (64, 96), 'xfs': (320, 400), 'btrfs': (256, 320)}  # MiB


def only_from_the_image(c):
    """What runs was started in the image: its program and its root are there."""
    for daemon in (c.keyd, c.controller, c.node):
        wait_for('chroot became the program', lambda d=daemon: os.readlink(f'/proc/{d.process.pid}/exe').endswith(d.name))
        root, exe = (os.readlink(f'/proc/{daemon.process.pid}/{what}') for what in ('root', 'exe'))
        demand(root == c.image_root.folder and exe.startswith(root + '/usr/'), f'{daemon.name}: {exe} in {root}')
        with open(f'/proc/{daemon.process.pid}/maps', encoding='utf-8') as f:
            loaded = {line.split()[5] for line in f if len(line.split()) > 5 and line.split()[5].startswith('/')}
        foreign = {path for path in loaded if not path.startswith((root, '/memfd:', '/dev/zero'))}
        demand(not foreign, f'{daemon.name} has {foreign} in its memory')


def life(c, fs, parameters=None):
    """Format, mount, write, grow while mounted, close, check, open again, delete."""
    small, large = (n * MIB for n in SIZES[fs])
    volume = c.create(f'image-{fs}-{secrets.token_hex(4)}', small, fs=fs, parameters=parameters or {})
    data = secrets.token_bytes(1 << 20)
    c.stage(volume)
    c.publish(volume)
    write(os.path.join(c.target(volume), 'data'), data)
    before = os.statvfs(c.target(volume))
    c.controller_expand(volume['volume_id'], large)
    c.node_expand(volume, large)
    after = os.statvfs(c.target(volume))
    demand(after.f_blocks * after.f_frsize > before.f_blocks * before.f_frsize, 'the file system did not grow')
    c.unpublish(volume)
    c.unstage(volume)
    demand(not c.left_over(), f'left over: {c.left_over()}')
    demand(data[:64] not in read(c.image(volume)), 'the disk shows the plaintext')
    c.stage(volume)
    demand(read(os.path.join(c.staging(volume), 'data')) == data, 'the data is not what was written')
    c.unstage(volume)
    c.delete(volume['volume_id'])
    demand(not c.left_over() and not os.path.exists(c.place(volume)), f'left over: {c.left_over()}')


def raw_block(c):
    volume, data = c.create('image-block', 32 * MIB, block=True), secrets.token_bytes(1 << 16)
    for n in range(2):
        c.stage(volume, block=True)
        c.publish(volume, n, block=True)
        with open(c.target(volume, n), 'r+b', buffering=0) as f:
            if n == 0:
                f.write(data)
                os.fsync(f.fileno())
            else:
                demand(f.read(len(data)) == data, 'the data is not what was written')
        c.unpublish(volume, n)
        c.unstage(volume)
    c.delete(volume['volume_id'])
    demand(not c.left_over(), f'left over: {c.left_over()}')


def doctor_is_content(c):
    """What it says of the image: its tools, coffer-crypt, the daemons. (The clock and the like are the machine's.)"""
    p = c.cofferctl('doctor', '--output', 'json', '--keyd-socket', c.keyd_socket, '--node-socket', c.node_socket, '--admin-socket',
                    c.admin_socket, '--controller-socket', c.controller_socket, check=False)
    rows = json.loads(p.stdout)
    rows = rows if isinstance(rows, list) else next(v for v in rows.values() if isinstance(v, list))
    names = ('tools', 'coffer-crypt', 'coffer-keyd', 'coffer-node', 'controller', 'device-mapper', 'dm-crypt', 'loop', 'device-dir')
    bad = [r for r in rows if r['check'] in names and r['state'] != 'OK' and 'for development only' not in r['found']]
    demand(not bad and {r['check'] for r in rows} >= set(names), f'{bad or rows} {p.stderr}')


def with_file_key(tap, image_root):
    c = ContainedCoffer(image_root)
    c.install()
    c.start()
    tap.run('every program and library in use is the image\'s', only_from_the_image, c)
    for fs in SIZES:
        tap.run(f'{fs}: made, grown, checked and opened again by the image\'s own tools', life, c, fs)
    tap.run('a raw block volume', raw_block, c)
    tap.run('cofferctl doctor finds nothing wrong with the image', doctor_is_content, c)
    tap.run('the daemons end', c.stop)


def with_vault(tap, image_root, folder):
    """The address is a name, which coffer-keyd looks up with the image's own files."""
    with vaultserver.open_vault(folder) as vault:
        layout = Layout(vault)
        layout.mount_engines()
        layout.write_policies()
        kms = services(vault, layout, folder)
        for service in kms.values():
            service['uri'] = service['uri'].replace('127.0.0.1', 'localhost')
        try:
            c = ContainedCoffer(image_root, services=kms)
            c.write_config()
            c.start()
            for name in kms:
                tap.run(f'a key in a real Vault ({name})', life, c, 'ext4', {'kms': name})
            tap.run('these daemons end', c.stop)
        finally:
            layout.remove()


def main():
    tap = Tap()
    shared = [os.path.join(SCRATCH, 'coffer'), os.path.join(SCRATCH, 'vault'), '/run/cryptsetup']  # the last: the host's locks
    for path in shared:
        os.makedirs(path, 0o700, exist_ok=True)
    for path in shared[:2]:
        os.chmod(path, 0o755)
    image_root = ImageRoot(os.environ['COFFER_IMAGE'], os.path.join(SCRATCH, 'image'), shared)
    try:
        with_file_key(tap, image_root)
        if why := vaultserver.why_not():
            tap.skip('keys in a real Vault', why)
        else:
            with_vault(tap, image_root, shared[1])
    finally:
        image_root.close()
    tap.done()


main()
