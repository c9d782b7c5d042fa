# SPDX-License-Identifier: Apache-2.0
"""A node of a cluster for tests: containerd, runc and kubelet in the micro-VM, where real dm-crypt is. e2e/kubernetes/node.sh is what
runs in there. A node keeps its two disks: power_off() and start() are a power cut and the machine's return. kubenative.py has the
node that runs on a machine with dm-crypt itself.

    node.run('dmsetup ls')       a shell's output in the node; RuntimeError when it failed
    node.pool                    the file on this machine that is the disk the pool lies on: what a thief would read
"""
import base64
import json
import os
import queue
import subprocess
import sys
import threading

import kubenet
from kubeapi import SECONDS, Broken
from kubeimages import HERE, OTHER_PLUGINS, PAUSE, SNAPSHOTTER, make_disk

ROOT = os.path.dirname(os.path.dirname(HERE))
VMRUN = f'{ROOT}/e2e/vm/vmrun.py'
CPUS, VM_SECONDS = '2', 7200


def kubelet_config():
    """https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/; in JSON, which is YAML."""
    return {'apiVersion': 'kubelet.config.k8s.io/v1beta1', 'kind': 'KubeletConfiguration',
            'containerRuntimeEndpoint': 'unix:///run/containerd/containerd.sock', 'cgroupDriver': 'cgroupfs', 'failSwapOn': False,
            'address': '0.0.0.0', 'resolvConf': '', 'makeIPTablesUtilChains': False,
            # nobody but the API server reaches it
            'authentication': {'anonymous': {'enabled': True}, 'webhook': {'enabled': False}},
            'authorization': {'mode': 'AlwaysAllow'},
            # the default lies below /usr, which a native node shares with its machine
            'volumePluginDir': '/var/lib/kubelet/volume-plugins',
            # what was imported can't be pulled again
            'imageGCHighThresholdPercent': 100,
            'evictionHard': {'memory.available': '50Mi', 'nodefs.available': '1%', 'imagefs.available': '1%',
                             'nodefs.inodesFree': '1%'},
            # an online expansion is seen after 1 s, not 15 s
            'syncFrequency': '1s', 'nodeStatusUpdateFrequency': '5s', 'volumeStatsAggPeriod': '10s',
            'runtimeRequestTimeout': '10m'}


def containerd_config(share, debian):
    return f'''version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = {json.dumps(OTHER_PLUGINS)}
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{SNAPSHOTTER}"
    default_runtime_name = "runc"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{debian}/usr/sbin/runc"
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{debian}/usr/lib/cni"
    conf_dir = "{share}/cni"
'''


def network_config(number):
    """https://www.cni.dev/docs/spec/: a bridge for the node's pods; the node routes."""
    return {'cniVersion': '0.4.0', 'name': 'pods', 'plugins': [{
        'type': 'bridge', 'bridge': 'cni0', 'isGateway': True,
        'ipam': {'type': 'host-local', 'ranges': [[{'subnet': kubenet.pod_network(number)}]], 'routes': [{'dst': '0.0.0.0/0'}]}}]}


class Node:
    """number: 1, 2, … Made after the bridge, and before the control plane starts, which must know its token."""

    WHAT = 'VM'

    def __init__(self, number, folder, components, control, disk, pool_size, memory):
        self.number, self.name, self.address = number, f'n{number}', kubenet.node_address(number)
        self.share, self.components, self.disk, self.memory = f'{folder}/{self.name}', components, disk, memory
        self.pool = make_disk(f'{folder}/{self.name}-pool.img', pool_size)
        self.process, self.answers, self.asked = None, None, 0
        self.plug_in()
        for part in ('logs', 'cni'):
            os.makedirs(f'{self.share}/{part}')
        control.add_user(self.name, f'system:node:{self.name}', 'system:nodes')
        control.write_kubeconfig(self.name, f'{self.share}/kubelet.kubeconfig')
        self.write('kubelet.yaml', json.dumps(kubelet_config(), indent=1))
        self.write('containerd.toml', containerd_config(self.share, f'{components}/debian'))
        self.write('cni/10-pods.conflist', json.dumps(network_config(number)))

    def write(self, name, text):
        with open(f'{self.share}/{name}', 'w', encoding='ascii') as f:
            f.write(text)

    def plug_in(self):
        kubenet.add_tap(self.number)

    # ---- power

    def variables(self):
        """What node.sh wants to know."""
        return {'NODE': self.name, 'ADDRESS': self.address, 'GATEWAY': kubenet.HOST, 'SHARE': self.share,
                'COMPONENTS': self.components}

    def command(self):
        """(words, environment; None: ours) of what runs node.sh."""
        argv = [sys.executable, '-B', VMRUN, '-t', str(VM_SECONDS), '-m', self.memory, '-c', CPUS, '--tap', kubenet.tap(self.number),
                '-d', f'{self.disk},unsafe', '-d', f'{self.pool},unsafe', '-w', self.share]
        for name, value in self.variables().items():
            argv += ['-e', f'{name}={value}']
        return [*argv, f'{HERE}/node.sh'], None

    def start(self):
        """Returns at once; wait_up() waits."""
        argv, environment = self.command()
        with open(f'{self.share}/logs/{self.WHAT.lower()}.log', 'ab') as log:
            self.process = subprocess.Popen(['setpriv', '--pdeathsig', 'KILL', *argv], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=log, cwd='/', env=environment)
        self.answers = queue.Queue()
        threading.Thread(target=self.read, args=(self.process.stdout, self.answers), daemon=True).start()

    def read(self, stream, answers):
        """Hands the node's answers over and logs everything else it says; at its end an empty answer."""
        with open(f'{self.share}/logs/node.log', 'a', encoding='utf-8') as log:
            for line in stream:
                words = line.decode(errors='replace').split()
                if words[:1] in (['done'], ['ready'], ['fail']):
                    answers.put(words)
                if words[:1] != ['done']:
                    log.write(' '.join(words) + '\n')
                    log.flush()
        answers.put([])

    def answer(self, seconds):
        try:
            words = self.answers.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f'{self.name}: no answer within {seconds} s') from None
        if not words or words[0] == 'fail':
            raise Broken(f'{self.name}: {" ".join(words[1:]) or f"the {self.WHAT} ended"} (see {self.share}/logs)')
        return words

    def wait_up(self):
        """Until kubelet runs; whether the node is Ready is the API's to say."""
        self.answer(SECONDS)

    def alive(self):
        if self.process and self.process.poll() is not None:
            raise Broken(f'{self.name}: the {self.WHAT} ended ({self.process.returncode}); see {self.share}/logs')

    def power_off(self):
        """As if the cable were drawn: QEMU is killed."""
        if self.process:
            self.process.terminate()  # vmrun kills QEMU and takes its run's folder away
            self.process.wait()
            self.process.stdin.close()
            self.process = None

    # ---- what is in there

    def run(self, command, check=True, seconds=SECONDS):
        """The command's output, both streams; check=False: (status, output)."""
        self.asked += 1
        self.process.stdin.write(f'{self.asked} {base64.b64encode(command.encode()).decode()}\n'.encode())
        self.process.stdin.flush()
        words = self.answer(seconds)
        while words[1:2] != [str(self.asked)]:  # "ready", or one that was given up
            words = self.answer(seconds)
        status, output = int(words[2]), base64.b64decode(''.join(words[3:])).decode(errors='replace')
        if not check:
            return status, output
        if status != 0:
            raise RuntimeError(f'{self.name}: {command}: exit {status}: {output[-2000:]}')
        return output

    def keep_logs(self):
        """The pods' logs lie on the node's disk."""
        if self.process and self.process.poll() is None:
            self.run(f'mkdir -p {self.share}/pods && cp -r /var/log/pods/. {self.share}/pods/; dmesg >{self.share}/logs/dmesg.log', False)


def copy_disk(source, target):
    subprocess.run(['cp', '--sparse=always', source, target], check=True)
    return target
