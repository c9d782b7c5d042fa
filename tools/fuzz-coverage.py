#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/fuzz-coverage.py BUILD NAME...: replays each fuzz target's seeds, and then also what `make fuzz` found, with
llvm-cov's counters (PROFILE=coverage), and prints which part of the code that the target is for was run, as the table of
docs/fuzzing.md. A target says what that is in its lines "covers: FILE.c FILE.c:FUNCTION", without the functions of its lines
"but: FUNCTION run_* ... (why they parse nothing)". A finding, and exit 1: a file or function that isn't there or that no input
reaches, one that is left out and whole all the same, and a target whose seeds alone run less than 80 % of its code, or less than
60 % of one file."""
import fnmatch
import json
import os
import re
import subprocess
import sys
import tempfile

CODE = 0  # llvm's kind of a region that is neither a gap nor an expansion
LEAST, FILE_LEAST = 80, 60  # percent


class Target:
    def __init__(self, name):
        self.name = name
        path = f'tests/fuzz/fuzz_{name}.c'
        with open(path, encoding='utf-8') as f:
            head = re.search(r'covers:(.*?)\*/', f.read(), re.S)
        if head is None:
            sys.exit(f'{path} has no line "covers: FILE.c"')
        text = re.sub(r'\s+', ' ', head.group(1).replace('\n *', ' '))
        left_out = re.findall(r'but: ([\w* ]+) \([^)]+\)', text)
        words = text.partition(' but: ')[0].split()
        self.covers = [(w.partition(':')[0], w.partition(':')[2] or None) for w in words]
        self.but = {f for names in left_out for f in names.split()}
        if ('but:' in text) != bool(self.but):
            sys.exit(f'{path}: "but:" wants names and a reason in brackets')

    def leaves_out(self, function):
        """The pattern that does, or None."""
        return next((b for b in self.but if fnmatch.fnmatchcase(function, b)), None)


def functions(program, folders, scratch):
    """file -> function -> (regions run, regions)"""
    raw, profile = os.path.join(scratch, 'raw'), os.path.join(scratch, 'profile')
    subprocess.run([program, *folders], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   env=dict(os.environ, LLVM_PROFILE_FILE=raw))
    subprocess.run(['llvm-profdata', 'merge', '-sparse', '-o', profile, raw], check=True)
    text = subprocess.run(['llvm-cov', 'export', '-instr-profile', profile, program], check=True, capture_output=True).stdout
    found = {}
    for f in json.loads(text)['data'][0]['functions']:
        regions = [r for r in f['regions'] if r[7] == CODE and r[5] == 0]
        run = sum(1 for r in regions if r[4] > 0)
        file = os.path.relpath(f['filenames'][0])
        found.setdefault(file, {})[f['name'].rpartition(':')[2]] = (run, len(regions))
    return found


def share(rows):
    run, regions = sum(r for r, _ in rows), sum(n for _, n in rows)
    return 100 * run // regions if regions else 0


def fuzzed(build, name):
    """'600 s, 12345 inputs': what tools/fuzz.sh noted of all its runs."""
    path = f'{build}/fuzz-time/{name}'
    if not os.path.exists(path):
        return '-'
    with open(path, encoding='utf-8') as f:
        rows = [line.split() for line in f]
    return f'{sum(int(r[0]) for r in rows)} s, {sum(int(r[1]) for r in rows)} inputs'


def report(target, build, scratch):
    """Prints the target's rows; returns what is wrong."""
    program, found = f'{build}/coverage/tests/fuzz/{target.name}', f'{build}/fuzz-corpus/{target.name}'
    seeds = functions(program, [f'tests/fuzz/corpus/{target.name}'], scratch)
    more = [found] if os.path.isdir(found) and os.listdir(found) else []
    both = functions(program, [f'tests/fuzz/corpus/{target.name}', *more], scratch) if more else seeds
    wrong, files, left_out, time = [], {}, set(target.but), fuzzed(build, target.name)
    for file, function in target.covers:
        named = {k: v for k, v in both.get(file, {}).items() if function in (None, k)}
        of = {k: v for k, v in named.items() if not target.leaves_out(k)}
        first = {k: v for k, v in seeds.get(file, {}).items() if k in of}
        reached, what = [k for k, v in of.items() if v[0] > 0], f'{file}:{function}' if function else file
        by_all = f'{share(of.values())} %' if more else '-'
        print(f'| {target.name} | `{what}` | {len(reached)} of {len(of)} | {share(first.values())} % | {by_all} | {time} |', flush=True)
        files.setdefault(file, []).extend(first.values())
        left_out -= {target.leaves_out(k) for k in named}
        wrong += [f'{target.name}: {k} is left out and runs whole' for k, v in named.items() if k not in of and v[0] == v[1]]
        if not reached:
            wrong.append(f'{target.name}: no input reaches {what}')
        elif len(reached) < len(of):
            print(f'  not run: {" ".join(sorted(set(of) - set(reached)))}')
    whole = share([row for rows in files.values() for row in rows])
    if whole < LEAST:
        wrong.append(f'{target.name}: its seeds run {whole} % of its code, less than {LEAST} %')
    wrong += [f'{target.name}: its seeds run {share(rows)} % of {file}, less than {FILE_LEAST} %'
              for file, rows in files.items() if share(rows) < FILE_LEAST]
    return wrong + [f'{target.name}: {k} is left out, and nowhere' for k in sorted(left_out)]


def main(build, *names):
    wrong = []
    print('| target | code | functions run | by the seeds | and what was found | fuzzed |\n|---|---|---|---|---|---|')
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            wrong += report(Target(name), build, scratch)
    print('\n'.join(wrong or [f'every target reaches what it is for, and its seeds run {LEAST} % of it or more']))
    return 1 if wrong else 0


sys.exit(main(*sys.argv[1:]))
