/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs.h: files relative to a directory descriptor. Never follows a symlink in the last component.
 * Every descriptor is O_CLOEXEC, and the caller's to close. Errors name the path, or `what` where
 * only a descriptor is given. Thread-safe. A program that links this has its descriptors 0 to 2
 * open from the start, at least on /dev/null.
 */
#ifndef COFFER_COMMON_FS_H
#define COFFER_COMMON_FS_H

#include "common/base.h"
#include "common/error.h"
#include "common/strbuf.h"

#include <sys/types.h>

struct fs_owner {
    uid_t uid;
    gid_t gid;
};

int fs_open_dir(const char *path, int *ret_fd, struct error *err) MUST_CHECK;
/* ENOENT -> ERR_NOT_FOUND; more than `max` bytes -> ERR_DATA_LOSS. sb is appended to. */
int fs_read_at(int dirfd, const char *name, size_t max, struct strbuf *sb,
               struct error *err) MUST_CHECK;
/* What a person names, links followed: in a Kubernetes ConfigMap every file is one. */
int fs_read_path(const char *path, size_t max, struct strbuf *sb, struct error *err) MUST_CHECK;
int fs_read_fd(int fd, const char *what, size_t max, struct strbuf *sb,
               struct error *err) MUST_CHECK;
/* name.tmp, write, fchmod, fchown (when owner != NULL and we are root), fsync, rename, fsync of the
 * directory. After a kill on any line either the old or the new content is there whole. */
int fs_write_atomic_at(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
                       const struct fs_owner *owner, struct error *err) MUST_CHECK;
/* The same for a file that must not be there yet, by path: ERR_EXISTS when it is, whatever it is.
 * A kill may leave "<path>.<random>.tmp". */
int fs_write_new(const char *path, const void *data, size_t len, mode_t mode,
                 struct error *err) MUST_CHECK;
int fs_write_all(int fd, const void *data, size_t len, const char *what,
                 struct error *err) MUST_CHECK;
int fs_fsync_dir(int dirfd, const char *what, struct error *err) MUST_CHECK;
/* The directory and those above it that are missing, each with that mode whatever the umask. */
int fs_mkdir_p(const char *path, mode_t mode, struct error *err) MUST_CHECK;
/* Opens path (absolute) with O_PATH without following any symlink at all and without ".."
 * (openat2 RESOLVE_NO_SYMLINKS|RESOLVE_NO_MAGICLINKS). ERR_NOT_FOUND, ERR_INVALID on a symlink. */
int fs_open_path(const char *path, int *ret_fd, struct error *err) MUST_CHECK;
/* flock(LOCK_EX|LOCK_NB) on the file's open description: children that inherit the descriptor hold
 * it too. Busy -> ERR_ABORTED. */
int fs_flock(int fd, const char *what, struct error *err) MUST_CHECK;
/* Whole small sysfs/procfs file as text without the trailing newline, into a fixed array. */
int fs_read_line(const char *path, char *ret, size_t size, struct error *err) MUST_CHECK;

#endif
