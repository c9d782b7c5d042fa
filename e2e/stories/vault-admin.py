#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vault-admin: an administrator sets Vault up with cofferctl, twice, and real coffer-keyds mint and unwrap with what it made;
then things are broken one at a time, and `vault check` and doctor name each. Roles by approle, certificate and Kubernetes."""
# story: where=here needs=vault
import contextlib
import os
import stat
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, '..', 'lib'), os.path.join(HERE, '..', '..', 'tests', 'component')]
import keydlib  # noqa: E402
import vaultserver  # noqa: E402
from fakekube import TokenReviewer  # noqa: E402
from tap import demand  # noqa: E402
from vaultadmin import POLICIES, World, failures, found  # noqa: E402

UUIDS = ('6ba7b810-9dad-41d1-80b4-00c04fd430c8', '6ba7b811-9dad-41d1-80b4-00c04fd430c8')


# ---- setup ----

def dry_run(w):
    before = w.everything()
    for flags in ((), ('--dry-run',)):
        ended = w.ctl('setup', w.config, *flags)
        demand(ended.code == 0 and '--apply does it' in ended.said, ended.all)
        for line in (f'+ engine {w.transit}/', f'+ policy {w.prefix}node', f'+ role auth/{w.mount("approle")}/role/{w.prefix}node',
                     f'+ server key {w.transit}/keys/coffer-s-1',
                     f'    +path "{w.transit}/decrypt/coffer-t-*" {{'):
            demand(line in ended.out, (line, ended.all))
    demand(w.everything() == before, 'a dry run changed the server')
    code, rows = w.check(w.config)
    demand(code == 1 and found(rows, 'FAIL', 'engine', f'{w.transit} is not there', 'cofferctl vault setup'), rows)


def apply(w):
    ended = w.ctl('setup', w.config, '--apply')
    demand(ended.code == 0 and ' made, ' in ended.said, ended.all)


def apply_again(w):
    before, mark = w.everything(), w.vault.audit.mark() if w.vault.ours else None
    ended = w.ctl('setup', w.config, '--apply')
    demand(ended.code == 0 and ' 0 made, 0 changed, ' in ended.said, ended.all)
    demand('+ ' not in ended.out and '~ ' not in ended.out and w.everything() == before, ended.all)
    if mark is not None:
        writes = [e for e in w.vault.audit.entries(mark) if e.operation not in ('read', 'list')]
        demand(not writes, writes)


def policies_are_the_files(w):
    with open(f'{POLICIES}/node.hcl', encoding='utf-8') as f:
        text = f.read()
    for name, value in (('TRANSIT', w.transit), ('KV', w.kv), ('KV_PREFIX', 'volumes'), ('TENANT_KEY', 'coffer-t-'),
                        ('SERVER_KEY', 'coffer-s-')):
        text = text.replace(f'@{name}@', value)
    have = w.root.call('GET', f'sys/policies/acl/{w.prefix}node').data['policy']
    demand(have == text, have)


def green(w):
    code, rows = w.check(w.config)
    demand(code == 0 and not failures(rows), rows)
    for words in (('server', 'unsealed'), ('clock',), ('engine', w.transit), ('policy', f'{w.prefix}controller'),
                  ('role', f'{w.prefix}host'), ('server key', f'{w.transit}/keys/coffer-s-1'),
                  ('keys', '1 of the server')):
        demand(found(rows, 'OK', *words), (words, rows))
    demand(found(rows, 'OK', 'audit') or not w.vault.ours, rows)


def secret_ids(w):
    """Into a file of its own, once; wrapped when asked."""
    for role, more in (('controller', ()), ('node', ('--wrap-ttl', '600')), ('scheduler', ())):
        path = f'{w.folder}/{role}/secret-id'
        flags = ('--apply', '--role', role, '--secret-id-file', path, *more)
        ended = w.ctl('setup', w.config, *flags)
        demand(ended.code == 0 and f'+ {"wrapped " if more else ""}secret id of {w.prefix}{role}' in ended.out, ended.all)
        demand(stat.S_IMODE(os.stat(path).st_mode) == 0o600, oct(os.stat(path).st_mode))
        with open(path, encoding='ascii') as f:
            secret = f.read()
        demand(len(secret) > 20, 'it holds no secret id')
        w.hidden.append(secret)
        again = w.ctl('setup', w.config, *flags)
        demand(again.code == 0 and ' 0 made, 0 changed, ' in again.said, again.all)
        with open(path, encoding='ascii') as f:
            demand(f.read() == secret, 'the second time, it was replaced')
        role_id = [line for line in ended.out.splitlines() if line.startswith('    role_id: ')][0].split()[1]
        w.configure(role, {'method': 'approle', 'mount': w.mount('approle'), 'role': f'{w.prefix}{role}', 'role_id': role_id,
                           'secret_id_path': path, 'secret_id_wrapped': bool(more)})


# ---- real coffer-keyds ----

def keyd(w, role, allow):
    return keydlib.Keyd(os.path.join(w.folder, role), allow=allow, socket_name='keyd.sock', insecure=False)


def binding(kms, uuid, tenant='team-a'):
    return (kms, tenant, keydlib.VOLUME, uuid)


KINDS = {'vault': 'transit', 'kv': 'kv'}


def minted(daemon, kms, uuid):
    with daemon.client() as c:
        reply = c.ask(keydlib.mint(binding(kms, uuid), deadline=60000))
        demand(reply.code == 'OK', (kms, reply.code, reply.message, daemon.log()))
        return reply.rest[1].decode()


def unwrapped(daemon, kms, uuid, wrapped):
    with daemon.client() as c:
        return keydlib.open_key(c, wrapped, binding=binding(kms, uuid), kind=KINDS[kms])


def passed(w, config, daemon):
    """What STATUS and doctor say of both key services."""
    for kms in keydlib.status(daemon)['kms']:
        demand(kms['service']['self_test'] == 'passed', kms)
    rows = w.doctor(config, daemon)
    demand(not failures(rows), rows)
    for name in KINDS:
        demand(found(rows, 'OK', f"'{name}'", 'the self-test passed; token by'), rows)


def mint_and_unwrap(w, controller, node):
    for kms, uuid in zip(KINDS, UUIDS):
        wrapped = minted(controller, kms, uuid)
        demand(len(unwrapped(node, kms, uuid, wrapped)) == 32, kms)
        with node.client() as c, keydlib.pipe() as (r, p):
            reply = c.ask(keydlib.unwrap(wrapped, binding=binding(kms, UUIDS[kms == 'vault']), kind=KINDS[kms]), [p])
            demand(reply.code == 'FAILED_PRECONDITION' and keydlib.pipe_is_empty(r), (reply.code, reply.message))


def by_approle(w):
    controller_config, node_config = (f'{w.folder}/{role}/config.json' for role in ('controller', 'node'))
    with keyd(w, 'controller', 'MINT,DESTROY') as controller, keyd(w, 'node', 'UNWRAP') as node:
        rows = w.doctor(node_config, node)
        demand(found(rows, 'OK', 'nothing was asked of it yet'), rows)
        mint_and_unwrap(w, controller, node)
        passed(w, controller_config, controller)
        passed(w, node_config, node)


def check_as_a_role(w):
    """Without an administrator's token: what the login may do, and what can't be seen."""
    code, rows = w.check(f'{w.folder}/controller/config.json', token=False)
    demand(code == 0 and found(rows, 'OK', 'login') and found(rows, 'OK', 'rights', 'mint wrapped keys'), rows)
    demand(not found(rows, 'OK', 'unwrap') and found(rows, 'WARN', "administrator's token"), rows)
    ended = w.ctl('check', f'{w.folder}/node/config.json', token=False)  # would use up what coffer-keyd needs
    demand(ended.code == 1 and 'can be used once only' in ended.said, ended.all)


def by_certificate(w):
    """A host: one coffer-keyd for controller and node."""
    certificate, key = w.vault.authority.issue('host', usage='clientAuth', names=(), common_name=f'{w.prefix}host')
    config = w.configure('host', {'method': 'cert', 'mount': w.mount('cert'), 'role': f'{w.prefix}host'},
                         client_cert=certificate, client_key=key)
    refused = w.ctl('setup', config, '--apply')
    demand(refused.code == 1 and '--client-ca is needed' in refused.said, refused.all)
    flags = ('--client-ca', w.vault.authority.certificate)
    ended = w.ctl('setup', config, '--apply', *flags)
    demand(ended.code == 0 and f'+ role auth/{w.mount("cert")}/certs/{w.prefix}host' in ended.out, ended.all)
    demand(' 0 made, 0 changed, ' in w.ctl('setup', config, '--apply', *flags).said, 'the second time it does something')
    code, rows = w.check(config)
    demand(code == 0, rows)
    with keyd(w, 'host', 'MINT,UNWRAP,DESTROY') as daemon:
        mint_and_unwrap(w, daemon, daemon)
        passed(w, config, daemon)


def by_scheduler(w):
    """docs/scheduler-local.md: coffer-scheduler-keyd has a login of its own; the host's may do more, and is refused."""
    for role, code in (('host', 'PERMISSION_DENIED'), ('scheduler', 'OK')):
        with keyd(w, role, 'SERVER_KEY') as daemon, daemon.client() as c:
            reply = c.ask(keydlib.frame(keydlib.SERVER_KEY, 60000, 'vault'))
            demand(reply.code == code, (role, reply.code, reply.message))
            demand(code == 'OK' or 'must not' in reply.message, reply.message)


def by_kubernetes(w):
    """Service accounts of Coffer's own namespace, and no others."""
    reviewer = TokenReviewer(w.folder, w.vault.authority)
    try:
        config = w.configure('pod', {'method': 'kubernetes', 'mount': w.mount('kubernetes'), 'role': f'{w.prefix}node',
                                     'token_path': f'{w.folder}/pod/token'}, pods={'pod_role': f'{w.prefix}any-pod'})
        ended = w.ctl('setup', config, '--apply', '--service-namespace', 'storage')
        demand(ended.code == 1 and '--kubernetes-host' in ended.out, ended.all)  # all but what it can't know
        w.root.call('POST', f'auth/{w.mount("kubernetes")}/config', {
            'kubernetes_host': reviewer.address, 'kubernetes_ca_cert': reviewer.ca_text, 'disable_local_ca_jwt': True,
            'token_reviewer_jwt': reviewer.reviewer_token})
        flags = ('--service-namespace', 'storage', '--kubernetes-host', reviewer.address, '--kubernetes-ca',
                 w.vault.authority.certificate)
        ended = w.ctl('setup', config, '--apply', *flags)
        demand(ended.code == 0 and ' 0 made, 0 changed, ' in ended.said, ended.all)
        code, rows = w.check(config, *flags)
        demand(code == 0 and found(rows, 'OK', 'policy', f'{w.prefix}node-tenant'), rows)
        code, rows = w.check(config)  # the namespace by default
        demand(code == 1 and found(rows, 'FAIL', 'role', 'bound_service_account_namespaces'), rows)
        any_pod(w, reviewer)
        use_pod(w, reviewer, config)
    finally:
        reviewer.close()


def any_pod(w, reviewer):
    """tenantIdentity: pod: what setup made lets a pod of any namespace log in, and use that namespace's key alone."""
    for namespace, other in (('team-a', 'team-b'), ('team-b', 'team-a')):
        login = {'role': f'{w.prefix}any-pod', 'jwt': reviewer.issue(namespace, 'web')}
        auth = w.root.as_().call('POST', f'auth/{w.mount("kubernetes")}/login', login).body['auth']
        demand(auth['policies'] == [f'{w.prefix}node-tenant'] and auth['lease_duration'] == 300, auth)
        paths = [f'{w.transit}/{verb}/coffer-t-{tenant}' for verb in ('decrypt', 'datakey/wrapped') for tenant in (namespace, other)]
        said = w.root.as_(auth['client_token']).call('POST', 'sys/capabilities-self', {'paths': paths}).data
        demand([said[path] for path in paths] == [['update'], ['deny'], ['deny'], ['deny']], said)


def use_pod(w, reviewer, config):
    wrapped = {}
    with keyd(w, 'controller', 'MINT,DESTROY') as controller:
        for kms, uuid in zip(KINDS, UUIDS):
            wrapped[kms] = minted(controller, kms, uuid)
    write_token(w, reviewer.issue('storage', f'{w.prefix}controller'))  # of another role
    with keyd(w, 'pod', 'UNWRAP') as daemon:
        refused = unwrap_refused(daemon, wrapped['vault'])
        demand(refused[0] == 'PERMISSION_DENIED', refused)
        rows = w.doctor(config, daemon)
        demand(found(rows, 'FAIL', "'vault'", "login by 'kubernetes'", 'cofferctl vault check --kms vault'), rows)
    write_token(w, reviewer.issue('storage', f'{w.prefix}node'))
    with keyd(w, 'pod', 'UNWRAP') as daemon:
        for kms, uuid in zip(KINDS, UUIDS):
            demand(len(unwrapped(daemon, kms, uuid, wrapped[kms])) == 32, kms)
        passed(w, config, daemon)


def write_token(w, token):
    w.hidden.append(token)
    with open(f'{w.folder}/pod/token', 'w', encoding='ascii') as f:
        f.write(token)


def unwrap_refused(daemon, wrapped, kms='vault', uuid=UUIDS[0]):
    with daemon.client() as c, keydlib.pipe() as (_, p):
        reply = c.ask(keydlib.unwrap(wrapped, binding=binding(kms, uuid), kind=KINDS[kms]), [p])
        return reply.code, reply.message


# ---- what is broken ----

def widened_policy(w):
    """Found by the check, shown by setup, seen by coffer-keyd itself, mended by --apply."""
    path, config = f'sys/policies/acl/{w.prefix}controller', f'{w.folder}/controller/config.json'
    text = w.root.call('GET', path).data['policy']
    more = f'path "{w.transit}/datakey/plaintext/*" {{\n  capabilities = ["update"]\n}}\n'
    w.root.call('PUT', path, {'policy': text + more})
    code, rows = w.check(config)
    demand(code == 1 and found(rows, 'FAIL', 'policy', f'{w.prefix}controller', 'datakey/plaintext', 'setup'), rows)
    demand(len(failures(rows)) == 1, failures(rows))
    code, rows = w.check(config, token=False)
    demand(code == 1 and found(rows, 'FAIL', 'rights', 'mint keys in clear', 'which nobody may have'), rows)
    ended = w.ctl('setup', config)
    demand(f'~ policy {w.prefix}controller' in ended.out and f'    -path "{w.transit}/datakey/plaintext/*" {{' in ended.out, ended.all)
    with keyd(w, 'controller', 'MINT,DESTROY') as daemon:
        with daemon.client() as c:
            reply = c.ask(keydlib.mint(binding('vault', UUIDS[0]), deadline=60000))
        demand(reply.code == 'PERMISSION_DENIED' and 'datakey/plaintext' in reply.message, (reply.code, reply.message))
        rows = w.doctor(config, daemon)
        demand(found(rows, 'FAIL', "'vault'", 'self-test', 'datakey/plaintext', 'cofferctl vault check --kms vault'), rows)
        ended = w.ctl('setup', config, '--apply')
        demand(ended.code == 0 and ' 0 made, 1 changed, ' in ended.said, ended.all)
        minted(daemon, 'vault', UUIDS[0])  # without a restart
    demand(w.check(config)[0] == 0, 'it is not mended')


def exportable_key(w):
    name = f'{w.transit}/keys/coffer-t-broken'
    w.root.call('POST', name, {'type': 'aes256-gcm96', 'derived': True, 'exportable': True})
    code, rows = w.check(w.config)
    demand(code == 1 and found(rows, 'FAIL', 'keys', 'coffer-t-broken', 'exportable'), rows)
    w.root.call('POST', f'{name}/config', {'deletion_allowed': True})
    w.root.call('DELETE', name)
    w.root.call('POST', f'{w.transit}/keys/coffer-t-loose', {'type': 'aes256-gcm96'})
    code, rows = w.check(w.config)
    demand(code == 1 and found(rows, 'FAIL', 'keys', 'coffer-t-loose', 'not derived'), rows)
    w.root.call('POST', f'{w.transit}/keys/coffer-t-loose/config', {'deletion_allowed': True})
    w.root.call('DELETE', f'{w.transit}/keys/coffer-t-loose')
    demand(w.check(w.config)[0] == 0, 'a right one is named')


def wrong_server_key(w):
    """What devices encrypt for can't be mended: setup says so, and the keyd that would tell them refuses."""
    name = f'{w.transit}/keys/coffer-s-1'
    w.root.call('POST', f'{name}/config', {'exportable': True})
    code, rows = w.check(w.config)
    demand(code == 1 and found(rows, 'FAIL', 'keys', 'coffer-s-1', 'exportable'), rows)
    ended = w.ctl('setup', w.config, '--apply')
    demand(ended.code == 1 and "it can't be changed" in ended.out and "can't be made by this command" in ended.all, ended.all)
    w.root.call('POST', f'{name}/config', {'deletion_allowed': True})
    w.root.call('DELETE', name)
    code, rows = w.check(w.config)
    demand(code == 1 and found(rows, 'FAIL', 'server key', 'is not there'), rows)
    ended = w.ctl('setup', w.config, '--apply')
    demand(ended.code == 0 and ' 1 made, 0 changed, ' in ended.said, ended.all)
    demand(w.root.call('GET', name).data['type'] == 'rsa-3072' and w.check(w.config)[0] == 0, 'it is not right')


def settings_and_roles(w):
    w.root.call('POST', f'{w.transit}/config/keys', {'disable_upsert': False})
    w.root.call('POST', f'{w.kv}/config', {'cas_required': False})
    w.root.call('POST', f'auth/{w.mount("approle")}/role/{w.prefix}node',
                {'token_no_default_policy': False, 'token_ttl': 0, 'bind_secret_id': True})
    code, rows = w.check(w.config)
    for words in (('settings', 'disable_upsert'), ('settings', 'cas_required'), ('role', f'{w.prefix}node', 'token_no_default_policy')):
        demand(code == 1 and found(rows, 'FAIL', *words), (words, rows))
    demand(len(failures(rows)) == 3, failures(rows))
    ended = w.ctl('setup', w.config, '--apply')
    demand(ended.code == 0 and ' 0 made, 3 changed, ' in ended.said, ended.all)
    demand(w.check(w.config)[0] == 0, 'it is not mended')


def wrong_mount(w):
    """Something else is where the configuration says: nothing is done to it."""
    config, flags = w.configure('wrong', w.auth, transit=w.kv), ('--kms', 'vault')
    code, rows = w.check(config, *flags)
    demand(code == 1 and found(rows, 'FAIL', 'engine', w.kv, 'something else', '"kv"'), rows)
    before = w.everything()
    ended = w.ctl('setup', config, '--apply', *flags)
    demand(ended.code == 1 and f'! engine {w.kv}/' in ended.out and 'name another mount' in ended.said, ended.all)
    demand(w.everything() == before, 'the server was changed all the same')


def without_rights(w):
    """A token that may nothing is refused with a sentence, and check says what it can't see."""
    api = w.layout.token('nothing-at-all', ttl='1h')
    w.hidden.append(api.token)
    ended = w.ctl('setup', w.config, '--apply', token=False, VAULT_TOKEN=api.token)
    demand(ended.code == 1 and 'it denies permission' in ended.said, ended.all)
    token_file = f'{w.folder}/token'
    with open(token_file, 'w', encoding='ascii', opener=lambda p, f: os.open(p, f, 0o600)) as f:
        f.write(w.root.token + '\n')
    ended = w.ctl('setup', w.config, '--token-file', token_file, token=False)
    demand(ended.code == 0 and ' 0 to make, 0 to change, ' in ended.said, ended.all)


def wrong_authority(w):
    other = type(w.vault.authority)(f'{w.folder}/other')
    code, rows = w.check(w.config, '--ca', other.certificate)
    demand(code == 1 and found(rows, 'FAIL', 'server', 'TLS', 'openssl s_client'), rows)


def sealed_and_stopped(w):
    config = f'{w.folder}/controller/config.json'
    with keyd(w, 'controller', 'MINT,DESTROY') as daemon:
        minted(daemon, 'vault', UUIDS[0])
        w.vault.seal()
        code, rows = w.check(config)
        demand(code == 1 and found(rows, 'FAIL', 'server', 'is sealed', 'vault operator unseal') and len(rows) == 1, rows)
        demand(w.ctl('setup', config).code == 1, 'setup of a sealed server')
        for _ in range(3):  # until the breaker has had enough
            with daemon.client() as c:
                reply = c.ask(keydlib.mint(binding('vault', UUIDS[0]), deadline=5000))
                demand(reply.code in ('UNAVAILABLE', 'DEADLINE_EXCEEDED'), (reply.code, reply.message))
        rows = w.doctor(config, daemon)
        demand(any(found(rows, state, "'vault'", "doesn't answer", 'cofferctl vault check --kms vault')
                   for state in ('FAIL', 'WARN')), rows)
        w.vault.unseal()
    demand(w.check(config)[0] == 0, 'not green after it was unsealed')
    w.vault.stop()
    code, rows = w.check(config)
    demand(code == 1 and found(rows, 'FAIL', 'server', 'no connection'), rows)
    w.vault.start()
    w.vault.root.wait_healthy()


def nothing_given_away(w):
    for secret in w.hidden:
        demand(all(secret not in text for text in w.printed), 'cofferctl printed a secret')
    for role in ('controller', 'node', 'host', 'scheduler', 'pod'):
        with contextlib.suppress(FileNotFoundError), open(f'{w.folder}/{role}/keyd.sock.log', encoding='utf-8') as f:
            log = f.read()
            demand(not any(secret in log for secret in w.hidden), f'the log of {role} holds a secret')


STEPS = (
    ('a dry run shows what is to be made, and makes nothing', dry_run),
    ('applied', apply),
    ('applied again: nothing is done, and no request is more than a look', apply_again),
    ('what Vault has as policies are the files of deploy/vault', policies_are_the_files),
    ('the check is green', green),
    ('secret ids: each into one file, plain and wrapped, never shown, never twice', secret_ids),
    ('approle: a controller mints and a node unwraps, both self-tests pass, doctor says so', by_approle),
    ('the check with a role\'s own login says what it may, and what it can\'t see', check_as_a_role),
    ('certificate: a host\'s one coffer-keyd does both', by_certificate),
    ('a host\'s scheduler reads the server key by its own login, and not by the host\'s', by_scheduler),
    ('kubernetes: the node\'s service account, no other', by_kubernetes),
    ('broken: a policy that allows more', widened_policy),
    ('broken: keys that can be exported, that bind nothing', exportable_key),
    ('broken: a server key that can be exported; one that is gone is made', wrong_server_key),
    ('broken: settings and roles', settings_and_roles),
    ('broken: another engine at the mount', wrong_mount),
    ('broken: the token', without_rights),
    ('broken: the certificates to trust', wrong_authority),
    ('broken: sealed, stopped', sealed_and_stopped),
    ('no token, secret id or service account token was printed or logged', nothing_given_away),
)


def story(vault, folder, tap):
    w = World(vault, tap, folder)
    w.auth = {'method': 'approle', 'mount': w.mount('approle'), 'role': f'{w.prefix}host', 'role_id': 'not-yet',
              'secret_id_path': f'{folder}/none'}
    w.config = w.configure('administrator', w.auth)
    for role in ('controller', 'node', 'scheduler'):
        w.configure(role, w.auth)
    try:
        print(f'# Vault {w.root.version()}', flush=True)
        for name, step in STEPS:
            if step is sealed_and_stopped and not vault.ours:
                tap.skip(name, 'this server is not the tests\' own')
            else:
                tap.run(name, step, w)
    finally:
        w.remove()


vaultserver.main('vault-admin', '', story, here=True)
