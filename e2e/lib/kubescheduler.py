# SPDX-License-Identifier: Apache-2.0
"""coffer-scheduler on a cluster for tests, installed as docs/kubernetes.md tells an administrator: the components client-keys and
scheduler, the clouds' namespace, and the sample VM as an image made from files of this machine.

    with kubecluster.cluster('x', images=[kubecoffer.image(), kubescheduler.vm_image(folder)]) as c, kubescheduler.Coffer(c) as coffer:
        coffer.install()
        api = coffer.scheduler()                 # clouddevice.Api
        coffer.ask('GET', url)                   # what a user's URL answers, by its Ingress
        print(coffer.explain())                  # after a failure: what is where, and what the programs said last

There is no Ingress controller and no kube-proxy here: ask() reads the Ingress objects as ingress-nginx does, and goes to the pod."""
import glob
import http.client
import json
import os
import re
import shutil
import subprocess
import urllib.parse

import kubecoffer
import kubenet
from clouddevice import Api
from kubeapi import object_path
from kubeimages import Image, write_image
from testpki import Authority

ROOT, CLOUDS, HOST, VM = kubecoffer.ROOT, 'clouds', 'clouds.example', 'localhost/vm:1'
PORT, ARGUMENT = 8443, '/spec/template/spec/containers/0/args/6'
LAST_LINES, LAST_WIDTH = 25, 600  # of each container's log, when a test failed
# Debian's node has parts of its library outside the program
OUTSIDE = '/usr/share/nodejs/*/*.js /usr/share/nodejs/*/dist/*.js /usr/share/nodejs/*/package.json'


def vm_image(folder):
    """The sample VM with this machine's Node.js and the libraries it wants."""
    node = os.path.realpath(shutil.which('node'))
    linked = subprocess.run(['ldd', node], capture_output=True, text=True, check=True).stdout
    libraries = {path for path in re.findall(r'(/\S+) \(0x', linked)}
    files = {'bin/node': node, **{path.lstrip('/'): os.path.realpath(path) for path in libraries},
             **{f'vm/{os.path.basename(path)}': path for path in glob.glob(f'{ROOT}/vm/*.mjs')},
             **{path.lstrip('/'): path for pattern in OUTSIDE.split() for path in glob.glob(pattern)}}
    return write_image(f'{folder}/vm.tar', Image(VM, ['/bin/node'], files))


def scheduler_json():
    return {'driver': 'kubernetes', 'url': f'https://{HOST}/clouds/', 'tenant': CLOUDS, 'size': 256 << 20,
            'vm': {'memory': 192 << 20, 'ready_seconds': 600},
            'kubernetes': {'api': 'https://kubernetes.default.svc', 'ca': '/run/secrets/api/ca.crt', 'token_path': '/run/secrets/api/token',
                           'namespace': CLOUDS, 'driver_namespace': kubecoffer.NAMESPACE, 'storage_class': 'encrypted-client',
                           'image': VM, 'command': ['/bin/node', '/vm/server.mjs'], 'ingress_host': HOST, 'ingress_class': 'nginx'}}


class Coffer(kubecoffer.Coffer):
    def write_files(self):
        """The overlay of kubecoffer.py, with what an administrator adds for the scheduler."""
        super().write_files()
        config = kubecoffer.configuration()
        config['kms']['vault']['server_key'] = 'coffer-s-1'
        authority = Authority(f'{self.folder}/pki')
        # a pod's address isn't known before, and there are no names here
        addresses = [f'IP:{kubenet.pod_network(1).rpartition(".")[0]}.{n}' for n in range(2, 100)]
        certificate, key = authority.issue('scheduler', names=addresses)
        self.ca = authority.certificate
        # no name server either
        scheduler = scheduler_json()
        scheduler['kubernetes']['api'] = f'https://{kubenet.SERVICE}'
        overlay = f'{self.folder}/overlay'
        for source, name in ((certificate, 'tls.crt'), (key, 'tls.key')):
            shutil.copy(source, f'{overlay}/{name}')
        with open(f'{overlay}/kustomization.yaml', encoding='ascii') as f:
            kustomization = json.load(f)
        base = kustomization['components'][0].rpartition('/')[0]
        kustomization['components'] += [f'{base}/client-keys', f'{base}/scheduler']
        # a request that waits for an operation does so for as long as that takes on a busy machine
        kustomization['patches'] = [{'target': {'kind': 'Deployment', 'name': 'coffer-scheduler'}, 'patch': json.dumps([
            {'op': 'test', 'path': ARGUMENT, 'value': '--request-seconds=60'},
            {'op': 'replace', 'path': ARGUMENT, 'value': '--request-seconds=900'}])}]
        kustomization['configMapGenerator'].append({'name': 'coffer-scheduler', 'files': ['scheduler.json']})
        kustomization['secretGenerator'] = [{'name': 'coffer-scheduler-tls', 'type': 'kubernetes.io/tls', 'files': ['tls.crt', 'tls.key']}]
        for name, what in (('kustomization.yaml', kustomization), ('config.json', config), ('scheduler.json', scheduler)):
            with open(f'{overlay}/{name}', 'w', encoding='ascii') as f:
                json.dump(what, f, indent=1)

    def install(self):
        super().install()
        self.c.kubectl('apply', '-k', f'{ROOT}/deploy/kustomize/clouds')
        self.c.api.wait(object_path('Deployment', 'coffer-scheduler', kubecoffer.NAMESPACE),
                        lambda o: o['status'].get('readyReplicas') == 1)

    # ---- what users see

    def pod_address(self, selector, namespace):
        """Of the one pod that is ready."""
        def ready(listed):
            return [p for p in listed['items'] if any(c['type'] == 'Ready' and c['status'] == 'True' for c in p['status']['conditions'])]
        wanted = urllib.parse.quote(','.join(f'{k}={v}' for k, v in selector.items()))
        listed = self.c.api.wait(f'{object_path("Pod", "", namespace)}?labelSelector={wanted}', ready)
        return ready(listed)[0]['status']['podIP']

    def scheduler(self):
        address = self.pod_address({'app.kubernetes.io/component': 'scheduler'}, kubecoffer.NAMESPACE)
        return Api(f'https://{address}:{PORT}', self.ca)

    def route(self, url):
        """(the pod's address, the path that it gets) by the Ingress object whose rule it is."""
        parts = urllib.parse.urlsplit(url)
        for ingress in self.c.api.items('Ingress', CLOUDS):
            rule = ingress['spec']['rules'][0]
            path = rule['http']['paths'][0]
            match = re.fullmatch(path['path'], parts.path)
            if rule['host'] != parts.hostname or not match:
                continue
            rewrite = ingress['metadata']['annotations']['nginx.ingress.kubernetes.io/rewrite-target']
            service = self.c.api.get(object_path('Service', path['backend']['service']['name'], CLOUDS))
            query = f'?{parts.query}' if parts.query else ''
            return self.pod_address(service['spec']['selector'], CLOUDS), rewrite.replace('$1', match.group(1)) + query
        raise RuntimeError(f'no Ingress for {url}')

    def ask(self, method, url, body=None):
        """(status, JSON) of what a browser would get there."""
        address, path = self.route(url)
        connection = http.client.HTTPConnection(address, 8080, timeout=600)
        connection.request(method, path, None if body is None else json.dumps(body), {'Content-Type': 'application/json'})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text)

    # ---- after a failure

    def states(self):
        """Pods and claims of the clouds: where they are, and what keeps them there."""
        for pod in self.c.api.items('Pod', CLOUDS):
            status = pod['status']
            yield f'pod {pod["metadata"]["name"]} {status.get("phase")}{" is being deleted" * ("deletionTimestamp" in pod["metadata"])}'
            yield '  ' + ', '.join(f'{c["type"]}={c["status"]} {c.get("message", "")}'.strip() for c in status.get('conditions') or [])
            yield from (f'  {s["name"]}: {json.dumps(s["state"])}' for s in status.get('containerStatuses') or [])
        for claim in self.c.api.items('PersistentVolumeClaim', CLOUDS):
            notes = {k: v for k, v in claim['metadata'].get('annotations', {}).items() if not k.endswith('/devices')}
            yield f'claim {claim["metadata"]["name"]} {claim["status"].get("phase")} {json.dumps(notes)}'

    def events(self):
        for event in sorted(self.c.api.items('Event', CLOUDS), key=lambda e: e.get('lastTimestamp') or e['metadata']['creationTimestamp']):
            of = event['involvedObject']
            yield f'{of["kind"]} {of["name"]} {event.get("reason")} x{event.get("count") or 1}: {event.get("message", "")}'

    def last_words(self):
        """Of each container that has a part in a cloud; from its node's disk, where they are also when its pod is gone."""
        for name, pods, container in (('coffer-scheduler', 'coffer-scheduler', 'coffer-scheduler'),
                                      ('its coffer-keyd', 'coffer-scheduler', 'coffer-keyd'),
                                      ('coffer-node', 'coffer-node', 'coffer-node'), ('its coffer-keyd', 'coffer-node', 'coffer-keyd'),
                                      ('csi-provisioner', 'coffer-controller', 'csi-provisioner')):
            for node in self.c.nodes:
                said = node.run(f'cat $(ls -tr /var/log/pods/{kubecoffer.NAMESPACE}_{pods}-*/{container}/*.log) | tail -n {LAST_LINES}',
                                check=False)[1]
                yield f'{name} on {node.name}:'
                yield from (f'  {line}' for line in said.splitlines())

    def explain(self):
        """As comment lines; what can't be had is named, not raised."""
        lines = []
        for what in (self.states, self.events, self.last_words):
            try:
                lines += [f'--- {what.__name__.replace("_", " ")}', *what()]
            except Exception as e:  # pylint: disable=broad-except
                lines.append(f'{what.__name__} can\'t be told: {e}')
        return '\n'.join(f'# {line[:LAST_WIDTH]}' for line in lines)
