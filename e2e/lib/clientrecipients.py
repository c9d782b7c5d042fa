# SPDX-License-Identifier: Apache-2.0
"""Recipients of a volume whose key a user's device made, for the story client-keys: a second device comes, the first goes by a new key
that the second makes, and what the first had opens nothing any more; a removal that is killed at every point. `w` is the story's
World, a volume has its `device` and what that `made`."""
import contextlib
import json
import os
import subprocess

from fixture import MIB, CallError
from sweep import FaultKiller, Job, sweep, until_ok
from tap import demand
from watched import derived_passphrase

INVALID = 'INVALID'
FOREIGN = 'the session was not made for this volume by this device'


@contextlib.contextmanager
def in_memory(name, value):
    """A file that no disk has; yields its path, or nothing."""
    path = f'/run/client-keys-{os.getpid()}-{name}'
    with open(path, 'w', encoding='ascii', opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
        f.write(value if isinstance(value, str) else json.dumps(value))
    try:
        yield path
    finally:
        os.unlink(path)


def cofferctl(w, *words, check=True, **files):
    """files: the flags that name one, with what is in it."""
    c = w.c
    with contextlib.ExitStack() as stack:
        for name, value in files.items():
            words += (f'--{name.replace("_", "-")}', stack.enter_context(in_memory(name, value)))
        return c.cofferctl(*words, '--admin-socket', c.admin_socket, '--output', 'json', check=check)


def refused(w, word, *words, **files):
    done = cofferctl(w, *words, check=False, **files)
    demand(done.returncode == 1 and word in done.stderr, f'{words}: {done.returncode}: {done.stderr} (expected "{word}")')
    for value in files.values():
        for secret in (value if isinstance(value, dict) else {}).values():
            demand(len(secret) < 70 or secret not in done.stderr, f'a value is quoted: {done.stderr}')


def not_staged(w, what, word, volume, session):
    try:
        w.c.stage_with(volume, session)
    except CallError as e:
        demand(e.code == INVALID and word in e.message, f'{what}: {e.code}: {e.message} (expected "{word}")')
    else:
        raise RuntimeError(f'{what}: it opens the volume')


def lent_by(w, volume, device):
    """The volume as another device of its recipients has it: from the record alone."""
    [form] = [r['wrapped'] for r in w.c.record(volume)['recipients'] if r['key'] == device.public_text]
    return {**volume, 'device': device, 'made': {**volume['made'], 'wrapped': form}}


def new_key(w, volume, by, stay, **other):
    made = by.new_key(volume['volume_id'], volume['made'], w.server, stay, **other)
    w.know_form(volume, made)
    return made


def opens(w, volume, key):
    """By the stock tool, with nothing of Coffer between."""
    return subprocess.run(['cryptsetup', 'open', '--test-passphrase', '--key-file', '-', w.c.image(volume)],
                          input=derived_passphrase(key, volume['made']['uuid']), capture_output=True, check=False).returncode == 0


def keyslots(w, volume):
    out = subprocess.run(['cryptsetup', 'luksDump', '--dump-json-metadata', w.c.image(volume)], capture_output=True, check=True)
    return len(json.loads(out.stdout)['keyslots'])


def table(w, volume):
    return subprocess.run(['dmsetup', 'table', '--showkeys', w.c.dm_name(volume)], capture_output=True, check=True).stdout


def unchanged(w, volume, before, what):
    demand(w.c.record(volume) == before and keyslots(w, volume) == 1, f'{what}: record or header changed')
    demand(not os.path.exists(os.path.join(w.c.place(volume), 'header.backup')), f'{what}: a backup of the header is there')


# ---- added, listed

def add(w, volume, first, second):
    vid, before = volume['volume_id'], w.c.record(volume)
    form = first.wrap_for(second.der, volume['made'])
    for word, files in (("which alone can wrap it", {'secrets': w.session(volume)}), ("secret 'session' is missing", {'wrapped': form}),
                        ('the session is over', {'wrapped': form, 'secrets': w.session(volume, seconds=-1)}),
                        (FOREIGN, {'wrapped': form, 'secrets': w.session(volume, key=os.urandom(32))}),
                        ('wrapped has 3 bytes', {'wrapped': 'AAAA', 'secrets': w.session(volume)})):
        refused(w, word, 'recipient', 'add', vid, '--key', second.public_path(w.folder), **files)
        unchanged(w, volume, before, word)
    for _ in range(2):  # the same again is answered
        cofferctl(w, 'recipient', 'add', vid, '--key', second.public_path(w.folder), '--label', 'second', wrapped=form,
                  secrets=w.session(volume))
    record = w.c.record(volume)
    demand({k for k in record if record[k] != before[k]} == {'gen', 'mac', 'recipients'}, f'more than the list changed: {record}')
    shown = json.loads(cofferctl(w, 'recipient', 'list', vid, secrets=w.session(volume)).stdout)
    demand([(r['fingerprint'], r['wrapped']) for r in shown] ==
           [(first.fingerprint, volume['made']['wrapped']), (second.fingerprint, form)], shown)
    refused(w, "secret 'session' is missing", 'recipient', 'list', vid)
    refused(w, FOREIGN, 'recipient', 'list', vid, secrets=w.session(volume, key=os.urandom(32)))


# ---- removed

def bad_removals(w, volume, first, second):
    """Each is refused, and nothing is changed."""
    mine, sid = w.session(volume), first.fingerprint
    good = new_key(w, volume, second, [second])
    other = new_key(w, volume, second, [second])
    rows = [("can't be replaced without new secrets", mine, None),
            ("secret 'session' is missing", {}, good),
            ('the session is over', w.session(volume, seconds=-1), good),
            (FOREIGN, w.session(volume, key=os.urandom(32)), good),
            ('the new key: coffer-keyd: ' + FOREIGN, mine, {**good, 'session': other['session']}),
            ('the new key: coffer-keyd: ' + FOREIGN, mine, {**good, 'commitment': other['commitment']}),
            ('the new key: coffer-keyd: the session is over', mine, new_key(w, volume, second, [second], seconds=-1)),
            ('the new key is the one', mine, new_key(w, volume, second, [second], key=first.key(volume['made']))),
            ('is of none that stays', mine, new_key(w, volume, first, [second])),
            ('nothing is wrapped for key', mine, {**good, 'recipients': '[]'}),
            ("a key that isn't to be a recipient", mine, new_key(w, volume, second, [second, first]))]
    before = w.c.record(volume)
    for word, secrets, brought in rows:
        files = {'secrets': secrets, **({} if brought is None else {'new_secrets': brought})}
        refused(w, word, 'recipient', 'remove', volume['volume_id'], sid, **files)
        unchanged(w, volume, before, word)


def in_use(w, first, second):
    """Under a mounted file system; then the first device's form, key and sessions are worth nothing, the second's are."""
    c = w.c
    volume = c.make('recipients', first)
    vid = volume['volume_id']
    w.stage(volume)
    with open(c.staging(volume) + '/file', 'wb') as f:
        f.write(b'before')
    add(w, volume, first, second)
    bad_removals(w, volume, first, second)
    other, old_key = lent_by(w, volume, second), first.key(volume['made'])
    demand(second.key(other['made']) == old_key, 'the second device has another key')
    stale, was = {d: w.session(lent_by(w, volume, d)) for d in (first, second)}, table(w, volume)
    brought = new_key(w, volume, second, [second])
    for resumed in (False, True):  # an answer may be lost
        done = cofferctl(w, 'recipient', 'remove', vid, first.fingerprint, secrets=stale[second], new_secrets=brought)
        demand(json.loads(done.stdout)['resumed'] is resumed, done.stdout)
    demand(table(w, volume) == was and keyslots(w, volume) == 1, 'mapping or keyslots')
    c.unstage(volume)
    other = lent_by(w, volume, second)
    demand([r['key'] for r in c.record(volume)['recipients']] == [second.public_text], c.record(volume))
    demand(not opens(w, volume, old_key) and opens(w, volume, second.key(other['made'])), 'which key opens the header')
    not_staged(w, "the first device's session", "doesn't have among its recipients", volume, stale[first])
    not_staged(w, 'under the other name', FOREIGN, volume, {**stale[first], 'fingerprint': second.fingerprint})
    not_staged(w, "the second device's, with the old key", FOREIGN, volume, stale[second])
    demand(not c.left_over(), c.left_over())
    refused(w, 'is the last recipient of volume', 'recipient', 'remove', vid, second.fingerprint,
            secrets=w.session(other), new_secrets=new_key(w, volume, second, [second]))
    c.stage_with(volume, w.session(other))
    with open(c.staging(volume) + '/file', 'rb') as f:
        demand(f.read() == b'before', 'the file')
    rotated(w, other, second)
    c.unstage(volume)
    c.delete(vid)


def rotated(w, volume, device):
    """volume rotate-key: all stay."""
    key = device.key(volume['made'])
    cofferctl(w, 'volume', 'rotate-key', volume['volume_id'], secrets=w.session(volume), new_secrets=new_key(w, volume, device, [device]))
    now = lent_by(w, volume, device)
    demand(not opens(w, volume, key) and opens(w, volume, device.key(now['made'])) and keyslots(w, volume) == 1, 'the keyslots')
    shown = json.loads(cofferctl(w, 'recipient', 'list', volume['volume_id'], secrets=w.session(now)).stdout)
    demand([r['fingerprint'] for r in shown] == [device.fingerprint], shown)


# ---- killed

def killed(w, tap, first, second):
    """coffer-node at each of its points while it removes the first: the same call again finishes."""
    c = w.c
    volume = {**c.make('recipients-killed', second), 'device': second}
    w.stage(volume)
    c.unstage(volume)
    asked = {}

    def rpc(method, **fields):
        return c.call(c.admin_socket, f'coffer.v1.NodeAdmin/{method}', {'volume_id': volume['volume_id'], 'reason': 'story', **fields})

    def before():
        """(Each session and key would be one more to look for in the end, and that is slow.)"""
        made = lent_by(w, volume, second)['made']
        lent = second.session(volume['volume_id'], made, w.server)
        until_ok(lambda: rpc('AddRecipient', public_key=first.public_text, algorithm='RSA-OAEP-256', secrets=lent,
                             wrapped=second.wrap_for(first.der, made)))
        asked.update(fingerprint=first.fingerprint, secrets=lent, key=second.key(made),
                     new_secrets=second.new_key(volume['volume_id'], made, w.server, [second]))

    def remove():
        rpc('RemoveRecipient', **{k: v for k, v in asked.items() if k != 'key'})

    def is_gone():
        record, mine = c.record(volume), lent_by(w, volume, second)
        demand(len(record['recipients']) == 1 and 'staleSlots' not in record and keyslots(w, volume) == 1, record)
        demand(opens(w, volume, second.key(mine['made'])) and not opens(w, volume, asked['key']), 'which key opens the header')
    swept = sweep(tap, c, Job('remove', before, remove, is_gone, lambda: None), FaultKiller(c, 'coffer-node'))
    print(f'# client-keys: {swept[0]} of {swept[1]} points of a removal swept')
    mine = lent_by(w, volume, second)
    c.stage_with(volume, w.session(mine))
    demand(os.statvfs(c.staging(volume)).f_bsize > 0 and c.mapping_bytes(volume) == 16 * MIB, 'it is not mounted')
    c.unstage(volume)
    c.delete(volume['volume_id'])
