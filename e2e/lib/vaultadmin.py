# SPDX-License-Identifier: Apache-2.0
"""What story vault-admin works with: World, where cofferctl is run against a Vault server with names of this run's own, and what
`vault check` and doctor found."""
import json
import os
import subprocess

import keydlib
from tap import demand
from vaultsetup import Layout

CTL = os.path.join(keydlib.caselib.BIN, 'cofferctl')
POLICIES = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..', 'deploy', 'vault'))


class Ended:
    def __init__(self, p):
        self.code, self.out, self.said = p.returncode, p.stdout, p.stderr
        self.all = f'exit code {self.code}\n{self.out}\n{self.said}'


class World:
    """A folder with one configuration for each role, names in the server that are this run's own, and everything that
    cofferctl ever printed."""

    def __init__(self, vault, tap, folder):
        self.vault, self.tap, self.folder, self.layout, self.printed = vault, tap, folder, Layout(vault), []
        self.root, self.prefix = vault.root, f'{self.layout.prefix}coffer-'
        self.transit, self.kv = self.layout.transit, self.layout.kv
        self.hidden = [self.root.token]
        self.host = vault.address.removeprefix('https://').rstrip('/')

    def mount(self, method):
        return f'{self.layout.prefix}{method}'

    def configure(self, role, auth, transit=None, pods=None, **more):
        """A configuration whose coffer-keyd logs in so; its path. pods: what `auth` of the transit one says of pods."""
        folder = os.path.join(self.folder, role)
        os.makedirs(os.path.join(folder, 'pool'), exist_ok=True)
        common = {'ca': self.vault.ca, 'auth': auth, **more}
        key = f'{transit or self.transit}/keys/coffer-t-{{tenant}}'
        with open(os.path.join(folder, 'config.json'), 'w', encoding='ascii') as f:
            json.dump({'pools': {'p': {'backend': 'file', 'path': f'{folder}/pool', 'kms': ['vault', 'kv'], 'allocate': 'full'}},
                       'kms': {'vault': {'uri': f'hcvault://{self.host}/{key}', **common, 'auth': {**auth, **(pods or {})},
                                 'server_key': 'coffer-s-1'},
                               'kv': {'uri': f'hcvault+kv://{self.host}/{self.kv}/volumes', **common}}}, f)
        return f.name

    def ctl(self, verb, config, *flags, token=True, **environment):
        # a release of the server has no namespace, and its address is the configuration's
        env = {k: v for k, v in os.environ.items() if not k.startswith('VAULT_') or k == 'VAULT_NAMESPACE'}
        env.update({'VAULT_TOKEN': self.root.token} if token else {}, **environment)
        argv = [CTL, 'vault', verb, '--config', config, '--policies', POLICIES, '--prefix', self.prefix, *flags]
        p = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=600, env=env)
        self.printed.append(p.stdout + p.stderr)
        return Ended(p)

    def doctor(self, config, keyd):
        argv = [CTL, 'doctor', '--only', 'coffer-keyd', '--output', 'json', '--config', config, '--keyd-socket', keyd.path]
        p = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=600)
        self.printed.append(p.stdout + p.stderr)
        return json.loads(p.stdout)

    def check(self, config, *flags, **how):
        """(exit code, rows) of vault check."""
        ended = self.ctl('check', config, '--output', 'json', *flags, **how)
        demand(ended.out, ended.all)
        return ended.code, json.loads(ended.out)

    def everything(self):
        """What the server has, to see that nothing changed."""
        read = {path: self.root.request('GET', path).body.get('data')
                for path in ('sys/mounts', 'sys/auth', 'sys/policies/acl?list=true')}
        return json.dumps(read, sort_keys=True)

    def remove(self):
        for method in ('approle', 'cert', 'kubernetes'):
            self.root.request('DELETE', f'sys/auth/{self.mount(method)}')
        for mount in (self.transit, self.kv):
            self.root.request('DELETE', f'sys/mounts/{mount}')
        for name in ('controller', 'node', 'node-rekey', 'node-tenant', 'scheduler', 'rotation', 'trim'):
            self.root.request('DELETE', f'sys/policies/acl/{self.prefix}{name}')
        self.layout.remove()


def found(rows, state, *words):
    """A row in that state that holds all the words, in what was found or what to type."""
    return any(r['state'] == state and all(w in r['check'] + ' ' + r['found'] + ' ' + r['fix'] for w in words) for r in rows)


def failures(rows):
    return [r for r in rows if r['state'] == 'FAIL']
