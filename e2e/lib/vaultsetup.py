# SPDX-License-Identifier: Apache-2.0
"""What an administrator sets up inside a Vault, for a story: Layout(vault) has the engines mounted, deploy/vault's policies
written, and login methods with roles. On a server that isn't ours every name gets a prefix of this run; remove() takes all
away. Tokens never have the default policy unless asked.

    layout = Layout(vault)
    layout.mount_engines(); layout.write_policies()
    node = layout.token('node')                            an Api with a token that has the policy of deploy/vault/node.hcl
    role = layout.approle('node'); api = role.login()      the same by a login
"""
import dataclasses
import glob
import os
import secrets
import time

from testpki import new_key, public_key, sign_jwt

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
TENANT_KEY, SERVER_KEY, KV_PREFIX = 'coffer-t-', 'coffer-s-', 'volumes'
NAMESPACE = 'service_account_namespace'  # the alias metadata that names the tenant, as auth/kubernetes does


@dataclasses.dataclass
class Role:
    """How to log in: POST auth/MOUNT/login with body, perhaps with a client certificate."""
    layout: object
    mount: str
    body: dict
    client: tuple = None

    def login(self):
        """An Api with the new token, whose .auth is what Vault said about it; VaultError when it was refused."""
        api = self.layout.root.as_(client=self.client)
        api.auth = api.call('POST', f'auth/{self.mount}/login', self.body).body['auth']
        api.token = api.auth['client_token']
        return api


class Layout:
    def __init__(self, vault):
        self.vault, self.root = vault, vault.root
        self.prefix = '' if vault.ours else f'coffer-test-{secrets.token_hex(4)}-'
        self.transit, self.kv = self.prefix + 'transit', self.prefix + 'coffer-kv'
        self.undo = []  # (method, path), last first

    def secret(self, uuid):
        """The path, below data/ or metadata/, of the secret that the volume of this uuid has."""
        names = self.root.call('LIST', f'{self.kv}/metadata/{KV_PREFIX}').data['keys']
        return f'{KV_PREFIX}/' + next(name for name in names if name.startswith(uuid))

    def later(self, method, path, body=None):
        self.undo.append((method, path, body))

    def remove(self):
        """Takes away what this object made, in a server that goes on living."""
        while self.undo:
            self.root.request(*self.undo.pop())

    # ---- engines and policies

    def mount_engines(self):
        for path, options in ((self.transit, {'type': 'transit'}), (self.kv, {'type': 'kv', 'options': {'version': '2'}})):
            self.root.call('POST', f'sys/mounts/{path}', options)
            self.later('DELETE', f'sys/mounts/{path}')
        self.wait_for_kv()

    def wait_for_kv(self):
        """A new KV v2 mount answers 400 "Upgrading from non-versioned to versioned data" for a moment."""
        end = time.monotonic() + 60
        while self.root.request('GET', f'{self.kv}/config').status != 200 and time.monotonic() < end:
            time.sleep(0.05)
        self.root.call('POST', f'{self.kv}/config', {'cas_required': True, 'delete_version_after': '0s'})

    def substitute(self, text, accessor='none'):
        for name, value in (('TRANSIT', self.transit), ('KV', self.kv), ('KV_PREFIX', KV_PREFIX), ('TENANT_KEY', TENANT_KEY),
                            ('SERVER_KEY', SERVER_KEY), ('ACCESSOR', accessor)):
            text = text.replace(f'@{name}@', value)
        return text

    def policy_name(self, role):
        return f'{self.prefix}coffer-{role}'

    def write_policy(self, role, text):
        name = self.policy_name(role)
        self.root.call('PUT', f'sys/policies/acl/{name}', {'policy': text})
        self.later('DELETE', f'sys/policies/acl/{name}')
        return name

    def write_policies(self, accessor='none'):
        """coffer-controller, coffer-node, …: one for each file. accessor: of the mount whose logins name their tenant."""
        for path in sorted(glob.glob(f'{ROOT}/deploy/vault/*.hcl')):
            with open(path, encoding='utf-8') as f:
                self.write_policy(os.path.basename(path)[:-4], self.substitute(f.read(), accessor))

    # ---- tokens and login methods

    def options(self, roles, more):
        """What every login method's role takes: policies and the token's limits (token_ttl, token_num_uses, …)."""
        return {'token_policies': [self.policy_name(role) for role in roles], 'token_no_default_policy': True, 'token_ttl': '1h', **more}

    def token(self, *roles, **options):
        """options of auth/token/create: ttl, num_uses, explicit_max_ttl, renewable, type, …"""
        wanted = {'policies': [self.policy_name(role) for role in roles], 'no_default_policy': True, 'ttl': '1h', **options}
        auth = self.root.call('POST', 'auth/token/create', wanted).body['auth']
        if auth['accessor']:
            self.later('POST', 'auth/token/revoke-accessor', {'accessor': auth['accessor']})
        api = self.root.as_(auth['client_token'])
        api.auth = auth
        return api

    def mount_auth(self, kind):
        """The mount's path; made when it isn't there."""
        path = f'{self.prefix}{kind}'
        if f'{path}/' not in self.root.call('GET', 'sys/auth').body:
            self.root.call('POST', f'sys/auth/{path}', {'type': kind})
            self.later('DELETE', f'sys/auth/{path}')
        return path

    def accessor(self, kind):
        path = self.mount_auth(kind)
        return self.root.call('GET', 'sys/auth').body[path + '/']['accessor']

    def approle(self, *roles, secret=None, wrap_seconds=None, **options):
        """secret: options of the secret id (num_uses, ttl); wrap_seconds: the body has a wrapping token instead of it."""
        mount, name = self.mount_auth('approle'), '-'.join(roles)
        self.root.call('POST', f'auth/{mount}/role/{name}', self.options(roles, options))
        role_id = self.root.call('GET', f'auth/{mount}/role/{name}/role-id').data['role_id']
        headers = {'X-Vault-Wrap-TTL': f'{wrap_seconds}s'} if wrap_seconds else {}
        made = self.root.call('POST', f'auth/{mount}/role/{name}/secret-id', secret or {}, headers=headers)
        secret_id = made.body['wrap_info']['token'] if wrap_seconds else made.data['secret_id']
        return Role(self, mount, {'role_id': role_id, 'secret_id': secret_id})

    def cert(self, *roles, **options):
        """Logs in with a client certificate of the vault's authority."""
        mount, name = self.mount_auth('cert'), '-'.join(roles)
        client = self.vault.authority.issue(f'client-{name}', usage='clientAuth', names=())
        with open(self.vault.authority.certificate, encoding='ascii') as f:
            authority = f.read()
        self.root.call('POST', f'auth/{mount}/certs/{name}',
                       {'certificate': authority, 'allowed_common_names': [f'client-{name}'], **self.options(roles, options)})
        return Role(self, mount, {'name': name}, client)

    def jwt(self, *roles, tenant='team-a', audience='vault', claims=None, **options):
        """A service account's token as Kubernetes makes it, signed with a key of our own; the tenant is its namespace."""
        mount, name, key = self.mount_auth('jwt'), '-'.join(roles), f'{self.vault.folder}/jwt.key'
        if not os.path.exists(key):
            new_key(key, 'rsa')
        self.root.call('POST', f'auth/{mount}/config', {'jwt_validation_pubkeys': [public_key(key)]})
        self.root.call('POST', f'auth/{mount}/role/{name}', {
            'role_type': 'jwt', 'user_claim': 'sub', 'bound_audiences': [audience],
            'claim_mappings': {'/kubernetes.io/namespace': NAMESPACE}, **self.options(roles, options)})
        return Role(self, mount, {'role': name, 'jwt': sign_jwt(key, {**service_account(tenant, audience), **(claims or {})})})

    def kubernetes(self, api_server, *roles, tenant='team-a', account='coffer', **options):
        """api_server: a fakekube.TokenReviewer, which is asked at each login."""
        mount, name = self.mount_auth('kubernetes'), '-'.join(roles)
        self.root.call('POST', f'auth/{mount}/config', {
            'kubernetes_host': api_server.address, 'kubernetes_ca_cert': api_server.ca_text, 'disable_local_ca_jwt': True,
            'token_reviewer_jwt': api_server.reviewer_token})
        self.root.call('POST', f'auth/{mount}/role/{name}', {
            'bound_service_account_names': [account], 'bound_service_account_namespaces': ['*'], 'audience': 'vault',
            **self.options(roles, options)})
        return Role(self, mount, {'role': name, 'jwt': api_server.issue(tenant, account)})

    # ---- what lives

    def live_tokens(self, role):
        """What auth/token/lookup-accessor says of each token that has this role's policy."""
        found = []
        for accessor in self.root.request('LIST', 'auth/token/accessors').data.get('keys', []):
            about = self.root.request('POST', 'auth/token/lookup-accessor', {'accessor': accessor}).data
            if self.policy_name(role) in (about.get('policies') or []):
                found.append(about)
        return found

    def live_leases(self, prefix):
        """Lease ids below a prefix, such as auth/approle/login/: one per service token that a login made."""
        found, waiting = [], [prefix.rstrip('/') + '/']
        while waiting:
            folder = waiting.pop()
            for name in self.root.request('LIST', f'sys/leases/lookup/{folder}').data.get('keys', []):
                (waiting if name.endswith('/') else found).append(folder + name)
        return found


def service_account(tenant, audience='vault', account='coffer', seconds=3600):
    """The claims of a projected service account token."""
    now = int(time.time())
    return {'iss': 'https://kubernetes.default.svc', 'sub': f'system:serviceaccount:{tenant}:{account}', 'aud': [audience],
            'iat': now, 'nbf': now, 'exp': now + seconds,
            'kubernetes.io': {'namespace': tenant, 'serviceaccount': {'name': account, 'uid': f'uid-of-{tenant}-{account}'},
                              'pod': {'name': 'coffer-node-0', 'uid': 'pod-uid'}}}
