# SPDX-License-Identifier: Apache-2.0
"""openapi_hooks.py: what schemathesis is told beside the OpenAPI document (tests/component/scheduler_openapi.py): each request is
proved by a device's key, and some values are ones that get further than random ones. COFFER_OPENAPI_DEVICE: a JSON file."""
import base64
import hashlib
import hmac
import json
import os
import subprocess

import requests
import requests.auth
import schemathesis

with open(os.environ['COFFER_OPENAPI_DEVICE'], encoding='utf-8') as _f:
    DEVICE = json.load(_f)
SESSION = requests.Session()
SESSION.verify, SESSION.trust_env = DEVICE['ca'], False


class Proof(requests.auth.AuthBase):
    """The header of whatever is sent, by a challenge of its own."""

    def __call__(self, request):
        asked = {'publicKey': DEVICE['public_key'], 'algorithm': DEVICE['algorithm']}
        answer = SESSION.post(DEVICE['url'] + '/v1/challenges', json=asked).json()
        secret = subprocess.run(['openssl', 'pkeyutl', '-decrypt', '-inkey', DEVICE['path'], *DEVICE['oaep']], check=True,
                                stdout=subprocess.PIPE, input=base64.b64decode(answer['secret'])).stdout
        body = request.body or b''
        body = body.encode() if isinstance(body, str) else body
        text = f'coffer/v1 proof\n{request.method}\n{request.path_url.partition("?")[0]}\n{hashlib.sha256(body).hexdigest()}\n'
        request.headers['Coffer-Proof'] = f'{answer["challenge"]} {hmac.new(secret, text.encode(), "sha256").hexdigest()}'
        return request


schemathesis.auth.set_from_requests(Proof())


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Every request is of our device: another's is 403 alone."""
    if path_parameters and 'name' in path_parameters:
        path_parameters['name'] = DEVICE['name']
    return path_parameters


@schemathesis.hook
def map_body(context, body):
    """Half of the bodies have what our device would send."""
    if isinstance(body, dict) and len(json.dumps(body, default=str)) % 2:
        for key in body.keys() & DEVICE['fields'].keys():
            body[key] = DEVICE['fields'][key]
    return body
