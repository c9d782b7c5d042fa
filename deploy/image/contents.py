# SPDX-License-Identifier: Apache-2.0
"""What is in the image beside Coffer's own files (which mk/image.mk names, as `make install` does): tables to read and change.
Libraries aren't listed: closure.py finds them."""

# Programs from this Debian. What coffer-node starts, as node/fs_*.c names it ...
TOOLS = (
    '/sbin/mkfs.ext4', '/sbin/e2fsck', '/sbin/resize2fs',
    '/sbin/mkfs.xfs',
    '/sbin/mkfs.btrfs',
    # ... and what its messages and docs/filesystems.md tell an administrator to type, in a pod that has the volume
    '/sbin/tune2fs', '/sbin/dumpe2fs',
    '/sbin/xfs_repair', '/sbin/xfs_growfs',
    '/bin/btrfs',
)

# Libraries that a program loads by itself, so no NEEDED entry leads to them.
LOADED = (
    '/lib/{multiarch}/libgcc_s.so.1',  # glibc, when a thread ends by pthread_exit or is cancelled
)

# Other files of Debian's packages: what a scanner reads to know the distribution, and the licences that copyright files name.
FILES = (
    '/usr/lib/os-release',
)
FOLDERS_OF_FILES = (
    '/usr/share/common-licenses',
)

# Mount points, and where the kernel and libc look. Nobody but root may write anywhere.
FOLDERS = (
    'dev', 'proc', 'sys', 'run', 'etc/coffer', 'var/lib/coffer', 'var/lib/kubelet', 'usr/bin', 'usr/sbin', 'usr/lib', 'usr/lib64',
)

LINKS = {  # Debian's merged /usr; coffer-node and coffer-crypt name programs by their old places
    'bin': 'usr/bin', 'sbin': 'usr/sbin', 'lib': 'usr/lib', 'lib64': 'usr/lib64',
    'etc/os-release': '../usr/lib/os-release',
    'var/run': '../run',  # where pods mount service account tokens
}

# The two daemons that aren't root, with the group that dist/systemd/sysusers.conf gives them on a host.
TEXTS = {
    'etc/passwd': '''\
root:x:0:0:root:/:/nonexistent
coffer-keyd:x:65532:65532:Coffer key daemon:/:/nonexistent
coffer-controller:x:65533:65532:Coffer controller:/:/nonexistent
nobody:x:65534:65534:nobody:/:/nonexistent
''',
    'etc/group': '''\
root:x:0:
coffer:x:65532:
nogroup:x:65534:
''',
    # no module but those inside libc is ever loaded for a name
    'etc/nsswitch.conf': '''\
passwd: files
group: files
hosts: files dns
''',
}

CONFIG = {
    'Env': ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'],
    'Cmd': ['cofferctl', '--help'],  # pods name their program
    'WorkingDir': '/',
}

TITLE = 'Coffer'
DESCRIPTION = 'Encrypted volumes for Kubernetes whose keys live in Vault: the CSI driver, its key daemon and cofferctl.'
