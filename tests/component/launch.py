#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-launch for real, as far as this machine allows: root, namespaces, cgroup2 (perhaps without its limits), mounts with mapped
users. The story `launch` has the rest: limits and dm-crypt."""
import contextlib
import os
import sys

import caselib

sys.path.insert(0, os.path.join(caselib.ROOT, 'e2e', 'lib'))
import launchchecks  # noqa: E402  pylint: disable=wrong-import-position
from launcher import Launcher, in_own_namespace, own_cgroup  # noqa: E402  pylint: disable=wrong-import-position


@contextlib.contextmanager
def fresh():
    with caselib.folder() as folder:
        launch = Launcher(folder, caselib.program('coffer-launch'))
        try:
            launch.start_daemon()
            yield launch
        except BaseException:
            print('\n'.join('# ' + line for line in launch.said().splitlines()[-20:]), flush=True)
            raise
        finally:
            launch.close()


def killed_and_repaired(launch):
    """At each point of start and stop."""
    for verb, point in launchchecks.points_of(launch):
        launchchecks.killed_at(launch, verb, point)


def main():
    reason = in_own_namespace()
    if reason is None and own_cgroup()[0] is None:
        reason = 'there is no cgroup2 file system here'
    if reason is not None:
        print(f'1..1\nok 1 - launch # SKIP {reason}')
        return 0
    return caselib.main([*launchchecks.ALL, killed_and_repaired], fresh)


sys.exit(main())
