#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The pods of deploy/kustomize with real processes: each container's command line, user, groups, capabilities and mounts are
taken from the manifest and made with namespaces, as a container runtime would, but for seccomp and the network. What is shown:
the daemons live with a read-only root and no capability, reach coffer-keyd's socket across users, and nobody else does. Keys come
from a file. TAP on stdout; root, for mounts and users."""
import contextlib
import json
import os
import shutil
import subprocess
import sys

import caselib
import deploylib
import imagelib
from caselib import Skip, program, wait_for

SYSTEM = ('usr', 'bin', 'sbin', 'lib', 'lib64', 'proc', 'sys', 'dev')
FIELDS = {'spec.nodeName': 'node-1', 'metadata.namespace': 'coffer', 'metadata.name': 'pod-1'}
POOL, KEY = '/var/lib/coffer/default', '/etc/coffer/master.key'
CONFIG = {'pools': {'default': caselib.file_pool(POOL, 'lab')}, 'default_tenant': 'lab', 'kms': {'lab': {'uri': 'file://' + KEY}}}


def mount(*words):
    caselib.run(['mount', *words])


class Host:
    """A node's folders, and the volumes of its pods. Everything lies below one folder, in a mount namespace of our own."""

    def __init__(self, root):
        self.root, self.processes = root, {}
        mount('-t', 'tmpfs', '-o', 'mode=755', 'host', root)
        for path in ('/var/lib/kubelet/plugins', '/var/lib/kubelet/pods', '/var/lib/kubelet/plugins_registry', '/run', '/programs'):
            os.makedirs(root + '/host' + path)
        caselib.write_key(f'{root}/master.key')
        for name in ('coffer-node', 'coffer-controller', 'coffer-keyd', 'coffer-crypt', 'cofferctl', 'csi-call'):
            shutil.copy(program(name), f'{root}/host/programs/{name}')

    def at(self, path):
        return f'{self.root}/host{path}'

    def log(self, name):
        return f'{self.root}/{name}.log'

    def projected(self, path, files, mode, group):
        """As kubelet makes them: links to files below a folder that is replaced at once."""
        os.makedirs(f'{path}/..1')
        os.symlink('..1', f'{path}/..data')
        for name, text in files.items():
            caselib.write(f'{path}/..1/{name}', text, mode)
            os.chown(f'{path}/..1/{name}', 0, group)
            os.symlink(f'..data/{name}', f'{path}/{name}')

    def volume(self, workload, pod, volume):
        """Its source on the host, made when it isn't there."""
        path, group = f'{self.root}/volumes/{workload}/{volume["name"]}', pod['securityContext'].get('fsGroup', 0)
        if 'hostPath' in volume:
            path = self.at(volume['hostPath']['path']) if volume['hostPath']['path'] != '/dev' else '/dev'
            if volume['hostPath']['type'] == 'DirectoryOrCreate':
                os.makedirs(path, exist_ok=True)
            assert os.path.isdir(path), f'{path} must be there'
        elif os.path.exists(path):
            pass
        elif 'emptyDir' in volume:
            os.makedirs(path)
            os.chown(path, 0, group)
            os.chmod(path, 0o2777)
        elif volume['name'] == 'config':
            self.projected(path, {'config.json': CONFIG, 'vault-ca.pem': ''}, 0o644, group)
            shutil.copy(f'{self.root}/master.key', path)
            os.chown(f'{path}/master.key', 65532, 65532)
        else:
            self.projected(path, {'token': 'played'}, volume['projected'].get('defaultMode', 0o644), group)
        return path

    def container(self, workload, pod, c):
        """Its root: the system's programs, its volumes, nothing that can be written but where the manifest says so."""
        root = f'{self.root}/roots/{workload}/{c["name"]}'
        if os.path.isdir(root):
            return root
        os.makedirs(root)
        mount('-t', 'tmpfs', '-o', 'mode=755', 'root', root)
        os.makedirs(f'{root}/etc')
        os.makedirs(f'{root}/programs')
        for name in SYSTEM:
            if os.path.islink(f'/{name}'):
                os.symlink(os.readlink(f'/{name}'), f'{root}/{name}')
            elif os.path.isdir(f'/{name}'):
                os.mkdir(f'{root}/{name}')
                mount('--rbind', f'/{name}', f'{root}/{name}')
        mount('--bind', self.at('/programs'), f'{root}/programs')
        for target in sorted((m['mountPath'] for m in c['volumeMounts']), key=len):
            os.makedirs(root + target.replace('/var/run', '/run'), exist_ok=True)
        self.mount_volumes(root, workload, pod, c)
        assert c['securityContext']['readOnlyRootFilesystem']
        mount('-o', 'remount,bind,ro', root)
        return root

    def mount_volumes(self, root, workload, pod, c):
        sources = {v['name']: v for v in pod['volumes']}
        for m in sorted(c['volumeMounts'], key=lambda m: len(m['mountPath'])):
            target = root + m['mountPath'].replace('/var/run', '/run')
            if m['mountPath'] == '/dev':
                continue
            os.makedirs(target, exist_ok=True)
            mount('--bind', self.volume(workload, pod, sources[m['name']]), target)
            if m.get('readOnly'):
                mount('-o', 'remount,bind,ro', target)

    def command(self, workload, pod, c, argv):
        """argv as that container's user, in its root."""
        security, groups = c['securityContext'], str(pod['securityContext']['fsGroup'])
        confine = [] if security.get('privileged') else ['--no-new-privs', '--bounding-set=-all', '--inh-caps=-all']
        environment = {e['name']: e.get('value') or FIELDS[e['valueFrom']['fieldRef']['fieldPath']] for e in c.get('env', [])}
        return ['env', '-i', 'PATH=/programs:/usr/sbin:/usr/bin', *(f'{k}={v}' for k, v in environment.items()),
                'chroot', self.container(workload, pod, c), 'setpriv', f'--reuid={security["runAsUser"]}',
                f'--regid={security["runAsGroup"]}', f'--groups={groups}', *confine, '--', *argv]

    def start(self, workload, name, ready):
        pod, c = find(workload, name)
        argv = arguments(c) + (['--insecure-file-kms'] if name == 'coffer-keyd' else [])
        log = self.log(f'{workload}-{name}')
        # a pod has its ports to itself
        p = caselib.spawn(['unshare', '--net', *self.command(workload, pod, c, argv)], log)
        self.processes[workload, name] = p
        wait_for(lambda: ready in caselib.read(log), f'{ready!r} of {name} in {workload}', p, log)
        return p

    def run(self, workload, name, *argv, code=0):
        pod, c = find(workload, name)
        return caselib.run(self.command(workload, pod, c, argv), code)

    def close(self):
        for p in self.processes.values():
            caselib.end(p)
        # what was mounted goes with the namespace; the folder itself is on the real /tmp
        caselib.run(['umount', '-R', '-l', self.root])


def find(workload, name):
    for found, pod in deploylib.pods(deploylib.base_objects()):
        if found == workload:
            return pod, next(c for c in pod['containers'] if c['name'] == name)
    raise AssertionError(f'no {name} in {workload}')


def arguments(c):
    """The command line of the manifest."""
    return c['command'] + [a.replace('$(NODE_NAME)', 'node-1') for a in c['args']]


@contextlib.contextmanager
def host():
    if os.geteuid() != 0:
        raise Skip('needs root: mounts, and processes of other users')
    deploylib.need_yaml()
    if caselib.sanitized('coffer-keyd'):
        raise Skip('a sanitizer wants a /proc and memory of its own')
    with caselib.folder('coffer-pods-') as root, contextlib.closing(Host(root)) as made:
        made.start('coffer-controller', 'coffer-keyd', 'coffer-keyd is ready')
        made.start('coffer-controller', 'coffer-controller', 'coffer-controller serves')
        made.start('coffer-node', 'coffer-keyd', 'coffer-keyd is ready')
        made.start('coffer-node', 'coffer-node', 'coffer-node serves')
        yield made


def pool_init(h):
    h.run('coffer-node', 'coffer-node', 'cofferctl', 'pool', 'init', 'default', '--owner', '65533:65532')


def create(h, code=0):
    request = {'name': 'pvc-1', 'capacity_range': {'required_bytes': 8 << 20},
               'volume_capabilities': [{'mount': {'fs_type': 'ext4'}, 'access_mode': {'mode': 'SINGLE_NODE_WRITER'}}],
               'parameters': {'csi.storage.k8s.io/pvc/namespace': 'team-a', 'csi.storage.k8s.io/pvc/name': 'my-claim',
                              'csi.storage.k8s.io/pv/name': 'pvc-1'}}
    return h.run('coffer-controller', 'csi-provisioner', 'csi-call', 'unix:///run/csi/csi.sock', 'CreateVolume',
                 json.dumps(request), code=code)


def a_volume_is_made_and_deleted(h):
    """The provisioner's user calls, coffer-controller's writes the pool, its coffer-keyd mints: three containers, no capability."""
    assert 'UNAVAILABLE' in create(h, None).stderr, 'no pool is there yet, and none is made by itself'
    pool_init(h)
    volume = json.loads(create(h).stdout)['volume']
    assert volume['accessible_topology'][0]['segments'] == {'topology.csi.coffer.dev/node': 'node-1'}, volume
    assert volume['volume_context']['tenant'] == 'team-a', volume
    image = next(os.path.join(folder, 'image') for folder, _, files in os.walk(h.at(POOL)) if 'image' in files)
    assert (os.stat(image).st_uid, os.stat(image).st_gid, os.stat(image).st_mode & 0o777) == (65533, 65532, 0o600)
    listed = h.run('coffer-node', 'coffer-node', 'cofferctl', 'volume', 'list', '--output', 'json')
    assert json.loads(listed.stdout)[0]['id'] == volume['volume_id'], listed
    h.run('coffer-controller', 'csi-provisioner', 'csi-call', 'unix:///run/csi/csi.sock', 'DeleteVolume',
          json.dumps({'volume_id': volume['volume_id']}))
    assert not os.path.exists(image)


def keyd_answers_its_own_peer_alone(h):
    """STATUS through each pod's own socket; the other pod's users are refused by the kernel's word for who they are."""
    for workload, name in (('coffer-node', 'coffer-node'), ('coffer-controller', 'coffer-controller')):
        said = h.run(workload, name, 'cofferctl', 'doctor', '--only', 'coffer-keyd', '--output', 'json', code=None).stdout
        assert json.loads(said)[0]['state'] == 'OK', (workload, said)
    log = h.log('coffer-controller-coffer-keyd')
    before = caselib.read(log).count('refused')
    pod, c = find('coffer-controller', 'coffer-controller')
    as_root = json.loads(json.dumps(c))
    as_root['securityContext'].update(runAsUser=0, runAsGroup=0, privileged=True)
    done = subprocess.run(h.command('coffer-controller', pod, as_root, ['cofferctl', 'doctor', '--only', 'coffer-keyd']),
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and caselib.read(log).count('refused') == before + 1, (done, caselib.read(log))


def others_reach_no_socket(h):
    """A process of another user that were in the pod: neither coffer-keyd nor coffer-controller."""
    pod, c = find('coffer-controller', 'coffer-controller')
    foreign = json.loads(json.dumps(c))
    foreign['securityContext'].update(runAsUser=4000, runAsGroup=4000)
    alone = dict(pod, securityContext={'fsGroup': 4000})
    for argv, word in ((['cofferctl', 'doctor', '--only', 'coffer-keyd'], 'Permission denied'),
                       (['csi-call', 'unix:///run/csi/csi.sock', 'Probe', '{}', '--timeout', '2'], 'UNAVAILABLE')):
        done = subprocess.run(h.command('coffer-controller', alone, foreign, argv), capture_output=True, text=True, check=False)
        assert word in done.stdout + done.stderr, (argv, done)


def clients_can_not_take_the_socket_away(h):
    for workload in ('coffer-node', 'coffer-controller'):
        done = h.run(workload, workload, 'rm', '/run/coffer/keyd/keyd.sock', code=None)
        assert done.returncode != 0 and 'Read-only' in done.stderr, done


def keyd_reads_its_login(h):
    """0440 and its group, behind kubelet's links; coffer-node and coffer-controller don't have it at all."""
    for workload in ('coffer-node', 'coffer-controller'):
        assert h.run(workload, 'coffer-keyd', 'cat', '/run/secrets/vault/token').stdout == 'played'
        assert h.run(workload, workload, 'cat', '/run/secrets/vault/token', code=None).returncode != 0


def a_restart_finds_its_sockets_old(h):
    """A killed container leaves its socket and lock in the pod's folder."""
    for workload, name, ready in (('coffer-controller', 'coffer-keyd', 'coffer-keyd is ready'),
                                  ('coffer-controller', 'coffer-controller', 'coffer-controller serves'),
                                  ('coffer-node', 'coffer-node', 'coffer-node serves')):
        caselib.end(h.processes[workload, name])
        os.truncate(h.log(f'{workload}-{name}'), 0)
        h.start(workload, name, ready)
    pool_init(h)
    create(h)


def a_wrong_configuration_is_one_sentence(h):
    pod, c = find('coffer-node', 'coffer-node')
    wrong = json.loads(json.dumps(CONFIG))
    wrong['pools']['default']['colour'] = 'red'
    caselib.write(f'{h.root}/volumes/coffer-node/config/..1/config.json', wrong)
    done = caselib.run(h.command('coffer-node', pod, c, arguments(c)), 2)
    assert done.stderr.count('\n') == 1 and "pool 'default': unknown field 'colour'" in done.stderr, done


if __name__ == '__main__':
    if os.geteuid() == 0 and imagelib.why_not():
        print(f'1..1\nok 1 - pods # SKIP {imagelib.why_not()}')
        sys.exit(0)
    if os.geteuid() == 0 and os.environ.get('COFFER_UNSHARED') != 'yes':
        os.execvpe('unshare', ['unshare', '--mount', '--propagation', 'private', sys.executable, *sys.argv],
                   dict(os.environ, COFFER_UNSHARED='yes'))
    sys.exit(caselib.main([a_volume_is_made_and_deleted, keyd_answers_its_own_peer_alone, others_reach_no_socket,
                           clients_can_not_take_the_socket_away, keyd_reads_its_login, a_restart_finds_its_sockets_old,
                           a_wrong_configuration_is_one_sentence], host))
