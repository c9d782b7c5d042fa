# SPDX-License-Identifier: Apache-2.0
"""Debian's Chromium without a screen, driven by its DevTools protocol over a pair of pipes (descriptors 3 and 4, each message ends
with a NUL), so without a port. A Browser is one profile: one device.

    with Browser(folder + '/phone', trust=[pem]) as b:
        tab = b.open('https://localhost:8443/')
        tab.wait('document.body.dataset.status === "attached"')
        tab.click('#lock'); tab.screenshot('locked.png')

trust: PEM files of servers' certificates that are taken for good, as if their CA were known; no other check is turned off."""
import base64
import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import select
import shutil
import subprocess
import time

PATIENCE = 180  # seconds; a busy machine
FLAGS = ('--headless=new', '--remote-debugging-pipe', '--no-first-run', '--no-default-browser-check', '--disable-gpu',
         '--disable-dev-shm-usage', '--disable-background-networking', '--disable-component-update', '--disable-sync',
         '--disable-features=Translate,MediaRouter,OptimizationHints', '--no-proxy-server', '--hide-scrollbars', '--window-size=900,1100',
         '--password-store=basic')


def why_not():
    return '' if shutil.which('chromium') else 'there is no Chromium on this machine (Debian\'s package chromium)'


def key_hash(pem):
    """Of a certificate's public key, as --ignore-certificate-errors-spki-list wants it."""
    public = subprocess.run(['openssl', 'x509', '-in', pem, '-noout', '-pubkey'], check=True, stdout=subprocess.PIPE).stdout
    der = subprocess.run(['openssl', 'pkey', '-pubin', '-outform', 'DER'], input=public, check=True, stdout=subprocess.PIPE).stdout
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def pipe():
    """Two ends whose numbers are not 3 and 4."""
    ends = os.pipe()
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in ends]
    for fd in ends:
        os.close(fd)
    return high


class DevToolsError(Exception):
    pass


class Browser:
    def __init__(self, profile, trust=()):
        self.profile, self.numbers, self.answers, self.events, self.rest = profile, itertools.count(1), {}, [], b''
        os.makedirs(profile, mode=0o700, exist_ok=True)
        to_read, self.to = pipe()
        self.of, to_write = pipe()
        flags = [*FLAGS, f'--user-data-dir={profile}', *(['--no-sandbox'] if os.geteuid() == 0 else []),
                 f'--ignore-certificate-errors-spki-list={",".join(map(key_hash, trust))}']
        # bash gives the pipes the numbers that Chromium wants (dash knows one digit only)
        numbers = f'exec "$@" 3<&{to_read} 4>&{to_write} {to_read}<&- {to_write}>&-'
        command = ['bash', '-c', numbers, 'bash', 'chromium', *flags, 'about:blank']
        self.log = open(f'{profile}.log', 'ab')  # pylint: disable=consider-using-with
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, pass_fds=(to_read, to_write),
                                        env={'PATH': os.environ['PATH'], 'HOME': profile, 'LANG': 'C.UTF-8'}, start_new_session=True)
        os.close(to_read)
        os.close(to_write)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends it as its user would: what it keeps is on the disk then. Once more does nothing."""
        if self.log.closed:
            return
        with contextlib.suppress(OSError, DevToolsError):
            self.call('Browser.close')
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for fd in (self.to, self.of):
            os.close(fd)
        self.log.close()

    # ---- messages

    def call(self, method, session=None, **params):
        number = next(self.numbers)
        message = {'id': number, 'method': method, 'params': params, **({'sessionId': session} if session else {})}
        data = json.dumps(message).encode() + b'\0'
        while data:
            data = data[os.write(self.to, data):]
        end = time.monotonic() + PATIENCE
        while number not in self.answers:
            self.receive(end, method)
        answer = self.answers.pop(number)
        if 'error' in answer:
            raise DevToolsError(f'{method}: {answer["error"]["message"]}')
        return answer['result']

    def receive(self, end, what):
        if not select.select([self.of], [], [], max(0, end - time.monotonic()))[0]:
            raise DevToolsError(f'{what}: Chromium does not answer')
        data = os.read(self.of, 1 << 20)
        if not data:
            raise DevToolsError(f'{what}: Chromium ended')
        *whole, self.rest = (self.rest + data).split(b'\0')
        for message in map(json.loads, whole):
            if 'id' in message:
                self.answers[message['id']] = message
            else:
                self.events.append(message)
                del self.events[:-1000]

    # ---- tabs

    def open(self, url, before=''):
        """A new tab. before: JavaScript that runs in the page before its own."""
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        tab = self.attach(target)
        if before:
            tab.call('Page.addScriptToEvaluateOnNewDocument', source=before)
        tab.go(url)
        return tab

    def attach(self, target):
        tab = Tab(self, target, self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId'])
        tab.call('Page.enable')
        tab.call('Runtime.enable')
        return tab

    def pages(self):
        return [t for t in self.call('Target.getTargets')['targetInfos'] if t['type'] == 'page']

    def opened_by(self, action):
        """The tab that the action opens."""
        before = {t['targetId'] for t in self.pages()}
        action()
        end = time.monotonic() + PATIENCE
        while not (new := [t for t in self.pages() if t['targetId'] not in before]):
            if time.monotonic() > end:
                raise DevToolsError('no tab was opened')
            time.sleep(0.05)
        return self.attach(new[0]['targetId'])


class Tab:
    def __init__(self, browser, target, session):
        self.browser, self.target, self.session = browser, target, session

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def go(self, url):
        answer = self.call('Page.navigate', url=url)
        if answer.get('errorText'):
            raise DevToolsError(f'{url}: {answer["errorText"]}')
        self.wait('document.readyState === "complete"')

    def value(self, expression):
        """Of an expression, or of what its promise brings."""
        answer = self.call('Runtime.evaluate', expression=expression, awaitPromise=True, returnByValue=True, userGesture=True)
        if 'exceptionDetails' in answer:
            what = answer['exceptionDetails']
            raise DevToolsError(f'{expression}: {what.get("exception", {}).get("description") or what["text"]}')
        return answer['result'].get('value')

    def wait(self, expression, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while True:
            try:
                if self.value(expression):
                    return
            except DevToolsError as e:
                if 'context' not in str(e):  # the page is being loaded
                    raise
            if time.monotonic() > end:
                raise DevToolsError(f'{expression} did not become true; the page says: {self.text()[-1500:]}')
            time.sleep(0.1)

    def text(self):
        return self.value('document.body?.innerText ?? ""')

    def visible(self, selector):
        return self.value(f'Boolean(document.querySelector({json.dumps(selector)})?.checkVisibility())')

    def click(self, selector):
        """By a real mouse event in its middle; it must be there, seen and not disabled."""
        self.wait(f'(() => {{ const e = document.querySelector({json.dumps(selector)}); return e?.checkVisibility() && !e.disabled; }})()')
        self.call('Page.bringToFront')
        x, y = self.value(f'(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: "center"}});'
                          ' const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()')
        for kind in ('mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', clickCount=1)

    def type(self, selector, text):
        self.value(f'document.querySelector({json.dumps(selector)}).focus()')
        self.call('Input.insertText', text=text)

    def screenshot(self, path):
        self.call('Page.bringToFront')  # what isn't seen isn't drawn
        data = self.call('Page.captureScreenshot', format='png', captureBeyondViewport=True)['data']
        with open(path, 'wb') as f:
            f.write(base64.b64decode(data))

    def problems(self):
        """What the console has as errors, and exceptions that nobody caught."""
        found = []
        for e in self.browser.events:
            if e.get('sessionId') != self.session:
                continue
            if e['method'] == 'Runtime.exceptionThrown':
                found.append(e['params']['exceptionDetails'].get('exception', {}).get('description', 'exception'))
            if e['method'] == 'Runtime.consoleAPICalled' and e['params']['type'] in ('error', 'assert'):
                found.append(json.dumps(e['params']['args'])[:300])
        return found

    def accessible(self):
        """(role, name) of all that the browser tells assistive programs."""
        nodes = self.call('Accessibility.getFullAXTree')['nodes']
        return [(n['role']['value'], n.get('name', {}).get('value', '')) for n in nodes if not n.get('ignored') and 'role' in n]
