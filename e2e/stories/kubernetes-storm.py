#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kubernetes-storm: 50 claims and 50 pods made at once and deleted at once, of all three kinds of key (transit, key-value store, opened
by the pod itself): each pod has its own text, also when it is made again; all goes, also when it is deleted before it ran. Nothing is
left on the node, in the pool or in Vault; each volume was unwrapped once for each time it was opened."""
# story: where=nodes needs=kubernetes,vault,image
import collections
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import kubecluster  # noqa: E402
import kubecoffer  # noqa: E402
import kubeleaks  # noqa: E402
import vaultserver  # noqa: E402
from kubeapi import object_path  # noqa: E402
from kubepods import claim  # noqa: E402
from tap import begin, demand, run_all  # noqa: E402

COUNT = max(50 // int(os.environ.get('COFFER_SAMPLE') or 1), 4)
STORM, CALM = 'storm', 'calm'  # namespaces: each a tenant with a key of its own
MIB, PAUSE, LIMIT = 1 << 20, 0.5, 3600  # 50 at once were seen to take 20 minutes on a busy machine without KVM
CLASSES = ('encrypted', 'encrypted', 'encrypted-kv', 'encrypted-pod')  # in turn
POD = '''
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 2
  automountServiceAccountToken: false
  containers:
  - name: c
    image: localhost/busybox:1
    # what it finds is what the pod before it wrote; it waits without a process a second
    command: [sh, -c, "[ -e /data/own ] || {{ echo 'text of {name}' >/data/own && sync; }}; echo read: $(cat /data/own);
      trap exit TERM; sleep 100000 & wait"]
    volumeMounts: [{{name: v, mountPath: /data}}]
  volumes: [{{name: v, persistentVolumeClaim: {{claimName: {name}}}}}]
'''


def names(count=COUNT):
    return [f'p{number}' for number in range(count)]


def manifest(count=COUNT, only=('PersistentVolumeClaim', 'Pod')):
    """One text for one apply."""
    text = [f'{claim(name, storage_class=CLASSES[number % len(CLASSES)])}---{POD.format(name=name)}'
            for number, name in enumerate(names(count))]
    return '---'.join(part for one in text for part in one.split('---') if any(f'kind: {kind}\n' in part for kind in only))


class World:
    def __init__(self, c, coffer):
        self.c, self.coffer, self.node = c, coffer, c.nodes[0]
        self.before = self.used = self.daemons = self.tokens = None
        self.mark, self.figures = None, None

    # ---- waiting, for many at once

    def wait_bound(self):
        self.c.api.wait(object_path('PersistentVolumeClaim', '', STORM), lambda o: len(o['items']) == COUNT and all(
            i['status']['phase'] == 'Bound' for i in o['items']), pause=PAUSE, seconds=LIMIT)

    def wait_running(self, namespace=STORM, count=COUNT):
        self.c.api.wait(object_path('Pod', '', namespace), lambda o: len(o['items']) == count and all(
            i['status']['phase'] == 'Running' and i['status']['containerStatuses'][0]['ready'] for i in o['items']),
                        pause=PAUSE, seconds=LIMIT)

    def wait_none(self, *kinds, namespace=STORM):
        for kind in kinds:
            self.c.api.wait(object_path(kind, '', namespace), lambda o: not o['items'], pause=PAUSE, seconds=LIMIT)

    def all_gone(self):
        """Pods, claims, PersistentVolumes; and what a provisioner had begun for a claim that went meanwhile."""
        self.wait_none('Pod', 'PersistentVolumeClaim', 'PersistentVolume')
        end = time.monotonic() + LIMIT
        while self.volumes() or self.in_flight():
            demand(time.monotonic() < end, f'left in the pool: {self.volumes()}')
            time.sleep(PAUSE)
        self.wait_none('PersistentVolume')

    # ---- what is there

    def volumes(self):
        return self.node.run(f'find {kubeleaks.POOL}/volumes -mindepth 2 -maxdepth 2').split()

    def in_flight(self):
        return self.metrics('controller', 9811)['coffer_csi_calls_in_flight']

    def metrics(self, component, port):
        pods = self.c.api.items('Pod', kubecoffer.NAMESPACE)
        pod = next(p for p in pods if p['metadata']['labels']['app.kubernetes.io/component'] == component)
        return kubeleaks.metrics(f'{pod["status"]["podIP"]}:{port}')

    def live_tokens(self):
        """policies -> how many tokens of Coffer Vault has."""
        root, found = self.coffer.vault.root, collections.Counter()
        for accessor in root.request('LIST', 'auth/token/accessors').data.get('keys', []):
            about = root.request('POST', 'auth/token/lookup-accessor', {'accessor': accessor}).data
            found.update(p for p in about.get('policies') or [] if p.startswith('coffer-'))
        return found

    def said(self):
        """{pod's name: what it read}; the logs lie on the node, some of pods before it too."""
        uids, found = {p['metadata']['uid'] for p in self.c.api.items('Pod', STORM)}, {}
        for line in self.node.run(f'grep -Hs " read: " /var/log/pods/{STORM}_*/c/*.log || true').splitlines():
            path, _, text = line.partition(' F read: ')
            _, name, uid = path.split('/')[4].split('_')
            if uid in uids:
                found.setdefault(name, []).append(text)
        return found

    def expect_texts(self):
        said = self.said()
        demand(said == {name: [f'text of {name}'] for name in names()}, said)

    def begin(self):
        self.mark, self.figures = self.coffer.vault.audit.mark(), self.metrics('node', 9810)

    def grown(self, name):
        return round(self.metrics('node', 9810).get(name, 0) - self.figures.get(name, 0))


# ---- counts

def unwraps(w):
    """(ciphertext or secret's name -> how often its key was given out, requests for a key that were refused)"""
    given, refused = collections.Counter(), 0
    for e in w.coffer.vault.audit.entries(w.mark):
        if e.operation == 'read' and e.path.startswith('coffer-kv/data/'):
            which = e.path
        elif '/decrypt/' in e.path:
            which = json.loads(e.line)['request']['data'].get('ciphertext', '')  # an HMAC, the same for the same text
        else:
            continue
        if e.error:
            refused += 1
        else:
            given[which] += 1
    return given, refused


def once_each(w, counter):
    """Each volume's key was given out once; coffer-node counts the same."""
    given, refused = unwraps(w)
    events = collections.Counter(e['reason'] for e in w.c.api.items('Event', STORM) for _ in range(e.get('count') or 1))
    calls = {name.partition('{')[2].rstrip('}'): w.grown(name) for name in w.metrics('node', 9810)
             if name.startswith('coffer_csi_calls_total') and ('Stage' in name or 'Publish' in name)}
    print(f'# unwraps: {sum(given.values())} of {len(given)} keys, {refused} refused (self-tests); events so far: '
          f'{dict(events)}; node: {calls}, rolled back {w.grown("coffer_node_rolled_back_total")}', flush=True)
    demand(len(given) == COUNT and set(given.values()) == {1}, f'{COUNT} volumes: {given}')
    demand(w.grown(counter) == COUNT, f'{counter}: {w.grown(counter)}')


def nothing_left(w):
    """Bounded waiting only for what goes by itself: idle connections."""
    end, changed = time.monotonic() + 120, None
    while time.monotonic() < end:
        changed = kubeleaks.differences(w.before, kubeleaks.state(w.node))
        if not changed:
            break
        time.sleep(1)
    demand(not changed, changed)
    grown = w.coffer.pool_used(w.node) - w.used
    demand(abs(grown) <= MIB, f'{grown} bytes of the pool')
    demand(w.coffer.stored_keys() == [], w.coffer.stored_keys())
    tokens = w.live_tokens()
    demand(tokens == w.tokens, f'{tokens}, before {w.tokens}')


# ---- the tests, in this order

def installs(w):
    w.coffer.install()
    for namespace in (CALM, STORM):
        w.c.kubectl('create', 'namespace', namespace)
        w.c.api.wait(object_path('ServiceAccount', 'default', namespace), lambda o: o is not None)


def calm(w):
    """One volume of each class, so that logins, tenants' keys in Vault and threads are there before the node is looked at."""
    count = len(CLASSES)
    w.c.apply(manifest(count), '-n', CALM)
    w.wait_running(CALM, count)
    for kind in ('Pod', 'PersistentVolumeClaim'):
        w.c.api.delete_all(kind, CALM)
    w.wait_none('Pod', 'PersistentVolumeClaim', 'PersistentVolume', namespace=CALM)
    w.before, w.used = kubeleaks.state(w.node), w.coffer.pool_used(w.node)
    w.daemons, w.tokens = kubeleaks.processes(w.node), w.live_tokens()
    demand(not w.volumes() and 0 < sum(w.tokens.values()) <= 2, f'{w.volumes()}, {w.tokens}')
    print('\n'.join(f'# before: {p}' for p in w.daemons.values()), flush=True)


def all_at_once(w):
    w.begin()
    with w.c.times.of(f'{COUNT} claims and pods, until all run'):
        with w.c.times.of(f'{COUNT} claims and pods, until all are bound'):
            w.c.apply(manifest(), '-n', STORM)
            w.wait_bound()
        w.wait_running()
    w.expect_texts()
    mapped = w.node.run('dmsetup ls | grep -c ^coffer-').strip()
    demand(mapped == str(COUNT), f'{mapped} mappings')
    print(f'# {w.node.run("grep MemAvailable /proc/meminfo").strip()} in the node', flush=True)
    once_each(w, 'coffer_node_formatted_total')


def again(w):
    """All pods go and come back to their volumes, at once."""
    with w.c.times.of(f'{COUNT} pods deleted'):
        w.c.api.delete_all('Pod', STORM)
        w.wait_none('Pod')
    demand(w.coffer.left_over(w.node) == '', w.coffer.left_over(w.node))
    w.begin()
    with w.c.times.of(f'{COUNT} pods on volumes that are there, until all run'):
        w.c.apply(manifest(only=('Pod',)), '-n', STORM)
        w.wait_running()
    w.expect_texts()
    once_each(w, 'coffer_node_opened_total')


def gone_at_once(w):
    with w.c.times.of(f'{COUNT} claims and pods deleted, until all is gone'):
        for kind in ('Pod', 'PersistentVolumeClaim'):
            w.c.api.delete_all(kind, STORM)
        w.all_gone()
    nothing_left(w)


def deleted_while_starting(w):
    """Thrice, and each time a bit later: while claims are bound, while volumes are made, while they are opened."""
    for seconds in (0, 2, 6):
        w.c.apply(manifest(), '-n', STORM)
        time.sleep(seconds)
        with w.c.times.of(f'the same deleted after {seconds} s, until all is gone'):
            for kind in ('Pod', 'PersistentVolumeClaim'):
                w.c.api.delete_all(kind, STORM)
            print(f'# deleted {seconds} s after the apply: there were {len(w.volumes())} volumes, '
                  f'{w.node.run("dmsetup ls | grep -c ^coffer- || true").strip()} mappings', flush=True)
            w.all_gone()
        nothing_left(w)


def daemons_lived(w):
    """The same processes; memory is reported."""
    after = kubeleaks.processes(w.node)
    print('\n'.join(f'# after: {p}' for p in after.values()), flush=True)
    demand(after.keys() == w.daemons.keys(), f'{[str(p) for p in after.values()]}')
    for pod in w.c.api.items('Pod', kubecoffer.NAMESPACE):
        restarts = {s['name']: s['restartCount'] for s in pod['status']['containerStatuses']}
        demand(not any(restarts.values()), f'{pod["metadata"]["name"]}: {restarts}')


TESTS = (
    ('installed; a volume of each class came and went', lambda w: (installs(w), calm(w))),
    (f'{COUNT} claims and pods at once: all bound, all run, each has its text; one unwrap each', all_at_once),
    (f'{COUNT} pods deleted and made again at once: each finds its text; one unwrap each', again),
    ('all deleted at once: nothing is left on the node, in the pool, in Vault', gone_at_once),
    ('deleted while they start: nothing is left either', deleted_while_starting),
    ('no daemon was restarted', daemons_lived),
)


def main():
    tap = begin('kubernetes-storm', kubecluster.why_not() or vaultserver.why_not() or kubecoffer.why_not())
    kubecluster.enter()
    with kubecluster.cluster('kubernetes-storm', images=[kubecoffer.image()], pool_size='8G', memory='3072M') as c, \
            kubecoffer.Coffer(c) as coffer:
        w = World(c, coffer)
        run_all(tap, TESTS, w, needed=2)
    tap.done()


main()
