#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scheduler-kubernetes: a user's cloud on a real Kubernetes with a real Vault: coffer-scheduler installed as the manual says, a cloud
made by a device that proves itself, a document written by its URL, locked, a wrong and an old session refused, unlocked, the document
there, deleted; the VM's pod and process hold no key."""
# story: where=nodes needs=kubernetes,vault,image
import json
import os
import secrets
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import kubecluster  # noqa: E402
import kubecoffer  # noqa: E402
import kubescheduler  # noqa: E402
import vaultserver  # noqa: E402
from clouddevice import CloudDevice, User, want  # noqa: E402
from kubeapi import object_path  # noqa: E402
from kubescheduler import CLOUDS  # noqa: E402
from tap import Tap, demand  # noqa: E402

MARKER = 'a document that nobody else may read'
# what a process has: arguments, environment, mounts, and all of its memory that can be read
LOOK = r'''
import re, sys
pid, needles = sys.argv[1], [bytes.fromhex(n) for n in sys.argv[2:]]
found, size = set(), 0
for name in ("cmdline", "environ", "mountinfo"):
    data = open(f"/proc/{pid}/{name}", "rb").read()
    found |= {(name, i) for i, n in enumerate(needles) if n in data}
with open(f"/proc/{pid}/mem", "rb", 0) as mem:
    for line in open(f"/proc/{pid}/maps"):
        start, end, mode = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line).groups()
        at, end = int(start, 16), int(end, 16)
        while mode[0] == "r" and at < end:
            try:
                data = (mem.seek(at), mem.read(min(1 << 20, end - at)))[1]
            except (OSError, OverflowError, ValueError):
                break
            if not data:
                break
            found |= {("memory", i) for i, n in enumerate(needles) if n in data}
            size += len(data)
            at += len(data) - (64 if len(data) > 64 and at + len(data) < end else 0)
print(size, sorted(found))
'''


class World:
    def __init__(self, c, coffer, folder):
        self.c, self.coffer, self.node, self.folder = c, coffer, c.nodes[0], folder
        self.user, self.url, self.volume = None, None, None

    def mapping(self):
        return self.node.run('dmsetup ls | grep ^coffer- | cut -f1 || true').strip()

    def wait_closed(self):
        """kubelet unstages a volume when its pod is gone already."""
        end = time.monotonic() + 600
        while self.mapping() or self.coffer.left_over(self.node):
            demand(time.monotonic() < end, f'still open: {self.coffer.left_over(self.node)}')
            time.sleep(0.2)

    def pods(self):
        return self.c.api.items('Pod', CLOUDS)

    def object(self, kind, end=''):
        return self.c.api.get(object_path(kind, f'cloud-{self.user.device.id}{end}', CLOUDS))

    def settled(self, state):
        """What find says once no operation runs: this, or the test ends here, by what it is instead."""
        found = self.user.settle()
        demand(found.state == state, f'{found}: it is not {state}')
        return found

    def detached(self, state):
        """find says so, and so it is."""
        found = self.settled(state)
        demand(found.body['volumeId'] == self.volume and found.body['uuid'] == self.user.made['uuid'], found)
        self.wait_closed()
        demand(not self.pods() and self.object('Secret', '-session') is None, 'a pod or a session is left')
        return found


def installs(w):
    with w.c.times.of('Coffer and its scheduler installed and ready'):
        w.coffer.install()
    w.c.api.wait(object_path('CSIStorageCapacity', '', kubecoffer.NAMESPACE), lambda o: any(
        i['storageClassName'] == 'encrypted-client' for i in o['items']))


def nothing_yet(w):
    w.user = User(w.coffer.scheduler(), CloudDevice(w.folder, 'phone'))
    found = w.user.until('nonexistent')
    demand(found.status == 404 and found.body['volumeId'] is None, found)
    demand(found.body['serverKey']['keyId'] == 'coffer-s-1:1' and found.body['serverKey']['hash'] == 'SHA-256', found)


def volume_first(w):
    """Its id is the API server's to say, so that no session can be for it yet."""
    with w.c.times.of('a volume made'):
        want(w.user.create(), 202)
        found = w.settled('detached')
    demand(not w.pods() and not w.mapping(), found)
    w.volume = found.body['volumeId']
    claim = w.object('PersistentVolumeClaim')
    volume = w.c.api.get(object_path('PersistentVolume', claim['spec']['volumeName']))
    demand(volume['spec']['csi']['volumeHandle'] == w.volume, volume['spec'])
    demand(w.coffer.record(w.node, w.volume)['keySource'] == 'client', 'the record')
    want(w.user.create(volumeId=None, session=None, serverKey=None), 202)  # once more; with a session it would be a mount
    demand(w.settled('detached').body['volumeId'] == w.volume and not w.pods(), 'another volume')


def mounts(w):
    with w.c.times.of('attached: pod, volume opened, VM ready'):
        want(w.user.mount(), 202)
        found = w.user.opened()
    w.url = found.body['url']
    demand(w.url == f'https://clouds.example/clouds/{w.user.device.id}/', w.url)
    demand(w.mapping() and w.coffer.record(w.node, w.volume)['state'] == 'ready', 'no mapping')
    session = w.object('Secret', '-session')
    demand(session is not None and not session.get('data'), 'the session that was used is still there')


def writes(w):
    base = f'{w.url}personalcloud/'
    status, said = w.coffer.ask('PUT', f'{base}notes')
    demand(status == 201, said)
    status, said = w.coffer.ask('PUT', f'{base}notes/first', {'text': MARKER})
    demand(status == 201, said)
    status, said = w.coffer.ask('GET', f'{base}notes/first')
    demand(status == 200 and said['text'] == MARKER, said)


def holds_no_key(w):
    """The pod's objects, and its process: arguments, environment, mounts, memory; the document shows that the look sees."""
    text = json.dumps([w.object('Deployment'), w.pods()])
    key = w.user.key
    for what in (key.hex(), w.user.made['wrapped'], w.user.made['commitment']):
        demand(what not in text, 'key material in the pod\'s spec')
    pid = w.node.run('pgrep -f "^/bin/node /vm/server.mjs"').split()[0]
    needles = [key, key.hex().encode(), w.user.made['wrapped'].encode(), *(s[:32] for s in w.user.lent), MARKER.encode()]
    script = f"cat >/tmp/look.py <<'EOF'\n{LOOK}\nEOF\npython3 /tmp/look.py {pid} {' '.join(n.hex() for n in needles)}"
    size, _, found = w.node.run(script).strip().partition(' ')
    print(f'# {int(size) >> 20} MiB of the VM\'s memory were read', flush=True)
    demand(found == f"[('memory', {len(needles) - 1})]", f'{found} of {len(needles)}')
    status = w.node.run(f'grep -E "^(Uid|CapEff|NoNewPrivs|Seccomp):" /proc/{pid}/status')
    demand('1000' in status and 'CapEff:\t0000000000000000' in status and 'NoNewPrivs:\t1' in status and 'Seccomp:\t2' in status, status)


def locks(w):
    with w.c.times.of('locked, mapping closed'):
        want(w.user.lock(), 202)
        w.detached('detached')
    want(w.user.lock(), 200)


def refused(w, word, **wrong):
    want(w.user.unlock(**wrong), 202)
    found = w.detached('failure')
    demand(word in found.body['reason'], f'{found.body["reason"]}: no "{word}"')
    print(f'# {found.body["reason"]}', flush=True)


def wrong_key(w):
    refused(w, 'session', key=secrets.token_bytes(32))


def old_session(w):
    refused(w, 'over', expiry=int(time.time()) - 10)


def another_device(w):
    """Who knows the name, and has another key, gets nowhere."""
    thief = User(w.user.api, CloudDevice(w.folder, 'thief'))
    answer = thief.ask('POST', '/mount', w.user.session(), path=f'{w.user.path}/mount')
    demand(answer.status == 403, answer)
    demand(not w.pods(), 'a pod was made')


def unlocks(w):
    with w.c.times.of('attached again'):
        want(w.user.unlock(), 202)
        w.user.opened()
    status, said = w.coffer.ask('GET', f'{w.url}personalcloud/notes/first')
    demand(status == 200 and said['text'] == MARKER, said)


def scheduler_restarts(w):
    """It keeps nothing: what it tells afterwards is what is there."""
    before = {p['metadata']['uid'] for p in w.pods()}
    old = next(p['metadata']['name'] for p in w.c.api.items('Pod', kubecoffer.NAMESPACE)
               if p['metadata']['labels'].get('app.kubernetes.io/component') == 'scheduler')
    w.c.delete('Pod', old, kubecoffer.NAMESPACE)
    w.user.api = w.coffer.scheduler()
    demand(w.settled('attached').body['url'] == w.url, 'another URL')
    demand({p['metadata']['uid'] for p in w.pods()} == before, 'the VM was started again')


def explains(w):
    pod = w.coffer.c.api.items('Pod', kubecoffer.NAMESPACE)
    name = next(p['metadata']['name'] for p in pod if p['metadata']['labels'].get('app.kubernetes.io/component') == 'scheduler')
    said = w.c.kubectl('-n', kubecoffer.NAMESPACE, 'exec', name, '-c', 'coffer-scheduler', '--', 'cofferctl', 'vm', 'explain',
                       w.user.device.id, '--admin-socket', '/run/coffer/admin/admin.sock')
    demand('n1' in said, said)


def deletes(w):
    with w.c.times.of('deleted, with its volume'):
        want(w.user.delete(), 202)
        w.settled('nonexistent')
    w.wait_closed()
    left = w.c.kubectl('-n', CLOUDS, 'get', 'all,secret,pvc,ingress', '-o', 'name') + w.c.kubectl('get', 'pv', '-o', 'name')
    demand(left == '', left)
    part = w.volume.rsplit('.', 1)[1]
    demand(w.node.run(f'find /var/lib/coffer/default -name "*{part}*" -not -path "*/locks/*"').strip() == '', 'the volume\'s place')


TESTS = (
    ('installed with its components and namespace', installs),
    ('nonexistent, with the server\'s key and no volume id', nothing_yet),
    ('create: a bound volume and no pod', volume_first),
    ('mount: the pod\'s mount opens it, the VM is ready, its session is spent', mounts),
    ('a document is written through the URL', writes),
    ('the pod\'s spec and its process hold no key', holds_no_key),
    ('lock: no pod, no mapping, no session', locks),
    ('a session with another key is refused, and it stays detached', wrong_key),
    ('an old session is refused, and it stays detached', old_session),
    ('another device is refused', another_device),
    ('unlock: the document is there', unlocks),
    ('coffer-scheduler starts anew, and nothing changes', scheduler_restarts),
    ('explain', explains),
    ('delete: nothing is left', deletes),
)


def why_not():
    return '' if shutil.which('node') else 'there is no Node.js for the VM\'s image'


def main():
    tap = Tap()
    if reason := kubecluster.why_not() or vaultserver.why_not() or kubecoffer.why_not() or why_not():
        tap.skip('scheduler-kubernetes', reason)
        tap.done()
    kubecluster.enter()
    with tempfile.TemporaryDirectory(prefix='coffer-scheduler-') as folder:
        images = [kubecoffer.image(), kubescheduler.vm_image(folder)]
        with kubecluster.cluster('scheduler-kubernetes', images=images) as c, kubescheduler.Coffer(c) as coffer:
            w, start = World(c, coffer, folder), time.monotonic()
            for name, test in TESTS:
                if tap.run(name, test, w):
                    continue
                print(coffer.explain(), flush=True)
                if test in (installs, nothing_yet, volume_first, mounts):
                    break  # nothing that follows could work
            print(f'# {time.monotonic() - start:.0f} s', flush=True)
    tap.done()


main()
