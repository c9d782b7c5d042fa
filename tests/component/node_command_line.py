#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-node's command line: every wrong flag ends it with 2 and one exact sentence, before it needs root, a socket or a
device. TAP on stdout."""
import os
import sys

import caselib

CASES = {
    'an unknown flag': (['--frob'], "unknown flag '--frob' (see --help)"),
    'an argument': (['--node-id', 'n1', 'more'], "unexpected argument 'more'"),
    'a flag without its value': (['--endpoint'], "flag '--endpoint' needs a value"),
    'a boolean that is none': (['--host-network=maybe'], "flag '--host-network' must be true or false, not 'maybe'"),
    'a relative helper': (['--crypt-helper', 'coffer-crypt'], "--crypt-helper 'coffer-crypt' must be an absolute path"),
    'a relative socket of keyd': (['--keyd-socket', 'keyd.sock'], "coffer-keyd's socket path 'keyd.sock' must be absolute"),
    'an empty socket of keyd': (['--keyd-socket', ''], "coffer-keyd's socket path '' must be absolute"),
    "a node's name": (['--node-id', 'a/b'], "node id 'a/b' is not 1 to 63 of [A-Za-z0-9._-] that begin and end with a letter or digit"),
    "a driver's name": (['--node-id', 'n1', '--driver-name', 'a b'],
                        "driver name 'a b' is not 2 to 54 of [A-Za-z0-9._-] that begin and end with a letter"),
    'no configuration': (['--node-id', 'n1', '--config', '/none.json'], "open configuration '/none.json': No such file or directory"),
}


def case(name, argv, sentence):
    def test():
        environment = {k: v for k, v in os.environ.items() if k not in ('CSI_ENDPOINT', 'COFFER_CONFIG', 'NODE_ID')}
        p = caselib.run([caselib.program('coffer-node'), *argv], 2, env=environment)
        assert (p.stdout, p.stderr) == ('', f'coffer-node: {sentence}\n'), p
    test.__name__ = name
    return test


sys.exit(caselib.main([case(name, *row) for name, row in CASES.items()]))
