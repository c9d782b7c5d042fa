# SPDX-License-Identifier: Apache-2.0
"""What the tests of deploy/ share: the objects of the manifests and of the chart, read as a cluster would, and their pods."""
import functools
import json
import os
import subprocess

import caselib

try:
    import yaml
except ImportError:  # said by whoever needs it
    yaml = None

DEPLOY = os.path.join(caselib.ROOT, 'deploy')
BASE, CHART = os.path.join(DEPLOY, 'kustomize/base'), os.path.join(DEPLOY, 'chart')
OURS = ('coffer-node', 'coffer-controller', 'coffer-keyd')
OLD, NEW = '1.34.0', '1.36.0'  # Kubernetes before and with serviceAccountTokenInSecrets


def need_yaml():
    if yaml is None:
        raise caselib.Skip('no PyYAML: Debian has it as python3-yaml')


@functools.cache
def helm():
    """The program, built from pinned Go modules by e2e/helm/build.sh; COFFER_HELM=build (make test) waits for that."""
    command = [os.path.join(caselib.ROOT, 'e2e/helm/build.sh')] + ['--cached'] * (os.environ.get('COFFER_HELM') != 'build')
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode == 77:
        raise caselib.Skip(done.stdout.strip())
    assert done.returncode == 0, done
    return done.stdout.strip()


def key_of(obj):
    return obj['kind'], obj['metadata']['name']


def documents(text):
    return [obj for obj in yaml.safe_load_all(text) if obj]


def pod_of(obj):
    return obj['spec']['template']['spec'] if obj['kind'] in ('DaemonSet', 'Deployment') else None


def by_key(objects):
    """{(kind, name): object}, without what only says how it was made, lists of named volumes in one order."""
    found = {}
    for obj in objects:
        assert key_of(obj) not in found, f'{key_of(obj)} is there twice'
        if pod := pod_of(obj):
            pod['volumes'].sort(key=lambda volume: volume['name'])
            obj['spec']['template']['metadata']['annotations'].pop('checksum/config', None)
        if 'config.json' in obj.get('data', {}):
            obj['data']['config.json'] = json.loads(obj['data']['config.json'])
        found[key_of(obj)] = obj
    return found


def base_objects():
    """deploy/kustomize/base, as kustomize puts it together: the listed files, and a ConfigMap from config.json."""
    need_yaml()
    wanted = documents(caselib.read(BASE, 'kustomization.yaml'))[0]
    objects = [obj for name in wanted['resources'] for obj in documents(caselib.read(BASE, name))]
    for made in wanted['configMapGenerator']:
        objects.append({'apiVersion': 'v1', 'kind': 'ConfigMap',
                        'metadata': {'name': made['name'], 'namespace': wanted['namespace'],
                                     'labels': wanted['generatorOptions']['labels']},
                        'data': {name: caselib.read(BASE, name) for name in made['files']}})
    return by_key(objects)


def scheduler_objects():
    """The component `scheduler` and the clouds' namespace."""
    need_yaml()
    folders = [os.path.join(DEPLOY, 'kustomize', name) for name in ('components/scheduler', 'clouds')]
    return by_key(obj for folder in folders for name in documents(caselib.read(folder, 'kustomization.yaml'))[0]['resources']
                  for obj in documents(caselib.read(folder, name)))


def template(*more, version=OLD, code=0):
    """`helm template` as a finished process."""
    return caselib.run([helm(), 'template', 'coffer', CHART, '--namespace', 'coffer', '--kube-version', version, *more], code,
                       env=dict(os.environ, HELM_NO_PLUGINS='1'))


def chart_objects(*more, version=OLD):
    need_yaml()
    return by_key(documents(template(*more, version=version).stdout))


def pods(objects):
    """(the workload's name, pod spec), each."""
    return [(obj['metadata']['name'], pod) for obj in objects.values() if (pod := pod_of(obj))]


def containers(objects):
    """(the workload's name, container), each."""
    return [(name, c) for name, pod in pods(objects) for c in pod.get('initContainers', []) + pod['containers']]
