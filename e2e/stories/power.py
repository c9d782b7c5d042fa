#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""power: the power is cut while volumes are made, staged, grown, given new keys, written to and deleted: by SIGKILL of QEMU, by a disk
that forgets what is written from some moment on (dm-flakey), and by going back to any moment of a recorded disk, without what no flush
had made durable (dm-log-writes). After each: records are right, volumes open with their keys, file systems replay and are clean,
every acknowledged file is there and whole, the call that was cut succeeds when it is repeated, and nothing is left over.

Outside, it boots the machines; inside, it runs a part. COFFER_ONLY=words: only the parts whose names have one of these words;
COFFER_CUTS=REGEX: only the cuts whose names it is found in.
# story: needs=vm,vault
"""
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'e2e', 'lib'))
import powercloud  # noqa: E402
import powerkeys  # noqa: E402
import powerkill  # noqa: E402
import powerpast  # noqa: E402
import powerusers  # noqa: E402
import vaultserver  # noqa: E402
from sweep import asked_for  # noqa: E402
from tap import Tap  # noqa: E402

# a machine each
PARTS = {
    'ext4': lambda tap, folder: powerpast.Recorded(folder, 'ext4').run(tap, powerpast.whole_life, 'ext4'),
    'host': lambda tap, folder: powerpast.Recorded(folder, 'ext4').run(tap, powerpast.host_life, 'host', writes=1),
    'xfs': lambda tap, folder: powerpast.Recorded(folder, 'xfs').run(tap, powerpast.other_life('xfs'), 'xfs'),
    'drop': lambda tap, folder: powerpast.Dropped(folder).run(tap),
    'keys': powerkeys.recorded,
    'users': powerusers.recorded,
}
WITH_VAULT = ('keys', 'users', powercloud.CloudCuts)


def run_inside(part, path):
    """path: a file with the part's arguments, as JSON."""
    with open(path, encoding='utf-8') as f:
        {**powerkill.PARTS, **powercloud.PARTS}[part](*json.load(f))


def run_part(part):
    tap = Tap()
    PARTS[part](tap, f'{os.environ["COFFER_SCRATCH"]}/{part}')
    tap.done()


def machine(tap, part):
    """Its results are this story's."""
    command = [f'{ROOT}/e2e/vm/vm-or-native', '-S', '16G', '-t', '14000', '-m', '2048M', '-s', os.environ['COFFER_BIN'],
               *(['-s', os.path.dirname(os.environ['COFFER_VAULT'])] if part in WITH_VAULT else []),
               *(f'-e{name}' for name in ('COFFER_BIN', 'COFFER_SAMPLE', 'COFFER_CUTS', 'COFFER_VAULT')),
               'python3', '-B', __file__, 'part', part]
    before, failures, planned = tap.count, tap.failures, 0
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as p:
        for line in p.stdout:
            result, _, name = line.rstrip('\n').partition(' - ')
            if result.startswith(('ok ', 'not ok ')):
                tap.check(result.startswith('ok'), name)
            elif line.startswith('1..'):
                planned = int(line[3:])
            else:
                print(line, end='', flush=True)
    tests, right = tap.count - before, 0 if tap.failures == failures else 1
    tap.check(tests == planned > 0 and p.returncode == right, f'{part}: its machine ran to the end',
              f'exit {p.returncode}, {tests} tests, of {planned or "nobody knows how many"}')


def why_no_vault():
    if 'VAULT_ADDR' in os.environ:
        return "the server of VAULT_ADDR is not the tests' own: it is stopped and put back"
    return vaultserver.why_not()


def main():
    tap, skipped = Tap(), why_no_vault()
    for part in filter(asked_for, PARTS):
        if part in WITH_VAULT and skipped:
            tap.skip(f'{part}: cuts while keys are in Vault', skipped)
        else:
            machine(tap, part)
    for cuts in (powerkill.Cuts, powercloud.CloudCuts):
        if not asked_for(f'QEMU killed: {cuts.TITLE}'):
            continue
        if cuts in WITH_VAULT and skipped:
            tap.skip(f'QEMU killed: {cuts.TITLE}', skipped)
            continue
        with tempfile.TemporaryDirectory(dir=os.environ['COFFER_BUILD']) as folder:
            os.chmod(folder, 0o755)
            cuts(__file__, folder).run(tap)
    tap.done()


if __name__ == '__main__':
    if sys.argv[1:2] == ['inside']:
        run_inside(*sys.argv[2:])
    elif sys.argv[1:2] == ['part']:
        run_part(*sys.argv[2:])
    else:
        main()
