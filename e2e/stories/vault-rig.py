#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vault-rig: what the stories about Vault stand on. The real server stopped, sealed and with other certificates; every login
method; requests counted in its audit log; a proxy that misbehaves as told, and a scripted TokenReview endpoint."""
# story: where=here needs=vault
import http.client
import json
import os
import ssl
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import faultproxy  # noqa: E402
import vaultserver  # noqa: E402
from fakekube import TokenReviewer  # noqa: E402
from faultproxy import FaultProxy  # noqa: E402
from tap import Tap, demand  # noqa: E402
from testpki import Authority  # noqa: E402
from vaultapi import Api, VaultError  # noqa: E402
from vaultsetup import TENANT_KEY, Layout  # noqa: E402

KEY = f'{TENANT_KEY}team-a'


def fails(with_what, function, *args):
    """What it raised; it must raise."""
    try:
        function(*args)
    except with_what as e:
        return e
    raise RuntimeError('it did not fail')


def stranger(vault):
    """A client as the product is one: it trusts the authority and looks at the name."""
    return Api(vault.address, vault.ca, vault.root.token)


# ---- the server

def stops_and_starts(vault, layout):
    port = vault.address
    for end in (vault.stop, vault.kill):
        end()
        fails(ConnectionRefusedError, stranger(vault).health)
        vault.start(ready=False)
        demand(vault.address == port, f'{vault.address}, not {port}')
        answer = vault.root.request('GET', f'{layout.transit}/keys/{KEY}')
        demand(answer.status == 503 and 'sealed' in answer.errors, f'after a start it is sealed: {answer}')
        vault.make_ready()
        vault.root.call('GET', f'{layout.transit}/keys/{KEY}')


def seals(vault, _):
    vault.seal()
    demand(stranger(vault).health() == 503, 'sealed is 503')
    vault.unseal()
    demand(stranger(vault).health() == 200, 'active is 200')


def not_initialised(vault, _):
    with vaultserver.Server(f'{vault.folder}/second', vault.program) as second:
        second.start(ready=False)
        demand(second.root.health() == 501, 'not initialised is 501')
        answer = second.root.request('GET', 'sys/mounts', token='x')
        demand(answer.status == 503, f'and a request is 503: {answer}')


def certificates(vault, _):
    foreign = Authority(f'{vault.folder}/foreign', 'foreign')
    for how, word in (({'names': ['DNS:other.example']}, 'IP address mismatch'), ({'days': 0}, 'expired'),
                      ({'authority': foreign}, 'unable to get local issuer')):
        vault.new_certificate(**how)
        said = str(fails(ssl.SSLCertVerificationError, stranger(vault).health))
        demand(word in said, said)
        demand(vault.root.health() == 200, 'our own calls go on')
    trusting = Api(vault.address, foreign.certificate, vault.root.token)
    demand(trusting.health() == 200, 'who trusts the new authority is content')
    vault.new_certificate()
    demand(stranger(vault).health() == 200, 'with a good one all is well')


def counts_requests(vault, layout):
    node, controller = layout.token('node'), layout.token('controller')
    before = vault.audit.mark()
    for _ in range(3):
        controller.call('POST', f'{layout.transit}/datakey/wrapped/{KEY}', {'context': 'YQ=='})
    node.request('POST', f'{layout.transit}/datakey/wrapped/{KEY}', {'context': 'YQ=='})
    between = vault.audit.mark()
    node.call('GET', 'auth/token/lookup-self')
    policy = layout.policy_name
    seen = (vault.audit.count(before, path='*/datakey/wrapped/*', policy=policy('controller')),
            vault.audit.count(before, path='*/datakey/wrapped/*', policy=policy('node')),
            vault.audit.count(before, accessor=node.auth['accessor']), vault.audit.count(before, between),
            len([e for e in vault.audit.entries(before) if e.error]))
    demand(seen == (3, 1, 2, 4, 1), f'{seen}: {vault.audit.table(before)}')


def not_ours(vault, _):
    os.environ['VAULT_ADDR'], os.environ['VAULT_TOKEN'] = vault.address, vault.root.token
    os.environ['VAULT_CACERT'] = vault.ca
    try:
        with vaultserver.open_vault(f'{vault.folder}/foreign-server') as named:
            fails(vaultserver.NotOurs, lambda: named.stop())  # pylint: disable=unnecessary-lambda
            layout = Layout(named)
            layout.mount_engines()
            layout.write_policies()
            layout.token('node').call('GET', 'auth/token/lookup-self')
            layout.remove()
            left = [name for what in ('sys/mounts', 'sys/auth', 'sys/policies/acl?list=true')
                    for name in json.dumps(named.root.call('GET', what).body).split('"') if name.startswith(layout.prefix)]
            demand(not left, f'left behind: {left}')
    finally:
        for name in ('VAULT_ADDR', 'VAULT_TOKEN', 'VAULT_CACERT'):
            del os.environ[name]


# ---- identities

def live(layout, role):
    return len(layout.live_tokens('node')), len(layout.live_leases(f'auth/{role.mount}/login'))


def logs_in(layout, role):
    """The token has the role's policy alone, works, shows as one live token with a lease, and is gone when revoked."""
    tokens, leases = live(layout, role)
    api = role.login()
    demand(api.auth['token_policies'] == [layout.policy_name('node')], api.auth['token_policies'])
    api.call('GET', 'auth/token/lookup-self')
    demand(live(layout, role) == (tokens + 1, leases + 1), f'{live(layout, role)} after {tokens}, {leases} and a login')
    api.call('POST', 'auth/token/revoke-self')
    demand(live(layout, role) == (tokens, leases), 'both are gone after revoke-self')


def approle(_, layout):
    logs_in(layout, layout.approle('node'))
    once = layout.approle('node', secret={'num_uses': 1})
    once.login()
    answer = fails(VaultError, once.login).answer
    demand(answer.status in (400, 500), f'a used-up secret id: {answer}')


def wrapped_secret_id(_, layout):
    """The consumer compares creation_path before it unwraps; both need no other token."""
    role = layout.approle('node', wrap_seconds=300)
    wrapping = role.body['secret_id']
    path = layout.root.as_().call('POST', 'sys/wrapping/lookup', {'token': wrapping}).data['creation_path']
    demand(path == f'auth/{role.mount}/role/node/secret-id', path)
    role.body['secret_id'] = layout.root.as_(wrapping).call('POST', 'sys/wrapping/unwrap').data['secret_id']
    logs_in(layout, role)
    answer = layout.root.as_(wrapping).request('POST', 'sys/wrapping/unwrap')
    demand(answer.status == 400, f'it unwraps once: {answer}')


def cert(vault, layout):
    role = layout.cert('node')
    logs_in(layout, role)
    role.client = None
    demand(fails(VaultError, role.login).answer.status == 400, 'not without a certificate')
    role.client = Authority(f'{vault.folder}/strangers', 'strangers').issue('client-node', usage='clientAuth', names=())
    demand(fails(VaultError, role.login).answer.status in (400, 403), 'nor with a stranger\'s')


def jwt(_, layout):
    logs_in(layout, layout.jwt('node'))
    for what, claims in (('audience', {'aud': ['other']}), ('expired', {'exp': 1, 'nbf': 1, 'iat': 1})):
        answer = fails(VaultError, layout.jwt('node', claims=claims).login).answer
        demand(answer.status == 400, f'{what}: {answer}')


def kubernetes(vault, layout):
    reviewer = TokenReviewer(vault.folder, vault.authority)
    try:
        role = layout.kubernetes(reviewer, 'node', tenant='team-a')
        logs_in(layout, role)
        api = role.login()
        demand(api.auth['metadata']['service_account_namespace'] == 'team-a', api.auth['metadata'])
        demand(reviewer.reviews == 2, f'{reviewer.reviews} reviews for two logins')
        for what, how in (('revoked', lambda: reviewer.revoke(role.body['jwt'])), ('down', lambda: setattr(reviewer, 'status', 500))):
            how()
            answer = fails(VaultError, role.login).answer
            demand(answer.status in (403, 500), f'{what}: {answer}')
            print(f'# kubernetes login, {what}: {answer}', flush=True)
        api.call('GET', 'auth/token/lookup-self')  # a token that was given stays
        reviewer.status = 201
        layout.write_policies(layout.accessor('kubernetes'))
        tenant = layout.kubernetes(reviewer, 'node-tenant', tenant='team-a').login()
        for name, wanted in ((KEY, 400), (f'{TENANT_KEY}team-b', 403)):
            answer = tenant.request('POST', f'{layout.transit}/decrypt/{name}', {'context': 'YQ==', 'ciphertext': 'vault:v1:x'})
            demand(answer.status == wanted, f'decrypt with {name} by team-a: {answer}')
    finally:
        reviewer.close()


def limits_of_tokens(_, layout):
    used_up = layout.token('node', num_uses=1)
    used_up.call('GET', 'auth/token/lookup-self')
    demand(used_up.request('GET', 'auth/token/lookup-self').status == 403, 'used up')
    short = layout.token('node', ttl='1s', explicit_max_ttl='1s')
    end = time.monotonic() + 60
    while short.request('GET', 'auth/token/lookup-self').status != 403:
        demand(time.monotonic() < end, 'it doesn\'t expire')
        time.sleep(0.1)


# ---- the proxy

def passes_on(vault, _, front):
    api = Api(front.address, vault.ca, vault.root.token)
    direct, through = vault.root.request('GET', 'sys/mounts'), api.request('GET', 'sys/mounts')
    demand(direct.data == through.data and through.status == 200, f'{through}')
    demand(api.request('GET', 'no/such').status == vault.root.request('GET', 'no/such').status, 'errors too')
    demand(api.request('POST', 'sys/capabilities-self', {'paths': ['a']}).data['a'] == ['root'], 'bodies too')
    demand((front.connections, front.open_now, front.requests) == (1, 1, 3), f'{front.connections} {front.open_now} {front.requests}')
    others = [Api(front.address, vault.ca) for _ in range(5)]
    for other in others:
        other.health()
    demand(front.open_now == 6 and front.open_most == 6, f'{front.open_now} {front.open_most}')
    for other in others:
        other.close()
    end = time.monotonic() + 60
    while front.open_now != 1 and time.monotonic() < end:
        time.sleep(0.02)
    demand((front.open_now, front.open_most, front.connections) == (1, 6, 6), f'{front.open_now} {front.open_most} {front.connections}')


STATUSES = (400, 403, 404, 412, 429, 472, 473, 500, 501, 502, 503)


def says_any_status(vault, _, front):
    api = Api(front.address, vault.ca, vault.root.token)
    for number in STATUSES:
        rule = front.rule(faultproxy.status(number, 'as told', headers=[('Retry-After', '7')]), path='sys/mo*', times=1)
        answer = api.request('GET', 'sys/mounts')
        demand((answer.status, answer.errors, answer.headers['retry-after']) == (number, 'as told', '7'), f'{number}: {answer}')
        demand(api.request('GET', 'sys/mounts').status == 200 and rule.hits == 1, 'once')
    front.rule(faultproxy.redirect('https://127.0.0.1:1'), path='sys/mounts')
    answer = api.request('GET', 'sys/mounts?x=1')
    demand((answer.status, answer.headers['location']) == (307, 'https://127.0.0.1:1/v1/sys/mounts?x=1'), f'{answer.headers}')
    demand(api.health() == 200, 'other paths are left alone')


def read_raw(api):
    """(body, what came instead) of GET sys/mounts, as far as it came."""
    try:
        return api.request('GET', 'sys/mounts').raw, None
    except (OSError, http.client.HTTPException) as e:
        return getattr(e, 'partial', b''), e


def breaks_answers(vault, _, front):
    whole = vault.root.request('GET', 'sys/policies/acl?list=true').raw
    fresh = lambda: Api(front.address, vault.ca, vault.root.token)  # noqa: E731  pylint: disable=unnecessary-lambda-assignment
    cases = (
        ('cut in the middle', faultproxy.cut(), lambda raw, error: isinstance(error, http.client.IncompleteRead) and 0 < len(raw)),
        ('cut before the first byte', faultproxy.cut(0), lambda raw, error: error is not None and raw == b''),
        ('reset', faultproxy.cut(0.5, reset=True), lambda raw, error: error is not None),
        ('malformed', faultproxy.malformed(), lambda raw, error: error is None and not is_json(raw)),
        ('duplicate keys', faultproxy.duplicated(), lambda raw, error: raw.count(b'"data":{') == 2 and raw.count(b'"plaintext"') == 2),
        ('length too large', faultproxy.wrong_length(10), lambda raw, error: isinstance(error, http.client.IncompleteRead)),
        ('length too small', faultproxy.wrong_length(-10), lambda raw, error: error is None and not is_json(raw)),
        ('huge', faultproxy.huge(3 << 20), lambda raw, error: len(raw) == 3 << 20 and is_json(raw)),
        ('huge without a length', faultproxy.huge(3 << 20, announced=False), lambda raw, error: len(raw) == 3 << 20),
        ('drip', faultproxy.drip(0.001, 200), lambda raw, error: error is None and is_json(raw)),
    )
    for name, action, right in cases:
        front.rule(action, path='sys/mounts')
        raw, error = read_raw(fresh())
        demand(right(raw, error), f'{name}: {len(raw)} bytes, {error!r}')
        front.clear()
    demand(len(whole) > 0 and read_raw(fresh())[1] is None, 'and then all is well')


def is_json(raw):
    try:
        json.loads(raw)
    except ValueError:
        return False
    return True


def is_late(vault, _, front):
    api = Api(front.address, vault.ca, vault.root.token)
    front.rule(faultproxy.late(1), path='sys/mounts', times=1)
    start = time.monotonic()
    demand(api.request('GET', 'sys/mounts').status == 200, 'late but right')
    demand(time.monotonic() - start >= 1, 'not before its time')


def breaks_connections(vault, _, front):
    front.at_next_connection('reset')
    fails(OSError, Api(front.address, vault.ca).health)
    front.at_next_connection('stall')
    context = ssl.create_default_context(cafile=vault.ca)
    stalled = http.client.HTTPSConnection('127.0.0.1', int(front.address.rpartition(':')[2]), timeout=1, context=context)
    fails(TimeoutError, stalled.connect)
    api = Api(front.address, vault.ca)
    demand(api.health() == 200, 'only that one')
    front.drop()
    end = time.monotonic() + 60
    while front.open_now and time.monotonic() < end:
        time.sleep(0.02)
    demand(front.open_now == 0 and api.health() == 200, 'kept connections can be ended')


def without_vault(vault, _, front):
    api = Api(front.address, vault.ca)
    demand(api.health() == 200, 'up')
    vault.stop()
    try:
        demand(api.health() == 502, 'a load balancer without its server')
    finally:
        vault.start()
    demand(api.health() == 200, 'up again')


def wrong_certificate(vault, _, __):
    with FaultProxy(vault, vault.authority.issue('expired', days=0)) as front:
        fails(ssl.SSLCertVerificationError, Api(front.address, vault.ca).health)
        demand(front.requests == 0, 'and it saw no request')


TESTS = (
    ('the server stops, is killed, and starts again on its storage and port, sealed', stops_and_starts),
    ('it is sealed and unsealed', seals),
    ('one that is not initialised says so', not_initialised),
    ('it shows another certificate: other name, expired, other authority', certificates),
    ('its audit log counts requests by path, identity and time', counts_requests),
    ('a server named by VAULT_ADDR is used the same way and left as it was', not_ours),
    ('approle', approle),
    ('approle with a response-wrapped secret id', wrapped_secret_id),
    ('cert', cert),
    ('jwt', jwt),
    ('kubernetes, asking a scripted TokenReview endpoint over TLS', kubernetes),
    ('tokens expire and are used up', limits_of_tokens),
)
PROXY_TESTS = (
    ('the proxy passes on what no rule is for, and counts connections and requests', passes_on),
    ('it answers any status, or redirects', says_any_status),
    ('it breaks answers: cut, reset, malformed, duplicate keys, wrong length, huge, dripping', breaks_answers),
    ('it is late', is_late),
    ('it breaks connections: reset, stalled, dropped', breaks_connections),
    ('it says 502 while Vault is down', without_vault),
    ('it shows whatever certificate', wrong_certificate),
)


def story(vault, tap, seconds):
    layout = Layout(vault)
    print(f'# Vault {vault.root.version()}: ready after {seconds:.1f} s, {vault.memory() >> 20} MiB', flush=True)
    layout.mount_engines()
    layout.write_policies()
    vault.root.call('POST', f'{layout.transit}/keys/{KEY}', {'type': 'aes256-gcm96', 'derived': True})
    for name, test in TESTS:
        tap.run(name, test, vault, layout)
    for name, test in PROXY_TESTS:
        with FaultProxy(vault) as front:
            tap.run(name, test, vault, layout, front)
    print(f'# at the end {vault.memory() >> 20} MiB', flush=True)
    tap.check('panic' not in vault.log_text(), 'the server never panicked', vault.log_text())


def main():
    tap = Tap()
    reason = vaultserver.why_not() or ('VAULT_ADDR names a server, and this is about our own' if 'VAULT_ADDR' in os.environ else '')
    if reason:
        tap.skip('vault-rig', reason)
    else:
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix='coffer-') as scratch, vaultserver.open_vault(scratch) as vault:
            story(vault, tap, time.monotonic() - start)
    tap.done()


main()
