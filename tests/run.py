#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/run.py [--jobs N] [--timeout S] [--log DIR] SUITE...: runs test programs that speak TAP (cmocka does, with
CMOCKA_MESSAGE_OUTPUT=TAP) and adds them up. A suite may carry arguments: "path arg arg"; start the long ones first.
Its whole output goes to DIR/NAME.log. Exit 0 when nothing failed; with STRICT=1 in the environment a suite that was
skipped whole fails too. Last line: N passed, N failed, N skipped."""
import argparse
import concurrent.futures
import contextlib
import dataclasses
import os
import re
import shlex
import signal
import subprocess
import sys
import time

LINE = re.compile(r'^(not )?ok\b[ \t]*\d*[ \t]*-?[ \t]*(.*)$')
PLAN = re.compile(r'^1\.\.(\d+)\s*$')
SKIP = re.compile(r'#\s*SKIP\b\s*(.*)$', re.I)
CMOCKA_SKIP = re.compile(r'# SKIP (\w+)$')  # the whole of what it says after "not ok N"
REASON = re.compile(r'^# skipped: (.*)$')  # of the next skipped test: cmocka's own line has only its name
SKIPPED_WHOLE = 77
SLOW_SECONDS = 20


@dataclasses.dataclass
class Result:
    suite: str
    output: str = ''
    seconds: float = 0
    passed: int = 0
    failed: list = dataclasses.field(default_factory=list)  # names
    skipped: list = dataclasses.field(default_factory=list)  # (name, reason)

    def read(self, text):
        """Counts TAP lines; returns how many tests the plan promised, or None."""
        plan, reason = None, ''
        for line in text.splitlines():
            if r := REASON.match(line):
                reason = r.group(1)
            if p := PLAN.match(line):
                plan = (plan or 0) + int(p.group(1))
            if not (m := LINE.match(line)):
                continue
            skip = CMOCKA_SKIP.match(m.group(2)) if m.group(1) else SKIP.search(m.group(2))
            if skip:
                name, said = m.group(2)[:skip.start()].strip(' -'), skip.group(1)
                self.skip(*((name, said) if name else (said, reason)))
                reason = ''
            elif m.group(1):
                self.failed.append(m.group(2))
            else:
                self.passed += 1
        return plan

    def skip(self, name, reason):
        if reason:
            self.skipped.append((name, reason))
        else:
            self.failed.append(f'{name}: skipped without a reason')

    def count(self):
        return self.passed + len(self.failed) + len(self.skipped)

    def judge(self, plan, code):
        """What is wrong though no test failed: it may have ended before its end."""
        whole = self.count() == len(self.skipped)
        if code != 0 and not (whole and code == SKIPPED_WHOLE) and not self.failed:
            self.failed.append(f'{self.suite}: exit {code}')
        if self.count() == 0:
            self.failed.append(f'{self.suite}: ran no test (exit {code})')
        elif plan is None and not whole and not self.failed:
            self.failed.append(f'{self.suite}: ended without a plan')
        elif plan not in (None, self.count()) and not self.failed:
            self.failed.append(f'{self.suite}: planned {plan} tests, ran {self.count()}')


RUNNING = set()  # the suites' processes, each the leader of its own group


def start(suite):
    """In a group of its own, so that what a suite started ends with it; the kernel ends it with this program."""
    command = ['setpriv', '--pdeathsig', 'TERM', *shlex.split(suite)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            env=dict(os.environ, CMOCKA_MESSAGE_OUTPUT='TAP'), start_new_session=True)


def end_all(signum, _):
    for process in list(RUNNING):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    os._exit(128 + signum)


def finish(process, timeout):
    """(output, exit code or what happened instead)"""
    try:
        out, _ = process.communicate(timeout=timeout)
        return out, process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        return out, f'no end within {timeout} s'


def run(suite, timeout):
    result, started = Result(suite), time.monotonic()
    process = start(suite)
    RUNNING.add(process)
    out, code = finish(process, timeout)
    RUNNING.discard(process)
    result.output = out.decode(errors='replace')
    result.judge(result.read(result.output), code)
    result.seconds = time.monotonic() - started
    return result


def short_name(suite):
    program, *arguments = shlex.split(suite)
    path = os.path.relpath(program)
    return ' '.join([path, *arguments])


def keep_log(folder, result):
    name = re.sub(r'[^A-Za-z0-9._-]+', '_', short_name(result.suite))
    with open(os.path.join(folder, f'{name}.log'), 'w', encoding='utf-8') as f:
        f.write(result.output)


def show(result):
    print(f'{"FAIL" if result.failed else "ok":4}  {short_name(result.suite)}: {result.passed} passed, '
          f'{len(result.failed)} failed, {len(result.skipped)} skipped, {result.seconds:.1f} s')
    for test, reason in result.skipped:
        print(f'      skipped {test}: {reason}')
    if result.failed:
        print('\n'.join('      failed ' + f for f in result.failed))
        print('\n'.join('      | ' + line for line in result.output.splitlines()[-60:]))
    sys.stdout.flush()


def options(argv):
    p = argparse.ArgumentParser(allow_abbrev=False, usage=__doc__)
    p.add_argument('--jobs', type=int, default=min(4, os.cpu_count() or 1))
    p.add_argument('--timeout', type=float, default=3000)
    p.add_argument('--log')
    p.add_argument('suites', nargs='+')
    return p.parse_args(argv)


def main(argv):
    opts, results, started = options(argv), [], time.monotonic()
    strict = os.environ.get('STRICT') == '1'
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, end_all)
    print(f'{len(opts.suites)} suites, {opts.jobs} at a time, a line each at its end', end='')
    if opts.log:
        os.makedirs(opts.log, exist_ok=True)
        print(f'; whole outputs: {opts.log}/', end='')
    print(flush=True)
    with concurrent.futures.ThreadPoolExecutor(opts.jobs) as pool:
        work = [pool.submit(run, suite, opts.timeout) for suite in opts.suites]
        for done in concurrent.futures.as_completed(work):
            result = done.result()
            if strict and len(result.skipped) == result.count():
                result.failed.append(f'{result.suite}: the whole suite was skipped and STRICT=1')
            if opts.log:
                keep_log(opts.log, result)
            show(result)
            results.append(result)
    slow = sorted((r for r in results if r.seconds >= SLOW_SECONDS), key=lambda r: -r.seconds)
    if slow:
        print('slow: ' + ', '.join(f'{short_name(r.suite)} {r.seconds:.0f} s' for r in slow[:30]))
    print(f'{len(results)} suites in {time.monotonic() - started:.0f} s')
    failed = sum(len(r.failed) for r in results)
    print(f'{sum(r.passed for r in results)} passed, {failed} failed, {sum(len(r.skipped) for r in results)} skipped')
    return 1 if failed else 0


sys.exit(main(sys.argv[1:]))
