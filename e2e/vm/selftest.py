#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""selftest.py: the promises of vmrun.py and vm-or-native, as TAP."""
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
VMRUN = f'{HERE}/vmrun.py'
LUKS = r'''
set -e
cd "$COFFER_SCRATCH"
truncate -s 64M image
printf secret >key
loop=$(losetup --direct-io=on -f --show image)
cryptsetup -q luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file key "$loop"
cryptsetup open --key-file key "$loop" selftest
dmsetup table selftest | grep -o 'crypt aes-xts-plain64'
mkfs.ext4 -q /dev/mapper/selftest
mkdir m
mount /dev/mapper/selftest m
echo hello >m/file
umount m
cryptsetup close selftest
losetup -d "$loop"
'''


def vm(*args, stdin=b'', cwd=None, program=VMRUN, env=None):
    return subprocess.run([sys.executable, program, *args], input=stdin, cwd=cwd, env=env, capture_output=True,
                          check=False)


def expect(done, code, stdout=None, stderr=None):
    assert done.returncode == code, f'exit {done.returncode}, wanted {code}: {done.stderr[-2000:].decode()}'
    assert stdout is None or done.stdout == stdout, f'stdout {done.stdout[-200:]}, wanted {stdout[-200:]}'
    assert stderr is None or stderr in done.stderr, f'stderr {done.stderr[-500:]} lacks {stderr}'


def exit_codes(_):
    for code in (0, 1, 77, 255):
        expect(vm('sh', '-c', f'exit {code}'), code)
    expect(vm('sh', '-c', 'kill -9 $$'), 137)
    expect(vm('/no/such/program'), 127)


def streams(_):
    data = os.urandom(1 << 20)
    expect(vm('cat', stdin=data), 0, data)
    with tempfile.TemporaryFile() as f:
        f.write(data)
        f.seek(0)
        done = subprocess.run([sys.executable, VMRUN, 'cat'], stdin=f, capture_output=True, check=False)
    expect(done, 0, data)
    expect(vm('sh', '-c', 'echo out; echo err >/dev/stderr'), 0, b'out\n', b'err\n')


def environment(_):
    secret = dict(os.environ, COFFER_A='1', COFFER_B='2')
    done = vm('-e', 'COFFER_A', '-e', "COFFER_C=a ' $b", '-e', 'COFFER_UNSET', 'env', env=secret)
    expect(done, 0)
    lines = done.stdout.decode().splitlines()
    assert 'COFFER_A=1' in lines and "COFFER_C=a ' $b" in lines, lines
    assert not any(line.startswith(('COFFER_B', 'COFFER_UNSET')) for line in lines), lines


def missing_directory(_):
    expect(vm('true', cwd='/proc/self/task'), 125, b'', b'the working directory /proc/')


def below_tmp(folder):
    """The guest's /tmp is its own; the working directory below it is there all the same, and so is a checkout."""
    inner = tempfile.mkdtemp(dir='/tmp')
    other = tempfile.mkdtemp(dir='/tmp')
    try:
        with open(f'{inner}/file', 'w', encoding='ascii') as f:
            f.write('here')
        expect(vm('sh', '-c', f'cat file; test ! -e {other}', cwd=inner), 0, b'here')
        checkout = f'{inner}/checkout/e2e/vm'
        shutil.copytree(HERE, checkout, ignore=shutil.ignore_patterns('__pycache__'))
        expect(vm('test', '-x', f'{checkout}/vmrun.py', cwd='/', program=f'{checkout}/vmrun.py'), 0)
        shown = vm('-s', other, 'test', '-d', other, cwd=folder)
        expect(shown, 0)
    finally:
        shutil.rmtree(inner)
        shutil.rmtree(other)


def nothing_stays(_):
    name = f'/etc/coffer-selftest.{os.getpid()}'
    expect(vm('sh', '-c', f'echo x >{name} && cat {name}'), 0, b'x\n')
    assert not os.path.exists(name)


def time_out(_):
    started = time.monotonic()
    expect(vm('-t', '2', 'sleep', '1000'), 124, b'', b'no end within 2 s')
    assert time.monotonic() - started < 200


def leftovers(_):
    expect(vm('-t', '120', 'sh', '-c', 'sleep 1000 & exit 3'), 3)


def shares(folder):
    expect(vm('-w', folder, 'sh', '-c', f'echo shared >{folder}/out'), 0)
    with open(f'{folder}/out', encoding='ascii') as f:
        assert f.read() == 'shared\n'


def scratch_disk(_):
    script = ('set -e; cd "$COFFER_SCRATCH"; test -b /dev/vda; df -k . | awk \'NR==2 && $2 < 900000 {exit 1}\'; '
              'dd if=/dev/zero of=f bs=1M count=4 oflag=direct status=none; mknod n b 254 0; dd if=n of=/dev/null count=1')
    expect(vm('-S', '1G', 'sh', '-c', script), 0)
    expect(vm('-S', 'nonsense', 'true'), 125, b'', b'cannot make a scratch disk of nonsense')


def dm_crypt(_):
    expect(vm('-S', '1G', 'sh', '-c', LUKS), 0, b'crypt aes-xts-plain64\n')


def power_cut(folder):
    """What was flushed before the cut is on the image afterwards."""
    image = f'{folder}/disk'
    with open(image, 'wb') as f:
        f.truncate(1 << 20)
    script = 'printf kept | dd of=/dev/vda conv=fsync status=none; echo acknowledged; sleep 1000'
    expect(vm('-d', image, '--kill-on', 'acknowledged', 'sh', '-c', script), 0, b'acknowledged\n')
    with open(image, 'rb') as f:
        assert f.read(4) == b'kept'
    expect(vm('-d', f'{image},snapshot', 'sh', '-c', 'echo lost >/dev/vda'), 0)
    with open(image, 'rb') as f:
        assert f.read(4) == b'kept'


def templates(_):
    """Two runs that need the same new template at once; then the template is damaged."""
    size = f'{800 + os.getpid() % 100}M'
    command = [sys.executable, VMRUN, '-m', size, 'true']
    before = set(template_files())
    runs = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
    for p in runs:
        _, err = p.communicate()
        assert p.returncode == 0, err.decode()
    made = set(template_files()) - before
    try:
        for state in made:
            os.truncate(state, 1000)
        expect(vm('-m', size, 'true'), 0, b'', b'making the template again')
        expect(vm('-m', size, 'true'), 0, b'', b'')
    finally:
        for state in made:
            shutil.rmtree(os.path.dirname(state))
    assert len(made) == 1, made


def template_files():
    images = subprocess.run([f'{HERE}/setup.sh'], stdout=subprocess.PIPE, check=True).stdout.decode().strip()
    return glob.glob(f'{images}/template-*/state')


def choice(_):
    """Inside the guest there is dm-crypt, so the inner vm-or-native must not start a VM."""
    program = f'{HERE}/vm-or-native'
    inner = f'{program} -S 1G -e A=1 sh -c \'echo "$A"; test -d "$COFFER_SCRATCH"\''
    expect(vm('sh', '-c', inner), 0, b'1\n', b'on this machine')
    expect(vm('true', program=program, env=dict(os.environ, COFFER_STORAGE='vm')), 0, b'', b'in the micro-VM')
    expect(vm('true', program=program, env=dict(os.environ, COFFER_STORAGE='no')), 1, b'', b'COFFER_STORAGE=no')


TESTS = (exit_codes, streams, environment, missing_directory, below_tmp, nothing_stays, time_out, leftovers, shares,
         scratch_disk, dm_crypt, power_cut, templates, choice)


def main():
    check = subprocess.run([f'{HERE}/vm-or-native', '--check'], env=dict(os.environ, COFFER_STORAGE='vm'),
                           stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False)
    if check.returncode != 0:
        print(f'1..1\nok 1 - vm selftest # SKIP {check.stdout.decode().strip()}')
        return 0
    print(f'1..{len(TESTS)}')
    failed = 0
    for number, test in enumerate(TESTS, 1):
        name = f'{number} - {test.__name__.replace("_", " ")}'
        with tempfile.TemporaryDirectory(dir='/var/tmp') as folder:
            try:
                test(folder)
                print(f'ok {name}', flush=True)
            except AssertionError as e:
                failed += 1
                print(f'not ok {name}\n# ' + str(e).replace('\n', '\n# '), flush=True)
    return 1 if failed else 0


sys.exit(main())
