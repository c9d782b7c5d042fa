#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""host: Coffer on a plain Linux host. In the VM, under real systemd and beside udevd: make install, start, create, mount,
write, reboot, mount again, expand, unmount, delete, uninstall.

Outside, it boots the same system (a disk keeps what changes below /) once for each part; inside, it runs that part.
# story: needs=vm
"""
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'e2e', 'lib'))
import hostvms  # noqa: E402
from files import read, write  # noqa: E402
from fixture import MIB, wait_for  # noqa: E402
from sweep import sampled  # noqa: E402
from tap import Tap, demand  # noqa: E402

SYSTEMD = '/lib/systemd/systemd'
UNITS = ('coffer-keyd', 'coffer-controller', 'coffer-node')
SIZE, GROWN, AGAIN = 64 * MIB, 96 * MIB, 128 * MIB
PATIENCE = '300'  # seconds that cofferctl may wait for a daemon; the VM is slow when the machine is busy
STATE = '/var/lib/coffer'


def run(*argv, code=0, **kw):
    p = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **kw)
    if code is not None and p.returncode != code:
        raise RuntimeError(f'{" ".join(argv)}: exit {p.returncode}\n{p.stdout[-2000:]}{p.stderr[-2000:]}')
    return p


def ctl(*args, code=0, **kw):
    more = ['--timeout', PATIENCE] if args[0] == 'volume' and args[1] in VERBS else []
    return run('cofferctl', *args, *more, code=code, **kw)


VERBS = ('create', 'mount', 'unmount', 'expand', 'delete')


def refused(sentence, *args):
    p = run('cofferctl', *args, '--timeout', PATIENCE, code=1)
    demand(sentence in p.stderr and p.stderr.count('\n') <= 2, p.stderr)


def mounts():
    with open('/proc/1/mountinfo', encoding='utf-8') as f:
        return [line.split()[4] for line in f]


def loops():
    return [line for line in run('losetup', '--list', '--noheadings', '--output', 'BACK-FILE').stdout.splitlines() if STATE in line]


def mappings():
    return [line for line in run('dmsetup', 'ls').stdout.splitlines() if line.startswith('coffer-')]


def kept(name):
    with open(f'{STATE}/volumes/{name}.json', encoding='utf-8') as f:
        return json.load(f)


def demand_closed(name):
    end = time.monotonic() + 60  # udevd may look at the loop device a moment longer
    while time.monotonic() < end and (mappings() or loops()):
        time.sleep(0.1)
    left = mappings() + loops() + [m for m in mounts() if '/staging/' in m] + os.listdir(f'{STATE}/staging')
    demand(not left, f'{name}: left over: {left}')


def file_system_bytes(path):
    s = os.statvfs(path)
    return s.f_blocks * s.f_frsize


def make(target):
    profile, build = os.path.basename(os.environ['COFFER_BIN']), os.path.relpath(os.environ['COFFER_BUILD'], ROOT)
    # -o all: the programs are the ones that were built before; nothing is compiled in the VM
    return run('make', '-C', ROOT, '-o', 'all', f'PROFILE={profile}', f'BUILD={build}', target)


def show(unit, *names):
    text = run('systemctl', 'show', unit, *(f'--property={n}' for n in names)).stdout
    return dict(line.split('=', 1) for line in text.splitlines())


def journal(unit):
    return run('journalctl', '--no-pager', '-u', unit, code=None).stdout[-3000:]


def demand_active():
    for unit in UNITS:
        state = show(unit, 'ActiveState', 'NRestarts')
        demand(state == {'ActiveState': 'active', 'NRestarts': '0'}, f'{unit}: {state}\n{journal(unit)}')


# ---- the first boot ----

def install():
    demand('systemd-sysusers' in make('install').stdout, 'make install does not say what to do next')
    for path in ('/usr/sbin/coffer-keyd', '/usr/libexec/coffer/coffer-crypt', '/usr/lib/systemd/system/coffer-node.service'):
        demand(os.path.exists(path), f'{path} is not there')
    run('systemd-sysusers')
    run('systemd-tmpfiles', '--create')
    run('systemctl', 'daemon-reload')


def verify_units():
    p = run('systemd-analyze', 'verify', '--man=no', *(f'{u}.service' for u in UNITS))
    demand('coffer' not in p.stderr, p.stderr)


def configure():
    """As README.md says it."""
    run('sh', '-ec', '''cp /usr/share/doc/coffer/config.json /etc/coffer/config.json
        (umask 077; head -c 32 /dev/urandom >/etc/coffer/master.key)
        chown coffer-keyd:coffer /etc/coffer/master.key
        echo 'FLAGS="--insecure-file-kms"' >/etc/coffer/coffer-keyd.env
        cofferctl config check
        cofferctl pool init default
        systemctl enable --now coffer-keyd coffer-controller coffer-node''')
    wait_for('sockets', lambda: os.path.exists('/run/coffer/csi.sock') and os.path.exists('/run/coffer/keyd/keyd.sock'), 300)
    demand_active()


def status_of(unit):
    pid = show(unit, 'MainPID')['MainPID']
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        return pid, dict(line.rstrip('\n').split(':\t', 1) for line in f if ':\t' in line)


def users_and_limits():
    for unit in UNITS:
        pid, status = status_of(unit)
        limits = read(f'/proc/{pid}/limits').decode()
        demand(re.search(r'^Max core file size +0 +0 ', limits, re.M), f'{unit} may dump core: {limits}')
        demand(status['NoNewPrivs'] == '1', f'{unit}: {status["NoNewPrivs"]}')
        if unit != 'coffer-node':
            demand(status['Uid'].split()[0] != '0' and int(status['CapEff'], 16) == 0 and int(status['CapBnd'], 16) == 0,
                   f'{unit}: {status}')
        else:
            demand(os.readlink(f'/proc/{pid}/ns/mnt') == os.readlink('/proc/1/ns/mnt'), 'coffer-node has its own mount namespace')
            demand(os.readlink(f'/proc/{pid}/ns/net') != os.readlink('/proc/1/ns/net'), 'coffer-node has a network')
    for path, mode in (('/run/coffer/keyd', 0o750), ('/run/coffer/keyd/keyd.sock', 0o660), ('/run/coffer/controller', 0o750),
                       ('/run/coffer/csi.sock', 0o600), ('/run/coffer/admin.sock', 0o600), (STATE + '/volumes', 0o700)):
        demand(os.stat(path).st_mode & 0o7777 == mode, f'{path}: {os.stat(path).st_mode:o}')


def a_plain_system():
    """As Debian's systemd makes it: mounts are shared, so that an unmount reaches the services' own namespaces."""
    with open('/proc/1/mountinfo', encoding='utf-8') as f:
        root = next(line for line in f if line.split()[4] == '/')
    demand(' shared:' in root, root)
    demand(show('systemd-udevd', 'ActiveState')['ActiveState'] == 'active', 'udevd does not run')


def create():
    ctl('volume', 'create', 'data', '--size', str(SIZE))
    before = kept('data')
    ctl('volume', 'create', 'data', '--size', str(SIZE))
    demand(kept('data') == before, 'a repeated create changed what was kept')
    demand(os.stat(f'{STATE}/volumes/data.json').st_mode & 0o7777 == 0o600, 'what is kept is not 0600')


def mount():
    os.mkdir('/srv/data', 0o751)
    ctl('volume', 'mount', 'data', '/srv/data')
    ctl('volume', 'mount', 'data', '/srv/data')
    demand(mounts().count('/srv/data') == 1, f'{mounts()}')
    demand(mappings() and loops(), 'there is no mapping')
    write('/srv/data/file', b'before the reboot')


def mount_twice():
    ctl('volume', 'mount', kept('data')['id'], '/srv/second', '--read-only')
    demand(read('/srv/second/file') == b'before the reboot', 'the second place shows something else')
    try:
        write('/srv/second/file', b'x')
    except OSError as e:
        demand(e.errno == 30, f'{e}')
    else:
        raise RuntimeError('a read-only place was written')
    ctl('volume', 'unmount', '/srv/second')
    demand(not os.path.exists('/srv/second') and '/srv/data' in mounts(), 'the wrong place was taken away')


def restart_services():
    run('systemctl', 'restart', *reversed(UNITS))
    demand(read('/srv/data/file') == b'before the reboot', 'the mount did not survive')
    ctl('volume', 'mount', 'data', '/srv/data')
    demand_active()


def refusals():
    refused('is mounted at \'/srv/data\': unmount it first', 'volume', 'delete', 'data', '--yes')
    refused("there is no volume 'nonsense' on this host", 'volume', 'mount', 'nonsense', '/srv/x')
    refused("cofferctl mounted no volume at '/srv/x'", 'volume', 'unmount', '/srv/x')
    refused("something is mounted at '/proc'", 'volume', 'mount', 'data', '/proc')
    refused("'/usr' is not empty", 'volume', 'mount', 'data', '/usr')
    demand(read('/srv/data/file') == b'before the reboot', 'a refused call took the data away')


def holder():
    """A busy volume is waited for, and its holder named; when it lets go, the call goes on."""
    with open('/srv/data/file', 'rb'):
        p = subprocess.Popen(['cofferctl', 'volume', 'unmount', 'data', '--timeout', PATIENCE], stderr=subprocess.PIPE,
                             stdin=subprocess.DEVNULL, text=True)
        line = p.stderr.readline()
        demand("waiting: '/srv/data' is busy" in line and f'{os.getpid()}' in line, line)
    demand(p.wait(600) == 0, p.stderr.read())
    demand_closed('holder')
    ctl('volume', 'mount', 'data', '/srv/data')


def expand():
    before = file_system_bytes('/srv/data')
    ctl('volume', 'expand', 'data', '--size', str(GROWN))
    demand(file_system_bytes('/srv/data') > before + 20 * MIB, f'{before} -> {file_system_bytes("/srv/data")}')


# ---- after the reboot ----

def came_back():
    wait_for('the services', lambda: all(show(u, 'ActiveState')['ActiveState'] == 'active' for u in UNITS), 300)
    demand_active()
    demand('/srv/data' not in mounts() and not mappings(), f'something is mounted: {mounts()}')


def mount_again():
    ctl('volume', 'mount', 'data', '/srv/data')
    demand(read('/srv/data/file') == b'before the reboot', 'the data is not what was written')
    before = file_system_bytes('/srv/data')
    ctl('volume', 'expand', 'data', '--size', str(AGAIN))
    demand(file_system_bytes('/srv/data') > before + 20 * MIB, f'{before} -> {file_system_bytes("/srv/data")}')
    demand(run('cofferctl', 'volume', 'unlock-key', kept('data')['id'], '--reason', 'story', '--yes').stdout.strip(), 'no passphrase')


def unmount():
    ctl('volume', 'unmount', '/srv/data')
    st = os.stat('/srv/data')
    demand(st.st_mode & 0o7777 == 0o751 and not os.listdir('/srv/data'), f'the mount point is {st.st_mode:o}')
    demand_closed('unmount')
    ctl('volume', 'unmount', 'data')


def expand_closed():
    ctl('volume', 'expand', 'data', '--size', str(AGAIN + 32 * MIB))
    ctl('volume', 'mount', 'data', '/srv/data')
    demand(file_system_bytes('/srv/data') > AGAIN, f'{file_system_bytes("/srv/data")}')
    demand(read('/srv/data/file') == b'before the reboot', 'the data is not what was written')
    ctl('volume', 'unmount', 'data')


def raw_block():
    ctl('volume', 'create', 'raw', '--size', str(SIZE), '--fs', 'none', '--access-mode', 'RWOP')
    ctl('volume', 'mount', 'raw', '/srv/raw')
    with open('/srv/raw', 'rb') as f:
        demand(os.lseek(f.fileno(), 0, os.SEEK_END) == SIZE, 'the device has another size')
    refused('is mounted at', 'volume', 'delete', 'raw', '--yes')
    ctl('volume', 'expand', 'raw', '--size', str(GROWN))
    with open('/srv/raw', 'rb') as f:
        demand(os.lseek(f.fileno(), 0, os.SEEK_END) == GROWN, 'the device did not grow')
    ctl('volume', 'unmount', '/srv/raw')
    demand(not os.path.exists('/srv/raw'), 'the file is still there')
    ctl('volume', 'delete', 'raw', '--yes')
    demand_closed('raw')


def other_context():
    """What was kept decides: a record that says otherwise is refused."""
    path = glob.glob(f'{STATE}/default/volumes/*/*/record.json')[0]
    before = read(path)
    record = json.loads(before)
    record['tenant'] = 'somebody'
    write(path, json.dumps(record).encode())
    refused('tenant', 'volume', 'mount', 'data', '/srv/data')
    write(path, before)
    demand_closed('other context')
    ctl('volume', 'mount', 'data', '/srv/data')
    demand(read('/srv/data/file') == b'before the reboot', 'the data is gone')
    ctl('volume', 'unmount', 'data')


# ---- cofferctl killed at each of its points ----

class Killer:
    def __init__(self):
        self.folder = '/run/fault'
        os.makedirs(self.folder, exist_ok=True)
        self.arm_file, self.trace = f'{self.folder}/cofferctl.arm', f'{self.folder}/cofferctl.trace'
        self.env = dict(os.environ, COFFER_FAULT_DIR=self.folder)

    def call(self, order, *args, code=0):
        write(self.trace, b'')
        write(self.arm_file, order.encode())
        try:
            ctl(*args, code=code, env=self.env)
            return read(self.trace).decode().split()
        finally:
            os.unlink(self.arm_file)


def sweep(killer, before, args, check, after):
    """Records the points, then for each: killed there, the same call again, the right state. Returns how many."""
    before()
    points = killer.call('record', *args)
    check()
    after()
    demand(points, f'{args}: no fault point was passed; is this the test build?')
    numbers = sampled(range(1, len(points) + 1))
    for number in numbers:
        before()
        killer.call(f'kill {number}', *args, code=-9)
        p = ctl(*args, code=None)
        over = 'mounted no volume at' in p.stderr or 'there is no volume' in p.stderr  # the killed call had got to its end
        demand(p.returncode == 0 or over, f'{args} after a kill at {points[number - 1]}: {p.stderr}')
        check()
        after()
    return len(numbers)


def kills():
    killer, path = Killer(), '/srv/kill'

    def nothing():
        return None

    def is_mounted():
        demand(path in mounts() and read(f'{path}/file') == b'kept', 'it is not mounted, or holds something else')

    def is_closed():
        demand(path not in mounts(), 'it is mounted')
        demand_closed('kill')

    def is_gone():
        demand(not glob.glob(f'{STATE}/volumes/kill.*'), f'{os.listdir(STATE + "/volumes")}')
        demand_closed('kill')

    def make_it():
        ctl('volume', 'create', 'kill', '--size', str(32 * MIB))

    def close_it():
        ctl('volume', 'unmount', 'kill')

    def mount_it():
        ctl('volume', 'mount', 'kill', path)

    def grow_more():
        grow_more.size += 4 * MIB

    make_it()
    mount_it()
    write(f'{path}/file', b'kept')
    close_it()
    count = sweep(killer, nothing, ('volume', 'mount', 'kill', path), is_mounted, close_it)
    count += sweep(killer, mount_it, ('volume', 'unmount', path), is_closed, nothing)
    mount_it()
    count += sweep(killer, nothing, ('volume', 'expand', 'kill', '--size', '40Mi'), is_mounted, nothing)
    close_it()
    ctl('volume', 'delete', 'kill', '--yes')
    count += sweep(killer, nothing, ('volume', 'create', 'kill', '--size', '32Mi'), lambda: kept('kill'),
                   lambda: ctl('volume', 'delete', 'kill', '--yes'))
    count += sweep(killer, make_it, ('volume', 'delete', 'kill', '--yes'), is_gone, nothing)
    print(f'# cofferctl was killed at {count} points')


def delete():
    ctl('volume', 'delete', 'data', '--yes')
    demand(not os.listdir(f'{STATE}/volumes') and not os.listdir(f'{STATE}/staging'), f'{os.listdir(STATE + "/volumes")}')
    demand(not glob.glob(f'{STATE}/default/volumes/*/*'), 'the pool still holds a volume')


def uninstall():
    run('systemctl', 'disable', '--now', *UNITS)
    make('uninstall')
    run('systemctl', 'daemon-reload')
    left = [p for top in ('bin', 'sbin', 'lib/systemd/system', 'lib/sysusers.d', 'lib/tmpfiles.d', 'libexec', 'share/doc',
                          'share/man/man*', 'share/bash-completion/completions') for p in glob.glob(f'/usr/{top}/*coffer*')]
    demand(not left, f'left: {left}')
    for path in ('/etc/coffer/config.json', '/etc/coffer/master.key', f'{STATE}/default/pool.json'):
        demand(os.path.exists(path), f'{path} was removed')
    demand(show('coffer-node', 'LoadState')['LoadState'] == 'not-found', 'the unit is still there')


PARTS = {
    'first': [a_plain_system, install, verify_units, configure, users_and_limits, create, mount, mount_twice, restart_services,
              hostvms.users_vms, refusals, holder, expand],
    'again': [came_back, mount_again, unmount, expand_closed, raw_block, other_context, kills, delete, uninstall],
}


def inside(part):
    tap = Tap()
    for function in PARTS[part]:
        started = time.monotonic()
        if not tap.run(function.__name__.replace('_', ' '), function):
            for unit in UNITS:
                print('\n'.join('# ' + line for line in journal(unit).splitlines()[-25:]))
            break  # every later step stands on it
        print(f'#   {time.monotonic() - started:.1f} s', flush=True)
    tap.done()


# ---- outside ----

class Outside:
    """Boots the system for each part and passes its lines on, numbered through."""

    def __init__(self, folder):
        self.count, self.failed = 0, False
        self.image = os.path.join(folder, 'system.img')
        run('truncate', '-s', '6G', self.image)
        run('mkfs.ext4', '-q', '-F', '-E', 'lazy_itable_init=1', self.image,
            env=dict(os.environ, PATH=os.environ['PATH'] + ':/usr/sbin:/sbin'))

    def pass_on(self, line):
        if match := re.match(r'(not )?ok \d+ (.*)', line):
            self.count += 1
            self.failed = self.failed or bool(match.group(1))
            line = f'{match.group(1) or ""}ok {self.count} {match.group(2)}\n'
        if not line.startswith('1..'):
            print(line, end='', flush=True)

    def boot(self, part):
        argv = [f'{ROOT}/e2e/vm/vmrun.py', '--system', self.image, '-t', '7000', '-s', os.environ['COFFER_BUILD'],
                '-s', os.path.dirname(os.environ['COFFER_BIN']), '-e', 'COFFER_BIN', '-e', 'COFFER_BUILD', '-e', 'COFFER_SAMPLE',
                'python3', '-B', os.path.realpath(__file__), part]
        started = time.monotonic()
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=ROOT) as p:
            for line in p.stdout:
                self.pass_on(line)
        print(f'# boot "{part}": {time.monotonic() - started:.0f} s, exit {p.returncode}', flush=True)
        if p.returncode != 0 and not self.failed:
            self.pass_on(f'not ok 0 - the VM of part {part} ended with {p.returncode}\n')


def main():
    if len(sys.argv) > 1:
        inside(sys.argv[1])
    if not os.path.exists(SYSTEMD):
        print(f'ok 1 - host # SKIP there is no {SYSTEMD} on this machine')
        return 0
    build = os.environ.setdefault('COFFER_BUILD', os.path.join(ROOT, 'build'))
    os.environ.setdefault('COFFER_BIN', os.path.join(build, 'test'))
    with tempfile.TemporaryDirectory(prefix='host-', dir=build) as folder:
        outside = Outside(folder)
        for part in PARTS:
            if not outside.failed:
                outside.boot(part)
    print(f'1..{outside.count}')
    return 1 if outside.failed else 0


sys.exit(main())
