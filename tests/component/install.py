#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make install and make uninstall into a DESTDIR: what is there, that the units name it, that uninstall takes away exactly
that, and leaves what an administrator made. TAP on stdout; no root, nothing outside a temporary folder."""
import os
import re
import shutil
import sys

import caselib
from caselib import BIN, ROOT, Skip, program, read, run

POLICIES = ('controller', 'node', 'node-rekey', 'node-tenant', 'scheduler', 'rotation', 'trim')  # where cofferctl vault setup looks
DAEMONS = ('coffer-controller', 'coffer-node', 'coffer-keyd', 'coffer-launch', 'coffer-scheduler')
PROGRAMS = {'sbin': DAEMONS, 'bin': ('cofferctl',), 'libexec/coffer': ('coffer-crypt',)}


# -o all: the programs are the ones that are tested
MAKE = ['make', '-s', '-C', ROOT, f'PROFILE={os.path.basename(BIN)}', f'BUILD={os.path.dirname(BIN)}', '-o', 'all']


def environment():
    return {k: v for k, v in os.environ.items() if not k.startswith(('MAKE', 'MFLAGS'))}


def make(target, destdir, prefix='/usr'):
    run([*MAKE, target, f'DESTDIR={destdir}', f'PREFIX={prefix}'], env=environment(), timeout=600)


def files(folder):
    return sorted(os.path.relpath(os.path.join(d, f), folder) for d, _, names in os.walk(folder) for f in names)


def installed(folder):
    make('install', folder)
    there = files(folder)
    for place, names in PROGRAMS.items():
        for name in names:
            path = os.path.join(folder, 'usr', place, name)
            assert os.access(path, os.X_OK) and f'usr/{place}/{name}' in there, path
    for path in ('usr/lib/systemd/system/coffer-node.service', 'usr/lib/sysusers.d/coffer.conf', 'usr/lib/tmpfiles.d/coffer.conf',
                 'usr/share/man/man1/cofferctl.1', 'usr/share/man/man5/coffer-config.5', 'usr/share/man/man8/coffer-keyd.8',
                 'usr/share/bash-completion/completions/cofferctl', 'usr/share/doc/coffer/config.json',
                 'usr/share/doc/coffer/coffer-keyd-vault.conf', 'usr/share/doc/coffer/launch.json',
                 'usr/share/coffer/vm/server.mjs',
                 'usr/share/coffer/nginx/coffer-clouds.conf', 'usr/lib/systemd/system/coffer-vms.service',
                 *(f'usr/share/coffer/vault/{n}.hcl' for n in POLICIES)):
        assert os.stat(os.path.join(folder, path)).st_mode & 0o7777 == 0o644, path
    assert not any(f.startswith(('etc/', 'var/')) or '.coffer-new' in f for f in there), there
    make('install', folder)
    assert files(folder) == there, 'a second install changes what is there'


def units_name_what_is_there(folder):
    make('install', folder, '/opt/coffer')
    units = os.path.join(folder, 'opt/coffer/lib/systemd/system')
    named = set()
    for name in os.listdir(units):
        text = read(units, name)
        assert '@' not in re.sub(r'modprobe@\w+|~@\w+|=@\w+', '', text), f'{name}: something is not filled in'
        named |= set(re.findall(r'/opt/\S+', text))
    assert len(named) == 6 and all(os.access(folder + path, os.X_OK) for path in named), named


def every_flag_of_a_unit_is_known(folder):
    make('install', folder)
    for name in ('controller', 'node', 'keyd', 'launch', 'scheduler', 'scheduler-keyd'):
        text = read(folder, f'usr/lib/systemd/system/coffer-{name}.service')
        command = re.search(r'^ExecStart=((?:.*\\\n)*.*)$', text, re.M).group(1).replace('\\\n', ' ').split()
        known = run([program(os.path.basename(command[0])), '--help']).stdout
        flags = [word for word in command if word.startswith('--')]
        assert flags and all(f'  {flag} ' in known for flag in flags), (name, flags)


def a_node_without_a_namespace(folder):
    """What it mounts must be seen by everybody; these settings would hide it."""
    make('install', folder)
    hiding = r'^(Protect(System|Home|Kernel\w+|ControlGroups|Proc)|Private\w+|ReadWritePaths|ReadOnlyPaths|InaccessiblePaths|' \
             r'TemporaryFileSystem|Bind\w*Paths|Root\w+|MountFlags|MountAPIVFS|ProcSubset|DynamicUser|\w+Directory)='
    for name in ('node', 'launch'):
        text = read(folder, f'usr/lib/systemd/system/coffer-{name}.service')
        assert not re.search(hiding, text, re.M), re.search(hiding, text, re.M)
        assert re.search(r'^KillMode=(process|mixed)$', text, re.M)


def calls_that_are_needed(folder):
    """RestrictSUIDSGID answers openat2 with ENOSYS; keyd sets a seccomp filter of its own."""
    make('install', folder)
    units = os.path.join(folder, 'usr/lib/systemd/system')
    assert not any(re.search('^RestrictSUIDSGID', read(units, f'coffer-{n}.service'), re.M) for n in ('controller', 'node'))
    assert re.search(r'^SystemCallFilter=.*\bseccomp\b', read(units, 'coffer-keyd.service'), re.M)


def a_pool_stays_its_owner_s(folder):
    """Made for coffer-controller where there is none; that of a node of Kubernetes belongs to the user of its pods, at each boot."""
    if os.geteuid() != 0 or shutil.which('systemd-tmpfiles') is None or shutil.which('systemd-sysusers') is None:
        raise Skip('wants root and systemd')
    make('install', folder)
    pool = os.path.join(folder, 'var/lib/coffer/default')

    os.mkdir(os.path.join(folder, 'etc'))
    run(['systemd-sysusers', f'--root={folder}', f'{folder}/usr/lib/sysusers.d/coffer.conf'])
    only = os.path.join(folder, 'var.conf')
    with open(only, 'w', encoding='ascii') as f:
        f.writelines(line + '\n' for line in read(folder, 'usr/lib/tmpfiles.d/coffer.conf').splitlines() if line.startswith('d /var/'))

    def boot():
        run(['systemd-tmpfiles', f'--root={folder}', '--create', only])
        st = os.stat(pool)
        return st.st_uid, st.st_gid, st.st_mode & 0o7777
    uid, gid, mode = boot()
    assert uid != 0 and gid != 0 and mode == 0o700, (uid, gid, oct(mode))
    assert f':x:{uid}:{gid}:' in read(folder, 'etc/passwd')
    os.chown(pool, 65533, 65532)
    assert boot() == (65533, 65532, 0o700), boot()


def uninstalled(folder):
    own = ['etc/coffer/config.json', 'var/lib/coffer/default/pool.json', 'usr/share/doc/coffer/mine', 'usr/bin/other']
    for path in own:
        os.makedirs(os.path.dirname(os.path.join(folder, path)), exist_ok=True)
        with open(os.path.join(folder, path), 'w', encoding='ascii'):
            pass
    make('install', folder)
    make('uninstall', folder)
    assert files(folder) == sorted(own), files(folder)
    assert not any(os.path.exists(os.path.join(folder, 'usr', gone)) for gone in ('libexec/coffer', 'share/coffer'))
    make('uninstall', folder)
    os.unlink(os.path.join(folder, 'usr/share/doc/coffer/mine'))
    make('uninstall', folder)
    assert not os.path.exists(os.path.join(folder, 'usr/share/doc/coffer')) and os.path.isdir(os.path.join(folder, 'usr/bin'))


def the_package_s_scripts(folder):
    """debian/rules as it is, but for the build: a removal stops every unit, a purge forgets which were enabled, an
    upgrade restarts none."""
    if shutil.which('dh_installsystemd') is None:
        raise Skip('no debhelper')
    shutil.copytree(os.path.join(ROOT, 'debian'), os.path.join(folder, 'debian'))
    run(['make', '-s', '-f', 'debian/rules', f'MAKE_HERE={" ".join(MAKE)} PREFIX=/usr', 'override_dh_auto_install',
         'override_dh_installsystemd'], cwd=folder, env=environment(), timeout=600)
    run(['dh_installdeb'], cwd=folder)
    units = {f.rsplit('/', 1)[1] for f in files(os.path.join(folder, 'debian/coffer')) if f.endswith('.service')}
    enabled = units - {'coffer-vms.service'}
    scripts = {}
    for name in ('preinst', 'postinst', 'prerm', 'postrm'):
        path = os.path.join(folder, 'debian/coffer/DEBIAN', name)
        scripts[name] = read(path) if os.path.exists(path) else ''

    def called(script, verb):
        return {unit for line in scripts[script].splitlines() if verb in line for unit in re.findall(r"'(\S+?)'", line)}
    assert len(units) == 7 and called('prerm', 'deb-systemd-invoke stop') == units, scripts
    assert '"$1" = remove' in scripts['prerm'] and not scripts['preinst'], scripts
    assert called('postrm', 'deb-systemd-helper purge') == enabled and 'daemon-reload' in scripts['postrm'], scripts
    assert 'daemon-reload' in scripts['postinst'] and 'restart' not in scripts['postinst'], scripts
    # of deb-systemd-helper alone, for units that an administrator had enabled before; a start is of enabled units alone
    assert all('was-enabled' in before for before in scripts['postinst'].split('deb-systemd-helper enable')[:-1]), scripts


TESTS = [installed, units_name_what_is_there, every_flag_of_a_unit_is_known, a_node_without_a_namespace, calls_that_are_needed,
         a_pool_stays_its_owner_s, uninstalled, the_package_s_scripts]


sys.exit(caselib.main(TESTS, caselib.folder))
