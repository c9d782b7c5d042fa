#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""coffer-scheduler before what it can't read, with the stub driver: one cloud's record, or a whole node. What can't be read is never
taken for absent, and hides nothing else. With a real record that is damaged: scheduler_local.py. TAP on stdout, no root."""
import contextlib
import sys

import caselib
from schedulerlib import device, expect, free_port, main, metrics, running, tests_of

WHY = 'the record has no magic'
NODE = {'n1': 'connect: No such file or directory'}


def of_one(d):
    return f"the facts of cloud '{d.name[:32]}' can't be read now; the log has the reason"


def hidden(s, d):
    caselib.wait_for(lambda: s.find(d).json.get('error', {}).get('message') == of_one(d), 'it is hidden', s.process, s.log)
    assert expect(s.find(d), 503, 'unavailable').headers['Retry-After'] == '2'


def refused(s, d, message, body):
    """Every request for it; nothing is queued."""
    before = s.state()
    for method, path, data in (('POST', '/deploy', body), ('POST', '/mount', {'session': 'AAAA', 'serverKey': 'k'}), ('POST', '/lock', {}),
                               ('POST', '/recipients/list', {}), ('DELETE', '', None)):
        expect(s.proved(d, method, d.url + path, data), 503, 'unavailable', message)
    assert s.state() == before


def silenced(s, **more):
    s.control(silent=NODE, **more)
    caselib.wait_for(lambda: "a node can't be read" in caselib.read(s.log), 'a round sees it', s.process, s.log)


@contextlib.contextmanager
def monitored():
    port = free_port()
    with running(flags=['--http', f'127.0.0.1:{port}']) as s:
        yield s, lambda: metrics(port)


def admin(s, d):
    return [c for c in s.admin_get('/admin/clouds')['clouds'] if c['id'] == d.name[:32]]


def test_one_record_hides_its_cloud_alone(s):
    d, other, new = device(s), device(s), device(s)
    body = s.deploy_body(d)
    s.created(d)
    s.created(other)
    s.control(unreadable={d.name[:32]: WHY})
    hidden(s, d)
    refused(s, d, of_one(d), body)
    s.locked(other)  # another's life goes on
    s.mount(other)
    s.wait(other, 'attached')
    s.created(new)
    row = admin(s, d)[0]
    assert row['status'] == 'unreadable' and row['reason'] == WHY and row['volumeId'] == f'n1.{d.name[:32]}', row
    assert len(s.admin_get('/admin/clouds')['clouds']) == 3
    s.control()
    s.wait(d, 'attached')
    said = caselib.read(s.log)
    assert said.count("a volume's record can't be read") == 1 and f'error="{WHY}"' in said, said
    assert said.count("what couldn't be read can be read again, or is gone") == 1, said
    assert 'operation="lock"' not in ''.join(line for line in said.splitlines() if d.name[:32] in line)


def test_also_after_a_restart(s):
    """Nothing is known but the volume's id, from which the device's cloud follows."""
    d, new = device(s), device(s)
    body = s.deploy_body(d)
    s.created(d)
    s.control(unreadable={d.name[:32]: WHY})
    s.stop()
    s.start(fresh=False)
    hidden(s, d)
    refused(s, d, of_one(d), body)
    unknown = [c for c in s.admin_get('/admin/clouds')['clouds'] if c['status'] == 'unreadable']
    assert [(c['id'], c['volumeId'], c['node'], c['reason']) for c in unknown] == [(None, f'n1.{d.name[:32]}', 'n1', WHY)], unknown
    assert s.find(new)['status'] == 'nonexistent'
    s.created(new)
    tablet = {'publicKey': d.public_key, 'algorithm': d.algorithm, 'wrappedKey': d.wrapped()}  # it may have a cloud already
    found = s.locked(new)
    expect(s.proved(new, 'POST', new.url + '/recipients', tablet | new.session(found['serverKey'], found['volumeId'])), 503, 'unavailable',
           of_one(d))
    s.control()
    assert s.wait(d, 'attached')['url']


def test_nothing_half_done_is_taken_up():
    """Open without a VM is closed by the rounds, but not while that may be wrong."""
    with monitored() as (s, counted):
        d = device(s)
        s.created(d)
        s.kill()
        state = s.state()
        state[d.name[:32]]['vm'] = False
        caselib.write(s.file('state.json'), state)
        s.control(unreadable={d.name[:32]: WHY})
        s.start(fresh=False)
        hidden(s, d)
        rounds = 'coffer_scheduler_rounds_total{result="ok"}'
        done = int(counted()[rounds])
        caselib.wait_for(lambda: int(counted()[rounds]) > done + 1, 'more rounds', s.process)
        assert s.state()[d.name[:32]]['open']
        s.control()
        s.wait(d, 'detached')


def test_it_becomes_unreadable_under_an_operation(s):
    """A create that finds it so is refused, and loses nothing; what was known stays known."""
    d = device(s)
    s.created(d)
    found = s.locked(d)
    s.control(delay={'find': 3000})
    expect(s.mount(d, found), 202)
    s.control(unreadable={d.name[:32]: WHY})
    caselib.wait_for(lambda: 'operation failed' in caselib.read(s.log), 'the mount ends', s.process)
    assert f"error=\"the record of cloud '{d.name[:32]}' can't be read\"" in caselib.read(s.log)
    hidden(s, d)
    s.control()
    s.wait(d, 'failure')  # of that mount
    assert list(s.state()) == [d.name[:32]]
    expect(s.mount(d), 202)
    s.wait(d, 'attached')


def on_node(s, node):
    d = device(s)
    found = s.find(d).json | {'volumeId': f'{node}.{d.name[:32]}', 'node': node}
    expect(s.proved(d, 'POST', d.url + '/deploy', s.deploy_body(d, found)), 202)
    s.wait(d, 'attached')
    return d


def test_a_silent_node_hides_its_clouds_alone(s):
    """At first they are taken to be as they were; new ones go elsewhere."""
    d, other = on_node(s, 'n1'), on_node(s, 'n2')
    silenced(s)
    assert s.find(d)['status'] == 'attached'
    body = s.deploy_body(d, {'serverKey': s.server(), 'volumeId': f'n1.{d.name[:32]}'})
    message = f"node 'n1', where cloud '{d.name[:32]}' is, can't be read now; the log has the reason"
    expect(s.proved(d, 'POST', d.url + '/deploy', body), 503, 'unavailable', message)
    s.locked(other)
    s.mount(other)
    s.wait(other, 'attached')
    new = device(s)
    caselib.wait_for(lambda: s.find(new).json.get('node') == 'n2', 'it is placed elsewhere', s.process)
    s.created(new)
    s.locked(new)
    expect(s.proved(new, 'DELETE', new.url), 202)
    s.wait(new, 'nonexistent')
    assert admin(s, d)[0]['status'] == 'unreadable'
    s.control()
    caselib.wait_for(lambda: admin(s, d)[0]['status'] == 'attached', 'it is seen again', s.process)
    assert caselib.read(s.log).count("a node can't be read") == 1


def test_a_node_that_was_never_read_may_have_any(s):
    d, other, new = on_node(s, 'n1'), on_node(s, 'n2'), device(s)
    s.control(silent=NODE)
    s.stop()
    s.start(fresh=False)
    s.wait(other, 'attached')
    for hides in (d, new):
        message = f"node 'n1', where cloud '{hides.name[:32]}' may be, can't be read now; the log has the reason"
        expect(s.find(hides), 503, 'unavailable', message)
    body = new.seed(volumeId=f'n2.{new.name[:32]}', **new.session(s.server(), f'n2.{new.name[:32]}'))
    expect(s.proved(new, 'POST', new.url + '/deploy', body), 503, 'unavailable')
    s.control()
    s.wait(d, 'attached')
    assert s.find(new)['status'] == 'nonexistent'


def test_what_a_create_left_on_a_silent_node(s):
    """It isn't made again elsewhere: there may be a volume already."""
    d = device(s)
    found = s.find(d)
    assert found['node'] == 'n1'
    s.control(delay={'create_volume': 3000})
    s.deploy(d)
    caselib.wait_for(lambda: s.find(d).json.get('step') == 'volume', 'its volume is being made', s.process)
    s.control(silent=NODE, fail={'find': {'code': 'INTERNAL', 'message': 'it is away'}})
    caselib.wait_for(lambda: 'operation failed' in caselib.read(s.log), 'the create ends', s.process)
    silenced(s)
    caselib.wait_for(lambda: admin(s, d)[0]['status'] == 'unreadable', 'a round sees that it may be there', s.process)
    body = d.seed(volumeId=f'n2.{d.name[:32]}', **d.session(s.server(), f'n2.{d.name[:32]}'))
    answer = s.proved(d, 'POST', d.url + '/deploy', body)
    expect(answer, 503, 'unavailable')
    assert "node 'n1', where cloud" in answer['error']['message'], answer
    assert [f['node'] for f in s.state().values()] == ['n1']
    s.control()
    s.wait(d, 'detached', patient=True)
    expect(s.proved(d, 'DELETE', d.url), 202)
    s.wait(d, 'nonexistent', patient=True)
    assert s.state() == {}


def test_a_driver_that_cant_be_asked_at_all(s):
    d = device(s)
    s.created(d)
    s.control(fail={'each': {'code': 'UNAVAILABLE', 'message': 'the node is away'}})
    s.stop()
    s.start(fresh=False)
    answer = s.find(d)
    caselib.wait_for(lambda: 'away' in s.find(d)['error']['message'], 'the round says why')
    answer = expect(s.find(d), 503, 'unavailable', "what clouds there are can't be told now: the node is away")
    assert answer.headers['Retry-After'] == '2'
    expect(s.lock(d), 503, 'unavailable')
    s.control()
    s.wait(d, 'attached')


def test_it_is_counted():
    with monitored() as (s, counted):
        d = device(s)
        s.created(d)

        def counts():
            page = counted()
            return [int(page[f'coffer_scheduler_unreadable{{what="{what}"}}']) for what in ('cloud', 'node')]
        assert counts() == [0, 0]
        s.control(unreadable={d.name[:32]: WHY}, silent={'n2': 'away'})
        caselib.wait_for(lambda: counts() == [1, 1], 'both are counted', s.process)
        assert counted()['coffer_scheduler_rounds_total{result="error"}'] == '0'
        s.control()
        caselib.wait_for(lambda: counts() == [0, 0], 'none is left', s.process)


if __name__ == '__main__':
    sys.exit(main(tests_of(globals())))
