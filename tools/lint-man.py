#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""lint-man.py FOLDER: every flag that a program of FOLDER shows in its --help is in its manual page, with its default and its variable of
the environment, and cofferctl's are in the bash completion; no page and no completion knows a flag or verb that isn't there; mandoc finds
nothing."""
import re
import subprocess
import sys

import lintlib

DAEMONS = ('coffer-controller', 'coffer-node', 'coffer-keyd', 'coffer-launch', 'coffer-scheduler')
GENERAL = {'help', 'version'}
COMMON = {'config', 'output'}
NOT_GIVEN = ('', 'false', '0')  # defaults that are nothing
IN_HELP = re.compile(r'^  --([a-z][a-z-]*)', re.M)
IN_PAGE = re.compile(r'^\.It Fl -([a-z][a-z-]*)(?: , Fl -([a-z][a-z-]*))?', re.M)
VERB = re.compile(r'^  ([a-z]+(?: [a-z-]+)?)((?: [A-Z|]+)*)$', re.M)


def help_of(folder, program, *words):
    return lintlib.output(f'{folder}/{program}', *words, '--help')


def facts(text):
    """Of a --help: flag -> (its default, its variable)."""
    found = {}
    for name, block in re.findall(r'^  --([a-z][a-z-]*)[^\n]*\n((?:        .*\n?)*)', text, re.M):
        line = ' '.join(block.split())
        found[name] = tuple(m.group(1) if (m := re.search(rf'\[{what}: (.*?)\]', line)) else '' for what in ('default', 'environment'))
    return found


def untold(where, page, text, said):
    """said: a --help's facts. What the page's text under a flag doesn't say of them; a flag that is explained elsewhere is passed by."""
    for name, (default, variable) in said.items():
        entry = re.search(rf'^\.It Fl -{name}\b(.*?\n)(.*?)(?=^\.(?:It|El))', text, re.M | re.S)
        if not entry or not entry.group(2) or entry.group(2).startswith('As '):
            continue
        if default not in NOT_GIVEN and default not in ''.join(entry.groups()).replace('\\&', ''):
            yield f'{where}: --{name} lacks its default, {default}.'
        if variable and variable not in page:
            yield f'{where} lacks {variable}, the variable of --{name}.'


def page_flags(text):
    return {name for match in IN_PAGE.findall(text) for name in match if name}


def compare(where, there, wanted):
    for name in sorted(wanted - there):
        yield f'{where} lacks --{name}.'
    for name in sorted(there - wanted):
        yield f'{where} has --{name}, which the program does not know.'


def check_daemon(folder, program):
    page, said = f'dist/man/{program}.8', help_of(folder, program)
    text = lintlib.read(page)
    yield from compare(page, page_flags(text), set(IN_HELP.findall(said)) | GENERAL)
    yield from untold(page, text, text, facts(said))


def sections(text):
    """'volume mount VOLUME PATH' -> the text below that heading."""
    parts = re.split(r'^\.S([sh]) (.+)$', text, flags=re.M)
    return {title: body for kind, title, body in zip(parts[1::3], parts[2::3], parts[3::3]) if kind == 's'}


def check_verb(folder, verb, body, completed):
    said = help_of(folder, 'cofferctl', *verb.split())
    flags = set(IN_HELP.findall(said)) - COMMON
    yield from compare(f'dist/man/cofferctl.1, "{verb}",', page_flags(body), flags)
    yield from untold(f'dist/man/cofferctl.1, "{verb}"', lintlib.read('dist/man/cofferctl.1'), body,
                      {name: fact for name, fact in facts(said).items() if name in flags})
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
