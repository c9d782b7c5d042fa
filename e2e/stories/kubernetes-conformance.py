#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kubernetes-conformance: the storage suite of Kubernetes' own end-to-end tests (External Storage) on Coffer. No case fails, those that
are skipped are exactly the ones that e2e/kubernetes/suite/expected.txt gives a reason for, docs/CONFORMANCE.md says the same, and
nothing is left behind. COFFER_SAMPLE above 1: the cases of SAMPLE only."""
# story: where=nodes timeout=8000 needs=kubernetes,kubernetes-suite,vault,image
import os
import re
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(HERE, '..', 'lib'))
import kubecluster  # noqa: E402
import kubecoffer  # noqa: E402
import kubesuite  # noqa: E402
import vaultserver  # noqa: E402
from kubeapi import object_path  # noqa: E402
from tap import begin  # noqa: E402

SAMPLE = (  # one of each kind
    '[Testpattern: Dynamic PV (default fs)] volumes should store data',
    '[Testpattern: Dynamic PV (block volmode)] volumes should store data',
    '[Testpattern: Dynamic PV (xfs)] [Slow] volumes should allow exec of files on the volume',
    '[Testpattern: Dynamic PV (default fs)] subPath should support existing directory',
    '[Testpattern: Dynamic PV (default fs)(allowExpansion)] volume-expand should resize volume when PVC is edited while pod is using it',
    '[Testpattern: Generic Ephemeral-volume (default fs) (late-binding)] ephemeral should create read/write inline ephemeral volume',
    '[Testpattern: Dynamic PV (default fs)] capacity provides storage capacity information',
    '[Testpattern: Dynamic PV (default fs)] read-write-once-pod should block a second pod from using an in-use ReadWriteOncePod volume',
)


def sampled():
    return int(os.environ.get('COFFER_SAMPLE') or 1) > 1


def focus():
    names = '|'.join(re.escape(name) for name in SAMPLE) if sampled() else ''
    return f'{re.escape(kubesuite.PREFIX)}({names})'


def report(tap, c, found):
    """One line for each case that ran, and one for what didn't."""
    expected = kubesuite.expectations()
    for case in found:
        known = next((e.reason for e in expected if e.state == case.state == 'failed' and e.means(case)), None)
        if known:
            tap.skip(case.name, known)
        elif case.state not in ('skipped', kubesuite.LEFT_OUT):
            tap.check(case.state == 'passed', case.name, case.said)
        if case.attempts > 1:
            print(f'# {case.attempts} attempts', flush=True)
    if sampled():
        ran = sum(case.state == 'passed' for case in found)
        tap.check(ran == len(SAMPLE), f'the {len(SAMPLE)} cases of the sample passed', f'{ran} passed')
        return
    skipped = sum(case.state == 'skipped' for case in found)
    wrong = kubesuite.differences(found, expected)
    tap.check(not wrong, f'skipped or failed is exactly what expected.txt gives a reason for ({skipped} cases skipped)', wrong)
    made = kubesuite.table(found, expected)
    with open(f'{c.folder}/logs/conformance.md', 'w', encoding='utf-8') as f:
        f.write(made)
    with open(f'{ROOT}/docs/CONFORMANCE.md', encoding='utf-8') as f:
        tap.check(made in f.read(), 'docs/CONFORMANCE.md says the same',
                  f"the table as it should be: {c.folder}/logs/conformance.md")


def nothing_left(c, coffer, used_before):
    """Volumes, mappings, mounts, records, space, stored keys; after the suite's namespaces have gone."""
    c.api.wait(object_path('Namespace'), lambda o: not any('e2e-framework' in (n['metadata'].get('labels') or {}) for n in o['items']))
    c.api.wait(object_path('PersistentVolume'), lambda o: o['items'] == [])
    for node in c.nodes:
        left = coffer.left_over(node) or node.run('find /var/lib/coffer/default -name record.json -o -name image').strip()
        grown = coffer.pool_used(node) - used_before[node.name]
        if left or grown > 1 << 20:
            raise AssertionError(f'{node.name}: {grown} bytes more than before; left: {left}')
    tenants = coffer.vault.root.request('LIST', 'transit/keys').data['keys']  # a tenant's key stays, also without its namespace
    if coffer.stored_keys() or not all(name.startswith('coffer-t-') for name in tenants):
        raise AssertionError(f'keys in Vault: {coffer.stored_keys()} {tenants}')


def main():
    tap = begin('kubernetes-conformance', kubecluster.why_not() or kubesuite.why_not() or vaultserver.why_not() or kubecoffer.why_not())
    kubecluster.enter()
    with tempfile.TemporaryDirectory(dir=os.environ['COFFER_BUILD']) as folder:
        images = [kubecoffer.image(), *kubesuite.images(os.environ['COFFER_KUBERNETES'], folder)]
        with kubecluster.cluster('kubernetes-conformance', images=images, pool_size='20G') as c, kubecoffer.Coffer(c) as coffer:
            coffer.install()
            used_before = {node.name: coffer.pool_used(node) for node in c.nodes}
            with c.times.of('the suite'):
                found = kubesuite.run(c, focus())
            report(tap, c, found)
            tap.run('nothing is left behind: volumes, mappings, mounts, records, space, keys', nothing_left, c, coffer, used_before)
    tap.done()


main()
