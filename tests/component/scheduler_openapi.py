#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-scheduler against its own OpenAPI document: the document is the one of the source, is 3.1 and has every route; and
schemathesis (from PyPI, pinned, kept in ~/.cache/coffer-schemathesis) finds no request whose answer isn't in it. TAP on stdout."""
import json
import os
import subprocess
import sys

import caselib
from schedulerlib import OAEP, Device, TlsScheduler, running

VERSION = '4.32.5'
CACHE = os.path.expanduser('~/.cache/coffer-schemathesis')
CASES = os.environ.get('COFFER_OPENAPI_CASES', '20')
DOCUMENT = os.path.join(caselib.ROOT, 'scheduler', 'openapi.json')


def schemathesis():
    """Its Python; a Skip when it can't be had."""
    folder = os.path.join(CACHE, VERSION)
    python = os.path.join(folder, 'bin', 'python3')
    if not os.path.exists(os.path.join(folder, 'complete')):
        os.makedirs(CACHE, exist_ok=True)
        for argv in ([sys.executable, '-m', 'venv', folder], [python, '-m', 'pip', 'install', '-q', f'schemathesis=={VERSION}']):
            p = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
            if p.returncode != 0:
                raise caselib.Skip(f'schemathesis {VERSION} can\'t be installed: {(p.stderr or p.stdout).strip().splitlines()[-1:]}')
        caselib.write(os.path.join(folder, 'complete'), '')
    return python


def test_the_document_is_the_sources():
    with running(TlsScheduler) as s:
        answer = s.ask('GET', '/v1/openapi.json')
        assert answer.status == 200 and answer.raw.decode() == caselib.read(DOCUMENT)
        assert answer['openapi'].startswith('3.1.')


def test_every_route_is_in_the_document():
    paths = json.loads(caselib.read(DOCUMENT))['paths']
    described = {f'{m.upper()} {p}' for p, item in paths.items() for m in item if m != 'parameters'}
    text = caselib.read(caselib.ROOT, 'scheduler', 'routes.c')
    rows = [line.split(',') for line in text.splitlines() if line.strip().startswith('{ DOOR_PUBLIC')]
    routes = {row[1].strip().strip('"') + ' ' + row[2].replace('CLOUD', '/v1/clouds/{name}').replace('"', '').replace(' ', '')
              for row in rows}
    assert described == routes and len(routes) > 9, described ^ routes


def probe(s, *flags, env=None):
    """schemathesis' own command on the running scheduler."""
    clean = {k: v for k, v in os.environ.items() if not k.lower().endswith('_proxy')}
    command = os.path.join(os.path.dirname(schemathesis()), 'schemathesis')
    p = subprocess.run([command, 'run', f'https://127.0.0.1:{s.port}/v1/openapi.json', '--tls-verify', s.file('tls.crt'), '--no-color',
                        '--max-examples', CASES, '--generation-deterministic', '--report-dir', s.file('report'),
                        *flags], capture_output=True, text=True, check=False, timeout=1500, cwd=s.folder, env=clean | (env or {}))
    shown = p.stdout.partition('= FAILURES =')[2] or p.stdout.partition('= ERRORS =')[2] or p.stderr or p.stdout
    assert p.returncode == 0, shown[:3000]
    assert ' 10 selected' in p.stdout, p.stdout
    print('# requests: ' + p.stdout.rpartition('Test cases:')[2].split('\n')[1].strip(), flush=True)
    assert s.process.poll() is None
    s.stop()


def test_requests_without_a_proof():
    """A random text isn't a key: that valid data are taken is not for every field to say in a schema."""
    schemathesis()
    with running(TlsScheduler) as s:
        probe(s, '--exclude-checks', 'positive_data_acceptance')


def test_requests_with_a_proof():
    """Values of our own stand for generated ones, so whether those were refused says nothing here."""
    schemathesis()
    with running(TlsScheduler) as s:
        d = Device(s.folder)
        body = s.deploy_body(d)
        caselib.write(s.file('device.json'), {
            'url': f'https://127.0.0.1:{s.port}', 'ca': s.file('tls.crt'), 'path': d.path, 'name': d.name, 'public_key': d.public_key,
            'algorithm': d.algorithm, 'oaep': OAEP[d.algorithm],
            'fields': body | {'newSession': body['session'], 'newServerKey': body['serverKey'], 'newCommitment': body['commitment'],
                              'name': d.name, 'newRecipients': [{'fingerprint': d.fingerprint, 'wrapped': d.wrapped()}]}})
        hooks = os.path.join(caselib.ROOT, 'tests', 'support')
        probe(s, '--phases', 'fuzzing', '--exclude-checks',
              'positive_data_acceptance,negative_data_rejection,ignored_auth,use_after_free,ensure_resource_availability',
              env={'SCHEMATHESIS_HOOKS': 'openapi_hooks', 'PYTHONPATH': hooks, 'COFFER_OPENAPI_DEVICE': s.file('device.json'),
                   'PYTHONDONTWRITEBYTECODE': '1'})


if __name__ == '__main__':
    sys.exit(caselib.main([test_the_document_is_the_sources, test_every_route_is_in_the_document, test_requests_without_a_proof,
                           test_requests_with_a_proof]))
