#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""build.py --version V --epoch SECONDS --revision COMMIT --profile P --output FOLDER MODE:SOURCE:TARGET...: Coffer's image, from its own
files (rows of mk/install.mk) and this Debian's (contents.py), into FOLDER: coffer.tar, coffer.spdx.json, digest. No daemon, no
registry, no root. The same files and arguments give the same bytes."""
import argparse
import os
import subprocess
import sys
import tempfile

import closure
import contents
import debian
import elf
import oci
import rootfs
import sbom


class Builder:
    def __init__(self, rows, work):
        self.rows, self.work = [row.split(':', 2) for row in rows], work
        self.architecture = debian.architecture()
        self.multiarch = debian.MULTIARCH[self.architecture]
        self.tree, self.packages, self.linked, self.copyrights = rootfs.Tree(), set(), set(), {}

    # ---- Coffer's own ----

    def _stripped(self, source):
        """Its debugging information stays in the build folder; the build id leads there."""
        path = os.path.join(self.work, os.path.basename(source))
        subprocess.run(['strip', '--strip-all', '-o', path, source], check=True)
        return path

    def add_own(self):
        """The stripped programs' paths."""
        programs = []
        for mode, source, target in self.rows:
            if elf.read(source) is not None:
                self.linked |= {debian.owner(a) for a in closure.archives(source)}
                source = self._stripped(source)
                programs.append(source)
            with open(source, 'rb') as f:
                self.tree.file(rootfs.merged(target), f.read(), int(mode, 8))
        return programs

    def add_skeleton(self):
        for path in contents.FOLDERS:
            self.tree.folder(path)
        for path, target in contents.LINKS.items():
            self.tree.link(path, target)
        for path, text in contents.TEXTS.items():
            self.tree.file(path, text.encode())

    # ---- Debian's ----

    def add_debian(self, path):
        """The file, and on the way to it each symbolic link."""
        while os.path.islink(path):
            who, target = debian.owner(path), os.readlink(path)
            self.tree.link(rootfs.merged(path), target, who.name)
            path = os.path.join(os.path.dirname(path), target)
        data, who = debian.read(path)
        self.packages.add(who)
        self.tree.file(rootfs.merged(path), data, 0o755 if os.access(path, os.X_OK) else 0o644, who.name)

    def add_folder(self, folder):
        for name in sorted(os.listdir(folder)):
            self.add_debian(os.path.join(folder, name))

    def add_programs(self, own):
        extra = [*contents.TOOLS, *(path.format(multiarch=self.multiarch) for path in contents.LOADED)]
        for path in [*extra, *closure.libraries([*own, *extra], self.multiarch)]:
            self.add_debian(path)

    def add_papers(self):
        """Of each package its copyright file, and what a scanner looks for to know that its code is here."""
        for p in sorted(self.packages | self.linked, key=lambda p: p.name):
            if os.path.exists(p.copyright_path):
                data, _ = debian.read(p.copyright_path)
                self.tree.file(p.copyright_path.lstrip('/'), data, owner=p.name)
                self.copyrights[p.name] = data.decode(errors='replace')
            self.tree.file(f'var/lib/dpkg/status.d/{p.name}', debian.control(p.query).encode(), owner=p.name)

    def build(self):
        self.add_skeleton()
        self.add_programs(self.add_own())
        for folder in contents.FOLDERS_OF_FILES:
            self.add_folder(folder)
        for path in contents.FILES:
            self.add_debian(path)
        self.add_papers()


def labels(o, bill):
    own = {'title': contents.TITLE, 'description': contents.DESCRIPTION, 'version': o.version, 'revision': o.revision,
           'created': oci.utc(o.epoch)}
    return {**{oci.LABEL + k: v for k, v in own.items()}, 'dev.coffer.sbom.digest': oci.digest(bill),
            'dev.coffer.sbom.format': 'application/spdx+json; version=2.3', 'dev.coffer.profile': o.profile}


def write(folder, name, data):
    """Whole or not at all."""
    path = os.path.join(folder, name)
    with open(path + '.new', 'wb') as f:
        f.write(data)
    os.replace(path + '.new', path)


def make(o):
    with tempfile.TemporaryDirectory(prefix='coffer-image-') as work:
        b = Builder(o.rows, work)
        b.build()
    layer = b.tree.tar(o.epoch)
    bill = sbom.document(b.tree, b.packages, b.linked, b.copyrights, version=o.version,
                         revision=o.revision, epoch=o.epoch, layer=oci.digest(layer))
    blobs, reference = oci.Blobs(), f'coffer:{o.version}'
    descriptor, manifest = oci.image(blobs, layer, contents.CONFIG, labels(o, bill), architecture=b.architecture, epoch=o.epoch)
    os.makedirs(o.output, exist_ok=True)
    write(o.output, 'coffer.spdx.json', bill)
    write(o.output, 'coffer.tar', oci.archive(blobs, descriptor, manifest, reference, o.epoch))
    write(o.output, 'digest', (descriptor['digest'] + '\n').encode())
    compressed = manifest['layers'][0]['size']
    print(f'{o.output}/coffer.tar: {reference}, {descriptor["digest"]}, {len(b.packages)} Debian packages, '
          f'{len(layer) / 2**20:.1f} MiB, compressed {compressed / 2**20:.1f} MiB')


def main(argv):
    p = argparse.ArgumentParser(allow_abbrev=False, usage=__doc__)
    for name, kind in (('version', str), ('epoch', int), ('revision', str), ('profile', str), ('output', str)):
        p.add_argument(f'--{name}', type=kind, required=True)
    p.add_argument('rows', nargs='+')
    try:
        make(p.parse_args(argv))
    except (ValueError, OSError, subprocess.CalledProcessError) as e:
        sys.exit(f'deploy/image/build.py: {e}')


main(sys.argv[1:])
