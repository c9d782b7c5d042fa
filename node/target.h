/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/target.h: the file or directory at a target or staging path, which the caller names: what
 * may be made there, mounted over and removed again. No symbolic link is followed anywhere on the
 * way, nothing with content is covered or removed, and nothing is made or removed inside a Coffer
 * volume.
 */
#ifndef COFFER_NODE_TARGET_H
#define COFFER_NODE_TARGET_H

#include "common/base.h"
#include "common/error.h"

/* Makes a directory, or a file for raw block; an empty one that is there already will do.
 * *ret_made: this call made it. ERR_INVALID: the path leads over a symbolic link or a file;
 * ERR_PRECONDITION: its parent is missing, what is there is of another kind or has content, or the
 * place is inside a Coffer volume. `path` has passed request_path. */
int target_make(const char *path, bool block, bool *ret_made, struct error *err) MUST_CHECK;
/* Removes an empty directory or file; nothing there, or no parent: 0. Errors as above. */
int target_remove(const char *path, struct error *err) MUST_CHECK;
/* A staging path at which the volume isn't mounted yet: a directory that the caller made, empty,
 * reached without a symbolic link, outside any Coffer volume. `mounted`: something else is mounted
 * there, over which we mount (a test's tmpfs, say), unless it is a Coffer volume. Errors as above.
 */
int target_check_staging(const char *path, bool mounted, struct error *err) MUST_CHECK;

#endif
