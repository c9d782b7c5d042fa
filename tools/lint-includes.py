#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""lint-includes.py: who may include whom, and calls that nobody may make. The table is ARCHITECTURE.md's."""
import os
import re

import lintlib

CLIENTS = ('keyd/client.h', 'crypt/client.h')
DAEMON = ('csi/api.h', 'csi/server.h', 'csi/keeper.h', 'csi/endpoint.h', 'csi/stats.h', 'backends/', 'volume/', 'common/', *CLIENTS)
# folder -> what it may include beside itself: folders (with a slash) and single headers
ALLOWED = {
    'common': (),
    'volume': ('common/',),
    'recipient': ('common/',),
    'backends': ('volume/', 'common/'),
    'csi': ('common/',),
    'crypt': ('recipient/', 'volume/', 'common/', 'keyd/frame.h'),  # the frame: keyd writes it, coffer-crypt reads it
    'http': ('common/',),
    'vault': ('http/', 'common/'),
    'keyd': ('vault/', 'recipient/', 'volume/', 'common/'),
    'controller': DAEMON,
    'node': DAEMON,
    'device': ('recipient/', 'volume/', 'common/'),
    'launch': ('common/',),
    'scheduler': ('http/', 'recipient/publickey.h', 'recipient/wrap.h', 'csi/client.h', 'keyd/client.h', 'volume/', 'common/'),
    'e2e': (),  # programs that run in the tests' pods
    'cofferctl': ('device/', 'vault/', 'http/', 'recipient/publickey.h', 'recipient/wrap.h', 'backends/', 'volume/', 'common/',
                  'csi/client.h', *CLIENTS),
}
# system header -> the folders that may know it (their unit tests too)
OWNED = (
    (re.compile(r'(grpc/|protobuf-c/|.*\.pb-c\.h$)'), ('csi',)),
    (re.compile(r'(libcryptsetup|libdevmapper|blkid/blkid)'), ('crypt',)),
    (re.compile(r'openssl/'), ('crypt', 'device', 'http', 'keyd', 'recipient', 'scheduler')),
    (re.compile(r'seccomp\.h'), ('crypt', 'keyd', 'launch')),
    (re.compile(r'(microhttpd\.h|gnutls/)'), ('scheduler',)),
    (re.compile(r'curl/'), ('http',)),
)
BANNED = (  # call, why, files that may; in code, not in tests; common/base.h bans more, by name
    (r'\bcrypt_init_by_name\s*\(', 'reads the header from the disk again; use crypt_init_by_name_and_header'),
    (r'\bcrypt_deactivate(_by_name)?\s*\(\s*NULL\b', 'reads the header from the disk; close by libdevmapper'),
    (r'\b(fork|vfork)\s*\(', 'does not go with threads; use common/proc.h'),
    # a VM is born in namespaces and a control group, which posix_spawn can't do; coffer-launch has one thread
    (r'\b(SYS_clone3?|clone3?\s*\()', 'does not go with threads; launch/clone.c is the one place', 'launch/clone.c'),
    (r'\b(gets|alloca|tmpnam|mktemp)\s*\(', 'has no safe use'),
    (r'\b(atol|atoll)\s*\(', 'does not report bad input; use common/parse.h'),
    (r'\b(rand|random|srand|drand48)\s*\(', 'is no source of randomness; use getrandom'),
    # (of what clang-tidy's concurrency-mt-unsafe names, these have one buffer for all threads)
    (r'\b(localtime|gmtime|asctime|ctime|getpwnam|getpwuid|getgrnam|getgrgid|strsignal|ptsname|ttyname|inet_ntoa|gethostbyname|'
     r'dirname|basename|getlogin|setlocale|putenv)\s*\(', 'is not for programs with threads; take the one that ends in _r'),
)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+(?:"([^"]+)"|<([^>]+)>)', re.M)


def folder_of(path):
    """The folder whose rules hold: for a unit test the one it tests; None for other tests, which may use any."""
    parts = path.split('/')
    if parts[0] != 'tests':
        return parts[0]
    return parts[2] if parts[1] == 'unit' and len(parts) > 3 else None


def check_project(path, folder, name):
    if not os.path.isfile(name):
        return f'{path} includes "{name}", which is no path from the root of the tree.'
    test = path.startswith('tests/')
    if folder is None or name.startswith(folder + '/') or (test and name.startswith('tests/')):
        return None
    allowed = ALLOWED[folder]
    if any(name == a or (a.endswith('/') and name.startswith(a)) for a in allowed):
        return None
    return f'{path} includes "{name}": {folder}/ may include {", ".join(allowed) or "nothing of the project"} only.'


def check_system(path, folder, name):
    for pattern, owners in OWNED:
        if pattern.match(name) and folder is not None and folder not in owners:
            return f'{path} includes <{name}>, which is for {" and ".join(owners) or "nobody"} only.'
    return None


def check_own_header_first(path, names):
    own = path[:-2] + '.h'
    first = [name for name in names if name != 'common/base.h'][:1]
    if path.endswith('.c') and os.path.isfile(own) and first != [own]:
        return f'{path} does not include its own header "{own}" first.'
    return None


def check_includes(path, text):
    folder = folder_of(path)
    if folder is not None and folder not in ALLOWED:
        return [f'{path}: the folder {folder}/ has no row in the table of tools/lint-includes.py.']
    found, names = [], []
    for match in INCLUDE.finditer(text):
        project, system = match.groups()
        names.append(project or system)
        if project and project.endswith('.pb-c.h'):
            project, system = None, project
        found.append(check_project(path, folder, project) if project else check_system(path, folder, system))
    found.append(check_own_header_first(path, names))
    return [f for f in found if f]


def check_calls(path, text):
    if path.startswith('tests/'):
        return []
    code = lintlib.code(text)
    return [f'{path}:{lintlib.line_of(code, m.start())}: {m.group().strip()} is banned: it {why}.'
            for pattern, why, *where in BANNED if path not in where for m in re.finditer(pattern, code)]


def main():
    findings = []
    for path in lintlib.tracked('*.c', '*.h'):
        text = lintlib.read(path)
        findings += check_includes(path, text) + check_calls(path, text)
    lintlib.finish(findings)


main()
