# SPDX-License-Identifier: Apache-2.0
"""What every driver of coffer-scheduler does (scheduler/driver.h), seen through its HTTP API: run(tap, Suite(api, new_device, …)).
Used with the driver `local` on real encrypted volumes, `kubernetes` on a real cluster and `stub` in memory.

new_device(label, digest) makes a CloudDevice. What a driver or a rig can't do is left out, by name: names_volumes and recipients as in
driver.h; store, with put(url, name, text) and get(url, name), reaches what runs in a VM; restart() ends and starts the scheduler;
census(id) counts (volumes, VMs) of a cloud. Each test has clouds of its own and deletes them."""
import concurrent.futures
import dataclasses
import os
from collections.abc import Callable

from clouddevice import NUMBERS, User, want
from tap import demand

AT_ONCE = 50


@dataclasses.dataclass
class Suite:
    api: object
    new_device: Callable
    names_volumes: bool = True
    recipients: bool = True
    store: object = None
    restart: Callable = None
    census: Callable = None
    at_once: int = AT_ONCE
    users: list = dataclasses.field(default_factory=list)

    def user(self, label, digest='sha256'):
        user = User(self.api, self.new_device(label, digest))
        self.users.append(user)
        return user

    def made(self, label, digest='sha256'):
        """A user whose cloud is attached."""
        user = self.user(label, digest)
        want(user.create(), 202)
        self.open_rest(user)
        return user

    def open_rest(self, user):
        """A driver that can't name a volume before it is there makes it without opening it."""
        if not self.names_volumes:
            user.until('detached')
            want(user.mount(), 202)
        return user.opened()

    def locked(self, user):
        want(user.lock(), 202)
        return user.until('detached')

    def gone(self, user):
        want(user.delete(), 202)
        found = user.until('nonexistent')
        demand(found.status == 404, f'a deleted cloud: {found}')
        self.count(user, 0, 0)

    def count(self, user, volumes, vms):
        if self.census:
            demand(self.census(user.device.id) == (volumes, vms), f'volumes and VMs: {self.census(user.device.id)}')

    def put(self, user, name, text):
        if self.store:
            self.store.put(user.opened().body['url'], name, text)

    def demand_text(self, user, name, text):
        if self.store:
            got = self.store.get(user.opened().body['url'], name)
            demand(got == text, f'{name} is {got!r}, not {text!r}')


def demand_find(user, state, status=200, **fields):
    """find says this state, by name and by number, and has exactly what belongs to it."""
    found = user.find()
    belongs = {'nonexistent': {'serverKey', 'volumeId', 'node'}, 'pending': {'operation', 'step'}, 'attached': {'url'},
               'detached': {'wrappedKey', 'algorithm', 'volumeId', 'uuid', 'serverKey'}}
    belongs['failure'] = belongs['detached'] | {'reason'}
    demand(found.status == status and found.state == state, f'{found} (expected {status} {state})')
    extra = set(found.body) - {'name', 'status', 'id'}
    demand(extra == belongs[state], f'{state} has {sorted(extra)}, not {sorted(belongs[state])}')
    demand(found.body['name'] == user.device.name, found)
    for name, value in fields.items():
        demand(found.body[name] == value, f'{name} is {found.body[name]}, not {value}')
    number = user.find('?status=number')
    demand(number.status == status and number.body['status'] == NUMBERS[state], f'{number}')
    return found


def demand_server_key(found):
    key = found.body['serverKey']
    demand(set(key) == {'keyId', 'hash', 'publicKey'} and all(key.values()), found)


def life(s, digest):
    """create, write, lock, unlock, read, delete; find is exact all the way."""
    user = s.user(f'life-{digest}', digest)
    found = demand_find(user, 'nonexistent', 404, id=user.device.id)
    demand_server_key(found)
    demand(bool(found.body['volumeId']) == s.names_volumes, found)
    made = want(user.create(), 202)
    demand(made.body == {'name': user.device.name, 'id': user.device.id, 'status': 'pending', 'statusUrl': user.path}, made)
    demand(made.headers.get('location') == user.path, made.headers)
    s.open_rest(user)
    url = demand_find(user, 'attached', id=user.device.id).body['url']
    demand(url.endswith(f'/clouds/{user.device.id}/'), url)
    s.count(user, 1, 1)
    s.put(user, 'note', 'what the user wrote')
    s.locked(user)
    detached = demand_find(user, 'detached', id=user.device.id, wrappedKey=user.made['wrapped'], uuid=user.made['uuid'],
                           algorithm=user.device.algorithm)
    demand_server_key(detached)
    s.count(user, 1, 0)
    want(user.unlock(), 202)
    demand(user.opened().body['url'] == url, 'another URL')
    s.demand_text(user, 'note', 'what the user wrote')
    s.gone(user)


def repeated(s):
    """Each call once more: the same answer, nothing twice; other content for the same name is a conflict."""
    user = s.made('repeated')
    again = want(user.create(), 200)
    demand(again.state == 'attached' and again.body['url'], again)
    want(user.mount(), 200)
    want(user.unlock(), 200)
    other = user.device.create()
    for name, value in (('wrappedKey', other['wrapped']), ('uuid', other['uuid']), ('commitment', other['commitment'])):
        refused = want(user.create(**{name: value}), 409)
        demand(refused.code == 'conflict' and value not in refused.message, refused)
    demand_find(user, 'attached')
    s.locked(user)
    demand(want(user.lock(), 200).state == 'detached', 'lock of a locked one')
    refused = want(user.create(wrappedKey=other['wrapped']), 409)
    demand_find(user, 'detached', wrappedKey=user.made['wrapped'])
    s.count(user, 1, 0)
    s.gone(user)


def wrong_sessions(s):
    """Each fails and says why, changes nothing; the right one opens afterwards."""
    user = s.made('wrong')
    s.put(user, 'note', 'before')
    s.locked(user)
    for what, wrong in (('another key', {'key': os.urandom(32)}), ('of another volume', {'volume_id': user.known['volumeId'] + '0'}),
                        ('of another uuid', {'uuid': user.device.create()['uuid']}), ('over', {'expiry': 1}),
                        ('a flipped bit', {'flip': 99}), ('of another device', {'fingerprint': 64 * 'a'})):
        for act in (user.mount, user.unlock) if what == 'another key' else (user.mount,):
            want(act(**wrong), 202)
            user.settle()
            failed = demand_find(user, 'failure', wrappedKey=user.made['wrapped'], uuid=user.made['uuid'])
            demand(failed.body['reason'] and '/' not in failed.body['reason'], f'{what}: {failed}')
            s.count(user, 1, 0)
    want(user.mount(), 202)
    user.opened()
    s.demand_text(user, 'note', 'before')
    s.gone(user)


def proofs(s):
    """Without one, with a used one, for something else, of another device."""
    user, other = s.made('proved'), s.user('other')

    def refused(status, code, answer):
        demand(want(answer, status).code == code, answer)
    for method, end, body in (('POST', '/lock', b'{}'), ('POST', '/deploy', b'{}'), ('POST', '/mount', b'{}'), ('POST', '/unlock', b'{}'),
                              ('DELETE', '', None), ('POST', '/recipients/list', b'{}')):
        refused(401, 'unauthenticated', user.api.request(method, user.path + end, body))
    challenge = user.challenge()
    proof = user.proof(challenge, 'POST', user.path + '/lock', b'{}')
    refused(401, 'unauthenticated', user.api.request('DELETE', user.path, None, proof))
    refused(401, 'unauthenticated', user.api.request('POST', user.path + '/lock', b'{ }', proof))
    refused(401, 'unauthenticated', user.api.request('POST', user.path + '/lock', b'{}', user.proof(
        (challenge[0], os.urandom(32)), 'POST', user.path + '/lock', b'{}')))
    refused(403, 'forbidden', other.ask('POST', body={}, path=user.path + '/lock'))
    refused(403, 'forbidden', other.ask('DELETE', path=user.path))
    demand_find(user, 'attached')
    want(user.api.request('POST', user.path + '/lock', b'{}', proof), 202)
    user.until('detached')
    refused(401, 'unauthenticated', user.api.request('POST', user.path + '/lock', b'{}', proof))
    demand_find(user, 'detached')
    s.gone(user)


def at_once(s):
    """Many equal creates: one volume, one VM. Then as many locks."""
    user = s.user('at-once')
    body = user.seed()

    def ask(end, content, challenge):
        """On a busy machine the first challenges are over before the last is there: then with another, as a device would."""
        answer = user.ask('POST', end, content, challenge)
        return user.ask('POST', end, content) if answer.status == 401 and 'is over' in str(answer) else answer

    def all_at_once(end, content):
        with concurrent.futures.ThreadPoolExecutor(s.at_once) as pool:
            challenges = list(pool.map(lambda _: user.challenge(), range(s.at_once)))
            return list(pool.map(lambda c: ask(end, content, c), challenges))
    answers = all_at_once('/deploy', body)
    demand({a.status for a in answers} <= {200, 202}, [str(a) for a in answers if a.status not in (200, 202)][:3])
    s.open_rest(user)
    s.count(user, 1, 1)
    answers = all_at_once('/lock', {})
    demand({a.status for a in answers} <= {200, 202}, [str(a) for a in answers if a.status not in (200, 202)][:3])
    user.until('detached')
    s.count(user, 1, 0)
    s.gone(user)


def two_keys_at_once(s):
    """The same device makes two keys for one cloud at the same time: one is the cloud's, the other a conflict."""
    user = s.user('rivals')
    rival = User(s.api, user.device)
    bodies = [user.seed(), rival.seed()]
    challenges = [user.challenge(), user.challenge()]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda b, c: user.ask('POST', '/deploy', b, c), bodies, challenges))
    demand(sorted(a.status for a in answers) == [202, 409], [str(a) for a in answers])
    winner = (user, rival)[answers[1].status == 202]
    s.open_rest(winner)
    s.locked(winner)
    demand_find(winner, 'detached', wrappedKey=winner.made['wrapped'], uuid=winner.made['uuid'])
    s.gone(winner)


def devices(s):
    """A second device comes, opens the cloud, sends the first one away; the last can't go."""
    first, second = s.made('first'), s.user('second', 'sha512')
    s.put(first, 'note', 'by the first')
    demand_find(second, 'nonexistent', 404)
    listed = want(first.add(second.device), 200).body['devices']
    demand([d['name'] for d in listed] == [first.device.name, second.device.name], listed)
    demand(set(listed[0]) == {'name', 'fingerprint', 'algorithm', 'label', 'publicKey'}, listed)
    want(first.add(second.device), 200)
    want(first.add(second.device, wrappedKey=second.device.wrap(os.urandom(32))), 409)
    demand_find(second, 'attached', id=first.device.id)
    s.locked(second)
    form = demand_find(second, 'detached', id=first.device.id, algorithm='RSA-OAEP-512').body['wrappedKey']
    demand(form != first.find().body['wrappedKey'] and second.key == first.key, 'their forms')
    want(second.unlock(), 202)
    second.opened()
    s.demand_text(second, 'note', 'by the first')
    want(second.remove(first.device.name, [second.device]), 200)
    demand([d['name'] for d in want(second.devices(), 200).body['devices']] == [second.device.name], 'the list')
    demand_find(first, 'nonexistent', 404)
    demand(want(first.lock(), 404).code == 'not_found', 'the first device still locks')
    s.locked(second)
    second.find()
    last = want(second.remove(second.device.name, []), 412)
    demand(last.code == 'precondition', last)
    want(second.mount(), 202)
    second.opened()
    s.demand_text(second, 'note', 'by the first')
    want(second.delete(), 202)
    demand(second.until('nonexistent').status == 404, 'it is still there')


def apart(s):
    """Two users' clouds have nothing to do with each other."""
    anna, ben = s.made('anna'), s.made('ben')
    demand(anna.find().body['url'] != ben.find().body['url'], 'one URL')
    s.put(anna, 'note', 'by Anna')
    s.put(ben, 'note', 'by Ben')
    s.locked(anna)
    demand_find(ben, 'attached')
    s.demand_text(ben, 'note', 'by Ben')
    want(ben.ask('POST', '/mount', anna.session()), 200)  # it is attached: nothing is opened
    s.locked(ben)
    want(ben.ask('POST', '/mount', anna.session()), 202)
    ben.settle()
    demand_find(ben, 'failure')
    want(anna.mount(), 202)
    anna.opened()
    s.demand_text(anna, 'note', 'by Anna')
    for user in (anna, ben):
        s.gone(user)


def restarted(s):
    """The scheduler keeps nothing that it couldn't find again."""
    running, sleeping, absent = s.made('running'), s.made('sleeping'), s.user('absent')
    s.put(running, 'note', 'before')
    s.locked(sleeping)
    before = [u.find().body for u in (running, sleeping)]
    s.restart()
    demand([u.settle().body for u in (running, sleeping)] == before, 'find says something else')
    demand_find(absent, 'nonexistent', 404)
    s.demand_text(running, 'note', 'before')
    want(running.create(), 200)
    want(sleeping.unlock(), 202)
    sleeping.opened()
    for user in (running, sleeping):
        s.gone(user)


TESTS = (  # name, function and what it gets, what the driver and the rig must have
    ('a cloud\'s life, exact all the way (RSA-OAEP-256)', life, ('sha256',), ()),
    ('a cloud\'s life, exact all the way (RSA-OAEP-512)', life, ('sha512',), ()),
    ('each call repeated; other content is a conflict', repeated, (), ()),
    ('wrong sessions fail, change nothing', wrong_sessions, (), ('names_volumes',)),
    ('proofs: none, used, for something else, of another device', proofs, (), ()),
    ('many creates at once: one volume, one VM', at_once, (), ()),
    ('two keys at once: one wins, the other is a conflict', two_keys_at_once, (), ()),
    ('a second device comes, the first one goes', devices, (), ('recipients',)),
    ('two users\' clouds are apart', apart, (), ()),
    ('a restart of the scheduler loses nothing', restarted, (), ('restart',)),
)


def run(tap, suite, only=()):
    for name, test, more, needs in TESTS:
        if only and not any(word in name for word in only):
            continue
        lacking = [n for n in needs if not getattr(suite, n)]
        if lacking:
            tap.skip(name, f'not with this driver: {", ".join(lacking)}')
        else:
            tap.run(name, test, suite, *more)
