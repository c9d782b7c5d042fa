# SPDX-License-Identifier: Apache-2.0
"""The real Vault for a story. open_vault(folder) gives the server that VAULT_ADDR and VAULT_TOKEN name (Foreign), else one of
its own (Server: COFFER_VAULT's program on loopback over TLS, with everything it needs in folder), initialised, unsealed
and with an audit log. What can't be done to somebody else's server raises NotOurs with a sentence.

    with open_vault(scratch) as vault:
        vault.root.call('POST', 'sys/mounts/transit', {'type': 'transit'})
        vault.seal(); vault.unseal(); vault.stop(); vault.start()      # the same storage, the same port

Sealing, stopping and certificates are the server's; what is inside it is in vaultsetup.py, what it logged in auditlog.py.
"""
import contextlib
import os
import select
import signal
import ssl
import subprocess
import tempfile
import time

from auditlog import AuditLog
from tap import Tap
from testpki import Authority
from vaultapi import Api

SECONDS = 120  # it starts in 0.1 s, in the micro-VM in some seconds


class NotOurs(Exception):
    """The server is named by VAULT_ADDR, and the tests can't do that to it."""


class Server:
    """Our own server. root: an Api with the root token; ca: the file to trust; audit: its AuditLog; authority: for certificates
    of clients and of a fault proxy."""
    ours = True

    def __init__(self, folder, program=None):
        self.folder, self.program = folder, program or os.environ['COFFER_VAULT']
        self.process, self.unseal_key, self.listen = None, None, '127.0.0.1:0'
        os.makedirs(f'{folder}/storage', exist_ok=True)
        self.authority = Authority(f'{folder}/tls')
        self.ca = self.authority.certificate
        self.certificate, self.key = f'{folder}/server.pem', f'{folder}/server.key'
        self.install(self.authority.issue('server'))
        self.root, self.audit = None, AuditLog(f'{folder}/audit.log')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def address(self):
        return 'https://' + self.listen

    # ---- the process

    def start(self, ready=True):
        """On the port it had before. ready: also initialised (the first time), unsealed and active."""
        with open(f'{self.folder}/server.log', 'ab') as log:
            self.process = subprocess.Popen(
                ['setpriv', '--pdeathsig', 'KILL', self.program, '-listen', self.listen, '-storage', f'{self.folder}/storage',
                 '-tls-cert', self.certificate, '-tls-key', self.key], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        self.listen = self.first_line().removeprefix('https://')
        # whatever certificate it shows to others, these calls know it
        self.root = Api(self.address, pinned=self.certificate, token=self.root.token if self.root else None)
        if ready:
            self.make_ready()
        return self

    def first_line(self):
        if select.select([self.process.stdout], [], [], SECONDS)[0]:
            if line := self.process.stdout.readline().decode().strip():
                return line
        self.kill()
        raise RuntimeError(f'the Vault server did not start: {self.log_text()[-1000:]}')

    def log_text(self):
        with open(f'{self.folder}/server.log', encoding='utf-8', errors='replace') as f:
            return f.read()

    def make_ready(self):
        if not self.unseal_key:
            self.initialise()
        self.unseal()
        if not self.audit.enabled:
            self.audit.enable(self.root)

    def initialise(self):
        made = self.root.call('POST', 'sys/init', {'secret_shares': 1, 'secret_threshold': 1}).body
        self.unseal_key, self.root.token = made['keys_base64'][0], made['root_token']

    def end(self, number):
        if self.root:
            self.root.close()
        if not self.process:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process = None

    def stop(self):
        """From now on connections are refused."""
        self.end(signal.SIGTERM)

    def kill(self):
        self.end(signal.SIGKILL)

    def restart(self):
        self.stop()
        self.start()

    def memory(self):
        """What it occupies now, in bytes (RSS)."""
        with open(f'/proc/{self.process.pid}/statm', encoding='ascii') as f:
            return int(f.read().split()[1]) * os.sysconf('SC_PAGESIZE')

    # ---- the seal

    def seal(self):
        self.root.call('POST', 'sys/seal')

    def unseal(self):
        self.root.call('POST', 'sys/unseal', {'key': self.unseal_key})
        self.root.wait_healthy()

    # ---- the certificate

    def install(self, issued):
        for source, target in zip(issued, (self.certificate, self.key)):
            with open(source, 'rb') as f, open(target + '.new', 'wb', opener=lambda p, flags: os.open(p, flags, 0o600)) as g:
                g.write(f.read())
            os.rename(target + '.new', target)

    def new_certificate(self, authority=None, **how):
        """Shows another certificate from the next connection on, as Vault does after SIGHUP: names=['DNS:other'] for another name,
        days=0 an expired one, authority=Authority(…) one that clients which trust only self.ca refuse. Kept connections stay."""
        self.install((authority or self.authority).issue('server', **how))
        with open(self.certificate, encoding='ascii') as f:
            wanted = ssl.PEM_cert_to_DER_cert(f.read())
        self.process.send_signal(signal.SIGHUP)
        host, port = self.listen.split(':')
        end = time.monotonic() + SECONDS
        while ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port)))) != wanted:
            if time.monotonic() > end:
                raise TimeoutError(f'the Vault server keeps its old certificate: {self.log_text()[-300:]}')
            time.sleep(0.02)


class Foreign:
    """The server that VAULT_ADDR names, with VAULT_TOKEN (which must be allowed what root is), VAULT_CACERT, VAULT_NAMESPACE.
    Stories keep to mounts and names of their own (vaultsetup.py) and take them away again."""
    ours = False

    def __init__(self, folder):
        self.folder, self.ca = folder, os.environ.get('VAULT_CACERT')
        self.address = os.environ['VAULT_ADDR']
        self.root = Api(self.address, self.ca, os.environ['VAULT_TOKEN'], os.environ.get('VAULT_NAMESPACE'))
        self.authority = Authority(f'{folder}/tls')
        self.audit = AuditLog(None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.root.close()

    def __getattr__(self, name):
        raise NotOurs(f'the Vault server at {self.address} is not the tests\' own: no {name} there')


def open_vault(folder):
    """The server for this story, ready; use it in a with statement."""
    if 'VAULT_ADDR' in os.environ:
        vault = Foreign(folder)
        vault.root.wait_healthy(seconds=10)
        vault.root.call('GET', 'auth/token/lookup-self')
        return vault
    vault = Server(folder)
    try:
        return vault.start()
    except BaseException:
        vault.stop()
        raise


def why_not():
    """Why there is no server for a story here; '' when there is one."""
    if 'VAULT_ADDR' in os.environ:
        return '' if 'VAULT_TOKEN' in os.environ else 'VAULT_ADDR names a server, and VAULT_TOKEN is not set'
    if os.environ.get('COFFER_VAULT'):
        return ''
    return os.environ.get('COFFER_VAULT_WHY') or 'COFFER_VAULT does not say where the Vault test server is (e2e/run sets it)'


@contextlib.contextmanager
def scratch_folder():
    path = os.path.join(os.environ['COFFER_SCRATCH'], 'vault')
    os.mkdir(path)
    yield path


def main(name, needs, story, here=False):
    """A story: story(vault, folder, tap). needs: why it wants the tests' own server; '': any will do. here: it has no scratch disk
    (where=here), and gets a temporary folder."""
    tap = Tap()
    if reason := why_not():
        tap.skip(name, reason)
    elif needs and 'VAULT_ADDR' in os.environ:
        tap.skip(name, f'the server of VAULT_ADDR is not the tests\' own: {needs}')
    else:
        with tempfile.TemporaryDirectory(prefix='coffer-') if here else scratch_folder() as folder, open_vault(folder) as vault:
            story(vault, folder, tap)
    tap.done()
