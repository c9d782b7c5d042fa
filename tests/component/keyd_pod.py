#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-keyd with a pod's own token (tenantIdentity: pod) before a played Vault: whose login asks what, what is refused with
which code, and that each token is revoked. The real Vault is the story vault-tenant's. TAP on stdout, no root."""
import sys

import caselib
import keydlib
from caselib import wait_for
from vaultlib import POD_MOUNT, expect, fresh, late, minted, status, unwrap

JWT = {'team-a': b'eyJh.team-a-pod.c2ln', 'team-b': b'eyJh.team-b-pod.c2ln'}


def as_pod(world, **how):
    """(a minted key, a function that unwraps it as a pod of that namespace)"""
    vault, keyd = world
    vault.pods.update({token.decode(): namespace for namespace, token in JWT.items()})
    key = minted(keyd, 'vault')
    vault.seen.clear()
    return key, lambda namespace='team-a', **more: unwrap(keyd, 'vault', key, token=JWT[namespace], **{**how, **more})


def asked_as(vault, *, pod):
    with vault.lock:
        return [path for path, token in vault.seen if (token or '').startswith('hvs.pod.') == pod]


def wait_revoked(vault, n):
    wait_for(lambda: sum(path == 'auth/token/revoke-self' for path in asked_as(vault, pod=True)) == n, 'the pods\' tokens are revoked')


def a_pods_token_opens_its_key(world):
    """By a login of its own, each time; keyd's own identity asks nothing."""
    vault, keyd = world
    key, pod = as_pod(world)
    reply, first = pod()
    expect(reply, 'OK')
    assert len(first) == 32
    wait_revoked(vault, 1)
    assert asked_as(vault, pod=True) == ['sys/capabilities-self', 'transit/decrypt/coffer-t-team-a', 'transit/decrypt/coffer-t-team-a',
                                         'auth/token/revoke-self'], vault.seen  # a wrong context first: the tenant's first unwrap
    assert asked_as(vault, pod=False) == [f'auth/{POD_MOUNT}/login'], vault.seen
    assert pod()[1] == first == unwrap(keyd, 'vault', key)[1]
    wait_revoked(vault, 2)
    counters = next(k for k in keydlib.status(keyd)['kms'] if k['name'] == 'vault')['service']['counters']
    assert (counters['pod_logins'], counters['pod_logins_failed'], counters['logins']) == (2, 0, 1), counters
    assert 'identity="pod"' in keyd.log() and not any(t.decode() in keyd.log() for t in JWT.values()), keyd.log()


def a_pod_of_another_tenant(world):
    vault, _ = world
    _, pod = as_pod(world)
    expect(pod('team-b')[0], 'PERMISSION_DENIED', "doesn't let this pod 'update' at transit/decrypt/coffer-t-team-a")
    wait_revoked(vault, 1)
    assert not any('decrypt' in path for path in asked_as(vault, pod=True))
    expect(pod()[0], 'OK')


def a_refused_login_of_a_pod(world):
    """A token that Vault doesn't know, and what isn't one; neither becomes keyd's own login, and none is in a sentence."""
    vault, keyd = world
    key, _ = as_pod(world)
    for token, code, words in ((b'eyJh.unknown.c2ln', 'PERMISSION_DENIED', "login by the pod's token, role 'coffer-pod'"),
                               (b'no token\r\nX: y', 'INVALID_ARGUMENT', 'has characters that no token has'),
                               (b'\xff\x00', 'INVALID_ARGUMENT', 'has characters that no token has')):
        reply = unwrap(keyd, 'vault', key, token=token)[0]
        expect(reply, code, words)
        assert 'unknown' not in reply.message
    assert asked_as(vault, pod=False) == [f'auth/{POD_MOUNT}/login'], vault.seen
    vault.rules.append((f'auth/{POD_MOUNT}/login', lambda handler, *_: handler.answer(200, {'auth': {}}), 1))
    expect(unwrap(keyd, 'vault', key, token=JWT['team-a'])[0], 'UNAVAILABLE', 'holds no token')
    vault.rules.append((f'auth/{POD_MOUNT}/login', status(503), None))
    expect(unwrap(keyd, 'vault', key, token=JWT['team-a'])[0], 'UNAVAILABLE')


def pods_that_may_too_much(world):
    """Each pod's login is tested: any tenant's key, or more than unwrapping."""
    vault, _ = world
    _, pod = as_pod(world)
    for path, capability, words in (('decrypt/coffer-t-0', 'update', "must not allow a pod of another tenant 'update'"),
                                    ('datakey/wrapped/coffer-t-team-a', 'update',
                                     "as a pod: self-test: Vault's policy must not allow this identity 'update'"),
                                    ('export/encryption-key/coffer-t-team-a', 'read', "must not allow this identity 'read'")):
        vault.more = {f'transit/{path}': [capability]}
        expect(pod()[0], 'PERMISSION_DENIED', words)
    vault.more = {}
    vault.rules.append(('sys/capabilities-self', status(403), 1))
    expect(pod()[0], 'PERMISSION_DENIED', "a pod can't ask what it may do")
    vault.rules.append(('sys/capabilities-self', lambda handler, *_: handler.answer(200, {'data': {}}), 1))
    expect(pod()[0], 'UNAVAILABLE', "doesn't say what we may do")
    wait_revoked(vault, 5)
    expect(pod()[0], 'OK')


def verifying_hands_out_nothing(world):
    vault, _ = world
    _, pod = as_pod(world)
    expect(pod(use='verify')[0], 'OK')  # the pipe stays empty
    expect(pod('team-b', use='verify')[0], 'PERMISSION_DENIED')
    assert sum('decrypt' in path for path in asked_as(vault, pod=True)) == 2


def a_key_that_takes_any_context_from_a_pod(world):
    vault, _ = world
    _, pod = as_pod(world)
    vault.derived = False
    expect(pod()[0], 'FAILED_PRECONDITION', 'it must be derived')
    wait_revoked(vault, 1)


def services_without_pods(world):
    vault, keyd = world
    for kms, code, words in (('no-pods', 'FAILED_PRECONDITION', "key service 'no-pods' takes no pod's token: its 'auth' has no 'pod_role'"),
                             ('kv', 'INVALID_ARGUMENT', 'takes no caller')):
        key = minted(keyd, kms)
        vault.seen.clear()
        expect(unwrap(keyd, kms, key, token=JWT['team-a'])[0], code, words)
        assert not vault.seen


def the_end_waits_for_a_pods_token(world):
    vault, keyd = world
    _, pod = as_pod(world)
    vault.rules.append(('auth/token/revoke-self', late(1), 1))
    expect(pod()[0], 'OK')
    assert keyd.stop() == 0
    wait_revoked(vault, 1)


if __name__ == '__main__':
    sys.exit(caselib.main([a_pods_token_opens_its_key, a_pod_of_another_tenant, a_refused_login_of_a_pod, pods_that_may_too_much,
                           verifying_hands_out_nothing, a_key_that_takes_any_context_from_a_pod, services_without_pods,
                           the_end_waits_for_a_pods_token], fresh))
