# SPDX-License-Identifier: Apache-2.0
"""Looks for a volume's secrets wherever they must not be. `Needles` turns secrets into byte strings to look for: each
secret in pieces of 16 bytes (a part of a key is a leak too), each piece raw, in hex and in base64 at all three
alignments. The functions below look into one kind of place and return findings: (kind, where, what). Secrets live
in this process's memory alone; findings name them and never show them."""
import array
import base64
import collections
import os
import re
import stat
import subprocess
import threading
import time
import typing

CHUNK = 1 << 20
ZEROS = bytes(CHUNK)
PIECE = 16
PAGE = os.sysconf('SC_PAGE_SIZE')


class Finding(typing.NamedTuple):
    kind: str   # log, reply, argv, env, core, file, disk, memory
    where: str
    what: str   # which secret in which form


# ---- what to look for ----
def base64_cores(piece):
    """What a piece looks like inside longer base64, whatever stands around it."""
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + piece)
        core = text[-(-8 * shift // 6):8 * (shift + len(piece)) // 6]
        yield core
        yield core.translate(bytes.maketrans(b'+/', b'-_'))


def hex_pairs(piece, separators):
    for text in (piece.hex(), piece.hex().upper()):
        pairs = [text[i:i + 2] for i in range(0, len(text), 2)]
        for separator in separators:
            yield separator.join(pairs).encode()


def words_of(needles):
    return {int.from_bytes(needle[i:i + 8], 'little') for needle in needles for i in range(8)}


class Needles:
    """`everywhere`: for all data. `in_text`: for text also hex with something between two bytes, as dumps have it."""

    def __init__(self, secrets):
        """secrets: name -> bytes"""
        self.everywhere, self.in_text = {}, {}
        for name, data in secrets.items():
            size = 2 * PIECE if data.isascii() else PIECE  # text is hex digits: half as much in each byte
            for at in range(0, len(data), size):
                self.add(name, data[at:at + size])
        self.in_text.update(self.everywhere)
        self.longest = max(len(n) for n in self.in_text)
        # Wherever a needle is, one of these words is at a multiple of 8: one pass over the data tells.
        self.words = {False: words_of(self.everywhere), True: words_of(self.in_text)}

    def add(self, name, piece):
        self.everywhere[piece] = f'{name}, raw'
        self.everywhere.update({text: f'{name}, base64' for text in base64_cores(piece)})
        self.everywhere.update({text: f'{name}, hex' for text in hex_pairs(piece, ('',))})
        self.in_text.update({text: f'{name}, hex' for text in hex_pairs(piece, (' ', ':', '\\x', ', 0x'))})

    def find(self, data, text=False):
        padded = data + bytes(-len(data) % 8)
        if self.words[text].isdisjoint(memoryview(padded).cast('Q')):
            return []
        return sorted({what for needle, what in (self.in_text if text else self.everywhere).items() if needle in data})

    def find_in(self, read, text=False):
        """read() -> the next bytes, b'' at the end; a needle may lie across two of them."""
        found, tail = set(), b''
        while chunk := read():
            if chunk == ZEROS:
                tail = b''
                continue
            data = tail + chunk
            found.update(self.find(data, text))
            tail = data[-self.longest:]
        return sorted(found)


TEXT = ('log', 'reply', 'argv', 'env')  # kinds of finding


# ---- bytes, files, the disk ----
def scan_bytes(needles, kind, where, data):
    return [Finding(kind, where, what) for what in needles.find(data, kind in TEXT)]


def scan_file(needles, kind, path, start=0):
    try:
        with open(path, 'rb', buffering=0) as f:
            f.seek(start)
            return [Finding(kind, path, what) for what in needles.find_in(lambda: f.read(CHUNK), kind in TEXT)]
    except FileNotFoundError:
        return []


def walk(top, deepest=99):
    """Regular files below top on its own file system."""
    try:
        device = os.stat(top).st_dev
    except FileNotFoundError:
        return
    todo = [(top, 0)]
    while todo:
        directory, depth = todo.pop()
        try:
            entries = list(os.scandir(directory))
        except OSError:
            continue
        for e in entries:
            try:
                st = e.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISDIR(st.st_mode) and st.st_dev == device and depth < deepest:
                todo.append((e.path, depth + 1))
            elif stat.S_ISREG(st.st_mode):
                yield e.path, st


def scan_tree(needles, top, skip=(), since=0.0, deepest=99):
    """Files below top that were changed since; `skip`: paths that begin so are not looked at."""
    return [f for path, st in walk(top, deepest) if st.st_ctime >= since and not path.startswith(tuple(skip))
            for f in scan_file(needles, 'file', path)]


def scan_disk(needles, device):
    """The raw device, past the page cache: freed blocks too."""
    import mmap  # pylint: disable=import-outside-toplevel
    room = mmap.mmap(-1, CHUNK)  # O_DIRECT wants aligned memory
    fd = os.open(device, os.O_RDONLY | os.O_DIRECT)
    try:
        return [Finding('disk', device, what) for what in
                needles.find_in(lambda: room[:os.readv(fd, [room])])]
    finally:
        os.close(fd)


# ---- processes ----
def present(pid, start, end):
    """Runs of pages of [start, end) that are in memory or swap: an untouched page holds nothing."""
    first = None
    with open(f'/proc/{pid}/pagemap', 'rb', buffering=0) as f:
        f.seek(start // PAGE * 8)
        pages = array.array('Q', f.read((end - start) // PAGE * 8))
    for i, entry in enumerate(pages):
        if entry >> 62 and first is None:
            first = start + i * PAGE
        elif not entry >> 62 and first is not None:
            yield first, start + i * PAGE
            first = None
    if first is not None:
        yield first, start + len(pages) * PAGE


def is_constant(fields):
    """A program's or library's text and constants: the file's own bytes, older than any secret."""
    path = fields[-1]
    return fields[1] in ('r-xp', 'r--p') and (path.startswith(('/usr/', '/lib')) or os.path.basename(path).startswith('coffer-'))


def memory_of(pid):
    """All readable memory of a process, in runs of pages, each with whether it is constant."""
    with open(f'/proc/{pid}/maps', encoding='utf-8', errors='replace') as f:
        maps = [line.split() for line in f]
    with open(f'/proc/{pid}/mem', 'rb', buffering=0) as mem:
        for fields in maps:
            if fields[1][0] != 'r' or fields[-1] in ('[vvar]', '[vvar_vclock]', '[vsyscall]'):
                continue
            start, end = (int(x, 16) for x in fields[0].split('-'))
            for at, to in present(pid, start, end):
                yield read_memory(mem, at, to), is_constant(fields)


def scan_memory(needles, pid, who, control):
    """`control`: bytes that must be in it, or the scan saw nothing."""
    found, seen, size = set(), False, 0
    for data, constant in memory_of(pid):
        size += len(data)
        seen = seen or control in data
        if not constant:
            found.update(needles.find(data))
    if not seen:
        raise RuntimeError(f'{who}: {size} bytes of memory were read and what must be there was not')
    return [Finding('memory', who, what) for what in sorted(found)]


def count_in_memory(pid, texts):
    """How many copies of each there are; those without one are left out."""
    counted = collections.Counter()
    for data, _ in memory_of(pid):
        counted.update({text: data.count(text) for text in texts if text in data})
    return counted


def read_memory(mem, at, to):
    data = bytearray()
    while at < to:
        try:
            mem.seek(at)
            part = mem.read(to - at)
        except OSError:  # given back to the kernel meanwhile
            part = b''
        at += len(part) or PAGE
        data += part
    return data


class Snapshots:
    """Command lines and environments of all processes but this one, again and again."""

    def __init__(self, interval=0.2):
        self.seen = {'argv': set(), 'env': set()}
        self.interval, self.done = interval, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.done.wait(self.interval):
            self.take()

    def take(self):
        for pid in os.listdir('/proc'):
            if not pid.isdigit() or int(pid) == os.getpid():
                continue
            for kind, name in (('argv', 'cmdline'), ('env', 'environ')):
                try:
                    with open(f'/proc/{pid}/{name}', 'rb') as f:
                        self.seen[kind].add(f.read())
                except OSError:  # it has gone
                    pass

    def stop(self):
        self.done.set()
        self.thread.join()

    def scan(self, needles):
        return [f for kind, texts in self.seen.items() for text in list(texts)
                for f in scan_bytes(needles, kind, '/proc', text)]


# ---- the trace of every exec ----
HEX_STRING = re.compile(rb'(?:\\x[0-9a-f]{2})+')
EXEC = re.compile(rb'execve\("([^"]*)", (\[[^]]*\]|NULL), (\[[^]]*\]|NULL)')
OPENED = re.compile(rb'(?:open|openat|openat2|creat)\((?:[^,"<]*(?:<([^>]*)>)?[^,"]*, )?"([^"]*)"(.*)')


def strace(trace):
    """The prefix of a command: a trace of every exec and every file opened by it and its children. -D keeps the
    command our own child; --seccomp-bpf stops it at these calls only (elsewhere it runs at its own speed); -xx writes
    every string in hex, so that nothing in it can be taken for a quote."""
    return ['strace', '-D', '-A', '-f', '--seccomp-bpf', '-q', '-y', '-v', '-xx', '-s', '131072', '-o', trace,
            '-e', 'trace=execve,open,openat,openat2,creat', '--']


def plain(text):
    return HEX_STRING.sub(lambda m: bytes.fromhex(m.group().replace(b'\\x', b'').decode()), text)


class ExecTrace:
    def __init__(self, path):
        self.execs, self.written = [], set()
        with open(path, 'rb') as f:
            for line in f:
                self.read(line)

    def read(self, line):
        if b'execve(' in line:
            m = EXEC.search(line)
            if m is None:
                raise RuntimeError(f'a line of the trace is not understood: {line[:100]}')
            self.execs.append(tuple(plain(x) for x in m.groups()))
            return
        m = OPENED.search(line)
        if m and (b'creat(' in line or any(flag in m.group(3) for flag in (b'O_WRONLY', b'O_RDWR', b'O_CREAT'))):
            path = os.path.join(plain(m.group(1) or b'/'), plain(m.group(2)))
            self.written.add(path.decode(errors='surrogateescape'))

    def scan(self, needles, where):
        """The program's own name counts as an argument."""
        return [f for name, argv, env in self.execs
                for kind, text in (('argv', name), ('argv', argv), ('env', env))
                for f in scan_bytes(needles, kind, where, text)]

    def programs(self):
        return {name.decode(errors='replace').rsplit('/', 1)[-1] for name, _, _ in self.execs}


# ---- core files, the kernel's log ----
class Cores:
    """Every core file of the machine goes into one folder meanwhile."""

    PATTERN = '/proc/sys/kernel/core_pattern'

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, mode=0o777, exist_ok=True)
        os.chmod(folder, 0o777)
        with open(self.PATTERN, encoding='ascii') as f:
            self.before = f.read()

    def __enter__(self):
        self.write(f'{self.folder}/core.%e.%p')
        return self

    def __exit__(self, *_):
        self.write(self.before)

    def write(self, text):
        with open(self.PATTERN, 'w', encoding='ascii') as f:
            f.write(text)

    def clear(self):
        for name in os.listdir(self.folder):
            os.unlink(os.path.join(self.folder, name))

    def scan(self, needles):
        """Any core file is one too many, even when no needle is in it."""
        found = []
        for name in sorted(os.listdir(self.folder)):
            path = os.path.join(self.folder, name)
            found += scan_file(needles, 'core', path) or [Finding('core', path, 'a core file')]
        return found


def kernel_log():
    return subprocess.run(['dmesg'], capture_output=True, check=True).stdout


def wait_traced(path, pid, seconds=300):
    """Until the tracer has written that the process ended."""
    end = time.monotonic() + seconds
    want = re.compile(rb'^%d +\+\+\+ ' % pid, re.M)
    while True:
        with open(path, 'rb') as f:
            if want.search(f.read()):
                return
        if time.monotonic() > end:
            raise RuntimeError(f'{path}: the trace does not end')
        time.sleep(0.05)
