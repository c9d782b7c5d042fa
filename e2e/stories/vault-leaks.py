#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vault-leaks: the story `leaks` with keys in the real Vault, for both engines: what is looked for are also every token, secret id,
wrapping token and service account token of the run (from an audit log that has them in clear) and each key in base64. In
coffer-keyd's memory there is no key once it was handed over, each credential once at most, and after a clean stop nothing. Then
the build that gives keys, tokens and secret ids away on purpose shows that all of it would have been seen."""
# story: disk=2G needs=vault memory=2048M
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import faultproxy as fp  # noqa: E402
import leakhunt  # noqa: E402
import leakscan  # noqa: E402
import vaultserver  # noqa: E402
from fixture import GID, UID_KEYD, CallError  # noqa: E402
from keydfaults import BOTH, KMS, SECRETS, opened  # noqa: E402
from sweep import SAMPLE, sampled, until_ok  # noqa: E402
from tap import Tap  # noqa: E402
from watched import Paused, Watched, storage_key  # noqa: E402

AT_HOME = ('vault token', 'secret id')  # what coffer-keyd holds, in its memory only
SETTLE = 10  # seconds: an old token is being revoked, a request is being freed


class Beside(Watched):
    """With its keys in Vault, behind the fault proxy: the service `vault` (transit) with a login by approle and a wrapped secret
    id, `kv` by jwt. A wrapping token works once: each coffer-keyd gets another one."""

    def __init__(self, root, watch, w):
        self.w = w
        role = w.layout.jwt(*BOTH)
        jwt = {'method': 'jwt', 'mount': role.mount, 'role': role.body['role'], 'token_path': w.file('jwt', role.body['jwt'])}
        transit, kv = (w.config(w.proxied, auth=auth)['kms'] for auth in (w.approle(wrap_seconds=3600), jwt))
        super().__init__(root, watch, services={'vault': transit['vault'], 'kv': kv['kv']})

    def start_keyd(self):
        for path in (self.w.approle(wrap_seconds=3600)['secret_id_path'], f'{self.w.folder}/jwt', self.w.ca):
            os.chown(path, UID_KEYD, GID)
        super().start_keyd()


class Hunt(leakhunt.Hunt):
    def __init__(self, tap, c, w):
        super().__init__(tap, c)
        self.w, self.spared = w, (w.folder + '/',)

    def needles(self):
        return self.w.needles(self.known)

    def held(self):
        """Tokens and secret ids in coffer-keyd's memory: text -> (what it is, how many copies)."""
        texts = {text.encode(): SECRETS[name] for text, name in self.w.raw_texts(*SECRETS).items() if SECRETS[name] in AT_HOME}
        counted = leakscan.count_in_memory(self.c.keyd.process.pid, texts)
        return {text: (texts[text], n) for text, n in counted.items()}

    def keyd_now(self):
        away = self.w.secrets('token', 'jwt', 'plaintext', 'key')
        found, held = leakhunt.scan_daemons(self.c, leakscan.Needles({**away, **self.known}), ('keyd',)), self.held()
        if not held:
            raise RuntimeError('coffer-keyd\'s token was not found in its memory: the scan sees nothing')
        for what in AT_HOME:
            copies = [n for name, n in held.values() if name == what]
            if sum(copies) > len(KMS) or max(copies, default=0) > 1:
                found.append(leakscan.Finding('memory', 'coffer-keyd', f'{what}, copies of each: {copies}'))
        return found

    def keyd(self):
        """A key, a wrapping token, a service account's token: none. A token, a secret id: one copy, of the one in use."""
        end = time.monotonic() + SETTLE
        while (found := self.keyd_now()) and time.monotonic() < end:
            time.sleep(0.5)
        return found


# ---- what Vault does to it ----
def echo(x):
    """403 whose text is the request's headers, and what Vault would have answered."""
    number, _, body = x.ask_vault()
    said = [json.dumps(dict(x.headers)), x.body.decode(), body.decode(), f'instead of {number}']
    x.answer(403, [('Content-Type', 'application/json')], json.dumps({'errors': said}).encode())


HOSTILE = (('a refusal that quotes token and key', echo, 'PERMISSION'), ('a key in a reply that ends early', fp.cut(0.7), 'UNAVAILABLE'),
           ('a key in malformed JSON', fp.malformed(), 'UNAVAILABLE'))


def again(call):
    """A token that was refused a moment ago isn't replaced at once, and a breaker waits."""
    end = time.monotonic() + 300
    while True:
        try:
            return until_ok(call)
        except CallError as e:
            if e.code != 'PERMISSION' or time.monotonic() > end:
                raise
        time.sleep(0.5)


def hostile(hunt, volume):
    c, front = hunt.c, hunt.w.front
    for name, action, code in HOSTILE:
        rules = [front.rule(action, path=path) for path in ('*/decrypt/*', '*/data/*')]
        hunt.tap.expect_error(name, code, c.stage, volume)
        front.clear()
        asked = sum(r.hits for r in rules)
        hunt.nothing(f'{name}: nothing of it in coffer-keyd\'s memory', hunt.keyd())
        hunt.tap.check(asked, f'{name}: it was sent', f'{asked} times')
        again(lambda: c.stage(volume))
        c.unstage(volume)


def revoked(hunt, volume):
    """The old token isn't kept beside the new one."""
    c = hunt.c

    def tokens():
        return {text for text, (what, _) in hunt.held().items() if what == 'vault token'}

    def replaced():
        before = tokens()
        hunt.w.revoke()
        again(lambda: c.stage(volume))
        c.unstage(volume)
        end = time.monotonic() + SETTLE
        while len((after := tokens()) & before) == len(before) and time.monotonic() < end:
            time.sleep(0.5)
        # the other key service asked nothing and knows of nothing
        if len(after & before) != len(before) - 1 or len(after - before) != 1:
            raise RuntimeError(f'{len(before)} tokens before, {len(after)} after, {len(after & before)} in both')
    hunt.tap.run('a token that was revoked is gone from memory when there is another one', replaced)


def gone(hunt, volume):
    hunt.w.vault.stop()
    hunt.tap.expect_error('no Vault: the stage is refused', 'UNAVAILABLE', hunt.c.stage, volume)
    hunt.w.vault.start()
    again(lambda: hunt.c.stage(volume))
    hunt.c.unstage(volume)


def refused_login(hunt, volume):
    c, front = hunt.c, hunt.w.front
    hunt.w.revoke()
    rule, end = front.rule(echo, path='auth/*/login'), time.monotonic() + 300
    while not rule.hits and time.monotonic() < end:
        hunt.tap.expect_error('a refused login that quotes the credential', 'PERMISSION', c.stage, volume)
        time.sleep(0.5)
    front.clear()
    hunt.tap.check(rule.hits, 'the refusal was sent')
    hunt.nothing('memory of the others after all this', hunt.daemons())
    hunt.w.revoke()  # the refusal was a lie
    c.keyd.stop()    # the pause after a refusal ends with the process
    c.start_keyd()


def troubles(hunt, volume, cores, whole):
    if whole:
        leakhunt.ill_treated(hunt, volume, cores)
    for trouble in (hostile, revoked, gone, refused_login):
        trouble(hunt, volume)


# ---- the life ----
def empty_at_the_end(hunt):
    c = hunt.c
    with Paused(c, 'coffer-keyd', 'keyd:stopped', c.keyd.stop):
        found = leakhunt.scan_daemons(c, hunt.needles(), ('keyd',))
    live = len(hunt.w.layout.live_tokens(BOTH[0]))
    hunt.tap.check(c.keyd.process.returncode == 0 and live == 0, 'a clean stop: no token lives', f'{live} do')
    return found


def whole_life(tap, watch, cores, w):
    c = Beside(os.path.join(os.environ['COFFER_SCRATCH'], 'life'), watch, w)
    hunt = Hunt(tap, c, w)
    c.install()
    c.start()
    for kms in KMS:
        print(f'# key service {kms}', flush=True)
        whole = SAMPLE == 1 or kms == KMS[0]  # what goes wrong outside Vault is the same for both
        leakhunt.life(hunt, lambda volume, w=whole: troubles(hunt, volume, cores, w), parameters={'kms': kms})
    hunt.nothing('nothing at all in coffer-keyd\'s memory after a clean stop', empty_at_the_end(hunt))
    c.stop()
    hunt.afterwards(cores)
    kinds = {what.split(',')[0].split(' ')[0] for what in hunt.needles().everywhere.values()}
    tap.check({'vault', 'secret', 'wrapping', 'service', 'key', 'storage', 'passphrase', 'volume'} <= kinds,
              f'{len(hunt.needles().everywhere)} forms were looked for, of every kind of secret', kinds)


# ---- the build that leaks ----
WAYS = (('log-hex', 'log'), ('log-upper', 'log'), ('log-base64', 'log'), ('log-raw', 'log'), ('file', 'file'), ('memory', 'memory'))
LEAKS = [(place, way, kind) for place in ('keyd:vault-token', 'keyd:secret-id', 'keyd:storage-key') for way, kind in WAYS]


class Leaky(leakhunt.Leaky):
    def __init__(self, hunt, cores):
        self.hunt, self.way = hunt, 'memory'
        super().__init__(hunt.c, cores, parameters={'kms': 'vault'})
        hunt.known = self.secrets

    def new_keyd(self):
        self.c.keyd.stop()
        self.c.start_keyd()
        storage_key(self.c, self.volume)

    def use_key(self, place, way):
        """The least that takes it past the place: a token comes with a login."""
        self.way = way
        if place == 'keyd:storage-key':
            super().use_key(place, way)
        else:
            self.leak(place, way, self.new_keyd)

    def look(self):
        """In coffer-keyd's memory only when it matters: the other ways leave traces on its stack."""
        self.needles = self.hunt.needles()
        return super().look() + (self.hunt.keyd() if self.way == 'memory' else [])

    def caught(self, place, way, kind):
        try:
            super().caught(place, way, kind)
        finally:
            if way == 'memory':  # a new process: what the old one kept is gone
                self.new_keyd()


def leaky_build(tap, watch, cores, w):
    leakhunt.take_leaky_build()
    c = Beside(os.path.join(os.environ['COFFER_SCRATCH'], 'leaky'), watch, w)
    c.install()
    c.start()
    hunt = Hunt(tap, c, w)
    leaky = Leaky(hunt, cores)
    tap.run('the leaky build, nothing armed: nothing is found', leaky.quiet)
    for place, way, kind in sampled(LEAKS):
        tap.run(f'{place} given away by {way} is caught', leaky.caught, place, way, kind)
    leaky.disk(tap)
    tap.run('node:storage-key kept in memory is caught', leakhunt.only_found, leaky.in_node, 'memory', 'coffer-node')
    c.delete(leaky.volume['volume_id'])
    c.stop()
    hunt.snapshots.stop()


def story(tap):
    with leakhunt.watching() as (watch, cores):
        folder = os.path.join(watch, 'vault')  # in memory: what is on the disk is a find
        os.mkdir(folder)
        os.chmod(folder, 0o755)
        with vaultserver.open_vault(folder) as vault, opened(vault, folder) as w:
            whole_life(tap, os.path.join(watch, 'life'), cores, w)
            cores.clear()
            leaky_build(tap, os.path.join(watch, 'leaky'), cores, w)


def main():
    tap = Tap()
    if reason := vaultserver.why_not():
        tap.skip('vault-leaks', reason)
    elif 'VAULT_ADDR' in os.environ:
        tap.skip('vault-leaks', 'the server of VAULT_ADDR is not the tests\' own: its audit log can\'t say what all the secrets are')
    else:
        story(tap)
    tap.done()


main()
