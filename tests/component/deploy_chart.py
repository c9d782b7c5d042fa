#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Helm chart with a real Helm: it lints, makes the objects of deploy/kustomize, and refuses each wrong value by its key.
TAP on stdout, no root."""
import json
import os
import sys

import caselib
import deploylib
from caselib import program
from deploylib import NEW, OLD, base_objects, chart_objects, containers, template

FILE_KMS = {'kms': {'lab': {'uri': 'file:///var/lib/coffer/master.key'}},
            'pools': {'default': {'backend': 'file', 'path': '/var/lib/coffer/default', 'kms': ['lab']}}}
CLASS = {'name': 'encrypted', 'fsType': 'ext4', 'reclaimPolicy': 'Delete', 'parameters': {'pool': 'default'}}
VAULT = 'config.kms.vault'
# what is set, and what the refusal must name: where, and what
WRONG = [
    ('colour=red', 'colour'), ('driverName=CSI', '/driverName'), ('driverName=', '/driverName'),
    ('image.repository=', '/image/repository'), ('image.digest=x', 'digest'), ('image.pullPolicy=Sometimes', '/image/pullPolicy'),
    ('sidecars.attacher=x', 'attacher'),
    ('config.pools=null', '/config'), ('config.pools.Big.backend=file', 'Big'),
    ('config.pools.default.backend=rbd', '/config/pools/default/backend'),
    ('config.pools.default.path=var', '/config/pools/default/path'), ('config.pools.default.path=/a/../b', '/config/pools/default/path'),
    ('config.pools.default.allocate=thin', '/config/pools/default/allocate'), ('config.pools.default.allocate=sparse', 'overcommit'),
    ('config.pools.default.overcommit=2', '/config/pools/default'), ('config.pools.default.size=1', 'size'),
    ('config.pools.default.kms={}', '/config/pools/default/kms'), ('config.pools.default.kms={other}', 'names other'),
    ('config.pools.default.path=/srv/pool', 'config.pools.default.path'), ('config.tenant=x', 'tenant'),
    (f'{VAULT}.uri=http://vault', '/config/kms/vault/uri'), (f'{VAULT}.ca=', '/config/kms/vault/ca'),
    (f'{VAULT}.ca=null', "/config/kms/vault': missing property 'ca'"), (f'{VAULT}.timeout_ms=5', '/config/kms/vault/timeout_ms'),
    (f'{VAULT}.tenants=all', '/config/kms/vault/tenants'), (f'{VAULT}.token=x', "'token' not allowed"),
    (f'{VAULT}.auth.method=userpass', '/config/kms/vault/auth/method'), (f'{VAULT}.auth.password=x', "'password' not allowed"),
    ('vault.enabled=maybe', '/vault/enabled'), ('vault.enabled=false', 'vault.enabled'), ('vault.ca=text', '/vault/ca'),
    ('vault.roles.node=', '/vault/roles/node'), ('vault.roles.root=x', 'root'), ('vault.token=x', 'token'),
    ('insecureFileKms=1', '/insecureFileKms'), ('kubeletDir=kubelet', '/kubeletDir'), ('poolsDir=/', '/poolsDir'),
    ('poolsDir=/srv', 'config.pools.default.path'),
    ('storageClasses[0].name=Encrypted', '/storageClasses/0/name'), ('storageClasses[0].fsType=zfs', '/storageClasses/0/fsType'),
    ('storageClasses[0].reclaimPolicy=Keep', '/storageClasses/0/reclaimPolicy'),
    ('storageClasses[0].parameters.colour=red', 'colour'),
    ('storageClasses[0].parameters.discard=maybe', '/storageClasses/0/parameters/discard'),
    ('storageClasses[0].bindingMode=Immediate', 'bindingMode'), ('log.format=xml', '/log/format'), ('log.level=all', '/log/level'),
    ('resources.node.limits.memory=much', '/resources/node/limits/memory'), ('resources.nodes.limits.memory=1Gi', 'nodes'),
    ('resources.keyd.claims=x', 'claims'), ('tolerations[0].effect=Never', '/tolerations/0/effect'),
    ('nodeSelector.a=1', '/nodeSelector/a'),
    ('networkPolicy.vaultPort=70000', '/networkPolicy/vaultPort'), ('networkPolicy.apiServerPorts={}', '/networkPolicy/apiServerPorts'),
    ('serviceMonitor.interval=often', '/serviceMonitor/interval'), ('serviceMonitor.enable=true', 'enable'),
    ('prometheusRule.enabled=yes', '/prometheusRule/enabled'), ('rbac.create=false', 'rbac'),
]


def set_json(**values):
    return [word for key, value in values.items() for word in ('--set-json', f'{key}={json.dumps(value)}')]


def lints():
    for version in (OLD, NEW):
        caselib.run([deploylib.helm(), 'lint', '--strict', '--kube-version', version, deploylib.CHART])


def old_clusters_are_refused():
    assert 'incompatible with Kubernetes v1.28.0' in template(version='1.28.0', code=1).stderr


def makes_the_objects_of_kustomize():
    """All but the namespace, which is Helm's user's."""
    want, made = base_objects(), chart_objects()
    del want['Namespace', 'coffer']
    assert made.keys() == want.keys(), made.keys() ^ want.keys()
    for key, obj in want.items():
        assert made[key] == obj, (key, made[key], obj)


def tokens_are_secrets_where_they_can_be():
    key = ('CSIDriver', 'csi.coffer.dev')
    assert chart_objects(version=NEW)[key]['spec'].pop('serviceAccountTokenInSecrets') is True
    assert 'serviceAccountTokenInSecrets' not in chart_objects(version=OLD)[key]['spec']


def wrong_values_are_named():
    failed = []
    for setting, word in WRONG:
        said = template('--set', setting, code=None)
        if said.returncode == 0 or word not in said.stderr:
            failed.append((setting, word, said.returncode, said.stderr[-300:]))
    assert not failed, failed


def values_are_all_in_the_schema():
    """Each key of values.yaml is known, and each key that the schema requires has a default."""
    deploylib.need_yaml()
    values = deploylib.documents(caselib.read(deploylib.CHART, 'values.yaml'))[0]
    schema = json.loads(caselib.read(deploylib.CHART, 'values.schema.json'))
    assert set(values) == set(schema['properties']) - {'global'}


def a_changed_configuration_replaces_the_pods():
    def checksums(*more):
        objects = deploylib.documents(template(*more).stdout)
        return {o['spec']['template']['metadata']['annotations']['checksum/config'] for o in objects if deploylib.pod_of(o)}
    first, second = checksums(), checksums('--set', 'config.default_tenant=lab')
    assert len(first) == len(second) == 1 and first != second


def rotation_is_a_job_on_each_node():
    assert not [key for key in chart_objects() if 'rotation' in key[1]]
    deploylib.need_yaml()
    on = ('--set', 'rotation.enabled=true', '--set')
    made = chart_objects(*on, 'rotation.nodes={node-1,two.example}')
    jobs = {o['spec']['jobTemplate']['spec']['template']['spec']['nodeSelector']['kubernetes.io/hostname']: o
            for key, o in made.items() if key[0] == 'CronJob'}
    assert jobs.keys() == {'node-1', 'two.example'}, jobs.keys()
    path = os.path.join(deploylib.DEPLOY, 'kustomize/components/rotation/rotation.yaml')
    plain = {deploylib.key_of(o): o for o in deploylib.documents(caselib.read(path))}
    job = plain.pop(('CronJob', 'coffer-rotation-1'))
    job['metadata']['name'] = jobs['node-1']['metadata']['name']
    assert jobs['node-1'] == job, (jobs['node-1'], job)
    assert all(made[key] == o for key, o in plain.items()) and len(plain) == 2, plain
    pod = job['spec']['jobTemplate']['spec']['template']['spec']
    for c in pod['initContainers'] + pod['containers']:  # the least: no privilege, no token of the API server, no device
        limits = c['securityContext']
        assert limits['capabilities'] == {'drop': ['ALL']} and limits['readOnlyRootFilesystem'] and limits['runAsUser'] == 65533, limits
        assert {m['name'] for m in c['volumeMounts']} == {'config', 'vault-login', 'pools'}, c
    assert pod['automountServiceAccountToken'] is False and pod['serviceAccountName'] == 'coffer-rotation'
    for more, word in ((('rotation.nodes={}',), '/rotation/nodes'), (('rotation.nodes={a}', '--set', 'rotation.rate=0'), '/rotation/rate')):
        assert word in template(*on, *more, code=1).stderr


def client_keys_are_opt_in():
    """The component of deploy/kustomize and the chart agree; only in the namespaces that are named may Secrets be read."""
    deploylib.need_yaml()
    folder = os.path.join(deploylib.DEPLOY, 'kustomize/components/client-keys')
    assert not [key for key in chart_objects() if 'client' in key[1]]
    on = ('--set', 'clientKeys.enabled=true', '--set')
    made = chart_objects(*on, 'clientKeys.namespaces={team-a}')
    plain = {deploylib.key_of(o): o for o in deploylib.documents(caselib.read(folder, 'client-keys.yaml'))}
    assert all(made[key] == o for key, o in plain.items()) and len(plain) == 2, plain
    bound = [o for o in deploylib.documents(template(*on, 'clientKeys.namespaces={team-a,team-b}').stdout)
             if o.get('roleRef', {}).get('name') == 'coffer-client-keys']
    assert [(o['kind'], o['metadata']['namespace']) for o in bound] == [('RoleBinding', 'team-a'), ('RoleBinding', 'team-b')], bound
    wanted = deploylib.documents(caselib.read(folder, 'kustomization.yaml'))[0]
    test, replace = deploylib.documents(wanted['patches'][0]['patch'])[0]
    nodes = [next(c for name, c in containers(objects) if name == 'coffer-node' and c['name'] == 'coffer-keyd')
             for objects in (base_objects(), made)]
    assert test['path'] == replace['path'] == '/spec/template/spec/containers/1/args/1', test
    assert nodes[0]['args'][1] == test['value'] and nodes[1]['args'][1] == replace['value'], nodes
    pod = base_objects()['DaemonSet', 'coffer-node']['spec']['template']['spec']
    assert pod['containers'][1]['name'] == 'coffer-keyd', 'the patch is for another container'
    for setting, word in (('clientKeys.fsType=zfs', '/clientKeys/fsType'), ('clientKeys.namespaces={A}', '/clientKeys/namespaces/0'),
                          ('clientKeys.colour=red', 'colour'), ('config.kms.vault.server_key=a/b', '/config/kms/vault/server_key')):
        assert word in template('--set', setting, code=1).stderr, setting


def the_scheduler_is_opt_in():
    """The component, and the clouds' namespace, of deploy/kustomize and the chart agree; it can't be had without what it stands on."""
    deploylib.need_yaml()
    assert not [key for key in chart_objects() if 'scheduler' in key[1]]
    on = ('--set', 'scheduler.enabled=true')
    stands_on = ('--set', 'clientKeys.enabled=true,clientKeys.namespaces={clouds}')
    made = chart_objects(*on, *stands_on)
    plain = deploylib.scheduler_objects()
    for key in (('Namespace', 'clouds'),):  # Helm's user's
        del plain[key]
    assert plain.keys() <= made.keys(), plain.keys() - made.keys()
    for key, obj in plain.items():
        assert made[key] == obj, (key, made[key], obj)
    assert {key for key in made if 'scheduler' in key[1]} - plain.keys() == {('ConfigMap', 'coffer-scheduler')}
    config = json.loads(made['ConfigMap', 'coffer-scheduler']['data']['scheduler.json'])
    assert (config['kubernetes']['driver_namespace'], config['kubernetes']['storage_class']) == ('coffer', 'encrypted-client'), config
    assert 'clientKeys.enabled' in template(*on, code=1).stderr
    assert "doesn't go with insecureFileKms" in template(*on, *stands_on, '--set', 'insecureFileKms=true', code=1).stderr
    assert 'clouds among clientKeys.namespaces' in template(*on, '--set', 'clientKeys.enabled=true', code=1).stderr
    for setting, word in (('scheduler.config.driver=local', '/scheduler/config/driver'), ('scheduler.config.colour=red', 'colour'),
                          ('scheduler.config.kubernetes.api=http://a', '/scheduler/config/kubernetes/api'),
                          ('scheduler.config.kubernetes.storage_class=x', 'storage_class'), ('scheduler.tls=x', "'tls' not allowed")):
        assert word in template('--set', setting, code=1).stderr, setting


def every_setting_reaches_its_object():
    made = chart_objects('--set', 'driverName=csi.example.org', '--set', 'poolsDir=/srv/pools', '--set', 'kubeletDir=/data/kubelet',
                         '--set', 'config.pools.default.path=/srv/pools/a', '--set', 'log.level=debug', '--set', 'image.tag=9.9.9',
                         '--set', 'image.repository=registry.example/coffer', '--set', 'vault.audience=bao', '--set',
                         'vault.roles.node=n', '--set', 'networkPolicy.vaultPort=443', '--set', 'resources.node.limits.memory=1Gi',
                         *set_json(storageClasses=[{**CLASS, 'default': True, 'mountOptions': ['noatime']}]),
                         '--set', 'vault.ca=-----BEGIN CERTIFICATE-----', '--set', 'imagePullSecrets[0].name=pull')
    named = {c['name']: c for workload, c in containers(made) if workload == 'coffer-node'}
    node = named['coffer-node']
    assert '--registration-endpoint=/data/kubelet/plugins/csi.example.org/csi.sock' in node['args'], node['args']
    assert '--registration=/data/kubelet/plugins_registry/csi.example.org-reg.sock' in node['args'], node['args']
    assert '--log-level=debug' in node['args'] and node['image'] == 'registry.example/coffer:9.9.9'
    assert node['resources']['limits']['memory'] == '1Gi' and '--vault-role=n' in named['coffer-keyd']['args']
    assert {'name': 'pools', 'mountPath': '/srv/pools', 'mountPropagation': 'HostToContainer'} in node['volumeMounts']
    assert made['CSIDriver', 'csi.example.org']['spec']['tokenRequests'] == [{'audience': 'bao'}]
    sc = made['StorageClass', 'encrypted']
    assert sc['metadata']['annotations'] and sc['mountOptions'] == ['noatime'] and sc['provisioner'] == 'csi.example.org'
    assert made['ConfigMap', 'coffer-vault-ca']['data']['vault-ca.pem'].strip() == '-----BEGIN CERTIFICATE-----'
    assert made['NetworkPolicy', 'coffer-vault']['spec']['egress'][0]['ports'][0]['port'] == 443
    assert made['DaemonSet', 'coffer-node']['spec']['template']['spec']['imagePullSecrets'] == [{'name': 'pull'}]


def an_escrow_key():
    key = '-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAbSBz7FSl9Si6MrYKXM+HTf8wWbdMSBMf9eLIc0z5Ni4=\n-----END PUBLIC KEY-----\n'
    pool = ('--set', 'config.pools.default.escrow=/etc/coffer/escrow.pem')

    def allowed(made):
        [keyd] = [c for workload, c in containers(made) if workload == 'coffer-node' and c['name'] == 'coffer-keyd']
        return [a for a in keyd['args'] if a.startswith('--allow')]
    assert allowed(chart_objects()) == ['--allow=UNWRAP']
    assert allowed(chart_objects('--set', 'recipients=true')) == ['--allow=UNWRAP,WRAP_FOR']
    assert 'config.pools.default.escrow needs escrowKey' in template(*pool, code=1).stderr
    with caselib.folder() as root:
        caselib.write(f'{root}/key.pem', key)
        made = chart_objects(*pool, '--set-file', f'escrowKey={root}/key.pem')
    data = made['ConfigMap', 'coffer-config']['data']
    assert data['escrow.pem'].strip() == key.strip() and allowed(made) == ['--allow=UNWRAP,WRAP_FOR'], data
    assert data['config.json']['pools']['default']['escrow'] == '/etc/coffer/escrow.pem'
    for set_, word in (('escrowKey=text', '/escrowKey'), ('config.pools.default.escrow=/x', '/config/pools/default/escrow')):
        assert word in template('--set', set_, code=1).stderr, set_


def without_vault():
    """Development: a master key in a file, said twice; no token of Vault's anywhere."""
    said = template(*set_json(config=FILE_KMS), '--set', f'{VAULT}=null', '--set', 'vault.enabled=false', code=1).stderr
    assert 'needs insecureFileKms: true' in said, said
    made = chart_objects(*set_json(config=FILE_KMS), '--set', f'{VAULT}=null', '--set', 'vault.enabled=false,insecureFileKms=true')
    assert 'audience' not in json.dumps(list(made.values())) and ('NetworkPolicy', 'coffer-vault') not in made
    for _, c in containers(made):
        if c['name'] == 'coffer-keyd':
            assert '--insecure-file-kms' in c['args'] and {m['name'] for m in c['volumeMounts']} == {'config', 'keyd', 'pools'}


def configurations_pass_the_check():
    """What the schema lets through is what the programs take."""
    sparse = 'config.pools.default.allocate=sparse,config.pools.default.overcommit=2'
    for more in ([], ['--set', 'config.default_tenant=lab', '--set', sparse]):
        config = chart_objects(*more)['ConfigMap', 'coffer-config']['data']['config.json']
        with caselib.folder() as root:
            caselib.write(f'{root}/config.json', config)
            caselib.run([program('cofferctl'), 'config', 'check', '--config', f'{root}/config.json'])


def monitoring_is_opt_in():
    kinds = {kind for kind, _ in chart_objects()}
    assert not kinds & {'PodMonitor', 'PrometheusRule'}
    made = chart_objects('--set', 'serviceMonitor.enabled=true,prometheusRule.enabled=true,serviceMonitor.labels.release=prom')
    monitor = made['PodMonitor', 'coffer']
    assert monitor['metadata']['labels']['release'] == 'prom'
    more = chart_objects('--set', 'serviceMonitor.enabled=true,scheduler.enabled=true', '--set',
                         'clientKeys.enabled=true,clientKeys.namespaces={clouds}')
    for objects in (made, more):
        ports = {p['name'] for _, c in containers(objects) for p in c.get('ports', []) if p['name'].startswith('http-')}
        assert {e['port'] for e in objects['PodMonitor', 'coffer']['spec']['podMetricsEndpoints']} == ports
    assert 'http-scheduler' in ports
    rules = deploylib.documents(caselib.read(deploylib.DEPLOY, 'monitoring/alerts.yaml'))[0]
    assert made['PrometheusRule', 'coffer']['spec'] == rules
    assert os.path.islink(os.path.join(deploylib.CHART, 'files/alerts.yaml')), 'one text for both'


if __name__ == '__main__':
    sys.exit(caselib.main([lints, old_clusters_are_refused, makes_the_objects_of_kustomize, tokens_are_secrets_where_they_can_be,
                           wrong_values_are_named, values_are_all_in_the_schema, a_changed_configuration_replaces_the_pods,
                           rotation_is_a_job_on_each_node, client_keys_are_opt_in, the_scheduler_is_opt_in,
                           every_setting_reaches_its_object, an_escrow_key, without_vault,
                           configurations_pass_the_check, monitoring_is_opt_in]))
