#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""analyze.py FOLDER FILE...: what gcc -fanalyzer, clang-tidy and cppcheck said of FILEs (FOLDER/FILE.gcc, FOLDER/FILE.tidy,
FOLDER/cppcheck; mk/analyze.mk writes them), each finding beside its answer in tools/analyze-answers.txt. A finding without an
answer is open, and so is an answer without a finding. The last line counts; exit 1 when something is open."""
import bisect
import os
import re
import sys

import lintlib

ANSWERS = 'tools/analyze-answers.txt'
# file:line:column: warning: text [check]; gcc prints "event" lines below it, clang-tidy notes
LINE = re.compile(r'^([^\s:]+):(\d+):\d+: (?:warning|error|style|performance|portability): (.*) \[([^\]]+)\]$', re.M)
# cppcheck 2.10 and clang's analyzer 14 know nothing of __attribute__((cleanup)): what an AUTO_* variable holds isn't lost. gcc knows it.
LEAK = re.compile(r"(?:(?:Resource|Memory) leak: |Potential leak of memory pointed to by ')(\w+)(?:(?:\.|->)\w+)*'?$")


class Finding:
    def __init__(self, tool, path, line, text, check, function):
        self.path, self.line, self.text, self.function = path, line, text, function
        self.check = f'{tool}:{check}'
        self.where = f'{path}:{function}'
        self.answer = None


class Functions:
    """Which function a line is in; '-' between functions."""

    def __init__(self, paths):
        self.of = {}
        for lines, path, line, name in sorted(lintlib.functions(paths), key=lambda f: f[2]):
            self.of.setdefault(path, []).append((line, line + lines - 1, name))

    def at(self, path, line):
        rows = self.of.get(path, [])
        i = bisect.bisect(rows, line, key=lambda row: row[0]) - 1
        return rows[i] if i >= 0 and line <= rows[i][1] else (line, line, '-')


def is_cleaned_up(finding, first, last):
    """A leak of a variable that the function declares as AUTO_*."""
    leak = LEAK.search(finding.text)
    if leak is None:
        return False
    body = '\n'.join(lintlib.read(finding.path).split('\n')[first - 1:last])
    while (flat := re.sub(r'\([^()]*\)', '', body)) != body:  # without arguments, what is between commas is declared
        body = flat
    return re.search(rf'\bAUTO_\w+ [^;]*[\s*]{leak.group(1)}\s*[=,;]', body) is not None


def findings(folder, paths):
    outputs = [(tool, f'{folder}/{path[:-2]}.{tool}') for path in paths for tool in ('gcc', 'tidy')] + [('cppcheck', f'{folder}/cppcheck')]
    functions, seen = Functions(lintlib.tracked('*.c', '*.h')), {}
    for tool, output in outputs:
        for path, line, text, check in LINE.findall(lintlib.read(output)):
            path = os.path.relpath(path)
            first, last, name = functions.at(path, int(line))
            finding = Finding(tool, path, int(line), text, check.split(',')[0].removeprefix('-W'), name)
            if tool != 'gcc' and is_cleaned_up(finding, first, last):
                finding.answer = 'cleaned up'
            seen.setdefault((finding.check, path, int(line), text), finding)  # a header's: once
    return list(seen.values())


def answers():
    """(where, check) -> line number. Each has a reason."""
    rows, wrong = {}, []
    for number, line in enumerate(lintlib.read(ANSWERS).split('\n'), 1):
        fields = line.split(maxsplit=2)
        if not fields or line.startswith('#'):
            continue
        if len(fields) < 3 or (fields[0], fields[1]) in rows:
            wrong.append(f'{ANSWERS}:{number} is no line FILE:FUNCTION TOOL:CHECK REASON of its own.')
        rows[tuple(fields[:2])] = number
    return rows, wrong


def main(folder, *paths):
    found = findings(folder, paths)
    rows, wrong = answers()
    for finding in found:
        if (finding.where, finding.check) in rows:
            finding.answer = ANSWERS
    used = {(f.where, f.check) for f in found if f.answer == ANSWERS}
    wrong += [f'{ANSWERS}:{number} answers nothing: {" ".join(row)}.' for row, number in rows.items() if row not in used]
    still = [f for f in found if f.answer is None]
    for f in still:
        print(f'{f.path}:{f.line}: {f.text} ({f.where} {f.check})')
    print('\n'.join(wrong + [f'analyze: {len(found)} findings, {len(found) - len(still)} answered, {len(still) + len(wrong)} open']))
    return 1 if still or wrong else 0


sys.exit(main(*sys.argv[1:]))
