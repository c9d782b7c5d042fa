/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/reconcile.h: inside NodeAdmin's Reconcile. A kind of left-over is one row in reconcile.c and
 * three functions: find names what might be left over, without any lock; judge decides under the
 * volume's lock; act takes it away under the same lock. A dry run judges just the same, so it says
 * what a real run would do. Nothing that somebody has open, and nothing that isn't shown to be
 * Coffer's, is ever touched: that is "none", with what the administrator may do.
 */
#ifndef COFFER_NODE_RECONCILE_H
#define COFFER_NODE_RECONCILE_H

#include "node/op.h"

struct reconcile; /* one call */

struct candidate {
    const struct left_over_kind *kind;
    const char *what; /* name or path; the call's memory */
    bool has_id;      /* it belongs to a pool of this node: */
    struct volume_id id;
    dev_t dev;
    struct mapping mapping; /* what judge found, for act */
    const char *locked_why; /* "" or what to say when another process has the volume's lock */
    struct candidate *next;
};

struct finding {
    const char *action; /* "reap", "none", ... */
    char why[640];
};

struct left_over_kind {
    const char *name;
    int (*find)(struct reconcile *r, struct error *err);
    /* false: nothing is left over. op->volume is locked when there is such a volume. */
    bool (*judge)(struct reconcile *r, struct node_op *op, struct candidate *c,
                  struct finding *ret);
    int (*act)(struct reconcile *r, struct node_op *op, struct candidate *c, struct error *err);
};

struct node *reconcile_node(const struct reconcile *r);

/* For find: NULL when out of memory, which ends the call. `what` is copied. */
struct candidate *reconcile_add(struct reconcile *r, const char *what, dev_t dev);
/* The volume of a mapping's name; false: no pool of this node has that tag. */
bool reconcile_id(const struct node *node, const char *dm_name, struct volume_id *ret);

/* For find: looks into each pool that is ready; -1 of look ends it. */
typedef int (*reconcile_look)(struct pool *pool, void *ctx, struct error *err);
int reconcile_each_pool(struct reconcile *r, reconcile_look look, void *ctx, struct error *err);

/* For judge: fills *ret, returns true. */
bool found(struct finding *ret, const char *action, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define KIND_FUNCTIONS(name)                                                        \
    int name##_find(struct reconcile *r, struct error *err);                        \
    bool name##_judge(struct reconcile *r, struct node_op *op, struct candidate *c, \
                      struct finding *ret);                                         \
    int name##_act(struct reconcile *r, struct node_op *op, struct candidate *c, struct error *err)

KIND_FUNCTIONS(stale_mapping);                              /* reconcile_mapping.c */
KIND_FUNCTIONS(stale_loop);                                 /* reconcile_loop.c */
KIND_FUNCTIONS(stale_mount);                                /* reconcile_mount.c */
KIND_FUNCTIONS(stale_node);                                 /* reconcile_node.c */
int held_lock_find(struct reconcile *r, struct error *err); /* reconcile_lock.c */
/* reconcile_pool.c; what to do about a pool is the administrator's */
int unready_pool_find(struct reconcile *r, struct error *err);
bool unready_pool_judge(struct reconcile *r, struct node_op *op, struct candidate *c,
                        struct finding *ret);

#endif
