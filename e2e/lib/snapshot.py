# SPDX-License-Identifier: Apache-2.0
"""What a machine looks like to somebody who fears that a call touched more than it should: files with their content,
mounts, device nodes, loops and mappings. take() twice and compare with changes()."""
import hashlib
import os
import stat
import subprocess

CONTENT_MAX = 1 << 20


def describe(path):
    """Kind, mode, owner, inode and content of one file, without following a link. No times: reading changes them."""
    st = os.lstat(path)
    what = [stat.filemode(st.st_mode), st.st_uid, st.st_gid, st.st_ino, st.st_nlink]
    if stat.S_ISLNK(st.st_mode):
        what.append(os.readlink(path))
    elif stat.S_ISREG(st.st_mode):
        with open(path, 'rb') as f:
            what.append((st.st_size, hashlib.sha256(f.read(CONTENT_MAX)).hexdigest()[:16]))
    elif stat.S_ISBLK(st.st_mode) or stat.S_ISCHR(st.st_mode):
        what.append(st.st_rdev)
    elif stat.S_ISDIR(st.st_mode):
        what.append(tuple(sorted(os.listdir(path))))
    return tuple(what)


def tree(top):
    found = {top: describe(top)}
    for folder, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(folder, name)
            found[path] = describe(path)
    return found


def lines(*command):
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {f'{command[0]}: {line}': 1 for line in out.splitlines()}


def take(*trees):
    found = lines('dmsetup', 'table') | lines('losetup', '--list', '--noheadings', '--output', 'NAME,BACK-FILE,RO')
    with open('/proc/self/mountinfo', encoding='utf-8', errors='surrogateescape') as f:
        found |= {'mount: ' + line.rstrip('\n'): 1 for line in f}
    for name in os.listdir('/dev'):  # a loop device and its node stay when a loop is given back
        if not name.startswith('loop'):
            found['/dev/' + name] = stat.filemode(os.lstat('/dev/' + name).st_mode)
    for top in trees:
        found |= tree(top)
    return found


def changes(before, after):
    """Sentences; [] when nothing changed."""
    out = [f'is gone: {k}' for k in before if k not in after] + [f'is new: {k}' for k in after if k not in before]
    return out + [f'changed: {k}: {before[k]} -> {after[k]}' for k in before if k in after and before[k] != after[k]]
