#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The main job on real input: a directory tree (this checkout) goes into an encrypted volume and comes back.
`make demo` runs it where real dm-crypt is. One line per step with its time; exit 1 on any difference."""
import contextlib
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))
import vaultserver  # noqa: E402
from fixture import MIB, Coffer  # noqa: E402
from vaultcoffer import services  # noqa: E402
from vaultsetup import Layout  # noqa: E402

SIZE, GROWN = 128 * MIB, 192 * MIB
TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def step(text, function, *args):
    started = time.monotonic()
    detail = function(*args)
    print(f'  ok {time.monotonic() - started:7.2f} s  {text}' + (f': {detail}' if detail else ''), flush=True)
    return detail


def demand(condition, sentence):
    if not condition:
        print(f'FAIL: {sentence}')
        sys.exit(1)


def tree_files():
    """The checkout's own files, by git where it is one, without what was built."""
    p = subprocess.run(['git', '-c', f'safe.directory={TOP}', '-C', TOP, 'ls-files', '-z'], capture_output=True, check=False)
    if p.returncode == 0 and p.stdout:
        names = [n for n in p.stdout.decode().split('\0') if n]
    else:
        names = [os.path.relpath(os.path.join(d, f), TOP) for d, dirs, files in os.walk(TOP)
                 if dirs.sort() is None and not os.path.relpath(d, TOP).startswith(('build', '.git')) for f in files]
    return [n for n in names if os.path.isfile(os.path.join(TOP, n))]


def digest(path):
    with open(path, 'rb') as f:
        return hashlib.sha256(f.read()).hexdigest()


def copy_in(names, hashes, marker, target):
    for name in names:
        to = os.path.join(target, 'tree', name)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        shutil.copyfile(os.path.join(TOP, name), to)
        hashes[name] = digest(os.path.join(TOP, name))
    with open(os.path.join(target, 'marker'), 'wb') as f:
        f.write(marker * 4096)
    os.sync()
    return f'{len(names)} files'


def verify(hashes, where):
    for name, want in hashes.items():
        demand(digest(os.path.join(where, 'tree', name)) == want, f'{name} is not what was copied in')
    return f'{len(hashes)} files, every SHA-256 as before'


def look_at_image(image, marker):
    with open(image, 'rb') as f:
        previous = b''
        while chunk := f.read(4 * MIB):
            demand(marker not in previous + chunk, f'{image} holds the plaintext')
            previous = chunk[-len(marker):]
    dump = subprocess.run(['cryptsetup', 'luksDump', image], capture_output=True, text=True, check=False)
    demand(dump.returncode == 0 and 'aes-xts-plain64' in dump.stdout, f'cryptsetup luksDump: {dump.stderr}{dump.stdout}')
    return 'no plaintext in it; cryptsetup luksDump reads it'


def file_system_bytes(path):
    s = os.statvfs(path)
    return s.f_blocks * s.f_frsize


def grow(c, volume):
    before = file_system_bytes(c.target(volume))
    reply = c.controller_expand(volume['volume_id'], GROWN)
    demand(reply.get('node_expansion_required'), 'ControllerExpandVolume did not ask for NodeExpandVolume')
    c.node_expand(volume, GROWN)
    after = file_system_bytes(c.target(volume))
    demand(after > before + 40 * MIB, f'the file system has {after} bytes after {before}')
    return f'file system {before // MIB} -> {after // MIB} MiB, mounted all the time'


def break_glass(c, volume, hashes):
    """Stock cryptsetup opens the volume with the passphrase that cofferctl had written."""
    key = subprocess.run([c.bin + '/cofferctl', 'volume', 'unlock-key', volume['volume_id'], '--config', c.config,
                          '--admin-socket', c.admin_socket, '--reason', 'demo', '--yes'], capture_output=True, check=False)
    demand(key.returncode == 0, f'cofferctl volume unlock-key: {key.stderr.decode()}')
    passphrase, where = key.stdout.strip(), os.path.join(c.root, 'recovered')
    loop = subprocess.run(['losetup', '--find', '--show', c.image(volume)], capture_output=True, text=True, check=True).stdout.strip()
    try:
        p = subprocess.run(['cryptsetup', 'open', '--key-file', '-', '--readonly', loop, 'demo-recovered'], input=passphrase,
                           capture_output=True, check=False)
        demand(p.returncode == 0, f'cryptsetup open: {p.stderr.decode()}')
        os.makedirs(where, exist_ok=True)
        subprocess.run(['mount', '-o', 'ro,noload', '/dev/mapper/demo-recovered', where], check=True)
        detail = verify(hashes, where)
        subprocess.run(['umount', where], check=True)
        subprocess.run(['cryptsetup', 'close', 'demo-recovered'], check=True)
        return detail
    finally:
        subprocess.run(['losetup', '--detach', loop], check=True)


def rss_kib(daemon):
    """Page by page: status's VmRSS lags behind a start (once by 4 MB)."""
    with open(f'/proc/{daemon.process.pid}/smaps_rollup', encoding='ascii') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('Rss:'))


@contextlib.contextmanager
def key_service():
    """The configuration's "kms": a real Vault where there is one, else None, which is a master key in a file."""
    if why := vaultserver.why_not():
        print(f'     keys: a master key in a file, for development only ({why}; make demo-vault uses a real Vault)', flush=True)
        yield None
        return
    folder = os.path.join(os.environ['COFFER_SCRATCH'], 'vault')
    os.mkdir(folder, 0o755)
    with vaultserver.open_vault(folder) as vault:
        layout = Layout(vault)
        layout.mount_engines()
        layout.write_policies()
        version = vault.root.call('GET', 'sys/health').body['version']
        print(f'     keys: a real Vault {version} at {vault.address}, engine transit, login by approle', flush=True)
        try:
            yield services(vault, layout, folder)
        finally:
            layout.remove()


def tell_memory(when, c):
    print(f'     memory, {when}: coffer-controller {rss_kib(c.controller)} KiB, coffer-node {rss_kib(c.node)} KiB')


def main():
    print('Coffer demo: an encrypted volume\'s whole life')
    with key_service() as kms:
        demo(Coffer(services=kms), {})
    print('demo finished: every step was checked')


def demo(c, hashes):
    marker = b'coffer-demo-plaintext-' + secrets.token_hex(16).encode() + b'\n'
    names = tree_files()
    step('install: pool, key daemon (uid 64102), controller (uid 64101), node (root)', lambda: (c.install(), c.start()) and None)
    time.sleep(1)  # behind the start's own end
    tell_memory('idle', c)
    volume = {}
    step('CreateVolume', lambda: volume.update(c.create('pvc-demo', SIZE)) or volume['volume_id'])
    step('NodeStageVolume: unwrap the key, format LUKS2, make ext4, mount', lambda: c.stage(volume))
    step('NodePublishVolume', lambda: c.publish(volume))
    step('copy this checkout in', copy_in, names, hashes, marker, c.target(volume))
    step('NodeUnpublishVolume', lambda: c.unpublish(volume))
    step('NodeUnstageVolume', lambda: c.unstage(volume))
    demand(not c.left_over(), f'left over on the node: {c.left_over()}')
    step('look at the raw image', look_at_image, c.image(volume), marker)
    step('NodeStageVolume again', lambda: c.stage(volume))
    step('NodePublishVolume again', lambda: c.publish(volume))
    step('verify', verify, hashes, c.target(volume))
    step('expand online', grow, c, volume)
    step('verify', verify, hashes, c.target(volume))
    step('NodeUnpublishVolume, NodeUnstageVolume', lambda: (c.unpublish(volume), c.unstage(volume)) and None)
    step('break-glass: stock cryptsetup opens it', break_glass, c, volume, hashes)
    step('DeleteVolume', lambda: c.delete(volume['volume_id']))
    demand(not os.path.exists(c.place(volume)), 'the volume is still in the pool')
    demand(not c.left_over(), f'left over on the node: {c.left_over()}')
    tell_memory('at the end', c)
    step('stop', c.stop)


main()
