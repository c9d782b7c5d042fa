#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vault-stage: a volume's life on real dm-crypt with its key in the real Vault. What each CSI call asks of Vault, counted in the
server's audit log; and what CreateVolume and NodeStageVolume answer when Vault fails them: the exact gRPC code, nothing mounted,
nothing formatted, and the same calls work when the fault is over."""
# story: disk=8G needs=vault memory=2048M
import contextlib
import hashlib
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import faultproxy as fp  # noqa: E402
import vaultcoffer  # noqa: E402
import vaultserver  # noqa: E402
from fixture import MIB, CallError, Coffer  # noqa: E402
from keydfaults import BOTH, opened, until_ok  # noqa: E402
from tap import demand  # noqa: E402
from vaultsetup import TENANT_KEY  # noqa: E402

SAMPLE = int(os.environ.get('COFFER_SAMPLE') or 1)
ROUNDS = 1000 if SAMPLE == 1 else 80 // SAMPLE
SIZE = 16 * MIB
UNAVAILABLE, DENIED, PRECONDITION, OK = 'UNAVAILABLE', 'PERMISSION', 'PRECONDITION', 'OK'


class World:
    """Coffer with four key services: transit and KV of the server itself, and both by way of the fault proxy."""

    def __init__(self, w):
        self.w = w
        auth = w.approle()
        direct, front = w.config(w.server, auth=auth)['kms'], w.config(w.proxied, auth=auth)['kms']
        self.c = Coffer(services={**direct, 'vault-front': front['vault'], 'kv-front': front['kv']})
        vaultcoffer.readable(w, auth)
        self.c.install()
        self.c.start()
        self.mark = 0

    def create(self, name, kms):
        return self.c.create(name, SIZE, parameters={'kms': kms})

    # ---- counting

    def start(self):
        self.mark = self.w.vault.audit.mark()

    def asked(self):
        """What the daemons asked since the last call."""
        paths = [e.path for e in self.w.vault.audit.entries(self.mark) if 'root' not in e.policies]
        self.start()
        return paths

    def expect(self, what, *paths):
        got = self.asked()
        demand(len(got) == len(paths) and all(g.startswith(p) for g, p in zip(got, paths)), f'{what} asked Vault: {got}, not {paths}')

    # ---- what must not change

    def traces(self, volume):
        """The image and the record as they are, and what is mounted or mapped."""
        with open(self.c.image(volume), 'rb') as f:
            image = hashlib.file_digest(f, 'sha256').hexdigest()
        return image, self.c.record(volume), self.c.left_over()


# ---- what a call costs

def costs(world, kms):
    c, w = world.c, world.w
    key, secret = f'{w.layout.transit}/', f'{w.layout.kv}/'
    mint, unwrap = {'vault': (key + 'datakey/wrapped/', key + 'decrypt/'), 'kv': (secret + 'data/', secret + 'data/')}[kms]
    warm = world.create(f'warm-{kms}', kms)
    c.stage(warm)
    c.unstage(warm)
    world.start()
    volume = world.create(f'cost-{kms}', kms)
    world.expect('CreateVolume', mint)
    c.stage(volume)
    world.expect('NodeStageVolume of a new volume', unwrap)
    c.stage(volume)
    world.expect('NodeStageVolume of an open volume')
    c.publish(volume)
    c.call(c.node_socket, 'csi.v1.Node/NodeGetVolumeStats', {'volume_id': volume['volume_id'], 'volume_path': c.target(volume)})
    demand(c.call(c.controller_socket, 'csi.v1.Controller/ListVolumes', {})['entries'], 'no volumes')
    world.expect('publish, stats, list')
    c.controller_expand(volume['volume_id'], SIZE + 4 * MIB)
    world.expect('ControllerExpandVolume')
    c.node_expand(volume, SIZE + 4 * MIB)
    world.expect('NodeExpandVolume', unwrap)
    c.unpublish(volume)
    c.unstage(volume)
    world.expect('unpublish, unstage')
    c.stage(volume)
    world.expect('NodeStageVolume of a ready volume', unwrap)
    c.unstage(volume)
    c.delete(volume['volume_id'])
    asked = world.asked()
    metadata = [p for p in asked if p.startswith(secret + 'metadata/')]
    demand(len(metadata) == (1 if kms == 'kv' else 0), f'DeleteVolume asked Vault: {asked}')
    print(f'# DeleteVolume, {kms}: {len(asked)} requests', flush=True)
    c.delete(warm['volume_id'])


def rotations(world):
    """cofferctl volume rotate-key: the new key is one more of the tenant's; a stored key can't be rotated."""
    c, transit = world.c, f'{world.w.layout.transit}/'
    volume, stored = world.create('rotated', 'vault'), world.create('not-rotated', 'kv')
    for v in (volume, stored):
        c.stage(v)
    with open(c.staging(volume) + '/file', 'wb') as f:
        f.write(b'before')
    before, kept, mint, unwrap = c.record(volume), c.record(stored), transit + 'datakey/wrapped/', transit + 'decrypt/'
    for _ in range(2):
        world.start()
        said = c.cofferctl('volume', 'rotate-key', volume['volume_id'], '--admin-socket', c.admin_socket).stderr
        world.expect('rotate-key', mint, unwrap, unwrap, unwrap)
        demand('has a new storage key' in said, said)
    now = c.record(volume)
    demand(now['key']['ciphertext'] != before['key']['ciphertext'] and now['digest'] == before['digest'] and 'staleSlots' not in now,
           'the record')
    c.unstage(volume)
    with open(os.path.join(c.place(volume), 'record.json'), encoding='utf-8') as f:
        text = f.read()
    tampered = json.dumps({**json.loads(text), 'key': before['key']})  # the old form still unwraps, and opens nothing
    with open(os.path.join(c.place(volume), 'record.json'), 'w', encoding='utf-8') as f:
        f.write(tampered)
    demand(code_of(c.stage, volume)[0] == 'DATA_LOSS', 'the key of before is taken')
    with open(os.path.join(c.place(volume), 'record.json'), 'w', encoding='utf-8') as f:
        f.write(text)
    c.stage(volume)
    with open(c.staging(volume) + '/file', 'rb') as f:
        demand(f.read() == b'before', 'the file is another one')
    world.start()
    refused = c.cofferctl('volume', 'rotate-key', stored['volume_id'], '--admin-socket', c.admin_socket, check=False)
    demand(refused.returncode == 1 and 'is stored in Vault itself (hcvault+kv)' in refused.stderr, refused)
    world.expect('a refused rotate-key')
    demand(c.record(stored) == kept, 'the record of the stored key')
    for v in (volume, stored):
        c.unstage(v)
        c.delete(v['volume_id'])


def rounds(world):
    volume = world.create('rounds', 'vault')
    world.c.stage(volume)  # the tenant's first unwrap costs one request more: a wrong context, which must be refused
    world.c.unstage(volume)
    world.start()
    for i in range(ROUNDS):
        if i > 0 and i % 100 == 0:
            print(f'# {i} rounds', flush=True)
        world.c.stage(volume)
        world.c.unstage(volume)
    unwrap = f'{world.w.layout.transit}/decrypt/'
    asked = world.asked()
    unwraps, more = [p for p in asked if p.startswith(unwrap)], {p for p in asked if not p.startswith(unwrap)}
    demand(len(unwraps) == ROUNDS, f'{len(unwraps)} unwraps for {ROUNDS} rounds')
    demand(more <= {'auth/token/renew-self'}, f'more was asked than unwraps, and the token renewed at 2/3 of its hour: {more}')
    tokens = len(world.w.layout.live_tokens(BOTH[0]))
    demand(tokens == 1, f'{tokens} live tokens')
    world.c.delete(volume['volume_id'])


def clean_exit(world):
    demand(world.c.keyd.stop() == 0, 'its exit status')
    tokens = len(world.w.layout.live_tokens(BOTH[0]))
    world.c.start_keyd()
    demand(tokens == 0, f'{tokens} live tokens')


# ---- faults

@contextlib.contextmanager
def sealed(world, _volumes):
    world.w.vault.seal()
    yield
    world.w.vault.unseal()


@contextlib.contextmanager
def stopped(world, _volumes):
    world.w.vault.stop()
    yield
    world.w.vault.start()


@contextlib.contextmanager
def withdrawn(world, _volumes):
    for role in BOTH:
        name = world.w.layout.policy_name(role)
        world.w.root.call('PUT', f'sys/policies/acl/{name}', {'policy': 'path "auth/token/*" { capabilities = ["update", "read"] }'})
    yield
    world.w.layout.write_policies()


@contextlib.contextmanager
def revoked(world, _volumes):
    world.w.revoke()
    yield


@contextlib.contextmanager
def too_old(world, _volumes):
    key = f'{world.w.layout.transit}/keys/{TENANT_KEY}lab'
    world.w.root.call('POST', f'{key}/rotate')
    version = world.w.root.call('GET', key).data['latest_version']
    world.w.root.call('POST', f'{key}/config', {'min_decryption_version': version})
    yield
    world.w.root.call('POST', f'{key}/config', {'min_decryption_version': 1})


@contextlib.contextmanager
def hidden(world, volumes):
    paths = [world.w.layout.secret(world.c.record(v)['uuid']) for v in volumes]
    for path in paths:
        world.w.root.call('DELETE', f'{world.w.layout.kv}/data/{path}')
    yield
    for path in paths:
        world.w.root.call('POST', f'{world.w.layout.kv}/undelete/{path}', {'versions': [1]})


@contextlib.contextmanager
def keyd_killed(world, _volumes):
    world.c.keyd.kill()
    yield
    world.c.start_keyd()


def scripted(action, path='*'):
    @contextlib.contextmanager
    def fault(world, _volumes):
        world.w.front.rule(action, path=path)
        yield
        world.w.front.clear()
    return fault


# name, key service, fault, CreateVolume's code, NodeStageVolume's code
ROWS = [
    ('sealed', 'vault', sealed, UNAVAILABLE, UNAVAILABLE),
    ('sealed', 'kv', sealed, UNAVAILABLE, UNAVAILABLE),
    ('stopped', 'vault', stopped, UNAVAILABLE, UNAVAILABLE),
    ('token revoked', 'vault', revoked, OK, OK),
    ('policy withdrawn', 'vault', withdrawn, DENIED, DENIED),
    ('key version too old', 'vault', too_old, OK, PRECONDITION),
    ('secret deleted', 'kv', hidden, OK, PRECONDITION),
    ('store and read 403', 'kv-front', scripted(fp.status(403), '*/data/*'), DENIED, DENIED),
    # nor can be taken away what may have been stored: the create isn't undone, and is not over
    ('everything 403', 'kv-front', scripted(fp.status(403)), 'ABORTED', DENIED),
    ('status 404', 'vault-front', scripted(fp.status(404)), PRECONDITION, PRECONDITION),
    ('status 503', 'vault-front', scripted(fp.status(503)), UNAVAILABLE, UNAVAILABLE),
    ('cut in mid-reply', 'kv-front', scripted(fp.cut()), UNAVAILABLE, UNAVAILABLE),
    ('malformed JSON', 'vault-front', scripted(fp.malformed()), UNAVAILABLE, UNAVAILABLE),
    ('coffer-keyd killed', 'vault', keyd_killed, UNAVAILABLE, UNAVAILABLE),
]


def code_of(call, *args):
    """(code, what came)"""
    try:
        return OK, call(*args)
    except CallError as e:
        return e.code, e.message


def again(call, *args):
    """Until it works; the breaker may let nobody ask for some seconds."""
    class Answer:
        def __init__(self):
            self.code, self.value = code_of(call, *args)

        def __str__(self):
            return f'{self.code}: {self.value}'
    return until_ok(Answer, 120).value


def play(world, row, lines):
    name, kms, fault, create_code, stage_code = row
    c, tag = world.c, f'{name.replace(" ", "-")}-{kms}'.lower()
    fresh, ready = again(world.create, f'{tag}-fresh', kms), again(world.create, f'{tag}-ready', kms)
    again(c.stage, ready)
    with open(c.staging(ready) + '/file', 'wb') as f:
        f.write(b'before')
    c.unstage(ready)
    before, problems = [world.traces(v) for v in (fresh, ready)], []
    with fault(world, (fresh, ready)):
        made, said = code_of(world.create, f'{tag}-made', kms)
        staged = [code_of(c.stage, v) for v in (fresh, ready)]
        if made != create_code:
            problems.append(f'CreateVolume: {made}: {said}')
        problems += [f'NodeStageVolume: {code}: {text}' for code, text in staged if code != stage_code]
        if stage_code != OK and [world.traces(v) for v in (fresh, ready)] != before:
            problems.append(f'something changed: {c.left_over()}, {[c.record(v)["state"] for v in (fresh, ready)]}')
    made_volume = again(world.create, f'{tag}-made', kms)
    for v in (fresh, ready, made_volume):
        again(c.stage, v)
    with open(c.staging(ready) + '/file', 'rb') as f:
        if f.read() != b'before':
            problems.append('the file is another one')
    for v in (fresh, ready, made_volume):
        c.unstage(v)
        again(c.delete, v['volume_id'])
    lines.append(f'# {name:<22} {kms:<12} {made:<13} {staged[0][0]:<13} {staged[1][0]:<13}')
    demand(not problems, '\n'.join(problems))


def story(vault, folder, tap):
    with opened(vault, folder) as w:
        world, lines = World(w), []
        try:
            tests = [(f'{kms}: 1 request for create, stage, expand; 0 for all else', costs, kms) for kms in ('vault', 'kv')]
            tests += [('rotate-key: 4 requests; not of a key that Vault stores', rotations)]
            tests += [(f'{ROUNDS} rounds of stage and unstage: as many requests, 1 live token', rounds),
                      ('after a clean exit of coffer-keyd there is no live token', clean_exit)]
            tests += [(f'{row[0]}, {row[1]}: CreateVolume {row[3]}, NodeStageVolume {row[4]}; nothing changed; works afterwards',
                       play, row, lines) for row in (ROWS if SAMPLE == 1 else ROWS[::3])]  # all faults, without dm-crypt: vault-faults
            for name, test, *more in tests:
                if not sys.argv[1:] or any(text in name for text in sys.argv[1:]):
                    tap.run(name, test, world, *more)
            print(f'#\n# {"fault":<22} {"key service":<12} {"CreateVolume":<13} {"Stage, new":<13} {"Stage, ready":<13}\n' +
                  '\n'.join(lines), flush=True)
            tap.check(not world.c.left_over(), 'nothing is left over', world.c.left_over())
        finally:
            world.c.stop()
        w.logs += [os.path.join(world.c.root, f'coffer-{name}.log') for name in ('keyd', 'controller', 'node')]
        found, n = w.leaks()
        tap.check(not found and n > 20, f'no key, token or credential in a log ({n} forms looked for)', '\n'.join(found))


vaultserver.main('vault-stage', "it can't be sealed, nor its audit log read", story)
