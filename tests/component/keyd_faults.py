#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-keyd when each of its allocations fails once (common/fault_alloc.h), libcurl's, libcrypto's and jansson's among them: the answer
is one clear error or the right answer, no key comes with an error, the same request then works; the process lives, or ends because it
knows that libcrypto is broken (or by libcurl: died_of_libcurl). Before a played
Vault over TLS, with a connection that is there and with one that has to be made. What one place allocates again and again fails there once.
TAP on stdout. COFFER_SAMPLE=N tries each N-th (default 16); COFFER_SAMPLE=1 is the whole."""
import contextlib
import json
import os
import signal
import sys

import caselib
import keydlib
from caselib import ROOT, Skip
from keyd_session import KEY, NODE_MAY, lend, play, sealed
from keydlib import Keyd, frame, wrap_for
from vaultlib import DESTROY, POD_MOUNT, Vault, mint, unwrap, write_config

sys.path.insert(0, os.path.join(ROOT, 'e2e', 'lib'))
from allocations import Allocations  # noqa: E402

SAMPLE = int(os.environ.get('COFFER_SAMPLE', '16'))
TOLD = []  # how many failures of each request's were told to the caller
LIBCURL = 'libcurl ended it'
# the second and third: Vault wasn't reached for want of memory
RIGHT = ('RESOURCE_EXHAUSTED', "UNAVAILABLE: the token of '", 'UNAVAILABLE: Vault (', f'UNAVAILABLE: {LIBCURL}')
ALLOW = 'MINT,UNWRAP,DESTROY,WRAP_FOR,UNWRAP_CLIENT,STATUS'


class World:
    """A played Vault, coffer-keyd with the key services `vault`, `kv` and `dev`, a fault folder."""

    def __init__(self, root, vault):
        self.root, self.vault = root, vault
        self.allocations = Allocations(f'{root}/faults/coffer-keyd.alloc')
        self.environment = {**os.environ, 'COFFER_FAULT_DIR': f'{root}/faults'}
        self.keyd = None
        caselib.run(['openssl', 'pkey', '-in', f'{root}/recipient', '-pubout', '-outform', 'DER', '-out', f'{root}/recipient.pub'])
        with open(f'{root}/recipient.pub', 'rb') as f:
            self.recipient = f.read()

    def start(self):
        self.allocations.set(0)
        self.keyd = Keyd(self.root, allow=ALLOW, env=self.environment)
        return self.keyd.wait_ready()

    def start_again(self, number):
        """As its supervisor does: what libcrypto had no memory to load may fail for ever."""
        if self.keyd.p.poll() is None and self.answers():
            return
        if self.died_of_libcurl():
            self.start()
            return
        assert self.keyd.p.wait(caselib.PATIENCE) == 1, f'allocation {number}: it ended ({self.keyd.p.returncode})'
        assert 'libcrypto may work no more' in self.keyd.log(), f'allocation {number}: it ended without a word'
        self.start()

    def died_of_libcurl(self):
        """7.88 divides by the number of a table's slots, though it had no memory for the table: two places, with its first request."""
        return self.keyd.p.poll() == -signal.SIGFPE

    def answers(self):
        try:
            keydlib.status(self.keyd)
        except (AssertionError, OSError):
            return False
        return True

    def again(self):
        """Without a login and a connection."""
        assert self.keyd.stop() == 0, self.keyd.log()[-2000:]
        self.start()


@contextlib.contextmanager
def world():
    with keydlib.fresh_root() as root, contextlib.closing(Vault(root)) as vault:
        config = json.loads(caselib.read(f'{root}/config.json'))
        caselib.write(f'{root}/token', 'hvs.played\n', 0o600)
        write_config(root, vault, method='token-file', token_path=f'{root}/token', pod_role='coffer-pod', pod_mount=POD_MOUNT)
        config['kms'].update(json.loads(caselib.read(f'{root}/config.json'))['kms'])
        config['pools']['fast'] = caselib.file_pool(f'{root}/pool', *config['kms'])
        caselib.write(f'{root}/config.json', config)
        caselib.run(['openssl', 'genpkey', '-algorithm', 'X25519', '-out', f'{root}/recipient'])
        os.mkdir(f'{root}/faults')
        vault.may = {**NODE_MAY, 'datakey/wrapped': ['update']}
        play(vault, None)
        w = World(root, vault)
        w.start()
        try:
            yield w
        finally:
            caselib.end(w.keyd.p)


# ---- what is asked: name -> (what is there before, the request) -> (code, message) ----

def answer(reply):
    return reply.code, reply.message


def nothing(_):
    return None


def minted(kms):
    def make(w):
        reply = mint(w.keyd, kms)
        assert reply.code == 'OK', (reply.code, reply.message)
        return reply, unwrap(w.keyd, kms, reply)[1] if kms != 'kv' else None
    return make


def ask_mint(kms):
    def ask(w, _):
        return answer(mint(w.keyd, kms))
    return ask


def ask_unwrap(kms):
    def ask(w, made):
        reply, key = unwrap(w.keyd, kms, made[0])
        assert reply.code != 'OK' or made[1] is None or key == made[1], 'another key'
        return answer(reply)
    return ask


def ask_wrap_for(w, made):
    kind, ciphertext, _ = made[0].rest
    with w.keyd.client() as c:
        return answer(c.ask(wrap_for(ciphertext.decode(), 'HPKE-Base-X25519-SHA256-A256GCM', w.recipient, kind=kind.decode())))


def ask_session(w, _):
    reply, key = lend(w.keyd, sealed())
    assert reply.code != 'OK' or key == KEY, 'another key'
    return answer(reply)


def ask_destroy(w, _):
    with w.keyd.client() as c:
        return answer(c.ask(frame(DESTROY, 20000, 'kv', 'team-a', keydlib.VOLUME, keydlib.UUID)))


def ask_status(w, _):
    with w.keyd.client() as c:
        return answer(c.ask(frame(keydlib.STATUS, 20000)))


REQUESTS = {
    'MINT, a file': (nothing, ask_mint('dev')),
    'UNWRAP, a file': (minted('dev'), ask_unwrap('dev')),
    'WRAP_FOR, a file': (minted('dev'), ask_wrap_for),
    'MINT, transit': (nothing, ask_mint('vault')),
    'UNWRAP, transit': (minted('vault'), ask_unwrap('vault')),
    'UNWRAP_CLIENT, transit': (nothing, ask_session),
    'DESTROY, kv': (minted('kv'), ask_destroy),
    'STATUS': (nothing, ask_status),
}


def once_failed(w, name, number, fresh):
    before, ask = REQUESTS[name]
    made = before(w)
    if fresh:
        w.again()
    w.allocations.set(number)
    try:
        code, message = ask(w, made)
    except AssertionError:
        caselib.wait_for(lambda: w.keyd.p.poll() is not None, 'its end')
        if not w.died_of_libcurl():
            raise
        code, message = 'UNAVAILABLE', LIBCURL
    w.allocations.set(0)
    w.start_again(number)
    repeated = ask(w, made)
    if repeated[0] != 'OK':
        w.start_again(number)
        repeated = ask(w, made)
    assert repeated[0] == 'OK', f'allocation {number}, once more: {repeated}'
    return '' if code == 'OK' else f'{code}: {message}'


def places_of(w, name, fresh):
    before, ask = REQUESTS[name]
    made = before(w)
    if fresh:
        w.again()
    w.allocations.set(0)
    code, message = ask(w, made)
    assert code == 'OK', (code, message)
    return w.allocations.seen(), w.allocations.firsts()


def each_allocation(name, fresh):
    def test(w):
        (count, places), errors = places_of(w, name, fresh), {}
        assert count > 3, 'its allocations are not counted'
        tried = places[::SAMPLE]
        for number in tried:
            if said := once_failed(w, name, number, fresh):
                errors.setdefault(said, []).append(number)
        told = sum(map(len, errors.values()))
        TOLD.append(told)
        print(f'# {name}: {count} allocations at {len(places)} places, {len(tried)} failed, {told} were told to the caller', flush=True)
        assert sum(len(numbers) for said, numbers in errors.items() if LIBCURL in said) <= 2, errors
        wrong = {said: numbers for said, numbers in errors.items() if not said.startswith(RIGHT)}
        assert not wrong, wrong
    test.__name__ = f'each allocation of {name}{", first of all," if fresh else ""} failed once'
    return test


def some_of_them_were_told(_):
    """Or nothing failed at all."""
    assert sum(TOLD) > 0, TOLD


def fault_points(_):
    raise Skip('this build has no fault points')


def main():
    with open(keydlib.KEYD, 'rb') as f:
        if b'COFFER_FAULT_DIR' not in f.read():
            return caselib.main([fault_points])
    tests = [each_allocation(name, fresh) for fresh in (False, True) for name in REQUESTS]
    return caselib.main([*tests, some_of_them_were_told], world)


if __name__ == '__main__':
    sys.exit(main())
