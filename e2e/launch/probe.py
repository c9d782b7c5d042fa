#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs inside a VM as its program and tries what a malicious one would: every attempt's outcome is in /personalcloud/probe.json,
{name: "OK" or an errno's name}, with what it sees. Python's own library alone. After it, it waits to be ended."""
import contextlib
import ctypes
import errno
import json
import os
import resource
import signal
import socket
import subprocess

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000
NR = {'ptrace': 101, 'pivot_root': 155, 'clone': 56, 'add_key': 248, 'request_key': 249, 'keyctl': 250, 'perf_event_open': 298,
      'open_by_handle_at': 304, 'setns': 308, 'process_vm_readv': 310, 'kcmp': 312, 'finit_module': 313, 'bpf': 321, 'userfaultfd': 323,
      'io_uring_setup': 425, 'open_tree': 428, 'move_mount': 429, 'fsopen': 430, 'clone3': 435, 'pidfd_getfd': 438, 'mount_setattr': 442,
      'swapon': 167, 'reboot': 169, 'kexec_load': 246, 'syslog': 103, 'acct': 163, 'settimeofday': 164, 'iopl': 172, 'unshare': 272,
      'mount': 165, 'umount2': 166, 'chroot': 161, 'sethostname': 170, 'mknod': 133, 'modify_ldt': 154}
ZEROES = ctypes.create_string_buffer(4096)


def outcome(work):
    try:
        work()
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e.errno))
    except ValueError:  # how setrlimit says EPERM
        return 'EPERM'
    return 'OK'


def call(name, *args):
    """The system call, with zeroes for what isn't said. A new process that comes of it ends at once."""
    def work():
        me = os.getpid()
        done = LIBC.syscall(ctypes.c_long(NR[name]), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
        if os.getpid() != me:
            os._exit(0)
        if done < 0:
            raise OSError(ctypes.get_errno(), name)
    return outcome(work)


def system_calls():
    buffer = ctypes.byref(ZEROES)
    arguments = {'clone': (CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0), 'unshare': (CLONE_NEWUSER,),
                 'add_key': (b'user', b'x', b'y', 1, -3),
                 'keyctl': (0, -3, 0), 'mount': (b'none', b'/tmp', b'tmpfs', 0, 0), 'umount2': (b'/tmp', 2), 'chroot': (b'/tmp',),
                 'pivot_root': (b'/tmp', b'/tmp'), 'ptrace': (16, 1, 0, 0), 'open_tree': (-100, b'/', 1), 'fsopen': (b'tmpfs', 0),
                 'clone3': (buffer, 88), 'bpf': (0, buffer, 64), 'mknod': (b'/personalcloud/disk', 0o60666, 0x800),
                 'io_uring_setup': (8, buffer),
                 'sethostname': (b'x', 1), 'setns': (3, 0), 'syslog': (3, buffer, 100), 'perf_event_open': (buffer, 0, -1, -1, 0)}
    return {name: call(name, *arguments.get(name, (0, 0, 0, 0, 0))) for name in NR}


def write(path):
    def work():
        with open(path, 'w', encoding='ascii') as f:
            f.write('x')
    return work


def read(path):
    def work():
        with open(path, 'rb') as f:
            f.read(1)
    return work


def make_socket(*kind):
    return lambda: socket.socket(*kind).close()


def connect(family, address):
    def work():
        with socket.socket(family) as s:
            s.settimeout(5)
            s.connect(address)
    return work


def loopback():
    with socket.socket() as a, socket.socket() as b:
        a.bind(('127.0.0.1', 0))
        a.listen()
        b.connect(a.getsockname())


def set_id_program():
    """A set-user-id program of the host's gives nothing."""
    path = next((p for p in ('/usr/bin/su', '/usr/bin/mount') if os.path.exists(p)), None)
    return path and os.stat(path).st_mode & 0o4000 and subprocess.run([path, '--version'], check=False, stdout=-3, stderr=-3).returncode


def attempts():
    host = json.loads(os.environ.get('PROBE', '{}'))
    rows = {
        'write /': write('/x'), 'write /usr': write('/usr/x'), 'write /etc/passwd': write('/etc/passwd'), 'write /dev': write('/dev/x'),
        'write /proc/sys': write('/proc/sys/kernel/core_pattern'), 'write /proc/sysrq': write('/proc/sysrq-trigger'),
        'write /tmp': write('/tmp/x'), 'write volume': write('/personalcloud/x'), 'write /dev/null': write('/dev/null'),
        'read shadow': read('/etc/shadow'), 'read kcore': read('/proc/kcore'), 'read keys': read('/proc/keys'),
        'read cmdline': read('/proc/cmdline'),
        'read init environ': read('/proc/1/environ'), 'read init maps': read('/proc/1/maps'), 'read init mem': read('/proc/1/mem'),
        'list init fd': lambda: os.listdir('/proc/1/fd'), 'enter init root': lambda: os.chdir('/proc/1/root/.'),
        'kill init': lambda: os.kill(1, signal.SIGKILL), 'kill everybody else': lambda: os.kill(host.get('pid', 1 << 21), signal.SIGKILL),
        'become root': lambda: os.setuid(0), 'become another': lambda: os.setresuid(1001, 1001, 1001),
        'take a group': lambda: os.setgroups([0]),
        'give to root': lambda: os.chown('/personalcloud', 0, 0), 'more priority': lambda: os.nice(-5),
        'raw socket': make_socket(socket.AF_INET, socket.SOCK_RAW, 1), 'packet socket': make_socket(socket.AF_PACKET, socket.SOCK_RAW, 3),
        'vsock': make_socket(40, socket.SOCK_STREAM), 'kernel crypto': make_socket(38, socket.SOCK_SEQPACKET),
        'audit netlink': make_socket(socket.AF_NETLINK, socket.SOCK_RAW, 9),
        'route netlink': make_socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
        'host by network': connect(socket.AF_INET, ('192.0.2.1', 80)), 'loopback': loopback,
        'host by abstract socket': connect(socket.AF_UNIX, b'\0coffer-probe'), 'own socket again': lambda: os.stat('/run'),
        'more core': lambda: resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20)),
    }
    return {name: outcome(work) for name, work in rows.items()}


def visible():
    with open('/proc/self/mountinfo', encoding='ascii') as f:
        mounts = [line.split()[4] for line in f]
    return {'pids': sorted(int(name) for name in os.listdir('/proc') if name.isdigit()), 'root': sorted(os.listdir('/')),
            'mounts': sorted(mounts),
            'dev': sorted(os.listdir('/dev')), 'etc': sorted(os.listdir('/etc')),
            'proc': sorted(n for n in os.listdir('/proc') if not n.isdigit()),
            'environment': dict(os.environ), 'interfaces': [name for _, name in socket.if_nameindex()],
            'ids': [os.getuid(), os.getgid(), os.getgroups()],
            'host': socket.gethostname(), 'core': resource.getrlimit(resource.RLIMIT_CORE),
            'stat volume': list(os.stat('/personalcloud')[4:6]),
            'listening': socket.socket(fileno=os.dup(3)).getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
            'cgroup': open('/proc/self/cgroup').read()}


def main():
    result = {'sees': visible(), 'calls': system_calls(), 'tries': attempts(), 'set-id': set_id_program()}
    with open('/personalcloud/probe.tmp', 'w', encoding='ascii') as f:
        json.dump(result, f)
    os.rename('/personalcloud/probe.tmp', '/personalcloud/probe.json')
    while True:
        with contextlib.suppress(InterruptedError):
            signal.pause()


main()
