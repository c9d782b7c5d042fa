# SPDX-License-Identifier: Apache-2.0
"""The manifests of deploy/ before a real API server: does it take them, what do the service accounts get by them, and are these
rights enough for the real sidecars. For any control plane that has kubectl(), api and write_kubeconfig() (kubecontrol.py)."""
import contextlib
import json
import os
import shutil
import subprocess

from kubeapi import object_path

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
NAMESPACE, CA = 'coffer', '-----BEGIN CERTIFICATE-----\n'
# Account: (verbs, resources) beyond what an account without any binding has; nothing else may be there.
RIGHTS = {
    'coffer-node': {},
    'coffer-controller': {
        'persistentvolumes': 'create delete list patch watch', 'persistentvolumeclaims': 'list update watch',
        'storageclasses.storage.k8s.io': 'list watch', 'events': 'create patch',
        'csistoragecapacities.storage.k8s.io': 'create delete list update watch', 'pods': 'get'},
    'coffer-resizer': {
        'persistentvolumes': 'list patch watch', 'persistentvolumeclaims': 'list watch', 'persistentvolumeclaims/status': 'patch',
        'events': 'create patch'},
}
NEVER = (('get', 'secrets'), ('list', 'secrets'), ('create', 'serviceaccounts/token'), ('create', 'pods'), ('create', 'pods/exec'),
         ('get', 'nodes/proxy'), ('update', 'nodes'), ('impersonate', 'users'), ('escalate', 'clusterroles'))


def overlay(folder):
    """deploy/kustomize/example with its file of certificates filled in, below folder; its path."""
    shutil.copytree(f'{ROOT}/deploy/kustomize', f'{folder}/kustomize', dirs_exist_ok=True)
    with open(f'{folder}/kustomize/example/vault-ca.pem', 'w', encoding='ascii') as f:
        f.write(CA)
    return f'{folder}/kustomize/example'


def account(name):
    return f'system:serviceaccount:{NAMESPACE}:{name}'


def dry_run(control, text):
    """The server's whole answer to an apply that changes nothing, fields that it doesn't know refused; its warnings too."""
    return control.kubectl('apply', '--dry-run=server', '--validate=strict', '-f', '-', data=text)


def rights(control, name, namespace=NAMESPACE):
    """{resource: sorted verbs} of `kubectl auth can-i --list` there, less what any account has."""
    def listed(who):
        lines = control.kubectl('auth', 'can-i', '--list', '-n', namespace, f'--as={account(who)}').splitlines()[1:]
        found = set()
        for line in lines:
            verbs = line[line.rindex('['):].strip('[] ')
            found |= {(line.split()[0], verb) for verb in verbs.split() if not line.startswith(' ')}
        return found
    more = {}
    for resource, verb in listed(name) - listed('nobody'):
        more.setdefault(resource, set()).add(verb)
    return {resource: ' '.join(sorted(verbs)) for resource, verbs in more.items()}


def may(control, name, verb, resource):
    """resource: also `pods/exec`, which kubectl would take for a pod called exec."""
    resource, _, part = resource.partition('/')
    try:
        return control.kubectl('auth', 'can-i', verb, resource, f'--subresource={part}', '-n', NAMESPACE,
                               f'--as={account(name)}').strip() == 'yes'
    except RuntimeError as e:  # exit 1 says no
        if 'no' in str(e).splitlines()[-1] or str(e).endswith(': '):
            return False
        raise


def arguments(control, kind, workload, container):
    """The container's arguments as the API server has them."""
    spec = control.api.get(object_path(kind, workload, NAMESPACE))['spec']['template']['spec']
    return next(c['args'] for c in spec['containers'] if c['name'] == container)


@contextlib.contextmanager
def sidecar(control, kind, workload, name, socket, **environment):
    """The real sidecar as a process here, with the manifest's arguments and its service account's own token. Gives its log's path."""
    who = control.api.get(object_path(kind, workload, NAMESPACE))['spec']['template']['spec']['serviceAccountName']
    control.tokens[who] = control.kubectl('create', 'token', who, '-n', NAMESPACE, '--duration=1h').strip()
    config, log = f'{control.folder}/pki/{who}.kubeconfig', f'{control.folder}/logs/{name}.log'
    control.write_kubeconfig(who, config)
    args = [a for a in arguments(control, kind, workload, name) if not a.startswith('--csi-address')]
    with open(log, 'ab') as out:
        process = subprocess.Popen(['setpriv', '--pdeathsig', 'KILL', f'{control.programs}/{name}', f'--csi-address={socket}',
                                    f'--kubeconfig={config}', *args], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                   env={'PATH': os.defpath, 'NAMESPACE': NAMESPACE, **environment})
    control.processes[name] = process  # looked at by whoever waits
    try:
        yield log
    finally:
        with open(f'/proc/{process.pid}/status', encoding='ascii') as f:
            peak = next((line.split()[1] for line in f if line.startswith('VmHWM')), '?')
        print(f'# {name}: {peak} kB at most', flush=True)
        del control.processes[name]
        process.kill()
        process.wait()


def refusals(log):
    """Lines in which the API server refused something."""
    with open(log, encoding='utf-8') as f:
        return [line for line in f if 'forbidden' in line.lower() or 'cannot ' in line]


def json_of(control, *words):
    return json.loads(control.kubectl(*words, '-o', 'json'))
