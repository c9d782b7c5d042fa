/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/mount_point.h: what is mounted, by statx(2) (Linux 5.8): no table is read, and a path
 * with any byte in it is itself. Paths are this process's own view. Thread-safe.
 */
#ifndef COFFER_COFFERCTL_MOUNT_POINT_H
#define COFFER_COFFERCTL_MOUNT_POINT_H

#include "common/base.h"
#include "common/error.h"

/* Whether something is mounted at exactly that path (a directory or a file); a path that doesn't
 * exist has nothing. Follows no symlink in the last part, triggers no automount. */
int mount_point_at(const char *path, bool *ret, struct error *err) MUST_CHECK;

/* The absolute path without symlinks, "." and ".."; only its last part may be missing. ERR_INVALID
 * for one that is longer than size allows or is the root. */
int mount_point_path(const char *text, char *ret, size_t size, struct error *err) MUST_CHECK;

#endif
