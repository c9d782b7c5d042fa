#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""leakscan: the scanner of the story `leaks` (e2e/lib/leakscan.py) against data that hides a secret: every encoding,
alignment, part and border between two reads; exec traces; the memory of a process. No root, no Coffer program."""
import base64
import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'e2e', 'lib'))
import caselib  # noqa: E402
import leakscan  # noqa: E402

KEY = os.urandom(32)
LONG = os.urandom(64)
TEXT = KEY[::-1].hex().encode()
NEEDLES = leakscan.Needles({'key': KEY, 'long': LONG, 'text': TEXT})
SECRETS = {'key': KEY, 'long': LONG, 'text': TEXT}
NOISE = os.urandom(7)


def names(found):
    return {what.split(',')[0] for what in found}


def parts(secret):
    half = len(secret) // 2
    return (secret, secret[:half], secret[half:])


def encodings(data):
    text = data.hex().encode()
    return (data, text, text.upper(), base64.b64encode(data), base64.urlsafe_b64encode(data))


def every_encoding_and_alignment(_):
    for name, secret in SECRETS.items():
        for part in parts(secret):
            for before in range(4):
                for after in range(3):
                    for form in encodings(NOISE[:before] + part + NOISE[:after]):
                        for shift in range(8):
                            found = names(NEEDLES.find(NOISE[:shift % 7] + b'.' + form + b'.'))
                            assert name in found, (name, before, after, shift, form[:20])


def dumps_in_text(_):
    for name, secret in (('key', KEY), ('long', LONG)):
        for separator in (' ', ':', '\\x', ', 0x'):
            text = separator.join(f'{b:02x}' for b in secret).encode()
            assert name in names(NEEDLES.find(b'a: ' + text, True)), (name, separator)
            assert not NEEDLES.find(b'a: ' + text), 'only text is searched for dumps'


def nothing_where_nothing_is(_):
    assert not NEEDLES.find(b'') and not NEEDLES.find(os.urandom(1 << 18)) and not NEEDLES.find(bytes(1 << 18), True)
    assert not NEEDLES.find(KEY[:15] + b'.' + KEY[17:])


def reader(data, size):
    chunks = [data[i:i + size] for i in range(0, len(data), size)] + [b'']
    return lambda: chunks.pop(0)


def across_two_reads(_):
    for at in range(0, 140):
        data = bytes(at) + LONG.hex().encode() + bytes(200)
        assert names(NEEDLES.find_in(reader(data, 100))) == {'long'}, at


def behind_an_empty_chunk(folder):
    path = f'{folder}/file'
    with open(path, 'wb') as f:
        f.write(bytes(3 * leakscan.CHUNK - 5) + KEY)
    found = leakscan.scan_tree(NEEDLES, folder)
    assert {(f.kind, f.where) for f in found} == {('file', path)}, found
    assert not leakscan.scan_tree(NEEDLES, folder, skip=(folder + '/fi',))
    assert not leakscan.scan_tree(NEEDLES, folder, since=os.stat(path).st_ctime + 1)
    os.unlink(path)


def needs_tracing(folder):
    if not shutil.which('strace'):
        raise caselib.Skip('strace is not installed')
    trace = f'{folder}/can'
    done = subprocess.run(leakscan.strace(trace) + ['/bin/true'], capture_output=True, check=False)
    if done.returncode != 0 or not os.path.exists(trace):
        raise caselib.Skip('this process may not trace another')


def traced(folder, *command, env=None):
    trace = f'{folder}/trace'
    with subprocess.Popen(leakscan.strace(trace) + list(command), env=env or {}, cwd=folder) as p:
        p.wait(60)
    leakscan.wait_traced(trace, p.pid)
    result = leakscan.ExecTrace(trace)
    os.unlink(trace)
    return result


def exec_trace(folder):
    needs_tracing(folder)
    sh = shutil.which('sh')
    quiet = traced(folder, sh, '-c', '/bin/true a; : >out', env={'A': '"], ["'})
    assert not quiet.scan(NEEDLES, 'trace') and quiet.programs() == {'sh', 'true'}
    assert f'{folder}/out' in quiet.written, quiet.written
    by_argument = traced(folder, sh, '-c', f'/bin/true {KEY.hex()}')
    assert {f.kind for f in by_argument.scan(NEEDLES, 'trace')} == {'argv'}
    by_environment = traced(folder, sh, '-c', '/bin/true', env={'K': base64.b64encode(b'1' + KEY).decode()})
    assert {f.kind for f in by_environment.scan(NEEDLES, 'trace')} == {'env'}
    raw = traced(folder, '/bin/true', LONG.replace(b'\0', b'\1'))
    assert (b'\0' in LONG) or names(f.what for f in raw.scan(NEEDLES, 'trace')) == {'long'}


def snapshots(_):
    for secret in (b'no secret', KEY.hex().encode()):
        command = [sys.executable, '-S', '-c', 'import sys; sys.stdin.read()']
        for kind, more, env in (('argv', [secret], {}), ('env', [], {'K': secret})):
            taken = leakscan.Snapshots(0.01)
            with subprocess.Popen(command + more, env=env, stdin=subprocess.PIPE) as p:
                caselib.wait_for(lambda w=secret, k=kind, t=taken: any(w in text for text in list(t.seen[k])), f'{kind} is seen')
                p.stdin.close()
            taken.stop()
            found = {(f.kind, f.what.split(',')[0]) for f in taken.scan(NEEDLES)}
            assert found == (set() if secret == b'no secret' else {(kind, 'key')}), (kind, found)


def memory(folder):
    needs_tracing(folder)
    for keeps in (KEY, b'no key'.ljust(32)):
        program = 'import sys; k = sys.stdin.buffer.read(32); print(end="x", flush=True); sys.stdin.buffer.read()'
        with subprocess.Popen([sys.executable, '-S', '-c', program], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as p:
            p.stdin.write(keeps)
            p.stdin.flush()
            p.stdout.read(1)
            found = leakscan.scan_memory(NEEDLES, p.pid, 'child', b'flush=True')
            p.stdin.close()
        assert names(f.what for f in found) == ({'key'} if keeps == KEY else set()), found


def memory_that_was_not_seen(folder):
    """Without the control text the scan says so, and doesn't say that nothing is there."""
    needs_tracing(folder)
    with subprocess.Popen(['sleep', '100']) as p:
        try:
            leakscan.scan_memory(NEEDLES, p.pid, 'child', os.urandom(32))
        except RuntimeError as e:
            assert 'what must be there was not' in str(e)
        else:
            raise AssertionError('it was accepted')
        finally:
            p.kill()


TESTS = [every_encoding_and_alignment, dumps_in_text, nothing_where_nothing_is, across_two_reads, behind_an_empty_chunk,
         exec_trace, snapshots, memory, memory_that_was_not_seen]

sys.exit(caselib.main(TESTS, caselib.folder))
