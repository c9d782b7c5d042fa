# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes API over one kept connection: get() and wait() for stories. Nothing here sleeps and hopes: wait() looks twenty
times a second until a condition holds, and says at its (generous) limit what it saw last.

    api.wait(object_path('Pod', 'my-database'), lambda o: o['status']['phase'] == 'Running')
"""
import http.client
import json
import ssl
import time

SECONDS = 600  # what takes 5 s on a quiet machine
KINDS = {  # kind: (group and version, plural, in a namespace)
    'Pod': ('api/v1', 'pods', True),
    'PersistentVolumeClaim': ('api/v1', 'persistentvolumeclaims', True),
    'PersistentVolume': ('api/v1', 'persistentvolumes', False),
    'ServiceAccount': ('api/v1', 'serviceaccounts', True),
    'Namespace': ('api/v1', 'namespaces', False),
    'Node': ('api/v1', 'nodes', False),
    'Secret': ('api/v1', 'secrets', True),
    'Service': ('api/v1', 'services', True),
    'Ingress': ('apis/networking.k8s.io/v1', 'ingresses', True),
    'Event': ('api/v1', 'events', True),
    'DaemonSet': ('apis/apps/v1', 'daemonsets', True),
    'Deployment': ('apis/apps/v1', 'deployments', True),
    'Job': ('apis/batch/v1', 'jobs', True),
    'CronJob': ('apis/batch/v1', 'cronjobs', True),
    'CSINode': ('apis/storage.k8s.io/v1', 'csinodes', False),
    'CSIDriver': ('apis/storage.k8s.io/v1', 'csidrivers', False),
    'CSIStorageCapacity': ('apis/storage.k8s.io/v1', 'csistoragecapacities', True),
}


class ApiError(Exception):
    """The server refused: .status, and its own sentence."""

    def __init__(self, method, path, status, text):
        self.status = status
        super().__init__(f'{method} {path}: {status} {text}')


class Broken(Exception):
    """Something the cluster consists of has ended."""


def object_path(kind, name='', namespace='default'):
    group, plural, inside = KINDS[kind]
    parts = (group, f'namespaces/{namespace}' if inside else '', plural, name)
    return '/' + '/'.join(filter(None, parts))


class Api:
    def __init__(self, host, port, ca, token, alive):
        """alive: called while waiting; raises Broken."""
        self.host, self.port, self.token, self.alive = host, port, token, alive
        self.context = ssl.create_default_context(cafile=ca)
        self.connection = None

    def request(self, method, path, body=None, content='application/json'):
        """(status, object, or text when it is no JSON). OSError and http.client's errors when there was no answer; a connection that the
        server closed for its idleness is none that was asked."""
        if self.connection and method == 'GET':
            try:
                return self.ask(method, path, body, content)
            except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
                pass
        return self.ask(method, path, body, content)

    def ask(self, method, path, body, content):
        headers = {'Authorization': f'Bearer {self.token}', 'Content-Type': content}
        data = None if body is None else json.dumps(body).encode()
        try:
            if not self.connection:
                self.connection = http.client.HTTPSConnection(self.host, self.port, context=self.context, timeout=60)
            self.connection.request(method, path, data, headers)
            answer = self.connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException):
            self.connection = None
            raise
        is_json = answer.headers.get('Content-Type', '').startswith('application/json')
        return answer.status, json.loads(text) if is_json else text

    def call(self, method, path, body=None, content='application/json'):
        status, said = self.request(method, path, body, content)
        if status >= 300:
            raise ApiError(method, path, status, said.get('message', '') if isinstance(said, dict) else said)
        return said

    def get(self, path):
        """The object; None when there is none."""
        try:
            return self.call('GET', path)
        except ApiError as e:
            if e.status == 404:
                return None
            raise

    def items(self, kind, namespace='default'):
        return self.call('GET', object_path(kind, '', namespace))['items']

    def patch(self, kind, name, changes, namespace='default'):
        return self.call('PATCH', object_path(kind, name, namespace), changes, 'application/merge-patch+json')

    def wait(self, path, condition, seconds=SECONDS, pause=0.05):
        """Until condition(the object, or None) holds, and gives the object; what isn't there yet in it counts as no.
        pause: between two looks; a list of many objects isn't worth twenty a second."""
        end, seen = time.monotonic() + seconds, 'nothing'
        while time.monotonic() < end:
            self.alive()
            try:
                seen = self.get(path)
                if condition(seen):
                    return seen
            except (KeyError, TypeError, IndexError):
                pass
            except (OSError, http.client.HTTPException, ApiError) as e:
                seen = str(e)
            time.sleep(pause)
        raise TimeoutError(f'{path}: not within {seconds} s; last seen: {json.dumps(seen)[:3000]}')

    def wait_gone(self, kind, name, namespace='default', seconds=SECONDS):
        self.wait(object_path(kind, name, namespace), lambda o: o is None, seconds)

    def delete_all(self, kind, namespace):
        """Asks for all of a namespace in one request."""
        self.call('DELETE', object_path(kind, '', namespace))

    def delete(self, kind, name, namespace='default'):
        """Asks for it; wait_gone() waits. What isn't there is deleted."""
        status, said = self.request('DELETE', object_path(kind, name, namespace))
        if status not in (200, 202, 404):
            raise ApiError('DELETE', name, status, said)
