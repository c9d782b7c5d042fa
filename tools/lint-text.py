#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""lint-text.py: what every tracked text file keeps to: a licence line, no trailing blanks, no traces of one machine."""
import os
import re

import lintlib

SOURCES = ('*.c', '*.h', '*.py', '*.sh', '*.proto', '*.mk', 'Makefile', '.ci/run', 'e2e/run', 'e2e/vm/*', 'tools/*')
WIDTH = {'.c': 100, '.h': 100, '.py': 140}
TRACES = (
    (re.compile(r'(?<![\w.$}*-])/(home|work|Users|root)/[\w.-]+'), 'an absolute path of one machine'),
    (re.compile(r'\b(?:registry|mirror|proxy|artifactory|nexus)[-.\w]*\.(?:(?<!k8s\.)io|org|com|net|dev|internal|local|lan|corp)\b'),
     'a registry host'),
    (re.compile(r'\b(?!127\.|10\.0\.2\.|0\.0\.0\.0|192\.0\.2\.|198\.51\.100\.|203\.0\.113\.)'
                r'(?:\d{1,3}\.){3}\d{1,3}:\d+'), 'a network address'),
)
# SECURITY.md's numbered evidence: `story`: "a test's name"; "another of it"
EVIDENCE = re.compile(r'`([a-z_-]+)`: |"([^"]+)"')
OPEN_ENDS = re.compile(r'\b(TODO|FIXME|XXX|HACK)\b')


def check_lines(path, text):
    limit = WIDTH.get(os.path.splitext(path)[1], 0)
    for number, line in enumerate(text.split('\n'), 1):
        at = f'{path}:{number}'
        if line != line.rstrip() and not path.endswith('.md'):
            yield f'{at} ends in blanks.'
        if limit and len(line) > limit:
            yield f'{at} has {len(line)} columns; the limit is {limit}.'
        if path.endswith(('.c', '.h', '.py', '.proto')) and '\t' in line:
            yield f'{at} contains a tab.'
        if (match := OPEN_ENDS.search(line)) and 'OPEN_ENDS' not in line:
            yield f'{at} leaves something open: {match.group()}.'
        for pattern, what in TRACES if not path.startswith('tests/') else ():
            if match := pattern.search(line):
                yield f'{at} names {what}: {match.group()}.'


def check_evidence(path, text):
    """Each test that SECURITY.md's table leans on is there, under that name."""
    for number, line in enumerate(text.split('\n'), 1):
        if not re.match(r'\d+\. `', line):
            continue
        source, subject = '', ''
        for match in EVIDENCE.finditer(line):
            if match.group(1):
                subject = match.group(1)
                places = (f'e2e/stories/{subject}.py', f'e2e/crypt/{subject.removeprefix("crypt-")}.py', f'tests/component/{subject}.py')
                files = filter(os.path.exists, places)
                source = ''.join(map(lintlib.read, files)).replace("\\'", "'")
            elif match.group(2) not in source:
                yield f'{path}:{number} names a test that {subject or "nothing"} has not: {match.group(2)}.'


def main():
    findings, sources = [], set(lintlib.tracked(*SOURCES))
    for path in lintlib.tracked():
        if path.startswith('tests/fuzz/corpus/') or path == 'LICENSE':
            continue
        text = lintlib.read(path)
        findings += check_lines(path, text)
        if path == 'SECURITY.md':
            findings += check_evidence(path, text)
        if text and not text.endswith('\n'):
            findings.append(f'{path} does not end in a newline.')
        start = text.split('\n', 3)[:3]
        if path in sources and not path.endswith('.md') and not any('SPDX-License-Identifier: Apache-2.0' in line for line in start):
            findings.append(f'{path} has no SPDX line at its top.')
    lintlib.finish(findings)


main()
