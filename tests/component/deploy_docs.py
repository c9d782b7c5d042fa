#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The administrator's pages: every command and flag of cofferctl that they type exists, every message that they explain is one
that a program says, every page and folder that they name is there. TAP on stdout, no root."""
import glob
import os
import re
import sys

import caselib
from caselib import ROOT, program

PAGES = ('docs/kubernetes.md', 'docs/RECOVERY.md', 'docs/troubleshooting.md', 'docs/vault.md', 'docs/administration.md',
         'docs/host.md', 'docs/rotation.md', 'docs/rekey.md', 'docs/recipients.md', 'docs/client-keys.md', 'docs/clouds-client.md',
         'docs/launch.md', 'docs/scheduler.md', 'docs/scheduler-local.md', 'README.md', 'SECURITY.md', 'ARCHITECTURE.md',
         'deploy/kustomize/README.md', 'deploy/chart/templates/NOTES.txt', 'deploy/monitoring/README.md')
SOURCES = ('common', 'volume', 'csi', 'backends', 'http', 'vault', 'keyd', 'crypt', 'controller', 'node', 'recipient', 'cofferctl')
# what kubelet, the scheduler and the provisioner say
KUBERNETES = {'configmap "coffer-vault-ca" not found', 'waiting for first consumer', 'did not have enough free storage',
              'driver name csi.coffer.dev not found in the list of registered CSI drivers', 'waiting for an external controller'}
COMMAND = re.compile(r'cofferctl ((?:config|pool|volume|recipient|record|node|vault|key|vm) [a-z-]+|doctor)((?: +[^ `|;&\n]+)*)')


def pages():
    for page in PAGES:
        yield page, caselib.read(ROOT, page)


def verbs():
    """{"group verb": its --help}"""
    found = re.findall(r'^  ((?:[a-z]+) [a-z-]+|doctor)\b', caselib.run([program('cofferctl'), '--help']).stdout, re.M)
    return {verb: caselib.run([program('cofferctl'), *verb.split(), '--help']).stdout for verb in found}


def commands_exist():
    known, seen = verbs(), 0
    for page, text in pages():
        for verb, rest in COMMAND.findall(text):
            assert verb in known, (page, verb, sorted(known))
            for flag in re.findall(r'--[a-z][a-z-]*', rest):
                seen += 1
                assert flag + ' ' in known[verb] or flag + '=' in known[verb] or flag + '\n' in known[verb], (page, verb, flag)
    assert seen > 20, seen


def spoken():
    """All texts of the programs: adjacent literals joined, formats as one mark."""
    texts = []
    for folder in SOURCES:
        for path in glob.glob(f'{ROOT}/{folder}/*.[ch]'):
            source = re.sub(r'"\s*(?:PRI\w+\s*)?"', '', caselib.read(path))
            source = source.replace('\\"', '\x01')
            texts += re.findall(r'"([^"\n]*)"', source)
    return '\n'.join(re.sub(r'%[-.\d*]*(?:ll|z|l|h)?[a-zA-Z]', '\x00', text) for text in texts)


def messages_are_said():
    said, checked = spoken(), 0
    for line in caselib.read(ROOT, 'docs/troubleshooting.md').splitlines():
        if not line.startswith('| `'):
            continue
        for message in re.findall(r'`([^`]+)`', line.split('|')[1]):
            if message in KUBERNETES or message.isupper() or message in ('DATA_LOSS', 'Vault'):
                continue
            pattern = r'[^\n]*'.join(re.escape(part) for part in message.split('…') if part.strip(" '"))
            assert re.search(pattern, said), f'no program says: {message}'
            checked += 1
    assert checked > 30, checked


def named_files_exist():
    for page, text in pages():
        for name in re.findall(r'`((?:deploy|docs|e2e|tests)/[A-Za-z0-9_./-]+)`', text):
            assert os.path.exists(os.path.join(ROOT, name)), (page, name)
        for name in re.findall(r'`([A-Za-z-]+\.md)`', text):
            assert any(os.path.exists(os.path.join(ROOT, folder, name)) for folder in ('', 'docs', os.path.dirname(page))), (page, name)


def the_users_are_the_manifests():
    """--owner of the pages is who the controller's container runs as."""
    manifest = caselib.read(ROOT, 'deploy/kustomize/base/controller.yaml')
    user = re.search(r'least\n +runAsUser: (\d+)\n +runAsGroup: (\d+)', manifest)
    for page, text in pages():
        for owner in re.findall(r'--owner (\d+:\d+)', text):
            assert owner == f'{user.group(1)}:{user.group(2)}', (page, owner)


if __name__ == '__main__':
    sys.exit(caselib.main([commands_exist, messages_are_said, named_files_exist, the_users_are_the_manifests]))
