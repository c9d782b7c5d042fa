#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vmrun.py [options] CMD [ARG...]: runs CMD as root in a throw-away virtual machine whose root file system is this
one (read-only below a layer in memory). Emulated (QEMU TCG), so it needs neither root nor KVM.

Exit code: CMD's own; 128 + N when signal N ended it; 124 when the time was over; 125 when the VM failed.
How it works and why: e2e/README.md.
"""
import argparse
import base64
import contextlib
import dataclasses
import fcntl
import hashlib
import os
import re
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
import hostclock  # noqa: E402  (a .pyc beside it would be written by root into the user's checkout)
from qmp import BOOT_SECONDS, Qmp, VmError  # noqa: E402

HERE = os.path.dirname(os.path.realpath(__file__))
CHECKOUT = os.path.dirname(os.path.dirname(HERE))
QEMU = 'qemu-system-x86_64'
PORTS = ('ctl', 'out', 'err', 'in')
SHARES = 2
DISKS = 4
SCRATCH = '/run/scratch'
HIDDEN = ('/tmp', '/run', '/dev')  # where the guest has file systems of its own
TIMED_OUT, VM_FAILED = 124, 125
ENVIRONMENT = {'DM_DISABLE_UDEV': '1', 'HOME': '/root', 'TERM': 'dumb', 'LANG': 'C.UTF-8',
               'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'}
# norandmaps: QEMU 7.2 keeps translated code by its virtual address too. Where addresses change, each exec has the loader and libc
# translated again, which doubles what it costs.
KERNEL_ARGUMENTS = ('console=ttyS0 quiet loglevel=4 panic=-1 tsc=reliable no_timer_check mitigations=off norandmaps '
                    'cryptomgr.notests random.trust_cpu=on audit=0 net.ifnames=0')


def parser(name):
    p = argparse.ArgumentParser(prog=name, allow_abbrev=False, usage=f'{name} [options] CMD [ARG...]')
    p.add_argument('-t', '--timeout', type=float, default=600, metavar='S', help='seconds for CMD (600)')
    p.add_argument('-e', '--env', action='append', default=[], metavar='NAME[=VALUE]',
                   help='set a variable for CMD; without a value: as it is here. Nothing else is passed')
    p.add_argument('-s', '--show', action='append', default=[], metavar='DIR',
                   help='DIR below /tmp, /run or /dev, which the guest would not see otherwise')
    p.add_argument('-w', '--write', action='append', default=[], metavar='DIR',
                   help='share DIR for writing at the same path (2 at most)')
    p.add_argument('-S', '--disk-size', metavar='SIZE',
                   help='an empty ext4 of SIZE (8G; sparse, gone afterwards), mounted at $COFFER_SCRATCH')
    p.add_argument('-d', '--disk', action='append', default=[], metavar='FILE[,qcow2][,snapshot][,ro][,unsafe]',
                   help='attach an image; /dev/vda, vdb.. in any order when there are several: their serials are disk0,\n'
                        'disk1.. (the scratch disk is first). unsafe: a flush stays in the page cache of this machine')
    p.add_argument('--system', metavar='FILE',
                   help="run CMD as a service of a booted systemd, then shut down; FILE, an ext4 image, is /dev/vda and\n"
                        'keeps what changes below /, so that the next run with it is the same system after a reboot')
    p.add_argument('-m', '--memory', default='1024M')
    p.add_argument('-c', '--cpus', type=int, default=2, help='at most $COFFER_CPUS, when that is set')
    p.add_argument('-f', '--hostfwd', action='append', default=[], metavar='tcp:127.0.0.1:P-:P')
    p.add_argument('--tap', metavar='DEVICE', help='a network by this tap device, which is there; without it: user-mode')
    p.add_argument('--kill-on', metavar='TEXT', help='cut the power when TEXT appears on stdout; exit 0')
    p.add_argument('-v', '--verbose', action='store_true', help='times, and the console at the end')
    p.add_argument('cmd', nargs=argparse.REMAINDER)
    return p


def parse(name, argv):
    p = parser(name)
    options = p.parse_args(argv)
    if options.cmd[:1] == ['--']:
        options.cmd = options.cmd[1:]
    if not options.cmd:
        p.error('no command')
    if len(options.write) > SHARES:
        p.error(f'at most {SHARES} shares')
    if len(options.disk) + bool(options.disk_size) + bool(options.system) > DISKS:
        p.error(f'at most {DISKS} disks')
    most = os.environ.get('COFFER_CPUS') or str(options.cpus)
    if not re.fullmatch('[1-9][0-9]?', most):
        p.error(f'COFFER_CPUS={most}: not a number of processors')
    options.cpus = min(options.cpus, int(most))
    if options.system and options.disk_size:
        p.error('--system keeps its own disk: -S is for runs that leave nothing')
    return options


def environment(options):
    """CMD's variables: the base and those of -e (a name without value that isn't set here is left out)."""
    result = dict(ENVIRONMENT)
    for item in options.env:
        name, equals, value = item.partition('=')
        if not re.fullmatch(r'[A-Za-z_][A-Za-z0-9_]*', name):
            raise VmError(f'-e {item}: not a variable name')
        if equals or name in os.environ:
            result[name] = value if equals else os.environ[name]
    return result


def images_folder():
    """The folder with vmlinux and initrd, made when it is missing."""
    done = subprocess.run([f'{HERE}/setup.sh'], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise VmError('there is no kernel for the VM (see above)')
    folder = done.stdout.decode().strip()
    os.utime(folder)  # setup.sh removes what nobody used for a week
    return folder


def kernel_arguments():
    mhz = hostclock.tsc_mhz()
    return KERNEL_ARGUMENTS + (f' tsc_early_khz={mhz * 1000}' if mhz else '')


def fixed_arguments(options, images):
    """What must be the same when a template is saved and when it is restored."""
    a = [QEMU, '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot',
         '-machine', 'q35,memory-backend=mem', '-accel', 'tcg,thread=multi', '-cpu', 'max,la57=off',
         '-m', options.memory, '-smp', str(options.cpus), '-kernel', f'{images}/vmlinux', '-initrd', f'{images}/initrd',
         '-append', kernel_arguments(), '-serial', 'chardev:console', '-mon', 'chardev=qmp,mode=control',
         '-device', 'virtio-serial-pci,max_ports=8', '-device', 'virtio-rng-pci']
    for number, port in enumerate(PORTS, 1):
        a += ['-device', f'virtserialport,nr={number},chardev={port},name=vm.{port}']
    for tag in ('root', *(f'share{i}' for i in range(SHARES))):
        a += ['-device', f'virtio-9p-pci,fsdev={tag},mount_tag={tag}']
    a += ['-device', 'virtio-net-pci,netdev=net,romfile=']
    for i in range(DISKS):
        a += ['-device', f'pcie-root-port,id=slot{i},chassis={i + 1}']
    return a


def template_key(options, fixed, images):
    """Of user-mode networking the saved state has a part, so a tap has templates of its own; which tap is no matter."""
    qemu = os.stat(shutil.which(QEMU))
    with open(f'{images}/digests', encoding='ascii') as f:
        parts = [f.read(), str(qemu.st_size), str(qemu.st_mtime_ns), *fixed, *(['tap'] if options.tap else [])]
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()[:16]


def fsdev(tag, path, mode):
    comma = path.replace(',', ',,')
    return ['-fsdev', f'local,id={tag},path={comma},security_model=none,multidevs=remap{mode}']


def network(options):
    if options.tap:
        return f'tap,id=net,ifname={options.tap},script=no,downscript=no'
    return ','.join(['user,id=net'] + ['hostfwd=' + f for f in options.hostfwd])


@dataclasses.dataclass
class Vm:
    """A QEMU process and our ends of its sockets."""
    process: subprocess.Popen
    sockets: dict
    folder: str

    @classmethod
    def start(cls, options, fixed, folder, memory, extra=(), keep=()):
        """memory: options of the memory backend. keep: descriptors that QEMU inherits."""
        ours, theirs, args = {}, {}, list(fixed)
        for name in ('qmp', *PORTS):
            ours[name], theirs[name] = socket.socketpair()
            args += ['-chardev', f'socket,id={name},fd={theirs[name].fileno()}']
        empty = os.path.join(folder, 'empty')
        os.makedirs(empty, exist_ok=True)
        args += ['-chardev', f'file,id=console,path={folder}/console']
        args += ['-object', f'memory-backend-file,id=mem,size={options.memory},{memory}']
        args += fsdev('root', '/', ',readonly=on')
        for i in range(SHARES):
            path = os.path.realpath(options.write[i]) if i < len(options.write) else empty
            args += fsdev(f'share{i}', path, '')
        args += ['-netdev', network(options), *extra]
        with open(f'{folder}/qemu.err', 'wb') as errors:
            # setpriv: QEMU must not outlive this process, however it ends
            process = subprocess.Popen(['setpriv', '--pdeathsig', 'KILL', *args], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=errors,
                                       pass_fds=[s.fileno() for s in theirs.values()] + list(keep))
        for s in theirs.values():
            s.close()
        return cls(process, ours, folder)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for s in self.sockets.values():
            s.close()

    def tail(self):
        """The end of what QEMU and the kernel said."""
        text = ''
        for name in ('qemu.err', 'console'):
            with contextlib.suppress(OSError), open(f'{self.folder}/{name}', errors='replace', encoding='utf-8') as f:
                text += f.read()[-3000:]
        return text


def boot_template(options, fixed, work):
    """Boots, waits until the guest waits for an order, saves the VM in the folder work."""
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    vm = Vm.start(options, fixed, work, f'mem-path={work}/ram,share=on')
    try:
        qmp = Qmp(vm.sockets['qmp'])
        vm.sockets['ctl'].settimeout(BOOT_SECONDS)
        if vm.sockets['ctl'].makefile('r').readline().strip() != 'ready':
            raise VmError('the VM did not boot')
        time.sleep(0.3)  # let the guest come to rest in its read
        qmp.command('stop')
        qmp.command('migrate-set-capabilities', capabilities=[{'capability': 'x-ignore-shared', 'state': True}])
        qmp.command('migrate-set-parameters', max_bandwidth=1 << 40)
        qmp.command('migrate', uri=f'exec:cat >{shlex.quote(work + "/state")}')
        qmp.wait_for('query-migrate', ('completed',))
        qmp.command('quit')
        vm.process.wait(BOOT_SECONDS)
    except (VmError, OSError) as e:
        raise VmError(f'cannot make the template: {e}\n{vm.tail()}') from e
    finally:
        vm.stop()


def save_template(options, fixed, template):
    work = f'{template}.new'
    for tries in (2, 1, 0):  # an emulated boot on a busy machine may fail; every run stands on this one
        try:
            boot_template(options, fixed, work)
            break
        except VmError:
            if not tries:
                raise
    os.rename(work, template)


def template_folder(options, fixed, images, renew=False):
    template = f'{images}/template-{template_key(options, fixed, images)}'
    if os.path.exists(template) and not renew:
        return template
    with open(f'{images}/lock', 'w', encoding='ascii') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if renew:
            shutil.rmtree(template, ignore_errors=True)
        if not os.path.exists(template):
            save_template(options, fixed, template)
    return template


class Disks:
    """The drives of one run."""

    def __init__(self, options, folder):
        self.arguments, self.descriptors, self.count = [], [], 0
        if options.disk_size:
            self._add_scratch(options.disk_size, f'{folder}/scratch')
        for item in [options.system] * bool(options.system) + options.disk:
            path, *words = item.split(',')
            unknown = set(words) - {'raw', 'qcow2', 'snapshot', 'ro', 'unsafe'}
            if unknown or not os.path.exists(path):
                raise VmError(f'-d {item}: ' + (f'unknown word {unknown.pop()}' if unknown else 'no such file'))
            self._add(path, 'qcow2' if 'qcow2' in words else 'raw',
                      (',snapshot=on' if 'snapshot' in words else '') + (',readonly=on' if 'ro' in words else '') +
                      (',cache=unsafe' if 'unsafe' in words else ''))

    def _add_scratch(self, size, path):
        """Passed as descriptors (QEMU asks for one of each access mode), so the file needs no name and can't stay."""
        search = os.environ.get('PATH', '') + ':/usr/sbin:/sbin'
        mkfs = shutil.which('mkfs.ext4', path=search) or 'mkfs.ext4'
        try:
            subprocess.run(['truncate', '-s', size, path], check=True)
            subprocess.run([mkfs, '-q', '-F', '-m', '0', '-E', 'lazy_itable_init=1,assume_storage_prezeroed=1', path],
                           check=True)
        except (OSError, subprocess.CalledProcessError) as e:
            raise VmError(f'cannot make a scratch disk of {size}: {e}') from e
        for mode in (os.O_RDWR, os.O_RDONLY):
            fd = os.open(path, mode | os.O_CLOEXEC)
            self.descriptors.append(fd)
            self.arguments += ['-add-fd', f'fd={fd},set=1']
        os.unlink(path)
        self._add('/dev/fdset/1', 'raw', ',discard=unmap')

    def _add(self, path, kind, extra):
        comma = path.replace(',', ',,')
        self.arguments += ['-drive', f'file={comma},format={kind},if=none,id=disk{self.count}{extra}']
        self.count += 1

    def plug(self, qmp):
        for i in range(self.count):
            qmp.command('device_add', driver='virtio-blk-pci', drive=f'disk{i}', id=f'blk{i}', bus=f'slot{i}', serial=f'disk{i}')


def hidden(path):
    return any(path.startswith(top + '/') for top in HIDDEN)


def order(options):
    """The line that tells the guest's init what to do (the names are explained there)."""
    variables = environment(options)
    if options.disk_size:
        variables['COFFER_SCRATCH'] = SCRATCH
    try:
        cwd = os.getcwd()
    except OSError as e:
        raise VmError(f'the working directory is gone ({e.strerror})') from e
    job = ['#!/bin/sh', f'cd {shlex.quote(cwd)} || exit {VM_FAILED}']
    job += [f'export {name}={shlex.quote(value)}' for name, value in variables.items()]
    job += [f'exec {shlex.join(options.cmd)}']
    show = {path for path in map(os.path.realpath, [CHECKOUT, cwd, *options.show])
            if hidden(path) and os.path.isdir(path)}
    values = {
        'vm_time': str(int(time.time())),
        'vm_seed': os.urandom(32).hex(),
        'vm_disks': str(len(options.disk) + bool(options.disk_size) + bool(options.system)),
        'vm_system': '/dev/vda' if options.system else '',
        'vm_shares': '\n'.join(f'share{i}:{os.path.realpath(d)}' for i, d in enumerate(options.write)),
        'vm_show': '\n'.join(sorted(show)),
        'vm_scratch': SCRATCH if options.disk_size else '',
        'vm_cwd': cwd,
        'vm_job': '\n'.join(job),
        'vm_sync': 'yes' if options.disk else '',
    }
    text = '\n'.join(f'{name}={shlex.quote(value)}' for name, value in values.items())
    return base64.b64encode(text.encode()) + b'\n'


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data):]


class Relay:
    """Moves bytes between our standard streams and the guest's ports until the guest reports an exit code."""
    STREAMS = {'out': 1, 'err': 2}

    def __init__(self, vm, kill_on):
        self.vm, self.kill_on = vm, kill_on.encode() if kill_on else None
        self.control, self.seen = b'', b''
        self.code, self.halting = None, None  # halting: the code, while the guest shuts down

    def run(self, deadline):
        threading.Thread(target=self._feed, daemon=True).start()
        selector = selectors.DefaultSelector()
        for name in ('ctl', *self.STREAMS):
            selector.register(self.vm.sockets[name], selectors.EVENT_READ, name)
        while self.code is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return TIMED_OUT
            for key, _ in selector.select(left):
                data = key.fileobj.recv(65536)
                if not data:
                    selector.unregister(key.fileobj)
                self._take(key.data, data)
        self._drain()
        return self.code

    def _feed(self):
        """In a thread of its own: epoll refuses regular files, and a guest that doesn't read must not stop us."""
        with contextlib.suppress(OSError):
            while data := os.read(0, 65536):
                self.vm.sockets['in'].sendall(data)
            self.vm.sockets['in'].shutdown(socket.SHUT_WR)

    def _take(self, name, data):
        if name != 'ctl':
            write_all(self.STREAMS[name], data)
            if self.kill_on and name == 'out':
                self.seen = self.seen[-len(self.kill_on):] + data
                if self.kill_on in self.seen:
                    self.code = 0
            return
        if not data:
            if self.halting is None:
                raise VmError('the VM died')
            self.code = self.halting
        *lines, self.control = (self.control + data).split(b'\n')
        for line in lines:
            word, _, rest = line.decode(errors='replace').partition(' ')
            if word == 'exit':
                self.code = int(rest)
            elif word == 'halt':
                self.halting = int(rest)
            elif word == 'fatal':
                raise VmError(rest)

    def _drain(self):
        """What the guest wrote before the exit code is already in the sockets."""
        for name, fd in self.STREAMS.items():
            self.vm.sockets[name].setblocking(False)
            with contextlib.suppress(BlockingIOError, ConnectionError):
                while data := self.vm.sockets[name].recv(65536):
                    write_all(fd, data)


def restore(options, fixed, template, folder, disks):
    """A running guest that waits for its order."""
    memory = f'mem-path={template}/ram,share=off'
    vm = Vm.start(options, fixed, folder, memory, [*disks.arguments, '-incoming', 'defer'], disks.descriptors)
    try:
        qmp = Qmp(vm.sockets['qmp'])
        qmp.command('migrate-set-capabilities', capabilities=[{'capability': 'x-ignore-shared', 'state': True}])
        qmp.command('migrate-incoming', uri=f'exec:cat {shlex.quote(template + "/state")}')
        qmp.wait_for('query-status', ('paused', 'postmigrate', 'running', 'prelaunch'))
        qmp.command('cont')
        disks.plug(qmp)
    except (VmError, OSError) as e:
        tail = vm.tail()
        vm.stop()
        raise VmError(f'cannot restore the template: {e}\n{tail}') from e
    return vm


def restore_or_renew(options, images, folder):
    """A template damaged on disk is made again, once."""
    fixed = fixed_arguments(options, images)
    disks = Disks(options, folder)
    template = template_folder(options, fixed, images)
    try:
        return restore(options, fixed, template, folder, disks)
    except VmError as e:
        print(f'vmrun: making the template again: {e}', file=sys.stderr)
        return restore(options, fixed, template_folder(options, fixed, images, renew=True), folder, disks)


def run(options):
    if not shutil.which(QEMU):
        raise VmError(f'{QEMU} is missing; install it with `make deps` (as root)')
    started = time.monotonic()
    images = images_folder()
    folder = tempfile.mkdtemp(prefix='run.', dir=os.path.dirname(images))
    vm = None
    try:
        message = order(options)
        vm = restore_or_renew(options, images, folder)
        if options.verbose:
            print(f'vmrun: restored after {time.monotonic() - started:.2f} s', file=sys.stderr)
        vm.sockets['ctl'].sendall(message)
        code = Relay(vm, options.kill_on).run(time.monotonic() + options.timeout)
        if code == TIMED_OUT:
            print(f'vmrun: no end within {options.timeout:g} s', file=sys.stderr)
        if options.verbose or code == TIMED_OUT:
            sys.stderr.write('vmrun: console:\n' + vm.tail())
        return code
    except VmError as e:
        raise VmError(f'{e}\n{vm.tail()}' if vm else str(e)) from e
    finally:
        if vm:
            vm.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main(argv):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return run(parse('vmrun.py', argv))
    except VmError as e:
        print(f'vmrun: {str(e).strip()}', file=sys.stderr)
        return VM_FAILED
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
