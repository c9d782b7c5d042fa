#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The CSI server as a real process (csi-fake: the real csi/ over ops that pretend): broken bytes, limits, many calls
at once, deadlines, cancels, the socket's lock and the drain. TAP on stdout; no root, no Go."""
import contextlib
import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
import caselib  # noqa: E402
import h2  # noqa: E402
import h2broken  # noqa: E402
from caselib import BIN, Skip, end, read, wait_for  # noqa: E402

FAKE, CALL = caselib.program('csi-fake'), caselib.program('csi-call')
PROBE, DELETE, CREATE = '/csi.v1.Identity/Probe', '/csi.v1.Controller/DeleteVolume', '/csi.v1.Controller/CreateVolume'
CAP = {'mount': {}, 'access_mode': {'mode': 1}}
CODES = {'CANCELLED': 1, 'INVALID_ARGUMENT': 3, 'DEADLINE_EXCEEDED': 4, 'NOT_FOUND': 5, 'ALREADY_EXISTS': 6,
         'PERMISSION_DENIED': 7, 'RESOURCE_EXHAUSTED': 8, 'FAILED_PRECONDITION': 9, 'ABORTED': 10, 'OUT_OF_RANGE': 11,
         'UNIMPLEMENTED': 12, 'INTERNAL': 13, 'UNAVAILABLE': 14, 'DATA_LOSS': 15, 'UNAUTHENTICATED': 16}


def limit_descriptors(limits):
    if limits is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class Server:
    def __init__(self, drain=5000, workers=0, path=None, descriptors=None, second=False):
        self.dir = tempfile.TemporaryDirectory(prefix='csi')
        self.path = path or os.path.join(self.dir.name, 'csi.sock')
        self.log = open(os.path.join(self.dir.name, 'log'), 'w+b')
        self.paths = [self.path, self.path + '.second'][:1 + second]
        self.process = subprocess.Popen([FAKE, ','.join('unix://' + p for p in self.paths), str(drain), str(workers)], stderr=self.log,
                                        umask=0, preexec_fn=lambda: limit_descriptors(descriptors))
        wait_for(lambda: self.call('Probe')[0] == 0, 'the server answers', self.process, self.log.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)
        self.log.close()
        self.dir.cleanup()

    def start_call(self, method, request=None, timeout=60, more=(), path=None):
        return subprocess.Popen([CALL, path or self.path, method, '-', '--timeout', str(timeout), *more],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True), \
            json.dumps(request or {})

    def call(self, method, request=None, timeout=60, more=()):
        """(exit code, reply or None, error text)"""
        p, body = self.start_call(method, request, timeout, more)
        out, err = p.communicate(body)
        return p.returncode, json.loads(out) if p.returncode == 0 or more else None, err.strip()

    def background(self, method, request, timeout=60, path=None):
        p, body = self.start_call(method, request, timeout, path=path)
        p.stdin.write(body)
        p.stdin.close()
        p.stdin = None
        return p

    def counts(self):
        usage = self.call('NodeGetVolumeStats', {'volume_id': 'v', 'volume_path': '/p'})[1]['usage'][0]
        return int(usage.get('total', 0)), int(usage.get('used', 0))

    def wait_counts(self, began=None, ended=None):
        def as_wanted():
            b, e = self.counts()
            return began in (None, b) and ended in (None, e)
        wait_for(as_wanted, f'{began} began, {ended} ended', self.process, self.log.name)

    def text(self):
        self.log.flush()
        with open(self.log.name, errors='replace') as f:
            return f.read()

    def lives(self):
        assert self.process.poll() is None, 'the server died:\n' + self.text()[-2000:]
        assert self.call('Probe')[1] == {'ready': True}

    def descriptors(self):
        return len(os.listdir(f'/proc/{self.process.pid}/fd'))

    def stop(self, timeout=60):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)


# ---- the socket

def the_socket_and_its_lock_are_the_owner_s_alone():
    with Server() as s:  # started with umask 0
        for path in (s.path, s.path + '.lock'):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, path


def a_second_instance_is_refused_and_the_first_keeps_its_socket():
    with Server() as s:
        inode = os.stat(s.path).st_ino
        p = subprocess.run([FAKE, s.path], stderr=subprocess.PIPE, text=True, timeout=60)
        assert p.returncode == 1, p
        assert p.stderr == (f"csi-fake: another process already serves '{s.path}': "
                            f"it holds the lock '{s.path}.lock'\n"), p.stderr
        assert os.stat(s.path).st_ino == inode
        s.lives()


def a_killed_instance_leaves_a_socket_that_the_next_one_replaces():
    with Server() as s:
        s.process.kill()
        s.process.wait()
        assert stat.S_ISSOCK(os.stat(s.path).st_mode)
        with Server(path=s.path) as t:
            t.lives()


def what_is_not_a_socket_is_not_removed():
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, 'csi.sock')
        with open(path, 'w') as f:
            f.write('data')
        p = subprocess.run([FAKE, path], stderr=subprocess.PIPE, text=True, timeout=60)
        assert p.returncode == 1 and p.stderr == f"csi-fake: '{path}' exists and is not a socket\n", p
        assert read(path) == 'data'


def a_wrong_endpoint_is_one_sentence():
    p = subprocess.run([FAKE, 'tcp://127.0.0.1:1'], stderr=subprocess.PIPE, text=True, timeout=60)
    assert p.returncode == 1 and p.stderr == (
        "csi-fake: endpoint 'tcp://127.0.0.1:1' must be unix:///path, unix:/path or an absolute path\n"), p


# ---- answers

def every_error_code_arrives_with_its_text():
    with Server() as s:
        for name, number in CODES.items():
            code, _, err = s.call('DeleteVolume', {'volume_id': 'fail:' + name})
            assert code == number and err.endswith(': failed as asked'), (name, code, err)
        code, _, err = s.call('DeleteVolume', {'volume_id': 'fail:'})
        assert code == 10 and err == 'ABORTED: ABORTED', 'the message must not be empty: ' + err


def unsupported_and_unknown_methods_are_unimplemented():
    with Server() as s:
        for method in ('CreateSnapshot', 'ListSnapshots', 'ControllerPublishVolume', 'ControllerModifyVolume',
                       'ControllerGetVolume', 'GroupControllerGetCapabilities'):
            code, _, err = s.call(method)
            assert code == 12 and 'is not implemented' in err, (method, code, err)
        with h2.Connection(s.path) as c:
            assert c.call('/no.such.Service/Method', b'')[0] == 12
            assert c.call('/' + 'x' * 2000, b'')[0] in (12, None)
        s.lives()


def an_empty_field_is_named_before_anything_runs():
    with Server() as s:
        code, _, err = s.call('DeleteVolume')
        assert code == 3 and err == 'INVALID_ARGUMENT: volume_id is missing', (code, err)
        assert s.counts() == (0, 0)


# ---- bad input

def strings_that_are_not_text_are_refused():
    with Server() as s, h2.Connection(s.path) as c:
        for bad, why in ((b'a\0b', 'volume_id contains a NUL byte'), (b'\xff\xfe', 'volume_id is not valid UTF-8'),
                         (b'\xed\xa0\x80', 'volume_id is not valid UTF-8')):
            assert c.call(DELETE, h2.field(1, bad)) == (3, why)
        secret = h2.field(1, b'k') + h2.field(2, b'v\0w')
        assert c.call(DELETE, h2.field(1, b'v') + h2.field(2, secret)) == (3, 'secrets contains a NUL byte')
        assert c.call(CREATE, h2.field(1, b'a\x01b')) == (3, 'name contains a control character')
        assert s.counts() == (0, 0)


def oversized_fields_are_refused_by_name():
    with Server() as s:
        for request, why in (
                ({'volume_id': 'x' * 129}, 'volume_id is longer than 128 bytes'),
                ({'volume_id': 'v', 'secrets': {'k': 'x' * 4096}}, 'secrets holds more than 4096 bytes'),
                ({'volume_id': 'x' * 3000000}, 'volume_id is longer than 128 bytes')):
            code, _, err = s.call('DeleteVolume', request)
            assert code == 3 and err == 'INVALID_ARGUMENT: ' + why, (code, err)
        assert s.call('DeleteVolume', {'volume_id': 'x' * 128})[0] == 0


def a_request_of_ten_mebibytes_is_resource_exhausted():
    with Server() as s:
        pid = s.process.pid
        for _ in range(3):
            code, _, err = s.call('DeleteVolume', {'volume_id': 'x' * (10 << 20)})
            assert code == 8, (code, err)
        s.lives()
        assert s.process.pid == pid
        assert s.counts() == (0, 0)


def malformed_messages_are_invalid():
    with Server() as s, h2.Connection(s.path) as c:
        for body in (b'\x0a', b'\x0a\xff\xff\xff\xff\x0f', b'\x08\x01', b'\x00', b'\x0b\x0c', b'\xff' * 11,
                     b'\x12\x05\x0a\xff\xff\xff\x0f'):
            status, why = c.call(DELETE, body)
            assert status == 3 and 'not a well-formed csi.v1.DeleteVolumeRequest' in why, (body, status, why)
        s.lives()


def a_million_empty_submessages_do_not_grow_the_process():
    with Server() as s, h2.Connection(s.path) as c:
        status, why = c.call(CREATE, b'\x1a\x00' * 8000)  # one frame; 16,000 bytes on the wire
        assert status == 3, (status, why)
        body = h2.message(b'\x1a\x00' * 1000000)
        stream = c.open(CREATE)
        for at in range(0, len(body), 16384):
            c.send(h2.frame(h2.DATA, h2.END_STREAM if at + 16384 >= len(body) else 0, stream, body[at:at + 16384]))
        status, why = c.result(stream)
        assert (status, why) == (3, 'the request has more than 20000 fields'), (status, why)
        peak = int(re.search(r'VmHWM:\s+(\d+)', read(f'/proc/{s.process.pid}/status')).group(1))
        assert peak < 120000 or 'asan' in BIN, f'{peak} kB'


def a_call_without_a_message_ends():
    with Server() as s, h2.Connection(s.path) as c:
        stream = c.open(PROBE)
        c.send(h2.frame(h2.DATA, h2.END_STREAM, stream))
        status, why = c.result(stream)
        assert status in (12, 13), (status, why)
        s.lives()


def a_compressed_message_is_not_unpacked():
    with Server() as s, h2.Connection(s.path) as c:
        stream = c.open(DELETE, extra=[('grpc-encoding', 'gzip')])
        c.send(h2.frame(h2.DATA, h2.END_STREAM, stream, h2.message(b'\x1f\x8b' + b'\0' * 30, compressed=1)))
        status, why = c.result(stream)
        assert status not in (0, None), (status, why)
        assert s.counts() == (0, 0)


def broken_frames_and_cut_streams_end_only_their_connection():
    with Server() as s, h2.Connection(s.path) as steady:
        assert steady.call(PROBE, b'')[0] == 0
        for name, data in h2broken.FRAMES.items():
            with contextlib.suppress(BrokenPipeError, ConnectionResetError), h2.Connection(s.path, preface=False) as c:
                c.send(data)
                c.sock.settimeout(0.05)
                with contextlib.suppress(socket.timeout):
                    c.sock.recv(65536)
            assert steady.call(PROBE, b'')[0] == 0, name
            assert s.process.poll() is None, name
        s.lives()


def connections_leave_no_descriptor():
    with Server() as s:
        s.lives()
        time.sleep(0.3)
        before = s.descriptors()
        for _ in range(50):
            with h2.Connection(s.path) as c:
                c.open(DELETE)
        wait_for(lambda: s.descriptors() <= before, f'{before} descriptors as before')


def a_low_soft_limit_of_descriptors_is_raised():
    with Server(descriptors=(64, 4096)) as s, contextlib.ExitStack() as stack:
        many = [stack.enter_context(h2.Connection(s.path)) for _ in range(200)]
        assert all(c.call(PROBE, b'')[0] == 0 for c in many)


def a_server_that_can_t_accept_any_more_ends():
    with Server(descriptors=(40, 40), drain=300) as s, contextlib.ExitStack() as stack:
        for _ in range(60):
            with contextlib.suppress(OSError):
                stack.enter_context(h2.Connection(s.path))
        assert s.process.wait(60) == 3, 'an end that a supervisor takes for a failure'
        assert "can't be reached" in s.text(), s.text()[-2000:]


# ---- many calls, slow calls

def two_hundred_calls_at_once_are_all_answered():
    with Server() as s:
        start = time.monotonic()
        code, figures, _ = s.call('DeleteVolume', {'volume_id': 'sleep:100'}, more=('--parallel', '200'))
        took = time.monotonic() - start
        assert code == 0 and figures['codes'] == {'OK': 200}, figures
        assert took > 200 * 0.1 / 32 * 0.9, f'{took:.2f} s: more than 32 workers'
        assert s.counts() == (200, 200)


def a_slow_op_does_not_hold_up_what_does_not_block():
    with Server(workers=1) as s:
        p = s.background('DeleteVolume', {'volume_id': 'sleep:8000'})
        q = s.background('DeleteVolume', {'volume_id': 'sleep:1'})
        for method in ('Probe', 'GetPluginInfo', 'NodeGetInfo', 'NodeGetCapabilities', 'ControllerGetCapabilities'):
            assert s.call(method)[0] == 0
        assert s.call('DeleteVolume')[0] == 3  # validation too
        assert p.poll() is None
        assert p.wait() == 0 and q.wait() == 0


def a_call_whose_deadline_passed_in_the_queue_never_begins():
    with Server(workers=1) as s:
        p = s.background('DeleteVolume', {'volume_id': 'sleep:8000'})
        time.sleep(1)  # the one worker is taken, so it can't be asked
        assert s.call('DeleteVolume', {'volume_id': 'quick'}, timeout=1)[0] == 4
        assert p.poll() is None
        assert p.wait() == 0
        s.wait_counts(ended=1)
        assert s.counts() == (1, 1)
        assert 'the deadline passed while the call waited for a worker' in s.text()


def a_call_cancelled_in_the_queue_never_begins():
    with Server(workers=1) as s:
        p = s.background('DeleteVolume', {'volume_id': 'sleep:8000'})
        time.sleep(1)  # as above
        q = s.background('DeleteVolume', {'volume_id': 'quick'})
        time.sleep(1)
        q.kill()
        q.wait()
        assert p.wait() == 0
        s.wait_counts(ended=1)
        assert s.counts() == (1, 1)
        assert 'the client gave up while the call waited for a worker' in s.text()


def an_op_sees_that_its_client_went_away():
    with Server() as s:
        p = s.background('DeleteVolume', {'volume_id': 'wait:60000'})
        s.wait_counts(began=1, ended=0)
        p.kill()
        p.wait()
        s.wait_counts(ended=1)
        code, _, err = s.call('DeleteVolume', {'volume_id': 'wait:60000'}, timeout=1)
        assert code == 4, (code, err)
        s.wait_counts(began=2, ended=2)


def work_goes_on_when_the_op_doesn_t_look():
    with Server() as s:
        assert s.call('DeleteVolume', {'volume_id': 'sleep:8000'}, timeout=1)[0] == 4
        assert s.counts() == (1, 0)
        s.wait_counts(ended=1)


# ---- the end

def sigterm_lets_running_calls_finish_and_removes_the_socket():
    with Server() as s:
        calls = [s.background('DeleteVolume', {'volume_id': 'sleep:1000'}) for _ in range(4)]
        s.wait_counts(began=4)
        s.process.send_signal(signal.SIGTERM)
        assert [p.wait() for p in calls] == [0, 0, 0, 0]
        assert s.process.wait(10) == 0
        assert not os.path.exists(s.path)
        assert s.call('Probe', timeout=2)[0] == 14


def an_idle_server_stops_at_once():
    with Server() as s:
        start = time.monotonic()
        assert s.stop() == 0
        assert time.monotonic() - start < 15, 'the drain limit, not idleness, ended it'
        assert not os.path.exists(s.path)


def after_the_drain_limit_calls_are_cancelled():
    with Server(drain=300) as s:
        p = s.background('DeleteVolume', {'volume_id': 'wait:60000'})
        s.wait_counts(began=1)
        start = time.monotonic()
        assert s.stop() == 0
        assert 0.25 < time.monotonic() - start < 50
        assert p.wait() != 0
        assert not os.path.exists(s.path)


def a_call_that_never_ends_does_not_keep_the_process():
    with Server(drain=300) as s:
        p = s.background('DeleteVolume', {'volume_id': 'sleep:60000'})
        s.wait_counts(began=1)
        assert s.stop() == 3
        assert p.wait() != 0
        assert not os.path.exists(s.path)
        assert 'calls did not end' in s.text()


def two_sockets_drain_side_by_side():
    with Server(drain=300, second=True) as s:
        calls = [s.background('DeleteVolume', {'volume_id': 'sleep:60000'}, path=path) for path in s.paths]
        s.wait_counts(began=2)
        assert s.stop() == 3
        assert all(p.wait() != 0 for p in calls)
        said = [(what, path) for line in s.text().splitlines() for path in s.paths
                for what in ('cancelling', 'leaving') if what in line and f'"{path}"' in line]
        wanted = [(what, path) for what in ('cancelling', 'leaving') for path in s.paths]
        assert said == wanted, f'one limit for both, not one after the other: {said}'


# ---- what is written

def one_line_per_call_and_no_body():
    with Server() as s:
        marker = 'topsecretmarker'
        s.call('CreateVolume', {'name': 'pvc-1', 'volume_capabilities': [CAP], 'secrets': {'k': marker},
                                'parameters': {'p': marker}})
        s.call('NodeStageVolume', {'volume_id': 'fail:ABORTED', 'staging_target_path': '/s', 'volume_capability': CAP,
                                   'volume_context': {'t': marker}, 'secrets': {'k': marker}})
        lines = [x for x in s.text().splitlines() if '"call"' in x]
        assert len(lines) == 2, lines
        assert re.search(r'method="/csi.v1.Controller/CreateVolume" volume_id="pvc-1" name="pvc-1" code="OK" ms=\d+$',
                         lines[0]), lines[0]
        assert re.search(r'method="/csi.v1.Node/NodeStageVolume" volume_id="fail:ABORTED" code="ABORTED" ms=\d+ '
                         r'error="failed as asked"$', lines[1]), lines[1]
        assert marker not in s.text()


def memory_holds(pid, needle):
    with open(f'/proc/{pid}/maps') as maps, open(f'/proc/{pid}/mem', 'rb') as mem:
        for line in maps:
            span, perms = line.split()[:2]
            if 'r' not in perms or '[v' in line:
                continue
            start, end = (int(x, 16) for x in span.split('-'))
            if end - start > 1 << 30:
                raise Skip('a sanitizer build maps more memory than can be searched')
            with contextlib.suppress(OSError, ValueError, OverflowError):
                mem.seek(start)
                if needle in mem.read(end - start):
                    return line.strip()
    return None


def no_thread_has_a_stack_that_a_huge_page_fits_into():
    if caselib.sanitized('csi-fake'):
        raise Skip('a sanitizer build maps memory of its own')
    with Server() as s:
        s.call('DeleteVolume', {'volume_id': 'v'})
        assert len(os.listdir(f'/proc/{s.process.pid}/task')) > 3
        with open(f'/proc/{s.process.pid}/maps') as maps:
            found = [line for line in maps if re.match(r'(\w+)-(\w+) rw-p 00000000 00:00 0 *$', line)]
        sizes = [int(to, 16) - int(start, 16) for start, to in (line.split()[0].split('-') for line in found)]
        assert sizes and max(sizes) < 2 << 20, found


def a_finished_request_leaves_no_secret_in_memory():
    with Server() as s:
        try:
            open(f'/proc/{s.process.pid}/mem', 'rb').close()
        except PermissionError:
            raise Skip('this kernel forbids reading the memory of a process of one\'s own') from None
        small, large = os.urandom(12).hex(), os.urandom(12).hex()
        p = s.background('NodeStageVolume', {'volume_id': 'sleep:700', 'staging_target_path': '/s',
                                             'volume_capability': CAP, 'secrets': {'k': small, 'l': large * 100}})
        s.wait_counts(began=1)
        assert memory_holds(s.process.pid, small.encode()), 'the test can not see a secret that is there'
        assert p.wait() == 0
        time.sleep(0.1)
        for needle in (small, large):
            where = memory_holds(s.process.pid, needle.encode())
            assert where is None, where


TESTS = [f for f in list(globals().values()) if callable(f) and getattr(f, '__module__', '') == '__main__'
         and f.__name__ not in ('Server', 'memory_holds', 'limit_descriptors')]


sys.exit(caselib.main(TESTS))
