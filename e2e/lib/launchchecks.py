# SPDX-License-Identifier: Apache-2.0
"""What coffer-launch must do wherever it runs: each check has a Launcher with its daemon, and leaves nothing. The story `launch` and
the component test run them; what needs limits or real volumes is the story's own."""
import json
import os
import signal
import socket
import subprocess
import threading

from launcher import PROGRAMS, Killed, Refused, wait_for

ONE, TWO = '0123456789abcdef0123456789abcdef', 'fedcba9876543210fedcba9876543210'
NODE = ['/usr/bin/node', f'{PROGRAMS}/vm/server.mjs']
NO_CAPABILITY = '0000000000000000'


def demand(condition, sentence):
    if not condition:
        raise RuntimeError(sentence)


def shell(text):
    return ['/usr/bin/sh', '-c', text]


def ask(launch, vm, path='/personalcloud/', method='GET', body=''):
    """One HTTP request over the VM's socket: the status and the body; None: nobody there."""
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(600)
            s.connect(f'{launch.folder}/vms/{vm}.sock')
            s.sendall(f'{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}'.encode())
            data = b''
            while chunk := s.recv(65536):
                data += chunk
    except (FileNotFoundError, ConnectionError):
        return None
    return (int(data.split()[1]), data.partition(b'\r\n\r\n')[2].decode()) if data else None


def program_of(launch, vm):
    """(init's pid, the program's) on the host."""
    init = launch.list()[vm]['pid']
    with open(f'/proc/{init}/task/{init}/children', encoding='ascii') as f:
        return init, int(f.read().split()[0])


def status_of(pid):
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        return dict(line.rstrip('\n').split(':\t', 1) for line in f if ':\t' in line)


# ---- the verbs ----

def a_vm_serves_and_keeps_its_data(launch):
    launch.configure(command=NODE)
    launch.mount(ONE)
    demand(launch.start(ONE) is True and launch.start(ONE) is False, 'a second start starts something')
    wait_for(lambda: (ask(launch, ONE) or [0])[0] == 200, 'the sample VM answers')
    demand(ask(launch, ONE, '/personalcloud/db', 'PUT')[0] == 201, 'no database')
    demand(ask(launch, ONE, '/personalcloud/db/x', 'PUT', '{"text":"kept"}')[0] == 201, 'no document')
    launch.stop(ONE)
    launch.demand_clean()
    demand(ask(launch, ONE) is None, 'a stopped VM answers')
    demand(os.stat(launch.volume(ONE)).st_uid == 1000 and os.stat(f'{launch.volume(ONE)}/store/db').st_uid == 1000, 'not user 1000 on disk')
    launch.start(ONE)
    wait_for(lambda: (ask(launch, ONE) or [0])[0] == 200, 'the sample VM answers again')
    demand('kept' in ask(launch, ONE, '/personalcloud/db/x')[1], 'the document is gone')
    launch.stop(ONE)
    launch.unmount(ONE)


def two_vms_are_two_users(launch):
    launch.configure(command=NODE)
    for vm in (ONE, TWO):
        launch.mount(vm)
        launch.start(vm)
        wait_for(lambda vm=vm: (ask(launch, vm) or [0])[0] == 200, 'both answer')
    there = launch.list()
    demand(there[ONE]['uid'] != there[TWO]['uid'], 'two VMs have one user')
    demand(all(status_of(program_of(launch, vm)[1])['Uid'].split()[0] == str(there[vm]['uid']) for vm in there), 'list tells another user')
    sock = os.stat(f'{launch.folder}/vms/{ONE}.sock')
    demand((sock.st_mode & 0o777, sock.st_uid) == (0o660, 0), 'the socket is not root\'s, 0660')
    launch.stop(ONE)
    demand(list(launch.list()) == [TWO] and ask(launch, TWO)[0] == 200, 'the other VM was touched')
    launch.stop(TWO)
    launch.demand_clean()
    for vm in (ONE, TWO):
        launch.unmount(vm)


def stop_waits_and_then_kills(launch):
    launch.mount(ONE)
    launch.configure(command=shell(
        'trap "echo asked >/personalcloud/asked; exit 0" TERM; echo >/personalcloud/up; while :; do sleep 0.1; done'))
    launch.start(ONE)
    wait_for(lambda: os.path.exists(f'{launch.volume(ONE)}/up'), 'it traps')
    launch.stop(ONE)
    demand(os.path.exists(f'{launch.volume(ONE)}/asked'), 'it was not asked')
    launch.configure(command=shell('trap "" TERM; setsid sleep 100000 & while :; do sleep 1; done'))
    launch.start(ONE)
    launch.stop(ONE, 200)
    launch.demand_clean()
    launch.stop(ONE)
    launch.stop(TWO)
    launch.demand_clean()
    launch.unmount(ONE)


def how_it_ended_is_listed_until_stop(launch):
    launch.mount(ONE)
    for command, status in (('exit 3', 'exit 3'), ('exit 0', 'exit 0'), ('kill -9 $$', 'signal 9'), ('kill -SEGV $$', 'signal 11'),
                            ('setsid sleep 100000 & exit 7', 'exit 7')):
        launch.configure(command=shell(command))
        demand(launch.start(ONE) is True, 'one that ended is not started again')
        demand(launch.exited(ONE) == status, f'{command}: {launch.list()}')
        wait_for(lambda: not launch.processes(), 'what it left ends')
    launch.configure(command=['/usr/bin/sleep', '100000'])
    launch.start(ONE)
    os.kill(launch.list()[ONE]['pid'], signal.SIGKILL)
    demand(launch.exited(ONE) == 'killed', str(launch.list()))
    launch.stop(ONE)
    demand(launch.list() == {}, 'a stopped VM is listed')
    launch.demand_clean()
    launch.unmount(ONE)


def it_lives_on_without_its_launcher(launch):
    """Restarted, also killed, coffer-launch finds its VMs."""
    launch.configure(command=NODE)
    launch.mount(ONE)
    launch.start(ONE)
    wait_for(lambda: (ask(launch, ONE) or [0])[0] == 200, 'the sample VM answers')
    before = launch.list()[ONE]['pid']
    demand(launch.stop_daemon() == 0, 'SIGTERM: not 0')
    launch.start_daemon()
    launch.process.kill()
    launch.process.wait()
    launch.start_daemon()
    demand(launch.list()[ONE]['pid'] == before and ask(launch, ONE)[0] == 200, 'the VM went with it')
    launch.stop(ONE)
    launch.demand_clean()
    launch.unmount(ONE)


# ---- refusals ----

def bad_requests_are_named(launch):
    for data, word in ((b'', 'request'), (b'{', 'request'), (b'[]', 'object'), (b'{"verb":"list"}x', 'request'),
                       (b'{"verb":"run"}', 'verb'),
                       (b'{"verb":"list","id":"x"}', "'id'"), (b'{"verb":"start"}', "'id'"), (b'{"verb":"start","id":"../../etc"}', "'id'"),
                       (b'{"verb":"start","id":"0123456789ABCDEF0123456789abcdef"}', "'id'"),
                       (b'{"verb":"stop","id":"%s"}' % ONE.encode(), "'grace_ms'"),
                       (b'{"verb":"stop","id":"%s","grace_ms":600001}' % ONE.encode(), "'grace_ms'"),
                       (b'{"verb":"stop","id":"%s","grace_ms":-1}' % ONE.encode(), "'grace_ms'"),
                       (b'{"verb":"list","x":"%s"}' % (b'y' * 5000), 'request')):
        try:
            demand(False, f'{data[:60]} was accepted: {launch.send(data)}')
        except Refused as e:
            demand(e.code in ('INVALID_ARGUMENT', 'DATA_LOSS') and word in e.message, f'{data[:60]}: {e}')
    launch.demand_clean()


def volumes_that_are_none(launch):
    """Nothing is started on anything but a whole mount, nodev and nosuid."""
    launch.configure(command=['/usr/bin/sleep', '100000'])
    path = launch.volume(ONE)

    def refused(word):
        try:
            launch.start(ONE)
        except Refused as e:
            demand(e.code == 'FAILED_PRECONDITION' and word in e.message, f'expected "{word}": {e}')
        else:
            raise RuntimeError(f'started: expected "{word}"')
        launch.demand_clean()
    refused('')
    os.makedirs(path)
    refused('no volume is mounted')
    launch.mount(ONE, '-t', 'tmpfs', '-o', 'nosuid', 'volume')
    refused('nodev,nosuid')
    launch.unmount(ONE)
    launch.mount(ONE, '-t', 'tmpfs', '-o', 'nodev', 'volume')
    refused('nodev,nosuid')
    launch.unmount(ONE)
    os.makedirs(f'{launch.folder}/elsewhere/sub', exist_ok=True)
    launch.mount(ONE, '--bind', f'{launch.folder}/elsewhere/sub')
    refused('no volume is mounted')
    launch.unmount(ONE)
    os.symlink(f'{launch.folder}/elsewhere', path)
    try:
        launch.start(ONE)
        demand(False, 'a symbolic link was followed')
    except Refused as e:
        demand(e.code in ('INVALID_ARGUMENT', 'FAILED_PRECONDITION'), str(e))
    os.unlink(path)
    launch.demand_clean()


def a_program_that_is_none(launch):
    launch.mount(ONE)
    for command in (['/usr/bin/no-such-program'], ['/etc/passwd'], ['/personalcloud']):
        launch.configure(command=command)
        try:
            launch.start(ONE)
            demand(False, f'{command} was started')
        except Refused as e:
            demand(command[0] in e.message, str(e))
        launch.demand_clean()
    launch.unmount(ONE)


def a_peer_that_may_not_ask(launch):
    """Its mode lets the group in; who may ask is --peer."""
    os.chmod(launch.folder, 0o755)
    os.chmod(launch.socket, 0o666)
    code = ('import os, socket, sys\nos.setgid(12345)\nos.setuid(12345)\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n'
            'print(s.recv(4096).decode())')
    done = subprocess.run(['/usr/bin/python3', '-c', code, launch.socket], capture_output=True, text=True, check=False, timeout=300)
    demand('PERMISSION_DENIED' in done.stdout and 'vms' not in done.stdout, f'{done.stdout} {done.stderr}')


def one_at_a_time_for_a_vm(launch):
    """While one works on a VM, others are told to repeat; other VMs are not held up; fifty starts at once start one."""
    launch.configure(command=['/usr/bin/sleep', '100000'])
    launch.mount(ONE)
    launch.mount(TWO)
    launch.arm('pause launch.start.user')
    first = threading.Thread(target=launch.start, args=(ONE,))
    first.start()
    wait_for(lambda: os.path.exists(f'{launch.fault_dir}/coffer-launch.paused'), 'it pauses')
    for verb in (launch.start, launch.stop):
        try:
            verb(ONE)
            demand(False, 'two worked on one VM')
        except Refused as e:
            demand(e.code == 'ABORTED', str(e))
    demand(launch.list() == {} or launch.list()[ONE]['state'] == 'exited', 'list waits or lies')
    launch.arm(None)
    first.join()
    answers, threads = [], []
    for _ in range(50):
        threads.append(threading.Thread(target=lambda: answers.append(launch.until_ok(lambda: launch.start(TWO)))))
        threads[-1].start()
    for thread in threads:
        thread.join()
    demand(sorted(answers) == [False] * 49 + [True], f'fifty starts: {answers}')
    launch.stop(ONE, 0)
    launch.stop(TWO, 0)
    launch.demand_clean()
    launch.unmount(ONE)
    launch.unmount(TWO)


# ---- what it is given, and what it can reach ----

def nothing_of_the_host_is_in_it(launch):
    """/proc of a VM, seen from the host: environment, arguments, mounts, maps, descriptors, rights."""
    launch.configure(command=NODE)
    launch.mount(ONE)
    launch.start(ONE)
    wait_for(lambda: (ask(launch, ONE) or [0])[0] == 200, 'the sample VM answers')
    init, program = program_of(launch, ONE)
    with open(f'/proc/{program}/environ', encoding='ascii') as f:
        names = sorted(f.read().rstrip('\0').split('\0'))
    demand(names == sorted(['PATH=/usr/bin:/bin', 'HOME=/personalcloud', 'NODE_ENV=production', 'TARGET_DISK=true', 'LISTEN_FDS=1',
                            'LISTEN_PID=2',
                            f'VM_URL_PREFIX=/clouds/{ONE}/']), f'environment: {names}')
    with open(f'/proc/{program}/cmdline', encoding='ascii') as f:
        demand(f.read().rstrip('\0').split('\0') == NODE, 'other arguments')
    for kind in ('environ', 'cmdline'):
        with open(f'/proc/{init}/{kind}', 'rb') as f:
            demand(not (shown := f.read().strip(b'\0')), f'coffer-launch\'s own {kind} is init\'s: {shown}')
    with open(f'/proc/{program}/mountinfo', encoding='ascii') as f:
        mounts = {line.split()[4]: line.split()[5] for line in f}
    allowed = {'/', '/usr', '/etc/ld.so.cache', '/etc/alternatives', PROGRAMS, '/proc', '/dev', '/tmp', '/personalcloud'}
    demand(set(mounts) <= allowed and {'/', '/usr', '/proc', '/dev', '/tmp', '/personalcloud'} <= set(mounts), f'mounts: {mounts}')
    for path, options in mounts.items():
        writable = path in ('/tmp', '/personalcloud', '/proc')
        demand(options.split(',')[0] == ('rw' if writable else 'ro') and 'nosuid' in options, f'{path}: {options}')
        demand(path == '/dev' or 'nodev' in options, f'{path}: {options}')
    demand('idmapped' in mounts['/personalcloud'], 'the volume is not mapped')
    for pid in (init, program):
        status = status_of(pid)
        demand(all(status[f'Cap{kind}'] == NO_CAPABILITY for kind in ('Inh', 'Prm', 'Eff', 'Bnd', 'Amb')), f'{pid}: capabilities')
        demand((status['NoNewPrivs'], status['Seccomp']) == ('1', '2'), f'{pid}: {status["NoNewPrivs"]} {status["Seccomp"]}')
        demand(set(status['Uid'].split()) == {str(launch.list()[ONE]['uid'])} and status['Groups'].strip() == '', f'{pid}: users')
        for kind in ('mnt', 'pid', 'net', 'ipc', 'uts', 'user', 'cgroup'):
            demand(os.readlink(f'/proc/{pid}/ns/{kind}') != os.readlink(f'/proc/self/ns/{kind}'), f'{pid}: the host\'s {kind} namespace')
    for number in (0, 1, 2):
        demand(os.readlink(f'/proc/{program}/fd/{number}') == '/dev/null', f'descriptor {number}')
    opened = [os.readlink(f'/proc/{program}/fd/{n}') for n in os.listdir(f'/proc/{program}/fd')]
    inside = ('/dev/null', '/dev/urandom', '/personalcloud', 'socket:', 'pipe:', 'anon_inode:', f'{PROGRAMS}/')
    demand(all(path.startswith(inside) for path in opened), f'descriptors: {opened}')
    with open(f'/proc/{program}/maps', encoding='ascii') as f:
        files = {line.split()[5] for line in f if len(line.split()) > 5 and line.split()[5].startswith('/')}
    demand(all(path.startswith(('/usr/', '/etc/ld.so.cache')) for path in files), f'maps: {files}')
    launch.stop(ONE)
    launch.unmount(ONE)


# what the program may do of all that it tries; all else must fail, with one of these
ALLOWED_TRIES = {'write /tmp', 'write volume', 'write /dev/null', 'route netlink', 'loopback', 'kill init'}
REFUSED = {'EPERM', 'EACCES', 'EROFS', 'ENOENT', 'ESRCH', 'EINVAL', 'EAFNOSUPPORT', 'ENETUNREACH', 'ECONNREFUSED', 'EOVERFLOW'}


def a_malicious_one_gets_nowhere(launch):
    """Every attempt of e2e/launch/probe.py from inside. Killing init is allowed, and does nothing: it is process 1."""
    launch.configure(command=['/usr/bin/python3', f'{PROGRAMS}/launch/probe.py'])
    launch.mount(ONE)
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(b'\0coffer-probe')
        abstract.listen()
        launch.start(ONE)
        path = f'{launch.volume(ONE)}/probe.json'
        wait_for(lambda: os.path.exists(path) or launch.list()[ONE]['state'] == 'exited', 'the probe is done')
        demand(os.path.exists(path), f'the probe ended: {launch.list()}')
    with open(path, encoding='ascii') as f:
        found = json.load(f)
    tries, calls, sees = found['tries'], found['calls'], found['sees']
    wrong = {name: said for name, said in tries.items()
             if (said == 'OK') != (name in ALLOWED_TRIES) or (said != 'OK' and said not in REFUSED)}
    demand(not wrong, f'attempts: {wrong}')
    wrong = {name: said for name, said in calls.items() if said not in ('EPERM', 'ENOSYS')}
    demand(not wrong, f'system calls: {wrong}')
    demand(sees['pids'] == [1, 2], f'pids: {sees["pids"]}')
    demand(set(sees['root']) <= {'bin', 'dev', 'etc', 'lib', 'lib32', 'lib64', 'libx32', 'opt', 'personalcloud', 'proc', 'sbin', 'tmp',
                                 'usr'}, str(sees['root']))
    demand(sees['dev'] == ['fd', 'full', 'null', 'random', 'stderr', 'stdin', 'stdout', 'urandom', 'zero'], str(sees['dev']))
    demand(set(sees['etc']) <= {'alternatives', 'group', 'hosts', 'ld.so.cache', 'nsswitch.conf', 'passwd'}, str(sees['etc']))
    demand(set(sees['proc']) <= {'self', 'thread-self', 'mounts', 'net'}, str(sees['proc']))
    demand(sees['interfaces'] == ['lo'] and sees['ids'] == [1000, 1000, []] and sees['stat volume'] == [1000, 1000], str(sees))
    demand(sees['core'] == [1, 1] or sees['core'] == [0, 0], f'core: {sees["core"]}')
    demand(sees['listening'] == 1 and sees['host'] == f'cloud-{ONE}' and sees['cgroup'].endswith('::/\n'),
           f'{sees["host"]} {sees["cgroup"]}')
    demand(launch.list()[ONE]['state'] == 'running', 'it ended')
    launch.stop(ONE, 1000)
    launch.demand_clean()
    launch.unmount(ONE)


# ---- killed anywhere ----

def interrupted(call):
    try:
        call()
    except (Killed, Refused):
        pass


def points_of(launch):
    """(verb, point) of every point of start and stop."""
    launch.configure(command=['/usr/bin/sleep', '100000'])
    launch.mount(ONE)
    starting = launch.record(lambda: launch.start(ONE))
    stopping = launch.record(lambda: launch.stop(ONE, 0))
    launch.unmount(ONE)
    demand(len(starting) >= 9 and len(stopping) >= 6, f'points: {starting} {stopping}')
    return [('start', p) for p in starting] + [('stop', p) for p in stopping]


def killed_at(launch, verb, point):
    """Killed there; then list answers, and start, or stop at once, find the way."""
    for then in ('start', 'stop'):
        launch.mount(ONE)
        if verb == 'stop':
            launch.start(ONE)
        launch.arm(f'kill {point}')
        interrupted(lambda: launch.start(ONE) if verb == 'start' else launch.stop(ONE, 0))
        launch.arm(None)
        launch.list()
        if then == 'start':
            launch.until_ok(lambda: launch.start(ONE))
            demand(launch.until_ok(lambda: launch.start(ONE)) is False, f'{verb} {point}: started twice')
            demand([vm['state'] for vm in launch.list().values()] == ['running'], f'{verb} {point}: {launch.list()}')
            demand(len(launch.processes()) == 2, f'{verb} {point}: {launch.processes()}')
        launch.until_ok(lambda: launch.stop(ONE, 0))
        launch.demand_clean()
        launch.unmount(ONE)


ALL = (a_vm_serves_and_keeps_its_data, two_vms_are_two_users, stop_waits_and_then_kills, how_it_ended_is_listed_until_stop,
       it_lives_on_without_its_launcher, bad_requests_are_named, volumes_that_are_none, a_program_that_is_none, a_peer_that_may_not_ask,
       one_at_a_time_for_a_vm, nothing_of_the_host_is_in_it, a_malicious_one_gets_nowhere)
