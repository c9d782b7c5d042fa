#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/fuzz-coverage.py BUILD NAME...: replays each fuzz target's seeds, and then also what `make fuzz` found, with
llvm-cov's counters (PROFILE=coverage), and prints which part of the code that the target is for was run. A target says
what that is in its line "covers: FILE.c FILE.c:FUNCTION". A named file or function that isn't there, or that no input
reaches, is a finding and exit 1."""
import json
import os
import re
import subprocess
import sys
import tempfile

CODE = 0  # llvm's kind of a region that is neither a gap nor an expansion


def covers(name):
    """[(file, function or None)]"""
    with open(f'tests/fuzz/fuzz_{name}.c', encoding='utf-8') as f:
        words = re.search(r'covers:(.*?)\*/', f.read(), re.S)
    if words is None:
        sys.exit(f'tests/fuzz/fuzz_{name}.c has no line "covers: FILE.c"')
    return [(w.partition(':')[0], w.partition(':')[2] or None) for w in words.group(1).replace('\n *', ' ').split()]


def functions(program, folders, scratch):
    """file -> function -> (regions run, regions)"""
    raw, profile = os.path.join(scratch, 'raw'), os.path.join(scratch, 'profile')
    subprocess.run([program, *folders], check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, LLVM_PROFILE_FILE=raw))
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
    return f'{100 * run // regions if regions else 0:3} %'


def report(name, program, found_folder, scratch):
    """Prints the target's rows; returns what is wrong."""
    seeds = functions(program, [f'tests/fuzz/corpus/{name}'], scratch)
    more = [found_folder] if os.path.isdir(found_folder) and os.listdir(found_folder) else []
    both = functions(program, [f'tests/fuzz/corpus/{name}', *more], scratch) if more else seeds
    wrong = []
    for file, function in covers(name):
        of = {k: v for k, v in both.get(file, {}).items() if function in (None, k)}
        first = {k: v for k, v in seeds.get(file, {}).items() if function in (None, k)}
        reached = [k for k, v in of.items() if v[0] > 0]
        what = f'{file}:{function}' if function else file
        print(f'{name:13} {what:38} {len(reached):3}/{len(of):<3} {share(first.values())} '
              f'{share(of.values()) if more else "    -"}', flush=True)
        if not reached:
            wrong.append(f'{name}: no input reaches {what}')
        elif len(reached) < len(of):
            print(f'{"":13} not run: {" ".join(sorted(set(of) - set(reached)))}')
    return wrong


def main(build, *names):
    wrong = []
    print(f'{"target":13} {"code":38} {"functions":7} seeds found\n{"":13} {"":38} {"run":7} regions run')
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            wrong += report(name, f'{build}/coverage/tests/fuzz/{name}', f'{build}/fuzz-corpus/{name}', scratch)
    print('\n'.join(wrong or ['every target reaches what it is for']))
    return 1 if wrong else 0


sys.exit(main(*sys.argv[1:]))
