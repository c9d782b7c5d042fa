#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kubernetes-rig: what the cluster of the Kubernetes stories promises: from nothing to a Ready node and a running pod on real
components, hostPath, logs and exec, a pod's network and its way to the API, deletion, a power cut, dry runs."""
# story: where=nodes needs=kubernetes
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import kubecluster  # noqa: E402
from kubeapi import object_path  # noqa: E402
from tap import begin, demand  # noqa: E402

POD = '''
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: my-database
    image: localhost/my-database:1
    env: [{name: PGDATA, value: /data}]
    volumeMounts: [{name: data, mountPath: /data}]
  - name: shell
    image: localhost/busybox:1
    command: [sh, -c, "trap exit TERM; while :; do sleep 1; done"]
  volumes: [{name: data, hostPath: {path: /var/lib/coffer/rig, type: DirectoryOrCreate}}]
'''
WRONG = '''
apiVersion: v1
kind: Pod
metadata: {name: wrong}
spec: {containers: [{name: c, image: "localhost/busybox:1", imagePullPolice: Never}]}
'''


def versions(c):
    node = c.api.get(object_path('Node', 'n1'))['status']['nodeInfo']
    print('# kubelet {kubeletVersion}, {containerRuntimeVersion}, kernel {kernelVersion}'.format(**node), flush=True)
    demand(c.kubectl('version').count(node['kubeletVersion']) == 2, c.kubectl('version'))  # client, server
    demand('crypt' in c.nodes[0].run('modprobe dm_crypt; dmsetup targets'), 'no dm-crypt in the node')


def keeps_time(c):
    """A template that was saved with a wrong idea of the processor's counter makes hours of minutes."""
    inside, outside = float(c.nodes[0].run('cut -d" " -f1 /proc/uptime')), time.monotonic()
    time.sleep(5)
    inside, outside = float(c.nodes[0].run('cut -d" " -f1 /proc/uptime')) - inside, time.monotonic() - outside
    print(f'# {outside:.1f} s here, {inside:.1f} s in the node', flush=True)
    demand(outside / 2 < inside < outside * 2, 'the clocks disagree')


def pod_runs(c):
    with c.times.of('pod runs'):
        c.apply(POD.replace('NAME', 'one'))
        c.wait_pod('one')
    c.kubectl('exec', 'one', '-c', 'my-database', '--', 'my-database', 'put', 'written by exec')
    listed = c.kubectl('exec', 'one', '-c', 'my-database', '--', 'my-database', 'list')
    demand('written by exec' in listed, listed)
    demand('my-database: found 0 records' in c.kubectl('logs', 'one', '-c', 'my-database'), 'kubectl logs')
    demand('written by exec' in c.nodes[0].run('cat /var/lib/coffer/rig/records'), 'the node sees what the pod wrote')


def reaches_api(c):
    """By the service's address and with the token of its own account, as in any cluster."""
    script = ('T=/var/run/secrets/kubernetes.io/serviceaccount; test -s $T/token -a -s $T/ca.crt && '
              'nc -w 20 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT </dev/null && echo reached')
    said = c.kubectl('exec', 'one', '-c', 'shell', '--', 'sh', '-c', script)
    demand('reached' in said, said)


def tokens_for_vault(c):
    token = c.kubectl('create', 'token', 'default', '--audience', 'vault').strip()
    review = c.api.call('POST', '/apis/authentication.k8s.io/v1/tokenreviews', {
        'apiVersion': 'authentication.k8s.io/v1', 'kind': 'TokenReview', 'spec': {'token': token, 'audiences': ['vault']}})
    demand(review['status']['user']['username'] == 'system:serviceaccount:default:default', review['status'])


def pod_goes(c):
    with c.times.of('pod deleted'):
        c.delete('Pod', 'one')
    with c.times.of('pod made again'):
        c.apply(POD.replace('NAME', 'two'))
        c.wait_pod('two')
    listed = c.kubectl('exec', 'two', '-c', 'my-database', '--', 'my-database', 'list')
    demand('written by exec' in listed, listed)


def power_cut(c):
    before = c.api.get(object_path('Pod', 'two'))
    acknowledged = c.kubectl('logs', 'two', '-c', 'my-database').count('wrote')
    with c.times.of('power cut, until the pod runs again'):
        c.nodes[0].power_off()
        c.nodes[0].start()
        c.nodes[0].wait_up()
        c.api.wait(object_path('Pod', 'two'), lambda o: o['metadata']['uid'] == before['metadata']['uid'] and all(
            s['ready'] and s['restartCount'] > 0 for s in o['status']['containerStatuses']))
    c.wait_node('n1')
    listed = c.nodes[0].run('cat /var/lib/coffer/rig/records').splitlines()
    demand(len(listed) > acknowledged, f'{acknowledged} records were acknowledged, {len(listed)} are there')


def dry_run(c):
    demand('pod/one created (server dry run)' in c.dry_run('-f', '-', data=POD.replace('NAME', 'one')), 'dry run')
    demand(c.api.get(object_path('Pod', 'one')) is None, 'a dry run makes nothing')
    try:
        c.dry_run('-f', '-', data=WRONG)
    except RuntimeError as e:
        demand('imagePullPolice' in str(e), str(e))
    else:
        raise RuntimeError('a wrong field was taken')


TESTS = (
    ('the node is Ready, with the versions that are pinned and with dm-crypt', versions),
    ('its clock runs as ours does', keeps_time),
    ('a pod runs, writes to the host, answers kubectl exec and logs', pod_runs),
    ('a pod reaches the API server', reaches_api),
    ('a service account gets a token for Vault, and the API server vouches for it', tokens_for_vault),
    ('the pod is deleted; the next one finds the data', pod_goes),
    ('after a power cut the node comes back and the pod runs on what was acknowledged', power_cut),
    ('manifests are tried with --dry-run=server', dry_run),
)


def main():
    tap = begin('kubernetes-rig', kubecluster.why_not())
    kubecluster.enter()
    with kubecluster.cluster('kubernetes-rig') as c:
        for name, test in TESTS:
            tap.run(name, test, c)
    tap.done()


main()
