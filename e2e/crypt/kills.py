#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""e2e/crypt/kills.py [VERB...]: SIGKILLs coffer-crypt before every call that changes something (writes, ioctls,
nodes, keys), one run per call until a run passes unkilled, and repeats the verb: it must end in the right
state, with nothing left behind and the data intact. Needs root, device-mapper and strace; see verbs.py."""
import os
import shutil
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cryptlib import FS_MARK, MIB, Crypt, Refused, Volume, digest_of, dm, mac_of

# Names that a recorded run must contain for the verb, so that a renamed call can't make a sweep empty.
CALLS = {
    'format': ('write', 'pwrite64', 'fsync', 'ioctl', 'mknodat', 'unlink', 'add_key'),
    'open': ('ioctl', 'mknodat', 'unlink', 'add_key'),
    'resize': ('ioctl', 'mknodat', 'unlink', 'add_key'),
    'close': ('ioctl', 'unlink'),
}
MAX = 400


class Sweep:
    def __init__(self):
        self.c = Crypt()
        self.v = Volume('/tmp/kills.img', 64 * MIB)
        self.fd = -1

    def killed(self, call, n):
        """A caller whose helper dies before its n-th `call`."""
        return Crypt(prefix=['strace', '-f', '-qq', '-o', '/tmp/kills.trace', '-e', f'trace={call}',
                             '-e', f'inject={call}:signal=SIGKILL:when={n}'])

    def leftovers(self):
        assert self.c.list() == [], self.c.list()
        assert self.v.name not in dm('ls'), dm('ls')
        assert not os.path.lexists(f'/dev/mapper/{self.v.name}'), 'a node is left'

    def again(self, call):
        """As the node does: ABORTED is repeated, within a bound."""
        end = time.monotonic() + 60
        while True:
            try:
                return call()
            except Refused as e:
                if e.code != 'ABORTED' or time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def data_is_there(self):
        assert self.v.read(self.c, len(FS_MARK)) == FS_MARK, 'the data changed'

    def open_and_leave(self):
        self.c.open(self.v)
        self.data_is_there()
        self.c.close(self.v)
        self.leftovers()

    # --- one verb each: before (what to kill), and after (what must hold) ---

    def format_before(self):
        return lambda c: c.format(self.v, 'formatting')

    def format_after(self):
        m = self.again(lambda: self.c.format(self.v, 'formatting'))
        assert m['state'] == 'ok' and m['size'] == self.v.size() - 4 * MIB, m
        assert self.v.record['digest'] == digest_of(self.v.loop)
        assert self.v.record['mac'] == mac_of(self.v.sk, self.v.record)
        self.v.write(self.c, FS_MARK)
        self.c.close(self.v)
        self.open_and_leave()
        with open(self.v.loop, 'r+b') as f:  # the next round begins on a blank disk again
            f.write(bytes(4 * MIB))
            os.fsync(f.fileno())

    def open_before(self):
        return lambda c: c.open(self.v)

    def open_after(self):
        m = self.again(lambda: self.c.open(self.v))
        assert m['state'] == 'ok' and m['open'] == 0, m
        self.data_is_there()
        self.c.close(self.v)
        self.leftovers()

    def close_before(self):
        self.c.open(self.v)
        return lambda c: c.close(self.v)

    def close_after(self):
        self.again(lambda: self.c.close(self.v))
        self.leftovers()

    def resize_before(self):
        self.c.open(self.v)
        self.fd = self.v.node(self.c)  # as when mounted
        self.v.grow(MIB)
        return lambda c: c.resize(self.v)

    def resize_after(self):
        try:
            assert 'SUSPENDED' not in dm('info', self.v.name)
            [m] = self.c.list()
            assert m['state'] == 'ok', m
            m = self.again(lambda: self.c.resize(self.v))
            assert m['size'] == self.v.size() - 4 * MIB, m
            assert 'Tables present:    LIVE\n' in dm('info', self.v.name)
            self.data_is_there()
        finally:
            os.close(self.fd)
        self.c.close(self.v)
        self.leftovers()

    def prepare(self, verb):
        if verb != 'format':
            self.c.format(self.v, 'formatting')
            self.v.write(self.c, FS_MARK)
            self.c.close(self.v)

    def sweep(self, verb, call):
        """-> number of kills; ends with the first run that wasn't killed."""
        for n in range(1, MAX):
            act = getattr(self, verb + '_before')()
            try:
                act(self.killed(call, n))
                passed = True
            except RuntimeError as e:
                assert 'signal 9' in str(e), e
                passed = False
            try:
                getattr(self, verb + '_after')()
            except Exception as e:
                raise RuntimeError(f'{verb}, killed before {call} number {n}: {e}') from e
            if passed:
                return n - 1
        raise RuntimeError(f'{verb}: {MAX} {call} calls and no end')


def main(verbs):
    if os.geteuid() != 0 or not os.path.exists('/sys/class/misc/device-mapper') or not shutil.which('strace'):
        print('ok 1 - kills # SKIP needs root, device-mapper and strace')
        return 77
    s, bad, n, total = Sweep(), 0, 0, 0
    for verb in verbs or CALLS:
        s.prepare(verb)
        for call in CALLS[verb]:
            n += 1
            try:
                kills = s.sweep(verb, call)
                assert kills > 0, 'the call was never made: nothing was tested'
                total += kills
                print(f'ok {n} - {verb}: killed before each of {kills} {call}', flush=True)
            except Exception:  # pylint: disable=broad-except
                bad += 1
                print(f'not ok {n} - {verb}, {call}\n# ' + traceback.format_exc().replace('\n', '\n# '), flush=True)
    s.v.remove()
    print(f'1..{n}\n# {total} kills')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
