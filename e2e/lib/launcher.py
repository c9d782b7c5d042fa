# SPDX-License-Identifier: Apache-2.0
"""coffer-launch as a process, with volumes of its own below one folder, and what may be left of a VM. For the story `launch` and
the component test of that name; root. Everything is mounted in a mount namespace that `in_own_namespace` makes."""
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATIENCE = 300  # seconds; a busy machine
PROGRAMS = '/opt/coffer-launch-test'  # folder of the host's that VMs see: this test's programs and the sample VM


class Refused(Exception):
    """coffer-launch's error answer."""
    def __init__(self, code, message):
        super().__init__(f'{code}: {message}')
        self.code, self.message = code, message


class Killed(Exception):
    """The connection ended without an answer."""


def in_own_namespace():
    """Runs this program again where its mounts come out to nobody. A reason, or None: this is the one."""
    if os.environ.get('COFFER_OWN_NAMESPACE'):
        return None
    if os.geteuid() != 0:
        return 'only root starts VMs'
    probe = subprocess.run(['unshare', '--mount', '--propagation', 'private', 'mount', '-t', 'tmpfs', 'tmpfs', '/opt'], check=False,
                           capture_output=True)
    if probe.returncode != 0:
        return f'no mount namespace can be made here: {probe.stderr.decode().strip()}'
    os.environ['COFFER_OWN_NAMESPACE'] = '1'
    os.execvp('unshare', ['unshare', '--mount', '--propagation', 'private', sys.executable, os.path.abspath(sys.argv[0])])


def wait_for(condition, what, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise RuntimeError(f'too long a wait: {what}')
        time.sleep(0.02)
    return value


def own_cgroup():
    """A folder for VMs' control groups, and whether limits can be set there."""
    for base in ('/sys/fs/cgroup', '/sys/fs/cgroup/unified'):
        with contextlib.suppress(OSError), open(f'{base}/cgroup.controllers', encoding='ascii') as f:
            return f'{base}/coffer-launch-test-{os.getpid()}', {'memory', 'pids', 'cpu'} <= set(f.read().split())
    return None, False


class Launcher:
    def __init__(self, folder, binary, **config):
        self.folder, self.binary = folder, binary
        self.cgroup, self.limits = own_cgroup()
        self.log, self.socket, self.state = f'{folder}/log', f'{folder}/launch.sock', f'{folder}/state'
        self.config = {'command': ['/usr/bin/sleep', '100000'], 'memory': 256 << 20, 'pids': 64, 'cpu_percent': 100,
                       'uids': {'first': 2000000, 'count': 1000}, 'folders': [PROGRAMS], **config}
        self.fault_dir = f'{folder}/fault'
        self.process, self.mounted, self.any_volume = None, [], True
        for name in ('clouds', 'fault'):
            os.makedirs(f'{folder}/{name}', exist_ok=True)
        self.configure()
        self._show_programs()

    @staticmethod
    def _show_programs():
        subprocess.run(['mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', os.path.dirname(PROGRAMS)], check=True)
        shutil.copytree(f'{ROOT}/vm', f'{PROGRAMS}/vm')
        shutil.copytree(f'{ROOT}/e2e/launch', f'{PROGRAMS}/launch')

    def configure(self, **changes):
        self.config.update(changes)
        with open(f'{self.folder}/launch.json.new', 'w', encoding='ascii') as f:
            json.dump(self.config, f)
        os.rename(f'{self.folder}/launch.json.new', f'{self.folder}/launch.json')

    def flags(self):
        return ['--socket', self.socket, '--peer', '0:0', '--config', f'{self.folder}/launch.json', '--volumes', f'{self.folder}/clouds',
                '--sockets', f'{self.folder}/vms', '--cgroup', self.cgroup, '--state', self.state,
                *(['--any-volume'] if self.any_volume else []), *([] if self.limits else ['--any-cgroup'])]

    def start_daemon(self):
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen([self.binary, *self.flags()], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={'COFFER_FAULT_DIR': self.fault_dir, 'SECRET_OF_THE_HOST': 'host-environment'})
        wait_for(lambda: self.process.poll() is not None or self.answers(), 'coffer-launch answers')
        if self.process.poll() is not None:
            raise RuntimeError(f'coffer-launch ended: {self.said()}')

    def answers(self):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as s:
            s.connect(self.socket)
            return True
        return False

    def stop_daemon(self):
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def said(self):
        with open(self.log, encoding='utf-8') as f:
            return f.read()[-3000:]

    # ---- requests ----

    def send(self, data):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(PATIENCE)
            s.connect(self.socket)
            with contextlib.suppress(BrokenPipeError):
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
            answer = b''
            with contextlib.suppress(ConnectionResetError):
                while chunk := s.recv(65536):
                    answer += chunk
        if not answer:
            raise Killed()
        value = json.loads(answer)
        if 'error' in value:
            raise Refused(value['error']['code'], value['error']['message'])
        return value

    def call(self, verb, **fields):
        return self.send(json.dumps({'verb': verb, **fields}).encode())

    def start(self, vm):
        return self.call('start', id=vm)['started']

    def stop(self, vm, grace_ms=60000):
        self.call('stop', id=vm, grace_ms=grace_ms)

    def list(self):
        return {vm['id']: vm for vm in self.call('list')['vms']}

    def until_ok(self, call):
        """Repeats what a client would repeat."""
        def attempt():
            try:
                return (call(),)
            except Refused as e:
                if e.code != 'ABORTED':
                    raise
                return None
        return wait_for(attempt, 'the VM is busy')[0]

    def exited(self, vm):
        """How it ended, once it has."""
        return wait_for(lambda: self.list()[vm]['state'] == 'exited' and self.list()[vm]['status'], f'{vm} ends')

    # ---- volumes ----

    def volume(self, vm):
        return f'{self.folder}/clouds/{vm}/volume'

    def mount(self, vm, *what):
        """An empty one; what: arguments of mount(8), else a tmpfs."""
        os.makedirs(self.volume(vm), exist_ok=True)
        subprocess.run(['mount', *(what or ('-t', 'tmpfs', '-o', 'nodev,nosuid,size=64m', 'volume')), self.volume(vm)], check=True)
        self.mounted.append(self.volume(vm))

    def unmount(self, vm):
        subprocess.run(['umount', self.volume(vm)], check=True)
        self.mounted.remove(self.volume(vm))
        os.rmdir(self.volume(vm))

    # ---- what is left ----

    def processes(self):
        """Of all VMs: by the control groups."""
        found = []
        for folder, _, files in os.walk(self.cgroup):
            if 'cgroup.procs' in files and folder != self.cgroup:
                with contextlib.suppress(OSError), open(f'{folder}/cgroup.procs', encoding='ascii') as f:
                    found += [int(line) for line in f]
        return found

    def left_over(self):
        left = [f'process {pid}' for pid in self.processes()]
        left += [f'folder {name}' for name in os.listdir(self.state) if name not in ('uids.lock', 'launch.sock', 'launch.sock.lock')]
        left += [f'socket {name}' for name in os.listdir(f'{self.folder}/vms')]
        return left + [f'group {name}' for name in os.listdir(self.cgroup) if os.path.isdir(f'{self.cgroup}/{name}')]

    def demand_clean(self):
        if left := self.left_over():
            raise RuntimeError(f'left over: {left}')

    # ---- the program's fault points ----

    def arm(self, text):
        for name in ('trace', 'paused'):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f'{self.fault_dir}/coffer-launch.{name}')
        if text is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f'{self.fault_dir}/coffer-launch.arm')
            return
        with open(f'{self.fault_dir}/new', 'w', encoding='ascii') as f:
            f.write(text)
        os.rename(f'{self.fault_dir}/new', f'{self.fault_dir}/coffer-launch.arm')

    def record(self, call):
        """The names of the points that a call comes by."""
        self.arm('record')
        call()
        with open(f'{self.fault_dir}/coffer-launch.trace', encoding='ascii') as f:
            names = f.read().split()
        self.arm(None)
        return list(dict.fromkeys(names))

    def close(self):
        with contextlib.suppress(Exception):
            self.arm(None)
            for vm in self.list():
                self.stop(vm, 0)
        if self.process is not None and self.process.poll() is None:
            self.stop_daemon()
        for path in reversed(self.mounted):
            subprocess.run(['umount', '-l', path], check=False)
        subprocess.run(['umount', '-l', os.path.dirname(PROGRAMS)], check=False)
        with contextlib.suppress(OSError):
            os.rmdir(self.cgroup)
