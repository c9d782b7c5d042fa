# SPDX-License-Identifier: Apache-2.0
"""One machine's worth of Coffer for the demo and the stories: pool, key daemon, controller (both as fixed
unprivileged users) and node plugin (root), all below one scratch directory, driven over gRPC by csi-call.

Runs as root where real dm-crypt is (e2e/vm/vm-or-native). COFFER_BIN: folder of the programs.
COFFER_SCRATCH: a directory on a real disk."""
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

UID_CONTROLLER, UID_KEYD, GID = 64101, 64102, 64100
PROGRAMS = ('coffer-controller', 'coffer-node', 'coffer-keyd', 'coffer-crypt', 'cofferctl', 'csi-call')
CODES = {1: 'CANCELED', 3: 'INVALID', 4: 'DEADLINE', 5: 'NOT_FOUND', 6: 'EXISTS', 7: 'PERMISSION', 8: 'EXHAUSTED',
         9: 'PRECONDITION', 10: 'ABORTED', 11: 'OUT_OF_RANGE', 12: 'UNIMPLEMENTED', 13: 'INTERNAL', 14: 'UNAVAILABLE',
         15: 'DATA_LOSS', 16: 'UNAUTHENTICATED'}
MIB = 1 << 20


class CallError(Exception):
    """A gRPC error: .code by name, .message."""

    def __init__(self, method, number, message):
        self.code, self.message = CODES.get(number, str(number)), message
        super().__init__(f'{method}: {self.code}: {message}')


class Daemon:
    """One long-lived program with its log file."""

    def __init__(self, name, argv, log, uid=0, gid=0, env=None, prefix=()):
        self.name, self.argv, self.log, self.uid, self.gid = name, argv, log, uid, gid
        self.env, self.prefix, self.process = env or {}, list(prefix), None

    def start(self):
        env = {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'DM_DISABLE_UDEV': '1', **self.env}
        who = {} if self.uid == 0 else {'user': self.uid, 'group': self.gid, 'extra_groups': []}
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(self.prefix + self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=env, cwd='/', **who)

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        if self.alive():
            self.process.kill()
        return self.process.wait(30)

    def stop(self):
        if not self.alive():
            return self.process.wait(1) if self.process else None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(300)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f'{self.name} did not end within 300 s of SIGTERM') from None

    def log_text(self):
        with open(self.log, encoding='utf-8', errors='replace') as f:
            return f.read()


def wait_for(what, condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f'{what}: not within {seconds} s')
        time.sleep(0.02)


def connectable(path, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_UNIX, kind) as s:
        try:
            s.connect(path)
            return True
        except OSError:
            return False


class Coffer:
    """Everything below `root`; binaries are copied there, since the checkout may lie where only root may look."""

    def __init__(self, root=None, expand='controller', fault=False, crypt_helper=None, services=None):
        """services: the configuration's "kms", when it isn't one local master key; the pool takes all of them."""
        base = os.environ.get('COFFER_SCRATCH') or sys.exit('COFFER_SCRATCH is not set')
        self.root = root or os.path.join(base, 'coffer')
        self.expand, self.bin, self.services = expand, os.path.join(self.root, 'bin'), services
        self.run, self.pool = os.path.join(self.root, 'run'), os.path.join(self.root, 'pool')
        self.kubelet, self.fault_dir = os.path.join(self.root, 'kubelet'), os.path.join(self.root, 'fault')
        self.config, self.fault = os.path.join(self.root, 'config.json'), fault
        self.crypt_helper = crypt_helper or os.path.join(self.bin, 'coffer-crypt')
        self.controller_socket = os.path.join(self.run, 'controller/csi.sock')
        self.node_socket, self.admin_socket = os.path.join(self.run, 'csi.sock'), os.path.join(self.run, 'admin.sock')
        self.keyd_socket = os.path.join(self.run, 'keyd/keyd.sock')
        self.controller_flags, self.node_flags, self.node_prefix, self.log_level = [], [], [], 'debug'
        self.made_device_dir = '/dev/coffer'
        self.pool_settings, self.keyd_allow = {}, 'MINT,UNWRAP,DESTROY,STATUS'
        self.keyd = self.controller = self.node = None

    # ---- set-up ----
    def install(self):
        source = os.environ.get('COFFER_BIN') or sys.exit('COFFER_BIN is not set')
        self.make_dir(self.root, 0, 0, 0o755)
        self.make_dir(self.bin, 0, 0, 0o755)
        for name in PROGRAMS:
            shutil.copy(os.path.join(source, name), os.path.join(self.bin, name))
            os.chmod(os.path.join(self.bin, name), 0o755)
        self.make_run()
        self.make_dir(self.pool, UID_CONTROLLER, GID, 0o700)
        self.make_dir(self.kubelet, 0, 0, 0o700)
        self.make_dir(self.fault_dir, 0, 0, 0o777)
        self.write_master_key(os.path.join(self.root, 'master.key'))
        self.write_config()
        self.cofferctl('pool', 'init', 'default', uid=UID_CONTROLLER)

    def make_run(self):
        """What a boot makes anew."""
        self.make_dir(self.run, 0, 0, 0o755)
        self.make_dir(os.path.join(self.run, 'controller'), UID_CONTROLLER, GID, 0o750)
        self.make_dir(os.path.join(self.run, 'keyd'), UID_KEYD, GID, 0o750)

    @staticmethod
    def make_dir(path, uid, gid, mode):
        os.makedirs(path, exist_ok=True)
        os.chown(path, uid, gid)
        os.chmod(path, mode)

    @staticmethod
    def write_master_key(path):
        with open(path, 'wb') as f:
            f.write(os.urandom(32))
        os.chown(path, UID_KEYD, GID)
        os.chmod(path, 0o600)

    def write_config(self, kms=('lab',)):
        names = self.services or {k: {'uri': f'file://{self.root}/{"master" if k == "lab" else k}.key'} for k in kms}
        with open(self.config, 'w', encoding='utf-8') as f:
            json.dump({'pools': {'default': {'backend': 'file', 'path': self.pool, 'kms': list(names), 'allocate': 'full',
                                              **self.pool_settings}},
                       'default_tenant': 'lab', 'kms': names}, f)
        os.chmod(self.config, 0o644)

    def has_file_kms(self):
        return not self.services or any(s['uri'].startswith('file:') for s in self.services.values())

    def start(self):
        self.start_keyd()
        self.start_controller()
        self.start_node()

    def daemon(self, name, args, uid=0, prefix=()):
        env = {'COFFER_FAULT_DIR': self.fault_dir} if self.fault else {}
        argv = [os.path.join(self.bin, name), *args, '--log-level', self.log_level]
        d = Daemon(name, argv, os.path.join(self.root, name + '.log'), uid, GID if uid else 0, env, prefix)
        d.start()
        return d

    def start_keyd(self):
        self.keyd = self.daemon('coffer-keyd', [
            '--config', self.config, '--socket', self.keyd_socket, '--allow', self.keyd_allow,
            *(['--insecure-file-kms'] if self.has_file_kms() else []), '--peer', '0:0', '--peer', f'{UID_CONTROLLER}:{GID}'], UID_KEYD)
        self.wait_socket(self.keyd, self.keyd_socket, socket.SOCK_SEQPACKET)

    def start_controller(self):
        self.controller = self.daemon('coffer-controller', [
            '--config', self.config, '--endpoint', 'unix://' + self.controller_socket, '--keyd-socket', self.keyd_socket,
            '--node-id', 'node-1', '--expand', self.expand, *self.controller_flags], UID_CONTROLLER)
        self.wait_socket(self.controller, self.controller_socket)

    def start_node(self):
        self.node = self.daemon('coffer-node', [
            '--config', self.config, '--endpoint', 'unix://' + self.node_socket,
            '--admin-endpoint', 'unix://' + self.admin_socket, '--keyd-socket', self.keyd_socket,
            '--crypt-helper', self.crypt_helper, '--node-id', 'node-1', '--expand', self.expand, *self.node_flags],
            prefix=self.node_prefix)
        self.wait_socket(self.node, self.node_socket)
        self.wait_socket(self.node, self.admin_socket)

    @staticmethod
    def wait_socket(daemon, path, kind=socket.SOCK_STREAM):
        def ready():
            if not daemon.alive():
                raise RuntimeError(f'{daemon.name} ended ({daemon.process.poll()}): {daemon.log_text()[-2000:]}')
            return connectable(path, kind)
        wait_for(f'{daemon.name} on {path}', ready)

    def stop(self):
        """Those that live end as they should."""
        wrong = []
        for d in (self.node, self.controller, self.keyd):
            if d is not None and d.alive() and (code := d.stop()) != 0:
                wrong.append(f'{d.name}, told to end, ended with {code}: {d.log_text()[-1500:]}')
        if wrong:
            raise RuntimeError('\n'.join(wrong))

    # ---- calls ----
    def call(self, socket_path, method, request, timeout=1800):
        p = subprocess.run([os.path.join(self.bin, 'csi-call'), 'unix://' + socket_path, method, '-', '--timeout',
                            str(timeout)], input=json.dumps(request).encode(), capture_output=True, check=False,
                           timeout=timeout + 60)
        if p.returncode != 0:
            raise CallError(method, p.returncode, p.stderr.decode(errors='replace').strip())
        return json.loads(p.stdout or b'{}')

    def cofferctl(self, *args, uid=0, check=True):
        who = {} if uid == 0 else {'user': uid, 'group': GID, 'extra_groups': []}
        return subprocess.run([os.path.join(self.bin, 'cofferctl'), *args, '--config', self.config], check=check,
                              capture_output=True, text=True, cwd='/', **who)

    @staticmethod
    def capability(block=False, mode='SINGLE_NODE_MULTI_WRITER', flags=(), fs='ext4'):
        access = {'block': {}} if block else {'mount': {'fs_type': fs, 'mount_flags': list(flags)}}
        return {**access, 'access_mode': {'mode': mode}}

    def create(self, name, size=64 * MIB, block=False, fs='ext4', **more):
        volume = self.call(self.controller_socket, 'csi.v1.Controller/CreateVolume', {
            'name': name, 'capacity_range': {'required_bytes': size},
            'volume_capabilities': [self.capability(block, fs=fs)], **more})['volume']
        return {**volume, 'fs': fs}  # for stage() and publish()

    def delete(self, volume_id):
        self.call(self.controller_socket, 'csi.v1.Controller/DeleteVolume', {'volume_id': volume_id})

    def controller_expand(self, volume_id, size):
        return self.call(self.controller_socket, 'csi.v1.Controller/ControllerExpandVolume',
                         {'volume_id': volume_id, 'capacity_range': {'required_bytes': size}})

    def staging(self, volume):
        return os.path.join(self.kubelet, 'stage-' + volume['volume_id'][-12:])

    def target(self, volume, n=0):
        return os.path.join(self.kubelet, f'pod{n}-' + volume['volume_id'][-12:])

    def stage(self, volume, block=False, **capability):
        capability.setdefault('fs', volume.get('fs', 'ext4'))
        os.makedirs(self.staging(volume), exist_ok=True)
        self.call(self.node_socket, 'csi.v1.Node/NodeStageVolume', {
            'volume_id': volume['volume_id'], 'staging_target_path': self.staging(volume),
            'volume_context': volume['volume_context'], 'volume_capability': self.capability(block, **capability)})

    def stage_raw(self, volume, flags, fs_type='ext4'):
        """With mount flags and a file system that no rule of this fixture looked at."""
        self.call(self.node_socket, 'csi.v1.Node/NodeStageVolume', {
            'volume_id': volume['volume_id'], 'staging_target_path': self.staging(volume),
            'volume_context': volume['volume_context'],
            'volume_capability': {'mount': {'fs_type': fs_type, 'mount_flags': flags},
                                  'access_mode': {'mode': 'SINGLE_NODE_MULTI_WRITER'}}})

    def publish(self, volume, n=0, block=False, readonly=False, **capability):
        capability.setdefault('fs', volume.get('fs', 'ext4'))
        self.call(self.node_socket, 'csi.v1.Node/NodePublishVolume', {
            'volume_id': volume['volume_id'], 'staging_target_path': self.staging(volume),
            'target_path': self.target(volume, n), 'volume_context': volume['volume_context'], 'readonly': readonly,
            'volume_capability': self.capability(block, **capability)})

    def unpublish(self, volume, n=0):
        self.call(self.node_socket, 'csi.v1.Node/NodeUnpublishVolume',
                  {'volume_id': volume['volume_id'], 'target_path': self.target(volume, n)})

    def unstage(self, volume):
        self.call(self.node_socket, 'csi.v1.Node/NodeUnstageVolume',
                  {'volume_id': volume['volume_id'], 'staging_target_path': self.staging(volume)})

    def node_expand(self, volume, size, path=None):
        return self.call(self.node_socket, 'csi.v1.Node/NodeExpandVolume', {
            'volume_id': volume['volume_id'], 'volume_path': path or self.target(volume),
            'staging_target_path': self.staging(volume), 'capacity_range': {'required_bytes': size}})

    # ---- what is there ----
    def place(self, volume):
        """The volume's directory in the file pool."""
        part = volume['volume_id'].rsplit('.', 1)[1]
        return os.path.join(self.pool, 'volumes', part[:2], part)

    def image(self, volume):
        return os.path.join(self.place(volume), 'image')

    def record(self, volume):
        with open(os.path.join(self.place(volume), 'record.json'), encoding='utf-8') as f:
            return json.load(f)

    @staticmethod
    def dm_name(volume):
        _, tag, part = volume['volume_id'].rsplit('.', 2)
        return f'coffer-{part}-{tag}'

    def mapping_bytes(self, volume):
        """Size of its live mapping; a file on btrfs doesn't show the device, so this goes by the mapping's name."""
        for path in glob.glob('/sys/block/dm-*'):
            with open(path + '/dm/name', encoding='ascii') as name, open(path + '/size', encoding='ascii') as size:
                if name.read().strip() == self.dm_name(volume):
                    return int(size.read()) * 512
        raise RuntimeError('there is no such mapping')

    @staticmethod
    def mappings():
        out = subprocess.run(['dmsetup', 'ls'], capture_output=True, text=True, check=True).stdout
        return [line.split()[0] for line in out.splitlines() if line.startswith('coffer-')]

    def loops(self):
        out = subprocess.run(['losetup', '--list', '--noheadings', '--output', 'NAME,BACK-FILE'], capture_output=True,
                             text=True, check=True).stdout
        return [line.split()[0] for line in out.splitlines() if self.pool in line]

    def mounts(self):
        with open('/proc/self/mountinfo', encoding='utf-8') as f:
            return [line.split()[4] for line in f if line.split()[4].startswith(self.kubelet)]

    def device_nodes(self):
        try:
            return os.listdir(self.made_device_dir)
        except FileNotFoundError:
            return []

    def left_over(self):
        """What an idle node must not have; {} when clean."""
        found = {'mappings': self.mappings(), 'loops': self.loops(), 'mounts': self.mounts(), 'nodes': self.device_nodes()}
        return {k: v for k, v in found.items() if v}
