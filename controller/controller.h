/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller.h: inside coffer-controller. One `struct controller` lives as long as the process, is
 * filled by main (or a test) before the first call, and is the ctx of every op; after that only
 * `counters` and what has its own lock change. Each RPC is one file; request.c and reply.c
 * translate.
 *
 * Rules of all of them: what the request says is checked before anything is looked up; a volume is
 * worked on under the in-process lock and its flock; every step may be the last one before SIGKILL.
 */
#ifndef COFFER_CONTROLLER_CONTROLLER_H
#define COFFER_CONTROLLER_CONTROLLER_H

#include "backends/backend.h"
#include "common/base.h"
#include "common/error.h"
#include "common/keylock.h"
#include "common/metrics.h"
#include "csi/api.h"
#include "volume/config.h"
#include "volume/names.h"
#include "volume/params.h"

#include <stdatomic.h>

struct controller_counters {
    atomic_ullong created, create_repeated, create_rolled_back, mint_failed;
    atomic_ullong deleted, delete_in_use, expanded, pool_full;
};

struct controller {
    const struct config *config; /* borrowed, like everything here */
    struct pool_set *pools;
    struct keylock *locks; /* key: the hash part of the volume id, that is the CSI name */
    const char *driver_name, *node_id, *keyd_socket;
    const char *sysfs_block; /* "/sys/class/block" */
    bool expand;             /* false: --expand=node */
    char topology_key[TOPOLOGY_KEY_MAX + 1];
    struct controller_counters counters;
};

/* Checks both names and fills topology_key. ERR_INVALID. */
int controller_set_names(struct controller *c, const char *driver_name, const char *node_id,
                         struct error *err) MUST_CHECK;
/* counters.c: one row each. */
void controller_log_counters(struct controller *c);
void controller_write_counters(struct controller *c, struct metrics *m);

/* service.c: the tables for csi/server.h; ctx is the struct controller. */
extern const struct csi_identity_ops controller_identity_ops;
extern const struct csi_controller_ops controller_ops;
/* NodeGetInfo and NodeGetCapabilities: sidecars ask for them here. */
extern const struct csi_node_ops controller_node_ops;

/* One file each. */
int controller_create(void *ctx, struct csi_call *call, const struct csi_create_volume_request *req,
                      struct csi_volume *ret, struct error *err);
int controller_delete(void *ctx, struct csi_call *call, const struct csi_delete_volume_request *req,
                      struct error *err);
int controller_expand(void *ctx, struct csi_call *call, const struct csi_expand_request *req,
                      struct csi_controller_expand_reply *ret, struct error *err);
int controller_list(void *ctx, struct csi_call *call, const struct csi_list_request *req,
                    struct csi_list_reply *ret, struct error *err);
int controller_validate(void *ctx, struct csi_call *call, const struct csi_validate_request *req,
                        struct csi_validate_reply *ret, struct error *err);
int controller_capacity(void *ctx, struct csi_call *call, const struct csi_capacity_request *req,
                        struct csi_capacity_reply *ret, struct error *err);

/* delete.c, for create too: refuses while in use, says `erased`, removes. The volume's lock is
 * held, and is the lock of nothing afterwards. */
int controller_erase(struct controller *c, struct volume *v, struct record *r,
                     struct error *err) MUST_CHECK;
/* The record's key service may keep something of its key. */
bool controller_key_is_kept(const struct controller *c, const struct record *r);

/* ---- request.c ---- */

struct size_range {
    uint64_t want;            /* what a new volume gets: rounded up, within the limits */
    uint64_t required, limit; /* as asked; 0 = none */
};

/* ERR_OUT_OF_RANGE when no size of a volume that holds `fs` (volume/fskind.h) lies in the range. */
int request_size(const char *fs, bool has_range, uint64_t required, uint64_t limit,
                 struct size_range *ret, struct error *err) MUST_CHECK;
/* A volume of that size satisfies the range. */
bool request_size_fits(const struct size_range *range, uint64_t size);

/* All of them supported, all block or all mount, and of one file system. *ret_fs: a name of
 * volume/fskind.h (static); "" when none of them names one. */
int request_capabilities(const struct csi_capabilities *caps, const char **ret_fs,
                         struct error *err) MUST_CHECK;

/* A map as volume/ takes it, with room for `more` pairs behind. The arena's; NULL: ERR_EXHAUSTED.
 */
struct param *request_pairs(struct arena *arena, const struct csi_map *map, size_t more,
                            struct error *err);
/* CreateVolume parameters. tenant_optional: the request speaks of no claim (GetCapacity, Validate),
 * so no namespace comes with it; then *ret_has_tenant (may be NULL otherwise) says whether one was
 * given. */
int request_params(const struct controller *c, struct arena *arena, const struct csi_map *map,
                   bool tenant_optional, struct volume_params *ret, bool *ret_has_tenant,
                   struct error *err) MUST_CHECK;

/* The topology names this node. */
bool request_topology_is_here(const struct controller *c, const struct csi_topology *t);

/* The in-process lock of a volume; ERR_ABORTED names the volume. */
int request_lock(struct controller *c, const struct volume_id *id, struct keylock_hold **ret,
                 struct error *err) MUST_CHECK;

/* ---- reply.c ---- */

/* Where all volumes are accessible, in the arena. */
int reply_topology(const struct controller *c, struct arena *arena, struct csi_topologies *ret,
                   struct error *err) MUST_CHECK;
/* A volume as CSI shows it; id and texts are copied into the arena, the topology is shared. */
int reply_volume(struct arena *arena, const char *id, const struct record_summary *r,
                 const struct csi_topologies *topology, struct csi_volume *ret,
                 struct error *err) MUST_CHECK;
/* The volume exists: its create has ended and no delete has begun. */
bool record_is_live(enum record_state state);

#endif
