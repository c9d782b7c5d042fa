# SPDX-License-Identifier: Apache-2.0
"""The one endpoint of a Kubernetes API server that Vault's kubernetes login asks, over TLS: TokenReviewer(folder, authority)
answers POST /apis/authentication.k8s.io/v1/tokenreviews for the service account tokens that it issued. A token can be
revoked (as when its pod is deleted); it counts reviews, and can be told to fail. Only a real API server can
show more: projected tokens, their renewal on disk, RBAC of the reviewer (system:auth-delegator)."""
import http.server
import json
import ssl
import threading

from testpki import new_key, sign_jwt
from vaultsetup import service_account


class TokenReviewer:
    def __init__(self, folder, authority):
        certificate, key = authority.issue('kube-apiserver')
        self.key = f'{folder}/service-accounts.key'
        new_key(self.key, 'rsa')
        with open(authority.certificate, encoding='ascii') as f:
            self.ca_text = f.read()
        self.reviews, self.status, self.issued = 0, 201, {}
        self.reviewer_token = sign_jwt(self.key, service_account('vault', account='reviewer'))
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), self.handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.address = f'https://127.0.0.1:{self.server.server_address[1]}'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def issue(self, tenant, account='coffer', audience='vault'):
        """A token that reviews accept from now on."""
        claims = service_account(tenant, audience, account)
        token = sign_jwt(self.key, claims)
        self.issued[token] = claims
        return token

    def revoke(self, token):
        self.issued.pop(token, None)

    def review(self, spec):
        """The status of a TokenReview."""
        claims = self.issued.get(spec.get('token'))
        if claims is None:
            return {'authenticated': False, 'error': 'token is not known'}
        audiences = [a for a in spec.get('audiences') or claims['aud'] if a in claims['aud']]
        if not audiences:
            return {'authenticated': False, 'error': 'token audiences are not those of the request'}
        namespace = claims['kubernetes.io']['namespace']
        return {'authenticated': True, 'audiences': audiences, 'user': {
            'username': claims['sub'], 'uid': claims['kubernetes.io']['serviceaccount']['uid'],
            'groups': ['system:serviceaccounts', f'system:serviceaccounts:{namespace}', 'system:authenticated']}}

    def handler(reviewer):  # pylint: disable=no-self-argument
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def do_POST(self):  # pylint: disable=invalid-name
                asked = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
                reviewer.reviews += 1
                status, answer = reviewer.status, asked
                if self.path != '/apis/authentication.k8s.io/v1/tokenreviews':
                    status = 404
                elif self.headers['Authorization'] != f'Bearer {reviewer.reviewer_token}':
                    status = 401
                if status < 300:
                    answer['status'] = reviewer.review(asked['spec'])
                else:
                    answer = {'kind': 'Status', 'apiVersion': 'v1', 'status': 'Failure', 'code': status}
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header('Content-Type', 'application/json')
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass
        return Handler
