# SPDX-License-Identifier: Apache-2.0
"""Coffer's web page as a person uses it, in a browser.Browser: one Page is one device. And the sample VM's page of notes."""
import json
import os

# Every storage key that the page makes: 32 random bytes at a time, as hex. Only a test's page has this.
REMEMBER_KEYS = '''(() => {
    const real = crypto.getRandomValues.bind(crypto);
    globalThis.madeKeys = [];
    crypto.getRandomValues = (array) => {
        real(array);
        if (array.length === 32) madeKeys.push([...array].map((b) => b.toString(16).padStart(2, '0')).join(''));
        return array;
    };
})();'''
BUSY = 'document.body.getAttribute("aria-busy")'


class Page:
    """shots: the folder of screenshots. seconds: how long an operation may take."""

    def __init__(self, browser, url, shots, label, before='', seconds=180):
        self.shots, self.label, self.seconds = shots, label, seconds
        self.tab, self.url = browser.open(url, before), url
        self.tab.wait('document.body.dataset.status', seconds)

    def reload(self):
        self.tab.go(self.url)
        self.tab.wait('document.body.dataset.status', self.seconds)

    def value(self, element):
        return self.tab.value(f'(() => {{ const e = document.getElementById("{element}"); return e.value ?? e.textContent; }})()')

    @property
    def name(self):
        return self.value('name')

    @property
    def public_key(self):
        return self.value('public')

    @property
    def status(self):
        return self.tab.value('document.body.dataset.status')

    def shot(self, what, tab=None):
        (tab or self.tab).screenshot(os.path.join(self.shots, f'{what}-{self.label}.png'))

    def problems(self):
        return self.tab.problems()

    # ---- what a person does

    def click_selector(self, selector):
        self.tab.wait(f'!{BUSY}', self.seconds)
        self.tab.click(selector)

    def click(self, element):
        self.click_selector(f'#{element}')

    def settled(self):
        self.tab.wait(f'!{BUSY}', self.seconds)

    def expect(self, status, words=''):
        """In the end; and nothing is said to have gone wrong."""
        self.tab.wait(f'!{BUSY} && document.body.dataset.status === {json.dumps(status)}', self.seconds)
        said = self.value('status')
        assert words in said, (words, said)
        assert self.tab.value('document.getElementById("problem").hidden'), self.value('problem')

    def expect_problem(self, words):
        self.tab.wait(f'!{BUSY} && !document.getElementById("problem").hidden', self.seconds)
        assert words in self.value('problem'), self.value('problem')

    def again(self):
        self.click('again')
        self.settled()

    def create(self):
        self.click('create')
        self.expect('attached', 'Unlocked')

    def lock(self):
        self.click('lock')
        self.expect('detached', 'Locked')

    def unlock(self):
        self.click('unlock')
        self.expect('attached', 'Unlocked')

    def delete(self):
        self.click('delete')
        self.tab.click('#yes')
        self.expect('nonexistent')

    def device_names(self):
        return self.tab.value('[...document.querySelectorAll("#devices tbody code")].map((e) => e.textContent)')

    def list(self):
        self.click('list')
        self.settled()
        self.tab.wait('!document.getElementById("devices").hidden', self.seconds)

    def add_device(self, public_key, label):
        self.list()
        self.tab.type('#other', public_key)
        self.tab.type('#other-label', label)
        self.click_selector('#add button')
        self.settled()
        self.expect(self.status)
        self.tab.wait(f'document.querySelector("#devices tbody").textContent.includes({json.dumps(label)})', self.seconds)

    def remove_device(self, name):
        self.list()
        self.tab.value(f'''(() => {{
            const row = [...document.querySelectorAll('#devices tbody tr')].find((r) => r.textContent.includes('{name}'));
            row.querySelector('button').id = 'remove-it';
        }})()''')
        self.click('remove-it')
        self.tab.click('#yes')
        self.tab.wait(f'!document.querySelector("#devices tbody").textContent.includes("{name}")', self.seconds)
        self.settled()
        self.expect(self.status)

    def open_cloud(self):
        """Follows the link: the VM's own page, in its tab."""
        cloud = self.tab.browser.opened_by(lambda: self.click('url'))
        cloud.wait('document.querySelector("#status")?.textContent.match(/note/)', self.seconds)
        return cloud

    def keys(self):
        """What REMEMBER_KEYS saw."""
        return [bytes.fromhex(k) for k in self.tab.value('globalThis.madeKeys ?? []')]


# ---- the sample VM's page

def write_note(cloud, text, seconds=180):
    cloud.type('#text', text)
    cloud.click('#new button')
    read_note(cloud, text, seconds)


def read_note(cloud, text, seconds=180):
    cloud.wait(f'[...document.querySelectorAll("#notes li")].some((e) => e.textContent === {json.dumps(text)})', seconds)
