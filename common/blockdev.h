/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blockdev.h: block devices as sysfs shows them; needs no privilege. A device-mapper device without
 * a live table is not in sysfs: coffer-crypt's list has those. Thread-safe.
 */
#ifndef COFFER_COMMON_BLOCKDEV_H
#define COFFER_COMMON_BLOCKDEV_H

#include "common/base.h"
#include "common/error.h"

#include <sys/types.h>

#define DEV_TEXT_SIZE 24 /* "4294967295:4294967295" and a NUL */

void blockdev_text(dev_t dev, char ret[DEV_TEXT_SIZE]); /* "253:7", as parse_dev reads it */

bool blockdev_present(dev_t dev);
bool blockdev_has_holders(dev_t dev); /* a device lies on it, or nobody can say */
/* One line of /sys/dev/block/<major:minor>/<file>, such as "dm/name" or "size". */
int blockdev_line(dev_t dev, const char *file, char *ret, size_t size,
                  struct error *err) MUST_CHECK;
/* What blockdev_line failed with means: no such device, or none of device-mapper's, or it is being
 * removed. false: it means that nobody can say. */
bool blockdev_is_gone(const struct error *e);

struct dm_device {
    dev_t dev;
    char uuid[129]; /* "" when it has none */
    uint64_t size;  /* bytes */
    bool read_only;
};
/* ERR_NOT_FOUND: no device-mapper device of that name has a live table. */
int dm_device_find(const char *dm_name, struct dm_device *ret, struct error *err) MUST_CHECK;
/* Each of them; false: stop. One that goes meanwhile is left out. */
typedef bool dm_device_cb(void *ctx, const char *dm_name, dev_t dev);
int dm_device_each(dm_device_cb *cb, void *ctx, struct error *err) MUST_CHECK;

#endif
