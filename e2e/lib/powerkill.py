# SPDX-License-Identifier: Apache-2.0
"""Cuts by SIGKILL of QEMU: everything that was in the machine's memory is gone, and what its disk had taken stays. Outside, `Cuts` boots
a machine for each part of a cut with the same disk; inside, `prepare`, `victim` and `survivor` are these parts. What was acknowledged
is printed by the victim, line by line, and given to the survivor."""
import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time

from faultydisk import sh
from fixture import MIB, Coffer
from powerlife import Aftermath, Life, Writer, action, chosen, prepare
from sweep import SyscallKiller
from tap import demand
from watched import Paused
from writelog import MKFS, check_file_system, sparse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
DISK, NOW, TOLD = 512 * MIB, 'CUT NOW', 'TOLD '
SECONDS = 3600
# program and point at which it is held and cut; '': at a random moment, while the call is made again and again
KILLS = (
    ('coffer-controller', 'controller:create:allocated', 'create'),
    ('coffer-node', 'stage:unlock:formatting', 'stage of a new volume'),
    ('coffer-crypt', 'crypt:format:keyslot', 'stage of a new volume'),
    ('coffer-node', 'stage:filesystem:made', 'stage of a new volume'),
    ('coffer-crypt', 'crypt:open:activated', 'stage'),
    ('coffer-node', 'unstage:unmount:after', 'unstage'),
    ('coffer-controller', 'controller:expand:allocated', 'expand'),
    ('coffer-node', 'expand:resize:after', 'expand'),
    ('coffer-crypt', 'crypt:rewrite:one-copy', 'rotate, staged'),
    ('coffer-node', 'rotate-key:recorded', 'rotate'),
    ('coffer-controller', 'controller:delete:scrubbed', 'delete'),
    ('', '1', 'write'),
    ('', '2', 'write'),
    ('', '3', 'expand'),
    ('', '4', 'rotate, staged'),
)
UNDER_A_WRITER = ('expand', 'rotate, staged')


# ---- inside ----

class Machine:
    """Coffer on /dev/vda, as after a boot."""

    def __init__(self, make=Coffer):
        self.where = os.environ['COFFER_SCRATCH']
        os.makedirs(self.where, exist_ok=True)
        sh('mount', '-o', 'noatime', '/dev/vda', self.where)
        os.chmod(self.where, 0o755)
        self.c = make()
        os.makedirs(self.c.run, exist_ok=True)
        sh('mount', '-t', 'tmpfs', '-o', 'mode=755', 'run', self.c.run)

    def boot(self):
        self.c.make_run()
        for name in os.listdir(self.c.fault_dir):  # orders that the cut left
            os.unlink(f'{self.c.fault_dir}/{name}')
        self.c.crypt_helper = SyscallKiller.wrapper(self.c.root)
        self.c.start()
        return self.c

    def off(self):
        self.c.stop()
        sh('umount', self.c.run)
        sh('umount', self.where)
        check_file_system('ext4', '/dev/vda')


def say(line):
    """In one piece: several threads do."""
    sys.stdout.write(line + '\n')
    sys.stdout.flush()


def tell(known, _):
    say(TOLD + json.dumps(known))


def prepare_disk():
    machine = Machine(lambda: Coffer(fault=True))
    machine.c.install()
    prepare(Life(machine.boot(), tell))
    machine.off()


def victim(program, point, what, told):
    life = Life(Machine(lambda: Coffer(fault=True)).boot(), tell)
    life.known = told
    call = action(life, what)
    with Writer(life, 'a') if what in UNDER_A_WRITER else contextlib.nullcontext():
        if not program:
            at_a_random_moment(int(point), call)
        with Held(life.c, program, point, call):
            if what in UNDER_A_WRITER:
                time.sleep(1)
            cut()


class Held(Paused):
    """The call is there, in the with block, which no call outlives: the machine is cut."""

    def __init__(self, *how):
        super().__init__(*how)
        self.thread.daemon = True


def at_a_random_moment(seed, call):
    delay = random.Random(seed).uniform(1, 10)
    say(f'# seed {seed}: after {delay:.2f} s')
    threading.Timer(delay, cut).start()
    while True:
        call()


def cut():
    say(NOW)
    time.sleep(SECONDS)


def survivor(told):
    machine = Machine(lambda: Coffer(fault=True))
    Aftermath(machine.boot(), told).judge()
    machine.off()


PARTS = {'prepare': prepare_disk, 'victim': victim, 'survivor': survivor}



# ---- outside ----

class Cuts:
    """Disks that were cut, and what is on them afterwards."""
    PREPARE, TITLE, MEMORY = 'prepare', 'volumes', '1024M'

    def __init__(self, story, folder):
        self.story, self.folder, self.golden, self.disk = story, folder, folder + '/golden', folder + '/disk'
        self.told = {}

    def environment(self):
        """More of it, for what runs inside."""
        return {}

    def vm(self, part, *arguments, kill=False):
        """What its users were told last."""
        path = f'{self.folder}/arguments'
        with open(path, 'w', encoding='utf-8') as f:
            json.dump(arguments, f)
        variables = {'COFFER_BIN': os.environ['COFFER_BIN'], 'COFFER_SCRATCH': '/run/power', **self.environment()}
        command = [f'{ROOT}/e2e/vm/vm-or-native', '-d', f'{self.disk},unsafe', '-t', str(SECONDS), '-m', self.MEMORY, '-s', self.folder,
                   '-s', os.environ['COFFER_BIN'], *(f'-e{k}={v}' for k, v in variables.items()), *(['--kill-on', NOW] if kill else []),
                   'python3', '-B', self.story, 'inside', part, path]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        demand(done.returncode == 0, f'{part}: exit {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-2500:]}')
        demand(kill == (NOW in done.stdout), f'{part}: {done.stdout[-1500:]}')
        whole = done.stdout[:done.stdout.rfind('\n') + 1].splitlines()
        for line in whole:
            if line.startswith('#'):
                print(line, flush=True)
        told = [line for line in whole if line.startswith(TOLD)]
        return json.loads(told[-1].removeprefix(TOLD)) if told else self.told

    def prepare(self):
        sparse(self.disk, DISK)
        subprocess.run([*MKFS['ext4'], self.disk], check=True, env={**os.environ, 'PATH': os.environ['PATH'] + ':/usr/sbin:/sbin'})
        self.told = self.vm(self.PREPARE)
        os.rename(self.disk, self.golden)

    def cut(self, program, point, what):
        told = self.vm('victim', program, point, what, self.told, kill=True)
        self.vm('survivor', told)

    def one(self, *kill):
        subprocess.run(['cp', '--sparse=always', self.golden, self.disk], check=True)
        self.cut(*kill)

    def run(self, tap, kills=KILLS):
        if not tap.run(f'QEMU killed: a disk with {self.TITLE} is prepared', self.prepare):
            return
        for kill in chosen(kills, self.title):
            tap.run(self.title(*kill), self.one, *kill)

    @staticmethod
    def title(program, point, what):
        where = f'with {program} at {point}' if program else f'at a random moment (seed {point})'
        return f'QEMU killed {where}, {what}'
