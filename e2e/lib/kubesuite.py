# SPDX-License-Identifier: Apache-2.0
"""The storage suite of Kubernetes' own end-to-end tests on a cluster for tests (e2e/kubernetes/suite/): its images, its run, and its
result held against what we expect of it.

    archives = images(components, folder)            for cluster(images=…)
    cases = run(cluster, focus)                      every case of our driver that was run, or that skipped itself
    differences(cases, expectations())               '' when skipped and failed are exactly those that expected.txt lists
    table(cases, expectations())                     as docs/CONFORMANCE.md has it
"""
import collections
import dataclasses
import json
import os
import re
import shutil
import subprocess

from kubeimages import Image, busybox_image, write_image

HERE = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), 'kubernetes', 'suite')
LEFT_OUT = 'left-out'
PREFIX = 'External Storage [Driver: csi.coffer.dev] '
PROCESSES, MINUTES = 4, 110  # a node's VM ends after two hours
# what k8s.io/kubernetes/test/utils/image of v1.36.3 asks for; the suite uses nothing but their shells and agnhost
UPSTREAM = 'registry.k8s.io/e2e-test-images'
BUSYBOX, AGNHOST, NGINX, GLIBC = (f'{UPSTREAM}/{name}' for name in ('busybox:1.37.0-1', 'agnhost:2.63.0', 'nginx:1.15-4',
                                                                   'glibc-dns-testing:2.0.0'))


def why_not():
    """Why the suite can't run here; '' when it can."""
    if os.environ.get('COFFER_KUBERNETES_SUITE'):
        return ''
    return os.environ.get('COFFER_KUBERNETES_SUITE_WHY') or 'COFFER_KUBERNETES_SUITE does not say where the suite is (e2e/run sets it)'


# ---- images

def libraries(program):
    """What is loaded for it, the loader included, by their paths."""
    said = subprocess.run(['ldd', program], capture_output=True, text=True, check=True).stdout
    return {path.lstrip('/'): path for path in re.findall(r'(/\S+) \(0x', said)}


def images(components, folder):
    """Archives in folder, under the names that the suite asks for."""
    busybox = busybox_image(components)
    # busybox's dd knows no oflag=nocache, which is why some cases want another image; and its shell runs no dd but its own
    dd, shell = shutil.which('dd'), shutil.which('dash')
    gnu = {'bin/dd': dd, 'bin/sh': shell, **libraries(dd), **libraries(shell)}
    made = [dataclasses.replace(busybox, reference=BUSYBOX),
            dataclasses.replace(busybox, reference=NGINX),
            Image(AGNHOST, ['/agnhost'], {**busybox.files, 'agnhost': f'{os.environ["COFFER_KUBERNETES_SUITE"]}/agnhost'}, busybox.links),
            Image(GLIBC, ['/bin/sh'], {**busybox.files, **gnu}, {k: v for k, v in busybox.links.items() if k not in gnu})]
    return [write_image(f'{folder}/suite-{number}.tar', image) for number, image in enumerate(made)]


# ---- the run

@dataclasses.dataclass
class Case:
    name: str  # without PREFIX
    state: str  # LEFT_OUT, or as ginkgo says it: passed, skipped, failed, timedout, panicked, …
    said: str  # why it failed or skipped itself
    seconds: float
    attempts: int = 1  # an exec that breaks off on an emulated node fails a case of its own accord: it may be tried again

    @property
    def suite(self):
        """volumes, subPath, …"""
        return re.sub(r'^(\[[^]]*\] )+', '', self.name).split(' ')[0]


def run(cluster, focus):
    """focus: a regular expression for the names of cases, PREFIX included. What expected.txt leaves out isn't run."""
    suite, report = os.environ['COFFER_KUBERNETES_SUITE'], f'{cluster.folder}/logs/conformance.json'
    argv = [f'{suite}/ginkgo', f'--procs={PROCESSES}', '--no-color', f'--timeout={MINUTES}m', f'--focus={focus}', '--silence-skips',
            '--flake-attempts=2',
            f'--skip={"|".join(e.pattern for e in expectations() if e.state == LEFT_OUT) or "^$"}',
            '--output-dir', os.path.dirname(report), f'--json-report={os.path.basename(report)}', f'{suite}/storage.test', '--',
            f'-kubeconfig={cluster.folder}/pki/admin.kubeconfig', '-provider=skeleton', f'-storage.testdriver={HERE}/driver.yaml']
    with open(f'{cluster.folder}/logs/conformance.log', 'wb') as log:
        subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, cwd=cluster.folder)
    if not os.path.exists(report):
        raise RuntimeError(f'the suite made no report; see {log.name}')
    return cases(report)


def cases(report):
    """Of our driver; one that ginkgo was told to leave out has nothing to say."""
    with open(report, encoding='utf-8') as f:
        specs = [spec for suite in json.load(f) for spec in suite['SpecReports'] or [] if spec['LeafNodeType'] == 'It']
    found = []
    for spec in specs:
        name = ' '.join([*(spec['ContainerHierarchyTexts'] or []), spec['LeafNodeText']])
        said = spec.get('Failure', {}).get('Message', '')
        if name.startswith(PREFIX):
            state = LEFT_OUT if spec['State'] == 'skipped' and not said else spec['State']
            found.append(Case(re.sub(r'\s+', ' ', name[len(PREFIX):]), state, said, spec['RunTime'] / 1e9, spec['NumAttempts'] or 1))
    return sorted(found, key=lambda case: case.name)


# ---- what is expected of it

@dataclasses.dataclass(frozen=True)
class Expectation:
    state: str  # skipped, failed or left-out
    pattern: str  # a regular expression, found anywhere in the case's name
    reason: str

    def means(self, case):
        return re.search(self.pattern, case.name) is not None


def expectations():
    """expected.txt, in its order: the first line that means a case is the one that counts."""
    found = []
    with open(f'{HERE}/expected.txt', encoding='utf-8') as f:
        for line in filter(None, (line.strip() for line in f)):
            if not line.startswith('#'):
                rule, separator, reason = line.partition(' # ')
                state, _, pattern = rule.partition(' ')
                if not separator or state not in ('skipped', 'failed', LEFT_OUT):
                    raise ValueError(f'expected.txt: "{line}" is not "skipped|failed|left-out PATTERN # REASON"')
                found.append(Expectation(state, pattern.strip(), reason))
    return found


def sort_out(found, expected):
    """(expectation -> its cases, the other cases)"""
    meant, others = {e: [] for e in expected}, []
    for case in found:
        first = next((e for e in expected if e.means(case)), None)
        (meant[first] if first else others).append(case)
    return meant, others


def differences(found, expected):
    """One line for each; '' when there are none."""
    meant, others = sort_out(found, expected)
    lines = [f'{case.state}, not listed: {case.name}: {first_line(case.said)}' for case in others if case.state != 'passed']
    for expectation, its in meant.items():
        lines += [f'listed as {expectation.state} by "{expectation.pattern}", but {case.state}: {case.name}'
                  for case in its if case.state != expectation.state]
        if not its:
            lines.append(f'listed, but no case has such a name: {expectation.pattern}')
    return '\n'.join(lines)


def first_line(text):
    return text.strip().splitlines()[0][:200] if text.strip() else ''


def count_failed(states):
    return sum(n for state, n in states.items() if state not in ('passed', 'skipped', LEFT_OUT))


def table(found, expected):
    """Markdown: how many, by suite; then each line of expected.txt with its cases counted."""
    states = collections.Counter(case.state for case in found)
    rows = [f'{len(found)} cases: {states["passed"]} passed, {count_failed(states)} failed, {states["skipped"]} skipped, '
            f'{states[LEFT_OUT]} left out.', '', '| suite | passed | failed | skipped | left out |', '|---|---|---|---|---|']
    for suite in sorted({case.suite for case in found}):
        own = collections.Counter(case.state for case in found if case.suite == suite)
        rows.append(f'| {suite} | {own["passed"]} | {count_failed(own)} | {own["skipped"]} | {own[LEFT_OUT]} |')
    rows += ['', '| cases | | whose name has | reason |', '|---|---|---|---|']
    for expectation, its in sort_out(found, expected)[0].items():
        pattern = expectation.pattern.replace('\\', '').replace('|', ' *or* ')
        rows.append(f'| {len(its)} | {expectation.state} | {pattern} | {expectation.reason} |')
    return '\n'.join(rows) + '\n'
