/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holders.h: who keeps a block device open: a device stacked on it, a process with an open file,
 * its working directory or its program on it, a mount in any namespace. Needs the host's pid
 * namespace (hostPID) and root to see everybody; says so when it can't see anybody. Thread-safe.
 */
#ifndef COFFER_COMMON_HOLDERS_H
#define COFFER_COMMON_HOLDERS_H

#include "common/base.h"

#include <sys/types.h>

enum holder_kind { HOLDER_DEVICE, HOLDER_PROCESS, HOLDER_MOUNT };

struct holder { /* its texts are UTF-8, whatever a process calls itself */
    enum holder_kind kind;
    char pid[16];   /* of the process; for a mount of one that sees it; "" for a device */
    char name[64];  /* the process's, or the device's */
    char path[256]; /* of the open file, or where it is mounted; cut */
};

/* Calls cb for each, devices first, then processes (once each), then mounts (once for each mount
 * namespace and path), until it returns false. */
void holders_each(dev_t device, bool (*cb)(void *ctx, const struct holder *h), void *ctx);

/* "process 4711 (postgres) has '/x' open" */
void holder_text(const struct holder *h, char *ret, size_t size);

/* false: nobody that is visible. */
bool holders_first(dev_t device, struct holder *ret);

/* The first holder's text, or that nobody is visible from this pid namespace. */
void holders_describe(dev_t device, char *ret, size_t size);
/* The same from <root>/proc and <root>/sys. */
void holders_describe_below(const char *root, dev_t device, char *ret, size_t size);

#endif
