#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cofferctl record backup|restore, volume locate and node reconcile as a real process: exact sentences, what is written and
what is refused, in a real folder; reconcile against a pretending coffer-node (csi-fake). TAP on stdout; no root."""
import fcntl
import json
import os
import re
import shutil
import stat
import sys

import caselib
import ctllib
from caselib import Skip, on_terminal, read
from ctllib import CTL, UUID, sentence

SIZE = 16 << 20
HEADER = 4 << 20


class Volume:
    """A volume's place with record, lock and (sparse) image, and a backup beside the pool."""

    def __init__(self, box, name='pvc-1', **changes):
        self.box = box
        self.id = box.record(box.init() if not os.path.exists(box.pool) else self.tag(box), name, **{'size': SIZE, **changes})
        self.place = os.path.join(box.pool, 'volumes', self.id.rsplit('.', 1)[1][:2], self.id.rsplit('.', 1)[1])
        self.path = os.path.join(self.place, 'record.json')
        self.backup = os.path.join(box.root, name + '.backup')
        with open(os.path.join(self.place, 'lock'), 'wb'):
            pass
        with open(os.path.join(self.place, 'image'), 'wb') as f:
            f.truncate(SIZE + HEADER)

    @staticmethod
    def tag(box):
        return json.loads(read(box.pool, 'pool.json'))['id'][:8]

    def text(self):
        return read(self.path)

    def write(self, text):
        caselib.write(self.path, text)

    def make_backup(self):
        return self.box.run('record', 'backup', self.id, '--to', self.backup)

    def restore(self, *more, code=0):
        return self.box.run('record', 'restore', self.id, '--from', self.backup, *more, code=code)

    def refused(self, *words, **kw):
        before = self.text() if os.path.exists(self.path) else None
        p = self.restore('--yes', code=1, **kw)
        lines = [line for line in p.stderr.splitlines() if '"audit"' not in line]  # an attempt is audited
        assert len(lines) == 1 and all(w in lines[0] for w in words), p.stderr
        assert (self.text() if os.path.exists(self.path) else None) == before, 'a refused restore changed the record'


def usage_errors(b):
    cases = [(['record', 'backup'], 'ID is missing: cofferctl record backup ID'),
             (['record', 'backup', 'x'], '--to is needed: the file to write'),
             (['record', 'restore', 'x'], '--from is needed: the backup to read'),
             (['volume', 'locate'], 'ID is missing: cofferctl volume locate ID'),
             (['node', 'reconcile', 'x'], "there are too many arguments for 'cofferctl node reconcile'"),
             (['node', 'reconcile', '--dry-run=perhaps'], "flag '--dry-run' must be true or false, not 'perhaps'")]
    for args, want in cases:
        sentence(b.run(*args, code=2, config=False), want)


def backup(b):
    v = Volume(b)
    p = v.make_backup()
    assert read(v.backup) == v.text()
    assert stat.S_IMODE(os.stat(v.backup).st_mode) == 0o600 and p.stdout == ''
    assert f"the record of volume '{v.id}' (state 'ready', generation 4) was written to '{v.backup}'" in p.stderr
    assert f"luksHeaderBackup --header-backup-file FILE '{v.place}/image'" in p.stderr, p.stderr
    p = b.run('record', 'backup', v.id, '--to', v.backup, code=1)
    sentence(p, f"write '{v.backup}': 'pvc-1.backup' is there already")
    os.symlink(v.backup, v.backup + '.link')
    assert 'there already' in b.run('record', 'backup', v.id, '--to', v.backup + '.link', code=1).stderr
    assert not [name for name in os.listdir(b.root) if name.endswith('.tmp')]


def backup_of_what_cannot_be_restored(b):
    v = Volume(b, state='new', digest='', mac='')
    assert "only when it says 'ready'" in v.make_backup().stderr
    v.write('{"v":1,')
    p = b.run('record', 'backup', v.id, '--to', v.backup + '2', code=1)
    assert f"nothing was written: the record of volume '{v.id}' is bad: " in p.stderr and not os.path.exists(v.backup + '2')
    os.unlink(v.path)
    assert 'No such file' in b.run('record', 'backup', v.id, '--to', v.backup + '2', code=1).stderr


def restore_when_gone(b):
    v = Volume(b)
    v.make_backup()
    good = json.loads(v.text())
    os.unlink(v.path)
    p = v.restore('--yes')
    assert json.loads(v.text()) == {**good, 'gen': 5}
    assert f"the record of volume '{v.id}' is restored, at generation 5\n" in p.stderr
    audit = [line for line in p.stderr.splitlines() if '"audit"' in line]
    assert len(audit) == 1 and all(w in audit[0] for w in ('restore-record', v.id, 'gen=5', 'result="OK"')), p.stderr
    assert 'WRAPPEDKEY' not in p.stdout + p.stderr
    assert not os.path.exists(v.backup + '.replaced')
    p = v.restore('--yes')
    sentence(p, f"the record of volume '{v.id}' says all of it already, at generation 5: nothing was written")
    assert json.loads(v.text())['gen'] == 5


def restore_over_unreadable(b):
    v = Volume(b)
    v.make_backup()
    v.write('{"v":1,"gen":41,"state":"ready"}')
    p = v.restore('--yes')
    assert f"what was there before is in '{v.backup}.replaced'" in p.stderr
    assert json.loads(v.text())['gen'] == 42
    assert read(v.backup + '.replaced') == '{"v":1,"gen":41,"state":"ready"}'
    v.write('something else')
    v.refused("can't be kept", '--replaced')
    v.restore('--yes', '--replaced', v.backup + '.2')
    assert read(v.backup + '.2') == 'something else'
    v.write('something else')  # as if a run had been killed after it kept the old one
    v.restore('--yes', '--replaced', v.backup + '.2')


def restore_refusals(b):
    v, other = Volume(b), Volume(b, 'pvc-2')
    v.make_backup()
    other.make_backup()
    good = json.loads(v.text())
    os.rename(v.backup, v.backup + '.good')
    os.rename(other.backup, v.backup)
    v.refused(f"the backup '{v.backup}' is no backup of volume '{v.id}'", "'id'")
    for state in ('new', 'formatting'):
        caselib.write(v.backup, {**good, 'state': state, 'digest': '', 'mac': ''})
        for there in (good, '{', None):
            if there is None:
                os.unlink(v.path)
            else:
                v.write(there)
            v.refused(f"the backup's state is '{state}'")
    os.unlink(v.backup)
    v.refused('No such file')
    os.mkfifo(v.backup)
    v.refused('not a regular file')
    os.unlink(v.backup)
    os.rename(v.backup + '.good', v.backup)
    v.write({**good, 'state': 'erased'})
    v.refused('being deleted, which is final')
    v.write({**good, 'uuid': '3f1d6a52-90c4-4e0b-8a77-0c2f5d9e6b41'})
    v.refused('another creation')
    v.write({**good, 'v': 2})
    v.refused('version 2')
    v.write('{"state":"rekeying"}')
    v.refused("'rekeying'")
    os.unlink(v.path)
    os.rename(v.place + '/image', v.place + '/moved')
    v.refused('image is not there')
    with open(v.place + '/image', 'wb') as f:
        f.truncate(SIZE)
    v.refused('bring the whole image back first')
    os.rename(v.place + '/moved', v.place + '/image')
    with open(v.place + '/lock', 'rb') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        v.refused('lock')
    v.restore('--yes')


def restore_without_place_or_pool(b):
    v = Volume(b)
    v.make_backup()
    for name in ('record.json', 'image', 'lock'):
        os.unlink(os.path.join(v.place, name))
    os.rmdir(v.place)
    v.refused('No such file')
    os.rename(b.pool, b.pool + '.away')
    os.mkdir(b.pool)
    v.refused(ctllib.NO_POOL)


def restore_takes_a_grown_size(b):
    v = Volume(b)
    v.make_backup()
    with open(v.place + '/image', 'r+b') as f:
        f.truncate(2 * SIZE + HEADER)
    os.unlink(v.path)
    v.restore('--yes')
    assert json.loads(v.text())['size'] == 2 * SIZE


def restore_asks(b):
    v = Volume(b, 'pvc\x1b[2J')
    v.make_backup()
    os.unlink(v.path)
    sentence(v.restore(code=1), 'there is no terminal to confirm on: use --yes')
    argv = [CTL, 'record', 'restore', v.id, '--from', v.backup, '--config', b.config]
    for wrong in ('no', '', 'Yes', v.id):
        shown, code = on_terminal(argv, wrong)
        assert code == 1 and 'not confirmed: nothing was written' in shown and not os.path.exists(v.path), shown
        assert '\x1b' not in shown and 'pvc?[2J' in shown and 'There is no record now.' in shown, shown
    shown, code = on_terminal(argv, 'yes')
    assert code == 0 and os.path.exists(v.path), shown


def locate(b):
    v = Volume(b)
    st = os.stat(v.place + '/image')
    got = json.loads(b.run('volume', 'locate', v.id, '--output', 'json').stdout)
    assert got['image'] == v.place + '/image' and got['place'] == v.place and got['record'] == 'ready', got
    assert got['size'] == st.st_size and got['allocated'] == st.st_blocks * 512 and got['pool'] == 'fast', got
    assert got['mapping_state'] == 'none' and 'mapping' not in got, got
    lines = dict(re.split(r'  +', line, maxsplit=1) for line in b.run('volume', 'locate', v.id).stdout.splitlines())
    assert lines['image'] == v.place + '/image' and lines['image size'] == '20Mi' and lines['mapping state'] == 'none', lines
    v.write('{"v":1,')
    os.unlink(v.place + '/image')
    got = json.loads(b.run('volume', 'locate', v.id, '--output', 'json').stdout)
    assert got['image'] == 'none' and 'JSON' in got['record'], got
    assert 'No such file' in b.run('volume', 'locate', v.id[:-1] + ('0' if v.id[-1] != '0' else '1'), code=1).stderr


# mounts something, writes down that coffer-crypt lists it as the volume's mapping, and goes on as the rest of its arguments
MAPPING = ('{"mappings":[{"name":"%s","uuid":"%s","dev":"%s","backing":"7:1","size":4096,"open":1,"read_only":false,"discards":false,'
           '"state":"ok","why":""}]}')
MOUNTED = f'''mount -t tmpfs tmpfs "$1" && printf '{MAPPING}' "$2" "$3" "$(mountpoint -d "$1")" >"$4" && shift 4 && exec "$@"'''


def locate_mounted_under_any_name(b):
    """A path is bytes; what is shown is text."""
    v, listed, helper = Volume(b), f'{b.root}/list', f'{b.root}/helper'
    point = os.fsencode(b.root) + b'/not UTF-8: \xff\xc3, a line\nand \xc3\xbc'
    os.mkdir(point)
    caselib.write(helper, f'#!/bin/sh\n[ "$1" = list ] && cat {listed}\n', 0o755)
    name = f'coffer-{v.id.rsplit(".", 1)[1]}-{v.tag(b)}'
    enter = ['unshare', '--mount', *([] if os.geteuid() == 0 else ['--map-root-user']), 'sh', '-c']
    if shutil.which('unshare') is None or caselib.run([*enter, 'mount -t tmpfs tmpfs /mnt'], None).returncode != 0:
        raise Skip('no mount namespace of its own can be made here')
    command = [*enter, MOUNTED, 'sh', point, name, f'CRYPT-LUKS2-{UUID.replace("-", "")}-{name}', listed,
               CTL, 'volume', 'locate', v.id, '--config', b.config, '--crypt-helper', helper]
    got = json.loads(caselib.run([*command, '--output', 'json']).stdout)
    shown = f'{b.root}/not UTF-8: ??, a line?and \xfc'
    assert got['mounts'] == [shown] and got['mapping_state'] == 'ok', got
    said = caselib.run(command).stdout
    assert [line.split(None, 2)[2] for line in said.splitlines() if line.startswith('mounted at')] == [shown], said


def reconcile(b):
    with b.node():
        p = b.run('node', 'reconcile', '--dry-run', '--admin-socket', b.admin)
        assert [line.split()[0] for line in p.stdout.splitlines()] == ['KIND', 'mapping', 'loop'], p.stdout
        assert 'PROBLEM' not in p.stdout
        rows = json.loads(b.run('node', 'reconcile', '--dry-run', '--admin-socket', b.admin, '--output', 'json').stdout)
        assert [r['result'] for r in rows] == ['', ''] and rows[1]['volume_id'] == '', rows
        p = b.run('node', 'reconcile', '--admin-socket', 'unix://' + b.admin, code=1)
        sentence(p, '1 of 3 could not be taken away')
        assert 'as asked' in p.stdout
    p = b.run('node', 'reconcile', '--admin-socket', b.admin + '.none', code=1)
    assert p.stdout == '' and p.stderr.count('\n') == 1, p.stderr


TESTS = [usage_errors, backup, backup_of_what_cannot_be_restored, restore_when_gone, restore_over_unreadable, restore_refusals,
         restore_without_place_or_pool, restore_takes_a_grown_size, restore_asks, locate, locate_mounted_under_any_name, reconcile]

sys.exit(ctllib.main(TESTS))
