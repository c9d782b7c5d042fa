# SPDX-License-Identifier: Apache-2.0
"""Vault's HTTP API for the tests: Api(address, ca, token).request(method, path, body) answers with status and data whatever
the status; call() insists on success. Paths are those below /v1/. One kept connection per Api, so one thread per Api."""
import http.client
import json
import ssl
import time
import urllib.parse

from httpanswer import HttpAnswer

SECONDS = 120  # a busy machine; nothing is measured by it


class VaultError(Exception):
    """Vault answered with a status that call() doesn't take; .answer has all of it."""

    def __init__(self, method, path, answer):
        super().__init__(f'{method} {path}: {answer}')
        self.answer = answer


class Answer(HttpAnswer):
    @property
    def data(self):
        return self.body.get('data') or {}

    @property
    def errors(self):
        return ' '.join(' '.join(self.body.get('errors') or []).split())

    def __str__(self):
        return f'{self.status} {self.errors}'.strip()


class Api:
    def __init__(self, address, ca=None, token=None, namespace=None, client=None, pinned=None):
        """ca: file of the certificates to trust (None: the system's); pinned: trust exactly the certificate in that file, whatever
        its name and dates; client: (certificate, key) to show to auth/cert."""
        parts = urllib.parse.urlsplit(address)
        if parts.scheme != 'https':
            raise ValueError(f'{address}: only https is spoken here')
        self.address, self.ca, self.token, self.namespace = address.rstrip('/'), ca, token, namespace
        self.client, self.pinned, self.connection = client, pinned, None
        self.host, self.port = parts.hostname, parts.port or 443

    def as_(self, token=None, client=None):
        """The same server with another token, or without one, over a connection of its own."""
        return Api(self.address, self.ca, token, self.namespace, client, self.pinned)

    def connect(self):
        context = ssl.create_default_context(cafile=self.ca)
        if self.pinned:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.client:
            context.load_cert_chain(*self.client)
        self.connection = http.client.HTTPSConnection(self.host, self.port, timeout=SECONDS, context=context)
        self.connection.connect()
        if self.pinned:
            with open(self.pinned, encoding='ascii') as f:
                wanted = ssl.PEM_cert_to_DER_cert(f.read())
            if self.connection.sock.getpeercert(True) != wanted:
                raise ssl.SSLCertVerificationError(f'{self.address} shows another certificate than {self.pinned}')

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def request(self, method, path, body=None, token=None, namespace=None, headers=()):
        """Any status is an answer; no answer is OSError or http.client.HTTPException. body: a dict, or bytes as they are."""
        sent = {'X-Vault-Request': 'true', **dict(headers)}
        if token := token or self.token:
            sent['X-Vault-Token'] = token
        if namespace := namespace or self.namespace:
            sent['X-Vault-Namespace'] = namespace
        if body is not None:
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent.setdefault('Content-Type', 'application/json')
        kept = self.connection is not None
        try:
            return self.exchange(method, '/v1/' + path.lstrip('/'), body, sent)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            if not kept:
                raise
            return self.exchange(method, '/v1/' + path.lstrip('/'), body, sent)  # the server had closed an idle connection

    def exchange(self, method, path, body, headers):
        try:
            if self.connection is None:
                self.connect()
            self.connection.request(method, path, body, headers)
            reply = self.connection.getresponse()
            raw = reply.read()
        except BaseException:
            self.close()
            raise
        return Answer.of(reply, raw)

    def call(self, method, path, body=None, expect=(200, 204), **options):
        answer = self.request(method, path, body, **options)
        if answer.status not in expect:
            raise VaultError(method, path, answer)
        return answer

    def health(self):
        """Status of sys/health: 200 active, 429 standby, 501 not initialised, 503 sealed."""
        return self.request('GET', 'sys/health').status

    def version(self):
        return self.request('GET', 'sys/health').body.get('version', '?')

    def wait_healthy(self, wanted=200, seconds=120):
        """Until sys/health answers so; a server that has just been started or unsealed takes a moment."""
        end, last = time.monotonic() + seconds, None
        while time.monotonic() < end:
            try:
                last = self.health()
            except OSError as e:
                last = e
            if last == wanted:
                return
            time.sleep(0.05)
        raise TimeoutError(f'{self.address}: sys/health says {last} after {seconds} s, not {wanted}')
