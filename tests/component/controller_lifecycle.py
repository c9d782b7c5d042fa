#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-controller and coffer-keyd as real processes under a real gRPC client: command line, a volume's life,
every refusal, outages, many calls at once, and SIGKILL at every fault point. TAP on stdout. Needs no root; as root
the two daemons run as two unprivileged users all the same."""
import concurrent.futures
import contextlib
import functools
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BIN = os.path.abspath(os.environ.get('COFFER_BIN', 'build/test'))
CSI_CALL = os.path.join(BIN, 'csi-call')
MIB, GIB = 1 << 20, 1 << 30
HEADER = 4 * MIB
ROOT = os.geteuid() == 0
CONTROLLER_UID, KEYD_UID = (23001, 23002) if ROOT else (os.geteuid(), os.geteuid())
GID = 23001 if ROOT else os.getegid()
MOUNT = {'mount': {}, 'access_mode': {'mode': 'SINGLE_NODE_WRITER'}}
BLOCK = {'block': {}, 'access_mode': {'mode': 'SINGLE_NODE_WRITER'}}
TOPOLOGY = 'topology.csi.coffer.dev/node'


class Skip(Exception):
    pass


class RpcError(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.code, _, self.message = text.partition(': ')


def as_user(uid):
    return {'user': uid, 'group': GID, 'extra_groups': []} if ROOT else {}


def own(path, uid=CONTROLLER_UID):
    if ROOT:
        os.chown(path, uid, GID)


class Rig:
    """One directory with three pools (two full, one sparse), a key service, and the processes."""

    def __init__(self, root):
        self.root = root
        os.chmod(root, 0o755)
        self.bin, self.fault = self.dir('bin'), self.dir('fault', CONTROLLER_UID)
        for name in ('coffer-controller', 'coffer-keyd'):
            shutil.copy(os.path.join(BIN, name), self.bin)
        self.run, self.keyd_dir = self.dir('run', CONTROLLER_UID), self.dir('keyd', KEYD_UID)
        os.chmod(self.keyd_dir, 0o750)
        self.csi = os.path.join(self.run, 'csi.sock')
        self.keyd_socket = os.path.join(self.keyd_dir, 'keyd.sock')
        self.config = os.path.join(root, 'config.json')
        self.tags = {}
        for name in ('fast', 'slow', 'thin'):
            self.make_pool(name)
        self.write_config()
        self.controller = self.keyd = None

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def dir(self, name, uid=None):
        os.mkdir(self.path(name), 0o755)
        if uid is not None:
            own(self.path(name), uid)
        return self.path(name)

    def make_pool(self, name):
        path, pool_id = self.dir(name, CONTROLLER_UID), secrets.token_hex(16)
        os.chmod(path, 0o700)
        self.tags[name] = pool_id[:8]
        with open(os.path.join(path, 'pool.json'), 'w', encoding='utf-8') as f:
            json.dump({'v': 1, 'id': pool_id, 'backend': 'file'}, f)
        own(os.path.join(path, 'pool.json'))

    def write_config(self, **change):
        master = self.path('master')
        if not os.path.exists(master):
            with open(os.open(master, os.O_WRONLY | os.O_CREAT, 0o600), 'wb') as f:
                f.write(os.urandom(32))
            own(master, KEYD_UID)
        pool = {'backend': 'file', 'kms': ['dev', 'other'], 'allocate': 'full'}
        pools = {name: dict(pool, path=self.path(name)) for name in self.tags}
        pools['thin'].update(allocate='sparse', overcommit=1.5)
        config = {'pools': pools, 'default_tenant': 'lab',
                  'kms': {'dev': {'uri': 'file://' + master}, 'other': {'uri': 'file://' + master}}}
        config.update(change)
        with open(self.config, 'w', encoding='utf-8') as f:
            json.dump(config, f)
        os.chmod(self.config, 0o644)

    # ---- processes ----

    def start_keyd(self):
        log = open(self.path('keyd.log'), 'ab')
        argv = [os.path.join(self.bin, 'coffer-keyd'), '--config', self.config, '--socket', self.keyd_socket,
                '--allow', 'MINT', '--insecure-file-kms', '--peer', f'{CONTROLLER_UID}:{GID}']
        self.keyd = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **as_user(KEYD_UID))
        wait(lambda: os.path.exists(self.keyd_socket), 'keyd socket', self.keyd)

    def stop_keyd(self):
        stop(self.keyd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.keyd_socket)

    def argv(self, *more):
        return [os.path.join(self.bin, 'coffer-controller'), '--endpoint', 'unix://' + self.csi,
                '--config', self.config, '--keyd-socket', self.keyd_socket, '--node-id', 'n1', *more]

    def start(self, *more):
        self.log_path = self.path('controller.log')
        log = open(self.log_path, 'ab')
        env = dict(os.environ, COFFER_FAULT_DIR=self.fault)
        self.controller = subprocess.Popen(self.argv(*more), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                                           **as_user(CONTROLLER_UID))
        wait(self.answers, 'an answer to Probe', self.controller)

    def answers(self):
        try:
            return self.call('Probe') is not None
        except RpcError:
            return False

    def restart(self, *more):
        stop(self.controller)
        self.start(*more)

    def log(self):
        with open(self.log_path, encoding='utf-8') as f:
            return f.read()

    def reset(self):
        """Whatever the last test left: both processes run, the pools are there and empty."""
        self.disarm()
        if os.path.exists(self.path('away')):
            shutil.rmtree(self.path('fast'), ignore_errors=True)
            os.rename(self.path('away'), self.path('fast'))
        for name in self.tags:
            shutil.rmtree(self.path(name, 'volumes'), ignore_errors=True)
        if self.keyd is None or self.keyd.poll() is not None:
            self.start_keyd()
        if self.controller is None or self.controller.poll() is not None:
            self.start()

    def close(self):
        for p in (self.controller, self.keyd):
            if p is not None:
                stop(p)

    # ---- calls ----

    def call(self, method, timeout=30, **request):
        p = subprocess.run([CSI_CALL, 'unix://' + self.csi, method, json.dumps(request), '--timeout', str(timeout)],
                           capture_output=True, text=True, timeout=timeout + 30, check=False)
        if p.returncode != 0:
            raise RpcError(p.stderr.strip().splitlines()[-1] if p.stderr.strip() else f'exit {p.returncode}')
        return json.loads(p.stdout)

    def create(self, name, size=16 * MIB, limit=0, caps=(MOUNT,), **more):
        parameters = more.pop('parameters', {'pool': 'fast'})
        return self.call('CreateVolume', name=name, capacity_range={'required_bytes': size, 'limit_bytes': limit},
                         volume_capabilities=list(caps), parameters=parameters, **more)['volume']

    def delete(self, volume_id):
        self.call('DeleteVolume', volume_id=volume_id)

    def expand(self, volume_id, size):
        return self.call('ControllerExpandVolume', volume_id=volume_id, capacity_range={'required_bytes': size})

    def thin_room(self):
        return int(self.call('GetCapacity', parameters={'pool': 'thin'}).get('available_capacity', 0))

    def check_ledger(self):
        """After a call has looked at it, the thin pool's ledger says what its images say."""
        self.thin_room()
        sizes = [os.stat(os.path.join(p, 'image')).st_size for p in self.places()
                 if p.startswith(self.path('thin')) and os.path.exists(os.path.join(p, 'image'))]
        with open(self.path('thin', 'promised.json'), encoding='utf-8') as f:
            ledger = json.load(f)
        assert ledger['promised'] == sum(sizes) and ledger['volume'] == '', (ledger, sizes)

    def ids(self):
        return [e['volume']['volume_id'] for e in self.call('ListVolumes').get('entries', [])]

    def place(self, volume_id):
        pool, _, name = volume_id.split('.')
        return self.path(pool, 'volumes', name[:2], name)

    def record(self, volume_id):
        with open(os.path.join(self.place(volume_id), 'record.json'), encoding='utf-8') as f:
            return json.load(f)

    def arm(self, text):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.fault, 'coffer-controller.trace'))
        with open(os.path.join(self.fault, 'coffer-controller.arm'), 'w', encoding='utf-8') as f:
            f.write(text)
        os.chmod(f.name, 0o644)

    def disarm(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.fault, 'coffer-controller.arm'))

    def places(self):
        folders = [(d, name) for pool in self.tags for d, names, _ in os.walk(self.path(pool)) for name in names]
        return sorted(os.path.join(d, name) for d, name in folders if len(name) == 32)


def wait(condition, what, process=None, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, f'the process ended while waiting for {what}'
        assert time.monotonic() < end, f'waited too long for {what}'
        time.sleep(0.02)


def stop(process, sig=signal.SIGTERM):
    if process.poll() is None:
        process.send_signal(sig)
    return process.wait(60)


@contextlib.contextmanager
def refused(code, *words):
    try:
        yield
    except RpcError as e:
        assert e.code == code, f'{e.code} instead of {code}: {e.message}'
        for word in words:
            assert word in e.message, f'no {word!r} in: {e.message}'
    else:
        raise AssertionError(f'no {code}')


# ---- the tests ----

def test_command_line(rig):
    binary = os.path.join(rig.bin, 'coffer-controller')

    def run(*argv, **env):
        environment = {k: v for k, v in os.environ.items() if k not in ('CSI_ENDPOINT', 'NODE_ID')}
        p = subprocess.run([binary, *argv], capture_output=True, text=True, env=dict(environment, **env),
                           timeout=60, check=False)
        return p.returncode, p.stdout, p.stderr.strip()

    def wrong(word, *argv):
        code, _, text = run(*argv)
        assert code == 2 and '\n' not in text and word in text, (argv, code, text)

    assert re.fullmatch(r'coffer-controller \d+\.\d+\.\d+\n', run('--version')[1])
    code, text, _ = run('--help')
    assert code == 0 and '--keyd-socket' in text
    full = rig.argv()[1:]
    wrong('--endpoint')
    wrong('--frobnicate', '--frobnicate')
    wrong('stray', *full, 'stray')
    wrong('--expand', *full, '--expand', 'both')
    wrong('driver name', *full, '--driver-name', 'ends.with.1')
    wrong('node id', *full, '--node-id', 'n/1')
    wrong('absolute', *full, '--keyd-socket', '')
    wrong('absolute', *full, '--keyd-socket', 'keyd.sock')
    wrong('--log-level', *full, '--log-level', 'loud')
    wrong('none.json', *full, '--config', '/none.json')
    with open(rig.path('bad.json'), 'w', encoding='utf-8') as f:
        json.dump({'pools': {'x': {'backend': 'tape', 'path': '/x', 'kms': ['k']}},
                   'kms': {'k': {'uri': 'file:///k'}}}, f)
    wrong('tape', *full, '--config', f.name)


def test_closed_descriptors(rig):
    if 'asan' in BIN:
        raise Skip('gRPC is a shared library in this build, and its constructor takes a descriptor before ours runs')
    stop(rig.controller)
    rig.controller = subprocess.Popen(rig.argv(), close_fds=True, preexec_fn=lambda: [os.close(fd) for fd in range(3)],
                                      **as_user(CONTROLLER_UID))
    wait(rig.answers, 'an answer to Probe', rig.controller)
    for fd in range(3):
        assert os.readlink(f'/proc/{rig.controller.pid}/fd/{fd}') == '/dev/null', 'a log line would go somewhere'
    rig.restart()


def test_identity(rig):
    info = rig.call('GetPluginInfo')
    assert info['name'] == 'csi.coffer.dev' and info['vendor_version'], info
    assert 'CONTROLLER_SERVICE' in json.dumps(rig.call('GetPluginCapabilities'))
    caps = {c['rpc']['type'] for c in rig.call('ControllerGetCapabilities')['capabilities']}
    assert caps == {'CREATE_DELETE_VOLUME', 'LIST_VOLUMES', 'GET_CAPACITY', 'EXPAND_VOLUME',
                    'SINGLE_NODE_MULTI_WRITER'}, caps
    node = rig.call('NodeGetInfo')
    assert node['node_id'] == 'n1' and node['accessible_topology']['segments'] == {TOPOLOGY: 'n1'}, node
    with refused('UNIMPLEMENTED'):
        rig.call('NodeStageVolume', volume_id='x', staging_target_path='/x', volume_capability=MOUNT)


def test_life(rig):
    v = rig.create('pvc-life', 20 * MIB)
    vid, context = v['volume_id'], v['volume_context']
    assert v['capacity_bytes'] == 20 * MIB
    assert v['accessible_topology'] == [{'segments': {TOPOLOGY: 'n1'}}], v
    assert re.fullmatch(r'fast\.[0-9a-f]{8}\.[0-9a-f]{32}', vid) and vid.split('.')[1] == rig.tags['fast']
    assert set(context) == {'tenant', 'uuid', 'kms', 'keySource'}
    assert context['tenant'] == 'lab' and context['kms'] == 'dev'
    record = rig.record(vid)
    assert record['state'] == 'new' and record['uuid'] == context['uuid'] and record['key']['kind'] == 'file'
    image = os.stat(os.path.join(rig.place(vid), 'image'))
    assert image.st_size == 20 * MIB + HEADER and image.st_blocks * 512 >= image.st_size
    assert rig.create('pvc-life', 20 * MIB) == v
    assert rig.record(vid) == record, 'a repeated create changed the record'
    assert vid in rig.ids()
    validate = functools.partial(rig.call, 'ValidateVolumeCapabilities', volume_id=vid)
    assert validate(volume_context=context, volume_capabilities=[MOUNT])['confirmed']
    no = validate(volume_capabilities=[BLOCK])
    assert not no.get('confirmed') and no['message'], no
    grown = rig.expand(vid, 40 * MIB)
    assert grown == {'capacity_bytes': 40 * MIB, 'node_expansion_required': True}, grown
    assert rig.expand(vid, 30 * MIB)['capacity_bytes'] == 40 * MIB
    assert os.stat(os.path.join(rig.place(vid), 'image')).st_size == 40 * MIB + HEADER
    assert rig.record(vid)['key'] == record['key']
    rig.delete(vid)
    rig.delete(vid)
    assert vid not in rig.ids() and not os.path.exists(rig.place(vid))
    again = rig.create('pvc-life', 20 * MIB)
    assert again['volume_id'] == vid and again['volume_context']['uuid'] != context['uuid'], 'the name met its old key'
    rig.delete(vid)


def test_defaults(rig):
    v = rig.call('CreateVolume', name='pvc-default', volume_capabilities=[BLOCK],
                 parameters={'pool': 'slow', 'csi.storage.k8s.io/pvc/namespace': 'team-a',
                             'csi.storage.k8s.io/pvc/name': 'c', 'csi.storage.k8s.io/pv/name': 'p'})['volume']
    assert v['capacity_bytes'] == GIB and v['volume_context']['tenant'] == 'team-a'
    assert rig.record(v['volume_id'])['fs'] == 'none'
    rig.delete(v['volume_id'])
    assert rig.create('pvc-odd', 16 * MIB + 1)['capacity_bytes'] == 17 * MIB
    rig.delete(rig.create('pvc-odd', 16 * MIB + 1)['volume_id'])


def test_refusals(rig):
    v = rig.create('pvc-r', 20 * MIB)
    before = rig.places()
    many = {'mount': {}, 'access_mode': {'mode': 'MULTI_NODE_MULTI_WRITER'}}
    xfs, vfat = ({'mount': {'fs_type': fs}, 'access_mode': {'mode': 'SINGLE_NODE_WRITER'}} for fs in ('xfs', 'vfat'))
    odd = {'mount': {'mount_flags': ['exec']}, 'access_mode': {'mode': 'SINGLE_NODE_WRITER'}}
    there = {'requisite': [{'segments': {TOPOLOGY: 'n2'}}]}
    for code, words, kwargs in (
            ('ALREADY_EXISTS', ('size',), {'name': 'pvc-r', 'size': 30 * MIB}),
            ('ALREADY_EXISTS', ('file system',), {'name': 'pvc-r', 'caps': (BLOCK,)}),
            ('ALREADY_EXISTS', ('kms',), {'name': 'pvc-r', 'parameters': {'pool': 'fast', 'kms': 'other'}}),
            ('ALREADY_EXISTS', ('fast',), {'name': 'pvc-r', 'parameters': {'pool': 'slow'}}),
            ('INVALID_ARGUMENT', ('speed',), {'name': 'x', 'parameters': {'pool': 'fast', 'speed': 'high'}}),
            ('INVALID_ARGUMENT', ('tape',), {'name': 'x', 'parameters': {'pool': 'tape'}}),
            ('INVALID_ARGUMENT', ('pool',), {'name': 'x', 'parameters': {}}),
            ('INVALID_ARGUMENT', ('MULTI_NODE_MULTI_WRITER',), {'name': 'x', 'caps': (many,)}),
            ('INVALID_ARGUMENT', ('vfat',), {'name': 'x', 'caps': (vfat,)}),
            ('OUT_OF_RANGE', ('smallest xfs volume', '300 MiB'), {'name': 'x', 'caps': (xfs,), 'size': 299 * MIB}),
            ('INVALID_ARGUMENT', ('mount flag',), {'name': 'x', 'caps': (odd,)}),
            ('INVALID_ARGUMENT', ('mix',), {'name': 'x', 'caps': (MOUNT, BLOCK)}),
            ('INVALID_ARGUMENT', ('mutable',), {'name': 'x', 'mutable_parameters': {'a': 'b'}}),
            ('INVALID_ARGUMENT', ('name',), {'name': ''}),
            ('OUT_OF_RANGE', ('limit_bytes',), {'name': 'x', 'size': 20 * MIB + 1, 'limit': 20 * MIB + 2}),
            ('OUT_OF_RANGE', ('whole MiB',), {'name': 'x', 'size': 1, 'limit': MIB}),
            ('INVALID_ARGUMENT', ('required_bytes',), {'name': 'x', 'size': 20 * MIB, 'limit': 10 * MIB}),
            ('OUT_OF_RANGE', ('largest',), {'name': 'x', 'size': 1 << 60}),
            ('RESOURCE_EXHAUSTED', ("pool 'fast' is full",), {'name': 'x', 'size': 64 << 40}),
            ('RESOURCE_EXHAUSTED', ('n1',), {'name': 'x', 'accessibility_requirements': there})):
        with refused(code, *words):
            rig.create(**kwargs)
    assert rig.places() == before, 'a refused call left something'
    with refused('NOT_FOUND'):
        rig.expand('fake-vol-id', 40 * MIB)
    with refused('NOT_FOUND'):
        rig.call('ValidateVolumeCapabilities', volume_id='fake-vol-id', volume_capabilities=[MOUNT])
    with refused('ABORTED'):
        rig.call('ListVolumes', starting_token='invalid-token')
    with refused('RESOURCE_EXHAUSTED', 'full'):
        rig.expand(v['volume_id'], 64 << 40)
    with refused('FAILED_PRECONDITION', 'pool'):
        rig.delete('gone.' + v['volume_id'].split('.', 1)[1])
    rig.delete('fake-vol-id')
    rig.delete(v['volume_id'])


def test_list_and_capacity(rig):
    made = [rig.create(f'pvc-l{i}', parameters={'pool': ('fast', 'slow')[i % 2]})['volume_id'] for i in range(7)]
    assert rig.ids() == sorted(made)
    got, token, pages = [], '', 0
    while True:
        page = rig.call('ListVolumes', max_entries=3, starting_token=token)
        got += [e['volume']['volume_id'] for e in page['entries']]
        token, pages = page.get('next_token', ''), pages + 1
        if not token:
            break
    assert got == sorted(made) and pages == 3
    for vid in made:
        rig.delete(vid)
    both, one = rig.call('GetCapacity'), rig.call('GetCapacity', parameters={'pool': 'fast'})
    assert 0 < one['available_capacity'] <= both['available_capacity'] and one['available_capacity'] % MIB == 0
    assert rig.call('GetCapacity', accessible_topology={'segments': {TOPOLOGY: 'n2'}}).get('available_capacity', 0) == 0


def test_sparse(rig):
    thin, room = {'pool': 'thin'}, rig.thin_room()
    v = rig.create('pvc-t', 20 * MIB, parameters=dict(thin, discard='true'))
    vid, image = v['volume_id'], os.path.join(rig.place(v['volume_id']), 'image')
    assert v['volume_context']['discard'] == 'true' and rig.record(vid)['discard'] is True
    assert os.stat(image).st_size == 20 * MIB + HEADER and os.stat(image).st_blocks * 512 < MIB
    assert rig.create('pvc-t', 20 * MIB, parameters=dict(thin, discard='true')) == v
    with refused('ALREADY_EXISTS', 'discard'):
        rig.create('pvc-t', 20 * MIB, parameters=thin)
    rig.check_ledger()
    for more in ({'parameters': thin}, {'parameters': dict(thin, discard='false')}):
        other = rig.create('pvc-u', 20 * MIB, **more)
        assert 'discard' not in other['volume_context'] and 'discard' not in rig.record(other['volume_id'])
    before = rig.places()
    with refused('RESOURCE_EXHAUSTED', "pool 'thin' is full: it has promised 48 MiB", 'overcommit 1.50'):
        rig.create('pvc-big', room, parameters=thin)
    with refused('RESOURCE_EXHAUSTED', 'may promise'):
        rig.expand(vid, room)
    with refused('INVALID_ARGUMENT', "pool 'fast' allocates its volumes in full"):
        rig.create('pvc-x', parameters={'pool': 'fast', 'discard': 'true'})
    assert rig.places() == before and os.stat(image).st_size == 20 * MIB + HEADER
    assert rig.expand(vid, 40 * MIB)['capacity_bytes'] == 40 * MIB
    assert os.stat(image).st_size == 40 * MIB + HEADER and os.stat(image).st_blocks * 512 < MIB
    rig.check_ledger()
    validate = functools.partial(rig.call, 'ValidateVolumeCapabilities', volume_id=vid, volume_capabilities=[MOUNT])
    assert validate(volume_context=v['volume_context'], parameters=dict(thin, discard='true'))['confirmed']
    for no in (validate(volume_context=other['volume_context']), validate(parameters=thin),
               validate(volume_context={k: t for k, t in v['volume_context'].items() if k != 'discard'})):
        assert not no.get('confirmed') and no['message'], no
    rig.restart()
    rig.check_ledger()
    for one in (v, other):
        rig.delete(one['volume_id'])
    rig.check_ledger()


def test_keyd_away(rig):
    rig.stop_keyd()
    with refused('UNAVAILABLE'):
        rig.create('pvc-k')
    (place,) = rig.places()
    with open(os.path.join(place, 'record.json'), encoding='utf-8') as f:
        minting = json.load(f)
    assert minting['state'] == 'minting' and rig.ids() == []
    assert rig.call('Probe').get('ready', {'value': True}) in (True, {'value': True})
    rig.start_keyd()
    v = rig.create('pvc-k')
    assert v['volume_context']['uuid'] == minting['uuid']
    rig.stop_keyd()
    rig.delete(v['volume_id'])  # deletion needs no key service
    assert rig.places() == []
    rig.start_keyd()


def test_pool_away(rig):
    v = rig.create('pvc-p')
    os.rename(rig.path('fast'), rig.path('away'))
    rig.dir('fast', CONTROLLER_UID)
    it = {'volume_id': v['volume_id']}
    for method, request in (('DeleteVolume', it), ('ListVolumes', {}), ('GetCapacity', {}),
                            ('ValidateVolumeCapabilities', dict(it, volume_capabilities=[MOUNT])),
                            ('ControllerExpandVolume', dict(it, capacity_range={'required_bytes': GIB}))):
        with refused('UNAVAILABLE', 'fast'):
            rig.call(method, **request)
    with refused('UNAVAILABLE'):
        rig.create('pvc-q')
    assert os.listdir(rig.path('fast')) == []
    # also over a restart: the pool comes late
    rig.restart()
    assert 'a pool is not there now' in rig.log()
    with refused('UNAVAILABLE'):
        rig.delete(v['volume_id'])
    os.rmdir(rig.path('fast'))
    os.rename(rig.path('away'), rig.path('fast'))
    rig.delete(v['volume_id'])


def test_many_at_once(rig):
    def attempt(f, *args):
        while True:
            try:
                return f(*args)
            except RpcError as e:
                assert e.code == 'ABORTED', e
                time.sleep(0.05)

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        same = list(pool.map(lambda _: attempt(rig.create, 'pvc-same'), range(12)))
        assert all(v == same[0] for v in same)
        other = list(pool.map(lambda i: attempt(rig.create, f'pvc-m{i}'), range(24)))
        assert len({v['volume_id'] for v in other}) == 24
        assert len({v['volume_context']['uuid'] for v in other}) == 24
        list(pool.map(lambda v: attempt(rig.delete, v['volume_id']), [same[0]] * 4 + other))
    assert rig.places() == []


def test_second_instance(rig):
    p = subprocess.run(rig.argv(), capture_output=True, text=True, timeout=60, check=False, **as_user(CONTROLLER_UID))
    assert p.returncode == 1 and 'lock' in p.stderr, (p.returncode, p.stderr)
    rig.call('Probe')


def test_signals(rig):
    rig.delete(rig.create('pvc-s')['volume_id'])
    rig.controller.send_signal(signal.SIGUSR1)
    wait(lambda: re.search(r'"counters" .*created=\d+ .*deleted=\d+', rig.log()), 'the counters', rig.controller)
    assert stop(rig.controller) == 0
    assert not re.search(r'ERROR|panic|abort', rig.log())
    for name in rig.tags:
        assert re.search(fr'"pool" pool="{name}" allocate="(full|sparse)" used_percent=\d+ total_mib=\d+ .*available_mib=\d+',
                         rig.log()), rig.log()
    assert re.search(r'"pools" pools=3 over_80_percent=\d over_95_percent=\d', rig.log())
    rig.start()


def test_expand_on_node(rig):
    v = rig.create('pvc-n')
    rig.restart('--expand', 'node')
    caps = json.dumps(rig.call('ControllerGetCapabilities'))
    assert 'EXPAND_VOLUME' not in caps and 'CREATE_DELETE_VOLUME' in caps
    with refused('UNIMPLEMENTED', 'NodeExpandVolume'):
        rig.expand(v['volume_id'], 40 * MIB)
    rig.restart()
    rig.delete(v['volume_id'])


def sweep(rig, before, step, after):
    """SIGKILL of the real process at its 1st, 2nd, ... fault point in `step`, until one run lives."""
    for n in range(1, 1000):
        state = before()
        rig.arm(f'kill {n}')
        try:
            step(state)
            killed = False
        except RpcError as e:
            assert e.code == 'UNAVAILABLE', e
            killed = True
        rig.disarm()
        if killed:
            assert rig.controller.wait(60) == -signal.SIGKILL
            rig.start()
        after(state, step)
        if not killed:
            return n - 1
    raise AssertionError('no end of the sweep')


def test_kill_sweep(rig):
    rig.arm('record')
    rig.delete(rig.create('pvc-trace')['volume_id'])
    rig.disarm()
    if not os.path.exists(os.path.join(rig.fault, 'coffer-controller.trace')):
        raise Skip('this build has no fault points')

    def created(_, step):
        v = step(None)
        record = rig.record(v['volume_id'])
        assert record['state'] == 'new' and record['key']['ciphertext']
        assert record['uuid'] == v['volume_context']['uuid']
        rig.delete(v['volume_id'])
        assert rig.places() == []

    def created_otherwise(pool, _, step):
        try:
            v = rig.create('pvc-kill', 20 * MIB, parameters={'pool': pool})
            assert v['capacity_bytes'] == 20 * MIB
        except RpcError as e:
            assert e.code == 'ALREADY_EXISTS', e
            v = step(None)  # it was made, only the answer was lost
        rig.delete(v['volume_id'])
        assert rig.places() == []

    def expanded(v, step):
        image = os.path.join(rig.place(v['volume_id']), 'image')
        assert os.stat(image).st_size >= rig.record(v['volume_id'])['size'] + HEADER
        assert step(v)['capacity_bytes'] == 40 * MIB
        assert os.stat(image).st_size == 40 * MIB + HEADER
        rig.delete(v['volume_id'])

    def deleted(v, step):
        step(v)
        assert rig.places() == [] and v['volume_id'] not in rig.ids()

    def in_pool(pool, check):
        def checked(state, step):
            if pool == 'thin':
                rig.check_ledger()
            check(state, step)
            if pool == 'thin':
                rig.check_ledger()
        return checked

    for pool in ('fast', 'thin'):
        make = functools.partial(rig.create, 'pvc-kill', parameters={'pool': pool})
        counts = (sweep(rig, lambda: None, lambda _, m=make: m(), in_pool(pool, created)),
                  sweep(rig, lambda: None, lambda _, m=make: m(), in_pool(pool, functools.partial(created_otherwise, pool))),
                  sweep(rig, make, lambda v: rig.expand(v['volume_id'], 40 * MIB), in_pool(pool, expanded)),
                  sweep(rig, make, lambda v: rig.delete(v['volume_id']), in_pool(pool, deleted)))
        print(f'# {pool}: killed at %d points of create, %d with other parameters after, %d of expand, %d of delete' % counts)
        assert min(counts) >= 5, counts


def test_no_key_in_the_log(rig):
    with open(rig.path('master'), 'rb') as f:
        master = f.read()
    v = rig.create('pvc-log')
    rig.restart('--log-level', 'debug', '--log-format', 'json')
    ciphertext = rig.record(v['volume_id'])['key']['ciphertext']
    rig.expand(v['volume_id'], 40 * MIB)
    rig.delete(v['volume_id'])
    with open(rig.log_path, 'rb') as f:
        log = f.read()
    assert master not in log and master.hex().encode() not in log and ciphertext.encode() not in log
    rig.restart()


TESTS = [test_command_line, test_closed_descriptors, test_identity, test_life, test_defaults, test_refusals, test_list_and_capacity,
         test_sparse, test_keyd_away, test_pool_away, test_many_at_once, test_second_instance, test_signals, test_expand_on_node,
         test_kill_sweep, test_no_key_in_the_log]


def main():
    failed = False
    root = tempfile.mkdtemp(prefix='coffer-ctl.')
    rig = Rig(root)
    try:
        print(f'1..{len(TESTS)}')
        for i, test in enumerate(TESTS, 1):
            name = test.__name__[5:].replace('_', ' ')
            try:
                rig.reset()
                test(rig)
                print(f'ok {i} - {name}', flush=True)
            except Skip as e:
                print(f'ok {i} - {name} # SKIP {e}', flush=True)
            except Exception as e:  # pylint: disable=broad-except
                failed = True
                print(f'not ok {i} - {name}', flush=True)
                print(''.join(f'# {line}\n' for line in f'{type(e).__name__}: {e}'.splitlines()), flush=True)
                if os.environ.get('VERBOSE'):
                    raise
    finally:
        rig.close()
        if failed and rig.controller is not None:
            print(''.join(f'# {line}\n' for line in rig.log().splitlines()[-30:]))
        shutil.rmtree(root, ignore_errors=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
