#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# story: disk=8G needs=csi-sanity
"""sanity: csi-sanity against controller and node on real dm-crypt: mount, raw block, and --expand=node. 0 failed, and
the skipped cases are exactly those of e2e/sanity/expected-skips.txt. COFFER_SANITY: the csi-sanity program
(e2e/sanity/build.sh makes it; needs Go)."""
import os
import subprocess
import sys
import xml.etree.ElementTree as ET

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'lib'))
from fixture import MIB, Coffer  # noqa: E402
from tap import begin  # noqa: E402

SIZE, GROWN = 512 * MIB, 640 * MIB


def expected_skips():
    with open(os.path.join(HERE, '..', 'sanity', 'expected-skips.txt'), encoding='utf-8') as f:
        lines = [line.rstrip('\n') for line in f]
    return {line.split(' # ')[0].strip() for line in lines if line.strip() and not line.startswith('#')}


def cases(report):
    """name -> 'passed' | 'failed' | 'skipped', and the failures' texts"""
    status, texts = {}, {}
    for case in ET.parse(report).iter('testcase'):
        name = case.get('name').replace('[It] ', '', 1)
        if name.startswith('['):  # suite set-up and tear-down nodes
            continue
        bad = case.find('failure') if case.find('failure') is not None else case.find('error')
        status[name] = 'failed' if bad is not None else 'skipped' if case.find('skipped') is not None else 'passed'
        texts[name] = (bad.text or bad.get('message') or '') if bad is not None else ''
    return status, texts


def run_sanity(c, program, access):
    report = os.path.join(c.root, 'sanity.xml')
    p = subprocess.run([
        program, f'--csi.endpoint=unix://{c.node_socket}', f'--csi.controllerendpoint=unix://{c.controller_socket}',
        f'--csi.mountdir={c.kubelet}/mount', f'--csi.stagingdir={c.kubelet}/staging', f'--csi.testvolumesize={SIZE}',
        f'--csi.testvolumeexpandsize={GROWN}', f'--csi.testvolumeaccesstype={access}', f'--ginkgo.junit-report={report}',
        '--ginkgo.no-color'], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if not os.path.exists(report):
        raise RuntimeError('csi-sanity made no report:\n' + p.stdout.decode(errors='replace')[-3000:])
    return cases(report)


def one_mode(tap, program, name, access, expand):
    c = Coffer(os.path.join(os.environ['COFFER_SCRATCH'], name), expand=expand)
    c.install()
    c.start()
    status, texts = run_sanity(c, program, access)
    for case, result in status.items():
        if result != 'skipped':
            tap.check(result == 'passed', f'{name}: {case}', texts[case])
    skipped = {case for case, result in status.items() if result == 'skipped'}
    if expand == 'node':  # the controller has no EXPAND_VOLUME there
        skipped = {s for s in skipped if 'ExpandVolume [Controller Server]' not in s}
    want = expected_skips()
    tap.check(skipped == want, f'{name}: skipped exactly what is listed ({len(want)} cases)',
              'not listed: %s\nlisted, but not skipped: %s' % (sorted(skipped - want), sorted(want - skipped)))
    tap.check(not c.left_over(), f'{name}: nothing left over', c.left_over())
    c.stop()


def main():
    program = os.environ.get('COFFER_SANITY', '')
    tap = begin('csi-sanity', not os.path.exists(program) and (os.environ.get('COFFER_SANITY_WHY') or 'csi-sanity was not built'))
    one_mode(tap, program, 'mount', 'mount', 'controller')
    one_mode(tap, program, 'block', 'block', 'controller')
    one_mode(tap, program, 'expand-node', 'mount', 'node')
    tap.done()


main()
