#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-node's command line: every wrong flag ends it with 2 and one exact sentence, before it needs root, a socket or a
device. TAP on stdout."""
import os
import sys

import caselib

CONFIGURED = ['--node-id', 'n1', '--config', 'CONFIG']  # what is looked at when the configuration is right
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
    'a relative registration socket': ([*CONFIGURED, '--registration', 'r.sock'],
                                       "--registration 'r.sock' must be the absolute path of a socket"),
    'a hidden registration socket': ([*CONFIGURED, '--registration', '/r/.x'],
                                     "--registration '/r/.x' begins with '.': kubelet looks at no such socket"),
    'a registration socket too long': ([*CONFIGURED, '--registration', '/' + 'x' * 107],
                                       f"--registration '/{'x' * 107}' is longer than the 107 bytes of a socket path"),
    "an endpoint that isn't a path": ([*CONFIGURED, '--registration', '/r', '--registration-endpoint', 'unix:///c'],
                                      "--registration-endpoint 'unix:///c' must be the absolute path of a socket"),
    'an endpoint for no registration': ([*CONFIGURED, '--registration-endpoint', '/c'],
                                        '--registration-endpoint without --registration'),
    'no configuration': (['--node-id', 'n1', '--config', '/none.json'], "open configuration '/none.json': No such file or directory"),
}


def case(name, argv, sentence):
    def test():
        environment = {k: v for k, v in os.environ.items() if k not in ('CSI_ENDPOINT', 'COFFER_CONFIG', 'NODE_ID')}
        with caselib.folder('node.') as folder:
            config = os.path.join(folder, 'config.json')
            caselib.write(config, caselib.configuration(folder, '/etc/coffer/master'))
            p = caselib.run([caselib.program('coffer-node'), *(config if a == 'CONFIG' else a for a in argv)], 2, env=environment)
        assert (p.stdout, p.stderr) == ('', f'coffer-node: {sentence}\n'), p
    test.__name__ = name
    return test


sys.exit(caselib.main([case(name, *row) for name, row in CASES.items()]))
