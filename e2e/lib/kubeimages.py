# SPDX-License-Identifier: Apache-2.0
"""Container images for a cluster without a registry, and the disk of a node that has them: write_image() makes an OCI archive
from files of this machine, node_disk() an ext4 image with all of them imported, as containerd leaves it in /var/lib/containerd.

An image that another build made (an OCI archive) is given to node_disk() as it is."""
import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile

HERE = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), 'kubernetes')
SNAPSHOTTER = 'overlayfs'
FOLDERS = ('bin', 'dev', 'etc', 'proc', 'run', 'sys', 'tmp', 'var')
PAUSE, BUSYBOX, DATABASE = 'localhost/pause:1', 'localhost/busybox:1', 'localhost/my-database:1'
SIDECARS = {'csi-provisioner': 'registry.k8s.io/sig-storage/csi-provisioner:v6.3.0',
            'csi-resizer': 'registry.k8s.io/sig-storage/csi-resizer:v2.2.0'}


@dataclasses.dataclass
class Image:
    """files: path in the image -> file of this machine; links: path -> where it leads to."""
    reference: str
    entrypoint: list
    files: dict
    links: dict = dataclasses.field(default_factory=dict)


# ---- one image

def entry(name, kind, mode=0o755):
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, mode
    return info


def add_bytes(tar, name, data, mode=0o644):
    info = entry(name, tarfile.REGTYPE, mode)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def layer(image):
    """The root file system, as a tar; without times or owners, so the same files make the same image."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode='w', format=tarfile.GNU_FORMAT) as tar:
        for folder in FOLDERS:
            tar.addfile(entry(folder, tarfile.DIRTYPE, 0o1777 if folder == 'tmp' else 0o755))
        add_bytes(tar, 'etc/passwd', b'root:x:0:0:root:/:/bin/sh\n')
        for name, path in sorted(image.files.items()):
            with open(path, 'rb') as f:
                add_bytes(tar, name, f.read(), 0o755)
        for name, target in sorted(image.links.items()):
            link = entry(name, tarfile.SYMTYPE, 0o777)
            link.linkname = target
            tar.addfile(link)
    return data.getvalue()


def digest(data):
    return 'sha256:' + hashlib.sha256(data).hexdigest()


def descriptor(kind, data, **more):
    return {'mediaType': f'application/vnd.oci.image.{kind}', 'digest': digest(data), 'size': len(data), **more}


def write_image(path, image):
    """An OCI archive at path. https://github.com/opencontainers/image-spec"""
    root = layer(image)
    config = json.dumps({'architecture': 'amd64', 'os': 'linux', 'rootfs': {'type': 'layers', 'diff_ids': [digest(root)]},
                         'config': {'Entrypoint': image.entrypoint, 'Env': ['PATH=/usr/sbin:/usr/bin:/sbin:/bin']}}).encode()
    manifest = json.dumps({'schemaVersion': 2, 'mediaType': 'application/vnd.oci.image.manifest.v1+json',
                           'config': descriptor('config.v1+json', config),
                           'layers': [descriptor('layer.v1.tar', root)]}).encode()
    index = json.dumps({'schemaVersion': 2, 'manifests': [descriptor('manifest.v1+json', manifest, annotations={
        'io.containerd.image.name': image.reference, 'org.opencontainers.image.ref.name': image.reference})]}).encode()
    with tarfile.open(path, 'w', format=tarfile.GNU_FORMAT) as tar:
        add_bytes(tar, 'oci-layout', b'{"imageLayoutVersion":"1.0.0"}')
        add_bytes(tar, 'index.json', index)
        for blob in (root, config, manifest):
            add_bytes(tar, 'blobs/sha256/' + digest(blob).partition(':')[2], blob)
    return path


# ---- the images of every cluster

def compile_static(name, folder):
    path = f'{folder}/{name}'
    subprocess.run([os.environ.get('CC', 'cc'), '-std=gnu11', '-O2', '-Wall', '-Wextra', '-static', '-o', path, f'{HERE}/{name}.c'],
                   check=True)
    return path


def busybox_image(components):
    program = f'{components}/debian/bin/busybox'
    names = subprocess.run([program, '--list'], capture_output=True, text=True, check=True).stdout.split()
    return Image(BUSYBOX, ['/bin/sh'], {'bin/busybox': program}, {f'bin/{name}': 'busybox' for name in names if name != 'busybox'})


def common_images(components, folder):
    """pause, busybox, my-database and the sidecars, as archives in folder."""
    images = [busybox_image(components),
              Image(PAUSE, ['/pause'], {'pause': compile_static('pause', folder)}),
              Image(DATABASE, ['/bin/my-database'], {'bin/my-database': compile_static('database', folder)})]
    images += [Image(reference, [f'/{name}'], {name: f'{components}/bin/{name}'}) for name, reference in SIDECARS.items()]
    return [write_image(f'{folder}/image-{number}.tar', image) for number, image in enumerate(images)]


# ---- a node's disk

# the folder may lie below /run, as in the micro-VM
IMPORT = '''
set -e
exec 7<"${0%/*}"
mount -t tmpfs run /run
mkdir -p "${0%/*}"
mount --no-canonicalize --bind /proc/self/fd/7 "${0%/*}"
containerd -c "$0/containerd.toml" >"$0/containerd.log" 2>&1 &
until ctr -a "$0/containerd.sock" version >/dev/null 2>&1; do kill -0 $! || { tail -n 5 "$0/containerd.log" >&2; exit 1; }; sleep 0.05; done
for archive; do ctr -a "$0/containerd.sock" -n k8s.io images import --snapshotter overlayfs "$archive"; done
kill $!
wait $! || true
'''
OTHER_PLUGINS = [f'io.containerd.{name}' for name in (
    'snapshotter.v1.btrfs', 'snapshotter.v1.zfs', 'snapshotter.v1.devmapper', 'snapshotter.v1.aufs', 'internal.v1.opt',
    'tracing.processor.v1.otlp')]


def node_disk(path, archives, components, work, size='16G'):
    """A containerd imports the archives into a folder here, and mkfs.ext4 copies that: no loop device, no mount, and much faster
    than importing in a node that is emulated."""
    tree, state = f'{work}/tree', f'{work}/containerd'
    for folder in (f'{tree}/var/lib/containerd', state):
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
    with open(f'{state}/containerd.toml', 'w', encoding='ascii') as f:
        f.write(f'version = 2\nroot = "{tree}/var/lib/containerd"\nstate = "{state}"\n'
                f'disabled_plugins = {json.dumps(["io.containerd.grpc.v1.cri", *OTHER_PLUGINS])}\n'
                f'[grpc]\n  address = "{state}/containerd.sock"\n')
    search = f'{components}/debian/usr/bin:{components}/debian/usr/sbin:{os.environ["PATH"]}:/usr/sbin:/sbin'
    done = subprocess.run(['unshare', '--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc', 'bash', '-c', IMPORT, state,
                           *archives], env={**os.environ, 'PATH': search}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f'cannot import the images: {done.stderr[-2000:]}')
    make_disk(path, size, '-d', tree)
    for folder in (tree, state):
        shutil.rmtree(folder)
    return path


def make_disk(path, size, *options):
    """An ext4 of that size in a sparse file."""
    mkfs = shutil.which('mkfs.ext4', path=os.environ['PATH'] + ':/usr/sbin:/sbin')
    with open(path, 'wb'):
        pass
    subprocess.run(['truncate', '-s', size, path], check=True)
    subprocess.run([mkfs, '-q', '-F', '-m', '0', '-E', 'lazy_itable_init=1,lazy_journal_init=1,nodiscard', *options, path], check=True)
    return path
