#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cofferctl as the client of a host without Kubernetes: create, expand and delete against a real coffer-controller and
coffer-keyd, mount and unmount against a pretending node (csi-fake), what is kept and in which order, exact sentences,
SIGKILL at every point of every verb, bash completion. TAP on stdout; no root, and no dm-crypt (e2e/stories/host.py)."""
import contextlib
import glob
import json
import os
import subprocess
import sys

import caselib
from caselib import ROOT, program, read, wait_for, write

MIB = 1 << 20
NOBODY = 'fast.0a1b2c3d.00112233445566778899aabbccddeeff'


class Box:
    """One host below a folder: pool, key daemon and controller as this user, a pretending node."""

    def __init__(self, root):
        self.root = root
        self.state, self.fault = self.path('state'), self.path('fault')
        self.config, self.keyd = self.path('config.json'), self.path('keyd.sock')
        self.controller_socket, self.node_socket = self.path('controller.sock'), self.path('node.sock')
        os.mkdir(self.fault)
        write(self.config, caselib.configuration(self.path('pool'), self.path('master'), default_tenant='lab'))
        caselib.write_key(self.path('master'))
        self.processes = {}

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def spawn(self, name, socket_path, *argv):
        self.processes[name] = caselib.spawn([program(name), *argv], self.path(name + '.log'), socket_path)

    def start(self):
        self.run('pool', 'init', 'fast', '--config', self.config, flags=False)
        self.spawn('coffer-keyd', self.keyd, *caselib.keyd_flags(self.config, self.keyd, 'MINT'))
        self.start_controller()
        self.spawn('csi-fake', self.node_socket, 'unix://' + self.node_socket)

    def start_controller(self):
        self.spawn('coffer-controller', self.controller_socket,
                   *caselib.controller_flags(self.config, self.controller_socket, self.keyd))

    def stop(self, name):
        caselib.stop(self.processes.pop(name))

    def close(self):
        for name in list(self.processes):
            self.stop(name)

    # ---- calls ----

    def argv(self, group, verb, *args, timeout='60', flags=True):
        argv = [program('cofferctl'), group, verb, *args]
        if flags:
            argv += ['--state-dir', self.state, '--timeout', timeout]
            argv += ['--controller-socket', self.controller_socket] if verb in ('create', 'expand', 'delete') else []
            argv += ['--node-socket', self.node_socket] if verb in ('mount', 'unmount', 'expand') else []
        return argv

    def run(self, *args, code=0, env=None, **kw):
        return caselib.run(self.argv(*args, **kw), code, 300, start_new_session=True, env=dict(os.environ, **(env or {})))

    def refused(self, sentence, *args, code=1, **kw):
        p = self.run(*args, code=code, timeout='1', **kw)
        last = p.stderr.splitlines()[-1]
        assert last == f'cofferctl: {sentence}', (args, p.stderr)
        assert p.stdout == '', p.stdout

    def create(self, name='data', size='16Mi', *more):
        return json.loads(self.run('volume', 'create', name, '--size', size, '--output', 'json', *more).stdout)

    def kept(self, name='data'):
        return json.loads(read(f'{self.state}/volumes/{name}.json'))

    def files(self):
        return sorted(os.listdir(f'{self.state}/volumes'))

    def image(self, name='data'):
        part = self.kept(name)['id'].rsplit('.', 1)[1]
        return self.path('pool', 'volumes', part[:2], part, 'image')

    def mount(self, *args, **kw):
        return self.run('volume', 'mount', *args, **kw)


# ---- create, expand, delete ----

def a_volumes_life(b):
    made = b.create()
    assert made['name'] == 'data' and made['size'] == 16 * MIB, made
    kept = b.kept()
    assert kept['id'] == made['id'] and kept['fs'] == 'ext4' and kept['access_mode'] == 'RWO' and kept['targets'] == [], kept
    assert kept['context']['tenant'] == 'lab' and kept['context']['kms'] == 'dev' and len(kept['context']['uuid']) == 36, kept
    assert os.stat(f'{b.state}/volumes/data.json').st_mode & 0o7777 == 0o600
    b.run('volume', 'expand', 'data', '--size', '20Mi')
    b.run('volume', 'expand', made['id'], '--size', '18Mi')
    assert os.path.getsize(b.image()) == 24 * MIB
    b.run('volume', 'delete', 'data', '--yes')
    assert b.files() == [] and glob.glob(b.path('pool', 'volumes', '*', '*')) == []


def create_repeated(b):
    b.create()
    before = b.kept()
    b.create()
    b.create(size='8Mi')
    assert b.kept() == before
    b.refused("create volume 'data': a volume of this name exists with another size", 'volume', 'create', 'data', '--size', '64Mi')
    b.refused("volume 'data' exists, with --fs ext4 --access-mode RWO", 'volume', 'create', 'data', '--size', '16Mi',
              '--access-mode', 'RWOP')
    assert b.kept() == before


def create_with_parameters(b):
    b.create('a', '16Mi', '--param', 'tenant=team-a', '--param=pool=fast', '--fs', 'none', '--access-mode', 'RWOP')
    kept = b.kept('a')
    assert kept['context']['tenant'] == 'team-a' and kept['fs'] == 'none' and kept['access_mode'] == 'RWOP', kept


def create_with_secrets(b):
    """A key that a device made: what it says goes into the call, and is not kept here; a file that isn't right is never quoted."""
    b.stop('coffer-controller')
    config = json.loads(read(b.config))
    config['pools']['fast']['kms'].append('vault')
    config['kms']['vault'] = {'uri': 'hcvault://127.0.0.1:1/transit/keys/t-{tenant}', 'ca': '/ca', 'server_key': 's-1',
                              'auth': {'method': 'token-file', 'token_path': '/token'}}
    write(b.config, config)
    b.start_controller()
    secrets = {'uuid': '123e4567-e89b-42d3-a456-426614174000', 'commitment': '0123456789abcdef' * 4, 'publicKey': 'MAIBAA==',
               'algorithm': 'RSA-OAEP-256', 'wrapped': 'A' * 340 + 'AA==', 'label': 'phone'}
    more = ('--param', 'kms=vault', '--param', 'keySource=client', '--secrets', b.path('secrets.json'))
    write(b.path('secrets.json'), secrets)
    b.create('data', '16Mi', *more)
    kept = b.kept()
    assert kept['context']['uuid'] == secrets['uuid'], kept
    assert not any(word in json.dumps(kept) for word in (secrets['commitment'], secrets['wrapped'], 'label')), kept
    with open(f'{os.path.dirname(b.image())}/record.json', encoding='utf-8') as f:
        assert json.load(f)['recipients'][0]['wrapped'] == secrets['wrapped']
    b.create('data', '16Mi', *more)
    for text, word in (('{"uuid": "SECRET"', 'is no JSON object of texts'), ('{"uuid": 1}', 'is no JSON object of texts'),
                       ('["SECRET"]', 'is no JSON object of texts'), ('{"uuid": "' + 'x' * 5000 + '"}', 'longer than 4096 bytes')):
        write(b.path('secrets.json'), text)
        p = b.run('volume', 'create', 'more', '--size', '16Mi', *more, code=1)
        assert word in p.stderr and 'SECRET' not in p.stderr and 'xxxx' not in p.stderr, p.stderr
    b.refused(f"--secrets: open '{b.path('none')}': No such file or directory", 'volume', 'create', 'more', '--size', '16Mi',
              *more[:-1], b.path('none'))
    assert 'more.json' not in b.files(), b.files()


def usage_errors(b):
    cases = [
        (['create', 'data'], '--size is needed (4Gi)'),
        (['create', 'data', '--size', '4G'], "--size '4G' is no size: digits, then nothing, Ki, Mi, Gi or Ti"),
        (['create', 'data', '--size', '0'], "--size '0' is no size: digits, then nothing, Ki, Mi, Gi or Ti"),
        (['create', '../x', '--size', '1Gi'], "the name '../x' must be 1 to 63 letters, digits, '.', '_' or '-', and begin with a "
         'letter or digit'),
        (['create', NOBODY, '--size', '1Gi'], f"'{NOBODY}' is a volume's id; choose a name"),
        (['create', 'data', '--size', '1Gi', '--access-mode', 'RWX'], "flag '--access-mode' must be one of RWO|RWOP|ROX, not 'RWX'"),
        (['expand', 'data'], '--size is needed (4Gi)'),
        (['mount', 'data'], 'PATH is missing: cofferctl volume mount VOLUME PATH'),
        (['unmount'], 'VOLUME|PATH is missing: cofferctl volume unmount VOLUME|PATH'),
        (['delete'], 'VOLUME is missing: cofferctl volume delete VOLUME'),
    ]
    for args, sentence in cases:
        b.refused(sentence, 'volume', *args, code=2)
    b.refused("--param 'pool' is not KEY=VALUE", 'volume', 'create', 'data', '--size', '1Gi', '--param', 'pool')
    b.refused("--param 'pool' is given twice", 'volume', 'create', 'data', '--size', '1Gi', '--param', 'pool=a', '--param', 'pool=b')
    assert not os.path.exists(b.state) or b.files() == []


def refusals_of_the_controller(b):
    p = b.run('volume', 'create', 'data', '--size', '16Mi', '--param', 'colour=red', code=1)
    assert "'colour'" in p.stderr and p.stderr.count('\n') == 1, p.stderr
    p = b.run('volume', 'create', 'data', '--size', '999Ti', code=1)
    assert p.stderr.count('\n') == 1, p.stderr
    assert b.files() == [], 'a refused create leaves something'
    b.refused("there is no volume 'data' on this host", 'volume', 'expand', 'data', '--size', '1Gi')
    b.refused("there is no volume 'data' on this host", 'volume', 'delete', 'data', '--yes')
    assert b.files() == [], 'a lock file stays'


def nobody_answers(b):
    b.create()
    b.stop('coffer-controller')
    b.refused(f"coffer-controller doesn't answer at '{b.controller_socket}': No such file or directory",
              'volume', 'expand', 'data', '--size', '20Mi')
    b.stop('csi-fake')
    b.refused(f"coffer-node doesn't answer at '{b.node_socket}': No such file or directory", 'volume', 'mount', 'data', b.path('m'))
    assert [t['path'] for t in b.kept()['targets']] == [b.path('m')], 'a call that will be repeated keeps its place'
    b.start_controller()
    b.run('volume', 'expand', 'data', '--size', '20Mi')


def it_waits_for_a_daemon(b):
    """The daemon comes later than the call."""
    b.create()
    b.stop('coffer-controller')
    with subprocess.Popen(b.argv('volume', 'expand', 'data', '--size', '20Mi', timeout='300'), stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True) as p:
        assert p.stderr.readline().startswith("cofferctl: waiting: coffer-controller doesn't answer at")
        b.start_controller()
        assert p.wait(300) == 0
    assert os.path.getsize(b.image()) == 24 * MIB


def not_what_was_kept(b):
    """The pool's record is untrusted: what CreateVolume said first stays, and another answer is an error."""
    b.create()
    kept = b.kept()
    record = os.path.join(os.path.dirname(b.image()), 'record.json')
    changed = json.loads(read(record))
    changed['uuid'] = '6ba7b810-9dad-41d1-80b4-00c04fd430c8'
    write(record, changed)
    b.refused("volume 'data': coffer-controller's answer has another volume_context than the one that was kept when the volume "
              'was created', 'volume', 'create', 'data', '--size', '16Mi')
    assert b.kept() == kept


def kept_file_damaged(b):
    made = b.create()
    path = f'{b.state}/volumes/data.json'
    write(path, '{"v":1,')
    for args in (('create', 'data', '--size', '16Mi'), ('mount', made['id'], b.path('m')), ('delete', 'data', '--yes'),
                 ('delete', made['id'], '--yes'), ('unmount', b.path('m'))):
        p = b.run('volume', *args, code=1)
        assert path in p.stderr, p.stderr
    assert read(path) == '{"v":1,' and glob.glob(b.path('pool', 'volumes', '*', '*', 'image')), 'something was lost'
    os.unlink(path)
    b.run('volume', 'delete', made['id'], '--yes')
    assert glob.glob(b.path('pool', 'volumes', '*', '*')) == []


def asked(b, typed):
    return caselib.on_terminal(b.argv('volume', 'delete', 'data'), typed)


def delete_asks(b):
    b.create()
    b.refused('there is no terminal to confirm on: use --yes', 'volume', 'delete', 'data')
    for typed in ('yes', '', 'dat', 'dataa'):
        shown, code = asked(b, typed)
        assert code == 1 and 'not confirmed: nothing was deleted' in shown, (code, shown)
    assert b.files() == ['data.json', 'data.lock'] and os.path.exists(b.image())
    shown, code = asked(b, 'data')
    assert code == 0 and 'for ever' in shown and b.files() == [], (code, shown)


# ---- mount and unmount: what is kept, what is left ----

def targets(b):
    return [t['path'] for t in b.kept()['targets']]


def mount_places(b):
    b.create()
    os.mkdir(b.path('there'), 0o751)
    b.mount('data', b.path('there'))
    b.mount(b.kept()['id'], b.path('new'), '--read-only')
    b.mount('data', b.path('there'))
    there, new = b.kept()['targets']
    assert there['kept']['mode'] == 0o751 and there['kept']['uid'] == os.geteuid() and not there['read_only'], there
    assert 'kept' not in new and new['read_only'], new
    assert os.listdir(f'{b.state}/staging') == [b.kept()['id']]
    os.rmdir(b.path('there'))  # as a real node does
    b.run('volume', 'unmount', b.path('there'))
    assert os.stat(b.path('there')).st_mode & 0o7777 == 0o751 and targets(b) == [b.path('new')]
    b.run('volume', 'unmount', 'data')
    assert targets(b) == [] and not os.path.exists(b.path('new')) and os.listdir(f'{b.state}/staging') == []
    b.run('volume', 'unmount', 'data')


def mount_refusals(b):
    b.create()
    b.create('other')
    os.mkdir(b.path('full'))
    write(b.path('full', 'x'), '')
    os.symlink('full', b.path('link'))
    cases = [
        ('data', b.path('full'), f"'{b.path('full')}' is not empty"),
        ('data', b.path('link'), f"'{b.path('full')}' is not empty"),
        ('data', b.path('full', 'x'), f"'{b.path('full', 'x')}' is not a directory"),
        ('data', b.path('no', 'such'), f"the folder of '{b.path('no', 'such')}': No such file or directory"),
        ('data', '/proc', "something is mounted at '/proc'"),
        ('data', '/', "the root directory can't be a mount point of a volume"),
        ('none', b.path('m'), "there is no volume 'none' on this host"),
        (NOBODY, b.path('m'), f"volume '{NOBODY}' was not created by cofferctl on this host"),
    ]
    for volume, path, sentence in cases:
        b.refused(sentence, 'volume', 'mount', volume, path)
    assert targets(b) == []
    b.mount('other', b.path('m'))
    b.refused(f"'{b.path('m')}' is volume 'other''s place: unmount that there first (cofferctl volume unmount other)",
              'volume', 'mount', 'data', b.path('m'))
    b.refused(f"cofferctl mounted no volume at '{b.path('n')}'", 'volume', 'unmount', b.path('n'))


def failing_node(b):
    """A final error takes back what the call kept. (The controller as the node: UNIMPLEMENTED.)"""
    b.create()
    b.mount('data', b.path('first'))
    node, b.node_socket = b.node_socket, b.controller_socket
    p = b.run('volume', 'mount', 'data', b.path('m'), code=1)
    assert 'taking it back' in p.stderr and targets(b) == [b.path('first'), b.path('m')], p.stderr
    b.node_socket = node
    b.run('volume', 'unmount', b.path('m'))
    assert targets(b) == [b.path('first')]
    b.node_socket = b.controller_socket
    p = b.run('volume', 'mount', 'data', b.path('first'), code=1)
    assert 'taking it back' not in p.stderr and targets(b) == [b.path('first')], 'a mount of an earlier call was taken away'
    b.node_socket = node


def targets_of(b, name):
    return [t['path'] for t in b.kept(name)['targets']]


def place_swapped(b):
    """The mount point is given back to its owner, who may have put a link there meanwhile: what that leads to stays as it is."""
    b.create()
    os.mkdir(b.path('there'), 0o755)
    b.mount('data', b.path('there'))
    os.rmdir(b.path('there'))  # as a real node does
    os.mkdir(b.path('aim'), 0o700)
    write(b.path('fault', 'cofferctl.arm'), 'pause cofferctl:unmount:made')
    with subprocess.Popen(b.argv('volume', 'unmount', 'data'), env=dict(os.environ, COFFER_FAULT_DIR=b.fault), text=True,
                          stderr=subprocess.PIPE) as p:
        wait_for(lambda: os.path.exists(b.path('fault', 'cofferctl.paused')), 'cofferctl pauses', p)
        os.rmdir(b.path('there'))
        os.symlink('aim', b.path('there'))
        os.unlink(b.path('fault', 'cofferctl.arm'))
        said = p.communicate(timeout=120)[1]
    assert os.stat(b.path('aim')).st_mode & 0o7777 == 0o700, 'a link was followed'
    assert p.returncode == 1 and f"open '{b.path('there')}', which was just made" in said, said
    os.unlink(b.path('there'))
    b.run('volume', 'unmount', 'data')
    assert targets(b) == [] and os.stat(b.path('there')).st_mode & 0o7777 == 0o755


def two_at_once(b):
    """The second cofferctl waits for the first, or says so."""
    b.create()
    write(b.path('fault', 'cofferctl.arm'), 'pause cofferctl:mount:staged')
    with subprocess.Popen(b.argv('volume', 'mount', 'data', b.path('m')), env=dict(os.environ, COFFER_FAULT_DIR=b.fault)) as p:
        wait_for(lambda: os.path.exists(b.path('fault', 'cofferctl.paused')), 'cofferctl pauses', p)
        b.refused("another cofferctl is working on volume 'data'", 'volume', 'delete', 'data', '--yes')
        os.unlink(b.path('fault', 'cofferctl.arm'))
        assert p.wait(120) == 0
    b.run('volume', 'unmount', 'data')


# ---- killed at every point ----

def armed(b, order, *args, code):
    write(b.path('fault', 'cofferctl.trace'), '')
    write(b.path('fault', 'cofferctl.arm'), order)
    b.run('volume', *args, code=code, env={'COFFER_FAULT_DIR': b.fault})
    os.unlink(b.path('fault', 'cofferctl.arm'))
    return read(b.path('fault', 'cofferctl.trace')).split()


def sweep(b, before, args, check, over=''):
    """over: what the repeated call may say when the killed one had got to its end."""
    before()
    points = armed(b, 'record', *args, code=0)
    check()
    for number, point in enumerate(points, 1):
        before()
        armed(b, f'kill {number}', *args, code=-9)
        p = b.run('volume', *args, code=None)
        assert p.returncode == 0 or (over and over in p.stderr), (point, p.stderr)
        check()
    return len(points)


def kill_sweep(b):
    path = b.path('place')

    def absent():
        if os.path.exists(f'{b.state}/volumes/k.json'):
            b.run('volume', 'unmount', 'k')
            b.run('volume', 'delete', 'k', '--yes')

    def present():
        absent()
        b.create('k')
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o755)

    def mounted():
        present()
        b.mount('k', path)
        os.rmdir(path)  # the pretending node takes nothing away

    def is_mounted():
        assert targets_of(b, 'k') == [path]

    def is_unmounted():
        assert targets_of(b, 'k') == [] and os.path.isdir(path) and os.listdir(f'{b.state}/staging') == []

    def is_deleted():
        assert b.files() in ([], ['k.lock']) and glob.glob(b.path('pool', 'volumes', '*', '*')) == [], b.files()

    counts = (sweep(b, absent, ('create', 'k', '--size', '16Mi'), lambda: b.kept('k')),
              sweep(b, present, ('mount', 'k', path), is_mounted),
              sweep(b, mounted, ('unmount', 'k'), is_unmounted),
              sweep(b, mounted, ('unmount', path), is_unmounted, 'mounted no volume at'),
              sweep(b, present, ('expand', 'k', '--size', '20Mi'), lambda: None),
              sweep(b, present, ('delete', 'k', '--yes'), is_deleted, 'there is no volume'))
    print('# killed at %d points of create, %d of mount, %d and %d of unmount, %d of expand, %d of delete' % counts)
    assert min(counts) >= 1 and sum(counts) >= 14, counts


# ---- completion ----

COMPLETE = '''
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_cofferctl
printf '%s\\n' "${COMPREPLY[@]}"
'''


def complete(b, *words):
    p = caselib.run(['bash', '-uc', COMPLETE, 'bash', f'{ROOT}/dist/completion/cofferctl', 'cofferctl', *words], cwd=b.root,
                    env=dict(os.environ, COFFER_STATE_DIR=b.state))
    assert p.stderr == '', p.stderr
    return p.stdout.split()


def completion(b):
    b.create()
    b.create('depot')
    os.mkdir(b.path('srv'))
    cases = [
        ((['']), {'config', 'pool', 'volume'}, set()),
        (['v'], {'volume'}, {'pool'}),
        (['volume', ''], {'create', 'mount', 'unmount', 'expand', 'delete', 'list'}, {'init'}),
        (['volume', 'create', 'x', '--'], {'--size', '--fs', '--param', '--config'}, {'--read-only'}),
        (['volume', 'mount', 'd'], {'data', 'depot'}, set()),
        (['volume', 'mount', '--read-only', 'da'], {'data'}, {'depot'}),
        (['volume', 'mount', '--timeout', '5', 'da'], {'data'}, {'depot'}),
        (['volume', 'mount', 'data', 's'], {'srv'}, {'data'}),
        (['volume', 'unmount', ''], {'data', 'depot', 'srv'}, set()),
        (['volume', 'create', 'x', '--access-mode', 'RWO'], {'RWO', 'RWOP'}, {'ROX'}),
        (['volume', 'list', '--output', ''], {'json', 'table'}, {'data'}),
        (['nonsense', 'x', ''], set(), {'data'}),
        (['d'], {'doctor'}, {'config'}),
        (['doctor', '--'], {'--device-dir', '--output'}, {'--size'}),
        (['doctor', '--output', 'js'], {'json'}, {'table'}),
        (['record', 'restore', 'x', '--from', 's'], {'srv'}, {'data'}),
    ]
    for words, wanted, unwanted in cases:
        got = set(complete(b, *words))
        assert wanted <= got and not unwanted & got, (words, got)


TESTS = [a_volumes_life, create_repeated, create_with_parameters, create_with_secrets, usage_errors, refusals_of_the_controller,
         nobody_answers,
         it_waits_for_a_daemon, not_what_was_kept, kept_file_damaged, delete_asks, mount_places, mount_refusals, failing_node,
         place_swapped, two_at_once, kill_sweep, completion]


@contextlib.contextmanager
def host():
    with caselib.folder('coffer-host.') as root:
        box = Box(root)
        try:
            box.start()
            yield box
        finally:
            box.close()


sys.exit(caselib.main(TESTS, host))
