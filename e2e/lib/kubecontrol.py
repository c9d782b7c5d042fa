# SPDX-License-Identifier: Apache-2.0
"""The control plane of a cluster for tests: etcd, kube-apiserver, kube-controller-manager and kube-scheduler as processes on this
machine, in the namespaces that kubenet.enter() made. Keys and tokens are new for each cluster and lie in its folder.

PROGRAMS is the table of what runs and with which flags; a flag that isn't obvious has its reason beside it."""
import base64
import http.client
import json
import os
import secrets
import subprocess
import time

import kubenet
from kubeapi import SECONDS, Api, Broken, object_path
from testpki import Authority, new_key, public_key

USERS = {  # token's name: (user, groups)
    'admin': ('admin', 'system:masters'),
    'controller-manager': ('system:kube-controller-manager', ''),
    'scheduler': ('system:kube-scheduler', ''),
}
PORT, ETCD_PORT = 443, 2379
ETCD = f'http://127.0.0.1:{ETCD_PORT}'
NAMES = (f'IP:{kubenet.HOST}', f'IP:{kubenet.SERVICE}', 'IP:127.0.0.1', 'DNS:localhost', 'DNS:kubernetes.default.svc')


def why_not():
    """Why there can't be a control plane here; '' when there can."""
    if not os.environ.get('COFFER_KUBERNETES'):
        return os.environ.get('COFFER_KUBERNETES_WHY') or 'COFFER_KUBERNETES does not say where Kubernetes is (e2e/run sets it)'
    return '' if os.geteuid() == 0 else 'a control plane has network and mount namespaces of its own, which wants root'


def etcd(folder):
    return ['etcd', '--data-dir', f'{folder}/etcd', '--listen-client-urls', ETCD, '--advertise-client-urls', ETCD,
            '--listen-peer-urls', 'http://127.0.0.1:2380', '--unsafe-no-fsync', '--log-level', 'warn']


def api_server(folder):
    pki = f'{folder}/pki'
    return ['kube-apiserver', f'--etcd-servers={ETCD}', '--bind-address=0.0.0.0', f'--secure-port={PORT}',
            f'--advertise-address={kubenet.HOST}', f'--tls-cert-file={pki}/apiserver.pem',
            f'--tls-private-key-file={pki}/apiserver.key', f'--client-ca-file={pki}/ca.pem', f'--token-auth-file={pki}/tokens.csv',
            '--authorization-mode=Node,RBAC', '--enable-admission-plugins=NodeRestriction', '--allow-privileged',
            '--service-account-issuer=https://kubernetes.default.svc', f'--service-account-key-file={pki}/accounts.pub',
            f'--service-account-signing-key-file={pki}/accounts.key', f'--service-cluster-ip-range={kubenet.SERVICES}',
            '--kubelet-preferred-address-types=InternalIP', f'--cert-dir={pki}']


def client(folder, name):
    """What the two clients of the API server have in common; nothing asks them anything."""
    config = f'{folder}/pki/{name}.kubeconfig'
    return [f'--kubeconfig={config}', f'--authentication-kubeconfig={config}', f'--authorization-kubeconfig={config}',
            '--leader-elect=false', '--bind-address=127.0.0.1', f'--cert-dir={folder}/pki/{name}']


def controller_manager(folder):
    return ['kube-controller-manager', *client(folder, 'controller-manager'),
            f'--service-account-private-key-file={folder}/pki/accounts.key', f'--root-ca-file={folder}/pki/ca.pem',
            '--use-service-account-credentials=true',  # without it a node's taint "not-ready" never goes
            '--kube-api-qps=1000', '--kube-api-burst=1000',  # the ServiceAccount "default" comes some seconds sooner
            '--node-monitor-grace-period=20s']  # a lost node shows sooner than after 50 s


def scheduler(folder):
    return ['kube-scheduler', *client(folder, 'scheduler')]


PROGRAMS = (etcd, api_server, controller_manager, scheduler)  # in the order they start


class ControlPlane:
    """start() returns when the API answers and the ServiceAccount "default" is there. api: an administrator's Api."""

    def __init__(self, folder, programs, alive=lambda: None):
        """programs: the folder of the binaries. alive: what else is looked at while waiting."""
        self.folder, self.programs, self.processes, self.more_alive = folder, programs, {}, alive
        for part in ('pki', 'logs'):
            os.makedirs(f'{folder}/{part}', exist_ok=True)
        authority = Authority(f'{folder}/pki')
        authority.issue('apiserver', names=NAMES)
        self.ca = authority.certificate
        new_key(f'{folder}/pki/accounts.key', 'rsa')
        with open(f'{folder}/pki/accounts.pub', 'w', encoding='ascii') as f:
            f.write(public_key(f'{folder}/pki/accounts.key'))
        self.tokens = {}
        for name, (user, groups) in USERS.items():
            self.add_user(name, user, groups)
            self.write_kubeconfig(name, f'{folder}/pki/{name}.kubeconfig')
        self.api = Api(kubenet.HOST, PORT, self.ca, self.tokens['admin'], self.alive)

    def add_user(self, name, user, groups):
        """Before start(): the file is read once."""
        self.tokens[name] = secrets.token_hex(16)
        with open(f'{self.folder}/pki/tokens.csv', 'a', encoding='ascii', opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            f.write(f'{self.tokens[name]},{user},{name},"{groups}"\n')

    def write_kubeconfig(self, name, path):
        """JSON is YAML."""
        with open(path, 'w', encoding='ascii', opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            json.dump({'apiVersion': 'v1', 'kind': 'Config', 'current-context': 'test',
                       'clusters': [{'name': 'test', 'cluster': {'server': f'https://{kubenet.HOST}:{PORT}',
                                                                 'certificate-authority-data': self.ca_base64()}}],
                       'users': [{'name': name, 'user': {'token': self.tokens[name]}}],
                       'contexts': [{'name': 'test', 'context': {'cluster': 'test', 'user': name}}]}, f)

    def ca_text(self):
        with open(self.ca, encoding='ascii') as f:
            return f.read()

    def ca_base64(self):
        return base64.b64encode(self.ca_text().encode()).decode()

    def start(self):
        for program in PROGRAMS:
            self.start_one(program(self.folder))
            if program is etcd:
                self.wait_etcd()
            elif program is api_server:
                self.api.wait('/readyz', lambda said: said == 'ok')
        self.api.wait(object_path('ServiceAccount', 'default'), lambda o: o is not None)

    def start_one(self, argv):
        name = argv[0]
        with open(f'{self.folder}/logs/{name}.log', 'ab') as log:
            self.processes[name] = subprocess.Popen(['setpriv', '--pdeathsig', 'KILL', f'{self.programs}/{name}', *argv[1:]],
                                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_etcd(self):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            self.alive()
            connection = http.client.HTTPConnection('127.0.0.1', ETCD_PORT, timeout=10)
            try:
                connection.request('GET', '/health')
                if connection.getresponse().status == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            time.sleep(0.05)
        raise TimeoutError(f'etcd: not healthy within {SECONDS} s')

    def alive(self):
        for name, process in self.processes.items():
            if process.poll() is not None:
                with open(f'{self.folder}/logs/{name}.log', encoding='utf-8', errors='replace') as f:
                    raise Broken(f'{name} ended ({process.returncode}): {f.read()[-1000:]}')
        self.more_alive()

    def kubectl(self, *arguments, data=None, user='admin'):
        """Its stdout; RuntimeError with its stderr when it failed."""
        done = subprocess.run([f'{self.programs}/kubectl', '--kubeconfig', f'{self.folder}/pki/{user}.kubeconfig', *arguments],
                              input=data, capture_output=True, text=True, check=False, env={'HOME': self.folder, 'PATH': os.defpath})
        if done.returncode != 0:
            raise RuntimeError(f'kubectl {" ".join(arguments)}: {done.stderr.strip()}')
        return done.stdout

    def stop(self):
        for process in reversed(self.processes.values()):
            process.kill()
            process.wait()
        self.processes = {}
