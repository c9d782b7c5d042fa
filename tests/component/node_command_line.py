#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-node's command line: every wrong flag ends it with 2 and one exact sentence, before it needs root, a socket or a
device. TAP on stdout."""
import os
import subprocess
import sys

NODE = os.path.join(os.path.abspath(os.environ.get('COFFER_BIN', 'build/test')), 'coffer-node')
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


def main():
    failed = 0
    environment = {k: v for k, v in os.environ.items() if k not in ('CSI_ENDPOINT', 'COFFER_CONFIG', 'NODE_ID')}
    print(f'1..{len(CASES)}')
    for number, (name, (argv, sentence)) in enumerate(CASES.items(), 1):
        p = subprocess.run([NODE, *argv], capture_output=True, text=True, env=environment, timeout=60, check=False)
        good = (p.returncode, p.stdout, p.stderr) == (2, '', f'coffer-node: {sentence}\n')
        failed += not good
        print(f'{"ok" if good else "not ok"} {number} - {name}' + ('' if good else f'\n# {p}'), flush=True)
    return 1 if failed else 0


sys.exit(main())
