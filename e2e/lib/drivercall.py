# SPDX-License-Identifier: Apache-2.0
"""A scheduler's driver, called as the scheduler would, by the test program driver-call (tests/support/driver_call.c):

    with Driver(config) as driver:
        driver('create_volume', id=..., node='n1', seed={...})       # the answer; Refused with .code when it failed
"""
import json
import os
import subprocess


class Refused(Exception):
    def __init__(self, code, message):
        self.code = code
        super().__init__(f'{code}: {message}')


class Driver:
    def __init__(self, config, *more, environment=None):
        """config: the path of scheduler.json; more: coffer-keyd's socket and its key service."""
        self.argv = [os.path.join(os.environ['COFFER_BIN'], 'driver-call'), config, *more]
        self.environment, self.process = {**os.environ, **(environment or {})}, None

    def __enter__(self):
        self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def begin(self, call, **arguments):
        self.process.stdin.write(json.dumps({'call': call, **arguments}) + '\n')
        self.process.stdin.flush()

    def end(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f'driver-call ended: {self.process.wait()}')
        said = json.loads(line)
        if 'error' in said:
            raise Refused(**said['error'])
        return said

    def __call__(self, call, **arguments):
        self.begin(call, **arguments)
        return self.end()
