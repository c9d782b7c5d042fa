# SPDX-License-Identifier: Apache-2.0
"""Cuts while a tenant's key is rotated, records are rewrapped, and the old version is retired and trimmed. Vault is another machine,
which has power: what it destroyed stays destroyed, so after the trim no cut may bring back a record that needs an old version."""
import os
import shutil
import subprocess

import vaultserver
from fixture import GID, MIB, UID_CONTROLLER
from powerpast import DiskCoffer, Recorded
from tap import demand
from vaultcoffer import services
from vaultsetup import Layout

TENANT, NAMES = 'team', ('k1', 'k2')
USER = {'user': UID_CONTROLLER, 'group': GID, 'extra_groups': []}  # the pool's owner


class Keys:
    """cofferctl key, with the tokens of who may."""

    def __init__(self, c, layout):
        self.c, self.folder, self.tokens = c, c.root + '.tokens', {}
        c.make_dir(self.folder, UID_CONTROLLER, GID, 0o700)
        for roles in (('rotation',), ('rotation', 'trim')):
            path = f'{self.folder}/{"-".join(roles)}'
            with open(path, 'w', encoding='ascii') as f:
                f.write(layout.token(*roles, ttl='24h').token + '\n')
            os.chmod(path, 0o600)
            os.chown(path, UID_CONTROLLER, GID)
            self.tokens[roles[-1]] = path

    def run(self, verb, *args, token='rotation', code=0):
        argv = [self.c.bin + '/cofferctl', 'key', verb, '--tenant', TENANT, *args, '--config', self.c.config, '--token-file',
                self.tokens[token]]
        p = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd='/', timeout=1800, **USER,
                           env={'PATH': '/usr/bin:/bin', 'COFFER_FAULT_DIR': self.c.fault_dir})
        demand(code in (None, p.returncode), f'key {verb}: exit {p.returncode}: {p.stdout}{p.stderr}')
        return p

    def rewrap(self):
        self.run('rewrap', '--rate', '0')

    def killed_rewrap(self, point):
        path = f'{self.c.fault_dir}/cofferctl.arm'
        with open(path, 'w', encoding='ascii') as f:
            f.write('kill ' + point)
        os.chmod(path, 0o644)
        p = self.run('rewrap', '--rate', '0', code=None)
        os.unlink(path)
        demand(p.returncode == -9, f'rewrap was not killed at {point}: {p.returncode} {p.stderr}')

    def trim(self):
        self.run('retire', '--nodes', '1')
        self.run('trim', '--nodes', '1', '--grace', '0', '--yes', token='trim')


def parameters():
    return {'parameters': {'kms': 'vault', 'tenant': TENANT}}


class RotatedPast(Recorded):
    """Its cuts before the trim find Vault as it was before."""

    def __init__(self, vault, folder):
        super().__init__(folder, 'ext4', make=lambda root: DiskCoffer(root, services=self.connect(vault, root)))
        self.keys, self.present = None, ''

    def connect(self, vault, root):
        self.vault, self.layout = vault, Layout(vault)
        self.layout.mount_engines()
        self.layout.write_policies()
        os.makedirs(root + '.vault', mode=0o755)
        shutil.copy(vault.ca, root + '.vault/ca.pem')
        vault.ca = root + '.vault/ca.pem'
        return services(vault, self.layout, root + '.vault')

    def story(self, life):
        self.keys = Keys(self.c, self.layout)
        for name in NAMES:
            life.create(name, size=16 * MIB, **parameters())
            life.stage(name)
            life.write(name)
            life.unstage(name)
        self.keys.run('rotate')
        life.say_all(NAMES, doing='rewrap')
        self.keys.killed_rewrap('cofferctl:rewrap:written')
        self.keys.killed_rewrap('fs:atomic:renamed')  # the last one: its record isn't durable
        self.keys.rewrap()                            # and this passes it by
        life.say_all(NAMES, doing=None)
        self.keep_vault('before')
        life.say_all(NAMES, doing='trim')
        self.keys.trim()
        life.say_all(NAMES, doing=None)
        self.keep_vault('after')

    def storage(self, which):
        return f'{self.vault.folder}/storage{which and "." + which}'

    def keep_vault(self, which):
        self.vault.stop()
        shutil.copytree(self.storage(''), self.storage(which))
        self.vault.start()

    def bring_vault(self, which):
        self.vault.stop()
        shutil.rmtree(self.storage(''))
        shutil.copytree(self.storage(which), self.storage(''))
        self.vault.start()

    def cuts(self, writes, thorough=True):
        return [(n, what) for n, what in super().cuts(writes, thorough) if 'rewrap' in what or 'trim' in what]

    def judge(self, cut):
        began = next(i for i, (known, _) in enumerate(self.history) if known.get(NAMES[0], {}).get('doing') == 'trim')
        which = 'after' if int(self.past.mark_before(cut) or -1) >= began else 'before'
        if which != self.present:
            self.bring_vault(which)
            self.present = which
        super().judge(cut)


def recorded_beside_vault(tap, folder, past_of, title, writes):
    """A life on a recorded disk, beside a Vault that keeps its power."""
    server = folder + '.server'
    os.mkdir(server)
    with vaultserver.open_vault(server) as vault:
        past = past_of(vault, folder)
        past.run(tap, past.story, title, writes=writes)


def recorded(tap, folder):
    recorded_beside_vault(tap, folder, RotatedPast, 'a tenant\'s key is rotated', writes=0)
