# SPDX-License-Identifier: Apache-2.0
"""What every component test needs: where the programs are, cases as TAP, a folder of one's own, waiting with a limit,
daemons that are started and have to answer, and a terminal that somebody types on. Python's own library alone."""
import contextlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.abspath(os.environ.get('COFFER_BIN', os.path.join(ROOT, 'build/test')))
ME = f'{os.geteuid()}:{os.getegid()}'
PATIENCE = 60  # seconds; a sanitizer's build on a busy machine


class Skip(Exception):
    """Raised by a test that can't run here; its text is the reason."""


def program(name):
    return os.path.join(BIN, name)


def built_with(name, text):
    """The program holds these bytes: fault points, a sanitizer."""
    with open(program(name), 'rb') as f:
        return text in f.read()


def sanitized(name):
    return built_with(name, b'__asan_init') or built_with(name, b'__tsan_init')


# ---- cases ----

def run_case(number, test, fresh):
    name = test.__name__.removeprefix('test_').replace('_', ' ')
    try:
        with contextlib.nullcontext(()) if fresh is None else fresh() as value:
            test(*(() if fresh is None else (value,)))
    except Skip as why:
        print(f'ok {number} - {name} # SKIP {why}', flush=True)
    except Exception as e:  # a test's failure, whatever it is  # pylint: disable=broad-except
        what = f'{type(e).__name__}: {e}'[:3000].splitlines()
        where = [f'{f.name}, line {f.lineno}: {f.line}' for f in traceback.extract_tb(e.__traceback__)[-4:]]
        print(f'not ok {number} - {name}\n' + '\n'.join('# ' + line for line in what + where), flush=True)
        return False
    else:
        print(f'ok {number} - {name}', flush=True)
    return True


def main(tests, fresh=None):
    """Runs each test, with what a `with fresh()` of its own gives (None: without an argument). The exit code."""
    print(f'1..{len(tests)}', flush=True)
    results = [run_case(number, test, fresh) for number, test in enumerate(tests, 1)]
    return 0 if all(results) else 1


@contextlib.contextmanager
def folder(prefix='coffer-'):
    path = tempfile.mkdtemp(prefix=prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path)


# ---- files ----

def read(*parts):
    with open(os.path.join(*parts), encoding='utf-8') as f:
        return f.read()


def write(path, text, mode=None):
    """text: or a value, written as JSON. mode: of the file, also when it was there."""
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text if isinstance(text, str) else json.dumps(text))
    if mode is not None:
        os.chmod(path, mode)


def write_key(path):
    """A master key as coffer-keyd wants it."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), 'wb') as f:
        f.write(os.urandom(32))


def file_pool(path, *kms, **more):
    return {'backend': 'file', 'path': path, 'kms': list(kms or ('dev',)), 'allocate': 'full', **more}


def configuration(pool, key, **more):
    """One pool `fast` with the key service `dev`."""
    return {'pools': {'fast': file_pool(pool)}, 'kms': {'dev': {'uri': 'file://' + key}}, **more}


# ---- processes ----

def run(argv, code=0, timeout=PATIENCE, **kw):
    """Runs a program to its end, which must be that exit code (None: any); texts, nothing on its standard input."""
    p = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=timeout, **kw)
    assert code is None or p.returncode == code, (argv, p.returncode, p.stdout, p.stderr)
    return p


def wait_for(condition, what, process=None, log=None, seconds=PATIENCE):
    """Until the condition holds. Fails when the process ends before, or after so many seconds; log: a file to show."""
    end = time.monotonic() + seconds
    while not condition():
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > end:
            said = read(log)[-2000:] if log else ''
            raise AssertionError(f'{"it ended" if ended else "too long a wait"}: {what}\n{said}')
        time.sleep(0.02)


def spawn(argv, log=os.devnull, ready=None, what=None, **kw):
    """Starts a daemon, its output added to the log, and waits: for ready(), or for the socket with the path `ready`."""
    with open(log, 'ab') as out:
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **kw)
    if ready is None:
        return p
    try:
        wait_for(ready if callable(ready) else lambda: os.path.exists(ready), what or f'{os.path.basename(argv[0])} answers', p,
                 None if log == os.devnull else log)
    except BaseException:
        end(p)
        raise
    return p


def stop(process, number=signal.SIGTERM):
    """Its exit code."""
    if process.poll() is None:
        process.send_signal(number)
    return process.wait(PATIENCE)


def end(process):
    if process.poll() is None:
        process.kill()
    process.wait()


def keyd_flags(config, socket_path, allow, peer=ME):
    return ['--config', config, '--socket', socket_path, '--allow', allow, '--insecure-file-kms', '--peer', peer]


def controller_flags(config, socket_path, keyd_socket):
    return ['--endpoint', 'unix://' + socket_path, '--config', config, '--keyd-socket', keyd_socket, '--node-id', 'n1']


def on_terminal(argv, typed):
    """Runs a program on a terminal of its own and types an answer when it asks; all it showed, and its exit code."""
    pid, fd = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execv(argv[0], argv)
    shown, answered = b'', False
    while True:
        ready, _, _ = select.select([fd], [], [], PATIENCE)
        try:
            data = os.read(fd, 4096) if ready else b''
        except OSError:  # it ended
            data = b''
        if not data:
            break
        shown += data
        if not answered and b'to go on: ' in shown:
            answered = os.write(fd, typed.encode() + b'\n') > 0
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    return shown.decode(), os.waitstatus_to_exitcode(status)
