#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cofferctl vault setup and vault check as a real process, up to where a server is needed: flags, sentences, exit codes,
where the policy files are looked for, and that a token shows nowhere. With a server: the story vault-admin. TAP; no root."""
import json
import os
import shutil
import socket
import subprocess
import sys

import caselib
import ctllib
from ctllib import CTL, sentence

TOKEN = 'hvs.CAESIsecretsecretsecret'
POLICIES = os.path.join(caselib.ROOT, 'deploy', 'vault')
ENV = {'VAULT_TOKEN': TOKEN}


def service(uri, b, **more):
    return {'uri': uri, 'ca': os.path.join(b.root, 'ca.pem'),
            'auth': {'method': 'approle', 'role': 'coffer-host', 'role_id': 'r', 'secret_id_path': '/none'}, **more}


def configure(b, **kms):
    """Key services by name; without any: transit and KV on a port where nobody listens."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    kms = kms or {'vault': service(f'hcvault://127.0.0.1:{port}/transit/keys/coffer-t-{{tenant}}', b),
                  'kv': service(f'hcvault+kv://127.0.0.1:{port}/coffer-kv/volumes', b)}
    b.write({'pools': {'fast': {'backend': 'file', 'path': b.pool, 'kms': list(kms)[:1], 'allocate': 'full'}}, 'kms': kms})
    make_certificate(b)
    return port


def make_certificate(b):
    """Any one that can be read; nobody shows it."""
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=nobody',
                    '-keyout', os.path.join(b.root, 'ca.key'), '-out', os.path.join(b.root, 'ca.pem')], check=True, capture_output=True)


def run(b, verb, *args, code=1, env=None):
    p = b.run('vault', verb, '--policies', POLICIES, *args, code=code, env=ENV if env is None else env)
    assert TOKEN not in p.stdout + p.stderr, 'the token shows'
    return p


def flags(b):
    configure(b)
    sentence(run(b, 'setup', '--apply', '--dry-run', code=2), '--apply and --dry-run exclude each other')
    sentence(run(b, 'setup', '--secret-id-file', '/x', code=2), '--secret-id-file wants exactly one --role')
    sentence(run(b, 'setup', '--wrap-ttl', '60', code=2), '--wrap-ttl goes with --secret-id-file')
    sentence(run(b, 'setup', '--wrap-ttl', '86401', '--secret-id-file', '/x', '--role', 'node', code=2),
             '--wrap-ttl must be at most 86400')
    sentence(run(b, 'check', '--auth', 'password', code=2),
             "flag '--auth' must be one of configured|kubernetes|jwt|approle|cert|none, not 'password'")
    for args in (('setup', '--token', TOKEN), ('setup', f'--token={TOKEN}')):  # no secret by flag
        assert b.run('vault', *args, code=2, env={}).stderr.startswith("cofferctl: unknown flag '--token")


def what_is_asked_for(b):
    configure(b)
    cases = (
        (('--kms', 'other'), "--kms 'other': the configuration has no such service"),
        (('--address', 'http://vault:8200'), "the address 'http://vault:8200' must be https://HOST:PORT"),
        (('--address', 'vault:8200'), "the address 'vault:8200' must be https://HOST:PORT"),
        (('--address', 'https://vault:8200/v1'), "the address 'https://vault:8200/v1' must be https://HOST:PORT"),
        (('--address', 'https://vault'), "the address 'https://vault' lacks its port: https://vault:8200"),
        (('--role', 'root'), "--role 'root' is none of controller, node, scheduler, rotation, host, pod"),
        (('--role', 'pod'), "--role pod: the key service has no 'pod_role' in its 'auth'"),
        (('--server-key', 'coffer-t-s'), "--server-key 'coffer-t-s' and the tenants' keys 'coffer-t-...' must not begin alike: "
                                         'a policy for the ones would be for the others too'),
        (('--prefix', ''), '--prefix must not be empty'),
        (('--client-ca', '/none.pem'), "--client-ca: open '/none.pem': No such file or directory"),
        (('--client-ca', '/etc/hostname'), "--client-ca: '/etc/hostname' holds no certificate in PEM"),
        (('--auth', 'cert'), '--client-ca is needed: whose certificates login method cert takes'),
        (('--auth', 'kubernetes', '--role', 'node', '--secret-id-file', '/x'),
         '--secret-id-file goes with login method approle only'),
    )
    for args, want in cases:
        sentence(run(b, 'setup', *args), want)


def configurations(b):
    sentence(run(b, 'setup'), 'the configuration has no key service of Vault\'s')
    one, two = (service(f'hcvault://{host}:8200/transit/keys/coffer-t-{{tenant}}', b) for host in ('a', 'b'))
    configure(b, one=one, two=two)
    sentence(run(b, 'check'), "key service 'two' is a second transit one: name one with --kms")
    configure(b, one=one, two=service('hcvault+kv://b:8200/coffer-kv/volumes', b))
    sentence(run(b, 'check'), "key services 'one' and 'two' are at different servers: name one with --kms")
    configure(b, one=service('hcvault://a:8200/transit/keys/{tenant}-key', b))
    sentence(run(b, 'setup'), "key service 'one': a policy can't name keys like '{tenant}-key': {tenant} must come last")
    os.unlink(b.config)
    assert b.config in run(b, 'setup').stderr


def tokens(b):
    configure(b)
    sentence(run(b, 'setup', env={}), "an administrator's token is needed: VAULT_TOKEN in the environment, or --token-file")
    for bad in ('a b', 'a\nX-Injected: b', 'ü'):
        sentence(run(b, 'setup', env={'VAULT_TOKEN': bad}), 'VAULT_TOKEN holds no token')
    wrapped = service('hcvault://127.0.0.1:1/transit/keys/coffer-t-{tenant}', b)
    wrapped['auth']['secret_id_wrapped'] = True
    configure(b, vault=wrapped)
    assert 'can be used once only' in run(b, 'check', env={}).stderr


def nobody_answers(b):
    port = configure(b)
    p = run(b, 'setup')
    assert p.stdout == '' and f'cofferctl: the token that was given: Vault (127.0.0.1:{port}) auth/token/lookup-self: ' \
                              'no connection' in p.stderr, p.stderr
    p = run(b, 'check', '--output', 'json')
    (row,) = json.loads(p.stdout)
    assert row['check'] == 'server' and row['state'] == 'FAIL' and 'no connection' in row['found'] and f':{port}' in row['fix'], row
    assert p.stderr == 'cofferctl: 1 failed, 0 to look at, 0 are fine\n', p.stderr
    # the address that is given, not the configuration's
    p = run(b, 'check', '--output', 'json', env={**ENV, 'VAULT_ADDR': 'https://127.0.0.1:1/'})
    assert '127.0.0.1:1' in json.loads(p.stdout)[0]['found'], p.stdout


def the_token_leaves_the_environment(b):
    """While it runs: a server that never answers holds it."""
    configure(b)
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        s.listen(1)
        argv = [CTL, 'vault', 'setup', '--config', b.config, '--policies', POLICIES, '--address', f'https://127.0.0.1:{s.getsockname()[1]}']
        with subprocess.Popen(argv, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
            try:
                s.settimeout(caselib.PATIENCE)
                connection, _ = s.accept()
                if os.geteuid() == 0:  # else nobody may look: it isn't dumpable
                    with open(f'/proc/{p.pid}/environ', 'rb') as f:
                        assert TOKEN.encode() not in f.read()
                with open(f'/proc/{p.pid}/cmdline', 'rb') as f:
                    assert TOKEN.encode() not in f.read()
                connection.close()
            finally:
                p.kill()


def policies_beside_the_program(b):
    configure(b)
    program = os.path.join(b.root, 'bin', 'cofferctl')
    os.makedirs(os.path.dirname(program))
    shutil.copy(CTL, program)
    folder = os.path.join(b.root, 'share', 'coffer', 'vault')
    argv = [program, 'vault', 'setup', '--config', b.config]
    p = caselib.run(argv, 1, env=ENV)
    sentence(p, f"the policy files aren't in '{folder}': name their folder with --policies")
    shutil.copytree(POLICIES, folder)
    assert 'no connection' in caselib.run(argv, 1, env=ENV).stderr


TESTS = [flags, what_is_asked_for, configurations, tokens, nobody_answers, the_token_leaves_the_environment,
         policies_beside_the_program]

sys.exit(ctllib.main(TESTS))
