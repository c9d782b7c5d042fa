#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""leaks: storage key, passphrase and volume key of a volume are nowhere but where they belong, in all of a volume's
life: no log line, no argument or environment of any process, no core file, no file, no byte of the disk, no memory
of coffer-node or coffer-controller. Then a build that gives them away on purpose, one place at a time
(common/leak.h), shows that the scan would have seen it.

COFFER_BIN: the test build's programs; the leaky build's lie beside it, in ../leaky."""
# story: disk=2G
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import leakhunt  # noqa: E402
import leakscan  # noqa: E402
from leakhunt import SIZE  # noqa: E402
from tap import Tap  # noqa: E402
from watched import Watched, storage_key  # noqa: E402


def whole_life(tap, watch, cores):
    c = Watched(os.path.join(os.environ['COFFER_SCRATCH'], 'life'), watch)
    hunt = leakhunt.Hunt(tap, c)
    c.install()
    c.start()
    leakhunt.life(hunt, lambda volume: leakhunt.ill_treated(hunt, volume, cores))
    c.stop()
    hunt.afterwards(cores)


# ---- the build that leaks ----
LEAKS = (  # place (LEAK in the source), way (common/leak.c): the kind of finding there must be, and no other
    ('keyd:storage-key', 'log-hex', 'log'), ('keyd:storage-key', 'log-upper', 'log'),
    ('keyd:storage-key', 'log-base64', 'log'), ('keyd:storage-key', 'log-raw', 'log'),
    ('keyd:storage-key', 'file', 'file'),
    *((place, way, kind) for place in ('crypt:storage-key', 'crypt:passphrase', 'crypt:volume-key')
      for way, kind in (('log-hex', 'log'), ('log-base64', 'log'), ('argv', 'argv'), ('env', 'env'), ('file', 'file'),
                        ('core', 'core'))),
    ('crypt:passphrase', 'log-raw', 'log'),
)
MEMORY_LEAKS = (('node:storage-key', 'coffer-node'), ('controller:storage-key', 'coffer-controller'))


class Leaky(leakhunt.Leaky):
    def in_controller(self):
        """A key that is minted now."""
        made = []
        self.leak('controller:storage-key', 'memory', lambda: made.append(self.c.create('leaky-2', SIZE)))
        needles = leakscan.Needles({'storage key': storage_key(self.c, made[0])})
        self.c.delete(made[0]['volume_id'])
        return leakhunt.scan_daemons(self.c, needles)


def leaky_build(tap, watch, cores):
    leakhunt.take_leaky_build()
    c = Watched(os.path.join(os.environ['COFFER_SCRATCH'], 'leaky'), watch)
    c.install()
    c.start()
    leaky = Leaky(c, cores)
    tap.run('the leaky build, nothing armed: nothing is found', leaky.quiet)
    for place, way, kind in LEAKS:
        tap.run(f'{place} given away by {way} is caught', leaky.caught, place, way, kind)
    leaky.disk(tap)
    for (place, who), look in zip(MEMORY_LEAKS, (leaky.in_node, leaky.in_controller)):
        tap.run(f'{place} kept in memory is caught', leakhunt.only_found, look, 'memory', who)
        c.node.stop()  # a new process: what the old one kept is gone
        c.start_node()
    c.delete(leaky.volume['volume_id'])
    c.stop()


def main():
    tap = Tap()
    with leakhunt.watching() as (watch, cores):
        whole_life(tap, os.path.join(watch, 'life'), cores)
        cores.clear()
        leaky_build(tap, os.path.join(watch, 'leaky'), cores)
    tap.done()


main()
