# SPDX-License-Identifier: Apache-2.0
"""The network of a cluster for tests. enter() puts this program into mount, network, process, host name and IPC namespaces of its
own, so that fixed ports never collide and nothing, a QEMU included, outlives it. bridge() makes the cluster's network in there:

    10.99.0.1        this machine: the control plane, and Vault by way of a Relay
    10.99.0.11, 12   nodes n1, n2, each the other end of a tap device, or of a veth when it is native
    10.88.N.0/24     the pods of node N, routed by it; nothing is translated, no packet filter is needed
    10.96.0.1        the ClusterIP of the service "kubernetes", which the API server has itself: no kube-proxy
"""
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading

HOST, SERVICE, BRIDGE = '10.99.0.1', '10.96.0.1', 'k0'
SERVICES = '10.96.0.0/16'
INSIDE = 'COFFER_IN_NAMESPACES'


TAP = ('tuntap', 'add', 'coffer-tap', 'mode', 'tap')
VETH = ('link', 'add', 'coffer-veth', 'type', 'veth')


def why_not(device=TAP):
    """Why there can't be namespaces and such a device of our own here; '' when there can."""
    tried = subprocess.run(['unshare', '--mount', '--net', '--pid', '--fork', 'ip', *device],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    said = tried.stdout.decode(errors='replace').strip().replace('\n', '; ')
    refused = f'a cluster has namespaces and {device[-1]} devices of its own, which this machine refuses: {said}'
    return '' if tried.returncode == 0 else refused


def node_address(number):
    return f'10.99.0.{10 + number}'


def pod_network(number):
    return f'10.88.{number}.0/24'


def tap(number):
    """The name of the device on the bridge that is node N's cable, a tap or not."""
    return f't{number}'


def enter():
    """Starts this program again inside; returns when it is there. Only root can."""
    if os.environ.get(INSIDE):
        # the first process of a pid namespace is spared by signals that it has no handler for; this one takes everything down
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        return
    os.environ[INSIDE] = 'yes'
    sys.stdout.flush()
    os.execvp('unshare', ['unshare', '--mount', '--net', '--pid', '--uts', '--ipc', '--fork', '--kill-child', '--mount-proc',
                          '--propagation', 'private', sys.executable, '-B', *sys.argv])


def ip(*arguments):
    subprocess.run(['ip', *arguments], check=True, stdin=subprocess.DEVNULL)


def bridge(nodes):
    ip('link', 'set', 'lo', 'up')
    ip('link', 'add', BRIDGE, 'type', 'bridge')
    ip('address', 'add', f'{HOST}/24', 'dev', BRIDGE)
    ip('link', 'set', BRIDGE, 'up')
    ip('address', 'add', f'{SERVICE}/32', 'dev', 'lo')
    ip('route', 'add', 'default', 'dev', BRIDGE)  # the API server asks for an address of its own that isn't loopback
    with open('/proc/sys/net/ipv4/ip_forward', 'w', encoding='ascii') as f:
        f.write('1')
    for number in range(1, nodes + 1):
        ip('route', 'add', pod_network(number), 'via', node_address(number))


def add_tap(number):
    ip('tuntap', 'add', 'dev', tap(number), 'mode', 'tap')
    ip('link', 'set', tap(number), 'master', BRIDGE, 'up')


class Relay:
    """Passes what comes to HOST:port on to a server on loopback, byte by byte. While that one is down, connections end at once."""

    def __init__(self, port, target):
        host, _, target_port = target.rpartition(':')
        self.target, self.address = (host, int(target_port)), f'{HOST}:{port}'
        self.listener = socket.create_server((HOST, port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client:
            try:
                with socket.create_connection(self.target, timeout=10) as server:
                    server.settimeout(None)
                    both_ways(client, server)
            except OSError:
                return

    def close(self):
        self.listener.close()


def both_ways(one, other):
    """Until either end closes."""
    selector = selectors.DefaultSelector()
    for source, target in ((one, other), (other, one)):
        selector.register(source, selectors.EVENT_READ, target)
    while True:
        for key, _ in selector.select():
            data = key.fileobj.recv(65536)
            if not data:
                return
            key.data.sendall(data)
