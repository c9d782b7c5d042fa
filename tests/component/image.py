#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The OCI image of `make image`: two builds are one, the archive is an OCI layout, everything a program needs is inside and
nothing else, the bill of materials has all of it, and the programs work in it. TAP on stdout; no root needed."""
import glob
import json
import os
import re
import sys

import caselib
import imagelib
import keydlib
from caselib import ROOT, Skip, read, run
from imagelib import EPOCH, REVISION, inside, sha256

sys.path.insert(0, os.path.join(ROOT, 'deploy/image'))
import debian  # noqa: E402
import elf  # noqa: E402
import licence  # noqa: E402

MOST = 40 << 20
OWN = ('/usr/sbin/coffer-controller', '/usr/sbin/coffer-node', '/usr/sbin/coffer-keyd', '/usr/bin/cofferctl',
       '/usr/libexec/coffer/coffer-crypt')
SHELLS = r'(ba|da|z|k|c|tc|a|fi)?sh|busybox|toybox|apt(-\w+)?|dpkg(-\w+)?|rpm|perl.*|python.*|env|su|sudo|mount|chroot|nologin'
KEYD = '65532:65532'


class Rig:
    folder, image, root = None, None, None


def build(folder, **more):
    where = os.path.join(Rig.folder, folder)
    said = imagelib.make(where, **more)
    return imagelib.Image(where), said


# ---- the archive ----

def two_builds_are_one():
    """Another folder, time zone, hash seed and umask; the clone of a checkout in another place is the story image's."""
    old = os.umask(0o077)
    try:
        other, said = build('other', TZ='Asia/Tokyo', PYTHONHASHSEED='7', LC_ALL='C', HOME='/nonexistent')
    finally:
        os.umask(old)
    digest = Rig.image.index['manifests'][0]['digest']
    assert other.archive == Rig.image.archive and other.sbom == Rig.image.sbom and digest in said, said
    assert read(Rig.folder, 'other/digest') == digest + '\n'


def an_oci_layout():
    image = Rig.image
    assert json.loads(image.outer['oci-layout']) == {'imageLayoutVersion': '1.0.0'}
    assert image.config['rootfs'] == {'type': 'layers', 'diff_ids': [sha256(image.layer)]}
    assert (image.config['architecture'], image.config['os']) == ('amd64', 'linux')
    assert len(image.manifest['layers']) == 1 and len(image.index['manifests']) == 1
    for name, data in image.outer.items():
        assert not name.startswith('blobs/') or name == 'blobs/' + sha256(data).replace(':', '/'), name
    docker, = json.loads(image.outer['manifest.json'])
    assert sha256(image.outer[docker['Config']]) == image.manifest['config']['digest']
    assert [image.outer[layer] for layer in docker['Layers']] == [image.compressed]


def named_for_all_who_import():
    version = run([caselib.program('cofferctl'), '--version']).stdout.split()[1]
    names = Rig.image.index['manifests'][0]['annotations']
    assert names == {'io.containerd.image.name': f'docker.io/library/coffer:{version}',
                     'org.opencontainers.image.ref.name': f'coffer:{version}'}
    assert json.loads(Rig.image.outer['manifest.json'])[0]['RepoTags'] == [f'coffer:{version}']
    labels = Rig.image.config['config']['Labels']
    assert labels == Rig.image.manifest['annotations']
    for name, value in (('version', version), ('revision', REVISION), ('created', '2023-11-14T22:13:20Z'), ('title', 'Coffer')):
        assert labels['org.opencontainers.image.' + name] == value, (name, labels)
    assert labels['dev.coffer.profile'] == os.path.basename(caselib.BIN)
    assert labels['dev.coffer.sbom.digest'] == sha256(Rig.image.sbom)


def small_enough():
    assert len(Rig.image.archive) < MOST, len(Rig.image.archive)


def root_alone_may_write():
    names = [m.name for m in Rig.image.entries]
    assert names == sorted(names) and len(set(names)) == len(names)
    for m in [*Rig.image.entries, *Rig.image.members]:
        assert (m.uid, m.gid, m.uname, m.gname, m.mtime) == (0, 0, '', '', EPOCH), m.name
        assert m.isfile() or m.isdir() or m.issym(), m.name
        assert m.issym() or m.mode in (0o755, 0o644), (m.name, oct(m.mode))


# ---- what is inside ----

def no_shell_and_no_package_manager():
    for name, data in Rig.image.files.items():
        assert not re.fullmatch(SHELLS, os.path.basename(name)), name
        assert not data.startswith(b'#!'), f'{name} is a script'
    for m in Rig.image.entries:
        if m.isfile() and m.mode & 0o111:
            assert elf.parse(Rig.image.files[m.name]), f'{m.name} may be run and is no program'


def every_library_is_inside():
    folders, count = ('/lib/x86_64-linux-gnu', '/usr/lib/x86_64-linux-gnu', '/lib', '/usr/lib'), 0
    for name, data in Rig.image.files.items():
        what = elf.parse(data)
        if what is None:
            continue
        count += 1
        assert not what.interpreter or Rig.image.has(what.interpreter), (name, what.interpreter)
        for library in what.needed:
            assert any(Rig.image.has(f'{folder}/{library}') for folder in folders), f'{name} needs {library}'
    assert count > 40, count


def no_library_that_nobody_needs():
    needed = {library for data in Rig.image.files.values() for library in (elf.parse(data) or elf.Elf()).needed}
    there = {os.path.basename(n) for n in [*Rig.image.files, *Rig.image.links] if '.so' in n}
    led_to = {os.path.basename(target) for target in Rig.image.links.values()}
    loose = there - needed - led_to - {'ld-linux-x86-64.so.2', 'libgcc_s.so.1'}
    assert not loose, loose


def every_program_that_coffer_starts_is_inside():
    named = set()
    for path in [*glob.glob(os.path.join(ROOT, 'node/*.c')), *glob.glob(os.path.join(ROOT, 'cofferctl/*.c'))]:
        named |= set(re.findall(r'"(/(?:usr/)?(?:s?bin|libexec)/[^"]+)"', read(path)))
    assert {'/sbin/mkfs.ext4', '/sbin/mkfs.xfs', '/sbin/mkfs.btrfs', '/usr/libexec/coffer/coffer-crypt'} <= named, named
    for path in [*named, *OWN]:
        assert Rig.image.has(path), f'{path} is not in the image'


def every_link_leads_somewhere():
    folders = {m.name for m in Rig.image.entries if m.isdir()}
    for name in Rig.image.links:
        assert Rig.image.resolve(name) in folders | set(Rig.image.files), (name, Rig.image.links[name])


def no_trace_of_the_machine_that_built_it():
    for name, data in Rig.image.files.items():
        assert ROOT.encode() not in data and Rig.folder.encode() not in data, name


# ---- the bill of materials ----

def the_bill_names_every_file():
    bill = json.loads(Rig.image.sbom)
    assert (bill['spdxVersion'], bill['dataLicense']) == ('SPDX-2.3', 'CC0-1.0')
    sums = {f['fileName'].removeprefix('./'): {c['algorithm']: c['checksumValue'] for c in f['checksums']} for f in bill['files']}
    assert {name: sha256(data) for name, data in Rig.image.files.items()} == {n: 'sha256:' + s['SHA256'] for n, s in sums.items()}
    ids = [x['SPDXID'] for x in [*bill['packages'], *bill['files']]]
    assert len(set(ids)) == len(ids)
    known = {*ids, 'SPDXRef-DOCUMENT'}
    assert all({r['spdxElementId'], r['relatedSpdxElement']} <= known for r in bill['relationships'])
    contained = [r['relatedSpdxElement'] for r in bill['relationships'] if r['relationshipType'] == 'CONTAINS']
    assert sorted(contained) == sorted(f['SPDXID'] for f in bill['files']), 'a file has no package, or two'


def the_bill_names_every_package():
    bill = json.loads(Rig.image.sbom)
    by_name = {p['name']: p for p in bill['packages']}
    linked = {r['relatedSpdxElement'] for r in bill['relationships'] if r['relationshipType'] == 'STATIC_LINK'}
    for name in ('libc6', 'libcryptsetup12', 'libcurl4', 'libssl3', 'e2fsprogs', 'xfsprogs', 'btrfs-progs'):
        p = by_name[name]
        assert p['versionInfo'] == run(['dpkg-query', '-W', '-f', '${Version}', name]).stdout, name
        assert p['externalRefs'][0]['referenceLocator'].startswith(f'pkg:deb/debian/{name}@') and p['filesAnalyzed'], p
    for name in ('libgrpc-dev', 'libprotobuf-c-dev'):  # no file of theirs is there, their code is, in our programs
        assert by_name[name]['SPDXID'] in linked, name
    assert by_name['coffer']['licenseDeclared'] == 'Apache-2.0'
    own = {r for p in bill['packages'] for r in re.findall(r'LicenseRef-[\w.-]+', p['licenseDeclared'])}
    assert own == {i['licenseId'] for i in bill['hasExtractedLicensingInfos']}
    for name in by_name.keys() - {'coffer'}:
        assert f'var/lib/dpkg/status.d/{name}' in Rig.image.files and f'usr/share/doc/{name}/copyright' in Rig.image.files, name


def licences_as_spdx_says_them():
    for debian_name, spdx in (('GPL-2+', 'GPL-2.0-or-later'), ('LGPL-2.1', 'LGPL-2.1-only'), ('Expat', 'MIT'),
                              ('bsd-3-clause', 'BSD-3-Clause'), ('GPL-3+ or Artistic', 'GPL-3.0-or-later OR Artistic-1.0-Perl'),
                              ('odd thing+', 'LicenseRef-odd-thing-or-later'), ('MIT or X11, and ISC', '(MIT OR X11) AND (ISC)')):
        assert licence.expression(debian_name) == spdx, (debian_name, licence.expression(debian_name))
    text = 'Format: x\n\nFiles: *\nLicense: GPL-2 or MIT\n\nFiles: a\nLicense: MIT and Odd\n\nLicense: Unused\n text\n'
    assert licence.declared(text) == ('(GPL-2.0-only OR MIT) AND LicenseRef-Odd AND MIT', {'LicenseRef-Odd': 'Odd'})
    assert licence.declared('This is free software.\n') == ('NOASSERTION', {})


def a_changed_file_is_refused():
    """What goes in is what Debian shipped: an administrator's own mkfs doesn't."""
    assert debian.read('/sbin/mkfs.ext4')[1].name == 'e2fsprogs'
    sums = debian._checksums('e2fsprogs')  # pylint: disable=protected-access
    kept = dict(sums)
    try:
        sums.update(dict.fromkeys(sums, '0' * 32))
        debian.read('/sbin/mkfs.ext4')
        raise AssertionError('a file that its package did not ship was taken')
    except ValueError as e:
        assert 'mke2fs is not what e2fsprogs' in str(e), e
    finally:
        sums.update(kept)


# ---- the programs at work ----

def own_programs_start():
    for path in OWN:
        name = os.path.basename(path)
        assert inside(Rig.root, path, '--version').stdout.split()[0] == name, path
    for name in ('coffer-controller', 'coffer-node', 'coffer-keyd', 'cofferctl'):  # pods needn't know the folder
        assert inside(Rig.root, name, '--help').stdout.strip(), name
    inside(Rig.root, *Rig.image.config['config']['Cmd'])


def file_systems_are_made_and_checked():
    with caselib.folder() as work:
        for fs, size, make, check in (('ext4', 64, 'mkfs.ext4 -q -F', 'e2fsck -f -n'), ('xfs', 400, 'mkfs.xfs -q', 'xfs_repair -n'),
                                      ('btrfs', 256, 'mkfs.btrfs -q', 'btrfs check --readonly')):
            with open(os.path.join(work, fs), 'wb') as f:
                f.truncate(size << 20)
            for command in (make, check):
                inside(Rig.root, *command.split(), f'/run/{fs}', binds=[(work, 'run')])
        inside(Rig.root, 'tune2fs', '-l', '/run/ext4', binds=[(work, 'run')])
        os.truncate(os.path.join(work, 'ext4'), 96 << 20)
        inside(Rig.root, 'resize2fs', '/run/ext4', binds=[(work, 'run')])
        inside(Rig.root, 'dumpe2fs', '-h', '/run/ext4', binds=[(work, 'run')])
    inside(Rig.root, 'xfs_growfs', '-V')


def ext4_is_made_as_on_a_host():
    """Without /etc/mke2fs.conf: the same features as with Debian's."""
    if imagelib.why_not():
        raise Skip(imagelib.why_not())
    said = []
    with caselib.folder() as work:
        for command in (['/sbin/mkfs.ext4'], imagelib.enter(Rig.root, '/sbin/mkfs.ext4', binds=[(work, 'run')])):
            host = len(command) == 1
            with open(os.path.join(work, 'disk'), 'wb') as f:
                f.truncate(64 << 20)
            run([*command, '-q', '-F', '-m', '0', '-O', 'metadata_csum,metadata_csum_seed', f'{work if host else "/run"}/disk'])
            text = run(['/sbin/dumpe2fs', '-h', os.path.join(work, 'disk')]).stdout
            said.append(re.findall(r'^(?:Filesystem features|(?:Inode|Block|Total journal) size|Inode count):.*$', text, re.M))
    assert said[0] == said[1] and len(said[0]) > 3, said


def configuration(folder, uri):
    pool = {'backend': 'file', 'path': '/var/lib/coffer/default', 'kms': ['dev'], 'allocate': 'full'}
    value = {'pools': {'default': pool}, 'default_tenant': 'lab', 'kms': {'dev': {'uri': uri}}}
    caselib.write(os.path.join(folder, 'config.json'), value, 0o644)


def the_configuration_is_checked():
    with caselib.folder() as etc:
        os.chmod(etc, 0o755)
        configuration(etc, 'file:///etc/coffer/master.key')
        caselib.write_key(os.path.join(etc, 'master.key'))
        for who in ('', KEYD) if os.geteuid() == 0 else ('',):
            inside(Rig.root, 'cofferctl', 'config', 'check', binds=[(etc, 'etc/coffer')], user=who)
        caselib.write(os.path.join(etc, 'config.json'), {'pools': {}, 'kms': {}, 'surplus': 1})
        assert 'surplus' in inside(Rig.root, 'cofferctl', 'config', 'check', binds=[(etc, 'etc/coffer')], code=1).stderr


def keyd_answers(allow, ask, uri='file:///etc/coffer/master.key', *more):
    """coffer-keyd in the image as its own user, read-only root; ask: gets the socket's path, and the log's."""
    if imagelib.why_not() or os.geteuid():
        raise Skip(imagelib.why_not() or 'only root can become another user')
    uid = int(KEYD.split(':', maxsplit=1)[0])
    with caselib.folder() as etc, caselib.folder() as sockets:
        configuration(etc, uri)
        caselib.write_key(os.path.join(etc, 'master.key'))
        for path in (etc, sockets, os.path.join(etc, 'master.key')):
            os.chown(path, uid, uid)
        log, socket = os.path.join(etc, 'log'), os.path.join(sockets, 'keyd.sock')
        command = ['coffer-keyd', *caselib.keyd_flags('/etc/coffer/config.json', '/run/keyd.sock', allow, peer='root:root'), *more]
        p = caselib.spawn(imagelib.enter(Rig.root, *command, binds=[(etc, 'etc/coffer'), (sockets, 'run')], user=KEYD), log, socket)
        try:
            ask(socket)
            return caselib.stop(p), read(log)
        finally:
            caselib.end(p)


def keyd_works_as_its_own_user():
    def ask(socket):
        with keydlib.Client(socket) as c:
            assert c.ask(keydlib.frame(keydlib.STATUS, 1000)).code == 'OK'
            keydlib.open_key(c, keydlib.new_key(c))
    code, log = keyd_answers('MINT,UNWRAP,STATUS', ask)
    assert code == 0 and 'coffer-keyd is ready' in log, (code, log)


TESTS = [two_builds_are_one, an_oci_layout, named_for_all_who_import, small_enough, root_alone_may_write,
         no_shell_and_no_package_manager, every_library_is_inside, no_library_that_nobody_needs, every_program_that_coffer_starts_is_inside,
         every_link_leads_somewhere, no_trace_of_the_machine_that_built_it, the_bill_names_every_file, the_bill_names_every_package,
         licences_as_spdx_says_them, a_changed_file_is_refused, own_programs_start, file_systems_are_made_and_checked,
         ext4_is_made_as_on_a_host, the_configuration_is_checked, keyd_works_as_its_own_user]


def main():
    if caselib.sanitized('coffer-keyd'):
        print('1..1\nok 1 - image # SKIP a sanitizer\'s build is for no image')
        return 0
    with caselib.folder('coffer-image-') as Rig.folder:
        Rig.image, _ = build('image')
        Rig.root = Rig.image.unpack(os.path.join(Rig.folder, 'root'))
        return caselib.main(TESTS)


sys.exit(main())
