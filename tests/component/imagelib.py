# SPDX-License-Identifier: Apache-2.0
"""The image as its users get it: built by `make image`, read from the archive alone, unpacked, and entered. A program inside
gets the image as its root, read-only, with this machine's /dev, /proc and /sys and folders that the caller names; what a
container runtime does. Not root: the same in a user namespace."""
import functools
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile

from caselib import BIN, ROOT, Skip, run

EPOCH, REVISION = 1700000000, 'f' * 40
# ROOT [FOLDER PLACE]... -- PROGRAM...
ENTER = '''
set -e
root=$1; shift
mount --bind "$root" "$root"; mount -o remount,bind,ro "$root"
for name in dev proc sys; do mount --rbind /$name "$root/$name"; done
while [ "$1" != -- ]; do mount --bind "$1" "$root/$2"; shift 2; done
shift
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot $COFFER_USER "$root" "$@"
'''


def make(folder, **environment):
    """`make image` of the programs that are tested, into the folder."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(('MAKE', 'MFLAGS', 'PREFIX', 'DESTDIR'))}
    return run(['make', '-s', '-C', ROOT, f'PROFILE={os.path.basename(BIN)}', f'BUILD={os.path.dirname(BIN)}', '-o', 'all', 'image',
                f'IMAGE={folder}', f'REVISION={REVISION}'], timeout=600,
               env={**own, 'SOURCE_DATE_EPOCH': str(EPOCH), **environment}).stdout


def sha256(data):
    return 'sha256:' + hashlib.sha256(data).hexdigest()


class Image:
    """What is in FOLDER/coffer.tar; everything is found by digest from index.json on."""

    def __init__(self, folder):
        with open(os.path.join(folder, 'coffer.tar'), 'rb') as f:
            self.archive = f.read()
        with open(os.path.join(folder, 'coffer.spdx.json'), 'rb') as f:
            self.sbom = f.read()
        with tarfile.open(fileobj=io.BytesIO(self.archive)) as tar:
            self.members = tar.getmembers()
            self.outer = {m.name: tar.extractfile(m).read() for m in self.members if m.isfile()}
        self.index = json.loads(self.outer['index.json'])
        self.manifest = json.loads(self.blob(self.index['manifests'][0]))
        self.config = json.loads(self.blob(self.manifest['config']))
        self.compressed = self.blob(self.manifest['layers'][0])
        self.layer = gzip.decompress(self.compressed)
        with tarfile.open(fileobj=io.BytesIO(self.layer)) as tar:
            self.entries = tar.getmembers()
            self.files = {m.name: tar.extractfile(m).read() for m in self.entries if m.isfile()}
        self.links = {m.name: m.linkname for m in self.entries if m.issym()}

    def blob(self, descriptor):
        data = self.outer['blobs/' + descriptor['digest'].replace(':', '/')]
        assert sha256(data) == descriptor['digest'] and len(data) == descriptor['size'], descriptor
        return data

    def resolve(self, path):
        """A path in the image through its symbolic links, to the name of a file; None when it leads nowhere."""
        parts, done = path.strip('/').split('/'), []
        for _ in range(100):
            if not parts:
                return '/'.join(done)
            part = parts.pop(0)
            if part == '..':
                done.pop()
                continue
            target = self.links.get('/'.join([*done, part]))
            if target is None:
                done.append(part)
            else:
                done = [] if target.startswith('/') else done
                parts = target.strip('/').split('/') + parts
        return None

    def has(self, path):
        return self.resolve(path) in self.files

    def unpack(self, folder):
        with tarfile.open(fileobj=io.BytesIO(self.layer)) as tar:
            tar.extractall(folder)
        return folder


def enter(root, *command, binds=(), user=''):
    """The command line that runs a program in the unpacked image. binds: (folder, place in the image); user: UID:GID."""
    who = ['--map-root-user'] if os.geteuid() else []
    flat = [word for pair in binds for word in pair]
    change = f'COFFER_USER=--userspec={user} --groups=' if user else 'COFFER_USER='
    return ['env', change, 'unshare', '--mount', *who, '--propagation', 'private', 'sh', '-c', ENTER, 'enter', root, *flat, '--', *command]


@functools.cache
def why_not():
    """Why nothing can be run in an image here; '' when it can."""
    who = ['--map-root-user'] if os.geteuid() else []
    p = subprocess.run(['unshare', '--mount', *who, 'mount', '--bind', '/tmp', '/tmp'], capture_output=True, text=True, check=False)
    return '' if p.returncode == 0 and shutil.which('chroot') else f'no mount namespace here: {p.stderr.strip()}'


def inside(root, *command, code=0, **kw):
    if why_not():
        raise Skip(why_not())
    return run(enter(root, *command, **kw), code, timeout=300)
