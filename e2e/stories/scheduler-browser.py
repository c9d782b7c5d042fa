#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scheduler-browser: a person with two devices, by the web page in a real Chromium. Created on device one, a document written in the
VM; locked: no mapping, and no byte of the key in any process's memory (but Vault's, which decrypts sessions); unlocked from device two,
the document there; device one removed; deleted.

The whole system (Vault, coffer-keyd, coffer-node, coffer-launch, coffer-scheduler, nginx) runs where real dm-crypt is, Chromium on this
machine: its requests reach nginx by a forwarded port. Screenshots stay in build/scheduler-browser.

Outside, it drives the two profiles; inside the VM ("inside"), it is the system, and answers on a port of its own what is left of a key.
# story: needs=vm,vault
"""
import contextlib
import glob
import http.client
import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'e2e', 'lib'))
import browser  # noqa: E402
import webpage  # noqa: E402
from tap import begin, demand  # noqa: E402

GUEST = '10.0.2.15'
SECONDS = 1800  # for anything that the emulated machine does
NOTE = 'what only Anna may read: 8 ducks on the Limmat'


# ---- inside: the system, and what it tells

def listen_outside(port):
    """What listens on loopback, for the forwarded port too."""
    return subprocess.Popen(['setpriv', '--pdeathsig', 'KILL', 'socat', f'TCP-LISTEN:{port},bind={GUEST},fork,reuseaddr',
                             f'TCP:127.0.0.1:{port}'])


class Inside:
    """secrets: name -> bytes in hex. What is found is told by name."""

    def __init__(self, rig, own):
        self.rig, self.own = rig, own  # own: processes that hold the secrets because they look for them, and Vault

    def certificate(self, _):
        with open(f'{self.rig.c.root}/api.pem', encoding='ascii') as f:
            return f.read()

    def state(self, _):
        return {'left_over': self.rig.left_over(), 'mappings': self.rig.c.mappings(), 'vms': self.rig.vms(),
                'states': [r['state'] for r in self.rig.c.records()], 'recipients': [len(r['recipients']) for r in self.rig.c.records()]}

    def needles(self, question):
        import leakscan  # pylint: disable=import-outside-toplevel
        return leakscan.Needles({name: bytes.fromhex(data) for name, data in question['secrets'].items()})

    def memory(self, question):
        """Of every process but these."""
        import cloudrig  # pylint: disable=import-outside-toplevel
        needles, found, looked = self.needles(question), [], []
        for pid in sorted(int(name) for name in os.listdir('/proc') if name.isdigit()):
            with contextlib.suppress(OSError):
                with open(f'/proc/{pid}/comm', encoding='ascii') as f:
                    who = f'{f.read().strip()} {pid}'
                if pid in self.own or not os.readlink(f'/proc/{pid}/exe'):
                    continue
                found += cloudrig.scan_process(needles, pid, who)
                looked.append(who)
        return {'found': [list(f) for f in found], 'looked': looked}

    def files(self, question):
        """Logs, and all that the pool has: images, records."""
        import leakscan  # pylint: disable=import-outside-toplevel
        needles, found = self.needles(question), []
        images = glob.glob(f'{self.rig.c.pool}/volumes/*/*/*')
        for kind, paths in (('log', self.rig.logs()), ('disk', images)):
            for path in paths:
                found += leakscan.scan_file(needles, kind, path)
        return {'found': [list(f) for f in found], 'looked': len(images)}

    def logs(self, _):
        said = []
        for path in self.rig.logs():
            with open(path, encoding='utf-8', errors='replace') as f:
                said += [f'---- {path}', *f.read()[-2000:].splitlines()]
        return '\n'.join(said)


def serve(inside, port):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):  # pylint: disable=invalid-name
            body = self.rfile.read(int(self.headers['Content-Length']))
            what = self.path.removeprefix('/')
            if what == 'end':
                server.ended = True
                answer = ''
            else:
                try:
                    answer = getattr(inside, what)(json.loads(body))
                except Exception as e:  # told outside  # pylint: disable=broad-except
                    answer = {'error': repr(e)}
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header('Content-Length', str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):  # pylint: disable=arguments-differ
            pass

    server = http.server.HTTPServer((GUEST, port), Handler)
    server.ended = False
    while not server.ended:
        server.handle_request()


def run_inside(page, clouds, control):
    import cloudrig  # pylint: disable=import-outside-toplevel
    import vaultserver  # pylint: disable=import-outside-toplevel
    folder = os.path.join(os.environ['COFFER_SCRATCH'], 'vault')
    os.mkdir(folder)
    with vaultserver.open_vault(folder) as vault:
        made = cloudrig.Rig(vault, folder)
        made.api_proxy, made.vm_proxy = page, clouds
        inside = Inside(made, {os.getpid(), vault.process.pid})
        try:
            made.install()
            made.start()
            relays = [listen_outside(page), listen_outside(clouds)]
            inside.own |= {p.pid for p in relays}
            serve(inside, control)
        except BaseException:
            print('\n'.join(f'# {line}' for line in inside.logs(None).splitlines()), flush=True)
            raise
        finally:
            made.stop()


# ---- outside: the VM, and the person

def free_ports(count):
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in found:
            s.bind(('127.0.0.1', 0))
        return [s.getsockname()[1] for s in found]


class System:
    """The VM with everything in it; ask(what, …) is answered by Inside."""

    def __init__(self):
        self.page, self.clouds, self.control = ports = free_ports(3)
        folders = {os.environ['COFFER_BUILD'], os.path.dirname(os.environ['COFFER_BIN']), os.path.dirname(os.environ['COFFER_VAULT'])}
        command = [f'{ROOT}/e2e/vm/vmrun.py', '-S', '8G', '-t', '14000', '-m', '3072M', '-c', '2']
        for folder in sorted(folders):
            command += ['-s', folder]
        for port in ports:
            command += ['-f', f'tcp:127.0.0.1:{port}-:{port}']
        for variable in ('COFFER_BIN', 'COFFER_BUILD', 'COFFER_VAULT'):
            command += ['-e', variable]
        command += ['python3', '-B', os.path.realpath(__file__), 'inside', *map(str, ports)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, cwd=ROOT)
        self.url = f'https://127.0.0.1:{self.page}/'

    def ask(self, what, **question):
        with contextlib.closing(http.client.HTTPConnection('127.0.0.1', self.control, timeout=SECONDS)) as c:
            c.request('POST', f'/{what}', json.dumps(question))
            answer = json.loads(c.getresponse().read())
        if isinstance(answer, dict) and 'error' in answer:
            raise RuntimeError(f'{what}: {answer["error"]}')
        return answer

    def wait(self):
        """Until it answers, once everything runs; the certificate that its nginx shows."""
        end = time.monotonic() + SECONDS
        while True:
            try:
                return self.ask('certificate')
            except (OSError, http.client.HTTPException):
                demand(self.process.poll() is None, f'the VM ended with {self.process.returncode}')
                demand(time.monotonic() < end, 'the system does not answer')
                time.sleep(1)

    def until(self, what, condition):
        end = time.monotonic() + SECONDS
        while not condition(state := self.ask('state')):
            demand(time.monotonic() < end, f'{what}: {state}')
            time.sleep(1)
        return state

    def end(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.ask('end')
        try:
            return self.process.wait(SECONDS)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


class Person:
    """Anna: her devices, and the secrets that the story knows of."""

    def __init__(self, system, folder, stack):
        self.system, self.folder, self.stack = system, folder, stack
        self.shots = os.path.join(os.environ['COFFER_BUILD'], 'scheduler-browser')
        os.makedirs(self.shots, exist_ok=True)
        self.certificate = f'{folder}/page.pem'
        with open(self.certificate, 'w', encoding='ascii') as f:
            f.write(system.wait())
        self.phone = self.tablet = self.cloud = None

    def device(self, label):
        b = self.stack.enter_context(browser.Browser(f'{self.folder}/{label}', [self.certificate]))
        return webpage.Page(b, self.system.url, self.shots, label, webpage.REMEMBER_KEYS, SECONDS)

    def secrets(self):
        """Every storage key that a page has made, and the passphrases of it."""
        import watched  # pylint: disable=import-outside-toplevel
        keys = [k for page in (self.phone, self.tablet) if page for k in page.keys()]
        demand(keys, 'the page made no key')
        known = {f'key {i}': k.hex() for i, k in enumerate(keys)}
        uuid = (self.phone if self.phone.status == 'detached' else self.tablet or self.phone).tab.value(
            'fetch(`/v1/clouds/${document.getElementById("name").textContent}`).then((a) => a.json()).then((f) => f.uuid ?? "")')
        if uuid:
            known.update({f'passphrase {i}': watched.derived_passphrase(k, uuid).hex() for i, k in enumerate(keys)})
        return known

    def nowhere(self, secrets):
        """No key in any process or file; no document in a file: it went through nginx's buffers, and isn't a key."""
        seen = self.system.ask('memory', secrets=secrets)
        demand(len(seen['looked']) >= 8, f'only {seen["looked"]} were looked at')
        demand(not seen['found'], f'in memory: {seen["found"]}')
        seen = self.system.ask('files', secrets={**secrets, 'note': NOTE.encode().hex()})
        demand(seen['looked'] > 0 and not seen['found'], f'in files: {seen}')


def create(a):
    a.phone = a.device('phone')
    a.phone.expect('nonexistent', 'There is no cloud for this device yet.')
    a.phone.shot('1-new')
    a.phone.create()
    a.phone.shot('2-attached')
    state = a.system.ask('state')
    demand(len(state['mappings']) == 1 and len(state['vms']) == 1 and state['states'] == ['ready'], state)


def write(a):
    a.cloud = a.phone.open_cloud()
    webpage.write_note(a.cloud, NOTE, SECONDS)
    a.phone.shot('3-note', a.cloud)
    seen = a.system.ask('memory', secrets={'note': NOTE.encode().hex()})
    demand(seen['found'], 'the search for what is in a VM\'s memory found nothing, so it proves nothing')


def second_device(a):
    a.tablet = a.device('tablet')
    a.tablet.expect('nonexistent')
    a.phone.add_device(a.tablet.public_key, 'tablet')
    a.phone.shot('4-devices')
    a.tablet.again()
    a.tablet.expect('attached')
    demand(a.system.ask('state')['recipients'] == [2], a.system.ask('state'))


def lock(a):
    a.phone.lock()
    a.phone.shot('5-locked')
    demand(not a.system.until('nothing left over', lambda s: not s['left_over'])['mappings'], 'mappings')
    a.nowhere(a.secrets())


def unlock_from_the_second(a):
    a.tablet.again()
    a.tablet.expect('detached', 'Locked')
    a.tablet.unlock()
    a.tablet.shot('6-unlocked')
    cloud = a.tablet.open_cloud()
    webpage.read_note(cloud, NOTE, SECONDS)
    a.tablet.shot('7-note', cloud)


def remove_the_first(a):
    a.tablet.remove_device(a.phone.name)
    a.tablet.shot('8-removed')
    demand(a.tablet.device_names() == [a.tablet.name] and a.system.ask('state')['recipients'] == [1], a.system.ask('state'))
    a.phone.again()
    a.phone.expect('nonexistent')
    a.tablet.lock()
    a.system.until('nothing left over', lambda s: not s['left_over'])
    a.nowhere(a.secrets())
    a.tablet.unlock()  # by the new key
    webpage.read_note(a.tablet.open_cloud(), NOTE, SECONDS)


def delete(a):
    a.tablet.delete()
    a.tablet.shot('9-deleted')
    state = a.system.until('nothing left over', lambda s: not s['left_over'])
    demand(not state['states'], state)
    demand(not a.phone.problems() + a.tablet.problems(), f'on the console: {a.phone.problems() + a.tablet.problems()}')


TESTS = (
    ('created on device one: an encrypted volume and a VM', create),
    ('a document is written in the VM\'s own page', write),
    ('device two is added by its public key', second_device),
    ('locked: no mapping, no VM; no byte of a key in any memory, nor of key or document in a log or image', lock),
    ('unlocked from device two: the document is there', unlock_from_the_second),
    ('device one is removed by a new key, and finds nothing; device two opens by it', remove_the_first),
    ('deleted: nothing is left', delete),
)


def why_not():
    lacking = [p for p in ('nginx', 'node', 'socat') if not any(os.path.exists(f'{d}/{p}') for d in ('/usr/sbin', '/usr/bin'))]
    return browser.why_not() or (f'there is no {" and no ".join(lacking)} here' if lacking else '') or (
        '' if os.environ.get('COFFER_VAULT') else os.environ.get('COFFER_VAULT_WHY', 'there is no Vault of the tests\' own'))


def run_tests(tap, system, person):
    for name, test in TESTS:
        start = time.monotonic()
        fine = tap.run(name, test, person)
        print(f'# {time.monotonic() - start:.0f} s', flush=True)
        if not fine:
            for page in filter(None, (person.phone, person.tablet)):
                with contextlib.suppress(browser.DevToolsError):
                    page.shot('failed')
                    print('\n'.join(f'# {page.label}: {line}' for line in page.tab.text().splitlines()))
            print('\n'.join(f'# {line}' for line in system.ask('logs').splitlines()))
            return


def main():
    if sys.argv[1:2] == ['inside']:
        run_inside(*map(int, sys.argv[2:5]))
        return
    tap = begin('scheduler-browser', why_not())
    system = System()
    try:
        with tempfile.TemporaryDirectory(prefix='browser-', dir=os.environ['COFFER_BUILD']) as folder, contextlib.ExitStack() as stack:
            run_tests(tap, system, Person(system, folder, stack))
    finally:
        code = system.end()
    tap.check(code == 0, 'the system ended well', f'exit {code}')
    tap.done()


main()
