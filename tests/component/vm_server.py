#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The sample VM's own tests (vm/test/), by Node.js's test runner, as TAP without its nesting."""
import os
import re
import shutil
import subprocess
import sys

import caselib

TESTS = sorted(name for name in os.listdir(f'{caselib.ROOT}/vm/test') if name.endswith('.test.mjs'))
RESULT = re.compile(r'^ *(not )?ok \d+ - (.*)$')
LIMIT = 900  # seconds; a test that hangs


def run(name):
    """(passed, what) of each test of one file; the file itself, which old runners count too, is left out."""
    done = subprocess.run(['node', '--test', '--test-reporter=tap', f'vm/test/{name}'], cwd=caselib.ROOT, timeout=LIMIT, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    found = [(match[1] is None, match[2]) for line in done.stdout.splitlines() if (match := RESULT.match(line)) and name not in match[2]]
    if done.returncode != 0 or not found or not all(passed for passed, _ in found):
        print('\n'.join('# ' + line for line in done.stdout.splitlines()))
        found.append((False, f'{name} ends with {done.returncode}'))
    return found


def main():
    if shutil.which('node') is None:
        print('1..1\nok 1 - the sample VM # SKIP there is no Node.js on this machine')
        return 0
    results = [result for name in TESTS for result in run(name)]
    for number, (passed, what) in enumerate(results, 1):
        print(f'{"" if passed else "not "}ok {number} - {what}')
    print(f'1..{len(results)}')
    return 0 if all(passed for passed, _ in results) else 1


sys.exit(main())
