# SPDX-License-Identifier: Apache-2.0
"""A volume under attack: what lies in the pool is saved, tampered with and restored; in between a call must be
refused and must have changed nothing. And `Paused`: a call that is held inside coffer-crypt while the pool changes."""
import contextlib
import glob
import json
import os
import stat
import subprocess

from files import read, write
from fixture import GID, MIB, UID_CONTROLLER, CallError
from luks2 import Header, stock_format
from sweep import demand_clean
from tap import demand

SIZE = 32 * MIB
MARKER = b'a line that must never lie on the disk in clear\n'
PLAIN = MARKER * 4000


def drop_caches():
    os.sync()
    with open('/proc/sys/vm/drop_caches', 'w', encoding='ascii') as f:
        f.write('3')


def is_plain(path):
    return os.path.lexists(path) and stat.S_ISREG(os.lstat(path).st_mode) and os.lstat(path).st_nlink == 1


def look(path):
    """A plain file's bytes; what else is there as a tuple."""
    if is_plain(path):
        return read(path)
    if not os.path.lexists(path):
        return ('nothing',)
    st = os.lstat(path)
    return ('special', st.st_mode, st.st_ino, st.st_nlink)


def written(path):
    """Changes whenever somebody writes to the file."""
    st = os.lstat(path)
    return st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns


def place_file(path, data=None, link=None, fifo=False, hard=None):
    """Puts a file into the pool as the controller's own: its owner and mode."""
    if os.path.lexists(path):
        os.unlink(path)
    if link:
        os.symlink(link, path)
    elif fifo:
        os.mkfifo(path, 0o600)
    elif hard:
        os.link(hard, path)
        return
    else:
        write(path, data)
        os.chmod(path, 0o600)
    os.lchown(path, UID_CONTROLLER, GID)


class Victim:
    """A `ready` volume with known data and nothing staged."""

    def __init__(self, coffer, name, tenant='lab'):
        self.c, self.volume = coffer, coffer.create(name, SIZE, parameters={'tenant': tenant})
        self.name, self.id, self.size = name, self.volume['volume_id'], SIZE
        self.known = None  # the image's bytes, with the time of its last change
        self.image, self.record_path = coffer.image(self.volume), os.path.join(coffer.place(self.volume), 'record.json')
        self.uuid = self.record()['uuid']
        coffer.stage(self.volume)
        write(coffer.staging(self.volume) + '/file', PLAIN)
        coffer.unstage(self.volume)

    # ---- the pool's files ----
    def header(self):
        return Header.read(self.image)

    def record(self):
        return json.loads(read(self.record_path))

    def put_record(self, record):
        """record: a dict, or any bytes."""
        place_file(self.record_path, record if isinstance(record, bytes) else json.dumps(record).encode())

    def edit_record(self, **fields):
        self.put_record({**self.record(), **fields})

    def save(self):
        return look(self.image), look(self.record_path)

    def good(self):
        """save() of the untouched pool; the image, 36 MiB, is read again only when somebody wrote to it."""
        stamp = written(self.image)
        if self.known is None or self.known[0] != stamp:
            self.known = (stamp, read(self.image))
            demand(MARKER not in self.known[1], 'the image holds the plaintext')
        return self.known[1], read(self.record_path)

    def restore(self, saved):
        """Byte by byte; only what differs is written, since a whole image takes long in a VM."""
        image, record = saved
        if not is_plain(self.image):
            place_file(self.image, b'')
        if self.known is None or self.known != (written(self.image), image):
            self.restore_image(image)
            self.known = (written(self.image), image)
        if look(self.record_path) != record:
            self.put_record(record)

    def restore_image(self, image):
        with open(self.image, 'r+b') as f:
            f.truncate(len(image))
            for at in range(0, len(image), MIB):
                if f.read(MIB) != image[at:at + MIB]:
                    f.seek(at)
                    f.write(image[at:at + MIB])
            f.flush()
            os.fsync(f.fileno())

    # ---- what keyd was asked ----
    def unwraps(self):
        """How often this volume's key was asked for, also in vain."""
        with open(self.c.keyd.log, encoding='utf-8', errors='replace') as f:
            return sum(1 for line in f if 'audit' in line and 'UNWRAP' in line and self.id in line)

    # ---- calls and what must hold ----
    def unlock_key(self):
        """Break-glass."""
        return subprocess.run(
            [self.c.bin + '/cofferctl', 'volume', 'unlock-key', self.id, '--config', self.c.config, '--admin-socket',
             self.c.admin_socket, '--reason', 'story', '--yes'], capture_output=True, check=False)

    def forged_header(self):
        """Of an attacker who once got the passphrase: (it, a header of the same uuid that it opens, with another volume key)"""
        done = self.unlock_key()
        demand(done.returncode == 0, f'cofferctl volume unlock-key: {done.stderr.decode()}')
        passphrase = done.stdout.strip()
        return passphrase, Header(stock_format(self.c.root + '/scratch', self.uuid, passphrase))

    def demand_refused(self, codes, word, call=None):
        try:
            (call or (lambda: self.c.stage(self.volume)))()
        except CallError as e:
            codes = (codes,) if isinstance(codes, str) else codes
            demand(e.code in codes and word in e.message, f'{e} (expected {" or ".join(codes)} and "{word}")')
            return
        raise RuntimeError('the call succeeded')

    def demand_table(self):
        """The live mapping is the one that Coffer makes, over this volume's image."""
        command = ['dmsetup', 'table', '--showkeys', self.c.dm_name(self.volume)]
        table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        _, _, target, cipher, key, iv, device, *rest = table.split()
        demand((target, cipher, iv, rest) == ('crypt', 'aes-xts-plain64', '0', ['8192', '1', 'sector_size:4096']) and
               key.startswith(f':64:logon:cryptsetup:{self.uuid}-d'), f'the live table: {table}')
        with open(f'/sys/dev/block/{device}/loop/backing_file', encoding='utf-8') as f:
            demand(f.read().strip() == self.image, 'the mapping lies over another image')

    def demand_data(self, where=None):
        demand(read((where or self.c.staging(self.volume)) + '/file') == PLAIN, 'the data is not what was written')

    def works(self):
        self.c.stage(self.volume)
        self.demand_table()
        self.demand_data()
        self.c.unstage(self.volume)

    def take_down(self):
        """Whatever an attack that got through has left."""
        for call in (self.c.unpublish, self.c.unstage):
            with contextlib.suppress(CallError):
                call(self.volume)

    def attack(self, tamper, codes, word, call=None, unwraps=None):
        """tamper() -> the call is refused, nothing is left of it, the pool is as tamper() left it -> restored."""
        good = self.good()
        try:
            tamper()
            before, asked = self.save(), self.unwraps()
            self.demand_refused(codes, word, call)
            demand_clean(self.c)
            demand(self.save() == before, 'the attempt changed the image or the record')
            demand(unwraps in (None, self.unwraps() - asked), f'keyd was asked {self.unwraps() - asked} times')
        except Exception:
            self.take_down()
            raise
        finally:
            self.restore(good)

    def record_attack(self, tamper, codes, word, unwraps):
        """The same for a tamper() that leaves the image alone: then it is enough that nobody wrote to it."""
        good = self.good()
        try:
            tamper()
            before, asked = look(self.record_path), self.unwraps()
            self.demand_refused(codes, word)
            demand(not self.seen_in_sysfs(), f'left over: {self.seen_in_sysfs()}')
            demand(written(self.image) == self.known[0] and look(self.record_path) == before,
                   'the attempt changed the image or the record')
            demand(self.unwraps() == asked + unwraps, f'keyd was asked {self.unwraps() - asked} times')
        except Exception:
            self.take_down()
            raise
        finally:
            self.restore(good)

    def seen_in_sysfs(self):
        """What Coffer.left_over() asks dmsetup and losetup for, without two programs."""
        found = self.c.mounts() + self.c.device_nodes()
        for path in glob.glob('/sys/block/dm-*/dm/name') + glob.glob('/sys/block/loop*/loop/backing_file'):
            with contextlib.suppress(OSError), open(path, encoding='utf-8') as f:
                text = f.read()
                found += [text] if text.startswith(('coffer-', self.c.pool)) else []
        return found

    def refused_or_right(self, tamper, call=None):
        """tamper() -> the call is refused and changes nothing, or the data is right and the mapping too -> restored."""
        good = self.good()
        try:
            tamper()
            before = self.save()
            try:
                (call or (lambda: self.c.stage(self.volume)))()
            except CallError as e:
                demand(e.code == 'DATA_LOSS', f'{e}')
                demand_clean(self.c)
                demand(self.save() == before, 'the attempt changed the image or the record')
                return f'refused: {e.message}'
            self.demand_table()
            self.demand_data()
            return 'opened, data right'
        finally:
            self.take_down()
            self.restore(good)


def the_end(c, victims):
    for v in victims:
        demand(MARKER not in read(v.image), 'an image holds the plaintext')
        c.delete(v.id)
        demand(not os.path.exists(c.place(v.volume)), 'a volume is still in the pool')
    demand_clean(c)
    demand(all(d.alive() for d in (c.keyd, c.controller, c.node)), 'a daemon ended')
