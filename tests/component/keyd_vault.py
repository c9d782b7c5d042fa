#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-keyd before a played Vault over TLS: what needs no real one (that is the stories' vault-faults and vault-economy),
among it the replies that libcurl takes for whole ones. TAP on stdout, no root."""
import re
import socket
import sys
import threading
import urllib.request

import caselib
from caselib import wait_for
from keydlib import UUID, VOLUME, Client, Keyd, frame
from vaultlib import (CAPABILITIES, DESTROY, METADATA, MINT, expect, fresh, late, mint, minted, raw, status, unwrap, write_config)


def done_and_lost(handler, path, body):
    """A secret is stored, and the answer is no JSON."""
    if path[8:] in handler.vault.secrets:
        handler.usual(path, body)
    else:
        handler.vault.secrets[path[8:]] = body['data']
        raw(b'HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\n{"')(handler, path, body)


def both_engines(world):
    vault, keyd = world
    for kms in ('vault', 'kv'):
        key = minted(keyd, kms)
        reply, first = unwrap(keyd, kms, key)
        expect(reply, 'OK')
        assert first == unwrap(keyd, kms, key)[1] and len(first) == 32
    assert vault.count('auth/') == 1, 'one identity, one login'


def a_reply_that_ends_in_its_headers(world):
    """libcurl says 200 and no body: a key that was never stored must not be handed out as one that was."""
    vault, keyd = world
    minted(keyd, 'kv')
    vault.secrets.clear()
    vault.rules.append(('kv/data/', raw(b'HTTP/1.1 200 OK\r\nContent-Len'), None))
    expect(mint(keyd, 'kv'), 'UNAVAILABLE', 'ended in its headers')
    vault.rules.clear()
    minted(keyd, 'kv')


def a_store_without_an_answer(world):
    vault, keyd = world
    vault.rules.append(('kv/data/', lambda handler, *_: handler.answer(200), 1))
    expect(mint(keyd, 'kv'), 'UNAVAILABLE', "doesn't say that it stored the key")
    vault.rules.append(('kv/data/', lambda handler, *_: handler.answer(200, {'data': {}}), 1))
    expect(mint(keyd, 'kv'), 'UNAVAILABLE', "doesn't say that it stored the key")
    minted(keyd, 'kv')


def an_engine_that_was_just_made(world):
    """Vault answers 400 while a new KV engine gets its versions: the same question works a moment later."""
    def upgrading(handler, *_):
        handler.answer(400, errors=['Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period'])
    vault, keyd = world
    vault.rules.append(('kv/data/', upgrading, 1))
    minted(keyd, 'kv')
    vault.rules.append(('kv/data/', upgrading, None))
    expect(mint(keyd, 'kv'), 'UNAVAILABLE', "isn't ready yet")
    vault.rules.clear()
    minted(keyd, 'kv')


def a_lost_answer_is_no_denial(world):
    """The key was stored, the answer got lost, and the repetition is refused since it is there: it is the volume's."""
    vault, keyd = world
    vault.rules.append(('kv/data/', done_and_lost, None))
    key = minted(keyd, 'kv')
    vault.rules.clear()
    expect(unwrap(keyd, 'kv', key)[0], 'OK')


def a_key_that_is_there_stays(world):
    """Another attempt for the same volume, by this controller or another one at the same moment, gets the same key: a removal
    that is carried out late would take the key of a volume that has data."""
    vault, keyd = world
    key = minted(keyd, 'kv')
    before = unwrap(keyd, 'kv', key)[1]
    assert minted(keyd, 'kv').rest == key.rest
    assert unwrap(keyd, 'kv', key)[1] == before != b''
    for words, change in (('has been replaced: it is at version 2', {'current_version': 2}),
                          ('was destroyed', {'versions': {'1': {'deletion_time': '', 'destroyed': True}}}),
                          ('has a deletion time (2030-', {'versions': {'1': {'deletion_time': '2030-01-01T00:00:00Z'}}})):
        about = {'data': {**METADATA['data'], **change}}
        vault.rules.append(('kv/metadata/', lambda handler, *_, about=about: handler.answer(200, about), 1))
        expect(mint(keyd, 'kv'), 'FAILED_PRECONDITION', words)
    vault.rules.append(('kv/metadata/', lambda handler, *_: handler.answer(200, {}), 1))
    expect(mint(keyd, 'kv'), 'UNAVAILABLE', 'describes no secret')


def a_refusal_to_store_is_no_key(world):
    """403 says "there is one" or "you may not": what the metadata say decides."""
    vault, keyd = world
    vault.rules.append(('kv/data/', status(403), None))
    expect(mint(keyd, 'kv'), 'PERMISSION_DENIED')
    vault.rules.clear()
    minted(keyd, 'kv')


def a_key_that_would_go_by_itself(world):
    vault, keyd = world
    version = {'version': 1, 'deletion_time': '2030-01-01T00:00:00Z', 'destroyed': False}
    vault.rules.append(('kv/data/', lambda handler, *_: handler.answer(200, {'data': version}), 1))
    expect(mint(keyd, 'kv'), 'FAILED_PRECONDITION', 'has a deletion time (2030-')


def another_token_is_tested_again(world):
    """A later login may come with other policies: the first request that finds it asks what it may do."""
    vault, keyd = world
    key = minted(keyd, 'vault')
    unwrap(keyd, 'vault', key)
    tests = vault.count('sys/capabilities-self')
    vault.rules.append(('transit/decrypt/', status(403), 1))
    expect(unwrap(keyd, 'vault', key)[0], 'OK')  # with another token
    assert vault.count('sys/capabilities-self') == tests
    vault.rules.append(('sys/capabilities-self', lambda handler, _, body: handler.answer(
        200, {'data': {p: ['update'] for p in body['paths']}}), 1))
    expect(unwrap(keyd, 'vault', key)[0], 'PERMISSION_DENIED', 'must not allow')
    expect(unwrap(keyd, 'vault', key)[0], 'OK')
    expect(unwrap(keyd, 'vault', key)[0], 'OK')
    assert vault.count('sys/capabilities-self') == tests + 2


def a_key_that_takes_any_context(world):
    vault, keyd = world
    key = minted(keyd, 'vault')
    vault.derived = False
    expect(unwrap(keyd, 'vault', key)[0], 'FAILED_PRECONDITION', 'it must be derived')


def a_dead_token_proves_no_binding(world):
    """The first question is refused for the token; the next one, with another token, must be asked about the context again."""
    vault, keyd = world
    key = minted(keyd, 'vault')
    vault.derived = False
    vault.rules.append(('transit/decrypt/', status(403), 1))
    expect(unwrap(keyd, 'vault', key)[0], 'FAILED_PRECONDITION', 'it must be derived')
    assert vault.count('auth/') == 2


def a_forged_record_reaches_no_other_key(world):
    """The controller takes the uuid from the record, which a storage administrator can write: in another volume's name, or for
    another tenant, it leads to another secret."""
    vault, keyd = world
    key = minted(keyd, 'kv')
    before = unwrap(keyd, 'kv', key)[1]
    for tenant, volume in (('team-b', VOLUME), ('team-a', VOLUME[:-1] + '0')):
        for op in (MINT, DESTROY):
            with keyd.client() as c:
                expect(c.ask(frame(op, 20000, 'kv', tenant, volume, UUID)), 'OK')
    reply, after = unwrap(keyd, 'kv', key)
    expect(reply, 'OK')
    assert after == before


def a_login_that_could_take_a_key_away(world):
    """What would replace a stored key, or hide it, nobody may have."""
    vault, keyd = world
    for place, more in (('data', 'update'), ('data', 'patch'), ('data', 'delete'), ('metadata', 'update'), ('metadata', 'patch')):
        def say(handler, _path, body, place=place, more=more):
            kinds = {p: p.split('/')[1] for p in body['paths']}
            handler.answer(200, {'data': {p: CAPABILITIES[kind] + [more] * (kind == place) for p, kind in kinds.items()}})
        vault.rules.append(('sys/capabilities-self', say, 1))
        expect(mint(keyd, 'kv'), 'PERMISSION_DENIED', f"must not allow this identity '{more}' at kv/{place}/")
    minted(keyd, 'kv')


def a_refusal_for_another_reason_proves_no_binding(world):
    """Something on the way says 400 once: that isn't the key's word for a wrong context."""
    vault, keyd = world
    key = minted(keyd, 'vault')
    vault.rules.append(('transit/decrypt/', status(400), 1))
    expect(unwrap(keyd, 'vault', key)[0], 'OK')
    vault.derived = False
    expect(unwrap(keyd, 'vault', key)[0], 'FAILED_PRECONDITION', 'it must be derived')


def deadlines_are_their_own(world):
    """Who waits for a login or a self-test that somebody else's question began."""
    vault, keyd = world
    for kms, path in (('vault', 'auth/'), ('kv', 'sys/capabilities-self')):
        before, replies = vault.count(path), {}
        vault.rules.append((path, late(4), 1))

        def ask(deadline, name=kms, into=replies):
            into[deadline] = mint(keyd, name, deadline)
        threads = [threading.Thread(target=ask, args=[d]) for d in (1500, 60000)]
        for t in threads:
            t.start()
            wait_for(lambda p=path, n=before: vault.count(p) > n, 'the first is asking')
        for t in threads:
            t.join()
        expect(replies[1500], 'DEADLINE_EXCEEDED')
        expect(replies[60000], 'OK')


def hurried_callers_close_nothing(world):
    """Whose deadlines are too short for an answer, says nothing of the server: others are served meanwhile."""
    vault, keyd = world
    minted(keyd, 'kv')
    vault.rules.append(('kv/data/', late(1.5), None))
    for _ in range(8):
        expect(mint(keyd, 'kv', 400), 'DEADLINE_EXCEEDED')
    vault.rules.clear()
    minted(keyd, 'kv')


def a_refused_secret_id_is_not_shown_again(world):
    """Vault locks the role out after five: the file is looked at again, the server is left alone until another one is in it."""
    vault, keyd = world
    keyd.stop()
    secret_id = f'{keyd.root}/secret-id'
    caselib.write(secret_id, 'wrong\n', 0o600)
    write_config(keyd.root, vault, method='approle', role='r', role_id='r', secret_id_path=secret_id)
    with Keyd(keyd.root, allow='MINT,UNWRAP,DESTROY', insecure=False) as again:
        expect(mint(again, 'vault'), 'PERMISSION_DENIED', 'role id or secret id is wrong or used up')
        wait_for(lambda: 'no other one yet' in mint(again, 'vault').message, 'the file is looked at again')
        assert vault.count('auth/approle/login') == 1
        caselib.write(secret_id, 'right\n', 0o600)
        wait_for(lambda: mint(again, 'vault').code == 'OK', 'the new one is shown')
        assert vault.count('auth/approle/login') == 2


def one_configuration_serves_two_roles(world):
    """The configuration names the node's role; the controller's coffer-keyd is told its own, and the file stays as it is."""
    vault, _ = world
    with caselib.folder('coffer-keyd-') as root:
        caselib.write(f'{root}/token', 'eyJ.played.token\n', 0o600)
        write_config(root, vault, method='kubernetes', role='coffer-node', token_path=f'{root}/token')
        for flags, code in (([], 'PERMISSION_DENIED'), (['--vault-role', 'coffer-controller'], 'OK')):
            with Keyd(root, *flags, allow='MINT,UNWRAP,DESTROY', insecure=False) as keyd:
                expect(mint(keyd, 'vault'), code)
        keyd = Keyd(root, '--vault-role', 'a/../b', allow='MINT', insecure=False)
        keyd.wait_log("--vault-role: 'a/../b' can't be a role's name")
        assert keyd.p.wait(60) == 1


def destroyed_is_what_the_engine_says(world):
    """Vault's engine answers 204 for what isn't there; 404 comes from somebody else, who keeps no key to destroy."""
    vault, keyd = world
    key = minted(keyd, 'kv')

    def destroy():
        with keyd.client() as c:
            return c.ask(frame(DESTROY, 20000, 'kv', 'team-a', VOLUME, UUID))
    nowhere = [lambda handler, *_: handler.answer(404, errors=['no handler for route "kv/metadata/x"']), None]
    vault.rules += [['kv/metadata/', *nowhere], ['kv/data/', *nowhere]]
    expect(destroy(), 'FAILED_PRECONDITION', 'no engine is mounted there')
    expect(unwrap(keyd, 'kv', key)[0], 'FAILED_PRECONDITION', 'no engine is mounted there')
    vault.rules.clear()
    expect(unwrap(keyd, 'kv', key)[0], 'OK')
    for _ in range(2):
        expect(destroy(), 'OK')
    expect(unwrap(keyd, 'kv', key)[0], 'FAILED_PRECONDITION', 'it was deleted')


def metrics_speak_of_vault_and_health_does_not(world):
    vault, keyd = world
    keyd.stop()
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]

    def page(name):
        with urllib.request.urlopen(f'http://127.0.0.1:{port}/{name}', timeout=caselib.PATIENCE) as answer:
            return answer.read().decode()

    with Keyd(keyd.root, '--http', f'127.0.0.1:{port}', allow='MINT,UNWRAP,DESTROY', insecure=False) as again:
        assert 'coffer_keyd_vault_token{kms="vault"} 0\n' in page('metrics')  # they share a login: the first has it
        minted(again, 'vault')
        text = page('metrics')
        for line in ('vault_token{kms="vault"} 1', 'vault_logins_total{kms="vault"} 1', 'requests_total{op="MINT",result="OK"} 1',
                     'vault_breaker{kms="vault",state="closed"} 1', 'vault_login_failures_total{kms="vault"} 0'):
            assert f'coffer_keyd_{line}\n' in text, (line, text)
        assert re.search(r'vault_replies_total\{kms="vault",reply="2xx"\} [1-9]', text) and 'hvs.' not in text
        vault.rules.append(('', status(503), None))
        for _ in range(4):
            expect(mint(again, 'vault', 3000), 'UNAVAILABLE')
        text = page('metrics')
        assert re.search(r'vault_replies_total\{kms="vault",reply="5xx"\} [1-9]', text)
        assert 'coffer_keyd_vault_breaker{kms="vault",state="closed"} 0\n' in text, text
        assert page('healthz') == 'ok\n'


def ends_though_vault_hangs(world):
    vault, keyd = world
    minted(keyd, 'vault')
    vault.rules.append(('', late(600), None))
    with Client(keyd.path) as c:
        before = len(vault.asked)
        c.send(frame(MINT, 300000, 'vault', 'team-a', VOLUME, UUID))
        wait_for(lambda: len(vault.asked) > before, 'it is asking')
        assert keyd.stop() == 0


if __name__ == '__main__':
    sys.exit(caselib.main([both_engines, a_reply_that_ends_in_its_headers, a_store_without_an_answer, an_engine_that_was_just_made,
                           a_lost_answer_is_no_denial, a_key_that_is_there_stays, a_refusal_to_store_is_no_key,
                           a_key_that_would_go_by_itself, another_token_is_tested_again, a_key_that_takes_any_context,
                           a_dead_token_proves_no_binding,
                           a_forged_record_reaches_no_other_key, a_login_that_could_take_a_key_away,
                           a_refusal_for_another_reason_proves_no_binding,
                           deadlines_are_their_own, hurried_callers_close_nothing, a_refused_secret_id_is_not_shown_again,
                           one_configuration_serves_two_roles, destroyed_is_what_the_engine_says,
                           metrics_speak_of_vault_and_health_does_not, ends_though_vault_hangs], fresh))
