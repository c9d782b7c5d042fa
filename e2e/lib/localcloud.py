# SPDX-License-Identifier: Apache-2.0
"""One host with coffer-scheduler and its driver `local`: the fixture's daemons, a real Vault, coffer-launch, a coffer-keyd of the
scheduler's own that tells public keys alone, and the sample VM. The scheduler is an unprivileged user.

    host = LocalHost(vault, folder)          # Vault's engines, policies, logins; everything is started by host.start()
    device = Device(folder)                  # schedulerlib: a user's device, by openssl
    host.api.created(device)                 # schedulerlib.Scheduler: find, deploy, mount, lock, ... by HTTP
    host.get(device, '/personalcloud/')      # what its VM answers, over the VM's socket
"""
import glob
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.append(os.path.join(ROOT, 'tests/component'))
import schedulerlib  # noqa: E402
from fixture import GID, MIB, UID_KEYD, Coffer, Daemon, wait_for  # noqa: E402
from vaultsetup import SERVER_KEY, TENANT_KEY, Layout  # noqa: E402

UID_SCHEDULER = 64103
KEY_NAME, NODE, TENANT = f'{SERVER_KEY}1', 'node-1', 'clouds'
VM_FOLDER = '/srv/coffer-vm'  # coffer-launch shows no folder below /tmp, /run or /var to a VM
CGROUP = '/sys/fs/cgroup/coffer-vms'
SIZE = 32 * MIB


class Api(schedulerlib.Scheduler):
    """coffer-scheduler before the real driver; the host starts it."""

    def __init__(self, host):  # pylint: disable=super-init-not-called
        self.host, self.folder, self.process = host, f'{host.run}/scheduler', None
        self.socket, self.admin, self.log = f'{self.folder}/api.sock', f'{self.folder}/admin.sock', f'{host.root}/coffer-scheduler.log'

    def wait(self, device, *statuses, patient=False):
        """schedulerlib's, with the patience that Node.js wants in an emulated machine."""
        def there():
            found = self.find(device)
            if not patient and found.json.get('status') == 'failure' and 'failure' not in statuses:
                raise RuntimeError(str(found))
            return found if found.json.get('status') in statuses else None
        wait_for(f'{statuses} of {device.name[:8]}', there, 900)
        return self.find(device)


class VmConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__('vm', timeout=120)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(120)
        self.sock.connect(self.path)


class LocalHost(Coffer):
    def __init__(self, vault, folder, **scheduler):
        """scheduler: what its configuration says beside the usual."""
        self.vault, self.folder, self.layout, self.scheduler_config = vault, folder, Layout(vault), scheduler
        self.set_up_vault()
        for path in (folder, os.path.dirname(folder)):
            os.chmod(path, 0o755)
        os.chown(vault.ca, UID_KEYD, GID)
        host = vault.address.removeprefix('https://')
        self.uri = f'hcvault://{host}/{self.layout.transit}/keys/{TENANT_KEY}{{tenant}}'
        super().__init__(services={'vault': self.service('controller', 'node')}, fault=True)
        self.keyd_allow += ',UNWRAP_CLIENT'
        self.clouds, self.vms, self.launch_state = f'{self.run}/clouds', f'{self.run}/vms', f'{self.run}/launch'
        self.scheduler_node, self.launch_socket = f'{self.run}/scheduler-node.sock', f'{self.launch_state}.sock'
        self.scheduler_keyd = f'{self.run}/scheduler-keyd/keyd.sock'
        self.controller_flags = ['--socket-group', str(GID)]
        self.node_flags = ['--scheduler-endpoint', 'unix://' + self.scheduler_node, '--scheduler-group', str(UID_SCHEDULER),
                           '--scheduler-directory', self.clouds]
        self.launch = self.scheduler = self.key_teller = None
        self.api = Api(self)

    def set_up_vault(self):
        self.layout.mount_engines()
        self.layout.write_policies()
        self.layout.root.call('POST', f'{self.layout.transit}/keys/{KEY_NAME}', {'type': 'rsa-3072'})

    def service(self, *roles):
        role = self.layout.approle(*roles)
        path = f'{self.folder}/secret-id-{"-".join(roles)}'
        with open(path, 'w', encoding='ascii', opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            f.write(role.body['secret_id'] + '\n')
        os.chown(path, UID_KEYD, GID)
        return {'uri': self.uri, 'server_key': KEY_NAME, 'ca': self.vault.ca,
                'auth': {'method': 'approle', 'mount': role.mount, 'role': '-'.join(roles), 'role_id': role.body['role_id'],
                         'secret_id_path': path}}

    # ---- set-up

    def install(self):
        super().install()
        source = os.environ['COFFER_BIN']
        for name in ('coffer-scheduler', 'coffer-launch'):
            shutil.copy(os.path.join(source, name), os.path.join(self.bin, name))
            os.chmod(os.path.join(self.bin, name), 0o755)
        self.write_launch()
        self.write_scheduler()
        with open(f'{self.root}/teller.json', 'w', encoding='utf-8') as f:
            json.dump({'pools': {'p': {'backend': 'file', 'path': '/p', 'kms': ['vault']}}, 'kms': {'vault': self.service('scheduler')}}, f)
        os.chmod(f'{self.root}/teller.json', 0o644)

    def make_run(self):
        super().make_run()
        self.make_dir(self.api.folder, UID_SCHEDULER, UID_SCHEDULER, 0o755)
        self.make_dir(os.path.dirname(self.scheduler_keyd), UID_KEYD, GID, 0o755)
        self.make_dir(self.vms, 0, UID_SCHEDULER, 0o750)
        self.make_dir(self.launch_state, 0, 0, 0o700)
        shutil.copytree(f'{ROOT}/vm', VM_FOLDER, dirs_exist_ok=True)
        subprocess.run(['chmod', '-R', 'a+rX', VM_FOLDER], check=True)

    def write_launch(self, **more):
        with open(f'{self.root}/launch.json', 'w', encoding='utf-8') as f:
            json.dump({'command': ['/usr/bin/node', f'{VM_FOLDER}/server.mjs'], 'folders': [VM_FOLDER], 'memory': 256 * MIB, 'pids': 64,
                       'cpu_percent': 200, 'uids': {'first': 2000000, 'count': 1000}, **more}, f)

    def write_scheduler(self, **more):
        node = {'controller': 'unix://' + self.controller_socket, 'node': 'unix://' + self.scheduler_node, 'launch': self.launch_socket,
                'pool': 'default', 'kms': 'vault', 'memory': 4096 * MIB, 'vms_max': 20}
        config = {'driver': 'local', 'url': 'https://clouds.example/clouds/', 'tenant': TENANT, 'size': SIZE,
                  'vm': {'memory': 256 * MIB, 'ready_seconds': 600, 'stop_seconds': 20},
                  'local': {'nodes': {NODE: node}, 'volumes': self.clouds, 'sockets': self.vms}, **self.scheduler_config, **more}
        path = f'{self.root}/scheduler.json'
        with open(path, 'w', encoding='utf-8') as f:
            json.dump(config, f)
        os.chmod(path, 0o644)

    # ---- processes

    def start(self):
        super().start()
        self.wait_socket(self.node, self.scheduler_node)
        self.start_launch()
        self.start_teller()
        self.start_scheduler()

    def start_launch(self):
        self.launch = self.daemon('coffer-launch', [
            '--socket', self.launch_socket, '--socket-group', str(UID_SCHEDULER), '--peer', f'{UID_SCHEDULER}:{UID_SCHEDULER}',
            '--peer', '0:0', '--config', f'{self.root}/launch.json', '--volumes', self.clouds, '--sockets', self.vms, '--cgroup', CGROUP,
            '--state', self.launch_state])
        self.wait_socket(self.launch, self.launch_socket)

    def start_teller(self):
        self.key_teller = Daemon('coffer-keyd', [
            f'{self.bin}/coffer-keyd', '--config', f'{self.root}/teller.json', '--socket', self.scheduler_keyd, '--allow', 'SERVER_KEY',
            '--peer', f'{UID_SCHEDULER}:{UID_SCHEDULER}'], f'{self.root}/coffer-scheduler-keyd.log', UID_KEYD, UID_SCHEDULER)
        self.key_teller.start()
        self.wait_socket(self.key_teller, self.scheduler_keyd, socket.SOCK_SEQPACKET)

    def start_scheduler(self):
        """In the group of coffer-controller's socket too."""
        argv = [f'{self.bin}/coffer-scheduler', '--config', f'{self.root}/scheduler.json', '--listen-unix', self.api.socket,
                '--admin-socket', self.api.admin, '--keyd-socket', self.scheduler_keyd, '--kms', 'vault', '--log-level', self.log_level]
        who = ['setpriv', f'--reuid={UID_SCHEDULER}', f'--regid={UID_SCHEDULER}', f'--groups={GID}', '--inh-caps=-all']
        self.scheduler = Daemon('coffer-scheduler', argv, self.api.log, env={'COFFER_FAULT_DIR': self.fault_dir}, prefix=who)
        self.scheduler.start()
        self.api.process = self.scheduler.process
        self.wait_socket(self.scheduler, self.api.socket)
        schedulerlib.caselib.wait_for(lambda: self.api.ask('GET', f'/v1/clouds/{"0" * 64}').status != 503, 'the first round',
                                      self.scheduler.process, self.api.log, seconds=300)

    def stop(self):
        for d in (self.scheduler, self.key_teller, self.launch):
            if d is not None:
                d.stop()
        super().stop()

    @staticmethod
    def kill_vms():
        """They outlive all daemons."""
        for path in glob.glob(CGROUP + '/*/cgroup.kill'):
            with open(path, 'w', encoding='ascii') as f:
                f.write('1')

    def forget_vms(self):
        """What coffer-launch keeps of them, when nothing is mounted any more."""
        for place in glob.glob(self.clouds + '/*'):
            os.rmdir(place)
        for path in glob.glob(self.vms + '/*'):
            os.unlink(path)
        for folder in glob.glob(self.launch_state + '/*/'):  # beside them is its lock file
            shutil.rmtree(folder)

    # ---- what there is

    def cloud_volume(self, device):
        """Of a device that made its cloud: what the fixture's functions take."""
        return {'volume_id': self.api.find(device)['volumeId']}

    def vm_list(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.launch_socket)
            s.sendall(b'{"verb":"list"}')
            s.shutdown(socket.SHUT_WR)
            return json.loads(b''.join(iter(lambda: s.recv(65536), b'')))['vms']

    def vm_of(self, device):
        return next((v for v in self.vm_list() if v['id'] == device.name[:32]), None)

    def ask_vm(self, device, method, path, body=None):
        c = VmConnection(f'{self.vms}/{device.name[:32]}.sock')
        try:
            c.request(method, path, None if body is None else json.dumps(body).encode(), {'Content-Type': 'application/json'})
            answer = c.getresponse()
            return answer.status, json.loads(answer.read() or b'null')
        finally:
            c.close()

    def mounts(self):
        with open('/proc/self/mountinfo', encoding='utf-8') as f:
            return [line.split()[4] for line in f if line.split()[4].startswith((self.kubelet, self.clouds))]

    def left_over(self):
        """What a host without an open cloud must not have; {} when clean."""
        found = {'vms': self.vm_list() if self.launch and self.launch.alive() else [], 'places': os.listdir(self.clouds),
                 'sockets': os.listdir(self.vms), **super().left_over()}
        return {k: v for k, v in found.items() if v}
