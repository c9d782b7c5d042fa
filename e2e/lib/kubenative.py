# SPDX-License-Identifier: Apache-2.0
"""A node of a cluster for tests on this machine itself, where that has dm-crypt: as kubenode.py's, but in namespaces and a cgroup of
its own (e2e/kubernetes/native.sh) instead of in a VM.

Mappings and loop devices are the whole machine's, so there is one native node at a time, and none beside a Coffer that works here.
A node's disks are dm-linear mappings RIG-N-disk0 and -disk1 of loop devices of the same files as in a VM. power_off() is a real cut:
the disks fail before anything is unmounted, so what the kernel hadn't written yet is lost; then all that stood on them is taken down,
found by what it stands on: no device of anybody else's is touched."""
import contextlib
import errno
import fcntl
import glob
import os
import struct
import subprocess
import sys
import time

import kubenet
from kubeapi import SECONDS
from kubeimages import HERE
from kubenode import ROOT, Node

sys.path.insert(0, f'{ROOT}/e2e/vm')
import vmrun  # noqa: E402

RIG = 'kubernetes-rig'
CGROUPS = '/sys/fs/cgroup'
LOOP_GET_STATUS64, LOOP_INFO64 = 0x4C05, struct.Struct('=5Q4I64s64s32s2Q')  # linux/loop.h


def why_not(nodes):
    """Why there can't be that many native nodes; '' when there can. Asks as root."""
    if nodes > 1:
        return 'native nodes would see each other\'s dm mappings and loop devices, so there can be one only; COFFER_STORAGE=vm runs several'
    if not os.path.exists(f'{CGROUPS}/cgroup.controllers'):
        return f'a native node wants cgroup v2 at {CGROUPS}'
    targets = subprocess.run(['dmsetup', 'targets'], env=vmrun.ENVIRONMENT, capture_output=True, text=True, check=False).stdout
    if not any(line.startswith('crypt ') for line in targets.splitlines()):
        return 'a native node wants dm-crypt, which this machine does not have'
    for prefix, whose in (('coffer-', 'a Coffer that works here'), (RIG, 'another cluster here, or one that was killed')):
        if names := [name for name in mappings().values() if name.startswith(prefix)]:
            return f'a native node would be mixed up with {whose}: there are the dm mappings {", ".join(sorted(names))}'
    return kubenet.why_not(kubenet.VETH)


# ---- block devices, by their kernel's names: loop3, dm-1

def read(path):
    with open(path, encoding='ascii') as f:
        return f.read().strip()


def tool(*words):
    """Its stdout. Without udev's cookies: its answers wouldn't reach an IPC namespace of our own."""
    done = subprocess.run(words, env=vmrun.ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f'{" ".join(words)}: {done.stderr.strip()}')
    return done.stdout.strip()


def mappings():
    """Device -> name in the mapper. Those that go while we look are gone."""
    found = {}
    for path in glob.glob('/sys/block/dm-*'):
        with contextlib.suppress(OSError):
            found[os.path.basename(path)] = read(f'{path}/dm/name')
    return found


def lies_on(loop):
    """The number of the block device that has the loop device's file, or is it; None when it has none any more."""
    try:
        fd = os.open(f'/dev/{loop}', os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        held_by, _, itself, *_ = LOOP_INFO64.unpack(fcntl.ioctl(fd, LOOP_GET_STATUS64, bytes(LOOP_INFO64.size)))
        return itself or held_by
    except OSError as e:
        if e.errno == errno.ENXIO:
            return None
        raise
    finally:
        os.close(fd)


def standing_on(device):
    major, minor = map(int, read(f'/sys/block/{device}/dev').split(':'))
    upper = [name for name in mappings() if os.path.exists(f'/sys/block/{name}/slaves/{device}')]
    loops = [path.split('/')[3] for path in glob.glob('/sys/block/loop*/loop/backing_file')]
    return upper + [loop for loop in loops if lies_on(loop) == os.makedev(major, minor)]


def until(what, condition, seconds=SECONDS):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f'{what}: not within {seconds} s')
        time.sleep(0.05)


def removed(name):
    """Whether the mapping is gone: it can't go while the kernel still unmounts what was on it."""
    with contextlib.suppress(RuntimeError):
        tool('dmsetup', 'remove', name)
    return name not in mappings().values()


def take_down(device):
    """It and all that stands on it, from above."""
    for upper in standing_on(device):
        take_down(upper)
    if name := mappings().get(device):
        until(f'{name} removed', lambda: removed(name))
    elif os.path.exists(f'/sys/block/{device}/loop'):
        tool('losetup', '-d', f'/dev/{device}')
        until(f'{device} detached', lambda: not os.path.exists(f'/sys/block/{device}/loop'))


class Disk:
    """One disk of a node while the node has power."""

    def __init__(self, name, file):
        self.name, self.path = name, f'/dev/mapper/{name}'
        self.loop = os.path.basename(tool('losetup', '--show', '-f', file))
        try:
            tool('dmsetup', 'create', name, '--table', f'0 {read(f"/sys/block/{self.loop}/size")} linear /dev/{self.loop} 0')
        except BaseException:
            take_down(self.loop)
            raise

    def fail(self):
        """From now on nothing can be read or written."""
        tool('dmsetup', 'wipe_table', '--noflush', '--nolockfs', self.name)

    def take_down(self):
        """With all that stands on it; once it has failed it doesn't stand on its loop device any more."""
        for device in [device for device, name in mappings().items() if name == self.name]:
            take_down(device)
        take_down(self.loop)


# ---- the node's cgroup

def make_cgroup(path):
    """With every controller this machine has, which its root hands down."""
    for controller in read(f'{CGROUPS}/cgroup.controllers').split():
        with contextlib.suppress(OSError), open(f'{CGROUPS}/cgroup.subtree_control', 'w', encoding='ascii') as f:
            f.write(f'+{controller}')  # one that another hierarchy has can't
    os.makedirs(path, exist_ok=True)


def remove_cgroup(path):
    """And every process in it."""
    with open(f'{path}/cgroup.kill', 'w', encoding='ascii') as f:
        f.write('1')
    until(f'{path} empty', lambda: 'populated 0' in read(f'{path}/cgroup.events'))
    for folder, _, _ in os.walk(path, topdown=False):
        os.rmdir(folder)


class NativeNode(Node):
    WHAT = 'unshare'

    def plug_in(self):
        """native.sh makes the cable: it is gone with the namespace of its other end."""
        self.cgroup, self.disks = f'{CGROUPS}/{RIG}-{self.name}', []
        self.had_folder = os.path.isdir('/dev/coffer')

    def start(self):
        for file in (self.disk, self.pool):
            self.disks.append(Disk(f'{RIG}-{self.name}-disk{len(self.disks)}', file))
        make_cgroup(self.cgroup)
        super().start()

    def command(self):
        own = {'CABLE': kubenet.tap(self.number), 'BRIDGE': kubenet.BRIDGE, 'CGROUP': self.cgroup,
               **{f'disk{i}': disk.path for i, disk in enumerate(self.disks)}}
        return ['unshare', '--mount', '--net', '--pid', '--uts', '--ipc', '--fork', '--kill-child', '--propagation', 'private',
                f'{HERE}/native.sh'], {**vmrun.ENVIRONMENT, **self.variables(), **own}

    def mounts(self):
        """A descriptor that keeps what is mounted in the node mounted; None when the node has ended."""
        with contextlib.suppress(OSError, IndexError):
            pid = self.process.pid
            return os.open(f'/proc/{read(f"/proc/{pid}/task/{pid}/children").split()[0]}/ns/mnt', os.O_RDONLY | os.O_CLOEXEC)
        return None

    def power_off(self):
        """As if the cable were drawn."""
        mounts = self.kill() if self.process else None
        for disk in self.disks:
            disk.fail()
        if mounts is not None:
            os.close(mounts)
        for disk in self.disks:
            disk.take_down()
        self.disks = []
        if not self.had_folder:
            with contextlib.suppress(OSError):
                os.rmdir('/dev/coffer')

    def kill(self):
        """Every process of the node. Gives mounts()."""
        mounts = self.mounts()
        remove_cgroup(self.cgroup)
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process = None
        return mounts
