/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/filesystem.h: one row per file system: make, check, grow. The caller passes the device node
 * and the descriptor of the volume's lock, which every child inherits: an orphaned mkfs still holds
 * the volume. Each kind of child has its own time limit (filesystem.c); over it: ERR_DEADLINE.
 * Errors end with the tool's last words. Thread-safe.
 */
#ifndef COFFER_NODE_FILESYSTEM_H
#define COFFER_NODE_FILESYSTEM_H

#include "common/base.h"
#include "common/error.h"

struct filesystem {
    const char *name;       /* as in the record and in the capability */
    const char *mount_type; /* NULL: raw block, nothing is made or mounted */
    int (*make)(const char *device, int lock_fd, struct error *err);
    /* Repairs only what is safe to repair without asking. */
    int (*check)(const char *device, int lock_fd, struct error *err);
    /* Grows to the device's size when it is smaller; device_fd is open on the device. *ret_grown
     * says so. */
    int (*grow)(const char *device, int device_fd, int lock_fd, bool *ret_grown, struct error *err);
};

const struct filesystem *filesystem_find(const char *name); /* NULL: unknown */

#endif
