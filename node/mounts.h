/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/mounts.h: the few mount operations a node makes, by the new mount API (fsopen(2),
 * open_tree(2), mount_setattr(2)): a bind mount is read-only before it is visible. What is mounted
 * is common/mountinfo.h's. Thread-safe.
 */
#ifndef COFFER_NODE_MOUNTS_H
#define COFFER_NODE_MOUNTS_H

#include "common/base.h"
#include "common/error.h"
#include "common/mountinfo.h"

#include <sys/types.h>

struct mount_options {
    bool read_only;
    bool no_symlinks;    /* of the mount point (mountinfo: nosymfollow): node/pod.h's mark */
    unsigned long flags; /* MS_ bits of mount(2), as volume/capability.h makes them */
    const char *data;    /* the file system's own options, comma-separated; "" = none */
};

/* Mounts a new super block, always nodev,nosuid, where nobody sees it yet: *ret_fd is open on it,
 * and closing that unmounts it. ERR_PRECONDITION when this kernel lacks the file system. */
int mount_make(const char *fs_type, const char *device, const struct mount_options *o, int *ret_fd,
               struct error *err) MUST_CHECK;
/* Shows it at directory `target`. */
int mount_attach(int mount_fd, const char *target, struct error *err) MUST_CHECK;
/* Bind mount of a directory or of a device node; nodev is not set for a node (it is the device),
 * and no_symlinks isn't taken over. */
int mount_bind(const char *source, const char *target, bool read_only,
               struct error *err) MUST_CHECK;
/* One umount2(UMOUNT_NOFOLLOW). EBUSY is ERR_ABORTED. */
int mount_remove(const char *target, struct error *err) MUST_CHECK;

#endif
