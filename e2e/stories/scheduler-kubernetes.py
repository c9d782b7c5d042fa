#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scheduler-kubernetes: a user's cloud on a real Kubernetes with a real Vault: coffer-scheduler installed as the manual says, a cloud
made by a device that proves itself, a document written by its URL, locked, a wrong and an old session refused, unlocked, the document
there; devices come and go while the VM runs and while the volume is closed; deleted; the VM's pod and process hold no key. Then what
every driver does (cloudsuite.py). `COFFER_ONLY=words` runs of that only tests with one of these words in their names, 'none' no test."""
# story: where=nodes needs=kubernetes,vault,image
import base64
import dataclasses
import hashlib
import json
import os
import secrets
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import cloudsuite  # noqa: E402
import kubecluster  # noqa: E402
import kubecoffer  # noqa: E402
import kubescheduler  # noqa: E402
import vaultserver  # noqa: E402
from clouddevice import CloudDevice, User, want  # noqa: E402
from kubeapi import object_path  # noqa: E402
from kubescheduler import CLOUDS  # noqa: E402
from tap import begin, demand  # noqa: E402

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
        self.cloud, self.uuid = None, None

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
        return self.c.api.get(object_path(kind, f'cloud-{self.cloud}{end}', CLOUDS))

    def settled(self, state):
        """What find says once no operation runs: this, or the test ends here, by what it is instead."""
        found = self.user.settle()
        demand(found.state == state, f'{found}: it is not {state}')
        return found

    def detached(self, state):
        """find says so, and so it is."""
        found = self.settled(state)
        demand(found.body['volumeId'] == self.volume and found.body['uuid'] == self.uuid, found)
        demand(not self.mapping(), f'{state}, and {self.mapping()} is open')  # coffer-node has said so: no waiting
        self.wait_closed()
        demand(not self.pods() and self.object('Secret', '-session') is None, 'a pod or a session is left')
        self.asked_for_nothing()
        return found

    def asked_for_nothing(self):
        """Nothing is left of a request to the node."""
        left = [self.object(kind, '-request') for kind in ('Deployment', 'Secret')]
        demand(left == [None, None] and not any('coffer.dev/request' in p['metadata']['labels'] for p in self.pods()), left)
        notes = self.object('PersistentVolumeClaim')['metadata']['annotations']
        demand('coffer.dev/change' not in notes, notes)

    def recipients(self):
        """(fingerprints, commitment, whether old keyslots are left) by the record on the node."""
        record = self.coffer.record(self.node, self.volume)
        prints = [hashlib.sha256(base64.b64decode(r['key'])).hexdigest() for r in record['recipients']]
        return prints, record['key']['ciphertext'].rsplit(':', 1)[1], bool(record.get('staleSlots'))

    def has_devices(self, *users):
        """For the API, in the claim and in the record: the same list, and the same commitment."""
        said = want(self.user.devices(), 200).body['devices']
        demand([d['name'] for d in said] == [u.device.name for u in users], said)
        notes = self.object('PersistentVolumeClaim')['metadata']['annotations']
        noted = [d['fingerprint'] for d in json.loads(notes['coffer.dev/devices'])]
        prints = [u.device.fingerprint for u in users]
        demand(self.recipients() == (prints, notes['coffer.dev/commitment'], False) and noted == prints, self.recipients())
        self.asked_for_nothing()


def installs(w):
    with w.c.times.of('Coffer and its scheduler installed and ready'):
        w.coffer.install()
    w.c.api.wait(object_path('CSIStorageCapacity', '', kubecoffer.NAMESPACE), lambda o: any(
        i['storageClassName'] == 'encrypted-client' for i in o['items']))


def nothing_yet(w):
    w.user = User(w.coffer.scheduler(), CloudDevice(w.folder, 'phone'))
    w.cloud = w.user.device.id
    found = w.user.until('nonexistent')
    demand(found.status == 404 and found.body['volumeId'] is None, found)
    demand(found.body['serverKey']['keyId'] == 'coffer-s-1:1' and found.body['serverKey']['hash'] == 'SHA-256', found)


def volume_first(w):
    """Its id is the API server's to say, so that no session can be for it yet."""
    with w.c.times.of('a volume made'):
        want(w.user.create(), 202)
        found = w.settled('detached')
    demand(not w.pods() and not w.mapping(), found)
    w.volume, w.uuid = found.body['volumeId'], found.body['uuid']
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


# ---- devices

def says_marker(w):
    status, said = w.coffer.ask('GET', f'{w.url}personalcloud/notes/first')
    demand(status == 200 and said['text'] == MARKER, said)


def second_device_comes(w):
    """While the VM runs, which goes on running."""
    w.tablet = User(w.user.api, CloudDevice(w.folder, 'tablet', digest='sha512'))
    before = {p['metadata']['uid'] for p in w.pods()}
    with w.c.times.of('a device added'):
        want(w.user.add(w.tablet.device), 200)
    w.has_devices(w.user, w.tablet)
    demand({p['metadata']['uid'] for p in w.pods()} == before, 'the VM was started again')
    want(w.user.add(w.tablet.device), 200)
    says_marker(w)
    said = w.tablet.find()
    demand(said.state == 'attached' and said.body['url'] == w.url, said)


def thief_adds_nothing(w):
    """A session that doesn't open the volume changes nothing, and coffer-node's own words are told."""
    stranger = CloudDevice(w.folder, 'stranger')
    refused_it = w.user.add(stranger, **w.user.session(key=secrets.token_bytes(32)))
    demand(refused_it.status in (400, 412) and 'session' in refused_it.message, refused_it)
    print(f'# {refused_it}', flush=True)
    w.has_devices(w.user, w.tablet)


def second_device_opens(w):
    want(w.user.lock(), 202)
    w.detached('detached')
    want(w.tablet.unlock(), 202)
    w.tablet.opened()
    says_marker(w)


def first_device_goes(w):
    """The second one makes a new key while the VM runs; the old one opens nothing any more."""
    first, before = w.user, {p['metadata']['uid'] for p in w.pods()}
    w.user, old = w.tablet, w.tablet.key
    with w.c.times.of('a device removed, by a new key'):
        want(w.user.remove(first.device.name, [w.user.device]), 200)
    w.has_devices(w.user)
    demand({p['metadata']['uid'] for p in w.pods()} == before, 'the VM was started again')
    says_marker(w)
    demand(first.find().status == 404, 'the first device still finds it')
    demand(first.ask('POST', '/lock', {}).status == 404, 'the first device still locks it')
    want(w.user.lock(), 202)
    w.detached('detached')
    demand(w.user.key != old, 'the key is the old one')
    refused(w, 'session', key=old)


def devices_while_closed(w):
    """A third one comes, the second one goes, and nothing is opened for it."""
    w.third = User(w.user.api, CloudDevice(w.folder, 'laptop'))
    want(w.user.add(w.third.device), 200)
    w.has_devices(w.user, w.third)
    second, w.user = w.user, w.third
    w.user.find()
    want(w.user.remove(second.device.name, [w.user.device]), 200)
    w.has_devices(w.user)
    demand(not w.mapping() and not w.pods(), 'something was opened')
    want(w.user.unlock(), 202)
    w.user.opened()
    says_marker(w)
    last = w.user.remove(w.user.device.name, [])
    demand(last.status == 412, last)


# ---- the end

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
    ('a second device comes while the VM runs', second_device_comes),
    ('who lends another key adds nothing', thief_adds_nothing),
    ('the second device opens it: the document is there', second_device_opens),
    ('the first device goes while the VM runs, and its key with it', first_device_goes),
    ('a third one comes and the second one goes while it is closed', devices_while_closed),
    ('delete: nothing is left', deletes),
)


# ---- what every driver does

@dataclasses.dataclass
class Store:
    """What the suite keeps in a VM."""
    coffer: object

    def put(self, url, name, text):
        status, said = self.coffer.ask('PUT', f'{url}personalcloud/suite')
        demand(status in (201, 412), said)
        status, said = self.coffer.ask('PUT', f'{url}personalcloud/suite/{name}', {'text': text})
        demand(status == 201, said)

    def get(self, url, name):
        status, said = self.coffer.ask('GET', f'{url}personalcloud/suite/{name}')
        demand(status == 200, said)
        return said['text']


def suite(w):
    def restart():
        name = next(p['metadata']['name'] for p in w.c.api.items('Pod', kubecoffer.NAMESPACE)
                    if p['metadata']['labels'].get('app.kubernetes.io/component') == 'scheduler')
        w.c.delete('Pod', name, kubecoffer.NAMESPACE)
        made.api.base = w.coffer.scheduler().base

    def census(cloud):
        def count(kind):
            return sum(o['metadata']['labels'].get('coffer.dev/cloud') == cloud for o in w.c.api.items(kind, CLOUDS))
        return count('PersistentVolumeClaim'), count('Pod')
    made = cloudsuite.Suite(w.user.api, lambda label, digest: CloudDevice(w.folder, f'{label}-{secrets.token_hex(4)}', label, digest),
                            names_volumes=False, store=Store(w.coffer), restart=restart, census=census, at_once=10)
    return made


def why_not():
    return '' if shutil.which('node') else 'there is no Node.js for the VM\'s image'


def main():
    tap = begin('scheduler-kubernetes', kubecluster.why_not() or vaultserver.why_not() or kubecoffer.why_not() or why_not())
    kubecluster.enter()
    with tempfile.TemporaryDirectory(prefix='coffer-scheduler-') as folder:
        images = [kubecoffer.image(), kubescheduler.vm_image(folder)]
        with kubecluster.cluster('scheduler-kubernetes', images=images) as c, kubescheduler.Coffer(c) as coffer:
            w, start = World(c, coffer, folder), time.monotonic()
            for name, test in TESTS:
                if tap.run(name, test, w):
                    continue
                print(coffer.explain(), flush=True)
                break  # what follows builds on it
            else:
                failed = tap.failures
                cloudsuite.run(tap, suite(w), os.environ.get('COFFER_ONLY', '').split())
                if tap.failures > failed:
                    print(coffer.explain(), flush=True)
            print(f'# {time.monotonic() - start:.0f} s', flush=True)
    tap.done()


main()
