#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/run.py [--jobs N] [--timeout S] PROGRAM...: runs test programs that speak TAP (cmocka does, with
CMOCKA_MESSAGE_OUTPUT=TAP) and adds them up. A program may carry arguments: "path arg arg". Exit 0 when
nothing failed; with STRICT=1 in the environment a suite that was skipped whole fails too.
Last line: N passed, N failed, N skipped."""
import concurrent.futures
import os
import re
import shlex
import subprocess
import sys
import time

LINE = re.compile(r'^(not )?ok\b[ \t]*\d*[ \t]*-?[ \t]*(.*)$')
SKIP = re.compile(r'#\s*SKIP\b\s*(.*)$', re.I)


def parse(text):
    """TAP -> (passed, [failed names], [(name, reason)])"""
    passed, failed, skipped = 0, [], []
    for line in text.splitlines():
        m = LINE.match(line)
        if not m:
            continue
        skip = SKIP.search(m.group(2))
        if skip:
            skipped.append((m.group(2)[:skip.start()].strip(' -'), skip.group(1)))
        elif m.group(1):
            failed.append(m.group(2))
        else:
            passed += 1
    return passed, failed, skipped


def run(command, timeout):
    started = time.monotonic()
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT='TAP')
    try:
        p = subprocess.run(shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=timeout, env=env, check=False)
        out, code = p.stdout.decode(errors='replace'), p.returncode
    except subprocess.TimeoutExpired as e:
        out, code = (e.stdout or b'').decode(errors='replace'), f'no end within {timeout} s'
    except OSError as e:
        out, code = str(e), 'it could not be started'
    passed, failed, skipped = parse(out)
    if code not in (0, 77) and not failed:
        failed.append(f'{command}: exit {code}')
    if not passed and not failed and not skipped:
        failed.append(f'{command}: ran no test (exit {code})')
    return command, out, passed, failed, skipped, time.monotonic() - started


def main(argv):
    jobs, timeout = 2, 3000
    while argv and argv[0].startswith('--'):
        name, value = argv[0], int(argv[1])
        if name == '--jobs':
            jobs = value
        elif name == '--timeout':
            timeout = value
        else:
            sys.exit(f'run.py: unknown flag {name}')
        argv = argv[2:]
    strict = os.environ.get('STRICT') == '1'
    total = [0, 0, 0]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for command, out, passed, failed, skipped, took in pool.map(lambda c: run(c, timeout), argv):
            if strict and skipped and not passed and not failed:
                failed.append(f'{command}: the whole suite was skipped and STRICT=1')
            total = [total[0] + passed, total[1] + len(failed), total[2] + len(skipped)]
            name = os.path.relpath(command.split()[0]) + command[len(command.split()[0]):]
            print(f'{"FAIL" if failed else "ok":4}  {name}: {passed} passed, {len(failed)} failed, '
                  f'{len(skipped)} skipped, {took:.1f} s', flush=True)
            for test, reason in skipped:
                print(f'      skipped {test}: {reason}')
            if failed:
                print('\n'.join('      failed ' + f for f in failed))
                print('\n'.join('      | ' + line for line in out.splitlines()[-60:]), flush=True)
    print('%d passed, %d failed, %d skipped' % tuple(total))
    return 1 if total[1] else 0


sys.exit(main(sys.argv[1:]))
