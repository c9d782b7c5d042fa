#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-scheduler's listeners and clients: slow ones, many, those who hang up; TLS, the admin socket, metrics, the command line, and
that nothing secret is logged. Stub driver. TAP on stdout, no root."""
import contextlib
import json
import os
import re
import socket
import ssl
import sys
import time

import caselib
from schedulerlib import Scheduler, TlsScheduler, any_device, device, expect, fetch, free_port, main, running, tests_of


# ---- slow ones, and many ----

def half_a_request(s):
    c = socket.socket(socket.AF_UNIX)
    c.settimeout(caselib.PATIENCE)
    c.connect(s.socket)
    c.sendall(b'POST /v1/challenges HTTP/1.1\r\nHost: x\r\n')
    return c


def is_over(c):
    """The other end closed it."""
    try:
        c.sendall(b'x')
        return c.recv(65536) == b''
    except TimeoutError:
        return False
    except OSError:
        return True


def test_slow_clients_hold_nobody_up():
    with running(flags=['--request-seconds', '3']) as s, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(contextlib.closing(half_a_request(s))) for _ in range(200)]
        for _ in range(100):
            expect(s.find(any_device()), 404)
        begun = time.monotonic()
        while time.monotonic() < begun + 2.5:  # each byte would be a sign of life
            for c in slow:
                with contextlib.suppress(OSError):  # cut off already
                    c.sendall(b'x')
            time.sleep(0.2)
        caselib.wait_for(lambda: len(os.listdir(f'/proc/{s.process.pid}/fd')) < 100, 'they are cut off', s.process)
        assert all(is_over(c) for c in slow)
        expect(s.find(any_device()), 404)


def test_more_clients_than_there_may_be():
    with running(flags=['--request-seconds', '600']) as s, contextlib.ExitStack() as stack:
        for i in range(1300):
            stack.enter_context(contextlib.closing(half_a_request(s)))
            if i % 100 == 0:
                expect(s.find(any_device()), 404)
        expect(s.find(any_device()), 404)
        assert len(os.listdir(f'/proc/{s.process.pid}/fd')) < 1100


def test_a_request_that_waits_too_long():
    with running(flags=['--request-seconds', '2']) as s:
        d, tablet = device(s), device(s)
        s.created(d)
        found = s.locked(d)
        s.control(delay={'add_device': 5000})
        add = {'publicKey': tablet.public_key, 'algorithm': tablet.algorithm, 'wrappedKey': tablet.seal(d.key),
               **d.session(found['serverKey'], found['volumeId'])}
        answer = s.proved(d, 'POST', d.url + '/recipients', add)
        expect(answer, 504, 'deadline', 'it takes longer than 2 s; it goes on, so ask again')
        assert answer.headers['Retry-After'] == '2'
        expect(s.lock(d), 409, 'conflict', 'busy: another operation is running (add)')
        assert s.find(d)['status'] == 'detached'  # nothing of the VM is on its way
        caselib.wait_for(lambda: s.find(tablet).status == 200, 'it went on')
        assert expect(s.proved(d, 'POST', d.url + '/recipients', add), 200)['devices'][1]['name'] == tablet.name


def test_somebody_who_hangs_up_while_waiting(s):
    d, tablet = device(s), device(s)
    s.created(d)
    found = s.locked(d)
    s.control(delay={'add_device': 500})
    body = json.dumps({'publicKey': tablet.public_key, 'algorithm': tablet.algorithm, 'wrappedKey': tablet.seal(d.key),
                       **d.session(found['serverKey'], found['volumeId'])}).encode()
    path = d.url + '/recipients'
    with contextlib.closing(s.connection()) as c:
        c.request('POST', path, body, {'Content-Type': 'application/json', 'Coffer-Proof': s.prove(d, 'POST', path, body)})
        caselib.wait_for(lambda: any(x['operation'] == 'add' for x in s.admin_get('/admin/clouds')['clouds']), 'it runs')
    caselib.wait_for(lambda: s.find(tablet).status == 200, 'it went on')
    s.stop()


# ---- listeners ----

def test_tls():
    with running(TlsScheduler) as s:
        d = any_device()
        with contextlib.closing(s.tls_connection()) as c:
            for _ in range(3):  # one connection, several requests
                assert s.ask('GET', d.url, connection=c)['status'] == 'nonexistent'
        over_plain = s.connection()
        assert s.ask('GET', d.url, connection=over_plain)['status'] == 'nonexistent'


HALF = "isn't the key of the certificate in"


def shown(s):
    """The certificate that a new connection is shown."""
    return ssl.get_server_certificate(('127.0.0.1', s.port), timeout=caselib.PATIENCE)


def test_a_renewed_certificate():
    """Shown without a restart; half of a new pair isn't; who is connected stays so."""
    metrics, d = free_port(), any_device()

    def ends_in():
        line = re.search(r'^coffer_scheduler_certificate_expiry_timestamp_seconds (\d+)$', fetch(metrics, '/metrics')[1], re.M)
        return (int(line[1]) - time.time()) / 86400

    with (running(TlsScheduler, flags=['--http', f'127.0.0.1:{metrics}', '--request-seconds', '600']) as s,
          contextlib.closing(s.tls_connection()) as before):
        first = caselib.read(s.file('tls.crt'))
        assert s.ask('GET', d.url, connection=before)['status'] == 'nonexistent'
        assert shown(s) == first and 1.9 < ends_in() <= 2, ends_in()
        s.new_pair('next', 9)
        second = caselib.read(s.file('next.crt'))
        os.rename(s.file('next.crt'), s.file('tls.crt'))
        caselib.wait_for(lambda: HALF in caselib.read(s.log), 'the half is seen', s.process)
        assert shown(s) == first
        os.rename(s.file('next.key'), s.file('tls.key'))
        caselib.wait_for(lambda: shown(s) == second, 'the new one is shown', s.process, s.log)
        caselib.wait_for(lambda: 8.9 < ends_in() <= 9, 'until when is told', s.process, s.log)
        with contextlib.closing(s.tls_connection()) as after:
            for connection in (before, after):
                assert s.ask('GET', d.url, connection=connection)['status'] == 'nonexistent'
        assert caselib.read(s.log).count(HALF) == 1


def test_admin(s):
    d = device(s)
    s.created(d)
    clouds = expect(s.admin_get('/admin/clouds'), 200)['clouds']
    assert [(c['id'], c['status'], c['node'], c['vm'], c['devices']) for c in clouds] == [(d.name[:32], 'attached', 'n1', 'ready', 1)]
    assert 'wrapped' not in json.dumps(clouds) and 'publicKey' not in json.dumps(clouds)
    text = expect(s.admin_get(f'/admin/clouds/{d.name[:32]}/explain'), 200)
    assert text.raw.decode().startswith(f'cloud {d.name[:32]}: attached\n* n1: '), text
    assert [n['name'] for n in expect(s.admin_get('/admin/nodes'), 200)['nodes']] == ['n1', 'n2']
    expect(s.admin_get('/v1/clouds/' + d.name), 404, 'not_found')
    expect(s.admin_get('/admin/clouds/x/explain'), 400, 'invalid', "the cloud's id in the path must be 32 lower-case hex digits")
    for path, mode in ((s.admin, 0o600), (s.socket, 0o600)):
        assert os.stat(path).st_mode & 0o777 == mode, oct(os.stat(path).st_mode)


def test_monitor():
    port = free_port()
    with running(flags=['--http', f'127.0.0.1:{port}']) as s:
        d = device(s)
        s.created(d)
        assert fetch(port, '/healthz') == (200, 'ok\n')
        status, text = fetch(port, '/metrics')
        assert status == 200 and d.name[:32] not in text and 'n1' not in text
        for line in ('coffer_scheduler_clouds{status="attached"} 1', 'coffer_scheduler_operations_total{operation="create",result="ok"} 1',
                     'coffer_scheduler_nodes 2', 'coffer_scheduler_operations_running 0', 'coffer_scheduler_challenges_total 1'):
            assert line in text.splitlines(), (line, text)
        printed = {(name, kind): what for name, what, kind in
                   re.findall(r'^# HELP (coffer_scheduler_\S+) (.*)\n# TYPE \1 (\w+)$', text, re.M)}
        page = caselib.read(caselib.ROOT, 'docs', 'metrics.md')
        documented = {(name, kind): what for name, kind, what in
                      re.findall(r'^\| `(coffer_scheduler_[a-z_]+)` \| (\w+) \| scheduler \| (.+?) \|$', page, re.M)}
        assert printed == documented and len(printed) > 10, set(printed.items()) ^ set(documented.items())
        s.control(fail={'each': {'code': 'UNAVAILABLE', 'message': 'the node is away'}})
        caselib.wait_for(lambda: 'coffer_scheduler_rounds_total{result="error"} 0' not in fetch(port, '/metrics')[1], 'a round fails')
        assert fetch(port, '/healthz') == (200, 'ok\n')  # a restart would mend nothing


def test_command_line():
    with caselib.folder() as folder:
        good = Scheduler(folder)
        for flags, message in (
                ([], '--listen or --listen-unix is missing'),
                (['--listen', '127.0.0.1:1'], '--listen needs --tls-certificate and --tls-key: there is no TCP without TLS'),
                (['--listen-unix', 'x'], "--listen-unix 'x' must be an absolute path"),
                (['--listen-unix', '/x', '--tls-key', '/k'], '--tls-certificate and --tls-key are for --listen'),
                (['--listen-unix', '/x', '--request-seconds', '0'], '--request-seconds must be 1 to 3600'),
                (['--listen-unix', '/x', 'more'], "unexpected argument 'more'")):
            p = caselib.run([caselib.program('coffer-scheduler'), '--config', good.file('scheduler.json'), *flags], 2)
            assert p.stderr == f'coffer-scheduler: {message}\n', p.stderr
        for change, message in (({'driver': 'no'}, "there is no driver 'no'"),
                                ({'url': 'x'}, "field 'url' must be an http or https URL that ends in '/'"),
                                ({'tenant': 'A'}, "field 'tenant' must be 1 to 63 of a-z, 0-9 and '-'"),
                                ({'fs': 'ntfs'}, "there is no file system 'ntfs'"),
                                ({'size': 0}, "field 'size' must not be 0"),
                                ({'x': 1}, "unknown field 'x'"), ({'vm': {'y': 1}}, "vm: unknown field 'y'"),
                                ({'place': {'headroom_percent': 91}}, "place: field 'headroom_percent' must be at most 90")):
            path = caselib.write(good.file('wrong.json'), good.config | change) or good.file('wrong.json')
            p = caselib.run([caselib.program('coffer-scheduler'), '--config', path, '--listen-unix', '/x'], 2)
            assert p.stderr == f"coffer-scheduler: '{path}': the scheduler's configuration: {message}\n", p.stderr


def test_certificate_files():
    with caselib.folder() as folder:
        s = TlsScheduler(folder)
        command = [caselib.program('coffer-scheduler'), '--config', s.file('scheduler.json'), *s.flags]
        os.remove(s.file('tls.crt'))
        for text, message in ((None, "open '{}': No such file or directory"), ('', "'{}' is empty"),
                              ('x' * (256 << 10) + 'x', "'{}' is too long for a PEM file")):
            if text is not None:
                caselib.write(s.file('tls.crt'), text)
            p = caselib.run(command, 1)
            assert p.stderr.splitlines()[-1].endswith('error="' + message.format(s.file('tls.crt')) + '"'), p.stderr
        s.new_pair('other', 2)
        os.rename(s.file('other.crt'), s.file('tls.crt'))
        p = caselib.run(command, 1)
        assert f"""error="'{s.file('tls.key')}' {HALF} '{s.file('tls.crt')}'\"""" in p.stderr, p.stderr


def test_nothing_secret_is_logged():
    with running(flags=['--log-level', 'debug']) as s:
        d = device(s)
        body = s.deploy_body(d)
        challenge = s.challenge(d)
        expect(s.proved(d, 'POST', d.url + '/deploy', body, challenge), 202)
        s.wait(d, 'attached')
        s.locked(d)
        expect(s.mount(d), 202)
        s.wait(d, 'attached')
        s.stop()
        said = caselib.read(s.log)
        for text in (body['session'], body['wrappedKey'], body['commitment'], body['publicKey'], challenge[0], challenge[1].hex()):
            assert text[:40] not in said
        assert d.name in said


if __name__ == '__main__':
    sys.exit(main(tests_of(globals())))
