# SPDX-License-Identifier: Apache-2.0
"""What the lint scripts share. A script collects one sentence per finding and ends with finish()."""
import json
import os
import re
import subprocess
import sys

os.chdir(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

# A comment, a string or a character constant; which of them a quote starts is decided from the left.
_TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def tracked(*patterns):
    """Files that git knows and those it would take, so that a new file is checked before it is committed."""
    command = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', '--', *patterns]
    names = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode().split('\0')
    return sorted(name for name in set(names) if name and os.path.isfile(name))


def read(path):
    with open(path, encoding='utf-8') as f:
        return f.read()


def code(text):
    """C text with comments and strings blanked; line numbers stay."""
    return _TOKEN.sub(lambda m: re.sub(r'[^\n]', ' ', m.group()), text)


def functions(paths):
    """(lines, path, line, name) of every function, by ctags."""
    command = ['ctags', '-L', '-', '--languages=C,Python', '--kinds-C=f', '--kinds-Python=fm', '--fields=+ne',
               '--output-format=json', '-f', '-']
    done = subprocess.run(command, input='\n'.join(paths).encode(), stdout=subprocess.PIPE, check=True)
    tags = [json.loads(line) for line in done.stdout.splitlines()]
    return [(tag['end'] - tag['line'] + 1, tag['path'], tag['line'], tag['name']) for tag in tags if 'end' in tag]


def line_of(text, position):
    return text.count('\n', 0, position) + 1


def output(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return done.stdout.decode(errors='replace')


def finish(findings):
    for finding in findings:
        print(finding)
    sys.exit(1 if findings else 0)
