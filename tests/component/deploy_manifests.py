#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""deploy/kustomize and the chart's default objects, read without a cluster: what they grant, how their containers are confined,
flags and images that exist, a configuration that is right. TAP on stdout, no root."""
import json
import os
import re
import shutil
import sys

import caselib
import deploylib
from caselib import Skip, program
from deploylib import OURS, base_objects, containers, pods

KUBECTL = shutil.which('kubectl')


def no_object_grants_secrets():
    roles = [obj for (kind, _), obj in base_objects().items() if kind in ('Role', 'ClusterRole')]
    assert len(roles) == 3
    for role in roles:
        for rule in role['rules']:
            for field in ('apiGroups', 'resources', 'verbs'):
                assert '*' not in rule[field], role
            assert not set(rule['resources']) & {'secrets', 'serviceaccounts', 'serviceaccounts/token', 'nodes', 'pods/exec'}, rule
            assert not set(rule['verbs']) & {'impersonate', 'escalate', 'bind', 'deletecollection'}, rule


def every_binding_is_ours():
    objects = base_objects()
    accounts = {name for kind, name in objects if kind == 'ServiceAccount'}
    for (kind, _), obj in objects.items():
        if kind in ('RoleBinding', 'ClusterRoleBinding'):
            assert (obj['roleRef']['kind'], obj['roleRef']['name']) in objects, obj
            assert [(s['kind'], s['namespace']) for s in obj['subjects']] == [('ServiceAccount', 'coffer')], obj
            assert obj['subjects'][0]['name'] in accounts - {'coffer-node'}, 'coffer-node asks the API server nothing'
        if kind == 'ServiceAccount':
            assert obj['automountServiceAccountToken'] is False
    assert {pod['serviceAccountName'] for _, pod in pods(objects)} == accounts


def the_api_token_is_in_the_sidecars_alone():
    for workload, pod in pods(base_objects()):
        assert pod['automountServiceAccountToken'] is False, workload
        tokens = {v['name']: s['serviceAccountToken'].get('audience') for v in pod['volumes']
                  for s in v.get('projected', {}).get('sources', []) if 'serviceAccountToken' in s}
        for c in pod['containers']:
            shown = {tokens[m['name']] for m in c['volumeMounts'] if m['name'] in tokens}
            want = {'vault'} if c['name'] == 'coffer-keyd' else set() if c['name'] in OURS else {None}
            assert shown == want, (workload, c['name'], shown)


def only_coffer_node_is_privileged():
    for workload, c in containers(base_objects()):
        security = c['securityContext']
        assert security['readOnlyRootFilesystem'] is True, c['name']
        assert c['terminationMessagePolicy'] == 'FallbackToLogsOnError', 'a refused configuration shows in kubectl describe'
        assert 'memory' in c['resources']['limits'] and 'cpu' not in c['resources']['limits']
        if c['name'] == 'coffer-node':
            assert security['privileged'] is True and security['runAsUser'] == security['runAsGroup'] == 0
            continue
        assert 'privileged' not in security and security['allowPrivilegeEscalation'] is False, (workload, c['name'])
        assert security['capabilities'] == {'drop': ['ALL']} and security['runAsNonRoot'] is True and security['runAsUser'] > 0
        assert security['seccompProfile'] == {'type': 'RuntimeDefault'}


def keyd_knows_its_peers():
    """--peer is the user and group of the container beside it; the other's keyd answers neither."""
    for workload, pod in pods(base_objects()):
        named = {c['name']: c for c in pod['containers']}
        keyd = named.get('coffer-keyd')
        if keyd is None:
            continue
        peer = named[workload]['securityContext']
        flags = dict(arg.split('=', 1) for arg in keyd['args'])
        assert flags['--peer'] == f'{peer["runAsUser"]}:{peer["runAsGroup"]}'
        assert flags['--allow'] == {'coffer-node': 'UNWRAP', 'coffer-controller': 'MINT,DESTROY'}[workload]
        assert flags['--vault-role'] == workload
        assert f'--keyd-socket={flags["--socket"]}' in named[workload]['args']
        assert peer['runAsUser'] != keyd['securityContext']['runAsUser']


def mounts_have_volumes():
    for workload, pod in pods(base_objects()):
        have = {v['name'] for v in pod['volumes']}
        used = {m['name'] for c in pod['containers'] for m in c['volumeMounts']}
        assert used <= have, (workload, used - have)
        assert workload == 'coffer-controller' or used == have, (workload, have - used)


def probes_name_a_port():
    for workload, c in containers(base_objects()):
        if c['name'] not in OURS:
            continue
        ports = {p['name']: p['containerPort'] for p in c['ports']}
        for probe in ('livenessProbe', 'readinessProbe'):
            assert c[probe]['httpGet']['path'] == '/healthz' and c[probe]['httpGet']['port'] in ports, (workload, c['name'])
        assert f'--http=:{next(iter(ports.values()))}' in c['args'], (workload, c['name'])


def every_flag_exists():
    """A flag that the programs will have with the HTTP listener is said to be missing, not passed over."""
    missing, known = set(), {name: set(re.findall(r'--[a-z][a-z0-9-]*', caselib.run([program(name), '--help']).stdout)) for name in OURS}
    for workload, c in containers(base_objects()):
        if c['name'] in OURS:
            assert c['command'] == [c['name']]
            missing |= {(c['name'], a.split('=')[0]) for a in c['args']} - {(c['name'], flag) for flag in known[c['name']]}
        assert all(a.startswith('--') for a in c['args']), (workload, c['args'])
    assert not missing, sorted(missing)


def images_are_pinned():
    version = re.search(r'^VERSION := (\S+)', caselib.read(caselib.ROOT, 'mk/flags.mk'), re.M).group(1)
    want = {**dict.fromkeys(OURS, f'coffer:{version}'), 'csi-provisioner': 'registry.k8s.io/sig-storage/csi-provisioner:v6.3.0',
            'csi-resizer': 'registry.k8s.io/sig-storage/csi-resizer:v2.2.0'}
    for workload, c in containers(base_objects()):
        assert c['image'] == want[c['name']], (workload, c['image'])
    chart = deploylib.documents(caselib.read(deploylib.CHART, 'Chart.yaml'))[0]
    assert chart['appVersion'] == version, chart


def the_configuration_is_right():
    base_objects()
    for folder in (deploylib.BASE, os.path.join(deploylib.DEPLOY, 'kustomize/example')):
        shown = json.loads(caselib.run([program('cofferctl'), 'config', 'check', '--config', os.path.join(folder, 'config.json'),
                                        '--output', 'json']).stdout)
        assert [pool['name'] for pool in shown] == ['default'], shown
    config = base_objects()['ConfigMap', 'coffer-config']['data']['config.json']
    sc = base_objects()['StorageClass', 'encrypted']
    assert sc['parameters']['pool'] in config['pools']
    assert sc['parameters']['kms'] in config['pools'][sc['parameters']['pool']]['kms']


def the_driver_is_called_one_name():
    objects = base_objects()
    assert ('CSIDriver', 'csi.coffer.dev') in objects and objects['StorageClass', 'encrypted']['provisioner'] == 'csi.coffer.dev'
    for workload, c in containers(objects):
        if c['name'] in ('coffer-node', 'coffer-controller'):
            assert '--driver-name=csi.coffer.dev' in c['args'], workload


def the_scheduler_reads_no_secret():
    """It makes and deletes them, in the clouds' namespace alone; beside that, only what no namespace has."""
    objects = deploylib.scheduler_objects()
    rules = {(kind, name): obj['rules'] for (kind, name), obj in objects.items() if kind in ('Role', 'ClusterRole')}
    for key, wanted in rules.items():
        for rule in wanted:
            assert '*' not in str(rule) and not set(rule['verbs']) & {'watch', 'update', 'impersonate', 'bind', 'deletecollection'}, rule
            assert 'secrets' not in rule['resources'] or (
                rule['verbs'] == ['create', 'delete'] and key[1] == 'coffer-scheduler-clouds'), rule
    assert {r: rule['verbs'] for rule in rules['ClusterRole', 'coffer-scheduler'] for r in rule['resources']} == {
        'nodes': ['list'], 'persistentvolumes': ['get']}
    bound = {(o['kind'], o['metadata'].get('namespace')): o['roleRef']['name'] for o in objects.values() if o['kind'].endswith('Binding')
             and o['roleRef']['name'].startswith('coffer-scheduler')}
    assert bound == {('ClusterRoleBinding', None): 'coffer-scheduler', ('RoleBinding', 'coffer'): 'coffer-scheduler',
                     ('RoleBinding', 'clouds'): 'coffer-scheduler-clouds'}, bound
    assert objects['Namespace', 'clouds']['metadata']['labels']['pod-security.kubernetes.io/enforce'] == 'restricted'
    assert 'egress' not in objects['NetworkPolicy', 'coffer-clouds']['spec'], 'a VM asks somebody'


def the_scheduler_s_pod_is_confined():
    objects = deploylib.scheduler_objects()
    [(_, pod)] = pods(objects)
    assert pod['automountServiceAccountToken'] is False
    named = {c['name']: c for c in pod['containers']}
    flags = {name: dict(a.split('=', 1) for a in c['args']) for name, c in named.items()}
    for name, c in named.items():
        security = c['securityContext']
        assert security['capabilities'] == {'drop': ['ALL']} and security['readOnlyRootFilesystem'] and security['runAsUser'] > 0, c
        known = set(re.findall(r'--[a-z][a-z0-9-]*', caselib.run([program(name), '--help']).stdout))
        assert set(flags[name]) <= known, set(flags[name]) - known
        tokens = {m['name'] for m in c['volumeMounts']} & {'api-token', 'vault-login', 'tls'}
        assert tokens == ({'vault-login'} if name == 'coffer-keyd' else {'api-token', 'tls'}), (name, tokens)
    who = named['coffer-scheduler']['securityContext']
    assert flags['coffer-keyd']['--allow'] == 'SERVER_KEY' and flags['coffer-keyd']['--peer'] == f'{who["runAsUser"]}:{who["runAsGroup"]}'
    assert flags['coffer-scheduler']['--keyd-socket'] == flags['coffer-keyd']['--socket']
    assert who['runAsUser'] != named['coffer-keyd']['securityContext']['runAsUser']
    assert {m['name'] for c in named.values() for m in c['volumeMounts']} == {v['name'] for v in pod['volumes']}


def kustomize_agrees():
    """What this suite reads is what kubectl makes of the folder; the example and its component build too."""
    if KUBECTL is None:
        raise Skip('no kubectl')
    want = base_objects()
    built = caselib.run([KUBECTL, 'kustomize', deploylib.BASE]).stdout
    assert deploylib.by_key(deploylib.documents(built)) == want
    with caselib.folder() as root:
        shutil.copytree(os.path.join(deploylib.DEPLOY, 'kustomize'), f'{root}/kustomize')
        caselib.write(f'{root}/kustomize/example/vault-ca.pem', '-----BEGIN CERTIFICATE-----\n')
        made = deploylib.by_key(deploylib.documents(caselib.run([KUBECTL, 'kustomize', f'{root}/kustomize/example']).stdout))
    assert set(made) - set(want) == {('ConfigMap', 'coffer-vault-ca')}
    assert made['CSIDriver', 'csi.coffer.dev']['spec']['serviceAccountTokenInSecrets'] is True
    assert 'serviceAccountTokenInSecrets' not in want['CSIDriver', 'csi.coffer.dev']['spec']
    assert {c['image'] for _, c in containers(made) if c['name'] in OURS} == {'registry.example/coffer:0.1.0'}


if __name__ == '__main__':
    sys.exit(caselib.main([no_object_grants_secrets, every_binding_is_ours, the_api_token_is_in_the_sidecars_alone,
                           only_coffer_node_is_privileged, keyd_knows_its_peers, mounts_have_volumes, probes_name_a_port,
                           every_flag_exists, images_are_pinned, the_configuration_is_right, the_driver_is_called_one_name,
                           the_scheduler_reads_no_secret, the_scheduler_s_pod_is_confined,
                           kustomize_agrees]))
