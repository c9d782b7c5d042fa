/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/node.h: what coffer-node is made of: configuration, pools, helpers. Filled by main,
 * immutable afterwards (the key lock has its own mutex), shared by all threads.
 */
#ifndef COFFER_NODE_NODE_H
#define COFFER_NODE_NODE_H

#include "backends/backend.h"
#include "common/base.h"
#include "common/keylock.h"
#include "common/metrics.h"
#include "crypt/client.h"
#include "csi/api.h"
#include "volume/config.h"
#include "volume/names.h"

#include <stdatomic.h>

/* Since the start; SIGUSR1 logs them, /metrics shows them. One row each in counters.c. */
enum node_counter {
    NODE_FORMATTED,        /* volumes formatted */
    NODE_OPENED,           /* mappings opened with a key */
    NODE_KEPT,             /* right mappings found, no key asked for */
    NODE_REAPED,           /* left-over mappings removed by stage */
    NODE_ROLLED_BACK,      /* stages undone */
    NODE_ROLL_BACK_FAILED, /* of these, not completely: answered ABORTED */
    NODE_PUBLISHED,
    NODE_UNPUBLISHED,
    NODE_UNSTAGED,
    NODE_BUSY, /* teardowns refused because somebody uses the volume */
    NODE_EXPANDED,
    NODE_BREAK_GLASS, /* passphrases given out */
    NODE_ROTATED,     /* storage keys rotated */
    NODE_RECIPIENTS,  /* lists of recipients that changed */
    NODE_RECONCILED,  /* left-overs taken away by Reconcile */
    NODE_COUNTERS,
};

struct node {
    atomic_ulong counters[NODE_COUNTERS];
    const struct config *config;
    struct pool_set *pools;
    struct keylock *locks;
    struct crypt_client crypt;
    const char *keyd_socket;
    const char *device_dir; /* our own device nodes, 0700; on a file system that allows devices */
    const char *driver_name;
    const char *node_id;
    char topology_key[TOPOLOGY_KEY_MAX + 1];
    bool expand_on_node; /* --expand=node: NodeExpand grows the image too */
};

/* counters.c */
void node_count(struct node *node, enum node_counter counter);
void node_log_counters(void *node);
void node_write_counters(struct node *node, struct metrics *m);

/* service.c: ctx of all of them is a struct node *. */
extern const struct csi_identity_ops node_identity_ops;
extern const struct csi_node_ops node_ops;
extern const struct csi_admin_ops node_admin_ops;

/* One file each. */
int node_stage_volume(void *ctx, struct csi_call *, const struct csi_stage_request *,
                      struct error *);
int node_unstage_volume(void *ctx, struct csi_call *, const struct csi_unstage_request *,
                        struct error *);
int node_publish_volume(void *ctx, struct csi_call *, const struct csi_publish_request *,
                        struct error *);
int node_unpublish_volume(void *ctx, struct csi_call *, const struct csi_unpublish_request *,
                          struct error *);
int node_get_volume_stats(void *ctx, struct csi_call *, const struct csi_stats_request *,
                          struct csi_stats_reply *, struct error *);
int node_expand_volume(void *ctx, struct csi_call *, const struct csi_expand_request *,
                       struct csi_node_expand_reply *, struct error *);
int node_reconcile(void *ctx, struct csi_call *, const struct csi_reconcile_request *,
                   struct csi_reconcile_reply *, struct error *);
int node_rotate_key(void *ctx, struct csi_call *, const struct csi_rotate_key_request *,
                    struct csi_rotate_key_reply *, struct error *);
int node_add_recipient(void *ctx, struct csi_call *, const struct csi_add_recipient_request *,
                       struct csi_add_recipient_reply *, struct error *);
int node_remove_recipient(void *ctx, struct csi_call *, const struct csi_remove_recipient_request *,
                          struct csi_rotate_key_reply *, struct error *);
int node_list_recipients(void *ctx, struct csi_call *, const struct csi_list_recipients_request *,
                         struct csi_list_recipients_reply *, struct error *);
int node_describe_volumes(void *ctx, struct csi_call *, const struct csi_describe_request *,
                          struct csi_describe_reply *, struct error *);
int node_unlock_key(void *ctx, struct csi_call *, const struct csi_unlock_key_request *,
                    struct error *);

#endif
