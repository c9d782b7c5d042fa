#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-scheduler when steps fail: what find says, and what is left. Stub driver. TAP on stdout, no root."""
import os
import sys

import caselib
from schedulerlib import any_device, device, expect, main, running, server_seal, tests_of


def test_a_wrong_session_changes_nothing(s):
    d = device(s)
    s.created(d)
    found = s.locked(d)
    other = "mount: the session isn't of this volume, device and key"
    for bad, reason in ((d.session(found['serverKey'], found['volumeId'], key=os.urandom(32)), other),
                        (d.session(found['serverKey'], 'n2.other'), other),
                        ({'session': server_seal(found['serverKey'], b'nothing'), 'serverKey': 'stub:1'}, other),
                        (d.session(found['serverKey'], found['volumeId'], seconds=-5), 'mount: the session is over'),
                        (d.session(found['serverKey'], found['volumeId']) | {'serverKey': 'other:1'},
                         "mount: there is no server key 'other:1'")):
        expect(s.proved(d, 'POST', d.url + '/mount', bad), 202)
        failed = s.wait(d, 'failure')
        assert failed['reason'] == reason, failed
        assert failed['wrappedKey'] == d.wrapped() and failed['volumeId'] == found['volumeId'] and failed['uuid'] == d.uuid
        assert not s.state()[d.name[:32]]['open']
    expect(s.mount(d, found), 202)
    s.wait(d, 'attached')


def test_a_create_that_fails_leaves_nothing(s):
    for call, step in (('create_volume', 'volume'), ('attach', 'attach'), ('start', 'vm'), ('ready', 'ready')):
        d = device(s)
        s.control(fail={call: {'code': 'INTERNAL', 'message': f'{call} is broken'}})
        s.deploy(d)
        failed = s.wait(d, 'failure')
        assert failed['reason'] == f'create: {call} is broken', failed
        assert failed['volumeId'] == f'n1.{d.name[:32]}' and failed['serverKey'], failed
        assert s.state() == {}, s.state()
        ends = [line for line in caselib.read(s.log).splitlines() if 'operation failed' in line and d.name[:32] in line]
        assert len(ends) == 1 and f' step="{step}" ' in ends[0], ends  # where it failed, not where its undo ended
        s.control()
        s.created(d)
        expect(s.proved(d, 'DELETE', d.url), 202)
        s.wait(d, 'nonexistent')


def test_a_vm_that_never_becomes_ready(s):
    d = device(s)
    s.control(vm={'*': 'starting'})
    s.deploy(d)
    assert s.wait(d, 'failure')['reason'] == "create: the VM wasn't ready within 5 s"
    assert s.state() == {}
    s.control()
    s.created(d)
    s.locked(d)
    s.control(vm={'*': 'starting'})
    expect(s.mount(d), 202)
    failed = s.wait(d, 'failure')
    assert failed['reason'] == "mount: the VM wasn't ready within 5 s" and failed['wrappedKey'] == d.wrapped()
    state = s.state()[d.name[:32]]
    assert not state['open'] and not state['vm'] and state['ever_opened']


def test_a_vm_that_ends_by_itself(s):
    d = device(s)
    s.created(d)
    s.control(vm={d.name[:32]: 'failed'})
    failed = s.wait(d, 'failure')
    assert failed['reason'] == 'the VM ended: signal 9' and 'wrappedKey' not in failed.json, failed
    s.control()
    s.wait(d, 'attached', patient=True)


def test_what_is_not_there_now_is_tried_again(s):
    d = device(s)
    s.control(fail={'attach': {'code': 'UNAVAILABLE', 'message': 'the node is away'}})
    s.deploy(d)
    caselib.wait_for(lambda: s.find(d).json.get('step') == 'attach', 'attach is tried')
    assert s.find(d)['operation'] == 'create'
    s.control()
    s.wait(d, 'attached')


def test_no_server_key(s):
    s.control(fail={'server_key': {'code': 'UNAVAILABLE', 'message': 'Vault is sealed'}})
    s.stop()
    s.start(fresh=False)
    caselib.wait_for(lambda: 'Vault' in s.find(any_device())['error']['message'], 'the round says why')
    expect(s.find(any_device()), 503, 'unavailable', "the server's key can't be told now: Vault is sealed")


def test_no_room():
    with running(nodes=[{'name': 'n1', 'memory': 1 << 30, 'storage': 1 << 40, 'vms_max': 1}]) as s:
        d, other = device(s), device(s)
        body = s.deploy_body(other)
        s.created(d)
        caselib.wait_for(lambda: s.find(other).status == 507, 'the round sees the VM')
        expect(s.find(other), 507, 'no_room', 'no node has room: 1 as many VMs as it may have')
        expect(s.proved(other, 'POST', other.url + '/deploy', body), 202)
        # nothing is reserved: the room went between find and deploy
        caselib.wait_for(lambda: any(c['id'] == other.name[:32] and c['status'] == 'failure'
                                     for c in s.admin_get('/admin/clouds')['clouds']), 'it fails')
        assert list(s.state()) == [d.name[:32]]


def test_as_many_as_there_may_be():
    with running(place={'clouds_max': 1}) as s:
        d, other = device(s), device(s)
        body = s.deploy_body(other)
        s.created(d)
        message = 'there are as many clouds as there may be'
        expect(s.find(other), 507, 'no_room', message)
        expect(s.proved(other, 'POST', other.url + '/deploy', body), 507, 'no_room', message)
        s.locked(d)
        expect(s.mount(d), 202)  # what there is goes on
        s.wait(d, 'attached')
        expect(s.proved(d, 'DELETE', d.url), 202)
        s.wait(d, 'nonexistent')
        s.created(other)


if __name__ == '__main__':
    sys.exit(main(tests_of(globals())))
