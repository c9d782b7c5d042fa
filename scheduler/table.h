/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h: the clouds as they were seen last, in memory: found by id and by the name of any device
 * on their list. Only a copy of what the driver knows: a restart begins with an empty one. Beside
 * the facts an entry has what runs on it and why the last operation failed.
 *
 * A sequence number says when facts were taken, so that a round that began before an operation
 * ended doesn't bring back what was before it. Not thread-safe: scheduler.h's lock guards it.
 */
#ifndef COFFER_SCHEDULER_TABLE_H
#define COFFER_SCHEDULER_TABLE_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "scheduler/cloud.h"

struct operation;
struct cloud_table; /* opaque */

struct entry {
    struct cloud cloud;                 /* facts; an empty `volume`: there is none (yet) */
    uint64_t seq;                       /* when they were taken */
    struct operation *op;               /* what runs on it, borrowed; NULL */
    char failure[CLOUD_REASON_MAX + 1]; /* why the last operation failed; "" */
    uint64_t failed_at;                 /* clock_ms(), of any operation */
    struct entry *next;                 /* the table's own */
};

int cloud_table_new(struct cloud_table **ret, struct error *err) MUST_CHECK;
void cloud_table_free(struct cloud_table *t);
DEFINE_AUTO(cloud_table, cloud_table_free)
#define AUTO_CLOUD_TABLE __attribute__((cleanup(cleanup_cloud_table)))

/* Borrowed until the entry is removed; NULL: none. Of two clouds that have one device, the one that
 * it made is found, else the one with the lesser id. */
struct entry *cloud_table_by_id(const struct cloud_table *t, const char *id);
struct entry *cloud_table_by_device(const struct cloud_table *t, const char *name);

/* Gives the cloud of that id these facts (taken over: *c is then empty), or makes its entry. The
 * rest of an entry that was there stays; when this fails, all of it. */
int cloud_table_put(struct cloud_table *t, struct cloud *c, uint64_t seq, struct entry **ret,
                    struct error *err) MUST_CHECK;
void cloud_table_remove(struct cloud_table *t, struct entry *e);

/* Every entry; cb may remove the one it is given. false: stop. */
typedef bool entry_cb(void *ctx, struct entry *e);
void cloud_table_each(struct cloud_table *t, entry_cb *cb, void *ctx);
size_t cloud_table_size(const struct cloud_table *t);

#endif
