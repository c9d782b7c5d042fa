#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""lint-symbols.py RELEASE_FOLDER: the privilege border as a fact of the linker. The programs that parse CSI hold no
symbol of a library that handles keys or speaks TLS, and the other way round; the release has no test hooks."""
import glob
import os
import re
import sys

import lintlib

LIBRARY_PATH = '/usr/lib/x86_64-linux-gnu'
# program -> libraries it must not contain, statically or dynamically
BORDER = {
    'coffer-node': ('libcryptsetup', 'libcurl', 'libcurl-gnutls', 'libssl', 'libcrypto'),
    'coffer-controller': ('libcryptsetup', 'libcurl', 'libcurl-gnutls', 'libssl', 'libcrypto'),
    'coffer-keyd': ('libgrpc', 'libgrpc_unsecure', 'libgrpc++', 'libprotobuf-c', 'libprotobuf'),
    'coffer-crypt': ('libgrpc', 'libgrpc_unsecure', 'libgrpc++', 'libprotobuf-c', 'libprotobuf'),
    'coffer-launch': ('libcryptsetup', 'libcurl', 'libcurl-gnutls', 'libssl', 'libcrypto', 'libgrpc', 'libgrpc_unsecure', 'libprotobuf-c'),
    'coffer-scheduler': ('libcryptsetup', 'libdevmapper'),
    'cofferctl': ('libcryptsetup',),
}
LINKER_OWN = {'_init', '_fini', '_edata', '_end', '__bss_start'}
HOOKS = re.compile(rb'fault_point|(?<![a-z])fault_malloc|COFFER_FAULT_DIR|leak_data|leak_pipe')  # libcrypto has default_malloc


def exported(library):
    """Names that the installed library offers; a library that is not installed can't have been linked."""
    names = set()
    for path in glob.glob(f'{LIBRARY_PATH}/{glob.escape(library)}.so*')[:1]:
        for line in lintlib.output('nm', '-D', '--defined-only', path).splitlines():
            names.add(line.split()[-1].split('@')[0])
    for path in glob.glob(f'{LIBRARY_PATH}/{glob.escape(library)}.a'):
        for line in lintlib.output('nm', '--defined-only', '--extern-only', path).splitlines():
            fields = line.split()
            if len(fields) == 3 and fields[1] in 'TDBRC':  # not weak ones: inline C++ code is everybody's
                names.add(fields[2])
    return names - LINKER_OWN


def symbols(program):
    """Every name in the program: defined, local or wanted from a shared library."""
    lines = lintlib.output('nm', program).splitlines() + lintlib.output('nm', '-D', program).splitlines()
    return {line.split()[-1].split('@')[0] for line in lines if line.split()}


def linked(program):
    """Library names without suffix, from the dynamic section and from the linker's map."""
    names = re.findall(r'\(NEEDED\).*\[([^\]]+)\]', lintlib.output('readelf', '-d', program))
    with open(program + '.map', encoding='utf-8', errors='replace') as f:
        names += re.findall(r'^LOAD (\S+)$', f.read(), re.M)
    return {re.sub(r'\.(a|so[.0-9]*)$', '', os.path.basename(name)) for name in names}


def check_border(folder):
    findings = []
    for program, libraries in BORDER.items():
        path = f'{folder}/{program}'
        have, with_libraries = symbols(path), linked(path)
        if len(have) < 100:
            findings.append(f'{path} is stripped: nothing can be proved of it.')
        for library in libraries:
            if library in with_libraries:
                findings.append(f'{path} is linked with {library}.')
            if shared := sorted(exported(library) & have):
                findings.append(f'{path} holds {len(shared)} symbols of {library}, such as {", ".join(shared[:3])}.')
    return findings


def check_hooks(folder):
    findings = []
    for program in BORDER:
        with open(f'{folder}/{program}', 'rb') as f:
            if match := HOOKS.search(f.read()):
                findings.append(f'{folder}/{program} is a release and contains {match.group().decode()}.')
    return findings


def check_hardening(folder):
    findings = []
    for program in BORDER:
        header = lintlib.output('readelf', '-hldW', f'{folder}/{program}')
        for want, what in ((r'Type:\s+DYN', 'position independent'), (r'GNU_RELRO', 'relocated read-only'),
                           (r'BIND_NOW|FLAGS_1.*\bNOW\b', 'bound at start'), (r'GNU_STACK.*\bRW\b', 'free of an executable stack')):
            if not re.search(want, header):
                findings.append(f'{folder}/{program} is not {what}.')
    return findings


if len(sys.argv) != 2:
    sys.exit(__doc__)
lintlib.finish(check_border(sys.argv[1]) + check_hooks(sys.argv[1]) + check_hardening(sys.argv[1]))
