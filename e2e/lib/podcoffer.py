# SPDX-License-Identifier: Apache-2.0
"""Coffer as in a cluster whose volumes are opened by pods (tenantIdentity: pod), with the real Vault: the controller's coffer-keyd
mints, by approle; the node's (--allow UNWRAP) has no identity of its own at all, its secret id's file isn't there, so what opens
a volume can only be a pod's token. Pods(w) issues those, as kubelet would get them: for the login by kubernetes, which asks a
TokenReview endpoint, and for the one by jwt."""
import json
import os
import socket
import time

import vaultcoffer
from fakekube import TokenReviewer
from fixture import GID, UID_CONTROLLER, UID_KEYD, Coffer, Daemon
from testpki import sign_jwt
from vaultsetup import TENANT_KEY, service_account

TOKENS = 'csi.storage.k8s.io/serviceAccount.tokens'
NAMESPACE = 'csi.storage.k8s.io/pvc/namespace'
PARAMETERS = {'tenantIdentity': 'pod'}


def tokens(token, audience='vault'):
    """What kubelet puts into secrets or volume_context; None: nothing."""
    return {TOKENS: json.dumps({audience: {'token': token, 'expirationTimestamp': '2030-01-01T00:00:00Z'}})} if token else {}


class Pods:
    """Both login methods with the role `pods`, whose policy is deploy/vault/node-tenant.hcl."""

    def __init__(self, w):
        self.w, self.layout = w, w.layout
        folder = os.path.join(w.folder, 'kube')
        os.mkdir(folder)
        self.api = TokenReviewer(folder, w.vault.authority)
        self.tenant_policy('kubernetes', 'node-tenant')
        self.layout.kubernetes(self.api, 'node-tenant', bound_service_account_names=['*'], token_ttl='5m')
        self.tenant_policy('jwt', 'node-tenant-jwt')
        self.layout.jwt('node-tenant-jwt', token_ttl='5m')
        self.key, self.issued = f'{w.vault.folder}/jwt.key', []

    def close(self):
        self.api.close()

    def tenant_policy(self, method, role):
        with open(os.path.join(os.path.dirname(__file__), '../../deploy/vault/node-tenant.hcl'), encoding='utf-8') as f:
            self.layout.write_policy(role, self.layout.substitute(f.read(), self.layout.accessor(method)))

    def auth(self, method):
        """What a key service's `auth` says of pods."""
        return {'pod_mount': self.layout.mount_auth(method), 'pod_role': {'kubernetes': 'node-tenant', 'jwt': 'node-tenant-jwt'}[method]}

    def live_tokens(self):
        return [t for role in ('node-tenant', 'node-tenant-jwt') for t in self.layout.live_tokens(role)]

    # ---- tokens

    def token(self, tenant='team-a', audience='vault', account='app'):
        """A pod's, which TokenReview knows. Each is another one."""
        self.issued.append(self.api.issue(tenant, f'{account}-{len(self.issued)}', audience))
        return self.issued[-1]

    def deleted(self, tenant='team-a'):
        """Of a pod that is gone."""
        token = self.token(tenant)
        self.api.revoke(token)
        return token

    def jwt(self, tenant='team-a', audience='vault', **claims):
        self.issued.append(sign_jwt(self.key, {**service_account(tenant, audience), 'jti': str(len(self.issued)), **claims}))
        return self.issued[-1]

    def expired(self):
        now = int(time.time())
        return self.jwt(iat=now - 7200, nbf=now - 7200, exp=now - 3600)

    def forged(self):
        token = self.jwt()
        return token[:-6] + ('AAAAAA' if token[-6:] != 'AAAAAA' else 'BBBBBB')


class PodCoffer(Coffer):
    def __init__(self, w, pods, root=None, **more):
        self.w, self.pods = w, pods
        role, missing = w.approle('controller'), '/nowhere/secret-id'
        uri = f'hcvault://{w.server}/{w.layout.transit}/keys/{TENANT_KEY}{{tenant}}'
        self.identity = {name: {'uri': uri, 'ca': w.ca, 'auth': {**role, **pods.auth(name)}} for name in ('kubernetes', 'jwt')}
        self.identity['no-pods'] = {'uri': uri, 'ca': w.ca, 'auth': role}
        self.identity['kv'] = w.config(w.server, auth=role)['kms']['kv']
        self.without = {name: {**s, 'auth': {**s['auth'], 'secret_id_path': missing}} for name, s in self.identity.items()}
        super().__init__(root, services=self.identity, **more)
        self.node_config = os.path.join(self.root, 'node-config.json')
        self.mint_socket, self.minter = os.path.join(self.run, 'keyd/mint.sock'), None
        vaultcoffer.readable(w, role)

    def write_config(self, kms=('lab',)):
        super().write_config(kms)
        with open(self.config, encoding='utf-8') as f:
            config = json.load(f)
        with open(self.node_config, 'w', encoding='utf-8') as f:
            json.dump({**config, 'kms': self.without}, f)
        os.chmod(self.node_config, 0o644)

    def keyd_daemon(self, name, config, path, allow):
        env = {'COFFER_FAULT_DIR': self.fault_dir} if self.fault else {}
        argv = [os.path.join(self.bin, 'coffer-keyd'), '--config', config, '--socket', path, '--allow', allow, '--peer', '0:0',
                '--peer', f'{UID_CONTROLLER}:{GID}', '--log-level', self.log_level]
        d = Daemon(name, argv, os.path.join(self.root, name + '.log'), UID_KEYD, GID, env)
        d.start()
        self.wait_socket(d, path, socket.SOCK_SEQPACKET)
        return d

    def restart_keyd(self):
        """The node's."""
        self.keyd = self.keyd_daemon('coffer-keyd', self.node_config, self.keyd_socket, 'UNWRAP')

    def start_keyd(self):
        self.restart_keyd()
        self.minter = self.keyd_daemon('coffer-keyd-mint', self.config, self.mint_socket, 'MINT,DESTROY')

    def start_controller(self):
        nodes = self.keyd_socket
        self.keyd_socket = self.mint_socket
        try:
            super().start_controller()
        finally:
            self.keyd_socket = nodes

    def stop(self):
        super().stop()
        if self.minter is not None:
            self.minter.stop()

    def logs(self):
        return [d.log for d in (self.keyd, self.minter, self.controller, self.node)]

    # ---- calls

    def create_for(self, name, size, tenant='team-a', kms='kubernetes', block=False, **more):
        return self.create(name, size, block, parameters={**PARAMETERS, 'kms': kms, NAMESPACE: tenant, **more})

    def publish_as(self, volume, token, n=0, where='secrets', raw=None, **capability):
        """With a pod's token in `secrets` or `volume_context`; raw: those fields as they are."""
        capability.setdefault('fs', volume.get('fs', 'ext4'))
        given = raw if raw is not None else tokens(token)
        context = {**volume['volume_context'], 'csi.storage.k8s.io/pod.name': f'pod{n}', **(given if where == 'volume_context' else {})}
        self.call(self.node_socket, 'csi.v1.Node/NodePublishVolume', {
            'volume_id': volume['volume_id'], 'staging_target_path': self.staging(volume), 'target_path': self.target(volume, n),
            'volume_context': context, 'secrets': given if where == 'secrets' else {},
            'volume_capability': self.capability(**capability)})
