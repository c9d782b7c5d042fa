# SPDX-License-Identifier: Apache-2.0
"""A reverse proxy in front of the real Vault that can be told to misbehave, and counts: what a load balancer, a standby, a
broken network or a hostile server would do to a client. It ends TLS with a certificate of the tests' authority.

    with FaultProxy(vault) as front:                    clients use front.address and vault.ca
        rule = front.rule(status(503, 'Vault is sealed'), path='transit/decrypt/*', times=2)
        …                                               rule.hits: how often it was used; front.clear() ends all rules
        front.connections, front.open_now, front.open_most, front.requests

What no rule is for goes to Vault and back unchanged; when Vault is down, 502. The first rule that fits is used, `times` times
(None: for ever). Actions are made by the functions below; some ask Vault first, so what was asked has happened there.
HTTP/1.1 only. A client's certificate doesn't go through: auth/cert needs the server itself."""
import fnmatch
import http.client
import http.server
import json
import socket
import ssl
import struct
import threading
import traceback
import urllib.parse

HOP_BY_HOP = ('connection', 'keep-alive', 'transfer-encoding', 'content-length', 'te', 'trailer', 'upgrade')


# ---- actions: functions of the exchange (see class Exchange)

def status(number, *errors, headers=(), body=None):
    """Vault isn't asked: this status, with errors as Vault writes them, or with this body (bytes). 429: headers=[('Retry-After', '1')]"""
    content = body if body is not None else json.dumps({'errors': list(errors)}).encode()
    return lambda x: x.answer(number, [('Content-Type', 'application/json'), *headers], content)


def redirect(to, number=307):
    """As a standby that doesn't forward: the same path at another address (https://host:port)."""
    return lambda x: x.answer(number, [('Location', to.rstrip('/') + x.path)], b'')


def late(seconds):
    """Vault's own answer, held back so long."""
    def act(x):
        answer = x.ask_vault()
        x.front.pause(seconds)
        x.answer(*answer)
    return act


def drip(seconds, size=1):
    """Vault's own answer, so many bytes at a time with a pause between them."""
    def act(x):
        wire = x.bytes_of(*x.ask_vault())
        for at in range(0, len(wire), size):
            x.wfile.write(wire[at:at + size])
            x.front.pause(seconds)
    return act


def cut(share=0.5, reset=False):
    """Vault's own answer up to this share of its body (0: not even its first line), then the connection ends, by FIN or by RST."""
    def act(x):
        number, headers, body = x.ask_vault()
        wire = x.bytes_of(number, headers, body)
        keep = len(wire) - len(body) + int(len(body) * share) if share else 0
        x.wfile.write(wire[:keep])
        x.hang_up(reset)
    return act


def edited(change):
    """Vault's own answer with its body changed by change(bytes); the length is right."""
    def act(x):
        number, headers, body = x.ask_vault()
        x.answer(number, headers, change(body))
    return act


def malformed():
    """JSON that ends too early."""
    return edited(lambda body: body[:-2])


def duplicated(key='plaintext', value='AAAA'):
    """A second `key` in front of all in "data", and a second "data"."""
    extra = json.dumps({key: value})[1:-1].encode()
    return edited(lambda body: body.replace(b'"data":{', b'"data":{' + extra + b',', 1).replace(b'{', b'{"data":{' + extra + b'},', 1))


def huge(size=64 << 20, announced=True):
    """200 with a valid JSON body of so many bytes, sent until the client goes away. announced: with its Content-Length."""
    def act(x):
        x.send_response(200)
        x.send_header('Content-Type', 'application/json')
        x.send_header(*(('Content-Length', str(size)) if announced else ('Connection', 'close')))
        x.end_headers()
        x.close_connection = True
        start, end, block = b'{"data":{"plaintext":"', b'"}}', b'A' * 65536
        x.wfile.write(start)
        left = size - len(start) - len(end)
        while left > 0:
            x.wfile.write(block[:left])
            left -= len(block)
        x.wfile.write(end)
    return act


def wrong_length(by):
    """Vault's own answer with a Content-Length that is `by` too large (then the connection ends), or too small (by < 0)."""
    def act(x):
        number, headers, body = x.ask_vault()
        x.wfile.write(x.bytes_of(number, headers, body, len(body) + by))
        x.hang_up()
    return act


# ---- the proxy

class Rule:
    def __init__(self, action, path, method, times):
        self.action, self.path, self.method, self.times, self.hits = action, path, method, times, 0

    def fits(self, method, path):
        return (self.times is None or self.hits < self.times) and self.method in ('*', method) and \
            fnmatch.fnmatchcase(path, self.path)


class Exchange(http.server.BaseHTTPRequestHandler):
    """One connection of a client, request after request. What actions use: path, answer(), ask_vault(), bytes_of(), hang_up()."""
    protocol_version = 'HTTP/1.1'
    front = None  # set in a subclass

    def setup(self):
        self.upstream, self.body = None, b''
        super().setup()

    def handle_any(self):
        self.body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        path = urllib.parse.urlsplit(self.path).path.removeprefix('/v1/')
        rule = self.front.take(self.command, path)
        if rule:
            rule.action(self)
        else:
            self.answer(*self.ask_vault())

    do_GET = do_POST = do_PUT = do_DELETE = do_LIST = do_PATCH = handle_any  # the names that the base class calls

    def ask_vault(self):
        """(status, headers, body) from Vault; 502 when it doesn't answer."""
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP and name.lower() != 'host'}
        for fresh in (False, True):
            try:
                if self.upstream is None or fresh:
                    self.upstream = self.front.connect()
                self.upstream.request(self.command, self.path, self.body or None, headers)
                reply = self.upstream.getresponse()
                return reply.status, reply.getheaders(), reply.read()
            except (OSError, http.client.HTTPException):
                self.forget_vault()  # it had closed an idle connection, or it is down
        return 502, [('Content-Type', 'text/html')], b'<html><body><h1>502 Bad Gateway</h1></body></html>'

    def bytes_of(self, number, headers, body, length=None):
        kept = ''.join(f'{name}: {value}\r\n' for name, value in headers if name.lower() not in HOP_BY_HOP)
        phrase = http.client.responses.get(number, 'Other')
        return f'HTTP/1.1 {number} {phrase}\r\n{kept}Content-Length: {len(body) if length is None else length}\r\n\r\n'.encode() + body

    def answer(self, number, headers, body):
        self.wfile.write(self.bytes_of(number, headers, body))

    def hang_up(self, reset=False):
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.close_connection = True

    def forget_vault(self):
        if self.upstream:
            self.upstream.close()
        self.upstream = None

    def finish(self):
        self.forget_vault()
        super().finish()

    def log_message(self, *_):
        pass


class Listener(http.server.ThreadingHTTPServer):
    """TLS is negotiated in the connection's own thread: a slow client holds up nobody."""
    daemon_threads = True
    request_queue_size = 256
    front = context = None

    def finish_request(self, request, client_address):
        if not self.front.admit(request):
            return
        try:
            with self.context.wrap_socket(request, server_side=True) as tls, self.front.counted(tls):
                super().finish_request(tls, client_address)
        except OSError:
            pass  # the client went away, or doesn't trust us

    def handle_error(self, request, client_address):
        """An action that raised: what came of it must not pass for the fault that was meant."""
        self.front.broken.append(traceback.format_exc())

    def shutdown_request(self, request):
        """wrap_socket has taken the descriptor and the with statement closed it."""
        self.close_request(request)


class FaultProxy:
    """In front of `vault` (vaultserver.Server or .Foreign). All methods may be called while clients are connected."""

    def __init__(self, vault, issued=None):
        """issued: (certificate, key) paths to show; by default a good certificate of the vault's authority."""
        self.vault, self.lock, self.over = vault, threading.Lock(), threading.Event()
        self.rules, self.at_connect, self.live, self.broken = [], [], set(), []
        self.connections = self.open_most = self.requests = 0
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*(issued or vault.authority.issue('proxy')))
        self.listener = Listener(('127.0.0.1', 0), type('Handler', (Exchange,), {'front': self}))
        self.listener.front, self.listener.context = self, context
        self.address = f'https://127.0.0.1:{self.listener.server_address[1]}'
        threading.Thread(target=self.listener.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.over.set()
        self.listener.shutdown()
        self.listener.server_close()
        self.drop()

    # ---- for the story

    def rule(self, action, path='*', method='*', times=None):
        """path: a pattern below /v1/."""
        rule = Rule(action, path, method, times)
        with self.lock:
            self.rules.append(rule)
        return rule

    def at_next_connection(self, what, times=1):
        """'stall': TCP is accepted and then nothing happens; 'reset': RST instead of TLS."""
        with self.lock:
            self.at_connect += [{'stall': self.stall, 'reset': reset}[what]] * times

    def clear(self):
        with self.lock:
            self.rules, self.at_connect = [], []

    def drop(self):
        """Ends every connection that is open now."""
        with self.lock:
            for tls in self.live:
                try:
                    tls.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    @property
    def open_now(self):
        with self.lock:
            return len(self.live)

    def reset_counts(self):
        with self.lock:
            self.connections, self.requests, self.open_most = 0, 0, len(self.live)

    # ---- for the connections' threads

    def take(self, method, path):
        """The rule for this request, counted."""
        with self.lock:
            self.requests += 1
            for rule in self.rules:
                if rule.fits(method, path):
                    rule.hits += 1
                    return rule
        return None

    def admit(self, request):
        with self.lock:
            act = self.at_connect.pop(0) if self.at_connect else None
        if act:
            act(request)
        return act is None

    def stall(self, _):
        self.pause(3600)

    def pause(self, seconds):
        """Not longer than the proxy lives."""
        self.over.wait(seconds)

    def counted(self, tls):
        return Counted(self, tls)

    def connect(self):
        """A connection to Vault, whatever certificate it shows just now; OSError when there is none."""
        api = self.vault.root.as_()
        api.connect()
        return api.connection


class Counted:
    """A TLS connection, from the end of the handshake on."""

    def __init__(self, front, tls):
        self.front, self.tls = front, tls

    def __enter__(self):
        with self.front.lock:
            self.front.live.add(self.tls)
            self.front.connections += 1
            self.front.open_most = max(self.front.open_most, len(self.front.live))

    def __exit__(self, *_):
        with self.front.lock:
            self.front.live.discard(self.tls)


def reset(request):
    request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
