#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vault-tenant: volumes that pods open with their own service account tokens (tenantIdentity: pod), on real dm-crypt with the real
Vault. The node's coffer-keyd has no identity of its own, so Vault alone decides: team-a's pod opens team-a's volume; team-b's, an
expired token, one of another audience, of a deleted pod, forged, garbage or none don't, each with its code, nothing mounted and no
mapping left. A second pod, republishing, growing, outages, records that lie; SIGKILL at every boundary of the calls, repeated or
given up. No token, of a pod or of Vault, in a log or in memory afterwards."""
# story: disk=8G needs=vault memory=2048M
import hashlib
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import leakscan  # noqa: E402
import podjobs  # noqa: E402
import vaultserver  # noqa: E402
from files import write  # noqa: E402
from fixture import MIB, CallError  # noqa: E402
from keydfaults import opened  # noqa: E402
from podcoffer import NAMESPACE, PodCoffer, Pods, tokens  # noqa: E402
from sweep import demand_clean, until_ok  # noqa: E402
from tap import demand  # noqa: E402
from watched import Paused  # noqa: E402

SIZE = 16 * MIB
TEXT = b'what team-a wrote\n' * 1000


class World:
    def __init__(self, w, pods, root=None, **more):
        self.w, self.pods, self.c = w, pods, PodCoffer(w, pods, root, **more)
        self.mark, self.size = 0, SIZE
        self.c.install()
        self.c.start()

    def start(self):
        self.mark = self.w.vault.audit.mark()

    def asked(self):
        """What the daemons asked of Vault since start()."""
        paths = [e.path for e in self.w.vault.audit.entries(self.mark) if 'root' not in e.policies]
        self.start()
        return paths

    def staged(self, name, tenant='team-a', kms='kubernetes'):
        volume = self.c.create_for(name, SIZE, tenant, kms)
        self.c.stage(volume)
        return volume

    def drop(self, volume, *pods):
        for n in pods:
            self.c.unpublish(volume, n)
        self.c.unstage(volume)
        demand_clean(self.c)
        self.c.delete(volume['volume_id'])

    def traces(self, volume):
        """The record, the header, and when anything was last written."""
        st = os.stat(self.c.image(volume))
        with open(self.c.image(volume), 'rb') as f:
            return hashlib.sha256(f.read(MIB)).hexdigest(), st.st_mtime_ns, st.st_size, self.c.record(volume)

    def write(self, volume, n=0):
        write(self.c.target(volume, n) + '/file', TEXT)

    def read(self, volume, n=0):
        with open(self.c.target(volume, n) + '/file', 'rb') as f:
            demand(f.read() == TEXT, 'the data is not what was written')

    def revoked(self):
        end = time.monotonic() + 30
        while (live := self.pods.live_tokens()) and time.monotonic() < end:
            time.sleep(0.2)
        demand(not live, f'{len(live)} tokens of pods live on in Vault')


# ---- the life of one
def life(world):
    c, pods = world.c, world.pods
    for kms, token in (('kubernetes', pods.token), ('jwt', pods.jwt)):
        volume = world.c.create_for(f'life-{kms}', SIZE, kms=kms)
        demand(volume['volume_context']['tenantIdentity'] == 'pod' and c.record(volume)['tenantIdentity'] == 'pod', volume)
        demand(c.record(volume)['tenant'] == 'team-a', c.record(volume))
        before = world.traces(volume)
        world.start()
        c.stage(volume)
        c.stage(volume)
        demand(not c.left_over() and world.traces(volume) == before, f'stage left {c.left_over()}')
        demand(not world.asked(), 'stage asked Vault')
        c.publish_as(volume, token())
        asked = world.asked()
        login = f'auth/{pods.auth(kms)["pod_mount"]}/login'
        demand(asked[:2] == [login, 'sys/capabilities-self'] and asked[-1] == 'auth/token/revoke-self', asked)
        demand(all('/decrypt/' in p for p in asked[2:-1]) and len(asked) in (4, 5), asked)
        world.write(volume)
        demand(c.record(volume)['state'] == 'ready', c.record(volume)['state'])
        c.unpublish(volume)
        demand(not c.left_over(), f'the last unpublish left {c.left_over()}')
        c.unpublish(volume)
        c.unstage(volume)
        c.unstage(volume)
        c.stage(volume)
        c.publish_as(volume, token(), where='volume_context')  # clusters before 1.35
        world.read(volume)
        world.revoked()
        world.drop(volume, 0)
    demand('logged in to Vault' in c.minter.log_text(), c.minter.log_text())
    demand('logged in to Vault' not in c.keyd.log_text(), 'the node\'s coffer-keyd logged in itself')


# ---- who is refused
def rows(pods):
    """key service, what it is, token, code, a word of the sentence"""
    namespace = 'it is of another namespace'
    return [
        ('kubernetes', 'team-b\'s', lambda: pods.token('team-b'), 'PERMISSION', namespace),
        ('kubernetes', 'a deleted pod\'s', pods.deleted, 'PERMISSION', 'login by the pod\'s token'),
        ('kubernetes', 'one of another audience', lambda: pods.token(audience='api'), 'PERMISSION', 'login by the pod\'s token'),
        ('kubernetes', 'garbage', lambda: 'no.such.token', 'PERMISSION', 'login by the pod\'s token'),
        ('kubernetes', 'what is no token', lambda: 'no token\n', 'INVALID', 'characters that no token has'),
        ('kubernetes', 'none', lambda: None, 'PRECONDITION', 'the request has none for audience \'vault\''),
        ('jwt', 'team-b\'s', lambda: pods.jwt('team-b'), 'PERMISSION', namespace),
        ('jwt', 'an expired one', pods.expired, 'PERMISSION', 'login by the pod\'s token'),
        ('jwt', 'one of another audience', lambda: pods.jwt(audience='api'), 'PERMISSION', 'login by the pod\'s token'),
        ('jwt', 'a forged one', pods.forged, 'PERMISSION', 'login by the pod\'s token'),
        ('jwt', 'none', lambda: None, 'PRECONDITION', 'the request has none for audience \'vault\''),
    ]


def good(pods, kms):
    return pods.token() if kms == 'kubernetes' else pods.jwt()


def refused(world, tap):
    """Before the first format, with data, and beside a pod that has it."""
    c, pods = world.c, world.pods
    volumes = {}
    for kms in ('kubernetes', 'jwt'):
        volumes[kms, 'new'] = world.staged(f'fresh-{kms}', kms=kms)
        volumes[kms, 'ready'] = world.staged(f'ready-{kms}', kms=kms)
        c.publish_as(volumes[kms, 'ready'], good(pods, kms))
        world.write(volumes[kms, 'ready'])
        c.unpublish(volumes[kms, 'ready'])
    for kms, what, token, code, word in rows(pods):
        for state in ('new', 'ready'):
            volume = volumes[kms, state]
            before = world.traces(volume)
            tap.expect_error(f'{kms}, {state}: {what} is {code}', code, c.publish_as, volume, token(), word=word)
            tap.check(not c.left_over() and world.traces(volume) == before and not os.path.exists(c.target(volume)),
                      f'{kms}, {state}: {what} leaves nothing', c.left_over())
    for raw in ('{"vault":', '[]', '{"vault":{"token":""}}'):
        volume = volumes['kubernetes', 'ready']
        tap.expect_error(f'tokens that can\'t be read ({raw})', 'INVALID', lambda v=volume, r=raw: c.publish_as(
            v, None, raw={next(iter(tokens('x'))): r}), word='serviceAccount.tokens')
    for kms in ('kubernetes', 'jwt'):
        tap.run(f'{kms}: a second pod', second_pod, world, tap, volumes[kms, 'ready'], kms)
    tap.run('no token of a pod lives on in Vault', world.revoked)
    for volume in volumes.values():
        world.drop(volume)


def second_pod(world, tap, volume, kms):
    c, pods = world.c, world.pods
    c.publish_as(volume, good(pods, kms))
    c.publish_as(volume, good(pods, kms), n=1)
    world.read(volume, 1)
    before = c.left_over()
    for row_kms, what, token, code, word in rows(pods):
        if row_kms == kms:
            tap.expect_error(f'{kms}, open: {what} is {code}', code, c.publish_as, volume, token(), 2, word=word)
            tap.check(c.left_over() == before and not os.path.exists(c.target(volume, 2)), f'{kms}, open: {what} changes nothing')
    c.unpublish(volume)
    world.read(volume, 1)
    c.publish_as(volume, good(pods, kms), n=3)
    c.unpublish(volume, 1)
    world.read(volume, 3)
    c.unpublish(volume, 3)
    demand(not c.left_over(), f'left over: {c.left_over()}')


def again(world):
    """Published already: OK with a new token, a bad one, none, and without Vault."""
    c, pods = world.c, world.pods
    volume = world.staged('again')
    c.publish_as(volume, pods.token())
    world.write(volume)
    world.start()
    for token in (pods.token(), pods.token('team-b'), None):
        c.publish_as(volume, token)
    c.stage(volume)
    demand(not world.asked(), 'publishing again asked Vault')
    world.w.vault.seal()
    c.publish_as(volume, pods.token())
    world.w.vault.unseal()
    world.read(volume)
    world.drop(volume, 0)


def outage(world, tap):
    c, pods = world.c, world.pods
    volume = world.staged('outage')
    for name, down, up in (('Vault is sealed', world.w.vault.seal, world.w.vault.unseal),
                           ('TokenReview fails', lambda: setattr(pods.api, 'status', 500), lambda: setattr(pods.api, 'status', 201)),
                           ('coffer-keyd is gone', c.keyd.kill, None)):
        down()
        before = world.traces(volume)
        # a TokenReview that fails is a refused login to Vault's method: kubelet repeats either
        codes = ('PERMISSION', 'UNAVAILABLE') if name.startswith('Token') else 'UNAVAILABLE'
        tap.expect_error(f'{name}: {codes}', codes, c.publish_as, volume, pods.token())
        tap.check(not c.left_over() and world.traces(volume) == before, f'{name}: nothing is left', c.left_over())
        (up or c.restart_keyd)()
        until_ok(lambda: c.publish_as(volume, pods.token()))
        until_ok(lambda: c.unpublish(volume))
    world.drop(volume)


# ---- what Vault lets pods do is tested
def lax_policy(world, tap):
    """A role that lets any pod open any tenant's volume is refused, although Vault would let it."""
    c, pods, layout = world.c, world.pods, world.w.layout
    volume = world.staged('lax')
    with open(os.path.join(os.path.dirname(__file__), '../../deploy/vault/node.hcl'), encoding='utf-8') as f:
        layout.write_policy('node-tenant', layout.substitute(f.read()))
    tap.expect_error('any tenant\'s key: PERMISSION', 'PERMISSION', c.publish_as, volume, pods.token(),
                     word='must not allow a pod of another tenant')
    pods.tenant_policy('kubernetes', 'node-tenant')
    tap.check(not c.left_over(), 'nothing is left', c.left_over())
    c.publish_as(volume, pods.token())
    world.drop(volume, 0)


# ---- what was created is what is opened
def create_refused(world, tap):
    c = world.c

    def create(name='x', block=False, **parameters):
        c.create(name, SIZE, block, parameters={'tenantIdentity': 'pod', 'kms': 'kubernetes', NAMESPACE: 'team-a', **parameters})
    for name, how, word in (('raw block', {'block': True}, 'raw block'),
                            ('a key service without pod_role', {'kms': 'no-pods'}, '\'pod_role\''),
                            ('a kv key service', {'kms': 'kv'}, 'isn\'t hcvault://'),
                            ('another tenant', {'tenant': 'team-b'}, 'the claim\'s namespace'),
                            ('another word', {'tenantIdentity': 'user'}, 'must be node or pod')):
        tap.expect_error(f'create: {name} is INVALID', 'INVALID', lambda h=how: create(**h), word=word)
    volume = c.create_for('twice', SIZE)
    demand(c.create_for('twice', SIZE)['volume_id'] == volume['volume_id'], 'another volume came')
    tap.expect_error('the name exists with another identity', 'EXISTS', lambda: create('twice', tenantIdentity='node'),
                     word='tenantIdentity')
    c.delete(volume['volume_id'])


def set_record(c, volume, **fields):
    """None: not there."""
    path = os.path.join(c.place(volume), 'record.json')
    record = {**c.record(volume), **fields}
    with open(path, 'w', encoding='utf-8') as f:
        json.dump({k: v for k, v in record.items() if v is not None or k not in fields}, f)


def lies(world, tap):
    """A storage administrator who makes a pod's volume a node's, or team-a's team-b's."""
    c, pods = world.c, world.pods
    volume = world.staged('lies')
    for fields, word in (({'tenantIdentity': None}, 'tenantIdentity'), ({'tenant': 'team-b'}, 'tenant')):
        record = c.record(volume)
        set_record(c, volume, **fields)
        tap.expect_error(f'a record that says otherwise ({word}): stage', 'DATA_LOSS', c.stage, volume, word=word)
        tap.expect_error(f'a record that says otherwise ({word}): publish', 'DATA_LOSS', c.publish_as, volume, pods.token('team-b'),
                         word=word)
        set_record(c, volume, **{k: record[k] for k in fields})
    lying = {**volume, 'volume_context': {k: v for k, v in volume['volume_context'].items() if k != 'tenantIdentity'}}
    tap.expect_error('a context that says otherwise: publish', 'DATA_LOSS', c.publish_as, lying, pods.token(),
                     word='tenantIdentity')
    c.publish_as(volume, pods.token())
    c.unpublish(volume)
    # with data, the MAC binds it too, whatever the context says
    record = c.record(volume)
    set_record(c, volume, tenantIdentity=None)
    tap.expect_error('record and context lie together: no key of the node\'s', ('PERMISSION', 'UNAVAILABLE', 'DATA_LOSS'),
                     c.stage, lying)
    set_record(c, volume, tenantIdentity=record['tenantIdentity'])
    c.unstage(volume)
    tap.check(not c.left_over(), 'nothing is left', c.left_over())
    world.drop(volume)


def break_glass(world, tap):
    c, pods = world.c, world.pods
    volume = world.staged('glass')
    c.publish_as(volume, pods.token())
    world.start()
    p = c.cofferctl('volume', 'unlock-key', volume['volume_id'], '--admin-socket', c.admin_socket, '--reason', 'x', '--yes',
                    check=False)
    tap.check(p.returncode != 0 and 'by the token of a pod' in p.stderr and not p.stdout, 'break-glass is refused', p.stderr)
    tap.check(not world.asked(), 'and asks nobody')
    world.drop(volume, 0)


# ---- growing
def grow(world, tap):
    """NodeExpand brings no token: the image grows, the rest with the next publish, which may be of a pod that has it."""
    c, pods = world.c, world.pods
    volume, size = world.staged('grow'), SIZE
    c.publish_as(volume, pods.token())
    world.write(volume)

    def wanted():
        if c.expand == 'controller':
            c.controller_expand(volume['volume_id'], size)
        world.start()
        tap.expect_error(f'--expand={c.expand}: NodeExpand says when', 'UNAVAILABLE', c.node_expand, volume, size,
                         word='next NodePublishVolume')
        tap.check(not world.asked(), 'and asks nobody')
        demand(c.record(volume)['size'] == size and c.mapping_bytes(volume) < size, 'sizes')

    def grown(n=0):
        demand(c.node_expand(volume, size, c.target(volume, n))['capacity_bytes'] == size, 'its size')
        demand(c.mapping_bytes(volume) == size, 'the mapping')
        s = os.statvfs(c.target(volume, n))
        demand(s.f_blocks * s.f_frsize > size * 3 // 4, 'the file system')
        world.read(volume, n)
    for name, publish, n in (('the same pod, published again', lambda: c.publish_as(volume, pods.token()), 0),
                             ('a second pod', lambda: c.publish_as(volume, pods.token(), n=1), 1)):
        size += 8 * MIB
        wanted()
        publish()
        tap.run(f'{name}: all of it has the new size', grown, n)
    size += 8 * MIB
    wanted()
    c.publish_as(volume, pods.token('team-b'))  # it has it already: OK, and nothing grows
    demand(c.mapping_bytes(volume) < size, 'it grew for team-b')
    tap.expect_error('a second pod of team-b gets nothing', 'PERMISSION', c.publish_as, volume, pods.token('team-b'), 2)
    for n in (0, 1):
        c.unpublish(volume, n)
    c.publish_as(volume, pods.token())
    tap.run('the next pod: all of it has the new size', grown)
    world.drop(volume, 0)


# ---- leaks
def in_memory(world):
    """Tokens of pods, Vault's tokens for them, and keys, that coffer-keyd's or coffer-node's memory holds; how many were looked for."""
    needles = leakscan.Needles(world.w.secrets('client_token', 'jwt', 'plaintext'))
    return {(name, f.what.split(',')[0].rsplit(' ', 1)[0]) for d, name in ((world.c.keyd, 'coffer-keyd'), (world.c.node, 'coffer-node'))
            for f in leakscan.scan_memory(needles, d.process.pid, name, b'coffer')}, len(needles.everywhere)


def memory(world, tap):
    """While a publish is held they are there, so that the scan is seen to see; a moment later none is."""
    c, pods = world.c, world.pods
    volume = world.staged('memory')
    with Paused(c, 'coffer-keyd', 'keyd:unwrap:before-write', lambda: c.publish_as(volume, pods.token())):
        held, _ = in_memory(world)
    sees = {('coffer-keyd', 'vault token'), ('coffer-keyd', 'service account token'), ('coffer-node', 'service account token')}
    tap.check(sees <= held and ('coffer-node', 'vault token') not in held, 'what a publish under way holds is seen', held)
    c.unpublish(volume)
    for n, where in enumerate(('secrets', 'volume_context')):
        c.publish_as(volume, pods.token(), n=n, where=where)
    try:
        c.publish_as(volume, pods.token('team-b'), n=2)
    except CallError:
        pass
    world.revoked()
    end = time.monotonic() + 20
    while (found := in_memory(world))[0] and time.monotonic() < end:
        time.sleep(1)
    tap.check(not found[0], f'no token in memory ({found[1]} forms looked for)', found[0])
    world.drop(volume, 0, 1)


def logs(world, tap):
    w = world.w
    w.logs += world.c.logs()
    found, n = w.leaks()
    kinds = set(w.raw_texts('jwt', 'client_token', 'plaintext').values())
    tap.check(not found and kinds == {'jwt', 'client_token', 'plaintext'}, f'no key, token or credential in a log ({n} forms looked for)',
              '\n'.join(found) or kinds)
    needles = w.needles()
    args = [f for pid in (d.process.pid for d in (world.c.keyd, world.c.minter, world.c.node, world.c.controller))
            for part in ('cmdline', 'environ') for f in leakscan.scan_file(needles, 'argv', f'/proc/{pid}/{part}')]
    tap.check(not args, 'nor in an argument or an environment', args)


def story(vault, folder, tap):
    tests = [('life: stage opens nothing, the first pod opens, the last one closes', life, False), ('who is refused', refused, True),
             ('published again', again, False), ('outages', outage, True), ('a policy that lets pods do too much', lax_policy, True),
             ('creating', create_refused, True), ('records and contexts that lie', lies, True), ('break-glass', break_glass, True),
             ('growing', grow, True), ('memory', memory, True), ('killed', podjobs.killed, True)]
    with opened(vault, folder) as w:
        pods = Pods(w)
        world = World(w, pods, fault=True)
        try:
            for name, test, has_tap in tests:
                if not sys.argv[1:] or any(text in name for text in sys.argv[1:]):
                    print(f'# {name}', flush=True)
                    tap.run(name, test, world, *([tap] if has_tap else []))
            tap.check(not world.c.left_over(), 'nothing is left over', world.c.left_over())
            logs(world, tap)
        finally:
            world.c.stop()
        node = World(w, pods, os.path.join(os.environ['COFFER_SCRATCH'], 'node'), expand='node')
        try:
            tap.run('growing, --expand=node', grow, node, tap)
        finally:
            node.c.stop()
            pods.close()


vaultserver.main('vault-tenant', "it can't be sealed, nor its audit log read", story)
