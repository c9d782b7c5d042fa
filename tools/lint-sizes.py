#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""lint-sizes.py: functions over 100 lines and files over 800 fail, those over 60 and 500 are listed."""
import lintlib

FUNCTION_LISTED, FUNCTION_LIMIT = 60, 100
FILE_LISTED, FILE_LIMIT = 500, 800


def judge(sized, listed, limit, findings):
    """sized: (lines, what), prints those over listed, adds those over limit to findings."""
    for lines, what in sorted(sized, reverse=True):
        if lines > limit:
            findings.append(f'{what} has {lines} lines; the limit is {limit}.')
        elif lines > listed:
            print(f'  long: {what}, {lines} lines')


def main():
    findings = []
    paths = lintlib.tracked('*.c', '*.h', '*.py', 'e2e/run', 'e2e/vm/vm-or-native')
    judge([(lines, f'{path}:{line} {name}') for lines, path, line, name in lintlib.functions(paths)],
          FUNCTION_LISTED, FUNCTION_LIMIT, findings)
    paths += lintlib.tracked('*.sh', '*.mk', 'Makefile', 'e2e/vm/init', 'e2e/vm/agent')
    judge([(lintlib.read(path).count('\n'), path) for path in paths], FILE_LISTED, FILE_LIMIT, findings)
    lintlib.finish(findings)


main()
