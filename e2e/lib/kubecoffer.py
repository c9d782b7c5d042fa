# SPDX-License-Identifier: Apache-2.0
"""Coffer on a cluster for tests, installed as docs/kubernetes.md tells an administrator: the image of `make image`, the manifests of
deploy/kustomize, a real Vault with what `cofferctl vault setup` makes in it, a pool on each node.

    with kubecluster.cluster('kubernetes', images=[kubecoffer.image()]) as c, kubecoffer.Coffer(c) as coffer:
        coffer.install()

Vault runs on this machine, on loopback; pods reach it at VAULT_PORT of kubenet.HOST by a relay. It asks the cluster's API server
whether a service account's token is good, as the account vault-reviewer."""
import json
import os
import subprocess

import kubenet
from kubeapi import object_path
from vaultserver import Server

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
DRIVER, NAMESPACE, TOPOLOGY = 'csi.coffer.dev', 'coffer', 'topology.csi.coffer.dev/node'
VAULT_PORT = 8200
CA = '/etc/coffer/vault-ca.pem'
PARTS = (('DaemonSet', 'coffer-node'), ('DaemonSet', 'coffer-controller'), ('Deployment', 'coffer-resizer'))
# of a volume's image, as losetup shows its path: once the mount it was opened through is gone with a pod, without /var/lib/coffer
IMAGE = '/volumes/[0-9a-f][0-9a-f]/'
OWNER = '65533:65532'  # who the controller's container runs as; deploy/kustomize/base/controller.yaml
REVIEWER = '''
apiVersion: v1
kind: ServiceAccount
metadata: {name: vault-reviewer, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: vault-reviewer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:auth-delegator"}
subjects: [{kind: ServiceAccount, name: vault-reviewer, namespace: default}]
'''
CLASSES = '''
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: encrypted-kv}
provisioner: csi.coffer.dev
parameters: {pool: default, kms: kv, csi.storage.k8s.io/fstype: ext4}
volumeBindingMode: WaitForFirstConsumer
allowVolumeExpansion: true
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: encrypted-pod}
provisioner: csi.coffer.dev
parameters: {pool: default, kms: vault, tenantIdentity: pod, csi.storage.k8s.io/fstype: ext4}
volumeBindingMode: WaitForFirstConsumer
'''


def why_not():
    """Why Coffer can't be installed on a cluster here; '' when it can."""
    return '' if os.environ.get('COFFER_IMAGE') else 'COFFER_IMAGE does not say where the image is (e2e/run sets it)'


def image():
    """The archive that `make image` made."""
    return os.environ['COFFER_IMAGE']


def configuration():
    """What is mounted at /etc/coffer/config.json."""
    host, login = f'{kubenet.HOST}:{VAULT_PORT}', {'method': 'kubernetes', 'role': 'coffer-node',
                                                   'token_path': '/var/run/secrets/vault/token'}
    return {'pools': {'default': {'backend': 'file', 'path': '/var/lib/coffer/default', 'kms': ['vault', 'kv'], 'allocate': 'full'}},
            'kms': {'vault': {'uri': f'hcvault://{host}/transit/keys/coffer-t-{{tenant}}', 'ca': CA,
                              'auth': {**login, 'pod_role': 'coffer-pod'}},
                    'kv': {'uri': f'hcvault+kv://{host}/coffer-kv/volumes', 'ca': CA, 'auth': login}}}


class Coffer:
    def __init__(self, c):
        self.c, self.folder, self.vault, self.relay = c, f'{c.folder}/coffer', None, None
        os.makedirs(f'{self.folder}/overlay')

    def __enter__(self):
        self.vault = Server(f'{self.folder}/vault')
        try:
            self.vault.start()
        except BaseException:
            self.vault.stop()
            raise
        self.vault.new_certificate(names=('IP:127.0.0.1', f'IP:{kubenet.HOST}'))
        self.relay = kubenet.Relay(VAULT_PORT, self.vault.listen)
        return self

    def __exit__(self, *_):
        self.relay.close()
        self.vault.stop()

    # ---- an administrator's steps

    def install(self):
        self.prepare()
        self.c.kubectl('apply', '-k', f'{self.folder}/overlay')
        self.c.apply(CLASSES)
        for node in self.c.nodes:
            self.make_pool(node)
        self.wait_ready()

    def prepare(self):
        """What comes before Coffer itself, whichever way that is installed (kubehelm.py is the other)."""
        self.write_files()
        self.set_up_vault()

    def write_files(self):
        """An overlay as deploy/kustomize/example has it."""
        base = os.path.relpath(f'{ROOT}/deploy/kustomize', f'{self.folder}/overlay')
        files = {'config.json': json.dumps(configuration(), indent=1),
                 'vault-ca.pem': open(self.vault.ca, encoding='ascii').read(),
                 'kustomization.yaml': json.dumps({
                     'apiVersion': 'kustomize.config.k8s.io/v1beta1', 'kind': 'Kustomization', 'namespace': NAMESPACE,
                     'resources': [f'{base}/base'], 'components': [f'{base}/components/token-in-secrets'],
                     'configMapGenerator': [{'name': 'coffer-config', 'behavior': 'replace', 'files': ['config.json']},
                                            {'name': 'coffer-vault-ca', 'files': ['vault-ca.pem']}],
                     'generatorOptions': {'disableNameSuffixHash': True}}, indent=1)}
        for name, text in files.items():
            with open(f'{self.folder}/overlay/{name}', 'w', encoding='utf-8') as f:
                f.write(text)

    def set_up_vault(self):
        self.c.apply(REVIEWER)
        self.c.api.wait(object_path('ServiceAccount', 'vault-reviewer'), lambda o: o is not None)
        self.cofferctl('vault', 'setup', '--apply', '--address', self.vault.address, '--ca', self.vault.ca,
                       '--kubernetes-host', f'https://{kubenet.HOST}', '--kubernetes-ca', self.c.control.ca,
                       '--policies', f'{ROOT}/deploy/vault')
        # Vault isn't a pod here, so it has no token of its own to ask with
        token = self.c.kubectl('create', 'token', 'vault-reviewer', '--duration', '24h').strip()
        self.vault.root.call('POST', 'auth/kubernetes/config', {
            'kubernetes_host': f'https://{kubenet.HOST}', 'kubernetes_ca_cert': self.c.control.ca_text(),
            'token_reviewer_jwt': token, 'disable_local_ca_jwt': True})

    def cofferctl(self, *arguments):
        done = subprocess.run([os.path.join(os.environ['COFFER_BIN'], 'cofferctl'), *arguments, '--config',
                               f'{self.folder}/overlay/config.json'], capture_output=True, text=True, check=False,
                              env={**os.environ, 'VAULT_TOKEN': self.vault.root.token})
        if done.returncode != 0:
            raise RuntimeError(f'cofferctl {" ".join(arguments)}: {done.stdout}{done.stderr}')
        return done.stdout

    def node_pod(self, node):
        """The name of coffer-node's pod there, when its containers have been started."""
        listed = self.c.api.wait(object_path('Pod', '', NAMESPACE) + f'?fieldSelector=spec.nodeName={node.name}', lambda o: any(
            all('running' in s['state'] for s in pod['status']['containerStatuses'])
            for pod in o['items'] if pod['metadata']['labels'].get('app.kubernetes.io/component') == 'node'))
        return next(pod['metadata']['name'] for pod in listed['items']
                    if pod['metadata']['labels'].get('app.kubernetes.io/component') == 'node')

    def make_pool(self, node):
        self.c.kubectl('-n', NAMESPACE, 'exec', self.node_pod(node), '-c', 'coffer-node', '--',
                       'cofferctl', 'pool', 'init', 'default', '--owner', OWNER)

    def wait_ready(self):
        """Every container, and the driver registered with every kubelet."""
        nodes = len(self.c.nodes)
        for kind, name in PARTS:
            wanted = 1 if kind == 'Deployment' else nodes
            ready = 'readyReplicas' if kind == 'Deployment' else 'numberReady'
            self.c.api.wait(object_path(kind, name, NAMESPACE), lambda o, ready=ready, wanted=wanted: o['status'].get(ready) == wanted)
        for node in self.c.nodes:
            self.c.api.wait(object_path('CSINode', node.name), lambda o: self.driver_of(o)['topologyKeys'] == [TOPOLOGY])

    @staticmethod
    def driver_of(csi_node):
        return next(d for d in csi_node['spec']['drivers'] if d['name'] == DRIVER)

    # ---- what is there

    def volume_of(self, claim, namespace='default'):
        """(PersistentVolume's name, volume id) of a bound claim."""
        name = self.c.api.get(object_path('PersistentVolumeClaim', claim, namespace))['spec']['volumeName']
        return name, self.c.api.get(object_path('PersistentVolume', name))['spec']['csi']['volumeHandle']

    @staticmethod
    def record(node, volume_id):
        part = volume_id.rsplit('.', 1)[1]
        return json.loads(node.run(f'cat /var/lib/coffer/default/volumes/{part[:2]}/{part}/record.json'))

    @staticmethod
    def left_over(node):
        """What a node that opens no volume must not have; '' when it is clean."""
        return node.run(f'dmsetup ls | grep ^coffer- || true; losetup -l -n -O NAME,BACK-FILE | grep "{IMAGE}" || true; '
                        'grep csi.coffer.dev /proc/self/mountinfo | grep -v plugins/csi.coffer.dev | grep globalmount || true; '
                        'ls /dev/coffer 2>/dev/null || true').strip()

    @staticmethod
    def pool_used(node):
        """Bytes of the pool's disk that are taken."""
        return int(node.run('sync; df --output=used -B1 /var/lib/coffer | tail -1'))

    def stored_keys(self):
        """Names of the secrets that the kv service holds."""
        return self.vault.root.request('LIST', 'coffer-kv/metadata/volumes').data.get('keys', [])
