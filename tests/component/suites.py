#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/run.py, by which all suites are judged: what each kind of output and each exit code is taken for."""
import os
import sys

import caselib

RUN = f'{caselib.ROOT}/tests/run.py'


def judged(folder, lines, code=0, strict=''):
    """(exit code, last line, all of it) of run.py over one suite that prints the lines."""
    path = f'{folder}/suite'
    caselib.write(path, '#!/bin/sh\n' + ''.join(f"echo '{line}'\n" for line in lines) + f'exit {code}\n', 0o755)
    done = caselib.run([RUN, path], None, env={**os.environ, 'STRICT': strict})
    return done.returncode, done.stdout.splitlines()[-1], done.stdout


def passes(folder, summary, *lines, **how):
    code, last, said = judged(folder, lines, **how)
    assert (code, last) == (0, summary), said


def fails(folder, word, *lines, **how):
    code, _, said = judged(folder, lines, **how)
    assert code == 1 and word in said, said


def what_passes(folder):
    passes(folder, '2 passed, 0 failed, 0 skipped', '1..2', 'ok 1 - a', 'ok 2 - b')
    passes(folder, '2 passed, 0 failed, 0 skipped', 'ok 1 - a', '# said', 'ok 2 - b', '1..2')
    passes(folder, '1 passed, 0 failed, 1 skipped', '1..2', 'ok 1 - a', 'ok 2 - b # SKIP why')
    passes(folder, '1 passed, 0 failed, 1 skipped', '1..2', 'ok 1 - a', '# skipped: why', 'ok 2 # SKIP b')
    passes(folder, '1 passed, 0 failed, 1 skipped', '1..2', 'ok 1 - a', '# skipped: why', 'not ok 2 # SKIP test_b')  # cmocka's


def a_failed_test(folder):
    fails(folder, 'failed b', '1..2', 'ok 1 - a', 'not ok 2 - b', code=1)
    fails(folder, 'failed b', '1..2', 'ok 1 - a', 'not ok 2 - b')
    fails(folder, 'failed b # SKIP why', '1..2', 'ok 1 - a', 'not ok 2 - b # SKIP why')


def an_exit_code_without_a_failed_test(folder):
    fails(folder, 'exit 1', '1..1', 'ok 1 - a', code=1)
    fails(folder, 'exit 77', '1..1', 'ok 1 - a', code=77)
    fails(folder, 'exit -9', '1..1', 'ok 1 - a', '\'; kill -9 $$; \'')


def a_suite_that_ends_early(folder):
    """Its plan may come last: without one nobody knows what else there was."""
    fails(folder, 'planned 2 tests, ran 1', '1..2', 'ok 1 - a')
    fails(folder, 'without a plan', 'ok 1 - a')
    fails(folder, 'ran no test', '# nothing')
    fails(folder, 'ran no test', '1..0')


def skipped_whole(folder):
    for code in (0, 77):
        passes(folder, '0 passed, 0 failed, 1 skipped', 'ok 1 - a # SKIP why', code=code)
        fails(folder, 'was skipped and STRICT=1', 'ok 1 - a # SKIP why', code=code, strict='1')
    fails(folder, 'skipped without a reason', '1..1', 'ok 1 - a # SKIP')


TESTS = [what_passes, a_failed_test, an_exit_code_without_a_failed_test, a_suite_that_ends_early, skipped_whole]

sys.exit(caselib.main(TESTS, caselib.folder))
