# SPDX-License-Identifier: Apache-2.0
"""Claims and pods for the API server, as text for `apply`: join several by '---'.

    c.apply(f'{claim("data")}---{database("data")}')          a pod that writes a record a second, its claim of the same name
    c.apply(busybox('reader', of_claim('data', read_only=True)))     one that only waits, for `kubectl exec`

The pod's volume is called v; what it is comes as a line: of_claim(NAME), or any other source."""

CLAIM = '''
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}}}
spec:
  accessModes: [{access}]
  volumeMode: {mode}
  resources: {{requests: {{storage: {size}}}}}
  storageClassName: {storage_class}
'''
POD = '''
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: {grace}
  nodeSelector: {selector}
  containers:
  - name: {container}
    image: {image}
    {uses}
  volumes:
  - name: v
    {volume}
'''
FILES, BLOCK = 'volumeMounts: [{name: v, mountPath: /data}]', 'volumeDevices: [{name: v, devicePath: /dev/volume}]'
DATABASE = 'volumeMounts: [{name: v, mountPath: /var/lib/postgresql/data}]'
# each ends at once when it is told to; the second runs no process a second
WAITS, SLEEPS = ('trap exit TERM; while :; do sleep 1; done', 'trap exit TERM; sleep 100000 & wait')


def claim(name, access='ReadWriteOnce', mode='Filesystem', storage_class='encrypted', size='64Mi'):
    return CLAIM.format(name=name, access=access, mode=mode, storage_class=storage_class, size=size)


def of_claim(name, read_only=False):
    return f'persistentVolumeClaim: {{claimName: {name}, readOnly: {str(read_only).lower()}}}'


def database(name, of=None, node=None, grace=5):
    """of: the claim, when it hasn't the pod's name."""
    return POD.format(name=name, grace=grace, selector=f'{{kubernetes.io/hostname: {node}}}' if node else '{}', container='database',
                      image='localhost/my-database:1', uses=DATABASE, volume=of_claim(of or name))


def busybox(name, volume, uses=FILES, command=WAITS):
    return POD.format(name=name, grace=2, selector='{}', container='c', image='localhost/busybox:1',
                      uses=f'command: [sh, -c, "{command}"]\n    {uses}', volume=volume)
