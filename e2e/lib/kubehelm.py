# SPDX-License-Identifier: Apache-2.0
"""The Helm chart on a cluster for tests, by a real Helm and the commands of docs/kubernetes.md: install, upgrade, roll back, uninstall.
Vault and what is in it are kubecoffer.Coffer's.

    helm = kubehelm.Helm(coffer)
    helm.install()
    helm.upgrade('log.level=debug')
"""
import json
import os
import subprocess

from kubecoffer import NAMESPACE, ROOT, configuration

RELEASE, CHART = 'coffer', f'{ROOT}/deploy/chart'
SECONDS = '20m'


def why_not():
    """Why there is no Helm here; '' when there is."""
    if os.environ.get('COFFER_HELM'):
        return ''
    return os.environ.get('COFFER_HELM_WHY') or 'COFFER_HELM does not say where Helm is (e2e/run sets it)'


class Helm:
    def __init__(self, coffer):
        """coffer: prepared."""
        self.c, self.coffer, self.program = coffer.c, coffer, os.environ['COFFER_HELM']
        self.values = f'{coffer.folder}/my-values.yaml'
        with open(self.values, 'w', encoding='ascii') as f:
            json.dump({'config': configuration()}, f, indent=1)

    def run(self, *arguments):
        """Its stdout; RuntimeError with its stderr when it failed."""
        control = self.c.control
        environment = {'HOME': control.folder, 'PATH': os.defpath, 'KUBECONFIG': f'{control.folder}/pki/admin.kubeconfig'}
        with subprocess.Popen(['setpriv', '--pdeathsig', 'KILL', self.program, *arguments], stdin=subprocess.DEVNULL, env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            said, why = self.wait(process)
        if process.returncode != 0:
            raise RuntimeError(f'helm {" ".join(arguments)}: {why.strip()}')
        return said

    def wait(self, process):
        """Helm waits for pods, and would for those of a node that is gone."""
        while True:
            try:
                return process.communicate(timeout=1)
            except subprocess.TimeoutExpired:
                try:
                    self.c.control.alive()
                except BaseException:
                    process.kill()
                    raise

    def ours(self, *settings):
        """What install and upgrade have in common: an upgrade is told all values again."""
        return [RELEASE, CHART, '-n', NAMESPACE, '-f', self.values, '--set-file', f'vault.ca={self.coffer.vault.ca}',
                *(word for setting in settings for word in ('--set', setting))]

    def install(self):
        return self.run('install', *self.ours())

    def upgrade(self, *settings):
        """Returns when all pods have been replaced and are ready."""
        return self.run('upgrade', *self.ours(*settings), '--wait', '--timeout', SECONDS)

    def rollback(self, revision):
        return self.run('rollback', RELEASE, str(revision), '-n', NAMESPACE, '--wait', '--timeout', SECONDS)

    def uninstall(self):
        return self.run('uninstall', RELEASE, '-n', NAMESPACE, '--wait', '--timeout', SECONDS)

    def objects(self):
        """kind/name of what the release made."""
        made = self.run('get', 'manifest', RELEASE, '-n', NAMESPACE)
        return self.c.kubectl('get', '-n', NAMESPACE, '-f', '-', '-o', 'name', data=made).split()
