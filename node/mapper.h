/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/mapper.h: live mappings as sysfs shows them, and device nodes of our own for them. A path
 * under /dev/mapper is never used: a stale node there can show another volume. Every node made here
 * is checked against dm/name and dm/uuid of its number after it was opened. Thread-safe; two calls
 * for one volume don't come at once (op.h).
 */
#ifndef COFFER_NODE_MAPPER_H
#define COFFER_NODE_MAPPER_H

#include "common/base.h"
#include "common/error.h"
#include "volume/id.h"

#include <sys/types.h>

struct live_mapping {
    dev_t dev;
    char dm_uuid[DM_UUID_MAX + 1];
    uint64_t size; /* bytes */
    bool read_only;
};

/* ERR_NOT_FOUND: no live mapping of that name. */
int mapper_find(const char *dm_name, struct live_mapping *ret, struct error *err) MUST_CHECK;

/* ERR_DATA_LOSS unless the mapping's dm uuid holds that volume uuid. */
int mapper_check_uuid(const struct live_mapping *m, const char *dm_name, const char *uuid,
                      struct error *err) MUST_CHECK;
/* 1: the device is a mapping named coffer-…, of any volume. 0: it isn't. -1: nobody can say. */
int mapper_is_ours(dev_t dev, struct error *err);

struct mapper_node {
    char path[256]; /* <device_dir>/<dm name> */
    int fd;         /* open on it; -1 */
};
#define MAPPER_NODE_INIT     \
    {                        \
        .path = "", .fd = -1 \
    }

/* Makes (or keeps, when its number is right) the 0600 node, opens it read-only or read-write,
 * checks that the number still is this mapping. */
int mapper_node_open(const char *device_dir, const char *dm_name, const char *dm_uuid, dev_t dev,
                     bool writable, struct mapper_node *ret, struct error *err) MUST_CHECK;
void mapper_node_close(struct mapper_node *n); /* keeps the node in the directory */
/* Before the mapping is closed, so that no kill leaves a node without one. Where the close then
 * fails, the next mapper_node_open makes it again. */
void mapper_node_unlink(const char *device_dir, const char *dm_name);
#define AUTO_MAPPER_NODE __attribute__((cleanup(mapper_node_close)))

#endif
