#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""rescue: volumes of a pool with an escrow key; then nothing is left of Coffer but images, records and private keys, and they open:
by `cofferctl volume rescue` and stock cryptsetup, and by the stock tools alone as docs/RECOVERY.md prints it. Without the escrow
nothing is formatted. Wrong keys, changed records and other volumes' records give nothing out."""
import json
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from files import write  # noqa: E402
from fixture import MIB, CallError, Coffer  # noqa: E402
from tap import Tap, demand  # noqa: E402

SIZE, HEADER = 32 * MIB, 4 * MIB
PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'docs', 'RECOVERY.md')
ALLOW = 'MINT,UNWRAP,DESTROY,STATUS'


def shell(line, ok=True):
    done = subprocess.run(['bash', '-c', 'set -o pipefail\n' + line], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    demand((done.returncode == 0) == ok, f'{line}: {done.returncode}: {done.stdout}{done.stderr}')
    return done


class Lab:
    """A Coffer whose pool has an escrow key, the private keys, and a folder for what is saved."""

    def __init__(self):
        self.c = Coffer()
        self.c.install()
        self.safe = os.path.join(os.environ['COFFER_SCRATCH'], 'safe')
        os.mkdir(self.safe, 0o700)
        rsa = 'RSA -pkeyopt rsa_keygen_bits:2048'
        for name, kind in (('rsa', rsa), ('x25519', 'X25519'), ('other', rsa)):
            shell(f'openssl genpkey -algorithm {kind} -out {self.safe}/{name}.key && '
                  f'openssl pkey -in {self.safe}/{name}.key -pubout -out {self.c.root}/{name}.pem')

    def configure(self, escrow, allow=ALLOW + ',WRAP_FOR'):
        """Stopped, configured anew and started."""
        self.c.stop()
        self.c.pool_settings = {'escrow': f'{self.c.root}/{escrow}.pem'} if escrow else {}
        self.c.keyd_allow = allow
        self.c.write_config()
        self.c.start()

    def fill(self, name):
        """A volume with data, and its image and record in the safe."""
        c = self.c
        volume = c.create(name, SIZE)
        c.stage(volume)
        write(c.staging(volume) + '/file', name.encode() * 1000)
        c.unstage(volume)
        return volume

    def save(self, volume, name):
        shell(f'cp --sparse=always {self.c.image(volume)} {self.safe}/{name}.image')
        shutil.copy(self.c.place(volume) + '/record.json', f'{self.safe}/{name}.json')

    def rescue_line(self, image, record, key):
        return (f'{self.safe}/cofferctl volume rescue {image} --record {record} --private-key {key} '
                f'--crypt-helper {self.safe}/coffer-crypt')

    def rescue(self, name, key, record=None, ok=True):
        line = self.rescue_line(f'{self.safe}/{name}.image', record or f'{self.safe}/{name}.json', f'{self.safe}/{key}.key')
        return shell(line + ' | cat', ok)


# ---- while Coffer is there ----

def refused_stage(lab, volume, code, *words):
    c = lab.c
    try:
        c.stage(volume)
    except CallError as e:
        demand(e.code == code and all(w in e.message for w in words), str(e))
    else:
        raise RuntimeError('it was staged')
    demand(c.record(volume)['state'] == 'new', 'the record says more than new')
    with open(c.image(volume), 'rb') as f:
        demand(not f.read(HEADER).strip(b'\0'), 'something was formatted')
    demand(not c.left_over(), f'left over: {c.left_over()}')


def nothing_is_formatted_without(lab):
    c, without = lab.c, "isn't formatted without"
    lab.configure('rsa', ALLOW)
    volume = c.create('first', SIZE)
    refused_stage(lab, volume, 'PERMISSION', without, '--allow UNWRAP,WRAP_FOR')
    said = c.cofferctl('doctor', '--only', 'coffer-keyd', '--keyd-socket', c.keyd_socket, check=False)
    demand(said.returncode != 0 and "pool 'default' has an escrow key, and coffer-keyd doesn't allow WRAP_FOR" in said.stdout, said)
    lab.configure('missing')
    refused_stage(lab, volume, 'PRECONDITION', without, 'missing.pem', 'No such file')
    said = c.cofferctl('doctor', '--only', 'pool:default', check=False)
    demand(said.returncode != 0 and 'missing.pem' in said.stdout, said)
    with open(f'{c.root}/weak.pem', 'w', encoding='ascii') as f:
        f.write(shell('openssl genrsa 1024 2>/dev/null | openssl rsa -pubout 2>/dev/null').stdout)
    lab.configure('weak')
    refused_stage(lab, volume, 'PRECONDITION', without, 'an RSA key of 1024 bits')
    lab.configure('rsa')
    c.keyd.stop()
    refused_stage(lab, volume, 'UNAVAILABLE', without)
    lab.configure('rsa')
    c.stage(volume)
    c.unstage(volume)
    c.delete(volume['volume_id'])
    said = c.cofferctl('doctor', '--only', 'coffer-keyd', '--keyd-socket', c.keyd_socket, check=False)
    demand('escrow' not in said.stdout, said)


def recipients_of(record):
    return [(r['alg'], r['label']) for r in record['recipients']]


def volumes_with_an_escrow(lab):
    for name, algorithm in (('rsa', 'RSA-OAEP-256'), ('x25519', 'HPKE-Base-X25519-SHA256-A256GCM')):
        lab.configure(name)
        volume = lab.fill(name)
        demand(recipients_of(lab.c.record(volume)) == [(algorithm, 'escrow')], lab.c.record(volume)['recipients'])
        lab.save(volume, name)
    lab.configure('rsa')
    lab.save(lab.fill('second'), 'second')
    rotated(lab)
    lab.configure(None)
    volume = lab.fill('without')
    demand(lab.c.record(volume)['recipients'] == [], 'a recipient that nobody asked for')
    lab.save(volume, 'without')


def rotated(lab):
    """A new storage key is wrapped for the escrow as well; a record of before has nothing to open with."""
    c = lab.c
    volume = lab.fill('rotated')
    lab.save(volume, 'before')
    c.call(c.admin_socket, 'coffer.v1.NodeAdmin/RotateKey', {'volume_id': volume['volume_id'], 'reason': 'story'})
    lab.save(volume, 'rotated')


# ---- when it is gone ----

def all_is_gone(lab):
    lab.c.stop()
    for name in ('cofferctl', 'coffer-crypt'):
        shutil.copy(f'{lab.c.bin}/{name}', lab.safe)
    shutil.rmtree(lab.c.root)
    os.chdir(lab.safe)


def must_hold(name):
    """The mapping `rescued` shows that volume's data, and is closed again."""
    os.makedirs('mnt', exist_ok=True)
    shell('mount -o ro /dev/mapper/rescued mnt')
    with open('mnt/file', 'rb') as f:
        data = f.read()
    shell('umount mnt && cryptsetup close rescued')
    demand(data == name.encode() * 1000, f'the data is {data[:50]!r}')


def opens(lab, name, key=None):
    before = shell(f'sha256sum {name}.image').stdout
    line = lab.rescue_line(f'{name}.image', f'{name}.json', f'{key or name}.key')
    done = shell(f'{line} | cryptsetup open --readonly {name}.image rescued')
    demand(re.search(r'action.{1,3}rescue', done.stderr) and 'was written to the standard output' in done.stderr, done)
    must_hold(name)
    demand(shell(f'sha256sum {name}.image').stdout == before, 'the image was changed')
    shell(f'{line} | cryptsetup open {name}.image rescued')
    must_hold(name)


def stock_lines():
    with open(PAGE, encoding='utf-8') as f:
        [block] = [b for b in re.findall(r'```sh\n(.*?)```', f.read(), re.S) if 'pkeyutl' in b]
    return block


def opens_by_stock_tools(lab):
    """The page's block as it is printed, but for what its first line says: names."""
    first, rest = stock_lines().split('\n', 1)
    demand(first == 'image=IMAGE record=record.json key=escrow.key', first)
    shell('image=rsa.image record=rsa.json key=rsa.key\n' + rest)
    must_hold('rsa')
    for record, key in (('rsa', 'other'), ('second', 'rsa'), ('without', 'rsa')):
        shell(f'image=rsa.image record={record}.json key={key}.key\n' + rest, ok=False)
        demand(not os.path.exists('/dev/mapper/rescued'), 'it was opened')


def refuses(lab, words, name, key, record=None):
    done = lab.rescue(name, key, record, ok=False)
    said = [line for line in done.stderr.splitlines() if line.startswith('cofferctl: ')]
    demand(done.stdout == '' and len(said) == 1 and words in said[0], f'{done.stdout!r} {done.stderr}')


def changed(name, change):
    with open(f'{name}.json', encoding='utf-8') as f:
        record = json.load(f)
    change(record)
    with open('changed.json', 'w', encoding='utf-8') as f:
        json.dump(record, f)
    return 'changed.json'


def other_keys_and_records(lab):
    none = "the private key is none of the recipients' of volume"
    refuses(lab, none, 'rsa', 'other')
    refuses(lab, none, 'x25519', 'rsa')
    refuses(lab, 'names no recipient', 'without', 'rsa')
    for name in ('second', 'x25519'):
        refuses(lab, 'header', 'rsa', 'rsa' if name == 'second' else name, f'{name}.json')
    refuses(lab, 'opens no keyslot', 'rotated', 'rsa', 'before.json')
    mac = "its MAC doesn't fit"
    refuses(lab, 'names no recipient', 'rsa', 'rsa', changed('rsa', lambda r: r.update(recipients=[])))
    refuses(lab, mac, 'rsa', 'rsa', changed('rsa', lambda r: r['recipients'][0].update(label='mine')))
    refuses(lab, mac, 'rsa', 'rsa', changed('rsa', lambda r: r.update(tenant='other')))
    refuses(lab, "doesn't open what was wrapped", 'x25519', 'x25519', changed('x25519', lambda r: r.update(tenant='other')))
    with open('x25519.json', encoding='utf-8') as f:
        foreign = json.load(f)['recipients'][0]
    refuses(lab, mac, 'rsa', 'rsa', changed('rsa', lambda r: r['recipients'].append(foreign)))
    refuses(lab, mac, 'rsa', 'rsa', changed('rsa', lambda r: r['recipients'].insert(0, foreign)))
    with open('second.json', encoding='utf-8') as f:
        wrapped = json.load(f)['recipients'][0]['wrapped']
    refuses(lab, mac, 'rsa', 'rsa', changed('rsa', lambda r: r['recipients'][0].update(wrapped=wrapped)))
    refuses(lab, "doesn't open what was wrapped", 'rsa', 'rsa', changed('rsa', lambda r: r['recipients'][0].update(alg='RSA-OAEP-512')))
    refuses(lab, 'digest', 'rsa', 'rsa', changed('rsa', lambda r: r.update(digest='')))


def a_forged_header(lab):
    """Same uuid, same passphrase, another volume key: the stock tools would take it."""
    shutil.copy('rsa.image', 'forged.image')
    uuid = shell('cryptsetup luksUUID rsa.image').stdout.strip()
    shell(lab.rescue_line('rsa.image', 'rsa.json', 'rsa.key') + f' | tr -d "\\n" | cryptsetup -q luksFormat --type luks2 --uuid {uuid} '
          '--cipher aes-xts-plain64 --key-size 512 --sector-size 4096 --hash sha256 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 '
          '--offset 8192 --luks2-metadata-size 16k --luks2-keyslots-size 4161536 --key-file - forged.image')
    refuses(lab, 'another volume key', 'forged', 'rsa', 'rsa.json')


def nothing_is_left(lab):
    demand(not os.path.exists('/dev/mapper/rescued'), 'a mapping')
    found = [line for line in shell('losetup -a').stdout.splitlines() if lab.safe in line]
    demand(not found, found)


def main():
    tap = Tap()
    lab = Lab()
    tap.run('without what the escrow needs nothing is formatted, and doctor says it', nothing_is_formatted_without, lab)
    tap.run('each volume of a pool with an escrow key has it as a recipient', volumes_with_an_escrow, lab)
    all_is_gone(lab)
    tap.run('RSA: image, record and private key open the volume with stock cryptsetup', opens, lab, 'rsa')
    tap.run('X25519: the same', opens, lab, 'x25519')
    tap.run('after the rotation of a storage key: the same', opens, lab, 'rotated', 'rsa')
    tap.run('RSA: the lines of RECOVERY.md open it without Coffer', opens_by_stock_tools, lab)
    tap.run("other private keys, changed records, other volumes' records give nothing out", other_keys_and_records, lab)
    tap.run('nor does a header with another volume key', a_forged_header, lab)
    tap.run('no mapping and no loop device is left', nothing_is_left, lab)
    tap.done()


main()
