#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""client-keys: volumes whose key the user's device makes and lends for a session (keySource client), on real dm-crypt with the real
Vault; the devices are the openssl program and Node.js' WebCrypto. Full sessions; every wrong form is refused with its exact code and
changes nothing; growth by a session; a second device comes and the first goes, by a new key, in use and killed at every point; and no key,
no session and no form is on the disk, in Vault's storage, in a log or in memory."""
# story: disk=8G needs=vault memory=2048M
import base64
import hashlib
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import clientrecipients  # noqa: E402
import leakhunt  # noqa: E402
import leakscan  # noqa: E402
import vaultserver  # noqa: E402
from clientdevice import OpenSslDevice, ServerKey, WebDevice, commitment, frame  # noqa: E402
from fixture import GID, MIB, UID_KEYD, CallError, Coffer  # noqa: E402
from keydclient import Connection, Keyd  # noqa: E402
from keydlib import frame as wire_frame  # noqa: E402
from sweep import sampled  # noqa: E402
from tap import demand  # noqa: E402
from vaultsetup import KV_PREFIX, SERVER_KEY, TENANT_KEY, Layout  # noqa: E402
from watched import derived_passphrase  # noqa: E402

SIZE, KEY_NAME, SERVER_KEY_OP = 16 * MIB, f'{SERVER_KEY}1', 8
INVALID, PRECONDITION, EXISTS = 'INVALID', 'PRECONDITION', 'EXISTS'
FOREIGN = 'the session was not made for this volume by this device'


class ClientCoffer(Coffer):
    """The calls that take secrets, with a volume's created secrets (volume['made']) and its device (volume['device'])."""

    def make(self, name, device, made=None, **parameters):
        made = made or device.create()
        volume = self.create(name, SIZE, parameters={'kms': 'vault', 'keySource': 'client', **parameters}, secrets=made)
        return {**volume, 'device': device, 'made': made}

    def stage_with(self, volume, secrets):
        os.makedirs(self.staging(volume), exist_ok=True)
        self.call(self.node_socket, 'csi.v1.Node/NodeStageVolume', {
            'volume_id': volume['volume_id'], 'staging_target_path': self.staging(volume), 'volume_context': volume['volume_context'],
            'volume_capability': self.capability(), 'secrets': secrets})

    def expand_with(self, volume, size, secrets):
        return self.call(self.node_socket, 'csi.v1.Node/NodeExpandVolume', {
            'volume_id': volume['volume_id'], 'volume_path': self.staging(volume), 'staging_target_path': self.staging(volume),
            'capacity_range': {'required_bytes': size}, 'secrets': secrets})

    def traces(self, volume):
        with open(self.image(volume), 'rb') as f:
            return hashlib.file_digest(f, 'sha256').hexdigest(), self.record(volume), self.left_over()


class World:
    def __init__(self, vault, folder):
        self.vault, self.folder, self.layout = vault, folder, Layout(vault)
        self.layout.mount_engines()
        self.layout.write_policies()
        self.layout.root.call('POST', f'{self.layout.transit}/keys/{KEY_NAME}', {'type': 'rsa-3072'})
        for path in (folder, os.path.dirname(folder)):
            os.chmod(path, 0o755)
        host = vault.address.removeprefix('https://')
        self.uri = f'hcvault://{host}/{self.layout.transit}/keys/{TENANT_KEY}{{tenant}}'
        common = {'ca': vault.ca, 'auth': self.login('controller', 'node')}
        services = {'vault': {'uri': self.uri, 'server_key': KEY_NAME, **common}, 'plain': {'uri': self.uri, **common},
                    'kv': {'uri': f'hcvault+kv://{host}/{self.layout.kv}/{KV_PREFIX}', **common}}
        os.chown(vault.ca, UID_KEYD, GID)
        self.c = ClientCoffer(services=services, fault=True)
        self.c.keyd_allow += ',UNWRAP_CLIENT'
        self.c.install()
        self.c.start()
        self.secrets, self.scheduler = {}, None
        self.server = self.read_server_key()
        self.devices = {'openssl': OpenSslDevice(folder, 'phone', 'Anna\'s phone')}
        if not WebDevice.why_not():
            self.devices['WebCrypto'] = WebDevice(folder, 'browser', 'Anna\'s browser')

    def login(self, *roles):
        role = self.layout.approle(*roles)
        path = f'{self.folder}/secret-id-{"-".join(roles)}'
        with open(path, 'w', encoding='ascii', opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            f.write(role.body['secret_id'] + '\n')
        if roles != ('scheduler',):
            os.chown(path, UID_KEYD, GID)
        return {'method': 'approle', 'mount': role.mount, 'role': '-'.join(roles), 'role_id': role.body['role_id'], 'secret_id_path': path}

    def read_server_key(self):
        """As a scheduler does: by a coffer-keyd of its own, whose login may read public keys and nothing else."""
        config = {'pools': {'p': {'backend': 'file', 'path': '/p', 'kms': ['vault']}},
                  'kms': {'vault': {'uri': self.uri, 'server_key': KEY_NAME, 'ca': self.vault.ca, 'auth': self.login('scheduler')}}}
        with Keyd(self.folder, config, allow='SERVER_KEY', name='scheduler') as keyd, Connection(keyd.path) as c:
            answer = c.ask(wire_frame(SERVER_KEY_OP, 60000, 'vault'))
            self.scheduler = keyd.log()
        demand(answer.code == 'OK', str(answer))
        return ServerKey(answer.rest[0].decode(), answer.rest[1].decode(), answer.rest[2])

    # ---- what is looked for in the end

    def know(self, volume, session=None):
        key = volume['device'].key(volume['made'])
        name = f'{hashlib.sha256(key).hexdigest()[:8]} of {volume["volume_id"]}'
        self.secrets[f'key {name}'] = key
        self.secrets[f'passphrase {name}'] = derived_passphrase(key, volume['made']['uuid'])
        if session:
            self.know_form(volume, session)

    def know_form(self, volume, session):
        self.secrets[f'form {len(self.secrets)} of {volume["volume_id"]}'] = base64.b64decode(session['session'])

    def session(self, volume, **other):
        made = volume['device'].session(volume['volume_id'], volume['made'], self.server, **other)
        self.know(volume, made)
        return made

    def stage(self, volume):
        self.c.stage_with(volume, self.session(volume))


def code_of(call, *args, **more):
    try:
        return 'OK', call(*args, **more)
    except CallError as e:
        return e.code, e.message


def refused(what, code, word, call, *args, **more):
    got, said = code_of(call, *args, **more)
    demand(got == code and word in str(said), f'{what}: {got}: {said} (expected {code}, "{word}")')


# ---- a whole session

def full_session(w, kind):
    c, device = w.c, w.devices[kind]
    volume = c.make(f'life-{kind}'.lower(), device)
    made, record = volume['made'], c.record(volume)
    demand(made['commitment'] == commitment(device.key(made), made['uuid']), 'the commitment')
    demand('commitment' not in volume['volume_context'], volume['volume_context'])
    demand(record['uuid'] == made['uuid'] and record['keySource'] == 'client' and record['key'] ==
           {'kind': 'client', 'ciphertext': f'commit:v1:{made["commitment"]}', 'key_version': 1}, record)
    demand(record['recipients'] == [{'alg': made['algorithm'], 'key': made['publicKey'], 'label': made['label'],
                                     'wrapped': made['wrapped']}], record)
    again = c.make(f'life-{kind}'.lower(), device, made)
    demand(again['volume_context'] == volume['volume_context'] and c.record(volume) == record, 'the same call again')
    other = device.create()
    for name in ('uuid', 'commitment', 'wrapped', 'label'):
        changed = {**made, name: other[name] + ('x' * (name == 'label'))}
        refused(f'another {name}', EXISTS, 'another', c.make, f'life-{kind}'.lower(), device, changed)
    w.stage(volume)
    with open(c.staging(volume) + '/file', 'wb') as f:
        f.write(b'what the user wrote')
    c.stage_with(volume, {})  # it is open: no session is needed, nor Vault
    c.publish(volume)
    with open(c.target(volume) + '/file', 'rb') as f:
        demand(f.read() == b'what the user wrote', 'the file at the target')
    c.unpublish(volume)
    c.unstage(volume)
    demand(not c.left_over(), c.left_over())
    w.stage(volume)  # by a new form
    with open(c.staging(volume) + '/file', 'rb') as f:
        demand(f.read() == b'what the user wrote', 'the file after a new session')
    c.unstage(volume)
    demand(c.record(volume)['recipients'] == record['recipients'] and c.record(volume)['state'] == 'ready', 'the record')
    c.delete(volume['volume_id'])


# ---- wrong forms

def wrong_forms(w, volume, others):
    """name -> (code, word, secrets)"""
    device, vid = volume['device'], volume['volume_id']
    good, key, made = w.session(volume), device.key(volume['made']), volume['made']
    foreign = {name: w.session(v) for name, v in others.items()}
    return {
        'no session': (PRECONDITION, "secret 'session' is missing", {}),
        'no server key': (PRECONDITION, "secret 'serverKey' is missing", {k: v for k, v in good.items() if k != 'serverKey'}),
        'no fingerprint': (PRECONDITION, "secret 'fingerprint' is missing", {k: v for k, v in good.items() if k != 'fingerprint'}),
        'no base64': (INVALID, "secret 'session' must be base64", {**good, 'session': 'not base64!'}),
        'a line end': (INVALID, "secret 'session' must be base64", {**good, 'session': good['session'] + '\n'}),
        'no server key id': (INVALID, "secret 'serverKey' must be", {**good, 'serverKey': KEY_NAME}),
        'no hex': (INVALID, "secret 'fingerprint' must be", {**good, 'fingerprint': 'Anna'}),
        'another server key': (INVALID, "isn't a version of", {**good, 'serverKey': f'{KEY_NAME}0:1'}),
        'a later version': (INVALID, FOREIGN, {**good, 'serverKey': f'{KEY_NAME}:7'}),
        'for another key': (INVALID, FOREIGN, device.session(vid, made, ServerKey(w.server.key_id, 'SHA-256', device.der))),
        'by another hash': (INVALID, FOREIGN, device.session(vid, made, w.server, hash='sha512')),
        'by SHA-1': (INVALID, FOREIGN, device.session(vid, made, w.server, hash='sha1')),
        'a flipped bit': (INVALID, FOREIGN, device.session(vid, made, w.server, flip=1234)),
        'expired': (PRECONDITION, 'the session is over', device.session(vid, made, w.server, seconds=-1)),
        'expired, with a later expiry in front': (INVALID, FOREIGN, device.session(vid, made, w.server, plain=(
            frame(key, vid, made['uuid'], device.fingerprint, 1)[:-8] + (1 << 40).to_bytes(8, 'big')))),
        'another key': (INVALID, FOREIGN, device.session(vid, made, w.server, key=os.urandom(32))),
        'the key alone': (INVALID, FOREIGN, device.session(vid, made, w.server, plain=key)),
        'of another uuid': (INVALID, FOREIGN, device.session(vid, made, w.server, uuid=others['sibling']['made']['uuid'])),
        'of a sibling': (INVALID, FOREIGN, foreign['sibling']),
        'of another tenant': (INVALID, "doesn't have among its recipients", foreign['stranger']),
        'of another tenant, under our name': (INVALID, FOREIGN, {**foreign['stranger'], 'fingerprint': device.fingerprint}),
        'ours, under another name': (INVALID, "doesn't have among its recipients",
                                     {**good, 'fingerprint': others['stranger']['device'].fingerprint}),
    }


def refusals(w):
    """On a volume that was never formatted and on one with data; afterwards a right form opens both."""
    c, device = w.c, w.devices['openssl']
    fresh, ready = c.make('fresh', device), c.make('ready', device)
    stranger = OpenSslDevice(w.folder, 'stranger')
    others = {'sibling': c.make('sibling', device), 'stranger': c.make('stranger', stranger, tenant='team-b')}
    w.stage(ready)
    with open(c.staging(ready) + '/file', 'wb') as f:
        f.write(b'before')
    c.unstage(ready)
    problems = []
    for volume in (fresh, ready):
        before = c.traces(volume)
        rows = list(wrong_forms(w, volume, others).items())
        for name, (code, word, secrets) in rows if volume is ready else sampled(rows):
            got, said = code_of(c.stage_with, volume, secrets)
            if got != code or word not in str(said):
                problems.append(f'{name}: {got}: {said} (expected {code}, "{word}")')
            if c.left_over() or c.record(volume) != before[1]:
                problems.append(f'{name}: something changed: {c.left_over()}, {c.record(volume)["state"]}')
            if volume is ready:
                print(f'# {name:<40} {got}', flush=True)
        if c.traces(volume) != before:
            problems.append('the image is another one')
    demand(not problems, '\n'.join(problems))
    w.stage(fresh)
    w.stage(ready)
    with open(c.staging(ready) + '/file', 'rb') as f:
        demand(f.read() == b'before', 'the file')
    for volume in (fresh, ready):
        c.unstage(volume)
    for volume in (fresh, ready, *others.values()):
        c.delete(volume['volume_id'])


def tampered(w):
    """Who writes the pool puts a commitment of his own there, or another device."""
    c, stranger = w.c, OpenSslDevice(w.folder, 'intruder')
    volume = c.make('tampered', w.devices['openssl'])
    w.stage(volume)
    c.unstage(volume)
    path, his = os.path.join(c.place(volume), 'record.json'), stranger.create()
    with open(path, encoding='utf-8') as f:
        text = f.read()
    record = json.loads(text)
    entry = {'alg': his['algorithm'], 'key': his['publicKey'], 'label': '', 'wrapped': his['wrapped']}
    his_form = stranger.session(volume['volume_id'], {**his, 'uuid': record['uuid']}, w.server)
    his_key = {'key': {**record['key'], 'ciphertext': f'commit:v1:{commitment(stranger.key(his), record["uuid"])}'}}

    def stored(change):
        with open(path, 'w', encoding='utf-8') as f:
            f.write(json.dumps({**record, **change}))
    for what, change, secrets, code, word in (
            ('a commitment', his_key, w.session(volume), INVALID, FOREIGN),
            ('a commitment, and the form is his', his_key, his_form, INVALID, "doesn't have among its recipients"),
            ('a commitment and a device', {**his_key, 'recipients': record['recipients'] + [entry]}, his_form, 'DATA_LOSS', ''),
            ('a device', {'recipients': record['recipients'] + [entry]}, his_form, INVALID, FOREIGN),
            ('a device, and the form is ours', {'recipients': record['recipients'] + [entry]}, w.session(volume), 'DATA_LOSS', '')):
        stored(change)
        refused(what, code, word, c.stage_with, volume, secrets)
        demand(not c.left_over(), f'{what}: {c.left_over()}')
    stored({})
    w.stage(volume)
    c.unstage(volume)
    c.delete(volume['volume_id'])


# ---- growth, restarts, what isn't for such volumes

def growth(w):
    c = w.c
    volume = c.make('grows', w.devices['openssl'])
    w.stage(volume)
    with open(c.staging(volume) + '/file', 'wb') as f:
        f.write(b'before')
    bigger = SIZE + 8 * MIB
    c.controller_expand(volume['volume_id'], bigger)
    before = c.mapping_bytes(volume)
    refused('without a session', PRECONDITION, "secret 'session' is missing", c.expand_with, volume, bigger, {})
    refused('by an expired one', PRECONDITION, 'is over', c.expand_with, volume, bigger, w.session(volume, seconds=-1))
    refused('by another key', INVALID, FOREIGN, c.expand_with, volume, bigger, w.session(volume, key=os.urandom(32)))
    demand(c.mapping_bytes(volume) == before, 'the mapping grew')
    c.expand_with(volume, bigger, w.session(volume))
    demand(c.mapping_bytes(volume) == bigger, 'the mapping did not grow')
    demand(os.statvfs(c.staging(volume)).f_blocks * os.statvfs(c.staging(volume)).f_frsize > SIZE, 'the file system did not grow')
    c.expand_with(volume, bigger, {})  # it has that size: nothing is needed
    with open(c.staging(volume) + '/file', 'rb') as f:
        demand(f.read() == b'before', 'the file')
    c.unstage(volume)
    c.delete(volume['volume_id'])


def restart(w):
    """Everything of Coffer's starts anew: the open volume stays, another mount wants a new form."""
    c = w.c
    volume = c.make('restarted', w.devices['openssl'])
    w.stage(volume)
    with open(c.staging(volume) + '/file', 'wb') as f:
        f.write(b'before')
    c.stop()
    c.start()
    c.stage_with(volume, {})
    c.unstage(volume)
    refused('no form is kept', PRECONDITION, "secret 'session' is missing", c.stage_with, volume, {})
    w.stage(volume)
    with open(c.staging(volume) + '/file', 'rb') as f:
        demand(f.read() == b'before', 'the file')
    c.unstage(volume)
    c.delete(volume['volume_id'])


def server_key_rotated(w):
    """A form for the version before works until that is given up in Vault."""
    c, key = w.c, f'{w.layout.transit}/keys/{KEY_NAME}'
    volume = c.make('rotated-server', w.devices['openssl'])
    old = w.session(volume)
    w.layout.root.call('POST', f'{key}/rotate')
    c.stage_with(volume, old)
    c.unstage(volume)
    w.server = w.read_server_key()
    demand(w.server.key_id == f'{KEY_NAME}:2', w.server.key_id)
    w.stage(volume)
    c.unstage(volume)
    w.layout.root.call('POST', f'{key}/config', {'min_decryption_version': 2})
    refused('a form for a version that was given up', PRECONDITION, 'older', c.stage_with, volume, old)
    w.stage(volume)
    c.unstage(volume)
    c.delete(volume['volume_id'])


def not_for_them(w):
    c = w.c
    volume = c.make('no-rotation', w.devices['openssl'])
    w.stage(volume)
    c.unstage(volume)
    before = c.record(volume)
    for verb, word in (('rotate-key', "can't be replaced without new secrets"), ('unlock-key', 'there is no passphrase without it')):
        more = ['--reason', 'story', '--yes'] if verb == 'unlock-key' else []
        said = c.cofferctl('volume', verb, volume['volume_id'], '--admin-socket', c.admin_socket, *more, check=False)
        demand(said.returncode != 0 and word in said.stderr, said)
    demand(c.record(volume) == before and not c.left_over(), 'something changed')
    c.delete(volume['volume_id'])


def creates_refused(w):
    """One sentence each, and nothing is made."""
    c, device = w.c, w.devices['openssl']
    made = device.create()
    rows = [('kms without a server key', {'kms': 'plain'}, made, "'server_key'"), ('a KV service', {'kms': 'kv'}, made, "'server_key'"),
            ('pods open it', {'tenantIdentity': 'pod', 'csi.storage.k8s.io/pvc/namespace': 'team-a'}, made,
             "can't be pod with keySource client")]
    rows += [(f'{name} missing', {}, {k: v for k, v in made.items() if k != name}, f"secret '{name}' is missing")
             for name in made if name != 'label']
    rows += [(f'{name} malformed', {}, {**made, name: value}, f"secret '{name}'") for name, value in (
        ('uuid', made['uuid'].upper()), ('uuid', '6ba7b810-9dad-11d1-80b4-00c04fd430c8'), ('commitment', made['commitment'][:-1]),
        ('publicKey', 'AAAA'), ('publicKey', made['publicKey'] + '\n'), ('algorithm', 'RSA1_5'), ('wrapped', 'AAAA'), ('label', 'x' * 64))]
    for what, parameters, secrets, word in rows:
        got, said = code_of(c.make, 'refused', device, secrets, **parameters)
        demand(got == INVALID and word in said, f'{what}: {got}: {said}')
        demand(not any(value in said for name, value in secrets.items() if len(value) > 20), f'{what}: a value is quoted: {said}')
    volumes = c.call(c.controller_socket, 'csi.v1.Controller/ListVolumes', {}).get('entries', [])
    demand(not volumes, volumes)


def by_cofferctl(w):
    """A host without Kubernetes: the same secrets from a file, which lies in memory here."""
    c, device, made = w.c, w.devices['openssl'], w.devices['openssl'].create()
    path, mount_point = f'/run/client-keys-{os.getpid()}.json', f'{c.root}/mounted'
    state, sockets = ('--state-dir', f'{c.root}/state'), ('--node-socket', c.node_socket)

    def volume(verb, *args, secrets=None, check=True):
        with open(path, 'w', encoding='ascii', opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            json.dump(secrets or {}, f)
        try:
            return c.cofferctl('volume', verb, *args, *state, *(('--secrets', path) if secrets else ()), '--timeout', '600', check=check)
        finally:
            os.unlink(path)
    controller = ('--controller-socket', c.controller_socket)
    volume('create', 'data', '--size', '16Mi', '--param', 'kms=vault', '--param', 'keySource=client', *controller, secrets=made)
    with open(f'{c.root}/state/volumes/data.json', encoding='utf-8') as f:
        kept = json.load(f)
    demand(made['commitment'] not in json.dumps(kept) and made['wrapped'] not in json.dumps(kept), kept)
    lent = {'volume_id': kept['id'], 'device': device, 'made': made}
    said = volume('mount', 'data', mount_point, *sockets, check=False)
    demand(said.returncode == 1 and "secret 'session' is missing" in said.stderr and not c.left_over(), said)
    volume('mount', 'data', mount_point, *sockets, secrets=w.session(lent))
    demand(os.path.ismount(mount_point), 'it is not mounted')
    volume('expand', 'data', '--size', '24Mi', *controller, *sockets, secrets=w.session(lent))
    demand(c.mapping_bytes(lent) == 24 * MIB, 'the mapping did not grow')
    volume('unmount', 'data', *sockets)
    volume('delete', 'data', '--yes', *controller)


def deleted_without_keyd(w):
    c = w.c
    volume = c.make('deleted', w.devices['openssl'])
    w.stage(volume)
    c.unstage(volume)
    c.keyd.stop()
    try:
        c.delete(volume['volume_id'])
        demand(not os.path.exists(c.place(volume)), 'it is still there')
    finally:
        c.start_keyd()


# ---- leaks

def leaks(w, tap):
    c, needles = w.c, leakscan.Needles(w.secrets)
    found = leakhunt.scan_daemons(c, needles, ('keyd', 'controller', 'node'))
    leakhunt.nothing(tap, 'nothing of a key, session or form in the memory of coffer-keyd, -controller, -node', found)
    c.stop()
    w.vault.stop()
    logs = [os.path.join(c.root, f'coffer-{name}.log') for name in ('keyd', 'controller', 'node')]
    logs += [f'{w.folder}/scheduler.log', f'{w.folder}/server.log', f'{w.folder}/audit.log']
    for path in logs:
        demand(os.path.getsize(path) > 100 or 'server.log' in path, f'{path} is no log')
    found = [f for path in logs for f in leakscan.scan_file(needles, 'log', path)]
    found += leakscan.scan_bytes(needles, 'log', 'dmesg', leakscan.kernel_log())
    leakhunt.nothing(tap, f'no log line at level debug, nor Vault\'s audit log ({len(needles.everywhere)} forms looked for)', found)
    storage = leakscan.scan_tree(needles, f'{w.folder}/storage')
    demand(any(files for _, _, files in os.walk(f'{w.folder}/storage')), 'Vault stored nothing')
    leakhunt.nothing(tap, 'nothing in Vault\'s storage', storage)
    leakhunt.nothing(tap, 'nothing in the pool, nor in any file of Coffer\'s', leakscan.scan_tree(needles, c.root, [c.bin + '/']))
    leakhunt.disk(tap, needles)


def story(vault, folder, tap):
    w = World(vault, folder)
    c = w.c
    tap.check(w.server.key_id == f'{KEY_NAME}:1' and w.server.hash == 'SHA-256' and 'self-test passed' in w.scheduler,
              'a coffer-keyd that may read public keys alone says what to encrypt for', w.scheduler)
    tests = [('every bad CreateVolume is refused in one sentence', creates_refused),
             ('openssl: create, stage, write, stage again by a new form', full_session, 'openssl')]
    if why := WebDevice.why_not():
        tap.skip('WebCrypto: create, stage, write, stage again by a new form', why)
    else:
        tests.append(('WebCrypto: create, stage, write, stage again by a new form', full_session, 'WebCrypto'))
    second = w.devices.get('WebCrypto') or OpenSslDevice(w.folder, 'tablet')
    tests += [('wrong forms: the exact code, still detached, the record as it was', refusals),
              ('a record that somebody changed', tampered),
              ('online growth by a session', growth),
              ('after a restart of all: a new form', restart),
              ('the server key rotated', server_key_rotated),
              ('rotate-key without a new key, unlock-key: refused', not_for_them),
              ('a second device comes, the first goes, in use', clientrecipients.in_use, w.devices['openssl'], second),
              ('cofferctl: create, mount, expand by --secrets', by_cofferctl),
             ('DeleteVolume needs no coffer-keyd', deleted_without_keyd)]
    try:
        for name, test, *more in tests:
            if not sys.argv[1:] or any(text in name for text in sys.argv[1:]):
                tap.run(name, test, w, *more)
        if not sys.argv[1:] or any(text in 'killed' for text in sys.argv[1:]):
            clientrecipients.killed(w, tap, w.devices['openssl'], OpenSslDevice(w.folder, 'old phone'))
        volume = c.make('kept', w.devices['openssl'])  # what is on the disk in the end
        w.stage(volume)
        c.unstage(volume)
        tap.check(not c.left_over(), 'nothing is left over', c.left_over())
        leaks(w, tap)
    finally:
        c.stop()


vaultserver.main('client-keys', 'its storage can\'t be looked into', story)
