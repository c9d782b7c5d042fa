# SPDX-License-Identifier: Apache-2.0
"""The whole system of users' clouds on one machine, from the real programs: Vault, coffer-keyd for the node and another for the
scheduler, coffer-controller, coffer-node, coffer-launch, coffer-scheduler with the driver `local`, and nginx with dist/nginx's
configuration in front. Each as a fixed user of its own.

    with rig(vault, folder) as r:
        anna = r.user('anna')                        # before the API through nginx, as from outside
        anna.create(); r.store.put(anna.opened().body['url'], 'note', 'text')
        r.restart_scheduler(kill=True); r.left_over()

Everything lies below Coffer's root (fixture.py), but the VMs' program: coffer-launch shows VMs nothing below /run, /tmp and the like."""
import contextlib
import glob
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import urllib.parse

import leakscan
from clouddevice import Api, CloudDevice, User
from cloudsuite import Suite
from fixture import GID, MIB, UID_CONTROLLER, UID_KEYD, Coffer, Daemon, wait_for
from vaultsetup import ROOT, SERVER_KEY, TENANT_KEY, Layout
from watched import derived_passphrase

UID_SCHEDULER, UID_SCHEDULER_KEYD, UID_PROXY, GID_VMS = 64103, 64104, 64105, 64106
KEY_NAME, TENANT, SIZE = f'{SERVER_KEY}1', 'clouds', 32 * MIB
VM_UIDS, VM_UID_COUNT, VM_MEMORY = 2_000_000, 1000, 256 * MIB
PROGRAMS = ('coffer-scheduler', 'coffer-launch')
ANSWER_SECONDS = 120  # --request-seconds: an emulated machine


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def write(path, text, mode=0o644, owner=(0, 0)):
    with open(path, 'w', encoding='utf-8', opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
        f.write(text)
    os.chown(path, *owner)
    os.chmod(path, mode)


class Store:
    """What runs in a VM, through the proxy: a CouchDB-style store below the cloud's URL."""

    def __init__(self, ca):
        self.context = ssl.create_default_context(cafile=ca)

    def request(self, method, url, body=None, headers=()):
        parts = urllib.parse.urlsplit(url)
        with contextlib.closing(http.client.HTTPSConnection(parts.hostname, parts.port, timeout=600, context=self.context)) as c:
            c.request(method, parts.path, body=body, headers=dict(headers))
            reply = c.getresponse()
            return reply.status, reply.read()

    def put(self, url, name, text):
        status, said = self.request('PUT', f'{url}personalcloud/notes', headers={'Content-Length': '0'})
        if status not in (201, 412):
            raise RuntimeError(f'the database: {status} {said[:300]}')
        status, said = self.request('PUT', f'{url}personalcloud/notes/{name}', json.dumps({'text': text}),
                                    {'Content-Type': 'application/json'})
        if status not in (201, 202):
            raise RuntimeError(f'{name} was not written: {status} {said[:300]}')

    def get(self, url, name):
        status, said = self.request('GET', f'{url}personalcloud/notes/{name}')
        return json.loads(said)['text'] if status == 200 else None


class CloudCoffer(Coffer):
    """fixture.Coffer with the sockets that the scheduler uses."""

    def __init__(self, root, services):
        super().__init__(root, services=services, fault=True)
        self.keyd_allow += ',UNWRAP_CLIENT'
        self.volumes, self.sockets = os.path.join(self.root, 'clouds'), os.path.join(self.root, 'vms')
        self.scheduler_socket = os.path.join(self.run, 'scheduler/node.sock')
        self.controller_flags = ['--socket-group', str(UID_SCHEDULER)]
        self.node_flags = ['--scheduler-endpoint', 'unix://' + self.scheduler_socket, '--scheduler-group', str(UID_SCHEDULER),
                           '--scheduler-directory', self.volumes]

    def install(self):
        super().install()
        for name in PROGRAMS:
            shutil.copy(os.path.join(os.environ['COFFER_BIN'], name), os.path.join(self.bin, name))
            os.chmod(os.path.join(self.bin, name), 0o755)
        self.make_dir(os.path.join(self.run, 'controller'), UID_CONTROLLER, GID, 0o755)
        self.make_dir(self.sockets, 0, GID_VMS, 0o750)
        for name, uid, gid in (('scheduler', 0, 0), ('scheduler-keyd', UID_SCHEDULER_KEYD, UID_SCHEDULER_KEYD), ('launch', 0, 0),
                               ('launch-state', 0, 0), ('api', UID_SCHEDULER, UID_PROXY), ('admin', UID_SCHEDULER, UID_SCHEDULER)):
            self.make_dir(os.path.join(self.run, name), uid, gid, 0o755)

    def start_controller(self):
        """As its unit has it: a member of the scheduler's group, so that it may give its socket to it."""
        self.controller = self.daemon('coffer-controller', [
            '--config', self.config, '--endpoint', 'unix://' + self.controller_socket, '--keyd-socket', self.keyd_socket,
            '--node-id', 'node-1', '--expand', self.expand, *self.controller_flags],
            prefix=['setpriv', f'--reuid={UID_CONTROLLER}', f'--regid={GID}', f'--groups={GID},{UID_SCHEDULER}', '--'])
        self.wait_socket(self.controller, self.controller_socket)

    def mounts(self):
        with open('/proc/self/mountinfo', encoding='utf-8') as f:
            return [line.split()[4] for line in f if line.split()[4].startswith((self.kubelet, self.volumes))]

    def records(self, cloud_id=''):
        """The records of clouds' volumes."""
        found = []
        for path in glob.glob(f'{self.pool}/volumes/*/*/record.json'):
            with open(path, encoding='utf-8') as f:
                record = json.load(f)
            if record.get('name', '').startswith(f'cloud-{cloud_id}'):
                found.append(record)
        return found


class Rig:
    def __init__(self, vault, folder, **settings):
        """settings: of scheduler.json's "vm" (ready_seconds, …)."""
        self.vault, self.folder, self.layout = vault, folder, Layout(vault)
        self.layout.mount_engines()
        self.layout.write_policies()
        self.layout.root.call('POST', f'{self.layout.transit}/keys/{KEY_NAME}', {'type': 'rsa-3072'})
        for path in (folder, os.path.dirname(folder)):
            os.chmod(path, 0o755)
        os.chmod(vault.ca, 0o644)
        self.c = CloudCoffer(None, {'vault': self.service('controller', 'node', uid=UID_KEYD, gid=GID)})
        self.vm_settings = {'memory': VM_MEMORY, 'ready_path': '/personalcloud/', 'ready_seconds': 600, 'stop_seconds': 60, **settings}
        self.cgroup = f'/sys/fs/cgroup/coffer-story-{os.getpid()}'
        self.scheduler_keyd = self.launch = self.scheduler = self.proxy = None
        self.api_port, self.api_proxy, self.vm_proxy = free_port(), free_port(), free_port()
        self.launch_socket = f'{self.c.run}/launch/launch.sock'
        self.api_socket, self.admin_socket = f'{self.c.run}/api/api.sock', f'{self.c.run}/admin/admin.sock'
        self.scheduler_keyd_socket = f'{self.c.run}/scheduler-keyd/keyd.sock'
        self.ca = vault.ca
        self.store = Store(self.ca)
        self.devices, self.vm_folder = f'{folder}/devices', f'/opt/coffer-story-{os.getpid()}'
        self.users, self.log_flags = [], ['--log-level', 'debug']

    # ---- set-up

    def service(self, *roles, uid, gid):
        role = self.layout.approle(*roles)
        path = f'{self.folder}/secret-id-{"-".join(roles)}'
        write(path, role.body['secret_id'] + '\n', 0o600, (uid, gid))
        host = self.vault.address.removeprefix('https://')
        return {'uri': f'hcvault://{host}/{self.layout.transit}/keys/{TENANT_KEY}{{tenant}}', 'server_key': KEY_NAME, 'ca': self.vault.ca,
                'auth': {'method': 'approle', 'mount': role.mount, 'role': '-'.join(roles), 'role_id': role.body['role_id'],
                         'secret_id_path': path}}

    def install(self):
        c = self.c
        c.install()
        os.makedirs(self.devices, exist_ok=True)
        shutil.copytree(f'{ROOT}/vm', self.vm_folder, dirs_exist_ok=True)
        certificate, key = self.vault.authority.issue('clouds')
        for path, name, owner in ((certificate, 'api.pem', (0, 0)), (key, 'api.key', (UID_SCHEDULER, UID_SCHEDULER))):
            with open(path, encoding='ascii') as f:
                write(f'{c.root}/{name}', f.read(), 0o600 if name.endswith('key') else 0o644, owner)
        self.write_launch()
        self.write_scheduler()
        write(f'{c.root}/scheduler-keyd.json', json.dumps({
            'pools': {'p': {'backend': 'file', 'path': '/p', 'kms': ['vault']}},
            'kms': {'vault': self.service('scheduler', uid=UID_SCHEDULER_KEYD, gid=UID_SCHEDULER_KEYD)}}))

    def write_launch(self, command=None, **change):
        write(f'{self.c.root}/launch.json', json.dumps({
            'command': command or ['/usr/bin/node', f'{self.vm_folder}/server.mjs'], 'memory': VM_MEMORY, 'pids': 64,
            'cpu_percent': 100, 'folders': [self.vm_folder], 'uids': {'first': VM_UIDS, 'count': VM_UID_COUNT}, **change}))

    def write_scheduler(self, **vm):
        c = self.c
        self.vm_settings.update(vm)
        write(f'{c.root}/scheduler.json', json.dumps({
            'driver': 'local', 'url': f'https://127.0.0.1:{self.vm_proxy}/clouds/', 'tenant': TENANT, 'size': SIZE, 'fs': 'ext4',
            'vm': self.vm_settings, 'place': {'headroom_percent': 0},
            'local': {'nodes': {'node-1': {
                'controller': 'unix://' + c.controller_socket, 'node': 'unix://' + c.scheduler_socket, 'launch': self.launch_socket,
                'pool': 'default', 'kms': 'vault', 'memory': 16 * VM_MEMORY, 'vms_max': 100}},
                'volumes': c.volumes, 'sockets': c.sockets}}))

    # ---- processes

    def daemon(self, name, args, uid=0, gid=0, groups=(), log=None):
        prefix = ['setpriv', f'--reuid={uid}', f'--regid={gid}', f'--groups={",".join(map(str, groups))}' if groups else '--clear-groups',
                  '--'] if uid else []
        d = Daemon(name, [os.path.join(self.c.bin, name), *args, *self.log_flags], f'{self.c.root}/{log or name}.log',
                   env={'COFFER_FAULT_DIR': self.c.fault_dir}, prefix=prefix)
        d.start()
        return d

    def start(self):
        self.c.start()
        self.start_scheduler_keyd()
        self.start_launch()
        self.start_scheduler()
        self.start_proxy()

    def start_scheduler_keyd(self):
        self.scheduler_keyd = self.daemon('coffer-keyd', [
            '--config', f'{self.c.root}/scheduler-keyd.json', '--socket', self.scheduler_keyd_socket, '--allow', 'SERVER_KEY',
            '--peer', f'{UID_SCHEDULER}:{UID_SCHEDULER}'], UID_SCHEDULER_KEYD, UID_SCHEDULER, log='scheduler-keyd')
        self.c.wait_socket(self.scheduler_keyd, self.scheduler_keyd_socket, socket.SOCK_SEQPACKET)

    def start_launch(self):
        os.makedirs(self.cgroup, exist_ok=True)
        self.launch = self.daemon('coffer-launch', [
            '--socket', self.launch_socket, '--socket-group', str(GID_VMS), '--peer', f'{UID_SCHEDULER}:{UID_SCHEDULER}', '--peer', '0:0',
            '--config', f'{self.c.root}/launch.json', '--volumes', self.c.volumes, '--sockets', self.c.sockets,
            '--cgroup', self.cgroup, '--state', f'{self.c.run}/launch-state'])
        self.c.wait_socket(self.launch, self.launch_socket)

    def start_scheduler(self):
        self.scheduler = self.daemon('coffer-scheduler', [
            '--config', f'{self.c.root}/scheduler.json', '--listen', f'127.0.0.1:{self.api_port}',
            '--tls-certificate', f'{self.c.root}/api.pem', '--tls-key', f'{self.c.root}/api.key',
            '--listen-unix', self.api_socket, '--socket-group', str(UID_PROXY), '--keyd-socket', self.scheduler_keyd_socket,
            '--kms', 'vault', '--admin-socket', self.admin_socket, '--request-seconds', str(ANSWER_SECONDS)],
            UID_SCHEDULER, UID_SCHEDULER, (UID_SCHEDULER, GID_VMS, UID_PROXY))
        self.c.wait_socket(self.scheduler, self.api_socket)
        wait_for('the scheduler\'s first round', lambda: Api('unix://' + self.api_socket).find('0' * 64).status != 503)

    def restart_scheduler(self, kill=False):
        (self.scheduler.kill if kill else self.scheduler.stop)()
        self.start_scheduler()

    def restart_launch(self):
        self.launch.stop()
        self.start_launch()

    def start_proxy(self):
        self.proxy = Proxy(self)
        self.proxy.start()

    def stop(self):
        for d in (self.proxy, self.scheduler, self.launch, self.scheduler_keyd):
            if d is not None:
                d.stop()
        self.c.stop()

    def clean(self):
        """What stopped programs may have left, so that the next story on a native machine finds none of it."""
        with contextlib.suppress(OSError):
            with open(f'{self.cgroup}/cgroup.kill', 'w', encoding='ascii') as f:
                f.write('1')
        for top, _, _ in os.walk(self.cgroup, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(top)
        shutil.rmtree(self.vm_folder, ignore_errors=True)

    # ---- users

    @property
    def direct(self):
        """The scheduler's own TLS listener."""
        return Api(f'https://127.0.0.1:{self.api_port}', self.ca)

    @property
    def outside(self):
        """Through nginx."""
        return Api(f'https://127.0.0.1:{self.api_proxy}', self.ca)

    def user(self, label, digest='sha256', api=None):
        user = User(api or self.outside, self.device(label, digest))
        self.users.append(user)
        return user

    def device(self, label, digest='sha256'):
        return CloudDevice(self.devices, f'{label}-{len(os.listdir(self.devices))}', label, digest)

    def suite(self):
        return Suite(self.outside, self.device, store=self.store, restart=self.restart_scheduler, census=self.census, users=self.users)

    # ---- what is there

    def ask_launch(self, question):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(600)
            s.connect(self.launch_socket)
            s.sendall(json.dumps(question).encode())
            s.shutdown(socket.SHUT_WR)
            answer = b''
            while part := s.recv(65536):
                answer += part
        return json.loads(answer)

    def vms(self):
        """id -> what coffer-launch says of it."""
        return {vm['id']: vm for vm in self.ask_launch({'verb': 'list'})['vms']}

    def census(self, cloud_id):
        return len(self.c.records(cloud_id)), len([i for i in self.vms() if i == cloud_id])

    def vm_pids(self, cloud_id=''):
        """Every process in that VM's cgroup (or in any)."""
        pids = []
        for top, _, files in os.walk(self.cgroup):
            if 'cgroup.procs' in files and cloud_id in top:
                with open(f'{top}/cgroup.procs', encoding='ascii') as f:
                    pids += [int(line) for line in f]
        return pids

    def left_over(self):
        """What a machine without an open cloud must not have; {} when clean."""
        found = {'vms': sorted(self.vms()), 'sockets': os.listdir(self.c.sockets), 'pids': self.vm_pids(),
                 'cgroups': [d for d in os.listdir(self.cgroup) if os.path.isdir(f'{self.cgroup}/{d}') and cloud_like(d)],
                 'places': os.listdir(self.c.volumes) if os.path.isdir(self.c.volumes) else []}
        return {**self.c.left_over(), **{k: v for k, v in found.items() if v}}

    def demand_clean(self):
        wait_for('nothing left over', lambda: not self.left_over(), 300)

    def daemons(self):
        """name -> pid of every program that serves clouds, Vault's apart."""
        found = {'coffer-controller': self.c.controller, 'coffer-node': self.c.node, 'coffer-keyd': self.c.keyd,
                 'coffer-keyd of the scheduler': self.scheduler_keyd, 'coffer-launch': self.launch, 'coffer-scheduler': self.scheduler}
        return {**{name: d.process.pid for name, d in found.items()}, **self.proxy.pids()}

    def logs(self):
        return glob.glob(f'{self.c.root}/*.log') + glob.glob(f'{self.c.root}/nginx/*.log')

    # ---- leaks

    def secrets(self):
        """Every user's keys, passphrases and sessions."""
        known = {}
        for n, user in enumerate(self.users):
            who = f'{user.device.label} {n}'
            for i, (key, uuid) in enumerate(user.device.keys.items()):
                known[f'key {i} of {who}'], known[f'passphrase {i} of {who}'] = key, derived_passphrase(key, uuid)
            known.update({f'session {i} of {who}': lent for i, lent in enumerate(user.lent)})
        return known

    def in_memory(self, needles):
        """In any of them, as far as they live."""
        found = []
        for name, pid in self.daemons().items():
            found += scan_process(needles, pid, name)
        for pid in self.vm_pids():
            found += scan_process(needles, pid, f'a VM\'s process {pid}')
        return found


def cloud_like(name):
    return len(name.split('.')[0].removeprefix('vm-')) == 32


def scan_process(needles, pid, who):
    """Like leakscan.scan_memory, for programs of others too; what it read must be more than nothing."""
    found, size = set(), 0
    try:
        for data, constant in leakscan.memory_of(pid):
            size += len(data)
            if not constant:
                found.update(needles.find(bytes(data)))
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return []
    if size == 0:
        raise RuntimeError(f'{who}: no byte of its memory was read')
    return [leakscan.Finding('memory', who, what) for what in sorted(found)]


class Proxy:
    """nginx with dist/nginx's configuration: only names, ports and paths are the rig's. All of it runs as one unprivileged user."""

    def __init__(self, rig):
        self.rig, self.root, self.process = rig, f'{rig.c.root}/nginx', None

    def adapted(self, text):
        r = self.rig
        for old, new in (('/usr/share/coffer/nginx/', f'{self.root}/'), ('/run/coffer/scheduler/http.sock', r.api_socket),
                         ('/run/coffer/vms/', f'{r.c.sockets}/'), ('/usr/share/coffer/web', f'{ROOT}/web'),
                         ('listen 443 ssl http2;', f'listen 127.0.0.1:{r.api_proxy} ssl http2;'),
                         ('listen 443 ssl;', f'listen 127.0.0.1:{r.vm_proxy} ssl;'),
                         ('https://clouds.example.com', f'https://127.0.0.1:{r.vm_proxy}'),
                         ('/etc/coffer/tls/coffer.', f'{self.root}/tls.'), ('/etc/coffer/tls/clouds.', f'{self.root}/tls.')):
            text = text.replace(old, new)
        return text

    def configure(self):
        owner = (UID_PROXY, UID_PROXY)
        self.rig.c.make_dir(self.root, *owner, 0o750)
        for path in glob.glob(f'{ROOT}/dist/nginx/*.conf'):
            with open(path, encoding='utf-8') as f:
                write(f'{self.root}/{os.path.basename(path)}', self.adapted(f.read()), owner=owner)
        for name, end, mode in (('api.pem', 'crt', 0o644), ('api.key', 'key', 0o600)):
            with open(f'{self.rig.c.root}/{name}', encoding='ascii') as f:
                write(f'{self.root}/tls.{end}', f.read(), mode, owner)
        kinds = ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi')
        write(f'{self.root}/nginx.conf', '\n'.join([
            f'daemon off; pid {self.root}/pid; worker_processes 1; events {{}}', 'http {', f'access_log {self.root}/access.log;',
            *(f'{kind}_temp_path {self.root}/{kind};' for kind in kinds), f'include {self.root}/coffer.conf;', '}', '']))

    def start(self):
        self.configure()
        command = ['setpriv', f'--reuid={UID_PROXY}', f'--regid={UID_PROXY}', f'--groups={UID_PROXY},{GID_VMS}', '--', '/usr/sbin/nginx',
                   '-p', self.root, '-c', f'{self.root}/nginx.conf', '-e', f'{self.root}/error.log']
        with open(f'{self.rig.c.root}/nginx.log', 'ab') as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for('nginx', lambda: self.process.poll() is not None or all(map(listens, (self.rig.api_proxy, self.rig.vm_proxy))))
        if self.process.poll() is not None:
            with open(f'{self.rig.c.root}/nginx.log', encoding='utf-8') as f:
                raise RuntimeError(f'nginx ended: {f.read()[-2000:]}')

    def pids(self):
        if self.process is None or self.process.poll() is not None:
            return {}
        with open(f'/proc/{self.process.pid}/task/{self.process.pid}/children', encoding='ascii') as f:
            workers = f.read().split()
        return {f'nginx {pid}': int(pid) for pid in [self.process.pid, *workers]}

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(300)


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(('127.0.0.1', port)) == 0


@contextlib.contextmanager
def rig(vault, folder, **settings):
    made = Rig(vault, folder, **settings)
    try:
        made.install()
        made.start()
        yield made
    except BaseException:
        for path in made.logs():
            with open(path, encoding='utf-8', errors='replace') as f:
                print(f'# ---- {path}\n' + '\n'.join('# ' + line for line in f.read()[-3000:].splitlines()), flush=True)
        raise
    finally:
        made.stop()
        made.clean()
