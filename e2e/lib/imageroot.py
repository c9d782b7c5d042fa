# SPDX-License-Identifier: Apache-2.0
"""Coffer's daemons out of the image (deploy/image): each in a chroot of the unpacked image, which is read-only, with the
machine's /dev, /proc and /sys and the folders it shares with the test, at the paths they have outside. As in the pods: mounts that
coffer-node makes below a shared folder are seen by everybody (Bidirectional).

    root = ImageRoot(archive, folder, shared=[...])    unpacked and ready to enter; close() takes the mounts away
    c = ContainedCoffer(root); c.install(); c.start()  fixture.Coffer, else"""
import io
import json
import os
import subprocess
import tarfile

from fixture import GID, Coffer, Daemon

HOSTS = '127.0.0.1 localhost\n'


def layers(archive):
    """The tar archives of the layers, as a runtime finds them: by index.json and the manifest."""
    with tarfile.open(archive) as outer:
        def blob(descriptor):
            return outer.extractfile('blobs/' + descriptor['digest'].replace(':', '/')).read()
        manifest = json.loads(blob(json.load(outer.extractfile('index.json'))['manifests'][0]))
        return [blob(layer) for layer in manifest['layers']]


def mount(*arguments):
    subprocess.run(['mount', *arguments], check=True)


class ImageRoot:
    def __init__(self, archive, folder, shared):
        """shared: folders that are there; they are mounted into the image at the same paths."""
        self.folder = folder
        for layer in layers(archive):
            with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
                tar.extractall(folder)
        for name in ('hosts', 'resolv.conf'):  # kubelet's
            with open(os.path.join(folder, 'etc', name), 'w', encoding='ascii') as f:
                f.write(HOSTS if name == 'hosts' else '')
        for path in shared:
            os.makedirs(folder + path, exist_ok=True)
        mount('--make-rshared', '/')
        mount('--bind', folder, folder)
        mount('-o', 'remount,bind,ro', folder)
        for path in ('/dev', '/proc', '/sys', *shared):
            mount('--rbind', path, folder + path)

    def close(self):
        subprocess.run(['umount', '--recursive', '--lazy', self.folder], check=True)

    def enter(self, *command, uid=0):
        """The command line of a program in the image, named as pods name it."""
        return ['chroot', f'--userspec={uid}:{GID if uid else 0}', '--groups=', self.folder, *command]


class ContainedCoffer(Coffer):
    def __init__(self, image_root, **more):
        super().__init__(crypt_helper='/usr/libexec/coffer/coffer-crypt', **more)
        self.image_root = image_root

    def daemon(self, name, args, uid=0, prefix=()):
        argv = self.image_root.enter(name, *args, '--log-level', self.log_level, uid=uid)
        d = Daemon(name, argv, os.path.join(self.root, name + '.log'), prefix=prefix)
        d.start()
        return d

    def cofferctl(self, *args, uid=0, check=True):
        return subprocess.run(self.image_root.enter('cofferctl', *args, '--config', self.config, uid=uid), check=check,
                              capture_output=True, text=True, cwd='/')
