# SPDX-License-Identifier: Apache-2.0
"""A volume of a host without Kubernetes, whose disk, with what cofferctl keeps beside the pool, loses its power."""
import os

from powerlife import put
from tap import demand

NAME, TEXT = 'h', b'what the host wrote\n' * 500


class HostLife:
    """The same as Life, by cofferctl."""

    def __init__(self, life):
        self.life, self.host = life, Host(life.c)

    def live(self):
        life, host = self.life, self.host
        life.say(NAME, kind='host')
        life.call(NAME, 'create', host.create, state='new')
        life.call(NAME, 'mount', host.mount, state='ready')
        put(host.path + '/file', TEXT)
        life.say(NAME, rounds=1)
        life.call(NAME, 'unmount', host.unmount)
        life.call(NAME, 'delete', host.delete, state='gone')


class Host:
    def __init__(self, c):
        self.c, self.state, self.path = c, c.disk + '/host', c.kubelet + '/h'

    def run(self, verb, *args, socket):
        done = self.c.cofferctl('volume', verb, *args, '--state-dir', self.state, '--timeout', '900', *socket, check=False)
        demand(done.returncode == 0, f'volume {verb}: {done.stderr}')

    def create(self):
        self.run('create', NAME, '--size', '32Mi', socket=('--controller-socket', self.c.controller_socket))

    def mount(self):
        self.run('mount', NAME, self.path, socket=('--node-socket', self.c.node_socket))

    def unmount(self):
        self.run('unmount', self.path, socket=('--node-socket', self.c.node_socket))

    def delete(self):
        self.run('delete', NAME, '--yes', socket=('--controller-socket', self.c.controller_socket))

    def kept(self):
        folder = self.state + '/volumes'
        return [name for name in os.listdir(folder) if name.endswith('.json')] if os.path.exists(folder) else []

    def judge(self, facts):
        """After a cut."""
        demand((NAME + '.json' in self.kept()) or facts['state'] in ('absent', 'gone') or facts['doing'] == 'delete',
               f'cofferctl forgot its volume: {self.kept()}')
        demand(facts['state'] != 'gone' or not self.kept(), f'cofferctl still has what was deleted: {self.kept()}')
        if facts['doing'] != 'delete' and facts['state'] != 'gone':
            self.create()
            self.mount()
            if facts['rounds']:
                with open(self.path + '/file', 'rb') as f:
                    demand(f.read() == TEXT, 'the file that was acknowledged is another one')
            self.unmount()
        if self.kept():
            self.delete()
        demand(not self.kept(), f'deleted, cofferctl has {self.kept()}')
