#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-node's socket for coffer-scheduler: what it tells of volumes, and that it takes no other volume and no other place, by
name and by path. Real coffer-node and coffer-controller, no device-mapper. TAP on stdout."""
import base64
import contextlib
import hashlib
import json
import os
import stat
import sys
import uuid

import caselib
from caselib import read
from controllerlib import CONTROLLER_UID, GID, MIB, MOUNT, ROOT, Rig, RpcError, refused

ONE, TWO = 'ab' * 16, 'cd' * 16
CLIENT = {'pool': 'fast', 'kms': 'vault', 'keySource': 'client', 'tenant': 'clouds'}


def b64(data):
    return base64.b64encode(data).decode()


def seed(label='phone'):
    """What a device says of the key it made; nothing here opens it."""
    return {'uuid': str(uuid.uuid4()), 'commitment': '0123456789abcdef' * 4, 'publicKey': b64(b'\x30\x01' + label[:1].encode()),
            'algorithm': 'RSA-OAEP-256', 'wrapped': b64(label.encode().ljust(256, b'\0')), 'label': label}


class World(Rig):
    def __init__(self, root):
        super().__init__(root)
        self.sockets = {name: self.path(f'node-{name}.sock') for name in ('csi', 'admin', 'scheduler')}
        self.clouds, self.node = self.path('clouds'), None

    def write_config(self, **change):
        """keySource client wants a Vault with a server_key, which nobody asks here."""
        vault = {'uri': 'hcvault://127.0.0.1:1/transit/keys/coffer-t-{tenant}', 'ca': '/ca', 'server_key': 'coffer-s-1',
                 'auth': {'method': 'token-file', 'token_path': '/token'}}
        pools = {name: caselib.file_pool(self.path(name), 'dev', 'vault') for name in self.tags}
        dev = {'uri': 'file://' + self.path('master')}
        super().write_config(pools=pools, kms={'dev': dev, 'vault': vault}, **change)

    def start_keyd(self):
        config, self.config = self.config, self.path('keyd.json')
        super().write_config()
        super().start_keyd()
        self.config = config

    def node_argv(self, *more):
        return [caselib.program('coffer-node'), '--config', self.config, '--keyd-socket', self.keyd_socket, '--crypt-helper',
                caselib.program('coffer-crypt'), '--node-id', 'n1', '--endpoint', self.sockets['csi'], '--admin-endpoint',
                self.sockets['admin'], '--scheduler-endpoint', self.sockets['scheduler'], '--scheduler-directory', self.clouds,
                '--host-network', *more]

    def start_node(self, *more):
        self.node = caselib.spawn(self.node_argv('--scheduler-group', str(GID), *more), self.path('node.log'),
                                  lambda: 'serves version' in self.node_log(), 'coffer-node serves')

    def node_log(self):
        return read(self.path('node.log')).replace('"', '')

    def close(self):
        if self.node is not None:
            caselib.stop(self.node)
        super().close()

    def ask(self, method, socket='scheduler', **request):
        p = caselib.run([caselib.program('csi-call'), self.sockets[socket], method, json.dumps(request), '--timeout', '60'], None, 90)
        if p.returncode != 0:
            raise RpcError(p.stderr.strip().splitlines()[-1])
        return json.loads(p.stdout)

    def cloud(self, cloud_id, **more):
        secrets = seed(**more)
        return self.create(f'cloud-{cloud_id}', parameters=CLIENT, secrets=secrets), secrets

    def stage(self, volume, path, **change):
        return self.ask('NodeStageVolume', **{'volume_id': volume['volume_id'], 'staging_target_path': path,
                                              'volume_capability': MOUNT, 'volume_context': volume['volume_context'], **change})

    def publish(self, volume, staging, target, **change):
        return self.ask('NodePublishVolume', **{'volume_id': volume['volume_id'], 'staging_target_path': staging, 'target_path': target,
                                                'volume_capability': MOUNT, 'volume_context': volume['volume_context'], **change})

    def at(self, cloud_id, last):
        return f'{self.clouds}/{cloud_id}/{last}'


# ---- what is told ----

def described(w):
    (one, secrets), (two, _) = w.cloud(ONE), w.cloud(TWO, label='tablet')
    w.create('pvc-1')
    w.create('pvc-2', parameters={**CLIENT}, secrets=seed())
    w.create('cloud-of-vault')
    reply = w.ask('DescribeVolumes', name_prefix='cloud-', pool='fast')
    assert reply['pool_tags'] == {'fast': w.tags['fast']}, reply
    assert sorted(v['volume_id'] for v in reply['volumes']) == sorted([one['volume_id'], two['volume_id']]), reply
    mine = next(v for v in reply['volumes'] if v['volume_id'] == one['volume_id'])
    der = base64.b64decode(secrets['publicKey'])
    assert mine == {
        'volume_id': one['volume_id'], 'name': f'cloud-{ONE}', 'uuid': secrets['uuid'], 'tenant': 'clouds', 'kms': 'vault',
        'key_source': 'client', 'commitment': secrets['commitment'], 'state': 'new', 'size': 16 * MIB, 'fs': 'ext4',
        'recipients': [{'fingerprint': hashlib.sha256(der).hexdigest(), 'algorithm': 'RSA-OAEP-256', 'label': 'phone',
                        'public_key': secrets['publicKey'], 'wrapped': secrets['wrapped']}]}, mine
    assert w.ask('DescribeVolumes', name=f'cloud-{ONE}')['volumes'] == [mine]
    assert 'volumes' not in w.ask('DescribeVolumes', name='cloud-' + '0' * 32)
    with refused('INVALID_ARGUMENT', "there is no pool 'none' here"):
        w.ask('DescribeVolumes', name_prefix='cloud-', pool='none')
    with refused('ABORTED', 'starting_token is not one that DescribeVolumes gave'):
        w.ask('DescribeVolumes', name_prefix='cloud-', starting_token='x')


def page_by_page(w):
    ids = sorted(w.cloud(f'{n:032x}')[0]['volume_id'] for n in range(7))
    for n in range(3):
        w.create(f'pvc-{n}')
    for size in (1, 2, 3, 7, 100):
        got, token, pages = [], '', 0
        while pages == 0 or token:
            reply = w.ask('DescribeVolumes', name_prefix='cloud-', max_entries=size, starting_token=token)
            got += [v['volume_id'] for v in reply.get('volumes', [])]
            assert len(reply.get('volumes', [])) <= size
            token, pages = reply.get('next_token', ''), pages + 1
        assert got == ids, (size, got, ids)


def no_other_volume_is_told_of(w):
    w.cloud(ONE)
    other = w.create('pvc-1')
    for request in ({}, {'name_prefix': 'pvc-'}, {'name_prefix': 'cloud'}, {'name': 'pvc-1'}):
        with refused('PERMISSION_DENIED', "coffer-scheduler's volumes are named 'cloud-...'"):
            w.ask('DescribeVolumes', **request)
    names = [v['name'] for v in w.ask('DescribeVolumes', socket='admin')['volumes']]
    assert sorted(names) == [f'cloud-{ONE}', 'pvc-1'], names
    assert [v['volume_id'] for v in w.ask('DescribeVolumes', socket='admin', name='pvc-1')['volumes']] == [other['volume_id']]


def unreadable_is_not_absent(w):
    one, _ = w.cloud(ONE)
    two, _ = w.cloud(TWO)
    caselib.write(os.path.join(w.place(one['volume_id']), 'record.json'), '{')
    for request in ({'name_prefix': 'cloud-'}, {'name': f'cloud-{ONE}'}):
        broken = [v for v in w.ask('DescribeVolumes', **request)['volumes'] if v['volume_id'] == one['volume_id']]
        assert len(broken) == 1 and set(broken[0]) == {'volume_id', 'problem'} and 'is not valid JSON' in broken[0]['problem'], broken
    assert w.ask('DescribeVolumes', name=f'cloud-{TWO}')['volumes'][0]['volume_id'] == two['volume_id']
    os.rename(w.path('fast'), w.path('away'))
    for request in ({'name_prefix': 'cloud-'}, {'name': f'cloud-{TWO}'}):
        with refused('UNAVAILABLE', 'pool'):
            w.ask('DescribeVolumes', **request)


# ---- what is taken ----

def escaping_paths(w):
    """Each by its own name, before anything is made or opened."""
    one, _ = w.cloud(ONE)
    good = w.at(ONE, 'staging')
    plain = 'must not have empty, \'.\' or \'..\' parts'
    place = 'the one place of a volume of coffer-scheduler'
    cases = {
        f'{w.clouds}/../etc/{ONE}/staging': ('INVALID_ARGUMENT', plain), f'{w.clouds}/{ONE}/../{TWO}/staging': ('INVALID_ARGUMENT', plain),
        f'{w.clouds}//{ONE}/staging': ('INVALID_ARGUMENT', plain), f'{w.clouds}/./{ONE}/staging': ('INVALID_ARGUMENT', plain),
        f'{good}/': ('INVALID_ARGUMENT', plain), 'clouds': ('INVALID_ARGUMENT', 'must be an absolute path'),
        f'{w.clouds}': ('PERMISSION_DENIED', place), f'{w.clouds}x/{ONE}/staging': ('PERMISSION_DENIED', place),
        f'{w.clouds}/{ONE}': ('PERMISSION_DENIED', place), f'{good}/more': ('PERMISSION_DENIED', place),
        f'{w.clouds}/{ONE}/stagingx': ('PERMISSION_DENIED', place), f'{w.clouds}/{ONE}/other': ('PERMISSION_DENIED', place),
        f'{w.clouds}/{ONE.upper()}/staging': ('PERMISSION_DENIED', place), f'{w.clouds}/{ONE[:-1]}/staging': ('PERMISSION_DENIED', place),
        f'{w.clouds}/x/{ONE}/staging': ('PERMISSION_DENIED', place), '/etc': ('PERMISSION_DENIED', place),
        f'/{ONE}/staging': ('PERMISSION_DENIED', place),
        w.at(TWO, 'staging'): ('PERMISSION_DENIED', f"isn't the one of cloud '{TWO}'"),
    }
    volume_id = one['volume_id']
    calls = {
        'staging_target_path': lambda path: w.stage(one, path),
        'staging_target_path ': lambda path: w.ask('NodeUnstageVolume', volume_id=volume_id, staging_target_path=path),
        'staging_target_path  ': lambda path: w.publish(one, path, w.at(ONE, 'volume')),
        'target_path': lambda path: w.publish(one, good, path.replace('staging', 'volume')),
        'target_path ': lambda path: w.ask('NodeUnpublishVolume', volume_id=volume_id, target_path=path.replace('staging', 'volume')),
    }
    for field, call in calls.items():
        for path, (code, word) in cases.items():
            shown = path.replace('staging', 'volume') if field.strip() == 'target_path' else path
            with refused(code, word):
                call(path)
            try:
                call(path)
            except RpcError as e:
                assert TWO in path or f"{field.strip()} '{shown}'" in e.message, e.message
    assert os.listdir(w.clouds) == []


def a_link_is_not_followed(w):
    one, _ = w.cloud(ONE)
    other = w.dir('elsewhere')
    os.symlink(other, f'{w.clouds}/{ONE}')
    for call in (lambda: w.stage(one, w.at(ONE, 'staging')),
                 lambda: w.publish(one, w.at(ONE, 'staging'), w.at(ONE, 'volume'))):
        with contextlib.suppress(RpcError):
            call()
            raise AssertionError('it was followed')
    assert os.listdir(other) == []
    os.unlink(f'{w.clouds}/{ONE}')
    os.rmdir(other)


def other_peoples_volumes(w):
    """Neither by its name, nor by its key's source, whatever the request says of it."""
    word = "isn't one of coffer-scheduler's"
    vault = w.create(f'cloud-{ONE}')  # the right name, another's key
    for claim in (vault['volume_context'], {}):
        with refused('PERMISSION_DENIED', word):
            w.stage(vault, w.at(ONE, 'staging'), volume_context=claim)
    with refused('DATA_LOSS', 'keySource'):
        w.stage(vault, w.at(ONE, 'staging'), volume_context={**vault['volume_context'], 'keySource': 'client'})
    for call in (lambda: w.publish(vault, w.at(ONE, 'staging'), w.at(ONE, 'volume')),
                 lambda: w.ask('NodeUnstageVolume', volume_id=vault['volume_id'], staging_target_path=w.at(ONE, 'staging')),
                 lambda: w.ask('NodeUnpublishVolume', volume_id=vault['volume_id'], target_path=w.at(ONE, 'volume'))):
        with refused('PERMISSION_DENIED', word):
            call()
    named = w.create('pvc-1', parameters=CLIENT, secrets=seed())  # a device's key, another's volume
    with refused('PERMISSION_DENIED', f"isn't the one of cloud '{ONE}'"):
        w.stage(named, w.at(ONE, 'staging'))
    for volume in (vault, named):
        volume_id = volume['volume_id']
        for method, more in (('ListRecipients', {}), ('RemoveRecipient', {'fingerprint': '0' * 64}),
                             ('AddRecipient', {'public_key': 'MAA=', 'algorithm': 'RSA-OAEP-256'})):
            with refused('PERMISSION_DENIED', word):
                w.ask(method, volume_id=volume_id, **more)
    assert os.listdir(w.clouds) == []


def raw_block_and_other_methods(w):
    one, _ = w.cloud(ONE)
    block = {'block': {}, 'access_mode': {'mode': 1}}
    with refused('PERMISSION_DENIED', "isn't one of"):
        w.stage(one, w.at(ONE, 'staging'), volume_capability=block)
    with refused('PERMISSION_DENIED', "isn't one of"):
        w.publish(one, w.at(ONE, 'staging'), w.at(ONE, 'volume'), volume_capability=block)
    for method, request in {'UnlockKey': {'volume_id': one['volume_id'], 'output_pid': 1, 'output_fd': 1, 'reason': 'x'},
                            'RotateKey': {'volume_id': one['volume_id']}, 'Reconcile': {},
                            'NodeExpandVolume': {'volume_id': one['volume_id'], 'volume_path': w.at(ONE, 'volume')},
                            'NodeGetVolumeStats': {'volume_id': one['volume_id'], 'volume_path': w.at(ONE, 'volume')},
                            'CreateVolume': {'name': 'x', 'volume_capabilities': [MOUNT]}, 'ListVolumes': {}}.items():
        with refused('UNIMPLEMENTED'):
            w.ask(method, **request)
    assert w.ask('GetPluginInfo')['name'] == 'csi.coffer.dev' and w.ask('NodeGetInfo')['node_id'] == 'n1'


def the_right_place_gets_as_far_as_the_session(w):
    """And leaves nothing there."""
    one, _ = w.cloud(ONE)
    try:
        w.stage(one, w.at(ONE, 'staging'))
    except RpcError as e:  # the second: there is no device-mapper
        assert "secret 'session' is missing" in e.message or "stage step 'unlock'" in e.message, e.message
    else:
        raise AssertionError('it was staged without a session')
    assert os.listdir(w.clouds) == []
    with refused('FAILED_PRECONDITION', "isn't staged on this node"):
        w.publish(one, w.at(ONE, 'staging'), w.at(ONE, 'volume'))
    w.ask('NodeUnpublishVolume', volume_id=one['volume_id'], target_path=w.at(ONE, 'volume'))
    w.delete(one['volume_id'])
    w.ask('NodeUnpublishVolume', volume_id=one['volume_id'], target_path=w.at(ONE, 'volume'))


# ---- the sockets ----

def the_sockets_groups(w):
    def mode(path):
        st = os.stat(path)
        return stat.filemode(st.st_mode), st.st_uid, st.st_gid
    assert mode(w.sockets['scheduler']) == ('srw-rw----', os.geteuid(), GID)
    assert mode(w.sockets['admin'])[0] == mode(w.sockets['csi'])[0] == 'srw-------'
    assert mode(w.csi)[0] == 'srw-------'
    w.restart('--socket-group', str(GID))
    assert mode(w.csi) == ('srw-rw----', CONTROLLER_UID, GID)
    w.restart()
    assert mode(w.csi)[0] == 'srw-------'
    st = os.stat(w.clouds)
    assert (st.st_uid, st.st_mode & 0o777) == (os.geteuid(), 0o700)


def a_directory_of_others(w):
    """It would be theirs what is shown there."""
    for name, what in (('open', lambda p: os.chmod(p, 0o777)), ('theirs', lambda p: os.chown(p, CONTROLLER_UID, GID))):
        if name == 'theirs' and not ROOT:
            continue
        path = w.dir(name)
        what(path)
        argv = w.node_argv('--scheduler-directory', path, '--endpoint', w.path('x.sock'), '--admin-endpoint', w.path('y.sock'),
                           '--scheduler-endpoint', w.path('z.sock'))
        p = caselib.run(argv, 1)
        assert 'that nobody else may write to' in p.stderr and path in p.stderr, p.stderr
        os.rmdir(path)


def wrong_flags(w):
    for flags, sentence in (
            (('--scheduler-directory', 'clouds'), "--scheduler-directory 'clouds' must be an absolute path"),
            (('--scheduler-directory', '/a/../b'), "--scheduler-directory '/a/../b' must not have empty, '.' or '..' parts"),
            (('--scheduler-group', 'no-such-group'), "--scheduler-group: there is no group 'no-such-group'"),
            (('--scheduler-group', '1x'), "--scheduler-group: '1x' is neither a number nor a name"),
            (('--scheduler-endpoint', '', '--scheduler-group', '0'), '--scheduler-group without --scheduler-endpoint')):
        p = caselib.run(w.node_argv(*flags), 2)
        assert p.stderr == f'coffer-node: {sentence}\n', p
    p = caselib.run(w.argv('--socket-group', 'no-such-group'), 2)
    assert p.stderr == "coffer-controller: --socket-group: there is no group 'no-such-group'\n", p


def main(tests):
    with caselib.folder('coffer-sched.') as root:
        world = World(root)

        @contextlib.contextmanager
        def good_world():
            world.reset()
            if world.node is None:
                world.start_node()
            yield world
        try:
            return caselib.main(tests, good_world)
        finally:
            world.close()


if __name__ == '__main__':
    sys.exit(main([described, page_by_page, no_other_volume_is_told_of, unreadable_is_not_absent, escaping_paths,
                   a_link_is_not_followed, other_peoples_volumes, raw_block_and_other_methods,
                   the_right_place_gets_as_far_as_the_session, the_sockets_groups, a_directory_of_others, wrong_flags]))
