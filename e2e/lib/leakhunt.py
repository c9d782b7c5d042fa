# SPDX-License-Identifier: Apache-2.0
"""What the stories about leaks share: Hunt knows secrets and looks for them in every place where they must not be; life() is a
volume's life with all that makes the programs speak of it; Leaky is the build that gives them away on purpose (common/leak.h)."""
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import leakscan
from files import write
from fixture import MIB, CallError
from sweep import demand_clean, until_ok
from watched import Paused, secrets_of, storage_key

SIZE = 32 * MIB
NO_DISK = 'the scratch directory has no disk of its own'
CONTROL = b'csi.coffer.dev'  # in the memory of both daemons: the driver's name


# ---- looking everywhere ----
def scan_logs(c, needles):
    found = [f for log in c.logs() for f in leakscan.scan_file(needles, 'log', log)]
    return found + leakscan.scan_bytes(needles, 'log', 'dmesg', leakscan.kernel_log())


def scan_execs(c, needles, snapshots):
    found = snapshots.scan(needles)
    for path in c.traces:
        found += leakscan.ExecTrace(path).scan(needles, os.path.basename(path))
    return found


def scan_scratch(c, needles, images):
    """The programs were made before there was a key. A volume's image holds noise and is read once, in the end."""
    skip = [c.bin + '/'] + ([] if images else [c.pool + '/volumes/'])
    found = leakscan.scan_tree(needles, c.root, skip)
    if not images:
        found += [f for path, _ in leakscan.walk(c.pool + '/volumes') if not path.endswith('/image')
                  for f in leakscan.scan_file(needles, 'file', path)]
    return found


def scan_elsewhere(c, needles, since, spared):
    """What the programs opened for writing, wherever it is, and what is new in the places where programs like to
    write; big trees (packages, caches) not to their bottom, folders of the story's own (`spared`) not at all."""
    found = []
    for top in ('/tmp', '/run', '/dev/shm', '/var/log', '/var', '/root'):
        deepest = 2 if top in ('/var', '/root') else 99
        found += leakscan.scan_tree(needles, top, (c.watch + '/', c.root + '/', *spared), since, deepest)
    for trace in c.traces:
        for path in leakscan.ExecTrace(trace).written:
            if os.path.isfile(path) and not path.startswith((c.watch, '/proc/', '/sys/', c.root, *spared)):
                found += leakscan.scan_file(needles, 'file', path)
    return found


def scan_daemons(c, needles, daemons=('controller', 'node')):
    return [f for d in daemons for f in leakscan.scan_memory(
        needles, getattr(c, d).process.pid, f'coffer-{d}', CONTROL if d != 'keyd' else b'insecure-file-kms')]


def nothing(tap, name, found):
    return tap.check(not found, name, '\n'.join(sorted({f'{f.what} in {f.where} ({f.kind})' for f in found})))


class Hunt:
    """The secrets of one Coffer's volumes, as they become known."""
    spared = ()  # folders of the story's own, where secrets are at home

    def __init__(self, tap, c):
        self.tap, self.c, self.known = tap, c, {}
        self.started, self.snapshots = time.time(), leakscan.Snapshots()

    def know(self, volume, passphrase):
        self.known.update({f'{name} ({volume["volume_id"]})': data for name, data in secrets_of(self.c, volume, passphrase).items()})

    def needles(self):
        return leakscan.Needles(self.known)

    def nothing(self, name, found):
        nothing(self.tap, name, found)

    def daemons(self):
        return scan_daemons(self.c, self.needles())

    def keyd(self):
        """Its rule is stricter than the story's: its key is gone with its reply."""
        return scan_daemons(self.c, self.needles(), ('keyd',))

    def afterwards(self, cores):
        """All is stopped: what was left behind anywhere."""
        self.snapshots.stop()
        c, needles = self.c, self.needles()
        self.tap.run('logs and traces are there', demand_traced, c)
        self.tap.run('so are arguments and environments', demand_seen, self.snapshots)
        self.nothing('no log line, at level debug, nor the kernel\'s', scan_logs(c, needles))
        self.nothing('no reply and no error message', leakscan.scan_bytes(needles, 'reply', 'csi-call',
                                                                          '\n'.join(c.replies).encode()))
        self.nothing('no argument and no environment of any process', scan_execs(c, needles, self.snapshots))
        self.nothing('no core file', cores.scan(needles))
        self.nothing('no file elsewhere', scan_elsewhere(c, needles, self.started, self.spared))
        disk(self.tap, needles)


# ---- parts of a life ----
def write_and_grow(c, volume):
    write(c.target(volume) + '/file', b'what the user wrote\n' * 10000)
    c.controller_expand(volume['volume_id'], SIZE + 16 * MIB)
    c.node_expand(volume, SIZE + 16 * MIB)


def patched(path, at, data):
    """The bytes that were there before."""
    with open(path, 'r+b') as f:
        f.seek(at)
        before = f.read(len(data))
        f.seek(at)
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    return before


def broken_images(tap, c, volume):
    for name, at, size in (('without a header', 0, 32768), ('with a changed keyslot', 32768, 258048)):
        before = patched(c.image(volume), at, bytes(size))
        tap.expect_error(f'a volume {name} is refused', ('DATA_LOSS', 'PRECONDITION'), c.stage, volume)
        patched(c.image(volume), at, before)


def foreign_key(tap, c, volume):
    """A record whose wrapped key isn't the volume's."""
    path = os.path.join(c.place(volume), 'record.json')
    with open(path, 'rb') as f:
        text = f.read()
    at = text.index(c.record(volume)['key']['ciphertext'].encode()) + 20
    patched(path, at, b'A' if text[at:at + 1] != b'A' else b'B')
    tap.expect_error('a changed wrapped key is refused', 'PRECONDITION', c.stage, volume)
    patched(path, at, text[at:at + 1])


def no_keyd(tap, c, volume):
    c.keyd.stop()
    tap.expect_error('no key daemon: the stage is refused', 'UNAVAILABLE', c.stage, volume)
    c.start_keyd()


def abort_in_the_act(c, program, point, call):
    with Paused(c, program, point, call) as p:
        os.kill(p.pid(), signal.SIGABRT)
    if p.error is None:
        raise RuntimeError(f'the call succeeded although {program} was aborted')


def core_control(cores):
    """Cores are written at all, or their absence would say nothing."""
    abort = 'import os, resource as r; r.setrlimit(r.RLIMIT_CORE, (-1, -1)); os.abort()'
    subprocess.run([sys.executable, '-S', '-c', abort], check=False)
    found = cores.scan(leakscan.Needles({'none': bytes(range(16))}))
    cores.clear()
    if not found:
        raise RuntimeError('a process that aborted left no core file')


def no_cores(tap, c, volume, cores):
    tap.run('a process that may dump core does (control)', core_control, cores)
    tap.run('coffer-crypt aborted with the key in hand', abort_in_the_act, c, 'coffer-crypt', 'crypt:session:verified',
            lambda: c.stage(volume))
    until_ok(lambda: c.unstage(volume))
    tap.run('coffer-keyd aborted with the key in hand', abort_in_the_act, c, 'coffer-keyd', 'keyd:unwrap:before-write',
            lambda: c.stage(volume))
    c.keyd.process.wait(30)
    c.start_keyd()
    tap.run('both are over it', lambda: (c.stage(volume), c.unstage(volume)))


def in_the_act(hunt, volume):
    """coffer-node with the pipe in its hand that holds the key."""
    with Paused(hunt.c, 'coffer-node', 'stage:unlock:key', lambda: hunt.c.stage(volume)):
        found = hunt.daemons()
    hunt.c.unstage(volume)
    return found


def ill_treated(hunt, volume, cores):
    broken_images(hunt.tap, hunt.c, volume)
    foreign_key(hunt.tap, hunt.c, volume)
    no_keyd(hunt.tap, hunt.c, volume)
    no_cores(hunt.tap, hunt.c, volume, cores)


def life(hunt, more, **create):
    """more(volume): what happens to the volume before its last stage."""
    c = hunt.c
    volume = c.create('leaks', SIZE, **create)
    c.stage(volume)
    hunt.know(volume, c.unlock_key(volume))
    hunt.nothing('memory while the volume is staged for the first time', hunt.daemons() + hunt.keyd())
    c.publish(volume)
    write_and_grow(c, volume)
    c.unpublish(volume)
    c.unstage(volume)
    hunt.nothing('memory after unstage', hunt.daemons())
    c.stage(volume)
    hunt.nothing('memory while the volume is staged', hunt.daemons())
    c.unstage(volume)
    hunt.nothing('memory while coffer-node holds the pipe with the key', in_the_act(hunt, volume))
    more(volume)
    c.stage(volume)
    c.unlock_key(volume)
    c.unstage(volume)
    hunt.nothing('memory after everything, also coffer-keyd\'s', hunt.daemons() + hunt.keyd())
    hunt.nothing('no file of the pool or beside it, no image', scan_scratch(c, hunt.needles(), True))
    c.delete(volume['volume_id'])
    demand_clean(c)


# ---- the disk, the traces ----
def scratch_disk():
    """The disk that carries only the scratch directory, or None."""
    scratch = os.environ['COFFER_SCRATCH']
    if not os.path.ismount(scratch):
        return None
    device = os.stat(scratch).st_dev
    return '/dev/' + os.path.basename(os.path.realpath(f'/sys/dev/block/{os.major(device)}:{os.minor(device)}'))


def disk(tap, needles):
    name, device = 'no byte of the disk below all that', scratch_disk()
    if device is None:
        tap.skip(name, NO_DISK)
        return
    os.sync()
    nothing(tap, name, leakscan.scan_disk(needles, device))


def demand_traced(c):
    """The trace saw what must have run."""
    seen = set().union(*(leakscan.ExecTrace(t).programs() for t in c.traces))
    lacking = {'coffer-node', 'coffer-keyd', 'coffer-controller', 'coffer-crypt', 'cofferctl', 'mkfs.ext4'} - seen
    if lacking:
        raise RuntimeError(f'the trace lacks {lacking}; it has {seen}')
    for log in c.logs():
        if os.path.getsize(log) == 0:
            raise RuntimeError(f'{log} is empty')


def demand_seen(snapshots):
    for kind, words in (('argv', (b'coffer-node', b'coffer-keyd', b'coffer-controller')), ('env', (b'COFFER_FAULT_DIR=',))):
        lacking = [word for word in words if not any(word in text for text in snapshots.seen[kind])]
        if lacking:
            raise RuntimeError(f'no {kind} of {len(snapshots.seen[kind])} has {lacking}')


# ---- the build that leaks ----
class Leaky:
    """Daemons of the leaky build and one volume; looks only at what is new since the last look."""

    def __init__(self, c, cores, **create):
        self.c, self.cores, self.volume = c, cores, c.create('leaky', SIZE, **create)
        self.order = os.path.join(c.fault_dir, 'leak')
        c.stage(self.volume)
        c.unstage(self.volume)
        self.secrets = secrets_of(c, self.volume)
        self.needles = leakscan.Needles(self.secrets)
        self.empty()

    def empty(self):
        """Logs and traces are opened for appending: what they hold can be cut off."""
        for path, pid in list(self.c.traces.items()):
            if not os.path.exists(f'/proc/{pid}'):
                leakscan.wait_traced(path, pid)
                del self.c.traces[path]
        for path in [*self.c.logs(), *self.c.traces]:
            os.truncate(path, 0)
        self.cores.clear()
        leaked = os.path.join(self.c.fault_dir, 'leaked')
        if os.path.exists(leaked):
            os.unlink(leaked)

    def leak(self, place, way, call):
        with open(self.order, 'w', encoding='ascii') as f:
            f.write(f'{place} {way}\n')
        os.chmod(self.order, 0o644)
        try:
            call()
        except CallError as e:  # a helper that dumps core gives no reply
            if way != 'core':
                raise RuntimeError(f'{place} {way}: {e}') from e
        finally:
            os.unlink(self.order)

    def look(self):
        c, needles = self.c, self.needles
        found = [f for log in c.logs() for f in leakscan.scan_file(needles, 'log', log)]
        for path in c.traces:
            found += leakscan.ExecTrace(path).scan(needles, os.path.basename(path))
        return found + self.cores.scan(needles) + scan_scratch(c, needles, False)

    def use_key(self, place, way):
        """The least that takes the key past the place."""
        if place.startswith('keyd:'):
            self.leak(place, way, lambda: storage_key(self.c, self.volume))
            return
        self.leak(place, way, lambda: self.c.stage(self.volume))
        until_ok(lambda: self.c.unstage(self.volume))

    def caught(self, place, way, kind):
        self.use_key(place, way)
        found = self.look()
        self.empty()
        if {f.kind for f in found} != {kind}:
            raise RuntimeError(f'found: {found}')
        secret = place.split(':')[1].replace('-', ' ')
        if not any(f.what.startswith(secret) for f in found):
            raise RuntimeError(f'{secret} was not among what was found: {found}')

    def quiet(self):
        """Nothing armed, nothing found: what `caught` finds comes from the leak."""
        self.c.stage(self.volume)
        self.c.unstage(self.volume)
        found = self.look() + scan_daemons(self.c, self.needles)
        self.empty()
        if found:
            raise RuntimeError(f'found: {found}')

    def on_disk(self, device):
        """In a file that is gone again."""
        self.use_key('keyd:storage-key', 'file')
        os.sync()
        self.empty()
        return self.look() + leakscan.scan_disk(self.needles, device)

    def disk(self, tap):
        name, device = 'keyd:storage-key in a file that was removed is caught on the disk', scratch_disk()
        if device is None:
            tap.skip(name, NO_DISK)
        else:
            tap.run(name, only_found, lambda: self.on_disk(device), 'disk', device)

    def in_node(self):
        self.leak('node:storage-key', 'memory', lambda: self.c.stage(self.volume))
        self.c.unstage(self.volume)
        return scan_daemons(self.c, self.needles)


def take_leaky_build():
    """It lies beside the test build."""
    os.environ['COFFER_BIN'] = os.path.join(os.path.dirname(os.environ['COFFER_BIN'].rstrip('/')), 'leaky')


@contextlib.contextmanager
def watching():
    """(a folder in memory for logs and traces, where every core file of the machine goes meanwhile)"""
    folder = tempfile.mkdtemp(prefix='coffer-leaks-', dir='/dev/shm')
    os.chmod(folder, 0o755)
    try:
        with leakscan.Cores(os.path.join(folder, 'cores')) as cores:
            yield folder, cores
    finally:
        shutil.rmtree(folder)


def only_found(look, kind, where):
    found = look()
    if {(f.kind, f.where) for f in found} != {(kind, where)}:
        raise RuntimeError(f'found: {found}')
