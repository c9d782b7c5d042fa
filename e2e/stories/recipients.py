#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""recipients: devices of real WebCrypto and of OpenSSL open a volume by what cofferctl wrapped for them; one is removed
under a writer, and what it has opens nothing any more. Lists that somebody tampered with are refused; adding and
removing are killed at every point."""
# story: disk=8G memory=1024M
import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from device import HPKE, RSA_256, RSA_512, Device, DoesNotOpen, hpke_info  # noqa: E402
from fixture import CallError, Coffer  # noqa: E402
from jobs import Machine  # noqa: E402
from sweep import FaultKiller, Job, sweep, until_ok  # noqa: E402
from tap import begin, demand  # noqa: E402
from watched import derived_passphrase  # noqa: E402

ALLOW = 'MINT,UNWRAP,DESTROY,STATUS,WRAP_FOR'


def cofferctl(c, verb, volume, *words, check=True):
    return c.cofferctl('recipient', verb, volume['volume_id'], *words, '--admin-socket', c.admin_socket, '--output', 'json', check=check)


def add(c, volume, device, label='', check=True):
    return cofferctl(c, 'add', volume, '--key', device.public, '--algorithm', device.algorithm, '--label', label, check=check)


def listed(c, volume):
    return json.loads(cofferctl(c, 'list', volume).stdout)


def wrapped(c, volume):
    """What is there for whom: fingerprint -> bytes, from the record alone."""
    return {hashlib.sha256(base64.b64decode(r['key'])).hexdigest(): base64.b64decode(r['wrapped'])
            for r in c.record(volume)['recipients']}


def stock_opens(c, volume, text):
    return subprocess.run(['cryptsetup', 'open', '--test-passphrase', c.image(volume)], input=text,
                          capture_output=True, check=False).returncode == 0


def opens(c, volume, device, form):
    """The device, and then the stock tool, with nothing of Coffer between."""
    record = c.record(volume)
    try:
        return stock_opens(c, volume, derived_passphrase(device.open(form, hpke_info(record)), record['uuid']))
    except DoesNotOpen:
        return False


def header(c, volume):
    out = subprocess.run(['cryptsetup', 'luksDump', '--dump-json-metadata', c.image(volume)], capture_output=True, check=True)
    return json.loads(out.stdout)


def demand_all_open(c, volume, devices, quick=False):
    """quick: without those that Node opens for, which takes seconds on an emulated machine."""
    forms = wrapped(c, volume)
    demand(list(forms) == [d.fingerprint for d in devices], f'the list is {list(forms)}')
    for d in [d for d in devices if not quick or d.algorithm == RSA_512]:
        demand(opens(c, volume, d, forms[d.fingerprint]), f'{d.name} does not open it')


# ---- what it is for ----

def each_opens_it(m, devices):
    c = m.c
    before, head = c.record(m.data), header(c, m.data)
    for d in devices:
        shown = json.loads(add(c, m.data, d, d.name).stdout)
        demand(shown['fingerprint'] == d.fingerprint and shown['algorithm'] == d.algorithm, f'{shown}')
    demand_all_open(c, m.data, devices)
    after = c.record(m.data)
    changed = {k for k in after if after[k] != before[k]}
    demand(changed == {'gen', 'mac', 'recipients'}, f'changed: {changed}')
    demand(header(c, m.data) == head, 'the header changed')


def shown_by_list(m, devices):
    shown = listed(m.c, m.data)
    demand([(r['fingerprint'], r['label'], r['algorithm']) for r in shown] ==
           [(d.fingerprint, d.name, d.algorithm) for d in devices], f'{shown}')
    demand(all(len(r['thumbprint']) == 43 for r in shown), 'no thumbprint')
    demand([('arcs_fingerprint' in r) for r in shown] == [d.algorithm != HPKE for d in devices], 'Arcs\' fingerprint is for RSA')


def added_again(m, devices):
    before = m.c.record(m.data)
    done = add(m.c, m.data, devices[0], devices[0].name)
    demand('already' in done.stderr, done.stderr)
    done = add(m.c, m.data, devices[0], 'another', check=False)
    demand(done.returncode == 1 and 'is a recipient of volume' in done.stderr, done.stderr)
    demand(m.c.record(m.data) == before, 'the record changed')


def volume_key_digest(c, volume):
    [digest] = header(c, volume)['digests'].values()
    return digest['digest'], digest['salt']


def table(c, volume):
    return subprocess.run(['dmsetup', 'table', '--showkeys', c.dm_name(volume)], capture_output=True, check=True).stdout


def removed_in_use(m, devices):
    """The first goes, under a mounted file system; the volume key stays what it is."""
    c, gone = m.c, devices[0]
    c.stage(m.data)
    was, forms, digest = table(c, m.data), wrapped(c, m.data), volume_key_digest(c, m.data)
    done = c.cofferctl('recipient', 'remove', m.data['volume_id'], gone.fingerprint, '--admin-socket', c.admin_socket, '--reason', 'lost')
    demand("copy of the volume's header" in done.stderr, f'it does not say what is left: {done.stderr}')
    demand(table(c, m.data) == was and volume_key_digest(c, m.data) == digest, 'mapping or volume key changed')
    m.demand_data(c.staging(m.data))
    c.unstage(m.data)
    demand_all_open(c, m.data, devices[1:])
    for d in devices:
        demand(not opens(c, m.data, d, forms[d.fingerprint]), f"{d.name}'s form from before still opens it")
    c.stage(m.data)
    m.demand_data(c.staging(m.data))
    c.unstage(m.data)


def kept_by_rotation(m, devices):
    c = m.c
    forms = wrapped(c, m.data)
    c.cofferctl('volume', 'rotate-key', m.data['volume_id'], '--admin-socket', c.admin_socket)
    demand_all_open(c, m.data, devices)
    for d in devices:
        demand(not opens(c, m.data, d, forms[d.fingerprint]), f'the form of {d.name} from before still opens it')


def refused_removals(m):
    for word, says in (('0' * 64, 'is no recipient of volume'), ('ab', '64 lower-case hex digits')):
        before = m.c.record(m.data)
        done = cofferctl(m.c, 'remove', m.data, word, check=False)
        demand(done.returncode == 1 and says in done.stderr, done.stderr)
        demand(m.c.record(m.data) == before, 'the record changed')


def until_it_is_full(m, folder):
    """What doesn't fit is refused, and the volume is as it was."""
    c, count = m.c, 0
    while True:
        before = c.record(m.block)
        done = add(c, m.block, Device(folder, f'many-{count}', RSA_256), check=False)
        if done.returncode != 0:
            break
        count += 1
        demand(count < 17, 'there is no end')
    demand('has no room for another recipient' in done.stderr and count >= 6, f'{count}: {done.stderr}')
    demand(c.record(m.block) == before, 'the record changed')
    c.stage(m.block, block=True)
    c.unstage(m.block)
    print(f'# {count} recipients of RSA with 2048 bits have room')


# ---- by hostile hands ----

def tamperings(recipients):
    a, b = recipients[:2]
    flipped = 'B' if a['wrapped'][0] == 'A' else 'A'
    yield 'reordered', [b, a, *recipients[2:]]
    yield 'stripped', [a]
    yield 'emptied', []
    yield 'a foreign one added', [*recipients, {**a, 'key': base64.b64encode(b'somebody').decode()}]
    yield 'another public key', [{**a, 'key': base64.b64encode(b'somebody').decode()}, *recipients[1:]]
    yield 'another label', [{**a, 'label': 'x'}, *recipients[1:]]
    yield 'another algorithm', [{**a, 'alg': HPKE if a['alg'] != HPKE else RSA_512}, *recipients[1:]]
    yield 'another wrapped form', [{**a, 'wrapped': flipped + a['wrapped'][1:]}, *recipients[1:]]


def tampered_lists(tap, m):
    c = m.c
    path = os.path.join(c.place(m.data), 'record.json')
    with open(path, 'rb') as f:
        good = f.read()
    for name, recipients in tamperings(c.record(m.data)['recipients']):
        bad = json.dumps({**json.loads(good), 'recipients': recipients}).encode()
        with open(path, 'wb') as f:
            f.write(bad)
        tap.expect_error(f'{name}: not staged', 'DATA_LOSS', c.stage, m.data, word='MAC')
        words = [cofferctl(c, *call, check=False) for call in (
            ('list', m.data), ('add', m.data, '--key', m.other.public), ('remove', m.data, m.devices[-1].fingerprint))]
        refused = all(w.returncode == 1 and ('MAC' in w.stderr or 'is no recipient' in w.stderr) for w in words)
        with open(path, 'rb') as f:
            tap.check(refused and f.read() == bad, f'{name}: nothing of it is signed, shown or changed', words)
        with open(path, 'wb') as f:
            f.write(good)
    tap.check(c.left_over() == {}, 'nothing is left of that', c.left_over())


# ---- refusals ----

def restart_keyd(c, allow):
    c.keyd.stop()
    c.keyd_allow = allow
    c.start_keyd()
    c.wait_socket(c.keyd, c.keyd_socket, socket.SOCK_SEQPACKET)


def without_the_right(m):
    c, before = m.c, m.c.record(m.data)
    restart_keyd(c, 'MINT,UNWRAP,DESTROY')
    for done in (add(c, m.data, m.other, check=False), cofferctl(c, 'remove', m.data, m.devices[-1].fingerprint, check=False)):
        demand(done.returncode == 1 and 'needs --allow UNWRAP,WRAP_FOR' in done.stderr, done.stderr)
    demand(c.record(m.data) == before, 'the record changed')
    restart_keyd(c, ALLOW)


def not_before_it_holds_data(m):
    fresh = m.c.create('recipients-new', 64 * 1024 * 1024)
    done = add(m.c, fresh, m.other, check=False)
    demand(done.returncode == 1 and "state 'new'" in done.stderr, done.stderr)
    m.c.delete(fresh['volume_id'])


# ---- kills ----

def rpc(c, method, volume, **fields):
    return c.call(c.admin_socket, 'coffer.v1.NodeAdmin/' + method, {'volume_id': volume['volume_id'], 'reason': 'story', **fields})


def jobs(m):
    c, other = m.c, m.other
    key = base64.b64encode(other.der).decode()

    def add_other():
        rpc(c, 'AddRecipient', m.data, public_key=key, algorithm=other.algorithm)

    def remove_other():
        try:
            rpc(c, 'RemoveRecipient', m.data, fingerprint=other.fingerprint)
        except CallError as e:
            if e.code != 'NOT_FOUND' or other.fingerprint in wrapped(c, m.data):
                raise

    def is_there():
        demand_all_open(c, m.data, [*m.devices, other], quick=True)

    def is_gone():
        demand_all_open(c, m.data, m.devices, quick=True)
        demand('staleSlots' not in c.record(m.data) and len(header(c, m.data)['keyslots']) == 1, 'an old keyslot is there')
    return [Job('add', lambda: None, add_other, is_there, lambda: until_ok(remove_other)),
            Job('remove', lambda: until_ok(add_other), remove_other, is_gone, lambda: None)]


def main():
    tap = begin('recipients', '' if shutil.which('node') else 'there is no node: Debian has it in package nodejs')
    c = Coffer(fault=True)
    c.keyd_allow = ALLOW
    c.install()
    c.start()
    m = Machine(c)
    c.stage(m.block, block=True)
    c.unstage(m.block)
    devices = [Device(c.root, name, a) for name, a in (('phone', RSA_256), ('browser', RSA_512), ('escrow', HPKE))]
    m.other, m.devices = Device(c.root, 'tablet', RSA_512), devices[1:]
    tap.run('no recipient before there is data', not_before_it_holds_data, m)
    tap.run('devices of OpenSSL and WebCrypto open what was wrapped for them', each_opens_it, m, devices)
    tap.run('the list has all of their names', shown_by_list, m, devices)
    tap.run('added again it is there; with another label it is refused', added_again, m, devices)
    tap.run('removed while the volume is in use: it opens nothing any more, those who stay do', removed_in_use, m, devices)
    tap.run('a rotation keeps them', kept_by_rotation, m, m.devices)
    tap.run('who is no recipient is not removed', refused_removals, m)
    tap.run('a node whose coffer-keyd may not wrap says so', without_the_right, m)
    tampered_lists(tap, m)
    tap.run('a full list', until_it_is_full, m, c.root)
    swept = [sweep(tap, c, job, FaultKiller(c, 'coffer-node')) for job in jobs(m)]
    print(f'# recipients: {sum(s[0] for s in swept)} of {sum(s[1] for s in swept)} points swept')
    m.end(tap)
    c.stop()
    tap.done()


if __name__ == '__main__':
    main()
