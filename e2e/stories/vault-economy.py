#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vault-economy: coffer-keyd beside the real Vault, what it costs and how it logs in. Requests counted in the server's audit log,
live tokens, TLS connections, renewal, every login method, memory, 256 questions at once, kills, names that must be resolved
inside the sandbox. What a CSI call costs is in vault-stage."""
# story: where=here needs=vault
import contextlib
import os
import random
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import faultproxy as fp  # noqa: E402
import vaultserver  # noqa: E402
from fakekube import TokenReviewer  # noqa: E402
from keydclient import Gone, Volume  # noqa: E402
from keydfaults import BOTH, KMS, Case, opened, until_ok  # noqa: E402
from tap import demand  # noqa: E402
from testpki import sign_jwt  # noqa: E402
from vaultsetup import service_account  # noqa: E402

SAMPLE = int(os.environ.get('COFFER_SAMPLE') or 1)
ROUNDS = max(1000 // SAMPLE, 100)
CONNECTIONS, IDLE_KIB = 8, 4096


class Counter:
    """Requests of the daemons since it was made, as the server's audit log has them."""

    def __init__(self, w):
        self.w, self.mark = w, w.vault.audit.mark()

    def entries(self):
        return [e for e in self.w.vault.audit.entries(self.mark) if 'root' not in e.policies]

    def expect(self, *paths):
        """Exactly these, in this order."""
        got = [e.path for e in self.entries()]
        demand(len(got) == len(paths) and all(g.startswith(p) for g, p in zip(got, paths)), f'asked of Vault: {got}, not {paths}')
        self.mark = self.w.vault.audit.mark()


# ---- what a question costs

def warm_counts(w):
    transit, kv = w.layout.transit, w.layout.kv
    with Case(w, auth=w.approle()) as case:
        case.make_volumes()
        count = Counter(w)
        for kms, path in (('vault', f'{transit}/decrypt/'), ('kv', f'{kv}/data/')):
            for _ in range(3):
                demand(case.ask(kms, 'UNWRAP').key == case.keys[kms], 'not the key')
                count.expect(path)
        for kms, path in (('vault', f'{transit}/datakey/wrapped/'), ('kv', f'{kv}/data/')):
            for _ in range(3):
                demand(case.ask(kms, 'MINT').code == 'OK', 'no key')
                count.expect(path)
        case.keyd.status()
        count.expect()


def cold_counts(w):
    """First contact: one login and one self-test, for each engine; then for each tenant one refused context."""
    with Case(w, auth=w.approle(), name='other') as other, Case(w, auth=w.approle()) as case:
        case.make_volumes(other.keyd)
        count, decrypt = Counter(w), f'{w.layout.transit}/decrypt/'
        case.keyd.status()
        count.expect()
        case.ask('vault', 'UNWRAP')
        count.expect('auth/', 'sys/capabilities-self', decrypt, decrypt)
        case.ask('vault', 'UNWRAP')
        count.expect(decrypt)
        case.ask('kv', 'UNWRAP')
        count.expect('sys/capabilities-self', f'{w.layout.kv}/data/')


def live_tokens(w):
    """One after many rounds, none after the end."""
    with Case(w, auth=w.approle()) as case:
        w.revoke()  # what killed processes of other tests left
        case.make_volumes()
        count = Counter(w)
        for _ in range(ROUNDS):
            demand(case.ask('vault', 'UNWRAP').code == 'OK', 'not opened')
        n = len(count.entries())
        demand(n == ROUNDS, f'{n} requests for {ROUNDS} unwraps')
        tokens = len(w.layout.live_tokens(BOTH[0]))
        demand(tokens == 1, f'{tokens} live tokens after {ROUNDS} rounds')
        demand(case.keyd.stop() == 0, 'its exit status')
        tokens = len(w.layout.live_tokens(BOTH[0]))
        demand(tokens == 0, f'{tokens} live tokens after its end')


# ---- many at once

def at_once(case, n):
    """n questions, each on a connection of its own, all sent at the same moment."""
    answers, gate = [], threading.Barrier(n)

    def one():
        with contextlib.suppress(Exception):
            gate.wait(300)
            answers.append(case.ask('vault', 'UNWRAP', 120000))
    threads = [threading.Thread(target=one) for _ in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(300)
    good = sum(1 for a in answers if a.code == 'OK' and a.key == case.keys['vault'])
    demand(good == n, f'{good} of {n} were opened: {[str(a) for a in answers if a.code != "OK"][:3]}')


def connections(w, n):
    w.front.drop()
    w.front.reset_counts()
    with Case(w, w.proxied, auth=w.approle()) as case:
        case.make_volumes()
        # each answer is held back, so that no connection is free for the next question for a while
        w.front.rule(fp.late(0.2), path='*/decrypt/*', times=3 * CONNECTIONS)
        try:
            at_once(case, n)
        finally:
            w.front.clear()
        demand(2 <= w.front.open_most <= CONNECTIONS, f'{w.front.open_most} TLS connections at once')
        left = case.keyd.tcp_connections(int(w.proxied.rsplit(':', 1)[1]))
        demand(left <= CONNECTIONS, f'{left} connections are kept')
    return w.front.open_most


# ---- the token's time

def wait_for(count, path, seconds=60):
    end = time.monotonic() + seconds
    while not any(e.path.startswith(path) for e in count.entries()):
        demand(time.monotonic() < end, f'no {path} within {seconds} s: {[e.path for e in count.entries()]}')
        time.sleep(0.05)


def renewal(w):
    """TTL 9 s: renewed after 6, without another login; the token stays the same one."""
    with Case(w, auth=w.approle(token_ttl='9s')) as case:
        w.revoke()
        start, count = time.monotonic(), Counter(w)
        case.make_volumes(kms=KMS[:1])
        before = [t['accessor'] for t in w.layout.live_tokens(BOTH[0])]
        wait_for(count, 'auth/token/renew-self')
        demand(time.monotonic() - start >= 6, 'renewed before 2/3 of its time')
        time.sleep(4)
        demand(case.ask('vault', 'UNWRAP').code == 'OK', 'not opened after the renewal')
        demand(w.logins(count.mark) == 1, f'{w.logins(count.mark)} logins')
        demand([t['accessor'] for t in w.layout.live_tokens(BOTH[0])] == before, 'another token, or more than one')


def not_renewable(w, **options):
    """Near its end another token is got, and the old one is given back."""
    with Case(w, auth=w.approle(**options)) as case:
        w.revoke()
        count = Counter(w)
        case.make_volumes(kms=KMS[:1])
        end = time.monotonic() + 60
        while w.logins(count.mark) < 2:
            demand(time.monotonic() < end, 'no second login')
            demand(case.ask('vault', 'UNWRAP').code == 'OK', 'not opened')
            time.sleep(0.3)
        demand(case.ask('vault', 'UNWRAP').code == 'OK', 'not opened with the new token')
        tokens = len(w.layout.live_tokens(BOTH[0]))
        demand(tokens <= 1, f'{tokens} live tokens')


# ---- login methods

def works(w, auth, **more):
    """A key is minted and opened by both engines, and again after the tokens were revoked."""
    with Case(w, auth=auth, **more) as case:
        case.make_volumes()
        w.revoke()
        for kms in KMS:
            answer = until_ok(lambda k=kms: case.ask(k, 'UNWRAP'))
            demand(answer.key == case.keys[kms], 'another key after the second login')
        demand(case.keyd.stop() == 0, 'its exit status')


def approle_wrapped(w):
    works(w, w.approle(wrap_seconds=300))


def refused_wrapping(w, token, auth):
    w.file('secret-id', token)
    with Case(w, auth=auth) as case:
        mark = w.vault.audit.mark()
        answer = case.keyd.mint(Volume('vault', case.tenant))
        demand(answer.code == 'PERMISSION_DENIED', f'{answer}')
        demand('SECURITY: a wrapped secret id was not made by' in case.keyd.log(), 'the log says nothing')
        demand(w.logins(mark) == 0, f'it logged in: {w.vault.audit.table(mark)}')


def wrapped_elsewhere(w):
    """Somebody wraps a secret id of their own: by another path, and by another role's."""
    auth = w.approle(wrap_seconds=300)
    made = w.root.call('POST', 'sys/wrapping/wrap', {'secret_id': 'x' * 36}, headers={'X-Vault-Wrap-TTL': '300s'})
    refused_wrapping(w, made.body['wrap_info']['token'], auth)
    mount = w.layout.mount_auth('approle')
    w.layout.approle('node')
    made = w.root.call('POST', f'auth/{mount}/role/node/secret-id', {}, headers={'X-Vault-Wrap-TTL': '300s'})
    refused_wrapping(w, made.body['wrap_info']['token'], auth)


def wrapped_used_up(w):
    """Somebody was faster: the wrapping token was used already."""
    auth = w.approle(wrap_seconds=300)
    with open(auth['secret_id_path'], encoding='ascii') as f:
        token = f.read().strip()
    w.root.as_(token).call('POST', 'sys/wrapping/unwrap')
    with Case(w, auth=auth) as case:
        answer = case.keyd.mint(Volume('vault', case.tenant))
        demand(answer.code == 'PERMISSION_DENIED', f'{answer}')
        w.approle(wrap_seconds=300)
        until_ok(lambda: case.keyd.mint(Volume('vault', case.tenant)))


def jwt_auth(w, role):
    return {'method': 'jwt', 'mount': role.mount, 'role': role.body['role'], 'token_path': w.file('jwt', role.body['jwt'])}


def jwt(w):
    works(w, jwt_auth(w, w.layout.jwt(*BOTH)))


def projected_token(w):
    """kubelet replaces the file: the next login shows the new one, also while the old one would still do."""
    auth = jwt_auth(w, w.layout.jwt(*BOTH))
    with Case(w, auth=auth) as case:
        case.make_volumes()
        new = sign_jwt(f'{w.vault.folder}/jwt.key', {**service_account('team-a'), 'jti': 'second'})
        w.file('jwt', new)
        demand(case.ask('vault', 'UNWRAP').code == 'OK', 'not opened')
        demand(new not in w.raw_texts('jwt'), 'a login for nothing')
        w.revoke()
        demand(case.ask('vault', 'UNWRAP').code == 'OK', 'not opened after a second login')
        demand(list(w.raw_texts('jwt'))[-1] == new, 'the old token was shown')
        w.file('jwt', sign_jwt(f'{w.vault.folder}/jwt.key', {**service_account('team-a', seconds=-3600)}))
        w.revoke()
        time.sleep(6)  # a second login for a refusal isn't made sooner than 5 s after the last
        answer = case.ask('vault', 'UNWRAP')
        demand(answer.code == 'PERMISSION_DENIED', f'an expired token: {answer}')
        w.file('jwt', new)
        until_ok(lambda: case.ask('vault', 'UNWRAP'))


def cert(w):
    role = w.layout.cert(*BOTH)
    works(w, {'method': 'cert', 'mount': role.mount, 'role': role.body['name']}, client_cert=role.client[0], client_key=role.client[1])


def kubernetes(w):
    reviewer = TokenReviewer(w.folder, w.vault.authority)
    try:
        role = w.layout.kubernetes(reviewer, *BOTH)
        auth = {'method': 'kubernetes', 'mount': role.mount, 'role': role.body['role'], 'token_path': w.file('sa', role.body['jwt'])}
        works(w, auth)
        demand(reviewer.reviews >= 2, 'nobody was asked')
        with Case(w, auth=auth) as case:
            reviewer.revoke(role.body['jwt'])  # the pod is gone
            answer = case.keyd.mint(Volume('vault', case.tenant))
            demand(answer.code == 'PERMISSION_DENIED', f'{answer}')
    finally:
        reviewer.close()


def token_file(w):
    auth = w.token_file()
    with Case(w, auth=auth) as case:
        case.make_volumes()
        demand(case.keyd.stop() == 0, 'its exit status')
    with open(auth['token_path'], encoding='ascii') as f:
        demand(w.root.as_(f.read().strip()).request('GET', 'auth/token/lookup-self').status == 200, 'a given token was revoked')


# ---- the process

def memory(w):
    """Idle: after many questions, 256 of them at once, and some seconds without any."""
    with Case(w, auth=w.approle()) as case:
        case.make_volumes()
        for _ in range(200):
            case.ask('vault', 'UNWRAP')
        at_once(case, 256)
        time.sleep(12)  # connections to it are closed after 10 s of silence
        m = case.keyd.memory()
        print(f'# coffer-keyd idle: anonymous {m["Anonymous"]} KiB, RSS {m["Rss"]} KiB, PSS {m["Pss"]} KiB', flush=True)
        demand(m['Anonymous'] <= IDLE_KIB, f'{m["Anonymous"]} KiB of anonymous memory')


def sandboxed(w):
    with Case(w, auth=w.approle()) as case:
        case.make_volumes()
        with open(f'/proc/{case.keyd.process.pid}/status', encoding='ascii') as f:
            said = dict(line.rstrip('\n').split(':\t', 1) for line in f if ':\t' in line)
        for name, wanted in (('Seccomp', '2'), ('NoNewPrivs', '1'), ('CapEff', '0' * 16), ('CapPrm', '0' * 16), ('Threads', '1')):
            demand(said[name] == wanted, f'{name} is {said[name]}')


def names(w):
    """The resolver's thread runs inside the filter; a name that isn't there ends nothing."""
    port = w.proxied.rsplit(':', 1)[1]
    with Case(w, f'localhost:{port}', auth=w.approle()) as case:
        case.make_volumes()
        for _ in range(5):
            w.front.drop()  # so that it resolves the name again
            demand(until_ok(lambda: case.ask('vault', 'UNWRAP')).key == case.keys['vault'], 'another key')
        demand(case.keyd.alive(), 'it ended')
    with Case(w, f'nowhere.invalid:{port}', auth=w.approle()) as case:
        answer = case.keyd.mint(Volume('vault', case.tenant))
        demand(answer.code in ('UNAVAILABLE', 'DEADLINE_EXCEEDED') and case.keyd.alive(), f'{answer}')
    with Case(w, f'nowhere.invalid:{port}', w.server, auth=w.approle()) as case:
        case.make_volumes()


class Tunnel:
    """An HTTP proxy as an administrator would configure it: CONNECT, and bytes to and fro."""

    def __init__(self):
        self.listener, self.asked = socket.create_server(('127.0.0.1', 0)), []
        self.url = f'http://127.0.0.1:{self.listener.getsockname()[1]}'
        threading.Thread(target=self.serve, daemon=True).start()

    def close(self):
        self.listener.close()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.tunnel, args=[self.listener.accept()[0]], daemon=True).start()

    def tunnel(self, client):
        with contextlib.suppress(OSError), client:
            head = b''
            while not head.endswith(b'\r\n\r\n'):
                head += client.recv(1)
            self.asked.append(head.split(b'\r\n')[0].decode())
            host, port = head.split()[1].decode().rsplit(':', 1)
            with socket.create_connection((host, int(port))) as server:
                client.sendall(b'HTTP/1.1 200 OK\r\n\r\n')
                threading.Thread(target=self.copy, args=(server, client), daemon=True).start()
                self.copy(client, server)

    @staticmethod
    def copy(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def by_proxy(w):
    """The one of the configuration; TLS is Vault's own through it."""
    with contextlib.closing(Tunnel()) as tunnel, Case(w, auth=w.approle(), proxy=tunnel.url) as case:
        case.make_volumes()
        demand(tunnel.asked and set(tunnel.asked) == {f'CONNECT {w.server} HTTP/1.1'}, f'{tunnel.asked}')


def headers(w):
    """X-Vault-Request always, X-Vault-Namespace when one is configured, the token everywhere but at the login."""
    seen = []

    def look(x):
        seen.append((x.path, dict(x.headers)))
        x.answer(*x.ask_vault())
    w.front.rule(look)
    try:
        with Case(w, w.proxied, auth=w.approle(), namespace='team/coffer') as case:
            case.make_volumes()
            demand(case.keyd.stop() == 0, 'its exit status')
    finally:
        w.front.clear()
    for path, sent in seen:
        demand(sent.get('X-Vault-Request') == 'true' and sent.get('X-Vault-Namespace') == 'team/coffer', f'{path}: {sorted(sent)}')
        demand(('X-Vault-Token' in sent) == (not path.endswith('/login')), f'{path}: {sorted(sent)}')


def killed(w):
    """At any moment: who asks sees the connection end, and it works after the restart."""
    chance, seen = random.Random(5), {'OK': 0, 'gone': 0}
    with Case(w, w.proxied, auth=w.approle()) as case:
        case.make_volumes()
        for _ in range(max(40 // SAMPLE, 10)):
            timer = threading.Timer(chance.uniform(0, 0.03), case.keyd.process.send_signal, [signal.SIGKILL])
            timer.start()
            try:
                for _ in range(100):
                    answer = case.ask('vault', 'UNWRAP')
                    demand(answer.code == 'OK' and answer.key == case.keys['vault'], f'{answer}')
                    seen['OK'] += 1
            except Gone:
                seen['gone'] += 1
            timer.join()
            case.keyd.process.wait()
            case.keyd.start()
            demand(case.ask('vault', 'UNWRAP').key == case.keys['vault'], 'not opened after the restart')
    print(f'# killed while it was asked: {seen}', flush=True)


def deadlines_apart(w):
    """A short deadline doesn't wait for a long one's login or self-test, and doesn't end them."""
    with Case(w, auth=w.approle(), name='other') as other, Case(w, w.proxied, auth=w.approle()) as case:
        case.make_volumes(other.keyd)
        for path in ('auth/*/login', 'sys/capabilities-self'):
            w.front.rule(fp.late(6), path=path, times=1)
            answers = {}

            def ask(deadline, into=answers):
                into[deadline] = case.ask('vault', 'UNWRAP', deadline)
            threads = [threading.Thread(target=ask, args=[d]) for d in (2000, 60000)]
            for t in threads:
                t.start()
                time.sleep(0.3)  # the short one is first, and starts login or self-test
            for t in threads:
                t.join(120)
            w.front.clear()
            short, long = answers[2000], answers[60000]
            demand(short.code == 'DEADLINE_EXCEEDED' and short.seconds < 5, f'{path} late, the short one: {short}')
            demand(long.code == 'OK', f'{path} late, the long one: {long}')
            case.keyd.process.kill()
            case.keyd.process.wait()
            case.keyd.start()


TESTS = [
    ('a warm token: 1 request for each unwrap and each mint, 0 for STATUS', warm_counts),
    ('first contact: one login, one self-test, one wrong context', cold_counts),
    (f'{ROUNDS} unwraps: as many requests, 1 live token; none after the end', live_tokens),
    ('100 unwraps at once: at most 8 TLS connections', lambda w: connections(w, 100)),
    ('256 unwraps at once: at most 8 TLS connections', lambda w: connections(w, 256)),
    ('deadlines of questions that wait for the same login or self-test are their own', deadlines_apart),
    ('the token is renewed at 2/3 of its time', renewal),
    ('a batch token is replaced before its end', lambda w: not_renewable(w, token_ttl='9s', token_type='batch')),
    ('a token at its longest life is replaced', lambda w: not_renewable(w, token_ttl='6s', token_max_ttl='8s')),
    ('approle', lambda w: works(w, w.approle())),
    ('approle, wrapped secret id', approle_wrapped),
    ('approle, a secret id wrapped by another path or role: refused, and loud', wrapped_elsewhere),
    ('approle, a wrapping token that was used: refused; a new one in the file works', wrapped_used_up),
    ('jwt', jwt),
    ('jwt: a projected token that changes', projected_token),
    ('cert', cert),
    ('kubernetes', kubernetes),
    ('token-file: the token is not ours to revoke', token_file),
    ('no capability, seccomp, one thread', sandboxed),
    ('a server by name, resolved inside the sandbox', names),
    ('a proxy of the configuration', by_proxy),
    ('headers', headers),
    ('killed at any time', killed),
    (f'idle: at most {IDLE_KIB} KiB of anonymous memory', memory),
]


def story(vault, folder, tap):
    with opened(vault, folder) as w:
        print(f'# Vault {w.root.version()}', flush=True)
        for name, test in TESTS:
            if not sys.argv[1:] or any(text in name for text in sys.argv[1:]):
                tap.run(name, test, w)
        found, n = w.leaks()
        tap.check(not found and n > 20, f'no key, token or credential in a log or a reply ({n} forms looked for)', '\n'.join(found))


vaultserver.main('vault-economy', "its audit log can't be read", story, here=True)
