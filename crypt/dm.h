/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dm.h: device-mapper by ioctl (libdevmapper), never by /dev/mapper and never by reading the disk.
 * libdevmapper keeps global state: one thread only. Errors hold libdevmapper's last words.
 */
#ifndef COFFER_CRYPT_DM_H
#define COFFER_CRYPT_DM_H

#include "common/base.h"
#include "common/error.h"
#include "crypt/client.h"

struct dm_names_list {
    char (*names)[DM_NAME_LEN + 1];
    size_t n;
};
void dm_names_list_release(struct dm_names_list *l);
#define AUTO_DM_NAMES __attribute__((cleanup(dm_names_list_release)))

/* Before anything else of this header: no udev cookies, no name mangling, messages kept for errors.
 */
void dm_setup(void);

/* Names of the form coffer-<32 hex>-<8 hex>, tables or not, in the kernel's order. */
int dm_list_ours(struct dm_names_list *ret, struct error *err) MUST_CHECK;

/* What the kernel says about that name, judged: see enum mapping_state. ERR_NOT_FOUND: no such
 * device. ret_inactive (may be NULL): a second table waits in the inactive slot. */
int dm_inspect(const char *name, struct mapping *ret, bool *ret_inactive,
               struct error *err) MUST_CHECK;

/* Refuses (ERR_PRECONDITION) when another device than `name`, whatever its name, maps this volume.
 */
int dm_refuse_other_names(const char *name, const char *uuid, struct error *err) MUST_CHECK;

/* Drops a table left in the inactive slot; the live one stays as it is. */
int dm_clear_inactive(const char *name, struct error *err) MUST_CHECK;

/* ERR_ABORTED while it is open, unless `deferred`: then it goes with its last opener. Already gone:
 * 0. Removes libdevmapper's /dev/mapper node too. */
int dm_remove(const char *name, bool deferred, struct error *err) MUST_CHECK;

/* libdevmapper makes a node per mapping and a kill can leave one behind; nobody of us uses them.
 * Unlinks /dev/mapper/<name> when it is a device node (a symlink is udev's business). */
void dm_drop_node(const char *name);

#endif
