#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vault-faults: what coffer-keyd answers when Vault is sealed, gone, ill, slow, hostile, or refuses. A table of faults of the
real server, and of what only a scripted proxy in front of it can do; for each, both key services and both operations: the exact
code, inside the request's deadline, no key through the pipe, and all works again without a restart when the fault is over."""
# story: where=here needs=vault
import contextlib
import dataclasses
import os
import socket
import sys
import time
import typing

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import faultproxy as fp  # noqa: E402
import serverfaults as server  # noqa: E402
import vaultserver  # noqa: E402
from keydfaults import KMS, Case, opened, until_ok  # noqa: E402

CELLS = tuple((kms, op) for kms in KMS for op in ('MINT', 'UNWRAP'))
OK, UNAVAILABLE, DENIED, PRECONDITION, DEADLINE = 'OK', 'UNAVAILABLE', 'PERMISSION_DENIED', 'FAILED_PRECONDITION', 'DEADLINE_EXCEEDED'
TRANSIT_ONLY, KV_ONLY, UNWRAPS = (('vault', 'UNWRAP'),), (('kv', 'UNWRAP'),), (('vault', 'UNWRAP'), ('kv', 'UNWRAP'))
TRANSIT_BOTH = (('vault', 'MINT'), ('vault', 'UNWRAP'))
TRIES = 3  # of a question whose right answer came late: the machine may have been busy


@dataclasses.dataclass
class Row:
    name: str
    want: object              # the code, or {cell: code}
    fault: typing.Callable    # (case) -> a context manager: the fault lasts as long as it is entered
    via: str = 'direct'       # or 'proxy'
    cold: bool = False        # coffer-keyd has no token yet and no connection
    cells: tuple = CELLS
    deadline: int = 20000     # ms
    auth: typing.Callable = lambda w: w.approle()
    hosts: typing.Callable = None
    more: dict = dataclasses.field(default_factory=dict)
    env: typing.Callable = lambda w: {}
    after: typing.Callable = None  # a check of its own, while the fault lasts: what is wrong, or ''
    heals: bool = True        # False: the same question can never be answered again; a new volume must

    def wanted(self, cell):
        return self.want if isinstance(self.want, str) else self.want[cell]


# ---- faults by the proxy

def scripted(action, path='*', times=None):
    @contextlib.contextmanager
    def fault(case):
        case.w.front.rule(action, path, times=times)
        yield
        case.w.front.clear()
    return fault


@contextlib.contextmanager
def redirect_to_stranger(case):
    """Who listens there must never be asked: the token would go along."""
    with fp.FaultProxy(case.w.vault) as stranger:
        case.w.front.rule(fp.redirect(stranger.address))
        yield
        case.stranger = stranger.connections
        case.w.front.clear()


@contextlib.contextmanager
def cut_once(case):
    """What every request meets first."""
    for path in ('*/datakey/*', '*/decrypt/*', '*/data/*'):
        case.w.front.rule(fp.cut(), path, times=1)
    yield
    case.w.front.clear()


def dead_port():
    """An address that refuses connections."""
    with socket.create_server(('127.0.0.1', 0)) as s:
        return f'127.0.0.1:{s.getsockname()[1]}'


def black_hole(w):
    """An address that answers nothing at all, not even a refusal: a listener whose queue is full."""
    s = socket.socket()
    s.bind(('127.0.0.1', 0))
    s.listen(0)
    w.kept = [s]
    for _ in range(4):
        c = socket.socket()
        c.setblocking(False)
        c.connect_ex(s.getsockname())
        w.kept.append(c)
    return f'127.0.0.1:{s.getsockname()[1]}'


def one_login(case):
    """However many questions needed it: the key services have one identity."""
    n = case.w.logins(case.mark)
    return '' if n == 1 else f'{n} logins'


def raw(data):
    """These bytes instead of HTTP."""
    def act(x):
        x.wfile.write(data)
        x.hang_up()
    return act


def chunked(size=2 << 20):
    """A JSON text of that length, which isn't said before."""
    def act(x):
        body = b'{"data":{"plaintext":"' + b'A' * size + b'"}}'
        x.wfile.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
        x.wfile.write(f'{len(body):x}\r\n'.encode() + body + b'\r\n0\r\n\r\n')
    return act


SCRIPTED = [(400, PRECONDITION), (403, DENIED), (404, PRECONDITION), (405, PRECONDITION), (412, UNAVAILABLE), (418, UNAVAILABLE),
            (429, UNAVAILABLE), (472, UNAVAILABLE), (473, UNAVAILABLE), (474, UNAVAILABLE), (500, UNAVAILABLE), (501, UNAVAILABLE),
            (502, UNAVAILABLE), (503, UNAVAILABLE), (530, UNAVAILABLE)]
TOKEN_FILE = {'auth': lambda w: w.token_file()}


def server_rows():
    return [
        Row('sealed', UNAVAILABLE, server.sealed),
        Row('sealed when coffer-keyd starts', UNAVAILABLE, server.sealed, cold=True),
        Row('stopped', UNAVAILABLE, server.stopped),
        Row('stopped when coffer-keyd starts', UNAVAILABLE, server.stopped, cold=True),
        Row('not initialised', UNAVAILABLE, server.not_initialised, via='proxy'),
        Row('CA changed', UNAVAILABLE, server.certificate('other')),
        Row('wrong host name in the certificate', UNAVAILABLE, server.certificate(names=['DNS:vault.example.org'])),
        Row('certificate expired', UNAVAILABLE, server.certificate(days=0)),
        Row('token revoked', OK, server.revoked, after=one_login),
        Row('token used up (num_uses)', OK, server.used_up, auth=lambda w: w.approle(token_num_uses=60), after=one_login),
        Row('given token revoked', DENIED, server.given_token_revoked, **TOKEN_FILE),
        Row('given token used up', DENIED, server.given_token_used_up, auth=lambda w: w.token_file(num_uses=60)),
        Row('given token expired', DENIED, server.given_token_expired, auth=lambda w: w.token_file(ttl='6s', explicit_max_ttl='6s')),
        Row('token revoked, secret id destroyed', DENIED, server.secret_id_gone),
        Row('policy withdrawn', DENIED, server.policy_withdrawn),
        Row('policy withdrawn when coffer-keyd starts', DENIED, server.policy_withdrawn, cold=True),
        Row('key version too old', PRECONDITION, server.version_too_old, cells=TRANSIT_ONLY),
        Row('key deleted', PRECONDITION, server.key_deleted, cells=TRANSIT_ONLY, heals=False),
        Row('secret deleted', PRECONDITION, server.secret_hidden, cells=KV_ONLY),
        Row('secret destroyed', PRECONDITION, server.secret_destroyed, cells=KV_ONLY, heals=False),
        Row('secret of another volume', PRECONDITION, server.another_secret, cells=KV_ONLY),
        Row('wrapped key of another volume', PRECONDITION, server.another_volume, cells=UNWRAPS),
        # the controller's policy lets nobody mint without a context, so nothing shows there that the key would take any
        Row('tenant key not derived', {('vault', 'MINT'): OK, ('vault', 'UNWRAP'): PRECONDITION}, server.loose_key, cells=TRANSIT_BOTH,
            heals=False),
        Row('tenant key not derived, token revoked', PRECONDITION, server.revoked_and_loose_key, cells=TRANSIT_ONLY, heals=False),
        Row('wrapped key changed', PRECONDITION, server.changed_ciphertext, cells=UNWRAPS),
    ]


def proxy_rows():
    def row(name, want, action, path='*', times=None, **more):
        return Row(name, want, scripted(action, path, times), via='proxy', **more)
    return [
        *(row(f'status {code}', want, fp.status(code)) for code, want in SCRIPTED),
        row('429, Retry-After: 60', UNAVAILABLE, fp.status(429, headers=[('Retry-After', '60')])),
        row('429, Retry-After: 1, once', OK, fp.status(429, headers=[('Retry-After', '1')]), '*/de*', times=1, cells=TRANSIT_ONLY),
        row('502 once', OK, fp.status(502), times=1),
        row('login answers 400', DENIED, fp.status(400), 'auth/*', cold=True),
        row('login answers 403', DENIED, fp.status(403), 'auth/*', cold=True),
        row('login answers 500', UNAVAILABLE, fp.status(500), 'auth/*', cold=True),
        row('login answers late', DEADLINE, fp.late(30), 'auth/*', cold=True, deadline=4000),
        row('answer after the deadline', DEADLINE, fp.late(30), deadline=4000),
        row('answer byte by byte without end', DEADLINE, fp.drip(1), deadline=4000),
        row('cut in mid-reply', UNAVAILABLE, fp.cut()),
        row('cut in mid-reply by a reset', UNAVAILABLE, fp.cut(reset=True)),
        row('cut in the headers', UNAVAILABLE, raw(b'HTTP/1.1 200 OK\r\nContent-Len')),
        row('closed without an answer', UNAVAILABLE, fp.cut(0)),
        Row('cut in mid-reply once', OK, cut_once, via='proxy'),
        row('no HTTP', UNAVAILABLE, raw(b'SSH-2.0-OpenSSH_9.2\r\n')),
        row('huge body', UNAVAILABLE, fp.huge()),
        row('huge body, chunked', UNAVAILABLE, chunked()),
        row('malformed JSON', UNAVAILABLE, fp.malformed()),
        row('duplicate key in the JSON', UNAVAILABLE, fp.duplicated()),
        row('text after the JSON', UNAVAILABLE, fp.edited(lambda body: body + b'{}')),
        row('JSON nested deeply', UNAVAILABLE, fp.status(200, body=b'[' * 5000 + b']' * 5000)),
        row('200 with another answer', UNAVAILABLE, fp.status(200, body=b'{"data":{"keys":[]}}'), '*/de*', cells=TRANSIT_ONLY),
        row('200 without a body', UNAVAILABLE, fp.status(200, body=b''), '*d*/*', cells=UNWRAPS),
        row('key of another size', PRECONDITION, fp.status(200, body=b'{"data":{"plaintext":"AAAAAAAAAAAAAAAAAAAAAA=="}}'),
            '*/decrypt/*', cells=TRANSIT_ONLY),
        row('redirect to itself', UNAVAILABLE, lambda x: fp.redirect(x.front.address)(x)),
        Row('redirect to a known address', OK, scripted(lambda x: fp.redirect(x.front.vault.address)(x)), via='proxy',
            hosts=lambda w: (w.proxied, w.server)),
        Row('redirect to an unknown address', UNAVAILABLE, redirect_to_stranger, via='proxy'),
        Row('two addresses, the first refuses', OK, server.nothing, cold=True, hosts=lambda w: (dead_port(), w.server)),
        Row('two addresses, the first is silent', OK, server.nothing, cold=True, hosts=lambda w: (black_hole(w), w.server)),
        Row('two addresses, the first is silent for a short time', {c: DEADLINE if c == CELLS[0] else OK for c in CELLS}, server.nothing,
            cold=True, deadline=4000, hosts=lambda w: (black_hole(w), w.server)),
        Row('two addresses, the first is sealed', OK, scripted(fp.status(503)), cold=True, hosts=lambda w: (w.proxied, w.server)),
        Row('a proxy in the environment', OK, server.nothing, cold=True,
            env=lambda w: {n: f'http://{dead_port()}' for n in ('https_proxy', 'HTTPS_PROXY', 'ALL_PROXY')}),
    ]


# ---- a row

class Played:
    """One row's results: for each cell the code and what is wrong."""

    def __init__(self, row):
        self.row, self.codes, self.problems, self.slowest, self.recovery = row, {}, [], 0, 0

    def problem(self, cell, text):
        self.problems.append(f'{" ".join(cell) if cell else "row"}: {text}')

    def ask(self, case, cell):
        for _ in range(TRIES):
            answer = case.ask(*cell, deadline=self.row.deadline)
            if answer.code != self.row.wanted(cell) or answer.seconds * 1000 <= self.row.deadline:
                break
        self.codes[cell] = answer.code
        self.slowest = max(self.slowest, answer.seconds)
        if answer.code != self.row.wanted(cell):
            self.problem(cell, f'{answer}; wanted {self.row.wanted(cell)}')
        if answer.seconds * 1000 > self.row.deadline:
            self.problem(cell, f'{answer}: after its deadline of {self.row.deadline} ms')
        if wrong := case.wrong(*cell, answer):
            self.problem(cell, wrong)

    def recover(self, case):
        start = time.monotonic()
        if not self.row.heals:
            case.make_volumes()
        for cell in CELLS:
            answer = until_ok(lambda c=cell: case.ask(*c))
            if wrong := case.wrong(*cell, answer):
                self.problem(cell, f'afterwards: {wrong}')
        self.recovery = time.monotonic() - start
        if not case.keyd.alive():
            self.problem(None, 'coffer-keyd ended')

    def line(self):
        codes = [self.codes.get(cell, '-') for cell in CELLS]
        return f'# {self.row.name:<48} ' + ' '.join(f'{code:<19}' for code in codes) + f' {self.slowest:6.2f} {self.recovery:6.2f}'


def play(w, row, helper):
    """helper: a coffer-keyd that makes the volumes of one that must not have asked yet."""
    played = Played(row)
    hosts = row.hosts(w) if row.hosts else (w.proxied if row.via == 'proxy' else w.server,)
    with Case(w, *hosts, auth=row.auth(w), env=row.env(w), **row.more) as case:
        try:
            case.make_volumes(helper.keyd if row.cold else None)
            case.mark = w.vault.audit.mark() if w.vault.ours else 0
            with row.fault(case):
                for cell in row.cells:
                    played.ask(case, cell)
                if row.after and (wrong := row.after(case)):
                    played.problem(None, wrong)
            if getattr(case, 'stranger', 0):
                played.problem(None, 'the stranger was asked')
            played.recover(case)
        except (RuntimeError, OSError) as e:
            played.problem(None, f'{type(e).__name__}: {e}')
        finally:
            w.front.clear()
        if played.problems:
            played.problems.append(case.keyd.log()[-3000:])
    return played


def story(vault, folder, tap):
    with opened(vault, folder) as w, Case(w, auth=w.approle(), name='helper') as helper:
        print(f'# Vault {w.root.version()}', flush=True)
        rows = [row for row in server_rows() + proxy_rows() if not sys.argv[1:] or any(text in row.name for text in sys.argv[1:])]
        lines = []
        for row in rows:
            played = play(w, row, helper)
            lines.append(played.line())
            wanted = row.want if isinstance(row.want, str) else 'as in the table'
            tap.check(not played.problems, f'{row.name}: {wanted}', '\n'.join(played.problems))
        head = ['transit MINT', 'transit UNWRAP', 'KV MINT', 'KV UNWRAP']
        print(f'#\n# {"fault":<48} ' + ' '.join(f'{h:<19}' for h in head) + '   most  again\n' + '\n'.join(lines) +
              '\n# most: the longest wait for an answer; again: until all four work after the fault, in seconds\n#', flush=True)
        found, n = w.leaks()
        tap.check(not w.front.broken, 'the proxy did what the rows say', '\n'.join(w.front.broken))
        tap.check(not found and n > 20, f'no key, token or credential in a log or a reply ({n} forms looked for)', '\n'.join(found))


vaultserver.main('vault-faults', "it can't be sealed and stopped", story, here=True)
