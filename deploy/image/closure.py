# SPDX-License-Identifier: Apache-2.0
"""Which shared libraries programs need, directly or by another library, as the dynamic linker of this machine would find
them; and which archives were linked into a program, from the linker's map."""
import os
import re

import elf

# The default folders of Debian's ld.so; what /etc/ld.so.conf adds isn't in the image, which has no ld.so.cache.
FOLDERS = ('/lib/{multiarch}', '/usr/lib/{multiarch}', '/lib', '/usr/lib')
MEMBER = re.compile(r'^(/\S+\.a)\(\S+\)$', re.M)


def find(name, multiarch):
    for folder in FOLDERS:
        path = os.path.join(folder.format(multiarch=multiarch), name)
        if os.path.exists(path):
            return path
    raise FileNotFoundError(f'{name} is in none of {", ".join(FOLDERS).format(multiarch=multiarch)}')


def libraries(programs, multiarch):
    """Paths of all libraries and of the dynamic linker, sorted. programs: paths of ELF files; others are an error."""
    found, look_at = set(), list(programs)
    while look_at:
        path = look_at.pop()
        what = elf.read(path)
        if what is None:
            raise ValueError(f'{path} is no ELF file: the image has no interpreter for it')
        if what.runpath:
            raise ValueError(f'{path} looks for libraries in {what.runpath}, which the image does not have')
        wanted = [find(name, multiarch) for name in what.needed] + ([what.interpreter] if what.interpreter else [])
        new = set(wanted) - found
        found |= new
        look_at += new
    return sorted(found)


def archives(program):
    """The system's static archives of which something is in the program; needs the linker's map beside it."""
    with open(program + '.map', encoding='utf-8', errors='replace') as f:
        return sorted({os.path.realpath(path) for path in MEMBER.findall(f.read())})
