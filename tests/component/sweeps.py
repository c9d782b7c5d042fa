#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sweeps: what the stories' sweeps stand on (e2e/lib/sweep.py, faults.py, watched.Paused, tap.py), over a program that is played here:
each goes red where its story would show nothing. No root, no Coffer program."""
import contextlib
import io
import os
import sys
import threading
import time
import types

sys.dont_write_bytecode = True
import caselib  # noqa: E402

os.environ.update(COFFER_SAMPLE='1', COFFER_ONLY='', COFFER_POINTS='')
sys.path.insert(0, os.path.join(caselib.ROOT, 'e2e', 'lib'))
import faults  # noqa: E402
import fixture  # noqa: E402
import sweep  # noqa: E402
import tap  # noqa: E402
import watched  # noqa: E402

POINTS = [(1, 'a'), (2, 'b')]


class Played:
    """A coffer whose daemons live and which leaves nothing behind."""
    daemon = types.SimpleNamespace(name='coffer-node', alive=lambda: True)
    node = controller = keyd = daemon

    def __init__(self, folder):
        self.root = self.fault_dir = folder

    def start_node(self):
        raise AssertionError('it lives')

    start_keyd = start_controller = start_node

    @staticmethod
    def left_over():
        return {}

    device_nodes = mappings = left_over


class Killer:
    """Kills at the points, and at `more`."""
    program, said = 'coffer-node', 'OK'

    def __init__(self, points, reached=None):
        self.points, self.reached = points, points if reached is None else reached

    def record(self, call):
        call()
        return self.points

    def strike(self, point, call):
        call()
        return point in self.reached or point[0] in [n for n, _ in self.reached]


class Failer(Killer):
    """Lets the points fail, and says what the call then says."""
    what = 'an allocation of coffer-node'

    def __init__(self, points, reached=None, says='x: EXHAUSTED: no memory'):
        super().__init__(points, reached)
        self.says, self.met = says, False

    def strike(self, point, call):
        self.met = point in self.reached
        return self.says

    right = staticmethod(faults.AllocationFailer.right)


def nothing():
    pass


def wrong():
    raise RuntimeError('the state is wrong')


def job(check=nothing):
    return sweep.Job('job', nothing, nothing, check, nothing)


def failures(function, *args):
    """The names of what failed."""
    t, said = tap.Tap(), io.StringIO()
    with contextlib.redirect_stdout(said):
        function(t, *args)
    lines = said.getvalue().splitlines()
    assert t.count > 0, 'nothing was tested'
    return [line.partition(' - ')[2] for line in lines if line.startswith('not ok')]


def killed_at_each_point(folder):
    c, name = Played(folder), 'coffer-node in job'
    assert failures(sweep.sweep, c, job(), Killer(POINTS)) == []
    assert failures(sweep.sweep, c, job(), Killer([])) == [f'{name}: points are recorded']
    assert failures(sweep.sweep, c, job(), Killer(POINTS, [(1, 'a')])) == [f'{name}, killed at 2 b']
    assert failures(sweep.sweep, c, job(), Killer(POINTS, [*POINTS, (3, 'c')])) == [f'{name}: passes unkilled after the last point']
    assert failures(sweep.sweep, c, job(wrong), Killer(POINTS)) == [f'{name}: points are recorded']


def each_failure(folder):
    c, name, many = Played(folder), 'job: an allocation of coffer-node', [(n, '') for n in range(1, faults.MANY + 1)]
    assert failures(faults.fault_sweep, c, job(), Failer(many)) == []
    assert failures(faults.fault_sweep, c, job(), Failer(POINTS, says='OK')) == []
    assert failures(faults.fault_sweep, c, job(), Failer([])) == ['job: what coffer-node does is counted']
    assert failures(faults.fault_sweep, c, job(), Failer(many, says='OK')) == [f'{name}: some of them were told to the caller']
    assert failures(faults.fault_sweep, c, job(), Failer(POINTS, [])) == [f'{name}: most of them happened']
    assert failures(faults.fault_sweep, c, job(), Failer(POINTS, says='x: INTERNAL: y')) == [f'{name} fails: 1 a', f'{name} fails: 2 b']


def words_choose(_):
    for words, name, chosen in ((['stage'], 'coffer-node in stage', True), (['stage+crypt'], 'coffer-node in stage', False),
                                (['x', 'node+stage'], 'coffer-node in stage', True), ([], 'whatever', True), (['x'], 'stage', False)):
        sweep.ONLY[:] = words
        assert sweep.asked_for(name) is chosen, (words, name)
    sweep.ONLY.clear()


def a_loop_is_three_points(_):
    bytes_read = [f'read(5, "{text}"..., 32) = 32' for text in ('ab', r'a\"b', r'\"', 'a, b')]
    calls = ['read(3, "x", 1) = 1', *bytes_read * faults.LOOP, 'read(5, "", 32) = 0']
    chosen = faults.HelperSyscallFailer.which(None, calls)
    assert list(chosen) == [1, 2, 2 + 2 * faults.LOOP, 1 + 4 * faults.LOOP, 2 + 4 * faults.LOOP]


# ---- a call that is held

def refused():
    raise fixture.CallError('Stage', 9, 'no')


def broken():
    raise KeyError('of the test itself')


def held_by(folder, call, late=False):
    """Paused over a call during which a program comes to its point (`late`: after its answer); what the block saw."""
    def arrive():
        caselib.write(f'{folder}/p.paused', '')

    def held():
        (threading.Timer(0.2, arrive).start if late else arrive)()
        if not late:
            caselib.wait_for(lambda: not os.path.exists(f'{folder}/p.arm'), 'the block to end')
        call()
    with watched.Paused(Played(folder), 'p', 'a:point', held) as paused:
        assert caselib.read(f'{folder}/p.arm') == 'pause a:point'
        assert os.path.exists(f'{folder}/p.paused')
    assert os.listdir(folder) == []
    return paused.error


def raised(kind, word, function, *args):
    try:
        function(*args)
    except kind as e:
        assert word in str(e), e
        return
    raise AssertionError(f'no {kind.__name__} with "{word}"')


def paused_without_point(folder, call):
    with watched.Paused(Played(folder), 'p', 'a:point', call):
        raise AssertionError('the block runs though nothing is held')


def a_call_that_is_held(folder):
    assert held_by(folder, nothing) is None
    assert held_by(folder, nothing, late=True) is None
    assert held_by(folder, refused).code == 'PRECONDITION'
    raised(KeyError, 'of the test itself', held_by, folder, broken)


def a_call_that_never_comes_there(folder):
    raised(RuntimeError, 'never brought p to a:point: Stage: PRECONDITION: no', paused_without_point, folder, refused)
    raised(RuntimeError, 'of the test itself', paused_without_point, folder, broken)
    assert os.listdir(folder) == []
    was, watched.wait_for = watched.wait_for, lambda what, condition: fixture.wait_for(what, condition, 0.3)
    begun = time.monotonic()
    try:
        caselib.write(f'{folder}/p.paused', 'of an earlier one')
        raised(RuntimeError, 'p at a:point: not within', paused_without_point, folder, nothing)
    finally:
        watched.wait_for = was
    assert time.monotonic() - begun < 30 and os.listdir(folder) == []


TESTS = [killed_at_each_point, each_failure, words_choose, a_loop_is_three_points, a_call_that_is_held, a_call_that_never_comes_there]

sys.exit(caselib.main(TESTS, caselib.folder))
