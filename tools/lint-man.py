#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""lint-man.py FOLDER: every flag that a program of FOLDER shows in its --help is in its manual page, and cofferctl's are in
the bash completion; no page and no completion knows a flag or verb that isn't there; mandoc finds nothing."""
import re
import subprocess
import sys

import lintlib

DAEMONS = ('coffer-controller', 'coffer-node', 'coffer-keyd', 'coffer-launch', 'coffer-scheduler')
GENERAL = {'help', 'version'}
COMMON = {'config', 'output'}
IN_HELP = re.compile(r'^  --([a-z][a-z-]*)', re.M)
IN_PAGE = re.compile(r'^\.It Fl -([a-z][a-z-]*)(?: , Fl -([a-z][a-z-]*))?', re.M)
VERB = re.compile(r'^  ([a-z]+(?: [a-z-]+)?)((?: [A-Z|]+)*)$', re.M)


def help_of(folder, program, *words):
    return lintlib.output(f'{folder}/{program}', *words, '--help')


def page_flags(text):
    return {name for match in IN_PAGE.findall(text) for name in match if name}


def compare(where, there, wanted):
    for name in sorted(wanted - there):
        yield f'{where} lacks --{name}.'
    for name in sorted(there - wanted):
        yield f'{where} has --{name}, which the program does not know.'


def check_daemon(folder, program):
    page = f'dist/man/{program}.8'
    flags = set(IN_HELP.findall(help_of(folder, program)))
    return compare(page, page_flags(lintlib.read(page)), flags | GENERAL)


def sections(text):
    """'volume mount VOLUME PATH' -> the text below that heading."""
    parts = re.split(r'^\.S([sh]) (.+)$', text, flags=re.M)
    return {title: body for kind, title, body in zip(parts[1::3], parts[2::3], parts[3::3]) if kind == 's'}


def check_verb(folder, verb, body, completed):
    flags = set(IN_HELP.findall(help_of(folder, 'cofferctl', *verb.split()))) - COMMON
    yield from compare(f'dist/man/cofferctl.1, "{verb}",', page_flags(body), flags)
    if verb in completed:
        yield from compare(f'dist/completion/cofferctl, "{verb}",', completed[verb], flags)


def check_cofferctl(folder):
    pages = sections(lintlib.read('dist/man/cofferctl.1'))
    completion = lintlib.read('dist/completion/cofferctl')
    completed = {verb: set(re.findall(r'--([a-z-]+)', flags))
                 for verb, flags in re.findall(r"^    \['([a-z]+(?: [a-z-]+)?)'\]='((?:--[a-z -]+)?)'$", completion, re.M)}
    verbs = {verb + operands: verb for verb, operands in VERB.findall(help_of(folder, 'cofferctl'))}
    if not verbs:
        yield 'cofferctl --help shows no verb.'
    for title in sorted(set(pages) - set(verbs)):
        yield f'dist/man/cofferctl.1 has "{title}", which is no verb of cofferctl.'
    for verb in sorted(set(completed) - set(verbs.values())):
        yield f'dist/completion/cofferctl has "{verb}", which is no verb of cofferctl.'
    for title, verb in verbs.items():
        if title not in pages:
            yield f'dist/man/cofferctl.1 lacks ".Ss {title}".'
        if verb not in completed:
            yield f'dist/completion/cofferctl lacks "{verb}".'
        yield from check_verb(folder, verb, pages.get(title, ''), completed)


def check_markup():
    for page in lintlib.tracked('dist/man/*'):
        done = subprocess.run(['mandoc', '-T', 'lint', '-W', 'warning', page], stdout=subprocess.PIPE, text=True, check=False)
        yield from done.stdout.splitlines()


def main():
    folder = sys.argv[1]
    findings = [*check_cofferctl(folder), *check_markup()]
    for program in DAEMONS:
        findings += check_daemon(folder, program)
    lintlib.finish(findings)


main()
