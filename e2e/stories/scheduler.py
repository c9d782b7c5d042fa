#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scheduler: users' clouds by coffer-scheduler with the driver local, on real dm-crypt with the real Vault, each VM a Node.js process,
nginx in front. What a cloud promises, A1 to A12, each as a test; the conformance suite of all drivers; VMs that die, hang or never
come; and no key, session or form in a log, on a disk, in a VM or in the memory of any process after lock."""
# story: disk=8G needs=vault memory=3072M
import hashlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import cloudrig  # noqa: E402
import cloudsuite  # noqa: E402
import vaultserver  # noqa: E402
from clouddevice import Api, arcs_name, want  # noqa: E402
from cloudsecrets import a5_lock, a7_wrapped_forms, a8_vm, is_init, leaks, read  # noqa: E402
from cloudsuite import demand_find  # noqa: E402
from fixture import MIB  # noqa: E402
from tap import demand  # noqa: E402
from testpki import openssl  # noqa: E402
from watched import Paused  # noqa: E402

VECTOR = 'd028d8d642e8bc7abd736f79c53ff0b06a7b57412796d7213b17a32c1974c1ce'
DATA_OFFSET = 4 * MIB


def record_of(r, user):
    records = r.c.records(user.device.id)
    demand(len(records) == 1, f'{len(records)} volumes')
    return records[0]


def image_of(r, user):
    return r.c.image({'volume_id': record_of(r, user)['id']})


def traces(r, user):
    """What must stay when nothing happens to a detached cloud."""
    return hashlib.sha256(read(image_of(r, user))).hexdigest(), record_of(r, user), r.left_over()


def data_hash(r, user):
    with open(image_of(r, user), 'rb') as f:
        f.seek(DATA_OFFSET)
        return hashlib.file_digest(f, 'sha256').hexdigest()


# ---- A1

class Watch:
    """Asks find again and again meanwhile; every request must be answered, with one of the states."""

    def __init__(self, api, user):
        self.api, self.name, self.seen, self.problems, self.stop = api, user.device.name, [], [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stop.wait(0.05):
            try:
                found = self.api.find(self.name)
                if (found.status == 404) != (found.state == 'nonexistent') or found.status not in (200, 404):
                    self.problems.append(str(found))
                if not self.seen or self.seen[-1] != found.state:
                    self.seen.append(found.state)
            except OSError as e:
                self.problems.append(repr(e))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def a1_lookup(r):
    """One of the five, at every moment."""
    user = r.user('a1')
    with Watch(r.direct, user) as watch:  # not through nginx, which counts requests
        with Paused(r.c, 'coffer-node', 'stage:unlock:formatting', lambda: want(user.create(), 202)):
            pending = demand_find(user, 'pending', operation='create')
            demand(pending.body['step'], pending)
            demand(want(user.lock(), 409).message, 'a lock beside a create')
        user.opened()
        want(user.lock(), 202)
        user.until('detached')
        want(user.mount(key=os.urandom(32)), 202)
        user.until('failure')
        want(user.mount(), 202)
        user.opened()
        want(user.delete(), 202)
        user.until('nonexistent')
    demand(not watch.problems, '\n'.join(watch.problems[:5]))
    states = [s for s in watch.seen if s != 'pending']
    demand(states == ['nonexistent', 'attached', 'detached', 'failure', 'attached', 'nonexistent'], watch.seen)
    for bad in ('0' * 63, '0' * 65, 'A' * 64, '..%2f' + '0' * 59, '0' * 32):
        demand(want(r.outside.find(bad), 400).code == 'invalid', bad)


def answers_without(r):
    """Whatever is away: find is answered from memory, a mount is taken and goes on when it is back, or fails with a reason."""
    user = r.user('answers')
    want(user.create(), 202)
    user.opened()
    problems = []
    for what, stop, start in (('coffer-node', lambda: r.c.node.stop(), r.c.start_node), ('coffer-keyd', lambda: r.c.keyd.stop(),
                              r.c.start_keyd), ('coffer-launch', lambda: r.launch.stop(), r.start_launch),
                              ('Vault', r.vault.seal, r.vault.unseal)):
        want(user.lock(), 202)
        user.until('detached')
        session = user.session()
        stop()
        try:
            if (found := user.find()).state != 'detached':
                problems.append(f'without {what}: find: {found}')
            answer = user.ask('POST', '/mount', session)
            if answer.status not in (202, 503):
                problems.append(f'without {what}: mount: {answer}')
            if (found := user.find()).state not in ('pending', 'failure', 'detached'):
                problems.append(f'without {what}: find of a mount: {found}')
        finally:
            start()
        found = user.settle()
        print(f'# a mount begun without {what}: {found}', flush=True)
        if found.state != 'attached':
            want(user.mount(), 202)
            user.opened()
    demand(not problems, '\n'.join(problems))
    want(user.delete(), 202)
    user.until('nonexistent')


# ---- A2

def vector_name():
    return arcs_name(openssl('pkey', '-pubin', '-in', f'{cloudrig.ROOT}/tests/fuzz/corpus/publickey/rsa-pem', '-outform', 'DER'))


def a2_names(r):
    """The whole name is the key; an id that two names share is refused. No two RSA keys with one id can be made, so the first device's
    cloud is made with the second one's id, by the controller itself."""
    demand(vector_name() == VECTOR, vector_name())
    first, second = r.user('a2-first'), r.user('a2-second')
    first.made = first.device.create()
    r.c.call(r.c.controller_socket, 'csi.v1.Controller/CreateVolume', {
        'name': f'cloud-{second.device.id}', 'capacity_range': {'required_bytes': cloudrig.SIZE}, 'volume_capabilities': [r.c.capability()],
        'parameters': {'pool': 'default', 'kms': 'vault', 'keySource': 'client', 'tenant': cloudrig.TENANT}, 'secrets': first.made})
    first.until('detached')
    demand_find(first, 'detached', id=second.device.id)
    demand_find(second, 'nonexistent', 404, id=second.device.id)
    refused = want(second.create(), 409)
    demand(refused.code == 'conflict', refused)
    demand_find(second, 'nonexistent', 404)
    want(first.mount(), 202)
    first.opened()
    refused = want(second.create(), 409)
    demand_find(first, 'attached', id=second.device.id)
    want(first.delete(), 202)
    first.until('nonexistent')
    want(second.create(), 202)
    second.opened()
    want(second.delete(), 202)
    second.until('nonexistent')


# ---- A3, A4

def a3_create(r):
    """An encrypted volume and a VM: a LUKS2 header, a dm-crypt mapping, a process of its own uid with the volume alone."""
    user = r.user('a3')
    answer = want(user.create(), 202)
    demand(answer.body['statusUrl'] == user.path, answer)
    user.opened()
    demand(read(image_of(r, user))[:6] == b'LUKS\xba\xbe', 'the image has no LUKS header')
    name = r.c.dm_name({'volume_id': record_of(r, user)['id']})
    demand(r.c.mappings() == [name], r.c.mappings())
    table = subprocess.run(['dmsetup', 'table', name], capture_output=True, text=True, check=True).stdout
    demand(' crypt ' in table, table)
    demand(r.vm_pids(user.device.id), 'no process')
    text = 'the text that is looked for in the image ' * 50
    r.store.put(user.opened().body['url'], 'note', text)
    want(user.lock(), 202)
    user.until('detached')
    demand(text[:40].encode() not in read(image_of(r, user)), 'the image has the plaintext')
    want(user.delete(), 202)
    user.until('nonexistent')
    r.demand_clean()


def a4_mount(r):
    """A wrong key: not a byte of image and record changes, nothing is open. The right one opens it where it is."""
    user = r.user('a4')
    want(user.create(), 202)
    user.opened()
    r.store.put(user.opened().body['url'], 'note', 'before')
    want(user.lock(), 202)
    user.until('detached')
    before = traces(r, user)
    want(user.mount(key=os.urandom(32)), 202)
    failed = user.until('failure')
    demand('session' in failed.body['reason'], failed)
    demand(traces(r, user) == before, 'something changed')
    want(user.mount(), 202)
    demand(r.store.get(user.opened().body['url'], 'note') == 'before', 'the note')
    want(user.delete(), 202)
    user.until('nonexistent')


# ---- A6

def a6_devices(r):
    """A second key comes and the first goes: the encrypted data is the same, to the byte; the last key can't go."""
    first, second = r.user('a6-first'), r.user('a6-second', 'sha512')
    want(first.create(), 202)
    first.opened()
    r.store.put(first.opened().body['url'], 'note', 'for both')
    want(first.lock(), 202)
    first.until('detached')
    before = data_hash(r, first)
    want(first.add(second.device), 200)
    demand(len(record_of(r, first)['recipients']) == 2 and data_hash(r, first) == before, 'after adding')
    old = first.key
    second.until('detached')
    want(second.remove(first.device.name, [second.device]), 200)
    demand([e['key'] for e in r.c.records(first.device.id)[0]['recipients']] == [second.device.public_text], 'the record')
    demand(data_hash(r, first) == before, 'after removing')
    second.until('detached')
    demand(second.key != old, 'the key is still the old one')
    demand(want(second.remove(second.device.name, []), 412).code == 'precondition', 'the last one')
    want(second.mount(key=old), 202)
    second.until('failure')
    want(second.unlock(), 202)
    demand(r.store.get(second.opened().body['url'], 'note') == 'for both', 'the note')
    want(second.delete(), 202)
    second.until('nonexistent')


# ---- A9

def with_command(r, command, seconds):
    """Another program as VM, from the next one on."""
    r.write_launch(command)
    r.write_scheduler(ready_seconds=seconds)
    r.restart_launch()
    r.restart_scheduler()


def a9_rollback(r):
    """A VM that ends at once, and one that never answers: a pristine volume goes, one that was ever mounted stays."""
    old = r.user('a9-old')
    want(old.create(), 202)
    old.opened()
    r.store.put(old.opened().body['url'], 'note', 'kept')
    want(old.lock(), 202)
    old.until('detached')
    for command, word in ((['/bin/false'], 'exit 1'), (['/bin/sleep', '100000'], 'ready')):
        with_command(r, command, 10)
        new = r.user(f'a9-{os.path.basename(command[0])}')
        want(new.create(), 202)
        failed = new.settle()
        demand(failed.state in ('failure', 'nonexistent'), f'{command}: {failed}')
        demand(failed.state == 'nonexistent' or word in failed.body['reason'], f'{command}: {failed}')
        print(f'# {command}: {failed}', flush=True)
        demand(r.census(new.device.id) == (0, 0), f'{command}: {r.census(new.device.id)}')
        want(old.unlock(), 202)
        failed = old.settle()
        demand(failed.state == 'failure' and word in failed.body['reason'], f'{command}: {failed}')
        demand(r.census(old.device.id) == (1, 0), f'{command}: of the old one {r.census(old.device.id)}')
        r.demand_clean()
    with_command(r, None, 600)
    want(new.create(), 202)  # the same request, now that it can be done
    new.opened()
    want(old.unlock(), 202)
    demand(r.store.get(old.opened().body['url'], 'note') == 'kept', 'the note')
    for u in (old, new):
        want(u.delete(), 202)
        u.until('nonexistent')


# ---- A11

def speaks(r, version):
    api = Api(r.direct.base, r.ca)
    api.context.set_ciphers('DEFAULT:@SECLEVEL=0')  # or this side would refuse to speak the old one
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)  # that the old one is old is the point
        api.context.minimum_version = api.context.maximum_version = version
    try:
        return api.find('0' * 64).status == 404
    except OSError:
        return False


def a11_bodies(r):
    """Keys travel in POST bodies over TLS: no listener without TLS on TCP, no key in a URL, nothing without a proof."""
    with socket.create_connection(('127.0.0.1', r.api_port), timeout=600) as s:
        s.sendall(b'GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n')
        demand(not s.recv(100).startswith(b'HTTP'), 'plain HTTP is answered')
    refused = subprocess.run([f'{r.c.bin}/coffer-scheduler', '--config', f'{r.c.root}/scheduler.json', '--listen', '127.0.0.1:1'],
                             capture_output=True, text=True, check=False, timeout=600)
    demand(refused.returncode != 0 and 'tls' in refused.stderr.lower(), refused)
    user = r.user('a11')
    want(user.create(), 202)
    user.opened()
    for method, path in (('GET', f'{user.path}/mount?session=x'), ('GET', f'{user.path}/deploy/x/y'), ('PUT', f'{user.path}/mount')):
        demand(user.api.request(method, path).status in (400, 404, 405), path)
    demand(want(user.api.request('POST', f'{user.path}/lock', {}), 401).code == 'unauthenticated', 'no proof')
    demand(speaks(r, ssl.TLSVersion.TLSv1_2) and not speaks(r, ssl.TLSVersion.TLSv1_1), 'TLS 1.2 is not spoken, or 1.1 is')
    demand_find(user, 'attached')
    want(user.delete(), 202)
    user.until('nonexistent')


# ---- A12

def a12_restart(r):
    """Everything ends and comes back: the VM goes on, what is asked next is answered as before."""
    running, sleeping = r.user('a12-running'), r.user('a12-sleeping')
    for u in (running, sleeping):
        want(u.create(), 202)
        u.opened()
    r.store.put(running.opened().body['url'], 'note', 'before')
    want(sleeping.lock(), 202)
    sleeping.until('detached')
    before, pids = [u.find().body for u in (running, sleeping)], r.vm_pids(running.device.id)

    def same(what):
        demand([u.settle().body for u in (running, sleeping)] == before, f'{what}: {[str(u.find()) for u in (running, sleeping)]}')
        demand(r.vm_pids(running.device.id) == pids, f'{what}: the VM is another one')
        demand(r.store.get(running.opened().body['url'], 'note') == 'before', f'{what}: the note')
    r.restart_scheduler(kill=True)
    same('coffer-scheduler killed')
    r.restart_launch()
    same('coffer-launch restarted')
    r.c.stop()
    r.c.start()
    same('coffer-node, -controller, -keyd restarted')
    want(running.lock(), 202)
    running.until('detached')
    want(sleeping.unlock(), 202)
    sleeping.opened()
    for u in (running, sleeping):
        want(u.delete(), 202)
        u.until('nonexistent')
    r.demand_clean()


# ---- VMs that die

def vm_killed(r):
    """Its program alone, or with its init: find says how it ended; a lock cleans up, an unlock starts another one; nothing written is
    lost."""
    user = r.user('killed')
    want(user.create(), 202)
    r.store.put(user.opened().body['url'], 'note', 'before the kill')
    for whole in (False, True):
        for pid in r.vm_pids(user.device.id):
            if whole or not is_init(pid):
                os.kill(pid, signal.SIGKILL)
        failed = user.until('failure')
        print(f'# {failed}', flush=True)
        demand(failed.body['reason'] == f'the VM ended: {"killed" if whole else "signal 9"}', failed)
        if whole:
            want(user.lock(), 202)
            user.until('detached')
            r.demand_clean()
        want(user.unlock(), 202)
        demand(r.store.get(user.opened().body['url'], 'note') == 'before the kill', 'the note')
    want(user.delete(), 202)
    user.until('nonexistent')


def admin(r, path):
    answer = Api('unix://' + r.admin_socket).request('GET', path)
    demand(answer.status == 200, f'{path}: {answer}')
    return answer


def explained(r):
    """What an administrator sees, and users don't."""
    user = r.user('explained')
    want(user.create(), 202)
    user.opened()
    said = admin(r, '/admin/clouds').raw.decode()
    demand(user.device.id in said and user.made['wrapped'] not in said, said[:500])
    demand('node-1' in admin(r, '/admin/nodes').raw.decode(), 'the nodes')
    why = admin(r, f'/admin/clouds/{user.device.id}/explain').raw.decode()
    demand('node-1: fits' in why, why)
    demand(r.outside.request('GET', '/admin/clouds').status in (404, 503), 'users see it')
    demand(os.stat(r.admin_socket).st_mode & 0o777 == 0o600, oct(os.stat(r.admin_socket).st_mode))
    want(user.delete(), 202)
    user.until('nonexistent')


TESTS = (
    ('A1: find says exactly one of the five, all the time', a1_lookup),
    ('A1: every request is answered, whatever is away', answers_without),
    ('A2: the name of the test vector; two names with one id', a2_names),
    ('A3: create makes an encrypted volume and a VM', a3_create),
    ('A4: mount by a wrong key changes nothing, by the right one opens', a4_mount),
    ('A5: lock leaves nothing, no byte of the key in any memory', a5_lock),
    ('A6: two keys for one volume, the data untouched, the last can\'t go', a6_devices),
    ('A7: the key is in coffer-crypt\'s locked memory and in nobody else\'s', a7_wrapped_forms),
    ('A8: the VM\'s environment, arguments, mounts and memory have no key', a8_vm),
    ('A9: a VM that can\'t start: a pristine volume goes, another stays', a9_rollback),
    ('A11: TLS, POST bodies, proofs', a11_bodies),
    ('A12: restarts lose nothing', a12_restart),
    ('a VM killed: why, and nothing lost', vm_killed),
    ('placement explained to the administrator', explained),
)


def why_not():
    lacking = [p for p in ('node', 'nginx') if not shutil.which(p, path='/usr/sbin:/usr/bin:/sbin:/bin')]
    return f'there is no {" and no ".join(lacking)} here' if lacking else ''


def story(vault, folder, tap):
    if reason := why_not():
        tap.skip('scheduler', reason)
        return
    only = sys.argv[1:]
    with cloudrig.rig(vault, folder) as r:
        for name, test in TESTS:
            if not only or any(word in name for word in only):
                start = time.monotonic()
                tap.run(name, test, r)
                print(f'# {time.monotonic() - start:.0f} s', flush=True)
        if not only or 'A10' in only:
            print('# A10: the conformance suite of all drivers', flush=True)
            cloudsuite.run(tap, r.suite())
        if not only or 'leaks' in only:
            leaks(r, tap)
        if tap.failures:
            for path in r.logs():
                print(f'# ---- {path}\n' + '\n'.join('# ' + line for line in read(path)[-3000:].decode(errors='replace').splitlines()))


vaultserver.main('scheduler', 'its storage can\'t be looked into', story)
