# SPDX-License-Identifier: Apache-2.0
"""TAP lines for stories: begin(story, why not), check(condition, name, detail), run(name, function), expect_error(...); done() exits."""
import sys
import time
import traceback

from fixture import CallError

SLOW_SECONDS = 10  # from one test to the next: said, so that a log shows where a story's time went


def demand(condition, sentence):
    """In a test that Tap.run runs."""
    if not condition:
        raise RuntimeError(sentence)


def earlier(e):
    """What was raised first, when clearing up after it failed too."""
    while e.__context__ is not None:
        e = e.__context__
        yield e


class Tap:
    def __init__(self):
        self.count, self.failures, self.last = 0, 0, time.monotonic()

    def check(self, condition, name, detail=''):
        self.count += 1
        if condition:
            print(f'ok {self.count} - {name}', flush=True)
        else:
            self.failures += 1
            print(f'not ok {self.count} - {name}', flush=True)
            for line in str(detail).splitlines()[-30:]:
                print(f'# {line}', flush=True)
        self.say_time()
        return bool(condition)

    def say_time(self):
        now = time.monotonic()
        if now - self.last >= SLOW_SECONDS:
            print(f'# took {now - self.last:.0f} s', flush=True)
        self.last = now

    def skip(self, name, reason):
        self.count += 1
        print(f'ok {self.count} - {name} # SKIP {reason}', flush=True)

    def expect_error(self, name, codes, function, *args, word=''):
        """The call must fail with one of the codes, in one sentence that contains `word`."""
        try:
            function(*args)
        except CallError as e:
            right = e.code in ((codes,) if isinstance(codes, str) else codes) and word in e.message
            return self.check(right, name, f'{e} (expected {codes}, "{word}")')
        return self.check(False, name, 'the call succeeded')

    def run(self, name, function, *args):
        """One test: passes when function returns, fails with what it raised."""
        try:
            function(*args)
        except Exception as e:  # pylint: disable=broad-except
            for first in earlier(e):
                print('# before that:', ' '.join(str(first).split()), flush=True)
            return self.check(False, name, f'{e}\n{traceback.format_exc()}')
        return self.check(True, name)

    def done(self):
        if self.count == 0:  # COFFER_ONLY has a word that no part's name has
            print('# no test ran', flush=True)
        print(f'1..{self.count}', flush=True)
        sys.exit(1 if self.failures or self.count == 0 else 0)


def begin(story, why_not):
    """A story's Tap; where there is a reason why it can't run here, one skipped test that says it, and the end."""
    tap = Tap()
    if why_not:
        tap.skip(story, why_not)
        tap.done()
    return tap


def run_all(tap, tests, *args, needed):
    """(name, function) each; without the first `needed` of them nothing that follows could work."""
    for number, (name, test) in enumerate(tests):
        if not tap.run(name, test, *args) and number < needed:
            break
