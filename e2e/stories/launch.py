#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# story: disk=2G cpus=2 memory=1536M timeout=10800
"""users' VMs by coffer-launch: on real dm-crypt with each file system, what a malicious one sees and reaches, its limits (memory,
processes, processor), how it ended, and SIGKILL at every point of start and stop."""
import contextlib
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import launchchecks  # noqa: E402
from launchchecks import NODE, ONE, ask, demand, shell  # noqa: E402
from launcher import Launcher, Refused, in_own_namespace, wait_for  # noqa: E402
from sweep import sampled  # noqa: E402
from tap import Tap  # noqa: E402

SCRATCH = os.environ['COFFER_SCRATCH']
BIN = os.environ['COFFER_BIN']
MAKE = {'ext4': ['mkfs.ext4', '-q'], 'xfs': ['mkfs.xfs', '-q'], 'btrfs': ['mkfs.btrfs', '-q']}


def run(*command, **more):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          **more)
    if done.returncode != 0:
        raise RuntimeError(f'{" ".join(command)}: exit {done.returncode}: {done.stdout}')
    return done.stdout.strip()


@contextlib.contextmanager
def mapping(name, kind):
    """A file system on LUKS2 under that device-mapper name; afterwards nothing may keep it from being closed."""
    image, key = f'{SCRATCH}/{name}.img', f'{SCRATCH}/launch.key'
    with open(key, 'w', encoding='ascii') as f:
        f.write('not a secret')
    run('truncate', '-s', '400M', image)
    run('cryptsetup', '-q', 'luksFormat', '--type', 'luks2', '--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000', '--key-file', key,
        image)
    run('cryptsetup', 'open', '--key-file', key, image, name)
    try:
        run(*MAKE[kind], f'/dev/mapper/{name}')
        yield f'/dev/mapper/{name}'
    finally:
        wait_for(lambda: subprocess.run(['cryptsetup', 'close', name], check=False, capture_output=True).returncode == 0,
                 'the mapping closes')
        os.unlink(image)


# ---- volumes ----

def a_real_volume(launch, kind):
    """Coffer's name on a mapping is asked for; the fresh file system becomes the VM's; after stop the mapping closes."""
    launch.configure(command=NODE)
    with mapping(f'coffer-launch-{kind}', kind) as device:
        launch.mount(ONE, '-o', 'nodev,nosuid', device)
        demand(os.stat(launch.volume(ONE)).st_uid == 0, 'the file system is not fresh')
        launch.start(ONE)
        wait_for(lambda: (ask(launch, ONE) or [0])[0] == 200, 'the sample VM answers')
        demand(ask(launch, ONE, '/personalcloud/db', 'PUT')[0] == 201 and ask(launch, ONE, '/personalcloud/db/x', 'PUT', '{}')[0] == 201,
               'no document')
        launch.stop(ONE)
        there = os.stat(f'{launch.volume(ONE)}/store/db')
        demand((there.st_uid, there.st_gid) == (1000, 1000), f'on disk: {there}')
        launch.demand_clean()
        launch.unmount(ONE)


def what_is_not_coffers(launch):
    launch.configure(command=['/usr/bin/sleep', '100000'])

    def refused(*mount):
        launch.mount(ONE, '-o', 'nodev,nosuid', *mount)
        try:
            launch.start(ONE)
            demand(False, f'{mount} was started on')
        except Refused as e:
            demand(e.code == 'FAILED_PRECONDITION' and 'no volume of Coffer' in e.message, str(e))
        launch.unmount(ONE)
        launch.demand_clean()
    refused('-t', 'tmpfs', 'x')
    with mapping('foreign-launch', 'ext4') as device:
        refused(device)
    image = f'{SCRATCH}/plain.img'
    run('truncate', '-s', '64M', image)
    run('mkfs.ext4', '-q', image)
    refused('-o', 'loop', image)
    os.unlink(image)


# ---- limits ----

def value(launch, name):
    with open(f'{launch.cgroup}/{ONE}/{name}', encoding='ascii') as f:
        return f.read().strip()


def limits_are_set(launch):
    launch.configure(command=['/usr/bin/sleep', '100000'], memory=64 << 20, pids=32, cpu_percent=50)
    launch.mount(ONE)
    launch.start(ONE)
    said = {name: value(launch, name) for name in ('memory.max', 'memory.oom.group', 'pids.max', 'cpu.max')}
    demand(said == {'memory.max': str(64 << 20), 'memory.oom.group': '1', 'pids.max': '32', 'cpu.max': '50000 100000'}, str(said))
    swap = f'{launch.cgroup}/{ONE}/memory.swap.max'
    demand(not os.path.exists(swap) or value(launch, 'memory.swap.max') == '0', 'it may be swapped')
    demand(launch.list()[ONE]['memory'] > 0, str(launch.list()))
    launch.stop(ONE, 0)
    launch.unmount(ONE)


def out_of_memory(launch):
    """Too much of it ends the VM, all of it, and nobody else; also by /tmp. list says so."""
    launch.mount(ONE)
    for command in (['/usr/bin/python3', '-c', 'x = []\nwhile True: x.append(bytearray(1 << 20))'],
                    shell('/usr/bin/python3 -c "x = []\nwhile True: x.append(bytearray(1 << 20))"; sleep 100000'),
                    shell('dd if=/dev/zero of=/tmp/1 bs=1M count=30; dd if=/dev/zero of=/personalcloud/1 bs=1M count=60; sleep 100000')):
        launch.configure(command=command, memory=64 << 20, pids=32, cpu_percent=200)
        launch.start(ONE)
        demand(launch.exited(ONE) == 'out of memory', f'{command}: {launch.list()}')
        launch.stop(ONE)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f'{launch.volume(ONE)}/1')
        launch.demand_clean()
    launch.unmount(ONE)


def fork_bomb(launch):
    """It has the processes that it may have, others start theirs, and it goes when it is told to."""
    launch.configure(command=['/usr/bin/python3', '-c', 'import os\nwhile True:\n try: os.fork()\n except OSError: pass'],
                     memory=256 << 20, pids=32,
                     cpu_percent=50)
    launch.mount(ONE)
    launch.start(ONE)
    wait_for(lambda: int(value(launch, 'pids.current')) == 32 and 'max 0' not in value(launch, 'pids.events').split('\n'),
             'it is at its limit')
    run('/bin/true')
    demand(launch.list()[ONE]['state'] == 'running', str(launch.list()))
    launch.stop(ONE, 500)
    launch.demand_clean()
    launch.unmount(ONE)


# ---- the story ----

@contextlib.contextmanager
def launcher(name, any_volume):
    folder = f'{SCRATCH}/{name}'
    os.makedirs(folder)
    launch = Launcher(folder, f'{BIN}/coffer-launch')
    launch.any_volume = any_volume
    try:
        launch.start_daemon()
        yield launch
    finally:
        launch.close()


def title(check):
    return check.__name__.replace('_', ' ')


def main():
    reason = in_own_namespace()
    tap = Tap()
    if reason is not None:
        tap.skip('users\' VMs', reason)
        tap.done()
    with launcher('volumes', any_volume=False) as launch:
        demand(launch.limits, 'this machine has no limits in cgroup2')
        for kind in MAKE:
            tap.run(f'a VM on a real volume, {kind}', a_real_volume, launch, kind)
        tap.run(title(what_is_not_coffers), what_is_not_coffers, launch)
    with launcher('vms', any_volume=True) as launch:
        for check in (*launchchecks.ALL, limits_are_set, out_of_memory, fork_bomb):
            if not tap.run(title(check), check, launch):
                print('\n'.join('# ' + line for line in launch.said().splitlines()[-10:]), flush=True)
            launch.configure(memory=256 << 20, pids=64, cpu_percent=100)
        for verb, point in sampled(launchchecks.points_of(launch)):
            tap.run(f'{verb} killed at {point}', launchchecks.killed_at, launch, verb, point)
    tap.done()


main()
