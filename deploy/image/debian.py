# SPDX-License-Identifier: Apache-2.0
"""This machine's Debian packages: whose a file is, whether it is what the package shipped, what the package says of itself."""
import dataclasses
import functools
import glob
import hashlib
import os
import re
import subprocess

MULTIARCH = {'amd64': 'x86_64-linux-gnu'}  # Debian's and OCI's name of the architecture -> its folder of libraries
FIELDS = ('binary:Package', 'Package', 'Version', 'Architecture', 'source:Package', 'source:Version', 'Homepage', 'Maintainer')


@dataclasses.dataclass(frozen=True)
class Package:
    query: str  # what dpkg wants to be asked for
    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    homepage: str
    maintainer: str

    @property
    def copyright_path(self):
        return f'/usr/share/doc/{self.name}/copyright'


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, env={**os.environ, 'LC_ALL': 'C.UTF-8'}).stdout.decode()


def architecture():
    name = output('dpkg', '--print-architecture').strip()
    if name not in MULTIARCH:
        raise ValueError(f'{name} is an architecture that deploy/image/debian.py does not know')
    return name


@functools.cache
def release():
    """VERSION_ID of the distribution: 12."""
    with open('/usr/lib/os-release', encoding='utf-8') as f:
        return re.search(r'^VERSION_ID="?([\w.]+)', f.read(), re.M).group(1)


def _spellings(path):
    """dpkg knows a file by the path in its package: /sbin/x where the machine has /usr/sbin/x, or the other way."""
    inside = re.sub('^/usr/', '/', path)
    return [path, inside, '/usr' + inside]


@functools.cache
def _owners():
    """Path -> what dpkg wants to be asked for. Asking dpkg-query once per file would take a hundred times as long."""
    found = {}
    for path in sorted(glob.glob('/var/lib/dpkg/info/*.list')):
        with open(path, encoding='utf-8', errors='surrogateescape') as f:
            found |= dict.fromkeys(f.read().split('\n'), os.path.basename(path).removesuffix('.list'))
    return found


def owner(path):
    """The package that shipped the file; its last symbolic link isn't followed."""
    folder, name = os.path.split(path)
    for spelling in _spellings(os.path.join(os.path.realpath(folder), name)):
        if spelling in _owners():
            return package(_owners()[spelling])
    raise ValueError(f'{path} belongs to no Debian package')


@functools.cache
def package(query):
    return Package(*output('dpkg-query', '-W', '-f', '\\n'.join(f'${{{field}}}' for field in FIELDS), query).split('\n'))


@functools.cache
def control(query):
    """The package's paragraph as a scanner looks for it: without what differs between machines."""
    text = re.sub(r'^Conffiles:\n(?: .*\n)+', '', output('dpkg-query', '-s', query), flags=re.M)
    return re.sub(r'^Status: .*$', 'Status: install ok installed', text, flags=re.M)


@functools.cache
def _checksums(query):
    path = output('dpkg-query', '--control-path', query, 'md5sums').strip()
    if not path:
        raise ValueError(f'{query} came without checksums: whether its files are what it shipped can not be told')
    with open(path, encoding='utf-8') as f:
        return {name: digest for digest, name in (line.rstrip('\n').split('  ', 1) for line in f)}


def read(path):
    """(bytes, Package) of a regular file, which must be as its package shipped it."""
    real = os.path.realpath(path)
    with open(real, 'rb') as f:
        data = f.read()
    who = owner(real)
    sums = _checksums(who.query)
    digests = {sums[s.lstrip('/')] for s in _spellings(real) if s.lstrip('/') in sums}
    if digests != {hashlib.md5(data, usedforsecurity=False).hexdigest()}:
        raise ValueError(f'{real} is not what {who.name} {who.version} shipped; try: apt-get install --reinstall {who.name}')
    return data, who
