# SPDX-License-Identifier: Apache-2.0
"""Who has a key, of users' clouds on a host (cloudrig.py): what a lock leaves, in whose memory a key is while coffer-crypt has it, what a
VM has, and what is found anywhere in the end. Tests of the story scheduler: A5, A7, A8 and its last one."""
import os

import cloudrig
import leakhunt
import leakscan
from clouddevice import want
from tap import demand
from watched import Paused

ENVIRONMENT = {'TARGET_DISK', 'VM_URL_PREFIX', 'HOME', 'PATH', 'NODE_ENV', 'LISTEN_FDS', 'LISTEN_PID'}


def read(path, mode='rb'):
    with open(path, mode) as f:
        return f.read()


# ---- everywhere

def passed_on(who, finding):
    """A proxy's buffers keep what went through it: a session is encrypted for Vault's key, and over in minutes."""
    return who.startswith('nginx') and finding.what.startswith('session ')


def everywhere(r, needles):
    """The memory of every process but this one, and Vault's: that decrypts sessions, and Go leaves what it had in its heap."""
    spared, found, n = {os.getpid(), r.vault.process.pid}, [], 0
    for pid in map(int, filter(str.isdigit, os.listdir('/proc'))):
        if pid in spared or not os.path.exists(f'/proc/{pid}/exe'):  # a kernel thread has none
            continue
        try:
            who = f'{read(f"/proc/{pid}/comm", "r").strip()} ({pid})'
            found += [f for f in cloudrig.scan_process(needles, pid, who) if not passed_on(who, f)]
            n += 1
        except (OSError, RuntimeError):  # it ended, or is a kernel thread
            continue
    print(f'# the memory of {n} processes was read', flush=True)
    return found


# ---- after a lock: A5

def a5_lock(r):
    """After it: no mapping, no loop device, no mount, no process, and no byte of the key in any memory. Unlock is a mount."""
    user = r.user('a5')
    want(user.create(), 202)
    user.opened()
    r.store.put(user.opened().body['url'], 'note', 'before the lock')
    want(user.lock(), 202)
    user.until('detached')
    r.demand_clean()
    needles = leakscan.Needles({'key': user.key, 'passphrase': cloudrig.derived_passphrase(user.key, user.uuid)})
    found = everywhere(r, needles)
    demand(not found, found)
    want(user.unlock(), 202)
    demand(r.store.get(user.opened().body['url'], 'note') == 'before the lock', 'the note')
    want(user.delete(), 202)
    user.until('nonexistent')


# ---- while it is open: A7, A8

def is_init(pid):
    """Process 1 of its own namespace."""
    return next(line for line in read(f'/proc/{pid}/status', 'r').splitlines() if line.startswith('NSpid')).split()[-1] == '1'


def a7_wrapped_forms(r):
    """With the key in coffer-crypt's hand, nobody else has it but coffer-keyd, which gave it; and there it is locked in memory."""
    user = r.user('a7')
    user.made = user.device.create()
    needles = leakscan.Needles({'key': user.key})
    wrapped = user.made['wrapped'].encode()
    with Paused(r.c, 'coffer-crypt', 'crypt:format:begin', lambda: want(user.create(), 202)) as paused:
        pid = paused.pid()
        locked = next(line for line in read(f'/proc/{pid}/status', 'r').splitlines() if line.startswith('VmLck'))
        demand(int(locked.split()[1]) > 0, f'coffer-crypt locks no memory: {locked}')
        found = [f for name, p in r.daemons().items() if name != 'coffer-keyd' for f in cloudrig.scan_process(needles, p, name)]
        demand(not found, found)
    user.opened()
    demand(leakscan.count_in_memory(r.scheduler.process.pid, [wrapped])[wrapped] > 0, 'control: the scheduler has the wrapped form')
    found = r.in_memory(needles)
    demand(not found, found)
    want(user.delete(), 202)
    user.until('nonexistent')


def variables(pid):
    return {entry.partition(b'=')[0].decode() for entry in read(f'/proc/{pid}/environ').split(b'\0') if entry}


def mount_points(pid):
    return [line.split()[4] for line in read(f'/proc/{pid}/mountinfo', 'r').splitlines()]


def a8_vm(r):
    """What a VM has: an environment of known names, its volume, no capability, a uid of its own; nothing of any key, nothing of
    another's cloud."""
    user, other = r.user('a8'), r.user('a8-other')
    for u in (user, other):
        want(u.create(), 202)
        u.opened()
    needles = leakscan.Needles(r.secrets())
    uids = {}
    for u in (user, other):
        pids = r.vm_pids(u.device.id)
        demand(len(pids) >= 1, 'no process')
        for pid in pids:
            status = dict(line.split(':\t', 1) for line in read(f'/proc/{pid}/status', 'r').splitlines() if ':\t' in line)
            if is_init(pid):  # a copy of coffer-launch, which forgets what that was started with
                demand(not variables(pid) and not read(f'/proc/{pid}/cmdline').strip(b'\0'), f'init tells of coffer-launch: {pid}')
            else:
                demand(variables(pid) == ENVIRONMENT, f'the environment of {pid}: {variables(pid)}')
            demand({status[k] for k in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')} == {'0' * 16}, f'capabilities: {status}')
            demand(status['NoNewPrivs'] == '1' and status['Seccomp'] == '2', status)
            uids.setdefault(u, set()).add(status['Uid'])
            texts = {kind: read(f'/proc/{pid}/{name}') for kind, name in (('env', 'environ'), ('argv', 'cmdline'), ('file', 'mountinfo'))}
            found = [f for kind, text in texts.items() for f in leakscan.scan_bytes(needles, kind, f'{pid}', text)]
            found += cloudrig.scan_process(needles, pid, f'process {pid} of the VM')
            demand(not found, found)
            stranger = (other if u is user else user).device.id
            demand(stranger.encode() not in b''.join(texts.values()), 'the other cloud is named in it')
            demand('/personalcloud' in mount_points(pid), mount_points(pid))
            beside = [p for p in mount_points(pid) if p.startswith((r.c.root, '/run', '/var', '/home', '/root', '/opt'))]
            demand(beside == [r.vm_folder], mount_points(pid))
    demand(len(uids[user]) == len(uids[other]) == 1 and uids[user] != uids[other], uids)
    demand(all(int(u.split()[0]) >= cloudrig.VM_UIDS for s in uids.values() for u in s), uids)
    for u in (user, other):
        want(u.delete(), 202)
        u.until('nonexistent')


# ---- in the end

def leaks(r, tap):
    user = r.user('kept')  # what is on the disk in the end
    want(user.create(), 202)
    user.opened()
    want(user.lock(), 202)
    user.until('detached')
    needles = leakscan.Needles(r.secrets())
    print(f'# {len(r.secrets())} secrets, {len(needles.everywhere)} forms of them are looked for', flush=True)
    leakhunt.nothing(tap, 'all is locked: no key, passphrase or session in the memory of any process', everywhere(r, needles))
    tap.check(not r.left_over(), 'all is locked: nothing is left over', r.left_over())
    logs = r.logs()
    empty = [p for p in logs if os.path.getsize(p) == 0 and not p.endswith(('error.log', 'nginx.log'))]
    tap.check(len(logs) >= 6 and not empty, 'every program has a log', empty)
    r.stop()
    r.vault.stop()
    logs += [f'{r.folder}/server.log', f'{r.folder}/audit.log']
    found = [f for path in logs for f in leakscan.scan_file(needles, 'log', path)]
    leakhunt.nothing(tap, 'no log line at level debug, nginx\' and Vault\'s included',
                     found + leakscan.scan_bytes(needles, 'log', 'dmesg', leakscan.kernel_log()))
    leakhunt.nothing(tap, 'nothing in Vault\'s storage', leakscan.scan_tree(needles, f'{r.folder}/storage'))
    leakhunt.nothing(tap, 'nothing in the pool, nor in any file of Coffer\'s', leakscan.scan_tree(needles, r.c.root, [r.c.bin + '/']))
    leakhunt.nothing(tap, 'nothing below /run', leakscan.scan_tree(needles, '/run'))
    leakhunt.disk(tap, needles)
    control = os.path.join(r.folder, 'control')
    with open(control, 'wb') as f:
        f.write(user.key.hex().encode())
    tap.check(leakscan.scan_file(needles, 'file', control), 'control: a key in a file is found')
