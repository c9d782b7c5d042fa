#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vault-rescue: volumes whose keys are in the real Vault, opened without a node: `cofferctl volume rescue --vault` with an
administrator's token that may do what a node may, and stock cryptsetup. What it asks of Vault, counted in the audit log; tokens
that it was given live on, those of its own logins don't; root's token, a foreign one and a dead one give nothing out."""
# story: disk=8G needs=vault memory=2048M
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import vaultcoffer  # noqa: E402
import vaultserver  # noqa: E402
from files import write  # noqa: E402
from fixture import MIB, Coffer  # noqa: E402
from keydfaults import opened  # noqa: E402
from tap import demand  # noqa: E402

SIZE = 32 * MIB
SERVICES = ('vault', 'kv')


def shell(line, ok=True):
    done = subprocess.run(['bash', '-c', 'set -o pipefail\n' + line], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    demand((done.returncode == 0) == ok, f'{line}: {done.returncode}: {done.stdout}{done.stderr}')
    return done


class Machine:
    """Where no daemon of Coffer runs: images and records of one volume for each key service, and a way to Vault."""

    def __init__(self, w):
        self.w, self.folder = w, os.path.join(os.environ['COFFER_SCRATCH'], 'machine')
        os.mkdir(self.folder, 0o700)
        auth = w.approle()
        vaultcoffer.readable(w, auth)
        c = self.c = Coffer(services=w.config(w.server, auth=auth)['kms'])
        c.install()
        c.start()
        for kms in SERVICES:
            volume = c.create(kms, SIZE, parameters={'kms': kms})
            c.stage(volume)
            write(c.staging(volume) + '/file', kms.encode() * 1000)
            c.unstage(volume)
            shell(f'cp --sparse=always {c.image(volume)} {self.folder}/{kms}.image && '
                  f'cp {c.place(volume)}/record.json {self.folder}/{kms}.json')
        c.stop()
        self.mark = w.vault.audit.mark()

    def configure(self, auth):
        with open(f'{self.folder}/rescue.json', 'w', encoding='utf-8') as f:
            json.dump(self.w.config(self.w.server, auth=auth), f)

    def token(self, text):
        path = f'{self.folder}/token'
        with open(path, 'w', encoding='ascii', opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            f.write(text + '\n')
        self.configure({'method': 'token-file', 'token_path': path})

    def asked(self):
        """What anybody but root asked since the last call."""
        entries = self.w.vault.audit.entries(self.mark)
        self.mark = self.w.vault.audit.mark()
        return [(e.operation, e.path.split('/')[0] + '/' + e.path.split('/')[1]) for e in entries if 'root' not in e.policies]

    def line(self, kms, record=None):
        return (f'{self.c.bin}/cofferctl volume rescue {self.folder}/{kms}.image --record {self.folder}/{record or kms}.json --vault '
                f'--config {self.folder}/rescue.json --crypt-helper {self.c.bin}/coffer-crypt --keyd {self.c.bin}/coffer-keyd '
                '--reason story')

    def opens(self, kms):
        done = shell(f'{self.line(kms)} | cryptsetup open {self.folder}/{kms}.image rescued')
        demand(done.stderr.count('"audit" action="rescue"') == 1 and '"story"' in done.stderr, done)
        os.makedirs(f'{self.folder}/mnt', exist_ok=True)
        shell(f'mount -o ro /dev/mapper/rescued {self.folder}/mnt')
        with open(f'{self.folder}/mnt/file', 'rb') as f:
            data = f.read()
        shell(f'umount {self.folder}/mnt && cryptsetup close rescued')
        demand(data == kms.encode() * 1000, f'the data is {data[:50]!r}')
        self.nothing_runs()

    def refused(self, words, kms='vault', record=None):
        done = shell(self.line(kms, record) + ' | cat', ok=False)
        said = [line for line in done.stderr.splitlines() if line.startswith('cofferctl: ')]
        demand(done.stdout == '' and len(said) == 1 and words in said[0], f'{done.stdout!r} {done.stderr}')
        self.nothing_runs()

    @staticmethod
    def nothing_runs():
        demand(not [f for f in os.listdir('/run') if f.startswith('coffer-rescue.')], 'a folder is left in /run')
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                with open(f'/proc/{pid}/comm', encoding='utf-8') as f:
                    name = f.read().strip()
            except OSError:
                continue
            demand(name != 'coffer-keyd', f'coffer-keyd {pid} runs')


def with_a_token(m):
    token = m.w.layout.token('node')
    m.token(token.token)
    for kms, path in (('vault', m.w.layout.transit), ('kv', m.w.layout.kv)):
        m.asked()
        m.opens(kms)
        asked = m.asked()
        demand(('update', f'{path}/decrypt') in asked or ('read', f'{path}/data') in asked, asked)
        demand({p for _, p in asked} <= {f'{path}/decrypt', f'{path}/data', 'sys/capabilities-self', 'auth/token'}, asked)
    demand(token.request('GET', 'auth/token/lookup-self').status == 200, 'the token it was given was revoked')


def with_a_login_of_its_own(m):
    """By approle: the token that it got for the one request is given back."""
    auth = m.w.approle('node')
    m.configure(auth)
    mark = m.w.vault.audit.mark()
    m.opens('vault')
    asked = [e.path for e in m.w.vault.audit.entries(mark)]
    demand(asked[0].startswith('auth/approle/login') and asked[-1] == 'auth/token/revoke-self', asked)


def other_tokens(m):
    m.token(m.w.root.token)
    m.refused("Vault's policy must not allow this identity")
    m.token(m.w.layout.token('controller').token)
    m.refused("Vault's policy must ")
    dead = m.w.layout.token('node')
    dead.call('POST', 'auth/token/revoke-self')
    m.token(dead.token)
    m.refused('coffer-keyd: ')


def other_records(m):
    m.token(m.w.layout.token('node').token)
    m.refused('header', 'vault', 'kv')
    for field, value, words in (('tenant', 'other', 'coffer-keyd: '), ('kms', 'none', "'none'"), ('mac', '0' * 64, "its MAC doesn't fit")):
        with open(f'{m.folder}/vault.json', encoding='utf-8') as f:
            record = json.load(f)
        record[field] = value
        with open(f'{m.folder}/changed.json', 'w', encoding='utf-8') as f:
            json.dump(record, f)
        m.refused(words, 'vault', 'changed')


def vault_is_sealed(m):
    m.token(m.w.layout.token('node').token)
    m.w.vault.seal()
    m.refused('coffer-keyd: ')
    m.w.vault.unseal()
    m.opens('vault')


def story(vault, folder, tap):
    with opened(vault, folder) as w:
        m = Machine(w)
        tap.run("an administrator's token opens volumes of both engines without a node, and lives on", with_a_token, m)
        tap.run('by a login of its own: its token is revoked at the end', with_a_login_of_its_own, m)
        tap.run("root's token, a token that may not, a dead token: nothing is given out", other_tokens, m)
        tap.run("another volume's record, a changed one: nothing is given out", other_records, m)
        tap.run('a sealed Vault is an error, and no more', vault_is_sealed, m)


vaultserver.main('vault-rescue', "it can't be sealed", story)
