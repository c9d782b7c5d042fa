#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The proxy in front of users' VMs: Debian's nginx with dist/nginx/, two servers with TLS on loopback, sample VMs behind unix
sockets as coffer-launch makes them. Only paths, ports and names of the example differ."""
import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
import warnings

import caselib
from caselib import PATIENCE, ROOT, Skip, read, run, write

ONE, TWO, NONE = '0123456789abcdef0123456789abcdef', 'f' * 32, 'a' * 32
NGINX = shutil.which('nginx') or '/usr/sbin/nginx'
HELLO = {'Connection': 'Upgrade', 'Upgrade': 'websocket', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==', 'Sec-WebSocket-Version': '13'}


# ---- what runs ----

def free_ports(count):
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in found:
            s.bind(('127.0.0.1', 0))
        return [s.getsockname()[1] for s in found]


def installed_configuration(folder, page, clouds):
    """dist/nginx/ with this test's own names for what the example leaves to an administrator, and for what is below /run."""
    names = {'/usr/share/coffer/nginx': folder, '/usr/share/coffer/web': f'{folder}/web', '/run/coffer/vms': f'{folder}/vms',
             '/run/coffer/scheduler/http.sock': f'{folder}/http.sock', 'listen 443 ssl http2': f'listen 127.0.0.1:{page} ssl http2',
             'listen 443 ssl': f'listen 127.0.0.1:{clouds} ssl'}
    for name in os.listdir(f'{ROOT}/dist/nginx'):
        text = read(ROOT, 'dist/nginx', name)
        for old, new in names.items():
            text = text.replace(old, new)
        write(f'{folder}/{name}', re.sub(r'/etc/coffer/tls/\w+\.(crt|key)', rf'{folder}/tls.\1', text))
    log = f'error_log {folder}/error.log;\npid {folder}/nginx.pid;\n'
    write(f'{folder}/nginx.conf', f'{"user root;" if os.geteuid() == 0 else ""}\n{log}events {{}}\nhttp {{ access_log off;\n'
          # as nginx.conf of Debian may have them: the servers say otherwise
          + 'server_tokens on;\nssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;\nssl_ciphers DEFAULT@SECLEVEL=0;\n'
          + ''.join(f'{kind}_temp_path {folder}/temp;\n' for kind in ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'))
          + f'include {folder}/coffer.conf; }}\n')


@contextlib.contextmanager
def process(*command, **more):
    child = subprocess.Popen(command, **more)
    try:
        yield child
    finally:
        child.terminate()
        child.wait(PATIENCE)


@contextlib.contextmanager
def vm(folder, cloud):
    """The sample VM with a listening socket as descriptor 3, as coffer-launch starts it."""
    path = f'{folder}/vms/{cloud}.sock'
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        start = f'exec 3<&{listening.fileno()}; LISTEN_PID=$$ exec node {ROOT}/vm/server.mjs'
        environment = {'PATH': os.environ['PATH'], 'LISTEN_FDS': '1', 'DATA_FOLDER': f'{folder}/{cloud}',
                       'VM_URL_PREFIX': f'/clouds/{cloud}/'}
        with process('sh', '-c', start, env=environment, pass_fds=[listening.fileno()]):
            yield


class Proxy:
    def __init__(self, folder, page, clouds):
        self.folder, self.page, self.clouds = folder, page, clouds

    def ask(self, path, method='GET', body=b'', headers=None, port=None):
        """(status, headers with lower-case names, body) of one request, sent exactly as it stands here."""
        with self.connect(port) as s:
            more = ''.join(f'{k}: {v}\r\n' for k, v in {'Host': 'clouds.example.com', 'Connection': 'close', **(headers or {})}.items())
            s.sendall(f'{method} {path} HTTP/1.1\r\n{more}Content-Length: {len(body)}\r\n\r\n'.encode() + body)
            data = b''
            while chunk := s.recv(65536):
                data += chunk
        return answer_of(data)

    def connect(self, port=None):
        context = ssl.create_default_context(cafile=f'{self.folder}/tls.crt')
        s = socket.create_connection(('127.0.0.1', port or self.clouds), PATIENCE)
        return context.wrap_socket(s, server_hostname='clouds.example.com')

    def ready(self, path):
        end = time.monotonic() + PATIENCE
        while self.ask(path)[0] != 200:
            assert time.monotonic() < end, f'{path} does not answer'
            time.sleep(0.05)


def answer_of(data):
    head, _, body = data.partition(b'\r\n\r\n')
    lines = head.decode().split('\r\n')
    headers = dict(line.split(': ', 1) for line in lines[1:])
    headers = {name.lower(): value for name, value in headers.items()}
    if headers.get('transfer-encoding') == 'chunked':
        whole, body = body, b''
        while whole:
            size, _, rest = whole.partition(b'\r\n')
            body, whole = body + rest[:int(size, 16)], rest[int(size, 16) + 2:]
    return int(lines[0].split()[1]), headers, body


@contextlib.contextmanager
def proxy():
    if not os.path.exists(NGINX) or shutil.which('node') is None:
        raise Skip('there is no nginx or no Node.js on this machine')
    with caselib.folder() as folder:
        for name in ('vms', 'web', 'temp'):
            os.mkdir(f'{folder}/{name}')
        os.chmod(folder, 0o755)
        write(f'{folder}/web/index.html', '<!doctype html>')
        run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', f'{folder}/tls.key', '-out',
             f'{folder}/tls.crt', '-days', '1', '-subj', '/CN=clouds.example.com', '-addext',
             'subjectAltName=DNS:clouds.example.com,DNS:coffer.example.com'])
        page, clouds = free_ports(2)
        installed_configuration(folder, page, clouds)
        command = [NGINX, '-e', f'{folder}/error.log', '-p', folder, '-c', f'{folder}/nginx.conf', '-g', 'daemon off;']
        run([*command[:-2], '-t'])
        with process(*command):
            p = Proxy(folder, page, clouds)
            wait_for(clouds)
            yield p


def wait_for(port):
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(('127.0.0.1', port), PATIENCE).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < end, 'nginx does not listen'
            time.sleep(0.05)


def code_of(body):
    return json.loads(body)['error']['code']


# ---- tests ----

def test_the_prefix_is_stripped_and_the_rest_stays_as_it_was(p):
    with vm(p.folder, ONE):
        p.ready(f'/clouds/{ONE}/personalcloud/')
        root = f'/clouds/{ONE}/personalcloud'
        assert p.ask(f'{root}/db', 'PUT')[0] == 201
        assert p.ask(f'{root}/db/a%2Fb%20c', 'PUT', b'{"text": "one"}')[0] == 201
        status, _, body = p.ask(f'{root}/db/a%2Fb%20c?rev=x')
        assert (status, json.loads(body)['_id']) == (200, 'a/b c')
        assert json.loads(p.ask(f'{root}/db/_all_docs?include_docs=true&limit=1')[2])['rows'][0]['doc']['text'] == 'one'
        assert os.listdir(f'{p.folder}/{ONE}') == ['db']


def test_two_clouds_have_two_sockets(p):
    with vm(p.folder, ONE), vm(p.folder, TWO):
        for cloud in (ONE, TWO):
            p.ready(f'/clouds/{cloud}/personalcloud/')
            assert p.ask(f'/clouds/{cloud}/personalcloud/db{cloud[:1] if cloud[0].isalpha() else "zero"}', 'PUT')[0] == 201
        assert json.loads(p.ask(f'/clouds/{ONE}/personalcloud/_all_dbs')[2]) == ['dbzero']
        assert json.loads(p.ask(f'/clouds/{TWO}/personalcloud/_all_dbs')[2]) == ['dbf']


def test_what_is_no_cloud_is_not_found(p):
    with vm(p.folder, ONE):
        p.ready(f'/clouds/{ONE}/personalcloud/')
        for path in ('/', '/clouds/', f'/clouds/{ONE[:31]}/x', f'/clouds/{ONE}0/x', f'/clouds/{ONE.upper()}/x', f'/clouds/{ONE}',
                     '/index.html', f'/clouds/../clouds/{ONE}/personalcloud/', f'//clouds/{ONE}/personalcloud/', f'/clouds/{ONE}%2e/x',
                     '/clouds/%2e%2e/x',
                     f'/clouds/%30{ONE[1:]}/personalcloud/', '/v1/clouds/x', f'/clouds/..%2f{ONE}/x'):
            status, _, body = p.ask(path)
            assert status == 404 and code_of(body) == 'not_found', (path, status, body)


def test_a_path_that_leads_elsewhere_stays_with_its_cloud(p):
    """The socket is that of the digits that were sent, whatever nginx makes of the path."""
    with vm(p.folder, ONE), vm(p.folder, TWO):
        for cloud in (ONE, TWO):
            p.ready(f'/clouds/{cloud}/personalcloud/')
        assert p.ask(f'/clouds/{TWO}/personalcloud/two', 'PUT')[0] == 201
        assert b'two' not in p.ask(f'/clouds/{ONE}/../{TWO}/personalcloud/_all_dbs')[2]


def test_no_socket_and_nobody_behind_it(p):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f'{p.folder}/vms/{TWO}.sock')  # left by a killed VM: nobody listens
        for cloud in (NONE, TWO):
            status, headers, body = p.ask(f'/clouds/{cloud}/personalcloud/')
            assert (status, code_of(body), headers['content-type']) == (503, 'unavailable', 'application/json'), (status, body)
            assert headers['retry-after'] == '2'


def test_it_comes_and_goes_without_a_reload(p):
    path = f'/clouds/{ONE}/personalcloud/'
    assert p.ask(path)[0] == 503
    with vm(p.folder, ONE):
        p.ready(path)
    assert p.ask(path)[0] == 503
    with vm(p.folder, ONE):
        p.ready(path)


def test_a_websocket(p):
    with vm(p.folder, ONE):
        p.ready(f'/clouds/{ONE}/personalcloud/')
        with p.connect() as s:
            lines = ''.join(f'{k}: {v}\r\n' for k, v in {'Host': 'clouds.example.com', **HELLO}.items())
            s.sendall(f'GET /clouds/{ONE}/personalcloud/_echo HTTP/1.1\r\n{lines}\r\n'.encode())
            data = b''
            while b'\r\n\r\n' not in data:
                data += s.recv(4096)
            assert data.startswith(b'HTTP/1.1 101'), data
            for _ in range(3):
                s.sendall(bytes([0x81, 0x82, 1, 2, 3, 4, ord('h') ^ 1, ord('i') ^ 2]))
                assert s.recv(4096) == b'\x81\x02hi'


def test_a_body_that_is_too_large(p):
    with vm(p.folder, ONE):
        p.ready(f'/clouds/{ONE}/personalcloud/')
        with p.connect() as s:  # refused by what it says of itself: none of it is sent
            head = f'PUT /clouds/{ONE}/personalcloud/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {17 << 20}\r\n\r\n'
            s.sendall(head.encode())
            data = b''
            while chunk := s.recv(65536):
                data += chunk
        status, _, body = answer_of(data)
        assert (status, code_of(body)) == (413, 'too_large')
        assert not os.listdir(f'{p.folder}/temp')


def test_too_many_connections_to_one_vm(p):
    """64 are served; the next is told so, and another is served once one of them has gone."""
    with vm(p.folder, ONE), contextlib.ExitStack() as stack:
        p.ready(f'/clouds/{ONE}/personalcloud/')
        root = f'/clouds/{ONE}/personalcloud'
        assert p.ask(f'{root}/db', 'PUT')[0] == 201
        lines = ''.join(f'{k}: {v}\r\n' for k, v in {'Host': 'x', **HELLO}.items())
        held = []
        for _ in range(64):
            s = stack.enter_context(p.connect())
            s.sendall(f'GET {root}/_echo HTTP/1.1\r\n{lines}\r\n'.encode())
            assert s.recv(4096).startswith(b'HTTP/1.1 101')
            held.append(s)
        status, _, body = p.ask(f'{root}/')
        assert (status, code_of(body)) == (429, 'too_many'), (status, body)
        held[0].close()
        p.ready(f'{root}/')


def test_a_vm_can_not_speak_for_the_origin(p):
    """What it says of cookies, frames and the whole origin is taken away; the browser is told to keep its pages apart."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f'{p.folder}/vms/{ONE}.sock')
        listening.listen()
        listening.settimeout(PATIENCE)
        with p.connect() as s:
            s.sendall(f'GET /clouds/{ONE}/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'.encode())
            peer, _ = listening.accept()
            with peer:
                asked = peer.recv(65536).decode()
                peer.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=b\r\nContent-Security-Policy: default-src *\r\n'
                             b'Clear-Site-Data: "*"\r\nService-Worker-Allowed: /\r\nStrict-Transport-Security: max-age=0\r\n'
                             b'Report-To: {"group": "g", "max_age": 9, "endpoints": [{"url": "https://x.example/"}]}\r\n'
                             b'NEL: {"report_to": "g", "max_age": 9, "success_fraction": 1}\r\nAlt-Svc: h2="x.example:443"\r\n\r\nok')
            data = b''
            while chunk := s.recv(65536):
                data += chunk
    status, headers, body = answer_of(data)
    assert (status, body) == (200, b'ok') and asked.startswith('GET /x HTTP/1.1\r\n'), (data, asked)
    assert data.count(b'Content-Security-Policy') == 1 and headers['content-security-policy'].startswith('sandbox ')
    assert 'allow-same-origin' not in headers['content-security-policy']
    assert headers['strict-transport-security'] == 'max-age=31536000'
    for name in ('set-cookie', 'clear-site-data', 'service-worker-allowed', 'report-to', 'nel', 'alt-svc'):
        assert name not in headers, headers
    assert f'X-Forwarded-Prefix: /clouds/{ONE}\r\n' in asked and 'X-Forwarded-For: 127.0.0.1\r\n' in asked, asked


def test_page_and_api_are_another_origin(p):
    with vm(p.folder, ONE), socket.socket(socket.AF_UNIX) as api:
        status, headers, body = p.ask('/', port=p.page)
        assert (status, body, headers['content-type']) == (200, b'<!doctype html>', 'text/html')
        policy = headers['content-security-policy']
        assert "default-src 'none'" in policy and "connect-src 'self';" in policy
        assert p.ask(f'/clouds/{ONE}/personalcloud/', port=p.page)[0] == 404
        assert p.ask('/', 'POST', b'x', port=p.page)[0] == 403
        status, _, body = p.ask('/v1/openapi.json', port=p.page)
        assert (status, code_of(body)) == (503, 'unavailable')
        api.bind(f'{p.folder}/http.sock')
        api.listen()
        api.settimeout(PATIENCE)
        with p.connect(p.page) as s:
            s.sendall(b'POST /v1/clouds/%41?x=%2F HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCoffer-Proof: a b\r\n'
                      b'Content-Length: 2\r\n\r\n{}')
            peer, _ = api.accept()
            with peer:
                asked = peer.recv(65536).decode()
                peer.sendall(b'HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n')
            assert s.recv(65536).startswith(b'HTTP/1.1 202')
        assert asked.startswith('POST /v1/clouds/%41?x=%2F HTTP/1.') and 'Coffer-Proof: a b\r\n' in asked, asked
        status, _, body = p.ask('/v1/clouds/x', 'POST', b'x' * 17000, port=p.page)
        assert (status, code_of(body)) == (413, 'too_large')


def test_old_tls_is_refused_whatever_nginx_conf_has(p):
    for port in (p.page, p.clouds):
        for version, taken in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
            context = ssl.create_default_context(cafile=f'{p.folder}/tls.crt')
            context.set_ciphers('DEFAULT@SECLEVEL=0')
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', DeprecationWarning)
                context.minimum_version = context.maximum_version = version
            with contextlib.closing(socket.create_connection(('127.0.0.1', port), PATIENCE)) as s:
                try:
                    context.wrap_socket(s, server_hostname='clouds.example.com').close()
                except ssl.SSLError as e:
                    assert not taken and 'PROTOCOL_VERSION' in e.reason, (port, version, e)
                else:
                    assert taken, (port, version)


TESTS = [test for name, test in sorted(globals().items()) if name.startswith('test_')]

if __name__ == '__main__':
    sys.exit(caselib.main(TESTS, proxy))
