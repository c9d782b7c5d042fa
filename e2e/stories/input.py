#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# story: disk=4G memory=1536M
"""input: whatever comes in. Broken frames, cut streams, thousands of connections, slow clients, hostile names, paths,
mount flags and parameters, abuse of keyd's socket: each gets a clear error, the processes live and serve the next
volume whole, and nothing outside the volume's own paths is touched."""
import contextlib
import glob
import os
import random
import resource
import socket
import stat
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, '..', 'lib'), os.path.join(HERE, '..', '..', 'tests', 'support')]
import h2  # noqa: E402
import h2broken  # noqa: E402
import snapshot  # noqa: E402
from files import write  # noqa: E402
from fixture import MIB, CallError, Coffer  # noqa: E402
from sweep import demand_clean, sampled  # noqa: E402
from tap import Tap  # noqa: E402

CORPUS = os.path.join(HERE, '..', '..', 'tests', 'fuzz', 'corpus')
SIZE = 32 * MIB
CONNECTIONS = 2000
NOBODY = 65534


class Story:
    def __init__(self):
        self.tap, self.c = Tap(), Coffer()
        self.c.log_level = 'info'
        self.c.install()
        self.c.start()
        self.pids = self.processes()
        self.lives = 0
        self.canary = os.path.join(self.c.root, 'canary')
        self.make_canary()
        self.steady = self.c.create('steady', SIZE)
        self.c.stage(self.steady)
        self.c.publish(self.steady)
        write(self.c.target(self.steady) + '/data', b'of another volume')
        os.mkdir(self.c.target(self.steady) + '/empty')
        self.before = self.look()

    def make_canary(self):
        """Things that a path could lead to: they must all be there afterwards, as they were."""
        for name in ('', '/empty', '/full', '/full/inner'):
            os.mkdir(self.canary + name)
        for name, data in (('/file', b''), ('/data', b'precious'), ('/full/inner/data', b'too')):
            write(self.canary + name, data)
        os.symlink('full', self.canary + '/link')
        os.symlink('/', self.canary + '/to-root')
        os.mkfifo(self.canary + '/fifo')
        os.mknod(self.canary + '/null', stat.S_IFCHR | 0o600, os.makedev(1, 3))

    def processes(self):
        return {d.name: d.process.pid for d in (self.c.keyd, self.c.controller, self.c.node)}

    def look(self):
        found = snapshot.take(self.canary, self.c.kubelet, self.c.made_device_dir, self.c.run)
        return {k: v for k, v in found.items() if not k.endswith('.log')}

    def whole_life(self):
        """A new volume from create to delete; returns nothing, raises when anything is wrong."""
        self.lives += 1
        v = self.c.create(f'life-{self.lives}', SIZE)
        self.c.stage(v)
        self.c.publish(v)
        write(self.c.target(v) + '/file', b'data')
        size = SIZE + 4 * MIB
        self.c.controller_expand(v['volume_id'], size)
        self.c.node_expand(v, size)
        self.c.unpublish(v)
        self.c.unstage(v)
        self.c.delete(v['volume_id'])
        os.rmdir(self.c.staging(v))

    def settled(self, what):
        """After each attack: same processes, the next volume is served whole, nothing else changed."""
        def check():
            for path in self.sockets().values():  # there may be thousands of calls and hang-ups to see first
                self.probe(path)
            if self.processes() != self.pids or not all(d.alive() for d in (self.c.keyd, self.c.controller, self.c.node)):
                raise RuntimeError(f'a process ended: {self.c.node.log_text()[-1500:]}')
            self.whole_life()
            changed = snapshot.changes(self.before, self.look())
            if changed:
                raise RuntimeError('\n'.join(changed))
        self.tap.run(f'after {what}: all live, a whole life works, nothing else was touched', check)

    # ---- bytes ----
    def sockets(self):
        return {'controller': self.c.controller_socket, 'node': self.c.node_socket, 'admin': self.c.admin_socket}

    @staticmethod
    def throw(path, data, linger=0.05):
        """Sends bytes and looks a moment at what comes; the other side may hang up at any time."""
        with contextlib.suppress(OSError), h2.Connection(path, preface=False) as c:
            c.send(data)
            c.sock.settimeout(linger)
            c.sock.recv(65536)

    def probe(self, path):
        with h2.Connection(path, timeout=600) as c:
            return c.call('/csi.v1.Identity/Probe', b'')

    def broken_frames(self):
        for name, path in self.sockets().items():
            for data in h2broken.FRAMES.values():
                self.throw(path, data)
            self.tap.check(self.probe(path)[0] in (0, 12), f'{name} answers after {len(h2broken.FRAMES)} broken connections')
        self.settled('broken frames')

    def cut_streams(self):
        """A right request, cut after every so many bytes; and with one byte changed."""
        body = h2.field(1, b'cut') + h2.field(3, h2.field(1, b'') + h2.field(3, b'\x08\x01'))
        whole = (h2.PREFACE + h2.frame(h2.SETTINGS, 0, 0)
                 + h2.frame(h2.HEADERS, h2.END_HEADERS, 1, h2.headers('/csi.v1.Controller/CreateVolume'))
                 + h2.frame(h2.DATA, h2.END_STREAM, 1, h2.message(body)))
        for at in sampled(list(range(0, len(whole) - 1, 7))):
            self.throw(self.c.controller_socket, whole[:at], 0.01)
        rng = random.Random(1)
        for _ in range(60):
            at = rng.randrange(len(h2.PREFACE), len(whole))
            self.throw(self.c.controller_socket, whole[:at] + bytes([rng.randrange(256)]) + whole[at + 1:], 0.02)
        for v in self.c.call(self.c.controller_socket, 'ListVolumes', {}).get('entries', []):
            if v['volume']['volume_id'] != self.steady['volume_id']:  # a changed byte may still be a right request
                self.c.delete(v['volume']['volume_id'])
        self.settled('cut and changed streams')

    def corpus(self):
        """Every request of the fuzz corpus to the real daemons; none may be answered with INTERNAL or not at all."""
        odd, sent = [], 0
        for path in sampled(sorted(glob.glob(CORPUS + '/request/*'))):
            with open(path, 'rb') as f:
                method, newline, body = f.read().partition(b'\n')
            if not newline or b'/' not in method:
                continue
            service = method.split(b'/')[0].decode(errors='replace')
            where = {'Controller': self.c.controller_socket, 'NodeAdmin': self.c.admin_socket}.get(service, self.c.node_socket)
            prefix = '/coffer.v1.' if service == 'NodeAdmin' else '/csi.v1.'
            with h2.Connection(where, timeout=60) as c:
                status, why = c.call(prefix + method.decode(errors='replace'), body)
            sent += 1
            if status in (None, 2, 13) or (status != 0 and not why):
                odd.append(f'{os.path.basename(path)}: {status} {why}')
        self.tap.check(sent and not odd, f'every request of the fuzz corpus ({sent}) is answered, with a sentence', '\n'.join(odd))
        for v in self.c.call(self.c.controller_socket, 'ListVolumes', {}).get('entries', []):
            if v['volume']['volume_id'] != self.steady['volume_id']:
                self.c.delete(v['volume']['volume_id'])
        self.settled('the fuzz corpus')

    # ---- many and slow ----
    def crowd(self):
        """Thousands of connections at once, silent; then they go."""
        for name, path in self.sockets().items():
            crowd = []
            try:
                for _ in range(CONNECTIONS):
                    s = socket.socket(socket.AF_UNIX)
                    s.settimeout(600)
                    crowd.append(s)
                    s.connect(path)
                self.tap.check(self.probe(path)[0] in (0, 12), f'{name} answers beside {CONNECTIONS} silent connections')
            except OSError as e:
                self.tap.check(False, f'{name} answers beside {CONNECTIONS} silent connections', f'{len(crowd)}: {e}')
            finally:
                for s in crowd:
                    s.close()
        self.settled('thousands of connections')

    def slow(self):
        """Headers byte by byte, requests that never end, replies that nobody reads."""
        path, held = self.c.controller_socket, []
        start = h2.PREFACE + h2.frame(h2.SETTINGS, 0, 0)
        call = h2.frame(h2.HEADERS, h2.END_HEADERS, 1, h2.headers('/csi.v1.Controller/ListVolumes'))
        try:
            for n in range(200):
                c = h2.Connection(path, preface=False, timeout=60)
                held.append(c)
                c.send((start + call)[:len(start) + n % len(call)])
            for c in held[:50]:
                for byte in b'\0\0\1':
                    with contextlib.suppress(OSError):
                        c.send(bytes([byte]))
            for _ in range(20):  # each asks for a lot and reads nothing, until the server doesn't read either
                c = h2.Connection(path, timeout=2)
                held.append(c)
                with contextlib.suppress(OSError):
                    for _ in range(400):
                        stream = c.open('/csi.v1.Controller/ListVolumes')
                        c.send(h2.frame(h2.DATA, h2.END_STREAM, stream, h2.message(b'')))
            self.tap.check(self.probe(path)[0] == 0, 'the controller answers beside 220 slow and deaf clients')
            self.tap.run('and makes and deletes a volume', self.whole_life)
        finally:
            for c in held:
                c.sock.close()
        self.settled('slow clients')

    def big(self):
        for name, path, method in (('controller', self.c.controller_socket, 'DeleteVolume'),
                                   ('node', self.c.node_socket, 'NodeUnstageVolume')):
            self.tap.expect_error(f'{name}: a request of 10 MiB', 'EXHAUSTED', self.c.call, path, method,
                                  {'volume_id': 'x' * (10 * MIB)})
            self.tap.expect_error(f'{name}: a request of 3 MiB', 'INVALID', self.c.call, path, method,
                                  {'volume_id': 'x' * (3 * MIB)}, word='is longer than')
        self.settled('big requests')

    # ---- names, ids, parameters, flags ----
    def names(self):
        """Any text may be a volume's name; it never becomes a path."""
        good = ['../../../etc/passwd', '/etc/passwd', 'a/b', '..', '.', 'a\nb', '%2e%2e', '$(reboot)', '-rf', 'ü☃🔒',
                "'; DROP TABLE", 'x' * 128, '\u202egnp.exe', 'CON', ' ']
        made = [self.c.create(name, SIZE) for name in good]
        self.tap.check(len({v['volume_id'] for v in made}) == len(good), f'{len(good)} odd names give {len(good)} volumes')
        for v in made:
            self.c.delete(v['volume_id'])
        for name, word in (('', 'is missing'), ('x' * 129, 'longer than'), ('a\x1b[2J', 'control'), ('a\x7fb', 'control'),
                           ('a\x9bb', 'control')):
            self.tap.expect_error(f'name {name[:12]!r} is refused', 'INVALID', self.c.create, name, SIZE, word=word)
        for raw, word in ((b'a\0b', 'NUL'), (b'\xff\xfe', 'UTF-8'), (b'\xed\xa0\x80', 'UTF-8')):
            with h2.Connection(self.c.controller_socket, timeout=60) as c:
                status, why = c.call('/csi.v1.Controller/CreateVolume', h2.field(1, raw))
            self.tap.check(status == 3 and word in why, f'name {raw!r} is refused', (status, why))
        self.settled('odd names')

    def ids(self):
        """Ids of other shapes belong to no volume: NOT_FOUND, or OK where absence is what was asked for."""
        right = self.steady['volume_id']
        pool, tag, part = right.split('.')
        odd = ['x', '../' + right, right + '/', right + '\n', right.upper(), f'{pool}.{tag}', f'{pool}.{tag}.{part[:-1]}',
               f'{pool}.{tag}.{part}0', f'{pool}/../{pool}.{tag}.{part}', f'.{tag}.{part}', 'a' * 128, '%s%n%x', '\u202e' + part]
        path = os.path.join(self.c.kubelet, 'none')
        cap = self.c.capability()
        calls = (('Controller', 'ControllerExpandVolume', {'capacity_range': {'required_bytes': SIZE}}),
                 ('Controller', 'ValidateVolumeCapabilities', {'volume_capabilities': [cap]}),
                 ('Node', 'NodeStageVolume', {'staging_target_path': path, 'volume_capability': cap}),
                 ('Node', 'NodePublishVolume', {'staging_target_path': path, 'target_path': path + '-t', 'volume_capability': cap}),
                 ('Node', 'NodeUnpublishVolume', {'target_path': path}),
                 ('Node', 'NodeUnstageVolume', {'staging_target_path': path}),
                 ('Node', 'NodeGetVolumeStats', {'volume_path': path}),
                 ('Node', 'NodeExpandVolume', {'volume_path': path}))
        for service, method, more in calls:
            where = self.c.controller_socket if service == 'Controller' else self.c.node_socket
            wrong = []
            for volume_id in odd:
                try:
                    self.c.call(where, method, {'volume_id': volume_id, **more})
                    wrong.append(f'{volume_id!r}: OK')
                except CallError as e:
                    if e.code != 'NOT_FOUND' or '\n' in e.message:
                        wrong.append(f'{volume_id!r}: {e}')
            self.tap.check(not wrong, f'{method}: {len(odd)} ids of other shapes are NOT_FOUND', '\n'.join(wrong))
        for volume_id in odd:
            self.c.delete(volume_id)
        foreign = f'{pool}.00000000.{part}'
        self.tap.expect_error('another pool\'s tag', ('PRECONDITION', 'NOT_FOUND'), self.c.call, self.c.node_socket,
                              'NodeStageVolume', {'volume_id': foreign, 'staging_target_path': path, 'volume_capability': cap},
                              word='pool')
        self.settled('odd ids')

    def parameters(self):
        for parameters, word in (({'foo': 'bar'}, "'foo'"), ({'pool': '../default'}, 'pool'), ({'pool': 'nope'}, 'nope'),
                                 ({'kms': 'nope'}, 'nope'), ({'keySource': 'client'}, 'keySource'),
                                 ({'discard': 'yes'}, 'discard'), ({'tenant': 'A/B'}, 'tenant'),
                                 ({'mountOptions': 'suid'}, 'mountOptions'), ({'a\nb': 'c'}, 'a?b')):
            self.tap.expect_error(f'parameters {parameters}', 'INVALID', self.create_with, {'parameters': parameters}, word=word)
        self.settled('odd parameters')

    def create_with(self, more):
        return self.c.create('odd', SIZE, **more)

    def flags(self):
        """A flag is one word of a list. What could be a second option, or say more than the list, is no flag."""
        for flag in sampled(['suid', 'dev', 'noatime,suid', 'noatime,dev', 'ro,rw', 'errors=panic', 'errors=continue',
                     'context=system_u:object_r:secret_t:s0', 'commit=5,errors=panic', 'commit=0', 'commit=99999', 'commit=-1',
                     'data=journal', 'journal_dev=1', 'journal_path=/dev/vda', 'usrquota', 'bind', 'remount', 'loop', 'offset=0',
                     'x-mount.mkdir=0777', 'noatime ', ' noatime', 'NOATIME', 'noatime\nsuid', '', '-o', 'sb=1', 'init_itable=0']):
            self.tap.expect_error(f'mount flag {flag!r}', 'INVALID', self.c.stage_raw, self.steady, [flag], word='mount flag')
        for fs in ('../ext4', 'ext4,xfs', 'proc', 'overlay', 'fuse', 'EXT4', 'ext4\n'):
            self.tap.expect_error(f'file system {fs!r}', 'INVALID', self.c.stage_raw, self.steady, [], fs, word='file system')
        self.settled('mount flags')

    # ---- paths ----
    def bad_paths(self):
        """path -> a word of the refusal. None of them is a place for a volume."""
        k = self.canary
        return {'': 'missing', '/': 'absolute', 'relative': 'absolute', k + '/../canary/x': "'..'", k + '/./x': "'.'",
                '/' + k + '/x': 'empty', k + '/x/': 'empty', k + '/link': 'link', k + '/link/x': 'link',
                k + '/link/inner/x': 'link', k + '/to-root/tmp/x': 'link', '/proc/self/cwd/x': 'link',
                '/proc/1/root/x': 'link', k + '/data/x': 'not a directory', k + '/full': 'content', k + '/data': 'content',
                k + '/fifo': 'neither', k + '/null': 'neither', k + '/' + 'n' * 256: 'long',
                '/' + 'd/' * 2047 + 'd': 'long', self.c.target(self.steady) + '/new': 'mounted above',
                self.c.target(self.steady) + '/empty': 'mounted above'}

    def publish_at(self, volume, target, staging=None, block=False):
        self.c.call(self.c.node_socket, 'NodePublishVolume', {
            'volume_id': volume['volume_id'], 'volume_context': volume['volume_context'], 'target_path': target,
            'staging_target_path': staging or self.c.staging(volume), 'volume_capability': self.c.capability(block)})

    def unpublish_at(self, volume, target):
        self.c.call(self.c.node_socket, 'NodeUnpublishVolume', {'volume_id': volume['volume_id'], 'target_path': target})

    def stage_at(self, volume, staging):
        self.c.call(self.c.node_socket, 'NodeStageVolume', {
            'volume_id': volume['volume_id'], 'volume_context': volume['volume_context'], 'staging_target_path': staging,
            'volume_capability': self.c.capability()})

    def target_paths(self, block):
        v, kind = self.c.create(f'paths-{block}', SIZE, block), 'block' if block else 'mount'
        self.c.stage(v, block)
        codes = ('INVALID', 'PRECONDITION', 'NOT_FOUND')
        for path, word in sampled(list(self.bad_paths().items())):
            self.tap.expect_error(f'publish {kind} at {path[-40:]!r}', codes, self.publish_at, v, path, None, block, word=word)
        for path in ('/proc/1/x', '/sys/x', self.canary + '/no/parent', '/dev/null' if block else '/proc/net'):
            self.tap.expect_error(f'publish {kind} at {path!r}', (*codes, 'INTERNAL', 'PERMISSION'), self.publish_at, v, path,
                                  None, block)
        wrong = self.canary + ('/empty' if block else '/file')
        self.tap.expect_error(f'publish {kind} at what is of the other kind', 'PRECONDITION', self.publish_at, v, wrong, None,
                              block, word='not a')
        self.tap.expect_error(f'publish {kind} at its staging path', 'INVALID', self.publish_at, v, self.c.staging(v), None,
                              block, word='same')
        other = self.c.target(self.steady)
        self.tap.expect_error(f'publish {kind} over another volume', 'EXISTS', self.publish_at, v, other, None, block)
        self.tap.expect_error('unpublish another volume\'s target', 'PRECONDITION', self.unpublish_at, v, other, word="isn't")
        for path, word in sampled(list(self.bad_paths().items())):
            self.tap.expect_error(f'unpublish {kind} at {path[-40:]!r}', codes, self.unpublish_at, v, path, word=word)
        self.c.unstage(v)
        self.c.delete(v['volume_id'])
        os.rmdir(self.c.staging(v))
        self.settled(f'{kind} target paths')

    def staging_paths(self):
        v = self.c.create('staging-paths', SIZE)
        for path, word in {**self.bad_paths(), self.canary + '/none': 'none', self.canary + '/file': 'not a directory',
                           self.c.staging(self.steady): 'another Coffer volume',
                           self.c.target(self.steady): 'another Coffer volume'}.items():
            if path.endswith('/n' + 'n' * 255):
                word = ''
            self.tap.expect_error(f'stage at {path[-40:]!r}', ('INVALID', 'PRECONDITION', 'NOT_FOUND', 'INTERNAL'),
                                  self.stage_at, v, path, word=word)
        self.tap.check(self.c.record(v)['state'] == 'new', 'no refused stage formatted the volume', self.c.record(v)['state'])
        self.c.stage(v)
        for path in (self.canary + '/link', self.canary + '/empty', '/', self.c.target(self.steady)):
            self.tap.expect_error(f'publish with staging path {path[-30:]!r}', ('INVALID', 'PRECONDITION'), self.publish_at, v,
                                  self.canary + '/empty', path)
        for path in ('/', '/etc/..', self.canary + '/link', self.c.target(self.steady), self.canary):
            with contextlib.suppress(CallError):  # nothing is staged there: an error, or nothing to do
                self.c.call(self.c.node_socket, 'NodeGetVolumeStats', {'volume_id': v['volume_id'], 'volume_path': path})
                raise RuntimeError(f'stats at {path!r} answered')
        self.c.unstage(v)
        self.c.delete(v['volume_id'])
        os.rmdir(self.c.staging(v))
        self.settled('staging paths')

    # ---- keyd ----
    def keyd_send(self, data, fds=(), uid=0, wait=0.05):
        """What keyd answers: bytes, b'' when it hung up, None when it said nothing in that time (twice)."""
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            if uid:
                os.setresuid(uid, uid, 0)
                s.connect(self.c.keyd_socket)
            else:
                s.connect(self.c.keyd_socket)
            s.settimeout(wait)
            with contextlib.suppress(TimeoutError, BrokenPipeError):  # a keyd that refuses us said why before it closed
                if fds:
                    socket.send_fds(s, [data], list(fds))
                else:
                    s.send(data)
            for _ in range(2):  # the kernel reports an unread request once, as a reset, before the reply
                with contextlib.suppress(TimeoutError, ConnectionResetError):
                    return s.recv(65536)
            return None
        finally:
            if uid:
                os.setresuid(0, 0, 0)
            s.close()

    def keyd_abuse(self):
        packets = []
        for folder, skip in (('keyd_server', 1), ('wire', 0)):
            for path in sorted(glob.glob(f'{CORPUS}/{folder}/*')):
                with open(path, 'rb') as f:
                    packets.append(f.read()[skip:])
        null = os.open('/dev/null', os.O_WRONLY)
        for data in packets:
            self.keyd_send(data)
            self.keyd_send(data, [null] * 3, wait=0.01)
        os.close(null)
        status = b'COFD' + b'\1\0\3\0' + b'\x0a\0\0\0' + b'\x08\0' + b'\xe8\3\0\0\0\0\0\0'
        self.tap.check(b'"version"' in (self.keyd_send(status, wait=60) or b''), f'keyd answers after {2 * len(packets)} bad packets')
        os.chmod(self.c.keyd_socket, 0o666)  # even when the file's mode lets everybody connect
        os.chmod(os.path.dirname(self.c.keyd_socket), 0o755)
        refused = [self.keyd_send(status, uid=NOBODY, wait=60) for _ in range(300)]
        os.chmod(os.path.dirname(self.c.keyd_socket), 0o750)
        os.chmod(self.c.keyd_socket, 0o660)
        self.tap.check(all(r is not None and b'"version"' not in r for r in refused) and b'PERMISSION_DENIED' in b''.join(refused),
                       '300 connections of a peer that may not: none is answered with anything but PERMISSION_DENIED', set(refused))
        self.keyd_crowd(status)
        self.settled("abuse of keyd's socket")

    def keyd_crowd(self, status):
        """More silent connections than keyd serves at once: who comes later waits until they are dropped."""
        crowd = []
        for _ in range(300):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                s.connect(self.c.keyd_socket)
            crowd.append(s)
        end, answer = time.monotonic() + 120, None
        while not answer and time.monotonic() < end:  # the idle limit is 10 s
            with contextlib.suppress(OSError):
                answer = self.keyd_send(status, wait=60)
        for s in crowd:
            s.close()
        self.tap.check(b'"version"' in (answer or b''), 'keyd answers when 300 silent clients were dropped')

    def part(self, function, *args):
        """What raises is a failed test; the next part runs all the same."""
        try:
            function(*args)
        except Exception:  # pylint: disable=broad-except
            self.tap.check(False, f'{function.__name__} {args or ""}'.strip(), traceback.format_exc())

    def run(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        for part in (self.broken_frames, self.cut_streams, self.corpus, self.crowd, self.slow, self.big, self.names, self.ids,
                     self.parameters, self.flags, self.staging_paths, self.keyd_abuse):
            self.part(part)
        self.part(self.target_paths, False)
        self.part(self.target_paths, True)
        self.c.unpublish(self.steady)
        self.c.unstage(self.steady)
        self.c.delete(self.steady['volume_id'])
        self.tap.run('nothing is left', demand_clean, self.c)
        self.c.stop()
        self.tap.done()


Story().run()
