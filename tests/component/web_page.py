#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The web page in a real, headless Chromium, by nginx with dist/nginx's configuration, against the real coffer-scheduler with its stub
driver (which opens sessions as coffer-keyd and Vault do, but encrypts nothing) and the sample VM. Two profiles are two devices.
Screenshots in build/web-page. On real encrypted volumes: the story scheduler-browser. TAP; no root."""
import contextlib
import os
import shutil
import sys

import caselib
import nginx
import schedulerlib
from caselib import ROOT, Skip

sys.path.insert(0, os.path.join(ROOT, 'e2e', 'lib'))
import browser  # noqa: E402
import webpage  # noqa: E402

SHOTS = os.path.join(os.environ.get('COFFER_BUILD', os.path.join(ROOT, 'build')), 'web-page')


class World:
    """What runs: scheduler, nginx, and the profiles' browsers. The stub driver starts no VM: the test does, for one cloud at a time."""

    def __init__(self, folder, stack):
        self.folder, self.stack, self.certificate = folder, stack, f'{folder}/tls.crt'
        for name in ('vms', 'temp', 'scheduler'):
            os.mkdir(f'{folder}/{name}')
        os.symlink(f'{ROOT}/web', f'{folder}/web')
        caselib.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', f'{folder}/tls.key', '-out', self.certificate,
                     '-days', '1', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'])
        page, clouds = nginx.free_ports(2)
        self.url = f'https://localhost:{page}/'
        self.scheduler = schedulerlib.Scheduler(f'{folder}/scheduler', url=f'https://localhost:{clouds}/clouds/')
        nginx.installed_configuration(folder, page, clouds)
        self.point_nginx(clouds)
        stack.callback(lambda: self.scheduler.process and self.scheduler.kill())
        self.scheduler.start()
        stack.enter_context(nginx.process(nginx.NGINX, '-e', f'{folder}/error.log', '-p', folder, '-c', f'{folder}/nginx.conf', '-g',
                                          'daemon off;'))
        nginx.wait_for(clouds)

    def point_nginx(self, clouds):
        for name in ('coffer.conf', 'coffer-api.conf'):
            path = f'{self.folder}/{name}'
            text = caselib.read(path).replace(f'{self.folder}/http.sock', self.scheduler.socket)
            caselib.write(path, text.replace(f'https://clouds.example.com:{clouds}', f'https://localhost:{clouds}'))

    def device(self, name):
        b = self.stack.enter_context(browser.Browser(f'{self.folder}/{name}', [self.certificate]))
        return webpage.Page(b, self.url, SHOTS, name)

    def vm(self, page):
        return nginx.vm(self.folder, page.name[:32])


def two_devices(w):
    phone = w.device('phone')
    phone.expect('nonexistent', 'There is no cloud for this device yet.')
    phone.shot('1-new')
    with w.vm(phone):
        phone.create()
        phone.shot('2-attached')
        cloud = phone.open_cloud()
        webpage.write_note(cloud, 'from the phone')
        phone.shot('3-note', cloud)
        tablet = w.device('tablet')
        tablet.expect('nonexistent')
        phone.add_device(tablet.public_key, 'tablet')
        phone.shot('4-devices')
        phone.lock()
        phone.shot('5-locked')
        tablet.again()
        tablet.expect('detached', 'Locked')
        tablet.expect('detached', 'Another device made it')
        tablet.unlock()
        tablet.shot('6-unlocked')
        webpage.read_note(tablet.open_cloud(), 'from the phone')
        tablet.remove_device(phone.name)
        assert tablet.device_names() == [tablet.name], tablet.device_names()
        tablet.shot('7-removed')
        phone.again()
        phone.expect('nonexistent')
    tablet.delete()
    tablet.shot('8-deleted')
    assert not phone.problems() + tablet.problems(), phone.problems() + tablet.problems()


def the_key_stays(w):
    """A reload, and the browser closed and opened again: the same device; the private key can't be read by the page."""
    phone = w.device('phone')
    name = phone.name
    phone.reload()
    assert phone.name == name
    kept = phone.tab.value('''(async () => {
        const open = indexedDB.open('coffer');
        await new Promise((done) => { open.onsuccess = done; });
        const get = open.result.transaction('device').objectStore('device').get('pair');
        await new Promise((done) => { get.onsuccess = done; });
        const { privateKey } = get.result;
        const names = [];
        for (const form of ['pkcs8', 'jwk'])
            await crypto.subtle.exportKey(form, privateKey).catch((e) => names.push(e.name));
        return [privateKey.extractable, privateKey.algorithm.modulusLength, ...names];
    })()''')
    assert kept == [False, 3072, 'InvalidAccessError', 'InvalidAccessError'], kept
    phone.tab.browser.close()
    again = w.device('phone')
    assert again.name == name


def what_goes_wrong_is_said(w):
    phone = w.device('phone')
    w.scheduler.control(fail={'start': {'code': 'PRECONDITION', 'message': 'the program ended: exit 1'}})
    phone.click('create')
    phone.expect('failure', 'the program ended: exit 1')
    phone.shot('failure')
    w.scheduler.control()
    phone.create()
    phone.click('list')
    phone.tab.wait('!document.getElementById("add").hidden')
    phone.tab.type('#other', 'no key')
    phone.click_selector('#add button')
    phone.expect_problem('This is not the public key of a device.')
    phone.shot('no-key')
    w.scheduler.kill()
    phone.click('lock')
    phone.expect_problem('The scheduler does not answer.')
    w.scheduler.start()
    phone.again()
    phone.expect('attached')


def it_can_be_used_without_eyes(w):
    phone = w.device('phone')
    phone.expect('nonexistent')
    nodes = phone.tab.accessible()
    for wanted in (('heading', 'Your cloud'), ('button', 'Create an encrypted cloud'), ('textbox', 'Public key'),
                   ('button', 'Copy public key'), ('heading', 'This device'), ('region', 'Cloud')):
        assert wanted in nodes, (wanted, [n for n in nodes if n[0] in ('button', 'textbox', 'heading', 'region')])
    assert any(role == 'status' for role, _ in nodes)
    assert all(name for role, name in nodes if role in ('button', 'textbox', 'link')), nodes


def a_vm_is_another_origin(w):
    """What a VM serves can't reach the page's origin, and no frame can hold the page."""
    phone = w.device('phone')
    with w.vm(phone):
        phone.create()
        cloud = phone.open_cloud()
        assert cloud.value('origin') == 'null' and cloud.value('window.opener') is None
        for expression in ('indexedDB.open("coffer")', 'localStorage.length', 'document.cookie'):
            refused = cloud.value(f'(() => {{ try {{ {expression}; return ""; }} catch (e) {{ return e.name; }} }})()')
            assert refused == 'SecurityError', (expression, refused)
        api = f'{w.url}v1/clouds/{phone.name}'
        assert cloud.value(f'fetch("{api}").then(() => "read", (e) => e.name)') == 'TypeError'
        framed = cloud.value(f'''new Promise((done) => {{
            const f = document.createElement("iframe");
            f.onload = () => {{ try {{ done(String(f.contentDocument)); }} catch (e) {{ done(e.name); }} }};
            f.src = "{w.url}";
            document.body.append(f);
        }})''')
        assert framed in ('null', 'SecurityError'), framed


@contextlib.contextmanager
def world():
    why = browser.why_not() or ('' if os.path.exists(nginx.NGINX) and shutil.which('node') else 'there is no nginx or no Node.js')
    if why:
        raise Skip(why)
    os.makedirs(SHOTS, exist_ok=True)
    with caselib.folder() as folder, contextlib.ExitStack() as stack:
        os.chmod(folder, 0o755)
        yield World(folder, stack)


TESTS = [two_devices, the_key_stays, what_goes_wrong_is_said, it_can_be_used_without_eyes, a_vm_is_another_origin]

if __name__ == '__main__':
    sys.exit(caselib.main([t for t in TESTS if t.__name__ in sys.argv[1:]] or TESTS, world))
