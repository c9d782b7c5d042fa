# SPDX-License-Identifier: Apache-2.0
"""The image's file tree, and the tar archive of it: the same bytes for the same tree, whoever builds it, where and when.
Everything belongs to root, has one time, and is writable for root alone."""
import dataclasses
import io
import os
import posixpath
import tarfile

MODES = (0o644, 0o755)


@dataclasses.dataclass
class Entry:
    kind: bytes  # tarfile's DIRTYPE, SYMTYPE, REGTYPE
    mode: int = 0o755
    data: bytes = b''
    target: str = ''  # of a symbolic link
    owner: str = ''  # the Debian package it comes from; '' = Coffer's own


class Tree:
    """Paths are relative to the root, without a leading slash, and in merged /usr: usr/bin, never bin."""

    def __init__(self):
        self.entries = {}

    def _put(self, path, entry):
        have = self.entries.get(path)
        if have is not None and (have.kind, have.mode, have.data, have.target) != (entry.kind, entry.mode, entry.data, entry.target):
            raise ValueError(f'{path} is in the image twice, and differs')
        if have is None:
            self.entries[path] = entry
        if parent := posixpath.dirname(path):
            self.folder(parent)

    def folder(self, path):
        self._put(path, Entry(tarfile.DIRTYPE))

    def link(self, path, target, owner=''):
        self._put(path, Entry(tarfile.SYMTYPE, 0o777, target=target, owner=owner))

    def file(self, path, data, mode=0o644, owner=''):
        if mode not in MODES:
            raise ValueError(f'{path} has mode {mode:o}; the image has files of mode 644 and 755 alone')
        self._put(path, Entry(tarfile.REGTYPE, mode, data, owner=owner))

    def files(self):
        """(path, entry) of each regular file, sorted."""
        return [(path, entry) for path, entry in sorted(self.entries.items()) if entry.kind == tarfile.REGTYPE]

    def tar(self, epoch):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode='w', format=tarfile.PAX_FORMAT) as archive:
            for path, entry in sorted(self.entries.items()):
                info = tarfile.TarInfo(path)
                info.type, info.mode, info.mtime, info.linkname, info.size = entry.kind, entry.mode, epoch, entry.target, len(entry.data)
                archive.addfile(info, io.BytesIO(entry.data))
        return out.getvalue()


def merged(path):
    """An absolute path of the machine as the image has it: its folders without symbolic links, its last part as it is."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name).lstrip('/')
