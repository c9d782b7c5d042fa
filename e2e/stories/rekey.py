#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""rekey: a new storage key for a volume that is detached, staged under a writer, or raw block: the data and the volume
key stay, the new key opens it for the stock tool too, the old one opens nothing any more. Killed at every point of
coffer-node and at system calls of coffer-crypt: the key that the record names opens the volume, and running it again
finishes."""
# story: disk=8G memory=1024M
import json
import os
import socket
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from fixture import GID, MIB, UID_CONTROLLER, UID_KEYD, Coffer, wait_for  # noqa: E402
from jobs import Machine  # noqa: E402
from sweep import SAMPLE, FaultKiller, Job, SyscallKiller, sweep  # noqa: E402
from tap import Tap, demand  # noqa: E402


ROUNDS = 4 if SAMPLE == 1 else 1

# ---- what is true of a volume ----

def rotate(c, volume):
    return c.call(c.admin_socket, 'coffer.v1.NodeAdmin/RotateKey', {'volume_id': volume['volume_id'], 'reason': 'story'})


def passphrase(c, volume):
    """Only by the key that the record names, whose MAC it checks."""
    done = c.cofferctl('volume', 'unlock-key', volume['volume_id'], '--admin-socket', c.admin_socket, '--reason', 'story',
                       '--yes', check=False)
    if done.returncode != 0:
        raise RuntimeError(f'unlock-key: {done.stderr}')
    return done.stdout.strip()


def opens(c, volume, text):
    """The stock tool's word for it."""
    return subprocess.run(['cryptsetup', 'open', '--test-passphrase', c.image(volume)], input=text.encode(),
                          capture_output=True, check=False).returncode == 0


def header(c, volume):
    out = subprocess.run(['cryptsetup', 'luksDump', '--dump-json-metadata', c.image(volume)], capture_output=True, check=True)
    return json.loads(out.stdout)


def backup(c, volume):
    return os.path.join(c.place(volume), 'header.backup')


def demand_record_opens(c, volume):
    demand(opens(c, volume, passphrase(c, volume)), 'the key that the record names opens no keyslot')


def demand_rotated(c, volume):
    demand_record_opens(c, volume)
    demand('staleSlots' not in c.record(volume), 'the record still has its mark')
    demand(len(header(c, volume)['keyslots']) == 1, 'there is more than one keyslot')
    demand(not os.path.exists(backup(c, volume)), "the header's backup is still there")


class State:
    def __init__(self, c, volume):
        self.record, self.text = c.record(volume), passphrase(c, volume)
        [self.digest] = header(c, volume)['digests'].values()


def demand_another_key(c, volume, before):
    now = State(c, volume)
    demand_rotated(c, volume)
    demand(now.digest['digest'] == before.digest['digest'] and now.digest['salt'] == before.digest['salt'],
           'the volume key is not the one it was')
    demand(now.record['digest'] == before.record['digest'], 'the record names another digest')
    for field in ('key', 'mac'):
        demand(now.record[field] != before.record[field], f'the record has the same {field}')
    demand({k: v for k, v in now.record.items() if k not in ('gen', 'key', 'mac')} ==
           {k: v for k, v in before.record.items() if k not in ('gen', 'key', 'mac')}, 'more than key and MAC changed')
    demand(now.text != before.text and opens(c, volume, now.text), 'the new key does not open it')
    demand(not opens(c, volume, before.text), 'the old key still opens it')


# ---- detached, staged, raw ----

def detached(m):
    for _ in range(ROUNDS):
        before = State(m.c, m.data)
        demand(not rotate(m.c, m.data).get('resumed'), 'it says that it resumed one')
        demand_another_key(m.c, m.data, before)
        demand(m.c.left_over() == {}, f'left over: {m.c.left_over()}')
    m.c.stage(m.data)
    m.demand_data(m.c.staging(m.data))
    m.c.unstage(m.data)


class Writer(threading.Thread):
    """Writes to a file or device and reads back, until it is told to stop; says what was wrong."""

    def __init__(self, path, at=0):
        super().__init__()
        self.path, self.at, self.end, self.problem, self.rounds = path, at, threading.Event(), '', 0

    def run(self):
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            while not self.end.is_set():
                self.rounds += 1
                data = self.rounds.to_bytes(8, 'big') * 8192
                os.pwrite(fd, data, self.at + self.rounds % 16 * 65536)
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                demand(os.pread(fd, 65536, self.at + self.rounds % 16 * 65536) == data, f'round {self.rounds} read other data')
            os.close(fd)
        except (OSError, RuntimeError) as e:
            self.problem = str(e)

    def finish(self):
        wait_for('the writer', lambda: self.rounds > 3 or self.problem)
        self.end.set()
        self.join()
        demand(self.problem == '', f'the writer: {self.problem}')


def table(c, volume):
    return subprocess.run(['dmsetup', 'table', '--showkeys', c.dm_name(volume)], capture_output=True, check=True).stdout


def staged_with_a_writer(m):
    c = m.c
    c.stage(m.data)
    was, writer = table(c, m.data), Writer(c.staging(m.data) + '/written')
    writer.start()
    for _ in range(ROUNDS):
        before = State(c, m.data)
        rotate(c, m.data)
        demand_another_key(c, m.data, before)
    writer.finish()
    demand(table(c, m.data) == was, 'the live mapping was changed')
    m.demand_data(c.staging(m.data))
    c.unstage(m.data)
    c.stage(m.data)
    m.demand_data(c.staging(m.data))
    c.unstage(m.data)


def raw_block_with_a_writer(m):
    c = m.c
    c.stage(m.block, block=True)
    c.publish(m.block, block=True)
    was, writer = table(c, m.block), Writer(c.target(m.block), MIB)
    writer.start()
    before = State(c, m.block)
    rotate(c, m.block)
    demand_another_key(c, m.block, before)
    writer.finish()
    demand(table(c, m.block) == was, 'the live mapping was changed')
    m.take_down_block()


def grows_afterwards(m):
    m.size += 4 * MIB
    m.c.stage(m.data)
    m.c.publish(m.data)
    m.c.controller_expand(m.data['volume_id'], m.size)
    rotate(m.c, m.data)
    m.c.node_expand(m.data, m.size)
    m.check_grown()
    m.take_down()


def by_cofferctl(m):
    before = State(m.c, m.data)
    done = m.c.cofferctl('volume', 'rotate-key', m.data['volume_id'], '--admin-socket', m.c.admin_socket, '--reason', 'by hand')
    demand('has a new storage key' in done.stderr and done.stdout == '', f'{done}')
    demand_another_key(m.c, m.data, before)
    log = [json.loads(line) if line.startswith('{') else line for line in m.c.node.log_text().splitlines() if 'rotate-key' in line]
    demand(any('by hand' in str(line) and 'audit' in str(line) for line in log), f'no audit line: {log[-3:]}')


# ---- refusals ----

def restore_the_old_record(m, backup_file):
    c = m.c
    done = c.cofferctl('record', 'restore', m.data['volume_id'], '--from', backup_file, '--yes', check=False)
    demand(done.returncode == 1 and 'the key was rotated since' in done.stderr, f'{done}')


def refused_on_this_node(tap, m):
    c = m.c
    fresh = c.create('rekey-new', 32 * MIB)
    tap.expect_error('a volume that was never formatted has no key to rotate', 'PRECONDITION', rotate, c, fresh, word="state 'new'")
    c.delete(fresh['volume_id'])
    before = State(c, m.data)
    c.keyd.stop()
    c.keyd = c.daemon('coffer-keyd', ['--config', c.config, '--socket', c.keyd_socket, '--allow', 'UNWRAP', '--insecure-file-kms',
                                      '--peer', '0:0', '--peer', f'{UID_CONTROLLER}:{GID}'], UID_KEYD)
    c.wait_socket(c.keyd, c.keyd_socket, socket.SOCK_SEQPACKET)
    tap.expect_error('a node whose coffer-keyd may not make keys says so', 'PERMISSION', rotate, c, m.data,
                     word='needs --allow MINT,UNWRAP')
    c.keyd.stop()
    tap.expect_error('without coffer-keyd it is tried again later', 'UNAVAILABLE', rotate, c, m.data)
    c.start_keyd()
    tap.check(c.record(m.data) == before.record and opens(c, m.data, before.text) and not os.path.exists(backup(c, m.data)),
              'nothing was changed by that')


# ---- kills ----

class Witness:
    """A killer that, before the call is repeated, looks whether the key that the record names opens the volume."""

    def __init__(self, killer, c, volume):
        self.killer, self.c, self.volume = killer, c, volume
        self.__dict__.update({k: v for k, v in vars(killer).items() if k in ('program', 'verb')})

    @property
    def said(self):
        return self.killer.said

    def record(self, call):
        return self.killer.record(call)

    def strike(self, point, call):
        struck = self.killer.strike(point, call)
        # an orphaned helper may hold the volume for a moment
        def look():
            try:
                demand_record_opens(self.c, self.volume)
                return True
            except RuntimeError as e:
                if 'is busy' in str(e) or 'another' in str(e) or 'locked' in str(e):
                    return False
                raise
        wait_for('the volume to be free', look)
        return struck


class SyscallWitness(Witness, SyscallKiller):
    """For sweep(), which asks what kind of killer it is."""


def jobs(m):
    c = m.c

    def check_data():
        demand_rotated(c, m.data)

    def staged_check():
        demand_rotated(c, m.data)
        m.demand_data(c.staging(m.data))
    return [
        Job('rotate-key, detached', lambda: None, lambda: rotate(c, m.data), check_data, lambda: None),
        Job('rotate-key, staged', m.staged, lambda: rotate(c, m.data), staged_check, m.unstage),
    ]


def kills(tap, m):
    swept = []
    for job in jobs(m):
        swept.append(sweep(tap, m.c, job, Witness(FaultKiller(m.c, 'coffer-node'), m.c, m.data)))
    for verb, calls in (('rekey', ('pwrite64', 'fsync', 'write', 'unlinkat')), ('prune', ('pwrite64', 'fsync', 'unlinkat'))):
        swept.append(sweep(tap, m.c, jobs(m)[1], SyscallWitness(SyscallKiller(m.c, verb, calls), m.c, m.data)))
    print(f'# rekey: {sum(s[0] for s in swept)} of {sum(s[1] for s in swept)} points swept')


def main():
    tap, c = Tap(), Coffer(fault=True)
    c.install()
    c.crypt_helper = SyscallKiller.wrapper(c.root)
    c.start()
    m = Machine(c)
    c.stage(m.block, block=True)
    c.unstage(m.block)
    old = os.path.join(c.root, 'before.record')
    c.cofferctl('record', 'backup', m.data['volume_id'], '--to', old)
    tap.run('detached, again and again: another key, the same volume key and data', detached, m)
    tap.run('staged under a writer, again and again', staged_with_a_writer, m)
    tap.run('raw block under a writer', raw_block_with_a_writer, m)
    tap.run('by cofferctl, with its audit line', by_cofferctl, m)
    tap.run('a volume whose key was rotated while it is in use grows', grows_afterwards, m)
    tap.run("a record's backup from before is not restored over the new one", restore_the_old_record, m, old)
    refused_on_this_node(tap, m)
    kills(tap, m)
    m.end(tap)
    c.stop()
    tap.done()


if __name__ == '__main__':
    main()
